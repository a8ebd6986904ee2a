/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/webhooks - see webhooks.h: the deliverer.
 *
 * In the frontend, in its first thread. The store has what is to be delivered and when; nothing of
 * that is kept here but the flights: deliveries that were claimed and not yet noted, a bounded
 * number in all, per key and per host. A flight is sent to the courier, answered, noted in the
 * store, as often as that takes, and over. Whatever ends this process leaves them pending, so they
 * are claimed again: at least once, with the same id. A courier that starts anew has lost what it
 * had, and says so; one that says nothing is not waited for beyond its deadlines. Neither counts as
 * an attempt.
 *
 * The next attempt is at a random time between now and `delay_first` times two for each failure so
 * far, at most `delay_max` ("full jitter"), so that receivers that come back are not met by all at
 * once.
 */
#include "frontend/webhooks.h"
#include "courier/courier.h"
#include "frontend/jobs_impl.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "lib/packet.h"
#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/stat.h>

#define KEY_FILE "webhook.key"
#define KEY_TEMP ".webhook.key.new"
#define SECRET_MIN 16u
#define SECRET_MAX 512u
#define MADE_BYTES 32u      /* written as hex */
#define MAC_HEX 64u         /* SHA-256 */
#define LABEL_PREFIX "key:" /* no timestamp begins so */
#define PAUSE_MS 1000u      /* after the store, or the way to the courier, failed */
#define TICK_MS 500u        /* while something is in flight */
#define SLACK_MS 5000u      /* beyond the courier's own deadlines */
#define ANSWERS_A_TURN 64

enum flight_state { FLIGHT_SENT, FLIGHT_ANSWERED, FLIGHT_NOTING };

struct flight {
    enum flight_state state;
    size_t place; /* in hooks.flights */
    uint64_t tag, due_ns;
    char host[STORE_HOST_ROOM], key[STORE_JOB_KEY_ROOM];
    char job_id[STORE_JOB_ID_MAX + 1];
    uint32_t attempts; /* before this one */
    struct store_call call;
    struct store_courier note; /* its id is the delivery's */
};

static struct {
    struct front *front; /* the first one; NULL: nothing is delivered */
    int courier_fd, wake_fd;
    struct http_watch *courier_watch;
    unsigned char secret[SECRET_MAX];
    size_t secret_len;
    uint64_t timeout_ms, attempts, delay_first_ms, delay_max_ms, at_once, at_once_host;
    struct http_timer due, tick;
    bool deaf; /* what came could not be received: until the tick */
    struct flight *flights[STORE_DELIVERIES_MAX]; /* NULL: a free place */
    size_t busy;
    uint64_t last_tag;
    bool claiming, again;
    struct store_call claim;
    struct store_courier claimed;
    char ids[STORE_DELIVERIES_MAX][STORE_DELIVERY_ID_ROOM];
    char hosts[STORE_DELIVERIES_MAX][STORE_HOST_ROOM];
    char keys[STORE_DELIVERIES_MAX][STORE_JOB_KEY_ROOM];
} hooks = {.courier_fd = -1, .wake_fd = -1};

static void look(void);

/* ---- the secret ---------------------------------------------------------------------------------
 */

