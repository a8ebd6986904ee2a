/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/priv_confine - what priv and its children give up, and the proof that it is gone.
 *
 * priv stays root, but with the capabilities below and no way to others: the bounding set ends
 * where the permitted set does, no exec adds any (no_new_privs; securebits: being root gives
 * nothing), and the securebits are locked. t/840-confined.t looks at it from outside. Each
 * capability was taken away once to see what fails; the table says what did.
 */
#include "lib/err.h"
#include "policy/policy.h"
#include "supervisor/priv_impl.h"
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define CAP(c) (1ull << CAP_##c)

static const struct {
    uint64_t cap;
    bool primordial; /* it has it, too */
    bool network;    /* only where a policy has one */
    const char *why;
} kept[] = {
    {CAP(SYS_ADMIN), true, false, "mounts, kernel namespaces, id-mapped volumes"},
    {CAP(SETUID), true, false, "become frontend, sweeper, the owner of a userns; write uid_map"},
    {CAP(SETGID), true, false, "the same for groups"},
    {CAP(SYS_PTRACE), true, false, "open ns/user of a zygote, which is not dumpable"},
    {CAP(KILL), false, false, "end engine, frontend and zygotes, which are other users"},
    {CAP(CHOWN), false, false, "give a new volume to its user"},
    {CAP(MKNOD), false, false, "/dev of the image of a primordial that is started later"},
    {CAP(SETPCAP), false, false, "give the children fewer"},
    {CAP(DAC_OVERRIDE), false, false,
     "remove our cgroup from v1's root, which is 0555; open the tree to be swept"},
    {.cap = CAP(NET_ADMIN), .network = true, .why = "hand it to netd"},
};
static bool has_network;

static uint64_t kept_caps(bool by_primordial)
{
    uint64_t all = 0;
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        if ((kept[i].primordial || !by_primordial) && (has_network || !kept[i].network))
            all |= kept[i].cap;
    return all;
}

int priv_find_ids(const char *user, uint32_t fallback, struct priv_ids *ret, struct err *err)
{
    struct passwd *pw;
    if (!*user) {
        *ret = (struct priv_ids){.uid = fallback, .gid = fallback};
        return 0;
    }
    errno = 0;
    if (!(pw = getpwnam(user)))
        return errno ? err_sys(err, "look up user %s", user)
                     : err_set(err, "user %s does not exist", user);
    if (pw->pw_uid == 0)
        return err_set(err, "user %s is root: expected an unprivileged user", user);
    *ret = (struct priv_ids){.uid = pw->pw_uid, .gid = pw->pw_gid};
    return 0;
}

int priv_become(const struct priv_ids *ids, struct err *err)
{
    if ((prctl(PR_GET_KEEPCAPS, 0, 0, 0, 0) != 0 && prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0) ||
        setgroups(0, NULL) < 0 || setresgid(ids->gid, ids->gid, ids->gid) < 0)
        return err_sys(err, "become gid %u", (unsigned)ids->gid);
    if (policy_empty_bounding_set() < 0)
        return err_sys(err, "empty the bounding set");
    if (setresuid(ids->uid, ids->uid, ids->uid) < 0)
        return err_sys(err, "become uid %u", (unsigned)ids->uid);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return err_sys(err, "renounce privileges");
    if (setresuid((uid_t)-1, 0, (uid_t)-1) == 0)
        return err_set(err, "root could be regained");
    return 0;
}

static int bound_caps(uint64_t keep)
{
    for (unsigned long cap = 0; cap < 64; cap++)
        if (!(keep & (1ull << cap)) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
            if (errno == EINVAL)
                break; /* past the kernel's last capability */
            return -errno;
        }
    return 0;
}

static int set_caps(uint64_t keep)
{
    int r = bound_caps(keep);
    return r < 0 ? r : policy_keep_caps(keep);
}

/* Being root gives an exec'ed program nothing (see priv_confine), so what it keeps is inheritable
 * and ambient. capabilities(7), "Transformation of capabilities during execve()". */
int priv_become_primordial(struct err *err)
{
    const uint64_t keep = kept_caps(true);
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{(uint32_t)keep, (uint32_t)keep, (uint32_t)keep},
                                             {0, 0, 0}};
    int r = set_caps(keep);
    errno = -r;
    if (r < 0 || syscall(SYS_capset, &head, data) < 0)
        return err_sys(err, "reduce capabilities");
    for (unsigned long cap = 0; cap < 32; cap++)
        if ((keep & (1ull << cap)) && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
            return err_sys(err, "keep capability %lu", cap);
    return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 ? err_sys(err, "death signal") : 0;
}

/* Another user's: what stays permitted over the change of the uid is made ambient. */
int priv_become_netd(const struct priv_ids *ids, struct err *err)
{
    const uint32_t keep = (uint32_t)CAP(NET_ADMIN);
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{keep, keep, keep}, {0, 0, 0}};
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || setgroups(0, NULL) < 0 ||
        setresgid(ids->gid, ids->gid, ids->gid) < 0)
        return err_sys(err, "become gid %u", (unsigned)ids->gid);
    int r = bound_caps(keep);
    errno = -r;
    if (r < 0 || setresuid(ids->uid, ids->uid, ids->uid) < 0)
        return err_sys(err, "become uid %u", (unsigned)ids->uid);
    if (syscall(SYS_capset, &head, data) < 0 ||
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_ADMIN, 0, 0) < 0)
        return err_sys(err, "keep CAP_NET_ADMIN");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_sys(err, "renounce privileges");
    return setresuid((uid_t)-1, 0, (uid_t)-1) == 0 ? err_set(err, "root could be regained") : 0;
}

