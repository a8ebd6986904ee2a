/* SPDX-License-Identifier: Apache-2.0 */
/* store - what the service remembers outside of volumes: runs, files that were uploaded or left
 * behind by runs (objects), jobs (store/jobs.h) with what they wrote (outputs), answers to requests
 * that may come again (once), and what keys used.
 *
 * In the frontend, in its state directory and nowhere else: `store.db` (SQLite, WAL),
 * `objects/<sha256>` and `outputs/<id of a job>.txt`. A thread of its own does all that may touch a
 * disk; the loops of the frontend hand it a call and are told when it is done. The queue of calls
 * is bounded. Schema: store/schema.sql, migrations by number. Objects are content-addressed,
 * written to a temporary file, fsync'ed and renamed before any row names them; rows name them
 * before anyone is told; the start removes what no row names. Retention: by age, oldest first; by
 * count and by bytes, the oldest of the key that has most. A request that is OPEN at a start is
 * LOST then: nobody works on it. One that is `whole` is forgotten instead: it was not done.
 */
#pragma once
#include "store/deliveries.h"
#include "store/jobs.h"
#include <stdint.h>
#include <sys/types.h>
struct err;
struct store;

#define STORE_ID_ROOM 33 /* "file_" or "run_" and 26 characters of base32: 128 random bits */
#define STORE_SHA256_ROOM 65
#define STORE_NAME_MAX 255u
#define STORE_KEY_MAX 64u /* label of a key; "": none is configured */
#define STORE_ARTIFACTS_MAX 100u
#define STORE_CALLS_MAX 1024u   /* that wait */
#define STORE_RESULTS_MAX 3072u /* more, of what was accepted before: artifacts, runs, jobs */
#define STORE_QUICK_BYTES (256u * 1024) /* larger uploads come one at a time */
#define STORE_JSON_MAX (64u << 20)
#define STORE_STATUS_ROOM 16
#define STORE_ONCE_NAME_MAX 255u
#define STORE_ONCE_ANSWER_MAX (1u << 20)
#define STORE_USAGE_DAYS 400 /* they are kept */
#define STORE_USAGE_KEYS_MAX 100u

struct store_settings {
    uint64_t age_s, runs_max; /* what is older, and runs beyond that many, goes; 0: never */
    uint64_t bytes_max;       /* of all objects and runs together: then some go; 0: any */
    uint64_t key_bytes_max, key_files_max;         /* uploads of one key; 0: any */
    uint64_t once_age_s, once_max, once_bytes_max; /* requests that may come again; 0: any */
};

struct store_object { /* one name of some content */
    char id[STORE_ID_ROOM], sha256[STORE_SHA256_ROOM], name[STORE_NAME_MAX + 1];
    uint64_t size;
    int64_t created_ms; /* since the epoch */
};

struct store_run {
    char id[STORE_ID_ROOM], key[STORE_KEY_MAX + 1];
    int64_t created_ms;
    char *json; /* the answer's members without artifacts and braces; malloc'ed; may be NULL */
    size_t json_len;
    size_t head_len; /* PUT_RUN: so much of json is shown in lists */
    char status[STORE_STATUS_ROOM];
    struct store_object *artifacts; /* malloc'ed; PUT_RUN reads their ids only */
    size_t artifact_count;
};

/* Runs of a key, the newest first. */
struct store_list {
    char status[STORE_STATUS_ROOM]; /* "": any */
    int64_t before_ms;              /* behind this run; INT64_MAX and "": from the newest on */
    char before_id[STORE_ID_ROOM];
    size_t limit;
    char *text; /* result, malloc'ed: "{...},{...}" */
    size_t len;
    bool more; /* there are; before_* are then the last one's that is shown */
};

