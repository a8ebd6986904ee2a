/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/primordial - the process that zygotes are cloned from.
 *
 * Root of the host's userns inside the root image, without network input: it reads fixed structs
 * from priv and answers each with one clone. CLONE_PARENT makes the zygote a child of priv, which
 * reaps it. The userns is created under a per-slot owner uid (seteuid around the clone), because
 * ucounts are charged to the owner (user_namespaces(7), DESIGN.md 4). It never runs foreign code
 * and holds nothing of a zygote after its birth.
 *
 * A companion is cloned by a go-between, because who has joined a userns cannot come back: a clone
 * of ours, child of priv as well, that joins the zygote's kernel namespaces by its pidfd, clones
 * the companion with a pidns and a copy of the mntns, hands us its pidfd and ends. setns(2) asks
 * twice: for ptrace of the zygote, whose memory is still of the host's userns, so for
 * CAP_SYS_PTRACE there; and for all of mntns' capabilities in the zygote's userns, which its owner
 * has (Linux 6.18: validate_nsset(), mntns_install(), cap_capable()). Root without CAP_SYS_CHROOT,
 * or the owner alone, is EPERM. So the go-between is the owner, with that one capability raised
 * again.
 */
#include "lib/err.h"
#include "lib/fault.h"
#include "lib/fd.h"
#include "lib/packet.h"
#include "zygote/zyg.h"
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define JOINED_NAMESPACES (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)
#define ZYG_NAMESPACES                                                                             \
    (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)

char *const zyg_base_env[] = {
    (char[]){"HOME=" ZYG_HOME},
    (char[]){"USER=user"},
    (char[]){"PATH=/usr/local/bin:/usr/bin:/bin"},
    (char[]){"LANG=C.UTF-8"},
    NULL,
};

/* A raw clone: glibc's fork cannot do it, and no other thread exists that could hold a lock. */
static pid_t clone_beside(unsigned long flags, int *ret_pidfd)
{
    return (pid_t)syscall(SYS_clone, CLONE_PARENT | flags | SIGCHLD, NULL, ret_pidfd, NULL, 0);
}

static int write_proc(pid_t pid, const char *name, const char *text)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    auto_close int fd = SYS(open(path, O_WRONLY | O_CLOEXEC));
    return fd < 0 || SYS(write(fd, text, strlen(text))) < 0 ? -errno : 0;
}

static int map_ids(pid_t pid, uint32_t base)
{
    char text[64];
    (void)snprintf(text, sizeof text, "0 %u %u", base, ZYG_UIDS_PER_SLOT);
    int r = write_proc(pid, "uid_map", text);
    if (r == 0)
        r = write_proc(pid, "gid_map", text);
    /* Whoever lives there may write this one, once, unless we have. */
    return r < 0 ? r : write_proc(pid, "projid_map", text);
}

_Noreturn static void become_zygote(struct zyg *z, int go_fd)
{
    char go;
    fault_set_role("zygote");
    struct zyg_report failed = {.event = ZYG_FAILED, .step = ZYG_STEP_IDS};
    if (SYS(read(go_fd, &go, 1)) != 1)
        _exit(1);
    (void)close(go_fd);
    (void)dup2(0, 1); /* stdin is /dev/null; the service's log is not for this side */
    (void)dup2(0, 2);
    /* The death signal last: a change of ids clears it (prctl(2)). */
    if (SYS(setgroups(0, NULL)) < 0 || SYS(setresgid(0, 0, 0)) < 0 || SYS(setresuid(0, 0, 0)) < 0 ||
        SYS(setsid()) < 0 || SYS(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)) < 0) {
        failed.step_errno = errno;
        (void)packet_send(z->ctl, &failed, sizeof failed, NULL, 0);
        _exit(1);
    }
    (void)prctl(PR_SET_NAME, "brood-zygote", 0, 0, 0);
    zyg_serve(z);
}

static int open_ns(pid_t pid, const char *name)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)pid, name);
    int fd = SYS(open(path, O_RDONLY | O_CLOEXEC));
    return fd < 0 ? -errno : fd;
}

/* The kernel notes who it is that makes a userns, or asks to join one. */
static void become_owner(uint32_t owner_uid)
{
    if (SYS(setegid(owner_uid)) < 0 || SYS(seteuid(owner_uid)) < 0)
        die(1, "primordial: cannot take the owner uid: %s", strerror(errno));
}

