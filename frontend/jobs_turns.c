/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/jobs_turns - whose turn it is: lanes, and who waits in them.
 *
 * In the frontend, with the queue's lock (jobs_queue.c). A *lane* is what has a limit: a language
 * (its concurrency, so that a stuck one holds up no other) or a namespace (as many as its queue in
 * the engine may hold, which runs them one after the other, in the order in which all its runs
 * came). In a language's lane keys take turns, one job each, and a key's jobs go by priority, then
 * age; in a namespace's there is one list, by age. Lanes that have both a job and a place stand in
 * a ring, and whoever asks for the next job gets the first of the first of them: no step looks at
 * more than the keys of one lane. Of namespaces each key has a ring, and keys take turns, since all
 * together have a bound (descriptors); one key gets half of it at most, so it cannot keep others'
 * namespaces waiting, however many it has. When half of what it may have, or of all, is taken, a
 * namespace gets no second place.
 *
 * The order of a namespace is kept by its queue in the engine, for jobs that are *handed* there. A
 * job that was accepted and is not, because no place is free or there was no room, is *behind*:
 * while a namespace has such a one, no other run of it may be sent (jobs_turns_may_pass), no new
 * job gets a place before it, and a younger one whose turn comes in the engine goes back
 * (jobs_turns_is_due). A job that has begun once is behind nobody: its next attempt comes when it
 * comes.
 */
#include "frontend/jobs_impl.h"
#include <assert.h>
#include <stdatomic.h>

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
    uint64_t tickets, open, waiting, behind, resting, handed;
    struct job_turn *turn;
    struct job_ticket *opened; /* those that have a place */
    bool ready;                /* in its ring: */
    struct job_share *owner;   /* of a namespace: the one of its next job's key */
    struct job_lane *prev, *next, *in_hash;
};

static struct {
    struct job_lane *lanes[JOBS_HASH];
    struct job_lane *ready; /* the ring of languages; the one that is next */
    struct job_share *keys; /* those with namespaces that are ready; likewise */
    uint64_t ns_open, concurrency, ns_max;
    bool ns_first; /* whose turn it is between languages and namespaces */
} turns;
static atomic_size_t ns_behind; /* of all namespaces: spares other runs the lock */

/* ---- lanes --------------------------------------------------------------------------------------
 */

static struct job_lane *find_lane(const char *name, bool is_ns)
{
    struct job_lane *l = turns.lanes[jobs_hash(name)];
    while (l && (l->is_ns != is_ns || strcmp(l->name, name) != 0))
        l = l->in_hash;
    return l;
}

