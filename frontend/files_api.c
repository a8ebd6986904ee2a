/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/files_api - POST /v1/files, and GET and DELETE /v1/files/{id}: what the store holds.
 *
 * In the frontend, per thread. An upload arrives as a sealed memfd (http_body.c), is searched for
 * its one file and handed to the store as a piece of that memory: it is not copied here. A stored
 * file is read by whoever has a signed URL of it, otherwise by the key that it belongs to; a
 * signature that is there must be good, whatever key comes with it. The store answers later, from a
 * thread of its own through this one's mailbox, and by then the client may be gone: the state of a
 * request lives until both are done with it.
 */
#include "frontend/answer.h"
#include "frontend/content_type.h"
#include "frontend/front.h"
#include "frontend/json_out.h"
#include "frontend/multipart.h"
#include "frontend/serve_file.h"
#include "keys/keys.h"
#include <inttypes.h>
#include <stdatomic.h>
#include <strings.h>
#include <sys/mman.h>

/* Uploads that wait for the store, their clients perhaps gone, in the whole process. */
#define STORING_BYTES_MAX (256ull << 20)
#define FIELD "file"
#define PREFIX "file_"
#define MULTIPART "multipart/form-data"

struct op {
    struct request_owner owner;
    struct store_call call;
    struct front *front;
    struct http_request *req; /* NULL: it is over */
    bool gone, calling;
    void *body; /* the upload, mapped */
    size_t body_len, counted;
};

static atomic_ullong storing;

static void drop_body(struct op *op)
{
    if (op->body)
        (void)munmap(ptr_take(&op->body), op->body_len);
    atomic_fetch_sub(&storing, op->counted);
    op->counted = 0;
}

static void free_op(struct op *op)
{
    drop_body(op);
    free(op);
}

static void on_gone(struct front *f, struct request_owner *owner)
{
    struct op *op = CONTAINER_OF(owner, struct op, owner);
    (void)f;
    op->gone = true;
}

static void on_end(struct front *f, struct http_request *req, struct request_owner *owner)
{
    struct op *op = CONTAINER_OF(owner, struct op, owner);
    (void)f;
    *http_data(req) = NULL;
    op->req = NULL;
    op->gone = true;
    if (!op->calling)
        free_op(op);
}

