/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/http_ws - WebSockets (RFC 6455): the handshake, and frames over what was a connection.
 *
 * In the frontend. The library's own WebSockets check no version, know no idle timeout and queue
 * without a bound; of it we use the upgrade alone: when the 101 is out, a duplicate of the socket
 * is ours and the library's connection ends. What comes is read by ws_frames.c, which collects no
 * messages: binary ones go to the program piece by piece, as bytes. So what a peer sends decides
 * nothing about our memory.
 *
 * What goes out is sent at once; what the peer does not take waits in one buffer with a bound, and
 * the program asks how much room there is before it reads its own source. A little of it is kept
 * for control frames and text; is that used up too, nothing more is read from this peer.
 *
 * A peer that is silent for half of silence_ms is sent a ping; one that says nothing for all of it
 * is gone. After a close frame of either side the program hears and sends nothing more, and the
 * socket stays until the peer has answered and hung up, two seconds at most.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "frontend/http_impl.h"
#include "frontend/ws_frames.h"
#include "lib/clock.h"
#include "lib/fd.h"
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <poll.h>
#include <strings.h>
#include <sys/uio.h>

enum { OP_TEXT = 1, OP_BINARY = 2, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 }; /* RFC 6455, 5.2 */

#define RESERVE_BYTES 4096u /* behind HTTP_WS_QUEUE_MAX: control frames and text */
#define HEAD_MAX 10u
#define READ_BYTES_PER_TURN (128u * 1024) /* other descriptors want their turn */
#define CLOSE_MS 2000u
#define SEND_BUFFER_BYTES (128 * 1024) /* the kernel's: a slow reader has no more of it either */

enum ws_state {
    WS_DETACHED, /* of no loop yet */
    WS_OPEN,
    WS_CLOSING, /* a close frame is out or on its way; the program hears and sends nothing more */
};

struct http_ws {
    struct http_server *server;
    h2o_socket_t *sock; /* NULL: detached, then fd */
    int fd;
    enum ws_state state;
    const struct http_ws_app *app;
    void *data;
    void (*on_open)(void *data, struct http_ws *ws);
    struct ws_reader reader;
    struct http_timer timer;
    uint64_t heard_ns, silence_ms;
    size_t budget; /* bytes that may still be read in this turn */
    bool ended;    /* the peer's end of file, or an error */
    bool reading;  /* frames are being taken: nobody begins that anew */
    bool stopped;  /* the socket is not read: no room for answers, or the program takes nothing */
    bool waits_write;    /* for room in the kernel's buffer */
    bool pinged;         /* since something was heard */
    bool peer_closed;    /* its close frame has come */
    bool failed;         /* what it sends has no meaning any more */
    bool shut;           /* then: it knows that nothing more comes of us */
    const uint8_t *rest; /* of a piece that the program has not taken yet; the reader's */
    size_t rest_len;
    char *out; /* NULL: nothing waits */
    size_t out_at, out_end;
    char *early; /* what came with the handshake */
    size_t early_at, early_len;
};

/* ---- the handshake ------------------------------------------------------------------------- */

/* Is `word` one of a list of tokens? */
static bool has_token(struct http_text list, const char *word)
{
    const char *at = list.at, *end = list.at + list.len;
    while (at && at < end) {
        const char *comma = memchr(at, ',', (size_t)(end - at)), *stop = comma ? comma : end;
        const char *next = stop + 1;
        while (at < stop && (*at == ' ' || *at == '\t'))
            at++;
        while (stop > at && (stop[-1] == ' ' || stop[-1] == '\t'))
            stop--;
        if ((size_t)(stop - at) == strlen(word) && strncasecmp(at, word, strlen(word)) == 0)
            return true;
        at = next;
    }
    return false;
}

static void refuse(struct http_request *r, int status, const char *text)
{
    static const struct http_header version[] = {
        {"sec-websocket-version", "13"}, {"upgrade", "websocket"}, {NULL, NULL}};
    char body[300];
    const char *code = status == 426 ? "upgrade_required" : "bad_request";
    size_t n = r->conn->server->app->put_error(http_path(r), code, text, body, sizeof body);
    http_respond(r, status, status == 426 ? version : NULL, body, n);
}

/* 16 bytes in base64. */
static bool is_key(struct http_text key)
{
    uint8_t bytes[24];
    return key.at && key.len == 24 && key.at[22] == '=' && key.at[23] == '=' &&
           memchr(key.at, '=', 22) == NULL &&
           EVP_DecodeBlock(bytes, (const uint8_t *)key.at, 24) == 18;
}

