/* SPDX-License-Identifier: Apache-2.0 */
/* t/fuzz/execute_json - any bytes as the body of POST /execute: what is accepted keeps its
 * promises, and its bytes survive being escaped. Linked without h2o: parse and json_out are leaves.
 */
#include "frontend/json_out.h"
#include "frontend/parse.h"
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct parse_limits limits = {.cmd_bytes_max = PROTO_CMD_BYTES_MAX,
                                           .env_bytes_max = PROTO_ENV_BYTES_MAX,
                                           .timeout_ms_max = 300000,
                                           .output_bytes_max = 1 << 20};

static void check_request(const struct parse_request *r)
{
    assert(proto_ns_id_is_valid(r->ns_id, strlen(r->ns_id)));
    assert(strlen(r->cmd) == r->cmd_len && r->cmd_len <= PROTO_CMD_BYTES_MAX);
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
    escape_all(body, size, json_out_text);
    escape_all(body, size, json_out_base64);
    return 0;
}
