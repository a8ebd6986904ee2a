/* SPDX-License-Identifier: Apache-2.0 */
/* policy/simulate - what a compiled filter answers, found by carrying out its instructions. */
#pragma once
#include "policy/policy.h"

/* The filter's return value (SECCOMP_RET_...) for this call with all arguments set to `args`;
 * arch: AUDIT_ARCH_... */
uint32_t policy_simulate(const struct policy_plan *plan, uint32_t arch, int nr, uint64_t args);
