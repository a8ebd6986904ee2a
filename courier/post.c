/* SPDX-License-Identifier: Apache-2.0 */
/* courier/post - one delivery: what libcurl is told, and what it is not left to decide.
 *
 * In the courier. The URL is read by libcurl and by allow.c, and has to say the same to both. Names
 * are resolved by libcurl, and each address is looked at in the callback that makes the socket for
 * it: what is connected to is what was looked at, whatever the name says the next time. No
 * redirects, no proxy, no credentials, no second use of a connection, http and https only. Of the
 * answer counts the status; 4 KiB of its body are read, so that a receiver that says a little is
 * not cut off, and thrown away. What is told of a failure is a text of libcurl's or ours, nothing
 * that the other side said.
 */
#include "courier/post.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/log.h"
#include <ctype.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define BODY_READ_MAX 4096u
#define HEAD_READ_MAX 16384u

/* ---- the callbacks ------------------------------------------------------------------------------
 */

static size_t on_head(char *at, size_t size, size_t count, void *user)
{
    struct post *p = user;
    (void)at;
    p->head_bytes += size * count;
    return p->head_bytes <= HEAD_READ_MAX ? size * count : 0;
}

static size_t on_body(char *at, size_t size, size_t count, void *user)
{
    struct post *p = user;
    (void)at;
    p->body_bytes += size * count;
    p->enough = p->body_bytes > BODY_READ_MAX;
    return p->enough ? 0 : size * count;
}

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* Whoever connects to an address of this machine does so from that very address. A datagram socket
 * tells without sending anything. 1, 0; -1: no way there, or none to know: nobody may connect. */
static int is_own(const union address *to, socklen_t len)
{
    union address own = {.any.sa_family = AF_UNSPEC};
    socklen_t own_len = sizeof own;
    auto_close int fd = SYS(socket(to->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (fd < 0 || SYS(connect(fd, &to->any, len)) < 0 ||
        SYS(getsockname(fd, &own.any, &own_len)) < 0)
        return -1;
    return to->any.sa_family == AF_INET
               ? own.v4.sin_addr.s_addr == to->v4.sin_addr.s_addr
               : memcmp(&own.v6.sin6_addr, &to->v6.sin6_addr, sizeof own.v6.sin6_addr) == 0;
}

static void log_refused(const struct post *p, const union address *a, const char *why)
{
    char text[INET6_ADDRSTRLEN] = "";
    if (a->any.sa_family == AF_INET)
        (void)inet_ntop(AF_INET, &a->v4.sin_addr, text, sizeof text);
    if (a->any.sa_family == AF_INET6)
        (void)inet_ntop(AF_INET6, &a->v6.sin6_addr, text, sizeof text);
    LOG(WARN, "address_refused", F_STR("delivery", p->delivery), F_STR("why", why),
        F_LAST_STR("address", text));
}

static curl_socket_t on_open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *given)
{
    struct post *p = user;
    union address a = {.any.sa_family = AF_UNSPEC};
    if (purpose == CURLSOCKTYPE_IPCXN && given->addrlen <= sizeof a)
        memcpy(&a, &given->addr, given->addrlen);
    const char *why = courier_address_refused(&a.any, &p->rules->but);
    int own =
        why || courier_address_is_listed(&a.any, &p->rules->but) ? 0 : is_own(&a, given->addrlen);
    if (own < 0)
        return CURL_SOCKET_BAD;
    if (own)
        why = "an address of this machine";
    if (!why)
        return SYS(socket(given->family, given->socktype | SOCK_CLOEXEC, given->protocol));
    if (!p->refused) /* a name may lead to any number of them */
        log_refused(p, &a, why);
    p->refused = why;
    return CURL_SOCKET_BAD;
}

/* ---- before -------------------------------------------------------------------------------------
 */

static bool is_value(const char *text, size_t room)
{
    size_t len = strnlen(text, room);
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)text[i]) && !strchr("_=.-", text[i]))
            return false;
    return len > 0 && len < room;
}

/* What libcurl would connect to, beside what we read. */
static bool is_agreed(CURLU *url, const struct courier_target *target)
{
    char *scheme = NULL, *host = NULL, *port = NULL, want[8];
    (void)snprintf(want, sizeof want, "%u", target->port);
    bool agreed = curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                  curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
                  curl_url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
                  strcmp(scheme, target->tls ? "https" : "http") == 0 &&
                  strcasecmp(host, target->host) == 0 && strcmp(port, want) == 0;
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    return agreed;
}

/* NULL, or why it is not to be. */
static const char *read_url(struct post *p, size_t len)
{
    struct courier_target target = {.port = 0};
    char text[COURIER_URL_MAX + 1];
    if (len > COURIER_URL_MAX || !courier_read_url(p->map, len, &target))
        return "the URL is not one that is taken";
    if (!courier_is_listed(p->rules->allow, &target))
        return "the host is not on the list";
    memcpy(text, p->map, len);
    text[len] = 0;
    p->url = curl_url();
    if (!p->url || curl_url_set(p->url, CURLUPART_URL, text, CURLU_DISALLOW_USER) != CURLUE_OK ||
        !is_agreed(p->url, &target))
        return "the URL can be read in two ways";
    return NULL;
}

static bool add_header(struct post *p, const char *name, const char *value)
{
    char line[160];
    (void)snprintf(line, sizeof line, "%s: %s", name, value);
    struct curl_slist *more = curl_slist_append(p->headers, line);
    if (more)
        p->headers = more;
    return more != NULL;
}

