/* SPDX-License-Identifier: Apache-2.0 */
/* lib/arena - one capped region per message: allocate forward, drop whole.
 * The cap is the memory limit of a hostile message. */
#pragma once

struct arena {
    char *base;
    size_t used, cap;
    bool exhausted; /* an allocation did not fit */
};

/* Over the caller's storage; nothing to free. */
void arena_init(struct arena *a, void *storage, size_t cap);
/* 16-byte aligned, zeroed; NULL (and exhausted) when the cap does not allow it. */
void *arena_alloc(struct arena *a, size_t size);
/* NUL-terminated copy; NULL when it does not fit. */
char *arena_strndup(struct arena *a, const char *s, size_t len);
/* Everything allocated so far is gone; the storage stays. */
void arena_reset(struct arena *a);
