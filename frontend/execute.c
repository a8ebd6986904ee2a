/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/execute - the life of one POST /execute: from a checked request to its answer.
 *
 * In the frontend, per thread. Two pipes and a stdin are made (four and a memfd with the code, for
 * a program that is compiled), one Execute carries their far ends to the engine, and the answer
 * goes out when the Result is there and all pipes have ended. A short run costs one wake-up: its
 * pipes are not watched for the first WATCH_AFTER_MS and are drained when the Result comes. Whoever
 * writes more than a pipe holds waits that long once.
 *
 * A run has two users: its HTTP request (req) and the engine (open); a stored one (work.c) has the
 * store as a third. It is freed when none is left: a client may leave first (then the run is
 * cancelled and its output dropped), or the engine may.
 *
 * One whose output is shown while it runs has a stream (run_stream.c), and its pipes are watched
 * from the start; `reader` is then the request's answer, which begins before the run's end.
 */
#include "frontend/feed.h"
#include "frontend/jobs.h"
#include "frontend/run.h"
#include "frontend/work.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/log.h"
#include <strings.h>

#define WATCH_AFTER_MS 2u
#define CLOSE_AFTER_MS 1000u /* after the Result every writer is dead: the pipes end at once */
#define BUSY_RETRY_MS 1000u
#define REFUSAL_FREE_US 5000u /* that the engine takes to find out that a run could not begin */
#define FDS_MAX (6u + 1u + PROTO_PLACES_MAX) /* enum proto_kind has their order */

static void try_answer(struct run *run);

void run_drop_output(struct run *run)
{
    http_timer_cancel(&run->timer);
    for (unsigned i = 0; i < run->out_count; i++)
        output_fini(&run->out[i]);
}

/* Once, when it is over: in its key's usage. What its client did not wait for counts as well, and
 * what could not begin, but took its time: a session's script may have said so. */
static void count(struct run *run)
{
    const struct proto_result *r = &run->result;
    if (run->counted || !run->finished || (r->outcome != PROTO_OK && r->wall_us < REFUSAL_FREE_US))
        return;
    struct store_usage u = {.runs = 1, .cpu_us = r->cpu_us, .wall_us = r->wall_us};
    for (size_t i = 0; i + 1 < r->stage_count; i++) { /* the last one is the run's own */
        u.cpu_us += r->stages[i].cpu_us;
        u.wall_us += r->stages[i].wall_us;
    }
    for (unsigned i = 0; i < run->out_count; i++)
        u.output_bytes += run->out[i].total;
    if (run->job)
        u.output_bytes = job_bytes_written(run->job);
    memcpy(u.key, run->key, sizeof u.key);
    usage_add(run->front, &u);
    run->counted = true;
}

void run_free_if_unused(struct run *run)
{
    if (run->req || run->open || (run->work && work_is_busy(run->work)))
        return;
    count(run);
    run_drop_output(run);
    if (run->stream)
        run_stream_end(run, "cancelled", "its client left before it was over");
    feed_free(run->feed);
    work_free(run->work);
    free(run);
}

static bool is_ended(const struct run *run)
{
    if (run->job)
        return job_outputs_ended(run->job);
    for (unsigned i = 0; i < run->out_count; i++)
        if (!run->out[i].ended)
            return false;
    return true;
}

static void on_output(void *data)
{
    struct output *o = data;
    if (o->run->stream && !run_stream_may_read(o->run))
        return;
    output_read(o);
    if (o->ended && o->run->finished)
        try_answer(o->run);
}

static void watch(struct run *run)
{
    for (unsigned i = 0; i < run->out_count; i++) {
        struct output *o = &run->out[i];
        if (o->ended || o->watch)
            continue;
        o->watch = http_watch_new(run->front->server, o->fd, on_output, o);
        if (!o->watch) {
            o->cut = true;
            output_end(o);
        }
    }
}

static void on_run_timer(struct http_timer *t)
{
    struct run *run = CONTAINER_OF(t, struct run, timer);
    if (run->work && work_on_timer(run))
        return;
    if (!run->finished) {
        watch(run);
        return;
    }
    for (unsigned i = 0; i < run->out_count; i++)
        if (!run->out[i].ended) {
            run->out[i].cut = true;
            output_end(&run->out[i]);
        }
    if (run->job)
        job_cut_outputs(run->job);
    try_answer(run);
}

void run_outputs_ended(struct run *run)
{
    if (run->finished)
        try_answer(run);
}

