/* SPDX-License-Identifier: Apache-2.0 */
/* languages/embedded - etc/languages.d/ as it was at build time, inside the supervisor: the ten
 * that ship work where nothing was installed.
 */
#include "languages/languages.h"

#define FILES(F) F(bash) F(c) F(cpp) F(go) F(java) F(node) F(perl) F(php) F(python) F(ruby)

#define EMBED(name)                                                                                \
    __asm__(".pushsection .rodata\n"                                                               \
            ".global language_" #name "\n"                                                         \
            ".global language_" #name "_end\n"                                                     \
            "language_" #name ":\n"                                                                \
            ".incbin \"etc/languages.d/" #name ".yaml\"\n"                                         \
            "language_" #name "_end:\n"                                                            \
            ".byte 0\n"                                                                            \
            ".popsection\n");                                                                      \
    extern const char language_##name[], language_##name##_end[];
FILES(EMBED)

#define ENTRY(name) {#name ".yaml", language_##name, language_##name##_end},

static const struct {
    const char *name, *text, *end;
} files[] = {FILES(ENTRY)};

const char *languages_embedded(size_t i, const char **ret_name, size_t *ret_bytes)
{
    if (i >= ARRAY_LEN(files))
        return NULL;
    *ret_name = files[i].name;
    *ret_bytes = (size_t)(files[i].end - files[i].text);
    return files[i].text;
}
