/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/probe - the attacker's questions, asked at every start from the place of a run.
 *
 * Runs in a child of a throw-away zygote, behind all that child.c does for a run: uid 1000, all
 * kernel namespaces, cgroups, landlock, seccomp, rlimits. Nothing here reads a version or believes
 * a return value of the set-up; each question tries what its layer is there to refuse, or reads
 * back from the kernel what cannot be tried without harm. An attempt that succeeds is undone as far
 * as it can be. What is left in the volume goes with it.
 *
 * What is asked fits the policy of that zygote: what its own rights, profile or network allow is no
 * question. Where two layers refuse the same thing, the question is put so that only one of them
 * can: a broken layer must not hide behind the next one. After fork: raw calls, no malloc. Each of
 * the probe_*.c has a table of questions; here is what they ask with, and the asking.
 */
#include "zygote/probe.h"
#include "lib/fd.h"
#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/syscall.h>

struct zyg_probe_ask probe_ask;
bool probe_exec_follows;

struct probe_finding probe_say(enum zyg_probe_state state, const char *fmt, ...)
{
    struct probe_finding f = {.state = state};
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(f.detail, sizeof f.detail, fmt, ap);
    va_end(ap);
    return f;
}

struct probe_finding probe_must_fail(long r)
{
    return r < 0 ? probe_say(ZYG_HELD, "%s", strerrorname_np(errno))
                 : probe_say(ZYG_BROKEN, "it works");
}

struct probe_finding probe_must_not_open(const char *path, int flags)
{
    auto_close int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK, 0600);
    return probe_must_fail(fd);
}

bool probe_read_text(const char *path, char *text, size_t room)
{
    auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, room - 1);
    text[n > 0 ? n : 0] = 0;
    return n >= 0;
}

bool probe_find_entry(const char *path, bool (*visit)(const char *name, int dir_fd), char *ret,
                      size_t room)
{
    char bytes[4096];
    auto_close int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (long n; dir >= 0 && (n = syscall(SYS_getdents64, dir, bytes, sizeof bytes)) > 0;)
        for (long at = 0; at < n;) {
            const struct dirent64 *e = (const void *)(bytes + at);
            at += e->d_reclen;
            if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
                !visit(e->d_name, dir))
                continue;
            (void)snprintf(ret, room, "%s", e->d_name);
            return true;
        }
    return false;
}

static void answer(const struct probe_question *q, struct zyg_probe_answer *a)
{
    errno = 0;
    struct probe_finding f = q->ask();
    a->layer = q->layer;
    a->state = f.state;
    (void)snprintf(a->question, sizeof a->question, "%s", q->text);
    (void)snprintf(a->detail, sizeof a->detail, "%s", f.detail);
}

void probe_main(const void *asked, bool execs)
{
    static const struct probe_part *const parts[] = {&probe_ns, &probe_rules, &probe_files,
                                                     &probe_last};
    static struct zyg_probe_answer answers[ZYG_PROBE_QUESTIONS_MAX];
    size_t n = 0;
    char byte;
    memcpy(&probe_ask, asked, sizeof probe_ask);
    probe_exec_follows = execs;
    (void)signal(SIGCHLD, SIG_DFL); /* bash's handler would reap what questions fork */
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        for (size_t q = 0; q < parts[i]->count; q++) {
            assert(n < ARRAY_LEN(answers) - 1);
            answer(&parts[i]->questions[q], &answers[n++]);
        }
    size_t bytes = (n + 1) * sizeof answers[0]; /* the last is the end */
    if (write(1, answers, bytes) != (ssize_t)bytes)
        _exit(1);
    while (read(0, &byte, 1) > 0)
        ;
    _exit(0);
}
