/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/work_open - which stored runs are under way, by id and across threads.
 *
 * In the frontend: the only list that its threads share. A run is in it from when it was sent to
 * the engine until it is in the store, so that GET and DELETE of any connection find it in one of
 * the two. Only a run's own thread may cancel it (the engine connection is that thread's): others
 * leave a mark, which that thread sees at its next tick, within 100 ms. Held for a few pointers
 * only.
 */
#include "frontend/work_impl.h"
#include <pthread.h>
#include <stdatomic.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct work *first;
static atomic_uint
    marks; /* cancels that a thread has yet to see; a hint, spares the ticks a lock */

void work_open_add(struct work *w)
{
    (void)pthread_mutex_lock(&lock);
    w->listed_open = true;
    w->prev = NULL;
    w->next = first;
    if (first)
        first->prev = w;
    first = w;
    (void)pthread_mutex_unlock(&lock);
}

void work_open_wait(struct work *w, bool waiting)
{
    (void)pthread_mutex_lock(&lock);
    w->queued = waiting;
    (void)pthread_mutex_unlock(&lock);
}

void work_open_end(struct work *w)
{
    (void)pthread_mutex_lock(&lock);
    w->ending = true;
    (void)pthread_mutex_unlock(&lock);
}

void work_open_remove(struct work *w)
{
    if (!w->listed_open) /* written by this thread only */
        return;
    (void)pthread_mutex_lock(&lock);
    w->listed_open = false;
    if (w->prev)
        w->prev->next = w->next;
    else
        first = w->next;
    if (w->next)
        w->next->prev = w->prev;
    if (w->cancel)
        atomic_fetch_sub(&marks, 1);
    (void)pthread_mutex_unlock(&lock);
}

static struct work *find(const char *id, const char *key)
{
    struct work *w = first;
    while (w && (strcmp(w->id, id) != 0 || strcmp(w->key, key) != 0))
        w = w->next;
    return w;
}

size_t work_open_show(const char *id, const char *key, char *to, size_t room)
{
    char limits[WORK_HEAD_ROOM];
    size_t n = 0;
    (void)pthread_mutex_lock(&lock);
    const struct work *w = find(id, key);
    if (w) {
        (void)work_put_limits(limits, sizeof limits, &w->limits);
        n = (size_t)snprintf(to, room, "{%s,\"status\":\"%s\",%s}\n", w->head,
                             w->queued ? "queued" : "running", limits);
    }
    (void)pthread_mutex_unlock(&lock);
    return n < room ? n : 0;
}

enum work_cancel work_open_cancel(struct front *f, const char *id, const char *key)
{
    enum work_cancel r = WORK_UNKNOWN;
    (void)pthread_mutex_lock(&lock);
    struct work *w = find(id, key);
    if (w && w->ending) {
        r = WORK_ENDED;
    } else if (w) {
        r = WORK_CANCELLED;
        if (w->run->front == f) {
            upstream_cancel(&f->upstream, w->run->tag);
        } else if (!w->cancel) {
            w->cancel = true;
            atomic_fetch_add(&marks, 1);
        }
    }
    (void)pthread_mutex_unlock(&lock);
    return r;
}

struct front *work_open_thread(const char *id, const char *key)
{
    (void)pthread_mutex_lock(&lock);
    const struct work *w = find(id, key);
    struct front *f = w ? w->run->front : NULL;
    (void)pthread_mutex_unlock(&lock);
    return f;
}

struct run *work_open_find_own(struct front *f, const char *id, const char *key)
{
    (void)pthread_mutex_lock(&lock);
    const struct work *w = find(id, key);
    struct run *run = w && w->run->front == f ? w->run : NULL;
    (void)pthread_mutex_unlock(&lock);
    return run;
}

void work_on_tick(struct front *f)
{
    if (atomic_load(&marks) == 0)
        return;
    (void)pthread_mutex_lock(&lock);
    for (struct work *w = first; w; w = w->next)
        if (w->cancel && w->run->front == f) {
            upstream_cancel(&f->upstream, w->run->tag);
            w->cancel = false;
            atomic_fetch_sub(&marks, 1);
        }
    (void)pthread_mutex_unlock(&lock);
}
