/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/engine_clients - connections that speak protocol/: the frontend's and those of the
 * Unix socket.
 *
 * Every frame is decoded into one arena that is dropped after it; a peer that breaks the protocol
 * loses its connection. A client that does not read its results is given SEND_MS and a bounded
 * outbox. One with too many open runs is not read until some are done; a frontend always is, since
 * what it says is of many: it is refused runs (find_no_room). When a connection ends, its runs are
 * cancelled.
 */
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "supervisor/engine.h"
#include "volumes/volumes.h"
#include <sys/socket.h>
#include <unistd.h>

#define SEND_MS 10000u
#define SOCKET_BYTES (1024 * 1024)

struct out {
    TAILQ_ENTRY(out) in_list;
    struct proto_msg msg;
    char field[32], text[240];
};

static char arena_storage[PROTO_ARENA_BYTES];
static struct arena arena;

struct client *client_find(struct engine *e, uint64_t id)
{
    struct client *c;
    TAILQ_FOREACH(c, &e->clients, in_list)
    if (c->id == id)
        return c;
    return NULL;
}

/* ---- sending -----------------------------------------------------------------------------------
 */

static void close_client(struct client *c)
{
    struct engine *e = c->engine;
    struct run *run;
    struct out *out;
    loop_io_del(&e->loop, &c->io);
    fd_close(&c->io.fd);
    loop_timer_cancel(&e->loop, &c->stuck);
    TAILQ_REMOVE(&e->clients, c, in_list);
    e->client_count--;
    while ((run = TAILQ_FIRST(&c->runs))) {
        TAILQ_REMOVE(&c->runs, run, in_client);
        run->client = NULL;
        run_cancel(run);
    }
    while ((out = TAILQ_FIRST(&c->out))) {
        TAILQ_REMOVE(&c->out, out, in_list);
        free(out);
    }
    free(c);
    if (e->listener.fd >= 0 && e->client_count == ENGINE_CLIENTS_MAX - 1)
        (void)loop_io_add(&e->loop, &e->listener, EPOLLIN);
}

/* Callbacks up the stack may still hold the client, so it goes when the loop comes round. */
static void on_doomed(struct loop_timer *t)
{
    close_client(CONTAINER_OF(t, struct client, stuck));
}

static void doom(struct client *c, const char *why)
{
    LOG(WARN, "client_dropped", F_U64("client", c->id), F_STR("why", why));
    loop_io_del(&c->engine->loop, &c->io);
    c->stuck.on_due = on_doomed;
    (void)loop_timer_set(&c->engine->loop, &c->stuck, 0);
}

static void on_stuck(struct loop_timer *t)
{
    struct client *c = CONTAINER_OF(t, struct client, stuck);
    LOG(WARN, "client_dropped", F_U64("client", c->id), F_STR("why", "it does not read"));
    close_client(c);
}

static void watch(struct client *c)
{
    uint32_t events = (c->paused ? 0u : EPOLLIN) | (TAILQ_EMPTY(&c->out) ? 0u : EPOLLOUT);
    (void)loop_io_mod(&c->engine->loop, &c->io, events);
}

static void keep(struct client *c, const struct proto_msg *msg)
{
    struct out *out = malloc(sizeof *out);
    bool keepable = msg->type == PROTO_RESULT || msg->type == PROTO_DONE ||
                    msg->type == PROTO_HELLO || msg->type == PROTO_WAITING;
    if (!out || !keepable) { /* statistics and lists are asked for one by one: it can ask again */
        free(out);
        doom(c, "it does not read");
        return;
    }
    out->msg = *msg;
    if (msg->type == PROTO_RESULT) {
        (void)snprintf(out->field, sizeof out->field, "%s", msg->result.field);
        (void)snprintf(out->text, sizeof out->text, "%s", msg->result.text);
        out->msg.result.field = out->field;
        out->msg.result.text = out->text;
    } else if (msg->type == PROTO_DONE) {
        (void)snprintf(out->text, sizeof out->text, "%s", msg->done.text);
        out->msg.done.text = out->text;
    }
    if (TAILQ_EMPTY(&c->out)) {
        c->stuck.on_due = on_stuck;
        (void)loop_timer_set(&c->engine->loop, &c->stuck,
                             clock_now_ns() + SEND_MS * CLOCK_NS_PER_MS);
    }
    TAILQ_INSERT_TAIL(&c->out, out, in_list);
    watch(c);
}

