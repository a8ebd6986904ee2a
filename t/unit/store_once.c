/* SPDX-License-Identifier: Apache-2.0 */
/* t/unit/store_once - a request is begun once, its answer is kept as it was, a job comes with its
 * answer or not at all, bounds hold without anything being done twice; usage adds up by key and
 * day; runs are listed newest first; a database of before has all of it.
 */
#include "lib/tap.h"
#include "t/lib/store_help.h"
#include <poll.h>

static const struct store_settings no_limits;

static void test_once(void)
{
    struct store_once o;
    new_directory();
    struct store *s = open_store(&no_limits);
    if (!ok(s != NULL, "a store"))
        return;
    ok(begin(s, "k", "n", "r") == STORE_ONCE_NEW, "a name that nobody had");
    ok(begin(s, "k", "n", "r") == STORE_ONCE_OPEN, "again: it is under way");
    ok(begin(s, "k", "n", "other") == STORE_ONCE_OTHER, "with another request: no");
    ok(begin(s, "k2", "n", "other") == STORE_ONCE_NEW, "another key has names of its own");
    o = once_of("n", "");
    o.state = STORE_ONCE_ANSWERED;
    o.status = 202;
    (void)snprintf(o.type, sizeof o.type, "application/json");
    char answer[] = "a\0b\0body \0of bytes";
    o.answer = answer;
    o.head_len = 4;
    o.answer_len = sizeof answer;
    ok(once_call(s, STORE_ONCE_END, "k", &o) == 0, "its answer");
    o = once_of("n", "r");
    ok(once_call(s, STORE_ONCE_BEGIN, "k", &o) == 0 && o.state == STORE_ONCE_ANSWERED &&
           o.status == 202 && strcmp(o.type, "application/json") == 0 && o.head_len == 4 &&
           o.answer_len == sizeof answer && memcmp(o.answer, answer, sizeof answer) == 0,
       "comes back byte for byte");
    free(o.answer);
    ok(begin(s, "k", "n", "other") == STORE_ONCE_OTHER, "but to nobody who asks something else");
    ok(begin(s, "k", "m", "r") == STORE_ONCE_NEW && end(s, "k", "m", STORE_ONCE_NEW, "") == 0 &&
           begin(s, "k", "m", "other") == STORE_ONCE_NEW,
       "what is forgotten is free for anything");
    ok(begin(s, "k", "u", "r") == STORE_ONCE_NEW && end(s, "k", "u", STORE_ONCE_UNKEPT, "x") == 0 &&
           begin(s, "k", "u", "r") == STORE_ONCE_UNKEPT,
       "over, without its answer");
    ok(end(s, "k", "u", STORE_ONCE_ANSWERED, "late") == 0 &&
           begin(s, "k", "u", "r") == STORE_ONCE_UNKEPT,
       "what has ended does not end again");
    store_close(s);
    s = open_store(&no_limits);
    ok(begin(s, "k", "n", "r") == STORE_ONCE_ANSWERED &&
           begin(s, "k", "u", "r") == STORE_ONCE_UNKEPT,
       "after the next start it is all there");
    ok(begin(s, "k2", "n", "other") == STORE_ONCE_LOST &&
           begin(s, "k", "m", "other") == STORE_ONCE_LOST,
       "what was under way is lost");
    ok(begin(s, "k2", "n", "r") == STORE_ONCE_OTHER, "and still somebody's");
    store_close(s);
}

/* ---- a job and the answer that promises it ----------------------------------------------------
 */

static bool counts(struct store *s);

static struct store_once whole_of(const char *name)
{
    struct store_once o = once_of(name, "r");
    o.whole = true;
    return o;
}

static int put_job(struct store *s, const char *id, const char *name)
{
    static char body[] = "{}", answer[] = "accepted";
    struct store_job j = {.body = body, .body_len = 2};
    struct store_once o = whole_of(name);
    struct store_call c = {.verb = STORE_PUT_JOB, .job = &j, .once = &o};
    (void)snprintf(j.id, sizeof j.id, "%s", id);
    (void)snprintf(j.key, sizeof j.key, "k");
    (void)snprintf(c.key, sizeof c.key, "k");
    o.state = STORE_ONCE_ANSWERED;
    o.status = 202;
    o.answer = answer;
    o.answer_len = sizeof answer - 1;
    return now(s, &c);
}

