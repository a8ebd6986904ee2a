/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/priv_ends - the end of a zygote, until nothing of it is left.
 *
 * In priv. Who is to end is killed by pidfd; when it has been reaped, and its companions with it,
 * its cgroups are empty and the slot can be had again: only then is END_ZYGOTE answered.
 *
 * Mostly the cgroups stay for the slot's next zygote. Making and removing them is a good part of
 * what a zygote costs, and worse: page cache is charged to who reads first, so whoever removes a
 * cgroup drops the interpreter that the next tenant's run is about to read, which is then charged
 * to that one and dropped again. A few are kept, and of those that had a volume only such as hold
 * next to nothing: what they hold counts as their next tenant's until the kernel wants it back.
 * Of the others, those that hold nobody's pages go at once; a forked copy of priv waits for the
 * rest, one at a time.
 */
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "supervisor/priv_impl.h"
#include "volumes/volumes.h"
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>

#define REMOVE_TRIES 400            /* x 5 ms: a cgroup is busy until its last zombie is reaped */
#define KEPT_MAX 64u                /* an empty one costs the kernel about 100 KiB */
#define KEPT_BYTES_MAX (128u << 20) /* of the image's files: they are everybody's */
#define KEPT_VOLUME_BYTES_MAX (4u << 20) /* with those of a volume, which nobody reads now */

/* Has one of those that are being removed had a volume, and perhaps pages that are not written yet?
 */
static bool removes_a_volume(const struct priv *p)
{
    for (uint32_t i = 0; i < p->slot_count; i++)
        if (p->slots[i].removing && (*p->slots[i].ns_id || p->slots[i].blank))
            return true;
    return false;
}

/* One whose start failed is ended here before the engine asks: that is answered when it does. */
static void on_removed(struct priv *p, uint32_t slot, bool kept)
{
    bool asked = p->slots[slot].end_asked;
    vol_drop_blank(p->root_fd, p->slots[slot].blank);
    p->slots[slot] = (struct priv_slot){.pidfd = -1, .userns = -1, .kept = kept};
    p->kept_count += kept;
    if (asked)
        priv_tell(p, &(struct priv_reply){.verb = PRIV_END_ZYGOTE, .slot = slot, .detail = kept},
                  NULL, 0);
}

bool priv_take_kept(struct priv *p, uint32_t slot)
{
    bool kept = p->slots[slot].kept;
    p->slots[slot].kept = false;
    p->kept_count -= kept;
    return kept;
}

static bool may_stay(struct priv *p, uint32_t slot)
{
    const struct priv_slot *s = &p->slots[slot];
    bool had_volume = *s->ns_id || s->blank;
    uint64_t half = s->group.memory_bytes / 2;
    uint64_t max = had_volume ? KEPT_VOLUME_BYTES_MAX : KEPT_BYTES_MAX;
    return p->kept_count < KEPT_MAX && cgroup_may_stay(&p->cg, slot, max < half ? max : half);
}

/* Its uids are theirs, so the next tenant of this slot waits for them, too. */
static bool has_companions(const struct priv *p, uint32_t slot)
{
    for (uint32_t i = 0; i < p->slot_count; i++)
        if (p->slots[i].used && p->slots[i].joined == slot + 1)
            return true;
    return false;
}

/* True: nobody needs to be waited for. */
static bool free_at_once(struct priv *p, uint32_t slot)
{
    const struct priv_slot *s = &p->slots[slot];
    if (s->limiter || has_companions(p, slot))
        return false;
    bool kept = may_stay(p, slot);
    if (!kept && (*s->ns_id || s->blank || cgroup_remove_unused(&p->cg, slot) < 0))
        return false;
    on_removed(p, slot, kept);
    return true;
}

/* A copy of priv removes the cgroups of all slots that are ready for it; one copy at a time. */
void priv_start_remover(struct priv *p)
{
    bool any = false, again = p->remover_is_late;
    if (p->remover || p->going_down)
        return; /* what is marked now, that copy would not know of */
    p->remover_is_late = false;
    for (uint32_t i = 0; i < p->slot_count; i++)
        if (p->slots[i].ending && p->slots[i].pid == 0 && p->slots[i].limiter == 0 &&
            !has_companions(p, i))
            any = p->slots[i].removing = true;
    if (!any)
        return;
    pid_t pid = SYS(fork());
    if (pid < 0) { /* runs wait for these slots, and nothing else need ever happen */
        p->remover_is_late = true;
        if (!again)
            LOG(WARN, "fork_failed", F_STR("for", "removing cgroups"),
                F_STR("error", strerror(errno)));
        return;
    }
    p->remover = pid;
    if (pid > 0)
        return;
    int failed = 0;
    if (removes_a_volume(p)) /* force_empty drops clean pages only; the rest keeps a dead cgroup */
        (void)syncfs(p->root_fd);
    for (uint32_t i = 0; i < p->slot_count; i++) {
        int r = -EBUSY;
        for (int try = 0; p->slots[i].removing && r < 0 && try < REMOVE_TRIES; try++) {
            r = cgroup_remove(&p->cg, i);
            if (r < 0)
                (void)poll(NULL, 0, 5);
        }
        failed |= p->slots[i].removing && r < 0;
    }
    _exit(failed);
}

void priv_on_remover_done(struct priv *p, int status)
{
    p->remover = 0;
    if (status != 0)
        LOG(WARN, "cgroups_left", F_I64("status", status));
    for (uint32_t i = 0; i < p->slot_count; i++)
        if (p->slots[i].removing)
            on_removed(p, i, false);
    priv_start_remover(p);
}

void priv_begin_end(struct priv *p, uint32_t slot)
{
    struct priv_slot *s = &p->slots[slot];
    s->ending = true;
    if (s->limiter)
        (void)kill(s->limiter, SIGKILL);
    for (uint32_t i = 0; i < p->slot_count; i++)
        if (p->slots[i].joined == slot + 1 && p->slots[i].pid)
            (void)syscall(SYS_pidfd_send_signal, p->slots[i].pidfd, SIGKILL, NULL, 0);
    if (s->pid)
        (void)syscall(SYS_pidfd_send_signal, s->pidfd, SIGKILL, NULL, 0);
    else
        priv_start_remover(p);
}

int priv_end_zygote(struct priv *p, struct priv_call *call, struct priv_answer *ret,
                    struct err *err)
{
    (void)ret;
    uint32_t slot = call->req->slot;
    if (slot >= p->slot_count)
        return err_set(err, "end_zygote: bad slot");
    if (!p->slots[slot].used) { /* its start had failed */
        priv_tell(p, &(struct priv_reply){.verb = PRIV_END_ZYGOTE, .slot = slot}, NULL, 0);
        return 0;
    }
    p->slots[slot].end_asked = true;
    priv_begin_end(p, slot);
    return 0;
}

void priv_on_zygote_gone(struct priv *p, pid_t pid, int status)
{
    for (uint32_t i = 0; i < p->slot_count; i++) {
        struct priv_slot *s = &p->slots[i];
        if (s->limiter == pid) {
            priv_on_limiter_done(p, i, status);
            return;
        }
        if (s->pid != pid)
            continue;
        s->pid = 0;
        fd_close(&s->pidfd);
        fd_close(&s->userns);
        if (p->net && s->net < NET_POLICIES_MAX)
            priv_net_detach(p, i);
        bool waited_for = s->joined; /* by its zygote's slot */
        if (s->ending && (p->going_down || !free_at_once(p, i) || waited_for))
            priv_start_remover(p);
        return;
    }
}
