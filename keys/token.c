/* SPDX-License-Identifier: Apache-2.0 */
/* keys/token - tokens and the small words of keys: hash, make, scopes, times, names.
 *
 * SHA-256 is libcrypto's own block function, called without its providers: a hash is 0.1 us, needs
 * no lock and no file, so it works behind landlock. The supervisor and the CLI link these few
 * objects statically; the frontend has the library anyway.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "keys/keys.h"
#include "lib/err.h"
#include <ctype.h>
#include <openssl/sha.h>
#include <sys/random.h>
#include <time.h>

void keys_hash(const char *token, size_t len, uint8_t ret[32])
{
    SHA256_CTX ctx;
    (void)SHA256_Init(&ctx);
    (void)SHA256_Update(&ctx, token, len);
    (void)SHA256_Final(ret, &ctx);
    explicit_bzero(&ctx, sizeof ctx);
}

int keys_make_token(char ret_token[KEY_TOKEN_ROOM], char ret_hash[65], struct err *err)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint8_t random[33] = {0}, hash[32];
    if (SYS(getrandom(random, 32, 0)) != 32)
        return err_sys(err, "random bytes");
    size_t n = (size_t)snprintf(ret_token, KEY_TOKEN_ROOM, "brood_");
    for (size_t bit = 0; bit < 256; bit += 6) {
        unsigned two = (unsigned)random[bit / 8] << 8 | random[bit / 8 + 1];
        ret_token[n++] = letters[two >> (10 - bit % 8) & 63];
    }
    ret_token[n] = 0;
    keys_hash(ret_token, n, hash);
    for (size_t i = 0; i < sizeof hash; i++)
        (void)snprintf(ret_hash + 2 * i, 3, "%02x", hash[i]);
    explicit_bzero(random, sizeof random);
    return 0;
}

static const struct {
    const char *name;
    unsigned bit;
} scopes[] = {{"execute", KEY_EXECUTE},
              {"runs", KEY_RUNS},
              {"files", KEY_FILES},
              {"namespaces", KEY_NAMESPACES},
              {"admin", KEY_ADMIN}};

unsigned key_scope_of(const char *word)
{
    for (size_t i = 0; i < ARRAY_LEN(scopes); i++)
        if (strcmp(word, scopes[i].name) == 0)
            return scopes[i].bit;
    return 0;
}

void key_scope_names(unsigned bits, char *ret, size_t room)
{
    size_t n = 0;
    *ret = 0;
    for (size_t i = 0; i < ARRAY_LEN(scopes) && n < room; i++)
        if (bits & scopes[i].bit)
            n += (size_t)snprintf(ret + n, room - n, "%s%s", n ? "," : "", scopes[i].name);
}

bool key_has(const struct key *key, unsigned bits)
{
    return !key || key->scopes & KEY_ADMIN || (key->scopes & bits) == bits;
}

bool key_may_use(const struct key *key, const char *ns_id)
{
    if (!key || !*ns_id || key->scopes & KEY_ADMIN)
        return true;
    size_t len = strlen(key->namespaces);
    if (len > 0 && key->namespaces[len - 1] == '*')
        return strncmp(ns_id, key->namespaces, len - 1) == 0;
    return strcmp(ns_id, key->namespaces) == 0;
}

/* 1-`max` characters of [A-Za-z0-9] and `others`, not beginning with one of `not_first`. */
static bool is_name(const char *text, size_t len, size_t max, const char *others,
                    const char *not_first)
{
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)text[i]) && !strchr(others, text[i]))
            return false;
    return len > 0 && len <= max && !strchr(not_first, *text);
}

bool key_label_is_valid(const char *text)
{
    return is_name(text, strlen(text), KEY_LABEL_MAX, "._@-", "-");
}

bool key_pattern_is_valid(const char *text)
{
    size_t len = strlen(text);
    bool open = len > 0 && text[len - 1] == '*';
    return (open && len == 1) || is_name(text, len - open, 64, "._-", ".-");
}

bool key_policy_is_valid(const char *text)
{
    return is_name(text, strlen(text), 32, "_-", "-");
}

/* `n` digits as a number; -1: they are none, or beyond [least, most]. */
static int digits(const char **at, size_t n, int least, int most)
{
    int value = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isdigit((unsigned char)(*at)[i]))
            return -1;
        value = value * 10 + (*at)[i] - '0';
    }
    *at += n;
    return value < least || value > most ? -1 : value;
}

static bool take(const char **at, const char *any)
{
    if (!**at || !strchr(any, **at))
        return false;
    ++*at;
    return true;
}

/* "Z", "+02:00"; seconds east of Greenwich. */
static bool take_offset(const char **at, int *ret_s)
{
    int sign = **at == '-' ? -1 : 1, hours, minutes;
    *ret_s = 0;
    if (take(at, "Zz"))
        return true;
    if (!take(at, "+-") || (hours = digits(at, 2, 0, 23)) < 0 || !take(at, ":") ||
        (minutes = digits(at, 2, 0, 59)) < 0)
        return false;
    *ret_s = sign * (hours * 3600 + minutes * 60);
    return true;
}

int key_parse_time(const char *text, int64_t *ret_ms)
{
    struct tm tm = {0};
    int64_t ms = 0, unit = 100;
    int offset;
    if ((tm.tm_year = digits(&text, 4, 1970, 9999)) < 0 || !take(&text, "-") ||
        (tm.tm_mon = digits(&text, 2, 1, 12)) < 0 || !take(&text, "-") ||
        (tm.tm_mday = digits(&text, 2, 1, 31)) < 0 || !take(&text, "Tt ") ||
        (tm.tm_hour = digits(&text, 2, 0, 23)) < 0 || !take(&text, ":") ||
        (tm.tm_min = digits(&text, 2, 0, 59)) < 0 || !take(&text, ":") ||
        (tm.tm_sec = digits(&text, 2, 0, 59)) < 0)
        return -1;
    int day = tm.tm_mday;
    if (take(&text, ".")) {
        if (!isdigit((unsigned char)*text))
            return -1;
        for (; isdigit((unsigned char)*text); text++, unit /= 10)
            ms += (*text - '0') * unit;
    }
    if (!take_offset(&text, &offset) || *text)
        return -1;
    tm.tm_year -= 1900;
    tm.tm_mon--;
    int64_t s = timegm(&tm);
    if (tm.tm_mday != day) /* February 30 has become March 2 */
        return -1;
    *ret_ms = (s - offset) * 1000 + ms;
    return *ret_ms > 0 ? 0 : -1;
}