void run_respond(struct run *run)
{
    static __thread char small[HTTP_CHUNK_BYTES];
    bool last = false;
    size_t n = answer_fill(&run->answer, small, sizeof small, &last);
    if (last) {
        http_respond(run->req, 200, NULL, small, n);
    } else {
        answer_rewind(&run->answer);
        http_stream(run->req, 200, answer_fill, &run->answer);
    }
}

/* Result and outputs are complete? Then what a client is told is made of them. */
static void try_answer(struct run *run)
{
    if (!is_ended(run))
        return;
    http_timer_cancel(&run->timer);
    count(run);
    if (run->job) {
        job_on_result(ptr_take(&run->job), &run->result);
        run_free_if_unused(run);
        return;
    }
    for (unsigned i = 0; run->result.output_bytes_max && i < run->out_count; i++)
        output_keep(&run->out[i], run->result.output_bytes_max);
    if (run->work) {
        work_on_outputs(run);
        return;
    }
    if (!run->req)
        return;
    if (*run->session)
        answer_init_session(&run->answer, &run->result, run->out, run->base64, run->session);
    else if (*run->language)
        answer_init_code(&run->answer, &run->result, run->out, run->compiled, run->base64);
    else
        answer_init(&run->answer, &run->result, run->out, run->base64);
    if (!run->reader) {
        run_respond(run);
        return;
    }
    reader_set_result(run->reader, &run->answer);
    run_stream_end(run, NULL, NULL);
}

/* The engine did not run it. */
static void answer_outcome(struct run *run, const struct proto_result *r)
{
    static const struct {
        int status;
        bool retry;
    } table[PROTO_OUTCOMES] = {
        [PROTO_OK] = {500, false},        [PROTO_BAD_REQUEST] = {400, false},
        [PROTO_QUEUE_FULL] = {503, true}, [PROTO_QUEUE_TIMEOUT] = {503, true},
        [PROTO_DRAINING] = {503, true},   [PROTO_ACTIVATION_FAILED] = {503, true},
        [PROTO_NOT_FOUND] = {500, false}, [PROTO_BUSY] = {503, true},
        [PROTO_INTERNAL] = {500, false},  [PROTO_FORBIDDEN] = {500, false},
        [PROTO_TOO_MANY] = {429, true},
    };
    bool named = r->field[0] != 0;
    if (run->reader) /* it has begun: the last event says it */
        return;
    http_mark_begun(run->req, r->outcome == PROTO_INTERNAL);
    struct answer_error e = {.status = table[r->outcome].status,
                             .code = proto_outcome_name(r->outcome)};
    if (table[r->outcome].retry)
        e.retry_after_ms = r->retry_after_ms ? r->retry_after_ms : BUSY_RETRY_MS;
    answer_error(run->req, &e, "%.64s%s%.250s", r->field, named ? ": " : "",
                 r->text[0] ? r->text : "the run could not be started");
}

/* Does anybody still want to know what comes of it? */
static bool is_wanted(const struct run *run)
{
    return run->req || run->job || (run->work && work_is_busy(run->work));
}

static void on_reply(struct upstream_call *call, const struct proto_msg *reply)
{
    struct run *run = CONTAINER_OF(call, struct run, call);
    const struct proto_result *result = &reply->result;
    run->open = false;
    run->finished = true;
    run->result = *result;
    run->result.field = run->result.text = ""; /* the arena's: not ours to keep */
    feed_end(run->feed);
    if (!is_wanted(run)) {
        run_free_if_unused(run);
        return;
    }
    if (result->outcome != PROTO_OK) {
        run_drop_output(run);
        if (run->job) {
            job_on_refused(ptr_take(&run->job), result);
            run_free_if_unused(run);
            return;
        }
        if (run->work && work_keeps_refusal(run, result))
            return;
        bool asked = run->req;
        if (run->stream)
            run_stream_end(run, proto_outcome_name(result->outcome),
                           result->text[0] ? result->text : "the run could not be started");
        if (run->work)
            work_on_refused(run); /* frees it when nobody asked */
        if (asked)
            answer_outcome(run, result);
        return;
    }
    bool watched = false;
    if (*run->session)
        output_finish(run->out, run->out_count); /* its background may have them open */
    for (unsigned i = 0; i < run->out_count; i++)
        watched = watched || run->out[i].watch;
    if (run->job)
        job_drain_outputs(run->job);
    else if (!watched)
        output_drain(run->out, run->out_count);
    if (run->stream)
        run_stream_finish(run);
    if (!is_ended(run)) {
        watch(run);
        http_timer_set(run->front->server, &run->timer,
                       clock_now_ns() + CLOSE_AFTER_MS * CLOCK_NS_PER_MS);
    }
    try_answer(run);
}

