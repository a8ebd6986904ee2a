/* SPDX-License-Identifier: Apache-2.0 */
/* keys - who may ask for what: bearer tokens, their scopes, ceilings and rates.
 *
 * A key file is YAML with the SHA-256 of each token, never a token (256 random bits, so a plain
 * hash is enough: nothing to guess). Text becomes a list: in the supervisor before it splits, on
 * reload in a confined child of priv, and in the CLI. The list travels as a sealed block of fixed
 * records, so that engine and frontend parse nothing; the frontend makes a set of it, which is then
 * only read, but for its buckets. Look-up is by hash: what an attacker sends decides neither which
 * bytes are compared nor how many.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
struct err;
struct key_set;

#define KEYS_MAX 65536u
#define KEYS_FILE_BYTES_MAX (32u << 20)
#define KEY_LABEL_MAX 64u
#define KEY_TOKEN_ROOM 64  /* "brood_" + 43 characters of base64url */
#define KEY_TOKEN_MIN 16u  /* of API_KEYS, which a person may have made up */
#define KEY_TOKEN_MAX 256u /* a longer one is wrong without being looked at */
#define KEY_RATE_MIN 0.001
#define KEY_RATE_MAX 1000000u
#define KEY_BURST_MAX 1000000u
#define KEY_MS_MAX 86400000u  /* protocol.h: no run is longer than a day */
#define KEY_MEMORY_MB_MIN 16u /* as limits.memory_mb of the service */
#define KEY_MEMORY_MB_MAX 1048576u

enum key_scope {
    KEY_EXECUTE = 1 << 0,
    KEY_RUNS = 1 << 1,
    KEY_FILES = 1 << 2,
    KEY_NAMESPACES = 1 << 3,
    KEY_ADMIN = 1 << 4, /* all of these, every namespace */
};

struct key {
    char label[KEY_LABEL_MAX + 1]; /* unique in a set */
    char namespaces[72]; /* a namespace id; a * at its end stands for any rest; "*": all */
    char policy[33];     /* its runs' policy where they name none; "": the namespace's own */
    uint32_t scopes;
    uint32_t burst;                                        /* requests at once; 0: unlimited */
    double rate;                                           /* requests a second; 0: unlimited */
    int64_t expires_ms;                                    /* since the epoch; 0: never */
    uint64_t timeout_ms_max, memory_bytes_max, cpu_ms_max; /* ceilings; 0: the service's */
};

/* ---- lists: the supervisor, its compiler, the CLI ----------------------------------------------
 */

struct key_entry {
    struct key key;
    uint8_t sha256[32];              /* of the token */
    uint32_t line, line_end, column; /* of a file's entry, from 1: [line, line_end) */
};

struct key_list { /* zero-initialise */
    struct key_entry *at;
    size_t count, room;
};

/* Adds the keys of a file's text. 0; <0: err names file, line, key and what was expected. */
int keys_read_file(const char *text, size_t len, const char *path, struct key_list *list,
                   struct err *err);
/* The same of a file, which must be there. */
int keys_read_path(const char *path, struct key_list *list, struct err *err);
/* Adds those of API_KEYS, "token:label:rps:burst,..." (rps and burst may be left out: unlimited),
 * and overwrites the text with zeros. They have every scope but admin, in every namespace. 0; <0:
 * err names the entry by its number, never its token. */
int keys_read_list(char *text, struct key_list *list, struct err *err);
/* Adds all of another list. 0 or <0. */
int keys_join(struct key_list *list, const struct key_list *other, struct err *err);
/* Is no label and no token there twice? 0; <0: err says which label. To be called when it is whole.
 */
int keys_check_list(const struct key_list *list, struct err *err);
void keys_list_fini(struct key_list *list);
/* Writes the block into an empty memfd; whoever made that seals it. 0 or <0. */
int keys_write(const struct key_list *list, int fd, struct err *err);
size_t keys_block_bytes(size_t count);
/* The block, sealed; a descriptor, or <0. */
int keys_seal(const struct key_list *list, struct err *err);

/* ---- sets: the frontend ------------------------------------------------------------------------
 */

enum key_verdict { KEY_OK, KEY_MISSING, KEY_WRONG, KEY_EXPIRED, KEY_LIMITED };

struct key_bucket_state { /* for RateLimit-* (draft-ietf-httpapi-ratelimit-headers) */
    uint64_t limit, remaining, reset_s, retry_after_ms; /* limit 0: the key has no bucket */
};

/* A set of a sealed block, with one user. The buckets of keys that `old` (or NULL) has too - label
 * and hash - go on. 0, or <0: err says what is wrong with the block. */
int keys_load(int fd, const struct key_set *old, struct key_set **ret, struct err *err);
struct key_set *keys_ref(struct key_set *set);
/* NULL does nothing. */
void keys_unref(struct key_set *set);
size_t keys_count(const struct key_set *set);
/* Whose token is in this Authorization header (NULL: there is none)? Takes one from its bucket.
 * Any thread. now_ns: CLOCK_MONOTONIC, now_ms: since the epoch. With OK, EXPIRED and LIMITED, *ret
 * is a reference (key_unref), which outlives the set; else NULL. */
enum key_verdict keys_check(const struct key_set *set, const char *authorization, size_t len,
                            uint64_t now_ns, int64_t now_ms, const struct key **ret,
                            struct key_bucket_state *ret_bucket);
/* What the set has now of a key that keys_check once gave, from this set or an earlier one: the
 * same label and token, not expired. NULL: it is gone. Borrowed, for as long as the set is. */
const struct key *keys_find_now(const struct key_set *set, const struct key *key, int64_t now_ms);
void key_unref(const struct key *key); /* NULL does nothing */
/* One reference more; NULL for NULL. */
const struct key *key_ref(const struct key *key);

/* Has it all of these scopes? NULL - no keys are configured - may everything, as below. */
bool key_has(const struct key *key, unsigned scopes);
/* "": a fresh namespace, which belongs to nobody. */
bool key_may_use(const struct key *key, const char *ns_id);

/* ---- tokens ------------------------------------------------------------------------------------
 */

/* A new token and the hex of its SHA-256. */
int keys_make_token(char ret_token[KEY_TOKEN_ROOM], char ret_hash[65], struct err *err);
void keys_hash(const char *token, size_t len, uint8_t ret[32]);

/* "execute" ...; 0: unknown. "execute,runs" for people, into at least 48 bytes. */
unsigned key_scope_of(const char *word);
void key_scope_names(unsigned scopes, char *ret, size_t room);
/* "2027-01-01T00:00:00Z", also with a fraction or an offset. 0 or -1. */
int key_parse_time(const char *text, int64_t *ret_ms);
/* "0", "2.5"; 0 or -1. */
int key_parse_rate(const char *text, double *ret);
/* What a label, a pattern and a policy's name may be. */
bool key_label_is_valid(const char *text);
bool key_pattern_is_valid(const char *text);
bool key_policy_is_valid(const char *text);
