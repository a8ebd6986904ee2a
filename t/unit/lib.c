/* SPDX-License-Identifier: Apache-2.0 */
/* t/unit/lib - the toolbox: caps hold, numbers are strict, errors name what failed, timers come in
 * order and can be cancelled from anywhere, packets arrive whole, nothing leaks a descriptor.
 */
#include "lib/arena.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/loop.h"
#include "lib/num.h"
#include "lib/packet.h"
#include "lib/tap.h"
#include "lib/word.h"
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* ---- memory -----------------------------------------------------------------------------------
 */

static void test_arena(void)
{
    static char storage[1024] __attribute__((aligned(16)));
    struct arena a;
    memset(storage, 'x', sizeof storage);
    arena_init(&a, storage, 64);
    char *one = arena_alloc(&a, 1), *two = arena_alloc(&a, 16);
    ok(one == storage && two == storage + 16, "16-byte aligned");
    ok(*one == 0 && two[15] == 0, "zeroed");
    ok(!arena_alloc(&a, 33) && a.exhausted, "beyond the cap: NULL");
    ok(arena_alloc(&a, 32) && !arena_alloc(&a, 1), "up to the last byte of the cap");
    ok(storage[64] == 'x', "nothing behind the cap was touched");
    ok(!arena_alloc(&a, SIZE_MAX) && !arena_alloc(&a, SIZE_MAX - 15), "no overflow");
    arena_reset(&a);
    ok(!a.exhausted && arena_alloc(&a, 64) == storage, "reset gives all of it back");
    arena_init(&a, storage + 1, 100);
    one = arena_alloc(&a, 8);
    ok((uintptr_t)one % 16 == 0 && one >= storage + 1, "aligned over unaligned storage");
    char *copy = arena_strndup(&a, "hello", 3);
    ok(copy && strcmp(copy, "hel") == 0, "a copy ends with NUL");
    ok(!arena_strndup(&a, "hello", 90), "a copy that does not fit: NULL");
}

static void test_buf(void)
{
    struct buf b = {.cap = 1000};
    static char many[1000];
    ok(buf_add(&b, "ab", 2) && buf_addf(&b, "%d-%s", 12, "x") && b.len == 6 &&
           memcmp(b.data, "ab12-x", 6) == 0,
       "what is added stands there");
    ok(buf_add(&b, NULL, 0) && b.len == 6, "nothing can be added");
    ok(buf_add(&b, many, 994) && b.len == 1000 && b.room <= 1000, "up to the cap");
    ok(!buf_add(&b, "x", 1) && b.failed && b.len == 1000, "not beyond, and it stays as it was");
    buf_fini(&b);
    ok(!b.data && b.len == 0 && !b.failed && b.cap == 1000, "empty again");
    ok(!buf_reserve(&b, 1001) && b.failed, "a reservation beyond the cap");
    buf_fini(&b);
    b.cap = 5000;
    memset(many, 'f', sizeof many - 1);
    ok(buf_addf(&b, "%s", many) && b.len == 999, "formatting 999 bytes");
    ok(!buf_addf(&b, "%s%s", many, many) && b.failed && b.len == 999,
       "formatting too much fails whole");
    buf_fini(&b);
}

/* ---- numbers, errors, time --------------------------------------------------------------------
 */

static void test_num(void)
{
    static const char *const bad[] = {"",    " 1",  "1 ",  "+1",  "-1",
                                      "0x1", "1e3", "1.0", "12a", "18446744073709551616"};
    static const char *const bad_seconds[] = {
        "",   ".",   ".5",   "1.", "1.2345", "1.-1",
        "-1", "1e3", "1..2", " 1", "nan",    "99999999999999999999999999"};
    uint64_t v = 7;
    ok(num_parse_u64("18446744073709551615", 0, UINT64_MAX, &v) == 0 && v == UINT64_MAX,
       "2^64 - 1");
    ok(num_parse_u64("007", 7, 7, &v) == 0 && v == 7, "leading zeros, both bounds included");
    ok(num_parse_u64("6", 7, 9, &v) < 0 && num_parse_u64("10", 7, 9, &v) < 0 && v == 7,
       "outside the bounds; the result is not touched");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ok(num_parse_u64(bad[i], 0, UINT64_MAX, &v) < 0 && v == 7, "\"%s\" is no number", bad[i]);
    ok(num_parse_seconds_ms("1.5", 1, 2000, &v) == 0 && v == 1500, "1.5 s");
    ok(num_parse_seconds_ms("2", 1, 2000, &v) == 0 && v == 2000, "2 s");
    ok(num_parse_seconds_ms("0.001", 1, 2000, &v) == 0 && v == 1, "1 ms");
    ok(num_parse_seconds_ms("0", 1, 2000, &v) < 0 && num_parse_seconds_ms("2.001", 1, 2000, &v) < 0,
       "bounds");
    for (size_t i = 0; i < ARRAY_LEN(bad_seconds); i++)
        ok(num_parse_seconds_ms(bad_seconds[i], 0, UINT64_MAX, &v) < 0, "\"%s\" are no seconds",
           bad_seconds[i]);
}

