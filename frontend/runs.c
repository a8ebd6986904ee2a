/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/runs - GET and DELETE of /v1/runs/{id}: a run under way, or one in the store.
 *
 * In the frontend, per thread. A run is looked for among those under way first: it leaves that list
 * after it came into the store, so it cannot be missed between the two. Another key's run is as
 * unknown as one that never was. With `wait` the answer comes when the run has ended, or after that
 * time: a tap on its stream tells, nothing is asked again and again.
 */
#include "frontend/stream.h"
#include "frontend/uri.h"
#include "frontend/work_impl.h"
#include "lib/clock.h"
#include "lib/log.h"

#define WAIT_S_MAX 60u

/* One look into the store for a request. Freed when neither needs it. */
struct show {
    struct request_owner owner;
    struct front *front;
    struct http_request *req; /* NULL: over */
    struct store_call call;
    bool waiting;          /* for the store */
    bool absent;           /* of who wanted it to be under way: only whether it is there counts */
    struct stream *stream; /* whose end is waited for, or NULL */
    struct stream_tap tap;
    struct http_timer patience;
    bool revoked; /* nothing is shown any more */
    struct buf tail;
    struct answer answer;
};

static void free_if_unused(struct show *s)
{
    if (s->req || s->waiting)
        return;
    free(s->call.run.json);
    free(s->call.run.artifacts);
    output_return(s->call.borrowed);
    buf_fini(&s->tail);
    free(s);
}

static void answer_unknown(struct http_request *req)
{
    answer_error(req, &(struct answer_error){404, "not_found", 0, NULL}, "there is no such run");
}

static void answer_ended(struct http_request *req)
{
    answer_error(req, &(struct answer_error){409, "ended", 0, NULL}, "the run has ended");
}

static void show(struct show *s)
{
    static __thread char small[HTTP_CHUNK_BYTES];
    const struct store_run *run = &s->call.run;
    bool last = false;
    if (!work_put_tail(s->front, run->artifacts, run->artifact_count, &s->tail)) {
        answer_error(s->req, &(struct answer_error){503, "busy", 1000, NULL}, "out of memory");
        return;
    }
    const char *const texts[] = {"{", run->json, s->tail.data};
    const size_t lens[] = {1, run->json_len, s->tail.len};
    answer_init_raw(&s->answer, texts, lens, ARRAY_LEN(texts));
    size_t n = answer_fill(&s->answer, small, sizeof small, &last);
    if (last) {
        http_respond(s->req, 200, NULL, small, n);
    } else {
        answer_rewind(&s->answer);
        http_stream(s->req, 200, answer_fill, &s->answer);
    }
}

static void on_found(struct store_call *call)
{
    struct show *s = CONTAINER_OF(call, struct show, call);
    s->waiting = false;
    if (!s->req)
        free_if_unused(s);
    else if (call->error == ENOENT)
        answer_unknown(s->req);
    else if (call->error == EAGAIN)
        answer_error(s->req, &(struct answer_error){503, "overloaded", 1000, NULL},
                     "too much output is waiting for its clients");
    else if (call->error)
        answer_error(s->req, &(struct answer_error){503, "storage", 1000, NULL},
                     "the run cannot be read now");
    else if (s->absent)
        answer_ended(s->req);
    else
        show(s);
}

static void stop_waiting(struct show *s)
{
    http_timer_cancel(&s->patience);
    if (!s->stream)
        return;
    stream_detach(s->stream, &s->tap);
    stream_unref(ptr_take(&s->stream));
}

static void on_gone(struct front *f, struct request_owner *owner)
{
    (void)f;
    (void)owner;
}

static void on_end(struct front *f, struct http_request *req, struct request_owner *owner)
{
    struct show *s = CONTAINER_OF(owner, struct show, owner);
    (void)f;
    (void)req;
    s->req = NULL;
    stop_waiting(s);
    free_if_unused(s);
}

/* Who waits; a look into the store is over soon. */
static void on_revoked(struct front *f, struct request_owner *owner)
{
    struct show *s = CONTAINER_OF(owner, struct show, owner);
    if (!s->stream)
        return;
    s->revoked = true;
    http_timer_set(f->server, &s->patience, clock_now_ns());
}

