/* SPDX-License-Identifier: Apache-2.0 */
/* protocol/run - Execute and Result on the wire, both ways.
 *
 * Who adds a field to a run adds it here twice, to the protocol's document and to brood.proto. What
 * a run may ask for is checked when it is decoded: counts, lengths, names, and which fields go
 * together; whether a policy allows it is the engine's question.
 */
#include "lib/arena.h"
#include "lib/err.h"
#include "protocol/wire.h"

static ssize_t bytes_list(const char *what, const char *const *texts, size_t n, size_t max,
                          ProtobufCBinaryData *ret, struct err *err)
{
    if (n > max)
        return err_set(err, "%s: %zu, allowed are %zu", what, n, max);
    for (size_t i = 0; i < n; i++)
        ret[i] = wire_bytes(texts[i], strlen(texts[i]));
    return 0;
}

ssize_t wire_encode_execute(const struct proto_msg *msg, size_t head, char *scratch, size_t room,
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
        vars[i].name = WIRE_TEXT(x->env[i].name);
        vars[i].value = wire_bytes(x->env[i].value, strlen(x->env[i].value));
        list[i] = &vars[i];
    }
    m.tag = msg->tag;
    m.namespace_id = WIRE_TEXT(x->ns_id);
    m.cmd = wire_bytes(x->cmd, x->cmd_len);
    m.n_env = x->env_count;
    m.env = list;
    m.cwd = wire_bytes(WIRE_TEXT(x->cwd), strlen(WIRE_TEXT(x->cwd)));
    m.timeout_ms = x->timeout_ms;
    m.cpu_ms = x->cpu_ms;
    m.request_id = WIRE_TEXT(x->request_id);
    m.policy = WIRE_TEXT(x->policy);
    m.memory_bytes = x->memory_bytes;
    m.pids_max = x->pids_max;
    m.key = WIRE_TEXT(x->key);
    m.timeout_ms_ceiling = x->timeout_ms_ceiling;
    m.memory_bytes_ceiling = x->memory_bytes_ceiling;
    m.cpu_ms_ceiling = x->cpu_ms_ceiling;
    m.usual = x->usual;
    m.session = WIRE_TEXT(x->session);
    m.companion = x->companion;
    m.patient = x->patient;
    m.held = x->held;
    m.policy_of_key = x->policy_of_key;
    m.tell_start = x->tell_start;
    m.kind = x->kind;
    m.language = WIRE_TEXT(x->language);
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
        ask.path = wire_bytes(x->files->path, strlen(x->files->path));
        ask.after = wire_bytes(x->files->after, strlen(x->files->after));
        m.files = &ask;
    }
    return wire_pack(&m.base, head, scratch, room, ret, err);
}

