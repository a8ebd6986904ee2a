/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/engine_runs - one run from Execute to Result: checks, the message for the child, the
 * facts.
 *
 * The bytes of a command pass through here once, from a frame's arena into the message that the
 * standby reads; they are never looked at. Each Execute has exactly one Result, whatever happens:
 * run_fail, run_finish and run_overdue are the three ends, and each forgets the run.
 */
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "lib/packet.h"
#include "policy/policy.h"
#include "supervisor/engine.h"
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#define RETRY_AFTER_MS 1000u
#define FORK_NS_MIN 10000u  /* less than any fork takes */
#define OOM_NS_MIN 1000000u /* less than it takes to start a process and run out of memory */

/* "mount:2,ptrace:1" */
static void name_denied(const struct proto_result *r, char *ret, size_t room)
{
    size_t n = 0;
    *ret = 0;
    for (size_t i = 0; i < r->denied_count && n < room; i++)
        n += (size_t)snprintf(ret + n, room - n, "%s%s:%u", i ? "," : "", r->denied[i].syscall,
                              r->denied[i].times);
}

static void log_run(const struct run *run, const struct proto_result *r)
{
    char denied[PROTO_DENIED_MAX * (PROTO_SYSCALL_ROOM + 12)];
    name_denied(r, denied, sizeof denied);
    LOG(INFO, "run", F_U64("run_id", run->id), F_STR("ns", run->ns->id),
        F_STR("request_id", run->request_id), F_STR("outcome", proto_outcome_name(r->outcome)),
        F_STR("reason", r->outcome == PROTO_OK ? proto_reason_name(r->reason) : ""),
        F_I64("exit_code", r->exited ? r->exit_code : -1),
        F_STR("start", proto_start_name(r->start)), F_MS("queue_ms", r->queue_us * 1000),
        F_MS("wall_ms", r->wall_us * 1000), F_MS("cpu_ms", r->cpu_us * 1000),
        F_STR("denied", denied));
}

static void forget(struct run *run)
{
    struct engine *e = run->ns->engine;
    if (run->client) {
        TAILQ_REMOVE(&run->client->runs, run, in_client);
        client_run_closed(run->client);
    }
    for (size_t i = 0; i < 3; i++)
        fd_close(&run->fds[i]);
    e->open_runs--;
    free(run->message);
    free(run);
    if (e->draining)
        engine_check_drained(e);
}

static void answer(struct run *run, struct proto_result *result)
{
    struct proto_msg msg = {.type = PROTO_RESULT, .tag = run->tag};
    result->tag = run->tag;
    result->run_id = run->id;
    msg.result = *result;
    if (run->client)
        client_send(run->client, &msg);
    if (run->is_probe)
        probe_on_result(run->ns->engine, result);
    else
        log_run(run, result);
    forget(run);
}

void run_fail(struct run *run, enum proto_outcome outcome, const char *text)
{
    struct proto_result result = {
        .outcome = outcome, .field = "", .text = text, .start = run->start};
    result.queue_us = (clock_now_ns() - run->accepted_ns) / 1000;
    if (outcome == PROTO_QUEUE_FULL || outcome == PROTO_QUEUE_TIMEOUT ||
        outcome == PROTO_ACTIVATION_FAILED)
        result.retry_after_ms = RETRY_AFTER_MS;
    answer(run, &result);
}

static void fail_field(struct run *run, enum proto_outcome outcome, const char *field,
                       const char *text)
{
    struct proto_result result = {
        .outcome = outcome, .field = field, .text = text, .start = run->start};
    answer(run, &result);
}

void run_fail_policy(struct run *run, const char *why)
{
    fail_field(run, PROTO_BAD_REQUEST, "policy", why);
}

void run_fail_limits(struct run *run, bool too_low)
{
    if (too_low)
        fail_field(run, PROTO_BAD_REQUEST, "limits.memory_mb",
                   "less than what the namespace holds in /tmp and in its cache");
    else
        run_fail(run, PROTO_INTERNAL, "the limits could not be set");
}

