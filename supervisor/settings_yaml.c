/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/settings_yaml - the configuration file, strictly.
 *
 * libcyaml checks the document against a schema made from the table of settings: unknown and
 * repeated keys, lists, aliases and anything nested otherwise are errors. All values arrive as
 * text and are stored as from any other source. libcyaml tells where it was rather than where the
 * key is, so the line of a key comes from libyaml's own marks. The file is the operator's; it is
 * read by the supervisor before it splits, and by the engine on reload.
 */
#include "lib/err.h"
#include "supervisor/settings_impl.h"
#include <assert.h>
#include <cyaml/cyaml.h>
#include <stdarg.h>
#include <yaml.h>

#define GROUPS_MAX 16
#define NAME_MAX_BYTES 32

struct values {
    char *text[SETTINGS_COUNT]; /* NULL: not in the file */
};

struct schema {
    cyaml_schema_value_t root;
    cyaml_schema_field_t top[SETTINGS_COUNT + 1];
    cyaml_schema_field_t group[GROUPS_MAX][SETTINGS_COUNT + 1];
    char group_name[GROUPS_MAX][NAME_MAX_BYTES];
    size_t groups;
};

/* What libcyaml said was wrong: its first line, and the keys it was in, outermost first. */
struct complaint {
    char text[120], path[80];
    unsigned line;
};

static cyaml_schema_field_t *end_of(cyaml_schema_field_t *fields)
{
    while (fields->key)
        fields++;
    return fields;
}

static cyaml_schema_field_t *group_fields(struct schema *sc, const char *name, size_t len)
{
    size_t g = 0;
    while (g < sc->groups &&
           (strlen(sc->group_name[g]) != len || memcmp(sc->group_name[g], name, len)))
        g++;
    if (g == sc->groups) {
        assert(g < GROUPS_MAX && len < NAME_MAX_BYTES);
        memcpy(sc->group_name[g], name, len);
        *end_of(sc->top) = (cyaml_schema_field_t){.key = sc->group_name[g],
                                                  .value = {.type = CYAML_MAPPING,
                                                            .flags = CYAML_FLAG_OPTIONAL,
                                                            .data_size = sizeof(struct values),
                                                            .mapping = {.fields = sc->group[g]}}};
        sc->groups++;
    }
    return sc->group[g];
}

static void make_schema(struct schema *sc)
{
    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        const char *name = settings_table[i].name, *dot = strchr(name, '.');
        cyaml_schema_field_t *fields = dot ? group_fields(sc, name, (size_t)(dot - name)) : sc->top;
        *end_of(fields) = (cyaml_schema_field_t){
            .key = dot ? dot + 1 : name,
            .value = {.type = CYAML_STRING,
                      .flags = (enum cyaml_flag)(CYAML_FLAG_OPTIONAL | CYAML_FLAG_POINTER),
                      .data_size = 1,
                      .string = {.min = 0, .max = SETTINGS_FILE_BYTES_MAX}},
            .data_offset = (uint32_t)(i * sizeof(char *))};
    }
    sc->root = (cyaml_schema_value_t){.type = CYAML_MAPPING,
                                      .flags = CYAML_FLAG_POINTER,
                                      .data_size = sizeof(struct values),
                                      .mapping = {.fields = sc->top}};
}

PRINTF_LIKE(3, 0) static void on_log(cyaml_log_t level, void *ctx, const char *fmt, va_list ap)
{
    struct complaint *c = ctx;
    char line[200], inner[sizeof c->path];
    (void)level;
    (void)vsnprintf(line, sizeof line, fmt, ap);
    line[strcspn(line, "\n")] = 0;
    const char *at = strstr(line, "(line: "), *field = strstr(line, "in mapping field '");
    if (at && c->line == 0)
        c->line = (unsigned)strtoul(at + strlen("(line: "), NULL, 10);
    if (field) {
        field += strlen("in mapping field '");
        memcpy(inner, c->path, sizeof inner);
        (void)snprintf(c->path, sizeof c->path, "%.*s%s%s", (int)strcspn(field, "'"), field,
                       *inner ? "." : "", inner);
    } else if (!at && !c->text[0] && !strstr(line, "Backtrace")) {
        (void)snprintf(c->text, sizeof c->text, "%.110s",
                       strncmp(line, "Load: ", 6) == 0 ? line + 6 : line);
    }
}

/* Where the walk through the document is: only block depth 1 and 2 carry keys of ours. */
struct walk {
    const char *name;
    char group[NAME_MAX_BYTES * 2];
    unsigned depth, group_line, found;
    bool is_key;
};

