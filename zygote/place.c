/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/place - what is done to /work before a run begins: directories made anew, files put there.
 *
 * In the run's child: as its user, in its cgroups, on its clock, behind landlock and seccomp. The
 * files come as descriptors beside the run, so no name of the host is involved; a path leads
 * nowhere but below /work (tree.h). The bytes pass through memory that a mould may hand on, which
 * puts it back as after any run: only our own code has touched it.
 */
#include "lib/fd.h"
#include "zygote/tree.h"
#include "zygote/zyg.h"
#include <fcntl.h>
#include <sys/stat.h>

#define KEPT_BYTES_MAX 4096 /* some filesystems never make a directory smaller */

/* A file that nobody can change while it is copied, or at least not by this descriptor; never one
 * that could block. */
static bool is_placeable(int fd)
{
    struct stat st;
    if (SYS(fstat(fd, &st)) < 0 || !S_ISREG(st.st_mode))
        return false;
    int flags = SYS(fcntl(fd, F_GETFL)), seals = SYS(fcntl(fd, F_GET_SEALS));
    return flags >= 0 && ((flags & (O_ACCMODE | O_PATH)) == O_RDONLY ||
                          (seals >= 0 && seals & F_SEAL_WRITE && seals & F_SEAL_SHRINK));
}

static int place(int root, const char *path, int from)
{
    const char *name;
    if (!tree_path_is_sound(path) || !is_placeable(from))
        return -EINVAL;
    auto_close int dir = tree_open_parent(root, path, true, &name);
    if (dir < 0)
        return fd_take(&dir);
    if (SYS(unlinkat(dir, name, 0)) < 0 && errno != ENOENT)
        return -errno;
    auto_close int to =
        SYS(openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
    int64_t copied = to < 0 ? -errno : tree_copy(to, from, UINT64_MAX);
    return copied < 0 ? (int)copied : 0;
}

/* One that is as it would be made stays: to remove and make a directory costs a journal's
 * transaction or two, or waits for the disk to forget its block (ext4 with "discard"): 208 us with
 * a file in it, 45 when only that goes. */
static int empty_in_place(int dir, const char *name)
{
    struct stat st;
    auto_close int fd =
        SYS(fd_open_beneath(dir, name, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC, 0));
    if (fd < 0 || SYS(fstat(fd, &st)) < 0)
        return -errno;
    return (st.st_mode & 07777) == 0755 && st.st_size <= KEPT_BYTES_MAX ? tree_empty(fd) : -ENOTDIR;
}

static int make_empty(int root, const char *path)
{
    const char *name;
    auto_close int dir = tree_open_parent(root, path, true, &name);
    if (dir < 0)
        return fd_take(&dir);
    if (empty_in_place(dir, name) == 0)
        return 0;
    int r = tree_remove(dir, name);
    if (r < 0 && r != -ENOENT)
        return r;
    return SYS(mkdirat(dir, name, 0755)) < 0 ? -errno : 0;
}

/* That of the first place; the home itself is never emptied. */
static int empty_source(int root, const struct child_job *job)
{
    char path[TREE_PATH_MAX + 1] = "";
    const char *slash = job->place_count ? strrchr(job->places[0], '/') : NULL;
    if (!slash || !tree_path_is_sound(job->places[0]))
        return -EINVAL;
    memcpy(path, job->places[0], (size_t)(slash - job->places[0]));
    return make_empty(root, path);
}

int place_files(int root, const struct child_job *job, uint32_t flags, const int *fds)
{
    int r = 0;
    if (flags & ZYG_EMPTY_OUTPUTS)
        r = make_empty(root, ZYG_OUTPUTS);
    if (r == 0 && flags & ZYG_EMPTY_SOURCE)
        r = empty_source(root, job);
    for (size_t i = 0; r == 0 && i < job->place_count; i++)
        r = place(root, job->places[i], fds[i]);
    return r;
}

void child_place(const struct child_job *job, uint32_t flags, const int *fds)
{
    /* A file that is too large for the run's limits is our error to report, not its signal. */
    const struct sigaction ignore = {.sa_handler = SIG_IGN}, original = {.sa_handler = SIG_DFL};
    auto_close int root = SYS(open(ZYG_HOME, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    (void)sigaction(SIGXFSZ, &ignore, NULL);
    int r = root < 0 ? -errno : place_files(root, job, flags, fds);
    (void)sigaction(SIGXFSZ, &original, NULL);
    if (r < 0)
        child_fail(CHILD_STEP_PLACE, -r);
}
