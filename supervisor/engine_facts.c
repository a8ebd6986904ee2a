/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/engine_facts - what a stage of a run did, from the zygote's report and the counters of
 * its cgroups.
 *
 * The report is the namespace's word about itself, so what decides a reason is read from the kernel
 * where there is a counter for it. What one stage used is not told of the next: counters that can
 * be reset are, of the others it is known how they stood before.
 */
#include "lib/clock.h"
#include "lib/log.h"
#include "policy/policy.h"
#include "supervisor/engine.h"
#include <signal.h>
#include <sys/wait.h>

#define CPU_LATE_NS (5 * CLOCK_NS_PER_MS)  /* a run that is shorter is told by its processes */
#define CPU_LOOK_NS (10 * CLOCK_NS_PER_MS) /* at least, between two looks at a limit */
#define FORK_NS_MIN 10000u                 /* less than any fork takes */
#define OOM_NS_MIN 1000000u /* less than it takes to start a process and run out of memory */

/* The number behind `key ` in a counter file, or the first number when key is "". */
static uint64_t read_counter(int fd, const char *key)
{
    char text[512];
    ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof text - 1, 0);
    if (n <= 0)
        return 0;
    text[n] = 0;
    const char *at = *key ? strstr(text, key) : text;
    return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

/* Of all that was ever in the slot's cgroup, also of those whom nobody waited for; 0: not counted.
 * v1 has nanoseconds, v2 "usage_usec N". */
static uint64_t read_cpu_ns(const struct slot *s)
{
    static const char v2[] = "usage_usec ";
    char text[128];
    int fd = s->counters[CGROUP_CPU_USED];
    ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof text - 1, 0);
    if (n <= 0)
        return 0;
    text[n] = 0;
    return strncmp(text, v2, sizeof v2 - 1) ? strtoull(text, NULL, 10)
                                            : strtoull(text + sizeof v2 - 1, NULL, 10) * 1000;
}

/* ---- processor time ----------------------------------------------------------------------------
 *
 * RLIMIT_CPU is each process's own and in whole seconds. Over all of them the counter is looked at
 * when it can have come to the limit at the earliest: with all processors from now on.
 */

static void set_cpu_timer(struct slot *s, uint64_t left_ns)
{
    const struct engine *e = s->engine;
    uint64_t in_ns = left_ns / (e->cpu_count ? e->cpu_count : 1);
    (void)loop_timer_set(&s->engine->loop, &s->cpu_limit,
                         clock_now_ns() + (in_ns > CPU_LOOK_NS ? in_ns : CPU_LOOK_NS));
}

void run_watch_cpu(struct run *run, struct slot *s)
{
    s->cpu_seen_ns = read_cpu_ns(s);
    if (run_stage(run)->cpu_ms && s->cpu_seen_ns)
        set_cpu_timer(s, run_stage(run)->cpu_ms * CLOCK_NS_PER_MS);
}

void slot_on_cpu_limit(struct loop_timer *t)
{
    struct slot *s = CONTAINER_OF(t, struct slot, cpu_limit);
    struct run *run = s->ns ? s->ns->running : NULL;
    if (!run || s->state != SLOT_BUSY)
        return;
    uint64_t limit = run_stage(run)->cpu_ms * CLOCK_NS_PER_MS;
    uint64_t used = read_cpu_ns(s) - s->cpu_seen_ns;
    if (used < limit) {
        set_cpu_timer(s, limit - used);
        return;
    }
    run->cpu_used_up = true;
    slot_cancel_run(s);
}

/* What all processes used, if it was worth asking for; pid 1's word counts those that were waited
 * for. A companion's has it from the script, so there the cgroup's counts, more or less. */
static uint64_t find_cpu_ns(const struct slot *s, const struct zyg_report *report)
{
    if (report->wall_ns < CPU_LATE_NS && !report->survivors)
        return report->cpu_ns;
    uint64_t now = read_cpu_ns(s), used = now > s->cpu_seen_ns ? now - s->cpu_seen_ns : 0;
    bool decides = now && s->ns->parent;
    return decides || used > report->cpu_ns ? used : report->cpu_ns;
}

