/* SPDX-License-Identifier: Apache-2.0 */
/* t/unit/store - equal contents are one file; the oldest goes first; shares hold; two mailboxes at
 * once each get their own.
 */
#include "lib/tap.h"
#include "t/lib/store_objects.h"

/* ---- verbs ------------------------------------------------------------------------------------
 */

static void test_objects(void)
{
    struct store_object a, b, c = {0}, d;
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
    struct store_call result = {.verb = STORE_NOTE_ATTEMPT, .on_done = on_done};
    struct store_courier courier = {.id = "dlv_none"};
    result.courier = &courier;
    ok(store_submit(&m, &result) == 0, "what became of something has room");
    ok(store_start(s, &err) == 0, "now the thread");
    store_close(s);
    store_collect(&m);
    ok(calls[0].fd == -7 && calls[taken - 1].fd == -7 && calls[0].error == ENOENT,
       "what was handed over is done before the end");
    store_mailbox_fini(&m);
}

static unsigned char done_in_order[3], done_count;

static void on_ordered(struct store_call *c)
{
    done_in_order[done_count++] = (unsigned char)c->any_key;
}

/* Behind two large uploads, a small one: the second waits for another turn. */
static void test_uploads(void)
{
    static char large[STORE_QUICK_BYTES + 1];
    struct store_call calls[3];
    struct store_mailbox m;
    struct err err;
    new_directory();
    struct store *s = open_store(&no_limits);
    ok(store_mailbox_init(&m, s, &err) == 0, "a mailbox");
    for (size_t i = 0; i < 3; i++) {
        calls[i] = (struct store_call){.verb = STORE_PUT_OBJECT,
                                       .on_done = on_ordered,
                                       .upload = true,
                                       .any_key = i == 2,
                                       .fd = -1,
                                       .data = large,
                                       .len = i == 2 ? 1 : sizeof large,
                                       .bytes_max = sizeof large};
        (void)snprintf(calls[i].object.name, sizeof calls[i].object.name, "n");
        ok(store_submit(&m, &calls[i]) == 0, "an upload");
    }
    ok(store_start(s, &err) == 0, "the thread");
    store_close(s);
    store_collect(&m);
    ok(done_count == 3 && done_in_order[0] && !calls[1].error, "large ones do not hold up a small");
    store_mailbox_fini(&m);
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
    test_thread();
    test_bound();
    test_uploads();
    remove_directory();
    return tap_done();
}
