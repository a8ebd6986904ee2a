/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/engine_companions - sessions and terminals: what lives beside a namespace's runs.
 *
 * A companion is a struct ns with a parent: it has a queue, a slot and runs as any other, under a
 * name that no client can give a namespace (there is a '/' in it). Its zygote is born into the
 * kernel namespaces of its parent's, so that one comes first, is not evicted while there are
 * companions, and takes them along when it ends. It is of the same box: a run that needs another
 * replaces the parent's zygote, as always, and so ends what is beside it.
 *
 * Starting one and ending it again costs 10 ms of processor time, all in all, and a client needs
 * two requests for it. So starts are paced: a namespace has STARTS_BURST at once and then
 * STARTS_PER_S, a key (all clients together where there are no keys) KEY_BURST at once and then
 * KEY_PER_S for each processor. Who has had them waits in the queue, as for a zygote; others'
 * starts come in between.
 *
 * A parent is not freed while it has companions (companion_count); a companion leaves it when it is
 * freed itself (ns_drop_if_unused).
 */
#include "lib/clock.h"
#include "lib/log.h"
#include "supervisor/engine.h"
#include <inttypes.h>

#define RETRY_AFTER_MS 1000u
#define STARTS_PER_S 8u
#define STARTS_BURST 16u
#define KEY_PER_S 16u /* for each processor */
#define KEY_BURST 64u

static const char home_ended[] = "it ended with the zygote of its namespace";

static const struct settings_companions *limits_of(const struct engine *e,
                                                   enum proto_companion kind)
{
    return kind == PROTO_COMPANION_SESSION ? &e->set.sessions : &e->set.terminals;
}

const char *companion_name(const struct ns *c)
{
    return strrchr(c->id, '/') + 1;
}

static void name_companion(char id[NS_NAME_ROOM], const char *ns_id, enum proto_companion kind,
                           const char *session)
{
    (void)snprintf(id, NS_NAME_ROOM, "%s/%s/%s", ns_id, proto_companion_name(kind), session);
}

/* On its way out, and nobody waits for what comes after it. */
static bool is_leaving(const struct ns *c)
{
    return c->slot && (c->slot->state == SLOT_DYING || c->over) && TAILQ_EMPTY(&c->queue);
}

/* ---- coming and going --------------------------------------------------------------------------
 */

static const char *find_no_room(const struct engine *e, const struct ns *parent,
                                enum proto_companion kind, const char *key)
{
    static char text[96];
    const struct settings_companions *most = limits_of(e, kind);
    const struct ns *c;
    size_t beside = 0, of_key = 0;
    TAILQ_FOREACH(c, &e->companions, in_companions)
    {
        beside += c->parent == parent && c->companion == kind && !is_leaving(c);
        of_key += c->companion == kind && *key && strcmp(c->key, key) == 0;
    }
    if (beside >= most->per_namespace) {
        (void)snprintf(text, sizeof text, "the namespace has %zu %ss, as many as it may", beside,
                       proto_companion_name(kind));
        return text;
    }
    if (most->max == 0) {
        (void)snprintf(text, sizeof text, "there are no %ss here", proto_companion_name(kind));
        return text;
    }
    if (of_key >= (most->max + 1) / 2 || e->companion_count[kind] >= most->max) {
        (void)snprintf(text, sizeof text, "there are too many %ss at the moment",
                       proto_companion_name(kind));
        return text;
    }
    /* Whoever has companions keeps its zygote: others need places, too. */
    if (!(parent && parent->companion_count) && e->pinned_count >= (e->set.active_max + 1) / 2)
        return "too many namespaces have sessions or terminals at the moment";
    return NULL;
}

struct ns *companion_new(struct ns *parent, enum proto_companion kind, const char *session)
{
    struct engine *e = parent->engine;
    char id[NS_NAME_ROOM];
    name_companion(id, parent->id, kind, session);
    struct ns *c = ns_get(e, id);
    if (!c)
        return NULL;
    c->parent = parent;
    c->companion = kind;
    c->born_ns = clock_now_ns();
    e->companion_count[kind]++;
    e->pinned_count += parent->companion_count++ == 0;
    ns_leave_idle(parent);
    TAILQ_INSERT_TAIL(&e->companions, c, in_companions);
    return c;
}

struct ns *companion_get(struct engine *e, const struct proto_execute *exec, const char *key,
                         enum proto_outcome *ret_outcome, const char **ret_text)
{
    char id[NS_NAME_ROOM];
    name_companion(id, exec->ns_id, exec->companion, exec->session);
    struct ns *parent = ns_find(e, exec->ns_id), *c = ns_find(e, id);
    if (c && !is_leaving(c)) {
        if (exec->companion == PROTO_COMPANION_SESSION)
            return c;
        *ret_outcome = PROTO_BAD_REQUEST;
        *ret_text = "a terminal of that name is there";
        return NULL;
    }
    const char *no_room = find_no_room(e, parent, exec->companion, key);
    if (no_room) {
        *ret_outcome = PROTO_TOO_MANY;
        *ret_text = no_room;
        return NULL;
    }
    if (!c) {
        if (!parent && !(parent = ns_get(e, exec->ns_id)))
            return NULL;
        c = companion_new(parent, exec->companion, exec->session);
        if (!c)
            ns_drop_if_unused(parent);
    }
    if (c) /* also of one that leaves: its successor is this key's */
        (void)snprintf(c->key, sizeof c->key, "%s", key);
    return c;
}

