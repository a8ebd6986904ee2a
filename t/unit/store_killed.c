/* SPDX-License-Identifier: Apache-2.0 */
/* t/unit/store_killed - what was told is there after a kill at any step, and nothing half; what is
 * damaged, or another's, is refused. (A power cut: t/unit/store_power.)
 */
#include "lib/tap.h"
#include "t/lib/store_objects.h"
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

static void expect_refusal(const char *what, const char *text)
{
    struct store *s = NULL;
    struct err err = {0};
    int before = fd_count_open(), r = store_open(dir_fd, &no_limits, &s, &err);
    ok(r < 0 && strstr(err.text, text) && fd_count_open() == before, "%s: %s", what, err.text);
}

static void spoil(off_t at, const char *bytes, size_t len)
{
    int fd = openat(dir_fd, "store.db", O_WRONLY);
    (void)!pwrite(fd, bytes, len, at);
    (void)close(fd);
}

static void make_one(void)
{
    struct store_object o;
    new_directory();
    struct store *s = open_store(&no_limits);
    (void)put(s, "k", "content", true, &o);
    store_close(s);
}

static void test_damage(void)
{
    char noise[8192];
    memset(noise, 'x', sizeof noise);
    make_one();
    struct store *s = open_store(&no_limits);
    pid_t pid = fork();
    if (pid == 0) {
        struct store *second = NULL;
        struct err err = {0};
        _exit(store_open(dir_fd, &no_limits, &second, &err) < 0 && strstr(err.text, "in use") ? 7
                                                                                              : 1);
    }
    int status = 0;
    (void)waitpid(pid, &status, 0);
    ok(WIFEXITED(status) && WEXITSTATUS(status) == 7, "a second process is refused");
    store_close(s);
    spoil(0, noise, 100);
    expect_refusal("a spoilt header", "store.db");
    make_one();
    spoil(4096 + 8, noise, 4000);
    expect_refusal("a spoilt page", "damaged");
    make_one();
    (void)unlinkat(dir_fd, "store.db", 0);
    (void)unlinkat(dir_fd, "store.db-wal", 0);
    expect_refusal("no database, but contents", "missing");
    ok(files_below_objects() == 1, "which stay");
    (void)close(openat(dir_fd, "store.db", O_CREAT | O_WRONLY, 0600));
    expect_refusal("an empty one", "missing");
    make_one();
    s = open_store(&no_limits);
    ok(sqlite3_exec(s->db, "PRAGMA user_version = 1000", NULL, NULL, NULL) == SQLITE_OK, "later");
    store_close(s);
    expect_refusal("of a later version", "later brood");
    new_directory();
    ok(symlinkat("/tmp/brood-nowhere", dir_fd, "store.db") == 0, "somebody left a link");
    expect_refusal("a link", "store.db");
    ok(access("/tmp/brood-nowhere", F_OK) < 0, "is not followed");
}

/* ---- kill -9 ----------------------------------------------------------------------------------
 */

#define KILL_KEY "k"

/* What the child does, telling (on fd) what it was told. One byte each: so far, all is durable. */
static void work(int tell)
{
    const struct store_settings set = {.runs_max = 2};
    struct store *s = open_store(&set);
    char id[STORE_ID_ROOM], text[64];
    for (int i = 0; s && i < 4; i++) {
        struct store_object o, upload;
        (void)snprintf(text, sizeof text, "artifact %d", i % 3);
        (void)snprintf(id, sizeof id, "run_%d", i);
        if (put(s, KILL_KEY, text, false, &o) || put(s, KILL_KEY, "upload", true, &upload) ||
            put_run(s, id, KILL_KEY, 1000 + i, id, &o, 1))
            _exit(9);
        (void)!write(tell, "1", 1);
    }
    store_close(s);
    (void)!write(tell, "2", 1);
}

static bool survives(int told)
{
    struct store *s = open_store(&no_limits);
    struct store_call c;
    char id[STORE_ID_ROOM];
    bool good = s && is_consistent(s);
    for (int i = told > 2 ? told - 2 : 0; good && i < told && i < 4; i++) {
        (void)snprintf(id, sizeof id, "run_%d", i);
        int error = get_run(s, id, KILL_KEY, &c);
        /* A turn that was not told of may have gone on to drop the oldest. */
        good = error == 0 ? strcmp(c.run.json, id) == 0 && c.run.artifact_count == 1
                          : i < told - 1 || told == 0;
        free_run(&c);
    }
    good = good && ask(s, "SELECT count(*) FROM files WHERE upload") >= (told < 4 ? told : 4);
    store_close(s);
    return good;
}

/* Kills at the nth system call. -1: it ended before. */
static int killed_at(int nth, int *ret_told)
{
    int pipe_fds[2], status, calls = 0;
    char byte;
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        (void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        (void)raise(SIGSTOP);
        work(pipe_fds[1]);
        _exit(0);
    }
    (void)close(pipe_fds[1]);
    (void)waitpid(pid, &status, 0);
    while (WIFSTOPPED(status) && calls < nth) {
        (void)ptrace(PTRACE_SYSCALL, pid, NULL, NULL);
        (void)waitpid(pid, &status, 0);
        calls++;
    }
    bool ended = WIFEXITED(status);
    (void)kill(pid, SIGKILL);
    if (!ended)
        (void)waitpid(pid, &status, 0);
    for (*ret_told = 0; read(pipe_fds[0], &byte, 1) == 1;)
        *ret_told += byte == '1';
    (void)close(pipe_fds[0]);
    return ended ? -1 : 0;
}

static void test_kill_at_each_step(void)
{
    int told = 0, bad = 0, n = 1, step = getenv("ALL_STEPS") ? 1 : 5;
    for (;; n += step) {
        new_directory();
        int r = killed_at(n, &told);
        if (!survives(told)) {
            printf("# killed at system call %d, told of %d\n", n, told);
            bad++;
        }
        if (r < 0)
            break;
    }
    ok(n > 500 && told == 4, "%d stops of system calls, told of %d", n, told);
    ok(bad == 0, "killed at any of them: what was told is there, and nothing half");
}

static void test_kill_at_random(void)
{
    int bad = 0, cut = 0;
    new_directory();
    for (int i = 0; i < 200; i++) {
        int status;
        pid_t pid = fork();
        if (pid == 0) {
            struct store *s = open_store(&(struct store_settings){.runs_max = 3});
            struct err err;
            if (!s || store_start(s, &err) < 0)
                _exit(9);
            (void)call_often(s);
            _exit(0);
        }
        struct timespec pause = {.tv_nsec = (i * 7919L) % 20000000};
        (void)nanosleep(&pause, NULL);
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, &status, 0);
        cut += WIFSIGNALED(status);
        struct store *s = open_store(&no_limits);
        if (!s || !is_consistent(s)) {
            printf("# round %d\n", i);
            bad++;
        }
        store_close(s);
    }
    ok(cut > 150 && bad == 0, "killed at random, %d of 200 times: nothing half", cut);
}

int main(void)
{
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    store_place = "/tmp"; /* in memory the work would be over before most kills */
    test_damage();
    test_kill_at_each_step();
    test_kill_at_random();
    remove_directory();
    return tap_done();
}
