/* SPDX-License-Identifier: Apache-2.0 */
/* lib/tap - TAP for unit tests in C. One test program = plan at the end by tap_done(). */
#pragma once
#include <stdarg.h>

static int tap_run_, tap_failed_;

PRINTF_LIKE(2, 3) static inline bool ok(bool holds, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    printf("%sok %d - ", holds ? "" : "not ", ++tap_run_);
    vprintf(fmt, ap);
    printf("\n");
    va_end(ap);
    tap_failed_ += !holds;
    return holds;
}

static inline int tap_done(void)
{
    printf("1..%d\n", tap_run_);
    return tap_failed_ ? 1 : 0;
}
