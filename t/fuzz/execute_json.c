/* SPDX-License-Identifier: Apache-2.0 */
/* t/fuzz/execute_json - any bytes as the body of POST /execute, POST /v1/runs, or what feeds and
 * signals a run: what is accepted keeps its promises, and its bytes survive being escaped. Linked
 * without h2o: parse and json_out are leaves.
 */
#include "frontend/json_out.h"
#include "frontend/lang.h"
#include "frontend/parse.h"
#include "frontend/parse_feed.h"
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct lang known[] = {
    {.name = "python", .aliases = {"py"}, .alias_count = 1, .available = true}, {.name = "java"}};
static const struct lang_list languages = {.at = known, .count = ARRAY_LEN(known)};
static const struct parse_limits limits = {
    .cmd_bytes_max = PROTO_CMD_BYTES_MAX,
    .env_bytes_max = PROTO_ENV_BYTES_MAX,
    .timeout_ms_max = 300000,
    .output_bytes_max = 1 << 20,
    .v1 = {2000, {1, 2}, {16 << 20, 64 << 20}, {1, 2}, {1, 1 << 20}, {0, 9}, {0, 10}},
    .languages = &languages};

static void check_request(const struct parse_request *r)
{
    assert(!*r->ns_id || proto_ns_id_is_valid(r->ns_id, strlen(r->ns_id)));
    assert(!r->cmd != !r->language && !r->language == !r->code);
    assert(!r->cmd || (strlen(r->cmd) == r->cmd_len && r->cmd_len <= PROTO_CMD_BYTES_MAX));
    assert(!r->language || (strcmp(r->language, "python") == 0 && r->code_len <= 2000));
    assert(r->arg_count <= PROTO_ARGS_MAX && r->file_count <= PROTO_PLACES_MAX);
    for (size_t i = 0; i < r->arg_count; i++)
        assert(r->args[i]);
    for (size_t i = 0; i < r->file_count; i++)
        assert(r->files[i].id[0] && r->places[i][0] && r->places[i][0] != '/' &&
               !strstr(r->places[i], "//") && strlen(r->places[i]) <= PROTO_PLACE_BYTES_MAX);
    assert(r->env_count <= PROTO_ENV_COUNT_MAX);
    for (size_t i = 0; i < r->env_count; i++)
        assert(!proto_env_name_refused(r->env[i].name, strlen(r->env[i].name)) && r->env[i].value);
    assert(strlen(r->cwd) <= PROTO_CWD_BYTES_MAX);
    assert(r->timeout_ms <= limits.timeout_ms_max);
    assert(r->output_bytes_max >= 1 && r->output_bytes_max <= limits.output_bytes_max);
}

static void escape_all(const char *in, size_t len,
                       size_t (*put)(char *, size_t, const char *, size_t, size_t *))
{
    char out[64];
    for (size_t at = 0, taken; at < len; at += taken) {
        size_t n = put(out, sizeof out, in + at, len - at, &taken);
        assert(taken > 0 && taken <= len - at && n > 0 && n <= sizeof out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct parse_request r;
    struct parse_refusal refusal = {0};
    const char *body = (const char *)data;
    if (parse_execute(body, size, &limits, &r, &refusal) == 0) {
        check_request(&r);
        parse_fini(&r);
    } else {
        assert(refusal.code && refusal.text[0]);
    }
    refusal = (struct parse_refusal){0};
    if (parse_run(body, size, &limits, &r, &refusal) == 0) {
        check_request(&r);
        assert(r.timeout_ms >= 1 && r.timeout_ms <= 2 && r.memory_bytes >= 16 << 20 &&
               r.memory_bytes <= 64 << 20 && r.artifact_files_max <= 10);
        parse_fini(&r);
    } else {
        assert(refusal.code && refusal.text[0]);
    }
    refusal = (struct parse_refusal){0};
    if (parse_job(body, size, &limits, &r, &refusal) == 0) {
        check_request(&r);
        assert(r.code && !r.cmd && r.priority <= PARSE_PRIORITY_MAX);
        assert(strlen(r.user) <= 4 * PARSE_USER_CHARACTERS_MAX);
        parse_fini(&r);
    } else {
        assert(refusal.code && refusal.text[0]);
    }
    struct parse_stdin in;
    int number;
    if (parse_stdin(body, size, &in, &refusal) == 0) {
        assert(in.len <= size && (in.len == 0 || in.bytes));
        free(in.bytes);
    }
    if (parse_signal(body, size, &number, &refusal) == 0)
        assert(number > 0 && number < 64);
    assert(json_out_unfinished(body, size) <= 3);
    escape_all(body, size, json_out_text);
    escape_all(body, size, json_out_base64);
    return 0;
}
