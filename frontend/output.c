/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/output - see output.h.
 *
 * In the frontend, per thread; only the count of buffered bytes is the process's. Memory follows
 * what a run wrote, doubling up to its limit; beyond it bytes are read, counted and dropped, so
 * that a run is never blocked by its own output and never costs more than its limit.
 *
 * A short run's pipes are never made non-blocking nor registered: once the run is over, poll(2)
 * says whether there are bytes and whether the last writer is gone, and one read takes all.
 */
#include "frontend/output.h"
#include "frontend/http.h"
#include "lib/fd.h"
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/stat.h>

#define FIRST_BYTES 1024u
#define DRAIN_ROUNDS_MAX 64
#define LEAVING_MAX 8u
#define FINISH_ROUNDS_MAX 17 /* as much as a pipe can hold, however its child has enlarged it */

static atomic_ullong buffered;
static __thread char scratch[OUTPUT_READ_BYTES];

/* To be closed at the end of the turn, behind the answer: a pipe's end costs some 5 us. */
static __thread struct {
    int fd[LEAVING_MAX];
    size_t count;
} leaving;

static int make_pipe(int ret_ends[2])
{
    if (SYS(pipe2(ret_ends, O_CLOEXEC)) < 0)
        return -1;
    if (SYS(fchmod(ret_ends[1], 0666)) <
        0) { /* else `echo x >/dev/stderr` is EACCES for the child */
        fd_close(&ret_ends[0]);
        fd_close(&ret_ends[1]);
        return -1;
    }
    return 0;
}

int output_pipe_take(struct output_pipes *p, int ret_ends[2])
{
    if (p->count == 0)
        return make_pipe(ret_ends);
    p->count--;
    ret_ends[0] = p->spare[p->count][0];
    ret_ends[1] = p->spare[p->count][1];
    return 0;
}

void output_on_turn(struct output_pipes *p, bool answered)
{
    while (leaving.count > 0)
        (void)close(leaving.fd[--leaving.count]);
    if (!answered && p->count >= OUTPUT_SPARES / 2)
        return;
    while (p->count < OUTPUT_SPARES && make_pipe(p->spare[p->count]) == 0)
        p->count++;
}

void output_pipes_fini(struct output_pipes *p)
{
    while (p->count > 0) {
        p->count--;
        fd_close(&p->spare[p->count][0]);
        fd_close(&p->spare[p->count][1]);
    }
}

bool output_may_begin(void)
{
    return atomic_load(&buffered) < OUTPUT_BUFFERED_MAX - OUTPUT_BUFFERED_MAX / 8;
}

static bool borrow(size_t n, uint64_t most)
{
    if (atomic_fetch_add(&buffered, n) + n <= most)
        return true;
    atomic_fetch_sub(&buffered, n);
    return false;
}

bool output_borrow(size_t n)
{
    return borrow(n, OUTPUT_BUFFERED_MAX);
}

bool output_borrow_spare(size_t n)
{
    return borrow(n, OUTPUT_BUFFERED_MAX / 2);
}

void output_return(size_t n)
{
    atomic_fetch_sub(&buffered, n);
}

static bool grow(struct output *o, size_t want)
{
    size_t room = o->room ? o->room : FIRST_BYTES;
    while (room < want)
        room *= 2;
    if (room > o->kept_max)
        room = o->kept_max;
    bool fits = atomic_fetch_add(&buffered, room - o->room) + room - o->room <= OUTPUT_BUFFERED_MAX;
    char *data = fits ? realloc(o->data, room) : NULL;
    if (!data) {
        atomic_fetch_sub(&buffered, room - o->room);
        return false;
    }
    o->data = data;
    o->room = room;
    return true;
}

static void keep(struct output *o, const char *bytes, size_t len)
{
    o->total += len;
    if (o->cut)
        return;
    if (len > o->kept_max - o->len)
        len = (size_t)(o->kept_max - o->len);
    if (len == 0)
        return;
    if (o->len + len > o->room && !grow(o, o->len + len)) {
        o->cut = true;
        return;
    }
    memcpy(o->data + o->len, bytes, len);
    o->len += len;
}

void output_end(struct output *o)
{
    o->ended = true;
    if (o->watch) {
        http_watch_free(ptr_take(&o->watch));
        o->fd = -1;
    }
    if (o->fd >= 0 && leaving.count < LEAVING_MAX)
        leaving.fd[leaving.count++] = fd_take(&o->fd);
    fd_close(&o->fd);
}

/* `alone`: no writer is left, so a short read was the last one. */
static void read_once(struct output *o, bool alone)
{
    ssize_t n;
    do
        n = SYS(read(o->fd, scratch, sizeof scratch));
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n < 0)
        o->cut = true;
    if (n > 0 && o->on_bytes)
        o->on_bytes(o, scratch, (size_t)n);
    if (n > 0)
        keep(o, scratch, (size_t)n);
    if (n <= 0 || (alone && (size_t)n < sizeof scratch))
        output_end(o);
}

static bool all_ended(const struct output *out, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!out[i].ended)
            return false;
    return true;
}

void output_drain(struct output *out, size_t count)
{
    for (int round = 0; round < DRAIN_ROUNDS_MAX && !all_ended(out, count); round++) {
        struct pollfd p[OUTPUT_DRAIN_MAX];
        for (size_t i = 0; i < count; i++)
            p[i] = (struct pollfd){.fd = out[i].fd, .events = POLLIN};
        if (SYS(poll(p, count, 0)) <= 0)
            return;
        for (size_t i = 0; i < count; i++) {
            bool alone = p[i].revents & POLLHUP;
            if (p[i].revents & POLLIN)
                read_once(&out[i], alone);
            else if (p[i].revents)
                output_end(&out[i]);
        }
    }
}

void output_read(struct output *o)
{
    read_once(o, false);
}

/* A read that does not fill the buffer has emptied the pipe. */
void output_finish(struct output *out, size_t count)
{
    for (int round = 0; round < FINISH_ROUNDS_MAX && !all_ended(out, count); round++) {
        struct pollfd p[OUTPUT_DRAIN_MAX];
        for (size_t i = 0; i < count; i++)
            p[i] = (struct pollfd){.fd = out[i].fd, .events = POLLIN};
        bool knows = SYS(poll(p, count, 0)) >= 0;
        for (size_t i = 0; i < count; i++) {
            if (!knows && !out[i].ended)
                out[i].cut = true; /* nobody can say what is there */
            if (knows && p[i].revents & POLLIN)
                read_once(&out[i], true);
            else
                output_end(&out[i]);
        }
    }
    for (size_t i = 0; i < count; i++)
        output_end(&out[i]);
}

void output_keep(struct output *o, uint64_t max)
{
    if (o->len > max)
        o->len = (size_t)max;
}

bool output_is_truncated(const struct output *o)
{
    return o->cut || o->total > o->len;
}

void output_fini(struct output *o)
{
    output_end(o);
    free(o->data);
    atomic_fetch_sub(&buffered, o->room);
    o->data = NULL;
    o->room = o->len = 0;
}
