/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/jobs_submit - POST /submit, and what has to stand behind jobs.
 *
 * In the frontend, per thread. A submission is checked as a run of /execute is, finds room in the
 * queue, is stored, and only then answered; with an Idempotency-Key the answer is made before and
 * stored by the same call, so that after a crash there are both or neither.
 */
#include "frontend/answer.h"
#include "frontend/jobs_impl.h"
#include "frontend/once.h"
#include "frontend/webhooks.h"

#define RETRY_MS 1000u

struct submission {
    struct request_owner owner;
    struct store_call call;
    struct store_job job;
    char *callback_url; /* job's */
    struct front *front;
    struct http_request *req;  /* NULL: over or gone */
    struct job_ticket *ticket; /* until it has entered: then it may be any thread's */
    bool calling, gone;
};

static void free_submission(struct submission *s)
{
    if (s->req || s->calling)
        return;
    free(s->job.body);
    free(s->callback_url);
    free(s);
}

/* It is stored all the same, and run: it may have been promised. */
static void on_submit_gone(struct front *f, struct request_owner *owner)
{
    (void)f;
    CONTAINER_OF(owner, struct submission, owner)->gone = true;
}

static void on_submit_end(struct front *f, struct http_request *req, struct request_owner *owner)
{
    struct submission *s = CONTAINER_OF(owner, struct submission, owner);
    (void)f;
    (void)req;
    s->req = NULL;
    free_submission(s);
}

/* begins: nobody goes before it. */
static void put_accepted(struct buf *b, const struct store_job *stored, bool begins)
{
    struct jobs_view view = {.known = true};
    struct store_job job = *stored;
    if (!begins)
        jobs_queue_view(job.id, &view);
    view.running = false; /* whatever it is by now: first it was accepted */
    job.state = STORE_JOB_QUEUED;
    job.attempts = 0;
    jobs_put_job(b, &job, &view);
    (void)buf_addf(b, "\n");
}

static void answer_accepted(struct submission *s, bool begins)
{
    struct buf b = {.cap = JOBS_ANSWER_BYTES_MAX};
    char location[64];
    put_accepted(&b, &s->job, begins);
    (void)snprintf(location, sizeof location, "/status?id=%s", s->job.id);
    const struct http_header headers[] = {{"location", location}, {NULL, NULL}};
    if (b.failed)
        http_respond(s->req, 202, headers, "{}\n", 3);
    else
        http_respond(s->req, 202, headers, b.data, b.len);
    buf_fini(&b);
}

/* The same before it is stored, for the call that stores both. False: no memory. */
static bool promise(struct submission *s)
{
    struct buf b = {.cap = JOBS_ANSWER_BYTES_MAX};
    char location[64];
    put_accepted(&b, &s->job, s->ticket->granted && !s->ticket->held);
    (void)snprintf(location, sizeof location, "/status?id=%s", s->job.id);
    const struct http_header headers[] = {{"location", location}, {NULL, NULL}};
    const struct http_answer a = {.status = 202,
                                  .headers = headers,
                                  .content_type = "application/json",
                                  .body = b.data,
                                  .len = b.len};
    bool made = !b.failed && once_promise(s->req, &a, &s->call);
    buf_fini(&b);
    return made;
}

static void refuse_storage(struct http_request *req, int error)
{
    if (error == ENOSPC)
        answer_error(req, &(struct answer_error){507, "storage_full", 0, NULL},
                     "there is no room left to store it");
    else
        answer_error(req, &(struct answer_error){503, "storage", RETRY_MS, NULL},
                     "the store failed");
}

static void on_not_put(struct submission *s, int error)
{
    struct front *f = s->front;
    jobs_queue_leave(s->ticket);
    if (s->req && !s->gone)
        refuse_storage(s->req, error);
    else
        free_submission(s);
    jobs_pump(f);
}

static void on_put(struct store_call *call)
{
    struct submission *s = CONTAINER_OF(call, struct submission, call);
    struct front *f = s->front;
    struct job_ticket *t = s->ticket;
    struct store_job job = s->job;
    bool granted = t->granted, begins = granted && !t->held;
    s->calling = false;
    f->detached--;
    if (call->error) {
        on_not_put(s, call->error);
        return;
    }
    s->job.body = NULL; /* ours */
    job.callback_url = NULL;
    jobs_queue_enter(t, job.seq);
    if (granted) /* before its client knows: what that sends next stands behind it */
        jobs_begin(f, t, &job);
    if (s->req && !s->gone)
        answer_accepted(s, begins); /* may free it */
    else
        free_submission(s);
    if (!granted)
        jobs_pump(f);
    free(job.body);
}

