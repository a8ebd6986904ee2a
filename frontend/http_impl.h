/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/http_impl - what the http*.c files share; nobody else includes this. */
#pragma once
#define H2O_USE_LIBUV 0
#include "frontend/http.h"
#include <h2o.h>
#include <h2o/http1.h>

#define HTTP_LISTENERS_MAX 8
#define HTTP_TICK_MS 100u /* how precise connection deadlines are */

enum http_conn_state {
    HTTP_READING,   /* idle, or a request is coming in */
    HTTP_BUSY,      /* a request is being worked on */
    HTTP_ANSWERING, /* an answer is going out */
};

/* One accepted connection; hangs on the library's socket (sock->on_close.data) and dies with it. */
struct http_conn {
    struct http_server *server;
    h2o_socket_t *sock;
    struct http_request *current;
    enum http_conn_state state;
    bool partial; /* READING: some bytes of a request are there (or the first one is awaited) */
    bool watched; /* BUSY: we hear of the client's end at once */
    uint64_t since_ns; /* of the state; ANSWERING: of the last progress */
    struct http_conn *prev, *next;
};

struct http_request {
    h2o_generator_t generator; /* first: the library hands it back */
    h2o_req_t *req;
    struct http_conn *conn;
    void *data;
    bool started, gone;
    int status;
    uint64_t begin_ns, bytes;
    http_fill fill;
    void *fill_data;
    char *chunk; /* malloc'ed, HTTP_CHUNK_BYTES */
    char id[HTTP_REQUEST_ID_MAX + 1];
};

struct http_server {
    h2o_globalconf_t conf;
    h2o_context_t ctx;
    h2o_accept_ctx_t accept;
    h2o_loop_t *loop;
    h2o_hostconf_t *host;
    const struct http_app *app;
    void *user;
    struct http_settings settings;
    h2o_socket_t *listeners[HTTP_LISTENERS_MAX];
    size_t listener_count;
    bool paused, draining, stopping;
    uint64_t paused_ns;
    struct http_conn *conns;
    size_t open_requests;
    struct http_timer timers; /* list head, sorted */
    struct http_timer tick;
    uint64_t id_prefix, id_next;
};

/* http_conn.c */
void http_conns_init(struct http_server *s);
void http_conn_watch(struct http_conn *c);
void http_conn_unwatch(struct http_conn *c);
/* The connection breaks now; the library notices and cleans up. */
void http_conn_break(struct http_conn *c);
/* http.c: the client of a pending request is gone. */
void http_request_gone(struct http_request *r);
void http_make_id(struct http_server *s, const h2o_req_t *req, char id[HTTP_REQUEST_ID_MAX + 1]);
const char *http_reason(int status);
/* http_error.c: makes the library's own error answers look like ours. */
void http_errors_init(struct http_server *s);
/* http_watch.c */
uint64_t http_timers_next_ns(const struct http_server *s); /* 0: none */
void http_timers_run(struct http_server *s, uint64_t now_ns);
