/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/terminal_list - which terminals there are, for all threads.
 *
 * In the frontend. A terminal is in the list from when its run was sent until it has ended. Only
 * its own thread touches the rest of it: others may read what stands in the list, and leave a mark
 * that it is to end, which that thread sees at its next tick, within 100 ms. Held for a few
 * pointers only.
 */
#include "frontend/terminal.h"
#include "keys/keys.h"
#include <stdatomic.h>
#include <time.h>

#define ENTRY_ROOM (PROTO_SESSION_MAX + 160u)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct terminal *first;
static uint64_t last_id;
static atomic_uint marks; /* ends that a thread has yet to see; a hint, spares the ticks a lock */

void terminal_list_add(struct terminal *t)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)pthread_mutex_lock(&lock);
    t->id = ++last_id;
    t->created_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    t->listed = true;
    t->next = first;
    if (first)
        first->prev = t;
    first = t;
    (void)pthread_mutex_unlock(&lock);
}

void terminal_list_remove(struct terminal *t)
{
    if (!t->listed) /* written by this thread only */
        return;
    (void)pthread_mutex_lock(&lock);
    t->listed = false;
    if (t->prev)
        t->prev->next = t->next;
    else
        first = t->next;
    if (t->next)
        t->next->prev = t->prev;
    if (t->end_asked)
        atomic_fetch_sub(&marks, 1);
    (void)pthread_mutex_unlock(&lock);
}

void terminal_list_set(struct terminal *t, bool attached, uint16_t cols, uint16_t rows)
{
    (void)pthread_mutex_lock(&lock);
    t->attached = attached;
    t->cols = cols;
    t->rows = rows;
    (void)pthread_mutex_unlock(&lock);
}

static struct terminal *find(const char *ns_id, const char *name)
{
    struct terminal *t = first;
    while (t && (strcmp(t->name, name) != 0 || strcmp(t->ns_id, ns_id) != 0))
        t = t->next;
    return t;
}

struct terminal *terminal_list_find(const struct front *f, const char *ns_id, const char *name)
{
    (void)pthread_mutex_lock(&lock);
    struct terminal *t = find(ns_id, name);
    (void)pthread_mutex_unlock(&lock);
    return t && t->front == f ? t : NULL;
}

uint64_t terminal_list_ask_end(const char *ns_id, const char *name)
{
    (void)pthread_mutex_lock(&lock);
    struct terminal *t = find(ns_id, name);
    uint64_t id = t ? t->id : 0;
    if (t && !t->end_asked) {
        t->end_asked = true;
        atomic_fetch_add(&marks, 1);
    }
    (void)pthread_mutex_unlock(&lock);
    return id;
}

bool terminal_list_has(uint64_t id)
{
    (void)pthread_mutex_lock(&lock);
    const struct terminal *t = first;
    while (t && t->id != id)
        t = t->next;
    (void)pthread_mutex_unlock(&lock);
    return t != NULL;
}

/* One of this thread's; it stays where it is, since only this thread removes it. */
static struct terminal *find_own(const struct front *f, bool (*fits)(const struct terminal *t))
{
    (void)pthread_mutex_lock(&lock);
    struct terminal *t = first;
    while (t && (t->front != f || !fits(t)))
        t = t->next;
    (void)pthread_mutex_unlock(&lock);
    return t;
}

static bool is_going_on(const struct terminal *t)
{
    return !t->ending;
}

static bool is_marked(const struct terminal *t)
{
    return !t->ending && t->end_asked;
}

static bool is_orphan(const struct terminal *t)
{
    return !t->ending && !auth_still(t->front, t->owner, KEY_EXECUTE, t->ns_id);
}

static bool has_stranger(const struct terminal *t)
{
    return t->ws && !auth_still(t->front, t->viewer, KEY_EXECUTE, t->ns_id);
}

void terminal_list_end_all(struct front *f, unsigned code, const char *text)
{
    for (struct terminal *t; (t = find_own(f, is_going_on));)
        terminal_end(t, code, text);
}

void terminal_list_on_tick(struct front *f)
{
    if (atomic_load(&marks) == 0)
        return;
    for (struct terminal *t; (t = find_own(f, is_marked));)
        terminal_end(t, 1000, "the terminal was ended");
}

void terminal_list_on_keys(struct front *f)
{
    for (struct terminal *t; (t = find_own(f, has_stranger));)
        terminal_detach(t, 1008, "the key is gone");
    for (struct terminal *t; (t = find_own(f, is_orphan));)
        terminal_end(t, 1008, "the key that opened it is gone");
}

static size_t put_entry(char *at, size_t room, const struct terminal *t)
{
    struct tm tm;
    time_t s = (time_t)(t->created_ms / 1000);
    char when[32] = "";
    if (gmtime_r(&s, &tm))
        (void)strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
    return (size_t)snprintf(
        at, room,
        "{\"name\":\"%s\",\"attached\":%s,\"cols\":%u,\"rows\":%u,\"created_at\":\"%s.%03dZ\"}",
        t->name, t->attached ? "true" : "false", t->cols, t->rows, when,
        (int)(t->created_ms % 1000));
}

size_t terminal_list_show(const char *ns_id, char **ret)
{
    size_t count = 0, n = 0;
    (void)pthread_mutex_lock(&lock);
    for (const struct terminal *t = first; t; t = t->next)
        count += strcmp(t->ns_id, ns_id) == 0;
    char *text = *ret = count ? malloc(count * ENTRY_ROOM) : NULL;
    for (const struct terminal *t = first; text && t; t = t->next) {
        if (strcmp(t->ns_id, ns_id) != 0)
            continue;
        if (n > 0)
            text[n++] = ',';
        n += put_entry(text + n, count * ENTRY_ROOM - n, t);
    }
    (void)pthread_mutex_unlock(&lock);
    return n;
}
