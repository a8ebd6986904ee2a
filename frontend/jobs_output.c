/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/jobs_output - what a job writes to stdout and stderr, in the order written.
 *
 * In the frontend, per thread. Both stay pipes of their own, so that they can be told apart
 * afterwards, but they are narrow: in packet mode (O_DIRECT: no two writes are joined, pipe(2)) and
 * of one slot, so a second write to a pipe waits until the first has been read. They are watched by
 * an epoll descriptor of their own, edge-triggered: its list of what is ready is in the order of
 * the events (each write to an empty pipe is one), and epoll_wait(2) hands it out in that order. So
 * with at most one packet in each pipe, the next event is the next write, and each event means one
 * read. The compiler's pipes are the same, and its writes come first since it does.
 *
 * Whoever opens /dev/stdout or /dev/stderr anew has a description without packet mode: several such
 * writes, one directly after the other, may then be joined before one to the other pipe. And a
 * write that is longer than a packet (4096 bytes) may have another process's in the middle, as it
 * may in any pipe.
 */
#include "frontend/http.h"
#include "frontend/jobs_impl.h"
#include "lib/fd.h"
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#define SLOT_BYTES 4096 /* a pipe of one page has one slot */
#define ROUNDS_MAX 64   /* per wake-up: other descriptors want their turn */
#define FIRST_BYTES 4096u
#define ORDER_BYTES_MAX (64u << 20)
#define LENGTH_MAX (UINT32_MAX / JOB_PIPES)

static __thread char scratch[65536];

static int make_pipe(struct job_output *o, unsigned i, int *ret_far_end)
{
    int ends[2];
    struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.u32 = i};
    if (SYS(pipe2(ends, O_CLOEXEC | O_DIRECT)) < 0)
        return -1;
    o->pipes[i].fd = ends[0];
    *ret_far_end = ends[1];
    /* A child may open it again by its name, as any output. */
    if (SYS(fchmod(ends[1], 0666)) < 0 || SYS(fcntl(ends[0], F_SETPIPE_SZ, SLOT_BYTES)) < 0 ||
        SYS(fcntl(ends[0], F_SETFL, O_NONBLOCK)) < 0 ||
        SYS(epoll_ctl(o->epoll_fd, EPOLL_CTL_ADD, ends[0], &ev)) < 0)
        return -1;
    return 0;
}

static void on_events(void *data);

int job_output_init(struct job_output *o, struct http_server *server, unsigned count,
                    uint64_t kept_max, int ret_far_ends[JOB_PIPES])
{
    *o = (struct job_output){.count = count, .kept_max = kept_max, .order.cap = ORDER_BYTES_MAX};
    int r = 0;
    for (unsigned i = 0; i < JOB_PIPES; i++)
        o->pipes[i].fd = ret_far_ends[i] = -1;
    o->epoll_fd = SYS(epoll_create1(EPOLL_CLOEXEC));
    if (o->epoll_fd < 0)
        return -1;
    for (unsigned i = 0; r == 0 && i < count; i++)
        r = make_pipe(o, i, &ret_far_ends[i]);
    if (r == 0)
        o->watch = http_watch_new(server, o->epoll_fd, on_events, o);
    if (o->watch)
        return 0;
    for (unsigned i = 0; i < count; i++)
        fd_close(&ret_far_ends[i]);
    return -1;
}

bool job_output_has_ended(const struct job_output *o)
{
    for (unsigned i = 0; i < o->count; i++)
        if (!o->pipes[i].ended)
            return false;
    return true;
}

/* ---- keeping ------------------------------------------------------------------------------------
 */

static bool grow(struct job_output *o, size_t needed)
{
    size_t room = o->room ? o->room * 2 : FIRST_BYTES;
    while (room < needed)
        room *= 2;
    if (!output_borrow(room - o->room))
        return false;
    char *data = realloc(o->data, room);
    if (!data) {
        output_return(room - o->room);
        return false;
    }
    o->data = data;
    o->room = room;
    return true;
}

/* Into the list, which counts as output: of short writes it is longer than what they wrote. */
static bool add_piece(struct job_output *o, uint32_t piece)
{
    struct buf *b = &o->order;
    if (b->room - b->len < sizeof piece) {
        size_t more = b->room ? b->room : FIRST_BYTES;
        if (!output_borrow(more))
            return false;
        o->borrowed += more;
        if (!buf_reserve(b, more))
            return false;
    }
    return buf_add(b, &piece, sizeof piece);
}

static bool note(struct job_output *o, unsigned pipe, size_t len)
{
    uint32_t *last = o->order.len ? (uint32_t *)(void *)(o->order.data + o->order.len) - 1 : NULL;
    if (last && *last % JOB_PIPES == pipe && *last / JOB_PIPES + len <= LENGTH_MAX) {
        *last += (uint32_t)len * JOB_PIPES;
        return true;
    }
    return add_piece(o, (uint32_t)len * JOB_PIPES + pipe);
}