static const char *find_fault(const struct http_request *r, int *ret_status)
{
    const h2o_req_t *req = r->req;
    struct http_text version = http_header_of(r, "sec-websocket-version");
    *ret_status = 426;
    if (!has_token((struct http_text){req->upgrade.base, req->upgrade.len}, "websocket") ||
        !has_token(http_header_of(r, "connection"), "upgrade"))
        return "this path is a WebSocket: Connection: Upgrade and Upgrade: websocket are needed";
    if (!version.at || version.len != 2 || memcmp(version.at, "13", 2) != 0 ||
        http_header_repeats(r, "sec-websocket-version"))
        return "only version 13 of the WebSocket protocol is spoken here";
    *ret_status = 400;
    if (req->version < 0x101 || req->version >= 0x200)
        return "a WebSocket begins with HTTP/1.1";
    if (!is_key(http_header_of(r, "sec-websocket-key")) ||
        http_header_repeats(r, "sec-websocket-key"))
        return "Sec-WebSocket-Key: 16 bytes in base64 are expected, once";
    return NULL;
}

static void add_accept(struct http_request *r)
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    struct http_text key = http_header_of(r, "sec-websocket-key");
    uint8_t hash[SHA_DIGEST_LENGTH];
    char text[32] = "";
    SHA_CTX ctx;
    (void)SHA1_Init(&ctx);
    (void)SHA1_Update(&ctx, key.at, key.len);
    (void)SHA1_Update(&ctx, guid, sizeof guid - 1);
    (void)SHA1_Final(hash, &ctx);
    (void)EVP_EncodeBlock((uint8_t *)text, hash, sizeof hash);
    http_add_header(r, "sec-websocket-accept", text);
}

static void ws_free(struct http_ws *ws)
{
    http_timer_cancel(&ws->timer);
    if (ws->sock) {
        h2o_socket_read_stop(ws->sock);
        h2o_socket_close(ws->sock);
        ws->server->open_requests--;
    }
    if (ws->sock || ws->fd >= 0)
        http_conn_uncount();
    fd_close(&ws->fd);
    ws_reader_fini(&ws->reader);
    free(ws->out);
    free(ws->early);
    free(ws);
}

static struct http_ws *ws_new(void);

/* The 101 is out and the request is over; or the client left before. */
static void on_upgraded(void *user_data, h2o_socket_t *sock, size_t head_bytes)
{
    struct http_ws *ws = user_data;
    void (*on_open)(void *data, struct http_ws *ws) = ws->on_open;
    void *data = ws->data;
    if (sock) {
        struct http_conn *c = sock->on_close.data;
        size_t early = sock->input->size - head_bytes;
        ws->fd = SYS(fcntl(h2o_socket_get_fd(sock), F_DUPFD_CLOEXEC, 3));
        ws->early = early > 0 ? malloc(early) : NULL;
        if (ws->early) {
            memcpy(ws->early, sock->input->bytes + head_bytes, early);
            ws->early_len = early;
        }
        bool whole = ws->fd >= 0 && (early == 0 || ws->early);
        c->upgraded = ws->fd >= 0; /* its place among the connections goes with ours */
        h2o_socket_close(sock);
        if (!whole)
            sock = NULL;
    }
    if (!sock) {
        ws_free(ws);
        ws = NULL;
    }
    on_open(data, ws);
}

bool http_ws_accept(struct http_request *r, const char *protocol,
                    void (*on_open)(void *data, struct http_ws *ws), void *data)
{
    int status = 0;
    const char *fault = find_fault(r, &status);
    if (r->gone || r->started)
        return false;
    if (fault) {
        refuse(r, status, fault);
        return false;
    }
    struct http_ws *ws = ws_new();
    if (!ws) {
        http_close_after(r);
        http_respond(r, 503, NULL, "{}", 2);
        return false;
    }
    ws->on_open = on_open;
    ws->data = data;
    add_accept(r);
    if (protocol)
        http_add_header(r, "sec-websocket-protocol", protocol);
    http_upgrade(r, on_upgraded, ws);
    return true;
}

/* ---- what goes out ------------------------------------------------------------------------- */

static void on_writable(h2o_socket_t *sock, const char *err);

static void await_writable(struct http_ws *ws)
{
    if (ws->waits_write)
        return;
    ws->waits_write = true;
    h2o_socket_notify_write(ws->sock, on_writable);
}