static void return_to_root(void)
{
    if (SYS(seteuid(0)) < 0 || SYS(setegid(0)) < 0)
        die(1, "primordial: cannot return to root: %s", strerror(errno));
}

/* Clones one zygote; on success fds are its pidfd, userns and, with a network, netns, all the
 * caller's. */
static int give_birth(const struct zyg_birth *birth, struct zyg *z, int priv_fd, int fds[3],
                      struct zyg_born *born)
{
    int go[2], pidfd = -1, userns = -1, netns = -1;
    if (SYS(pipe2(go, O_CLOEXEC)) < 0)
        return -errno;
    become_owner(birth->owner_uid);
    pid_t pid = SYS(clone_beside(CLONE_PIDFD | ZYG_NAMESPACES, &pidfd));
    if (pid == 0) {
        (void)close(priv_fd);
        (void)close(go[1]);
        become_zygote(z, go[0]);
    }
    int saved = errno;
    return_to_root();
    (void)close(go[0]);
    if (pid < 0) {
        (void)close(go[1]);
        return -saved;
    }
    int r = map_ids(pid, birth->base_uid);
    if (r == 0 && (userns = open_ns(pid, "user")) < 0)
        r = userns;
    if (r == 0 && birth->net_address && (netns = open_ns(pid, "net")) < 0)
        r = netns;
    if (r == 0 && SYS(write(go[1], "g", 1)) != 1)
        r = -EPIPE;
    (void)close(go[1]); /* without the "g" the zygote exits by itself */
    if (r < 0) {
        fd_close(&netns);
        fd_close(&userns);
        fd_close(&pidfd);
        return r;
    }
    fds[0] = pidfd;
    fds[1] = userns;
    fds[2] = netns;
    born->pid = pid;
    return 0;
}

/* ---- companions --------------------------------------------------------------------------------
 */

struct go_between { /* what it has to say; beside it the companion's pidfd */
    int32_t error, pid;
};

_Noreturn static void go_between(struct zyg *z, int zygote, const int go[2], int report)
{
    struct go_between word = {0};
    int pidfd = -1;
    (void)close(go[1]);
    int r = policy_keep_caps(1ull << CAP_SYS_PTRACE);
    if (r == 0 && SYS(setns(zygote, JOINED_NAMESPACES)) < 0)
        r = -errno;
    (void)close(zygote);
    if (r == 0) {
        word.pid = SYS(clone_beside(CLONE_PIDFD | CLONE_NEWPID | CLONE_NEWNS, &pidfd));
        if (word.pid == 0) {
            (void)close(report);
            become_zygote(z, go[0]);
        }
        r = word.pid < 0 ? -errno : 0;
    }
    word.error = -r;
    _exit(packet_send(report, &word, sizeof word, &pidfd, r == 0) < 0);
}

/* What it said; a pidfd: the caller's. Its end of the conversation is open nowhere else. */
static int hear_go_between(int report, int *ret_pid)
{
    struct go_between word;
    int fds[PACKET_FDS_MAX];
    size_t nfds = 0;
    ssize_t n = packet_recv(report, &word, sizeof word, fds, &nfds);
    if (n == (ssize_t)sizeof word && word.error == 0 && nfds == 1) {
        *ret_pid = word.pid;
        return fds[0];
    }
    for (size_t i = 0; n > 0 && i < nfds; i++)
        fd_close(&fds[i]);
    return n == (ssize_t)sizeof word && word.error > 0 ? -word.error : -ECHILD;
}

