/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/engine - the loop, the way to priv, the frontend's life, the end.
 *
 * Runs as its own user without capabilities, forked from priv without exec. priv is asked at most
 * ENGINE_CALLS_MAX things at once, so that its socket never fills; the rest waits here, bounded by
 * what the slots can want. A frontend that dies is restarted with a backoff; one that keeps dying
 * at once ends the service with its cause.
 */
#include "supervisor/engine.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "lib/packet.h"
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define FDS_KEPT 40 /* for one message: its memfd, a run's, what priv sends */
#define FRONTENDS_MAX 12u
#define FRONTEND_QUICK_MS 1000u /* dead within this: a quick death */
#define FRONTEND_QUICK_MAX 5u   /* in a row: a crash loop */
#define FRONTEND_BACKOFF_MS 100u
#define FRONTEND_BACKOFF_MAX_MS 5000u
#define FRONTEND_LEAVE_MS 2000u /* from the last run of a drain until it is not waited for */
#define SERVER "brood 0.1"

struct call {
    TAILQ_ENTRY(call) in_list;
    struct priv_request req;
    int fds[PACKET_FDS_MAX];
    size_t nfds;
};

static void start_frontend(struct engine *e);

/* ---- priv --------------------------------------------------------------------------------------
 */

static void send_to_priv(struct engine *e, const struct priv_request *req, const int *fds,
                         size_t nfds)
{
    int r = packet_send(e->priv.fd, req, sizeof *req, fds, nfds);
    if (r < 0) { /* priv is gone, or so far behind that it may as well be */
        LOG(ERROR, "priv_unreachable", F_STR("error", strerror(-r)));
        loop_stop(&e->loop);
        e->stopping = true;
    }
    e->calls_open++;
}

void engine_ask_priv(struct engine *e, const struct priv_request *req, const int *fds, size_t nfds)
{
    struct call *call = NULL;
    if (e->calls_open < ENGINE_CALLS_MAX && TAILQ_EMPTY(&e->calls)) {
        send_to_priv(e, req, fds, nfds);
    } else if ((call = malloc(sizeof *call))) {
        *call = (struct call){.req = *req, .nfds = nfds};
        for (size_t i = 0; i < nfds; i++)
            call->fds[i] = fds[i];
        TAILQ_INSERT_TAIL(&e->calls, call, in_list);
        return;
    } else {
        LOG(ERROR, "out_of_memory", F_STR("for", "a request to priv"));
        engine_down(e, 1);
    }
    for (size_t i = 0; i < nfds; i++)
        (void)close(fds[i]);
}

static void send_waiting_calls(struct engine *e)
{
    struct call *call;
    while (e->calls_open < ENGINE_CALLS_MAX && (call = TAILQ_FIRST(&e->calls))) {
        TAILQ_REMOVE(&e->calls, call, in_list);
        send_to_priv(e, &call->req, call->fds, call->nfds);
        for (size_t i = 0; i < call->nfds; i++)
            fd_close(&call->fds[i]);
        free(call);
    }
}

void engine_down(struct engine *e, int status)
{
    struct priv_request req = {.verb = PRIV_DOWN, .slot = (uint32_t)status};
    if (e->stopping)
        return;
    e->stopping = true;
    (void)packet_send(e->priv.fd, &req, sizeof req, NULL, 0);
    loop_stop(&e->loop);
}

/* ---- the frontend ------------------------------------------------------------------------------
 */

static unsigned count_threads(const struct engine *e)
{
    unsigned cores = e->cpu_count;
    unsigned n = e->set.threads ? (unsigned)e->set.threads : cores > 4 ? cores / 4 : 1;
    return n < FRONTENDS_MAX ? n : FRONTENDS_MAX;
}

static void on_frontend_timer(struct loop_timer *t)
{
    struct engine *e = CONTAINER_OF(t, struct engine, frontend_timer);
    if (e->draining)
        engine_down(e, 0);
    else
        start_frontend(e);
}