void companion_leave(struct ns *c)
{
    struct engine *e = c->engine;
    TAILQ_REMOVE(&e->companions, c, in_companions);
    e->companion_count[c->companion]--;
    e->pinned_count -= --c->parent->companion_count == 0;
}

/* ---- beside its parent's zygote ----------------------------------------------------------------
 */

static struct ns *find_waiting(const struct ns *parent, bool (*fits)(const struct ns *c))
{
    struct ns *c;
    TAILQ_FOREACH(c, &parent->engine->companions, in_companions)
    if (c->parent == parent && !c->slot && !TAILQ_EMPTY(&c->queue) && (!fits || fits(c)))
        return c;
    return NULL;
}

const struct run *companions_find_run(const struct ns *parent)
{
    const struct ns *c = parent->companion_count ? find_waiting(parent, NULL) : NULL;
    return c ? TAILQ_FIRST(&c->queue) : NULL;
}

static bool needs_another_home(const struct ns *c)
{
    const struct run *run = TAILQ_FIRST(&c->queue);
    return c->engine->policies->plans[run->policy].box != c->parent->slot->box || !probe_lets(run);
}

static bool can_join(const struct ns *c)
{
    const struct slot *home = c->parent->slot;
    return !c->slot && !TAILQ_EMPTY(&c->queue) && home && home->greeted &&
           home->state != SLOT_DYING && !c->parent->removing && !needs_another_home(c);
}

/* A bucket is one number, the time at which it is full again, as keys' are (keys/set.c). */
static uint64_t *key_bucket(const struct ns *c)
{
    uint64_t hash = c->engine->hash_seed;
    for (const char *p = c->key; *p; p++)
        hash = (hash ^ (unsigned char)*p) * 1099511628211ull;
    return &c->engine->companion_starts_ns[(hash ^ (hash >> 29)) % ENGINE_KEY_BUCKETS];
}

static uint64_t key_interval_ns(const struct engine *e)
{
    return CLOCK_NS_PER_S / (KEY_PER_S * (e->cpu_count ? e->cpu_count : 1));
}

static uint64_t when_full(uint64_t full_ns, uint64_t now)
{
    return full_ns > now ? full_ns : now;
}

/* When the bucket has one; now or earlier: it has. */
static uint64_t when_it_has(uint64_t full_ns, uint64_t interval_ns, unsigned burst, uint64_t now)
{
    uint64_t taken = when_full(full_ns, now) + interval_ns, room = burst * interval_ns;
    return taken > room ? taken - room : 0;
}

static uint64_t when_it_may(const struct ns *c, uint64_t now)
{
    const uint64_t interval_ns = CLOCK_NS_PER_S / STARTS_PER_S;
    uint64_t own = when_it_has(c->parent->starts_ns, interval_ns, STARTS_BURST, now),
             key = when_it_has(*key_bucket(c), key_interval_ns(c->engine), KEY_BURST, now);
    return *c->parent->id == '.' ? 0 : own > key ? own : key; /* the probe's has no bucket */
}

/* Takes from its buckets. */
static void start(struct ns *c, uint64_t now)
{
    uint64_t *key = key_bucket(c);
    c->parent->starts_ns = when_full(c->parent->starts_ns, now) + CLOCK_NS_PER_S / STARTS_PER_S;
    *key = when_full(*key, now) + key_interval_ns(c->engine);
    if (slot_join(c, c->parent->slot, TAILQ_FIRST(&c->queue)->policy))
        return;
    ns_fail_queue(c, PROTO_ACTIVATION_FAILED, "no zygote could be started");
    ns_drop_if_unused(c);
}

/* The first that may be started, of this parent or (NULL) any; *ret_when: when the next one may. */
static struct ns *find_startable(struct engine *e, const struct ns *parent, uint64_t now,
                                 uint64_t *ret_when)
{
    struct ns *c;
    *ret_when = UINT64_MAX;
    TAILQ_FOREACH(c, &e->companions, in_companions)
    {
        if ((parent && c->parent != parent) || !can_join(c))
            continue;
        uint64_t when = when_it_may(c, now);
        if (when <= now)
            return c;
        *ret_when = when < *ret_when ? when : *ret_when;
    }
    return NULL;
}

static void start_all(struct engine *e, const struct ns *parent)
{
    uint64_t now = clock_now_ns(), when;
    for (struct ns *c; (c = find_startable(e, parent, now, &when));)
        start(c, now);
    if (when != UINT64_MAX && (!e->companion_start.slot || when < e->companion_start.due_ns))
        (void)loop_timer_set(&e->loop, &e->companion_start, when);
}