/* A zygote in the kernel namespaces of the one behind that pidfd; *ret_pidfd is the caller's. */
static int give_birth_beside(const struct zyg_birth *birth, struct zyg *z, int priv_fd, int zygote,
                             int *ret_pidfd, struct zyg_born *born)
{
    int go[2], report[2];
    int r = packet_pair(report, false);
    if (r < 0)
        return r;
    if (SYS(pipe2(go, O_CLOEXEC)) < 0) {
        r = -errno;
        fd_close(&report[0]);
        fd_close(&report[1]);
        return r;
    }
    become_owner(birth->owner_uid);
    pid_t pid = SYS(clone_beside(0, NULL));
    if (pid == 0) {
        (void)close(priv_fd);
        (void)close(report[0]);
        go_between(z, zygote, go, report[1]);
    }
    r = pid < 0 ? -errno : 0;
    return_to_root();
    fd_close(&report[1]);
    fd_close(&go[0]);
    int pidfd = r < 0 ? r : hear_go_between(report[0], &born->pid);
    r = pidfd < 0 ? pidfd : SYS(write(go[1], "g", 1)) != 1 ? -EPIPE : 0;
    fd_close(&go[1]); /* without the "g" the companion exits by itself */
    fd_close(&report[0]);
    if (r < 0)
        fd_close(&pidfd);
    else
        *ret_pidfd = pidfd;
    return r;
}

/* ---- priv --------------------------------------------------------------------------------------
 */

static const struct policy_set *map_policies(int fd)
{
    const void *map;
    size_t len;
    struct err err;
    if (fd_memfd_map(fd, sizeof(struct policy_set), &map, &len, &err) < 0)
        die(1, "primordial: %s", err.text);
    const struct policy_set *set = map;
    if (!policy_set_is_sound(set, len))
        die(1, "primordial: these are no policies");
    (void)close(fd);
    return set;
}

static void answer(int priv_fd, const struct zyg_birth *birth, struct zyg *z, int zygote)
{
    struct zyg_born born = {0};
    int fds[3] = {-1, -1, -1};
    int r = birth->join ? give_birth_beside(birth, z, priv_fd, zygote, &fds[0], &born)
                        : give_birth(birth, z, priv_fd, fds, &born);
    size_t nfds = r < 0 ? 0 : birth->join ? 1 : birth->net_address ? 3 : 2;
    born.error = -r;
    if (packet_send(priv_fd, &born, sizeof born, fds, nfds) < 0)
        _exit(1);
    fd_close(&fds[0]);
    fd_close(&fds[1]);
    fd_close(&fds[2]);
}

void primordial_serve(int priv_fd, int plan_fd, const struct zyg_eval *eval)
{
    struct zyg z = {.set = map_policies(plan_fd), .eval = eval};
    struct zyg_born hello = {0};
    fault_set_role("primordial");
    (void)fcntl(priv_fd, F_SETFD, FD_CLOEXEC);
    (void)setsid();
    child_show_as_prepare();
    bool watched = eval->watch();
    zyg_make_lean(eval);
    (void)prctl(PR_SET_NAME, "brood-primord", 0, 0, 0);
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (packet_send(priv_fd, &hello, sizeof hello, NULL, 0) < 0)
        _exit(1);
    for (;;) {
        struct zyg_birth birth;
        int fds[PACKET_FDS_MAX];
        size_t nfds;
        ssize_t n = packet_recv(priv_fd, &birth, sizeof birth, fds, &nfds);
        if (n == 0 || n == -ECONNRESET)
            _exit(0); /* priv is gone, so are we */
        if (n != (ssize_t)sizeof birth || birth.procs_count > ZYG_PROCS_MAX ||
            birth.joins_count > birth.procs_count || birth.policy >= z.set->count ||
            nfds !=
                2 + birth.procs_count + birth.joins_count + !!birth.has_pids_current + !!birth.join)
            die(1, "primordial: bad packet from priv");
        z.plan = &z.set->plans[birth.policy];
        z.ctl = fds[0];
        z.run_fd = fds[1];
        z.procs_count = birth.procs_count;
        z.moulds = watched && birth.moulds;
        z.net_address = birth.net_address;
        z.net_gateway = birth.net_gateway;
        z.joins_count = birth.joins_count;
        for (size_t i = 0; i < birth.procs_count; i++)
            z.procs_fd[i] = fds[2 + i];
        for (size_t i = 0; i < birth.joins_count; i++)
            z.own_procs_fd[i] = fds[2 + birth.procs_count + i];
        z.joined = birth.join;
        z.pids_current = birth.has_pids_current ? fds[nfds - 1 - z.joined] : -1;
        answer(priv_fd, &birth, &z, fds[nfds - 1]);
        for (size_t i = 0; i < nfds; i++)
            fd_close(&fds[i]);
    }
}