static void frontend_failed(struct engine *e, const char *text)
{
    unsigned n = ++e->frontend_quick_deaths;
    uint64_t ms = FRONTEND_BACKOFF_MS << n;
    if (n >= FRONTEND_QUICK_MAX) {
        LOG(ERROR, "frontend_crash_loop", F_U64("deaths", n), F_STR("error", text));
        engine_down(e, 1);
        return;
    }
    LOG(ERROR, "frontend_failed", F_STR("error", text));
    ms = ms < FRONTEND_BACKOFF_MAX_MS ? ms : FRONTEND_BACKOFF_MAX_MS;
    (void)loop_timer_set(&e->loop, &e->frontend_timer, clock_now_ns() + ms * CLOCK_NS_PER_MS);
}

static void start_frontend(struct engine *e)
{
    struct priv_request req = {.verb = PRIV_START_FRONTEND};
    int far[PACKET_FDS_MAX];
    size_t n = 0;
    while (n < count_threads(e)) {
        int pair[2];
        if (packet_pair(pair, true) < 0)
            break;
        far[n++] = pair[1];
        if (client_add(e, pair[0], 0) < 0)
            break;
    }
    e->frontend_up = true;
    e->frontend_started_ns = clock_now_ns();
    e->total.frontend_starts++;
    engine_ask_priv(e, &req, far, n); /* with none of them it fails, and is tried again */
}

static void on_frontend_exited(struct engine *e, int status)
{
    char text[80];
    e->frontend_up = false;
    if (e->draining) {
        engine_check_drained(e);
        return;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == PROTO_FRONTEND_REFUSES) {
        LOG(ERROR, "frontend_refused", F_STR("error", "see the line before"));
        engine_down(e, 1);
        return;
    }
    if (WIFSIGNALED(status))
        (void)snprintf(text, sizeof text, "brood-frontend was killed by signal %d",
                       WTERMSIG(status));
    else
        (void)snprintf(text, sizeof text, "brood-frontend exited with %d", WEXITSTATUS(status));
    if (clock_now_ns() - e->frontend_started_ns > FRONTEND_QUICK_MS * CLOCK_NS_PER_MS)
        e->frontend_quick_deaths = 0;
    frontend_failed(e, text);
}

/* ---- stop and reload ---------------------------------------------------------------------------
 */

void engine_check_drained(struct engine *e)
{
    if (!e->draining || e->stopping || e->open_runs > 0)
        return;
    if (!e->frontend_up)
        engine_down(e, 0);
    else if (!e->frontend_timer.slot)
        (void)loop_timer_set(&e->loop, &e->frontend_timer,
                             clock_now_ns() + FRONTEND_LEAVE_MS * CLOCK_NS_PER_MS);
}

static void on_drain_over(struct loop_timer *t)
{
    struct engine *e = CONTAINER_OF(t, struct engine, drain_timer);
    LOG(WARN, "drain_over", F_U64("runs_killed", e->open_runs));
    engine_down(e, 0);
}

static void drain(struct engine *e, uint32_t times)
{
    if (times > 1) {
        engine_down(e, 0);
        return;
    }
    e->draining = true;
    clients_stop_listening(e);
    loop_timer_cancel(&e->loop, &e->frontend_timer);
    e->drain_timer.on_due = on_drain_over;
    (void)loop_timer_set(&e->loop, &e->drain_timer,
                         clock_now_ns() + e->set.drain_ms * CLOCK_NS_PER_MS);
    engine_ask_priv(e, &(struct priv_request){.verb = PRIV_BEGIN_DRAIN}, NULL, 0);
    engine_say_hello(e);
    engine_stop_versions();
    companions_end_terminals(e, "the service is stopping");
    engine_check_drained(e);
}

