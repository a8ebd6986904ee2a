/* SPDX-License-Identifier: Apache-2.0 */
/* bench/figures - `brood-bench figures`: the figures of the product and whether they meet their
 * bars.
 *
 * Latencies are measured in interleaved rounds: within one round each contender has one batch, and
 * the order turns from round to round, so that a slow minute of the machine hits all alike. The
 * first few runs of a batch are not counted, for anyone: they pay for what the contender before
 * evicted. A run that fails, or prints the wrong thing, is never a sample: its contender is given
 * up with the reason. bench/run is what starts it.
 */
#include "bench/bench.h"
#include "lib/fd.h"
#include <fcntl.h>
#include <math.h>

#define THROUGHPUT_CONNECTIONS 16u
#define THROUGHPUT_WORKERS 2u
#define THROUGHPUT_SPAN_NS (700 * CLOCK_NS_PER_MS)
#define THROUGHPUT_ROUNDS 7u
#define ACTIVATIONS 300u
#define ACTIVATION_CONNECTIONS 8u
#define ACTIVATION_ROUNDS 3u
#define SETTLE_S 30u

enum who {
    BARE,
    HTTP_WARM,
    HTTP_SESSION,
    SOCKET_WARM,
    BARE_FILES,
    HTTP_FILES,
    HTTP_COLD,
    BWRAP,
    CRUN,
    WHO
};

struct world {
    const struct options *o;
    struct http http;
    struct engine engine;
    struct buf echo, session, files, cold;
    unsigned cold_count, crun_count;
    char hostname[256];
    char crun_id[32];
    struct batch batch;
    struct series series[WHO];
    char given_up[WHO][160];
    double load[ROUNDS_MAX], spawns[ROUNDS_MAX], activations[ROUNDS_MAX];
    size_t load_rounds, activation_rounds;
    char load_why[160], activation_why[160];
};

static char bash_path[] = "/bin/bash", flag_c[] = "-c", echo_hi[] = "echo hi";
static char list_files[] = "ls / >/dev/null; cat /etc/hostname";
static char *const bare_argv[] = {bash_path, flag_c, echo_hi, NULL};
static char *const files_argv[] = {bash_path, flag_c, list_files, NULL};

static int bare_once(struct world *w, double *us, struct err *err)
{
    (void)w;
    return spawn_once(bare_argv, "hi\n", us, err);
}

static int bare_files_once(struct world *w, double *us, struct err *err)
{
    return spawn_once(files_argv, w->hostname, us, err);
}

static int post(struct world *w, const struct buf *request, const char *expect, double *us,
                struct err *err)
{
    uint64_t t0 = clock_now_ns();
    int r = http_exchange(&w->http, request, err);

    *us = (double)(clock_now_ns() - t0) / 1e3;
    if (r < 0)
        return r;
    if (expect)
        return http_check(&w->http, expect, err);
    if (w->http.status != 200 || !json_has(w->http.body.data, "exit_code", "0"))
        return err_set(err, "HTTP %d, %.190s", w->http.status, w->http.body.data);
    return 0;
}

static int http_warm_once(struct world *w, double *us, struct err *err)
{
    return post(w, &w->echo, "\"hi\\n\"", us, err);
}

static int http_session_once(struct world *w, double *us, struct err *err)
{
    return post(w, &w->session, "\"hi\\n\"", us, err);
}

static int http_files_once(struct world *w, double *us, struct err *err)
{
    return post(w, &w->files, NULL, us, err);
}

static int socket_once(struct world *w, double *us, struct err *err)
{
    struct engine_run run;
    int r = engine_execute(&w->engine, "bench", "echo hi", &run, err);

    *us = (double)(run.done_ns - run.start_ns) / 1e3;
    if (r == 0 && strcmp(run.out, "hi\n") != 0)
        r = err_set(err, "the output was \"%.40s\"", run.out);
    return r;
}

