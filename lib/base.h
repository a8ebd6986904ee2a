/* SPDX-License-Identifier: Apache-2.0 */
/* lib/base - what every file gets with `-include lib/base.h`: feature macros, cleanup
 * attributes, the SYS() seam and the list of calls that we do not use. Knows no product word. */
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Every failing call that we handle is written SYS(call): the seam at which tests can make it fail
 * (MODE=fault, lib/fault.h). */
#ifdef BROOD_FAULT
bool fault_is_due(const char *file, int line);
#define SYS(call) (fault_is_due(__FILE__, __LINE__) ? (__typeof__(call))-1 : (call))
#else
#define SYS(call) (call)
#endif

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

static inline void auto_free_cleanup(void *p)
{
    void *v;
    memcpy(&v, p, sizeof v);
    free(v);
}
static inline void auto_close_cleanup(int *fd)
{
    if (*fd >= 0) {
        int saved = errno;
        (void)close(*fd);
        errno = saved;
    }
}
/* Frees / closes when the variable leaves its scope; NULL and -1 do nothing. */
#define auto_free __attribute__((cleanup(auto_free_cleanup)))
#define auto_close __attribute__((cleanup(auto_close_cleanup)))

/* Hands ownership on: the local is emptied, so its cleanup does nothing. */
static inline int fd_take(int *fd)
{
    int v = *fd;
    *fd = -1;
    return v;
}
#define ptr_take(pp)                                                                               \
    ({                                                                                             \
        __typeof__(*(pp)) v_ = *(pp);                                                              \
        *(pp) = NULL;                                                                              \
        v_;                                                                                        \
    })

#ifndef BROOD_FOREIGN_SOURCE
#pragma GCC poison strcpy strcat sprintf vsprintf strtok atoi system popen
#endif
