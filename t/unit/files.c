/* SPDX-License-Identifier: Apache-2.0 */
/* t/unit/files - work on a tenant's files and the placing of files: each operation, then as an
 * attacker who owns the directory and lays out links, pipes, deep and huge trees and races. Nothing
 * outside of it may be read or touched, and nothing may block. */
#include "zygote/files.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/tap.h"
#include "zygote/tree.h"
#include "zygote/zyg.h"
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#define SECRET "outside of the volume"
#define ANSWERS_ROOM 1200
#define DEEP 5000
#define MANY 100000
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

static struct proto_files_ask ask_of(enum proto_files_op op, const char *path)
{
    struct proto_files_ask ask = {.magic = PROTO_FILES_MAGIC, .op = op};
    (void)snprintf(ask.path, sizeof ask.path, "%s", path);
    return ask;
}

static pid_t start(const struct proto_files_ask *ask, int in, int out)
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
static ssize_t receive(int sock, struct proto_files_answer *a, int *fd)
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

static void take_answers(int sock)
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

static void join_names(void)
{
    size_t len = 0;
    names[0] = 0;
    for (size_t i = 0; i < got.count && len < sizeof names - 300; i++)
        len += (size_t)snprintf(names + len, sizeof names - len, "%s%.200s", i ? " " : "",
                                got.at[i].name);
}

static int run_ask(const struct proto_files_ask *ask, int in)
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

static int request(enum proto_files_op op, const char *path)
{
    struct proto_files_ask ask = ask_of(op, path);
    return run_ask(&ask, -1);
}

static int request_with(enum proto_files_op op, const char *path, uint32_t flags)
{
    struct proto_files_ask ask = ask_of(op, path);
    ask.flags = flags;
    return run_ask(&ask, -1);
}

static int put_bytes(const char *path, const char *text, uint32_t flags)
{
    struct proto_files_ask ask = ask_of(PROTO_FILES_PUT, path);
    auto_close int in = fd_memfd_sealed("in", text, strlen(text));
    ask.flags = flags;
    return run_ask(&ask, in);
}

static int list(const char *path, uint32_t flags, uint32_t most, const char *after)
{
    struct proto_files_ask ask = ask_of(PROTO_FILES_LIST, path);
    ask.flags = flags;
    ask.count_max = most;
    (void)snprintf(ask.after, sizeof ask.after, "%s", after);
    return run_ask(&ask, -1);
}

static int collect(const char *path, uint32_t most, uint64_t bytes)
{
    struct proto_files_ask ask = ask_of(PROTO_FILES_COLLECT, path);
    ask.count_max = most;
    ask.bytes_max = bytes;
    return run_ask(&ask, -1);
}

/* ---- what is there ----------------------------------------------------------------------------
 */

static void write_file(int dir, const char *path, const char *text)
{
    auto_close int fd = openat(dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || fd_write_all(fd, text, strlen(text)) < 0)
        die(1, "write %s: %s", path, strerror(errno));
}

static void set_mode(int dir, const char *path, mode_t mode)
{
    if (fchmodat(dir, path, mode, 0) < 0)
        die(1, "chmod %s: %s", path, strerror(errno));
}

static void make_link(const char *target, const char *path)
{
    if (symlinkat(target, root, path) < 0 && errno != EEXIST)
        die(1, "link %s: %s", path, strerror(errno));
}

static const char *content_of(int fd)
{
    static char text[256];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    text[n < 0 ? 0 : n] = 0;
    return text;
}

static const char *content(int dir, const char *path)
{
    auto_close int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? "(none)" : content_of(fd);
}

