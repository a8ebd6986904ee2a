/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/parse_feed - see parse_feed.h.
 *
 * In the frontend, per thread, over parse.c's strict reading of JSON. Base64 is read strictly, too:
 * four characters at a time, padded, nothing else between them.
 */
#include "frontend/parse_feed.h"
#include "frontend/parse_impl.h"

static int value_of(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* Into at least len bytes. The length, or -1: it is no base64. */
static ssize_t decode(const char *text, size_t len, char *to)
{
    if (len % 4 || len == 0)
        return len ? -1 : 0;
    size_t n = 0, pad = text[len - 1] == '=' ? 1 + (text[len - 2] == '=') : 0;
    for (size_t at = 0; at < len; at += 4) {
        unsigned v = 0;
        bool last = at + 4 == len;
        size_t have = last ? 4 - pad : 4;
        for (size_t i = 0; i < 4; i++) {
            int d = i < have ? value_of(text[at + i]) : 0;
            if (d < 0)
                return -1;
            v = v << 6 | (unsigned)d;
        }
        if ((have == 2 && v & 0xffff) || (have == 3 && v & 0xff))
            return -1; /* bits that belong to no byte */
        for (size_t i = 0; i + 1 < have; i++)
            to[n++] = (char)(v >> (16 - 8 * i) & 0xff);
    }
    return (ssize_t)n;
}

static int take_bytes(json_t *doc, struct parse_stdin *ret, struct parse_refusal *refusal)
{
    json_t *text = json_object_get(doc, "stdin"), *encoding = json_object_get(doc, "encoding");
    const char *how = encoding ? json_string_value(encoding) : "utf-8";
    bool base64 = how && strcmp(how, "base64") == 0;
    if (text && !json_is_string(text))
        return parse_refuse(refusal, "bad_request", "stdin must be a string");
    if (!how || (!base64 && strcmp(how, "utf-8") != 0))
        return parse_refuse(refusal, "bad_request", "encoding must be \"utf-8\" or \"base64\"");
    size_t len = text ? json_string_length(text) : 0;
    ret->bytes = len ? malloc(len) : NULL;
    if (len && !ret->bytes)
        return parse_refuse(refusal, "bad_request", "stdin is too long at the moment");
    ssize_t n = (ssize_t)len;
    if (base64)
        n = decode(json_string_value(text), len, ret->bytes);
    else if (len)
        memcpy(ret->bytes, json_string_value(text), len);
    if (n < 0) {
        free(ptr_take(&ret->bytes));
        return parse_refuse(refusal, "bad_request", "stdin is not base64");
    }
    ret->len = (size_t)n;
    return 0;
}

int parse_stdin(const char *body, size_t len, struct parse_stdin *ret,
                struct parse_refusal *ret_refusal)
{
    json_t *doc = parse_load(body, len, ret_refusal);
    json_t *eof = json_object_get(doc, "eof");
    int r = doc ? 0 : -1;
    *ret = (struct parse_stdin){0};
    if (r == 0 && !json_is_object(doc))
        r = parse_refuse(ret_refusal, "bad_request", "the body must be a JSON object");
    else if (r == 0 && eof && !json_is_boolean(eof))
        r = parse_refuse(ret_refusal, "bad_request", "eof must be true or false");
    else if (r == 0 && !eof && !json_object_get(doc, "stdin"))
        r = parse_refuse(ret_refusal, "bad_request", "stdin is missing (or eof)");
    else if (r == 0)
        r = take_bytes(doc, ret, ret_refusal);
    ret->eof = json_is_true(eof);
    json_decref(doc);
    return r;
}

int parse_signal(const char *body, size_t len, int *ret_signal, struct parse_refusal *ret_refusal)
{
    json_t *doc = parse_load(body, len, ret_refusal);
    const char *name = json_string_value(json_object_get(doc, "signal"));
    int r = doc ? 0 : -1;
    *ret_signal = name ? proto_signal_find(strncmp(name, "SIG", 3) == 0 ? name + 3 : name) : 0;
    if (r == 0 && !*ret_signal)
        r = parse_refuse(
            ret_refusal, "bad_request",
            "signal must be one of INT, TERM, HUP, USR1, USR2, QUIT, KILL, CONT, STOP, "
            "WINCH");
    json_decref(doc);
    return r;
}
