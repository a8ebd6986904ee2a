/* SPDX-License-Identifier: Apache-2.0 */
/* protocol/internal - what encode.c and frame.c share. Not for other folders. */
#pragma once
#include "protocol/protocol.h"
#include <stdint.h>

#define FRAME_MAGIC "brd1"
#define FRAME_FLAG_MEMFD 1u
#define FRAME_FDS_MAX PROTO_FDS_MAX

struct frame_header {
    char magic[4];
    uint16_t type, flags; /* little-endian, like all hosts this runs on */
};

/* Packs msg behind `head` bytes of free room. The buffer is scratch of `room` bytes if that is
 * enough, otherwise malloc'ed (then *ret != scratch, to be freed). >=0: bytes packed; <0 with err.
 */
ssize_t encode(const struct proto_msg *msg, size_t head, char *scratch, size_t room, char **ret,
               struct err *err);
