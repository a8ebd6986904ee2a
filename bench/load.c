/* SPDX-License-Identifier: Apache-2.0 */
/* bench/load - many connections from one thread.
 *
 * Each connection always has one request open; the next one is sent when the answer came. One epoll
 * thread, because the client shares the processors with what it measures: its own cost counts
 * against the service.
 */
#include "bench/bench.h"
#include <sys/epoll.h>

#define CONNECTIONS_MAX 64
#define STALL_MS 20000

struct conn {
    struct http http;
    struct buf request;
};

struct driver {
    const struct load *load;
    struct conn conns[CONNECTIONS_MAX];
    int epoll_fd;
    unsigned sent, answered, open;
    uint64_t start_ns, end_ns, last_ns;
    unsigned counted; /* answers since start_ns */
};

static bool may_send(const struct driver *d)
{
    return d->load->span_ns ? clock_now_ns() < d->end_ns : d->sent < d->load->total;
}

static int send_next(struct driver *d, struct conn *c, struct err *err)
{
    char ns_id[65];

    if (!may_send(d))
        return 0;
    if (d->load->fresh) {
        (void)snprintf(ns_id, sizeof ns_id, "%s-%u", d->load->fresh, d->sent);
        http_execute(&c->request, ns_id, "echo hi", "");
    }
    d->sent++;
    d->open++;
    return http_send(&c->http, &c->request, err);
}

static int open_conn(struct driver *d, unsigned i, struct err *err)
{
    struct conn *c = &d->conns[i];
    struct epoll_event ev = {.events = EPOLLIN, .data.u32 = i};
    char ns_id[65];
    int r;

    (void)snprintf(ns_id, sizeof ns_id, "load-%u", i);
    if (d->load->path)
        http_request(&c->request, d->load->path, d->load->body);
    else
        http_execute(&c->request, ns_id, "echo hi", "");
    r = http_open(&c->http, d->load->port, err);
    if (r == 0 && epoll_ctl(d->epoll_fd, EPOLL_CTL_ADD, c->http.fd, &ev) < 0)
        r = err_sys(err, "watch a connection");
    return r;
}

static int on_answer(struct driver *d, struct conn *c, struct err *err)
{
    int r = http_take(&c->http, false, err);

    if (r <= 0)
        return r;
    if (!d->load->path)
        r = http_check(&c->http, "\"hi\\n\"", err);
    else if (c->http.status != d->load->status)
        r = err_set(err, "HTTP %d, %.180s", c->http.status, c->http.body.data);
    if (r < 0)
        return r;
    d->open--;
    d->answered++;
    if (d->answered == d->load->skip)
        d->start_ns = c->http.done_ns;
    else if (d->answered > d->load->skip)
        d->counted++;
    d->last_ns = c->http.done_ns;
    if (c->http.closing)
        return err_set(err, "the service does not keep connections alive");
    return send_next(d, c, err);
}

static int drive(struct driver *d, struct err *err)
{
    struct epoll_event events[CONNECTIONS_MAX];
    int r = 0;

    d->start_ns = clock_now_ns();
    d->end_ns = d->start_ns + d->load->span_ns;
    for (unsigned i = 0; r == 0 && i < d->load->connections; i++)
        r = send_next(d, &d->conns[i], err);
    while (r == 0 && d->open) {
        int n = epoll_wait(d->epoll_fd, events, CONNECTIONS_MAX, STALL_MS);
        if (n == 0)
            return err_set(err, "no answer for %d ms, %u requests open", STALL_MS, d->open);
        for (int i = 0; r == 0 && i < n; i++)
            r = on_answer(d, &d->conns[events[i].data.u32], err);
    }
    return r;
}

int load_run(const struct load *load, double *ret_rate, struct err *err)
{
    auto_free struct driver *d = calloc(1, sizeof *d);
    int r = 0;

    if (!d || load->connections > CONNECTIONS_MAX)
        return err_set(err, "load: too many connections or no memory");
    d->load = load;
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
        d->conns[i].http.fd = -1;
    d->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (d->epoll_fd < 0)
        return err_sys(err, "epoll");
    for (unsigned i = 0; r == 0 && i < load->connections; i++)
        r = open_conn(d, i, err);
    if (r == 0)
        r = drive(d, err);
    for (unsigned i = 0; i < load->connections; i++) {
        http_close(&d->conns[i].http);
        buf_fini(&d->conns[i].request);
    }
    (void)close(d->epoll_fd);
    if (r == 0)
        *ret_rate = (double)d->counted / ((double)(d->last_ns - d->start_ns) / 1e9);
    return r;
}
