/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/files - GET, HEAD, PUT and DELETE /v1/namespaces/{id}/files/{path}.
 *
 * In the frontend, per thread, which opens nothing of a tenant's: an operation is an Execute of
 * kind FILES that takes its turn among the namespace's runs, and a child in the box does the work
 * as the namespace's user (zygote/files.c). It says how it went over a SOCK_SEQPACKET pair whose
 * far end we gave it; a file to read comes as a descriptor over the same. That child shares a box
 * with foreign code, so nothing it says is believed: datagrams have a size and a magic, names are
 * any bytes, a descriptor is closed unless it is asked for and is a regular file, and sizes are our
 * own fstat's.
 *
 * The answer to the client goes out as soon as the last datagram is there; the engine's Result is
 * needed only when that never comes. An operation has two users, its request and the engine, as a
 * run does (execute.c). A file's bytes are read when the run is over: a PUT replaces files, so what
 * is served stays what it was, and a file that a later run cuts short breaks the connection.
 *
 * A listing is put together in memory, up to LIST_BYTES_MAX, so that a slow reader does not keep
 * the namespace busy: a page may hold fewer entries than asked for, and `next` says where to go on.
 */
#include "frontend/files.h"
#include "frontend/answer.h"
#include "frontend/auth.h"
#include "frontend/ns.h"
#include "frontend/run.h"
#include "frontend/serve_file.h"
#include "frontend/uri.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/log.h"
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define LIST_LIMIT 1000u
#define LIST_BYTES_MAX (1u << 20)
#define ANSWERS_PER_TURN 64
#define EOF_MS 1000u /* after the Result every holder of the far end is dead */

struct files_op {
    struct request_owner owner;
    struct upstream_call call;
    struct front *front;
    struct http_request *req; /* NULL: over or gone */
    uint64_t tag;
    bool open;                /* the engine owes a Result */
    bool held;                /* being worked with: not to be freed */
    bool again;               /* once it is there, the operation starts over as ask says */
    struct http_watch *watch; /* our end of the pair */
    int fd;                   /* the same; the watch owns it */
    int body_fd;              /* PUT */
    struct http_timer timer;
    struct proto_result result; /* valid when not open */
    char *text;                 /* LIST: the document so far */
    size_t len, room, entries;
    size_t borrowed;                /* of what outputs may take, until the client has the page */
    struct proto_files_answer last; /* LIST: the last entry of the page */
    char ns_id[PROTO_NS_ID_MAX + 1];
    struct proto_files_ask ask;
    ns_next *next; /* STAT: who goes on with the request */
};

/* ---- life ---------------------------------------------------------------------------------- */

static void stop_listening(struct files_op *op)
{
    http_timer_cancel(&op->timer);
    http_watch_free(ptr_take(&op->watch));
    op->fd = -1;
}

static void free_if_unused(struct files_op *op)
{
    if (op->req || op->open || op->held)
        return;
    stop_listening(op);
    fd_close(&op->body_fd);
    free(op->text);
    output_return(op->borrowed);
    free(op);
}

/* Nobody wants to hear more of it. */
static void give_up(struct files_op *op)
{
    stop_listening(op);
    op->again = false;
    if (op->open)
        upstream_cancel(&op->front->upstream, op->tag);
}

static void on_gone(struct front *f, struct request_owner *owner)
{
    (void)f;
    give_up(CONTAINER_OF(owner, struct files_op, owner));
}

static void on_end(struct front *f, struct http_request *req, struct request_owner *owner)
{
    struct files_op *op = CONTAINER_OF(owner, struct files_op, owner);
    (void)f;
    (void)req;
    op->req = NULL;
    stop_listening(op);
    free_if_unused(op);
}

/* ---- answers to the client ----------------------------------------------------------------- */

/* Room for one entry more. */
static bool grow(struct files_op *op)
{
    size_t room = op->room ? op->room : FILES_ENTRY_ROOM;
    while (room < op->len + FILES_ENTRY_ROOM)
        room *= 2;
    if (room > op->borrowed && !output_borrow_spare(room - op->borrowed))
        return false;
    op->borrowed = room > op->borrowed ? room : op->borrowed;
    char *text = room > op->room ? realloc(op->text, room) : op->text;
    if (!text)
        return false;
    op->text = text;
    op->room = room;
    return true;
}

