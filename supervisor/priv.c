/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/priv - the process that stays root.
 *
 * It reads one kind of packet from one peer, looks it up in the table below and does that or says
 * why not. It parses nothing, owns no policy, and remembers the phase it is in, a count for each
 * verb, and of each slot which processes and descriptors it has to end. It waits for two things,
 * the engine and signals; long work (removing cgroups, deleting trees, getting memory back) is done
 * by forked copies. A packet of the wrong size, verb or phase ends the conversation, and the end of
 * the conversation ends the service.
 */
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "lib/packet.h"
#include "protocol/protocol.h"
#include "supervisor/priv_impl.h"
#include "volumes/volumes.h"
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define END_MS 10000u /* to reap everything when going down */
#define CGROUPS_MS 5000u
#define REMOVER_LATE_MS 100 /* after its fork failed */

void priv_tell(struct priv *p, const struct priv_reply *reply, const int *fds, size_t nfds)
{
    struct priv_reply counted = *reply;
    if (p->engine_sock < 0)
        return;
    if (reply->verb < PRIV_VERBS) {
        counted.calls = p->done[reply->verb].calls;
        counted.failures = p->done[reply->verb].failures;
    }
    int r = packet_send(p->engine_sock, &counted, sizeof counted, fds, nfds);
    /* EPIPE, or once ECONNRESET: it left, and its last word is still to be read. */
    if (r < 0 && r != -EPIPE && r != -ECONNRESET && !p->going_down) {
        LOG(ERROR, "engine_stuck", F_STR("error", strerror(-r)));
        p->going_down = true;
        p->exit_status = 1;
    }
}

/* ---- volumes, frontend -------------------------------------------------------------------------
 */

void priv_sweep(struct priv *p)
{
    struct err err;
    if (p->sweeper || p->going_down)
        return;
    int r = vol_sweep(p->root_fd, p->sweep_skip, &err);
    if (r < 0)
        LOG(WARN, "sweep_failed", F_STR("error", err.text));
    else
        p->sweeper = r;
}

static int discard_volume(struct priv *p, struct priv_call *call, struct priv_answer *ret,
                          struct err *err)
{
    int r = vol_discard(p->root_fd, call->req->ns_id, err);
    ret->detail = r == VOL_ABSENT;
    if (r == 0) {
        p->sweep_skip = 0;
        priv_sweep(p);
    }
    return r < 0 ? r : 0;
}

static int start_frontend(struct priv *p, struct priv_call *call, struct priv_answer *ret,
                          struct err *err)
{
    (void)ret;
    p->phase = PRIV_SERVING;
    if (p->frontend || p->drains > 0 || call->nfds == 0)
        return err_set(err, "start_frontend: one is running, or the service is stopping");
    priv_courier_want(p);
    return priv_start_frontend(p, call->fds, call->nfds, err);
}

static int begin_drain(struct priv *p, struct priv_call *call, struct priv_answer *ret,
                       struct err *err)
{
    (void)call;
    (void)ret;
    (void)err;
    p->phase = PRIV_DRAINING;
    return 0;
}

static int go_down(struct priv *p, struct priv_call *call, struct priv_answer *ret, struct err *err)
{
    (void)ret;
    (void)err;
    p->going_down = true;
    p->exit_status = call->req->slot == 0 ? 0 : 1;
    return 0;
}

#define ANY_PHASE (PRIV_STARTING | PRIV_SERVING | PRIV_DRAINING)
static const struct {
    unsigned phases;
    priv_do *run;
    bool names_volume, answers;
} verbs[PRIV_VERBS] = {
    [PRIV_START_ZYGOTE] = {ANY_PHASE, priv_start_zygote, false, true},
    [PRIV_LIMIT_ZYGOTE] = {ANY_PHASE, priv_limit_zygote, false, true},
    [PRIV_ATTACH_VOLUME] = {PRIV_SERVING | PRIV_DRAINING, priv_attach_volume, true, true},
    [PRIV_ASK_LIMITS] = {ANY_PHASE, priv_ask_limits, false, true},
    [PRIV_END_ZYGOTE] = {ANY_PHASE, priv_end_zygote, false, false},
    [PRIV_DISCARD_VOLUME] = {PRIV_SERVING | PRIV_DRAINING, discard_volume, true, true},
    [PRIV_START_FRONTEND] = {PRIV_STARTING | PRIV_SERVING, start_frontend, false, true},
    [PRIV_BEGIN_DRAIN] = {PRIV_STARTING | PRIV_SERVING, begin_drain, false, true},
    [PRIV_DOWN] = {ANY_PHASE, go_down, false, false},
};

bool priv_is_for_probe(const struct priv_request *req)
{
    return strncmp(req->ns_id, PRIV_PROBE_ID, strlen(PRIV_PROBE_ID)) == 0;
}

static bool is_well_formed(const struct priv_request *req, ssize_t len)
{
    if (len != (ssize_t)sizeof *req || req->verb == 0 || req->verb >= PRIV_VERBS)
        return false;
    if (req->verb == PRIV_ATTACH_VOLUME && memchr(req->ns_id, 0, sizeof req->ns_id) &&
        priv_is_for_probe(req))
        return true;
    return !verbs[req->verb].names_volume || (memchr(req->ns_id, 0, sizeof req->ns_id) &&
                                              proto_ns_id_is_valid(req->ns_id, strlen(req->ns_id)));
}

