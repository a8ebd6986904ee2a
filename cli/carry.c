/* SPDX-License-Identifier: Apache-2.0 */
/* cli/carry - one run from its Execute to its end: a pump for each stream, the engine's socket and
 * our signals in one poll loop.
 *
 * A tenant gets the far ends of pipes made here and nothing else: never our terminal (it could type
 * into it), never a file of ours (it could seek or reopen it). Each pump holds at most one chunk,
 * so back-pressure goes through: who does not read our stdout slows the tenant down, not us.
 *
 * The user's descriptors are shared with other programs, so they stay blocking; a chunk is written
 * only after poll(2) said it fits: PIPE_BUF bytes to what may block, which a pipe that polls
 * writable takes.
 *
 * Ends: the result and end of file on both pipes. SIGINT, SIGTERM, SIGHUP and a broken stdout
 * cancel the run and wait for its result; a second signal, or no result in time, ends us without
 * (the connection closes, which cancels too).
 */
#include "cli/cli.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "protocol/protocol.h"
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define CHUNK 65536
#define CANCEL_MS 20000 /* from our Cancel to the engine's answer: its own clocks are shorter */
#define DRAIN_MS 3000   /* from the result to end of file: nobody holds the pipes any more */

struct pump {
    int in_fd, out_fd; /* in -1: end of file; out -1: nobody to write to */
    bool out_is_ours;  /* a pipe end we made: closed when done */
    size_t chunk, at, len;
    int left; /* to be read, whoever may still write; -1: all until its end */
    char bytes[CHUNK];
};

/* In the order of enum proto_kind; what the compiler says of code goes to our stderr. */
enum { STDIN, STDOUT, STDERR, COMPILER_OUT, COMPILER_ERR, PUMPS };
enum { POLL_SOCK = PUMPS, POLL_SIGNAL, POLLS };

struct carry {
    int sock, sig_fd;
    struct pump pump[PUMPS];
    struct proto_result result;
    bool is_session, has_result, cancelled, failed;
    int signo;            /* why we cancelled: a signal of ours, SIGPIPE for a broken stdout */
    uint64_t deadline_ns; /* 0: none */
};

/* ---- setting up
 * ---------------------------------------------------------------------------------- */

/* Wide open, because the tenant is another user and may open it again: /dev/stderr, /dev/stdin. */
static int make_pipe(int ret[2], struct err *err)
{
    if (SYS(pipe2(ret, O_CLOEXEC)) < 0)
        return err_sys(err, "pipe");
    if (fchmod(ret[0], 0666) < 0 || fchmod(ret[1], 0666) < 0) {
        fd_close(&ret[0]);
        fd_close(&ret[1]);
        return err_sys(err, "pipe mode");
    }
    return 0;
}

/* How much may be written at once after poll(2) said "writable". */
static size_t chunk_for(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? CHUNK : PIPE_BUF;
}

static bool is_dev_null(int fd)
{
    struct stat st, null;
    return fstat(fd, &st) == 0 && stat("/dev/null", &null) == 0 && S_ISCHR(st.st_mode) &&
           st.st_rdev == null.st_rdev;
}

/* SIGINT and its like, unless whoever started us wanted them ignored (nohup, a shell's &). */
static int watch_signals(struct err *err)
{
    static const int wanted[] = {SIGINT, SIGTERM, SIGHUP};
    sigset_t set;
    (void)sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        struct sigaction now;
        if (sigaction(wanted[i], NULL, &now) == 0 && now.sa_handler != SIG_IGN)
            (void)sigaddset(&set, wanted[i]);
    }
    (void)signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return err_sys(err, "signal mask");
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? err_sys(err, "signalfd") : fd;
}