static struct job_lane *get_lane(const char *name, bool is_ns)
{
    struct job_lane **at = &turns.lanes[jobs_hash(name)], *l = find_lane(name, is_ns);
    if (l)
        return l;
    l = calloc(1, sizeof *l);
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

/* Does one rest that is older than whoever is next? */
static bool is_blocked(const struct job_lane *l)
{
    if (!l->is_ns || l->resting == 0)
        return false;
    const struct job_ticket *next = l->turn ? l->turn->lists[0].first : NULL;
    for (const struct job_ticket *o = l->opened; o; o = o->next)
        if (o->rests && (!next || o->seq < next->seq))
            return true;
    return false;
}

/* Into the ring of keys, or out of it. */
static void settle_key(struct job_share *s, bool in)
{
    if (in && turns.keys) { /* to its end */
        s->next = turns.keys;
        s->prev = turns.keys->prev;
        s->prev->next = s->next->prev = s;
    } else if (in) {
        turns.keys = s->prev = s->next = s;
    } else if (s->next == s) {
        turns.keys = NULL;
    } else {
        s->prev->next = s->next;
        s->next->prev = s->prev;
        if (turns.keys == s)
            turns.keys = s->next;
    }
}

static void enter_ring(struct job_lane *l, struct job_share *owner)
{
    struct job_lane **ring = owner ? &owner->ready : &turns.ready;
    if (owner && !*ring)
        settle_key(owner, true);
    if (*ring) { /* to its end */
        l->next = *ring;
        l->prev = (*ring)->prev;
        l->prev->next = l->next->prev = l;
    } else {
        *ring = l->prev = l->next = l;
    }
    l->ready = true;
    l->owner = owner;
}

static void leave_ring(struct job_lane *l)
{
    struct job_lane **ring = l->owner ? &l->owner->ready : &turns.ready;
    l->prev->next = l->next;
    l->next->prev = l->prev;
    if (*ring == l)
        *ring = l->next == l ? NULL : l->next;
    if (l->owner && !*ring)
        settle_key(l->owner, false);
    l->ready = false;
    l->owner = NULL;
}

/* After each change of a lane: in its ring or not. */
static void settle_lane(struct job_lane *l)
{
    bool ready = l->waiting > 0 && has_place(l) && !is_blocked(l);
    struct job_share *owner = ready && l->is_ns ? l->turn->lists[0].first->share : NULL;
    if (ready == l->ready && owner == l->owner)
        return;
    if (l->ready)
        leave_ring(l);
    if (ready)
        enter_ring(l, owner);
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
    jobs_turns_set_behind(t, false);
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

/* What a key's namespaces may have. Where there are no keys, "" is the only one. */
static uint64_t share_max(const struct job_share *s)
{
    return *s->key ? NS_OPEN_MAX / 2 : NS_OPEN_MAX;
}

/* Of all that namespaces have, one for this key. */
static bool is_in_share(const struct job_share *s)
{
    return turns.ns_open < NS_OPEN_MAX && s->ns_open < share_max(s);
}

/* When half is taken, what is left is for namespaces that have none: a few that are stuck keep no
 * other one waiting. */
static bool may_have_one(const struct job_lane *l, const struct job_share *s)
{
    return l->open == 0 || (turns.ns_open < NS_OPEN_MAX / 2 && s->ns_open < share_max(s) / 2);
}

bool jobs_turns_has_room(const struct job_ticket *t)
{
    return t->lane->waiting == 0 && has_place(t->lane) && !is_blocked(t->lane) &&
           (!t->lane->is_ns || (is_in_share(t->share) && may_have_one(t->lane, t->share)));
}

void jobs_turns_take_place(struct job_ticket *t)
{
    t->granted = true;
    t->held = t->lane->is_ns && t->lane->open > 0;
    t->lane->open++;
    turns.ns_open += t->lane->is_ns;
    t->share->ns_open += t->lane->is_ns;
    t->prev = NULL;
    t->next = t->lane->opened;
    if (t->next)
        t->next->prev = t;
    t->lane->opened = t;
    settle_lane(t->lane);
}

void jobs_turns_give_place(struct job_ticket *t)
{
    if (!t->granted)
        return;
    *(t->prev ? &t->prev->next : &t->lane->opened) = t->next;
    if (t->next)
        t->next->prev = t->prev;
    t->prev = t->next = NULL;
    t->lane->resting -= t->rests;
    t->granted = t->rests = false;
    t->handed = 0;
    t->lane->open--;
    turns.ns_open -= t->lane->is_ns;
    t->share->ns_open -= t->lane->is_ns;
    settle_lane(t->lane);
}

/* The next of a key's namespaces that may have one; those before it have a place, so they are
 * few. */
static struct job_lane *find_ns(const struct job_share *s)
{
    struct job_lane *l = is_in_share(s) ? s->ready : NULL;
    for (bool more = l; more; l = l->next, more = l != s->ready)
        if (may_have_one(l, s))
            return l;
    return NULL;
}

/* The next namespace of the next key. */
static struct job_lane *choose_ns(void)
{
    struct job_share *s = turns.keys;
    for (bool more = s; more; s = s->next, more = s != turns.keys) {
        struct job_lane *l = find_ns(s);
        if (l) {
            s->ready = l->next;
            turns.keys = s->next;
            return l;
        }
    }
    return NULL;
}

static struct job_lane *choose_language(void)
{
    struct job_lane *l = turns.ready;
    if (l)
        turns.ready = l->next;
    return l;
}

/* Languages and namespaces take turns. */
static struct job_lane *choose_lane(void)
{
    struct job_lane *l = turns.ns_first ? choose_ns() : choose_language();
    if (!l)
        l = turns.ns_first ? choose_language() : choose_ns();
    if (l)
        turns.ns_first = !l->is_ns;
    return l;
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
    jobs_turns_leave_line(t);
    jobs_turns_take_place(t);
    return t;
}

/* ---- order in a namespace ----------------------------------------------------------------------
 */

void jobs_turns_set_behind(struct job_ticket *t, bool behind)
{
    if (t->behind == behind)
        return;
    t->behind = behind;
    t->lane->behind += behind ? 1 : UINT64_MAX;
    if (t->lane->is_ns && behind)
        atomic_fetch_add(&ns_behind, 1);
    else if (t->lane->is_ns)
        atomic_fetch_sub(&ns_behind, 1);
}

void jobs_turns_hand(struct job_ticket *t)
{
    jobs_turns_set_behind(t, false);
    t->handed = ++t->lane->handed;
}

void jobs_turns_rest(struct job_ticket *t, bool rests)
{
    t->lane->resting += (uint64_t)rests - t->rests;
    t->rests = rests;
    settle_lane(t->lane);
}

bool jobs_turns_is_due(const struct job_ticket *t)
{
    const struct job_lane *l = t->lane;
    const struct job_ticket *w = l->is_ns && l->turn ? l->turn->lists[0].first : NULL;
    for (; w && w->seq < t->seq; w = w->next)
        if (w->behind)
            return false;
    for (const struct job_ticket *o = l->is_ns ? l->opened : NULL; o; o = o->next)
        if (o->seq < t->seq && (o->behind || (o->stands && o->handed > t->handed)))
            return false;
    return true;
}

bool jobs_turns_none_behind(void)
{
    return atomic_load(&ns_behind) == 0;
}

bool jobs_turns_may_pass(const char *ns_id)
{
    const struct job_lane *l = find_lane(ns_id, true);
    return !l || l->behind == 0;
}

/* ---- looking ------------------------------------------------------------------------------------
 */

static const struct job_turn *find_turn(const struct job_ticket *t)
{
    const struct job_share *share = t->lane->is_ns ? NULL : t->share;
    const struct job_turn *o = t->lane->turn;
    for (bool more = o; more; o = o->next, more = o != t->lane->turn)
        if (o->share == share)
            return o;
    return NULL;
}

/* The engine's order, as far as both are there; who is just arriving has no number yet. */
static bool is_before(const struct job_ticket *a, const struct job_ticket *b)
{
    return a->handed && b->handed ? a->handed < b->handed : b->seq == 0 || a->seq < b->seq;
}

/* Those of its namespace that have a place and begin before it. */
static uint64_t count_standing(const struct job_ticket *t)
{
    uint64_t n = 0;
    for (const struct job_ticket *o = t->lane->is_ns ? t->lane->opened : NULL; o; o = o->next)
        n += o != t && o->stands && is_before(o, t);
    return n;
}

uint64_t jobs_turns_position(const struct job_ticket *t)
{
    if (t->granted)
        return t->lane->is_ns ? count_standing(t) + 1 : 0;
    const struct job_turn *own = t->turn ? t->turn : find_turn(t);
    unsigned p = priority_of(t);
    uint64_t before = 0, others = 0;
    if (own && own->lists[p].first)
        before = (t->turn ? t->place : own->lists[p].next_place) - own->lists[p].first->place;
    for (unsigned i = 0; own && i < p; i++)
        before += own->counts[i];
    const struct job_turn *o = t->lane->turn;
    for (int looked = 0; o && looked < TURNS_LOOKED_AT; looked++) {
        if (o != own)
            others += o->count < before ? o->count : before;
        o = o->next != t->lane->turn ? o->next : NULL;
    }
    return count_standing(t) + before + others + 1;
}
