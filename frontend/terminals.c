/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/terminals - WebSocket /v1/namespaces/{id}/terminal, and GET and DELETE of terminals.
 *
 * In the frontend, per thread. Which thread has a terminal is a matter of its name alone (a hash):
 * whoever accepts a WebSocket hands it, once it is one, to that thread's inbox. So a client comes
 * back to its terminal whichever thread it meets, and no terminal is ever touched by two.
 *
 * Pages of other origins may open none but those of terminals.origins, with keys as without
 * (frontend/origin.c).
 */
#include "frontend/answer.h"
#include "frontend/ns.h"
#include "frontend/run.h"
#include "frontend/terminal.h"
#include "frontend/uri.h"
#include "keys/keys.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/fd.h"
#include <fcntl.h>
#include <sys/eventfd.h>

#define HOMES_MAX 64u
#define DEFAULT_NAME "main"
#define DEFAULT_TERM "xterm-256color"
#define END_MS 30000u /* a DELETE that has not come to its end says so */

/* What other threads hand to one. */
struct inbox {
    pthread_mutex_t lock;
    struct terminal_ask *first, **last;
    int event_fd;
};

/* A DELETE that waits for its terminal's end. */
struct farewell {
    struct request_owner owner;
    struct farewell *next;
    struct http_request *req;
    uint64_t id, due_ns;
};

static struct home {
    struct front *front;
    struct inbox inbox;
} homes[HOMES_MAX];
static size_t home_count; /* written before there are threads */
static __thread struct farewell *farewells;

/* ---- to the thread whose it is ------------------------------------------------------------- */

static struct home *find_home(const struct terminal_ask *ask)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (const char *p = ask->ns_id; *p; p++)
        hash = (hash ^ (uint8_t)*p) * 16777619u;
    hash = (hash ^ '/') * 16777619u;
    for (const char *p = ask->name; *p; p++)
        hash = (hash ^ (uint8_t)*p) * 16777619u;
    return &homes[hash % home_count];
}

static void post(struct inbox *in, struct terminal_ask *ask)
{
    const uint64_t one = 1;
    ask->next = NULL;
    (void)pthread_mutex_lock(&in->lock);
    *in->last = ask;
    in->last = &ask->next;
    (void)pthread_mutex_unlock(&in->lock);
    (void)!write(in->event_fd, &one, sizeof one);
}

/* Not before the first Hello: another thread may have had its own already. */
static void empty_inbox(struct home *home)
{
    if (!home->front->greeted)
        return;
    (void)pthread_mutex_lock(&home->inbox.lock);
    struct terminal_ask *ask = ptr_take(&home->inbox.first);
    home->inbox.last = &home->inbox.first;
    (void)pthread_mutex_unlock(&home->inbox.lock);
    for (struct terminal_ask *next; ask; ask = next) {
        next = ask->next;
        terminal_attach(home->front, ask);
    }
}

static void on_inbox(void *data)
{
    struct home *home = data;
    uint64_t count;
    (void)!read(home->inbox.event_fd, &count, sizeof count);
    empty_inbox(home);
}

int terminals_init(struct front *f, struct err *err)
{
    struct home *home = &homes[home_count];
    if (home_count == HOMES_MAX)
        return err_set(err, "more than %u threads", HOMES_MAX);
    home->front = f;
    home->inbox.last = &home->inbox.first;
    (void)pthread_mutex_init(&home->inbox.lock, NULL);
    home->inbox.event_fd = SYS(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (home->inbox.event_fd < 0)
        return err_sys(err, "make an eventfd");
    if (!http_watch_new(f->server, home->inbox.event_fd, on_inbox, home))
        return err_set(err, "out of memory");
    home_count++;
    return 0;
}

/* ---- opening ------------------------------------------------------------------------------- */

static void on_open(void *data, struct http_ws *ws)
{
    struct terminal_ask *ask = data;
    struct home *home = find_home(ask);
    ask->ws = ws;
    if (!ws)
        terminal_ask_free(ask);
    else if (home->front == ask->front)
        terminal_attach(ask->front, ask);
    else
        post(&home->inbox, ask);
}

static bool is_term(const char *text)
{
    return *text && text[strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                      "0123456789._+-")] == 0;
}

/* NULL, or what is wrong with the query. */
static const char *read_query(struct http_text query, struct terminal_ask *ask)
{
    uint64_t cols = 80, rows = 24, cols_given = 0;
    (void)snprintf(ask->name, sizeof ask->name, DEFAULT_NAME);
    (void)snprintf(ask->term, sizeof ask->term, DEFAULT_TERM);
    if (uri_find(query, "name", ask->name, sizeof ask->name) == -1 ||
        !proto_session_is_valid(ask->name, strlen(ask->name)))
        return "name: 1-64 characters of [A-Za-z0-9._-] are expected";
    if (uri_find(query, "term", ask->term, sizeof ask->term) == -1 || !is_term(ask->term))
        return "term: 1-64 characters of [A-Za-z0-9._+-] are expected";
    if (uri_find_u64(query, "cols", 1, PROTO_TERMINAL_SIZE_MAX, &cols) < 0 ||
        uri_find_u64(query, "rows", 1, PROTO_TERMINAL_SIZE_MAX, &rows) < 0)
        return "cols, rows: numbers from 1 to 1000 are expected";
    (void)uri_find_u64(query, "cols", 1, PROTO_TERMINAL_SIZE_MAX, &cols_given);
    ask->cols = (uint16_t)cols;
    ask->rows = (uint16_t)rows;
    ask->sized = cols_given > 0;
    return NULL;
}

