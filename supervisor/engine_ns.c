/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/engine_ns - the namespace table: who has a zygote, who waits for one, whose runs come
 * next.
 *
 * A struct ns exists while its namespace has a zygote, a run or a removal; the volumes themselves
 * are the registry (volumes/). Runs of a namespace start in the order of acceptance and one at a
 * time. An idle active namespace stands in engine.idle, least recently used first, from which
 * eviction takes.
 */
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "supervisor/engine.h"
#include "supervisor/verdict.h"
#include "volumes/volumes.h"

#define SWEEP_MS 1000u

static uint64_t hash_of(const struct engine *e, const char *id)
{
    uint64_t h = e->hash_seed; /* seeded FNV-1a: collisions cannot be prepared from outside */
    for (; *id; id++)
        h = (h ^ (unsigned char)*id) * 1099511628211ull;
    return (h ^ (h >> 29)) % ENGINE_HASH;
}

struct ns *ns_find(struct engine *e, const char *id)
{
    struct ns *ns = e->hash[hash_of(e, id)];
    while (ns && strcmp(ns->id, id) != 0)
        ns = ns->next;
    return ns;
}

struct ns *ns_get(struct engine *e, const char *id)
{
    struct ns *ns = ns_find(e, id), **bucket = &e->hash[hash_of(e, id)];
    if (ns || !(ns = calloc(1, sizeof *ns)))
        return ns;
    (void)snprintf(ns->id, sizeof ns->id, "%s", id);
    ns->engine = e;
    ns->next = *bucket;
    *bucket = ns;
    TAILQ_INIT(&ns->queue);
    e->ns_count++;
    return ns;
}

const char *ns_home_id(const struct ns *ns)
{
    return ns->parent ? ns->parent->id : ns->id;
}

const struct run *ns_find_wanted(const struct ns *ns)
{
    const struct run *run = TAILQ_FIRST(&ns->queue);
    return run ? run : companions_find_run(ns);
}

uint32_t ns_own_policy(const struct ns *ns)
{
    const struct policy_match *m = policy_find_match(ns->engine->policies, ns_home_id(ns));
    return m ? m->policy : 0;
}

void ns_leave_idle(struct ns *ns)
{
    if (ns->in_lru)
        TAILQ_REMOVE(&ns->engine->idle, ns, in_idle);
    ns->in_lru = false;
}

static void leave_waiting(struct ns *ns)
{
    if (ns->waiting) {
        TAILQ_REMOVE(&ns->engine->waiting, ns, in_waiting);
        ns->engine->waiting_count--;
    }
    ns->waiting = false;
}

void ns_drop_if_unused(struct ns *ns)
{
    struct ns *parent = ns->parent;
    if (!TAILQ_EMPTY(&ns->queue) || ns->running || ns->removing || ns->companion_count || ns->held)
        return;
    leave_waiting(ns); /* whoever wanted it is gone */
    if (ns->slot)
        return;
    struct ns **at = &ns->engine->hash[hash_of(ns->engine, ns->id)];
    while (*at != ns)
        at = &(*at)->next;
    *at = ns->next;
    ns->engine->ns_count--;
    if (parent)
        companion_leave(ns);
    free(ns);
    if (!parent || parent->companion_count)
        return;
    if (parent->slot)
        ns_settle(parent); /* it may be evicted from now on */
    else
        ns_drop_if_unused(parent);
}

/* One that goes may take another of its chain along. */
static void drop_unused(struct engine *e)
{
    for (size_t i = 0; i < ENGINE_HASH; i++)
        for (struct ns *ns = e->hash[i]; ns;) {
            size_t count = e->ns_count;
            ns_drop_if_unused(ns);
            ns = e->ns_count == count ? ns->next : e->hash[i];
        }
}

/* ---- volumes -----------------------------------------------------------------------------------
 *
 * A directory cannot be asked for one name without a path, so all are read, which takes long where
 * there are many (50,000: 40 ms), and nobody else is served meanwhile. So what was read is good for
 * ten times as long as reading it took, or until the engine knows better; only what others than
 * priv do to fs_root is seen that much later.
 */

#define LIST_GOOD_FOR 10u

static struct {
    struct vol_list list;
    uint64_t until_ns;
} volumes;

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

