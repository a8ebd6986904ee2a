/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/probe_rules - does a run meet landlock, seccomp, its lack of privileges, and its rlimits?
 *
 * In the child of a probe (probe.c). Several of these refuse the same things with different errors,
 * so an error counts only where no other layer, nor the kernel itself, would have given it.
 */
#include "lib/fd.h"
#include "zygote/probe.h"
#include <arpa/inet.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define LANDLOCK_DOMAINS_MAX 16 /* LANDLOCK_MAX_NUM_LAYERS of the kernel */
#define LANDLOCK_DOMAINS_OF_SCOPE 1
#define SCRATCH "/tmp/.probe"

/* ---- landlock ----------------------------------------------------------------------------------
 */

/* The one device node that needs no capability (0:0, Linux 5.8), so that landlock alone refuses it:
 * without it the answer would be success, or EPERM. Older kernels (seen: 6.1) take it for a plain
 * file, which is allowed: there the last questions have to do. */
static struct probe_finding make_device(void)
{
    if (!(probe_ask.rights & POLICY_FILES))
        return probe_say(ZYG_ABSENT, "off by policy");
    if (probe_ask.refused & ZYG_CALL_MKNOD)
        return probe_say(ZYG_ABSENT, "its profile refuses mknod");
    int r = mknod(SCRATCH, S_IFCHR | 0600, makedev(0, 0));
    if (r == 0) {
        (void)unlink(SCRATCH);
        return probe_ask.landlock_abi < POLICY_LANDLOCK_ABI_SCOPE
                   ? probe_say(ZYG_HELD, "a plain file to this kernel")
                   : probe_say(ZYG_BROKEN, "it works");
    }
    return errno == EACCES
               ? probe_say(ZYG_HELD, "EACCES")
               : probe_say(ZYG_BROKEN, "%s, which is not landlock's", strerrorname_np(errno));
}

/* Of a call that only landlock can answer with EACCES. */
static struct probe_finding must_be_landlocks(long r)
{
    if (r == 0)
        return probe_say(ZYG_BROKEN, "it works");
    return errno == EACCES
               ? probe_say(ZYG_HELD, "EACCES")
               : probe_say(ZYG_BROKEN, "%s, which is not landlock's", strerrorname_np(errno));
}

static struct probe_finding try_tcp(uint32_t right, uint32_t means, uint32_t port, long call)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (probe_ask.landlock_abi < POLICY_LANDLOCK_ABI_NET)
        return probe_say(ZYG_ABSENT, "ABI %u, %u is needed", probe_ask.landlock_abi,
                         POLICY_LANDLOCK_ABI_NET);
    if (!(probe_ask.rights & right))
        return probe_say(ZYG_ABSENT, "off by policy");
    if (probe_ask.refused & (means | ZYG_CALL_SOCKET))
        return probe_say(ZYG_ABSENT, "its profile refuses what it takes to ask");
    auto_close int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (sock < 0)
        return probe_say(ZYG_ABSENT, "no socket: %s", strerrorname_np(errno));
    return must_be_landlocks(syscall(call, sock, &addr, sizeof addr));
}

static struct probe_finding bind_tcp(void)
{
    return try_tcp(POLICY_TCP_BIND, ZYG_CALL_BIND, probe_ask.closed_port, SYS_bind);
}

static struct probe_finding connect_tcp(void)
{
    return try_tcp(POLICY_TCP_CONNECT, ZYG_CALL_CONNECT, probe_ask.closed_connect, SYS_connect);
}

/* How many domains lie around us: found by adding to them until the kernel takes no more, once and
 * last, since every other question must meet the domains of a run. -1: cannot be asked. */
static int domains_around(void)
{
    static int around = -2;
    uint64_t attr[3] = {LANDLOCK_ACCESS_FS_MAKE_BLOCK}; /* which nobody has anyway */
    if (around > -2)
        return around;
    auto_close int ruleset = (int)syscall(SYS_landlock_create_ruleset, attr, sizeof attr[0], 0);
    around = ruleset < 0 ? -1 : LANDLOCK_DOMAINS_MAX;
    while (around > 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) == 0)
        around--;
    return around;
}