/* By when it must have ended, if it begins within max_wait from now. */
static uint64_t reckon_due(const struct run *run)
{
    const struct front *f = run->front;
    return clock_now_ns() +
           run_longest_ms(run->compiled ? 2 : 1, f->timeout_ms_max, f->max_wait_ms) *
               CLOCK_NS_PER_MS;
}

static void on_waiting(struct upstream_call *call, const struct proto_msg *msg)
{
    struct run *run = CONTAINER_OF(call, struct run, call);
    if (run->work) {
        work_open_wait(run->work, msg->waiting);
        work_on_accepted(run, msg->waiting);
    }
    if (run->job && !msg->waiting) {
        upstream_set_due(&run->front->upstream, run->tag, reckon_due(run));
        job_on_turn(run->job);
    }
    if (run->stream && !msg->waiting && is_wanted(run) &&
        !(run->work && work_holds_begin(run, msg->output_bytes_max)))
        run_stream_begin(run, msg->output_bytes_max);
}

static void on_lost(struct upstream_call *call)
{
    struct run *run = CONTAINER_OF(call, struct run, call);
    run->open = false;
    run_drop_output(run);
    feed_end(run->feed);
    bool later = run->work && work_is_noting(run->work);
    struct http_request *req = run->reader || later ? NULL : run->req;
    if (run->stream)
        run_stream_end(run, "internal", "the engine went away while the command ran");
    if (run->work)
        work_on_lost(run);
    else if (run->job)
        job_on_lost(ptr_take(&run->job));
    run_free_if_unused(run); /* not while somebody asks */
    if (req) {
        http_close_after(req);
        answer_error(req, &(struct answer_error){500, "internal", 0, NULL},
                     "the engine went away while the command ran");
    }
}

static void on_gone(struct front *f, struct request_owner *owner)
{
    struct run *run = CONTAINER_OF(owner, struct run, owner);
    if (run->work && !work_on_gone(run))
        return;
    if (run->open)
        upstream_cancel(&f->upstream, run->tag);
    run_drop_output(run);
}

/* Who watches it is sent away, which ends the run as it does when he goes. */
static void on_revoked(struct front *f, struct request_owner *owner)
{
    struct run *run = CONTAINER_OF(owner, struct run, owner);
    (void)f;
    if (run->reader)
        reader_revoke(run->reader);
}

static void on_end(struct front *f, struct http_request *req, struct request_owner *owner)
{
    struct run *run = CONTAINER_OF(owner, struct run, owner);
    const struct proto_result *r = &run->result;
    char path[32];
    struct http_text p = http_path(req);
    (void)snprintf(path, sizeof path, "%.*s", (int)(p.len < 31 ? p.len : 31), p.at);
    bool ran = run->finished && r->outcome == PROTO_OK;
    LOG(INFO, "request", F_STR("request_id", http_request_id(req)), F_STR("method", "POST"),
        F_STR("path", path), F_I64("status", http_status(req)),
        F_U64("duration_us", (clock_now_ns() - http_begin_ns(req)) / 1000),
        F_U64("bytes", http_bytes(req)), F_STR("ns", run->ns_id), F_U64("run_id", r->run_id),
        F_STR("reason", ran                       ? proto_reason_name(r->reason)
                        : run->finished           ? proto_outcome_name(r->outcome)
                        : http_status(req) == 202 ? "accepted"
                        : run->stream             ? "client_gone"
                        : http_status(req)        ? "engine_lost"
                                                  : "client_gone"),
        F_LAST_STR("key", routes_key_label(req)));
    run->req = NULL;
    if (run->reader) { /* a client may leave in the middle of such an answer */
        reader_free(ptr_take(&run->reader));
        if (run->stream)
            on_gone(f, owner);
    }
    if (!is_wanted(run))
        run_drop_output(run);
    run_free_if_unused(run);
}

/* application/json; also application/x-www-form-urlencoded, because that is what `curl -d` says
 * when it is told nothing and the README's first example is such a curl; and nothing at all. */
static bool is_type_accepted(struct http_text type)
{
    static const char *const accepted[] = {"application/json", "application/x-www-form-urlencoded"};
    if (!type.at)
        return true;
    const char *semicolon = type.len ? memchr(type.at, ';', type.len) : NULL;
    size_t len = semicolon ? (size_t)(semicolon - type.at) : type.len;
    while (len > 0 && (type.at[len - 1] == ' ' || type.at[len - 1] == '\t'))
        len--;
    for (size_t i = 0; i < ARRAY_LEN(accepted); i++)
        if (len == strlen(accepted[i]) && strncasecmp(type.at, accepted[i], len) == 0)
            return true;
    return false;
}

