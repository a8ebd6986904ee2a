/* SPDX-License-Identifier: Apache-2.0 */
/* lib/buf - see buf.h. */
#include "lib/buf.h"

bool buf_reserve(struct buf *b, size_t more)
{
    if (more <= b->room - b->len)
        return true;
    if (b->failed || more > b->cap - b->len) {
        b->failed = true;
        return false;
    }
    size_t room = b->room ? b->room : 256;
    while (room - b->len < more)
        room = room > b->cap / 2 ? b->cap : room * 2;
    char *data = realloc(b->data, room);
    if (!data) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->room = room;
    return true;
}

bool buf_add(struct buf *b, const void *bytes, size_t len)
{
    if (!buf_reserve(b, len))
        return false;
    if (len)
        memcpy(b->data + b->len, bytes, len);
    b->len += len;
    return true;
}

bool buf_addf(struct buf *b, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof text) {
        b->failed = true;
        return false;
    }
    return buf_add(b, text, (size_t)n);
}

void buf_fini(struct buf *b)
{
    free(b->data);
    *b = (struct buf){.cap = b->cap};
}
