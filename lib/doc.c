/* SPDX-License-Identifier: Apache-2.0 */
/* lib/doc - see doc.h. */
#include "lib/doc.h"
#include "lib/err.h"
#include <stdarg.h>

int doc_bad(struct doc *d, const yaml_node_t *at, const char *where, const char *fmt, ...)
{
    char text[160];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return err_set(d->err, "%.90s:%zu: %.70s: %s", d->path, at->start_mark.line + 1, where, text);
}

yaml_node_t *doc_node(struct doc *d, int id)
{
    return yaml_document_get_node(&d->yaml, id);
}

const char *doc_text(const yaml_node_t *n)
{
    if (!n || n->type != YAML_SCALAR_NODE ||
        strlen((const char *)n->data.scalar.value) != n->data.scalar.length)
        return NULL;
    return (const char *)n->data.scalar.value;
}

bool doc_is_nothing(const yaml_node_t *n)
{
    return n->type == YAML_SCALAR_NODE && n->data.scalar.length == 0;
}

bool doc_key_repeats(struct doc *d, const yaml_node_t *map, const yaml_node_pair_t *pair)
{
    const char *key = doc_text(doc_node(d, pair->key));
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; key && p < pair; p++) {
        const char *other = doc_text(doc_node(d, p->key));
        if (other && strcmp(other, key) == 0)
            return true;
    }
    return false;
}

int doc_walk(struct doc *d, const yaml_node_t *map, const char *where, doc_each *each, void *ctx)
{
    if (map->type != YAML_MAPPING_NODE)
        return doc_bad(d, map, where, "expected a mapping of keys to values");
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top;
         p++) {
        yaml_node_t *at = doc_node(d, p->key);
        const char *key = doc_text(at);
        if (!key)
            return doc_bad(d, at ? at : map, where, "expected a word as key");
        if (doc_key_repeats(d, map, p))
            return doc_bad(d, at, where, "%.40s stands twice", key);
        int result = each(d, ctx, key, at, doc_node(d, p->value));
        if (result < 0)
            return result;
    }
    return 0;
}
