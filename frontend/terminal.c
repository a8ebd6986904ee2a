/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/terminal - the life of one terminal: a pty in a namespace, and the client that sees it.
 *
 * In the frontend, by the one thread that has it. A run of kind TERMINAL is sent to the engine with
 * the far end of a socket pair, over which the box sends the master of a pty. From then on bytes go
 * from the pty to the client and back, here, and through nobody else; its end is the run's Result.
 * The bytes are not looked at, so a character that two reads or two messages divide is nobody's
 * problem but the client's, which puts bytes together before it decodes them.
 *
 * What the box sends is believed to be a pty only if it is one (the device's number). It was opened
 * by our own code before foreign code ran in that pidns, and nobody there has it
 * (zygote/terminal.c), so it does not wait where it was told not to.
 *
 * One client at a time: another takes it over, since the first may be a connection that is dead and
 * does not know. A client that goes leaves the terminal detached: it is read on, the last 64 KiB
 * are kept and shown to the next client first, whose program is made to paint anew; after
 * terminals.idle_s without one it ends. It ends with the key that opened it as well. A
 * client that does not take what comes (http_ws.h) has the pty not read, and then the program
 * waits; a program that does not read has the client not read.
 */
#include "frontend/terminal.h"
#include "frontend/json_out.h"
#include "frontend/run.h"
#include "keys/keys.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "lib/packet.h"
#include <asm/ioctls.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define READ_BYTES 16384u
#define READS_PER_TURN 8
#define AGAIN_MS 250u       /* a pty that nobody holds, or that takes nothing, is tried again */
#define REDRAW_MS 200u      /* between the two sizes that make a program paint again */
#define LAST_WORDS_MS 1000u /* after the Result everybody who could write is dead */
#define EVENT_ROOM 700u

/* ---- what the client is told --------------------------------------------------------------- */

static void say(struct http_ws *ws, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void say(struct http_ws *ws, const char *fmt, ...)
{
    char text[EVENT_ROOM];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (ws && n > 0 && (size_t)n < sizeof text)
        http_ws_send_text(ws, text, (size_t)n);
}

static void say_error(struct http_ws *ws, const char *code, const char *message)
{
    char text[400];
    size_t taken, n = json_out_text(text, sizeof text - 1, message, strlen(message), &taken);
    text[n] = 0;
    say(ws, "{\"event\":\"error\",\"code\":\"%.60s\",\"message\":\"%s\"}", code, text);
}

static void let_go(struct terminal *t, unsigned code, const char *text)
{
    struct http_ws *ws = ptr_take(&t->ws);
    if (ws)
        http_ws_close(ws, code, text);
}

static void say_exit(struct terminal *t)
{
    const struct proto_result *r = &t->result;
    const char *signal = r->exited ? NULL : proto_signal_name(r->signal);
    const char *quote = signal ? "\"" : "";
    char code[16] = "null";
    if (r->exited)
        (void)snprintf(code, sizeof code, "%d", r->exit_code);
    say(t->ws,
        "{\"event\":\"exit\",\"reason\":\"%s\",\"exit_code\":%s,\"signal\":%s%s%s,\"run_id\":"
        "%" PRIu64 "}",
        proto_reason_name(r->reason), code, quote, signal ? signal : "null", quote, r->run_id);
}

/* ---- life ---------------------------------------------------------------------------------- */

static void close_pty(struct terminal *t)
{
    http_timer_cancel(&t->again);
    http_timer_cancel(&t->redraw);
    http_watch_free(ptr_take(&t->watch));
    t->pair_fd = t->pty = -1;
    t->full = t->hung = false;
}

static void free_terminal(struct terminal *t)
{
    terminal_list_remove(t);
    http_timer_cancel(&t->idle);
    close_pty(t);
    t->front->detached--;
    key_unref(t->owner);
    key_unref(t->viewer);
    free(t->ring);
    free(t);
}

void terminal_ask_free(struct terminal_ask *ask)
{
    key_unref(ask->whose);
    free(ask);
}

/* In the usage of the key that opened it. */
static void count(const struct terminal *t)
{
    struct store_usage u = {.runs = 1,
                            .cpu_us = t->result.cpu_us,
                            .wall_us = t->result.wall_us,
                            .output_bytes = t->ring_total};
    _Static_assert(sizeof u.key == sizeof t->key, "");
    memcpy(u.key, t->key, sizeof u.key);
    usage_add(t->front, &u);
}

/* All that it wrote has been shown. */
static void finish(struct terminal *t)
{
    count(t);
    say_exit(t);
    let_go(t, t->ending ? t->end_code : 1000, t->ending ? t->end_text : "the terminal has ended");
    free_terminal(t);
}

void terminal_end(struct terminal *t, unsigned code, const char *text)
{
    t->ending = true;
    t->end_code = code;
    t->end_text = text;
    http_timer_cancel(&t->idle);
    if (t->open) /* first: its end by the SIGHUP of the next line is a cancel, too */
        upstream_cancel(&t->front->upstream, t->tag);
    close_pty(t);
    if (!t->open)
        finish(t);
}

static void on_idle(struct http_timer *timer)
{
    struct terminal *t = CONTAINER_OF(timer, struct terminal, idle);
    LOG(INFO, "terminal_idle", F_STR("ns", t->ns_id), F_STR("name", t->name));
    terminal_end(t, 1000, "nobody was there");
}

/* ---- from the pty to the client ------------------------------------------------------------ */

static void remember(struct terminal *t, const char *bytes, size_t len)
{
    while (len > 0) {
        size_t at = t->ring_total % TERMINAL_RING_BYTES, room = TERMINAL_RING_BYTES - at;
        size_t n = len < room ? len : room;
        memcpy(t->ring + at, bytes, n);
        t->ring_total += n;
        bytes += n;
        len -= n;
    }
}

/* As much as is there, up to `room`: a pty gives at most a page at once. False: it is at its end.
 */
static bool read_pty(struct terminal *t, char *to, size_t room, size_t *ret_len)
{
    size_t len = 0;
    ssize_t n = 1;
    while (len < room && (n = SYS(read(t->pty, to + len, room - len))) > 0)
        len += (size_t)n;
    *ret_len = len;
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static void look_again(struct terminal *t, uint64_t ms)
{
    if (!t->again.due_ns)
        http_timer_set(t->front->server, &t->again, clock_now_ns() + ms * CLOCK_NS_PER_MS);
}

/* Nobody holds the far end: for good when the run is over, else somebody may open it once more. */
static void on_pty_end(struct terminal *t)
{
    if (t->finished) {
        finish(t);
        return;
    }
    t->hung = true;
    http_watch_pause(t->watch);
    look_again(t, AGAIN_MS);
}

/* May free it. */
static void pump(struct terminal *t)
{
    char bytes[READ_BYTES];
    for (int i = 0; i < READS_PER_TURN; i++) {
        size_t room = t->ws ? http_ws_room(t->ws) : sizeof bytes, len;
        if (room < sizeof bytes) {
            t->slow = true;
            http_watch_pause(t->watch);
            return;
        }
        bool more = read_pty(t, bytes, sizeof bytes, &len);
        remember(t, bytes, len);
        if (t->ws)
            http_ws_send(t->ws, bytes, len);
        if (!more) {
            on_pty_end(t);
            return;
        }
        if (len < sizeof bytes)
            return;
    }
}

static void on_pty_readable(void *data)
{
    pump(data);
}

static void unpause(struct terminal *t)
{
    bool paused = t->slow || t->hung;
    t->slow = t->hung = false;
    if (paused && t->watch)
        http_watch_resume(t->watch);
}

static void on_again(struct http_timer *timer)
{
    struct terminal *t = CONTAINER_OF(timer, struct terminal, again);
    if (t->finished && !t->slow) { /* its end did not show by itself */
        finish(t);
        return;
    }
    if (t->hung)
        unpause(t);
    if (t->full && t->ws)
        http_ws_resume(t->ws);
}

/* ---- from the client to the pty ------------------------------------------------------------ */

static void on_pty_writable(void *data)
{
    struct terminal *t = data;
    t->full = false;
    if (t->ws)
        http_ws_resume(t->ws);
}

static size_t on_bytes(void *data, const void *bytes, size_t len)
{
    struct terminal *t = data;
    if (t->pty < 0)
        return t->pair_fd >= 0 ? 0 : len; /* it is on its way, or gone */
    ssize_t n = SYS(write(t->pty, bytes, len));
    if (n > 0)
        return (size_t)n;
    if (n < 0 && errno == EIO)
        return len; /* nobody could read it */
    if (!t->full) {
        t->full = true;
        http_watch_when_writable(t->watch, on_pty_writable);
    }
    look_again(t, AGAIN_MS);
    return 0;
}

static void set_size(const struct terminal *t, unsigned cols, unsigned rows)
{
    const struct winsize size = {.ws_col = (unsigned short)cols, .ws_row = (unsigned short)rows};
    if (t->pty >= 0)
        (void)ioctl(t->pty, TIOCSWINSZ, &size);
}

static void resize(struct terminal *t, uint16_t cols, uint16_t rows)
{
    http_timer_cancel(&t->redraw);
    terminal_list_set(t, t->ws != NULL, cols, rows);
    set_size(t, cols, rows);
}

static void on_redraw(struct http_timer *timer)
{
    struct terminal *t = CONTAINER_OF(timer, struct terminal, redraw);
    set_size(t, t->cols, t->rows);
}

/* What a program painted is not in its last bytes perhaps, and the kernel tells it of a size only
 * when that differs (TIOCSIG knows no SIGWINCH). So it gets one row less and, when it had time to
 * see that, its size: programs that compare the two paint again as well. */
static void redraw(struct terminal *t)
{
    set_size(t, t->cols, t->rows > 1 ? t->rows - 1u : 2u);
    http_timer_set(t->front->server, &t->redraw, clock_now_ns() + REDRAW_MS * CLOCK_NS_PER_MS);
}

static bool read_size(const json_t *value, uint16_t *ret)
{
    json_int_t n = json_is_integer(value) ? json_integer_value(value) : 0;
    *ret = n > 0 && n <= (json_int_t)PROTO_TERMINAL_SIZE_MAX ? (uint16_t)n : 0;
    return *ret > 0;
}

/* To the program in the foreground, whatever it does with its keyboard. The kernel knows these. */
static int signal_number(const char *name)
{
    return strcmp(name, "INT") == 0    ? SIGINT
           : strcmp(name, "QUIT") == 0 ? SIGQUIT
           : strcmp(name, "TSTP") == 0 ? SIGTSTP
                                       : 0;
}

static const char *obey(struct terminal *t, const json_t *order)
{
    const json_t *size = json_object_get(order, "resize"),
                 *signal = json_object_get(order, "signal");
    uint16_t cols, rows;
    if (!size && !signal)
        return "resize or signal is expected";
    if (size && (!read_size(json_object_get(size, "cols"), &cols) ||
                 !read_size(json_object_get(size, "rows"), &rows)))
        return "resize: cols and rows from 1 to 1000 are expected";
    int number = json_is_string(signal) ? signal_number(json_string_value(signal)) : 0;
    if (signal && !number)
        return "signal: INT, QUIT or TSTP is expected";
    if (size)
        resize(t, cols, rows);
    if (number && t->pty >= 0)
        (void)ioctl(t->pty, TIOCSIG, number);
    return NULL;
}

static void on_text(void *data, const char *text, size_t len)
{
    struct terminal *t = data;
    json_error_t error;
    json_t *order = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
    const char *fault = json_is_object(order) ? obey(t, order) : "a text message is a JSON object";
    json_decref(order);
    if (fault)
        say_error(t->ws, "bad_request", fault);
}

static void on_room(void *data)
{
    struct terminal *t = data;
    if (t->slow)
        unpause(t);
}

/* Nobody is there any more. */
static void stay_alone(struct terminal *t, unsigned code)
{
    LOG(INFO, "terminal_detached", F_STR("ns", t->ns_id), F_STR("name", t->name),
        F_U64("code", code));
    terminal_list_set(t, false, t->cols, t->rows);
    if (t->slow)
        unpause(t);
    if (!t->ending)
        http_timer_set(t->front->server, &t->idle,
                       clock_now_ns() + t->front->terminals.idle_ms * CLOCK_NS_PER_MS);
}

static void on_closed(void *data, unsigned code)
{
    struct terminal *t = data;
    t->ws = NULL;
    stay_alone(t, code);
}

void terminal_detach(struct terminal *t, unsigned code, const char *text)
{
    let_go(t, code, text);
    stay_alone(t, code);
}

static const struct http_ws_app app = {
    .on_bytes = on_bytes, .on_text = on_text, .on_room = on_room, .on_closed = on_closed};

/* ---- the pty comes ------------------------------------------------------------------------- */

static bool is_pty(int fd)
{
    struct stat st;
    return SYS(fstat(fd, &st)) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(5, 2) &&
           fd_set_nonblock(fd) == 0;
}

static void say_attached(struct terminal *t, bool created)
{
    uint64_t n = t->ring_total < TERMINAL_RING_BYTES ? t->ring_total : TERMINAL_RING_BYTES;
    say(t->ws,
        "{\"event\":\"attached\",\"name\":\"%s\",\"created\":%s,\"cols\":%u,\"rows\":%u,"
        "\"replayed\":%" PRIu64 "}",
        t->name, created ? "true" : "false", t->cols, t->rows, n);
}

/* Takes the descriptor. */
static bool watch_pty(struct terminal *t, int fd)
{
    struct http_watch *watch =
        is_pty(fd) ? http_watch_new(t->front->server, fd, on_pty_readable, t) : NULL;
    if (!watch) {
        fd_close(&fd);
        return false;
    }
    t->watch = watch;
    t->pty = fd;
    set_size(t, t->cols, t->rows); /* it may have changed since it was asked for */
    say_attached(t, true);
    if (t->ws)
        http_ws_resume(t->ws); /* what was typed ahead */
    return true;
}

/* The one datagram, or the end without it. */
static void on_pair(void *data)
{
    struct terminal *t = data;
    struct proto_terminal_answer a;
    int fds[PACKET_FDS_MAX];
    size_t nfds;
    ssize_t n = packet_recv(t->pair_fd, &a, sizeof a, fds, &nfds);
    if (n == -EAGAIN)
        return;
    bool sound = n == (ssize_t)sizeof a && a.magic == PROTO_TERMINAL_MAGIC;
    close_pty(t);
    for (size_t i = sound && nfds == 1 && a.error == 0; i < nfds; i++)
        fd_close(&fds[i]);
    if (sound && a.error == 0 && nfds == 1 && watch_pty(t, fds[0]))
        return;
    if (n != 0) { /* 0: the Result says why */
        LOG(WARN, "terminal_failed", F_STR("ns", t->ns_id), F_STR("name", t->name),
            F_STR("error", sound && a.error ? strerrordesc_np((int)a.error) : "no terminal came"));
        say_error(t->ws, "no_terminal", "the namespace could not make a terminal");
    }
}

static void on_refused(struct terminal *t, const struct proto_result *r)
{
    bool later = r->outcome == PROTO_QUEUE_FULL || r->outcome == PROTO_QUEUE_TIMEOUT ||
                 r->outcome == PROTO_ACTIVATION_FAILED || r->outcome == PROTO_BUSY ||
                 r->outcome == PROTO_TOO_MANY;
    unsigned code = r->outcome == PROTO_DRAINING      ? 1001
                    : later                           ? 1013
                    : r->outcome == PROTO_BAD_REQUEST ? 1008
                                                      : 1011;
    say_error(t->ws, proto_outcome_name(r->outcome),
              *r->text ? r->text : "the terminal could not be started");
    let_go(t, code, proto_outcome_name(r->outcome));
    free_terminal(t);
}

static void on_reply(struct upstream_call *call, const struct proto_msg *reply)
{
    struct terminal *t = CONTAINER_OF(call, struct terminal, call);
    t->open = false;
    if (reply->result.outcome != PROTO_OK) {
        on_refused(t, &reply->result);
        return;
    }
    t->result = reply->result;
    t->result.field = t->result.text = ""; /* the arena's: not ours to keep */
    if (t->pair_fd >= 0)                   /* a short life: its pty is still on its way */
        on_pair(t);
    t->finished = true;
    if (t->pty < 0) {
        finish(t);
        return;
    }
    http_timer_cancel(&t->again);
    look_again(t, LAST_WORDS_MS);
    if (t->hung)
        unpause(t);
    if (!t->slow)
        pump(t);
}

static void on_lost(struct upstream_call *call)
{
    struct terminal *t = CONTAINER_OF(call, struct terminal, call);
    t->open = false;
    say_error(t->ws, "internal", "the engine went away");
    let_go(t, t->front->draining ? 1001 : 1011, "the engine went away");
    free_terminal(t);
}

/* ---- it begins ----------------------------------------------------------------------------- */

/* 0, or <0: -EAGAIN: too much is going on. */
static int send_execute(struct terminal *t, const struct terminal_ask *ask, int far_fd)
{
    struct front *f = t->front;
    char cols[8], rows[8];
    const char *args[2] = {cols, rows};
    const struct proto_env env = {.name = "TERM", .value = ask->term};
    const int fds[3] = {f->null_fd, far_fd, f->null_fd};
    struct err err = {0};
    struct proto_execute x = {.kind = PROTO_TERMINAL,
                              .ns_id = ask->ns_id,
                              .companion = PROTO_COMPANION_TERMINAL,
                              .session = ask->name,
                              .args = args,
                              .arg_count = 2,
                              .env = &env,
                              .env_count = 1,
                              .request_id = ask->request_id,
                              .key = ask->key,
                              .policy = ask->policy,
                              .policy_of_key = *ask->policy,
                              .timeout_ms_ceiling = ask->timeout_ms_ceiling,
                              .memory_bytes_ceiling = ask->memory_bytes_ceiling,
                              .cpu_ms_ceiling = ask->cpu_ms_ceiling};
    uint64_t due_ns =
        clock_now_ns() + run_longest_ms(1, f->terminals.life_ms, f->max_wait_ms) * CLOCK_NS_PER_MS;
    (void)snprintf(cols, sizeof cols, "%u", t->cols);
    (void)snprintf(rows, sizeof rows, "%u", t->rows);
    int r = upstream_execute(&f->upstream, &x, fds, 3, &t->call, due_ns, &err);
    if (r < 0 && r != -EAGAIN)
        LOG(ERROR, "send_execute", F_STR("error", err.text));
    t->tag = x.tag;
    return r;
}

static struct terminal *make(struct front *f, const struct terminal_ask *ask)
{
    int pair[2] = {-1, -1};
    struct terminal *t = calloc(1, sizeof *t);
    char *ring = malloc(TERMINAL_RING_BYTES);
    if (!t || !ring || packet_pair(pair, true) < 0) {
        free(t);
        free(ring);
        return NULL;
    }
    *t = (struct terminal){.call = {.on_reply = on_reply, .on_lost = on_lost},
                           .front = f,
                           .idle = {.on_due = on_idle},
                           .again = {.on_due = on_again},
                           .redraw = {.on_due = on_redraw},
                           .owner = key_ref(ask->whose),
                           .ring = ring,
                           .cols = ask->cols,
                           .rows = ask->rows,
                           .pair_fd = pair[0],
                           .pty = -1};
    (void)snprintf(t->ns_id, sizeof t->ns_id, "%s", ask->ns_id);
    (void)snprintf(t->name, sizeof t->name, "%s", ask->name);
    (void)snprintf(t->key, sizeof t->key, "%s", ask->key);
    f->detached++;
    t->watch = http_watch_new(f->server, pair[0], on_pair, t);
    int r = t->watch ? send_execute(t, ask, pair[1]) : -EAGAIN;
    fd_close(&pair[1]);
    if (r < 0) {
        if (!t->watch)
            fd_close(&pair[0]);
        free_terminal(t);
        return NULL;
    }
    t->open = true;
    terminal_list_add(t);
    return t;
}

/* To a client that comes to what is there. */
static void replay(struct terminal *t, const struct terminal_ask *ask)
{
    bool resized = ask->sized && (ask->cols != t->cols || ask->rows != t->rows);
    if (resized)
        resize(t, ask->cols, ask->rows);
    if (t->pty < 0) /* it will hear when that has come */
        return;
    say_attached(t, false);
    size_t at = t->ring_total % TERMINAL_RING_BYTES;
    if (t->ring_total >= TERMINAL_RING_BYTES)
        http_ws_send(t->ws, t->ring + at, TERMINAL_RING_BYTES - at);
    http_ws_send(t->ws, t->ring, at);
    if (!resized)
        redraw(t);
    if (t->slow)
        unpause(t);
}

void terminal_attach(struct front *f, struct terminal_ask *ask)
{
    struct terminal *t = terminal_list_find(f, ask->ns_id, ask->name);
    struct http_ws *ws = ask->ws;
    bool created = !t && !f->draining && !f->ending;
    if (created)
        t = make(f, ask);
    http_ws_start(f->server, ws, &app, t, f->terminals.silence_ms);
    if (!t || t->ending || t->finished) {
        say_error(ws, t ? "ending" : "busy",
                  t ? "the terminal of that name is about to end"
                    : "too much is going on at the moment");
        http_ws_close(ws, f->draining || f->ending ? 1001 : 1013, "try again later");
        terminal_ask_free(ask);
        return;
    }
    let_go(t, TERMINAL_TAKEN_OVER, "taken over by another client");
    t->ws = ws;
    key_unref(t->viewer);
    t->viewer = key_ref(ask->whose);
    http_timer_cancel(&t->idle);
    terminal_list_set(t, true, t->cols, t->rows);
    LOG(INFO, "terminal_attached", F_STR("ns", t->ns_id), F_STR("name", t->name),
        F_STR("request_id", ask->request_id), F_STR("created", created ? "yes" : "no"),
        F_LAST_STR("key", ask->key));
    if (!created)
        replay(t, ask);
    terminal_ask_free(ask);
}
