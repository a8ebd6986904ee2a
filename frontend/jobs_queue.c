/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/jobs_queue - which jobs have not ended.
 *
 * In the frontend, one for all its threads, under one lock that is held for a few pointers only.
 * The store has the jobs; here is a ticket of each, what bounds them - all together, and a key's
 * share -, and who waits for their end. Whose turn it is jobs_turns.c knows, with the same lock.
 *
 * Nothing here waits for anything: a thread asks for the next job when one came or one ended, and
 * whoever changed something for another thread writes to its descriptor.
 */
#include "frontend/jobs_impl.h"
#include "lib/err.h"
#include <sys/random.h>

uint64_t jobs_hash_seed;

static struct {
    pthread_mutex_t lock;
    struct job_ticket *tickets[JOBS_HASH];
    struct job_share *shares[JOBS_HASH];
    struct job_ticket *called_off; /* they wait for nobody's turn */
    uint64_t waiting, waiting_bytes, waiting_max, share_max, bytes_max;
    unsigned attempts_max;
} queue = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void lock(void)
{
    (void)pthread_mutex_lock(&queue.lock);
}

static void unlock(void)
{
    (void)pthread_mutex_unlock(&queue.lock);
}

/* ---- bounds -------------------------------------------------------------------------------------
 */

static struct job_share *get_share(const char *key)
{
    struct job_share **at = &queue.shares[jobs_hash(key)];
    for (struct job_share *s = *at; s; s = s->in_hash)
        if (strcmp(s->key, key) == 0)
            return s;
    struct job_share *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    (void)snprintf(s->key, sizeof s->key, "%s", key);
    s->in_hash = *at;
    return *at = s;
}

static void drop_share(struct job_share *s)
{
    if (s->tickets > 0)
        return;
    struct job_share **at = &queue.shares[jobs_hash(s->key)];
    while (*at != s)
        at = &(*at)->in_hash;
    *at = s->in_hash;
    free(s);
}

static void count_waiting(struct job_ticket *t, bool more)
{
    const uint64_t one = more ? 1 : UINT64_MAX;
    queue.waiting += one;
    queue.waiting_bytes += more ? t->bytes : -t->bytes;
    t->share->waiting += one;
}

/* ---- who waits for its end ----------------------------------------------------------------------
 */

static void link_show(struct job_show *s, struct job_show **list)
{
    s->in_list = list;
    s->next = *list;
    if (s->next)
        s->next->in_list = &s->next;
    *list = s;
}

static void unlink_show(struct job_show *s)
{
    if (!s->in_list)
        return;
    *s->in_list = s->next;
    if (s->next)
        s->next->in_list = s->in_list;
    s->in_list = NULL;
    s->next = NULL;
}

static void wake(struct front *f)
{
    const uint64_t one = 1;
    (void)!write(f->jobs.event_fd, &one, sizeof one);
}

static void wake_shows(struct job_ticket *t)
{
    struct front *woken = NULL;
    for (struct job_show *s; (s = t->shows);) {
        unlink_show(s);
        link_show(s, &s->front->jobs.woken);
        if (woken != s->front) /* nearly always one */
            wake(s->front);
        woken = s->front;
    }
}

/* ---- tickets ------------------------------------------------------------------------------------
 */

static struct job_ticket *find(const char *id)
{
    struct job_ticket *t = queue.tickets[jobs_hash(id)];
    while (t && strcmp(t->id, id) != 0)
        t = t->in_hash;
    return t;
}

static void forget(struct job_ticket *t)
{
    struct job_ticket **at = &queue.tickets[jobs_hash(t->id)];
    while (*at != t)
        at = &(*at)->in_hash;
    *at = t->in_hash;
    t->share->tickets--;
    drop_share(t->share);
    jobs_turns_part(t);
    free(t);
}

static void drop(struct job_ticket *t)
{
    wake_shows(t);
    jobs_turns_give_place(t);
    forget(t);
}

/* Into its list. One that is cancelled is to be ended instead, whosever turn it is; for one that
 * there is no memory for the next start has to come: the store has it. False: so it is, and gone.
 */
