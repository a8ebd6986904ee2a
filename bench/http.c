/* SPDX-License-Identifier: Apache-2.0 */
/* bench/http - the smallest HTTP/1.1 client that can be trusted with timing.
 *
 * One blocking TCP connection on loopback, one request at a time, one send(2) per request.
 * Understands Content-Length and chunked answers, so that the benchmark does not depend on how the
 * service frames them. It trusts the server: this is a measuring tool, not a door.
 */
#include "bench/bench.h"
#include "lib/fd.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

#define IN_CAP (1024u * 1024)
#define BODY_CAP (32u * 1024 * 1024)
#define TAKE_BYTES 65536u

int http_open(struct http *h, unsigned port, struct err *err)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int on = 1;

    h->port = port;
    h->in.cap = IN_CAP;
    h->body.cap = BODY_CAP;
    h->in.len = h->body.len = h->at = 0;
    h->closing = false;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    h->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (h->fd < 0)
        return err_sys(err, "socket");
    if (connect(h->fd, (const struct sockaddr *)&to, sizeof to) < 0) {
        int r = err_sys(err, "connect to 127.0.0.1:%u", port);
        fd_close(&h->fd);
        return r;
    }
    (void)setsockopt(h->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return 0;
}

void http_close(struct http *h)
{
    fd_close(&h->fd);
    buf_fini(&h->in);
    buf_fini(&h->body);
}

int http_send(struct http *h, const struct buf *request, struct err *err)
{
    size_t sent = 0;

    h->state = HTTP_HEAD;
    h->body.len = 0;
    h->status = 0;
    h->first_ns = h->done_ns = 0;
    while (sent < request->len) {
        ssize_t n = send(h->fd, request->data + sent, request->len - sent, MSG_NOSIGNAL);
        if (n < 0)
            return err_sys(err, "send the request");
        sent += (size_t)n;
    }
    h->sent_ns = clock_now_ns();
    return 0;
}

/* The next line in h->in as text without its CRLF, or NULL when it is not complete yet. */
static char *take_line(struct http *h)
{
    char *line = h->in.data + h->at;
    char *end = h->at < h->in.len ? memchr(line, '\n', h->in.len - h->at) : NULL;

    if (!end)
        return NULL;
    h->at = (size_t)(end - h->in.data) + 1;
    if (end > line && end[-1] == '\r')
        end--;
    *end = 0;
    return line;
}

static enum http_state read_header(struct http *h, char *line, size_t *length, bool *chunked)
{
    if (strncasecmp(line, "HTTP/1.", 7) == 0 && strlen(line) >= 12)
        h->status = (int)strtol(line + 9, NULL, 10);
    else if (strncasecmp(line, "content-length:", 15) == 0)
        *length = strtoul(line + 15, NULL, 10);
    else if (strncasecmp(line, "transfer-encoding:", 18) == 0)
        *chunked = strcasestr(line, "chunked") != NULL;
    else if (strncasecmp(line, "connection:", 11) == 0)
        h->closing = strcasestr(line, "close") != NULL;
    return HTTP_HEAD;
}

/* The head is parsed only when it is there whole; true when it was. */
static bool parse_head(struct http *h)
{
    size_t length = 0;
    bool chunked = false;
    char *line;

    if (!h->in.len || !memmem(h->in.data + h->at, h->in.len - h->at, "\r\n\r\n", 4))
        return false;
    while ((line = take_line(h)) && *line)
        (void)read_header(h, line, &length, &chunked);
    h->left = length;
    h->state = chunked ? HTTP_CHUNK_SIZE : length ? HTTP_LENGTH : HTTP_DONE;
    return true;
}

static bool parse_bytes(struct http *h, enum http_state after)
{
    size_t have = h->in.len - h->at, take = have < h->left ? have : h->left;

    (void)buf_add(&h->body, h->in.data + h->at, take);
    h->at += take;
    h->left -= take;
    if (h->left)
        return false;
    h->state = after;
    return true;
}

static bool parse_line(struct http *h)
{
    const char *line = take_line(h);

    if (!line)
        return false;
    if (h->state == HTTP_CHUNK_SIZE) {
        h->left = strtoul(line, NULL, 16);
        h->state = h->left ? HTTP_CHUNK : HTTP_TRAILER;
    } else if (h->state == HTTP_CHUNK_END) {
        h->state = HTTP_CHUNK_SIZE;
    } else if (!*line) {
        h->state = HTTP_DONE;
    }
    return true;
}

static bool parse_step(struct http *h)
{
    switch (h->state) {
    case HTTP_HEAD:
        return parse_head(h);
    case HTTP_LENGTH:
        return parse_bytes(h, HTTP_DONE);
    case HTTP_CHUNK:
        return parse_bytes(h, HTTP_CHUNK_END);
    case HTTP_CHUNK_SIZE:
    case HTTP_CHUNK_END:
    case HTTP_TRAILER:
        return parse_line(h);
    case HTTP_DONE:
        return false;
    }
    return false;
}

