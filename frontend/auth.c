/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/auth - see auth.h.
 *
 * In the frontend, per thread, but for the newest set: each thread gets the same Hello on its own
 * connection, the first one makes the set, the others share it, so that a bucket is one for all.
 * What the engine once had keys for is never open again: without a usable set nobody is let in.
 * Of a token nothing is kept, logged or repeated; a refusal does not say how close it was.
 *
 * A key is asked for when a request comes, and again for what stays open behind it: terminals, who
 * watches a run, who waits for one. A run that was accepted goes on; whoever watched it from its
 * own request is then a client that left.
 */
#include "frontend/auth.h"
#include "frontend/answer.h"
#include "frontend/front.h"
#include "frontend/run.h"
#include "frontend/terminal.h"
#include "keys/keys.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include <inttypes.h>
#include <time.h>

#define LOOK_MS 1000u /* keys expire */

static struct {
    pthread_mutex_t lock;
    uint64_t generation;
    struct key_set *set;
} newest = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Under the lock. */
static void take_new(uint64_t generation, int fd)
{
    struct key_set *set = NULL;
    struct err err;
    if (keys_load(fd, newest.set, &set, &err) < 0) {
        LOG(ERROR, "keys_kept", F_STR("error", err.text));
        return;
    }
    keys_unref(newest.set);
    newest.set = set;
    newest.generation = generation;
    LOG(INFO, "keys", F_U64("count", keys_count(set)), F_U64("generation", generation));
}

bool auth_on_hello(struct front *f, const struct proto_hello *h, const int *fds, size_t nfds)
{
    if (h->keys_generation == 0)
        return nfds == 0 && !f->has_keys;
    f->has_keys = true;
    f->keys_due_ns = 0; /* what was opened is looked at again */
    if (nfds != 1) {
        LOG(ERROR, "keys_missing", F_U64("descriptors", nfds));
        return false;
    }
    (void)pthread_mutex_lock(&newest.lock);
    if (h->keys_generation > newest.generation)
        take_new(h->keys_generation, fds[0]);
    keys_unref(f->keys);
    f->keys = keys_ref(newest.set);
    (void)pthread_mutex_unlock(&newest.lock);
    return true;
}

/* ---- admission ---------------------------------------------------------------------------------
 */

static void refuse(struct http_request *req, int status, const char *code, const char *text)
{
    if (status == 401)
        http_add_header(req, "www-authenticate", "Bearer realm=\"brood\"");
    answer_error(req, &(struct answer_error){status, code, 0, NULL}, "%s", text);
}

static void add_bucket(struct http_request *req, const struct key_bucket_state *b)
{
    const struct {
        const char *name;
        uint64_t value;
    } headers[] = {{"ratelimit-limit", b->limit},
                   {"ratelimit-remaining", b->remaining},
                   {"ratelimit-reset", b->reset_s}};
    char text[24];
    for (size_t i = 0; b->limit && i < ARRAY_LEN(headers); i++) {
        (void)snprintf(text, sizeof text, "%" PRIu64, headers[i].value);
        http_add_header(req, headers[i].name, text);
    }
}

/* One item of a list; *at moves behind it. */
static struct http_text next_item(const char **at, const char *end)
{
    const char *comma = memchr(*at, ',', (size_t)(end - *at)), *stop = comma ? comma : end;
    struct http_text item = {*at, (size_t)(stop - *at)};
    *at = comma ? comma + 1 : end;
    while (item.len > 0 && (*item.at == ' ' || *item.at == '\t'))
        item.at++, item.len--;
    while (item.len > 0 && (item.at[item.len - 1] == ' ' || item.at[item.len - 1] == '\t'))
        item.len--;
    return item;
}

/* What follows "bearer" among the subprotocols that are offered; {NULL, 0}: it is not offered. */
static struct http_text find_offered(struct http_request *req)
{
    struct http_text list = http_header_of(req, "sec-websocket-protocol");
    const char *at = list.at, *end = list.at + list.len;
    if (!list.at || http_header_repeats(req, "sec-websocket-protocol"))
        return (struct http_text){NULL, 0};
    struct http_text first = next_item(&at, end);
    if (first.len != 6 || memcmp(first.at, "bearer", 6) != 0)
        return (struct http_text){NULL, 0};
    return next_item(&at, end);
}

const char *auth_protocol(struct http_request *req)
{
    return find_offered(req).at ? "bearer" : NULL;
}

/* As it would stand in Authorization. */
static struct http_text find_credentials(struct http_request *req, bool by_protocol,
                                         char room[KEY_TOKEN_MAX + 16])
{
    struct http_text header = http_header_of(req, "authorization");
    struct http_text offered = by_protocol ? find_offered(req) : (struct http_text){NULL, 0};
    if (header.at || offered.len == 0)
        return header;
    int n = snprintf(room, KEY_TOKEN_MAX + 16, "Bearer %.*s",
                     (int)(offered.len < KEY_TOKEN_MAX + 1 ? offered.len : KEY_TOKEN_MAX + 1),
                     offered.at);
    return (struct http_text){room, (size_t)n};
}

static int64_t epoch_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static enum key_verdict check(struct front *f, struct http_request *req, bool by_protocol,
                              struct key_bucket_state *ret_bucket)
{
    char room[KEY_TOKEN_MAX + 16] = "";
    struct http_text header = find_credentials(req, by_protocol, room);
    const struct key *key = NULL;
    *ret_bucket = (struct key_bucket_state){0};
    if (!header.at)
        return KEY_MISSING;
    if (!f->keys || http_header_repeats(req, "authorization"))
        return KEY_WRONG;
    enum key_verdict verdict =
        keys_check(f->keys, header.at, header.len, clock_now_ns(), epoch_ms(), &key, ret_bucket);
    explicit_bzero(room, sizeof room);
    *http_whose(req) = key;
    return verdict;
}

