/* SPDX-License-Identifier: Apache-2.0 */
/* keys/set - whose token is this, and may it ask now? On the way of every request.
 *
 * In the frontend, from all of its threads; a set never changes, so there is no lock. A key is
 * found by the SHA-256 of what was presented, in a table that is at most half full; equality is
 * CRYPTO_memcmp's. Who sends wrong tokens costs a hash each, whatever they are and however many.
 *
 * A bucket is one number (GCRA): `full_ns`, the time at which it is full again. One request moves
 * it by 1/rate; it may run ahead of now by `burst` of those and no further, so exactly `burst`
 * requests pass at once, and one more each 1/rate. It is moved by compare-and-swap, belongs to
 * label and token, and outlives the set.
 */
#include "keys/block.h"
#include "lib/err.h"
#include "lib/fd.h"
#include <math.h>
#include <openssl/crypto.h>
#include <stdatomic.h>
#include <strings.h>
#include <sys/mman.h>

#define NS_PER_S 1000000000ull
#define CLOCK_SLACK_NS 100000000ull /* two threads may have read the clock this far apart */

struct bucket {
    atomic_uint users;
    _Atomic uint64_t full_ns;
};

struct held {
    struct key key; /* first: what a caller has */
    atomic_uint users;
    uint8_t sha256[32];
    uint64_t interval_ns, window_ns; /* 1/rate; burst of those. 0: no bucket */
    struct bucket *bucket;
};

struct key_set {
    atomic_uint users;
    size_t count, room; /* room: a power of two */
    struct held **table;
};

/* ---- making ------------------------------------------------------------------------------------
 */

static void unref_held(struct held *h)
{
    if (!h || atomic_fetch_sub(&h->users, 1) != 1)
        return;
    if (h->bucket && atomic_fetch_sub(&h->bucket->users, 1) == 1)
        free(h->bucket);
    free(h);
}

/* Only the address is the caller's to give back. */
const struct key *key_ref(const struct key *key)
{
    if (key)
        (void)atomic_fetch_add(&((struct held *)(uintptr_t)key)->users, 1);
    return key;
}

void key_unref(const struct key *key)
{
    unref_held((struct held *)(uintptr_t)key);
}

static size_t place_of(const struct key_set *set, const uint8_t sha256[32])
{
    uint64_t first;
    memcpy(&first, sha256, sizeof first);
    return (size_t)first & (set->room - 1);
}

static struct held *find(const struct key_set *set, const uint8_t sha256[32])
{
    for (size_t i = place_of(set, sha256); set->table[i]; i = (i + 1) & (set->room - 1))
        if (CRYPTO_memcmp(set->table[i]->sha256, sha256, sizeof set->table[i]->sha256) == 0)
            return set->table[i];
    return NULL;
}

static bool is_sound(const struct key_record *r)
{
    const struct key *k = &r->key;
    return memchr(k->label, 0, sizeof k->label) && key_label_is_valid(k->label) &&
           memchr(k->namespaces, 0, sizeof k->namespaces) &&
           memchr(k->policy, 0, sizeof k->policy) && isfinite(k->rate) &&
           (k->rate <= 0 || k->rate >= KEY_RATE_MIN) && k->rate >= 0 && k->rate <= KEY_RATE_MAX &&
           k->burst <= KEY_BURST_MAX && (k->burst > 0) == (k->rate > 0);
}

static struct held *hold(const struct key_record *record, const struct key_set *old)
{
    struct held *h = calloc(1, sizeof *h), *before = old ? find(old, record->sha256) : NULL;
    if (!h)
        return NULL;
    h->key = record->key;
    h->users = 1;
    memcpy(h->sha256, record->sha256, sizeof h->sha256);
    if (before && before->bucket && strcmp(before->key.label, h->key.label) == 0) {
        h->bucket = before->bucket;
        (void)atomic_fetch_add(&h->bucket->users, 1);
    } else if ((h->bucket = calloc(1, sizeof *h->bucket))) {
        h->bucket->users = 1;
    } else {
        free(h);
        return NULL;
    }
    if (h->key.rate > 0) {
        h->interval_ns = (uint64_t)(1e9 / h->key.rate);
        h->window_ns = h->interval_ns * h->key.burst;
    }
    return h;
}

static int fill(struct key_set *set, const struct key_block *block, const struct key_set *old,
                struct err *err)
{
    while (set->room < 2 * (size_t)block->count + 1)
        set->room = set->room ? set->room * 2 : 16;
    set->table = calloc(set->room, sizeof(struct held *));
    if (!set->table)
        return err_set(err, "keys: out of memory");
    for (; set->count < block->count; set->count++) {
        const struct key_record *record = &block->records[set->count];
        if (!is_sound(record) || find(set, record->sha256))
            return err_set(err, "keys: record %zu is not sound", set->count);
        size_t i = place_of(set, record->sha256);
        while (set->table[i])
            i = (i + 1) & (set->room - 1);
        if (!(set->table[i] = hold(record, old)))
            return err_set(err, "keys: out of memory");
    }
    return 0;
}

