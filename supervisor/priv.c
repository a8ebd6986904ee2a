/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/priv - the process that stays root.
 *
 * It reads one kind of packet from one peer, looks it up in the table below and does that or says
 * why not. It parses nothing, owns no policy, and remembers the phase it is in, a count for each
 * verb, and of each slot which processes and descriptors it has to end. It waits for two things,
 * the engine and signals; long work (removing cgroups, deleting trees, getting memory back) is done
 * by forked copies. A packet of the wrong size, verb or phase ends the conversation, and the end of
 * the conversation ends the service.
 */
#include "supervisor/priv.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "lib/packet.h"
#include "protocol/protocol.h"
#include "supervisor/settings.h"
#include "volumes/volumes.h"
#include "zygote/zygote.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define REMOVE_TRIES 400    /* x 5 ms: a cgroup is busy until its last zombie is reaped */
#define REMOVER_LATE_MS 100 /* after its fork failed */
#define END_MS 10000u       /* to reap everything when going down */
#define CGROUPS_MS 5000u
#define NETD_LIFE_MIN_MS 1000u
#define DRAIN_SLACK_MS                                                                             \
    5000u /* what the engine gets beyond drain_ms before it is not waited for                      \
           */

struct answer { /* what a verb hands back beside its return value */
    uint32_t detail;
    int fds[PACKET_FDS_MAX];
    size_t nfds;
    bool later; /* another process is at it: answered when that ends */
};

struct call { /* a request with its descriptors; what a verb wants to keep it takes with fd_take */
    const struct priv_request *req;
    int fds[PACKET_FDS_MAX];
    size_t nfds;
};

static void tell(struct priv *p, const struct priv_reply *reply, const int *fds, size_t nfds)
{
    struct priv_reply counted = *reply;
    if (p->engine_sock < 0)
        return;
    if (reply->verb < PRIV_VERBS) {
        counted.calls = p->done[reply->verb].calls;
        counted.failures = p->done[reply->verb].failures;
    }
    int r = packet_send(p->engine_sock, &counted, sizeof counted, fds, nfds);
    /* EPIPE, or once ECONNRESET: it left, and its last word is still to be read. */
    if (r < 0 && r != -EPIPE && r != -ECONNRESET && !p->going_down) {
        LOG(ERROR, "engine_stuck", F_STR("error", strerror(-r)));
        p->going_down = true;
        p->exit_status = 1;
    }
}

/* ---- slots -------------------------------------------------------------------------------------
 */

static int ask_primordial(struct priv *p, const struct zyg_birth *birth, const int *fds,
                          size_t nfds, struct zyg_born *born, int ret_fds[3], struct err *err)
{
    int got[PACKET_FDS_MAX];
    size_t want = birth->join ? 1 : birth->net_address ? 3 : 2;
    size_t ngot = 0;
    int r = packet_send(p->primordial_sock, birth, sizeof *birth, fds, nfds);
    ssize_t n = r < 0 ? r : packet_recv(p->primordial_sock, born, sizeof *born, got, &ngot);
    if (n != (ssize_t)sizeof *born || (born->error == 0) != (ngot == want)) {
        for (size_t i = 0; i < ngot; i++)
            fd_close(&got[i]);
        (void)kill(p->primordial,
                   SIGKILL); /* reaped as any child; the next request starts another */
        fd_close(&p->primordial_sock);
        return err_set(err, "the primordial does not answer");
    }
    if (born->error) {
        errno = born->error;
        return err_sys(err, "clone a zygote");
    }
    for (size_t i = 0; i < want; i++)
        ret_fds[i] = got[i];
    return 0;
}

/* *ret_netns: -1 without a network, and of a companion, which has its zygote's: link, uids and the
 * name of the namespace are that one's. */