static void test_err(void)
{
    struct err e = {0};
    char longer[400];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    errno = ENOENT;
    ok(err_sys(&e, "open %s", "x") == -ENOENT && e.code == -ENOENT &&
           strcmp(e.text, "open x: No such file or directory") == 0,
       "%s", e.text);
    ok(err_wrap(&e, "volume %d", 7) == -ENOENT &&
           strcmp(e.text, "volume 7: open x: No such file or directory") == 0,
       "%s", e.text);
    errno = 0;
    ok(err_sys(&e, "x") < 0 && e.code < 0, "an error is never 0");
    ok(err_set(&e, "%s", longer) == -EINVAL && strlen(e.text) == sizeof e.text - 1,
       "a long text is cut");
    errno = EIO;
    ok(err_sys(&e, "%s", longer) == -EIO && e.text[sizeof e.text - 1] == 0, "also with a reason");
}

static void test_clock(void)
{
    char text[32];
    int year, month, day, hour, minute, second, ms;
    char z;
    uint64_t a = clock_now_ns(), b = clock_now_ns();
    ok(a > 0 && b >= a, "the clock does not go back");
    clock_rfc3339(text, sizeof text);
    ok(sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%3d%c", &year, &month, &day, &hour, &minute, &second,
              &ms, &z) == 8 &&
           z == 'Z' && year >= 2024 && strlen(text) == 24,
       "%s", text);
}

/* ---- descriptors ------------------------------------------------------------------------------
 */

static void test_fd(void)
{
    int before = fd_count_open(), none = -1;
    const void *map;
    size_t len;
    struct err e;
    errno = EDOM;
    fd_close(&none);
    ok(errno == EDOM && none == -1, "closing -1 does nothing");
    int fd = fd_memfd_sealed("test", "hello", 5);
    ok(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) && lseek(fd, 0, SEEK_CUR) == 0, "a memfd");
    ok(write(fd, "x", 1) < 0 && ftruncate(fd, 1) < 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_GROW) < 0,
       "cannot be changed any more");
    ok(fd_memfd_map(fd, 5, &map, &len, &e) == 0 && len == 5 && memcmp(map, "hello", 5) == 0,
       "is mapped");
    (void)munmap((void *)(uintptr_t)map, len);
    ok(fd_memfd_map(fd, 4, &map, &len, &e) < 0, "but not beyond a limit: %s", e.text);
    fd_close(&fd);
    ok(fd == -1, "closed is -1");
    ok(fd_memfd_map(0, 4, &map, &len, &e) < 0, "stdin is no memfd: %s", e.text);
    ok(fd_write_all(-1, "x", 1) < 0 && errno == EBADF, "writing to nothing");
    ok(fd_count_open() == before, "no descriptor left behind");
}

static void test_beneath(void)
{
    char dir[] = "/tmp/brood-unit-XXXXXX";
    if (!mkdtemp(dir))
        return;
    int before = fd_count_open(), at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int fd = fd_open_beneath(at, "file", O_CREAT | O_RDWR, 0600);
    ok(fd >= 0 && fd_write_all(fd, "hello", 5) == 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC),
       "a file below a directory");
    fd_close(&fd);
    ok(symlinkat("file", at, "link") == 0 && symlinkat("/etc/passwd", at, "out") == 0, "two links");
    ok(fd_open_beneath(at, "link", O_RDONLY, 0) < 0 && errno == ELOOP, "no link is followed");
    ok(fd_open_beneath(at, "out", O_RDONLY, 0) < 0 && errno == ELOOP, "least of all one outward");
    ok(fd_open_beneath(at, "../passwd", O_RDONLY, 0) < 0 && errno == EXDEV, "no way up");
    ok(fd_open_beneath(at, "/etc/passwd", O_RDONLY, 0) < 0 && errno == EXDEV, "no absolute path");
    (void)unlinkat(at, "link", 0);
    (void)unlinkat(at, "out", 0);
    (void)unlinkat(at, "file", 0);
    fd_close(&at);
    (void)rmdir(dir);
    ok(fd_count_open() == before, "no descriptor left behind");
}

