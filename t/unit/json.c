/* SPDX-License-Identifier: Apache-2.0 */
/* t/unit/json - the bodies of POST /execute, /v1/runs and /submit are read strictly, with the field
 * named in each refusal; and any bytes come out as a valid JSON string, however small the pieces.
 */
#include "frontend/json_out.h"
#include "frontend/lang.h"
#include "frontend/parse.h"
#include "frontend/parse_feed.h"
#include "lib/tap.h"

static struct lang_list languages;
static const struct parse_limits limits = {.cmd_bytes_max = PROTO_CMD_BYTES_MAX,
                                           .env_bytes_max = PROTO_ENV_BYTES_MAX,
                                           .timeout_ms_max = 5000,
                                           .output_bytes_max = 1 << 20,
                                           .v1 = {204800,
                                                  {5000, 10000},
                                                  {256 << 20, 512 << 20},
                                                  {5000, 20000},
                                                  {1 << 20, 2 << 20},
                                                  {5 << 20, 20 << 20},
                                                  {10, 10}},
                                           .languages = &languages};
static struct parse_request req;
static struct parse_refusal refusal;

static int parse(const char *body, size_t len)
{
    refusal = (struct parse_refusal){0};
    return parse_execute(body, len, &limits, &req, &refusal);
}

static int run(const char *body)
{
    refusal = (struct parse_refusal){0};
    return parse_run(body, strlen(body), &limits, &req, &refusal);
}

static void refused(const char *what, const char *body, size_t len, const char *names)
{
    int r = parse(body, len);
    ok(r == -1 && refusal.code && strstr(refusal.text, names), "%s: %s", what, refusal.text);
    if (r == 0)
        parse_fini(&req);
}
#define REFUSED(what, text, names) refused(what, "" text, sizeof(text) - 1, names)
#define WITH(more) "{\"namespace_id\":\"alice\",\"cmd\":\"true\"," more "}"
#define NS(id) "{\"cmd\":\"true\",\"namespace_id\":" id "}"
#define CODE(language, code) "{\"language\":" language ",\"code\":" code "}"
#define CMD(cmd) "{\"namespace_id\":\"alice\",\"cmd\":" cmd "}"

static void test_bodies(void)
{
    REFUSED("nothing", "", "no body");
    REFUSED("no JSON", "hello", "not valid JSON");
    REFUSED("half", "{\"namespace_id\":\"alice\"", "not valid JSON");
    REFUSED("garbage behind it", CMD("\"x\"") "x", "not valid JSON");
    REFUSED("NUL behind it", CMD("\"x\"") "\0", "not valid JSON");
    REFUSED("an array", "[]", "object");
    REFUSED("a string", "\"x\"", "object");
    REFUSED("null", "null", "object");
    REFUSED("duplicate keys", "{\"namespace_id\":\"a\",\"cmd\":\"a\",\"cmd\":\"b\"}",
            "not valid JSON");
    REFUSED("duplicates inside", WITH("\"env\":{\"A\":\"1\",\"A\":\"2\"}"), "not valid JSON");
    REFUSED("invalid UTF-8", CMD("\"\xff\""), "not valid JSON");
    REFUSED("a lone surrogate", CMD("\"\\ud800\""), "not valid JSON");
    REFUSED("a single quote", "{'a':1}", "not valid JSON");
    REFUSED("NaN", WITH("\"timeout\":NaN"), "not valid JSON");
    REFUSED("overflow", WITH("\"timeout\":1e999"), "not valid JSON");
    char many[20000], deep[300];
    memset(many, ',', sizeof many);
    many[0] = '[';
    refused("many values", many, sizeof many, "values");
    memset(deep, '[', sizeof deep);
    refused("deep nesting", deep, sizeof deep, "nested");
}

