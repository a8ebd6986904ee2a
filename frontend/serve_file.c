/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/serve_file - see serve_file.h.
 *
 * In the frontend, per thread. Whatever is served is a tenant's bytes: browsers are told not to
 * guess a type (nosniff), and to save rather than show it, unless the caller says otherwise. A
 * file's name comes from the tenant as well; it goes out twice, with everything but letters,
 * digits and a few harmless characters replaced, and in full, percent-encoded (RFC 6266, 8187).
 */
#include "frontend/serve_file.h"
#include "frontend/http.h"
#include "lib/fd.h"
#include <inttypes.h>

static bool is_unreserved(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("-._~", c));
}

void serve_file_disposition(char value[SERVE_DISPOSITION_ROOM], const char *name, bool in_place)
{
    static const char hex[] = "0123456789ABCDEF";
    const char *slash = strrchr(name, '/');
    const unsigned char *base = (const unsigned char *)(slash ? slash + 1 : name);
    size_t len = strnlen((const char *)base, SERVE_NAME_MAX), n;
    n = (size_t)snprintf(value, SERVE_DISPOSITION_ROOM, "%s; filename=\"",
                         in_place ? "inline" : "attachment");
    for (size_t i = 0; i < len; i++)
        value[n++] = (char)(is_unreserved(base[i]) || base[i] == ' ' ? base[i] : '_');
    n += (size_t)snprintf(value + n, SERVE_DISPOSITION_ROOM - n, "\"; filename*=UTF-8''");
    for (size_t i = 0; i < len; i++) {
        if (!is_unreserved(base[i])) {
            value[n++] = '%';
            value[n++] = hex[base[i] >> 4];
            value[n++] = hex[base[i] & 15];
        } else {
            value[n++] = (char)base[i];
        }
    }
    value[n] = 0;
}

void serve_file_etag(char etag[SERVE_ETAG_ROOM], uint64_t size, int64_t mtime_ns)
{
    (void)snprintf(etag, SERVE_ETAG_ROOM, "\"%" PRIx64 "-%" PRIx64 "\"", size, (uint64_t)mtime_ns);
}

/* Digits up to `end`; false when there are none, or too many. */
static bool take_number(const char **at, const char *end, uint64_t *ret)
{
    const char *p = *at;
    uint64_t n = 0;
    for (; p < end && *p >= '0' && *p <= '9' && p - *at < 19; p++)
        n = n * 10 + (uint64_t)(*p - '0');
    bool some = p > *at;
    *at = p;
    *ret = n;
    return some && (p == end || *p < '0' || *p > '9');
}

int serve_file_range(const char *text, size_t text_len, uint64_t size, uint64_t *ret_at,
                     uint64_t *ret_len)
{
    const char *at = text, *end = text + text_len;
    uint64_t first = 0, last = UINT64_MAX;
    if (text_len < 7 || memcmp(at, "bytes=", 6) != 0)
        return 0;
    at += 6;
    bool has_first = take_number(&at, end, &first);
    if (at == end || *at++ != '-')
        return 0;
    bool has_last = take_number(&at, end, &last);
    if (at != end || (!has_first && !has_last) || (has_first && has_last && last < first))
        return 0;
    if (!has_first) { /* the last so many bytes */
        first = last < size ? size - last : 0;
        last = last > 0 ? UINT64_MAX : 0;
        if (last == 0)
            return -1;
    } else if (!has_last) {
        last = UINT64_MAX;
    }
    if (first >= size)
        return -1;
    *ret_at = first;
    *ret_len = (last < size - 1 ? last : size - 1) - first + 1;
    return 1;
}

static bool text_is(struct http_text t, const char *s)
{
    return t.at && t.len == strlen(s) && memcmp(t.at, s, t.len) == 0;
}

/* Is the ETag in this If-None-Match? A weak comparison: a W/ before it does not matter. */
static bool is_known(struct http_text known, const char *etag)
{
    return known.at && (text_is(known, "*") || memmem(known.at, known.len, etag, strlen(etag)));
}

void serve_file(struct http_request *req, const struct serve_file *file)
{
    char disposition[SERVE_DISPOSITION_ROOM], range_text[80];
    struct http_text range = http_header_of(req, "range"),
                     if_range = http_header_of(req, "if-range");
    uint64_t at = 0, len = file->size;
    int fd = file->fd, status = 200;
    serve_file_disposition(disposition, file->name, file->in_place);
    struct http_header headers[8] = {{"etag", file->etag},
                                     {"accept-ranges", "bytes"},
                                     {"x-content-type-options", "nosniff"},
                                     {"content-disposition", disposition}};
    size_t count = 4;
    if (file->cache_control)
        headers[count++] = (struct http_header){"cache-control", file->cache_control};
    if (is_known(http_header_of(req, "if-none-match"), file->etag)) {
        fd_close(&fd);
        http_respond_as(req, 304, headers, NULL, "", 0);
        return;
    }
    int r = range.at && (!if_range.at || text_is(if_range, file->etag))
                ? serve_file_range(range.at, range.len, file->size, &at, &len)
                : 0;
    if (r < 0) {
        static const char nested[] = "{\"error\":{\"code\":\"range_not_satisfiable\",\"message\":"
                                     "\"the file is shorter than that\"}}\n",
                          flat[] = "{\"error\":\"the file is shorter than that\","
                                   "\"code\":\"range_not_satisfiable\"}\n";
        const char *text = file->v1_errors ? flat : nested;
        (void)snprintf(range_text, sizeof range_text, "bytes */%" PRIu64, file->size);
        fd_close(&fd);
        http_respond(req, 416, (struct http_header[]){{"content-range", range_text}, {NULL, NULL}},
                     text, strlen(text));
        return;
    }
    if (r > 0) {
        status = 206;
        (void)snprintf(range_text, sizeof range_text, "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, at,
                       at + len - 1, file->size);
        headers[count++] = (struct http_header){"content-range", range_text};
    }
    http_respond_fd(req, status, headers, file->content_type, fd, at, len);
}
