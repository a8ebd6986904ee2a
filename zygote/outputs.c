/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/outputs - pid 1 looks whether a run has left something in /work/outputs, so that nobody
 * sends for artifacts that are not there. Runs with ZYG_EMPTY_OUTPUTS only.
 *
 * It looks when all processes of the run are gone, so nothing changes under it. The home is its
 * user's alone and pid 1 has no capability to pass that by, so for these few calls it is that user
 * (effective uid); nobody is there to make use of it. A change of ids makes the kernel forget the
 * death signal (commit_creds() in its kernel/cred.c), which is set again. No call of these can
 * block: a directory is opened or nothing. Whatever is odd counts as something: who collects it
 * will say what.
 */
#include "lib/fd.h"
#include "zygote/zyg.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* Some filesystems never make a directory smaller, and reading through it takes as long. */
#define EMPTY_BYTES_MAX (256 * 1024)

/* True as well when that is not known. */
static bool has_entries(int dir)
{
    char entries[512] __attribute__((aligned(8)));
    struct stat st;
    if (SYS(fstat(dir, &st)) < 0 || st.st_size > EMPTY_BYTES_MAX)
        return true;
    long n = SYS(syscall(SYS_getdents64, dir, entries, sizeof entries));
    for (long at = 0; at < n;) {
        const struct dirent64 *e = (const void *)(entries + at);
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            return true;
        at += e->d_reclen;
    }
    return n < 0;
}

/* The working directory is the home. */
static bool look(void)
{
    auto_close int dir =
        SYS(fd_open_beneath(AT_FDCWD, ZYG_OUTPUTS, O_RDONLY | O_DIRECTORY | O_NONBLOCK, 0));
    return dir < 0 ? errno != ENOENT : has_entries(dir);
}

bool outputs_may_be(void)
{
    if (SYS(setresuid((uid_t)-1, ZYG_CHILD_UID, (uid_t)-1)) < 0)
        return true;
    bool may_be = look();
    if (setresuid((uid_t)-1, 0, (uid_t)-1) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        _exit(1); /* nobody's root, or an orphan-to-be */
    return may_be;
}
