/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/json_out - see json_out.h.
 *
 * In the frontend; a leaf without state. Output of a run is arbitrary bytes, and a JSON library
 * that refuses invalid UTF-8 cannot carry it. Characters pass as they are, except what JSON
 * forbids: the quote, the backslash and the controls below 0x20.
 */
#include "frontend/json_out.h"

static const char hex[] = "0123456789abcdef";

/* Writes the escape of a byte that may not appear as itself; at most 6 bytes. */
static size_t escape(char *out, unsigned char c)
{
    static const char short_form[0x20] = {
        ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r'};
    out[0] = '\\';
    if (c == '"' || c == '\\') {
        out[1] = (char)c;
        return 2;
    }
    if (short_form[c]) {
        out[1] = short_form[c];
        return 2;
    }
    memcpy(out + 1, "u00", 3);
    out[4] = hex[c >> 4];
    out[5] = hex[c & 15];
    return 6;
}

/* How many bytes at p are one character (*ret_valid) or one broken part, for p[0] >= 0x80. The
 * table is Unicode's "Well-Formed UTF-8 Byte Sequences": only the second byte's range varies. */
static size_t measure(const unsigned char *p, size_t len, bool *ret_valid)
{
    unsigned char first = p[0], low = 0x80, high = 0xbf;
    size_t want;
    *ret_valid = false;
    if (first < 0xc2 || first > 0xf4)
        return 1;
    want = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (first == 0xe0)
        low = 0xa0;
    else if (first == 0xed)
        high = 0x9f; /* no surrogates */
    else if (first == 0xf0)
        low = 0x90;
    else if (first == 0xf4)
        high = 0x8f;
    for (size_t i = 1; i < want; i++) {
        if (i == len || p[i] < low || p[i] > high)
            return i;
        low = 0x80;
        high = 0xbf;
    }
    *ret_valid = true;
    return want;
}

size_t json_out_text(char *out, size_t room, const char *in, size_t len, size_t *ret_taken)
{
    const unsigned char *p = (const unsigned char *)in;
    size_t n = 0, at = 0;
    while (at < len && room - n >= 6) {
        unsigned char c = p[at];
        if (c >= 0x20 && c < 0x80 && c != '"' && c != '\\') {
            out[n++] = (char)c;
            at++;
        } else if (c < 0x80) {
            n += escape(out + n, c);
            at++;
        } else {
            bool valid;
            size_t size = measure(p + at, len - at, &valid);
            if (valid)
                memcpy(out + n, p + at, size);
            else
                memcpy(out + n, "\xef\xbf\xbd", 3);
            n += valid ? size : 3;
            at += size;
        }
    }
    *ret_taken = at;
    return n;
}

bool json_out_is_exact(const char *in, size_t len)
{
    const unsigned char *p = (const unsigned char *)in, *end = p + len;
    bool valid = true;
    while (p < end && valid)
        p += *p < 0x80 ? 1 : measure(p, (size_t)(end - p), &valid);
    return valid;
}

size_t json_out_unfinished(const char *in, size_t len)
{
    const unsigned char *p = (const unsigned char *)in;
    for (size_t n = 1; n <= 3 && n <= len; n++) {
        unsigned char c = p[len - n];
        bool valid;
        if (c < 0x80)
            return 0;
        if (c < 0xc0)
            continue; /* its first byte is further left */
        size_t want = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
        return n < want && measure(p + len - n, n, &valid) == n && c >= 0xc2 && c <= 0xf4 ? n : 0;
    }
    return 0;
}

size_t json_out_base64(char *out, size_t room, const char *in, size_t len, size_t *ret_taken)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = (const unsigned char *)in;
    size_t n = 0, at = 0;
    while (at < len && room - n >= 4) {
        size_t have = len - at < 3 ? len - at : 3;
        unsigned v = (unsigned)p[at] << 16 | (have > 1 ? (unsigned)p[at + 1] << 8 : 0) |
                     (have > 2 ? p[at + 2] : 0u);
        out[n] = digits[v >> 18];
        out[n + 1] = digits[v >> 12 & 63];
        out[n + 2] = have > 1 ? digits[v >> 6 & 63] : '=';
        out[n + 3] = have > 2 ? digits[v & 63] : '=';
        n += 4;
        at += have;
    }
    *ret_taken = at;
    return n;
}
