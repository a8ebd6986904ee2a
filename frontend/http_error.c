/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/http_error - answers that the library gives by itself (a body over the limit, broken
 * chunks, an unknown expectation) get our JSON shape, an X-Request-Id and a line in the log.
 *
 * In the frontend, per thread. A filter in front of everything looks whether a request is known to
 * us; if it is not, the library has made up the answer and its text body is replaced.
 */
#include "frontend/http_impl.h"
#include "lib/log.h"

struct filter {
    h2o_filter_t super;
    struct http_server *server;
};

struct replacement {
    h2o_ostream_t super;
    h2o_iovec_t body;
};

static const char *code_of(int status)
{
    switch (status) {
    case 400:
        return "bad_request";
    case 404:
        return "not_found";
    case 413:
        return "too_large";
    case 417:
        return "expectation_failed";
    default:
        return "internal";
    }
}

static void do_send(h2o_ostream_t *self, h2o_req_t *req, h2o_iovec_t *bufs, size_t count,
                    h2o_send_state_t state)
{
    struct replacement *own = (struct replacement *)(void *)self;
    (void)bufs;
    if (h2o_send_state_is_in_progress(state)) /* its inline answers are one piece: cannot happen */
        return;
    h2o_ostream_send_next(self, req, &own->body, count ? 1 : 0, state);
}

static void on_setup(h2o_filter_t *self, h2o_req_t *req, h2o_ostream_t **slot)
{
    struct http_server *s = ((struct filter *)(void *)self)->server;
    struct http_conn *c = req->conn->callbacks->get_socket(req->conn)->on_close.data;
    char id[HTTP_REQUEST_ID_MAX + 1], text[256], path[129];
    if (c->current && c->current->req == req) {
        h2o_setup_next_ostream(req, slot);
        return;
    }
    http_make_id(s, req, id);
    int status = req->res.status;
    const char *base = req->input.path.base;
    const char *query = base ? memchr(base, '?', req->input.path.len) : NULL;
    const struct http_text at = {base, query ? (size_t)(query - base) : req->input.path.len};
    size_t n = s->app->put_error(at, code_of(status),
                                 status == 413 ? "the body is larger than http.body_max_kb allows"
                                               : "the request is not valid HTTP/1.1",
                                 text, sizeof text);
    struct replacement *own = (void *)h2o_add_ostream(req, sizeof *own, slot);
    own->super.do_send = do_send;
    own->body = h2o_strdup(&req->pool, text, n);
    req->res.reason = http_reason(status);
    req->res.content_length = n;
    h2o_set_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE,
                   H2O_STRLIT("application/json"), 1);
    h2o_iovec_t copy = h2o_strdup(&req->pool, id, strlen(id));
    h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("x-request-id"), 0, NULL,
                          copy.base, copy.len);
    c->state = HTTP_ANSWERING;
    (void)snprintf(path, sizeof path, "%.*s",
                   (int)(req->input.path.len < 128 ? req->input.path.len : 128),
                   req->input.path.base ? req->input.path.base : "");
    LOG(INFO, "request", F_STR("request_id", copy.base), F_STR("path", path),
        F_I64("status", status), F_U64("bytes", (uint64_t)n));
    h2o_setup_next_ostream(req, &own->super.next);
}

static void add(h2o_pathconf_t *path, struct http_server *s)
{
    struct filter *f = (struct filter *)(void *)h2o_create_filter(path, sizeof *f);
    f->super.on_setup_ostream = on_setup;
    f->server = s;
}

void http_errors_init(struct http_server *s)
{
    for (size_t i = 0; i < s->host->paths.size; i++)
        add(&s->host->paths.entries[i], s);
    add(&s->host->fallback_path, s);
}
