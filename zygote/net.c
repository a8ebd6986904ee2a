/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/net - brings up `lo` of the zygote's own netns and, where the policy has a network, the
 * end of a link that brood-netd puts there, through libnl (rtnetlink(7)).
 *
 * Runs in a spare, as root of its userns, before it gives CAP_NET_ADMIN up: a run can change
 * nothing of it. What may pass is decided on the host's side, so nothing here is a protection.
 */
#include "zygote/zyg.h"
#include <arpa/inet.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/attr.h>
#include <netlink/errno.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>

#define LOOPBACK_INDEX 1 /* the first device of every netns */

static int send_link_up(struct nl_sock *sock, int index)
{
    struct ifinfomsg link = {
        .ifi_family = AF_UNSPEC, .ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    /* Answered with an acknowledgement, which nl_send_simple asks for and nl_wait_for_ack reads. */
    int r = SYS(nl_send_simple(sock, RTM_NEWLINK, 0, &link, sizeof link));
    return r < 0 ? r : SYS(nl_wait_for_ack(sock));
}

int zyg_loopback_up(void)
{
    struct nl_sock *sock = nl_socket_alloc();
    if (!sock)
        return -ENOMEM;
    int r = SYS(nl_connect(sock, NETLINK_ROUTE));
    if (r >= 0)
        r = send_link_up(sock, LOOPBACK_INDEX);
    nl_socket_free(sock);
    return r < 0 ? -EIO : 0;
}

/* Waits until the kernel tells of a device. The engine says nothing to a zygote in this state: when
 * there is something on `ctl`, it is its end, and perhaps nobody else knows of this process. */
static int await_news(struct nl_sock *news, int ctl)
{
    struct pollfd p[] = {{.fd = nl_socket_get_fd(news), .events = POLLIN},
                         {.fd = ctl, .events = POLLIN}};
    if (SYS(poll(p, ARRAY_LEN(p), -1)) < 0 && errno != EINTR)
        return -NLE_FAILURE;
    if (p[1].revents)
        return -NLE_INTR;
    return p[0].revents ? SYS(nl_recvmsgs_default(news)) : 0;
}

/* The device's index, as soon as it is there; <0: a code of libnl. For how long this may take is
 * the engine's to say. */
static int await_device(int ctl)
{
    struct nl_sock *news = nl_socket_alloc();
    if (!news)
        return -NLE_NOMEM;
    nl_join_groups(news, RTMGRP_LINK); /* before the first look, or it could come in between */
    nl_socket_disable_seq_check(news);
    int r = SYS(nl_connect(news, NETLINK_ROUTE)), index = 0;
    while (r >= 0 && (index = (int)if_nametoindex(POLICY_NET_DEVICE)) == 0)
        r = await_news(news, ctl);
    nl_socket_free(news);
    return r < 0 ? r : index;
}

static int finish(struct nl_sock *sock, struct nl_msg *msg, bool complete)
{
    int r = complete ? SYS(nl_send_auto(sock, msg)) : -NLE_NOMEM;
    nlmsg_free(msg);
    return r < 0 ? r : SYS(nl_wait_for_ack(sock));
}

/* No IPv6 address of the kernel's own making: what it is for is dropped outside anyway. */
static int refuse_ipv6(struct nl_sock *sock, int index)
{
    struct nl_msg *msg = nlmsg_alloc_simple(RTM_NEWLINK, 0);
    struct ifinfomsg link = {.ifi_family = AF_UNSPEC, .ifi_index = index};
    struct nlattr *spec = NULL, *family = NULL;
    bool ok = msg && nlmsg_append(msg, &link, sizeof link, NLMSG_ALIGNTO) == 0 &&
              (spec = nla_nest_start(msg, IFLA_AF_SPEC)) &&
              (family = nla_nest_start(msg, AF_INET6)) &&
              nla_put_u8(msg, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE) == 0 &&
              nla_nest_end(msg, family) == 0 && nla_nest_end(msg, spec) == 0;
    int r = finish(sock, msg, ok);
    return r == -NLE_AF_NOSUPPORT || r == -NLE_OPNOTSUPP ? 0 : r; /* a kernel without IPv6 */
}

static int add_address(struct nl_sock *sock, int index, uint32_t address)
{
    struct nl_msg *msg = nlmsg_alloc_simple(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
    struct ifaddrmsg what = {
        .ifa_family = AF_INET, .ifa_prefixlen = 31, .ifa_index = (unsigned)index};
    bool ok = msg && nlmsg_append(msg, &what, sizeof what, NLMSG_ALIGNTO) == 0 &&
              nla_put_u32(msg, IFA_LOCAL, htonl(address)) == 0 &&
              nla_put_u32(msg, IFA_ADDRESS, htonl(address)) == 0;
    return finish(sock, msg, ok);
}

static int add_route(struct nl_sock *sock, uint32_t gateway)
{
    struct nl_msg *msg = nlmsg_alloc_simple(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL);
    struct rtmsg what = {.rtm_family = AF_INET,
                         .rtm_table = RT_TABLE_MAIN,
                         .rtm_protocol = RTPROT_STATIC,
                         .rtm_scope = RT_SCOPE_UNIVERSE,
                         .rtm_type = RTN_UNICAST};
    bool ok = msg && nlmsg_append(msg, &what, sizeof what, NLMSG_ALIGNTO) == 0 &&
              nla_put_u32(msg, RTA_GATEWAY, htonl(gateway)) == 0;
    return finish(sock, msg, ok);
}

int zyg_egress_up(uint32_t address, uint32_t gateway, int ctl)
{
    struct nl_sock *sock = nl_socket_alloc();
    int index = -1;
    if (!sock)
        return -ENOMEM;
    int r = SYS(nl_connect(sock, NETLINK_ROUTE));
    if (r >= 0)
        r = index = await_device(ctl);
    if (r >= 0)
        r = refuse_ipv6(sock, index);
    if (r >= 0)
        r = add_address(sock, index, address);
    if (r >= 0)
        r = send_link_up(sock, index);
    if (r >= 0)
        r = add_route(sock, gateway);
    nl_socket_free(sock);
    return r < 0 ? -EIO : 0;
}
