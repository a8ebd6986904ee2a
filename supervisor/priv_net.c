/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/priv_net - priv's side of the network: starts brood-netd when a policy says `egress`,
 * and tells it of slots that come and go (net/net.h).
 *
 * Without such a policy nothing here runs and netd does not exist. netd reads what is written here
 * only; its answers are numbers, a text for the log, and descriptors of two counters. When it died,
 * the next start of a zygote starts another: until then its rules stand in the kernel.
 */
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "lib/packet.h"
#include "supervisor/priv_impl.h"
#include "supervisor/settings.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

/* What is fs_root's in all names of links and tables: nobody else has that directory. */
static uint32_t key_of(const struct stat *st)
{
    uint64_t x =
        (uint64_t)st->st_ino * 0x9e3779b97f4a7c15u ^ (uint64_t)st->st_dev * 0xc2b2ae3d27d4eb4fu;
    uint32_t key = (uint32_t)(x >> 40) & NET_KEY_MAX;
    return key ? key : 1;
}

/* 0: *ret_fds has `want` descriptors. */
static int await_reply(struct priv *p, uint32_t verb, uint32_t slot, int *ret_fds, size_t want,
                       struct err *err)
{
    struct net_reply reply;
    int fds[PACKET_FDS_MAX];
    size_t nfds = 0;
    ssize_t n = packet_recv(p->netd_sock, &reply, sizeof reply, fds, &nfds);
    bool good = n == (ssize_t)sizeof reply && reply.verb == verb && reply.slot == slot;
    if (good && reply.error == 0 && nfds == want) {
        for (size_t i = 0; i < want; i++)
            ret_fds[i] = fds[i];
        return 0;
    }
    for (size_t i = 0; n > 0 && i < nfds; i++)
        fd_close(&fds[i]);
    if (good && reply.error)
        return err_set(err, "%.*s", (int)sizeof reply.text - 1, reply.text);
    if (p->netd > 0)
        (void)kill(p->netd, SIGKILL); /* reaped as any child; the next request starts another */
    fd_close(&p->netd_sock);
    return err_set(err, "brood-netd does not answer");
}

static int ask_netd(struct priv *p, const struct net_order *order, int netns, int *ret_fds,
                    struct err *err)
{
    int r = packet_send(p->netd_sock, order, sizeof *order, &netns, 1);
    if (r < 0 && r != -EPIPE && r != -ECONNRESET) {
        errno = -r;
        return err_sys(err, "ask brood-netd");
    }
    return await_reply(p, order->verb, order->slot, ret_fds, 2, err);
}

/* The lock comes with the first one. */
static int configure(struct priv *p, const struct net_config *config, int lock, struct err *err)
{
    int r = packet_send(p->netd_sock, config, sizeof *config, &lock, lock >= 0);
    if (r < 0) {
        errno = -r;
        r = err_sys(err, "configure brood-netd");
    } else {
        r = await_reply(p, NET_CONFIGURE, 0, NULL, 0, err);
    }
    return r < 0 ? err_wrap(err, "network") : 0;
}

