/* SPDX-License-Identifier: Apache-2.0 */
/* t/unit/net - a rule's text means what it says or is refused by name; in words it is the same; the
 * table says what is denied before what is allowed in general, and names nothing of another key.
 */
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/tap.h"
#include "net/netd.h"
#include "policy/policy.h"

static void test_good_rules(void)
{
    static const struct {
        const char *text;
        struct policy_net_rule want;
    } good[] = {
        {"203.0.113.0/24:443", {0xcb007100, 24, 443, 443, 1, 0, {0}}},
        {"tcp://10.1.2.3:5432", {0x0a010203, 32, 5432, 5432, 1, 0, {0}}},
        {"udp://203.0.113.9/32:1-65535", {0xcb007109, 32, 1, 65535, 0, 1, {0}}},
        {"0.0.0.0/0:443-445", {0, 0, 443, 445, 1, 0, {0}}},
        {"128.0.0.0/1:65535", {0x80000000, 1, 65535, 65535, 1, 0, {0}}},
        {"169.254.169.254:80", {0xa9fea9fe, 32, 80, 80, 1, 0, {0}}},
    };
    struct err err = {0};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct policy_net_rule got;
        memset(&got, 0xff, sizeof got);
        int r = policy_net_parse_rule(good[i].text, &got, &err);
        ok(r == 0 && memcmp(&got, &good[i].want, sizeof got) == 0, "%s", good[i].text);
    }
}

static void test_bad_rules(void)
{
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"", "expected an IPv4 address"},
        {"203.0.113.7/24:443", "expected 203.0.113.0/24"},
        {"10.1.2.3/8:80", "expected 10.0.0.0/8"},
        {"1.2.3.4/33:80", "prefix of 0 to 32"},
        {"1.2.3.4/:80", "prefix of 0 to 32"},
        {"1.2.3.4/032:80", "prefix of 0 to 32"},
        {"01.2.3.4:80", "expected an IPv4 address"},
        {"1.2.3.256:80", "expected an IPv4 address"},
        {"1.2.3:80", "expected an IPv4 address"},
        {"1.2.3.4.5:80", "expected :PORT"},
        {"0x1.2.3.4:80", "expected an IPv4 address"},
        {"example.org:80", "expected an IPv4 address"},
        {"1.2.3.4", "expected :PORT"},
        {"1.2.3.4:", "port of 1 to 65535"},
        {"1.2.3.4:0", "port of 1 to 65535"},
        {"1.2.3.4:65536", "port of 1 to 65535"},
        {"1.2.3.4:4294967377", "port of 1 to 65535"},
        {"1.2.3.4:080", "port of 1 to 65535"},
        {"1.2.3.4:-1", "port of 1 to 65535"},
        {"1.2.3.4:80-79", "last port of 80 to 65535"},
        {"1.2.3.4:80-", "last port of 80 to 65535"},
        {"1.2.3.4:80-90-99", "nothing behind the port"},
        {"1.2.3.4:80 ", "nothing behind the port"},
        {" 1.2.3.4:80", "expected an IPv4 address"},
        {"icmp://1.2.3.4:80", "tcp:// or udp://"},
        {"TCP://1.2.3.4:80", "tcp:// or udp://"},
        {"[2001:db8::1]:80", "IPv6 is not supported"},
        {"tcp://2001:db8::/32:80", "IPv6 is not supported"},
        {"::1:80", "IPv6 is not supported"},
        {"127.0.0.1:80", "namespace's own"},
        {"224.0.0.1:80", "multicast"},
        {"255.255.255.255:80", "broadcast"},
        {"0.0.0.0/8:80", "this network"},
    };
    struct policy_net_rule got, before;
    memset(&before, 0x5a, sizeof before);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err err = {0};
        got = before;
        int r = policy_net_parse_rule(bad[i].text, &got, &err);
        ok(r < 0 && strstr(err.text, bad[i].says) &&
               strncmp(err.text, bad[i].text, strlen(bad[i].text)) == 0 &&
               memcmp(&got, &before, sizeof got) == 0,
           "\"%s\": %s", bad[i].text, err.text);
    }
}

