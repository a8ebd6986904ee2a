/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/usage - see usage.h; and GET /v1/usage.
 *
 * In the frontend, per thread. A run adds five numbers to an entry of a table in memory; about once
 * a second the thread hands the table to the store's, which adds it to what is on disk. So nobody
 * waits, and a kill -9 loses what the last second or so brought, and what waited for the disk.
 */
#include "frontend/usage.h"
#include "frontend/answer.h"
#include "frontend/front.h"
#include "frontend/uri.h"
#include "keys/keys.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/log.h"
#include <inttypes.h>
#include <time.h>

#define HAND_OVER_MS 1000u
#define ROOM_FIRST 64u
#define ROOM_MAX (1u << 20)
#define DAYS_SHOWN 31
#define ANSWER_BYTES_MAX (16u << 20)
#define RETRY_MS 1000u

/* ---- counting -----------------------------------------------------------------------------------
 */

/* FNV-1a. */
static size_t place_of(const char *key, int64_t day, size_t room)
{
    uint64_t h = 0xcbf29ce484222325 ^ (uint64_t)day;
    for (; *key; key++)
        h = (h ^ (unsigned char)*key) * 0x100000001b3;
    return (size_t)(h ^ (h >> 32)) & (room - 1);
}

static struct store_usage *find(struct store_usage *at, size_t room, const char *key, int64_t day)
{
    size_t i = place_of(key, day, room);
    while (at[i].day && (at[i].day != day || strcmp(at[i].key, key) != 0))
        i = (i + 1) & (room - 1);
    return &at[i];
}

static bool grow(struct usage *u)
{
    size_t room = u->room ? u->room * 2 : ROOM_FIRST;
    struct store_usage *at = room <= ROOM_MAX ? calloc(room, sizeof *at) : NULL;
    if (!at)
        return false;
    for (size_t i = 0; i < u->room; i++)
        if (u->at[i].day)
            *find(at, room, u->at[i].key, u->at[i].day) = u->at[i];
    free(u->at);
    u->at = at;
    u->room = room;
    return true;
}

static bool add_on(struct usage *u, const struct store_usage *what, int64_t day)
{
    if (u->count >= u->room / 4 * 3 && !grow(u))
        return false;
    struct store_usage *e = find(u->at, u->room, what->key, day);
    if (!e->day) {
        (void)snprintf(e->key, sizeof e->key, "%s", what->key);
        e->day = day;
        u->count++;
    }
    e->runs += what->runs;
    e->jobs += what->jobs;
    e->cpu_us += what->cpu_us;
    e->wall_us += what->wall_us;
    e->output_bytes += what->output_bytes;
    return true;
}

static void lose(const struct store_usage *what, const char *why)
{
    LOG(WARN, "usage_lost", F_STR("key", what->key), F_U64("runs", what->runs),
        F_LAST_STR("why", why));
}

void usage_add(struct front *f, const struct store_usage *what)
{
    if (!add_on(&f->usage, what, store_now_ms() / USAGE_DAY_MS))
        lose(what, "out of memory");
}

/* ---- handing over -------------------------------------------------------------------------------
 */

static void on_added(struct store_call *call)
{
    struct usage_sums *s = CONTAINER_OF(call, struct usage_sums, call);
    struct front *f = CONTAINER_OF(s, struct front, usage.sent);
    s->waiting = false;
    for (size_t i = 0; call->error && i < s->sums.count; i++)
        if (!add_on(&f->usage, &s->sums.at[i], s->sums.at[i].day))
            lose(&s->sums.at[i], "out of memory");
    free(ptr_take(&s->sums.at));
}

/* The table becomes a list, in place. */
static bool hand_over(struct front *f, struct usage_sums *s)
{
    struct usage *u = &f->usage;
    size_t n = 0;
    s->call = (struct store_call){.verb = STORE_ADD_USAGE, .on_done = on_added, .fd = -1};
    s->call.usages = &s->sums;
    struct store_usage *list = malloc(u->count * sizeof *list);
    if (!list)
        return false;
    for (size_t i = 0; i < u->room; i++)
        if (u->at[i].day)
            list[n++] = u->at[i];
    s->sums = (struct store_usages){.at = list, .count = n};
    if (store_submit(&f->mailbox, &s->call) < 0) {
        free(ptr_take(&s->sums.at));
        return false;
    }
    s->waiting = true;
    memset(u->at, 0, u->room * sizeof *u->at);
    u->count = 0;
    return true;
}

