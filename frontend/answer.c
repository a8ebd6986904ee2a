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

static const char *exit_code_text(char to[16], bool exited, int code)
{
    (void)snprintf(to, 16, "%d", code);
    return exited ? to : "null";
}

static const char *signal_text(char to[32], bool exited, int signal)
{
    const char *name = proto_signal_name(signal);
    (void)snprintf(to, 32, "\"%s\"", name ? name : "");
    return name && !exited ? to : "null";
}

void answer_put_facts(char *to, size_t room, const struct proto_result *r,
                      const struct output *std_out, const struct output *std_err)
{
    char code[16], signal[32], queue[32], wall[32], cpu[32], net[80];
    char denied[PROTO_DENIED_MAX * (PROTO_SYSCALL_ROOM + 3)];
    put_ms(queue, sizeof queue, r->queue_us);
    put_ms(wall, sizeof wall, r->wall_us);
    put_ms(cpu, sizeof cpu, r->cpu_us);
    put_denied(denied, sizeof denied, r);
    put_net(net, sizeof net, r);
    (void)snprintf(to, room,
                   "\"exit_code\":%s,\"run_id\":%" PRIu64 ",\"reason\":\"%s\",\"signal\":%s,"
                   "\"queue_ms\":%s,\"wall_ms\":%s,\"cpu_ms\":%s,\"max_rss_kb\":%" PRIu64
                   ",\"stdout_bytes\":%" PRIu64 ",\"stderr_bytes\":%" PRIu64
                   ",\"stdout_truncated\":%s,\"stderr_truncated\":%s%s,\"start\":\"%s\","
                   "\"denied\":[%s]",
                   exit_code_text(code, r->exited, r->exit_code), r->run_id,
                   proto_reason_name(r->reason), signal_text(signal, r->exited, r->signal), queue,
                   wall, cpu, r->max_rss_kb, std_out->total, std_err->total,
                   bool_name(output_is_truncated(std_out)), bool_name(output_is_truncated(std_err)),
                   net, proto_start_name(r->start), denied);
}

void answer_put_stage(char *to, size_t room, const struct proto_stage *s)
{
    char code[16], signal[32], wall[32], cpu[32];
    put_ms(wall, sizeof wall, s->wall_us);
    put_ms(cpu, sizeof cpu, s->cpu_us);
    (void)snprintf(to, room,
                   "\"name\":\"%s\",\"exit_code\":%s,\"reason\":\"%s\",\"signal\":%s,"
                   "\"wall_ms\":%s,\"cpu_ms\":%s,\"max_rss_kb\":%" PRIu64,
                   s->name, exit_code_text(code, s->exited, s->exit_code),
                   proto_reason_name(s->reason), signal_text(signal, s->exited, s->signal), wall,
                   cpu, s->max_rss_kb);
}