/* The script of a session can say what it likes (zygote/session.c), but not that it took more than
 * the time since it was sent, or much less. */
static void bound_times(const struct run *run, const struct slot *s, struct zyg_report *report)
{
    uint64_t elapsed = clock_now_ns() - run->started_ns, most = elapsed + CPU_LATE_NS;
    if (report->wall_ns > most || (s->ns->parent && report->wall_ns + CPU_LATE_NS < elapsed))
        report->wall_ns = elapsed;
    report->cpu_ns = find_cpu_ns(s, report);
    if (report->cpu_ns > most * s->engine->cpu_count)
        report->cpu_ns = most * s->engine->cpu_count;
}

/* ---- the reason --------------------------------------------------------------------------------
 */

static bool oom_happened(struct slot *s)
{
    return read_counter(s->counters[CGROUP_OOM], "oom_kill ") > s->oom_seen;
}

static bool pids_ran_out(struct slot *s)
{
    return read_counter(s->counters[CGROUP_PIDS], "max ") > s->pids_seen;
}

/* The kernel counts the limit in whole ticks, those that a hypervisor stole among them; the time
 * used is counted without: who died of SIGXCPU has used less by our reckoning. */
static bool cpu_ran_out(struct run *run, const struct zyg_report *report)
{
    uint64_t limit_ns = (run_stage(run)->cpu_ms + 999) / 1000 * CLOCK_NS_PER_S;
    bool told = WIFSIGNALED(report->status) ? WTERMSIG(report->status) == SIGXCPU
                                            : WEXITSTATUS(report->status) == 128 + SIGXCPU;
    return limit_ns && report->cpu_ns >= (told ? limit_ns / 2 : limit_ns);
}

static enum proto_reason find_reason(struct run *run, struct slot *s,
                                     const struct zyg_report *report)
{
    bool signaled = WIFSIGNALED(report->status);
    if (report->reason == ZYG_BY_TIMEOUT)
        return PROTO_REASON_TIMEOUT;
    if (run->cancelled)
        return PROTO_REASON_CANCELLED;
    if (report->reason == ZYG_BY_CANCEL)
        return run->cpu_used_up ? PROTO_REASON_CPU_LIMIT : PROTO_REASON_CANCELLED;
    if (!signaled && WEXITSTATUS(report->status) == 0)
        return PROTO_REASON_EXIT;
    if (oom_happened(s))
        return PROTO_REASON_OOM;
    if (pids_ran_out(s))
        return PROTO_REASON_PIDS;
    if (cpu_ran_out(run, report))
        return PROTO_REASON_CPU_LIMIT;
    if (signaled && WTERMSIG(report->status) == SIGSYS)
        return PROTO_REASON_SECCOMP;
    return signaled ? PROTO_REASON_SIGNAL : PROTO_REASON_EXIT;
}

/* What one run used must not be told of the next. Runs after the answer was sent, and reads only
 * the counters that can have moved. Nothing was killed for memory without the peak at the limit -
 * but there are limits above ours, of the service's cgroup and of the machine, so what took longer
 * or failed is asked, too. As many forks as it takes to run out of processes take time on some
 * processor. */
static void reset_counters(struct slot *s, const struct zyg_report *report, uint64_t peak)
{
    if (s->counters[CGROUP_PEAK] >= 0)
        (void)!pwrite(s->counters[CGROUP_PEAK], "0", 1, 0);
    if (peak == 0 || peak >= s->group.memory_bytes - s->group.memory_bytes / 8 ||
        report->status != 0 || report->wall_ns > OOM_NS_MIN)
        s->oom_seen = read_counter(s->counters[CGROUP_OOM], "oom_kill ");
    if (report->wall_ns * s->engine->cpu_count > s->group.pids_max * FORK_NS_MIN)
        s->pids_seen = read_counter(s->counters[CGROUP_PIDS], "max ");
}

