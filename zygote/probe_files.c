/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/probe_files - what a run sees and can write: /proc, the image, /tmp, devices, its volume,
 * descriptors.
 *
 * In the child of a probe (probe.c). A mount is judged by the flags that the kernel says it has; a
 * file is made only below /usr, where it must not be possible, and in the throw-away volume.
 */
#include "lib/fd.h"
#include "zygote/probe.h"
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

/* All of these mounts (as far as they are there) have these flags? */
static struct probe_finding have_flags(const char *const *paths, size_t count, long flags)
{
    struct statfs fs;
    if (probe_ask.refused & ZYG_CALL_STATFS)
        return probe_say(ZYG_ABSENT, "its profile refuses statfs");
    for (size_t i = 0; i < count; i++)
        if (statfs(paths[i], &fs) == 0 && ((long)fs.f_flags & flags) != flags)
            return probe_say(ZYG_BROKEN, "%s", paths[i]);
    return probe_say(ZYG_HELD, "%s", flags & MS_RDONLY ? "read-only" : "refused by the mounts");
}

static struct probe_finding read_masked(void)
{
    static const char *const masked[] = {"/proc/kcore", "/proc/keys", "/proc/kallsyms",
                                         "/proc/timer_list"};
    struct stat st;
    for (size_t i = 0; i < ARRAY_LEN(masked); i++)
        if (stat(masked[i], &st) == 0 && (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3)))
            return probe_say(ZYG_BROKEN, "%s", masked[i]);
    return probe_say(ZYG_HELD, "masked");
}

static struct probe_finding write_proc(void)
{
    static const char *const paths[] = {"/proc/sys", "/proc/sysrq-trigger", "/proc/irq",
                                        "/proc/bus", "/proc/fs"};
    return have_flags(paths, ARRAY_LEN(paths), MS_RDONLY);
}

static struct probe_finding write_image_mounts(void)
{
    static const char *const paths[] = {"/", "/usr", "/etc", "/dev"};
    return have_flags(paths, ARRAY_LEN(paths), MS_RDONLY);
}

static struct probe_finding write_bind(void)
{
    const char *at = probe_ask.binds;
    struct probe_finding f = probe_say(ZYG_ABSENT, "the policy has none");
    for (uint32_t i = 0; i < probe_ask.bind_count; i++, at += strlen(at) + 1) {
        f = have_flags(&at, 1, MS_RDONLY | MS_NOSUID | MS_NODEV);
        if (f.state != ZYG_HELD)
            return f;
    }
    return f;
}

static struct probe_finding write_below_usr(void)
{
    struct probe_finding f = probe_must_not_open("/usr/.brood-probe", O_WRONLY | O_CREAT | O_EXCL);
    if (f.state == ZYG_BROKEN)
        (void)unlink("/usr/.brood-probe");
    return f;
}

static struct probe_finding run_set_uid(void)
{
    static const char *const paths[] = {"/", "/usr", "/dev", "/tmp", "/dev/shm", ZYG_HOME};
    return have_flags(paths, ARRAY_LEN(paths), MS_NOSUID);
}

static bool is_not_ours(const char *name, int dir_fd)
{
    struct stat st;
    return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_uid != ZYG_CHILD_UID;
}

static struct probe_finding find_in_tmp(void)
{
    char name[40];
    return probe_find_entry("/tmp", is_not_ours, name, sizeof name)
               ? probe_say(ZYG_BROKEN, "%s", name)
               : probe_say(ZYG_HELD, "nothing");
}

static struct probe_finding fill_tmp(void)
{
    static const char *const paths[] = {"/tmp", "/dev/shm"};
    struct statfs fs;
    if (probe_ask.refused & ZYG_CALL_STATFS)
        return probe_say(ZYG_ABSENT, "its profile refuses statfs");
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        if (statfs(paths[i], &fs) < 0 || fs.f_type != TMPFS_MAGIC || fs.f_blocks == 0 ||
            (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize > probe_ask.tmp_bytes)
            return probe_say(ZYG_BROKEN, "%s is not bounded", paths[i]);
    return probe_say(ZYG_HELD, "bounded");
}

static bool is_foreign_device(const char *name, int dir_fd)
{
    static const char *const known[] = {"null", "zero", "full", "random", "urandom", "tty"};
    struct stat st;
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (strcmp(name, known[i]) == 0)
            return false;
    return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode));
}

static struct probe_finding see_a_device(void)
{
    char name[40];
    return probe_find_entry("/dev", is_foreign_device, name, sizeof name)
               ? probe_say(ZYG_BROKEN, "%s", name)
               : probe_say(ZYG_HELD, "six harmless");
}

static struct probe_finding open_own_device(void)
{
    static const char *const paths[] = {"/tmp", "/dev/shm", ZYG_HOME};
    return have_flags(paths, ARRAY_LEN(paths), MS_NODEV);
}

static struct probe_finding open_terminal(void)
{
    return probe_must_not_open("/dev/tty", O_RDWR);
}

/* Without the id-map a file could not be made, or would belong to somebody else. */
static struct probe_finding own_files(void)
{
    static const char path[] = ZYG_HOME "/.probe";
    struct stat st;
    auto_close int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return probe_say(ZYG_BROKEN, "home cannot be written: %s", strerrorname_np(errno));
    int r = fstat(fd, &st);
    (void)unlink(path);
    if (r < 0 || st.st_uid != ZYG_CHILD_UID || st.st_gid != ZYG_CHILD_UID)
        return probe_say(ZYG_BROKEN, "a file of mine is uid %u's", (unsigned)st.st_uid);
    return probe_say(ZYG_HELD, "its own");
}

static struct probe_finding give_away(void)
{
    return probe_must_fail(chown(ZYG_HOME, 0, 0));
}

static bool is_foreign_fd(const char *name, int dir_fd)
{
    int fd = (int)strtol(name, NULL, 10);
    int flags = fcntl(fd, F_GETFD);
    return fd > 2 && fd != dir_fd && !(probe_exec_follows && flags >= 0 && flags & FD_CLOEXEC);
}

static struct probe_finding see_a_descriptor(void)
{
    char name[16];
    return probe_find_entry("/proc/self/fd", is_foreign_fd, name, sizeof name)
               ? probe_say(ZYG_BROKEN, "%s is open", name)
               : probe_say(ZYG_HELD, "three");
}

static const struct probe_question questions[] = {
    {POLICY_PROC, "can I read kcore, keys or kallsyms?", read_masked},
    {POLICY_PROC, "can I write below /proc/sys?", write_proc},
    {POLICY_IMAGE, "is a mount of the image writable?", write_image_mounts},
    {POLICY_IMAGE, "can I write below /usr?", write_below_usr},
    {POLICY_IMAGE, "can I write to a bind?", write_bind},
    {POLICY_IMAGE, "can I run a set-uid program?", run_set_uid},
    {POLICY_TMP, "is there something of others in /tmp?", find_in_tmp},
    {POLICY_TMP, "can I fill more than /tmp?", fill_tmp},
    {POLICY_DEVICES, "can I see a foreign device?", see_a_device},
    {POLICY_DEVICES, "can I open a device of my own?", open_own_device},
    {POLICY_DEVICES, "can I talk to a terminal?", open_terminal},
    {POLICY_VOLUME, "are my files another's?", own_files},
    {POLICY_VOLUME, "can I give my home away?", give_away},
    {POLICY_DESCRIPTORS, "is a fourth descriptor open?", see_a_descriptor},
};
const struct probe_part probe_files = {questions, ARRAY_LEN(questions)};
