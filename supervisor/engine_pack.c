/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/engine_pack - the bytes that a standby reads: one message for each stage of a run.
 *
 * What a client sent passes through here once, from a frame's arena into that message, laid out as
 * zygote/zygote.h says; it is never looked at. Messages are made when a run is accepted, because
 * the arena is gone afterwards, and are counted until they are sent.
 */
#include "lib/clock.h"
#include "lib/fd.h"
#include "supervisor/engine.h"

static size_t texts_bytes(const char *const *texts, size_t count)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        n += strlen(texts[i]) + 1;
    return n;
}

static size_t env_bytes(const struct pack *p)
{
    size_t n = (p->plan ? p->plan->env_bytes : 0) + (p->language_env ? p->language_env->bytes : 0);
    for (size_t i = 0; i < p->env_count; i++)
        n += strlen(p->env[i].name) + strlen(p->env[i].value) + 2;
    return n;
}

static char *put(char *at, const void *bytes, size_t len)
{
    if (len)
        memcpy(at, bytes, len);
    return at + len;
}

static char *put_texts(char *at, const char *const *texts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        at = put(at, texts[i], strlen(texts[i]) + 1);
    return at;
}

/* The policy's first, then the language's: the request's own are stronger. */
static char *put_env(char *at, const struct pack *p)
{
    if (p->plan)
        at = put(at, p->plan->env, p->plan->env_bytes);
    if (p->language_env)
        at = put(at, p->language_env->text, p->language_env->bytes);
    for (size_t i = 0; i < p->env_count; i++) {
        at = put(at, p->env[i].name, strlen(p->env[i].name));
        *at++ = '=';
        at = put(at, p->env[i].value, strlen(p->env[i].value) + 1);
    }
    return at;
}

int stage_pack(struct engine *e, struct stage *st, const struct pack *p)
{
    const char *source[1] = {p->source};
    size_t sources = p->source ? 1 : 0;
    struct zyg_run head = {
        .magic = p->magic,
        .env_count = (uint32_t)p->env_count + (p->plan ? p->plan->env_count : 0) +
                     (p->language_env ? p->language_env->count : 0),
        .timeout_ns = st->timeout_ms * CLOCK_NS_PER_MS,
        .grace_ns = e->set.grace_ms * CLOCK_NS_PER_MS,
        .cpu_s = (st->cpu_ms + 999) / 1000,
        .cmd_bytes = (uint32_t)p->cmd_len + 1,
        .env_bytes = (uint32_t)env_bytes(p),
        .cwd_bytes = (uint32_t)strlen(p->cwd) + 1,
        .flags = p->flags,
        .arg_count = p->argv_count + (uint32_t)p->arg_count,
        .arg_bytes = (uint32_t)(p->argv_bytes + texts_bytes(p->args, p->arg_count)),
        .place_count = (uint32_t)(sources + p->place_count),
        .place_bytes =
            (uint32_t)(texts_bytes(source, sources) + texts_bytes(p->places, p->place_count)),
    };
    size_t len = sizeof head + head.cmd_bytes + head.env_bytes + head.cwd_bytes + head.arg_bytes +
                 head.place_bytes;
    if (len > ZYG_RUN_BYTES_MAX)
        return -E2BIG;
    char *at = st->message = malloc(len);
    if (!at)
        return -ENOMEM;
    st->message_bytes = len;
    e->held_bytes += len;
    at = put(at, &head, sizeof head);
    at = put(at, p->cmd, p->cmd_len);
    *at++ = 0;
    at = put_env(at, p);
    at = put(at, p->cwd, head.cwd_bytes);
    at = put(at, p->argv, p->argv_bytes);
    at = put_texts(at, p->args, p->arg_count);
    at = put_texts(at, source, sources);
    (void)put_texts(at, p->places, p->place_count);
    return 0;
}

void stage_take_fd(struct engine *e, struct stage *st, int *fd)
{
    st->fds[st->nfds++] = *fd;
    e->held_fds += *fd >= 0;
    *fd = -1;
}

void stage_drop(struct engine *e, struct stage *st)
{
    if (st->message)
        e->held_bytes -= st->message_bytes;
    free(ptr_take(&st->message));
    for (size_t i = 0; i < st->nfds; i++) {
        e->held_fds -= st->fds[i] >= 0;
        fd_close(&st->fds[i]);
    }
    st->nfds = 0;
}
