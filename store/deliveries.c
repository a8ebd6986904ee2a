/* SPDX-License-Identifier: Apache-2.0 */
/* store/deliveries - what receivers of webhooks are to be told, and what became of it.
 *
 * In the store's thread, inside of the transaction of its turn. A delivery is put by the end of its
 * job, so that either both are there or neither is; it is pending until it was noted as over. Which
 * are under way the store does not know: who claims says so, and after a crash none is, so those
 * are claimed again (at least once; the id is the same). Claims go round by key, and within a key
 * by host: each has its places, so a host that is dead keeps only its own deliveries waiting,
 * however many they are, and a key whose receivers all hang keeps only its own. A claim looks at so
 * many hosts of a key.
 */
#include "store/store_impl.h"
#include <strings.h>

#define DROPS_AT_ONCE 256
#define HOSTS_LOOKED_AT_MAX 64 /* of a key, in one claim: a wildcard lets it have any number */
#define LOOK_ON_MS 100         /* then, for the others */

/* Whom a delivery waits for: what stands between "://" and the path, in lower case, with a port
 * that is not the scheme's. One receiver has one name, however often it is written in another way.
 */
static void copy_host(const char *url, char *ret, size_t room)
{
    const char *at = strstr(url, "://");
    bool is_https = strncasecmp(url, "https:", 6) == 0;
    at = at ? at + 3 : url;
    size_t len = strcspn(at, "/?#"), name = len;
    while (name > 0 && at[name - 1] >= '0' && at[name - 1] <= '9')
        name--;
    bool has_port = name > 0 && at[name - 1] == ':';
    unsigned long port = has_port ? strtoul(at + name, NULL, 10) : 0;
    len = has_port ? name - 1 : len;
    len -= len > 0 && at[len - 1] == '.';
    len = len < room ? len : room - 1;
    for (size_t i = 0; i < len; i++)
        ret[i] = at[i] >= 'A' && at[i] <= 'Z' ? (char)(at[i] + ('a' - 'A')) : at[i];
    ret[len] = 0;
    if (port && port != (is_https ? 443 : 80))
        (void)snprintf(ret + len, room - len, ":%lu", port);
}

static int put(struct store *s, const char *job_id, const char *key, const char *url)
{
    char id[STORE_DELIVERY_ID_ROOM], host[STORE_URL_MAX + 1];
    sqlite3_stmt *st = store_statement(s, ST_DELIVERY_PUT);
    store_make_id(STORE_DELIVERY_PREFIX, id);
    copy_host(url, host, sizeof host);
    bind_text(st, 1, id);
    bind_text(st, 2, job_id);
    bind_text(st, 3, key);
    bind_text(st, 4, url);
    bind_text(st, 5, host);
    (void)sqlite3_bind_int64(st, 6, store_now_ms());
    return store_step(s, st);
}

int store_put_delivery(struct store *s, const char *job_id, bool *ret_put)
{
    char url[STORE_URL_MAX + 1] = "", key[STORE_KEY_MAX + 1] = "";
    sqlite3_stmt *st = store_statement(s, ST_DELIVERY_OF_JOB);
    bind_text(st, 1, job_id);
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        copy_column(st, 0, url, sizeof url);
        copy_column(st, 1, key, sizeof key);
    }
    int error = rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : store_errno(s, rc);
    (void)sqlite3_reset(st);
    *ret_put = error == 0 && *url;
    return *ret_put ? put(s, job_id, key, url) : error;
}

/* ---- what is due --------------------------------------------------------------------------------
 */

static bool is_busy(const struct store_courier *c, const char *id)
{
    for (size_t i = 0; i < c->busy_count; i++)
        if (strcmp(c->busy[i], id) == 0)
            return true;
    return false;
}

static bool is_of(const char *key, const char *host, const char *of_key, const char *at_host)
{
    return (!of_key || strcmp(key, of_key) == 0) && (!at_host || strcmp(host, at_host) == 0);
}

