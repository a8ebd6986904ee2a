/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/upstream - see upstream.h.
 *
 * In the frontend, one per thread, over protocol/protocol.h only. The engine is trusted to answer
 * but not to answer sensibly: a tag that is not open, a message that only we may send or a Result
 * that never comes ends the connection, and with it this process (the supervisor starts another).
 */
#include "frontend/upstream.h"
#include "frontend/http.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/log.h"

#define SLOT_BITS 16
#define SLOTS_FIRST 64u
#define RECEIVE_MAX 32 /* messages per wake-up: other descriptors want their turn */

static void break_off(struct upstream *u, bool clean)
{
    if (u->broken)
        return;
    u->broken = true;
    u->events->on_broken(u->user, clean);
}

static bool answers(enum proto_type sent, enum proto_type reply)
{
    if (sent == PROTO_EXECUTE && reply == PROTO_WAITING)
        return true;
    if (sent == PROTO_EXECUTE)
        return reply == PROTO_RESULT;
    return reply == PROTO_DONE || (sent == PROTO_NS_LIST_REQUEST && reply == PROTO_NS_LIST) ||
           (sent == PROTO_SESSION_LIST_REQUEST && reply == PROTO_SESSION_LIST);
}

static void take_reply(struct upstream *u, const struct proto_msg *msg)
{
    size_t at = msg->tag & ((1u << SLOT_BITS) - 1);
    if (at >= u->slot_count || !u->slots[at].call || u->slots[at].tag != msg->tag ||
        !answers(u->slots[at].sent, msg->type)) {
        LOG(ERROR, "engine_bug", F_STR("what", "a message that answers no request"),
            F_I64("type", msg->type), F_U64("tag", msg->tag));
        break_off(u, false);
        return;
    }
    struct upstream_call *call = u->slots[at].call;
    if (msg->type == PROTO_WAITING) { /* the answer is still to come */
        if (call->on_waiting)
            call->on_waiting(call, msg);
        return;
    }
    u->slots[at] = (struct upstream_slot){0};
    u->open--;
    call->on_reply(call, msg);
}

/* False when there is nothing more to receive now. */
static bool receive(struct upstream *u)
{
    struct proto_msg msg;
    struct err err = {0};
    int fds[PROTO_FDS_MAX];
    size_t nfds = 0;
    int r = proto_recv(u->fd, &u->arena, &msg, fds, &nfds, &err);
    if (r == -EAGAIN || r == -EINTR)
        return false;
    if (r <= 0) {
        if (r < 0)
            LOG(ERROR, "engine_connection", F_STR("error", err.text));
        break_off(u, r == 0);
        return false;
    }
    bool fine = true;
    if (msg.type == PROTO_HELLO)
        fine = u->events->on_hello(u->user, &msg.hello, fds, nfds);
    for (size_t i = 0; i < nfds; i++)
        fd_close(&fds[i]);
    if (!fine)
        break_off(u, false);
    else if (msg.type != PROTO_HELLO)
        take_reply(u, &msg);
    return !u->broken;
}

static void on_readable(void *data)
{
    struct upstream *u = data;
    /* With nothing open nothing more is due: do not ask once more just to hear EAGAIN. */
    for (int i = 0; i < RECEIVE_MAX && receive(u) && u->open > 0; i++)
        ;
}

int upstream_init(struct upstream *u, struct http_server *server, int fd,
                  const struct upstream_events *events, void *user, struct err *err)
{
    *u = (struct upstream){.fd = fd, .events = events, .user = user};
    u->storage = malloc(PROTO_ARENA_BYTES);
    u->slots = calloc(SLOTS_FIRST, sizeof *u->slots);
    u->slot_count = SLOTS_FIRST;
    if (!u->storage || !u->slots)
        return err_set(err, "out of memory");
    arena_init(&u->arena, u->storage, PROTO_ARENA_BYTES);
    u->watch = http_watch_new(server, fd, on_readable, u);
    return u->watch ? 0 : err_set(err, "out of memory");
}

static struct upstream_slot *find_free(struct upstream *u)
{
    if (u->open < u->slot_count)
        for (size_t i = 0; i < u->slot_count; i++)
            if (!u->slots[i].call)
                return &u->slots[i];
    size_t count = u->slot_count * 2;
    if (count > 1u << SLOT_BITS)
        return NULL;
    struct upstream_slot *slots = realloc(u->slots, count * sizeof *slots);
    if (!slots)
        return NULL;
    memset(slots + u->slot_count, 0, u->slot_count * sizeof *slots);
    struct upstream_slot *slot = &slots[u->slot_count];
    u->slots = slots;
    u->slot_count = count;
    return slot;
}