static void test_fields(void)
{
    REFUSED("no cmd", "{\"namespace_id\":\"alice\"}", "cmd");
    REFUSED("no namespace_id", "{\"cmd\":\"true\"}", "namespace_id");
    REFUSED("cmd and language", WITH("\"language\":\"python\",\"code\":\"1\""), "language");
    REFUSED("cmd and code", WITH("\"code\":\"1\""), "language");
    REFUSED("language without code", "{\"language\":\"python\"}", "code is missing");
    REFUSED("code without language", "{\"code\":\"1\"}", "language is missing");
    REFUSED("nothing to run", "{\"namespace_id\":\"alice\"}", "cmd is missing");
    REFUSED("language 1", CODE("1", "\"1\""), "language must be a string");
    REFUSED("code 1", CODE("\"python\"", "1"), "code must be a string");
    REFUSED("an unknown language", CODE("\"cobol\"", "\"1\""), "unknown; available: python, c++x");
    ok(strcmp(refusal.code, "unsupported_language") == 0, "its code");
    REFUSED("NUL in the language", CODE("\"python\\u0000\"", "\"1\""), "unknown");
    REFUSED("one that is not installed", CODE("\"java\"", "\"1\""), "not installed");
    REFUSED("cwd of a program", CODE("\"python\"", "\"1\",\"cwd\":\"/tmp\""), "cwd goes with cmd");
    REFUSED("session of a program", CODE("\"python\"", "\"1\",\"session\":\"s\""), "session goes");
    REFUSED("session 1", WITH("\"session\":1"), "session must be");
    REFUSED("session empty", WITH("\"session\":\"\""), "session must be");
    REFUSED("session a/b", WITH("\"session\":\"a/b\""), "session must be");
    REFUSED("NUL in session", WITH("\"session\":\"a\\u0000\""), "session must be");
    REFUSED("args text", WITH("\"args\":\"x\""), "args must be an array");
    REFUSED("args of numbers", WITH("\"args\":[\"a\",1]"), "args[1]");
    REFUSED("args with NUL", WITH("\"args\":[\"\\u0000\"]"), "args[0]");
    REFUSED("cmd of a wrong type", CMD("1"), "cmd");
    REFUSED("cmd null", CMD("null"), "cmd");
    REFUSED("NUL in cmd", CMD("\"a\\u0000\""), "cmd");
    REFUSED("namespace_id empty", NS("\"\""), "namespace_id");
    REFUSED("namespace_id ../x", NS("\"../x\""), "namespace_id");
    REFUSED("namespace_id .x", NS("\".x\""), "namespace_id");
    REFUSED("namespace_id a/b", NS("\"a/b\""), "namespace_id");
    REFUSED("namespace_id with NUL", NS("\"a\\u0000\""), "namespace_id");
    REFUSED("namespace_id in UTF-8", NS("\"\\u00e4\""), "namespace_id");
    REFUSED("namespace_id 1", NS("1"), "namespace_id");
    REFUSED("stdin 1", WITH("\"stdin\":1"), "stdin");
    REFUSED("env an array", WITH("\"env\":[]"), "env");
    REFUSED("env value 1", WITH("\"env\":{\"A\":1}"), "env");
    REFUSED("env name with =", WITH("\"env\":{\"A=B\":\"1\"}"), "env");
    REFUSED("env name empty", WITH("\"env\":{\"\":\"1\"}"), "env");
    REFUSED("env name with NUL", WITH("\"env\":{\"A\\u0000\":\"1\"}"), "env");
    REFUSED("env value with NUL", WITH("\"env\":{\"A\":\"1\\u0000\"}"), "env");
    REFUSED("env LD_PRELOAD or such is decided elsewhere, = is not", WITH("\"env\":{\"=\":\"\"}"),
            "env");
    REFUSED("cwd 1", WITH("\"cwd\":1"), "cwd");
    REFUSED("cwd with NUL", WITH("\"cwd\":\"/tmp\\u0000\""), "cwd");
    REFUSED("timeout text", WITH("\"timeout\":\"1\""), "timeout");
    REFUSED("timeout 0", WITH("\"timeout\":0"), "timeout");
    REFUSED("timeout -0.0", WITH("\"timeout\":-0.0"), "timeout");
    REFUSED("timeout -1", WITH("\"timeout\":-1"), "timeout");
    REFUSED("timeout 5.1 of 5", WITH("\"timeout\":5.1"), "at most 5 seconds");
    REFUSED("timeout 1e300", WITH("\"timeout\":1e300"), "timeout");
    REFUSED("timeout true", WITH("\"timeout\":true"), "timeout");
    REFUSED("encoding utf-9", WITH("\"encoding\":\"utf-9\""), "encoding");
    REFUSED("encoding with NUL", WITH("\"encoding\":\"base64\\u0000\""), "encoding");
    REFUSED("encoding 1", WITH("\"encoding\":1"), "encoding");
    REFUSED("limits text", WITH("\"limits\":\"x\""), "limits");
    REFUSED("memory_mb 15", WITH("\"limits\":{\"memory_mb\":15}"), "memory_mb");
    REFUSED("pids 3", WITH("\"limits\":{\"pids\":3}"), "pids");
    REFUSED("policy 1", WITH("\"policy\":1"), "policy");
    REFUSED("policy of nothing", WITH("\"policy\":\"\""), "policy");
    REFUSED("cpu_ms 0", WITH("\"limits\":{\"cpu_ms\":0}"), "cpu_ms");
    REFUSED("timeout_ms 5001", WITH("\"limits\":{\"timeout_ms\":5001}"), "timeout_ms");
    REFUSED("max_output_bytes beyond", WITH("\"limits\":{\"max_output_bytes\":1048577}"),
            "max_output_bytes");
    REFUSED("max_output_bytes 1.5", WITH("\"limits\":{\"max_output_bytes\":1.5}"),
            "max_output_bytes");
}

