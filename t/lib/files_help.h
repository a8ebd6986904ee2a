/* SPDX-License-Identifier: Apache-2.0 */
/* t/lib/files_help - a volume of a tenant's with something outside of it, asked as the frontend
 * asks the child that works on files, and what an attacker lays out in it; for t/unit/files*. */
#pragma once
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/tap.h"
#include "zygote/files.h"
#include "zygote/tree.h"
#include "zygote/zyg.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define SECRET "outside of the volume"
#define ANSWERS_ROOM 1200
#define WAIT_MS 60000

/* What a zygote's other files would be called for. */
void child_fail(enum child_step step, int error)
{
    _exit((int)step + error);
}

void zyg_spoil(void)
{
}

static char base[64];
static int outside = -1, root = -1;

/* ---- asking -----------------------------------------------------------------------------------
 */

static struct {
    int status; /* of the last answer; -1: there was none */
    size_t count;
    uint64_t dropped;
    int fd; /* of the first answer that had one */
    size_t fds;
    struct proto_files_answer at[ANSWERS_ROOM];
} got;

static inline struct proto_files_ask ask_of(enum proto_files_op op, const char *path)
{
    struct proto_files_ask ask = {.magic = PROTO_FILES_MAGIC, .op = op};
    (void)snprintf(ask.path, sizeof ask.path, "%s", path);
    return ask;
}

static inline pid_t start(const struct proto_files_ask *ask, int in, int out)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct files f = {.root = root, .in = in, .out = out, .ask = ask};
        (void)alarm(WAIT_MS / 1000);
        for (int fd = 3; fd < 64; fd++) /* among them the other end of `in` */
            if (fd != root && fd != in && fd != out)
                (void)close(fd);
        files_serve(&f);
        _exit(0);
    }
    return pid;
}

/* One answer with its descriptor; 0: the end. */
static inline ssize_t receive(int sock, struct proto_files_answer *a, int *fd)
{
    char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
    struct iovec iov = {.iov_base = a, .iov_len = sizeof *a};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    memset(a, 0, sizeof *a);
    ssize_t n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
    struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
    *fd = -1;
    if (c)
        memcpy(fd, CMSG_DATA(c), sizeof *fd);
    return n;
}

static inline void take_answers(int sock)
{
    struct proto_files_answer a;
    int fd;
    fd_close(&got.fd);
    got.status = -1;
    got.count = got.fds = 0;
    got.dropped = 0;
    while (got.status < 0 && receive(sock, &a, &fd) > 0) {
        if (a.last) {
            got.status = (int)a.status;
            got.dropped = a.dropped;
        }
        if ((!a.last || a.kind) && got.count < ANSWERS_ROOM)
            got.at[got.count++] = a;
        got.fds += fd >= 0;
        if (got.fd < 0)
            got.fd = fd_take(&fd);
        fd_close(&fd);
    }
}

static char names[4096]; /* of the last answers */

static inline void join_names(void)
{
    size_t len = 0;
    names[0] = 0;
    for (size_t i = 0; i < got.count && len < sizeof names - 300; i++)
        len += (size_t)snprintf(names + len, sizeof names - len, "%s%.200s", i ? " " : "",
                                got.at[i].name);
}

static inline int run_ask(const struct proto_files_ask *ask, int in)
{
    int pair[2], status;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        die(1, "socketpair");
    pid_t pid = start(ask, in, pair[1]);
    fd_close(&pair[1]);
    take_answers(pair[0]);
    fd_close(&pair[0]); /* which a collecting one waits for */
    (void)waitpid(pid, &status, 0);
    if (status != 0)
        got.status = -2;
    join_names();
    return got.status;
}

static inline int request(enum proto_files_op op, const char *path)
{
    struct proto_files_ask ask = ask_of(op, path);
    return run_ask(&ask, -1);
}

static inline int request_with(enum proto_files_op op, const char *path, uint32_t flags)
{
    struct proto_files_ask ask = ask_of(op, path);
    ask.flags = flags;
    return run_ask(&ask, -1);
}

static inline int put_bytes(const char *path, const char *text, uint32_t flags)
{
    struct proto_files_ask ask = ask_of(PROTO_FILES_PUT, path);
    auto_close int in = fd_memfd_sealed("in", text, strlen(text));
    ask.flags = flags;
    return run_ask(&ask, in);
}

static inline int list(const char *path, uint32_t flags, uint32_t most, const char *after)
{
    struct proto_files_ask ask = ask_of(PROTO_FILES_LIST, path);
    ask.flags = flags;
    ask.count_max = most;
    (void)snprintf(ask.after, sizeof ask.after, "%s", after);
    return run_ask(&ask, -1);
}

static inline int collect(const char *path, uint32_t most, uint64_t bytes)
{
    struct proto_files_ask ask = ask_of(PROTO_FILES_COLLECT, path);
    ask.count_max = most;
    ask.bytes_max = bytes;
    return run_ask(&ask, -1);
}