static bool wait_in_line(struct job_ticket *t)
{
    t->front = NULL;
    t->stands = false;
    if (t->cancelled) {
        jobs_turns_set_behind(t, false);
        t->step = JOB_CALLED_OFF;
        t->next = queue.called_off;
        queue.called_off = t;
    } else if (jobs_turns_wait(t)) {
        t->step = JOB_WAITING;
        count_waiting(t, true);
    } else {
        drop(t);
        return false;
    }
    return true;
}

static struct job_ticket *take_called_off(void)
{
    struct job_ticket *t = queue.called_off;
    if (t)
        queue.called_off = ptr_take(&t->next);
    return t;
}

/* NULL: no memory. */
static struct job_ticket *make(const struct store_job *job)
{
    struct job_ticket *t = calloc(1, sizeof *t);
    struct job_share *share = t ? get_share(job->key) : NULL;
    if (!share || !jobs_turns_join(t, job)) {
        if (share)
            drop_share(share);
        free(t);
        return NULL;
    }
    memcpy(t->id, job->id, sizeof t->id);
    t->priority = job->priority < JOBS_PRIORITIES ? JOBS_PRIORITIES - 1 - job->priority : 0;
    t->attempts = job->attempts;
    t->seq = job->seq;
    t->bytes = job->body_len;
    t->cancelled = job->cancelled;
    t->shown_running = job->state == STORE_JOB_RUNNING && job->attempts > 0;
    t->share = share;
    share->tickets++;
    t->in_hash = queue.tickets[jobs_hash(t->id)];
    queue.tickets[jobs_hash(t->id)] = t;
    return t;
}

enum jobs_verdict jobs_queue_reserve(struct front *f, const struct store_job *job, bool keyed,
                                     struct job_ticket **ret)
{
    enum jobs_verdict verdict = JOBS_FULL;
    lock();
    struct job_ticket *t = make(job);
    if (t && keyed && t->share->waiting >= queue.share_max)
        verdict = JOBS_KEY_FULL;
    else if (t && queue.waiting < queue.waiting_max &&
             queue.waiting_bytes + job->body_len <= queue.bytes_max)
        verdict = JOBS_OK;
    if (verdict == JOBS_OK) {
        count_waiting(t, true);
        t->step = JOB_ARRIVING;
        if (jobs_turns_has_room(t)) {
            jobs_turns_take_place(t);
            t->front = f;
        }
        *ret = t;
    } else if (t) {
        forget(t);
    }
    unlock();
    return verdict;
}

void jobs_queue_enter(struct job_ticket *t, int64_t seq)
{
    lock();
    t->seq = seq;
    jobs_turns_set_behind(t, true);
    count_waiting(t, false);
    if (t->granted) {
        t->step = JOB_OPEN;
        t->stands = true;
    } else {
        (void)wait_in_line(t);
    }
    unlock();
}

struct job_ticket *jobs_queue_next(struct front *f)
{
    lock();
    struct job_ticket *t = take_called_off();
    if (!t && (t = jobs_turns_next()))
        count_waiting(t, false);
    if (t) {
        t->step = JOB_OPEN;
        t->stands = true;
        t->front = f;
    }
    unlock();
    return t;
}

void jobs_queue_return(struct job_ticket *t)
{
    lock();
    jobs_turns_give_place(t);
    (void)wait_in_line(t);
    unlock();
}

void jobs_queue_leave(struct job_ticket *t)
{
    lock();
    if (t->step == JOB_ARRIVING)
        count_waiting(t, false);
    drop(t);
    unlock();
}

bool jobs_queue_watch(const char *id, struct job_show *s)
{
    lock();
    struct job_ticket *t = find(id);
    if (t)
        link_show(s, &t->shows);
    unlock();
    return t;
}

void jobs_queue_unwatch(struct job_show *s)
{
    lock();
    unlink_show(s);
    unlock();
}

struct job_show *jobs_queue_take_woken(struct front *f)
{
    lock();
    struct job_show *s = f->jobs.woken;
    if (s)
        unlink_show(s);
    unlock();
    return s;
}

