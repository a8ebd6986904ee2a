/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/answer - the JSON of a finished run, and of an error, as API.md has them. */
#pragma once
#include "frontend/output.h"
#include "protocol/protocol.h"
struct http_request;
struct http_text;

struct answer_part {
    enum { ANSWER_RAW, ANSWER_TEXT, ANSWER_BASE64 } kind;
    const char *at;
    size_t len;
};

#define ANSWER_PARTS_MAX 10
/* Room for the facts of a run, and for one of its stages, as answer_put_* write them. */
#define ANSWER_FACTS_ROOM (768 + PROTO_DENIED_MAX * (PROTO_SYSCALL_ROOM + 3))
#define ANSWER_STAGE_ROOM 320

/* A position in the document; borrows the outputs and holds the facts as text. */
struct answer {
    struct answer_part parts[ANSWER_PARTS_MAX];
    size_t part_count;
    size_t part, pos;
    char head[64];
    char facts[ANSWER_FACTS_ROOM + 2 * ANSWER_STAGE_ROOM];
    char tail[ANSWER_STAGE_ROOM + 16];
};

void answer_init(struct answer *a, const struct proto_result *result, const struct output out[2],
                 bool base64);
/* Of a call of that session. */
void answer_init_session(struct answer *a, const struct proto_result *result,
                         const struct output out[2], bool base64, const char *session);
/* Of a program; four outputs where it was compiled. Facts and what is shown as stdout and stderr
 * are those of its last stage; the compiler's are in its stage as well. */
void answer_init_code(struct answer *a, const struct proto_result *result, const struct output *out,
                      bool compiled, bool base64);
/* Of pieces of JSON that the caller keeps. */
void answer_init_raw(struct answer *a, const char *const *texts, const size_t *lens, size_t count);
/* Back to the beginning. */
void answer_rewind(struct answer *a);
/* http_fill: the next bytes of the document. */
size_t answer_fill(void *answer, char *at, size_t room, bool *ret_last);

/* `"exit_code":0, ... ,"denied":[]` */
void answer_put_facts(char *to, size_t room, const struct proto_result *r,
                      const struct output *std_out, const struct output *std_err);
/* `"name":"run", ... ,"max_rss_kb":4` of one stage */
void answer_put_stage(char *to, size_t room, const struct proto_stage *s);
/* Did only the compiler run, of a program that is compiled? Then its outputs are the run's. */
bool answer_is_of_compiler(const struct proto_result *r);

/* Error answers. retry_after_ms 0: no Retry-After. `allow` NULL: no Allow header. */
struct answer_error {
    int status;
    const char *code;
    uint64_t retry_after_ms;
    const char *allow;
};
/* The body of an error as the routes of this path have it; its length, less than room (100 at
 * least): a message that does not fit is cut. */
size_t answer_put_error(struct http_text path, const char *code, const char *message, char *to,
                        size_t room);
void answer_error(struct http_request *req, const struct answer_error *e, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
