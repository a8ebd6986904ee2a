/* SPDX-License-Identifier: Apache-2.0 */
/* net/links - the host's end of each namespace's link, through libnl (rtnetlink(7)).
 *
 * In brood-netd, with CAP_NET_ADMIN. A veth pair is born with its other end already inside of the
 * namespace's netns (a descriptor that the primordial opened), in the device group of its policy:
 * before it is up, the rules know it. It vanishes with the netns when the zygote ends; netd removes
 * only what a slot's next use or an earlier service's death left. Conntrack's entries of an address
 * are forgotten whenever it changes hands, or answers meant for one tenant would reach the next.
 */
#include "lib/err.h"
#include "lib/fd.h"
#include "net/netd.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <netlink/attr.h>
#include <netlink/errno.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>

static int nl_fail(struct err *err, const char *what, int r)
{
    return err_set(err, "%s: %s", what, nl_geterror(r));
}

int links_connect(struct nl_sock **ret, int protocol)
{
    *ret = nl_socket_alloc();
    return *ret ? SYS(nl_connect(*ret, protocol)) : -NLE_NOMEM;
}

/* Where there was no word the next question begins another conversation: in this one it would get
 * the answer to this one, or none that libnl takes for its own. */
int links_ask(struct nl_sock **sock, int protocol, struct nl_msg *msg)
{
    int r = *sock ? 0 : links_connect(sock, protocol);
    if (r >= 0)
        r = msg ? SYS(nl_send_auto(*sock, msg)) : -NLE_NOMEM;
    nlmsg_free(msg);
    if (r >= 0)
        r = SYS(nl_wait_for_ack(*sock));
    if (r < 0 && r != -NLE_EXIST && r != -NLE_NODEV && r != -NLE_OBJ_NOTFOUND) {
        nl_socket_free(*sock);
        *sock = NULL;
    }
    return r;
}

int links_open(struct links *l, struct err *err)
{
    int r = links_connect(&l->route, NETLINK_ROUTE);
    if (r >= 0)
        r = links_connect(&l->conntrack, NETLINK_NETFILTER);
    return r < 0 ? nl_fail(err, "netlink", r) : 0;
}

/* A message about a link: by index, or by its name; a false `ok` is seen when it is sent. */
static struct nl_msg *link_message(int type, int flags, unsigned index, const char *name,
                                   unsigned change, bool *ok)
{
    struct nl_msg *msg = nlmsg_alloc_simple(type, flags);
    struct ifinfomsg link = {.ifi_family = AF_UNSPEC,
                             .ifi_index = (int)index,
                             .ifi_flags = change,
                             .ifi_change = change};
    *ok = msg && nlmsg_append(msg, &link, sizeof link, NLMSG_ALIGNTO) == 0 &&
          (!name || nla_put_string(msg, IFLA_IFNAME, name) == 0);
    return msg;
}

static struct nl_msg *checked(struct nl_msg *msg, bool ok)
{
    if (ok)
        return msg;
    nlmsg_free(msg);
    return NULL;
}

static int remove_link(struct links *l, const char *name)
{
    bool ok;
    struct nl_msg *msg = link_message(RTM_DELLINK, 0, 0, name, 0, &ok);
    return links_ask(&l->route, NETLINK_ROUTE, checked(msg, ok));
}

int links_remove_all(struct links *l, uint32_t key, struct err *err)
{
    for (uint32_t policy = 0; policy < NET_POLICIES_MAX; policy++) {
        bool ok;
        struct nl_msg *msg = link_message(RTM_DELLINK, 0, 0, NULL, 0, &ok);
        ok = ok && nla_put_u32(msg, IFLA_GROUP, rules_group(key, policy)) == 0;
        int r = links_ask(&l->route, NETLINK_ROUTE, checked(msg, ok));
        if (r < 0 && r != -NLE_NODEV && r != -NLE_OBJ_NOTFOUND)
            return nl_fail(err, "remove links", r);
    }
    return 0;
}

/* ---- is the subnet free? -----------------------------------------------------------------------
 */

struct search {
    uint32_t subnet, prefix, found, found_bits;
    bool any;
};

