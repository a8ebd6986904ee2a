/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/webhooks_api - what clients see of webhooks: whether a callback_url will do, and GET
 * /v1/jobs/{id}/deliveries, the log of attempts.
 *
 * In the frontend, per thread. Of a URL no more is read here than it takes to ask the operator's
 * list; the courier reads it again and has the last word. Deliveries are found by job and key:
 * another key's are as unknown as those of a job that named no receiver.
 */
#include "courier/courier.h"
#include "frontend/answer.h"
#include "frontend/front.h"
#include "frontend/json_out.h"
#include "frontend/webhooks.h"
#include "lib/buf.h"
#include <ctype.h>
#include <stdarg.h>
#include <time.h>

#define LIST_BYTES_MAX (1u << 20)

/* ---- callback_url -------------------------------------------------------------------------------
 */

static int refuse(struct parse_refusal *r, const char *text)
{
    r->code = "bad_request";
    (void)snprintf(r->text, sizeof r->text, "callback_url: %s", text);
    return -1;
}

int webhooks_check_url(const struct front *f, const char *url, size_t len,
                       struct parse_refusal *ret_refusal)
{
    struct courier_target target = {.port = 0};
    if (!*f->webhook_allow)
        return refuse(ret_refusal, "this service has no webhooks (webhooks.allow)");
    if (len > STORE_URL_MAX || !courier_read_url(url, len, &target))
        return refuse(ret_refusal,
                      "expected http(s)://HOST[:PORT]/..., printable ASCII without a user or a "
                      "fragment, at most 2048 bytes");
    if (!courier_is_listed(f->webhook_allow, &target))
        return refuse(ret_refusal, "its scheme, host and port are not on the list of this service "
                                   "(webhooks.allow)");
    return 0;
}

/* ---- the log ------------------------------------------------------------------------------------
 */

/* One look into the store for a request. Freed when neither needs it. */
struct look {
    struct request_owner owner;
    struct http_request *req; /* NULL: over */
    struct store_call call;
    struct store_courier courier;
    bool waiting;
};

static void free_if_unused(struct look *l)
{
    if (l->req || l->waiting)
        return;
    store_free_deliveries(&l->courier);
    free(l);
}

/* `,"name":"value"`, or null for "". */
static void put_text(struct buf *b, const char *name, const char *value)
{
    char text[3 * STORE_URL_MAX];
    size_t taken, n = json_out_text(text, sizeof text, value, strlen(value), &taken);
    const char *quote = *value ? "\"" : "";
    (void)buf_addf(b, ",\"%s\":%s%.*s%s", name, quote, (int)(*value ? n : 4),
                   *value ? text : "null", quote);
}

static void put_time(struct buf *b, const char *name, int64_t ms)
{
    struct tm tm;
    char day[24], text[32];
    time_t s = ms / 1000;
    (void)gmtime_r(&s, &tm);
    (void)strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(text, sizeof text, "%s.%03dZ", day, (int)(ms % 1000));
    put_text(b, name, text);
}

static void put_attempt(struct buf *b, const struct store_attempt *a)
{
    (void)buf_addf(b, "{\"number\":%u,\"duration_ms\":%u,\"status\":", a->number, a->duration_ms);
    (void)(a->status ? buf_addf(b, "%u", a->status) : buf_addf(b, "null"));
    put_time(b, "started_at", a->started_ms);
    put_text(b, "error", a->error);
    (void)buf_addf(b, "}");
}

static void put_delivery(struct buf *b, const struct store_delivery *d)
{
    static const char *const words[] = {[STORE_PENDING] = "pending",
                                        [STORE_DELIVERED] = "delivered",
                                        [STORE_GIVEN_UP] = "given_up"};
    (void)buf_addf(b, "{\"id\":\"%s\",\"status\":\"%s\"", d->id, words[d->state]);
    put_text(b, "url", d->url);
    put_time(b, "created_at", d->created_ms);
    if (d->state == STORE_PENDING)
        put_time(b, "next_attempt_at", d->next_ms);
    else
        put_text(b, "next_attempt_at", "");
    (void)buf_addf(b, ",\"attempts\":[");
    for (size_t i = 0; i < d->log_count; i++) {
        (void)buf_addf(b, i ? "," : "");
        put_attempt(b, &d->log[i]);
    }
    (void)buf_addf(b, "]}");
}

static void show(struct look *l)
{
    struct buf b = {.cap = LIST_BYTES_MAX};
    (void)buf_addf(&b, "{\"deliveries\":[");
    for (size_t i = 0; i < l->courier.count; i++) {
        if (i)
            (void)buf_addf(&b, ",");
        put_delivery(&b, &l->courier.list[i]);
    }
    (void)buf_addf(&b, "]}\n");
    if (b.failed)
        answer_error(l->req, &(struct answer_error){503, "busy", 1000, NULL}, "out of memory");
    else
        http_respond(l->req, 200, NULL, b.data, b.len);
    buf_fini(&b);
}

static void answer_unknown(struct http_request *req)
{
    answer_error(req, &(struct answer_error){404, "not_found", 0, NULL},
                 "there is no such job, or nobody was to be told of its end");
}

static void on_found(struct store_call *call)
{
    struct look *l = CONTAINER_OF(call, struct look, call);
    l->waiting = false;
    if (!l->req)
        free_if_unused(l);
    else if (call->error == ENOENT)
        answer_unknown(l->req);
    else if (call->error)
        answer_error(l->req, &(struct answer_error){503, "storage", 1000, NULL},
                     "the deliveries cannot be read now");
    else
        show(l);
}

static void on_gone(struct front *f, struct request_owner *owner)
{
    (void)f;
    (void)owner;
}

static void on_end(struct front *f, struct http_request *req, struct request_owner *owner)
{
    struct look *l = CONTAINER_OF(owner, struct look, owner);
    (void)f;
    (void)req;
    l->req = NULL;
    free_if_unused(l);
}

static bool is_id(struct http_text t)
{
    for (size_t i = 0; i < t.len; i++)
        if (!isalnum((unsigned char)t.at[i]) && t.at[i] != '_' && t.at[i] != '-')
            return false;
    return t.len > 0 && t.len <= STORE_JOB_ID_MAX;
}

void webhooks_on_list(struct front *f, struct http_request *req, const struct http_text *params)
{
    if (!is_id(params[0])) {
        answer_unknown(req);
        return;
    }
    struct look *l = calloc(1, sizeof *l);
    if (l) {
        l->owner = (struct request_owner){.on_gone = on_gone, .on_end = on_end};
        l->call = (struct store_call){
            .verb = STORE_LIST_DELIVERIES, .courier = &l->courier, .fd = -1, .on_done = on_found};
        (void)snprintf(l->courier.job_id, sizeof l->courier.job_id, "%.*s", (int)params[0].len,
                       params[0].at);
        (void)snprintf(l->call.key, sizeof l->call.key, "%s", routes_key_label(req));
        if (store_submit(&f->mailbox, &l->call) == 0) {
            l->waiting = true;
            l->req = req;
            *http_data(req) = &l->owner;
            return;
        }
    }
    free(l);
    answer_error(req, &(struct answer_error){503, "busy", 1000, NULL},
                 "too much is being stored at the moment");
}
