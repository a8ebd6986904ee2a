/* SPDX-License-Identifier: Apache-2.0 */
/* policy/file - the policy file, from YAML text to plans that only lack their compiled part.
 *
 * The document is loaded whole by libyaml, which keeps the line of every node, and walked by hand
 * three levels deep: names of policies are keys here, which a fixed schema could not have. Unknown
 * and repeated keys are errors; each names file, line, policy and key. The file is the operator's.
 * Read by the supervisor before it splits, and on reload by a confined child of priv.
 */
#include "policy/file.h"
#include "lib/doc.h"
#include "lib/err.h"
#include "lib/num.h"
#include "policy/keys.h"
#include <ctype.h>
#include <inttypes.h>

/* How a key's value is read. `where` is "policies.tight.memory_mb". */
struct reading {
    struct doc doc;
    const struct policy_base *base;
    struct policy_set *set;
    uint32_t read; /* policies that are done: a base must be one of them */
};

typedef int read_fn(struct reading *r, struct policy_plan *plan, const char *where,
                    yaml_node_t *value);

static struct reading *reading_of(struct doc *d)
{
    return CONTAINER_OF(d, struct reading, doc);
}

/* "key:" with nothing behind it is an empty mapping. */
static int walk(struct reading *r, yaml_node_t *map, const char *where, doc_each *each, void *ctx)
{
    return doc_is_nothing(map) ? 0 : doc_walk(&r->doc, map, where, each, ctx);
}

/* Item `i` of a list of texts; NULL: past its end. *ret_r < 0: it is no list of texts. */
static const char *list_item(struct reading *r, yaml_node_t *list, const char *where, size_t i,
                             yaml_node_t **ret_at, int *ret_r)
{
    *ret_r = 0;
    if (list->type != YAML_SEQUENCE_NODE) {
        *ret_r = doc_bad(&r->doc, list, where, "expected a list such as [a, b]");
        return NULL;
    }
    if (list->data.sequence.items.start + i >= list->data.sequence.items.top)
        return NULL;
    *ret_at = doc_node(&r->doc, list->data.sequence.items.start[i]);
    const char *text = doc_text(*ret_at);
    if (!text)
        *ret_r = doc_bad(&r->doc, *ret_at, where, "expected a list of words");
    return text;
}

static size_t list_count(const yaml_node_t *list)
{
    return list->type != YAML_SEQUENCE_NODE
               ? 0
               : (size_t)(list->data.sequence.items.top - list->data.sequence.items.start);
}

/* ---- values ------------------------------------------------------------------------------------
 */

static int read_number(struct reading *r, struct policy_plan *plan, const struct policy_key *k,
                       const char *where, yaml_node_t *value)
{
    const char *text = doc_text(value);
    uint64_t v = 0;
    if (!text || num_parse_u64(text, 0, UINT64_MAX, &v) < 0 ||
        __builtin_mul_overflow(v, k->factor, &v) || v > k->max ||
        (v < k->min && !(v == 0 && k->may_be_zero)))
        return doc_bad(&r->doc, value, where,
                       "expected %sa whole number from %" PRIu64 " to %" PRIu64
                       "%s%s, got \"%.40s\"",
                       k->may_be_zero ? "0 or " : "", k->min / k->factor, k->max / k->factor,
                       *k->unit ? " " : "", k->unit, text ? text : "something else");
    memcpy((char *)&plan->limits + k->offset, &v, sizeof v);
    return 0;
}

static int read_switch(struct reading *r, const char *where, yaml_node_t *value, uint32_t bit,
                       uint32_t *bits)
{
    const char *text = doc_text(value);
    bool on = text && (strcmp(text, "on") == 0 || strcmp(text, "true") == 0);
    if (!on && !(text && (strcmp(text, "off") == 0 || strcmp(text, "false") == 0)))
        return doc_bad(&r->doc, value, where, "expected on or off, got \"%.40s\"",
                       text ? text : "");
    *bits = on ? *bits | bit : *bits & ~bit;
    return 0;
}

