/* SPDX-License-Identifier: Apache-2.0 */
/* policy/show - a compiled policy in words.
 *
 * What is printed is what will be installed: the seccomp part comes from running the filter's own
 * instructions for every system call, not from the profile it was compiled from. Runs in the engine
 * (for `brood policy show`) and in tests.
 */
#include "policy/keys.h"
#include "policy/simulate.h"
#include <inttypes.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stdarg.h>
#include <stddef.h>

#define CALLS_MAX 512u /* x86_64 has no number beyond 470 yet */

struct out {
    char *at;
    size_t room;
};

PRINTF_LIKE(2, 3) static void put(struct out *o, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(o->at, o->room, fmt, ap);
    va_end(ap);
    size_t used = n < 0 ? 0 : (size_t)n < o->room ? (size_t)n : o->room - 1;
    o->at += used;
    o->room -= used;
}

static void show_answer(struct out *o, uint32_t answer)
{
    switch (answer & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_ALLOW:
        put(o, "allowed");
        break;
    case SECCOMP_RET_ERRNO:
        put(o, "%s", strerrorname_np((int)(answer & SECCOMP_RET_DATA)));
        break;
    case SECCOMP_RET_USER_NOTIF:
        put(o, "EPERM, counted");
        break;
    default:
        put(o, "killed");
        break;
    }
}

/* Every call by the answer it gets with all arguments 0. */
static void show_seccomp(struct out *o, const struct policy_plan *plan)
{
    struct {
        uint32_t answer, count;
    } kinds[8] = {0};
    size_t n = 0;
    if (!(plan->layers & POLICY_SECCOMP))
        return put(o, "seccomp: missing, and not required\n");
    put(o, "seccomp: profile %s, %u instructions\n", plan->profile, plan->bpf_len);
    for (int nr = 0; nr < (int)CALLS_MAX; nr++) {
        uint32_t answer = policy_simulate(plan, AUDIT_ARCH_X86_64, nr, 0);
        size_t i = 0;
        while (i < n && kinds[i].answer != answer)
            i++;
        if (i == n && n < ARRAY_LEN(kinds))
            kinds[n++].answer = answer;
        if (i < n)
            kinds[i].count++;
    }
    for (size_t i = 0; i < n; i++) {
        put(o, "  %u of %u call numbers: ", kinds[i].count, CALLS_MAX);
        show_answer(o, kinds[i].answer);
        put(o, "\n");
    }
    put(o, "  32-bit entry: ");
    show_answer(o, policy_simulate(plan, AUDIT_ARCH_I386, 20, 0));
    put(o, "; x32 entry: ");
    show_answer(o, policy_simulate(plan, AUDIT_ARCH_X86_64, 0x40000000 | 39, 0));
    put(o, "\n");
}

static void show_numbers(struct out *o, const struct policy_plan *plan)
{
    for (size_t i = 0; i < policy_keys_count; i++) {
        const struct policy_key *k = &policy_keys[i];
        uint64_t v;
        memcpy(&v, (const char *)&plan->limits + k->offset, sizeof v);
        if (v == 0 && k->zero)
            put(o, "%s: %s", k->name, k->zero);
        else
            put(o, "%s: %" PRIu64, k->name, v / k->factor);
        put(o, "  (%s)\n", k->boxed ? "with the next zygote" : "with the next run");
    }
}

static void show_ports(struct out *o, const char *what, const struct policy_plan *plan,
                       uint32_t right, const struct policy_ports *ports)
{
    put(o, "; %s ", what);
    if (!(plan->rights & right))
        put(o, "any port");
    else if (ports->count == 0)
        put(o, "no port");
    for (uint32_t i = 0; plan->rights & right && i < ports->count; i++)
        put(o, "%s%u", i ? "," : "", ports->port[i]);
}

static void show_landlock(struct out *o, const struct policy_plan *plan)
{
    if (!(plan->layers & POLICY_LANDLOCK))
        return put(o, "landlock: missing, and not required\n");
    put(o, "landlock: ABI %u", plan->landlock_abi);
    for (size_t i = 0; i < ARRAY_LEN(policy_right_words); i++) {
        uint32_t bit = policy_right_words[i].bit;
        bool lacks = bit != POLICY_FILES && plan->landlock_abi < POLICY_LANDLOCK_ABI_SCOPE;
        put(o, "; %s %s", policy_right_words[i].name,
            !(plan->rights & bit) ? "off"
            : lacks               ? "not in this kernel"
                                  : "on");
    }
    if (plan->landlock_abi < POLICY_LANDLOCK_ABI_NET) {
        put(o, "; tcp not in this kernel\n");
        return;
    }
    show_ports(o, "tcp bind", plan, POLICY_TCP_BIND, &plan->bind_ports);
    show_ports(o, "connect", plan, POLICY_TCP_CONNECT, &plan->connect_ports);
    put(o, "\n");
}

static void show_matches(struct out *o, const struct policy_set *set, uint32_t policy)
{
    bool any = false;
    put(o, "for:");
    for (uint32_t i = 0; i < set->match_count; i++) {
        const struct policy_match *m = &set->matches[i];
        bool asked = m->may_ask & 1u << policy;
        if (m->policy != policy && !asked)
            continue;
        put(o, " %s%s", m->pattern, m->policy == policy ? "" : " (asked for)");
        any = true;
    }
    put(o, "%s\n",
        policy == 0 ? any ? " and all that none names" : " all that none names"
        : any       ? ""
                    : " nobody");
}

void policy_show(const struct policy_set *set, uint32_t policy, char *ret, size_t room)
{
    const struct policy_plan *plan = &set->plans[policy];
    struct out o = {.at = ret, .room = room};
    put(&o, "policy %s\n", plan->name);
    show_matches(&o, set, policy);
    show_numbers(&o, plan);
    show_landlock(&o, plan);
    show_seccomp(&o, plan);
    char network[POLICY_NET_WORDS_MAX];
    policy_net_show(&plan->net, network, sizeof network);
    put(&o, "%s", network);
    for (uint32_t i = 0; i < plan->bind_count; i++)
        put(&o, "bind: %s at %s, read-only\n", plan->binds[i].from, plan->binds[i].to);
    const char *var = plan->env;
    for (uint32_t i = 0; i < plan->env_count; i++, var += strlen(var) + 1)
        put(&o, "env: %s\n", var);
    put(&o, "box: %016" PRIx64 "\n", plan->box);
}
