/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/http_head - see http_head.h.
 *
 * In the frontend; a leaf without state, over the first bytes that anyone sends. It decides who
 * reads a body, so it sees lines as the library's parser does (they end with LF, a CR before that
 * is not theirs) and calls everything unusual that the two could take differently.
 */
#include "frontend/http_head.h"
#include <strings.h>

static bool name_is(const char *line, size_t len, const char *name)
{
    size_t n = strlen(name);
    return len > n && line[n] == ':' && strncasecmp(line, name, n) == 0;
}

static struct http_text value_of(const char *line, size_t len)
{
    const char *at = memchr(line, ':', len), *end = line + len;
    for (at++; at < end && (*at == ' ' || *at == '\t');)
        at++;
    while (end > at && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    return (struct http_text){at, (size_t)(end - at)};
}

static bool read_length(struct http_text t, uint64_t *ret)
{
    uint64_t n = 0;
    for (size_t i = 0; i < t.len; i++) {
        if (t.at[i] < '0' || t.at[i] > '9')
            return false;
        n = n * 10 + (uint64_t)(t.at[i] - '0');
    }
    *ret = n;
    return t.len > 0 && t.len < 19;
}

/* False: something is unusual. */
static bool take_header(struct http_head *h, char *line, size_t len)
{
    struct http_text value;
    if (*line == ' ' || *line == '\t' || !memchr(line, ':', len))
        return false;
    value = value_of(line, len);
    if (name_is(line, len, "content-length")) {
        if (h->length_name || h->encoding_name || !read_length(value, &h->length))
            return false;
        h->length_name = line;
    } else if (name_is(line, len, "transfer-encoding")) {
        if (h->length_name || h->encoding_name || value.len != 7 ||
            strncasecmp(value.at, "chunked", 7) != 0)
            return false;
        h->encoding_name = line;
        h->length = HTTP_LENGTH_UNKNOWN;
    } else if (name_is(line, len, "expect")) {
        if (value.len != 12 || strncasecmp(value.at, "100-continue", 12) != 0)
            return false;
        h->expects = true;
    }
    return true;
}

int http_head_read_headers(struct http_head *h, char *at, size_t size)
{
    for (size_t begin = 0;;) {
        char *lf = memchr(at + begin, '\n', size - begin);
        if (!lf)
            return 0;
        size_t len = (size_t)(lf - at) - begin, next = begin + len + 1;
        if (len > 0 && at[begin + len - 1] == '\r')
            len--;
        if (len == 0) {
            h->len = next;
            return 1;
        }
        if (!take_header(h, at + begin, len))
            return -1;
        begin = next;
    }
}

size_t http_head_read_line(struct http_head *h, char *at, size_t size)
{
    char *lf = memchr(at, '\n', size);
    char *space = lf ? memchr(at, ' ', (size_t)(lf - at)) : NULL;
    if (!lf)
        return 0;
    if (space) {
        char *target = space + 1;
        size_t len = strcspn(target, " ?\n");
        h->method = (struct http_text){at, (size_t)(space - at)};
        h->path = (struct http_text){target, len};
    }
    return (size_t)(lf - at) + 1;
}

void http_head_hide(struct http_head *h)
{
    if (h->length_name)
        memcpy(h->length_name, "x-brood-length", strlen("content-length"));
    else if (h->encoding_name)
        memcpy(h->encoding_name, "x-brood-encodings", strlen("transfer-encoding"));
}