/* Under way or claimed just now; NULL: of any. */
static size_t count_taken(const struct store_courier *c, const char *key, const char *host)
{
    size_t n = 0;
    for (size_t i = 0; i < c->busy_count; i++)
        n += is_of(c->busy_keys[i], c->busy_hosts[i], key, host);
    for (size_t i = 0; i < c->count; i++)
        n += is_of(c->list[i].job.key, c->list[i].host, key, host);
    return n;
}

/* Of `most` places a key has half: what hangs is then not all of them. Where no keys are
 * configured there is nobody else. */
static size_t share(const char *key, size_t most)
{
    return *key ? (most + 1) / 2 : most;
}

static void lower(size_t *left, size_t most, size_t taken)
{
    size_t room = taken < most ? most - taken : 0;
    *left = room < *left ? room : *left;
}

/* How many more this key may have; to this host, unless it is NULL. */
static size_t count_room(const struct store_courier *c, const char *key, const char *host)
{
    size_t left = SIZE_MAX;
    lower(&left, c->most, count_taken(c, NULL, NULL));
    lower(&left, share(key, c->most), count_taken(c, key, NULL));
    if (host) {
        lower(&left, c->most_host, count_taken(c, NULL, host));
        lower(&left, share(key, c->most_host), count_taken(c, key, host));
    }
    return left;
}

static struct store_delivery *add(struct store_courier *c)
{
    void *more = realloc(c->list, (c->count + 1) * sizeof *c->list);
    if (!more)
        return NULL;
    c->list = more;
    struct store_delivery *d = &c->list[c->count];
    memset(d, 0, sizeof *d);
    c->count++;
    return d;
}

static void read_row(sqlite3_stmt *st, struct store_delivery *d)
{
    copy_column(st, 0, d->id, sizeof d->id);
    copy_column(st, 1, d->job_id, sizeof d->job_id);
    copy_column(st, 2, d->url, sizeof d->url);
    d->created_ms = sqlite3_column_int64(st, 3);
    d->next_ms = sqlite3_column_int64(st, 4);
    d->attempts = (uint32_t)sqlite3_column_int64(st, 5);
}

static int take_row(struct store_courier *c, sqlite3_stmt *st, const char *host)
{
    struct store_delivery *d = add(c);
    if (!d)
        return ENOMEM;
    read_row(st, d);
    (void)snprintf(d->host, sizeof d->host, "%s", host);
    copy_column(st, 1, d->job.id, sizeof d->job.id);
    copy_column(st, 6, d->job.key, sizeof d->job.key);
    return 0;
}

/* What is to be told of each. */
static int add_jobs(struct store *s, struct store_courier *c)
{
    int error = 0;
    for (size_t i = 0; error == 0 && i < c->count; i++) {
        struct store_call call = {.verb = STORE_GET_JOB, .job = &c->list[i].job};
        error = store_get_job(s, &call); /* it is there, or its deliveries were not */
    }
    return error;
}

/* Those of one key for one host that are due, as far as there is room. */
static int claim_of(struct store *s, struct store_courier *c, const char *key, const char *host)
{
    size_t left = count_room(c, key, host), busy = count_taken(c, key, host);
    sqlite3_stmt *st = store_statement(s, ST_DELIVERY_DUE);
    int rc = SQLITE_DONE, error = 0;
    if (left == 0)
        return 0;
    bind_text(st, 1, key);
    bind_text(st, 2, host);
    (void)sqlite3_bind_int64(st, 3, (sqlite3_int64)(busy + left));
    while (error == 0 && left > 0 && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        char id[STORE_DELIVERY_ID_ROOM];
        int64_t next_ms = sqlite3_column_int64(st, 4);
        copy_column(st, 0, id, sizeof id);
        if (is_busy(c, id))
            continue;
        if (next_ms > c->now_ms) {
            c->next_ms = next_ms < c->next_ms ? next_ms : c->next_ms;
            break;
        }
        error = take_row(c, st, host);
        left--;
    }
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        error = store_errno(s, rc);
    (void)sqlite3_reset(st);
    return error;
}