/* any | none | [80, 443] */
static int read_ports(struct reading *r, const char *where, yaml_node_t *value, uint32_t bit,
                      struct policy_plan *plan, struct policy_ports *ports)
{
    const char *text = doc_text(value), *item;
    yaml_node_t *at;
    uint64_t port;
    int result = 0;
    *ports = (struct policy_ports){0};
    plan->rights |= bit;
    if (text && strcmp(text, "any") == 0) {
        plan->rights &= ~bit;
        return 0;
    }
    if (text && strcmp(text, "none") == 0)
        return 0;
    if (list_count(value) > POLICY_PORTS_MAX)
        return doc_bad(&r->doc, value, where, "expected at most %u ports", POLICY_PORTS_MAX);
    while ((item = list_item(r, value, where, ports->count, &at, &result))) {
        if (num_parse_u64(item, 1, 65535, &port) < 0)
            return doc_bad(&r->doc, at, where, "expected ports from 1 to 65535, got \"%.40s\"",
                           item);
        ports->port[ports->count++] = (uint16_t)port;
    }
    return result;
}

static int on_landlock_key(struct doc *d, void *ctx, const char *key, yaml_node_t *at,
                           yaml_node_t *value)
{
    struct reading *r = reading_of(d);
    struct policy_plan *plan = ctx;
    char where[80];
    (void)snprintf(where, sizeof where, "policies.%s.landlock.%.20s", plan->name, key);
    for (size_t i = 0; i < ARRAY_LEN(policy_right_words); i++)
        if (strcmp(key, policy_right_words[i].name) == 0)
            return read_switch(r, where, value, policy_right_words[i].bit, &plan->rights);
    if (strcmp(key, "tcp_bind") == 0)
        return read_ports(r, where, value, POLICY_TCP_BIND, plan, &plan->bind_ports);
    if (strcmp(key, "tcp_connect") == 0)
        return read_ports(r, where, value, POLICY_TCP_CONNECT, plan, &plan->connect_ports);
    return doc_bad(&r->doc, at, where,
                   "unknown: expected files, abstract_sockets, signals, tcp_bind or tcp_connect");
}

static int read_landlock(struct reading *r, struct policy_plan *plan, const char *where,
                         yaml_node_t *value)
{
    return walk(r, value, where, on_landlock_key, plan);
}

static int read_seccomp(struct reading *r, struct policy_plan *plan, const char *where,
                        yaml_node_t *value)
{
    const char *text = doc_text(value), *slash = strrchr(r->doc.path, '/');
    if (!text || !*text)
        return doc_bad(&r->doc, value, where,
                       "expected default or the path of a profile (OCI JSON)");
    int n = strcmp(text, "default") == 0 || *text == '/' || !slash
                ? snprintf(plan->profile, sizeof plan->profile, "%s", text)
                : snprintf(plan->profile, sizeof plan->profile, "%.*s/%s",
                           (int)(slash - r->doc.path), r->doc.path, text);
    if (n >= (int)sizeof plan->profile)
        return doc_bad(&r->doc, value, where, "expected a path of less than %u bytes",
                       POLICY_PATH_MAX);
    return 0;
}

/* Where extra trees may appear: beside what the image has, never over it. */
static bool is_bind_target(const char *to)
{
    static const char *const below[] = {"/opt/", "/srv/", "/mnt/"};
    if (strstr(to, "/../") || strstr(to, "/./") || strstr(to, "//") || strchr(to, '\n') ||
        (strlen(to) > 3 && strcmp(to + strlen(to) - 3, "/..") == 0) || to[strlen(to) - 1] == '/')
        return false;
    for (size_t i = 0; i < ARRAY_LEN(below); i++)
        if (strncmp(to, below[i], strlen(below[i])) == 0)
            return strchr(to + strlen(below[i]), '/') == NULL; /* one level: /opt/name */
    return false;
}

