/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/engine_stages - the parts of a run follow each other: compile, run, and behind them
 * the hand-over of artifacts.
 *
 * A later stage is put in front of its namespace's queue and goes the way of any run, so its slot
 * may get other limits in between, but it stays in the zygote that it began in: one that is gone
 * ends the run. A stage that did not exit with 0 is the last one. Artifacts are handed over by a
 * run of our own that nobody waits for: its namespace takes no other one meanwhile.
 */
#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/packet.h"
#include "supervisor/engine.h"
#include <sched.h>

#define NULL_FD 0 /* as main.c left it */
#define COLLECT_MS 10000u

struct stage *run_stage(struct run *run)
{
    return &run->stages[run->stage_at];
}

bool run_goes_on(const struct run *run)
{
    return run->stage_at > 0 || run->kind == RUN_COLLECT;
}

struct policy_group run_limits(const struct slot *s, struct run *run)
{
    const struct stage *st = run_stage(run);
    if (run->kind == RUN_COLLECT)
        return s->group;
    struct policy_group g = s->engine->policies->plans[run->policy].limits.group;
    if (st->memory_bytes && st->memory_bytes < g.memory_bytes)
        g.memory_bytes = st->memory_bytes;
    if (st->pids_max && st->pids_max < g.pids_max)
        g.pids_max = st->pids_max;
    return g;
}

/* With fewer runs than processors a zygote lives on one that is not the engine's: its forks go on
 * behind the answer while engine and frontend have theirs, and it does not wander (measured: 0.44
 * ms a run against 0.60 on the engine's and 0.58 anywhere). With more, the scheduler knows better.
 */
static uint32_t choose_home(struct slot *s)
{
    const struct engine *e = s->engine;
    int own = sched_getcpu();
    if (own < 0 || e->busy_count + 1 >= e->cpu_count)
        return ZYG_ANY_CPU;
    if (s->home_cpu == ZYG_ANY_CPU || s->home_cpu == (uint32_t)own)
        s->home_cpu = ((uint32_t)own + 1 + (uint32_t)e->busy_count) % e->cpu_count;
    return s->home_cpu;
}

int run_send(struct run *run, struct slot *s)
{
    struct engine *e = s->engine;
    struct stage *st = run_stage(run);
    struct zyg_run *head = st->message;
    int fds[ENGINE_STAGE_FDS_MAX];
    head->home_cpu = choose_home(s);
    head->run_id = run->sent_id = ++e->last_sent_id;
    for (size_t i = 0; i < st->nfds; i++)
        fds[i] = st->fds[i] >= 0 ? st->fds[i] : NULL_FD;
    int r = packet_send(s->run_fd, st->message, st->message_bytes, fds, st->nfds);
    if (r < 0)
        return r;
    run->started_ns = clock_now_ns();
    if (run->stage_at == 0)
        run->queue_us = (run->started_ns - run->accepted_ns) / 1000;
    stage_drop(e, st);
    run_watch_cpu(run, s);
    if (run->told_waiting)
        run_tell_waiting(run, false);
    return 0;
}

/* ---- what follows ------------------------------------------------------------------------------
 */

/* A run of our own behind this one: to the artifacts' socket, in the same zygote. */
static bool start_collector(struct run *run)
{
    struct engine *e = run->ns->engine;
    struct proto_files_ask ask = {.magic = PROTO_FILES_MAGIC,
                                  .op = PROTO_FILES_COLLECT,
                                  .count_max = run->artifact_files_max,
                                  .bytes_max = run->artifact_bytes_max,
                                  .path = ZYG_OUTPUTS};
    struct pack pack = {.magic = ZYG_FILES_MAGIC, .cmd = &ask, .cmd_len = sizeof ask, .cwd = ""};
    struct run *c = calloc(1, sizeof *c);
    if (!c)
        return false;
    *c = (struct run){.id = run->id,
                      .kind = RUN_COLLECT,
                      .ns = run->ns,
                      .artifacts_fd = -1,
                      .stage_count = 1,
                      .accepted_ns = clock_now_ns()};
    c->stages[0].timeout_ms = COLLECT_MS;
    if (stage_pack(e, &c->stages[0], &pack) < 0) {
        free(c);
        return false;
    }
    int null = -1;
    stage_take_fd(e, &c->stages[0], &null);
    stage_take_fd(e, &c->stages[0], &run->artifacts_fd);
    e->held_fds--; /* was counted where it came from */
    stage_take_fd(e, &c->stages[0], &null);
    e->open_runs++;
    ns_put_back(c);
    return true;
}

static void note_stage(struct run *run, const struct proto_result *r)
{
    struct proto_stage *to = &run->done[run->stage_at];
    *to = (struct proto_stage){.reason = r->reason,
                               .exited = r->exited,
                               .exit_code = r->exit_code,
                               .signal = r->signal,
                               .wall_us = r->wall_us,
                               .cpu_us = r->cpu_us,
                               .max_rss_kb = r->max_rss_kb};
    memcpy(to->name, run_stage(run)->name, sizeof to->name);
}

void run_advance(struct run *run, struct proto_result *result, bool has_outputs)
{
    struct engine *e = run->ns->engine;
    bool fine = result->reason == PROTO_REASON_EXIT && result->exit_code == 0;
    note_stage(run, result);
    if (fine && run->stage_at + 1 < run->stage_count) {
        run->stage_at++;
        const char *why = run_choose_anew(e, run); /* its policy may have got another number */
        if (why)
            run_fail_policy(run, why);
        else
            ns_put_back(run);
        return;
    }
    if (*run_stage(run)->name) {
        result->stage_count = run->stage_at + 1;
        memcpy(result->stages, run->done, sizeof run->done);
    }
    if (has_outputs && run->client && run->artifacts_fd >= 0 &&
        run->stage_at + 1 == run->stage_count)
        result->collecting = start_collector(run);
    run_answer(run, result);
}
