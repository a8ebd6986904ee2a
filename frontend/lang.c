/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/lang - see lang.h.
 *
 * In the frontend, per thread. Names and aliases are the operator's files, read by the supervisor
 * and probed by the engine; here they are only compared and shown. The answer of GET /v1/languages
 * is written once for each Hello, like capabilities.
 */
#include "frontend/lang.h"
#include "frontend/json_out.h"
#include "lib/buf.h"
#include <strings.h>

#define JSON_BYTES_MAX (256u * 1024)

static void put_text(struct buf *b, const char *text)
{
    size_t len = strlen(text), taken = 0;
    if (!buf_reserve(b, 6 * len + JSON_OUT_ROOM_MIN + 2))
        return;
    (void)buf_add(b, "\"", 1);
    b->len += json_out_text(b->data + b->len, b->room - b->len, text, len, &taken);
    (void)buf_add(b, "\"", 1);
}

static void put_lang(struct buf *b, const struct lang *l)
{
    (void)buf_addf(b, "{\"name\":");
    put_text(b, l->name);
    (void)buf_addf(b, ",\"aliases\":[");
    for (size_t i = 0; i < l->alias_count; i++) {
        (void)buf_addf(b, "%s", i ? "," : "");
        put_text(b, l->aliases[i]);
    }
    (void)buf_addf(b, "],\"version\":");
    put_text(b, l->version);
    (void)buf_addf(b, ",\"available\":%s}", l->available ? "true" : "false");
}

static struct lang copy_of(const struct proto_language *from)
{
    struct lang to = {
        .alias_count = from->alias_count, .available = from->available, .compiles = from->compiles};
    (void)snprintf(to.name, sizeof to.name, "%s", from->name);
    (void)snprintf(to.version, sizeof to.version, "%s", from->version);
    for (size_t i = 0; i < from->alias_count; i++)
        (void)snprintf(to.aliases[i], sizeof to.aliases[i], "%s", from->aliases[i]);
    return to;
}

void lang_list_set(struct lang_list *l, const struct proto_hello *h)
{
    struct lang *at = calloc(h->language_count + 1, sizeof *at);
    struct buf json = {.cap = JSON_BYTES_MAX};
    for (size_t i = 0; at && i < h->language_count; i++) {
        at[i] = copy_of(&h->languages[i]);
        (void)buf_addf(&json, "%s", i ? "," : "[");
        put_lang(&json, &at[i]);
    }
    (void)buf_addf(&json, "%s]\n", h->language_count ? "" : "[");
    if (!at || json.failed || !buf_add(&json, "", 1)) {
        free(at);
        buf_fini(&json);
        return;
    }
    lang_list_fini(l);
    *l = (struct lang_list){.at = at, .count = h->language_count, .json = json.data};
}

const struct lang *lang_find(const struct lang_list *l, const char *name)
{
    for (size_t i = 0; i < l->count; i++) {
        if (strcasecmp(l->at[i].name, name) == 0)
            return &l->at[i];
        for (size_t k = 0; k < l->at[i].alias_count; k++)
            if (strcasecmp(l->at[i].aliases[k], name) == 0)
                return &l->at[i];
    }
    return NULL;
}

void lang_list_names(const struct lang_list *l, char *ret, size_t room)
{
    size_t n = 0;
    (void)snprintf(ret, room, "none");
    for (size_t i = 0; i < l->count && n < room; i++)
        if (l->at[i].available)
            n += (size_t)snprintf(ret + n, room - n, "%s%s", n ? ", " : "", l->at[i].name);
}

void lang_list_fini(struct lang_list *l)
{
    free(l->at);
    free(l->json);
    *l = (struct lang_list){.count = 0};
}
