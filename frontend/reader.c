/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/reader - see reader.h.
 *
 * In the frontend, per thread; the stream is another thread's perhaps. The library asks for bytes
 * when the client has taken those before; then events are written into its chunk as long as whole
 * ones fit. What the client has not taken stays in the ring and holds the run up (stream.c). With
 * nothing to say the reader costs no chunk; its tap's letter, or the timer of the heartbeat, wakes
 * it. Behind the last event comes the result: the same document that an answer in one piece would
 * be, from the run itself or from the store.
 */
#include "frontend/reader.h"
#include "frontend/json_out.h"
#include "frontend/work_impl.h"
#include "lib/clock.h"
#include <inttypes.h>
#include <strings.h>

#define HEAD_ROOM 160u   /* around the data of an event */
#define ERROR_ROOM 2048u /* an event "error", or a gap */

/* ---- writing ----------------------------------------------------------------------------------
 */

static size_t put_head(const struct reader *r, char *at, uint64_t id, const char *name)
{
    return (size_t)snprintf(at, HEAD_ROOM,
                            r->form == READER_SSE ? "id: %" PRIu64 "\nevent: %s\ndata: "
                                                  : "{\"id\":%" PRIu64
                                                    ",\"event\":\"%s\",\"data\":",
                            id, name);
}

static size_t put_end(const struct reader *r, char *at)
{
    memcpy(at, r->form == READER_SSE ? "\n\n" : "}\n", 2);
    return 2;
}

static size_t put_gap(const struct reader *r, char *at, uint64_t from, uint64_t to)
{
    size_t n = put_head(r, at, to, "gap");
    n += (size_t)snprintf(at + n, HEAD_ROOM, "{\"from\":%" PRIu64 ",\"to\":%" PRIu64 "}", from, to);
    return n + put_end(r, at + n);
}

/* 0: it does not fit. */
static size_t put_event(const struct reader *r, char *at, size_t room, const struct stream_event *e)
{
    static const struct {
        const char *name, *more;
    } kinds[] = {
        [STREAM_STARTED] = {"started", ""},
        [STREAM_STDOUT] = {"stdout", ""},
        [STREAM_STDERR] = {"stderr", ""},
        [STREAM_COMPILER_STDOUT] = {"stdout", ",\"stage\":\"compile\""},
        [STREAM_COMPILER_STDERR] = {"stderr", ",\"stage\":\"compile\""},
    };
    if (room < 2 * HEAD_ROOM)
        return 0;
    bool base64 = stream_is_base64(r->stream);
    size_t taken, n = put_head(r, at, e->id, kinds[e->kind].name), end = room - HEAD_ROOM;
    if (e->kind == STREAM_STARTED) {
        if (e->len > end - n)
            return 0;
        memcpy(at + n, e->bytes, e->len);
        return n + e->len + put_end(r, at + n + e->len);
    }
    n += (size_t)snprintf(at + n, HEAD_ROOM, base64 ? "{\"base64\":\"" : "{\"text\":\"");
    n += (base64 ? json_out_base64 : json_out_text)(at + n, end - n, e->bytes, e->len, &taken);
    if (taken < e->len)
        return 0;
    n += (size_t)snprintf(at + n, HEAD_ROOM, "\"%s}", kinds[e->kind].more);
    return n + put_end(r, at + n);
}

static size_t put_error(const struct reader *r, char *at, const char *code, const char *text)
{
    size_t taken, n = put_head(r, at, r->last_id, "error");
    n += (size_t)snprintf(at + n, HEAD_ROOM, "{\"code\":\"%.40s\",\"error\":\"", code);
    n += json_out_text(at + n, ERROR_ROOM - 2 * HEAD_ROOM, text, strlen(text), &taken);
    n += (size_t)snprintf(at + n, HEAD_ROOM, "\"}");
    return n + put_end(r, at + n);
}

/* Part of the result; its own end of line is ours to write. */
static size_t put_result(struct reader *r, char *at, size_t room)
{
    size_t n = r->result_begun ? 0 : put_head(r, at, r->last_id, "result");
    bool last = false;
    r->result_begun = true;
    n += answer_fill(r->result, at + n, room - n - HEAD_ROOM, &last);
    if (!last)
        return n;
    if (n > 0 && at[n - 1] == '\n')
        n--;
    r->state = READER_OVER;
    return n + put_end(r, at + n);
}

/* A comment, or for those who know none a line without a number. */
static size_t put_beat(const struct reader *r, char *at)
{
    return (size_t)snprintf(at, HEAD_ROOM, "%s",
                            r->form == READER_SSE ? ": still there\n\n"
                                                  : "{\"event\":\"heartbeat\"}\n");
}

