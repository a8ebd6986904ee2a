/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/share - how much of something the keys hold, so that one key cannot have it all. In the
 * frontend, shared by its threads. */
#pragma once
#include "store/store.h"
#include <pthread.h>
#include <stdatomic.h>

struct share {
    struct share *next;
    unsigned users; /* that point here; under the lock */
    atomic_ullong held;
    char key[STORE_KEY_MAX + 1];
};

struct shares {
    pthread_mutex_t lock;
    struct share *first; /* of keys that hold something now */
};
#define SHARES_EMPTY                                                                               \
    {                                                                                              \
        .lock = PTHREAD_MUTEX_INITIALIZER                                                          \
    }

/* NULL: no memory. */
struct share *share_take(struct shares *all, const char *key);
/* NULL does nothing. */
void share_give(struct shares *all, struct share *share);