/* ---- accepting ---------------------------------------------------------------------------------
 */

static void refuse(struct client *c, const struct proto_execute *exec, enum proto_outcome outcome,
                   const char *field, const char *text)
{
    struct proto_msg msg = {.type = PROTO_RESULT, .tag = exec->tag};
    msg.result =
        (struct proto_result){.tag = exec->tag, .outcome = outcome, .field = field, .text = text};
    if (outcome == PROTO_QUEUE_FULL)
        msg.result.retry_after_ms = RETRY_AFTER_MS;
    c->engine->total.refused++;
    client_send(c, &msg);
}

static uint64_t or_else(uint64_t value, uint64_t other)
{
    return value ? value : other;
}

const char *run_choose_policy(struct engine *e, struct run *run)
{
    const struct policy_match *m = policy_find_match(e->policies, run->ns->id);
    uint32_t own = m ? m->policy : 0;
    int asked = *run->policy_asked ? policy_find(e->policies, run->policy_asked) : (int)own;
    /* One answer for what is not there and what is not allowed: names are the operator's. */
    if (asked < 0 || ((uint32_t)asked != own && !(m && m->may_ask & 1u << asked)))
        return "this namespace may not ask for that policy";
    run->policy = (uint32_t)asked;
    return NULL;
}

const char *run_choose_anew(struct engine *e, struct run *run)
{
    const char *why = run_choose_policy(e, run);
    struct zyg_run *head = run->message;
    if (why || !head) /* then its index is of policies that are gone */
        return why;
    const struct policy_limits *l = &e->policies->plans[run->policy].limits;
    uint64_t most = or_else(l->timeout_ms_max, e->set.timeout_ms_max);
    uint64_t cpu_s = (l->cpu_ms_max + 999) / 1000;
    if (run->timeout_ms > most)
        run->timeout_ms = most;
    if (cpu_s && (!run->cpu_s || run->cpu_s > cpu_s))
        run->cpu_s = cpu_s;
    run->output_bytes_max = l->output_bytes_max;
    head->timeout_ns = run->timeout_ms * CLOCK_NS_PER_MS;
    head->cpu_s = run->cpu_s;
    return NULL;
}