static void reload(struct engine *e, uint32_t detail, int *fds)
{
    struct settings_files files = *e->files;
    struct settings set;
    struct err err;
    size_t n = 0;
    files.yaml_fd = detail & 1 ? fds[n++] : -1;
    files.dotenv_fd = detail & 2 ? fds[n] : -1;
    int r = settings_reload(&files, &set, &err);
    if (r == 0 &&
        set.active_max + set.spares + e->set.sessions.max + e->set.terminals.max > e->slot_count)
        r = err_set(
            &err,
            "namespaces: active_max + spares is beyond what this service started with; restart it");
    if (r < 0) {
        LOG(ERROR, "reload_failed", F_STR("error", err.text),
            F_STR("kept", "the running configuration"));
        return;
    }
    settings_apply(&e->set, &set);
    log_init("engine", e->set.log_format, e->set.log_level);
    engine_say_hello(e);
    slots_refill(e);
    LOG(INFO, "reloaded");
}

/* A SIGHUP led to other policies: spares, queued runs and what runs next follow them. */
static void take_policies(struct engine *e, uint32_t generation, int *fd)
{
    const void *map;
    size_t len;
    struct err err;
    if (fd_memfd_map(*fd, sizeof(struct policy_set), &map, &len, &err) < 0 ||
        !policy_set_is_sound(map, len)) {
        LOG(ERROR, "policies_unreadable", F_STR("error", err.text));
        engine_down(e, 1); /* priv is ahead of us: nothing would fit any more */
        return;
    }
    (void)munmap((void *)(uintptr_t)e->policies, policy_set_bytes(e->policies));
    e->policies = map;
    e->generation = generation;
    probe_on_policies(e);
    engine_say_hello(e);
    ns_on_policies(e);
    slots_on_policies(e);
    probe_go_on(e);
}

/* A SIGHUP led to other keys, perhaps the same ones. */
static void take_keys(struct engine *e, int *fd)
{
    fd_close(&e->keys_fd);
    e->keys_fd = fd_take(fd);
    e->keys_generation++;
    engine_say_hello(e);
}

static void on_priv_word(struct engine *e, const struct priv_reply *reply, int *fds, size_t nfds)
{
    switch (reply->verb) {
    case PRIV_DRAIN:
        drain(e, reply->detail);
        return;
    case PRIV_RELOAD:
        if (nfds == (reply->detail & 1) + (reply->detail >> 1 & 1))
            reload(e, reply->detail, fds);
        return;
    case PRIV_POLICIES:
        if (nfds != 1)
            engine_down(e, 1); /* priv is ahead of us */
        else
            take_policies(e, reply->detail, &fds[0]);
        return;
    case PRIV_KEYS:
        if (nfds == 1)
            take_keys(e, &fds[0]);
        return;
    case PRIV_FRONTEND_EXITED:
        on_frontend_exited(e, (int)reply->detail);
        return;
    default:
        break;
    }
    e->calls_open--;
    if (reply->verb < PRIV_VERBS) {
        e->verbs[reply->verb].calls = reply->calls;
        e->verbs[reply->verb].failures = reply->failures;
    }
    if (reply->verb == PRIV_START_FRONTEND) {
        if (reply->error) {
            e->frontend_up = false;
            frontend_failed(e, reply->text);
        } else {
            LOG(INFO, "serving", F_STR("http", e->set.http_listen), F_U64("port", e->set.http_port),
                F_STR("http_socket", e->set.http_socket), F_STR("socket", e->set.socket),
                F_STR("zygote", e->zygote_execs ? "exec" : "bash"),
                F_STR("access", e->keys_fd >= 0
                                    ? "with a key"
                                    : "anyone on this machine: no keys are configured"));
        }
    } else if (reply->verb == PRIV_ASK_LIMITS) {
        probe_on_limits(e, reply);
    } else if (reply->verb == PRIV_DISCARD_VOLUME) {
        ns_on_discarded(e, reply);
    } else if (reply->verb != PRIV_BEGIN_DRAIN) {
        slot_on_priv_reply(e, reply, fds, nfds);
    }
    send_waiting_calls(e);
}

