/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/engine_slot_events - what happens to a zygote, as events of the table in
 * engine_slots.c.
 *
 * Three speak of a zygote: itself, on the socket that the engine keeps one end of; priv, which
 * starts, equips and ends it; and the clock. None of them acts here; each word becomes an event,
 * and two that belong together become one: a zygote has started when it says so and priv has
 * answered.
 */
#include "lib/fd.h"
#include "lib/log.h"
#include "lib/packet.h"
#include "supervisor/engine_slots.h"
#include <sys/socket.h>

static const char it_died[] = "it died";

static void on_report(struct slot *s, const struct zyg_report *report)
{
    struct event ev = {
        .what = EV_BROKEN, .report = report, .text = "it speaks another language", .fd = -1};
    char text[160];
    switch (report->event) {
    case ZYG_SPARE:
        s->spare_came = true;
        if (!s->reply_came)
            return;
        ev.what = EV_STARTED;
        break;
    case ZYG_READY:
        ev.what = EV_READY;
        break;
    case ZYG_DONE:
        if (s->state != SLOT_BUSY || report->run_id == s->ns->running->sent_id)
            ev.what = EV_DONE;
        break;
    case ZYG_FAILED:
        (void)snprintf(text, sizeof text, "%s: %s", zyg_step_name(report->step),
                       strerror(report->step_errno));
        ev.text = text;
        break;
    default:
        break;
    }
    slot_step(s, &ev);
}

static void on_ctl(struct loop_io *io, uint32_t events)
{
    struct slot *s = CONTAINER_OF(io, struct slot, ctl);
    struct zyg_report report;
    int fds[PACKET_FDS_MAX];
    size_t nfds;
    (void)events;
    ssize_t n = packet_recv(io->fd, &report, sizeof report, fds, &nfds);
    if (n == -EAGAIN)
        return;
    if (n == (ssize_t)sizeof report) {
        on_report(s, &report);
    } else if (n == 0 && (s->state == SLOT_STARTING || s->state == SLOT_JOINING) &&
               !s->reply_came) {
        s->hung_up = true; /* perhaps priv never started it: its word on that is on its way */
        loop_io_del(&s->engine->loop, io);
    } else {
        slot_step(s, &(struct event){
                         .what = EV_BROKEN, .text = n == 0 ? it_died : "it broke off", .fd = -1});
    }
    for (size_t i = 0; n > 0 && i < nfds; i++)
        fd_close(&fds[i]);
}

static void on_timer(struct loop_timer *t)
{
    slot_step(CONTAINER_OF(t, struct slot, timer), &(struct event){.what = EV_OVERDUE, .fd = -1});
}

static void on_started(struct slot *s, const struct priv_reply *reply, int *fds, size_t nfds)
{
    size_t n = 0;
    if ((size_t)__builtin_popcount(reply->detail & ((1u << PRIV_COUNTERS) - 1)) != nfds ||
        engine_fds_are_short(s->engine, fds, nfds)) {
        ns_shed_idle(s->engine);
        slot_step(s, &(struct event){.what = EV_BROKEN, .text = OUT_OF_DESCRIPTORS, .fd = -1});
        return;
    }
    for (uint32_t i = 0; i < PRIV_COUNTERS; i++)
        if (reply->detail & (1u << i))
            s->counters[i] = fd_take(&fds[n++]);
    slot_begin_counters(s);
    s->engine->zygote_execs = reply->detail & PRIV_ZYGOTE_EXECS;
    s->reply_came = true;
    if (s->hung_up)
        slot_step(s, &(struct event){.what = EV_BROKEN, .text = it_died, .fd = -1});
    else if (s->spare_came)
        slot_step(s, &(struct event){.what = EV_STARTED, .fd = -1});
}

static void on_limit_reply(struct slot *s, const struct priv_reply *reply)
{
    struct run *next = ns_peek_next(s->ns);
    if (s->state != SLOT_LIMITING)
        return;
    if (reply->error) {
        bool is_its = next && next->id == s->asked_for; /* or another came first meanwhile */
        s->asked = (struct policy_group){0};            /* unknown: the next run asks again */
        if (is_its && reply->error != ESTALE) {
            LOG(WARN, "limits_refused", F_STR("ns", s->ns->id), F_STR("error", reply->text));
            ns_dequeue(next);
            run_fail_limits(next, reply->error == EBUSY);
        }
    }
    slot_step(s, &(struct event){.what = EV_LIMITED, .fd = -1});
}

