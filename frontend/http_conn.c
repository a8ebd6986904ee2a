/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/http_conn - accepting connections, and every deadline that a connection has.
 *
 * In the frontend, per thread; the count of connections is the process's. The library has neither a
 * connection limit nor a write deadline, spins when accept says EMFILE, and is blind to a client
 * that leaves: all four are here. A tick of HTTP_TICK_MS walks the thread's connections. A
 * connection is ended from outside with shutdown(2): the library then reads its end and cleans up
 * by itself.
 *
 * Beyond the limit a connection is answered 503 and closed at once, rather than left in the
 * backlog: a client gets a definite answer, never a hang.
 */
#include "frontend/http_impl.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/fd.h"
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdatomic.h>

static atomic_size_t connections; /* of all threads */

static void pause_accepting(struct http_server *s)
{
    s->paused = true;
    s->paused_ns = clock_now_ns();
    for (size_t i = 0; i < s->listener_count; i++)
        h2o_socket_read_stop(s->listeners[i]);
}

static void on_connection(h2o_socket_t *listener, const char *err);

static void resume_accepting(struct http_server *s)
{
    if (!s->paused || s->draining)
        return;
    s->paused = false;
    for (size_t i = 0; i < s->listener_count; i++)
        h2o_socket_read_start(s->listeners[i], on_connection);
}

void http_conn_uncount(void)
{
    atomic_fetch_sub(&connections, 1);
}

static void on_close(void *data)
{
    struct http_conn *c = data;
    struct http_server *s = c->server;
    if (c->prev)
        c->prev->next = c->next;
    else
        s->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    if (!http_body_conn_closed(c) && !c->upgraded)
        http_conn_uncount();
    free(c);
    resume_accepting(s);
}

/* Says 503 as far as that is possible without waiting. */
static void refuse(int fd)
{
    static const char text[] =
        "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nServer: brood\r\nRetry-After: "
        "1\r\n"
        "Content-Type: application/json\r\nContent-Length: 75\r\n\r\n"
        "{\"error\":{\"code\":\"too_many_connections\",\"message\":\"too many connections\"}}\n";
    char rest[1024];
    (void)!recv(fd, rest, sizeof rest,
                MSG_DONTWAIT); /* unread bytes would turn the close into a reset */
    (void)!send(fd, text, sizeof text - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)shutdown(fd, SHUT_WR);
    close(fd);
}

