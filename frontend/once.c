/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/once - see once.h.
 *
 * In the frontend, per thread; the store (store/once.c) knows every name. The way of a request that
 * has one: its name is looked up and, when it is new, written down as open; only when that is
 * durable the handler runs, with a copy of the request, which goes on when the client leaves. Its
 * answer comes here, is stored, and then goes to the client. So whatever is killed: before the
 * first step nothing was done; after the last one the answer is there; in between the name is lost,
 * which is what a repetition is told, because nobody can know. It is never done twice.
 *
 * A handler that does all of its work by one call of the store (a job is submitted) hands its
 * answer over before (once_promise): the call stores both, and there is no in between. Where
 * nothing else is done (`whole`), a name that was open when its process died is simply free.
 *
 * What is remembered: answers below 400. Not the refusals of things that were not done: their name
 * is free again. An error of something that may have been done makes its name lost. An answer that
 * is too large goes to its client as ever, piece by piece, and a repetition is told so.
 */
#include "frontend/once.h"
#include "frontend/answer.h"
#include "frontend/reader.h"
#include "keys/keys.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/log.h"
#include <openssl/sha.h>

#define HEADERS_MAX 16u
#define HEAD_BYTES_MAX 8192u
#define AGAIN_MS 1000u
#define RETRY_MS 1000u

struct once {
    struct request_owner owner;
    struct front *front;
    struct http_request *req;  /* the client's; NULL: it is over */
    struct http_request *copy; /* the handler's; NULL: it has none yet, or none any more */
    route_handler *run;
    struct store_call call;
    struct store_once record;
    bool waiting;   /* for the store */
    bool gone;      /* the client left before an answer began */
    bool answered;  /* the handler has */
    bool promised;  /* its answer is here, and is stored by what it does */
    bool answering; /* an answer may end its request before we are back */
    size_t borrowed;
    size_t pos;     /* of the body: what the client has */
    http_fill fill; /* what follows the body; NULL: nothing does */
    void *fill_data;
    struct http_timer again;
};

/* ---- the end ------------------------------------------------------------------------------------
 */

/* The handler's request is over. */
static void end_copy(struct once *o)
{
    struct http_request *copy = ptr_take(&o->copy);
    if (!copy)
        return;
    struct request_owner *owner = *http_data(copy);
    if (owner)
        owner->on_end(o->front, copy, owner);
    auth_on_end(copy);
    http_copy_free(copy);
    o->front->detached--;
}

static void free_if_unused(struct once *o)
{
    if (o->req || o->waiting || o->answering)
        return;
    if (o->answered)
        end_copy(o);
    if (o->copy || o->again.due_ns)
        return;
    output_return(o->borrowed);
    free(o->record.answer);
    free(o);
}

static void on_gone(struct front *f, struct request_owner *owner)
{
    (void)f;
    CONTAINER_OF(owner, struct once, owner)->gone = true;
}

static void on_end(struct front *f, struct http_request *req, struct request_owner *owner)
{
    struct once *o = CONTAINER_OF(owner, struct once, owner);
    (void)f;
    (void)req;
    o->req = NULL;
    free_if_unused(o);
}

/* ---- answering ----------------------------------------------------------------------------------
 */

/* The kept headers (name NUL value NUL ...) as a list, with one more. */
static void list_headers(const struct once *o, bool replayed,
                         struct http_header list[HEADERS_MAX + 2])
{
    const char *at = o->record.answer, *end = at + o->record.head_len;
    size_t n = 0;
    while (at && at < end && n < HEADERS_MAX) {
        const char *value = at + strlen(at) + 1;
        list[n++] = (struct http_header){at, value};
        at = value + strlen(value) + 1;
    }
    if (replayed)
        list[n++] = (struct http_header){"idempotency-replayed", "true"};
    list[n] = (struct http_header){NULL, NULL};
}

static size_t fill_answer(void *data, char *at, size_t room, bool *ret_last)
{
    struct once *o = data;
    size_t left = o->record.answer_len - o->pos, n = left < room ? left : room;
    if (left == 0 && o->fill)
        return o->fill(o->fill_data, at, room, ret_last);
    if (n)
        memcpy(at, o->record.answer + o->pos, n);
    o->pos += n;
    *ret_last = o->pos == o->record.answer_len && !o->fill;
    return n;
}

