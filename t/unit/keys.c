/* SPDX-License-Identifier: Apache-2.0 */
/* t/unit/keys - key files and API_KEYS: what they become, what is refused and how that is named;
 * whose token a header holds; what a bucket lets through. */
#include "keys/keys.h"
#include "keys/block.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/tap.h"
#include <pthread.h>
#include <stdatomic.h>

#define S ((uint64_t)1000000000)
#define HASH_A "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb" /* of "a" */
#define HASH_B "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d" /* of "b" */

static struct err err;

static int read_text(const char *text, struct key_list *list)
{
    err = (struct err){0};
    *list = (struct key_list){0};
    int r = keys_read_file(text, strlen(text), "k.yaml", list, &err);
    return r < 0 ? r : keys_check_list(list, &err);
}

static struct key_set *make(const struct key_list *list, const struct key_set *old)
{
    struct key_set *set = NULL;
    auto_close int fd = keys_seal(list, &err);
    if (fd < 0 || keys_load(fd, old, &set, &err) < 0)
        die(1, "%s", err.text);
    return set;
}

static struct key_set *make_from(const char *text, const struct key_set *old)
{
    struct key_list list;
    if (read_text(text, &list) < 0)
        die(1, "%s", err.text);
    struct key_set *set = make(&list, old);
    keys_list_fini(&list);
    return set;
}

static struct key_bucket_state bucket;

/* The verdict; the label goes to `label`. */
static char label[KEY_LABEL_MAX + 1];
static enum key_verdict ask_at(const struct key_set *set, const char *header, uint64_t now_ns,
                               int64_t now_ms)
{
    const struct key *key;
    enum key_verdict v =
        keys_check(set, header, header ? strlen(header) : 0, now_ns, now_ms, &key, &bucket);
    (void)snprintf(label, sizeof label, "%s", key ? key->label : "");
    key_unref(key);
    return v;
}

static enum key_verdict ask(const struct key_set *set, const char *header)
{
    return ask_at(set, header, S, 1);
}

static void refused(const char *text, const char *part, const char *what)
{
    struct key_list list;
    ok(read_text(text, &list) < 0 && err.code < 0 && strstr(err.text, part) &&
           (strstr(err.text, "expected") || strstr(err.text, "missing") ||
            strstr(err.text, "twice") || strstr(err.text, "the same")),
       "%s is refused: %s", what, err.text);
    keys_list_fini(&list);
}

#define KEY(more) "keys:\n  - label: a\n    sha256: " HASH_A "\n    scopes: [runs]\n" more

static void test_file(void)
{
    struct key_list list;
    ok(read_text("", &list) == 0 && list.count == 0, "an empty file has no keys");
    ok(read_text("keys:\n", &list) == 0 && list.count == 0, "nor has an empty list");
    ok(read_text("keys:\n"
                 "  # of the machine\n"
                 "  - label: ci@host\n"
                 "    sha256: " HASH_A "\n"
                 "    rate: 2.5\n"
                 "    scopes: [execute, files]\n"
                 "    namespaces: ci-*\n"
                 "    expires: 2027-01-01T00:00:00Z\n"
                 "    policy: tight\n"
                 "    limits: {timeout_ms: 5000, memory_mb: 128, cpu_ms: 900}\n"
                 "\n"
                 "  - {label: b, sha256: " HASH_B ", scopes: [admin]}\n",
                 &list) == 0 &&
           list.count == 2,
       "a file of two %s", err.text);
    const struct key *k = &list.at[0].key;
    ok(strcmp(k->label, "ci@host") == 0 && k->rate == 2.5 && k->burst == 3 &&
           k->scopes == (KEY_EXECUTE | KEY_FILES) && strcmp(k->namespaces, "ci-*") == 0 &&
           k->expires_ms == 1798761600000 && strcmp(k->policy, "tight") == 0 &&
           k->timeout_ms_max == 5000 && k->memory_bytes_max == 128u << 20 && k->cpu_ms_max == 900,
       "every member; the burst is a second's");
    ok(list.at[0].line == 3 && list.at[0].line_end >= 11 && list.at[0].column == 5 &&
           list.at[1].line == 12,
       "and where it stands: %u-%u:%u", list.at[0].line, list.at[0].line_end, list.at[0].column);
    k = &list.at[1].key;
    ok(k->rate <= 0 && k->burst == 0 && strcmp(k->namespaces, "*") == 0 && !*k->policy &&
           k->expires_ms == 0,
       "what is not there is no limit");
    keys_list_fini(&list);
}