bool jobs_queue_take_cancels(struct front *f)
{
    lock();
    bool cancels = f->jobs.cancels;
    f->jobs.cancels = false;
    unlock();
    return cancels;
}

bool jobs_queue_is_cancelled(struct job_ticket *t)
{
    lock();
    bool is = t->cancelled;
    unlock();
    return is;
}

void jobs_queue_stands(struct job_ticket *t, bool stands)
{
    lock();
    t->stands = stands;
    unlock();
}

bool jobs_queue_unbegin(struct job_ticket *t)
{
    lock();
    t->stands = t->stands || !t->shown_running;
    bool stands = t->stands;
    unlock();
    return stands;
}

void jobs_queue_hand(struct job_ticket *t)
{
    lock();
    jobs_turns_hand(t);
    unlock();
}

void jobs_queue_rest(struct job_ticket *t)
{
    lock();
    jobs_turns_set_behind(t, true);
    jobs_turns_rest(t, true);
    unlock();
}

void jobs_queue_end(struct job_ticket *t)
{
    lock();
    jobs_turns_set_behind(t, false);
    jobs_turns_rest(t, false);
    unlock();
}

bool jobs_queue_is_due(struct job_ticket *t)
{
    lock();
    bool is = jobs_turns_is_due(t);
    unlock();
    return is;
}

bool jobs_queue_may_pass(const char *ns_id)
{
    if (jobs_turns_none_behind())
        return true;
    lock();
    bool may = jobs_turns_may_pass(ns_id);
    unlock();
    return may;
}

void jobs_queue_cancel(struct front *f, const char *id, struct job_ticket **ret_taken)
{
    lock();
    struct job_ticket *t = find(id);
    *ret_taken = NULL;
    if (t)
        t->cancelled = true;
    if (t && t->step == JOB_WAITING) {
        jobs_turns_leave_line(t);
        count_waiting(t, false);
        jobs_turns_set_behind(t, false);
        t->step = JOB_OPEN;
        t->stands = true;
        t->front = f;
        *ret_taken = t;
    } else if (t && t->step == JOB_OPEN) {
        t->front->jobs.cancels = true;
        wake(t->front);
    }
    unlock();
}

/* ---- looking ------------------------------------------------------------------------------------
 */

void jobs_queue_view(const char *id, struct jobs_view *ret)
{
    *ret = (struct jobs_view){.known = false};
    lock();
    struct job_ticket *t = find(id);
    if (t) {
        ret->known = true;
        t->shown_running = t->shown_running || (t->step == JOB_OPEN && t->granted && !t->stands);
        ret->running = t->shown_running;
        bool waits = t->step == JOB_ARRIVING || t->step == JOB_WAITING ||
                     (t->granted && t->stands && !t->shown_running);
        ret->position = waits ? jobs_turns_position(t) : 0;
    }
    unlock();
}

/* ---- from outside -------------------------------------------------------------------------------
 */

void jobs_queue_set(const struct proto_jobs *jobs, uint64_t ns_max)
{
    lock();
    jobs_turns_set(jobs->concurrency, ns_max);
    queue.waiting_max = jobs->queue_max;
    queue.share_max = jobs->key_queue_max;
    queue.bytes_max = jobs->queue_bytes_max;
    queue.attempts_max = jobs->attempts_max ? (unsigned)jobs->attempts_max : 1;
    unlock();
}

unsigned jobs_queue_attempts_max(void)
{
    lock();
    unsigned max = queue.attempts_max;
    unlock();
    return max;
}

static void load(void *user, const struct store_job *job)
{
    bool *failed = user;
    lock();
    struct job_ticket *t = make(job);
    if (t)
        jobs_turns_set_behind(t, true);
    if (!t || !wait_in_line(t))
        *failed = true;
    unlock();
}

int jobs_load(struct store *store, struct err *err)
{
    bool failed = false;
    if (SYS(getrandom(&jobs_hash_seed, sizeof jobs_hash_seed, 0)) < 0)
        return err_sys(err, "getrandom");
    int r = store_each_waiting_job(store, load, &failed, err);
    return r == 0 && failed ? err_set(err, "out of memory for the jobs that wait") : r;
}
