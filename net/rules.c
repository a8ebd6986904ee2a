/* SPDX-License-Identifier: Apache-2.0 */
/* net/rules - what may pass between namespaces and the world, as one nftables table.
 *
 * In brood-netd; pure: numbers in, text out (t/unit/net.c). The table never changes while
 * namespaces come and go, so there is no moment in which one of them is not yet filtered: a link is
 * recognised by its name ("brd<key>-<slot>"), its policy by its device group, its address by the
 * route back, and limits live in sets keyed by the link.
 *
 *   from a namespace  prerouting, before conntrack: every packet, stateless. IPv4; from its own
 *                     address; not too fast; to something listed. Else refused, at once and visibly
 *   to a namespace    forward and output: only answers to what it began, not too fast
 *
 * An `accept` here does not overrule the host's other tables; a drop in any of them is final.
 */
#include "net/netd.h"
#include <inttypes.h>

#define BURST_MIN                                                                                  \
    131072u /* above one segment of 64 KiB, as veth hands over, or that never passes */

void rules_table_name(uint32_t key, char to[NETD_NAME_MAX])
{
    (void)snprintf(to, NETD_NAME_MAX, "brood_%06x", key & NET_KEY_MAX);
}

void rules_link_name(uint32_t key, uint32_t slot, char to[NETD_NAME_MAX])
{
    (void)snprintf(to, NETD_NAME_MAX, "brd%06x-%u", key & NET_KEY_MAX, slot % 100000);
}

uint32_t rules_group(uint32_t key, uint32_t policy)
{
    return (key & NET_KEY_MAX) << 8 | policy;
}

static const char *address(char to[24], uint32_t addr, uint32_t prefix)
{
    (void)snprintf(to, 24, "%u.%u.%u.%u/%u", addr >> 24, addr >> 16 & 255, addr >> 8 & 255,
                   addr & 255, prefix);
    return to;
}

static void write_rate(struct buf *to, const char *set, const char *key, uint32_t rate_kbit)
{
    uint64_t rate = (uint64_t)rate_kbit * 125, burst = rate / 4 > BURST_MIN ? rate / 4 : BURST_MIN;
    if (rate_kbit)
        (void)buf_addf(to,
                       "  update @%s { %s limit rate over %" PRIu64 " bytes/second burst %" PRIu64
                       " bytes } drop\n",
                       set, key, rate, burst);
}

enum kind { HOSTS, WITHIN_SPECIAL, OTHERS };

static enum kind kind_of(const struct policy_net_rule *rule)
{
    if (rule->prefix == 32)
        return HOSTS;
    return policy_net_find_special(rule->addr, rule->prefix) ? WITHIN_SPECIAL : OTHERS;
}

static void write_rules(struct buf *to, const struct policy_net *net, enum kind kind)
{
    char addr[24];
    for (uint32_t i = 0; i < net->rule_count; i++) {
        const struct policy_net_rule *rule = &net->rules[i];
        if (kind_of(rule) != kind)
            continue;
        (void)buf_addf(to, "  ip daddr %s meta l4proto { %s } th dport %u-%u accept\n",
                       address(addr, rule->addr, rule->prefix),
                       rule->tcp && rule->udp ? "tcp, udp"
                       : rule->udp            ? "udp"
                                              : "tcp",
                       rule->port_first, rule->port_last);
    }
}

/* A single address is meant as it stands, even when it is the host's; a range means neither the
 * host nor a special range, unless it lies within that. */
static void write_policy(struct buf *to, const struct policy_net *net, uint32_t index)
{
    char addr[24];
    (void)buf_addf(to, " chain from_%u {\n", index);
    write_rate(to, "rate_from", "iif", net->rate_kbit);
    for (uint32_t i = 0; i < net->resolver_count; i++)
        (void)buf_addf(to, "  ip daddr %s meta l4proto { tcp, udp } th dport 53 accept\n",
                       address(addr, net->resolvers[i], 32));
    (void)buf_addf(to, "  meta l4proto { tcp, udp } th dport 53 goto refuse\n");
    write_rules(to, net, HOSTS);
    (void)buf_addf(to, "  fib daddr type != unicast goto refuse\n");
    write_rules(to, net, WITHIN_SPECIAL);
    for (size_t i = 0; i < POLICY_NET_SPECIALS; i++)
        (void)buf_addf(to, "  ip daddr %s goto refuse\n",
                       address(addr, policy_net_special[i].addr, policy_net_special[i].prefix));
    write_rules(to, net, OTHERS);
    (void)buf_addf(to, "  goto refuse\n }\n chain to_%u {\n", index);
    write_rate(to, "rate_to", "oif", net->rate_kbit);
    (void)buf_addf(to, "  accept\n }\n");
}