static struct probe_finding find_domains(int want)
{
    int around = domains_around();
    if (around < 0)
        return probe_say(ZYG_BROKEN, "cannot be asked: %s", strerrorname_np(errno));
    return around >= want ? probe_say(ZYG_HELD, "%d domains", around)
                          : probe_say(ZYG_BROKEN, "%d of %d domains", around, want);
}

static bool has_rules(void)
{
    return probe_ask.rights & (POLICY_FILES | POLICY_TCP_BIND | POLICY_TCP_CONNECT);
}

static struct probe_finding leave_domain(void)
{
    return has_rules() ? find_domains(1) : probe_say(ZYG_ABSENT, "off by policy");
}

/* Signals to others are refused by uid already, and there is nobody to call. */
static struct probe_finding leave_scope(void)
{
    if (!(probe_ask.rights & POLICY_SIGNALS))
        return probe_say(ZYG_ABSENT, "off by policy");
    if (probe_ask.landlock_abi < POLICY_LANDLOCK_ABI_SCOPE)
        return probe_say(ZYG_ABSENT, "ABI %u, 6 is needed", probe_ask.landlock_abi);
    return find_domains(has_rules() + LANDLOCK_DOMAINS_OF_SCOPE);
}

/* ---- seccomp -----------------------------------------------------------------------------------
 */

/* Each call is put so that the kernel itself would answer something else than a filter does. What
 * the policy's own profile allows is made all the same, and harmless. */
static struct probe_finding must_be_filtered(uint32_t call, long r)
{
    if (!(probe_ask.refused & call))
        return probe_say(ZYG_ABSENT, "its profile allows it");
    if (r >= 0)
        return probe_say(ZYG_BROKEN, "it works");
    return errno == EPERM || errno == ENOSYS
               ? probe_say(ZYG_HELD, "%s", strerrorname_np(errno))
               : probe_say(ZYG_BROKEN, "%s: it was let in", strerrorname_np(errno));
}

static struct probe_finding call_unshare(void)
{
    return must_be_filtered(ZYG_CALL_UNSHARE, syscall(SYS_unshare, 0));
}

static struct probe_finding call_setns(void)
{
    return must_be_filtered(ZYG_CALL_SETNS, syscall(SYS_setns, -1, 0));
}

static struct probe_finding call_clone3(void)
{
    return must_be_filtered(ZYG_CALL_CLONE3, syscall(SYS_clone3, NULL, 0));
}

static struct probe_finding call_keyctl(void)
{
    return must_be_filtered(ZYG_CALL_KEYCTL, syscall(SYS_keyctl, 0x7fffffff, 0, 0, 0, 0));
}

static struct probe_finding call_mount(void)
{
    return must_be_filtered(ZYG_CALL_MOUNT, syscall(SYS_mount, 1L, 1L, 1L, 0, 1L));
}

static struct probe_finding call_io_uring(void)
{
    return must_be_filtered(ZYG_CALL_IO_URING, syscall(SYS_io_uring_setup, 1, NULL));
}

static struct probe_finding call_bpf(void)
{
    return must_be_filtered(ZYG_CALL_BPF, syscall(SYS_bpf, -1, NULL, 0));
}

