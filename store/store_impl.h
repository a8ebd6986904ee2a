/* SPDX-License-Identifier: Apache-2.0 */
/* store/store_impl - what the files of this folder share; t/unit/store looks in as well. */
#pragma once
#include "store/store.h"
#include <pthread.h>
#include <sqlite3.h>

/* faults.c: the calls that SQLite makes are SYS() as well. */
#ifdef BROOD_FAULT
void store_faults_begin(sqlite3_vfs *standard, sqlite3_vfs *own);
#else
static inline void store_faults_begin(sqlite3_vfs *standard, sqlite3_vfs *own)
{
    (void)standard;
    (void)own;
}
#endif

#define STORE_SHA256_BYTES 32u

enum store_statement {
    ST_BEGIN,
    ST_COMMIT,
    ST_ROLLBACK,
    ST_SAVE,
    ST_RELEASE,
    ST_UNDO,
    ST_RUN_PUT,
    ST_RUN_GET,
    ST_RUN_DROP,
    ST_RUN_OLDEST,
    ST_ARTIFACT_OF,
    ST_ARTIFACTS,
    ST_ARTIFACTS_DROP,
    ST_OBJECT_PUT,
    ST_OBJECT_HAS,
    ST_FILE_PUT,
    ST_FILE_GET,
    ST_FILE_DROP,
    ST_FILE_OLDEST,
    ST_SHARE,
    ST_TOTALS,
    ST_MOST_RUNS,
    ST_MOST_BYTES,
    ST_RUN_OLDEST_OF,
    ST_FILE_OLDEST_OF,
    ST_JOB_PUT,
    ST_JOB_CLAIM,
    ST_JOB_UNCLAIM,
    ST_JOB_FINISH,
    ST_JOB_CANCEL,
    ST_JOB_GET,
    ST_JOB_BODY,
    ST_JOB_LIST,
    ST_JOB_AT,
    ST_JOB_WAITING,
    ST_JOB_ENDED,
    ST_JOB_DROP,
    ST_JOB_OLDEST,
    ST_JOB_OLDEST_OF,
    ST_RUN_LIST,
    ST_RUN_LIST_STATUS,
    ST_ONCE_GET,
    ST_ONCE_PUT,
    ST_ONCE_END,
    ST_ONCE_DROP,
    ST_ONCE_EXPIRE,
    ST_ONCE_TOTALS,
    ST_ONCE_DROP_OLDEST,
    ST_ONCE_EMPTY_OLDEST,
    ST_USAGE_ADD,
    ST_USAGE_GET,
    ST_USAGE_KEY_FROM,
    ST_USAGE_KEY_AFTER,
    ST_USAGE_EXPIRE,
    ST_DELIVERY_PUT,
    ST_DELIVERY_OF_JOB,
    ST_DELIVERY_NEXT_KEY,
    ST_DELIVERY_NEXT_HOST,
    ST_DELIVERY_DUE,
    ST_DELIVERY_NOTE,
    ST_DELIVERIES_OF,
    ST_DELIVERIES_DROP,
    ST_ATTEMPT_PUT,
    ST_ATTEMPTS_OF,
    ST_COUNT,
};

struct store_sha256 {
    unsigned char bytes[STORE_SHA256_BYTES];
};

/* What takes long waits by itself: of lists, and of uploads, one a turn. */
enum { STORE_QUICK, STORE_LISTS, STORE_UPLOADS, STORE_QUEUES };

struct store_queue {
    struct store_call *first, **end;
    size_t waiting;
};

struct store {
    int dir_fd, objects_fd, outputs_fd;
    sqlite3 *db;
    sqlite3_stmt *statements[ST_COUNT];
    bool lax;     /* a commit is not synced */
    char *buffer; /* for copying */
    struct evp_md_st *md;
    struct evp_md_ctx_st *md_ctx;
    uint64_t temp_count;
    /* Contents that a transaction gave or took a row: after it they may be without one. */
    struct store_sha256 *doubtful;
    size_t doubtful_count, doubtful_room;
    /* The same of jobs whose output was placed, or whose row went. */
    char (*doubtful_outputs)[STORE_JOB_ID_ROOM];
    size_t doubtful_output_count, doubtful_output_room;
    bool output_placed; /* something was renamed into outputs/ ... */
    bool placed;     /* something was renamed into objects/ and the directory is not on disk yet */
    bool wrote;      /* in this transaction */
    bool wrote_once; /* there, too: of what may come again */
    int64_t usage_day;    /* up to which usage has been tidied */
    bool failed, trouble; /* this turn, the last one: said once, not each time */

    pthread_mutex_t lock; /* of all that follows */
    pthread_cond_t wake;
    pthread_t thread;
    bool started, stopping;
    struct store_settings settings;
    struct store_queue queues[STORE_QUEUES];
    size_t waiting; /* in all */
};

/* A new content, in a temporary file that is not synced. */
struct store_new {
    char temp[32];
    int fd;
    struct store_sha256 sha256;
    uint64_t size;
};

