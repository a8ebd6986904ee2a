/* SPDX-License-Identifier: Apache-2.0 */
/* policy/file - reads the policy file into a set whose plans[0] holds the default's values. */
#pragma once
#include "policy/policy.h"
#include <stddef.h>

/* Fills names, values, count and matches; nothing is compiled. A plan's `layers` are those it
 * requires. 0 or <0: err names file, line, key. The text need not end in NUL. */
int policy_read_file(const char *text, size_t len, const char *path, struct policy_set *set,
                     struct err *err);