static void test_jobs(void)
{
    struct store_once o = whole_of("n");
    new_directory();
    struct store *s = open_store(&no_limits);
    ok(once_call(s, STORE_ONCE_BEGIN, "k", &o) == 0 && o.state == STORE_ONCE_NEW, "begun");
    ok(put_job(s, "job_1", "n") == 0 && begin(s, "k", "n", "r") == STORE_ONCE_ANSWERED,
       "a job and its answer, by one call");
    ok(put_job(s, "job_2", "n") == ESTALE && put_job(s, "job_3", "x") == ESTALE &&
           ask(s, "SELECT count(*) FROM jobs") == 1,
       "a name that is not open brings no second job");
    o = whole_of("twin");
    ok(once_call(s, STORE_ONCE_BEGIN, "k", &o) == 0 && put_job(s, "job_1", "twin") == EIO &&
           begin(s, "k", "twin", "r") == STORE_ONCE_OPEN,
       "a job that cannot be stored leaves the name as it was");
    ok(begin(s, "k", "plain", "r") == STORE_ONCE_NEW, "one of the other sort");
    store_close(s);
    s = open_store(&no_limits);
    ok(begin(s, "k", "n", "r") == STORE_ONCE_ANSWERED, "the next start: what is there is there");
    ok(begin(s, "k", "plain", "r") == STORE_ONCE_LOST, "of the other sort nobody knows");
    ok(begin(s, "k", "twin", "other") == STORE_ONCE_NEW, "and what was not done is free");
    ok(counts(s), "counts are right");
    store_close(s);
}

static bool counts(struct store *s)
{
    return ask(s, "SELECT names - (SELECT count(*) FROM once) FROM once_totals") == 0 &&
           ask(s, "SELECT bytes - (SELECT total(length(answer)) FROM once) FROM once_totals") ==
               0 &&
           ask(s,
               "SELECT count(*) FROM once_shares s WHERE names != (SELECT count(*) FROM once o "
               "WHERE o.key = s.key) OR bytes != (SELECT total(length(answer)) FROM once o WHERE "
               "o.key = s.key)") == 0;
}

static void done(struct store *s, const char *key, const char *name, const char *answer)
{
    if (begin(s, key, name, "r") == STORE_ONCE_NEW)
        (void)end(s, key, name, STORE_ONCE_ANSWERED, answer);
}

static void test_bounds(void)
{
    struct store_settings set = {.once_max = 3};
    char name[16];
    new_directory();
    struct store *s = open_store(&set);
    done(s, "small", "first", "x");
    for (int i = 0; i < 5; i++) {
        (void)snprintf(name, sizeof name, "n%d", i);
        done(s, "large", name, "x");
        (void)ask(s, "SELECT 1");
    }
    ok(ask(s, "SELECT count(*) FROM once") == 3 && begin(s, "small", "first", "r") == 1 &&
           begin(s, "large", "n4", "r") == 1,
       "too many: of the key that has most, the oldest went");
    ok(begin(s, "large", "n0", "r") == STORE_ONCE_NEW, "and its name is new");
    for (int i = 10; i < 15; i++) {
        (void)snprintf(name, sizeof name, "n%d", i);
        (void)begin(s, "large", name, "r");
    }
    ok(ask(s, "SELECT count(*) FROM once WHERE state = 0") == 6, "what is under way never goes");
    ok(ask(s, "SELECT count(*) FROM once WHERE state != 0") == 0,
       "when that is all that the key with most has, another's goes");
    ok(counts(s), "counts are right");
    store_close(s);

    set = (struct store_settings){.once_bytes_max = 10};
    new_directory();
    s = open_store(&set);
    done(s, "small", "first", "123");
    done(s, "large", "a", "12345");
    done(s, "large", "b", "12");
    ok(begin(s, "large", "a", "r") == STORE_ONCE_ANSWERED, "to the last byte");
    done(s, "large", "c", "1");
    ok(begin(s, "large", "a", "r") == STORE_ONCE_UNKEPT && begin(s, "large", "b", "r") == 1 &&
           begin(s, "large", "c", "r") == 1 && begin(s, "small", "first", "r") == 1,
       "one more: the oldest answer of the key that has most goes, not its name");
    done(s, "large", "d", "12345678901");
    ok(begin(s, "large", "d", "r") == STORE_ONCE_UNKEPT, "one that is too large alone");
    ok(counts(s), "counts are right");
    store_close(s);

    set = (struct store_settings){.once_age_s = 100};
    new_directory();
    s = open_store(&set);
    done(s, "k", "old", "x");
    (void)begin(s, "k", "open", "r");
    ok(ask(s, "UPDATE once SET created_ms = created_ms - 101000") < 0 &&
           begin(s, "k", "open", "r") == STORE_ONCE_OPEN &&
           begin(s, "k", "old", "other") == STORE_ONCE_NEW,
       "what is too old is new, unless it is under way");
    store_turn(s, NULL);
    ok(ask(s, "SELECT count(*) FROM once") == 2, "two rows");
    (void)end(s, "k", "old", STORE_ONCE_UNKEPT, "");
    (void)ask(s, "UPDATE once SET created_ms = created_ms - 101000");
    store_turn(s, NULL);
    ok(ask(s, "SELECT count(*) FROM once") == 1 && counts(s), "and goes without being asked for");
    store_close(s);
}

