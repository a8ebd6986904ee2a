/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/jobs_run - one job in the hands of a thread: claimed, run, ended.
 *
 * In the frontend, per thread; execute.c has the run itself. The way of a job:
 *
 *   submitted, with a place free: stored as claimed -----------------> run -> ended
 *   submitted, else: stored -> (its turn comes) -> claimed ----------> run -> ended
 *
 * where "claimed" is in the store before the run begins and "ended" is there, with what was
 * written, before anybody is told. A job that stands behind others of its namespace is handed to
 * the engine at once, so that it is in line with other runs, but is *held* there: when its turn has
 * come it is claimed, and let go. So no job has an attempt counted that it only waited in. Nothing
 * is looked for again and again: the next job is asked for when one was submitted, has ended, or
 * has rested.
 *
 * An attempt that did not begin (the engine has no room, the service stops) is taken back and the
 * job waits again. One that was lost (the engine, a zygote or this process died) is not: after
 * jobs.attempts_max of them the job has failed. When the engine is gone, so is this process in a
 * moment, and its successor finds all jobs that have not ended waiting.
 */
#include "frontend/jobs_impl.h"
#include "frontend/webhooks.h"
#include "lib/clock.h"
#include "lib/log.h"
#include <inttypes.h>

#define REST_MS 1000u /* when there was no room */
#define AGAIN_MS 100u /* twice that after the first lost attempt; doubled for each further one */
#define STORE_AGAIN_MS 500u
#define PREVIEW_CHARACTERS 500u
#define ERROR_CHARACTERS 2000u
#define TEXT_BYTES (4 * ERROR_CHARACTERS)
#define DOC_BYTES_MAX 65536u

struct job {
    struct front *front;
    struct job_ticket *ticket;
    struct store_job rec;
    struct store_call call;
    enum { JOB_CLAIMING, JOB_RUNNING, JOB_GIVING_BACK, JOB_RESTING, JOB_ENDING } step;
    struct run *run;         /* RUNNING */
    struct http_timer timer; /* RESTING, and ENDING when the store could not */
    bool counted, cancel_sent;
    bool held;           /* handed to the engine without a claim */
    bool claimed;        /* this attempt is in the store */
    bool claiming, gone; /* of a held one: being claimed; its run is over before that */
    bool early;          /* it was held, and older ones go first */
    uint64_t rest_ms, output_bytes_max;
    struct job_output out;
    struct buf preview, doc;
    struct job *prev, *next;
};

static bool may_begin(const struct front *f)
{
    return f->greeted && !f->draining && !f->ending;
}

/* The thread does not stop while a job of its is counted. */
static void count(struct job *j, bool on)
{
    if (j->counted != on)
        j->front->detached += on ? 1 : -1u;
    j->counted = on;
}

static struct job *new_job(struct front *f, struct job_ticket *t)
{
    struct job *j = calloc(1, sizeof *j);
    if (!j) {
        jobs_queue_return(t);
        return NULL;
    }
    j->front = f;
    j->ticket = t;
    j->out.epoll_fd = -1;
    memcpy(j->rec.id, t->id, sizeof j->rec.id);
    memcpy(j->rec.key, t->share->key, sizeof j->rec.key);
    j->rec.attempts = t->attempts;
    j->next = f->jobs.open;
    if (j->next)
        j->next->prev = j;
    f->jobs.open = j;
    count(j, true);
    return j;
}

static void free_job(struct job *j)
{
    http_timer_cancel(&j->timer);
    count(j, false);
    *(j->prev ? &j->prev->next : &j->front->jobs.open) = j->next;
    if (j->next)
        j->next->prev = j->prev;
    job_output_fini(&j->out);
    free(j->rec.body);
    buf_fini(&j->preview);
    buf_fini(&j->doc);
    free(j);
}