void engine_on_first_spare(struct engine *e)
{
    if (!e->draining)
        probe_start(e);
}

void engine_on_proven(struct engine *e)
{
    int r = clients_accept(e);
    if (r < 0) {
        LOG(ERROR, "listen_failed", F_STR("error", strerror(-r)));
        engine_down(e, 1);
        return;
    }
    start_frontend(e);
    slots_refill(e);
    engine_ask_versions(e);
}

static void on_priv(struct loop_io *io, uint32_t events)
{
    struct engine *e = CONTAINER_OF(io, struct engine, priv);
    struct priv_reply reply;
    int fds[PACKET_FDS_MAX];
    size_t nfds;
    (void)events;
    ssize_t n = packet_recv(io->fd, &reply, sizeof reply, fds, &nfds);
    if (n == -EAGAIN)
        return;
    if (n != (ssize_t)sizeof reply) {
        LOG(ERROR, "priv_died");
        e->stopping = true;
        loop_stop(&e->loop);
        return;
    }
    reply.text[sizeof reply.text - 1] = 0;
    on_priv_word(e, &reply, fds, nfds);
    for (size_t i = 0; i < nfds; i++)
        fd_close(&fds[i]);
}

bool engine_fds_are_short(const struct engine *e, const int *fds, size_t nfds)
{
    for (size_t i = 0; i < nfds; i++)
        if (fds[i] >= e->fds_end)
            return true;
    return false;
}

/* Of any policy: the frontend does not know whose namespace has which. */
static uint64_t longest_timeout_ms(const struct engine *e)
{
    uint64_t ms = e->set.timeout_ms_max;
    for (uint32_t i = 0; i < e->policies->count; i++)
        if (e->policies->plans[i].limits.timeout_ms_max > ms)
            ms = e->policies->plans[i].limits.timeout_ms_max;
    return ms;
}

static struct proto_companion_limits companion_limits(const struct settings_companions *c)
{
    return (struct proto_companion_limits){.per_namespace = c->per_namespace,
                                           .max = c->max,
                                           .idle_s = c->idle_ms / 1000,
                                           .max_life_s = c->max_life_ms / 1000};
}

void engine_fill_hello(const struct engine *e, unsigned rights, struct proto_hello *ret)
{
    const struct settings *s = &e->set;
    *ret = (struct proto_hello){
        .version = PROTO_VERSION,
        .server = SERVER,
        .cmd_bytes_max = PROTO_CMD_BYTES_MAX,
        .env_bytes_max = PROTO_ENV_BYTES_MAX,
        .timeout_ms_default = s->timeout_ms_default,
        .timeout_ms_max = longest_timeout_ms(e),
        .output_bytes_max = s->output_bytes_max,
        .body_bytes_max = s->body_bytes_max,
        .upload_bytes_max = s->upload_bytes_max,
        .uploads_held_max = s->uploads_held_max,
        .connections_max = s->connections_max,
        .request_timeout_ms = s->request_timeout_ms,
        .idle_timeout_ms = s->idle_timeout_ms,
        .write_timeout_ms = s->write_timeout_ms,
        .log_format = s->log_format,
        .log_level = s->log_level,
        .run_limits = s->v1,
        .store = {.age_s = s->store_age_ms / 1000,
                  .runs_max = s->store_runs_max,
                  .bytes_max = s->store_bytes_max,
                  .key_bytes_max = s->store_key_bytes_max,
                  .key_files_max = s->store_key_files_max,
                  .file_bytes_max = s->store_file_bytes_max,
                  .url_lifetime_s = s->store_url_lifetime_ms / 1000,
                  .once_age_s = s->store_once_age_ms / 1000,
                  .once_max = s->store_once_max,
                  .once_bytes_max = s->store_once_bytes_max,
                  .public_base_url = s->public_base_url},
        .sessions = companion_limits(&s->sessions),
        .terminals = companion_limits(&s->terminals),
        .jobs = {.concurrency = s->jobs_concurrency,
                 .queue_max = s->jobs_queue_max,
                 .key_queue_max = s->jobs_key_queue_max,
                 .queue_bytes_max = s->jobs_queue_bytes_max,
                 .attempts_max = s->jobs_attempts_max},
        .terminal_silence_s = s->terminals_silence_ms / 1000,
        .terminal_origins = s->terminals_origins,
        .streams = {.ring_bytes = s->stream_ring_bytes,
                    .rings_bytes_max = s->stream_rings_bytes_max,
                    .heartbeat_ms = s->stream_heartbeat_ms,
                    .linger_ms = s->stream_linger_ms},
        .webhooks = {.allow = s->webhook_allow,
                     .timeout_ms = s->webhook_timeout_ms,
                     .attempts = s->webhook_attempts,
                     .delay_first_ms = s->webhook_delay_first_ms,
                     .delay_max_ms = s->webhook_delay_max_ms,
                     .at_once = s->webhook_at_once,
                     .at_once_host = s->webhook_at_once_host},
        .draining = e->draining,
        .queue_max = s->queue_max,
        .max_wait_ms = s->max_wait_ms,
        .zygote_execs = e->zygote_execs,
    };
    probe_fill_hello(ret, rights & PEER_MAY_ADMIN);
    engine_fill_languages(e, ret);
    for (uint32_t i = 0; i < e->policies->count; i++)
        ret->networks |=
            1u << (e->policies->plans[i].net.mode == POLICY_NET_EGRESS ? PROTO_NETWORK_EGRESS
                                                                       : PROTO_NETWORK_NONE);
}

