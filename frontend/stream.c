/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/stream - see stream.h.
 *
 * In the frontend, shared by its threads: each stream has a lock, held while an event is copied in
 * or out; the register of all streams another, which is taken behind it and held for pointers only.
 *
 * Who decides what goes:
 *   - an event that a tap has not taken stays: a slow reader stops the run, until the connection's
 *     write deadline cuts it off;
 *   - beyond that the oldest go when the ring is full: who comes too late is told of a gap;
 *   - with keeps_all only those go that a client has said to have, by coming again with the number
 *     of its last event. A reader that has taken all of a full ring is sent away, so that it does.
 *     How much lay in sockets and proxies when a connection broke does not matter then.
 * The bound of all rings together makes a ring full before its own does, and so does half of it for
 * the rings of one key whose runs go on, or that somebody reads; one that is empty always has room,
 * so each goes on by its own means. When a run has ended its pipes hold at most 64 KiB each, and
 * these are added whatever the bounds say: a run's end waits for no reader.
 */
#include "frontend/stream.h"
#include "frontend/share.h"
#include "lib/clock.h"
#include "protocol/protocol.h"
#include <stdatomic.h>

#define BUCKETS 4096u
#define READ_NEEDS                                                                                 \
    (STREAM_READ_BYTES + (STREAM_READ_BYTES / STREAM_EVENT_BYTES + 1) * sizeof(struct stream_event))
#define TEXT_MAX 250u

struct stream {
    pthread_mutex_t lock;
    atomic_uint refs;
    struct share *share; /* its key's rings of runs that go on, or are read; NULL: of no key */
    bool in_share;
    char id[STORE_ID_ROOM], key[STORE_KEY_MAX + 1];
    bool base64, keeps_all;
    struct stream_event *first, *last;
    size_t bytes;
    uint64_t next_id, said;
    bool starved; /* the run waits for room */
    bool ended;
    char code[32], text[TEXT_MAX];
    struct letterbox *box;
    struct letter *on_room; /* NULL: the run is over */
    struct stream_tap *taps;

    /* of the register, under its lock */
    bool listed, lingers;
    uint64_t ended_ns;
    struct stream *next_in_bucket;
    struct stream *older, *newer; /* of those that linger */
};

static atomic_ullong ring_max = 1u << 20, rings_max = 64u << 20, linger_ms = 60000,
                     heartbeat_ms = 15000, held;

static struct {
    pthread_mutex_t lock;
    struct stream *buckets[BUCKETS];
    struct stream *oldest, *newest; /* that linger */
} all = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct shares shares = SHARES_EMPTY;

void stream_set(const struct proto_streams *p)
{
    atomic_store(&ring_max, p->ring_bytes);
    atomic_store(&rings_max, p->rings_bytes_max);
    atomic_store(&linger_ms, p->linger_ms);
    atomic_store(&heartbeat_ms, p->heartbeat_ms);
}

uint64_t stream_heartbeat_ms(void)
{
    return atomic_load(&heartbeat_ms);
}

/* ---- the register -----------------------------------------------------------------------------
 */

/* Ids end in random characters. */
static struct stream **bucket_of(const char *id)
{
    uint32_t hash = 2166136261u;
    for (; *id; id++)
        hash = (hash ^ (unsigned char)*id) * 16777619u;
    return &all.buckets[hash % BUCKETS];
}

/* Of a stream with its lock, or that nobody else knows. */
static void count_in(struct stream *s, size_t n)
{
    atomic_fetch_add(&held, n);
    if (s->in_share)
        atomic_fetch_add(&s->share->held, n);
}

static void count_out(struct stream *s, size_t n)
{
    atomic_fetch_sub(&held, n);
    if (s->in_share)
        atomic_fetch_sub(&s->share->held, n);
}

