/* SPDX-License-Identifier: Apache-2.0 */
/* t/fuzz/policy - any bytes as a policy file: refused with a reason that names a line, or a set
 * whose counts, indices and texts are within bounds and can be shown in words.
 */
#include "policy/policy.h"
#include "lib/err.h"
#include "policy/file.h"
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct policy_set set;
    static char words[16384];
    struct err err = {0};
    memset(&set, 0, sizeof set);
    set.magic = POLICY_SET_MAGIC;
    set.count = 1;
    (void)snprintf(set.plans[0].name, sizeof set.plans[0].name, "default");
    set.plans[0].limits.group.memory_bytes = 512u << 20;
    set.plans[0].limits.tmp_bytes = 64u << 20;
    if (policy_read_file((const char *)data, size, "p", &set, &err) < 0) {
        assert(err.code < 0 && strncmp(err.text, "p:", 2) == 0);
        return 0;
    }
    for (uint32_t i = 0; i < set.count; i++)
        set.plans[i].magic = POLICY_MAGIC;
    assert(policy_set_is_sound(&set, policy_set_bytes(&set)));
    for (uint32_t i = 0; i < set.count; i++) {
        policy_show(&set, i, words, sizeof words);
        assert(strlen(words) > 0);
    }
    (void)policy_find_match(&set, "ci-1");
    return 0;
}
