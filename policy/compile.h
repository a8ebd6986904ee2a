/* SPDX-License-Identifier: Apache-2.0 */
/* policy/compile - completes a plan whose values are known with what the running kernel has. */
#pragma once
#include "policy/policy.h"

/* Fills magic, landlock_abi, layers and bpf from limits, rights, profile. 0; <0: err names what is
 * missing and not `optional`, and the remedy. */
int policy_complete(struct policy_plan *plan, uint32_t optional, struct err *err);