/* Gives the client what is kept, and whatever follows. */
static void respond(struct once *o, bool replayed)
{
    struct http_header headers[HEADERS_MAX + 2];
    const struct store_once *r = &o->record;
    const char *type = *r->type ? r->type : NULL;
    if (!o->req || o->gone)
        return;
    o->answering = true;
    list_headers(o, replayed, headers);
    o->pos = r->head_len;
    if (o->fill || r->answer_len - r->head_len > HTTP_CHUNK_BYTES)
        http_stream_as(o->req, r->status, headers, type, fill_answer, o);
    else
        http_respond_as(o->req, r->status, headers, type,
                        r->answer_len > r->head_len ? r->answer + r->head_len : "",
                        r->answer_len - r->head_len);
    o->answering = false;
}

/* ---- what became of it --------------------------------------------------------------------------
 */

static void on_again(struct http_timer *t);

static void submit(struct once *o, enum store_verb verb, void (*on_done)(struct store_call *call))
{
    o->call.verb = verb;
    o->call.on_done = on_done;
    o->call.once = &o->record;
    o->waiting = true;
    if (store_submit(&o->front->mailbox, &o->call) == 0)
        return;
    o->waiting = false;
    o->call.error = EAGAIN;
}

static void on_written(struct store_call *call)
{
    struct once *o = CONTAINER_OF(call, struct once, call);
    o->waiting = false;
    if (call->error) { /* or every repetition would hear that it is under way */
        LOG(ERROR, "once_not_stored", F_STR("error", strerror(call->error)));
        o->again.on_due = on_again;
        http_timer_set(o->front->server, &o->again, clock_now_ns() + AGAIN_MS * CLOCK_NS_PER_MS);
    }
}

static void on_ended(struct store_call *call)
{
    struct once *o = CONTAINER_OF(call, struct once, call);
    on_written(call);
    respond(o, false);
    free_if_unused(o);
}

static void on_ended_again(struct store_call *call)
{
    on_written(call);
    free_if_unused(CONTAINER_OF(call, struct once, call));
}

/* The client has its answer; it could not be kept. */
static void on_again(struct http_timer *t)
{
    struct once *o = CONTAINER_OF(t, struct once, again);
    if (o->record.state == STORE_ONCE_ANSWERED)
        o->record.state = STORE_ONCE_UNKEPT;
    submit(o, STORE_ONCE_END, on_ended_again);
    if (!o->waiting)
        on_written(&o->call);
    free_if_unused(o);
}

/* As much of a streamed answer as may be kept. True: that is all of it. */
static bool collect(struct once *o, const struct http_answer *a, bool *ret_last)
{
    struct store_once *r = &o->record;
    if (o->borrowed == 0)
        return false;
    for (size_t n; !*ret_last; r->answer_len += n) {
        if (r->answer_len - r->head_len > STORE_ONCE_ANSWER_MAX)
            return false;
        n = a->fill(a->fill_data, r->answer + r->answer_len, HTTP_CHUNK_BYTES, ret_last);
        if (n == HTTP_FILL_BROKEN || (n == 0 && !*ret_last))
            return false;
    }
    return r->answer_len - r->head_len <= STORE_ONCE_ANSWER_MAX;
}

