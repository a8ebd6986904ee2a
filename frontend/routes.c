/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/routes - which path and method is what, and what every request has in common.
 *
 * In the frontend, per thread. The table is the API: a row is a method and a pattern, and whoever
 * adds a route adds a row. In a pattern, {name} stands for one segment that is not empty and
 * {name...}, at the end, for whatever is left, perhaps nothing. Everything else is compared as it
 * was sent: nothing is decoded or normalised before it is known which route it is, so there is one
 * spelling of each, and what a {name} stands for is decoded by its handler (frontend/uri.h). The
 * first row whose pattern and method fit answers; a path that only fits rows of other methods is
 * 405. Rows are few and differ early, so a walk is cheap, and the busiest come first.
 */
#include "frontend/answer.h"
#include "frontend/front.h"
#include "frontend/multipart.h"
#include "frontend/once.h"
#include "frontend/terminal.h"
#include "keys/keys.h"
#include "lib/clock.h"
#include "lib/log.h"
#include <assert.h>

static bool text_is(struct http_text t, const char *s)
{
    return t.len == strlen(s) && memcmp(t.at, s, t.len) == 0;
}

static void health(struct front *f, struct http_request *req, const struct http_text *params)
{
    static const char healthy[] = "{\"status\":\"healthy\"}\n", ok[] = "{\"status\":\"ok\"}\n";
    (void)f;
    (void)params;
    if (text_is(http_path(req), "/health"))
        http_respond(req, 200, NULL, healthy, sizeof healthy - 1);
    else
        http_respond(req, 200, NULL, ok, sizeof ok - 1);
}

static void ready(struct front *f, struct http_request *req, const struct http_text *params)
{
    static const char text[] = "{\"status\":\"ready\"}\n";
    (void)params;
    if (f->draining)
        answer_error(req, &(struct answer_error){503, "draining", 1000, NULL},
                     "the service is stopping");
    else if (!f->greeted)
        answer_error(req, &(struct answer_error){503, "not_ready", 1000, NULL},
                     "the engine has not been heard of yet");
    else if (!output_may_begin())
        answer_error(req, &(struct answer_error){503, "overloaded", 1000, NULL},
                     "too much output is waiting for its clients");
    else
        http_respond(req, 200, NULL, text, sizeof text - 1);
}

static void capabilities(struct front *f, struct http_request *req, const struct http_text *params)
{
    (void)params;
    if (f->capabilities)
        http_respond(req, 200, NULL, f->capabilities, strlen(f->capabilities));
    else
        answer_error(req, &(struct answer_error){503, "not_ready", 1000, NULL},
                     "the engine has not been heard of yet");
}

static void languages(struct front *f, struct http_request *req, const struct http_text *params)
{
    (void)params;
    const char *json = f->languages.json;
    if (json)
        http_respond(req, 200, NULL, json, strlen(json));
    else
        answer_error(req, &(struct answer_error){503, "not_ready", 1000, NULL},
                     "the engine has not been heard of yet");
}

#define PARAMS_MAX 4
#define FORM_BYTES                                                                                 \
    (2 * MULTIPART_HEAD_MAX) /* what is around the file: its part's head, boundaries */
#define HEAD_TOO 1u          /* GET; HEAD is answered alike, without the body */
#define WHILE_DRAINING 2u    /* also when the service stops */
#define UPLOAD 4u            /* bodies up to files.upload_max_mb, by http_body_receive */
#define FORM 8u              /* likewise, but a form with a file of up to store.file_max_mb */
#define ONCE 16u             /* may come with an Idempotency-Key; no {name} in its path */
#define WHOLE 32u            /* and does nothing but by a call with a promise (once.h) */

struct route {
    const char *method, *path;
    uint32_t scope; /* enum key_scope, or AUTH_ANY_KEY; 0: anyone */
    uint32_t flags;
    route_handler *run;
};

