/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/engine_runs - one run from Execute to Result: its checks, and its ends.
 *
 * Each Execute has exactly one Result, whatever happens: run_answer is where all ends meet, and it
 * forgets the run. What lies between is in engine_pack (what the zygote is sent), engine_stages
 * (when) and engine_facts (what came of it).
 */
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "policy/policy.h"
#include "supervisor/engine.h"
#include "supervisor/verdict.h"
#include "volumes/volumes.h"
#include <inttypes.h>
#include <signal.h>

#define RETRY_AFTER_MS 1000u

const char *run_kind_name(const struct run *run)
{
    switch (run->kind) {
    case RUN_CODE:
        return run->language;
    case RUN_FILES:
        return "files";
    case RUN_TERMINAL:
        return "terminal";
    case RUN_PROBE:
        return "probe";
    case RUN_VERSIONS:
        return "versions";
    case RUN_COLLECT:
        return "collect";
    case RUN_COMMAND:
        break;
    }
    return "command";
}

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
        F_STR("kind", run_kind_name(run)), F_STR("request_id", run->request_id),
        F_STR("outcome", proto_outcome_name(r->outcome)),
        F_STR("reason", r->outcome == PROTO_OK ? proto_reason_name(r->reason) : ""),
        F_I64("exit_code", r->exited ? r->exit_code : -1),
        F_STR("start", proto_start_name(r->start)), F_MS("queue_ms", r->queue_us * 1000),
        F_MS("wall_ms", r->wall_us * 1000), F_MS("cpu_ms", r->cpu_us * 1000),
        F_STR("denied", denied), F_LAST_STR("key", run->key));
}

static void release(struct engine *e, struct run *run)
{
    for (size_t i = 0; i < run->stage_count; i++)
        stage_drop(e, &run->stages[i]);
    e->held_fds -= run->artifacts_fd >= 0;
    fd_close(&run->artifacts_fd);
    free(run);
}

static void forget(struct run *run)
{
    struct engine *e = run->ns->engine;
    if (run->client) {
        TAILQ_REMOVE(&run->client->runs, run, in_client);
        client_run_closed(run->client);
    }
    e->open_runs--;
    release(e, run);
    if (e->draining)
        engine_check_drained(e);
}

/* Nothing of it is left for another run. */
static bool companion_ends(const struct ns *ns)
{
    return ns->parent && (!ns->slot || ns->slot->state == SLOT_DYING || ns->over ||
                          ns->companion == PROTO_COMPANION_TERMINAL);
}

void run_answer(struct run *run, struct proto_result *result)
{
    struct engine *e = run->ns->engine;
    struct proto_msg msg = {.type = PROTO_RESULT, .tag = run->tag};
    result->tag = run->tag;
    result->run_id = run->id;
    result->companion_ended = companion_ends(run->ns);
    result->companion_new = run->is_first;
    msg.result = *result;
    if (run->client)
        client_send(run->client, &msg);
    if (run->kind == RUN_PROBE) {
        probe_on_result(e, result);
    } else if (run->kind == RUN_VERSIONS) {
        engine_on_versions();
    } else if (run->kind != RUN_COLLECT) {
        e->total.runs += result->outcome == PROTO_OK;
        e->total.reasons[result->reason] += result->outcome == PROTO_OK;
        log_run(run, result);
    }
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
    run_answer(run, &result);
}

void run_fail_field(struct run *run, enum proto_outcome outcome, const char *field,
                    const char *text)
{
    struct proto_result result = {
        .outcome = outcome, .field = field, .text = text, .start = run->start};
    run_answer(run, &result);
}

void run_fail_policy(struct run *run, const char *why)
{
    run_fail_field(run, PROTO_BAD_REQUEST, "policy", why);
}