static bool submit(struct job *j, enum store_verb verb, void (*on_done)(struct store_call *call))
{
    j->call = (struct store_call){.verb = verb, .job = &j->rec, .fd = -1, .on_done = on_done};
    if (verb == STORE_FINISH_JOB) {
        j->call.data = j->out.data ? j->out.data : "";
        j->call.len = j->out.len;
    }
    return store_submit(&j->front->mailbox, &j->call) == 0;
}

/* ---- waiting again ------------------------------------------------------------------------------
 */

static void end_without_run(struct job *j, const char *reason, const char *text);

static void wait_again(struct job *j)
{
    struct front *f = j->front;
    jobs_queue_return(j->ticket);
    free_job(j);
    jobs_pump(f);
}

static void on_rested(struct http_timer *t)
{
    struct job *j = CONTAINER_OF(t, struct job, timer);
    count(j, true);
    wait_again(j);
}

/* It keeps its place meanwhile: who has no room for it has none for the next. */
static void rest_begun(struct job *j, uint64_t ms)
{
    job_output_fini(&j->out);
    free(ptr_take(&j->rec.body));
    if (jobs_queue_is_cancelled(j->ticket)) { /* nobody looked while it was given back */
        end_without_run(j, "cancelled", "cancelled");
        return;
    }
    if (!may_begin(j->front)) {
        wait_again(j);
        return;
    }
    j->step = JOB_RESTING;
    j->timer.on_due = on_rested;
    count(j, false);
    http_timer_set(j->front->server, &j->timer, clock_now_ns() + ms * CLOCK_NS_PER_MS);
}

static void rest(struct job *j, uint64_t ms)
{
    jobs_queue_rest(j->ticket);
    rest_begun(j, ms);
}

static void on_given_back(struct store_call *call)
{
    struct job *j = CONTAINER_OF(call, struct job, call);
    if (call->error == 0) { /* also ours: who is cancelled at rest ends with that number */
        j->ticket->attempts = --j->rec.attempts;
        j->claimed = false;
    }
    rest(j, j->rest_ms);
}

/* The attempt did not begin. Its pipes would tell of their end somebody who is not there. */
static void give_back(struct job *j, uint64_t rest_ms)
{
    job_output_fini(&j->out);
    j->step = JOB_GIVING_BACK;
    j->rest_ms = rest_ms;
    jobs_queue_rest(j->ticket);
    if (!j->claimed || !submit(j, STORE_UNCLAIM_JOB, on_given_back))
        rest(j, rest_ms); /* could it not be submitted, it counts */
}

static void lose(struct job *j, const char *why)
{
    LOG(WARN, "job_attempt_lost", F_STR("job", j->rec.id),
        F_U64("attempt", j->claimed ? j->rec.attempts : 0), F_STR("why", why));
    if (!j->claimed)
        rest(j, REST_MS);
    else if (j->rec.attempts >= jobs_queue_attempts_max())
        end_without_run(j, "internal", why);
    else
        rest_begun(j, AGAIN_MS << (j->rec.attempts < 6 ? j->rec.attempts : 6));
}

/* ---- the end ------------------------------------------------------------------------------------
 */

static void on_finished(struct store_call *call);

static void on_store_again(struct http_timer *t)
{
    struct job *j = CONTAINER_OF(t, struct job, timer);
    if (!submit(j, STORE_FINISH_JOB, on_finished))
        http_timer_set(j->front->server, t, clock_now_ns() + STORE_AGAIN_MS * CLOCK_NS_PER_MS);
}

static void finish_later(struct job *j)
{
    j->timer.on_due = on_store_again;
    http_timer_set(j->front->server, &j->timer, clock_now_ns() + STORE_AGAIN_MS * CLOCK_NS_PER_MS);
}