static void on_connection(h2o_socket_t *listener, const char *err)
{
    struct http_server *s = listener->data;
    const int on = 1;
    if (err)
        return;
    int fd = SYS(accept4(h2o_socket_get_fd(listener), NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            pause_accepting(s);
        return;
    }
    struct http_conn *c = calloc(1, sizeof *c);
    if (!c || atomic_fetch_add(&connections, 1) >= s->settings.connections_max) {
        if (c)
            atomic_fetch_sub(&connections, 1);
        free(c);
        refuse(fd);
        return;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* fails on Unix sockets */
    c->server = s;
    c->linger_fd = -1;
    c->partial = true; /* the first request is due: no idling before it */
    c->since_ns = clock_now_ns();
    c->next = s->conns;
    if (c->next)
        c->next->prev = c;
    s->conns = c;
    c->sock = h2o_evloop_socket_create(s->loop, fd, H2O_SOCKET_FLAG_IS_ACCEPTED_CONNECTION);
    c->sock->on_close.cb = on_close;
    c->sock->on_close.data = c;
    h2o_accept(&s->accept, c->sock);
    http_body_hook(c);
}

int http_listen(struct http_server *s, int fd, struct err *err)
{
    if (s->listener_count == HTTP_LISTENERS_MAX)
        return err_set(err, "more than %d listeners", HTTP_LISTENERS_MAX);
    int own = SYS(fcntl(fd, F_DUPFD_CLOEXEC, 3));
    if (own < 0)
        return err_sys(err, "duplicate listener %d", fd);
    h2o_socket_t *sock = h2o_evloop_socket_create(s->loop, own, H2O_SOCKET_FLAG_DONT_READ);
    sock->data = s;
    s->listeners[s->listener_count++] = sock;
    h2o_socket_read_start(sock, on_connection);
    return 0;
}

void http_drain(struct http_server *s)
{
    if (s->draining)
        return;
    s->draining = true;
    for (size_t i = 0; i < s->listener_count; i++) {
        h2o_socket_read_stop(s->listeners[i]);
        h2o_socket_close(s->listeners[i]);
    }
    s->listener_count = 0;
    for (struct http_conn *c = s->conns; c; c = c->next)
        if (c->current && !c->current->started)
            http_close_after(c->current);
}

void http_each_open(struct http_server *s, void (*visit)(void *data, struct http_request *req),
                    void *data)
{
    for (struct http_conn *c = s->conns; c; c = c->next)
        if (c->current && !c->current->gone)
            visit(data, c->current);
}

void http_conn_break(struct http_conn *c)
{
    (void)shutdown(h2o_socket_get_fd(c->sock), SHUT_RDWR);
}

/* The socket is readable while its request is pending: its end, or the next request. */
static void on_client(h2o_socket_t *sock, const char *err)
{
    struct http_conn *c = sock->on_close.data;
    char byte;
    if (c->state == HTTP_RECEIVING) {
        http_body_on_readable(c->current);
        return;
    }
    ssize_t n = err ? 0 : recv(h2o_socket_get_fd(sock), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0) {
        /* A pipelined request: it waits in the socket, and the tick looks for errors. */
        http_conn_unwatch(c);
        return;
    }
    http_request_gone(c->current);
}

void http_conn_watch(struct http_conn *c)
{
    c->watched = true;
    h2o_socket_dont_read(c->sock, 1);
    h2o_socket_read_start(c->sock, on_client);
}

void http_conn_unwatch(struct http_conn *c)
{
    if (!c->watched)
        return;
    c->watched = false;
    h2o_socket_read_stop(c->sock);
    h2o_socket_dont_read(c->sock, 0);
}

static void check_reading(struct http_conn *c, uint64_t now)
{
    const struct http_server *s = c->server;
    if (!c->partial && c->sock->input->size > 0) {
        c->partial = true; /* noticed at most a tick late */
        c->since_ns = now;
    }
    uint64_t limit_ms = c->partial ? s->settings.request_timeout_ms : s->settings.idle_timeout_ms;
    if ((s->draining && !c->partial) || now - c->since_ns > limit_ms * CLOCK_NS_PER_MS)
        http_conn_break(c);
}

static void check(struct http_conn *c, uint64_t now)
{
    struct pollfd p = {.fd = h2o_socket_get_fd(c->sock), .events = POLLRDHUP};
    switch (c->state) {
    case HTTP_READING:
        check_reading(c, now);
        break;
    case HTTP_RECEIVING:
        if (now - c->since_ns > c->server->settings.request_timeout_ms * CLOCK_NS_PER_MS)
            http_body_on_overdue(c->current);
        break;
    case HTTP_WAITING:
        if (poll(&p, 1, 0) == 1)
            http_request_break(c->current);
        break;
    case HTTP_BUSY:
        if (!c->watched && poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR)))
            http_request_gone(c->current);
        break;
    case HTTP_ANSWERING:
        if (now - c->since_ns > c->server->settings.write_timeout_ms * CLOCK_NS_PER_MS)
            http_conn_break(c);
        break;
    }
}

static void on_tick(struct http_timer *t)
{
    struct http_server *s = CONTAINER_OF(t, struct http_server, tick);
    uint64_t now = clock_now_ns();
    for (struct http_conn *c = s->conns, *next; c; c = next) {
        next = c->next; /* a step frees its own connection at most */
        check(c, now);
    }
    if (now - s->paused_ns >= HTTP_TICK_MS * CLOCK_NS_PER_MS)
        resume_accepting(s);
    http_timer_set(s, t, now + HTTP_TICK_MS * CLOCK_NS_PER_MS);
}

void http_conns_init(struct http_server *s)
{
    s->tick.on_due = on_tick;
    http_timer_set(s, &s->tick, clock_now_ns() + HTTP_TICK_MS * CLOCK_NS_PER_MS);
}
