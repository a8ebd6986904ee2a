/* SPDX-License-Identifier: Apache-2.0 */
/* lib/fd - see fd.h. Async-signal-safe except fd_count_open. */
#include "lib/fd.h"
#include "lib/err.h"
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/mman.h>
#include <sys/syscall.h>

void fd_close(int *fd)
{
    if (*fd < 0)
        return;
    int saved = errno;
    (void)close(*fd);
    errno = saved;
    *fd = -1;
}

int fd_set_nonblock(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

int fd_open_beneath(int dir_fd, const char *path, int flags, mode_t mode)
{
    struct open_how how = {
        .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
        .mode = (flags & (O_CREAT | O_TMPFILE)) ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    return (int)syscall(SYS_openat2, dir_fd, path, &how, sizeof how);
}

int fd_write_all(int fd, const void *bytes, size_t len)
{
    const char *at = bytes;
    while (len > 0) {
        ssize_t n = SYS(write(fd, at, len));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

int fd_memfd_sealed(const char *name, const void *bytes, size_t len)
{
    auto_close int fd = SYS(memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (fd < 0 || fd_write_all(fd, bytes, len) < 0 || lseek(fd, 0, SEEK_SET) < 0)
        return -1;
    if (SYS(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)) < 0)
        return -1;
    return fd_take(&fd);
}

int fd_memfd_map(int fd, size_t max, const void **ret_map, size_t *ret_len, struct err *err)
{
    const int want = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    int seals = SYS(fcntl(fd, F_GET_SEALS));
    if (seals < 0 || (seals & want) != want)
        return err_set(err, "payload descriptor is not a sealed memfd");
    off_t size = SYS(lseek(fd, 0, SEEK_END)); /* the engine has renounced stat */
    if (size < 0)
        return err_sys(err, "size of a payload memfd");
    if (size == 0 || (uint64_t)size > max)
        return err_set(err, "payload memfd of %lld bytes, allowed are 1 to %zu", (long long)size,
                       max);
    void *map = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        return err_sys(err, "map payload memfd");
    *ret_map = map;
    *ret_len = (size_t)size;
    return 0;
}

int fd_count_open(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;
    if (!dir)
        return -1;
    while (readdir(dir))
        n++;
    (void)closedir(dir);
    return n - 3; /* ".", ".." and the directory itself */
}