static mode_t mode_of(const char *path)
{
    struct stat st;
    return fstatat(root, path, &st, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : st.st_mode;
}

static bool exists(const char *path)
{
    return mode_of(path) != 0;
}

static void fresh(void)
{
    (void)tree_remove(AT_FDCWD, "work");
    fd_close(&root);
    if (mkdir("work", 0755) < 0 || (root = open("work", O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
        die(1, "work: %s", strerror(errno));
}

static bool outside_is_untouched(void)
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

static void set_up(void)
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

/* ---- each operation ---------------------------------------------------------------------------
 */

static void make_zoo(void)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX, .sun_path = "work/socket"};
    auto_close int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fresh();
    write_file(root, "file", "hello");
    (void)mkdirat(root, "dir", 0750);
    write_file(root, "dir/inner", "inner");
    make_link("file", "link");
    make_link("../outside", "out");
    (void)mkfifoat(root, "fifo", 0644);
    if (bind(sock, (void *)&at, sizeof at) < 0)
        die(1, "bind");
}

static void test_stat(void)
{
    static const struct {
        const char *path;
        uint32_t kind;
    } there[] = {{"file", 'f'}, {"dir", 'd'}, {"link", 'l'},   {"out", 'l'},
                 {"fifo", 'o'}, {"", 'd'},    {"socket", 'o'}, {"dir/inner", 'f'}};
    for (size_t i = 0; i < ARRAY_LEN(there); i++)
        ok(request(PROTO_FILES_STAT, there[i].path) == 0 && got.count == 1 &&
               got.at[0].kind == there[i].kind,
           "stat says what \"%s\" is", there[i].path);
    (void)request(PROTO_FILES_STAT, "dir");
    ok(got.at[0].mode == 0750 && got.at[0].mtime_ns > 1700000000000000000ll, "mode and time");
    ok(request(PROTO_FILES_STAT, "none") == ENOENT && got.count == 0, "or that it is not there");
    ok(request(PROTO_FILES_STAT, "file/x") == ENOTDIR, "or cannot be");
}

static void test_get(void)
{
    struct proto_files_ask ask = ask_of(PROTO_FILES_GET, "file");
    ok(request(PROTO_FILES_GET, "file") == 0 && got.fd >= 0 && got.at[0].size == 5 &&
           strcmp(content_of(got.fd), "hello") == 0,
       "get gives a descriptor of the file");
    ok((fcntl(got.fd, F_GETFL) & O_ACCMODE) == O_RDONLY, "to read it only");
    ask.bytes_max = 5;
    ok(run_ask(&ask, -1) == 0, "a file as long as is allowed");
    ask.bytes_max = 4;
    ok(run_ask(&ask, -1) == EFBIG && got.fd < 0, "a longer one is refused");
    ok(request(PROTO_FILES_GET, "dir") == EISDIR && got.fd < 0, "a directory is");
    ok(request(PROTO_FILES_GET, "") == EISDIR && got.fd < 0, "so is the home");
    ok(request(PROTO_FILES_GET, "fifo") == EINVAL && got.fd < 0, "a FIFO is, at once");
    ok(request(PROTO_FILES_GET, "socket") == ENXIO && got.fd < 0, "a socket is");
    ok(request(PROTO_FILES_GET, "link") == ELOOP && got.fd < 0, "a link is, wherever it leads");
    set_mode(root, "file", 0);
    ok(request(PROTO_FILES_GET, "file") == EACCES && got.fd < 0,
       "what its owner made unreadable is");
}

static void test_put(void)
{
    char name[300], text[600];
    memset(name, 'n', 255);
    name[255] = 0;
    fresh();
    ok(put_bytes("a/b/c", "one", 0) == 0 && strcmp(content(root, "a/b/c"), "one") == 0,
       "put makes directories and the file");
    ok(got.count == 1 && got.at[0].kind == 'f' && got.at[0].size == 3, "and says what it is");
    ok(mode_of("a/b/c") == (S_IFREG | 0644) && mode_of("a/b") == (S_IFDIR | 0755),
       "of usual modes");
    ok(put_bytes("a/b/c", "two", PROTO_FILES_EXECUTABLE) == 0 &&
           strcmp(content(root, "a/b/c"), "two") == 0 && mode_of("a/b/c") == (S_IFREG | 0755),
       "it replaces a file, and may make it executable");
    ok(put_bytes("empty", "x", 0) == 0 && put_bytes(name, "long", 0) == 0 && exists(name),
       "a name of 255 bytes");
    (void)snprintf(text, sizeof text, "%sn", name);
    ok(put_bytes(text, "x", 0) == ENAMETOOLONG, "not of 256");
    (void)snprintf(text, sizeof text, "d/%sn/x", name);
    ok(put_bytes(text, "x", 0) == ENAMETOOLONG, "nor of a directory");
    ok(put_bytes("new\nline\r\n;*", "x", 0) == 0 && exists("new\nline\r\n;*"), "any bytes in it");
    ok(put_bytes(".put-0", "mine", 0) == 0 && put_bytes("b", "x", 0) == 0 &&
           strcmp(content(root, ".put-0"), "mine") == 0,
       "a file may be called as our temporary ones");
    ok(put_bytes("a/b", "x", 0) == EISDIR && put_bytes("a", "x", 0) == EISDIR &&
           put_bytes("", "x", 0) == EISDIR,
       "a directory is not replaced");
    ok(put_bytes("a/b/c/d", "x", 0) == ENOTDIR && strcmp(content(root, "a/b/c"), "two") == 0,
       "nor is a file by a directory");
    make_link("../outside/secret", "link");
    ok(put_bytes("link", "x", 0) == 0 && S_ISREG(mode_of("link")) && outside_is_untouched(),
       "a link is replaced, not followed");
    (void)mkfifoat(root, "fifo", 0644);
    ok(put_bytes("fifo", "x", 0) == 0 && S_ISREG(mode_of("fifo")), "so is a FIFO, at once");
    set_mode(root, "a", 0500);
    ok(put_bytes("a/new", "x", 0) == EACCES, "no room for it: said so");
    set_mode(root, "a", 0700);
}

/* A sender that is slow, breaks off, or sends too much. */
static void test_put_in_part(void)
{
    struct proto_files_ask ask = ask_of(PROTO_FILES_PUT, "dir/part");
    int in[2], pair[2];
    fresh();
    for (int round = 0; round < 2; round++) {
        if (pipe2(in, O_CLOEXEC) < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) < 0)
            die(1, "pipe");
        static char chunk[1 << 16];
        pid_t pid = start(&ask, in[0], pair[1]);
        fd_close(&in[0]);
        fd_close(&pair[1]);
        for (int i = 0; i < 8; i++) /* more than a pipe holds: it has begun to write */
            if (fd_write_all(in[1], chunk, sizeof chunk) < 0)
                die(1, "write: %s", strerror(errno));
        ok(list("dir", 0, 0, "") == 0 && got.count == (size_t)round,
           "half a file is nowhere to be seen: \"%s\"", names);
        if (round == 0) {
            (void)kill(pid, SIGKILL);
            fd_close(&in[1]);
            (void)waitpid(pid, NULL, 0);
            ok(list("dir", 0, 0, "") == 0 && got.count == 0, "nor when the putting was killed");
            write_file(root, "dir/part", "old");
        } else {
            ok(strcmp(content(root, "dir/part"), "old") == 0, "an old one is there until then");
            fd_close(&in[1]);
            take_answers(pair[0]);
            (void)waitpid(pid, NULL, 0);
            ok(got.status == 0 && got.at[0].size == 8 * sizeof chunk, "then the new one is");
        }
        fd_close(&pair[0]);
    }
    auto_close int nine = fd_memfd_sealed("in", "nine char", 9);
    ask.bytes_max = 10;
    ok(run_ask(&ask, nine) == EPIPE, "fewer bytes than were announced");
    ask.bytes_max = 8;
    ok(run_ask(&ask, nine) == EFBIG, "or more");
    ok(list("dir", 0, 0, "") == 0 && got.count == 1 && got.at[0].size == 8 * 65536,
       "leave what was there, and nothing else: %s", names);
    ask.bytes_max = 9;
    ok(run_ask(&ask, nine) == 0 && strcmp(content(root, "dir/part"), "nine char") == 0,
       "as many: fine");
}

static void test_list(void)
{
    static const char *const made[] = {"b", "a-b", "a/x", "a/y/z", "B", "c", "a.txt"};
    fresh();
    for (size_t i = 0; i < ARRAY_LEN(made); i++)
        (void)put_bytes(made[i], "x", 0);
    ok(list("", 0, 0, "") == 0 && strcmp(names, "B a a-b a.txt b c") == 0, "list: %s", names);
    ok(got.at[1].kind == 'd' && got.at[2].kind == 'f' && got.at[2].size == 1, "kinds and sizes");
    ok(list("", 0, 6, "") == 0 && got.count == 6, "as many as are there");
    ok(list("", 0, 5, "") == E2BIG && strcmp(names, "B a a-b a.txt b") == 0,
       "the first of more: %s", names);
    ok(list("", 0, 2, "a-b") == E2BIG && strcmp(names, "a.txt b") == 0, "behind one: %s", names);
    ok(list("", 0, 2, "a.txt") == 0 && strcmp(names, "b c") == 0, "the end: %s", names);
    ok(list("", 0, 2, "zz") == 0 && got.count == 0, "behind all");
    ok(list("", PROTO_FILES_RECURSIVE, 0, "") == 0 &&
           strcmp(names, "B a a-b a.txt a/x a/y a/y/z b c") == 0,
       "the tree, by bytes: %s", names);
    ok(list("a", PROTO_FILES_RECURSIVE, 0, "") == 0 && strcmp(names, "x y y/z") == 0,
       "names are relative to the path: %s", names);
    ok(list("", PROTO_FILES_RECURSIVE, 3, "a/x") == E2BIG && strcmp(names, "a/y a/y/z b") == 0,
       "a page of a tree: %s", names);
    ok(list("b", 0, 0, "") == ENOTDIR && list("none", 0, 0, "") == ENOENT, "no directory");
}

/* Pages of a tree, however small, are together the tree. */
static void test_pages(void)
{
    char name[64], after[64] = "", last[64] = "";
    size_t total = 0, wrong = 0;
    int status = E2BIG;
    fresh();
    for (unsigned i = 0; i < 300; i++) {
        (void)snprintf(name, sizeof name, "%c%s%u/%u", "azA-"[i % 4], i % 3 ? "" : "/x", i % 7, i);
        const char *leaf;
        auto_close int dir = tree_open_parent(root, name, true, &leaf);
        write_file(dir, leaf, "x");
    }
    (void)list("", PROTO_FILES_RECURSIVE, 0, "");
    size_t all = got.count;
    while (status == E2BIG) {
        status = list("", PROTO_FILES_RECURSIVE, 7, after);
        for (size_t i = 0; i < got.count; i++) {
            wrong += strcmp(last, got.at[i].name) >= 0;
            (void)snprintf(last, sizeof last, "%s", got.at[i].name);
        }
        total += got.count;
        (void)snprintf(after, sizeof after, "%s", last);
    }
    ok(status == 0 && total == all && all > 300 && wrong == 0,
       "pages of seven make up the tree of %zu, each name once and in order", all);
}

static void test_delete(void)
{
    make_zoo();
    ok(request(PROTO_FILES_DELETE, "file") == 0 && !exists("file"), "delete: a file");
    ok(request(PROTO_FILES_DELETE, "out") == 0 && !exists("out") && outside_is_untouched(),
       "a link, not what it leads to");
    ok(request(PROTO_FILES_DELETE, "fifo") == 0 && request(PROTO_FILES_DELETE, "socket") == 0,
       "a FIFO, a socket");
    ok(request(PROTO_FILES_DELETE, "dir") == ENOTEMPTY && exists("dir/inner"), "no full directory");
    ok(request_with(PROTO_FILES_DELETE, "dir", PROTO_FILES_RECURSIVE) == 0 && !exists("dir"),
       "but that with all in it");
    ok(request(PROTO_FILES_DELETE, "dir") == ENOENT &&
           request_with(PROTO_FILES_DELETE, "dir", PROTO_FILES_RECURSIVE) == ENOENT,
       "once");
    ok(request_with(PROTO_FILES_DELETE, "", PROTO_FILES_RECURSIVE) == EBUSY, "never the home");
}

static void test_make_directory(void)
{
    fresh();
    ok(request(PROTO_FILES_MKDIR, "a/b/c") == 0 && mode_of("a/b/c") == (S_IFDIR | 0755),
       "mkdir with parents");
    ok(request(PROTO_FILES_MKDIR, "a/b/c") == 0 && request(PROTO_FILES_MKDIR, "") == 0,
       "there already: fine");
    write_file(root, "file", "x");
    ok(request(PROTO_FILES_MKDIR, "file") == ENOTDIR &&
           request(PROTO_FILES_MKDIR, "file/x") == ENOTDIR,
       "over a file: no");
}

static void test_collect(void)
{
    make_zoo();
    write_file(root, "dir/z", "zzz");
    write_file(root, "dir/new\nline", "x");
    ok(linkat(root, "file", root, "dir/second name", 0) == 0, "a file with two names");
    ok(collect("", 0, 0) == 0 && got.fds == 5 && got.dropped == 0 &&
           strcmp(names, "dir/inner dir/new\nline dir/second name dir/z file") == 0,
       "collect takes regular files alone, with names of any bytes: %s", names);
    ok(collect("dir", 2, 0) == 0 && got.fds == 2 && got.dropped == 2 &&
           strcmp(names, "inner new\nline") == 0,
       "at most so many; the rest is counted");
    auto_close int sparse = openat(root, "dir/a-sparse", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    ok(ftruncate(sparse, 1ll << 40) == 0, "a sparse file of a terabyte");
    ok(collect("dir", 100, 1 << 20) == 0 && got.fds == 4 && got.dropped == 1,
       "is too large, the others are not");
    set_mode(root, "dir/z", 0);
    ok(collect("dir", 100, 1 << 20) == 0 && got.fds == 3 && got.count == 4 &&
           got.at[3].status == EACCES,
       "one that its owner made unreadable is told as such");
    ok(collect("none", 0, 0) == ENOENT && collect("file", 0, 0) == ENOTDIR, "no directory");
}

/* It lives until its reader hangs up, so that no later run changes what is read. */
static void test_collect_waits(void)
{
    struct proto_files_ask ask = ask_of(PROTO_FILES_COLLECT, "");
    int pair[2], pid_fd;
    make_zoo();
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        die(1, "socketpair");
    pid_t pid = start(&ask, -1, pair[1]);
    fd_close(&pair[1]);
    pid_fd = (int)syscall(SYS_pidfd_open, pid, 0);
    take_answers(pair[0]);
    struct pollfd ended = {.fd = pid_fd, .events = POLLIN};
    ok(got.status == 0 && poll(&ended, 1, 100) == 0, "after its last answer it waits");
    fd_close(&pair[0]);
    ok(poll(&ended, 1, WAIT_MS) == 1 && waitpid(pid, NULL, 0) == pid, "until nobody reads");
    fd_close(&pid_fd);
}

/* ---- attacks ----------------------------------------------------------------------------------
 */

static void make_traps(void)
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

static void test_paths(void)
{
    static const char *const out[] = {"..",
                                      "../outside/secret",
                                      "../outside",
                                      "a/..",
                                      "a/../..",
                                      "a/../../outside",
                                      "/",
                                      "/etc/passwd",
                                      "a//b",
                                      "a/",
                                      "/a",
                                      "./a",
                                      "a/./b",
                                      ".",
                                      "a/.",
                                      "out/secret",
                                      "out/new",
                                      "out/dir/secret",
                                      "a/out/secret",
                                      "a/out/new",
                                      "a/b/out/new",
                                      "a/b/out/secret",
                                      "proc/etc",
                                      "proc/tmp/new",
                                      "zero/x",
                                      "up/outside/secret",
                                      "up/new",
                                      "inside/b/new",
                                      "loop/x",
                                      "a/b/out/../../secret"};
    static const enum proto_files_op ops[] = {
        PROTO_FILES_STAT,   PROTO_FILES_GET,   PROTO_FILES_PUT,    PROTO_FILES_LIST,
        PROTO_FILES_DELETE, PROTO_FILES_MKDIR, PROTO_FILES_COLLECT};
    make_traps();
    for (size_t i = 0; i < ARRAY_LEN(out); i++) {
        unsigned refused = 0, fds = 0;
        for (size_t k = 0; k < ARRAY_LEN(ops); k++) {
            auto_close int in = fd_memfd_sealed("in", "evil", 4);
            struct proto_files_ask ask = ask_of(ops[k], out[i]);
            ask.flags = PROTO_FILES_RECURSIVE;
            refused += run_ask(&ask, in) > 0 && got.count == 0;
            fds += got.fd >= 0;
        }
        ok(refused == ARRAY_LEN(ops) && fds == 0 && outside_is_untouched(),
           "nothing is done with %s", out[i]);
    }
    ok(exists("a/b") && S_ISLNK(mode_of("out")) && S_ISLNK(mode_of("loop")),
       "the traps still stand");
    ok(list("out", 0, 0, "") == ELOOP && collect("out", 0, 0) == ELOOP, "a link is no directory");
    ok(list("", PROTO_FILES_RECURSIVE, 0, "") == 0 && got.count == 10 && !strstr(names, "secret"),
       "nor in the tree: %s", names);
    ok(collect("", 0, 0) == 0 && got.count == 0, "nor for collecting");
}

static void test_asks(void)
{
    struct proto_files_ask ask = ask_of(PROTO_FILES_STAT, "a");
    ask.magic++;
    ok(run_ask(&ask, -1) == EINVAL, "another magic");
    for (uint32_t op = 0; op < 12; op++) {
        ask = ask_of(PROTO_FILES_STAT, "a");
        ask.op = op == 11 ? UINT32_MAX : op;
        if (op == 0 || op > PROTO_FILES_COLLECT)
            ok(run_ask(&ask, -1) == EINVAL, "operation %u", ask.op);
    }
    ask = ask_of(PROTO_FILES_STAT, "a");
    ask.flags = 4;
    ok(run_ask(&ask, -1) == EINVAL, "a flag that is none");
    ask = ask_of(PROTO_FILES_STAT, "");
    memset(ask.path, 'a', sizeof ask.path);
    ok(run_ask(&ask, -1) == EINVAL, "a path without an end");
    ask = ask_of(PROTO_FILES_LIST, "");
    memset(ask.after, 'a', sizeof ask.after);
    ok(run_ask(&ask, -1) == EINVAL, "a name without an end");
    memset(ask.path, 'a', PROTO_FILES_PATH_MAX);
    ask.after[0] = 0;
    ask.after[PROTO_FILES_PATH_MAX] = 0;
    ok(run_ask(&ask, -1) == ENAMETOOLONG, "the longest path there can be");
}

static void dig(const char *name, unsigned levels)
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

static void test_deep(void)
{
    fresh();
    dig("d", DEEP);
    ok(list("", PROTO_FILES_RECURSIVE, 100, "") == E2BIG && got.count == 100,
       "%u levels: the first names", DEEP);
    ok(list("", PROTO_FILES_RECURSIVE, 0, "") == 0 && got.dropped > 0,
       "all names that can be told; the others are counted");
    ok(collect("d", 10, 0) == 0 && got.fds == 10 && got.dropped > 1000, "ten of its files");
    ok(request_with(PROTO_FILES_DELETE, "d", PROTO_FILES_RECURSIVE) == 0 && !exists("d"),
       "and all of it is deleted");
    dig("d", 40);
    for (unsigned i = 0; i < 100; i++) { /* names that our own would take */
        char path[64];
        (void)snprintf(path, sizeof path, "d/.removed-%u", i);
        if (i % 2)
            write_file(root, path, "x");
        else
            (void)mkdirat(root, path, 0755);
        (void)snprintf(path, sizeof path, "d/.removed-%u/x", i);
        (void)mkdirat(root, path, 0755);
    }
    ok(request_with(PROTO_FILES_DELETE, "d", PROTO_FILES_RECURSIVE) == 0 && !exists("d"),
       "also where names are taken");
}

static void test_modes(void)
{
    fresh();
    (void)mkdirat(root, "d", 0755);
    (void)mkdirat(root, "d/shut", 0755);
    write_file(root, "d/shut/f", "x");
    (void)mkdirat(root, "d/shut/in", 0755);
    write_file(root, "d/shut/in/f", "x");
    set_mode(root, "d/shut/in", 0);
    set_mode(root, "d/shut", 0);
    ok(list("d/shut", 0, 0, "") == EACCES, "a directory that is shut");
    ok(list("d", PROTO_FILES_RECURSIVE, 0, "") == 0 && strcmp(names, "shut") == 0 &&
           got.dropped == 1,
       "in a tree: told and left out");
    ok(collect("d", 0, 0) == 0 && got.count == 0 && got.dropped == 1, "when collecting, too");
    ok(request_with(PROTO_FILES_DELETE, "d", PROTO_FILES_RECURSIVE) == 0 && !exists("d"),
       "deleted all the same");
    fresh();
    dig("d", 30);
    char path[128] = "d";
    for (unsigned i = 1; i < 29; i++)
        (void)snprintf(path + strlen(path), sizeof path - strlen(path), "/d");
    for (unsigned i = 29; i > 0; i--) {
        set_mode(root, path, i % 2 ? 0 : 0500);
        path[strlen(path) - (i > 1 ? 2 : 0)] = 0;
    }
    ok(request_with(PROTO_FILES_DELETE, "d", PROTO_FILES_RECURSIVE) == 0 && !exists("d"),
       "one below the other");
}

static void test_many(void)
{
    char name[32];
    fresh();
    (void)mkdirat(root, "d", 0755);
    auto_close int dir = openat(root, "d", O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (unsigned i = 0; i < MANY; i++) {
        (void)snprintf(name, sizeof name, "%05u", (i * 7919u) % MANY);
        if (mknodat(dir, name, S_IFREG | 0644, 0) < 0)
            die(1, "mknod: %s", strerror(errno));
    }
    ok(collect("d", 50, 0) == 0 && got.fds == 50 && got.dropped == MANY - 50 &&
           strcmp(got.at[49].name, "00049") == 0,
       "%u files: the first fifty are collected", MANY);
    ok(list("d", 0, 1000, "50000") == E2BIG && got.count == 1000 &&
           strcmp(got.at[0].name, "50001") == 0 && strcmp(got.at[999].name, "51000") == 0,
       "a page out of the middle");
    ok(list("d", 0, 0, "") == 0 && got.count == ANSWERS_ROOM, "all of them");
    write_file(dir, "one more", "x");
    ok(list("d", 0, 0, "") == E2BIG, "and not one more");
    ok(request_with(PROTO_FILES_DELETE, "d", PROTO_FILES_RECURSIVE) == 0 && !exists("d"),
       "deleted");
}

/* ---- placing ----------------------------------------------------------------------------------
 */

static int place_at(const char *path, int fd, uint32_t flags)
{
    char copy[600];
    char *paths[] = {copy, NULL};
    struct child_job job = {.places = paths, .place_count = path ? 1 : 0};
    (void)snprintf(copy, sizeof copy, "%s", path ? path : "");
    return -place_files(root, &job, flags, &fd);
}

static void test_place(void)
{
    auto_close int code = fd_memfd_sealed("code", "print(1)", 8);
    auto_close int zero = fd_memfd_sealed("none", "", 0);
    make_traps();
    ok(place_at("main.py", code, 0) == 0 && strcmp(content(root, "main.py"), "print(1)") == 0 &&
           mode_of("main.py") == (S_IFREG | 0644),
       "a file is placed");
    (void)lseek(code, 5, SEEK_SET);
    ok(place_at("x/y/main.py", code, 0) == 0 &&
           strcmp(content(root, "x/y/main.py"), "print(1)") == 0,
       "with directories, from its beginning");
    ok(place_at("main.py", zero, 0) == 0 && strcmp(content(root, "main.py"), "") == 0,
       "it replaces another, also with nothing");
    make_link("../outside/secret", "link");
    (void)mkfifoat(root, "fifo", 0644);
    ok(place_at("link", code, 0) == 0 && S_ISREG(mode_of("link")) && outside_is_untouched(),
       "a link is replaced");
    ok(place_at("fifo", code, 0) == 0 && S_ISREG(mode_of("fifo")), "a FIFO is, at once");
    ok(place_at("a", code, 0) == EISDIR && exists("a/b"), "a directory is not");
    ok(place_at("out/new", code, 0) == ELOOP && place_at("a/b/out/secret", code, 0) == ELOOP &&
           place_at("inside/x", code, 0) == ELOOP && place_at("main.py/x", code, 0) == ENOTDIR &&
           outside_is_untouched(),
       "no link is followed on the way");
    static const char *const wrong[] = {"",     "..", "../new", "/new", "a/../../new",
                                        "a//x", "x/", "."};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        ok(place_at(wrong[i], code, 0) == EINVAL, "no path: \"%s\"", wrong[i]);
    ok(outside_is_untouched(), "nothing was touched");
}

static void test_place_what(void)
{
    int ends[2];
    auto_close int open_memfd = memfd_create("open", MFD_CLOEXEC);
    auto_close int dir = open(".", O_RDONLY | O_CLOEXEC), null = open("/dev/zero", O_RDONLY);
    auto_close int read_only = openat(outside, "secret", O_RDONLY | O_CLOEXEC);
    auto_close int path = openat(outside, "secret", O_PATH | O_CLOEXEC);
    auto_close int writable = openat(outside, "secret", O_RDWR | O_CLOEXEC);
    auto_close int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (pipe2(ends, O_CLOEXEC) < 0)
        die(1, "pipe");
    ok(place_at("f", ends[0], 0) == EINVAL && place_at("f", sock, 0) == EINVAL,
       "no pipe, no socket");
    ok(place_at("f", null, 0) == EINVAL && place_at("f", dir, 0) == EINVAL,
       "no device, no directory");
    ok(place_at("f", open_memfd, 0) == EINVAL && place_at("f", writable, 0) == EINVAL &&
           place_at("f", path, 0) == EINVAL && place_at("f", -1, 0) == EINVAL,
       "nothing that is open for writing, or not at all");
    ok(!exists("f") && place_at("f", read_only, 0) == 0 && strcmp(content(root, "f"), SECRET) == 0,
       "a read-only file, by its descriptor");
    fd_close(&ends[0]);
    fd_close(&ends[1]);
}

static void test_empty(void)
{
    auto_close int code = fd_memfd_sealed("code", "x", 1);
    fresh();
    ok(place_at(NULL, -1, ZYG_EMPTY_OUTPUTS) == 0 && mode_of("outputs") == (S_IFDIR | 0755),
       "outputs is made");
    (void)put_bytes("outputs/a/b", "x", 0);
    set_mode(root, "outputs", 0);
    ok(place_at(NULL, -1, ZYG_EMPTY_OUTPUTS) == 0 && list("outputs", 0, 0, "") == 0 &&
           got.count == 0 && mode_of("outputs") == (S_IFDIR | 0755),
       "and made empty, whatever its mode was");
    (void)tree_remove(root, "outputs");
    make_link("../outside", "outputs");
    ok(place_at(NULL, -1, ZYG_EMPTY_OUTPUTS) == 0 && S_ISDIR(mode_of("outputs")) &&
           outside_is_untouched(),
       "a link in its place goes");
    (void)tree_remove(root, "outputs");
    (void)mkfifoat(root, "outputs", 0644);
    ok(place_at(NULL, -1, ZYG_EMPTY_OUTPUTS) == 0 && S_ISDIR(mode_of("outputs")), "a FIFO does");
    make_link("../../outside", "outputs/m");
    dig("outputs", 60);
    ok(place_at(NULL, -1, ZYG_EMPTY_OUTPUTS) == 0 && outside_is_untouched() &&
           list("outputs", 0, 0, "") == 0 && got.count == 0,
       "a deep one is emptied");
    (void)put_bytes(".run/old", "x", 0);
    (void)put_bytes("keep", "x", 0);
    ok(place_at(".run/main.py", code, ZYG_EMPTY_SOURCE) == 0 && !exists(".run/old") &&
           exists(".run/main.py") && exists("keep"),
       "the directory of the program is emptied before");
    (void)tree_remove(root, ".run");
    make_link("../outside", ".run");
    ok(place_at(".run/new", code, ZYG_EMPTY_SOURCE) == 0 && S_ISDIR(mode_of(".run")) &&
           outside_is_untouched(),
       "a link in its place goes");
    ok(place_at("main.py", code, ZYG_EMPTY_SOURCE) == EINVAL && exists("keep") &&
           place_at(NULL, -1, ZYG_EMPTY_SOURCE) == EINVAL && exists("keep"),
       "never the home");
}

/* ---- races ------------------------------------------------------------------------------------
 */

/* Swaps a directory and a link out of the volume until it is killed. */
_Noreturn static void swap(void)
{
    for (;;)
        (void)syscall(SYS_renameat2, root, "d", root, "l", 2 /* RENAME_EXCHANGE */);
}

static bool one_race(const struct proto_files_ask *ask, int pair[2])
{
    auto_close int in = fd_memfd_sealed("in", "evil", 4), fd = -1;
    struct files f = {.root = root, .in = in, .out = pair[1], .ask = ask};
    struct proto_files_answer a = {0};
    files_serve(&f);
    while (!a.last) {
        fd_close(&fd);
        if (receive(pair[0], &a, &fd) <= 0 || (fd >= 0 && strcmp(content_of(fd), SECRET) == 0) ||
            strstr(a.name, "dir")) /* which is outside only */
            return false;
    }
    return true;
}

static void test_races(void)
{
    static const struct {
        enum proto_files_op op;
        const char *path;
    } asks[] = {{PROTO_FILES_PUT, "d/new"},       {PROTO_FILES_GET, "d/secret"},
                {PROTO_FILES_DELETE, "d/secret"}, {PROTO_FILES_PUT, "d/secret"},
                {PROTO_FILES_LIST, "d"},          {PROTO_FILES_MKDIR, "d/new"},
                {PROTO_FILES_LIST, ""},           {PROTO_FILES_DELETE, "d"},
                {PROTO_FILES_MKDIR, "d/sub/x"}};
    auto_close int code = fd_memfd_sealed("code", "x", 1);
    int pair[2];
    unsigned wrong = 0;
    fresh();
    (void)mkdirat(root, "d", 0755);
    make_link("../outside", "l");
    pid_t pid = fork();
    if (pid == 0)
        swap();
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        die(1, "socketpair");
    for (unsigned i = 0; i < 5000; i++) {
        struct proto_files_ask ask =
            ask_of(asks[i % ARRAY_LEN(asks)].op, asks[i % ARRAY_LEN(asks)].path);
        ask.flags = PROTO_FILES_RECURSIVE;
        wrong += !one_race(&ask, pair);
        (void)place_at("d/new", code, 0);
        (void)place_at("d/new", code, ZYG_EMPTY_SOURCE);
        (void)mkdirat(root, "d", 0755);
        if (i % 64 == 0 && !S_ISLNK(mode_of("l")) && !S_ISLNK(mode_of("d")))
            (void)tree_remove(root, "l"), make_link("../outside", "l");
    }
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    ok(wrong == 0, "a directory that turns into a link and back: nothing outside was told");
    ok(outside_is_untouched(), "nor touched");
    fd_close(&pair[0]);
    fd_close(&pair[1]);
}

int main(void)
{
    set_up();
    int before = fd_count_open();
    make_zoo();
    test_stat();
    test_get();
    test_put();
    test_put_in_part();
    test_list();
    test_pages();
    test_delete();
    test_make_directory();
    test_collect();
    test_collect_waits();
    test_paths();
    test_asks();
    test_deep();
    test_modes();
    test_many();
    test_place();
    test_place_what();
    test_empty();
    test_races();
    fd_close(&root);
    fd_close(&got.fd);
    ok(fd_count_open() == before, "no descriptor is left open");
    (void)tree_remove(AT_FDCWD, "work");
    (void)tree_remove(AT_FDCWD, "outside");
    (void)rmdir(base);
    return tap_done();
}