/* An exhaustive switch over the verdict; true: go on. */
static bool let_in(struct http_request *req, enum key_verdict verdict,
                   const struct key_bucket_state *bucket)
{
    switch (verdict) {
    case KEY_OK:
        return true;
    case KEY_MISSING:
        refuse(req, 401, "unauthorized", "a key is needed: Authorization: Bearer KEY");
        break;
    case KEY_WRONG:
        refuse(req, 401, "unauthorized", "the key in Authorization is not known");
        break;
    case KEY_EXPIRED:
        refuse(req, 401, "unauthorized", "the key has expired");
        break;
    case KEY_LIMITED:
        answer_error(req, &(struct answer_error){429, "rate_limited", bucket->retry_after_ms, NULL},
                     "more requests than this key may make");
        break;
    }
    return false;
}

bool auth_admit(struct front *f, struct http_request *req, uint32_t scope)
{
    struct key_bucket_state bucket;
    char names[64], text[120];
    if (!scope || (f->greeted && !f->has_keys))
        return true;
    if (!f->greeted) {
        answer_error(req, &(struct answer_error){503, "not_ready", 1000, NULL},
                     "the engine has not been heard of yet");
        return false;
    }
    enum key_verdict verdict = check(f, req, scope & AUTH_BY_PROTOCOL, &bucket);
    scope &= ~AUTH_BY_PROTOCOL;
    add_bucket(req, &bucket);
    if (!let_in(req, verdict, &bucket))
        return false;
    if (key_has(routes_key(req), scope & ~AUTH_ANY_KEY))
        return true;
    key_scope_names(scope, names, sizeof names);
    (void)snprintf(text, sizeof text, "this key lacks the scope %s", names);
    refuse(req, 403, "forbidden", text);
    return false;
}

void auth_on_end(struct http_request *req)
{
    const void **whose = http_whose(req);
    key_unref(*whose);
    *whose = NULL;
}

/* ---- a key that goes ---------------------------------------------------------------------------
 */

bool auth_still(const struct front *f, const struct key *key, uint32_t scope, const char *ns_id)
{
    if (!f->has_keys)
        return true;
    const struct key *now = key && f->keys ? keys_find_now(f->keys, key, epoch_ms()) : NULL;
    return now && key_has(now, scope) && (!ns_id || key_may_use(now, ns_id));
}

void auth_refuse_gone(struct http_request *req)
{
    refuse(req, 401, "unauthorized", "the key in Authorization is gone");
}

/* Of an owner that only waits or watches. */
static void look_at(void *user, struct http_request *req)
{
    struct front *f = user;
    struct request_owner *owner = *http_data(req);
    if (owner && owner->on_revoked && !auth_still(f, routes_key(req), 0, NULL))
        owner->on_revoked(f, owner);
}

void auth_on_tick(struct front *f, uint64_t now_ns)
{
    if (!f->has_keys || now_ns < f->keys_due_ns)
        return;
    f->keys_due_ns = now_ns + LOOK_MS * CLOCK_NS_PER_MS;
    http_each_open(f->server, look_at, f);
    terminal_list_on_keys(f);
}

/* ---- what it means for the request -------------------------------------------------------------
 */

const struct key *routes_key(struct http_request *req)
{
    return *http_whose(req);
}

const char *routes_key_label(struct http_request *req)
{
    const struct key *key = routes_key(req);
    return key ? key->label : "";
}

bool auth_may_use(struct http_request *req, const char *ns_id)
{
    if (key_may_use(routes_key(req), ns_id))
        return true;
    refuse(req, 403, "forbidden", "this key may not use that namespace");
    return false;
}

static void lower(uint64_t *limit, uint64_t ceiling)
{
    if (ceiling && (*limit == 0 || *limit > ceiling))
        *limit = ceiling;
}

static void lower_both(struct proto_limit *limit, uint64_t ceiling)
{
    lower(&limit->max, ceiling);
    lower(&limit->fallback, ceiling);
}

const struct parse_limits *auth_limits(const struct front *f, struct http_request *req,
                                       struct parse_limits *room)
{
    const struct key *key = routes_key(req);
    if (!key || !(key->timeout_ms_max | key->memory_bytes_max | key->cpu_ms_max))
        return &f->limits;
    *room = f->limits;
    lower(&room->timeout_ms_max, key->timeout_ms_max);
    lower(&room->memory_bytes_max, key->memory_bytes_max);
    lower(&room->cpu_ms_max, key->cpu_ms_max);
    lower_both(&room->v1.timeout_ms, key->timeout_ms_max);
    lower_both(&room->v1.memory_bytes, key->memory_bytes_max);
    lower_both(&room->v1.cpu_ms, key->cpu_ms_max);
    return room;
}

void auth_mark(struct http_request *req, struct proto_execute *x)
{
    const struct key *key = routes_key(req);
    if (!key)
        return;
    x->key = key->label;
    x->timeout_ms_ceiling = key->timeout_ms_max;
    x->memory_bytes_ceiling = key->memory_bytes_max;
    x->cpu_ms_ceiling = key->cpu_ms_max;
}

void auth_caller(struct http_request *req, struct run_caller *ret)
{
    const struct key *key = routes_key(req);
    *ret = (struct run_caller){.request_id = http_request_id(req), .key = "", .policy = ""};
    if (!key)
        return;
    ret->key = key->label;
    ret->timeout_ms_ceiling = key->timeout_ms_max;
    ret->memory_bytes_ceiling = key->memory_bytes_max;
    ret->cpu_ms_ceiling = key->cpu_ms_max;
    ret->policy = key->policy;
}