/* A Hello to a frontend has the keys beside it: those of now, also when it had to wait. */
static int send_now(struct client *c, struct proto_msg *msg, struct err *err)
{
    const struct engine *e = c->engine;
    bool has_keys = msg->type == PROTO_HELLO && c->is_frontend && e->keys_fd >= 0;
    if (msg->type == PROTO_HELLO)
        msg->hello.keys_generation = has_keys ? e->keys_generation : 0;
    return proto_send(c->io.fd, msg, &e->keys_fd, has_keys, err);
}

void client_send(struct client *c, struct proto_msg *msg)
{
    struct err err;
    if (TAILQ_EMPTY(&c->out)) {
        int r = send_now(c, msg, &err);
        if (r == 0)
            return;
        if (r != -EAGAIN) {
            doom(c, err.text);
            return;
        }
    }
    keep(c, msg);
}

static void say_hello(struct client *c)
{
    struct proto_msg hello = {.type = PROTO_HELLO};
    engine_fill_hello(c->engine, c->rights, &hello.hello);
    client_send(c, &hello);
}

void engine_say_hello(struct engine *e)
{
    struct client *c;
    TAILQ_FOREACH(c, &e->clients, in_list)
    say_hello(c);
}

static void flush(struct client *c)
{
    struct err err;
    struct out *out;
    while ((out = TAILQ_FIRST(&c->out))) {
        int r = send_now(c, &out->msg, &err);
        if (r == -EAGAIN)
            return;
        if (r < 0) {
            doom(c, err.text);
            return;
        }
        TAILQ_REMOVE(&c->out, out, in_list);
        free(out);
    }
    loop_timer_cancel(&c->engine->loop, &c->stuck);
    watch(c);
}

void client_run_closed(struct client *c)
{
    c->open_runs--;
    if (c->paused && c->open_runs < ENGINE_CLIENT_RUNS_MAX / 2) {
        c->paused = false;
        watch(c);
    }
}

/* ---- requests ----------------------------------------------------------------------------------
 */

#define STATS_MAX 64

/* DOWN has no reply, so no count that could be shown. */
static const char *const verb_names[PRIV_VERBS] = {
    [PRIV_START_ZYGOTE] = "start_zygote",     [PRIV_ATTACH_VOLUME] = "attach_volume",
    [PRIV_LIMIT_ZYGOTE] = "limit_zygote",     [PRIV_END_ZYGOTE] = "end_zygote",
    [PRIV_DISCARD_VOLUME] = "discard_volume", [PRIV_START_FRONTEND] = "start_frontend",
    [PRIV_BEGIN_DRAIN] = "begin_drain",       [PRIV_ASK_LIMITS] = "ask_limits",
};

