/* SPDX-License-Identifier: Apache-2.0 */
/* protocol/encode - plain structs to protobuf bytes. Runs in every process that speaks the
 * protocol; its input is our own, so a value that does not fit is a bug of the caller and an error,
 * not a truncation. The generated structs live on the stack and point into the caller's memory;
 * nothing is copied before the one packing.
 */
#include "lib/err.h"
#include "protocol/brood.pb-c.h"
#include "protocol/internal.h"

#define TEXT(s) ((char *)(uintptr_t)((s) ? (s) : ""))

static ssize_t pack(const ProtobufCMessage *m, size_t head, char *scratch, size_t room, char **ret,
                    struct err *err)
{
    size_t len = protobuf_c_message_get_packed_size(m);
    if (len > PROTO_MESSAGE_BYTES_MAX)
        return err_set(err, "message of %zu bytes, allowed are %u", len, PROTO_MESSAGE_BYTES_MAX);
    *ret = head + len <= room ? scratch : malloc(head + len);
    if (!*ret) {
        errno = ENOMEM;
        return err_sys(err, "encode a message");
    }
    return (ssize_t)protobuf_c_message_pack(m, (uint8_t *)*ret + head);
}

static ProtobufCBinaryData bytes_of(const char *text, size_t len)
{
    return (ProtobufCBinaryData){.len = len, .data = (uint8_t *)(uintptr_t)text};
}

static ssize_t bytes_list(const char *what, const char *const *texts, size_t n, size_t max,
                          ProtobufCBinaryData *ret, struct err *err)
{
    if (n > max)
        return err_set(err, "%s: %zu, allowed are %zu", what, n, max);
    for (size_t i = 0; i < n; i++)
        ret[i] = bytes_of(texts[i], strlen(texts[i]));
    return 0;
}

static ssize_t encode_execute(const struct proto_msg *msg, size_t head, char *scratch, size_t room,
                              char **ret, struct err *err)
{
    const struct proto_execute *x = &msg->execute;
    Brood__Wire__EnvVar vars[PROTO_ENV_COUNT_MAX], *list[PROTO_ENV_COUNT_MAX];
    ProtobufCBinaryData args[PROTO_ARGS_MAX], places[PROTO_PLACES_MAX];
    Brood__Wire__FilesAsk ask;
    Brood__Wire__Execute m;
    brood__wire__execute__init(&m);
    if (bytes_list("args", x->args, x->arg_count, PROTO_ARGS_MAX, args, err) < 0 ||
        bytes_list("places", x->places, x->place_count, PROTO_PLACES_MAX, places, err) < 0)
        return err->code;
    if (x->env_count > PROTO_ENV_COUNT_MAX)
        return err_set(err, "env has %zu variables, allowed are %u", x->env_count,
                       PROTO_ENV_COUNT_MAX);
    for (size_t i = 0; i < x->env_count; i++) {
        brood__wire__env_var__init(&vars[i]);
        vars[i].name = TEXT(x->env[i].name);
        vars[i].value = bytes_of(x->env[i].value, strlen(x->env[i].value));
        list[i] = &vars[i];
    }
    m.tag = msg->tag;
    m.namespace_id = TEXT(x->ns_id);
    m.cmd = bytes_of(x->cmd, x->cmd_len);
    m.n_env = x->env_count;
    m.env = list;
    m.cwd = bytes_of(TEXT(x->cwd), strlen(TEXT(x->cwd)));
    m.timeout_ms = x->timeout_ms;
    m.cpu_ms = x->cpu_ms;
    m.request_id = TEXT(x->request_id);
    m.policy = TEXT(x->policy);
    m.memory_bytes = x->memory_bytes;
    m.pids_max = x->pids_max;
    m.key = TEXT(x->key);
    m.timeout_ms_ceiling = x->timeout_ms_ceiling;
    m.memory_bytes_ceiling = x->memory_bytes_ceiling;
    m.cpu_ms_ceiling = x->cpu_ms_ceiling;
    m.usual = x->usual;
    m.session = TEXT(x->session);
    m.companion = x->companion;
    m.patient = x->patient;
    m.held = x->held;
    m.tell_start = x->tell_start;
    m.kind = x->kind;
    m.language = TEXT(x->language);
    m.n_args = x->arg_count;
    m.args = args;
    m.n_places = x->place_count;
    m.places = places;
    m.work = x->work;
    m.artifact_bytes_max = x->artifact_bytes_max;
    m.artifact_files_max = x->artifact_files_max;
    if (x->files) {
        brood__wire__files_ask__init(&ask);
        ask.op = x->files->op;
        ask.flags = x->files->flags;
        ask.count_max = x->files->count_max;
        ask.bytes_max = x->files->bytes_max;
        ask.path = bytes_of(x->files->path, strlen(x->files->path));
        ask.after = bytes_of(x->files->after, strlen(x->files->after));
        m.files = &ask;
    }
    return pack(&m.base, head, scratch, room, ret, err);
}

