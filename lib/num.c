/* SPDX-License-Identifier: Apache-2.0 */
/* lib/num - see num.h. */
#include "lib/num.h"

int num_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
    uint64_t v = 0;
    if (!*text)
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        if (__builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*text - '0'), &v))
            return -1;
    }
    if (v < min || v > max)
        return -1;
    *ret = v;
    return 0;
}

int num_parse_seconds_ms(const char *text, uint64_t min_ms, uint64_t max_ms, uint64_t *ret_ms)
{
    char whole[24], frac[4] = "000";
    const char *dot = strchr(text, '.');
    size_t len = dot ? (size_t)(dot - text) : strlen(text);
    uint64_t s, ms;
    if (len == 0 || len >= sizeof whole)
        return -1;
    memcpy(whole, text, len);
    whole[len] = 0;
    if (dot) {
        size_t digits = strlen(dot + 1);
        if (digits < 1 || digits > 3)
            return -1;
        memcpy(frac, dot + 1, digits);
    }
    if (num_parse_u64(whole, 0, UINT64_MAX / 2000, &s) < 0 || num_parse_u64(frac, 0, 999, &ms) < 0)
        return -1;
    ms += s * 1000;
    if (ms < min_ms || ms > max_ms)
        return -1;
    *ret_ms = ms;
    return 0;
}
