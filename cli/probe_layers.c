/* SPDX-License-Identifier: Apache-2.0 */
/* cli/probe_layers - doctor's probes of what a run is locked in with, and of the bash it runs in:
 * landlock, seccomp, id-mapped mounts, the loadable builtin.
 *
 * landlock(7), seccomp(2), mount_setattr(2), open_tree(2). The filter that is compiled is the
 * service's own; the id-mapped mount is a detached one that vanishes with its descriptor.
 */
#include "cli/cli.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "policy/policy.h"
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/mount.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define LANDLOCK_ABI_SCOPES 6 /* signals and abstract sockets: Linux 6.12 */
#define LOAD_REFUSED 99
#define BASH_WRITTEN_FOR "5.2."

static void probe_landlock(void)
{
    static const struct {
        int abi;
        const char *what;
    } features[] = {{1, "files"},      {2, ", refer"},
                    {3, ", truncate"}, {4, ", TCP"},
                    {5, ", ioctl"},    {LANDLOCK_ABI_SCOPES, ", signal and socket scopes"}};
    char text[128] = "";
    int abi = policy_landlock_abi();
    for (size_t i = 0; i < ARRAY_LEN(features); i++)
        if (abi >= features[i].abi)
            (void)snprintf(text + strlen(text), sizeof text - strlen(text), "%s", features[i].what);
    if (abi < 1)
        cli_say(
            CLI_MISSING, "landlock",
            "CONFIG_SECURITY_LANDLOCK and \"landlock\" in the lsm= boot parameter, or name it in "
            "optional_layers",
            "not there");
    else
        cli_say(abi < LANDLOCK_ABI_SCOPES ? CLI_WARN : CLI_FINE, "landlock",
                "Linux 6.12 also confines signals and abstract sockets", "ABI %d: %s", abi, text);
}

static void probe_seccomp(void)
{
    const struct policy_limits limits = {.nofile = 1024, .nproc = 256};
    static const char remedy[] = "CONFIG_SECCOMP_FILTER, or name it in optional_layers";
    static struct policy_plan plan;
    const uint32_t action = SECCOMP_RET_ERRNO;
    struct err err;
    if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) < 0)
        cli_say(CLI_MISSING, "seccomp", remedy, "no filters: %s", strerror(errno));
    else if (policy_compile(&limits, POLICY_LANDLOCK, &plan, &err) < 0)
        cli_say(CLI_MISSING, "seccomp", remedy, "%s", err.text);
    else
        cli_say(CLI_FINE, "seccomp", NULL, "the filter compiles to %u instructions", plan.bpf_len);
}

void cli_probe_policy(void)
{
    probe_landlock();
    probe_seccomp();
}

/* ---- id-mapped mounts
 * ------------------------------------------------------------------------------ */

static int write_proc(pid_t pid, const char *name, const char *text)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    auto_close int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd < 0 || write(fd, text, strlen(text)) < 0 ? -1 : 0;
}

/* Holds a userns open until the probe ends it. */
_Noreturn static void keep_userns(int ready_fd)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    char failed = unshare(CLONE_NEWUSER) < 0;
    if (write(ready_fd, &failed, 1) != 1)
        _exit(1);
    for (;;)
        (void)pause();
}

/* 0 or an errno. A detached copy of path, mapped into the userns of pid. */
static int mount_mapped(pid_t pid, int ready_fd, const char *path)
{
    char failed, ns[64];
    if (read(ready_fd, &failed, 1) != 1 || failed)
        return EUSERS;
    if (write_proc(pid, "uid_map", "0 65536 65536") < 0 ||
        write_proc(pid, "gid_map", "0 65536 65536") < 0)
        return EPERM;
    (void)snprintf(ns, sizeof ns, "/proc/%d/ns/user", (int)pid);
    auto_close int userns = open(ns, O_RDONLY | O_CLOEXEC);
    auto_close int mnt =
        (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint32_t)userns};
    if (userns < 0 || mnt < 0 ||
        syscall(SYS_mount_setattr, mnt, "", AT_EMPTY_PATH, &attr, sizeof attr) < 0)
        return errno;
    return 0;
}

