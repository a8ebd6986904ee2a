/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/execute - the life of one POST /execute: from a checked request to its answer.
 *
 * In the frontend, per thread. Two pipes and a stdin are made, one Execute carries their far ends
 * to the engine, and the answer goes out when the Result is there and both pipes have ended. A
 * short run costs one wake-up: its pipes are not watched for the first WATCH_AFTER_MS and are
 * drained when the Result comes. Whoever writes more than a pipe holds waits that long once.
 *
 * A run has two users: its HTTP request (req) and the engine (open). It is freed when neither is
 * left: a client may leave first (then the run is cancelled and its output dropped), or the engine
 * may.
 */
#include "frontend/answer.h"
#include "frontend/front.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/log.h"
#include <strings.h>

#define WATCH_AFTER_MS 2u
#define CLOSE_AFTER_MS 1000u    /* after the Result every writer is dead: the pipes end at once */
#define RESULT_SLACK_MS 130000u /* beyond the run's own time: queueing, grace, and 10 s */
#define BUSY_RETRY_MS 1000u

struct run {
    struct request_owner owner;
    struct upstream_call call;
    struct front *front;
    struct http_request *req; /* NULL: over or gone */
    uint64_t tag;
    bool open;     /* the engine still owes a Result */
    bool finished; /* the Result is there */
    bool base64;
    struct output out[2];
    struct http_timer timer; /* first to watch the pipes, then to close them */
    struct proto_result result;
    struct answer answer;
    char ns_id[PROTO_NS_ID_MAX + 1];
};

static void try_answer(struct run *run);

static void free_if_unused(struct run *run)
{
    if (run->req || run->open)
        return;
    http_timer_cancel(&run->timer);
    output_fini(&run->out[0]);
    output_fini(&run->out[1]);
    free(run);
}

static void drop_output(struct run *run)
{
    http_timer_cancel(&run->timer);
    output_fini(&run->out[0]);
    output_fini(&run->out[1]);
}

static void on_output(void *data)
{
    struct output *o = data;
    output_read(o);
    if (o->ended && o->run->finished)
        try_answer(o->run);
}

static void watch(struct run *run)
{
    for (int i = 0; i < 2; i++) {
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
    if (!run->finished) {
        watch(run);
        return;
    }
    for (int i = 0; i < 2; i++)
        if (!run->out[i].ended) {
            run->out[i].cut = true;
            output_end(&run->out[i]);
        }
    try_answer(run);
}

static void try_answer(struct run *run)
{
    static __thread char small[HTTP_CHUNK_BYTES];
    bool last = false;
    if (!run->req || !run->out[0].ended || !run->out[1].ended)
        return;
    http_timer_cancel(&run->timer);
    for (int i = 0; run->result.output_bytes_max && i < 2; i++)
        output_keep(&run->out[i], run->result.output_bytes_max);
    answer_init(&run->answer, &run->result, run->out, run->base64);
    size_t n = answer_fill(&run->answer, small, sizeof small, &last);
    if (last) {
        http_respond(run->req, 200, NULL, small, n);
    } else {
        answer_rewind(&run->answer);
        http_stream(run->req, 200, answer_fill, &run->answer);
    }
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
    };
    bool named = r->field[0] != 0;
    struct answer_error e = {.status = table[r->outcome].status,
                             .code = proto_outcome_name(r->outcome)};
    if (table[r->outcome].retry)
        e.retry_after_ms = r->retry_after_ms ? r->retry_after_ms : BUSY_RETRY_MS;
    answer_error(run->req, &e, "%.64s%s%.250s", r->field, named ? ": " : "",
                 r->text[0] ? r->text : "the run could not be started");
}

static void on_reply(struct upstream_call *call, const struct proto_msg *reply)
{
    struct run *run = CONTAINER_OF(call, struct run, call);
    const struct proto_result *result = &reply->result;
    run->open = false;
    run->finished = true;
    run->result = *result;
    run->result.field = run->result.text = ""; /* the arena's: not ours to keep */
    if (!run->req) {
        free_if_unused(run);
        return;
    }
    if (result->outcome != PROTO_OK) {
        drop_output(run);
        answer_outcome(run, result);
        return;
    }
    if (!run->out[0].watch && !run->out[1].watch)
        output_drain(run->out);
    if (!run->out[0].ended || !run->out[1].ended) {
        watch(run);
        http_timer_set(run->front->server, &run->timer,
                       clock_now_ns() + CLOSE_AFTER_MS * CLOCK_NS_PER_MS);
    }
    try_answer(run);
}

static void on_lost(struct upstream_call *call)
{
    struct run *run = CONTAINER_OF(call, struct run, call);
    run->open = false;
    drop_output(run);
    if (!run->req) {
        free_if_unused(run);
        return;
    }
    http_close_after(run->req);
    answer_error(run->req, &(struct answer_error){500, "internal", 0, NULL},
                 "the engine went away while the command ran");
}

static void on_gone(struct front *f, struct request_owner *owner)
{
    struct run *run = CONTAINER_OF(owner, struct run, owner);
    if (run->open)
        upstream_cancel(&f->upstream, run->tag);
    drop_output(run);
}