/* Fills the pumps, and `theirs` with what the tenant gets. */
static int open_streams(struct carry *c, bool with_stdin, int count, int theirs[PUMPS],
                        struct err *err)
{
    int pair[2];
    int r = 0;
    if (with_stdin && !is_dev_null(0)) {
        if ((r = make_pipe(pair, err)) < 0)
            return r;
        theirs[STDIN] = pair[0];
        c->pump[STDIN].in_fd = 0;
        c->pump[STDIN].out_fd = pair[1];
        c->pump[STDIN].out_is_ours = true;
        c->pump[STDIN].chunk = PIPE_BUF;
        if (fd_set_nonblock(pair[1]) < 0)
            return err_sys(err, "pipe");
    } else {
        theirs[STDIN] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (theirs[STDIN] < 0)
            return err_sys(err, "/dev/null");
    }
    for (int i = STDOUT; i < count; i++) {
        int out_fd = i == STDOUT ? 1 : 2;
        if ((r = make_pipe(pair, err)) < 0)
            return r;
        c->pump[i].in_fd = pair[0];
        c->pump[i].out_fd = out_fd;
        c->pump[i].chunk = chunk_for(out_fd);
        theirs[i] = pair[1];
        if (fd_set_nonblock(pair[0]) < 0) /* the reading end only: the flag belongs to the end */
            return err_sys(err, "pipe");
    }
    return 0;
}

/* ---- pumps
 * ------------------------------------------------------------------------------------------ */

static void stop_reading(struct pump *p)
{
    if (p->in_fd > 2)
        fd_close(&p->in_fd); /* the tenant gets SIGPIPE */
    p->in_fd = -1;
}

static void stop_pump(struct pump *p)
{
    stop_reading(p);
    if (p->out_is_ours)
        fd_close(&p->out_fd);
    p->out_fd = -1;
    p->at = p->len = 0;
}

static bool pump_is_done(const struct pump *p)
{
    return p->in_fd < 0 && p->at == p->len;
}

static void cancel(struct carry *c, int signo)
{
    const struct proto_msg msg = {.type = PROTO_CANCEL, .tag = 1};
    struct err err;
    if (c->cancelled)
        return;
    c->cancelled = true;
    c->signo = signo;
    stop_pump(&c->pump[STDIN]);
    if (c->has_result)
        return;
    c->deadline_ns = clock_now_ns() + CANCEL_MS * CLOCK_NS_PER_MS;
    if (proto_send(c->sock, &msg, NULL, 0, &err) < 0)
        (void)shutdown(c->sock, SHUT_RDWR); /* the engine cancels what a lost client left */
}

static void read_chunk(struct carry *c, int i)
{
    struct pump *p = &c->pump[i];
    bool ends = p->left >= 0;
    ssize_t n =
        read(p->in_fd, p->bytes, ends && (size_t)p->left < p->chunk ? (size_t)p->left : p->chunk);
    if (n > 0) {
        p->at = 0;
        p->len = (size_t)n;
        p->left -= ends ? (int)n : 0;
        if (p->left == 0)
            stop_reading(p);
        return;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0 && i == STDIN)
        cli_complain("stdin: %s", strerror(errno));
    stop_reading(p);
    if (p->out_is_ours)
        fd_close(&p->out_fd); /* end of file for the tenant */
}

static void write_chunk(struct carry *c, int i)
{
    struct pump *p = &c->pump[i];
    struct pollfd again = {.fd = p->out_fd, .events = POLLOUT};
    if (poll(&again, 1, 0) <= 0)
        return; /* stdout and stderr may be one pipe, and the other one has just filled it */
    ssize_t n = write(p->out_fd, p->bytes + p->at, p->len - p->at);
    if (n >= 0) {
        p->at += (size_t)n;
        return;
    }
    if (errno == EAGAIN || errno == EINTR)
        return;
    int why = errno;
    stop_pump(p);
    if (i == STDIN)
        return; /* the tenant closed its stdin: its right */
    if (why != EPIPE) {
        cli_complain("%s: %s", i == STDOUT ? "stdout" : "stderr", strerror(why));
        c->failed = true;
    }
    if (i == STDOUT || why != EPIPE)
        cancel(c, SIGPIPE);
}

