/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/word.h"

bool word_in(const char *list, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += len)
        if ((at == list || strchr(", ", at[-1])) && (!at[len] || strchr(", \n", at[len])))
            return true;
    return false;
}
