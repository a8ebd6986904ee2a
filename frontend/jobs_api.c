/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/jobs_api - /status, /result and /v1/jobs.
 *
 * In the frontend, per thread. Each request asks the store, which has every job, and adds what only
 * the queue knows: whether it stands or runs, and how many go before it. With keys a job is its
 * key's alone; another's is as unknown as none. `wait` waits for the end by being told of it
 * (jobs_queue_watch), never by looking again.
 */
#include "frontend/answer.h"
#include "frontend/jobs_impl.h"
#include "frontend/uri.h"
#include "lib/clock.h"
#include "lib/err.h"
#include <fcntl.h>
#include <inttypes.h>
#include <sys/eventfd.h>

#define RETRY_MS 1000u
#define WAIT_S_MAX 60u
#define LIST_USUAL 50u

/* ---- requests about a job -----------------------------------------------------------------------
 */

static void free_if_unused(struct job_show *s)
{
    if (s->req || s->calling)
        return;
    free(s->job.preview);
    free(s->job.doc);
    free(s->list.at);
    free(s);
}

static void stop_waiting(struct job_show *s)
{
    struct jobs_thread *own = &s->front->jobs;
    jobs_queue_unwatch(s);
    http_timer_cancel(&s->timer);
    if (own->shows == s || s->prev_own) {
        *(s->prev_own ? &s->prev_own->next_own : &own->shows) = s->next_own;
        if (s->next_own)
            s->next_own->prev_own = s->prev_own;
    }
    s->prev_own = s->next_own = NULL;
    s->until_ns = 0;
}

static void on_gone(struct front *f, struct request_owner *owner)
{
    struct job_show *s = CONTAINER_OF(owner, struct job_show, owner);
    (void)f;
    s->gone = true;
    stop_waiting(s);
}

static void on_end(struct front *f, struct http_request *req, struct request_owner *owner)
{
    struct job_show *s = CONTAINER_OF(owner, struct job_show, owner);
    (void)f;
    (void)req;
    stop_waiting(s);
    s->req = NULL;
    free_if_unused(s);
}

/* Who waits; a look into the store is over soon. */
static void on_revoked(struct front *f, struct request_owner *owner)
{
    struct job_show *s = CONTAINER_OF(owner, struct job_show, owner);
    if (!s->timer.due_ns)
        return;
    s->revoked = true;
    http_timer_set(f->server, &s->timer, clock_now_ns());
}

static void on_answered(struct store_call *call)
{
    struct job_show *s = CONTAINER_OF(call, struct job_show, call);
    s->calling = false;
    if (s->req && !s->gone)
        s->answer(s);
    else
        free_if_unused(s);
}

static void ask(struct job_show *s, enum store_verb verb)
{
    free(ptr_take(&s->job.preview));
    free(ptr_take(&s->job.doc));
    s->call.verb = verb;
    s->call.job = &s->job;
    s->call.list = &s->list;
    s->call.fd = -1;
    s->call.on_done = on_answered;
    s->calling = store_submit(&s->front->mailbox, &s->call) == 0;
    if (!s->calling)
        answer_error(s->req, &(struct answer_error){503, "busy", RETRY_MS, NULL},
                     "too much is being stored at the moment");
}

/* NULL: answered. */
static struct job_show *new_show(struct front *f, struct http_request *req,
                                 void (*answer)(struct job_show *s))
{
    struct job_show *s = calloc(1, sizeof *s);
    if (!s) {
        run_refuse(req, -EAGAIN);
        return NULL;
    }
    s->owner =
        (struct request_owner){.on_gone = on_gone, .on_end = on_end, .on_revoked = on_revoked};
    s->front = f;
    s->req = req;
    s->answer = answer;
    (void)snprintf(s->job.key, sizeof s->job.key, "%s", routes_key_label(req));
    (void)snprintf(s->call.key, sizeof s->call.key, "%s", s->job.key);
    *http_data(req) = &s->owner;
    return s;
}

static void answer_unknown(struct http_request *req)
{
    answer_error(req, &(struct answer_error){404, "not_found", 0, NULL}, "there is no such job");
}

static void answer_failed(struct http_request *req, int error)
{
    if (error == ENOENT)
        answer_unknown(req);
    else
        answer_error(req, &(struct answer_error){503, "storage", RETRY_MS, NULL},
                     "the job cannot be read now");
}

static void respond(struct http_request *req, int status, struct buf *b)
{
    (void)buf_addf(b, "\n");
    if (b->failed)
        run_refuse(req, -EAGAIN);
    else
        http_respond(req, status, NULL, b->data, b->len);
    buf_fini(b);
}

