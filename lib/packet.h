/* SPDX-License-Identifier: Apache-2.0 */
/* lib/packet - one datagram of a SOCK_SEQPACKET Unix socket with descriptors beside it
 * (unix(7), SCM_RIGHTS). The kernel keeps boundaries; truncation of bytes is an error, never a
 * short message. Descriptors come all or none: none when this process has no room for them
 * (EMFILE), so a receiver compares their number with what the message says. They are close-on-exec.
 */
#pragma once
struct err;

#define PACKET_FDS_MAX 28

/* Sends all or nothing. 0; -EAGAIN when the peer's queue is full (non-blocking sockets);
 * another -errno when it failed. The descriptors stay the caller's. */
int packet_send(int sock, const void *bytes, size_t len, const int *fds, size_t nfds);
/* Receives one. >0: its length, *ret_nfds descriptors in fds (now the caller's, room for
 * PACKET_FDS_MAX). 0: the peer is gone. -EAGAIN: nothing there. Other <0: broken or truncated. */
ssize_t packet_recv(int sock, void *bytes, size_t room, int fds[PACKET_FDS_MAX], size_t *ret_nfds);
/* A connected pair, close-on-exec; `nonblock` concerns a[0] only. */
int packet_pair(int ret_pair[2], bool nonblock_first);