static void on_finished(struct store_call *call)
{
    struct job *j = CONTAINER_OF(call, struct job, call);
    struct front *f = j->front;
    if (call->error && call->error != ESTALE) { /* the promise stands: until there is room */
        LOG(ERROR, "job_not_stored", F_STR("job", j->rec.id),
            F_STR("error", strerror(call->error)));
        finish_later(j);
        return;
    }
    LOG(INFO, "job", F_STR("job", j->rec.id),
        F_STR("status", call->error ? "stale" : jobs_state_name(j->rec.state)),
        F_U64("attempts", j->rec.attempts), F_U64("duration_ms", j->rec.duration_ms),
        F_U64("output_bytes", j->call.len));
    if (!call->error) {
        struct store_usage one = {.jobs = 1};
        (void)snprintf(one.key, sizeof one.key, "%s", j->rec.key);
        usage_add(f, &one);
    }
    if (call->error == 0 && j->rec.tells)
        webhooks_wake();
    jobs_queue_leave(j->ticket);
    free_job(j);
    jobs_pump(f);
}

static void finish(struct job *j)
{
    static char no_memory[] = "\"error\":\"there was no memory to tell\"";
    j->step = JOB_ENDING;
    jobs_queue_end(j->ticket);
    free(ptr_take(&j->rec.body));
    j->rec.preview = j->preview.data;
    j->rec.preview_len = j->preview.len;
    j->rec.doc = j->doc.data;
    j->rec.doc_len = j->doc.len;
    if (j->doc.failed || j->preview.failed) {
        j->rec.preview_len = 0;
        j->rec.doc = no_memory;
        j->rec.doc_len = sizeof no_memory - 1;
    }
    if (!submit(j, STORE_FINISH_JOB, on_finished))
        finish_later(j);
}

static void begin_doc(struct job *j)
{
    job_output_cut(&j->out);
    j->doc = (struct buf){.cap = DOC_BYTES_MAX};
    j->preview = (struct buf){.cap = DOC_BYTES_MAX};
}

static void end_without_run(struct job *j, const char *reason, const char *text)
{
    begin_doc(j);
    job_output_fini(&j->out); /* of an attempt that was lost: nobody knows what is missing */
    j->rec.state = STORE_JOB_FAILED;
    j->rec.started_ms = 0;
    (void)buf_addf(&j->doc, "\"error\":\"");
    jobs_put_text(&j->doc, text, strlen(text), ERROR_CHARACTERS);
    (void)buf_addf(&j->doc, "\",\"reason\":\"%s\",\"outputTruncated\":false", reason);
    finish(j);
}

static enum store_job_state state_of(const struct proto_result *r)
{
    if (r->reason == PROTO_REASON_TIMEOUT || r->reason == PROTO_REASON_CPU_LIMIT)
        return STORE_JOB_TIMEOUT;
    return r->reason == PROTO_REASON_EXIT && r->exited && r->exit_code == 0 ? STORE_JOB_COMPLETED
                                                                            : STORE_JOB_FAILED;
}

/* What happened, in words; then what it wrote to stderr itself. */
static void put_error(struct job *j, const struct proto_result *r, unsigned std_err)
{
    char said[TEXT_BYTES];
    size_t len = job_output_begin(&j->out, std_err, said, sizeof said);
    struct buf *b = &j->doc;
    const char *stage = answer_is_of_compiler(r) ? "the compiler" : "it";
    if (j->rec.state == STORE_JOB_COMPLETED) {
        (void)buf_addf(b, "\"error\":null");
        return;
    }
    (void)buf_addf(b, "\"error\":\"");
    if (r->reason == PROTO_REASON_TIMEOUT)
        (void)buf_addf(b, "timeout: %s was ended after %" PRIu64 " ms%s", stage, r->wall_us / 1000,
                       len ? "\\n" : "");
    else if (r->reason == PROTO_REASON_CPU_LIMIT)
        (void)buf_addf(b, "timeout: %s had used up its processor time after %" PRIu64 " ms%s",
                       stage, r->cpu_us / 1000, len ? "\\n" : "");
    else if (r->reason == PROTO_REASON_OOM)
        (void)buf_addf(b, "out of memory%s", len ? "\\n" : "");
    else if (r->reason == PROTO_REASON_CANCELLED)
        (void)buf_addf(b, "cancelled%s", len ? "\\n" : "");
    else if (len == 0 && r->exited)
        (void)buf_addf(b, "exit code %d", r->exit_code);
    else if (len == 0)
        (void)buf_addf(b, "ended by signal %s", proto_signal_name(r->signal) ?: "?");
    jobs_put_text(b, said, len, ERROR_CHARACTERS);
    (void)buf_addf(b, "\"");
}

