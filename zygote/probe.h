/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/probe - what the files of questions share. */
#pragma once
#include "zygote/zyg.h"

struct probe_finding {
    enum zyg_probe_state state;
    char detail[sizeof((struct zyg_probe_answer *)0)->detail];
};

struct probe_question {
    enum policy_layer layer;
    const char *text;
    struct probe_finding (*ask)(void);
};

/* Asked in this order: the last has what must come after all others. */
extern const struct probe_part {
    const struct probe_question *questions;
    size_t count;
} probe_ns, probe_rules, probe_files, probe_last;

/* What the policy of this zygote makes of the questions. */
extern struct zyg_probe_ask probe_ask;
extern bool probe_exec_follows; /* what is close-on-exec is no run's */

PRINTF_LIKE(2, 3) struct probe_finding probe_say(enum zyg_probe_state state, const char *fmt, ...);
/* Of an attempt that must fail: what the call returned, errno still being its own. */
struct probe_finding probe_must_fail(long r);
struct probe_finding probe_must_not_open(const char *path, int flags);
/* The file's beginning as text; false: it cannot be read. */
bool probe_read_text(const char *path, char *text, size_t room);
/* Calls visit for each name; the first that it refuses (true) is copied to ret. */
bool probe_find_entry(const char *path, bool (*visit)(const char *name, int dir_fd), char *ret,
                      size_t room);
