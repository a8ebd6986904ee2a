/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/feed - see feed.h.
 *
 * In the frontend, between its threads: a request may come to another one than its run lives in. It
 * becomes an errand, a letter to the run's thread, which does it and sends it back; so a pipe and
 * the engine's connection belong to one thread each. Bytes for stdin are written in the order in
 * which errands arrive there, as fast as the run reads them; each request is answered when the last
 * of its bytes is in the pipe, so who sends more than the run takes waits. What waits is bounded,
 * for a run and for a key: who leaves is not waited with, but its bytes are taken nevertheless. A
 * full pipe is watched through an epoll descriptor of its own, because the loop knows readable
 * descriptors only.
 */
#include "frontend/feed.h"
#include "frontend/answer.h"
#include "frontend/parse_feed.h"
#include "frontend/run.h"
#include "frontend/share.h"
#include "frontend/work_impl.h"
#include "lib/fd.h"
#include <fcntl.h>
#include <sys/epoll.h>

#define RUN_MAX (1u << 20)                /* waiting for one run; or one errand alone */
#define KEY_MAX (OUTPUT_BUFFERED_MAX / 4) /* for all runs of a key */

enum outcome { DONE, ENDED, WAITS, CLOSED, BUSY, FULL };

struct errand {
    struct request_owner owner;
    struct letter letter;
    struct front *home, *there;
    struct http_request *req; /* NULL: over, or there was none */
    bool away;                /* or on its way */
    char id[STORE_ID_ROOM], key[STORE_KEY_MAX + 1];
    int signal; /* 0: bytes */
    struct parse_stdin in;
    size_t at;
    bool stays_open; /* stdin, afterwards */
    enum outcome outcome;
    struct errand *next;
};

struct feed {
    struct front *front;
    int fd; /* our end; -1: closed, or not open yet */
    bool opened;
    bool lost;                /* of what the run was given at its start */
    struct http_watch *watch; /* while it is full */
    struct errand *first, **end;
    size_t waiting;
    struct share *share; /* NULL: of no key */
};

static struct shares shares = SHARES_EMPTY;

/* ---- errands ----------------------------------------------------------------------------------
 */

static void drop(struct errand *e)
{
    if (e->req || e->away)
        return;
    output_return(e->in.len);
    free(e->in.bytes);
    free(e);
}

static void answer(struct errand *e)
{
    char text[200];
    size_t n = (size_t)snprintf(text, sizeof text, "{\"id\":\"%s\",", e->id);
    switch (e->outcome) {
    case DONE:
        if (e->signal)
            n += (size_t)snprintf(text + n, sizeof text - n, "\"signal\":\"%s\"}\n",
                                  proto_signal_name(e->signal));
        else
            n += (size_t)snprintf(text + n, sizeof text - n, "\"bytes\":%zu,\"open\":%s}\n",
                                  e->in.len, e->stays_open ? "true" : "false");
        http_respond(e->req, e->signal ? 202 : 200, NULL, text, n);
        return;
    case ENDED:
        answer_error(e->req, &(struct answer_error){409, "ended", 0, NULL},
                     "the run has ended: %zu of %zu bytes were taken", e->at, e->in.len);
        return;
    case CLOSED:
        answer_error(e->req, &(struct answer_error){409, "stdin_closed", 0, NULL},
                     "the run's stdin is not open: %zu of %zu bytes were taken", e->at, e->in.len);
        return;
    case WAITS:
        answer_error(e->req, &(struct answer_error){409, "queued", 0, NULL},
                     "the run has not begun");
        return;
    case BUSY:
        if (e->signal)
            answer_error(e->req, &(struct answer_error){503, "busy", 1000, NULL},
                         "too much is going on at the moment");
        else
            answer_error(e->req, &(struct answer_error){503, "busy", 1000, NULL},
                         "too much is going on at the moment: %zu of %zu bytes were taken", e->at,
                         e->in.len);
        return;
    case FULL:
        answer_error(e->req, &(struct answer_error){429, "stdin_full", 1000, NULL},
                     "enough waits for the run to be read: 0 of %zu bytes were taken", e->in.len);
        return;
    }
}

static void at_home(struct letter *l)
{
    struct errand *e = CONTAINER_OF(l, struct errand, letter);
    e->away = false;
    if (e->req)
        answer(e);
    else
        drop(e);
}

