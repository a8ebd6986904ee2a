/* SPDX-License-Identifier: Apache-2.0 */
/* t/fuzz/frame - any datagram with any descriptors at a receiver's door. The first byte says what
 * comes beside it: low half, how many descriptors; high half, what the last of them is. With a
 * memfd the frame is the next 8 bytes and the rest the memfd's. Whatever comes, nothing stays open.
 */
#include "lib/arena.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/packet.h"
#include "protocol/protocol.h"
#include <assert.h>
#include <fcntl.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum last { LAST_NULL, LAST_SEALED, LAST_UNSEALED, LAST_SHRINKABLE, LAST_KINDS };

static char storage[PROTO_ARENA_BYTES] __attribute__((aligned(16)));

static int make_last(enum last kind, const uint8_t *bytes, size_t len)
{
    if (kind == LAST_NULL)
        return open("/dev/null", O_RDWR | O_CLOEXEC);
    if (kind == LAST_SEALED)
        return fd_memfd_sealed("fuzz", bytes, len);
    int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd >= 0 && fd_write_all(fd, bytes, len) < 0)
        abort();
    if (fd >= 0 && kind == LAST_SHRINKABLE)
        (void)fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_WRITE);
    return fd;
}

/* Descriptors are handed out lowest first: one left behind raises this. */
static int lowest_free(void)
{
    int fd = dup(0);
    if (fd >= 0)
        (void)close(fd);
    return fd;
}

static void receive(int sock)
{
    struct arena arena;
    struct proto_msg msg;
    struct err err = {0};
    int got[PROTO_FDS_MAX];
    size_t ngot = 99;
    arena_init(&arena, storage, sizeof storage);
    int r = proto_recv(sock, &arena, &msg, got, &ngot, &err);
    assert(r == 1 || r == 0 || (r == -EPROTO && err.text[0]));
    assert(ngot <= ARRAY_LEN(got) && (r == 1 || ngot == 0));
    for (size_t i = 0; i < ngot; i++) {
        assert(fcntl(got[i], F_GETFD) & FD_CLOEXEC);
        fd_close(&got[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int pair[2] = {-1, -1};
    int fds[PACKET_FDS_MAX];
    if (pair[0] < 0 && packet_pair(pair, false) < 0)
        abort();
    if (size == 0)
        return 0;
    enum last kind = (enum last)((data[0] >> 4) % LAST_KINDS);
    size_t nfds = data[0] & 15;
    nfds = nfds > PACKET_FDS_MAX ? PACKET_FDS_MAX : nfds;
    data++;
    size--;
    size_t frame = kind != LAST_NULL && nfds > 0 && size > 8 ? 8 : size;
    int before = lowest_free();
    for (size_t i = 0; i < nfds; i++) {
        fds[i] = make_last(i + 1 == nfds ? kind : LAST_NULL, data + frame, size - frame);
        if (fds[i] < 0)
            abort();
    }
    int r = packet_send(pair[0], data, frame, fds, nfds);
    for (size_t i = 0; i < nfds; i++)
        fd_close(&fds[i]);
    if (r == 0)
        receive(pair[1]);
    assert(lowest_free() == before);
    return 0;
}
