/* SPDX-License-Identifier: Apache-2.0 */
/* lib/confine - what a long-lived process without rights gives up for good, before it reads a byte
 * from outside, and the proof that it is gone. */
#pragma once
#include <stddef.h>
#include <stdint.h>
struct err;

struct confine_plan {
    const int *calls; /* system calls it may make with any arguments, beside a few that use, wait
                         for and close what it has; others are ENOSYS */
    size_t call_count;
    const uint32_t *ioctls; /* requests that ioctl() may be called with */
    size_t ioctl_count;
    int dir_fd;              /* files below it are its own; 0: none. Then openat() is allowed, and
                                landlock decides; calls for the rest are the list's matter */
    bool makes_threads;      /* it may still start threads; never a process */
    uint64_t data_bytes_max; /* RLIMIT_DATA; 0: as it is */
    const char *const *read_files; /* NULL, or NULL-terminated: files it may open to read, those of
                                      them that are there, as they are now: what takes the place of
                                      one is another. openat() as with dir_fd */
    bool connects;         /* IPv4 and IPv6 sockets, to connect and send (those calls are not the
                              list's then); TCP to these ports only, where landlock knows */
    const uint16_t *ports; /* them (ABI 4) */
    size_t port_count;
};

/* No new privileges, no dump, no core, no process, no file (landlock without a rule, or with
 * dir_fd's alone: files in it may be opened, made, renamed within their directory and removed,
 * which needs landlock's ABI 1 only), no TCP bind or connect (but as `connects` says), no abstract
 * socket and no signal outside (as far as the landlock ABI goes), no memory that is made
 * executable, and the listed system calls only. Then it tries to get back what it gave up. For all
 * threads that are started later; irreversible. 0, or <0: err names the step that failed, or what
 * could be regained. */
int confine_self(const struct confine_plan *plan, struct err *err);