static ssize_t encode_result(const struct proto_msg *msg, size_t head, char *scratch, size_t room,
                             char **ret, struct err *err)
{
    const struct proto_result *r = &msg->result;
    Brood__Wire__Denied denied[PROTO_DENIED_MAX], *list[PROTO_DENIED_MAX];
    Brood__Wire__Result m;
    brood__wire__result__init(&m);
    if (r->denied_count > PROTO_DENIED_MAX)
        return err_set(err, "denied has %zu entries, allowed are %u", r->denied_count,
                       PROTO_DENIED_MAX);
    for (size_t i = 0; i < r->denied_count; i++) {
        brood__wire__denied__init(&denied[i]);
        denied[i].syscall = TEXT(r->denied[i].syscall);
        denied[i].times = r->denied[i].times;
        list[i] = &denied[i];
    }
    Brood__Wire__Stage stages[PROTO_STAGES_MAX], *stage_list[PROTO_STAGES_MAX];
    if (r->stage_count > PROTO_STAGES_MAX)
        return err_set(err, "%zu stages, allowed are %u", r->stage_count, PROTO_STAGES_MAX);
    for (size_t i = 0; i < r->stage_count; i++) {
        const struct proto_stage *s = &r->stages[i];
        brood__wire__stage__init(&stages[i]);
        stages[i].name = TEXT(s->name);
        stages[i].reason = s->reason;
        stages[i].exited = s->exited;
        stages[i].exit_code = s->exit_code;
        stages[i].signal = s->signal;
        stages[i].wall_us = s->wall_us;
        stages[i].cpu_us = s->cpu_us;
        stages[i].max_rss_kb = s->max_rss_kb;
        stage_list[i] = &stages[i];
    }
    m.n_stages = r->stage_count;
    m.stages = stage_list;
    m.collecting = r->collecting;
    m.timeout_ms = r->timeout_ms;
    m.memory_bytes = r->memory_bytes;
    m.cpu_ms = r->cpu_ms;
    m.n_denied = r->denied_count;
    m.denied = list;
    m.tag = msg->tag;
    m.outcome = r->outcome;
    m.field = TEXT(r->field);
    m.text = TEXT(r->text);
    m.retry_after_ms = r->retry_after_ms;
    m.run_id = r->run_id;
    m.reason = r->reason;
    m.exited = r->exited;
    m.exit_code = r->exit_code;
    m.signal = r->signal;
    m.queue_us = r->queue_us;
    m.wall_us = r->wall_us;
    m.cpu_us = r->cpu_us;
    m.max_rss_kb = r->max_rss_kb;
    m.start = r->start;
    m.output_bytes_max = r->output_bytes_max;
    m.net_rx_bytes = r->net_rx_bytes;
    m.net_tx_bytes = r->net_tx_bytes;
    m.companion_ended = r->companion_ended;
    m.companion_new = r->companion_new;
    m.companion_interrupted = r->companion_interrupted;
    return pack(&m.base, head, scratch, room, ret, err);
}

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
    to->public_base_url = TEXT(from->public_base_url);
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
    to->allow = TEXT(from->allow);
    to->timeout_ms = from->timeout_ms;
    to->attempts = from->attempts;
    to->delay_first_ms = from->delay_first_ms;
    to->delay_max_ms = from->delay_max_ms;
    to->at_once = from->at_once;
    to->at_once_host = from->at_once_host;
}

