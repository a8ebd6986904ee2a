/* SPDX-License-Identifier: Apache-2.0 */
/* policy/keys - the keys of a policy that hold one number, in one table: for reading and showing.
 */
#pragma once
#include "policy/policy.h"
#include <stddef.h>

struct policy_key {
    const char *name; /* ends in its unit: _mb _kb _ms or none */
    size_t offset;    /* of a uint64_t in struct policy_limits */
    uint64_t factor;  /* of the unit */
    uint64_t min, max;
    bool may_be_zero;        /* below min as well */
    bool boxed;              /* comes with a zygote; the others with the next run */
    const char *unit, *zero; /* for people */
};

extern const struct policy_key policy_keys[];
extern const size_t policy_keys_count;

struct policy_word {
    const char *name;
    uint32_t bit;
};
/* The rights under `landlock:` that are on or off. */
extern const struct policy_word policy_right_words[3];