bool ns_list_has(const struct vol_list *list, const char *id)
{
    return list->count && bsearch(id, list->names, list->count, sizeof *list->names, compare_names);
}

int ns_list_volumes(const struct engine *e, const struct vol_list **ret, struct err *err)
{
    uint64_t begin = clock_now_ns();
    if (begin >= volumes.until_ns) {
        struct vol_list list;
        int r = vol_list(e->root_fd, &list, err);
        if (r < 0)
            return r;
        vol_list_free(&volumes.list);
        volumes.list = list;
        uint64_t now = clock_now_ns();
        volumes.until_ns = now + LIST_GOOD_FOR * (now - begin);
    }
    *ret = &volumes.list;
    return 0;
}

void ns_on_volume(const struct ns *ns)
{
    if (!ns_list_has(&volumes.list, ns->id))
        volumes.until_ns = 0;
}

/* ---- activation --------------------------------------------------------------------------------
 *
 * Fresh namespaces cost nothing to ask for, so keys take turns: a key's next namespace waits for
 * one of each other key that waits (start-time fair queueing, a namespace being the unit). And one
 * key's fresh ones take no more than half of the places, nor more than may have half of the
 * machine's processes, or nobody else would have one while they last.
 */

static bool is_of(const struct ns *ns, const char *key)
{
    return strcmp(ns->key, key) == 0;
}

size_t ns_count_waiting(const struct engine *e, const char *key)
{
    const struct ns *ns;
    size_t n = 0;
    TAILQ_FOREACH(ns, &e->waiting, in_waiting)
    n += is_of(ns, key);
    return n;
}

bool ns_has_its_share(const struct engine *e, const char *key)
{
    uint64_t pids = e->policies->plans[0].limits.group.pids_max;
    uint64_t most = (e->set.active_max + 1) / 2, n = 0, fit = pids ? e->pids_half / pids : most;
    most = fit < most ? fit + !fit : most;
    if (e->fresh_count < most)
        return false;
    for (uint32_t i = 0; i < e->slot_count && n < most; i++) {
        const struct ns *ns = e->slots[i].ns;
        n += ns && ns->is_fresh && !ns->is_ahead && is_of(ns, key);
    }
    return n >= most;
}

bool ns_is_held_back(const struct ns *ns, const char **full)
{
    if (!ns->is_fresh)
        return false;
    if (*full && is_of(ns, *full))
        return true;
    if (!ns_has_its_share(ns->engine, ns->key))
        return false;
    *full = ns->key;
    return true;
}

size_t ns_count_held_back(const struct engine *e)
{
    const struct ns *ns;
    const char *full = NULL;
    size_t n = 0;
    TAILQ_FOREACH(ns, &e->waiting, in_waiting)
    n += ns_is_held_back(ns, &full);
    return n;
}

static void join_waiting(struct ns *ns)
{
    struct engine *e = ns->engine;
    const struct run *run = ns_find_wanted(ns);
    struct ns *other;
    (void)snprintf(ns->key, sizeof ns->key, "%s", run ? run->key : "");
    ns->turn = e->turn + 1;
    TAILQ_FOREACH(other, &e->waiting, in_waiting)
    if (is_of(other, ns->key) && other->turn >= ns->turn)
        ns->turn = other->turn + 1;
    other = TAILQ_LAST(&e->waiting, ns_list);
    while (other && other->turn > ns->turn)
        other = TAILQ_PREV(other, ns_list, in_waiting);
    if (other)
        TAILQ_INSERT_AFTER(&e->waiting, other, ns, in_waiting);
    else
        TAILQ_INSERT_HEAD(&e->waiting, ns, in_waiting);
    ns->waiting = true;
    e->waiting_count++;
}

/* Ends as many namespaces that were made ahead, then idle ones, as others wait for a place. False:
 * there is none. */
static bool make_room(struct engine *e)
{
    size_t leaving = e->dying_count, wanted = e->waiting_count - ns_count_held_back(e);
    while (leaving < wanted && fresh_end_one(e))
        leaving++;
    for (struct ns *ns; leaving < wanted && (ns = TAILQ_FIRST(&e->idle)); leaving++) {
        ns_leave_idle(ns);
        e->total.evictions++;
        slot_end(ns->slot);
    }
    return leaving > 0;
}