static void test_refusals(void)
{
    refused("- a\n", "k.yaml:1: the file", "a list");
    refused("keyz: []\n", "k.yaml:1: keyz", "an unknown top");
    refused("keys: {}\n", "k.yaml:1: keys", "a mapping for the list");
    refused("keys: [a]\n", "k.yaml:1: keys", "a word for a key");
    refused(KEY("    colour: red\n"), "k.yaml:5: keys: unknown key colour", "an unknown member");
    refused(KEY("    label: b\n"), "k.yaml:5: keys: label stands twice", "a repeated member");
    refused("keys:\n  - label: a\n    scopes: [runs]\n", "sha256 is missing", "no hash");
    refused("keys:\n  - sha256: " HASH_A "\n    scopes: [runs]\n", "label is missing", "no label");
    refused("keys:\n  - label: a\n    sha256: " HASH_A "\n", "scopes is missing", "no scopes");
    refused("keys:\n  - label: a\n    sha256: brood_secret\n", "k.yaml:3: sha256", "a token");
    ok(!strstr(err.text, "secret"), "... which is not repeated");
    refused("keys:\n  - label: a b\n", "k.yaml:2: label", "a label with a blank");
    refused(KEY("    rate: fast\n"), "k.yaml:5: rate", "a rate in words");
    refused(KEY("    rate: -1\n"), "k.yaml:5: rate", "a negative rate");
    refused(KEY("    rate: 0.0001\n"), "k.yaml:5: rate", "next to nothing");
    refused(KEY("    rate: 1\n    burst: 0\n"), "k.yaml:6: burst", "a burst of 0");
    refused(KEY("    burst: 5\n"), "burst: expected a rate", "a burst without a rate");
    refused(KEY("    namespaces: '*x'\n"), "k.yaml:5: namespaces", "a star in front");
    refused(KEY("    namespaces: [a, b]\n"), "k.yaml:5: namespaces", "a list of namespaces");
    refused(KEY("    namespaces: ../x*\n"), "k.yaml:5: namespaces", "a path");
    refused(KEY("    expires: tomorrow\n"), "k.yaml:5: expires", "no time");
    refused(KEY("    expires: 2027-02-30T00:00:00Z\n"), "k.yaml:5: expires", "no such day");
    refused(KEY("    expires: 2027-01-01T00:00:00\n"), "k.yaml:5: expires", "no zone");
    refused(KEY("    policy: 'a b'\n"), "k.yaml:5: policy", "no name of a policy");
    refused(KEY("    limits: {pids: 3}\n"), "k.yaml:5: limits: unknown key pids", "another limit");
    refused(KEY("    limits: {memory_mb: 0}\n"), "k.yaml:5: limits.memory_mb", "a ceiling of 0");
    refused(KEY("  - label: b\n    sha256: " HASH_B "\n    scopes: [everything]\n"),
            "k.yaml:7: scopes", "an unknown scope");
    refused(KEY("  - label: a\n    sha256: " HASH_B "\n    scopes: [runs]\n"),
            "the label a stands twice", "a label that is taken");
    refused(KEY("  - label: b\n    sha256: " HASH_A "\n    scopes: [runs]\n"), "the same token",
            "a token that is taken");
    refused(KEY("---\nkeys:\n"), "k.yaml:6: expected one document", "a second document");
    refused("keys: [\n", "not YAML", "no YAML");
}

static void test_times(void)
{
    int64_t ms = 0;
    ok(key_parse_time("1970-01-01T00:00:01Z", &ms) == 0 && ms == 1000, "seconds");
    ok(key_parse_time("2024-02-29T23:59:59.1239Z", &ms) == 0 && ms == 1709251199123, "fractions");
    ok(key_parse_time("2024-03-01T02:00:00+02:00", &ms) == 0 && ms == 1709251200000, "offsets");
    static const char *const not [] = {"",
                                       "2024",
                                       "2024-02-29",
                                       "2023-02-29T00:00:00Z",
                                       "2024-02-29T24:00:00Z",
                                       "2024-02-29T00:00:00+2:00",
                                       "2024-02-29T00:00:00.Z",
                                       "2024-02-29T00:00:00Zz"};
    for (size_t i = 0; i < ARRAY_LEN(not ); i++)
        ok(key_parse_time(not [i], &ms) < 0, "\"%s\" is none", not [i]);
}

static int read_list(const char *text, struct key_list *list)
{
    static char copy[1024];
    (void)snprintf(copy, sizeof copy, "%s", text);
    err = (struct err){0};
    *list = (struct key_list){0};
    int r = keys_read_list(copy, list, &err);
    for (size_t i = 0; i < strlen(text); i++)
        if (copy[i])
            die(1, "API_KEYS was not wiped");
    return r;
}