static size_t queued(const struct http_ws *ws)
{
    return ws->out_end - ws->out_at;
}

/* Keeps what the kernel did not take. False: there is no room. */
static bool enqueue(struct http_ws *ws, const struct iovec *parts, size_t count)
{
    const size_t room = HTTP_WS_QUEUE_MAX + RESERVE_BYTES + HEAD_MAX;
    if (!ws->out)
        ws->out = malloc(room);
    if (!ws->out)
        return false;
    if (ws->out_at > 0) {
        memmove(ws->out, ws->out + ws->out_at, queued(ws));
        ws->out_end -= ws->out_at;
        ws->out_at = 0;
    }
    for (size_t i = 0; i < count; i++) {
        if (parts[i].iov_len > room - ws->out_end)
            return false;
        memcpy(ws->out + ws->out_end, parts[i].iov_base, parts[i].iov_len);
        ws->out_end += parts[i].iov_len;
    }
    await_writable(ws);
    return true;
}

/* All of it, now or later; an end that shows here is dealt with when the socket is read. */
static void put_frame(struct http_ws *ws, uint8_t opcode, const void *bytes, size_t len)
{
    uint8_t head[HEAD_MAX] = {(uint8_t)(0x80 | opcode)};
    struct iovec parts[2] = {{.iov_base = head, .iov_len = 2},
                             {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len}};
    if (len < 126) {
        head[1] = (uint8_t)len;
    } else if (len < 65536) {
        head[1] = 126;
        head[2] = (uint8_t)(len >> 8);
        head[3] = (uint8_t)len;
        parts[0].iov_len = 4;
    } else {
        head[1] = 127;
        for (unsigned i = 0; i < 8; i++)
            head[2 + i] = (uint8_t)((uint64_t)len >> (56 - 8 * i));
        parts[0].iov_len = 10;
    }
    struct msghdr msg = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t n = 0;
    if (queued(ws) == 0)
        n = SYS(sendmsg(h2o_socket_get_fd(ws->sock), &msg, MSG_DONTWAIT | MSG_NOSIGNAL));
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        ws->ended = true;
        http_timer_set(ws->server, &ws->timer, clock_now_ns());
        return;
    }
    for (size_t i = 0, sent = n > 0 ? (size_t)n : 0; i < 2; i++) {
        size_t part = sent < parts[i].iov_len ? sent : parts[i].iov_len;
        parts[i].iov_base = (char *)parts[i].iov_base + part;
        parts[i].iov_len -= part;
        sent -= part;
    }
    if (parts[0].iov_len + parts[1].iov_len > 0 && !enqueue(ws, parts, 2)) {
        ws->ended = true; /* half a frame is worse than none */
        http_timer_set(ws->server, &ws->timer, clock_now_ns());
    }
}

size_t http_ws_room(const struct http_ws *ws)
{
    size_t now = queued(ws);
    return ws->state != WS_OPEN || ws->ended || now >= HTTP_WS_QUEUE_MAX ? 0
                                                                         : HTTP_WS_QUEUE_MAX - now;
}

void http_ws_send(struct http_ws *ws, const void *bytes, size_t len)
{
    if (ws->state == WS_OPEN && !ws->ended && len > 0)
        put_frame(ws, OP_BINARY, bytes, len);
}

void http_ws_send_text(struct http_ws *ws, const char *text, size_t len)
{
    if (ws->state == WS_OPEN && !ws->ended)
        put_frame(ws, OP_TEXT, text, len);
}

/* Is there room to answer what one more frame may ask? */
static bool may_answer(const struct http_ws *ws)
{
    return queued(ws) < HTTP_WS_QUEUE_MAX + RESERVE_BYTES / 2;
}

static void begin_close(struct http_ws *ws, unsigned code, const char *reason, size_t len)
{
    uint8_t frame[WS_CONTROL_MAX] = {(uint8_t)(code >> 8), (uint8_t)code};
    len = len > WS_CONTROL_MAX - 2 ? WS_CONTROL_MAX - 2 : len;
    if (len > 0)
        memcpy(frame + 2, reason, len);
    ws->state = WS_CLOSING;
    if (!ws->ended) /* without a code a close frame is empty */
        put_frame(ws, OP_CLOSE, frame, code ? 2 + len : 0);
    ws->rest_len = 0;
    http_timer_set(ws->server, &ws->timer,
                   clock_now_ns() + (ws->ended ? 0 : CLOSE_MS * CLOCK_NS_PER_MS));
}

static void on_readable(h2o_socket_t *sock, const char *err);

