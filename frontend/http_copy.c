/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/http_copy - requests that stand for others: see http_copy_new in http.h.
 *
 * In the frontend, per thread. A copy has no connection and nothing of the library's, so it does
 * not end when a client leaves. It keeps what a handler may ask later (method, target, headers) as
 * texts of its own; the functions of http.h that would touch a connection come here instead. A
 * request that is no copy pays one comparison for that.
 */
#include "frontend/http_impl.h"
#include "lib/buf.h"
#include <assert.h>

#define ADDED_BYTES_MAX 4096u
#define HEADERS_MAX 16u /* of an answer */

struct named_text {
    struct http_text name, value;
};

struct http_copy {
    const struct http_sink *sink;
    void *user;
    struct http_text method, target, body;
    struct buf added; /* headers of the answer: name NUL value NUL ... */
    bool closes, begun;
    size_t count;
    struct named_text headers[]; /* behind them, the texts */
};

static struct http_text keep(char **at, h2o_iovec_t text)
{
    struct http_text kept = {*at, text.len};
    if (text.len)
        memcpy(*at, text.base, text.len);
    *at += text.len;
    return kept;
}

struct http_request *http_copy_new(const struct http_request *req, const struct http_sink *sink,
                                   void *user)
{
    const h2o_headers_t *from = &req->req->headers;
    const h2o_iovec_t method = req->req->input.method, target = req->req->input.path;
    size_t bytes = method.len + target.len, fixed = from->size * sizeof(struct named_text);
    for (size_t i = 0; i < from->size; i++)
        bytes += from->entries[i].name->len + from->entries[i].value.len;
    struct http_request *r = calloc(1, sizeof *r);
    struct http_copy *c = r ? calloc(1, sizeof *c + fixed + bytes) : NULL;
    if (!c) {
        free(r);
        return NULL;
    }
    char *at = (char *)c->headers + fixed;
    c->sink = sink;
    c->user = user;
    c->added.cap = ADDED_BYTES_MAX;
    c->method = keep(&at, method);
    c->target = keep(&at, target);
    c->body = http_body(req);
    for (c->count = 0; c->count < from->size; c->count++) {
        c->headers[c->count].name = keep(&at, *from->entries[c->count].name);
        c->headers[c->count].value = keep(&at, from->entries[c->count].value);
    }
    r->copy = c;
    r->file_fd = -1;
    r->begin_ns = req->begin_ns;
    memcpy(r->id, req->id, sizeof r->id);
    return r;
}

void http_copy_drop_body(struct http_request *r)
{
    r->copy->body = (struct http_text){NULL, 0};
}

void http_copy_free(struct http_request *r)
{
    if (!r)
        return;
    buf_fini(&r->copy->added);
    free(r->copy);
    free(r);
}

bool http_copy_is_begun(const struct http_request *r)
{
    return r->copy->begun;
}

void *http_copy_user(const struct http_request *r)
{
    return r->copy ? r->copy->user : NULL;
}

void http_mark_begun(struct http_request *r, bool begun)
{
    if (r->copy)
        r->copy->begun = begun;
}

/* ---- for the functions of http.h ---------------------------------------------------------------
 */

struct http_text http_copy_method(const struct http_copy *c)
{
    return c->method;
}

struct http_text http_copy_target(const struct http_copy *c)
{
    return c->target;
}

struct http_text http_copy_body(const struct http_copy *c)
{
    return c->body;
}

/* The nth header of that name, from 0. */
struct http_text http_copy_header(const struct http_copy *c, const char *name, size_t nth)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < c->count; i++) {
        const struct named_text *h = &c->headers[i];
        if (h->name.len == len && memcmp(h->name.at, name, len) == 0 && nth-- == 0)
            return h->value;
    }
    return (struct http_text){NULL, 0};
}

void http_copy_add_header(struct http_copy *c, const char *name, const char *value)
{
    (void)buf_add(&c->added, name, strlen(name) + 1);
    (void)buf_add(&c->added, value, strlen(value) + 1);
}

void http_copy_close_after(struct http_copy *c)
{
    c->closes = true;
}

void http_copy_answer(struct http_request *r, const struct http_answer *given)
{
    struct http_copy *c = r->copy;
    struct http_header headers[HEADERS_MAX + 1] = {0};
    struct http_answer answer = *given;
    size_t n = 0;
    if (r->started)
        return;
    for (const char *at = c->added.data; at && at < c->added.data + c->added.len;) {
        const char *value = at + strlen(at) + 1;
        assert(n < HEADERS_MAX);
        headers[n++] = (struct http_header){at, value};
        at = value + strlen(value) + 1;
    }
    for (const struct http_header *h = given->headers; h && h->name; h++) {
        assert(n < HEADERS_MAX);
        headers[n++] = *h;
    }
    answer.headers = headers;
    answer.closes = c->closes;
    r->started = true;
    r->status = given->status;
    r->bytes = given->len;
    c->sink->on_answer(c->user, &answer);
}

void http_copy_more(struct http_copy *c)
{
    c->sink->on_more(c->user);
}