static void test_resolvers(void)
{
    struct err err;
    uint32_t addr = 1;
    ok(policy_net_parse_resolver("10.0.0.53", &addr, &err) == 0 && addr == 0x0a000035,
       "a resolver");
    static const char *const bad[] = {"10.0.0.53:53", "10.0.0.0/8", "127.0.0.53",
                                      "dns",          "",           "fe80::1"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ok(policy_net_parse_resolver(bad[i], &addr, &err) < 0 && addr == 0x0a000035,
           "no resolver: \"%s\"", bad[i]);
    uint32_t prefix = 99;
    ok(policy_net_parse_cidr("10.213.0.0/16", &addr, &prefix, &err) == 0 && addr == 0x0ad50000 &&
           prefix == 16,
       "a subnet");
    ok(policy_net_parse_cidr("10.213.0.1/16", &addr, &prefix, &err) < 0 &&
           policy_net_parse_cidr("10.213.0.0/16:1", &addr, &prefix, &err) < 0,
       "no subnet");
}

static struct policy_net example(void)
{
    static const char *const rules[] = {"203.0.113.0/24:443-445", "udp://10.9.0.0/16:99",
                                        "192.0.2.7:80"};
    struct policy_net net = {.mode = POLICY_NET_EGRESS, .resolver_count = 1, .rate_kbit = 8000};
    struct err err;
    net.resolvers[0] = 0x0a000035;
    for (size_t i = 0; i < ARRAY_LEN(rules); i++)
        if (policy_net_parse_rule(rules[i], &net.rules[net.rule_count++], &err) < 0)
            die(1, "%s", err.text);
    return net;
}

static void test_words(void)
{
    static char text[POLICY_NET_WORDS_MAX];
    struct policy_net net = example(), none = {.mode = POLICY_NET_NONE};
    policy_net_show(&net, text, sizeof text);
    ok(strcmp(text, "network: egress (IPv4; nobody can connect in)\n"
                    "  may reach 203.0.113.0/24, tcp ports 443 to 445\n"
                    "  may reach 10.9.0.0/16, udp port 99\n"
                    "  may reach 192.0.2.7/32, tcp port 80\n"
                    "  may ask 10.0.0.53 for names\n"
                    "  port 53 only there\n"
                    "  private, link-local and the host's own addresses only where a line above "
                    "lies within them\n"
                    "  at most 8000 kbit/s each direction\n") == 0,
       "a network in words");
    policy_net_show(&none, text, sizeof text);
    ok(strcmp(text, "network: none (loopback only)\n") == 0, "none in words");
    for (size_t i = 0; i < POLICY_NET_RULES_MAX; i++)
        net.rules[i] = (struct policy_net_rule){0xfffffffe, 31, 10000, 65535, 1, 1, {0}};
    net.rule_count = POLICY_NET_RULES_MAX;
    net.rate_kbit = UINT32_MAX;
    policy_net_show(&net, text, sizeof text);
    ok(strstr(text, "4294967295 kbit/s each direction\n"), "the longest has room: %zu bytes",
       strlen(text));
}

/* Where each of these stands in the text; they must come in this order. */
static bool in_order(const char *text, const char *const *parts, size_t count)
{
    const char *at = text;
    for (size_t i = 0; i < count; i++) {
        at = strstr(at, parts[i]);
        if (!at) {
            printf("# missing from there on: %s\n", parts[i]);
            return false;
        }
    }
    return true;
}

static void test_table(void)
{
    static const char *const order[] = {
        "add table inet brood_0a1b2c\ndelete table inet brood_0a1b2c\ntable inet brood_0a1b2c {",
        "chain from_0 {",
        "update @rate_from { iif limit rate over 1000000 bytes/second burst 250000 bytes } drop",
        "ip daddr 10.0.0.53/32 meta l4proto { tcp, udp } th dport 53 accept",
        "th dport 53 goto refuse",
        "ip daddr 192.0.2.7/32 meta l4proto { tcp } th dport 80-80 accept",
        "fib daddr type != unicast goto refuse",
        "ip daddr 10.9.0.0/16 meta l4proto { udp } th dport 99-99 accept",
        "ip daddr 10.0.0.0/8 goto refuse",
        "ip daddr 169.254.0.0/16 goto refuse",
        "ip daddr 203.0.113.0/24 meta l4proto { tcp } th dport 443-445 accept",
        "goto refuse",
        "chain from_ns {",
        "meta nfproto != ipv4 drop",
        "ip saddr != 10.213.0.0/16 drop",
        "fib saddr . iif oif missing drop",
        "ip daddr 10.213.0.0/16 goto refuse",
        "drop",
        "ct state != { established, related } drop",
        "iifname \"brd0a1b2c-*\" goto from_ns",
        "oifname \"brd*\" drop",
        "masquerade",
    };
    static struct net_config config = {.verb = NET_CONFIGURE,
                                       .key = 0x0a1b2c,
                                       .subnet = 0x0ad50000,
                                       .prefix = 16,
                                       .slots = 100,
                                       .policies = 1};
    struct rules_plan plan = {.config = &config, .connections_max = 128};
    struct buf text = {.cap = 1 << 20};
    config.policy[0] = example();
    ok(rules_write(&plan, &text) && buf_add(&text, "", 1), "a table is written");
    ok(in_order(text.data, order, ARRAY_LEN(order)), "what is denied stands where it must");
    ok(!strstr(text.data, "guard"), "no guard where the host forwards anyway");
    buf_fini(&text);
    plan.guards_forwarding = true;
    ok(rules_write(&plan, &text) && buf_add(&text, "", 1) &&
           strstr(text.data, "chain guard {\n  drop"),
       "a guard");
    buf_fini(&text);

    /* The largest there can be. */
    config.policies = NET_POLICIES_MAX;
    for (size_t i = 0; i < NET_POLICIES_MAX; i++) {
        struct policy_net *net = &config.policy[i];
        *net = (struct policy_net){.mode = POLICY_NET_EGRESS,
                                   .rule_count = POLICY_NET_RULES_MAX,
                                   .resolver_count = POLICY_NET_RESOLVERS_MAX,
                                   .rate_kbit = UINT32_MAX};
        for (size_t k = 0; k < POLICY_NET_RULES_MAX; k++)
            net->rules[k] = (struct policy_net_rule){0xfffffffe, 31, 10000, 65535, 1, 1, {0}};
    }
    struct buf large = {.cap = 1 << 20};
    ok(rules_write(&plan, &large), "the largest table has room: %zu bytes", large.len);
    buf_fini(&large);
    struct buf small = {.cap = 1000};
    ok(!rules_write(&plan, &small), "a table without room says so");
    buf_fini(&small);
}

static void test_names(void)
{
    char name[NETD_NAME_MAX];
    rules_link_name(NET_KEY_MAX, 32767 + 1024 + 64, name);
    ok(strcmp(name, "brdffffff-33855") == 0, "the longest name is one of 15 bytes");
    ok(rules_group(0x0a1b2c, 3) == 0x0a1b2c03 && rules_group(1, 0) != rules_group(2, 0), "groups");
    ok(net_host_address(0x0ad50000, 0) == 0x0ad50002 &&
           net_ns_address(0x0ad50000, 0) == 0x0ad50003 &&
           net_ns_address(0x0ad50000, net_slots_max(16) - 1) == 0x0ad5ffff,
       "addresses from the second pair to the last");
}

int main(void)
{
    test_good_rules();
    test_bad_rules();
    test_resolvers();
    test_words();
    test_table();
    test_names();
    return tap_done();
}
