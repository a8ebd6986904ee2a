/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/origin - may the page that a browser sends this request for do so?
 *
 * In the frontend, pure. A page of any origin may send simple requests (POST of a form's type) and
 * open WebSockets, and a browser asks nobody first; it names the page in Origin. Where keys are
 * configured a foreign page has none to send; where none are, whoever visits a page would run its
 * commands on a service of his own machine. So such a page must be of this very host, which is
 * then one of the names that no DNS can give to another (or it could be rebound). Others than
 * browsers send no Origin.
 */
#include "frontend/front.h"
#include <strings.h>

static bool is_text(struct http_text t, const char *s, size_t len)
{
    return t.at && t.len == len && strncasecmp(t.at, s, len) == 0;
}

/* "https://a.example, https://b.example:8443" */
static bool is_listed(const char *list, struct http_text origin)
{
    for (const char *at = list + strspn(list, ", "); *at; at += strspn(at, ", ")) {
        size_t len = strcspn(at, ", ");
        if (is_text(origin, at, len))
            return true;
        at += len;
    }
    return false;
}

/* Of this machine, by a name that no DNS can give to another. */
static bool is_loopback(struct http_text host)
{
    static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        size_t len = strlen(names[i]);
        if (host.len >= len && strncasecmp(host.at, names[i], len) == 0 &&
            (host.len == len || host.at[len] == ':'))
            return true;
    }
    return false;
}

bool origin_may(const struct front *f, struct http_request *req, const char *listed)
{
    struct http_text origin = http_header_of(req, "origin"), host = http_host(req);
    if (!origin.at) /* no browser's */
        return true;
    if (http_header_repeats(req, "origin"))
        return false;
    if (is_listed(listed, origin))
        return true;
    const char *colon = memmem(origin.at, origin.len, "://", 3);
    if (!colon || !host.at || host.len == 0)
        return false;
    struct http_text page = {colon + 3, origin.len - (size_t)(colon + 3 - origin.at)};
    return is_text(page, host.at, host.len) && (f->has_keys || is_loopback(host));
}