static void on_end(struct front *f, struct http_request *req, struct request_owner *owner)
{
    struct run *run = CONTAINER_OF(owner, struct run, owner);
    const struct proto_result *r = &run->result;
    (void)f;
    bool ran = run->finished && r->outcome == PROTO_OK;
    LOG(INFO, "request", F_STR("request_id", http_request_id(req)), F_STR("method", "POST"),
        F_STR("path", "/execute"), F_I64("status", http_status(req)),
        F_U64("duration_us", (clock_now_ns() - http_begin_ns(req)) / 1000),
        F_U64("bytes", http_bytes(req)), F_STR("ns", run->ns_id), F_U64("run_id", r->run_id),
        F_STR("reason", ran                ? proto_reason_name(r->reason)
                        : run->finished    ? proto_outcome_name(r->outcome)
                        : http_status(req) ? "engine_lost"
                                           : "client_gone"));
    run->req = NULL;
    drop_output(run);
    free_if_unused(run);
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

/* Makes the pipes and the stdin: the child's ends into fds, ours into the run. 0 or -1. */
static int make_stdio(struct front *f, struct run *run, const struct parse_request *parsed,
                      int fds[3])
{
    int ends[2];
    for (int i = 0; i < 2; i++) {
        if (output_pipe_take(&f->pipes, ends) < 0)
            return -1;
        run->out[i].fd = ends[0];
        fds[1 + i] = ends[1];
    }
    fds[0] =
        parsed->input ? fd_memfd_sealed("stdin", parsed->input, parsed->input_len) : f->null_fd;
    return fds[0] < 0 ? -1 : 0;
}

static int send_execute(struct front *f, struct run *run, const struct parse_request *parsed)
{
    int fds[3] = {-1, -1, -1};
    struct err err = {0};
    struct proto_execute x = {.ns_id = parsed->ns_id,
                              .cmd = parsed->cmd,
                              .cmd_len = parsed->cmd_len,
                              .env = parsed->env,
                              .env_count = parsed->env_count,
                              .cwd = parsed->cwd,
                              .timeout_ms = parsed->timeout_ms,
                              .cpu_ms = parsed->cpu_ms,
                              .memory_bytes = parsed->memory_bytes,
                              .pids_max = parsed->pids_max,
                              .policy = parsed->policy,
                              .request_id = http_request_id(run->req)};
    uint64_t due_ns = clock_now_ns() + (f->timeout_ms_max + RESULT_SLACK_MS) * CLOCK_NS_PER_MS;
    int r = make_stdio(f, run, parsed, fds) < 0 ? -EAGAIN : 0;
    if (r == 0)
        r = upstream_execute(&f->upstream, &x, fds, 3, &run->call, due_ns, &err);
    if (r < 0 && r != -EAGAIN)
        LOG(ERROR, "send_execute", F_STR("error", err.text));
    run->tag = x.tag;
    run->open = r == 0;
    if (fds[0] != f->null_fd)
        fd_close(&fds[0]);
    fd_close(&fds[1]);
    fd_close(&fds[2]);
    return r;
}

static void start(struct front *f, struct http_request *req, const struct parse_request *parsed)
{
    struct run *run = output_may_begin() ? malloc(sizeof *run) : NULL;
    int r = -EAGAIN;
    if (run) {
        memset(run, 0, offsetof(struct run, answer));
        run->owner = (struct request_owner){.on_gone = on_gone, .on_end = on_end, .logs = true};
        run->call = (struct upstream_call){.on_reply = on_reply, .on_lost = on_lost};
        run->front = f;
        run->req = req;
        run->base64 = parsed->base64;
        run->timer.on_due = on_run_timer;
        (void)snprintf(run->ns_id, sizeof run->ns_id, "%s", parsed->ns_id);
        for (int i = 0; i < 2; i++)
            run->out[i] =
                (struct output){.fd = -1, .kept_max = parsed->output_bytes_max, .run = run};
        r = send_execute(f, run, parsed);
    }
    if (r == 0) {
        *http_data(req) = &run->owner;
        http_timer_set(f->server, &run->timer, clock_now_ns() + WATCH_AFTER_MS * CLOCK_NS_PER_MS);
        return;
    }
    if (run) {
        run->req = NULL;
        free_if_unused(run);
    }
    if (r == -EAGAIN)
        answer_error(req, &(struct answer_error){503, "busy", BUSY_RETRY_MS, NULL},
                     "too much is going on at the moment");
    else
        answer_error(req, &(struct answer_error){500, "internal", 0, NULL},
                     "the engine cannot be reached");
}

void execute_on_request(struct front *f, struct http_request *req, const struct http_text *params)
{
    (void)params;
    static __thread struct parse_request parsed; /* 4 KiB of pointers, used up before we return */
    struct parse_refusal refusal;
    struct http_text body = http_body(req);
    if (!is_type_accepted(http_header_of(req, "content-type"))) {
        answer_error(req, &(struct answer_error){415, "unsupported_media_type", 0, NULL},
                     "Content-Type must be application/json");
        return;
    }
    if (!f->greeted) {
        answer_error(req, &(struct answer_error){503, "not_ready", BUSY_RETRY_MS, NULL},
                     "the engine has not been heard of yet");
        return;
    }
    if (parse_execute(body.at, body.len, &f->limits, &parsed, &refusal) < 0) {
        answer_error(req, &(struct answer_error){400, refusal.code, 0, NULL}, "%s", refusal.text);
        return;
    }
    start(f, req, &parsed);
    parse_fini(&parsed);
}