/* Copies the answer as it will be stored; false: it will not, not all of it is there. */
static bool keep(struct once *o, const struct http_answer *a)
{
    struct store_once *r = &o->record;
    struct buf head = {.cap = HEAD_BYTES_MAX};
    bool last = false;
    free(ptr_take(&r->answer)); /* of a promise that could not be kept */
    for (const struct http_header *h = a->headers; h && h->name; h++) {
        (void)buf_add(&head, h->name, strlen(h->name) + 1);
        (void)buf_add(&head, h->value, strlen(h->value) + 1);
    }
    size_t room = a->fill ? STORE_ONCE_ANSWER_MAX + HTTP_CHUNK_BYTES : a->len;
    if (a->fill && output_borrow(room))
        o->borrowed = room;
    if (a->fill && !o->borrowed)
        room = 0;
    r->status = a->status;
    (void)snprintf(r->type, sizeof r->type, "%s", a->content_type ? a->content_type : "");
    r->answer = malloc(head.len + room + 1);
    r->head_len = r->answer_len = r->answer ? head.len : 0;
    if (!r->answer && !a->fill)
        r->status = 503; /* there is nothing else to give; it is done all the same */
    if (r->answer && head.len)
        memcpy(r->answer, head.data, head.len);
    if (r->answer && !a->fill && a->len) {
        memcpy(r->answer + head.len, a->body, a->len);
        r->answer_len += a->len;
    }
    bool whole = r->answer && !head.failed &&
                 (a->fill ? collect(o, a, &last) : a->len <= STORE_ONCE_ANSWER_MAX);
    buf_fini(&head);
    o->fill = a->fill && !last ? a->fill : NULL;
    o->fill_data = a->fill_data;
    return whole;
}

static void on_over(struct http_timer *t)
{
    free_if_unused(CONTAINER_OF(t, struct once, again));
}

/* Handler and store have done what they promised. */
static void keep_promise(struct once *o)
{
    respond(o, false);
    if (o->req) /* its end frees */
        return;
    o->again.on_due = on_over; /* the handler is still at work */
    http_timer_set(o->front->server, &o->again, clock_now_ns());
}

/* The handler's answer. */
static void on_answer(void *user, const struct http_answer *a)
{
    struct once *o = user;
    o->answered = true;
    if (o->promised && a->status < 400) {
        keep_promise(o);
        return;
    }
    bool whole = keep(o, a);
    if (a->closes && o->req)
        http_close_after(o->req);
    if (a->status < 400)
        o->record.state = whole ? STORE_ONCE_ANSWERED : STORE_ONCE_UNKEPT;
    else
        o->record.state = http_copy_is_begun(o->copy) ? STORE_ONCE_LOST : STORE_ONCE_NEW;
    submit(o, STORE_ONCE_END, on_ended);
    if (o->waiting)
        return;
    on_written(&o->call);
    respond(o, false);
    /* The handler is still at work: whoever called it frees, or the client's end does. */
}

bool once_has_name(const struct http_request *req)
{
    return http_copy_user(req);
}

bool once_promise(struct http_request *req, const struct http_answer *a, struct store_call *call)
{
    struct once *o = http_copy_user(req);
    if (!keep(o, a))
        return false;
    o->promised = true;
    o->record.state = STORE_ONCE_ANSWERED;
    call->once = &o->record;
    memcpy(call->key, o->call.key, sizeof call->key);
    return true;
}

static void on_more(void *user)
{
    struct once *o = user;
    if (o->req && !o->gone && !o->waiting)
        http_more(o->req);
}

/* ---- the beginning ------------------------------------------------------------------------------
 */

/* It was not begun after all: its name is free again. */
static void forget(struct once *o)
{
    o->record.state = STORE_ONCE_NEW;
    submit(o, STORE_ONCE_END, on_ended_again);
    if (!o->waiting)
        on_written(&o->call);
}

static void start(struct once *o)
{
    static const struct http_sink sink = {.on_answer = on_answer, .on_more = on_more};
    static const struct http_text no_params[1];
    o->copy = http_copy_new(o->req, &sink, o);
    if (!o->copy) {
        answer_error(o->req, &(struct answer_error){503, "busy", RETRY_MS, NULL}, "out of memory");
        forget(o);
        return;
    }
    *http_whose(o->copy) = key_ref(routes_key(o->req));
    o->front->detached++;
    o->run(o->front, o->copy, no_params);
    http_copy_drop_body(o->copy);
    const struct request_owner *owner = *http_data(o->copy);
    o->owner.logs = owner && owner->logs;
}

