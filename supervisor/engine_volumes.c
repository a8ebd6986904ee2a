/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/engine_volumes - which namespaces have a volume, and the removal of one.
 *
 * A directory cannot be asked for one name without a path, so all are read, which takes long where
 * there are many (50,000: 40 ms), and nobody else is served meanwhile. So what was read is good for
 * ten times as long as reading it took, or until the engine knows better; only what others than
 * priv do to fs_root is seen that much later.
 *
 * A removal first ends what the namespace has, then has priv discard the volume; runs that come
 * meanwhile wait, and find an empty one.
 */
#include "lib/clock.h"
#include "supervisor/engine.h"
#include "volumes/volumes.h"

#define LIST_GOOD_FOR 10u

static struct {
    struct vol_list list;
    uint64_t until_ns;
} volumes;

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

bool ns_list_has(const struct vol_list *list, const char *id)
{
    return list->count && bsearch(id, list->names, list->count, sizeof *list->names, compare_names);
}

int ns_list_volumes(const struct engine *e, const struct vol_list **ret, struct err *err)
{
    uint64_t begin = clock_now_ns();
    if (begin >= volumes.until_ns) {
        struct vol_list list;
        int r = vol_list(e->root_fd, &list, err);
        if (r < 0)
            return r;
        vol_list_free(&volumes.list);
        volumes.list = list;
        uint64_t now = clock_now_ns();
        volumes.until_ns = now + LIST_GOOD_FOR * (now - begin);
    }
    *ret = &volumes.list;
    return 0;
}

void ns_on_volume(const struct ns *ns)
{
    if (!ns_list_has(&volumes.list, ns->id))
        volumes.until_ns = 0;
}

/* ---- removal -----------------------------------------------------------------------------------
 */

static void send_done(struct client *c, uint64_t tag, enum proto_outcome outcome, const char *text)
{
    struct proto_msg msg = {.type = PROTO_DONE, .tag = tag};
    msg.done.outcome = outcome;
    msg.done.text = text;
    if (c)
        client_send(c, &msg);
}

void ns_remove(struct engine *e, struct client *client, uint64_t tag, const char *id)
{
    struct removal *r = NULL;
    for (size_t i = 0; i < ENGINE_REMOVALS_MAX && !r; i++)
        if (!e->removals[i].used)
            r = &e->removals[i];
    /* Before the first zygote priv does not touch a volume. */
    struct ns *ns = r && !e->draining && e->ever_started ? ns_get(e, id) : NULL;
    if (!ns) {
        send_done(client, tag, e->draining ? PROTO_DRAINING : PROTO_BUSY, "not now");
        return;
    }
    if (ns->removing || ns->running || !TAILQ_EMPTY(&ns->queue) || companions_are_busy(ns)) {
        send_done(client, tag, PROTO_BUSY, "runs are queued or running in this namespace");
        return;
    }
    *r = (struct removal){.used = true, .client_id = client->id, .tag = tag};
    (void)snprintf(r->ns_id, sizeof r->ns_id, "%s", id);
    ns->removing = true;
    ns_leave_idle(ns);
    companions_end(ns, "its namespace is removed");
    if (ns->slot)
        slot_end(ns->slot); /* its end goes on in ns_on_slot_gone */
    else
        ns_on_slot_gone(ns);
}

void ns_on_discarded(struct engine *e, const struct priv_reply *reply)
{
    if (!reply->error && !reply->detail) /* one has gone */
        volumes.until_ns = 0;
    if (reply->slot >= ENGINE_REMOVALS_MAX || !e->removals[reply->slot].used)
        return;
    struct removal *r = &e->removals[reply->slot];
    struct ns *ns = ns_find(e, r->ns_id);
    struct client *client = client_find(e, r->client_id);
    if (reply->error)
        send_done(client, r->tag, PROTO_INTERNAL, reply->text);
    else if (reply->detail)
        send_done(client, r->tag, PROTO_NOT_FOUND, "no such namespace");
    else
        send_done(client, r->tag, PROTO_OK, "");
    r->used = false;
    if (!ns)
        return;
    ns->removing = false;
    if (ns_find_wanted(ns))
        ns_activate(ns);
    else
        ns_drop_if_unused(ns);
}