static void end_with(struct job *j, const struct proto_result *r)
{
    char said[4 * PREVIEW_CHARACTERS], facts[ANSWER_FACTS_ROOM];
    unsigned first = answer_is_of_compiler(r) && j->out.count == JOB_PIPES ? 2 : 0;
    struct output shown[2];
    uint64_t wall_us = 0;
    begin_doc(j);
    if (r->output_bytes_max)
        job_output_keep(&j->out, r->output_bytes_max);
    j->rec.state = state_of(r);
    for (size_t i = 0; i < r->stage_count; i++)
        wall_us += r->stages[i].wall_us;
    j->rec.duration_ms = ((r->stage_count ? wall_us : r->wall_us) + 500) / 1000;
    for (unsigned i = 0; i < 2; i++)
        shown[i] = (struct output){.fd = -1,
                                   .total = j->out.pipes[first + i].total,
                                   .len = (size_t)j->out.pipes[first + i].kept,
                                   .cut = j->out.cut};
    answer_put_facts(facts, sizeof facts, r, &shown[0], &shown[1]);
    put_error(j, r, first + 1);
    (void)buf_addf(&j->doc, ",\"stage\":\"%s\",\"outputTruncated\":%s,",
                   r->stage_count ? r->stages[r->stage_count - 1].name : "run",
                   output_is_truncated(&shown[0]) || output_is_truncated(&shown[1]) ? "true"
                                                                                    : "false");
    (void)buf_add(&j->doc, facts, strlen(facts));
    jobs_put_text(&j->preview, said, job_output_begin(&j->out, first, said, sizeof said),
                  PREVIEW_CHARACTERS);
    finish(j);
}

/* ---- the run ------------------------------------------------------------------------------------
 */

static void on_outputs_ended(void *user)
{
    struct job *j = user;
    run_outputs_ended(j->run);
}

int job_make_outputs(struct job *j, bool compiled, int ret_far_ends[4])
{
    int r = job_output_init(&j->out, j->front->server, compiled ? JOB_PIPES : 2,
                            j->output_bytes_max, ret_far_ends);
    j->out.on_ended = on_outputs_ended;
    j->out.user = j;
    return r;
}

bool job_outputs_ended(const struct job *j)
{
    return job_output_has_ended(&j->out);
}

void job_drain_outputs(struct job *j)
{
    job_output_drain(&j->out);
}

void job_cut_outputs(struct job *j)
{
    job_output_cut(&j->out);
}

uint64_t job_bytes_written(const struct job *j)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < j->out.count; i++)
        total += j->out.pipes[i].total;
    return total;
}

bool job_is_held(const struct job *j)
{
    return j->held;
}

static void begun(struct job *j)
{
    jobs_queue_stands(j->ticket, false);
    j->rec.started_ms = store_now_ms();
}

/* Of a held one. Its run is the engine's meanwhile, and may have ended. */
static void on_turn_claimed(struct store_call *call)
{
    struct job *j = CONTAINER_OF(call, struct job, call);
    free(ptr_take(&j->rec.body));
    j->claiming = false;
    j->claimed = call->error == 0;
    if (j->claimed)
        j->ticket->attempts = j->rec.attempts;
    else
        j->rec.attempts = j->ticket->attempts; /* its transaction failed, perhaps after it */
    if (j->gone) {
        give_back(j, j->rest_ms);
    } else if (!j->claimed || j->cancel_sent || jobs_queue_is_cancelled(j->ticket)) {
        upstream_cancel(&j->front->upstream, j->run->tag);
    } else {
        begun(j);
        upstream_let_go(&j->front->upstream, j->run->tag);
    }
}

