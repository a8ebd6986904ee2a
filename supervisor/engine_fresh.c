/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/engine_fresh - namespaces without a volume, for one request each; some made ahead.
 *
 * In the engine. A fresh namespace has no name and no files, so nothing in its making depends on
 * the request: once somebody asks for such, a few are kept READY, with a standby that waits for its
 * run, and the next request finds one as warm as a namespace of its own would be. They come out of
 * the pool of spares, are made beside the run that took the last one, give way to whoever waits for
 * a place, and go when nobody has asked for so long that a namespace would be idle.
 *
 * Those that have had their request are spent. The end of a zygote takes 3 ms of processor time
 * from whoever is being served, so it waits for a pause, or for some others.
 */
#include "lib/clock.h"
#include "supervisor/engine.h"
#include "supervisor/verdict.h"
#include <inttypes.h>

#define AHEAD_MAX 2u       /* at once, and of a quarter of the spares at most */
#define SPENT_PAUSE_MS 50u /* as engine_pool.c's for the opposite */
#define SPENT_BYTES_MAX (32u << 20)

struct ns *fresh_new(struct engine *e)
{
    char id[PROTO_NS_ID_MAX + 1];
    (void)snprintf(id, sizeof id, ".fresh-%" PRIu64, ++e->last_fresh);
    struct ns *ns = ns_get(e, id);
    if (ns)
        ns->is_fresh = true;
    return ns;
}

/* ---- made ahead --------------------------------------------------------------------------------
 */

static void join(struct ns *ns)
{
    ns->is_ahead = true;
    TAILQ_INSERT_TAIL(&ns->engine->ahead, ns, in_ahead);
    ns->engine->ahead_count++;
}

void fresh_leave(struct ns *ns)
{
    struct engine *e = ns->engine;
    if (ns->is_ahead) {
        TAILQ_REMOVE(&e->ahead, ns, in_ahead);
        e->ahead_count--;
    } else if (ns->is_spent) {
        TAILQ_REMOVE(&e->spent, ns, in_ahead);
        e->spent_count--;
    }
    ns->is_ahead = ns->is_spent = false;
}

/* NULL: none of them can be taken or ended now. */
static struct ns *find_ready(const struct ns_list *list)
{
    struct ns *ns = TAILQ_FIRST(list);
    while (ns && ns->slot->state != SLOT_READY)
        ns = TAILQ_NEXT(ns, in_ahead);
    return ns;
}

struct ns *fresh_take(struct engine *e, const char *policy, const char *key)
{
    struct ns *ns = *policy ? NULL : find_ready(&e->ahead);
    e->fresh_used_ns = clock_now_ns();
    if (!ns || e->waiting_count > 0 || ns_has_its_share(e, key)) /* it has to take its turn */
        return fresh_new(e);
    fresh_leave(ns);
    (void)snprintf(ns->key, sizeof ns->key, "%s", key);
    ns->start = PROTO_START_SPARE;
    slots_refill_later(e);
    return ns;
}

bool fresh_keep(struct ns *ns)
{
    if (!ns->made_ahead || ns->had_run || !ns->slot || ns->slot->state != SLOT_READY)
        return false;
    if (!ns->is_ahead)
        join(ns);
    return true;
}

void fresh_prepare(struct engine *e)
{
    size_t most = e->set.spares / 4 < AHEAD_MAX ? e->set.spares / 4 : AHEAD_MAX;
    bool wanted =
        e->fresh_used_ns && clock_now_ns() - e->fresh_used_ns < e->set.idle_ms * CLOCK_NS_PER_MS;
    while (wanted && e->proven && !e->draining && !e->stopping && e->ahead_count < most &&
           e->waiting_count == 0 && e->bound_count < e->set.active_max / 2) {
        struct ns *ns = fresh_new(e);
        uint32_t policy = ns ? ns_own_policy(ns) : 0;
        struct slot *spare = ns && verdict_lets(policy) ? slots_find_spare(e, policy) : NULL;
        if (!spare) {
            if (ns)
                ns_drop_if_unused(ns);
            return;
        }
        ns->made_ahead = true;
        join(ns);
        slot_attach(spare, ns);
    }
}

static void end_spent(struct engine *e)
{
    struct ns *ns;
    loop_timer_cancel(&e->loop, &e->spent_pause);
    while ((ns = TAILQ_FIRST(&e->spent))) {
        fresh_leave(ns);
        slot_end(ns->slot);
    }
}

static void on_spent_pause(struct loop_timer *t)
{
    end_spent(CONTAINER_OF(t, struct engine, spent_pause));
}

void fresh_spend(struct ns *ns)
{
    struct engine *e = ns->engine;
    if (ns->is_spent)
        return;
    if (slot_memory_left(ns->slot) > SPENT_BYTES_MAX) {
        slot_end(ns->slot);
        return;
    }
    ns->is_spent = true;
    TAILQ_INSERT_TAIL(&e->spent, ns, in_ahead);
    e->spent_count++;
    if (e->waiting_count > 0 || e->draining || e->spent_count * 4 >= e->set.spares * 3 ||
        e->bound_count >= e->set.active_max / 2 ||
        !loop_timer_set(&e->loop, &e->spent_pause,
                        clock_now_ns() + SPENT_PAUSE_MS * CLOCK_NS_PER_MS))
        end_spent(e);
}

bool fresh_end_one(struct engine *e)
{
    struct ns *ns = find_ready(&e->spent);
    if (!ns)
        ns = find_ready(&e->ahead);
    if (!ns)
        return false;
    fresh_leave(ns);
    slot_end(ns->slot);
    return true;
}

void fresh_init(struct engine *e)
{
    TAILQ_INIT(&e->ahead);
    TAILQ_INIT(&e->spent);
    e->spent_pause.on_due = on_spent_pause;
}

void fresh_sweep(struct engine *e)
{
    if (clock_now_ns() - e->fresh_used_ns >= e->set.idle_ms * CLOCK_NS_PER_MS)
        while (fresh_end_one(e))
            ;
}