/* A long string value behind a prefix; the caller frees. */
static char *long_body(const char *before, size_t n, const char *after)
{
    char *s = malloc(strlen(before) + n + strlen(after) + 1);
    if (!s)
        abort();
    memcpy(s, before, strlen(before));
    memset(s + strlen(before), 'x', n);
    memcpy(s + strlen(before) + n, after, strlen(after) + 1);
    return s;
}

static void test_sizes(void)
{
    static const struct {
        const char *before, *after, *names;
        size_t most;
    } cases[] = {
        {"{\"namespace_id\":\"a\",\"cmd\":\"", "\"}", "cmd", PROTO_CMD_BYTES_MAX},
        {"{\"cmd\":\"a\",\"namespace_id\":\"", "\"}", "namespace_id", PROTO_NS_ID_MAX},
        {"{\"cmd\":\"a\",\"namespace_id\":\"a\",\"cwd\":\"", "\"}", "cwd", PROTO_CWD_BYTES_MAX},
        {"{\"cmd\":\"a\",\"namespace_id\":\"a\",\"env\":{\"A\":\"", "\"}}", "env",
         PROTO_ENV_BYTES_MAX - 3},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_free char *fits = long_body(cases[i].before, cases[i].most, cases[i].after);
        auto_free char *beyond = long_body(cases[i].before, cases[i].most + 1, cases[i].after);
        int r = parse(fits, strlen(fits));
        ok(r == 0, "%s at its limit", cases[i].names);
        if (r == 0)
            parse_fini(&req);
        refused("one more", beyond, strlen(beyond), cases[i].names);
    }
}

