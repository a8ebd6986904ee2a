/* SPDX-License-Identifier: Apache-2.0 */
/* protocol/hello - Hello on the wire, both ways: what a client has to know of the service.
 *
 * The engine sends it first on each connection, and to the frontend the settings that it needs with
 * it. A part that it leaves out comes out empty.
 */
#include "lib/arena.h"
#include "lib/err.h"
#include "protocol/wire.h"

static void fill_run_limits(const struct proto_run_limits *from, Brood__Wire__RunLimits *to,
                            Brood__Wire__Limit limits[6])
{
    const struct proto_limit *const all[] = {&from->timeout_ms,     &from->memory_bytes,
                                             &from->cpu_ms,         &from->output_bytes,
                                             &from->artifact_bytes, &from->artifact_files};
    brood__wire__run_limits__init(to);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        brood__wire__limit__init(&limits[i]);
        limits[i].fallback = all[i]->fallback;
        limits[i].max = all[i]->max;
    }
    to->code_bytes_max = from->code_bytes_max;
    to->timeout_ms = &limits[0];
    to->memory_bytes = &limits[1];
    to->cpu_ms = &limits[2];
    to->output_bytes = &limits[3];
    to->artifact_bytes = &limits[4];
    to->artifact_files = &limits[5];
}

static void fill_store(const struct proto_store *from, Brood__Wire__StoreSettings *to)
{
    brood__wire__store_settings__init(to);
    to->age_s = from->age_s;
    to->runs_max = from->runs_max;
    to->bytes_max = from->bytes_max;
    to->key_bytes_max = from->key_bytes_max;
    to->key_files_max = from->key_files_max;
    to->file_bytes_max = from->file_bytes_max;
    to->url_lifetime_s = from->url_lifetime_s;
    to->once_age_s = from->once_age_s;
    to->once_max = from->once_max;
    to->once_bytes_max = from->once_bytes_max;
    to->public_base_url = WIRE_TEXT(from->public_base_url);
}

static void fill_companions(const struct proto_companion_limits *from,
                            Brood__Wire__CompanionLimits *to)
{
    brood__wire__companion_limits__init(to);
    to->per_namespace = from->per_namespace;
    to->max = from->max;
    to->idle_s = from->idle_s;
    to->max_life_s = from->max_life_s;
}

static void fill_webhooks(const struct proto_webhooks *from, Brood__Wire__WebhookSettings *to)
{
    brood__wire__webhook_settings__init(to);
    to->allow = WIRE_TEXT(from->allow);
    to->timeout_ms = from->timeout_ms;
    to->attempts = from->attempts;
    to->delay_first_ms = from->delay_first_ms;
    to->delay_max_ms = from->delay_max_ms;
    to->at_once = from->at_once;
    to->at_once_host = from->at_once_host;
}

static void fill_jobs(const struct proto_jobs *from, Brood__Wire__JobSettings *to)
{
    brood__wire__job_settings__init(to);
    to->concurrency = from->concurrency;
    to->queue_max = from->queue_max;
    to->key_queue_max = from->key_queue_max;
    to->queue_bytes_max = from->queue_bytes_max;
    to->attempts_max = from->attempts_max;
}

/* What the message points to while it is packed. */
struct parts {
    Brood__Wire__Layer layers[PROTO_LAYERS_MAX], *layer_list[PROTO_LAYERS_MAX];
    Brood__Wire__Language languages[PROTO_LANGUAGES_MAX], *language_list[PROTO_LANGUAGES_MAX];
    char *aliases[PROTO_LANGUAGES_MAX][PROTO_ALIASES_MAX];
    Brood__Wire__RunLimits run_limits;
    Brood__Wire__Limit limits[6];
    Brood__Wire__StoreSettings store;
    Brood__Wire__CompanionLimits sessions, terminals;
    Brood__Wire__JobSettings jobs;
    Brood__Wire__WebhookSettings webhooks;
};