static int clone_zygote(struct priv *p, uint32_t slot, const struct call *call, const int *procs,
                        int pids_current, int *ret_netns, struct err *err)
{
    const struct settings *set = p->set;
    uint32_t join = call->req->join, home = join ? join - 1 : slot;
    struct zyg_birth birth = {
        .slot = slot,
        .policy = call->req->policy,
        .procs_count = (uint32_t)p->cg.trees,
        .moulds = set->memory == SETTINGS_MEMORY_RECYCLED,
        .owner_uid = (uint32_t)(set->uid_base - ZYG_UIDS_PER_SLOT + home),
        .base_uid = (uint32_t)(set->uid_base + (uint64_t)home * ZYG_UIDS_PER_SLOT),
        .join = join != 0,
    };
    struct zyg_born born;
    int fds[PACKET_FDS_MAX] = {call->fds[0], call->fds[1]}, got[3] = {-1, -1, -1};
    size_t n = 2;
    for (size_t i = 0; i < p->cg.trees; i++)
        fds[n++] = procs[i];
    /* In none of them: a zygote that shares a quota with what it has to kill is as slow as that. */
    birth.joins_count = birth.procs_count;
    for (size_t i = 0; i < birth.joins_count; i++)
        fds[n++] = p->cg.zygotes_fd[i];
    birth.has_pids_current = pids_current >= 0;
    if (pids_current >= 0)
        fds[n++] = pids_current;
    if (join)
        fds[n++] = p->slots[home].pidfd;
    uint32_t policy_net = p->net && !join ? p->net_of[birth.policy] : NET_POLICIES_MAX;
    if (policy_net < NET_POLICIES_MAX) {
        birth.net_address = net_ns_address(p->net->subnet, slot);
        birth.net_gateway = net_host_address(p->net->subnet, slot);
    }
    int r = ask_primordial(p, &birth, fds, n, &born, got, err);
    if (r < 0)
        return r;
    p->slots[slot] = (struct priv_slot){.used = true,
                                        .pid = born.pid,
                                        .pidfd = got[0],
                                        .userns = got[1],
                                        .net = policy_net,
                                        .joined = join,
                                        .box = p->policies->plans[birth.policy].box,
                                        .group = p->policies->plans[birth.policy].limits.group};
    if (join)
        memcpy(p->slots[slot].ns_id, p->slots[home].ns_id, sizeof p->slots[slot].ns_id);
    *ret_netns = got[2];
    return 0;
}

/* Once: can the filesystem of fs_root be id-mapped? A service that cannot attach should not start.
 */
static int probe_volumes(struct priv *p, uint32_t slot, struct err *err)
{
    if (p->volumes_probed)
        return 0;
    int r = vol_probe(p->root_fd, p->slots[slot].userns, err);
    p->volumes_probed = r == 0;
    return r;
}

static void end_zygote_of(struct priv *p, uint32_t slot);

/* The plan that a request names; NULL and err: none, or that of policies that are no longer. */
static const struct policy_plan *find_plan(const struct priv *p, const struct priv_request *req,
                                           struct err *err)
{
    if (req->generation == p->generation && req->policy < p->policies->count)
        return &p->policies->plans[req->policy];
    errno = ESTALE;
    (void)err_sys(err, "the policies have changed");
    return NULL;
}

/* Only beside a zygote that has its volume, and only a box like that one's: who joins a namespace
 * does not bring other rights into it. */
static int check_join(const struct priv *p, const struct priv_request *req,
                      const struct policy_plan *plan, struct err *err)
{
    const struct priv_slot *s = req->join <= p->slot_count ? &p->slots[req->join - 1] : NULL;
    if (!s || !s->used || s->ending || s->pid == 0 || s->joined || !(*s->ns_id || s->blank))
        return err_set(err, "start_zygote: there is no zygote to join");
    if (s->box == plan->box && (!*s->ns_id || policy_may_have(p->policies, req->policy, s->ns_id)))
        return 0;
    errno = ESTALE;
    return err_sys(err, "start_zygote: not the policy of the zygote to join");
}