/* A request that is to be done once, whoever repeats it. OPEN to LOST are kept. */
enum store_once_state {
    STORE_ONCE_OPEN,     /* it is under way */
    STORE_ONCE_ANSWERED, /* the answer is kept */
    STORE_ONCE_UNKEPT,   /* it is over; its answer was too large, or had to go */
    STORE_ONCE_LOST,     /* it began, and nobody knows how it ended: its process died */
    STORE_ONCE_NEW,      /* BEGIN: nobody had asked so; now it is OPEN. END: forget it */
    STORE_ONCE_OTHER,    /* BEGIN: something else was asked for under this name */
};
struct store_once {
    char name[STORE_ONCE_NAME_MAX + 1];
    unsigned char request[32]; /* a hash of what is asked for */
    bool whole; /* what it does is stored by the call that brings its answer: see `once` there */
    enum store_once_state state;
    int status; /* the answer's, of HTTP; likewise the next one */
    char type[64];
    char *answer; /* headers (as the caller likes) and body. END: the caller's; BEGIN: result,
                     malloc'ed */
    size_t head_len, answer_len;
};

struct store_usage { /* of one key on one day */
    char key[STORE_KEY_MAX + 1];
    int64_t day; /* since the epoch, UTC */
    uint64_t runs, jobs, cpu_us, wall_us, output_bytes;
};
struct store_usages {
    struct store_usage *at; /* ADD: the caller's; GET: result, malloc'ed, by key and day */
    size_t count;
    /* GET: */
    int64_t from, to; /* days, both included */
    bool all;         /* of all keys, from `next` on; else of the call's key */
    size_t limit;     /* of keys */
    char next[STORE_KEY_MAX + 1];
    bool more; /* there are keys from `next` on */
};

enum store_verb {
    STORE_PUT_RUN = 1, /* run (id, key, created_ms, json, artifacts) -> durable. Its artifacts were
                          put before. Again: the json is replaced, artifacts are added. EEXIST: the
                          id is another key's; EINVAL: an artifact is not there or not free. One
                          of status "open" is listed when it was put again, or a start found it so
                          and made it "failed" */
    STORE_GET_RUN,     /* run.id, run.key -> run, json and artifacts the caller's to free; ENOENT,
                          also for another key's; EAGAIN: `borrow` said no */
    STORE_PUT_OBJECT,  /* from fd (all of a regular file; EFBIG beyond bytes_max) or data/len;
                          object.name, key, upload -> object, durable. EDQUOT: the key's share is
                          used up, ENOSPC: the disk is full */
    STORE_GET_OBJECT,  /* object.id, and key unless any_key -> object, fd (read-only); ENOENT */
    STORE_DROP_OBJECT, /* object.id and key: an upload goes; ENOENT */

    /* *job is the caller's; what a call makes in it (body, preview, doc) is the caller's to free */
    STORE_PUT_JOB,     /* job with its body -> seq; durable. RUNNING: claimed by the same */
    STORE_PEEK_JOB,    /* job.id -> attempts, cancelled, body, and what its key may (policy, the
                          ceilings); ENOENT: it has ended */
    STORE_CLAIM_JOB,   /* the same, attempts one more */
    STORE_UNCLAIM_JOB, /* job.id, attempts: that attempt did not begin; ESTALE: there was another */
    STORE_FINISH_JOB,  /* job.id, attempts -> ended as job.state, with preview, doc, duration_ms and
                          started_ms (0: as the claim said); data/len: what it wrote. Durable.
                          ESTALE: it has ended, or there was another attempt */
    STORE_CANCEL_JOB,  /* job.id, job.key: cancelled is set -> job; durable. ENOENT; EALREADY: it
                          has ended */
    STORE_GET_JOB,     /* job.id, job.key -> job but for its body; ENOENT */
    STORE_LIST_JOBS,   /* list, and key: whose */
    STORE_GET_OUTPUT,  /* object.id (of a job), and key unless any_key -> object.name, size,
                          created_ms, fd; ENOENT; EAGAIN: it has not ended */

