/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/serve - pid 1 of a namespace: sets itself up, then forks standbys, keeps the clock, reaps, kills.
 *
 * Runs as root of its own userns. It reads fixed structs from the engine and nothing else: the bytes of a
 * run go to the standby directly. States, by what is true: no standby (after ZYG_SPARE/ZYG_DONE was sent
 * and before a fork), standby waiting (page->run_id == 0), running (page->run_id != 0). A run ends when the
 * standby's own process ended; what it left behind is killed before anything is reported, so a namespace is
 * empty but for pid 1 when the next standby is forked.
 *
 * pid 1 ignores signals that it has no handler for, also SIGKILL from its own pidns (pid_namespaces(7)).
 */
#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/packet.h"
#include "zygote/zyg.h"
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

#define CAP_BIT(cap) (1ull << (cap))
#define KEPT_CAPS (CAP_BIT(CAP_KILL) | CAP_BIT(CAP_SETUID) | CAP_BIT(CAP_SETGID))

static const char *const writable[] = {ZYG_HOME, "/tmp", "/dev/shm", NULL};

static void send_report(struct zyg *z, const struct zyg_report *report, int fd)
{
    /* The engine always reads: a report it cannot take within seconds means that it is gone. */
    if (packet_send(z->ctl, report, sizeof *report, &fd, fd >= 0 ? 1 : 0) < 0)
        _exit(1);
}

_Noreturn static void give_up(struct zyg *z, enum zyg_step step, int error)
{
    struct zyg_report report = {.event = ZYG_FAILED, .step = step, .step_errno = error};
    send_report(z, &report, -1);
    _exit(1);
}

static void must(struct zyg *z, enum zyg_step step, int r)
{
    if (r < 0)
        give_up(z, step, -r);
}

/* The cgroup namespace's root is where we are when it is made: visit the child's cgroups for a moment, so
 * that a child sees "/" and no slot number (cgroup_namespaces(7)). */
static int make_cgroupns(struct zyg *z)
{
    for (size_t i = 0; i < z->procs_count; i++)
        if (write(z->procs_fd[i], "0", 1) < 0)
            return -errno;
    int r = unshare(CLONE_NEWCGROUP) < 0 ? -errno : 0;
    for (size_t i = 0; i < z->procs_count; i++) {
        if (write(z->own_procs_fd[i], "0", 1) < 0)
            return -errno;
        fd_close(&z->own_procs_fd[i]);
    }
    return r;
}

static int open_descriptors(struct zyg *z)
{
    sigset_t chld;
    (void)sigemptyset(&chld);
    (void)sigaddset(&chld, SIGCHLD);
    if (sigprocmask(SIG_SETMASK, &chld, NULL) < 0)
        return -errno;
    z->sig_fd = signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK);
    z->clock_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    z->page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return z->sig_fd < 0 || z->clock_fd < 0 || z->page == MAP_FAILED ? -errno : 0;
}

static void assign(struct zyg *z, const struct zyg_order *order, int volume_fd)
{
    must(z, ZYG_STEP_VOLUME, zyg_mount_volume(volume_fd));
    (void)close(volume_fd);
    if (sethostname(order->ns_id, strlen(order->ns_id)) < 0)
        give_up(z, ZYG_STEP_VOLUME, errno);
    z->eval->on_assign(order->ns_id);
    must(z, ZYG_STEP_FORK, open_descriptors(z));
    must(z, ZYG_STEP_CAPS, policy_set_no_new_privs());
    must(z, ZYG_STEP_LANDLOCK, policy_install_landlock(z->plan, writable));
    must(z, ZYG_STEP_CAPS, policy_drop_caps(KEPT_CAPS));
    must(z, ZYG_STEP_SECCOMP, policy_install_seccomp(z->plan));
}

/* Forks the next child and hands the engine the other end of its run socket. */
static void prepare_standby(struct zyg *z)
{
    struct zyg_report report = {.event = ZYG_STANDBY};
    int pair[2];
    *z->page = (struct zyg_page){0};
    z->cancelled = z->timed_out = z->term_sent = false;
    int r = packet_pair(pair, true);
    pid_t pid = r < 0 ? -1 : fork();
    if (pid == 0) {
        (void)close(pair[0]);
        (void)close(z->ctl);
        child_main(z, pair[1]);
    }
    if (r == 0 && pid < 0)
        r = -errno;
    if (r < 0) {
        report = (struct zyg_report){.event = ZYG_FAILED, .step = ZYG_STEP_FORK, .step_errno = -r};
        send_report(z, &report, -1);
        if (pair[0] >= 0) {
            fd_close(&pair[0]);
            fd_close(&pair[1]);
        }
        return;
    }
    z->standby = pid;
    (void)close(pair[1]);
    send_report(z, &report, pair[0]);
    (void)close(pair[0]);
}

struct tally {
    struct zyg_report report;
    bool main_ended;
};

