/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/terminal - terminals of namespaces, and the WebSockets that show them.
 *
 * A terminal belongs to one thread, which its namespace and name choose (terminals.c): its engine
 * connection has the run, its loop the pty. A WebSocket is accepted by any thread and handed to
 * that one. What other threads may know of a terminal is in a list (terminal_list.c).
 */
#pragma once
#include "frontend/front.h"
#include <pthread.h>

#define TERMINAL_TERM_MAX 64u
#define TERMINAL_RING_BYTES HTTP_WS_QUEUE_MAX /* scrollback; all of it can be sent at once */

/* Close codes of ours, beside those of RFC 6455. */
#define TERMINAL_TAKEN_OVER 4001u

/* A client that wants a terminal: made by the thread that accepted it, then the terminal's. */
struct terminal_ask {
    struct terminal_ask *next;
    struct front *front; /* who accepted it */
    struct http_ws *ws;
    const struct key *whose; /* a reference */
    uint16_t cols, rows;
    bool sized; /* the client said how large it is */
    uint64_t timeout_ms_ceiling, memory_bytes_ceiling, cpu_ms_ceiling; /* its key's */
    char ns_id[PROTO_NS_ID_MAX + 1], name[PROTO_SESSION_MAX + 1], term[TERMINAL_TERM_MAX + 1];
    char request_id[PROTO_REQUEST_ID_MAX + 1], key[PROTO_KEY_LABEL_MAX + 1];
    char policy[PROTO_POLICY_NAME_MAX + 1];
};

struct terminal {
    struct upstream_call call;
    struct front *front;
    uint64_t tag;
    bool open;     /* the engine owes a Result */
    bool finished; /* it has come; the pty is read to its end */
    bool ending;   /* it was told to end */
    unsigned end_code;
    const char *end_text;
    struct http_ws *ws;       /* NULL: detached */
    struct http_watch *watch; /* of pty, or until that has come of pair; owns it */
    int pair_fd, pty;         /* -1: not yet, or not any more */
    bool slow;                /* the client does not take more: the pty is not read */
    bool hung;                /* nobody holds the far end at the moment: looked at again later */
    bool full;                /* the pty takes no more: the client is not read */
    struct http_timer idle, again, redraw;
    const struct key *owner, *viewer; /* who opened it, and whose client is there: references */
    struct proto_result result;
    uint64_t ring_total; /* of bytes that ever came; the last TERMINAL_RING_BYTES are in there */
    char *ring;
    char key[PROTO_KEY_LABEL_MAX + 1]; /* who opened it; "": nobody's */

    /* terminal_list.c, under its lock */
    struct terminal *prev, *next;
    uint64_t id; /* never used again */
    char ns_id[PROTO_NS_ID_MAX + 1], name[PROTO_SESSION_MAX + 1];
    uint16_t cols, rows;
    bool attached, listed, end_asked;
    int64_t created_ms;
};

/* ---- terminal.c: by its own thread -------------------------------------------------------- */

/* Shows the terminal to this client: the one of that name, from whoever has it now, or a new one.
 * Takes ask and its WebSocket. */
void terminal_attach(struct front *f, struct terminal_ask *ask);
void terminal_ask_free(struct terminal_ask *ask);
/* Its client goes, the terminal stays. */
void terminal_detach(struct terminal *t, unsigned code, const char *text);
/* Ends it: its client is told, and closed with this code. `text` is a constant. */
void terminal_end(struct terminal *t, unsigned code, const char *text);

/* ---- terminal_list.c: all of the process --------------------------------------------------- */

void terminal_list_add(struct terminal *t);
void terminal_list_remove(struct terminal *t);
/* Changes what others may see. */
void terminal_list_set(struct terminal *t, bool attached, uint16_t cols, uint16_t rows);
/* Of this thread's own; NULL: none. */
struct terminal *terminal_list_find(const struct front *f, const char *ns_id, const char *name);
/* Ends all of this thread's own. */
void terminal_list_end_all(struct front *f, unsigned code, const char *text);
/* Asks for the end of one, whosever it is: its id, by which it is gone or not. 0: there is none. */
uint64_t terminal_list_ask_end(const char *ns_id, const char *name);
bool terminal_list_has(uint64_t id);
/* Ends those of this thread that others asked for. */
void terminal_list_on_tick(struct front *f);
/* Of this thread: ends those whose key is gone, and sends away clients whose is. */
void terminal_list_on_keys(struct front *f);
/* The terminals of a namespace as members of a JSON array; the length, or 0: none. malloc'ed. */
size_t terminal_list_show(const char *ns_id, char **ret);

/* ---- terminals.c --------------------------------------------------------------------------- */

/* A thread that terminals may live in; before it serves. 0 or <0 with err. */
int terminals_init(struct front *f, struct err *err);
void terminals_on_hello(struct front *f, const struct proto_hello *h);
/* Every 100 ms. */
void terminals_on_tick(struct front *f);
route_handler terminals_on_open, terminals_on_list, terminals_on_delete;
