/* SPDX-License-Identifier: Apache-2.0 */
/* t/unit/files_placed - the code and the files that come with a run are placed where they belong,
 * and outputs begin empty, whatever the tenant has left in their places.
 */
#include "t/lib/files_help.h"

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

int main(void)
{
    set_up();
    int before = fd_count_open();
    test_place();
    test_place_what();
    test_empty();
    tear_down(before);
    return tap_done();
}
