/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/session - a session: pid 1 of a companion that keeps one bash, which evaluates one call
 * after the other.
 *
 * The bash reads the runs itself, from the run socket, as any standby does: a hop over pid 1, with
 * three descriptors, would be a quarter of a call. It notes in a page that pid 1 has mapped which
 * call is on and until when, arms pid 1's timerfd, evaluates, and says over a socket pair what came
 * of it; that is the end of the call. What it left in the background lives on, with descriptors
 * nobody reads any more. A call gets its own 0, 1 and 2 whatever an earlier one has done to those,
 * and they are closed between calls.
 *
 * The bash is the tenant's, and so are its descriptors: they sit at high numbers, closed by any
 * exec, but a script may close them, write to them or put something else there. So pid 1 believes
 * one thing only, a report of the call that is on; anything else ends the session. A bash that hung
 * up (exec, exit) is waited for. What such a script can reach is itself: its own calls' messages,
 * and its own deadline, behind which stands the engine's.
 *
 * At the deadline the bash and its process group are sent SIGINT: bash drops the command and the
 * session goes on. After the grace, and a second SIGINT within it, all are killed. The session ends
 * with its bash, and everything in this pidns with it; the next call of that name is another
 * companion's.
 */
#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/fd.h"
#include "lib/packet.h"
#include "zygote/zyg.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

#define INTERRUPTS 2u /* a shell takes it for its child's affair when that just ends by itself */
#define HIGH_FD 255u  /* where a bash keeps its script */
#define EARLY_NS CLOCK_NS_PER_MS /* that a timer may be */
#define GRACE_NS_MAX (60 * CLOCK_NS_PER_S)
/* After a cancel the engine waits for a second. */
#define CANCEL_GRACE_NS (500 * CLOCK_NS_PER_MS)
#define CANCEL_LOOK_NS (10 * CLOCK_NS_PER_MS) /* for the bash to read it, */
#define CANCEL_LOOKS 50u                      /* so often */

/* What the bash tells pid 1 without a call: a page that both have mapped. Its word. */
struct session_page {
    _Atomic uint64_t run_id; /* of the last call that it read; 0: none */
    /* When pid 1's timer rings; 0: it has, or never will. Mostly that is early enough for a call:
     * who sees that it rang too early arms it again. */
    _Atomic uint64_t armed_ns;
    uint64_t started_ns, due_ns, grace_ns;
};

/* From the bash, when a call is over; before its first one, with run_id 0: it is there. Only run_id
 * decides anything here. */
struct session_report {
    uint64_t run_id;
    uint64_t cpu_ns; /* its own and that of the children it waited for */
    int32_t status;  /* $? */
    uint32_t step;   /* enum child_step that failed: nothing was evaluated */
    int32_t step_errno;
    uint32_t interrupted; /* SIGINT, from whomever, made it drop the command */
};

struct session {
    struct session_page *page;
    pid_t bash;
    int fd;          /* to it; -1: it hung up */
    bool ready;      /* it waits for calls, or has one */
    uint64_t due_ns; /* of the next interrupt; UINT64_MAX: none */
    uint64_t grace_ns;
    uint64_t cancel_id;  /* to be cancelled; 0: none */
    unsigned looks;      /* for it */
    unsigned interrupts; /* so often SIGINT was sent to the call that is on */
};

/* ---- in the bash -------------------------------------------------------------------------------
 */

static struct session_page *page; /* before its fork in pid 1, too */

/* Those that it keeps, side by side. */
enum { NULL_FD, CLOCK_FD, RUN_FD, PID1_FD, KEPT_FDS };

static void close_between(unsigned first, unsigned last)
{
    if (SYS(syscall(SYS_close_range, first, last, 0)) < 0)
        _exit(1);
}

/* Moves them up and closes all others; returns where the first one is. */
static int keep_fds(const struct zyg *z)
{
    const int from[KEPT_FDS] = {[NULL_FD] = SYS(open("/dev/null", O_RDONLY | O_CLOEXEC)),
                                [CLOCK_FD] = z->clock_fd,
                                [RUN_FD] = z->run_fd,
                                [PID1_FD] = z->session_fd};
    struct rlimit lim;
    unsigned last = HIGH_FD;
    if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur <= last)
        last = (unsigned)lim.rlim_cur - 1;
    int first = (int)last + 1 - KEPT_FDS;
    for (int i = 0; i < KEPT_FDS; i++)
        if (SYS(fcntl(from[i], F_DUPFD_CLOEXEC, first + i)) != first + i)
            _exit(1);
    close_between(0, (unsigned)first - 1);
    close_between(last + 1, ~0u);
    return first;
}