/* In the run's thread: back to where it came from. */
static void send_back(struct errand *e, enum outcome outcome)
{
    e->outcome = outcome;
    if (!e->home) { /* the run's own first bytes */
        e->away = false;
        drop(e);
        return;
    }
    e->letter.on_arrival = at_home;
    (void)letterbox_put(&e->home->letters, &e->letter); /* closed: nobody asks any more */
}

/* ---- stdin ------------------------------------------------------------------------------------
 */

static void shut(struct feed *feed)
{
    http_watch_free(ptr_take(&feed->watch));
    fd_close(&feed->fd);
}

static size_t cost_of(const struct errand *e)
{
    return e->in.len + sizeof *e;
}

/* Of a run, or a key. */
static bool may_wait(const struct feed *feed, const struct errand *e)
{
    return (!feed->first || feed->waiting + cost_of(e) <= RUN_MAX) &&
           (!feed->share || atomic_load(&feed->share->held) + cost_of(e) <= KEY_MAX);
}

static void add_waiting(struct feed *feed, struct errand *e)
{
    e->next = NULL;
    *feed->end = e;
    feed->end = &e->next;
    feed->waiting += cost_of(e);
    if (feed->share)
        atomic_fetch_add(&feed->share->held, cost_of(e));
}

/* The first one. */
static void leave(struct feed *feed, struct errand *e)
{
    feed->first = e->next;
    if (!feed->first)
        feed->end = &feed->first;
    feed->waiting -= cost_of(e);
    if (feed->share)
        atomic_fetch_sub(&feed->share->held, cost_of(e));
}

static void fail_all(struct feed *feed, enum outcome outcome)
{
    struct errand *e;
    while ((e = feed->first)) {
        leave(feed, e);
        feed->lost = feed->lost || (!e->home && outcome == BUSY);
        send_back(e, outcome);
    }
}

static void on_writable(void *data);

static bool wait_for_room(struct feed *feed)
{
    struct epoll_event out = {.events = EPOLLOUT};
    if (feed->watch)
        return true;
    int ep = SYS(epoll_create1(EPOLL_CLOEXEC));
    if (ep >= 0 && SYS(epoll_ctl(ep, EPOLL_CTL_ADD, feed->fd, &out)) == 0)
        feed->watch = http_watch_new(feed->front->server, ep, on_writable, feed);
    if (!feed->watch)
        fd_close(&ep);
    return feed->watch != NULL;
}

/* False: nothing more can be written now. */
static bool write_some(struct feed *feed, struct errand *e)
{
    ssize_t n = SYS(write(feed->fd, e->in.bytes + e->at, e->in.len - e->at));
    if (n >= 0) {
        e->at += (size_t)n;
        return true;
    }
    if (errno == EINTR)
        return true;
    /* Of a run's own first bytes nobody could be told that they were not taken. */
    if ((errno == EAGAIN || (errno != EPIPE && !e->home)) && wait_for_room(feed))
        return false;
    enum outcome why = errno == EPIPE ? CLOSED : BUSY;
    if (why == CLOSED)
        shut(feed);
    fail_all(feed, why);
    return false;
}

static void pump(struct feed *feed)
{
    struct errand *e;
    while ((e = feed->first)) {
        if (feed->fd < 0) {
            fail_all(feed, CLOSED);
            return;
        }
        while (e->at < e->in.len)
            if (!write_some(feed, e))
                return;
        leave(feed, e);
        if (e->in.eof)
            shut(feed);
        e->stays_open = feed->fd >= 0;
        send_back(e, DONE);
    }
    http_watch_free(ptr_take(&feed->watch));
}

static void on_writable(void *data)
{
    pump(data);
}

static void enqueue(struct feed *feed, struct errand *e)
{
    if (!may_wait(feed, e)) {
        send_back(e, FULL);
        return;
    }
    add_waiting(feed, e);
    if (feed->first == e && feed->opened)
        pump(feed);
}

/* False: too much is held. */
static bool add_first(struct feed *feed, const char *first, size_t len)
{
    struct errand *e = calloc(1, sizeof *e);
    char *bytes = malloc(len);
    if (e)
        e->in.len = len;
    if (!e || !bytes || !may_wait(feed, e) || !output_borrow_spare(len)) {
        free(bytes);
        free(e);
        return false;
    }
    memcpy(bytes, first, len);
    e->in.bytes = bytes;
    e->away = true;
    add_waiting(feed, e);
    return true;
}

