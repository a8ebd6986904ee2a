/* SPDX-License-Identifier: Apache-2.0 */
/* t/fuzz/language - a language file: what is accepted keeps the bounds of languages.h. */
#include "languages/languages.h"
#include "lib/err.h"
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_texts(const struct language_texts *t, uint32_t most)
{
    uint32_t count = 0;
    assert(t->count <= most && t->bytes <= sizeof t->text && (t->count > 0) == (t->bytes > 0));
    assert(t->bytes == 0 || t->text[t->bytes - 1] == 0);
    for (uint32_t i = 0; i < t->bytes; i++)
        count += t->text[i] == 0;
    assert(count == t->count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct language_set set;
    static char filled[8 * LANGUAGE_TEXT_ROOM];
    struct err err = {0};
    set.count = 0;
    if (languages_read((const char *)data, size, "f", &set, &err) < 0) {
        assert(err.code < 0 && *err.text && set.count == 0);
        return 0;
    }
    const struct language *l = &set.languages[0];
    assert(set.count == 1 && *l->name && *l->source && l->alias_count <= LANGUAGE_ALIASES_MAX);
    assert(!strchr(l->source, '/') && *l->source != '.' && l->run.argv.count > 0);
    check_texts(&l->run.argv, LANGUAGE_ARGV_MAX);
    check_texts(&l->compile.argv, LANGUAGE_ARGV_MAX);
    check_texts(&l->version, LANGUAGE_ARGV_MAX);
    check_texts(&l->env, LANGUAGE_ENV_MAX);
    assert(languages_find(&set, l->name) == l);
    assert(languages_fill(&l->run.argv, ".run/main", ".run", filled, sizeof filled) <=
           sizeof filled);
    return 0;
}
