/* SPDX-License-Identifier: Apache-2.0 */
/* t/unit/files - work on a tenant's files: each operation does what it says, and no more. The
 * attacker who owns the directory is t/unit/files_hostile.
 */
#include "t/lib/files_help.h"
#include <poll.h>
#include <sys/syscall.h>
#include <sys/un.h>

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
    ok(collect("dir", 1, 1 << 20) == 0 && got.fds == 1 && got.dropped == 4 &&
           strcmp(names, "inner") == 0,
       "and takes nobody's place: %s", names);
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
    tear_down(before);
    return tap_done();
}
