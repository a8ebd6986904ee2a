/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/http - the server and its requests, over libh2o 2.2.5's own event loop.
 *
 * In the frontend, one per thread, without rights. A request's state is allocated from the
 * request's pool with a dispose function, so that it ends exactly once however its connection ends.
 * HTTP/1.1 only (upgrade_to_http2 = 0: this version's HTTP/2 has unfixed floods). The library's one
 * deadline for reading and idling is set out of reach; http_conn.c keeps ours, on the monotonic
 * clock.
 *
 * While a request is pending the library stops reading its socket. We start reading it again with a
 * callback of ours that does not take bytes: the socket's epoll registration then never changes
 * (two system calls less per request) and the client's end is seen at once instead of never.
 */
#include "frontend/http_impl.h"
#include "lib/clock.h"
#include "lib/fd.h"
#include <assert.h>
#include <inttypes.h>
#include <sys/random.h>

#define OUT_OF_REACH_MS (365ull * 86400 * 1000)

static int on_req(h2o_handler_t *self, h2o_req_t *req);

struct handler {
    h2o_handler_t super;
    struct http_server *server;
};

static void add_handler(h2o_pathconf_t *path, struct http_server *s)
{
    struct handler *h = (struct handler *)(void *)h2o_create_handler(path, sizeof *h);
    h->super.on_req = on_req;
    h->server = s;
}

struct http_server *http_server_new(const struct http_app *app, void *user)
{
    struct http_server *s = calloc(1, sizeof *s);
    if (!s || SYS(getrandom(&s->id_prefix, sizeof s->id_prefix, 0)) != sizeof s->id_prefix) {
        free(s);
        return NULL;
    }
    s->app = app;
    s->user = user;
    s->timers.prev = s->timers.next = &s->timers;
    h2o_config_init(&s->conf);
    s->conf.server_name = h2o_iovec_init(H2O_STRLIT("brood"));
    s->conf.http1.upgrade_to_http2 = 0;
    h2o_socket_buffer_mmap_settings.threshold = SIZE_MAX; /* there is no /tmp for us to spill to */
    s->conf.http1.req_timeout = OUT_OF_REACH_MS;
    s->host = h2o_config_register_host(&s->conf, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    add_handler(h2o_config_register_path(s->host, "/", 0), s);
    add_handler(&s->host->fallback_path, s);
    http_errors_init(s);
    s->loop = h2o_evloop_create();
    h2o_context_init(&s->ctx, s->loop, &s->conf);
    s->accept = (h2o_accept_ctx_t){.ctx = &s->ctx, .hosts = s->conf.hosts};
    http_conns_init(s);
    return s;
}

void http_server_set(struct http_server *s, const struct http_settings *settings)
{
    s->settings = *settings;
    s->conf.max_request_entity_size = settings->body_bytes_max;
}

size_t http_open_requests(const struct http_server *s)
{
    return s->open_requests;
}

void http_run(struct http_server *s)
{
    while (!s->stopping) {
        uint64_t now = clock_now_ns(), due = http_timers_next_ns(s), wait = 1000;
        if (due)
            wait = due <= now ? 0 : (due - now + CLOCK_NS_PER_MS - 1) / CLOCK_NS_PER_MS;
        (void)h2o_evloop_run(s->loop, (int32_t)(wait < 1000 ? wait : 1000)); /* -1: EINTR */
        http_body_hook_all(s);
        http_timers_run(s, clock_now_ns());
        s->app->on_turn(s->user);
    }
}

void http_stop(struct http_server *s)
{
    s->stopping = true;
}

static bool is_request_id(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = s[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '.' || c == '_' || c == '-'))
            return false;
    }
    return len > 0 && len <= HTTP_REQUEST_ID_MAX;
}

void http_make_id(struct http_server *s, const h2o_req_t *req, char id[HTTP_REQUEST_ID_MAX + 1])
{
    ssize_t at = h2o_find_header_by_str(&req->headers, H2O_STRLIT("x-request-id"), -1);
    if (at >= 0) {
        h2o_iovec_t v = req->headers.entries[at].value;
        if (is_request_id(v.base, v.len)) {
            memcpy(id, v.base, v.len);
            id[v.len] = 0;
            return;
        }
    }
    (void)snprintf(id, HTTP_REQUEST_ID_MAX + 1, "%016" PRIx64 "-%" PRIx64, s->id_prefix,
                   ++s->id_next);
}

