/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/engine_slots - the life of a zygote as the engine sees it, as one table.
 *
 * A slot is FREE until priv is asked for a zygote; that becomes a spare, is given to a namespace,
 * and alternates between READY and BUSY until it is ended. Each state that waits has a deadline in
 * the slot's one timer; in READY it is when the standby is retired. Whatever is unexpected ends the
 * zygote: its volume survives, its namespace gets another. Where events come from:
 * engine_slot_events.c; which zygotes there are to be: engine_pool.c.
 */
#include "supervisor/engine_slots.h"
#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "lib/packet.h"

#define REPORT_MS 1000u /* beyond deadline and grace: the engine's second clock */
#define CANCEL_MS 1000u /* from ZYG_CANCEL to the report */

static const char *const state_names[SLOT_STATES] = {
    "free",      "starting", "joining",  "spare", "attaching",
    "assigning", "ready",    "limiting", "busy",  "dying",
};

const char *slot_state_name(enum slot_state state)
{
    return state_names[state];
}

void slot_arm(struct slot *s, uint64_t ms)
{
    if (!loop_timer_set(&s->engine->loop, &s->timer, clock_now_ns() + ms * CLOCK_NS_PER_MS))
        LOG(ERROR, "out_of_memory", F_STR("for", "timer"));
}

static void set_standby(struct slot *s, bool has)
{
    s->engine->standby_count += has;
    s->engine->standby_count -= s->has_standby;
    s->has_standby = has;
}

/* ---- acts --------------------------------------------------------------------------------------
 */

static void leave_starting(struct slot *s)
{
    TAILQ_REMOVE(&s->engine->starting, s, in_list);
    s->engine->starting_count--;
}

static bool is_companions(const struct slot *s)
{
    return s->ns && s->ns->parent;
}

/* When its standby is retired. A session is what it is: there is nothing to take back; and of one
 * that was made ahead it is what that was made for. */
static void arm_idle(struct slot *s)
{
    if (s->ns->companion == PROTO_COMPANION_SESSION || s->ns->is_ahead)
        loop_timer_cancel(&s->engine->loop, &s->timer);
    else
        slot_arm(s, s->engine->set.standby_idle_ms);
}

/* Asks priv to end it. From here on nothing is heard of the zygote but priv's word. */
static void end_zygote(struct slot *s)
{
    struct engine *e = s->engine;
    struct priv_request req = {.verb = PRIV_END_ZYGOTE, .slot = s->index};
    s->greeted = false;
    if (s->ns && s->ns->companion_count)
        companions_end(s->ns, NULL);
    loop_io_del(&e->loop, &s->ctl);
    fd_close(&s->ctl.fd);
    fd_close(&s->run_fd);
    set_standby(s, false);
    loop_timer_cancel(&e->loop, &s->timer);
    loop_timer_cancel(&e->loop, &s->cpu_limit);
    e->dying_count += !is_companions(s);
    engine_ask_priv(e, &req, NULL, 0);
}

void slot_end_spare(struct slot *s)
{
    struct engine *e = s->engine;
    TAILQ_REMOVE(&e->spares, s, in_list);
    e->spare_count--;
    s->state = SLOT_DYING;
    end_zygote(s);
}

/* What was asked for belonged to policies that were replaced meanwhile: nobody's fault, again. */
void slot_drop_stale(struct slot *s)
{
    if (s->state == SLOT_STARTING)
        leave_starting(s);
    s->state = SLOT_DYING;
    end_zygote(s);
}

/* The pool is of the default policy's kind: another was started for a namespace that waits. */
static void act_offer(struct slot *s, struct event *ev)
{
    struct engine *e = s->engine;
    (void)ev;
    loop_timer_cancel(&e->loop, &s->timer);
    leave_starting(s);
    e->start_failures = 0;
    e->spare_count++;
    TAILQ_INSERT_TAIL(&e->spares, s, in_list);
    bool first = !e->ever_started;
    e->ever_started = true;
    if (first)
        engine_on_first_spare(e);
    ns_serve_waiting(e);
    if (s->state == SLOT_SPARE && s->box != slots_default_box(e))
        slot_end_spare(s);
    slots_refill(e);
}

