/* SPDX-License-Identifier: Apache-2.0 */
/* bench/streams - `brood-bench streams`: how long a byte of output takes to who watches it.
 *
 * The run writes the time at which it writes (bash's EPOCHREALTIME), a while after it began, so
 * that nothing of its start is in the figure; we note the time at which the event is here. Both are
 * the same clock of one machine. The 99th percentile of each round counts, not the median: the bar
 * is a promise about every byte, on a machine that has nothing else to do.
 */
#include "bench/bench.h"
#include <poll.h>
#include <time.h>

#define RUNS_A_ROUND 20u
#define WARMUP 3u

static double now_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* The text of the first event of that kind, or NULL. */
static const char *find_event(const struct http *h, const char *name)
{
    const char *at = h->body.len ? memmem(h->body.data, h->body.len, name, strlen(name)) : NULL;
    size_t left = at ? (size_t)(h->body.data + h->body.len - at) : 0;
    const char *text = at ? memmem(at, left, "\"text\":\"", 8) : NULL;
    return text && memmem(text, left - (size_t)(text - at), "\n\n", 2) ? text + 8 : NULL;
}

static int once(struct http *h, const struct buf *request, double *ret_us, struct err *err)
{
    struct pollfd p = {.fd = h->fd, .events = POLLIN};
    double came_us = 0;
    int r = http_send(h, request, err);
    while (r == 0) {
        if (poll(&p, 1, 10000) != 1)
            return err_set(err, "no event within ten seconds");
        r = http_take(h, false, err);
        const char *text = came_us > 0 || r < 0 ? NULL : find_event(h, "event: stdout\n");
        if (text) {
            came_us = now_us();
            *ret_us = came_us - strtod(text, NULL) * 1e6;
        }
    }
    if (r > 0 && (h->status != 200 || came_us <= 0 || !strstr(h->body.data, "event: result\n")))
        return err_set(err, "HTTP %d, %.180s", h->status, h->body.data);
    return r < 0 ? r : 0;
}

static void make_request(struct buf *out)
{
    static const char body[] =
        "{\"namespace_id\":\"bench\",\"cmd\":\"sleep 0.02; echo $EPOCHREALTIME\"}";
    out->cap = 4096;
    (void)buf_addf(out,
                   "POST /execute HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
                   "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                   sizeof body - 1, body);
}

int streams_main(const struct options *o)
{
    struct figure f = {.name = "sse_first_byte_ms", .bar = 5};
    struct http http = {.fd = -1};
    struct series series = {.rounds = 0};
    struct batch batch;
    struct buf request = {0};
    struct err err = {0};
    double us = 0, p99_ms[ROUNDS_MAX];
    make_request(&request);
    if (http_open(&http, o->http_port, &err) < 0)
        die(1, "%s", err.text);
    for (unsigned round = 0; round < o->rounds && !f.skipped[0]; round++) {
        batch.len = 0;
        for (unsigned i = 0; i < WARMUP + RUNS_A_ROUND && !f.skipped[0]; i++) {
            if (once(&http, &request, &us, &err) < 0)
                (void)snprintf(f.skipped, sizeof f.skipped, "%.150s", err.text);
            else if (i >= WARMUP)
                batch_add(&batch, us);
        }
        series_close_round(&series, &batch);
        p99_ms[round] = series.p99[round] / 1e3;
    }
    if (!f.skipped[0]) {
        printf("%-28s %9.0f us median\n", "a byte to who watches it",
               median(series.p50, series.rounds));
        figure_spread(&f, p99_ms, series.rounds);
    }
    figures_print(&f, 1);
    http_close(&http);
    buf_fini(&request);
    return f.skipped[0] ? 1 : 0;
}