#define FILES_PATH "/v1/namespaces/{id}/files/{path...}"
#define SESSIONS_PATH "/v1/namespaces/{id}/sessions"
#define ARCHIVE_PATH "/v1/namespaces/{id}/archive"
static const struct route routes[] = {
    {"POST", "/execute", KEY_EXECUTE, ONCE, execute_on_request},
    {"GET", FILES_PATH, KEY_NAMESPACES, HEAD_TOO, files_on_get},
    {"PUT", FILES_PATH, KEY_NAMESPACES, UPLOAD, files_on_put},
    {"DELETE", FILES_PATH, KEY_NAMESPACES, 0, files_on_delete},
    {"GET", ARCHIVE_PATH, KEY_NAMESPACES, 0, archive_on_get},
    {"POST", ARCHIVE_PATH, KEY_NAMESPACES, UPLOAD, archive_on_post},
    {"GET", "/v1/namespaces", KEY_NAMESPACES, HEAD_TOO, ns_on_list},
    {"DELETE", "/v1/namespaces/{id}", KEY_NAMESPACES, 0, ns_on_remove},
    {"GET", SESSIONS_PATH, KEY_EXECUTE, HEAD_TOO, ns_on_sessions},
    {"DELETE", SESSIONS_PATH "/{name}", KEY_EXECUTE, 0, ns_on_session_close},
    {"GET", "/v1/namespaces/{id}/terminal", KEY_EXECUTE | AUTH_BY_PROTOCOL, 0, terminals_on_open},
    {"GET", "/v1/namespaces/{id}/terminals", KEY_EXECUTE, HEAD_TOO, terminals_on_list},
    {"DELETE", "/v1/namespaces/{id}/terminals/{name}", KEY_EXECUTE, 0, terminals_on_delete},
    {"POST", "/v1/files", KEY_FILES, FORM, uploads_on_post},
    {"GET", "/v1/files/{id}", 0, HEAD_TOO, uploads_on_get}, /* asks for a key without a signature */
    {"DELETE", "/v1/files/{id}", KEY_FILES, 0, uploads_on_delete},
    {"GET", "/health", 0, HEAD_TOO | WHILE_DRAINING, health},
    {"GET", "/v1/health", 0, HEAD_TOO | WHILE_DRAINING, health},
    {"POST", "/v1/runs", KEY_RUNS, ONCE, work_on_request},
    {"GET", "/v1/runs", KEY_RUNS, HEAD_TOO | WHILE_DRAINING, runs_on_list},
    {"GET", "/v1/usage", AUTH_ANY_KEY, HEAD_TOO | WHILE_DRAINING, usage_on_get},
    {"GET", "/v1/runs/{id}", KEY_RUNS, HEAD_TOO | WHILE_DRAINING, runs_on_get},
    {"DELETE", "/v1/runs/{id}", KEY_RUNS, WHILE_DRAINING, runs_on_delete},
    {"POST", "/submit", KEY_RUNS, ONCE | WHOLE, jobs_on_submit},
    {"GET", "/status", KEY_RUNS, HEAD_TOO | WHILE_DRAINING, jobs_on_status},
    {"GET", "/result", KEY_RUNS, HEAD_TOO | WHILE_DRAINING, jobs_on_output},
    {"GET", "/v1/jobs", KEY_RUNS, HEAD_TOO | WHILE_DRAINING, jobs_on_list},
    {"DELETE", "/v1/jobs/{id}", KEY_RUNS, WHILE_DRAINING, jobs_on_delete},
    {"GET", "/v1/runs/{id}/events", KEY_RUNS, WHILE_DRAINING, events_on_get},
    {"POST", "/v1/runs/{id}/stdin", KEY_RUNS, WHILE_DRAINING, feed_on_stdin},
    {"POST", "/v1/runs/{id}/signal", KEY_RUNS, WHILE_DRAINING, feed_on_signal},
    {"GET", "/v1/jobs/{id}/deliveries", KEY_RUNS, HEAD_TOO | WHILE_DRAINING, webhooks_on_list},
    {"GET", "/v1/capabilities", AUTH_ANY_KEY, HEAD_TOO | WHILE_DRAINING, capabilities},
    {"GET", "/v1/languages", AUTH_ANY_KEY, HEAD_TOO | WHILE_DRAINING, languages},
    {"GET", "/openapi.yaml", 0, HEAD_TOO | WHILE_DRAINING, openapi_on_get},
    {"GET", "/ready", 0, HEAD_TOO | WHILE_DRAINING, ready},
};

