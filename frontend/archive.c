/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/archive - GET and POST /v1/namespaces/{id}/archive: a directory as a tar, both ways.
 *
 * In the frontend, per thread, which parses no archive. Both are commands of the namespace, with
 * its user, limits and policy: tar in the box writes to a pipe that is streamed to the client, or
 * reads the body from a sealed memfd. What an evil archive can do there, its owner can do anyway;
 * tar itself refuses members with a `..`, makes absolute names relative and puts links in place
 * last. The path goes to the command as its $1, never into its text.
 *
 * A tar that fails half way breaks the connection, because its beginning is out with a 200 by then.
 * The client takes the stream at its own speed and the namespace is busy meanwhile: for as long as
 * any run may be, or ?timeout= says, then tar is killed. An archive has two users, its request and
 * the engine, as a run does (execute.c).
 */
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
#include "lib/num.h"
#include <signal.h>

#define HEAD_BYTES 4096u
#define TEXT_BYTES 512u

static const char make_text[] = "cd -P -- \"/work/$1\" && exec tar \"$2\" - .";
static const char extract_text[] =
    "mkdir -p -- \"/work/$1\" && cd -P -- \"/work/$1\" && exec tar --no-same-owner \"$2\" -";

struct archive {
    struct request_owner owner;
    struct upstream_call call;
    struct front *front;
    struct http_request *req; /* NULL: over or gone */
    uint64_t tag;
    bool open;   /* the engine owes a Result */
    bool paused; /* the watch of out */
    bool ended;  /* out is at its end */
    bool gzip;
    uint64_t timeout_ms;         /* 0: the engine's default */
    int out_fd, err_fd, body_fd; /* read ends, the watches own them; POST: the archive */
    struct http_watch *out, *err;
    struct proto_result result; /* valid when not open */
    size_t head_len, text_len;
    char head[HEAD_BYTES]; /* GET: what came before the answer began */
    char text[TEXT_BYTES]; /* what tar says */
    char ns_id[PROTO_NS_ID_MAX + 1], path[PROTO_FILES_PATH_MAX + 1];
};

/* ---- life ---------------------------------------------------------------------------------- */

static void close_pipes(struct archive *a)
{
    http_watch_free(ptr_take(&a->out));
    http_watch_free(ptr_take(&a->err));
    a->out_fd = a->err_fd = -1;
}

static void free_if_unused(struct archive *a)
{
    if (a->req || a->open)
        return;
    close_pipes(a);
    fd_close(&a->body_fd);
    free(a);
}

static void on_gone(struct front *f, struct request_owner *owner)
{
    struct archive *a = CONTAINER_OF(owner, struct archive, owner);
    (void)f;
    close_pipes(a);
    if (a->open)
        upstream_cancel(&a->front->upstream, a->tag);
}

static void on_end(struct front *f, struct http_request *req, struct request_owner *owner)
{
    struct archive *a = CONTAINER_OF(owner, struct archive, owner);
    (void)req;
    on_gone(f, owner);
    a->req = NULL;
    free_if_unused(a);
}

/* ---- answers ------------------------------------------------------------------------------- */

static bool went_well(const struct archive *a)
{
    const struct proto_result *r = &a->result;
    return r->outcome == PROTO_OK && r->reason == PROTO_REASON_EXIT && r->exited &&
           r->exit_code == 0;
}

static bool says(const struct archive *a, const char *what)
{
    return memmem(a->text, a->text_len, what, strlen(what)) != NULL;
}

static void answer_failure(struct archive *a)
{
    const struct proto_result *r = &a->result;
    struct answer_error e = {422, "archive_error", 0, NULL};
    if (r->outcome != PROTO_OK) {
        ns_answer_outcome(a->req, r->outcome, r->text, r->retry_after_ms);
        return;
    }
    if (r->reason == PROTO_REASON_TIMEOUT || r->reason == PROTO_REASON_CPU_LIMIT)
        e = (struct answer_error){504, "timeout", 0, NULL};
    else if (r->reason == PROTO_REASON_DISK || says(a, "No space left") ||
             says(a, "quota exceeded"))
        e = (struct answer_error){507, "no_space", 0, NULL};
    else if ((r->reason == PROTO_REASON_SIGNAL && r->signal == SIGXFSZ) ||
             says(a, "File too large"))
        e = (struct answer_error){413, "too_large", 0, NULL};
    else if (r->reason != PROTO_REASON_EXIT)
        e.code = proto_reason_name(r->reason);
    if (a->text_len)
        answer_error(a->req, &e, "%.*s", (int)a->text_len, a->text);
    else
        answer_error(a->req, &e, "tar did not come to its end (%s)", proto_reason_name(r->reason));
}

static void answer_extracted(struct archive *a)
{
    static const char done[] = "{\"extracted\":true}\n";
    if (went_well(a))
        http_respond(a->req, 200, NULL, done, sizeof done - 1);
    else
        answer_failure(a);
}