    STORE_LIST_RUNS,  /* runs and key -> runs; EAGAIN: `borrow` said no */
    STORE_ONCE_BEGIN, /* once.name, once.request, once.whole and key -> once.state, durable when it
                         is NEW and not whole; the rest when it is ANSWERED. EAGAIN: `borrow` said
                         no */
    STORE_ONCE_END,   /* once and key: an OPEN one becomes that, durable; with NEW it goes */
    STORE_ADD_USAGE,  /* usages: are added to what is there; not synced */
    STORE_GET_USAGE,  /* usages and key -> usages */
    STORE_CLAIM_DELIVERIES, /* courier -> those that are due; keys and hosts take turns */
    STORE_NOTE_ATTEMPT,     /* courier: one was tried; ENOENT: it has gone, or is over. A power cut
                               may take the note, and then it is tried once more */
    STORE_LIST_DELIVERIES,  /* courier.job_id, key -> its deliveries, without job; ENOENT: none */
};

/* One call; the caller's memory, with all it points to, until on_done. Zero-initialise. */
struct store_call {
    enum store_verb verb;
    struct store_run run;
    struct store_object object;
    struct store_job *job;
    struct store_job_list *list;
    struct store_courier *courier; /* about deliveries */
    char key[STORE_KEY_MAX + 1];
    bool any_key;     /* GET_OBJECT: whoever owns it (a signed URL) */
    bool upload;      /* PUT_OBJECT: counts against the key */
    int fd;           /* PUT_OBJECT: source, stays the caller's; GET_OBJECT: result, the caller's */
    const char *data; /* PUT_OBJECT: not NULL: instead of fd */
    size_t len;
    uint64_t bytes_max;
    bool (*borrow)(size_t n); /* if not NULL: may the result take so much? Asked in
                                 the store's thread */
    size_t borrowed;          /* what it said yes to: the caller's to return */
    struct store_list *runs;  /* of the verbs that name them */
    struct store_once *once;  /* of the verbs that name it. PUT_JOB, PUT_RUN: not NULL: an OPEN one
                                 of `key` becomes that by the same transaction. ESTALE: there is
                                 none */
    struct store_usages *usages;
    int error;                                /* 0 or errno */
    void (*on_done)(struct store_call *call); /* in the thread of the mailbox */
    struct store_mailbox *mailbox;
    struct store_call *next;
};

/* Where finished calls of one loop wait: watch `fd`, and when it is readable, collect. */
struct store_mailbox {
    int fd; /* an eventfd */
    struct store *store;
    struct store_call *done, **done_end;
};

/* Opens or makes everything below dir_fd (kept), migrates, cleans up. Before the process restricts
 * itself: afterwards it needs to open, make, rename and remove files below objects/ only. One store
 * in a process. 0 or <0 with err, which names the file and what to do about it; -EINVAL: trying
 * again is of no use. */
int store_open(int dir_fd, const struct store_settings *settings, struct store **ret,
               struct err *err);
/* Each job that has not ended, in the order of seq: job without body, but with body_len, preview
 * and doc. Before store_start. 0 or <0 with err. */
int store_each_waiting_job(struct store *s, void (*on_job)(void *user, const struct store_job *job),
                           void *user, struct err *err);
/* Starts the thread; after the process has restricted itself. */
int store_start(struct store *s, struct err *err);
/* Other limits; takes effect with the next call. Any thread. */
void store_set(struct store *s, const struct store_settings *settings);
/* Before the process restricts itself. 0 or <0 with err. */
int store_mailbox_init(struct store_mailbox *m, struct store *s, struct err *err);
/* Hands it over. 0, or -EAGAIN: too many are waiting (on_done is not called then). Calls of one
 * mailbox are done in their order, but for lists, which let others go first. */
int store_submit(struct store_mailbox *m, struct store_call *call);
/* Calls on_done of all that is finished. */
void store_collect(struct store_mailbox *m);
/* Nothing waits there any more; closes the fd. */
void store_mailbox_fini(struct store_mailbox *m);
/* Finishes what was handed over (their mailboxes can still be collected), closes. NULL: nothing. */
void store_close(struct store *s);
/* "run_..." or "file_..." with 128 random bits. */
void store_make_id(const char *prefix, char ret[STORE_ID_ROOM]);
bool store_id_is_valid(const char *prefix, const char *id, size_t len);
/* Milliseconds since the epoch. */
int64_t store_now_ms(void);
