/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/priv_zygotes - a zygote's start, its volume and its limits, as the engine asks for
 * them.
 *
 * In priv. A start makes the slot's cgroups and has the primordial clone into them, with the slot's
 * uids, the sockets that the engine sent and, where the policy has one, a link. Which namespace it
 * becomes is said later, with its volume: from there on its box and its limits have to be of a
 * policy that this namespace may have, whatever the engine says. What names policies that have been
 * replaced is answered ESTALE.
 */
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/packet.h"
#include "supervisor/priv_impl.h"
#include "supervisor/settings.h"
#include "volumes/volumes.h"
#include "zygote/zygote.h"
#include <signal.h>
#include <sys/wait.h>

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
static int clone_zygote(struct priv *p, uint32_t slot, const struct priv_call *call,
                        const int *procs, int pids_current, int *ret_netns, struct err *err)
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

int priv_start_zygote(struct priv *p, struct priv_call *call, struct priv_answer *ret,
                      struct err *err)
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
        r = cgroup_make(&p->cg, slot, priv_take_kept(p, slot), &plan->limits.group, procs, counters,
                        err);
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
        priv_begin_end(p, slot);
    return r;
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

int priv_attach_volume(struct priv *p, struct priv_call *call, struct priv_answer *ret,
                       struct err *err)
{
    const struct priv_request *req = call->req;
    bool for_probe = priv_is_for_probe(req);
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
static int start_limiter(struct priv *p, uint32_t slot, struct priv_answer *ret, struct err *err)
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

int priv_limit_zygote(struct priv *p, struct priv_call *call, struct priv_answer *ret,
                      struct err *err)
{
    const struct priv_request *req = call->req;
    const struct policy_plan *plan = find_plan(p, req, err);
    if (!plan)
        return err->code;
    if (req->slot >= p->slot_count || !p->slots[req->slot].used || p->slots[req->slot].ending)
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

void priv_on_limiter_done(struct priv *p, uint32_t slot, int status)
{
    struct priv_reply reply = {.verb = PRIV_LIMIT_ZYGOTE, .slot = slot};
    reply.error = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
    if (reply.error)
        (void)snprintf(reply.text, sizeof reply.text, "limit a zygote: %s", strerror(reply.error));
    p->done[PRIV_LIMIT_ZYGOTE].failures += reply.error != 0;
    p->slots[slot].limiter = 0;
    priv_tell(p, &reply, NULL, 0);
    if (p->slots[slot].ending)
        priv_start_remover(p);
}

int priv_ask_limits(struct priv *p, struct priv_call *call, struct priv_answer *ret,
                    struct err *err)
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
