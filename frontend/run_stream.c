/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/run_stream - what a run whose output is shown while it runs has beside any run.
 *
 * In the frontend, in the run's thread. Its pipes are watched from the start, so that a byte is
 * with its readers as soon as it is written; they are not read while the stream has no room, so
 * that the run waits in its write(2). What is read goes into the stream and, up to the usual limit,
 * into what the result shows. A character whose bytes came in two reads is one: its beginning is
 * carried over. A client is answered when the engine has handed the run over: until then a refusal
 * still has a status of its own.
 */
#include "frontend/json_out.h"
#include "frontend/run.h"
#include "frontend/stream.h"
#include "frontend/work.h"
#include "lib/clock.h"

#define STARTED_ROOM 1280u

static const enum stream_kind kinds[RUN_OUTPUTS] = {STREAM_STDOUT, STREAM_STDERR,
                                                    STREAM_COMPILER_STDOUT, STREAM_COMPILER_STDERR};

static void add(struct run *run, size_t i, const char *bytes, size_t len)
{
    uint64_t left = run->shown_max ? run->shown_max - run->carry[i].shown : UINT64_MAX;
    if (len > left)
        len = (size_t)left;
    run->carry[i].shown += len;
    if (len > 0 && !stream_add(run->stream, kinds[i], bytes, len))
        run->out[i].cut = true;
}

/* The carried beginning of a character, completed by what has come, as an event of its own. Returns
 * how many bytes it took. */
static size_t complete(struct run *run, size_t i, const char *bytes, size_t len)
{
    size_t taken = 0, *n = &run->carry[i].len;
    char *at = run->carry[i].bytes;
    while (*n > 0 && taken < len && json_out_unfinished(at, *n) == *n)
        at[(*n)++] = bytes[taken++];
    if (*n == 0 || json_out_unfinished(at, *n) == *n)
        return taken;
    /* The last byte may be no part of it, if it was broken. */
    if (!json_out_is_exact(at, *n)) {
        (*n)--;
        taken--;
    }
    add(run, i, at, *n);
    *n = 0;
    return taken;
}

static void on_bytes(struct output *o, const char *bytes, size_t len)
{
    struct run *run = o->run;
    size_t i = (size_t)(o - run->out);
    if (run->base64) {
        add(run, i, bytes, len);
        return;
    }
    size_t at = complete(run, i, bytes, len);
    while (at < len) { /* no event ends within a character */
        size_t n = len - at < STREAM_EVENT_BYTES ? len - at : STREAM_EVENT_BYTES;
        size_t left = json_out_unfinished(bytes + at, n);
        if (n > left)
            add(run, i, bytes + at, n - left);
        at += n - left;
        if (at + left == len) {
            memcpy(run->carry[i].bytes, bytes + at, left);
            run->carry[i].len = left;
            at = len;
        }
    }
}

static void resume(struct run *run)
{
    run->paused = false;
    for (unsigned i = 0; i < run->out_count; i++)
        if (run->out[i].watch)
            http_watch_resume(run->out[i].watch);
}

static void on_room(struct letter *l)
{
    struct run *run = CONTAINER_OF(l, struct run, has_room);
    if (run->paused)
        resume(run);
}

bool run_stream_make(struct run *run, const char *id, const char *key, bool keeps_all)
{
    run->has_room.on_arrival = on_room;
    const struct stream_plan plan = {.id = id,
                                     .key = key,
                                     .base64 = run->base64,
                                     .keeps_all = keeps_all,
                                     .box = &run->front->letters,
                                     .on_room = &run->has_room};
    run->stream = stream_new(&plan);
    for (unsigned i = 0; run->stream && i < run->out_count; i++)
        run->out[i].on_bytes = on_bytes;
    return run->stream != NULL;
}

bool run_stream_may_read(struct run *run)
{
    /* Output may be here before the word that it began, which is then on its way. */
    if (run->begun && (run->finished || stream_has_room(run->stream)))
        return true;
    run->paused = true;
    for (unsigned i = 0; i < run->out_count; i++)
        if (run->out[i].watch)
            http_watch_pause(run->out[i].watch);
    return false;
}

static void start_reader(struct run *run)
{
    const struct reader_plan plan = {
        .form = run->form,
        .stream = run->stream,
        .id = run->work ? work_id(run->work) : "",
        .key = run->work ? work_key(run->work) : "",
    };
    if (reader_start(run->front, run->req, &plan, &run->reader) < 0)
        run_refuse(run->req, -EAGAIN);
}

static void add_started(struct run *run, uint64_t shown_max)
{
    char text[STARTED_ROOM], now[32];
    if (run->begun)
        return;
    run->begun = true;
    run->shown_max = shown_max;
    clock_rfc3339(now, sizeof now);
    size_t n = (size_t)snprintf(text, sizeof text, "{\"started_at\":\"%s\"", now);
    if (run->work)
        n += work_put_started(run->work, text + n, sizeof text - n);
    n += (size_t)snprintf(text + n, sizeof text - n, "}");
    (void)stream_add(run->stream, STREAM_STARTED, text, n);
}

void run_stream_begin(struct run *run, uint64_t shown_max)
{
    add_started(run, shown_max);
    bool told = run->reader || (run->work && work_is_noting(run->work));
    if (run->req && run->form && !told)
        start_reader(run);
    if (run->paused)
        resume(run);
}

void run_stream_finish(struct run *run)
{
    run_stream_begin(run, run->result.output_bytes_max); /* cancelled, or its note is on its way */
    if (run->paused)
        resume(run);
}

uint64_t run_stream_last_id(struct run *run)
{
    for (size_t i = 0; i < run->out_count; i++) { /* characters that were never completed */
        add(run, i, run->carry[i].bytes, run->carry[i].len);
        run->carry[i].len = 0;
    }
    return stream_next_id(run->stream);
}

void run_stream_end(struct run *run, const char *code, const char *text)
{
    (void)run_stream_last_id(run);
    stream_end(ptr_take(&run->stream), code, text);
    letterbox_withdraw(&run->front->letters, &run->has_room);
}
