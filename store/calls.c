/* SPDX-License-Identifier: Apache-2.0 */
/* store/calls - what each verb does to tables and files, and what goes when there is too much.
 *
 * In the store's thread, inside of the transaction of its turn (store.c): a verb that fails is
 * undone alone, one that succeeded may still be undone with all others when the commit fails.
 */
#include "lib/err.h"
#include "store/store_impl.h"
#include <assert.h>
#include <fcntl.h>

#define DROPS_A_TURN 256 /* the rest goes with the next turn, so that no caller waits for it */

static struct store_sha256 column_sha256(sqlite3_stmt *st, int at)
{
    struct store_sha256 sha256 = {{0}};
    if (sqlite3_column_bytes(st, at) == STORE_SHA256_BYTES)
        memcpy(&sha256, sqlite3_column_blob(st, at), sizeof sha256);
    return sha256;
}

/* ---- runs -------------------------------------------------------------------------------------
 */

static int put_run(struct store *s, struct store_call *c)
{
    const struct store_run *run = &c->run;
    if (run->json_len > STORE_JSON_MAX)
        return EFBIG;
    sqlite3_stmt *st = store_statement(s, ST_RUN_PUT);
    bind_text(st, 1, run->id);
    bind_text(st, 2, run->key);
    (void)sqlite3_bind_int64(st, 3, run->created_ms);
    (void)sqlite3_bind_blob64(st, 4, run->json ? run->json : "", run->json_len, SQLITE_STATIC);
    bind_text(st, 5, run->status);
    (void)sqlite3_bind_int64(st, 6, (sqlite3_int64)run->head_len);
    int error = store_step(s, st);
    if (error == 0 && sqlite3_changes(s->db) == 0)
        error = EEXIST;
    for (size_t i = 0; error == 0 && i < run->artifact_count; i++) {
        st = store_statement(s, ST_ARTIFACT_OF);
        bind_text(st, 1, run->id);
        (void)sqlite3_bind_int64(st, 2, (sqlite3_int64)i);
        bind_text(st, 3, run->artifacts[i].id);
        bind_text(st, 4, run->key);
        error = store_step(s, st);
        if (error == 0 && sqlite3_changes(s->db) == 0)
            error = EINVAL;
    }
    return error;
}

int store_end_open_runs(struct store *s, struct err *err)
{
    if (sqlite3_exec(s->db, "UPDATE runs SET status = 'failed' WHERE status = 'open'", NULL, NULL,
                     NULL) != SQLITE_OK)
        return err_set(err, "state_dir: store.db: %s", sqlite3_errmsg(s->db));
    return 0;
}

static void read_artifact(sqlite3_stmt *st, struct store_object *o)
{
    struct store_sha256 sha256 = column_sha256(st, 0);
    store_hex(&sha256, o->sha256);
    o->size = (uint64_t)sqlite3_column_int64(st, 1);
    o->created_ms = sqlite3_column_int64(st, 2);
    copy_column(st, 3, o->name, sizeof o->name);
}

static int get_artifacts(struct store *s, struct store_run *run)
{
    sqlite3_stmt *st = store_statement(s, ST_ARTIFACTS);
    size_t room = 0;
    int rc, error = 0;
    bind_text(st, 1, run->id);
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        if (run->artifact_count == room) {
            room = room ? room * 2 : 8;
            void *more = realloc(run->artifacts, room * sizeof *run->artifacts);
            if (!more) {
                error = ENOMEM;
                break;
            }
            run->artifacts = more;
        }
        struct store_object *o = &run->artifacts[run->artifact_count++];
        read_artifact(st, o);
        copy_column(st, 4, o->id, sizeof o->id);
    }
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        error = store_errno(s, rc);
    (void)sqlite3_reset(st);
    return error;
}

static void forget_run(struct store_run *run)
{
    free(ptr_take(&run->json));
    free(ptr_take(&run->artifacts));
    run->json_len = run->artifact_count = 0;
}