bool answer_is_of_compiler(const struct proto_result *r)
{
    return r->stage_count == 1 && strcmp(r->stages[0].name, "compile") == 0;
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

static void set_parts(struct answer *a, const struct answer_part *parts, size_t count)
{
    memcpy(a->parts, parts, count * sizeof *parts);
    a->part_count = count;
    answer_rewind(a);
}

void answer_init(struct answer *a, const struct proto_result *result, const struct output out[2],
                 bool base64)
{
    const size_t begin = strlen("\",");
    memcpy(a->facts, "\",", begin);
    answer_put_facts(a->facts + begin, ANSWER_FACTS_ROOM - begin, result, &out[0], &out[1]);
    const struct answer_part parts[] = {raw("{\"stdout\":\""),   bytes(&out[0], base64),
                                        raw("\",\"stderr\":\""), bytes(&out[1], base64),
                                        raw(a->facts),           raw("}\n")};
    set_parts(a, parts, ARRAY_LEN(parts));
}

void answer_init_session(struct answer *a, const struct proto_result *r, const struct output out[2],
                         bool base64, const char *session)
{
    answer_init(a, r, out, base64);
    (void)snprintf(a->tail, sizeof a->tail,
                   ",\"session\":\"%s\",\"session_started\":%s,\"session_ended\":%s,"
                   "\"session_interrupted\":%s}\n",
                   session, bool_name(r->companion_new), bool_name(r->companion_ended),
                   bool_name(r->companion_interrupted));
    a->parts[a->part_count - 1] = raw(a->tail); /* in place of the last brace */
}

static const char *status_of(const struct proto_result *r)
{
    if (r->reason == PROTO_REASON_EXIT && r->exited && r->exit_code == 0)
        return "success";
    if (r->reason == PROTO_REASON_TIMEOUT || r->reason == PROTO_REASON_CPU_LIMIT)
        return "timeout";
    return r->reason == PROTO_REASON_OOM ? "oom" : "error";
}

/* Everything behind stdout and stderr, up to the outputs of the compiler's stage if it has one. */
static void format_code(struct answer *a, const struct proto_result *r, const struct output *shown)
{
    char facts[ANSWER_FACTS_ROOM], stage[ANSWER_STAGE_ROOM];
    uint64_t wall_us = 0;
    size_t n = 0, room = sizeof a->facts;
    for (size_t i = 0; i < r->stage_count; i++)
        wall_us += r->stages[i].wall_us;
    answer_put_facts(facts, sizeof facts, r, &shown[0], &shown[1]);
    const char *last = r->stage_count ? r->stages[r->stage_count - 1].name : "run";
    n = (size_t)snprintf(a->facts, room,
                         "\",%s,\"execution_time\":%" PRIu64 ".%06u,\"stage\":\"%s\",\"stages\":[",
                         facts, wall_us / 1000000, (unsigned)(wall_us % 1000000), last);
    if (r->stage_count > 0) {
        answer_put_stage(stage, sizeof stage, &r->stages[0]);
        (void)snprintf(a->facts + n, room - n, "{%s", stage);
    }
}

void answer_init_code(struct answer *a, const struct proto_result *r, const struct output *out,
                      bool compiled, bool base64)
{
    const struct output *shown = answer_is_of_compiler(r) && compiled ? out + 2 : out;
    char stage[ANSWER_STAGE_ROOM];
    (void)snprintf(a->head, sizeof a->head, "{\"status\":\"%s\",\"stdout\":\"", status_of(r));
    format_code(a, r, shown);
    struct answer_part parts[ANSWER_PARTS_MAX] = {raw(a->head), bytes(&shown[0], base64),
                                                  raw("\",\"stderr\":\""), bytes(&shown[1], base64),
                                                  raw(a->facts)};
    size_t n = 5;
    if (compiled && r->stage_count > 0) {
        parts[n++] = raw(",\"stdout\":\"");
        parts[n++] = bytes(&out[2], base64);
        parts[n++] = raw("\",\"stderr\":\"");
        parts[n++] = bytes(&out[3], base64);
    }
    *stage = 0;
    if (r->stage_count > 1)
        answer_put_stage(stage, sizeof stage, &r->stages[1]);
    (void)snprintf(a->tail, sizeof a->tail, "%s%s%s%s%s]}\n",
                   compiled && r->stage_count > 0 ? "\"" : "", r->stage_count ? "}" : "",
                   *stage ? ",{" : "", stage, *stage ? "}" : "");
    parts[n++] = raw(a->tail);
    set_parts(a, parts, n);
}

void answer_init_raw(struct answer *a, const char *const *texts, const size_t *lens, size_t count)
{
    struct answer_part parts[ANSWER_PARTS_MAX] = {0};
    for (size_t i = 0; i < count; i++)
        parts[i] = (struct answer_part){.kind = ANSWER_RAW, .at = texts[i], .len = lens[i]};
    set_parts(a, parts, count);
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
    while (a->part < a->part_count && room - n >= JSON_OUT_ROOM_MIN) {
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
    *ret_last = a->part == a->part_count;
    return n;
}

/* The routes whose error body is {"error": "<message>", "code": ..}: an API that others defined. */
static bool is_flat(struct http_text path)
{
    static const char *const roots[] = {"/v1/runs", "/v1/files"};
    for (size_t i = 0; i < ARRAY_LEN(roots); i++) {
        size_t len = strlen(roots[i]);
        if (path.len >= len && memcmp(path.at, roots[i], len) == 0 &&
            (path.len == len || path.at[len] == '/'))
            return true;
    }
    return false;
}

size_t answer_put_error(struct http_text path, const char *code, const char *message, char *to,
                        size_t room)
{
    const size_t tail = 80;
    bool flat = is_flat(path);
    size_t taken, len;
    len =
        (size_t)(flat ? snprintf(to, room, "{\"error\":\"")
                      : snprintf(to, room, "{\"error\":{\"code\":\"%.60s\",\"message\":\"", code));
    len += json_out_text(to + len, room - len - tail, message, strlen(message), &taken);
    len += (size_t)(flat ? snprintf(to + len, tail, "\",\"code\":\"%.60s\"}\n", code)
                         : snprintf(to + len, tail, "\"}}\n"));
    return len;
}

void answer_error(struct http_request *req, const struct answer_error *e, const char *fmt, ...)
{
    char text[400], body[1024], seconds[24];
    struct http_header headers[3] = {0};
    size_t count = 0;
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    size_t len = answer_put_error(http_path(req), e->code, text, body, sizeof body);
    if (e->retry_after_ms) {
        (void)snprintf(seconds, sizeof seconds, "%" PRIu64, (e->retry_after_ms + 999) / 1000);
        headers[count++] = (struct http_header){"retry-after", seconds};
    }
    if (e->allow)
        headers[count++] = (struct http_header){"allow", e->allow};
    http_respond(req, e->status, headers, body, len);
}
