/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/work_impl - what work*.c, run*.c and reader.c share of a stored run; nobody else
 * includes this. */
#pragma once
#include "frontend/run.h"
#include "frontend/work.h"
#include "lib/buf.h"
#include "store/store.h"

#define WORK_ARTIFACTS_MAX STORE_ARTIFACTS_MAX
#define WORK_HEAD_ROOM 512

struct input { /* one of the request's files */
    struct store_call call;
    struct run *run;
};

struct artifact { /* one file on its way into the store, then what the store says of it */
    struct store_call call;
    struct run *run;
};

struct work {
    struct run *run;
    char id[STORE_ID_ROOM], key[STORE_KEY_MAX + 1];
    int64_t created_ms;
    /* JSON of what is known before it runs: members, without a comma at the end. */
    char head[WORK_HEAD_ROOM];
    struct work_limits { /* as asked for; what it got is in the Result */
        uint64_t timeout_ms, memory_bytes, cpu_ms, output_bytes, artifact_bytes, artifact_files;
    } limits;
    bool detached;  /* it was promised to run and be stored, whoever waits */
    bool gone;      /* its client is, and it was promised nothing */
    unsigned calls; /* that the store owes */

    struct parse_request *parsed; /* until its inputs are there */
    struct input *inputs;
    size_t input_count;

    uint64_t artifact_bytes_left;
    uint32_t artifact_files_max;
    int near_fd;              /* artifacts come here; -1: nothing does */
    struct http_watch *watch; /* when set, it owns near_fd */
    bool listed;              /* nothing more comes */
    bool cut;                 /* something may be missing */
    uint64_t dropped;         /* files that were left out */
    struct artifact *artifacts[WORK_ARTIFACTS_MAX];
    size_t artifact_count;

    uint64_t last_event; /* of its stream; 0: it has none */
    struct store_call put;
    struct buf members, tail;

    /* work_promise.c */
    enum { WORK_UNNOTED, WORK_NOTING, WORK_NOTED, WORK_NOT_NOTED } noted;
    struct store_call note;
    struct buf note_members;
    bool begin_held; /* its answer in pieces begins when it is noted */
    uint64_t begin_shown_max;

    const char *status;
    size_t borrowed; /* of the bytes that outputs may take */

    /* work_open.c, under its lock: runs that can be found by their id */
    bool listed_open, ending, cancel, queued;
    struct work *prev, *next;
};

/* work_json.c. A document of a run is "{" members tail; the tail has what is said anew each time.
 */
void work_put_head(struct work *w, const struct parse_request *parsed);
size_t work_put_limits(char *to, size_t room, const struct work_limits *l);
struct work_failure { /* why nothing is known of it but that it was accepted */
    const char *code, *text;
};
/* Those of a run that has ended, or (why not NULL) of one that failed without a Result: *ret_head
 * of them are without what it wrote. */
bool work_put_members(struct work *w, const struct work_failure *why, struct buf *to,
                      size_t *ret_head);
/* Of the members of a stored run: the number of the last event; 0: it had no stream.
 * WORK_EVENTS_UNKNOWN: nobody knows, it is more than any. */
#define WORK_EVENTS_UNKNOWN ((UINT64_C(1) << 53) - 1) /* exact in JSON */
uint64_t work_last_event(const char *members, size_t len);
bool work_put_tail(struct front *f, const struct store_object *artifacts, size_t count,
                   struct buf *to);

/* work_artifacts.c: receives, checks, hands to the store; then work_store. */
void work_collect(struct run *run);
/* Their time is up. */
void work_stop_collecting(struct run *run);
/* Nobody wants them any more. */
void work_forget_artifacts(struct work *w);

/* work.c: makes the document, stores it, answers. `why`: as of work_put_members. */
void work_store(struct run *run, const struct work_failure *why);
/* After each call of the store for a run: it may have been the last that kept it. */
void work_call_done(struct run *run);

/* work_promise.c. Does it ask for an answer before the end? */
bool work_wants_detach(struct http_request *req);
/* Promised to run and be stored; or no longer. */
void work_detach(struct run *run, bool on);

/* work_open.c: by id, across threads. */
void work_open_add(struct work *w);
/* From here on it cannot be cancelled any more. */
void work_open_end(struct work *w);
void work_open_remove(struct work *w);
/* What is known of a run under way, as "{...}\n"; 0 when there is none of that id and key. */
size_t work_open_show(const char *id, const char *key, char *to, size_t room);
/* The thread that a run under way lives in; NULL: there is none. */
struct front *work_open_thread(const char *id, const char *key);
/* Of this very thread; NULL: not there. */
struct run *work_open_find_own(struct front *f, const char *id, const char *key);
/* runs.c. False: answered, as no run can be called so. */
bool runs_take_id(struct http_request *req, struct http_text given, char ret[STORE_ID_ROOM]);
/* It is not under way: 409 when it is in the store, else 404. */
void runs_answer_absent(struct front *f, struct http_request *req, const char *id);
enum work_cancel { WORK_UNKNOWN, WORK_CANCELLED, WORK_ENDED };
enum work_cancel work_open_cancel(struct front *f, const char *id, const char *key);
