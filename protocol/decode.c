/* SPDX-License-Identifier: Apache-2.0 */
/* protocol/decode - protobuf bytes to plain structs: the door at which foreign bytes are checked,
 * once.
 *
 * Runs in the engine (bytes of frontend, CLI, anyone at the socket) and in clients. All memory
 * comes from the caller's capped arena, so the cap is the limit of a hostile message; no message
 * type is recursive, so the generated decoder's recursion is bounded (INGREDIENTS.md). Text with a
 * NUL, a count or length beyond its limit, an unknown enumerator: -EPROTO with the field's name.
 */
#include "lib/arena.h"
#include "lib/err.h"
#include "protocol/brood.pb-c.h"
#include "protocol/internal.h"
#include <stdarg.h>

static void *arena_take(void *data, size_t size)
{
    return arena_alloc(data, size);
}

static void arena_ignore(void *data, void *pointer)
{
    (void)data;
    (void)pointer;
}

PRINTF_LIKE(2, 3) static int bad(struct err *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    return err->code = -EPROTO;
}

static bool read_varint(const uint8_t **at, const uint8_t *end, uint64_t *ret)
{
    *ret = 0;
    for (unsigned shift = 0; shift < 64 && *at < end; shift += 7) {
        uint8_t byte = *(*at)++;
        *ret |= (uint64_t)(byte & 127) << shift;
        if (!(byte & 128))
            return true;
    }
    return false;
}

/* No text or byte field of ours may hold a NUL, and the generated struct keeps no length of a
 * string: what follows a NUL in one would be hidden, not refused. So the wire is walked once before
 * it is decoded, never more leniently than the generated decoder does it. As deep as the types nest
 * (three). */
static int check_text(const ProtobufCMessageDescriptor *d, const uint8_t *at, const uint8_t *end,
                      struct err *err)
{
    static const uint64_t fixed[8] = {[1] = 8, [5] = 4};
    while (at < end) {
        uint64_t key, len;
        if (!read_varint(&at, end, &key) || key > UINT32_MAX)
            return bad(err, "not a valid message of its type");
        unsigned kind = key & 7;
        len = fixed[kind];
        if (kind == 3 || kind == 4 || kind > 5 ||
            (kind <= 2 && kind != 1 && !read_varint(&at, end, &len)))
            return bad(err, "not a valid message of its type");
        if (kind == 0)
            continue;
        if (len > (size_t)(end - at))
            return bad(err, "not a valid message of its type");
        const ProtobufCFieldDescriptor *f =
            kind == 2 ? protobuf_c_message_descriptor_get_field(d, (unsigned)(key >> 3)) : NULL;
        if (f && f->type == PROTOBUF_C_TYPE_MESSAGE) {
            if (check_text(f->descriptor, at, at + len, err) < 0)
                return err->code;
        } else if (f && memchr(at, 0, len)) {
            return bad(err, "%s: holds a NUL byte", f->name);
        }
        at += len;
    }
    return 0;
}

static const char *text_of(const ProtobufCBinaryData *b, struct arena *arena)
{
    return arena_strndup(arena, b->len ? (const char *)b->data : "", b->len);
}

static int check_ns_id(const char *id, struct err *err)
{
    if (proto_ns_id_is_valid(id, strlen(id)))
        return 0;
    return bad(err,
               "namespace_id: expected 1-%u characters of [A-Za-z0-9._-], not starting with . or -",
               PROTO_NS_ID_MAX);
}

static int check_session(const char *name, uint32_t companion, struct err *err)
{
    if (companion == PROTO_COMPANION_NONE || companion >= PROTO_COMPANIONS)
        return bad(err, "companion: unknown");
    if (proto_session_is_valid(name, strlen(name)))
        return 0;
    return bad(err, "session: expected 1-%u characters of [A-Za-z0-9._-]", PROTO_SESSION_MAX);
}

static int take_env(const Brood__Wire__Execute *m, struct arena *arena, struct proto_execute *x,
                    struct err *err)
{
    size_t total = 0;
    if (m->n_env > PROTO_ENV_COUNT_MAX)
        return bad(err, "env: %zu variables, allowed are %u", m->n_env, PROTO_ENV_COUNT_MAX);
    struct proto_env *env = arena_alloc(arena, (m->n_env + 1) * sizeof *env);
    for (size_t i = 0; env && i < m->n_env; i++) {
        const char *why = proto_env_name_refused(m->env[i]->name, strlen(m->env[i]->name));
        if (why)
            return bad(err, "env: %.60s: %s", m->env[i]->name, why);
        env[i].name = m->env[i]->name;
        env[i].value = text_of(&m->env[i]->value, arena);
        total += strlen(env[i].name) + m->env[i]->value.len + 2;
        if (total > PROTO_ENV_BYTES_MAX)
            return bad(err, "env: more than %u bytes", PROTO_ENV_BYTES_MAX);
    }
    x->env = env;
    x->env_count = m->n_env;
    return 0;
}

