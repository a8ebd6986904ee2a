/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/serve - pid 1 of a namespace: keeps the clock, reaps, kills, reports.
 *
 * Runs as root of its own userns. It reads fixed structs from the engine and nothing else: the
 * bytes of a run go to the standby directly. States, by what is true: no standby (before the first,
 * after a retirement), standby waiting (note->run_id == 0), running (note->run_id != 0). A run ends
 * when the standby's own process ended; what it left behind is killed before anything is reported,
 * so only pid 1 and those who stand behind the next run (children.c) are there when that begins.
 *
 * pid 1 ignores signals that it has no handler for, also SIGKILL from its own pidns
 * (pid_namespaces(7)).
 */
#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/packet.h"
#include "zygote/zyg.h"
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

#define UNREAD_DEATHS_MAX 8u
#define CLEAN_RSS_KB_MAX 4096 /* a run that took more takes its mould along */

struct tally {
    struct zyg_report report;
    bool main_ended;
};

static void count(struct zyg *z, struct tally *t, pid_t pid, int status, const struct rusage *ru)
{
    if (pid == z->reserve || pid == z->mould) { /* no part of the run */
        *(pid == z->reserve ? &z->reserve : &z->mould) = 0;
        return;
    }
    uint64_t cpu_us = (uint64_t)(ru->ru_utime.tv_sec + ru->ru_stime.tv_sec) * 1000000u +
                      (uint64_t)(ru->ru_utime.tv_usec + ru->ru_stime.tv_usec);
    t->report.cpu_ns += cpu_us * 1000;
    if ((uint64_t)ru->ru_maxrss > t->report.max_rss_kb)
        t->report.max_rss_kb = (uint64_t)ru->ru_maxrss;
    if (children_is_standby(z, pid)) {
        t->report.status = status;
        t->main_ended = true;
    }
}

/* Reaps what has ended. Returns true when processes are left. */
static bool reap(struct zyg *z, struct tally *t, int flags)
{
    struct rusage ru;
    int status;
    for (;;) {
        pid_t pid = wait4(-1, &status, flags, &ru);
        if (pid > 0)
            count(z, t, pid, status, &ru);
        else if (pid == 0)
            return true;
        else if (errno != EINTR)
            return false; /* ECHILD: nothing but us is left in this pidns */
    }
}

/* Kills all others in this pidns and waits for them; a fork in flight sees its pending SIGKILL. */
static void kill_leftovers(struct zyg *z, struct tally *t)
{
    do {
        t->report.survivors++;
        (void)kill(-1, SIGKILL);
    } while (reap(z, t, 0));
}

/* Did the run leave processes behind? The reserve is none of them, nor in their cgroup, which none
 * of them can leave; a mould that is ready is in there. */
static bool has_leftovers(struct zyg *z)
{
    char text[24];
    bool ready;
    ssize_t n;
    do {
        children_settle_mould(z);
        if (!z->reserve && !z->mould)
            return true; /* whoever is left */
        ready = children_mould_is_ready(z);
        n = SYS(pread(z->pids_current, text, sizeof text - 1, 0));
    } while (ready != children_mould_is_ready(z) || children_mould_is_joining(z));
    return n != 2 || text[0] != (ready ? '1' : '0');
}

static void stop_clock(struct zyg *z)
{
    struct itimerspec off = {0};
    uint64_t ticks;
    (void)timerfd_settime(z->clock_fd, 0, &off, NULL);
    (void)!read(z->clock_fd, &ticks, sizeof ticks);
}

static uint32_t reason(const struct zyg *z, const struct zyg_report *report)
{
    return report->step   ? ZYG_BY_STEP
           : z->timed_out ? ZYG_BY_TIMEOUT
           : z->cancelled ? ZYG_BY_CANCEL
                          : ZYG_BY_ITSELF;
}

static void report_done(struct zyg *z, struct zyg_report *report, uint64_t run_id)
{
    report->event = ZYG_DONE;
    report->run_id = z->last_done = run_id;
    z->held_signals = 0;
    report->reason = reason(z, report);
    denials_report(z, report);
    zyg_report(z, report);
}

/* The standby died, or was killed, without having read a run: another takes its place. One that
 * could not say what it had read may have taken a run along; which one, the engine knows. */
static void replace_standby(struct zyg *z, int status)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_MUTE)
        zyg_give_up(z, ZYG_STEP_FORK, EIO);
    if (++z->unread_deaths > UNREAD_DEATHS_MAX)
        zyg_give_up(z, ZYG_STEP_FORK, z->note->step ? z->note->step_errno : EAGAIN);
    children_prepare_standby(z);
}

/* A mould outlives only clean runs, and only a row of them pays for another. Before the report:
 * what is dropped with it must not count for the next run, whose figures begin then. */