static void note_caller(struct http_request *req, struct terminal_ask *ask)
{
    struct run_caller caller;
    auth_caller(req, &caller);
    ask->whose = key_ref(routes_key(req));
    (void)snprintf(ask->request_id, sizeof ask->request_id, "%s", http_request_id(req));
    (void)snprintf(ask->key, sizeof ask->key, "%s", caller.key);
    (void)snprintf(ask->policy, sizeof ask->policy, "%s", caller.policy);
    ask->timeout_ms_ceiling = caller.timeout_ms_ceiling;
    ask->memory_bytes_ceiling = caller.memory_bytes_ceiling;
    ask->cpu_ms_ceiling = caller.cpu_ms_ceiling;
}

void terminals_on_open(struct front *f, struct http_request *req, const struct http_text *params)
{
    char ns_id[PROTO_NS_ID_MAX + 1];
    if (ns_take_id(req, params[0], ns_id) < 0 || !ns_may_begin(f, req))
        return;
    if (!origin_may(f, req, f->terminals.origins)) {
        answer_error(req, &(struct answer_error){403, "forbidden", 0, NULL},
                     "pages of that origin may not open terminals (terminals.origins)");
        return;
    }
    struct terminal_ask *ask = calloc(1, sizeof *ask);
    const char *fault = ask ? read_query(http_query(req), ask) : NULL;
    if (!ask)
        ns_answer_unsent(req, -EAGAIN);
    else if (fault)
        answer_error(req, &(struct answer_error){400, "bad_request", 0, NULL}, "%s", fault);
    if (!ask || fault) {
        free(ask);
        return;
    }
    ask->front = f;
    memcpy(ask->ns_id, ns_id, sizeof ask->ns_id);
    note_caller(req, ask);
    if (!http_ws_accept(req, auth_protocol(req), on_open, ask))
        terminal_ask_free(ask);
}

/* ---- list and delete ----------------------------------------------------------------------- */

void terminals_on_list(struct front *f, struct http_request *req, const struct http_text *params)
{
    char id[PROTO_NS_ID_MAX + 1];
    if (ns_take_id(req, params[0], id) < 0 || !ns_may_begin(f, req))
        return;
    auto_free char *entries = NULL, *text = NULL;
    size_t len = terminal_list_show(id, &entries);
    int n = asprintf(&text, "{\"terminals\":[%.*s]}\n", (int)len, entries ? entries : "");
    if (n < 0)
        text = NULL;
    if (text)
        http_respond(req, 200, NULL, text, (size_t)n);
    else
        ns_answer_unsent(req, -EAGAIN);
}

static void on_farewell_gone(struct front *f, struct request_owner *owner)
{
    (void)f; /* on_end follows */
    (void)owner;
}

static void on_farewell_end(struct front *f, struct http_request *req, struct request_owner *owner)
{
    struct farewell *w = CONTAINER_OF(owner, struct farewell, owner);
    struct farewell **at = &farewells;
    (void)f;
    (void)req;
    while (*at && *at != w)
        at = &(*at)->next;
    if (*at)
        *at = w->next;
    free(w);
}

void terminals_on_delete(struct front *f, struct http_request *req, const struct http_text *params)
{
    char id[PROTO_NS_ID_MAX + 1], name[PROTO_SESSION_MAX + 1] = "";
    if (ns_take_id(req, params[0], id) < 0 || !ns_may_begin(f, req))
        return;
    if (proto_session_is_valid(params[1].at, params[1].len))
        memcpy(name, params[1].at, params[1].len);
    struct farewell *w = calloc(1, sizeof *w);
    uint64_t terminal = w && *name ? terminal_list_ask_end(id, name) : 0;
    if (!w) {
        ns_answer_unsent(req, -EAGAIN);
        return;
    }
    if (!terminal) {
        free(w);
        answer_error(req, &(struct answer_error){404, "not_found", 0, NULL},
                     "there is no terminal of that name");
        return;
    }
    *w = (struct farewell){.owner = {.on_gone = on_farewell_gone, .on_end = on_farewell_end},
                           .next = farewells,
                           .req = req,
                           .id = terminal,
                           .due_ns = clock_now_ns() + END_MS * CLOCK_NS_PER_MS};
    farewells = w;
    *http_data(req) = &w->owner;
    terminal_list_on_tick(f); /* perhaps it is ours */
}

static void answer_farewells(void)
{
    static const char ended[] = "{\"ended\":true}\n";
    for (struct farewell *w = farewells, *next; w; w = next) {
        bool gone = !terminal_list_has(w->id);
        next = w->next;
        if (gone)
            http_respond(w->req, 200, NULL, ended, sizeof ended - 1);
        else if (clock_now_ns() > w->due_ns)
            answer_error(w->req, &(struct answer_error){503, "busy", 1000, NULL},
                         "the terminal has not ended yet");
    }
}

/* ---- the rest ------------------------------------------------------------------------------ */

void terminals_on_hello(struct front *f, const struct proto_hello *h)
{
    f->terminals.idle_ms = h->terminals.idle_s * 1000;
    f->terminals.life_ms = h->terminals.max_life_s * 1000;
    f->terminals.silence_ms = h->terminal_silence_s * 1000;
    (void)snprintf(f->terminals.origins, sizeof f->terminals.origins, "%s", h->terminal_origins);
    for (size_t i = 0; i < home_count; i++)
        if (homes[i].front == f)
            empty_inbox(&homes[i]);
    if (h->draining)
        terminal_list_end_all(f, 1001, "the service is stopping");
}

void terminals_on_tick(struct front *f)
{
    terminal_list_on_tick(f);
    if (farewells)
        answer_farewells();
}
