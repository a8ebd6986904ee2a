/* SPDX-License-Identifier: Apache-2.0 */
/* lib/err - one error: a negative code and a text. Lives on the caller's stack; nothing to free. */
#pragma once

struct err {
    int code; /* 0 none, otherwise -errno or -1 */
    char text[240];
};

/* Fills err with "<what>: <strerror(errno)>" and returns -errno (never 0). */
int err_sys(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Fills err with a text of ours and returns -EINVAL. */
int err_set(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Puts "<who>: " in front of an existing text and returns its code. */
int err_wrap(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Start-up and child-before-exec only: prints "name: text" to stderr and exits with status. */
_Noreturn void die(int status, const char *fmt, ...) PRINTF_LIKE(2, 3);
