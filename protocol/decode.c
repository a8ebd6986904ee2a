/* SPDX-License-Identifier: Apache-2.0 */
/* protocol/decode - protobuf bytes to plain structs: the door at which foreign bytes are checked,
 * once.
 *
 * Runs in the engine (bytes of frontend, CLI, anyone at the socket) and in clients. All memory
 * comes from the caller's capped arena, so the cap is the limit of a hostile message; no message
 * type is recursive, so the generated decoder's recursion is bounded (INGREDIENTS.md). Text with a
 * NUL, a count or length beyond its limit, an unknown enumerator: -EPROTO with the field's name.
 * Here are the walk over the wire and the short messages; runs are in run.c, Hello in hello.c.
 */
#include "lib/arena.h"
#include "lib/err.h"
#include "protocol/wire.h"
#include <stdarg.h>

static void *arena_take(void *data, size_t size)
{
    return arena_alloc(data, size);
}

static void arena_ignore(void *data, void *pointer)
{
    (void)data;
    (void)pointer;
}

int wire_bad(struct err *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    return err->code = -EPROTO;
}

static bool read_varint(const uint8_t **at, const uint8_t *end, uint64_t *ret)
{
    *ret = 0;
    for (unsigned shift = 0; shift < 64 && *at < end; shift += 7) {
        uint8_t byte = *(*at)++;
        *ret |= (uint64_t)(byte & 127) << shift;
        if (!(byte & 128))
            return true;
    }
    return false;
}

/* No text or byte field of ours may hold a NUL, and the generated struct keeps no length of a
 * string: what follows a NUL in one would be hidden, not refused. So the wire is walked once before
 * it is decoded, never more leniently than the generated decoder does it. As deep as the types nest
 * (three). */
static int check_text(const ProtobufCMessageDescriptor *d, const uint8_t *at, const uint8_t *end,
                      struct err *err)
{
    static const uint64_t fixed[8] = {[1] = 8, [5] = 4};
    while (at < end) {
        uint64_t key, len;
        if (!read_varint(&at, end, &key) || key > UINT32_MAX)
            return wire_bad(err, "not a valid message of its type");
        unsigned kind = key & 7;
        len = fixed[kind];
        if (kind == 3 || kind == 4 || kind > 5 ||
            (kind <= 2 && kind != 1 && !read_varint(&at, end, &len)))
            return wire_bad(err, "not a valid message of its type");
        if (kind == 0)
            continue;
        if (len > (size_t)(end - at))
            return wire_bad(err, "not a valid message of its type");
        const ProtobufCFieldDescriptor *f =
            kind == 2 ? protobuf_c_message_descriptor_get_field(d, (unsigned)(key >> 3)) : NULL;
        if (f && f->type == PROTOBUF_C_TYPE_MESSAGE) {
            if (check_text(f->descriptor, at, at + len, err) < 0)
                return err->code;
        } else if (f && memchr(at, 0, len)) {
            return wire_bad(err, "%s: holds a NUL byte", f->name);
        }
        at += len;
    }
    return 0;
}

const char *wire_text(const ProtobufCBinaryData *b, struct arena *arena)
{
    return arena_strndup(arena, b->len ? (const char *)b->data : "", b->len);
}

int wire_check_ns_id(const char *id, struct err *err)
{
    if (proto_ns_id_is_valid(id, strlen(id)))
        return 0;
    return wire_bad(
        err, "namespace_id: expected 1-%u characters of [A-Za-z0-9._-], not starting with . or -",
        PROTO_NS_ID_MAX);
}

int wire_check_session(const char *name, uint32_t companion, struct err *err)
{
    if (companion == PROTO_COMPANION_NONE || companion >= PROTO_COMPANIONS)
        return wire_bad(err, "companion: unknown");
    if (proto_session_is_valid(name, strlen(name)))
        return 0;
    return wire_bad(err, "session: expected 1-%u characters of [A-Za-z0-9._-]", PROTO_SESSION_MAX);
}

static int take_stats(const Brood__Wire__Stats *m, struct arena *arena, struct proto_msg *ret,
                      struct err *err)
{
    if (m->n_entries > PROTO_LIST_MAX)
        return wire_bad(err, "stats: %zu entries, allowed are %u", m->n_entries, PROTO_LIST_MAX);
    struct proto_stat *entries = arena_alloc(arena, (m->n_entries + 1) * sizeof *entries);
    ret->tag = m->tag;
    for (size_t i = 0; entries && i < m->n_entries; i++)
        entries[i] = (struct proto_stat){m->entries[i]->name, m->entries[i]->value};
    ret->stats.entries = entries;
    ret->stats.count = m->n_entries;
    return 0;
}