static void count(struct zyg *z, struct tally *t, pid_t pid, int status, const struct rusage *ru)
{
    uint64_t cpu_us = (uint64_t)(ru->ru_utime.tv_sec + ru->ru_stime.tv_sec) * 1000000u +
                      (uint64_t)(ru->ru_utime.tv_usec + ru->ru_stime.tv_usec);
    t->report.cpu_ns += cpu_us * 1000;
    if ((uint64_t)ru->ru_maxrss > t->report.max_rss_kb)
        t->report.max_rss_kb = (uint64_t)ru->ru_maxrss;
    if (pid == z->standby) {
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

static void stop_clock(struct zyg *z)
{
    struct itimerspec off = {0};
    uint64_t ticks;
    (void)timerfd_settime(z->clock_fd, 0, &off, NULL);
    (void)!read(z->clock_fd, &ticks, sizeof ticks);
}

static void finish_run(struct zyg *z, struct tally *t)
{
    struct zyg_report *report = &t->report;
    report->event = ZYG_DONE;
    report->run_id = z->page->run_id;
    report->step = z->page->step;
    report->step_errno = z->page->step_errno;
    report->reason = z->page->step    ? ZYG_BY_STEP
                     : z->timed_out   ? ZYG_BY_TIMEOUT
                     : z->cancelled   ? ZYG_BY_CANCEL
                                      : ZYG_BY_ITSELF;
    if (report->run_id)
        report->wall_ns = clock_now_ns() - z->page->started_ns;
    bool begun = report->run_id != 0;
    z->standby = 0;
    send_report(z, report, -1);
    *t = (struct tally){0};
    if (begun) {
        stop_clock(z);
        prepare_standby(z);
    }
}

static void on_child(struct zyg *z, struct tally *t)
{
    struct signalfd_siginfo info;
    while (read(z->sig_fd, &info, sizeof info) > 0)
        ;
    bool left = reap(z, t, WNOHANG);
    if (!t->main_ended)
        return;
    if (left)
        kill_leftovers(z, t);
    finish_run(z, t);
}

/* The deadline: TERM to all (and CONT, so that stopped ones take it), after the grace KILL. */
static void on_clock(struct zyg *z)
{
    uint64_t ticks;
    if (read(z->clock_fd, &ticks, sizeof ticks) <= 0 || !z->standby)
        return;
    z->timed_out = true;
    if (z->term_sent || z->page->grace_ns == 0) {
        (void)kill(-1, SIGKILL);
        return;
    }
    struct itimerspec grace = {.it_value = {.tv_sec = (time_t)(z->page->grace_ns / CLOCK_NS_PER_S),
                                            .tv_nsec = (long)(z->page->grace_ns % CLOCK_NS_PER_S)}};
    z->term_sent = true;
    (void)timerfd_settime(z->clock_fd, 0, &grace, NULL);
    (void)kill(-1, SIGTERM);
    (void)kill(-1, SIGCONT);
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
    case ZYG_PREPARE: /* the engine holds no standby: one that is still here was retired */
        if (z->standby) {
            (void)kill(-1, SIGKILL);
            (void)reap(z, t, 0);
            *t = (struct tally){0};
            z->standby = 0;
        }
        prepare_standby(z);
        break;
    case ZYG_CANCEL:
        if (z->standby && (order.run_id == 0 || z->page->run_id == 0 || z->page->run_id == order.run_id)) {
            z->cancelled = true;
            (void)kill(-1, SIGKILL);
        }
        break;
    default:
        _exit(1);
    }
}

_Noreturn static void serve(struct zyg *z)
{
    struct tally tally = {0};
    prepare_standby(z);
    for (;;) {
        struct pollfd p[] = {{.fd = z->sig_fd, .events = POLLIN},
                             {.fd = z->clock_fd, .events = POLLIN},
                             {.fd = z->ctl, .events = POLLIN}};
        if (poll(p, ARRAY_LEN(p), -1) < 0 && errno != EINTR)
            _exit(1);
        if (p[0].revents)
            on_child(z, &tally);
        if (p[1].revents)
            on_clock(z);
        if (p[2].revents)
            on_order(z, &tally);
    }
}

void zyg_serve(struct zyg *z)
{
    struct zyg_report spare = {.event = ZYG_SPARE};
    struct zyg_order order;
    int fds[PACKET_FDS_MAX];
    size_t nfds;

    must(z, ZYG_STEP_MOUNTS, zyg_mount_private(z->plan));
    must(z, ZYG_STEP_LOOPBACK, zyg_loopback_up());
    must(z, ZYG_STEP_CGROUPS, make_cgroupns(z));
    send_report(z, &spare, -1);
    ssize_t n = packet_recv(z->ctl, &order, sizeof order, fds, &nfds);
    if (n == 0)
        _exit(0); /* never needed */
    if (n != (ssize_t)sizeof order || nfds != 1 || order.verb != ZYG_ASSIGN)
        _exit(1);
    order.ns_id[ZYG_NS_ID_ROOM - 1] = 0;
    assign(z, &order, fds[0]);
    serve(z);
}