void slot_begin_counters(struct slot *s)
{
    s->left_over = read_counter(s->counters[CGROUP_PEAK], "");
    s->oom_seen = read_counter(s->counters[CGROUP_OOM], "oom_kill ");
    s->pids_seen = read_counter(s->counters[CGROUP_PIDS], "max ");
    s->rx_seen = s->tx_seen = 0;
}

uint64_t slot_memory_left(const struct slot *s)
{
    uint64_t now = read_counter(s->counters[CGROUP_PEAK], "");
    return now > s->left_over ? now - s->left_over : 0;
}

/* Near the limit what was left over has given way. */
static uint64_t find_memory_kb(const struct slot *s, const struct zyg_report *report, uint64_t peak)
{
    if (peak == 0)
        return report->max_rss_kb;
    bool is_near = peak >= s->group.memory_bytes - s->group.memory_bytes / 8;
    return (peak - (is_near || peak < s->left_over ? 0 : s->left_over)) / 1024;
}

/* Bytes of the namespace's link since it was asked last. 0 without one. */
/* The link is the namespace's, companions use it as well: what came since somebody was told last.
 */
static uint64_t take_bytes(const struct slot *s, enum priv_counter which, uint64_t *seen)
{
    if (s->counters[which] < 0)
        return 0;
    uint64_t now = read_counter(s->counters[which], ""), before = *seen;
    *seen = now;
    return now > before ? now - before : 0;
}

/* NULL: it is not the request's fault. */
static const char *cwd_text(int error)
{
    switch (error) {
    case ENOENT:
        return "cwd does not exist";
    case ENOTDIR:
        return "cwd is not a directory";
    case EACCES:
        return "cwd may not be entered";
    case EXDEV:
        return "cwd must lie below " ZYG_HOME " or /tmp";
    case ELOOP:
        return "cwd has too many symbolic links";
    case ENAMETOOLONG:
        return "cwd is too long";
    default:
        return NULL;
    }
}

static bool is_of_request(int error)
{
    return error != EMFILE && error != ENFILE && error != ENOMEM && error != EIO && error != EBADF;
}

/* Those of its last stage, also when it did not come to that. */
static void note_limits(struct proto_result *r, const struct run *run, const struct slot *s)
{
    const struct stage *last = &run->stages[run->stage_count - 1];
    r->timeout_ms = last->timeout_ms;
    r->cpu_ms = last->cpu_ms;
    r->memory_bytes = s->group.memory_bytes; /* the policy's, or as lowered for this stage */
    if (last->memory_bytes && last->memory_bytes < r->memory_bytes)
        r->memory_bytes = last->memory_bytes;
}

static const char *place_text(int error)
{
    switch (error) {
    case EFBIG:
        return "a file is larger than the policy lets files be";
    case EINVAL:
        return "a file must come as a sealed memfd, or open for reading only";
    default:
        return "a file, or outputs, cannot be put where it belongs: something else is there";
    }
}

/* There was no room to put its files: that is how the run ended, as it would have by itself. */
static void end_for_disk(struct run *run, const struct slot *s, const struct zyg_report *report)
{
    struct proto_result result = {
        .outcome = PROTO_OK, .field = "", .text = "", .start = run->start};
    result.reason = PROTO_REASON_DISK;
    result.queue_us = run->queue_us;
    result.wall_us = report->wall_ns / 1000;
    result.cpu_us = report->cpu_ns / 1000;
    result.output_bytes_max = run->output_bytes_max;
    note_limits(&result, run, s);
    run_advance(run, &result, false);
}

static bool is_full(const struct zyg_report *report)
{
    return report->step == CHILD_STEP_PLACE &&
           (report->step_errno == ENOSPC || report->step_errno == EDQUOT);
}

static void answer_step(struct run *run, const struct zyg_report *report, const char *field,
                        const char *text)
{
    struct proto_result result = {.outcome = *field ? PROTO_BAD_REQUEST : PROTO_INTERNAL,
                                  .field = field,
                                  .text = text,
                                  .start = run->start,
                                  .queue_us = run->queue_us,
                                  .wall_us = report->wall_ns / 1000,
                                  .cpu_us = report->cpu_ns / 1000};
    run_answer(run, &result);
}

