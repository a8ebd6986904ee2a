/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/parse_work - the fields that programs, stored runs and jobs have beside those of a
 * command.
 *
 * In the frontend, per thread; called by parse.c for each field that is there. Every refusal names
 * the field, the entry's index where it is a list, and the limit. What a path or an id means is
 * decided further in: here only its form.
 */
#include "frontend/lang.h"
#include "frontend/parse_impl.h"

#define MIB (1024u * 1024)

int parse_language(struct reader *rd, json_t *v)
{
    char names[180];
    if (!json_is_string(v))
        return BAD(rd, "language must be a string");
    const char *name = json_string_value(v);
    const struct lang *l = parse_has_nul(v) ? NULL : lang_find(rd->limits->languages, name);
    if (l && l->available) {
        rd->to->language = l->name;
        rd->to->compiles = l->compiles;
        return 0;
    }
    lang_list_names(rd->limits->languages, names, sizeof names);
    return parse_refuse(rd->refusal, "unsupported_language",
                        "language '%.32s' is %s; available: %s", name,
                        l ? "not installed on this service" : "unknown", names);
}

int parse_code(struct reader *rd, json_t *v)
{
    uint64_t max = rd->limits->v1.code_bytes_max;
    if (!json_is_string(v))
        return BAD(rd, "code must be a string");
    if (json_string_length(v) > max)
        return BAD(rd, "code has %zu bytes, at most %llu are allowed", json_string_length(v),
                   (unsigned long long)max);
    rd->to->code = json_string_value(v);
    rd->to->code_len = json_string_length(v);
    return 0;
}

int parse_args(struct reader *rd, json_t *v)
{
    size_t i, bytes = 0;
    json_t *arg;
    if (!json_is_array(v))
        return BAD(rd, "args must be an array of strings");
    if (json_array_size(v) > PROTO_ARGS_MAX)
        return BAD(rd, "args has %zu entries, at most %u are allowed", json_array_size(v),
                   PROTO_ARGS_MAX);
    json_array_foreach(v, i, arg)
    {
        if (!json_is_string(arg))
            return BAD(rd, "args[%zu] must be a string", i);
        if (parse_has_nul(arg))
            return BAD(rd, "args[%zu] must not contain NUL", i);
        bytes += json_string_length(arg) + 1;
        if (bytes > PROTO_ARGS_BYTES_MAX)
            return BAD(rd, "args has more than %u bytes in all", PROTO_ARGS_BYTES_MAX);
        rd->to->args[i] = json_string_value(arg);
    }
    rd->to->arg_count = json_array_size(v);
    return 0;
}

/* What protocol/run.c asks of a place: relative, no empty, "." or ".." part. */
static bool is_place(const char *path, size_t len)
{
    if (len == 0 || len > PROTO_PLACE_BYTES_MAX || strlen(path) != len)
        return false;
    for (const char *part = path;; part++) {
        size_t n = strcspn(part, "/");
        if (n == 0 || n > 255 || (n <= 2 && strncmp(part, "..", n) == 0))
            return false;
        part += n;
        if (!*part)
            return true;
    }
}

static int read_file(struct reader *rd, json_t *v, size_t i)
{
    struct parse_request *to = rd->to;
    json_t *id = json_object_get(v, "id"), *path = json_object_get(v, "path");
    if (!json_is_object(v))
        return BAD(rd, "files[%zu] must be an object with id and path", i);
    if (!json_is_string(id) || parse_has_nul(id) || json_string_length(id) == 0 ||
        json_string_length(id) > PARSE_FILE_ID_MAX)
        return BAD(rd, "files[%zu].id must be the id of an uploaded file", i);
    if (!json_is_string(path) || !is_place(json_string_value(path), json_string_length(path)))
        return BAD(rd,
                   "files[%zu].path must be a path below /work of at most %u bytes, relative and "
                   "without empty, . and .. parts",
                   i, PROTO_PLACE_BYTES_MAX);
    for (size_t k = 0; k < i; k++)
        if (strcmp(to->places[k], json_string_value(path)) == 0)
            return BAD(rd, "files[%zu].path is the same as files[%zu].path", i, k);
    to->files[i].id = json_string_value(id);
    to->places[i] = json_string_value(path);
    return 0;
}

int parse_files(struct reader *rd, json_t *v)
{
    size_t i;
    json_t *file;
    if (!json_is_array(v))
        return BAD(rd, "files must be an array");
    if (json_array_size(v) > PROTO_PLACES_MAX)
        return BAD(rd, "files has %zu entries, at most %u are allowed", json_array_size(v),
                   PROTO_PLACES_MAX);
    json_array_foreach(v, i, file) if (read_file(rd, file, i) < 0) return -1;
    rd->to->file_count = json_array_size(v);
    return 0;
}

int parse_detach(struct reader *rd, json_t *v)
{
    if (!json_is_boolean(v))
        return BAD(rd, "detach must be true or false");
    rd->to->detach = json_is_true(v);
    return 0;
}

