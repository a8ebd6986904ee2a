/* SPDX-License-Identifier: Apache-2.0 */
/* protocol/wire - what the files that know the generated types share. Not for other folders. */
#pragma once
#include "protocol/brood.pb-c.h"
#include "protocol/internal.h"
struct arena;
struct err;

/* encode.c ------------------------------------------------------------------------------------- */

#define WIRE_TEXT(s) ((char *)(uintptr_t)((s) ? (s) : ""))

ProtobufCBinaryData wire_bytes(const char *text, size_t len);
/* The end of each encoder: see encode() in internal.h. */
ssize_t wire_pack(const ProtobufCMessage *m, size_t head, char *scratch, size_t room, char **ret,
                  struct err *err);

/* decode.c ------------------------------------------------------------------------------------- */

/* Refuses the message. Returns -EPROTO. */
int wire_bad(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* A copy with its NUL; NULL: the arena is exhausted, which proto_decode sees. */
const char *wire_text(const ProtobufCBinaryData *b, struct arena *arena);
int wire_check_ns_id(const char *id, struct err *err);
int wire_check_session(const char *name, uint32_t companion, struct err *err);

/* run.c, hello.c: one message each way -----------------------------------------------------------
 */

typedef ssize_t wire_encoder(const struct proto_msg *msg, size_t head, char *scratch, size_t room,
                             char **ret, struct err *err);
wire_encoder wire_encode_execute, wire_encode_result, wire_encode_hello;
int wire_take_execute(const Brood__Wire__Execute *m, struct arena *arena, struct proto_msg *ret,
                      struct err *err);
int wire_take_result(const Brood__Wire__Result *m, struct proto_msg *ret, struct err *err);
int wire_take_hello(const Brood__Wire__Hello *m, struct arena *arena, struct proto_msg *ret,
                    struct err *err);
