/* SPDX-License-Identifier: Apache-2.0 */
/* t/unit/decode - the door of protocol/: each limit of a field at its value and one beyond it,
 * bytes that are no message, text that hides something, and which names a request may use. The wire
 * is written by hand here, since our encoder does not make such messages.
 */
#include "lib/arena.h"
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/tap.h"
#include "protocol/protocol.h"
#include <signal.h>

static char storage[PROTO_ARENA_BYTES] __attribute__((aligned(16)));
static struct arena arena;
static struct proto_msg got;
static struct err err;
static struct buf wire = {.cap = 4u << 20};
static char fill[PROTO_MESSAGE_BYTES_MAX + 1];

/* ---- writing the wire -------------------------------------------------------------------------
 */

static void put_varint(struct buf *b, uint64_t v)
{
    do {
        uint8_t byte = (uint8_t)((v & 127) | (v > 127 ? 128 : 0));
        (void)buf_add(b, &byte, 1);
        v >>= 7;
    } while (v);
}

static void put_u64(struct buf *b, unsigned field, uint64_t v)
{
    put_varint(b, field << 3);
    put_varint(b, v);
}

static void put_bytes(struct buf *b, unsigned field, const void *bytes, size_t len)
{
    put_varint(b, field << 3 | 2);
    put_varint(b, len);
    (void)buf_add(b, bytes, len);
}
#define PUT(field, text) put_bytes(&wire, field, "" text, sizeof(text) - 1)

static void put_env(const char *name, size_t value_len)
{
    struct buf var = {.cap = 1u << 20};
    put_bytes(&var, 1, name, strlen(name));
    put_bytes(&var, 2, fill, value_len);
    put_bytes(&wire, 4, var.data, var.len);
    buf_fini(&var);
}

/* An Execute that is fine as it is; what a test adds behind it counts (the last of a field wins).
 */
static void begin(void)
{
    wire.len = 0;
    PUT(2, "alice");
    PUT(3, "true");
}

static int decode(enum proto_type type)
{
    err = (struct err){0};
    arena_init(&arena, storage, sizeof storage);
    return proto_decode(type, wire.data, wire.len, &arena, &got, &err);
}

static void accepted(enum proto_type type, const char *what)
{
    ok(decode(type) == 0 && !wire.failed, "%s%s%s", what, err.code ? ": " : "", err.text);
}

static void refused(enum proto_type type, const char *names, const char *what)
{
    ok(decode(type) == -EPROTO && err.code == -EPROTO && strstr(err.text, names) && !wire.failed,
       "%s: %s", what, err.text);
}

/* ---- limits -----------------------------------------------------------------------------------
 */

static void test_lengths(void)
{
    static const struct {
        unsigned field;
        size_t max;
        const char *name;
    } limits[] = {
        {2, PROTO_NS_ID_MAX, "namespace_id"}, {3, PROTO_CMD_BYTES_MAX, "cmd"},
        {5, PROTO_CWD_BYTES_MAX, "cwd"},      {8, PROTO_REQUEST_ID_MAX, "request_id"},
        {9, PROTO_POLICY_NAME_MAX, "policy"},
    };
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        begin();
        put_bytes(&wire, limits[i].field, fill, limits[i].max);
        ok(decode(PROTO_EXECUTE) == 0, "%s of %zu bytes", limits[i].name, limits[i].max);
        begin();
        put_bytes(&wire, limits[i].field, fill, limits[i].max + 1);
        refused(PROTO_EXECUTE, limits[i].name, "... and one more");
    }
    begin();
    put_u64(&wire, 6, PROTO_TIMEOUT_MS_MAX);
    put_u64(&wire, 7, PROTO_TIMEOUT_MS_MAX);
    accepted(PROTO_EXECUTE, "a day of time");
    put_u64(&wire, 6, PROTO_TIMEOUT_MS_MAX + 1);
    refused(PROTO_EXECUTE, "timeout_ms", "... and a millisecond");
    begin();
    put_u64(&wire, 7, UINT64_MAX);
    refused(PROTO_EXECUTE, "cpu_ms", "2^64 - 1 ms of processor");
    wire.len = 0;
    PUT(2, "alice");
    ok(decode(PROTO_EXECUTE) == 0 && got.execute.cmd_len == 0 && got.execute.cmd[0] == 0 &&
           got.execute.cwd[0] == 0 && got.execute.request_id[0] == 0 && got.execute.env_count == 0,
       "fields that are not there are empty, not NULL");
    wire.len = 0;
    accepted(PROTO_EXECUTE, "no namespace: a fresh one");
    put_u64(&wire, 12, PROTO_FILES);
    refused(PROTO_EXECUTE, "namespace_id", "files are of a namespace");
}

