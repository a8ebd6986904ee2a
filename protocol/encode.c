/* SPDX-License-Identifier: Apache-2.0 */
/* protocol/encode - plain structs to protobuf bytes. Runs in every process that speaks the
 * protocol; its input is our own, so a value that does not fit is a bug of the caller and an error,
 * not a truncation. The generated structs live on the stack and point into the caller's memory;
 * nothing is copied before the one packing. Runs are in run.c, Hello in hello.c.
 */
#include "lib/err.h"
#include "protocol/wire.h"

ssize_t wire_pack(const ProtobufCMessage *m, size_t head, char *scratch, size_t room, char **ret,
                  struct err *err)
{
    size_t len = protobuf_c_message_get_packed_size(m);
    if (len > PROTO_MESSAGE_BYTES_MAX)
        return err_set(err, "message of %zu bytes, allowed are %u", len, PROTO_MESSAGE_BYTES_MAX);
    *ret = head + len <= room ? scratch : malloc(head + len);
    if (!*ret) {
        errno = ENOMEM;
        return err_sys(err, "encode a message");
    }
    return (ssize_t)protobuf_c_message_pack(m, (uint8_t *)*ret + head);
}

ProtobufCBinaryData wire_bytes(const char *text, size_t len)
{
    return (ProtobufCBinaryData){.len = len, .data = (uint8_t *)(uintptr_t)text};
}

static ssize_t encode_stats(const struct proto_msg *msg, size_t head, char *scratch, size_t room,
                            char **ret, struct err *err)
{
    size_t n = msg->stats.count;
    auto_free Brood__Wire__StatsEntry *entries = calloc(n + 1, sizeof *entries);
    auto_free Brood__Wire__StatsEntry **list = calloc(n + 1, sizeof(Brood__Wire__StatsEntry *));
    Brood__Wire__Stats m;
    brood__wire__stats__init(&m);
    if (!entries || !list)
        return err_set(err, "out of memory");
    for (size_t i = 0; i < n; i++) {
        brood__wire__stats_entry__init(&entries[i]);
        entries[i].name = WIRE_TEXT(msg->stats.entries[i].name);
        entries[i].value = msg->stats.entries[i].value;
        list[i] = &entries[i];
    }
    m.tag = msg->tag;
    m.n_entries = n;
    m.entries = list;
    return wire_pack(&m.base, head, scratch, room, ret, err);
}

static ssize_t encode_ns_list(const struct proto_msg *msg, size_t head, char *scratch, size_t room,
                              char **ret, struct err *err)
{
    size_t n = msg->ns_list.count;
    auto_free Brood__Wire__NamespaceEntry *entries = calloc(n + 1, sizeof *entries);
    auto_free Brood__Wire__NamespaceEntry **list =
        calloc(n + 1, sizeof(Brood__Wire__NamespaceEntry *));
    Brood__Wire__NamespaceList m;
    brood__wire__namespace_list__init(&m);
    if (!entries || !list)
        return err_set(err, "out of memory");
    for (size_t i = 0; i < n; i++) {
        brood__wire__namespace_entry__init(&entries[i]);
        entries[i].namespace_id = WIRE_TEXT(msg->ns_list.entries[i].ns_id);
        entries[i].active = msg->ns_list.entries[i].active;
        entries[i].queued = msg->ns_list.entries[i].queued;
        list[i] = &entries[i];
    }
    m.tag = msg->tag;
    m.n_entries = n;
    m.entries = list;
    m.more = msg->ns_list.more;
    return wire_pack(&m.base, head, scratch, room, ret, err);
}

static ssize_t encode_session_list(const struct proto_msg *msg, size_t head, char *scratch,
                                   size_t room, char **ret, struct err *err)
{
    size_t n = msg->session_list.count;
    Brood__Wire__SessionEntry entries[2 * PROTO_SESSIONS_MAX], *list[2 * PROTO_SESSIONS_MAX];
    Brood__Wire__SessionList m;
    brood__wire__session_list__init(&m);
    if (n > ARRAY_LEN(entries))
        return err_set(err, "%zu sessions, allowed are %zu", n, ARRAY_LEN(entries));
    for (size_t i = 0; i < n; i++) {
        const struct proto_session_entry *from = &msg->session_list.entries[i];
        brood__wire__session_entry__init(&entries[i]);
        entries[i].session = WIRE_TEXT(from->session);
        entries[i].companion = from->companion;
        entries[i].busy = from->busy;
        entries[i].queued = from->queued;
        entries[i].idle_ms = from->idle_ms;
        entries[i].age_ms = from->age_ms;
        list[i] = &entries[i];
    }
    m.tag = msg->tag;
    m.n_entries = n;
    m.entries = list;
    return wire_pack(&m.base, head, scratch, room, ret, err);
}

