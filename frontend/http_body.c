/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/http_body - uploads: bodies that the library does not read.
 *
 * In the frontend, per thread; the count of bytes held is the process's. libh2o 2.2.5 collects
 * every body in memory, doubling and copying, before it calls a handler: no refusal before the last
 * byte, no file, no limit per path. So we are called before it whenever a socket that waits for a
 * request has bytes. Is the head complete and its path one for uploads, the announcement of a body
 * is made unreadable for the library (a header name of the same length) and the bytes behind the
 * head are taken out of its buffer. It then sees a request without a body and calls the handler at
 * once; the body is still in the socket, from where http_body_receive takes it into a memfd as it
 * comes.
 *
 * Whatever is unusual in such a head (folded lines, an encoding besides chunked, a
 * request pipelined behind another) is left to the library, which reads the body as any other: in
 * memory, up to body_bytes_max. The one who decides about framing is therefore always the one who
 * reads the body. Only lengths that contradict each other are made unreadable in every head, so
 * that the library refuses it.
 *
 * A request that is answered before its body was read ends its connection. Closing it at once would
 * let the kernel send a reset that can overtake the answer, so a duplicate of the socket stays for
 * a while and swallows what comes.
 */
#include "frontend/http_head.h"
#include "frontend/http_impl.h"
#include "lib/clock.h"
#include "lib/fd.h"
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <sys/mman.h>

#define RECEIVE_BYTES (256u * 1024)
#define PACE_BYTES_S                                                                               \
    (1u << 20)               /* a body may take longer than request_timeout when it comes faster */
#define LINGER_MS 2000u      /* without a byte */
#define LINGER_ALL_MS 10000u /* with them */
#define LINGER_BYTES_MAX (256ull << 20)
#define COUNTED_FROM 65536u /* smaller buffers of the library are not worth counting */
#define RETRY_S "1"

/* As picohttpparser.h has it; the library exports the function, Debian leaves out the header. */
struct phr_chunked_decoder {
    size_t bytes_left_in_chunk;
    char consume_trailer, hex_count, state;
};
ssize_t phr_decode_chunked(struct phr_chunked_decoder *decoder, char *buf, size_t *bufsz);

struct http_body {
    uint64_t length, max, have;
    bool expects; /* 100-continue */
    int fd;
    http_on_body on_body;
    struct phr_chunked_decoder decoder;
    size_t early_len;
    char early[]; /* what came together with the head */
};

struct late_reader {
    struct http_server *server;
    struct http_watch *watch;
    struct http_timer timer;
    int fd;
    uint64_t swallowed, end_ns;
    bool heard; /* since the timer was set */
};

static atomic_ullong held; /* by all threads */
static __thread char scratch[RECEIVE_BYTES];

/* ---- before the library -------------------------------------------------------------------- */

/* Takes the body out of what the library is about to see. */
static void take_over(struct http_conn *c, struct http_head *h, uint64_t max)
{
    h2o_buffer_t *in = c->sock->input;
    size_t behind = in->size - h->len;
    size_t early = h->length < behind ? (size_t)h->length : behind;
    struct http_body *b = malloc(sizeof *b + early);
    if (!b)
        return;
    *b = (struct http_body){.length = h->length,
                            .max = max,
                            .expects = h->expects,
                            .fd = -1,
                            .decoder.consume_trailer = 1,
                            .early_len = early};
    memcpy(b->early, in->bytes + h->len, early);
    memmove(in->bytes + h->len, in->bytes + h->len + early, behind - early);
    in->size -= early;
    http_head_hide(h);
    c->body = b;
}

static void judge(struct http_conn *c)
{
    const struct http_server *s = c->server;
    h2o_buffer_t *in = c->sock->input;
    struct http_head h = {.len = 0};
    size_t line = http_head_read_line(&h, in->bytes, in->size);
    uint64_t max = line && h.path.at ? s->app->upload_max(s->user, h.method, h.path) : 0;
    if (!line)
        return;
    c->judged = true;
    if (max == 0)
        return;
    int r = http_head_read_headers(&h, in->bytes + line, in->size - line);
    h.len += line;
    if (r == 0)
        c->judged = false;
    else if (r > 0 && (h.length_name || h.encoding_name))
        take_over(c, &h, max);
}