static void test_list(void)
{
    struct key_list list;
    ok(read_list("sixteen-letters-a:alice:2:5, sixteen-letters-b:bob,sixteen-letters-c:c:0.5",
                 &list) == 0 &&
           list.count == 3,
       "three keys %s", err.text);
    ok(list.at[0].key.rate == 2 && list.at[0].key.burst == 5 && list.at[1].key.burst == 0 &&
           list.at[2].key.burst == 1,
       "rates and bursts");
    ok(!key_has(&list.at[0].key, KEY_ADMIN) &&
           key_has(&list.at[0].key, KEY_EXECUTE | KEY_RUNS | KEY_FILES | KEY_NAMESPACES) &&
           key_may_use(&list.at[0].key, "anything"),
       "all scopes but admin, all namespaces");
    struct key_set *set = make(&list, NULL);
    ok(ask(set, "Bearer sixteen-letters-b") == KEY_OK && strcmp(label, "bob") == 0, "it opens");
    keys_unref(set);
    keys_list_fini(&list);
    static const char *const not [] = {"short:alice",
                                       "sixteen-letters-a",
                                       "sixteen-letters-a:",
                                       "sixteen-letters-a:a b",
                                       "sixteen-letters-a:a:fast",
                                       "sixteen-letters-a:a:1:-1",
                                       "sixteen-letters-a:a:1:1:1",
                                       "sixteen-letters-\x01:a"};
    for (size_t i = 0; i < ARRAY_LEN(not ); i++) {
        ok(read_list(not [i], &list) < 0 && strstr(err.text, "entry 1") &&
               strstr(err.text, "expected") && !strstr(err.text, "sixteen-letters"),
           "refused without its token: %s", err.text);
        keys_list_fini(&list);
    }
}

static void test_headers(void)
{
    char long_one[KEY_TOKEN_MAX + 32];
    struct key_set *set =
        make_from("keys:\n  - {label: a, sha256: " HASH_A ", scopes: [runs]}\n", NULL);
    static const char *const fine[] = {"Bearer a", "bearer a", "BEARER   a", "Bearer a  "};
    for (size_t i = 0; i < ARRAY_LEN(fine); i++)
        ok(ask(set, fine[i]) == KEY_OK && strcmp(label, "a") == 0, "\"%s\"", fine[i]);
    static const char *const not [] = {"",           "Bearer",    "Bearer ",    "Bearera",
                                       "Basic a",    "a",         "Bearer a b", "Bearer\ta",
                                       "Bearer A",   "Bearer aa", " Bearer a",  "Bearer a\x7f",
                                       "Bearer \x80"};
    for (size_t i = 0; i < ARRAY_LEN(not ); i++)
        ok(ask(set, not [i]) == KEY_WRONG && !*label, "\"%s\" is wrong", not [i]);
    ok(ask(set, NULL) == KEY_MISSING, "none is missing");
    const struct key *key;
    ok(keys_check(set, "Bearer a\0b", 10, S, 1, &key, &bucket) == KEY_WRONG, "a NUL is no end");
    memset(long_one, 'a', sizeof long_one);
    memcpy(long_one, "Bearer ", 7);
    ok(keys_check(set, long_one, sizeof long_one, S, 1, &key, &bucket) == KEY_WRONG,
       "too long a token");
    keys_unref(set);
}

static void test_rights(void)
{
    struct key k = {.scopes = KEY_RUNS, .namespaces = "ci-*"};
    ok(key_has(&k, KEY_RUNS) && !key_has(&k, KEY_RUNS | KEY_FILES) && !key_has(&k, KEY_ADMIN),
       "a scope is what it is");
    ok(key_may_use(&k, "ci-") && key_may_use(&k, "ci-1") && !key_may_use(&k, "ci") &&
           !key_may_use(&k, "CI-1") && !key_may_use(&k, "xci-1") && !key_may_use(&k, "*"),
       "a prefix is a prefix");
    ok(key_may_use(&k, ""), "a fresh namespace is nobody's");
    (void)snprintf(k.namespaces, sizeof k.namespaces, "ci");
    ok(key_may_use(&k, "ci") && !key_may_use(&k, "ci-1") && !key_may_use(&k, "c"), "a whole name");
    k.scopes = KEY_ADMIN;
    ok(key_has(&k, KEY_RUNS | KEY_FILES) && key_may_use(&k, "other"), "admin is everything");
    ok(key_has(NULL, KEY_ADMIN) && key_may_use(NULL, "x"), "without keys everything is allowed");
}

