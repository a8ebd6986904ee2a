/* SPDX-License-Identifier: Apache-2.0 */
/* languages/file - one language file, from YAML text to a struct language.
 *
 * Loaded whole by libyaml, which keeps the line of every node, and walked by hand two levels deep.
 * Unknown and repeated keys are errors; each names file, line and key. The file is the operator's;
 * read by the supervisor before it splits.
 */
#include "languages/languages.h"
#include "lib/doc.h"
#include "lib/err.h"
#include "lib/num.h"
#include <ctype.h>
#include <inttypes.h>

#define MS_MAX 86400000u
#define MIB (1ull << 20)
#define MIB_MAX 1048576u
#define PIDS_MAX 32768u

struct reading {
    struct doc doc;
    struct language *lang;
};

/* Of a key: where in the struct its value goes is the reader's affair. */
typedef int read_fn(struct reading *r, void *into, const char *key, yaml_node_t *value);

struct key {
    const char *name;
    read_fn *read;
    size_t offset; /* in what is read into */
};

/* Reads a mapping of exactly these keys into a struct; `prefix` stands before them in messages. */
static int read_mapping(struct reading *r, yaml_node_t *map, const char *prefix,
                        const struct key *keys, size_t count, void *into)
{
    char where[48], expected[96] = "";
    if (map->type != YAML_MAPPING_NODE)
        return doc_bad(&r->doc, map, *prefix ? prefix : "the file",
                       "expected a mapping of keys to values");
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top;
         p++) {
        yaml_node_t *at = doc_node(&r->doc, p->key);
        const char *name = doc_text(at);
        size_t i = 0, n = 0;
        if (!name)
            return doc_bad(&r->doc, at ? at : map, *prefix ? prefix : "the file",
                           "expected a word as key");
        (void)snprintf(where, sizeof where, "%s%s%.24s", prefix, *prefix ? "." : "", name);
        if (doc_key_repeats(&r->doc, map, p))
            return doc_bad(&r->doc, at, where, "stands twice");
        while (i < count && strcmp(keys[i].name, name) != 0)
            i++;
        for (size_t k = 0; i == count && k < count && n < sizeof expected; k++)
            n += (size_t)snprintf(expected + n, sizeof expected - n, "%s%s", k ? ", " : "",
                                  keys[k].name);
        if (i == count)
            return doc_bad(&r->doc, at, where, "unknown key: expected %s", expected);
        int result =
            keys[i].read(r, (char *)into + keys[i].offset, where, doc_node(&r->doc, p->value));
        if (result < 0)
            return result;
    }
    return 0;
}

/* ---- values ------------------------------------------------------------------------------------
 */

/* As in a request: lower case, so that any case finds it. */
static bool is_name(const char *name)
{
    size_t len = name ? strlen(name) : 0;
    for (size_t i = 0; i < len; i++)
        if (!islower((unsigned char)name[i]) && !isdigit((unsigned char)name[i]) &&
            (i == 0 || !strchr("+#._-", name[i])))
            return false;
    return len > 0 && len < LANGUAGE_NAME_ROOM;
}

static int read_name(struct reading *r, void *into, const char *key, yaml_node_t *value)
{
    const char *text = doc_text(value);
    if (!is_name(text))
        return doc_bad(&r->doc, value, key, "expected 1-%d of [a-z0-9+#._-], got \"%.40s\"",
                       LANGUAGE_NAME_ROOM - 1, text ? text : "something else");
    memcpy(into, text, strlen(text) + 1);
    return 0;
}

static int read_aliases(struct reading *r, void *into, const char *key, yaml_node_t *value)
{
    struct language *l = into;
    if (value->type != YAML_SEQUENCE_NODE)
        return doc_bad(&r->doc, value, key, "expected a list such as [a, b]");
    for (yaml_node_item_t *at = value->data.sequence.items.start;
         at < value->data.sequence.items.top; at++) {
        if (l->alias_count == LANGUAGE_ALIASES_MAX)
            return doc_bad(&r->doc, value, key, "expected at most %d", LANGUAGE_ALIASES_MAX);
        int result = read_name(r, l->aliases[l->alias_count], key, doc_node(&r->doc, *at));
        if (result < 0)
            return result;
        l->alias_count++;
    }
    return 0;
}