static int take_texts(const char *what, const ProtobufCBinaryData *from, size_t n, size_t count_max,
                      size_t bytes_max, struct arena *arena, const char *const **ret,
                      struct err *err)
{
    size_t total = 0;
    if (n > count_max)
        return bad(err, "%s: %zu, allowed are %zu", what, n, count_max);
    const char **list = arena_alloc(arena, (n + 1) * sizeof *list);
    for (size_t i = 0; list && i < n; i++) {
        list[i] = text_of(&from[i], arena);
        total += from[i].len + 1;
    }
    *ret = list;
    return total > bytes_max ? bad(err, "%s: more than %zu bytes", what, bytes_max) : 0;
}

/* Relative, without empty, "." and ".." parts: the rest is decided beneath /work's descriptor. */
static bool is_place(const char *path)
{
    if (!*path || strlen(path) > PROTO_PLACE_BYTES_MAX)
        return false;
    for (const char *part = path;; part++) {
        size_t len = strcspn(part, "/");
        if (len == 0 || len > 255 || (len <= 2 && strncmp(part, "..", len) == 0))
            return false;
        part += len;
        if (!*part)
            return true;
    }
}

static int take_files_ask(const Brood__Wire__FilesAsk *m, struct arena *arena,
                          const struct proto_files_ask **ret, struct err *err)
{
    if (m->path.len > PROTO_FILES_PATH_MAX || m->after.len > PROTO_FILES_PATH_MAX)
        return bad(err, "files: path: longer than %u bytes", PROTO_FILES_PATH_MAX);
    struct proto_files_ask *ask = arena_alloc(arena, sizeof *ask);
    if (!ask)
        return bad(err, "out of memory");
    memset(ask, 0, sizeof *ask);
    ask->magic = PROTO_FILES_MAGIC;
    ask->op = m->op;
    ask->flags = m->flags;
    ask->count_max = m->count_max;
    ask->bytes_max = m->bytes_max;
    if (m->path.len)
        memcpy(ask->path, m->path.data, m->path.len);
    if (m->after.len)
        memcpy(ask->after, m->after.data, m->after.len);
    *ret = ask;
    return 0;
}

/* What there is beside a plain command. */
static int take_kind(const Brood__Wire__Execute *m, struct arena *arena, struct proto_execute *x,
                     struct err *err)
{
    if (m->kind >= PROTO_KINDS)
        return bad(err, "kind: unknown");
    x->kind = (enum proto_kind)m->kind;
    x->language = m->language;
    x->work = m->work;
    x->artifact_bytes_max = m->artifact_bytes_max;
    x->artifact_files_max = m->artifact_files_max;
    x->arg_count = m->n_args;
    x->place_count = m->n_places;
    if (strlen(m->language) > PROTO_LANGUAGE_NAME_MAX || !*m->language != (x->kind != PROTO_CODE))
        return bad(err, "language: for code, of at most %u bytes", PROTO_LANGUAGE_NAME_MAX);
    if (x->kind != PROTO_COMMAND && m->cmd.len)
        return bad(err, "cmd: only for a command");
    if (x->kind == PROTO_FILES && (x->work || m->n_args || m->n_places || !m->files))
        return bad(err, "files: missing, or more than files");
    int r = take_texts("args", m->args, m->n_args, PROTO_ARGS_MAX, PROTO_ARGS_BYTES_MAX, arena,
                       &x->args, err);
    if (r == 0)
        r = take_texts("places", m->places, m->n_places, PROTO_PLACES_MAX,
                       PROTO_PLACES_MAX * (PROTO_PLACE_BYTES_MAX + 1u), arena, &x->places, err);
    for (size_t i = 0; r == 0 && i < m->n_places; i++)
        if (!is_place(x->places[i]))
            r = bad(err, "places: %.60s: expected a relative path", x->places[i]);
    return r == 0 && x->kind == PROTO_FILES ? take_files_ask(m->files, arena, &x->files, err) : r;
}