static void keep(struct job_output *o, unsigned pipe, const char *bytes, size_t len)
{
    uint64_t left = o->kept_max - o->pipes[pipe].kept;
    o->pipes[pipe].total += len;
    if (len > left)
        len = (size_t)left;
    if (len == 0 || o->cut)
        return;
    if ((o->len + len > o->room && !grow(o, o->len + len)) || !note(o, pipe, len)) {
        o->cut = true; /* from here on all is dropped: a gap in the middle would not be seen */
        return;
    }
    memcpy(o->data + o->len, bytes, len);
    o->len += len;
    o->pipes[pipe].kept += len;
}

void job_output_keep(struct job_output *o, uint64_t max)
{
    uint64_t kept[JOB_PIPES] = {0};
    size_t from = 0, to = 0;
    for (size_t at = 0; at < o->order.len; at += sizeof(uint32_t)) {
        uint32_t piece;
        memcpy(&piece, o->order.data + at, sizeof piece);
        unsigned pipe = piece % JOB_PIPES;
        size_t len = piece / JOB_PIPES, stays = len;
        if (stays > max - kept[pipe])
            stays = (size_t)(max - kept[pipe]);
        memmove(o->data + to, o->data + from, stays);
        piece = (uint32_t)stays * JOB_PIPES + pipe;
        memcpy(o->order.data + at, &piece, sizeof piece);
        kept[pipe] += stays;
        from += len;
        to += stays;
    }
    o->len = to;
    for (unsigned i = 0; i < JOB_PIPES; i++)
        o->pipes[i].kept = kept[i];
}

size_t job_output_begin(const struct job_output *o, unsigned pipe, char *to, size_t room)
{
    size_t n = 0, from = 0;
    for (size_t at = 0; n < room && at < o->order.len; at += sizeof(uint32_t)) {
        uint32_t piece;
        memcpy(&piece, o->order.data + at, sizeof piece);
        size_t len = piece / JOB_PIPES, wanted = len < room - n ? len : room - n;
        if (piece % JOB_PIPES == pipe) {
            memcpy(to + n, o->data + from, wanted);
            n += wanted;
        }
        from += len;
    }
    return n;
}

/* ---- reading ------------------------------------------------------------------------------------
 */

static void end_pipe(struct job_output *o, unsigned i)
{
    o->pipes[i].ended = true;
    fd_close(&o->pipes[i].fd); /* leaves the epoll set with it: nobody else has this end */
}

/* One event is one packet; with the last writer gone also what is behind it, the end. */
static void read_packet(struct job_output *o, unsigned i, uint32_t events)
{
    bool alone = events & (EPOLLHUP | EPOLLERR);
    ssize_t n = -1;
    while (!o->pipes[i].ended) {
        do
            n = SYS(read(o->pipes[i].fd, scratch, sizeof scratch));
        while (n < 0 && errno == EINTR);
        if (n > 0)
            keep(o, i, scratch, (size_t)n);
        o->cut = o->cut || (n < 0 && errno != EAGAIN);
        if (n == 0 || (n < 0 && (errno != EAGAIN || alone)))
            end_pipe(o, i);
        if (!alone)
            return;
    }
}

/* False: nothing is ready. */
static bool read_events(struct job_output *o)
{
    struct epoll_event ev[JOB_PIPES];
    int n = SYS(epoll_wait(o->epoll_fd, ev, JOB_PIPES, 0));
    for (int i = 0; i < n; i++)
        read_packet(o, ev[i].data.u32, ev[i].events);
    return n > 0;
}

/* Also of an event that the loop has seen already. */
static void stop_watching(struct job_output *o)
{
    if (o->watch) {
        http_watch_free(ptr_take(&o->watch));
        o->epoll_fd = -1;
    }
}

static void on_events(void *data)
{
    struct job_output *o = data;
    for (int i = 0; i < ROUNDS_MAX && !job_output_has_ended(o) && read_events(o); i++)
        ;
    if (job_output_has_ended(o)) {
        stop_watching(o);
        o->on_ended(o->user);
    }
}

void job_output_drain(struct job_output *o)
{
    for (int i = 0; i < ROUNDS_MAX && !job_output_has_ended(o) && read_events(o); i++)
        ;
    if (job_output_has_ended(o))
        stop_watching(o);
}

void job_output_cut(struct job_output *o)
{
    for (unsigned i = 0; i < o->count; i++)
        if (!o->pipes[i].ended) {
            o->cut = true;
            end_pipe(o, i);
        }
    stop_watching(o);
}

void job_output_fini(struct job_output *o)
{
    for (unsigned i = 0; i < o->count; i++)
        if (!o->pipes[i].ended)
            end_pipe(o, i);
    stop_watching(o);
    fd_close(&o->epoll_fd);
    free(o->data);
    buf_fini(&o->order);
    output_return(o->room + o->borrowed);
    *o = (struct job_output){.epoll_fd = -1};
}
