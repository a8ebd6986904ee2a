/* SPDX-License-Identifier: Apache-2.0 */
/* policy - what a child may do: compiled once by the supervisor at start, installed by raw calls in
 * the zygote and the child. The compiled form is one flat block without pointers, so that it can be
 * handed to the primordial in a sealed memfd and trusted there (it comes from root).
 */
#pragma once
#include <stdint.h>
struct err;

#define POLICY_BPF_MAX 4096
#define POLICY_MAGIC 0x31706f6cu

struct policy_limits {
    uint64_t nofile, fsize_bytes, stack_bytes, nproc; /* rlimits of a child, hard and soft */
    uint64_t tmp_bytes;                               /* one tmpfs behind /tmp and /dev/shm */
};

/* What a namespace may reach (policy "network"). Addresses and ports in host byte order. */
enum policy_network { POLICY_NET_NONE, POLICY_NET_EGRESS };
#define POLICY_NET_RULES_MAX 64
#define POLICY_NET_RESOLVERS_MAX 4
struct policy_net_rule { /* IPv4 CIDR and a port range: destinations that may be reached */
    uint32_t addr, prefix;
    uint16_t port_first, port_last; /* 0..65535: any */
    uint8_t tcp, udp, pad[2];       /* 1: of that protocol */
};
struct policy_net {
    uint32_t mode; /* enum policy_network */
    uint32_t rule_count, resolver_count;
    uint32_t rate_kbit; /* each direction; 0: unlimited */
    struct policy_net_rule rules[POLICY_NET_RULES_MAX];
    uint32_t resolvers[POLICY_NET_RESOLVERS_MAX]; /* DNS goes there only */
};

/* Layers that may be missing when the operator said so (optional_layers). */
enum policy_layer {
    POLICY_LANDLOCK = 1 << 0,
    POLICY_SECCOMP = 1 << 1,
    POLICY_CGROUP_MEMORY = 1 << 2,
    POLICY_CGROUP_PIDS = 1 << 3,
    POLICY_CGROUP_CPU = 1 << 4,
};

struct policy_plan {
    uint32_t magic, bpf_len; /* instructions */
    struct policy_limits limits;
    uint32_t landlock_abi; /* of the running kernel; 0: not there */
    uint32_t layers;       /* policy_layer bits that must be installed */
    struct policy_net net;
    uint64_t bpf[POLICY_BPF_MAX]; /* struct sock_filter, 8 bytes each */
};

/* Probes the kernel and compiles. `optional`: layers that may be missing. 0, or <0: err names the
 * layer and the remedy. Uses libseccomp; not after fork. */
int policy_compile(const struct policy_limits *limits, uint32_t optional, struct policy_plan *ret,
                   struct err *err);
/* An OCI seccomp profile as JSON to at most POLICY_BPF_MAX instructions. Refusals with EPERM are
 * SECCOMP_RET_USER_NOTIF there. <0: err names the place. Uses libseccomp; not after fork. */
int policy_seccomp_compile(const char *json, size_t bytes, uint64_t *ret_bpf, uint32_t *ret_len,
                           struct err *err);
/* The profile that policy_compile() takes: etc/seccomp/default.json as it was at build time. */
const char *policy_seccomp_default(size_t *ret_bytes);
/* "mount"; "syscall_999" for one that has no name. */
void policy_syscall_name(uint32_t nr, char *ret, size_t room);
#define POLICY_SYSCALL_NAME_ROOM 32
/* "landlock,seccomp" -> bits; <0 with err for an unknown word. */
int policy_parse_layers(const char *text, uint32_t *ret, struct err *err);
/* The landlock ABI of the running kernel, 0 when it is missing or disabled (landlock(7)). */
int policy_landlock_abi(void);

/* --- raw calls for the zygote and the child; no malloc, no locks; 0 or -errno --- */

/* Landlock (landlock(7)), in steps, because what can be prepared is prepared before anyone waits. A
 * ruleset: read and execute below /, device and /proc files may be written in place; -1 when the
 * layer is not wanted, which the others take for nothing to do. The caller's to close. */
int policy_landlock_prepare(const struct policy_plan *plan, int *ret_ruleset);
/* Adds: all below this path. The path must be mounted by now. */
int policy_landlock_allow(const struct policy_plan *plan, int ruleset, const char *path);
/* Restricts this process and its future children; needs no_new_privs. Irreversible; no mount can be
 * changed any more. */
int policy_landlock_restrict(int ruleset);
/* From now on this process and its children reach the abstract sockets and processes (signals) of
 * each other only. Linux 6.12, ABI 6. */
int policy_landlock_scope(void);
#define POLICY_LANDLOCK_ABI_SCOPE 6
/* Loads the filter; needs no_new_privs. Irreversible, inherited. *ret_listener: where refused calls
 * wait for their answer (seccomp_unotify(2)), the caller's; it must be read or closed, and by
 * nobody who could make such a call. -1: this kernel, or whoever confined us, has no room for a
 * listener; the calls are refused all the same. */
int policy_install_seccomp(const struct policy_plan *plan, int *ret_listener);
/* rlimits of a child except RLIMIT_CPU. */
int policy_install_rlimits(const struct policy_plan *plan);
/* Empties the bounding and ambient sets: nothing executed from here on has a capability. */
int policy_empty_bounding_set(void);
/* Keeps only the `keep` bits (1 << CAP_x) permitted and effective. */
int policy_keep_caps(uint64_t keep);
/* no_new_privs. */
int policy_set_no_new_privs(void);