static int take_ns_list(const Brood__Wire__NamespaceList *m, struct arena *arena,
                        struct proto_msg *ret, struct err *err)
{
    if (m->n_entries > PROTO_LIST_MAX)
        return wire_bad(err, "list: %zu entries, allowed are %u", m->n_entries, PROTO_LIST_MAX);
    struct proto_ns_entry *entries = arena_alloc(arena, (m->n_entries + 1) * sizeof *entries);
    ret->tag = m->tag;
    for (size_t i = 0; entries && i < m->n_entries; i++) {
        if (wire_check_ns_id(m->entries[i]->namespace_id, err) < 0)
            return err->code;
        entries[i] = (struct proto_ns_entry){m->entries[i]->namespace_id, m->entries[i]->active,
                                             m->entries[i]->queued};
    }
    ret->ns_list.entries = entries;
    ret->ns_list.count = m->n_entries;
    ret->ns_list.more = m->more;
    return 0;
}

static int take_session_list(const Brood__Wire__SessionList *m, struct arena *arena,
                             struct proto_msg *ret, struct err *err)
{
    if (m->n_entries > 2 * PROTO_SESSIONS_MAX)
        return wire_bad(err, "sessions: %zu entries, allowed are %u", m->n_entries,
                        2 * PROTO_SESSIONS_MAX);
    struct proto_session_entry *entries = arena_alloc(arena, (m->n_entries + 1) * sizeof *entries);
    ret->tag = m->tag;
    for (size_t i = 0; entries && i < m->n_entries; i++) {
        const Brood__Wire__SessionEntry *from = m->entries[i];
        if (wire_check_session(from->session, from->companion, err) < 0)
            return err->code;
        entries[i] =
            (struct proto_session_entry){.session = from->session,
                                         .companion = (enum proto_companion)from->companion,
                                         .busy = from->busy,
                                         .queued = from->queued,
                                         .idle_ms = from->idle_ms,
                                         .age_ms = from->age_ms};
    }
    ret->session_list.entries = entries;
    ret->session_list.count = m->n_entries;
    return 0;
}

static int take_signal(const Brood__Wire__Signal *m, struct proto_msg *ret, struct err *err)
{
    const char *name = m->signal < 65 ? sigabbrev_np((int)m->signal) : NULL;
    ret->tag = m->tag;
    ret->signal = name ? proto_signal_find(name) : 0;
    return ret->signal ? 0 : wire_bad(err, "signal: not one that may be sent to a run");
}

static const ProtobufCMessageDescriptor *descriptor_of(enum proto_type type)
{
    switch (type) {
    case PROTO_HELLO:
        return &brood__wire__hello__descriptor;
    case PROTO_EXECUTE:
        return &brood__wire__execute__descriptor;
    case PROTO_CANCEL:
        return &brood__wire__cancel__descriptor;
    case PROTO_RESULT:
        return &brood__wire__result__descriptor;
    case PROTO_STATS_REQUEST:
        return &brood__wire__stats_request__descriptor;
    case PROTO_STATS:
        return &brood__wire__stats__descriptor;
    case PROTO_NS_LIST_REQUEST:
        return &brood__wire__namespace_list_request__descriptor;
    case PROTO_NS_LIST:
        return &brood__wire__namespace_list__descriptor;
    case PROTO_NS_REMOVE:
        return &brood__wire__namespace_remove__descriptor;
    case PROTO_DONE:
        return &brood__wire__done__descriptor;
    case PROTO_POLICY_REQUEST:
        return &brood__wire__policy_request__descriptor;
    case PROTO_WAITING:
        return &brood__wire__waiting__descriptor;
    case PROTO_SESSION_LIST_REQUEST:
        return &brood__wire__session_list_request__descriptor;
    case PROTO_SESSION_LIST:
        return &brood__wire__session_list__descriptor;
    case PROTO_SESSION_CLOSE:
        return &brood__wire__session_close__descriptor;
    case PROTO_SIGNAL:
        return &brood__wire__signal__descriptor;
    }
    return NULL;
}

