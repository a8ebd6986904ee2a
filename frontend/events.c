/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/events - GET /v1/runs/{id}/events: watches a run under way, or what is left of one.
 *
 * In the frontend, per thread. While the ring of the run is there (it lingers for a while behind
 * its end) the answer is the ring's, whichever thread the run lives in. Later there is the stored
 * document only: a gap, and the result. `Last-Event-ID` says which event the client had last. An
 * EventSource comes again when a stream ends, so who has had the result is answered 204, which
 * tells it to stay away.
 */
#include "frontend/uri.h"
#include "frontend/work_impl.h"
#include "lib/num.h"

struct watcher {
    struct request_owner owner;
    struct front *front;
    struct http_request *req; /* NULL: over */
    enum reader_form form;
    uint64_t last;
    bool said;
    struct store_call call;
    bool waiting; /* for the store */
    struct reader *reader;
};

static void free_if_unused(struct watcher *w)
{
    if (w->req || w->waiting)
        return;
    free(w->call.run.json);
    free(w->call.run.artifacts);
    output_return(w->call.borrowed);
    free(w);
}

static void on_gone(struct front *f, struct request_owner *owner)
{
    (void)f;
    (void)owner;
}

static void on_end(struct front *f, struct http_request *req, struct request_owner *owner)
{
    struct watcher *w = CONTAINER_OF(owner, struct watcher, owner);
    (void)f;
    (void)req;
    w->req = NULL;
    reader_free(ptr_take(&w->reader));
    free_if_unused(w);
}

static void on_revoked(struct front *f, struct request_owner *owner)
{
    struct watcher *w = CONTAINER_OF(owner, struct watcher, owner);
    (void)f;
    if (w->reader)
        reader_revoke(w->reader);
}

static void refuse(struct http_request *req, int why)
{
    if (why == -EALREADY)
        http_respond_as(req, 204, NULL, NULL, "", 0);
    else if (why == -EINVAL)
        answer_error(req, &(struct answer_error){400, "bad_request", 0, NULL},
                     "Last-Event-ID: the run has no such event");
    else
        answer_error(req, &(struct answer_error){503, "busy", 1000, NULL},
                     "too much is going on at the moment");
}

static void on_found(struct store_call *call)
{
    struct watcher *w = CONTAINER_OF(call, struct watcher, call);
    w->waiting = false;
    if (!w->req) {
        free_if_unused(w);
        return;
    }
    if (call->error == ENOENT) {
        answer_error(w->req, &(struct answer_error){404, "not_found", 0, NULL},
                     "there is no such run");
        return;
    }
    uint64_t events = call->error ? 0 : work_last_event(call->run.json, call->run.json_len);
    uint64_t last_id = events ? events : 1; /* one that nobody could watch is its result */
    int r = call->error          ? -EAGAIN
            : w->last < last_id  ? 0
            : w->last == last_id ? -EALREADY
                                 : -EINVAL;
    if (r == 0)
        r = reader_start_stored(w->front, w->req, w->form, call, w->last, last_id, &w->reader);
    if (r < 0)
        refuse(w->req, r);
}

static void look_up(struct watcher *w)
{
    w->call.verb = STORE_GET_RUN;
    w->call.on_done = on_found;
    w->call.borrow = output_borrow_spare;
    w->call.fd = -1;
    w->waiting = store_submit(&w->front->mailbox, &w->call) == 0;
    if (!w->waiting)
        refuse(w->req, -EAGAIN);
}

/* False: answered. */
static bool take_last(struct http_request *req, uint64_t *ret_last, bool *ret_said)
{
    struct http_text text = http_header_of(req, "last-event-id");
    char digits[24];
    *ret_last = 0;
    *ret_said = text.at && text.len;
    if (!*ret_said)
        return true;
    (void)snprintf(digits, sizeof digits, "%.*s", (int)(text.len < 23 ? text.len : 23), text.at);
    if (num_parse_u64(digits, 0, INT64_MAX, ret_last) == 0)
        return true;
    answer_error(req, &(struct answer_error){400, "bad_request", 0, NULL},
                 "Last-Event-ID must be the number of an event");
    return false;
}

void events_on_get(struct front *f, struct http_request *req, const struct http_text *params)
{
    char id[STORE_ID_ROOM];
    uint64_t last;
    bool said;
    if (!runs_take_id(req, params[0], id) || !take_last(req, &last, &said))
        return;
    struct watcher *w = calloc(1, sizeof *w);
    if (!w) {
        refuse(req, -ENOMEM);
        return;
    }
    w->owner =
        (struct request_owner){.on_gone = on_gone, .on_end = on_end, .on_revoked = on_revoked};
    w->front = f;
    w->req = req;
    w->form = reader_form_of(req) == READER_NDJSON ? READER_NDJSON : READER_SSE;
    w->last = last;
    w->said = said;
    (void)snprintf(w->call.run.id, sizeof w->call.run.id, "%s", id);
    (void)snprintf(w->call.run.key, sizeof w->call.run.key, "%s", routes_key_label(req));
    *http_data(req) = &w->owner;
    struct stream *s = stream_find(id, w->call.run.key);
    if (!s) {
        look_up(w);
        return;
    }
    const struct reader_plan plan = {.form = w->form,
                                     .stream = s,
                                     .id = w->call.run.id,
                                     .key = w->call.run.key,
                                     .last = last,
                                     .said = said};
    int r = reader_start(f, req, &plan, &w->reader);
    stream_unref(s);
    if (r < 0)
        refuse(req, r);
}
