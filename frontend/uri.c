/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/uri - see uri.h.
 *
 * In the frontend; a leaf without state that reads what any client has sent. What is decoded is
 * never decoded again: a %25 becomes a percent sign and stays one. A NUL cannot come out, so the
 * results are C strings; what else they may hold (slashes, controls, invalid UTF-8) is for the one
 * who asked to judge.
 */
#include "frontend/uri.h"
#include "frontend/http.h"
#include "lib/num.h"

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int decode(struct http_text t, bool plus_is_space, char *at, size_t room)
{
    size_t n = 0;
    for (size_t i = 0; i < t.len; i++) {
        char c = t.at[i];
        if (c == '%') {
            int high = i + 2 < t.len ? hex_digit(t.at[i + 1]) : -1;
            int low = high >= 0 ? hex_digit(t.at[i + 2]) : -1;
            if (low < 0)
                return -1;
            c = (char)(high << 4 | low);
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        if (c == 0 || n + 1 >= room)
            return -1;
        at[n++] = c;
    }
    at[n] = 0;
    return (int)n;
}

int uri_decode(struct http_text text, char *at, size_t room)
{
    return decode(text, false, at, room);
}

int uri_find(struct http_text query, const char *name, char *at, size_t room)
{
    size_t len = strlen(name);
    const char *p = query.at, *end = query.at + query.len;
    while (p < end) {
        const char *and = memchr(p, '&', (size_t)(end - p)), *stop = and? and : end;
        const char *equals = memchr(p, '=', (size_t)(stop - p));
        const char *name_end = equals ? equals : stop, *value = equals ? equals + 1 : stop;
        if ((size_t)(name_end - p) == len && memcmp(p, name, len) == 0)
            return decode((struct http_text){value, (size_t)(stop - value)}, true, at, room);
        p = stop + 1;
    }
    return -2;
}

int uri_find_u64(struct http_text query, const char *name, uint64_t min, uint64_t max,
                 uint64_t *ret)
{
    char text[24];
    int n = uri_find(query, name, text, sizeof text);
    if (n == -2)
        return 0;
    return n < 0 ? -1 : num_parse_u64(text, min, max, ret);
}

int uri_find_bool(struct http_text query, const char *name, bool *ret)
{
    char text[8];
    int n = uri_find(query, name, text, sizeof text);
    if (n == -2)
        return 0;
    bool yes = n >= 0 && (strcmp(text, "1") == 0 || strcmp(text, "true") == 0);
    bool no = n >= 0 && (strcmp(text, "0") == 0 || strcmp(text, "false") == 0);
    if (yes || no)
        *ret = yes;
    return yes || no ? 0 : -1;
}