static void set_stopped(struct http_ws *ws, bool stopped)
{
    if (ws->stopped == stopped)
        return;
    ws->stopped = stopped;
    if (stopped)
        h2o_socket_read_stop(ws->sock);
    else
        h2o_socket_read_start(ws->sock, on_readable);
}

void http_ws_close(struct http_ws *ws, unsigned code, const char *reason)
{
    if (ws->state == WS_DETACHED) {
        ws_free(ws);
        return;
    }
    ws->app = NULL;
    if (ws->state == WS_OPEN)
        begin_close(ws, code, reason, strlen(reason));
    set_stopped(ws, false); /* its answer is to be heard */
}

/* ---- what comes in ------------------------------------------------------------------------- */

/* The program hears of the end, once. */
static void tell_closed(struct http_ws *ws, unsigned code)
{
    const struct http_ws_app *app = ptr_take(&ws->app);
    if (app)
        app->on_closed(ws->data, code);
}

/* The peer broke the protocol. */
static void fail(struct http_ws *ws, unsigned code, const char *reason)
{
    ws->failed = true;
    if (ws->state == WS_OPEN)
        begin_close(ws, code, reason, strlen(reason));
    tell_closed(ws, code);
}

static void on_close_frame(struct http_ws *ws, unsigned code)
{
    ws->peer_closed = true;
    if (ws->state == WS_CLOSING) /* the answer to ours */
        return;
    begin_close(ws, code, NULL, 0);
    tell_closed(ws, code ? code : 1005);
}

/* Hands on what is left of a piece; false: the program takes no more now. */
static bool deliver(struct http_ws *ws)
{
    while (ws->rest_len > 0 && ws->app && ws->state == WS_OPEN) {
        size_t n = ws->app->on_bytes(ws->data, ws->rest, ws->rest_len);
        if (n == 0)
            return false;
        ws->rest += n;
        ws->rest_len = ws->state == WS_OPEN ? ws->rest_len - n : 0;
    }
    ws->rest_len = 0;
    return true;
}

static void take(struct http_ws *ws, enum ws_found found, const struct ws_piece *p)
{
    bool open = ws->state == WS_OPEN;
    switch (found) {
    case WS_BYTES:
        ws->rest = p->at;
        ws->rest_len = p->len;
        break;
    case WS_TEXT:
        if (open && ws->app)
            ws->app->on_text(ws->data, p->at, p->len);
        break;
    case WS_PING:
        if (open)
            put_frame(ws, OP_PONG, p->at, p->len);
        break;
    case WS_CLOSE:
        on_close_frame(ws, p->code);
        break;
    case WS_BROKEN:
        fail(ws, p->code, p->reason);
        break;
    case WS_PONG:
    case WS_NOTHING:
        break;
    }
}

/* From what came early, then from the socket. */
static ssize_t receive(void *data, void *to, size_t room)
{
    struct http_ws *ws = data;
    if (ws->early) {
        size_t n = ws->early_len - ws->early_at < room ? ws->early_len - ws->early_at : room;
        memcpy(to, ws->early + ws->early_at, n);
        ws->early_at += n;
        if (ws->early_at == ws->early_len)
            free(ptr_take(&ws->early));
        return (ssize_t)n;
    }
    if (ws->budget == 0 || ws->ended)
        return -1;
    ssize_t n = SYS(
        recv(h2o_socket_get_fd(ws->sock), to, room < ws->budget ? room : ws->budget, MSG_DONTWAIT));
    if (n <= 0) {
        ws->ended = n == 0 || (errno != EAGAIN && errno != EINTR);
        return -1;
    }
    ws->budget -= (size_t)n;
    ws->heard_ns = clock_now_ns();
    ws->pinged = false;
    return n;
}

static struct http_ws *ws_new(void)
{
    struct http_ws *ws = calloc(1, sizeof *ws);
    if (!ws || ws_reader_init(&ws->reader, receive, ws) < 0) {
        free(ws);
        return NULL;
    }
    ws->fd = -1;
    return ws;
}

static void take_frames(struct http_ws *ws)
{
    bool held = !deliver(ws);
    while (!held && !ws->failed && !ws->peer_closed &&
           (ws->state == WS_CLOSING || may_answer(ws))) {
        struct ws_piece p = {0};
        enum ws_found found = ws_reader_next(&ws->reader, &p);
        if (found == WS_NOTHING)
            break;
        take(ws, found, &p);
        held = !deliver(ws);
    }
    uint8_t scratch[4096];
    while (ws->failed && receive(ws, scratch, sizeof scratch) > 0)
        ;
    set_stopped(ws, held || (ws->state == WS_OPEN && !may_answer(ws)));
}

