/* SPDX-License-Identifier: Apache-2.0 */
/* t/unit/store_jobs - a job is claimed once, its last attempt alone can end it, its output stays
 * with it, a start finds those that have not ended, and which go when there is too much.
 */
#include "lib/tap.h"
#include "t/lib/store_help.h"

static const struct store_settings no_limits;

static int job_call(struct store *s, enum store_verb verb, struct store_job *j, const char *output)
{
    struct store_call c = {.verb = verb, .job = j, .fd = -1, .data = output};
    c.len = output ? strlen(output) : 0;
    return now(s, &c);
}

static struct store_job new_job(const char *key, bool claimed)
{
    static char body[] = "{}";
    struct store_job j = {.state = claimed ? STORE_JOB_RUNNING : STORE_JOB_QUEUED,
                          .created_ms = store_now_ms(),
                          .body = body,
                          .body_len = 2};
    store_make_id(STORE_JOB_PREFIX, j.id);
    (void)snprintf(j.key, sizeof j.key, "%s", key);
    (void)snprintf(j.language, sizeof j.language, "bash");
    return j;
}

static int finish_job(struct store *s, const char *id, unsigned attempts, const char *output)
{
    static char doc[] = "\"error\":null", preview[] = "out";
    struct store_job j = {.attempts = attempts,
                          .state = STORE_JOB_COMPLETED,
                          .preview = preview,
                          .preview_len = 3,
                          .doc = doc,
                          .doc_len = sizeof doc - 1};
    (void)snprintf(j.id, sizeof j.id, "%s", id);
    return job_call(s, STORE_FINISH_JOB, &j, output);
}

static enum store_job_state state_of(struct store *s, const char *id, const char *key,
                                     unsigned *ret_attempts)
{
    struct store_job j = {.state = STORE_JOB_QUEUED};
    (void)snprintf(j.id, sizeof j.id, "%s", id);
    (void)snprintf(j.key, sizeof j.key, "%s", key);
    if (job_call(s, STORE_GET_JOB, &j, NULL) != 0)
        return STORE_JOB_STATES;
    free(j.preview);
    free(j.doc);
    if (ret_attempts)
        *ret_attempts = j.attempts;
    return j.state;
}

static int read_output(struct store *s, const char *id, char *ret, size_t room)
{
    struct store_call c = {.verb = STORE_GET_OUTPUT, .any_key = true, .fd = -1};
    (void)snprintf(c.object.id, sizeof c.object.id, "%s", id);
    int error = now(s, &c);
    ssize_t n = error ? 0 : pread(c.fd, ret, room - 1, 0);
    ret[n > 0 ? n : 0] = 0;
    if (error == 0)
        (void)close(c.fd);
    return error;
}

