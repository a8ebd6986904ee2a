/* SPDX-License-Identifier: Apache-2.0 */
/* bench/soak - `brood-bench soak`: mixed load for a given time, and what the service holds
 * meanwhile.
 *
 * Worker threads, each with its own namespace, HTTP connection and engine connection, draw actions
 * from the weighted table below and check every answer. The main thread samples every SAMPLE_S
 * seconds. At the end, when the service is quiet again, what it holds is compared with what it held
 * when it was quiet after a short warm-up: descriptors, mounts, cgroups and processes must be the
 * same, memory within an allowance (watch.c). Ends with 1 when an answer was wrong or something was
 * left behind.
 */
#include "bench/watch.h"
#include "lib/fd.h"
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define SAMPLE_S 5u
#define WARMUP_S 3u
#define SETTLE_S 60u
#define WORKERS_MAX 32u
#define STDIN_BYTES 65536u
#define DISCONNECT_AFTER_MS 20

struct worker {
    pthread_t thread;
    struct soak *soak;
    struct http http;
    struct engine engine;
    struct buf request;
    char ns_id[32], error[240];
    uint32_t dice;
    unsigned fresh;
    uint64_t done[16], failed[16];
};

struct soak {
    const struct options *o;
    struct worker workers[WORKERS_MAX];
    char *stdin_more;
    uint64_t end_ns;
    atomic_ulong answers, failures;
};

static int ask(struct worker *w, const char *ns_id, const char *cmd, const char *more,
               struct err *err)
{
    http_execute(&w->request, ns_id, cmd, more);
    return http_exchange(&w->http, &w->request, err);
}

static int wants(const struct worker *w, int status, const char *key, const char *raw,
                 struct err *err)
{
    if (w->http.status == status && json_has(w->http.body.data, key, raw))
        return 0;
    return err_set(err, "wanted %d with %s %s, got %d %.120s ... %.60s", status, key, raw,
                   w->http.status, w->http.body.data,
                   w->http.body.len > 180 ? w->http.body.data + w->http.body.len - 60 : "");
}

static int do_echo(struct worker *w, struct err *err)
{
    int r = ask(w, w->ns_id, "echo hi", "", err);
    return r < 0 ? r : http_check(&w->http, "\"hi\\n\"", err);
}

static int do_files(struct worker *w, struct err *err)
{
    int r = ask(w, w->ns_id, "ls / >/dev/null; echo x >>log; tail -n 1 log; [ -s log ] && : >log",
                "", err);
    return r < 0 ? r : http_check(&w->http, "\"x\\n\"", err);
}

static int do_stdin(struct worker *w, struct err *err)
{
    int r = ask(w, w->ns_id, "wc -c", w->soak->stdin_more, err);
    return r < 0 ? r : http_check(&w->http, "\"65536\\n\"", err);
}

static int do_big_output(struct worker *w, struct err *err)
{
    int r = ask(w, w->ns_id, "head -c 3000000 /dev/zero | tr '\\0' x", "", err);
    if (r == 0)
        r = wants(w, 200, "stdout_truncated", "true", err);
    return r < 0 ? r : wants(w, 200, "stdout_bytes", "3000000", err);
}

static int do_timeout(struct worker *w, struct err *err)
{
    int r = ask(w, w->ns_id, "trap '' TERM; sleep 60 & sleep 60", ",\"timeout\":0.2", err);
    return r < 0 ? r : wants(w, 200, "reason", "\"timeout\"", err);
}

static int do_leftovers(struct worker *w, struct err *err)
{
    int r = ask(w, w->ns_id, "setsid sleep 100 & (sleep 100 &) ; echo hi", "", err);
    return r < 0 ? r : http_check(&w->http, "\"hi\\n\"", err);
}

/* The client goes away within a run; the next action shows whether the namespace is free again. */
static int do_disconnect(struct worker *w, struct err *err)
{
    struct pollfd p = {.fd = w->http.fd, .events = POLLIN};
    int r;

    http_execute(&w->request, w->ns_id, "sleep 60", "");
    r = http_send(&w->http, &w->request, err);
    if (r == 0 && poll(&p, 1, DISCONNECT_AFTER_MS) != 0)
        r = err_set(err, "an answer before the run could have ended");
    fd_close(&w->http.fd);
    if (r == 0)
        r = http_open(&w->http, w->soak->o->http_port, err);
    return r;
}

static int do_cold(struct worker *w, struct err *err)
{
    enum proto_outcome outcome = PROTO_INTERNAL;
    char ns_id[64];
    int r;

    (void)snprintf(ns_id, sizeof ns_id, "%s-%u", w->ns_id, w->fresh++);
    r = ask(w, ns_id, "echo hi >note; cat note", "", err);
    if (r == 0)
        r = http_check(&w->http, "\"hi\\n\"", err);
    if (r == 0)
        r = engine_remove(&w->engine, ns_id, &outcome, err);
    if (r == 0 && outcome != PROTO_OK)
        r = err_set(err, "remove %s: %s", ns_id, proto_outcome_name(outcome));
    return r;
}

