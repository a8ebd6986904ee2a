/* SPDX-License-Identifier: Apache-2.0 */
/* bench/spawn - the baseline: a program started with posix_spawn(3), its stdout captured.
 *
 * Runs with the rights of whoever runs the benchmark, without any sandbox. The baseline does the
 * same work - the environment is that of a run, locale included - and is given every advantage
 * otherwise: an absolute path (no search), inherited stdin and stderr, and posix_spawn, which
 * shares memory with its child instead of copying page tables.
 */
#include "bench/bench.h"
#include "lib/fd.h"
#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>

static char env_path[] = "PATH=/usr/local/bin:/usr/bin:/bin", env_lang[] = "LANG=C.UTF-8";
static char env_home[] = "HOME=/tmp", env_user[] = "USER=user";
static char *const plain_env[] = {env_home, env_user, env_path, env_lang, NULL};

static int start(char *const argv[], int out_fd, pid_t *ret, struct err *err)
{
    posix_spawn_file_actions_t actions;
    int rc;

    if (posix_spawn_file_actions_init(&actions) != 0)
        return err_set(err, "no memory to spawn");
    rc = posix_spawn_file_actions_adddup2(&actions, out_fd, 1);
    if (rc == 0)
        rc = posix_spawn(ret, argv[0], &actions, NULL, argv, plain_env);
    posix_spawn_file_actions_destroy(&actions);
    errno = rc;
    return rc == 0 ? 0 : err_sys(err, "spawn %s", argv[0]);
}

int spawn_once(char *const argv[], const char *expect, double *ret_us, struct err *err)
{
    auto_close int read_fd = -1;
    int pair[2], status, r;
    char out[256];
    size_t len = 0;
    ssize_t n;
    pid_t pid;
    uint64_t t0 = clock_now_ns();

    if (pipe2(pair, O_CLOEXEC) < 0)
        return err_sys(err, "pipe");
    read_fd = pair[0];
    r = start(argv, pair[1], &pid, err);
    (void)close(pair[1]);
    if (r < 0)
        return r;
    while ((n = read(read_fd, out + len, sizeof out - 1 - len)) > 0)
        len += (size_t)n;
    if (waitpid(pid, &status, 0) != pid)
        return err_sys(err, "wait for %s", argv[0]);
    *ret_us = (double)(clock_now_ns() - t0) / 1e3;
    out[len] = 0;
    if (status != 0 || strcmp(out, expect) != 0)
        return err_set(err, "%s: wait status %d, output \"%.100s\" where \"%.40s\" was expected",
                       argv[0], status, out, expect);
    return 0;
}

/* One worker: counts its runs into shared memory; a failure is told by the exit status. */
static _Noreturn void work(char *const argv[], const char *expect, uint64_t end_ns, uint64_t *count)
{
    struct err err = {0};
    double us;

    while (clock_now_ns() < end_ns) {
        if (spawn_once(argv, expect, &us, &err) < 0)
            die(1, "%s", err.text);
        ++*count;
    }
    _exit(0);
}

int spawn_rate(char *const argv[], const char *expect, unsigned workers, uint64_t span_ns,
               double *ret_rate, struct err *err)
{
    uint64_t *counts, total = 0, t0 = clock_now_ns();
    size_t size = workers * 64; /* a cache line each */
    unsigned failed = 0;
    double took;

    counts = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (counts == MAP_FAILED)
        return err_sys(err, "map counters");
    (void)fflush(stdout);
    for (unsigned i = 0; i < workers; i++) {
        pid_t pid = fork();
        if (pid == 0)
            work(argv, expect, t0 + span_ns, counts + (size_t)i * 8);
        failed += pid < 0;
    }
    for (unsigned i = failed; i < workers; i++) {
        int status = 1;
        failed += wait(&status) < 0 || status != 0;
    }
    took = (double)(clock_now_ns() - t0) / 1e9;
    for (unsigned i = 0; i < workers; i++)
        total += counts[(size_t)i * 8];
    (void)munmap(counts, size);
    if (failed)
        return err_set(err, "%u of %u baseline workers failed", failed, workers);
    *ret_rate = (double)total / took;
    return 0;
}
