/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/work_json - the document of a stored run, as API.md has it.
 *
 * In the frontend, per thread. What never changes (the members) is written once, when the run is
 * over, and that text is what the store keeps and what every answer shows; URLs of artifacts are
 * signed anew for each answer (the tail). Names of files are bytes of a tenant and pass as text.
 */
#include "frontend/content_type.h"
#include "frontend/json_out.h"
#include "frontend/work_impl.h"
#include <inttypes.h>
#include <openssl/sha.h>
#include <time.h>

#define PIECE 4096u
#define TAIL_BYTES_MAX (1u << 20)

static void put_text(struct buf *b, const char *text, size_t len, bool base64)
{
    for (size_t at = 0, taken; at < len; at += taken) {
        if (!buf_reserve(b, PIECE))
            return;
        b->len += (base64 ? json_out_base64 : json_out_text)(b->data + b->len, b->room - b->len,
                                                             text + at, len - at, &taken);
    }
}

static void put_field(struct buf *b, const char *before, const char *text)
{
    (void)buf_addf(b, "%s\"", before);
    put_text(b, text, strlen(text), false);
    (void)buf_addf(b, "\"");
}

/* "2026-11-21T07:00:00.123Z" */
static void put_time(char to[32], int64_t ms)
{
    struct tm tm;
    char day[24];
    time_t s = ms / 1000;
    (void)gmtime_r(&s, &tm);
    (void)strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(to, 32, "%s.%03dZ", day, (int)(ms % 1000));
}

static void put_sha256(char to[STORE_SHA256_ROOM], const char *bytes, size_t len)
{
    unsigned char hash[SHA256_DIGEST_LENGTH];
    (void)SHA256((const unsigned char *)bytes, len, hash);
    for (size_t i = 0; i < sizeof hash; i++)
        (void)snprintf(to + 2 * i, 3, "%02x", hash[i]);
}

/* `"name":"value"` with a value of a few characters, or null where it is empty. */
static size_t put_small(char *to, size_t room, const char *name, const char *value)
{
    size_t taken, n = (size_t)snprintf(to, room, ",\"%s\":%s", name, *value ? "\"" : "null");
    if (!*value)
        return n;
    n += json_out_text(to + n, room - n - 1, value, strlen(value), &taken);
    to[n++] = '"';
    to[n] = 0;
    return n;
}

void work_put_head(struct work *w, const struct parse_request *p)
{
    char created[32], sha256[STORE_SHA256_ROOM];
    put_time(created, w->created_ms);
    put_sha256(sha256, p->cmd ? p->cmd : p->code, p->cmd ? p->cmd_len : p->code_len);
    size_t n = (size_t)snprintf(w->head, sizeof w->head,
                                "\"id\":\"%s\",\"created_at\":\"%s\",\"code_sha256\":\"%s\"", w->id,
                                created, sha256);
    n += put_small(w->head + n, sizeof w->head - n, "language", p->cmd ? "" : p->language);
    (void)put_small(w->head + n, sizeof w->head - n, "namespace_id", p->ns_id);
    w->limits = (struct work_limits){.timeout_ms = p->timeout_ms,
                                     .memory_bytes = p->memory_bytes,
                                     .cpu_ms = p->cpu_ms,
                                     .output_bytes = p->output_bytes_max,
                                     .artifact_bytes = p->artifact_bytes_max,
                                     .artifact_files = p->artifact_files_max};
}

size_t work_put_limits(char *to, size_t room, const struct work_limits *l)
{
    return (size_t)snprintf(to, room,
                            "\"limits\":{\"timeout_ms\":%" PRIu64 ",\"memory_mb\":%" PRIu64
                            ",\"cpu_ms\":%" PRIu64 ",\"max_output_bytes\":%" PRIu64
                            ",\"max_artifact_bytes\":%" PRIu64 ",\"max_artifact_files\":%" PRIu64
                            "}",
                            l->timeout_ms, l->memory_bytes >> 20, l->cpu_ms, l->output_bytes,
                            l->artifact_bytes, l->artifact_files);
}