static void test_env(void)
{
    begin();
    for (unsigned i = 0; i < PROTO_ENV_COUNT_MAX; i++)
        put_env("A", 1);
    accepted(PROTO_EXECUTE, "256 variables");
    put_env("A", 1);
    refused(PROTO_EXECUTE, "env", "... and one more");
    begin();
    put_env("A", PROTO_ENV_BYTES_MAX - 3);
    accepted(PROTO_EXECUTE, "64 KiB of environment");
    begin();
    put_env("A", PROTO_ENV_BYTES_MAX - 2);
    refused(PROTO_EXECUTE, "env", "... and one byte");
    begin();
    put_env("A", PROTO_ENV_BYTES_MAX - 6);
    put_env("B", 1);
    refused(PROTO_EXECUTE, "env", "... in two variables");
    begin();
    put_env("", 1);
    refused(PROTO_EXECUTE, "env", "a variable without a name");
    begin();
    put_env("BASH_ENV", 1);
    refused(PROTO_EXECUTE, "BASH_ENV", "a name that is refused");
    begin();
    put_env("A", 0);
    ok(decode(PROTO_EXECUTE) == 0 && got.execute.env[0].value[0] == 0, "an empty value");
}

static void put_layers(size_t count, uint64_t state)
{
    struct buf layer = {.cap = 4096};
    wire.len = 0;
    put_bytes(&layer, 1, "netns", 5);
    put_u64(&layer, 2, state);
    for (size_t i = 0; i < count; i++)
        put_bytes(&wire, 23, layer.data, layer.len);
    buf_fini(&layer);
}

static void put_entries(size_t count, const char *name)
{
    struct buf entry = {.cap = 1000};
    put_bytes(&entry, 1, name, strlen(name));
    wire.len = 0;
    for (size_t i = 0; i < count; i++)
        put_bytes(&wire, 2, entry.data, entry.len);
    buf_fini(&entry);
}

static void test_lists(void)
{
    char id[PROTO_NS_ID_MAX + 1];
    memset(id, 'n', sizeof id - 1);
    id[sizeof id - 1] = 0;
    put_entries(PROTO_LIST_MAX, id);
    accepted(PROTO_NS_LIST, "a list of 1000 names of 64 characters");
    put_entries(PROTO_LIST_MAX + 1, "n");
    refused(PROTO_NS_LIST, "list", "... and one more");
    put_entries(1, "../x");
    refused(PROTO_NS_LIST, "namespace_id", "a list of what is no namespace");
    put_layers(PROTO_LAYERS_MAX, PROTO_ABSENT);
    accepted(PROTO_HELLO, "64 layers");
    put_layers(PROTO_LAYERS_MAX + 1, PROTO_HELD);
    refused(PROTO_HELLO, "layers", "... and one more");
    put_layers(1, PROTO_LAYER_STATES);
    refused(PROTO_HELLO, "layer", "a layer in no known state");
    put_entries(PROTO_LIST_MAX, "figure");
    accepted(PROTO_STATS, "1000 figures");
    put_entries(PROTO_LIST_MAX + 1, "figure");
    refused(PROTO_STATS, "stats", "... and one more");
    wire.len = 0;
    put_bytes(&wire, 2, fill, PROTO_NS_ID_MAX);
    accepted(PROTO_NS_LIST_REQUEST, "a list after a name of 64 characters");
    wire.len = 0;
    put_bytes(&wire, 2, fill, PROTO_NS_ID_MAX + 1);
    refused(PROTO_NS_LIST_REQUEST, "after", "... and one more");
    wire.len = 0;
    PUT(2, ".x");
    refused(PROTO_NS_REMOVE, "namespace_id", "removing what is no namespace");
}

static void put_session(enum proto_type type, const char *ns_id, const char *name,
                        uint64_t companion)
{
    bool is_run = type == PROTO_EXECUTE;
    wire.len = 0;
    put_bytes(&wire, 2, ns_id, strlen(ns_id));
    put_bytes(&wire, is_run ? 30 : 3, name, strlen(name));
    put_u64(&wire, is_run ? 31 : 4, companion);
}

static void put_session_entries(size_t count, const char *name)
{
    struct buf entry = {.cap = 1000};
    put_bytes(&entry, 1, name, strlen(name));
    put_u64(&entry, 2, PROTO_COMPANION_SESSION);
    wire.len = 0;
    for (size_t i = 0; i < count; i++)
        put_bytes(&wire, 2, entry.data, entry.len);
    buf_fini(&entry);
}

