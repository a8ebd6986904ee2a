/* SPDX-License-Identifier: Apache-2.0 */
/* net/conns - conntrack's entries of one address, forgotten (ctnetlink; linux/netfilter/
 * nfnetlink_conntrack.h).
 *
 * In brood-netd. From Linux 6.11 the kernel forgets all of an address at a word; before that
 * (Debian 12 has 6.1) it can only list them by address (from 5.8) and be told of each. The list is
 * asked for again until it is empty, because it comes in no order and entries may be made while it
 * is read: by then nobody has the address, so there is an end to them.
 */
#include "lib/err.h"
#include "net/netd.h"
#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netlink/attr.h>
#include <netlink/errno.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>

#define ORIG_IP_SRC (1u << 0) /* CTA_FILTER_F_CTA_IP_SRC, not in the headers for programs */
#define TUPLE_BYTES 128
#define AT_ONCE 256
#define ROUNDS_MAX 256 /* 65,536 entries: more than the rules let an address have */

static const struct nfgenmsg of_ipv4 = {.nfgen_family = AF_INET, .version = 1};

static struct nl_msg *message(int type, int flags)
{
    struct nl_msg *msg = nlmsg_alloc_simple(NFNL_SUBSYS_CTNETLINK << 8 | type, flags);
    struct nfgenmsg head = of_ipv4;
    if (msg && nlmsg_append(msg, &head, sizeof head, NLMSG_ALIGNTO) == 0)
        return msg;
    nlmsg_free(msg);
    return NULL;
}

/* About every entry that this address began; NULL: out of memory. */
static struct nl_msg *about(uint32_t addr, int type, int flags)
{
    struct nl_msg *msg = message(type, flags);
    struct nlattr *tuple, *ip, *filter;
    if (msg && (tuple = nla_nest_start(msg, CTA_TUPLE_ORIG | NLA_F_NESTED)) &&
        (ip = nla_nest_start(msg, CTA_TUPLE_IP | NLA_F_NESTED)) &&
        nla_put_u32(msg, CTA_IP_V4_SRC, htonl(addr)) == 0 && nla_nest_end(msg, ip) == 0 &&
        nla_nest_end(msg, tuple) == 0 &&
        (filter = nla_nest_start(msg, CTA_FILTER | NLA_F_NESTED)) &&
        nla_put_u32(msg, 1 /* CTA_FILTER_ORIG_FLAGS */, ORIG_IP_SRC) == 0 &&
        nla_nest_end(msg, filter) == 0)
        return msg;
    nlmsg_free(msg);
    return NULL;
}

static struct list {
    size_t count;
    struct {
        int len;
        char bytes[TUPLE_BYTES];
    } tuple[AT_ONCE];
} list;

static int on_entry(struct nl_msg *msg, void *arg)
{
    const struct nlattr *tuple =
        nlmsg_find_attr(nlmsg_hdr(msg), sizeof(struct nfgenmsg), CTA_TUPLE_ORIG);
    (void)arg;
    if (!tuple || nla_len(tuple) > TUPLE_BYTES || list.count == AT_ONCE)
        return NL_OK;
    list.tuple[list.count].len = nla_len(tuple);
    memcpy(list.tuple[list.count++].bytes, nla_data(tuple), (size_t)nla_len(tuple));
    return NL_OK;
}

static int read_list(struct links *l, uint32_t addr)
{
    struct nl_cb *cb = nl_cb_alloc(NL_CB_DEFAULT);
    struct nl_msg *msg = about(addr, IPCTNL_MSG_CT_GET, NLM_F_DUMP);
    int r = l->conntrack ? 0 : links_connect(&l->conntrack, NETLINK_NETFILTER);
    list.count = 0;
    if (r >= 0)
        r = cb && msg ? SYS(nl_send_auto(l->conntrack, msg)) : -NLE_NOMEM;
    nlmsg_free(msg);
    if (r >= 0)
        r = nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, on_entry, NULL);
    if (r >= 0)
        r = SYS(nl_recvmsgs(l->conntrack, cb)); /* to the end of the dump */
    nl_cb_put(cb);
    if (r < 0) { /* what is left of the dump is not to be taken for the next answer */
        nl_socket_free(l->conntrack);
        l->conntrack = NULL;
    }
    return r;
}

static int forget_one(struct links *l, const void *tuple, int len)
{
    struct nl_msg *msg = message(IPCTNL_MSG_CT_DELETE, 0);
    if (msg && nla_put(msg, CTA_TUPLE_ORIG | NLA_F_NESTED, len, tuple) < 0) {
        nlmsg_free(msg);
        msg = NULL;
    }
    int r = links_ask(&l->conntrack, NETLINK_NETFILTER, msg);
    return r == -NLE_OBJ_NOTFOUND ? 0 : r; /* it ended by itself */
}

static int forget_each(struct links *l, uint32_t addr)
{
    int r = 0;
    for (int round = 0; r >= 0 && round < ROUNDS_MAX; round++) {
        r = read_list(l, addr);
        if (r >= 0 && list.count == 0)
            return 0;
        for (size_t i = 0; r >= 0 && i < list.count; i++)
            r = forget_one(l, list.tuple[i].bytes, list.tuple[i].len);
    }
    return r < 0 ? r : -NLE_BUSY;
}

int conns_forget(struct links *l, uint32_t addr, struct err *err)
{
    static bool one_by_one; /* so said this kernel */
    int r = -NLE_INVAL;
    if (!one_by_one)
        r = links_ask(&l->conntrack, NETLINK_NETFILTER, about(addr, IPCTNL_MSG_CT_DELETE, 0));
    if (r == -NLE_INVAL) {
        one_by_one = true;
        r = forget_each(l, addr);
    }
    return r < 0 && r != -NLE_OBJ_NOTFOUND ? err_set(err, "forget connections: %s", nl_geterror(r))
                                           : 0;
}
