/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/jobs_impl - what jobs*.c share; nobody else includes this. */
#pragma once
#include "frontend/front.h"
#include "frontend/jobs.h"
#include "frontend/run.h"
#include "lib/buf.h"
#include "store/store.h"

/* ---- jobs_queue.c: which jobs have not ended ----------------------------------------------------
 *
 * One for the process, under one lock; any thread. A job is a ticket here, some 200 bytes. */

struct job_lane; /* what has a limit of its own: a language, or a namespace */
struct job_turn; /* a key's jobs in a lane */

struct job_share { /* what a key has */
    char key[STORE_KEY_MAX + 1];
    uint64_t tickets, waiting;
    struct job_share *in_hash;
    /* jobs_turns.c */
    uint64_t ns_open;       /* its jobs of namespaces that have a place */
    struct job_lane *ready; /* a ring: namespaces whose next job is its; the one that is next */
    struct job_share *prev, *next; /* of those that have such a ring */
};

struct job_ticket {
    char id[STORE_ID_ROOM];
    unsigned priority, attempts; /* attempts: that were begun */
    int64_t seq;
    uint64_t place; /* of its list: grows */
    size_t bytes;   /* of its request */
    struct job_lane *lane;
    struct job_turn *turn; /* of a waiting one */
    struct job_share *share;
    enum {
        JOB_ARRIVING,  /* being stored */
        JOB_WAITING,   /* in a list */
        JOB_OPEN,      /* some thread's */
        JOB_CALLED_OFF /* to be ended by the thread that asks next */
    } step;
    bool held; /* it stands behind other jobs of its namespace: to be claimed when its turn comes */
    bool granted;           /* it has one of its lane's places */
    bool behind;            /* accepted, and still to be handed to the engine */
    bool rests;             /* it has its place, but there was no room: younger ones wait */
    uint64_t handed;        /* to the engine, as which one of its lane; 0: not */
    bool cancelled;         /* somebody asked for that */
    bool stands;            /* OPEN: it has not begun */
    bool shown_running;     /* somebody was told so: it is not taken back */
    struct front *front;    /* OPEN: whose */
    struct job_show *shows; /* that wait for its end */
    struct job_ticket *prev, *next, *in_hash; /* of a list, or of those that have a place */
};

enum jobs_verdict { JOBS_OK, JOBS_FULL, JOBS_KEY_FULL };

/* Room for a new job; *ret is JOB_ARRIVING, and `granted` says whether it may be run as soon as it
 * is stored: then it is JOB_OPEN of f by that. `keyed`: the key's share counts. */
enum jobs_verdict jobs_queue_reserve(struct front *f, const struct store_job *job, bool keyed,
                                     struct job_ticket **ret);
/* It is stored, as number seq: it waits, unless it was granted. It may be gone then. */
void jobs_queue_enter(struct job_ticket *t, int64_t seq);
/* The next one whose turn it is, or that is cancelled; JOB_OPEN of f. NULL: none can be begun. */
struct job_ticket *jobs_queue_next(struct front *f);
/* It was not begun, or has to be begun again: to the front of its list. It may be gone then. */
void jobs_queue_return(struct job_ticket *t);
/* It has ended (or could not be stored): who waits for that is woken, the ticket is freed. */
void jobs_queue_leave(struct job_ticket *t);
/* Is it to be cancelled? */
bool jobs_queue_is_cancelled(struct job_ticket *t);
void jobs_queue_stands(struct job_ticket *t, bool stands);
/* It was cancelled before anything of it ran: it has not begun. False: somebody was told so. */
bool jobs_queue_unbegin(struct job_ticket *t);
/* The engine has it. */
void jobs_queue_hand(struct job_ticket *t);
/* It has to be handed over (again), later: in its namespace nobody goes before it. */
void jobs_queue_rest(struct job_ticket *t);
/* It is ended: nobody waits for it to begin. */
void jobs_queue_end(struct job_ticket *t);
/* Its turn has come in the engine. False: an older one of its namespace goes first. */
bool jobs_queue_is_due(struct job_ticket *t);
/* Would a run of that namespace overtake no job that was accepted before? */
bool jobs_queue_may_pass(const char *ns_id);
/* Marks it. A waiting one is *ret_taken, JOB_OPEN of f, for f to end; the thread of an open one is
 * woken. */
void jobs_queue_cancel(struct front *f, const char *id, struct job_ticket **ret_taken);

struct jobs_view {
    bool known;        /* it has not ended; else the rest is nothing */
    bool running;      /* it is, or it was shown so before */
    uint64_t position; /* 1: the next one of its lane; 0: it does not wait */
};
/* What is answered is what somebody is told. */
void jobs_queue_view(const char *id, struct jobs_view *ret);
void jobs_queue_set(const struct proto_jobs *jobs, uint64_t ns_max);
unsigned jobs_queue_attempts_max(void);

/* Its end wakes the request: its thread finds it with take_woken. False: it has ended. */
bool jobs_queue_watch(const char *id, struct job_show *s);
void jobs_queue_unwatch(struct job_show *s);
struct job_show *jobs_queue_take_woken(struct front *f);
/* Since the last time, has anything of this thread been cancelled? */
bool jobs_queue_take_cancels(struct front *f);

/* ---- jobs_turns.c: whose turn it is; with the queue's lock --------------------------------------
 */

#define JOBS_PRIORITIES 10u
#define JOBS_HASH 4096u

extern uint64_t jobs_hash_seed; /* random: nobody can choose names that share a chain */
static inline size_t jobs_hash(const char *text)
{
    uint64_t h = 14695981039346656037u ^ jobs_hash_seed; /* FNV-1a */
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 1099511628211u;
    return (size_t)(h ^ h >> 32) % JOBS_HASH;
}