static void test_job_states(void)
{
    char text[32];
    unsigned attempts = 0;
    new_directory();
    struct store *s = open_store(&no_limits);
    struct store_job j = new_job("k", false), other = {.state = STORE_JOB_QUEUED};
    (void)snprintf(j.policy, sizeof j.policy, "strict");
    j.timeout_ms_ceiling = 1;
    j.memory_bytes_ceiling = 2;
    j.cpu_ms_ceiling = 3;
    ok(job_call(s, STORE_PUT_JOB, &j, NULL) == 0 && j.seq > 0, "a job is stored");
    ok(state_of(s, j.id, "k", &attempts) == STORE_JOB_QUEUED && attempts == 0, "queued");
    ok(state_of(s, j.id, "x", NULL) == STORE_JOB_STATES, "another key's is unknown");
    ok(read_output(s, j.id, text, sizeof text) == EAGAIN, "without an output");
    memcpy(other.id, j.id, sizeof other.id);
    ok(job_call(s, STORE_CLAIM_JOB, &other, NULL) == 0 && other.attempts == 1 && other.body &&
           strcmp(other.body, "{}") == 0,
       "claimed: the first attempt, with its request");
    ok(strcmp(other.policy, "strict") == 0 && other.timeout_ms_ceiling == 1 &&
           other.memory_bytes_ceiling == 2 && other.cpu_ms_ceiling == 3,
       "and with what its key may");
    free(other.body);
    (void)snprintf(other.key, sizeof other.key, "k");
    ok(job_call(s, STORE_UNCLAIM_JOB, &other, NULL) == 0, "the attempt did not begin");
    ok(state_of(s, j.id, "k", &attempts) == STORE_JOB_RUNNING && attempts == 0,
       "it does not count, and the state does not go back");
    ok(job_call(s, STORE_UNCLAIM_JOB, &other, NULL) == ESTALE, "once");
    for (unsigned i = 1; i <= 2; i++) {
        ok(job_call(s, STORE_CLAIM_JOB, &other, NULL) == 0 && other.attempts == i, "claim %u", i);
        free(other.body);
    }
    ok(finish_job(s, j.id, 1, "first") == ESTALE, "an attempt that was given up cannot end it");
    ok(read_output(s, j.id, text, sizeof text) == EAGAIN, "nor leave an output");
    ok(finish_job(s, j.id, 2, "second") == 0, "the last one can");
    ok(finish_job(s, j.id, 2, "again") == ESTALE, "once");
    ok(read_output(s, j.id, text, sizeof text) == 0 && strcmp(text, "second") == 0,
       "and its output stays: '%s'", text);
    ok(job_call(s, STORE_CLAIM_JOB, &other, NULL) == ENOENT, "an ended one is not claimed");
    ok(job_call(s, STORE_CANCEL_JOB, &other, NULL) == EALREADY, "nor cancelled");
    other = new_job("k", true);
    ok(job_call(s, STORE_PUT_JOB, &other, NULL) == 0 && finish_job(s, other.id, 1, "") == 0,
       "one that wrote nothing");
    char path[STORE_ID_ROOM + 16];
    (void)snprintf(path, sizeof path, "outputs/%s.txt", other.id);
    ok(unlinkat(dir_fd, path, 0) == 0 && read_output(s, other.id, text, sizeof text) == 0 && !*text,
       "has an empty output, whatever a power cut took");
    other = new_job("k", true);
    ok(job_call(s, STORE_PUT_JOB, &other, NULL) == 0 &&
           state_of(s, other.id, "k", &attempts) == STORE_JOB_RUNNING && attempts == 1,
       "stored as claimed: the first attempt");
    ok(job_call(s, STORE_CANCEL_JOB, &other, NULL) == 0 && other.cancelled, "marked");
    store_close(s);
}

static void count_job(void *user, const struct store_job *job)
{
    unsigned *n = user;
    n[0] += job->cancelled;
    n[1]++;
}

static void test_job_restart(void)
{
    unsigned n[2] = {0};
    struct err err;
    char stray[64];
    int outputs = openat(dir_fd, "outputs", O_RDONLY | O_DIRECTORY);
    struct store_job j = new_job("k", false);
    (void)snprintf(stray, sizeof stray, "%s.txt", j.id);
    (void)close(openat(outputs, stray, O_WRONLY | O_CREAT, 0600));
    (void)close(openat(outputs, ".new-77", O_WRONLY | O_CREAT, 0600));
    struct store *s = open_store(&no_limits);
    ok(faccessat(outputs, stray, F_OK, 0) < 0 && faccessat(outputs, ".new-77", F_OK, 0) < 0,
       "a start removes what no ended job names");
    ok(store_each_waiting_job(s, count_job, n, &err) == 0 && n[0] == 1 && n[1] == 1,
       "and finds those that have not ended");
    (void)close(outputs);
    store_close(s);
}

static void test_job_lists(void)
{
    char ids[7][STORE_ID_ROOM];
    unsigned seen = 0, pages = 0;
    new_directory();
    struct store *s = open_store(&no_limits);
    for (int i = 0; i < 7; i++) {
        struct store_job j = new_job(i == 3 ? "other" : "k", true);
        ok(job_call(s, STORE_PUT_JOB, &j, NULL) == 0, "job %d", i);
        memcpy(ids[i], j.id, sizeof ids[i]);
        if (i % 2)
            (void)finish_job(s, j.id, 1, "");
    }
    struct store_job_list l = {.state = -1, .limit = 4};
    do {
        struct store_call c = {.verb = STORE_LIST_JOBS, .list = &l, .key = "k", .fd = -1};
        ok(now(s, &c) == 0, "a page of %zu", l.count);
        seen += (unsigned)l.count;
        pages++;
        if (pages == 1)
            ok(strcmp(l.at[0].id, ids[6]) == 0, "the latest first");
        free(l.at);
        l.before = l.next;
    } while (l.next && pages < 9);
    ok(seen == 6 && pages == 2, "all of the key's, %u on %u pages", seen, pages);
    l = (struct store_job_list){.state = STORE_JOB_COMPLETED, .limit = 4};
    struct store_call c = {.verb = STORE_LIST_JOBS, .list = &l, .key = "k", .fd = -1};
    ok(now(s, &c) == 0 && l.count == 2 && l.next == 0, "by state");
    free(l.at);
    l = (struct store_job_list){.state = STORE_JOB_QUEUED, .limit = 9};
    ok(now(s, &c) == 0 && l.count == 4, "claimed ones may be still queued");
    free(l.at);
    const struct store_settings few = {.runs_max = 1};
    store_set(s, &few);
    store_turn(s, NULL);
    unsigned left = 0;
    for (int i = 0; i < 7; i++)
        left += state_of(s, ids[i], i == 3 ? "other" : "k", NULL) == STORE_JOB_COMPLETED;
    char text[8];
    ok(left == 1 && state_of(s, ids[6], "k", NULL) == STORE_JOB_RUNNING,
       "of ended jobs the oldest go, of those that have not ended none");
    ok(read_output(s, ids[1], text, sizeof text) == ENOENT, "with their outputs");
    store_close(s);
}

