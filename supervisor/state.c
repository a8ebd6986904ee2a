/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/state - makes and opens the frontend's state directory.
 *
 * In the supervisor, as root, before it splits. The directory belongs to the frontend's user, so
 * whatever lies in it is that user's word and root touches none of it: it makes the directory,
 * hands its descriptor on, and holds a lock on the directory itself for as long as the service
 * lives. What is there already must be a directory of that user (or one that a start just before
 * this one made and had no time to give away), and no link: who may write beside it can keep us
 * from starting, but cannot make us give away, or use, what is another's.
 */
#include "lib/err.h"
#include "lib/fd.h"
#include "supervisor/priv_impl.h"
#include "supervisor/settings.h"
#include "zygote/zygote.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

static bool is_empty(int fd)
{
    auto_close int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = again < 0 ? NULL : fdopendir(again);
    struct dirent *e;
    bool empty = dir != NULL;
    if (!dir)
        return false;
    (void)fd_take(&again);
    while (empty && (e = readdir(dir)))
        empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
    (void)closedir(dir);
    return empty;
}

/* The directory that it lies in. */
static int open_parent(const char *path, const char **ret_name, struct err *err)
{
    char parent[PATH_MAX];
    (void)snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    *ret_name = path + (slash - parent) + 1;
    slash[slash == parent] = 0;
    int fd = SYS(open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return fd < 0 ? err_sys(err, "state_dir %s", path) : fd;
}

static int check(int fd, const char *path, const struct priv_ids *ids, struct err *err)
{
    struct stat st;
    if (SYS(fstat(fd, &st)) < 0)
        return err_sys(err, "state_dir %s", path);
    bool ours = st.st_uid == 0 && (st.st_mode & 07777) == 0700 && is_empty(fd);
    if (st.st_uid != ids->uid && !ours)
        return err_set(
            err,
            "state_dir %s: belongs to user %u, expected the frontend's, %u: chown -R it, "
            "or name another directory",
            path, st.st_uid, ids->uid);
    if (SYS(fchown(fd, ids->uid, ids->gid)) < 0 || SYS(fchmod(fd, 0700)) < 0)
        return err_sys(err, "state_dir %s: give it to the frontend", path);
    return 0;
}

int priv_find_frontend(const struct settings *set, struct priv_ids *ret, struct err *err)
{
    return priv_find_ids(set->user_frontend, (uint32_t)(set->uid_base - ZYG_UIDS_PER_SLOT - 2), ret,
                         err);
}

int state_dir_open(const char *path, const struct priv_ids *ids, int *ret_fd, struct err *err)
{
    const char *name;
    auto_close int parent = open_parent(path, &name, err);
    if (parent < 0)
        return parent;
    if (SYS(mkdirat(parent, name, 0700)) < 0 && errno != EEXIST)
        return err_sys(err, "state_dir %s", path);
    auto_close int fd = SYS(fd_open_beneath(parent, name, O_RDONLY | O_DIRECTORY, 0));
    if (fd < 0 && (errno == ELOOP || errno == ENOTDIR))
        return err_set(err, "state_dir %s: expected a directory, not a link or a file", path);
    if (fd < 0)
        return err_sys(err, "state_dir %s", path);
    int r = check(fd, path, ids, err);
    if (r < 0)
        return r;
    if (SYS(flock(fd, LOCK_EX | LOCK_NB)) < 0)
        return errno == EWOULDBLOCK
                   ? err_set(err, "state_dir %s is in use by another brood (it is locked)", path)
                   : err_sys(err, "state_dir %s: lock", path);
    *ret_fd = fd_take(&fd);
    return 0;
}
