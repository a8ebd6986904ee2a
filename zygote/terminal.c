/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/terminal - what a run of kind ZYG_TERMINAL_MAGIC does instead of evaluating: it becomes a
 * login shell on a terminal of the namespace.
 *
 * It runs where a command would, as uid 1000 behind landlock and seccomp. The terminal is one of
 * the devpts that the zygote mounted; its master goes to who asked, over the run's stdout, before
 * any foreign code runs, and is closed here: nobody in the namespace ever holds it. What is typed
 * and shown passes between the kernel and the asker from then on. When the asker closes the master,
 * the shell's session gets SIGHUP; when the shell ends, the run does, and pid 1 kills what is left.
 *
 * What fails is told instead of the master; the run's exit status is 1 then.
 */
#include "lib/fd.h"
#include "lib/packet.h"
#include "protocol/protocol.h"
#include "zygote/zyg.h"
#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER 0x5441 /* Linux 4.13 */
#endif

/* Of a standby that a mould has cast the session is the mould's, and it leads a group, which may
 * not begin a session (setsid(2)): so it leaves that group first. */
static int lead_session(void)
{
    pid_t session = getsid(0);
    if (session == getpid())
        return 0;
    return SYS(setpgid(0, session)) < 0 || SYS(setsid()) < 0 ? -errno : 0;
}

static unsigned short read_size(const char *text)
{
    unsigned long n = strtoul(text, NULL, 10);
    return n > 0 && n <= PROTO_TERMINAL_SIZE_MAX ? (unsigned short)n : 1;
}

/* Both ends; the far one becomes this session's terminal by being opened. */
static int open_pair(char *const *args, int *ret_master, int *ret_slave)
{
    const struct winsize size = {.ws_col = read_size(args[0]), .ws_row = read_size(args[1])};
    const int unlocked = 0;
    auto_close int master = SYS(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (master < 0 || SYS(ioctl(master, TIOCSPTLCK, &unlocked)) < 0 ||
        SYS(ioctl(master, TIOCSWINSZ, &size)) < 0)
        return -errno;
    auto_close int slave = SYS(ioctl(master, TIOCGPTPEER, O_RDWR | O_CLOEXEC));
    if (slave < 0 || tcgetsid(slave) != getpid())
        return slave < 0 ? -errno : -ENOTTY;
    *ret_master = fd_take(&master);
    *ret_slave = fd_take(&slave);
    return 0;
}

static _Noreturn void refuse(int error)
{
    const struct proto_terminal_answer answer = {.magic = PROTO_TERMINAL_MAGIC,
                                                 .error = (uint32_t)error};
    (void)packet_send(1, &answer, sizeof answer, NULL, 0);
    _exit(1);
}

static void hand_over(int master)
{
    const struct proto_terminal_answer answer = {.magic = PROTO_TERMINAL_MAGIC};
    if (packet_send(1, &answer, sizeof answer, &master, 1) < 0)
        _exit(1); /* it is gone */
    fd_close(&master);
}

/* The image's bash, or its shell: as login(1) would call it. */
static _Noreturn void become_shell(char *const *env)
{
    static const char *const shells[][3] = {{"/bin/bash", "bash", "-l"}, {"/bin/sh", "-sh", NULL}};
    for (size_t i = 0; i < ARRAY_LEN(shells); i++) {
        char *argv[] = {(char *)(uintptr_t)shells[i][1], (char *)(uintptr_t)shells[i][2], NULL};
        (void)SYS(execve(shells[i][0], argv, env));
    }
    _exit(127);
}

void terminal_main(const struct child_job *job)
{
    int master, slave;
    zyg_spoil(); /* no run follows in this memory */
    int r = job->arg_count == 2 ? lead_session() : -EBADMSG;
    if (r == 0)
        r = open_pair(job->args, &master, &slave);
    if (r < 0)
        refuse(-r);
    hand_over(master);
    for (int i = 0; i < 3; i++)
        if (SYS(dup2(slave, i)) < 0)
            _exit(1);
    if (slave > 2)
        fd_close(&slave);
    (void)signal(SIGQUIT, SIG_DFL); /* what a shell ignores for itself; an exec keeps that */
    become_shell(job->env);
}
