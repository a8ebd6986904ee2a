/* SPDX-License-Identifier: Apache-2.0 */
/* bench - what the files of brood-bench share. A client program like any other: it speaks HTTP and
 * protocol/, starts no service (bench/run does) and knows nothing of the service's inside. */
#pragma once
#include "lib/arena.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "protocol/protocol.h"

/* ---- options (main.c) ------------------------------------------------------------------------ */

struct options {
    unsigned http_port;
    const char *socket;      /* of the engine */
    const char *crun_bundle; /* NULL: crun is not measured */
    const char *crun_why;    /* ... and why */
    unsigned rounds, spares, namespaces, seconds, workers;
    double idle_kib, idle_low, idle_high; /* result of `brood-bench memory`; < 0: not known */
    int service_pid;                      /* of the supervisor, for soak */
};

/* ---- series.c: samples, medians, the table of figures -----------------------------------------
 */

#define ROUNDS_MAX 64
#define BATCH_MAX 1024

struct batch { /* one contender's samples of one round */
    double us[BATCH_MAX];
    size_t len;
};

struct series { /* one number per round, and their p50s' summary */
    double p50[ROUNDS_MAX], p99[ROUNDS_MAX];
    size_t rounds;
};

struct figure {
    const char *name;
    double value, low, high; /* low..high over rounds: the noise */
    double bar, stretch;     /* stretch 0: none */
    bool at_least;           /* the bar is a minimum, otherwise a maximum */
    char skipped[160];       /* "" : measured */
};

double median(const double *values, size_t len);
/* The smallest sample that at least this share (0.99) of all samples do not exceed. */
double quantile(const double *values, size_t len, double share);
void batch_add(struct batch *b, double us);
void series_close_round(struct series *s, struct batch *b);
/* ret->value = median(over) / median(under); low and high from the ratios of single rounds. */
void figure_ratio(struct figure *ret, const double *over, const double *under, size_t rounds);
void figure_spread(struct figure *ret, const double *values, size_t rounds);
bool figure_is_met(const struct figure *f);
void figures_print(const struct figure *f, size_t count);

/* ---- spawn.c: a program started the plain way, its stdout captured ------------------------------
 */

/* posix_spawn of argv[0] (an absolute path), stdout through a pipe read to its end, waited for.
 * 0 and *ret_us when it printed `expect` and exited with 0. */
int spawn_once(char *const argv[], const char *expect, double *ret_us, struct err *err);
/* `workers` processes do spawn_once for the given time; *ret_rate in runs per second. */
int spawn_rate(char *const argv[], const char *expect, unsigned workers, uint64_t span_ns,
               double *ret_rate, struct err *err);

/* ---- http.c: one keep-alive connection ----------------------------------------------------------
 */

enum http_state {
    HTTP_HEAD,
    HTTP_LENGTH,
    HTTP_CHUNK_SIZE,
    HTTP_CHUNK,
    HTTP_CHUNK_END,
    HTTP_TRAILER,
    HTTP_DONE
};

struct http {
    int fd;
    unsigned port;
    struct buf in, body; /* received and not yet parsed; body is NUL-terminated behind its length */
    size_t at, left;
    int status;
    enum http_state state;
    bool closing; /* the server said Connection: close */
    uint64_t sent_ns, first_ns, done_ns;
};

int http_open(struct http *h, unsigned port, struct err *err);
void http_close(struct http *h);
/* Sends a request; its answer is to be taken before the next one. */
int http_send(struct http *h, const struct buf *request, struct err *err);
/* Reads what is there. 1: the answer is complete; 0: more to come; <0: failed. */
int http_take(struct http *h, bool wait, struct err *err);
/* Both, to the end; reconnects first when the server had closed. 0 or <0. */
int http_exchange(struct http *h, const struct buf *request, struct err *err);
/* A request in out (emptied first). body NULL: GET path, otherwise POST path as JSON. */
void http_request(struct buf *out, const char *path, const char *body);
/* The /execute request for a command that needs no JSON escaping but of its quotes. `more`: further
 * members with a leading comma, or "". */
void http_execute(struct buf *out, const char *ns_id, const char *cmd, const char *more);
/* Does the (flat, trusted) JSON text have this member with this raw value? */
bool json_has(const char *json, const char *key, const char *raw);
/* The number behind a key, or -1. */
double json_number(const char *json, const char *key);
/* 0 when the answer is 200, exit_code 0 and stdout (escaped) is as expected; else err tells. */
int http_check(const struct http *h, const char *stdout_raw, struct err *err);
/* Waits for GET /ready = 200 at most this long. */
int http_wait_ready(unsigned port, unsigned seconds, struct err *err);

/* ---- engine.c: the engine's socket
 * ---------------------------------------------------------------- */

struct engine {
    int fd, null_fd;
    char *storage;
    struct arena arena;
    uint64_t tag;
};

struct engine_run {
    char out[256];
    size_t out_len;
    struct proto_result facts; /* text pointers are not valid any more */
    uint64_t start_ns, sent_ns, first_ns, eof_ns, done_ns;
};

int engine_open(struct engine *e, const char *path, struct err *err);
void engine_close(struct engine *e);
int engine_execute(struct engine *e, const char *ns_id, const char *cmd, struct engine_run *ret,
                   struct err *err);
/* 0: found; 1: the service has no such entry; <0: failed. */
int engine_stat(struct engine *e, const char *name, uint64_t *ret, struct err *err);
/* Asks for the statistics; entries live until the next call. */
int engine_stats(struct engine *e, struct proto_msg *ret, struct err *err);
int engine_wait_stat(struct engine *e, const char *name, uint64_t at_least, uint64_t at_most,
                     unsigned seconds, struct err *err);
int engine_remove(struct engine *e, const char *ns_id, enum proto_outcome *ret, struct err *err);

/* ---- load.c: several connections at once
 * ------------------------------------------------------------ */

struct load {
    unsigned port, connections;
    uint64_t span_ns; /* stop sending after this time; 0: after `total` requests */
    unsigned total;
    unsigned skip;     /* answers before the clock starts */
    const char *fresh; /* not NULL: request n goes to namespace <fresh>-n, otherwise one each */
    const char *path;  /* not NULL: another request, with this body and this status in answer */
    const char *body;
    int status;
};
/* Keeps each connection busy, usually with `echo hi`; *ret_rate in answers per second. */
int load_run(const struct load *load, double *ret_rate, struct err *err);

/* ---- the modes
 * ------------------------------------------------------------------------------------- */

int figures_main(const struct options *o);
int memory_main(const struct options *o);
int budget_main(const struct options *o);
int soak_main(const struct options *o);
int languages_main(const struct options *o);
int jobs_main(const struct options *o);
int streams_main(const struct options *o);
