/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/tree - see tree.h. Runs in a child: uid 1000, behind landlock and seccomp, in the run's
 * cgroups and on its clock. So whatever a tenant has put there can only harm its own run; still no
 * link is followed, and nothing here recurses or holds descriptors as deep as a tenant's tree is.
 *
 * A tree may be deeper than paths are long. Removal goes down a few levels, each of them held open;
 * what lies deeper is renamed to the top first, one directory at a time, and removed from there.
 */
#include "zygote/tree.h"
#include "lib/fd.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define LEVELS_MAX 8u
#define ENTRIES_BYTES 4096u
#define CHUNK_BYTES 16384u

bool tree_path_is_sound(const char *path)
{
    if (strlen(path) > TREE_PATH_MAX)
        return false;
    for (const char *at = path;; at++) {
        size_t len = strcspn(at, "/");
        if (len == 0 || (len == 1 && *at == '.') || (len == 2 && at[0] == '.' && at[1] == '.'))
            return false;
        at += len;
        if (!*at)
            return true;
    }
}

int tree_open(int root, const char *path, int flags)
{
    int fd = SYS(fd_open_beneath(root, *path ? path : ".", flags, 0));
    return fd < 0 ? -errno : fd;
}

int tree_make(int root, const char *path)
{
    auto_close int at = tree_open(root, path, O_PATH | O_DIRECTORY);
    if (at != -ENOENT)
        return fd_take(&at);
    at = tree_open(root, "", O_PATH | O_DIRECTORY);
    while (at >= 0 && *path) {
        char name[TREE_NAME_MAX + 1] = "";
        size_t len = strcspn(path, "/");
        if (len > TREE_NAME_MAX)
            return -ENAMETOOLONG;
        memcpy(name, path, len);
        path += len + (path[len] == '/');
        if (SYS(mkdirat(at, name, 0755)) < 0 && errno != EEXIST)
            return -errno;
        int next = tree_open(at, name, O_PATH | O_DIRECTORY);
        fd_close(&at);
        at = next;
    }
    return fd_take(&at);
}

int tree_open_parent(int root, const char *path, bool make, const char **ret_name)
{
    char dir[TREE_PATH_MAX + 1] = "";
    const char *slash = strrchr(path, '/');
    if (slash)
        memcpy(dir, path, (size_t)(slash - path));
    *ret_name = slash ? slash + 1 : path;
    return make ? tree_make(root, dir) : tree_open(root, dir, O_PATH | O_DIRECTORY);
}

/* ---- removal ----------------------------------------------------------------------------------
 */

struct removal {
    int top;         /* the directory that is removed */
    unsigned moved;  /* names given to what was moved there */
    uint64_t steps;  /* things that are gone, or were moved */
    unsigned levels; /* held open below the top */
};

static int remove_entry(struct removal *r, int dir, const char *name);

/* One that its owner may not read or change it may make so. Not by its name: that could be a link
 * by now. */
static int open_removable(int dir, const char *name)
{
    struct stat st;
    char path[32];
    auto_close int self = tree_open(dir, name, O_PATH | O_DIRECTORY);
    if (self < 0)
        return fd_take(&self);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", self);
    if (SYS(fstat(self, &st)) < 0 ||
        ((st.st_mode & 0700) != 0700 && SYS(chmod(path, (st.st_mode & 07777) | 0700)) < 0))
        return -errno;
    return tree_open(self, "", O_RDONLY | O_DIRECTORY);
}

/* One pass over a directory: entries may be skipped while others go. */
static int empty_once(struct removal *r, int dir)
{
    char entries[ENTRIES_BYTES] __attribute__((aligned(8)));
    long n;
    if (SYS(lseek(dir, 0, SEEK_SET)) < 0)
        return -errno;
    while ((n = SYS(syscall(SYS_getdents64, dir, entries, sizeof entries))) > 0)
        for (long at = 0; at < n;) {
            const struct dirent64 *e = (const void *)(entries + at);
            bool is_self = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
            int result = is_self ? 0 : remove_entry(r, dir, e->d_name);
            if (result < 0)
                return result;
            at += e->d_reclen;
        }
    return n < 0 ? -errno : 0;
}

/* Passes while they get anywhere. */
static int remove_full(struct removal *r, int fd, int parent, const char *name)
{
    for (;;) {
        uint64_t before = r->steps;
        int result = empty_once(r, fd);
        if (result < 0)
            return result;
        if (SYS(unlinkat(parent, name, AT_REMOVEDIR)) == 0)
            return 0;
        if ((errno != ENOTEMPTY && errno != EEXIST) || r->steps == before)
            return -errno;
    }
}

int tree_empty(int dir)
{
    struct removal r = {.top = dir};
    for (;;) {
        uint64_t before = r.steps;
        int result = empty_once(&r, dir);
        if (result < 0 || r.steps == before)
            return result;
    }
}

/* Too deep: to the top, under a name that is free there. */
static int move_up(struct removal *r, int dir, const char *name)
{
    char at_top[32];
    auto_close int self = open_removable(dir, name); /* a directory that moves must be writable */
    if (self < 0)
        return fd_take(&self);
    for (;;) {
        (void)snprintf(at_top, sizeof at_top, ".removed-%u", r->moved++);
        if (SYS(renameat(dir, name, r->top, at_top)) == 0)
            return 0;
        if (errno != ENOTEMPTY && errno != EEXIST && errno != ENOTDIR)
            return -errno;
    }
}

static int go_down(struct removal *r, int dir, const char *name)
{
    if (r->levels == LEVELS_MAX)
        return move_up(r, dir, name);
    auto_close int fd = open_removable(dir, name);
    if (fd < 0)
        return fd_take(&fd);
    r->levels++;
    int result = remove_full(r, fd, dir, name);
    r->levels--;
    return result;
}

/* 0; -ENOTEMPTY: a directory with something in it; another -errno. */
static int remove_simple(int dir, const char *name)
{
    if (SYS(unlinkat(dir, name, 0)) == 0)
        return 0;
    if (errno != EISDIR)
        return -errno;
    if (SYS(unlinkat(dir, name, AT_REMOVEDIR)) == 0)
        return 0;
    return errno == EEXIST ? -ENOTEMPTY : -errno;
}

static int remove_entry(struct removal *r, int dir, const char *name)
{
    int result = remove_simple(dir, name);
    if (result == -ENOTEMPTY)
        result = go_down(r, dir, name);
    r->steps += result == 0;
    return result == -ENOENT ? 0 : result;
}

int tree_remove(int dir, const char *name)
{
    int result = remove_simple(dir, name);
    if (result != -ENOTEMPTY)
        return result;
    auto_close int top = open_removable(dir, name);
    struct removal r = {.top = top};
    return top < 0 ? fd_take(&top) : remove_full(&r, top, dir, name);
}

/* ---- bytes ------------------------------------------------------------------------------------
 */

/* Of a file by offsets of our own: others may hold the same open file. */
int64_t tree_copy(int to, int from, uint64_t max)
{
    char chunk[CHUNK_BYTES];
    struct stat st;
    if (SYS(fstat(from, &st)) < 0)
        return -errno;
    for (uint64_t at = 0;;) {
        ssize_t n = S_ISREG(st.st_mode) ? SYS(pread(from, chunk, sizeof chunk, (off_t)at))
                                        : SYS(read(from, chunk, sizeof chunk));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : (int64_t)at;
        if ((uint64_t)n > max - at)
            return -EFBIG;
        if (fd_write_all(to, chunk, (size_t)n) < 0)
            return -errno;
        at += (uint64_t)n;
    }
}
