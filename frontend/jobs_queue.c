/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/jobs_queue - which jobs have not ended, and whose turn it is.
 *
 * In the frontend, one for all its threads, under one lock that is held for a few pointers only.
 * The store has the jobs; here is a ticket of each. A *lane* is what has a limit: a language (its
 * concurrency, so that a stuck one holds up no other) or a namespace (as many as its queue in the
 * engine may hold, which runs them one after the other, in the order in which all its runs came).
 * In a language's lane keys take turns, one job each, and a key's jobs go by priority, then age; in
 * a namespace's there is one list, by age. Lanes that have both a job and a place stand in a ring,
 * and whoever asks for the next job gets the first of the first of them: no step looks at more than
 * the keys of one lane.
 *
 * Nothing here waits for anything: a thread asks for the next job when one came or one ended, and
 * whoever changed something for another thread writes to its descriptor.
 */
#include "frontend/jobs_impl.h"
#include "lib/err.h"
#include <assert.h>

#define HASH 4096u
#define PRIORITIES 10u
#define NS_OPEN_MAX 512u /* jobs of namespaces in the engine's hands: descriptors */
#define TURNS_LOOKED_AT 1000

struct list {
    struct job_ticket *first, *last;
    uint64_t next_place;
};

struct job_share {
    char key[STORE_KEY_MAX + 1];
    uint64_t tickets, waiting;
    struct job_share *next;
};

struct job_turn {
    struct job_share *share; /* NULL: of all keys */
    struct list lists[PRIORITIES];
    uint64_t counts[PRIORITIES], count;
    struct job_turn *prev, *next; /* a ring; its lane has the one whose turn it is */
};

struct job_lane {
    char name[PROTO_NS_ID_MAX + 1];
    bool is_ns;
    uint64_t tickets, open, waiting;
    struct job_turn *turn;
    bool ready; /* in its ring */
    struct job_lane *prev, *next, *in_hash;
};

static struct {
    pthread_mutex_t lock;
    struct job_ticket *tickets[HASH];
    struct job_lane *lanes[HASH];
    struct job_share *shares[HASH];
    struct job_lane *ready[2]; /* rings: languages, namespaces; the one that is next */
    uint64_t waiting, waiting_bytes, ns_open;
    uint64_t concurrency, ns_max, waiting_max, share_max, bytes_max;
    unsigned attempts_max;
    bool ns_first; /* whose turn it is between the two rings */
} queue = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void lock(void)
{
    (void)pthread_mutex_lock(&queue.lock);
}

static void unlock(void)
{
    (void)pthread_mutex_unlock(&queue.lock);
}

static size_t hash(const char *text)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a; ids are random, others cost their own key */
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 1099511628211u;
    return (size_t)(h ^ h >> 32) % HASH;
}

/* ---- lanes, shares, turns -----------------------------------------------------------------------
 */

static struct job_lane *get_lane(const char *name, bool is_ns)
{
    struct job_lane **at = &queue.lanes[hash(name)];
    for (struct job_lane *l = *at; l; l = l->in_hash)
        if (l->is_ns == is_ns && strcmp(l->name, name) == 0)
            return l;
    struct job_lane *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    (void)snprintf(l->name, sizeof l->name, "%s", name);
    l->is_ns = is_ns;
    l->in_hash = *at;
    return *at = l;
}

static void drop_lane(struct job_lane *l)
{
    if (l->tickets > 0)
        return;
    struct job_lane **at = &queue.lanes[hash(l->name)];
    while (*at != l)
        at = &(*at)->in_hash;
    *at = l->in_hash;
    free(l);
}

static struct job_share *get_share(const char *key)
{
    struct job_share **at = &queue.shares[hash(key)];
    for (struct job_share *s = *at; s; s = s->next)
        if (strcmp(s->key, key) == 0)
            return s;
    struct job_share *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    (void)snprintf(s->key, sizeof s->key, "%s", key);
    s->next = *at;
    return *at = s;
}

static void drop_share(struct job_share *s)
{
    if (s->tickets > 0)
        return;
    struct job_share **at = &queue.shares[hash(s->key)];
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    free(s);
}

static bool has_place(const struct job_lane *l)
{
    return l->open < (l->is_ns ? queue.ns_max : queue.concurrency);
}

/* After each change of a lane: in its ring or not. */
static void settle_lane(struct job_lane *l)
{
    struct job_lane **ring = &queue.ready[l->is_ns];
    bool ready = l->waiting > 0 && has_place(l);
    if (ready == l->ready)
        return;
    l->ready = ready;
    if (ready && *ring) { /* to its end */
        l->next = *ring;
        l->prev = (*ring)->prev;
        l->prev->next = l->next->prev = l;
    } else if (ready) {
        *ring = l->prev = l->next = l;
    } else if (l->next == l) {
        *ring = NULL;
    } else {
        l->prev->next = l->next;
        l->next->prev = l->prev;
        if (*ring == l)
            *ring = l->next;
    }
}

