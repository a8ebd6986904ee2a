/* SPDX-License-Identifier: Apache-2.0 */
/* t/fuzz/webhook_url - any text as a list of receivers, a newline, and a URL. A host that is taken
 * is one word that stands in the URL right behind its scheme, and what is listed is found in the
 * list.
 */
#include "courier/courier.h"
#include "lib/err.h"
#include <assert.h>
#include <ctype.h>
#include <strings.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_url(const char *list, const char *url, size_t len)
{
    struct courier_target t;
    char alone[COURIER_HOST_MAX + 32];
    if (!courier_read_url(url, len, &t))
        return;
    size_t scheme = t.tls ? 8 : 7, host = strlen(t.host);
    assert(len <= COURIER_URL_MAX && len >= scheme + host && host > 0 && t.port > 0);
    assert(strncasecmp(url, t.tls ? "https://" : "http://", scheme) == 0);
    assert(strncasecmp(url + scheme, t.host, host) == 0);
    assert(scheme + host == len || strchr(":/?", url[scheme + host]));
    for (size_t i = 0; i < host; i++)
        assert(!isupper((unsigned char)t.host[i]) && !strchr("@/?#\\% ", t.host[i]));
    (void)snprintf(alone, sizeof alone, "%s://%s:%u", t.tls ? "https" : "http", t.host, t.port);
    assert(courier_is_listed(alone, &t) && !courier_is_listed("", &t));
    if (courier_is_listed(list, &t)) {
        const char *dot = strchr(t.host, '.');
        bool found = strcasestr(list, t.host) != NULL;
        for (; dot && !found; dot = strchr(dot + 1, '.'))
            found = strcasestr(list, dot) != NULL; /* *.domain */
        assert(found);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct courier_ranges ranges = {.count = 99};
    uint16_t ports[COURIER_PORTS_MAX];
    size_t count = 0;
    struct err err = {0};
    char *text = malloc(size + 1);
    if (!text)
        abort();
    memcpy(text, data, size);
    text[size] = 0;
    char *line = memchr(text, '\n', size), *url = line ? line + 1 : text;
    if (line)
        *line = 0;
    check_url(line ? text : "", url, (size_t)(text + size - url));
    assert(courier_read_list(text, ports, &count, &err) == 0 || *err.text);
    assert(count <= COURIER_PORTS_MAX);
    if (courier_read_ranges(text, &ranges, &err) == 0)
        for (size_t i = 0; i < ranges.count; i++)
            assert(ranges.list[i].bits <= (ranges.list[i].v6 ? 128 : 32));
    else
        assert(ranges.count == 99 && *err.text);
    free(text);
    return 0;
}
