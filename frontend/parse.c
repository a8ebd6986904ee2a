/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/parse - see parse.h.
 *
 * In the frontend: the one place where JSON from outside is read. Strict: duplicate keys, trailing
 * bytes, invalid UTF-8 and lone surrogates are refused by jansson; a known field of a wrong type or
 * value by the table of readers below; unknown fields are ignored (API.md). Before a document is
 * built its values are counted, because a body of a megabyte of "[[],[],..." would become a hundred
 * megabytes of nodes. NUL is allowed to the parser so that we can name the field that holds one.
 */
#include "frontend/parse_impl.h"

#define VALUES_MAX 4096u /* commas, braces and brackets outside strings; 256 variables need 300 */
#define DEPTH_MAX 64u
#define MEMORY_MB_MAX (1u << 20)
#define PIDS_MIN 4u
#define PIDS_MAX 32768u

int parse_refuse(struct parse_refusal *r, const char *code, const char *fmt, ...)
{
    va_list ap;
    r->code = code;
    va_start(ap, fmt);
    (void)vsnprintf(r->text, sizeof r->text, fmt, ap);
    va_end(ap);
    return -1;
}

/* False when building the document would take memory out of proportion. */
static bool is_modest(const char *s, size_t len)
{
    size_t values = 0, depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < len; i++) {
        char c = s[i];
        if (quoted) {
            if (c == '\\')
                i++;
            else if (c == '"')
                quoted = false;
            continue;
        }
        if (c == '"')
            quoted = true;
        else if (c == '[' || c == '{')
            depth++, values++;
        else if ((c == ']' || c == '}') && depth > 0)
            depth--;
        else if (c == ',')
            values++;
        if (values > VALUES_MAX || depth > DEPTH_MAX)
            return false;
    }
    return true;
}

json_t *parse_load(const char *body, size_t len, struct parse_refusal *refusal)
{
    json_error_t e;
    json_t *doc = NULL;
    if (len == 0)
        (void)parse_refuse(refusal, "bad_request", "no body: a JSON object is expected");
    else if (!is_modest(body, len))
        (void)parse_refuse(refusal, "bad_request",
                           "the body holds more than %u values or is nested deeper than %u",
                           VALUES_MAX, DEPTH_MAX);
    else if (!(doc = json_loadb(body, len,
                                JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &e))) {
        if (json_error_code(&e) == json_error_null_byte_in_key)
            (void)parse_refuse(refusal, "bad_request",
                               "a key holds a NUL byte: no field and no variable of env may");
        else
            (void)parse_refuse(refusal, "bad_request",
                               "the body is not valid JSON: %.150s (line %d, column %d)", e.text,
                               e.line, e.column);
    }
    return doc;
}

bool parse_has_nul(json_t *v)
{
    return memchr(json_string_value(v), 0, json_string_length(v)) != NULL;
}

static int read_cmd(struct reader *rd, json_t *v)
{
    if (!json_is_string(v))
        return BAD(rd, "cmd must be a string");
    size_t len = json_string_length(v);
    uint64_t max = rd->limits->cmd_bytes_max;
    if (max == 0 || max > PROTO_CMD_BYTES_MAX)
        max = PROTO_CMD_BYTES_MAX;
    if (parse_has_nul(v))
        return BAD(rd, "cmd must not contain NUL");
    if (len > max)
        return BAD(rd, "cmd has %zu bytes, at most %llu are allowed", len, (unsigned long long)max);
    rd->to->cmd = json_string_value(v);
    rd->to->cmd_len = len;
    return 0;
}

static int read_namespace_id(struct reader *rd, json_t *v)
{
    if (!json_is_string(v))
        return BAD(rd, "namespace_id must be a string");
    if (!proto_ns_id_is_valid(json_string_value(v), json_string_length(v)))
        return BAD(
            rd, "namespace_id must be 1-%u characters of [A-Za-z0-9._-], not starting with . or -",
            PROTO_NS_ID_MAX);
    rd->to->ns_id = json_string_value(v);
    return 0;
}

