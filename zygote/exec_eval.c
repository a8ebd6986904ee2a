/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/exec_eval - the static fallback: the same zygote where the image's bash cannot hold our
 * builtin. The program is exec'ed by priv inside the image; its child execs the image's shell:
 * bash, or sh.
 */
#include "zygote/zyg.h"
#include <sys/mman.h>

static void nothing_for_host(const char *host)
{
    (void)host;
}

static void nothing(void)
{
}

static __attribute__((noreturn)) void run(const struct child_job *job)
{
    static const char *const shells[][2] = {{"/bin/bash", "bash"}, {"/bin/sh", "sh"}};
    char end_of_options[] = "--";
    char *argv[ZYG_ARGS_MAX + 6] = {NULL, (char[]){"-c"}};
    size_t n = 2, zero;
    int error = 0;
    if (*job->cmd == '-' || *job->cmd == '+')
        argv[n++] = end_of_options; /* else the shell took it for its options */
    argv[n++] = (char *)(uintptr_t)job->cmd;
    zero = n; /* $0, then $1... */
    for (size_t i = 0; i < job->arg_count; i++)
        argv[++n] = job->args[i];
    zyg_leave();
    for (size_t i = 0; i < ARRAY_LEN(shells); i++) {
        argv[0] = (char *)(uintptr_t)shells[i][1];
        argv[zero] = job->arg_count ? argv[0] : NULL;
        (void)execve(shells[i][0], argv, job->env);
        error = errno;
    }
    child_fail(CHILD_STEP_EXEC, error);
}

/* The child execs before anything else: its address space cannot be spoiled. */
static bool nothing_to_watch(void)
{
    return true;
}

static const struct zyg_eval exec_eval = {.execs = true,
                                          .on_assign = nothing_for_host,
                                          .on_standby = nothing,
                                          .run = run,
                                          .watch = nothing_to_watch};

int main(void)
{
    primordial_serve(ZYG_PRIV_FD, ZYG_PLAN_FD, &exec_eval);
}