/* A companion is of a namespace that stays; a terminal is always in one. */
static int take_companion(const Brood__Wire__Execute *m, struct proto_execute *x, struct err *err)
{
    x->companion = (enum proto_companion)m->companion;
    x->session = m->session;
    if (m->kind == PROTO_TERMINAL && m->companion != PROTO_COMPANION_TERMINAL)
        return bad(err, "companion: a terminal is in one");
    if (m->companion == PROTO_COMPANION_NONE && !*m->session)
        return 0;
    if (check_session(m->session, m->companion, err) < 0)
        return err->code;
    if (m->work || (m->kind != PROTO_COMMAND && m->kind != PROTO_TERMINAL))
        return bad(err, "companion: for commands and terminals");
    return check_ns_id(m->namespace_id, err);
}

static int take_execute(const Brood__Wire__Execute *m, struct arena *arena, struct proto_msg *ret,
                        struct err *err)
{
    struct proto_execute *x = &ret->execute;
    ret->tag = x->tag = m->tag;
    if (m->cmd.len > PROTO_CMD_BYTES_MAX)
        return bad(err, "cmd: %zu bytes, allowed are %u", m->cmd.len, PROTO_CMD_BYTES_MAX);
    if (m->cwd.len > PROTO_CWD_BYTES_MAX)
        return bad(err, "cwd: longer than %u bytes", PROTO_CWD_BYTES_MAX);
    if (strlen(m->request_id) > PROTO_REQUEST_ID_MAX)
        return bad(err, "request_id: longer than %u bytes", PROTO_REQUEST_ID_MAX);
    if (strlen(m->policy) > PROTO_POLICY_NAME_MAX)
        return bad(err, "policy: longer than %u bytes", PROTO_POLICY_NAME_MAX);
    if (strlen(m->key) > PROTO_KEY_LABEL_MAX)
        return bad(err, "key: longer than %u bytes", PROTO_KEY_LABEL_MAX);
    if (m->timeout_ms > PROTO_TIMEOUT_MS_MAX || m->cpu_ms > PROTO_TIMEOUT_MS_MAX)
        return bad(err, "timeout_ms, cpu_ms: allowed are at most %u", PROTO_TIMEOUT_MS_MAX);
    bool fresh = !*m->namespace_id && m->kind != PROTO_FILES;
    int r = fresh ? 0 : check_ns_id(m->namespace_id, err);
    if (r == 0)
        r = take_env(m, arena, x, err);
    if (r == 0)
        r = take_kind(m, arena, x, err);
    if (r == 0)
        r = take_companion(m, x, err);
    x->ns_id = m->namespace_id;
    x->cmd = text_of(&m->cmd, arena);
    x->cmd_len = m->cmd.len;
    x->cwd = text_of(&m->cwd, arena);
    x->timeout_ms = m->timeout_ms;
    x->cpu_ms = m->cpu_ms;
    x->memory_bytes = m->memory_bytes;
    x->pids_max = m->pids_max;
    x->policy = m->policy;
    x->request_id = m->request_id;
    x->key = m->key;
    x->timeout_ms_ceiling = m->timeout_ms_ceiling;
    x->memory_bytes_ceiling = m->memory_bytes_ceiling;
    x->cpu_ms_ceiling = m->cpu_ms_ceiling;
    x->usual = m->usual;
    x->patient = m->patient;
    x->held = m->held;
    x->tell_start = m->tell_start;
    return r;
}

/* Names go into logs and JSON as they are. */
static int take_denied(const Brood__Wire__Result *m, struct proto_result *r, struct err *err)
{
    if (m->n_denied > PROTO_DENIED_MAX)
        return bad(err, "denied: %zu entries, allowed are %u", m->n_denied, PROTO_DENIED_MAX);
    for (size_t i = 0; i < m->n_denied; i++) {
        const char *name = m->denied[i]->syscall;
        size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");
        if (len == 0 || name[len] || len >= PROTO_SYSCALL_ROOM)
            return bad(err, "denied: not the name of a system call");
        memcpy(r->denied[i].syscall, name, len + 1);
        r->denied[i].times = m->denied[i]->times;
    }
    r->denied_count = m->n_denied;
    return 0;
}