int http_take(struct http *h, bool wait, struct err *err)
{
    for (;;) {
        ssize_t n;

        if (h->at) { /* what is left is part of a line, or nothing */
            memmove(h->in.data, h->in.data + h->at, h->in.len - h->at);
            h->in.len -= h->at;
            h->at = 0;
        }
        if (!buf_reserve(&h->in, TAKE_BYTES))
            return err_set(err, "the answer's head is too long");
        n = recv(h->fd, h->in.data + h->in.len, TAKE_BYTES, wait ? 0 : MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN && !wait)
            return 0;
        if (n < 0)
            return err_sys(err, "receive the answer");
        if (n == 0)
            return err_set(err, "the server closed the connection within an answer");
        if (!h->first_ns)
            h->first_ns = clock_now_ns();
        h->in.len += (size_t)n;
        while (parse_step(h))
            ;
        if (h->state == HTTP_DONE) {
            h->done_ns = clock_now_ns();
            if (!buf_add(&h->body, "", 1))
                return err_set(err, "the answer is too long");
            h->body.len--;
            return 1;
        }
    }
}

int http_exchange(struct http *h, const struct buf *request, struct err *err)
{
    int r = 0;

    if (h->closing) {
        fd_close(&h->fd);
        r = http_open(h, h->port, err);
    }
    if (r == 0)
        r = http_send(h, request, err);
    if (r == 0)
        r = http_take(h, true, err);
    return r < 0 ? r : 0;
}

void http_request(struct buf *out, const char *path, const char *body)
{
    out->cap = 4 * 1024 * 1024;
    out->len = 0;
    if (!body)
        (void)buf_addf(out, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
    else
        (void)(buf_addf(out,
                        "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                        "Content-Length: %zu\r\n\r\n",
                        path, strlen(body)) &&
               buf_add(out, body, strlen(body)));
    if (out->failed)
        die(1, "no memory for a request");
}

void http_execute(struct buf *out, const char *ns_id, const char *cmd, const char *more)
{
    struct buf body = {.cap = 4 * 1024 * 1024};

    (void)buf_addf(&body, "{\"namespace_id\":\"%s\",\"cmd\":\"", ns_id);
    for (const char *c = cmd; *c; c++) {
        if (*c == '"' || *c == '\\')
            (void)buf_add(&body, "\\", 1);
        (void)buf_add(&body, c, 1);
    }
    (void)(buf_add(&body, "\"", 1) && buf_add(&body, more, strlen(more)) && buf_add(&body, "}", 2));
    if (body.failed)
        die(1, "no memory for a request");
    http_request(out, "/execute", body.data);
    buf_fini(&body);
}

static const char *find_value(const char *json, const char *key)
{
    char quoted[64];
    const char *at;

    (void)snprintf(quoted, sizeof quoted, "\"%s\"", key);
    at = strstr(json, quoted);
    return at ? at + strlen(quoted) + strspn(at + strlen(quoted), " :") : NULL;
}

bool json_has(const char *json, const char *key, const char *raw)
{
    const char *value = find_value(json, key);
    size_t len = strlen(raw);

    return value && strncmp(value, raw, len) == 0 && value[len] && strchr(",} \r\n", value[len]);
}

double json_number(const char *json, const char *key)
{
    const char *value = find_value(json, key);

    return value ? strtod(value, NULL) : -1;
}

int http_check(const struct http *h, const char *stdout_raw, struct err *err)
{
    if (h->status == 200 && json_has(h->body.data, "exit_code", "0") &&
        json_has(h->body.data, "stdout", stdout_raw))
        return 0;
    return err_set(err, "HTTP %d, %.190s", h->status, h->body.data);
}

int http_wait_ready(unsigned port, unsigned seconds, struct err *err)
{
    uint64_t end_ns = clock_now_ns() + seconds * CLOCK_NS_PER_S;
    struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
    struct buf request = {0};
    struct http h = {.fd = -1};
    int r;

    http_request(&request, "/ready", NULL);
    do {
        r = http_open(&h, port, err);
        if (r == 0)
            r = http_exchange(&h, &request, err);
        if (r == 0 && h.status != 200)
            r = err_set(err, "/ready: HTTP %d %.180s", h.status, h.body.data);
        http_close(&h);
        if (r < 0) /* there is no event to wait for: the listener may not exist yet */
            (void)nanosleep(&pause, NULL);
    } while (r < 0 && clock_now_ns() < end_ns);
    buf_fini(&request);
    return r;
}
