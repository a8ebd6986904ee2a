/* SPDX-License-Identifier: Apache-2.0 */
/* policy - what a child may do: compiled once by the supervisor at start, installed by raw calls in
 * the zygote and the child. The compiled form is one flat block without pointers, so that it can be
 * handed to the primordial in a sealed memfd and trusted there (it comes from root).
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
struct err;

#define POLICY_BPF_MAX 4096
#define POLICY_MAGIC 0x31706f6cu
#define POLICY_SET_MAGIC 0x31736f6cu
#define POLICY_NAME_MAX 32u
#define POLICY_PATH_MAX 256u
#define POLICIES_MAX 16u
#define POLICY_MATCHES_MAX 64u
#define POLICY_BINDS_MAX 8u
#define POLICY_PORTS_MAX 16u
#define POLICY_ENV_MAX 16u
#define POLICY_ENV_BYTES 2048u
#define POLICY_FILE_BYTES_MAX 262144u

/* Of a namespace's cgroup. */
struct policy_group {
    uint64_t memory_bytes, swap_bytes, pids_max;
    uint64_t cpu_percent; /* 100 = one CPU; 0 = no quota */
    uint64_t cpu_weight;  /* 1-10000, as v2's cpu.weight; v1's shares follow from it */
    uint64_t io_weight;   /* the same of io.weight, v2 only; 0: left alone */
};

/* The upper ones change with the next run; those of a process and of the mounts come with the next
 * zygote. */
struct policy_limits {
    struct policy_group group;
    /* 0: as the settings runs.* say */
    uint64_t timeout_ms_default, timeout_ms_max, output_bytes_max;
    uint64_t cpu_ms_max; /* processor time of a run; 0: no limit of its own */

    uint64_t nofile, fsize_bytes, stack_bytes, nproc; /* rlimits of a child, hard and soft */
    uint64_t tmp_bytes;                               /* one tmpfs behind /tmp and /dev/shm */
};

/* Landlock, right by right. */
enum policy_right {
    POLICY_FILES = 1 << 0,    /* files outside the home and /tmp only as far as they are public */
    POLICY_TCP_BIND = 1 << 1, /* only to bind_ports */
    POLICY_TCP_CONNECT = 1 << 2, /* only to connect_ports */
    POLICY_ABSTRACT = 1 << 3,    /* abstract sockets of other runs are out of reach */
    POLICY_SIGNALS = 1 << 4,     /* processes of other runs cannot be signalled */
};

#define POLICY_RIGHTS_DEFAULT (POLICY_FILES | POLICY_ABSTRACT | POLICY_SIGNALS)

struct policy_ports {
    uint32_t count;
    uint16_t port[POLICY_PORTS_MAX];
};

struct policy_bind { /* read-only, nosuid, nodev */
    char from[POLICY_PATH_MAX], to[POLICY_PATH_MAX];
};

