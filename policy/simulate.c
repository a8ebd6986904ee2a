/* SPDX-License-Identifier: Apache-2.0 */
/* policy/simulate - see simulate.h. Runs in the supervisor, its compiling child and the engine. */
#include "policy/simulate.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>

/* One run of the filter (classic BPF as seccomp(2) allows it: loads of seccomp_data, jumps, AND,
 * return). What it does not know ends it as if denied. */
static uint32_t run_filter(const struct policy_plan *plan, const struct seccomp_data *data)
{
    uint32_t a = 0;
    for (uint32_t pc = 0; pc < plan->bpf_len; pc++) {
        struct sock_filter in;
        memcpy(&in, &plan->bpf[pc], sizeof in);
        switch (in.code) {
        case BPF_LD | BPF_W | BPF_ABS:
            if (in.k > sizeof *data - sizeof a)
                return SECCOMP_RET_KILL_PROCESS;
            memcpy(&a, (const char *)data + in.k, sizeof a);
            break;
        case BPF_ALU | BPF_AND | BPF_K:
            a &= in.k;
            break;
        case BPF_JMP | BPF_JA:
            pc += in.k;
            break;
        case BPF_JMP | BPF_JEQ | BPF_K:
            pc += a == in.k ? in.jt : in.jf;
            break;
        case BPF_JMP | BPF_JGT | BPF_K:
            pc += a > in.k ? in.jt : in.jf;
            break;
        case BPF_JMP | BPF_JGE | BPF_K:
            pc += a >= in.k ? in.jt : in.jf;
            break;
        case BPF_JMP | BPF_JSET | BPF_K:
            pc += a & in.k ? in.jt : in.jf;
            break;
        case BPF_RET | BPF_K:
            return in.k;
        default:
            return SECCOMP_RET_KILL_PROCESS;
        }
    }
    return SECCOMP_RET_KILL_PROCESS;
}

uint32_t policy_simulate(const struct policy_plan *plan, uint32_t arch, int nr, uint64_t args)
{
    struct seccomp_data data = {.nr = nr, .arch = arch};
    for (size_t i = 0; i < ARRAY_LEN(data.args); i++)
        data.args[i] = args;
    return run_filter(plan, &data);
}

bool policy_refuses(const struct policy_plan *plan, int nr, uint64_t args)
{
    return plan->layers & POLICY_SECCOMP &&
           policy_simulate(plan, AUDIT_ARCH_X86_64, nr, args) != SECCOMP_RET_ALLOW;
}