static int get_run(struct store *s, struct store_call *c)
{
    struct store_run *run = &c->run;
    sqlite3_stmt *st = store_statement(s, ST_RUN_GET);
    run->json = NULL;
    run->artifacts = NULL;
    run->json_len = run->artifact_count = 0;
    bind_text(st, 1, run->id);
    bind_text(st, 2, run->key);
    int error = found(s, sqlite3_step(st));
    if (error == 0) {
        size_t len = (size_t)sqlite3_column_bytes(st, 1);
        run->created_ms = sqlite3_column_int64(st, 0);
        bool may = !c->borrow || c->borrow(len);
        c->borrowed = c->borrow && may ? len : 0;
        run->json = may ? malloc(len + 1) : NULL;
        if (run->json && len)
            memcpy(run->json, sqlite3_column_blob(st, 1), len);
        if (run->json)
            run->json[len] = 0;
        run->json_len = len;
        error = run->json ? 0 : may ? ENOMEM : EAGAIN;
    }
    (void)sqlite3_reset(st);
    if (error == 0)
        error = get_artifacts(s, run);
    if (error)
        forget_run(run);
    return error;
}

/* ---- objects ----------------------------------------------------------------------------------
 */

/* Is there room in the key's share for one more file of that size? */
static int check_share(struct store *s, const struct store_call *c, uint64_t size)
{
    uint64_t files = 0, bytes = 0;
    if (!c->upload)
        return 0;
    (void)pthread_mutex_lock(&s->lock);
    const struct store_settings set = s->settings;
    (void)pthread_mutex_unlock(&s->lock);
    sqlite3_stmt *st = store_statement(s, ST_SHARE);
    bind_text(st, 1, c->key);
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        files = (uint64_t)sqlite3_column_int64(st, 0);
        bytes = (uint64_t)sqlite3_column_int64(st, 1);
    }
    (void)sqlite3_reset(st);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return store_errno(s, rc);
    if ((set.key_files_max && files >= set.key_files_max) ||
        (set.key_bytes_max && (bytes > set.key_bytes_max || size > set.key_bytes_max - bytes)))
        return EDQUOT;
    return 0;
}

static int name_object(struct store *s, struct store_call *c, struct store_new *n)
{
    struct store_object *o = &c->object;
    sqlite3_stmt *st = store_statement(s, ST_OBJECT_PUT);
    (void)sqlite3_bind_blob(st, 1, &n->sha256, sizeof n->sha256, SQLITE_STATIC);
    (void)sqlite3_bind_int64(st, 2, (sqlite3_int64)n->size);
    int error = store_step(s, st);
    if (error)
        return error;
    store_make_id("file_", o->id);
    store_hex(&n->sha256, o->sha256);
    o->size = n->size;
    o->created_ms = store_now_ms();
    st = store_statement(s, ST_FILE_PUT);
    bind_text(st, 1, o->id);
    bind_text(st, 2, c->key);
    (void)sqlite3_bind_int(st, 3, c->upload);
    (void)sqlite3_bind_blob(st, 4, &n->sha256, sizeof n->sha256, SQLITE_STATIC);
    (void)sqlite3_bind_int64(st, 5, (sqlite3_int64)n->size);
    (void)sqlite3_bind_blob64(st, 6, o->name, strlen(o->name), SQLITE_STATIC);
    (void)sqlite3_bind_int64(st, 7, o->created_ms);
    return store_step(s, st);
}

static int put_object(struct store *s, struct store_call *c)
{
    struct store_new n;
    int error = check_share(s, c, 0);
    if (error == 0)
        error = store_object_write(s, c, &n);
    if (error)
        return error;
    error = check_share(s, c, n.size);
    if (error == 0)
        error = store_object_place(s, &n);
    if (error == 0) {
        store_object_doubt(s, &n.sha256);
        error = name_object(s, c, &n);
    }
    store_object_discard(s, &n);
    return error;
}

