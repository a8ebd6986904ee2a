/* SPDX-License-Identifier: Apache-2.0 */
/* net/netd - brood-netd: the network of namespaces that have one.
 *
 * Started by priv when a policy says `egress`, under a uid of its own with CAP_NET_ADMIN and
 * nothing else. It gives up writing files, reads the fixed structs of net/net.h from priv, parses
 * no text, and waits for them and for the kernel's word that its rules were removed: first a
 * configuration, then slots that come and go. A packet that the phase does not allow ends the
 * conversation, and the end of the conversation ends netd: links first, then rules, so that there
 * is never a link without rules. A netd that cannot go on while priv lives takes nothing along.
 * SIGTERM and SIGINT are not its own business: a terminal's ^C must not take it before the
 * namespaces.
 */
#include "net/netd.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "lib/packet.h"
#include <fcntl.h>
#include <netlink/socket.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>

struct netd {
    struct net_config config; /* verb 0: none yet */
    struct links links;
    struct nl_sock *watch;
    int lock;
};

struct packet {
    union {
        uint32_t verb;
        struct net_config config;
        struct net_order order;
    };
    ssize_t len;
    int fds[PACKET_FDS_MAX];
    size_t nfds;
};

static bool config_is_sane(const struct net_config *c)
{
    if (c->key == 0 || c->key > NET_KEY_MAX || c->prefix < 8 || c->prefix > 30 ||
        c->subnet & ~(~0u << (32 - c->prefix)) || c->slots > net_slots_max(c->prefix) ||
        c->policies == 0 || c->policies > NET_POLICIES_MAX)
        return false;
    for (uint32_t i = 0; i < c->policies; i++)
        if (c->policy[i].rule_count > POLICY_NET_RULES_MAX ||
            c->policy[i].resolver_count > POLICY_NET_RESOLVERS_MAX)
            return false;
    return true;
}

/* Waits until an earlier netd of this service is gone, which may be cleaning up at this moment:
 * what it removes must not be ours. How long is too long is priv's to say. */
static int take_turn(struct netd *n, struct packet *p, struct err *err)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (n->lock >= 0)
        return 0;
    if (p->nfds != 1)
        return err_set(err, "netd: no lock");
    if (SYS(fcntl(p->fds[0], F_OFD_SETLKW, &whole)) < 0)
        return err_sys(err, "wait for an earlier netd");
    n->lock = fd_take(&p->fds[0]);
    return 0;
}

static int on_configure(struct netd *n, struct packet *p, struct err *err)
{
    const struct net_config *c = &p->config;
    if (!config_is_sane(c))
        return err_set(err, "netd: the configuration is not sane");
    int r = take_turn(n, p, err);
    if (r < 0)
        return r;
    log_init("netd", (enum log_format)c->log_format, (enum log_level)c->log_level);
    if (c->is_fresh && n->config.verb == 0) {
        r = links_remove_all(&n->links, c->key, err);
        if (r == 0)
            r = links_check_subnet(&n->links, c->subnet, c->prefix, err);
    }
    if (r == 0)
        r = filter_load(c, err);
    if (r == 0)
        n->config = *c;
    return r;
}

static int on_attach(struct netd *n, const struct packet *p, int ret_counters[2], struct err *err)
{
    const struct net_order *order = &p->order;
    if (p->nfds != 1 || order->slot >= n->config.slots || order->policy >= n->config.policies ||
        n->config.policy[order->policy].mode == POLICY_NET_NONE)
        return err_set(err, "netd: bad slot, policy or descriptors");
    return links_attach(&n->links, &n->config, order, p->fds[0], ret_counters, err);
}

static int on_detach(struct netd *n, const struct packet *p, struct err *err)
{
    if (p->order.slot >= n->config.slots)
        return err_set(err, "netd: bad slot");
    return links_detach(&n->links, &n->config, p->order.slot, err);
}

/* Does the packet have its verb's size, and has its verb's time come? */
static bool is_due(const struct netd *n, const struct packet *p)
{
    if (p->len < (ssize_t)sizeof p->verb)
        return false;
    if (p->verb == NET_CONFIGURE)
        return p->len == (ssize_t)sizeof p->config;
    return (p->verb == NET_ATTACH || p->verb == NET_DETACH) && p->len == (ssize_t)sizeof p->order &&
           n->config.verb != 0;
}

