/* SPDX-License-Identifier: Apache-2.0 */
/* courier/allow - the operator's list of receivers, and as much of a URL as it takes to ask it.
 *
 * In the supervisor (is the list well written?), in the frontend (may a job name that URL?) and in
 * the courier (may I go there?). Only the courier's word counts: it has libcurl's reading of the
 * URL beside this one, and where the two differ it does not go. So this reader is narrow rather
 * than clever: what it does not know it does not take.
 */
#include "courier/courier.h"
#include "lib/err.h"
#include "lib/num.h"
#include <ctype.h>
#include <strings.h>

#define ITEM_MAX 300

static const char *skip_word(const char *at, const char *end, const char *word)
{
    size_t n = strlen(word);
    return (size_t)(end - at) >= n && strncasecmp(at, word, n) == 0 ? at + n : NULL;
}

/* "http://" or "https://"; NULL: neither. */
static const char *read_scheme(const char *at, const char *end, struct courier_target *ret)
{
    const char *rest = skip_word(at, end, "https://");
    ret->tls = rest != NULL;
    if (!rest)
        rest = skip_word(at, end, "http://");
    ret->port = ret->tls ? 443 : 80;
    return rest;
}

/* A name or an address as its characters go; whether it is one shows when it is resolved. */
static bool is_host(const char *at, size_t len)
{
    bool v6 = len > 2 && at[0] == '[' && at[len - 1] == ']';
    if (len == 0 || len > COURIER_HOST_MAX || at[0] == '.' || at[0] == '-')
        return false;
    for (size_t i = v6; i < len - v6; i++) {
        char c = at[i];
        if (v6 ? !isxdigit((unsigned char)c) && c != ':' && c != '.'
               : !isalnum((unsigned char)c) && c != '-' && c != '.' && c != '_')
            return false;
        if (c == '.' && i > 0 && at[i - 1] == '.')
            return false;
    }
    return at[len - 1] != '.';
}

/* HOST[:PORT], all of it. */
static bool read_authority(const char *at, const char *end, struct courier_target *ret)
{
    const char *bracket = at < end && *at == '[' ? memchr(at, ']', (size_t)(end - at)) : NULL;
    const char *from = bracket ? bracket : at;
    const char *colon = memchr(from, ':', (size_t)(end - from));
    size_t len = (size_t)((colon ? colon : end) - at);
    uint64_t port = ret->port;
    char number[8];
    if (colon) {
        size_t digits = (size_t)(end - colon - 1);
        if (digits == 0 || digits >= sizeof number)
            return false;
        memcpy(number, colon + 1, digits);
        number[digits] = 0;
        if (num_parse_u64(number, 1, 65535, &port) < 0)
            return false;
    }
    if (!is_host(at, len))
        return false;
    for (size_t i = 0; i < len; i++)
        ret->host[i] = (char)tolower((unsigned char)at[i]);
    ret->host[len] = 0;
    ret->port = (uint16_t)port;
    return true;
}

bool courier_read_url(const char *url, size_t len, struct courier_target *ret)
{
    const char *end = url + len, *at = url;
    if (len > COURIER_URL_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if (url[i] <= ' ' || url[i] > '~' || strchr("\"<>\\^`{|}#", url[i]))
            return false;
    at = read_scheme(at, end, ret);
    if (!at)
        return false;
    size_t n = 0;
    while (at + n < end && !strchr("/?", at[n]))
        n++;
    return read_authority(at, at + n, ret);
}

/* The next item without blanks around it: 1; 0: the end; -1: empty or too long. */
static int next_item(const char **at, char item[ITEM_MAX])
{
    *at += strspn(*at, " \t");
    if (!**at)
        return 0;
    size_t len = strcspn(*at, ","), end = len;
    while (end > 0 && ((*at)[end - 1] == ' ' || (*at)[end - 1] == '\t'))
        end--;
    if (end == 0 || end >= ITEM_MAX)
        return -1;
    memcpy(item, *at, end);
    item[end] = 0;
    *at += len;
    *at += **at == ',';
    return 1;
}

/* *ret_below: it stands for all names below its host. */
static bool read_entry(const char *item, struct courier_target *ret, bool *ret_below)
{
    const char *end = item + strlen(item), *at = read_scheme(item, end, ret);
    if (!at) {
        *ret = (struct courier_target){.tls = true, .port = 443};
        at = item;
    }
    *ret_below = at[0] == '*' && at[1] == '.';
    return read_authority(*ret_below ? at + 2 : at, end, ret) &&
           !(*ret_below && ret->host[0] == '[');
}

static bool is_below(const char *host, const char *domain)
{
    size_t n = strlen(host), d = strlen(domain);
    return n > d + 1 && host[n - d - 1] == '.' && strcmp(host + n - d, domain) == 0;
}

bool courier_is_listed(const char *list, const struct courier_target *target)
{
    char item[ITEM_MAX];
    while (next_item(&list, item) > 0) {
        struct courier_target entry;
        bool below;
        if (!read_entry(item, &entry, &below))
            return false;
        if (entry.tls == target->tls && entry.port == target->port &&
            (below ? is_below(target->host, entry.host) : strcmp(target->host, entry.host) == 0))
            return true;
    }
    return false;
}

static void add_port(uint16_t port, uint16_t *ports, size_t *count)
{
    for (size_t i = 0; i < *count; i++)
        if (ports[i] == port)
            return;
    ports[(*count)++] = port;
}

int courier_read_list(const char *list, uint16_t *ret_ports, size_t *ret_count, struct err *err)
{
    char item[ITEM_MAX] = "";
    uint16_t ports[COURIER_PORTS_MAX];
    size_t count = 0;
    int r;
    while ((r = next_item(&list, item)) > 0) {
        struct courier_target entry;
        bool below;
        if (!read_entry(item, &entry, &below))
            return err_set(err,
                           "expected [https://|http://]HOST[:PORT] with a name, *.DOMAIN or an "
                           "address, got \"%.60s\"",
                           item);
        if (count == COURIER_PORTS_MAX)
            return err_set(err, "expected at most %u different ports", COURIER_PORTS_MAX - 1);
        add_port(entry.port, ports, &count);
    }
    if (r < 0)
        return err_set(err, "expected items of 1 to %d characters between commas", ITEM_MAX - 1);
    if (ret_ports) {
        memcpy(ret_ports, ports, count * sizeof *ports);
        *ret_count = count;
    }
    return 0;
}
