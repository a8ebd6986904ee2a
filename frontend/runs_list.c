/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/runs_list - GET /v1/runs: the stored runs of a key, newest first, without what they
 * wrote.
 *
 * In the frontend, per thread; the store finds them. The cursor is the place of the last run that
 * was shown, so runs that come or go meanwhile neither repeat nor hide any.
 */
#include "frontend/uri.h"
#include "frontend/work_impl.h"
#include "lib/num.h"
#include <inttypes.h>

#define LIMIT 100u
#define LIMIT_MAX 1000u
#define CURSOR_ROOM (24 + STORE_ID_ROOM)
#define RETRY_MS 1000u

struct listing {
    struct request_owner owner;
    struct http_request *req; /* NULL: over */
    struct store_call call;
    struct store_list list;
    bool waiting;
    char tail[64 + CURSOR_ROOM];
    struct answer answer;
};

static void free_if_unused(struct listing *l)
{
    if (l->req || l->waiting)
        return;
    output_return(l->call.borrowed);
    free(l->list.text);
    free(l);
}

static void on_listed(struct store_call *call)
{
    static __thread char small[HTTP_CHUNK_BYTES];
    struct listing *l = CONTAINER_OF(call, struct listing, call);
    const struct store_list *list = &l->list;
    bool last = false, busy = call->error == EAGAIN;
    l->waiting = false;
    if (!l->req) {
        free_if_unused(l);
        return;
    }
    if (call->error) {
        answer_error(
            l->req, &(struct answer_error){503, busy ? "overloaded" : "storage", RETRY_MS, NULL},
            busy ? "too much output is waiting for its clients" : "the runs cannot be read now");
        return;
    }
    if (list->more)
        (void)snprintf(l->tail, sizeof l->tail, "],\"next_cursor\":\"%" PRId64 ".%s\"}\n",
                       list->before_ms, list->before_id);
    else
        (void)snprintf(l->tail, sizeof l->tail, "],\"next_cursor\":null}\n");
    const char *const texts[] = {"{\"runs\":[", list->text ? list->text : "", l->tail};
    const size_t lens[] = {strlen(texts[0]), list->len, strlen(l->tail)};
    answer_init_raw(&l->answer, texts, lens, ARRAY_LEN(texts));
    size_t n = answer_fill(&l->answer, small, sizeof small, &last);
    if (last) {
        http_respond(l->req, 200, NULL, small, n);
    } else {
        answer_rewind(&l->answer);
        http_stream(l->req, 200, answer_fill, &l->answer);
    }
}

static void on_gone(struct front *f, struct request_owner *owner)
{
    (void)f;
    (void)owner;
}

static void on_end(struct front *f, struct http_request *req, struct request_owner *owner)
{
    struct listing *l = CONTAINER_OF(owner, struct listing, owner);
    (void)f;
    (void)req;
    l->req = NULL;
    free_if_unused(l);
}

/* "1763769600123.run_..." */
static bool read_cursor(char *text, struct store_list *list)
{
    char *dot = strchr(text, '.');
    uint64_t ms = 0;
    if (!dot || !store_id_is_valid("run_", dot + 1, strlen(dot + 1)))
        return false;
    *dot = 0;
    if (num_parse_u64(text, 0, INT64_MAX, &ms) < 0)
        return false;
    list->before_ms = (int64_t)ms;
    (void)snprintf(list->before_id, sizeof list->before_id, "%s", dot + 1);
    return true;
}

static bool is_status(const char *text)
{
    static const char *const words[] = {"succeeded", "failed", "timeout", "oom", "killed"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strcmp(words[i], text) == 0)
            return true;
    return false;
}

/* NULL, or what is wrong. */
static const char *take_query(struct http_text query, struct store_list *list)
{
    char cursor[CURSOR_ROOM];
    uint64_t limit = LIMIT;
    if (uri_find_u64(query, "limit", 1, LIMIT_MAX, &limit) < 0)
        return "limit: expected 1 to 1000";
    list->limit = limit;
    list->before_ms = INT64_MAX;
    int n = uri_find(query, "status", list->status, sizeof list->status);
    if (n != -2 && (n < 0 || !is_status(list->status)))
        return "status: expected succeeded, failed, timeout, oom or killed";
    if (n == -2)
        *list->status = 0;
    n = uri_find(query, "cursor", cursor, sizeof cursor);
    if (n != -2 && (n < 0 || !read_cursor(cursor, list)))
        return "cursor: expected the next_cursor of a page before";
    return NULL;
}

void runs_on_list(struct front *f, struct http_request *req, const struct http_text *params)
{
    struct listing *l = calloc(1, sizeof *l);
    const char *fault = l ? take_query(http_query(req), &l->list) : NULL;
    (void)params;
    if (l && !fault) {
        l->owner = (struct request_owner){.on_gone = on_gone, .on_end = on_end};
        l->call.verb = STORE_LIST_RUNS;
        l->call.runs = &l->list;
        l->call.on_done = on_listed;
        l->call.borrow = output_borrow_spare;
        l->call.fd = -1;
        (void)snprintf(l->call.key, sizeof l->call.key, "%s", routes_key_label(req));
        l->waiting = store_submit(&f->mailbox, &l->call) == 0;
        if (l->waiting) {
            l->req = req;
            *http_data(req) = &l->owner;
            return;
        }
    }
    free(l);
    if (fault)
        answer_error(req, &(struct answer_error){400, "bad_request", 0, NULL}, "%s", fault);
    else
        answer_error(req, &(struct answer_error){503, "busy", RETRY_MS, NULL},
                     "too much is being stored at the moment");
}