static int take_stages(const Brood__Wire__Result *m, struct proto_result *r, struct err *err)
{
    if (m->n_stages > PROTO_STAGES_MAX)
        return bad(err, "stages: %zu entries, allowed are %u", m->n_stages, PROTO_STAGES_MAX);
    for (size_t i = 0; i < m->n_stages; i++) {
        const Brood__Wire__Stage *from = m->stages[i];
        struct proto_stage *to = &r->stages[i];
        size_t len = strspn(from->name, "abcdefghijklmnopqrstuvwxyz");
        if (len == 0 || from->name[len] || len >= sizeof to->name || from->reason >= PROTO_REASONS)
            return bad(err, "stages: not a stage");
        *to = (struct proto_stage){.reason = (enum proto_reason)from->reason,
                                   .exited = from->exited,
                                   .exit_code = from->exit_code,
                                   .signal = from->signal,
                                   .wall_us = from->wall_us,
                                   .cpu_us = from->cpu_us,
                                   .max_rss_kb = from->max_rss_kb};
        memcpy(to->name, from->name, len + 1);
    }
    r->stage_count = m->n_stages;
    r->collecting = m->collecting;
    return 0;
}

static int take_result(const Brood__Wire__Result *m, struct proto_msg *ret, struct err *err)
{
    ret->tag = m->tag;
    if (m->outcome >= PROTO_OUTCOMES || m->reason >= PROTO_REASONS || m->start >= PROTO_STARTS)
        return bad(err, "result: unknown outcome, reason or start");
    ret->result = (struct proto_result){
        .tag = m->tag,
        .outcome = (enum proto_outcome)m->outcome,
        .field = m->field,
        .text = m->text,
        .retry_after_ms = m->retry_after_ms,
        .run_id = m->run_id,
        .reason = (enum proto_reason)m->reason,
        .exited = m->exited,
        .exit_code = m->exit_code,
        .signal = m->signal,
        .queue_us = m->queue_us,
        .wall_us = m->wall_us,
        .cpu_us = m->cpu_us,
        .max_rss_kb = m->max_rss_kb,
        .start = (enum proto_start)m->start,
        .output_bytes_max = m->output_bytes_max,
        .net_rx_bytes = m->net_rx_bytes,
        .net_tx_bytes = m->net_tx_bytes,
        .timeout_ms = m->timeout_ms,
        .memory_bytes = m->memory_bytes,
        .cpu_ms = m->cpu_ms,
        .companion_ended = m->companion_ended,
        .companion_new = m->companion_new,
        .companion_interrupted = m->companion_interrupted,
    };
    int r = take_denied(m, &ret->result, err);
    return r == 0 ? take_stages(m, &ret->result, err) : r;
}

