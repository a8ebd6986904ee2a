/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/ws_frames - what the client of a WebSocket sends (RFC 6455, 5), piece by piece. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define WS_TEXT_MAX 1024u         /* of a text message */
#define WS_MESSAGE_MAX (1u << 20) /* of a binary one */
#define WS_CONTROL_MAX 125u

enum ws_found {
    WS_NOTHING, /* more bytes are needed */
    WS_BYTES,   /* some of a binary message; where one ends is not told */
    WS_TEXT,    /* a whole text message: UTF-8, with a NUL behind it */
    WS_PING,
    WS_PONG,
    WS_CLOSE,  /* code: the client's, 0: none */
    WS_BROKEN, /* code and reason: why the connection is to be closed; nothing more has a meaning */
};

struct ws_piece {
    const void *at; /* valid until the next call */
    size_t len;
    unsigned code;
    const char *reason;
};

struct ws_reader {
    struct wslay_frame_context *frames;
    ssize_t (*receive)(void *data, void *to, size_t room);
    void *data;
    bool in_frame, final;
    uint8_t opcode, message; /* message: the opcode of the one that is open; 0: none is */
    uint64_t frame_left, message_bytes;
    size_t control_len, text_len;
    uint8_t control[WS_CONTROL_MAX];
    char text[WS_TEXT_MAX + 1];
};

/* receive: up to `room` bytes; <= 0: there are none now. 0 or -ENOMEM. */
int ws_reader_init(struct ws_reader *r, ssize_t (*receive)(void *data, void *to, size_t room),
                   void *data);
void ws_reader_fini(struct ws_reader *r);
enum ws_found ws_reader_next(struct ws_reader *r, struct ws_piece *ret);