/* One direction at a time: what is held goes out before more comes in. */
static void set_poll(const struct pump *p, struct pollfd *ret)
{
    if (p->len > p->at)
        *ret = (struct pollfd){.fd = p->out_fd, .events = POLLOUT};
    else
        *ret = (struct pollfd){.fd = p->in_fd, .events = POLLIN};
}

static void move(struct carry *c, int i)
{
    struct pump *p = &c->pump[i];
    if (p->len > p->at)
        write_chunk(c, i);
    else if (p->in_fd >= 0)
        read_chunk(c, i);
    if (p->at == p->len)
        p->at = p->len = 0;
}

/* ---- the loop
 * --------------------------------------------------------------------------------------- */

/* A call of a session has ended, but what it left in the background may hold its outputs open. */
static void end_with_what_is_there(struct carry *c)
{
    for (int i = STDOUT; i < PUMPS; i++) {
        struct pump *p = &c->pump[i];
        if (p->in_fd >= 0 && (ioctl(p->in_fd, FIONREAD, &p->left) < 0 || p->left == 0))
            stop_reading(p);
    }
}

/* 0, or -1: the result will never come. */
static int on_socket(struct carry *c)
{
    const struct proto_msg *msg;
    struct err err;
    if (cli_receive(c->sock, 0, &msg, &err) < 0) {
        cli_complain("%s; how the run ended is not known", err.text);
        return -1;
    }
    if (msg->type == PROTO_DONE) { /* how the engine answers what it cannot even read */
        cli_complain("%s: %s", proto_outcome_name(msg->done.outcome), msg->done.text);
        return -1;
    }
    if (msg->type != PROTO_RESULT || msg->tag != 1)
        return 0;
    c->result = msg->result; /* its texts are used before the next message: there is none */
    c->has_result = true;
    c->deadline_ns = clock_now_ns() + DRAIN_MS * CLOCK_NS_PER_MS;
    stop_pump(&c->pump[STDIN]);
    if (c->is_session)
        end_with_what_is_there(c);
    return 0;
}

/* 0, or -1: do not wait any longer. */
static int on_signal(struct carry *c)
{
    struct signalfd_siginfo info;
    if (read(c->sig_fd, &info, sizeof info) != (ssize_t)sizeof info)
        return 0;
    bool again = c->cancelled && c->signo != SIGPIPE;
    if (c->has_result || again) { /* only our own output is left to wait for */
        c->cancelled = true;
        c->signo = (int)info.ssi_signo;
        return -1;
    }
    cancel(c, (int)info.ssi_signo);
    c->signo = (int)info.ssi_signo;
    return 0;
}

/* The drain's deadline runs only while the tenant's side is silent: a slow reader of ours has all
 * the time until a signal. */
static int patience_ms(struct carry *c, bool blocked_by_us)
{
    uint64_t now = clock_now_ns();
    if (c->has_result && blocked_by_us)
        c->deadline_ns = now + DRAIN_MS * CLOCK_NS_PER_MS;
    if (!c->deadline_ns || (c->has_result && blocked_by_us))
        return -1;
    return c->deadline_ns > now ? (int)((c->deadline_ns - now) / CLOCK_NS_PER_MS) + 1 : 0;
}

/* A refused run has no output to wait for. */
static bool is_over(const struct carry *c)
{
    bool over = c->result.outcome != PROTO_OK && c->result.outcome != PROTO_INTERNAL;
    if (!over) {
        over = true;
        for (int i = STDOUT; i < PUMPS; i++)
            over &= pump_is_done(&c->pump[i]);
    }
    return c->has_result && over;
}