static size_t fill_stats(const struct engine *e, struct proto_stat s[STATS_MAX])
{
    const struct proto_stat fixed[] = {
        {"active", e->bound_count - e->dying_count - e->ahead_count - e->spent_count},
        {"ahead", e->ahead_count},
        {"spent", e->spent_count},
        {"spares", e->spare_count},
        {"standbys", e->standby_count},
        {"starting", e->starting_count},
        {"ending", e->dying_count},
        {"waiting", e->waiting_count},
        {"queued", e->queued_runs},
        {"open", e->open_runs},
        {"clients", e->client_count},
        {"sessions", e->companion_count[PROTO_COMPANION_SESSION]},
        {"terminals", e->companion_count[PROTO_COMPANION_TERMINAL]},
        {"zygote_execs", e->zygote_execs},
        {"draining", e->draining},
        {"runs_total", e->total.runs},
        {"refused_total", e->total.refused},
        {"forbidden_total", e->total.forbidden},
        {"activations_total", e->total.activations},
        {"activation_failures_total", e->total.activation_failures},
        {"evictions_total", e->total.evictions},
        {"zygotes_lost_total", e->total.zygotes_lost},
        {"zygotes_replaced_total", e->total.replaced},
        {"frontend_starts_total", e->total.frontend_starts},
    };
    static char names[PROTO_REASONS][40];
    size_t n = ARRAY_LEN(fixed);
    memcpy(s, fixed, sizeof fixed);
    for (int r = 0; r < PROTO_REASONS; r++) {
        (void)snprintf(names[r], sizeof names[r], "runs_%s_total",
                       proto_reason_name((enum proto_reason)r));
        s[n++] = (struct proto_stat){names[r], e->total.reasons[r]};
    }
    static char calls[PRIV_VERBS][40], failures[PRIV_VERBS][40];
    for (int v = 0; v < PRIV_VERBS; v++) {
        if (!verb_names[v])
            continue;
        (void)snprintf(calls[v], sizeof calls[v], "priv_%s_total", verb_names[v]);
        (void)snprintf(failures[v], sizeof failures[v], "priv_%s_failed_total", verb_names[v]);
        s[n++] = (struct proto_stat){calls[v], e->verbs[v].calls};
        s[n++] = (struct proto_stat){failures[v], e->verbs[v].failures};
    }
    return n;
}

static void answer_stats(struct client *c, uint64_t tag)
{
    struct proto_stat stats[STATS_MAX];
    struct proto_msg msg = {.type = PROTO_STATS, .tag = tag};
    msg.stats.count = fill_stats(c->engine, stats);
    msg.stats.entries = stats;
    client_send(c, &msg);
}

static void answer_list(struct client *c, const struct proto_msg *request)
{
    static struct proto_ns_entry entries[PROTO_LIST_MAX];
    struct engine *e = c->engine;
    const struct vol_list *list;
    struct err err;
    struct proto_msg msg = {.type = PROTO_NS_LIST, .tag = request->tag};
    size_t limit = request->ns_list_request.limit, at = 0;
    if (limit == 0 || limit > PROTO_LIST_MAX)
        limit = PROTO_LIST_MAX;
    if (ns_list_volumes(e, &list, &err) < 0) {
        LOG(ERROR, "list_failed", F_STR("error", err.text));
        msg.type = PROTO_DONE;
        msg.done.outcome = PROTO_INTERNAL;
        msg.done.text = "the namespaces could not be listed";
        client_send(c, &msg);
        return;
    }
    while (at < list->count && strcmp(list->names[at], request->ns_list_request.after) <= 0)
        at++;
    for (; at < list->count && msg.ns_list.count < limit; at++) {
        const struct ns *ns = ns_find(e, list->names[at]);
        entries[msg.ns_list.count++] = (struct proto_ns_entry){
            .ns_id = list->names[at],
            .active = ns && ns->slot && ns->slot->state != SLOT_DYING,
            .queued = ns ? (uint32_t)ns->queued : 0,
        };
    }
    msg.ns_list.entries = entries;
    msg.ns_list.more = at < list->count;
    client_send(c, &msg);
}

