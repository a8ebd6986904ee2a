/* SPDX-License-Identifier: Apache-2.0 */
/* store/jobs - the calls of jobs (store.h, jobs.h).
 *
 * In the store's thread, inside of the transaction of its turn. Each statement that moves a job
 * names the states and the attempt that it may move from, so whatever a caller believes, a state
 * only goes forward and a job ends once. A request is kept until its job has ended, what was told
 * of its end from then on.
 */
#include "store/jobs.h"
#include "lib/err.h"
#include "store/object.h"
#include "store/store_impl.h"

#define LOOKED_AT_MAX 10000u /* rows for one page: a rare state must not hold the thread up */
#define PREVIEW_COLUMN 21

static void bind_bytes(sqlite3_stmt *st, int at, const char *bytes, size_t len)
{
    (void)sqlite3_bind_blob64(st, at, len ? bytes : "", len, SQLITE_STATIC);
}

static void bind_number(sqlite3_stmt *st, int at, uint64_t n)
{
    (void)sqlite3_bind_int64(st, at, n < INT64_MAX ? (sqlite3_int64)n : INT64_MAX);
}

/* malloc'ed, with a NUL behind it; NULL: no memory. */
static char *take_column(sqlite3_stmt *st, int at, size_t *ret_len)
{
    const char *bytes = sqlite3_column_blob(st, at);
    size_t len = (size_t)sqlite3_column_bytes(st, at);
    char *copy = malloc(len + 1);
    if (!copy)
        return NULL;
    if (len)
        memcpy(copy, bytes, len);
    copy[len] = 0;
    *ret_len = len;
    return copy;
}

static uint64_t number(sqlite3_stmt *st, int at)
{
    return (uint64_t)sqlite3_column_int64(st, at);
}

/* JOB_COLUMNS of database.c */
static void read_job(sqlite3_stmt *st, struct store_job *j)
{
    *j = (struct store_job){.priority = (unsigned)number(st, 6),
                            .state = (enum store_job_state)number(st, 7),
                            .attempts = (unsigned)number(st, 8),
                            .cancelled = number(st, 9),
                            .seq = sqlite3_column_int64(st, 10),
                            .created_ms = sqlite3_column_int64(st, 11),
                            .updated_ms = sqlite3_column_int64(st, 12),
                            .started_ms = sqlite3_column_int64(st, 13),
                            .completed_ms = sqlite3_column_int64(st, 14),
                            .duration_ms = number(st, 15),
                            .output_bytes = number(st, 16),
                            .timeout_ms_ceiling = number(st, 17),
                            .memory_bytes_ceiling = number(st, 18),
                            .cpu_ms_ceiling = number(st, 19),
                            .body_len = (size_t)number(st, 20)};
    copy_column(st, 0, j->id, sizeof j->id);
    copy_column(st, 1, j->key, sizeof j->key);
    copy_column(st, 2, j->user, sizeof j->user);
    copy_column(st, 3, j->language, sizeof j->language);
    copy_column(st, 4, j->ns_id, sizeof j->ns_id);
    copy_column(st, 5, j->policy, sizeof j->policy);
}

/* Steps; 0 when it changed a row, `none` when it did not. */
static int change(struct store *s, sqlite3_stmt *st, int none)
{
    int error = store_step(s, st);
    return error ? error : sqlite3_changes(s->db) ? 0 : none;
}

/* ---- a job's way -------------------------------------------------------------------------------
 */

int store_put_job(struct store *s, struct store_call *c)
{
    struct store_job *j = c->job;
    sqlite3_stmt *st = store_statement(s, ST_JOB_PUT);
    bool claimed = j->state == STORE_JOB_RUNNING;
    j->attempts = claimed;
    j->updated_ms = j->created_ms;
    j->started_ms = claimed ? j->created_ms : 0;
    bind_text(st, 1, j->id);
    bind_text(st, 2, j->key);
    bind_bytes(st, 3, j->user, strlen(j->user));
    bind_text(st, 4, j->language);
    bind_text(st, 5, j->ns_id);
    bind_text(st, 6, j->policy);
    bind_number(st, 7, j->priority);
    bind_number(st, 8, j->state);
    bind_number(st, 9, j->attempts);
    (void)sqlite3_bind_int64(st, 10, j->created_ms);
    (void)sqlite3_bind_int64(st, 11, j->updated_ms);
    (void)sqlite3_bind_int64(st, 12, j->started_ms);
    bind_number(st, 13, j->timeout_ms_ceiling);
    bind_number(st, 14, j->memory_bytes_ceiling);
    bind_number(st, 15, j->cpu_ms_ceiling);
    bind_bytes(st, 16, j->body, j->body_len);
    bind_text(st, 17, j->callback_url ? j->callback_url : "");
    int error = store_step(s, st);
    if (error == 0)
        j->seq = sqlite3_last_insert_rowid(s->db);
    return error;
}

