/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/upstream - one thread's connection to the engine, and which tags are open on it. */
#pragma once
#include "lib/arena.h"
#include "protocol/protocol.h"
struct http_server;
struct http_watch;

struct upstream_slot {
    void *owner;  /* NULL: free */
    uint64_t tag; /* low bits: the slot; the rest makes it unique */
    uint64_t due_ns;
    bool cancel; /* a Cancel could not be sent yet */
};

struct upstream_events {
    void (*on_hello)(void *user, const struct proto_hello *hello);
    void (*on_result)(void *user, void *owner, const struct proto_result *result);
    /* The connection is of no use any more. clean: the engine closed it. Called once. */
    void (*on_broken)(void *user, bool clean);
};

struct upstream {
    int fd;
    struct http_watch *watch;
    const struct upstream_events *events;
    void *user;
    struct upstream_slot *slots;
    size_t slot_count, open;
    uint64_t generation;
    bool broken;
    struct arena arena;
    void *storage;
};

/* Takes the descriptor. 0 or <0 with err. */
int upstream_init(struct upstream *u, struct http_server *server, int fd,
                  const struct upstream_events *events, void *user, struct err *err);
/* Sends an Execute; its Result goes to on_result with owner. 0: execute->tag is set. -EAGAIN: too
 * busy now. Other <0: it cannot be. */
int upstream_execute(struct upstream *u, struct proto_execute *execute, const int *fds, size_t nfds,
                     void *owner, uint64_t due_ns, struct err *err);
/* Nobody waits for it any more; the Result still comes. */
void upstream_cancel(struct upstream *u, uint64_t tag);
/* Now and then: sends what could not be sent; a Result that is overdue breaks the connection. */
void upstream_tick(struct upstream *u, uint64_t now_ns);
/* Calls on_owner for each open one and forgets it. */
void upstream_forget_all(struct upstream *u, void (*on_owner)(void *owner));