/* The far ends of an Execute, in the order of enum proto_kind; those before `own` are ours to close
 * once they are sent. */
struct far_ends {
    int fds[FDS_MAX];
    size_t count;
    int own[FDS_MAX];
    size_t own_count;
};

static void add_end(struct far_ends *ends, int fd, bool own)
{
    ends->fds[ends->count++] = fd;
    if (own)
        ends->own[ends->own_count++] = fd;
}

/* Both ends of an output. 0 or -1. */
static int add_output(struct run *run, struct output *o, struct far_ends *ends)
{
    int pair[2];
    if (output_pipe_take(&run->front->pipes, pair) < 0)
        return -1;
    o->fd = pair[0];
    add_end(ends, pair[1], true);
    return 0;
}

static int add_job_outputs(struct run *run, struct far_ends *ends)
{
    int fds[RUN_OUTPUTS];
    if (job_make_outputs(run->job, run->compiled, fds) < 0)
        return -1;
    for (unsigned i = 0; i < RUN_OUTPUTS && fds[i] >= 0; i++)
        add_end(ends, fds[i], true);
    return 0;
}

static int add_bytes(const char *name, const char *bytes, size_t len, struct far_ends *ends)
{
    int fd = fd_memfd_sealed(name, bytes, len);
    if (fd < 0)
        return -1;
    add_end(ends, fd, true);
    return 0;
}

/* Makes all of them: the child's ends into *ends, ours into the run. 0 or -1. */
static int make_ends(struct run *run, const struct parse_request *parsed,
                     const struct run_files *files, struct far_ends *ends)
{
    int feed_fd = run->feed ? feed_open(run->feed) : -1;
    if (run->feed && feed_fd < 0)
        return -1;
    if (run->feed)
        add_end(ends, feed_fd, true);
    else if (!parsed->input)
        add_end(ends, run->front->null_fd, false);
    else if (add_bytes("stdin", parsed->input, parsed->input_len, ends) < 0)
        return -1;
    if (run->job && add_job_outputs(run, ends) < 0)
        return -1;
    for (unsigned i = 0; i < run->out_count; i++)
        if (add_output(run, &run->out[i], ends) < 0)
            return -1;
    if (!parsed->cmd) {
        while (ends->count < 1 + RUN_OUTPUTS) /* no compiler will write */
            add_end(ends, run->front->null_fd, false);
        if (add_bytes("code", parsed->code, parsed->code_len, ends) < 0)
            return -1;
    }
    if (files)
        add_end(ends, files->artifacts_fd, false);
    for (size_t i = 0; files && i < files->place_count; i++)
        add_end(ends, files->place_fds[i], false);
    return 0;
}

int run_send(struct run *run, const struct run_caller *caller, const struct parse_request *parsed,
             const struct run_files *files)
{
    struct front *f = run->front;
    struct far_ends ends = {.count = 0};
    struct err err = {0};
    struct proto_execute x = {.kind = parsed->cmd ? PROTO_COMMAND : PROTO_CODE,
                              .ns_id = parsed->ns_id,
                              .cmd = parsed->cmd,
                              .cmd_len = parsed->cmd_len,
                              .language = run->language,
                              .args = parsed->args,
                              .arg_count = parsed->arg_count,
                              .env = parsed->env,
                              .env_count = parsed->env_count,
                              .cwd = parsed->cwd,
                              .timeout_ms = parsed->timeout_ms,
                              .cpu_ms = parsed->cpu_ms,
                              .memory_bytes = parsed->memory_bytes,
                              .pids_max = parsed->pids_max,
                              .usual = parsed->usual,
                              .policy = *parsed->policy ? parsed->policy : caller->policy,
                              .policy_of_key = !*parsed->policy && *caller->policy,
                              .tell_start = run->stream,
                              .request_id = caller->request_id,
                              .key = caller->key,
                              .timeout_ms_ceiling = caller->timeout_ms_ceiling,
                              .memory_bytes_ceiling = caller->memory_bytes_ceiling,
                              .cpu_ms_ceiling = caller->cpu_ms_ceiling};
    if (*run->session) {
        x.companion = PROTO_COMPANION_SESSION;
        x.session = run->session;
    }
    if (files) {
        x.work = true;
        x.artifact_bytes_max = files->bytes_max;
        x.artifact_files_max = files->files_max;
        x.places = files->places;
        x.place_count = files->place_count;
    }
    x.patient = run->job;
    x.held = run->job && job_is_held(run->job);
    uint64_t due_ns = run->job ? UINT64_MAX : reckon_due(run); /* a job: from when it begins */
    int r = make_ends(run, parsed, files, &ends) < 0 ? -EAGAIN : 0;
    if (r == 0)
        r = upstream_execute(&f->upstream, &x, ends.fds, ends.count, &run->call, due_ns, &err);
    if (r < 0 && r != -EAGAIN)
        LOG(ERROR, "send_execute", F_STR("error", err.text));
    (void)snprintf(run->key, sizeof run->key, "%s", caller->key);
    run->tag = x.tag;
    run->open = r == 0;
    if (r == 0 && run->req)
        http_mark_begun(run->req, true);
    if (r == 0 && run->stream)
        watch(run);
    else if (r == 0 && !run->job) /* a job's are watched from the beginning */
        http_timer_set(f->server, &run->timer, clock_now_ns() + WATCH_AFTER_MS * CLOCK_NS_PER_MS);
    for (size_t i = 0; i < ends.own_count; i++)
        fd_close(&ends.own[i]);
    return r;
}