static void answer_page(struct files_op *op, bool more)
{
    char *at;
    if (!grow(op)) {
        files_answer_errno(op->req, ENOMEM);
        return;
    }
    at = op->text + op->len;
    size_t n = (size_t)snprintf(at, FILES_ENTRY_ROOM, "],");
    if (more)
        n += files_put_name(at + n, FILES_ENTRY_ROOM - n, "next", op->last.name,
                            op->last.name_bytes);
    else
        n += (size_t)snprintf(at + n, FILES_ENTRY_ROOM - n, "\"next\":null");
    n += (size_t)snprintf(at + n, FILES_ENTRY_ROOM - n, "}\n");
    char *text = ptr_take(&op->text); /* the answer is a copy, and may be the end of op */
    n += op->len;
    op->len = op->room = 0;
    http_respond(op->req, 200, NULL, text, n);
    free(text);
}

/* Takes the descriptor. */
static void answer_file(struct files_op *op, int *fd)
{
    char etag[SERVE_ETAG_ROOM];
    struct stat st;
    if (*fd < 0 || syscall(SYS_fstat, *fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        files_answer_errno(op->req, EINVAL);
        return;
    }
    serve_file_etag(etag, (uint64_t)st.st_size,
                    (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec);
    const struct serve_file file = {.fd = fd_take(fd),
                                    .size = (uint64_t)st.st_size,
                                    .etag = etag,
                                    .content_type = "application/octet-stream",
                                    .name = op->ask.path,
                                    .cache_control = "no-cache"};
    serve_file(op->req, &file);
}

/* It is a directory: the request gets another owner, and this one waits for its Result alone. */
static void hand_on(struct files_op *op)
{
    struct http_request *req = op->req;
    op->req = NULL;
    *http_data(req) = NULL;
    op->next(op->front, req, op->ns_id, op->ask.path);
    free_if_unused(op);
}

static void answer_done(struct files_op *op, const struct proto_files_answer *a)
{
    static const char deleted[] = "{\"deleted\":true}\n";
    static __thread char text[FILES_ENTRY_ROOM + 2];
    if (op->ask.op == PROTO_FILES_DELETE) {
        http_respond(op->req, 200, NULL, deleted, sizeof deleted - 1);
        return;
    }
    const char *slash = strrchr(op->ask.path, '/'), *name = slash ? slash + 1 : op->ask.path;
    size_t n = files_put_entry(text, a, name, strlen(name));
    text[n++] = '\n';
    http_respond(op->req, 200, NULL, text, n);
}

/* ---- answers from the box ------------------------------------------------------------------ */

static void start(struct files_op *op);

/* A datagram, and the descriptor that came with it or -1. What recvmsg says. */
static ssize_t receive(int sock, struct proto_files_answer *a, int *ret_fd)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {a, sizeof *a};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = CMSG_LEN(sizeof(int))}; /* room for one */
    ssize_t n = SYS(recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
    struct cmsghdr *c = n >= 0 ? CMSG_FIRSTHDR(&msg) : NULL;
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
        c->cmsg_len == CMSG_LEN(sizeof *ret_fd))
        memcpy(ret_fd, CMSG_DATA(c), sizeof *ret_fd);
    return n;
}

/* After this the request may be over, and with it the operation. */
static void finish(struct files_op *op, const struct proto_files_answer *a, int *fd)
{
    stop_listening(op);
    if (op->ask.op == PROTO_FILES_GET && a->status == EISDIR) {
        op->ask.op = PROTO_FILES_LIST;
        op->again = true;
        if (!op->open)
            start(op);
    } else if (op->ask.op == PROTO_FILES_LIST && (a->status == 0 || a->status == E2BIG)) {
        answer_page(op, a->status == E2BIG && op->entries > 0);
    } else if (a->status != 0) {
        files_answer_errno(op->req, a->status);
    } else if (op->ask.op == PROTO_FILES_GET) {
        answer_file(op, fd);
    } else if (op->ask.op == PROTO_FILES_STAT) {
        if (a->kind == 'd')
            hand_on(op);
        else
            files_answer_errno(op->req, ENOTDIR);
    } else {
        answer_done(op, a);
    }
}

/* False: that was all. */
static bool take_entry(struct files_op *op, const struct proto_files_answer *a)
{
    if (!grow(op)) {
        give_up(op);
        files_answer_errno(op->req, ENOMEM);
        return false;
    }
    if (op->entries++ > 0)
        op->text[op->len++] = ',';
    op->len += files_put_entry(op->text + op->len, a, a->name, a->name_bytes);
    memcpy(&op->last, a, offsetof(struct proto_files_answer, name) + a->name_bytes);
    if (op->len < LIST_BYTES_MAX)
        return true;
    give_up(op);
    answer_page(op, true);
    return false;
}

/* The far end is closed, or what comes is nonsense. */
static void on_cut_off(struct files_op *op)
{
    stop_listening(op);
    if (!op->open)
        files_answer_end(op->req, &op->result); /* otherwise the Result will say why */
}