int store_claim_job(struct store *s, struct store_call *c)
{
    struct store_job *j = c->job;
    sqlite3_stmt *st = store_statement(s, ST_JOB_CLAIM);
    j->started_ms = store_now_ms();
    bind_text(st, 1, j->id);
    (void)sqlite3_bind_int64(st, 2, j->started_ms);
    int error = change(s, st, ENOENT);
    return error ? error : store_peek_job(s, c);
}

int store_peek_job(struct store *s, struct store_call *c)
{
    struct store_job *j = c->job;
    sqlite3_stmt *st = store_statement(s, ST_JOB_BODY);
    bind_text(st, 1, j->id);
    int error = found(s, sqlite3_step(st));
    if (error == 0) {
        j->attempts = (unsigned)number(st, 0);
        j->cancelled = number(st, 1);
        j->body = take_column(st, 2, &j->body_len);
        copy_column(st, 3, j->policy, sizeof j->policy);
        j->timeout_ms_ceiling = number(st, 4);
        j->memory_bytes_ceiling = number(st, 5);
        j->cpu_ms_ceiling = number(st, 6);
        error = j->body ? 0 : ENOMEM;
    }
    (void)sqlite3_reset(st);
    return error;
}

int store_unclaim_job(struct store *s, struct store_call *c)
{
    sqlite3_stmt *st = store_statement(s, ST_JOB_UNCLAIM);
    bind_text(st, 1, c->job->id);
    bind_number(st, 2, c->job->attempts);
    return change(s, st, ESTALE);
}

int store_finish_job(struct store *s, struct store_call *c)
{
    struct store_job *j = c->job;
    sqlite3_stmt *st = store_statement(s, ST_JOB_FINISH);
    j->completed_ms = store_now_ms();
    bind_text(st, 1, j->id);
    bind_number(st, 2, j->attempts);
    bind_number(st, 3, j->state);
    (void)sqlite3_bind_int64(st, 4, j->completed_ms);
    (void)sqlite3_bind_int64(st, 5, j->started_ms);
    bind_number(st, 6, j->duration_ms);
    bind_number(st, 7, c->len);
    bind_bytes(st, 8, j->preview, j->preview_len);
    bind_bytes(st, 9, j->doc, j->doc_len);
    int error = change(s, st, ESTALE); /* before the output of whoever ended it is touched */
    if (error == 0)
        error = store_put_delivery(s, j->id, &j->tells);
    return error ? error : store_output_put(s, j->id, c->data, c->len);
}

/* ---- asking ------------------------------------------------------------------------------------
 */

/* The job of that id and key into *ret; whose texts: with `told`. */
static int find_job(struct store *s, const char *id, const char *key, bool told,
                    struct store_job *ret)
{
    struct store_job j;
    sqlite3_stmt *st = store_statement(s, ST_JOB_GET);
    bind_text(st, 1, id);
    int error = found(s, sqlite3_step(st));
    if (error == 0) {
        read_job(st, &j);
        if (key && strcmp(j.key, key) != 0)
            error = ENOENT;
    }
    if (error == 0 && told) {
        j.preview = take_column(st, PREVIEW_COLUMN, &j.preview_len);
        j.doc = take_column(st, PREVIEW_COLUMN + 1, &j.doc_len);
        if (!j.preview || !j.doc) {
            free(j.preview);
            free(j.doc);
            error = ENOMEM;
        }
    }
    (void)sqlite3_reset(st);
    if (error == 0)
        *ret = j;
    return error;
}