void run_fail_limits(struct run *run, bool too_low)
{
    if (too_low)
        run_fail_field(run, PROTO_BAD_REQUEST, "limits.memory_mb",
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
    if (outcome == PROTO_QUEUE_FULL || outcome == PROTO_ACTIVATION_FAILED ||
        outcome == PROTO_TOO_MANY)
        msg.result.retry_after_ms = RETRY_AFTER_MS;
    c->engine->total.refused++;
    client_send(c, &msg);
}

static uint64_t or_else(uint64_t value, uint64_t other)
{
    return value ? value : other;
}

/* 0 is no limit. */
static uint64_t at_most(uint64_t value, uint64_t most)
{
    return most && (!value || value > most) ? most : value;
}

const char *run_choose_policy(struct engine *e, struct run *run)
{
    const struct policy_match *m = policy_find_match(e->policies, ns_home_id(run->ns));
    uint32_t own = ns_own_policy(run->ns);
    int asked = *run->policy_asked ? policy_find(e->policies, run->policy_asked) : (int)own;
    /* Nobody but the operator gave a key its policy, and a fresh namespace is nobody else's. */
    bool given = run->ns->is_fresh && run->policy_of_key;
    /* One answer for what is not there and what is not allowed: names are the operator's. */
    if (asked < 0 || ((uint32_t)asked != own && !given && !(m && m->may_ask & 1u << asked)))
        return run->policy_of_key ? "this namespace may not have the one of this key"
                                  : "this namespace may not ask for that policy";
    run->policy = (uint32_t)asked;
    return NULL;
}

static const char *choose_for_probe(struct run *run)
{
    int policy = probe_find_policy();
    run->policy = policy < 0 ? 0 : (uint32_t)policy;
    return policy < 0 ? "no policy is of this kind any more" : NULL;
}

const char *run_choose_anew(struct engine *e, struct run *run)
{
    if (run->kind == RUN_COLLECT)
        return NULL;
    if (run->kind == RUN_PROBE)
        return choose_for_probe(run);
    const char *why = run_choose_policy(e, run);
    if (why)
        return why;
    const struct policy_limits *l = &e->policies->plans[run->policy].limits;
    uint64_t most = or_else(l->timeout_ms_max, e->set.timeout_ms_max);
    run->output_bytes_max = l->output_bytes_max;
    for (size_t i = run->stage_at; i < run->stage_count; i++) {
        struct stage *st = &run->stages[i];
        struct zyg_run *head = st->message;
        if (run->kind != RUN_TERMINAL)
            st->timeout_ms = at_most(st->timeout_ms, most);
        st->cpu_ms = at_most(st->cpu_ms, l->cpu_ms_max);
        head->timeout_ns = st->timeout_ms * CLOCK_NS_PER_MS;
        head->cpu_s = (st->cpu_ms + 999) / 1000;
    }
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
        uint32_t usual;
    } bounds[] = {
        {"timeout", exec->timeout_ms, or_else(l->timeout_ms_max, e->set.timeout_ms_max), 1,
         PROTO_USUAL_TIMEOUT},
        {"limits.cpu_ms", exec->cpu_ms, or_else(l->cpu_ms_max, UINT64_MAX), 1, PROTO_USUAL_CPU},
        {"limits.memory_mb", exec->memory_bytes, l->group.memory_bytes, 1 << 20,
         PROTO_USUAL_MEMORY},
        {"limits.pids", exec->pids_max, l->group.pids_max, 1, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(bounds); i++) {
        if (bounds[i].asked <= bounds[i].most || exec->usual & bounds[i].usual)
            continue;
        *ret_field = bounds[i].field;
        (void)snprintf(text, sizeof text, "the policy %s allows at most %" PRIu64 "%s",
                       e->policies->plans[run->policy].name, bounds[i].most / bounds[i].unit,
                       i == 0 ? " ms" : "");
        return text;
    }
    return NULL;
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
    struct stage *st = &run->stages[0];
    st->timeout_ms =
        at_most(at_most(or_else(exec->timeout_ms, usual), most), exec->timeout_ms_ceiling);
    if (run->kind == RUN_TERMINAL)
        st->timeout_ms = e->set.terminals.max_life_ms;
    st->cpu_ms = at_most(at_most(exec->cpu_ms, l->cpu_ms_max), exec->cpu_ms_ceiling);
    st->memory_bytes = at_most(exec->memory_bytes, exec->memory_bytes_ceiling); /* run_limits() */
    st->pids_max = exec->pids_max;
    run->output_bytes_max = l->output_bytes_max;
    return NULL;
}

/* The message and the descriptors of what has one stage; fds as enum proto_kind has them. */
static int pack_single(struct engine *e, struct run *run, const struct proto_execute *exec,
                       int fds[])
{
    bool files = exec->kind == PROTO_FILES;
    struct pack pack = {.magic = files                          ? ZYG_FILES_MAGIC
                                 : exec->kind == PROTO_TERMINAL ? ZYG_TERMINAL_MAGIC
                                                                : ZYG_RUN_MAGIC,
                        .flags = exec->work ? ZYG_EMPTY_OUTPUTS : 0,
                        .cmd = files ? (const void *)exec->files : exec->cmd,
                        .cmd_len = files ? sizeof *exec->files : exec->cmd_len,
                        .plan = files ? NULL : &e->policies->plans[run->policy],
                        .env = exec->env,
                        .env_count = files ? 0 : exec->env_count,
                        .cwd = files ? "" : exec->cwd,
                        .args = exec->args,
                        .arg_count = exec->arg_count,
                        .places = exec->places,
                        .place_count = exec->place_count};
    int r = stage_pack(e, &run->stages[0], &pack);
    if (r < 0)
        return r;
    for (size_t i = 0; i < 3; i++)
        stage_take_fd(e, &run->stages[0], &fds[i]);
    for (size_t i = 0; i < exec->place_count; i++)
        stage_take_fd(e, &run->stages[0], &fds[3 + (size_t)exec->work + i]);
    return 0;
}

static const char *find_no_room(const struct engine *e, const struct run *run)
{
    const struct ns *ns = run->ns;
    if (ns->is_fresh && e->waiting_count >= ENGINE_FRESH_WAITING_MAX &&
        ns_count_waiting(e, run->key) >= ENGINE_FRESH_WAITING_MAX)
        return "too many runs of this key without a namespace are waiting";
    if (ns->queued >= e->set.queue_max && !run->patient)
        return "the namespace's queue is full";
    if (e->open_runs > ENGINE_RUNS_MAX || e->held_fds > ENGINE_RUN_FDS_MAX ||
        e->held_bytes > ENGINE_HELD_BYTES_MAX)
        return "too many runs are waiting in all namespaces together";
    if (run_key_has_its_half(e, run))
        return "too many runs of this key are waiting in all namespaces together";
    return NULL;
}

/* Why an Execute is not accepted; text NULL: it is. */
struct refusal {
    enum proto_outcome outcome;
    const char *field, *text;
};

/* Stands first: what is packed needs its limits. False: *why says what is wrong. */
static bool settle(struct engine *e, struct run *run, const struct proto_execute *exec,
                   struct refusal *why)
{
    run->accepted_ns = clock_now_ns();
    (void)snprintf(run->request_id, sizeof run->request_id, "%s", exec->request_id);
    if (run->client->is_frontend) { /* others would only say so */
        (void)snprintf(run->key, sizeof run->key, "%s", exec->key);
        run->patient = exec->patient;
        run->policy_of_key = exec->policy_of_key;
        run->held = exec->patient && exec->held;
    }
    if (strlen(exec->policy) > POLICY_NAME_MAX)
        why->field = "policy", why->text = "longer than any name";
    else
        (void)snprintf(run->policy_asked, sizeof run->policy_asked, "%s", exec->policy);
    if (why->text || (why->text = settle_policy(e, run, exec, &why->field))) {
        why->outcome = PROTO_BAD_REQUEST;
        return false;
    }
    if (verdict_refuses(run->policy)) {
        *why = (struct refusal){PROTO_ACTIVATION_FAILED, "", verdict_refusal};
        return false;
    }
    return true;
}

/* Without those of artifacts and files, as enum proto_kind says. */
static size_t count_own_fds(const struct proto_execute *exec)
{
    return exec->kind == PROTO_CODE ? 6 : 3;
}

static bool prepare(struct engine *e, struct run *run, const struct proto_execute *exec,
                    const struct language *lang, int fds[], struct refusal *why)
{
    if (!settle(e, run, exec, why))
        return false;
    int r = lang ? run_pack_code(e, run, exec, lang, fds) : pack_single(e, run, exec, fds);
    if (r == -E2BIG)
        *why = (struct refusal){PROTO_BAD_REQUEST, "args",
                                "cmd, env, cwd, args and files together are too long"};
    else if (r < 0)
        *why = (struct refusal){PROTO_INTERNAL, "", "out of memory"};
    else if ((why->text = find_no_room(e, run)))
        why->outcome = PROTO_QUEUE_FULL;
    if (why->text || !exec->work)
        return !why->text;
    run->artifacts_fd = fd_take(&fds[count_own_fds(exec)]);
    e->held_fds++;
    run->artifact_bytes_max = exec->artifact_bytes_max;
    run->artifact_files_max = exec->artifact_files_max;
    if (run->artifact_bytes_max == 0 || run->artifact_files_max == 0) { /* nothing is to come */
        e->held_fds--;
        fd_close(&run->artifacts_fd);
    }
    return true;
}

static const struct refusal *refuse_early(const struct client *c, const struct proto_execute *exec,
                                          const int *fds, size_t nfds)
{
    static const struct refusal short_of_fds = {PROTO_QUEUE_FULL, "",
                                                "the engine is out of descriptors"},
                                wrong_fds = {PROTO_BAD_REQUEST, "",
                                             "three descriptors are needed: stdin, stdout, stderr"},
                                wrong_number = {PROTO_BAD_REQUEST, "",
                                                "not as many descriptors as this kind needs"},
                                stopping = {PROTO_DRAINING, "", "the service is stopping"};
    size_t wanted = count_own_fds(exec) + exec->work + exec->place_count;
    /* The frontend always sends all: we had no room for them. */
    if ((nfds == 0 && c->is_frontend) || engine_fds_are_short(c->engine, fds, nfds)) {
        ns_shed_idle(c->engine);
        return &short_of_fds;
    }
    if (nfds != wanted)
        return wanted == 3 ? &wrong_fds : &wrong_number;
    return c->engine->draining ? &stopping : NULL;
}

/* Only what makes something makes a namespace, too. */
static bool is_missing(struct engine *e, const struct proto_execute *exec)
{
    const struct vol_list *list;
    struct err err;
    if (exec->kind != PROTO_FILES || exec->files->op == PROTO_FILES_PUT ||
        exec->files->op == PROTO_FILES_MKDIR || ns_find(e, exec->ns_id))
        return false;
    if (ns_list_volumes(e, &list, &err) < 0) {
        LOG(ERROR, "list_failed", F_STR("error", err.text));
        return false; /* then it is found out inside */
    }
    return !ns_list_has(list, exec->ns_id);
}

static enum run_kind kind_of(const struct proto_execute *exec)
{
    return exec->kind == PROTO_CODE       ? RUN_CODE
           : exec->kind == PROTO_FILES    ? RUN_FILES
           : exec->kind == PROTO_TERMINAL ? RUN_TERMINAL
                                          : RUN_COMMAND;
}

/* NULL: it is refused, or out of memory. */
static struct ns *find_place(const struct client *c, const struct proto_execute *exec,
                             struct refusal *why)
{
    struct engine *e = c->engine;
    const char *key = c->is_frontend ? exec->key : "";
    if (exec->companion) {
        why->field = "session";
        if (exec->companion == PROTO_COMPANION_SESSION && e->zygote_execs) {
            why->outcome = PROTO_BAD_REQUEST;
            why->text =
                "there are none here: the image's bash cannot be made to stay (brood doctor)";
            return NULL;
        }
        return companion_get(e, exec, key, &why->outcome, &why->text);
    }
    return *exec->ns_id ? ns_get(e, exec->ns_id) : fresh_take(e, exec->policy, key);
}

/* Behind others, or there is no zygote that is its already. */
static bool has_to_wait(const struct run *run)
{
    const struct ns *ns = run->ns;
    if (ns->running == run)
        return false;
    return ns->running || TAILQ_FIRST(&ns->queue) != run || !ns->slot ||
           ns->slot->state == SLOT_DYING;
}

/* The last run of this client, if it is that one and not over yet, is told that it waits. */
static void tell_if_it_waits(struct client *c, uint64_t id)
{
    struct run *run = TAILQ_LAST(&c->runs, run_list);
    if (run && run->id == id && has_to_wait(run))
        run_tell_waiting(run, true);
}

void run_accept(struct client *c, const struct proto_execute *exec, int fds[], size_t nfds)
{
    struct engine *e = c->engine;
    const struct refusal *early = refuse_early(c, exec, fds, nfds);
    struct refusal why = {PROTO_INTERNAL, "", NULL};
    if (early) {
        refuse(c, exec, early->outcome, early->field, early->text);
        return;
    }
    if (is_missing(e, exec)) {
        refuse(c, exec, PROTO_NOT_FOUND, "namespace_id", "no such namespace");
        return;
    }
    const char *no_language = NULL;
    const struct language *lang =
        exec->kind == PROTO_CODE ? engine_find_language(e, exec->language, &no_language) : NULL;
    if (no_language) {
        refuse(c, exec, PROTO_BAD_REQUEST, "language", no_language);
        return;
    }
    struct run *run = calloc(1, sizeof *run);
    struct ns *ns = run ? find_place(c, exec, &why) : NULL;
    if (ns)
        *run = (struct run){.id = e->next_run_id++,
                            .tag = exec->tag,
                            .kind = kind_of(exec),
                            .ns = ns,
                            .client = c,
                            .stage_count = 1,
                            .artifacts_fd = -1};
    if (!ns || !prepare(e, run, exec, lang, fds, &why)) {
        refuse(c, exec, why.outcome, why.field, why.text ? why.text : "out of memory");
        if (ns) {
            release(e, run);
            if (!fresh_keep(ns))
                ns_drop_if_unused(ns);
        } else {
            free(run);
        }
        return;
    }
    run->client = c;
    TAILQ_INSERT_TAIL(&c->runs, run, in_client);
    c->open_runs++;
    e->open_runs++;
    if (run->patient)
        run->told_waiting = true; /* it is taken to wait until it begins */
    run->told_waiting |= exec->tell_start && c->is_frontend;
    uint64_t id = run->id;
    bool is_fresh = ns->is_fresh, tells = exec->work && c->is_frontend && !run->patient;
    ns_enqueue(ns, run); /* it may be over at once */
    if (tells)
        tell_if_it_waits(c, id);
    if (is_fresh) /* for the next one, beside this one */
        fresh_prepare(e);
}

void run_tell_waiting(struct run *run, bool waiting)
{
    struct proto_msg msg = {.type = PROTO_WAITING, .tag = run->tag, .waiting = waiting};
    msg.output_bytes_max = waiting ? 0 : run->output_bytes_max;
    run->told_waiting = waiting;
    if (run->client)
        client_send(run->client, &msg);
}

bool run_may_begin(struct run *run)
{
    if (run->held && !run->asked) {
        run->asked = true;
        run_tell_waiting(run, false);
    }
    return !run->held;
}

void run_let_go(struct run *run)
{
    struct ns *ns = run->ns;
    run->held = false;
    if (ns->slot && ns->slot->state == SLOT_READY)
        ns_settle(ns);
}

void run_start_own(struct run *run)
{
    run->accepted_ns = clock_now_ns();
    run->ns->engine->open_runs++;
    ns_enqueue(run->ns, run);
}

/* ---- ends without a report ---------------------------------------------------------------------
 */

void run_overdue(struct run *run)
{
    struct proto_result result = {
        .outcome = PROTO_OK, .field = "", .text = "", .start = run->start};
    result.reason = run->cancelled     ? PROTO_REASON_CANCELLED
                    : run->cpu_used_up ? PROTO_REASON_CPU_LIMIT
                                       : PROTO_REASON_TIMEOUT;
    result.output_bytes_max = run->output_bytes_max;
    result.signal = SIGKILL;
    result.queue_us = run->queue_us;
    result.wall_us = (clock_now_ns() - run->started_ns) / 1000;
    run_answer(run, &result);
}

void run_end(struct run *run, const char *text)
{
    uint64_t now = clock_now_ns();
    struct proto_result result = {.outcome = PROTO_OK,
                                  .reason = PROTO_REASON_CANCELLED,
                                  .field = "",
                                  .text = text,
                                  .start = run->start,
                                  .output_bytes_max = run->output_bytes_max};
    result.queue_us = run->started_ns ? run->queue_us : (now - run->accepted_ns) / 1000;
    result.wall_us = run->started_ns ? (now - run->started_ns) / 1000 : 0;
    result.signal = run->started_ns ? SIGKILL : 0;
    run_answer(run, &result);
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
    bool held = run->held;
    ns_dequeue(run);
    run_answer(run, &result);
    if (held && ns->slot && ns->slot->state == SLOT_READY)
        ns_settle(ns); /* the next one's turn has come */
    ns_drop_if_unused(ns);
}