static void test_packet(void)
{
    static char longer[5000], room[5000];
    int before = fd_count_open(), pair[2], fds[PACKET_FDS_MAX];
    const int some[PACKET_FDS_MAX + 1] = {0};
    size_t nfds = 0;
    ok(packet_pair(pair, true) == 0 && (fcntl(pair[0], F_GETFL) & O_NONBLOCK) &&
           !(fcntl(pair[1], F_GETFL) & O_NONBLOCK) && (fcntl(pair[1], F_GETFD) & FD_CLOEXEC),
       "a pair, the first one non-blocking");
    ok(packet_recv(pair[0], room, sizeof room, fds, &nfds) == -EAGAIN, "nothing there: -EAGAIN");
    ok(packet_send(pair[0], "a", 1, NULL, 0) == 0 && packet_send(pair[0], "bc", 2, some, 2) == 0,
       "two are sent");
    ok(packet_recv(pair[1], room, sizeof room, fds, &nfds) == 1 && nfds == 0, "and come apart");
    ok(packet_recv(pair[1], room, sizeof room, fds, &nfds) == 2 && nfds == 2 && room[1] == 'c' &&
           (fcntl(fds[1], F_GETFD) & FD_CLOEXEC),
       "with their descriptors, close-on-exec");
    fd_close(&fds[0]);
    fd_close(&fds[1]);
    ok(packet_send(pair[0], "a", 1, some, PACKET_FDS_MAX) == 0 &&
           packet_recv(pair[1], room, sizeof room, fds, &nfds) == 1 && nfds == PACKET_FDS_MAX,
       "%d descriptors", PACKET_FDS_MAX);
    for (size_t i = 0; i < nfds; i++)
        fd_close(&fds[i]);
    ok(packet_send(pair[0], "a", 1, some, PACKET_FDS_MAX + 1) == -EINVAL, "not one more");
    ok(packet_send(pair[0], longer, 5000, some, 2) == 0 &&
           packet_recv(pair[1], room, 4999, fds, &nfds) == -EMSGSIZE && nfds == 0,
       "too long is an error, not a short message");
    fd_close(&pair[0]);
    ok(packet_recv(pair[1], room, sizeof room, fds, &nfds) == 0, "the other end is gone");
    ok(packet_send(pair[1], "a", 1, NULL, 0) == -EPIPE, "sending to it fails without a signal");
    fd_close(&pair[1]);
    ok(fd_count_open() == before, "no descriptor left behind");
}

/* ---- loop -------------------------------------------------------------------------------------
 */

static struct loop loop;
static char order[64];

struct mark {
    struct loop_timer timer;
    char letter;
    struct mark *cancels;
};

static void note(char letter)
{
    size_t n = strlen(order);
    if (n + 1 < sizeof order)
        order[n] = letter;
}

static void on_mark(struct loop_timer *t)
{
    struct mark *m = CONTAINER_OF(t, struct mark, timer);
    note(m->letter);
    if (m->cancels)
        loop_timer_cancel(&loop, &m->cancels->timer);
    if (m->letter == '.')
        loop_stop(&loop);
}

static void arm(struct mark *m, char letter, uint64_t due_ns)
{
    m->timer.on_due = on_mark;
    m->letter = letter;
    (void)loop_timer_set(&loop, &m->timer, due_ns);
}

static void test_timers(void)
{
    struct mark m[6] = {0};
    uint64_t now = clock_now_ns();
    memset(order, 0, sizeof order);
    ok(loop_init(&loop) == 0, "a loop");
    arm(&m[0], 'c', now + 3);
    arm(&m[1], 'a', now + 1);
    arm(&m[2], 'x', now + 4);
    arm(&m[3], 'b', now + 2);
    arm(&m[4], 'y', now + 1);
    arm(&m[5], '.', now + 2 * CLOCK_NS_PER_MS);
    m[0].cancels = &m[2];
    loop_timer_cancel(&loop, &m[4].timer);
    loop_timer_cancel(&loop, &m[4].timer);
    ok(loop_run(&loop) == 0 && strcmp(order, "abc.") == 0,
       "timers come in the order of their time, cancelled ones not: %s", order);
    ok(clock_now_ns() >= now + 2 * CLOCK_NS_PER_MS, "and not before it");
    ok(!m[0].timer.slot && !m[2].timer.slot, "what came or was cancelled is not armed");
    loop_fini(&loop);
    loop_fini(&loop);
}