static int take(enum proto_type type, const void *m, struct arena *arena, struct proto_msg *ret,
                struct err *err)
{
    switch (type) {
    case PROTO_HELLO:
        return wire_take_hello(m, arena, ret, err);
    case PROTO_EXECUTE:
        return wire_take_execute(m, arena, ret, err);
    case PROTO_RESULT:
        return wire_take_result(m, ret, err);
    case PROTO_STATS:
        return take_stats(m, arena, ret, err);
    case PROTO_NS_LIST:
        return take_ns_list(m, arena, ret, err);
    case PROTO_CANCEL:
        ret->tag = ((const Brood__Wire__Cancel *)m)->tag;
        return 0;
    case PROTO_STATS_REQUEST:
        ret->tag = ((const Brood__Wire__StatsRequest *)m)->tag;
        return 0;
    case PROTO_NS_LIST_REQUEST: {
        const Brood__Wire__NamespaceListRequest *r = m;
        ret->tag = r->tag;
        ret->ns_list_request.after = r->after;
        ret->ns_list_request.limit = r->limit;
        return strlen(r->after) <= PROTO_NS_ID_MAX
                   ? 0
                   : wire_bad(err, "after: longer than a namespace_id");
    }
    case PROTO_NS_REMOVE: {
        const Brood__Wire__NamespaceRemove *r = m;
        ret->tag = r->tag;
        ret->ns_remove.ns_id = r->namespace_id;
        return wire_check_ns_id(r->namespace_id, err);
    }
    case PROTO_POLICY_REQUEST: {
        const Brood__Wire__PolicyRequest *r = m;
        ret->tag = r->tag;
        ret->policy_request.name = r->name;
        return strlen(r->name) <= PROTO_POLICY_NAME_MAX
                   ? 0
                   : wire_bad(err, "name: longer than %u bytes", PROTO_POLICY_NAME_MAX);
    }
    case PROTO_SESSION_LIST:
        return take_session_list(m, arena, ret, err);
    case PROTO_SESSION_LIST_REQUEST: {
        const Brood__Wire__SessionListRequest *r = m;
        ret->tag = r->tag;
        ret->session_list_request.ns_id = r->namespace_id;
        ret->session_list_request.companion = (enum proto_companion)r->companion;
        return r->companion >= PROTO_COMPANIONS ? wire_bad(err, "companion: unknown")
                                                : wire_check_ns_id(r->namespace_id, err);
    }
    case PROTO_SESSION_CLOSE: {
        const Brood__Wire__SessionClose *c = m;
        ret->tag = c->tag;
        ret->session_close.ns_id = c->namespace_id;
        ret->session_close.session = c->session;
        ret->session_close.companion = (enum proto_companion)c->companion;
        int r = wire_check_session(c->session, c->companion, err);
        return r < 0 ? r : wire_check_ns_id(c->namespace_id, err);
    }
    case PROTO_WAITING:
        ret->tag = ((const Brood__Wire__Waiting *)m)->tag;
        ret->waiting = ((const Brood__Wire__Waiting *)m)->waiting;
        ret->output_bytes_max = ((const Brood__Wire__Waiting *)m)->output_bytes_max;
        return 0;
    case PROTO_SIGNAL:
        return take_signal(m, ret, err);
    case PROTO_DONE: {
        const Brood__Wire__Done *d = m;
        ret->tag = d->tag;
        ret->done.outcome = (enum proto_outcome)d->outcome;
        ret->done.text = d->text;
        return d->outcome < PROTO_OUTCOMES ? 0 : wire_bad(err, "done: unknown outcome");
    }
    }
    return wire_bad(err, "unknown message type");
}

int proto_decode(enum proto_type type, const void *bytes, size_t len, struct arena *arena,
                 struct proto_msg *ret, struct err *err)
{
    ProtobufCAllocator allocator = {arena_take, arena_ignore, arena};
    const ProtobufCMessageDescriptor *descriptor = descriptor_of(type);
    if (!descriptor)
        return wire_bad(err, "unknown message type %d", (int)type);
    if (len > PROTO_MESSAGE_BYTES_MAX)
        return wire_bad(err, "message of %zu bytes, allowed are %u", len, PROTO_MESSAGE_BYTES_MAX);
    arena_reset(arena);
    const uint8_t *wire = len ? bytes : (const void *)"";
    if (check_text(descriptor, wire, wire + len, err) < 0)
        return err->code;
    ProtobufCMessage *m = protobuf_c_message_unpack(descriptor, &allocator, len, wire);
    if (!m)
        return arena->exhausted
                   ? wire_bad(err, "message needs more than %zu bytes decoded", arena->cap)
                   : wire_bad(err, "not a valid message of its type");
    *ret = (struct proto_msg){.type = type};
    int r = take(type, m, arena, ret, err);
    if (r == 0 && arena->exhausted)
        r = wire_bad(err, "message needs more than %zu bytes decoded", arena->cap);
    return r;
}
