/* SPDX-License-Identifier: Apache-2.0 */
/* store/usage - what the runs of each key took, a row for each day.
 *
 * In the store's thread. Sums come from the frontend's threads about once a second and are added to
 * what is there; they are not synced for their own sake.
 */
#include "store/store_impl.h"

#define KEYS_LOOKED_AT_MAX 1000u /* in one call, of those that have nothing in these days, too */
#define DAY_MS 86400000
#define SUM_MAX (1ull << 53) /* a sum that overflows is no integer, and its row takes no more */

int store_usage_add(struct store *s, struct store_call *c)
{
    int error = 0;
    for (size_t i = 0; error == 0 && i < c->usages->count; i++) {
        const struct store_usage *u = &c->usages->at[i];
        const uint64_t values[] = {u->runs, u->jobs, u->cpu_us, u->wall_us, u->output_bytes};
        sqlite3_stmt *st = store_statement(s, ST_USAGE_ADD);
        bind_text(st, 1, u->key);
        (void)sqlite3_bind_int64(st, 2, u->day);
        for (int k = 0; k < (int)ARRAY_LEN(values); k++)
            (void)sqlite3_bind_int64(st, 3 + k,
                                     (sqlite3_int64)(values[k] < SUM_MAX ? values[k] : SUM_MAX));
        (void)sqlite3_bind_int64(st, 8, (sqlite3_int64)SUM_MAX);
        error = store_step(s, st);
    }
    return error;
}

static int add_row(struct store_usages *u, size_t *room, const char *key, sqlite3_stmt *st)
{
    if (u->count == *room) {
        size_t more = *room ? *room * 2 : 32;
        void *at = realloc(u->at, more * sizeof *u->at);
        if (!at)
            return ENOMEM;
        u->at = at;
        *room = more;
    }
    struct store_usage *row = &u->at[u->count++];
    *row = (struct store_usage){.day = sqlite3_column_int64(st, 0),
                                .runs = (uint64_t)sqlite3_column_int64(st, 1),
                                .jobs = (uint64_t)sqlite3_column_int64(st, 2),
                                .cpu_us = (uint64_t)sqlite3_column_int64(st, 3),
                                .wall_us = (uint64_t)sqlite3_column_int64(st, 4),
                                .output_bytes = (uint64_t)sqlite3_column_int64(st, 5)};
    (void)snprintf(row->key, sizeof row->key, "%s", key);
    return 0;
}

static int get_of(struct store *s, struct store_usages *u, size_t *room, const char *key)
{
    sqlite3_stmt *st = store_statement(s, ST_USAGE_GET);
    int rc, error = 0;
    bind_text(st, 1, key);
    (void)sqlite3_bind_int64(st, 2, u->from);
    (void)sqlite3_bind_int64(st, 3, u->to);
    while (error == 0 && (rc = sqlite3_step(st)) == SQLITE_ROW)
        error = add_row(u, room, key, st);
    if (error == 0 && rc != SQLITE_DONE)
        error = store_errno(s, rc);
    (void)sqlite3_reset(st);
    return error;
}

/* The first key from `key` on, or behind it, into the same place. */
static int find_key(struct store *s, enum store_statement which, char key[STORE_KEY_MAX + 1])
{
    sqlite3_stmt *st = store_statement(s, which);
    bind_text(st, 1, key);
    int error = found(s, sqlite3_step(st));
    char next[STORE_KEY_MAX + 1];
    if (error == 0)
        copy_column(st, 0, next, sizeof next);
    (void)sqlite3_reset(st);
    if (error == 0)
        memcpy(key, next, sizeof next);
    return error;
}

/* A page of keys: each is asked for its days alone, so that nothing of other days is read. */
static int get_all(struct store *s, struct store_usages *u, size_t *room)
{
    size_t keys = 0;
    int error = find_key(s, ST_USAGE_KEY_FROM, u->next);
    for (size_t looked = 0; error == 0; looked++) {
        size_t before = u->count;
        if (keys == u->limit || looked == KEYS_LOOKED_AT_MAX) {
            u->more = true;
            return 0;
        }
        error = get_of(s, u, room, u->next);
        keys += u->count > before;
        if (error == 0)
            error = find_key(s, ST_USAGE_KEY_AFTER, u->next);
    }
    return error == ENOENT ? 0 : error;
}

int store_usage_get(struct store *s, struct store_call *c)
{
    struct store_usages *u = c->usages;
    size_t room = 0;
    u->at = NULL;
    u->count = 0;
    u->more = false;
    int error = u->all ? get_all(s, u, &room) : get_of(s, u, &room, c->key);
    if (error)
        free(ptr_take(&u->at));
    return error;
}

/* Once a day is enough. */
int store_usage_retain(struct store *s, int64_t now_ms)
{
    int64_t day = now_ms / DAY_MS;
    if (day == s->usage_day)
        return 0;
    sqlite3_stmt *st = store_statement(s, ST_USAGE_EXPIRE);
    (void)sqlite3_bind_int64(st, 1, day - STORE_USAGE_DAYS);
    int error = store_step(s, st);
    if (error == 0)
        s->usage_day = day;
    return error;
}