/* The pool is full again before the next never-seen namespace asks for one. */
static int http_cold_once(struct world *w, double *us, struct err *err)
{
    char ns_id[32];
    int r = engine_wait_stat(&w->engine, "spares", w->o->spares, UINT64_MAX, SETTLE_S, err);

    (void)snprintf(ns_id, sizeof ns_id, "cold-%u", w->cold_count++);
    http_execute(&w->cold, ns_id, "echo hi", "");
    if (r == 0)
        r = post(w, &w->cold, "\"hi\\n\"", us, err);
    if (r == 0 && !json_has(w->http.body.data, "start", "\"spare\""))
        r = err_set(err, "spares were ready but not used: %.180s", w->http.body.data);
    return r;
}

static int bwrap_once(struct world *w, double *us, struct err *err)
{
    static char path[] = "/usr/bin/bwrap", all[] = "--unshare-all", ro[] = "--ro-bind",
                root[] = "/", proc_flag[] = "--proc", proc[] = "/proc", dev_flag[] = "--dev",
                dev[] = "/dev";
    static char *const argv[] = {path,     all, ro,        root,   root,    proc_flag, proc,
                                 dev_flag, dev, bash_path, flag_c, echo_hi, NULL};
    (void)w;
    return spawn_once(argv, "hi\n", us, err);
}

static int crun_once(struct world *w, double *us, struct err *err)
{
    static char path[] = "/usr/bin/crun", manager[] = "--cgroup-manager=disabled", run[] = "run",
                flag_bundle[] = "--bundle";
    char bundle[256];
    char *const argv[] = {path, manager, run, flag_bundle, bundle, w->crun_id, NULL};

    if (!w->o->crun_bundle)
        return err_set(err, "%s", w->o->crun_why ? w->o->crun_why : "no bundle was given");
    (void)snprintf(bundle, sizeof bundle, "%s", w->o->crun_bundle);
    (void)snprintf(w->crun_id, sizeof w->crun_id, "brood-bench-%u", w->crun_count++);
    return spawn_once(argv, "hi\n", us, err);
}

static const struct {
    const char *name;
    unsigned batch, warmup;
    int (*once)(struct world *w, double *us, struct err *err);
    bool required;
} contenders[WHO] = {
    [BARE] = {"bare posix_spawn, echo hi", 200, 5, bare_once, true},
    [HTTP_WARM] = {"brood HTTP warm, echo hi", 200, 5, http_warm_once, true},
    [HTTP_SESSION] = {"brood HTTP session, echo hi", 200, 5, http_session_once, true},
    [SOCKET_WARM] = {"brood socket warm, echo hi", 200, 5, socket_once, true},
    [BARE_FILES] = {"bare posix_spawn, files", 30, 3, bare_files_once, true},
    [HTTP_FILES] = {"brood HTTP warm, files", 30, 3, http_files_once, true},
    [HTTP_COLD] = {"brood HTTP, never-seen", 10, 1, http_cold_once, true},
    [BWRAP] = {"bwrap, all namespaces", 20, 2, bwrap_once, false},
    [CRUN] = {"crun run, minimal bundle", 20, 2, crun_once, false},
};

static void give_up(char why[160], const struct err *err)
{
    (void)snprintf(why, 160, "%.150s", err->text);
    for (char *c = why; *c; c++) {
        if (*c == '\n')
            *c = ' ';
    }
}

static void run_batch(struct world *w, enum who who)
{
    struct err err = {0};
    double us = 0;

    if (w->given_up[who][0])
        return;
    w->batch.len = 0;
    for (unsigned i = 0; i < contenders[who].warmup + contenders[who].batch; i++) {
        if (contenders[who].once(w, &us, &err) < 0) {
            give_up(w->given_up[who], &err);
            return;
        }
        if (i >= contenders[who].warmup)
            batch_add(&w->batch, us);
    }
    series_close_round(&w->series[who], &w->batch);
}