void slot_on_priv_reply(struct engine *e, const struct priv_reply *reply, int *fds, size_t nfds)
{
    if (reply->slot >= e->slot_count)
        return;
    struct slot *s = &e->slots[reply->slot];
    struct event ev = {.what = EV_BROKEN, .text = reply->text, .fd = -1};
    if (reply->verb == PRIV_END_ZYGOTE) {
        s->kept = reply->detail;
        slot_step(s, &(struct event){.what = EV_ENDED, .fd = -1});
    } else if (s->state == SLOT_DYING || s->state == SLOT_FREE) {
        return; /* overtaken by its end; the caller closes the descriptors */
    } else if (reply->verb == PRIV_LIMIT_ZYGOTE) {
        on_limit_reply(s, reply);
    } else if (reply->error == ESTALE) {
        slot_drop_stale(s);
    } else if (reply->error) {
        slot_step(s, &ev);
    } else if (reply->verb == PRIV_START_ZYGOTE) {
        on_started(s, reply, fds, nfds);
    } else if (nfds == 1) {
        ev.what = EV_ATTACHED;
        ev.fd = fd_take(&fds[0]);
        slot_step(s, &ev);
        fd_close(&ev.fd);
    } else {
        ns_shed_idle(e);
        ev.text = OUT_OF_DESCRIPTORS;
        slot_step(s, &ev);
    }
}

/* ---- where they come from ----------------------------------------------------------------------
 */

void slots_init(struct engine *e)
{
    slots_init_pool(e);
    for (uint32_t i = 0; i < e->slot_count; i++) {
        struct slot *s = &e->slots[i];
        *s = (struct slot){
            .engine = e, .index = i, .run_fd = -1, .ctl = {.fd = -1, .on_ready = on_ctl}};
        s->timer.on_due = on_timer;
        s->cpu_limit.on_due = slot_on_cpu_limit;
        for (size_t k = 0; k < PRIV_COUNTERS; k++)
            s->counters[k] = -1;
        TAILQ_INSERT_TAIL(&e->free, s, in_list);
    }
}

static int open_sockets(struct slot *s, int far[2])
{
    int ctl[2], run[2];
    int r = packet_pair(ctl, true);
    if (r < 0)
        return r;
    r = packet_pair(run, true);
    if (r < 0) {
        fd_close(&ctl[0]);
        fd_close(&ctl[1]);
        return r;
    }
    s->ctl.fd = ctl[0];
    s->run_fd = run[0];
    far[0] = ctl[1];
    far[1] = run[1];
    bool is_short =
        engine_fds_are_short(s->engine, ctl, 2) || engine_fds_are_short(s->engine, run, 2);
    r = is_short ? -EMFILE : loop_io_add(&s->engine->loop, &s->ctl, EPOLLIN);
    if (r < 0) {
        fd_close(&s->ctl.fd);
        fd_close(&s->run_fd);
        fd_close(&far[0]);
        fd_close(&far[1]);
    }
    return r;
}

/* The two sockets of a zygote; far ends in `far`. 0 or -errno, then nothing is open. */
static int connect_slot(struct slot *s, int far[2])
{
    int r = open_sockets(s, far);
    if (r < 0)
        ns_shed_idle(s->engine);
    return r;
}

static void ask_start(struct slot *s, uint32_t policy, uint32_t join, const int far[2])
{
    struct engine *e = s->engine;
    struct priv_request req = {.verb = PRIV_START_ZYGOTE,
                               .slot = s->index,
                               .join = join,
                               .policy = policy,
                               .generation = e->generation};
    s->home_cpu = ZYG_ANY_CPU;
    s->box = e->policies->plans[policy].box;
    s->group = e->policies->plans[policy].limits.group;
    slot_arm(s, SLOT_STEP_MS);
    engine_ask_priv(e, &req, far, 2);
}

int slot_start(struct slot *s, uint32_t policy)
{
    struct engine *e = s->engine;
    int far[2], r = connect_slot(s, far);
    if (r < 0)
        return r;
    TAILQ_REMOVE(&e->free, s, in_list);
    s->state = SLOT_STARTING;
    TAILQ_INSERT_TAIL(&e->starting, s, in_list);
    e->starting_count++;
    ask_start(s, policy, 0, far);
    return 0;
}

/* Beside the pool, of which it takes nothing: it is started when it is wanted. */
bool slot_join(struct ns *companion, const struct slot *home, uint32_t policy)
{
    struct engine *e = companion->engine;
    struct slot *s = TAILQ_FIRST(&e->free);
    int far[2];
    if (!s || e->stopping || connect_slot(s, far) < 0)
        return false;
    TAILQ_REMOVE(&e->free, s, in_list);
    s->state = SLOT_JOINING;
    s->ns = companion;
    companion->slot = s;
    e->total.activations++;
    ask_start(s, policy, home->index + 1, far);
    return true;
}