static int start_zygote(struct priv *p, struct call *call, struct answer *ret, struct err *err)
{
    uint32_t slot = call->req->slot;
    int procs[CGROUP_TREES_MAX], counters[PRIV_COUNTERS], r = 0;
    auto_close int netns = -1;
    const struct policy_plan *plan = find_plan(p, call->req, err);
    if (!plan)
        return err->code;
    if (call->nfds != 2 || slot >= p->slot_count || p->slots[slot].used)
        return err_set(err, "start_zygote: bad slot or descriptors");
    if (call->req->join && check_join(p, call->req, plan, err) < 0)
        return err->code;
    if (p->primordial_sock < 0)
        r = priv_start_primordial(p, err);
    if (r == 0)
        r = cgroup_make(&p->cg, slot, &plan->limits.group, procs, counters, err);
    if (r < 0)
        return r;
    counters[PRIV_NET_RX] = counters[PRIV_NET_TX] = -1;
    r = clone_zygote(p, slot, call, procs, counters[CGROUP_PIDS_CURRENT], &netns, err);
    bool lives = r == 0;
    if (lives && netns >= 0)
        r = priv_net_attach(p, slot, netns, &counters[PRIV_NET_RX], err);
    for (size_t i = 0; i < CGROUP_TREES_MAX; i++)
        fd_close(&procs[i]);
    fd_close(&counters[CGROUP_PIDS_CURRENT]); /* the zygote's, not the engine's */
    ret->detail = p->execs ? PRIV_ZYGOTE_EXECS : 0;
    for (uint32_t i = 0; i < PRIV_COUNTERS; i++)
        if (counters[i] >= 0) {
            ret->detail |= 1u << i;
            ret->fds[ret->nfds++] = counters[i];
        }
    if (!lives) {
        /* A primordial that cloned but did not answer: the zygote ends by itself, at its next word
         * to the engine, and is in the cgroups till then. END_ZYGOTE, which follows, waits for
         * that. */
        if (cgroup_remove(&p->cg, slot) < 0)
            p->slots[slot] = (struct priv_slot){
                .used = true, .pidfd = -1, .userns = -1, .joined = call->req->join};
        return r;
    }
    if (r == 0 && !call->req->join)
        r = probe_volumes(p, slot, err);
    if (r < 0)
        end_zygote_of(p, slot);
    return r;
}

static bool is_for_probe(const struct priv_request *req)
{
    return strncmp(req->ns_id, PRIV_PROBE_ID, strlen(PRIV_PROBE_ID)) == 0;
}

/* What it was started with, or given since, may be another namespace's. */
static int limit_as_owner(struct priv *p, uint32_t slot, const char *ns_id, struct err *err)
{
    const struct policy_match *m = policy_find_match(p->policies, ns_id);
    const struct policy_group *group = &p->policies->plans[m ? m->policy : 0].limits.group;
    if (policy_has_group(p->policies, &p->slots[slot].group, ns_id))
        return 0;
    int r = cgroup_limit(&p->cg, slot, group, err);
    if (r == 0)
        p->slots[slot].group = *group;
    return r;
}

static int attach_volume(struct priv *p, struct call *call, struct answer *ret, struct err *err)
{
    const struct priv_request *req = call->req;
    bool for_probe = is_for_probe(req);
    if (req->slot >= p->slot_count || p->slots[req->slot].userns < 0 || !p->slots[req->slot].used)
        return err_set(err, "attach_volume: bad slot");
    if (!for_probe && !policy_serves(p->policies, p->slots[req->slot].box, req->ns_id)) {
        errno = ESTALE;
        return err_sys(err, "attach_volume: not this namespace's policy");
    }
    if (!for_probe && limit_as_owner(p, req->slot, req->ns_id, err) < 0)
        return err->code;
    int userns = p->slots[req->slot].userns;
    int r = for_probe ? vol_attach_blank(p->root_fd, userns, &p->slots[req->slot].blank,
                                         &ret->fds[0], err)
                      : vol_attach(p->root_fd, req->ns_id, userns, &ret->fds[0], err);
    if (r < 0)
        return r;
    ret->nfds = 1;
    if (!for_probe)
        (void)snprintf(p->slots[req->slot].ns_id, sizeof p->slots[0].ns_id, "%s", req->ns_id);
    fd_close(&p->slots[req->slot].userns);
    return 0;
}

/* Writing back a tenant's dirty pages can take seconds, in which others want their zygotes: a copy
 * of priv waits for it. */
static int start_limiter(struct priv *p, uint32_t slot, struct answer *ret, struct err *err)
{
    pid_t pid = SYS(fork());
    if (pid < 0)
        return err_sys(err, "fork to limit a zygote");
    if (pid == 0)
        _exit(-cgroup_limit(&p->cg, slot, &p->slots[slot].group, err) & 0xff);
    p->slots[slot].limiter = pid;
    ret->later = true;
    return 0;
}

