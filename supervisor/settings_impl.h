/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/settings_impl - what the settings_*.c files share: the table of settings, and where
 * each value came from. */
#pragma once
#include "supervisor/settings.h"

#define SETTINGS_COUNT 111
#define SETTINGS_FILE_BYTES_MAX 65536

enum setting_type { SETTING_U64, SETTING_U32, SETTING_TEXT, SETTING_PATH, SETTING_WORD };

/* One setting. Its name in the file is `group.key`; the variable is BROOD_GROUP_KEY and the flag
 * --group-key. A number whose name ends in _mb, _kb, _ms or _s is written in that unit and stored
 * in bytes or ms, as are min and max; the flag may leave the unit's ending out and then the value
 * carries it: --limits-memory-mb 64, --limits-memory 64M. */
struct setting {
    const char *name;
    enum setting_type type;
    bool reloadable;
    size_t offset, size;      /* the member of struct settings */
    uint64_t min, max;        /* of a number; of a text's length */
    const char *initial;      /* the default, as it would be written in the file */
    const char *const *words; /* of SETTING_WORD: NULL-terminated, in the order of the enum */
    const char *also_env, *also_flag;
    const char *help;
    bool secret; /* never shown, and overwritten wherever it was read */
};

extern const struct setting settings_table[SETTINGS_COUNT];

enum settings_source {
    SETTINGS_DEFAULT,
    SETTINGS_YAML,
    SETTINGS_DOTENV,
    SETTINGS_ENV,
    SETTINGS_FLAG
};

/* One reading of all sources. */
struct settings_reading {
    struct settings *set;
    const char *yaml_path, *dotenv_path;
    struct {
        enum settings_source source;
        unsigned line;
        bool bare; /* a flag without the unit in its name */
    } from[SETTINGS_COUNT];
    bool had_keys; /* when the service started */
    struct err *err;
};

/* The setting of that name in the file / variable / flag (without --); -1: there is none.
 * *ret_bare: the flag's name came without its unit. */
int setting_find(const char *name);
int setting_find_env(const char *name);
int setting_find_flag(const char *name, size_t len, bool *ret_bare);
/* Checks the text and stores the value. 0, or <0: err says where, which key, what was expected. */
int setting_store(struct settings_reading *r, int index, enum settings_source source, unsigned line,
                  bool bare, const char *text);
/* settings_check.c: when all are stored. 0 or <0. */
int settings_check(struct settings_reading *r);
/* Fills err with "where: key: " and the text; where the value in force came from. Returns <0. */
int setting_refuse(struct settings_reading *r, int index, const char *fmt, ...) PRINTF_LIKE(3, 4);
void settings_print_help(void);
/* The YAML file's text, NUL-terminated. 0 or <0. */
int settings_read_yaml(struct settings_reading *r, const char *text, size_t len);