void usage_on_tick(struct front *f, uint64_t now_ns)
{
    struct usage *u = &f->usage;
    if (u->count == 0 || u->sent.waiting || now_ns - u->handed_ns < HAND_OVER_MS * CLOCK_NS_PER_MS)
        return;
    u->handed_ns = now_ns;
    (void)hand_over(f, &u->sent); /* else with the next tick but nine */
}

void usage_finish(struct front *f)
{
    struct usage *u = &f->usage;
    if (u->count > 0 && !hand_over(f, &u->last))
        for (size_t i = 0; i < u->room; i++)
            if (u->at[i].day)
                lose(&u->at[i], "the store takes nothing more");
}

/* ---- GET /v1/usage ------------------------------------------------------------------------------
 */

struct ask {
    struct request_owner owner;
    struct http_request *req; /* NULL: over */
    struct store_call call;
    struct store_usages usages;
    bool waiting;
    struct buf text;
    size_t borrowed;
    struct answer answer;
};

static void free_if_unused(struct ask *a)
{
    if (a->req || a->waiting)
        return;
    output_return(a->borrowed);
    free(a->usages.at);
    buf_fini(&a->text);
    free(a);
}

/* "2026-11-21" */
static void put_day(char to[16], int64_t day)
{
    time_t s = (time_t)(day * (USAGE_DAY_MS / 1000));
    struct tm tm;
    (void)gmtime_r(&s, &tm);
    (void)strftime(to, 16, "%Y-%m-%d", &tm);
}