/* What it got: less than was asked for where its policy or key allows less, more where its language
 * needs more to begin. */
static struct work_limits effective(const struct work *w, const struct proto_result *r)
{
    struct work_limits l = w->limits;
    if (r->timeout_ms == 0) /* it never began, or nobody knows */
        return l;
    l.timeout_ms = r->timeout_ms;
    l.memory_bytes = r->memory_bytes;
    l.cpu_ms = r->cpu_ms;
    if (r->output_bytes_max && r->output_bytes_max < l.output_bytes)
        l.output_bytes = r->output_bytes_max;
    return l;
}

static const char *status_of(const struct proto_result *r)
{
    switch (r->reason) {
    case PROTO_REASON_TIMEOUT:
    case PROTO_REASON_CPU_LIMIT:
        return "timeout";
    case PROTO_REASON_OOM:
        return "oom";
    case PROTO_REASON_SIGNAL: /* of its own doing */
        return "failed";
    case PROTO_REASON_CANCELLED:
        return "killed";
    case PROTO_REASON_DISK: /* before it began: no exit code, no signal */
        return "failed";
    case PROTO_REASON_EXIT:
    case PROTO_REASON_PIDS:
    case PROTO_REASON_OUTPUT:
    case PROTO_REASON_SECCOMP:
    case PROTO_REASON_INTERNAL:
    case PROTO_REASONS:
        break;
    }
    if (!r->exited)
        return "killed";
    return r->exit_code == 0 ? "succeeded" : "failed";
}

/* Of all its stages together. */
static void put_usage(struct buf *b, const struct proto_result *r)
{
    uint64_t wall_us = r->wall_us, cpu_us = r->cpu_us, rss_kb = r->max_rss_kb;
    for (size_t i = 0; i + 1 < r->stage_count; i++) { /* the last one is the facts */
        wall_us += r->stages[i].wall_us;
        cpu_us += r->stages[i].cpu_us;
        if (r->stages[i].max_rss_kb > rss_kb)
            rss_kb = r->stages[i].max_rss_kb;
    }
    (void)buf_addf(b,
                   ",\"usage\":{\"wall_ms\":%" PRIu64 ".%03u,\"cpu_ms\":%" PRIu64
                   ".%03u,\"max_rss_mb\":%" PRIu64 ".%u}",
                   wall_us / 1000, (unsigned)(wall_us % 1000), cpu_us / 1000,
                   (unsigned)(cpu_us % 1000), rss_kb / 1024, (unsigned)(rss_kb % 1024 * 10 / 1024));
}

static void put_stages(struct buf *b, const struct run *run, const struct proto_result *r)
{
    char stage[ANSWER_STAGE_ROOM];
    if (!*run->language)
        return;
    (void)buf_addf(b, ",\"stage\":\"%s\",\"stages\":[",
                   r->stage_count ? r->stages[r->stage_count - 1].name : "run");
    for (size_t i = 0; i < r->stage_count; i++) {
        answer_put_stage(stage, sizeof stage, &r->stages[i]);
        (void)buf_addf(b, "%s{%s", i ? "," : "", stage);
        if (i == 0 && run->compiled) {
            (void)buf_addf(b, ",\"stdout\":\"");
            put_text(b, run->out[2].data, run->out[2].len, run->base64);
            (void)buf_addf(b, "\",\"stderr\":\"");
            put_text(b, run->out[3].data, run->out[3].len, run->base64);
            (void)buf_addf(b, "\"");
        }
        (void)buf_addf(b, "}");
    }
    (void)buf_addf(b, "]");
}

static void put_failure(struct buf *b, const struct work_failure *why)
{
    put_field(b, ",\"error\":{\"code\":", why->code);
    put_field(b, ",\"message\":", why->text);
    (void)buf_addf(b, "}");
}