static int take_env(const Brood__Wire__Execute *m, struct arena *arena, struct proto_execute *x,
                    struct err *err)
{
    size_t total = 0;
    if (m->n_env > PROTO_ENV_COUNT_MAX)
        return wire_bad(err, "env: %zu variables, allowed are %u", m->n_env, PROTO_ENV_COUNT_MAX);
    struct proto_env *env = arena_alloc(arena, (m->n_env + 1) * sizeof *env);
    for (size_t i = 0; env && i < m->n_env; i++) {
        const char *why = proto_env_name_refused(m->env[i]->name, strlen(m->env[i]->name));
        if (why)
            return wire_bad(err, "env: %.60s: %s", m->env[i]->name, why);
        env[i].name = m->env[i]->name;
        env[i].value = wire_text(&m->env[i]->value, arena);
        total += strlen(env[i].name) + m->env[i]->value.len + 2;
        if (total > PROTO_ENV_BYTES_MAX)
            return wire_bad(err, "env: more than %u bytes", PROTO_ENV_BYTES_MAX);
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
        return wire_bad(err, "%s: %zu, allowed are %zu", what, n, count_max);
    const char **list = arena_alloc(arena, (n + 1) * sizeof *list);
    for (size_t i = 0; list && i < n; i++) {
        list[i] = wire_text(&from[i], arena);
        total += from[i].len + 1;
    }
    *ret = list;
    return total > bytes_max ? wire_bad(err, "%s: more than %zu bytes", what, bytes_max) : 0;
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
        return wire_bad(err, "files: path: longer than %u bytes", PROTO_FILES_PATH_MAX);
    struct proto_files_ask *ask = arena_alloc(arena, sizeof *ask);
    if (!ask)
        return wire_bad(err, "out of memory");
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
        return wire_bad(err, "kind: unknown");
    x->kind = (enum proto_kind)m->kind;
    x->language = m->language;
    x->work = m->work;
    x->artifact_bytes_max = m->artifact_bytes_max;
    x->artifact_files_max = m->artifact_files_max;
    x->arg_count = m->n_args;
    x->place_count = m->n_places;
    if (strlen(m->language) > PROTO_LANGUAGE_NAME_MAX || !*m->language != (x->kind != PROTO_CODE))
        return wire_bad(err, "language: for code, of at most %u bytes", PROTO_LANGUAGE_NAME_MAX);
    if (x->kind != PROTO_COMMAND && m->cmd.len)
        return wire_bad(err, "cmd: only for a command");
    if (x->kind == PROTO_FILES && (x->work || m->n_args || m->n_places || !m->files))
        return wire_bad(err, "files: missing, or more than files");
    int r = take_texts("args", m->args, m->n_args, PROTO_ARGS_MAX, PROTO_ARGS_BYTES_MAX, arena,
                       &x->args, err);
    if (r == 0)
        r = take_texts("places", m->places, m->n_places, PROTO_PLACES_MAX,
                       PROTO_PLACES_MAX * (PROTO_PLACE_BYTES_MAX + 1u), arena, &x->places, err);
    for (size_t i = 0; r == 0 && i < m->n_places; i++)
        if (!is_place(x->places[i]))
            r = wire_bad(err, "places: %.60s: expected a relative path", x->places[i]);
    return r == 0 && x->kind == PROTO_FILES ? take_files_ask(m->files, arena, &x->files, err) : r;
}

/* A companion is of a namespace that stays; a terminal is always in one. */
static int take_companion(const Brood__Wire__Execute *m, struct proto_execute *x, struct err *err)
{
    x->companion = (enum proto_companion)m->companion;
    x->session = m->session;
    if (m->kind == PROTO_TERMINAL && m->companion != PROTO_COMPANION_TERMINAL)
        return wire_bad(err, "companion: a terminal is in one");
    if (m->companion == PROTO_COMPANION_NONE && !*m->session)
        return 0;
    if (wire_check_session(m->session, m->companion, err) < 0)
        return err->code;
    if (m->work || (m->kind != PROTO_COMMAND && m->kind != PROTO_TERMINAL))
        return wire_bad(err, "companion: for commands and terminals");
    return wire_check_ns_id(m->namespace_id, err);
}

int wire_take_execute(const Brood__Wire__Execute *m, struct arena *arena, struct proto_msg *ret,
                      struct err *err)
{
    struct proto_execute *x = &ret->execute;
    ret->tag = x->tag = m->tag;
    if (m->cmd.len > PROTO_CMD_BYTES_MAX)
        return wire_bad(err, "cmd: %zu bytes, allowed are %u", m->cmd.len, PROTO_CMD_BYTES_MAX);
    if (m->cwd.len > PROTO_CWD_BYTES_MAX)
        return wire_bad(err, "cwd: longer than %u bytes", PROTO_CWD_BYTES_MAX);
    if (strlen(m->request_id) > PROTO_REQUEST_ID_MAX)
        return wire_bad(err, "request_id: longer than %u bytes", PROTO_REQUEST_ID_MAX);
    if (strlen(m->policy) > PROTO_POLICY_NAME_MAX)
        return wire_bad(err, "policy: longer than %u bytes", PROTO_POLICY_NAME_MAX);
    if (strlen(m->key) > PROTO_KEY_LABEL_MAX)
        return wire_bad(err, "key: longer than %u bytes", PROTO_KEY_LABEL_MAX);
    if (m->timeout_ms > PROTO_TIMEOUT_MS_MAX || m->cpu_ms > PROTO_TIMEOUT_MS_MAX)
        return wire_bad(err, "timeout_ms, cpu_ms: allowed are at most %u", PROTO_TIMEOUT_MS_MAX);
    bool fresh = !*m->namespace_id && m->kind != PROTO_FILES;
    int r = fresh ? 0 : wire_check_ns_id(m->namespace_id, err);
    if (r == 0)
        r = take_env(m, arena, x, err);
    if (r == 0)
        r = take_kind(m, arena, x, err);
    if (r == 0)
        r = take_companion(m, x, err);
    x->ns_id = m->namespace_id;
    x->cmd = wire_text(&m->cmd, arena);
    x->cmd_len = m->cmd.len;
    x->cwd = wire_text(&m->cwd, arena);
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
    x->policy_of_key = m->policy_of_key;
    x->tell_start = m->tell_start;
    return r;
}

/* ---- its end -----------------------------------------------------------------------------------
 */

ssize_t wire_encode_result(const struct proto_msg *msg, size_t head, char *scratch, size_t room,
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
        denied[i].syscall = WIRE_TEXT(r->denied[i].syscall);
        denied[i].times = r->denied[i].times;
        list[i] = &denied[i];
    }
    Brood__Wire__Stage stages[PROTO_STAGES_MAX], *stage_list[PROTO_STAGES_MAX];
    if (r->stage_count > PROTO_STAGES_MAX)
        return err_set(err, "%zu stages, allowed are %u", r->stage_count, PROTO_STAGES_MAX);
    for (size_t i = 0; i < r->stage_count; i++) {
        const struct proto_stage *s = &r->stages[i];
        brood__wire__stage__init(&stages[i]);
        stages[i].name = WIRE_TEXT(s->name);
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
    m.field = WIRE_TEXT(r->field);
    m.text = WIRE_TEXT(r->text);
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
    return wire_pack(&m.base, head, scratch, room, ret, err);
}

/* Names go into logs and JSON as they are. */
static int take_denied(const Brood__Wire__Result *m, struct proto_result *r, struct err *err)
{
    if (m->n_denied > PROTO_DENIED_MAX)
        return wire_bad(err, "denied: %zu entries, allowed are %u", m->n_denied, PROTO_DENIED_MAX);
    for (size_t i = 0; i < m->n_denied; i++) {
        const char *name = m->denied[i]->syscall;
        size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");
        if (len == 0 || name[len] || len >= PROTO_SYSCALL_ROOM)
            return wire_bad(err, "denied: not the name of a system call");
        memcpy(r->denied[i].syscall, name, len + 1);
        r->denied[i].times = m->denied[i]->times;
    }
    r->denied_count = m->n_denied;
    return 0;
}

static int take_stages(const Brood__Wire__Result *m, struct proto_result *r, struct err *err)
{
    if (m->n_stages > PROTO_STAGES_MAX)
        return wire_bad(err, "stages: %zu entries, allowed are %u", m->n_stages, PROTO_STAGES_MAX);
    for (size_t i = 0; i < m->n_stages; i++) {
        const Brood__Wire__Stage *from = m->stages[i];
        struct proto_stage *to = &r->stages[i];
        size_t len = strspn(from->name, "abcdefghijklmnopqrstuvwxyz");
        if (len == 0 || from->name[len] || len >= sizeof to->name || from->reason >= PROTO_REASONS)
            return wire_bad(err, "stages: not a stage");
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

int wire_take_result(const Brood__Wire__Result *m, struct proto_msg *ret, struct err *err)
{
    ret->tag = m->tag;
    if (m->outcome >= PROTO_OUTCOMES || m->reason >= PROTO_REASONS || m->start >= PROTO_STARTS)
        return wire_bad(err, "result: unknown outcome, reason or start");
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
