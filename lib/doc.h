/* SPDX-License-Identifier: Apache-2.0 */
/* lib/doc - a YAML document of the operator's, walked by hand: what is wrong with it names file,
 * line and key. Knows no product word; whoever uses it links libyaml. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <yaml.h>
struct err;

struct doc {
    yaml_document_t yaml;
    const char *path; /* for messages */
    struct err *err;
};

/* Fills err with "path:line: where: " and the text; the line is the node's. Returns <0. */
int doc_bad(struct doc *d, const yaml_node_t *at, const char *where, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
yaml_node_t *doc_node(struct doc *d, int id);
/* A scalar's text without a NUL inside; NULL: it is none. */
const char *doc_text(const yaml_node_t *n);
/* "key:" with nothing behind it. */
bool doc_is_nothing(const yaml_node_t *n);
/* Does the key of this pair stand before it in its mapping, too? */
bool doc_key_repeats(struct doc *d, const yaml_node_t *map, const yaml_node_pair_t *pair);
/* Calls `each` for the pairs of a mapping until it says <0; checks that keys are text and stand
 * once. */
typedef int doc_each(struct doc *d, void *ctx, const char *key, yaml_node_t *key_at,
                     yaml_node_t *value);
int doc_walk(struct doc *d, const yaml_node_t *map, const char *where, doc_each *each, void *ctx);
