/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/engine_probe - before anybody is served: do the layers hold, asked from inside?
 *
 * Every kind of box among the policies (verdict.h) is asked, one after the other. A zygote is given
 * to a namespace that no client can name, and is sent two runs that ask an attacker's questions
 * instead of evaluating a command (zygote/probe.c): one by its first child, one by a fork of the
 * zygote as it is when it has restricted itself. A third asks from a companion of that zygote,
 * where there may be any. The later ones are kept alive until priv has looked whether their cgroups
 * limit them. The zygotes and their volume are thrown away.
 *
 * At start, a required layer that is broken or missing ends the service with its name, the question
 * that succeeded and the remedy; nobody has been listened to until then. A reload that brings a new
 * box has it asked while the service goes on: runs of its policies wait for the answer, and are
 * refused when it is bad. What could not be asked then is asked again, RETRY_MS later.
 */
#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "policy/policy.h"
#include "supervisor/engine.h"
#include "supervisor/verdict.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#define ROUNDS 3 /* the last one in a companion */
#define ROUND_MS 5000u
#define RETRY_MS 5000u
#define ANSWERS_BYTES (ZYG_PROBE_QUESTIONS_MAX * sizeof(struct zyg_probe_answer))

static struct probe_host host;
static struct utsname kernel;

static struct probe {
    struct engine *e;
    bool is_on;     /* a box is being asked */
    unsigned count; /* boxes asked so far: in the namespace's name */
    char ns_id[PROTO_NS_ID_MAX + 1];
    struct box asking; /* a copy: the table may change meanwhile */
    int round, hold;   /* hold: the other end of the child's stdin */
    struct ns *place;  /* of the round that is on */
    struct loop_io answers;
    struct loop_timer next, retry;
    uint64_t started_ns;
    char bytes[ANSWERS_BYTES];
    size_t len;
    char failure[240]; /* why it could not be asked; "": it could */
} probe = {.hold = -1, .answers.fd = -1};

void probe_note_host(const struct probe_host *h)
{
    static const char *const names[ZYG_NS_KINDS] = {
        [ZYG_NS_USER] = "user",    [ZYG_NS_MNT] = "mnt", [ZYG_NS_PID] = "pid",
        [ZYG_NS_NET] = "net",      [ZYG_NS_IPC] = "ipc", [ZYG_NS_UTS] = "uts",
        [ZYG_NS_CGROUP] = "cgroup"};
    (void)uname(&kernel); /* while we may */
    host = *h;
    for (size_t i = 0; i < ZYG_NS_KINDS; i++) {
        char path[32];
        struct stat st;
        (void)snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
        host.ns[i] = stat(path, &st) == 0 ? st.st_ino : 0;
    }
    verdict_init(&host);
}

bool probe_lets(const struct run *run)
{
    return run->kind == RUN_PROBE || verdict_lets(run->policy);
}

int probe_find_policy(void)
{
    return verdict_find_plan(&probe.asking);
}

/* ---- a round -----------------------------------------------------------------------------------
 */

static void fail(const char *text)
{
    if (!*probe.failure)
        (void)snprintf(probe.failure, sizeof probe.failure, "%s", text);
}

static struct run *new_run(struct ns *ns, uint32_t policy)
{
    struct pack pack = {.magic = ZYG_PROBE_MAGIC,
                        .cmd = &probe.asking.ask,
                        .cmd_len = sizeof probe.asking.ask,
                        .cwd = ""};
    struct run *run = calloc(1, sizeof *run);
    if (!run)
        return NULL;
    *run = (struct run){
        .kind = RUN_PROBE, .ns = ns, .policy = policy, .stage_count = 1, .artifacts_fd = -1};
    run->stages[0].timeout_ms = ROUND_MS;
    if (stage_pack(probe.e, &run->stages[0], &pack) == 0)
        return run;
    free(run);
    return NULL;
}

/* stdin and stderr: a pipe that we keep open; stdout: where the answers come. */
static bool open_pipes(struct run *run)
{
    int in[2], out[2];
    if (pipe2(in, O_CLOEXEC) < 0)
        return false;
    if (pipe2(out, O_CLOEXEC) < 0) {
        fd_close(&in[0]);
        fd_close(&in[1]);
        return false;
    }
    int third = fcntl(in[0], F_DUPFD_CLOEXEC, 3);
    bool fine = third >= 0;
    stage_take_fd(probe.e, &run->stages[0], &in[0]);
    stage_take_fd(probe.e, &run->stages[0], &out[1]);
    stage_take_fd(probe.e, &run->stages[0], &third);
    probe.hold = in[1];
    probe.answers.fd = out[0];
    return fine && fd_set_nonblock(out[0]) == 0 &&
           loop_io_add(&probe.e->loop, &probe.answers, EPOLLIN) == 0;
}

static void close_pipes(void)
{
    fd_close(&probe.hold);
    if (probe.answers.fd >= 0)
        loop_io_del(&probe.e->loop, &probe.answers);
    fd_close(&probe.answers.fd);
}

