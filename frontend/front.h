/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/front - one thread's whole state, shared by routes, execute and main. */
#pragma once
#include "frontend/http.h"
#include "frontend/lang.h"
#include "frontend/output.h"
#include "frontend/parse.h"
#include "frontend/upstream.h"
#include <pthread.h>

struct front {
    struct http_server *server;
    struct upstream upstream;
    struct output_pipes pipes;
    struct http_timer tick;
    struct parse_limits limits; /* from the last Hello, like the next two */
    uint64_t timeout_ms_max;
    bool greeted, draining, ending;
    struct lang_list languages; /* of the last Hello */
    char *capabilities;         /* of the last Hello, as JSON; NULL: none yet */
    int null_fd; /* /dev/null, read-only, opened before the restrictions; of the process */
    bool first;  /* of all threads: it sets what is the process's, such as the log */
    pthread_t thread;
};

/* routes.c: every request of the server. */
void routes_on_request(void *front, struct http_request *req);
void routes_on_gone(void *front, struct http_request *req);
void routes_on_end(void *front, struct http_request *req);

/* capabilities.c: writes front->capabilities. */
void capabilities_on_hello(struct front *f, const struct proto_hello *h);

/* execute.c */
void execute_on_request(struct front *f, struct http_request *req);
void execute_on_result(void *front, void *run, const struct proto_result *result);
/* The client of this run (http_data of its request) is gone. */
void execute_on_gone(struct front *f, void *run);
/* Its request is over. Writes the line of the log and frees the run when the engine is done with
 * it. */
void execute_on_end(struct front *f, struct http_request *req, void *run);
/* The engine is gone: the open run is answered 500. */
void execute_on_lost(void *run);