/* Before files are renounced. The kernel's own default where it does not say. */
int engine_run(const struct engine_start *start)
{
    static struct engine *e; /* static: what a process ends with is no leak */
    e = calloc(1, sizeof *e);
    if (!e || !(e->slots = calloc(start->slot_count, sizeof *e->slots)))
        die(1, "engine: out of memory");
    e->set = *start->set;
    e->files = start->files;
    e->peers = start->peers;
    e->root_fd = start->root_fd;
    e->keys_fd = start->keys_fd;
    e->keys_generation = start->keys_fd >= 0;
    e->policies = start->policies;
    e->languages = start->languages;
    e->generation = 1;
    e->slot_count = start->slot_count;
    e->next_run_id = 1;
    e->cpu_count = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
    e->pids_half = cgroup_machine_pids() / 2;
    struct rlimit nofile = {.rlim_cur = INT_MAX};
    (void)getrlimit(RLIMIT_NOFILE, &nofile);
    e->fds_end = (int)(nofile.rlim_cur < INT_MAX ? nofile.rlim_cur : INT_MAX) - FDS_KEPT;
    e->frontend_timer.on_due = on_frontend_timer;
    e->priv = (struct loop_io){.fd = start->priv_sock, .on_ready = on_priv};
    TAILQ_INIT(&e->calls);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)prctl(PR_SET_NAME, "brood-engine", 0, 0, 0);
    if (getrandom(&e->hash_seed, sizeof e->hash_seed, 0) != (ssize_t)sizeof e->hash_seed)
        die(1, "engine: getrandom: %s", strerror(errno));
    int r = loop_init(&e->loop);
    if (r == 0)
        r = fd_set_nonblock(start->priv_sock) < 0 ? -errno
                                                  : loop_io_add(&e->loop, &e->priv, EPOLLIN);
    if (r < 0)
        die(1, "engine: %s", strerror(-r));
    struct err err;
    if (engine_confine(&err) < 0)
        die(1, "engine: %s", err.text);
    clients_init(e, start->listen_fd);
    slots_init(e);
    ns_init(e);
    slots_refill(e);
    r = loop_run(&e->loop);
    return r < 0 ? 1 : 0; /* the kernel takes the rest back */
}