static void act_start_failed(struct slot *s, struct event *ev)
{
    struct engine *e = s->engine;
    const char *text = ev->text ? ev->text : "a zygote did not start in time";
    leave_starting(s);
    slots_back_off(e);
    e->total.activation_failures++;
    LOG(ERROR, "zygote_start_failed", F_U64("slot", s->index), F_STR("error", text));
    end_zygote(s);
    ns_fail_waiting(e, text);
    probe_log_step(s, ev->report, text);
    if (e->ever_started)
        return;
    engine_down(e, 1); /* what cannot start one zygote is not a service: fail closed */
}

static void act_lose_spare(struct slot *s, struct event *ev)
{
    struct engine *e = s->engine;
    LOG(WARN, "spare_lost", F_U64("slot", s->index), F_STR("error", ev->text));
    TAILQ_REMOVE(&e->spares, s, in_list);
    e->spare_count--;
    e->total.zygotes_lost++;
    end_zygote(s);
    slots_refill(e);
}

/* Does the next run need another zygote, or other limits, than there are? */
static bool fits_box(const struct slot *s, const struct run *run)
{
    return run_goes_on(run) ||
           (s->engine->policies->plans[run->policy].box == s->box && probe_lets(run));
}

static bool fits_limits(const struct slot *s, struct run *run, struct policy_group *ret)
{
    *ret = run_limits(s, run);
    return memcmp(ret, &s->group, sizeof *ret) == 0;
}

/* Sends what is next on the namespace's queue; false: nothing, or it could not be sent. */
static bool send_run(struct slot *s)
{
    struct run *run = ns_take_next(s->ns);
    if (!run)
        return false;
    if (run_send(run, s) < 0) {
        ns_put_back(run);
        slot_step(s,
                  &(struct event){.what = EV_BROKEN, .text = "it does not take its run", .fd = -1});
        return false;
    }
    s->state = SLOT_BUSY;
    s->ns->running = run;
    s->engine->busy_count++;
    slot_arm(s, run_stage(run)->timeout_ms + s->engine->set.grace_ms + REPORT_MS);
    return true;
}

/* The run follows at once: it waits in its socket while the zygote sets itself up. */
static void assign(struct slot *s, const struct zyg_order *order, int *volume)
{
    struct run *next = ns_peek_next(s->ns);
    struct policy_group limits;
    int r = packet_send(s->ctl.fd, order, sizeof *order, volume, *volume >= 0);
    fd_close(volume);
    slot_arm(s, SLOT_STEP_MS);
    if (r < 0)
        slot_step(s, &(struct event){.what = EV_BROKEN,
                                     .text = "the zygote does not take its volume",
                                     .fd = -1});
    else if (next && !s->ns->removing && fits_box(s, next) && fits_limits(s, next, &limits) &&
             run_may_begin(next))
        (void)send_run(s);
}

static void act_assign(struct slot *s, struct event *ev)
{
    struct zyg_order order = {.verb = ZYG_ASSIGN};
    ns_on_volume(s->ns);
    (void)snprintf(order.ns_id, sizeof order.ns_id, "%s", s->ns->id);
    assign(s, &order, &ev->fd);
}

/* It has its parent's home, name and network. */
static void act_join(struct slot *s, struct event *ev)
{
    struct zyg_order order = {.verb = ZYG_ASSIGN, .flags = ZYG_JOINED};
    int none = -1;
    (void)ev;
    order.flags |= s->ns->companion == PROTO_COMPANION_SESSION ? ZYG_SESSION : 0;
    (void)snprintf(order.ns_id, sizeof order.ns_id, "%s", s->ns->parent->id);
    assign(s, &order, &none);
}

