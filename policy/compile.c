/* SPDX-License-Identifier: Apache-2.0 */
/* policy/compile - builds the plan at start, in the supervisor before it splits.
 *
 * The seccomp filter is a first one: everything is allowed but a list of calls that reach for other
 * namespaces, the kernel's configuration or its least-tested corners. Denied calls get EPERM, the
 * ones that libcs probe for get ENOSYS; never a silent kill. 32-bit and x32 entry get ENOSYS.
 * libseccomp exports BPF to a descriptor only, so a memfd carries it (seccomp_export_bpf(3)).
 */
#include "policy/compile.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "policy/policy.h"
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

/* By name: libseccomp knows numbers of calls that Debian 12's headers do not. */
static const char *const denied[] = {
    "unshare",
    "setns",
    "mount",
    "umount",
    "umount2",
    "pivot_root",
    "chroot",
    "move_mount",
    "open_tree",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    "quotactl",
    "quotactl_fd",
    "swapon",
    "swapoff",
    "reboot",
    "sethostname",
    "setdomainname",
    "init_module",
    "finit_module",
    "delete_module",
    "kexec_load",
    "kexec_file_load",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "add_key",
    "request_key",
    "keyctl",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "kcmp",
    "pidfd_getfd",
    "open_by_handle_at",
    "name_to_handle_at",
    "acct",
    "settimeofday",
    "clock_settime",
    "clock_adjtime",
    "adjtimex",
    "iopl",
    "ioperm",
    "syslog",
    "vhangup",
    "nfsservctl",
    "lookup_dcookie",
    "mbind",
    "migrate_pages",
    "move_pages",
    "set_mempolicy",
    "fanotify_init",
    "vmsplice",
    "modify_ldt",
    "process_madvise",
    "mq_open",
};
static const char *const unknown[] = {
    "clone3",  "io_uring_setup", "io_uring_enter", "io_uring_register", "memfd_secret", "uselib",
    "_sysctl", "sysfs",          "ustat",          "remap_file_pages",
};

static int add_rules(scmp_filter_ctx ctx)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(denied); i++) {
        int nr = seccomp_syscall_resolve_name(denied[i]);
        if (nr != __NR_SCMP_ERROR)
            r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), nr, 0);
    }
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(unknown); i++) {
        int nr = seccomp_syscall_resolve_name(unknown[i]);
        if (nr != __NR_SCMP_ERROR)
            r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), nr, 0);
    }
    static const uint64_t flags[] = {CLONE_NEWNS,   CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC,
                                     CLONE_NEWUSER, CLONE_NEWPID,    CLONE_NEWNET};
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(flags); i++)
        r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                             SCMP_A0(SCMP_CMP_MASKED_EQ, flags[i], flags[i]));
    /* Terminal input injection: TIOCSTI and TIOCLINUX. The kernel compares 32 bits: mask them. */
    static const uint64_t requests[] = {TIOCSTI, 0x541C};
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(requests); i++)
        r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
                             SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffu, requests[i]));
    return r;
}

static int export_filter(scmp_filter_ctx ctx, struct policy_plan *plan, struct err *err)
{
    auto_close int fd = memfd_create("seccomp", MFD_CLOEXEC);
    struct stat st;
    if (fd < 0)
        return err_sys(err, "memfd for the seccomp filter");
    int r = seccomp_export_bpf(ctx, fd);
    if (r < 0) {
        errno = -r;
        return err_sys(err, "export the seccomp filter");
    }
    if (fstat(fd, &st) < 0 || st.st_size % 8 != 0 || st.st_size > (off_t)sizeof plan->bpf)
        return err_set(err, "seccomp filter of %lld bytes", (long long)st.st_size);
    if (pread(fd, plan->bpf, (size_t)st.st_size, 0) != st.st_size)
        return err_sys(err, "read the seccomp filter");
    plan->bpf_len = (uint32_t)(st.st_size / 8);
    return 0;
}

static int compile_seccomp(struct policy_plan *plan, struct err *err)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
    if (!ctx)
        return err_set(err, "seccomp_init failed");
    int r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));
    if (r == 0)
        r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a binary tree */
    if (r == 0)
        r = add_rules(ctx);
    if (r < 0) {
        errno = -r;
        r = err_sys(err, "compile the seccomp filter");
    } else {
        r = export_filter(ctx, plan, err);
    }
    seccomp_release(ctx);
    return r;
}

static const struct {
    const char *name;
    enum policy_layer bit;
} layer_names[] = {
    {"landlock", POLICY_LANDLOCK},           {"seccomp", POLICY_SECCOMP},
    {"cgroup-memory", POLICY_CGROUP_MEMORY}, {"cgroup-pids", POLICY_CGROUP_PIDS},
    {"cgroup-cpu", POLICY_CGROUP_CPU},
};

int policy_parse_layers(const char *text, uint32_t *ret, struct err *err)
{
    *ret = 0;
    while (*text) {
        size_t len = strcspn(text, ","), i;
        for (i = 0; i < ARRAY_LEN(layer_names); i++)
            if (strlen(layer_names[i].name) == len && memcmp(layer_names[i].name, text, len) == 0)
                break;
        if (i == ARRAY_LEN(layer_names))
            return err_set(err,
                           "\"%.*s\": expected landlock, seccomp, cgroup-memory, "
                           "cgroup-pids or cgroup-cpu",
                           (int)len, text);
        *ret |= (uint32_t)layer_names[i].bit;
        text += len + (text[len] == ',');
    }
    return 0;
}

int policy_complete(struct policy_plan *plan, uint32_t optional, struct err *err)
{
    plan->magic = POLICY_MAGIC;
    plan->landlock_abi = (uint32_t)policy_landlock_abi();
    if (plan->landlock_abi > 0)
        plan->layers |= POLICY_LANDLOCK;
    else if (!(optional & POLICY_LANDLOCK))
        return err_set(err,
                       "landlock is missing: needs CONFIG_SECURITY_LANDLOCK and \"landlock\" in "
                       "the lsm= boot parameter (or optional_layers: landlock)");
    if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0)
        plan->layers |= POLICY_SECCOMP;
    else if (!(optional & POLICY_SECCOMP))
        return err_set(err, "seccomp is missing: needs CONFIG_SECCOMP_FILTER (or optional_layers: "
                            "seccomp)");
    return plan->layers & POLICY_SECCOMP ? compile_seccomp(plan, err) : 0;
}

int policy_compile(const struct policy_limits *limits, uint32_t optional, struct policy_plan *ret,
                   struct err *err)
{
    *ret = (struct policy_plan){.limits = *limits, .rights = POLICY_RIGHTS_DEFAULT};
    return policy_complete(ret, optional, err);
}