static int read_stdin(struct reader *rd, json_t *v)
{
    if (!json_is_string(v))
        return BAD(rd, "stdin must be a string");
    rd->to->input = json_string_value(v);
    rd->to->input_len = json_string_length(v);
    return 0;
}

/* Of a job; the same as stdin. */
static int read_input(struct reader *rd, json_t *v)
{
    if (!json_is_string(v))
        return BAD(rd, "input must be a string");
    if (rd->to->input)
        return BAD(rd, "input and stdin are the same: give one");
    return read_stdin(rd, v);
}

static int read_env(struct reader *rd, json_t *v)
{
    const char *name;
    json_t *value;
    size_t bytes = 0;
    uint64_t max = rd->limits->env_bytes_max;
    if (max == 0 || max > PROTO_ENV_BYTES_MAX)
        max = PROTO_ENV_BYTES_MAX;
    if (!json_is_object(v))
        return BAD(rd, "env must be an object of strings");
    if (json_object_size(v) > PROTO_ENV_COUNT_MAX)
        return BAD(rd, "env has %zu variables, at most %u are allowed", json_object_size(v),
                   PROTO_ENV_COUNT_MAX);
    json_object_foreach(v, name, value)
    {
        const char *why = proto_env_name_refused(name, strlen(name));
        if (why)
            return BAD(rd, "env name '%.64s': %s", name, why);
        if (!json_is_string(value))
            return BAD(rd, "env value of %.64s must be a string", name);
        if (parse_has_nul(value))
            return BAD(rd, "env value of %.64s must not contain NUL", name);
        bytes += strlen(name) + json_string_length(value) + 2;
        if (bytes > max)
            return BAD(rd, "env has more than %llu bytes in all", (unsigned long long)max);
        rd->to->env[rd->to->env_count++] =
            (struct proto_env){.name = name, .value = json_string_value(value)};
    }
    return 0;
}

static int read_cwd(struct reader *rd, json_t *v)
{
    if (!json_is_string(v))
        return BAD(rd, "cwd must be a string");
    if (rd->to->language)
        return BAD(rd, "cwd goes with cmd: a program runs in /work");
    if (parse_has_nul(v))
        return BAD(rd, "cwd must not contain NUL");
    if (json_string_length(v) > PROTO_CWD_BYTES_MAX)
        return BAD(rd, "cwd has %zu bytes, at most %u are allowed", json_string_length(v),
                   PROTO_CWD_BYTES_MAX);
    rd->to->cwd = json_string_value(v);
    return 0;
}

static int read_session(struct reader *rd, json_t *v)
{
    if (rd->route != PARSE_EXECUTE || rd->to->language)
        return BAD(rd, "session goes with cmd, in POST /execute");
    if (!json_is_string(v) || !proto_session_is_valid(json_string_value(v), json_string_length(v)))
        return BAD(rd, "session must be 1-%u characters of [A-Za-z0-9._-]", PROTO_SESSION_MAX);
    rd->to->session = json_string_value(v);
    return 0;
}

static uint64_t timeout_max(const struct reader *rd)
{
    uint64_t max = rd->limits->timeout_ms_max;
    return max == 0 || max > PROTO_TIMEOUT_MS_MAX ? PROTO_TIMEOUT_MS_MAX : max;
}

static int read_timeout(struct reader *rd, json_t *v)
{
    double max = (double)timeout_max(rd) / 1000;
    if (!json_is_number(v))
        return BAD(rd, "timeout must be a number of seconds");
    double s = json_number_value(v);
    if (!(s > 0) || !(s <= max)) /* this way NaN is out as well */
        return BAD(rd, "timeout must be more than 0 and at most %.15g seconds", max);
    uint64_t ms = (uint64_t)(s * 1000);
    rd->to->timeout_ms = (double)ms < s * 1000 ? ms + 1 : ms; /* up: never 0 */
    return 0;
}