/* A request only tightens: what it asks for beyond its policy is refused, naming the field. */
static const char *find_loose(const struct engine *e, const struct run *run,
                              const struct proto_execute *exec, const char **ret_field)
{
    static char text[120];
    const struct policy_limits *l = &e->policies->plans[run->policy].limits;
    const struct {
        const char *field;
        uint64_t asked, most, unit;
    } bounds[] = {
        {"timeout", exec->timeout_ms, or_else(l->timeout_ms_max, e->set.timeout_ms_max), 1},
        {"limits.cpu_ms", exec->cpu_ms, or_else(l->cpu_ms_max, UINT64_MAX), 1},
        {"limits.memory_mb", exec->memory_bytes, l->group.memory_bytes, 1 << 20},
        {"limits.pids", exec->pids_max, l->group.pids_max, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(bounds); i++) {
        if (bounds[i].asked <= bounds[i].most)
            continue;
        *ret_field = bounds[i].field;
        (void)snprintf(text, sizeof text, "the policy %s allows at most %" PRIu64 "%s",
                       e->policies->plans[run->policy].name, bounds[i].most / bounds[i].unit,
                       i == 0 ? " ms" : "");
        return text;
    }
    return NULL;
}

struct policy_group run_limits(const struct engine *e, const struct run *run)
{
    struct policy_group g = e->policies->plans[run->policy].limits.group;
    if (run->memory_bytes && run->memory_bytes < g.memory_bytes)
        g.memory_bytes = run->memory_bytes;
    if (run->pids_max && run->pids_max < g.pids_max)
        g.pids_max = run->pids_max;
    return g;
}

/* Fills in what its policy decides. NULL; or why it is refused, and for which field. */
static const char *settle_policy(struct engine *e, struct run *run,
                                 const struct proto_execute *exec, const char **ret_field)
{
    const char *why = run_choose_policy(e, run);
    *ret_field = "policy";
    if (!why)
        why = find_loose(e, run, exec, ret_field);
    if (why)
        return why;
    const struct policy_limits *l = &e->policies->plans[run->policy].limits;
    uint64_t most = or_else(l->timeout_ms_max, e->set.timeout_ms_max);
    uint64_t usual = or_else(l->timeout_ms_default, e->set.timeout_ms_default);
    run->timeout_ms = or_else(exec->timeout_ms, usual < most ? usual : most);
    run->output_bytes_max = l->output_bytes_max;
    run->cpu_s = (or_else(exec->cpu_ms, l->cpu_ms_max) + 999) / 1000;
    run->memory_bytes = exec->memory_bytes;
    run->pids_max = exec->pids_max;
    return NULL;
}

static size_t env_bytes(const struct proto_execute *exec)
{
    size_t n = 0;
    for (size_t i = 0; i < exec->env_count; i++)
        n += strlen(exec->env[i].name) + strlen(exec->env[i].value) + 2;
    return n;
}

/* Lays the message out as zygote/zygote.h says; false: out of memory. */
static bool pack(struct run *run, const struct proto_execute *exec, const struct policy_plan *plan,
                 uint64_t grace_ms)
{
    struct zyg_run head = {
        .magic = ZYG_RUN_MAGIC,
        .env_count = (uint32_t)exec->env_count + plan->env_count,
        .run_id = run->id,
        .timeout_ns = run->timeout_ms * CLOCK_NS_PER_MS,
        .grace_ns = grace_ms * CLOCK_NS_PER_MS,
        .cpu_s = run->cpu_s,
        .cmd_bytes = (uint32_t)exec->cmd_len + 1,
        .env_bytes = (uint32_t)env_bytes(exec) + plan->env_bytes,
        .cwd_bytes = (uint32_t)strlen(exec->cwd) + 1,
    };
    run->message_bytes = sizeof head + head.cmd_bytes + head.env_bytes + head.cwd_bytes;
    char *at = run->message = malloc(run->message_bytes);
    if (!at)
        return false;
    memcpy(at, &head, sizeof head);
    at += sizeof head;
    memcpy(at, exec->cmd, exec->cmd_len);
    at[exec->cmd_len] = 0;
    at += exec->cmd_len + 1;
    memcpy(at, plan->env, plan->env_bytes); /* first: the request's own are stronger */
    at += plan->env_bytes;
    for (size_t i = 0; i < exec->env_count; i++) {
        size_t name = strlen(exec->env[i].name), value = strlen(exec->env[i].value);
        memcpy(at, exec->env[i].name, name);
        at[name] = '=';
        memcpy(at + name + 1, exec->env[i].value, value + 1);
        at += name + value + 2;
    }
    memcpy(at, exec->cwd, head.cwd_bytes);
    return true;
}

static const char *find_no_room(const struct engine *e, const struct ns *ns, const struct run *run)
{
    if (ns->queued >= e->set.queue_max)
        return "the namespace's queue is full";
    if (e->open_runs > ENGINE_RUNS_MAX ||
        e->queued_bytes + run->message_bytes > ENGINE_QUEUED_BYTES_MAX)
        return "too many runs are waiting in all namespaces together";
    return NULL;
}

/* Why an Execute is not accepted; text NULL: it is. */
struct refusal {
    enum proto_outcome outcome;
    const char *field, *text;
};

/* Checks and fills in the run; false: *why says what is wrong. */
static bool prepare(struct engine *e, struct run *run, const struct proto_execute *exec,
                    struct refusal *why)
{
    run->accepted_ns = clock_now_ns();
    (void)snprintf(run->request_id, sizeof run->request_id, "%s", exec->request_id);
    if (strlen(exec->policy) > POLICY_NAME_MAX)
        why->field = "policy", why->text = "longer than any name";
    else
        (void)snprintf(run->policy_asked, sizeof run->policy_asked, "%s", exec->policy);
    if (why->text || (why->text = settle_policy(e, run, exec, &why->field))) {
        why->outcome = PROTO_BAD_REQUEST;
        return false;
    }
    if (!pack(run, exec, &e->policies->plans[run->policy], e->set.grace_ms))
        *why = (struct refusal){PROTO_INTERNAL, "", "out of memory"};
    else if ((why->text = find_no_room(e, run->ns, run)))
        why->outcome = PROTO_QUEUE_FULL;
    return !why->text;
}

static const struct refusal *refuse_early(const struct client *c, const int *fds, size_t nfds)
{
    static const struct refusal short_of_fds = {PROTO_QUEUE_FULL, "",
                                                "the engine is out of descriptors"},
                                wrong_fds = {PROTO_BAD_REQUEST, "",
                                             "three descriptors are needed: stdin, stdout, stderr"},
                                stopping = {PROTO_DRAINING, "", "the service is stopping"};
    /* The frontend always sends three: we had no room for them. */
    if ((nfds == 0 && c->is_frontend) || engine_fds_are_short(c->engine, fds, nfds))
        return &short_of_fds;
    if (nfds != 3)
        return &wrong_fds;
    return c->engine->draining ? &stopping : NULL;
}

void run_accept(struct client *c, const struct proto_execute *exec, int fds[], size_t nfds)
{
    struct engine *e = c->engine;
    const struct refusal *early = refuse_early(c, fds, nfds);
    struct refusal why = {PROTO_INTERNAL, "", NULL};
    if (early) {
        refuse(c, exec, early->outcome, early->field, early->text);
        return;
    }
    struct run *run = calloc(1, sizeof *run);
    struct ns *ns = run ? ns_get(e, exec->ns_id) : NULL;
    if (ns)
        *run =
            (struct run){.id = e->next_run_id++, .tag = exec->tag, .ns = ns, .fds = {-1, -1, -1}};
    if (!ns || !prepare(e, run, exec, &why)) {
        refuse(c, exec, why.outcome, why.field, why.text ? why.text : "out of memory");
        if (ns)
            ns_drop_if_unused(ns);
        if (run)
            free(run->message);
        free(run);
        return;
    }
    for (size_t i = 0; i < 3; i++)
        run->fds[i] = fd_take(&fds[i]);
    run->client = c;
    TAILQ_INSERT_TAIL(&c->runs, run, in_client);
    c->open_runs++;
    e->open_runs++;
    ns_enqueue(ns, run);
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
    struct zyg_run *head = run->message;
    head->home_cpu = choose_home(s);
    int r = packet_send(s->run_fd, run->message, run->message_bytes, run->fds, 3);
    if (r < 0)
        return r;
    run->started_ns = clock_now_ns();
    for (size_t i = 0; i < 3; i++)
        fd_close(&run->fds[i]);
    free(ptr_take(&run->message));
    return 0;
}

/* ---- facts -------------------------------------------------------------------------------------
 */

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
static bool cpu_ran_out(const struct run *run, const struct zyg_report *report)
{
    uint64_t limit_ns = run->cpu_s * CLOCK_NS_PER_S;
    bool told = WIFSIGNALED(report->status) ? WTERMSIG(report->status) == SIGXCPU
                                            : WEXITSTATUS(report->status) == 128 + SIGXCPU;
    return limit_ns && report->cpu_ns >= (told ? limit_ns / 2 : limit_ns);
}

static enum proto_reason find_reason(const struct run *run, struct slot *s,
                                     const struct zyg_report *report)
{
    bool signaled = WIFSIGNALED(report->status);
    if (report->reason == ZYG_BY_TIMEOUT)
        return PROTO_REASON_TIMEOUT;
    if (run->cancelled || report->reason == ZYG_BY_CANCEL)
        return PROTO_REASON_CANCELLED;
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

/* Bytes of the namespace's link since it was asked last. 0 without one. */
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

/* A child that never came to its command: some of that is the request's fault. */
static void fail_step(struct run *run, const struct zyg_report *report)
{
    struct proto_result result = {.outcome = PROTO_INTERNAL, .field = "", .start = run->start};
    char text[160];
    if (report->step == CHILD_STEP_CWD && cwd_text(report->step_errno)) {
        result.outcome = PROTO_BAD_REQUEST;
        result.field = "cwd";
        result.text = cwd_text(report->step_errno);
    } else if (report->step == CHILD_STEP_EXEC && report->step_errno == E2BIG) {
        result.outcome = PROTO_BAD_REQUEST;
        result.field = "cmd";
        result.text = "cmd and env together are too long for execve";
    } else {
        (void)snprintf(text, sizeof text, "%s: %s", child_step_name(report->step),
                       strerror(report->step_errno));
        LOG(ERROR, "child_failed", F_STR("ns", run->ns->id), F_U64("run_id", run->id),
            F_STR("error", text));
        result.text = "the command could not be started";
    }
    answer(run, &result);
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

void run_finish(struct run *run, struct slot *s, const struct zyg_report *report)
{
    struct engine *e = s->engine;
    struct proto_result result = {
        .outcome = PROTO_OK, .field = "", .text = "", .start = run->start};
    if (report->reason == ZYG_BY_STEP) {
        fail_step(run, report);
        return;
    }
    uint64_t peak = read_counter(s->counters[CGROUP_PEAK], "");
    result.reason = find_reason(run, s, report);
    result.exited = WIFEXITED(report->status);
    result.exit_code = result.exited ? WEXITSTATUS(report->status) : 0;
    result.signal = WIFSIGNALED(report->status) ? WTERMSIG(report->status) : 0;
    result.queue_us = (run->started_ns - run->accepted_ns) / 1000;
    result.wall_us = report->wall_ns / 1000;
    result.cpu_us = report->cpu_ns / 1000;
    result.max_rss_kb = peak ? peak / 1024 : report->max_rss_kb;
    result.output_bytes_max = run->output_bytes_max;
    take_denied(&result, report);
    result.net_rx_bytes = take_bytes(s, PRIV_NET_RX, &s->rx_seen);
    result.net_tx_bytes = take_bytes(s, PRIV_NET_TX, &s->tx_seen);
    e->total.runs++;
    e->total.reasons[result.reason]++;
    answer(run, &result);
    reset_counters(s, report, peak);
}

void run_overdue(struct run *run)
{
    struct proto_result result = {
        .outcome = PROTO_OK, .field = "", .text = "", .start = run->start};
    result.reason = run->cancelled ? PROTO_REASON_CANCELLED : PROTO_REASON_TIMEOUT;
    result.output_bytes_max = run->output_bytes_max;
    result.signal = SIGKILL;
    result.queue_us = (run->started_ns - run->accepted_ns) / 1000;
    result.wall_us = (clock_now_ns() - run->started_ns) / 1000;
    run->ns->engine->total.runs++;
    run->ns->engine->total.reasons[result.reason]++;
    answer(run, &result);
}

void run_cancel(struct run *run)
{
    struct ns *ns = run->ns;
    if (run->cancelled) /* once: another would only put its deadline off */
        return;
    run->cancelled = true;
    if (ns->running == run) {
        slot_cancel_run(ns->slot);
        return;
    }
    struct proto_result result = {
        .outcome = PROTO_OK, .reason = PROTO_REASON_CANCELLED, .field = "", .text = ""};
    result.queue_us = (clock_now_ns() - run->accepted_ns) / 1000;
    ns_dequeue(run);
    answer(run, &result);
    ns_drop_if_unused(ns);
}