static void on_start_due(struct loop_timer *t)
{
    start_all(CONTAINER_OF(t, struct engine, companion_start), NULL);
}

void companions_init(struct engine *e)
{
    TAILQ_INIT(&e->companions);
    e->companion_start.on_due = on_start_due;
}

void companions_serve(struct ns *parent)
{
    struct slot *home = parent->slot;
    if (!parent->companion_count || !home || !home->greeted || home->state == SLOT_DYING ||
        parent->removing)
        return;
    start_all(parent->engine, parent);
    if (find_waiting(parent, needs_another_home) && home->state == SLOT_READY) {
        parent->engine->total.replaced++;
        slot_end(home); /* the next one is of the kind that they need */
    }
}

void companions_fail(struct ns *parent, enum proto_outcome outcome, const char *text)
{
    struct ns *c;
    parent->held = true;
    while (parent->companion_count && (c = find_waiting(parent, NULL))) {
        ns_fail_queue(c, outcome, text);
        ns_drop_if_unused(c);
    }
    parent->held = false;
}

void companions_end(struct ns *parent, const char *cancelled)
{
    struct ns *c;
    TAILQ_FOREACH(c, &parent->engine->companions, in_companions)
    if (c->parent == parent && c->slot)
        slot_abandon(c->slot, cancelled ? cancelled : home_ended, cancelled != NULL);
}

bool companions_are_busy(const struct ns *parent)
{
    const struct ns *c;
    TAILQ_FOREACH(c, &parent->engine->companions, in_companions)
    if (c->parent == parent &&
        (!TAILQ_EMPTY(&c->queue) || (c->running && c->companion == PROTO_COMPANION_SESSION)))
        return true;
    return false;
}

void companions_end_terminals(struct engine *e, const char *cancelled)
{
    struct ns *c;
    TAILQ_FOREACH(c, &e->companions, in_companions)
    if (c->companion == PROTO_COMPANION_TERMINAL && c->slot)
        slot_abandon(c->slot, cancelled, true);
}

void companions_sweep(struct engine *e, uint64_t now)
{
    const uint64_t idle_ns = e->set.sessions.idle_ms * CLOCK_NS_PER_MS;
    struct ns *c;
    TAILQ_FOREACH(c, &e->companions, in_companions)
    if (c->companion == PROTO_COMPANION_SESSION && c->slot && c->slot->state == SLOT_READY &&
        TAILQ_EMPTY(&c->queue) && now - c->idle_since_ns > idle_ns) {
        LOG(INFO, "session_idle", F_STR("ns", c->id));
        slot_end(c->slot);
    }
}

/* ---- what clients ask --------------------------------------------------------------------------
 */

void companions_answer_list(struct client *client, const struct proto_msg *request)
{
    static struct proto_session_entry entries[2 * PROTO_SESSIONS_MAX];
    const struct engine *e = client->engine;
    const enum proto_companion kind = request->session_list_request.companion;
    const struct ns *parent = ns_find(client->engine, request->session_list_request.ns_id), *c;
    struct proto_msg msg = {.type = PROTO_SESSION_LIST, .tag = request->tag};
    uint64_t now = clock_now_ns();
    size_t n = 0;
    TAILQ_FOREACH(c, &e->companions, in_companions)
    {
        bool idle = !c->running && TAILQ_EMPTY(&c->queue);
        if (c->parent != parent || (kind && c->companion != kind) || is_leaving(c) ||
            n == ARRAY_LEN(entries))
            continue;
        entries[n++] = (struct proto_session_entry){
            .session = companion_name(c),
            .companion = c->companion,
            .busy = c->running != NULL,
            .queued = (uint32_t)c->queued,
            .idle_ms = idle && c->idle_since_ns ? (now - c->idle_since_ns) / CLOCK_NS_PER_MS : 0,
            .age_ms = (now - c->born_ns) / CLOCK_NS_PER_MS};
    }
    msg.session_list.entries = entries;
    msg.session_list.count = n;
    client_send(client, &msg);
}

void companions_close(struct client *client, const struct proto_msg *request)
{
    static const char closed[] = "it was closed";
    struct engine *e = client->engine;
    char id[NS_NAME_ROOM];
    struct proto_msg msg = {.type = PROTO_DONE, .tag = request->tag};
    name_companion(id, request->session_close.ns_id, request->session_close.companion,
                   request->session_close.session);
    struct ns *c = ns_find(e, id);
    msg.done.text = "";
    if (!c || is_leaving(c)) {
        msg.done.outcome = PROTO_NOT_FOUND;
        msg.done.text = "there is none of that name";
    } else if (c->slot && c->slot->state != SLOT_DYING) {
        slot_abandon(c->slot, closed, true);
    } else { /* it waits for its parent's zygote, or for the end of the one before it */
        ns_cancel_queue(c, closed);
        ns_drop_if_unused(c);
    }
    client_send(client, &msg);
}
