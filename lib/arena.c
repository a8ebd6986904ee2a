/* SPDX-License-Identifier: Apache-2.0 */
/* lib/arena - see arena.h. */
#include "lib/arena.h"

void arena_init(struct arena *a, void *storage, size_t cap)
{
    *a = (struct arena){.base = storage, .cap = cap};
}

void *arena_alloc(struct arena *a, size_t size)
{
    uintptr_t at = ((uintptr_t)a->base + a->used + 15) & ~(uintptr_t)15;
    size_t start = (size_t)(at - (uintptr_t)a->base);
    if (start > a->cap || size > a->cap - start) {
        a->exhausted = true;
        return NULL;
    }
    a->used = start + size;
    return memset(a->base + start, 0, size);
}

char *arena_strndup(struct arena *a, const char *s, size_t len)
{
    char *copy = arena_alloc(a, len + 1);
    if (copy)
        memcpy(copy, s, len);
    return copy;
}

void arena_reset(struct arena *a)
{
    a->used = 0;
    a->exhausted = false;
}