/* A plain file name: it is placed, and stands in command lines. */
static int read_source(struct reading *r, void *into, const char *key, yaml_node_t *value)
{
    const char *text = doc_text(value);
    size_t len = text ? strlen(text) : 0;
    bool ok = len > 0 && len < LANGUAGE_SOURCE_ROOM && isalnum((unsigned char)*text);
    for (size_t i = 0; i < len; i++)
        ok = ok && (isalnum((unsigned char)text[i]) || strchr("._-", text[i]));
    if (!ok)
        return doc_bad(&r->doc, value, key, "expected a file name of [A-Za-z0-9._-], got \"%.40s\"",
                       text ? text : "something else");
    memcpy(into, text, len + 1);
    return 0;
}

/* Adds `text`; false: no room. */
static bool add_text(struct language_texts *to, const char *text)
{
    size_t len = strlen(text) + 1;
    if (len > sizeof to->text - to->bytes)
        return false;
    memcpy(to->text + to->bytes, text, len);
    to->bytes += (uint32_t)len;
    to->count++;
    return true;
}

static int read_argv(struct reading *r, void *into, const char *key, yaml_node_t *value)
{
    struct language_texts *to = into;
    if (value->type != YAML_SEQUENCE_NODE ||
        value->data.sequence.items.start == value->data.sequence.items.top)
        return doc_bad(&r->doc, value, key, "expected a list of words: [program, argument, ...]");
    for (yaml_node_item_t *at = value->data.sequence.items.start;
         at < value->data.sequence.items.top; at++) {
        const char *text = doc_text(doc_node(&r->doc, *at));
        if (!text)
            return doc_bad(&r->doc, doc_node(&r->doc, *at), key, "expected a list of words");
        if (to->count == LANGUAGE_ARGV_MAX || !add_text(to, text))
            return doc_bad(&r->doc, doc_node(&r->doc, *at), key,
                           "expected at most %d words of %d bytes in all", LANGUAGE_ARGV_MAX,
                           LANGUAGE_TEXT_ROOM);
    }
    return *to->text ? 0 : doc_bad(&r->doc, value, key, "expected a program");
}

static int read_env(struct reading *r, void *into, const char *key, yaml_node_t *value)
{
    struct language_texts *to = into;
    char pair[LANGUAGE_TEXT_ROOM];
    if (value->type != YAML_MAPPING_NODE)
        return doc_bad(&r->doc, value, key, "expected a mapping of names to values");
    for (yaml_node_pair_t *p = value->data.mapping.pairs.start; p < value->data.mapping.pairs.top;
         p++) {
        const char *name = doc_text(doc_node(&r->doc, p->key)),
                   *text = doc_text(doc_node(&r->doc, p->value));
        bool ok = name && *name && !isdigit((unsigned char)*name);
        for (const char *c = ok ? name : ""; *c; c++)
            ok = ok && (isalnum((unsigned char)*c) || *c == '_');
        if (!ok || !text)
            return doc_bad(&r->doc, doc_node(&r->doc, p->key), key,
                           "expected NAME: text, with names of [A-Za-z0-9_]");
        int len = snprintf(pair, sizeof pair, "%s=%s", name, text);
        if (to->count == LANGUAGE_ENV_MAX || len >= (int)sizeof pair || !add_text(to, pair))
            return doc_bad(&r->doc, doc_node(&r->doc, p->key), key,
                           "expected at most %d variables of %d bytes in all", LANGUAGE_ENV_MAX,
                           LANGUAGE_TEXT_ROOM);
    }
    return 0;
}

static int read_number(struct reading *r, void *into, const char *key, yaml_node_t *value,
                       uint64_t most, uint64_t factor)
{
    const char *text = doc_text(value);
    uint64_t v;
    if (!text || num_parse_u64(text, 1, most, &v) < 0)
        return doc_bad(&r->doc, value, key,
                       "expected a whole number from 1 to %" PRIu64 ", got \"%.30s\"", most,
                       text ? text : "something else");
    v *= factor;
    memcpy(into, &v, sizeof v);
    return 0;
}

static int read_ms(struct reading *r, void *into, const char *key, yaml_node_t *value)
{
    return read_number(r, into, key, value, MS_MAX, 1);
}

static int read_mb(struct reading *r, void *into, const char *key, yaml_node_t *value)
{
    return read_number(r, into, key, value, MIB_MAX, MIB);
}

static int read_pids(struct reading *r, void *into, const char *key, yaml_node_t *value)
{
    return read_number(r, into, key, value, PIDS_MAX, 1);
}

static int read_stage(struct reading *r, struct language_stage *stage, const char *key,
                      yaml_node_t *value, const struct key *keys, size_t count)
{
    int result = read_mapping(r, value, key, keys, count, stage);
    return result == 0 && stage->argv.count == 0 ? doc_bad(&r->doc, value, key, "argv is missing")
                                                 : result;
}