static int limit_zygote(struct priv *p, struct call *call, struct answer *ret, struct err *err)
{
    const struct priv_request *req = call->req;
    const struct policy_plan *plan = find_plan(p, req, err);
    if (!plan)
        return err->code;
    if (req->slot >= p->slot_count || !p->slots[req->slot].used)
        return err_set(err, "limit_zygote: bad slot");
    struct priv_slot *s = &p->slots[req->slot];
    if (*s->ns_id && !policy_may_have(p->policies, req->policy, s->ns_id)) {
        errno = ESTALE;
        return err_sys(err, "limit_zygote: not this namespace's policy");
    }
    struct policy_group limits = plan->limits.group;
    if (req->memory_bytes && req->memory_bytes < limits.memory_bytes)
        limits.memory_bytes = req->memory_bytes;
    if (req->pids_max && req->pids_max < limits.pids_max)
        limits.pids_max = req->pids_max;
    if (s->limiter || p->going_down)
        return err_set(err, "limit_zygote: it is being limited, or the service is ending");
    s->group = limits;
    if (cgroup_holds_more(&p->cg, req->slot, limits.memory_bytes))
        return start_limiter(p, req->slot, ret, err);
    return cgroup_limit(&p->cg, req->slot, &limits, err);
}

static int ask_limits(struct priv *p, struct call *call, struct answer *ret, struct err *err)
{
    const struct priv_slot *s = call->req->slot < p->slot_count ? &p->slots[call->req->slot] : NULL;
    if (s && s->joined)
        s = &p->slots[s->joined - 1];
    if (!s || !s->blank)
        return err_set(err, "ask_limits: bad slot");
    ret->detail =
        cgroup_find_broken(&p->cg, call->req->slot, &p->slots[call->req->slot].group, err);
    return 0;
}

/* Has one of those that are being removed had a volume, and perhaps pages that are not written yet?
 */
static bool removes_a_volume(const struct priv *p)
{
    for (uint32_t i = 0; i < p->slot_count; i++)
        if (p->slots[i].removing && (*p->slots[i].ns_id || p->slots[i].blank))
            return true;
    return false;
}

/* One whose start failed is ended here before the engine asks: that is answered when it does. */
static void on_removed(struct priv *p, uint32_t slot)
{
    bool asked = p->slots[slot].end_asked;
    vol_drop_blank(p->root_fd, p->slots[slot].blank);
    p->slots[slot] = (struct priv_slot){.pidfd = -1, .userns = -1};
    if (asked)
        tell(p, &(struct priv_reply){.verb = PRIV_END_ZYGOTE, .slot = slot}, NULL, 0);
}

/* One that had no volume mostly leaves cgroups that can go at once. */
static bool remove_at_once(struct priv *p, uint32_t slot)
{
    const struct priv_slot *s = &p->slots[slot];
    if (*s->ns_id || s->blank || s->limiter || cgroup_remove_unused(&p->cg, slot) < 0)
        return false;
    on_removed(p, slot);
    return true;
}

/* Its uids are theirs, so the next tenant of this slot waits for them, too. */
static bool has_companions(const struct priv *p, uint32_t slot)
{
    for (uint32_t i = 0; i < p->slot_count; i++)
        if (p->slots[i].used && p->slots[i].joined == slot + 1)
            return true;
    return false;
}

/* A copy of priv removes the cgroups of all slots that are ready for it; one copy at a time. */
static void start_remover(struct priv *p)
{
    bool any = false, again = p->remover_is_late;
    if (p->remover || p->going_down)
        return; /* what is marked now, that copy would not know of */
    p->remover_is_late = false;
    for (uint32_t i = 0; i < p->slot_count; i++)
        if (p->slots[i].ending && p->slots[i].pid == 0 && p->slots[i].limiter == 0 &&
            !has_companions(p, i))
            any = p->slots[i].removing = true;
    if (!any)
        return;
    pid_t pid = SYS(fork());
    if (pid < 0) { /* runs wait for these slots, and nothing else need ever happen */
        p->remover_is_late = true;
        if (!again)
            LOG(WARN, "fork_failed", F_STR("for", "removing cgroups"),
                F_STR("error", strerror(errno)));
        return;
    }
    p->remover = pid;
    if (pid > 0)
        return;
    int failed = 0;
    if (removes_a_volume(p)) /* force_empty drops clean pages only; the rest keeps a dead cgroup */
        (void)syncfs(p->root_fd);
    for (uint32_t i = 0; i < p->slot_count; i++) {
        int r = -EBUSY;
        for (int try = 0; p->slots[i].removing && r < 0 && try < REMOVE_TRIES; try++) {
            r = cgroup_remove(&p->cg, i);
            if (r < 0)
                (void)poll(NULL, 0, 5);
        }
        failed |= p->slots[i].removing && r < 0;
    }
    _exit(failed);
}

