/* SPDX-License-Identifier: Apache-2.0 */
/* policy/net - what a namespace may reach, from the operator's text to numbers, and back to words.
 *
 * Runs in the supervisor at start and on reload, and in the CLI; never on a request's text. Strict,
 * because a rule that means something else than its author thinks is a hole: an address with host
 * bits set, a leading zero, a port 0 or a backward range is an error that names it. IPv4 only: a
 * namespace has no IPv6 address and what it sends there is dropped (net/).
 */
#include "lib/err.h"
#include "policy/policy.h"
#include <stdarg.h>

#define CIDR(a, b, c, d) ((uint32_t)(a) << 24 | (b) << 16 | (c) << 8 | (d))

const struct policy_net_range policy_net_special[POLICY_NET_SPECIALS] = {
    {CIDR(0, 0, 0, 0), 8, false, "this network"},
    {CIDR(10, 0, 0, 0), 8, true, "private"},
    {CIDR(100, 64, 0, 0), 10, true, "carrier-grade NAT"},
    {CIDR(127, 0, 0, 0), 8, false, "loopback, which is the namespace's own"},
    {CIDR(169, 254, 0, 0), 16, true, "link-local and metadata"},
    {CIDR(172, 16, 0, 0), 12, true, "private"},
    {CIDR(192, 0, 0, 0), 24, true, "protocol assignments"},
    {CIDR(192, 168, 0, 0), 16, true, "private"},
    {CIDR(198, 18, 0, 0), 15, true, "benchmarks"},
    {CIDR(224, 0, 0, 0), 4, false, "multicast"},
    {CIDR(240, 0, 0, 0), 4, false, "reserved and broadcast"},
};

static uint32_t mask_of(uint32_t prefix)
{
    return prefix ? ~0u << (32 - prefix) : 0;
}

const struct policy_net_range *policy_net_find_special(uint32_t addr, uint32_t prefix)
{
    for (size_t i = 0; i < POLICY_NET_SPECIALS; i++) {
        const struct policy_net_range *s = &policy_net_special[i];
        if (prefix >= s->prefix && (addr & mask_of(s->prefix)) == s->addr)
            return s;
    }
    return NULL;
}

/* A decimal number without leading zeros; moves *at behind it. */
static bool take_number(const char **at, uint32_t max, uint32_t *ret)
{
    const char *p = *at;
    uint32_t n = 0;
    if (*p < '0' || *p > '9' || (*p == '0' && p[1] >= '0' && p[1] <= '9'))
        return false;
    for (; *p >= '0' && *p <= '9'; p++) {
        n = n * 10 + (uint32_t)(*p - '0');
        if (n > max)
            return false;
    }
    *at = p;
    *ret = n;
    return true;
}

static bool take_address(const char **at, uint32_t *ret)
{
    uint32_t addr = 0, byte;
    for (int i = 0; i < 4; i++) {
        if ((i > 0 && *(*at)++ != '.') || !take_number(at, 255, &byte))
            return false;
        addr = addr << 8 | byte;
    }
    *ret = addr;
    return true;
}

static bool looks_like_ipv6(const char *text)
{
    const char *colon = strchr(text, ':');
    return strchr(text, '[') || (colon && strchr(colon + 1, ':'));
}

static void write_address(char to[16], uint32_t addr)
{
    (void)snprintf(to, 16, "%u.%u.%u.%u", addr >> 24, addr >> 16 & 255, addr >> 8 & 255,
                   addr & 255);
}

static int take_cidr(const char **at, const char *text, uint32_t *ret_addr, uint32_t *ret_prefix,
                     struct err *err)
{
    uint32_t addr, prefix = 32;
    char network[16];
    if (!take_address(at, &addr))
        return err_set(err, "%.80s: expected an IPv4 address such as 203.0.113.0/24", text);
    if (**at == '/') {
        ++*at;
        if (!take_number(at, 32, &prefix))
            return err_set(err, "%.80s: expected a prefix of 0 to 32 bits behind the /", text);
    }
    if (addr & ~mask_of(prefix)) {
        write_address(network, addr & mask_of(prefix));
        return err_set(err, "%.80s: bits are set behind the first %u: expected %s/%u", text, prefix,
                       network, prefix);
    }
    *ret_addr = addr;
    *ret_prefix = prefix;
    return 0;
}

static int refuse_unreachable(const char *text, uint32_t addr, uint32_t prefix, struct err *err)
{
    const struct policy_net_range *s = policy_net_find_special(addr, prefix);
    return s && !s->may_be_listed ? err_set(err, "%.80s: can not be reached: %s", text, s->name)
                                  : 0;
}

