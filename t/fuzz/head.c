/* SPDX-License-Identifier: Apache-2.0 */
/* t/fuzz/head - any bytes as the head of a request, as a path and as a query: whoever reads the
 * head after us finds no body announced in it, and what is decoded fits and holds no NUL.
 */
#include "frontend/http_head.h"
#include "frontend/uri.h"
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_head(char *at, size_t size)
{
    struct http_head h = {.len = 0}, again = {.len = 0};
    size_t line = http_head_read_line(&h, at, size);
    assert(line <= size && (line == 0 || at[line - 1] == '\n'));
    assert(!h.path.at || (h.path.at > at && h.path.at + h.path.len < at + line));
    if (line == 0 || http_head_read_headers(&h, at + line, size - line) <= 0)
        return;
    assert(h.len <= size - line && at[line + h.len - 1] == '\n');
    assert(!h.length_name || !h.encoding_name);
    assert(!h.length_name || h.length < 1000000000000000000u);
    http_head_hide(&h);
    assert(http_head_read_headers(&again, at + line, size - line) == 1);
    assert(again.len == h.len && !again.length_name && !again.encoding_name);
}

static void check_lengths(char *at, size_t size)
{
    uint64_t body = 0, again = 0;
    size_t seen = 0, end = 0;
    while (end < size && !http_head_is_whole(at, end, &seen))
        end++;
    seen = 0;
    assert(!http_head_is_whole(at, end, &seen) || http_head_spoil(at, end, &body) > 0);
    size_t len = http_head_spoil(at, size, &body);
    assert(len <= size && (len == 0 || at[len - 1] == '\n'));
    assert(http_head_spoil(at, size, &again) == len);
    assert(len == 0 || body == again || again == HTTP_LENGTH_UNKNOWN);
}

static void check_uri(struct http_text text)
{
    char small[8], large[256];
    uint64_t number = 5;
    bool yes = true;
    int n = uri_decode(text, small, sizeof small), m = uri_decode(text, large, sizeof large);
    assert(n == -1 || (n < (int)sizeof small && (int)strlen(small) == n && m == n));
    assert(m == -1 || (m < (int)sizeof large && (int)strlen(large) == m));
    n = uri_find(text, "a", large, sizeof large);
    assert(n >= -2 && (n < 0 || (int)strlen(large) == n));
    assert(uri_find_u64(text, "limit", 1, 9, &number) == 0 ? number >= 1 && number <= 9
                                                           : number == 5);
    (void)uri_find_bool(text, "a", &yes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size + 1); /* its own allocation: a sanitizer sees a byte too far */
    if (!copy)
        return 0;
    memcpy(copy, data, size);
    check_uri((struct http_text){copy, size});
    check_lengths(copy, size);
    check_head(copy, size);
    free(copy);
    return 0;
}