/* One datagram. False: nothing more is to be read now, perhaps ever. */
static bool take_answer(struct files_op *op)
{
    static __thread struct proto_files_answer a;
    const size_t head = offsetof(struct proto_files_answer, name);
    auto_close int fd = -1;
    ssize_t n = receive(op->fd, &a, &fd);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n < (ssize_t)head || a.magic != PROTO_FILES_MAGIC || a.name_bytes > (size_t)n - head) {
        on_cut_off(op);
        return false;
    }
    if (op->ask.op == PROTO_FILES_LIST && a.name_bytes > 0 && !take_entry(op, &a))
        return false;
    if (a.last)
        finish(op, &a, &fd);
    return !a.last;
}

static void on_readable(void *data)
{
    struct files_op *op = data;
    for (int i = 0; i < ANSWERS_PER_TURN && take_answer(op); i++)
        ;
}

static void on_eof_overdue(struct http_timer *t)
{
    on_cut_off(CONTAINER_OF(t, struct files_op, timer));
}

/* ---- the engine ---------------------------------------------------------------------------- */

/* It ran: what the child said before its end is in the socket now, if it was not read before. */
static void read_the_rest(struct files_op *op)
{
    op->held = true;
    while (op->watch && take_answer(op))
        ;
    op->held = false;
    if (!op->req) {
        free_if_unused(op);
        return;
    }
    if (http_status(op->req) || op->again || op->open)
        return;
    if (op->watch)
        http_timer_set(op->front->server, &op->timer, clock_now_ns() + EOF_MS * CLOCK_NS_PER_MS);
    else
        files_answer_end(op->req, &op->result);
}

static void on_reply(struct upstream_call *call, const struct proto_msg *reply)
{
    struct files_op *op = CONTAINER_OF(call, struct files_op, call);
    op->open = false;
    op->result = reply->result;
    if (!op->req) {
        free_if_unused(op);
    } else if (op->again) {
        start(op);
    } else if (http_status(op->req) == 0) {
        if (op->result.outcome == PROTO_OK) {
            read_the_rest(op);
        } else {
            stop_listening(op);
            ns_answer_outcome(op->req, op->result.outcome, op->result.text,
                              op->result.retry_after_ms);
        }
    }
}

static void on_lost(struct upstream_call *call)
{
    struct files_op *op = CONTAINER_OF(call, struct files_op, call);
    op->open = false;
    stop_listening(op);
    if (op->req)
        ns_answer_unsent(op->req, -EPIPE);
    else
        free_if_unused(op);
}

/* 0, -EAGAIN, or <0: the engine cannot be reached. */
static int send_op(struct files_op *op)
{
    struct front *f = op->front;
    int pair[2];
    struct err err = {0};
    if (SYS(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) < 0)
        return -EAGAIN;
    struct proto_execute x = {.kind = PROTO_FILES,
                              .ns_id = op->ns_id,
                              .cmd = "",
                              .files = &op->ask,
                              .cwd = "",
                              .policy = "",
                              .language = "",
                              .request_id = http_request_id(op->req)};
    auth_mark(op->req, &x);
    const int fds[3] = {op->body_fd >= 0 ? op->body_fd : f->null_fd, pair[1], f->null_fd};
    op->fd = pair[0];
    op->watch = http_watch_new(f->server, pair[0], on_readable, op);
    if (!op->watch)
        fd_close(&pair[0]);
    int r = !op->watch ? -EAGAIN
                       : upstream_execute(&f->upstream, &x, fds, 3, &op->call,
                                          clock_now_ns() +
                                              run_longest_ms(1, f->timeout_ms_max, f->max_wait_ms) *
                                                  CLOCK_NS_PER_MS,
                                          &err);
    fd_close(&pair[1]);
    if (r < 0 && r != -EAGAIN)
        LOG(ERROR, "send_execute", F_STR("error", err.text));
    op->tag = x.tag;
    op->open = r == 0;
    return r;
}

static void start(struct files_op *op)
{
    if (!op->again && !jobs_let_pass(op->req, op->ns_id))
        return;
    op->again = false;
    if (op->ask.op == PROTO_FILES_LIST) {
        if (!grow(op)) {
            files_answer_errno(op->req, ENOMEM);
            return;
        }
        op->len = (size_t)snprintf(op->text, op->room, "{\"entries\":[");
    }
    int r = send_op(op);
    if (r < 0) {
        stop_listening(op);
        ns_answer_unsent(op->req, r);
    }
}

/* ---- requests ------------------------------------------------------------------------------ */

static void refuse(struct http_request *req, const char *text)
{
    answer_error(req, &(struct answer_error){400, "bad_request", 0, NULL}, "%s", text);
}

