/* SPDX-License-Identifier: Apache-2.0 */
/* lib/num - strict numbers from text. The whole text must be the number; no sign, no space. */
#pragma once

/* 0 and *ret set when text is a decimal number in [min, max]; -1 otherwise. */
int num_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret);
/* "1.5" seconds into milliseconds, rounded up, at most 3 decimals; range in ms. 0 or -1. */
int num_parse_seconds_ms(const char *text, uint64_t min_ms, uint64_t max_ms, uint64_t *ret_ms);