int store_get_job(struct store *s, struct store_call *c)
{
    return find_job(s, c->job->id, c->job->key, true, c->job);
}

int store_cancel_job(struct store *s, struct store_call *c)
{
    sqlite3_stmt *st = store_statement(s, ST_JOB_CANCEL);
    bind_text(st, 1, c->job->id);
    bind_text(st, 2, c->job->key);
    (void)sqlite3_bind_int64(st, 3, store_now_ms());
    int changed = change(s, st, EALREADY);
    if (changed && changed != EALREADY)
        return changed;
    int error = find_job(s, c->job->id, c->job->key, false, c->job);
    return error ? error : changed;
}

static int read_at(struct store *s, int64_t seq, struct store_job *ret)
{
    sqlite3_stmt *st = store_statement(s, ST_JOB_AT);
    (void)sqlite3_bind_int64(st, 1, seq);
    int error = found(s, sqlite3_step(st));
    if (error == 0)
        read_job(st, ret);
    (void)sqlite3_reset(st);
    return error;
}

int store_list_jobs(struct store *s, struct store_call *c)
{
    struct store_job_list *l = c->list;
    unsigned limit = l->limit < STORE_JOB_LIST_MAX ? l->limit : STORE_JOB_LIST_MAX, looked = 0;
    sqlite3_stmt *st = store_statement(s, ST_JOB_LIST);
    int rc = SQLITE_DONE, error = 0;
    l->count = 0;
    l->next = 0;
    l->at = calloc(limit + 1, sizeof *l->at);
    if (!l->at)
        return ENOMEM;
    bind_text(st, 1, c->key);
    (void)sqlite3_bind_int64(st, 2, l->before ? l->before : INT64_MAX);
    (void)sqlite3_bind_int64(st, 3, LOOKED_AT_MAX + 1);
    while (error == 0 && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        int64_t seq = sqlite3_column_int64(st, 0);
        if (l->count == limit || looked++ == LOOKED_AT_MAX) { /* there is one more */
            l->next = seq + 1;
            break;
        }
        int state = (int)number(st, 1);
        bool may_stand = l->state == STORE_JOB_QUEUED && state == STORE_JOB_RUNNING;
        if (l->state < 0 || state == l->state || may_stand)
            error = read_at(s, seq, &l->at[l->count++]);
    }
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        error = store_errno(s, rc);
    (void)sqlite3_reset(st);
    if (error)
        free(ptr_take(&l->at));
    return error;
}

int store_get_output(struct store *s, struct store_call *c)
{
    struct store_object *o = &c->object;
    struct store_job j;
    c->fd = -1;
    int error = find_job(s, o->id, c->any_key ? NULL : c->key, false, &j);
    if (error)
        return error;
    if (j.state < STORE_JOB_COMPLETED)
        return EAGAIN;
    o->size = j.output_bytes;
    o->created_ms = j.completed_ms;
    (void)snprintf(o->name, sizeof o->name, "%s.txt", o->id);
    return store_output_get(s, o->id, j.output_bytes, &c->fd);
}

void store_forget_job(struct store_call *c)
{
    if (c->verb == STORE_LIST_JOBS) {
        free(ptr_take(&c->list->at));
        return;
    }
    if (c->verb == STORE_CLAIM_JOB || c->verb == STORE_PEEK_JOB)
        free(ptr_take(&c->job->body));
    if (c->verb == STORE_GET_JOB) {
        free(ptr_take(&c->job->preview));
        free(ptr_take(&c->job->doc));
    }
}

int store_drop_job(struct store *s, const char *id)
{
    sqlite3_stmt *st = store_statement(s, ST_JOB_DROP);
    store_output_doubt(s, id);
    bind_text(st, 1, id);
    return store_step(s, st);
}

int store_each_waiting_job(struct store *s, void (*on_job)(void *user, const struct store_job *job),
                           void *user, struct err *err)
{
    sqlite3_stmt *st = store_statement(s, ST_JOB_WAITING);
    struct store_job j;
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        read_job(st, &j);
        on_job(user, &j);
    }
    (void)sqlite3_reset(st);
    return rc == SQLITE_DONE ? 0 : err_set(err, "state_dir: store.db: %s", sqlite3_errmsg(s->db));
}
