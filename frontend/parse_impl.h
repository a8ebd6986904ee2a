/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/parse_impl - what the parse*.c files share; nobody else includes this. */
#pragma once
#include "frontend/parse.h"
#include <jansson.h>

#define MEMORY_MB_MIN 16u /* below, no bash would start: as the settings have it */

struct reader {
    const struct parse_limits *limits;
    struct parse_request *to;
    struct parse_refusal *refusal;
    enum parse_route {
        PARSE_EXECUTE = 1,
        PARSE_V1 = 2,
        PARSE_JOB = 4
    } route; /* POST /execute ... */
};

/* Always -1. */
int parse_refuse(struct parse_refusal *r, const char *code, const char *fmt, ...) PRINTF_LIKE(3, 4);
#define BAD(rd, ...) parse_refuse((rd)->refusal, "bad_request", __VA_ARGS__)
bool parse_has_nul(json_t *v);
/* The document, the caller's to decref; NULL with the refusal. */
json_t *parse_load(const char *body, size_t len, struct parse_refusal *refusal);

/* parse_work.c: readers of one field each. 0, or -1 with the refusal. */
int parse_language(struct reader *rd, json_t *v);
int parse_code(struct reader *rd, json_t *v);
int parse_args(struct reader *rd, json_t *v);
int parse_files(struct reader *rd, json_t *v);
int parse_detach(struct reader *rd, json_t *v);
int parse_stdin_open(struct reader *rd, json_t *v);
int parse_stream(struct reader *rd, json_t *v);
int parse_v1_limits(struct reader *rd, json_t *v);
void parse_v1_defaults(struct reader *rd);
int parse_user_id(struct reader *rd, json_t *v);
int parse_priority(struct reader *rd, json_t *v);
int parse_callback_url(struct reader *rd, json_t *v);