static void measure_latency(struct world *w)
{
    struct err err = {0};

    for (unsigned round = 0; round < w->o->rounds; round++) {
        for (unsigned i = 0; i < WHO; i++) {
            enum who who = (enum who)((round + i) % WHO);
            run_batch(w, who);
            /* the pool's refilling is not the next contender's burden */
            if (who == HTTP_COLD && !w->given_up[who][0])
                (void)engine_wait_stat(&w->engine, "spares", w->o->spares, UINT64_MAX, SETTLE_S,
                                       &err);
        }
    }
}

static void measure_throughput(struct world *w)
{
    struct load load = {.port = w->o->http_port,
                        .connections = THROUGHPUT_CONNECTIONS,
                        .span_ns = THROUGHPUT_SPAN_NS,
                        .skip = THROUGHPUT_CONNECTIONS * 4};
    struct err err = {0};
    double rate;

    if (load_run(&load, &rate, &err) < 0) { /* makes the namespaces; not counted */
        give_up(w->load_why, &err);
        return;
    }
    for (unsigned i = 0; i < THROUGHPUT_ROUNDS; i++) {
        int r = spawn_rate(bare_argv, "hi\n", THROUGHPUT_WORKERS, THROUGHPUT_SPAN_NS, &w->spawns[i],
                           &err);
        if (r == 0)
            r = load_run(&load, &w->load[i], &err);
        if (r < 0) {
            give_up(w->load_why, &err);
            return;
        }
        w->load_rounds++;
    }
}

static void remove_namespaces(struct world *w, const char *prefix, unsigned count, struct err *err)
{
    enum proto_outcome outcome;
    char ns_id[65];

    for (unsigned i = 0; i < count; i++) {
        (void)snprintf(ns_id, sizeof ns_id, "%s-%u", prefix, i);
        if (engine_remove(&w->engine, ns_id, &outcome, err) < 0)
            return;
    }
}

static void measure_activation(struct world *w)
{
    struct load load = {.port = w->o->http_port,
                        .connections = ACTIVATION_CONNECTIONS,
                        .total = ACTIVATIONS + w->o->spares,
                        .skip = w->o->spares};
    struct err err = {0};
    char prefix[32];

    remove_namespaces(w, "cold", w->cold_count, &err);
    for (unsigned i = 0; i < ACTIVATION_ROUNDS; i++) {
        (void)snprintf(prefix, sizeof prefix, "act-%u", i);
        load.fresh = prefix;
        if (engine_wait_stat(&w->engine, "spares", w->o->spares, UINT64_MAX, SETTLE_S, &err) < 0 ||
            load_run(&load, &w->activations[i], &err) < 0) {
            give_up(w->activation_why, &err);
            return;
        }
        w->activation_rounds++;
        remove_namespaces(w, prefix, load.total, &err);
    }
}

/* ---- reporting
 * ------------------------------------------------------------------------------------- */

static void print_contenders(const struct world *w)
{
    printf("\n%-28s %9s   %-19s %9s   %s\n", "contender", "p50 us", "noise (rounds)", "p99 us",
           "runs");
    for (size_t i = 0; i < WHO; i++) {
        const struct series *s = &w->series[i];
        if (w->given_up[i][0])
            printf("%-28s given up: %s\n", contenders[i].name, w->given_up[i]);
        else
            printf("%-28s %9.0f   %8.0f..%-9.0f %9.0f   %zu x %u\n", contenders[i].name,
                   median(s->p50, s->rounds), quantile(s->p50, s->rounds, 0),
                   quantile(s->p50, s->rounds, 1), median(s->p99, s->rounds), s->rounds,
                   contenders[i].batch);
    }
    if (w->load_rounds)
        printf("\n%u workers, bare posix_spawn:      %.0f runs/s\n%u connections, %u namespaces:   "
               "  %.0f runs/s\n",
               THROUGHPUT_WORKERS, median(w->spawns, w->load_rounds), THROUGHPUT_CONNECTIONS,
               THROUGHPUT_CONNECTIONS, median(w->load, w->load_rounds));
}

