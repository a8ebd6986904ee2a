/* SPDX-License-Identifier: Apache-2.0 */
/* keys/file - the key file, from YAML text to a list.
 *
 *     keys:
 *       - label: ci
 *         sha256: 64 hex digits
 *         ... (etc/keys.yaml has them all)
 *
 * As policy/file.c: the document is loaded whole by libyaml, which keeps the line of every node,
 * and walked by hand. Unknown and repeated keys are errors. The file is the operator's; it is read
 * by the supervisor before it splits, on reload by a confined child of priv, and by the CLI.
 */
#include "keys/list.h"
#include "lib/doc.h"
#include "lib/err.h"
#include "lib/num.h"
#include <fcntl.h>
#include <sys/stat.h>

struct reading {
    struct doc doc;
    struct key_list *list;
};

/* One entry on its way. */
struct entry {
    struct key_entry e;
    bool has_hash;
};

/* ---- values ------------------------------------------------------------------------------------
 */

static int read_label(struct reading *r, struct entry *e, yaml_node_t *value)
{
    const char *text = doc_text(value);
    if (!text || !key_label_is_valid(text))
        return doc_bad(&r->doc, value, "label", "expected 1-%u characters of [A-Za-z0-9._@-]",
                       KEY_LABEL_MAX);
    (void)snprintf(e->e.key.label, sizeof e->e.key.label, "%s", text);
    return 0;
}

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int read_hash(struct reading *r, struct entry *e, yaml_node_t *value)
{
    const char *text = doc_text(value);
    bool fine = text && strlen(text) == 64;
    for (size_t i = 0; fine && i < 32; i++) {
        int high = hex(text[2 * i]), low = hex(text[2 * i + 1]);
        fine = high >= 0 && low >= 0;
        e->e.sha256[i] = (uint8_t)(high << 4 | low);
    }
    e->has_hash = true;
    /* What stands here instead may be a token: it is not repeated. */
    return fine ? 0
                : doc_bad(&r->doc, value, "sha256",
                          "expected the 64 lower case hex digits of the token's SHA-256");
}

static int read_rate(struct reading *r, struct entry *e, yaml_node_t *value)
{
    const char *text = doc_text(value);
    if (!text || key_parse_rate(text, &e->e.key.rate) < 0)
        return doc_bad(&r->doc, value, "rate",
                       "expected requests per second, 0.001 to %u or 0, got \"%.40s\"",
                       KEY_RATE_MAX, text ? text : "something else");
    return 0;
}

static int read_number(struct reading *r, yaml_node_t *value, const char *where, uint64_t least,
                       uint64_t most, uint64_t *ret)
{
    const char *text = doc_text(value);
    if (!text || num_parse_u64(text, least, most, ret) < 0)
        return doc_bad(
            &r->doc, value, where, "expected a whole number from %llu to %llu, got \"%.40s\"",
            (unsigned long long)least, (unsigned long long)most, text ? text : "something else");
    return 0;
}

static int read_burst(struct reading *r, struct entry *e, yaml_node_t *value)
{
    uint64_t burst = 0;
    int result = read_number(r, value, "burst", 1, KEY_BURST_MAX, &burst);
    e->e.key.burst = (uint32_t)burst;
    return result;
}

static int read_scopes(struct reading *r, struct entry *e, yaml_node_t *value)
{
    static const char expected[] =
        "expected a list of execute, runs, files, namespaces, admin such as [execute, runs]";
    if (value->type != YAML_SEQUENCE_NODE)
        return doc_bad(&r->doc, value, "scopes", "%s", expected);
    for (yaml_node_item_t *i = value->data.sequence.items.start; i < value->data.sequence.items.top;
         i++) {
        const char *text = doc_text(doc_node(&r->doc, *i));
        unsigned bit = text ? key_scope_of(text) : 0;
        if (!bit)
            return doc_bad(&r->doc, doc_node(&r->doc, *i), "scopes", "%s, got \"%.40s\"", expected,
                           text ? text : "");
        e->e.key.scopes |= bit;
    }
    return 0;
}