/* A probe's volume may be had at any time: at the start, and when a reload brings another box. */
static bool is_in_phase(const struct priv *p, const struct priv_request *req)
{
    bool for_probe = req->verb == PRIV_ATTACH_VOLUME && priv_is_for_probe(req);
    return (for_probe ? ANY_PHASE : verbs[req->verb].phases) & p->phase;
}

/* Reads and does one request; false when the conversation is over. */
static bool on_request(struct priv *p)
{
    struct priv_request req;
    struct priv_call call = {.req = &req};
    struct priv_answer answer = {0};
    struct err err = {0};
    ssize_t n = packet_recv(p->engine_sock, &req, sizeof req, call.fds, &call.nfds);
    /* It left before it read our last words: that is told first, and once, and its own last word,
     * DOWN, is still to be read. unix_release_sock() in the kernel's af_unix.c. */
    if (n == -ECONNRESET)
        n = packet_recv(p->engine_sock, &req, sizeof req, call.fds, &call.nfds);
    if (n == 0) {
        LOG(ERROR, "engine_died");
        return false;
    }
    if (!is_well_formed(&req, n) || !is_in_phase(p, &req)) {
        LOG(ERROR, "bad_request_from_engine", F_I64("bytes", n),
            F_U64("verb", n >= (ssize_t)sizeof req.verb ? req.verb : 0), F_U64("phase", p->phase));
        for (size_t i = 0; n > 0 && i < call.nfds; i++)
            fd_close(&call.fds[i]);
        return false;
    }
    p->done[req.verb].calls++;
    int r = verbs[req.verb].run(p, &call, &answer, &err);
    p->done[req.verb].failures += r < 0;
    struct priv_reply reply = {
        .verb = req.verb, .slot = req.slot, .error = -r, .detail = answer.detail};
    (void)snprintf(reply.text, sizeof reply.text, "%.*s", (int)sizeof reply.text - 1, err.text);
    if (verbs[req.verb].answers && !answer.later)
        priv_tell(p, &reply, answer.fds, r == 0 ? answer.nfds : 0);
    for (size_t i = 0; i < answer.nfds; i++)
        fd_close(&answer.fds[i]);
    for (size_t i = 0; i < call.nfds; i++)
        fd_close(&call.fds[i]);
    /* Behind a start, which nobody waited for, and with nothing else to do. */
    if (req.verb == PRIV_START_ZYGOTE &&
        poll(&(struct pollfd){.fd = p->engine_sock, .events = POLLIN}, 1, 0) == 0)
        vol_prepare(p->root_fd);
    return true;
}

/* ---- the end -----------------------------------------------------------------------------------
 */

static void kill_all(struct priv *p)
{
    const pid_t pids[] = {p->engine,  p->frontend, p->courier,  p->primordial,
                          p->remover, p->sweeper,  p->compiler, p->key_reader};
    for (size_t i = 0; i < ARRAY_LEN(pids); i++)
        if (pids[i] > 0)
            (void)kill(pids[i], SIGKILL);
    for (uint32_t i = 0; i < p->slot_count; i++) {
        if (p->slots[i].limiter > 0)
            (void)kill(p->slots[i].limiter, SIGKILL);
        if (p->slots[i].pid > 0)
            (void)syscall(SYS_pidfd_send_signal, p->slots[i].pidfd, SIGKILL, NULL, 0);
    }
}

static void end_everything(struct priv *p)
{
    uint64_t until = clock_now_ns() + END_MS * CLOCK_NS_PER_MS;
    p->going_down = true;
    fd_close(&p->engine_sock);
    fd_close(&p->primordial_sock);
    kill_all(p);
    fd_close(&p->netd_sock); /* netd cleans up and ends by itself */
    while (clock_now_ns() < until) {
        pid_t pid = waitpid(-1, NULL, WNOHANG);
        if (pid < 0)
            break; /* ECHILD */
        if (pid == 0)
            (void)poll(&(struct pollfd){.fd = p->sig_fd, .events = POLLIN}, 1, 20);
        struct signalfd_siginfo info;
        while (pid == 0 && read(p->sig_fd, &info, sizeof info) > 0)
            ;
    }
    vol_tidy(p->root_fd);
    cgroup_stop(&p->cg, CGROUPS_MS);
}

int priv_serve(struct priv *p)
{
    p->phase = PRIV_STARTING;
    if (!p->probe_only)
        priv_sweep(p); /* what an earlier service left */
    while (!p->going_down) {
        struct pollfd fds[] = {{.fd = p->engine_sock, .events = POLLIN},
                               {.fd = p->sig_fd, .events = POLLIN}};
        int n = poll(fds, ARRAY_LEN(fds),
                     p->remover_is_late                   ? REMOVER_LATE_MS
                     : p->down_by_ns || p->courier_due_ns ? 1000
                                                          : -1);
        if (n < 0 && errno != EINTR)
            break;
        /* Requests first: an engine that said DOWN and left did not die. */
        if (fds[0].revents && !on_request(p)) {
            p->exit_status = 1;
            break;
        }
        if (fds[1].revents)
            priv_on_signals(p);
        if (p->remover_is_late)
            priv_start_remover(p);
        priv_courier_tick(p);
        /* While the layers are being proven nothing changes under them. */
        if (p->reload_later && p->phase != PRIV_STARTING)
            priv_reload(p);
        if (p->down_by_ns && clock_now_ns() > p->down_by_ns) {
            LOG(ERROR, "drain_overdue");
            p->exit_status = 1;
            break;
        }
    }
    end_everything(p);
    return p->exit_status;
}
