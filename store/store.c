/* SPDX-License-Identifier: Apache-2.0 */
/* store/store - see store.h: the queue, the thread, the mailboxes.
 *
 * In the frontend. Its threads put calls on one bounded list; the store's thread takes all that
 * wait and does them in one transaction, so that many callers share one sync of the disk (group
 * commit). Calls that read many rows wait by themselves and come one at a time, and so do large
 * uploads: whoever asks for many of them holds up nobody else. What became of something that was
 * accepted has room on the list when all else is refused. Nobody is told before the commit, and
 * when that fails, everyone is told so. A turn of nothing but runs without files, sums of usage,
 * claims of jobs, claims that are taken back, attempts of deliveries and questions is committed
 * without a sync of its own (SQLite's WAL with synchronous=NORMAL): a power cut may take the last
 * of them, which their clients have, but no other crash can; a sync for each would cost a run more
 * than all else. (A claim that was taken means one attempt more than were counted, one that comes
 * back an attempt that was none; a delivery without its attempt is made again.) Then finished calls
 * go to the list of their mailbox and its descriptor becomes readable. Retention is part of the
 * transaction that made it necessary; what only grows old is looked for once a minute.
 */
#include "store/store.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "store/object.h"
#include "store/store_impl.h"
#include <fcntl.h>
#include <sys/eventfd.h>
#include <time.h>

#define TIDY_S 60

/* ---- a turn -----------------------------------------------------------------------------------
 */

static struct store_settings settings_of(struct store *s)
{
    (void)pthread_mutex_lock(&s->lock);
    struct store_settings settings = s->settings;
    (void)pthread_mutex_unlock(&s->lock);
    return settings;
}

/* Some failures of SQLite end the transaction by themselves. */
static bool is_open(struct store *s)
{
    return sqlite3_get_autocommit(s->db) == 0;
}

static int commit(struct store *s)
{
    int error = is_open(s) ? store_objects_sync(s) : EIO;
    if (error == 0)
        error = store_outputs_sync(s);
    if (error == 0)
        error = store_step(s, store_statement(s, ST_COMMIT));
    if (error && is_open(s))
        (void)store_step(s, store_statement(s, ST_ROLLBACK));
    return error;
}

/* Is there something that a power cut must not take once its caller was told? */
static bool needs_sync(const struct store_call *list)
{
    bool needs = !list;
    for (const struct store_call *c = list; c && !needs; c = c->next)
        needs = store_needs_sync(c);
    return needs;
}

/* Between transactions. Such a pragma takes effect when it is compiled, so it cannot be prepared.
 */