static void on_dispose(void *p)
{
    struct http_request *r = p;
    struct http_conn *c = r->conn;
    struct http_server *s = c->server;
    s->app->on_end(s->user, r);
    s->open_requests--;
    free(r->chunk);
    fd_close(&r->file_fd);
    http_body_drop(r);
    http_body_unhooked(c);
    c->current = NULL;
    c->state = HTTP_READING;
    c->partial = false;
    c->since_ns = clock_now_ns();
}

void http_request_break(struct http_request *r)
{
    r->req->http1_is_persistent = 0;
    r->sending = true; /* for good: http_more must not send behind this */
    http_conn_break(r->conn);
    h2o_send(r->req, NULL, 0, H2O_SEND_STATE_ERROR);
}

static void send_chunk(struct http_request *r)
{
    bool last = false;
    size_t n = HTTP_FILL_BROKEN;
    if (!r->chunk)
        r->chunk = malloc(HTTP_CHUNK_BYTES);
    r->filling = true;
    if (r->chunk)
        n = r->fill(r->fill_data, r->chunk, HTTP_CHUNK_BYTES, &last);
    r->filling = false;
    r->conn->since_ns = clock_now_ns();
    if (n == HTTP_FILL_BROKEN) {
        http_request_break(r);
        return;
    }
    if (n == 0 && !last && r->head_sent) {
        r->conn->state = HTTP_WAITING;
        free(ptr_take(&r->chunk)); /* a thousand may be waiting for long */
        return;
    }
    h2o_iovec_t out = {.base = r->chunk, .len = n};
    r->conn->state = HTTP_ANSWERING;
    r->head_sent = r->sending = true;
    r->bytes += n;
    h2o_send(r->req, &out, n ? 1 : 0, last ? H2O_SEND_STATE_FINAL : H2O_SEND_STATE_IN_PROGRESS);
}

static void do_proceed(h2o_generator_t *self, h2o_req_t *req)
{
    struct http_request *r = (struct http_request *)(void *)self;
    (void)req;
    r->sending = false;
    send_chunk(r);
}

void http_more(struct http_request *r)
{
    if (r->copy)
        http_copy_more(r->copy);
    else if (r->head_sent && !r->sending && !r->filling)
        send_chunk(r);
}

static void do_stop(h2o_generator_t *self, h2o_req_t *req)
{
    (void)self; /* the dispose function follows and releases everything */
    (void)req;
}

static int on_req(h2o_handler_t *self, h2o_req_t *req)
{
    struct http_server *s = ((struct handler *)(void *)self)->server;
    struct http_conn *c = req->conn->callbacks->get_socket(req->conn)->on_close.data;
    struct http_request *r = h2o_mem_alloc_shared(&req->pool, sizeof *r, on_dispose);
    memset(r, 0, sizeof *r);
    r->generator = (h2o_generator_t){.proceed = do_proceed, .stop = do_stop};
    r->req = req;
    r->conn = c;
    r->file_fd = -1;
    r->body = ptr_take(&c->body);
    r->begin_ns = clock_now_ns();
    http_make_id(s, req, r->id);
    c->current = r;
    c->state = HTTP_BUSY;
    c->since_ns = r->begin_ns;
    s->open_requests++;
    if (s->draining)
        req->http1_is_persistent = 0;
    http_conn_watch(c);
    s->app->on_request(s->user, r);
    return 0;
}