/* ---- what is there ----------------------------------------------------------------------------
 */

static inline void write_file(int dir, const char *path, const char *text)
{
    auto_close int fd = openat(dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || fd_write_all(fd, text, strlen(text)) < 0)
        die(1, "write %s: %s", path, strerror(errno));
}

static inline void set_mode(int dir, const char *path, mode_t mode)
{
    if (fchmodat(dir, path, mode, 0) < 0)
        die(1, "chmod %s: %s", path, strerror(errno));
}

static inline void make_link(const char *target, const char *path)
{
    if (symlinkat(target, root, path) < 0 && errno != EEXIST)
        die(1, "link %s: %s", path, strerror(errno));
}

static inline const char *content_of(int fd)
{
    static char text[256];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    text[n < 0 ? 0 : n] = 0;
    return text;
}

static inline const char *content(int dir, const char *path)
{
    auto_close int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? "(none)" : content_of(fd);
}

static inline mode_t mode_of(const char *path)
{
    struct stat st;
    return fstatat(root, path, &st, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : st.st_mode;
}

static inline bool exists(const char *path)
{
    return mode_of(path) != 0;
}

static inline void fresh(void)
{
    (void)tree_remove(AT_FDCWD, "work");
    fd_close(&root);
    if (mkdir("work", 0755) < 0 || (root = open("work", O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
        die(1, "work: %s", strerror(errno));
}

static inline bool outside_is_untouched(void)
{
    static const char *const names_there[] = {"secret", "dir/secret"};
    struct stat st;
    for (size_t i = 0; i < ARRAY_LEN(names_there); i++)
        if (strcmp(content(outside, names_there[i]), SECRET) != 0 ||
            fstatat(outside, names_there[i], &st, 0) < 0 || (st.st_mode & 07777) != 0600)
            return false;
    auto_close int dir = open("outside", O_RDONLY | O_CLOEXEC);
    return fstat(dir, &st) == 0 && st.st_nlink == 3 && faccessat(outside, "new", F_OK, 0) < 0 &&
           faccessat(outside, "dir/new", F_OK, 0) < 0 && faccessat(outside, "f", F_OK, 0) < 0;
}

static inline void set_up(void)
{
    (void)snprintf(base, sizeof base, "%s/brood-files-XXXXXX",
                   getenv("TMPDIR") && strlen(getenv("TMPDIR")) < 40 ? getenv("TMPDIR")
                                                                     : "/dev/shm");
    if (!mkdtemp(base))
        die(1, "%s: %s", base, strerror(errno));
    /* What a directory's mode refuses, it refuses to a tenant, not to root. */
    if (geteuid() == 0 && (chown(base, 1000, 1000) < 0 || setgid(1000) < 0 || setuid(1000) < 0))
        die(1, "become a user");
    if (chdir(base) < 0 || mkdir("outside", 0700) < 0 || mkdir("outside/dir", 0700) < 0)
        die(1, "outside");
    (void)umask(022);
    outside = open("outside", O_PATH | O_DIRECTORY | O_CLOEXEC);
    write_file(outside, "secret", SECRET);
    write_file(outside, "dir/secret", SECRET);
    set_mode(outside, "secret", 0600);
    set_mode(outside, "dir/secret", 0600);
    got.fd = -1;
}

/* Closes what the tests had open, looks that nothing else is, and removes all. */
static inline void tear_down(int open_before)
{
    fd_close(&root);
    fd_close(&got.fd);
    ok(fd_count_open() == open_before, "no descriptor is left open");
    (void)tree_remove(AT_FDCWD, "work");
    (void)tree_remove(AT_FDCWD, "outside");
    (void)rmdir(base);
}

/* ---- what an attacker makes -------------------------------------------------------------------
 */

static inline void make_traps(void)
{
    fresh();
    (void)mkdirat(root, "a", 0755);
    (void)mkdirat(root, "a/b", 0755);
    make_link("../outside", "out");
    make_link("../../outside", "a/out");
    make_link("../../../outside/dir", "a/b/out");
    make_link("/proc/self/root", "proc");
    make_link("/proc/self/fd/0", "zero");
    make_link("..", "up");
    make_link("a", "inside");
    make_link("loop", "loop");
}

static inline void dig(const char *name, unsigned levels)
{
    auto_close int at = openat(root, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (unsigned i = 0; i < levels; i++) {
        (void)mkdirat(at, name, 0755);
        int next = openat(at, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (next < 0)
            die(1, "dig: %s", strerror(errno));
        write_file(next, "f", "x");
        if (symlinkat("/", next, "l") < 0)
            die(1, "link");
        fd_close(&at);
        at = next;
    }
}

static inline int place_at(const char *path, int fd, uint32_t flags)
{
    char copy[600];
    char *paths[] = {copy, NULL};
    struct child_job job = {.places = paths, .place_count = path ? 1 : 0};
    (void)snprintf(copy, sizeof copy, "%s", path ? path : "");
    return -place_files(root, &job, flags, &fd);
}
