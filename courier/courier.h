/* SPDX-License-Identifier: Apache-2.0 */
/* courier - the contract of the frontend with brood-courier, the one process that connects to
 * whom a client named: it tells the receivers of webhooks (callback_url) how their jobs ended.
 *
 * One SOCK_SEQPACKET pair, made once by priv, carries the fixed structs below in native byte order;
 * it outlives both ends, so neither sees the other's death in it. A courier that starts throws
 * away what waits and says COURIER_HELLO: whatever was asked for before is lost. Each ask has at
 * most one answer; there is one at the latest when the deadlines are over, as long as the courier
 * lives. Which hosts may be named is the operator's list: the frontend asks it when a job comes,
 * to say so at once, and the courier when it delivers, to be sure.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
struct err;
struct sockaddr;

#define COURIER_SOCK_FD 3 /* where the courier finds the socket */
#define COURIER_MAGIC 0x31726362u
#define COURIER_URL_MAX 2048u
#define COURIER_HOST_MAX 253u
#define COURIER_BODY_MAX (1u << 20)
#define COURIER_AT_ONCE_MAX 128u
#define COURIER_TEXT_ROOM 96
#define COURIER_PORTS_MAX 64u
#define COURIER_RANGES_MAX 64u

struct courier_ask { /* + a sealed memfd: the URL, then the body */
    uint32_t magic, url_bytes, body_bytes, pad;
    uint64_t tag;
    /* Values of headers, NUL-terminated, of [A-Za-z0-9_=.-]. */
    char delivery[40], timestamp[24], signature[72];
};

enum courier_kind { COURIER_HELLO = 1, COURIER_ANSWER };

struct courier_answer {
    uint32_t magic, kind;
    uint64_t tag;
    uint32_t status;      /* of HTTP; 0: none came */
    uint32_t complete;    /* 1: it came to its end, or beyond what is read of it */
    uint32_t duration_ms; /* of the whole attempt */
    uint32_t pad;
    char text[COURIER_TEXT_ROOM]; /* why not complete; printable ASCII */
};

/* ---- allow.c: whom the operator lists -----------------------------------------------------------
 *
 * A comma list of [https://|http://]HOST[:PORT], https unless said, the port of the scheme unless
 * said. HOST is a name, *.DOMAIN for all names below it (not itself), an IPv4 address or an IPv6
 * one in brackets. Names are compared without case. */

struct courier_target {
    bool tls;
    uint16_t port;
    char host[COURIER_HOST_MAX + 1]; /* lower case; of IPv6 with its brackets */
};

/* What an URL as we take it names: http(s)://HOST[:PORT][/...], printable ASCII without user,
 * fragment, backslash and escapes in the host. False: it is none. */
bool courier_read_url(const char *url, size_t len, struct courier_target *ret);
/* Is it on that list? */
bool courier_is_listed(const char *list, const struct courier_target *target);
/* Does the list read well? 0; <0: err names the item. *ret_ports, if not NULL: room for
 * COURIER_PORTS_MAX, the ports on it, each once. */
int courier_read_list(const char *list, uint16_t *ret_ports, size_t *ret_count, struct err *err);

/* ---- address.c: which addresses are nobody's business -------------------------------------------
 */

struct courier_range {
    uint8_t bytes[16]; /* IPv4: the first four */
    uint8_t bits;
    bool v6;
};
struct courier_ranges {
    struct courier_range list[COURIER_RANGES_MAX];
    size_t count;
};

/* A comma list of ADDRESS[/BITS], of both families. 0; <0: err names the item. */
int courier_read_ranges(const char *list, struct courier_ranges *ret, struct err *err);
/* NULL: a public address, or one of those in `but`. Otherwise what it is, for people. An IPv6
 * address that holds an IPv4 one is taken when its form is listed and what it holds would be. */
const char *courier_address_refused(const struct sockaddr *address,
                                    const struct courier_ranges *but);
/* Is it in one of those? */
bool courier_address_is_listed(const struct sockaddr *address, const struct courier_ranges *in);