/* http_fill: what tar has written. */
static size_t fill(void *data, char *at, size_t room, bool *ret_last)
{
    struct archive *a = data;
    if (a->head_len > 0) {
        size_t n = a->head_len < room ? a->head_len : room;
        memcpy(at, a->head, n);
        memmove(a->head, a->head + n, a->head_len - n);
        a->head_len -= n;
        return n;
    }
    ssize_t n = a->ended ? 0 : SYS(read(a->out_fd, at, room));
    if (n > 0)
        return (size_t)n;
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        a->paused = false;
        http_watch_resume(a->out);
        return 0;
    }
    a->ended = true;
    if (a->open)
        return 0; /* the Result says whether that was all */
    *ret_last = true;
    return went_well(a) ? 0 : HTTP_FILL_BROKEN;
}

static void begin_stream(struct archive *a)
{
    char name[PROTO_NS_ID_MAX + 16], disposition[SERVE_DISPOSITION_ROOM];
    (void)snprintf(name, sizeof name, "%s.%s", a->ns_id, a->gzip ? "tar.gz" : "tar");
    serve_file_disposition(disposition, name, false);
    const struct http_header headers[] = {{"content-disposition", disposition},
                                          {"x-content-type-options", "nosniff"},
                                          {"cache-control", "no-cache"},
                                          {NULL, NULL}};
    http_stream_as(a->req, 200, headers, a->gzip ? "application/gzip" : "application/x-tar", fill,
                   a);
}

/* ---- pipes --------------------------------------------------------------------------------- */

static void on_out(void *data)
{
    struct archive *a = data;
    http_watch_pause(a->out); /* until fill has found it empty */
    a->paused = true;
    if (http_status(a->req)) {
        http_more(a->req);
        return;
    }
    ssize_t n = SYS(read(a->out_fd, a->head, sizeof a->head));
    if (n > 0 && a->body_fd < 0) {
        a->head_len = (size_t)n;
        begin_stream(a);
    } else if (n == 0) {
        a->ended = true;
        if (!a->open && a->body_fd < 0)
            answer_failure(a); /* even an empty archive has bytes */
    } else {
        http_watch_resume(a->out);
    }
}

static void read_text(struct archive *a)
{
    char more[TEXT_BYTES];
    ssize_t n = a->err ? SYS(read(a->err_fd, more, sizeof more)) : 0;
    size_t room = sizeof a->text - a->text_len;
    if (n > 0) {
        size_t len = (size_t)n < room ? (size_t)n : room;
        memcpy(a->text + a->text_len, more, len);
        a->text_len += len;
    } else if (a->err && (n == 0 || (errno != EAGAIN && errno != EINTR))) {
        http_watch_free(ptr_take(&a->err));
        a->err_fd = -1;
    }
}

static void on_err(void *data)
{
    read_text(data);
}

/* ---- the engine ---------------------------------------------------------------------------- */

static void on_reply(struct upstream_call *call, const struct proto_msg *reply)
{
    struct archive *a = CONTAINER_OF(call, struct archive, call);
    a->open = false;
    a->result = reply->result;
    if (!a->req) {
        free_if_unused(a);
        return;
    }
    read_text(a);
    if (a->body_fd >= 0)
        answer_extracted(a);
    else if (a->result.outcome != PROTO_OK || (a->ended && !http_status(a->req)))
        answer_failure(a);
    else if (a->ended)
        http_more(a->req);
}

static void on_lost(struct upstream_call *call)
{
    struct archive *a = CONTAINER_OF(call, struct archive, call);
    a->open = false;
    a->result.outcome = PROTO_INTERNAL;
    if (!a->req)
        free_if_unused(a);
    else if (http_status(a->req) == 0)
        ns_answer_unsent(a->req, -EPIPE);
    else if (a->ended)
        http_more(a->req);
}

/* The far end of a pipe of which we watch ours; -1. */
static int make_pipe(struct archive *a, void (*on_readable)(void *data), int *ret_fd,
                     struct http_watch **ret_watch)
{
    int ends[2];
    if (output_pipe_take(&a->front->pipes, ends) < 0)
        return -1;
    *ret_watch = http_watch_new(a->front->server, ends[0], on_readable, a);
    if (!*ret_watch) {
        fd_close(&ends[0]);
        fd_close(&ends[1]);
        return -1;
    }
    *ret_fd = ends[0];
    return ends[1];
}