static void conclude(void);

static bool has_companions(void)
{
    return probe.e->set.sessions.max + probe.e->set.terminals.max > 0;
}

static bool is_last_round(void)
{
    return probe.round == ROUNDS - !has_companions();
}

/* Where the next round takes place. */
static struct ns *get_place(void)
{
    struct ns *ns = ns_get(probe.e, probe.ns_id);
    return ns && probe.round == ROUNDS - 1 ? companion_new(ns, PROTO_COMPANION_TERMINAL, "probe")
                                           : ns;
}

static void begin_round(void)
{
    int policy = probe_find_policy();
    struct ns *ns = policy < 0 ? NULL : get_place();
    struct run *run = ns ? new_run(ns, (uint32_t)policy) : NULL;
    if (!run || !open_pipes(run)) {
        fail(policy < 0 ? "the policies have changed" : "out of memory or descriptors");
        if (run)
            stage_drop(probe.e, &run->stages[0]);
        free(run);
        if (ns)
            ns_drop_if_unused(ns);
        conclude();
        return;
    }
    probe.round++;
    probe.len = 0;
    probe.place = ns;
    run_start_own(run);
}

/* The last one there is marks the end. */
static bool are_complete(void)
{
    struct zyg_probe_answer a;
    if (probe.len < sizeof a || probe.len % sizeof a != 0)
        return false;
    memcpy(&a, probe.bytes + probe.len - sizeof a, sizeof a);
    return a.layer == 0;
}

static void take_answers(void)
{
    struct zyg_probe_answer a;
    if (!are_complete())
        fail("the probe did not give all its answers");
    for (size_t at = 0; at + sizeof a <= probe.len; at += sizeof a) {
        memcpy(&a, probe.bytes + at, sizeof a);
        box_take_answer(&probe.asking, &a, probe.round == 1);
    }
}

static void on_answers(struct loop_io *io, uint32_t events)
{
    ssize_t n = read(io->fd, probe.bytes + probe.len, sizeof probe.bytes - probe.len);
    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    probe.len += n > 0 ? (size_t)n : 0;
    if (n > 0 && !are_complete())
        return;
    loop_io_del(&probe.e->loop, io);
    fd_close(&io->fd);
    take_answers();
    const struct ns *ns = probe.place; /* while its run is on */
    if (probe.round > 1 && ns && ns->slot && ns->slot->state == SLOT_BUSY) {
        struct priv_request req = {.verb = PRIV_ASK_LIMITS, .slot = ns->slot->index};
        engine_ask_priv(probe.e, &req, NULL, 0);
    } else {
        fd_close(&probe.hold);
    }
}

void probe_on_limits(struct engine *e, const struct priv_reply *reply)
{
    static const uint32_t cgroups[] = {POLICY_CGROUP_MEMORY, POLICY_CGROUP_PIDS, POLICY_CGROUP_CPU};
    (void)e;
    for (size_t i = 0; probe.is_on && i < ARRAY_LEN(cgroups); i++) {
        bool broken = reply->error || reply->detail & cgroups[i];
        struct zyg_probe_answer a = {.layer = cgroups[i], .state = broken ? ZYG_BROKEN : ZYG_HELD};
        (void)snprintf(a.question, sizeof a.question, "am I outside of its limit?");
        (void)snprintf(a.detail, sizeof a.detail, "%.*s", (int)sizeof a.detail - 1,
                       broken ? reply->text : "in it, and it reads as set");
        box_take_answer(&probe.asking, &a, probe.round == 2);
    }
    fd_close(&probe.hold);
}

static void on_next(struct loop_timer *t)
{
    (void)t;
    if (probe.answers.fd >= 0) { /* it ended, and what it had to say is there */
        on_answers(&probe.answers, 0);
        if (probe.answers.fd >= 0) {
            (void)loop_timer_set(&probe.e->loop, &probe.next, clock_now_ns());
            return;
        }
    }
    if (!is_last_round() && !*probe.failure && (probe.e->proven || !probe.e->draining))
        begin_round();
    else
        conclude();
}

void probe_on_result(struct engine *e, const struct proto_result *result)
{
    char text[160];
    if (result->outcome != PROTO_OK) {
        fail(result->text);
    } else if (!result->exited || result->exit_code != 0) {
        (void)snprintf(text, sizeof text, "the probe ended by %s, exit code %d, signal %d",
                       proto_reason_name(result->reason), result->exit_code, result->signal);
        fail(text);
    }
    fd_close(&probe.hold);
    probe.place = NULL;
    probe.next.on_due = on_next; /* not from inside of the slot's step */
    (void)loop_timer_set(&e->loop, &probe.next, 0);
}

/* ---- a box -------------------------------------------------------------------------------------
 */

static void begin_box(const struct box *box)
{
    probe.is_on = true;
    probe.asking = *box;
    memset(probe.asking.layer, 0, sizeof probe.asking.layer);
    probe.round = 0;
    probe.failure[0] = 0;
    (void)snprintf(probe.ns_id, sizeof probe.ns_id, PRIV_PROBE_ID "-%u", probe.count++);
    begin_round();
}