/* When its run ends, or a reader comes or goes. */
static void settle_share(struct stream *s)
{
    bool counts = s->share && (!s->ended || s->taps);
    if (counts && !s->in_share)
        atomic_fetch_add(&s->share->held, s->bytes + sizeof *s);
    else if (s->in_share && !counts)
        atomic_fetch_sub(&s->share->held, s->bytes + sizeof *s);
    s->in_share = counts;
}

static void enlist(struct stream *s)
{
    struct stream **bucket = bucket_of(s->id);
    (void)pthread_mutex_lock(&all.lock);
    s->listed = true;
    s->next_in_bucket = *bucket;
    *bucket = s;
    (void)pthread_mutex_unlock(&all.lock);
}

/* With the register's lock; gives its reference up, which the caller drops without the lock. */
static void strike(struct stream *s)
{
    struct stream **at = bucket_of(s->id);
    while (*at != s)
        at = &(*at)->next_in_bucket;
    *at = s->next_in_bucket;
    s->listed = false;
    if (!s->lingers)
        return;
    s->lingers = false;
    *(s->older ? &s->older->newer : &all.oldest) = s->newer;
    *(s->newer ? &s->newer->older : &all.newest) = s->older;
}

/* The oldest of those that linger goes, if it ended before that time. False: there is none. */
static bool drop_oldest(uint64_t before_ns)
{
    (void)pthread_mutex_lock(&all.lock);
    struct stream *s = all.oldest;
    if (s && s->ended_ns >= before_ns)
        s = NULL;
    if (s)
        strike(s);
    (void)pthread_mutex_unlock(&all.lock);
    stream_unref(s);
    return s != NULL;
}

void stream_on_tick(void)
{
    uint64_t now = clock_now_ns(), ns = atomic_load(&linger_ms) * CLOCK_NS_PER_MS;
    while (now > ns && drop_oldest(now - ns))
        ;
}

struct stream *stream_find(const char *id, const char *key)
{
    (void)pthread_mutex_lock(&all.lock);
    struct stream *s = *bucket_of(id);
    while (s && (strcmp(s->id, id) != 0 || strcmp(s->key, key) != 0))
        s = s->next_in_bucket;
    if (s)
        atomic_fetch_add(&s->refs, 1);
    (void)pthread_mutex_unlock(&all.lock);
    return s;
}

struct stream *stream_ref(struct stream *s)
{
    atomic_fetch_add(&s->refs, 1);
    return s;
}

void stream_unref(struct stream *s)
{
    if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    for (struct stream_event *e = s->first, *next; e; e = next) {
        next = e->next;
        free(e);
    }
    count_out(s, s->bytes + sizeof *s);
    share_give(&shares, s->share);
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
}

bool stream_is_base64(const struct stream *s)
{
    return s->base64;
}

bool stream_keeps_all(const struct stream *s)
{
    return s->keeps_all;
}

/* ---- the ring ---------------------------------------------------------------------------------
 */

/* The number up to which every tap has taken. */
static uint64_t taken_by_all(const struct stream *s)
{
    uint64_t least = s->next_id - 1;
    for (const struct stream_tap *t = s->taps; t; t = t->next)
        if (!t->only_end && t->taken < least)
            least = t->taken;
    return least;
}

static uint64_t free_to_go(const struct stream *s)
{
    uint64_t taken = taken_by_all(s);
    return s->keeps_all && s->said < taken ? s->said : taken;
}

static void drop_first(struct stream *s)
{
    struct stream_event *e = s->first;
    s->first = e->next;
    if (!s->first)
        s->last = NULL;
    s->bytes -= sizeof *e + e->len;
    count_out(s, sizeof *e + e->len);
    free(e);
}

static bool fits(const struct stream *s, size_t more)
{
    uint64_t max = atomic_load(&rings_max);
    bool shared = !s->share || atomic_load(&s->share->held) + more <= max / 2;
    return s->bytes == 0 || (s->bytes + more <= atomic_load(&ring_max) &&
                             atomic_load(&held) + more <= max && shared);
}

