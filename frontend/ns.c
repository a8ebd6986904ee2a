/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/ns - GET /v1/namespaces, DELETE /v1/namespaces/{id}, the same of a namespace's sessions,
 * and what is common to their files.
 *
 * In the frontend, per thread. Each is one message to the engine and one back. A path is checked
 * here only so that a client hears what is wrong with it, and so that each file has one spelling:
 * what keeps a path beneath /work is the openat2 of the child in the box (zygote/files.c).
 */
#include "frontend/ns.h"
#include "frontend/answer.h"
#include "frontend/json_out.h"
#include "frontend/uri.h"
#include "keys/keys.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include <inttypes.h>

#define REPLY_MS 30000u
#define LIST_LIMIT 1000u
#define RETRY_MS 1000u
#define NAME_BYTES_MAX 255u

/* ---- common -------------------------------------------------------------------------------- */

static void refuse(struct http_request *req, const char *text)
{
    answer_error(req, &(struct answer_error){400, "bad_request", 0, NULL}, "%s", text);
}

int ns_take_id(struct http_request *req, struct http_text id, char ret[PROTO_NS_ID_MAX + 1])
{
    if (!proto_ns_id_is_valid(id.at, id.len)) {
        refuse(req, "namespace_id: 1-64 characters of [A-Za-z0-9._-], not starting with . or -");
        return -1;
    }
    memcpy(ret, id.at, id.len);
    ret[id.len] = 0;
    return auth_may_use(req, ret) ? 0 : -1;
}

/* NULL, or what is wrong with a decoded path. */
static const char *find_fault(const char *path)
{
    for (const char *at = path; *path;) {
        size_t len = strcspn(at, "/");
        if (len == 0)
            return "path: it has an empty part";
        if ((len == 1 && *at == '.') || (len == 2 && memcmp(at, "..", 2) == 0))
            return "path: it has a part . or ..";
        if (len > NAME_BYTES_MAX)
            return "path: a part is longer than 255 bytes";
        if (!at[len])
            break;
        at += len + 1;
    }
    return NULL;
}

int ns_take_path(struct http_request *req, struct http_text text, bool raw,
                 char ret[PROTO_FILES_PATH_MAX + 1], bool *ret_slash)
{
    const char *fault = NULL;
    size_t slashes = 0;
    for (size_t i = 0; i < text.len; i++)
        slashes += text.at[i] == '/';
    if (raw && uri_decode(text, ret, PROTO_FILES_PATH_MAX + 1) < 0)
        fault = "path: at most 4095 bytes, with %XX for any byte but NUL";
    else if (!raw)
        (void)snprintf(ret, PROTO_FILES_PATH_MAX + 1, "%.*s", (int)text.len, text.at);
    for (const char *p = ret; !fault && raw && (p = strchr(p, '/')); p++)
        slashes--;
    if (!fault && raw && slashes != 0)
        fault = "path: %2F is not a way to write a slash";
    size_t len = fault ? 0 : strlen(ret);
    *ret_slash = len == 0 || ret[len - 1] == '/';
    if (len > 1 && *ret_slash)
        ret[len - 1] = 0;
    if (!fault)
        fault = find_fault(ret);
    if (fault)
        refuse(req, fault);
    return fault ? -1 : 0;
}

bool ns_may_begin(struct front *f, struct http_request *req)
{
    if (!f->greeted)
        answer_error(req, &(struct answer_error){503, "not_ready", RETRY_MS, NULL},
                     "the engine has not been heard of yet");
    return f->greeted;
}

void ns_answer_outcome(struct http_request *req, enum proto_outcome outcome, const char *text,
                       uint64_t retry_after_ms)
{
    static const struct {
        int status;
        bool retry;
    } table[PROTO_OUTCOMES] = {
        [PROTO_OK] = {500, false},        [PROTO_BAD_REQUEST] = {400, false},
        [PROTO_QUEUE_FULL] = {503, true}, [PROTO_QUEUE_TIMEOUT] = {503, true},
        [PROTO_DRAINING] = {503, true},   [PROTO_ACTIVATION_FAILED] = {503, true},
        [PROTO_NOT_FOUND] = {404, false}, [PROTO_BUSY] = {409, true},
        [PROTO_INTERNAL] = {500, false},  [PROTO_FORBIDDEN] = {500, false},
        [PROTO_TOO_MANY] = {429, true},
    };
    struct answer_error e = {.status = table[outcome].status, .code = proto_outcome_name(outcome)};
    if (table[outcome].retry)
        e.retry_after_ms = retry_after_ms ? retry_after_ms : RETRY_MS;
    answer_error(req, &e, "%.300s", text && *text ? text : "it could not be done");
}

