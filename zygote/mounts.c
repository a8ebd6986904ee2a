/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/mounts - the mounts that are a zygote's own: /proc with its masks, one small tmpfs behind
 * /tmp and /dev/shm, and the volume. Runs as root of the zygote's userns, before landlock, after
 * which no mount can change any more. The image below (read-only) came with the clone.
 *
 * A new proc needs an existing one that nothing covers (mount_too_revealing in the kernel's
 * fs/namespace.c): the image's /proc is that one and is covered here by the new one.
 *
 * A companion begins with a copy of all mounts of its zygote. Those that came with the image are
 * locked there, too; those that the zygote made are not, because both have one userns
 * (lock_mnt_tree is for another). So the zygote's /proc, of a pidns that is not the companion's, is
 * not covered but taken away with its masks, and what was true of a new zygote is true again.
 */
#include "lib/fd.h"
#include "zygote/zyg.h"
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static const char *const masked_files[] = {
    "/proc/kcore",       "/proc/keys",        "/proc/latency_stats", "/proc/timer_list",
    "/proc/sched_debug", "/proc/timer_stats", "/proc/kallsyms",      "/proc/kpagecount",
    "/proc/kpageflags",  "/proc/vmallocinfo", "/proc/slabinfo",
};
static const char *const masked_dirs[] = {"/proc/acpi", "/proc/scsi", "/proc/asound",
                                          "/proc/driver"};
static const char *const read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                        "/proc/sysrq-trigger"};

/* Sysctls of the zygote's own namespaces; each is absent on some kernel. */
static const struct {
    const char *path, *value;
} sysctls[] = {
    {"/proc/sys/user/max_user_namespaces", "0"}, {"/proc/sys/kernel/shm_rmid_forced", "1"},
    {"/proc/sys/kernel/shmall", "4096"}, /* pages: 16 MiB of SysV shared memory */
    {"/proc/sys/kernel/msgmni", "16"},           {"/proc/sys/kernel/sem", "250 4000 32 16"},
    {"/proc/sys/fs/mqueue/queues_max", "0"},     {"/proc/sys/kernel/pid_max", "32768"},
};

/* The kernel's own no: it is absent, or not this namespace's to set; the cgroup still bounds it.
 * Anything else is a shortage of the moment, and no reason to have less isolation. */
static bool is_not_offered(int error)
{
    return error == ENOENT || error == EACCES || error == EPERM || error == EROFS ||
           error == EINVAL;
}

static int set_sysctls(void)
{
    for (size_t i = 0; i < ARRAY_LEN(sysctls); i++) {
        auto_close int fd = SYS(open(sysctls[i].path, O_WRONLY | O_CLOEXEC));
        if ((fd < 0 || SYS(write(fd, sysctls[i].value, strlen(sysctls[i].value))) < 0) &&
            !is_not_offered(errno))
            return -errno;
    }
    return 0;
}

static int mask_proc(void)
{
    for (size_t i = 0; i < ARRAY_LEN(masked_files); i++)
        if (SYS(mount("/dev/null", masked_files[i], NULL, MS_BIND, NULL)) < 0 && errno != ENOENT)
            return -errno;
    for (size_t i = 0; i < ARRAY_LEN(masked_dirs); i++)
        if (SYS(mount("/run/empty", masked_dirs[i], NULL, MS_BIND, NULL)) < 0 && errno != ENOENT)
            return -errno;
    for (size_t i = 0; i < ARRAY_LEN(read_only); i++) {
        if (SYS(mount(read_only[i], read_only[i], NULL, MS_BIND, NULL)) < 0) {
            if (errno == ENOENT)
                continue;
            return -errno;
        }
        if (SYS(mount(NULL, read_only[i], NULL,
                      MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL)) <
            0)
            return -errno;
    }
    return 0;
}

static int write_text(const char *path, const char *text)
{
    auto_close int fd = SYS(open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
    return fd < 0 || fd_write_all(fd, text, strlen(text)) < 0 ? -errno : 0;
}

/* The image knows no DNS: over its two files come ones that name the policy's resolvers. They lie
 * in the part of the tmpfs that nothing will lead to. */
static int mount_resolvers(const struct policy_net *net)
{
    static const char *const targets[] = {"/etc/nsswitch.conf", "/etc/resolv.conf"};
    static const char *const sources[] = {"/dev/shm/nsswitch.conf", "/dev/shm/resolv.conf"};
    char servers[POLICY_NET_RESOLVERS_MAX * 32] = "";
    for (uint32_t i = 0; i < net->resolver_count && i < POLICY_NET_RESOLVERS_MAX; i++) {
        uint32_t a = net->resolvers[i];
        size_t len = strlen(servers);
        (void)snprintf(servers + len, sizeof servers - len, "nameserver %u.%u.%u.%u\n", a >> 24,
                       a >> 16 & 255, a >> 8 & 255, a & 255);
    }
    int r = write_text(sources[0], "passwd: files\ngroup: files\nhosts: files dns\n"
                                   "protocols: files\nservices: files\n");
    if (r == 0)
        r = write_text(sources[1], servers);
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(targets); i++)
        if (SYS(mount(sources[i], targets[i], NULL, MS_BIND, NULL)) < 0 ||
            SYS(mount(NULL, targets[i], NULL,
                      MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL)) <
                0)
            r = -errno;
    return r;
}