static void answer_policy(struct client *c, const struct proto_msg *request)
{
    static char text[16384];
    const struct policy_set *set = c->engine->policies;
    const char *name = request->policy_request.name;
    struct proto_msg msg = {.type = PROTO_DONE, .tag = request->tag};
    int index = policy_find(set, name);
    size_t n = 0;
    msg.done.text = text;
    *text = 0;
    if (index >= 0)
        policy_show(set, (uint32_t)index, text, sizeof text);
    for (uint32_t i = 0; !*name && i < set->count; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s\n", set->plans[i].name);
    if (index < 0 && *name) {
        msg.done.outcome = PROTO_NOT_FOUND;
        msg.done.text = "no such policy";
    }
    client_send(c, &msg);
}

static struct run *find_run(struct client *c, uint64_t tag)
{
    struct run *run;
    TAILQ_FOREACH(run, &c->runs, in_client)
    if (run->tag == tag)
        return run;
    return NULL;
}

static void cancel(struct client *c, uint64_t tag)
{
    struct run *run = find_run(c, tag);
    if (run)
        run_cancel(run);
}

/* One that waits, or is over, has nobody to take it; a session's bash is more than its call. */
static void signal_run(struct client *c, uint64_t tag, int signal)
{
    struct run *run = find_run(c, tag);
    if (run && run->ns->running == run && run->ns->companion != PROTO_COMPANION_SESSION)
        slot_signal_run(run->ns->slot, signal);
}

/* Of a run that is held. */
static void let_go(struct client *c, uint64_t tag)
{
    struct run *run;
    TAILQ_FOREACH(run, &c->runs, in_client)
    if (run->tag == tag) {
        run_let_go(run);
        return;
    }
}

/* What each message of a client needs; 0: only the engine may send it, which is another fault. */
static unsigned needed_for(enum proto_type type)
{
    switch (type) {
    case PROTO_EXECUTE:
    case PROTO_CANCEL:
    case PROTO_SESSION_LIST_REQUEST:
    case PROTO_SESSION_CLOSE:
    case PROTO_SIGNAL:
        return PEER_MAY_RUN;
    case PROTO_POLICY_REQUEST:
    case PROTO_STATS_REQUEST:
        return PEER_MAY_ADMIN;
    case PROTO_NS_LIST_REQUEST:
    case PROTO_NS_REMOVE:
        return PEER_MAY_MANAGE;
    case PROTO_HELLO:
    case PROTO_RESULT:
    case PROTO_STATS:
    case PROTO_NS_LIST:
    case PROTO_DONE:
    case PROTO_WAITING:
    case PROTO_SESSION_LIST:
        break;
    }
    return 0;
}

static void forbid(struct client *c, uint64_t tag)
{
    struct proto_msg answer = {.type = PROTO_DONE, .tag = tag};
    answer.done.outcome = PROTO_FORBIDDEN;
    answer.done.text = "this user may not ask for that (setting socket_admins)";
    LOG(WARN, "client_forbidden", F_U64("client", c->id));
    c->engine->total.forbidden++;
    client_send(c, &answer);
}

/* False: the peer broke the protocol. */
static bool on_message(struct client *c, const struct proto_msg *msg, int *fds, size_t nfds)
{
    if (needed_for(msg->type) & ~c->rights) {
        forbid(c, msg->tag);
        return true;
    }
    switch (msg->type) {
    case PROTO_EXECUTE:
        run_accept(c, &msg->execute, fds, nfds);
        return true;
    case PROTO_CANCEL:
        cancel(c, msg->tag);
        return true;
    case PROTO_SIGNAL:
        signal_run(c, msg->tag, msg->signal);
        return true;
    case PROTO_STATS_REQUEST:
        answer_stats(c, msg->tag);
        return true;
    case PROTO_NS_LIST_REQUEST:
        answer_list(c, msg);
        return true;
    case PROTO_POLICY_REQUEST:
        answer_policy(c, msg);
        return true;
    case PROTO_NS_REMOVE:
        ns_remove(c->engine, c, msg->tag, msg->ns_remove.ns_id);
        return true;
    case PROTO_SESSION_LIST_REQUEST:
        companions_answer_list(c, msg);
        return true;
    case PROTO_SESSION_CLOSE:
        companions_close(c, msg);
        return true;
    case PROTO_HELLO:
    case PROTO_RESULT:
    case PROTO_STATS:
    case PROTO_NS_LIST:
    case PROTO_DONE:
    case PROTO_SESSION_LIST:
        break;
    case PROTO_WAITING:
        if (c->is_frontend)
            let_go(c, msg->tag);
        return c->is_frontend;
    }
    return false;
}

/* One frame each time round: the loop comes back as long as there is more, and others have their
 * turn. */
static void on_ready(struct loop_io *io, uint32_t events)
{
    struct client *c = CONTAINER_OF(io, struct client, io);
    struct proto_msg msg;
    struct err err;
    int fds[PROTO_FDS_MAX];
    size_t nfds = 0;
    if (events & EPOLLOUT)
        flush(c);
    if (c->paused) {
        if (events & EPOLLHUP)
            close_client(c);
        return;
    }
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)) ||
        (c->stuck.slot && c->stuck.on_due == on_doomed))
        return;
    int r = proto_recv(io->fd, &arena, &msg, fds, &nfds, &err);
    if (r == -EAGAIN)
        return;
    bool fine = r > 0 && on_message(c, &msg, fds, nfds);
    for (size_t k = 0; r > 0 && k < nfds; k++)
        fd_close(&fds[k]);
    if (!fine) {
        if (r != 0)
            LOG(WARN, "client_dropped", F_U64("client", c->id),
                F_STR("why", r < 0 ? err.text : "a message that only the engine may send"));
        close_client(c);
        return;
    }
    if (c->open_runs >= ENGINE_CLIENT_RUNS_MAX && !c->is_frontend) {
        c->paused = true;
        watch(c);
    }
}