static void test_accepted(void)
{
    static const char all[] =
        "{\"namespace_id\":\"a.b-c_1\",\"cmd\":\"echo "
        "\\u00e4\",\"stdin\":\"x\\u0000y\",\"env\":{\"A\":\"1\","
        "\"B\":\"\"},\"cwd\":\"/tmp\",\"timeout\":1.0005,\"encoding\":\"base64\",\"future\":[1],"
        "\"limits\":{\"cpu_ms\":100,\"timeout_ms\":4000,\"max_output_bytes\":10,\"other\":1}}";
    static const char least[] = "{\"namespace_id\":\"alice\",\"cmd\":\"\"}";
    if (ok(parse(all, sizeof all - 1) == 0, "everything: %s", refusal.text)) {
        ok(strcmp(req.cmd, "echo \xc3\xa4") == 0 && req.cmd_len == 7, "cmd");
        ok(req.input_len == 3 && memcmp(req.input, "x\0y", 3) == 0, "stdin with NUL");
        ok(req.env_count == 2 && strcmp(req.env[0].name, "A") == 0 && !*req.env[1].value, "env");
        ok(req.timeout_ms == 1001, "timeout is rounded up; the smaller of two counts");
        ok(req.cpu_ms == 100 && req.output_bytes_max == 10 && req.base64, "limits and encoding");
        parse_fini(&req);
    }
    if (ok(parse(least, sizeof least - 1) == 0, "the least: %s", refusal.text)) {
        ok(!req.input && !*req.cwd && !req.timeout_ms && !req.cpu_ms && !req.base64 &&
               !req.env_count && req.output_bytes_max == limits.output_bytes_max,
           "defaults");
        parse_fini(&req);
    }
}

static void test_programs(void)
{
    static const char body[] =
        "{\"language\":\"PY\",\"code\":\"print(1)\\u0000\",\"args\":[\"a\",\"\"],\"timeout\":2}";
    if (ok(parse(body, sizeof body - 1) == 0, "a program: %s", refusal.text)) {
        ok(strcmp(req.language, "python") == 0 && !req.compiles && !req.cmd && !*req.ns_id,
           "an alias in any case; no namespace");
        ok(req.code_len == 9 && memcmp(req.code, "print(1)", 9) == 0, "its code, any bytes");
        ok(req.arg_count == 2 && strcmp(req.args[0], "a") == 0 && !*req.args[1], "its arguments");
        ok(req.timeout_ms == 2000 && !req.artifact_files_max, "and limits");
        parse_fini(&req);
    }
    for (size_t n = 204800; n <= 204801; n++) {
        auto_free char *s = long_body("{\"language\":\"c++\",\"code\":\"", n, "\"}");
        int r = parse(s, strlen(s));
        ok((r == 0) == (n == 204800), "code of %zu bytes %s", n, r ? refusal.text : "");
        if (r == 0)
            parse_fini(&req);
    }
}

static void run_refused(const char *more, const char *names)
{
    char body[600];
    (void)snprintf(body, sizeof body, "{\"cmd\":\"true\",%s}", more);
    int r = run(body);
    ok(r == -1 && strstr(refusal.text, names), "%s: %s", more, refusal.text);
    if (r == 0)
        parse_fini(&req);
}

