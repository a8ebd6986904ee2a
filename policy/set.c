/* SPDX-License-Identifier: Apache-2.0 */
/* policy/set - the compiled block: is it sound, and which policy is for whom.
 *
 * Called by priv, the engine and the primordial; looks at the block only, which they trust once
 * policy_set_is_sound() has seen it.
 */
#include "policy/policy.h"

static bool plan_is_sound(const struct policy_plan *p)
{
    uint32_t ends = 0;
    for (uint32_t i = 0; i < p->env_bytes && i < POLICY_ENV_BYTES; i++)
        ends += p->env[i] == 0;
    for (uint32_t i = 0; i < p->bind_count && i < POLICY_BINDS_MAX; i++)
        if (p->binds[i].from[0] != '/' || p->binds[i].from[POLICY_PATH_MAX - 1] ||
            p->binds[i].to[0] != '/' || p->binds[i].to[POLICY_PATH_MAX - 1])
            return false;
    return p->magic == POLICY_MAGIC && p->bpf_len <= POLICY_BPF_MAX && !p->name[POLICY_NAME_MAX] &&
           !p->profile[POLICY_PATH_MAX - 1] && p->bind_count <= POLICY_BINDS_MAX &&
           p->bind_ports.count <= POLICY_PORTS_MAX && p->connect_ports.count <= POLICY_PORTS_MAX &&
           p->net.rule_count <= POLICY_NET_RULES_MAX &&
           p->net.resolver_count <= POLICY_NET_RESOLVERS_MAX && p->env_count <= POLICY_ENV_MAX &&
           p->env_bytes <= POLICY_ENV_BYTES && ends == p->env_count &&
           (!p->env_bytes || !p->env[p->env_bytes - 1]);
}

size_t policy_set_bytes(const struct policy_set *set)
{
    return offsetof(struct policy_set, plans) + set->count * sizeof set->plans[0];
}

bool policy_set_is_sound(const struct policy_set *set, size_t len)
{
    if (len < offsetof(struct policy_set, plans) || set->magic != POLICY_SET_MAGIC ||
        set->count < 1 || set->count > POLICIES_MAX || set->match_count > POLICY_MATCHES_MAX ||
        len != policy_set_bytes(set))
        return false;
    for (uint32_t i = 0; i < set->count; i++)
        if (!plan_is_sound(&set->plans[i]))
            return false;
    for (uint32_t i = 0; i < set->match_count; i++)
        if (set->matches[i].pattern[sizeof set->matches[i].pattern - 1] ||
            !set->matches[i].pattern[0] || set->matches[i].policy >= set->count ||
            set->matches[i].may_ask >> set->count)
            return false;
    return true;
}

const struct policy_match *policy_find_match(const struct policy_set *set, const char *ns_id)
{
    for (uint32_t i = 0; i < set->match_count; i++) {
        const char *pattern = set->matches[i].pattern;
        size_t len = strlen(pattern);
        if (pattern[len - 1] == '*' ? strncmp(pattern, ns_id, len - 1) == 0
                                    : strcmp(pattern, ns_id) == 0)
            return &set->matches[i];
    }
    return NULL;
}

int policy_find(const struct policy_set *set, const char *name)
{
    for (uint32_t i = 0; i < set->count; i++)
        if (strcmp(set->plans[i].name, name) == 0)
            return (int)i;
    return -1;
}

bool policy_may_have(const struct policy_set *set, uint32_t policy, const char *ns_id)
{
    const struct policy_match *m = policy_find_match(set, ns_id);
    uint32_t allowed = m ? 1u << m->policy | m->may_ask : 1u;
    return policy < set->count && allowed & 1u << policy;
}

bool policy_has_group(const struct policy_set *set, const struct policy_group *group,
                      const char *ns_id)
{
    for (uint32_t i = 0; i < set->count; i++)
        if (policy_may_have(set, i, ns_id) &&
            memcmp(&set->plans[i].limits.group, group, sizeof *group) == 0)
            return true;
    return false;
}

bool policy_serves(const struct policy_set *set, uint64_t box, const char *ns_id)
{
    for (uint32_t i = 0; i < set->count; i++)
        if (policy_may_have(set, i, ns_id) && set->plans[i].box == box)
            return true;
    return false;
}