struct feed *feed_new(struct front *f, const char *key, const char *first, size_t len)
{
    struct feed *feed = calloc(1, sizeof *feed);
    if (!feed)
        return NULL;
    *feed = (struct feed){.front = f, .fd = -1};
    feed->end = &feed->first;
    if (*key)
        feed->share = share_take(&shares, key);
    if ((!*key || feed->share) && (len == 0 || add_first(feed, first, len)))
        return feed;
    feed_free(feed);
    return NULL;
}

int feed_open(struct feed *feed)
{
    int pair[2];
    if (output_pipe_take(&feed->front->pipes, pair) < 0)
        return -1;
    feed->fd = pair[1];
    feed->opened = true;
    if (fd_set_nonblock(pair[1]) < 0) {
        fd_close(&feed->fd);
        fd_close(&pair[0]);
        return -1;
    }
    pump(feed);
    if (!feed->lost)
        return pair[0];
    fd_close(&pair[0]);
    return -1;
}

void feed_end(struct feed *feed)
{
    if (!feed)
        return;
    shut(feed);
    fail_all(feed, ENDED);
}

void feed_free(struct feed *feed)
{
    if (!feed)
        return;
    feed_end(feed);
    share_give(&shares, feed->share);
    free(feed);
}

/* ---- requests ---------------------------------------------------------------------------------
 */

/* In the run's thread. */
static void at_run(struct letter *l)
{
    struct errand *e = CONTAINER_OF(l, struct errand, letter);
    struct run *run = work_open_find_own(e->there, e->id, e->key);
    if (!run || run->finished) {
        send_back(e, ENDED);
    } else if (!e->signal) {
        if (run->feed)
            enqueue(run->feed, e);
        else
            send_back(e, CLOSED);
    } else if (!run->begun) {
        send_back(e, WAITS);
    } else {
        bool sent = upstream_signal(&e->there->upstream, run->tag, e->signal);
        send_back(e, sent ? DONE : BUSY);
    }
}

static void on_gone(struct front *f, struct request_owner *owner)
{
    (void)f;
    (void)owner; /* what is on its way is done */
}

static void on_end(struct front *f, struct http_request *req, struct request_owner *owner)
{
    struct errand *e = CONTAINER_OF(owner, struct errand, owner);
    (void)f;
    (void)req;
    e->req = NULL;
    drop(e);
}

/* Takes the bytes over. */
static void start(struct front *f, struct http_request *req, const char *id, int signal,
                  struct parse_stdin *in)
{
    struct front *there = work_open_thread(id, routes_key_label(req));
    struct errand *e = there ? calloc(1, sizeof *e) : NULL;
    if (!e || !output_borrow_spare(in->len)) {
        free(ptr_take(&in->bytes));
        free(e);
        if (!there)
            runs_answer_absent(f, req, id);
        else
            answer_error(req, &(struct answer_error){503, "busy", 1000, NULL},
                         "too much is going on at the moment");
        return;
    }
    e->owner = (struct request_owner){.on_gone = on_gone, .on_end = on_end};
    e->home = f;
    e->there = there;
    e->req = req;
    e->signal = signal;
    e->in = *in;
    e->letter.on_arrival = at_run;
    (void)snprintf(e->id, sizeof e->id, "%s", id);
    (void)snprintf(e->key, sizeof e->key, "%s", routes_key_label(req));
    *http_data(req) = &e->owner;
    e->away = letterbox_put(&there->letters, &e->letter);
    if (!e->away) {
        e->outcome = ENDED;
        answer(e);
    }
}

void feed_on_stdin(struct front *f, struct http_request *req, const struct http_text *params)
{
    char id[STORE_ID_ROOM];
    struct parse_stdin in;
    struct parse_refusal refusal;
    struct http_text body = http_body(req);
    if (!runs_take_id(req, params[0], id) || !execute_may_begin(f, req))
        return;
    if (parse_stdin(body.at, body.len, &in, &refusal) < 0)
        answer_error(req, &(struct answer_error){400, refusal.code, 0, NULL}, "%s", refusal.text);
    else
        start(f, req, id, 0, &in);
}

void feed_on_signal(struct front *f, struct http_request *req, const struct http_text *params)
{
    char id[STORE_ID_ROOM];
    int signal;
    struct parse_stdin none = {0};
    struct parse_refusal refusal;
    struct http_text body = http_body(req);
    if (!runs_take_id(req, params[0], id) || !execute_may_begin(f, req))
        return;
    if (parse_signal(body.at, body.len, &signal, &refusal) < 0)
        answer_error(req, &(struct answer_error){400, refusal.code, 0, NULL}, "%s", refusal.text);
    else
        start(f, req, id, signal, &none);
}