/* ---- priv itself ------------------------------------------------------------------------------
 */

static bool can_take_capabilities_back(void)
{
    const uint64_t all = ~0ull;
    return policy_keep_caps(all & ((1ull << (CAP_LAST_CAP + 1)) - 1)) == 0;
}

static bool can_get_them_by_exec(void)
{
    for (unsigned long cap = 0; cap < 64; cap++)
        if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1 && !(kept_caps(false) & (1ull << cap)))
            return true;
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1;
}

static bool can_unlock_securebits(void)
{
    return prctl(PR_SET_SECUREBITS, 0, 0, 0, 0) == 0;
}

static bool can_load_a_module(void)
{
    return syscall(SYS_init_module, NULL, 0, "") == 0 || (errno != EPERM && errno != ENOSYS);
}

static bool can_change_its_root(void)
{
    return chroot("/") == 0;
}

static bool can_listen_to_the_network(void)
{
    auto_close int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    return fd >= 0;
}

static bool can_dump_core(void)
{
    struct rlimit lim = {.rlim_cur = 1, .rlim_max = 1};
    return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1 || setrlimit(RLIMIT_CORE, &lim) == 0;
}

static const struct {
    const char *what;
    bool (*can)(void);
} questions[] = {
    {"take capabilities back", can_take_capabilities_back},
    {"get them by an exec", can_get_them_by_exec},
    {"unlock its securebits", can_unlock_securebits},
    {"load a kernel module", can_load_a_module},
    {"change its root", can_change_its_root},
    {"listen to the network", can_listen_to_the_network},
    {"dump core", can_dump_core},
};

int priv_confine(const struct priv *p, struct err *err)
{
    has_network = p->net != NULL;
    /* A netd that is started later keeps its capability over the change of its uid. */
    const unsigned long bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED |
                               SECBIT_NO_SETUID_FIXUP_LOCKED |
                               (has_network ? 0 : SECBIT_KEEP_CAPS_LOCKED);
    const struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return err_sys(err, "priv: become undumpable");
    if (prctl(PR_SET_SECUREBITS, bits, 0, 0, 0) < 0)
        return err_sys(err, "priv: lock the securebits");
    int r = set_caps(kept_caps(false));
    errno = -r;
    if (r < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_sys(err, "priv: reduce capabilities");
    for (size_t i = 0; i < ARRAY_LEN(questions); i++)
        if (questions[i].can())
            return err_set(err, "priv gave that up, but it could still %s", questions[i].what);
    return 0;
}
