/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/restrict - see restrict.h.
 *
 * In the frontend, once, when every descriptor it will ever need from outside is open: listeners,
 * the engine's connections, /dev/null, stderr, the loops, the store's database and directory. The
 * supervisor has already taken user and capabilities. What is renounced is lib/confine's; the list
 * of calls that only the frontend needs is ours.
 */
#include "frontend/restrict.h"
#include "lib/confine.h"
#include "lib/err.h"
#include <asm/ioctls.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

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
    if (SYS(getrlimit(RLIMIT_NOFILE, &lim)) < 0)
        return err_sys(err, "read the limit of descriptors");
    lim.rlim_cur = lim.rlim_max;
    return SYS(setrlimit(RLIMIT_NOFILE, &lim)) < 0 ? err_sys(err, "raise the limit of descriptors")
                                                   : 0;
}

/* Whatever HTTP clients make us hold, half of the machine's memory stays for the others. Asan's
 * shadow is larger than any limit. */
static uint64_t choose_data_max(void)
{
#ifdef __SANITIZE_ADDRESS__
    return 0;
#else
    return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 2;
#endif
}

/* Beside what each of ours may call (lib/confine). */
static const int allowed[] = {
    SCMP_SYS(readv),
    SCMP_SYS(pread64),
    SCMP_SYS(fstat),
    SCMP_SYS(newfstatat), /* fstat, as glibc has it */
    /* the store: what SQLite does to open files; making, naming and removing contents (openat:
     * lib/confine) */
    SCMP_SYS(pwrite64),
    SCMP_SYS(fsync),
    SCMP_SYS(fdatasync),
    SCMP_SYS(ftruncate),
    SCMP_SYS(renameat),
    SCMP_SYS(unlinkat),
    /* sockets: those that exist, and pairs for what comes back of files and artifacts */
    SCMP_SYS(socketpair),
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
    /* the loop */
    SCMP_SYS(epoll_create1), /* for the outputs of each job, and for a pipe that is full */
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_ctl),
    /* clocks */
    SCMP_SYS(time),
    SCMP_SYS(clock_nanosleep),
};

/* Of terminals, whose masters come from namespaces: their size, and a signal to who is in front. */
static const uint32_t ioctls[] = {TIOCSWINSZ, TIOCSIG};

int restrict_self(int state_fd, struct err *err)
{
    const struct confine_plan plan = {.calls = allowed,
                                      .call_count = ARRAY_LEN(allowed),
                                      .ioctls = ioctls,
                                      .ioctl_count = ARRAY_LEN(ioctls),
                                      .dir_fd = state_fd,
                                      .makes_threads = true, /* the store's, and servers */
                                      .data_bytes_max = choose_data_max()};
    int r = raise_nofile(err);
    return r == 0 ? confine_self(&plan, err) : r;
}
