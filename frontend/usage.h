/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/usage - what keys use: sums in each thread's memory, given to the store now and then. */
#pragma once
#include "store/store.h"
struct front;

#define USAGE_DAY_MS 86400000

/* Of one thread, since it was last handed over. Zero-initialise. */
struct usage {
    struct store_usage *at; /* hashed; day 0: empty */
    size_t count, room;
    uint64_t handed_ns; /* when */
    struct usage_sums { /* on their way into the store */
        struct store_call call;
        struct store_usages sums;
        bool waiting;
    } sent, last;
};

/* Adds what `what` has to its key, on the day that it is now. Costs no system call, waits for
 * nothing. */
void usage_add(struct front *f, const struct store_usage *what);
/* Hands it to the store about once a second. */
void usage_on_tick(struct front *f, uint64_t now_ns);
/* At the end of the thread, while the store still works. */
void usage_finish(struct front *f);
