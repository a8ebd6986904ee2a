/* SPDX-License-Identifier: Apache-2.0 */
/* lib/confine - see confine.h. Used by engine, frontend and courier, each with a list of calls
 * beside those that all of them need.
 *
 * The layers overlap on purpose: a file cannot be opened because landlock forbids it and because
 * openat() is not listed. So the proof asks twice: once when landlock and limits stand and system
 * calls still work, and once behind the filter. A question does what an attacker would do first;
 * one that is answered "yes" ends the start. A kernel without landlock does, too: we fail closed.
 */
#include "lib/confine.h"
#include "lib/err.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* Debian 12's headers stop at landlock ABI 2 (landlock(7)). */
struct ruleset_attr {
    uint64_t fs, net, scoped;
};
struct net_port_attr {
    uint64_t allowed, port;
};
#define FS_ABI1 ((1ull << 13) - 1)
#define FS_REFER (1ull << 13)     /* ABI 2 */
#define FS_TRUNCATE (1ull << 14)  /* ABI 3 */
#define FS_IOCTL_DEV (1ull << 15) /* ABI 5 */
#define NET_BIND_CONNECT 3ull     /* ABI 4 */
#define NET_CONNECT 2ull
#define RULE_NET_PORT 2
#define SCOPE_ABSTRACT_SIGNAL 3ull /* ABI 6 */
#define ABI_NET 4
#define ABI_SCOPE 6

/* ---- the steps --------------------------------------------------------------------------------
 */

static int install_limits(const struct confine_plan *plan, struct err *err)
{
    /* No limit of file size: it would hold for the log, too, and for the memfds of messages. */
    const struct {
        __rlimit_resource_t what;
        uint64_t max;
        bool wanted;
    } table[] = {
        {RLIMIT_CORE, 0, true},
        {RLIMIT_MEMLOCK, 0, true},
        {RLIMIT_MSGQUEUE, 0, true},
        {RLIMIT_NPROC, 0, !plan->makes_threads}, /* threads count as processes */
        {RLIMIT_DATA, plan->data_bytes_max, plan->data_bytes_max > 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct rlimit lim;
        if (!table[i].wanted)
            continue;
        if (getrlimit(table[i].what, &lim) < 0)
            return err_sys(err, "read resource limit %d", (int)table[i].what);
        if (lim.rlim_max > table[i].max)
            lim.rlim_max = table[i].max;
        lim.rlim_cur = lim.rlim_max;
        if (setrlimit(table[i].what, &lim) < 0)
            return err_sys(err, "set resource limit %d", (int)table[i].what);
    }
    return 0;
}

static int allow_directory(int ruleset, const struct confine_plan *plan, long abi)
{
    struct landlock_path_beneath_attr rule = {.parent_fd = plan->dir_fd};
    rule.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE |
                          LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
                          LANDLOCK_ACCESS_FS_REMOVE_FILE | (abi >= 3 ? FS_TRUNCATE : 0);
    if (plan->dir_fd <= 0)
        return 0;
    return (int)syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
}

static int allow_files(int ruleset, const struct confine_plan *plan)
{
    for (const char *const *path = plan->read_files; path && *path; path++) {
        auto_close int fd = SYS(open(*path, O_PATH | O_CLOEXEC));
        struct landlock_path_beneath_attr rule = {.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE,
                                                  .parent_fd = fd};
        /* What is not there need not be read. What could not be opened for another reason would be
         * missing for all the life of this process. */
        if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == EACCES || errno == ELOOP))
            continue;
        if (fd < 0 ||
            SYS(syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0)) < 0)
            return -1;
    }
    return 0;
}

static int allow_ports(int ruleset, const struct confine_plan *plan, long abi)
{
    for (size_t i = 0; abi >= ABI_NET && i < plan->port_count; i++) {
        struct net_port_attr rule = {.allowed = NET_CONNECT, .port = plan->ports[i]};
        if (syscall(SYS_landlock_add_rule, ruleset, RULE_NET_PORT, &rule, 0) < 0)
            return -1;
    }
    return 0;
}