static int do_bad_request(struct worker *w, struct err *err)
{
    int r = ask(w, "../x", "echo hi", "", err);
    return r < 0 ? r : wants(w, 400, "code", "\"bad_request\"", err);
}

static int do_socket(struct worker *w, struct err *err)
{
    struct engine_run run;
    int r = engine_execute(&w->engine, w->ns_id, "echo hi", &run, err);
    return r < 0 ? r : strcmp(run.out, "hi\n") == 0 ? 0 : err_set(err, "output %.40s", run.out);
}

static const struct {
    const char *name;
    unsigned weight;
    int (*act)(struct worker *w, struct err *err);
} actions[] = {
    {"echo", 40, do_echo},
    {"files", 20, do_files},
    {"stdin", 10, do_stdin},
    {"big output", 3, do_big_output},
    {"timeout", 3, do_timeout},
    {"leftovers", 5, do_leftovers},
    {"disconnect", 4, do_disconnect},
    {"cold + remove", 10, do_cold},
    {"bad request", 3, do_bad_request},
    {"socket", 10, do_socket},
};
_Static_assert(ARRAY_LEN(actions) <= 16, "counters of a worker");

static size_t draw(struct worker *w)
{
    unsigned sum = 0, at;

    for (size_t i = 0; i < ARRAY_LEN(actions); i++)
        sum += actions[i].weight;
    w->dice = w->dice * 1664525u + 1013904223u;
    at = (w->dice >> 8) % sum;
    for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
        if (at < actions[i].weight)
            return i;
        at -= actions[i].weight;
    }
    return 0;
}

static void act(struct worker *w, size_t action)
{
    struct err err = {0};

    if (actions[action].act(w, &err) == 0) {
        w->done[action]++;
        atomic_fetch_add(&w->soak->answers, 1);
        return;
    }
    w->failed[action]++;
    atomic_fetch_add(&w->soak->failures, 1);
    if (!w->error[0])
        (void)snprintf(w->error, sizeof w->error, "%s: %.200s", actions[action].name, err.text);
    /* whatever state the connection is in: begin with a new one */
    fd_close(&w->http.fd);
    (void)http_open(&w->http, w->soak->o->http_port, &err);
}

static void *work(void *arg)
{
    struct worker *w = arg;

    while (clock_now_ns() < w->soak->end_ns)
        act(w, draw(w));
    act(w, 0);
    return NULL;
}

/* ---- the main thread
 * ------------------------------------------------------------------------------- */

static void start_workers(struct soak *s, unsigned seconds)
{
    s->end_ns = clock_now_ns() + seconds * CLOCK_NS_PER_S;
    for (unsigned i = 0; i < s->o->workers; i++) {
        if (pthread_create(&s->workers[i].thread, NULL, work, &s->workers[i]) != 0)
            die(1, "cannot start a thread");
    }
}

static void join_workers(struct soak *s)
{
    for (unsigned i = 0; i < s->o->workers; i++)
        (void)pthread_join(s->workers[i].thread, NULL);
}

static void print_head(void)
{
    printf("%6s %8s %5s", "s", "answers", "bad");
    for (size_t i = 0; i < WATCH_COLUMNS; i++)
        printf(" %*s", watch_columns[i].width, watch_columns[i].name);
    printf("\n");
}

static void print_row(const struct soak *s, unsigned at_s, const struct watch_row *row)
{
    printf("%6u %8lu %5lu", at_s, atomic_load(&s->answers), atomic_load(&s->failures));
    for (size_t i = 0; i < WATCH_COLUMNS; i++)
        printf(" %*.0f", watch_columns[i].width, row->v[i]);
    printf("\n");
    (void)fflush(stdout);
}

static bool has_grown(const struct watch_row *first, const struct watch_row *last, size_t column)
{
    int allowance = watch_columns[column].allowance;
    return allowance != SHOWN && last->v[column] > first->v[column] + allowance;
}

static bool is_settled(const struct watch_row *first, const struct watch_row *last)
{
    for (size_t i = 0; i < WATCH_COLUMNS; i++) {
        if (has_grown(first, last, i))
            return false;
    }
    return true;
}

/* Quiet: no standby child, a full pool; then, compared with `before` (if any), nothing more than
 * that. */
static int settle(const struct soak *s, struct engine *e, const struct watch_row *before,
                  struct watch_row *ret, struct err *err)
{
    uint64_t end_ns = clock_now_ns() + SETTLE_S * CLOCK_NS_PER_S;
    struct timespec pause = {.tv_nsec = 500 * 1000 * 1000};
    int r = engine_wait_stat(e, "standbys", 0, 0, SETTLE_S, err);