/* ---- the end ----------------------------------------------------------------------------------
 */

static size_t fail(struct reader *r, char *at, const char *code, const char *text)
{
    r->state = READER_OVER;
    return put_error(r, at, code, text);
}

static void free_if_unused(struct reader *r)
{
    if (r->req || r->waiting)
        return;
    free(r->call.run.json);
    free(r->call.run.artifacts);
    output_return(r->call.borrowed);
    buf_fini(&r->tail);
    free(r);
}

/* What was found becomes the result. False: no memory. */
static bool take_found(struct reader *r)
{
    const struct store_run *run = &r->call.run;
    if (!work_put_tail(r->front, run->artifacts, run->artifact_count, &r->tail))
        return false;
    const char *const texts[] = {"{", run->json, r->tail.data};
    const size_t lens[] = {1, run->json_len, r->tail.len};
    answer_init_raw(&r->fetched, texts, lens, ARRAY_LEN(texts));
    r->result = &r->fetched;
    r->state = READER_RESULT;
    return true;
}

static void on_found(struct store_call *call)
{
    struct reader *r = CONTAINER_OF(call, struct reader, call);
    r->waiting = false;
    if (!r->req) {
        free_if_unused(r);
        return;
    }
    if (call->error == 0 && !take_found(r))
        call->error = ENOMEM;
    http_more(r->req); /* with an error it says so */
}

/* Its result is asked for of the store. */
static void fetch(struct reader *r)
{
    r->state = READER_FETCHING;
    r->call.verb = STORE_GET_RUN;
    r->call.on_done = on_found;
    r->call.borrow = output_borrow_spare;
    r->call.fd = -1;
    memcpy(r->call.run.id, r->id, sizeof r->call.run.id);
    memcpy(r->call.run.key, r->key, sizeof r->call.run.key);
    r->waiting = store_submit(&r->front->mailbox, &r->call) == 0;
    if (!r->waiting)
        r->call.error = EAGAIN;
}

static size_t put_end_of_run(struct reader *r, char *at)
{
    const char *code, *text;
    (void)stream_has_ended(r->stream, &code, &text);
    if (*code)
        return fail(r, at, code, text);
    if (r->result)
        r->state = READER_RESULT;
    else
        fetch(r);
    return 0;
}

/* ---- the answer -------------------------------------------------------------------------------
 */

/* Whole events, as many as fit. */
static size_t put_events(struct reader *r, char *at, size_t room, bool *ret_leaves)
{
    const struct stream_event *e;
    uint64_t before, id = 0;
    size_t n = 0, more = 1;
    enum stream_next next = STREAM_NOTHING;
    stream_lock(r->stream);
    while (room - n > 3 * HEAD_ROOM && more > 0) {
        before = r->tap.taken;
        next = stream_peek(r->stream, &r->tap, &id, &e);
        if (next == STREAM_GAP) {
            n += put_gap(r, at + n, before + 1, id);
            continue;
        }
        if (next != STREAM_EVENT)
            break;
        more = put_event(r, at + n, room - n, e);
        n += more;
        if (more > 0)
            stream_take(&r->tap);
    }
    stream_unlock(r->stream);
    *ret_leaves = next == STREAM_FULL;
    if (next == STREAM_ENDED) {
        r->last_id = id;
        if (room - n > ERROR_ROOM)
            n += put_end_of_run(r, at + n);
    }
    return n;
}

static size_t fill(void *data, char *at, size_t room, bool *ret_last)
{
    struct reader *r = data;
    size_t n = 0;
    r->filled_ns = clock_now_ns();
    if (!r->greeted && r->form == READER_SSE && r->stream && stream_keeps_all(r->stream))
        n = (size_t)snprintf(at, HEAD_ROOM, "retry: 50\n\n"); /* it will have to come often */
    if (r->beats)
        n += put_beat(r, at + n);
    r->greeted = true;
    r->beats = false;
    if (r->gap) {
        n += put_gap(r, at + n, r->tap.taken + 1, r->gap);
        r->gap = 0;
    }
    if (r->revoked && r->state != READER_OVER && !r->result_begun)
        n += fail(r, at + n, "unauthorized", "the key is gone");
    if (r->state == READER_EVENTS)
        n += put_events(r, at + n, room - n, ret_last);
    if (r->state == READER_FETCHING && !r->waiting)
        n += fail(r, at + n, r->call.error == ENOENT ? "not_found" : "busy",
                  r->call.error == ENOENT ? "the run is not stored any more"
                                          : "the run's end cannot be shown now: ask for the run");
    if (r->state == READER_RESULT)
        n += put_result(r, at + n, room - n);
    if (r->state == READER_OVER)
        *ret_last = true;
    return n;
}

