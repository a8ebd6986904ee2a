/* SPDX-License-Identifier: Apache-2.0 */
/* net/netd - what the files of brood-netd share. Not for other folders (net.h is). */
#pragma once
#include "lib/buf.h"
#include "net/net.h"
struct err;
struct nl_msg;
struct nl_sock;

#define NETD_NAME_MAX 16 /* IFNAMSIZ */

/* ---- rules.c: numbers to text, nothing else ----------------------------------------------------
 */

struct rules_plan {
    const struct net_config *config;
    uint32_t connections_max; /* of one namespace, at once */
    bool guards_forwarding;   /* forwarding is on for us only: others' is dropped as before */
};
/* The whole table as one transaction of nft(8) that replaces whatever there is of this key. */
bool rules_write(const struct rules_plan *plan, struct buf *to);
/* "brood_0a1b2c", the table; "brd0a1b2c-7", the host's end of a slot. */
void rules_table_name(uint32_t key, char to[NETD_NAME_MAX]);
void rules_link_name(uint32_t key, uint32_t slot, char to[NETD_NAME_MAX]);
/* The device group that says whose a link is and which policy it has. */
uint32_t rules_group(uint32_t key, uint32_t policy);

/* ---- filter.c: the table in the kernel, through libnftables -------------------------------------
 */

/* Once, before this process gives up writing files. */
int filter_open(struct err *err);
/* Loads the rules of a configuration, in one step. <0: the old ones are still there. */
int filter_load(const struct net_config *config, struct err *err);
/* Removes the table and what was switched on for it. */
void filter_remove(const struct net_config *config);

/* Tells of tables that others remove: a socket to poll; <0: err. */
int filter_watch(struct nl_sock **ret, struct err *err);
/* Reads what it tells. True: our table is gone. */
bool filter_is_lost(struct nl_sock *watch, const struct net_config *config);

/* ---- links.c: veth pairs, addresses, by rtnetlink ----------------------------------
 */

struct links {
    struct nl_sock *route, *conntrack;
};
/* A conversation with the kernel; <0: a code of libnl. */
int links_connect(struct nl_sock **ret, int protocol);
/* Sends, frees and waits for the kernel's word: 0 or a negative code of libnl. */
int links_ask(struct nl_sock **sock, int protocol, struct nl_msg *msg);
int links_open(struct links *l, struct err *err);
/* Removes every link of that key, attached or not. */
int links_remove_all(struct links *l, uint32_t key, struct err *err);
/* Is no route to a part of that subnet there? <0: err names it. */
int links_check_subnet(struct links *l, uint32_t subnet, uint32_t prefix, struct err *err);
/* Makes the slot's pair with its other end in that netns, and opens the host's counters of it. */
int links_attach(struct links *l, const struct net_config *config, const struct net_order *order,
                 int netns, int ret_counters[2], struct err *err);
/* Removes the slot's pair, if it is still there, and forgets its connections. A netns outlives its
 * last process while a connection in it waits for its peer's word (tcp(7), tcp_orphan_retries), and
 * its link would with it. */
int links_detach(struct links *l, const struct net_config *config, uint32_t slot, struct err *err);

/* ---- conns.c: conntrack's entries ---------------------------------------------------------------
 */

/* Forgets the connections of a slot's address: the next who gets it must not hear of them. */
int conns_forget(struct links *l, uint32_t addr, struct err *err);
