/* SPDX-License-Identifier: Apache-2.0 */
/* store/id - names of runs and files: a prefix and 128 random bits, so that none can be guessed,
 * and two stores never give the same. Any thread.
 */
#include "store/store.h"
#include <assert.h>
#include <sys/random.h>
#include <time.h>

#define RANDOM_BYTES 16u
#define DIGITS 26u /* of five bits */

static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";

void store_make_id(const char *prefix, char ret[STORE_ID_ROOM])
{
    unsigned char random[RANDOM_BYTES + 1] = {0};
    size_t len = strlen(prefix);
    ssize_t n = getrandom(random, RANDOM_BYTES, 0);
    assert(n == RANDOM_BYTES && len + DIGITS < STORE_ID_ROOM);
    memcpy(ret, prefix, len);
    for (size_t i = 0; i < DIGITS; i++) {
        size_t bit = i * 5;
        unsigned two = (unsigned)random[bit / 8] << 8 | random[bit / 8 + 1];
        ret[len + i] = digits[two >> (11 - bit % 8) & 31];
    }
    ret[len + DIGITS] = 0;
}

bool store_id_is_valid(const char *prefix, const char *id, size_t len)
{
    size_t before = strlen(prefix);
    if (len != before + DIGITS || memcmp(id, prefix, before) != 0)
        return false;
    for (size_t i = before; i < len; i++)
        if (!memchr(digits, id[i], sizeof digits - 1))
            return false;
    return true;
}

int64_t store_now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
