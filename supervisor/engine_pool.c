/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/engine_pool - how many zygotes there are to be, of which kind, and when they are
 * started.
 *
 * The pool holds spares of the default policy's box; a namespace that waits for another box has one
 * started for it, beside the pool. A start takes processors from those who are being served, so it
 * waits for a pause, few are on their way at once, and one that failed puts the next one off.
 */
#include "lib/clock.h"
#include "lib/log.h"
#include "supervisor/engine_slots.h"

#define STARTS_AT_ONCE 4u     /* zygotes on their way */
#define OTHERS_AT_ONCE 3u     /* of them not for the pool, which is not to run dry meanwhile */
#define REFILL_PAUSE_MS 50u   /* a pool is refilled after the requests that used it */
#define START_BACKOFF_MS 100u /* doubled by each failure in a row */
#define START_BACKOFF_MAX_MS 5000u

uint64_t slots_default_box(const struct engine *e)
{
    return e->policies->plans[0].box;
}

struct slot *slots_find_spare(const struct engine *e, uint32_t policy)
{
    struct slot *s = TAILQ_FIRST(&e->spares);
    while (s && s->box != e->policies->plans[policy].box)
        s = TAILQ_NEXT(s, in_list);
    return s;
}

void slots_back_off(struct engine *e)
{
    uint64_t backoff = START_BACKOFF_MS << (e->start_failures < 6 ? e->start_failures : 6);
    e->start_failures++;
    e->no_start_before_ns =
        clock_now_ns() +
        (backoff < START_BACKOFF_MAX_MS ? backoff : START_BACKOFF_MAX_MS) * CLOCK_NS_PER_MS;
}

static bool start_one(struct engine *e, uint32_t policy)
{
    struct slot *s = TAILQ_FIRST(&e->free);
    int r = s ? slot_start(s, policy) : 0;
    if (r < 0) {
        LOG(ERROR, "zygote_start_failed", F_STR("error", strerror(-r)));
        e->no_start_before_ns = clock_now_ns() + START_BACKOFF_MS * CLOCK_NS_PER_MS;
        if (!e->ever_started) /* later the next activation tries; runs need the descriptors more */
            (void)loop_timer_set(&e->loop, &e->refill, e->no_start_before_ns);
        ns_fail_waiting(e, OUT_OF_DESCRIPTORS);
    }
    return s && r == 0;
}

static size_t count_starting_others(const struct engine *e)
{
    const struct slot *s;
    size_t n = 0;
    TAILQ_FOREACH(s, &e->starting, in_list)
    n += s->box != slots_default_box(e);
    return n;
}

/* One for each namespace that waits for another kind than the pool's; which one gets which is seen
 * when they are there. Returns how many wait so. */
static size_t start_others(struct engine *e)
{
    size_t starting = e->policies->count > 1 ? count_starting_others(e) : 0, waiting = 0;
    size_t started = 0, held = 0;
    const char *full = NULL;
    struct ns *ns;
    if (e->policies->count == 1)
        return 0;
    TAILQ_FOREACH(ns, &e->waiting, in_waiting)
    {
        const struct run *run = ns_find_wanted(ns);
        if (!run || e->policies->plans[run->policy].box == slots_default_box(e) ||
            ns_is_held_back(ns, &full))
            continue;
        waiting++;
        held += !probe_lets(run); /* its box is still to be proven */
        if (!probe_lets(run) || waiting - held <= starting ||
            starting + started >= OTHERS_AT_ONCE || e->starting_count >= STARTS_AT_ONCE ||
            clock_now_ns() < e->no_start_before_ns)
            continue;
        if (!start_one(e, run->policy))
            break;
        started++;
    }
    return waiting;
}

void slots_refill(struct engine *e)
{
    uint64_t now = clock_now_ns();
    size_t others = e->stopping ? 0 : start_others(e);
    fresh_prepare(e);
    size_t room = e->set.active_max > e->bound_count ? e->set.active_max - e->bound_count : 0;
    size_t waiting = e->waiting_count - ns_count_held_back(e) - others;
    size_t want = (e->draining ? 0 : e->set.spares) + (waiting < room ? waiting : room);
    if (!e->proven) /* proves at start that one can be had, and that it holds */
        want = e->ever_started ? waiting : 1;
    if (others > 0 && now < e->no_start_before_ns)
        (void)loop_timer_set(&e->loop, &e->refill, e->no_start_before_ns);
    if (e->stopping || e->spare_count + e->starting_count - count_starting_others(e) >= want)
        return;
    /* A start takes the processors from an activation under way: not before a pause, unless three
     * quarters of the pool are gone. */
    uint64_t not_before = e->no_start_before_ns;
    if (waiting == 0 && e->spare_count * 4 > e->set.spares && not_before < e->refill_after_ns)
        not_before = e->refill_after_ns;
    if (now < not_before) {
        (void)loop_timer_set(&e->loop, &e->refill, not_before);
        return;
    }
    while (e->spare_count + e->starting_count - count_starting_others(e) < want &&
           e->starting_count < STARTS_AT_ONCE && start_one(e, 0))
        ;
}

void slots_refill_later(struct engine *e)
{
    e->refill_after_ns = clock_now_ns() + REFILL_PAUSE_MS * CLOCK_NS_PER_MS;
    (void)loop_timer_set(&e->loop, &e->refill, e->refill_after_ns);
}

static void on_refill(struct loop_timer *t)
{
    slots_refill(CONTAINER_OF(t, struct engine, refill));
}

void slots_init_pool(struct engine *e)
{
    TAILQ_INIT(&e->free);
    TAILQ_INIT(&e->spares);
    TAILQ_INIT(&e->starting);
    e->refill.on_due = on_refill;
}

void slots_on_policies(struct engine *e)
{
    struct slot *s, *next;
    while (fresh_end_one(e))
        ;
    for (s = TAILQ_FIRST(&e->spares); s; s = next) {
        next = TAILQ_NEXT(s, in_list);
        if (s->box != slots_default_box(e))
            slot_end_spare(s);
    }
    ns_serve_waiting(e);
    slots_refill(e);
}
