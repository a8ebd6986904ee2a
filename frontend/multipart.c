/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/multipart - see multipart.h.
 *
 * In the frontend; a leaf without state that reads what any client has sent. Strict, because nobody
 * needs more: no preamble, no second part, CRLF at each line's end, a head of bounded length,
 * nothing behind the closing delimiter but one CRLF. A delimiter is CRLF, two dashes, the boundary,
 * and then a CRLF or two dashes; anything else that only begins like one is data. Names are taken
 * as browsers and curl write them (a backslash before a quote, %22 for it) or as RFC 8187 has them.
 */
#include "frontend/multipart.h"
#include <strings.h>

struct span {
    const char *at;
    size_t len;
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

static struct span trim(struct span s)
{
    while (s.len && is_space(s.at[0]))
        s = (struct span){s.at + 1, s.len - 1};
    while (s.len && is_space(s.at[s.len - 1]))
        s.len--;
    return s;
}

static bool is_word(struct span s, const char *word)
{
    return s.len == strlen(word) && strncasecmp(s.at, word, s.len) == 0;
}

/* ---- "value; name=text; name="text"" ----------------------------------------------------------
 */

#define TEXT_MAX 1024u /* of a parameter, as it was sent */

struct parameter {
    struct span name;
    char text[TEXT_MAX + 1]; /* unquoted; may hold any byte but NUL */
    size_t len;
};

/* Behind the opening quote. Only \" and \\ are escapes: other backslashes are some client's path.
 */
static bool take_quoted(struct span *s, struct parameter *p)
{
    while (s->len && s->at[0] != '"') {
        if (s->len > 1 && s->at[0] == '\\' && (s->at[1] == '"' || s->at[1] == '\\'))
            *s = (struct span){s->at + 1, s->len - 1};
        if (p->len == TEXT_MAX || s->at[0] == 0)
            return false;
        p->text[p->len++] = s->at[0];
        *s = (struct span){s->at + 1, s->len - 1};
    }
    if (!s->len)
        return false;
    *s = (struct span){s->at + 1, s->len - 1};
    return true;
}

static bool take_token(struct span *s, struct parameter *p)
{
    while (s->len && s->at[0] != ';' && !is_space(s->at[0])) {
        if (p->len == TEXT_MAX || s->at[0] == 0 || s->at[0] == '"')
            return false;
        p->text[p->len++] = s->at[0];
        *s = (struct span){s->at + 1, s->len - 1};
    }
    return true;
}

/* 1: *ret is the next one; 0: there is none; -1: broken. */
static int next_parameter(struct span *s, struct parameter *ret)
{
    *s = trim(*s);
    if (!s->len)
        return 0;
    if (s->at[0] != ';')
        return -1;
    *s = trim((struct span){s->at + 1, s->len - 1});
    if (!s->len)
        return 0; /* a ; at the end */
    const char *equals = memchr(s->at, '=', s->len);
    if (!equals || equals == s->at)
        return -1;
    ret->name = (struct span){s->at, (size_t)(equals - s->at)};
    ret->len = 0;
    *s = (struct span){equals + 1, s->len - ret->name.len - 1};
    bool quoted = s->len && s->at[0] == '"';
    if (quoted)
        *s = (struct span){s->at + 1, s->len - 1};
    if (!(quoted ? take_quoted(s, ret) : take_token(s, ret)))
        return -1;
    ret->text[ret->len] = 0;
    return 1;
}

/* The part before the first ;. */
static struct span take_value(struct span *s)
{
    const char *end = memchr(s->at, ';', s->len);
    struct span value = {s->at, end ? (size_t)(end - s->at) : s->len};
    *s = (struct span){s->at + value.len, s->len - value.len};
    return trim(value);
}

static bool is_boundary(const char *text, size_t len)
{
    static const char allowed[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                  "'()+_,-./:=? ";
    return len > 0 && len <= MULTIPART_BOUNDARY_MAX && strspn(text, allowed) == len &&
           text[len - 1] != ' ';
}

size_t multipart_boundary(const char *content_type, size_t len,
                          char ret[MULTIPART_BOUNDARY_MAX + 1])
{
    struct span s = {content_type, len};
    struct parameter p;
    size_t found = 0;
    if (len == 0 || !is_word(take_value(&s), "multipart/form-data"))
        return 0;
    for (int r; (r = next_parameter(&s, &p)) != 0;) {
        if (r < 0)
            return 0;
        if (!is_word(p.name, "boundary"))
            continue;
        if (found || !is_boundary(p.text, p.len))
            return 0;
        found = p.len;
        memcpy(ret, p.text, p.len + 1);
    }
    return found;
}

/* ---- names ------------------------------------------------------------------------------------
 */

static int hex_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* In place: each %XX, or those only that browsers write in a quoted name (RFC 7578, 4.2: " CR LF).
 */
static bool decode_percents(char *text, bool all)
{
    char *to = text;
    for (const char *p = text; *p; p++) {
        int high = *p == '%' ? hex_of(p[1]) : -1, low = high >= 0 ? hex_of(p[2]) : -1;
        int c = low >= 0 ? high << 4 | low : -1;
        if (*p == '%' && all && c <= 0)
            return false;
        if (*p == '%' && c >= 0 && (all || c == '"' || c == '\r' || c == '\n')) {
            *to++ = (char)c;
            p += 2;
        } else {
            *to++ = *p;
        }
    }
    *to = 0;
    return true;
}

/* Well-formed UTF-8 (Unicode, table 3-7) of at least `from`, one character; 0: it is not. */
static size_t character(const unsigned char *p)
{
    if (p[0] < 0x80)
        return 1;
    size_t n = p[0] >= 0xc2 && p[0] <= 0xdf   ? 2
               : p[0] >= 0xe0 && p[0] <= 0xef ? 3
               : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4
                                              : 0;
    unsigned char least = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char most = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    if (n && (p[1] < least || p[1] > most))
        return 0;
    for (size_t i = 2; i < n; i++)
        if (p[i] < 0x80 || p[i] > 0xbf)
            return 0;
    return n;
}

static const char *take_name(const char *text, const char *otherwise, struct multipart_file *ret)
{
    const char *slash = strrchr(text, '/');
    text = slash ? slash + 1 : text;
    if (!*text || strcmp(text, ".") == 0 || strcmp(text, "..") == 0)
        text = otherwise;
    if (strlen(text) > MULTIPART_NAME_MAX)
        return "the file's name is longer than 255 bytes";
    for (const unsigned char *p = (const unsigned char *)text; *p;) {
        size_t n = character(p);
        if (n == 0)
            return "the file's name is not UTF-8";
        if (*p < 0x20 || *p == 0x7f)
            return "the file's name has a control character";
        p += n;
    }
    memcpy(ret->name, text, strlen(text) + 1);
    return NULL;
}

/* ---- the part's head --------------------------------------------------------------------------
 */

struct head {
    bool has_disposition, is_field, has_name, has_encoded_name;
    char name[TEXT_MAX + 1]; /* of the file */
};

/* "UTF-8''%e2%82%ac", RFC 8187. */
static bool take_encoded(struct parameter *p, struct head *h)
{
    if (strncasecmp(p->text, "utf-8'", 6) != 0)
        return false;
    char *quote = strchr(p->text + 6, '\'');
    if (!quote || !decode_percents(quote + 1, true))
        return false;
    memmove(h->name, quote + 1, strlen(quote + 1) + 1);
    return h->has_encoded_name = true;
}

static const char *read_disposition(struct span value, const char *field, struct head *h)
{
    struct parameter p;
    if (h->has_disposition || !is_word(take_value(&value), "form-data"))
        return "a part needs one Content-Disposition: form-data";
    h->has_disposition = true;
    for (int r; (r = next_parameter(&value, &p)) != 0;) {
        if (r < 0)
            return "the Content-Disposition is broken";
        if (is_word(p.name, "name")) {
            h->is_field = strcmp(p.text, field) == 0;
        } else if (is_word(p.name, "filename") && !h->has_encoded_name) {
            (void)decode_percents(p.text, false);
            memcpy(h->name, p.text, strlen(p.text) + 1);
            h->has_name = true;
        } else if (is_word(p.name, "filename*") && !take_encoded(&p, h)) {
            return "filename* is broken, or not UTF-8";
        }
    }
    return NULL;
}

static const char *read_line(struct span line, const char *field, struct head *h)
{
    const char *colon = memchr(line.at, ':', line.len);
    if (!colon || colon == line.at || is_space(line.at[0]) || memchr(line.at, 0, line.len) ||
        memchr(line.at, '\r', line.len) || memchr(line.at, '\n', line.len))
        return "a line in the head of the part is broken";
    struct span name = {line.at, (size_t)(colon - line.at)};
    struct span value = trim((struct span){colon + 1, line.len - name.len - 1});
    if (is_word(name, "content-disposition"))
        return read_disposition(value, field, h);
    if (is_word(name, "content-transfer-encoding") && !is_word(value, "binary") &&
        !is_word(value, "8bit") && !is_word(value, "7bit"))
        return "Content-Transfer-Encoding: only binary is taken";
    return NULL;
}

/* Up to the empty line; *s is behind it then. */
static const char *read_head(struct span *s, const char *field, struct head *h)
{
    size_t limit = s->len < MULTIPART_HEAD_MAX ? s->len : MULTIPART_HEAD_MAX;
    const char *end = s->at + limit;
    for (;;) {
        const char *eol = memmem(s->at, (size_t)(end - s->at), "\r\n", 2), *wrong;
        if (!eol)
            return limit < MULTIPART_HEAD_MAX ? "the body ends in the head of its part"
                                              : "the head of the part is longer than 8 KiB";
        struct span line = {s->at, (size_t)(eol - s->at)};
        *s = (struct span){eol + 2, s->len - line.len - 2};
        if (line.len == 0)
            return NULL;
        if ((wrong = read_line(line, field, h)))
            return wrong;
    }
}

/* ---- the whole --------------------------------------------------------------------------------
 */

/* Behind the data: its closing delimiter, and the end. */
static const char *find_end(struct span s, const char *boundary, struct multipart_file *ret)
{
    char mark[MULTIPART_BOUNDARY_MAX + 8];
    size_t len = (size_t)snprintf(mark, sizeof mark, "\r\n--%s", boundary);
    const char *end = s.at + s.len, *from = s.at;
    for (const char *at; (at = memmem(from, (size_t)(end - from), mark, len)); from = at + 2) {
        const char *behind = at + len;
        size_t left = (size_t)(end - behind);
        if (left >= 2 && memcmp(behind, "\r\n", 2) == 0)
            return "there is more than one part";
        if (left < 2 || memcmp(behind, "--", 2) != 0)
            continue;
        if (left != 2 && !(left == 4 && memcmp(behind + 2, "\r\n", 2) == 0))
            return "something follows the last part";
        ret->at = s.at;
        ret->len = (size_t)(at - s.at);
        return NULL;
    }
    return "the body ends without its closing boundary";
}

const char *multipart_find(const char *body, size_t len, const char *boundary, const char *field,
                           struct multipart_file *ret)
{
    char mark[MULTIPART_BOUNDARY_MAX + 8];
    size_t mark_len = (size_t)snprintf(mark, sizeof mark, "--%s", boundary);
    struct head h = {.has_disposition = false};
    if (len < mark_len + 2 || memcmp(body, mark, mark_len) != 0)
        return "the body does not begin with its boundary";
    if (memcmp(body + mark_len, "--", 2) == 0)
        return "there is no part";
    if (memcmp(body + mark_len, "\r\n", 2) != 0)
        return "the body does not begin with its boundary";
    struct span s = {body + mark_len + 2, len - mark_len - 2};
    const char *wrong = read_head(&s, field, &h);
    if (!wrong && !h.has_disposition)
        wrong = "a part needs one Content-Disposition: form-data";
    if (!wrong && !h.is_field)
        wrong =
            "the part has another name than the one that is expected: file (curl -F file=@NAME)";
    if (!wrong)
        wrong = find_end(s, boundary, ret);
    return wrong ? wrong : take_name(h.has_name || h.has_encoded_name ? h.name : "", field, ret);
}