static uint64_t cpu_used_ns(void)
{
    struct timespec self = {0};
    struct rusage children = {0};
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &self);
    (void)getrusage(RUSAGE_CHILDREN, &children);
    return (uint64_t)(self.tv_sec + children.ru_utime.tv_sec + children.ru_stime.tv_sec) *
               CLOCK_NS_PER_S +
           (uint64_t)self.tv_nsec +
           (uint64_t)(children.ru_utime.tv_usec + children.ru_stime.tv_usec) * 1000u;
}

static bool is_null(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3);
}

/* They came as 0, 1 and 2, which were closed, but close-on-exec; and all calls without input are
 * given one /dev/null, with one set of flags, owner and locks: a session has one of its own. */
static bool install_stdio(int kept, const int *fds, size_t nfds)
{
    if (nfds != 3 || fds[0] != 0 || fds[1] != 1 || fds[2] != 2)
        return false;
    if (!is_null(0)) {
        if (SYS(fcntl(0, F_SETFD, 0)) < 0)
            return false;
    } else if (SYS(dup2(kept + NULL_FD, 0)) < 0 || !is_null(0)) { /* a script has been at it */
        (void)close(0);
        if (SYS(open("/dev/null", O_RDONLY)) != 0)
            return false;
    }
    return SYS(fcntl(1, F_SETFD, 0)) == 0 && SYS(fcntl(2, F_SETFD, 0)) == 0;
}

/* In pid 1, too. A timer that cannot be armed leaves it to the engine's clock. */
static void arm(int clock_fd, uint64_t due_ns)
{
    struct itimerspec when = {.it_value = {.tv_sec = (time_t)(due_ns / CLOCK_NS_PER_S),
                                           .tv_nsec = (long)(due_ns % CLOCK_NS_PER_S)}};
    page->armed_ns = due_ns;
    (void)SYS(timerfd_settime(clock_fd, TFD_TIMER_ABSTIME, &when, NULL));
}

static void note_begin(int kept, const struct zyg_run *run)
{
    page->started_ns = clock_now_ns();
    page->due_ns = page->started_ns + run->timeout_ns;
    page->grace_ns = run->grace_ns;
    page->run_id = run->run_id; /* before that is looked at: on_clock() does it in reverse */
    uint64_t armed = page->armed_ns;
    if (!armed || armed > page->due_ns)
        arm(kept + CLOCK_FD, page->due_ns);
}

static void evaluate(const struct zyg *z, int kept, size_t len, const int *fds, size_t nfds,
                     struct session_report *report)
{
    struct child_job job = {0};
    struct zyg_call_result result = {0};
    int r = 0;
    if (!install_stdio(kept, fds, nfds)) {
        report->step = CHILD_STEP_STDIO;
        report->step_errno = EBADF;
    } else if (child_parse(len, &job) < 0) {
        report->step = CHILD_STEP_MESSAGE;
        report->step_errno = EBADMSG;
    } else if ((r = z->eval->call(&job, &result)) < 0) {
        report->step = CHILD_STEP_CWD;
        report->step_errno = -r;
    }
    report->status = result.status;
    report->interrupted = result.interrupted;
}

void session_main(struct zyg *z)
{
    const struct zyg_run *run = (const void *)child_message;
    uint64_t used = cpu_used_ns();
    zyg_spoil(); /* it shares no memory with pid 1 but its page, which is its alone */
    int kept = keep_fds(z);
    if (SYS(madvise(page, ZYG_PAGE, MADV_DONTFORK)) < 0 || SYS(chdir(ZYG_HOME)) < 0)
        _exit(1);
    z->eval->begin_session();
    if (packet_send(kept + PID1_FD, &(struct session_report){0}, sizeof(struct session_report),
                    NULL, 0) < 0)
        _exit(1);
    for (;;) {
        int fds[PACKET_FDS_MAX];
        size_t nfds;
        ssize_t n = packet_recv(kept + RUN_FD, child_message, ZYG_RUN_BYTES_MAX, fds, &nfds);
        if (n <= 0)
            _exit(1);
        if ((size_t)n <= sizeof *run || run->magic != ZYG_RUN_MAGIC)
            continue; /* a retirement is not of a session */
        note_begin(kept, run);
        struct session_report report = {.run_id = run->run_id};
        evaluate(z, kept, (size_t)n, fds, nfds, &report);
        uint64_t now = cpu_used_ns();
        report.cpu_ns = now - used;
        used = now;
        if (packet_send(kept + PID1_FD, &report, sizeof report, NULL, 0) < 0)
            _exit(report.status); /* a script took the socket away: that was its last call */
        close_between(0, 2);
    }
}

/* ---- in pid 1 ----------------------------------------------------------------------------------
 */