static void test_companions(void)
{
    static const enum proto_type types[] = {PROTO_EXECUTE, PROTO_SESSION_CLOSE};
    char name[PROTO_SESSION_MAX + 2] = "";
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        memset(name, '.', PROTO_SESSION_MAX);
        name[PROTO_SESSION_MAX] = 0;
        put_session(types[i], "alice", name, PROTO_COMPANION_SESSION);
        accepted(types[i], "a session with a name of 64 characters");
        name[PROTO_SESSION_MAX] = '.';
        put_session(types[i], "alice", name, PROTO_COMPANION_SESSION);
        refused(types[i], "session", "... and one more");
        put_session(types[i], "alice", "", PROTO_COMPANION_SESSION);
        refused(types[i], "session", "one without a name");
        put_session(types[i], "alice", "a/b", PROTO_COMPANION_TERMINAL);
        refused(types[i], "session", "a name with a slash");
        put_session(types[i], "alice", "a", PROTO_COMPANIONS);
        refused(types[i], "companion", "an unknown companion");
        put_session(types[i], "alice", "a", PROTO_COMPANION_NONE);
        refused(types[i], "companion", "a name of nothing");
        put_session(types[i], "", "a", PROTO_COMPANION_SESSION);
        refused(types[i], "namespace_id", "a session of no namespace");
    }
    put_session(PROTO_EXECUTE, "alice", "a", PROTO_COMPANION_TERMINAL);
    put_u64(&wire, 12, PROTO_TERMINAL);
    accepted(PROTO_EXECUTE, "a terminal");
    put_u64(&wire, 31, PROTO_COMPANION_SESSION);
    refused(PROTO_EXECUTE, "companion", "a terminal in a session");
    begin();
    put_u64(&wire, 12, PROTO_TERMINAL);
    refused(PROTO_EXECUTE, "cmd", "a terminal with a command");
    put_session(PROTO_EXECUTE, "alice", "a", PROTO_COMPANION_SESSION);
    put_u64(&wire, 16, 1);
    refused(PROTO_EXECUTE, "companion", "a session with artifacts");
    put_session_entries(2 * PROTO_SESSIONS_MAX, "a");
    accepted(PROTO_SESSION_LIST, "a list of 128 sessions and terminals");
    put_session_entries(2 * PROTO_SESSIONS_MAX + 1, "a");
    refused(PROTO_SESSION_LIST, "sessions", "... and one more");
    put_session_entries(1, "");
    refused(PROTO_SESSION_LIST, "session", "a list of nothing");
    wire.len = 0;
    PUT(2, "alice");
    put_u64(&wire, 3, PROTO_COMPANIONS - 1);
    accepted(PROTO_SESSION_LIST_REQUEST, "terminals are asked for");
    put_u64(&wire, 3, PROTO_COMPANIONS);
    refused(PROTO_SESSION_LIST_REQUEST, "companion", "... and what is unknown");
    wire.len = 0;
    PUT(2, "/x");
    refused(PROTO_SESSION_LIST_REQUEST, "namespace_id", "sessions of what is no namespace");
}

static void put_denied(const char *name)
{
    struct buf one = {.cap = 4096};
    put_bytes(&one, 1, name, strlen(name));
    put_u64(&one, 2, 3);
    put_bytes(&wire, 16, one.data, one.len);
    buf_fini(&one);
}

static void test_denied(void)
{
    static const char *const bad[] = {
        "", "Mount", "a b", "a\"b", "a-b", "\303\251", "a234567890123456789012345678901_"};
    wire.len = 0;
    for (unsigned i = 0; i < PROTO_DENIED_MAX; i++)
        put_denied("a234567890123456789012345678901");
    accepted(PROTO_RESULT, "16 denied calls with names of 31 characters");
    ok(got.result.denied_count == 16 && got.result.denied[15].times == 3 &&
           strlen(got.result.denied[15].syscall) == 31,
       "are there");
    put_denied("mount");
    refused(PROTO_RESULT, "denied", "... and one more");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        wire.len = 0;
        put_denied(bad[i]);
        refused(PROTO_RESULT, "denied", "no name of a call");
    }
}