static struct show *make(struct front *f, struct http_request *req, const char *id)
{
    struct show *s = calloc(1, sizeof *s);
    if (!s) {
        answer_error(req, &(struct answer_error){503, "busy", 1000, NULL}, "out of memory");
        return NULL;
    }
    s->owner =
        (struct request_owner){.on_gone = on_gone, .on_end = on_end, .on_revoked = on_revoked};
    s->front = f;
    s->req = req;
    s->call.verb = STORE_GET_RUN;
    s->call.on_done = on_found;
    s->call.fd = -1;
    (void)snprintf(s->call.run.id, sizeof s->call.run.id, "%s", id);
    (void)snprintf(s->call.run.key, sizeof s->call.run.key, "%s", routes_key_label(req));
    *http_data(req) = &s->owner;
    return s;
}

static void look_up(struct show *s)
{
    s->call.borrow = s->absent ? NULL : output_borrow_spare; /* readers may be many, and slow */
    s->waiting = store_submit(&s->front->mailbox, &s->call) == 0;
    if (!s->waiting)
        answer_error(s->req, &(struct answer_error){503, "busy", 1000, NULL},
                     "too much is being stored at the moment");
}

void runs_answer_absent(struct front *f, struct http_request *req, const char *id)
{
    struct show *s = make(f, req, id);
    if (!s)
        return;
    s->absent = true;
    look_up(s);
}

/* ---- waiting ----------------------------------------------------------------------------------
 */

static bool show_open(struct show *s)
{
    char text[2 * WORK_HEAD_ROOM + 64];
    size_t n = work_open_show(s->call.run.id, s->call.run.key, text, sizeof text);
    if (n > 0)
        http_respond(s->req, 200, NULL, text, n);
    return n > 0;
}

/* It has ended, or there was no more time. */
static void answer_now(struct show *s)
{
    stop_waiting(s);
    if (s->revoked)
        auth_refuse_gone(s->req);
    else if (!show_open(s))
        look_up(s);
}

static void on_news(struct letter *l)
{
    answer_now(CONTAINER_OF(l, struct show, tap.letter));
}

static void on_patience(struct http_timer *t)
{
    answer_now(CONTAINER_OF(t, struct show, patience));
}

/* False: there is nothing to wait for. */
static bool wait(struct show *s, uint64_t seconds)
{
    const char *code, *text;
    s->stream = seconds ? stream_find(s->call.run.id, s->call.run.key) : NULL;
    if (!s->stream)
        return false;
    s->tap = (struct stream_tap){
        .letter.on_arrival = on_news, .box = &s->front->letters, .only_end = true};
    (void)stream_attach(s->stream, &s->tap, 0, false);
    if (stream_has_ended(s->stream, &code, &text)) {
        stop_waiting(s);
        return false;
    }
    s->patience.on_due = on_patience;
    http_timer_set(s->front->server, &s->patience, clock_now_ns() + seconds * CLOCK_NS_PER_S);
    return true;
}

/* ---- the handlers -----------------------------------------------------------------------------
 */

bool runs_take_id(struct http_request *req, struct http_text given, char ret[STORE_ID_ROOM])
{
    if (given.len < STORE_ID_ROOM && store_id_is_valid("run_", given.at, given.len)) {
        memcpy(ret, given.at, given.len);
        ret[given.len] = 0;
        return true;
    }
    answer_unknown(req);
    return false;
}

void runs_on_get(struct front *f, struct http_request *req, const struct http_text *params)
{
    char id[STORE_ID_ROOM];
    uint64_t seconds = 0;
    if (!runs_take_id(req, params[0], id))
        return;
    if (uri_find_u64(http_query(req), "wait", 0, WAIT_S_MAX, &seconds) < 0) {
        answer_error(req, &(struct answer_error){400, "bad_request", 0, NULL},
                     "wait must be a number of seconds from 0 to %u", WAIT_S_MAX);
        return;
    }
    struct show *s = make(f, req, id);
    if (s && !wait(s, seconds))
        answer_now(s);
}

void runs_on_delete(struct front *f, struct http_request *req, const struct http_text *params)
{
    char id[STORE_ID_ROOM], text[STORE_ID_ROOM + 64];
    if (!runs_take_id(req, params[0], id))
        return;
    switch (work_open_cancel(f, id, routes_key_label(req))) {
    case WORK_CANCELLED:
        http_respond(
            req, 202, NULL, text,
            (size_t)snprintf(text, sizeof text, "{\"id\":\"%s\",\"status\":\"cancelling\"}\n", id));
        return;
    case WORK_ENDED:
        answer_ended(req);
        return;
    case WORK_UNKNOWN:
        break;
    }
    runs_answer_absent(f, req, id);
}