static void answer_state(struct once *o)
{
    static const struct {
        int status;
        const char *code, *text;
        uint64_t retry_after_ms;
    } table[] = {
        [STORE_ONCE_OPEN] = {409, "in_progress",
                             "the first request with this Idempotency-Key is still under way",
                             RETRY_MS},
        [STORE_ONCE_UNKEPT] =
            {409, "answer_not_kept",
             "the first request with this Idempotency-Key is done; its answer was "
             "too large to be kept, or had to make room",
             0},
        [STORE_ONCE_LOST] = {409, "attempt_lost",
                             "the first request with this Idempotency-Key was interrupted: it may "
                             "have been done, and is not done again; another key does it anew",
                             0},
        [STORE_ONCE_OTHER] = {422, "idempotency_mismatch",
                              "this Idempotency-Key belongs to another request", 0},
    };
    enum store_once_state state = o->record.state;
    answer_error(o->req,
                 &(struct answer_error){table[state].status, table[state].code,
                                        table[state].retry_after_ms, NULL},
                 "%s", table[state].text);
}

static void on_begun(struct store_call *call)
{
    struct once *o = CONTAINER_OF(call, struct once, call);
    bool there = o->req && !o->gone;
    o->waiting = false;
    o->borrowed = call->borrowed;
    call->borrow = NULL;
    if (call->error && there)
        answer_error(o->req,
                     &(struct answer_error){503, call->error == EAGAIN ? "overloaded" : "storage",
                                            RETRY_MS, NULL},
                     "the Idempotency-Key cannot be looked up now");
    else if (!call->error && o->record.state == STORE_ONCE_NEW && there)
        start(o);
    else if (!call->error && o->record.state == STORE_ONCE_NEW)
        forget(o);
    else if (!call->error && o->record.state == STORE_ONCE_ANSWERED && there)
        respond(o, true);
    else if (!call->error && there)
        answer_state(o);
    free_if_unused(o);
}

static void hash_request(struct http_request *req, unsigned char ret[SHA256_DIGEST_LENGTH])
{
    unsigned char parts[4][SHA256_DIGEST_LENGTH];
    const struct http_text texts[] = {http_method(req), http_path(req), http_query(req),
                                      http_body(req)};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        (void)SHA256((const unsigned char *)(texts[i].len ? texts[i].at : ""), texts[i].len,
                     parts[i]);
    (void)SHA256(parts[0], sizeof parts, ret);
}

static bool is_name(struct http_text t)
{
    for (size_t i = 0; i < t.len; i++)
        if (t.at[i] < 0x21 || t.at[i] > 0x7e)
            return false;
    return t.len > 0 && t.len <= STORE_ONCE_NAME_MAX;
}

bool once_on_request(struct front *f, struct http_request *req, route_handler *run, bool whole)
{
    struct http_text name = http_header_of(req, "idempotency-key");
    if (!name.at)
        return false;
    const char *fault = NULL;
    if (!is_name(name) || http_header_repeats(req, "idempotency-key"))
        fault = "Idempotency-Key: expected 1 to 255 visible ASCII characters, once";
    else if (reader_form_of(req) != READER_NONE)
        fault = "with Idempotency-Key the answer comes in one piece: ask for \"detach\" and watch "
                "the run's events";
    if (fault) {
        answer_error(req, &(struct answer_error){400, "bad_request", 0, NULL}, "%s", fault);
        return true;
    }
    struct once *o = calloc(1, sizeof *o);
    if (o) {
        o->owner = (struct request_owner){.on_gone = on_gone, .on_end = on_end};
        o->front = f;
        o->run = run;
        o->call.borrow = output_borrow_spare;
        o->record.whole = whole;
        memcpy(o->record.name, name.at, name.len);
        (void)snprintf(o->call.key, sizeof o->call.key, "%s", routes_key_label(req));
        hash_request(req, o->record.request);
        submit(o, STORE_ONCE_BEGIN, on_begun);
        if (o->waiting) {
            o->req = req;
            *http_data(req) = &o->owner;
            return true;
        }
    }
    free(o);
    answer_error(req, &(struct answer_error){503, "busy", RETRY_MS, NULL},
                 "too much is being stored at the moment");
    return true;
}