ssize_t encode(const struct proto_msg *msg, size_t head, char *scratch, size_t room, char **ret,
               struct err *err)
{
    switch (msg->type) {
    case PROTO_HELLO:
        return wire_encode_hello(msg, head, scratch, room, ret, err);
    case PROTO_EXECUTE:
        return wire_encode_execute(msg, head, scratch, room, ret, err);
    case PROTO_RESULT:
        return wire_encode_result(msg, head, scratch, room, ret, err);
    case PROTO_STATS:
        return encode_stats(msg, head, scratch, room, ret, err);
    case PROTO_NS_LIST:
        return encode_ns_list(msg, head, scratch, room, ret, err);
    case PROTO_SESSION_LIST:
        return encode_session_list(msg, head, scratch, room, ret, err);
    case PROTO_SESSION_LIST_REQUEST: {
        Brood__Wire__SessionListRequest m;
        brood__wire__session_list_request__init(&m);
        m.tag = msg->tag;
        m.namespace_id = WIRE_TEXT(msg->session_list_request.ns_id);
        m.companion = msg->session_list_request.companion;
        return wire_pack(&m.base, head, scratch, room, ret, err);
    }
    case PROTO_SESSION_CLOSE: {
        Brood__Wire__SessionClose m;
        brood__wire__session_close__init(&m);
        m.tag = msg->tag;
        m.namespace_id = WIRE_TEXT(msg->session_close.ns_id);
        m.session = WIRE_TEXT(msg->session_close.session);
        m.companion = msg->session_close.companion;
        return wire_pack(&m.base, head, scratch, room, ret, err);
    }
    case PROTO_CANCEL: {
        Brood__Wire__Cancel m;
        brood__wire__cancel__init(&m);
        m.tag = msg->tag;
        return wire_pack(&m.base, head, scratch, room, ret, err);
    }
    case PROTO_SIGNAL: {
        Brood__Wire__Signal m;
        brood__wire__signal__init(&m);
        m.tag = msg->tag;
        m.signal = (uint32_t)msg->signal;
        return wire_pack(&m.base, head, scratch, room, ret, err);
    }
    case PROTO_STATS_REQUEST: {
        Brood__Wire__StatsRequest m;
        brood__wire__stats_request__init(&m);
        m.tag = msg->tag;
        return wire_pack(&m.base, head, scratch, room, ret, err);
    }
    case PROTO_NS_LIST_REQUEST: {
        Brood__Wire__NamespaceListRequest m;
        brood__wire__namespace_list_request__init(&m);
        m.tag = msg->tag;
        m.after = WIRE_TEXT(msg->ns_list_request.after);
        m.limit = msg->ns_list_request.limit;
        return wire_pack(&m.base, head, scratch, room, ret, err);
    }
    case PROTO_NS_REMOVE: {
        Brood__Wire__NamespaceRemove m;
        brood__wire__namespace_remove__init(&m);
        m.tag = msg->tag;
        m.namespace_id = WIRE_TEXT(msg->ns_remove.ns_id);
        return wire_pack(&m.base, head, scratch, room, ret, err);
    }
    case PROTO_POLICY_REQUEST: {
        Brood__Wire__PolicyRequest m;
        brood__wire__policy_request__init(&m);
        m.tag = msg->tag;
        m.name = WIRE_TEXT(msg->policy_request.name);
        return wire_pack(&m.base, head, scratch, room, ret, err);
    }
    case PROTO_WAITING: {
        Brood__Wire__Waiting m;
        brood__wire__waiting__init(&m);
        m.tag = msg->tag;
        m.waiting = msg->waiting;
        m.output_bytes_max = msg->output_bytes_max;
        return wire_pack(&m.base, head, scratch, room, ret, err);
    }
    case PROTO_DONE: {
        Brood__Wire__Done m;
        brood__wire__done__init(&m);
        m.tag = msg->tag;
        m.outcome = msg->done.outcome;
        m.text = WIRE_TEXT(msg->done.text);
        return wire_pack(&m.base, head, scratch, room, ret, err);
    }
    }
    return err_set(err, "no such message type: %d", (int)msg->type);
}
