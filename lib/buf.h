/* SPDX-License-Identifier: Apache-2.0 */
/* lib/buf - a growing byte buffer with a hard cap. Zero-initialise with a cap to begin. */
#pragma once
#include <stdarg.h>

struct buf {
    char *data;
    size_t len, room, cap; /* cap: never grows beyond */
    bool failed;           /* something did not fit or malloc failed; sticky */
};

/* All return false and set failed when the cap or memory is exhausted; then nothing was added. */
bool buf_reserve(struct buf *b, size_t more);
bool buf_add(struct buf *b, const void *bytes, size_t len);
bool buf_addf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
void buf_fini(struct buf *b);