static bool add_headers(struct post *p, const struct courier_ask *ask)
{
    struct curl_slist *no_expect = curl_slist_append(NULL, "Expect:");
    p->headers = no_expect;
    return no_expect && add_header(p, "Content-Type", "application/json") &&
           add_header(p, "Brood-Delivery", ask->delivery) &&
           add_header(p, "Brood-Timestamp", ask->timestamp) &&
           add_header(p, "Brood-Signature", ask->signature);
}

static bool set_up(struct post *p, size_t url_bytes, size_t body_bytes)
{
    const struct courier_rules *rules = p->rules;
    CURL *e = p->easy = curl_easy_init();
    CURLcode bad = e ? CURLE_OK : CURLE_OUT_OF_MEMORY;
#define SET(option, value) bad = bad == CURLE_OK ? curl_easy_setopt(e, option, value) : bad
    SET(CURLOPT_PRIVATE, p);
    SET(CURLOPT_CURLU, p->url);
    SET(CURLOPT_HTTPHEADER, p->headers);
    SET(CURLOPT_USERAGENT, "brood");
    SET(CURLOPT_POST, 1L);
    SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body_bytes);
    SET(CURLOPT_POSTFIELDS, (const char *)p->map + url_bytes);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_PROXY, ""); /* also not one of the environment */
    SET(CURLOPT_NOPROXY, "*");
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_FRESH_CONNECT, 1L);
    SET(CURLOPT_FORBID_REUSE, 1L);
    SET(CURLOPT_DNS_CACHE_TIMEOUT, 0L);
    SET(CURLOPT_QUICK_EXIT, 1L); /* a name server that hangs must not keep us at the end */
    SET(CURLOPT_CONNECTTIMEOUT_MS, rules->connect_ms);
    SET(CURLOPT_TIMEOUT_MS, rules->timeout_ms);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(CURLOPT_CAPATH, NULL);
    SET(CURLOPT_CAINFO, rules->ca_file);
    SET(CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    SET(CURLOPT_OPENSOCKETDATA, p);
    SET(CURLOPT_HEADERFUNCTION, on_head);
    SET(CURLOPT_HEADERDATA, p);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, p);
#undef SET
    return bad == CURLE_OK;
}

static const char *prepare(struct post *p, const struct courier_ask *ask, int memfd)
{
    struct err err;
    if (ask->magic != COURIER_MAGIC || !is_value(ask->delivery, sizeof ask->delivery) ||
        !is_value(ask->timestamp, sizeof ask->timestamp) ||
        !is_value(ask->signature, sizeof ask->signature))
        return "it was not asked for properly";
    memcpy(p->delivery, ask->delivery, sizeof p->delivery);
    if (fd_memfd_map(memfd, COURIER_URL_MAX + COURIER_BODY_MAX, &p->map, &p->map_len, &err) < 0 ||
        ask->url_bytes > p->map_len || ask->body_bytes != p->map_len - ask->url_bytes)
        return "it was not asked for properly";
    const char *why = read_url(p, ask->url_bytes);
    if (!why && (!add_headers(p, ask) || !set_up(p, ask->url_bytes, ask->body_bytes)))
        why = "the courier is out of memory";
    return why;
}

struct post *post_new(const struct courier_rules *rules, const struct courier_ask *ask, int memfd,
                      const char **ret_why)
{
    struct post *p = calloc(1, sizeof *p);
    *ret_why = "the courier is out of memory";
    if (!p)
        return NULL;
    p->rules = rules;
    p->tag = ask->tag;
    p->began_ns = clock_now_ns();
    *ret_why = prepare(p, ask, memfd);
    if (!*ret_why)
        return p;
    post_free(p);
    return NULL;
}

/* ---- after --------------------------------------------------------------------------------------
 */

static const char *text_of(const struct post *p, CURLcode result)
{
    static char refused[COURIER_TEXT_ROOM];
    if (result == CURLE_WRITE_ERROR)
        return "the answer's headers are too long";
    if (p->refused && (result == CURLE_COULDNT_CONNECT || result == CURLE_ABORTED_BY_CALLBACK)) {
        (void)snprintf(refused, sizeof refused, "the host has %s", p->refused);
        return refused;
    }
    return curl_easy_strerror(result);
}

void post_fill_answer(const struct post *p, CURLcode result, struct courier_answer *ret)
{
    long status = 0;
    uint64_t ns = clock_now_ns() - p->began_ns;
    bool complete = result == CURLE_OK || (result == CURLE_WRITE_ERROR && p->enough);
    (void)curl_easy_getinfo(p->easy, CURLINFO_RESPONSE_CODE, &status);
    *ret = (struct courier_answer){.magic = COURIER_MAGIC,
                                   .kind = COURIER_ANSWER,
                                   .tag = p->tag,
                                   .status = (uint32_t)status,
                                   .complete = complete,
                                   .duration_ms = (uint32_t)(ns / CLOCK_NS_PER_MS)};
    if (!complete)
        (void)snprintf(ret->text, sizeof ret->text, "%s", text_of(p, result));
    LOG(DEBUG, "posted", F_STR("delivery", p->delivery), F_I64("status", status),
        F_MS("duration_ms", ns), F_LAST_STR("error", ret->text));
}

void post_free(struct post *p)
{
    if (!p)
        return;
    curl_easy_cleanup(p->easy);
    curl_slist_free_all(p->headers);
    curl_url_cleanup(p->url);
    if (p->map)
        (void)munmap((void *)(uintptr_t)p->map, p->map_len);
    free(p);
}