static int take_languages(const Brood__Wire__Hello *m, struct arena *arena, struct proto_hello *h,
                          struct err *err)
{
    if (m->n_languages > PROTO_LANGUAGES_MAX)
        return bad(err, "hello: %zu languages, allowed are %u", m->n_languages,
                   PROTO_LANGUAGES_MAX);
    struct proto_language *list = arena_alloc(arena, (m->n_languages + 1) * sizeof *list);
    for (size_t i = 0; list && i < m->n_languages; i++) {
        const Brood__Wire__Language *l = m->languages[i];
        if (l->n_aliases > PROTO_ALIASES_MAX)
            return bad(err, "hello: too many aliases of a language");
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
        return bad(err, "hello: %zu layers, allowed are %u", m->n_layers, PROTO_LAYERS_MAX);
    struct proto_layer *layers = arena_alloc(arena, (m->n_layers + 1) * sizeof *layers);
    for (size_t i = 0; layers && i < m->n_layers; i++) {
        const Brood__Wire__Layer *l = m->layers[i];
        if (l->state >= PROTO_LAYER_STATES)
            return bad(err, "hello: unknown state of a layer");
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

static int take_hello(const Brood__Wire__Hello *m, struct arena *arena, struct proto_msg *ret,
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

static int take_stats(const Brood__Wire__Stats *m, struct arena *arena, struct proto_msg *ret,
                      struct err *err)
{
    if (m->n_entries > PROTO_LIST_MAX)
        return bad(err, "stats: %zu entries, allowed are %u", m->n_entries, PROTO_LIST_MAX);
    struct proto_stat *entries = arena_alloc(arena, (m->n_entries + 1) * sizeof *entries);
    ret->tag = m->tag;
    for (size_t i = 0; entries && i < m->n_entries; i++)
        entries[i] = (struct proto_stat){m->entries[i]->name, m->entries[i]->value};
    ret->stats.entries = entries;
    ret->stats.count = m->n_entries;
    return 0;
}

static int take_ns_list(const Brood__Wire__NamespaceList *m, struct arena *arena,
                        struct proto_msg *ret, struct err *err)
{
    if (m->n_entries > PROTO_LIST_MAX)
        return bad(err, "list: %zu entries, allowed are %u", m->n_entries, PROTO_LIST_MAX);
    struct proto_ns_entry *entries = arena_alloc(arena, (m->n_entries + 1) * sizeof *entries);
    ret->tag = m->tag;
    for (size_t i = 0; entries && i < m->n_entries; i++) {
        if (check_ns_id(m->entries[i]->namespace_id, err) < 0)
            return err->code;
        entries[i] = (struct proto_ns_entry){m->entries[i]->namespace_id, m->entries[i]->active,
                                             m->entries[i]->queued};
    }
    ret->ns_list.entries = entries;
    ret->ns_list.count = m->n_entries;
    ret->ns_list.more = m->more;
    return 0;
}

static int take_session_list(const Brood__Wire__SessionList *m, struct arena *arena,
                             struct proto_msg *ret, struct err *err)
{
    if (m->n_entries > 2 * PROTO_SESSIONS_MAX)
        return bad(err, "sessions: %zu entries, allowed are %u", m->n_entries,
                   2 * PROTO_SESSIONS_MAX);
    struct proto_session_entry *entries = arena_alloc(arena, (m->n_entries + 1) * sizeof *entries);
    ret->tag = m->tag;
    for (size_t i = 0; entries && i < m->n_entries; i++) {
        const Brood__Wire__SessionEntry *from = m->entries[i];
        if (check_session(from->session, from->companion, err) < 0)
            return err->code;
        entries[i] =
            (struct proto_session_entry){.session = from->session,
                                         .companion = (enum proto_companion)from->companion,
                                         .busy = from->busy,
                                         .queued = from->queued,
                                         .idle_ms = from->idle_ms,
                                         .age_ms = from->age_ms};
    }
    ret->session_list.entries = entries;
    ret->session_list.count = m->n_entries;
    return 0;
}

static int take_signal(const Brood__Wire__Signal *m, struct proto_msg *ret, struct err *err)
{
    const char *name = m->signal < 65 ? sigabbrev_np((int)m->signal) : NULL;
    ret->tag = m->tag;
    ret->signal = name ? proto_signal_find(name) : 0;
    return ret->signal ? 0 : bad(err, "signal: not one that may be sent to a run");
}

static const ProtobufCMessageDescriptor *descriptor_of(enum proto_type type)
{
    switch (type) {
    case PROTO_HELLO:
        return &brood__wire__hello__descriptor;
    case PROTO_EXECUTE:
        return &brood__wire__execute__descriptor;
    case PROTO_CANCEL:
        return &brood__wire__cancel__descriptor;
    case PROTO_RESULT:
        return &brood__wire__result__descriptor;
    case PROTO_STATS_REQUEST:
        return &brood__wire__stats_request__descriptor;
    case PROTO_STATS:
        return &brood__wire__stats__descriptor;
    case PROTO_NS_LIST_REQUEST:
        return &brood__wire__namespace_list_request__descriptor;
    case PROTO_NS_LIST:
        return &brood__wire__namespace_list__descriptor;
    case PROTO_NS_REMOVE:
        return &brood__wire__namespace_remove__descriptor;
    case PROTO_DONE:
        return &brood__wire__done__descriptor;
    case PROTO_POLICY_REQUEST:
        return &brood__wire__policy_request__descriptor;
    case PROTO_WAITING:
        return &brood__wire__waiting__descriptor;
    case PROTO_SESSION_LIST_REQUEST:
        return &brood__wire__session_list_request__descriptor;
    case PROTO_SESSION_LIST:
        return &brood__wire__session_list__descriptor;
    case PROTO_SESSION_CLOSE:
        return &brood__wire__session_close__descriptor;
    case PROTO_SIGNAL:
        return &brood__wire__signal__descriptor;
    }
    return NULL;
}

static int take(enum proto_type type, const void *m, struct arena *arena, struct proto_msg *ret,
                struct err *err)
{
    switch (type) {
    case PROTO_HELLO:
        return take_hello(m, arena, ret, err);
    case PROTO_EXECUTE:
        return take_execute(m, arena, ret, err);
    case PROTO_RESULT:
        return take_result(m, ret, err);
    case PROTO_STATS:
        return take_stats(m, arena, ret, err);
    case PROTO_NS_LIST:
        return take_ns_list(m, arena, ret, err);
    case PROTO_CANCEL:
        ret->tag = ((const Brood__Wire__Cancel *)m)->tag;
        return 0;
    case PROTO_STATS_REQUEST:
        ret->tag = ((const Brood__Wire__StatsRequest *)m)->tag;
        return 0;
    case PROTO_NS_LIST_REQUEST: {
        const Brood__Wire__NamespaceListRequest *r = m;
        ret->tag = r->tag;
        ret->ns_list_request.after = r->after;
        ret->ns_list_request.limit = r->limit;
        return strlen(r->after) <= PROTO_NS_ID_MAX ? 0
                                                   : bad(err, "after: longer than a namespace_id");
    }
    case PROTO_NS_REMOVE: {
        const Brood__Wire__NamespaceRemove *r = m;
        ret->tag = r->tag;
        ret->ns_remove.ns_id = r->namespace_id;
        return check_ns_id(r->namespace_id, err);
    }
    case PROTO_POLICY_REQUEST: {
        const Brood__Wire__PolicyRequest *r = m;
        ret->tag = r->tag;
        ret->policy_request.name = r->name;
        return strlen(r->name) <= PROTO_POLICY_NAME_MAX
                   ? 0
                   : bad(err, "name: longer than %u bytes", PROTO_POLICY_NAME_MAX);
    }
    case PROTO_SESSION_LIST:
        return take_session_list(m, arena, ret, err);
    case PROTO_SESSION_LIST_REQUEST: {
        const Brood__Wire__SessionListRequest *r = m;
        ret->tag = r->tag;
        ret->session_list_request.ns_id = r->namespace_id;
        ret->session_list_request.companion = (enum proto_companion)r->companion;
        return r->companion >= PROTO_COMPANIONS ? bad(err, "companion: unknown")
                                                : check_ns_id(r->namespace_id, err);
    }
    case PROTO_SESSION_CLOSE: {
        const Brood__Wire__SessionClose *c = m;
        ret->tag = c->tag;
        ret->session_close.ns_id = c->namespace_id;
        ret->session_close.session = c->session;
        ret->session_close.companion = (enum proto_companion)c->companion;
        int r = check_session(c->session, c->companion, err);
        return r < 0 ? r : check_ns_id(c->namespace_id, err);
    }
    case PROTO_WAITING:
        ret->tag = ((const Brood__Wire__Waiting *)m)->tag;
        ret->waiting = ((const Brood__Wire__Waiting *)m)->waiting;
        ret->output_bytes_max = ((const Brood__Wire__Waiting *)m)->output_bytes_max;
        return 0;
    case PROTO_SIGNAL:
        return take_signal(m, ret, err);
    case PROTO_DONE: {
        const Brood__Wire__Done *d = m;
        ret->tag = d->tag;
        ret->done.outcome = (enum proto_outcome)d->outcome;
        ret->done.text = d->text;
        return d->outcome < PROTO_OUTCOMES ? 0 : bad(err, "done: unknown outcome");
    }
    }
    return bad(err, "unknown message type");
}

int proto_decode(enum proto_type type, const void *bytes, size_t len, struct arena *arena,
                 struct proto_msg *ret, struct err *err)
{
    ProtobufCAllocator allocator = {arena_take, arena_ignore, arena};
    const ProtobufCMessageDescriptor *descriptor = descriptor_of(type);
    if (!descriptor)
        return bad(err, "unknown message type %d", (int)type);
    if (len > PROTO_MESSAGE_BYTES_MAX)
        return bad(err, "message of %zu bytes, allowed are %u", len, PROTO_MESSAGE_BYTES_MAX);
    arena_reset(arena);
    const uint8_t *wire = len ? bytes : (const void *)"";
    if (check_text(descriptor, wire, wire + len, err) < 0)
        return err->code;
    ProtobufCMessage *m = protobuf_c_message_unpack(descriptor, &allocator, len, wire);
    if (!m)
        return arena->exhausted ? bad(err, "message needs more than %zu bytes decoded", arena->cap)
                                : bad(err, "not a valid message of its type");
    *ret = (struct proto_msg){.type = type};
    int r = take(type, m, arena, ret, err);
    if (r == 0 && arena->exhausted)
        r = bad(err, "message needs more than %zu bytes decoded", arena->cap);
    return r;
}
