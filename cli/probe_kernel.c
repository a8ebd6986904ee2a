/* SPDX-License-Identifier: Apache-2.0 */
/* cli/probe_kernel - doctor's probes of the kernel: version, kernel namespaces, cgroups, limits.
 *
 * namespaces(7), cgroups(7). A namespace is tried with unshare(2) in a forked child; who is not
 * root tries inside a userns of its own, which is not quite what the service does: it runs as root.
 */
#include "cli/cli.h"
#include "lib/num.h"
#include "lib/word.h"
#include <fcntl.h>
#include <mntent.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#define NOFILE_WANTED 16384u
#define PIDS_WANTED 32768u
#define USERNS_WANTED 2048u

struct ns_kind {
    const char *name, *remedy;
    int flag;
};

static int try_unshare(const void *arg)
{
    const struct ns_kind *kind = arg;
    int flags = kind->flag | (geteuid() == 0 ? 0 : CLONE_NEWUSER);
    return unshare(flags) == 0 ? 0 : errno;
}

static void probe_namespaces(void)
{
    static const struct ns_kind kinds[] = {
        {"userns", "CONFIG_USER_NS, sysctl user.max_user_namespaces", CLONE_NEWUSER},
        {"mntns", "run as root, or allow userns", CLONE_NEWNS},
        {"pidns", "CONFIG_PID_NS, sysctl user.max_pid_namespaces", CLONE_NEWPID},
        {"netns", "CONFIG_NET_NS, sysctl user.max_net_namespaces", CLONE_NEWNET},
        {"ipcns", "CONFIG_IPC_NS, sysctl user.max_ipc_namespaces", CLONE_NEWIPC},
        {"utsns", "CONFIG_UTS_NS, sysctl user.max_uts_namespaces", CLONE_NEWUTS},
        {"cgroupns", "CONFIG_CGROUPS, sysctl user.max_cgroup_namespaces", CLONE_NEWCGROUP},
    };
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        int error = cli_try(try_unshare, &kinds[i], NULL, 0);
        if (error == 0)
            cli_say(CLI_FINE, kinds[i].name, NULL, "can be made%s",
                    geteuid() == 0 ? "" : " (inside a userns: not root)");
        else if (error > 0)
            cli_say(CLI_MISSING, kinds[i].name, kinds[i].remedy, "%s", strerror(error));
        else
            cli_say(CLI_MISSING, kinds[i].name, kinds[i].remedy, "the probe did not end");
    }
}

/* A number out of a file; false when there is none ("max" in it counts as a very large one). */
static bool read_number(const char *path, uint64_t *ret)
{
    char text[64];
    auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (n <= 0)
        return false;
    text[n] = 0;
    text[strcspn(text, "\n")] = 0;
    if (strcmp(text, "max") == 0) {
        *ret = UINT64_MAX;
        return true;
    }
    return num_parse_u64(text, 0, UINT64_MAX, ret) == 0;
}

static void probe_userns_limits(void)
{
    static const char *const names[] = {"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char path[64], what[32];
        uint64_t max;
        (void)snprintf(path, sizeof path, "/proc/sys/user/max_%s_namespaces", names[i]);
        (void)snprintf(what, sizeof what, "max_%s_namespaces", names[i]);
        if (!read_number(path, &max))
            cli_say(CLI_WARN, what, "mount /proc", "cannot be read");
        else if (max < USERNS_WANTED)
            cli_say(max ? CLI_WARN : CLI_MISSING, what, "raise it with sysctl user.*",
                    "%llu: bounds the active namespaces", (unsigned long long)max);
        else if (i == 0)
            cli_say(CLI_FINE, what, NULL, "%llu", (unsigned long long)max);
    }
}

void cli_probe_kernel(void)
{
    struct utsname uts = {0};
    unsigned major = 0, minor = 0;
    (void)uname(&uts);
    int n = sscanf(uts.release, "%u.%u", &major, &minor);
    bool old = n != 2 || major < 5 || (major == 5 && minor < 13);
    cli_say(old ? CLI_MISSING : CLI_FINE, "kernel",
            "Linux 5.13 or later: landlock, id-mapped mounts, openat2", "%s %s", uts.sysname,
            uts.release);
    probe_namespaces();
    probe_userns_limits();
}

/* ---- cgroups
 * ------------------------------------------------------------------------------------- */

/* Is the controller in this mount of cgroup2? */
static bool is_in_v2(const char *dir, const char *controller)
{
    char path[512], text[512];
    (void)snprintf(path, sizeof path, "%s/cgroup.controllers", dir);
    auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (n <= 0)
        return false;
    text[n] = 0;
    return word_in(text, controller);
}

/* 1 or 2: where the controller is mounted; 0: nowhere. */
static int find_controller(const char *controller, char *ret_dir, size_t room)
{
    FILE *f = setmntent("/proc/self/mounts", "re");
    int version = 0;
    for (struct mntent *m; f && !version && (m = getmntent(f));) {
        if (strcmp(m->mnt_type, "cgroup") == 0 && word_in(m->mnt_opts, controller))
            version = 1;
        else if (strcmp(m->mnt_type, "cgroup2") == 0 && is_in_v2(m->mnt_dir, controller))
            version = 2;
        if (version)
            (void)snprintf(ret_dir, room, "%s", m->mnt_dir);
    }
    if (f)
        (void)endmntent(f);
    return version;
}

void cli_probe_cgroups(void)
{
    static const char *const controllers[] = {"memory", "pids", "cpu"};
    int versions[ARRAY_LEN(controllers)];
    for (size_t i = 0; i < ARRAY_LEN(controllers); i++) {
        char what[32], dir[400] = "";
        (void)snprintf(what, sizeof what, "cgroup %s", controllers[i]);
        versions[i] = find_controller(controllers[i], dir, sizeof dir);
        if (!versions[i])
            cli_say(CLI_MISSING, what,
                    "mount it (cgroup2, or cgroup -o NAME), or name it in optional_layers",
                    "not mounted");
        else if (geteuid() == 0 && access(dir, W_OK) < 0)
            cli_say(CLI_MISSING, what, "remount it read-write", "v%d at %s: %s", versions[i], dir,
                    strerror(errno));
        else
            cli_say(CLI_FINE, what, NULL, "v%d at %s", versions[i], dir);
    }
    if (versions[0] && versions[1] && versions[2] &&
        (versions[0] != versions[1] || versions[1] != versions[2]))
        cli_say(CLI_MISSING, "cgroup version", "bring memory, pids and cpu under one",
                "the controllers are split between v1 and v2");
}

/* ---- limits
 * -------------------------------------------------------------------------------------- */

void cli_probe_limits(void)
{
    struct rlimit lim = {0};
    uint64_t pid_max = 0;
    (void)getrlimit(RLIMIT_NOFILE, &lim);
    cli_say(lim.rlim_max < NOFILE_WANTED ? CLI_WARN : CLI_FINE, "nofile",
            "raise the hard limit (LimitNOFILE=, ulimit -Hn): it bounds the active namespaces",
            "hard limit %llu", (unsigned long long)lim.rlim_max);
    if (read_number("/proc/sys/kernel/pid_max", &pid_max))
        cli_say(pid_max < PIDS_WANTED ? CLI_WARN : CLI_FINE, "pid_max",
                "raise it (sysctl kernel.pid_max): it bounds the processes of all namespaces",
                "%llu", (unsigned long long)pid_max);
    else
        cli_say(CLI_WARN, "pid_max", "mount /proc", "cannot be read");
}