/* ["/data/models:/opt/models"] */
static int read_binds(struct reading *r, struct policy_plan *plan, const char *where,
                      yaml_node_t *value)
{
    const char *item;
    yaml_node_t *at;
    int result = 0;
    plan->bind_count = 0;
    if (list_count(value) > POLICY_BINDS_MAX)
        return doc_bad(&r->doc, value, where, "expected at most %u", POLICY_BINDS_MAX);
    while ((item = list_item(r, value, where, plan->bind_count, &at, &result))) {
        struct policy_bind *b = &plan->binds[plan->bind_count++];
        const char *colon = strchr(item, ':');
        *b = (struct policy_bind){0};
        if (*item != '/' || !colon || (size_t)(colon - item) >= sizeof b->from ||
            strlen(colon + 1) >= sizeof b->to || !is_bind_target(colon + 1))
            return doc_bad(&r->doc, at, where,
                           "expected /FROM:/opt/NAME, /FROM:/srv/NAME or /FROM:/mnt/NAME, got "
                           "\"%.60s\"",
                           item);
        memcpy(b->from, item, (size_t)(colon - item));
        memcpy(b->to, colon + 1, strlen(colon + 1));
        for (uint32_t i = 0; i + 1 < plan->bind_count; i++)
            if (strcmp(plan->binds[i].to, b->to) == 0)
                return doc_bad(&r->doc, at, where, "%.60s stands twice", b->to);
    }
    return result;
}

static int on_variable(struct doc *d, void *ctx, const char *key, yaml_node_t *at,
                       yaml_node_t *value)
{
    struct reading *r = reading_of(d);
    struct policy_plan *plan = ctx;
    const char *text = doc_text(value);
    char where[80];
    (void)snprintf(where, sizeof where, "policies.%s.env.%.20s", plan->name, key);
    size_t room = sizeof plan->env - plan->env_bytes, len = strlen(key) + strlen(text ? text : "");
    bool ok = *key && !isdigit((unsigned char)*key);
    for (const char *c = key; *c; c++)
        ok = ok && (isalnum((unsigned char)*c) || *c == '_');
    if (!ok)
        return doc_bad(&r->doc, at, where, "expected a name of letters, digits and _");
    if (!text)
        return doc_bad(&r->doc, value, where, "expected text");
    if (plan->env_count == POLICY_ENV_MAX || len + 2 > room)
        return doc_bad(&r->doc, at, where, "expected at most %u variables of %u bytes in all",
                       POLICY_ENV_MAX, POLICY_ENV_BYTES);
    plan->env_count++;
    plan->env_bytes +=
        (uint32_t)snprintf(plan->env + plan->env_bytes, room, "%s=%s", key, text) + 1;
    return 0;
}

static int read_env(struct reading *r, struct policy_plan *plan, const char *where,
                    yaml_node_t *value)
{
    plan->env_count = plan->env_bytes = 0;
    memset(plan->env, 0, sizeof plan->env);
    return walk(r, value, where, on_variable, plan);
}

/* Layers that this policy cannot do without, whatever optional_layers says. Kept in plan->layers
 * until it is compiled. */
static int read_required(struct reading *r, struct policy_plan *plan, const char *where,
                         yaml_node_t *value)
{
    const char *item;
    yaml_node_t *at;
    int result = 0;
    struct err why;
    plan->layers = 0;
    for (size_t i = 0; (item = list_item(r, value, where, i, &at, &result)); i++) {
        uint32_t layers;
        if (policy_parse_layers(item, &layers, &why) < 0)
            return doc_bad(&r->doc, at, where, "%s", why.text);
        plan->layers |= layers;
    }
    return result;
}

static int read_allow(struct reading *r, const char *where, yaml_node_t *value,
                      struct policy_net *net)
{
    const char *item;
    yaml_node_t *at;
    int result = 0;
    struct err why;
    net->rule_count = 0;
    memset(net->rules, 0, sizeof net->rules);
    if (list_count(value) > POLICY_NET_RULES_MAX)
        return doc_bad(&r->doc, value, where, "expected at most %u", POLICY_NET_RULES_MAX);
    while ((item = list_item(r, value, where, net->rule_count, &at, &result)))
        if (policy_net_parse_rule(item, &net->rules[net->rule_count++], &why) < 0)
            return doc_bad(&r->doc, at, where, "%s", why.text);
    return result;
}

static int read_resolvers(struct reading *r, const char *where, yaml_node_t *value,
                          struct policy_net *net)
{
    const char *item;
    yaml_node_t *at;
    int result = 0;
    struct err why;
    net->resolver_count = 0;
    memset(net->resolvers, 0, sizeof net->resolvers);
    if (list_count(value) > POLICY_NET_RESOLVERS_MAX)
        return doc_bad(&r->doc, value, where, "expected at most %u", POLICY_NET_RESOLVERS_MAX);
    while ((item = list_item(r, value, where, net->resolver_count, &at, &result)))
        if (policy_net_parse_resolver(item, &net->resolvers[net->resolver_count++], &why) < 0)
            return doc_bad(&r->doc, at, where, "%s", why.text);
    return result;
}