static int get_object(struct store *s, struct store_call *c)
{
    sqlite3_stmt *st = store_statement(s, ST_FILE_GET);
    struct store_sha256 sha256 = {{0}};
    char key[STORE_KEY_MAX + 1];
    c->fd = -1;
    bind_text(st, 1, c->object.id);
    int error = found(s, sqlite3_step(st));
    if (error == 0) {
        sha256 = column_sha256(st, 0);
        read_artifact(st, &c->object);
        copy_column(st, 4, key, sizeof key);
        if (!c->any_key && strcmp(key, c->key) != 0)
            error = ENOENT;
    }
    (void)sqlite3_reset(st);
    return error ? error : store_object_get(s, &sha256, c->object.size, &c->fd);
}

static int drop_file(struct store *s, const char *id, const struct store_sha256 *sha256)
{
    sqlite3_stmt *st = store_statement(s, ST_FILE_DROP);
    store_object_doubt(s, sha256);
    bind_text(st, 1, id);
    return store_step(s, st);
}

static int drop_object(struct store *s, struct store_call *c)
{
    sqlite3_stmt *st = store_statement(s, ST_FILE_GET);
    struct store_sha256 sha256 = {{0}};
    char key[STORE_KEY_MAX + 1];
    bind_text(st, 1, c->object.id);
    int error = found(s, sqlite3_step(st));
    if (error == 0) {
        sha256 = column_sha256(st, 0);
        copy_column(st, 4, key, sizeof key);
        if (!sqlite3_column_int(st, 5) || strcmp(key, c->key) != 0)
            error = ENOENT;
    }
    (void)sqlite3_reset(st);
    return error ? error : drop_file(s, c->object.id, &sha256);
}

/* ---- the table --------------------------------------------------------------------------------
 */

static const struct {
    int (*run)(struct store *s, struct store_call *c);
    enum { READS, WRITES, LASTS } kind; /* LASTS: once told, a power cut must not take it */
} verbs[] = {
    [STORE_PUT_RUN] = {put_run, WRITES}, /* with artifacts LASTS */
    [STORE_GET_RUN] = {get_run, READS},
    [STORE_PUT_OBJECT] = {put_object, LASTS},
    [STORE_GET_OBJECT] = {get_object, READS},
    [STORE_DROP_OBJECT] = {drop_object, LASTS},
    [STORE_PUT_JOB] = {store_put_job, LASTS},
    [STORE_PEEK_JOB] = {store_peek_job, READS},
    [STORE_CLAIM_JOB] = {store_claim_job, WRITES},
    [STORE_UNCLAIM_JOB] = {store_unclaim_job, WRITES},
    [STORE_FINISH_JOB] = {store_finish_job, LASTS},
    [STORE_CANCEL_JOB] = {store_cancel_job, LASTS},
    [STORE_GET_JOB] = {store_get_job, READS},
    [STORE_LIST_JOBS] = {store_list_jobs, READS},
    [STORE_GET_OUTPUT] = {store_get_output, READS},
    [STORE_LIST_RUNS] = {store_list_runs, READS},
    [STORE_ONCE_BEGIN] = {store_once_begin, LASTS},
    [STORE_ONCE_END] = {store_once_end, LASTS},
    [STORE_ADD_USAGE] = {store_usage_add, WRITES},
    [STORE_GET_USAGE] = {store_usage_get, READS},
    [STORE_CLAIM_DELIVERIES] = {store_claim_deliveries, READS},
    [STORE_NOTE_ATTEMPT] = {store_note_attempt, WRITES},
    [STORE_LIST_DELIVERIES] = {store_list_deliveries, READS},
};

bool store_needs_sync(const struct store_call *c)
{
    if (c->verb == STORE_ONCE_BEGIN)
        return !c->once->whole; /* what it does is not there before its answer is */
    return verbs[c->verb].kind == LASTS ||
           (c->verb == STORE_PUT_RUN && (c->run.artifact_count > 0 || c->once));
}

unsigned store_queue_of(const struct store_call *c)
{
    if (c->verb == STORE_LIST_RUNS || c->verb == STORE_LIST_JOBS || c->verb == STORE_GET_USAGE)
        return STORE_LISTS;
    bool large = c->verb == STORE_PUT_OBJECT && c->upload && c->len > STORE_QUICK_BYTES;
    return large ? STORE_UPLOADS : STORE_QUICK;
}