/* The next key behind this one, in falling order, since "" is one, too. */
static int find_key(struct store *s, char key[STORE_JOB_KEY_ROOM], bool *ret_found)
{
    sqlite3_stmt *st = store_statement(s, ST_DELIVERY_NEXT_KEY);
    bind_text(st, 1, key);
    int rc = sqlite3_step(st), error = rc == SQLITE_ROW ? 0 : store_errno(s, rc);
    char found[STORE_JOB_KEY_ROOM] = "";
    *ret_found = error == 0 && sqlite3_column_type(st, 0) != SQLITE_NULL;
    if (*ret_found)
        copy_column(st, 0, found, sizeof found);
    (void)sqlite3_reset(st);
    if (*ret_found)
        memcpy(key, found, sizeof found);
    return error;
}

/* The next host of that key behind this one in the order of names; "": there is none. */
static int find_host(struct store *s, const char *key, char host[STORE_URL_MAX + 1])
{
    sqlite3_stmt *st = store_statement(s, ST_DELIVERY_NEXT_HOST);
    char found[STORE_URL_MAX + 1] = "";
    bind_text(st, 1, key);
    bind_text(st, 2, host);
    int rc = sqlite3_step(st), error = rc == SQLITE_ROW ? 0 : store_errno(s, rc);
    if (error == 0)
        copy_column(st, 0, found, sizeof found);
    (void)sqlite3_reset(st);
    memcpy(host, found, sizeof found);
    return error;
}

static char *turn_of(struct store_courier *c, const char *key)
{
    uint32_t hash = 2166136261u; /* FNV-1a; keys that meet here share their turns */
    for (; *key; key++)
        hash = (hash ^ (uint8_t)*key) * 16777619u;
    return c->after_hosts[hash % STORE_KEY_TURNS];
}

/* What is due of one key, its hosts in turn: so many, the next time those behind them. */
static int claim_of_key(struct store *s, struct store_courier *c, const char *key)
{
    char *turn = turn_of(c, key);
    char host[STORE_URL_MAX + 1] = "", first[STORE_HOST_ROOM];
    bool wrapped = !*turn;
    int error = 0;
    memcpy(first, turn, sizeof first);
    memcpy(host, first, sizeof first);
    for (int looked = 0; error == 0 && count_room(c, key, NULL) > 0; looked++) {
        size_t before = c->count;
        if (looked == HOSTS_LOOKED_AT_MAX) {
            int64_t next_ms = c->now_ms + LOOK_ON_MS;
            c->next_ms = next_ms < c->next_ms ? next_ms : c->next_ms;
            (void)snprintf(turn, STORE_HOST_ROOM, "%s", host);
            break;
        }
        error = find_host(s, key, host);
        if (error == 0 && !*host && !wrapped) {
            wrapped = true;
            continue;
        }
        if (error || !*host || (wrapped && *first && strcmp(host, first) > 0))
            break;
        error = claim_of(s, c, key, host);
        if (c->count > before)
            (void)snprintf(turn, STORE_HOST_ROOM, "%s", host);
    }
    return error;
}

int store_claim_deliveries(struct store *s, struct store_call *call)
{
    static const char behind_all[STORE_JOB_KEY_ROOM] = "\x7f"; /* no label begins so */
    struct store_courier *c = call->courier;
    char key[STORE_JOB_KEY_ROOM], first[STORE_KEY_MAX + 1];
    bool wrapped = false, found = false;
    int error = 0;
    memcpy(first, c->after_key, sizeof first);
    memcpy(key, first, sizeof key);
    c->list = NULL;
    c->count = 0;
    c->next_ms = INT64_MAX;
    while (error == 0 && count_taken(c, NULL, NULL) < c->most) {
        size_t before = c->count;
        error = find_key(s, key, &found);
        if (error == 0 && !found && !wrapped) {
            wrapped = true;
            memcpy(key, behind_all, sizeof key);
            continue;
        }
        if (error || !found || (wrapped && strcmp(key, first) < 0))
            break;
        error = claim_of_key(s, c, key);
        if (c->count > before)
            memcpy(c->after_key, key, sizeof key);
    }
    if (error == 0)
        error = add_jobs(s, c);
    if (error)
        store_free_deliveries(c);
    return error;
}