static int choose_sync(struct store *s, bool sync)
{
    if (sync != s->lax)
        return 0;
    int rc = sqlite3_exec(s->db, sync ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL",
                          NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        s->lax = !sync;
    return rc == SQLITE_OK ? 0 : store_errno(s, rc);
}

void store_turn(struct store *s, struct store_call *list)
{
    const struct store_settings settings = settings_of(s);
    s->wrote = s->wrote_once = s->failed = false;
    int error = choose_sync(s, needs_sync(list));
    if (error == 0)
        error = store_step(s, store_statement(s, ST_BEGIN));
    for (struct store_call *c = list; c; c = c->next)
        c->error = error == 0 && is_open(s) ? store_serve(s, c) : EIO;
    if (error == 0 && is_open(s) && (s->wrote || !list))
        error = store_retain(s, &settings, store_now_ms());
    if (error == 0 && is_open(s) && (s->wrote_once || !list))
        error = store_once_retain(s, &settings, store_now_ms());
    if (error == 0 && is_open(s) && !list)
        error = store_usage_retain(s, store_now_ms());
    if (error == 0)
        error = commit(s);
    else if (is_open(s))
        (void)store_step(s, store_statement(s, ST_ROLLBACK));
    for (struct store_call *c = list; c && error; c = c->next) {
        if (c->error == 0)
            store_undo(s, c);
        c->error = error;
    }
    store_objects_settle(s);
    store_outputs_settle(s);
    s->trouble = s->failed;
}

/* ---- the thread -------------------------------------------------------------------------------
 */

/* With the lock. A mailbox that was empty becomes readable. */
static void deliver(struct store_call *list)
{
    for (struct store_call *next; list; list = next) {
        struct store_mailbox *m = list->mailbox;
        const uint64_t one = 1;
        bool was_empty = !m->done;
        next = list->next;
        list->next = NULL;
        *m->done_end = list;
        m->done_end = &list->next;
        if (was_empty)
            (void)!write(m->fd, &one, sizeof one);
    }
}

static struct store_call *take_first(struct store_queue *q)
{
    struct store_call *c = q->first;
    if (!c)
        return NULL;
    q->first = c->next;
    c->next = NULL;
    if (!q->first)
        q->end = &q->first;
    q->waiting--;
    return c;
}

/* All that wait, of what takes long one each, behind the others: who asks for many of those waits
 * by himself. */
static struct store_call *take(struct store *s)
{
    struct store_queue *quick = &s->queues[STORE_QUICK];
    for (unsigned i = STORE_QUICK + 1; i < STORE_QUEUES; i++) {
        struct store_call *slow = take_first(&s->queues[i]);
        if (!slow)
            continue;
        *quick->end = slow;
        quick->end = &slow->next;
    }
    struct store_call *list = quick->first;
    *quick = (struct store_queue){.end = &quick->first};
    s->waiting = s->queues[STORE_LISTS].waiting + s->queues[STORE_UPLOADS].waiting;
    return list;
}

static void *serve(void *data)
{
    struct store *s = data;
    uint64_t tidied = 0;
    (void)pthread_mutex_lock(&s->lock);
    while (s->waiting > 0 || !s->stopping) {
        struct timespec until;
        (void)clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += TIDY_S;
        while (s->waiting == 0 && !s->stopping && clock_now_ns() - tidied < TIDY_S * CLOCK_NS_PER_S)
            (void)pthread_cond_timedwait(&s->wake, &s->lock, &until);
        struct store_call *list = take(s);
        bool tidy = clock_now_ns() - tidied >= TIDY_S * CLOCK_NS_PER_S;
        (void)pthread_mutex_unlock(&s->lock);
        if (list)
            store_turn(s, list);
        if (tidy) {
            store_turn(s, NULL);
            tidied = clock_now_ns();
        }
        (void)pthread_mutex_lock(&s->lock);
        deliver(list);
    }
    (void)pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- callers ----------------------------------------------------------------------------------
 */

int store_submit(struct store_mailbox *m, struct store_call *call)
{
    struct store *s = m->store;
    call->mailbox = m;
    call->next = NULL;
    call->error = 0;
    (void)pthread_mutex_lock(&s->lock);
    unsigned which = store_queue_of(call);
    struct store_queue *q = &s->queues[which];
    size_t most = STORE_CALLS_MAX + (store_is_result(call) ? STORE_RESULTS_MAX : 0);
    bool full = s->waiting >= most || s->stopping ||
                (which != STORE_QUICK && q->waiting >= STORE_CALLS_MAX / 4);
    if (!full) {
        *q->end = call;
        q->end = &call->next;
        q->waiting++;
        if (s->waiting++ == 0)
            (void)pthread_cond_signal(&s->wake);
    }
    (void)pthread_mutex_unlock(&s->lock);
    return full ? -EAGAIN : 0;
}

void store_collect(struct store_mailbox *m)
{
    uint64_t count;
    (void)!read(m->fd, &count, sizeof count);
    (void)pthread_mutex_lock(&m->store->lock);
    struct store_call *list = m->done;
    m->done = NULL;
    m->done_end = &m->done;
    (void)pthread_mutex_unlock(&m->store->lock);
    for (struct store_call *next; list; list = next) {
        next = list->next;
        list->on_done(list);
    }
}

int store_mailbox_init(struct store_mailbox *m, struct store *s, struct err *err)
{
    *m = (struct store_mailbox){.fd = SYS(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), .store = s};
    m->done_end = &m->done;
    return m->fd < 0 ? err_sys(err, "eventfd") : 0;
}

void store_mailbox_fini(struct store_mailbox *m)
{
    fd_close(&m->fd);
}

void store_set(struct store *s, const struct store_settings *settings)
{
    (void)pthread_mutex_lock(&s->lock);
    s->settings = *settings;
    (void)pthread_mutex_unlock(&s->lock);
}

/* ---- begin and end ----------------------------------------------------------------------------
 */

int store_open(int dir_fd, const struct store_settings *settings, struct store **ret,
               struct err *err)
{
    struct store *s = calloc(1, sizeof *s);
    pthread_condattr_t monotonic;
    if (!s)
        return err_sys(err, "store");
    s->settings = *settings;
    for (unsigned i = 0; i < STORE_QUEUES; i++)
        s->queues[i].end = &s->queues[i].first;
    s->objects_fd = s->outputs_fd = -1;
    (void)pthread_mutex_init(&s->lock, NULL);
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&s->wake, &monotonic);
    s->dir_fd = SYS(fcntl(dir_fd, F_DUPFD_CLOEXEC, 3));
    int r = s->dir_fd < 0 ? err_sys(err, "state_dir") : store_objects_open(s, err);
    if (r == 0)
        r = store_outputs_open(s, err);
    if (r == 0)
        r = store_database_open(s, err);
    if (r == 0)
        r = store_objects_clean(s, err);
    if (r == 0)
        r = store_outputs_clean(s, err);
    if (r == 0)
        r = store_once_lose(s, err);
    if (r == 0)
        r = store_end_open_runs(s, err);
    if (r < 0) {
        store_close(s);
        return r;
    }
    *ret = s;
    return 0;
}

int store_start(struct store *s, struct err *err)
{
    int r = pthread_create(&s->thread, NULL, serve, s);
    if (r != 0)
        return err_set(err, "start the store's thread: %s", strerror(r));
    s->started = true;
    return 0;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    (void)pthread_mutex_lock(&s->lock);
    s->stopping = true;
    (void)pthread_cond_signal(&s->wake);
    (void)pthread_mutex_unlock(&s->lock);
    if (s->started)
        (void)pthread_join(s->thread, NULL);
    store_database_close(s);
    store_objects_close(s);
    store_outputs_close(s);
    fd_close(&s->dir_fd);
    (void)pthread_cond_destroy(&s->wake);
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
}
