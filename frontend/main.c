/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/main - brood-frontend: HTTP and JSON from anyone on one side, the engine on the other.
 *
 *   brood-frontend --listen 3,4 --engine 5,6 --state 7 [--courier 8 [--webhook-secret 9]]
 *
 * Exec'ed by the supervisor under a user of its own, without capabilities, with the listening
 * sockets (TCP or Unix), one connected SOCK_SEQPACKET socket per thread, and its state directory.
 * Each thread is a server of its own: loop, connections, engine connection; nothing is shared but
 * counters and the store, which has a thread too. It ends with 0 when the engine says that it
 * drains and no request is open, or closes a connection; with 1 when the engine misbehaves; with 3
 * when its state directory will not do. The supervisor then decides about another one.
 */
#include "frontend/answer.h"
#include "frontend/front.h"
#include "frontend/restrict.h"
#include "frontend/stream.h"
#include "frontend/terminal.h"
#include "frontend/webhooks.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/num.h"
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>

#define THREADS_MAX 64
#define TICK_MS 100u
#define BODY_BYTES_BEFORE_HELLO (1u << 20)
#define UPLOADS_HELD_BEFORE_HELLO (64ull << 20)
#define ENDING_MS 2000u /* answers of the last moment get this long to leave */

struct fd_list {
    int fds[THREADS_MAX];
    size_t count;
};

enum { ENGINE_FINE, ENGINE_CLOSED, ENGINE_BROKEN };
static atomic_int engine_state; /* the worst that any thread has seen */

static struct front fronts[THREADS_MAX];
static struct store *store;
static struct urls urls;

static void end(struct front *f)
{
    if (f->ending)
        return;
    f->ending = true;
    upstream_forget_all(&f->upstream);
    http_drain(f->server);
}

static void on_broken(void *user, bool clean)
{
    struct front *f = user;
    int none = ENGINE_FINE;
    if (clean)
        (void)atomic_compare_exchange_strong(&engine_state, &none, ENGINE_CLOSED);
    else
        atomic_store(&engine_state, ENGINE_BROKEN);
    LOG(WARN, "engine_gone", F_STR("how", clean ? "closed" : "broken"),
        F_U64("open_requests", http_open_requests(f->server)));
    end(f);
}

static void take_store_settings(struct front *f, const struct proto_store *s)
{
    const struct store_settings settings = {.age_s = s->age_s,
                                            .runs_max = s->runs_max,
                                            .bytes_max = s->bytes_max,
                                            .key_bytes_max = s->key_bytes_max,
                                            .key_files_max = s->key_files_max,
                                            .once_age_s = s->once_age_s,
                                            .once_max = s->once_max,
                                            .once_bytes_max = s->once_bytes_max};
    f->file_bytes_max = s->file_bytes_max;
    f->url_lifetime_s = s->url_lifetime_s;
    (void)snprintf(f->base_url, sizeof f->base_url, "%s", s->public_base_url);
    if (f->first)
        store_set(f->store, &settings);
}

static void on_letters(void *data)
{
    letterbox_open(data);
}

/* A watch owns its descriptor, so it gets a copy: who puts a letter in writes to the box's own. */
static int set_up_letters(struct front *f, struct err *err)
{
    int r = letterbox_init(&f->letters, err);
    int fd = r < 0 ? -1 : SYS(fcntl(f->letters.fd, F_DUPFD_CLOEXEC, 3));
    if (r < 0)
        return r;
    if (fd < 0 || !http_watch_new(f->server, fd, on_letters, &f->letters))
        return err_sys(err, "watch the letters");
    return 0;
}