static void on_remover_done(struct priv *p, int status)
{
    p->remover = 0;
    if (status != 0)
        LOG(WARN, "cgroups_left", F_I64("status", status));
    for (uint32_t i = 0; i < p->slot_count; i++)
        if (p->slots[i].removing)
            on_removed(p, i);
    start_remover(p);
}

static void end_zygote_of(struct priv *p, uint32_t slot)
{
    struct priv_slot *s = &p->slots[slot];
    s->ending = true;
    if (s->limiter)
        (void)kill(s->limiter, SIGKILL);
    for (uint32_t i = 0; i < p->slot_count; i++)
        if (p->slots[i].joined == slot + 1 && p->slots[i].pid)
            (void)syscall(SYS_pidfd_send_signal, p->slots[i].pidfd, SIGKILL, NULL, 0);
    if (s->pid)
        (void)syscall(SYS_pidfd_send_signal, s->pidfd, SIGKILL, NULL, 0);
    else
        start_remover(p);
}

static int end_zygote(struct priv *p, struct call *call, struct answer *ret, struct err *err)
{
    (void)ret;
    uint32_t slot = call->req->slot;
    if (slot >= p->slot_count)
        return err_set(err, "end_zygote: bad slot");
    if (!p->slots[slot].used) { /* its start had failed */
        tell(p, &(struct priv_reply){.verb = PRIV_END_ZYGOTE, .slot = slot}, NULL, 0);
        return 0;
    }
    p->slots[slot].end_asked = true;
    end_zygote_of(p, slot);
    return 0;
}

/* ---- volumes, frontend -------------------------------------------------------------------------
 */

static void sweep(struct priv *p)
{
    struct err err;
    if (p->sweeper || p->going_down)
        return;
    int r = vol_sweep(p->root_fd, p->sweep_skip, &err);
    if (r < 0)
        LOG(WARN, "sweep_failed", F_STR("error", err.text));
    else
        p->sweeper = r;
}

static int discard_volume(struct priv *p, struct call *call, struct answer *ret, struct err *err)
{
    int r = vol_discard(p->root_fd, call->req->ns_id, err);
    ret->detail = r == VOL_ABSENT;
    if (r == 0) {
        p->sweep_skip = 0;
        sweep(p);
    }
    return r < 0 ? r : 0;
}

static int start_frontend(struct priv *p, struct call *call, struct answer *ret, struct err *err)
{
    (void)ret;
    p->phase = PRIV_SERVING;
    if (p->frontend || p->drains > 0 || call->nfds == 0)
        return err_set(err, "start_frontend: one is running, or the service is stopping");
    priv_courier_want(p);
    return priv_start_frontend(p, call->fds, call->nfds, err);
}

static int begin_drain(struct priv *p, struct call *call, struct answer *ret, struct err *err)
{
    (void)call;
    (void)ret;
    (void)err;
    p->phase = PRIV_DRAINING;
    return 0;
}

static int go_down(struct priv *p, struct call *call, struct answer *ret, struct err *err)
{
    (void)ret;
    (void)err;
    p->going_down = true;
    p->exit_status = call->req->slot == 0 ? 0 : 1;
    return 0;
}

#define ANY_PHASE (PRIV_STARTING | PRIV_SERVING | PRIV_DRAINING)
static const struct {
    unsigned phases;
    int (*run)(struct priv *p, struct call *call, struct answer *ret, struct err *err);
    bool names_volume, answers;
} verbs[PRIV_VERBS] = {
    [PRIV_START_ZYGOTE] = {ANY_PHASE, start_zygote, false, true},
    [PRIV_LIMIT_ZYGOTE] = {ANY_PHASE, limit_zygote, false, true},
    [PRIV_ATTACH_VOLUME] = {PRIV_SERVING | PRIV_DRAINING, attach_volume, true, true},
    [PRIV_ASK_LIMITS] = {ANY_PHASE, ask_limits, false, true},
    [PRIV_END_ZYGOTE] = {ANY_PHASE, end_zygote, false, false},
    [PRIV_DISCARD_VOLUME] = {PRIV_SERVING | PRIV_DRAINING, discard_volume, true, true},
    [PRIV_START_FRONTEND] = {PRIV_STARTING | PRIV_SERVING, start_frontend, false, true},
    [PRIV_BEGIN_DRAIN] = {PRIV_STARTING | PRIV_SERVING, begin_drain, false, true},
    [PRIV_DOWN] = {ANY_PHASE, go_down, false, false},
};

