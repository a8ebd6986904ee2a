/* SPDX-License-Identifier: Apache-2.0 */
/* t/unit/deliveries - a delivery is there when its transaction was, is claimed until it was noted
 * as over, waits for its time and for its host alone, and its log tells of each attempt.
 */
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/tap.h"
#include "store/store_impl.h"
#include <fcntl.h>

static char dir_path[] = "/tmp/brood-deliveries-XXXXXX";
static int dir_fd;
static const struct store_settings no_limits;
static struct store_courier claimed;

static struct store *open_store(const struct store_settings *set)
{
    struct store *s = NULL;
    struct err err = {0};
    if (store_open(dir_fd, set, &s, &err) < 0)
        printf("# %s\n", err.text);
    return s;
}

static void remove_store(void)
{
    static const char *const names[] = {"store.db", "store.db-wal"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        (void)unlinkat(dir_fd, names[i], 0);
    (void)unlinkat(dir_fd, "objects", AT_REMOVEDIR);
    (void)unlinkat(dir_fd, "outputs", AT_REMOVEDIR);
}

static struct store *fresh_store(void)
{
    remove_store();
    return open_store(&no_limits);
}

/* As the end of a job does it; the first job is called so, the others are numbered. */
static int put_many(struct store *s, const char *id, const char *url, int count, bool commits)
{
    bool put = true;
    int error = store_step(s, store_statement(s, ST_BEGIN));
    for (int i = 0; error == 0 && put && i < count; i++) {
        struct store_job job = {
            .key = "ann", .callback_url = url, .body = (char[]){"{}"}, .body_len = 2};
        struct store_call call = {.verb = STORE_PUT_JOB, .job = &job};
        static int number;
        (void)snprintf(job.id, sizeof job.id, i ? "%.20s%d" : "%.20s", id, ++number);
        error = store_put_job(s, &call);
        if (error == 0)
            error = store_put_delivery(s, job.id, &put);
        if (error == 0 && put != (url != NULL))
            error = EINVAL;
    }
    return error ? error : store_step(s, store_statement(s, commits ? ST_COMMIT : ST_ROLLBACK));
}

static int turn(struct store *s, enum store_verb verb, struct store_courier *c, const char *key)
{
    struct store_call call = {.verb = verb, .courier = c, .fd = -1};
    (void)snprintf(call.key, sizeof call.key, "%s", key);
    store_turn(s, &call);
    return call.error;
}

/* So many at a time of one key, which has half of what all have. */
static size_t claim(struct store *s, size_t most, size_t most_host, int64_t now_ms)
{
    store_free_deliveries(&claimed);
    claimed.most = 2 * most;
    claimed.most_host = 2 * most_host;
    claimed.now_ms = now_ms;
    return turn(s, STORE_CLAIM_DELIVERIES, &claimed, "") == 0 ? claimed.count : 999;
}

static size_t count_of(const char *host)
{
    size_t n = 0;
    for (size_t i = 0; i < claimed.count; i++)
        n += strcmp(claimed.list[i].host, host) == 0;
    return n;
}

static int note(struct store *s, const char *id, enum store_delivery_state state, int64_t retry_ms,
                uint32_t status, const char *text)
{
    struct store_courier c = {.state = state, .retry_ms = retry_ms};
    c.attempt = (struct store_attempt){.started_ms = 1000, .duration_ms = 7, .status = status};
    (void)snprintf(c.id, sizeof c.id, "%s", id);
    (void)snprintf(c.attempt.error, sizeof c.attempt.error, "%s", text);
    return turn(s, STORE_NOTE_ATTEMPT, &c, "");
}

static int list(struct store *s, const char *job, const char *key, struct store_courier *ret)
{
    *ret = (struct store_courier){.count = 0};
    (void)snprintf(ret->job_id, sizeof ret->job_id, "%s", job);
    return turn(s, STORE_LIST_DELIVERIES, ret, key);
}

static void test_one(void)
{
    struct store *s = fresh_store();
    struct store_courier log;
    char id[STORE_DELIVERY_ID_ROOM];
    int64_t now = store_now_ms() + 1000;
    ok(put_many(s, "job1", "https://A.example/x", 1, false) == 0 && claim(s, 9, 9, now) == 0,
       "a transaction that is undone leaves none");
    ok(claimed.next_ms == INT64_MAX, "and nothing to wait for");
    ok(put_many(s, "job1", "https://A.example:8443/x?y", 1, true) == 0 && claim(s, 9, 9, now) == 1,
       "one that is committed leaves it");
    const struct store_delivery *d = claimed.list;
    memcpy(id, d->id, sizeof id);
    ok(strcmp(d->host, "a.example:8443") == 0 && strcmp(d->job_id, "job1") == 0 &&
           strcmp(d->url, "https://A.example:8443/x?y") == 0 && d->attempts == 0 &&
           strcmp(d->job.id, "job1") == 0 && strcmp(d->job.key, "ann") == 0 && d->job.doc &&
           store_id_is_valid(STORE_DELIVERY_PREFIX, id, strlen(id)),
       "with all that it needs");
    ok(list(s, "job1", "bob", &log) == ENOENT && list(s, "job2", "ann", &log) == ENOENT,
       "another key's, or another job's, is not seen");

    ok(note(s, id, STORE_PENDING, now + 500, 503, "") == 0 && claim(s, 9, 9, now) == 0,
       "after a failure it is not due");
    ok(claimed.next_ms == now + 500, "and it is known when it will be");
    ok(claim(s, 9, 9, now + 499) == 0 && claim(s, 9, 9, now + 500) == 1 &&
           claimed.list[0].attempts == 1 && strcmp(claimed.list[0].job.id, "job1") == 0,
       "then it is, as it was");
    store_close(s);
    s = open_store(&no_limits);
    ok(s && claim(s, 9, 9, now + 500) == 1 && strcmp(claimed.list[0].id, id) == 0,
       "also for another process: the same id");
    ok(note(s, id, STORE_DELIVERED, now, 204, "") == 0 && claim(s, 9, 9, now + 9999) == 0,
       "delivered, it is over");
    ok(note(s, id, STORE_PENDING, now, 0, "late") == ENOENT, "and stays so");
    ok(list(s, "job1", "ann", &log) == 0 && log.count == 1 && log.list[0].log_count == 2 &&
           log.list[0].state == STORE_DELIVERED && log.list[0].attempts == 2,
       "its log has both attempts");
    const struct store_attempt *a = log.list[0].log;
    ok(a[0].number == 1 && a[0].status == 503 && a[0].started_ms == 1000 && a[0].duration_ms == 7 &&
           a[1].number == 2 && a[1].status == 204,
       "with number, time and status");
    store_free_deliveries(&log);
    ok(put_many(s, "quiet", NULL, 1, true) == 0 && claim(s, 9, 9, now) == 0,
       "a job that named nobody leaves none");
    store_close(s);
}

static void test_given_up(void)
{
    struct store *s = fresh_store();
    struct store_courier log;
    int64_t now = store_now_ms() + 1000;
    (void)put_many(s, "job1", "https://a/", 1, true);
    (void)claim(s, 1, 1, now);
    ok(note(s, claimed.list[0].id, STORE_GIVEN_UP, now, 0, "Timeout was reached") == 0 &&
           claim(s, 1, 1, now) == 0 && list(s, "job1", "ann", &log) == 0 &&
           log.list[0].state == STORE_GIVEN_UP &&
           strcmp(log.list[0].log[0].error, "Timeout was reached") == 0,
       "given up is over, with the reason");
    store_free_deliveries(&log);
    store_close(s);
}

static void begin_anew(void)
{
    memset(claimed.after_key, 0, sizeof claimed.after_key);
    memset(claimed.after_hosts, 0, sizeof claimed.after_hosts);
}

static void test_turns(void)
{
    struct store *s = fresh_store();
    int64_t now = store_now_ms() + 1000;
    (void)put_many(s, "d", "https://dead/", 50, true);
    (void)put_many(s, "b", "https://b/", 3, true);
    (void)put_many(s, "c", "http://c:81/", 1, true);
    begin_anew();
    ok(claim(s, 20, 4, now) == 8 && count_of("dead") == 4 && count_of("b") == 3 &&
           count_of("c:81") == 1,
       "each host has its places");

    static char ids[STORE_DELIVERIES_MAX][STORE_DELIVERY_ID_ROOM];
    static char hosts[STORE_DELIVERIES_MAX][STORE_HOST_ROOM];
    static char keys[STORE_DELIVERIES_MAX][STORE_JOB_KEY_ROOM];
    for (size_t i = 0; i < 8; i++) {
        memcpy(ids[i], claimed.list[i].id, STORE_DELIVERY_ID_ROOM);
        (void)snprintf(hosts[i], sizeof hosts[i], "%s", claimed.list[i].host);
        (void)snprintf(keys[i], sizeof keys[i], "%s", claimed.list[i].job.key);
    }
    claimed.busy = (const char(*)[STORE_DELIVERY_ID_ROOM])ids;
    claimed.busy_hosts = (const char(*)[STORE_HOST_ROOM])hosts;
    claimed.busy_keys = (const char(*)[STORE_JOB_KEY_ROOM])keys;
    claimed.busy_count = 8;
    ok(claim(s, 20, 4, now) == 0,
       "what is under way is not claimed, nor more than there are places");
    ok(claim(s, 20, 6, now) == 2 && count_of("dead") == 2, "as many as places are left");
    (void)put_many(s, "e", "https://e/", 1, true);
    ok(claim(s, 20, 4, now) == 1 && count_of("e") == 1,
       "a host that comes later is not kept waiting");
    claimed.busy_count = 0;

    char seen[8] = "";
    begin_anew();
    for (size_t i = 0; i < 4; i++)
        if (claim(s, 1, 4, now) == 1)
            seen[i] = claimed.list[0].host[0];
    ok(strcmp(seen, "bcde") == 0, "with one place for all they take turns: %s", seen);
    ok(claim(s, 1, 4, now) == 1 && claimed.list[0].host[0] == 'b', "and round again");
    for (size_t i = 0; i < STORE_KEY_TURNS; i++)
        (void)snprintf(claimed.after_hosts[i], STORE_HOST_ROOM, "c:81");
    ok(claim(s, 20, 4, now) == 9, "from wherever it begins, it sees all");
    store_close(s);
}

static void test_many(void)
{
    struct store *s = fresh_store();
    (void)put_many(s, "j", "https://dead/", 10000, true);
    (void)put_many(s, "live", "https://live/", 1, true);
    int64_t now = store_now_ms() + 1000;
    begin_anew();
    uint64_t began = clock_now_ns();
    bool good = true;
    for (int i = 0; i < 100; i++)
        good &= claim(s, 32, 4, now) == 5 && count_of("live") == 1;
    uint64_t us = (clock_now_ns() - began) / 1000 / 100;
    ok(good, "behind 10,000 of a dead host another's is claimed at once");
    ok(us < 5000, "in a time that does not show how many they are: %llu us",
       (unsigned long long)us);
    store_close(s);
}

static void test_one_host(void)
{
    static const char *const same[] = {"https://x/",       "https://X:443/", "https://x:0443/a",
                                       "https://x.:443?q", "https://x:/",    "https://x:000443"};
    struct store *s = fresh_store();
    for (int i = 0; i < (int)ARRAY_LEN(same); i++) {
        char id[20];
        (void)snprintf(id, sizeof id, "same%d", i);
        (void)put_many(s, id, same[i], 1, true);
    }
    (void)put_many(s, "other", "https://x:80/", 1, true);
    (void)put_many(s, "six", "http://[::1]:80/", 1, true);
    begin_anew();
    ok(claim(s, 32, 2, store_now_ms() + 1000) == 4 && count_of("x") == 2 && count_of("x:80") == 1 &&
           count_of("[::1]") == 1,
       "one host and port, however it is written, has one host's places");
    store_close(s);
}

static void test_many_hosts(void)
{
    struct store *s = fresh_store();
    int claims = 0;
    bool bounded = true;
    for (int i = 0; i < 200; i++) {
        char url[40], id[20];
        (void)snprintf(id, sizeof id, "host%d", i);
        (void)snprintf(url, sizeof url, "https://h%d/", 100 + i);
        (void)put_many(s, id, url, 2, true);
    }
    int64_t now = store_now_ms() + 1000;
    (void)sqlite3_exec(s->db, "UPDATE deliveries SET next_ms = next_ms + 900000", NULL, NULL, NULL);
    (void)put_many(s, "live", "https://live/", 1, true);
    begin_anew();
    while (claims < 10 && claim(s, 32, 4, now) == 0) {
        bounded = bounded && claimed.next_ms <= now + 1000;
        claims++;
    }
    ok(claims == 3 && bounded && claimed.count == 1 && count_of("live") == 1,
       "a claim looks at 64 hosts of a key, and soon at the next");
    store_close(s);
}

static int retain(struct store *s, const struct store_settings *set, int64_t now_ms)
{
    int error = store_step(s, store_statement(s, ST_BEGIN));
    if (error == 0)
        error = store_retain(s, set, now_ms);
    return error ? error : store_step(s, store_statement(s, ST_COMMIT));
}

static void test_age(void)
{
    struct store *s = fresh_store();
    const struct store_settings day = {.age_s = 86400};
    int64_t now = store_now_ms();
    struct store_courier log;
    (void)put_many(s, "j", "https://a/", 3, true);
    (void)claim(s, 1, 1, now + 1000);
    (void)note(s, claimed.list[0].id, STORE_DELIVERED, now, 200, "");
    int error = retain(s, &day, now + 86000 * 1000);
    ok(error == 0 && list(s, "j", "ann", &log) == 0 && log.count == 1, "within the age they stay");
    store_free_deliveries(&log);
    error = retain(s, &day, now + 86401 * 1000);
    ok(error == 0 && list(s, "j", "ann", &log) == ENOENT, "beyond it they go");
    ok(sqlite3_exec(s->db,
                    "CREATE TEMP TABLE t (x CHECK (x = 0)); "
                    "INSERT INTO t SELECT count(*) FROM attempts",
                    NULL, NULL, NULL) == SQLITE_OK,
       "with their log");
    store_close(s);
}

int main(void)
{
    if (!mkdtemp(dir_path) || (dir_fd = open(dir_path, O_RDONLY | O_DIRECTORY)) < 0)
        return 1;
    test_one();
    test_given_up();
    test_turns();
    test_many();
    test_one_host();
    test_many_hosts();
    test_age();
    store_free_deliveries(&claimed);
    remove_store();
    (void)rmdir(dir_path);
    return tap_done();
}
