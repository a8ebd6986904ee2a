/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/engine_ns - the namespace table: who has a zygote, and whose runs come next.
 *
 * A struct ns exists while its namespace has a zygote, a run or a removal; the volumes themselves
 * are the registry (engine_volumes.c). Runs of a namespace start in the order of acceptance and one
 * at a time. An idle active namespace stands in engine.idle, least recently used first, from which
 * eviction takes; one that wants a zygote, in engine.waiting (engine_waiting.c).
 */
#include "lib/clock.h"
#include "supervisor/engine.h"
#include "supervisor/verdict.h"

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

void ns_evict(struct ns *ns)
{
    ns_leave_idle(ns);
    ns->engine->total.evictions++;
    slot_end(ns->slot);
}

void ns_drop_if_unused(struct ns *ns)
{
    struct ns *parent = ns->parent;
    if (!TAILQ_EMPTY(&ns->queue) || ns->running || ns->removing || ns->companion_count || ns->held)
        return;
    ns_leave_waiting(ns); /* whoever wanted it is gone */
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
        ns_activate(ns);
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
        ns_activate(ns);
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
            fresh_spend(ns);
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

/* ---- idle eviction -----------------------------------------------------------------------------
 */

static void on_idle_sweep(struct loop_timer *t)
{
    struct engine *e = CONTAINER_OF(t, struct engine, idle_sweep);
    uint64_t now = clock_now_ns(), idle_ns = e->set.idle_ms * CLOCK_NS_PER_MS;
    struct ns *ns;
    fresh_sweep(e);
    while ((ns = TAILQ_FIRST(&e->idle)) &&
           (now - ns->idle_since_ns > idle_ns || e->bound_count > e->set.active_max)) {
        ns_evict(ns);
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
    fresh_init(e);
    companions_init(e);
    e->idle_sweep.on_due = on_idle_sweep;
    on_idle_sweep(&e->idle_sweep);
}
