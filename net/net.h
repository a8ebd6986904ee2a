/* SPDX-License-Identifier: Apache-2.0 */
/* net - the contract of priv with brood-netd, the process that owns the network of namespaces whose
 * policy is `egress`.
 *
 * One SOCK_SEQPACKET pair carries the fixed structs below in native byte order. The first packet is
 * NET_CONFIGURE; it may come again and replaces the rules as a whole, or leaves the old ones: which
 * number stands for what must not change while a link has it. Each
 * packet but NET_DETACH has one reply. The end of the conversation ends netd: it removes its links,
 * then its table. When netd dies instead, its rules stay in the kernel and go on to deny.
 */
#pragma once
#include "policy/policy.h"

#define NET_SOCK_FD 3 /* where netd finds the socket */
/* Networks at once: of each policy, and of those that a reload replaced while links have them
 * still. */
#define NET_POLICIES_MAX 32
#define NET_KEY_MAX 0xffffffu /* 24 bits */

enum net_verb { NET_CONFIGURE = 1, NET_ATTACH, NET_DETACH };

/* The first one comes with a file on which netd holds a lock (fcntl_locking(2), F_OFD) as long as
 * it lives: who follows a killed service waits for that one's netd to have cleaned up. */
struct net_config {
    uint32_t verb;
    uint32_t key; /* of this service, 1..NET_KEY_MAX: in all names, so that two coexist */
    uint32_t subnet, prefix; /* private addresses, two a slot */
    uint32_t slots;
    uint32_t is_fresh;           /* whatever is left of that key is an earlier service's */
    uint32_t manages_forwarding; /* may switch net.ipv4.ip_forward on */
    uint32_t log_format, log_level;
    uint32_t policies;
    struct policy_net policy[NET_POLICIES_MAX]; /* mode none: not in use */
};

struct net_order { /* NET_ATTACH: + the netns; NET_DETACH: its zygote is gone */
    uint32_t verb, slot;
    uint32_t policy; /* ATTACH: index into the configuration */
    uint32_t pad;
};

struct net_reply { /* ATTACH: + two files to read decimal numbers from: bytes received and sent by
                      the namespace */
    uint32_t verb, slot;
    int32_t error; /* 0 or negative; text says what */
    char text[200];
};

/* A slot's two addresses: the host's end and the namespace's. The first pair is left out, because
 * it begins with the subnet's own address. */
static inline uint32_t net_host_address(uint32_t subnet, uint32_t slot)
{
    return subnet + 2 * (slot + 1);
}
static inline uint32_t net_ns_address(uint32_t subnet, uint32_t slot)
{
    return net_host_address(subnet, slot) + 1;
}
/* How many slots such a subnet has room for. */
static inline uint32_t net_slots_max(uint32_t prefix)
{
    return (1u << (31 - prefix)) - 1;
}
