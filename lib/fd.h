/* SPDX-License-Identifier: Apache-2.0 */
/* lib/fd - descriptors: closing, flags, beneath-only opening, sealed memfds. All are close-on-exec.
 */
#pragma once
#include <sys/types.h>
struct err;

/* Closes *fd unless it is -1 and sets it to -1. Keeps errno. */
void fd_close(int *fd);
int fd_set_nonblock(int fd);
/* open() below dir_fd with openat2(RESOLVE_BENEATH | NO_SYMLINKS | NO_MAGICLINKS); -1 and errno. */
int fd_open_beneath(int dir_fd, const char *path, int flags, mode_t mode);
/* Writes all bytes or fails (-1, errno). For files and memfds, not for sockets. */
int fd_write_all(int fd, const void *bytes, size_t len);
/* A sealed, read-only-in-effect memfd holding the bytes, offset 0; -1 and errno on failure. */
int fd_memfd_sealed(const char *name, const void *bytes, size_t len);
/* Checks that fd is a memfd sealed against shrinking, growing and writing, of 1..max bytes, and
 * maps it read-only. 0: *ret_map (munmap by the caller) and *ret_len are set. <0: err says what. */
int fd_memfd_map(int fd, size_t max, const void **ret_map, size_t *ret_len, struct err *err);
/* How many descriptors this process holds; for tests. */
int fd_count_open(void);
