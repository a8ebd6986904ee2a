/* SPDX-License-Identifier: Apache-2.0 */
/* store/faults - MODE=fault only: SQLite's own system calls, behind the seam of lib/base.h.
 *
 * In the frontend, in the store's thread. SQLite has a table of the calls it makes, but for the
 * sync of a file, which is a method of its VFS. What fails is the call, so what is tested is all
 * that we make of SQLite's answer: a statement, a commit or a checkpoint that fails. In all other
 * builds this file is empty.
 */
#include "store/store_impl.h"
#ifdef BROOD_FAULT
#include <assert.h>

static ssize_t read_at(int fd, void *to, size_t len, off_t at)
{
    return SYS(pread(fd, to, len, at));
}

static ssize_t write_at(int fd, const void *from, size_t len, off_t at)
{
    return SYS(pwrite(fd, from, len, at));
}

static int cut(int fd, off_t len)
{
    return SYS(ftruncate(fd, len));
}

#define KINDS 4u /* of files, as their methods differ: database, log, journal */

static int (*open_file)(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *ret);
static int (*usual_sync)(sqlite3_file *f, int flags); /* of all kinds */
static struct {
    const sqlite3_io_methods *usual;
    sqlite3_io_methods own;
} kinds[KINDS];

static int sync_file(sqlite3_file *f, int flags)
{
    int rc = SYS(usual_sync(f, flags));
    return rc < 0 ? SQLITE_IOERR_FSYNC : rc;
}

static int open_with_sync(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *ret)
{
    int rc = open_file(vfs, name, f, flags, ret);
    size_t i = 0;
    if (rc != SQLITE_OK)
        return rc;
    while (i < KINDS && kinds[i].usual && kinds[i].usual != f->pMethods)
        i++;
    assert(i < KINDS && (!usual_sync || usual_sync == f->pMethods->xSync));
    usual_sync = f->pMethods->xSync;
    kinds[i].usual = f->pMethods;
    kinds[i].own = *f->pMethods;
    kinds[i].own.xSync = sync_file;
    f->pMethods = &kinds[i].own;
    return rc;
}

void store_faults_begin(sqlite3_vfs *standard, sqlite3_vfs *own)
{
    const struct {
        const char *name;
        sqlite3_syscall_ptr call;
    } calls[] = {{"pread", (sqlite3_syscall_ptr)read_at},
                 {"pread64", (sqlite3_syscall_ptr)read_at},
                 {"pwrite", (sqlite3_syscall_ptr)write_at},
                 {"pwrite64", (sqlite3_syscall_ptr)write_at},
                 {"ftruncate", (sqlite3_syscall_ptr)cut}};
    for (size_t i = 0; i < ARRAY_LEN(calls); i++)
        if (standard->xGetSystemCall(standard, calls[i].name)) /* the other name is not used */
            (void)standard->xSetSystemCall(standard, calls[i].name, calls[i].call);
    open_file = own->xOpen;
    own->xOpen = open_with_sync;
}
#endif
