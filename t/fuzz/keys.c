/* SPDX-License-Identifier: Apache-2.0 */
/* t/fuzz/keys - any bytes as a key file, as API_KEYS and as an Authorization header: refused with a
 * reason that names its place, or keys whose texts are within bounds, which make a set, and of
 * which no unknown header is one.
 */
#include "keys/keys.h"
#include "lib/err.h"
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const struct key_list *list, const char *header, size_t len)
{
    struct err err = {0};
    struct key_set *set = NULL;
    struct key_bucket_state bucket;
    const struct key *key;
    if (keys_check_list(list, &err) < 0) {
        assert(err.text[0]);
        return;
    }
    auto_close int fd = keys_seal(list, &err);
    assert(fd >= 0 && keys_load(fd, NULL, &set, &err) == 0 && keys_count(set) == list->count);
    enum key_verdict v = keys_check(set, header, len, 1, 1, &key, &bucket);
    assert(v == KEY_WRONG && !key);
    keys_unref(set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = {0};
    struct key_list file = {0}, listed = {0};
    char *text = malloc(size + 1);
    assert(text);
    memcpy(text, data, size);
    text[size] = 0;
    if (keys_read_file(text, size, "k", &file, &err) < 0) {
        assert(err.code < 0 && strncmp(err.text, "k:", 2) == 0);
    } else {
        for (size_t i = 0; i < file.count; i++)
            assert(key_label_is_valid(file.at[i].key.label) && file.at[i].key.scopes &&
                   key_pattern_is_valid(file.at[i].key.namespaces));
        use(&file, text, size);
    }
    if (keys_read_list(text, &listed, &err) == 0)
        use(&listed, (const char *)data, size);
    for (size_t i = 0; i < strlen(text); i++)
        assert(text[i] == 0);
    keys_list_fini(&file);
    keys_list_fini(&listed);
    free(text);
    return 0;
}