static bool on_hello(void *user, const struct proto_hello *h, const int *fds, size_t nfds)
{
    struct front *f = user;
    const struct http_settings settings = {.body_bytes_max = h->body_bytes_max,
                                           .connections_max = h->connections_max,
                                           .uploads_held_max = h->uploads_held_max,
                                           .request_timeout_ms = h->request_timeout_ms,
                                           .idle_timeout_ms = h->idle_timeout_ms,
                                           .write_timeout_ms = h->write_timeout_ms};
    f->limits = (struct parse_limits){.cmd_bytes_max = h->cmd_bytes_max,
                                      .env_bytes_max = h->env_bytes_max,
                                      .timeout_ms_max = h->timeout_ms_max,
                                      .output_bytes_max = h->output_bytes_max,
                                      .v1 = h->run_limits,
                                      .languages = &f->languages};
    if (f->first)
        stream_set(&h->streams);
    if (f->first)
        log_init("frontend", (enum log_format)h->log_format, (enum log_level)h->log_level);
    if (!auth_on_hello(f, h, fds, nfds))
        return false;
    lang_list_set(&f->languages, h);
    f->timeout_ms_max = h->timeout_ms_max;
    f->max_wait_ms = h->max_wait_ms;
    f->upload_bytes_max = h->upload_bytes_max;
    take_store_settings(f, &h->store);
    webhooks_on_hello(f, &h->webhooks);
    f->greeted = true;
    capabilities_on_hello(f, h);
    http_server_set(f->server, &settings);
    if (h->draining) {
        f->draining = true;
        http_drain(f->server);
    }
    jobs_on_hello(f, h);
    terminals_on_hello(f, h);
    if (f->first)
        webhooks_wake(); /* what an earlier process left */
    return true;
}

static void on_tick(struct http_timer *t)
{
    struct front *f = CONTAINER_OF(t, struct front, tick);
    uint64_t now = clock_now_ns();
    if (f->ending) { /* the second tick while ending: who has not taken the answer does not want it
                      */
        http_stop(f->server);
        return;
    }
    upstream_tick(&f->upstream, now);
    work_on_tick(f);
    usage_on_tick(f, now);
    terminals_on_tick(f);
    auth_on_tick(f, now);
    if (f->first)
        stream_on_tick();
    if (atomic_load(&engine_state) != ENGINE_FINE)
        end(f);
    http_timer_set(f->server, t, now + (f->ending ? ENDING_MS : TICK_MS) * CLOCK_NS_PER_MS);
}

static void on_turn(void *user)
{
    struct front *f = user;
    size_t open = http_open_requests(f->server);
    bool answered = open < f->open_before;
    f->open_before = open;
    if ((f->ending || f->draining) && open == 0 && f->detached == 0)
        http_stop(f->server);
    else
        output_on_turn(&f->pipes, answered);
}

static const struct http_app app = {.upload_max = routes_upload_max,
                                    .put_error = answer_put_error,
                                    .on_request = routes_on_request,
                                    .on_gone = routes_on_gone,
                                    .on_end = routes_on_end,
                                    .on_turn = on_turn};
static const struct upstream_events events = {.on_hello = on_hello, .on_broken = on_broken};

static void on_stored(void *data)
{
    store_collect(data);
}

/* A watch owns its descriptor, so it gets a copy: the mailbox has its own. */
static int set_up_store(struct front *f, struct err *err)
{
    int r = store_mailbox_init(&f->mailbox, store, err);
    int fd = r < 0 ? -1 : SYS(fcntl(f->mailbox.fd, F_DUPFD_CLOEXEC, 3));
    f->store = store;
    f->urls = &urls;
    if (r < 0)
        return r;
    if (fd < 0 || !http_watch_new(f->server, fd, on_stored, &f->mailbox))
        return err_sys(err, "watch the store");
    return 0;
}

static int set_up(struct front *f, int engine_fd, const struct fd_list *listeners, int null_fd,
                  struct err *err)
{
    /* Until the Hello: /health and /ready are answered, nothing else is. */
    const struct http_settings settings = {.body_bytes_max = BODY_BYTES_BEFORE_HELLO,
                                           .connections_max = 256,
                                           .uploads_held_max = UPLOADS_HELD_BEFORE_HELLO,
                                           .request_timeout_ms = 10000,
                                           .idle_timeout_ms = 60000,
                                           .write_timeout_ms = 30000};
    int r = 0;
    f->null_fd = null_fd;
    f->first = f == fronts;
    f->server = http_server_new(&app, f);
    if (!f->server)
        return err_set(err, "cannot make an HTTP server");
    http_server_set(f->server, &settings);
    for (size_t i = 0; r == 0 && i < listeners->count; i++)
        r = http_listen(f->server, listeners->fds[i], err);
    if (r == 0)
        r = upstream_init(&f->upstream, f->server, engine_fd, &events, f, err);
    if (r == 0)
        r = set_up_store(f, err);
    if (r == 0)
        r = jobs_init(f, err);
    if (r == 0)
        r = terminals_init(f, err);
    if (r == 0)
        r = set_up_letters(f, err);
    f->tick.on_due = on_tick;
    http_timer_set(f->server, &f->tick, clock_now_ns() + TICK_MS * CLOCK_NS_PER_MS);
    return r;
}