static void on_retry(struct loop_timer *t)
{
    struct engine *e = CONTAINER_OF(t, struct probe, retry)->e;
    if (verdict_ask_again())
        probe_go_on(e);
}

static void log_refused(void)
{
    if (*probe.failure)
        LOG(ERROR, "probe_failed", F_STR("error", probe.failure),
            F_STR("policy", probe.asking.names));
    else
        box_log(&probe.asking);
}

/* While others are served. */
static void tell_verdict(struct engine *e, enum box_state state)
{
    if (state == BOX_REFUSED && probe_find_policy() >= 0) {
        log_refused();
        LOG(ERROR, "policy_refused", F_STR("policy", probe.asking.names));
        ns_on_verdict(e, verdict_refusal);
    } else if (state == BOX_HOLDS) {
        LOG(INFO, "policy_proven", F_STR("policy", probe.asking.names));
    }
    if (verdict_has_unanswered() && !probe.retry.slot)
        (void)loop_timer_set(&e->loop, &probe.retry, clock_now_ns() + RETRY_MS * CLOCK_NS_PER_MS);
    ns_serve_waiting(e);
    slots_refill(e);
}

static void end_start(struct engine *e, bool stop)
{
    verdict_sum_up();
    if (host.only)
        verdict_print(probe.failure);
    if (host.only || stop) {
        engine_down(e, stop); /* fail closed */
        return;
    }
    verdict_log(clock_now_ns() - probe.started_ns);
    e->proven = true;
    memset(&e->total, 0, sizeof e->total); /* what was done for ourselves does not count */
    engine_on_proven(e);
}

/* One box has been asked, or could not be. */
static void conclude(void)
{
    static bool any_refused;
    struct engine *e = probe.e;
    struct ns *ns = ns_find(e, probe.ns_id);
    probe.is_on = false;
    close_pipes();
    if (ns) {
        ns->over = true;
        if (ns->slot)
            slot_end(ns->slot);
    }
    if (e->stopping || (e->draining && !e->proven)) {
        engine_check_drained(e);
        return;
    }
    if (!*probe.failure)
        box_settle(&probe.asking);
    enum box_state state = verdict_give(&probe.asking, probe.failure);
    if (e->proven) {
        tell_verdict(e, state);
    } else if (state == BOX_REFUSED) {
        any_refused = true;
        if (!host.only)
            log_refused();
        if (!host.only || *probe.failure) {
            end_start(e, true);
            return;
        }
    }
    const struct box *next = verdict_find_unasked();
    if (e->proven)
        probe_go_on(e);
    else if (next)
        begin_box(next);
    else
        end_start(e, any_refused);
}

void probe_start(struct engine *e)
{
    probe.e = e;
    probe.started_ns = clock_now_ns();
    probe.answers.on_ready = on_answers;
    probe.retry.on_due = on_retry;
    verdict_on_policies(e->policies);
    begin_box(verdict_find_unasked());
}

void probe_on_policies(struct engine *e)
{
    verdict_on_policies(e->policies);
}

void probe_go_on(struct engine *e)
{
    const struct box *next = verdict_find_unasked();
    if (probe.is_on || e->stopping)
        return;
    if (!next) {
        verdict_sum_up();
        engine_say_hello(e);
    } else if (!e->draining || e->queued_runs > 0) {
        begin_box(next);
    }
}

/* A zygote that could not even set itself up: which layer was that? */
void probe_log_step(const struct slot *s, const struct zyg_report *report, const char *text)
{
    const struct policy_layer_word *w = report && report->event == ZYG_FAILED
                                            ? policy_find_layer(zyg_step_layer(report->step))
                                            : NULL;
    bool is_first = !s->engine->ever_started; /* before there was one to be asked */
    if (!w || !(is_first || (probe.is_on && s->box == probe.asking.hash)))
        return;
    if (is_first) {
        verdict_on_policies(s->engine->policies);
        probe.asking = *verdict_find_unasked();
    }
    struct zyg_probe_answer a = {.layer = (uint32_t)w->layer, .state = ZYG_BROKEN};
    (void)snprintf(a.question, sizeof a.question, "can it be set up?");
    (void)snprintf(a.detail, sizeof a.detail, "%s", text);
    box_take_answer(&probe.asking, &a, false);
    (void)verdict_give(&probe.asking, text);
    if (!host.only) {
        box_log_layer(&probe.asking, (size_t)(w - policy_layer_words));
    } else if (is_first) { /* it does not come as far as to be asked */
        verdict_sum_up();
        verdict_print("");
    }
}

void probe_fill_hello(struct proto_hello *ret, bool names)
{
    verdict_fill_hello(ret, names);
    ret->kernel = kernel.release;
    ret->layer_count = probe.e && probe.e->proven ? POLICY_LAYERS : 0;
}