static bool is_end(ssize_t n)
{
    return n == 0 || n == -EPIPE || n == -ECONNRESET;
}

/* priv is still there and will start another netd. Namespaces live on with their links, so what
 * stands in the kernel stays, as when netd is killed. */
_Noreturn static void leave_all(const char *what, ssize_t r)
{
    LOG(ERROR, "netd_failed", F_STR("what", what), F_STR("error", strerror((int)-r)));
    exit(1);
}

/* Does one packet; false: the conversation is over. */
static bool on_packet(struct netd *n, struct packet *p)
{
    struct err err = {0};
    int counters[2] = {-1, -1}, r;
    if (!is_due(n, p)) {
        LOG(ERROR, "bad_packet_from_priv", F_I64("bytes", p->len));
        return false;
    }
    struct net_reply reply = {.verb = p->verb};
    if (p->verb == NET_CONFIGURE) {
        r = on_configure(n, p, &err);
    } else if (p->verb == NET_ATTACH) {
        reply.slot = p->order.slot;
        r = on_attach(n, p, counters, &err);
    } else {
        r = on_detach(n, p, &err);
        if (r < 0)
            LOG(WARN, "detach_failed", F_U64("slot", p->order.slot), F_STR("error", err.text));
        return true;
    }
    reply.error = r;
    (void)snprintf(reply.text, sizeof reply.text, "%.*s", (int)sizeof reply.text - 1, err.text);
    r = packet_send(NET_SOCK_FD, &reply, sizeof reply, counters, counters[0] < 0 ? 0 : 2);
    fd_close(&counters[0]);
    fd_close(&counters[1]);
    if (r < 0 && !is_end(r))
        leave_all("answer priv", r);
    return r == 0;
}

/* Somebody removed our rules. Without them there must be no link. */
static void on_watch(struct netd *n)
{
    struct err err;
    if (!filter_is_lost(n->watch, &n->config))
        return;
    LOG(WARN, "rules_removed", F_STR("by", "others"), F_STR("now", "loaded again"));
    if (filter_load(&n->config, &err) == 0)
        return;
    LOG(ERROR, "rules_lost", F_STR("error", err.text), F_STR("now", "all links are removed"));
    (void)links_remove_all(&n->links, n->config.key, &err);
}

static void serve(struct netd *n)
{
    static struct packet p;
    bool more = true;
    while (more) {
        struct pollfd fds[] = {{.fd = NET_SOCK_FD, .events = POLLIN},
                               {.fd = nl_socket_get_fd(n->watch), .events = POLLIN}};
        if (SYS(poll(fds, ARRAY_LEN(fds), -1)) < 0)
            continue;
        if (fds[1].revents)
            on_watch(n);
        if (!fds[0].revents)
            continue;
        p.nfds = 0;
        p.len = packet_recv(NET_SOCK_FD, &p.config, sizeof p.config, p.fds, &p.nfds);
        if (p.len == -EINTR)
            continue;
        if (p.len < 0 && !is_end(p.len))
            leave_all("hear from priv", p.len);
        more = p.len > 0 && on_packet(n, &p);
        for (size_t i = 0; i < p.nfds; i++)
            fd_close(&p.fds[i]);
    }
}

static void clean_up(struct netd *n)
{
    struct err err;
    if (n->config.verb == 0)
        return;
    if (links_remove_all(&n->links, n->config.key, &err) < 0)
        LOG(ERROR, "links_left", F_STR("error", err.text)); /* then the rules stay too */
    else
        filter_remove(&n->config);
}

int main(void)
{
    static struct netd n = {.lock = -1};
    struct err err;
    (void)signal(SIGTERM, SIG_IGN);
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    log_init("netd", LOG_FORMAT_TEXT, LOG_LEVEL_INFO);
    if (filter_open(&err) < 0 || links_open(&n.links, &err) < 0 || filter_watch(&n.watch, &err) < 0)
        die(1, "%s", err.text);
    if (policy_landlock_abi() > 0 && policy_landlock_read_only() < 0)
        die(1, "give up writing files: %s", strerror(errno));
    serve(&n);
    clean_up(&n);
    return 0;
}