static int on_route(struct nl_msg *msg, void *arg)
{
    struct search *s = arg;
    const struct rtmsg *route = nlmsg_data(nlmsg_hdr(msg));
    struct nlattr *dst = nlmsg_find_attr(nlmsg_hdr(msg), sizeof *route, RTA_DST);
    if (route->rtm_family != AF_INET || !dst || route->rtm_dst_len < s->prefix)
        return NL_OK;
    uint32_t addr = ntohl(nla_get_u32(dst)), mask = ~0u << (32 - s->prefix);
    if ((addr & mask) != s->subnet || (s->any && route->rtm_dst_len >= s->found_bits))
        return NL_OK; /* the widest is the one to name */
    s->any = true;
    s->found = addr;
    s->found_bits = route->rtm_dst_len;
    return NL_OK;
}

int links_check_subnet(struct links *l, uint32_t subnet, uint32_t prefix, struct err *err)
{
    struct search search = {.subnet = subnet, .prefix = prefix};
    struct rtmsg all = {.rtm_family = AF_INET};
    struct nl_sock *sock;
    int r = links_connect(&sock, NETLINK_ROUTE);
    (void)l;
    if (r >= 0)
        r = nl_socket_modify_cb(sock, NL_CB_VALID, NL_CB_CUSTOM, on_route, &search);
    if (r >= 0)
        r = SYS(nl_send_simple(sock, RTM_GETROUTE, NLM_F_DUMP, &all, sizeof all));
    if (r >= 0)
        r = SYS(nl_recvmsgs_default(sock));
    nl_socket_free(sock);
    if (r < 0)
        return nl_fail(err, "read the routes", r);
    if (search.any)
        return err_set(
            err, "network.subnet: a route to %u.%u.%u.%u/%u is there already: take another subnet",
            search.found >> 24, search.found >> 16 & 255, search.found >> 8 & 255,
            search.found & 255, search.found_bits);
    return 0;
}

/* ---- one pair ----------------------------------------------------------------------------------
 */

static bool put_peer(struct nl_msg *msg, int netns)
{
    struct ifinfomsg peer = {.ifi_family = AF_UNSPEC};
    struct nlattr *info = nla_nest_start(msg, IFLA_LINKINFO), *data, *end;
    if (!info || nla_put_string(msg, IFLA_INFO_KIND, "veth") < 0 ||
        !(data = nla_nest_start(msg, IFLA_INFO_DATA)) ||
        !(end = nla_nest_start(msg, VETH_INFO_PEER)) ||
        nlmsg_append(msg, &peer, sizeof peer, NLMSG_ALIGNTO) < 0 ||
        nla_put_string(msg, IFLA_IFNAME, POLICY_NET_DEVICE) < 0 ||
        nla_put_u32(msg, IFLA_NET_NS_FD, (uint32_t)netns) < 0)
        return false;
    return nla_nest_end(msg, end) == 0 && nla_nest_end(msg, data) == 0 &&
           nla_nest_end(msg, info) == 0;
}

static int make_pair(struct links *l, const char *name, uint32_t group, int netns)
{
    bool ok;
    struct nl_msg *msg = link_message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, name, 0, &ok);
    ok = ok && nla_put_u32(msg, IFLA_GROUP, group) == 0 && put_peer(msg, netns);
    return links_ask(&l->route, NETLINK_ROUTE, checked(msg, ok));
}

/* Packets from this link may be forwarded (from others only if the host does that); only from its
 * own address; no IPv6 address of the kernel's own making. */