int policy_net_parse_cidr(const char *text, uint32_t *ret_addr, uint32_t *ret_prefix,
                          struct err *err)
{
    const char *at = text;
    uint32_t addr, prefix;
    if (looks_like_ipv6(text))
        return err_set(err, "%.80s: IPv6 is not supported: expected an IPv4 address", text);
    int r = take_cidr(&at, text, &addr, &prefix, err);
    if (r < 0)
        return r;
    if (*at)
        return err_set(err, "%.80s: expected nothing behind the address", text);
    *ret_addr = addr;
    *ret_prefix = prefix;
    return 0;
}

int policy_net_parse_rule(const char *text, struct policy_net_rule *ret, struct err *err)
{
    struct policy_net_rule rule = {.tcp = 1};
    const char *at = text;
    uint32_t first, last;
    if (strncmp(at, "tcp://", 6) == 0) {
        at += 6;
    } else if (strncmp(at, "udp://", 6) == 0) {
        at += 6;
        rule.tcp = 0;
        rule.udp = 1;
    } else if (strstr(at, "://")) {
        return err_set(err, "%.80s: expected tcp:// or udp://", text);
    }
    if (looks_like_ipv6(at))
        return err_set(err, "%.80s: IPv6 is not supported: expected an IPv4 address", text);
    int r = take_cidr(&at, text, &rule.addr, &rule.prefix, err);
    if (r == 0)
        r = refuse_unreachable(text, rule.addr, rule.prefix, err);
    if (r < 0)
        return r;
    if (*at++ != ':')
        return err_set(err, "%.80s: expected :PORT or :FIRST-LAST behind the address", text);
    if (!take_number(&at, 65535, &first) || first == 0)
        return err_set(err, "%.80s: expected a port of 1 to 65535", text);
    last = first;
    if (*at == '-') {
        at++;
        if (!take_number(&at, 65535, &last) || last < first)
            return err_set(err, "%.80s: expected a last port of %u to 65535", text, first);
    }
    if (*at)
        return err_set(err, "%.80s: expected nothing behind the port", text);
    rule.port_first = (uint16_t)first;
    rule.port_last = (uint16_t)last;
    *ret = rule;
    return 0;
}

int policy_net_parse_resolver(const char *text, uint32_t *ret, struct err *err)
{
    const char *at = text;
    uint32_t addr;
    if (looks_like_ipv6(text))
        return err_set(err, "%.80s: IPv6 is not supported: expected an IPv4 address", text);
    if (!take_address(&at, &addr) || *at)
        return err_set(err, "%.80s: expected the IPv4 address of a DNS server", text);
    int r = refuse_unreachable(text, addr, 32, err);
    if (r == 0)
        *ret = addr;
    return r;
}

/* What did not fit is not there; the text always ends. */
PRINTF_LIKE(3, 4) static void put(char **at, size_t *room, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(*at, *room, fmt, ap);
    va_end(ap);
    size_t used = n < 0 ? 0 : (size_t)n < *room ? (size_t)n : *room - 1;
    *at += used;
    *room -= used;
}

static void show_rule(const struct policy_net_rule *rule, char **at, size_t *room)
{
    char addr[16];
    write_address(addr, rule->addr);
    put(at, room, "  may reach %s/%u, %s port", addr, rule->prefix,
        rule->tcp && rule->udp ? "tcp and udp"
        : rule->udp            ? "udp"
                               : "tcp");
    if (rule->port_first == rule->port_last)
        put(at, room, " %u\n", rule->port_first);
    else
        put(at, room, "s %u to %u\n", rule->port_first, rule->port_last);
}

void policy_net_show(const struct policy_net *net, char *ret, size_t room)
{
    char addr[16], *at = ret;
    if (net->mode == POLICY_NET_NONE) {
        put(&at, &room, "network: none (loopback only)\n");
        return;
    }
    put(&at, &room, "network: egress (IPv4; nobody can connect in)\n");
    for (uint32_t i = 0; i < net->rule_count; i++)
        show_rule(&net->rules[i], &at, &room);
    if (net->rule_count == 0)
        put(&at, &room, "  may reach no address\n");
    for (uint32_t i = 0; i < net->resolver_count; i++) {
        write_address(addr, net->resolvers[i]);
        put(&at, &room, "  may ask %s for names\n", addr);
    }
    put(&at, &room, "  port 53 %s\n",
        net->resolver_count ? "only there" : "nowhere: no resolver is listed");
    put(&at, &room,
        "  private, link-local and the host's own addresses only where a line above lies within "
        "them\n");
    if (net->rate_kbit)
        put(&at, &room, "  at most %u kbit/s each direction\n", net->rate_kbit);
    else
        put(&at, &room, "  no limit of speed\n");
}