static void add_layers(const struct proto_hello *h, struct parts *p, Brood__Wire__Hello *m)
{
    for (size_t i = 0; i < h->layer_count; i++) {
        brood__wire__layer__init(&p->layers[i]);
        p->layers[i].name = WIRE_TEXT(h->layers[i].name);
        p->layers[i].state = h->layers[i].state;
        p->layers[i].required = h->layers[i].required;
        p->layers[i].question = WIRE_TEXT(h->layers[i].question);
        p->layers[i].detail = WIRE_TEXT(h->layers[i].detail);
        p->layer_list[i] = &p->layers[i];
    }
    m->n_layers = h->layer_count;
    m->layers = p->layer_list;
}

static void add_languages(const struct proto_hello *h, struct parts *p, Brood__Wire__Hello *m)
{
    for (size_t i = 0; i < h->language_count; i++) {
        const struct proto_language *l = &h->languages[i];
        Brood__Wire__Language *to = &p->languages[i];
        brood__wire__language__init(to);
        to->name = WIRE_TEXT(l->name);
        to->n_aliases = l->alias_count < PROTO_ALIASES_MAX ? l->alias_count : PROTO_ALIASES_MAX;
        for (size_t k = 0; k < to->n_aliases; k++)
            p->aliases[i][k] = WIRE_TEXT(l->aliases[k]);
        to->aliases = p->aliases[i];
        to->version = WIRE_TEXT(l->version);
        to->available = l->available;
        to->compiles = l->compiles;
        p->language_list[i] = to;
    }
    m->n_languages = h->language_count;
    m->languages = p->language_list;
}

/* What only some are told: a part that says nothing is left out. */
static void add_settings(const struct proto_hello *h, struct parts *p, Brood__Wire__Hello *m)
{
    fill_run_limits(&h->run_limits, &p->run_limits, p->limits);
    if (h->run_limits.code_bytes_max)
        m->run_limits = &p->run_limits;
    fill_store(&h->store, &p->store);
    if (h->store.public_base_url) /* the engine always has one, perhaps "" */
        m->store = &p->store;
    fill_companions(&h->sessions, &p->sessions);
    if (h->sessions.max)
        m->sessions = &p->sessions;
    fill_companions(&h->terminals, &p->terminals);
    if (h->terminals.max)
        m->terminals = &p->terminals;
    fill_jobs(&h->jobs, &p->jobs);
    if (h->jobs.concurrency | h->jobs.queue_max | h->jobs.key_queue_max | h->jobs.queue_bytes_max |
        h->jobs.attempts_max)
        m->jobs = &p->jobs;
    fill_webhooks(&h->webhooks, &p->webhooks);
    if (h->webhooks.allow && *h->webhooks.allow)
        m->webhooks = &p->webhooks;
}

ssize_t wire_encode_hello(const struct proto_msg *msg, size_t head, char *scratch, size_t room,
                          char **ret, struct err *err)
{
    const struct proto_hello *h = &msg->hello;
    struct parts parts;
    Brood__Wire__Hello m;
    if (h->layer_count > PROTO_LAYERS_MAX)
        return err_set(err, "%zu layers, allowed are %u", h->layer_count, PROTO_LAYERS_MAX);
    if (h->language_count > PROTO_LANGUAGES_MAX)
        return err_set(err, "%zu languages, allowed are %u", h->language_count,
                       PROTO_LANGUAGES_MAX);
    brood__wire__hello__init(&m);
    add_layers(h, &parts, &m);
    add_languages(h, &parts, &m);
    add_settings(h, &parts, &m);
    m.terminal_silence_s = h->terminal_silence_s;
    m.terminal_origins = WIRE_TEXT(h->terminal_origins);
    m.version = h->version;
    m.server = WIRE_TEXT(h->server);
    m.cmd_bytes_max = h->cmd_bytes_max;
    m.env_bytes_max = h->env_bytes_max;
    m.timeout_ms_default = h->timeout_ms_default;
    m.timeout_ms_max = h->timeout_ms_max;
    m.output_bytes_max = h->output_bytes_max;
    m.body_bytes_max = h->body_bytes_max;
    m.upload_bytes_max = h->upload_bytes_max;
    m.uploads_held_max = h->uploads_held_max;
    m.connections_max = h->connections_max;
    m.request_timeout_ms = h->request_timeout_ms;
    m.idle_timeout_ms = h->idle_timeout_ms;
    m.write_timeout_ms = h->write_timeout_ms;
    m.keys_generation = h->keys_generation;
    m.stream_ring_bytes = h->streams.ring_bytes;
    m.stream_rings_bytes_max = h->streams.rings_bytes_max;
    m.stream_heartbeat_ms = h->streams.heartbeat_ms;
    m.stream_linger_ms = h->streams.linger_ms;
    m.log_format = h->log_format;
    m.log_level = h->log_level;
    m.draining = h->draining;
    m.queue_max = h->queue_max;
    m.max_wait_ms = h->max_wait_ms;
    m.zygote_execs = h->zygote_execs;
    m.kernel = WIRE_TEXT(h->kernel);
    m.landlock_abi = h->landlock_abi;
    m.cgroup_version = h->cgroup_version;
    m.networks = h->networks;
    return wire_pack(&m.base, head, scratch, room, ret, err);
}

