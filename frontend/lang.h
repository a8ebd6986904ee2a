/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/lang - the languages of this service, as the engine's last Hello has them. */
#pragma once
#include "protocol/protocol.h"

struct lang {
    char name[PROTO_LANGUAGE_NAME_MAX + 1];
    char aliases[PROTO_ALIASES_MAX][PROTO_LANGUAGE_NAME_MAX + 1];
    size_t alias_count;
    char version[128];
    bool available, compiles;
};

struct lang_list {
    struct lang *at;
    size_t count;
    char *json; /* the answer of GET /v1/languages */
};

/* Copies what the Hello says; on a shortage of memory the list stays as it was. */
void lang_list_set(struct lang_list *l, const struct proto_hello *h);
/* By name or alias, in any case of letters. NULL: unknown. */
const struct lang *lang_find(const struct lang_list *l, const char *name);
/* "bash, python" of those that are available; "none" when nothing is. */
void lang_list_names(const struct lang_list *l, char *ret, size_t room);
void lang_list_fini(struct lang_list *l);