/* In a child: without 32-bit support in the kernel the instruction is a fault. */
static struct probe_finding call_32bit(void)
{
#ifdef __x86_64__
    int status = 0;
    pid_t pid = _Fork();
    if (pid == 0) {
        long r = 20; /* getpid of i386 */
        __asm__ volatile("int $0x80" : "+a"(r) : : "memory", "cc", "r8", "r9", "r10", "r11");
        _exit((int)r > 0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return probe_say(ZYG_BROKEN, "cannot be asked: %s", strerrorname_np(errno));
    return WIFEXITED(status) && WEXITSTATUS(status) ? probe_say(ZYG_BROKEN, "it works")
                                                    : probe_say(ZYG_HELD, "refused");
#else
    return probe_say(ZYG_ABSENT, "not on this machine");
#endif
}

/* ---- privileges, limits ------------------------------------------------------------------------
 */

static struct probe_finding gain_by_exec(void)
{
    long r = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
    return r == 1 ? probe_say(ZYG_HELD, "set") : probe_say(ZYG_BROKEN, "not set");
}

static struct probe_finding use_capability(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};
    if (syscall(SYS_capget, &head, data) < 0)
        return probe_say(ZYG_BROKEN, "capget: %s", strerrorname_np(errno));
    for (int i = 0; i < 2; i++)
        if (data[i].effective | data[i].permitted | data[i].inheritable)
            return probe_say(ZYG_BROKEN, "has %#x", data[i].effective | data[i].permitted);
    return probe_say(ZYG_HELD, "none");
}

static struct probe_finding inherit_capability(void)
{
    for (int cap = 0; cap < 64; cap++) {
        int r = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
        if (r < 0 && errno == EINVAL)
            break; /* past the last */
        if (r != 0)
            return probe_say(ZYG_BROKEN, "capability %d is in the bounding set", cap);
    }
    return probe_say(ZYG_HELD, "the bounding set is empty");
}

static struct probe_finding become_root(void)
{
    return probe_must_fail(syscall(SYS_setresuid, 0, 0, 0));
}

static struct probe_finding raise_limit(void)
{
    struct rlimit lim = {.rlim_cur = probe_ask.nofile + 1, .rlim_max = probe_ask.nofile + 1};
    return probe_must_fail(setrlimit(RLIMIT_NOFILE, &lim));
}

static struct probe_finding use_more_files(void)
{
    int fd = dup2(1, (int)probe_ask.nofile);
    struct probe_finding f = probe_must_fail(fd);
    fd_close(&fd);
    return f;
}

static struct probe_finding exceed_limits(void)
{
    const struct {
        __rlimit_resource_t what;
        const char *name;
        uint64_t at_most;
    } table[] = {{RLIMIT_CORE, "core", 0},
                 {RLIMIT_FSIZE, "fsize", probe_ask.fsize_bytes},
                 {RLIMIT_NPROC, "nproc", probe_ask.nproc}};
    struct rlimit lim;
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (getrlimit(table[i].what, &lim) < 0 || lim.rlim_max > table[i].at_most)
            return probe_say(ZYG_BROKEN, "%s is %llu", table[i].name,
                             (unsigned long long)lim.rlim_max);
    return probe_say(ZYG_HELD, "all as set");
}

/* ---- the tables --------------------------------------------------------------------------------
 */

static const struct probe_question questions[] = {
    {POLICY_LANDLOCK, "can I make a device node?", make_device},
    {POLICY_LANDLOCK_TCP, "can I bind a TCP port?", bind_tcp},
    {POLICY_LANDLOCK_TCP, "can I connect to a TCP port?", connect_tcp},
    {POLICY_SECCOMP, "can I call unshare?", call_unshare},
    {POLICY_SECCOMP, "can I call setns?", call_setns},
    {POLICY_SECCOMP, "can I call clone3?", call_clone3},
    {POLICY_SECCOMP, "can I call keyctl?", call_keyctl},
    {POLICY_SECCOMP, "can I call mount?", call_mount},
    {POLICY_SECCOMP, "can I call io_uring_setup?", call_io_uring},
    {POLICY_SECCOMP, "can I call bpf?", call_bpf},
    {POLICY_SECCOMP, "can I enter by 32-bit calls?", call_32bit},
    {POLICY_NO_NEW_PRIVS, "can an exec give me privileges?", gain_by_exec},
    {POLICY_CAPABILITIES, "do I have a capability?", use_capability},
    {POLICY_CAPABILITIES, "can a program gain a capability?", inherit_capability},
    {POLICY_CAPABILITIES, "can I become root?", become_root},
    {POLICY_RLIMITS, "can I raise a hard limit?", raise_limit},
    {POLICY_RLIMITS, "can I open more files than allowed?", use_more_files},
    {POLICY_RLIMITS, "is a limit higher than set?", exceed_limits},
};
const struct probe_part probe_rules = {questions, ARRAY_LEN(questions)};

/* What domains_around() leaves behind. */
static const struct probe_question last_questions[] = {
    {POLICY_LANDLOCK, "am I outside of its domain?", leave_domain},
    {POLICY_LANDLOCK_SCOPE, "am I outside the signal scope?", leave_scope},
};
const struct probe_part probe_last = {last_questions, ARRAY_LEN(last_questions)};