const char *http_reason(int status)
{
    static const struct {
        int status;
        const char *text;
    } table[] = {
        {101, "Switching Protocols"},
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Payload Too Large"},
        {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {426, "Upgrade Required"},
        {429, "Too Many Requests"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {507, "Insufficient Storage"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (table[i].status == status)
            return table[i].text;
    return "Error";
}

static void begin(struct http_request *r, int status, const struct http_header *headers,
                  const char *content_type)
{
    h2o_req_t *req = r->req;
    r->started = true;
    r->status = status;
    if (r->body) /* unread: what follows on this connection is not a request */
        http_body_refuse(r);
    r->conn->state = HTTP_ANSWERING;
    r->conn->since_ns = clock_now_ns();
    http_conn_unwatch(r->conn);
    req->res.status = status;
    req->res.reason = http_reason(status);
    if (content_type)
        h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL, content_type,
                       strlen(content_type));
    h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("x-request-id"), 0, NULL, r->id,
                          strlen(r->id));
    for (; headers && headers->name; headers++)
        h2o_add_header_by_str(&req->pool, &req->res.headers, headers->name, strlen(headers->name),
                              1, NULL, headers->value, strlen(headers->value));
}

bool http_is_head(const struct http_request *r)
{
    struct http_text method = http_method(r);
    return h2o_memis(method.at, method.len, H2O_STRLIT("HEAD"));
}

void http_respond_as(struct http_request *r, int status, const struct http_header *headers,
                     const char *content_type, const void *body, size_t len)
{
    if (r->gone || r->started)
        return;
    if (r->copy) {
        http_copy_answer(r, &(struct http_answer){.status = status,
                                                  .headers = headers,
                                                  .content_type = content_type,
                                                  .body = body,
                                                  .len = len});
        return;
    }
    begin(r, status, headers, content_type);
    r->req->res.content_length = len;
    r->bytes = len;
    h2o_send_inline(r->req, body, len);
}

void http_respond(struct http_request *r, int status, const struct http_header *headers,
                  const void *body, size_t len)
{
    http_respond_as(r, status, headers, "application/json", body, len);
}

/* False: answered with 503 for want of memory. */
static bool make_chunk(struct http_request *r)
{
    r->chunk = malloc(HTTP_CHUNK_BYTES);
    if (!r->chunk) {
        http_close_after(r);
        http_respond(r, 503, NULL, "{}", 2);
    }
    return r->chunk != NULL;
}

static void start_chunks(struct http_request *r)
{
    h2o_start_response(r->req, &r->generator);
    if (http_is_head(r))
        h2o_send(r->req, NULL, 0, H2O_SEND_STATE_FINAL);
    else
        send_chunk(r);
}

void http_stream_as(struct http_request *r, int status, const struct http_header *headers,
                    const char *content_type, http_fill fill, void *data)
{
    if (r->copy) {
        http_copy_answer(r, &(struct http_answer){.status = status,
                                                  .headers = headers,
                                                  .content_type = content_type,
                                                  .fill = fill,
                                                  .fill_data = data});
        return;
    }
    if (r->gone || r->started || !make_chunk(r))
        return;
    r->fill = fill;
    r->fill_data = data;
    begin(r, status, headers, content_type);
    start_chunks(r);
}

void http_stream(struct http_request *r, int status, http_fill fill, void *data)
{
    http_stream_as(r, status, NULL, "application/json", fill, data);
}

static size_t fill_from_file(void *data, char *at, size_t room, bool *ret_last)
{
    struct http_request *r = data;
    uint64_t left = r->file_end - r->file_at;
    ssize_t n = SYS(pread(r->file_fd, at, left < room ? (size_t)left : room, (off_t)r->file_at));
    if (n <= 0 && left > 0)
        return HTTP_FILL_BROKEN;
    r->file_at += (uint64_t)n;
    *ret_last = r->file_at == r->file_end;
    return (size_t)n;
}

void http_respond_fd(struct http_request *r, int status, const struct http_header *headers,
                     const char *content_type, int fd, uint64_t offset, uint64_t len)
{
    assert(!r->copy);
    fd_close(&r->file_fd);
    r->file_fd = fd;
    if (r->gone || r->started || !make_chunk(r))
        return;
    r->file_at = offset;
    r->file_end = offset + len;
    r->fill = fill_from_file;
    r->fill_data = r;
    begin(r, status, headers, content_type);
    r->req->res.content_length = len;
    start_chunks(r);
}

void http_request_gone(struct http_request *r)
{
    struct http_server *s = r->conn->server;
    if (r->gone || r->started)
        return;
    s->app->on_gone(s->user, r);
    r->gone = true;
    /* Nobody reads it: an answer is how the library lets go of a pending request. */
    r->req->http1_is_persistent = 0;
    begin(r, 500, NULL, NULL);
    r->status = 0;
    r->req->res.content_length = 0;
    h2o_send_inline(r->req, "", 0);
}

void http_upgrade(struct http_request *r, h2o_http1_upgrade_cb on_upgraded, void *data)
{
    begin(r, 101, NULL, NULL);
    h2o_add_header(&r->req->pool, &r->req->res.headers, H2O_TOKEN_UPGRADE, NULL,
                   H2O_STRLIT("websocket"));
    h2o_http1_upgrade(r->req, NULL, 0, on_upgraded, data);
}

void http_close_after(struct http_request *r)
{
    if (r->copy)
        http_copy_close_after(r->copy);
    else
        r->req->http1_is_persistent = 0;
}

/* The path and what is behind it. */
static struct http_text target_of(const struct http_request *r)
{
    if (r->copy)
        return http_copy_target(r->copy);
    return (struct http_text){r->req->input.path.base, r->req->input.path.len};
}

struct http_text http_method(const struct http_request *r)
{
    if (r->copy)
        return http_copy_method(r->copy);
    return (struct http_text){r->req->input.method.base, r->req->input.method.len};
}

struct http_text http_path(const struct http_request *r)
{
    struct http_text p = target_of(r);
    const char *query = p.len ? memchr(p.at, '?', p.len) : NULL;
    return (struct http_text){p.at, query ? (size_t)(query - p.at) : p.len};
}

struct http_text http_query(const struct http_request *r)
{
    struct http_text p = target_of(r), path = http_path(r);
    if (path.len == p.len)
        return (struct http_text){p.at, 0};
    return (struct http_text){p.at + path.len + 1, p.len - path.len - 1};
}

static ssize_t find_header(const struct http_request *r, const char *name, ssize_t after)
{
    size_t len = strlen(name);
    const h2o_token_t *token = h2o_lookup_token(name, len);
    return token ? h2o_find_header(&r->req->headers, token, after)
                 : h2o_find_header_by_str(&r->req->headers, name, len, after);
}

struct http_text http_header_of(const struct http_request *r, const char *name)
{
    if (r->copy)
        return http_copy_header(r->copy, name, 0);
    ssize_t at = find_header(r, name, -1);
    if (at < 0)
        return (struct http_text){NULL, 0};
    h2o_iovec_t v = r->req->headers.entries[at].value;
    return (struct http_text){v.base, v.len};
}

struct http_text http_host(const struct http_request *r)
{
    return (struct http_text){r->req->input.authority.base, r->req->input.authority.len};
}

bool http_header_repeats(const struct http_request *r, const char *name)
{
    if (r->copy)
        return http_copy_header(r->copy, name, 1).at;
    ssize_t at = find_header(r, name, -1);
    return at >= 0 && find_header(r, name, at) >= 0;
}

void http_add_header(struct http_request *r, const char *name, const char *value)
{
    if (r->copy) {
        http_copy_add_header(r->copy, name, value);
        return;
    }
    h2o_iovec_t copy = h2o_strdup(&r->req->pool, value, SIZE_MAX);
    h2o_add_header_by_str(&r->req->pool, &r->req->res.headers, name, strlen(name), 1, NULL,
                          copy.base, copy.len);
}

struct http_text http_body(const struct http_request *r)
{
    if (r->copy)
        return http_copy_body(r->copy);
    return (struct http_text){r->req->entity.base, r->req->entity.len};
}

const char *http_request_id(const struct http_request *r)
{
    return r->id;
}

const void **http_whose(struct http_request *r)
{
    return &r->whose;
}

void **http_data(struct http_request *r)
{
    return &r->data;
}

int http_status(const struct http_request *r)
{
    return r->status;
}

uint64_t http_bytes(const struct http_request *r)
{
    return r->bytes;
}

uint64_t http_begin_ns(const struct http_request *r)
{
    return r->begin_ns;
}
