/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/serve - pid 1 of a namespace: sets itself up, then forks standbys, keeps the clock, reaps,
 * kills.
 *
 * Runs as root of its own userns. It reads fixed structs from the engine and nothing else: the
 * bytes of a run go to the standby directly. States, by what is true: no standby (before the first,
 * after a retirement), standby waiting (note->run_id == 0), running (note->run_id != 0). A run ends
 * when the standby's own process ended; what it left behind is killed before anything is reported,
 * so only pid 1 and the reserve, which has seen nothing of it, are there when the next one begins.
 *
 * pid 1 ignores signals that it has no handler for, also SIGKILL from its own pidns
 * (pid_namespaces(7)).
 */
#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/packet.h"
#include "zygote/zyg.h"
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

#define UNREAD_DEATHS_MAX 8u
#define JOIN_WAITS 4u /* for a mould that is just joining the cgroups, so often... */
#define JOIN_WAIT_NS (2 * CLOCK_NS_PER_MS)
#define CLEAN_RUNS 2          /* in a row, before a mould is made */
#define CLEAN_RSS_KB_MAX 4096 /* a run that took more takes its mould along */
#define CLEAN_RUNS_AGAIN 16   /* the same when the last one came to no use */

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

/* The cgroup namespace's root is where we are when it is made: visit the child's cgroups for a
 * moment, so that a child sees "/" and no slot number (cgroup_namespaces(7)). */