static bool read_day(const char *text, int64_t *ret)
{
    static const char form[] = "dddd-dd-dd";
    struct tm tm = {0};
    char back[16];
    for (size_t i = 0; i < sizeof form; i++)
        if (form[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != form[i])
            return false;
    tm.tm_year = (int)strtol(text, NULL, 10) - 1900;
    tm.tm_mon = (int)strtol(text + 5, NULL, 10) - 1;
    tm.tm_mday = (int)strtol(text + 8, NULL, 10);
    *ret = timegm(&tm) / (USAGE_DAY_MS / 1000);
    put_day(back, *ret); /* the 30th of February is another day */
    return *ret >= 0 && strcmp(back, text) == 0;
}

static void put_sums(struct buf *b, const struct store_usage *u)
{
    (void)buf_addf(b,
                   "\"runs\":%" PRIu64 ",\"jobs\":%" PRIu64 ",\"cpu_seconds\":%" PRIu64
                   ".%06u,\"wall_seconds\":%" PRIu64 ".%06u,\"output_bytes\":%" PRIu64,
                   u->runs, u->jobs, u->cpu_us / 1000000, (unsigned)(u->cpu_us % 1000000),
                   u->wall_us / 1000000, (unsigned)(u->wall_us % 1000000), u->output_bytes);
}

static void put_key(struct buf *b, const char *key, const struct store_usage *days, size_t count)
{
    struct store_usage sum = {.runs = 0};
    char day[16];
    for (size_t i = 0; i < count; i++) {
        sum.runs += days[i].runs;
        sum.jobs += days[i].jobs;
        sum.cpu_us += days[i].cpu_us;
        sum.wall_us += days[i].wall_us;
        sum.output_bytes += days[i].output_bytes;
    }
    (void)buf_addf(b, "{\"key\":\"%s\",", key);
    put_sums(b, &sum);
    (void)buf_addf(b, ",\"days\":[");
    for (size_t i = 0; i < count; i++) {
        put_day(day, days[i].day);
        (void)buf_addf(b, "%s{\"day\":\"%s\",", i ? "," : "", day);
        put_sums(b, &days[i]);
        (void)buf_addf(b, "}");
    }
    (void)buf_addf(b, "]}");
}

/* Labels are [A-Za-z0-9._@-]: nothing to escape. */
static bool put_answer(struct ask *a)
{
    const struct store_usages *u = &a->usages;
    struct buf *b = &a->text;
    char from[16], to[16];
    put_day(from, u->from);
    put_day(to, u->to);
    (void)buf_addf(b, "{\"from\":\"%s\",\"to\":\"%s\",\"keys\":[", from, to);
    if (!u->all && u->count == 0)
        put_key(b, a->call.key, NULL, 0);
    for (size_t i = 0, n; i < u->count; i += n) {
        for (n = 1; i + n < u->count && strcmp(u->at[i + n].key, u->at[i].key) == 0;)
            n++;
        (void)buf_addf(b, "%s", i ? "," : "");
        put_key(b, u->at[i].key, &u->at[i], n);
    }
    (void)buf_addf(b, "],\"next_cursor\":%s%s%s}\n", u->more ? "\"" : "null",
                   u->more ? u->next : "", u->more ? "\"" : "");
    return !b->failed;
}

static void on_read(struct store_call *call)
{
    struct ask *a = CONTAINER_OF(call, struct ask, call);
    a->waiting = false;
    if (!a->req) {
        free_if_unused(a);
        return;
    }
    if (call->error) {
        answer_error(a->req, &(struct answer_error){503, "storage", RETRY_MS, NULL},
                     "usage cannot be read now");
        return;
    }
    bool made = put_answer(a) && output_borrow_spare(a->text.room);
    a->borrowed = made ? a->text.room : 0;
    if (!made) {
        answer_error(a->req, &(struct answer_error){503, "overloaded", RETRY_MS, NULL},
                     "too much output is waiting for its clients; fewer keys may go");
        return;
    }
    const char *text = a->text.data;
    answer_init_raw(&a->answer, &text, &a->text.len, 1);
    if (a->text.len <= HTTP_CHUNK_BYTES)
        http_respond(a->req, 200, NULL, text, a->text.len);
    else
        http_stream(a->req, 200, answer_fill, &a->answer);
}

static void on_gone(struct front *f, struct request_owner *owner)
{
    (void)f;
    (void)owner;
}

static void on_end(struct front *f, struct http_request *req, struct request_owner *owner)
{
    struct ask *a = CONTAINER_OF(owner, struct ask, owner);
    (void)f;
    (void)req;
    a->req = NULL;
    free_if_unused(a);
}

/* False: `name` is there, and no day. */
static bool take_day(struct http_text query, const char *name, int64_t *ret)
{
    char text[16];
    int n = uri_find(query, name, text, sizeof text);
    return n == -2 || (n >= 0 && read_day(text, ret));
}

/* NULL, or what is wrong. */
static const char *take_query(struct http_request *req, struct ask *a, bool *ret_forbidden)
{
    struct http_text query = http_query(req);
    struct store_usages *u = &a->usages;
    const struct key *key = routes_key(req);
    bool admin = key_has(key, KEY_ADMIN);
    uint64_t limit = STORE_USAGE_KEYS_MAX;
    u->to = store_now_ms() / USAGE_DAY_MS;
    if (!take_day(query, "to", &u->to))
        return "to: expected a day such as 2026-11-21";
    u->from = u->to - DAYS_SHOWN + 1;
    if (!take_day(query, "from", &u->from))
        return "from: expected a day such as 2026-11-21";
    if (u->from > u->to)
        return "from: expected a day that is not after `to`";
    if (u->to - u->from >= STORE_USAGE_DAYS)
        return "from: expected at most 400 days up to `to`";
    if (uri_find_u64(query, "limit", 1, STORE_USAGE_KEYS_MAX, &limit) < 0)
        return "limit: expected 1 to 100";
    u->limit = limit;
    int cursor = uri_find(query, "cursor", u->next, sizeof u->next);
    if (cursor != -2 && (cursor < 0 || !key_label_is_valid(u->next)))
        return "cursor: expected the next_cursor of a page before";
    int given = uri_find(query, "key", a->call.key, sizeof a->call.key);
    if (given == -1 || (given > 0 && !key_label_is_valid(a->call.key)))
        return "key: expected a label, 1-64 characters of [A-Za-z0-9._@-]";
    u->all = given == -2 && admin;
    if (given == -2)
        (void)snprintf(a->call.key, sizeof a->call.key, "%s", routes_key_label(req));
    *ret_forbidden = !admin && strcmp(a->call.key, routes_key_label(req)) != 0;
    return NULL;
}

void usage_on_get(struct front *f, struct http_request *req, const struct http_text *params)
{
    bool forbidden = false;
    struct ask *a = calloc(1, sizeof *a);
    (void)params;
    const char *fault = a ? take_query(req, a, &forbidden) : NULL;
    if (fault) {
        answer_error(req, &(struct answer_error){400, "bad_request", 0, NULL}, "%s", fault);
    } else if (forbidden) {
        answer_error(req, &(struct answer_error){403, "forbidden", 0, NULL},
                     "another key's usage needs the scope admin");
    } else if (a) {
        a->owner = (struct request_owner){.on_gone = on_gone, .on_end = on_end};
        a->text.cap = ANSWER_BYTES_MAX;
        a->call.verb = STORE_GET_USAGE;
        a->call.usages = &a->usages;
        a->call.on_done = on_read;
        a->call.fd = -1;
        a->waiting = store_submit(&f->mailbox, &a->call) == 0;
        if (a->waiting) {
            a->req = req;
            *http_data(req) = &a->owner;
            return;
        }
    }
    free(a);
    if (!fault && !forbidden)
        answer_error(req, &(struct answer_error){503, "busy", RETRY_MS, NULL},
                     "too much is being stored at the moment");
}
