/* SPDX-License-Identifier: Apache-2.0 */
/* lib/loop - one epoll loop per process: descriptors and timers, embedded in their owners.
 * Single-threaded. Whatever is registered can be cancelled, also from inside a callback. */
#pragma once
#include <sys/epoll.h>

struct loop_io {
    int fd;                                                /* borrowed; -1: not registered */
    void (*on_ready)(struct loop_io *io, uint32_t events); /* EPOLLIN ... */
};

struct loop_timer {
    uint64_t due_ns; /* CLOCK_MONOTONIC */
    size_t slot;     /* 0: not armed; otherwise 1 + index in the heap */
    void (*on_due)(struct loop_timer *t);
};

#define LOOP_BATCH 64

struct loop {
    int epoll_fd;
    bool stopping;
    struct loop_timer **heap; /* binary min-heap over due_ns */
    size_t heap_len, heap_room;
    struct epoll_event batch[LOOP_BATCH];
    int batch_at, batch_len;
};

/* <0: -errno. */
int loop_init(struct loop *l);
void loop_fini(struct loop *l);
/* Watches io->fd for events; 0 or -errno. */
int loop_io_add(struct loop *l, struct loop_io *io, uint32_t events);
int loop_io_mod(struct loop *l, struct loop_io *io, uint32_t events);
/* Forgets it (idempotent), also when its event waits in the current batch; does not close the fd.
 */
void loop_io_del(struct loop *l, struct loop_io *io);
/* Arms or re-arms; false when memory is out. */
bool loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t due_ns);
void loop_timer_cancel(struct loop *l, struct loop_timer *t);
/* Runs callbacks until loop_stop. 0, or -errno when epoll itself failed. */
int loop_run(struct loop *l);
void loop_stop(struct loop *l);
