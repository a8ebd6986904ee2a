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

/* The next line, without its end; 0: there is none. Moves *at behind it. */
static size_t take_line(char **at, const char *end)
{
    char *lf = memchr(*at, '\n', (size_t)(end - *at));
    size_t len = lf ? (size_t)(lf - *at) : 0;
    *at = lf ? lf + 1 : *at;
    return len > 0 && lf[-1] == '\r' ? len - 1 : len;
}

/* Its value becomes none that anyone takes. */
static void spoil(char *line, size_t len)
{
    struct http_text value = value_of(line, len);
    if (value.len)
        line[value.at - line] = 'x';
}

/* All that say how long the body is, of a head that is all there. */
static void spoil_lengths(char *at, char *end)
{
    for (char *line = at; line < end; line = at) {
        size_t len = take_line(&at, end);
        if (name_is(line, len, "content-length") || name_is(line, len, "transfer-encoding"))
            spoil(line, len);
    }
}

bool http_head_is_whole(const char *bytes, size_t size, size_t *at)
{
    const char *lf;
    while ((lf = memchr(bytes + *at, '\n', size - *at))) {
        size_t len = (size_t)(lf - bytes) - *at;
        if (*at > 0 && (len == 0 || (len == 1 && bytes[*at] == '\r')))
            return true;
        *at = (size_t)(lf - bytes) + 1;
    }
    return false;
}

size_t http_head_spoil(char *bytes, size_t size, uint64_t *ret_body)
{
    char *at = bytes, *end = bytes + size, *line;
    struct http_text length = {NULL, 0};
    bool chunked = false, differ = false;
    size_t len;
    if (size > 1 && at[0] == '\r' && at[1] == '\n') /* the library skips an empty line, too */
        at += 2;
    else if (size > 0 && at[0] == '\n')
        at++;
    do {
        line = at;
        len = take_line(&at, end);
        if (at == line)
            return 0;
        if (name_is(line, len, "content-length")) {
            struct http_text value = value_of(line, len);
            differ = differ || (length.at && (value.len != length.len ||
                                              memcmp(value.at, length.at, value.len) != 0));
            length = value;
        }
        chunked = chunked || name_is(line, len, "transfer-encoding");
    } while (len > 0);
    if (differ)
        spoil_lengths(bytes, at);
    *ret_body = 0;
    if (chunked || (length.at && !read_length(length, ret_body)))
        *ret_body = HTTP_LENGTH_UNKNOWN;
    return (size_t)(at - bytes);
}

void http_head_hide(struct http_head *h)
{
    if (h->length_name)
        memcpy(h->length_name, "x-brood-length", strlen("content-length"));
    else if (h->encoding_name)
        memcpy(h->encoding_name, "x-brood-encodings", strlen("transfer-encoding"));
}