/* False: no memory. */
static bool fill(struct submission *s, const struct parse_request *p)
{
    struct store_job *j = &s->job;
    struct http_text body = http_body(s->req);
    struct run_caller caller;
    auth_caller(s->req, &caller);
    store_make_id(STORE_JOB_PREFIX, j->id);
    (void)snprintf(j->key, sizeof j->key, "%s", caller.key);
    (void)snprintf(j->user, sizeof j->user, "%s", p->user);
    (void)snprintf(j->language, sizeof j->language, "%s", p->language);
    (void)snprintf(j->ns_id, sizeof j->ns_id, "%s", p->ns_id);
    (void)snprintf(j->policy, sizeof j->policy, "%s", caller.policy);
    j->timeout_ms_ceiling = caller.timeout_ms_ceiling;
    j->memory_bytes_ceiling = caller.memory_bytes_ceiling;
    j->cpu_ms_ceiling = caller.cpu_ms_ceiling;
    j->priority = p->priority;
    j->created_ms = j->updated_ms = store_now_ms();
    j->body = malloc(body.len);
    j->body_len = body.len;
    if (j->body)
        memcpy(j->body, body.at, body.len);
    if (*p->callback_url)
        j->callback_url = s->callback_url = strdup(p->callback_url);
    return j->body && !*p->callback_url == !s->callback_url;
}

static void refuse_full(struct http_request *req, enum jobs_verdict verdict)
{
    if (verdict == JOBS_KEY_FULL)
        answer_error(req, &(struct answer_error){429, "queue_full", RETRY_MS, NULL},
                     "as many jobs of this key wait as jobs.key_queue_max allows");
    else
        answer_error(req, &(struct answer_error){503, "queue_full", RETRY_MS, NULL},
                     "too many jobs wait");
}

static void start(struct front *f, struct http_request *req, const struct parse_request *parsed)
{
    struct submission *s = calloc(1, sizeof *s);
    if (!s) {
        run_refuse(req, -EAGAIN);
        return;
    }
    s->owner = (struct request_owner){.on_gone = on_submit_gone, .on_end = on_submit_end};
    s->front = f;
    s->req = req;
    *http_data(req) = &s->owner;
    if (!fill(s, parsed)) {
        run_refuse(req, -EAGAIN);
        return;
    }
    enum jobs_verdict verdict = jobs_queue_reserve(f, &s->job, routes_key(req), &s->ticket);
    if (verdict != JOBS_OK) {
        refuse_full(req, verdict);
        return;
    }
    bool claimed = s->ticket->granted && !s->ticket->held;
    s->job.state = claimed ? STORE_JOB_RUNNING : STORE_JOB_QUEUED;
    s->call =
        (struct store_call){.verb = STORE_PUT_JOB, .job = &s->job, .fd = -1, .on_done = on_put};
    if ((once_has_name(req) && !promise(s)) || store_submit(&f->mailbox, &s->call) < 0) {
        jobs_queue_leave(s->ticket);
        answer_error(req, &(struct answer_error){503, "busy", RETRY_MS, NULL},
                     "too much is being stored at the moment");
        return;
    }
    s->calling = true;
    f->detached++; /* it is promised as soon as it is stored */
}

void jobs_on_submit(struct front *f, struct http_request *req, const struct http_text *params)
{
    static __thread struct parse_request parsed; /* as in execute.c */
    struct parse_refusal refusal;
    struct parse_limits lowered;
    struct http_text body = http_body(req);
    (void)params;
    if (!execute_may_begin(f, req))
        return;
    if (parse_job(body.at, body.len, auth_limits(f, req, &lowered), &parsed, &refusal) < 0) {
        answer_error(req, &(struct answer_error){400, refusal.code, 0, NULL}, "%s", refusal.text);
        return;
    }
    const char *url = parsed.callback_url; /* not the parser's: the list may change until it runs */
    if (*url && webhooks_check_url(f, url, strlen(url), &refusal) < 0)
        answer_error(req, &(struct answer_error){400, refusal.code, 0, NULL}, "%s", refusal.text);
    else if (auth_may_use(req, parsed.ns_id))
        start(f, req, &parsed);
    parse_fini(&parsed);
}

bool jobs_let_pass(struct http_request *req, const char *ns_id)
{
    if (!*ns_id || jobs_queue_may_pass(ns_id))
        return true;
    answer_error(req, &(struct answer_error){429, "behind_jobs", RETRY_MS, NULL},
                 "jobs of this namespace that were accepted before still wait for its queue, and "
                 "are not overtaken");
    return false;
}
