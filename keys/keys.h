/* SPDX-License-Identifier: Apache-2.0 */
/* keys - who may ask for what: bearer tokens, their scopes, ceilings and rates.
 *
 * A key file is YAML with the SHA-256 of each token, never a token (256 random bits, so a plain
 * hash is enough: nothing to guess). A set is parsed once per reload and then only read, but for
 * its buckets. Look-up is by hash: what an attacker sends decides neither which bytes are compared
 * nor how many. Used by the frontend (every request) and the CLI (`brood key`).
 */
#pragma once
#include <stdint.h>
struct err;
struct key_set;

#define KEY_LABEL_MAX 64u
#define KEY_TOKEN_ROOM 64 /* "brood_" + 43 characters of base64url */

enum key_scope {
    KEY_EXECUTE = 1 << 0,
    KEY_RUNS = 1 << 1,
    KEY_FILES = 1 << 2,
    KEY_NAMESPACES = 1 << 3,
    KEY_ADMIN = 1 << 4, /* all of these, every namespace */
};

struct key {
    char label[KEY_LABEL_MAX + 1];
    uint32_t scopes;
    char namespaces[72]; /* a namespace id; a * at its end stands for any rest; "*": all */
    int64_t expires_ms;  /* since the epoch; 0: never */
    char policy[33];     /* its runs' policy where they name none; "": the namespace's own */
    uint64_t timeout_ms_max, memory_bytes_max, cpu_ms_max; /* ceilings; 0: the service's */
    double rate, burst; /* requests a second, and at once; 0: unlimited */
};

enum key_verdict { KEY_OK, KEY_MISSING, KEY_WRONG, KEY_EXPIRED, KEY_LIMITED };

struct key_bucket_state { /* for RateLimit-* (draft-ietf-httpapi-ratelimit-headers) */
    uint64_t limit, remaining, reset_s, retry_after_ms;
};

/* Parses `text`. `list`: API_KEYS, "token:label:rps:burst,..."; may be "". 0 or <0: err names line,
 * key and what was expected; *ret untouched. The buckets of keys that `old` has too go on. */
int keys_parse(const char *text, size_t len, const char *list, const struct key_set *old,
               struct key_set **ret, struct err *err);
void keys_free(struct key_set *set);
size_t keys_count(const struct key_set *set);
/* Whose token is in this Authorization header (NULL: there is none)? Takes one from its bucket.
 * Any thread. now_ns: CLOCK_MONOTONIC, now_ms: since the epoch. */
enum key_verdict keys_check(struct key_set *set, const char *authorization, size_t len,
                            uint64_t now_ns, int64_t now_ms, const struct key **ret,
                            struct key_bucket_state *ret_bucket);
bool key_may_use(const struct key *key, const char *ns_id);
/* A new token and the hex of its SHA-256. */
int keys_make_token(char ret_token[KEY_TOKEN_ROOM], char ret_hash[65], struct err *err);
