/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/upstream - one thread's connection to the engine, and which tags are open on it. */
#pragma once
#include "lib/arena.h"
#include "protocol/protocol.h"
struct http_server;
struct http_watch;

/* Who waits for an answer of the engine; embedded in what waits. Exactly one of the first two is
 * called, once, and the slot is free by then. */
struct upstream_call {
    /* The answer to what was sent: RESULT for EXECUTE, NS_LIST or DONE for NS_LIST_REQUEST, DONE
     * for NS_REMOVE. Its texts are gone afterwards. */
    void (*on_reply)(struct upstream_call *call, const struct proto_msg *reply);
    void (*on_lost)(struct upstream_call *call); /* the engine is gone */
    /* Of an EXECUTE with `work`, `tell_start` or `patient`, before its RESULT: a WAITING. */
    void (*on_waiting)(struct upstream_call *call, const struct proto_msg *msg);
};

struct upstream_slot {
    struct upstream_call *call; /* NULL: free */
    enum proto_type sent;
    uint64_t tag; /* low bits: the slot; the rest makes it unique */
    uint64_t due_ns;
    bool cancel, let_go; /* such a message could not be sent yet */
};

struct upstream_events {
    /* Borrows the descriptors. False: the connection is of no use any more. */
    bool (*on_hello)(void *user, const struct proto_hello *hello, const int *fds, size_t nfds);
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
/* Sends a message of any kind that is answered; sets its tag. `call` is told by due_ns, or the
 * connection counts as broken. The descriptors stay the caller's. 0. -EAGAIN: too busy now. Other
 * <0: it cannot be. */
int upstream_send(struct upstream *u, struct proto_msg *msg, const int *fds, size_t nfds,
                  struct upstream_call *call, uint64_t due_ns, struct err *err);
/* The same with an Execute; execute->tag is set. */
int upstream_execute(struct upstream *u, struct proto_execute *execute, const int *fds, size_t nfds,
                     struct upstream_call *call, uint64_t due_ns, struct err *err);
/* It may begin: the answer to Waiting, of an EXECUTE that is held. */
void upstream_let_go(struct upstream *u, uint64_t tag);
/* Another time by which it must have been told. */
void upstream_set_due(struct upstream *u, uint64_t tag, uint64_t due_ns);
/* Nobody waits for it any more; the Result still comes. */
void upstream_cancel(struct upstream *u, uint64_t tag);
/* To the processes of that run, if it is on. False: the engine does not hear of it. */
bool upstream_signal(struct upstream *u, uint64_t tag, int signal);
/* Now and then: sends what could not be sent; a Result that is overdue breaks the connection. */
void upstream_tick(struct upstream *u, uint64_t now_ns);
/* Tells each call that is open that it is lost. */
void upstream_forget_all(struct upstream *u);
