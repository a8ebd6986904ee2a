/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/http - all that the frontend knows of an HTTP server: one server per thread, with its
 * loop.
 *
 * The library behind it (libh2o 2.2.5) shows in frontend/http*.c only. A server owns its
 * connections, their deadlines, the requests on them, watched descriptors and timers. Nothing here
 * is shared between threads but the count of connections, which is limited for the process.
 */
#pragma once
#include <sys/types.h>
struct err;
struct http_server;
struct http_request;
struct http_watch;
struct http_ws;

#define HTTP_CHUNK_BYTES 65536u /* the most that a response holds in memory beyond its source */
#define HTTP_REQUEST_ID_MAX 128u

struct http_text {
    const char *at;
    size_t len;
};

struct http_header {
    const char *name, *value; /* lower case name; NULL name ends a list */
};

struct http_settings {
    uint64_t body_bytes_max, connections_max;
    uint64_t uploads_held_max;   /* of bodies being received or worked on, in the whole process */
    uint64_t request_timeout_ms; /* a request must have been read this long after its first byte */
    uint64_t idle_timeout_ms;    /* a kept connection may be silent this long */
    uint64_t write_timeout_ms;   /* a client must take a chunk of the answer within this */
};

/* What the program does with it. `user` is what http_server_new was given. */
struct http_app {
    /* How large the body of a request to this path may be. 0: not a route for uploads, the library
     * reads the body (up to body_bytes_max) before on_request. Otherwise on_request comes with the
     * head alone, and http_body_receive fetches the body. Called with what a client has sent. */
    uint64_t (*upload_max)(void *user, struct http_text method, struct http_text path);
    /* Writes the body of an error that the server itself answers: JSON as this path has it. Both
     * words are plain text of ours. Returns its length. */
    size_t (*put_error)(struct http_text path, const char *code, const char *message, char *to,
                        size_t room);
    /* A whole request was read. Answer now or later, exactly once. */
    void (*on_request)(void *user, struct http_request *req);
    /* Its client is gone before an answer began: do not answer any more. on_end follows. */
    void (*on_gone)(void *user, struct http_request *req);
    /* The request is over (answered, failed or gone); its memory goes after this. */
    void (*on_end)(void *user, struct http_request *req);
    /* After each round of the loop, when nothing else is waiting. */
    void (*on_turn)(void *user);
};

/* NULL when memory or descriptors are out. The server serves the thread that calls http_run. */
struct http_server *http_server_new(const struct http_app *app, void *user);
void http_server_set(struct http_server *s, const struct http_settings *settings);
/* Accepts from a listening socket (a duplicate: the caller keeps its own). 0 or <0 with err. */
int http_listen(struct http_server *s, int fd, struct err *err);
/* Accepts nothing more, closes idle connections, and the others after their answer. Idempotent. */
void http_drain(struct http_server *s);
size_t http_open_requests(const struct http_server *s);
/* Calls visit for each request that is open; it may not end one. */
void http_each_open(struct http_server *s, void (*visit)(void *data, struct http_request *req),
                    void *data);
/* Runs until http_stop. */
void http_run(struct http_server *s);
void http_stop(struct http_server *s);

struct http_text http_method(const struct http_request *req);
/* The path as sent, without the query. */
struct http_text http_path(const struct http_request *req);
/* What is behind the first '?', {.., 0} when there is nothing. */
struct http_text http_query(const struct http_request *req);
bool http_is_head(const struct http_request *req);
/* {NULL, 0} when the header (lower case name) is not there. */
struct http_text http_header_of(const struct http_request *req, const char *name);
/* Does it stand there more than once? */
bool http_header_repeats(const struct http_request *req, const char *name);
/* The body, when the library has read it. */
struct http_text http_body(const struct http_request *req);
/* Gets the body of a request into a sealed memfd, whoever reads it, and then calls on_body: at
 * once, or later, or never, when the client fails to send it (it is answered then: 400 broken, 408
 * slow, 413 too large, 503 too much at once; on_end follows). The descriptor is on_body's. Once per
 * request. Whoever never calls it refuses the body: it stays unread and the connection closes. */
typedef void (*http_on_body)(void *user, struct http_request *req, int fd, uint64_t len);
void http_body_receive(struct http_request *req, http_on_body on_body);
/* X-Request-Id: the client's when it is 1-128 of [A-Za-z0-9._-], otherwise made here. */
const char *http_request_id(const struct http_request *req);
void **http_data(struct http_request *req);        /* a place for the program's own pointer */
const void **http_whose(struct http_request *req); /* and for whose request it is */
/* For the log, valid in on_end: status 0 is "not answered". */
int http_status(const struct http_request *req);
uint64_t http_bytes(const struct http_request *req); /* of the body, as given to the library */
uint64_t http_begin_ns(const struct http_request *req);

/* Answers with a body of known length, which is copied. content_type NULL: there is none. To HEAD
 * every answer goes without its body. */
void http_respond_as(struct http_request *req, int status, const struct http_header *headers,
                     const char *content_type, const void *body, size_t len);
/* The same with application/json. */
void http_respond(struct http_request *req, int status, const struct http_header *headers,
                  const void *body, size_t len);
/* Answers with len bytes of a regular file, from offset on, read as the client takes them. Takes
 * the descriptor. Should there be fewer bytes, the connection breaks. */
void http_respond_fd(struct http_request *req, int status, const struct http_header *headers,
                     const char *content_type, int fd, uint64_t offset, uint64_t len);
/* Answers with a body of unknown length: fill writes up to room bytes and says when it was the
 * last. It is called only when the client has taken what came before. 0 bytes that are not the last
 * mean that there is nothing now: it is called again after http_more. HTTP_FILL_BROKEN breaks the
 * connection, so that the client knows that something is missing. A client that leaves meanwhile
 * ends the request (on_end, without on_gone). */
