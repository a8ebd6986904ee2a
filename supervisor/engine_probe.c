/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/engine_probe - before anybody is served: do the layers hold, asked from inside?
 *
 * The first spare is given to a namespace that no client can name, and is sent two runs that ask
 * an attacker's questions instead of evaluating a command (zygote/probe.c): one by its first child,
 * one by a fork of the zygote as it is when it has restricted itself. The second is kept alive
 * until priv has looked whether its cgroups limit it. A required layer that is broken or missing
 * ends the start with its name, the question that succeeded and the remedy; nobody has been
 * listened to until then. The zygote and its volume are thrown away.
 *
 * What is found is kept for Hello: the frontend's /v1/capabilities and `brood doctor` show it.
 */
#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "policy/policy.h"
#include "supervisor/engine.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#define ROUNDS 2
#define ROUND_MS 5000u
#define ANSWERS_BYTES (ZYG_PROBE_QUESTIONS_MAX * sizeof(struct zyg_probe_answer))

struct layer {
    enum zyg_probe_state state;
    bool asked;
    unsigned questions;
    char question[sizeof((struct zyg_probe_answer *)0)->question];
    char detail[sizeof((struct zyg_probe_answer *)0)->detail + 64];
};

static struct probe_host host;

static struct probe {
    struct engine *e;
    int round, hold; /* hold: the other end of the child's stdin */
    struct loop_io answers;
    struct loop_timer next;
    uint64_t started_ns;
    char bytes[ANSWERS_BYTES];
    size_t len;
    char failure[240]; /* why it could not be asked; "": it could */
    struct layer layers[POLICY_LAYERS];
    struct proto_layer told[POLICY_LAYERS];
    struct utsname kernel;
} probe = {.hold = -1, .answers.fd = -1};

void probe_note_host(const struct probe_host *h)
{
    (void)uname(&probe.kernel); /* while we may */
    static const char *const names[ZYG_NS_KINDS] = {
        [ZYG_NS_USER] = "user",    [ZYG_NS_MNT] = "mnt", [ZYG_NS_PID] = "pid",
        [ZYG_NS_NET] = "net",      [ZYG_NS_IPC] = "ipc", [ZYG_NS_UTS] = "uts",
        [ZYG_NS_CGROUP] = "cgroup"};
    host = *h;
    for (size_t i = 0; i < ZYG_NS_KINDS; i++) {
        char path[32];
        struct stat st;
        (void)snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
        host.ask.host_ns[i] = stat(path, &st) == 0 ? st.st_ino : 0;
    }
}

/* ---- a round -----------------------------------------------------------------------------------
 */

static void fail(const char *text)
{
    if (!*probe.failure)
        (void)snprintf(probe.failure, sizeof probe.failure, "%s", text);
}