#define RATED(rate)                                                                                \
    "keys:\n  - {label: a, sha256: " HASH_A ", scopes: [runs], " rate "}\n"                        \
    "  - {label: b, sha256: " HASH_B ", scopes: [runs], " rate "}\n"

static int let_through(const struct key_set *set, const char *header, uint64_t now_ns, int times)
{
    int n = 0;
    for (int i = 0; i < times; i++)
        n += ask_at(set, header, now_ns, 1) == KEY_OK;
    return n;
}

static void test_buckets(void)
{
    struct key_set *set = make_from(RATED("rate: 4, burst: 7"), NULL);
    ok(ask_at(set, "Bearer a", 100 * S, 1) == KEY_OK && bucket.limit == 7 && bucket.remaining == 6,
       "the first of seven: %llu left", (unsigned long long)bucket.remaining);
    ok(let_through(set, "Bearer a", 100 * S, 50) == 6, "six more at once, not one beyond");
    ok(bucket.remaining == 0 && bucket.retry_after_ms >= 250 && bucket.retry_after_ms <= 251 &&
           bucket.reset_s == 2,
       "the next in 250 ms: %llu; full in 1.75 s: %llu", (unsigned long long)bucket.retry_after_ms,
       (unsigned long long)bucket.reset_s);
    ok(let_through(set, "Bearer b", 100 * S, 50) == 7, "another key has a bucket of its own");
    ok(let_through(set, "Bearer a", 100 * S + 249 * S / 1000, 5) == 0, "not yet");
    ok(let_through(set, "Bearer a", 100 * S + S / 4, 5) == 1, "one after 250 ms");
    ok(let_through(set, "Bearer a", 101 * S + S / 4, 50) == 4, "four after a second");
    ok(let_through(set, "Bearer a", 300 * S, 50) == 7, "never more than the burst");
    struct key_set *again = make_from(RATED("rate: 4, burst: 7"), set);
    keys_unref(set);
    ok(let_through(again, "Bearer a", 300 * S, 5) == 0, "a reload refills nothing");
    set = make_from(RATED("rate: 2, burst: 2"), again);
    keys_unref(again);
    ok(let_through(set, "Bearer a", 300 * S, 5) == 0 &&
           let_through(set, "Bearer a", 300 * S + S / 2, 5) == 1,
       "nor a smaller one, which then goes by its own rate");
    keys_unref(set);
    set = make_from(RATED("rate: 0.001, burst: 1000000"), NULL);
    ok(let_through(set, "Bearer a", 300 * S, 1000) == 1000, "extremes");
    keys_unref(set);
    set = make_from(RATED("rate: 0"), NULL);
    ok(let_through(set, "Bearer a", 1, 1000) == 1000 && bucket.limit == 0, "0 is no limit");
    keys_unref(set);
    set = make_from(RATED("expires: 2027-01-01T00:00:00Z"), NULL);
    ok(ask_at(set, "Bearer a", 1, 1798761599999) == KEY_OK &&
           ask_at(set, "Bearer a", 1, 1798761600000) == KEY_EXPIRED && strcmp(label, "a") == 0,
       "to its last millisecond");
    keys_unref(set);
}

static struct key_set *shared;
static atomic_int passed;
static void *hammer(void *unused)
{
    const struct key *key;
    struct key_bucket_state state;
    for (int i = 0; i < 20000; i++) {
        if (keys_check(shared, "Bearer a", 8, 7 * S, 1, &key, &state) == KEY_OK)
            (void)atomic_fetch_add(&passed, 1);
        key_unref(key);
    }
    return unused;
}

static void test_threads(void)
{
    pthread_t threads[4];
    shared = make_from(RATED("rate: 1, burst: 12345"), NULL);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        (void)pthread_create(&threads[i], NULL, hammer, NULL);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        (void)pthread_join(threads[i], NULL);
    ok(passed == 12345, "four threads get exactly the burst: %d", passed);
    keys_unref(shared);
}

static void test_references(void)
{
    const struct key *key;
    struct key_set *set = make_from(RATED("rate: 1"), NULL);
    ok(keys_check(set, "Bearer a", 8, S, 1, &key, &bucket) == KEY_OK, "a key is held");
    keys_unref(set);
    ok(strcmp(key->label, "a") == 0, "and outlives its set");
    key_unref(key);
}