/* Two lengths of one body: the library takes the first, who stands before us perhaps the other.
 * Looks at all heads that lie behind each other, since it asks nobody before it goes on with the
 * next. False: not even the first one is all there. */
static bool check_heads(struct http_conn *c)
{
    h2o_buffer_t *in = c->sock->input;
    uint64_t body = 0;
    if (!http_head_is_whole(in->bytes, in->size, &c->head_at))
        return false;
    for (size_t at = 0, len; at < in->size; at += len + (size_t)body) {
        len = http_head_spoil(in->bytes + at, in->size - at, &body);
        if (len == 0)
            return at > 0;
        if (at == 0)
            c->too_large = body != HTTP_LENGTH_UNKNOWN && body > c->server->settings.body_bytes_max;
        if (body > in->size - at - len)
            break;
    }
    return true;
}

/* The library's own buffers, when they are large. False: that is too much now. */
static bool count_buffer(struct http_conn *c)
{
    uint64_t now = c->sock->input->capacity >= COUNTED_FROM ? c->sock->input->capacity : 0;
    if (now == c->counted)
        return true;
    uint64_t all = atomic_fetch_add(&held, now - c->counted) + now - c->counted;
    bool fits = now < c->counted || all <= c->server->settings.uploads_held_max;
    c->counted = now;
    return fits;
}

