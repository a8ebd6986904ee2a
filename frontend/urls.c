/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/urls - see urls.h.
 *
 * In the frontend. The signature is over the payload's text as it is sent and is itself compared as
 * text, so there is exactly one spelling of a URL that is good: no other base64, case or padding of
 * the same bytes. It is checked before anything in the payload is looked at.
 */
#include "frontend/urls.h"
#include "frontend/http.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/num.h"
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/random.h>
#include <sys/stat.h>

#define KEY_FILE "url.key"
#define KEY_TEMP ".url.key.new"
#define PAYLOAD_MAX 96u /* "1:", an id, ":", 19 digits */
#define SIG_LEN 64u

/* ---- the secret -------------------------------------------------------------------------------
 */

static int make_secret(int state_fd, struct urls *ret, struct err *err)
{
    if (SYS(getrandom(ret->secret, sizeof ret->secret, 0)) != sizeof ret->secret)
        return err_sys(err, "state_dir: random bytes");
    (void)unlinkat(state_fd, KEY_TEMP, 0);
    auto_close int fd =
        SYS(openat(state_fd, KEY_TEMP, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (fd < 0 || SYS(fd_write_all(fd, ret->secret, sizeof ret->secret)) < 0 ||
        SYS(fsync(fd)) < 0 || SYS(renameat(state_fd, KEY_TEMP, state_fd, KEY_FILE)) < 0 ||
        SYS(fsync(state_fd)) < 0)
        return err_sys(err, "state_dir: make " KEY_FILE);
    return 0;
}

int urls_open(int state_fd, struct urls *ret, struct err *err)
{
    unsigned char more[URL_SECRET_BYTES + 1];
    struct stat st;
    auto_close int fd =
        SYS(openat(state_fd, KEY_FILE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    (void)HMAC(EVP_sha256(), "", 0, (const unsigned char *)"", 0, more,
               NULL); /* loads what it needs */
    if (fd < 0 && errno == ENOENT)
        return make_secret(state_fd, ret, err);
    if (fd < 0 || SYS(fstat(fd, &st)) < 0)
        return err_sys(err, "state_dir: " KEY_FILE);
    if (!S_ISREG(st.st_mode) || SYS(pread(fd, more, sizeof more, 0)) != URL_SECRET_BYTES)
        return err_set(err,
                       "state_dir: " KEY_FILE ": expected %u random bytes; remove it to have a "
                       "new one (URLs given before then end)",
                       URL_SECRET_BYTES);
    memcpy(ret->secret, more, sizeof ret->secret);
    return 0;
}

/* ---- signatures -------------------------------------------------------------------------------
 */

static bool sign(const struct urls *u, const char *payload, size_t len, char ret[SIG_LEN + 1])
{
    unsigned char mac[SIG_LEN / 2];
    unsigned mac_len = 0;
    if (!HMAC(EVP_sha256(), u->secret, sizeof u->secret, (const unsigned char *)payload, len, mac,
              &mac_len) ||
        mac_len != sizeof mac)
        return false;
    for (size_t i = 0; i < sizeof mac; i++)
        (void)snprintf(ret + 2 * i, 3, "%02x", mac[i]);
    return true;
}

static size_t to_base64url(const char *text, size_t len, char *ret)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    size_t n = 0;
    for (size_t i = 0; i < len; i += 3) {
        unsigned v = 0;
        for (size_t k = 0; k < 3; k++)
            v = v << 8 | (i + k < len ? (unsigned char)text[i + k] : 0);
        for (size_t k = 0; k < 4 && i + k <= len; k++)
            ret[n++] = digits[v >> (18 - 6 * k) & 63];
    }
    ret[n] = 0;
    return n;
}

static size_t write_payload(struct http_text id, int64_t expires_s, char ret[2 * PAYLOAD_MAX])
{
    char text[PAYLOAD_MAX];
    int n = snprintf(text, sizeof text, "1:%.*s:%" PRId64, (int)id.len, id.at, expires_s);
    return n > 0 && (size_t)n < sizeof text ? to_base64url(text, (size_t)n, ret) : 0;
}

void urls_make(const struct urls *u, const char *base, const char *id, int64_t expires_ms,
               char ret[URL_ROOM])
{
    char payload[2 * PAYLOAD_MAX], sig[SIG_LEN + 1] = "";
    size_t len = write_payload((struct http_text){id, strlen(id)}, expires_ms / 1000, payload);
    (void)sign(u, payload, len, sig);
    (void)snprintf(ret, URL_ROOM, "%.*s/v1/files/%.64s?payload=%.*s&sig=%s", (int)URL_BASE_MAX,
                   base, id, (int)len, payload, sig);
}

/* ---- checking ---------------------------------------------------------------------------------
 */

static int digit_of(char c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '-'             ? 62
           : c == '_'             ? 63
                                  : -1;
}

/* -1: it is none. */
static int from_base64url(struct http_text in, char *ret, size_t room)
{
    size_t n = 0;
    unsigned v = 0, bits = 0;
    for (size_t i = 0; i < in.len; i++) {
        int d = digit_of(in.at[i]);
        if (d < 0 || n + 1 >= room)
            return -1;
        v = v << 6 | (unsigned)d;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            ret[n++] = (char)(v >> bits & 255);
        }
    }
    ret[n] = 0;
    return (int)n;
}

/* What we signed is ours: the id and the expiry are where write_payload put them. */
static bool read_expiry(struct http_text payload, struct http_text id, uint64_t *ret_s)
{
    char text[PAYLOAD_MAX];
    int n = from_base64url(payload, text, sizeof text);
    if (n < 0 || strlen(text) != (size_t)n || (size_t)n < id.len + 4 || memcmp(text, "1:", 2) != 0)
        return false;
    return memcmp(text + 2, id.at, id.len) == 0 && text[2 + id.len] == ':' &&
           num_parse_u64(text + 3 + id.len, 0, INT64_MAX / 1000, ret_s) == 0;
}

enum url_verdict urls_check(const struct urls *u, struct http_text id, struct http_text payload,
                            struct http_text sig, int64_t now_ms)
{
    char want[SIG_LEN + 1];
    uint64_t expires_s = 0;
    if (payload.len == 0 || payload.len >= 2 * PAYLOAD_MAX || sig.len != SIG_LEN ||
        !sign(u, payload.at, payload.len, want) || CRYPTO_memcmp(want, sig.at, SIG_LEN) != 0 ||
        !read_expiry(payload, id, &expires_s))
        return URL_WRONG;
    return now_ms < (int64_t)expires_s * 1000 ? URL_GOOD : URL_EXPIRED;
}