static int take_languages(const Brood__Wire__Hello *m, struct arena *arena, struct proto_hello *h,
                          struct err *err)
{
    if (m->n_languages > PROTO_LANGUAGES_MAX)
        return wire_bad(err, "hello: %zu languages, allowed are %u", m->n_languages,
                        PROTO_LANGUAGES_MAX);
    struct proto_language *list = arena_alloc(arena, (m->n_languages + 1) * sizeof *list);
    for (size_t i = 0; list && i < m->n_languages; i++) {
        const Brood__Wire__Language *l = m->languages[i];
        if (l->n_aliases > PROTO_ALIASES_MAX)
            return wire_bad(err, "hello: too many aliases of a language");
        list[i] = (struct proto_language){.name = l->name,
                                          .alias_count = l->n_aliases,
                                          .version = l->version,
                                          .available = l->available,
                                          .compiles = l->compiles};
        for (size_t k = 0; k < l->n_aliases; k++)
            list[i].aliases[k] = l->aliases[k];
    }
    h->languages = list;
    h->language_count = m->n_languages;
    return 0;
}

static struct proto_limit take_limit(const Brood__Wire__Limit *l)
{
    return l ? (struct proto_limit){l->fallback, l->max} : (struct proto_limit){0};
}

static void take_run_limits(const Brood__Wire__RunLimits *l, struct proto_run_limits *ret)
{
    if (l)
        *ret = (struct proto_run_limits){.code_bytes_max = l->code_bytes_max,
                                         .timeout_ms = take_limit(l->timeout_ms),
                                         .memory_bytes = take_limit(l->memory_bytes),
                                         .cpu_ms = take_limit(l->cpu_ms),
                                         .output_bytes = take_limit(l->output_bytes),
                                         .artifact_bytes = take_limit(l->artifact_bytes),
                                         .artifact_files = take_limit(l->artifact_files)};
}

/* "" for a URL that is not there, as for all text. */
static void take_store(const Brood__Wire__StoreSettings *s, struct proto_store *ret)
{
    *ret = (struct proto_store){.public_base_url = ""};
    if (s)
        *ret = (struct proto_store){.age_s = s->age_s,
                                    .runs_max = s->runs_max,
                                    .bytes_max = s->bytes_max,
                                    .key_bytes_max = s->key_bytes_max,
                                    .key_files_max = s->key_files_max,
                                    .file_bytes_max = s->file_bytes_max,
                                    .url_lifetime_s = s->url_lifetime_s,
                                    .once_age_s = s->once_age_s,
                                    .once_max = s->once_max,
                                    .once_bytes_max = s->once_bytes_max,
                                    .public_base_url = s->public_base_url};
}

static void take_companions(const Brood__Wire__CompanionLimits *l,
                            struct proto_companion_limits *ret)
{
    if (l)
        *ret = (struct proto_companion_limits){.per_namespace = l->per_namespace,
                                               .max = l->max,
                                               .idle_s = l->idle_s,
                                               .max_life_s = l->max_life_s};
}

