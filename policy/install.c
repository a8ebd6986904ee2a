/* SPDX-License-Identifier: Apache-2.0 */
/* policy/install - the raw calls that restrict a zygote or child; see policy.h.
 *
 * Linked into the builtin, the static fallback and the supervisor. Runs after fork: no malloc, no
 * stdio, nothing that locks. Debian 12's headers know landlock ABI 1 or 2 only, so the later fields
 * are defined here and used as far as the running kernel's ABI goes (landlock(7), "Kernel
 * support").
 */
#include "policy/policy.h"
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define FS_TRUNCATE (1ull << 14)        /* ABI 3 */
#define FS_IOCTL_DEV (1ull << 15)       /* ABI 5 */
#define NET_BIND_TCP (1ull << 0)        /* ABI 4 */
#define NET_CONNECT_TCP (1ull << 1)     /* ABI 4 */
#define RULE_NET_PORT 2                 /* enum landlock_rule_type */
#define SCOPE_ABSTRACT_UNIX (1ull << 0) /* ABI 6 */
#define SCOPE_SIGNAL (1ull << 1)        /* ABI 6 */
#define FS_ALL_ABI1 ((1ull << 13) - 1)
#define WAIT_KILLABLE_RECV (1ul << 5) /* SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV */
#define FS_READ                                                                                    \
    (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)

struct ruleset_attr { /* the layout of ABI 6 */
    uint64_t fs, net, scoped;
};

struct net_port_attr {
    uint64_t allowed_access, port;
};

int policy_landlock_abi(void)
{
    long abi =
        syscall(SYS_landlock_create_ruleset, NULL, 0, 1u /* LANDLOCK_CREATE_RULESET_VERSION */);
    return abi < 0 ? 0 : (int)abi;
}

static int allow_beneath(int ruleset, const char *path, uint64_t access)
{
    struct landlock_path_beneath_attr rule = {.allowed_access = access};
    auto_close int fd = SYS(open(path, O_PATH | O_CLOEXEC));
    if (fd < 0)
        return -errno;
    rule.parent_fd = fd;
    if (SYS(syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0)) < 0)
        return -errno;
    return 0;
}

/* A ruleset that says nothing of files still denies to rename them into another directory (EXDEV):
 * landlock(7), LANDLOCK_ACCESS_FS_REFER. One for other things therefore handles that and allows it
 * everywhere. */
static int allow_moves(int ruleset)
{
    return allow_beneath(ruleset, "/", LANDLOCK_ACCESS_FS_REFER);
}

static uint64_t handled_fs(uint32_t abi)
{
    uint64_t fs = FS_ALL_ABI1;
    if (abi >= 2)
        fs |= LANDLOCK_ACCESS_FS_REFER;
    if (abi >= 3)
        fs |= FS_TRUNCATE;
    if (abi >= 5)
        fs |= FS_IOCTL_DEV;
    return fs;
}

static uint64_t tree_access(uint32_t abi)
{
    return handled_fs(abi) &
           ~(uint64_t)(LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK);
}

static int allow_ports(int ruleset, const struct policy_ports *ports, uint64_t access)
{
    for (uint32_t i = 0; i < ports->count && i < POLICY_PORTS_MAX; i++) {
        struct net_port_attr rule = {.allowed_access = access, .port = ports->port[i]};
        if (SYS(syscall(SYS_landlock_add_rule, ruleset, RULE_NET_PORT, &rule, 0)) < 0)
            return -errno;
    }
    return 0;
}

static int allow_files(const struct policy_plan *plan, int ruleset)
{
    uint64_t dev = (LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE | FS_IOCTL_DEV) &
                   handled_fs(plan->landlock_abi);
    int r = allow_beneath(ruleset, "/", FS_READ);
    if (r == 0)
        r = allow_beneath(ruleset, "/dev", dev);
    return r < 0 ? r : allow_beneath(ruleset, "/proc", LANDLOCK_ACCESS_FS_WRITE_FILE);
}

int policy_landlock_prepare(const struct policy_plan *plan, int *ret_ruleset)
{
    bool has_net = plan->landlock_abi >= POLICY_LANDLOCK_ABI_NET;
    struct ruleset_attr attr = {
        .fs = plan->rights & POLICY_FILES ? handled_fs(plan->landlock_abi) : 0,
        .net = (has_net && (plan->rights & POLICY_TCP_BIND) ? NET_BIND_TCP : 0) |
               (has_net && (plan->rights & POLICY_TCP_CONNECT) ? NET_CONNECT_TCP : 0)};
    *ret_ruleset = -1;
    if (!(plan->layers & POLICY_LANDLOCK) || !(attr.fs | attr.net))
        return 0;
    bool only_net = !attr.fs;
    if (only_net)
        attr.fs = LANDLOCK_ACCESS_FS_REFER;
    auto_close int ruleset =
        (int)SYS(syscall(SYS_landlock_create_ruleset, &attr, has_net ? 16 : 8, 0));
    if (ruleset < 0)
        return -errno;
    int r = only_net ? allow_moves(ruleset) : allow_files(plan, ruleset);
    if (r == 0 && attr.net & NET_BIND_TCP)
        r = allow_ports(ruleset, &plan->bind_ports, NET_BIND_TCP);
    if (r == 0 && attr.net & NET_CONNECT_TCP)
        r = allow_ports(ruleset, &plan->connect_ports, NET_CONNECT_TCP);
    if (r == 0)
        *ret_ruleset = fd_take(&ruleset);
    return r;
}

int policy_landlock_allow(const struct policy_plan *plan, int ruleset, const char *path)
{
    if (ruleset < 0 || !(plan->rights & POLICY_FILES))
        return 0;
    return allow_beneath(ruleset, path, tree_access(plan->landlock_abi));
}

