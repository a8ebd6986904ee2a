/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/restrict - see restrict.h.
 *
 * In the frontend, once, when every descriptor it will ever need from outside is open: listeners,
 * the engine's connections, /dev/null, stderr, the loops. The supervisor has already taken user and
 * capabilities. Afterwards no file can be opened (landlock and seccomp both), no socket made, no
 * process started or traced, no memory made executable; a call not listed is ENOSYS, so that a
 * library that tries falls back. A kernel without landlock ends the start: we fail closed.
 */
#include "frontend/restrict.h"
#include "lib/err.h"
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

/* Debian 12's headers stop at landlock ABI 2 (landlock(7)). */
struct ruleset_attr {
    uint64_t fs, net, scoped;
};
#define FS_ABI1 ((1ull << 13) - 1)
#define FS_REFER (1ull << 13)      /* ABI 2 */
#define FS_TRUNCATE (1ull << 14)   /* ABI 3 */
#define FS_IOCTL_DEV (1ull << 15)  /* ABI 5 */
#define NET_BIND_CONNECT 3ull      /* ABI 4 */
#define SCOPE_ABSTRACT_SIGNAL 3ull /* ABI 6 */

#ifdef __SANITIZE_ADDRESS__
/* The leak checker traces its own threads at exit, which the filter forbids. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}
#endif

static int raise_nofile(struct err *err)
{
    struct rlimit lim;
    if (getrlimit(RLIMIT_NOFILE, &lim) < 0)
        return err_sys(err, "read the limit of descriptors");
    lim.rlim_cur = lim.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &lim) < 0 ? err_sys(err, "raise the limit of descriptors") : 0;
}

static int install_landlock(struct err *err)
{
    long abi =
        syscall(SYS_landlock_create_ruleset, NULL, 0, 1u /* LANDLOCK_CREATE_RULESET_VERSION */);
    if (abi < 1)
        return err_sys(err, "this kernel has no landlock, which the frontend requires");
    struct ruleset_attr attr = {.fs = FS_ABI1};
    attr.fs |=
        (abi >= 2 ? FS_REFER : 0) | (abi >= 3 ? FS_TRUNCATE : 0) | (abi >= 5 ? FS_IOCTL_DEV : 0);
    attr.net = abi >= 4 ? NET_BIND_CONNECT : 0;
    attr.scoped = abi >= 6 ? SCOPE_ABSTRACT_SIGNAL : 0;
    size_t size = abi >= 6 ? sizeof attr : abi >= 4 ? 16 : 8;
    auto_close int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
    if (ruleset < 0 || syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
        return err_sys(err, "install landlock");
    return 0;
}

static const int allowed[] = {
    /* bytes */
    SCMP_SYS(read),
    SCMP_SYS(readv),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    SCMP_SYS(close),
    SCMP_SYS(lseek),
    /* sockets that exist */
    SCMP_SYS(accept4),
    SCMP_SYS(recvmsg),
    SCMP_SYS(recvfrom),
    SCMP_SYS(sendmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(shutdown),
    SCMP_SYS(setsockopt),
    SCMP_SYS(getsockopt),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    /* pipes and memfds of runs */
    SCMP_SYS(pipe2),
    SCMP_SYS(fchmod),
    SCMP_SYS(memfd_create),
    SCMP_SYS(fcntl),
    /* the loop */
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    /* memory (mmap and mprotect: below) */
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    /* threads that exist, and the end (clone: below) */
    SCMP_SYS(futex),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(gettid),
    SCMP_SYS(getpid),
    SCMP_SYS(tgkill),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    /* clocks, random bytes */
    SCMP_SYS(clock_gettime),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(getrandom),
};

static int fill_filter(scmp_filter_ctx ctx)
{
    const unsigned thread = CLONE_VM | CLONE_THREAD | CLONE_SIGHAND;
    int r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(allowed); i++)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0);
    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    /* A thread yes, a process no. clone3's flags cannot be seen: ENOSYS, glibc then uses clone. */
    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                             SCMP_A0(SCMP_CMP_MASKED_EQ, thread, thread));
    return r;
}

static int install_seccomp(struct err *err)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    int r = ctx ? fill_filter(ctx) : -ENOMEM;
    if (r == 0)
        r = seccomp_load(ctx);
    seccomp_release(ctx);
    return r < 0 ? err_set(err, "install the seccomp filter: %s", strerror(-r)) : 0;
}

int restrict_self(struct err *err)
{
    int r = raise_nofile(err);
    if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        r = err_sys(err, "set no_new_privs");
    if (r == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        r = err_sys(err, "become undumpable");
    if (r == 0)
        r = install_landlock(err);
    return r == 0 ? install_seccomp(err) : r;
}
