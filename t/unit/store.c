/* SPDX-License-Identifier: Apache-2.0 */
/* t/unit/store - what was told is there after a kill at any step, and nothing half; equal contents
 * are one file; the oldest goes first; shares hold; two mailboxes at once each get their own.
 */
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/tap.h"
#include "store/store_impl.h"
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char dir_path[64];
static int dir_fd = -1;
static const struct store_settings no_limits;

/* ---- helpers ----------------------------------------------------------------------------------
 */

static void remove_below(int fd)
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

static void new_directory(void)
{
    if (dir_fd >= 0)
        remove_below(dir_fd);
    else if (mkdtemp(memcpy(dir_path, "/tmp/brood-store-XXXXXX", 24)))
        dir_fd = open(dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static struct store *open_store(const struct store_settings *set)
{
    struct store *s = NULL;
    struct err err = {0};
    if (store_open(dir_fd, set, &s, &err) < 0)
        printf("# %s\n", err.text);
    return s;
}

/* One call, done at once, without the thread. */
static int now(struct store *s, struct store_call *c)
{
    c->next = NULL;
    store_turn(s, c);
    return c->error;
}

static int put(struct store *s, const char *key, const char *data, bool upload,
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

static int get(struct store *s, const char *key, const char *id, char *ret, size_t room)
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

static int put_run(struct store *s, const char *id, const char *key, int64_t created_ms,
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

static int get_run(struct store *s, const char *id, const char *key, struct store_call *c)
{
    *c = (struct store_call){.verb = STORE_GET_RUN};
    (void)snprintf(c->run.id, sizeof c->run.id, "%s", id);
    (void)snprintf(c->run.key, sizeof c->run.key, "%s", key);
    return now(s, c);
}

static void free_run(struct store_call *c)
{
    free(c->run.json);
    free(c->run.artifacts);
}

static size_t files_below_objects(void)
{
    size_t n = 0;
    DIR *dir = fdopendir(openat(dir_fd, "objects", O_RDONLY | O_DIRECTORY));
    struct dirent *e;
    while (dir && (e = readdir(dir)))
        n += e->d_name[0] != '.' || strlen(e->d_name) > 2;
    (void)closedir(dir);
    return n;
}

/* The only number of a query. */
static long long ask(struct store *s, const char *sql)
{
    sqlite3_stmt *st = NULL;
    long long n = -1;
    if (sqlite3_prepare_v2(s->db, sql, -1, &st, NULL) == SQLITE_OK &&
        sqlite3_step(st) == SQLITE_ROW)
        n = sqlite3_column_int64(st, 0);
    (void)sqlite3_finalize(st);
    return n;
}

/* Counts are what they count, each row has its whole file, and there is no other file. */
static bool is_consistent(struct store *s)
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

/* ---- verbs ------------------------------------------------------------------------------------
 */

static void test_objects(void)
{
    struct store_object a, b, c, d;
    char text[64];
    new_directory();
    struct store *s = open_store(&no_limits);
    if (!ok(s != NULL, "a store is made"))
        return;
    ok(put(s, "k", "hello", true, &a) == 0 && put(s, "k", "hello", true, &b) == 0 &&
           put(s, "other", "hello", true, &c) == 0,
       "contents are put");
    ok(strcmp(a.sha256, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824") == 0,
       "%s is the hash", a.sha256);
    ok(strcmp(a.id, b.id) != 0 && files_below_objects() == 1, "two names, one file");
    ok(get(s, "k", a.id, text, sizeof text) == 0 && strcmp(text, "hello") == 0, "it is read back");
    ok(get(s, "other", a.id, text, sizeof text) == ENOENT, "not by another key");
    ok(put(s, "k", "", true, &d) == 0 && get(s, "k", d.id, text, sizeof text) == 0 && !*text,
       "an empty content");
    struct store_call drop = {.verb = STORE_DROP_OBJECT, .object = a, .key = "other"};
    ok(now(s, &drop) == ENOENT, "another key cannot drop it");
    (void)snprintf(drop.key, sizeof drop.key, "k");
    ok(now(s, &drop) == 0 && now(s, &drop) == ENOENT, "its own can, once");
    drop.object = b;
    ok(now(s, &drop) == 0 && files_below_objects() == 2, "the file stays for the other name");
    drop.object = c;
    (void)snprintf(drop.key, sizeof drop.key, "other");
    ok(now(s, &drop) == 0 && files_below_objects() == 1, "and goes with the last one");
    ok(is_consistent(s), "counts are right");
    store_close(s);
}

static int put_fd(struct store *s, int fd, uint64_t bytes_max)
{
    struct store_call c = {.verb = STORE_PUT_OBJECT, .fd = fd, .bytes_max = bytes_max};
    return now(s, &c);
}

static void test_sources(void)
{
    int fds[2], file = openat(dir_fd, "source", O_RDWR | O_CREAT, 0600);
    new_directory();
    struct store *s = open_store(&no_limits);
    ok(pipe(fds) == 0 && put_fd(s, fds[0], 100) == EINVAL, "a pipe is not read");
    ok(put_fd(s, dir_fd, 100) == EINVAL, "nor a directory");
    ok(ftruncate(file, 1ll << 40) == 0 && put_fd(s, file, 1 << 20) == EFBIG,
       "a sparse terabyte is too much");
    ok(ftruncate(file, 1 << 20) == 0 && put_fd(s, file, (1 << 20) - 1) == EFBIG, "a byte too much");
    ok(lseek(file, 77, SEEK_SET) == 77 && put_fd(s, file, 1 << 20) == 0,
       "the whole, wherever it is");
    ok(ask(s, "SELECT size FROM objects") == 1 << 20, "all of it");
    ok(files_below_objects() == 1, "what failed left nothing");
    (void)close(fds[0]);
    (void)close(fds[1]);
    (void)close(file);
    store_close(s);
}

static void test_runs(void)
{
    struct store_object a[2];
    struct store_call c;
    char text[64];
    new_directory();
    struct store *s = open_store(&no_limits);
    ok(put(s, "k", "one", false, &a[0]) == 0 && put(s, "k", "two", false, &a[1]) == 0,
       "artifacts first");
    ok(put_run(s, "run_1", "k", 1000, "\"a\":1", a, 2) == 0, "then their run");
    ok(put_run(s, "run_2", "k", 1000, "", a, 1) == EINVAL, "no two runs have the same artifact");
    ok(get_run(s, "run_2", "k", &c) == ENOENT, "and that run is not there");
    ok(put_run(s, "run_1", "other", 1000, "x", NULL, 0) == EEXIST, "another key cannot replace it");
    ok(get_run(s, "run_1", "other", &c) == ENOENT, "nor read it");
    bool read = get_run(s, "run_1", "k", &c) == 0;
    ok(read && strcmp(c.run.json, "\"a\":1") == 0 && c.run.created_ms == 1000 &&
           c.run.artifact_count == 2 && strcmp(c.run.artifacts[1].id, a[1].id) == 0 &&
           strcmp(c.run.artifacts[1].sha256, a[1].sha256) == 0 && c.run.artifacts[1].size == 3,
       "its own reads all of it, in order");
    free_run(&c);
    ok(put_run(s, "run_1", "k", 2000, "\"b\":22", NULL, 0) == 0 &&
           get_run(s, "run_1", "k", &c) == 0 && c.run.json_len == 6 && c.run.artifact_count == 2,
       "again: the json is another");
    free_run(&c);
    store_close(s);
    s = open_store(&no_limits);
    ok(get_run(s, "run_1", "k", &c) == 0 && c.run.artifact_count == 2 &&
           get(s, "k", a[0].id, text, sizeof text) == 0 && strcmp(text, "one") == 0,
       "after the next start, too");
    free_run(&c);
    ok(put(s, "k", "stray", false, &a[0]) == 0, "an artifact whose run does not come");
    store_close(s);
    s = open_store(&no_limits);
    ok(is_consistent(s) && files_below_objects() == 2, "goes with the next start");
    store_close(s);
}

static void test_ids(void)
{
    char id[STORE_ID_ROOM], other[STORE_ID_ROOM];
    store_make_id("file_", id);
    store_make_id("file_", other);
    ok(strlen(id) == 31 && store_id_is_valid("file_", id, 31) && strcmp(id, other) != 0, "%s", id);
    ok(!store_id_is_valid("run_", id, 31) && !store_id_is_valid("file_", id, 30), "not a run's");
    id[30] = '/';
    ok(!store_id_is_valid("file_", id, 31), "nor with a slash");
}

/* ---- limits -----------------------------------------------------------------------------------
 */

static void test_shares(void)
{
    const struct store_settings set = {.key_bytes_max = 10, .key_files_max = 3};
    struct store_object o, first;
    new_directory();
    struct store *s = open_store(&set);
    ok(put(s, "k", "12345", true, &first) == 0 && put(s, "k", "123456", true, &o) == EDQUOT,
       "more bytes than the share: refused");
    ok(put(s, "k", "67890", true, &o) == 0, "to the last byte");
    ok(put(s, "k", "1", true, &o) == EDQUOT, "not one more");
    ok(put(s, "other", "12345", true, &o) == 0, "another key has its own");
    ok(put(s, "k", "artifact", false, &o) == 0, "artifacts do not count");
    struct store_call drop = {.verb = STORE_DROP_OBJECT, .object = first, .key = "k"};
    ok(now(s, &drop) == 0 && put(s, "k", "1", true, &o) == 0 && put(s, "k", "2", true, &o) == 0 &&
           put(s, "k", "3", true, &o) == EDQUOT,
       "the number of files is a share as well");
    store_close(s);
}

static void test_retention(void)
{
    struct store_settings set = {.runs_max = 2};
    struct store_object o, old;
    struct store_call c;
    int64_t t = store_now_ms();
    char text[64];
    new_directory();
    struct store *s = open_store(&set);
    ok(put(s, "k", "artifact", false, &old) == 0 &&
           put_run(s, "run_1", "k", t - 3, "", &old, 1) == 0 &&
           put_run(s, "run_3", "k", t - 1, "", NULL, 0) == 0 &&
           put_run(s, "run_2", "k", t - 2, "", NULL, 0) == 0,
       "three runs, two may be");
    ok(get_run(s, "run_1", "k", &c) == ENOENT && get(s, "k", old.id, text, sizeof text) == ENOENT &&
           files_below_objects() == 0,
       "the oldest went, and what it left behind");
    ok(get_run(s, "run_2", "k", &c) == 0 && (free_run(&c), true), "the others did not");
    set = (struct store_settings){.age_s = 100};
    store_set(s, &set);
    ok(put_run(s, "run_4", "k", t - 101000, "", NULL, 0) == 0 &&
           get_run(s, "run_4", "k", &c) == ENOENT,
       "too old");
    set = (struct store_settings){.bytes_max = 100};
    store_set(s, &set);
    ok(put(s, "k", "12345678901234567890123456789012345678901234567890", true, &old) == 0 &&
           put(s, "k", "1234567890123456789012345678901234567890123456789.", true, &o) == 0 &&
           get(s, "k", old.id, text, sizeof text) == 0,
       "a hundred bytes");
    ok(get_run(s, "run_2", "k", &c) == 0 && (free_run(&c), true), "runs of no bytes beside them");
    ok(put(s, "k", "!", true, &o) == 0 && get_run(s, "run_2", "k", &c) == ENOENT &&
           get_run(s, "run_3", "k", &c) == ENOENT &&
           get(s, "k", old.id, text, sizeof text) == ENOENT &&
           get(s, "k", o.id, text, sizeof text) == 0,
       "one more: the oldest go, run or file, until it fits");
    ok(is_consistent(s), "counts are right");
    store_close(s);
}

/* A key that fills the store loses its own, however old those of others are. */
static void test_fair_retention(void)
{
    struct store_settings set = {.runs_max = 3, .bytes_max = 50};
    struct store_object theirs, first, o;
    struct store_call c;
    int64_t t = store_now_ms();
    char text[64];
    new_directory();
    struct store *s = open_store(&set);
    ok(put(s, "victim", "a file", true, &theirs) == 0 &&
           put_run(s, "run_v", "victim", t - 9000, "a run", NULL, 0) == 0,
       "one key has a little");
    ok(put_run(s, "run_1", "k", t - 3, "", NULL, 0) == 0 &&
           put_run(s, "run_2", "k", t - 2, "", NULL, 0) == 0 &&
           put_run(s, "run_3", "k", t - 1, "", NULL, 0) == 0 &&
           get_run(s, "run_1", "k", &c) == ENOENT,
       "another has too many runs: its oldest goes");
    ok(put(s, "k", "12345678901234567890", true, &first) == 0 &&
           put(s, "k", "1234567890123456789.", true, &o) == 0 &&
           put(s, "k", "123456789012345678..", true, &o) == 0 &&
           get(s, "k", first.id, text, sizeof text) == ENOENT &&
           get(s, "k", o.id, text, sizeof text) == 0,
       "and too many bytes: likewise");
    ok(get(s, "victim", theirs.id, text, sizeof text) == 0 &&
           get_run(s, "run_v", "victim", &c) == 0 && (free_run(&c), true),
       "what the first key has is older, and stays");
    ok(is_consistent(s), "counts are right");
    store_close(s);
}

/* ---- the thread -------------------------------------------------------------------------------
 */

#define CALLERS 2
#define EACH 300

static void on_done(struct store_call *c)
{
    c->fd = -7;
}

static void *call_often(void *data)
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

static void test_thread(void)
{
    pthread_t threads[CALLERS];
    struct err err;
    void *good;
    new_directory();
    struct store *s = open_store(&no_limits);
    ok(store_start(s, &err) == 0, "the thread starts");
    for (int i = 0; i < CALLERS; i++)
        (void)pthread_create(&threads[i], NULL, call_often, s);
    for (int i = 0; i < CALLERS; i++) {
        (void)pthread_join(threads[i], &good);
        ok((long)good == EACH, "each caller gets all of its own, in order");
    }
    store_close(s);
    s = open_store(&no_limits);
    ok(ask(s, "SELECT count(*) FROM files") == CALLERS * EACH && is_consistent(s), "all are there");
    store_close(s);
}

static void test_bound(void)
{
    static struct store_call calls[STORE_CALLS_MAX + 1];
    struct store_mailbox m;
    struct err err;
    unsigned taken = 0;
    new_directory();
    struct store *s = open_store(&no_limits); /* and no thread */
    ok(store_mailbox_init(&m, s, &err) == 0, "a mailbox");
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        calls[i] = (struct store_call){.verb = STORE_GET_OBJECT, .on_done = on_done};
        taken += store_submit(&m, &calls[i]) == 0;
    }
    ok(taken == STORE_CALLS_MAX, "%u calls wait, one more is refused", taken);
    ok(store_start(s, &err) == 0, "now the thread");
    store_close(s);
    store_collect(&m);
    ok(calls[0].fd == -7 && calls[taken - 1].fd == -7 && calls[0].error == ENOENT,
       "what was handed over is done before the end");
    store_mailbox_fini(&m);
}

/* ---- damage -----------------------------------------------------------------------------------
 */

static void expect_refusal(const char *what, const char *text)
{
    struct store *s = NULL;
    struct err err = {0};
    int before = fd_count_open(), r = store_open(dir_fd, &no_limits, &s, &err);
    ok(r < 0 && strstr(err.text, text) && fd_count_open() == before, "%s: %s", what, err.text);
}

static void spoil(off_t at, const char *bytes, size_t len)
{
    int fd = openat(dir_fd, "store.db", O_WRONLY);
    (void)!pwrite(fd, bytes, len, at);
    (void)close(fd);
}

static void make_one(void)
{
    struct store_object o;
    new_directory();
    struct store *s = open_store(&no_limits);
    (void)put(s, "k", "content", true, &o);
    store_close(s);
}

static void test_damage(void)
{
    char noise[8192];
    memset(noise, 'x', sizeof noise);
    make_one();
    struct store *s = open_store(&no_limits);
    pid_t pid = fork();
    if (pid == 0) {
        struct store *second = NULL;
        struct err err = {0};
        _exit(store_open(dir_fd, &no_limits, &second, &err) < 0 && strstr(err.text, "in use") ? 7
                                                                                              : 1);
    }
    int status = 0;
    (void)waitpid(pid, &status, 0);
    ok(WIFEXITED(status) && WEXITSTATUS(status) == 7, "a second process is refused");
    store_close(s);
    spoil(0, noise, 100);
    expect_refusal("a spoilt header", "store.db");
    make_one();
    spoil(4096 + 8, noise, 4000);
    expect_refusal("a spoilt page", "damaged");
    make_one();
    (void)unlinkat(dir_fd, "store.db", 0);
    (void)unlinkat(dir_fd, "store.db-wal", 0);
    expect_refusal("no database, but contents", "missing");
    ok(files_below_objects() == 1, "which stay");
    (void)close(openat(dir_fd, "store.db", O_CREAT | O_WRONLY, 0600));
    expect_refusal("an empty one", "missing");
    make_one();
    s = open_store(&no_limits);
    ok(sqlite3_exec(s->db, "PRAGMA user_version = 1000", NULL, NULL, NULL) == SQLITE_OK, "later");
    store_close(s);
    expect_refusal("of a later version", "later brood");
    new_directory();
    ok(symlinkat("/tmp/brood-nowhere", dir_fd, "store.db") == 0, "somebody left a link");
    expect_refusal("a link", "store.db");
    ok(access("/tmp/brood-nowhere", F_OK) < 0, "is not followed");
}

/* ---- kill -9 ----------------------------------------------------------------------------------
 */

#define KILL_KEY "k"

/* What the child does, telling (on fd) what it was told. One byte each: so far, all is durable. */
static void work(int tell)
{
    const struct store_settings set = {.runs_max = 2};
    struct store *s = open_store(&set);
    char id[STORE_ID_ROOM], text[64];
    for (int i = 0; s && i < 4; i++) {
        struct store_object o, upload;
        (void)snprintf(text, sizeof text, "artifact %d", i % 3);
        (void)snprintf(id, sizeof id, "run_%d", i);
        if (put(s, KILL_KEY, text, false, &o) || put(s, KILL_KEY, "upload", true, &upload) ||
            put_run(s, id, KILL_KEY, 1000 + i, id, &o, 1))
            _exit(9);
        (void)!write(tell, "1", 1);
    }
    store_close(s);
    (void)!write(tell, "2", 1);
}

static bool survives(int told)
{
    struct store *s = open_store(&no_limits);
    struct store_call c;
    char id[STORE_ID_ROOM];
    bool good = s && is_consistent(s);
    for (int i = told > 2 ? told - 2 : 0; good && i < told && i < 4; i++) {
        (void)snprintf(id, sizeof id, "run_%d", i);
        int error = get_run(s, id, KILL_KEY, &c);
        /* A turn that was not told of may have gone on to drop the oldest. */
        good = error == 0 ? strcmp(c.run.json, id) == 0 && c.run.artifact_count == 1
                          : i < told - 1 || told == 0;
        free_run(&c);
    }
    good = good && ask(s, "SELECT count(*) FROM files WHERE upload") >= (told < 4 ? told : 4);
    store_close(s);
    return good;
}

/* Kills at the nth system call. -1: it ended before. */
static int killed_at(int nth, int *ret_told)
{
    int pipe_fds[2], status, calls = 0;
    char byte;
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        (void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        (void)raise(SIGSTOP);
        work(pipe_fds[1]);
        _exit(0);
    }
    (void)close(pipe_fds[1]);
    (void)waitpid(pid, &status, 0);
    while (WIFSTOPPED(status) && calls < nth) {
        (void)ptrace(PTRACE_SYSCALL, pid, NULL, NULL);
        (void)waitpid(pid, &status, 0);
        calls++;
    }
    bool ended = WIFEXITED(status);
    (void)kill(pid, SIGKILL);
    if (!ended)
        (void)waitpid(pid, &status, 0);
    for (*ret_told = 0; read(pipe_fds[0], &byte, 1) == 1;)
        *ret_told += byte == '1';
    (void)close(pipe_fds[0]);
    return ended ? -1 : 0;
}

static void test_kill_at_each_step(void)
{
    int told = 0, bad = 0, n = 1, step = getenv("ALL_STEPS") ? 1 : 5;
    for (;; n += step) {
        new_directory();
        int r = killed_at(n, &told);
        if (!survives(told)) {
            printf("# killed at system call %d, told of %d\n", n, told);
            bad++;
        }
        if (r < 0)
            break;
    }
    ok(n > 500 && told == 4, "%d stops of system calls, told of %d", n, told);
    ok(bad == 0, "killed at any of them: what was told is there, and nothing half");
}

static void test_kill_at_random(void)
{
    int bad = 0, cut = 0;
    new_directory();
    for (int i = 0; i < 200; i++) {
        int status;
        pid_t pid = fork();
        if (pid == 0) {
            struct store *s = open_store(&(struct store_settings){.runs_max = 3});
            struct err err;
            if (!s || store_start(s, &err) < 0)
                _exit(9);
            (void)call_often(s);
            _exit(0);
        }
        struct timespec pause = {.tv_nsec = (i * 7919L) % 20000000};
        (void)nanosleep(&pause, NULL);
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, &status, 0);
        cut += WIFSIGNALED(status);
        struct store *s = open_store(&no_limits);
        if (!s || !is_consistent(s)) {
            printf("# round %d\n", i);
            bad++;
        }
        store_close(s);
    }
    ok(cut > 150 && bad == 0, "killed at random, %d of 200 times: nothing half", cut);
}

/* ---- jobs -------------------------------------------------------------------------------------
 */

static int job_call(struct store *s, enum store_verb verb, struct store_job *j, const char *output)
{
    struct store_call c = {.verb = verb, .job = j, .fd = -1, .data = output};
    c.len = output ? strlen(output) : 0;
    return now(s, &c);
}

static struct store_job new_job(const char *key, bool claimed)
{
    static char body[] = "{}";
    struct store_job j = {.state = claimed ? STORE_JOB_RUNNING : STORE_JOB_QUEUED,
                          .created_ms = store_now_ms(),
                          .body = body,
                          .body_len = 2};
    store_make_id(STORE_JOB_PREFIX, j.id);
    (void)snprintf(j.key, sizeof j.key, "%s", key);
    (void)snprintf(j.language, sizeof j.language, "bash");
    return j;
}

static int finish_job(struct store *s, const char *id, unsigned attempts, const char *output)
{
    static char doc[] = "\"error\":null", preview[] = "out";
    struct store_job j = {.attempts = attempts,
                          .state = STORE_JOB_COMPLETED,
                          .preview = preview,
                          .preview_len = 3,
                          .doc = doc,
                          .doc_len = sizeof doc - 1};
    (void)snprintf(j.id, sizeof j.id, "%s", id);
    return job_call(s, STORE_FINISH_JOB, &j, output);
}

static enum store_job_state state_of(struct store *s, const char *id, const char *key,
                                     unsigned *ret_attempts)
{
    struct store_job j = {.state = STORE_JOB_QUEUED};
    (void)snprintf(j.id, sizeof j.id, "%s", id);
    (void)snprintf(j.key, sizeof j.key, "%s", key);
    if (job_call(s, STORE_GET_JOB, &j, NULL) != 0)
        return STORE_JOB_STATES;
    free(j.preview);
    free(j.doc);
    if (ret_attempts)
        *ret_attempts = j.attempts;
    return j.state;
}

static int read_output(struct store *s, const char *id, char *ret, size_t room)
{
    struct store_call c = {.verb = STORE_GET_OUTPUT, .any_key = true, .fd = -1};
    (void)snprintf(c.object.id, sizeof c.object.id, "%s", id);
    int error = now(s, &c);
    ssize_t n = error ? 0 : pread(c.fd, ret, room - 1, 0);
    ret[n > 0 ? n : 0] = 0;
    if (error == 0)
        (void)close(c.fd);
    return error;
}

static void test_job_states(void)
{
    char text[32];
    unsigned attempts = 0;
    new_directory();
    struct store *s = open_store(&no_limits);
    struct store_job j = new_job("k", false), other;
    ok(job_call(s, STORE_PUT_JOB, &j, NULL) == 0 && j.seq > 0, "a job is stored");
    ok(state_of(s, j.id, "k", &attempts) == STORE_JOB_QUEUED && attempts == 0, "queued");
    ok(state_of(s, j.id, "x", NULL) == STORE_JOB_STATES, "another key's is unknown");
    ok(read_output(s, j.id, text, sizeof text) == EAGAIN, "without an output");
    other = j;
    other.body = NULL;
    ok(job_call(s, STORE_CLAIM_JOB, &other, NULL) == 0 && other.attempts == 1 && other.body &&
           strcmp(other.body, "{}") == 0,
       "claimed: the first attempt, with its request");
    free(other.body);
    ok(job_call(s, STORE_UNCLAIM_JOB, &other, NULL) == 0, "the attempt did not begin");
    ok(state_of(s, j.id, "k", &attempts) == STORE_JOB_RUNNING && attempts == 0,
       "it does not count, and the state does not go back");
    ok(job_call(s, STORE_UNCLAIM_JOB, &other, NULL) == ESTALE, "once");
    for (unsigned i = 1; i <= 2; i++) {
        ok(job_call(s, STORE_CLAIM_JOB, &other, NULL) == 0 && other.attempts == i, "claim %u", i);
        free(other.body);
    }
    ok(finish_job(s, j.id, 1, "first") == ESTALE, "an attempt that was given up cannot end it");
    ok(read_output(s, j.id, text, sizeof text) == EAGAIN, "nor leave an output");
    ok(finish_job(s, j.id, 2, "second") == 0, "the last one can");
    ok(finish_job(s, j.id, 2, "again") == ESTALE, "once");
    ok(read_output(s, j.id, text, sizeof text) == 0 && strcmp(text, "second") == 0,
       "and its output stays: '%s'", text);
    ok(job_call(s, STORE_CLAIM_JOB, &other, NULL) == ENOENT, "an ended one is not claimed");
    ok(job_call(s, STORE_CANCEL_JOB, &other, NULL) == EALREADY, "nor cancelled");
    other = new_job("k", true);
    ok(job_call(s, STORE_PUT_JOB, &other, NULL) == 0 && finish_job(s, other.id, 1, "") == 0,
       "one that wrote nothing");
    char path[STORE_ID_ROOM + 16];
    (void)snprintf(path, sizeof path, "outputs/%s.txt", other.id);
    ok(unlinkat(dir_fd, path, 0) == 0 && read_output(s, other.id, text, sizeof text) == 0 && !*text,
       "has an empty output, whatever a power cut took");
    other = new_job("k", true);
    ok(job_call(s, STORE_PUT_JOB, &other, NULL) == 0 &&
           state_of(s, other.id, "k", &attempts) == STORE_JOB_RUNNING && attempts == 1,
       "stored as claimed: the first attempt");
    ok(job_call(s, STORE_CANCEL_JOB, &other, NULL) == 0 && other.cancelled, "marked");
    store_close(s);
}

static void count_job(void *user, const struct store_job *job)
{
    unsigned *n = user;
    n[0] += job->cancelled;
    n[1]++;
}

static void test_job_restart(void)
{
    unsigned n[2] = {0};
    struct err err;
    char stray[64];
    int outputs = openat(dir_fd, "outputs", O_RDONLY | O_DIRECTORY);
    struct store_job j = new_job("k", false);
    (void)snprintf(stray, sizeof stray, "%s.txt", j.id);
    (void)close(openat(outputs, stray, O_WRONLY | O_CREAT, 0600));
    (void)close(openat(outputs, ".new-77", O_WRONLY | O_CREAT, 0600));
    struct store *s = open_store(&no_limits);
    ok(faccessat(outputs, stray, F_OK, 0) < 0 && faccessat(outputs, ".new-77", F_OK, 0) < 0,
       "a start removes what no ended job names");
    ok(store_each_waiting_job(s, count_job, n, &err) == 0 && n[0] == 1 && n[1] == 1,
       "and finds those that have not ended");
    (void)close(outputs);
    store_close(s);
}

static void test_job_lists(void)
{
    char ids[7][STORE_ID_ROOM];
    unsigned seen = 0, pages = 0;
    new_directory();
    struct store *s = open_store(&no_limits);
    for (int i = 0; i < 7; i++) {
        struct store_job j = new_job(i == 3 ? "other" : "k", true);
        ok(job_call(s, STORE_PUT_JOB, &j, NULL) == 0, "job %d", i);
        memcpy(ids[i], j.id, sizeof ids[i]);
        if (i % 2)
            (void)finish_job(s, j.id, 1, "");
    }
    struct store_job_list l = {.state = -1, .limit = 4};
    do {
        struct store_call c = {.verb = STORE_LIST_JOBS, .list = &l, .key = "k", .fd = -1};
        ok(now(s, &c) == 0, "a page of %zu", l.count);
        seen += (unsigned)l.count;
        pages++;
        if (pages == 1)
            ok(strcmp(l.at[0].id, ids[6]) == 0, "the latest first");
        free(l.at);
        l.before = l.next;
    } while (l.next && pages < 9);
    ok(seen == 6 && pages == 2, "all of the key's, %u on %u pages", seen, pages);
    l = (struct store_job_list){.state = STORE_JOB_COMPLETED, .limit = 4};
    struct store_call c = {.verb = STORE_LIST_JOBS, .list = &l, .key = "k", .fd = -1};
    ok(now(s, &c) == 0 && l.count == 2 && l.next == 0, "by state");
    free(l.at);
    const struct store_settings few = {.runs_max = 1};
    store_set(s, &few);
    store_turn(s, NULL);
    unsigned left = 0;
    for (int i = 0; i < 7; i++)
        left += state_of(s, ids[i], i == 3 ? "other" : "k", NULL) == STORE_JOB_COMPLETED;
    char text[8];
    ok(left == 1 && state_of(s, ids[6], "k", NULL) == STORE_JOB_RUNNING,
       "of ended jobs the oldest go, of those that have not ended none");
    ok(read_output(s, ids[1], text, sizeof text) == ENOENT, "with their outputs");
    store_close(s);
}

int main(void)
{
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    test_ids();
    test_objects();
    test_sources();
    test_runs();
    test_shares();
    test_retention();
    test_fair_retention();
    test_job_states();
    test_job_restart();
    test_job_lists();
    test_thread();
    test_bound();
    test_damage();
    test_kill_at_each_step();
    test_kill_at_random();
    remove_below(dir_fd);
    (void)rmdir(dir_path);
    return tap_done();
}
