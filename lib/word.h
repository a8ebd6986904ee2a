/* SPDX-License-Identifier: Apache-2.0 */
/* lib/word - a word in a list of words. */
#pragma once
#include <stdbool.h>

/* Does `list`, separated by commas, blanks or a newline at its end, hold `word`? */
bool word_in(const char *list, const char *word);