/* False: answered. */
static bool set_id(struct job_show *s, const char *id, size_t len)
{
    if (store_id_is_valid(STORE_JOB_PREFIX, id, len)) {
        memcpy(s->job.id, id, len);
        s->job.id[len] = 0;
        return true;
    }
    answer_unknown(s->req);
    return false;
}

/* Of the query. False: answered. */
static bool take_id(struct job_show *s)
{
    char id[STORE_ID_ROOM] = "";
    int n = uri_find(http_query(s->req), "id", id, sizeof id);
    if (n == -2) {
        answer_error(s->req, &(struct answer_error){400, "bad_request", 0, NULL},
                     "the query has no id: ?id=EXECUTION_ID");
        return false;
    }
    return set_id(s, id, n < 0 ? 0 : (size_t)n);
}

/* ---- GET /status --------------------------------------------------------------------------------
 */

static void on_wait_over(struct http_timer *t)
{
    struct job_show *s = CONTAINER_OF(t, struct job_show, timer);
    stop_waiting(s);
    if (s->revoked)
        auth_refuse_gone(s->req);
    else
        ask(s, STORE_GET_JOB);
}

/* True: it is told later. */
static bool wait_for_end(struct job_show *s)
{
    struct jobs_thread *own = &s->front->jobs;
    if (s->until_ns <= clock_now_ns() || s->front->draining || s->front->ending)
        return false;
    s->timer.on_due = on_wait_over;
    http_timer_set(s->front->server, &s->timer, s->until_ns);
    s->next_own = own->shows;
    if (s->next_own)
        s->next_own->prev_own = s;
    own->shows = s;
    if (!jobs_queue_watch(s->job.id, s)) { /* it ended just now */
        stop_waiting(s);
        ask(s, STORE_GET_JOB);
    }
    return true;
}

static void show_status(struct job_show *s)
{
    struct jobs_view view = {.known = false};
    struct buf b = {.cap = JOBS_ANSWER_BYTES_MAX};
    if (s->call.error) {
        answer_failed(s->req, s->call.error);
        return;
    }
    if (s->job.state < STORE_JOB_COMPLETED) {
        if (wait_for_end(s))
            return;
        jobs_queue_view(s->job.id, &view);
    }
    jobs_put_job(&b, &s->job, &view);
    respond(s->req, 200, &b);
}

void jobs_wake_shows(struct front *f, bool all)
{
    struct job_show *s;
    while ((s = jobs_queue_take_woken(f)) || (all && (s = f->jobs.shows))) {
        stop_waiting(s);
        ask(s, STORE_GET_JOB);
    }
}

void jobs_on_status(struct front *f, struct http_request *req, const struct http_text *params)
{
    struct job_show *s = new_show(f, req, show_status);
    uint64_t wait_s = 0;
    (void)params;
    if (!s || !take_id(s))
        return;
    if (uri_find_u64(http_query(req), "wait", 0, WAIT_S_MAX, &wait_s) < 0) {
        answer_error(req, &(struct answer_error){400, "bad_request", 0, NULL},
                     "wait must be a number of seconds from 0 to %u", WAIT_S_MAX);
        return;
    }
    s->until_ns = wait_s ? clock_now_ns() + wait_s * CLOCK_NS_PER_S : 0;
    ask(s, STORE_GET_JOB);
}

/* ---- GET /result --------------------------------------------------------------------------------
 */

static void show_output(struct job_show *s)
{
    struct front *f = s->front;
    char url[URL_ROOM];
    struct buf b = {.cap = JOBS_ANSWER_BYTES_MAX};
    if (s->call.error) {
        answer_failed(s->req, s->call.error);
        return;
    }
    if (s->job.state < STORE_JOB_COMPLETED) {
        answer_error(s->req, &(struct answer_error){409, "not_finished", RETRY_MS, NULL},
                     "the job has not ended yet");
        return;
    }
    int64_t expires_ms = (store_now_ms() / 1000 + (int64_t)f->url_lifetime_s) * 1000;
    urls_make(f->urls, f->base_url, s->job.id, expires_ms, url);
    (void)buf_addf(&b, "{\"executionId\":\"%s\",\"status\":\"%s\",\"url\":\"%s\"", s->job.id,
                   jobs_state_name(s->job.state), url);
    jobs_put_time(&b, "expiresAt", expires_ms);
    (void)buf_addf(&b, ",\"size\":%" PRIu64 ",\"stdoutPreview\":\"", s->job.output_bytes);
    (void)buf_add(&b, s->job.preview, s->job.preview_len);
    (void)buf_addf(&b, "\"}");
    respond(s->req, 200, &b);
}

void jobs_on_output(struct front *f, struct http_request *req, const struct http_text *params)
{
    struct job_show *s = new_show(f, req, show_output);
    (void)params;
    if (s && take_id(s))
        ask(s, STORE_GET_JOB);
}