static int read_compile(struct reading *r, void *into, const char *key, yaml_node_t *value)
{
    static const struct key keys[] = {
        {"argv", read_argv, offsetof(struct language_stage, argv)},
        {"timeout_ms", read_ms, offsetof(struct language_stage, timeout_ms)},
        {"cpu_ms", read_ms, offsetof(struct language_stage, cpu_ms)},
    };
    return read_stage(r, into, key, value, keys, ARRAY_LEN(keys));
}

static int read_run(struct reading *r, void *into, const char *key, yaml_node_t *value)
{
    static const struct key keys[] = {
        {"argv", read_argv, offsetof(struct language_stage, argv)},
        {"memory_mb", read_mb, offsetof(struct language_stage, memory_bytes)},
        {"pids", read_pids, offsetof(struct language_stage, pids_max)},
    };
    return read_stage(r, into, key, value, keys, ARRAY_LEN(keys));
}

/* ---- the whole ---------------------------------------------------------------------------------
 */

static int read_language(struct reading *r)
{
    static const struct key keys[] = {
        {"name", read_name, offsetof(struct language, name)},
        {"aliases", read_aliases, 0},
        {"source", read_source, offsetof(struct language, source)},
        {"version", read_argv, offsetof(struct language, version)},
        {"compile", read_compile, offsetof(struct language, compile)},
        {"run", read_run, offsetof(struct language, run)},
        {"env", read_env, offsetof(struct language, env)},
    };
    struct language *l = r->lang;
    yaml_node_t *root = yaml_document_get_root_node(&r->doc.yaml);
    if (!root)
        return err_set(r->doc.err, "%.110s:1: the file: expected a language, it is empty",
                       r->doc.path);
    int result = read_mapping(r, root, "", keys, ARRAY_LEN(keys), l);
    if (result < 0)
        return result;
    const char *missing = !*l->name            ? "name"
                          : !*l->source        ? "source"
                          : !l->run.argv.count ? "run"
                          : !l->version.count  ? "version"
                                               : NULL;
    return missing ? doc_bad(&r->doc, root, missing, "is missing") : 0;
}

/* A name must find one language. */
static int check_names(struct reading *r, const struct language_set *set)
{
    const struct language *l = r->lang;
    for (uint32_t i = 0; i <= l->alias_count; i++) {
        const char *name = i ? l->aliases[i - 1] : l->name;
        const struct language *other = languages_find(set, name);
        if (other)
            return doc_bad(&r->doc, yaml_document_get_root_node(&r->doc.yaml),
                           i ? "aliases" : "name", "%.32s is taken by the language %.32s", name,
                           other->name);
    }
    return 0;
}

static int not_yaml(const yaml_parser_t *parser, const char *path, struct err *err)
{
    return err_set(err, "%.110s:%zu: not YAML: %.80s", path, parser->problem_mark.line + 1,
                   parser->problem ? parser->problem : "out of memory");
}

/* What stands behind a `---` would be read by nobody. */
static int expect_end(yaml_parser_t *parser, const char *path, struct err *err)
{
    yaml_document_t more;
    if (!yaml_parser_load(parser, &more))
        return not_yaml(parser, path, err);
    const yaml_node_t *root = yaml_document_get_root_node(&more);
    int r = root ? err_set(err, "%.110s:%zu: the file: expected one document, got another", path,
                           root->start_mark.line + 1)
                 : 0;
    yaml_document_delete(&more);
    return r;
}

int languages_read(const char *text, size_t len, const char *path, struct language_set *set,
                   struct err *err)
{
    struct reading r = {.doc = {.path = path, .err = err}};
    yaml_parser_t parser;
    if (set->count == LANGUAGES_MAX)
        return err_set(err, "%.110s: expected at most %d languages", path, LANGUAGES_MAX);
    r.lang = &set->languages[set->count];
    memset(r.lang, 0, sizeof *r.lang);
    if (!yaml_parser_initialize(&parser))
        return err_set(err, "%.110s: out of memory", path);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    int result;
    if (yaml_parser_load(&parser, &r.doc.yaml)) {
        result = read_language(&r);
        if (result == 0)
            result = check_names(&r, set);
        yaml_document_delete(&r.doc.yaml);
        if (result == 0)
            result = expect_end(&parser, path, err);
    } else {
        result = not_yaml(&parser, path, err);
    }
    yaml_parser_delete(&parser);
    set->count += result == 0;
    return result;
}
