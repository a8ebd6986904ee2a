/* SPDX-License-Identifier: Apache-2.0 */
/* policy/keys - see keys.h. A new number of a policy is a line here, a member of struct
 * policy_limits, and a line in etc/policy.yaml, which a test compares with this table.
 */
#include "policy/keys.h"

#define KIB 1024ull
#define MIB (1024 * KIB)
#define TIB (1024 * 1024 * MIB)
#define MS_MAX 86400000u
#define AT(m) offsetof(struct policy_limits, m)

/* clang-format off */
const struct policy_key policy_keys[] = {
    {"memory_mb", AT(group.memory_bytes), MIB, 16 * MIB, TIB, false, false, "MiB", NULL},
    {"swap_mb", AT(group.swap_bytes), MIB, MIB, TIB, true, false, "MiB", "none"},
    {"pids", AT(group.pids_max), 1, 4, 32768, false, false, "", NULL},
    {"cpu_percent", AT(group.cpu_percent), 1, 1, 102400, true, false, "%", "no quota"},
    {"cpu_weight", AT(group.cpu_weight), 1, 1, 10000, false, false, "", NULL},
    {"io_weight", AT(group.io_weight), 1, 1, 10000, true, false, "", "as the kernel has it"},
    {"timeout_default_ms", AT(timeout_ms_default), 1, 1, MS_MAX, true, false, "ms", "as runs.timeout_default_ms"},
    {"timeout_max_ms", AT(timeout_ms_max), 1, 1, MS_MAX, true, false, "ms", "as runs.timeout_max_ms"},
    {"cpu_max_ms", AT(cpu_ms_max), 1, 1, MS_MAX, true, false, "ms", "no limit"},
    {"output_max_kb", AT(output_bytes_max), KIB, KIB, KIB * MIB, true, false, "KiB", "as runs.output_max_kb"},
    {"tmp_mb", AT(tmp_bytes), MIB, MIB, TIB, false, true, "MiB", NULL},
    {"nofile", AT(nofile), 1, 16, 1048576, false, true, "", NULL},
    {"fsize_mb", AT(fsize_bytes), MIB, MIB, 16 * TIB, false, true, "MiB", NULL},
    {"stack_kb", AT(stack_bytes), KIB, 64 * KIB, KIB * MIB, false, true, "KiB", NULL},
    {"nproc", AT(nproc), 1, 4, 32768, false, true, "", NULL},
};
/* clang-format on */
const size_t policy_keys_count = ARRAY_LEN(policy_keys);

const struct policy_word policy_right_words[3] = {
    {"files", POLICY_FILES},
    {"abstract_sockets", POLICY_ABSTRACT},
    {"signals", POLICY_SIGNALS},
};