static int on_network_key(struct doc *d, void *ctx, const char *key, yaml_node_t *at,
                          yaml_node_t *value)
{
    struct reading *r = reading_of(d);
    struct policy_plan *plan = ctx;
    struct policy_net *net = &plan->net;
    const char *text = doc_text(value);
    char where[80];
    uint64_t kbit;
    (void)snprintf(where, sizeof where, "policies.%s.network.%.20s", plan->name, key);
    if (strcmp(key, "allow") == 0)
        return read_allow(r, where, value, net);
    if (strcmp(key, "resolvers") == 0)
        return read_resolvers(r, where, value, net);
    if (strcmp(key, "mode") == 0) {
        if (!text || (strcmp(text, "none") != 0 && strcmp(text, "egress") != 0))
            return doc_bad(&r->doc, value, where, "expected none or egress, got \"%.40s\"",
                           text ? text : "something else");
        net->mode = *text == 'n' ? POLICY_NET_NONE : POLICY_NET_EGRESS;
        return 0;
    }
    if (strcmp(key, "rate_kbit") != 0)
        return doc_bad(&r->doc, at, where, "unknown: expected mode, allow, resolvers or rate_kbit");
    if (!text || num_parse_u64(text, 0, POLICY_NET_RATE_KBIT_MAX, &kbit) < 0)
        return doc_bad(&r->doc, value, where, "expected 0 to %u, got \"%.40s\"",
                       POLICY_NET_RATE_KBIT_MAX, text ? text : "something else");
    net->rate_kbit = (uint32_t)kbit;
    return 0;
}

static int read_network(struct reading *r, struct policy_plan *plan, const char *where,
                        yaml_node_t *value)
{
    return walk(r, value, where, on_network_key, plan);
}

static int read_base(struct reading *r, struct policy_plan *plan, const char *where,
                     yaml_node_t *value)
{
    (void)plan;
    return doc_text(value) ? 0 : doc_bad(&r->doc, value, where, "expected the name of a policy");
}

static const struct {
    const char *key;
    read_fn *read;
} others[] = {
    {"base", read_base},         {"landlock", read_landlock}, {"seccomp", read_seccomp},
    {"binds", read_binds},       {"network", read_network},   {"env", read_env},
    {"required", read_required},
};

static int on_policy_key(struct doc *d, void *ctx, const char *key, yaml_node_t *at,
                         yaml_node_t *value)
{
    struct reading *r = reading_of(d);
    struct policy_plan *plan = ctx;
    char where[80];
    (void)snprintf(where, sizeof where, "policies.%s.%.30s", plan->name, key);
    for (size_t i = 0; i < policy_keys_count; i++)
        if (strcmp(key, policy_keys[i].name) == 0)
            return read_number(r, plan, &policy_keys[i], where, value);
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (strcmp(key, others[i].key) == 0)
            return others[i].read(r, plan, where, value);
    return doc_bad(&r->doc, at, where, "unknown key: expected one of those in etc/policy.yaml");
}

/* ---- policies ----------------------------------------------------------------------------------
 */

static bool is_policy_name(const char *name)
{
    size_t len = strlen(name);
    for (const char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c) && *c != '-' && *c != '_')
            return false;
    return len > 0 && len <= POLICY_NAME_MAX && *name != '-';
}

/* The value of `base:` in a policy; NULL: none. */
static const char *base_of(struct reading *r, yaml_node_t *map)
{
    if (map->type != YAML_MAPPING_NODE)
        return NULL;
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top;
         p++) {
        const char *key = doc_text(doc_node(&r->doc, p->key));
        if (key && strcmp(key, "base") == 0)
            return doc_text(doc_node(&r->doc, p->value));
    }
    return NULL;
}

