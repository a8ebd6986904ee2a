/* SPDX-License-Identifier: Apache-2.0 */
/* lib/loop - see loop.h. Timers due are run before descriptors of the same round. */
#include "lib/loop.h"
#include "lib/clock.h"
#include <assert.h>

int loop_init(struct loop *l)
{
    *l = (struct loop){.epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
    return l->epoll_fd < 0 ? -errno : 0;
}

void loop_fini(struct loop *l)
{
    if (l->epoll_fd >= 0)
        (void)close(l->epoll_fd);
    free(l->heap);
    *l = (struct loop){.epoll_fd = -1};
}

static int control(struct loop *l, int op, struct loop_io *io, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = io};
    return SYS(epoll_ctl(l->epoll_fd, op, io->fd, &ev)) < 0 ? -errno : 0;
}

int loop_io_add(struct loop *l, struct loop_io *io, uint32_t events)
{
    return control(l, EPOLL_CTL_ADD, io, events);
}

int loop_io_mod(struct loop *l, struct loop_io *io, uint32_t events)
{
    return control(l, EPOLL_CTL_MOD, io, events);
}

void loop_io_del(struct loop *l, struct loop_io *io)
{
    if (io->fd >= 0)
        (void)epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, io->fd, NULL);
    for (int i = l->batch_at; i < l->batch_len; i++)
        if (l->batch[i].data.ptr == io)
            l->batch[i].data.ptr = NULL;
}

static void place(struct loop *l, size_t at, struct loop_timer *t)
{
    l->heap[at] = t;
    t->slot = at + 1;
}

static void sift_up(struct loop *l, size_t at)
{
    struct loop_timer *t = l->heap[at];
    while (at > 0 && l->heap[(at - 1) / 2]->due_ns > t->due_ns) {
        place(l, at, l->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    place(l, at, t);
}

static void sift_down(struct loop *l, size_t at)
{
    struct loop_timer *t = l->heap[at];
    for (;;) {
        size_t kid = at * 2 + 1;
        if (kid >= l->heap_len)
            break;
        if (kid + 1 < l->heap_len && l->heap[kid + 1]->due_ns < l->heap[kid]->due_ns)
            kid++;
        if (l->heap[kid]->due_ns >= t->due_ns)
            break;
        place(l, at, l->heap[kid]);
        at = kid;
    }
    place(l, at, t);
}

void loop_timer_cancel(struct loop *l, struct loop_timer *t)
{
    if (!t->slot)
        return;
    size_t at = t->slot - 1;
    assert(at < l->heap_len && l->heap[at] == t);
    t->slot = 0;
    struct loop_timer *last = l->heap[--l->heap_len];
    if (last == t)
        return;
    place(l, at, last);
    sift_up(l, at);
    sift_down(l, last->slot - 1);
}

bool loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t due_ns)
{
    loop_timer_cancel(l, t);
    if (l->heap_len == l->heap_room) {
        size_t room = l->heap_room ? l->heap_room * 2 : 64;
        struct loop_timer **heap = realloc(l->heap, room * sizeof(struct loop_timer *));
        if (!heap)
            return false;
        l->heap = heap;
        l->heap_room = room;
    }
    t->due_ns = due_ns;
    place(l, l->heap_len, t);
    sift_up(l, l->heap_len++);
    return true;
}

/* Runs what is due; returns how long epoll may sleep in milliseconds, -1 without timers. */
static int run_timers(struct loop *l)
{
    while (l->heap_len > 0 && !l->stopping) {
        struct loop_timer *t = l->heap[0];
        uint64_t now = clock_now_ns();
        if (t->due_ns > now) {
            uint64_t ms = (t->due_ns - now + CLOCK_NS_PER_MS - 1) / CLOCK_NS_PER_MS;
            return ms > 60000 ? 60000 : (int)ms;
        }
        loop_timer_cancel(l, t);
        t->on_due(t);
    }
    return -1;
}

int loop_run(struct loop *l)
{
    while (!l->stopping) {
        int timeout = run_timers(l);
        if (l->stopping)
            break;
        int n = epoll_wait(l->epoll_fd, l->batch, LOOP_BATCH, timeout);
        if (n < 0 && errno != EINTR)
            return -errno;
        l->batch_len = n < 0 ? 0 : n;
        for (l->batch_at = 0; l->batch_at < l->batch_len && !l->stopping;) {
            struct epoll_event *ev = &l->batch[l->batch_at++];
            struct loop_io *io = ev->data.ptr;
            if (io)
                io->on_ready(io, ev->events);
        }
        l->batch_len = l->batch_at = 0;
    }
    return 0;
}

void loop_stop(struct loop *l)
{
    l->stopping = true;
}