struct run *run_new(struct front *f, struct http_request *req, const struct parse_request *parsed)
{
    struct run *run = output_may_begin() ? malloc(sizeof *run) : NULL;
    if (!run)
        return NULL;
    memset(run, 0, offsetof(struct run, answer));
    run->owner = (struct request_owner){
        .on_gone = on_gone, .on_end = on_end, .on_revoked = on_revoked, .logs = true};
    run->call =
        (struct upstream_call){.on_reply = on_reply, .on_lost = on_lost, .on_waiting = on_waiting};
    run->front = f;
    run->req = req;
    run->base64 = parsed->base64;
    run->timer.on_due = on_run_timer;
    (void)snprintf(run->ns_id, sizeof run->ns_id, "%s", parsed->ns_id);
    if (parsed->language)
        (void)snprintf(run->language, sizeof run->language, "%s", parsed->language);
    (void)snprintf(run->session, sizeof run->session, "%s", parsed->session ? parsed->session : "");
    run->compiled = parsed->language && parsed->compiles;
    run->out_count = run->compiled ? RUN_OUTPUTS : 2;
    for (unsigned i = 0; i < run->out_count; i++)
        run->out[i] = (struct output){.fd = -1, .kept_max = parsed->output_bytes_max, .run = run};
    return run;
}

void run_refuse(struct http_request *req, int why)
{
    if (why == -EAGAIN)
        answer_error(req, &(struct answer_error){503, "busy", BUSY_RETRY_MS, NULL},
                     "too much is going on at the moment");
    else
        answer_error(req, &(struct answer_error){500, "internal", 0, NULL},
                     "the engine cannot be reached");
}

static void start(struct front *f, struct http_request *req, const struct parse_request *parsed)
{
    struct run *run = run_new(f, req, parsed);
    struct run_caller caller;
    auth_caller(req, &caller);
    if (run)
        run->form = reader_form_of(req);
    bool made =
        run && (run->form == READER_NONE || run_stream_make(run, "", routes_key_label(req), false));
    int r = made ? run_send(run, &caller, parsed, NULL) : -EAGAIN;
    if (r == 0) {
        *http_data(req) = &run->owner;
        return;
    }
    if (run) {
        run->req = NULL;
        run_free_if_unused(run);
    }
    run_refuse(req, r);
}

bool execute_may_begin(struct front *f, struct http_request *req)
{
    if (!is_type_accepted(http_header_of(req, "content-type")))
        answer_error(req, &(struct answer_error){415, "unsupported_media_type", 0, NULL},
                     "Content-Type must be application/json");
    else if (!f->greeted)
        answer_error(req, &(struct answer_error){503, "not_ready", BUSY_RETRY_MS, NULL},
                     "the engine has not been heard of yet");
    else
        return true;
    return false;
}

void execute_on_request(struct front *f, struct http_request *req, const struct http_text *params)
{
    (void)params;
    static __thread struct parse_request parsed; /* 4 KiB of pointers, used up before we return */
    struct parse_refusal refusal;
    struct parse_limits lowered;
    struct http_text body = http_body(req);
    if (!execute_may_begin(f, req))
        return;
    if (parse_execute(body.at, body.len, auth_limits(f, req, &lowered), &parsed, &refusal) < 0) {
        answer_error(req, &(struct answer_error){400, refusal.code, 0, NULL}, "%s", refusal.text);
        return;
    }
    if (auth_may_use(req, parsed.ns_id) && (*parsed.session || jobs_let_pass(req, parsed.ns_id)))
        start(f, req, &parsed);
    parse_fini(&parsed);
}
