/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/engine_languages - code in a language: its stages, and which languages there are.
 *
 * What a language is stands in a file of the operator (languages/); the engine only fills names in.
 * The code comes as a descriptor and is placed by the child: /work/SOURCE in a fresh namespace,
 * /work/.run/SOURCE in a named one, so that no file of a tenant is overwritten.
 *
 * Once the service is proven, one fresh namespace is asked in the background which versions there
 * are, each program in turn. Until it has answered code is simply tried; a language that could not
 * be asked stays unknown.
 */
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "supervisor/engine.h"
#include <ctype.h>
#include <fcntl.h>

#define SOURCE_DIR ".run"
#define ARGV_ROOM (4 * LANGUAGE_TEXT_ROOM)
#define VERSIONS_MS 60000u
#define VERSION_LINE_BYTES 200 /* what is looked at of a program's answer */
#define VERSION_ROOM 32

/* What is known of each, in the order of the set. */
static struct knowledge {
    bool known, available;
    char version[VERSION_ROOM];
} known[LANGUAGES_MAX];

const struct language *engine_find_language(const struct engine *e, const char *name,
                                            const char **ret_why)
{
    static char text[220];
    const struct language *l = languages_find(e->languages, name);
    size_t n = 0;
    if (l &&
        (!known[l - e->languages->languages].known || known[l - e->languages->languages].available))
        return l;
    *ret_why = text;
    if (l) {
        (void)snprintf(text, sizeof text, "%s is not available: its tools are not there", l->name);
        return NULL;
    }
    n = (size_t)snprintf(text, sizeof text, "unknown; there %s",
                         e->languages->count ? "are" : "is none");
    for (uint32_t i = 0; i < e->languages->count && n < sizeof text; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s %s", i ? "," : "",
                              e->languages->languages[i].name);
    return NULL;
}

/* ---- stages ------------------------------------------------------------------------------------
 */

static uint64_t or_else(uint64_t value, uint64_t other)
{
    return value ? value : other;
}

/* 0 is no limit. */
static uint64_t at_most(uint64_t value, uint64_t most)
{
    return most && (!value || value > most) ? most : value;
}

/* Raises what was asked for to what it needs to begin. */
static void raise_to(uint64_t *asked, uint64_t needed, uint64_t ceiling)
{
    if (*asked && *asked < needed)
        *asked = at_most(needed, ceiling);
}

/* The program has what was asked for. The compiler has not, as it is the operator's choice and
 * needs what it needs: its limits are the language's, its memory the policy's. A ceiling, the key's
 * or that of POST /v1/runs, is one for both. */
static void limit_stages(const struct engine *e, struct run *run, const struct proto_execute *exec,
                         const struct language *l)
{
    const struct policy_limits *p = &e->policies->plans[run->policy].limits;
    struct stage *last = &run->stages[run->stage_count - 1], *first = &run->stages[0];
    uint64_t most = or_else(p->timeout_ms_max, e->set.timeout_ms_max);
    if (run->stage_count > 1) {
        *last = *first;
        *first = (struct stage){
            .timeout_ms = at_most(at_most(or_else(l->compile.timeout_ms, last->timeout_ms), most),
                                  exec->timeout_ms_ceiling),
            .cpu_ms = at_most(at_most(l->compile.cpu_ms, p->cpu_ms_max), exec->cpu_ms_ceiling),
            .memory_bytes = exec->memory_bytes_ceiling,
        };
        memcpy(first->name, "compile", sizeof "compile");
    }
    memcpy(last->name, "run", sizeof "run");
    raise_to(&last->memory_bytes, l->run.memory_bytes, exec->memory_bytes_ceiling);
    raise_to(&last->pids_max, l->run.pids_max, 0);
}