bool store_is_result(const struct store_call *c)
{
    return c->verb == STORE_PUT_RUN || (c->verb == STORE_PUT_OBJECT && !c->upload) ||
           c->verb == STORE_CLAIM_JOB || c->verb == STORE_UNCLAIM_JOB ||
           c->verb == STORE_FINISH_JOB || c->verb == STORE_ONCE_END || c->verb == STORE_ADD_USAGE ||
           c->verb == STORE_CLAIM_DELIVERIES || c->verb == STORE_NOTE_ATTEMPT;
}

int store_serve(struct store *s, struct store_call *c)
{
    assert(c->verb < ARRAY_LEN(verbs) && verbs[c->verb].run);
    if (verbs[c->verb].kind == READS)
        return verbs[c->verb].run(s, c);
    int error = store_step(s, store_statement(s, ST_SAVE));
    if (error)
        return error;
    error = verbs[c->verb].run(s, c);
    if (error == 0 && c->once && (c->verb == STORE_PUT_JOB || c->verb == STORE_PUT_RUN))
        error = store_once_end_with(s, c);
    if (error)
        (void)store_step(s, store_statement(s, ST_UNDO));
    else
        s->wrote = true;
    int released = store_step(s, store_statement(s, ST_RELEASE));
    return error ? error : released;
}

void store_undo(struct store *s, struct store_call *c)
{
    (void)s;
    if (c->verb == STORE_GET_RUN)
        forget_run(&c->run);
    if (c->verb == STORE_PEEK_JOB || c->verb == STORE_CLAIM_JOB || c->verb == STORE_GET_JOB ||
        c->verb == STORE_LIST_JOBS)
        store_forget_job(c);
    if (c->verb == STORE_LIST_RUNS)
        free(ptr_take(&c->runs->text));
    if (c->verb == STORE_GET_USAGE)
        free(ptr_take(&c->usages->at));
    if (c->verb == STORE_ONCE_BEGIN)
        free(ptr_take(&c->once->answer));
    if ((c->verb == STORE_GET_OBJECT || c->verb == STORE_GET_OUTPUT) && c->fd >= 0) {
        (void)close(c->fd);
        c->fd = -1;
    }
    if (c->verb == STORE_CLAIM_DELIVERIES || c->verb == STORE_LIST_DELIVERIES)
        store_free_deliveries(c->courier);
}

/* ---- retention --------------------------------------------------------------------------------
 */

enum kind { RUN, FILE_ALONE, JOB, KINDS }; /* files without a run; jobs that have ended */

struct oldest {
    char id[STORE_ID_ROOM];
    int64_t since_ms; /* INT64_MAX: there is none */
    bool last;        /* only when there is nothing else: it is still to be told of */
    struct store_sha256 sha256;
};

/* `key` NULL: of all. */
static int find_oldest(struct store *s, enum kind kind, const char *key, struct oldest *ret)
{
    static const enum store_statement of_all[KINDS] = {ST_RUN_OLDEST, ST_FILE_OLDEST,
                                                       ST_JOB_OLDEST},
                                      of_one[KINDS] = {ST_RUN_OLDEST_OF, ST_FILE_OLDEST_OF,
                                                       ST_JOB_OLDEST_OF};
    sqlite3_stmt *st = store_statement(s, (key ? of_one : of_all)[kind]);
    if (key)
        bind_text(st, 1, key);
    int rc = sqlite3_step(st);
    *ret = (struct oldest){.since_ms = INT64_MAX};
    if (rc == SQLITE_ROW) {
        copy_column(st, 0, ret->id, sizeof ret->id);
        ret->since_ms = sqlite3_column_int64(st, 1);
        if (kind == FILE_ALONE)
            ret->sha256 = column_sha256(st, 2);
        ret->last = kind == JOB && sqlite3_column_int(st, 2) > 0;
    }
    (void)sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : store_errno(s, rc);
}