static void start(struct archive *a)
{
    struct front *f = a->front;
    bool extract = a->body_fd >= 0;
    struct err err = {0};
    const char *const args[] = {a->path, extract ? (a->gzip ? "-xpzf" : "-xpf")
                                                 : (a->gzip ? "-czf" : "-cf")};
    struct proto_execute x = {.kind = PROTO_COMMAND,
                              .ns_id = a->ns_id,
                              .cmd = extract ? extract_text : make_text,
                              .cmd_len = extract ? sizeof extract_text - 1 : sizeof make_text - 1,
                              .args = args,
                              .arg_count = ARRAY_LEN(args),
                              .cwd = "",
                              .policy = "",
                              .language = "",
                              .timeout_ms = a->timeout_ms,
                              .request_id = http_request_id(a->req)};
    if (!jobs_let_pass(a->req, a->ns_id))
        return;
    auth_mark(a->req, &x);
    int fds[3] = {extract ? a->body_fd : f->null_fd, -1, -1};
    fds[1] = make_pipe(a, on_out, &a->out_fd, &a->out);
    fds[2] = make_pipe(a, on_err, &a->err_fd, &a->err);
    int r = fds[1] < 0 || fds[2] < 0
                ? -EAGAIN
                : upstream_execute(&f->upstream, &x, fds, 3, &a->call,
                                   clock_now_ns() +
                                       run_longest_ms(1, f->timeout_ms_max, f->max_wait_ms) *
                                           CLOCK_NS_PER_MS,
                                   &err);
    fd_close(&fds[1]);
    fd_close(&fds[2]);
    if (r < 0 && r != -EAGAIN)
        LOG(ERROR, "send_execute", F_STR("error", err.text));
    a->tag = x.tag;
    a->open = r == 0;
    if (r < 0)
        ns_answer_unsent(a->req, r);
}

/* ---- requests ------------------------------------------------------------------------------ */

static struct archive *new_archive(struct front *f, struct http_request *req, const char *ns_id,
                                   const char *path)
{
    struct archive *a = calloc(1, sizeof *a);
    if (!a) {
        ns_answer_unsent(req, -EAGAIN);
        return NULL;
    }
    a->owner = (struct request_owner){.on_gone = on_gone, .on_end = on_end};
    a->call = (struct upstream_call){.on_reply = on_reply, .on_lost = on_lost};
    a->front = f;
    a->req = req;
    a->out_fd = a->err_fd = a->body_fd = -1;
    (void)snprintf(a->ns_id, sizeof a->ns_id, "%s", ns_id);
    (void)snprintf(a->path, sizeof a->path, "%s", path);
    *http_data(req) = &a->owner;
    return a;
}

static void refuse(struct http_request *req, const char *text)
{
    answer_error(req, &(struct answer_error){400, "bad_request", 0, NULL}, "%s", text);
}

struct wish {
    char ns_id[PROTO_NS_ID_MAX + 1], path[PROTO_FILES_PATH_MAX + 1];
    bool gzip;
    uint64_t timeout_ms;
};

/* What the query says beside the path. NULL, or what is wrong with it. */
static const char *read_query(struct front *f, struct http_text query, struct wish *ret)
{
    char seconds[24];
    int n = uri_find(query, "timeout", seconds, sizeof seconds);
    ret->timeout_ms = 0;
    ret->gzip = false;
    if (n == -1 ||
        (n >= 0 && num_parse_seconds_ms(seconds, 1, f->timeout_ms_max, &ret->timeout_ms) < 0))
        return "timeout: seconds are expected, at most the service's longest timeout";
    if (uri_find_bool(query, "gzip", &ret->gzip) < 0)
        return "gzip: 0 or 1 is expected";
    return NULL;
}

/* False: it was answered. */
static bool take_request(struct front *f, struct http_request *req, const struct http_text *params,
                         struct wish *ret)
{
    char text[PROTO_FILES_PATH_MAX + 1] = "";
    bool slash;
    const char *fault = read_query(f, http_query(req), ret);
    int n = uri_find(http_query(req), "path", text, sizeof text);
    if (n == -1)
        fault = "path: at most 4095 bytes, with %XX for any byte but NUL";
    if (fault) {
        refuse(req, fault);
        return false;
    }
    return ns_take_id(req, params[0], ret->ns_id) == 0 &&
           ns_take_path(req, (struct http_text){text, strlen(text)}, false, ret->path, &slash) ==
               0 &&
           ns_may_begin(f, req);
}

static void make(struct front *f, struct http_request *req, const char *ns_id, const char *path)
{
    struct wish wish;
    struct archive *a = new_archive(f, req, ns_id, path);
    if (!a ||
        read_query(f, http_query(req), &wish)) /* it was looked at before: there is no fault */
        return;
    a->gzip = wish.gzip;
    a->timeout_ms = wish.timeout_ms;
    start(a);
}

void archive_on_get(struct front *f, struct http_request *req, const struct http_text *params)
{
    struct wish wish;
    if (take_request(f, req, params, &wish))
        files_require_directory(f, req, wish.ns_id, wish.path, make);
}

static void on_body(void *front, struct http_request *req, int fd, uint64_t len)
{
    struct archive *a = CONTAINER_OF(*http_data(req), struct archive, owner);
    unsigned char magic[2] = {0};
    (void)front;
    a->body_fd = fd;
    if (len == 0) {
        refuse(req, "the body is to be a tar, perhaps gzipped");
        return;
    }
    a->gzip = pread(fd, magic, sizeof magic, 0) == 2 && magic[0] == 0x1f && magic[1] == 0x8b;
    start(a);
}

void archive_on_post(struct front *f, struct http_request *req, const struct http_text *params)
{
    struct wish wish;
    struct archive *a =
        take_request(f, req, params, &wish) ? new_archive(f, req, wish.ns_id, wish.path) : NULL;
    if (!a)
        return;
    a->timeout_ms = wish.timeout_ms;
    http_body_receive(req, on_body);
}
