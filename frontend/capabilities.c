/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/capabilities - GET /v1/capabilities: what this service is, what it limits, and which
 * layers of isolation it has been shown to have.
 *
 * In the frontend, per thread. All of it comes with the engine's Hello and changes only with
 * another, so the document is written once for each Hello and asking costs the engine nothing.
 */
#include "frontend/front.h"
#include "frontend/json_out.h"
#include <inttypes.h>
#include <stdarg.h>

#define ROOM 16384u

struct doc {
    char *at;
    size_t len; /* beyond ROOM: it did not fit */
};

PRINTF_LIKE(2, 3) static void put(struct doc *d, const char *fmt, ...)
{
    va_list ap;
    if (d->len >= ROOM)
        return;
    va_start(ap, fmt);
    int n = vsnprintf(d->at + d->len, ROOM - d->len, fmt, ap);
    va_end(ap);
    d->len += n > 0 ? (size_t)n : 0;
}

/* `"key":"text"` behind whatever there is. */
static void put_text(struct doc *d, const char *before, const char *key, const char *text)
{
    size_t len = strlen(text), taken = 0;
    put(d, "%s\"%s\":\"", before, key);
    if (d->len < ROOM)
        d->len += json_out_text(d->at + d->len, ROOM - d->len, text, len, &taken);
    if (taken < len)
        d->len = ROOM;
    put(d, "\"");
}

static void put_layers(struct doc *d, const struct proto_hello *h)
{
    put(d, ",\"layers\":[");
    for (size_t i = 0; i < h->layer_count; i++) {
        const struct proto_layer *l = &h->layers[i];
        put_text(d, i ? ",{" : "{", "name", l->name);
        put_text(d, ",", "state", proto_layer_state_name(l->state));
        put(d, ",\"required\":%s", l->required ? "true" : "false");
        put_text(d, ",", "question", l->question);
        put_text(d, ",", "detail", l->detail);
        put(d, "}");
    }
    put(d, "]");
}

static void put_limits(struct doc *d, const struct proto_hello *h)
{
    const struct {
        const char *name;
        uint64_t value;
    } limits[] = {
        {"body_bytes", h->body_bytes_max},
        {"upload_bytes", h->upload_bytes_max},
        {"cmd_bytes", h->cmd_bytes_max},
        {"env_bytes", h->env_bytes_max},
        {"output_bytes", h->output_bytes_max},
        {"timeout_ms", h->timeout_ms_max},
        {"timeout_default_ms", h->timeout_ms_default},
        {"code_bytes", h->run_limits.code_bytes_max},
        {"v1_runs_timeout_ms", h->run_limits.timeout_ms.max},
        {"v1_runs_timeout_default_ms", h->run_limits.timeout_ms.fallback},
        {"v1_runs_memory_bytes", h->run_limits.memory_bytes.max},
        {"v1_runs_memory_default_bytes", h->run_limits.memory_bytes.fallback},
        {"queue", h->queue_max},
        {"queue_wait_ms", h->max_wait_ms},
        {"connections", h->connections_max},
    };
    put(d, ",\"limits\":{");
    for (size_t i = 0; i < ARRAY_LEN(limits); i++)
        put(d, "%s\"%s\":%" PRIu64, i ? "," : "", limits[i].name, limits[i].value);
    put(d, "}");
}

static void put_networks(struct doc *d, uint32_t networks)
{
    const char *before = "";
    put(d, ",\"networks\":[");
    for (int n = 0; n < PROTO_NETWORKS; n++)
        if (networks & (1u << n)) {
            put(d, "%s\"%s\"", before, proto_network_name((enum proto_network)n));
            before = ",";
        }
    put(d, "]");
}

void capabilities_on_hello(struct front *f, const struct proto_hello *h)
{
    static const char features[] = "\"cmd\",\"stdin\",\"env\",\"cwd\",\"timeout\","
                                   "\"limits.cpu_ms\",\"limits.memory_mb\",\"limits.pids\","
                                   "\"limits.max_output_bytes\",\"policy\",\"denied\",\"base64\","
                                   "\"languages\",\"runs\",\"files\",\"jobs\",\"streams\"]}\n";
    struct doc d = {.at = malloc(ROOM)};
    free(ptr_take(&f->capabilities));
    if (!d.at)
        return; /* answered as not ready */
    put_text(&d, "{", "version", h->server);
    put(&d, ",\"protocol\":%u", h->version);
    put_text(&d, ",", "zygote", h->zygote_execs ? "exec" : "bash");
    put_text(&d, ",", "kernel", h->kernel);
    put(&d, ",\"landlock_abi\":%u,\"cgroup_version\":%u", h->landlock_abi, h->cgroup_version);
    put_layers(&d, h);
    put_limits(&d, h);
    put_networks(&d, h->networks);
    put(&d, ",\"features\":[%s%s%s", h->zygote_execs || !h->sessions.max ? "" : "\"session\",",
        h->terminals.max ? "\"terminals\"," : "", features);
    f->capabilities = d.len < ROOM ? strdup(d.at) : NULL;
    free(d.at);
}
