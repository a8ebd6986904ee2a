/* SPDX-License-Identifier: Apache-2.0 */
/* lib/log - one structured line per event on stderr, as JSON or text. Thread-safe: one write(2) a
 * line. A reader of stderr that is too slow never blocks us: the line is dropped and the next one
 * that goes out carries `log_dropped`. */
#pragma once

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };
enum log_kind {
    LOG_END,
    LOG_STR,
    LOG_U64,
    LOG_I64,
    LOG_MS /* nanoseconds shown as ms, 3 decimals */
};

struct log_field {
    const char *key;
    enum log_kind kind;
    union {
        const char *s;
        uint64_t u;
        int64_t i;
    };
};
#define F_STR(k, v) ((struct log_field){.key = (k), .kind = LOG_STR, .s = (v)})
/* The same where there is a text, and the last of its line. */
#define F_LAST_STR(k, v) ((struct log_field){.key = *(v) ? (k) : NULL, .kind = LOG_STR, .s = (v)})
#define F_U64(k, v) ((struct log_field){.key = (k), .kind = LOG_U64, .u = (v)})
#define F_I64(k, v) ((struct log_field){.key = (k), .kind = LOG_I64, .i = (v)})
#define F_MS(k, ns) ((struct log_field){.key = (k), .kind = LOG_MS, .u = (ns)})

/* proc: who speaks ("engine", "frontend", ...). Call once per process before threads start. */
void log_init(const char *proc, enum log_format format, enum log_level level);
void log_emit(enum log_level level, const char *event, const struct log_field *fields);
/* LOG(INFO, "run", F_STR("ns", id), F_U64("n", 3)): text values are escaped; long ones are cut. */
#define LOG(level, event, ...)                                                                     \
    log_emit(LOG_LEVEL_##level, event,                                                             \
             (struct log_field[]){__VA_ARGS__ __VA_OPT__(, ){.key = NULL}})