int parse_stdin_open(struct reader *rd, json_t *v)
{
    if (!json_is_boolean(v))
        return BAD(rd, "stdin_open must be true or false");
    rd->to->stdin_open = json_is_true(v);
    return 0;
}

/* Without detach a stream ends with its first connection: there is nothing to keep. */
int parse_stream(struct reader *rd, json_t *v)
{
    const char *keep = json_string_value(json_object_get(v, "keep"));
    if (!json_is_object(v))
        return BAD(rd, "stream must be an object");
    if (!json_object_get(v, "keep"))
        return 0;
    if (!keep || (strcmp(keep, "last") != 0 && strcmp(keep, "all") != 0))
        return BAD(rd, "stream.keep must be \"last\" or \"all\"");
    rd->to->keeps_all = strcmp(keep, "all") == 0;
    if (rd->to->keeps_all && !rd->to->detach)
        return BAD(rd, "stream.keep \"all\" goes with \"detach\": true");
    return 0;
}

int parse_v1_limits(struct reader *rd, json_t *v)
{
    const struct proto_run_limits *l = &rd->limits->v1;
    struct parse_request *to = rd->to;
    const struct {
        const char *name;
        uint64_t least, max, factor;
        uint64_t *to;
        uint32_t usual;
    } fields[] = {
        {"timeout_ms", 1, l->timeout_ms.max, 1, &to->timeout_ms, PROTO_USUAL_TIMEOUT},
        {"memory_mb", MEMORY_MB_MIN, l->memory_bytes.max / MIB, MIB, &to->memory_bytes,
         PROTO_USUAL_MEMORY},
        {"cpu_ms", 1, l->cpu_ms.max, 1, &to->cpu_ms, PROTO_USUAL_CPU},
        {"max_output_bytes", 1, l->output_bytes.max, 1, &to->output_bytes_max, 0},
        {"max_artifact_bytes", 0, l->artifact_bytes.max, 1, &to->artifact_bytes_max, 0},
        {"max_artifact_files", 0, l->artifact_files.max, 1, &to->artifact_files_max, 0},
    };
    if (!json_is_object(v))
        return BAD(rd, "limits must be an object");
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        json_t *n = json_object_get(v, fields[i].name);
        if (!n)
            continue;
        if (!json_is_integer(n) || json_integer_value(n) < (json_int_t)fields[i].least ||
            (uint64_t)json_integer_value(n) > fields[i].max)
            return BAD(rd, "limits.%s must be an integer from %llu to %llu", fields[i].name,
                       (unsigned long long)fields[i].least, (unsigned long long)fields[i].max);
        *fields[i].to = (uint64_t)json_integer_value(n) * fields[i].factor;
        to->usual &= ~fields[i].usual;
    }
    return 0;
}

void parse_v1_defaults(struct reader *rd)
{
    const struct proto_run_limits *l = &rd->limits->v1;
    struct parse_request *to = rd->to;
    to->usual = PROTO_USUAL_ALL;
    to->timeout_ms = l->timeout_ms.fallback;
    to->memory_bytes = l->memory_bytes.fallback;
    to->cpu_ms = l->cpu_ms.fallback;
    to->output_bytes_max = l->output_bytes.fallback;
    to->artifact_bytes_max = l->artifact_bytes.fallback;
    to->artifact_files_max = l->artifact_files.fallback;
}

/* jansson has seen to it that it is UTF-8. */
int parse_user_id(struct reader *rd, json_t *v)
{
    size_t count = 0;
    if (!json_is_string(v))
        return BAD(rd, "userId must be a string");
    const unsigned char *s = (const unsigned char *)json_string_value(v);
    for (size_t i = 0; i < json_string_length(v); i++) {
        count += (s[i] & 0xc0) != 0x80;
        if (s[i] < 0x20 || s[i] == 0x7f || (s[i] == 0xc2 && s[i + 1] < 0xa0))
            return BAD(rd, "userId must not contain control characters");
    }
    if (count > PARSE_USER_CHARACTERS_MAX)
        return BAD(rd, "userId has %zu characters, at most %u are allowed", count,
                   PARSE_USER_CHARACTERS_MAX);
    rd->to->user = json_string_value(v);
    return 0;
}

int parse_priority(struct reader *rd, json_t *v)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0 ||
        json_integer_value(v) > (json_int_t)PARSE_PRIORITY_MAX)
        return BAD(rd, "priority must be an integer from 0 to %u, %u being usual",
                   PARSE_PRIORITY_MAX, PARSE_PRIORITY_USUAL);
    rd->to->priority = (unsigned)json_integer_value(v);
    return 0;
}

/* What it means, and whether it will do, is frontend/webhooks.h's. */
int parse_callback_url(struct reader *rd, json_t *v)
{
    if (!json_is_string(v) || json_string_length(v) == 0)
        return BAD(rd, "callback_url must be a string that is not empty");
    if (parse_has_nul(v))
        return BAD(rd, "callback_url must not contain NUL");
    rd->to->callback_url = json_string_value(v);
    return 0;
}