static ssize_t encode_hello(const struct proto_msg *msg, size_t head, char *scratch, size_t room,
                            char **ret, struct err *err)
{
    const struct proto_hello *h = &msg->hello;
    Brood__Wire__Layer layers[PROTO_LAYERS_MAX], *list[PROTO_LAYERS_MAX];
    Brood__Wire__Hello m;
    brood__wire__hello__init(&m);
    if (h->layer_count > PROTO_LAYERS_MAX)
        return err_set(err, "%zu layers, allowed are %u", h->layer_count, PROTO_LAYERS_MAX);
    for (size_t i = 0; i < h->layer_count; i++) {
        brood__wire__layer__init(&layers[i]);
        layers[i].name = TEXT(h->layers[i].name);
        layers[i].state = h->layers[i].state;
        layers[i].required = h->layers[i].required;
        layers[i].question = TEXT(h->layers[i].question);
        layers[i].detail = TEXT(h->layers[i].detail);
        list[i] = &layers[i];
    }
    Brood__Wire__Language languages[PROTO_LANGUAGES_MAX], *language_list[PROTO_LANGUAGES_MAX];
    char *aliases[PROTO_LANGUAGES_MAX][PROTO_ALIASES_MAX];
    if (h->language_count > PROTO_LANGUAGES_MAX)
        return err_set(err, "%zu languages, allowed are %u", h->language_count,
                       PROTO_LANGUAGES_MAX);
    for (size_t i = 0; i < h->language_count; i++) {
        const struct proto_language *l = &h->languages[i];
        brood__wire__language__init(&languages[i]);
        languages[i].name = TEXT(l->name);
        languages[i].n_aliases =
            l->alias_count < PROTO_ALIASES_MAX ? l->alias_count : PROTO_ALIASES_MAX;
        for (size_t k = 0; k < languages[i].n_aliases; k++)
            aliases[i][k] = TEXT(l->aliases[k]);
        languages[i].aliases = aliases[i];
        languages[i].version = TEXT(l->version);
        languages[i].available = l->available;
        languages[i].compiles = l->compiles;
        language_list[i] = &languages[i];
    }
    Brood__Wire__RunLimits run_limits;
    Brood__Wire__Limit limits[6];
    fill_run_limits(&h->run_limits, &run_limits, limits);
    if (h->run_limits.code_bytes_max)
        m.run_limits = &run_limits;
    Brood__Wire__StoreSettings store;
    fill_store(&h->store, &store);
    if (h->store.public_base_url) /* the engine always has one, perhaps "" */
        m.store = &store;
    Brood__Wire__CompanionLimits sessions, terminals;
    fill_companions(&h->sessions, &sessions);
    fill_companions(&h->terminals, &terminals);
    if (h->sessions.max)
        m.sessions = &sessions;
    if (h->terminals.max)
        m.terminals = &terminals;
    Brood__Wire__JobSettings jobs;
    brood__wire__job_settings__init(&jobs);
    jobs.concurrency = h->jobs.concurrency;
    jobs.queue_max = h->jobs.queue_max;
    jobs.key_queue_max = h->jobs.key_queue_max;
    jobs.queue_bytes_max = h->jobs.queue_bytes_max;
    jobs.attempts_max = h->jobs.attempts_max;
    if (jobs.concurrency | jobs.queue_max | jobs.key_queue_max | jobs.queue_bytes_max |
        jobs.attempts_max)
        m.jobs = &jobs;
    m.terminal_silence_s = h->terminal_silence_s;
    m.terminal_origins = TEXT(h->terminal_origins);
    Brood__Wire__WebhookSettings webhooks;
    fill_webhooks(&h->webhooks, &webhooks);
    if (h->webhooks.allow && *h->webhooks.allow)
        m.webhooks = &webhooks;
    m.n_languages = h->language_count;
    m.languages = language_list;
    m.version = h->version;
    m.server = TEXT(h->server);
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
    m.kernel = TEXT(h->kernel);
    m.landlock_abi = h->landlock_abi;
    m.cgroup_version = h->cgroup_version;
    m.networks = h->networks;
    m.n_layers = h->layer_count;
    m.layers = list;
    return pack(&m.base, head, scratch, room, ret, err);
}