static bool is_well_formed(const struct priv_request *req, ssize_t len)
{
    if (len != (ssize_t)sizeof *req || req->verb == 0 || req->verb >= PRIV_VERBS)
        return false;
    if (req->verb == PRIV_ATTACH_VOLUME && memchr(req->ns_id, 0, sizeof req->ns_id) &&
        is_for_probe(req))
        return true;
    return !verbs[req->verb].names_volume || (memchr(req->ns_id, 0, sizeof req->ns_id) &&
                                              proto_ns_id_is_valid(req->ns_id, strlen(req->ns_id)));
}

/* A probe's volume may be had at any time: at the start, and when a reload brings another box. */
static bool is_in_phase(const struct priv *p, const struct priv_request *req)
{
    bool for_probe = req->verb == PRIV_ATTACH_VOLUME && is_for_probe(req);
    return (for_probe ? ANY_PHASE : verbs[req->verb].phases) & p->phase;
}

/* Reads and does one request; false when the conversation is over. */
static bool on_request(struct priv *p)
{
    struct priv_request req;
    struct call call = {.req = &req};
    struct answer answer = {0};
    struct err err = {0};
    ssize_t n = packet_recv(p->engine_sock, &req, sizeof req, call.fds, &call.nfds);
    /* It left before it read our last words: that is told first, and once, and its own last word,
     * DOWN, is still to be read. unix_release_sock() in the kernel's af_unix.c. */
    if (n == -ECONNRESET)
        n = packet_recv(p->engine_sock, &req, sizeof req, call.fds, &call.nfds);
    if (n == 0) {
        LOG(ERROR, "engine_died");
        return false;
    }
    if (!is_well_formed(&req, n) || !is_in_phase(p, &req)) {
        LOG(ERROR, "bad_request_from_engine", F_I64("bytes", n),
            F_U64("verb", n >= (ssize_t)sizeof req.verb ? req.verb : 0), F_U64("phase", p->phase));
        for (size_t i = 0; n > 0 && i < call.nfds; i++)
            fd_close(&call.fds[i]);
        return false;
    }
    p->done[req.verb].calls++;
    int r = verbs[req.verb].run(p, &call, &answer, &err);
    p->done[req.verb].failures += r < 0;
    struct priv_reply reply = {
        .verb = req.verb, .slot = req.slot, .error = -r, .detail = answer.detail};
    (void)snprintf(reply.text, sizeof reply.text, "%.*s", (int)sizeof reply.text - 1, err.text);
    if (verbs[req.verb].answers && !answer.later)
        tell(p, &reply, answer.fds, r == 0 ? answer.nfds : 0);
    for (size_t i = 0; i < answer.nfds; i++)
        fd_close(&answer.fds[i]);
    for (size_t i = 0; i < call.nfds; i++)
        fd_close(&call.fds[i]);
    /* Behind a start, which nobody waited for, and with nothing else to do. */
    if (req.verb == PRIV_START_ZYGOTE &&
        poll(&(struct pollfd){.fd = p->engine_sock, .events = POLLIN}, 1, 0) == 0)
        vol_prepare(p->root_fd);
    return true;
}

/* ---- signals and children ----------------------------------------------------------------------
 */

static void on_limiter_done(struct priv *p, uint32_t slot, int status)
{
    struct priv_reply reply = {.verb = PRIV_LIMIT_ZYGOTE, .slot = slot};
    reply.error = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
    if (reply.error)
        (void)snprintf(reply.text, sizeof reply.text, "limit a zygote: %s", strerror(reply.error));
    p->done[PRIV_LIMIT_ZYGOTE].failures += reply.error != 0;
    p->slots[slot].limiter = 0;
    tell(p, &reply, NULL, 0);
    if (p->slots[slot].ending)
        start_remover(p);
}