/* What a namespace may reach (policy "network"). Addresses and ports in host byte order. */
enum policy_network { POLICY_NET_NONE, POLICY_NET_EGRESS };
#define POLICY_NET_RULES_MAX 64
#define POLICY_NET_RESOLVERS_MAX 4
#define POLICY_NET_RATE_KBIT_MAX 100000000u
#define POLICY_NET_DEVICE "eth0" /* in the netns of a namespace with egress */
struct policy_net_rule {         /* IPv4 CIDR and a port range: destinations that may be reached */
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

/* --- the network's text: net.c; in the supervisor and the CLI --- */

/* Ranges that a rule reaches only when it lies within them as a whole: 0.0.0.0/0 does not mean the
 * private ones. Some can not be listed at all. */
#define POLICY_NET_SPECIALS 11
struct policy_net_range {
    uint32_t addr, prefix;
    bool may_be_listed;
    const char *name;
};
extern const struct policy_net_range policy_net_special[POLICY_NET_SPECIALS];
/* The one that holds this whole CIDR; NULL: none does. */
const struct policy_net_range *policy_net_find_special(uint32_t addr, uint32_t prefix);
/* "[tcp://|udp://]ADDRESS[/BITS]:PORT[-PORT]", tcp unless said. Strict; *ret is written only on
 * success. <0: err names the text and what was expected. */
int policy_net_parse_rule(const char *text, struct policy_net_rule *ret, struct err *err);
/* The address of a DNS server, "ADDRESS". */
int policy_net_parse_resolver(const char *text, uint32_t *ret, struct err *err);
/* "ADDRESS[/BITS]" without bits behind the prefix. */
int policy_net_parse_cidr(const char *text, uint32_t *ret_addr, uint32_t *ret_prefix,
                          struct err *err);
/* In words, for people: several lines, cut to room. */
void policy_net_show(const struct policy_net *net, char *ret, size_t room);
#define POLICY_NET_WORDS_MAX 8192 /* room for the longest */

/* The layers of isolation: what one is called, and what it needs, stands in policy_layer_words. */
enum policy_layer {
    POLICY_LANDLOCK = 1 << 0,
    POLICY_SECCOMP = 1 << 1,
    POLICY_CGROUP_MEMORY = 1 << 2,
    POLICY_CGROUP_PIDS = 1 << 3,
    POLICY_CGROUP_CPU = 1 << 4,
    POLICY_USERNS = 1 << 5,
    POLICY_MNTNS = 1 << 6,
    POLICY_PIDNS = 1 << 7,
    POLICY_NETNS = 1 << 8,
    POLICY_IPCNS = 1 << 9,
    POLICY_UTSNS = 1 << 10,
    POLICY_CGROUPNS = 1 << 11,
    POLICY_LANDLOCK_TCP = 1 << 12,
    POLICY_LANDLOCK_SCOPE = 1 << 13,
    POLICY_NO_NEW_PRIVS = 1 << 14,
    POLICY_CAPABILITIES = 1 << 15,
    POLICY_RLIMITS = 1 << 16,
    POLICY_PROC = 1 << 17,
    POLICY_IMAGE = 1 << 18,
    POLICY_TMP = 1 << 19,
    POLICY_DEVICES = 1 << 20,
    POLICY_VOLUME = 1 << 21,
    POLICY_DESCRIPTORS = 1 << 22,
};
#define POLICY_LAYERS 23

enum policy_need {
    POLICY_BASIC,    /* no service without it */
    POLICY_MAY_LACK, /* required, unless the operator named it (optional_layers) */
    POLICY_DEGRADES, /* its absence is told and no more; broken it is refused as the others */
};

struct policy_layer_word {
    enum policy_layer layer;
    const char *name;
    enum policy_need need;
    const char *remedy; /* kernel option, sysctl or what else it takes */
};
extern const struct policy_layer_word policy_layer_words[POLICY_LAYERS];
/* Of one bit; NULL: it is none. */
const struct policy_layer_word *policy_find_layer(uint32_t layer);

struct policy_plan {
    uint32_t magic, bpf_len; /* instructions */
    char name[POLICY_NAME_MAX + 1];
    char profile[POLICY_PATH_MAX]; /* seccomp: "default" or the file it came from */
    struct policy_limits limits;
    uint32_t landlock_abi; /* of the running kernel; 0: not there */
    uint32_t layers;       /* policy_layer bits that must be installed */
    uint32_t required;     /* those that it cannot do without, whatever is optional */
    uint32_t rights;       /* policy_right bits wanted; the ABI decides which are there */
    struct policy_ports bind_ports, connect_ports;
    struct policy_net net;
    uint32_t bind_count, env_count, env_bytes;
    struct policy_bind binds[POLICY_BINDS_MAX];
    char env[POLICY_ENV_BYTES];   /* env_count times NAME=VALUE\0 */
    uint64_t box;                 /* equal: a zygote made for the one will do for the other */
    uint64_t bpf[POLICY_BPF_MAX]; /* struct sock_filter, 8 bytes each */
};

/* Which namespaces a policy is for; the first that fits decides. */
struct policy_match {
    char pattern[72];         /* a namespace id; a * at its end stands for any rest */
    uint32_t policy, may_ask; /* index; bits of those that a request may choose instead */
};

/* All policies of a service, [0] is the default. One flat block, in a sealed memfd. */
struct policy_set {
    uint32_t magic, count, match_count, pad;
    struct policy_match matches[POLICY_MATCHES_MAX];
    struct policy_plan plans[POLICIES_MAX];
};

/* What the default policy is where the file does not say: from the settings. */
struct policy_base {
    struct policy_limits limits;
    struct policy_net net;
    uint32_t optional; /* layers that may be missing */
};

/* Reads the policy file (fd -1: there is none) and compiles all of it. `path` is for messages and
 * for profiles named relative to it. 0; or <0: err names file, line, policy, key and what was
 * expected, *ret is unusable. Uses libyaml, libseccomp, malloc; not after fork. */
int policy_load(const struct policy_base *base, const char *path, int fd, struct policy_set *ret,
                struct err *err);
/* Bytes of the block that are in use: all that is stored and mapped. */
size_t policy_set_bytes(const struct policy_set *set);
/* Is this block of len bytes what policy_load makes: counts, indices, text ends within bounds? For
 * those who get it from another process. */
bool policy_set_is_sound(const struct policy_set *set, size_t len);
/* The match for this namespace; NULL: none, the default policy and no other. */
const struct policy_match *policy_find_match(const struct policy_set *set, const char *ns_id);
/* Index of the policy of that name, or -1. */
int policy_find(const struct policy_set *set, const char *name);
/* May a run of this namespace have that policy? */
bool policy_may_have(const struct policy_set *set, uint32_t policy, const char *ns_id);
/* May a zygote with these limits serve it? */
bool policy_has_group(const struct policy_set *set, const struct policy_group *group,
                      const char *ns_id);
/* May a zygote with that box serve this namespace? */
bool policy_serves(const struct policy_set *set, uint64_t box, const char *ns_id);
/* The compiled form in words, one fact a line, NUL-terminated and cut to room. */
void policy_show(const struct policy_set *set, uint32_t policy, char *ret, size_t room);

/* Probes the kernel and compiles. `optional`: layers that may be missing. 0, or <0: err names the
 * layer and the remedy. Uses libseccomp; not after fork. */
int policy_compile(const struct policy_limits *limits, uint32_t optional, struct policy_plan *ret,
                   struct err *err);
/* An OCI seccomp profile as JSON to at most POLICY_BPF_MAX instructions. Refusals with EPERM are
 * SECCOMP_RET_USER_NOTIF there. <0: err names the place. Uses libseccomp; not after fork. */
int policy_seccomp_compile(const char *json, size_t bytes, uint64_t *ret_bpf, uint32_t *ret_len,
                           struct err *err);
/* The profile named "default": etc/seccomp/default.json as it was at build time. */
const char *policy_seccomp_default(size_t *ret_bytes);
/* Does the plan's filter refuse this call when all its arguments are `args`? */
bool policy_refuses(const struct policy_plan *plan, int nr, uint64_t args);
/* "mount"; "syscall_999" for one that has no name. */
void policy_syscall_name(uint32_t nr, char *ret, size_t room);
#define POLICY_SYSCALL_NAME_ROOM 32
/* "landlock,seccomp" -> bits; <0 with err for an unknown word, or a layer that is basic. */
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
 * each other only, as far as `rights` has it. Linux 6.12, ABI 6. */
int policy_landlock_scope(uint32_t rights);
#define POLICY_LANDLOCK_ABI_NET 4
#define POLICY_LANDLOCK_ABI_SCOPE 6
/* For a process of ours that only reads: no file may be written or executed, no TCP, no signal or
 * abstract socket to anyone outside, as far as the running kernel's ABI has it. */
int policy_landlock_read_only(void);
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
