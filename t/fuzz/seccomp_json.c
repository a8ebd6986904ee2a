/* SPDX-License-Identifier: Apache-2.0 */
/* t/fuzz/seccomp_json - any bytes as a seccomp profile: refused with a reason, or compiled into a
 * program in which every way ends: no jump leads out of it, and the last instruction is a return.
 */
#include "lib/err.h"
#include "policy/policy.h"
#include <assert.h>
#include <linux/filter.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_program(const uint64_t *bpf, uint32_t len)
{
    assert(len > 0 && len <= POLICY_BPF_MAX);
    for (uint32_t i = 0; i < len; i++) {
        struct sock_filter f;
        memcpy(&f, &bpf[i], sizeof f);
        if (f.code == (BPF_JMP | BPF_JA))
            assert(f.k < len - i - 1);
        else if (BPF_CLASS(f.code) == BPF_JMP)
            assert(f.jt < len - i - 1 && f.jf < len - i - 1);
        else if (i == len - 1)
            assert(f.code == (BPF_RET | BPF_K));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint64_t bpf[POLICY_BPF_MAX];
    uint32_t len = 0;
    struct err err = {0};
    if (policy_seccomp_compile((const char *)data, size, bpf, &len, &err) == 0)
        check_program(bpf, len);
    else
        assert(err.code < 0 && err.text[0]);
    return 0;
}