static int check_together(struct reading *r, const struct policy_plan *plan, yaml_node_t *at)
{
    const struct policy_limits *l = &plan->limits;
    char where[80];
    (void)snprintf(where, sizeof where, "policies.%s", plan->name);
    if (l->tmp_bytes >= l->group.memory_bytes / 2)
        return doc_bad(&r->doc, at, where,
                       "tmp_mb: expected less than half of memory_mb (%" PRIu64 "), got %" PRIu64,
                       l->group.memory_bytes >> 20, l->tmp_bytes >> 20);
    if (l->timeout_ms_max && l->timeout_ms_default > l->timeout_ms_max)
        return doc_bad(&r->doc, at, where,
                       "timeout_default_ms: expected at most timeout_max_ms (%" PRIu64
                       "), got %" PRIu64,
                       l->timeout_ms_max, l->timeout_ms_default);
    return 0;
}

/* Fills plan `index` from what it is based on and its own keys. */
static int read_policy(struct reading *r, uint32_t index, const char *name, yaml_node_t *at,
                       yaml_node_t *map)
{
    struct policy_plan *plan = &r->set->plans[index];
    const char *base = base_of(r, map);
    char where[80];
    int from = base ? policy_find(r->set, base) : 0;
    (void)snprintf(where, sizeof where, "policies.%.32s.base", name);
    if (from < 0 || (index != 0 && !(r->read & 1u << from)) || (index == 0 && base))
        return doc_bad(&r->doc, at, where,
                       "expected the name of a policy that stands above it, got \"%.40s\"",
                       base ? base : "");
    if (index != 0)
        *plan = r->set->plans[from];
    (void)snprintf(plan->name, sizeof plan->name, "%s", name);
    (void)snprintf(where, sizeof where, "policies.%.32s", name);
    int result = walk(r, map, where, on_policy_key, plan);
    r->read |= 1u << index;
    return result < 0 ? result : check_together(r, plan, at);
}

/* `default` first, wherever it stands: the others inherit from it. */
static int on_default(struct doc *d, void *ctx, const char *key, yaml_node_t *at,
                      yaml_node_t *value)
{
    struct reading *r = reading_of(d);
    (void)ctx;
    return strcmp(key, "default") == 0 ? read_policy(r, 0, key, at, value) : 0;
}

static int on_policy(struct doc *d, void *ctx, const char *key, yaml_node_t *at, yaml_node_t *value)
{
    struct reading *r = reading_of(d);
    (void)ctx;
    if (strcmp(key, "default") == 0)
        return 0;
    if (!is_policy_name(key))
        return doc_bad(&r->doc, at, "policies",
                       "expected names of 1-%u letters, digits, - and _, got \"%.40s\"",
                       POLICY_NAME_MAX, key);
    if (r->set->count == POLICIES_MAX)
        return doc_bad(&r->doc, at, "policies", "expected at most %u", POLICIES_MAX);
    /* Named before it is counted: it cannot be its own base. */
    int result = read_policy(r, r->set->count, key, at, value);
    r->set->count += result == 0;
    return result;
}

/* ---- namespaces --------------------------------------------------------------------------------
 */

static int find_named(struct reading *r, const char *where, yaml_node_t *at, const char *name)
{
    int i = name ? policy_find(r->set, name) : -1;
    return i >= 0 ? i
                  : doc_bad(&r->doc, at, where, "expected the name of a policy, got \"%.40s\"",
                            name ? name : "");
}

struct matching {
    struct policy_match *m;
    bool has_policy;
};

static int on_match_key(struct doc *d, void *ctx, const char *key, yaml_node_t *at,
                        yaml_node_t *value)
{
    struct reading *r = reading_of(d);
    static const char where[] = "namespaces";
    struct matching *matching = ctx;
    struct policy_match *m = matching->m;
    const char *text = doc_text(value), *item;
    yaml_node_t *item_at;
    int result = 0;
    if (strcmp(key, "match") == 0) {
        size_t len = text ? strlen(text) : 0;
        size_t stem = len && text[len - 1] == '*' ? len - 1 : len;
        if (!len || len >= sizeof m->pattern || strcspn(text, "*?[ \n") < stem)
            return doc_bad(&r->doc, value, where,
                           "match: expected a namespace id, perhaps ending in *, got \"%.40s\"",
                           text ? text : "");
        (void)snprintf(m->pattern, sizeof m->pattern, "%s", text);
        return 0;
    }
    if (strcmp(key, "policy") == 0) {
        result = find_named(r, where, value, text);
        m->policy = result < 0 ? 0 : (uint32_t)result;
        matching->has_policy = true;
        return result < 0 ? result : 0;
    }
    if (strcmp(key, "may_ask") != 0)
        return doc_bad(&r->doc, at, where, "unknown key %.40s: expected match, policy, may_ask",
                       key);
    for (size_t i = 0; (item = list_item(r, value, where, i, &item_at, &result)); i++) {
        int index = find_named(r, where, item_at, item);
        if (index < 0)
            return index;
        m->may_ask |= 1u << index;
    }
    return result;
}

