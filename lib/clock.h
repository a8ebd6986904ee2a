/* SPDX-License-Identifier: Apache-2.0 */
/* lib/clock - CLOCK_MONOTONIC in nanoseconds, and RFC 3339 wall time for people. */
#pragma once

#define CLOCK_NS_PER_MS 1000000ull
#define CLOCK_NS_PER_S 1000000000ull

uint64_t clock_now_ns(void);
/* "2026-11-21T07:00:00.123Z" into a buffer of at least 32 bytes. */
void clock_rfc3339(char *buf, size_t len);
