/* SPDX-License-Identifier: Apache-2.0 */
/* t/lib/store_help - a store in a directory of its own, its calls done at once, and questions to
 * its database; for t/unit/store_*. */
#pragma once
#include "lib/err.h"
#include "lib/fd.h"
#include "store/store_impl.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

static char dir_path[64];
static int dir_fd = -1;
static const char *store_place; /* where it is; NULL: in memory, where syncs cost nothing */

static inline void remove_below(int fd)
{
    DIR *dir = fdopendir(openat(fd, ".", O_RDONLY | O_DIRECTORY));
    struct dirent *e;
    while (dir && (e = readdir(dir))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (unlinkat(fd, e->d_name, 0) < 0) {
            int below = openat(fd, e->d_name, O_RDONLY | O_DIRECTORY);
            remove_below(below);
            (void)close(below);
            (void)unlinkat(fd, e->d_name, AT_REMOVEDIR);
        }
    }
    (void)closedir(dir);
}

/* An empty one, the same each time. */
static inline void new_directory(void)
{
    const char *const places[] = {store_place ? store_place : "/dev/shm", "/tmp"};
    if (dir_fd >= 0)
        remove_below(dir_fd);
    for (size_t i = 0; dir_fd < 0 && i < ARRAY_LEN(places); i++) {
        (void)snprintf(dir_path, sizeof dir_path, "%s/brood-store-XXXXXX", places[i]);
        if (mkdtemp(dir_path))
            dir_fd = open(dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
}

static inline void remove_directory(void)
{
    remove_below(dir_fd);
    (void)rmdir(dir_path);
}

static inline struct store *open_store(const struct store_settings *set)
{
    struct store *s = NULL;
    struct err err = {0};
    if (store_open(dir_fd, set, &s, &err) < 0)
        printf("# %s\n", err.text);
    return s;
}

/* One call, done at once, without the thread. */
static inline int now(struct store *s, struct store_call *c)
{
    c->next = NULL;
    store_turn(s, c);
    return c->error;
}

/* The only number of a query. */
static inline long long ask(struct store *s, const char *sql)
{
    sqlite3_stmt *st = NULL;
    long long n = -1;
    if (sqlite3_prepare_v2(s->db, sql, -1, &st, NULL) == SQLITE_OK &&
        sqlite3_step(st) == SQLITE_ROW)
        n = sqlite3_column_int64(st, 0);
    (void)sqlite3_finalize(st);
    return n;
}

/* ---- requests that may come again ---- */

static inline struct store_once once_of(const char *name, const char *request)
{
    struct store_once o = {.state = STORE_ONCE_OTHER};
    (void)snprintf(o.name, sizeof o.name, "%s", name);
    (void)snprintf((char *)o.request, sizeof o.request, "%s", request);
    return o;
}

static inline int once_call(struct store *s, enum store_verb verb, const char *key,
                            struct store_once *o)
{
    struct store_call c = {.verb = verb, .once = o};
    (void)snprintf(c.key, sizeof c.key, "%s", key);
    return now(s, &c);
}

/* What is said to the one who begins; -1: it failed. The answer is freed by the next call. */
static inline int begin(struct store *s, const char *key, const char *name, const char *request)
{
    static struct store_once o;
    free(o.answer);
    o = once_of(name, request);
    int error = once_call(s, STORE_ONCE_BEGIN, key, &o);
    return error ? -1 : (int)o.state;
}

static inline int end(struct store *s, const char *key, const char *name,
                      enum store_once_state state, const char *answer)
{
    struct store_once o = once_of(name, "");
    char *copy = strdup(answer);
    o.state = state;
    o.status = 200;
    (void)snprintf(o.type, sizeof o.type, "text/plain");
    o.answer = copy;
    o.answer_len = strlen(answer);
    int error = once_call(s, STORE_ONCE_END, key, &o);
    free(copy);
    return error;
}
