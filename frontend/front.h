/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/front - one thread's whole state, shared by routes, execute and main. */
#pragma once
#include "frontend/auth.h"
#include "frontend/http.h"
#include "frontend/jobs.h"
#include "frontend/lang.h"
#include "frontend/letters.h"
#include "frontend/output.h"
#include "frontend/parse.h"
#include "frontend/upstream.h"
#include "frontend/urls.h"
#include "frontend/usage.h"
#include "store/store.h"
#include <pthread.h>

struct front {
    struct http_server *server;
    struct upstream upstream;
    struct output_pipes pipes;
    size_t open_before; /* requests, at the end of the last turn */
    struct http_timer tick;
    struct parse_limits limits; /* from the last Hello, like the next line */
    uint64_t timeout_ms_max, max_wait_ms, upload_bytes_max;
    bool greeted, draining, ending;
    bool has_keys; /* a request needs one, and `keys` knows which */
    struct key_set *keys;
    uint64_t keys_due_ns;                    /* what is open is looked at again: auth_on_tick */
    struct lang_list languages;              /* of the last Hello */
    char *capabilities;                      /* of the last Hello, as JSON; NULL: none yet */
    struct store *store;                     /* of the process */
    struct store_mailbox mailbox;            /* for store_submit; collected by the loop */
    struct letterbox letters;                /* of other threads, and of streams */
    const struct urls *urls;                 /* of the process */
    uint64_t file_bytes_max, url_lifetime_s; /* from the last Hello, like the next one */
    char base_url[URL_BASE_MAX + 1];
    char webhook_allow[4096]; /* of the last Hello; "": nobody is told of anything */
    struct {                  /* from the last Hello */
        uint64_t idle_ms, life_ms, silence_ms;
        char origins[PROTO_ORIGINS_MAX + 1];
    } terminals;
    unsigned detached; /* runs that go on without a request; terminals */
    struct jobs_thread jobs;
    int null_fd; /* /dev/null, read-only, opened before the restrictions; of the process */
    bool first;  /* of all threads: it sets what is the process's, such as the log */
    pthread_t thread;
    struct usage usage;
};

/* Who answers a request later; embedded in that state, and *http_data(req) points to it. */
struct request_owner {
    /* The client is gone before an answer began: do not answer any more. on_end follows. */
    void (*on_gone)(struct front *f, struct request_owner *owner);
    /* The request is over: it may not be touched after this, and nobody else points to the owner.
     */
    void (*on_end)(struct front *f, struct http_request *req, struct request_owner *owner);
    /* Its key is gone. Only marks what is to end and sets a timer: requests are being walked over.
     * NULL: it goes on, since it ends by itself. */
    void (*on_revoked)(struct front *f, struct request_owner *owner);
    bool logs; /* on_end writes the request's line of the log, with more facts than routes.c has */
};

/* A handler answers now, or sets *http_data(req) and answers later. params: what stands for the
 * {names} of the pattern, in its order, as it was sent (uri_decode). It is gone on return. */
typedef void route_handler(struct front *f, struct http_request *req,
                           const struct http_text *params);

/* routes.c: every request of the server. */
uint64_t routes_upload_max(void *front, struct http_text method, struct http_text path);
void routes_on_request(void *front, struct http_request *req);
void routes_on_gone(void *front, struct http_request *req);
void routes_on_end(void *front, struct http_request *req);

/* origin.c: is the request no browser's, or of a page of this host, or of one of that comma list?
 */
bool origin_may(const struct front *f, struct http_request *req, const char *listed);

/* capabilities.c: writes front->capabilities. */
void capabilities_on_hello(struct front *f, const struct proto_hello *h);

/* work_open.c: cancels that other threads asked for. */
void work_on_tick(struct front *f);

/* The handlers: execute.c, ns.c, files.c, ... */
route_handler ns_on_list, ns_on_remove, ns_on_sessions, ns_on_session_close;
route_handler files_on_get, files_on_put, files_on_delete;
route_handler uploads_on_post, uploads_on_get, uploads_on_delete; /* files_api.c */
route_handler archive_on_get, archive_on_post;
route_handler execute_on_request;
route_handler work_on_request, runs_on_get, runs_on_delete;
route_handler jobs_on_submit, jobs_on_status, jobs_on_output, jobs_on_list, jobs_on_delete;
route_handler runs_on_list; /* runs_list.c */
route_handler usage_on_get;
route_handler events_on_get;
route_handler feed_on_stdin, feed_on_signal;
route_handler openapi_on_get;
route_handler webhooks_on_list;