/* Its home is memory as /tmp is: together they leave a quarter of what there is to programs. */
static void assign_fresh(struct slot *s)
{
    struct zyg_order order = {.verb = ZYG_ASSIGN, .flags = ZYG_FRESH, .ns_id = "fresh"};
    const struct run *next = ns_peek_next(s->ns);
    uint32_t policy = next ? next->policy : ns_own_policy(s->ns);
    const struct policy_limits *l = &s->engine->policies->plans[policy].limits;
    uint64_t most = (l->group.memory_bytes - l->tmp_bytes) / 2;
    int none = -1;
    order.fresh_bytes = s->engine->set.fresh_bytes < most ? s->engine->set.fresh_bytes : most;
    s->state = SLOT_ASSIGNING;
    assign(s, &order, &none);
}

static void act_activation_failed(struct slot *s, struct event *ev)
{
    const char *text = ev->text ? ev->text : "the namespace was not ready in time";
    s->engine->total.activation_failures++;
    LOG(ERROR, "activation_failed", F_STR("ns", s->ns->id), F_STR("error", text));
    probe_log_step(s, ev->report, text);
    end_zygote(s);
    ns_fail_queue(s->ns, PROTO_ACTIVATION_FAILED, text);
}

static void act_greet(struct slot *s, struct event *ev)
{
    (void)ev;
    set_standby(s, true);
    s->greeted = true;
    arm_idle(s);
    ns_settle(s->ns);
}

static void act_limited(struct slot *s, struct event *ev)
{
    (void)ev;
    s->group = s->asked;
    arm_idle(s);
    ns_settle(s->ns);
}

static void act_retire_standby(struct slot *s, struct event *ev)
{
    struct zyg_run retirement = {.magic = ZYG_RETIRE_MAGIC};
    (void)ev;
    set_standby(s, false);
    if (packet_send(s->run_fd, &retirement, sizeof retirement, NULL, 0) < 0)
        slot_step(s, &(struct event){.what = EV_BROKEN, .text = "it does not listen", .fd = -1});
}

static void act_lose(struct slot *s, struct event *ev)
{
    s->engine->total.zygotes_lost++;
    LOG(WARN, "zygote_lost", F_STR("ns", s->ns->id),
        F_STR("error", ev->text ? ev->text : "its limits were not set in time"));
    end_zygote(s);
}

static void act_finish(struct slot *s, struct event *ev)
{
    struct run *run = s->ns->running;
    s->engine->busy_count--;
    s->ns->running = NULL;
    arm_idle(s);
    s->ns->over |= ev->report->ended && is_companions(s);
    run_finish(run, s, ev->report);
    ns_settle(s->ns);
}

static void act_note_ready(struct slot *s, struct event *ev)
{
    (void)ev;
    set_standby(s, true);
    s->greeted = true;
    companions_serve(s->ns);
}

/* A companion's, which nobody wants any more, or which cannot be without its parent's. */
static void act_abandon(struct slot *s, struct event *ev)
{
    struct ns *ns = s->ns;
    struct run *run = ns->running;
    end_zygote(s);
    s->engine->busy_count -= run != NULL;
    ns->running = NULL;
    if (run && (ev->cancelled || run->cancelled))
        run_end(run, ev->text);
    else if (run)
        run_fail(run, PROTO_INTERNAL, ev->text);
    if (ev->cancelled)
        ns_cancel_queue(ns, ev->text);
    else
        ns_fail_queue(ns, PROTO_ACTIVATION_FAILED, ev->text);
}

static void act_fail_run(struct slot *s, struct event *ev)
{
    struct run *run = s->ns->running;
    bool was_ready = s->has_standby;
    s->engine->total.zygotes_lost++;
    LOG(ERROR, "zygote_lost", F_STR("ns", s->ns->id), F_U64("run_id", run->id),
        F_STR("error", ev->text));
    probe_log_step(s, ev->report, ev->text);
    end_zygote(s);
    s->engine->busy_count--;
    s->ns->running = NULL;
    if (run->cancelled)
        run_overdue(run);
    else if (was_ready)
        run_fail(run, PROTO_INTERNAL, "the namespace's zygote died during the run");
    else
        run_fail(run, PROTO_ACTIVATION_FAILED, ev->text);
}