static ssize_t encode_stats(const struct proto_msg *msg, size_t head, char *scratch, size_t room,
                            char **ret, struct err *err)
{
    size_t n = msg->stats.count;
    auto_free Brood__Wire__StatsEntry *entries = calloc(n + 1, sizeof *entries);
    auto_free Brood__Wire__StatsEntry **list = calloc(n + 1, sizeof(Brood__Wire__StatsEntry *));
    Brood__Wire__Stats m;
    brood__wire__stats__init(&m);
    if (!entries || !list)
        return err_set(err, "out of memory");
    for (size_t i = 0; i < n; i++) {
        brood__wire__stats_entry__init(&entries[i]);
        entries[i].name = TEXT(msg->stats.entries[i].name);
        entries[i].value = msg->stats.entries[i].value;
        list[i] = &entries[i];
    }
    m.tag = msg->tag;
    m.n_entries = n;
    m.entries = list;
    return pack(&m.base, head, scratch, room, ret, err);
}

static ssize_t encode_ns_list(const struct proto_msg *msg, size_t head, char *scratch, size_t room,
                              char **ret, struct err *err)
{
    size_t n = msg->ns_list.count;
    auto_free Brood__Wire__NamespaceEntry *entries = calloc(n + 1, sizeof *entries);
    auto_free Brood__Wire__NamespaceEntry **list =
        calloc(n + 1, sizeof(Brood__Wire__NamespaceEntry *));
    Brood__Wire__NamespaceList m;
    brood__wire__namespace_list__init(&m);
    if (!entries || !list)
        return err_set(err, "out of memory");
    for (size_t i = 0; i < n; i++) {
        brood__wire__namespace_entry__init(&entries[i]);
        entries[i].namespace_id = TEXT(msg->ns_list.entries[i].ns_id);
        entries[i].active = msg->ns_list.entries[i].active;
        entries[i].queued = msg->ns_list.entries[i].queued;
        list[i] = &entries[i];
    }
    m.tag = msg->tag;
    m.n_entries = n;
    m.entries = list;
    m.more = msg->ns_list.more;
    return pack(&m.base, head, scratch, room, ret, err);
}

static ssize_t encode_session_list(const struct proto_msg *msg, size_t head, char *scratch,
                                   size_t room, char **ret, struct err *err)
{
    size_t n = msg->session_list.count;
    Brood__Wire__SessionEntry entries[2 * PROTO_SESSIONS_MAX], *list[2 * PROTO_SESSIONS_MAX];
    Brood__Wire__SessionList m;
    brood__wire__session_list__init(&m);
    if (n > ARRAY_LEN(entries))
        return err_set(err, "%zu sessions, allowed are %zu", n, ARRAY_LEN(entries));
    for (size_t i = 0; i < n; i++) {
        const struct proto_session_entry *from = &msg->session_list.entries[i];
        brood__wire__session_entry__init(&entries[i]);
        entries[i].session = TEXT(from->session);
        entries[i].companion = from->companion;
        entries[i].busy = from->busy;
        entries[i].queued = from->queued;
        entries[i].idle_ms = from->idle_ms;
        entries[i].age_ms = from->age_ms;
        list[i] = &entries[i];
    }
    m.tag = msg->tag;
    m.n_entries = n;
    m.entries = list;
    return pack(&m.base, head, scratch, room, ret, err);
}

