/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/priv_children - what signals tell priv: to stop, to read its files again, and who has
 * ended.
 *
 * In priv. Each process of the service but a run is priv's child, and what the end of one means
 * stands in reap(): the engine is told, another is started, or the next step of what it did begins.
 * What has been read anew is announced here; confined children read it (priv_policies.c,
 * priv_keys.c), the engine its own settings, from descriptors.
 */
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "supervisor/priv_impl.h"
#include "supervisor/settings.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#define NETD_LIFE_MIN_MS 1000u
#define DRAIN_SLACK_MS                                                                             \
    5000u /* what the engine gets beyond drain_ms before it is not waited for                      \
           */

/* A primordial has the policies of its start: the next zygote comes from a new one. */
static void announce_policies(struct priv *p)
{
    priv_tell(p, &(struct priv_reply){.verb = PRIV_POLICIES, .detail = p->generation},
              &p->policies_fd, 1);
    if (p->primordial > 0)
        (void)kill(p->primordial, SIGKILL);
    p->primordial = 0;
    fd_close(&p->primordial_sock);
}

static void announce_keys(struct priv *p, int status)
{
    auto_close int fd = priv_take_keys(p, status);
    if (fd >= 0)
        priv_tell(p, &(struct priv_reply){.verb = PRIV_KEYS}, &fd, 1);
    if (p->read_keys_again)
        priv_start_key_reader(p);
}

/* Its rules stand without it, but nobody would see them removed; nor is one that dies at once of
 * use. */
static void replace_netd(struct priv *p, int status)
{
    struct err err;
    LOG(ERROR, "netd_died", F_I64("status", status));
    if (clock_now_ns() - p->netd_started_ns > NETD_LIFE_MIN_MS * CLOCK_NS_PER_MS &&
        priv_net_start(p, &err) < 0)
        LOG(ERROR, "netd_not_replaced", F_STR("error", err.text));
}

static void reap(struct priv *p)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        if (pid == p->engine) {
            p->engine = 0;
            if (!p->going_down &&
                status != 0) /* with 0 it has said DOWN, which is still to be read */
                LOG(ERROR, "engine_died", F_I64("status", status));
        } else if (pid == p->frontend) {
            p->frontend = 0;
            priv_tell(
                p, &(struct priv_reply){.verb = PRIV_FRONTEND_EXITED, .detail = (uint32_t)status},
                NULL, 0);
        } else if (pid == p->courier) {
            priv_courier_on_exit(p, status);
        } else if (pid == p->primordial) {
            p->primordial = 0;
            fd_close(&p->primordial_sock);
            if (!p->going_down)
                LOG(WARN, "primordial_died", F_I64("status", status));
        } else if (pid == p->compiler) {
            p->compiler = 0;
            if (priv_take_compiled(p, status))
                announce_policies(p);
            if (p->compile_again)
                priv_start_compiler(p);
        } else if (pid == p->key_reader) {
            p->key_reader = 0;
            announce_keys(p, status);
        } else if (pid == p->netd) {
            p->netd = 0;
            fd_close(&p->netd_sock);
            if (!p->going_down)
                replace_netd(p, status);
        } else if (pid == p->remover) {
            priv_on_remover_done(p, status);
        } else if (pid == p->sweeper) {
            p->sweeper = 0;
            if (status != 0) {
                p->sweep_skip++; /* until the next removal or start */
                LOG(WARN, "sweep_failed", F_I64("status", status));
            }
            priv_sweep(p); /* the next tree */
        } else {
            priv_on_zygote_gone(p, pid, status);
        }
    }
}

static void hand_over_files(struct priv *p)
{
    struct priv_reply reply = {.verb = PRIV_RELOAD};
    int fds[2];
    size_t n = 0;
    auto_close int yaml =
        p->files->yaml_path[0] ? open(p->files->yaml_path, O_RDONLY | O_CLOEXEC) : -1;
    auto_close int env =
        p->files->dotenv_path[0] ? open(p->files->dotenv_path, O_RDONLY | O_CLOEXEC) : -1;
    if (p->files->yaml_path[0] && yaml < 0) {
        LOG(ERROR, "reload_failed", F_STR("file", p->files->yaml_path),
            F_STR("error", strerror(errno)));
        return;
    }
    if (yaml >= 0) {
        fds[n++] = yaml;
        reply.detail |= 1;
    }
    if (env >= 0) {
        fds[n++] = env;
        reply.detail |= 2;
    }
    priv_tell(p, &reply, fds, n);
}

void priv_reload(struct priv *p)
{
    p->reload_later = false;
    hand_over_files(p);
    priv_start_compiler(p);
    priv_start_key_reader(p);
}

void priv_on_signals(struct priv *p)
{
    struct signalfd_siginfo info;
    while (read(p->sig_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        switch (info.ssi_signo) {
        case SIGTERM:
        case SIGINT:
            p->drains++;
            p->down_by_ns = clock_now_ns() + (p->set->drain_ms + DRAIN_SLACK_MS) * CLOCK_NS_PER_MS;
            LOG(INFO, "stopping", F_U64("signals", p->drains), F_U64("drain_ms", p->set->drain_ms));
            priv_tell(p, &(struct priv_reply){.verb = PRIV_DRAIN, .detail = p->drains}, NULL, 0);
            break;
        case SIGHUP:
            p->reload_later = p->phase == PRIV_STARTING;
            if (!p->reload_later)
                priv_reload(p);
            break;
        default:
            break;
        }
    }
    reap(p);
}
