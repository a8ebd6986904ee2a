/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/settings_check - what one setting asks of another, and what a text has to be.
 *
 * Runs when all sources have been read, at the start and at each reload; a value alone was checked
 * when it was stored. Where a default does not fit what was configured beside it, the default gives
 * way; a value that somebody wrote is refused, and the error says where it was written. What is
 * left empty and follows from others is filled in here.
 */
#include "courier/courier.h"
#include "lib/err.h"
#include "policy/policy.h"
#include "supervisor/settings.h"
#include "supervisor/settings_impl.h"
#include <arpa/inet.h>
#include <inttypes.h>

#define SLOT_UIDS 65536ull
#define SLOTS_BESIDE 64 /* those that are being ended */
#define SLOTS_ARE "active_max + spares + sessions.max + terminals.max + 64"

/* Can only this machine reach it? */
static bool is_loopback(const char *address)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, address, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    return strcmp(address, "localhost") == 0 ||
           (inet_pton(AF_INET6, address, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6));
}

uint64_t settings_count_slots(const struct settings *set)
{
    return set->active_max + set->spares + set->sessions.max + set->terminals.max + SLOTS_BESIDE;
}

/* Whether there are keys is decided once, at the start. */
static int check_listen(struct settings_reading *r)
{
    const char *address = r->set->http_listen;
    struct in6_addr addr;
    bool keys = r->had_keys || *r->set->key_file || *r->set->api_keys;
    if (is_loopback(address))
        return 0;
    if (inet_pton(AF_INET, address, &addr) != 1 && inet_pton(AF_INET6, address, &addr) != 1)
        return setting_refuse(r, setting_find("http.listen"),
                              "expected an IPv4 or IPv6 address, got \"%.40s\"", address);
    if (keys)
        return 0;
    return setting_refuse(r, setting_find("http.listen"),
                          "expected a loopback address such as 127.0.0.1, got \"%.40s\": without "
                          "keys (key_file or API_KEYS; brood key new) only this machine is served",
                          address);
}

static int check_layers(struct settings_reading *r)
{
    uint32_t layers;
    struct err err;
    if (policy_parse_layers(r->set->optional_layers, &layers, &err) == 0)
        return 0;
    return setting_refuse(r, setting_find("optional_layers"), "%s", err.text);
}

static int check_network(struct settings_reading *r)
{
    struct settings_network net;
    const char *name;
    struct err err;
    uint64_t slots = settings_count_slots(r->set);
    if (settings_read_network(r->set, &net, &name, &err) < 0)
        return setting_refuse(r, setting_find(name), "%s", err.text);
    uint64_t room = (1ull << (31 - net.prefix)) - 1; /* pairs, without the first */
    if (r->set->network_mode == POLICY_NET_EGRESS && slots > room)
        return setting_refuse(r, setting_find("network.subnet"),
                              "expected room for %" PRIu64 " pairs of addresses (" SLOTS_ARE
                              "), got %" PRIu64,
                              slots, room);
    return 0;
}

/* What holds when a request names nothing must be something it could have named. */
static int check_run_limits(struct settings_reading *r)
{
    const struct {
        const char *fallback, *max;
        struct proto_limit *limit;
    } pairs[] = {
        {"v1_runs.timeout_default_ms", "v1_runs.timeout_max_ms", &r->set->v1.timeout_ms},
        {"v1_runs.memory_default_mb", "v1_runs.memory_max_mb", &r->set->v1.memory_bytes},
        {"v1_runs.cpu_default_ms", "v1_runs.cpu_max_ms", &r->set->v1.cpu_ms},
        {"v1_runs.output_default_kb", "v1_runs.output_max_kb", &r->set->v1.output_bytes},
        {"v1_runs.artifacts_default_kb", "v1_runs.artifacts_max_kb", &r->set->v1.artifact_bytes},
        {"v1_runs.artifact_files_default", "v1_runs.artifact_files_max",
         &r->set->v1.artifact_files},
    };
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        int named = setting_find(pairs[i].fallback);
        if (pairs[i].limit->fallback <= pairs[i].limit->max)
            continue;
        if (r->from[named].source != SETTINGS_DEFAULT)
            return setting_refuse(r, named, "expected at most %s", pairs[i].max);
        pairs[i].limit->fallback = pairs[i].limit->max;
    }
    return 0;
}

/* Beside fs_root, and another for each: two services in one place are fine. */
static int check_state_dir(struct settings_reading *r)
{
    char *dir = r->set->state_dir;
    const char *root = r->set->fs_root;
    size_t len = strlen(root);
    while (len > 1 && root[len - 1] == '/')
        len--;
    if (!*dir && snprintf(dir, sizeof r->set->state_dir, "%.*s.state", (int)len, root) >=
                     (int)sizeof r->set->state_dir)
        return setting_refuse(r, setting_find("state_dir"),
                              "expected a path, fs_root's is too long");
    if (strncmp(dir, root, len) == 0 && (dir[len] == '/' || dir[len] == 0))
        return setting_refuse(r, setting_find("state_dir"), "expected a path outside of fs_root");
    return 0;
}

