/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/denials - pid 1 answers and counts the system calls that its namespace is refused.
 *
 * The filter's EPERM comes as a notification (seccomp_unotify(2)): whoever makes such a call waits
 * until pid 1 says EPERM, which it always does, so there is nothing to check and no race to lose.
 * Nobody looks at the arguments. A run that makes none costs nothing.
 *
 * There are two filters, hence two listeners. pid 1 loads its own when it is assigned, and all but
 * one of its children inherit that; the first child loads its own before, because pid 1 still has
 * mounts to make, and hands its listener over. pid 1 itself is under its filter and must never make
 * a call that is refused with EPERM: nobody could answer. The engine's second clock would end it.
 *
 * pid 1 is outside the run's quota of processor time, so it answers a burst and then so many a
 * second, over all runs: who asks more often waits, and can be killed while it does.
 */
#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/packet.h"
#include "zygote/zyg.h"
#include <linux/seccomp.h>
#include <sys/ioctl.h>

#define BURST 256u               /* answers at once, */
#define TOKEN_NS CLOCK_NS_PER_MS /* then one in this time */
#define REFILL_MS 10             /* how long it sleeps without any, to be woken for several */
#define SET_FLAGS SECCOMP_IOW(4, uint64_t) /* SECCOMP_IOCTL_NOTIF_SET_FLAGS, Linux 6.6 */
#define SYNC_WAKE_UP 1ul                   /* both sides on one CPU */

int denials_prepare(struct zyg *z)
{
    z->denials = (struct zyg_denials){.listener = {-1, -1}};
    return packet_pair(z->denials.handover, true);
}

void denials_hand_over(struct zyg *z, int listener)
{
    /* Without anybody who answers, calls of the run would fail with ENOSYS instead: better no
     * child, pid 1 makes another. */
    if (listener >= 0 && packet_send(z->denials.handover[1], "l", 1, &listener, 1) < 0)
        _exit(1);
    fd_close(&listener);
    denials_forget(z);
}

void denials_forget(struct zyg *z)
{
    for (size_t i = 0; i < ARRAY_LEN(z->denials.listener); i++)
        fd_close(&z->denials.listener[i]);
    fd_close(&z->denials.handover[0]);
    fd_close(&z->denials.handover[1]);
}

void denials_listen(struct zyg *z, int own_listener)
{
    fd_close(&z->denials.handover[1]); /* the child's end */
    z->denials.listener[0] = own_listener;
    if (own_listener >= 0)
        (void)ioctl(own_listener, SET_FLAGS, SYNC_WAKE_UP);
}

static void take_over(struct zyg *z)
{
    char byte;
    int fds[PACKET_FDS_MAX];
    size_t nfds = 0;
    ssize_t n = packet_recv(z->denials.handover[0], &byte, sizeof byte, fds, &nfds);
    if (n == -EAGAIN)
        return;
    if (n < 0 || (n > 0 && nfds != 1)) /* a run is about to call, or has, and nobody would answer */
        zyg_give_up(z, ZYG_STEP_SECCOMP, n < 0 ? (int)-n : EMFILE);
    if (n > 0) {
        z->denials.listener[1] = fds[0];
        (void)ioctl(fds[0], SET_FLAGS, SYNC_WAKE_UP);
    }
    fd_close(&z->denials.handover[0]); /* n 0: the child ended before, and needs no answers */
}

static void count(struct zyg_denials *d, uint32_t nr)
{
    size_t i = 0;
    while (i < d->count && d->list[i].nr != nr)
        i++;
    if (i == ZYG_DENIALS_MAX)
        return;
    if (i == d->count)
        d->list[d->count++] = (struct zyg_denied){.nr = nr};
    d->list[i].times += d->list[i].times < UINT32_MAX;
}

/* One answer; false: none waits. */
static bool answer(struct zyg_denials *d, int listener)
{
    struct seccomp_notif call = {0};
    if (SYS(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call)) < 0)
        return false; /* it was killed meanwhile */
    struct seccomp_notif_resp no = {.id = call.id, .error = -EPERM};
    (void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &no);
    count(d, (uint32_t)call.data.nr);
    return true;
}

static bool has_token(struct zyg_denials *d)
{
    if (d->tokens > 0)
        return true;
    uint64_t now = clock_now_ns(), more = (now - d->refilled_ns) / TOKEN_NS;
    if (more > 0)
        d->refilled_ns = now;
    d->tokens = more < BURST ? (uint32_t)more : BURST;
    return d->tokens > 0;
}

int denials_watch(struct zyg *z, struct pollfd p[ZYG_DENIALS_FDS])
{
    struct zyg_denials *d = &z->denials;
    bool may_answer = has_token(d);
    for (size_t i = 0; i < ARRAY_LEN(d->listener); i++)
        p[i] = (struct pollfd){.fd = may_answer ? d->listener[i] : -1, .events = POLLIN};
    p[ARRAY_LEN(d->listener)] = (struct pollfd){.fd = d->handover[0], .events = POLLIN};
    return may_answer ? -1 : REFILL_MS;
}

void denials_answer(struct zyg *z, const struct pollfd p[ZYG_DENIALS_FDS])
{
    struct zyg_denials *d = &z->denials;
    for (size_t i = 0; i < ARRAY_LEN(d->listener); i++) {
        if (p[i].revents & POLLIN)
            d->tokens -= answer(d, d->listener[i]);
        else if (p[i].revents) /* nobody lives under that filter any more */
            fd_close(&d->listener[i]);
    }
    if (p[ARRAY_LEN(d->listener)].revents)
        take_over(z);
}

void denials_report(struct zyg *z, struct zyg_report *report)
{
    report->denied_count = z->denials.count;
    memcpy(report->denied, z->denials.list, sizeof report->denied);
    z->denials.count = 0;
}
