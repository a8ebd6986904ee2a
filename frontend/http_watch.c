/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/http_watch - descriptors and timers of the program, in the library's loop.
 *
 * In the frontend, per thread. Timers are ours because the library's follow the wall clock. They
 * are a list sorted by due time, entered from its end: nearly all are "now + 2 ms" or "now + 1 s",
 * so a search is short.
 */
#include "frontend/http_impl.h"

struct http_watch {
    h2o_socket_t *sock;
    void (*on_readable)(void *data);
    void (*on_writable)(void *data);
    void *data;
};

static void on_read(h2o_socket_t *sock, const char *err)
{
    struct http_watch *w = sock->data;
    (void)err; /* the owner reads, and sees it */
    w->on_readable(w->data);
}

struct http_watch *http_watch_new(struct http_server *s, int fd, void (*on_readable)(void *data),
                                  void *data)
{
    struct http_watch *w = malloc(sizeof *w);
    if (!w)
        return NULL;
    w->on_readable = on_readable;
    w->on_writable = NULL;
    w->data = data;
    w->sock = h2o_evloop_socket_create(s->loop, fd, H2O_SOCKET_FLAG_DONT_READ);
    w->sock->data = w;
    h2o_socket_read_start(w->sock, on_read);
    return w;
}

void http_watch_pause(struct http_watch *w)
{
    h2o_socket_read_stop(w->sock);
}

void http_watch_resume(struct http_watch *w)
{
    h2o_socket_read_start(w->sock, on_read);
}

static void on_write(h2o_socket_t *sock, const char *err)
{
    struct http_watch *w = sock->data;
    (void)err; /* the owner writes, and sees it */
    ptr_take (&w->on_writable)(w->data);
}

void http_watch_when_writable(struct http_watch *w, void (*on_writable)(void *data))
{
    w->on_writable = on_writable;
    h2o_socket_notify_write(w->sock, on_write);
}

void http_watch_free(struct http_watch *w)
{
    if (!w)
        return;
    h2o_socket_read_stop(w->sock);
    h2o_socket_close(w->sock);
    free(w);
}

void http_timer_set(struct http_server *s, struct http_timer *t, uint64_t due_ns)
{
    http_timer_cancel(t);
    struct http_timer *before = s->timers.prev;
    while (before != &s->timers && before->due_ns > due_ns)
        before = before->prev;
    t->due_ns = due_ns;
    t->prev = before;
    t->next = before->next;
    before->next->prev = t;
    before->next = t;
}

void http_timer_cancel(struct http_timer *t)
{
    if (!t->due_ns)
        return;
    t->prev->next = t->next;
    t->next->prev = t->prev;
    t->due_ns = 0;
}

uint64_t http_timers_next_ns(const struct http_server *s)
{
    return s->timers.next == &s->timers ? 0 : s->timers.next->due_ns;
}

void http_timers_run(struct http_server *s, uint64_t now_ns)
{
    struct http_timer *t;
    while ((t = s->timers.next) != &s->timers && t->due_ns <= now_ns) {
        http_timer_cancel(t);
        t->on_due(t);
    }
}
