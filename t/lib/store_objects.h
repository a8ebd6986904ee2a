/* SPDX-License-Identifier: Apache-2.0 */
/* t/lib/store_objects - objects and runs of a store, in calls; what holds whenever nobody is at
 * work; and one who calls often. For t/unit/store and store_killed. */
#pragma once
#include "t/lib/store_help.h"
#include <poll.h>

static const struct store_settings no_limits;

static inline int put(struct store *s, const char *key, const char *data, bool upload,
                      struct store_object *ret)
{
    struct store_call c = {.verb = STORE_PUT_OBJECT, .upload = upload, .bytes_max = 1 << 20};
    c.data = data;
    c.len = strlen(data);
    (void)snprintf(c.key, sizeof c.key, "%s", key);
    (void)snprintf(c.object.name, sizeof c.object.name, "a name");
    int error = now(s, &c);
    *ret = c.object;
    return error;
}

static inline int get(struct store *s, const char *key, const char *id, char *ret, size_t room)
{
    struct store_call c = {.verb = STORE_GET_OBJECT};
    (void)snprintf(c.key, sizeof c.key, "%s", key);
    (void)snprintf(c.object.id, sizeof c.object.id, "%s", id);
    int error = now(s, &c);
    if (error)
        return error;
    ssize_t n = pread(c.fd, ret, room - 1, 0);
    ret[n > 0 ? n : 0] = 0;
    (void)close(c.fd);
    return 0;
}

static inline int put_run(struct store *s, const char *id, const char *key, int64_t created_ms,
                          const char *json, struct store_object *artifacts, size_t count)
{
    struct store_call c = {.verb = STORE_PUT_RUN};
    (void)snprintf(c.run.id, sizeof c.run.id, "%s", id);
    (void)snprintf(c.run.key, sizeof c.run.key, "%s", key);
    c.run.created_ms = created_ms;
    c.run.json = strdup(json);
    c.run.json_len = strlen(json);
    c.run.artifacts = artifacts;
    c.run.artifact_count = count;
    int error = now(s, &c);
    free(c.run.json);
    return error;
}

static inline int get_run(struct store *s, const char *id, const char *key, struct store_call *c)
{
    *c = (struct store_call){.verb = STORE_GET_RUN};
    (void)snprintf(c->run.id, sizeof c->run.id, "%s", id);
    (void)snprintf(c->run.key, sizeof c->run.key, "%s", key);
    return now(s, c);
}

static inline void free_run(struct store_call *c)
{
    free(c->run.json);
    free(c->run.artifacts);
}

static inline size_t files_below_objects(void)
{
    size_t n = 0;
    DIR *dir = fdopendir(openat(dir_fd, "objects", O_RDONLY | O_DIRECTORY));
    struct dirent *e;
    while (dir && (e = readdir(dir)))
        n += e->d_name[0] != '.' || strlen(e->d_name) > 2;
    (void)closedir(dir);
    return n;
}

/* Counts are what they count, each row has its whole file, and there is no other file. */
static inline bool is_consistent(struct store *s)
{
    bool counts =
        ask(s, "SELECT count(*) FROM objects o WHERE refs != (SELECT count(*) FROM files f WHERE "
               "f.sha256 = o.sha256)") == 0 &&
        ask(s, "SELECT bytes - (SELECT coalesce(sum(size), 0) FROM objects) - (SELECT "
               "coalesce(sum(length(json)), 0) FROM runs) FROM totals") == 0 &&
        ask(s, "SELECT runs - (SELECT count(*) FROM runs) FROM totals") == 0 &&
        ask(s, "SELECT count(*) FROM shares s WHERE files != (SELECT count(*) FROM files f WHERE "
               "f.key = s.key AND upload)") == 0 &&
        ask(s, "SELECT count(*) FROM holdings h WHERE runs != (SELECT count(*) FROM runs r WHERE "
               "r.key = h.key) OR bytes != (SELECT coalesce(sum(length(json)), 0) FROM runs r "
               "WHERE r.key = h.key) + (SELECT coalesce(sum(size), 0) FROM files f WHERE "
               "f.key = h.key)") == 0 &&
        ask(s, "SELECT count(*) FROM files WHERE run_id IS NULL AND NOT upload") == 0;
    sqlite3_stmt *st = NULL;
    bool whole =
        sqlite3_prepare_v2(s->db, "SELECT sha256, size FROM objects", -1, &st, NULL) == SQLITE_OK;
    while (whole && sqlite3_step(st) == SQLITE_ROW) {
        struct store_sha256 sha256;
        int fd = -1;
        memcpy(&sha256, sqlite3_column_blob(st, 0), sizeof sha256);
        whole = store_object_get(s, &sha256, (uint64_t)sqlite3_column_int64(st, 1), &fd) == 0;
        fd_close(&fd);
    }
    (void)sqlite3_finalize(st);
    return counts && whole &&
           (long long)files_below_objects() == ask(s, "SELECT count(*) FROM objects");
}

/* ---- through the thread -----------------------------------------------------------------------
 */

#define CALLERS 2
#define EACH 300

static inline void on_done(struct store_call *c)
{
    c->fd = -7;
}

static inline void *call_often(void *data)
{
    struct store *s = data;
    struct store_mailbox m;
    struct err err;
    static struct store_call calls[CALLERS][EACH];
    static int next;
    int mine = __atomic_fetch_add(&next, 1, __ATOMIC_SEQ_CST) % CALLERS;
    static char texts[CALLERS][EACH][16];
    long good = 0;
    if (store_mailbox_init(&m, s, &err) < 0)
        return NULL;
    for (int i = 0; i < EACH; i++) {
        struct store_call *c = &calls[mine][i];
        (void)snprintf(texts[mine][i], 16, "%d/%d", mine, i);
        *c = (struct store_call){.verb = STORE_PUT_OBJECT, .data = texts[mine][i], .bytes_max = 99};
        c->len = strlen(c->data);
        c->upload = true;
        c->on_done = on_done;
        if (store_submit(&m, c) < 0)
            return NULL;
    }
    for (int done = 0; done < EACH;) {
        struct pollfd p = {.fd = m.fd, .events = POLLIN};
        (void)poll(&p, 1, -1);
        store_collect(&m);
        for (; done < EACH && calls[mine][done].fd == -7; done++)
            good += calls[mine][done].error == 0 &&
                    calls[mine][done].object.size == strlen(texts[mine][done]);
    }
    store_mailbox_fini(&m);
    return (void *)good;
}