static struct run *new_run(struct ns *ns)
{
    struct pack pack = {
        .magic = ZYG_PROBE_MAGIC, .cmd = &host.ask, .cmd_len = sizeof host.ask, .cwd = ""};
    struct run *run = calloc(1, sizeof *run);
    if (!run)
        return NULL;
    *run = (struct run){.kind = RUN_PROBE, .ns = ns, .stage_count = 1, .artifacts_fd = -1};
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

static void conclude(void);

static void begin_round(void)
{
    struct ns *ns = ns_get(probe.e, PRIV_PROBE_ID);
    struct run *run = ns ? new_run(ns) : NULL;
    if (!run || !open_pipes(run)) { /* what is lost here goes with the process */
        fail("out of memory or descriptors");
        conclude();
        return;
    }
    probe.round++;
    probe.len = 0;
    run_start_own(run);
}

/* Into the table; what was broken once stays so. */
static void take_answer(const struct zyg_probe_answer *a)
{
    for (size_t i = 0; i < POLICY_LAYERS; i++) {
        struct layer *l = &probe.layers[i];
        if ((uint32_t)policy_layer_words[i].layer != a->layer || a->state >= ZYG_PROBE_STATES)
            continue;
        bool worse = a->state == ZYG_BROKEN && l->state != ZYG_BROKEN;
        bool better = a->state == ZYG_HELD && l->state == ZYG_ABSENT;
        l->questions += probe.round == 1 && a->state == ZYG_HELD;
        if (l->asked && !worse && !better)
            continue;
        l->asked = true;
        l->state = (enum zyg_probe_state)a->state;
        (void)snprintf(l->question, sizeof l->question, "%.*s", (int)sizeof a->question - 1,
                       a->question);
        (void)snprintf(l->detail, sizeof l->detail, "%.*s", (int)sizeof a->detail - 1, a->detail);
    }
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
        take_answer(&a);
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
    struct ns *ns = ns_find(probe.e, PRIV_PROBE_ID);
    if (probe.round == ROUNDS && ns && ns->slot) {
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
    for (size_t i = 0; i < ARRAY_LEN(cgroups); i++) {
        bool broken = reply->error || reply->detail & cgroups[i];
        struct zyg_probe_answer a = {.layer = cgroups[i], .state = broken ? ZYG_BROKEN : ZYG_HELD};
        (void)snprintf(a.question, sizeof a.question, "am I outside of its limit?");
        (void)snprintf(a.detail, sizeof a.detail, "%.*s", (int)sizeof a.detail - 1,
                       broken ? reply->text : "in it, and it reads as set");
        take_answer(&a);
    }
    for (size_t i = 0; i < POLICY_LAYERS; i++)
        if (policy_layer_words[i].layer &
            (POLICY_CGROUP_MEMORY | POLICY_CGROUP_PIDS | POLICY_CGROUP_CPU))
            probe.layers[i].questions = probe.layers[i].state == ZYG_HELD;
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
    if (probe.round < ROUNDS && !*probe.failure && !probe.e->draining)
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
    probe.next.on_due = on_next; /* not from inside of the slot's step */
    (void)loop_timer_set(&e->loop, &probe.next, 0);
}

void probe_start(struct engine *e)
{
    probe.e = e;
    probe.started_ns = clock_now_ns();
    probe.answers.on_ready = on_answers;
    begin_round();
}

/* ---- the verdict -------------------------------------------------------------------------------
 */

static bool is_required(size_t i)
{
    const struct policy_layer_word *w = &policy_layer_words[i];
    bool degraded = w->need == POLICY_DEGRADES && probe.layers[i].state == ZYG_ABSENT;
    bool off = w->layer == POLICY_LANDLOCK && !(host.ask.rights & POLICY_FILES);
    if (w->need == POLICY_BASIC || host.required & (uint32_t)w->layer)
        return true;
    return !(degraded || off || host.optional & (uint32_t)w->layer);
}

static bool stops_the_start(size_t i)
{
    return is_required(i) && probe.layers[i].state != ZYG_HELD;
}

/* What was not installed because the machine lacks it is not broken. */
static void settle_layers(void)
{
    for (size_t i = 0; i < POLICY_LAYERS; i++) {
        struct layer *l = &probe.layers[i];
        const struct policy_layer_word *w = &policy_layer_words[i];
        if (!l->asked || (w->need == POLICY_MAY_LACK && !(host.layers & (uint32_t)w->layer))) {
            l->state = ZYG_ABSENT;
            (void)snprintf(l->detail, sizeof l->detail, "%s",
                           l->asked ? "not there, and not required" : "was not asked");
        }
        if (l->state == ZYG_HELD) {
            l->question[0] = 0;
            (void)snprintf(l->detail, sizeof l->detail, "%u attack%s refused", l->questions,
                           l->questions == 1 ? "" : "s");
        }
        probe.told[i] = (struct proto_layer){.name = w->name,
                                             .state = (enum proto_layer_state)l->state,
                                             .required = is_required(i),
                                             .question = l->question,
                                             .detail = l->detail};
    }
}

static void print_lines(void)
{
    static const char *const states[] = {"held", "broken", "absent"};
    if (*probe.failure)
        (void)printf("service\tbroken\trequired\tcan it be asked?\t%s\t\n", probe.failure);
    for (size_t i = 0; i < POLICY_LAYERS; i++) {
        const struct layer *l = &probe.layers[i];
        if (!l->asked)
            continue;
        (void)printf("%s\t%s\t%s\t%s\t%s\t%s\n", policy_layer_words[i].name, states[l->state],
                     is_required(i) ? "required" : "optional", l->question, l->detail,
                     l->state == ZYG_HELD ? "" : policy_layer_words[i].remedy);
    }
    (void)fflush(stdout);
}

static void log_broken(size_t i)
{
    const struct policy_layer_word *w = &policy_layer_words[i];
    const struct layer *l = &probe.layers[i];
    char remedy[240];
    (void)snprintf(remedy, sizeof remedy, "%s%s", w->remedy,
                   w->need == POLICY_BASIC ? "" : "; or name it in optional_layers");
    LOG(ERROR, "layer_broken", F_STR("layer", w->name),
        F_STR("state", l->state == ZYG_BROKEN ? "broken" : "absent"),
        F_STR("question", l->question), F_STR("detail", l->detail), F_STR("needs", remedy));
}

static void log_layers(void)
{
    char held[400] = "", other[300] = "";
    unsigned count = 0;
    for (size_t i = 0; i < POLICY_LAYERS; i++) {
        bool is_held = probe.layers[i].state == ZYG_HELD;
        char *list = is_held ? held : other;
        size_t room = is_held ? sizeof held : sizeof other, len = strlen(list);
        (void)snprintf(list + len, room - len, "%s%s", len ? " " : "", policy_layer_words[i].name);
        count += is_held;
    }
    LOG(INFO, "layers", F_U64("held", count), F_STR("names", held), F_STR("missing", other),
        F_MS("took_ms", clock_now_ns() - probe.started_ns));
}

/* Once, after the last round or the first that failed. */
static void conclude(void)
{
    struct engine *e = probe.e;
    bool stop = *probe.failure;
    struct ns *ns = ns_find(e, PRIV_PROBE_ID);
    if (ns && ns->slot)
        slot_end(ns->slot);
    if (e->draining || e->stopping) {
        engine_check_drained(e);
        return;
    }
    settle_layers();
    if (host.only) {
        for (size_t i = 0; i < POLICY_LAYERS; i++)
            stop |= stops_the_start(i);
        print_lines();
        engine_down(e, stop);
        return;
    }
    if (*probe.failure)
        LOG(ERROR, "probe_failed", F_STR("error", probe.failure));
    else
        for (size_t i = 0; i < POLICY_LAYERS; i++)
            if (stops_the_start(i)) {
                stop = true;
                log_broken(i);
            }
    if (stop) {
        engine_down(e, 1); /* fail closed */
        return;
    }
    log_layers();
    e->proven = true;
    memset(&e->total, 0, sizeof e->total); /* what was done for ourselves does not count */
    engine_on_proven(e);
}

/* A zygote that could not even set itself up: which layer was that? */
void probe_log_step(const struct zyg_report *report, const char *text)
{
    const struct policy_layer_word *w = report && report->event == ZYG_FAILED
                                            ? policy_find_layer(zyg_step_layer(report->step))
                                            : NULL;
    if (!w)
        return;
    struct zyg_probe_answer a = {.layer = (uint32_t)w->layer, .state = ZYG_BROKEN};
    (void)snprintf(a.question, sizeof a.question, "can it be set up?");
    (void)snprintf(a.detail, sizeof a.detail, "%s", text);
    take_answer(&a);
    if (!host.only)
        log_broken((size_t)(w - policy_layer_words));
    else if (!probe.e) /* it did not come as far as to be asked */
        print_lines();
}

void probe_fill_hello(struct proto_hello *ret)
{
    ret->kernel = probe.kernel.release;
    ret->landlock_abi = host.ask.landlock_abi;
    ret->cgroup_version = host.cgroup_version;
    ret->layers = probe.told;
    ret->layer_count = probe.e && probe.e->proven ? POLICY_LAYERS : 0;
}