static int configure(struct links *l, unsigned index)
{
    static const struct {
        int type;
        uint32_t value;
    } conf[] = {{IPV4_DEVCONF_FORWARDING, 1},       {IPV4_DEVCONF_RP_FILTER, 1},
                {IPV4_DEVCONF_ACCEPT_REDIRECTS, 0}, {IPV4_DEVCONF_SEND_REDIRECTS, 0},
                {IPV4_DEVCONF_PROXY_ARP, 0},        {IPV4_DEVCONF_ARP_IGNORE, 1}};
    bool ok;
    struct nl_msg *msg = link_message(RTM_NEWLINK, 0, index, NULL, 0, &ok);
    struct nlattr *spec = ok ? nla_nest_start(msg, IFLA_AF_SPEC) : NULL, *family = NULL,
                  *values = NULL;
    ok = spec && (family = nla_nest_start(msg, AF_INET)) &&
         (values = nla_nest_start(msg, IFLA_INET_CONF));
    for (size_t i = 0; ok && i < ARRAY_LEN(conf); i++)
        ok = nla_put_u32(msg, conf[i].type, conf[i].value) == 0;
    ok = ok && nla_nest_end(msg, values) == 0 && nla_nest_end(msg, family) == 0 &&
         (family = nla_nest_start(msg, AF_INET6)) &&
         nla_put_u8(msg, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE) == 0 &&
         nla_nest_end(msg, family) == 0 && nla_nest_end(msg, spec) == 0;
    int r = links_ask(&l->route, NETLINK_ROUTE, checked(msg, ok));
    return r == -NLE_AF_NOSUPPORT || r == -NLE_OPNOTSUPP ? 0 : r; /* a kernel without IPv6 */
}

static int add_address(struct links *l, unsigned index, uint32_t addr)
{
    struct nl_msg *msg = nlmsg_alloc_simple(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
    struct ifaddrmsg what = {
        .ifa_family = AF_INET, .ifa_prefixlen = 31, .ifa_scope = RT_SCOPE_LINK, .ifa_index = index};
    bool ok = msg && nlmsg_append(msg, &what, sizeof what, NLMSG_ALIGNTO) == 0 &&
              nla_put_u32(msg, IFA_LOCAL, htonl(addr)) == 0 &&
              nla_put_u32(msg, IFA_ADDRESS, htonl(addr)) == 0;
    return links_ask(&l->route, NETLINK_ROUTE, checked(msg, ok));
}

static int bring_up(struct links *l, unsigned index)
{
    bool ok;
    struct nl_msg *msg = link_message(RTM_NEWLINK, 0, index, NULL, IFF_UP, &ok);
    return links_ask(&l->route, NETLINK_ROUTE, checked(msg, ok));
}

/* What the host's end received the namespace has sent. */
static int open_counters(const char *name, int ret[2], struct err *err)
{
    static const char *const files[] = {"tx_bytes", "rx_bytes"};
    char path[80];
    int fds[2];
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        (void)snprintf(path, sizeof path, "/sys/class/net/%s/statistics/%s", name, files[i]);
        fds[i] = SYS(open(path, O_RDONLY | O_CLOEXEC));
        if (fds[i] < 0) {
            int r = err_sys(err, "open %s", path);
            if (i > 0)
                fd_close(&fds[0]);
            return r;
        }
    }
    memcpy(ret, fds, sizeof fds);
    return 0;
}

int links_attach(struct links *l, const struct net_config *config, const struct net_order *order,
                 int netns, int ret_counters[2], struct err *err)
{
    char name[NETD_NAME_MAX];
    uint32_t group = rules_group(config->key, order->policy);
    int r = conns_forget(l, net_ns_address(config->subnet, order->slot), err);
    if (r < 0)
        return r;
    rules_link_name(config->key, order->slot, name);
    r = make_pair(l, name, group, netns);
    if (r == -NLE_EXIST) { /* its netns is still being taken down */
        (void)remove_link(l, name);
        r = make_pair(l, name, group, netns);
    }
    if (r < 0)
        return nl_fail(err, "make a link", r);
    unsigned index = if_nametoindex(name);
    r = index ? configure(l, index) : -NLE_NODEV;
    if (r >= 0)
        r = add_address(l, index, net_host_address(config->subnet, order->slot));
    if (r >= 0)
        r = bring_up(l, index);
    if (r < 0)
        (void)nl_fail(err, "set a link up", r);
    else
        r = open_counters(name, ret_counters, err);
    if (r < 0)
        (void)remove_link(l, name);
    return r < 0 ? err->code : 0;
}

int links_detach(struct links *l, const struct net_config *config, uint32_t slot, struct err *err)
{
    char name[NETD_NAME_MAX];
    rules_link_name(config->key, slot, name);
    int r = remove_link(l, name);
    if (r < 0 && r != -NLE_NODEV && r != -NLE_OBJ_NOTFOUND)
        return nl_fail(err, "remove a link", r);
    return conns_forget(l, net_ns_address(config->subnet, slot), err);
}
