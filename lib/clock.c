/* SPDX-License-Identifier: Apache-2.0 */
/* lib/clock - see clock.h. */
#include "lib/clock.h"
#include <time.h>

uint64_t clock_now_ns(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * CLOCK_NS_PER_S + (uint64_t)ts.tv_nsec;
}

void clock_rfc3339(char *buf, size_t len)
{
    struct timespec ts;
    struct tm tm;
    char day[24];
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    (void)gmtime_r(&ts.tv_sec, &tm);
    (void)strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(buf, len, "%s.%03dZ", day, (int)(ts.tv_nsec / 1000000));
}