static int install_landlock(const struct confine_plan *plan, long *ret_abi, struct err *err)
{
    long abi =
        syscall(SYS_landlock_create_ruleset, NULL, 0, 1u /* LANDLOCK_CREATE_RULESET_VERSION */);
    if (abi < 1)
        return err_sys(err, "this kernel has no landlock, which this process requires");
    struct ruleset_attr attr = {.fs = FS_ABI1};
    attr.fs |=
        (abi >= 2 ? FS_REFER : 0) | (abi >= 3 ? FS_TRUNCATE : 0) | (abi >= 5 ? FS_IOCTL_DEV : 0);
    attr.net = abi >= ABI_NET ? NET_BIND_CONNECT : 0;
    attr.scoped = abi >= ABI_SCOPE ? SCOPE_ABSTRACT_SIGNAL : 0;
    size_t size = abi >= ABI_SCOPE ? sizeof attr : abi >= ABI_NET ? 16 : 8;
    auto_close int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
    if (ruleset < 0 || allow_directory(ruleset, plan, abi) < 0 || allow_files(ruleset, plan) < 0 ||
        allow_ports(ruleset, plan, abi) < 0 || syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
        return err_sys(err, "install landlock");
    *ret_abi = abi;
    return 0;
}

/* What each of ours needs: to use what it holds, to wait, to have memory, to end. */
static const int base[] = {
    /* bytes through descriptors that it has */
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    SCMP_SYS(lseek),
    SCMP_SYS(close),
    SCMP_SYS(fcntl),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    /* memory (mmap and mprotect: below) */
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
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

/* What a thread needs besides (clone: below). */
static const int threads[] = {
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(sched_yield),
};

static int allow_calls(scmp_filter_ctx ctx, const int *calls, size_t count)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < count; i++)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i], 0);
    return r;
}

static int fill_filter(scmp_filter_ctx ctx, const struct confine_plan *plan)
{
    const unsigned thread = CLONE_VM | CLONE_THREAD | CLONE_SIGHAND;
    int r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (r == 0)
        r = allow_calls(ctx, base, ARRAY_LEN(base));
    if (r == 0 && plan->makes_threads)
        r = allow_calls(ctx, threads, ARRAY_LEN(threads));
    if (r == 0)
        r = allow_calls(ctx, plan->calls, plan->call_count);
    for (size_t i = 0; r == 0 && i < plan->ioctl_count; i++)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
                             SCMP_A1(SCMP_CMP_EQ, plan->ioctls[i]));
    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    /* Without O_PATH, which landlock does not see: the way to what a file is, and to fchdir(). */
    if (r == 0 && (plan->dir_fd > 0 || plan->read_files))
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, O_PATH, 0));
    /* No Unix socket: whoever can be connected to by a path is none of its business. */
    const int families[] = {AF_INET, AF_INET6};
    for (size_t i = 0; r == 0 && plan->connects && i < ARRAY_LEN(families); i++)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
                             SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i]));
    if (r == 0 && plan->connects)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(connect), 0);
    /* MSG_FASTOPEN connects, and landlock did not look at that for long. */
    const struct {
        int call;
        unsigned flags_at;
    } sends[] = {{SCMP_SYS(sendto), 3}, {SCMP_SYS(sendmsg), 2}, {SCMP_SYS(sendmmsg), 3}};
    for (size_t i = 0; r == 0 && plan->connects && i < ARRAY_LEN(sends); i++)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, sends[i].call, 1,
                             SCMP_CMP(sends[i].flags_at, SCMP_CMP_MASKED_EQ, MSG_FASTOPEN, 0));
    /* A thread yes, a process no. clone3's flags cannot be seen: ENOSYS, glibc then uses clone. */
    if (r == 0 && plan->makes_threads)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                             SCMP_A0(SCMP_CMP_MASKED_EQ, thread, thread));
    return r;
}

static int install_seccomp(const struct confine_plan *plan, struct err *err)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    int r = ctx ? fill_filter(ctx, plan) : -ENOMEM;
    if (r == 0)
        r = seccomp_load(ctx);
    seccomp_release(ctx);
    return r < 0 ? err_set(err, "install the seccomp filter: %s", strerror(-r)) : 0;
}

/* ---- the proof --------------------------------------------------------------------------------
 */

static bool can_open_a_file(const struct confine_plan *plan)
{
    auto_close int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    auto_close int beneath = openat(plan->dir_fd, "/etc/passwd", O_RDONLY | O_CLOEXEC);
    return fd >= 0 || beneath >= 0;
}

static bool can_list_a_directory(const struct confine_plan *plan)
{
    auto_close int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    auto_close int above = openat(plan->dir_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 || (plan->dir_fd > 0 && above >= 0);
}

static bool can_make_a_file(const struct confine_plan *plan)
{
    static const char *const dirs[] = {"/tmp", "/dev/shm", "/var/tmp", ".."};
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        if (*dirs[i] == '.' && plan->dir_fd <= 0)
            continue;
        auto_close int fd = openat(plan->dir_fd, dirs[i], O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
        if (fd >= 0)
            return true;
    }
    return false;
}

static bool can_see_a_file(const struct confine_plan *plan)
{
    auto_close int fd = openat(plan->dir_fd, "/etc/passwd", O_PATH | O_CLOEXEC);
    return fd >= 0;
}

/* Port 1 of this machine: ECONNREFUSED would mean that it was allowed to ask. */
static bool can_connect(const struct confine_plan *plan)
{
    for (size_t i = 0; i < plan->port_count; i++)
        if (plan->ports[i] == 1)
            return false;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(1)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd >= 0 &&
           (connect(fd, (struct sockaddr *)&to, sizeof to) == 0 || errno != EACCES); /* landlock */
}

static bool can_make_a_unix_socket(const struct confine_plan *plan)
{
    (void)plan;
    auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd >= 0;
}

static bool can_signal_its_parent(const struct confine_plan *plan)
{
    (void)plan;
    return kill(getppid(), 0) == 0;
}

static bool can_start_a_process(const struct confine_plan *plan)
{
    (void)plan;
    pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0)
        _exit(0);
    if (pid > 0)
        (void)waitpid(pid, NULL, 0);
    return pid >= 0;
}