/* ---- usage ------------------------------------------------------------------------------------
 */

static int add(struct store *s, const char *key, int64_t day, uint64_t runs)
{
    struct store_usage u = {.day = day, .runs = runs, .jobs = 1, .cpu_us = 10, .output_bytes = 7};
    struct store_usages all = {.at = &u, .count = 1};
    struct store_call c = {.verb = STORE_ADD_USAGE, .usages = &all};
    (void)snprintf(u.key, sizeof u.key, "%s", key);
    return now(s, &c);
}

static size_t get(struct store *s, struct store_usages *u, const char *key, int64_t from,
                  int64_t to)
{
    struct store_call c = {.verb = STORE_GET_USAGE, .usages = u};
    (void)snprintf(c.key, sizeof c.key, "%s", key);
    free(u->at);
    u->from = from;
    u->to = to;
    return now(s, &c) == 0 ? u->count : 999;
}

static void test_usage(void)
{
    struct store_usages u = {.limit = 2};
    int64_t today = store_now_ms() / 86400000;
    new_directory();
    struct store *s = open_store(&no_limits);
    ok(add(s, "a", today, 1) == 0 && add(s, "a", today, 2) == 0 && add(s, "a", today - 1, 4) == 0 &&
           add(s, "b", today, 8) == 0 && add(s, "", today, 16) == 0 &&
           add(s, "c", today - 500, 32) == 0 && add(s, "d", today - 1, 64) == 0,
       "sums are added");
    ok(get(s, &u, "a", today - 1, today) == 2 && u.at[0].day == today - 1 && u.at[0].runs == 4 &&
           u.at[1].runs == 3 && u.at[1].jobs == 2 && u.at[1].cpu_us == 20 &&
           u.at[1].output_bytes == 14 && strcmp(u.at[1].key, "a") == 0,
       "by day");
    ok(get(s, &u, "a", today, today) == 1 && get(s, &u, "x", today, today) == 0,
       "of these days alone, of this key alone");
    bool added = true;
    for (int i = 0; i < 3; i++)
        added = added && add(s, "b", today - 300, 1ull << 62) == 0;
    ok(added && add(s, "b", today - 300, UINT64_MAX) == 0 &&
           get(s, &u, "b", today - 300, today - 300) == 1 && u.at[0].runs == 1ull << 53 &&
           u.at[0].jobs == 4,
       "a sum ends where it cannot grow, and takes more");
    u.all = true;
    ok(get(s, &u, "", today - 1, today) == 3 && u.more && strcmp(u.at[0].key, "") == 0 &&
           strcmp(u.at[2].key, "a") == 0 && strcmp(u.next, "b") == 0,
       "of all: two keys a page");
    ok(get(s, &u, "", today - 1, today) == 2 && !u.more && strcmp(u.at[0].key, "b") == 0 &&
           strcmp(u.at[1].key, "d") == 0,
       "the rest, without whom these days know nothing of");
    store_turn(s, NULL);
    ok(ask(s, "SELECT count(*) FROM usage WHERE key = 'c'") == 0 &&
           ask(s, "SELECT count(*) FROM usage") == 6,
       "what is older than 400 days goes");
    store_close(s);
    s = open_store(&no_limits);
    u.all = false;
    ok(get(s, &u, "b", today, today) == 1 && u.at[0].runs == 8, "the next start has it");
    free(u.at);
    store_close(s);
}