/* ---- coming ------------------------------------------------------------------------------------
 */

int client_add(struct engine *e, int sock, unsigned rights)
{
    struct client *c = calloc(1, sizeof *c);
    int size = SOCKET_BYTES;
    if (!c) {
        fd_close(&sock);
        return -ENOMEM;
    }
    *c = (struct client){.engine = e, .id = ++e->next_client_id, .is_frontend = rights == 0};
    /* Which of its clients may do what is the frontend's to know: it has the keys. */
    c->rights = c->is_frontend ? PEER_MAY_RUN | PEER_MAY_MANAGE : rights;
    c->io = (struct loop_io){.fd = sock, .on_ready = on_ready};
    TAILQ_INIT(&c->runs);
    TAILQ_INIT(&c->out);
    (void)setsockopt(sock, SOL_SOCKET, SO_SNDBUF, &size,
                     sizeof size); /* as far as the host allows */
    int r = fd_set_nonblock(sock) < 0 ? -errno : loop_io_add(&e->loop, &c->io, EPOLLIN);
    if (r < 0) {
        fd_close(&c->io.fd);
        free(c);
        return r;
    }
    TAILQ_INSERT_TAIL(&e->clients, c, in_list);
    e->client_count++;
    say_hello(c);
    return 0;
}

/* Who is in neither list is told so, once; what it may have sent is not read. */
static void turn_away(struct engine *e, int sock, uint32_t uid)
{
    struct proto_msg answer = {.type = PROTO_DONE};
    struct err err;
    answer.done.outcome = PROTO_FORBIDDEN;
    answer.done.text = "this user may not use this socket (settings socket_users, socket_admins)";
    (void)proto_send(sock, &answer, NULL, 0, &err);
    fd_close(&sock);
    LOG(WARN, "client_refused", F_U64("uid", uid));
    e->total.forbidden++;
}

static void on_listener(struct loop_io *io, uint32_t events)
{
    struct engine *e = CONTAINER_OF(io, struct engine, listener);
    uint32_t uid;
    (void)events;
    int sock = SYS(accept4(io->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (sock >= 0 && engine_fds_are_short(e, &sock, 1)) {
        fd_close(&sock);
        LOG(WARN, "accept_failed", F_STR("error", strerror(EMFILE)));
    } else if (sock >= 0) {
        unsigned rights = peers_rights(e->peers, sock, &uid);
        if (rights)
            (void)client_add(e, sock, rights);
        else
            turn_away(e, sock, uid);
    } else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
        LOG(WARN, "accept_failed", F_STR("error", strerror(errno)));
    if (e->client_count >= ENGINE_CLIENTS_MAX) /* until one goes */
        loop_io_del(&e->loop, &e->listener);
}

void clients_init(struct engine *e, int listen_fd)
{
    TAILQ_INIT(&e->clients);
    arena_init(&arena, arena_storage, sizeof arena_storage);
    e->listener = (struct loop_io){.fd = listen_fd, .on_ready = on_listener};
}

int clients_accept(struct engine *e)
{
    return loop_io_add(&e->loop, &e->listener, EPOLLIN);
}

void clients_stop_listening(struct engine *e)
{
    loop_io_del(&e->loop, &e->listener);
    fd_close(&e->listener.fd);
}