/* A spare of the kind that its next run needs; NULL: none, or that kind is not proven yet. */
static struct slot *find_spare(const struct ns *ns)
{
    const struct run *run = ns_find_wanted(ns);
    if (!run)
        return TAILQ_FIRST(&ns->engine->spares);
    return probe_lets(run) ? slots_find_spare(ns->engine, run->policy) : NULL;
}

void ns_serve_waiting(struct engine *e)
{
    struct ns *ns = TAILQ_FIRST(&e->waiting), *next;
    const char *full = NULL;
    for (; !e->stopping && ns; ns = next) {
        struct slot *spare = find_spare(ns);
        next = TAILQ_NEXT(ns, in_waiting);
        if (e->bound_count >= e->set.active_max) {
            (void)make_room(e);
            return;
        }
        if (TAILQ_EMPTY(&e->spares))
            return;
        if (!spare || ns_is_held_back(ns, &full))
            continue;
        leave_waiting(ns);
        e->turn = ns->turn > e->turn ? ns->turn : e->turn;
        slot_attach(spare, ns);
        slots_refill_later(e);
    }
}

static void activate(struct ns *ns)
{
    struct engine *e = ns->engine;
    if (ns->slot || ns->waiting || ns->removing)
        return;
    if (ns->parent) { /* its zygote is started beside its parent's */
        ns->start = PROTO_START_COLD;
        if (ns->parent->slot)
            companions_serve(ns->parent);
        else
            activate(ns->parent);
        return;
    }
    ns->start = find_spare(ns) ? PROTO_START_SPARE : PROTO_START_COLD;
    join_waiting(ns);
    ns_serve_waiting(e);
    if (ns->waiting)
        slots_refill(e);
}

void ns_on_slot_gone(struct ns *ns)
{
    struct run *next;
    ns->slot = NULL;
    ns_leave_idle(ns);
    fresh_leave(ns);
    if (ns->parent) { /* the next of its name is another */
        ns->over = false;
        ns->born_ns = clock_now_ns();
    }
    while ((next = TAILQ_FIRST(&ns->queue)) && run_goes_on(next)) {
        ns_dequeue(next);
        run_fail(next, PROTO_INTERNAL, "the namespace's zygote died between two stages");
    }
    if (ns->removing) {
        struct priv_request req = {.verb = PRIV_DISCARD_VOLUME};
        for (uint32_t i = 0; i < ENGINE_REMOVALS_MAX; i++)
            if (ns->engine->removals[i].used && strcmp(ns->engine->removals[i].ns_id, ns->id) == 0)
                req.slot = i;
        (void)snprintf(req.ns_id, sizeof req.ns_id, "%s", ns->id);
        engine_ask_priv(ns->engine, &req, NULL, 0);
    } else if (ns_find_wanted(ns)) {
        activate(ns);
    } else {
        ns_drop_if_unused(ns);
    }
}

/* ---- queues ------------------------------------------------------------------------------------
 */

static void on_max_wait(struct loop_timer *t)
{
    struct run *run = CONTAINER_OF(t, struct run, wait);
    struct ns *ns = run->ns;
    ns_dequeue(run);
    run_fail(run, PROTO_QUEUE_TIMEOUT, "the run waited longer than runs.max_wait");
    ns_drop_if_unused(ns);
}

static void begin_waiting(struct run *run)
{
    struct engine *e = run->ns->engine;
    if (run->patient)
        return;
    run->wait.on_due = on_max_wait;
    (void)loop_timer_set(&e->loop, &run->wait,
                         run->accepted_ns + e->set.max_wait_ms * CLOCK_NS_PER_MS);
}

static void count_in(struct run *run)
{
    run->ns->queued++;
    run->ns->engine->queued_runs++;
}

void ns_enqueue(struct ns *ns, struct run *run)
{
    TAILQ_INSERT_TAIL(&ns->queue, run, in_ns);
    count_in(run);
    ns_leave_idle(ns);
    if (ns->slot && ns->slot->state == SLOT_READY && ns->queued == 1) {
        slot_want_run(ns->slot);
        if (ns->queued > 0 && !run->wait.slot) /* other limits or another zygote come first */
            begin_waiting(run);
        return;
    }
    begin_waiting(run);
    if (!ns->slot)
        activate(ns);
}

