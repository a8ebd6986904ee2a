/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/letters - how one thread of the frontend tells another something: it puts a letter into
 * the other one's box, whose loop wakes and opens it. */
#pragma once
#include <pthread.h>
struct err;

/* Embedded in what is to be told; who posts it owns it until it arrives. Zero-initialise. */
struct letter {
    void (*on_arrival)(struct letter *l); /* in the thread of the box; it may be freed there */
    bool posted;                          /* it is in a box; under that box's lock */
    struct letter *next;
};

/* One for each loop, which watches `fd` and opens the box when it is readable. */
struct letterbox {
    int fd; /* an eventfd */
    pthread_mutex_t lock;
    struct letter *first;
    struct letter **end;
    bool closed;
};

/* Before the process restricts itself. 0 or <0 with err. */
int letterbox_init(struct letterbox *b, struct err *err);
/* Any thread; in the order of their coming. One that is there already is not put in twice. False:
 * the box is closed, nobody will open it. */
bool letterbox_put(struct letterbox *b, struct letter *l);
/* In the box's own thread: it will not arrive any more. */
void letterbox_withdraw(struct letterbox *b, struct letter *l);
/* In the box's own thread: calls on_arrival of all that is there. */
void letterbox_open(struct letterbox *b);
/* The same for the last time. */
void letterbox_close(struct letterbox *b);