static const char told_url[] = "http://a.test/";

static struct store_job ended_job(struct store *s, int64_t created_ms, const char *url)
{
    struct store_job j = new_job("k", true);
    j.created_ms = created_ms;
    j.callback_url = url;
    (void)job_call(s, STORE_PUT_JOB, &j, NULL);
    (void)finish_job(s, j.id, 1, "");
    j.callback_url = NULL;
    return j;
}

static bool is_kept(struct store *s, const struct store_job *j)
{
    return state_of(s, j->id, "k", NULL) == STORE_JOB_COMPLETED;
}

static int retain(struct store *s, const struct store_settings *set, int64_t now_ms)
{
    int error = store_step(s, store_statement(s, ST_BEGIN));
    if (error == 0)
        error = store_retain(s, set, now_ms);
    return error ? error : store_step(s, store_statement(s, ST_COMMIT));
}

static void test_retention(void)
{
    const struct store_settings day = {.age_s = 86400}, two = {.runs_max = 2},
                                one = {.runs_max = 1};
    int64_t now_ms = store_now_ms(), day_ms = 86400 * 1000;
    new_directory();
    struct store *s = open_store(&no_limits);
    struct store_job j = ended_job(s, now_ms - 3 * day_ms, NULL);
    ok(retain(s, &day, now_ms + day_ms - 60 * 1000) == 0 && is_kept(s, &j),
       "how old a job is counts from its end");
    ok(retain(s, &day, now_ms + day_ms + 60 * 1000) == 0 && !is_kept(s, &j), "then it goes");
    struct store_job untold = ended_job(s, now_ms, told_url), told = ended_job(s, now_ms, told_url),
                     last = ended_job(s, now_ms, told_url);
    char sql[120];
    (void)snprintf(sql, sizeof sql, "UPDATE deliveries SET state = 1 WHERE job_id = '%s'", told.id);
    ok(sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK, "one receiver was told");
    ok(retain(s, &two, now_ms) == 0 && is_kept(s, &untold) && is_kept(s, &last) &&
           !is_kept(s, &told),
       "of too many those go first whose receiver waits for nothing");
    ok(retain(s, &one, now_ms) == 0 && !is_kept(s, &untold) && is_kept(s, &last),
       "but a bound is one: then the oldest");
    struct store_job waits = new_job("w", false);
    auto_free char *body = calloc(1, 100000);
    const struct store_settings small = {.bytes_max = 50000};
    j = ended_job(s, now_ms, NULL);
    waits.body = body;
    waits.body_len = 100000;
    ok(job_call(s, STORE_PUT_JOB, &waits, NULL) == 0 && retain(s, &small, now_ms) == 0 &&
           !is_kept(s, &j),
       "when all that the largest key has is to be run, another's goes");
    last = ended_job(s, now_ms, told_url);
    ok(retain(s, &day, now_ms + day_ms + 60 * 1000) == 0 && !is_kept(s, &last) &&
           ask(s, "SELECT count(*) FROM deliveries") == 0,
       "and what is too old goes, whoever waits for it");
    store_close(s);
}

int main(void)
{
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    test_job_states();
    test_job_restart();
    test_job_lists();
    test_retention();
    remove_directory();
    return tap_done();
}