/* A shortage of the moment: nothing was sent, and the connection is as it was. */
static bool is_shortage(int r)
{
    return r == -EAGAIN || r == -ENOBUFS || r == -ENOMEM || r == -ETOOMANYREFS || r == -EMFILE;
}

int upstream_send(struct upstream *u, struct proto_msg *msg, const int *fds, size_t nfds,
                  struct upstream_call *call, uint64_t due_ns, struct err *err)
{
    struct upstream_slot *slot = find_free(u);
    if (!slot)
        return -EAGAIN;
    msg->tag = ++u->generation << SLOT_BITS | (uint64_t)(slot - u->slots);
    int r = proto_send(u->fd, msg, fds, nfds, err);
    if (r < 0)
        return is_shortage(r) ? -EAGAIN : r;
    *slot =
        (struct upstream_slot){.call = call, .sent = msg->type, .tag = msg->tag, .due_ns = due_ns};
    u->open++;
    return 0;
}

int upstream_execute(struct upstream *u, struct proto_execute *execute, const int *fds, size_t nfds,
                     struct upstream_call *call, uint64_t due_ns, struct err *err)
{
    struct proto_msg msg = {.type = PROTO_EXECUTE, .execute = *execute};
    int r = upstream_send(u, &msg, fds, nfds, call, due_ns, err);
    execute->tag = msg.tag;
    return r;
}

static void send_cancel(struct upstream *u, struct upstream_slot *slot)
{
    struct proto_msg msg = {.type = PROTO_CANCEL, .tag = slot->tag};
    struct err err = {0};
    /* Tried again with the next tick. That the engine is gone shows when the connection is read. */
    slot->cancel = proto_send(u->fd, &msg, NULL, 0, &err) < 0;
}

static void send_let_go(struct upstream *u, struct upstream_slot *slot)
{
    struct proto_msg msg = {.type = PROTO_WAITING, .tag = slot->tag};
    struct err err = {0};
    slot->let_go = proto_send(u->fd, &msg, NULL, 0, &err) < 0;
}

void upstream_let_go(struct upstream *u, uint64_t tag)
{
    size_t at = tag & ((1u << SLOT_BITS) - 1);
    if (!u->broken && at < u->slot_count && u->slots[at].call && u->slots[at].tag == tag)
        send_let_go(u, &u->slots[at]);
}

void upstream_set_due(struct upstream *u, uint64_t tag, uint64_t due_ns)
{
    size_t at = tag & ((1u << SLOT_BITS) - 1);
    if (at < u->slot_count && u->slots[at].call && u->slots[at].tag == tag)
        u->slots[at].due_ns = due_ns;
}

void upstream_cancel(struct upstream *u, uint64_t tag)
{
    size_t at = tag & ((1u << SLOT_BITS) - 1);
    if (!u->broken && at < u->slot_count && u->slots[at].call && u->slots[at].tag == tag)
        send_cancel(u, &u->slots[at]);
}

bool upstream_signal(struct upstream *u, uint64_t tag, int signal)
{
    struct proto_msg msg = {.type = PROTO_SIGNAL, .tag = tag, .signal = signal};
    struct err err = {0};
    return !u->broken && proto_send(u->fd, &msg, NULL, 0, &err) == 0;
}

void upstream_tick(struct upstream *u, uint64_t now_ns)
{
    for (size_t i = 0; u->open > 0 && !u->broken && i < u->slot_count; i++) {
        struct upstream_slot *slot = &u->slots[i];
        if (slot->call && slot->let_go)
            send_let_go(u, slot);
        if (slot->call && slot->cancel)
            send_cancel(u, slot);
        if (slot->call && now_ns > slot->due_ns) {
            LOG(ERROR, "engine_silent", F_U64("tag", slot->tag));
            break_off(u, false);
        }
    }
}

void upstream_forget_all(struct upstream *u)
{
    for (size_t i = 0; i < u->slot_count; i++) {
        struct upstream_call *call = u->slots[i].call;
        if (!call)
            continue;
        u->slots[i] = (struct upstream_slot){0};
        u->open--;
        call->on_lost(call);
    }
}
