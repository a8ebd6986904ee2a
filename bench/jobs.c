/* SPDX-License-Identifier: Apache-2.0 */
/* bench/jobs - `brood-bench jobs`: what a job costs beside the same code over /execute, and how
 * many submissions a second are made durable.
 *
 * A job is timed from its submission being sent to the answer that it has completed, which the
 * service gives when it is so (`wait`): nobody looks twice. The rate is of 16 connections that
 * submit without a pause; the jobs run meanwhile, as they would.
 */
#include "bench/bench.h"

#define BATCH 40u
#define WARMUP 5u
#define CONNECTIONS 16u
#define SPAN_NS (1000 * CLOCK_NS_PER_MS)
#define RATE_ROUNDS 5u

static const char body[] = "{\"language\":\"bash\",\"code\":\"true\",\"userId\":\"bench\"}";

struct jobs {
    struct http http;
    struct buf submit, execute, status;
    struct batch batch;
    struct series job, plain;
    double rates[ROUNDS_MAX];
};

static int execute_once(struct jobs *b, struct err *err)
{
    int r = http_exchange(&b->http, &b->execute, err);
    if (r == 0 && (b->http.status != 200 || !json_has(b->http.body.data, "exit_code", "0")))
        return err_set(err, "HTTP %d, %.180s", b->http.status, b->http.body.data);
    return r;
}

static int job_once(struct jobs *b, struct err *err)
{
    static const char mark[] = "\"executionId\":\"";
    char path[96];
    int r = http_exchange(&b->http, &b->submit, err);
    if (r < 0)
        return r;
    const char *id = strstr(b->http.body.data, mark);
    if (b->http.status != 202 || !id)
        return err_set(err, "HTTP %d, %.180s", b->http.status, b->http.body.data);
    (void)snprintf(path, sizeof path, "/status?wait=60&id=%.30s", id + sizeof mark - 1);
    http_request(&b->status, path, NULL);
    r = http_exchange(&b->http, &b->status, err);
    if (r == 0 &&
        (b->http.status != 200 || !json_has(b->http.body.data, "status", "\"completed\"")))
        return err_set(err, "HTTP %d, %.180s", b->http.status, b->http.body.data);
    return r;
}

static int run_batch(struct jobs *b, int (*once)(struct jobs *b, struct err *err),
                     struct series *series, struct err *err)
{
    b->batch.len = 0;
    for (unsigned i = 0; i < WARMUP + BATCH; i++) {
        uint64_t t0 = clock_now_ns();
        if (once(b, err) < 0)
            return err->code;
        if (i >= WARMUP)
            batch_add(&b->batch, (double)(clock_now_ns() - t0) / 1e3);
    }
    series_close_round(series, &b->batch);
    return 0;
}

static int measure(struct jobs *b, const struct options *o, struct err *err)
{
    const struct load load = {.port = o->http_port,
                              .connections = CONNECTIONS,
                              .span_ns = SPAN_NS,
                              .skip = CONNECTIONS * 4,
                              .path = "/submit",
                              .body = body,
                              .status = 202};
    int r = 0;
    for (unsigned i = 0; r == 0 && i < o->rounds; i++) {
        bool first = i % 2;
        r = run_batch(b, first ? job_once : execute_once, first ? &b->job : &b->plain, err);
        if (r == 0)
            r = run_batch(b, first ? execute_once : job_once, first ? &b->plain : &b->job, err);
    }
    for (unsigned i = 0; r == 0 && i < RATE_ROUNDS; i++)
        r = load_run(&load, &b->rates[i], err);
    return r;
}

int jobs_main(const struct options *o)
{
    auto_free struct jobs *b = calloc(1, sizeof *b);
    struct err err = {0};
    struct figure figures[] = {
        {.name = "submit_durable_per_s", .bar = 1500, .at_least = true},
        {.name = "job_overhead_ratio", .bar = 3},
    };
    if (!b || http_open(&b->http, o->http_port, &err) < 0)
        die(1, "%s", b ? err.text : "no memory");
    http_request(&b->submit, "/submit", body);
    http_request(&b->execute, "/execute", body);
    int r = measure(b, o, &err);
    for (size_t i = 0; r < 0 && i < ARRAY_LEN(figures); i++)
        (void)snprintf(figures[i].skipped, sizeof figures[i].skipped, "%.150s", err.text);
    if (r == 0) {
        figure_spread(&figures[0], b->rates, RATE_ROUNDS);
        figure_ratio(&figures[1], b->job.p50, b->plain.p50, b->job.rounds);
        printf(
            "\nbash true over /execute: %.0f us, as a job, to its completion: %.0f us (p99 %.0f)\n",
            median(b->plain.p50, b->plain.rounds), median(b->job.p50, b->job.rounds),
            median(b->job.p99, b->job.rounds));
    }
    figures_print(figures, ARRAY_LEN(figures));
    http_close(&b->http);
    buf_fini(&b->submit);
    buf_fini(&b->execute);
    buf_fini(&b->status);
    return r < 0;
}