int keys_load(int fd, const struct key_set *old, struct key_set **ret, struct err *err)
{
    const size_t bytes_max = sizeof(struct key_block) + KEYS_MAX * sizeof(struct key_record);
    const void *map;
    size_t len;
    int r = fd_memfd_map(fd, bytes_max, &map, &len, err);
    if (r < 0)
        return r;
    const struct key_block *block = map;
    struct key_set *set = calloc(1, sizeof *set);
    if (set)
        set->users = 1;
    if (len < sizeof *block || block->magic != KEY_BLOCK_MAGIC ||
        len != sizeof *block + (size_t)block->count * sizeof *block->records)
        r = err_set(err, "keys: not a block of keys");
    else
        r = set ? fill(set, block, old, err) : err_set(err, "keys: out of memory");
    (void)munmap((void *)(uintptr_t)map, len);
    if (r == 0)
        *ret = set;
    else
        keys_unref(set);
    return r;
}

struct key_set *keys_ref(struct key_set *set)
{
    if (set)
        (void)atomic_fetch_add(&set->users, 1);
    return set;
}

void keys_unref(struct key_set *set)
{
    if (!set || atomic_fetch_sub(&set->users, 1) != 1)
        return;
    for (size_t i = 0; set->table && i < set->room; i++)
        unref_held(set->table[i]);
    free(set->table);
    free(set);
}

size_t keys_count(const struct key_set *set)
{
    return set->count;
}

/* ---- asking ------------------------------------------------------------------------------------
 */

/* The token of "Bearer TOKEN", NULL: it is no such header, or no such token. */
static const char *find_token(const char *header, size_t len, size_t *ret_len)
{
    static const char scheme[] = "Bearer ";
    const char *at = header + sizeof scheme - 1, *end = header + len;
    if (len < sizeof scheme || strncasecmp(header, scheme, sizeof scheme - 1) != 0)
        return NULL;
    while (at < end && *at == ' ')
        at++;
    while (end > at && end[-1] == ' ')
        end--;
    if (at == end || (size_t)(end - at) > KEY_TOKEN_MAX)
        return NULL;
    for (const char *c = at; c < end; c++)
        if (*c <= ' ' || *c > '~')
            return NULL;
    *ret_len = (size_t)(end - at);
    return at;
}

static bool take(const struct held *h, uint64_t now_ns, struct key_bucket_state *ret)
{
    *ret = (struct key_bucket_state){0};
    if (h->window_ns == 0)
        return true;
    uint64_t seen = atomic_load(&h->bucket->full_ns), full;
    bool taken;
    do {
        if (seen > now_ns + h->window_ns + CLOCK_SLACK_NS) { /* it was larger before a reload */
            full = now_ns + h->window_ns;
            (void)atomic_compare_exchange_strong(&h->bucket->full_ns, &seen, full);
            seen = full;
        }
        full = seen > now_ns ? seen : now_ns;
        taken = full + h->interval_ns <= now_ns + h->window_ns;
        if (taken)
            full += h->interval_ns;
    } while (taken && !atomic_compare_exchange_weak(&h->bucket->full_ns, &seen, full));
    uint64_t ahead = full - now_ns, next = ahead + h->interval_ns - h->window_ns;
    ret->limit = h->key.burst;
    ret->remaining = ahead < h->window_ns ? (h->window_ns - ahead) / h->interval_ns : 0;
    ret->reset_s = (ahead + NS_PER_S - 1) / NS_PER_S;
    ret->retry_after_ms = taken ? 0 : next / 1000000 + 1;
    return taken;
}

enum key_verdict keys_check(const struct key_set *set, const char *authorization, size_t len,
                            uint64_t now_ns, int64_t now_ms, const struct key **ret,
                            struct key_bucket_state *ret_bucket)
{
    uint8_t sha256[32];
    size_t token_len;
    *ret = NULL;
    *ret_bucket = (struct key_bucket_state){0};
    if (!authorization)
        return KEY_MISSING;
    const char *token = find_token(authorization, len, &token_len);
    if (!token)
        return KEY_WRONG;
    keys_hash(token, token_len, sha256);
    struct held *h = find(set, sha256);
    if (!h)
        return KEY_WRONG;
    (void)atomic_fetch_add(&h->users, 1);
    *ret = &h->key;
    if (h->key.expires_ms && now_ms >= h->key.expires_ms)
        return KEY_EXPIRED;
    return take(h, now_ns, ret_bucket) ? KEY_OK : KEY_LIMITED;
}

const struct key *keys_find_now(const struct key_set *set, const struct key *key, int64_t now_ms)
{
    const struct held *before = (const struct held *)(const void *)key;
    const struct held *h = find(set, before->sha256);
    if (!h || strcmp(h->key.label, key->label) != 0 ||
        (h->key.expires_ms && now_ms >= h->key.expires_ms))
        return NULL;
    return &h->key;
}