static struct job_turn *get_turn(struct job_lane *l, struct job_share *share)
{
    struct job_turn *t = l->turn;
    if (l->is_ns)
        share = NULL;
    for (bool more = t; more; t = t->next, more = t != l->turn)
        if (t->share == share)
            return t;
    t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->share = share;
    if (l->turn) { /* to the end of the ring */
        t->next = l->turn;
        t->prev = l->turn->prev;
        t->prev->next = t->next->prev = t;
    } else {
        l->turn = t->prev = t->next = t;
    }
    return t;
}

static void drop_turn(struct job_lane *l, struct job_turn *t)
{
    if (t->count > 0)
        return;
    if (l->turn == t)
        l->turn = t->next == t ? NULL : t->next;
    t->prev->next = t->next;
    t->next->prev = t->prev;
    free(t);
}

/* ---- waiting ------------------------------------------------------------------------------------
 */

static unsigned priority_of(const struct job_ticket *t)
{
    return t->lane->is_ns ? 0 : t->priority;
}

/* Into its list, by age: nearly always at the end, or at the front. */
static void insert(struct list *list, struct job_ticket *t)
{
    struct job_ticket *after = list->last;
    if (list->first && list->first->seq > t->seq)
        after = NULL;
    while (after && after->seq > t->seq)
        after = after->prev;
    t->prev = after;
    t->next = after ? after->next : list->first;
    *(t->next ? &t->next->prev : &list->last) = t;
    *(after ? &after->next : &list->first) = t;
    t->place = t->next ? t->next->place - !after : list->next_place++;
}

/* False: no memory. */
static bool wait_in_line(struct job_ticket *t)
{
    unsigned p = priority_of(t);
    struct job_turn *turn = get_turn(t->lane, t->share);
    if (!turn)
        return false;
    t->turn = turn;
    t->step = JOB_WAITING;
    t->front = NULL;
    t->stands = false;
    if (!turn->lists[p].first)
        turn->lists[p].next_place = 1u << 20; /* those that come back go before */
    insert(&turn->lists[p], t);
    turn->counts[p]++;
    turn->count++;
    t->lane->waiting++;
    settle_lane(t->lane);
    return true;
}

static void leave_line(struct job_ticket *t)
{
    unsigned p = priority_of(t);
    struct list *list = &t->turn->lists[p];
    *(t->prev ? &t->prev->next : &list->first) = t->next;
    *(t->next ? &t->next->prev : &list->last) = t->prev;
    t->prev = t->next = NULL;
    t->turn->counts[p]--;
    t->turn->count--;
    drop_turn(t->lane, ptr_take(&t->turn));
    t->lane->waiting--;
    settle_lane(t->lane);
}

static void count_waiting(struct job_ticket *t, bool more)
{
    const uint64_t one = more ? 1 : UINT64_MAX;
    queue.waiting += one;
    queue.waiting_bytes += more ? t->bytes : -t->bytes;
    t->share->waiting += one;
}

static void take_place(struct job_ticket *t)
{
    t->granted = true;
    t->held = t->lane->is_ns && t->lane->open > 0;
    t->lane->open++;
    queue.ns_open += t->lane->is_ns;
    settle_lane(t->lane);
}

static void give_place(struct job_ticket *t)
{
    if (!t->granted)
        return;
    t->granted = false;
    t->lane->open--;
    queue.ns_open -= t->lane->is_ns;
    settle_lane(t->lane);
}

/* ---- who waits for its end
 * -----------------------------------------------------------------------
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

/* ---- tickets ------------------------------------------------------------------------------------
 */

static struct job_ticket *find(const char *id)
{
    struct job_ticket *t = queue.tickets[hash(id)];
    while (t && strcmp(t->id, id) != 0)
        t = t->in_hash;
    return t;
}

static void forget(struct job_ticket *t)
{
    struct job_ticket **at = &queue.tickets[hash(t->id)];
    while (*at != t)
        at = &(*at)->in_hash;
    *at = t->in_hash;
    t->share->tickets--;
    drop_share(t->share);
    t->lane->tickets--;
    drop_lane(t->lane);
    free(t);
}