static void on_zygote_gone(struct priv *p, pid_t pid, int status)
{
    for (uint32_t i = 0; i < p->slot_count; i++) {
        struct priv_slot *s = &p->slots[i];
        if (s->limiter == pid) {
            on_limiter_done(p, i, status);
            return;
        }
        if (s->pid != pid)
            continue;
        s->pid = 0;
        fd_close(&s->pidfd);
        fd_close(&s->userns);
        if (p->net && s->net < NET_POLICIES_MAX)
            priv_net_detach(p, i);
        bool waited_for = s->joined; /* by its zygote's slot */
        if (s->ending && (p->going_down || !remove_at_once(p, i) || waited_for))
            start_remover(p);
        return;
    }
}

/* A primordial has the policies of its start: the next zygote comes from a new one. */
static void announce_policies(struct priv *p)
{
    tell(p, &(struct priv_reply){.verb = PRIV_POLICIES, .detail = p->generation}, &p->policies_fd,
         1);
    if (p->primordial > 0)
        (void)kill(p->primordial, SIGKILL);
    p->primordial = 0;
    fd_close(&p->primordial_sock);
}

static void announce_keys(struct priv *p, int status)
{
    auto_close int fd = priv_take_keys(p, status);
    if (fd >= 0)
        tell(p, &(struct priv_reply){.verb = PRIV_KEYS}, &fd, 1);
    if (p->read_keys_again)
        priv_start_key_reader(p);
}

/* Its rules stand without it, but nobody would see them removed; nor is one that dies at once of
 * use. */
static void replace_netd(struct priv *p, int status)
{
    struct err err;
    LOG(ERROR, "netd_died", F_I64("status", status));
    if (clock_now_ns() - p->netd_started_ns > NETD_LIFE_MIN_MS * CLOCK_NS_PER_MS &&
        priv_net_start(p, &err) < 0)
        LOG(ERROR, "netd_not_replaced", F_STR("error", err.text));
}

static void reap(struct priv *p)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        if (pid == p->engine) {
            p->engine = 0;
            if (!p->going_down &&
                status != 0) /* with 0 it has said DOWN, which is still to be read */
                LOG(ERROR, "engine_died", F_I64("status", status));
        } else if (pid == p->frontend) {
            p->frontend = 0;
            tell(p, &(struct priv_reply){.verb = PRIV_FRONTEND_EXITED, .detail = (uint32_t)status},
                 NULL, 0);
        } else if (pid == p->courier) {
            priv_courier_on_exit(p, status);
        } else if (pid == p->primordial) {
            p->primordial = 0;
            fd_close(&p->primordial_sock);
            if (!p->going_down)
                LOG(WARN, "primordial_died", F_I64("status", status));
        } else if (pid == p->compiler) {
            p->compiler = 0;
            if (priv_take_compiled(p, status))
                announce_policies(p);
            if (p->compile_again)
                priv_start_compiler(p);
        } else if (pid == p->key_reader) {
            p->key_reader = 0;
            announce_keys(p, status);
        } else if (pid == p->netd) {
            p->netd = 0;
            fd_close(&p->netd_sock);
            if (!p->going_down)
                replace_netd(p, status);
        } else if (pid == p->remover) {
            on_remover_done(p, status);
        } else if (pid == p->sweeper) {
            p->sweeper = 0;
            if (status != 0) {
                p->sweep_skip++; /* until the next removal or start */
                LOG(WARN, "sweep_failed", F_I64("status", status));
            }
            sweep(p); /* the next tree */
        } else {
            on_zygote_gone(p, pid, status);
        }
    }
}

static void hand_over_files(struct priv *p)
{
    struct priv_reply reply = {.verb = PRIV_RELOAD};
    int fds[2];
    size_t n = 0;
    auto_close int yaml =
        p->files->yaml_path[0] ? open(p->files->yaml_path, O_RDONLY | O_CLOEXEC) : -1;
    auto_close int env =
        p->files->dotenv_path[0] ? open(p->files->dotenv_path, O_RDONLY | O_CLOEXEC) : -1;
    if (p->files->yaml_path[0] && yaml < 0) {
        LOG(ERROR, "reload_failed", F_STR("file", p->files->yaml_path),
            F_STR("error", strerror(errno)));
        return;
    }
    if (yaml >= 0) {
        fds[n++] = yaml;
        reply.detail |= 1;
    }
    if (env >= 0) {
        fds[n++] = env;
        reply.detail |= 2;
    }
    tell(p, &reply, fds, n);
}

