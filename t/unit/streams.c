/* SPDX-License-Identifier: Apache-2.0 */
/* t/unit/streams - what a ring keeps and lets go, who is told, and that nothing of it is left.
 */
#include "frontend/letters.h"
#include "frontend/stream.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/tap.h"
#include "protocol/protocol.h"

static struct letterbox box;
static unsigned rooms, news;
static char bytes[STREAM_READ_BYTES];

static void on_room(struct letter *l)
{
    (void)l;
    rooms++;
}

static void on_news(struct letter *l)
{
    (void)l;
    news++;
}

static struct letter room = {.on_arrival = on_room};

static void set(uint64_t ring, uint64_t rings, uint64_t linger)
{
    const struct proto_streams p = {
        .ring_bytes = ring, .rings_bytes_max = rings, .heartbeat_ms = 1000, .linger_ms = linger};
    stream_set(&p);
}

static struct stream *make(const char *id, bool keeps_all)
{
    const struct stream_plan plan = {
        .id = id, .key = "k", .keeps_all = keeps_all, .box = &box, .on_room = &room};
    return stream_new(&plan);
}

static struct stream_tap tap_of(bool only_end)
{
    return (struct stream_tap){.letter.on_arrival = on_news, .box = &box, .only_end = only_end};
}

/* Takes what is there: "e4 e5 g7 " for events and gaps, and what comes then. */
static const char *take(struct stream *s, struct stream_tap *tap, int max)
{
    static char text[4096];
    const struct stream_event *e;
    uint64_t id;
    size_t n = 0;
    *text = 0;
    stream_lock(s);
    while (max-- > 0) {
        enum stream_next next = stream_peek(s, tap, &id, &e);
        if (next == STREAM_EVENT) {
            n += (size_t)snprintf(text + n, sizeof text - n, "e%d ", (int)e->id);
            stream_take(tap);
        } else if (next == STREAM_GAP) {
            n += (size_t)snprintf(text + n, sizeof text - n, "g%d ", (int)id);
        } else {
            (void)snprintf(text + n, sizeof text - n, "%s",
                           next == STREAM_FULL    ? "full"
                           : next == STREAM_ENDED ? "end"
                                                  : "-");
            break;
        }
    }
    stream_unlock(s);
    return text;
}

static void add(struct stream *s, size_t len)
{
    if (!stream_add(s, STREAM_STDOUT, bytes, len))
        ok(false, "out of memory");
}

static void test_last(void)
{
    struct stream *s = make("run_last", false);
    struct stream_tap a = tap_of(false), b = tap_of(false);
    set(128 << 10, 1 << 30, 0);
    add(s, 3);
    ok(stream_attach(s, &a, 0, false) == 0 && !strcmp(take(s, &a, 9), "e1 -"), "an event is there");
    ok(stream_attach(s, &b, 2, true) == -EINVAL && stream_attach(s, &b, 1, true) == 0,
       "one can begin behind what is there, not behind what is not");
    news = 0;
    add(s, 3);
    add(s, 3);
    letterbox_open(&box);
    ok(news == 2, "each tap has one letter for two events");
    ok(!strcmp(take(s, &a, 1), "e2 ") && !strcmp(take(s, &b, 9), "e2 e3 -"),
       "each at its own pace");
    for (int i = 0; i < 9; i++)
        add(s, 8000); /* 4 to 12 */
    ok(!stream_has_room(s), "what a tap has not taken holds the run up");
    rooms = 0;
    (void)take(s, &b, 99);
    letterbox_open(&box);
    ok(rooms == 0, "also when another one has it");
    (void)take(s, &a, 99);
    letterbox_open(&box);
    ok(rooms == 1, "when both have it the run is told, once");
    ok(stream_has_room(s), "and there is room");
    stream_detach(s, &b);
    add(s, 60000);
    add(s, 60000);
    ok(!stream_has_room(s), "a tap that does not take");
    rooms = 0;
    stream_detach(s, &a);
    letterbox_open(&box);
    ok(rooms == 1, "holds nothing up when it is gone");
    for (int i = 0; i < 4; i++)
        add(s, 60000);
    ok(stream_has_room(s), "without a tap there is always room");
    ok(stream_attach(s, &a, 12, true) == 0, "who comes back too late");
    const char *seen = take(s, &a, 99);
    ok(*seen == 'g' && strchr(seen, 'e'), "is told of a gap, and gets the rest: %.20s", seen);
    stream_detach(s, &a);
    ok(stream_attach(s, &b, 0, false) == 0 && *take(s, &b, 1) == 'g', "as who comes first so late");
    stream_detach(s, &b);
    uint64_t last = stream_next_id(s);
    stream_end(stream_ref(s), NULL, NULL);
    ok(stream_attach(s, &b, last, true) == -EALREADY, "behind the last event is nothing");
    stream_unref(s); /* the register has it until a tick */
}

/* A gap that reaches to the newest event, and one that comes meanwhile. */
static void test_gap(void)
{
    struct stream *s = make("", false);
    struct stream_tap a = tap_of(false);
    set(128 << 10, 1 << 30, 0);
    add(s, 8000);
    for (int i = 0; i < 3; i++) {
        (void)stream_has_room(s);
        add(s, 65536);
    }
    ok(stream_attach(s, &a, 0, false) == 0, "attached to a ring that lost its first events");
    add(s, 5);
    const char *seen = take(s, &a, 99);
    const char *end = seen + strlen(seen);
    ok(*seen == 'g' && end - seen > 5 && !strcmp(end - 5, "e26 -"), "nothing newer is lost: %s",
       seen);
    stream_detach(s, &a);
    stream_end(s, NULL, NULL);
}