static int read_namespaces(struct reading *r, struct entry *e, yaml_node_t *value)
{
    const char *text = doc_text(value);
    if (!text || !key_pattern_is_valid(text))
        return doc_bad(&r->doc, value, "namespaces",
                       "expected a namespace id, perhaps ending in *, got \"%.40s\"",
                       text ? text : "something else");
    (void)snprintf(e->e.key.namespaces, sizeof e->e.key.namespaces, "%s", text);
    return 0;
}

static int read_expires(struct reading *r, struct entry *e, yaml_node_t *value)
{
    const char *text = doc_text(value);
    if (!text || key_parse_time(text, &e->e.key.expires_ms) < 0)
        return doc_bad(&r->doc, value, "expires",
                       "expected a time such as 2027-01-01T00:00:00Z, got \"%.40s\"",
                       text ? text : "something else");
    return 0;
}

static int read_policy(struct reading *r, struct entry *e, yaml_node_t *value)
{
    const char *text = doc_text(value);
    if (!text || !key_policy_is_valid(text))
        return doc_bad(&r->doc, value, "policy", "expected the name of a policy, got \"%.40s\"",
                       text ? text : "something else");
    (void)snprintf(e->e.key.policy, sizeof e->e.key.policy, "%s", text);
    return 0;
}

static int on_limit(struct doc *d, void *ctx, const char *key, yaml_node_t *at, yaml_node_t *value)
{
    struct reading *r = CONTAINER_OF(d, struct reading, doc);
    struct entry *e = ctx;
    struct key *k = &e->e.key;
    if (strcmp(key, "timeout_ms") == 0)
        return read_number(r, value, "limits.timeout_ms", 1, KEY_MS_MAX, &k->timeout_ms_max);
    if (strcmp(key, "cpu_ms") == 0)
        return read_number(r, value, "limits.cpu_ms", 1, KEY_MS_MAX, &k->cpu_ms_max);
    if (strcmp(key, "memory_mb") != 0)
        return doc_bad(&r->doc, at, "limits",
                       "unknown key %.40s: expected timeout_ms, memory_mb, cpu_ms", key);
    int result = read_number(r, value, "limits.memory_mb", KEY_MEMORY_MB_MIN, KEY_MEMORY_MB_MAX,
                             &k->memory_bytes_max);
    k->memory_bytes_max <<= 20;
    return result;
}

static int read_limits(struct reading *r, struct entry *e, yaml_node_t *value)
{
    return doc_walk(&r->doc, value, "limits", on_limit, e);
}

/* ---- entries -----------------------------------------------------------------------------------
 */

static const struct {
    const char *name;
    int (*read)(struct reading *r, struct entry *e, yaml_node_t *value);
} members[] = {
    {"label", read_label},     {"sha256", read_hash},   {"rate", read_rate},
    {"burst", read_burst},     {"scopes", read_scopes}, {"namespaces", read_namespaces},
    {"expires", read_expires}, {"policy", read_policy}, {"limits", read_limits},
};

static int on_member(struct doc *d, void *ctx, const char *key, yaml_node_t *at, yaml_node_t *value)
{
    struct reading *r = CONTAINER_OF(d, struct reading, doc);
    struct entry *e = ctx;
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        if (strcmp(key, members[i].name) == 0)
            return members[i].read(r, e, value);
    return doc_bad(&r->doc, at, "keys", "unknown key %.40s: expected one of those in etc/keys.yaml",
                   key);
}

