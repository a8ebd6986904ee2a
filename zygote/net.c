/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/net - brings `lo` of the zygote's own netns up, through libnl (rtnetlink(7)). */
#include "zygote/zyg.h"
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>

#define LOOPBACK_INDEX 1 /* the first device of every netns */

static int send_link_up(struct nl_sock *sock)
{
    struct ifinfomsg link = {.ifi_family = AF_UNSPEC,
                             .ifi_index = LOOPBACK_INDEX,
                             .ifi_flags = IFF_UP,
                             .ifi_change = IFF_UP};
    /* Answered with an acknowledgement, which nl_send_simple asks for and nl_wait_for_ack reads. */
    int r = nl_send_simple(sock, RTM_NEWLINK, 0, &link, sizeof link);
    return r < 0 ? r : nl_wait_for_ack(sock);
}

int zyg_loopback_up(void)
{
    struct nl_sock *sock = nl_socket_alloc();
    if (!sock)
        return -ENOMEM;
    int r = nl_connect(sock, NETLINK_ROUTE);
    if (r >= 0)
        r = send_link_up(sock);
    nl_socket_free(sock);
    return r < 0 ? -EIO : 0;
}