static void test_enumerators(void)
{
    static const struct {
        enum proto_type type;
        unsigned field;
        uint64_t count;
        const char *name;
    } enums[] = {
        {PROTO_RESULT, 2, PROTO_OUTCOMES, "outcome"},
        {PROTO_RESULT, 7, PROTO_REASONS, "reason"},
        {PROTO_RESULT, 15, PROTO_STARTS, "start"},
        {PROTO_DONE, 2, PROTO_OUTCOMES, "outcome"},
    };
    for (size_t i = 0; i < ARRAY_LEN(enums); i++) {
        wire.len = 0;
        put_u64(&wire, enums[i].field, enums[i].count - 1);
        ok(decode(enums[i].type) == 0, "the last %s", enums[i].name);
        wire.len = 0;
        put_u64(&wire, enums[i].field, enums[i].count);
        refused(enums[i].type, enums[i].name, "... and the next");
    }
    wire.len = 0;
    for (int type = -1; type <= 300; type++)
        if ((type < PROTO_HELLO || type > PROTO_DONE) && type != PROTO_POLICY_REQUEST &&
            type != PROTO_WAITING &&
            (type < PROTO_SESSION_LIST_REQUEST || type > PROTO_SESSION_CLOSE))
            if (decode((enum proto_type)type) != -EPROTO)
                ok(false, "type %d is refused", type);
    ok(true, "unknown types are refused");
}

/* ---- bytes that are no message, or hide something ----------------------------------------------
 */

static void test_sizes(void)
{
    wire.len = 0;
    put_bytes(&wire, 99, fill, PROTO_MESSAGE_BYTES_MAX - 5);
    ok(wire.len == PROTO_MESSAGE_BYTES_MAX, "a message as long as allowed");
    accepted(PROTO_CANCEL, "... is decoded; unknown fields are skipped");
    (void)buf_add(&wire, "\x08\x01", 2);
    refused(PROTO_CANCEL, "allowed", "a longer one is not");
    wire.len = 0;
    for (size_t i = 0; i < 200000; i++)
        PUT(2, "");
    refused(PROTO_STATS, "decoded", "400 KB of empty entries");
    begin();
    arena_init(&arena, storage, 64);
    ok(proto_decode(PROTO_EXECUTE, wire.data, wire.len, &arena, &got, &err) == -EPROTO,
       "a small arena: %s", err.text);
    ok(arena.used <= 64, "... is not left");
}

static void test_nul(void)
{
    static const unsigned fields[] = {2, 3, 5, 8};
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        begin();
        put_bytes(&wire, fields[i], "ab\0c", 4);
        refused(PROTO_EXECUTE, "NUL", "a NUL inside a text");
    }
    begin();
    put_bytes(&wire, 4,
              "\x0a\x03"
              "A\0B",
              5);
    refused(PROTO_EXECUTE, "NUL", "a NUL in the name of a variable");
    begin();
    put_bytes(&wire, 4,
              "\x0a\x01"
              "A"
              "\x12\x03"
              "x\0y",
              8);
    refused(PROTO_EXECUTE, "NUL", "a NUL in its value");
    wire.len = 0;
    PUT(2, "alice\0");
    PUT(2, "alice");
    PUT(3, "true");
    refused(PROTO_EXECUTE, "NUL", "a NUL in a text that a later one replaces");
    wire.len = 0;
    PUT(2, "bob\0x");
    refused(PROTO_NS_REMOVE, "NUL", "a NUL in the name to remove");
}

