/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/files - what a run of kind ZYG_FILES_MAGIC does instead of evaluating: one operation on
 * the files below /work.
 *
 * It runs where a command would: uid 1000 of the namespace, behind its landlock and seccomp, in its
 * cgroups, on the run's clock, and when nothing else of the namespace runs. So an operation may
 * never do more than the tenant's own commands may, and a file name, a link or a tree that was laid
 * out as a trap harms only this run. That is why it happens here, and not in the frontend or the
 * engine, which never see a path that they would have to trust. Still nothing leads out of the
 * volume (tree.h): a descriptor that is handed on must be of a file in there.
 *
 * Answers go straight to who asked, over the run's stdout; sending blocks while they are not read.
 * A put becomes visible in one step, whole: until then it is a file without a name, which a kill at
 * any moment takes away.
 */
#include "zygote/files.h"
#include "lib/fd.h"
#include "lib/packet.h"
#include "zygote/tree.h"
#include "zygote/zyg.h"
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#define RETRY_MS 2 /* while too many descriptors are on their way */
#define NAMES_MAX 100

/* ---- answers ----------------------------------------------------------------------------------
 */

void files_send(const struct files *f, struct proto_files_answer *answer, int fd)
{
    answer->magic = PROTO_FILES_MAGIC;
    for (;;) {
        int r = packet_send(f->out, answer,
                            offsetof(struct proto_files_answer, name) + answer->name_bytes, &fd,
                            fd >= 0);
        struct pollfd reader = {.fd = f->out, .events = r == -EAGAIN ? POLLOUT : 0};
        if (r == 0)
            return;
        if (r != -EAGAIN && r != -ETOOMANYREFS)
            _exit(0); /* it is gone */
        (void)poll(&reader, 1, r == -EAGAIN ? -1 : RETRY_MS);
    }
}

struct proto_files_answer files_describe(const struct stat *st)
{
    return (struct proto_files_answer){
        .kind = S_ISREG(st->st_mode)   ? 'f'
                : S_ISDIR(st->st_mode) ? 'd'
                : S_ISLNK(st->st_mode) ? 'l'
                                       : 'o',
        .mode = st->st_mode & 07777,
        .size = (uint64_t)st->st_size,
        .mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec,
    };
}

static int describe(int fd, struct proto_files_answer *ret)
{
    struct stat st;
    if (SYS(fstat(fd, &st)) < 0)
        return -errno;
    *ret = files_describe(&st);
    return 0;
}

/* ---- one file ---------------------------------------------------------------------------------
 */

static int stat_file(const struct files *f, struct proto_files_answer *last)
{
    auto_close int fd = tree_open(f->root, f->ask->path, O_PATH | O_NOFOLLOW);
    return fd < 0 ? fd_take(&fd) : describe(fd, last);
}