ssize_t encode(const struct proto_msg *msg, size_t head, char *scratch, size_t room, char **ret,
               struct err *err)
{
    switch (msg->type) {
    case PROTO_HELLO:
        return encode_hello(msg, head, scratch, room, ret, err);
    case PROTO_EXECUTE:
        return encode_execute(msg, head, scratch, room, ret, err);
    case PROTO_RESULT:
        return encode_result(msg, head, scratch, room, ret, err);
    case PROTO_STATS:
        return encode_stats(msg, head, scratch, room, ret, err);
    case PROTO_NS_LIST:
        return encode_ns_list(msg, head, scratch, room, ret, err);
    case PROTO_SESSION_LIST:
        return encode_session_list(msg, head, scratch, room, ret, err);
    case PROTO_SESSION_LIST_REQUEST: {
        Brood__Wire__SessionListRequest m;
        brood__wire__session_list_request__init(&m);
        m.tag = msg->tag;
        m.namespace_id = TEXT(msg->session_list_request.ns_id);
        m.companion = msg->session_list_request.companion;
        return pack(&m.base, head, scratch, room, ret, err);
    }
    case PROTO_SESSION_CLOSE: {
        Brood__Wire__SessionClose m;
        brood__wire__session_close__init(&m);
        m.tag = msg->tag;
        m.namespace_id = TEXT(msg->session_close.ns_id);
        m.session = TEXT(msg->session_close.session);
        m.companion = msg->session_close.companion;
        return pack(&m.base, head, scratch, room, ret, err);
    }
    case PROTO_CANCEL: {
        Brood__Wire__Cancel m;
        brood__wire__cancel__init(&m);
        m.tag = msg->tag;
        return pack(&m.base, head, scratch, room, ret, err);
    }
    case PROTO_SIGNAL: {
        Brood__Wire__Signal m;
        brood__wire__signal__init(&m);
        m.tag = msg->tag;
        m.signal = (uint32_t)msg->signal;
        return pack(&m.base, head, scratch, room, ret, err);
    }
    case PROTO_STATS_REQUEST: {
        Brood__Wire__StatsRequest m;
        brood__wire__stats_request__init(&m);
        m.tag = msg->tag;
        return pack(&m.base, head, scratch, room, ret, err);
    }
    case PROTO_NS_LIST_REQUEST: {
        Brood__Wire__NamespaceListRequest m;
        brood__wire__namespace_list_request__init(&m);
        m.tag = msg->tag;
        m.after = TEXT(msg->ns_list_request.after);
        m.limit = msg->ns_list_request.limit;
        return pack(&m.base, head, scratch, room, ret, err);
    }
    case PROTO_NS_REMOVE: {
        Brood__Wire__NamespaceRemove m;
        brood__wire__namespace_remove__init(&m);
        m.tag = msg->tag;
        m.namespace_id = TEXT(msg->ns_remove.ns_id);
        return pack(&m.base, head, scratch, room, ret, err);
    }
    case PROTO_POLICY_REQUEST: {
        Brood__Wire__PolicyRequest m;
        brood__wire__policy_request__init(&m);
        m.tag = msg->tag;
        m.name = TEXT(msg->policy_request.name);
        return pack(&m.base, head, scratch, room, ret, err);
    }
    case PROTO_WAITING: {
        Brood__Wire__Waiting m;
        brood__wire__waiting__init(&m);
        m.tag = msg->tag;
        m.waiting = msg->waiting;
        m.output_bytes_max = msg->output_bytes_max;
        return pack(&m.base, head, scratch, room, ret, err);
    }
    case PROTO_DONE: {
        Brood__Wire__Done m;
        brood__wire__done__init(&m);
        m.tag = msg->tag;
        m.outcome = msg->done.outcome;
        m.text = TEXT(msg->done.text);
        return pack(&m.base, head, scratch, room, ret, err);
    }
    }
    return err_set(err, "no such message type: %d", (int)msg->type);
}