/* Finds its lane. False: no memory. */
bool jobs_turns_join(struct job_ticket *t, const struct store_job *job);
/* Of one that neither waits nor has a place. */
void jobs_turns_part(struct job_ticket *t);
/* Into its list. False: no memory. */
bool jobs_turns_wait(struct job_ticket *t);
void jobs_turns_leave_line(struct job_ticket *t);
/* Nobody waits before it, and there is a place. */
bool jobs_turns_has_room(const struct job_ticket *t);
void jobs_turns_take_place(struct job_ticket *t);
void jobs_turns_give_place(struct job_ticket *t); /* if it has one */
/* The next one: it has left its list and has a place. NULL: none can be begun. */
struct job_ticket *jobs_turns_next(void);
/* Accepted and not in the engine's hands, or no longer so. */
void jobs_turns_set_behind(struct job_ticket *t, bool behind);
void jobs_turns_hand(struct job_ticket *t);
void jobs_turns_rest(struct job_ticket *t, bool rests);
/* Of one whose turn has come in the engine: is no older one of its namespace still to begin? */
bool jobs_turns_is_due(const struct job_ticket *t);
/* Would a run of that namespace, sent now, overtake no job? none_behind: of any; without the lock.
 */
bool jobs_turns_may_pass(const char *ns_id);
bool jobs_turns_none_behind(void);
/* Of one that waits, or would if it were stored by now, from 1. How many go before it when no other
 * comes: those of its own key, and one of each other key for each of these. One that was cancelled
 * further ahead counts until that place is passed. In a namespace those count that the engine has
 * and has not begun. 0: it has its place, and nothing else to wait for. */
uint64_t jobs_turns_position(const struct job_ticket *t);
void jobs_turns_set(uint64_t concurrency, uint64_t ns_max);

/* ---- jobs_run.c: one job in the hands of a thread -----------------------------------------------
 */

/* All that can be begun now, by this thread. */
void jobs_pump(struct front *f);
/* Of a granted ticket: *job is stored as running; takes its body. False: no memory, it is begun
 * later. */
void jobs_begin(struct front *f, struct job_ticket *t, struct store_job *job);
/* Ends a waiting one that was cancelled. */
void jobs_end_cancelled(struct front *f, struct job_ticket *t);
/* The engine has runs of cancelled ones: those are cancelled there. With `standing`: all that have
 * not begun. */
void jobs_cancel_open(struct front *f, bool standing);

/* ---- jobs_output.c: what a job writes, in the order written -------------------------------------
 */

#define JOB_PIPES 4u /* stdout, stderr, the compiler's stdout and stderr */

struct job_output {
    int epoll_fd;
    struct http_watch *watch; /* when set, it owns epoll_fd */
    struct {
        int fd;
        bool ended;
        uint64_t total, kept;
    } pipes[JOB_PIPES];
    unsigned count;
    uint64_t kept_max; /* of each pipe */
    bool cut;          /* bytes are missing although kept_max was not reached */
    char *data;        /* of all, in order */
    size_t len, room;
    struct buf order; /* uint32_t: length * JOB_PIPES + pipe */
    size_t borrowed;  /* for that */
    void (*on_ended)(void *user);
    void *user;
};

/* Makes the pipes; the far ends are the caller's. on_ended(user) is called from the loop when the
 * last pipe has ended. 0 or -1; fini either way. */
int job_output_init(struct job_output *o, struct http_server *server, unsigned count,
                    uint64_t kept_max, int ret_far_ends[JOB_PIPES]);
bool job_output_has_ended(const struct job_output *o);
void job_output_drain(struct job_output *o);
void job_output_cut(struct job_output *o);
/* No more than the first `max` bytes of each pipe. */
void job_output_keep(struct job_output *o, uint64_t max);
/* The first bytes of one pipe, at most room; their number. */
size_t job_output_begin(const struct job_output *o, unsigned pipe, char *to, size_t room);
void job_output_fini(struct job_output *o);

/* ---- jobs_json.c --------------------------------------------------------------------------------
 */

/* The first `characters` of some text, as the inside of a JSON string. */
void jobs_put_text(struct buf *b, const char *text, size_t len, size_t characters);
/* ,"name":"2026-..." or null */
void jobs_put_time(struct buf *b, const char *name, int64_t ms);
const char *jobs_state_name(enum store_job_state state);
/* -1: there is no such state. */
int jobs_find_state(const char *name);
/* The row's, or what the queue has told of it meanwhile. */
enum store_job_state jobs_shown_state(const struct store_job *job, const struct jobs_view *view);
#define JOBS_ANSWER_BYTES_MAX (1u << 20)
/* What is told of it: a JSON object without a newline. */
void jobs_put_job(struct buf *b, const struct store_job *job, const struct jobs_view *view);

/* ---- jobs_api.c ---------------------------------------------------------------------------------
 */

/* One request about a job (not its submission); freed when neither client nor store need it. */
struct job_show {
    struct request_owner owner;
    struct front *front;
    struct http_request *req; /* NULL: over */
    struct store_call call;
    struct store_job job;
    struct store_job_list list;
    void (*answer)(struct job_show *s); /* when the store has answered */
    bool calling, gone, revoked;
    uint64_t until_ns;                    /* of a wait; 0: does not */
    struct http_timer timer;              /* while it waits */
    struct job_show **in_list, *next;     /* under the queue's lock */
    struct job_show *prev_own, *next_own; /* of its thread's, while it waits */
};
/* Requests of this thread that wait: those that were woken, or all. */
void jobs_wake_shows(struct front *f, bool all);