/* A child that never came to its command: some of that is the request's fault. The script of a
 * session can say so as well: what it took is told. */
static void fail_step(struct run *run, const struct zyg_report *report)
{
    char text[160];
    if (report->step == CHILD_STEP_CWD && cwd_text(report->step_errno)) {
        answer_step(run, report, "cwd", cwd_text(report->step_errno));
    } else if (report->step == CHILD_STEP_PLACE && is_of_request(report->step_errno)) {
        answer_step(run, report, "files", place_text(report->step_errno));
    } else if (report->step == CHILD_STEP_EXEC && report->step_errno == E2BIG) {
        answer_step(run, report, run->kind == RUN_CODE ? "args" : "cmd",
                    "command, arguments and environment together are too long for execve");
    } else if (report->step == CHILD_STEP_EXEC && run->kind == RUN_CODE &&
               (report->step_errno == ENOENT || report->step_errno == EACCES)) {
        answer_step(run, report, "language", "its tools are not there, or may not be executed");
    } else {
        (void)snprintf(text, sizeof text, "%s: %s", child_step_name(report->step),
                       strerror(report->step_errno));
        LOG(ERROR, "child_failed", F_STR("ns", run->ns->id), F_U64("run_id", run->id),
            F_STR("error", text));
        answer_step(run, report, "", "the command could not be started");
    }
}

/* The namespace's word: a number too many is none of ours. */
static void take_denied(struct proto_result *result, const struct zyg_report *report)
{
    _Static_assert(ZYG_DENIALS_MAX == PROTO_DENIED_MAX, "");
    _Static_assert(POLICY_SYSCALL_NAME_ROOM == PROTO_SYSCALL_ROOM, "");
    for (size_t i = 0; i < report->denied_count && i < PROTO_DENIED_MAX; i++) {
        struct proto_denied *one = &result->denied[result->denied_count++];
        policy_syscall_name(report->denied[i].nr, one->syscall, sizeof one->syscall);
        one->times = report->denied[i].times;
    }
}

void run_finish(struct run *run, struct slot *s, const struct zyg_report *told)
{
    struct zyg_report bound = *told, *report = &bound;
    struct proto_result result = {
        .outcome = PROTO_OK, .field = "", .text = "", .start = run->start};
    loop_timer_cancel(&s->engine->loop, &s->cpu_limit);
    bound_times(run, s, report);
    uint64_t peak = read_counter(s->counters[CGROUP_PEAK], "");
    if (report->reason == ZYG_BY_STEP) {
        if (is_full(report))
            end_for_disk(run, s, report);
        else
            fail_step(run, report);
        reset_counters(s, report, peak); /* putting its files in place may have met the limits */
        return;
    }
    result.reason = find_reason(run, s, report);
    result.exited = WIFEXITED(report->status);
    result.exit_code = result.exited ? WEXITSTATUS(report->status) : 0;
    result.signal = WIFSIGNALED(report->status) ? WTERMSIG(report->status) : 0;
    result.queue_us = run->queue_us;
    result.wall_us = report->wall_ns / 1000;
    result.cpu_us = report->cpu_ns / 1000;
    result.max_rss_kb = find_memory_kb(s, report, peak);
    result.output_bytes_max = run->output_bytes_max;
    note_limits(&result, run, s);
    take_denied(&result, report);
    result.companion_interrupted = run->ns->parent && report->interrupted;
    struct slot *home = run->ns->parent ? run->ns->parent->slot : s; /* which has the link */
    if (home) {
        result.net_rx_bytes = take_bytes(home, PRIV_NET_RX, &home->rx_seen);
        result.net_tx_bytes = take_bytes(home, PRIV_NET_TX, &home->tx_seen);
    }
    run_advance(run, &result, report->outputs);
    reset_counters(s, report, peak);
}