static struct figure ratio(const struct world *w, const char *name, enum who over, enum who under,
                           bool p99, double bar, double stretch)
{
    struct figure f = {.name = name, .bar = bar, .stretch = stretch};
    const struct series *a = &w->series[over], *b = &w->series[under];
    const char *why = w->given_up[over][0] ? w->given_up[over] : w->given_up[under];

    if (*why)
        (void)snprintf(f.skipped, sizeof f.skipped, "%s", why);
    else
        figure_ratio(&f, p99 ? a->p99 : a->p50, p99 ? b->p99 : b->p50, a->rounds);
    return f;
}

static struct figure rate(const char *name, const char *why, double bar, double stretch)
{
    struct figure f = {.name = name, .bar = bar, .stretch = stretch, .at_least = true};

    (void)snprintf(f.skipped, sizeof f.skipped, "%s", why);
    return f;
}

static int report(const struct world *w)
{
    struct figure idle = {.name = "idle_kib_per_namespace",
                          .bar = 450,
                          .stretch = 300,
                          .value = w->o->idle_kib,
                          .low = w->o->idle_low,
                          .high = w->o->idle_high};
    struct figure through = rate("throughput_ratio", w->load_why, 2.5, 3.5);
    struct figure activation = rate("activation_rate", w->activation_why, 300, 1000);
    bool whole = !w->load_why[0] && !w->activation_why[0] && w->o->idle_kib >= 0;

    if (w->load_rounds)
        figure_ratio(&through, w->load, w->spawns, w->load_rounds);
    if (w->activation_rounds)
        figure_spread(&activation, w->activations, w->activation_rounds);
    if (w->o->idle_kib < 0)
        (void)snprintf(idle.skipped, sizeof idle.skipped, "not measured, see above");
    const struct figure figures[] = {
        ratio(w, "warm_http_p50_ratio", HTTP_WARM, BARE, false, 0.45, 0.35),
        ratio(w, "warm_http_p99_ratio", HTTP_WARM, BARE, true, 1.0, 0),
        through,
        ratio(w, "session_p50_ratio", HTTP_SESSION, HTTP_WARM, false, 0.6, 0),
        ratio(w, "socket_p50_ratio", SOCKET_WARM, BARE, false, 0.38, 0.30),
        ratio(w, "cold_p50_ratio", HTTP_COLD, BARE, false, 0.9, 0.5),
        activation,
        idle,
        ratio(w, "files_http_p50_ratio", HTTP_FILES, BARE_FILES, false, 0.85, 0),
        ratio(w, "bwrap_ratio", HTTP_WARM, BWRAP, false, 0.12, 0),
        ratio(w, "crun_ratio", HTTP_WARM, CRUN, false, 0.08, 0),
    };
    print_contenders(w);
    figures_print(figures, ARRAY_LEN(figures));
    for (size_t i = 0; i < WHO; i++)
        whole = whole && !(contenders[i].required && w->given_up[i][0]);
    return whole ? 0 : 1;
}

static int read_hostname(struct world *w, struct err *err)
{
    auto_close int fd = open("/etc/hostname", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, w->hostname, sizeof w->hostname - 1);

    return n < 0 ? err_sys(err, "read /etc/hostname") : 0;
}

int figures_main(const struct options *o)
{
    auto_free struct world *w = calloc(1, sizeof *w);
    struct err err = {0};
    int status;

    if (!w)
        die(1, "no memory");
    w->o = o;
    if (read_hostname(w, &err) < 0 || http_open(&w->http, o->http_port, &err) < 0 ||
        engine_open(&w->engine, o->socket, &err) < 0)
        die(1, "%s", err.text);
    http_execute(&w->echo, "bench", "echo hi", "");
    http_execute(&w->session, "bench-session", "echo hi", ",\"session\":\"bench\"");
    http_execute(&w->files, "bench", list_files, "");
    measure_latency(w);
    measure_throughput(w);
    measure_activation(w);
    status = report(w);
    http_close(&w->http);
    engine_close(&w->engine);
    buf_fini(&w->echo);
    buf_fini(&w->session);
    buf_fini(&w->files);
    buf_fini(&w->cold);
    return status;
}
