/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/routes - which path and method is what, and what every request has in common.
 *
 * In the frontend, per thread. The table is the API; a path is compared as it was sent (nothing is
 * decoded or normalised), so there is one spelling of each.
 */
#include "frontend/answer.h"
#include "frontend/front.h"
#include "lib/clock.h"
#include "lib/log.h"

static bool text_is(struct http_text t, const char *s)
{
    return t.len == strlen(s) && memcmp(t.at, s, t.len) == 0;
}

static void health(struct front *f, struct http_request *req)
{
    static const char healthy[] = "{\"status\":\"healthy\"}\n", ok[] = "{\"status\":\"ok\"}\n";
    (void)f;
    if (text_is(http_path(req), "/health"))
        http_respond(req, 200, NULL, healthy, sizeof healthy - 1);
    else
        http_respond(req, 200, NULL, ok, sizeof ok - 1);
}

static void ready(struct front *f, struct http_request *req)
{
    static const char text[] = "{\"status\":\"ready\"}\n";
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

static void capabilities(struct front *f, struct http_request *req)
{
    if (f->capabilities)
        http_respond(req, 200, NULL, f->capabilities, strlen(f->capabilities));
    else
        answer_error(req, &(struct answer_error){503, "not_ready", 1000, NULL},
                     "the engine has not been heard of yet");
}

static void languages(struct front *f, struct http_request *req)
{
    const char *json = f->languages.json;
    if (json)
        http_respond(req, 200, NULL, json, strlen(json));
    else
        answer_error(req, &(struct answer_error){503, "not_ready", 1000, NULL},
                     "the engine has not been heard of yet");
}

static const struct {
    const char *path, *method, *also, *allow;
    bool while_draining;
    void (*run)(struct front *f, struct http_request *req);
} routes[] = {
    {"/execute", "POST", "POST", "POST", false, execute_on_request},
    {"/health", "GET", "HEAD", "GET, HEAD", true, health},
    {"/v1/health", "GET", "HEAD", "GET, HEAD", true, health},
    {"/v1/capabilities", "GET", "HEAD", "GET, HEAD", true, capabilities},
    {"/v1/languages", "GET", "HEAD", "GET, HEAD", true, languages},
    {"/ready", "GET", "HEAD", "GET, HEAD", true, ready},
};

void routes_on_request(void *front, struct http_request *req)
{
    struct front *f = front;
    struct http_text path = http_path(req), method = http_method(req);
    if (f->draining || f->ending)
        http_close_after(req);
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        if (!text_is(path, routes[i].path))
            continue;
        if (!text_is(method, routes[i].method) && !text_is(method, routes[i].also))
            answer_error(req, &(struct answer_error){405, "method_not_allowed", 0, routes[i].allow},
                         "this path takes %s", routes[i].allow);
        else if ((f->draining || f->ending) && !routes[i].while_draining)
            answer_error(req, &(struct answer_error){503, "draining", 1000, NULL},
                         "the service is stopping");
        else
            routes[i].run(f, req);
        return;
    }
    answer_error(req, &(struct answer_error){404, "not_found", 0, NULL}, "there is no such path");
}

void routes_on_gone(void *front, struct http_request *req)
{
    void *run = *http_data(req);
    if (run)
        execute_on_gone(front, run);
}

void routes_on_end(void *front, struct http_request *req)
{
    struct http_text method = http_method(req), path = http_path(req);
    char m[17], p[129];
    void *run = *http_data(req);
    if (run) {
        execute_on_end(front, req, run);
        return;
    }
    (void)snprintf(m, sizeof m, "%.*s", (int)(method.len < 16 ? method.len : 16), method.at);
    (void)snprintf(p, sizeof p, "%.*s", (int)(path.len < 128 ? path.len : 128), path.at);
    LOG(INFO, "request", F_STR("request_id", http_request_id(req)), F_STR("method", m),
        F_STR("path", p), F_I64("status", http_status(req)),
        F_U64("duration_us", (clock_now_ns() - http_begin_ns(req)) / 1000),
        F_U64("bytes", http_bytes(req)));
}