static void go_back(struct job *j)
{
    j->early = true;
    upstream_cancel(&j->front->upstream, j->run->tag);
}

void job_on_turn(struct job *j)
{
    if (!j->held)
        begun(j);
    else if (!jobs_queue_is_due(j->ticket)) /* older ones found no room: it stands behind them */
        go_back(j);
    else if (submit(j, STORE_CLAIM_JOB, on_turn_claimed))
        j->claiming = true;
    else
        upstream_cancel(&j->front->upstream, j->run->tag);
}

/* A held one's run is over while it is being claimed: it did not begin, and waits again. */
static bool is_over_early(struct job *j, uint64_t rest_ms)
{
    j->run = NULL;
    j->gone = j->claiming;
    j->rest_ms = rest_ms;
    if (j->gone)
        job_output_fini(&j->out);
    return j->gone;
}

void job_on_result(struct job *j, const struct proto_result *r)
{
    if (is_over_early(j, 0))
        return;
    bool wanted = !jobs_queue_is_cancelled(j->ticket);
    bool back = r->reason == PROTO_REASON_CANCELLED && wanted;
    if (back && (j->ticket->stands || (r->wall_us == 0 && jobs_queue_unbegin(j->ticket))))
        give_back(j, j->early ? 0 : REST_MS);
    else if (back)
        lose(j, "the service stopped before its end");
    else if (r->reason == PROTO_REASON_INTERNAL)
        lose(j, "its end could not be learned");
    else
        end_with(j, r);
}

void job_on_refused(struct job *j, const struct proto_result *r)
{
    char text[400];
    if (is_over_early(j, REST_MS))
        return;
    (void)snprintf(text, sizeof text, "%.64s%s%.250s", r->field, *r->field ? ": " : "",
                   *r->text ? r->text : "the run could not be started");
    switch (r->outcome) {
    case PROTO_QUEUE_FULL:
    case PROTO_QUEUE_TIMEOUT:
    case PROTO_BUSY:
        give_back(j, r->retry_after_ms ? r->retry_after_ms : REST_MS);
        return;
    case PROTO_DRAINING:
        give_back(j, 0);
        return;
    case PROTO_ACTIVATION_FAILED: /* perhaps it had begun */
    case PROTO_INTERNAL:
        lose(j, text);
        return;
    case PROTO_OK:
    case PROTO_BAD_REQUEST:
    case PROTO_NOT_FOUND:
    case PROTO_FORBIDDEN:
    case PROTO_TOO_MANY: /* companions: no job asks for one */
    case PROTO_OUTCOMES:
        break;
    }
    end_without_run(j, "rejected", text);
}

/* Its ticket stays with it: the next process has the job. */
void job_on_lost(struct job *j)
{
    if (!is_over_early(j, 0))
        free_job(j);
}

