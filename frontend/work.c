/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/work - POST /v1/runs: a run with inputs from the store, whose end and artifacts go there
 * before anyone is told.
 *
 * In the frontend, per thread; execute.c has the run itself. Its way: inputs are looked up (the
 * caller's own files only) and become descriptors beside the Execute; the Result comes; artifacts
 * are collected (work_artifacts.c); the document is made (work_json.c), stored, and then answered.
 * One hop to the store's thread for a run without files. With `detach`, or `Prefer: respond-async`
 * (RFC 7240), the answer is a 202 with the id as soon as the engine has the run (work_promise.c),
 * which then goes on without its client; otherwise a client that leaves cancels it and it is not
 * stored.
 */
#include "frontend/feed.h"
#include "frontend/work_impl.h"
#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "lib/packet.h"

bool work_is_busy(const struct work *w)
{
    return w->detached || w->calls > 0;
}

void work_free(struct work *w)
{
    if (!w)
        return;
    work_open_remove(w);
    work_forget_artifacts(w);
    for (size_t i = 0; i < w->input_count; i++)
        fd_close(&w->inputs[i].call.fd);
    free(w->inputs);
    if (w->parsed)
        parse_fini(w->parsed);
    free(w->parsed);
    output_return(w->borrowed);
    buf_fini(&w->members);
    buf_fini(&w->note_members);
    buf_fini(&w->tail);
    free(w);
}

const char *work_id(const struct work *w)
{
    return w->id;
}

const char *work_key(const struct work *w)
{
    return w->key;
}

size_t work_put_started(const struct work *w, char *to, size_t room)
{
    char limits[WORK_HEAD_ROOM];
    (void)work_put_limits(limits, sizeof limits, &w->limits);
    return (size_t)snprintf(to, room, ",%s,%s", w->head, limits);
}

void work_call_done(struct run *run)
{
    if (!run->req && !work_is_busy(run->work))
        run_free_if_unused(run);
}

/* It will not be stored. */
static void give_up(struct run *run, const char *code, const char *why)
{
    bool told = run->reader || run->work->noted == WORK_NOTED;
    struct http_request *req = told || work_is_noting(run->work) ? NULL : run->req;
    if (run->stream)
        run_stream_end(run, code, why);
    if (run->work->detached)
        LOG(ERROR, "run_lost", F_STR("run", run->work->id), F_STR("why", why));
    work_detach(run, false);
    work_open_remove(run->work);
    work_call_done(run);
    if (req)
        answer_error(req, &(struct answer_error){503, code, 1000, NULL}, "%s", why);
}

/* ---- the end ------------------------------------------------------------------------------------
 */

static void on_stored(struct store_call *call)
{
    struct work *w = CONTAINER_OF(call, struct work, put);
    struct run *run = w->run;
    bool asked = run->req && !run->reader && w->noted != WORK_NOTED; /* or it has its 202 */
    w->calls--;
    free(ptr_take(&call->run.artifacts));
    if (call->error) {
        LOG(ERROR, "run_not_stored", F_STR("run", w->id), F_STR("error", strerror(call->error)));
        give_up(run, "storage", "the run took place but could not be stored");
        return;
    }
    work_open_remove(w);
    work_detach(run, false);
    if (run->stream)
        run_stream_end(run, NULL, NULL);
    work_call_done(run);
    if (asked) {
        const char *const texts[] = {"{", w->members.data, w->tail.data};
        const size_t lens[] = {1, w->members.len, w->tail.len};
        answer_init_raw(&run->answer, texts, lens, ARRAY_LEN(texts));
        run_respond(run);
    }
}

/* The artifacts that are in the store, in the order they came. */
static bool list_artifacts(struct work *w, struct store_run *to)
{
    to->artifacts = calloc(w->artifact_count + 1, sizeof *to->artifacts);
    for (size_t i = 0; to->artifacts && i < w->artifact_count; i++)
        if (w->artifacts[i]->call.error == 0)
            to->artifacts[to->artifact_count++] = w->artifacts[i]->call.object;
    return to->artifacts;
}

void work_store(struct run *run, const struct work_failure *why)
{
    struct work *w = run->work;
    struct store_run *to = &w->put.run;
    if (run->stream)
        w->last_event = run_stream_last_id(run);
    bool made =
        work_put_members(w, why, &w->members, &to->head_len) && output_borrow(w->members.room);
    w->borrowed = made ? w->members.room : 0;
    run_drop_output(run); /* it is in the members */
    if (!made || !list_artifacts(w, to) ||
        !work_put_tail(run->front, to->artifacts, to->artifact_count, &w->tail)) {
        free(ptr_take(&to->artifacts));
        give_up(run, "overloaded", "too much output is waiting for its clients");
        return;
    }
    memcpy(to->id, w->id, sizeof to->id);
    memcpy(to->key, w->key, sizeof to->key);
    to->created_ms = w->created_ms;
    to->json = w->members.data;
    to->json_len = w->members.len;
    (void)snprintf(to->status, sizeof to->status, "%s", w->status);
    w->put.verb = STORE_PUT_RUN;
    w->put.on_done = on_stored;
    if (store_submit(&run->front->mailbox, &w->put) < 0) {
        free(ptr_take(&to->artifacts));
        give_up(run, "busy", "too much is being stored at the moment");
        return;
    }
    w->calls++;
}

void work_on_outputs(struct run *run)
{
    work_open_end(run->work);
    if (run->result.collecting && run->work->near_fd >= 0) {
        work_collect(run);
        return;
    }
    fd_close(&run->work->near_fd);
    work_store(run, NULL);
}

void work_on_refused(struct run *run)
{
    work_detach(run, false);
    work_open_remove(run->work);
    work_call_done(run);
}

void work_on_lost(struct run *run)
{
    work_detach(run, false);
    work_open_remove(run->work);
}

bool work_on_timer(struct run *run)
{
    if (!run->work->watch)
        return false;
    work_stop_collecting(run);
    return true;
}

bool work_on_gone(struct run *run)
{
    if (run->work->detached)
        return false;
    run->work->gone = true;
    work_forget_artifacts(run->work);
    return true;
}

/* ---- the beginning ------------------------------------------------------------------------------
 */

/* Who can hear of its id before it is over can watch it. False: no memory. */
static bool prepare_stream(struct run *run, const struct parse_request *parsed, bool detached)
{
    run->form = reader_form_of(run->req);
    return (run->form == READER_NONE && !detached) ||
           run_stream_make(run, run->work->id, run->work->key, parsed->keeps_all);
}

static bool prepare_feed(struct run *run, const struct parse_request *parsed)
{
    if (!parsed->stdin_open)
        return true;
    run->feed = feed_new(run->front, run->work->key, parsed->input, parsed->input_len);
    return run->feed != NULL;
}

/* What a request may ask for bounds its compiler as well, which has nothing of what it does ask
 * for. */
static void lower_ceilings(struct run *run, struct run_caller *caller)
{
    struct parse_limits room;
    const struct proto_run_limits *most = &auth_limits(run->front, run->req, &room)->v1;
    caller->timeout_ms_ceiling = most->timeout_ms.max;
    caller->memory_bytes_ceiling = most->memory_bytes.max;
    caller->cpu_ms_ceiling = most->cpu_ms.max;
}

/* All inputs are there: to the engine. The request gets an answer if that fails. */
static void begin(struct run *run, const struct parse_request *parsed)
{
    struct work *w = run->work;
    struct run_caller caller;
    int pair[2], place_fds[PROTO_PLACES_MAX];
    if (!jobs_let_pass(run->req, run->ns_id))
        return;
    bool detached = work_wants_detach(run->req) || parsed->detach;
    if (!prepare_stream(run, parsed, detached) || !prepare_feed(run, parsed)) {
        run_refuse(run->req, -EAGAIN);
        return;
    }
    for (size_t i = 0; i < w->input_count; i++)
        place_fds[i] = w->inputs[i].call.fd;
    if (packet_pair(pair, false) < 0) {
        run_refuse(run->req, -EAGAIN);
        return;
    }
    w->near_fd = pair[0];
    const struct run_files files = {.artifacts_fd = pair[1],
                                    .bytes_max = parsed->artifact_bytes_max,
                                    .files_max = (uint32_t)parsed->artifact_files_max,
                                    .places = parsed->places,
                                    .place_fds = place_fds,
                                    .place_count = w->input_count};
    auth_caller(run->req, &caller);
    lower_ceilings(run, &caller);
    int r = run_send(run, &caller, parsed, &files);
    fd_close(&pair[1]);
    if (r < 0) {
        run_refuse(run->req, r);
        return;
    }
    work_open_add(w);
    work_detach(run, detached);
}

/* All look-ups are done. */
static void on_inputs(struct run *run)
{
    struct work *w = run->work;
    struct parse_request *parsed = w->parsed;
    for (size_t i = 0; i < w->input_count; i++) {
        int error = w->inputs[i].call.error;
        if (error == 0)
            continue;
        bool absent = error == ENOENT;
        answer_error(run->req,
                     &(struct answer_error){absent ? 404 : 503, absent ? "not_found" : "storage",
                                            absent ? 0 : 1000, NULL},
                     absent ? "files[%zu].id: there is no such file"
                            : "files[%zu].id: the file cannot be read now",
                     i);
        return;
    }
    begin(run, parsed);
    parse_fini(ptr_take(&w->parsed));
    free(parsed);
}

static void on_input(struct store_call *call)
{
    struct run *run = CONTAINER_OF(call, struct input, call)->run;
    if (call->error)
        call->fd = -1;
    run->work->calls--;
    if (!run->req || run->work->gone)
        work_call_done(run);
    else if (run->work->calls == 0)
        on_inputs(run);
}

static void look_up(struct run *run)
{
    struct work *w = run->work;
    for (size_t i = 0; i < w->input_count; i++) {
        struct store_call *call = &w->inputs[i].call;
        w->inputs[i].run = run;
        call->verb = STORE_GET_OBJECT;
        call->fd = -1;
        call->on_done = on_input;
        memcpy(call->key, w->key, sizeof call->key);
        (void)snprintf(call->object.id, sizeof call->object.id, "%s", w->parsed->files[i].id);
        bool known =
            store_id_is_valid("file_", w->parsed->files[i].id, strlen(w->parsed->files[i].id));
        call->error = known ? EAGAIN : ENOENT;
        if (known && store_submit(&run->front->mailbox, call) == 0)
            w->calls++;
    }
    if (w->calls == 0)
        on_inputs(run);
}

/* Takes what was parsed when its inputs have to be waited for. */
static bool keep_parsed(struct work *w, struct parse_request *parsed)
{
    w->inputs = calloc(parsed->file_count, sizeof *w->inputs);
    w->parsed = w->inputs ? malloc(sizeof *w->parsed) : NULL;
    if (!w->parsed)
        return false;
    *w->parsed = *parsed;
    w->input_count = parsed->file_count;
    parsed->doc = NULL;
    return true;
}

static struct work *make(struct run *run, const struct parse_request *parsed, const char *key)
{
    struct work *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->run = run;
    w->near_fd = -1;
    w->created_ms = store_now_ms();
    w->artifact_bytes_left = parsed->artifact_bytes_max;
    w->artifact_files_max = (uint32_t)parsed->artifact_files_max;
    (void)snprintf(w->key, sizeof w->key, "%s", key);
    store_make_id("run_", w->id);
    work_put_head(w, parsed);
    return w;
}

static void start(struct front *f, struct http_request *req, struct parse_request *parsed)
{
    struct run *run = run_new(f, req, parsed);
    if (!run) {
        run_refuse(req, -EAGAIN);
        return;
    }
    *http_data(req) = &run->owner; /* from here the request's end frees it */
    run->work = make(run, parsed, routes_key_label(req));
    if (!run->work || (parsed->file_count > 0 && !keep_parsed(run->work, parsed)))
        run_refuse(req, -EAGAIN);
    else if (run->work->input_count > 0)
        look_up(run);
    else
        begin(run, parsed);
}

void work_on_request(struct front *f, struct http_request *req, const struct http_text *params)
{
    static __thread struct parse_request parsed; /* as in execute.c */
    struct parse_refusal refusal;
    struct parse_limits lowered;
    struct http_text body = http_body(req);
    (void)params;
    if (!execute_may_begin(f, req))
        return;
    if (parse_run(body.at, body.len, auth_limits(f, req, &lowered), &parsed, &refusal) < 0) {
        answer_error(req, &(struct answer_error){400, refusal.code, 0, NULL}, "%s", refusal.text);
        return;
    }
    if (parsed.stdin_open && !parsed.detach && !work_wants_detach(req) && !reader_form_of(req))
        answer_error(
            req, &(struct answer_error){400, "bad_request", 0, NULL},
            "stdin_open goes with detach or with a stream: nobody else could feed the run");
    else if (auth_may_use(req, parsed.ns_id))
        start(f, req, &parsed);
    parse_fini(&parsed);
}