/* ---- what became of it --------------------------------------------------------------------------
 */

int store_note_attempt(struct store *s, struct store_call *call)
{
    const struct store_courier *c = call->courier;
    sqlite3_stmt *st = store_statement(s, ST_DELIVERY_NOTE);
    bind_text(st, 1, c->id);
    (void)sqlite3_bind_int(st, 2, (int)c->state);
    (void)sqlite3_bind_int64(st, 3, c->retry_ms);
    int error = store_step(s, st);
    if (error == 0 && sqlite3_changes(s->db) == 0)
        error = ENOENT;
    if (error)
        return error;
    st = store_statement(s, ST_ATTEMPT_PUT);
    (void)sqlite3_bind_int64(st, 1, c->attempt.started_ms);
    (void)sqlite3_bind_int64(st, 2, c->attempt.duration_ms);
    (void)sqlite3_bind_int64(st, 3, c->attempt.status);
    bind_text(st, 4, c->attempt.error);
    bind_text(st, 5, c->id);
    return store_step(s, st);
}

static int read_log(struct store *s, struct store_delivery *d)
{
    sqlite3_stmt *st = store_statement(s, ST_ATTEMPTS_OF);
    int rc = SQLITE_DONE, error = 0;
    bind_text(st, 1, d->id);
    while (error == 0 && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        void *more = realloc(d->log, (d->log_count + 1) * sizeof *d->log);
        if (!more) {
            error = ENOMEM;
            break;
        }
        d->log = more;
        struct store_attempt *a = &d->log[d->log_count++];
        *a = (struct store_attempt){.number = (uint32_t)sqlite3_column_int64(st, 0),
                                    .started_ms = sqlite3_column_int64(st, 1),
                                    .duration_ms = (uint32_t)sqlite3_column_int64(st, 2),
                                    .status = (uint32_t)sqlite3_column_int64(st, 3)};
        copy_column(st, 4, a->error, sizeof a->error);
    }
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        error = store_errno(s, rc);
    (void)sqlite3_reset(st);
    return error;
}

int store_list_deliveries(struct store *s, struct store_call *call)
{
    struct store_courier *c = call->courier;
    sqlite3_stmt *st = store_statement(s, ST_DELIVERIES_OF);
    int rc = SQLITE_DONE, error = 0;
    c->list = NULL;
    c->count = 0;
    bind_text(st, 1, c->job_id);
    bind_text(st, 2, call->key);
    while (error == 0 && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct store_delivery *d = add(c);
        if (!d) {
            error = ENOMEM;
            break;
        }
        read_row(st, d);
        d->state = (enum store_delivery_state)sqlite3_column_int(st, 6);
    }
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        error = store_errno(s, rc);
    (void)sqlite3_reset(st);
    for (size_t i = 0; error == 0 && i < c->count; i++)
        error = read_log(s, &c->list[i]);
    if (error == 0 && c->count == 0)
        error = ENOENT;
    if (error)
        store_free_deliveries(c);
    return error;
}

int store_drop_deliveries(struct store *s, int64_t before_ms)
{
    sqlite3_stmt *st = store_statement(s, ST_DELIVERIES_DROP);
    (void)sqlite3_bind_int64(st, 1, before_ms);
    (void)sqlite3_bind_int(st, 2, DROPS_AT_ONCE);
    return store_step(s, st);
}

void store_free_deliveries(struct store_courier *c)
{
    for (size_t i = 0; i < c->count; i++) {
        free(c->list[i].job.preview);
        free(c->list[i].job.doc);
        free(c->list[i].log);
    }
    free(ptr_take(&c->list));
    c->count = 0;
}
