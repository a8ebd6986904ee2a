/* SPDX-License-Identifier: Apache-2.0 */
/* languages/set - looking one up, and filling its argv in. In the engine, for each run of code.
 */
#include "languages/languages.h"
#include <strings.h>

const struct language *languages_find(const struct language_set *set, const char *name)
{
    for (uint32_t i = 0; i < set->count; i++) {
        const struct language *l = &set->languages[i];
        if (strcasecmp(l->name, name) == 0)
            return l;
        for (uint32_t k = 0; k < l->alias_count; k++)
            if (strcasecmp(l->aliases[k], name) == 0)
                return l;
    }
    return NULL;
}

size_t languages_fill(const struct language_texts *argv, const char *source, const char *dir,
                      char *ret, size_t room)
{
    const struct {
        const char *place, *value;
    } places[] = {{"{source}", source}, {"{dir}", dir}};
    size_t n = 0;
    for (const char *at = argv->text, *end = at + argv->bytes; at < end;) {
        const char *from = at;
        size_t len = 1, skip = 1;
        for (size_t i = 0; i < ARRAY_LEN(places); i++) {
            size_t place = strlen(places[i].place);
            if (strncmp(at, places[i].place, place) != 0) /* ends at its NUL at the latest */
                continue;
            from = places[i].value;
            len = strlen(from);
            skip = place;
        }
        if (len > room - n)
            return 0;
        memcpy(ret + n, from, len);
        n += len;
        at += skip;
    }
    return n;
}