static bool can_become_root(const struct confine_plan *plan)
{
    (void)plan;
    return syscall(SYS_setresuid, -1, 0, -1) == 0;
}

static bool can_be_dumped(const struct confine_plan *plan)
{
    (void)plan;
    return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1;
}

/* (Not unlinkat: who has a directory may need it.) With nonsense for arguments: whatever it answers
 * but ENOSYS, the kernel looked at them. */
static bool can_call_what_is_not_listed(const struct confine_plan *plan)
{
    static const int calls[] = {
        SYS_execve,         SYS_execveat,   SYS_ptrace,      SYS_mount,      SYS_move_mount,
        SYS_unshare,        SYS_setns,      SYS_openat2,     SYS_linkat,     SYS_symlinkat,
        SYS_mknodat,        SYS_fchownat,   SYS_fchdir,      SYS_chroot,     SYS_bpf,
        SYS_io_uring_setup, SYS_kexec_load, SYS_init_module, SYS_pidfd_open, SYS_socket,
        SYS_connect,        SYS_bind,       SYS_keyctl,      SYS_clone3,     SYS_process_vm_writev,
    };
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        if (plan->connects && calls[i] == SYS_connect)
            continue;
        if (syscall(calls[i], -1L, 0L, 0L, 0L, 0L, 0L) != -1 || errno != ENOSYS)
            return true;
    }
    return false;
}

/* An ioctl that types into a terminal: others may be listed. */
static bool can_type_into_a_terminal(const struct confine_plan *plan)
{
    (void)plan;
    return syscall(SYS_ioctl, -1L, (long)TIOCSTI, "x") != -1 || errno != ENOSYS;
}

#define NEVER 1000
static const struct {
    const char *what;
    bool (*can)(const struct confine_plan *plan);
    int abi;                    /* landlock answers from this one on; NEVER: the filter only */
    bool unless_threads, alone; /* `alone`: not when it is the user root, who has no such limit */
} questions[] = {
    {"open a file", can_open_a_file, 1, false, false},
    {"list a directory", can_list_a_directory, 1, false, false},
    {"make a file", can_make_a_file, 1, false, false},
    {"see a file", can_see_a_file, NEVER, false, false},
    {"connect to a TCP port", can_connect, ABI_NET, false, false},
    {"make a Unix socket", can_make_a_unix_socket, NEVER, false, false},
    {"signal its parent", can_signal_its_parent, ABI_SCOPE, false, false},
    {"start a process", can_start_a_process, 0, true, true},
    {"become root", can_become_root, 0, false, true},
    {"be dumped", can_be_dumped, 0, false, false},
    {"type into a terminal", can_type_into_a_terminal, NEVER, false, false},
    {"make a system call that is not listed", can_call_what_is_not_listed, NEVER, false, false},
};

static int prove(const struct confine_plan *plan, long abi, bool filtered, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(questions); i++) {
        if (plan->connects && questions[i].can == can_connect && abi < ABI_NET)
            continue; /* nothing keeps it from other ports there */
        bool asked = filtered || (questions[i].abi <= abi &&
                                  !(questions[i].unless_threads && plan->makes_threads) &&
                                  !(questions[i].alone && geteuid() == 0));
        if (asked && questions[i].can(plan))
            return err_set(err, "it gave that up, but it could still %s%s", questions[i].what,
                           filtered ? "" : " if it were not for seccomp");
    }
    return 0;
}

int confine_self(const struct confine_plan *plan, struct err *err)
{
    long abi = 0;
    int r = install_limits(plan, err);
    if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        r = err_sys(err, "set no_new_privs");
    if (r == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        r = err_sys(err, "become undumpable");
    if (r == 0)
        r = install_landlock(plan, &abi, err);
    if (r == 0)
        r = prove(plan, abi, false, err);
    if (r == 0)
        r = install_seccomp(plan, err);
    return r == 0 ? prove(plan, abi, true, err) : r;
}