void ns_put_back(struct run *run)
{
    TAILQ_INSERT_HEAD(&run->ns->queue, run, in_ns);
    count_in(run);
    if (!run_goes_on(run))
        begin_waiting(run);
}

void ns_dequeue(struct run *run)
{
    struct engine *e = run->ns->engine;
    loop_timer_cancel(&e->loop, &run->wait);
    TAILQ_REMOVE(&run->ns->queue, run, in_ns);
    run->ns->queued--;
    e->queued_runs--;
}

struct run *ns_peek_next(struct ns *ns)
{
    return TAILQ_FIRST(&ns->queue);
}

struct run *ns_take_next(struct ns *ns)
{
    struct run *run = TAILQ_FIRST(&ns->queue);
    if (!run)
        return NULL;
    ns_dequeue(run);
    if (!run_goes_on(run))
        run->start = ns->engine->zygote_execs ? PROTO_START_EXEC : ns->start;
    run->is_first = ns->parent && ns->start != PROTO_START_WARM;
    ns->start = PROTO_START_WARM;
    ns->had_run = true;
    return run;
}

void ns_settle(struct ns *ns)
{
    struct engine *e = ns->engine;
    if (!ns->slot || ns->running)
        return;
    if (ns->removing || ns->over) { /* asked for before it was ready to end */
        slot_end(ns->slot);
        return;
    }
    companions_serve(ns);
    if (!TAILQ_EMPTY(&ns->queue)) {
        slot_want_run(ns->slot);
        return;
    }
    if (ns->slot->state != SLOT_READY)
        return;
    if (ns->is_fresh) { /* it has had its one request, or waits for it */
        if (!fresh_keep(ns))
            slot_end(ns->slot);
        return;
    }
    if (ns->companion == PROTO_COMPANION_TERMINAL) { /* it has had its one run */
        slot_end(ns->slot);
        return;
    }
    ns_leave_idle(ns);
    ns->idle_since_ns = clock_now_ns();
    if (ns->parent)
        return;
    ns->start = PROTO_START_WARM;
    if (ns->companion_count)
        return;
    TAILQ_INSERT_TAIL(&e->idle, ns, in_idle);
    ns->in_lru = true;
    if (e->waiting_count > 0)
        ns_serve_waiting(e);
}

void ns_fail_queue(struct ns *ns, enum proto_outcome outcome, const char *text)
{
    struct run *run;
    while ((run = TAILQ_FIRST(&ns->queue))) {
        ns_dequeue(run);
        run_fail(run, outcome, text);
    }
    companions_fail(ns, outcome, text);
}

void ns_cancel_queue(struct ns *ns, const char *text)
{
    struct run *run;
    while ((run = TAILQ_FIRST(&ns->queue))) {
        ns_dequeue(run);
        run_end(run, text);
    }
}

void ns_fail_waiting(struct engine *e, const char *text)
{
    struct ns *ns;
    while ((ns = TAILQ_FIRST(&e->waiting))) {
        leave_waiting(ns);
        ns_fail_queue(ns, PROTO_ACTIVATION_FAILED, text);
        ns_drop_if_unused(ns);
    }
}

static void fail_refused(struct ns *ns, const char *text)
{
    struct run *run, *next;
    for (run = TAILQ_FIRST(&ns->queue); run; run = next) {
        next = TAILQ_NEXT(run, in_ns);
        if (run->kind == RUN_PROBE || run_goes_on(run) || !verdict_refuses(run->policy))
            continue;
        ns_dequeue(run);
        run_fail(run, PROTO_ACTIVATION_FAILED, text);
    }
}

void ns_on_verdict(struct engine *e, const char *text)
{
    for (size_t i = 0; i < ENGINE_HASH; i++)
        for (struct ns *ns = e->hash[i]; ns; ns = ns->next)
            fail_refused(ns, text);
    drop_unused(e);
}