/* ---- lists ------------------------------------------------------------------------------------
 */

static int put_run(struct store *s, const char *id, const char *key, int64_t ms, const char *status)
{
    char json[200];
    struct store_call c = {.verb = STORE_PUT_RUN, .run = {.created_ms = ms, .json = json}};
    (void)snprintf(c.run.id, sizeof c.run.id, "%s", id);
    (void)snprintf(c.run.key, sizeof c.run.key, "%s", key);
    (void)snprintf(c.run.status, sizeof c.run.status, "%s", status);
    c.run.head_len =
        (size_t)snprintf(json, sizeof json, "\"id\":\"%s\",\"status\":\"%s\"", id, status);
    c.run.json_len =
        c.run.head_len + strlen(strncat(json, ",\"stdout\":\"secret\"", 100) + c.run.head_len);
    return now(s, &c);
}

static bool lists(struct store *s, struct store_list *l, const char *key, const char *text)
{
    struct store_call c = {.verb = STORE_LIST_RUNS, .runs = l};
    char ids[300] = "";
    (void)snprintf(c.key, sizeof c.key, "%s", key);
    free(l->text);
    if (now(s, &c) != 0)
        return false;
    l->text = realloc(l->text, l->len + 1); /* as a string */
    l->text[l->len] = 0;
    for (const char *at = l->text; at && (at = strstr(at, "\"id\":\"")); at++)
        (void)snprintf(ids + strlen(ids), sizeof ids - strlen(ids), "%.5s ", at + 6);
    if (strcmp(ids, text) != 0 || (l->text && memmem(l->text, l->len, "secret", 6)))
        printf("# %s: %.*s\n", ids, (int)l->len, l->text ? l->text : "");
    return strcmp(ids, text) == 0 && !(l->text && memmem(l->text, l->len, "secret", 6));
}

static void test_lists(void)
{
    struct store_list l = {.limit = 2, .before_ms = INT64_MAX};
    new_directory();
    struct store *s = open_store(&no_limits);
    ok(lists(s, &l, "k", "") && !l.more, "no runs");
    ok(put_run(s, "run_a", "k", 10, "failed") == 0 &&
           put_run(s, "run_c", "k", 20, "succeeded") == 0 &&
           put_run(s, "run_b", "k", 20, "failed") == 0 &&
           put_run(s, "run_x", "o", 15, "failed") == 0 &&
           put_run(s, "run_d", "k", 30, "succeeded") == 0,
       "some");
    ok(lists(s, &l, "k", "run_d run_c ") && l.more, "two of them, the newest first");
    ok(put_run(s, "run_e", "k", 40, "failed") == 0 && lists(s, &l, "k", "run_b run_a ") && !l.more,
       "the rest, whatever came meanwhile; of one time, by name; none of another key");
    l = (struct store_list){.limit = 5, .before_ms = INT64_MAX, .status = "failed", .text = l.text};
    ok(lists(s, &l, "k", "run_e run_b run_a "), "those that failed");
    l = (struct store_list){.limit = 5, .before_ms = INT64_MAX, .text = l.text};
    ok(put_run(s, "run_e", "k", 40, "oom") == 0 &&
           lists(s, &l, "k", "run_e run_d run_c run_b run_a ") &&
           strstr(l.text, "{\"id\":\"run_e\",\"status\":\"oom\"},{"),
       "one that was put again is as it is now");
    ok(put_run(s, "run_f", "k", 50, "open") == 0 && put_run(s, "run_g", "k", 60, "open") == 0 &&
           put_run(s, "run_g", "k", 60, "succeeded") == 0 &&
           lists(s, (l.limit = 1, l.before_ms = INT64_MAX, &l), "k", "run_g "),
       "one that is under way is not listed, until it is put again");
    store_close(s);
    s = open_store(&no_limits);
    l = (struct store_list){.limit = 2, .before_ms = INT64_MAX, .text = l.text};
    ok(lists(s, &l, "k", "run_g run_f ") &&
           ask(s, "SELECT count(*) FROM runs WHERE id = 'run_f' AND status = 'failed'") == 1,
       "or a start finds that nobody works on it");
    free(l.text);
    store_close(s);
}