static bool matches(const char *pattern, struct http_text path, struct http_text *params)
{
    const char *at = path.at, *end = path.at + path.len;
    size_t count = 0;
    for (const char *p = pattern; *p;) {
        if (*p != '{') {
            if (at == end || *at++ != *p++)
                return false;
            continue;
        }
        const char *close = strchr(p, '}');
        bool rest = close[-1] == '.';
        const char *slash = rest ? NULL : memchr(at, '/', (size_t)(end - at));
        const char *stop = slash ? slash : end;
        assert(count < PARAMS_MAX);
        if (!rest && stop == at)
            return false;
        params[count++] = (struct http_text){at, (size_t)(stop - at)};
        at = stop;
        p = close + 1;
    }
    return at == end;
}

static bool takes(const struct route *r, struct http_text method)
{
    return text_is(method, r->method) || ((r->flags & HEAD_TOO) && text_is(method, "HEAD"));
}

/* NULL: none; then *ret_allow is the methods that the path takes, "" when there is no such path. */
static const struct route *find(struct http_text method, struct http_text path,
                                struct http_text params[PARAMS_MAX], char ret_allow[64])
{
    size_t n = 0;
    ret_allow[0] = 0;
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        const struct route *r = &routes[i];
        if (!matches(r->path, path, params))
            continue;
        if (takes(r, method))
            return r;
        n += (size_t)snprintf(ret_allow + n, n < 64 ? 64 - n : 0, "%s%s%s", n ? ", " : "",
                              r->method, r->flags & HEAD_TOO ? ", HEAD" : "");
    }
    return NULL;
}

uint64_t routes_upload_max(void *front, struct http_text method, struct http_text path)
{
    const struct front *f = front;
    struct http_text params[PARAMS_MAX];
    char allow[64];
    if (path.len < 4 || memcmp(path.at, "/v1/", 4) != 0) /* the busiest path is not one */
        return 0;
    const struct route *r = find(method, path, params, allow);
    if (r && (r->flags & FORM))
        return f->file_bytes_max + FORM_BYTES;
    return r && (r->flags & UPLOAD) ? f->upload_bytes_max : 0;
}

void routes_on_request(void *front, struct http_request *req)
{
    struct front *f = front;
    struct http_text params[PARAMS_MAX] = {0};
    char allow[64];
    const struct route *r = find(http_method(req), http_path(req), params, allow);
    bool draining = f->draining || f->ending;
    if (draining)
        http_close_after(req);
    if (r && draining && !(r->flags & WHILE_DRAINING))
        answer_error(req, &(struct answer_error){503, "draining", 1000, NULL},
                     "the service is stopping");
    else if (r && r->scope && !f->has_keys && !origin_may(f, req, f->terminals.origins))
        answer_error(req, &(struct answer_error){403, "forbidden", 0, NULL},
                     "without keys, pages of other origins may ask for nothing");
    else if (r && !auth_admit(f, req, r->scope))
        return; /* answered */
    else if (r && (r->flags & ONCE) && once_on_request(f, req, r->run, r->flags & WHOLE))
        return; /* it goes on there */
    else if (r)
        r->run(f, req, params);
    else if (allow[0])
        answer_error(req, &(struct answer_error){405, "method_not_allowed", 0, allow},
                     "this path takes %s", allow);
    else
        answer_error(req, &(struct answer_error){404, "not_found", 0, NULL},
                     "there is no such path");
}

void routes_on_gone(void *front, struct http_request *req)
{
    struct request_owner *owner = *http_data(req);
    if (owner)
        owner->on_gone(front, owner);
}

static void log_request(struct http_request *req)
{
    struct http_text method = http_method(req), path = http_path(req);
    char m[17], p[129];
    (void)snprintf(m, sizeof m, "%.*s", (int)(method.len < 16 ? method.len : 16), method.at);
    (void)snprintf(p, sizeof p, "%.*s", (int)(path.len < 128 ? path.len : 128), path.at);
    LOG(INFO, "request", F_STR("request_id", http_request_id(req)), F_STR("method", m),
        F_STR("path", p), F_I64("status", http_status(req)),
        F_U64("duration_us", (clock_now_ns() - http_begin_ns(req)) / 1000),
        F_U64("bytes", http_bytes(req)), F_LAST_STR("key", routes_key_label(req)));
}

void routes_on_end(void *front, struct http_request *req)
{
    struct request_owner *owner = *http_data(req);
    bool logged = owner && owner->logs;
    if (owner)
        owner->on_end(front, req, owner);
    if (!logged)
        log_request(req);
    auth_on_end(req);
}