static void choose_anew(struct ns *ns)
{
    struct run *run, *next;
    for (run = TAILQ_FIRST(&ns->queue); run; run = next) {
        const char *why = run_choose_anew(ns->engine, run);
        next = TAILQ_NEXT(run, in_ns);
        if (!why)
            continue;
        ns_dequeue(run);
        run_fail_policy(run, why);
    }
}

void ns_on_policies(struct engine *e)
{
    for (size_t i = 0; i < ENGINE_HASH; i++)
        for (struct ns *ns = e->hash[i]; ns; ns = ns->next)
            choose_anew(ns);
    drop_unused(e);
}

/* ---- idle eviction, removal --------------------------------------------------------------------
 */

static void on_idle_sweep(struct loop_timer *t)
{
    struct engine *e = CONTAINER_OF(t, struct engine, idle_sweep);
    uint64_t now = clock_now_ns(), idle_ns = e->set.idle_ms * CLOCK_NS_PER_MS;
    struct ns *ns;
    fresh_sweep(e);
    while ((ns = TAILQ_FIRST(&e->idle)) &&
           (now - ns->idle_since_ns > idle_ns || e->bound_count > e->set.active_max)) {
        ns_leave_idle(ns);
        e->total.evictions++;
        slot_end(ns->slot);
        if (e->bound_count - e->dying_count <= e->set.active_max &&
            now - ns->idle_since_ns <= idle_ns)
            break;
    }
    companions_sweep(e, now);
    (void)loop_timer_set(&e->loop, t, now + SWEEP_MS * CLOCK_NS_PER_MS);
}

void ns_init(struct engine *e)
{
    TAILQ_INIT(&e->waiting);
    TAILQ_INIT(&e->idle);
    TAILQ_INIT(&e->ahead);
    TAILQ_INIT(&e->companions);
    e->idle_sweep.on_due = on_idle_sweep;
    on_idle_sweep(&e->idle_sweep);
}

static void send_done(struct client *c, uint64_t tag, enum proto_outcome outcome, const char *text)
{
    struct proto_msg msg = {.type = PROTO_DONE, .tag = tag};
    msg.done.outcome = outcome;
    msg.done.text = text;
    if (c)
        client_send(c, &msg);
}

void ns_remove(struct engine *e, struct client *client, uint64_t tag, const char *id)
{
    struct removal *r = NULL;
    for (size_t i = 0; i < ENGINE_REMOVALS_MAX && !r; i++)
        if (!e->removals[i].used)
            r = &e->removals[i];
    /* Before the first zygote priv does not touch a volume. */
    struct ns *ns = r && !e->draining && e->ever_started ? ns_get(e, id) : NULL;
    if (!ns) {
        send_done(client, tag, e->draining ? PROTO_DRAINING : PROTO_BUSY, "not now");
        return;
    }
    if (ns->removing || ns->running || !TAILQ_EMPTY(&ns->queue) || companions_are_busy(ns)) {
        send_done(client, tag, PROTO_BUSY, "runs are queued or running in this namespace");
        return;
    }
    *r = (struct removal){.used = true, .client_id = client->id, .tag = tag};
    (void)snprintf(r->ns_id, sizeof r->ns_id, "%s", id);
    ns->removing = true;
    ns_leave_idle(ns);
    companions_end(ns, "its namespace is removed");
    if (ns->slot)
        slot_end(ns->slot); /* its end goes on in ns_on_slot_gone */
    else
        ns_on_slot_gone(ns);
}

void ns_on_discarded(struct engine *e, const struct priv_reply *reply)
{
    if (!reply->error && !reply->detail) /* one has gone */
        volumes.until_ns = 0;
    if (reply->slot >= ENGINE_REMOVALS_MAX || !e->removals[reply->slot].used)
        return;
    struct removal *r = &e->removals[reply->slot];
    struct ns *ns = ns_find(e, r->ns_id);
    struct client *client = client_find(e, r->client_id);
    if (reply->error)
        send_done(client, r->tag, PROTO_INTERNAL, reply->text);
    else if (reply->detail)
        send_done(client, r->tag, PROTO_NOT_FOUND, "no such namespace");
    else
        send_done(client, r->tag, PROTO_OK, "");
    r->used = false;
    if (!ns)
        return;
    ns->removing = false;
    if (ns_find_wanted(ns))
        activate(ns);
    else
        ns_drop_if_unused(ns);
}