/* Does everything that fits `inner` fit `outer`? */
static bool covers(const char *outer, const char *inner)
{
    size_t stem = strlen(outer) - 1;
    return outer[stem] == '*' ? strncmp(outer, inner, stem) == 0 : strcmp(outer, inner) == 0;
}

static int read_namespaces(struct reading *r, yaml_node_t *list)
{
    static const char where[] = "namespaces";
    if (list->type != YAML_SEQUENCE_NODE)
        return doc_bad(&r->doc, list, where, "expected a list of {match, policy}");
    if (list_count(list) > POLICY_MATCHES_MAX)
        return doc_bad(&r->doc, list, where, "expected at most %u", POLICY_MATCHES_MAX);
    for (size_t i = 0; i < list_count(list); i++) {
        yaml_node_t *item = doc_node(&r->doc, list->data.sequence.items.start[i]);
        struct policy_match *m = &r->set->matches[r->set->match_count];
        struct matching matching = {.m = m};
        int result = walk(r, item, where, on_match_key, &matching);
        if (result < 0)
            return result;
        if (!*m->pattern || !matching.has_policy)
            return doc_bad(&r->doc, item, where, "%s is missing", *m->pattern ? "policy" : "match");
        for (uint32_t k = 0; k < r->set->match_count; k++)
            if (covers(r->set->matches[k].pattern, m->pattern))
                return doc_bad(&r->doc, item, where,
                               "%.60s is never reached: %.60s stands above it", m->pattern,
                               r->set->matches[k].pattern);
        r->set->match_count++;
    }
    return 0;
}

/* ---- the whole ---------------------------------------------------------------------------------
 */

static yaml_node_t *find_top(struct reading *r, yaml_node_t *root, const char *name)
{
    for (yaml_node_pair_t *p = root->data.mapping.pairs.start; p < root->data.mapping.pairs.top;
         p++) {
        const char *key = doc_text(doc_node(&r->doc, p->key));
        if (key && strcmp(key, name) == 0)
            return doc_node(&r->doc, p->value);
    }
    return NULL;
}

static int on_top(struct doc *d, void *ctx, const char *key, yaml_node_t *at, yaml_node_t *value)
{
    struct reading *r = reading_of(d);
    (void)ctx;
    (void)value;
    if (strcmp(key, "policies") == 0 || strcmp(key, "namespaces") == 0)
        return 0;
    return doc_bad(&r->doc, at, key, "unknown key: expected policies, namespaces");
}

static int read_document(struct reading *r)
{
    yaml_node_t *root = yaml_document_get_root_node(&r->doc.yaml), *part;
    if (!root) /* an empty file: the default policy alone */
        return 0;
    int result = walk(r, root, "the file", on_top, NULL);
    if (result < 0 || root->type != YAML_MAPPING_NODE)
        return result;
    if ((part = find_top(r, root, "policies"))) {
        result = walk(r, part, "policies", on_default, NULL);
        if (result == 0)
            result = walk(r, part, "policies", on_policy, NULL);
    }
    if (result == 0 && (part = find_top(r, root, "namespaces")))
        result = read_namespaces(r, part);
    return result;
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

int policy_read_file(const char *text, size_t len, const char *path, struct policy_set *set,
                     struct err *err)
{
    struct reading r = {.doc = {.path = path, .err = err}, .set = set, .read = 1};
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return err_set(err, "%.90s: out of memory", path);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    int result;
    if (yaml_parser_load(&parser, &r.doc.yaml)) {
        result = read_document(&r);
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
