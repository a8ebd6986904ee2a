/* SPDX-License-Identifier: Apache-2.0 */
/* policy/seccomp_default - etc/seccomp/default.json, inside the programs that need it: the default
 * profile must be there even where nothing was installed, and cannot be another than was tested.
 */
#include "policy/policy.h"

extern const char policy_default_json[], policy_default_json_end[];

__asm__(".pushsection .rodata\n"
        ".global policy_default_json\n"
        ".global policy_default_json_end\n"
        "policy_default_json:\n"
        ".incbin \"etc/seccomp/default.json\"\n"
        "policy_default_json_end:\n"
        ".byte 0\n"
        ".popsection\n");

const char *policy_seccomp_default(size_t *ret_bytes)
{
    *ret_bytes = (size_t)(policy_default_json_end - policy_default_json);
    return policy_default_json;
}
