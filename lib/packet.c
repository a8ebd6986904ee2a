/* SPDX-License-Identifier: Apache-2.0 */
/* lib/packet - see packet.h. Async-signal-safe. */
#include "lib/packet.h"
#include "lib/fd.h"
#include <sys/socket.h>

union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * PACKET_FDS_MAX)];
};

int packet_send(int sock, const void *bytes, size_t len, const int *fds, size_t nfds)
{
    union control control;
    struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (nfds > PACKET_FDS_MAX)
        return -EINVAL;
    if (nfds > 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        *c = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int) * nfds),
                              .cmsg_level = SOL_SOCKET,
                              .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(c), fds, sizeof(int) * nfds);
    }
    ssize_t n;
    do
        n = SYS(sendmsg(sock, &msg, MSG_NOSIGNAL));
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    return (size_t)n == len ? 0 : -EIO;
}

static size_t take_fds(struct msghdr *msg, int fds[PACKET_FDS_MAX])
{
    size_t total = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds + total, CMSG_DATA(c), n * sizeof(int));
        total += n;
    }
    return total;
}

ssize_t packet_recv(int sock, void *bytes, size_t room, int fds[PACKET_FDS_MAX], size_t *ret_nfds)
{
    union control control;
    struct iovec iov = {.iov_base = bytes, .iov_len = room};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof control.bytes};
    ssize_t n;
    *ret_nfds = 0;
    do
        n = SYS(recvmsg(sock, &msg, MSG_CMSG_CLOEXEC));
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    size_t nfds = take_fds(&msg, fds);
    /* An empty datagram may carry some, too; and what did not fit our table comes in part. */
    if (n == 0 || msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
        while (nfds > 0)
            fd_close(&fds[--nfds]);
    if (msg.msg_flags & MSG_TRUNC)
        return -EMSGSIZE;
    *ret_nfds = nfds;
    return n;
}

int packet_pair(int ret_pair[2], bool nonblock_first)
{
    int pair[2];
    if (SYS(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) < 0)
        return -errno;
    if (nonblock_first && fd_set_nonblock(pair[0]) < 0) {
        int saved = errno;
        fd_close(&pair[0]);
        fd_close(&pair[1]);
        return -saved;
    }
    ret_pair[0] = pair[0];
    ret_pair[1] = pair[1];
    return 0;
}