/* What a call of the store that failed means to a client. */
static void refuse(struct http_request *req, int error)
{
    static const struct {
        int error;
        struct answer_error answer;
        const char *text;
    } table[] = {
        {ENOENT, {404, "not_found", 0, NULL}, "there is no such file"},
        {EDQUOT,
         {429, "quota_exceeded", 0, NULL},
         "this key's uploads are as many or as large as store.key_files_max and store.key_max_mb "
         "allow: delete some"},
        {EFBIG,
         {413, "file_too_large", 0, NULL},
         "the file is larger than store.file_max_mb allows"},
        {EAGAIN, {503, "overloaded", 1000, NULL}, "too much is waiting to be stored"},
        {ENOSPC, {507, "storage_full", 0, NULL}, "there is no room left to store it"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (table[i].error == error) {
            answer_error(req, &table[i].answer, "%s", table[i].text);
            return;
        }
    answer_error(req, &(struct answer_error){500, "internal", 0, NULL}, "the store failed");
}

/* NULL: answered. */
static struct op *new_op(struct front *f, struct http_request *req)
{
    struct op *op = calloc(1, sizeof *op);
    if (!op) {
        refuse(req, ENOMEM);
        return NULL;
    }
    op->owner.on_gone = on_gone;
    op->owner.on_end = on_end;
    op->front = f;
    op->req = req;
    op->call.fd = -1;
    *http_data(req) = &op->owner;
    return op;
}

/* Whose file. */
static void set_key(struct op *op)
{
    (void)snprintf(op->call.key, sizeof op->call.key, "%s", routes_key_label(op->req));
}

static void submit(struct op *op, enum store_verb verb, void (*on_done)(struct store_call *call))
{
    op->call.verb = verb;
    op->call.on_done = on_done;
    op->calling = true;
    if (store_submit(&op->front->mailbox, &op->call) < 0) {
        op->calling = false;
        refuse(op->req, EAGAIN);
    }
}

/* The store is done. NULL: nobody waits for it any more. */
static struct op *take_done(struct store_call *call)
{
    struct op *op = CONTAINER_OF(call, struct op, call);
    op->calling = false;
    drop_body(op);
    if (!op->gone)
        return op;
    if ((call->verb == STORE_GET_OBJECT || call->verb == STORE_GET_OUTPUT) && call->error == 0)
        (void)close(call->fd);
    if (!op->req)
        free_op(op);
    return NULL;
}

/* ---- POST /v1/files ---------------------------------------------------------------------------
 */

static void on_put(struct store_call *call)
{
    struct op *op = take_done(call);
    const struct store_object *o = &call->object;
    char body[256 + 6 * STORE_NAME_MAX];
    size_t taken, len;
    if (!op)
        return;
    if (call->error) {
        refuse(op->req, call->error);
        return;
    }
    len = (size_t)snprintf(body, sizeof body, "{\"id\":\"%s\",\"name\":\"", o->id);
    len += json_out_text(body + len, 6 * STORE_NAME_MAX, o->name, strlen(o->name), &taken);
    len += (size_t)snprintf(body + len, sizeof body - len,
                            "\",\"size\":%" PRIu64 ",\"sha256\":\"%s\"}\n", o->size, o->sha256);
    http_respond(op->req, 200, NULL, body, len);
}

static void put(struct op *op, const struct multipart_file *file)
{
    if (file->len > op->front->file_bytes_max) {
        answer_error(op->req, &(struct answer_error){413, "file_too_large", 0, NULL},
                     "the file has %zu bytes, store.file_max_mb allows %" PRIu64, file->len,
                     op->front->file_bytes_max);
        return;
    }
    op->counted = op->body_len;
    if (atomic_fetch_add(&storing, op->counted) + op->counted > STORING_BYTES_MAX) {
        refuse(op->req, EAGAIN);
        return;
    }
    op->call.data = file->at;
    op->call.len = file->len;
    op->call.bytes_max = op->front->file_bytes_max;
    op->call.upload = true;
    memcpy(op->call.object.name, file->name, strlen(file->name) + 1);
    set_key(op);
    submit(op, STORE_PUT_OBJECT, on_put);
}

static void on_body(void *user, struct http_request *req, int body_fd, uint64_t len)
{
    struct op *op = CONTAINER_OF((struct request_owner *)*http_data(req), struct op, owner);
    struct http_text type = http_header_of(req, "content-type");
    char boundary[MULTIPART_BOUNDARY_MAX + 1];
    struct multipart_file file;
    auto_close int fd = body_fd;
    const char *wrong = "the body is empty";
    (void)user;
    (void)multipart_boundary(type.at, type.len, boundary); /* was checked before */
    op->body = len == 0 ? MAP_FAILED : mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
    op->body_len = len;
    if (op->body == MAP_FAILED)
        op->body = NULL;
    else
        wrong = multipart_find(op->body, len, boundary, FIELD, &file);
    if (len > 0 && !op->body)
        refuse(req, ENOMEM);
    else if (wrong)
        answer_error(req, &(struct answer_error){400, "bad_multipart", 0, NULL}, "%s", wrong);
    else
        put(op, &file);
}

void uploads_on_post(struct front *f, struct http_request *req, const struct http_text *params)
{
    struct http_text type = http_header_of(req, "content-type");
    char boundary[MULTIPART_BOUNDARY_MAX + 1];
    (void)params;
    if (!f->greeted)
        answer_error(req, &(struct answer_error){503, "not_ready", 1000, NULL},
                     "the engine has not been heard of yet");
    else if (type.len >= sizeof MULTIPART - 1 &&
             strncasecmp(type.at, MULTIPART, sizeof MULTIPART - 1) == 0 &&
             multipart_boundary(type.at, type.len, boundary) == 0)
        answer_error(req, &(struct answer_error){400, "bad_multipart", 0, NULL},
                     "Content-Type has no boundary that could be one");
    else if (!type.at || multipart_boundary(type.at, type.len, boundary) == 0)
        answer_error(req, &(struct answer_error){415, "unsupported_media_type", 0, NULL},
                     "the body must be " MULTIPART " with a boundary, and one part named " FIELD);
    else if (new_op(f, req))
        http_body_receive(req, on_body);
}

/* ---- GET, DELETE /v1/files/{id} ---------------------------------------------------------------
 */

static void on_got(struct store_call *call)
{
    struct op *op = take_done(call);
    char etag[STORE_SHA256_ROOM + 2];
    if (!op)
        return;
    if (call->error) {
        refuse(op->req, call->error);
        return;
    }
    /* An output is written once. */
    (void)snprintf(etag, sizeof etag, "\"%s\"",
                   call->verb == STORE_GET_OUTPUT ? call->object.id : call->object.sha256);
    const struct serve_file file = {.fd = call->fd,
                                    .size = call->object.size,
                                    .etag = etag,
                                    .content_type = content_type_of(call->object.name),
                                    .name = call->object.name,
                                    .cache_control = "private, no-cache",
                                    .v1_errors = true};
    serve_file(op->req, &file);
}

/* What is signed is the text as it is sent, so neither is decoded. {NULL, 0}: it is not there. */
static struct http_text find_raw(struct http_text query, const char *name)
{
    const char *p = query.at, *end = query.at + query.len;
    size_t len = strlen(name);
    while (p < end) {
        const char *and = memchr(p, '&', (size_t)(end - p)), *stop = and? and : end;
        if ((size_t)(stop - p) > len && memcmp(p, name, len) == 0 && p[len] == '=')
            return (struct http_text){p + len + 1, (size_t)(stop - p) - len - 1};
        p = stop + 1;
    }
    return (struct http_text){NULL, 0};
}

static bool take_id(struct op *op, struct http_text id)
{
    if (!store_id_is_valid(PREFIX, id.at, id.len)) {
        refuse(op->req, ENOENT);
        return false;
    }
    memcpy(op->call.object.id, id.at, id.len);
    return true;
}

static void get_signed(struct front *f, struct http_request *req, struct http_text id,
                       struct http_text payload, struct http_text sig)
{
    enum url_verdict verdict = urls_check(f->urls, id, payload, sig, store_now_ms());
    if (verdict != URL_GOOD) {
        answer_error(req,
                     &(struct answer_error){
                         403, verdict == URL_EXPIRED ? "url_expired" : "bad_signature", 0, NULL},
                     "%s",
                     verdict == URL_EXPIRED ? "the URL has expired"
                                            : "the URL is not one of this service's");
        return;
    }
    struct op *op = new_op(f, req);
    if (!op)
        return;
    op->call.any_key = true;
    if (store_id_is_valid(STORE_JOB_PREFIX, id.at, id.len)) { /* what a job wrote */
        memcpy(op->call.object.id, id.at, id.len);
        submit(op, STORE_GET_OUTPUT, on_got);
    } else if (take_id(op, id)) {
        submit(op, STORE_GET_OBJECT, on_got);
    }
}

void uploads_on_get(struct front *f, struct http_request *req, const struct http_text *params)
{
    struct http_text query = http_query(req);
    struct http_text payload = find_raw(query, "payload"), sig = find_raw(query, "sig");
    if (payload.at || sig.at) {
        get_signed(f, req, params[0], payload, sig);
        return;
    }
    if (!auth_admit(f, req, KEY_FILES)) /* without a signature, as any route */
        return;
    struct op *op = new_op(f, req);
    if (!op || !take_id(op, params[0]))
        return;
    set_key(op);
    submit(op, STORE_GET_OBJECT, on_got);
}

static void on_dropped(struct store_call *call)
{
    struct op *op = take_done(call);
    char body[96];
    if (!op)
        return;
    if (call->error) {
        refuse(op->req, call->error);
        return;
    }
    int n = snprintf(body, sizeof body, "{\"id\":\"%s\",\"deleted\":true}\n", call->object.id);
    http_respond(op->req, 200, NULL, body, (size_t)n);
}

void uploads_on_delete(struct front *f, struct http_request *req, const struct http_text *params)
{
    struct op *op = new_op(f, req);
    if (!op || !take_id(op, params[0]))
        return;
    set_key(op);
    submit(op, STORE_DROP_OBJECT, on_dropped);
}