/* NULL: no memory. */
static struct job_ticket *make(const struct store_job *job)
{
    struct job_ticket *t = calloc(1, sizeof *t);
    struct job_share *share = t ? get_share(job->key) : NULL;
    bool is_ns = *job->ns_id;
    struct job_lane *lane = share ? get_lane(is_ns ? job->ns_id : job->language, is_ns) : NULL;
    if (!lane) {
        if (share)
            drop_share(share);
        free(t);
        return NULL;
    }
    memcpy(t->id, job->id, sizeof t->id);
    t->priority = job->priority < PRIORITIES ? PRIORITIES - 1 - job->priority : 0;
    t->attempts = job->attempts;
    t->seq = job->seq;
    t->bytes = job->body_len;
    t->cancelled = job->cancelled;
    t->shown_running = job->state == STORE_JOB_RUNNING;
    t->share = share;
    t->lane = lane;
    share->tickets++;
    lane->tickets++;
    t->in_hash = queue.tickets[hash(t->id)];
    queue.tickets[hash(t->id)] = t;
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
        if (t->lane->waiting == 0 && has_place(t->lane) &&
            (!t->lane->is_ns || queue.ns_open < NS_OPEN_MAX)) {
            take_place(t);
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
    if (t->granted) {
        t->step = JOB_OPEN;
        t->stands = true;
        count_waiting(t, false);
    } else if (!wait_in_line(t)) {
        count_waiting(t, false); /* no memory: the store has it, the next start finds it */
        forget(t);
    }
    unlock();
}

/* A lane of the first ring that may have one; the two take turns. */
static struct job_lane *choose_lane(void)
{
    for (int i = 0; i < 2; i++) {
        bool ns = queue.ns_first != (i > 0);
        if (queue.ready[ns] && (!ns || queue.ns_open < NS_OPEN_MAX)) {
            queue.ns_first = !ns;
            return queue.ready[ns];
        }
    }
    return NULL;
}

struct job_ticket *jobs_queue_next(struct front *f)
{
    struct job_ticket *t = NULL;
    lock();
    struct job_lane *lane = choose_lane();
    if (lane) {
        struct job_turn *turn = lane->turn;
        for (unsigned p = 0; !t && p < PRIORITIES; p++)
            t = turn->lists[p].first;
        assert(t);
        lane->turn = turn->next; /* the next key's */
        queue.ready[lane->is_ns] = lane->next;
        leave_line(t);
        take_place(t);
        count_waiting(t, false);
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
    give_place(t);
    if (wait_in_line(t))
        count_waiting(t, true);
    unlock();
}

static void wake(struct front *f)
{
    const uint64_t one = 1;
    (void)!write(f->jobs.event_fd, &one, sizeof one);
}

void jobs_queue_leave(struct job_ticket *t)
{
    struct front *woken = NULL;
    lock();
    if (t->step == JOB_ARRIVING)
        count_waiting(t, false);
    for (struct job_show *s; (s = t->shows);) {
        unlink_show(s);
        link_show(s, &s->front->jobs.woken);
        if (woken != s->front) /* nearly always one */
            wake(s->front);
        woken = s->front;
    }
    give_place(t);
    forget(t);
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

void jobs_queue_cancel(struct front *f, const char *id, struct job_ticket **ret_taken)
{
    lock();
    struct job_ticket *t = find(id);
    *ret_taken = NULL;
    if (t)
        t->cancelled = true;
    if (t && t->step == JOB_WAITING) {
        leave_line(t);
        count_waiting(t, false);
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

/* How many go before it when no other comes: those of its own key, and one of each other key for
 * each of these. One that was cancelled further ahead counts until that place is passed. */
static uint64_t position_of(const struct job_ticket *t)
{
    const struct job_turn *own = t->turn;
    unsigned p = priority_of(t);
    uint64_t before = t->place - own->lists[p].first->place;
    for (unsigned i = 0; i < p; i++)
        before += own->counts[i];
    uint64_t others = 0;
    int looked = 0;
    for (const struct job_turn *o = own->next; o != own && looked < TURNS_LOOKED_AT; o = o->next) {
        others += o->count < before ? o->count : before;
        looked++;
    }
    return before + others + 1;
}

void jobs_queue_view(const char *id, struct jobs_view *ret)
{
    *ret = (struct jobs_view){.known = false};
    lock();
    struct job_ticket *t = find(id);
    if (t) {
        ret->known = true;
        t->shown_running = t->shown_running || (t->step == JOB_OPEN && t->granted && !t->stands);
        ret->running = t->shown_running;
        ret->position = t->step == JOB_WAITING ? position_of(t) : 0;
    }
    unlock();
}

uint64_t jobs_queue_count(void)
{
    lock();
    uint64_t count = queue.waiting;
    unlock();
    return count;
}

/* ---- from outside -------------------------------------------------------------------------------
 */

void jobs_queue_set(const struct proto_jobs *jobs, uint64_t ns_max)
{
    lock();
    queue.concurrency = jobs->concurrency;
    queue.ns_max = ns_max ? ns_max : 1;
    queue.waiting_max = jobs->queue_max;
    queue.share_max = jobs->key_queue_max;
    queue.bytes_max = jobs->queue_bytes_max;
    queue.attempts_max = jobs->attempts_max ? (unsigned)jobs->attempts_max : 1;
    for (size_t i = 0; i < HASH; i++)
        for (struct job_lane *l = queue.lanes[i]; l; l = l->in_hash)
            settle_lane(l);
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
    if (!t || !wait_in_line(t))
        *failed = true;
    else
        count_waiting(t, true);
    unlock();
}

int jobs_load(struct store *store, struct err *err)
{
    bool failed = false;
    int r = store_each_waiting_job(store, load, &failed, err);
    return r == 0 && failed ? err_set(err, "out of memory for the jobs that wait") : r;
}