/* In a child of doctor. */
static int try_idmap(const void *arg)
{
    int ready[2];
    if (pipe2(ready, O_CLOEXEC) < 0)
        return errno;
    pid_t pid = fork();
    if (pid < 0)
        return errno;
    if (pid == 0)
        keep_userns(ready[1]);
    fd_close(&ready[1]);
    int error = mount_mapped(pid, ready[0], arg);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    return error;
}

void cli_probe_idmap(const char *fs_root)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s", fs_root);
    while (access(path, F_OK) < 0 &&
           errno == ENOENT) { /* made at the service's start: ask its parent */
        char copy[PATH_MAX];
        (void)snprintf(copy, sizeof copy, "%s", path);
        (void)snprintf(path, sizeof path, "%s", dirname(copy));
    }
    if (geteuid() != 0) {
        cli_say(CLI_WARN, "id-mapped mounts", "run brood doctor as root", "not tried: needs root");
        return;
    }
    int error = cli_try(try_idmap, path, NULL, 0);
    if (error == 0)
        cli_say(CLI_FINE, "id-mapped mounts", NULL, "%s can be mounted so", path);
    else
        cli_say(
            CLI_MISSING, "id-mapped mounts",
            "Linux 5.12 and a file system that can (ext4, xfs, btrfs, tmpfs from 6.3): set fs_root",
            "%s: %s", path, error > 0 ? strerror(error) : "the probe did not end");
}

/* ---- bash
 * -------------------------------------------------------------------------------------------- */

struct bash_try {
    const char *path, *script, *arg;
};

static int exec_bash(const void *arg)
{
    const struct bash_try *t = arg;
    char name[] = "bash", c[] = "-c", script[256], word[PATH_MAX];
    char *argv[] = {name, c, script, name, word, NULL}, *env[] = {NULL};
    (void)snprintf(script, sizeof script, "%s", t->script);
    (void)snprintf(word, sizeof word, "%s", t->arg);
    (void)execve(t->path, argv, env);
    return 127;
}

/* The first line only. */
static void cut(char *text)
{
    text[strcspn(text, "\n")] = 0;
}

void cli_probe_bash(const char *lib_dir, const char *image)
{
    static const char fallback[] =
        "the static fallback works instead, slower; see brood.yaml, zygote";
    char bash[PATH_MAX], so[PATH_MAX + 32], text[400];
    (void)snprintf(bash, sizeof bash, "%s/bin/bash", strcmp(image, "/") ? image : "");
    (void)snprintf(so, sizeof so, "%s/brood-zygote.so", lib_dir);
    struct bash_try version = {bash, "echo \"$BASH_VERSION\"", ""};
    /* Loaded, it takes the shell over and ends it for want of a supervisor; so 99 means: not
     * loaded. */
    struct bash_try load = {bash, "enable -f \"$1\" brood; exit 99", so};
    int status = cli_try(exec_bash, &version, text, sizeof text);
    cut(text);
    if (status != 0) {
        cli_say(CLI_WARN, "bash", fallback, "%s does not run%s%s", bash, *text ? ": " : "", text);
        return;
    }
    bool fits = strncmp(text, BASH_WRITTEN_FOR, strlen(BASH_WRITTEN_FOR)) == 0;
    cli_say(fits ? CLI_FINE : CLI_WARN, "bash", fallback, "%s is %s, the builtin is for %sx", bash,
            text, BASH_WRITTEN_FOR);
    if (access(so, R_OK) < 0) {
        cli_say(CLI_WARN, "bash builtin", "name its directory with --lib-dir", "%s: %s", so,
                strerror(errno));
        return;
    }
    status = cli_try(exec_bash, &load, text, sizeof text);
    cut(text);
    if (status == LOAD_REFUSED || status == 127)
        cli_say(CLI_WARN, "bash builtin", fallback, "%s does not load: %s", so, text);
    else if (status < 0)
        cli_say(CLI_WARN, "bash builtin", fallback, "%s: loading it does not end well", so);
    else
        cli_say(CLI_FINE, "bash builtin", NULL, "%s loads", so);
}
