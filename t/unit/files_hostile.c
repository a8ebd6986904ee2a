/* SPDX-License-Identifier: Apache-2.0 */
/* t/unit/files_hostile - work on files for an attacker who owns the directory and lays out links,
 * pipes, deep and huge trees and races. Nothing outside of it may be read or touched, and nothing
 * may block.
 */
#include "t/lib/files_help.h"
#include <signal.h>
#include <sys/syscall.h>

#define DEEP 5000
#define MANY 100000

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
    test_paths();
    test_asks();
    test_deep();
    test_modes();
    test_many();
    test_races();
    tear_down(before);
    return tap_done();
}
