/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as the frames of a WebSocket's client: what is found does not depend on how they come,
 * texts are short and UTF-8, control frames short, and behind a broken one nothing is read. */
#include "frontend/json_out.h"
#include "frontend/ws_frames.h"
#include <assert.h>

struct source {
    const uint8_t *at;
    size_t left, step;
};

static ssize_t give(void *data, void *to, size_t room)
{
    struct source *s = data;
    size_t n = s->left < room ? s->left : room;
    n = s->step && n > s->step ? s->step : n;
    memcpy(to, s->at, n);
    s->at += n;
    s->left -= n;
    return (ssize_t)n;
}

static uint64_t add(uint64_t hash, const void *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ ((const uint8_t *)bytes)[i]) * 1099511628211u;
    return hash;
}

/* A hash of all that was found; pieces of binary messages run together. */
static uint64_t read_all(const uint8_t *data, size_t size, size_t step)
{
    struct source source = {.at = data, .left = size, .step = step};
    struct ws_reader r;
    enum ws_found found = WS_PONG;
    uint64_t hash = 14695981039346656037u, binary = hash;
    assert(ws_reader_init(&r, give, &source) == 0);
    while (found != WS_BROKEN) {
        struct ws_piece p = {0};
        found = ws_reader_next(&r, &p);
        if (found == WS_NOTHING && source.left == 0)
            break;
        assert(found != WS_NOTHING || step);
        if (found == WS_NOTHING)
            continue;
        if (found == WS_BYTES) {
            assert(p.len > 0);
            binary = add(binary, p.at, p.len);
            continue;
        }
        assert(found != WS_TEXT || (p.len <= WS_TEXT_MAX && json_out_is_exact(p.at, p.len)));
        assert(found == WS_TEXT || p.len <= WS_CONTROL_MAX);
        assert(found != WS_BROKEN || p.code == 1002 || p.code == 1007 || p.code == 1009);
        uint32_t head[2] = {found, p.code};
        hash = add(add(hash, head, sizeof head), p.at, p.len);
    }
    ws_reader_fini(&r);
    return hash ^ binary << 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t whole = read_all(data, size, 0);
    assert(read_all(data, size, 1) == whole);
    assert(read_all(data, size, 7) == whole);
    return 0;
}