/* Its claim is in the store, unless it is held. */
static void run_it(struct job *j)
{
    static __thread struct parse_request parsed; /* as in execute.c */
    struct parse_refusal refusal;
    struct front *f = j->front;
    const struct run_caller caller = {.request_id = j->rec.id,
                                      .key = j->rec.key,
                                      .timeout_ms_ceiling = j->rec.timeout_ms_ceiling,
                                      .memory_bytes_ceiling = j->rec.memory_bytes_ceiling,
                                      .cpu_ms_ceiling = j->rec.cpu_ms_ceiling,
                                      .policy = j->rec.policy};
    j->step = JOB_RUNNING;
    j->held = !j->claimed;
    if (!may_begin(f)) {
        give_back(j, 0);
        return;
    }
    if (jobs_queue_is_cancelled(j->ticket)) {
        end_without_run(j, "cancelled", "cancelled");
        return;
    }
    if (parse_job(j->rec.body, j->rec.body_len, &f->limits, &parsed, &refusal) < 0) {
        end_without_run(j, "rejected", refusal.text); /* what is allowed has changed */
        return;
    }
    j->output_bytes_max = parsed.output_bytes_max;
    j->run = run_new(f, NULL, &parsed);
    if (j->run) {
        j->run->job = j;
        j->run->out_count = 0;
    }
    jobs_queue_stands(j->ticket, true);
    int r = j->run ? run_send(j->run, &caller, &parsed, NULL) : -EAGAIN;
    parse_fini(&parsed);
    if (r == 0) {
        jobs_queue_hand(j->ticket);
        free(ptr_take(&j->rec.body));
        return;
    }
    if (j->run) {
        j->run->job = NULL;
        run_free_if_unused(ptr_take(&j->run));
    }
    give_back(j, REST_MS);
}

static void on_claimed(struct store_call *call)
{
    struct job *j = CONTAINER_OF(call, struct job, call);
    if (call->error == ENOENT) { /* it has ended: cannot be, but then there is nothing to do */
        jobs_queue_leave(j->ticket);
        free_job(j);
        return;
    }
    if (call->error) {
        LOG(ERROR, "job_not_claimed", F_STR("job", j->rec.id),
            F_STR("error", strerror(call->error)));
        j->rec.attempts = j->ticket->attempts; /* the row has that, whatever the claim counted */
        rest(j, REST_MS);
        return;
    }
    j->ticket->attempts = j->rec.attempts;
    j->claimed = call->verb == STORE_CLAIM_JOB;
    run_it(j);
}

/* False: no memory. It is begun when another one has ended. */
static bool claim(struct front *f, struct job_ticket *t)
{
    struct job *j = new_job(f, t);
    if (!j)
        return false;
    if (jobs_queue_is_cancelled(t)) {
        end_without_run(j, "cancelled", "cancelled");
    } else if (t->attempts >= jobs_queue_attempts_max()) {
        char text[120];
        (void)snprintf(text, sizeof text, "the worker died during each of %u attempts",
                       t->attempts);
        end_without_run(j, "internal", text);
    } else if (!submit(j, t->held ? STORE_PEEK_JOB : STORE_CLAIM_JOB, on_claimed)) {
        rest(j, REST_MS);
    }
    return true;
}

/* ---- from outside -------------------------------------------------------------------------------
 */

void jobs_pump(struct front *f)
{
    struct job_ticket *t;
    while (may_begin(f) && (t = jobs_queue_next(f)) && claim(f, t))
        ;
}

void jobs_begin(struct front *f, struct job_ticket *t, struct store_job *job)
{
    t->attempts = job->attempts;
    struct job *j = new_job(f, t);
    if (!j)
        return;
    j->rec = *job;
    j->claimed = !t->held;
    job->body = NULL;
    run_it(j);
}

void jobs_end_cancelled(struct front *f, struct job_ticket *t)
{
    struct job *j = new_job(f, t);
    if (j)
        end_without_run(j, "cancelled", "cancelled");
}

void jobs_cancel_open(struct front *f, bool standing)
{
    for (struct job *j = f->jobs.open, *next; j; j = next) {
        next = j->next;
        bool cancelled = jobs_queue_is_cancelled(j->ticket);
        if (j->step == JOB_RUNNING && j->run && !j->cancel_sent &&
            (cancelled || (standing && j->ticket->stands))) {
            j->cancel_sent = true;
            upstream_cancel(&f->upstream, j->run->tag);
        } else if (j->step == JOB_RESTING && cancelled) {
            http_timer_cancel(&j->timer);
            count(j, true);
            end_without_run(j, "cancelled", "cancelled");
        }
    }
}
