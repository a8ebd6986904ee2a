/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/parse_feed - the bodies of POST /v1/runs/{id}/stdin and /signal. */
#pragma once
#include "frontend/parse.h"

struct parse_stdin {
    char *bytes; /* malloc'ed, the caller's; any bytes */
    size_t len;
    bool eof; /* nothing follows */
};

/* 0: *ret is filled. -1: *ret_refusal says why. */
int parse_stdin(const char *body, size_t len, struct parse_stdin *ret,
                struct parse_refusal *ret_refusal);
int parse_signal(const char *body, size_t len, int *ret_signal, struct parse_refusal *ret_refusal);