static void judge(struct zyg *z, const struct zyg_report *done)
{
    uint64_t rss_kb = z->token->exec_rss_kb ? z->token->exec_rss_kb : done->max_rss_kb;
    bool clean = !z->token->spoiled && reason(z, done) == ZYG_BY_ITSELF &&
                 WIFEXITED(done->status) && done->survivors == 0 && rss_kb <= CLEAN_RSS_KB_MAX;
    if (clean) {
        z->patience -= z->patience > 0;
        return;
    }
    children_drop(&z->mould);
    z->patience = z->patience > ZYG_CLEAN_RUNS ? z->patience : ZYG_CLEAN_RUNS;
}

static void end_run(struct zyg *z, struct tally *t)
{
    uint64_t run_id = z->note->run_id;
    z->standby = 0;
    z->casting = false;
    if (run_id) {
        t->report.step = z->note->step;
        t->report.step_errno = z->note->step_errno;
        t->report.wall_ns = clock_now_ns() - z->note->started_ns;
        t->report.outputs = z->note->flags & ZYG_EMPTY_OUTPUTS && outputs_may_be();
        judge(z, &t->report);
        report_done(z, &t->report, run_id);
        stop_clock(z);
        z->unread_deaths = 0;
        if (z->one_request) /* the next stage, if there is one, gets its child when it comes */
            return;
        children_prepare_standby(z);
        children_prepare_reserve(z);
        children_prepare_mould(z);
    } else if (z->note->retired) { /* until a run is there to be read */
        children_drop(&z->reserve);
        children_drop(&z->mould);
        z->runs = 0;
        z->patience = ZYG_CLEAN_RUNS;
    } else {
        int status = t->report.status;
        if (z->mould)
            kill_leftovers(z, t); /* among them whom it may have cast since */
        replace_standby(z, status);
    }
}

static void on_child(struct zyg *z, struct tally *t)
{
    struct signalfd_siginfo info;
    while (SYS(read(z->sig_fd, &info, sizeof info)) > 0)
        ;
    bool left = reap(z, t, WNOHANG);
    if (!t->main_ended && z->casting && !z->mould && !z->note->pid) { /* it was not fit any more */
        z->casting = false;
        children_prepare_standby(z);
    }
    if (!t->main_ended)
        return;
    if (left && has_leftovers(z))
        kill_leftovers(z, t);
    end_run(z, t);
    *t = (struct tally){0};
}

/* The deadline: TERM to all (and CONT, so that stopped ones take it), after the grace KILL. */
static void on_clock(struct zyg *z)
{
    uint64_t ticks;
    if (SYS(read(z->clock_fd, &ticks, sizeof ticks)) <= 0 || !children_has_standby(z))
        return;
    z->timed_out = true;
    if (z->term_sent || z->note->grace_ns == 0) {
        (void)kill(-1, SIGKILL);
        return;
    }
    struct itimerspec grace = {.it_value = {.tv_sec = (time_t)(z->note->grace_ns / CLOCK_NS_PER_S),
                                            .tv_nsec = (long)(z->note->grace_ns % CLOCK_NS_PER_S)}};
    z->term_sent = true;
    (void)timerfd_settime(z->clock_fd, 0, &grace, NULL);
    (void)kill(-1, SIGTERM);
    (void)kill(-1, SIGCONT);
}

/* Ends a standby that has not begun, the reserve and the mould. */
static void drop_standby(struct zyg *z, struct tally *t)
{
    if (children_has_standby(z)) {
        (void)kill(-1, SIGKILL);
        (void)reap(z, t, 0);
    }
    *t = (struct tally){0};
    z->standby = z->reserve = z->mould = 0;
    z->casting = false;
}

/* A run that was sent but has not begun: taken back out of the socket, or out of a standby's hands.
 */
static void cancel_unread(struct zyg *z, struct tally *t, uint64_t run_id)
{
    static char discarded[ZYG_RUN_BYTES_MAX];
    int fds[PACKET_FDS_MAX];
    size_t nfds = 0;
    struct zyg_report report = {0};
    drop_standby(z, t);
    struct pollfd waiting = {.fd = z->run_fd, .events = POLLIN};
    while (SYS(poll(&waiting, 1, 0)) == 1 &&
           packet_recv(z->run_fd, discarded, sizeof discarded, fds, &nfds) > 0)
        while (nfds > 0) /* the run, and perhaps a retirement in front of it */
            fd_close(&fds[--nfds]);
    z->cancelled = true;
    report_done(z, &report, run_id);
    stop_clock(z);
    children_prepare_standby(z);
}

/* Whom a signal may go to: while the run's own process has not been reaped, its number is no other
 * one's, and so is that of its process group. 0: it has not begun. */
static pid_t find_main(const struct zyg *z, uint64_t run_id)
{
    if (z->note->run_id != run_id)
        return 0;
    return z->casting ? z->note->pid : z->standby;
}

