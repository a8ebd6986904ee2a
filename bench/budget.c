/* SPDX-License-Identifier: Apache-2.0 */
/* bench/budget - `brood-bench budget`: the stages of a warm run that a client can see.
 *
 * One request at a time, over HTTP and over the engine's socket. The round trips that run nothing
 * (GET /health, statistics) are the floor of their hop on this machine; wall_ms is the service's
 * own figure for the time between hand-over to the child and its end.
 */
#include "bench/bench.h"

#define REQUESTS 500u
#define WARMUP 20u

enum stage {
    HEALTH,
    STATS,
    H_SEND,
    H_FIRST,
    H_REST,
    H_ALL,
    H_WALL,
    S_SEND,
    S_FIRST,
    S_EOF,
    S_RESULT,
    S_ALL,
    S_WALL,
    S_QUEUE,
    STAGES
};

static const char *const stage_names[STAGES] = {
    [HEALTH] = "GET /health, round trip",
    [STATS] = "engine statistics, round trip",
    [H_SEND] = "HTTP: send(2)",
    [H_FIRST] = "HTTP: sent -> first byte",
    [H_REST] = "HTTP: first byte -> complete",
    [H_ALL] = "HTTP: whole request",
    [H_WALL] = "HTTP: wall_ms of the facts",
    [S_SEND] = "socket: two pipes + sendmsg",
    [S_FIRST] = "socket: sent -> first output",
    [S_EOF] = "socket: first output -> end of both",
    [S_RESULT] = "socket: end of both -> Result",
    [S_ALL] = "socket: whole request",
    [S_WALL] = "socket: wall_us of the facts",
    [S_QUEUE] = "socket: queue_us of the facts",
};

struct budget {
    double us[STAGES][REQUESTS];
};

static double since(uint64_t from, uint64_t to)
{
    return to > from ? (double)(to - from) / 1e3 : 0;
}

static int over_http(struct budget *b, struct http *h, struct err *err)
{
    struct buf health = {0}, echo = {0};
    int r = 0;

    http_request(&health, "/health", NULL);
    http_execute(&echo, "budget", "echo hi", "");
    for (unsigned i = 0; r == 0 && i < WARMUP + REQUESTS; i++) {
        unsigned at = i < WARMUP ? 0 : i - WARMUP;
        uint64_t t0 = clock_now_ns();
        r = http_exchange(h, &health, err);
        b->us[HEALTH][at] = since(t0, h->done_ns);
    }
    for (unsigned i = 0; r == 0 && i < WARMUP + REQUESTS; i++) {
        unsigned at = i < WARMUP ? 0 : i - WARMUP;
        uint64_t t0 = clock_now_ns();
        r = http_exchange(h, &echo, err);
        if (r == 0)
            r = http_check(h, "\"hi\\n\"", err);
        b->us[H_SEND][at] = since(t0, h->sent_ns);
        b->us[H_FIRST][at] = since(h->sent_ns, h->first_ns);
        b->us[H_REST][at] = since(h->first_ns, h->done_ns);
        b->us[H_ALL][at] = since(t0, h->done_ns);
        if (r == 0)
            b->us[H_WALL][at] = json_number(h->body.data, "wall_ms") * 1e3;
    }
    buf_fini(&health);
    buf_fini(&echo);
    return r;
}

static int over_socket(struct budget *b, struct engine *e, struct err *err)
{
    struct engine_run run;
    struct proto_msg msg;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < WARMUP + REQUESTS; i++) {
        uint64_t t0 = clock_now_ns();
        r = engine_stats(e, &msg, err);
        b->us[STATS][i < WARMUP ? 0 : i - WARMUP] = since(t0, clock_now_ns());
    }
    for (unsigned i = 0; r == 0 && i < WARMUP + REQUESTS; i++) {
        unsigned at = i < WARMUP ? 0 : i - WARMUP;
        r = engine_execute(e, "budget", "echo hi", &run, err);
        b->us[S_SEND][at] = since(run.start_ns, run.sent_ns);
        b->us[S_FIRST][at] = since(run.sent_ns, run.first_ns);
        b->us[S_EOF][at] = since(run.first_ns, run.eof_ns);
        b->us[S_RESULT][at] = since(run.eof_ns, run.done_ns);
        b->us[S_ALL][at] = since(run.start_ns, run.done_ns);
        b->us[S_WALL][at] = (double)run.facts.wall_us;
        b->us[S_QUEUE][at] = (double)run.facts.queue_us;
    }
    return r;
}

int budget_main(const struct options *o)
{
    auto_free struct budget *b = calloc(1, sizeof *b);
    struct http h = {.fd = -1};
    struct engine e = {.fd = -1, .null_fd = -1};
    struct err err = {0};
    int r = b ? engine_open(&e, o->socket, &err) : err_set(&err, "no memory");

    if (r == 0)
        r = http_open(&h, o->http_port, &err);
    if (r == 0)
        r = over_http(b, &h, &err);
    if (r == 0)
        r = over_socket(b, &e, &err);
    http_close(&h);
    engine_close(&e);
    if (r < 0) {
        (void)fprintf(stderr, "brood-bench: budget: %s\n", err.text);
        return 1;
    }
    printf("%-38s %8s %8s %8s   (us, %u requests)\n", "stage", "p50", "p90", "p99", REQUESTS);
    for (size_t i = 0; i < STAGES; i++)
        printf("%-38s %8.1f %8.1f %8.1f\n", stage_names[i], median(b->us[i], REQUESTS),
               quantile(b->us[i], REQUESTS, 0.9), quantile(b->us[i], REQUESTS, 0.99));
    return 0;
}