static void test_all(void)
{
    struct stream *s = make("run_all", true);
    struct stream_tap a = tap_of(false), b = tap_of(false);
    set(128 << 10, 1 << 30, 0);
    add(s, 65536);
    ok(!stream_has_room(s), "with nobody there it is full, and stays so");
    ok(stream_attach(s, &a, 0, false) == 0, "a reader");
    ok(!strcmp(take(s, &a, 3), "e1 e2 e3 "), "takes some");
    ok(stream_attach(s, &b, 0, false) == 0, "another comes");
    ok(!strcmp(take(s, &a, 99), "e4 e5 e6 e7 e8 -"), "who has all waits for the other");
    ok(!strcmp(take(s, &b, 99), "e1 e2 e3 e4 e5 e6 e7 e8 full"), "who then has all, too, leaves");
    ok(!strcmp(take(s, &a, 99), "full"), "as the first one");
    stream_detach(s, &a);
    stream_detach(s, &b);
    rooms = 0;
    letterbox_open(&box);
    ok(rooms == 0, "nothing goes on their leaving");
    ok(stream_attach(s, &a, 5, true) == 0 && !strcmp(take(s, &a, 99), "e6 e7 e8 -"),
       "one comes back and says what it has");
    letterbox_open(&box);
    ok(rooms == 1 && stream_has_room(s), "so there is room");
    stream_detach(s, &a);
    ok(stream_attach(s, &a, 5, true) == 0 && !strcmp(take(s, &a, 99), "e6 e7 e8 -"),
       "what it has not said to have is still there");
    stream_detach(s, &a);
    stream_end(s, "broken", "why");
    const char *code, *text;
    s = stream_find("run_all", "k");
    ok(s && stream_has_ended(s, &code, &text) && !strcmp(code, "broken"),
       "it can be found when it has ended");
    ok(!stream_find("run_all", "other"), "not with another key");
    stream_unref(s);
    for (uint64_t end = clock_now_ns() + CLOCK_NS_PER_MS; clock_now_ns() < end;)
        ;
    stream_on_tick();
    ok(!stream_find("run_all", "k"), "and goes when it has lingered");
}

static void test_bound(void)
{
    struct stream *old = make("run_old", false), *s = make("run_new", false);
    set(1 << 20, 200 << 10, 60000);
    add(old, 60000);
    add(old, 60000);
    stream_end(old, NULL, NULL);
    ok(stream_has_room(s), "within the bound of all");
    add(s, 60000);
    ok(stream_has_room(s) && !stream_find("run_old", "k"), "what lingers goes first");
    add(s, 60000);
    add(s, 60000);
    struct stream_tap a = tap_of(false);
    ok(stream_attach(s, &a, 0, false) == 0 && !stream_has_room(s),
       "then the bound makes a ring full");
    (void)take(s, &a, 99);
    letterbox_open(&box);
    ok(stream_has_room(s), "which goes on when its events are taken");
    stream_detach(s, &a);
    stream_end(s, NULL, NULL);
    set(1 << 20, 1 << 20, 0);
    for (uint64_t end = clock_now_ns() + CLOCK_NS_PER_MS; clock_now_ns() < end;)
        ;
    stream_on_tick();
}

/* A key has half of the room of all, and what is read of it when its run has ended is of that. */
static void test_half(void)
{
    struct stream *old = make("run_slow", false), *s = make("run_next", false);
    struct stream_tap a = tap_of(false), b = tap_of(false);
    set(1 << 20, 240 << 10, 0);
    ok(stream_attach(old, &a, 0, false) == 0 && stream_attach(s, &b, 0, false) == 0,
       "readers that take nothing");
    add(old, 60000);
    stream_end(stream_ref(old), NULL, NULL);
    add(s, 10000);
    ok(!stream_has_room(s), "a ring that has ended counts for its key while it is read");
    stream_detach(old, &a);
    ok(stream_has_room(s), "and no longer");
    stream_unref(old);
    stream_detach(s, &b);
    stream_end(s, NULL, NULL);
    for (uint64_t end = clock_now_ns() + CLOCK_NS_PER_MS; clock_now_ns() < end;)
        ;
    stream_on_tick();
}

static void test_end(void)
{
    struct stream *s = make("", false);
    struct stream_tap a = tap_of(true);
    ok(stream_attach(s, &a, 0, false) == 0, "who waits for the end only");
    news = 0;
    add(s, 100);
    letterbox_open(&box);
    ok(news == 0, "hears nothing of events");
    (void)stream_ref(s);
    stream_end(s, NULL, NULL);
    letterbox_open(&box);
    ok(news == 1, "but of that");
    (void)letterbox_put(&box, &a.letter);
    stream_detach(s, &a);
    letterbox_open(&box);
    ok(news == 1, "and nothing once it is gone");
    stream_unref(s);
}

int main(void)
{
    struct err err = {0};
    int before = fd_count_open();
    ok(letterbox_init(&box, &err) == 0, "a letterbox");
    memset(bytes, 'x', sizeof bytes);
    test_last();
    test_gap();
    test_all();
    test_bound();
    test_half();
    test_end();
    letterbox_close(&box);
    ok(!letterbox_put(&box, &room), "a closed box takes no letter");
    fd_close(&box.fd);
    ok(fd_count_open() == before, "no descriptor is left");
    return tap_done();
}