/* The only way in: takes what there is, and sees to an end. May free it. */
static void turn(struct http_ws *ws)
{
    if (ws->reading)
        return;
    ws->reading = true;
    ws->budget = READ_BYTES_PER_TURN;
    take_frames(ws);
    ws->reading = false;
    if (ws->ended || (ws->peer_closed && queued(ws) == 0)) {
        tell_closed(ws, 1006);
        ws_free(ws);
    } else if (ws->failed && queued(ws) == 0 && !ws->shut) {
        ws->shut = true;
        (void)shutdown(h2o_socket_get_fd(ws->sock), SHUT_WR);
    }
}

static void on_readable(h2o_socket_t *sock, const char *err)
{
    (void)err; /* reading shows it */
    turn(sock->data);
}

static void flush(struct http_ws *ws)
{
    ssize_t n = SYS(send(h2o_socket_get_fd(ws->sock), ws->out + ws->out_at, queued(ws),
                         MSG_DONTWAIT | MSG_NOSIGNAL));
    if (n > 0)
        ws->out_at += (size_t)n;
    else if (n < 0 && errno != EAGAIN && errno != EINTR)
        ws->ended = true;
    if (queued(ws) > 0) {
        await_writable(ws);
    } else {
        ws->out_at = ws->out_end = 0;
        free(ptr_take(&ws->out));
    }
}

static void on_writable(h2o_socket_t *sock, const char *err)
{
    struct http_ws *ws = sock->data;
    ws->waits_write = false;
    if (err)
        ws->ended = true;
    else if (queued(ws) > 0)
        flush(ws);
    if (ws->app && http_ws_room(ws) >= HTTP_WS_QUEUE_MAX / 2)
        ws->app->on_room(ws->data);
    turn(ws);
}

void http_ws_resume(struct http_ws *ws)
{
    if (ws->state == WS_OPEN)
        turn(ws);
}

/* ---- life ---------------------------------------------------------------------------------- */

/* Is the connection known to be broken, although it is not read? */
static bool is_broken(const struct http_ws *ws)
{
    struct pollfd p = {.fd = h2o_socket_get_fd(ws->sock), .events = POLLRDHUP};
    return poll(&p, 1, 0) == 1 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL));
}

static void on_timer(struct http_timer *t)
{
    struct http_ws *ws = CONTAINER_OF(t, struct http_ws, timer);
    uint64_t now = clock_now_ns(), half_ns = ws->silence_ms * CLOCK_NS_PER_MS / 2;
    if (ws->state == WS_OPEN && ws->stopped && !is_broken(ws))
        ws->heard_ns = now; /* it is us who do not listen */
    if (ws->ended || ws->state == WS_CLOSING || now - ws->heard_ns >= 2 * half_ns) {
        tell_closed(ws, 1006);
        ws_free(ws);
        return;
    }
    if (now - ws->heard_ns >= half_ns && !ws->pinged && may_answer(ws)) {
        ws->pinged = true;
        put_frame(ws, OP_PING, NULL, 0);
    }
    uint64_t due = ws->heard_ns + (ws->pinged ? 2 * half_ns : half_ns);
    if (!ws->ended)
        http_timer_set(ws->server, t, due > now ? due : now + half_ns / 4 + 1);
    if (ws->early)
        turn(ws);
}

void http_ws_start(struct http_server *s, struct http_ws *ws, const struct http_ws_app *app,
                   void *data, uint64_t silence_ms)
{
    const int bytes = SEND_BUFFER_BYTES;
    (void)setsockopt(ws->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    ws->server = s;
    ws->sock = h2o_evloop_socket_create(s->loop, fd_take(&ws->fd), H2O_SOCKET_FLAG_DONT_READ);
    ws->sock->data = ws;
    ws->state = WS_OPEN;
    ws->app = app;
    ws->data = data;
    ws->silence_ms = silence_ms;
    ws->heard_ns = clock_now_ns();
    ws->timer.on_due = on_timer;
    s->open_requests++;
    h2o_socket_read_start(ws->sock, on_readable);
    /* What came early is looked at when the caller has returned. */
    http_timer_set(s, &ws->timer,
                   ws->early ? ws->heard_ns : ws->heard_ns + silence_ms * CLOCK_NS_PER_MS / 2);
}