static void take_webhooks(const Brood__Wire__WebhookSettings *w, struct proto_webhooks *ret)
{
    *ret = (struct proto_webhooks){.allow = ""};
    if (w)
        *ret = (struct proto_webhooks){.allow = w->allow,
                                       .timeout_ms = w->timeout_ms,
                                       .attempts = w->attempts,
                                       .delay_first_ms = w->delay_first_ms,
                                       .delay_max_ms = w->delay_max_ms,
                                       .at_once = w->at_once,
                                       .at_once_host = w->at_once_host};
}

static int take_layers(const Brood__Wire__Hello *m, struct arena *arena, struct proto_hello *h,
                       struct err *err)
{
    if (m->n_layers > PROTO_LAYERS_MAX)
        return wire_bad(err, "hello: %zu layers, allowed are %u", m->n_layers, PROTO_LAYERS_MAX);
    struct proto_layer *layers = arena_alloc(arena, (m->n_layers + 1) * sizeof *layers);
    for (size_t i = 0; layers && i < m->n_layers; i++) {
        const Brood__Wire__Layer *l = m->layers[i];
        if (l->state >= PROTO_LAYER_STATES)
            return wire_bad(err, "hello: unknown state of a layer");
        layers[i] = (struct proto_layer){.name = l->name,
                                         .state = (enum proto_layer_state)l->state,
                                         .required = l->required,
                                         .question = l->question,
                                         .detail = l->detail};
    }
    h->layers = layers;
    h->layer_count = m->n_layers;
    return 0;
}

int wire_take_hello(const Brood__Wire__Hello *m, struct arena *arena, struct proto_msg *ret,
                    struct err *err)
{
    ret->hello = (struct proto_hello){
        .version = m->version,
        .server = m->server,
        .cmd_bytes_max = m->cmd_bytes_max,
        .env_bytes_max = m->env_bytes_max,
        .timeout_ms_default = m->timeout_ms_default,
        .timeout_ms_max = m->timeout_ms_max,
        .output_bytes_max = m->output_bytes_max,
        .body_bytes_max = m->body_bytes_max,
        .upload_bytes_max = m->upload_bytes_max,
        .uploads_held_max = m->uploads_held_max,
        .connections_max = m->connections_max,
        .request_timeout_ms = m->request_timeout_ms,
        .idle_timeout_ms = m->idle_timeout_ms,
        .write_timeout_ms = m->write_timeout_ms,
        .keys_generation = m->keys_generation,
        .streams = {.ring_bytes = m->stream_ring_bytes,
                    .rings_bytes_max = m->stream_rings_bytes_max,
                    .heartbeat_ms = m->stream_heartbeat_ms,
                    .linger_ms = m->stream_linger_ms},
        .log_format = m->log_format,
        .log_level = m->log_level,
        .draining = m->draining,
        .queue_max = m->queue_max,
        .max_wait_ms = m->max_wait_ms,
        .zygote_execs = m->zygote_execs,
        .kernel = m->kernel,
        .landlock_abi = m->landlock_abi,
        .cgroup_version = m->cgroup_version,
        .networks = m->networks,
    };
    take_run_limits(m->run_limits, &ret->hello.run_limits);
    take_store(m->store, &ret->hello.store);
    take_companions(m->sessions, &ret->hello.sessions);
    take_companions(m->terminals, &ret->hello.terminals);
    if (m->jobs)
        ret->hello.jobs = (struct proto_jobs){.concurrency = m->jobs->concurrency,
                                              .queue_max = m->jobs->queue_max,
                                              .key_queue_max = m->jobs->key_queue_max,
                                              .queue_bytes_max = m->jobs->queue_bytes_max,
                                              .attempts_max = m->jobs->attempts_max};
    ret->hello.terminal_silence_s = m->terminal_silence_s;
    ret->hello.terminal_origins = m->terminal_origins;
    take_webhooks(m->webhooks, &ret->hello.webhooks);
    int r = take_layers(m, arena, &ret->hello, err);
    return r == 0 ? take_languages(m, arena, &ret->hello, err) : r;
}
