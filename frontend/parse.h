/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/parse - the bodies of POST /execute, POST /v1/runs and POST /submit, from JSON of anyone
 * into a checked plain struct. */
#pragma once
#include "protocol/protocol.h"
struct lang_list;

/* From the engine's Hello. */
struct parse_limits {
    uint64_t cmd_bytes_max, env_bytes_max, timeout_ms_max, output_bytes_max;
    uint64_t memory_bytes_max, cpu_ms_max; /* of the key; 0: the engine knows */
    struct proto_run_limits v1;
    const struct lang_list *languages;
};

#define PARSE_FILE_ID_MAX 64u
struct parse_file {
    const char
        *id; /* 1-64 printable characters; whether there is such a file is another question */
};

struct parse_request {
    void *doc;         /* owns all texts; parse_fini */
    const char *ns_id; /* "": a fresh one (only with code, or in POST /v1/runs) */
    const char *cmd;   /* NUL-terminated, no NUL inside; NULL: there is code */
    size_t cmd_len;
    const char *language; /* its own name, in the list of the limits; NULL: there is cmd */
    bool compiles;
    const char *code; /* any bytes */
    size_t code_len;
    const char *args[PROTO_ARGS_MAX];
    size_t arg_count;
    struct parse_file files[PROTO_PLACES_MAX]; /* POST /v1/runs only */
    const char *places[PROTO_PLACES_MAX];      /* where each of them goes */
    size_t file_count;
    struct proto_env env[PROTO_ENV_COUNT_MAX];
    size_t env_count;
    const char *cwd;     /* "": home */
    const char *session; /* "": none */
    const char *input;   /* stdin; NULL: none given */
    size_t input_len;
    uint64_t timeout_ms;             /* 0: the engine's default */
    uint64_t cpu_ms;                 /* 0: none */
    uint64_t memory_bytes, pids_max; /* 0: as the policy says */
    uint32_t usual;                  /* enum proto_usual: those of them that nobody asked for */
    const char *policy;              /* "": the namespace's own */
    uint64_t output_bytes_max;
    uint64_t artifact_bytes_max, artifact_files_max; /* POST /v1/runs only */
    bool base64;
    const char *user;                   /* POST /submit only; "": none given */
    unsigned priority;                  /* the same */
    const char *callback_url;           /* the same; as it was given */
    bool detach, stdin_open, keeps_all; /* POST /v1/runs only */
};

#define PARSE_USER_CHARACTERS_MAX 128u
#define PARSE_PRIORITY_MAX 9u
#define PARSE_PRIORITY_USUAL 5u

struct parse_refusal {
    const char *code; /* of the API's error body */
    char text[300];   /* for people: names the field and the limit */
};

/* Once per process, while /dev/urandom can still be read: seeds the hash of object keys. */
void parse_init(void);
/* 0: *ret is filled, parse_fini it. -1: *ret_refusal says why; nothing to free. */
int parse_execute(const char *body, size_t len, const struct parse_limits *limits,
                  struct parse_request *ret, struct parse_refusal *ret_refusal);
/* The same for POST /v1/runs: its limits are all filled in. */
int parse_run(const char *body, size_t len, const struct parse_limits *limits,
              struct parse_request *ret, struct parse_refusal *ret_refusal);
/* The same for POST /submit: code in a language. */
int parse_job(const char *body, size_t len, const struct parse_limits *limits,
              struct parse_request *ret, struct parse_refusal *ret_refusal);
void parse_fini(struct parse_request *req);