static int drop_run(struct store *s, const char *id)
{
    sqlite3_stmt *st = store_statement(s, ST_ARTIFACTS);
    int rc;
    bind_text(st, 1, id);
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct store_sha256 sha256 = column_sha256(st, 0);
        store_object_doubt(s, &sha256);
    }
    (void)sqlite3_reset(st);
    if (rc != SQLITE_DONE)
        return store_errno(s, rc);
    st = store_statement(s, ST_ARTIFACTS_DROP);
    bind_text(st, 1, id);
    int error = store_step(s, st);
    st = store_statement(s, ST_RUN_DROP);
    bind_text(st, 1, id);
    return error ? error : store_step(s, st);
}

static int drop(struct store *s, enum kind kind, const struct oldest *o)
{
    switch (kind) {
    case RUN:
        return drop_run(s, o->id);
    case FILE_ALONE:
        return drop_file(s, o->id, &o->sha256);
    case JOB:
    case KINDS:
        break;
    }
    return store_drop_job(s, o->id);
}

static int read_totals(struct store *s, uint64_t *ret_runs, uint64_t *ret_bytes)
{
    sqlite3_stmt *st = store_statement(s, ST_TOTALS);
    int error = found(s, sqlite3_step(st));
    *ret_runs = (uint64_t)sqlite3_column_int64(st, 0);
    *ret_bytes = (uint64_t)sqlite3_column_int64(st, 1);
    (void)sqlite3_reset(st);
    return error;
}

/* Of what there is too much: the oldest of each kind of the key that has most of it. */
static int find_surplus(struct store *s, enum store_statement most, struct oldest ret[KINDS])
{
    char key[STORE_KEY_MAX + 1] = "";
    sqlite3_stmt *st = store_statement(s, most);
    int error = found(s, sqlite3_step(st));
    if (error == 0)
        copy_column(st, 0, key, sizeof key);
    (void)sqlite3_reset(st);
    if (error == ENOENT) /* nothing of it may go */
        return 0;
    for (enum kind k = 0; error == 0 && k < KINDS; k++)
        if (k != FILE_ALONE || most != ST_MOST_RUNS)
            error = find_oldest(s, k, key, &ret[k]);
    return error;
}

/* What may go next, one of each kind; none: nothing has to. */
static int find_next_out(struct store *s, const struct store_settings *set, int64_t before_ms,
                         struct oldest ret[KINDS])
{
    uint64_t runs = 0, bytes = 0;
    int error = read_totals(s, &runs, &bytes);
    for (enum kind k = 0; k < KINDS; k++)
        ret[k] = (struct oldest){.since_ms = INT64_MAX};
    if (error)
        return error;
    if (set->runs_max && runs > set->runs_max)
        return find_surplus(s, ST_MOST_RUNS, ret);
    if (set->bytes_max && bytes > set->bytes_max)
        return find_surplus(s, ST_MOST_BYTES, ret);
    for (enum kind k = 0; error == 0 && k < KINDS; k++) {
        error = find_oldest(s, k, NULL, &ret[k]);
        if (ret[k].since_ms >= before_ms)
            ret[k].since_ms = INT64_MAX;
    }
    return error;
}

static bool goes_before(const struct oldest *a, const struct oldest *b)
{
    bool both = a->since_ms != INT64_MAX && b->since_ms != INT64_MAX;
    return both && a->last != b->last ? b->last : a->since_ms < b->since_ms;
}

int store_retain(struct store *s, const struct store_settings *set, int64_t now_ms)
{
    int64_t age_ms = set->age_s && set->age_s < INT64_MAX / 1000 ? (int64_t)set->age_s * 1000 : 0;
    int old = age_ms ? store_drop_deliveries(s, now_ms - age_ms) : 0;
    if (old)
        return old;
    for (int i = 0; i < DROPS_A_TURN; i++) {
        struct oldest out[KINDS];
        enum kind first = RUN;
        int error = find_next_out(s, set, age_ms ? now_ms - age_ms : INT64_MIN, out);
        if (error)
            return error;
        for (enum kind k = 0; k < KINDS; k++)
            if (goes_before(&out[k], &out[first]))
                first = k;
        if (out[first].since_ms == INT64_MAX)
            return 0;
        error = drop(s, first, &out[first]);
        if (error)
            return error;
    }
    return 0;
}
