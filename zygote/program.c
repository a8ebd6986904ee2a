/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/program - the one place where a child becomes a program that was asked for by its argv,
 * without a shell in between.
 *
 * The program is looked for as execvp(3) does, but in the PATH of the run: that of this process is
 * the zygote's. What fails is the program's failure, told on its stderr with the exit status that a
 * shell would give.
 */
#include "zygote/zyg.h"
#include <limits.h>
#include <string.h>

#define NOT_FOUND 127
#define NOT_EXECUTABLE 126

static const char *find_path(char *const *env)
{
    for (; *env; env++)
        if (strncmp(*env, "PATH=", 5) == 0)
            return *env + 5;
    return "";
}

/* Returns what is to be said when nothing was found: EACCES if there was something. */
static int try_path(const char *path, char *const *argv, char *const *env)
{
    char file[PATH_MAX];
    int error = ENOENT;
    for (;;) {
        size_t len = strcspn(path, ":");
        const char *dir = len ? path : "."; /* as an empty part is meant */
        int n = snprintf(file, sizeof file, "%.*s/%s", len ? (int)len : 1, dir, argv[0]);
        if (n > 0 && (size_t)n < sizeof file) {
            (void)SYS(execve(file, argv, env));
            if (errno == EACCES)
                error = EACCES;
            else if (errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG)
                return errno;
        }
        if (!path[len])
            return error;
        path += len + 1;
    }
}

static void say(const char *name, int error)
{
    const char *what = strerrordesc_np(error); /* strerror() may read a catalogue of the tenant's */
    if (error == ENOENT && !strchr(name, '/'))
        what = "command not found";
    (void)dprintf(2, "brood: %s: %s\n", name, what ? what : "cannot execute");
}

void child_become_program(char *const *argv, char *const *env)
{
    int error = ENOENT;
    (void)signal(SIGQUIT, SIG_DFL); /* what a shell ignores for itself; an exec keeps that */
    zyg_leave();
    if (strchr(argv[0], '/')) {
        (void)SYS(execve(argv[0], argv, env));
        error = errno;
    } else if (*argv[0]) {
        error = try_path(find_path(env), argv, env);
    }
    zyg_stay();
    say(argv[0], error);
    _exit(error == ENOENT || error == ENOTDIR ? NOT_FOUND : NOT_EXECUTABLE);
}
