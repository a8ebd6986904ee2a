/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/setup - how pid 1 of a namespace comes to be: what needs neither the volume nor the name
 * in a spare, before anyone waits; the rest, as little as can be, when it is assigned. A companion
 * goes the same way, every restriction included; what it shares is not set up again.
 */
#include "lib/fd.h"
#include "lib/packet.h"
#include "zygote/zyg.h"
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

void zyg_report(struct zyg *z, const struct zyg_report *report)
{
    /* The engine always reads: a report it cannot take within seconds means that it is gone. */
    if (packet_send(z->ctl, report, sizeof *report, NULL, 0) < 0)
        _exit(1);
}

void zyg_give_up(struct zyg *z, enum zyg_step step, int error)
{
    struct zyg_report report = {.event = ZYG_FAILED, .step = step, .step_errno = error};
    zyg_report(z, &report);
    _exit(1);
}

static void must(struct zyg *z, enum zyg_step step, int r)
{
    if (r < 0)
        zyg_give_up(z, step, -r);
}

/* The cgroup namespace's root is where we are when it is made: visit the child's cgroups for a
 * moment, so that a child sees "/" and no slot number (cgroup_namespaces(7)). */
static int make_cgroupns(struct zyg *z)
{
    for (size_t i = 0; i < z->procs_count; i++)
        if (SYS(write(z->procs_fd[i], "0", 1)) < 0)
            return -errno;
    int r = SYS(unshare(CLONE_NEWCGROUP)) < 0 && z->plan->layers & POLICY_CGROUPNS ? -errno : 0;
    for (size_t i = 0; i < z->joins_count; i++) {
        if (SYS(write(z->own_procs_fd[i], "0", 1)) < 0)
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
    if (SYS(sigprocmask(SIG_SETMASK, &chld, NULL)) < 0)
        return -errno;
    z->sig_fd = SYS(signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK));
    z->clock_fd = SYS(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    z->note_fd = SYS(memfd_create("brood-note", MFD_CLOEXEC));
    if (z->note_fd < 0 || SYS(ftruncate(z->note_fd, ZYG_PAGE)) < 0)
        return -errno;
    z->note = SYS(mmap(NULL, ZYG_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, z->note_fd, 0));
    z->token = zyg_make_token();
    if (z->sig_fd < 0 || z->clock_fd < 0 || z->note == MAP_FAILED || !z->token ||
        SYS(madvise(z->note, ZYG_PAGE, MADV_DONTFORK)) < 0)
        return -errno;
    z->note->home_cpu = z->home_cpu = ZYG_ANY_CPU;
    return SYS(sched_getaffinity(0, sizeof z->all_cpus, &z->all_cpus)) < 0 ? -errno : 0;
}

void zyg_forget_plan(struct zyg *z)
{
    (void)munmap((void *)(uintptr_t)z->set, policy_set_bytes(z->set));
    z->set = NULL;
    z->plan = NULL;
}

/* What needs neither the volume nor the name is done in a spare, before anyone waits. */
void zyg_set_up(struct zyg *z)
{
    if (z->joined) {
        must(z, ZYG_STEP_MOUNTS, zyg_mount_joined());
    } else {
        must(z, ZYG_STEP_MOUNTS, zyg_mount_private(z->set, z->plan));
        must(z, ZYG_STEP_LOOPBACK, zyg_loopback_up());
        if (z->net_address)
            must(z, ZYG_STEP_NETWORK, zyg_egress_up(z->net_address, z->net_gateway, z->ctl));
    }
    must(z, ZYG_STEP_CGROUPS, make_cgroupns(z));
    must(z, ZYG_STEP_FORK, open_descriptors(z));
    must(z, ZYG_STEP_IDS, policy_install_rlimits(z->plan)); /* inherited by every child */
    must(z, ZYG_STEP_CAPS, policy_set_no_new_privs());
    must(z, ZYG_STEP_CAPS, policy_empty_bounding_set());
    must(z, ZYG_STEP_LANDLOCK, policy_landlock_prepare(z->plan, &z->ruleset));
    must(z, ZYG_STEP_LANDLOCK, policy_landlock_allow(z->plan, z->ruleset, "/tmp"));
    must(z, ZYG_STEP_LANDLOCK, policy_landlock_allow(z->plan, z->ruleset, "/dev/shm"));
    z->scoped =
        z->plan->layers & POLICY_LANDLOCK && z->plan->landlock_abi >= POLICY_LANDLOCK_ABI_SCOPE
            ? z->plan->rights & (POLICY_ABSTRACT | POLICY_SIGNALS)
            : 0;
    zyg_trim();
    zyg_forget_lean();
    must(z, ZYG_STEP_SECCOMP, denials_prepare(z));
    z->reserve = children_fork(z, CHILD_FIRST);
    must(z, ZYG_STEP_FORK, z->reserve < 0 ? -errno : 0);
}

static int take_home(const struct zyg *z, const struct zyg_order *order, int volume_fd)
{
    if (z->joined) /* home and host name are there */
        return SYS(chdir(ZYG_HOME)) < 0 ? -errno : 0;
    int r = volume_fd < 0 ? zyg_mount_fresh(order->fresh_bytes) : zyg_mount_volume(volume_fd);
    return r == 0 && SYS(sethostname(order->ns_id, strlen(order->ns_id))) < 0 ? -errno : r;
}

void zyg_assign(struct zyg *z, const struct zyg_order *order, int volume_fd)
{
    int listener;
    must(z, ZYG_STEP_VOLUME, take_home(z, order, volume_fd));
    fd_close(&volume_fd);
    must(z, ZYG_STEP_LANDLOCK, policy_landlock_allow(z->plan, z->ruleset, ZYG_HOME));
    if (order->flags & ZYG_SESSION) {
        children_drop(&z->reserve); /* its bash is forked when all of pid 1's restrictions hold */
    } else {
        children_promote(z); /* the first child restricts itself */
        (void)sched_yield();
    }
    z->eval->on_assign(order->ns_id);
    must(z, ZYG_STEP_LANDLOCK, policy_landlock_restrict(z->ruleset));
    fd_close(&z->ruleset);
    must(z, ZYG_STEP_CAPS, policy_keep_caps(ZYG_KEPT_CAPS));
    must(z, ZYG_STEP_SECCOMP, policy_install_seccomp(z->plan, &listener));
    denials_listen(z, listener);
    zyg_forget_plan(z); /* one mapping less to fork */
}