static int pack_stage(struct engine *e, struct run *run, const struct proto_execute *exec,
                      const struct language *l, size_t at)
{
    bool first = at == 0, last = at + 1 == run->stage_count, fresh = run->ns->is_fresh;
    const struct language_texts *argv = last ? &l->run.argv : &l->compile.argv;
    char place[sizeof SOURCE_DIR + LANGUAGE_SOURCE_ROOM], source[sizeof place + 8];
    char dir[16], filled[ARGV_ROOM];
    /* Relative to the working directory, where it is the home. */
    const char *before = last && *exec->cwd ? ZYG_HOME "/" : "";
    (void)snprintf(place, sizeof place, "%s%s", fresh ? "" : SOURCE_DIR "/", l->source);
    (void)snprintf(source, sizeof source, "%s%s", before, place);
    (void)snprintf(dir, sizeof dir, "%s%s", before, fresh ? "." : SOURCE_DIR);
    struct pack pack = {
        .magic = ZYG_PROGRAM_MAGIC,
        .flags =
            (first && !fresh ? ZYG_EMPTY_SOURCE : 0) | (last && exec->work ? ZYG_EMPTY_OUTPUTS : 0),
        .plan = &e->policies->plans[run->policy],
        .language_env = &l->env,
        .env = exec->env,
        .env_count = exec->env_count,
        .cwd = last ? exec->cwd : "",
        .argv = filled,
        .argv_bytes = languages_fill(argv, source, dir, filled, sizeof filled),
        .argv_count = argv->count,
        .args = exec->args,
        .arg_count = last ? exec->arg_count : 0,
        .source = first ? place : NULL,
        .places = exec->places,
        .place_count = first ? exec->place_count : 0,
    };
    return pack.argv_bytes ? stage_pack(e, &run->stages[at], &pack) : -E2BIG;
}

/* As enum proto_kind has them. */
enum { CODE_FD = 5, CODE_FDS };

int run_pack_code(struct engine *e, struct run *run, const struct proto_execute *exec,
                  const struct language *l, int fds[])
{
    int none = -1, r = 0;
    run->stage_count = l->compile.argv.count ? 2 : 1;
    (void)snprintf(run->language, sizeof run->language, "%s", l->name);
    limit_stages(e, run, exec, l);
    for (size_t i = 0; r == 0 && i < run->stage_count; i++)
        r = pack_stage(e, run, exec, l, i);
    if (r < 0)
        return r;
    struct stage *first = &run->stages[0], *last = &run->stages[run->stage_count - 1];
    if (first != last) {
        stage_take_fd(e, first, &none);
        stage_take_fd(e, first, &fds[3]);
        stage_take_fd(e, first, &fds[4]);
    }
    for (size_t i = 0; i < 3; i++)
        stage_take_fd(e, last, &fds[i]);
    stage_take_fd(e, first, &fds[CODE_FD]);
    for (size_t i = 0; i < exec->place_count; i++)
        stage_take_fd(e, first, &fds[CODE_FDS + (size_t)exec->work + i]);
    return 0;
}

/* ---- which versions there are ------------------------------------------------------------------
 */

static struct {
    struct engine *e;
    struct loop_io answers;
    struct run *run; /* NULL: not under way */
    char bytes[LANGUAGES_MAX * (VERSION_LINE_BYTES + 4)];
    size_t len;
} asking = {.answers.fd = -1};

/* A line for each: 1 and what the program said, or 0. Not in the way of anybody. */
static bool write_script(const struct language_set *set, struct buf *ret)
{
    static const char head[] =
        "p() { local v; v=$(nice -n 19 \"$@\" 2>&1 </dev/null) && v=\"1 ${v//$'\\n'/ }\" || v=0; "
        "printf '%s\\n' \"${v:0:200}\"; }\n";
    (void)buf_add(ret, head, sizeof head - 1);
    for (uint32_t i = 0; i < set->count; i++) {
        const struct language_texts *t = &set->languages[i].version;
        (void)buf_add(ret, "p", 1);
        for (const char *word = t->text; word < t->text + t->bytes; word += strlen(word) + 1) {
            (void)buf_add(ret, " '", 2);
            for (const char *c = word; *c; c++)
                (void)(*c == '\'' ? buf_add(ret, "'\\''", 4) : buf_add(ret, c, 1));
            (void)buf_add(ret, "'", 1);
        }
        (void)buf_add(ret, "\n", 1);
    }
    return !ret->failed;
}