static char said[16];

static void on_list(struct store_call *c)
{
    free(c->list->at);
    said[strlen(said)] = 'l';
}

static void on_run(struct store_call *c)
{
    (void)c;
    said[strlen(said)] = 'r';
}

/* They wait when the thread starts. */
static void test_turns(void)
{
    struct store_job_list jobs[4] = {{.limit = 1}, {.limit = 1}, {.limit = 1}, {.limit = 1}};
    struct store_call lists[4], runs[2];
    struct store_mailbox box;
    struct err err = {0};
    new_directory();
    struct store *s = open_store(&no_limits);
    ok(s && store_mailbox_init(&box, s, &err) == 0, "a mailbox");
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        lists[i] = (struct store_call){
            .verb = STORE_LIST_JOBS, .list = &jobs[i], .fd = -1, .on_done = on_list};
        (void)store_submit(&box, &lists[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(runs); i++) {
        runs[i] = (struct store_call){.verb = STORE_GET_RUN, .fd = -1, .on_done = on_run};
        (void)store_submit(&box, &runs[i]);
    }
    ok(store_start(s, &err) == 0, "the thread");
    while (strlen(said) < ARRAY_LEN(lists) + ARRAY_LEN(runs)) {
        struct pollfd p = {.fd = box.fd, .events = POLLIN};
        (void)poll(&p, 1, -1);
        store_collect(&box);
    }
    ok(strcmp(said, "rrllll") == 0, "lists let others go first: %s", said);
    store_mailbox_fini(&box);
    store_close(s);
}

/* A database of version 2, with a run in it. */
static void test_migration(void)
{
    struct store_list l = {.limit = 5, .before_ms = INT64_MAX};
    static const char before[] =
        "DROP TABLE deliveries; DROP TABLE attempts; DROP TABLE jobs; DROP TABLE once; DROP TABLE "
        "once_totals; DROP TABLE "
        "once_shares; DROP TABLE usage;"
        "DROP INDEX runs_open; DROP INDEX runs_listed; DROP INDEX runs_by_status; ALTER TABLE runs "
        "DROP COLUMN status;"
        "ALTER TABLE runs DROP COLUMN head_len; CREATE INDEX runs_of_key ON runs (key, created_ms);"
        "INSERT INTO runs VALUES ('run_1', 'k', 5, "
        "CAST('\"id\":\"run_1\",\"status\":\"timeout\",\"language\":\"c\","
        "\"x\":\"\\\",\\\"stdout\\\":\",\"stdout\":\"secret\"' AS BLOB));"
        "INSERT INTO runs VALUES ('run_2', 'k', 4, CAST('no json' AS BLOB));"
        "PRAGMA user_version = 2";
    new_directory();
    struct store *s = open_store(&no_limits);
    char *error = NULL;
    ok(sqlite3_exec(s->db, before, NULL, NULL, &error) == SQLITE_OK, "as it was: %s",
       error ? error : "");
    store_close(s);
    s = open_store(&no_limits);
    ok(s && lists(s, &l, "k", "run_1 ") && strstr(l.text, "\\\",\\\"stdout\\\":\"}"),
       "a run of before is listed, as far as it can be");
    (void)snprintf(l.status, sizeof l.status, "timeout");
    l.before_ms = INT64_MAX;
    ok(s && lists(s, &l, "k", "run_1 "), "by its status, too");
    ok(s && begin(s, "k", "n", "r") == STORE_ONCE_NEW, "and all that is new is there");
    free(l.text);
    store_close(s);
}

int main(void)
{
    test_once();
    test_jobs();
    test_bounds();
    test_usage();
    test_lists();
    test_turns();
    test_migration();
    remove_directory();
    return tap_done();
}