/* Lets go what may go, as far as it must. */
static bool make_room(struct stream *s, size_t more)
{
    if (fits(s, more))
        return true;
    while (atomic_load(&held) + more > atomic_load(&rings_max) && drop_oldest(UINT64_MAX))
        ;
    uint64_t last = fits(s, more) ? 0 : free_to_go(s);
    while (!fits(s, more) && s->first && s->first->id <= last)
        drop_first(s);
    return fits(s, more);
}

static void tell_taps(struct stream *s)
{
    for (struct stream_tap *t = s->taps; t; t = t->next)
        if (!t->only_end || s->ended)
            (void)letterbox_put(t->box, &t->letter);
}

static void wake_run(struct stream *s)
{
    if (s->starved && s->on_room && make_room(s, READ_NEEDS)) {
        s->starved = false;
        (void)letterbox_put(s->box, s->on_room);
    }
}

void stream_lock(struct stream *s)
{
    (void)pthread_mutex_lock(&s->lock);
}

void stream_unlock(struct stream *s)
{
    wake_run(s);
    (void)pthread_mutex_unlock(&s->lock);
}

/* ---- the run ----------------------------------------------------------------------------------
 */

struct stream *stream_new(const struct stream_plan *plan)
{
    struct stream *s = calloc(1, sizeof *s);
    if (s && *plan->key)
        s->share = share_take(&shares, plan->key);
    if (!s || (*plan->key && !s->share)) {
        free(s);
        return NULL;
    }
    settle_share(s);
    atomic_fetch_add(&held, sizeof *s);
    while (atomic_load(&held) > atomic_load(&rings_max) && drop_oldest(UINT64_MAX))
        ;
    (void)pthread_mutex_init(&s->lock, NULL);
    (void)snprintf(s->id, sizeof s->id, "%s", plan->id);
    (void)snprintf(s->key, sizeof s->key, "%s", plan->key);
    s->base64 = plan->base64;
    s->keeps_all = plan->keeps_all;
    s->box = plan->box;
    s->on_room = plan->on_room;
    s->next_id = 1;
    atomic_store(&s->refs, *s->id ? 2 : 1); /* the run's, and the register's */
    if (*s->id)
        enlist(s);
    return s;
}

bool stream_has_room(struct stream *s)
{
    (void)pthread_mutex_lock(&s->lock);
    bool room = make_room(s, READ_NEEDS);
    s->starved = !room;
    if (!room && s->keeps_all)
        tell_taps(s); /* those that have all leave */
    (void)pthread_mutex_unlock(&s->lock);
    return room;
}

static bool append(struct stream *s, enum stream_kind kind, const char *bytes, size_t len)
{
    struct stream_event *e = malloc(sizeof *e + len);
    if (!e)
        return false;
    *e = (struct stream_event){.id = s->next_id++, .len = (uint32_t)len, .kind = kind};
    memcpy(e->bytes, bytes, len);
    *(s->last ? &s->last->next : &s->first) = e;
    s->last = e;
    s->bytes += sizeof *e + len;
    count_in(s, sizeof *e + len);
    for (struct stream_tap *t = s->taps; t; t = t->next)
        if (!t->at && !t->only_end) /* it had all that there was */
            t->at = e;
    return true;
}

bool stream_add(struct stream *s, enum stream_kind kind, const char *bytes, size_t len)
{
    bool fine = true;
    (void)pthread_mutex_lock(&s->lock);
    (void)make_room(s, len + sizeof(struct stream_event));
    for (size_t at = 0, n; at < len && fine; at += n) {
        n = len - at < STREAM_EVENT_BYTES ? len - at : STREAM_EVENT_BYTES;
        fine = append(s, kind, bytes + at, n);
    }
    tell_taps(s);
    (void)pthread_mutex_unlock(&s->lock);
    return fine;
}