void ns_answer_unsent(struct http_request *req, int why)
{
    if (why == -EAGAIN)
        answer_error(req, &(struct answer_error){503, "busy", RETRY_MS, NULL},
                     "too much is going on at the moment");
    else
        answer_error(req, &(struct answer_error){500, "internal", 0, NULL},
                     "the engine cannot be reached");
}

/* ---- list and remove ----------------------------------------------------------------------- */

struct ask {
    struct request_owner owner;
    struct upstream_call call;
    struct http_request *req; /* NULL: over or gone */
    const char *done;         /* the answer to a Done that is fine */
    bool open;                /* the engine owes an answer */
};

static void free_if_unused(struct ask *a)
{
    if (!a->req && !a->open)
        free(a);
}

static void on_gone(struct front *f, struct request_owner *owner)
{
    (void)f; /* there is nothing to cancel: on_end follows */
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

/* A key sees its own namespaces only: they stand together in the list, and a page begins no earlier
 * than they do and ends with them. So `next` never names another's. */
static void skip_to_own(const struct key *key, char after[PROTO_NS_ID_MAX + 1])
{
    char first[sizeof key->namespaces + 2], own[PROTO_NS_ID_MAX + 1];
    size_t len = key ? strcspn(key->namespaces, "*") : 0;
    if (len == 0 || key->scopes & KEY_ADMIN)
        return;
    /* A name that is greater than this begins with the key's own text, or lies behind all that do:
     * no character of a name is greater than 'z'. */
    (void)snprintf(first, sizeof first, "%.*s%c~", (int)len - 1, key->namespaces,
                   key->namespaces[len - 1] - 1);
    (void)snprintf(own, sizeof own, "%.*s", (int)PROTO_NS_ID_MAX, first);
    if (strcmp(own, after) > 0)
        memcpy(after, own, sizeof own);
}

static void answer_list(struct http_request *req, const struct proto_msg *msg)
{
    size_t room = 128 + (msg->ns_list.count + 1) * (PROTO_NS_ID_MAX + 64), n;
    bool more = msg->ns_list.more;
    char *text = malloc(room);
    const char *last = "";
    if (!text) {
        ns_answer_unsent(req, -EAGAIN);
        return;
    }
    n = (size_t)snprintf(text, room, "{\"namespaces\":[");
    for (size_t i = 0; i < msg->ns_list.count; i++) {
        const struct proto_ns_entry *e = &msg->ns_list.entries[i];
        if (!key_may_use(routes_key(req), e->ns_id)) {
            more = false; /* nor may it use any behind that */
            break;
        }
        last = e->ns_id; /* of [A-Za-z0-9._-]: the decoder has seen to it */
        n += (size_t)snprintf(text + n, room - n, "%s{\"id\":\"%s\",\"active\":%s,\"queued\":%u}",
                              i ? "," : "", last, e->active ? "true" : "false", e->queued);
    }
    const char *quote = more ? "\"" : "";
    n += (size_t)snprintf(text + n, room - n, "],\"next\":%s%s%s}\n", quote, more ? last : "null",
                          quote);
    http_respond(req, 200, NULL, text, n);
    free(text);
}

static void answer_sessions(struct http_request *req, const struct proto_msg *msg)
{
    size_t room = 32 + msg->session_list.count * (PROTO_SESSION_MAX + 160), n;
    char *text = malloc(room);
    if (!text) {
        ns_answer_unsent(req, -EAGAIN);
        return;
    }
    n = (size_t)snprintf(text, room, "{\"sessions\":[");
    for (size_t i = 0; i < msg->session_list.count; i++) {
        const struct proto_session_entry *e = &msg->session_list.entries[i];
        n += (size_t)snprintf(text + n, room - n,
                              "%s{\"name\":\"%s\",\"busy\":%s,\"queued\":%u,\"idle_ms\":%" PRIu64
                              ",\"age_ms\":%" PRIu64 "}",
                              i ? "," : "", e->session, e->busy ? "true" : "false", e->queued,
                              e->idle_ms, e->age_ms);
    }
    n += (size_t)snprintf(text + n, room - n, "]}\n");
    http_respond(req, 200, NULL, text, n);
    free(text);
}

static void on_reply(struct upstream_call *call, const struct proto_msg *msg)
{
    struct ask *a = CONTAINER_OF(call, struct ask, call);
    a->open = false;
    if (!a->req)
        free_if_unused(a);
    else if (msg->type == PROTO_NS_LIST)
        answer_list(a->req, msg);
    else if (msg->type == PROTO_SESSION_LIST)
        answer_sessions(a->req, msg);
    else if (msg->done.outcome == PROTO_OK)
        http_respond(a->req, 200, NULL, a->done, strlen(a->done));
    else
        ns_answer_outcome(a->req, msg->done.outcome, msg->done.text, 0);
}

static void on_lost(struct upstream_call *call)
{
    struct ask *a = CONTAINER_OF(call, struct ask, call);
    a->open = false;
    if (a->req)
        ns_answer_unsent(a->req, -EPIPE);
    else
        free_if_unused(a);
}

/* done: the body of the answer when it is no list. */
static void send_ask(struct front *f, struct http_request *req, struct proto_msg *msg,
                     const char *done)
{
    struct err err = {0};
    struct ask *a = calloc(1, sizeof *a);
    int r = -EAGAIN;
    if (a) {
        a->owner = (struct request_owner){.on_gone = on_gone, .on_end = on_end};
        a->call = (struct upstream_call){.on_reply = on_reply, .on_lost = on_lost};
        a->req = req;
        a->done = done;
        r = upstream_send(&f->upstream, msg, NULL, 0, &a->call,
                          clock_now_ns() + REPLY_MS * CLOCK_NS_PER_MS, &err);
    }
    if (r < 0) {
        free(a);
        ns_answer_unsent(req, r);
        return;
    }
    a->open = true;
    *http_data(req) = &a->owner;
}

void ns_on_list(struct front *f, struct http_request *req, const struct http_text *params)
{
    char after[PROTO_NS_ID_MAX + 1] = "";
    uint64_t limit = LIST_LIMIT;
    struct http_text query = http_query(req);
    int n = uri_find(query, "after", after, sizeof after);
    (void)params;
    if (n == -1 || (n > 0 && !proto_ns_id_is_valid(after, (size_t)n)))
        refuse(req, "after: a namespace_id is expected");
    else if (uri_find_u64(query, "limit", 1, LIST_LIMIT, &limit) < 0)
        refuse(req, "limit: a number from 1 to 1000 is expected");
    else if (ns_may_begin(f, req)) {
        skip_to_own(routes_key(req), after);
        struct proto_msg msg = {.type = PROTO_NS_LIST_REQUEST,
                                .ns_list_request = {.after = after, .limit = (uint32_t)limit}};
        send_ask(f, req, &msg, "");
    }
}

void ns_on_remove(struct front *f, struct http_request *req, const struct http_text *params)
{
    char id[PROTO_NS_ID_MAX + 1];
    if (ns_take_id(req, params[0], id) < 0 || !ns_may_begin(f, req))
        return;
    struct proto_msg msg = {.type = PROTO_NS_REMOVE, .ns_remove = {.ns_id = id}};
    send_ask(f, req, &msg, "{\"removed\":true}\n");
}

void ns_on_sessions(struct front *f, struct http_request *req, const struct http_text *params)
{
    char id[PROTO_NS_ID_MAX + 1];
    if (ns_take_id(req, params[0], id) < 0 || !ns_may_begin(f, req))
        return;
    struct proto_msg msg = {.type = PROTO_SESSION_LIST_REQUEST};
    msg.session_list_request.ns_id = id;
    msg.session_list_request.companion = PROTO_COMPANION_SESSION;
    send_ask(f, req, &msg, "");
}

void ns_on_session_close(struct front *f, struct http_request *req, const struct http_text *params)
{
    char id[PROTO_NS_ID_MAX + 1], name[PROTO_SESSION_MAX + 1];
    if (ns_take_id(req, params[0], id) < 0)
        return;
    if (!proto_session_is_valid(params[1].at, params[1].len)) {
        refuse(req, "session: 1-64 characters of [A-Za-z0-9._-]");
        return;
    }
    (void)snprintf(name, sizeof name, "%.*s", (int)params[1].len, params[1].at);
    if (!ns_may_begin(f, req))
        return;
    struct proto_msg msg = {.type = PROTO_SESSION_CLOSE};
    msg.session_close.ns_id = id;
    msg.session_close.session = name;
    msg.session_close.companion = PROTO_COMPANION_SESSION;
    send_ask(f, req, &msg, "{\"closed\":true}\n");
}