/* Opening never waits, whatever is there. */
static int get(const struct files *f, struct proto_files_answer *last)
{
    auto_close int fd = tree_open(f->root, f->ask->path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    int r = fd < 0 ? fd_take(&fd) : describe(fd, last);
    if (r < 0)
        return r;
    if (last->kind != 'f')
        return last->kind == 'd' ? -EISDIR : -EINVAL;
    if (f->ask->bytes_max && last->size > f->ask->bytes_max)
        return -EFBIG;
    last->last = 1;
    files_send(f, last, fd);
    return 1;
}

/* A file without a name, or where the filesystem has no such thing, one of that name. */
static int open_temporary(int dir, const char *name, mode_t mode)
{
    int fd = SYS(fd_open_beneath(dir, ".", O_TMPFILE | O_WRONLY, mode));
    if (fd < 0)
        fd = SYS(openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
    return fd < 0 ? -errno : fd;
}

static int fill(const struct files *f, int fd)
{
    uint64_t most = f->ask->bytes_max ? f->ask->bytes_max : UINT64_MAX;
    int64_t n = tree_copy(fd, f->in, most);
    if (n < 0)
        return (int)n;
    if (f->ask->bytes_max && (uint64_t)n != most)
        return -EPIPE; /* whoever was sending broke off */
    return SYS(fsync(fd)) < 0 ? -errno : 0;
}

/* It has a name from here on, for a moment beside the one that it is to have. */
static int publish(int dir, int fd, const char *temporary, const char *name)
{
    char path[32];
    struct stat st;
    if (SYS(fstat(fd, &st)) < 0)
        return -errno;
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (st.st_nlink == 0 && SYS(linkat(AT_FDCWD, path, dir, temporary, AT_SYMLINK_FOLLOW)) < 0)
        return -errno;
    return SYS(renameat(dir, temporary, dir, name)) < 0 ? -errno : 0;
}

static int put_as(const struct files *f, int dir, const char *temporary, const char *name,
                  struct proto_files_answer *last)
{
    mode_t mode = f->ask->flags & PROTO_FILES_EXECUTABLE ? 0755 : 0644;
    auto_close int fd = open_temporary(dir, temporary, mode);
    if (fd < 0)
        return fd_take(&fd);
    int r = fill(f, fd);
    if (r == 0)
        r = publish(dir, fd, temporary, name);
    if (r < 0) {
        (void)unlinkat(dir, temporary, 0);
        return r;
    }
    return describe(fd, last);
}

static int put(const struct files *f, struct proto_files_answer *last)
{
    struct stat st;
    const char *name;
    char temporary[32];
    if (!*f->ask->path)
        return -EISDIR;
    auto_close int dir = tree_open_parent(f->root, f->ask->path, true, &name);
    if (dir < 0)
        return fd_take(&dir);
    if (SYS(fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW)) == 0 && S_ISDIR(st.st_mode))
        return -EISDIR;
    for (unsigned i = 0; i < NAMES_MAX; i++) { /* the first that is free */
        (void)snprintf(temporary, sizeof temporary, ".put-%u", i);
        if (strcmp(temporary, name) != 0 &&
            SYS(fstatat(dir, temporary, &st, AT_SYMLINK_NOFOLLOW)) < 0 && errno == ENOENT)
            return put_as(f, dir, temporary, name, last);
    }
    return -EEXIST;
}

static int delete (const struct files *f, struct proto_files_answer *last)
{
    const char *name;
    (void)last;
    if (!*f->ask->path)
        return -EBUSY;
    auto_close int dir = tree_open_parent(f->root, f->ask->path, false, &name);
    if (dir < 0)
        return fd_take(&dir);
    if (f->ask->flags & PROTO_FILES_RECURSIVE)
        return tree_remove(dir, name);
    if (SYS(unlinkat(dir, name, 0)) < 0 &&
        (errno != EISDIR || SYS(unlinkat(dir, name, AT_REMOVEDIR)) < 0))
        return errno == EEXIST ? -ENOTEMPTY : -errno;
    return 0;
}

static int make_directory(const struct files *f, struct proto_files_answer *last)
{
    auto_close int dir = tree_make(f->root, f->ask->path);
    return dir < 0 ? fd_take(&dir) : describe(dir, last);
}

/* ---- which one --------------------------------------------------------------------------------
 */

static int (*const operations[])(const struct files *f, struct proto_files_answer *last) = {
    [PROTO_FILES_STAT] = stat_file,
    [PROTO_FILES_GET] = get,
    [PROTO_FILES_PUT] = put,
    [PROTO_FILES_LIST] = files_list,
    [PROTO_FILES_DELETE] = delete,
    [PROTO_FILES_MKDIR] = make_directory,
    [PROTO_FILES_COLLECT] = files_collect,
};

static bool is_sound(const struct proto_files_ask *ask)
{
    return ask->magic == PROTO_FILES_MAGIC && ask->op < ARRAY_LEN(operations) &&
           operations[ask->op] &&
           !(ask->flags & ~(PROTO_FILES_RECURSIVE | PROTO_FILES_EXECUTABLE)) &&
           !ask->path[PROTO_FILES_PATH_MAX] && !ask->after[PROTO_FILES_PATH_MAX] &&
           (!*ask->path || tree_path_is_sound(ask->path));
}

/* Until the reader hangs up: no run follows before, so what it was given stays as it is. */
static void await_reader(const struct files *f)
{
    struct pollfd reader = {.fd = f->out, .events = POLLRDHUP};
    do
        (void)poll(&reader, 1, -1);
    while (!(reader.revents & (POLLHUP | POLLRDHUP | POLLERR | POLLNVAL)));
}

void files_serve(const struct files *f)
{
    struct proto_files_answer last = {0};
    int r = is_sound(f->ask) ? operations[f->ask->op](f, &last) : -EINVAL;
    if (r > 0)
        return; /* it is answered */
    if (r < 0)
        last = (struct proto_files_answer){.status = (uint32_t)-r, .dropped = last.dropped};
    last.last = 1;
    files_send(f, &last, -1);
    if (f->ask->op == PROTO_FILES_COLLECT)
        await_reader(f);
}

void files_main(const char *bytes, size_t len)
{
    static struct proto_files_ask ask; /* aligned */
    struct files f = {.in = 0, .out = 1, .ask = &ask};
    zyg_spoil(); /* a tenant's names are read here: no run follows in this memory */
    (void)signal(SIGXFSZ, SIG_IGN);
    f.root = SYS(open(ZYG_HOME, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (f.root < 0 || len != sizeof ask + 1)
        _exit(1); /* the reader sees the end without an answer */
    memcpy(&ask, bytes, sizeof ask);
    files_serve(&f);
    _exit(0);
}
