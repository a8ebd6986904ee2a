/* SPDX-License-Identifier: Apache-2.0 */
/* languages - what runs the code of a language: data, a small YAML file each.
 *
 * brood-language(5) documents the keys. Read by the supervisor before it splits, as the operator
 * who started it; the ten that ship are embedded. Fixed while the service runs. A set is one flat
 * block, so the engine has it by its fork.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
struct err;

#define LANGUAGES_MAX 64
#define LANGUAGE_NAME_ROOM 33
#define LANGUAGE_ALIASES_MAX 8
#define LANGUAGE_SOURCE_ROOM 64
#define LANGUAGE_ARGV_MAX 32
#define LANGUAGE_ENV_MAX 12
#define LANGUAGE_TEXT_ROOM 2048 /* of one argv or environment, with its NULs */
#define LANGUAGE_FILE_BYTES_MAX 65536

/* Strings one after the other, each with its NUL. In an argv `{source}` and `{dir}` stand for the
 * file with the code and its directory. */
struct language_texts {
    uint32_t count, bytes;
    char text[LANGUAGE_TEXT_ROOM];
};

struct language_stage {
    struct language_texts argv;      /* count 0: there is no such stage */
    uint64_t timeout_ms, cpu_ms;     /* of compiling. 0: as the run's; as the ceilings */
    uint64_t memory_bytes, pids_max; /* of the run: what it needs; never beyond the policy's */
};

struct language {
    char name[LANGUAGE_NAME_ROOM], aliases[LANGUAGE_ALIASES_MAX][LANGUAGE_NAME_ROOM];
    uint32_t alias_count;
    char source[LANGUAGE_SOURCE_ROOM]; /* file name of the code: "main.py" */
    struct language_stage compile, run;
    struct language_texts version; /* argv of what prints it, with exit status 0 */
    struct language_texts env;     /* NAME=value, under what the request gives */
};

struct language_set {
    uint32_t count;
    struct language languages[LANGUAGES_MAX];
};

/* Reads all *.yaml of this directory ("": the embedded ten; "none": no language), in the order of
 * their names. 0; or <0: err names file, line, key and what was expected. Uses libyaml. */
int languages_load(const char *dir, struct language_set *ret, struct err *err);
/* Adds the one that this text describes; `path` is for messages. 0 or <0, as above. */
int languages_read(const char *text, size_t len, const char *path, struct language_set *set,
                   struct err *err);
/* By name or alias, in any case of letters. NULL: unknown. */
const struct language *languages_find(const struct language_set *set, const char *name);
/* Writes argv with its places filled in, NULs and all, into ret. Bytes written; 0: no room. */
size_t languages_fill(const struct language_texts *argv, const char *source, const char *dir,
                      char *ret, size_t room);
/* The text of embedded file i and its name; NULL: there are no more. */
const char *languages_embedded(size_t i, const char **ret_name, size_t *ret_bytes);
