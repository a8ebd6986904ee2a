/* SPDX-License-Identifier: Apache-2.0 */
/* courier/address - which addresses a webhook may not reach, whatever its name resolves to.
 *
 * In the courier, for each address right before it is connected to; in the supervisor, to check the
 * operator's exceptions. IPv4: what IANA's registry of special-purpose addresses has as not
 * globally reachable, and multicast. IPv6 the other way round: only global unicast (2000::/3) is
 * taken, without those of it that lead elsewhere.
 */
#include "courier/courier.h"
#include "lib/err.h"
#include "lib/num.h"
#include <arpa/inet.h>

#define ITEM_MAX 64

static const struct {
    uint32_t net;
    unsigned bits;
    const char *what;
} special4[] = {
    {0x00000000, 8, "an address of this network"},
    {0x0a000000, 8, "a private address"},
    {0x64400000, 10, "an address of a carrier's own (100.64/10)"},
    {0x7f000000, 8, "a loopback address"},
    {0xa9fe0000, 16, "a link-local address"},
    {0xac100000, 12, "a private address"},
    {0xc0000000, 24, "an address of IETF protocols"},
    {0xc0000200, 24, "an address for documentation"},
    {0xc0586300, 24, "a 6to4 relay"},
    {0xc0a80000, 16, "a private address"},
    {0xc6120000, 15, "an address for benchmarks"},
    {0xc6336400, 24, "an address for documentation"},
    {0xcb007100, 24, "an address for documentation"},
    {0xe0000000, 4, "a multicast address"},
    {0xf0000000, 4, "a reserved address"},
};

static const struct {
    uint8_t bytes[16];
    unsigned bits;
    int v4_at; /* where it holds an IPv4 address; -1: nowhere */
    const char *what;
} special6[] = {
    {{0}, 96, 12, "an IPv6 address with an IPv4 one in it"}, /* also :: and ::1 */
    {{[10] = 0xff, 0xff}, 96, 12, "an IPv6 address with an IPv4 one in it (mapped)"},
    {{0x00, 0x64, 0xff, 0x9b}, 96, 12, "an IPv6 address with an IPv4 one in it (NAT64)"},
    {{0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}, 48, -1, "a NAT64 prefix of somebody's own"},
    {{0x20, 0x01, 0x00, 0x00}, 23, -1, "an address of IETF protocols"}, /* also Teredo */
    {{0x20, 0x01, 0x0d, 0xb8}, 32, -1, "an address for documentation"},
    {{0x20, 0x02}, 16, 2, "an IPv6 address with an IPv4 one in it (6to4)"},
    {{0x3f, 0xff, 0x00}, 20, -1, "an address for documentation"},
    {{0xfc}, 7, -1, "a private address"},
    {{0xfe, 0x80}, 10, -1, "a link-local address"},
    {{0xfe, 0xc0}, 10, -1, "a site-local address"},
    {{0xff}, 8, -1, "a multicast address"},
};
static const uint8_t global6[16] = {0x20};

static bool has_prefix(const uint8_t *a, const uint8_t *prefix, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;
    return memcmp(a, prefix, whole) == 0 &&
           (rest == 0 || ((a[whole] ^ prefix[whole]) >> (8 - rest)) == 0);
}

static bool is_among(const uint8_t *a, bool v6, const struct courier_ranges *but)
{
    for (size_t i = 0; i < but->count; i++)
        if (but->list[i].v6 == v6 && has_prefix(a, but->list[i].bytes, but->list[i].bits))
            return true;
    return false;
}

static const char *refused4(const uint8_t a[4], const struct courier_ranges *but)
{
    uint32_t address = (uint32_t)a[0] << 24 | (uint32_t)a[1] << 16 | (uint32_t)a[2] << 8 | a[3];
    for (size_t i = 0; i < ARRAY_LEN(special4); i++)
        if ((address ^ special4[i].net) >> (32 - special4[i].bits) == 0)
            return is_among(a, false, but) ? NULL : special4[i].what;
    return NULL;
}

/* 1: an IPv6 address of its own, such as ::1, though 96 bits are those of another form. */
static bool is_plain(const uint8_t a[16])
{
    static const uint8_t zero[15] = {0};
    return memcmp(a, zero, sizeof zero) == 0;
}

static const char *refused6(const uint8_t a[16], const struct courier_ranges *but)
{
    bool listed = is_among(a, true, but);
    for (size_t i = 0; i < ARRAY_LEN(special6); i++) {
        if (!has_prefix(a, special6[i].bytes, special6[i].bits))
            continue;
        if (!listed)
            return is_plain(a) ? "a loopback address" : special6[i].what;
        return special6[i].v4_at < 0 || is_plain(a) ? NULL : refused4(a + special6[i].v4_at, but);
    }
    return listed || has_prefix(a, global6, 3) ? NULL : "an address that is not global";
}

const char *courier_address_refused(const struct sockaddr *address,
                                    const struct courier_ranges *but)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    switch (address->sa_family) {
    case AF_INET:
        memcpy(&v4, address, sizeof v4);
        return refused4((const uint8_t *)&v4.sin_addr, but);
    case AF_INET6:
        memcpy(&v6, address, sizeof v6);
        return refused6(v6.sin6_addr.s6_addr, but);
    default:
        return "not an address of the Internet";
    }
}

bool courier_address_is_listed(const struct sockaddr *address, const struct courier_ranges *in)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    if (address->sa_family == AF_INET) {
        memcpy(&v4, address, sizeof v4);
        return is_among((const uint8_t *)&v4.sin_addr, false, in);
    }
    if (address->sa_family != AF_INET6)
        return false;
    memcpy(&v6, address, sizeof v6);
    return is_among(v6.sin6_addr.s6_addr, true, in);
}

/* ---- the operator's exceptions ------------------------------------------------------------------
 */

static bool read_range(char *item, struct courier_range *ret)
{
    char *slash = strchr(item, '/');
    uint64_t bits;
    if (slash)
        *slash = 0;
    *ret = (struct courier_range){.v6 = strchr(item, ':') != NULL};
    bits = ret->v6 ? 128 : 32;
    if (slash && num_parse_u64(slash + 1, 0, bits, &bits) < 0)
        return false;
    ret->bits = (uint8_t)bits;
    return inet_pton(ret->v6 ? AF_INET6 : AF_INET, item, ret->bytes) == 1;
}

int courier_read_ranges(const char *list, struct courier_ranges *ret, struct err *err)
{
    struct courier_ranges ranges = {.count = 0};
    while (*(list += strspn(list, " \t"))) {
        char item[ITEM_MAX];
        size_t len = strcspn(list, ","), end = len;
        while (end > 0 && (list[end - 1] == ' ' || list[end - 1] == '\t'))
            end--;
        (void)snprintf(item, sizeof item, "%.*s", (int)(end < ITEM_MAX ? end : ITEM_MAX), list);
        if (ranges.count == COURIER_RANGES_MAX)
            return err_set(err, "expected at most %u ranges", COURIER_RANGES_MAX);
        if (end == 0 || end >= ITEM_MAX || !read_range(item, &ranges.list[ranges.count++]))
            return err_set(err, "expected a comma list of ADDRESS[/BITS], got \"%.*s\"",
                           (int)(end < 60 ? end : 60), list);
        list += len;
        list += *list == ',';
    }
    *ret = ranges;
    return 0;
}
