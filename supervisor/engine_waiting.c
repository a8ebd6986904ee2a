/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/engine_waiting - namespaces that want a zygote, and whose turn it is.
 *
 * A namespace that wants one waits in engine.waiting until there is a spare of its kind and a place
 * among active_max, for which idle ones are evicted.
 *
 * Fresh namespaces cost nothing to ask for, so keys take turns: a key's next namespace waits for
 * one of each other key that waits (start-time fair queueing, a namespace being the unit). And one
 * key's fresh ones take no more than half of the places, nor more than may have half of the
 * machine's processes, or nobody else would have one while they last.
 */
#include "supervisor/engine.h"

#define SHED_AT_ONCE 4u

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
        n += ns && ns->is_fresh && !ns->is_ahead && !ns->is_spent && is_of(ns, key);
    }
    return n >= most;
}

struct held {
    uint64_t runs, fds, bytes;
};

static void add_held(struct held *h, const struct run *run)
{
    h->runs++;
    h->fds += run->artifacts_fd >= 0;
    for (size_t i = run->stage_at; i < run->stage_count; i++) {
        const struct stage *st = &run->stages[i];
        h->bytes += st->message ? st->message_bytes : 0;
        for (size_t k = 0; k < st->nfds; k++)
            h->fds += st->fds[k] >= 0;
    }
}

bool run_key_has_its_half(const struct engine *e, const struct run *run)
{
    struct held h = {0};
    const struct client *c;
    const struct run *other;
    if (!*run->key || (e->open_runs < ENGINE_RUNS_MAX / 2 && e->held_fds < ENGINE_RUN_FDS_MAX / 2 &&
                       e->held_bytes < ENGINE_HELD_BYTES_MAX / 2))
        return false;
    add_held(&h, run);
    TAILQ_FOREACH(c, &e->clients, in_list)
    TAILQ_FOREACH(other, &c->runs, in_client)
    if (strcmp(other->key, run->key) == 0)
        add_held(&h, other);
    return h.runs > ENGINE_RUNS_MAX / 2 || h.fds > ENGINE_RUN_FDS_MAX / 2 ||
           h.bytes > ENGINE_HELD_BYTES_MAX / 2;
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

void ns_leave_waiting(struct ns *ns)
{
    if (ns->waiting) {
        TAILQ_REMOVE(&ns->engine->waiting, ns, in_waiting);
        ns->engine->waiting_count--;
    }
    ns->waiting = false;
}

/* Ends as many namespaces that are spent or were made ahead, then idle ones, as others wait for a
 * place. False: there is none. */
static bool make_room(struct engine *e)
{
    size_t leaving = e->dying_count, wanted = e->waiting_count - ns_count_held_back(e);
    while (leaving < wanted && fresh_end_one(e))
        leaving++;
    for (struct ns *ns; leaving < wanted && (ns = TAILQ_FIRST(&e->idle)); leaving++)
        ns_evict(ns);
    return leaving > 0;
}

void ns_shed_idle(struct engine *e)
{
    struct ns *ns = TAILQ_FIRST(&e->idle);
    if (e->dying_count < SHED_AT_ONCE && !fresh_end_one(e) && ns)
        ns_evict(ns);
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
        ns_leave_waiting(ns);
        e->turn = ns->turn > e->turn ? ns->turn : e->turn;
        slot_attach(spare, ns);
        slots_refill_later(e);
    }
}

void ns_activate(struct ns *ns)
{
    struct engine *e = ns->engine;
    if (ns->slot || ns->waiting || ns->removing)
        return;
    if (ns->parent) { /* its zygote is started beside its parent's */
        ns->start = PROTO_START_COLD;
        if (ns->parent->slot)
            companions_serve(ns->parent);
        else
            ns_activate(ns->parent);
        return;
    }
    ns->start = find_spare(ns) ? PROTO_START_SPARE : PROTO_START_COLD;
    join_waiting(ns);
    ns_serve_waiting(e);
    if (ns->waiting)
        slots_refill(e);
}

void ns_fail_waiting(struct engine *e, const char *text)
{
    struct ns *ns;
    while ((ns = TAILQ_FIRST(&e->waiting))) {
        ns_leave_waiting(ns);
        ns_fail_queue(ns, PROTO_ACTIVATION_FAILED, text);
        ns_drop_if_unused(ns);
    }
}