static int read_entry(struct reading *r, yaml_node_t *map)
{
    struct entry e = {.e = {.key = {.namespaces = "*"},
                            .line = (uint32_t)map->start_mark.line + 1,
                            .line_end = (uint32_t)map->end_mark.line + 1,
                            .column = (uint32_t)map->start_mark.column + 1}};
    int result = doc_walk(&r->doc, map, "keys", on_member, &e);
    if (result < 0)
        return result;
    if (!*e.e.key.label || !e.has_hash || !e.e.key.scopes)
        return doc_bad(&r->doc, map, "keys", "%s is missing",
                       !*e.e.key.label ? "label"
                       : e.has_hash    ? "scopes"
                                       : "sha256");
    if (e.e.key.burst && e.e.key.rate <= 0)
        return doc_bad(&r->doc, map, "burst", "expected a rate beside it");
    key_settle_burst(&e.e.key);
    result = key_list_add(r->list, &e.e);
    if (result == -E2BIG)
        return doc_bad(&r->doc, map, "keys", "expected at most %u", KEYS_MAX);
    return result < 0 ? doc_bad(&r->doc, map, "keys", "out of memory") : 0;
}

static int on_top(struct doc *d, void *ctx, const char *key, yaml_node_t *at, yaml_node_t *value)
{
    struct reading *r = CONTAINER_OF(d, struct reading, doc);
    (void)ctx;
    if (strcmp(key, "keys") != 0)
        return doc_bad(&r->doc, at, key, "unknown key: expected keys");
    if (doc_is_nothing(value))
        return 0; /* "keys:" with nothing behind it */
    if (value->type != YAML_SEQUENCE_NODE)
        return doc_bad(&r->doc, value, "keys", "expected a list of keys");
    for (yaml_node_item_t *i = value->data.sequence.items.start; i < value->data.sequence.items.top;
         i++) {
        int result = read_entry(r, doc_node(&r->doc, *i));
        if (result < 0)
            return result;
    }
    return 0;
}

/* What stands behind a `---` would be read by nobody. */
static int expect_end(struct reading *r, yaml_parser_t *parser)
{
    yaml_document_t more;
    if (!yaml_parser_load(parser, &more))
        return err_set(r->doc.err, "%.90s:%zu: not YAML: %.100s", r->doc.path,
                       parser->problem_mark.line + 1,
                       parser->problem ? parser->problem : "out of memory");
    const yaml_node_t *root = yaml_document_get_root_node(&more);
    int result = root ? err_set(r->doc.err, "%.90s:%zu: expected one document, got another",
                                r->doc.path, root->start_mark.line + 1)
                      : 0;
    yaml_document_delete(&more);
    return result;
}

int keys_read_file(const char *text, size_t len, const char *path, struct key_list *list,
                   struct err *err)
{
    struct reading r = {.doc = {.path = path, .err = err}, .list = list};
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return err_set(err, "%.90s: out of memory", path);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    int result = 0;
    if (yaml_parser_load(&parser, &r.doc.yaml)) {
        yaml_node_t *root = yaml_document_get_root_node(&r.doc.yaml);
        if (root) /* an empty file: nobody may do anything */
            result = doc_walk(&r.doc, root, "the file", on_top, NULL);
        yaml_document_delete(&r.doc.yaml);
        if (result == 0)
            result = expect_end(&r, &parser);
    } else {
        result = err_set(err, "%.90s:%zu: not YAML: %.100s", path, parser.problem_mark.line + 1,
                         parser.problem ? parser.problem : "out of memory");
    }
    yaml_parser_delete(&parser);
    return result;
}

int keys_read_path(const char *path, struct key_list *list, struct err *err)
{
    struct stat st;
    size_t len = 0;
    auto_close int fd = SYS(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (fd < 0 || SYS(fstat(fd, &st)) < 0)
        return err_sys(err, "key file %.200s", path);
    if (!S_ISREG(st.st_mode) || st.st_size > KEYS_FILE_BYTES_MAX)
        return err_set(err, "key file %.150s: expected a file of at most %u bytes", path,
                       KEYS_FILE_BYTES_MAX);
    auto_free char *text = malloc((size_t)st.st_size + 1);
    if (!text)
        return err_set(err, "key file %.200s: out of memory", path);
    while (len < (size_t)st.st_size) {
        ssize_t n = SYS(read(fd, text + len, (size_t)st.st_size - len));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, "read key file %.200s", path);
        if (n == 0)
            break;
        len += (size_t)n;
    }
    return keys_read_file(text, len, path, list, err);
}