    if (r == 0)
        r = engine_wait_stat(e, "spares", s->o->spares, UINT64_MAX, SETTLE_S, err);
    if (r < 0)
        return r;
    for (;;) {
        watch_take(s->o->service_pid, e, ret);
        if (!before || is_settled(before, ret) || clock_now_ns() > end_ns)
            return 0;
        (void)nanosleep(&pause, NULL); /* cgroups and mounts go in the background: look again */
    }
}

static void sample_while_working(struct soak *s, struct engine *e)
{
    uint64_t t0 = clock_now_ns(), end_ns = t0 + s->o->seconds * CLOCK_NS_PER_S;

    for (unsigned n = 0;; n++) {
        uint64_t at_ns = t0 + n * SAMPLE_S * CLOCK_NS_PER_S;
        struct timespec at = {.tv_sec = (time_t)(at_ns / CLOCK_NS_PER_S),
                              .tv_nsec = (long)(at_ns % CLOCK_NS_PER_S)};
        struct watch_row row;
        if (at_ns >= end_ns)
            return;
        (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
        watch_take(s->o->service_pid, e, &row);
        print_row(s, n * SAMPLE_S, &row);
    }
}

static bool report(const struct soak *s, const struct watch_row *first,
                   const struct watch_row *last)
{
    bool clean = true;

    printf("\n%-16s %10s %8s\n", "action", "right", "wrong");
    for (size_t a = 0; a < ARRAY_LEN(actions); a++) {
        uint64_t done = 0, failed = 0;
        for (unsigned i = 0; i < s->o->workers; i++) {
            done += s->workers[i].done[a];
            failed += s->workers[i].failed[a];
        }
        printf("%-16s %10llu %8llu\n", actions[a].name, (unsigned long long)done,
               (unsigned long long)failed);
        clean = clean && !failed;
    }
    for (unsigned i = 0; i < s->o->workers; i++) {
        if (s->workers[i].error[0])
            printf("worker %u, first wrong answer: %s\n", i, s->workers[i].error);
    }
    printf("\n%-10s %12s %12s %10s %10s\n", "quiet", "first", "last", "growth", "allowed");
    for (size_t i = 0; i < WATCH_COLUMNS; i++) {
        bool grew = has_grown(first, last, i);
        printf("%-10s %12.0f %12.0f %+10.0f", watch_columns[i].name, first->v[i], last->v[i],
               last->v[i] - first->v[i]);
        if (watch_columns[i].allowance == SHOWN)
            printf(" %10s\n", "shown");
        else
            printf(" %10d%s\n", watch_columns[i].allowance, grew ? "   LEFT BEHIND" : "");
        clean = clean && !grew;
    }
    return clean;
}

static void open_workers(struct soak *s)
{
    struct err err = {0};
    size_t room = STDIN_BYTES + 32;

    s->stdin_more = malloc(room);
    if (!s->stdin_more)
        die(1, "no memory");
    (void)snprintf(s->stdin_more, room, ",\"stdin\":\"%0*d\"", (int)STDIN_BYTES, 0);
    for (unsigned i = 0; i < s->o->workers; i++) {
        struct worker *w = &s->workers[i];
        *w = (struct worker){.soak = s, .dice = i * 7919u + 1};
        (void)snprintf(w->ns_id, sizeof w->ns_id, "soak-%u", i);
        if (http_open(&w->http, s->o->http_port, &err) < 0 ||
            engine_open(&w->engine, s->o->socket, &err) < 0)
            die(1, "soak: %s", err.text);
    }
}

int soak_main(const struct options *o)
{
    auto_free struct soak *s = calloc(1, sizeof *s);
    struct watch_row first, last;
    struct engine e;
    struct err err = {0};
    bool clean;

    if (!s || o->workers > WORKERS_MAX)
        die(1, "soak: at most %u workers", WORKERS_MAX);
    s->o = o;
    if (engine_open(&e, o->socket, &err) < 0)
        die(1, "soak: %s", err.text);
    open_workers(s);
    start_workers(s, WARMUP_S);
    join_workers(s);
    if (settle(s, &e, NULL, &first, &err) < 0)
        die(1, "soak: %s", err.text);
    print_head();
    print_row(s, 0, &first);
    start_workers(s, o->seconds);
    sample_while_working(s, &e);
    join_workers(s);
    if (settle(s, &e, &first, &last, &err) < 0)
        die(1, "soak: %s", err.text);
    print_row(s, o->seconds, &last);
    clean = report(s, &first, &last);
    printf("\nsoak_answers %lu\nsoak_wrong %lu\nsoak_clean %d\n", atomic_load(&s->answers),
           atomic_load(&s->failures), clean);
    for (unsigned i = 0; i < o->workers; i++) {
        http_close(&s->workers[i].http);
        engine_close(&s->workers[i].engine);
        buf_fini(&s->workers[i].request);
    }
    engine_close(&e);
    free(s->stdin_more);
    return clean ? 0 : 1;
}
