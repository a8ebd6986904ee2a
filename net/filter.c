/* SPDX-License-Identifier: Apache-2.0 */
/* net/filter - puts the table of net/rules into the kernel and takes it out, through libnftables
 * (libnftables(3)), and sees that the host forwards.
 *
 * In brood-netd, with CAP_NET_ADMIN. A load is one transaction: the new table or the old one, never
 * none. Forwarding is the host's: it is switched on only when the operator allowed it, then for our
 * links only (the chain "guard" drops everybody else's, who could not forward before either), and
 * switched off at the end. A "guard" of an earlier service tells that it was that one's doing.
 *
 * `nft flush ruleset`, with which /etc/nftables.conf usually begins, takes our table along: the
 * kernel tells, and it is loaded again.
 */
#include "lib/err.h"
#include "lib/fd.h"
#include "net/netd.h"
#include <fcntl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netlink/attr.h>
#include <netlink/errno.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <nftables/libnftables.h>

#define RULES_BYTES_MAX (1u << 20)
#define CONNECTIONS_MIN 128u
#define CONNECTIONS_MAX 1024u
#define CONNTRACK_USUAL 65536u

static bool guards; /* forwarding is on for our sake; asked of the kernel when netd starts */
static int forward_fd = -1;
static const char forward_path[] = "/proc/sys/net/ipv4/ip_forward";

static uint64_t read_number(const char *path, uint64_t otherwise)
{
    char text[24];
    auto_close int fd = SYS(open(path, O_RDONLY | O_CLOEXEC));
    ssize_t n = fd < 0 ? -1 : SYS(read(fd, text, sizeof text - 1));
    if (n <= 0)
        return otherwise;
    text[n] = 0;
    return strtoull(text, NULL, 10);
}

int filter_open(struct err *err)
{
    forward_fd = SYS(open(forward_path, O_RDWR | O_CLOEXEC));
    return forward_fd < 0 ? err_sys(err, "open %s", forward_path) : 0;
}

static bool forwards(void)
{
    char text[2] = "";
    return SYS(pread(forward_fd, text, 1, 0)) == 1 && *text != '0';
}

static int write_forwarding(const char *value)
{
    return SYS(pwrite(forward_fd, value, 1, 0)) != 1 ? -errno : 0;
}

/* Runs commands of nft(8); the kernel's or the parser's complaint in err. */
static int run(const char *commands, struct err *err)
{
    struct nft_ctx *ctx = nft_ctx_new(NFT_CTX_DEFAULT);
    int r = 0;
    if (!ctx)
        return err_set(err, "nftables: out of memory");
    (void)nft_ctx_buffer_output(ctx);
    (void)nft_ctx_buffer_error(ctx);
    if (SYS(nft_run_cmd_from_buffer(ctx, commands)) != 0) {
        const char *text = nft_ctx_get_error_buffer(ctx);
        r = err_set(err, "nftables: %.150s", text && *text ? text : "refused without a reason");
        err->text[strcspn(err->text, "\n")] = 0;
    }
    nft_ctx_free(ctx);
    return r;
}

static bool has_chain(uint32_t key, const char *chain)
{
    char table[NETD_NAME_MAX], command[64];
    struct err err;
    rules_table_name(key, table);
    (void)snprintf(command, sizeof command, "list chain inet %s %.16s", table, chain);
    return run(command, &err) == 0;
}

/* Then an earlier service switched forwarding on. */
static bool has_guard(uint32_t key)
{
    return has_chain(key, "guard");
}

/* Half of the host's table for all of us together, within what one program may reasonably want. */
static uint32_t connections_of(uint32_t slots)
{
    uint64_t max = read_number("/proc/sys/net/netfilter/nf_conntrack_max", CONNTRACK_USUAL);
    uint64_t share = max / 2 / (slots ? slots : 1);
    return share < CONNECTIONS_MIN   ? CONNECTIONS_MIN
           : share > CONNECTIONS_MAX ? CONNECTIONS_MAX
                                     : (uint32_t)share;
}

int filter_load(const struct net_config *config, struct err *err)
{
    struct buf text = {.cap = RULES_BYTES_MAX};
    bool is_on = forwards();
    if (!is_on && !config->manages_forwarding)
        return err_set(err, "this host does not forward: set net.ipv4.ip_forward=1 (sysctl(8)), or "
                            "network.manage_forwarding: true");
    struct rules_plan plan = {.config = config,
                              .connections_max = connections_of(config->slots),
                              .guards_forwarding = !is_on || guards || has_guard(config->key)};
    bool complete = rules_write(&plan, &text) && buf_add(&text, "", 1);
    int r = complete ? run(text.data, err) : err_set(err, "nftables: too many rules");
    buf_fini(&text);
    if (r == 0)
        guards = plan.guards_forwarding;
    /* The guard first. */
    if (r == 0 && !is_on && (r = write_forwarding("1")) < 0) {
        errno = -r;
        r = err_sys(err, "switch forwarding on (%s)", forward_path);
    }
    return r;
}

void filter_remove(const struct net_config *config)
{
    char table[NETD_NAME_MAX], commands[96];
    struct err err;
    if (guards)
        (void)write_forwarding("0");
    rules_table_name(config->key, table);
    (void)snprintf(commands, sizeof commands, "add table inet %s\ndelete table inet %s\n", table,
                   table);
    (void)run(commands, &err);
}

/* ---- what others do to it ----------------------------------------------------------------------
 */

static int on_event(struct nl_msg *msg, void *arg)
{
    struct nlmsghdr *head = nlmsg_hdr(msg);
    if (head->nlmsg_type == (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELTABLE))
        *(bool *)arg = true;
    return NL_OK;
}

int filter_watch(struct nl_sock **ret, struct err *err)
{
    struct nl_sock *watch = nl_socket_alloc();
    int r = watch ? SYS(nl_connect(watch, NETLINK_NETFILTER)) : -NLE_NOMEM;
    if (r >= 0)
        r = SYS(nl_socket_add_memberships(watch, NFNLGRP_NFTABLES, NFNLGRP_NONE));
    if (r >= 0)
        r = SYS(nl_socket_set_nonblocking(watch));
    if (r < 0) {
        nl_socket_free(watch);
        return err_set(err, "watch nftables: %s", nl_geterror(r));
    }
    nl_socket_disable_seq_check(watch);
    *ret = watch;
    return 0;
}

bool filter_is_lost(struct nl_sock *watch, const struct net_config *config)
{
    bool any_gone = false;
    int r = nl_socket_modify_cb(watch, NL_CB_VALID, NL_CB_CUSTOM, on_event, &any_gone);
    while (r >= 0)
        r = SYS(nl_recvmsgs_default(watch));
    any_gone |= r != -NLE_AGAIN; /* more was told than fits */
    return any_gone && config->verb != 0 && !has_chain(config->key, "from_ns");
}
