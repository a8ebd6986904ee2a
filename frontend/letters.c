/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/letters - see letters.h.
 *
 * In the frontend, between its threads. A list under a lock that is held for a few pointers only,
 * and an eventfd that is written when the list was empty: a hundred letters are one wake-up. An
 * arriving letter has left the box, so it may be posted again, or freed, by its on_arrival.
 */
#include "frontend/letters.h"
#include "lib/err.h"
#include <sys/eventfd.h>

int letterbox_init(struct letterbox *b, struct err *err)
{
    *b = (struct letterbox){.fd = SYS(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
                            .lock = PTHREAD_MUTEX_INITIALIZER};
    b->end = &b->first;
    return b->fd < 0 ? err_sys(err, "eventfd") : 0;
}

bool letterbox_put(struct letterbox *b, struct letter *l)
{
    const uint64_t one = 1;
    (void)pthread_mutex_lock(&b->lock);
    bool open = !b->closed, was_empty = !b->first;
    if (open && !l->posted) {
        l->posted = true;
        l->next = NULL;
        *b->end = l;
        b->end = &l->next;
        if (was_empty)
            (void)!write(b->fd, &one, sizeof one);
    }
    (void)pthread_mutex_unlock(&b->lock);
    return open;
}

void letterbox_withdraw(struct letterbox *b, struct letter *l)
{
    (void)pthread_mutex_lock(&b->lock);
    for (struct letter **at = &b->first; l->posted && *at; at = &(*at)->next)
        if (*at == l) {
            *at = l->next;
            if (b->end == &l->next)
                b->end = at;
            l->posted = false;
            break;
        }
    (void)pthread_mutex_unlock(&b->lock);
}

static struct letter *take_first(struct letterbox *b)
{
    (void)pthread_mutex_lock(&b->lock);
    struct letter *l = b->first;
    if (l) {
        b->first = l->next;
        if (!b->first)
            b->end = &b->first;
        l->posted = false;
    }
    (void)pthread_mutex_unlock(&b->lock);
    return l;
}

void letterbox_open(struct letterbox *b)
{
    uint64_t count;
    struct letter *l;
    (void)!read(b->fd, &count, sizeof count);
    while ((l = take_first(b)))
        l->on_arrival(l);
}

void letterbox_close(struct letterbox *b)
{
    (void)pthread_mutex_lock(&b->lock);
    b->closed = true;
    (void)pthread_mutex_unlock(&b->lock);
    letterbox_open(b);
}