static void walk_key(struct walk *w, const yaml_event_t *ev)
{
    const char *key = (const char *)ev->data.scalar.value;
    char full[NAME_MAX_BYTES * 4];
    if (w->depth == 1)
        (void)snprintf(w->group, sizeof w->group, "%.60s", key);
    (void)snprintf(full, sizeof full, "%s%s%.60s", w->depth == 1 ? "" : w->group,
                   w->depth == 1 ? "" : ".", key);
    if (w->depth <= 2 && strcmp(full, w->name) == 0)
        w->found = (unsigned)ev->start_mark.line + 1;
}

/* A nested value has been left or a plain one read: what comes next in a mapping is a key. */
static void walk_event(struct walk *w, const yaml_event_t *ev)
{
    if (ev->type == YAML_MAPPING_START_EVENT || ev->type == YAML_SEQUENCE_START_EVENT) {
        w->depth += ev->type == YAML_MAPPING_START_EVENT ? 1 : 100;
        w->is_key = true;
    } else if (ev->type == YAML_MAPPING_END_EVENT || ev->type == YAML_SEQUENCE_END_EVENT) {
        w->depth -= ev->type == YAML_MAPPING_END_EVENT ? 1 : 100;
        w->is_key = true;
    } else if (ev->type == YAML_SCALAR_EVENT || ev->type == YAML_ALIAS_EVENT) {
        if (w->is_key && ev->type == YAML_SCALAR_EVENT)
            walk_key(w, ev);
        w->is_key = w->depth >= 100 || !w->is_key;
    }
}

/* The line of the last key of that name, 0 if there is none; *ret_problem: not YAML from there. */
static unsigned line_of(const char *text, size_t len, const char *name, const char **ret_problem)
{
    struct walk w = {.name = name};
    yaml_parser_t parser;
    bool more = true;
    *ret_problem = NULL;
    if (!yaml_parser_initialize(&parser))
        return 0;
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    while (more) {
        yaml_event_t ev;
        if (!yaml_parser_parse(&parser, &ev)) {
            *ret_problem = parser.problem ? parser.problem : "not YAML";
            w.found = (unsigned)parser.problem_mark.line + 1;
            break;
        }
        walk_event(&w, &ev);
        more = ev.type != YAML_STREAM_END_EVENT;
        yaml_event_delete(&ev);
    }
    yaml_parser_delete(&parser);
    return w.found;
}

static int refuse(struct settings_reading *r, const char *text, size_t len, struct complaint *c)
{
    const char unexpected[] = "Unexpected key: ", twice[] = "Mapping field already seen";
    const char *problem, *what = "expected a single value, or a group of known keys", *key = "";
    bool unknown = strncmp(c->text, unexpected, sizeof unexpected - 1) == 0;
    char path[200];
    if (unknown) {
        key = c->text + sizeof unexpected - 1;
        what = "unknown key: expected one of those in brood.yaml(5)";
    } else if (strncmp(c->text, twice, sizeof twice - 1) == 0) {
        what = "given twice: expected once";
    } else if (setting_find(c->path) >= 0) {
        what = "expected a single value";
    }
    (void)snprintf(path, sizeof path, "%s%s%s", c->path, *c->path && *key ? "." : "", key);
    unsigned line = line_of(text, len, path, &problem);
    if (problem)
        return err_set(r->err, "%.100s:%u: expected YAML: %s", r->yaml_path, line, problem);
    if (line == 0)
        line = c->line ? c->line : 1;
    return err_set(r->err, "%.100s:%u: %.60s%s%s", r->yaml_path, line, path, *path ? ": " : "",
                   *path ? what : "expected \"key: value\" lines");
}

int settings_read_yaml(struct settings_reading *r, const char *text, size_t len)
{
    static struct schema sc;
    struct complaint complaint = {.line = 0};
    struct values *values = NULL;
    cyaml_data_t *data = NULL;
    const char *problem;
    const cyaml_config_t config = {.log_fn = on_log,
                                   .log_ctx = &complaint,
                                   .log_level = CYAML_LOG_ERROR,
                                   .mem_fn = cyaml_mem,
                                   .flags = CYAML_CFG_NO_ALIAS};
    int result = 0;
    if (!sc.top[0].key)
        make_schema(&sc);
    if (cyaml_load_data((const uint8_t *)text, len, &config, &sc.root, &data, NULL) != CYAML_OK)
        return refuse(r, text, len, &complaint);
    values = (struct values *)data;
    for (int i = 0; values && i < SETTINGS_COUNT; i++) {
        if (values->text[i] && result == 0)
            result = setting_store(r, i, SETTINGS_YAML,
                                   line_of(text, len, settings_table[i].name, &problem), false,
                                   values->text[i]);
        if (values->text[i] && settings_table[i].secret)
            explicit_bzero(values->text[i], strlen(values->text[i]));
    }
    (void)cyaml_free(&config, &sc.root, data, 0);
    return result;
}