/* Empty where clients reach the listener by a name that nobody told us: then the path must do. */
static void guess_base_url(struct settings *set)
{
    struct in6_addr v6 = IN6ADDR_ANY_INIT;
    struct in_addr v4 = {.s_addr = INADDR_ANY};
    bool is_v6 = inet_pton(AF_INET6, set->http_listen, &v6) == 1;
    bool is_v4 = inet_pton(AF_INET, set->http_listen, &v4) == 1;
    if (set->http_port == 0 || (is_v6 && IN6_IS_ADDR_UNSPECIFIED(&v6)) ||
        (is_v4 && v4.s_addr == INADDR_ANY))
        return;
    (void)snprintf(set->public_base_url, sizeof set->public_base_url,
                   is_v6 ? "http://[%s]:%u" : "http://%s:%u", set->http_listen, set->http_port);
}

/* It is put into answers as it is. */
static int check_base_url(struct settings_reading *r)
{
    char *url = r->set->public_base_url;
    if (!*url)
        guess_base_url(r->set);
    size_t len = strlen(url);
    if (!*url)
        return 0;
    if ((strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) ||
        strspn(url, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~:/[]%") !=
            len)
        return setting_refuse(r, setting_find("store.public_base_url"),
                              "expected http://... or https://... without a query, got \"%.80s\"",
                              url);
    while (len > 0 && url[len - 1] == '/')
        url[--len] = 0;
    return 0;
}

static int check_webhooks(struct settings_reading *r)
{
    struct courier_ranges ranges;
    struct err err;
    if (courier_read_list(r->set->webhook_allow, NULL, NULL, &err) < 0)
        return setting_refuse(r, setting_find("webhooks.allow"), "%s", err.text);
    if (courier_read_ranges(r->set->webhook_allow_private, &ranges, &err) < 0)
        return setting_refuse(r, setting_find("webhooks.allow_private"), "%s", err.text);
    return 0;
}

int settings_check(struct settings_reading *r)
{
    const struct settings *set = r->set;
    uint64_t slots = settings_count_slots(set);
    int tmp = setting_find("limits.tmp_mb");
    if (set->tmp_bytes >= set->memory_bytes / 2 && r->from[tmp].source == SETTINGS_DEFAULT)
        r->set->tmp_bytes = set->memory_bytes / 4;
    if (set->tmp_bytes >= set->memory_bytes / 2)
        return setting_refuse(
            r, tmp, "expected less than half of limits.memory_mb (%" PRIu64 " MiB), got %" PRIu64,
            set->memory_bytes >> 20, set->tmp_bytes >> 20);
    int fresh = setting_find("namespaces.fresh_mb");
    if (set->fresh_bytes >= set->memory_bytes / 2 && r->from[fresh].source != SETTINGS_DEFAULT)
        return setting_refuse(
            r, fresh, "expected less than half of limits.memory_mb (%" PRIu64 " MiB), got %" PRIu64,
            set->memory_bytes >> 20, set->fresh_bytes >> 20);
    if (set->timeout_ms_default > set->timeout_ms_max) {
        int named = setting_find("runs.timeout_default_ms");
        if (r->from[named].source != SETTINGS_DEFAULT)
            return setting_refuse(
                r, named, "expected at most runs.timeout_max_ms (%" PRIu64 "), got %" PRIu64,
                set->timeout_ms_max, set->timeout_ms_default);
        r->set->timeout_ms_default = set->timeout_ms_max;
    }
    if (set->uid_base + slots * SLOT_UIDS > UINT32_MAX - SLOT_UIDS)
        return setting_refuse(
            r, setting_find("uid_base"),
            "expected room for %" PRIu64 " ranges of 65536 uids above it (" SLOTS_ARE ")", slots);
    if (!*set->http_socket && set->http_port == 0)
        return setting_refuse(r, setting_find("http.port"),
                              "expected a port, since http.socket is empty too: nobody could ask");
    if (*set->http_socket && strcmp(set->http_socket, set->socket) == 0)
        return setting_refuse(r, setting_find("http.socket"), "expected another path than socket");
    if (*set->languages_dir && *set->languages_dir != '/' &&
        strcmp(set->languages_dir, "none") != 0)
        return setting_refuse(r, setting_find("languages_dir"),
                              "expected none, or a path that begins with /, got \"%.60s\"",
                              set->languages_dir);
    int bad = check_state_dir(r);
    if (bad == 0)
        bad = check_base_url(r);
    if (bad == 0)
        bad = check_run_limits(r);
    if (bad == 0)
        bad = check_webhooks(r);
    if (bad == 0)
        bad = check_layers(r);
    if (bad == 0)
        bad = check_network(r);
    return bad < 0 ? bad : check_listen(r);
}
