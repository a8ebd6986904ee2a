/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/jobs_turns - whose turn it is: lanes, and who waits in them.
 *
 * In the frontend, with the queue's lock (jobs_queue.c). A *lane* is what has a limit: a language
 * (its concurrency, so that a stuck one holds up no other) or a namespace (as many as its queue in
 * the engine may hold, which runs them one after the other, in the order in which all its runs
 * came). In a language's lane keys take turns, one job each, and a key's jobs go by priority, then
 * age; in a namespace's there is one list, by age. Lanes that have both a job and a place stand in
 * a ring, and whoever asks for the next job gets the first of the first of them: no step looks at
 * more than the keys of one lane.
 */
#include "frontend/jobs_impl.h"
#include <assert.h>

#define PRIORITIES JOBS_PRIORITIES
#define NS_OPEN_MAX 512u /* jobs of namespaces in the engine's hands: descriptors */
#define TURNS_LOOKED_AT 1000

struct list {
    struct job_ticket *first, *last;
    uint64_t next_place;
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
    struct job_lane *lanes[JOBS_HASH];
    struct job_lane *ready[2]; /* rings: languages, namespaces; the one that is next */
    uint64_t ns_open, concurrency, ns_max;
    bool ns_first; /* whose turn it is between the two rings */
} turns;

/* ---- lanes --------------------------------------------------------------------------------------
 */

static struct job_lane *get_lane(const char *name, bool is_ns)
{
    struct job_lane **at = &turns.lanes[jobs_hash(name)];
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
    struct job_lane **at = &turns.lanes[jobs_hash(l->name)];
    while (*at != l)
        at = &(*at)->in_hash;
    *at = l->in_hash;
    free(l);
}

static bool has_place(const struct job_lane *l)
{
    return l->open < (l->is_ns ? turns.ns_max : turns.concurrency);
}

/* After each change of a lane: in its ring or not. */
static void settle_lane(struct job_lane *l)
{
    struct job_lane **ring = &turns.ready[l->is_ns];
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

bool jobs_turns_join(struct job_ticket *t, const struct store_job *job)
{
    bool is_ns = *job->ns_id;
    t->lane = get_lane(is_ns ? job->ns_id : job->language, is_ns);
    if (t->lane)
        t->lane->tickets++;
    return t->lane;
}

void jobs_turns_part(struct job_ticket *t)
{
    t->lane->tickets--;
    drop_lane(t->lane);
}

void jobs_turns_set(uint64_t concurrency, uint64_t ns_max)
{
    turns.concurrency = concurrency;
    turns.ns_max = ns_max ? ns_max : 1;
    for (size_t i = 0; i < JOBS_HASH; i++)
        for (struct job_lane *l = turns.lanes[i]; l; l = l->in_hash)
            settle_lane(l);
}

/* ---- waiting ------------------------------------------------------------------------------------
 */

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

bool jobs_turns_wait(struct job_ticket *t)
{
    unsigned p = priority_of(t);
    struct job_turn *turn = get_turn(t->lane, t->share);
    if (!turn)
        return false;
    t->turn = turn;
    if (!turn->lists[p].first)
        turn->lists[p].next_place = 1u << 20; /* those that come back go before */
    insert(&turn->lists[p], t);
    turn->counts[p]++;
    turn->count++;
    t->lane->waiting++;
    settle_lane(t->lane);
    return true;
}

void jobs_turns_leave_line(struct job_ticket *t)
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

/* ---- places -------------------------------------------------------------------------------------
 */

bool jobs_turns_has_room(const struct job_ticket *t)
{
    return t->lane->waiting == 0 && has_place(t->lane) &&
           (!t->lane->is_ns || turns.ns_open < NS_OPEN_MAX);
}

void jobs_turns_take_place(struct job_ticket *t)
{
    t->granted = true;
    t->held = t->lane->is_ns && t->lane->open > 0;
    t->lane->open++;
    turns.ns_open += t->lane->is_ns;
    settle_lane(t->lane);
}

void jobs_turns_give_place(struct job_ticket *t)
{
    if (!t->granted)
        return;
    t->granted = false;
    t->lane->open--;
    turns.ns_open -= t->lane->is_ns;
    settle_lane(t->lane);
}

/* A lane of the first ring that may have one; the two take turns. */
static struct job_lane *choose_lane(void)
{
    for (int i = 0; i < 2; i++) {
        bool ns = turns.ns_first != (i > 0);
        if (turns.ready[ns] && (!ns || turns.ns_open < NS_OPEN_MAX)) {
            turns.ns_first = !ns;
            return turns.ready[ns];
        }
    }
    return NULL;
}

struct job_ticket *jobs_turns_next(void)
{
    struct job_ticket *t = NULL;
    struct job_lane *lane = choose_lane();
    if (!lane)
        return NULL;
    struct job_turn *turn = lane->turn;
    for (unsigned p = 0; !t && p < PRIORITIES; p++)
        t = turn->lists[p].first;
    assert(t);
    lane->turn = turn->next; /* the next key's */
    turns.ready[lane->is_ns] = lane->next;
    jobs_turns_leave_line(t);
    jobs_turns_take_place(t);
    return t;
}

uint64_t jobs_turns_position(const struct job_ticket *t)
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