static void refuse_raw(struct http_conn *c)
{
    static const char text[] =
        "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nServer: brood\r\n"
        "Retry-After: " RETRY_S "\r\nContent-Type: application/json\r\nContent-Length: 83\r\n\r\n"
        "{\"error\":{\"code\":\"overloaded\",\"message\":\"too many bodies are "
        "being received now\"}}\n";
    (void)send(h2o_socket_get_fd(c->sock), text, sizeof text - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    c->linger_fd = fcntl(h2o_socket_get_fd(c->sock), F_DUPFD_CLOEXEC, 3);
}

static void on_incoming(h2o_socket_t *sock, const char *err)
{
    struct http_conn *c = sock->on_close.data;
    if (!err && !count_buffer(c)) {
        refuse_raw(c);
        err = h2o_socket_error_closed;
    }
    if (!err && !c->checked)
        c->checked = check_heads(c);
    if (!err && c->checked && !c->judged)
        judge(c);
    if (!err && c->too_large && !c->body && c->linger_fd < 0) /* the library says 413 and closes */
        c->linger_fd = fcntl(h2o_socket_get_fd(c->sock), F_DUPFD_CLOEXEC, 3);
    c->server->library_read(sock, err);
}

void http_body_hook(struct http_conn *c)
{
    struct http_server *s = c->server;
    if (!s->library_read)
        s->library_read = c->sock->_cb.read; /* always the same function */
    if (c->sock->_cb.read != s->library_read)
        return;
    c->checked = c->too_large = false;
    c->head_at = 0;
    c->judged = c->sock->input->size > 0; /* it has seen these bytes: it keeps the request */
    h2o_socket_read_start(c->sock, on_incoming);
}

void http_body_hook_all(struct http_server *s)
{
    for (struct http_conn *c; (c = s->unhooked);) {
        s->unhooked = c->next_unhooked;
        c->unhooked = false;
        http_body_hook(c);
    }
}

void http_body_unhooked(struct http_conn *c)
{
    atomic_fetch_sub(&held, c->counted);
    c->counted = 0;
    if (c->unhooked)
        return;
    c->unhooked = true;
    c->next_unhooked = c->server->unhooked;
    c->server->unhooked = c;
}

/* ---- receiving ----------------------------------------------------------------------------- */

static bool hold(struct http_request *r, uint64_t bytes)
{
    uint64_t max = r->conn->server->settings.uploads_held_max;
    if (atomic_fetch_add(&held, bytes) + bytes > max) {
        atomic_fetch_sub(&held, bytes);
        return false;
    }
    r->held += bytes;
    return true;
}

static void free_body(struct http_body *b)
{
    if (!b)
        return;
    fd_close(&b->fd);
    free(b);
}

static void fail(struct http_request *r, int status, const char *code, const char *text)
{
    const struct http_header retry[] = {{"retry-after", RETRY_S}, {NULL, NULL}};
    char body[300];
    size_t n = r->conn->server->app->put_error(http_path(r), code, text, body, sizeof body);
    http_respond(r, status, status == 503 ? retry : NULL, body, n);
}

static void fail_busy(struct http_request *r)
{
    fail(r, 503, "overloaded", "too many bodies are being received now");
}

static void fail_large(struct http_request *r)
{
    char text[80];
    (void)snprintf(text, sizeof text, "this path takes a body of at most %" PRIu64 " bytes",
                   r->body->max);
    fail(r, 413, "too_large", text);
}

static void finish(struct http_request *r)
{
    const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    struct http_server *s = r->conn->server;
    struct http_body *b = ptr_take(&r->body);
    int fd = fd_take(&b->fd);
    uint64_t have = b->have;
    http_on_body on_body = b->on_body;
    if (b->length == HTTP_LENGTH_UNKNOWN)
        http_close_after(r); /* bytes behind its end are lost */
    free_body(b);
    r->conn->state = HTTP_BUSY;
    r->conn->since_ns = clock_now_ns();
    if (fcntl(fd, F_ADD_SEALS, seals) < 0 || lseek(fd, 0, SEEK_SET) < 0) {
        fd_close(&fd);
        fail(r, 500, "internal", "the body could not be kept");
        return;
    }
    on_body(s->user, r, fd, have);
}

/* False: the request is over, one way or the other. */
static bool take_bytes(struct http_request *r, char *at, size_t len)
{
    struct http_body *b = r->body;
    ssize_t behind = -2;
    if (b->length == HTTP_LENGTH_UNKNOWN) {
        behind = phr_decode_chunked(&b->decoder, at, &len);
        if (behind == -1) {
            fail(r, 400, "bad_request", "the chunks of the body are broken");
            return false;
        }
        if (b->have + len > b->max) {
            fail_large(r);
            return false;
        }
    }
    if (!hold(r, len) || fd_write_all(b->fd, at, len) < 0) {
        fail_busy(r);
        return false;
    }
    b->have += len;
    if (b->have < b->length && behind < 0)
        return true;
    finish(r);
    return false;
}

void http_body_on_readable(struct http_request *r)
{
    struct http_conn *c = r->conn;
    struct http_body *b = r->body;
    uint64_t left = b->length - b->have, now;
    ssize_t n = SYS(recv(h2o_socket_get_fd(c->sock), scratch,
                         left < sizeof scratch ? (size_t)left : sizeof scratch, MSG_DONTWAIT));
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        http_request_gone(r);
        return;
    }
    now = clock_now_ns();
    c->since_ns += (uint64_t)n * CLOCK_NS_PER_MS * 1000 / PACE_BYTES_S;
    if (c->since_ns > now)
        c->since_ns = now;
    (void)take_bytes(r, scratch, (size_t)n);
}

void http_body_on_overdue(struct http_request *r)
{
    fail(r, 408, "request_timeout", "the body did not come in time");
}

/* The library has it all. */
static void hand_over(struct http_request *r, http_on_body on_body)
{
    struct http_server *s = r->conn->server;
    struct http_text body = http_body(r);
    int fd = hold(r, body.len) ? fd_memfd_sealed("body", body.at ? body.at : "", body.len) : -1;
    if (fd < 0)
        fail_busy(r);
    else
        on_body(s->user, r, fd, body.len);
}