static void *serve(void *data)
{
    struct front *f = data;
    http_run(f->server);
    usage_finish(f);
    letterbox_close(&f->letters);
    output_pipes_fini(&f->pipes);
    return NULL;
}

/* "3,4": descriptors that are open. */
static void read_fds(const char *what, const char *text, struct fd_list *list)
{
    char item[16];
    for (const char *p = text; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
        size_t len = strcspn(p, ",");
        uint64_t fd = 0;
        (void)snprintf(item, sizeof item, "%.*s", (int)(len < 15 ? len : 15), p);
        if (list->count == THREADS_MAX || num_parse_u64(item, 3, 1 << 20, &fd) < 0)
            die(2, "%s: a list of at most %d descriptors is expected, got '%s'", what, THREADS_MAX,
                text);
        if (fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0)
            die(2, "%s: descriptor %s is not open", what, item);
        list->fds[list->count++] = (int)fd;
    }
}

static void ignore_signals(void)
{
    /* A ^C or a SIGTERM may reach the whole process group: the supervisor decides when we end. */
    const int ignored[] = {SIGPIPE, SIGTERM, SIGINT, SIGHUP};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
        (void)sigaction(ignored[i], &ignore, NULL);
}

int main(int argc, char **argv)
{
    struct fd_list listeners = {.count = 0}, engines = {.count = 0}, state = {.count = 0};
    struct fd_list courier = {.fds = {-1}}, secret = {.fds = {-1}};
    struct err err = {0};
    struct tm tm;
    time_t now = time(NULL);
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 < argc && strcmp(argv[i], "--listen") == 0)
            read_fds(argv[i], argv[i + 1], &listeners);
        else if (i + 1 < argc && strcmp(argv[i], "--engine") == 0)
            read_fds(argv[i], argv[i + 1], &engines);
        else if (i + 1 < argc && strcmp(argv[i], "--state") == 0)
            read_fds(argv[i], argv[i + 1], &state);
        else if (i + 1 < argc && strcmp(argv[i], "--courier") == 0)
            read_fds(argv[i], argv[i + 1], &courier);
        else if (i + 1 < argc && strcmp(argv[i], "--webhook-secret") == 0)
            read_fds(argv[i], argv[i + 1], &secret);
        else
            die(2, "usage: brood-frontend --listen FD,... --engine FD,... --state FD [--courier FD "
                   "[--webhook-secret FD]] (started by brood-supervisor)");
    }
    if (listeners.count == 0 || engines.count == 0 || state.count != 1)
        die(2,
            "--listen, --engine and --state are required (brood-supervisor starts this program)");
    ignore_signals();
    (void)umask(077);
    log_init("frontend", LOG_FORMAT_TEXT, LOG_LEVEL_INFO);
    int null_fd = SYS(open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (null_fd < 0)
        die(1, "open /dev/null: %s", strerror(errno));
    parse_init();
    if (urls_open(state.fds[0], &urls, &err) < 0 ||
        webhooks_open(state.fds[0], courier.fds[0], secret.fds[0], &err) < 0 ||
        store_open(state.fds[0], &(struct store_settings){0}, &store, &err) < 0 ||
        jobs_load(store, &err) < 0) {
        LOG(ERROR, "state_refused", F_STR("error", err.text));
        return err.code == -EINVAL ? PROTO_FRONTEND_REFUSES : 1;
    }
    (void)localtime_r(&now, &tm); /* reads the time zone while there are files */
    for (size_t i = 0; i < engines.count; i++)
        if (set_up(&fronts[i], engines.fds[i], &listeners, null_fd, &err) < 0)
            die(1, "%s", err.text);
    if (webhooks_start(&fronts[0], &err) < 0)
        die(1, "%s", err.text);
    if (restrict_self(state.fds[0], &err) < 0 || store_start(store, &err) < 0)
        die(1, "%s", err.text);
    for (size_t i = 1; i < engines.count; i++)
        if (pthread_create(&fronts[i].thread, NULL, serve, &fronts[i]) != 0)
            die(1, "cannot start a thread");
    (void)serve(&fronts[0]);
    for (size_t i = 1; i < engines.count; i++)
        (void)pthread_join(fronts[i].thread, NULL);
    store_close(store);
    return atomic_load(&engine_state) == ENGINE_BROKEN ? 1 : 0;
}
