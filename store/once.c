/* SPDX-License-Identifier: Apache-2.0 */
/* store/once - requests that are done once, however often they come: a name, what was asked for,
 * and what became of it.
 *
 * In the store's thread, inside of the transaction of its turn. A name is one key's; whoever begins
 * gets the row first, durable, and works then. One process has the store, so a row that is open
 * when it starts is nobody's: it is lost, and stays so until it is too old, for nobody can know
 * what was done. Of a request that is `whole` everybody can: what it does is in the store, by the
 * transaction that brought its answer, so an open row says that nothing was done, and goes. Rows
 * that are under way are never dropped. Too many: the oldest of the key that
 * has most go. Too many bytes: the answers of the oldest go, the rows stay, so that nothing is done
 * twice for want of room.
 */
#include "lib/err.h"
#include "store/store_impl.h"

#define DROPS_A_TURN 256

/* The row that the statement stands on. */
static int take_row(struct store_call *c, sqlite3_stmt *st)
{
    struct store_once *o = c->once;
    bool same = sqlite3_column_bytes(st, 0) == sizeof o->request &&
                memcmp(sqlite3_column_blob(st, 0), o->request, sizeof o->request) == 0;
    o->state = same ? (enum store_once_state)sqlite3_column_int(st, 2) : STORE_ONCE_OTHER;
    if (o->state != STORE_ONCE_ANSWERED)
        return 0;
    o->status = sqlite3_column_int(st, 3);
    copy_column(st, 4, o->type, sizeof o->type);
    size_t len = (size_t)sqlite3_column_bytes(st, 6),
           head_len = (size_t)sqlite3_column_int64(st, 5);
    if (c->borrow && !c->borrow(len))
        return EAGAIN;
    c->borrowed = c->borrow ? len : 0;
    o->answer = malloc(len + 1);
    if (!o->answer || head_len > len)
        return o->answer ? EIO : ENOMEM;
    if (len)
        memcpy(o->answer, sqlite3_column_blob(st, 6), len);
    o->head_len = head_len;
    o->answer_len = len;
    return 0;
}

static int drop(struct store *s, const char *key, const char *name)
{
    sqlite3_stmt *st = store_statement(s, ST_ONCE_DROP);
    bind_text(st, 1, key);
    bind_text(st, 2, name);
    return store_step(s, st);
}

static int put(struct store *s, struct store_call *c, int64_t now_ms)
{
    sqlite3_stmt *st = store_statement(s, ST_ONCE_PUT);
    bind_text(st, 1, c->key);
    bind_text(st, 2, c->once->name);
    (void)sqlite3_bind_blob(st, 3, c->once->request, sizeof c->once->request, SQLITE_STATIC);
    (void)sqlite3_bind_int64(st, 4, now_ms);
    (void)sqlite3_bind_int(st, 5, c->once->whole);
    c->once->state = STORE_ONCE_NEW;
    s->wrote_once = true;
    return store_step(s, st);
}

static int64_t oldest_ms(struct store *s, int64_t now_ms)
{
    (void)pthread_mutex_lock(&s->lock);
    uint64_t age_s = s->settings.once_age_s;
    (void)pthread_mutex_unlock(&s->lock);
    return age_s && age_s < INT64_MAX / 1000 ? now_ms - (int64_t)age_s * 1000 : INT64_MIN;
}

int store_once_begin(struct store *s, struct store_call *c)
{
    sqlite3_stmt *st = store_statement(s, ST_ONCE_GET);
    int64_t now_ms = store_now_ms();
    c->once->answer = NULL;
    c->once->head_len = c->once->answer_len = 0;
    bind_text(st, 1, c->key);
    bind_text(st, 2, c->once->name);
    int error = found(s, sqlite3_step(st));
    bool old = error == 0 && sqlite3_column_int(st, 2) != STORE_ONCE_OPEN &&
               sqlite3_column_int64(st, 1) < oldest_ms(s, now_ms);
    if (error == 0 && !old)
        error = take_row(c, st);
    bool absent = error == ENOENT;
    (void)sqlite3_reset(st);
    if (error && !absent) {
        free(ptr_take(&c->once->answer));
        return error;
    }
    if (old)
        error = drop(s, c->key, c->once->name);
    if (absent || (old && error == 0))
        error = put(s, c, now_ms);
    return error;
}

int store_once_end(struct store *s, struct store_call *c)
{
    const struct store_once *o = c->once;
    s->wrote_once = true;
    if (o->state == STORE_ONCE_NEW)
        return drop(s, c->key, o->name);
    bool kept = o->state == STORE_ONCE_ANSWERED;
    sqlite3_stmt *st = store_statement(s, ST_ONCE_END);
    bind_text(st, 1, c->key);
    bind_text(st, 2, o->name);
    (void)sqlite3_bind_int(st, 3, (int)o->state);
    (void)sqlite3_bind_int(st, 4, o->status);
    bind_text(st, 5, kept ? o->type : "");
    (void)sqlite3_bind_int64(st, 6, kept ? (sqlite3_int64)o->head_len : 0);
    (void)sqlite3_bind_blob64(st, 7, kept && o->answer ? o->answer : "", kept ? o->answer_len : 0,
                              SQLITE_STATIC);
    return store_step(s, st);
}

int store_once_end_with(struct store *s, struct store_call *c)
{
    int error = store_once_end(s, c);
    return error ? error : sqlite3_changes(s->db) ? 0 : ESTALE;
}

int store_once_lose(struct store *s, struct err *err)
{
    char text[128];
    (void)snprintf(text, sizeof text,
                   "DELETE FROM once WHERE state = %d AND whole;"
                   "UPDATE once SET state = %d WHERE state = %d",
                   STORE_ONCE_OPEN, STORE_ONCE_LOST, STORE_ONCE_OPEN);
    if (sqlite3_exec(s->db, text, NULL, NULL, NULL) != SQLITE_OK)
        return err_set(err, "state_dir: store.db: %s", sqlite3_errmsg(s->db));
    return 0;
}

/* ---- retention --------------------------------------------------------------------------------
 */

static int read_totals(struct store *s, uint64_t *ret_names, uint64_t *ret_bytes)
{
    sqlite3_stmt *st = store_statement(s, ST_ONCE_TOTALS);
    int error = found(s, sqlite3_step(st));
    *ret_names = (uint64_t)sqlite3_column_int64(st, 0);
    *ret_bytes = (uint64_t)sqlite3_column_int64(st, 1);
    (void)sqlite3_reset(st);
    return error;
}

int store_once_retain(struct store *s, const struct store_settings *set, int64_t now_ms)
{
    sqlite3_stmt *st = store_statement(s, ST_ONCE_EXPIRE);
    (void)sqlite3_bind_int64(st, 1, oldest_ms(s, now_ms));
    int error = store_step(s, st);
    for (int i = 0; error == 0 && i < DROPS_A_TURN; i++) {
        uint64_t names = 0, bytes = 0;
        error = read_totals(s, &names, &bytes);
        bool many = set->once_max && names > set->once_max;
        bool large = set->once_bytes_max && bytes > set->once_bytes_max;
        if (error || (!many && !large))
            return error;
        error =
            store_step(s, store_statement(s, many ? ST_ONCE_DROP_OLDEST : ST_ONCE_EMPTY_OLDEST));
        if (error == 0 && sqlite3_changes(s->db) == 0)
            return 0; /* all of them are under way */
    }
    return error;
}
