/* SPDX-License-Identifier: Apache-2.0 */
/* lib/err - formatting of struct err; see err.h. */
#include "lib/err.h"
#include <stdarg.h>

PRINTF_LIKE(3, 0)
static void fill(struct err *err, int code, const char *fmt, va_list ap, const char *tail)
{
    err->code = code;
    int n = vsnprintf(err->text, sizeof err->text, fmt, ap);
    if (tail && n >= 0 && (size_t)n < sizeof err->text)
        (void)snprintf(err->text + n, sizeof err->text - (size_t)n, ": %s", tail);
}

int err_sys(struct err *err, const char *fmt, ...)
{
    int saved = errno ? errno : EIO;
    va_list ap;
    va_start(ap, fmt);
    fill(err, -saved, fmt, ap, strerror(saved));
    va_end(ap);
    return -saved;
}

int err_set(struct err *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fill(err, -EINVAL, fmt, ap, NULL);
    va_end(ap);
    return -EINVAL;
}

int err_wrap(struct err *err, const char *fmt, ...)
{
    struct err old = *err;
    va_list ap;
    va_start(ap, fmt);
    fill(err, old.code, fmt, ap, old.text);
    va_end(ap);
    return old.code;
}

void die(int status, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    (void)dprintf(2, "%s: %s\n", program_invocation_short_name, text);
    _exit(status);
}
