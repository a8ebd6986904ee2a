/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/answer - see answer.h.
 *
 * In the frontend, per thread. The document is a list of parts which are escaped as the client
 * takes them, so a large output is never held a second time. Facts and their names: API.md.
 */
#include "frontend/answer.h"
#include "frontend/http.h"
#include "frontend/json_out.h"
#include "frontend/output.h"
#include <inttypes.h>
#include <stdarg.h>

static const char *bool_name(bool b)
{
    return b ? "true" : "false";
}

static void put_ms(char *to, size_t room, uint64_t us)
{
    (void)snprintf(to, room, "%" PRIu64 ".%03u", us / 1000, (unsigned)(us % 1000));
}

/* The decoder has seen to it that the names need no escaping. */
static void put_denied(char *to, size_t room, const struct proto_result *r)
{
    size_t n = 0;
    *to = 0;
    for (size_t i = 0; i < r->denied_count && n < room; i++)
        n += (size_t)snprintf(to + n, room - n, "%s\"%s\"", i ? "," : "", r->denied[i].syscall);
}

/* Only what had traffic says so. */
static void put_net(char *to, size_t room, const struct proto_result *r)
{
    *to = 0;
    if (r->net_rx_bytes || r->net_tx_bytes)
        (void)snprintf(to, room, ",\"net_rx_bytes\":%" PRIu64 ",\"net_tx_bytes\":%" PRIu64,
                       r->net_rx_bytes, r->net_tx_bytes);
}

static void format_facts(struct answer *a, const struct proto_result *r, const struct output out[2])
{
    char code[16] = "null", signal[32] = "null", queue[32], wall[32], cpu[32], net[80];
    char denied[PROTO_DENIED_MAX * (PROTO_SYSCALL_ROOM + 3)];
    const char *name = proto_signal_name(r->signal);
    if (r->exited)
        (void)snprintf(code, sizeof code, "%d", r->exit_code);
    if (name && !r->exited)
        (void)snprintf(signal, sizeof signal, "\"%s\"", name);
    put_ms(queue, sizeof queue, r->queue_us);
    put_ms(wall, sizeof wall, r->wall_us);
    put_ms(cpu, sizeof cpu, r->cpu_us);
    put_denied(denied, sizeof denied, r);
    put_net(net, sizeof net, r);
    (void)snprintf(a->facts, sizeof a->facts,
                   "\",\"exit_code\":%s,\"run_id\":%" PRIu64 ",\"reason\":\"%s\",\"signal\":%s,"
                   "\"queue_ms\":%s,\"wall_ms\":%s,\"cpu_ms\":%s,\"max_rss_kb\":%" PRIu64
                   ",\"stdout_bytes\":%" PRIu64 ",\"stderr_bytes\":%" PRIu64
                   ",\"stdout_truncated\":%s,\"stderr_truncated\":%s%s,\"start\":\"%s\","
                   "\"denied\":[%s]}\n",
                   code, r->run_id, proto_reason_name(r->reason), signal, queue, wall, cpu,
                   r->max_rss_kb, out[0].total, out[1].total,
                   bool_name(output_is_truncated(&out[0])), bool_name(output_is_truncated(&out[1])),
                   net, proto_start_name(r->start), denied);
}

static struct answer_part raw(const char *text)
{
    return (struct answer_part){.kind = ANSWER_RAW, .at = text, .len = strlen(text)};
}

static struct answer_part bytes(const struct output *o, bool base64)
{
    return (struct answer_part){
        .kind = base64 ? ANSWER_BASE64 : ANSWER_TEXT, .at = o->data, .len = o->len};
}

void answer_init(struct answer *a, const struct proto_result *result, const struct output out[2],
                 bool base64)
{
    format_facts(a, result, out);
    a->parts[0] = raw("{\"stdout\":\"");
    a->parts[1] = bytes(&out[0], base64);
    a->parts[2] = raw("\",\"stderr\":\"");
    a->parts[3] = bytes(&out[1], base64);
    a->parts[4] = raw(a->facts);
    answer_rewind(a);
}

void answer_rewind(struct answer *a)
{
    a->part = a->pos = 0;
}

static size_t put_part(const struct answer_part *p, size_t pos, char *at, size_t room,
                       size_t *ret_taken)
{
    size_t left = p->len - pos;
    switch (p->kind) {
    case ANSWER_TEXT:
        return json_out_text(at, room, p->at + pos, left, ret_taken);
    case ANSWER_BASE64:
        return json_out_base64(at, room, p->at + pos, left, ret_taken);
    case ANSWER_RAW:
        break;
    }
    *ret_taken = left < room ? left : room;
    memcpy(at, p->at + pos, *ret_taken);
    return *ret_taken;
}

size_t answer_fill(void *answer, char *at, size_t room, bool *ret_last)
{
    struct answer *a = answer;
    size_t n = 0;
    while (a->part < ARRAY_LEN(a->parts) && room - n >= JSON_OUT_ROOM_MIN) {
        const struct answer_part *p = &a->parts[a->part];
        size_t taken = 0;
        if (a->pos < p->len)
            n += put_part(p, a->pos, at + n, room - n, &taken);
        a->pos += taken;
        if (a->pos == p->len) {
            a->part++;
            a->pos = 0;
        }
    }
    *ret_last = a->part == ARRAY_LEN(a->parts);
    return n;
}

void answer_error(struct http_request *req, const struct answer_error *e, const char *fmt, ...)
{
    char text[400], body[1024], seconds[24];
    size_t taken;
    struct http_header headers[3] = {0};
    size_t count = 0;
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    int n = snprintf(body, sizeof body, "{\"error\":{\"code\":\"%s\",\"message\":\"", e->code);
    size_t len = (size_t)n;
    len += json_out_text(body + len, sizeof body - len - 8, text, strlen(text), &taken);
    memcpy(body + len, "\"}}\n", 4);
    len += 4;
    if (e->retry_after_ms) {
        (void)snprintf(seconds, sizeof seconds, "%" PRIu64, (e->retry_after_ms + 999) / 1000);
        headers[count++] = (struct http_header){"retry-after", seconds};
    }
    if (e->allow)
        headers[count++] = (struct http_header){"allow", e->allow};
    http_respond(req, e->status, headers, body, len);
}