static int mount_tmp(const struct policy_plan *plan)
{
    uint64_t bytes = plan->limits.tmp_bytes;
    char options[96];
    (void)snprintf(options, sizeof options, "size=%llu,nr_inodes=%llu,mode=0755",
                   (unsigned long long)bytes, (unsigned long long)(bytes / 4096 + 64));
    if (SYS(mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, options)) < 0 ||
        SYS(mkdir("/dev/shm/tmp", 0700)) < 0 || SYS(chmod("/dev/shm/tmp", 01777)) < 0 ||
        SYS(mkdir("/dev/shm/shm", 0700)) < 0 || SYS(chmod("/dev/shm/shm", 01777)) < 0)
        return -errno;
    if (plan->net.mode == POLICY_NET_EGRESS && plan->net.resolver_count > 0) {
        int r = mount_resolvers(&plan->net);
        if (r < 0)
            return r;
    }
    if (SYS(mount("/dev/shm/tmp", "/tmp", NULL, MS_BIND, NULL)) < 0 ||
        SYS(mount("/dev/shm/shm", "/dev/shm", NULL, MS_BIND, NULL)) < 0)
        return -errno;
    return 0;
}

/* The policy's extra trees to their places; then nobody's are to be seen under ZYG_BINDS. */
static int mount_binds(const struct policy_set *set, const struct policy_plan *plan)
{
    bool any = false;
    for (uint32_t i = 0; i < plan->bind_count; i++) {
        char from[64];
        (void)snprintf(from, sizeof from, ZYG_BINDS "/%u.%u", (unsigned)(plan - set->plans), i);
        if (SYS(mount(from, plan->binds[i].to, NULL, MS_BIND, NULL)) < 0)
            return -errno;
    }
    for (uint32_t i = 0; i < set->count; i++)
        any |= set->plans[i].bind_count > 0;
    return any && SYS(mount("/run/empty", ZYG_BINDS, NULL, MS_BIND, NULL)) < 0 ? -errno : 0;
}

/* Terminals of its own. All namespaces share the kernel's 4096 (kernel.pty.max), of which it keeps
 * 1024 for the host: hence a small maximum. */
static int mount_terminals(void)
{
    if (SYS(mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
                  "newinstance,mode=0600,ptmxmode=0666,max=32")) < 0)
        return -errno;
    return 0;
}

static int mount_proc(void)
{
    if (SYS(mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "hidepid=invisible")) <
        0)
        return -errno;
    int r = set_sysctls();
    return r < 0 ? r : mask_proc();
}

int zyg_mount_joined(void)
{
    if (SYS(umount2("/proc", MNT_DETACH)) < 0 || SYS(umount2("/dev/pts", MNT_DETACH)) < 0)
        return -errno;
    int r = mount_proc();
    return r < 0 ? r : mount_terminals();
}

int zyg_mount_private(const struct policy_set *set, const struct policy_plan *plan)
{
    int r = mount_proc();
    if (r == 0)
        r = mount_binds(set, plan);
    if (r == 0)
        r = mount_terminals();
    return r < 0 ? r : mount_tmp(plan);
}

/* An inode for each page, as in /tmp: what they take of the kernel's memory is bounded with them.
 */
int zyg_mount_fresh(uint64_t bytes)
{
    char options[128];
    (void)snprintf(options, sizeof options, "size=%llu,nr_inodes=%llu,mode=0755,uid=%u,gid=%u",
                   (unsigned long long)bytes, (unsigned long long)(bytes / 4096 + 64),
                   ZYG_CHILD_UID, ZYG_CHILD_UID);
    if (SYS(mount("tmpfs", ZYG_HOME, "tmpfs", MS_NOSUID | MS_NODEV, options)) < 0)
        return -errno;
    return SYS(chdir(ZYG_HOME)) < 0 ? -errno : 0;
}

int zyg_mount_volume(int mount_fd)
{
    if (SYS(syscall(SYS_move_mount, mount_fd, "", AT_FDCWD, ZYG_HOME,
                    4 /* MOVE_MOUNT_F_EMPTY_PATH */)) < 0)
        return -errno;
    return SYS(chdir(ZYG_HOME)) < 0 ? -errno : 0;
}
