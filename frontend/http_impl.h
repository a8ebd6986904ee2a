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
    HTTP_RECEIVING, /* the same, and we read its body */
    HTTP_ANSWERING, /* an answer is going out */
    HTTP_WAITING,   /* an answer has begun, and its source has nothing now */
};

/* One accepted connection; hangs on the library's socket (sock->on_close.data) and dies with it. */
struct http_conn {
    struct http_server *server;
    h2o_socket_t *sock;
    struct http_request *current;
    enum http_conn_state state;
    bool partial;  /* READING: some bytes of a request are there (or the first one is awaited) */
    bool watched;  /* BUSY, RECEIVING: we hear of the client's end at once */
    bool unhooked; /* on the list of http_body.c: the library's own callback may be on the socket */
    bool judged;   /* READING: whose the body is has been decided */
    bool checked;  /* READING: the head is all there, and has no two lengths */
    bool too_large;         /* READING: its body is more than the library takes */
    bool upgraded;          /* its place among the connections is a WebSocket's now */
    int linger_fd;          /* a duplicate that outlives the connection, or -1 */
    size_t head_at;         /* READING: so far it was looked for the head's end */
    uint64_t counted;       /* of the library's buffer, against uploads_held_max */
    uint64_t since_ns;      /* of the state; ANSWERING: of the last progress */
    struct http_body *body; /* announced by the head that the library is about to see */
    struct http_conn *next_unhooked;
    struct http_conn *prev, *next;
};

struct http_request {
    h2o_generator_t generator; /* first: the library hands it back */
    struct http_copy *copy;    /* it stands for another: there is neither of the next two */
    h2o_req_t *req;
    struct http_conn *conn;
    void *data;
    const void *whose;
    struct http_body *body; /* an upload's, not yet handed over; or NULL */
    uint64_t held;          /* bytes of it that count against uploads_held_max */
    bool started, gone;
    bool head_sent; /* of an answer that comes in chunks */
    bool sending;   /* the library has a chunk and will ask for the next */
    bool filling;
    int status;
    uint64_t begin_ns, bytes;
    http_fill fill;
    void *fill_data;
    char *chunk; /* malloc'ed, HTTP_CHUNK_BYTES; NULL while there is nothing to send */
    int file_fd; /* http_respond_fd's, or -1 */
    uint64_t file_at, file_end;
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
    struct http_conn *conns, *unhooked;
    h2o_socket_cb library_read; /* what the library has on a socket that waits for a request */
    size_t open_requests;
    struct http_timer timers; /* list head, sorted */
    struct http_timer tick;
    uint64_t id_prefix, id_next;
};

/* http_conn.c */
void http_conn_uncount(void); /* one fewer of the process's connections */
void http_conns_init(struct http_server *s);
void http_conn_watch(struct http_conn *c);
void http_conn_unwatch(struct http_conn *c);
/* The connection breaks now; the library notices and cleans up. */
void http_conn_break(struct http_conn *c);
/* http_body.c */
void http_body_hook(struct http_conn *c);       /* after the library has taken over the socket */
void http_body_hook_all(struct http_server *s); /* after each round of the loop */
void http_body_unhooked(struct http_conn *c);   /* a request is over: the library reads again */
/* The connection is closed. True: its socket lingers, and `connections` is given back later. */
bool http_body_conn_closed(struct http_conn *c);
/* RECEIVING: the socket is readable, or at its end. */
void http_body_on_readable(struct http_request *r);
void http_body_on_overdue(struct http_request *r);
/* An answer begins before the body was read: the connection ends after it, but not with a reset
 * that could overtake it. */
void http_body_refuse(struct http_request *r);
/* The request ends: what was held is not any more. */
void http_body_drop(struct http_request *r);
/* http.c: the client of a pending request is gone. */
void http_request_gone(struct http_request *r);
/* The rest of an answer that has begun is missing: the client must not take what it has for all.
 * Frees the request and its connection. */
void http_request_break(struct http_request *r);
void http_make_id(struct http_server *s, const h2o_req_t *req, char id[HTTP_REQUEST_ID_MAX + 1]);
const char *http_reason(int status);
/* http_copy.c: what the functions of http.h do with a copy. */
struct http_text http_copy_method(const struct http_copy *c);
struct http_text http_copy_target(const struct http_copy *c);
struct http_text http_copy_body(const struct http_copy *c);
struct http_text http_copy_header(const struct http_copy *c, const char *name, size_t nth);
void http_copy_add_header(struct http_copy *c, const char *name, const char *value);
void http_copy_close_after(struct http_copy *c);
void http_copy_answer(struct http_request *r, const struct http_answer *given);
void http_copy_more(struct http_copy *c);
/* Answers 101; then the request is over and the socket is on_upgraded's. */
void http_upgrade(struct http_request *r, h2o_http1_upgrade_cb on_upgraded, void *data);
/* http_error.c: makes the library's own error answers look like ours. */
void http_errors_init(struct http_server *s);
/* http_watch.c */
uint64_t http_timers_next_ns(const struct http_server *s); /* 0: none */
void http_timers_run(struct http_server *s, uint64_t now_ns);