int policy_landlock_restrict(int ruleset)
{
    if (ruleset >= 0 && SYS(syscall(SYS_landlock_restrict_self, ruleset, 0)) < 0)
        return -errno;
    return 0;
}

int policy_landlock_scope(uint32_t rights)
{
    struct ruleset_attr attr = {.scoped = (rights & POLICY_ABSTRACT ? SCOPE_ABSTRACT_UNIX : 0) |
                                          (rights & POLICY_SIGNALS ? SCOPE_SIGNAL : 0)};
    if (!attr.scoped)
        return 0;
    attr.fs = LANDLOCK_ACCESS_FS_REFER;
    auto_close int ruleset = (int)SYS(syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0));
    int r = ruleset < 0 ? -errno : allow_moves(ruleset);
    return r < 0 ? r : policy_landlock_restrict(ruleset);
}

int policy_landlock_read_only(void)
{
    uint32_t abi = (uint32_t)policy_landlock_abi();
    struct ruleset_attr attr = {
        .fs = handled_fs(abi),
        .net = abi >= POLICY_LANDLOCK_ABI_NET ? NET_BIND_TCP | NET_CONNECT_TCP : 0,
        .scoped = abi >= POLICY_LANDLOCK_ABI_SCOPE ? SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL : 0};
    size_t size = abi >= POLICY_LANDLOCK_ABI_SCOPE ? sizeof attr
                  : abi >= POLICY_LANDLOCK_ABI_NET ? 16
                                                   : 8;
    auto_close int ruleset = (int)SYS(syscall(SYS_landlock_create_ruleset, &attr, size, 0));
    if (ruleset < 0)
        return -errno;
    int r = allow_beneath(ruleset, "/", FS_READ & ~(uint64_t)LANDLOCK_ACCESS_FS_EXECUTE);
    return r < 0 ? r : policy_landlock_restrict(ruleset);
}

/* Without a listener a notification would be ENOSYS: the same filter with EPERM in its place. */
static int install_uncounted(const struct policy_plan *plan)
{
    struct sock_filter *copy = SYS(
        mmap(NULL, sizeof plan->bpf, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (copy == MAP_FAILED)
        return -errno;
    memcpy(copy, plan->bpf, plan->bpf_len * sizeof *copy);
    for (size_t i = 0; i < plan->bpf_len; i++)
        if (copy[i].code == (BPF_RET | BPF_K) && copy[i].k == SECCOMP_RET_USER_NOTIF)
            copy[i].k = SECCOMP_RET_ERRNO | EPERM;
    struct sock_fprog prog = {.len = (unsigned short)plan->bpf_len, .filter = copy};
    int r = SYS(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog)) < 0 ? -errno : 0;
    (void)munmap(copy, sizeof plan->bpf);
    return r;
}

int policy_install_seccomp(const struct policy_plan *plan, int *ret_listener)
{
    *ret_listener = -1;
    if (!(plan->layers & POLICY_SECCOMP))
        return 0;
    struct sock_fprog prog = {.len = (unsigned short)plan->bpf_len,
                              .filter = (struct sock_filter *)(uintptr_t)plan->bpf};
    /* The second flag is Linux 5.19: a call that is being answered is not restarted by signals, so
     * it is counted once. */
    static const unsigned long flags[] = {SECCOMP_FILTER_FLAG_NEW_LISTENER | WAIT_KILLABLE_RECV,
                                          SECCOMP_FILTER_FLAG_NEW_LISTENER};
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        long fd = SYS(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags[i], &prog));
        if (fd >= 0) {
            *ret_listener = (int)fd;
            return 0;
        }
    }
    return install_uncounted(plan);
}

int policy_install_rlimits(const struct policy_plan *plan)
{
    const struct {
        int what;
        uint64_t value;
    } table[] = {
        {RLIMIT_CORE, 0},
        {RLIMIT_NOFILE, plan->limits.nofile},
        {RLIMIT_FSIZE, plan->limits.fsize_bytes},
        {RLIMIT_STACK, plan->limits.stack_bytes},
        {RLIMIT_NPROC, plan->limits.nproc},
        {RLIMIT_MEMLOCK, 65536},
        {RLIMIT_MSGQUEUE, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct rlimit lim = {.rlim_cur = table[i].value, .rlim_max = table[i].value};
        struct rlimit now;
        if (SYS(getrlimit((__rlimit_resource_t)table[i].what, &now)) < 0)
            return -errno;
        if (lim.rlim_max > now.rlim_max)
            lim.rlim_cur = lim.rlim_max = now.rlim_max;
        if (SYS(setrlimit((__rlimit_resource_t)table[i].what, &lim)) < 0)
            return -errno;
    }
    return 0;
}

int policy_empty_bounding_set(void)
{
    for (unsigned long cap = 0; cap < 64; cap++)
        if (SYS(prctl(PR_CAPBSET_DROP, cap, 0, 0, 0)) < 0) {
            if (errno == EINVAL)
                break; /* past the kernel's last capability */
            return -errno;
        }
    if (SYS(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)) < 0 && errno != EINVAL)
        return -errno;
    return 0;
}

int policy_keep_caps(uint64_t keep)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {
        {.effective = (uint32_t)keep, .permitted = (uint32_t)keep},
        {.effective = (uint32_t)(keep >> 32), .permitted = (uint32_t)(keep >> 32)},
    };
    return SYS(syscall(SYS_capset, &head, data)) < 0 ? -errno : 0;
}

int policy_set_no_new_privs(void)
{
    return SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) < 0 ? -errno : 0;
}
