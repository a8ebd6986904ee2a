/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/priv_courier - priv's side of webhooks: brood-courier lives beside the frontend, where
 * `webhooks.allow` names somebody; otherwise nothing here does anything.
 *
 * The two speak over a pair that is made once and of which priv keeps both ends, so that either of
 * them can be started again without the other's knowing; priv itself never reads or writes there.
 * One that dies young is not started again before a second is over.
 */
#include "courier/courier.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "lib/packet.h"
#include "supervisor/priv_impl.h"
#include "supervisor/settings.h"
#include <fcntl.h>

#define PAUSE_MS 1000

int priv_courier_open(struct priv *p, struct err *err)
{
    const char *secret = p->set->webhook_secret_file;
    if (!*p->set->webhook_allow)
        return 0;
    int r = packet_pair(p->courier_pair, true);
    if (r < 0 || SYS(fd_set_nonblock(p->courier_pair[1])) < 0)
        return err_sys(err, "socket pair");
    if (*secret && (p->webhook_secret_fd = SYS(open(secret, O_RDONLY | O_CLOEXEC))) < 0)
        return err_sys(err, "webhooks.secret_file %s", secret);
    return 0;
}

static void start(struct priv *p)
{
    struct err err;
    uint64_t now = clock_now_ns();
    p->courier_due_ns = 0;
    if (p->courier || p->going_down || p->drains > 0)
        return;
    p->courier_started_ns = now;
    if (priv_start_courier(p, &err) == 0) {
        LOG(INFO, "courier", F_I64("pid", p->courier));
        return;
    }
    LOG(ERROR, "courier_failed", F_STR("error", err.text));
    p->courier_due_ns = now + PAUSE_MS * CLOCK_NS_PER_MS;
}

void priv_courier_want(struct priv *p)
{
    if (p->courier_pair[0] >= 0 && !p->courier && !p->courier_due_ns)
        start(p);
}

void priv_courier_on_exit(struct priv *p, int status)
{
    uint64_t due = p->courier_started_ns + PAUSE_MS * CLOCK_NS_PER_MS;
    p->courier = 0;
    if (p->going_down)
        return;
    if (status != 0)
        LOG(ERROR, "courier_died", F_I64("status", status));
    p->courier_due_ns = due;
    priv_courier_tick(p);
}

void priv_courier_tick(struct priv *p)
{
    if (p->courier_due_ns && clock_now_ns() >= p->courier_due_ns)
        start(p);
}