static void on_news(struct letter *l)
{
    http_more(CONTAINER_OF(l, struct reader, tap.letter)->req);
}

static void on_beat(struct http_timer *t)
{
    struct reader *r = CONTAINER_OF(t, struct reader, beat);
    uint64_t now = clock_now_ns(), ns = stream_heartbeat_ms() * CLOCK_NS_PER_MS;
    r->beats = !r->revoked && now - r->filled_ns >= ns;
    http_timer_set(r->front->server, t, (r->beats ? now : r->filled_ns) + ns);
    if (r->beats || r->revoked)
        http_more(r->req); /* may end it */
}

static void begin(struct reader *r)
{
    static const struct http_header headers[] = {
        {"cache-control", "no-store"}, {"x-accel-buffering", "no"}, {NULL, NULL}};
    r->filled_ns = clock_now_ns();
    r->beat.on_due = on_beat;
    http_timer_set(r->front->server, &r->beat,
                   r->filled_ns + stream_heartbeat_ms() * CLOCK_NS_PER_MS);
    http_stream_as(r->req, 200, headers,
                   r->form == READER_SSE ? "text/event-stream" : "application/x-ndjson", fill, r);
}

int reader_start(struct front *f, struct http_request *req, const struct reader_plan *plan,
                 struct reader **ret)
{
    struct reader *r = calloc(1, sizeof *r);
    if (!r)
        return -ENOMEM;
    r->front = f;
    r->req = req;
    r->form = plan->form;
    r->tap.letter.on_arrival = on_news;
    r->tap.box = &f->letters;
    (void)snprintf(r->id, sizeof r->id, "%s", plan->id);
    (void)snprintf(r->key, sizeof r->key, "%s", plan->key);
    int e = stream_attach(plan->stream, &r->tap, plan->last, plan->said);
    if (e < 0) {
        free(r);
        return e;
    }
    r->stream = stream_ref(plan->stream);
    *ret = r;
    begin(r);
    return 0;
}

void reader_set_result(struct reader *r, struct answer *result)
{
    r->result = result;
}

int reader_start_stored(struct front *f, struct http_request *req, enum reader_form form,
                        struct store_call *call, uint64_t last, uint64_t last_id,
                        struct reader **ret)
{
    struct reader *r = calloc(1, sizeof *r);
    if (!r)
        return -ENOMEM;
    r->front = f;
    r->req = req;
    r->form = form;
    r->last_id = last_id;
    r->tap.taken = last;
    r->gap = last + 1 < last_id ? last_id - 1 : 0;
    r->call = *call;
    if (!take_found(r)) {
        buf_fini(&r->tail);
        free(r);
        return -ENOMEM;
    }
    call->run.json = NULL;
    call->run.artifacts = NULL;
    call->borrowed = 0;
    *ret = r;
    begin(r);
    return 0;
}

void reader_revoke(struct reader *r)
{
    r->revoked = true;
    http_timer_set(r->front->server, &r->beat, clock_now_ns());
}

void reader_free(struct reader *r)
{
    if (!r)
        return;
    r->req = NULL;
    http_timer_cancel(&r->beat);
    if (r->stream) {
        stream_detach(r->stream, &r->tap);
        stream_unref(ptr_take(&r->stream));
    }
    free_if_unused(r);
}

/* ---- what was asked for -----------------------------------------------------------------------
 */

static bool is_type(const char *at, size_t len, const char *type)
{
    const char *semicolon = len ? memchr(at, ';', len) : NULL;
    len = semicolon ? (size_t)(semicolon - at) : len;
    while (len > 0 && (*at == ' ' || *at == '\t'))
        at++, len--;
    while (len > 0 && (at[len - 1] == ' ' || at[len - 1] == '\t'))
        len--;
    return len == strlen(type) && strncasecmp(at, type, len) == 0;
}

/* The first of the two that is named; weights are not looked at. */
enum reader_form reader_form_of(struct http_request *req)
{
    struct http_text accept = http_header_of(req, "accept");
    for (size_t at = 0; at < accept.len;) {
        const char *comma = memchr(accept.at + at, ',', accept.len - at);
        size_t len = comma ? (size_t)(comma - accept.at) - at : accept.len - at;
        if (is_type(accept.at + at, len, "text/event-stream"))
            return READER_SSE;
        if (is_type(accept.at + at, len, "application/x-ndjson"))
            return READER_NDJSON;
        at += len + 1;
    }
    return READER_NONE;
}
