/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/answer - the JSON of a finished run, and of an error, as API.md has them. */
#pragma once
#include "frontend/output.h"
#include "protocol/protocol.h"
struct http_request;

struct answer_part {
    enum { ANSWER_RAW, ANSWER_TEXT, ANSWER_BASE64 } kind;
    const char *at;
    size_t len;
};

/* A position in the document; borrows the outputs and holds the facts as text. */
struct answer {
    struct answer_part parts[5];
    size_t part, pos;
    char facts[768 + PROTO_DENIED_MAX * (PROTO_SYSCALL_ROOM + 3)];
};

void answer_init(struct answer *a, const struct proto_result *result, const struct output out[2],
                 bool base64);
/* Back to the beginning. */
void answer_rewind(struct answer *a);
/* http_fill: the next bytes of the document. */
size_t answer_fill(void *answer, char *at, size_t room, bool *ret_last);

/* Error answers. retry_after_ms 0: no Retry-After. `allow` NULL: no Allow header. */
struct answer_error {
    int status;
    const char *code;
    uint64_t retry_after_ms;
    const char *allow;
};
void answer_error(struct http_request *req, const struct answer_error *e, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
