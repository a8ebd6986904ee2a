/* SPDX-License-Identifier: Apache-2.0 */
/* policy/compile - builds the plan at start, in the supervisor before it splits: which layers this
 * kernel has, and the seccomp filter (seccomp.c).
 */
#include "lib/err.h"
#include "policy/policy.h"
#include <sys/prctl.h>

static int compile_seccomp(struct policy_plan *plan, struct err *err)
{
    size_t bytes;
    const char *json = policy_seccomp_default(&bytes);
    int r = policy_seccomp_compile(json, bytes, plan->bpf, &plan->bpf_len, err);
    return r < 0 ? err_wrap(err, "the default seccomp profile") : 0;
}

static const struct {
    const char *name;
    enum policy_layer bit;
} layer_names[] = {
    {"landlock", POLICY_LANDLOCK},           {"seccomp", POLICY_SECCOMP},
    {"cgroup-memory", POLICY_CGROUP_MEMORY}, {"cgroup-pids", POLICY_CGROUP_PIDS},
    {"cgroup-cpu", POLICY_CGROUP_CPU},
};

int policy_parse_layers(const char *text, uint32_t *ret, struct err *err)
{
    *ret = 0;
    while (*text) {
        size_t len = strcspn(text, ","), i;
        for (i = 0; i < ARRAY_LEN(layer_names); i++)
            if (strlen(layer_names[i].name) == len && memcmp(layer_names[i].name, text, len) == 0)
                break;
        if (i == ARRAY_LEN(layer_names))
            return err_set(err,
                           "\"%.*s\": expected landlock, seccomp, cgroup-memory, "
                           "cgroup-pids or cgroup-cpu",
                           (int)len, text);
        *ret |= (uint32_t)layer_names[i].bit;
        text += len + (text[len] == ',');
    }
    return 0;
}

int policy_compile(const struct policy_limits *limits, uint32_t optional, struct policy_plan *ret,
                   struct err *err)
{
    *ret = (struct policy_plan){.magic = POLICY_MAGIC, .limits = *limits};
    ret->landlock_abi = (uint32_t)policy_landlock_abi();
    if (ret->landlock_abi > 0)
        ret->layers |= POLICY_LANDLOCK;
    else if (!(optional & POLICY_LANDLOCK))
        return err_set(err,
                       "landlock is missing: needs CONFIG_SECURITY_LANDLOCK and \"landlock\" in "
                       "the lsm= boot parameter (or optional_layers: landlock)");
    if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0)
        ret->layers |= POLICY_SECCOMP;
    else if (!(optional & POLICY_SECCOMP))
        return err_set(err, "seccomp is missing: needs CONFIG_SECCOMP_FILTER (or optional_layers: "
                            "seccomp)");
    return ret->layers & POLICY_SECCOMP ? compile_seccomp(ret, err) : 0;
}