/* The first number with dots, or the first number: "go version go1.19.8 linux" has 1.19.8. */
static void take_version(struct knowledge *k, const char *line)
{
    k->known = true;
    k->available = *line == '1';
    for (int dotted = 1; k->available && !*k->version && dotted >= 0; dotted--)
        for (const char *at = line + 1; *at; at++) {
            size_t n = isdigit((unsigned char)*at) ? strspn(at, "0123456789.") : 0;
            while (n > 0 && at[n - 1] == '.')
                n--;
            if (n > 0 && n < VERSION_ROOM && (!dotted || memchr(at, '.', n))) {
                memcpy(k->version, at, n);
                break;
            }
            at += n > 0 ? n - 1 : 0;
        }
}

static void conclude(struct engine *e)
{
    char *at = asking.bytes, *end;
    unsigned available = 0;
    asking.bytes[asking.len] = 0;
    for (uint32_t i = 0; i < e->languages->count && (end = strchr(at, '\n')); i++, at = end + 1) {
        *end = 0;
        take_version(&known[i], at);
        available += known[i].available;
    }
    LOG(INFO, "languages", F_U64("known", e->languages->count), F_U64("available", available));
    if (!e->draining)
        engine_say_hello(e);
}

static void on_answers(struct loop_io *io, uint32_t events)
{
    size_t room = sizeof asking.bytes - 1 - asking.len;
    ssize_t n = room > 0 ? read(io->fd, asking.bytes + asking.len, room) : 0;
    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    asking.len += n > 0 ? (size_t)n : 0;
    if (n > 0)
        return;
    loop_io_del(&asking.e->loop, io);
    fd_close(&io->fd);
    conclude(asking.e);
}

static struct run *new_run(struct engine *e, const struct buf *script)
{
    struct pack pack = {
        .magic = ZYG_RUN_MAGIC, .cmd = script->data, .cmd_len = script->len, .cwd = ""};
    struct ns *ns = fresh_new(e);
    struct run *run = ns ? calloc(1, sizeof *run) : NULL;
    if (run) {
        *run = (struct run){.kind = RUN_VERSIONS, .ns = ns, .stage_count = 1, .artifacts_fd = -1};
        run->stages[0].timeout_ms = VERSIONS_MS;
        if (!run_choose_policy(e, run) && stage_pack(e, &run->stages[0], &pack) == 0)
            return run;
    }
    free(run);
    if (ns)
        ns_drop_if_unused(ns);
    return NULL;
}

/* Best effort: what cannot be asked stays unknown. */
void engine_ask_versions(struct engine *e)
{
    struct buf script = {.cap = PROTO_CMD_BYTES_MAX};
    int pair[2], none = -1;
    if (e->languages->count == 0 || e->draining || pipe2(pair, O_CLOEXEC | O_NONBLOCK) < 0)
        return;
    asking.e = e;
    asking.answers = (struct loop_io){.fd = pair[0], .on_ready = on_answers};
    struct run *run = NULL;
    if (loop_io_add(&e->loop, &asking.answers, EPOLLIN) == 0 && write_script(e->languages, &script))
        run = new_run(e, &script);
    buf_fini(&script);
    if (!run) {
        fd_close(&pair[1]); /* which is the end of the answers */
        return;
    }
    stage_take_fd(e, &run->stages[0], &none);
    stage_take_fd(e, &run->stages[0], &pair[1]);
    stage_take_fd(e, &run->stages[0], &none);
    asking.run = run;
    run_start_own(run);
}

void engine_on_versions(void)
{
    asking.run = NULL;
}

void engine_stop_versions(void)
{
    if (asking.run)
        run_cancel(asking.run);
}

void engine_fill_languages(const struct engine *e, struct proto_hello *ret)
{
    static struct proto_language told[LANGUAGES_MAX];
    _Static_assert(LANGUAGES_MAX <= PROTO_LANGUAGES_MAX, "");
    _Static_assert(LANGUAGE_ALIASES_MAX <= PROTO_ALIASES_MAX, "");
    for (uint32_t i = 0; i < e->languages->count; i++) {
        const struct language *l = &e->languages->languages[i];
        told[i] = (struct proto_language){.name = l->name,
                                          .alias_count = l->alias_count,
                                          .version = known[i].version,
                                          .available = !known[i].known || known[i].available,
                                          .compiles = l->compile.argv.count > 0};
        for (uint32_t k = 0; k < l->alias_count; k++)
            told[i].aliases[k] = l->aliases[k];
    }
    ret->languages = told;
    ret->language_count = e->languages->count;
}
