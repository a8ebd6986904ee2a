/* SPDX-License-Identifier: Apache-2.0 */
/* policy/compile - builds the plan at start, in the supervisor before it splits: which layers this
 * kernel has, and the seccomp filter (seccomp.c).
 */
#include "policy/compile.h"
#include "lib/err.h"
#include "policy/policy.h"
#include "policy/simulate.h"
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The text of a profile, NUL-terminated; the caller frees it. NULL: err. */
static char *read_profile(const char *path, size_t *ret_len, struct err *err)
{
    auto_close int fd = SYS(open(path, O_RDONLY | O_CLOEXEC));
    auto_free char *text = fd < 0 ? NULL : malloc(POLICY_FILE_BYTES_MAX + 1);
    size_t len = 0;
    ssize_t n = text ? 1 : -1;
    for (; n > 0 && len <= POLICY_FILE_BYTES_MAX; len += (size_t)n)
        n = SYS(pread(fd, text + len, POLICY_FILE_BYTES_MAX + 1 - len, (off_t)len));
    if (n < 0) {
        (void)err_sys(err, "seccomp profile %s", path);
        return NULL;
    }
    if (len > POLICY_FILE_BYTES_MAX) {
        (void)err_set(err, "seccomp profile %s: more than %u bytes", path, POLICY_FILE_BYTES_MAX);
        return NULL;
    }
    text[len] = 0;
    *ret_len = len;
    return ptr_take(&text);
}

/* What pid 1 and a child do themselves behind the filter (strace -f of both kinds of zygote),
 * before a byte of a command is looked at: a profile without one of these would fail each
 * activation. */
static const struct {
    int nr;
    const char *name;
} needed[] = {
#define NEEDS(call)                                                                                \
    {                                                                                              \
        SYS_##call, #call                                                                          \
    }
    NEEDS(brk),
    NEEDS(chdir),
    NEEDS(clone),
    NEEDS(close),
    NEEDS(close_range),
    NEEDS(dup2),
    NEEDS(execve),
    NEEDS(exit),
    NEEDS(exit_group),
    NEEDS(fchdir),
    NEEDS(fcntl),
    NEEDS(futex),
    NEEDS(getdents64),
    NEEDS(getpid),
    NEEDS(ioctl),
    NEEDS(kill),
    NEEDS(landlock_add_rule),
    NEEDS(landlock_create_ruleset),
    NEEDS(landlock_restrict_self),
    NEEDS(mmap),
    NEEDS(munmap),
    NEEDS(newfstatat),
    NEEDS(openat),
    NEEDS(openat2),
    NEEDS(poll),
    NEEDS(prctl),
    NEEDS(pread64),
    NEEDS(prlimit64),
    NEEDS(pwrite64),
    NEEDS(read),
    NEEDS(recvmsg),
    NEEDS(rt_sigaction),
    NEEDS(rt_sigprocmask),
    NEEDS(rt_sigreturn),
    NEEDS(sched_setaffinity),
    NEEDS(sendmsg),
    NEEDS(setgroups),
    NEEDS(setpgid),
    NEEDS(setresgid),
    NEEDS(setresuid),
    NEEDS(setsid),
    NEEDS(timerfd_settime),
    NEEDS(wait4),
    NEEDS(write),
#undef NEEDS
};

static int check_needs(const struct policy_plan *plan, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(needed); i++)
        if (policy_simulate(plan, AUDIT_ARCH_X86_64, needed[i].nr, 0) != SECCOMP_RET_ALLOW)
            return err_set(err, "%s is refused, which brood itself needs in a namespace",
                           needed[i].name);
    return 0;
}

static int compile_seccomp(struct policy_plan *plan, struct err *err)
{
    size_t bytes;
    auto_free char *text = NULL;
    const char *json = policy_seccomp_default(&bytes);
    if (*plan->profile && strcmp(plan->profile, "default") != 0)
        json = text = read_profile(plan->profile, &bytes, err);
    if (!json)
        return err->code;
    int r = policy_seccomp_compile(json, bytes, plan->bpf, &plan->bpf_len, err);
    if (r == 0)
        r = check_needs(plan, err);
    return r < 0
               ? err_wrap(err, "seccomp profile %.100s", *plan->profile ? plan->profile : "default")
               : 0;
}

int policy_complete(struct policy_plan *plan, uint32_t optional, struct err *err)
{
    plan->magic = POLICY_MAGIC;
    plan->layers |= POLICY_CGROUPNS & ~optional;
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