/* ---- what the verbs do with statements ---- */
static inline void bind_text(sqlite3_stmt *st, int at, const char *text)
{
    (void)sqlite3_bind_text(st, at, text, -1, SQLITE_STATIC);
}
/* "" where it does not fit. */
static inline void copy_column(sqlite3_stmt *st, int at, char *ret, size_t room)
{
    const char *text = sqlite3_column_blob(st, at);
    size_t len = (size_t)sqlite3_column_bytes(st, at);
    len = text && len < room ? len : 0;
    if (len)
        memcpy(ret, text, len);
    ret[len] = 0;
}
int store_errno(struct store *s, int rc);
/* SQLITE_ROW -> 0, SQLITE_DONE -> ENOENT. */
static inline int found(struct store *s, int rc)
{
    return rc == SQLITE_ROW ? 0 : rc == SQLITE_DONE ? ENOENT : store_errno(s, rc);
}

/* schema.c: the database's tables as this program wants them. */
int store_migrate(sqlite3 *db, struct err *err);
/* database.c */
int store_database_open(struct store *s, struct err *err);
void store_database_close(struct store *s);
/* The statement, reset and without values. */
sqlite3_stmt *store_statement(struct store *s, enum store_statement which);
/* Steps once and is done with it: 0, or errno. */
int store_step(struct store *s, sqlite3_stmt *st);
/* Of what the last call of SQLite said; logs. */
int store_errno(struct store *s, int rc);
/* objects.c. All return 0 or errno, but the open's and the walk's 0 or <0. */
/* Calls on_entry with each name in that directory until it says <0; name: for the error. */
typedef int store_on_entry(struct store *s, const char *name, struct err *err);
int store_walk(struct store *s, int dir_fd, const char *name, store_on_entry *on_entry,
               struct err *err);
int store_objects_open(struct store *s, struct err *err);
/* With the database: removes what no row names, and rows that no run came for. */
int store_objects_clean(struct store *s, struct err *err);
void store_objects_close(struct store *s);
int store_object_write(struct store *s, const struct store_call *call, struct store_new *ret);
/* fsync and rename; unless it is there. */
int store_object_place(struct store *s, struct store_new *n);
void store_object_discard(struct store *s, struct store_new *n);
int store_object_get(struct store *s, const struct store_sha256 *sha256, uint64_t size,
                     int *ret_fd);
int store_objects_sync(struct store *s);
void store_object_doubt(struct store *s, const struct store_sha256 *sha256);
/* Outside of transactions: files of those doubtful ones that no row names go. */
void store_objects_settle(struct store *s);
void store_hex(const struct store_sha256 *sha256, char ret[STORE_SHA256_ROOM]);
/* jobs.c: a call of a job, inside of a transaction. */
int store_put_job(struct store *s, struct store_call *call);
int store_peek_job(struct store *s, struct store_call *call);
int store_claim_job(struct store *s, struct store_call *call);
int store_unclaim_job(struct store *s, struct store_call *call);
int store_finish_job(struct store *s, struct store_call *call);
int store_cancel_job(struct store *s, struct store_call *call);
int store_get_job(struct store *s, struct store_call *call);
int store_list_jobs(struct store *s, struct store_call *call);
int store_get_output(struct store *s, struct store_call *call);
/* Frees what the call made, of which its caller will hear nothing. */
void store_forget_job(struct store_call *call);
int store_drop_job(struct store *s, const char *id);
/* list.c, once.c, usage.c: their verbs; 0 or errno. */
int store_list_runs(struct store *s, struct store_call *c);
int store_once_begin(struct store *s, struct store_call *c);
int store_once_end(struct store *s, struct store_call *c);
/* Inside of the call that does what was asked for. ESTALE: there is no such OPEN one. */
int store_once_end_with(struct store *s, struct store_call *c);
int store_once_retain(struct store *s, const struct store_settings *settings, int64_t now_ms);
/* At the start: nobody works on what is OPEN. */
int store_once_lose(struct store *s, struct err *err);
int store_usage_add(struct store *s, struct store_call *c);
int store_usage_get(struct store *s, struct store_call *c);
int store_usage_retain(struct store *s, int64_t now_ms);
/* calls.c: one call inside of a transaction. */
bool store_needs_sync(const struct store_call *call); /* a power cut must not take it once told */
unsigned store_queue_of(const struct store_call *call);
/* Is it what became of something that was accepted before? */
bool store_is_result(const struct store_call *call);
int store_serve(struct store *s, struct store_call *call);
void store_undo(struct store *s, struct store_call *call); /* its transaction failed after all */
int store_retain(struct store *s, const struct store_settings *settings, int64_t now_ms);
/* deliveries.c: as calls.c. */
int store_claim_deliveries(struct store *s, struct store_call *c);
int store_note_attempt(struct store *s, struct store_call *c);
int store_list_deliveries(struct store *s, struct store_call *c);
/* For the transaction that ends a job: if it named a receiver, that is to be told. 0 or errno. */
int store_put_delivery(struct store *s, const char *job_id, bool *ret_put);
/* Those of before then go, some of them. */
int store_drop_deliveries(struct store *s, int64_t before_ms);
/* calls.c: at the start, of runs that were promised: their notes are what became of them. */
int store_end_open_runs(struct store *s, struct err *err);
/* store.c: all of `list` in one transaction. The thread's turn, and the tests'. */
void store_turn(struct store *s, struct store_call *list);
