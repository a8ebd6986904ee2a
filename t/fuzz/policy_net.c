/* SPDX-License-Identifier: Apache-2.0 */
/* t/fuzz/policy_net - any text as a rule, a resolver and a subnet. What is taken is sane, and comes
 * back the same from its own words; what is not leaves the result alone and says why.
 */
#include "lib/err.h"
#include "policy/policy.h"
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t beyond(uint32_t prefix)
{
    return prefix == 32 ? 0 : prefix ? ~(~0u << (32 - prefix)) : ~0u;
}

static void check_rule(const char *text)
{
    struct policy_net_rule rule, again, before;
    struct err err = {0};
    char words[80];
    memset(&before, 0x5a, sizeof before);
    rule = before;
    if (policy_net_parse_rule(text, &rule, &err) < 0) {
        assert(err.text[0] && memcmp(&rule, &before, sizeof rule) == 0);
        return;
    }
    assert(rule.prefix <= 32 && (rule.addr & beyond(rule.prefix)) == 0);
    assert(rule.port_first >= 1 && rule.port_last >= rule.port_first && rule.tcp + rule.udp == 1);
    assert(!policy_net_find_special(rule.addr, rule.prefix) ||
           policy_net_find_special(rule.addr, rule.prefix)->may_be_listed);
    (void)snprintf(words, sizeof words, "%s://%u.%u.%u.%u/%u:%u-%u", rule.tcp ? "tcp" : "udp",
                   rule.addr >> 24, rule.addr >> 16 & 255, rule.addr >> 8 & 255, rule.addr & 255,
                   rule.prefix, rule.port_first, rule.port_last);
    assert(policy_net_parse_rule(words, &again, &err) == 0 &&
           memcmp(&rule, &again, sizeof rule) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = {0};
    uint32_t addr = 7, prefix = 7;
    char *text = malloc(size + 1);
    if (!text)
        abort();
    memcpy(text, data, size);
    text[size] = 0;
    check_rule(text);
    if (policy_net_parse_resolver(text, &addr, &err) < 0)
        assert(err.text[0] && addr == 7);
    addr = 7;
    if (policy_net_parse_cidr(text, &addr, &prefix, &err) == 0)
        assert(prefix <= 32 && (addr & beyond(prefix)) == 0);
    else
        assert(addr == 7 && prefix == 7);
    free(text);
    return 0;
}
