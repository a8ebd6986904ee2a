/* SPDX-License-Identifier: Apache-2.0 */
/* t/unit/head - two lengths that differ are unreadable afterwards, wherever they stand, and nothing
 * else is; what a run may take grows with what it may wait.
 */
#include "frontend/http_head.h"
#include "frontend/run.h"
#include "lib/tap.h"

static char text[512];

static size_t spoil(const char *head, uint64_t *ret_body)
{
    (void)snprintf(text, sizeof text, "%s", head);
    return http_head_spoil(text, strlen(text), ret_body);
}

static void stays(const char *what, const char *head, uint64_t body)
{
    uint64_t found = 7;
    size_t len = spoil(head, &found);
    ok(len == strlen(head) && strcmp(text, head) == 0 && found == body, "%s: stays", what);
}

static void becomes(const char *what, const char *head, const char *then)
{
    uint64_t body;
    size_t len = spoil(head, &body);
    ok(len == strlen(head) && strcmp(text, then) == 0, "%s: unreadable", what);
}

static void incomplete(const char *what, const char *head)
{
    uint64_t body;
    ok(spoil(head, &body) == 0 && strcmp(text, head) == 0, "%s: nothing is known yet", what);
}

static void test_lengths(void)
{
    stays("none", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 0);
    stays("one", "POST / HTTP/1.1\r\ncontent-length: 12 \r\n\r\n", 12);
    stays("the same twice", "P / H\r\nContent-Length: 5\r\nCONTENT-LENGTH:\t5\r\n\r\n", 5);
    stays("chunks", "P / H\nTransfer-Encoding: chunked\nContent-Length: 5\n\n",
          HTTP_LENGTH_UNKNOWN);
    stays("no number", "P / H\r\nContent-Length: 5, 6\r\n\r\n", HTTP_LENGTH_UNKNOWN);
    stays("another name", "P / H\r\nX-Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 6);
    stays("an empty line first", "\r\nP / H\r\nContent-Length: 6\r\n\r\n", 6);
    becomes("two", "P / H\r\nContent-Length: 5\r\nContent-Length: 60\r\n\r\n",
            "P / H\r\nContent-Length: x\r\nContent-Length: x0\r\n\r\n");
    becomes("05 is not 5", "P / H\ncontent-length:5\nA: b\nContent-Length: 05\n\n",
            "P / H\ncontent-length:x\nA: b\nContent-Length: x5\n\n");
    becomes("of three, the last", "P / H\nContent-Length:5\nContent-Length:5\nContent-Length:6\n\n",
            "P / H\nContent-Length:x\nContent-Length:x\nContent-Length:x\n\n");
    becomes("an empty one", "P / H\r\nContent-Length:\r\nContent-Length: 5\r\n\r\n",
            "P / H\r\nContent-Length:\r\nContent-Length: x\r\n\r\n");
    becomes("with chunks",
            "P / H\nContent-Length:5\nTransfer-Encoding: chunked\nContent-Length:6\n\n",
            "P / H\nContent-Length:x\nTransfer-Encoding: xhunked\nContent-Length:x\n\n");
    becomes("behind an empty line", "\nP / H\nContent-Length:5\nContent-Length:6\n\n",
            "\nP / H\nContent-Length:x\nContent-Length:x\n\n");
    incomplete("nothing", "");
    incomplete("half an empty line", "\r");
    incomplete("no end", "P / H\r\nContent-Length: 5\r\nContent-Length: 6\r\n");
    incomplete("half an end", "P / H\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r");
    uint64_t body;
    ok(spoil("P / H\n\nContent-Length:5\nContent-Length:6\n\n", &body) == 7 && body == 0 &&
           strstr(text, "Length:6"),
       "a body is not looked at");
}

/* In pieces of any size, the end is found when its last byte is there, and not before. */
static void test_whole(void)
{
    static const char *const heads[] = {"P / H\r\nA: b\r\n\r\n", "P / H\nA: b\n\n",
                                        "\r\nP / H\r\n\r\n", "\nP / H\n\n"};
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        size_t early = 0, len = strlen(heads[i]);
        for (size_t piece = 1; piece <= len; piece++) {
            size_t at = 0, have = 0;
            while ((have = have + piece < len ? have + piece : len) < len)
                early += http_head_is_whole(heads[i], have, &at);
            early += !http_head_is_whole(heads[i], len, &at);
        }
        ok(early == 0, "head %zu: in pieces of 1 to %zu bytes", i, len);
    }
}

static void test_longest(void)
{
    const uint64_t day_ms = 86400000;
    for (uint64_t wait_ms = 10000; wait_ms <= day_ms; wait_ms *= 3)
        ok(run_longest_ms(1, 1000, wait_ms) > wait_ms + 1000 + RUN_GRACE_MS_MAX,
           "a run that may wait %llu ms is not overdue when it has", (unsigned long long)wait_ms);
    ok(run_longest_ms(2, 5000, 10000) > 10000 + 2 * (5000 + RUN_GRACE_MS_MAX),
       "a program is compiled and run within it");
}

int main(void)
{
    test_lengths();
    test_whole();
    test_longest();
    return tap_done();
}
