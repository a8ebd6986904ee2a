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

/* Beside what each of ours may call (lib/confine). */
static const int allowed[] = {
    /* counters, the files of a reload, the directory of volumes */
    SCMP_SYS(pread64),
    SCMP_SYS(pwrite64),
    SCMP_SYS(getdents64),
    /* sockets */
    SCMP_SYS(accept4),
    SCMP_SYS(socketpair),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendmsg),
    SCMP_SYS(setsockopt),
    SCMP_SYS(getsockopt),
    /* what the probe at start writes through */
    SCMP_SYS(pipe2),
    /* a message that is too long for its frame */
    SCMP_SYS(memfd_create),
    /* the loop */
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_ctl),
    /* qsort() asks how much memory there is */
    SCMP_SYS(sysinfo),
    /* where a zygote should live */
    SCMP_SYS(getcpu),
};

int engine_confine(struct err *err)
{
    const struct confine_plan plan = {.calls = allowed, .call_count = ARRAY_LEN(allowed)};
    time_t now = 0;
    struct tm tm;
    (void)localtime_r(&now, &tm); /* reads the time zone while there are files */
    return confine_self(&plan, err);
}
