/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/show_as - makes a child that did not exec show its own command line and environment in
 * /proc.
 *
 * prctl(PR_SET_MM_MAP) (prctl(2); needs CONFIG_CHECKPOINT_RESTORE, no capability) moves arg_start..
 * and env_start.. to an area that we fill. The other fields must be given too; they are
 * read once from /proc/self/stat in the primordial and are the same in every fork. Best effort:
 * without it `ps` shows the zygote's name, nothing else changes.
 */
#include "zygote/zyg.h"
#include <fcntl.h>
#include <linux/prctl.h>
#include <sys/prctl.h>

static struct prctl_mm_map layout;
static char area[ZYG_RUN_BYTES_MAX + 1024]
    __attribute__((aligned(ZYG_PAGE))); /* and the base environment */

void child_show_as_prepare(void)
{
    char text[2048];
    unsigned long f[53] = {0};
    auto_close int fd = SYS(open("/proc/self/stat", O_RDONLY | O_CLOEXEC));
    ssize_t n = fd < 0 ? -1 : SYS(read(fd, text, sizeof text - 1));
    if (n <= 0)
        return;
    text[n] = 0;
    char *at = strrchr(text, ')');
    if (!at)
        return;
    at += 4; /* ") S " : now at field 4 (proc(5)) */
    for (int i = 4; i < 52; i++)
        f[i] = strtoul(at, &at, 10);
    layout = (struct prctl_mm_map){
        .start_code = f[26],
        .end_code = f[27],
        .start_stack = f[28],
        .start_data = f[45],
        .end_data = f[46],
        .start_brk = f[47],
        .arg_start = f[48],
        .arg_end = f[49],
        .env_start = f[50],
        .env_end = f[51],
        .exe_fd = (uint32_t)-1,
    };
}

static char *append(char *at, const char *text)
{
    size_t len = strlen(text) + 1;
    memcpy(at, text, len);
    return at + len;
}

void child_show_as(const struct child_job *job)
{
    const char *cmd = job->cmd ? job->cmd : "";
    char *const *env = job->env;
    bool like_option = *cmd == '-' || *cmd == '+'; /* as exec_eval.c starts such a command */
    size_t need = 2 * sizeof "bash" + sizeof "-c" + sizeof "--" + strlen(cmd) + 1;
    if (!layout.start_code)
        return;
    for (char *const *e = env; *e; e++)
        need += strlen(*e) + 1;
    for (size_t i = 0; i < job->arg_count; i++)
        need += strlen(job->args[i]) + 1;
    if (need > sizeof area)
        return;
    struct prctl_mm_map map = layout;
    char *at = append(area, "bash");
    if (job->cmd) {
        at = append(at, "-c");
        at = append(like_option ? append(at, "--") : at, cmd);
    }
    at = job->arg_count ? append(at, "bash") : at; /* $0 */
    for (size_t i = 0; i < job->arg_count; i++)
        at = append(at, job->args[i]);
    map.arg_start = (uintptr_t)area;
    map.arg_end = map.env_start = (uintptr_t)at;
    for (char *const *e = env; *e; e++)
        at = append(at, *e);
    map.env_end = (uintptr_t)at;
    map.brk = (uintptr_t)sbrk(0);
    (void)prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0);
}