static void write_map(struct buf *to, const struct net_config *c, const char *meta,
                      const char *chain)
{
    const char *before = "";
    for (uint32_t i = 0; i < c->policies; i++) {
        if (c->policy[i].mode == POLICY_NET_NONE)
            continue;
        if (!*before)
            (void)buf_addf(to, "  meta %s vmap { ", meta);
        (void)buf_addf(to, "%s%u : goto %s_%u", before, rules_group(c->key, i), chain, i);
        before = ", ";
    }
    if (*before)
        (void)buf_addf(to, " }\n");
}

static void write_from(struct buf *to, const struct net_config *c, const char *subnet)
{
    (void)buf_addf(to,
                   " chain from_ns {\n"
                   "  meta nfproto != ipv4 drop\n"
                   "  ip saddr != %s drop\n"
                   "  fib saddr . iif oif missing drop\n" /* someone else's address */
                   "  ip daddr %s goto refuse\n",         /* neighbours, and our own end */
                   subnet, subnet);
    write_map(to, c, "iifgroup", "from");
    (void)buf_addf(to, "  drop\n }\n chain to_ns {\n"
                       "  meta nfproto != ipv4 drop\n"
                       "  ct state != { established, related } drop\n");
    write_map(to, c, "oifgroup", "to");
    (void)buf_addf(to, "  drop\n }\n");
}

static void write_hooks(struct buf *to, const struct rules_plan *plan, const char *subnet)
{
    uint32_t key = plan->config->key;
    (void)buf_addf(to,
                   " chain prerouting {\n"
                   "  type filter hook prerouting priority -310; policy accept;\n"
                   "  iifname \"brd%06x-*\" goto from_ns\n }\n",
                   key);
    /* Behind conntrack: how many connections, so that nobody fills the host's table. */
    (void)buf_addf(
        to,
        " chain count {\n"
        "  type filter hook prerouting priority -150; policy accept;\n"
        "  iifname \"brd%06x-*\" ct state new add @connections { ip saddr ct count over %u } drop\n"
        "  iifname \"brd%06x-*\" ct state invalid drop\n }\n",
        key, plan->connections_max, key);
    (void)buf_addf(to,
                   " chain input {\n" /* somebody's redirection to a service of the host */
                   "  type filter hook input priority -10; policy accept;\n"
                   "  iifname \"brd%06x-*\" ct status dnat drop\n }\n",
                   key);
    (void)buf_addf(
        to,
        " chain forward {\n"
        "  type filter hook forward priority -10; policy accept;\n"
        "  iifname \"brd%06x-*\" oifname \"brd*\" drop\n"
        "  oifname \"brd%06x-*\" goto to_ns\n%s }\n",
        key, key,
        plan->guards_forwarding ? "  iifname != \"brd*\" oifname != \"brd*\" goto guard\n" : "");
    /* The refusals are sent by us and belong to no connection. */
    (void)buf_addf(to,
                   " chain output {\n"
                   "  type filter hook output priority -10; policy accept;\n"
                   "  oifname \"brd%06x-*\" icmp type destination-unreachable accept\n"
                   "  oifname \"brd%06x-*\" tcp flags & (syn | rst) == rst accept\n"
                   "  oifname \"brd%06x-*\" goto to_ns\n }\n",
                   key, key, key);
    (void)buf_addf(to,
                   " chain postrouting {\n"
                   "  type nat hook postrouting priority 100; policy accept;\n"
                   "  ip saddr %s oifname != \"brd*\" masquerade\n }\n",
                   subnet);
}

bool rules_write(const struct rules_plan *plan, struct buf *to)
{
    const struct net_config *c = plan->config;
    char table[NETD_NAME_MAX], subnet[24];
    rules_table_name(c->key, table);
    (void)address(subnet, c->subnet, c->prefix);
    (void)buf_addf(to, "add table inet %s\ndelete table inet %s\ntable inet %s {\n", table, table,
                   table);
    (void)buf_addf(
        to, " set rate_from { type iface_index; size 65535; flags dynamic,timeout; timeout 60s; }\n"
            " set rate_to { type iface_index; size 65535; flags dynamic,timeout; timeout 60s; }\n"
            " set connections { type ipv4_addr; size 65535; flags dynamic; }\n"
            " chain refuse {\n"
            "  meta l4proto tcp reject with tcp reset\n"
            "  reject with icmp type admin-prohibited\n }\n");
    if (plan->guards_forwarding)
        (void)buf_addf(to, " chain guard {\n  drop\n }\n");
    for (uint32_t i = 0; i < c->policies; i++)
        if (c->policy[i].mode != POLICY_NET_NONE)
            write_policy(to, &c->policy[i], i);
    write_from(to, c, subnet);
    write_hooks(to, plan, subnet);
    (void)buf_addf(to, "}\n");
    return !to->failed;
}