static int make_cgroupns(struct zyg *z)
{
    for (size_t i = 0; i < z->procs_count; i++)
        if (write(z->procs_fd[i], "0", 1) < 0)
            return -errno;
    int r = unshare(CLONE_NEWCGROUP) < 0 ? -errno : 0;
    for (size_t i = 0; i < z->joins_count; i++) {
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
    z->note_fd = memfd_create("brood-note", MFD_CLOEXEC);
    if (z->note_fd < 0 || ftruncate(z->note_fd, ZYG_PAGE) < 0)
        return -errno;
    z->note = mmap(NULL, ZYG_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, z->note_fd, 0);
    z->token = zyg_make_token();
    if (z->sig_fd < 0 || z->clock_fd < 0 || z->note == MAP_FAILED || !z->token ||
        madvise(z->note, ZYG_PAGE, MADV_DONTFORK) < 0)
        return -errno;
    z->note->home_cpu = z->home_cpu = ZYG_ANY_CPU;
    return sched_getaffinity(0, sizeof z->all_cpus, &z->all_cpus) < 0 ? -errno : 0;
}

/* Not fork(3): nothing here needs its handlers and locks. */
static pid_t fork_child(struct zyg *z, enum child_kind kind)
{
    pid_t pid = _Fork();
    if (pid == 0)
        child_main(z, kind);
    return pid;
}

static void promote_reserve(struct zyg *z)
{
    z->standby = z->reserve;
    z->reserve = 0;
    z->token->go = (uint32_t)z->standby;
    zyg_wake(&z->token->go);
}

/* What needs neither the volume nor the name is done in a spare, before anyone waits. */
static void set_up(struct zyg *z)
{
    must(z, ZYG_STEP_MOUNTS, zyg_mount_private(z->plan));
    must(z, ZYG_STEP_LOOPBACK, zyg_loopback_up());
    must(z, ZYG_STEP_CGROUPS, make_cgroupns(z));
    must(z, ZYG_STEP_FORK, open_descriptors(z));
    must(z, ZYG_STEP_IDS, policy_install_rlimits(z->plan)); /* inherited by every child */
    must(z, ZYG_STEP_CAPS, policy_set_no_new_privs());
    must(z, ZYG_STEP_CAPS, policy_empty_bounding_set());
    must(z, ZYG_STEP_LANDLOCK, policy_landlock_prepare(z->plan, &z->ruleset));
    must(z, ZYG_STEP_LANDLOCK, policy_landlock_allow(z->plan, z->ruleset, "/tmp"));
    must(z, ZYG_STEP_LANDLOCK, policy_landlock_allow(z->plan, z->ruleset, "/dev/shm"));
    z->scoped = z->ruleset >= 0 && z->plan->landlock_abi >= POLICY_LANDLOCK_ABI_SCOPE;
    zyg_trim();
    zyg_forget_lean();
    z->reserve = fork_child(z, CHILD_FIRST);
    must(z, ZYG_STEP_FORK, z->reserve < 0 ? -errno : 0);
}

static void assign(struct zyg *z, const struct zyg_order *order, int volume_fd)
{
    must(z, ZYG_STEP_VOLUME, zyg_mount_volume(volume_fd));
    (void)close(volume_fd);
    if (sethostname(order->ns_id, strlen(order->ns_id)) < 0)
        give_up(z, ZYG_STEP_VOLUME, errno);
    must(z, ZYG_STEP_LANDLOCK, policy_landlock_allow(z->plan, z->ruleset, ZYG_HOME));
    promote_reserve(z); /* the first child restricts itself */
    (void)sched_yield();
    z->eval->on_assign(order->ns_id);
    must(z, ZYG_STEP_LANDLOCK, policy_landlock_restrict(z->ruleset));
    fd_close(&z->ruleset);
    must(z, ZYG_STEP_CAPS, policy_keep_caps(ZYG_KEPT_CAPS));
    must(z, ZYG_STEP_SECCOMP, policy_install_seccomp(z->plan));
    (void)munmap((void *)(uintptr_t)z->plan, sizeof *z->plan); /* one mapping less to fork */
    z->plan = NULL;
}

void zyg_bind(const struct zyg *z, uint32_t cpu)
{
    cpu_set_t set;
    if (cpu >= CPU_SETSIZE) {
        set = z->all_cpus;
    } else {
        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
    }
    /* One that is offline is refused: then anywhere. */
    (void)sched_setaffinity(0, sizeof set, &set);
}

/* Zygote and standby live on one CPU: a fork that moves costs more in wake-ups and TLB flushes than
 * the rest of it. Which one, the engine says; a run may use all (child.c). */
static void move_home(struct zyg *z)
{
    if (z->note->home_cpu == z->home_cpu)
        return;
    z->home_cpu = z->note->home_cpu;
    zyg_bind(z, z->home_cpu);
}

static bool has_standby(const struct zyg *z)
{
    return z->standby || z->casting;
}

/* Is this the standby, or the run that it has become? Of a cast that has not begun we do not know
 * the number; but nobody else lives then. */
static bool is_standby(const struct zyg *z, pid_t pid)
{
    return z->casting ? pid == z->note->pid || !z->note->pid : pid == z->standby;
}

static bool mould_is_ready(const struct zyg *z)
{
    return z->mould && z->token->mould == (uint32_t)z->mould;
}

static void order_cast(struct zyg *z)
{
    z->casting = true;
    z->token->home_cpu = z->home_cpu;
    z->token->cast++;
    zyg_wake(&z->token->cast);
}

/* Sees that a child waits for the next run: a cast, the reserve, or a new one. */
static void prepare_standby(struct zyg *z)
{
    move_home(z);
    *z->note = (struct zyg_note){.home_cpu = z->home_cpu};
    z->token->spoiled = z->token->exec_rss_kb = 0;
    z->cancelled = z->timed_out = z->term_sent = false;
    if (mould_is_ready(z)) {
        order_cast(z);
        return;
    }
    if (z->reserve) {
        promote_reserve(z);
        return;
    }
    z->standby = fork_child(z, CHILD_STANDBY);
    if (z->standby < 0)
        give_up(z, ZYG_STEP_FORK, errno);
}

/* Best effort: without one the next standby is forked when it is needed. Nor is there one after the
 * first run, which many namespaces leave it at. */
static void prepare_reserve(struct zyg *z)
{
    if (z->reserve || z->pids_current < 0 || ++z->runs < 2)
        return;
    pid_t pid = fork_child(z, CHILD_RESERVE);
    z->reserve = pid > 0 ? pid : 0;
}

static void drop_child(pid_t *child)
{
    if (*child) {
        (void)kill(*child, SIGKILL);
        (void)waitpid(*child, NULL, 0);
    }
    *child = 0;
}

static void prepare_mould(struct zyg *z)
{
    if (!z->moulds || z->mould || z->patience > 0 || z->pids_current < 0)
        return;
    z->patience = CLEAN_RUNS_AGAIN;          /* should this one not last */
    z->token->mould = z->token->joining = 0; /* its number may have been another's */
    pid_t pid = _Fork();
    if (pid == 0)
        mould_main(z);
    z->mould = pid > 0 ? pid : 0;
}

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
    if (is_standby(z, pid)) {
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

static bool mould_is_joining(const struct zyg *z)
{
    return z->mould && !mould_is_ready(z) && z->token->joining == (uint32_t)z->mould;
}

/* A mould that is just joining the cgroups of the run: is it in there, or is it not? */
static void settle_mould(struct zyg *z)
{
    if (!mould_is_joining(z))
        return;
    for (unsigned i = 0; i < JOIN_WAITS && !mould_is_ready(z); i++)
        zyg_await(&z->token->mould, z->token->mould, JOIN_WAIT_NS);
    if (!mould_is_ready(z))
        drop_child(&z->mould);
}

/* Did the run leave processes behind? The reserve is none of them, nor in their cgroup, which none
 * of them can leave; a mould that is ready is in there. */
static bool has_leftovers(struct zyg *z)
{
    char text[24];
    bool ready;
    ssize_t n;
    do {
        settle_mould(z);
        if (!z->reserve && !z->mould)
            return true; /* whoever is left */
        ready = mould_is_ready(z);
        n = pread(z->pids_current, text, sizeof text - 1, 0);
    } while (ready != mould_is_ready(z) || mould_is_joining(z));
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
    report->reason = reason(z, report);
    send_report(z, report, -1);
}

/* The standby died, or was killed, without having read a run: another takes its place. */
static void replace_standby(struct zyg *z)
{
    if (++z->unread_deaths > UNREAD_DEATHS_MAX)
        give_up(z, ZYG_STEP_FORK, z->note->step ? z->note->step_errno : EAGAIN);
    prepare_standby(z);
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
    drop_child(&z->mould);
    z->patience = z->patience > CLEAN_RUNS ? z->patience : CLEAN_RUNS;
}

static void finish_run(struct zyg *z, struct tally *t)
{
    uint64_t run_id = z->note->run_id;
    z->standby = 0;
    z->casting = false;
    if (run_id) {
        t->report.step = z->note->step;
        t->report.step_errno = z->note->step_errno;
        t->report.wall_ns = clock_now_ns() - z->note->started_ns;
        judge(z, &t->report);
        report_done(z, &t->report, run_id);
        stop_clock(z);
        z->unread_deaths = 0;
        prepare_standby(z);
        prepare_reserve(z);
        prepare_mould(z);
    } else if (z->note->retired) { /* until a run is there to be read */
        drop_child(&z->reserve);
        drop_child(&z->mould);
        z->runs = 0;
        z->patience = CLEAN_RUNS;
    } else {
        if (z->mould)
            kill_leftovers(z, t); /* among them whom it may have cast since */
        replace_standby(z);
    }
    *t = (struct tally){0};
}

static void on_child(struct zyg *z, struct tally *t)
{
    struct signalfd_siginfo info;
    while (read(z->sig_fd, &info, sizeof info) > 0)
        ;
    bool left = reap(z, t, WNOHANG);
    if (z->casting && !z->mould && !z->note->pid) { /* it was not fit any more */
        z->casting = false;
        prepare_standby(z);
    }
    if (!t->main_ended)
        return;
    if (left && has_leftovers(z))
        kill_leftovers(z, t);
    finish_run(z, t);
}

/* The deadline: TERM to all (and CONT, so that stopped ones take it), after the grace KILL. */
static void on_clock(struct zyg *z)
{
    uint64_t ticks;
    if (read(z->clock_fd, &ticks, sizeof ticks) <= 0 || !has_standby(z))
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
    if (has_standby(z)) {
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
    while (poll(&waiting, 1, 0) == 1 &&
           packet_recv(z->run_fd, discarded, sizeof discarded, fds, &nfds) > 0)
        while (nfds > 0) /* the run, and perhaps a retirement in front of it */
            fd_close(&fds[--nfds]);
    z->cancelled = true;
    report_done(z, &report, run_id);
    stop_clock(z);
    prepare_standby(z);
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
    default:
        _exit(1);
    }
}

_Noreturn static void serve(struct zyg *z)
{
    struct tally tally = {0};
    z->patience = CLEAN_RUNS;
    send_report(z, &(struct zyg_report){.event = ZYG_READY}, -1);
    for (;;) {
        struct pollfd p[] = {{.fd = z->sig_fd, .events = POLLIN},
                             {.fd = z->clock_fd, .events = POLLIN},
                             {.fd = z->ctl, .events = POLLIN},
                             {.fd = has_standby(z) ? -1 : z->run_fd, .events = POLLIN}};
        if (poll(p, ARRAY_LEN(p), -1) < 0 && errno != EINTR)
            _exit(1);
        if (p[0].revents)
            on_child(z, &tally);
        if (p[1].revents)
            on_clock(z);
        if (p[2].revents)
            on_order(z, &tally);
        if (p[3].revents && !has_standby(z))
            prepare_standby(z); /* it reads the run */
    }
}

void zyg_serve(struct zyg *z)
{
    struct zyg_report spare = {.event = ZYG_SPARE};
    struct zyg_order order;
    int fds[PACKET_FDS_MAX];
    size_t nfds;

    set_up(z);
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
