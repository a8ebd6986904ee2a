/* SPDX-License-Identifier: Apache-2.0 */
/* store/list - the runs of a key, newest first, a page at a time.
 *
 * In the store's thread. An index says which; of a run's json only the head is read, by its place
 * in the file (sqlite3_blob), so that outputs of megabytes are not touched for a list of their
 * runs.
 */
#include "lib/buf.h"
#include "store/store_impl.h"

#define HEAD_BYTES_MAX 65536u

static int add_head(struct store *s, sqlite3_int64 row, size_t len, struct buf *to,
                    sqlite3_blob **blob)
{
    if (len > HEAD_BYTES_MAX || !buf_reserve(to, len + 3))
        return len > HEAD_BYTES_MAX ? EIO : ENOMEM;
    int rc = *blob ? sqlite3_blob_reopen(*blob, row)
                   : sqlite3_blob_open(s->db, "main", "runs", "json", row, 0, blob);
    (void)buf_add(to, to->len ? ",{" : "{", to->len ? 2 : 1);
    if (rc == SQLITE_OK && len)
        rc = sqlite3_blob_read(*blob, to->data + to->len, (int)len, 0);
    to->len += len;
    (void)buf_add(to, "}", 1);
    return rc == SQLITE_OK ? 0 : store_errno(s, rc);
}

/* The caller must be able to hold it: asked for what all heads take together. */
static int fill(struct store *s, struct store_call *c, sqlite3_stmt *st, struct buf *to)
{
    struct store_list *list = c->runs;
    sqlite3_blob *blob = NULL;
    int rc, error = 0;
    for (size_t i = 0; error == 0 && (rc = sqlite3_step(st)) == SQLITE_ROW; i++) {
        size_t len = (size_t)sqlite3_column_int64(st, 3);
        if (i == list->limit) {
            list->more = true;
            break;
        }
        copy_column(st, 1, list->before_id, sizeof list->before_id);
        list->before_ms = sqlite3_column_int64(st, 2);
        if (c->borrow && !c->borrow(len + 3))
            error = EAGAIN;
        else
            c->borrowed += c->borrow ? len + 3 : 0;
        if (error == 0)
            error = add_head(s, sqlite3_column_int64(st, 0), len, to, &blob);
    }
    if (error == 0 && rc != SQLITE_ROW && rc != SQLITE_DONE)
        error = store_errno(s, rc);
    (void)sqlite3_blob_close(blob);
    return error;
}

int store_list_runs(struct store *s, struct store_call *c)
{
    struct store_list *list = c->runs;
    struct buf text = {.cap = STORE_JSON_MAX};
    sqlite3_stmt *st = store_statement(s, *list->status ? ST_RUN_LIST_STATUS : ST_RUN_LIST);
    char before[STORE_ID_ROOM];
    memcpy(before, list->before_id, sizeof before);
    list->more = false;
    bind_text(st, 1, c->key);
    (void)sqlite3_bind_int64(st, 2, list->before_ms);
    bind_text(st, 3, before);
    (void)sqlite3_bind_int64(st, 4, (sqlite3_int64)list->limit + 1);
    if (*list->status)
        bind_text(st, 5, list->status);
    int error = fill(s, c, st, &text);
    (void)sqlite3_reset(st);
    list->text = error ? NULL : text.data;
    list->len = error ? 0 : text.len;
    if (error)
        buf_fini(&text);
    return error;
}