static void carry_on(struct carry *c)
{
    while (!is_over(c)) {
        struct pollfd pfd[POLLS];
        bool blocked = false;
        for (int i = 0; i < PUMPS; i++) {
            set_poll(&c->pump[i], &pfd[i]);
            blocked |= i != STDIN && c->pump[i].len > c->pump[i].at;
        }
        pfd[POLL_SOCK] = (struct pollfd){.fd = c->has_result ? -1 : c->sock, .events = POLLIN};
        pfd[POLL_SIGNAL] = (struct pollfd){.fd = c->sig_fd, .events = POLLIN};
        int n = poll(pfd, POLLS, patience_ms(c, blocked));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            cli_complain(c->has_result ? "the run has ended, but something still holds its output"
                                       : "the service did not answer the cancellation");
            return;
        }
        for (int i = 0; i < PUMPS; i++)
            if (pfd[i].revents)
                move(c, i);
        if (pfd[POLL_SIGNAL].revents && on_signal(c) < 0)
            return;
        if (pfd[POLL_SOCK].revents && !c->has_result && on_socket(c) < 0)
            return;
    }
}

/* ---- how it ended
 * ------------------------------------------------------------------------------------ */

static int complain_refused(const struct proto_result *r)
{
    char retry[48] = "";
    if (r->retry_after_ms)
        (void)snprintf(retry, sizeof retry, " (try again in %llu ms)",
                       (unsigned long long)r->retry_after_ms);
    cli_complain("%s%s%s%s%s%s", proto_outcome_name(r->outcome), *r->field ? ": " : "", r->field,
                 *r->text ? ": " : "", r->text, retry);
    return CLI_OUR_FAULT;
}

static int status_of(const struct carry *c)
{
    const struct proto_result *r = &c->result;
    if (c->failed)
        return CLI_OUR_FAULT;
    if (!c->has_result)
        return c->signo ? 128 + c->signo : CLI_OUR_FAULT;
    if (c->cancelled && (r->outcome != PROTO_OK || r->reason == PROTO_REASON_CANCELLED))
        return 128 + c->signo;
    if (r->outcome != PROTO_OK)
        return complain_refused(r);
    if (r->reason == PROTO_REASON_TIMEOUT) {
        cli_complain("the run was ended at its deadline, after %llu ms",
                     (unsigned long long)(r->wall_us / 1000));
        return CLI_TIMEOUT;
    }
    if (r->reason == PROTO_REASON_INTERNAL) {
        cli_complain("the service failed to carry out the run%s%s", *r->text ? ": " : "", r->text);
        return CLI_OUR_FAULT;
    }
    if (r->reason != PROTO_REASON_EXIT && r->reason != PROTO_REASON_SIGNAL)
        cli_complain("the run was ended: %s%s%s", proto_reason_name(r->reason),
                     *r->text ? ": " : "", r->text);
    if (r->exited)
        return r->exit_code & 0xff;
    return r->signal > 0 && r->signal < 128 ? 128 + r->signal : CLI_OUR_FAULT;
}

int cli_carry(int sock, const struct proto_msg *execute, bool with_stdin, int code_fd)
{
    static struct carry c;
    int count = code_fd < 0 ? STDERR + 1 : PUMPS;
    int theirs[PUMPS + 1] = {-1, -1, -1, -1, -1, code_fd};
    struct err err = {0};
    c.sock = sock;
    c.is_session = execute->execute.companion == PROTO_COMPANION_SESSION;
    for (int i = 0; i < PUMPS; i++)
        c.pump[i].in_fd = c.pump[i].out_fd = c.pump[i].left = -1;
    int r = c.sig_fd = watch_signals(&err);
    if (r >= 0)
        r = open_streams(&c, with_stdin, count, theirs, &err);
    if (r >= 0)
        r = proto_send(sock, execute, theirs, (size_t)count + (code_fd >= 0), &err);
    for (int i = 0; i < PUMPS; i++)
        fd_close(&theirs[i]);
    if (r < 0)
        cli_complain("%s", r == -EAGAIN ? "the service does not read" : err.text);
    else
        carry_on(&c);
    int status = r < 0 ? CLI_OUR_FAULT : status_of(&c);
    for (int i = 0; i < PUMPS; i++)
        stop_pump(&c.pump[i]);
    fd_close(&c.sig_fd);
    return status;
}
