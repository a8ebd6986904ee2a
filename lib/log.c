/* SPDX-License-Identifier: Apache-2.0 */
/* lib/log - see log.h. A line is at most LINE_MAX_BYTES; what does not fit is cut, never split. */
#include "lib/log.h"
#include "lib/clock.h"
#include "lib/fault.h"
#include <inttypes.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/stat.h>

#define LINE_MAX_BYTES 2048
#define VALUE_MAX_BYTES 300

static struct {
    const char *proc;
    enum log_format format;
    enum log_level level;
    bool never_blocks; /* a regular file: asking first would be a call for nothing */
    atomic_ullong dropped;
} state = {.proc = "brood", .level = LOG_LEVEL_INFO};

struct line {
    size_t len;
    char text[LINE_MAX_BYTES];
};

void log_init(const char *proc, enum log_format format, enum log_level level)
{
    state.proc = proc;
    fault_set_role(proc);
    state.format = format;
    state.level = level;
    struct stat st;
    /* Again after a reload, when this process may have renounced stat: it is what it was. */
    state.never_blocks |= fstat(2, &st) == 0 && S_ISREG(st.st_mode);
}

static void put(struct line *l, const char *s, size_t len)
{
    if (len < sizeof l->text - 4 - l->len) { /* room stays for the closing brace and newline */
        memcpy(l->text + l->len, s, len);
        l->len += len;
    }
}

/* A quoted string; control bytes and anything beyond ASCII become \u00XX. */
static void put_quoted(struct line *l, const char *s)
{
    char out[VALUE_MAX_BYTES * 6 + 2];
    size_t n = 0, taken = 0;
    out[n++] = '"';
    for (; *s && taken < VALUE_MAX_BYTES; s++, taken++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') {
            out[n++] = '\\';
            out[n++] = (char)c;
        } else if (c < 0x20 || c >= 0x7f) {
            n += (size_t)snprintf(out + n, 7, "\\u%04x", c);
        } else {
            out[n++] = (char)c;
        }
    }
    out[n++] = '"';
    put(l, out, n);
}

static void put_value(struct line *l, const struct log_field *f)
{
    char num[40];
    int n = 0;
    switch (f->kind) {
    case LOG_END:
        break;
    case LOG_STR:
        put_quoted(l, f->s ? f->s : "");
        return;
    case LOG_U64:
        n = snprintf(num, sizeof num, "%" PRIu64, f->u);
        break;
    case LOG_I64:
        n = snprintf(num, sizeof num, "%" PRId64, f->i);
        break;
    case LOG_MS:
        n = snprintf(num, sizeof num, "%.3f", (double)f->u / 1e6);
        break;
    }
    put(l, num, (size_t)n);
}

static void put_field(struct line *l, const struct log_field *f)
{
    bool json = state.format == LOG_FORMAT_JSON;
    put(l, json ? ",\"" : " ", json ? 2 : 1);
    put(l, f->key, strlen(f->key));
    put(l, json ? "\":" : "=", json ? 2 : 1);
    put_value(l, f);
}

void log_emit(enum log_level level, const char *event, const struct log_field *fields)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    struct line l = {.len = 0};
    char when[32];
    if (level < state.level)
        return;
    clock_rfc3339(when, sizeof when);
    int n = snprintf(l.text, sizeof l.text,
                     state.format == LOG_FORMAT_JSON
                         ? "{\"time\":\"%s\",\"level\":\"%s\",\"proc\":\"%s\",\"event\":\"%s\""
                         : "%s %s %s %s",
                     when, names[level], state.proc, event);
    l.len = (size_t)n;
    for (const struct log_field *f = fields; f->key; f++)
        put_field(&l, f);
    unsigned long long dropped = atomic_exchange(&state.dropped, 0);
    if (dropped)
        put_field(&l, &F_U64("log_dropped", dropped));
    if (state.format == LOG_FORMAT_JSON)
        l.text[l.len++] = '}';
    l.text[l.len++] = '\n';
    struct pollfd p = {.fd = 2, .events = POLLOUT};
    bool may_write = state.never_blocks || (poll(&p, 1, 0) == 1 && (p.revents & POLLOUT));
    if (!may_write || write(2, l.text, l.len) < 0)
        atomic_fetch_add(&state.dropped, dropped + 1);
}