bool work_put_members(struct work *w, const struct work_failure *why, struct buf *b,
                      size_t *ret_head)
{
    static const struct proto_result unknown = {.reason = PROTO_REASON_INTERNAL,
                                                .start = PROTO_START_COLD};
    static const struct output nothing[2] = {{.fd = -1}, {.fd = -1}};
    const struct run *run = w->run;
    const struct proto_result *r = why ? &unknown : &run->result;
    const struct output *shown = why                                         ? nothing
                                 : answer_is_of_compiler(r) && run->compiled ? run->out + 2
                                                                             : run->out;
    char facts[ANSWER_FACTS_ROOM], limits[WORK_HEAD_ROOM];
    const struct work_limits got = effective(w, r);
    b->cap = STORE_JSON_MAX;
    answer_put_facts(facts, sizeof facts, r, &shown[0], &shown[1]);
    w->status = why ? "failed" : status_of(r);
    (void)buf_addf(b, "%s,\"status\":\"%s\",", w->head, w->status);
    (void)buf_add(b, facts, strlen(facts));
    if (why)
        put_failure(b, why);
    *ret_head = b->len;
    (void)buf_addf(b, ",\"stdout\":\"");
    put_text(b, shown[0].data, shown[0].len, run->base64);
    (void)buf_addf(b, "\",\"stderr\":\"");
    put_text(b, shown[1].data, shown[1].len, run->base64);
    (void)buf_addf(b, "\"");
    put_usage(b, r);
    (void)work_put_limits(limits, sizeof limits, &got);
    (void)buf_addf(b, ",%s", limits);
    put_stages(b, run, r);
    (void)buf_addf(b, ",\"artifacts_dropped\":%" PRIu64 "%s", w->dropped,
                   w->cut ? ",\"artifacts_cut\":true" : "");
    if (w->last_event) /* the last member: work_last_event() looks there */
        (void)buf_addf(b, ",\"events\":%" PRIu64, w->last_event);
    else if (why)
        (void)buf_addf(b, ",\"events\":null");
    return !b->failed;
}

uint64_t work_last_event(const char *members, size_t len)
{
    static const char name[] = ",\"events\":", unknown[] = ",\"events\":null";
    uint64_t value = 0, factor = 1;
    if (len >= sizeof unknown - 1 &&
        memcmp(members + len - (sizeof unknown - 1), unknown, sizeof unknown - 1) == 0)
        return WORK_EVENTS_UNKNOWN;
    size_t at = len;
    for (; at > 0 && members[at - 1] >= '0' && members[at - 1] <= '9' && len - at < 19; at--) {
        value += factor * (uint64_t)(members[at - 1] - '0');
        factor *= 10;
    }
    bool there = at < len && at >= sizeof name - 1 &&
                 memcmp(members + at - (sizeof name - 1), name, sizeof name - 1) == 0;
    return there ? value : 0; /* a text would end with a quote */
}

bool work_put_tail(struct front *f, const struct store_object *artifacts, size_t count,
                   struct buf *to)
{
    to->cap = TAIL_BYTES_MAX;
    (void)buf_addf(to, ",\"artifacts\":[");
    for (size_t i = 0; i < count; i++) {
        const struct store_object *o = &artifacts[i];
        char url[URL_ROOM], expires[32];
        int64_t expires_ms = (store_now_ms() / 1000 + (int64_t)f->url_lifetime_s) * 1000;
        urls_make(f->urls, f->base_url, o->id, expires_ms, url);
        put_time(expires, expires_ms);
        put_field(to, i ? ",{\"name\":" : "{\"name\":", o->name);
        (void)buf_addf(to, ",\"size\":%" PRIu64 ",\"sha256\":\"%s\"", o->size, o->sha256);
        put_field(to, ",\"url\":", url);
        put_field(to, ",\"expires_at\":", expires);
        put_field(to, ",\"content_type\":", content_type_of(o->name));
        (void)buf_addf(to, "}");
    }
    (void)buf_addf(to, "]}\n");
    return !to->failed;
}