static void start_bash(struct zyg *z, struct session *s)
{
    int pair[2];
    int r = packet_pair(pair, true);
    if (r < 0)
        zyg_give_up(z, ZYG_STEP_FORK, -r);
    page = SYS(mmap(NULL, ZYG_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    if (page == MAP_FAILED)
        zyg_give_up(z, ZYG_STEP_FORK, errno);
    s->page = page;
    z->session_fd = pair[1];
    s->fd = pair[0];
    s->bash = children_fork(z, CHILD_SESSION);
    if (s->bash < 0)
        zyg_give_up(z, ZYG_STEP_FORK, errno);
    fd_close(&z->session_fd);
}

/* 0: none. */
static uint64_t find_call(const struct zyg *z, const struct session *s)
{
    uint64_t id = s->page->run_id;
    return id > z->last_done ? id : 0;
}

/* Then its bash is reaped, which ends the session. */
static void kill_all(struct session *s)
{
    (void)kill(-1, SIGKILL);
    s->due_ns = UINT64_MAX;
}

/* To bash and all it waits for; what is in the background ignores it, as everywhere. CONT for
 * whoever was stopped. */
static void interrupt(struct session *s, uint64_t grace_ns_max)
{
    if (s->interrupts == 0)
        s->grace_ns = s->page->grace_ns < grace_ns_max ? s->page->grace_ns : grace_ns_max;
    if (s->interrupts++ == INTERRUPTS || s->grace_ns == 0) {
        kill_all(s);
        return;
    }
    s->due_ns = clock_now_ns() + s->grace_ns / INTERRUPTS;
    (void)kill(-s->bash, SIGINT);
    (void)kill(-s->bash, SIGCONT);
}

static void finish(struct zyg *z, struct session *s, uint64_t run_id, struct zyg_report *report)
{
    uint64_t now = clock_now_ns(), started = s->page->started_ns;
    report->event = ZYG_DONE;
    report->run_id = z->last_done = run_id;
    report->wall_ns = started && started < now ? now - started : 0;
    report->reason = report->step   ? ZYG_BY_STEP
                     : z->timed_out ? ZYG_BY_TIMEOUT
                     : z->cancelled ? ZYG_BY_CANCEL
                                    : ZYG_BY_ITSELF;
    denials_report(z, report);
    z->cancelled = z->timed_out = false;
    s->cancel_id = 0;
    s->interrupts = s->looks = 0;
    s->due_ns = UINT64_MAX;
    zyg_report(z, report); /* from here on the bash may be in its next call */
}

/* From the bash, or whoever has its socket. */
static void on_report(struct zyg *z, struct session *s)
{
    struct session_report r;
    int fds[PACKET_FDS_MAX];
    size_t nfds;
    ssize_t n = packet_recv(s->fd, &r, sizeof r, fds, &nfds);
    if (n == -EAGAIN)
        return;
    if (!s->ready && n == (ssize_t)sizeof r) { /* no script has come near it yet */
        s->ready = true;
        zyg_report(z, &(struct zyg_report){.event = ZYG_READY});
        return;
    }
    uint64_t run_id = find_call(z, s);
    bool sound = n == (ssize_t)sizeof r && nfds == 0 && run_id && r.run_id == run_id;
    while (nfds > 0)
        fd_close(&fds[--nfds]);
    if (!sound) {
        fd_close(&s->fd);
        if (n != 0)
            kill_all(s);
        return; /* hung up: it is about to end, or has become another program */
    }
    struct zyg_report report = {.status = (r.status & 0xff) << 8,
                                .step = r.step < CHILD_STEPS ? r.step : CHILD_STEP_MESSAGE,
                                .step_errno = r.step_errno,
                                .cpu_ns = r.cpu_ns,
                                .interrupted = s->interrupts || r.interrupted};
    finish(z, s, run_id, &report);
}

/* Reaps what has ended; is the bash among it? */
static bool reap(const struct session *s, int flags, int *ret_status)
{
    bool found = false;
    int status;
    for (;;) {
        pid_t pid = waitpid(-1, &status, flags);
        if (pid <= 0 && !(pid < 0 && errno == EINTR))
            return found;
        if (pid == s->bash) {
            *ret_status = status;
            found = true;
        }
    }
}

/* It has told the last of it; now the engine has it ended. */
_Noreturn static void wait_for_the_end(struct zyg *z)
{
    struct pollfd p = {.fd = z->ctl, .events = 0};
    while (SYS(poll(&p, 1, -1)) < 0 && errno == EINTR)
        ;
    _exit(0);
}

/* A call that the bash did not come to read: its id, or 0. */
static uint64_t take_unread(struct zyg *z, struct session *s)
{
    const struct zyg_run *run = (const void *)child_message;
    struct pollfd waiting = {.fd = z->run_fd, .events = POLLIN};
    int fds[PACKET_FDS_MAX];
    size_t nfds = 0;
    if (SYS(poll(&waiting, 1, 0)) != 1)
        return 0;
    ssize_t n = packet_recv(z->run_fd, child_message, ZYG_RUN_BYTES_MAX, fds, &nfds);
    while (nfds > 0)
        fd_close(&fds[--nfds]);
    s->page->started_ns = 0;
    return n > (ssize_t)sizeof *run && run->magic == ZYG_RUN_MAGIC ? run->run_id : 0;
}

static void on_child(struct zyg *z, struct session *s)
{
    struct signalfd_siginfo info;
    struct zyg_report report = {.ended = 1, .survivors = 1}; /* the cgroup is asked for its time */
    int other;
    while (SYS(read(z->sig_fd, &info, sizeof info)) > 0)
        ;
    if (!reap(s, WNOHANG, &report.status))
        return;
    (void)kill(-1, SIGKILL);
    (void)reap(s, 0, &other);
    if (s->fd >= 0)
        on_report(z, s); /* it ended behind its call */
    if (!s->ready)
        zyg_give_up(z, ZYG_STEP_FORK, EAGAIN);
    uint64_t run_id = find_call(z, s);
    if (!run_id) { /* whose call it would have been is told that it was none */
        if (!(run_id = take_unread(z, s)))
            _exit(0);
        report =
            (struct zyg_report){.ended = 1, .step = CHILD_STEP_MESSAGE, .step_errno = ECONNRESET};
    }
    finish(z, s, run_id, &report);
    wait_for_the_end(z);
}

/* The bash may just be about to read it; whoever does not within the grace is killed. */
static void cancel(struct zyg *z, struct session *s)
{
    if (find_call(z, s) == s->cancel_id)
        interrupt(s, CANCEL_GRACE_NS);
    else if (s->looks++ < CANCEL_LOOKS)
        s->due_ns = clock_now_ns() + CANCEL_LOOK_NS;
    else
        kill_all(s);
}

static void on_order(struct zyg *z, struct session *s)
{
    struct zyg_order order;
    int fds[PACKET_FDS_MAX];
    size_t nfds;
    ssize_t n = packet_recv(z->ctl, &order, sizeof order, fds, &nfds);
    if (n != (ssize_t)sizeof order || nfds != 0 || order.verb != ZYG_CANCEL)
        _exit(n == 0 ? 0 : 1);
    if (order.run_id <= z->last_done || s->interrupts)
        return; /* it ended while the order was on its way, or is about to */
    z->cancelled = true;
    s->cancel_id = order.run_id;
    cancel(z, s);
}

/* It may have been armed for a call that is over. */
static void on_clock(struct zyg *z, struct session *s)
{
    uint64_t ticks;
    if (SYS(read(z->clock_fd, &ticks, sizeof ticks)) <= 0)
        return;
    s->page->armed_ns = 0;
    if (!find_call(z, s) || s->interrupts || s->cancel_id)
        return;
    if (clock_now_ns() + EARLY_NS < s->page->due_ns) {
        arm(z->clock_fd, s->page->due_ns);
        return;
    }
    z->timed_out = true;
    interrupt(s, GRACE_NS_MAX);
}

static void on_due(struct zyg *z, struct session *s)
{
    if (s->due_ns == UINT64_MAX || clock_now_ns() < s->due_ns)
        return;
    if (s->cancel_id && !s->interrupts)
        cancel(z, s);
    else
        interrupt(s, GRACE_NS_MAX);
}

/* Milliseconds for poll(2), rounded up; -1: for ever. */
static int until_due(const struct session *s, int other_ms)
{
    if (s->due_ns == UINT64_MAX)
        return other_ms;
    uint64_t now = clock_now_ns();
    uint64_t ms = s->due_ns > now ? (s->due_ns - now) / CLOCK_NS_PER_MS + 1 : 0;
    return other_ms >= 0 && (uint64_t)other_ms < ms ? other_ms : (int)ms; /* GRACE_NS_MAX */
}

void session_serve(struct zyg *z)
{
    struct session s = {.fd = -1, .due_ns = UINT64_MAX};
    start_bash(z, &s);
    for (;;) {
        struct pollfd p[4 + ZYG_DENIALS_FDS] = {{.fd = s.fd, .events = POLLIN},
                                                {.fd = z->clock_fd, .events = POLLIN},
                                                {.fd = z->sig_fd, .events = POLLIN},
                                                {.fd = z->ctl, .events = POLLIN}};
        if (SYS(poll(p, ARRAY_LEN(p), until_due(&s, denials_watch(z, p + 4)))) < 0) {
            if (errno != EINTR)
                _exit(1);
            continue;
        }
        if (p[0].revents)
            on_report(z, &s);
        denials_answer(z, p + 4);
        if (p[1].revents)
            on_clock(z, &s);
        if (p[2].revents)
            on_child(z, &s);
        if (p[3].revents)
            on_order(z, &s);
        on_due(z, &s);
    }
}
