/* SPDX-License-Identifier: Apache-2.0 */
/* protocol/frame - one message as one datagram: header, protobuf bytes, descriptors beside them.
 *
 * A message that is too long for a datagram travels as a sealed memfd, the last descriptor of the
 * frame (memfd_create(2), F_ADD_SEALS): once sealed its sender cannot change it while we decode.
 * Whatever is wrong with a frame, none of its descriptors stays open.
 */
#include "lib/arena.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/packet.h"
#include "protocol/internal.h"
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

_Static_assert(sizeof(struct frame_header) == 8, "the wire's header");
_Static_assert(FRAME_FDS_MAX <= PACKET_FDS_MAX, "room for descriptors");

static int send_frame(int sock, const char *bytes, size_t len, const int *fds, size_t nfds,
                      struct err *err)
{
    int r = packet_send(sock, bytes, len, fds, nfds);
    if (r < 0 && r != -EAGAIN) {
        errno = -r;
        return err_sys(err, "send a message");
    }
    return r;
}

static int send_memfd(int sock, struct frame_header head, const char *bytes, size_t len,
                      const int *fds, size_t nfds, struct err *err)
{
    int all[FRAME_FDS_MAX];
    auto_close int payload = -1;
    if (nfds >= FRAME_FDS_MAX)
        return err_set(err, "%zu descriptors beside a long message", nfds);
    payload = fd_memfd_sealed("brood-message", bytes, len);
    if (payload < 0)
        return err_sys(err, "memfd for a message of %zu bytes", len);
    for (size_t i = 0; i < nfds; i++)
        all[i] = fds[i];
    all[nfds] = payload;
    head.flags |= FRAME_FLAG_MEMFD;
    return send_frame(sock, (const char *)&head, sizeof head, all, nfds + 1, err);
}

int proto_send(int sock, const struct proto_msg *msg, const int *fds, size_t nfds, struct err *err)
{
    struct frame_header head = {.magic = {'b', 'r', 'd', '1'}, .type = (uint16_t)msg->type};
    _Alignas(16) char scratch[4096];
    char *bytes;
    ssize_t len = encode(msg, sizeof head, scratch, sizeof scratch, &bytes, err);
    if (len < 0)
        return (int)len;
    int r;
    if (len > (ssize_t)PROTO_INLINE_BYTES_MAX) {
        r = send_memfd(sock, head, bytes + sizeof head, (size_t)len, fds, nfds, err);
    } else {
        memcpy(bytes, &head, sizeof head);
        r = send_frame(sock, bytes, sizeof head + (size_t)len, fds, nfds, err);
    }
    if (bytes != scratch)
        free(bytes);
    return r;
}

static int bad(struct err *err, const char *text)
{
    (void)err_set(err, "%s", text);
    return err->code = -EPROTO;
}

static int decode_frame(const char *bytes, size_t len, int fds[], size_t *nfds, struct arena *arena,
                        struct proto_msg *ret, struct err *err)
{
    struct frame_header head;
    if (len < sizeof head)
        return bad(err, "frame shorter than its header");
    memcpy(&head, bytes, sizeof head);
    if (memcmp(head.magic, FRAME_MAGIC, sizeof head.magic) != 0)
        return bad(err, "frame without the magic brd1");
    if (head.flags & (uint16_t)~FRAME_FLAG_MEMFD)
        return bad(err, "frame with unknown flags");
    if (!(head.flags & FRAME_FLAG_MEMFD))
        return proto_decode((enum proto_type)head.type, bytes + sizeof head, len - sizeof head,
                            arena, ret, err);
    if (*nfds == 0 || len != sizeof head)
        return bad(err, "frame with a payload descriptor must carry it last, and no bytes");
    auto_close int payload = fds[--*nfds];
    const void *map;
    size_t map_len;
    if (fd_memfd_map(payload, PROTO_MESSAGE_BYTES_MAX, &map, &map_len, err) < 0)
        return err->code = -EPROTO;
    int r = proto_decode((enum proto_type)head.type, map, map_len, arena, ret, err);
    (void)munmap((void *)(uintptr_t)map, map_len);
    return r;
}

int proto_recv(int sock, struct arena *arena, struct proto_msg *ret, int fds[PROTO_FDS_MAX],
               size_t *ret_nfds, struct err *err)
{
    static _Thread_local char bytes[sizeof(struct frame_header) + PROTO_INLINE_BYTES_MAX];
    int got[PACKET_FDS_MAX];
    size_t nfds = 0;
    ssize_t n = packet_recv(sock, bytes, sizeof bytes, got, &nfds);
    *ret_nfds = 0;
    for (size_t i = 0; n == 0 && i < nfds; i++) /* an empty datagram looks like the end */
        fd_close(&got[i]);
    if (n == -EMSGSIZE)
        return bad(err, "frame longer than allowed");
    if (n < 0 && n != -EAGAIN) {
        errno = (int)-n;
        return err_sys(err, "receive a message");
    }
    if (n <= 0)
        return (int)n;
    int r = nfds > FRAME_FDS_MAX ? bad(err, "frame with too many descriptors")
                                 : decode_frame(bytes, (size_t)n, got, &nfds, arena, ret, err);
    if (r < 0) {
        for (size_t i = 0; i < nfds; i++)
            fd_close(&got[i]);
        return r;
    }
    memcpy(fds, got, nfds * sizeof *fds);
    *ret_nfds = nfds;
    return 1;
}

int proto_connect(const char *path, struct err *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof addr.sun_path)
        return err_set(err, "socket path %s is longer than %zu bytes", path,
                       sizeof addr.sun_path - 1);
    (void)snprintf(addr.sun_path, sizeof addr.sun_path, "%s", path);
    auto_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof addr) < 0)
        return err_sys(err, "connect to %s", path);
    return fd_take(&fd);
}