static void test_many_timers(void)
{
    static struct mark m[1000];
    struct mark end = {0};
    uint64_t now = clock_now_ns(), last = 0, seed = 1;
    size_t armed = 0, right = 0;
    (void)loop_init(&loop);
    for (size_t i = 0; i < ARRAY_LEN(m); i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        arm(&m[i], 'm', now + (seed >> 40));
    }
    for (size_t i = 0; i < ARRAY_LEN(m); i += 3)
        loop_timer_cancel(&loop, &m[i].timer);
    for (size_t i = 1; i < ARRAY_LEN(m); i += 3)
        (void)loop_timer_set(&loop, &m[i].timer, m[i].timer.due_ns / 2);
    while (loop.heap_len > 0) {
        struct loop_timer *t = loop.heap[0];
        right += t->due_ns >= last && t->slot == 1;
        last = t->due_ns;
        armed++;
        loop_timer_cancel(&loop, t);
    }
    ok(armed == 666 && right == armed, "666 of 1000 timers, moved and cancelled, come in order");
    arm(&end, '.', 0);
    ok(loop_run(&loop) == 0, "an empty heap can be used again");
    loop_fini(&loop);
}

struct door {
    struct loop_io io;
    char letter;
    struct door *shuts;
};

static void on_door(struct loop_io *io, uint32_t events)
{
    struct door *d = CONTAINER_OF(io, struct door, io);
    eventfd_t n;
    if ((events & EPOLLIN) && eventfd_read(io->fd, &n) == 0)
        note(d->letter);
    if (d->shuts)
        loop_io_del(&loop, &d->shuts->io);
}

static void test_descriptors(void)
{
    int before = fd_count_open();
    struct door d[3] = {{.letter = 'p'}, {.letter = 'p'}, {.letter = 'q'}};
    struct mark end = {0};
    memset(order, 0, sizeof order);
    (void)loop_init(&loop);
    for (size_t i = 0; i < 3; i++) {
        d[i].io =
            (struct loop_io){.fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK), .on_ready = on_door};
        ok(loop_io_add(&loop, &d[i].io, i < 2 ? EPOLLIN : 0) == 0, "descriptor %zu is watched", i);
    }
    ok(loop_io_add(&loop, &d[0].io, EPOLLIN) == -EEXIST, "not twice");
    d[0].shuts = &d[1];
    d[1].shuts = &d[0]; /* whichever comes first: the other waits in the same batch */
    arm(&end, '.', clock_now_ns() + 2 * CLOCK_NS_PER_MS);
    ok(loop_run(&loop) == 0 && strcmp(order, "p.") == 0,
       "one forgotten in the same round does not come, nor one without events: %s", order);
    loop.stopping = false;
    memset(order, 0, sizeof order);
    ok(loop_io_mod(&loop, &d[2].io, EPOLLIN) == 0, "events can be changed");
    arm(&end, '.', clock_now_ns() + 2 * CLOCK_NS_PER_MS);
    ok(loop_run(&loop) == 0 && strcmp(order, "q.") == 0, "and come: %s", order);
    for (size_t i = 0; i < 3; i++) {
        loop_io_del(&loop, &d[i].io);
        loop_io_del(&loop, &d[i].io);
        fd_close(&d[i].io.fd);
    }
    loop_fini(&loop);
    ok(fd_count_open() == before, "no descriptor left behind");
}

static void test_word(void)
{
    ok(word_in("rw,cpuset,cpu,memory", "cpu"), "a word behind one that begins like it");
    ok(word_in("cpu", "cpu") && word_in("memory pids\n", "pids"), "alone; at the end of a line");
    ok(!word_in("cpuset,xcpu", "cpu") && !word_in("", "cpu"), "parts of words are none");
}

int main(void)
{
    test_word();
    test_arena();
    test_buf();
    test_num();
    test_err();
    test_clock();
    test_fd();
    test_beneath();
    test_packet();
    test_timers();
    test_many_timers();
    test_descriptors();
    return tap_done();
}