static void reload(struct priv *p)
{
    p->reload_later = false;
    hand_over_files(p);
    priv_start_compiler(p);
    priv_start_key_reader(p);
}

static void on_signals(struct priv *p)
{
    struct signalfd_siginfo info;
    while (read(p->sig_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        switch (info.ssi_signo) {
        case SIGTERM:
        case SIGINT:
            p->drains++;
            p->down_by_ns = clock_now_ns() + (p->set->drain_ms + DRAIN_SLACK_MS) * CLOCK_NS_PER_MS;
            LOG(INFO, "stopping", F_U64("signals", p->drains), F_U64("drain_ms", p->set->drain_ms));
            tell(p, &(struct priv_reply){.verb = PRIV_DRAIN, .detail = p->drains}, NULL, 0);
            break;
        case SIGHUP:
            p->reload_later = p->phase == PRIV_STARTING;
            if (!p->reload_later)
                reload(p);
            break;
        default:
            break;
        }
    }
    reap(p);
}

/* ---- the end -----------------------------------------------------------------------------------
 */

static void kill_all(struct priv *p)
{
    const pid_t pids[] = {p->engine,  p->frontend, p->courier,  p->primordial,
                          p->remover, p->sweeper,  p->compiler, p->key_reader};
    for (size_t i = 0; i < ARRAY_LEN(pids); i++)
        if (pids[i] > 0)
            (void)kill(pids[i], SIGKILL);
    for (uint32_t i = 0; i < p->slot_count; i++) {
        if (p->slots[i].limiter > 0)
            (void)kill(p->slots[i].limiter, SIGKILL);
        if (p->slots[i].pid > 0)
            (void)syscall(SYS_pidfd_send_signal, p->slots[i].pidfd, SIGKILL, NULL, 0);
    }
}

static void end_everything(struct priv *p)
{
    uint64_t until = clock_now_ns() + END_MS * CLOCK_NS_PER_MS;
    p->going_down = true;
    fd_close(&p->engine_sock);
    fd_close(&p->primordial_sock);
    kill_all(p);
    fd_close(&p->netd_sock); /* netd cleans up and ends by itself */
    while (clock_now_ns() < until) {
        pid_t pid = waitpid(-1, NULL, WNOHANG);
        if (pid < 0)
            break; /* ECHILD */
        if (pid == 0)
            (void)poll(&(struct pollfd){.fd = p->sig_fd, .events = POLLIN}, 1, 20);
        struct signalfd_siginfo info;
        while (pid == 0 && read(p->sig_fd, &info, sizeof info) > 0)
            ;
    }
    vol_tidy(p->root_fd);
    cgroup_stop(&p->cg, CGROUPS_MS);
}

int priv_serve(struct priv *p)
{
    p->phase = PRIV_STARTING;
    if (!p->probe_only)
        sweep(p); /* what an earlier service left */
    while (!p->going_down) {
        struct pollfd fds[] = {{.fd = p->engine_sock, .events = POLLIN},
                               {.fd = p->sig_fd, .events = POLLIN}};
        int n = poll(fds, ARRAY_LEN(fds),
                     p->remover_is_late                   ? REMOVER_LATE_MS
                     : p->down_by_ns || p->courier_due_ns ? 1000
                                                          : -1);
        if (n < 0 && errno != EINTR)
            break;
        /* Requests first: an engine that said DOWN and left did not die. */
        if (fds[0].revents && !on_request(p)) {
            p->exit_status = 1;
            break;
        }
        if (fds[1].revents)
            on_signals(p);
        if (p->remover_is_late)
            start_remover(p);
        priv_courier_tick(p);
        /* While the layers are being proven nothing changes under them. */
        if (p->reload_later && p->phase != PRIV_STARTING)
            reload(p);
        if (p->down_by_ns && clock_now_ns() > p->down_by_ns) {
            LOG(ERROR, "drain_overdue");
            p->exit_status = 1;
            break;
        }
    }
    end_everything(p);
    return p->exit_status;
}
