/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/share - see share.h. */
#include "frontend/share.h"

struct share *share_take(struct shares *all, const char *key)
{
    (void)pthread_mutex_lock(&all->lock);
    struct share *h = all->first;
    while (h && strcmp(h->key, key) != 0)
        h = h->next;
    if (!h && (h = calloc(1, sizeof *h))) {
        (void)snprintf(h->key, sizeof h->key, "%s", key);
        h->next = all->first;
        all->first = h;
    }
    if (h)
        h->users++;
    (void)pthread_mutex_unlock(&all->lock);
    return h;
}

void share_give(struct shares *all, struct share *share)
{
    if (!share)
        return;
    (void)pthread_mutex_lock(&all->lock);
    struct share **at = &all->first;
    while (*at != share)
        at = &(*at)->next;
    if (--share->users == 0) {
        *at = share->next;
        free(share);
    }
    (void)pthread_mutex_unlock(&all->lock);
}