/* What all operations have in common. NULL: it was answered. */
static struct files_op *new_op(struct front *f, struct http_request *req, enum proto_files_op what)
{
    struct files_op *op = ns_may_begin(f, req) ? calloc(1, sizeof *op) : NULL;
    if (!f->greeted)
        return NULL;
    if (!op) {
        ns_answer_unsent(req, -EAGAIN);
        return NULL;
    }
    op->owner = (struct request_owner){.on_gone = on_gone, .on_end = on_end};
    op->call = (struct upstream_call){.on_reply = on_reply, .on_lost = on_lost};
    op->timer.on_due = on_eof_overdue;
    op->front = f;
    op->fd = op->body_fd = -1;
    op->ask.magic = PROTO_FILES_MAGIC;
    op->ask.op = what;
    op->req = req;
    *http_data(req) = &op->owner;
    return op;
}

static struct files_op *new_op_of(struct front *f, struct http_request *req,
                                  const struct http_text *params, enum proto_files_op what,
                                  bool *ret_slash)
{
    struct files_op *op = new_op(f, req, what);
    if (op && ns_take_id(req, params[0], op->ns_id) == 0 &&
        ns_take_path(req, params[1], true, op->ask.path, ret_slash) == 0)
        return op;
    return NULL; /* answered: the operation ends with its request */
}

void files_require_directory(struct front *f, struct http_request *req, const char *ns_id,
                             const char *path, ns_next *next)
{
    struct files_op *op = new_op(f, req, PROTO_FILES_STAT);
    if (!op)
        return;
    (void)snprintf(op->ns_id, sizeof op->ns_id, "%s", ns_id);
    (void)snprintf(op->ask.path, sizeof op->ask.path, "%s", path);
    op->next = next;
    start(op);
}

void files_on_get(struct front *f, struct http_request *req, const struct http_text *params)
{
    struct http_text query = http_query(req);
    bool slash, recursive = false;
    uint64_t limit = LIST_LIMIT;
    struct files_op *op = new_op_of(f, req, params, PROTO_FILES_GET, &slash);
    if (!op)
        return;
    if (slash)
        op->ask.op = PROTO_FILES_LIST;
    if (uri_find_u64(query, "limit", 1, LIST_LIMIT, &limit) < 0)
        refuse(req, "limit: a number from 1 to 1000 is expected");
    else if (uri_find_bool(query, "recursive", &recursive) < 0)
        refuse(req, "recursive: 0 or 1 is expected");
    else if (uri_find(query, "after", op->ask.after, sizeof op->ask.after) == -1)
        refuse(req, "after: at most 4095 bytes, with %XX for any byte but NUL");
    else {
        op->ask.count_max = (uint32_t)limit;
        op->ask.flags = recursive ? PROTO_FILES_RECURSIVE : 0;
        start(op);
    }
}

static void on_body(void *front, struct http_request *req, int fd, uint64_t len)
{
    struct files_op *op = CONTAINER_OF(*http_data(req), struct files_op, owner);
    (void)front;
    op->body_fd = fd;
    op->ask.bytes_max = len; /* all of it, or nothing */
    if (op->ask.op == PROTO_FILES_MKDIR && len > 0)
        refuse(req, "a path that ends with a slash is a directory: it has no bytes");
    else
        start(op);
}

void files_on_put(struct front *f, struct http_request *req, const struct http_text *params)
{
    char mode[4] = "644";
    bool slash;
    int n = uri_find(http_query(req), "mode", mode, sizeof mode);
    bool executable = n > 0 && strcmp(mode, "755") == 0;
    if (n == -1 || (n >= 0 && !executable && strcmp(mode, "644") != 0)) {
        refuse(req, "mode: 644 or 755 is expected");
        return;
    }
    struct files_op *op = new_op_of(f, req, params, PROTO_FILES_PUT, &slash);
    if (!op)
        return;
    if (slash)
        op->ask.op = PROTO_FILES_MKDIR;
    op->ask.flags = executable ? PROTO_FILES_EXECUTABLE : 0;
    if (op->ask.path[0] == 0)
        refuse(req, "path: /work itself cannot be written");
    else
        http_body_receive(req, on_body);
}

void files_on_delete(struct front *f, struct http_request *req, const struct http_text *params)
{
    bool slash, recursive = false;
    struct files_op *op = new_op_of(f, req, params, PROTO_FILES_DELETE, &slash);
    if (!op)
        return;
    if (uri_find_bool(http_query(req), "recursive", &recursive) < 0)
        refuse(req, "recursive: 0 or 1 is expected");
    else if (op->ask.path[0] == 0)
        refuse(req, "path: /work itself cannot be deleted");
    else {
        op->ask.flags = recursive ? PROTO_FILES_RECURSIVE : 0;
        start(op);
    }
}