int priv_net_start(struct priv *p, struct err *err)
{
    struct stat st;
    if (!p->net || p->netd_sock >= 0)
        return 0;
    if (fstat(p->root_fd, &st) < 0)
        return err_sys(err, "stat fs_root");
    p->net->key = key_of(&st);
    p->netd_started_ns = clock_now_ns();
    auto_close int lock = openat(p->root_fd, ".lock", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (lock < 0)
        return err_sys(err, "open fs_root's .lock");
    int r = priv_start_netd(p, err);
    if (r == 0)
        r = configure(p, p->net, lock, err);
    if (r < 0) {
        fd_close(&p->netd_sock); /* which ends it */
        return r;
    }
    p->net->is_fresh = false; /* from now on its links are ours */
    LOG(INFO, "netd", F_I64("pid", p->netd));
    return 0;
}

/* The number of an equal network, or of a place that neither a link nor `keep` has any more. */
static uint32_t place_of(const struct net_config *c, const struct policy_net *net,
                         const bool keep[NET_POLICIES_MAX])
{
    uint32_t room = NET_POLICIES_MAX;
    for (uint32_t i = 0; i < NET_POLICIES_MAX; i++) {
        if (c->policy[i].mode != POLICY_NET_NONE && memcmp(&c->policy[i], net, sizeof *net) == 0)
            return i;
        if (!keep[i] && room == NET_POLICIES_MAX)
            room = i;
    }
    return room;
}

/* Links keep the number they were made with: a network stays while a policy or a link has it. */
static int number(const struct priv *p, const struct policy_set *set, struct net_config *c,
                  uint32_t ret_of[POLICIES_MAX], struct err *err)
{
    bool keep[NET_POLICIES_MAX] = {false};
    for (uint32_t i = 0; i < p->slot_count; i++)
        if (p->slots[i].used && p->slots[i].net < NET_POLICIES_MAX)
            keep[p->slots[i].net] = true;
    /* First the ones that are there already, so that no other takes their place. */
    for (int round = 0; round < 2; round++)
        for (uint32_t i = 0; i < set->count; i++) {
            const struct policy_net *net = &set->plans[i].net;
            ret_of[i] = NET_POLICIES_MAX;
            if (net->mode == POLICY_NET_NONE)
                continue;
            uint32_t at = place_of(c, net, keep);
            if (at == NET_POLICIES_MAX && round == 1)
                return err_set(err, "too many networks are in use at once (%d): try again later",
                               NET_POLICIES_MAX);
            if (at == NET_POLICIES_MAX ||
                (round == 0 && memcmp(&c->policy[at], net, sizeof *net) != 0))
                continue;
            c->policy[at] = *net;
            keep[at] = true;
            ret_of[i] = at;
        }
    c->policies = 1;
    for (uint32_t i = 0; i < NET_POLICIES_MAX; i++) {
        if (!keep[i])
            c->policy[i] = (struct policy_net){.mode = POLICY_NET_NONE};
        else
            c->policies = i + 1;
    }
    return 0;
}

/* Before the first set of policies: what does not depend on them. */
static int begin(struct priv *p, struct net_config *c, struct err *err)
{
    struct settings_network net;
    const char *name;
    int r = settings_read_network(p->set, &net, &name, err);
    *c = (struct net_config){.verb = NET_CONFIGURE,
                             .subnet = net.subnet,
                             .prefix = net.prefix,
                             .slots = p->slot_count,
                             .is_fresh = true,
                             .manages_forwarding = p->set->network_manage_forwarding,
                             .log_format = p->set->log_format,
                             .log_level = p->set->log_level};
    if (r == 0 && c->slots > net_slots_max(c->prefix))
        return err_set(err, "network.subnet: expected room for %u pairs of addresses, got %u",
                       c->slots, net_slots_max(c->prefix));
    return r;
}

int priv_net_adopt(struct priv *p, const struct policy_set *set, struct err *err)
{
    static struct net_config config, draft;
    uint32_t of[POLICIES_MAX];
    bool wanted = false;
    int r = 0;
    for (uint32_t i = 0; i < set->count; i++)
        wanted |= set->plans[i].net.mode != POLICY_NET_NONE;
    /* A probe may be beside a service of the same fs_root: its links are not a probe's to touch. */
    if ((!wanted && !p->net) || p->probe_only)
        return 0;
    if (p->net)
        draft = *p->net;
    else if (p->generation > 0) /* CAP_NET_ADMIN is gone for good */
        return err_set(err, "network: egress needs a restart: the service started without it");
    else
        r = begin(p, &draft, err);
    if (r == 0)
        r = number(p, set, &draft, of, err);
    if (r == 0 && p->netd_sock >= 0)
        r = configure(p, &draft, -1, err);
    if (r < 0)
        return r;
    config = draft;
    p->net = &config;
    memcpy(p->net_of, of, sizeof of);
    return 0;
}

int priv_net_attach(struct priv *p, uint32_t slot, int netns, int ret_counters[2], struct err *err)
{
    const struct net_order order = {.verb = NET_ATTACH, .slot = slot, .policy = p->slots[slot].net};
    int r = priv_net_start(p, err);
    return r < 0 ? r : ask_netd(p, &order, netns, ret_counters, err);
}

void priv_net_detach(struct priv *p, uint32_t slot)
{
    const struct net_order order = {.verb = NET_DETACH, .slot = slot};
    if (p->netd_sock >= 0 && !p->going_down)
        (void)packet_send(p->netd_sock, &order, sizeof order, NULL,
                          0); /* best effort: see attach */
}