/* To the group, as a terminal would do it; to the process alone when that has left its group. */
static void deliver(struct zyg *z)
{
    pid_t pid = z->held_signals ? find_main(z, z->held_run) : 0;
    if (pid <= 0)
        return;
    for (int sig = 1; sig < 64; sig++)
        if (z->held_signals & 1ull << sig && kill(-pid, sig) < 0)
            (void)kill(pid, sig);
    z->held_signals = 0;
}

/* Of a run that was sent and is not done. One that has not been read yet gets it when it has begun.
 */
static void take_signal(struct zyg *z, const struct zyg_order *order)
{
    static const uint64_t allowed =
        1ull << SIGINT | 1ull << SIGTERM | 1ull << SIGHUP | 1ull << SIGUSR1 | 1ull << SIGUSR2 |
        1ull << SIGQUIT | 1ull << SIGKILL | 1ull << SIGCONT | 1ull << SIGSTOP | 1ull << SIGWINCH;
    if (order->flags >= 64 || !(allowed & 1ull << order->flags))
        _exit(1);
    if (order->run_id <= z->last_done)
        return;
    z->held_run = order->run_id;
    z->held_signals |= 1ull << order->flags;
    deliver(z);
}

static void on_order(struct zyg *z, struct tally *t)
{
    struct zyg_order order;
    int fds[PACKET_FDS_MAX];
    size_t nfds;
    ssize_t n = packet_recv(z->ctl, &order, sizeof order, fds, &nfds);
    if (n != (ssize_t)sizeof order || nfds != 0)
        _exit(n == 0 ? 0 : 1); /* the engine is gone, or speaks another language */
    switch (order.verb) {
    case ZYG_CANCEL:
        if (order.run_id <= z->last_done)
            break; /* it ended while the order was on its way */
        if (z->note->run_id != order.run_id) {
            cancel_unread(z, t, order.run_id);
            break;
        }
        z->cancelled = true;
        (void)kill(-1, SIGKILL);
        break;
    case ZYG_SIGNAL:
        take_signal(z, &order);
        break;
    default:
        _exit(1);
    }
}

_Noreturn static void serve(struct zyg *z)
{
    struct tally tally = {0};
    z->patience = ZYG_CLEAN_RUNS;
    zyg_report(z, &(struct zyg_report){.event = ZYG_READY});
    for (;;) {
        struct pollfd p[4 + ZYG_DENIALS_FDS] = {
            {.fd = z->sig_fd, .events = POLLIN},
            {.fd = z->clock_fd, .events = POLLIN},
            {.fd = z->ctl, .events = POLLIN},
            {.fd = children_has_standby(z) ? -1 : z->run_fd, .events = POLLIN}};
        int wait_ms = denials_watch(z, p + 4);
        if (z->held_signals && (wait_ms < 0 || wait_ms > 1))
            wait_ms = 1; /* nobody tells us that a run has begun */
        if (SYS(poll(p, ARRAY_LEN(p), wait_ms)) < 0) {
            if (errno != EINTR)
                _exit(1);
            continue;
        }
        denials_answer(z, p + 4);
        deliver(z);
        if (p[0].revents)
            on_child(z, &tally);
        if (p[1].revents)
            on_clock(z);
        if (p[2].revents)
            on_order(z, &tally);
        if (p[3].revents && !children_has_standby(z))
            children_prepare_standby(z); /* it reads the run */
    }
}

/* A companion knows that it is one: it was born so. */
static bool is_assignment(const struct zyg *z, const struct zyg_order *order, size_t nfds)
{
    bool is_fresh = order->flags & ZYG_FRESH, is_joined = order->flags & ZYG_JOINED;
    return order->verb == ZYG_ASSIGN && is_joined == z->joined && !(is_fresh && is_joined) &&
           nfds == !(is_fresh || is_joined) && is_fresh == (order->fresh_bytes > 0) &&
           (is_joined || !(order->flags & ZYG_SESSION)) &&
           !(order->flags & ~(ZYG_FRESH | ZYG_JOINED | ZYG_SESSION));
}

void zyg_serve(struct zyg *z)
{
    struct zyg_report spare = {.event = ZYG_SPARE};
    struct zyg_order order;
    int fds[PACKET_FDS_MAX];
    size_t nfds;

    zyg_set_up(z);
    zyg_report(z, &spare);
    ssize_t n = packet_recv(z->ctl, &order, sizeof order, fds, &nfds);
    if (n == 0)
        _exit(0); /* never needed */
    if (n != (ssize_t)sizeof order || !is_assignment(z, &order, nfds))
        _exit(1);
    order.ns_id[ZYG_NS_ID_ROOM - 1] = 0;
    z->one_request = order.flags & ZYG_FRESH;
    zyg_assign(z, &order, nfds ? fds[0] : -1);
    if (order.flags & ZYG_SESSION)
        session_serve(z);
    serve(z);
}