typedef size_t (*http_fill)(void *data, char *room_at, size_t room, bool *ret_last);
#define HTTP_FILL_BROKEN SIZE_MAX
void http_stream_as(struct http_request *req, int status, const struct http_header *headers,
                    const char *content_type, http_fill fill, void *data);
void http_stream(struct http_request *req, int status, http_fill fill, void *data);
/* There is something to fill again. Not from within fill. May end the request. */
void http_more(struct http_request *req);
/* A header of whatever the answer will be; lower case name, the value is copied. Before answering.
 */
void http_add_header(struct http_request *req, const char *name, const char *value);
/* The connection is closed after this answer. Before answering. */
void http_close_after(struct http_request *req);

/* What a request was answered. All of it is the caller's, but fill's data, which last until the
 * request ends. */
struct http_answer {
    int status;
    const struct http_header *headers; /* or NULL */
    const char *content_type;          /* or NULL */
    const void *body;                  /* without a fill */
    size_t len;
    http_fill fill;
    void *fill_data;
    bool closes; /* http_close_after */
};
struct http_sink {
    void (*on_answer)(void *user, const struct http_answer *answer); /* once */
    void (*on_more)(void *user);                                     /* http_more */
};
/* A request that asks the same as another (which is no copy), goes on when that one ends, and whose
 * answer goes to the sink instead of a client. on_gone and on_end are not called for it. Its body
 * is the other's: drop it before that ends. It has no place for uploads (http_body_receive) and
 * files (http_respond_fd). NULL: no memory. */
struct http_request *http_copy_new(const struct http_request *req, const struct http_sink *sink,
                                   void *user);
void http_copy_drop_body(struct http_request *copy);
void http_copy_free(struct http_request *copy); /* NULL does nothing */
/* What the request asks for may have been done by now, whatever it is answered from here on; or,
 * after all, it was not. For copies; on others it does nothing. */
void http_mark_begun(struct http_request *req, bool begun);
bool http_copy_is_begun(const struct http_request *copy);
/* Whose sink has the answer; NULL: it is no copy. */
void *http_copy_user(const struct http_request *req);

/* ---- WebSockets: http_ws.c ---------------------------------------------------------------------
 *
 * One is first of no thread: it may be handed to another and started there. From then on everything
 * is called by that thread. Binary messages are bytes: where one ends is not told. */
#define HTTP_WS_QUEUE_MAX (64u * 1024) /* bytes that wait, beside what the kernel holds */

struct http_ws_app {
    /* Returns how many it takes. 0: none now, and nothing more is read from this client until
     * http_ws_resume. */
    size_t (*on_bytes)(void *data, const void *bytes, size_t len);
    /* A whole text message of at most 1 KiB (ws_frames.h), UTF-8, with a NUL behind it. */
    void (*on_text)(void *data, const char *text, size_t len);
    /* There is room again. */
    void (*on_room)(void *data);
    /* It is over: the client closed it with this code (1005: without one), broke the protocol (the
     * code it was told), or went (1006). Not after http_ws_close. It is gone afterwards. */
    void (*on_closed)(void *data, unsigned code);
};

/* Makes a request a WebSocket, which speaks this subprotocol (NULL: none). on_open comes when the
 * request is over, NULL when the client left before. False: it was no fitting handshake, and was
 * answered; on_open does not come. Who may open one is the caller's matter, Origin included. */
bool http_ws_accept(struct http_request *req, const char *protocol,
                    void (*on_open)(void *data, struct http_ws *ws), void *data);
/* A client that is silent for silence_ms, in spite of a ping after half of it, is gone. */
void http_ws_start(struct http_server *s, struct http_ws *ws, const struct http_ws_app *app,
                   void *data, uint64_t silence_ms);
/* How many bytes may be sent now; 0 also when it is closing. When that is not enough, on_room
 * follows. */
size_t http_ws_room(const struct http_ws *ws);
/* One binary message, of at most http_ws_room bytes. */
void http_ws_send(struct http_ws *ws, const void *bytes, size_t len);
/* A text message of at most 1 KiB, for which there is always room, once for each that came. */
void http_ws_send_text(struct http_ws *ws, const char *text, size_t len);
/* After on_bytes said 0. May call all but on_open before it returns. */
void http_ws_resume(struct http_ws *ws);
/* Says good-bye; the caller knows it no longer. Also of one that was not started. */
void http_ws_close(struct http_ws *ws, unsigned code, const char *reason);

/* The Host of a request. */
struct http_text http_host(const struct http_request *req);

/* One-shot, on CLOCK_MONOTONIC. Zero-initialise; the owner cancels it before its memory goes. */
struct http_timer {
    uint64_t due_ns; /* 0: not armed */
    void (*on_due)(struct http_timer *t);
    struct http_timer *prev, *next;
};
void http_timer_set(struct http_server *s, struct http_timer *t, uint64_t due_ns);
void http_timer_cancel(struct http_timer *t);

/* Calls on_readable(data) while fd is readable or at its end. Takes the descriptor, makes it
 * non-blocking; NULL (fd untouched) when that is impossible. */
struct http_watch *http_watch_new(struct http_server *s, int fd, void (*on_readable)(void *data),
                                  void *data);
/* Stops calling, and calls again. */
void http_watch_pause(struct http_watch *w);
void http_watch_resume(struct http_watch *w);
/* Calls on_writable(data) once, when the descriptor can be written to or is broken. Not again
 * before that. */
void http_watch_when_writable(struct http_watch *w, void (*on_writable)(void *data));
/* Stops and closes the descriptor. NULL does nothing. */
void http_watch_free(struct http_watch *w);
