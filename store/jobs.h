/* SPDX-License-Identifier: Apache-2.0 */
/* store/jobs - what is remembered of a job: the promise that POST /submit makes. Part of
 * store/store.h, whose calls (STORE_PUT_JOB ...) take it; a store of another kind has to promise
 * the same.
 *
 * A job is queued, running (some worker has claimed it at least once), or has ended in one of three
 * ways; its state only ever goes forward, and it ends once. A claim is a lease and a number of
 * attempt: the lease is the life of the process that has the store open, which is one, so whoever
 * opens the store has taken all leases over; the number is asked for again at the end, so that an
 * attempt that was given up cannot end the next one.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORE_JOB_PREFIX "job_" /* of ids, store_make_id() */
#define STORE_JOB_ID_ROOM 33
#define STORE_JOB_KEY_ROOM 65
#define STORE_JOB_USER_BYTES_MAX 512u /* 128 characters */
#define STORE_JOB_LIST_MAX 1000u

enum store_job_state {
    STORE_JOB_QUEUED,
    STORE_JOB_RUNNING,
    STORE_JOB_COMPLETED, /* this and what follows: ended */
    STORE_JOB_FAILED,
    STORE_JOB_TIMEOUT,
    STORE_JOB_STATES,
};

struct store_job {
    char id[STORE_JOB_ID_ROOM], key[STORE_JOB_KEY_ROOM], ns_id[65], language[33], policy[33];
    char user[STORE_JOB_USER_BYTES_MAX + 1];
    unsigned priority, attempts;
    enum store_job_state state;
    bool cancelled;     /* somebody asked for that; it has perhaps not ended yet */
    int64_t seq;        /* the order in which jobs were accepted; from 1 */
    int64_t created_ms; /* since the epoch, as the next three; those are 0 until it is so */
    int64_t updated_ms, started_ms, completed_ms;
    uint64_t duration_ms, output_bytes;
    uint64_t timeout_ms_ceiling, memory_bytes_ceiling, cpu_ms_ceiling; /* its key's */
    char *body; /* the request, until it ends */
    size_t body_len;
    char *preview, *doc; /* inside of a JSON string; JSON members: told of it once it has ended */
    size_t preview_len, doc_len;
    const char *callback_url; /* PUT: who is to be told of the end; NULL: nobody */
    bool tells;               /* FINISH -> somebody is to be told: a delivery was put */
};

/* One page of a key's jobs, the latest first. */
struct store_job_list {
    int64_t before; /* only those accepted before this one; 0: all */
    int state;      /* only those in it; -1: any. QUEUED: all that have not ended, since whether a
                       claimed one has begun only its worker knows */
    unsigned limit; /* at most STORE_JOB_LIST_MAX */
    struct store_job *at; /* malloc'ed, without body, preview and doc */
    size_t count;
    int64_t next; /* `before` of the next page; 0: this was the last one */
};