uint64_t stream_next_id(struct stream *s)
{
    (void)pthread_mutex_lock(&s->lock);
    uint64_t id = s->next_id;
    (void)pthread_mutex_unlock(&s->lock);
    return id;
}

void stream_end(struct stream *s, const char *code, const char *text)
{
    if (!s)
        return;
    (void)pthread_mutex_lock(&s->lock);
    s->ended = true;
    settle_share(s);
    s->on_room = NULL;
    (void)snprintf(s->code, sizeof s->code, "%s", code ? code : "");
    (void)snprintf(s->text, sizeof s->text, "%s", text ? text : "");
    tell_taps(s);
    (void)pthread_mutex_unlock(&s->lock);
    (void)pthread_mutex_lock(&all.lock);
    if (s->listed) {
        s->lingers = true;
        s->ended_ns = clock_now_ns();
        s->newer = NULL;
        s->older = all.newest;
        *(all.newest ? &all.newest->newer : &all.oldest) = s;
        all.newest = s;
    }
    (void)pthread_mutex_unlock(&all.lock);
    stream_unref(s);
}

/* ---- who watches ------------------------------------------------------------------------------
 */

static struct stream_event *find_behind(const struct stream *s, uint64_t id)
{
    struct stream_event *e = s->first;
    while (e && e->id <= id)
        e = e->next;
    return e;
}

int stream_attach(struct stream *s, struct stream_tap *tap, uint64_t last, bool said)
{
    int r = 0;
    (void)pthread_mutex_lock(&s->lock);
    if (last >= s->next_id)
        r = s->ended && last == s->next_id ? -EALREADY : -EINVAL;
    if (r == 0) {
        if (said && last > s->said)
            s->said = last;
        tap->taken = last;
        tap->at = tap->only_end ? NULL : find_behind(s, last);
        tap->prev = NULL;
        tap->next = s->taps;
        if (s->taps)
            s->taps->prev = tap;
        s->taps = tap;
        settle_share(s);
        wake_run(s);
    }
    (void)pthread_mutex_unlock(&s->lock);
    return r;
}

void stream_detach(struct stream *s, struct stream_tap *tap)
{
    (void)pthread_mutex_lock(&s->lock);
    *(tap->prev ? &tap->prev->next : &s->taps) = tap->next;
    if (tap->next)
        tap->next->prev = tap->prev;
    settle_share(s);
    wake_run(s);
    (void)pthread_mutex_unlock(&s->lock);
    letterbox_withdraw(tap->box, &tap->letter);
}

/* Full for good, as far as those who watch are concerned: all have all, and none has said so. */
static bool is_waiting_for_word(const struct stream *s)
{
    return s->keeps_all && s->starved && taken_by_all(s) == s->next_id - 1;
}

enum stream_next stream_peek(struct stream *s, struct stream_tap *tap, uint64_t *ret_id,
                             const struct stream_event **ret_event)
{
    if (tap->at && tap->at->id > tap->taken + 1) {
        *ret_id = tap->taken = tap->at->id - 1;
        return STREAM_GAP;
    }
    if (!tap->at && tap->taken + 1 < s->next_id) { /* and nothing of it is left */
        *ret_id = tap->taken = s->next_id - 1;
        return STREAM_GAP;
    }
    *ret_event = tap->at;
    if (tap->at)
        return STREAM_EVENT;
    *ret_id = s->next_id;
    return s->ended ? STREAM_ENDED : is_waiting_for_word(s) ? STREAM_FULL : STREAM_NOTHING;
}

void stream_take(struct stream_tap *tap)
{
    tap->taken = tap->at->id;
    tap->at = tap->at->next;
}

bool stream_has_ended(struct stream *s, const char **ret_code, const char **ret_text)
{
    (void)pthread_mutex_lock(&s->lock);
    bool ended = s->ended;
    (void)pthread_mutex_unlock(&s->lock);
    *ret_code = s->code; /* written once, before */
    *ret_text = s->text;
    return ended;
}
