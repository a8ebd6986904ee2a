/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/engine_confine - what the engine renounces before its first client.
 *
 * It holds all it needs as descriptors: the listener, priv's socket, the directory whose entries it
 * lists. What comes later is sent to it by priv or clients, or made by it: socket pairs, memfds. So
 * no call that takes a path is in the list, not even stat. No thread, no process, no signal.
 */
#include "lib/confine.h"
#include "supervisor/engine.h"
#include <seccomp.h>
#include <time.h>

static const int allowed[] = {
    /* bytes: frames, counters, the files of a reload, the log */
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    SCMP_SYS(pread64),
    SCMP_SYS(pwrite64),
    SCMP_SYS(lseek),
    SCMP_SYS(close),
    SCMP_SYS(fcntl),
    SCMP_SYS(getdents64),
    /* sockets */
    SCMP_SYS(accept4),
    SCMP_SYS(socketpair),
    /* what the probe at start writes through */
    SCMP_SYS(pipe2),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendmsg),
    SCMP_SYS(setsockopt),
    SCMP_SYS(getsockopt),
    /* a message that is too long for its frame */
    SCMP_SYS(memfd_create),
    /* the loop */
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    /* memory (mmap and mprotect: lib/confine); sysinfo: qsort() asks how much there is */
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(sysinfo),
    /* where a zygote should live */
    SCMP_SYS(getcpu),
    /* itself, its end, an abort */
    SCMP_SYS(futex),
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
    /* clocks, random bytes (the arena of malloc) */
    SCMP_SYS(clock_gettime),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(getrandom),
};

int engine_confine(struct err *err)
{
    const struct confine_plan plan = {.calls = allowed, .call_count = ARRAY_LEN(allowed)};
    time_t now = 0;
    struct tm tm;
    (void)localtime_r(&now, &tm); /* reads the time zone while there are files */
    return confine_self(&plan, err);
}