static void test_many(void)
{
    struct key_list list = {0};
    enum { MANY = 10000 };
    char token[MANY > 0 ? KEY_TOKEN_ROOM : 1], hash[65], first[KEY_TOKEN_ROOM] = "";
    size_t room = MANY * 300, len = 0;
    char *text = malloc(room);
    len += (size_t)snprintf(text, room, "keys:\n");
    for (int i = 0; i < MANY; i++) {
        if (keys_make_token(token, hash, &err) < 0)
            die(1, "%s", err.text);
        if (i == 0)
            memcpy(first, token, sizeof first);
        len += (size_t)snprintf(text + len, room - len,
                                "  - label: user-%d\n    sha256: %s\n    rate: 10\n    scopes: "
                                "[execute, runs]\n    namespaces: u%d-*\n",
                                i, hash, i);
    }
    uint64_t begin = clock_now_ns();
    bool fine = keys_read_file(text, len, "many", &list, &err) == 0;
    ok(fine && keys_check_list(&list, &err) == 0, "%d keys are read in %u ms %s", MANY,
       (unsigned)((clock_now_ns() - begin) / 1000000), err.text);
    begin = clock_now_ns();
    struct key_set *set = make(&list, NULL);
    ok(keys_count(set) == MANY, "and loaded in %u us", (unsigned)((clock_now_ns() - begin) / 1000));
    char header[KEY_TOKEN_ROOM + 8];
    (void)snprintf(header, sizeof header, "Bearer %s", first);
    begin = clock_now_ns();
    bool all = true;
    for (int i = 0; i < 10000; i++)
        all = all && ask_at(set, header, S * (uint64_t)i, 1) == KEY_OK;
    ok(all && strcmp(label, "user-0") == 0, "one is found, in %u ns",
       (unsigned)((clock_now_ns() - begin) / 10000));
    begin = clock_now_ns();
    header[20] ^= 1;
    for (int i = 0; i < 10000; i++)
        all = all && ask_at(set, header, S, 1) == KEY_WRONG;
    ok(all, "a wrong one is not, in %u ns", (unsigned)((clock_now_ns() - begin) / 10000));
    keys_unref(set);
    keys_list_fini(&list);
    free(text);
}

static void test_blocks(void)
{
    struct key_set *set = NULL;
    struct key_list list;
    (void)read_text(RATED("rate: 1"), &list);
    auto_close int good = keys_seal(&list, &err);
    keys_list_fini(&list);
    const void *map;
    size_t len;
    static char copy[4096];
    if (fd_memfd_map(good, sizeof copy, &map, &len, &err) < 0)
        die(1, "%s", err.text);
    memcpy(copy, map, len);
    for (size_t cut = 1; cut <= len; cut += 7) {
        auto_close int fd = fd_memfd_sealed("x", copy, len - cut + (cut == len));
        if (keys_load(fd, NULL, &set, &err) == 0)
            ok(false, "cut by %zu it is taken", cut);
    }
    struct key_block *block = (struct key_block *)(void *)copy;
    memset(block->records[1].key.label, 'x', sizeof block->records[1].key.label);
    auto_close int endless = fd_memfd_sealed("x", copy, len);
    ok(keys_load(endless, NULL, &set, &err) < 0, "a text without an end is refused: %s", err.text);
    memcpy(copy, map, len);
    memcpy(&block->records[1], &block->records[0], sizeof block->records[0]);
    auto_close int twice = fd_memfd_sealed("x", copy, len);
    ok(keys_load(twice, NULL, &set, &err) < 0, "a record that stands twice: %s", err.text);
    auto_close int pipe_fd = dup(0);
    ok(keys_load(pipe_fd, NULL, &set, &err) < 0 && !set, "no memfd: %s", err.text);
}

static void test_tokens(void)
{
    char a[KEY_TOKEN_ROOM], b[KEY_TOKEN_ROOM], hash[65];
    uint8_t sum[32];
    keys_hash("abc", 3, sum);
    ok(sum[0] == 0xba && sum[1] == 0x78 && sum[31] == 0xad, "SHA-256 of abc");
    ok(keys_make_token(a, hash, &err) == 0 && keys_make_token(b, hash, &err) == 0 &&
           strcmp(a, b) != 0 && strlen(a) == 49 && strncmp(a, "brood_", 6) == 0 &&
           strspn(a + 6, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == 43,
       "a token: %.9s...", a);
    keys_hash(b, strlen(b), sum);
    char want[65];
    for (size_t i = 0; i < 32; i++)
        (void)snprintf(want + 2 * i, 3, "%02x", sum[i]);
    ok(strcmp(want, hash) == 0, "and its hash");
}

int main(void)
{
    test_tokens();
    test_file();
    test_refusals();
    test_times();
    test_list();
    test_headers();
    test_rights();
    test_buckets();
    test_threads();
    test_references();
    test_many();
    test_blocks();
    return tap_done();
}
