/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/parse - the body of POST /execute, from JSON of anyone into a checked plain struct. */
#pragma once
#include "protocol/protocol.h"

/* From the engine's Hello. */
struct parse_limits {
    uint64_t cmd_bytes_max, env_bytes_max, timeout_ms_max, output_bytes_max;
};

struct parse_request {
    void *doc; /* owns all texts; parse_fini */
    const char *ns_id;
    const char *cmd; /* NUL-terminated, no NUL inside */
    size_t cmd_len;
    struct proto_env env[PROTO_ENV_COUNT_MAX];
    size_t env_count;
    const char *cwd;   /* "": home */
    const char *input; /* stdin; NULL: none given */
    size_t input_len;
    uint64_t timeout_ms;             /* 0: the engine's default */
    uint64_t cpu_ms;                 /* 0: none */
    uint64_t memory_bytes, pids_max; /* 0: as the policy says */
    const char *policy;              /* "": the namespace's own */
    uint64_t output_bytes_max;
    bool base64;
};

struct parse_refusal {
    const char *code; /* of the API's error body */
    char text[300];   /* for people: names the field and the limit */
};

/* Once per process, while /dev/urandom can still be read: seeds the hash of object keys. */
void parse_init(void);
/* 0: *ret is filled, parse_fini it. -1: *ret_refusal says why; nothing to free. */
int parse_execute(const char *body, size_t len, const struct parse_limits *limits,
                  struct parse_request *ret, struct parse_refusal *ret_refusal);
void parse_fini(struct parse_request *req);