static void test_broken(void)
{
    unsigned accepted_prefixes = 0;
    begin();
    put_env("A", 3);
    put_u64(&wire, 6, 1500);
    size_t whole = wire.len;
    for (size_t len = 0; len <= whole; len++) {
        char *exact = malloc(len + 1); /* asan sees a read beyond it */
        if (!exact)
            return;
        memcpy(exact, wire.data, len);
        arena_init(&arena, storage, sizeof storage);
        int r = proto_decode(PROTO_EXECUTE, exact, len, &arena, &got, &err);
        accepted_prefixes += r == 0;
        free(exact);
        if (r != 0 && r != -EPROTO)
            ok(false, "cut after %zu bytes: %d", len, r);
    }
    ok(accepted_prefixes == 5, "cut anywhere else than between fields it is refused");
    begin();
    put_u64(&wire, 3, 1);
    refused(PROTO_EXECUTE, "not a valid message", "a number where bytes belong");
    begin();
    (void)buf_add(&wire, "\x33\x34", 2);
    refused(PROTO_EXECUTE, "not a valid message", "a group");
    begin();
    (void)buf_add(&wire, "\x30\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12);
    refused(PROTO_EXECUTE, "not a valid message", "a number without an end");
    begin();
    (void)buf_add(&wire, "\x1a\xff\xff\xff\xff\x0f", 6);
    refused(PROTO_EXECUTE, "not a valid message", "a length of 4 GiB");
    begin();
    put_varint(&wire, (1ull << 35) | (3 << 3) | 2);
    (void)buf_add(&wire,
                  "\x03"
                  "a\0b",
                  4);
    refused(PROTO_EXECUTE, "not a valid message", "a field number beyond 32 bits");
    struct buf nested = {.cap = 1u << 20};
    for (unsigned i = 0; i < 10000; i++)
        put_varint(&nested, 4 << 3 | 2);
    begin();
    put_bytes(&wire, 4, nested.data, nested.len);
    refused(PROTO_EXECUTE, "not a valid message", "10,000 levels");
    buf_fini(&nested);
}

/* ---- names ------------------------------------------------------------------------------------
 */

static void test_ns_ids(void)
{
    static const char *const good[] = {"a", "alice", "A.b-c_9", "_", "0", "a.", "a..b"};
    static const char *const bad[] = {"",     ".",   "..",       "-",   ".x",  "-x", "a/b",
                                      "../x", "a b", "\xc3\xa4", "a\n", "a\\", "~",  "a:b"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        ok(proto_ns_id_is_valid(good[i], strlen(good[i])), "namespace %s", good[i]);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ok(!proto_ns_id_is_valid(bad[i], strlen(bad[i])), "bad namespace %zu", i);
    ok(!proto_ns_id_is_valid("a\0b", 3) && !proto_ns_id_is_valid("a", 2), "no NUL in it");
    ok(proto_ns_id_is_valid(fill, 64) && !proto_ns_id_is_valid(fill, 65), "64 characters, not 65");
}

static void test_env_names(void)
{
    static const char *const good[] = {"A",  "HOME", "PATH", "LANG",   "LC_ALL", "TZ",  "a.b",
                                       "1a", "x-y",  "BAS",  "MYBASH", "LDX",    "PS1", "__"};
    static const char *const bad[] = {
        "",           "BASH",     "BASH_ENV", "BASH_FUNC_x%%", "BASHOPTS",
        "LD_PRELOAD", "LD_",      "ENV",      "SHELLOPTS",     "POSIXLY_CORRECT",
        "GLOBIGNORE", "PS4",      "IFS",      "PWD",           "PROMPT_COMMAND",
        "OLDPWD",     "SHLVL",    "_",        "PPID",          "UID",
        "EUID",       "GROUPS",   "RANDOM",   "SRANDOM",       "SECONDS",
        "LINENO",     "FUNCNAME", "DIRSTACK", "OPTIND",        "A=B",
        "A B",        "\xc3\xa4", "A\n",      "A\x7f"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        ok(!proto_env_name_refused(good[i], strlen(good[i])), "%s may be set", good[i]);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        const char *why = proto_env_name_refused(bad[i], strlen(bad[i]));
        ok(why && *why, "variable %zu may not: %s", i, why ? why : "?");
    }
    ok(proto_env_name_refused("A\0B", 3), "no NUL in a name");
    ok(!proto_env_name_refused(fill, 255) && proto_env_name_refused(fill, 256),
       "255 bytes, not 256");
}

static void test_words(void)
{
    bool all = true;
    for (int i = 0; i < PROTO_OUTCOMES; i++)
        all = all && *proto_outcome_name((enum proto_outcome)i);
    for (int i = 0; i < PROTO_REASONS; i++)
        all = all && *proto_reason_name((enum proto_reason)i);
    for (int i = 0; i < PROTO_STARTS; i++)
        all = all && *proto_start_name((enum proto_start)i);
    ok(all, "every enumerator has its word");
    ok(strcmp(proto_reason_name(PROTO_REASON_CPU_LIMIT), "cpu_limit") == 0 &&
           strcmp(proto_start_name(PROTO_START_SPARE), "spare") == 0 &&
           strcmp(proto_outcome_name(PROTO_QUEUE_FULL), "queue_full") == 0,
       "and it is the API's");
    ok(!proto_signal_name(0) && strcmp(proto_signal_name(SIGKILL), "KILL") == 0 &&
           strcmp(proto_signal_name(SIGRTMIN), "RTMIN") == 0 &&
           strcmp(proto_signal_name(SIGRTMIN + 3), "RTMIN+3") == 0,
       "signals are named without SIG");
}

int main(void)
{
    memset(fill, 'x', sizeof fill);
    test_lengths();
    test_env();
    test_lists();
    test_companions();
    test_denied();
    test_enumerators();
    test_sizes();
    test_nul();
    test_broken();
    test_ns_ids();
    test_env_names();
    test_words();
    buf_fini(&wire);
    return tap_done();
}