static int make_secret(int state_fd, struct err *err)
{
    unsigned char random[MADE_BYTES];
    char text[2 * MADE_BYTES + 2];
    if (SYS(getrandom(random, sizeof random, 0)) != sizeof random)
        return err_sys(err, "state_dir: random bytes");
    for (size_t i = 0; i < sizeof random; i++)
        (void)snprintf(text + 2 * i, 3, "%02x", random[i]);
    text[2 * MADE_BYTES] = '\n';
    (void)unlinkat(state_fd, KEY_TEMP, 0);
    auto_close int fd =
        SYS(openat(state_fd, KEY_TEMP, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (fd < 0 || SYS(fd_write_all(fd, text, 2 * MADE_BYTES + 1)) < 0 || SYS(fsync(fd)) < 0 ||
        SYS(renameat(state_fd, KEY_TEMP, state_fd, KEY_FILE)) < 0 || SYS(fsync(state_fd)) < 0)
        return err_sys(err, "state_dir: make " KEY_FILE);
    memcpy(hooks.secret, text, 2 * MADE_BYTES);
    hooks.secret_len = 2 * MADE_BYTES;
    return 0;
}

/* The text of the file, without the end of its line. */
static int read_secret(int fd, const char *what, struct err *err)
{
    char text[SECRET_MAX + 2];
    struct stat st;
    if (SYS(fstat(fd, &st)) < 0)
        return err_sys(err, "%s", what);
    ssize_t n = S_ISREG(st.st_mode) ? SYS(pread(fd, text, sizeof text, 0)) : 0;
    if (n < 0)
        return err_sys(err, "%s", what);
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r'))
        n--;
    if (n < (ssize_t)SECRET_MIN || n > (ssize_t)SECRET_MAX)
        return err_set(err, "%s: expected a file with a text of %u to %u bytes", what, SECRET_MIN,
                       SECRET_MAX);
    memcpy(hooks.secret, text, (size_t)n);
    hooks.secret_len = (size_t)n;
    return 0;
}

int webhooks_open(int state_fd, int courier_fd, int secret_fd, struct err *err)
{
    hooks.courier_fd = courier_fd;
    if (courier_fd < 0)
        return 0;
    if (secret_fd >= 0)
        return read_secret(secret_fd, "webhooks.secret_file", err);
    auto_close int fd =
        SYS(openat(state_fd, KEY_FILE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (fd < 0 && errno == ENOENT)
        return make_secret(state_fd, err);
    return fd < 0 ? err_sys(err, "state_dir: " KEY_FILE)
                  : read_secret(fd, "state_dir: " KEY_FILE, err);
}

static bool mac_hex(const void *secret, size_t secret_len, const char *text, size_t len,
                    char ret[MAC_HEX + 1])
{
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned mac_len = 0;
    if (!HMAC(EVP_sha256(), secret, (int)secret_len, (const unsigned char *)text, len, mac,
              &mac_len) ||
        mac_len != MAC_HEX / 2)
        return false;
    for (size_t i = 0; i < mac_len; i++)
        (void)snprintf(ret + 2 * i, 3, "%02x", mac[i]);
    return true;
}

/* Of "<timestamp>.<body>", as hex behind the version. A receiver needs the secret to check what it
 * gets, so each key has one of its own, from ours and its label: with it nobody signs what another
 * key's receiver takes for ours. */
static bool sign(const char *key, const char *timestamp, const char *body, size_t len, char ret[72])
{
    char label[sizeof LABEL_PREFIX + STORE_JOB_KEY_ROOM], of_key[MAC_HEX + 1], mac[MAC_HEX + 1];
    const void *secret = *key ? of_key : (const void *)hooks.secret;
    size_t head = strlen(timestamp) + 1;
    auto_free char *text = malloc(head + len + 1);
    if (!text)
        return false;
    (void)snprintf(text, head + 1, "%s.", timestamp);
    if (len)
        memcpy(text + head, body, len);
    int n = snprintf(label, sizeof label, LABEL_PREFIX "%s", key);
    if (*key && !mac_hex(hooks.secret, hooks.secret_len, label, (size_t)n, of_key))
        return false;
    if (!mac_hex(secret, *key ? MAC_HEX : hooks.secret_len, text, head + len, mac))
        return false;
    (void)snprintf(ret, 72, "v1=%s", mac);
    return true;
}

/* ---- flights ------------------------------------------------------------------------------------
 */

static void pause_for(uint64_t ms)
{
    http_timer_set(hooks.front->server, &hooks.due, clock_now_ns() + ms * CLOCK_NS_PER_MS);
}

static void land(struct flight *fl)
{
    hooks.flights[fl->place] = NULL;
    hooks.busy--;
    free(fl);
}

static void on_noted(struct store_call *call)
{
    struct flight *fl = CONTAINER_OF(call, struct flight, call);
    if (call->error && call->error != ENOENT) { /* the tick tries again; nothing is sent again */
        fl->state = FLIGHT_ANSWERED;
        return;
    }
    land(fl);
    look();
}

static void note(struct flight *fl)
{
    fl->call = (struct store_call){
        .verb = STORE_NOTE_ATTEMPT, .courier = &fl->note, .fd = -1, .on_done = on_noted};
    bool handed = store_submit(&hooks.front->mailbox, &fl->call) == 0;
    fl->state = handed ? FLIGHT_NOTING : FLIGHT_ANSWERED; /* the tick tries again */
}

/* Between now and twice as much for each failure so far. */
static int64_t choose_retry_ms(uint32_t failures)
{
    uint64_t window = hooks.delay_first_ms, random = 0;
    for (uint32_t i = 1; i < failures && window < hooks.delay_max_ms; i++)
        window *= 2;
    if (window > hooks.delay_max_ms)
        window = hooks.delay_max_ms;
    (void)!getrandom(&random, sizeof random, 0);
    return store_now_ms() + (int64_t)(random % (window + 1));
}

static void log_attempt(const struct flight *fl, const struct courier_answer *a)
{
    static const char *const words[] = {
        [STORE_PENDING] = "later", [STORE_DELIVERED] = "delivered", [STORE_GIVEN_UP] = "given_up"};
    LOG(INFO, "webhook", F_STR("delivery", fl->note.id), F_STR("job", fl->job_id),
        F_U64("attempt", fl->attempts + 1), F_U64("status", a->status),
        F_U64("duration_ms", a->duration_ms), F_STR("outcome", words[fl->note.state]),
        F_LAST_STR("error", fl->note.attempt.error));
}

static void take_answer(struct flight *fl, struct courier_answer *a)
{
    struct store_courier *n = &fl->note;
    bool took = a->complete && a->status >= 200 && a->status < 300;
    uint32_t failures = fl->attempts + 1;
    a->text[sizeof a->text - 1] = 0;
    n->state = took                                             ? STORE_DELIVERED
               : a->status == 410 || failures >= hooks.attempts ? STORE_GIVEN_UP
                                                                : STORE_PENDING;
    n->retry_ms = n->state == STORE_PENDING ? choose_retry_ms(failures) : store_now_ms();
    n->attempt.duration_ms = a->duration_ms;
    n->attempt.status = a->status;
    (void)snprintf(n->attempt.error, sizeof n->attempt.error, "%s", took ? "" : a->text);
    log_attempt(fl, a);
    note(fl);
}

/* The courier that had them is gone. */
static void forget_sent(void)
{
    for (size_t i = 0; i < STORE_DELIVERIES_MAX; i++)
        if (hooks.flights[i] && hooks.flights[i]->state == FLIGHT_SENT)
            land(hooks.flights[i]);
    look();
}

static struct flight *find_sent(uint64_t tag)
{
    for (size_t i = 0; i < STORE_DELIVERIES_MAX; i++) {
        struct flight *fl = hooks.flights[i];
        if (fl && fl->state == FLIGHT_SENT && fl->tag == tag)
            return fl;
    }
    return NULL;
}

static void on_courier(void *data)
{
    (void)data;
    for (int i = 0; i < ANSWERS_A_TURN; i++) {
        struct courier_answer a;
        int fds[PACKET_FDS_MAX];
        size_t nfds = 0;
        ssize_t n = packet_recv(hooks.courier_fd, &a, sizeof a, fds, &nfds);
        for (size_t k = 0; k < nfds; k++)
            fd_close(&fds[k]);
        if (n == -EAGAIN)
            return;
        if (n == 0) { /* priv has both ends, so it is gone */
            LOG(ERROR, "courier_gone");
            http_watch_pause(hooks.courier_watch);
            return;
        }
        if (n < 0 && n != -EMSGSIZE) {
            LOG(ERROR, "courier_unheard", F_STR("error", strerror((int)-n)));
            hooks.deaf = true;
            http_watch_pause(hooks.courier_watch);
            http_timer_set(hooks.front->server, &hooks.tick,
                           clock_now_ns() + TICK_MS * CLOCK_NS_PER_MS);
            return;
        }
        if (n != (ssize_t)sizeof a || a.magic != COURIER_MAGIC)
            continue;
        if (a.kind == COURIER_HELLO) {
            forget_sent();
            continue;
        }
        struct flight *fl = find_sent(a.tag);
        if (fl)
            take_answer(fl, &a);
    }
}

static void on_tick(struct http_timer *t)
{
    uint64_t now = clock_now_ns();
    if (hooks.deaf)
        http_watch_resume(hooks.courier_watch);
    hooks.deaf = false;
    for (size_t i = 0; i < STORE_DELIVERIES_MAX; i++) {
        struct flight *fl = hooks.flights[i];
        if (fl && fl->state == FLIGHT_ANSWERED) {
            note(fl);
        } else if (fl && fl->state == FLIGHT_SENT && now > fl->due_ns) {
            LOG(WARN, "courier_silent", F_STR("delivery", fl->note.id));
            land(fl);
            look();
        }
    }
    if (hooks.busy > 0)
        http_timer_set(hooks.front->server, t, now + TICK_MS * CLOCK_NS_PER_MS);
}

/* ---- sending ------------------------------------------------------------------------------------
 */

/* NULL: no memory, or no place, which cannot be, since no more are claimed. */
static struct flight *new_flight(const struct store_delivery *d)
{
    struct flight *fl = calloc(1, sizeof *fl);
    size_t place = 0;
    while (place < STORE_DELIVERIES_MAX && hooks.flights[place])
        place++;
    if (!fl || place == STORE_DELIVERIES_MAX) {
        free(fl);
        return NULL;
    }
    fl->place = place;
    fl->tag = ++hooks.last_tag;
    fl->attempts = d->attempts;
    fl->note = (struct store_courier){.attempt = {.started_ms = store_now_ms()}};
    (void)snprintf(fl->note.id, sizeof fl->note.id, "%s", d->id);
    (void)snprintf(fl->job_id, sizeof fl->job_id, "%s", d->job_id);
    (void)snprintf(fl->host, sizeof fl->host, "%s", d->host);
    memcpy(fl->key, d->job.key, sizeof fl->key);
    hooks.flights[place] = fl;
    hooks.busy++;
    return fl;
}

static int send_to_courier(const struct flight *fl, const struct store_delivery *d,
                           const struct buf *b)
{
    struct courier_ask ask = {.magic = COURIER_MAGIC, .tag = fl->tag};
    (void)snprintf(ask.delivery, sizeof ask.delivery, "%s", d->id);
    (void)snprintf(ask.timestamp, sizeof ask.timestamp, "%" PRId64, store_now_ms() / 1000);
    ask.url_bytes = (uint32_t)strlen(d->url);
    ask.body_bytes = (uint32_t)(b->len - ask.url_bytes);
    if (!sign(fl->key, ask.timestamp, b->data + ask.url_bytes, ask.body_bytes, ask.signature))
        return -ENOMEM;
    auto_close int fd = fd_memfd_sealed("webhook", b->data, b->len);
    return fd < 0 ? -errno : packet_send(hooks.courier_fd, &ask, sizeof ask, &fd, 1);
}

/* False: not now. */
static bool take_off(const struct store_delivery *d)
{
    uint64_t now = clock_now_ns();
    struct flight *fl = new_flight(d);
    if (!fl)
        return false;
    fl->due_ns = now + (hooks.timeout_ms + SLACK_MS) * CLOCK_NS_PER_MS;
    struct buf b = {.cap = COURIER_URL_MAX + COURIER_BODY_MAX};
    (void)buf_add(&b, d->url, strlen(d->url));
    jobs_put_job(&b, &d->job, &(struct jobs_view){.known = false}); /* as /status shows it */
    int r = b.failed ? -ENOMEM : send_to_courier(fl, d, &b);
    buf_fini(&b);
    if (r < 0) {
        land(fl);
        return false;
    }
    if (hooks.busy == 1)
        http_timer_set(hooks.front->server, &hooks.tick, now + TICK_MS * CLOCK_NS_PER_MS);
    return true;
}

static void on_claimed(struct store_call *call)
{
    struct store_courier *c = call->courier;
    bool sent = true;
    int64_t wait_ms = c->next_ms == INT64_MAX ? -1 : c->next_ms - store_now_ms();
    hooks.claiming = false;
    for (size_t i = 0; i < c->count && sent; i++)
        sent = take_off(&c->list[i]);
    store_free_deliveries(c);
    if (call->error || !sent)
        pause_for(PAUSE_MS);
    else if (c->next_ms != INT64_MAX)
        pause_for(wait_ms < 1 ? 1 : (uint64_t)wait_ms);
    if (hooks.again && !call->error && sent)
        look();
}

/* Is something due? One question at a time; what happens meanwhile is asked for behind it. */
static void look(void)
{
    struct front *f = hooks.front;
    hooks.again = hooks.claiming;
    if (!f || hooks.claiming || !f->greeted || f->draining || f->ending ||
        hooks.busy >= hooks.at_once)
        return;
    size_t n = 0;
    for (size_t i = 0; i < STORE_DELIVERIES_MAX; i++) {
        const struct flight *fl = hooks.flights[i];
        if (!fl)
            continue;
        memcpy(hooks.ids[n], fl->note.id, sizeof hooks.ids[n]);
        memcpy(hooks.hosts[n], fl->host, sizeof hooks.hosts[n]);
        memcpy(hooks.keys[n++], fl->key, sizeof fl->key);
    }
    struct store_courier *c = &hooks.claimed;
    c->busy = (const char(*)[STORE_DELIVERY_ID_ROOM])hooks.ids;
    c->busy_hosts = (const char(*)[STORE_HOST_ROOM])hooks.hosts;
    c->busy_keys = (const char(*)[STORE_JOB_KEY_ROOM])hooks.keys;
    c->busy_count = n;
    c->most = hooks.at_once;
    c->most_host = hooks.at_once_host;
    c->now_ms = store_now_ms();
    hooks.claim = (struct store_call){
        .verb = STORE_CLAIM_DELIVERIES, .courier = c, .fd = -1, .on_done = on_claimed};
    hooks.claiming = store_submit(&f->mailbox, &hooks.claim) == 0;
    if (!hooks.claiming)
        pause_for(PAUSE_MS);
}

static void on_due(struct http_timer *t)
{
    (void)t;
    look();
}

static void on_wake(void *data)
{
    uint64_t count;
    (void)data;
    (void)!read(hooks.wake_fd, &count, sizeof count);
    look();
}

void webhooks_wake(void)
{
    const uint64_t one = 1;
    if (hooks.wake_fd >= 0)
        (void)!write(hooks.wake_fd, &one, sizeof one);
}

/* ---- begin --------------------------------------------------------------------------------------
 */

int webhooks_start(struct front *f, struct err *err)
{
    if (hooks.courier_fd < 0)
        return 0;
    hooks.due.on_due = on_due;
    hooks.tick.on_due = on_tick;
    (void)!getrandom(&hooks.last_tag, sizeof hooks.last_tag, 0); /* not those of one before */
    hooks.wake_fd = SYS(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    /* A watch owns its descriptor, so it gets a copy. */
    int wake = hooks.wake_fd < 0 ? -1 : SYS(fcntl(hooks.wake_fd, F_DUPFD_CLOEXEC, 3));
    int courier = wake < 0 ? -1 : SYS(fcntl(hooks.courier_fd, F_DUPFD_CLOEXEC, 3));
    if (courier < 0 || !http_watch_new(f->server, wake, on_wake, NULL) ||
        !(hooks.courier_watch = http_watch_new(f->server, courier, on_courier, NULL)))
        return err_sys(err, "webhooks");
    hooks.front = f;
    return 0;
}

static uint64_t at_most(uint64_t n, uint64_t max)
{
    return n < max ? n : max;
}

void webhooks_on_hello(struct front *f, const struct proto_webhooks *w)
{
    (void)snprintf(f->webhook_allow, sizeof f->webhook_allow, "%s", w->allow);
    if (f != hooks.front)
        return;
    hooks.timeout_ms = w->timeout_ms;
    hooks.attempts = w->attempts;
    hooks.delay_first_ms = w->delay_first_ms;
    hooks.delay_max_ms = w->delay_max_ms;
    hooks.at_once = at_most(w->at_once, STORE_DELIVERIES_MAX);
    hooks.at_once_host = w->at_once_host;
}
