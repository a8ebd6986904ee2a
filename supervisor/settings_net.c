/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/settings_net - the group `network` of the settings as numbers: the default policy's
 * network, and the addresses that links get. Runs in the supervisor before it splits.
 */
#include "lib/err.h"
#include "policy/policy.h"
#include "supervisor/settings_impl.h"

#define ITEM_MAX 80

/* The next item of a comma list, without blanks around it: 1; 0: the end; <0: too long or empty. */
static int next_item(const char **at, char item[ITEM_MAX], struct err *err)
{
    *at += strspn(*at, " \t");
    if (!**at)
        return 0;
    size_t len = strcspn(*at, ","), end = len;
    while (end > 0 && ((*at)[end - 1] == ' ' || (*at)[end - 1] == '\t'))
        end--;
    if (end == 0 || end >= ITEM_MAX)
        return err_set(err, "expected items of 1 to %d characters between commas", ITEM_MAX - 1);
    memcpy(item, *at, end);
    item[end] = 0;
    *at += len;
    *at += **at == ',';
    return 1;
}

static int read_rules(const char *text, struct policy_net *net, struct err *err)
{
    char item[ITEM_MAX];
    int r;
    while ((r = next_item(&text, item, err)) > 0) {
        if (net->rule_count == POLICY_NET_RULES_MAX)
            return err_set(err, "expected at most %d rules", POLICY_NET_RULES_MAX);
        r = policy_net_parse_rule(item, &net->rules[net->rule_count++], err);
        if (r < 0)
            return r;
    }
    return r;
}

static int read_resolvers(const char *text, struct policy_net *net, struct err *err)
{
    char item[ITEM_MAX];
    int r;
    while ((r = next_item(&text, item, err)) > 0) {
        if (net->resolver_count == POLICY_NET_RESOLVERS_MAX)
            return err_set(err, "expected at most %d addresses", POLICY_NET_RESOLVERS_MAX);
        r = policy_net_parse_resolver(item, &net->resolvers[net->resolver_count++], err);
        if (r < 0)
            return r;
    }
    return r;
}

int settings_read_network(const struct settings *set, struct settings_network *ret,
                          const char **ret_name, struct err *err)
{
    struct settings_network n = {
        .policy = {.mode = set->network_mode, .rate_kbit = (uint32_t)set->network_rate_kbit}};
    *ret_name = "network.allow";
    int r = read_rules(set->network_allow, &n.policy, err);
    if (r == 0) {
        *ret_name = "network.resolvers";
        r = read_resolvers(set->network_resolvers, &n.policy, err);
    }
    if (r == 0) {
        *ret_name = "network.subnet";
        r = policy_net_parse_cidr(set->network_subnet, &n.subnet, &n.prefix, err);
    }
    if (r < 0)
        return r;
    if (n.prefix < 8 || n.prefix > 24)
        return err_set(err, "expected a prefix of 8 to 24 bits, got %u", n.prefix);
    const struct policy_net_range *special = policy_net_find_special(n.subnet, n.prefix);
    if (!special || !special->may_be_listed)
        return err_set(err, "expected a part of a private range, such as 10.213.0.0/16");
    *ret = n;
    return 0;
}