/* ---- GET /v1/jobs -------------------------------------------------------------------------------
 */

static void show_list(struct job_show *s)
{
    const struct store_job_list *l = &s->list;
    struct buf b = {.cap = JOBS_ANSWER_BYTES_MAX};
    if (s->call.error) {
        answer_failed(s->req, s->call.error);
        return;
    }
    size_t shown = 0;
    (void)buf_addf(&b, "{\"jobs\":[");
    for (size_t i = 0; i < l->count; i++) {
        struct jobs_view view = {.known = false};
        if (l->at[i].state < STORE_JOB_COMPLETED)
            jobs_queue_view(l->at[i].id, &view);
        if (l->state >= 0 && (int)jobs_shown_state(&l->at[i], &view) != l->state)
            continue; /* claimed, and not begun; or it has begun just now */
        (void)buf_addf(&b, shown++ ? "," : "");
        jobs_put_job(&b, &l->at[i], &view);
    }
    (void)buf_addf(&b, "],\"next\":");
    if (l->next)
        (void)buf_addf(&b, "\"%" PRId64 "\"}", l->next);
    else
        (void)buf_addf(&b, "null}");
    respond(s->req, 200, &b);
}

void jobs_on_list(struct front *f, struct http_request *req, const struct http_text *params)
{
    struct http_text query = http_query(req);
    struct job_show *s = new_show(f, req, show_list);
    uint64_t limit = LIST_USUAL, before = 0;
    char status[16];
    (void)params;
    if (!s)
        return;
    int n = uri_find(query, "status", status, sizeof status);
    s->list.state = n == -2 ? -1 : n < 0 ? -2 : jobs_find_state(status);
    const char *wrong = NULL;
    if (n != -2 && s->list.state < 0)
        wrong = "status must be queued, running, completed, failed or timeout";
    else if (uri_find_u64(query, "limit", 1, STORE_JOB_LIST_MAX, &limit) < 0)
        wrong = "limit must be a number from 1 to 1000";
    else if (uri_find_u64(query, "cursor", 1, INT64_MAX, &before) < 0)
        wrong = "cursor must be what `next` of a page was";
    if (wrong) {
        answer_error(req, &(struct answer_error){400, "bad_request", 0, NULL}, "%s", wrong);
        return;
    }
    s->list.limit = (unsigned)limit;
    s->list.before = (int64_t)before;
    ask(s, STORE_LIST_JOBS);
}

/* ---- DELETE /v1/jobs/{id} -----------------------------------------------------------------------
 */

static void on_marked(struct job_show *s)
{
    struct job_ticket *taken = NULL;
    struct buf b = {.cap = JOBS_ANSWER_BYTES_MAX};
    if (s->call.error == EALREADY) {
        answer_error(s->req, &(struct answer_error){409, "ended", 0, NULL},
                     "the job has ended: there is nothing to cancel");
        return;
    }
    if (s->call.error) {
        answer_failed(s->req, s->call.error);
        return;
    }
    struct front *f = s->front;
    jobs_queue_cancel(f, s->job.id, &taken);
    (void)buf_addf(&b, "{\"executionId\":\"%s\",\"status\":\"cancelling\"}", s->job.id);
    respond(s->req, 202, &b);
    if (taken)
        jobs_end_cancelled(f, taken);
}

void jobs_on_delete(struct front *f, struct http_request *req, const struct http_text *params)
{
    struct job_show *s = new_show(f, req, on_marked);
    if (s && set_id(s, params[0].at, params[0].len))
        ask(s, STORE_CANCEL_JOB);
}

/* ---- the thread ---------------------------------------------------------------------------------
 */

static void on_event(void *data)
{
    struct front *f = data;
    uint64_t count;
    (void)!read(f->jobs.event_fd, &count, sizeof count);
    if (jobs_queue_take_cancels(f))
        jobs_cancel_open(f, false);
    jobs_wake_shows(f, false);
}

/* A watch owns its descriptor, so it gets a copy: others write to this one. */
int jobs_init(struct front *f, struct err *err)
{
    f->jobs.event_fd = SYS(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    int fd = f->jobs.event_fd < 0 ? -1 : SYS(fcntl(f->jobs.event_fd, F_DUPFD_CLOEXEC, 3));
    if (fd < 0 || !http_watch_new(f->server, fd, on_event, f))
        return err_sys(err, "watch the jobs");
    return 0;
}

void jobs_on_hello(struct front *f, const struct proto_hello *h)
{
    jobs_queue_set(&h->jobs, h->queue_max);
    if (f->draining) {
        jobs_cancel_open(f, true);
        jobs_wake_shows(f, true);
    } else {
        jobs_pump(f);
    }
}
