/* SPDX-License-Identifier: Apache-2.0 */
/* volumes/dir - the driver for plain directories; see volumes.h. Runs in priv, as root.
 *
 * Creation is all or nothing: a directory is made and given to uid 1000 under ".blank-<pid>-<n>",
 * perhaps before anyone wants it, and renamed without replacing. Removal is a rename, after which
 * nothing can reach the tree by name, and a sweep that deletes as the tenant's uid, so that no
 * entry of the tree is ever used with root's rights.
 */
#include "lib/err.h"
#include "lib/fd.h"
#include "volumes/volumes.h"
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/mount.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define TEMP_NAME_ROOM 48

#define BLANKS_MAX 8
#define LENT_MAX 16

static unsigned temp_count;
static unsigned lent[LENT_MAX];                  /* by vol_attach_blank; 0: a free place */
static unsigned blanks[BLANKS_MAX], blank_count; /* made ahead by vol_prepare; a sweep takes them */

int vol_root_open(const char *path, int *ret_root_fd, int *ret_lock_fd, struct err *err)
{
    if (SYS(mkdir(path, 0700)) < 0 && errno != EEXIST)
        return err_sys(err, "fs_root %s", path);
    auto_close int root = SYS(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (root < 0)
        return err_sys(err, "fs_root %s", path);
    if (SYS(fchown(root, 0, 0)) < 0 || SYS(fchmod(root, 0700)) < 0)
        return err_sys(err, "fs_root %s: make it 0700 root", path);
    auto_close int lock =
        SYS(openat(root, ".lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (lock < 0)
        return err_sys(err, "fs_root %s: open .lock", path);
    if (SYS(flock(lock, LOCK_EX | LOCK_NB)) < 0) {
        if (errno == EWOULDBLOCK)
            return err_set(err, "fs_root %s is in use by another brood (its .lock is held)", path);
        return err_sys(err, "fs_root %s: lock", path);
    }
    *ret_root_fd = fd_take(&root);
    *ret_lock_fd = fd_take(&lock);
    return 0;
}

static const char *temp_name(char room[TEMP_NAME_ROOM], unsigned n)
{
    (void)snprintf(room, TEMP_NAME_ROOM, ".blank-%d-%u", (int)getpid(), n);
    return room;
}

/* An empty directory of the user's; its number, or -1. */
static long make_blank(int root_fd)
{
    char temp[TEMP_NAME_ROOM];
    unsigned n = ++temp_count;
    if (SYS(mkdirat(root_fd, temp_name(temp, n), 0700)) < 0)
        return -1;
    if (SYS(fchownat(root_fd, temp, VOL_DISK_UID, VOL_DISK_UID, AT_SYMLINK_NOFOLLOW)) == 0)
        return n;
    (void)unlinkat(root_fd, temp, AT_REMOVEDIR);
    return -1;
}

/* One that was made ahead and is still there, or a new one. */
static long take_blank(int root_fd)
{
    char temp[TEMP_NAME_ROOM];
    struct stat st;
    while (blank_count > 0) {
        unsigned n = blanks[--blank_count];
        if (fstatat(root_fd, temp_name(temp, n), &st, AT_SYMLINK_NOFOLLOW) == 0)
            return n;
    }
    return make_blank(root_fd);
}

void vol_prepare(int root_fd)
{
    long n = blank_count < BLANKS_MAX ? make_blank(root_fd) : -1;
    if (n >= 0)
        blanks[blank_count++] = (unsigned)n;
}

void vol_tidy(int root_fd)
{
    char temp[TEMP_NAME_ROOM];
    for (size_t i = 0; i < LENT_MAX; i++)
        if (lent[i])
            vol_drop_blank(root_fd, lent[i]);
    while (blank_count > 0)
        (void)unlinkat(root_fd, temp_name(temp, blanks[--blank_count]), AT_REMOVEDIR);
}

static int create(int root_fd, const char *ns_id, struct err *err)
{
    char temp[TEMP_NAME_ROOM];
    long n = take_blank(root_fd);
    if (n < 0)
        return err_sys(err, "create volume %s", ns_id);
    temp_name(temp, (unsigned)n);
    if (SYS(renameat2(root_fd, temp, root_fd, ns_id, RENAME_NOREPLACE)) == 0)
        return 0;
    int r = errno == EEXIST ? 0 : err_sys(err, "name volume %s", ns_id);
    (void)unlinkat(root_fd, temp, AT_REMOVEDIR);
    return r;
}

static int clone_idmapped(int dir, const char *ns_id, int userns_fd, int *ret_mount_fd,
                          struct err *err)
{
    auto_close int mnt = SYS(
        (int)syscall(SYS_open_tree, dir, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH));
    if (mnt < 0)
        return err_sys(err, "clone the mount of volume %s", ns_id);
    struct mount_attr attr = {
        .attr_set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
        .userns_fd = (unsigned)userns_fd,
    };
    if (SYS(syscall(SYS_mount_setattr, mnt, "", AT_EMPTY_PATH, &attr, sizeof attr)) < 0)
        return err_sys(err, "id-map volume %s (the filesystem must support id-mapped mounts)",
                       ns_id);
    *ret_mount_fd = fd_take(&mnt);
    return 0;
}

int vol_attach(int root_fd, const char *ns_id, int userns_fd, int *ret_mount_fd, struct err *err)
{
    const int flags = O_PATH | O_DIRECTORY;
    auto_close int dir = SYS(fd_open_beneath(root_fd, ns_id, flags, 0));
    if (dir < 0 && errno == ENOENT) {
        int r = create(root_fd, ns_id, err);
        if (r < 0)
            return r;
        dir = SYS(fd_open_beneath(root_fd, ns_id, flags, 0));
    }
    if (dir < 0)
        return err_sys(err, "open volume %s", ns_id);
    return clone_idmapped(dir, ns_id, userns_fd, ret_mount_fd, err);
}

static unsigned *find_lent(unsigned blank)
{
    for (size_t i = 0; i < LENT_MAX; i++)
        if (lent[i] == blank)
            return &lent[i];
    return NULL;
}

int vol_attach_blank(int root_fd, int userns_fd, unsigned *ret_blank, int *ret_mount_fd,
                     struct err *err)
{
    char temp[TEMP_NAME_ROOM];
    unsigned *place = find_lent(0);
    if (!place)
        return err_set(err, "too many nameless volumes are in use");
    long n = take_blank(root_fd);
    if (n < 0)
        return err_sys(err, "create a volume");
    auto_close int dir =
        SYS(fd_open_beneath(root_fd, temp_name(temp, (unsigned)n), O_PATH | O_DIRECTORY, 0));
    int r = dir < 0 ? err_sys(err, "open volume %s", temp)
                    : clone_idmapped(dir, temp, userns_fd, ret_mount_fd, err);
    if (r < 0) {
        (void)unlinkat(root_fd, temp, AT_REMOVEDIR);
        return r;
    }
    *place = *ret_blank = (unsigned)n;
    return 0;
}

void vol_drop_blank(int root_fd, unsigned blank)
{
    char temp[TEMP_NAME_ROOM];
    unsigned *place = find_lent(blank);
    if (!blank || !place)
        return;
    (void)unlinkat(root_fd, temp_name(temp, blank), AT_REMOVEDIR);
    *place = 0;
}

int vol_probe(int root_fd, int userns_fd, struct err *err)
{
    static const char name[] = ".new-probe"; /* what vol_sweep removes, should we die here */
    auto_close int mnt = -1;
    if (SYS(mkdirat(root_fd, name, 0700)) < 0 && errno != EEXIST)
        return err_sys(err, "fs_root: create a directory");
    auto_close int dir = SYS(fd_open_beneath(root_fd, name, O_PATH | O_DIRECTORY, 0));
    int r = dir < 0 ? err_sys(err, "fs_root: open a directory")
                    : clone_idmapped(dir, "(probe)", userns_fd, &mnt, err);
    (void)unlinkat(root_fd, name, AT_REMOVEDIR);
    return r;
}

int vol_discard(int root_fd, const char *ns_id, struct err *err)
{
    char temp[TEMP_NAME_ROOM];
    (void)snprintf(temp, sizeof temp, ".trash-%d-%u", (int)getpid(), ++temp_count);
    if (SYS(renameat2(root_fd, ns_id, root_fd, temp, RENAME_NOREPLACE)) == 0)
        return 0;
    return errno == ENOENT ? VOL_ABSENT : err_sys(err, "discard volume %s", ns_id);
}

static bool remove_entry(int dir_fd, const char *name)
{
    return unlinkat(dir_fd, name, 0) == 0 || unlinkat(dir_fd, name, AT_REMOVEDIR) == 0;
}

static bool is_entry(const char *name)
{
    return strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* Never through a link: that may point to anything of the user with this uid on the host. */
static void open_up(int dir_fd, const char *name)
{
    (void)!fchmodat(dir_fd, name, 0700, AT_SYMLINK_NOFOLLOW);
}

/* Moves a directory to the top under a name that nobody has. */
static void hoist(int dir_fd, const char *name, int top_fd)
{
    char fresh[TEMP_NAME_ROOM];
    open_up(dir_fd, name); /* its ".." is about to change */
    do
        (void)snprintf(fresh, sizeof fresh, ".hoisted-%u", ++temp_count);
    while (renameat2(dir_fd, name, top_fd, fresh, RENAME_NOREPLACE) < 0 && errno == EEXIST);
}

/* Removes a directory of the top; those below it that are not empty become the top's. */
static bool flatten(int top_fd, const char *name)
{
    open_up(top_fd, name);
    int fd = openat(top_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        if (fd >= 0)
            (void)close(fd);
        return false;
    }
    for (struct dirent *e; (e = readdir(dir));)
        if (is_entry(e->d_name) && !remove_entry(fd, e->d_name))
            hoist(fd, e->d_name, top_fd);
    (void)closedir(dir);
    return unlinkat(top_fd, name, AT_REMOVEDIR) == 0;
}

/* Empties a tree of any depth with two descriptors and no recursion. Consumes dir_fd. */
static int empty_dir(int dir_fd)
{
    DIR *dir = fdopendir(dir_fd);
    bool left = true, progress = true;
    while (dir && left && progress) {
        left = progress = false;
        rewinddir(dir);
        for (struct dirent *e; (e = readdir(dir));) {
            if (!is_entry(e->d_name))
                continue;
            left = true;
            progress |= remove_entry(dir_fd, e->d_name) || flatten(dir_fd, e->d_name);
        }
    }
    if (dir)
        (void)closedir(dir);
    return dir && !left ? 0 : -1;
}

_Noreturn static void sweep_child(int root_fd, const char *name)
{
    int fd = fd_open_beneath(root_fd, name, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0 || setgroups(0, NULL) < 0 ||
        setresgid(VOL_DISK_UID, VOL_DISK_UID, VOL_DISK_UID) < 0 ||
        setresuid(VOL_DISK_UID, VOL_DISK_UID, VOL_DISK_UID) < 0)
        _exit(1);
    (void)close(root_fd);
    (void)fchmod(fd, 0700);
    _exit(empty_dir(fd) < 0);
}

static bool is_ours_to_sweep(const char *name)
{
    char temp[TEMP_NAME_ROOM];
    int maker;
    for (size_t i = 0; i < LENT_MAX; i++)
        if (lent[i] && strcmp(name, temp_name(temp, lent[i])) == 0)
            return false; /* somebody lives there */
    if (sscanf(name, ".blank-%d-", &maker) == 1 && maker > 0 && maker != (int)getpid() &&
        kill(maker, 0) == 0)
        return false; /* a probe beside us, of the same fs_root */
    return strncmp(name, ".new-", 5) == 0 || strncmp(name, ".blank-", 7) == 0 ||
           strncmp(name, ".trash-", 7) == 0;
}

int vol_sweep(int root_fd, unsigned skip, struct err *err)
{
    int copy = SYS(openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    int pid = 0;
    if (!dir)
        return err_sys(err, "list fs_root");
    for (struct dirent *e; pid == 0 && (e = readdir(dir));) {
        if (!is_ours_to_sweep(e->d_name) || unlinkat(root_fd, e->d_name, AT_REMOVEDIR) == 0)
            continue;
        if (skip > 0) {
            skip--;
            continue;
        }
        pid = SYS(fork());
        if (pid == 0)
            sweep_child(root_fd, e->d_name);
    }
    (void)closedir(dir);
    return pid < 0 ? err_sys(err, "fork to remove a volume") : pid;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

static bool add_name(struct vol_list *list, size_t *room, const char *name, size_t len)
{
    if (list->count == *room) {
        *room = *room ? *room * 2 : 64;
        void *grown = realloc(list->names, *room * sizeof *list->names);
        if (!grown)
            return false;
        list->names = grown;
    }
    memcpy(list->names[list->count++], name, len + 1);
    return true;
}

/* By the system call itself: opendir() needs open or stat, which the engine has renounced. */
int vol_list(int root_fd, struct vol_list *ret, struct err *err)
{
    struct vol_list list = {0};
    size_t room = 0;
    char entries[16384] __attribute__((aligned(8)));
    ssize_t n = SYS(lseek(root_fd, 0, SEEK_SET)); /* the offset is shared with earlier listings */
    while (n >= 0 && (n = SYS(getdents64(root_fd, entries, sizeof entries))) > 0) {
        for (ssize_t at = 0; n >= 0 && at < n;) {
            const struct dirent64 *e = (const void *)(entries + at);
            size_t len = strlen(e->d_name);
            at += e->d_reclen;
            if (e->d_name[0] == '.' || len > 64 || (e->d_type != DT_DIR && e->d_type != DT_UNKNOWN))
                continue;
            if (!add_name(&list, &room, e->d_name, len)) {
                errno = ENOMEM;
                n = -1;
            }
        }
    }
    if (n < 0) {
        int r = err_sys(err, "list fs_root");
        vol_list_free(&list);
        return r;
    }
    if (list.count)
        qsort(list.names, list.count, sizeof *list.names, compare_names);
    *ret = list;
    return 0;
}

void vol_list_free(struct vol_list *list)
{
    free(list->names);
    *list = (struct vol_list){0};
}
