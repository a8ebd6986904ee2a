/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/work_promise - a run that was promised: detached, its id told before its end.
 *
 * In the frontend, per thread. Nothing accepted is lost: when the engine has the run (it says so by
 * the first Waiting, before which a refusal still has a status of its own), a *note* goes into the
 * store, which says what became of it should nothing else ever be known; only then the id is told.
 * What happens replaces it: the run's end, or the engine's refusal after all (it waited too long,
 * no zygote could be made), which is stored as a failure and shown as any end. So whoever was told
 * an id finds the run under way or in the store, also when this process dies: the next one has the
 * note. Of two calls for one run the store does the first one first.
 */
#include "frontend/once.h"
#include "frontend/work_impl.h"
#include "lib/fd.h"
#include "lib/log.h"
#include <strings.h>

#define NOTE_STATUS "open" /* store/schema.sql: until it has ended, or a start finds it */

static const struct work_failure interrupted = {
    "interrupted",
    "the run was accepted, and the service was interrupted before its end was stored"};

bool work_is_noting(const struct work *w)
{
    return w->noted == WORK_NOTING;
}

bool work_wants_detach(struct http_request *req)
{
    static const char word[] = "respond-async";
    struct http_text prefer = http_header_of(req, "prefer");
    return prefer.len >= sizeof word - 1 && strncasecmp(prefer.at, word, sizeof word - 1) == 0;
}

void work_detach(struct run *run, bool on)
{
    if (run->work->detached != on)
        run->front->detached += on ? 1 : -1u;
    run->work->detached = on;
}

/* ---- telling its id -----------------------------------------------------------------------------
 */

struct accepted {
    char body[2 * WORK_HEAD_ROOM + 64], location[64];
    struct http_header headers[3];
    struct http_answer answer;
};

static void make_accepted(struct run *run, struct accepted *a)
{
    struct work *w = run->work;
    bool asked = work_wants_detach(run->req);
    (void)snprintf(a->location, sizeof a->location, "/v1/runs/%s", w->id);
    a->headers[0] = (struct http_header){"location", a->location};
    a->headers[1] = (struct http_header){asked ? "preference-applied" : NULL, "respond-async"};
    a->headers[2] = (struct http_header){NULL, NULL};
    a->answer = (struct http_answer){.status = 202,
                                     .headers = a->headers,
                                     .content_type = "application/json",
                                     .body = a->body,
                                     .len = work_open_show(w->id, w->key, a->body, sizeof a->body)};
}

/* The note is there, or could not be made. */
static void on_noted(struct store_call *call)
{
    struct work *w = CONTAINER_OF(call, struct work, note);
    struct run *run = w->run;
    struct http_request *req = run->reader ? NULL : run->req;
    w->calls--;
    w->noted = call->error ? WORK_NOT_NOTED : WORK_NOTED;
    buf_fini(&w->note_members);
    if (call->error)
        LOG(ERROR, "run_not_noted", F_STR("run", w->id), F_STR("error", strerror(call->error)));
    if (w->detached && !call->error && run->form) {
        if (w->begin_held)
            run_stream_begin(run, w->begin_shown_max);
    } else if (w->detached && !call->error) {
        struct accepted a;
        make_accepted(run, &a);
        if (req)
            http_respond(req, 202, a.headers, a.answer.body, a.answer.len);
    } else if (!w->detached && req) { /* the engine went meanwhile, or its end could not be kept */
        answer_error(req, &(struct answer_error){503, "interrupted", 1000, NULL}, "%s",
                     interrupted.text);
    } else if (w->detached) { /* no promise without it, even if its end could still be stored */
        if (!run->finished)
            work_detach(run, false);
        if (run->open)
            upstream_cancel(&run->front->upstream, run->tag);
        if (req)
            answer_error(req, &(struct answer_error){503, "storage", 1000, NULL},
                         "the run could not be noted in the store");
    }
    work_call_done(run);
}

static bool promise(struct run *run)
{
    struct accepted a;
    if (!run->req || !once_has_name(run->req))
        return true;
    make_accepted(run, &a);
    return once_promise(run->req, &a.answer, &run->work->note);
}

static void note(struct run *run)
{
    struct work *w = run->work;
    struct store_run *to = &w->note.run;
    w->note = (struct store_call){.verb = STORE_PUT_RUN, .fd = -1, .on_done = on_noted};
    bool made = work_put_members(w, &interrupted, &w->note_members, &to->head_len) && promise(run);
    memcpy(to->id, w->id, sizeof to->id);
    memcpy(to->key, w->key, sizeof to->key);
    to->created_ms = w->created_ms;
    to->json = w->note_members.data;
    to->json_len = w->note_members.len;
    (void)snprintf(to->status, sizeof to->status, NOTE_STATUS);
    w->noted = WORK_NOTING;
    w->calls++;
    if (made && store_submit(&run->front->mailbox, &w->note) == 0)
        return;
    w->note.error = EAGAIN;
    on_noted(&w->note);
}

void work_on_accepted(struct run *run, bool waiting)
{
    bool tells = !run->form || !waiting; /* an answer in pieces tells its id when it begins */
    if (run->work->detached && run->work->noted == WORK_UNNOTED && tells)
        note(run);
}

bool work_holds_begin(struct run *run, uint64_t shown_max)
{
    struct work *w = run->work;
    w->begin_held = w->noted == WORK_NOTING && run->form;
    w->begin_shown_max = shown_max;
    return w->begin_held;
}

/* ---- what was promised, and refused ------------------------------------------------------------
 */

bool work_keeps_refusal(struct run *run, const struct proto_result *result)
{
    struct work *w = run->work;
    char text[400];
    if (!w->detached || w->noted == WORK_UNNOTED)
        return false;
    (void)snprintf(text, sizeof text, "%.64s%s%.250s", result->field, *result->field ? ": " : "",
                   *result->text ? result->text : "the run could not be started");
    const struct work_failure why = {proto_outcome_name(result->outcome), text};
    LOG(WARN, "run_refused", F_STR("run", w->id), F_STR("text", text));
    fd_close(&w->near_fd);
    work_open_end(w);
    work_store(run, &why);
    return true;
}