static int read_policy(struct reader *rd, json_t *v)
{
    const char *s = json_string_value(v);
    if (!s || !*s || json_string_length(v) != strlen(s) || strlen(s) > PROTO_POLICY_NAME_MAX)
        return BAD(rd, "policy must be the name of a policy, 1-%u characters",
                   PROTO_POLICY_NAME_MAX);
    rd->to->policy = s;
    return 0;
}

static int read_encoding(struct reader *rd, json_t *v)
{
    const char *s = json_string_value(v);
    if (s && json_string_length(v) == strlen(s)) {
        rd->to->base64 = strcmp(s, "base64") == 0;
        if (rd->to->base64 || strcmp(s, "utf-8") == 0)
            return 0;
    }
    return BAD(rd, "encoding must be \"utf-8\" or \"base64\"");
}

static int read_amount(struct reader *rd, json_t *limits, const char *name, uint64_t max,
                       uint64_t *ret)
{
    json_t *v = json_object_get(limits, name);
    if (!v)
        return 0;
    if (!json_is_integer(v) || json_integer_value(v) < 1 || (uint64_t)json_integer_value(v) > max)
        return BAD(rd, "limits.%s must be an integer from 1 to %llu", name,
                   (unsigned long long)max);
    *ret = (uint64_t)json_integer_value(v);
    return 0;
}

static int read_limits(struct reader *rd, json_t *v)
{
    uint64_t timeout_ms = 0, memory_mb = 0;
    if (!json_is_object(v))
        return BAD(rd, "limits must be an object");
    uint64_t cpu_ms_max = rd->limits->cpu_ms_max,
             memory_mb_max = rd->limits->memory_bytes_max >> 20;
    if (read_amount(rd, v, "timeout_ms", timeout_max(rd), &timeout_ms) < 0 ||
        read_amount(rd, v, "cpu_ms", cpu_ms_max ? cpu_ms_max : PROTO_TIMEOUT_MS_MAX,
                    &rd->to->cpu_ms) < 0 ||
        read_amount(rd, v, "memory_mb", memory_mb_max ? memory_mb_max : MEMORY_MB_MAX, &memory_mb) <
            0 ||
        read_amount(rd, v, "pids", PIDS_MAX, &rd->to->pids_max) < 0 ||
        read_amount(rd, v, "max_output_bytes", rd->limits->output_bytes_max,
                    &rd->to->output_bytes_max) < 0)
        return -1;
    if ((memory_mb && memory_mb < MEMORY_MB_MIN) ||
        (rd->to->pids_max && rd->to->pids_max < PIDS_MIN))
        return BAD(rd, "limits.memory_mb must be at least %u, limits.pids at least %u",
                   MEMORY_MB_MIN, PIDS_MIN);
    rd->to->memory_bytes = memory_mb << 20;
    if (timeout_ms && (!rd->to->timeout_ms || timeout_ms < rd->to->timeout_ms))
        rd->to->timeout_ms = timeout_ms; /* both given: the earlier one ends the run */
    return 0;
}

/* Which of the two shapes of API.md the body has. */
static int check_shape(struct reader *rd, json_t *doc)
{
    bool language = json_object_get(doc, "language"), code = json_object_get(doc, "code");
    bool cmd = json_object_get(doc, "cmd") != NULL;
    if (cmd && rd->route == PARSE_JOB)
        return BAD(rd, "a job is language with code: cmd goes with /execute and /v1/runs");
    if (cmd && (language || code))
        return BAD(rd, "cmd and language (with code) exclude each other: give one");
    if (!cmd && !language && !code && rd->route != PARSE_JOB)
        return BAD(rd, "cmd is missing (or language with code)");
    if (!cmd && !language && !code)
        return BAD(rd, "language and code are missing");
    if (!cmd && !(language && code))
        return BAD(rd, "%s is missing", language ? "code" : "language");
    if (cmd && rd->route != PARSE_V1 && !json_object_get(doc, "namespace_id"))
        return BAD(rd, "namespace_id is missing");
    return 0;
}