static void test_runs(void)
{
    static const struct {
        const char *name;
        unsigned long long least, most;
    } amounts[] = {{"timeout_ms", 1, 10000},
                   {"memory_mb", 16, 512},
                   {"cpu_ms", 1, 20000},
                   {"max_output_bytes", 1, 2097152},
                   {"max_artifact_bytes", 0, 20971520},
                   {"max_artifact_files", 0, 10}};
    for (size_t i = 0; i < ARRAY_LEN(amounts); i++) {
        const long long tries[] = {(long long)amounts[i].least - 1, (long long)amounts[i].least,
                                   (long long)amounts[i].most, (long long)amounts[i].most + 1};
        for (size_t k = 0; k < ARRAY_LEN(tries); k++) {
            char body[200], limit[32];
            (void)snprintf(body, sizeof body, "{\"cmd\":\"true\",\"limits\":{\"%s\":%lld}}",
                           amounts[i].name, tries[k]);
            (void)snprintf(limit, sizeof limit, "to %llu", amounts[i].most);
            int r = run(body);
            ok(r == (k == 1 || k == 2 ? 0 : -1), "%s %lld", amounts[i].name, tries[k]);
            if (r == 0)
                parse_fini(&req);
            else
                ok(strstr(refusal.text, amounts[i].name) && strstr(refusal.text, limit), "%s",
                   refusal.text);
        }
        (void)snprintf(refusal.text, sizeof refusal.text, "\"limits\":{\"%s\":\"1\"}",
                       amounts[i].name);
        auto_free char *wrong = strdup(refusal.text);
        run_refused(wrong, amounts[i].name);
    }
    run_refused("\"limits\":[]", "limits must be an object");
    run_refused("\"files\":{}", "files must be an array");
    run_refused("\"files\":[1]", "files[0] must be an object");
    run_refused("\"files\":[{\"id\":\"file_x\",\"path\":\"a\"},{\"path\":\"b\"}]", "files[1].id");
    static const char *const bad[] = {"",     "/etc/passwd", "..",   "../x",    "a/../b",   "./a",
                                      "a//b", "a/",          "a/..", "\\u0000", "a\\u0000b"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char text[100];
        (void)snprintf(text, sizeof text, "\"files\":[{\"id\":\"file_x\",\"path\":\"%s\"}]",
                       bad[i]);
        run_refused(text, "files[0].path");
    }
    run_refused("\"files\":[{\"id\":\"f\",\"path\":\"a\"},{\"id\":\"g\",\"path\":\"a\"}]",
                "the same as files[0].path");
    run_refused("\"files\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "at most 16");
    if (ok(run("{\"cmd\":\"true\",\"timeout\":\"x\",\"files\":[{\"id\":\"file_1\",\"path\":\"d/in."
               "csv\"}],\"limits\":{\"memory_mb\":64,\"max_artifact_files\":0}}") == 0,
           "a run: %s", refusal.text)) {
        ok(!*req.ns_id && strcmp(req.cmd, "true") == 0, "without a namespace");
        ok(req.memory_bytes == 64 << 20 && req.timeout_ms == 5000 && req.cpu_ms == 5000 &&
               req.output_bytes_max == 1 << 20 && req.artifact_bytes_max == 5 << 20 &&
               req.artifact_files_max == 0,
           "what it names, and the defaults");
        ok(req.file_count == 1 && strcmp(req.files[0].id, "file_1") == 0 &&
               strcmp(req.places[0], "d/in.csv") == 0,
           "its files");
        parse_fini(&req);
    }
}

static void test_languages(void)
{
    char names[12];
    lang_list_names(&languages, names, sizeof names);
    ok(strcmp(names, "python, c++") == 0, "a list that does not fit is cut: %s", names);
    ok(strcmp(languages.json,
              "[{\"name\":\"python\",\"aliases\":[\"py\",\"python3\"],\"version\":\"Python "
              "\\\"3\\\"\","
              "\"available\":true},{\"name\":\"c++x\",\"aliases\":[\"c++\"],\"version\":\"\","
              "\"available\":"
              "true},{\"name\":\"java\",\"aliases\":[],\"version\":\"\",\"available\":false}]\n") ==
           0,
       "GET /v1/languages: %s", languages.json);
    struct lang_list none = {0};
    lang_list_set(&none, &(struct proto_hello){0});
    lang_list_names(&none, names, sizeof names);
    ok(strcmp(none.json, "[]\n") == 0 && strcmp(names, "none") == 0, "no language at all");
    lang_list_fini(&none);
}

typedef size_t (*put_fn)(char *, size_t, const char *, size_t, size_t *);

static void comes_out(put_fn put, const char *what, const char *in, size_t len, const char *want)
{
    char out[256], pieces[256];
    size_t taken, n = put(out, sizeof out - 1, in, len, &taken), m = 0;
    out[n] = 0;
    ok(taken == len && strcmp(out, want) == 0, "%s: %s", what, out);
    for (size_t at = 0; at < len; at += taken)
        m += put(pieces + m, JSON_OUT_ROOM_MIN, in + at, len - at, &taken);
    ok(m == n && memcmp(out, pieces, n) == 0, "the same in small pieces");
}
#define TEXT(what, in, want) comes_out(json_out_text, what, in, sizeof(in) - 1, want)
#define BASE64(in, want) comes_out(json_out_base64, "base64", in, sizeof(in) - 1, want)
#define FFFD "\xef\xbf\xbd"

static void test_escaper(void)
{
    TEXT("nothing", "", "");
    TEXT("plain", "hello, world", "hello, world");
    TEXT("quote and backslash", "a\"b\\c/", "a\\\"b\\\\c/");
    TEXT("controls", "\b\t\n\f\r\x1f", "\\b\\t\\n\\f\\r\\u001f");
    TEXT("NUL", "a\0b", "a\\u0000b");
    TEXT("delete", "\x7f", "\x7f");
    TEXT("UTF-8", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
    TEXT("the borders", "\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf",
         "\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf");
    TEXT("never a first byte", "\x80\xc0\xc1\xf5\xff", FFFD FFFD FFFD FFFD FFFD);
    TEXT("too long forms", "\xc0\xaf\xe0\x80\xaf", FFFD FFFD FFFD FFFD FFFD);
    TEXT("a lone surrogate", "\xed\xa0\x80", FFFD FFFD FFFD);
    TEXT("beyond Unicode", "\xf4\x90\x80\x80", FFFD FFFD FFFD FFFD);
    TEXT("a character cut by another", "\xe2\x82(\xf0\x9f\x98\xc3\xa4", FFFD "(" FFFD "\xc3\xa4");
    TEXT("a character cut by the end", "a\xf0\x9f\x98", "a" FFFD);
    BASE64("", "");
    BASE64("f", "Zg==");
    BASE64("fo", "Zm8=");
    BASE64("foo", "Zm9v");
    BASE64("foobar", "Zm9vYmFy");
    BASE64("\0\xff\xfe\xed\xa0\x80", "AP/+7aCA");
}

static void job_refused(const char *more, const char *names)
{
    char body[800];
    (void)snprintf(body, sizeof body, "{\"language\":\"py\",\"code\":\"1\"%s}", more);
    int r = parse_job(body, strlen(body), &limits, &req, &refusal);
    ok(r == -1 && strstr(refusal.text, names), "%.60s: %s", more, refusal.text);
    if (r == 0)
        parse_fini(&req);
}

static void test_jobs(void)
{
    static const char body[] = "{\"language\":\"py\",\"code\":\"1\",\"input\":\"in\\u0000\","
                               "\"userId\":\"\xc3\xbc\",\"priority\":9,\"timeout\":2,\"extra\":[]}";
    char many[700] = ",\"userId\":\"";
    if (ok(parse_job(body, sizeof body - 1, &limits, &req, &refusal) == 0, "a job")) {
        ok(strcmp(req.language, "python") == 0 && req.input_len == 3 && req.timeout_ms == 2000,
           "its language, input and deadline");
        ok(strcmp(req.user, "\xc3\xbc") == 0 && req.priority == 9, "whose, and its priority");
        parse_fini(&req);
    }
    size_t at = strlen(many);
    for (int i = 0; i < 129; i++)
        at += (size_t)snprintf(many + at, sizeof many - at, "\xe2\x82\xac");
    (void)snprintf(many + at, sizeof many - at, "\"");
    job_refused(many, "userId has 129 characters");
    job_refused(",\"userId\":null", "userId must be a string");
    job_refused(",\"userId\":\"a\\u0000\"", "control characters");
    job_refused(",\"userId\":\"\xc2\x80\"", "control characters");
    job_refused(",\"priority\":10", "from 0 to 9");
    job_refused(",\"priority\":-1", "from 0 to 9");
    job_refused(",\"priority\":1.0", "from 0 to 9");
    job_refused(",\"cmd\":\"true\"", "cmd goes with");
    job_refused(",\"input\":1", "input must be a string");
    job_refused(",\"input\":\"\",\"stdin\":\"\"", "give one");
    job_refused(",\"timeout\":6", "timeout must be");
}

static void test_unfinished(void)
{
    static const struct {
        const char *text;
        size_t len, left;
    } cases[] = {{"", 0, 0},
                 {"a", 1, 0},
                 {"\xc3", 1, 1},
                 {"a\xe2\x82", 3, 2},
                 {"\xe2\x82\xac", 3, 0},
                 {"\xf0\x9f\x98", 3, 3},
                 {"x\xf0\x9f", 3, 2},
                 {"\x80\x80\x80", 3, 0},
                 {"\xc0", 1, 0},
                 {"\xff", 1, 0},
                 {"\xe0\x80", 2, 0},
                 {"\xed\xa0", 2, 0},
                 {"\xf4\x90", 2, 0},
                 {"\xe2(", 2, 0},
                 {"\xc3\xc3", 2, 1},
                 {"\xf0\x9f\x98\x80", 4, 0}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        ok(json_out_unfinished(cases[i].text, cases[i].len) == cases[i].left,
           "what is not complete at the end: case %zu", i);
}

static bool feeds(const char *body, const char *bytes, size_t len, bool eof)
{
    struct parse_stdin in;
    refusal = (struct parse_refusal){0};
    if (parse_stdin(body, strlen(body), &in, &refusal) < 0)
        return false;
    bool same = in.len == len && (len == 0 || memcmp(in.bytes, bytes, len) == 0) && in.eof == eof;
    free(in.bytes);
    return same;
}

static void test_feed(void)
{
    static const char *const bad[] = {
        "{}",
        "[]",
        "{\"stdin\":1}",
        "{\"eof\":1}",
        "{\"stdin\":\"\",\"encoding\":1}",
        "{\"stdin\":\"=\",\"encoding\":\"base64\"}",
        "{\"stdin\":\"====\",\"encoding\":\"base64\"}",
        "{\"stdin\":\"eA==eA==\",\"encoding\":\"base64\"}",
        "{\"stdin\":\"eB==\",\"encoding\":\"base64\"}",
        "{\"stdin\":\"Zm9\",\"encoding\":\"base64\"}",
        "{\"stdin\":\"Zm 9\",\"encoding\":\"base64\"}",
    };
    int number = 0;
    ok(feeds("{\"stdin\":\"a\\u0000b\"}", "a\0b", 3, false), "bytes for stdin");
    ok(feeds("{\"eof\":true}", "", 0, true), "its end");
    ok(feeds("{\"stdin\":\"AP/+\",\"encoding\":\"base64\",\"eof\":false}", "\0\xff\xfe", 3, false),
       "as base64");
    ok(feeds("{\"stdin\":\"Zg==\",\"encoding\":\"base64\"}", "f", 1, false), "padded");
    ok(feeds("{\"stdin\":\"\",\"encoding\":\"base64\"}", "", 0, false), "empty");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ok(!feeds(bad[i], "", 0, false) && refusal.text[0], "refused: %s", bad[i]);
    ok(parse_signal("{\"signal\":\"INT\"}", 16, &number, &refusal) == 0 && number == 2, "a signal");
    ok(parse_signal("{\"signal\":\"SIGTERM\"}", 20, &number, &refusal) == 0 && number == 15,
       "with SIG");
    ok(parse_signal("{\"signal\":\"SEGV\"}", 17, &number, &refusal) < 0, "not any");
}

int main(void)
{
    static const struct proto_language known[] = {
        {"python", {"py", "python3"}, 2, "Python \"3\"", true, false},
        {"c++x", {"c++"}, 1, "", true, true},
        {"java", {NULL}, 0, "", false, true}};
    lang_list_set(&languages, &(struct proto_hello){.languages = known, .language_count = 3});
    test_bodies();
    test_fields();
    test_sizes();
    test_accepted();
    test_programs();
    test_runs();
    test_languages();
    test_jobs();
    test_escaper();
    test_unfinished();
    test_feed();
    lang_list_fini(&languages);
    return tap_done();
}
