/* SPDX-License-Identifier: Apache-2.0 */
/* cli/upstream - the way to the engine: connect, greet, ask. Each step has a deadline, and what
 * cannot be reached is said with what to do about it. One connection per process, so one arena.
 */
#include "cli/cli.h"
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "protocol/protocol.h"
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>

#define CONNECT_S 5
#define HELLO_MS 5000

static char storage[PROTO_ARENA_BYTES] __attribute__((aligned(16)));

const char *cli_socket_path(const char *given)
{
    const char *env = getenv("BROOD_SOCKET");
    return given ? given : env && *env ? env : CLI_SOCKET_DEFAULT;
}

static void on_alarm(int signo)
{
    (void)signo; /* it is enough that connect(2) returns */
}

/* connect(2) waits as long as the engine's backlog is full; the alarm ends that. */
static int connect_in_time(const char *path, struct err *err)
{
    const struct sigaction act = {.sa_handler = on_alarm};
    const struct itimerval on = {.it_value.tv_sec = CONNECT_S, .it_interval.tv_sec = 1}, off = {0};
    struct sigaction before;
    (void)sigaction(SIGALRM, &act, &before);
    (void)setitimer(ITIMER_REAL, &on, NULL);
    int sock = proto_connect(path, err);
    (void)setitimer(ITIMER_REAL, &off, NULL);
    (void)sigaction(SIGALRM, &before, NULL);
    return sock;
}

static int explain(const char *path, int code, struct err *err)
{
    switch (-code) {
    case ENOENT:
    case ECONNREFUSED:
    case ENOTDIR:
        (void)err_set(
            err,
            "no service at %s: start it (sudo brood-supervisor, or make run), or name its "
            "socket with --socket or BROOD_SOCKET",
            path);
        break;
    case EACCES:
    case EPERM:
        (void)err_set(err, "no right to use %s: be root, or named by the setting socket_users",
                      path);
        break;
    case EINTR:
    case EAGAIN:
        (void)err_set(err, "the service at %s does not accept connections", path);
        break;
    default:
        break; /* its own text is the best we have */
    }
    return code;
}

int cli_receive(int sock, uint64_t timeout_ms, const struct proto_msg **ret, struct err *err)
{
    static struct proto_msg msg;
    uint64_t deadline = clock_now_ns() + timeout_ms * CLOCK_NS_PER_MS;
    for (;;) {
        uint64_t now = clock_now_ns();
        struct pollfd pfd = {.fd = sock, .events = POLLIN};
        int left = now < deadline ? (int)((deadline - now) / CLOCK_NS_PER_MS) + 1 : 0;
        int n = poll(&pfd, 1, left);
        if (n == 0)
            return err_set(err, "the service did not answer within %llu ms",
                           (unsigned long long)timeout_ms);
        if (n < 0 && errno != EINTR)
            return err_sys(err, "poll");
        if (n < 0)
            continue;
        struct arena arena;
        int fds[PROTO_FDS_MAX];
        size_t nfds = 0;
        arena_init(&arena, storage, sizeof storage);
        int r = proto_recv(sock, &arena, &msg, fds, &nfds, err);
        for (size_t i = 0; r == 1 && i < nfds; i++)
            fd_close(&fds[i]); /* nobody sends us any */
        if (r == 0)
            return err_set(err, "the service closed the connection");
        if (r < 0 && r != -EAGAIN)
            return r;
        if (r == 1) {
            *ret = &msg;
            return 0;
        }
    }
}

int cli_connect(const char *path, struct proto_hello *ret_hello, struct err *err)
{
    const struct timeval patience = {.tv_sec = CONNECT_S};
    const struct proto_msg *msg;
    auto_close int sock = connect_in_time(path, err);
    if (sock < 0)
        return explain(path, sock, err);
    if (setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) < 0)
        return err_sys(err, "%s", path);
    int r = cli_receive(sock, HELLO_MS, &msg, err);
    if (r < 0)
        return err_wrap(err, "%s", path);
    if (msg->type == PROTO_DONE)
        return err_set(err, "%s: %s: %s", path, proto_outcome_name(msg->done.outcome),
                       msg->done.text);
    if (msg->type != PROTO_HELLO)
        return err_set(err, "%s: whatever listens there is not brood", path);
    if (msg->hello.version != PROTO_VERSION)
        return err_set(err, "%s: the service speaks protocol %u, this program %d", path,
                       msg->hello.version, PROTO_VERSION);
    *ret_hello = msg->hello;
    ret_hello->server = ""; /* its text lives in the arena */
    return fd_take(&sock);
}

int cli_ask(int sock, const struct proto_msg *request, uint64_t timeout_ms,
            const struct proto_msg **ret, struct err *err)
{
    const struct proto_msg *msg;
    int r = proto_send(sock, request, NULL, 0, err);
    if (r == -EAGAIN)
        return err_set(err, "the service does not read");
    while (r == 0) {
        r = cli_receive(sock, timeout_ms, &msg, err);
        if (r == 0 && msg->type != PROTO_HELLO && msg->tag == request->tag) {
            *ret = msg;
            return 0;
        }
    }
    return r;
}
