/* SPDX-License-Identifier: Apache-2.0 */
/* keys/list - keys as they are read, from a file and from API_KEYS, until they are sealed.
 *
 * In the supervisor at start, in priv's confined child on reload, in the CLI. The tokens of
 * API_KEYS are hashed here and overwritten; no message of this file repeats a byte of one.
 */
#include "keys/list.h"
#include "keys/block.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/num.h"
#include <fcntl.h>
#include <math.h>
#include <sys/mman.h>

int key_list_add(struct key_list *list, const struct key_entry *entry)
{
    if (list->count == KEYS_MAX)
        return -E2BIG;
    if (list->count == list->room) {
        size_t room = list->room ? list->room * 2 : 16;
        struct key_entry *at = realloc(list->at, room * sizeof *at);
        if (!at)
            return -ENOMEM;
        list->at = at;
        list->room = room;
    }
    list->at[list->count++] = *entry;
    return 0;
}

void keys_list_fini(struct key_list *list)
{
    free(list->at);
    *list = (struct key_list){0};
}

int key_parse_rate(const char *text, double *ret)
{
    char *end;
    size_t digits = strspn(text, "0123456789.");
    if (!*text || text[digits] || strchr(text, '.') != strrchr(text, '.'))
        return -1;
    errno = 0;
    double v = strtod(text, &end);
    if (*end || end == text || !isfinite(v) || v > KEY_RATE_MAX || (v > 0 && v < KEY_RATE_MIN))
        return -1;
    *ret = v;
    return 0;
}

void key_settle_burst(struct key *key)
{
    if (key->rate <= 0)
        key->burst = 0; /* nothing refills it, so there is no bucket */
    else if (key->burst == 0)
        key->burst = (uint32_t)fmax(1, ceil(key->rate));
}

/* ---- API_KEYS ----------------------------------------------------------------------------------
 */

static bool is_token(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    return len >= KEY_TOKEN_MIN && len <= KEY_TOKEN_MAX;
}

/* Splits at colons, in place; more than four parts are none. */
static size_t split(char *item, char *parts[4])
{
    size_t n = 0;
    for (char *at = item, *next; at; at = next) {
        next = strchr(at, ':');
        if (next)
            *next++ = 0;
        if (n == 4)
            return 0;
        parts[n++] = at;
    }
    return n;
}

static int read_item(char *item, size_t number, struct key_list *list, struct err *err)
{
    char *parts[4];
    struct key_entry e = {
        .key = {.namespaces = "*", .scopes = KEY_EXECUTE | KEY_RUNS | KEY_FILES | KEY_NAMESPACES}};
    uint64_t burst = 0;
    size_t n = split(item, parts);
    if (n < 2)
        return err_set(err, "entry %zu: expected TOKEN:LABEL[:REQUESTS_PER_SECOND[:BURST]]",
                       number);
    if (!is_token(parts[0], strlen(parts[0])))
        return err_set(err, "entry %zu: expected a token of %u to %u printable characters", number,
                       KEY_TOKEN_MIN, KEY_TOKEN_MAX);
    if (!key_label_is_valid(parts[1]))
        return err_set(err, "entry %zu: expected a label of 1-%u characters of [A-Za-z0-9._@-]",
                       number, KEY_LABEL_MAX);
    if (n > 2 && key_parse_rate(parts[2], &e.key.rate) < 0)
        return err_set(err, "entry %zu (%s): expected requests per second from 0.001 to %u, or 0",
                       number, parts[1], KEY_RATE_MAX);
    if (n > 3 && num_parse_u64(parts[3], 0, KEY_BURST_MAX, &burst) < 0)
        return err_set(err, "entry %zu (%s): expected a burst from 0 to %u", number, parts[1],
                       KEY_BURST_MAX);
    (void)snprintf(e.key.label, sizeof e.key.label, "%s", parts[1]);
    e.key.burst = (uint32_t)burst;
    key_settle_burst(&e.key);
    keys_hash(parts[0], strlen(parts[0]), e.sha256);
    return key_list_add(list, &e) < 0 ? err_set(err, "out of memory") : 0;
}

int keys_read_list(char *text, struct key_list *list, struct err *err)
{
    size_t len = strlen(text), number = 0;
    int r = 0;
    for (char *at = text, *next; at && r == 0; at = next) {
        next = strchr(at, ',');
        if (next)
            *next++ = 0;
        at += strspn(at, " \t\n");
        for (size_t n = strlen(at); n > 0 && strchr(" \t\n", at[n - 1]); n--)
            at[n - 1] = 0;
        number++;
        if (*at)
            r = read_item(at, number, list, err);
    }
    explicit_bzero(text, len);
    return r;
}

/* ---- the whole ---------------------------------------------------------------------------------
 */

int keys_join(struct key_list *list, const struct key_list *other, struct err *err)
{
    for (size_t i = 0; i < other->count; i++)
        if (key_list_add(list, &other->at[i]) < 0)
            return err_set(err, "expected at most %u keys, and memory for them", KEYS_MAX);
    return 0;
}

static int by_label(const void *a, const void *b)
{
    const struct key_entry *const *x = a, *const *y = b;
    return strcmp((*x)->key.label, (*y)->key.label);
}

static int by_hash(const void *a, const void *b)
{
    const struct key_entry *const *x = a, *const *y = b;
    return memcmp((*x)->sha256, (*y)->sha256, sizeof(*x)->sha256);
}

int keys_check_list(const struct key_list *list, struct err *err)
{
    size_t n = list->count;
    auto_free const struct key_entry **sorted = malloc((n + 1) * sizeof *sorted);
    if (!sorted)
        return err_set(err, "out of memory");
    for (size_t i = 0; i < n; i++)
        sorted[i] = &list->at[i];
    qsort(sorted, n, sizeof *sorted, by_label);
    for (size_t i = 1; i < n; i++)
        if (by_label(&sorted[i - 1], &sorted[i]) == 0)
            return err_set(err, "the label %s stands twice: expected one key of that name",
                           sorted[i]->key.label);
    qsort(sorted, n, sizeof *sorted, by_hash);
    for (size_t i = 1; i < n; i++)
        if (by_hash(&sorted[i - 1], &sorted[i]) == 0)
            return err_set(err, "%s and %s have the same token: expected one of their own",
                           sorted[i - 1]->key.label, sorted[i]->key.label);
    return 0;
}

size_t keys_block_bytes(size_t count)
{
    return sizeof(struct key_block) + count * sizeof(struct key_record);
}

int keys_write(const struct key_list *list, int fd, struct err *err)
{
    size_t bytes = keys_block_bytes(list->count);
    auto_free struct key_block *block = calloc(1, bytes);
    if (!block)
        return err_set(err, "out of memory");
    block->magic = KEY_BLOCK_MAGIC;
    block->count = (uint32_t)list->count;
    for (size_t i = 0; i < list->count; i++) {
        block->records[i].key = list->at[i].key;
        memcpy(block->records[i].sha256, list->at[i].sha256, sizeof block->records[i].sha256);
    }
    return fd_write_all(fd, block, bytes) < 0 ? err_sys(err, "write the keys") : 0;
}

int keys_seal(const struct key_list *list, struct err *err)
{
    auto_close int fd = SYS(memfd_create("brood-keys", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (fd < 0)
        return err_sys(err, "memfd for the keys");
    if (keys_write(list, fd, err) < 0)
        return err->code;
    if (SYS(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)) < 0)
        return err_sys(err, "seal the keys");
    return fd_take(&fd);
}