void http_body_receive(struct http_request *r, http_on_body on_body)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct http_body *b = r->body;
    struct http_conn *c = r->conn;
    if (r->gone || r->started)
        return;
    if (!b) {
        hand_over(r, on_body);
        return;
    }
    if (b->length != HTTP_LENGTH_UNKNOWN && b->length > b->max) {
        fail_large(r);
        return;
    }
    /* What is announced is not held yet: or a few idle connections would keep everyone out. */
    bool fits = b->length == HTTP_LENGTH_UNKNOWN ||
                atomic_load(&held) + b->length <= c->server->settings.uploads_held_max;
    b->fd = fits ? SYS(memfd_create("body", MFD_CLOEXEC | MFD_ALLOW_SEALING)) : -1;
    if (b->fd < 0) {
        fail_busy(r);
        return;
    }
    b->on_body = on_body;
    c->state = HTTP_RECEIVING;
    c->since_ns = clock_now_ns();
    if ((b->early_len > 0 || b->length == 0) && !take_bytes(r, b->early, b->early_len))
        return;
    if (b->expects && b->early_len == 0) /* nothing else is on its way: these few bytes fit */
        (void)send(h2o_socket_get_fd(c->sock), go_on, sizeof go_on - 1,
                   MSG_DONTWAIT | MSG_NOSIGNAL);
    if (!c->watched)
        http_conn_watch(c);
}

void http_body_drop(struct http_request *r)
{
    free_body(ptr_take(&r->body));
    atomic_fetch_sub(&held, r->held);
    r->held = 0;
}

/* ---- bodies that nobody wants -------------------------------------------------------------- */

void http_body_refuse(struct http_request *r)
{
    struct http_conn *c = r->conn;
    http_close_after(r);
    free_body(ptr_take(&r->body));
    if (c->linger_fd < 0)
        c->linger_fd = fcntl(h2o_socket_get_fd(c->sock), F_DUPFD_CLOEXEC, 3);
}

static void stop_reading(struct late_reader *l)
{
    http_timer_cancel(&l->timer);
    http_watch_free(l->watch);
    free(l);
    http_conn_uncount();
}

static void on_linger_timer(struct http_timer *t)
{
    struct late_reader *l = CONTAINER_OF(t, struct late_reader, timer);
    uint64_t now = clock_now_ns();
    if (!l->heard || now >= l->end_ns) {
        stop_reading(l);
        return;
    }
    l->heard = false;
    http_timer_set(l->server, t, now + LINGER_MS * CLOCK_NS_PER_MS);
}

static void on_linger_bytes(void *data)
{
    struct late_reader *l = data;
    ssize_t n = recv(l->fd, scratch, sizeof scratch, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    l->swallowed += n > 0 ? (uint64_t)n : 0;
    l->heard = true;
    if (n <= 0 || l->swallowed > LINGER_BYTES_MAX)
        stop_reading(l);
}

bool http_body_conn_closed(struct http_conn *c)
{
    struct http_server *s = c->server;
    free_body(ptr_take(&c->body));
    atomic_fetch_sub(&held, c->counted);
    for (struct http_conn **at = &s->unhooked; c->unhooked && *at; at = &(*at)->next_unhooked)
        if (*at == c) {
            *at = c->next_unhooked;
            break;
        }
    struct late_reader *l = c->linger_fd >= 0 ? calloc(1, sizeof *l) : NULL;
    if (l) {
        (void)shutdown(c->linger_fd, SHUT_WR);
        l->server = s;
        l->fd = c->linger_fd;
        l->watch = http_watch_new(s, c->linger_fd, on_linger_bytes, l);
    }
    if (!l || !l->watch) {
        fd_close(&c->linger_fd);
        free(l);
        return false;
    }
    uint64_t now = clock_now_ns();
    l->end_ns = now + LINGER_ALL_MS * CLOCK_NS_PER_MS;
    l->timer.on_due = on_linger_timer;
    http_timer_set(s, &l->timer, now + LINGER_MS * CLOCK_NS_PER_MS);
    return true;
}
