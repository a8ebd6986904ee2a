/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/engine_fresh - namespaces without a volume, for one request each; some made ahead.
 *
 * In the engine. A fresh namespace has no name and no files, so nothing in its making depends on
 * the request: once somebody asks for such, a few are kept READY, with a standby that waits for its
 * run, and the next request finds one as warm as a namespace of its own would be. They come out of
 * the pool of spares, are made beside the run that took the last one, give way to whoever waits for
 * a place, and go when nobody has asked for so long that a namespace would be idle.
 */
#include "lib/clock.h"
#include "supervisor/engine.h"
#include "supervisor/verdict.h"
#include <inttypes.h>

#define AHEAD_MAX 2u /* at once, and of a quarter of the spares at most */

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
    if (!ns->is_ahead)
        return;
    ns->is_ahead = false;
    TAILQ_REMOVE(&ns->engine->ahead, ns, in_ahead);
    ns->engine->ahead_count--;
}

struct ns *fresh_take(struct engine *e, const char *policy, const char *key)
{
    struct ns *ns = *policy ? NULL : TAILQ_FIRST(&e->ahead);
    e->fresh_used_ns = clock_now_ns();
    while (ns && ns->slot->state != SLOT_READY)
        ns = TAILQ_NEXT(ns, in_ahead);
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

bool fresh_end_one(struct engine *e)
{
    struct ns *ns = TAILQ_FIRST(&e->ahead);
    while (ns && ns->slot->state != SLOT_READY)
        ns = TAILQ_NEXT(ns, in_ahead);
    if (!ns)
        return false;
    fresh_leave(ns);
    slot_end(ns->slot);
    return true;
}

void fresh_sweep(struct engine *e)
{
    if (clock_now_ns() - e->fresh_used_ns >= e->set.idle_ms * CLOCK_NS_PER_MS)
        while (fresh_end_one(e))
            ;
}