static int read_fields(struct reader *rd, json_t *doc)
{
    enum { ANY = PARSE_EXECUTE | PARSE_V1 | PARSE_JOB, SHORT = PARSE_EXECUTE | PARSE_JOB };
    static const struct {
        const char *name;
        unsigned of; /* enum parse_route */
        int (*read)(struct reader *rd, json_t *v);
    } fields[] = {
        {"namespace_id", ANY, read_namespace_id},
        {"cmd", PARSE_EXECUTE | PARSE_V1, read_cmd},
        {"language", ANY, parse_language},
        {"code", ANY, parse_code},
        {"args", ANY, parse_args},
        {"stdin", ANY, read_stdin},
        {"input", PARSE_JOB, read_input}, /* after stdin */
        {"env", ANY, read_env},
        {"cwd", ANY, read_cwd},
        {"session", ANY, read_session},
        {"timeout", SHORT, read_timeout},
        {"encoding", PARSE_EXECUTE | PARSE_V1, read_encoding},
        {"limits", SHORT, read_limits}, /* after timeout */
        {"limits", PARSE_V1, parse_v1_limits},
        {"files", PARSE_V1, parse_files},
        {"policy", ANY, read_policy},
        {"userId", PARSE_JOB, parse_user_id},
        {"priority", PARSE_JOB, parse_priority},
        {"detach", PARSE_V1, parse_detach},
        {"stdin_open", PARSE_V1, parse_stdin_open},
        {"stream", PARSE_V1, parse_stream}, /* after detach */
        {"callback_url", PARSE_JOB, parse_callback_url},
    };
    if (!json_is_object(doc))
        return BAD(rd, "the body must be a JSON object");
    if (check_shape(rd, doc) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        json_t *v = json_object_get(doc, fields[i].name);
        if (v && (fields[i].of & rd->route) && fields[i].read(rd, v) < 0)
            return -1;
    }
    return 0;
}

void parse_init(void)
{
    json_object_seed(0);
}

static int parse(struct reader *rd, const char *body, size_t len)
{
    struct parse_request *to = rd->to;
    json_t *doc = parse_load(body, len, rd->refusal);
    if (!doc)
        return -1;
    to->doc = doc;
    to->cmd = to->language = to->code = to->input = NULL;
    to->ns_id = to->cwd = to->session = to->policy = to->user = "";
    to->callback_url = "";
    to->priority = PARSE_PRIORITY_USUAL;
    to->compiles = to->base64 = to->detach = to->stdin_open = to->keeps_all = false;
    to->cmd_len = to->code_len = to->input_len = 0;
    to->env_count = to->arg_count = to->file_count = 0;
    to->timeout_ms = to->cpu_ms = to->memory_bytes = to->pids_max = 0;
    to->artifact_bytes_max = to->artifact_files_max = to->usual = 0;
    to->output_bytes_max = rd->limits->output_bytes_max;
    if (rd->route == PARSE_V1)
        parse_v1_defaults(rd);
    if (read_fields(rd, doc) < 0) {
        parse_fini(to);
        return -1;
    }
    return 0;
}

int parse_execute(const char *body, size_t len, const struct parse_limits *limits,
                  struct parse_request *ret, struct parse_refusal *ret_refusal)
{
    struct reader rd = {
        .limits = limits, .to = ret, .refusal = ret_refusal, .route = PARSE_EXECUTE};
    return parse(&rd, body, len);
}

int parse_job(const char *body, size_t len, const struct parse_limits *limits,
              struct parse_request *ret, struct parse_refusal *ret_refusal)
{
    struct reader rd = {.limits = limits, .to = ret, .refusal = ret_refusal, .route = PARSE_JOB};
    return parse(&rd, body, len);
}

int parse_run(const char *body, size_t len, const struct parse_limits *limits,
              struct parse_request *ret, struct parse_refusal *ret_refusal)
{
    struct reader rd = {.limits = limits, .to = ret, .refusal = ret_refusal, .route = PARSE_V1};
    return parse(&rd, body, len);
}

void parse_fini(struct parse_request *req)
{
    json_decref(req->doc);
    req->doc = NULL;
}