static void act_overdue_run(struct slot *s, struct event *ev)
{
    struct run *run = s->ns->running;
    (void)ev;
    s->engine->total.zygotes_lost++;
    LOG(ERROR, "zygote_overdue", F_STR("ns", s->ns->id), F_U64("run_id", run->id));
    end_zygote(s);
    s->engine->busy_count--;
    s->ns->running = NULL;
    run_overdue(run);
}

static void act_forget(struct slot *s, struct event *ev)
{
    struct engine *e = s->engine;
    struct ns *ns = s->ns;
    (void)ev;
    for (size_t i = 0; i < PRIV_COUNTERS; i++)
        fd_close(&s->counters[i]);
    s->ns = NULL;
    s->spare_came = s->reply_came = s->hung_up = false;
    if (s->kept)
        TAILQ_INSERT_HEAD(&e->free, s, in_list);
    else
        TAILQ_INSERT_TAIL(&e->free, s, in_list);
    if (!ns || !ns->parent) {
        e->dying_count--;
        e->bound_count -= ns != NULL;
        e->fresh_count -= ns && ns->is_fresh;
    }
    if (ns)
        ns_on_slot_gone(ns);
    ns_serve_waiting(e);
    slots_refill(e);
}

/* An empty cell cannot happen: the zygote is ended and a bug reported. */
static const struct {
    enum slot_state next;
    void (*act)(struct slot *s, struct event *ev);
} table[SLOT_STATES][SLOT_EVENTS] = {
    [SLOT_STARTING] = {[EV_STARTED] = {SLOT_SPARE, act_offer},
                       [EV_BROKEN] = {SLOT_DYING, act_start_failed},
                       [EV_OVERDUE] = {SLOT_DYING, act_start_failed}},
    [SLOT_JOINING] = {[EV_STARTED] = {SLOT_ASSIGNING, act_join},
                      [EV_BROKEN] = {SLOT_DYING, act_activation_failed},
                      [EV_OVERDUE] = {SLOT_DYING, act_activation_failed},
                      [EV_ABANDONED] = {SLOT_DYING, act_abandon}},
    [SLOT_SPARE] = {[EV_BROKEN] = {SLOT_DYING, act_lose_spare}},
    [SLOT_ATTACHING] = {[EV_ATTACHED] = {SLOT_ASSIGNING, act_assign},
                        [EV_BROKEN] = {SLOT_DYING, act_activation_failed},
                        [EV_OVERDUE] = {SLOT_DYING, act_activation_failed}},
    [SLOT_ASSIGNING] = {[EV_READY] = {SLOT_READY, act_greet},
                        [EV_BROKEN] = {SLOT_DYING, act_activation_failed},
                        [EV_OVERDUE] = {SLOT_DYING, act_activation_failed},
                        [EV_ABANDONED] = {SLOT_DYING, act_abandon}},
    [SLOT_READY] = {[EV_OVERDUE] = {SLOT_READY, act_retire_standby},
                    [EV_BROKEN] = {SLOT_DYING, act_lose},
                    [EV_ABANDONED] = {SLOT_DYING, act_abandon}},
    [SLOT_LIMITING] = {[EV_LIMITED] = {SLOT_READY, act_limited},
                       [EV_BROKEN] = {SLOT_DYING, act_lose},
                       [EV_OVERDUE] = {SLOT_DYING, act_lose},
                       [EV_ABANDONED] = {SLOT_DYING, act_abandon}},
    [SLOT_BUSY] = {[EV_READY] = {SLOT_BUSY,
                                 act_note_ready}, /* its first run came with the volume */
                   [EV_DONE] = {SLOT_READY, act_finish},
                   [EV_BROKEN] = {SLOT_DYING, act_fail_run},
                   [EV_OVERDUE] = {SLOT_DYING, act_overdue_run},
                   [EV_ABANDONED] = {SLOT_DYING, act_abandon}},
    [SLOT_DYING] = {[EV_ENDED] = {SLOT_FREE, act_forget}},
};

