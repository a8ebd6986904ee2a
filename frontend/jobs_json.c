/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/jobs_json - a job as API.md shows it.
 *
 * In the frontend, any thread. What is told of an end (error, preview, facts) was written as JSON
 * when it came, and is shown as it was stored; the rest is the row's, and the queue's where the job
 * has not ended.
 */
#include "frontend/jobs_impl.h"
#include "frontend/json_out.h"
#include <inttypes.h>
#include <time.h>

#define PIECE 4096u

static const char *const state_names[STORE_JOB_STATES] = {
    [STORE_JOB_QUEUED] = "queued",       [STORE_JOB_RUNNING] = "running",
    [STORE_JOB_COMPLETED] = "completed", [STORE_JOB_FAILED] = "failed",
    [STORE_JOB_TIMEOUT] = "timeout",
};

const char *jobs_state_name(enum store_job_state state)
{
    return state < STORE_JOB_STATES ? state_names[state] : "failed";
}

int jobs_find_state(const char *name)
{
    for (int i = 0; i < STORE_JOB_STATES; i++)
        if (strcmp(state_names[i], name) == 0)
            return i;
    return -1;
}

/* Bytes of the character at `text`, at least 1; what is broken counts byte by byte. */
static size_t character_at(const char *text, size_t len)
{
    unsigned char c = (unsigned char)*text;
    size_t n = c < 0xc2 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 1;
    for (size_t i = 1; i < n; i++)
        if (i == len || ((unsigned char)text[i] & 0xc0) != 0x80)
            return i;
    return n;
}

void jobs_put_text(struct buf *b, const char *text, size_t len, size_t characters)
{
    size_t end = 0;
    while (characters-- > 0 && end < len)
        end += character_at(text + end, len - end);
    for (size_t at = 0, taken; at < end; at += taken) {
        if (!buf_reserve(b, PIECE))
            return;
        b->len += json_out_text(b->data + b->len, b->room - b->len, text + at, end - at, &taken);
    }
}

static void put_string(struct buf *b, const char *name, const char *text)
{
    (void)buf_addf(b, ",\"%s\":%s", name, *text ? "\"" : "null");
    if (!*text)
        return;
    jobs_put_text(b, text, strlen(text), SIZE_MAX);
    (void)buf_addf(b, "\"");
}

void jobs_put_time(struct buf *b, const char *name, int64_t ms)
{
    struct tm tm;
    char day[24];
    time_t s = ms / 1000;
    if (ms == 0) {
        (void)buf_addf(b, ",\"%s\":null", name);
        return;
    }
    (void)gmtime_r(&s, &tm);
    (void)strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)buf_addf(b, ",\"%s\":\"%s.%03dZ\"", name, day, (int)(ms % 1000));
}

static void put_number(struct buf *b, const char *name, bool known, uint64_t n)
{
    if (known)
        (void)buf_addf(b, ",\"%s\":%" PRIu64, name, n);
    else
        (void)buf_addf(b, ",\"%s\":null", name);
}

static void put_end(struct buf *b, const struct store_job *j)
{
    if (j->state < STORE_JOB_COMPLETED) {
        (void)buf_addf(b, ",\"error\":null,\"stdoutPreview\":null");
        return;
    }
    if (!j->doc) /* a list */
        return;
    (void)buf_addf(b, ",\"stdoutPreview\":\"");
    (void)buf_add(b, j->preview, j->preview_len);
    (void)buf_addf(b, "\",");
    (void)buf_add(b, j->doc, j->doc_len);
}

enum store_job_state jobs_shown_state(const struct store_job *j, const struct jobs_view *v)
{
    if (j->state >= STORE_JOB_COMPLETED || !v->known)
        return j->state;
    return v->running ? STORE_JOB_RUNNING : STORE_JOB_QUEUED;
}

void jobs_put_job(struct buf *b, const struct store_job *j, const struct jobs_view *v)
{
    bool ended = j->state >= STORE_JOB_COMPLETED;
    bool running = jobs_shown_state(j, v) == STORE_JOB_RUNNING;
    int64_t began = running || ended ? j->started_ms : 0;
    int64_t queued_ms = (began ? began : ended ? j->completed_ms : store_now_ms()) - j->created_ms;
    (void)buf_addf(b, "{\"executionId\":\"%s\"", j->id);
    put_string(b, "userId", j->user);
    put_string(b, "language", j->language);
    put_string(b, "namespaceId", j->ns_id);
    (void)buf_addf(b, ",\"status\":\"%s\"", jobs_state_name(jobs_shown_state(j, v)));
    if (ended)
        (void)buf_addf(b, ",\"outputPath\":\"outputs/%s.txt\"", j->id);
    else
        (void)buf_addf(b, ",\"outputPath\":null");
    jobs_put_time(b, "createdAt", j->created_ms);
    jobs_put_time(b, "updatedAt", j->updated_ms);
    jobs_put_time(b, "startedAt", began);
    jobs_put_time(b, "completedAt", ended ? j->completed_ms : 0);
    put_number(b, "execDurationMs", ended, j->duration_ms);
    put_number(b, "queuedMs", true, queued_ms > 0 ? (uint64_t)queued_ms : 0);
    put_number(b, "queuePosition", v->known && v->position, v->position);
    (void)buf_addf(b, ",\"attempts\":%u,\"priority\":%u,\"cancelling\":%s", j->attempts,
                   j->priority, j->cancelled && !ended ? "true" : "false");
    put_end(b, j);
    (void)buf_addf(b, "}");
}
