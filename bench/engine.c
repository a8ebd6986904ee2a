/* SPDX-License-Identifier: Apache-2.0 */
/* bench/engine - a client of the engine's socket, as PROTOCOL.md describes one.
 *
 * One blocking connection, one open request at a time. A run gets /dev/null as stdin and two fresh
 * pipes, as the frontend does it; the answer is complete when both pipes ended and the Result came.
 */
#include "bench/bench.h"
#include "lib/fd.h"
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

/* The next message of this type (others, such as a second Hello, are passed over). */
static int receive(struct engine *e, enum proto_type type, struct proto_msg *ret, struct err *err)
{
    for (;;) {
        int fds[PROTO_FDS_MAX], r;
        size_t nfds = 0;

        r = proto_recv(e->fd, &e->arena, ret, fds, &nfds, err);
        if (r == 0)
            return err_set(err, "the engine closed the connection");
        if (r < 0)
            return r;
        for (size_t i = 0; i < nfds; i++)
            (void)close(fds[i]);
        if (ret->type == type)
            return 0;
        if (ret->type == PROTO_DONE)
            return err_set(err, "the engine refused: %s, %.150s",
                           proto_outcome_name(ret->done.outcome), ret->done.text);
    }
}

int engine_open(struct engine *e, const char *path, struct err *err)
{
    struct proto_msg hello;
    int r;

    *e = (struct engine){.fd = -1, .null_fd = -1, .storage = malloc(PROTO_ARENA_BYTES)};
    if (!e->storage)
        return err_set(err, "no memory for the engine client");
    arena_init(&e->arena, e->storage, PROTO_ARENA_BYTES);
    e->null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    e->fd = proto_connect(path, err);
    r = e->fd < 0 ? e->fd : receive(e, PROTO_HELLO, &hello, err);
    if (r == 0 && e->null_fd < 0)
        r = err_sys(err, "open /dev/null");
    if (r == 0 && hello.hello.version != PROTO_VERSION)
        r = err_set(err, "the engine speaks version %u", hello.hello.version);
    if (r < 0)
        engine_close(e);
    return r;
}

void engine_close(struct engine *e)
{
    fd_close(&e->fd);
    fd_close(&e->null_fd);
    free(ptr_take(&e->storage));
}

static int read_all(int fd, struct engine_run *ret, bool keep, struct err *err)
{
    char spill[4096];
    ssize_t n;

    for (;;) {
        size_t room = keep ? sizeof ret->out - 1 - ret->out_len : 0;
        n = read(fd, room ? ret->out + ret->out_len : spill, room ? room : sizeof spill);
        if (n <= 0)
            return n < 0 ? err_sys(err, "read the output") : 0;
        if (!ret->first_ns)
            ret->first_ns = clock_now_ns();
        if (room)
            ret->out_len += (size_t)n;
    }
}

int engine_execute(struct engine *e, const char *ns_id, const char *cmd, struct engine_run *ret,
                   struct err *err)
{
    struct proto_msg msg = {.type = PROTO_EXECUTE, .tag = ++e->tag};
    auto_close int out_fd = -1;
    auto_close int err_fd = -1;
    int out[2], errs[2], fds[3], r;

    *ret = (struct engine_run){.start_ns = clock_now_ns()};
    msg.execute = (struct proto_execute){.tag = e->tag,
                                         .ns_id = ns_id,
                                         .cmd = cmd,
                                         .cmd_len = strlen(cmd),
                                         .cwd = "",
                                         .request_id = "bench"};
    if (pipe2(out, O_CLOEXEC) < 0)
        return err_sys(err, "pipe");
    out_fd = out[0];
    if (pipe2(errs, O_CLOEXEC) < 0) {
        (void)close(out[1]);
        return err_sys(err, "pipe");
    }
    err_fd = errs[0];
    /* so that the child, another user, may reopen /dev/stdout */
    (void)fchmod(out[1], 0666);
    (void)fchmod(errs[1], 0666);
    memcpy(fds, (int[]){e->null_fd, out[1], errs[1]}, sizeof fds);
    r = proto_send(e->fd, &msg, fds, 3, err);
    ret->sent_ns = clock_now_ns();
    (void)close(out[1]);
    (void)close(errs[1]);
    if (r == 0)
        r = read_all(out_fd, ret, true, err);
    if (r == 0)
        r = read_all(err_fd, ret, false, err);
    ret->eof_ns = clock_now_ns();
    if (r == 0)
        r = receive(e, PROTO_RESULT, &msg, err);
    ret->done_ns = clock_now_ns();
    if (r < 0)
        return r;
    ret->out[ret->out_len] = 0;
    ret->facts = msg.result;
    if (msg.result.outcome != PROTO_OK)
        return err_set(err, "the engine: %s, %.160s", proto_outcome_name(msg.result.outcome),
                       msg.result.text);
    return 0;
}

int engine_stats(struct engine *e, struct proto_msg *ret, struct err *err)
{
    struct proto_msg ask = {.type = PROTO_STATS_REQUEST, .tag = ++e->tag};
    int r = proto_send(e->fd, &ask, NULL, 0, err);

    return r < 0 ? r : receive(e, PROTO_STATS, ret, err);
}

int engine_stat(struct engine *e, const char *name, uint64_t *ret, struct err *err)
{
    struct proto_msg msg;
    int r = engine_stats(e, &msg, err);

    if (r < 0)
        return r;
    for (size_t i = 0; i < msg.stats.count; i++) {
        if (strcmp(msg.stats.entries[i].name, name) == 0) {
            *ret = msg.stats.entries[i].value;
            return 0;
        }
    }
    return 1;
}

int engine_wait_stat(struct engine *e, const char *name, uint64_t at_least, uint64_t at_most,
                     unsigned seconds, struct err *err)
{
    uint64_t end_ns = clock_now_ns() + seconds * CLOCK_NS_PER_S, value = 0;
    struct timespec pause = {.tv_nsec = 2 * 1000 * 1000};

    for (;;) {
        int r = engine_stat(e, name, &value, err);
        if (r < 0)
            return r;
        if (r > 0)
            return err_set(err, "the service has no statistic \"%s\"", name);
        if (value >= at_least && value <= at_most)
            return 0;
        if (clock_now_ns() > end_ns)
            return err_set(err, "\"%s\" is still %llu after %u s, waited for %llu..%llu", name,
                           (unsigned long long)value, seconds, (unsigned long long)at_least,
                           (unsigned long long)at_most);
        (void)nanosleep(&pause, NULL); /* statistics are asked for, not sent: poll gently */
    }
}

int engine_remove(struct engine *e, const char *ns_id, enum proto_outcome *ret, struct err *err)
{
    struct proto_msg msg = {.type = PROTO_NS_REMOVE, .tag = ++e->tag};
    int fds[PROTO_FDS_MAX], r;
    size_t nfds = 0;

    msg.ns_remove.ns_id = ns_id;
    r = proto_send(e->fd, &msg, NULL, 0, err);
    while (r == 0) {
        r = proto_recv(e->fd, &e->arena, &msg, fds, &nfds, err);
        if (r == 0)
            return err_set(err, "the engine closed the connection");
        for (size_t i = 0; r > 0 && i < nfds; i++)
            (void)close(fds[i]);
        if (r > 0 && msg.type == PROTO_DONE) {
            *ret = msg.done.outcome;
            return 0;
        }
        r = r > 0 ? 0 : r;
    }
    return r;
}