void slot_step(struct slot *s, struct event *ev)
{
    enum slot_state was = s->state;
    if (!table[was][ev->what].act) {
        LOG(ERROR, "bug_slot_event", F_U64("slot", s->index), F_STR("state", slot_state_name(was)),
            F_U64("event", ev->what));
        if (table[was][EV_BROKEN].act && ev->what != EV_BROKEN)
            slot_step(s, &(struct event){
                             .what = EV_BROKEN, .text = "it did what it should not", .fd = -1});
        return;
    }
    s->state = table[was][ev->what].next;
    table[was][ev->what].act(s, ev);
}

/* ---- what others ask for -----------------------------------------------------------------------
 */

void slot_attach(struct slot *s, struct ns *ns)
{
    struct engine *e = s->engine;
    struct priv_request req = {.verb = PRIV_ATTACH_VOLUME, .slot = s->index};
    const struct run *next = ns_peek_next(ns);
    TAILQ_REMOVE(&e->spares, s, in_list);
    e->spare_count--;
    e->bound_count++;
    e->fresh_count += ns->is_fresh;
    e->total.activations++;
    s->ns = ns;
    ns->slot = s;
    if (ns->is_fresh) {
        assign_fresh(s);
        return;
    }
    if (!next ||
        memcmp(&s->group, &e->policies->plans[next->policy].limits.group, sizeof s->group) != 0)
        s->group = (struct policy_group){0}; /* priv may put others in their place */
    s->state = SLOT_ATTACHING;
    (void)snprintf(req.ns_id, sizeof req.ns_id, "%s", ns->id);
    slot_arm(s, SLOT_STEP_MS);
    engine_ask_priv(e, &req, NULL, 0);
}

/* The cgroup gets what the next run is to have; the run follows priv's answer. */
static void ask_limits(struct slot *s, const struct run *run, const struct policy_group *limits)
{
    struct priv_request req = {.verb = PRIV_LIMIT_ZYGOTE,
                               .slot = s->index,
                               .policy = run->policy,
                               .generation = s->engine->generation,
                               .memory_bytes = limits->memory_bytes,
                               .pids_max = limits->pids_max};
    s->state = SLOT_LIMITING;
    s->asked = *limits;
    s->asked_for = run->id;
    slot_arm(s, SLOT_STEP_MS);
    engine_ask_priv(s->engine, &req, NULL, 0);
}

void slot_want_run(struct slot *s)
{
    struct run *run = ns_peek_next(s->ns);
    struct policy_group limits;
    if (s->state != SLOT_READY || !run)
        return;
    if (!fits_box(s, run)) {
        s->engine->total.replaced++;
        if (is_companions(s) && s->ns->start == PROTO_START_WARM)
            slot_abandon(s, "it ended because its policy has changed", false);
        else
            slot_end(s); /* the namespace gets another, of the right kind */
    } else if (!fits_limits(s, run, &limits)) {
        ask_limits(s, run, &limits);
    } else if (run_may_begin(run) && send_run(s)) {
        set_standby(s, true); /* also after a retirement: the run brings another */
    }
}

void slot_end(struct slot *s)
{
    if (s->state == SLOT_READY) {
        s->state = SLOT_DYING;
        end_zygote(s);
    }
}

void slot_abandon(struct slot *s, const char *text, bool cancelled)
{
    if (s->state != SLOT_DYING)
        slot_step(s, &(struct event){
                         .what = EV_ABANDONED, .text = text, .cancelled = cancelled, .fd = -1});
}

void slot_cancel_run(struct slot *s)
{
    struct zyg_order order = {.verb = ZYG_CANCEL, .run_id = s->ns->running->sent_id};
    slot_arm(s, CANCEL_MS);
    if (packet_send(s->ctl.fd, &order, sizeof order, NULL, 0) < 0)
        slot_step(s, &(struct event){.what = EV_BROKEN, .text = "it does not listen", .fd = -1});
}

void slot_signal_run(struct slot *s, int signal)
{
    struct zyg_order order = {
        .verb = ZYG_SIGNAL, .flags = (uint32_t)signal, .run_id = s->ns->running->sent_id};
    (void)packet_send(s->ctl.fd, &order, sizeof order, NULL, 0);
}
