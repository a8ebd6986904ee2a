/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/stream - the output of one run as a row of numbered events, for whoever watches it.
 *
 * The run's thread adds events; taps, in any thread, take them. What was taken stays for a while
 * (the ring), so that a client that lost its connection can say which event it had last and go on
 * behind it. Events are numbered from 1 by one; the last one is how it ended and is not in here,
 * only its number is.
 */
#pragma once
#include "frontend/letters.h"
#include "store/store.h"
struct proto_streams;

#define STREAM_EVENT_BYTES                                                                         \
    8192u                        /* the most in one event: escaped it fits a chunk of the answer   \
                                  */
#define STREAM_READ_BYTES 65536u /* what stream_has_room() is about */

enum stream_kind {
    STREAM_STARTED, /* its bytes are JSON; of the others: what the run wrote */
    STREAM_STDOUT,
    STREAM_STDERR,
    STREAM_COMPILER_STDOUT,
    STREAM_COMPILER_STDERR,
};

struct stream_event {
    struct stream_event *next;
    uint64_t id;
    uint32_t len;
    enum stream_kind kind;
    char bytes[];
};

/* What somebody who watches is at; embedded. Its letter arrives when there is something new. */
struct stream_tap {
    struct letter letter;
    struct letterbox *box;
    bool only_end; /* takes no events, holds nothing up */
    uint64_t taken;
    struct stream_event *at; /* the next one, when it is there */
    struct stream_tap *prev, *next;
};

struct stream_plan {
    const char *id, *key; /* id "": it cannot be found; key: whose, "": nobody's */
    bool base64;          /* how its bytes are shown */
    bool keeps_all;       /* nothing goes before somebody has said that he has it */
    struct letterbox *box;
    struct letter *on_room; /* of the run: arrives there after stream_has_room() was false */
};

struct stream;

/* From the last Hello. Any thread. */
void stream_set(const struct proto_streams *settings);
uint64_t stream_heartbeat_ms(void);
/* Now and then: what has lingered long enough goes. */
void stream_on_tick(void);

/* ---- of the run ------------------------------------------------------------------------------ */

/* NULL: no memory. */
struct stream *stream_new(const struct stream_plan *plan);
/* May STREAM_READ_BYTES more be added? When not, the run should not read on. */
bool stream_has_room(struct stream *s);
/* Adds events, whether there is room or not: up to 8 KiB each. False: no memory, they are missing.
 */
bool stream_add(struct stream *s, enum stream_kind kind, const char *bytes, size_t len);
/* The number of the event that comes next. */
uint64_t stream_next_id(struct stream *s);
/* Nothing comes any more. code NULL: all went well, and what came of it is in the store, or with
 * the run. The run gives its reference up; the ring lingers. NULL does nothing. */
void stream_end(struct stream *s, const char *code, const char *text);

/* ---- of who watches -------------------------------------------------------------------------- */

/* A reference to one that is under way or lingers; NULL: there is none of this id and key. */
struct stream *stream_find(const char *id, const char *key);
struct stream *stream_ref(struct stream *s);
void stream_unref(struct stream *s); /* NULL does nothing */
bool stream_is_base64(const struct stream *s);
bool stream_keeps_all(const struct stream *s);

/* Begins behind the event `last`; `said`: a client says that it has it, and all before. 0;
 * -EINVAL: there is no such event yet; -EALREADY: that was the very last one. */
int stream_attach(struct stream *s, struct stream_tap *tap, uint64_t last, bool said);
void stream_detach(struct stream *s, struct stream_tap *tap);

enum stream_next {
    STREAM_EVENT,   /* *ret_event, valid until stream_unlock; stream_take it */
    STREAM_GAP,     /* the events up to *ret_id are not there any more; they count as taken */
    STREAM_NOTHING, /* yet */
    STREAM_FULL,    /* it goes on when a client has said what it has: leave, and come again */
    STREAM_ENDED,   /* *ret_id is the number of the last event */
};
void stream_lock(struct stream *s);
void stream_unlock(struct stream *s);
/* Between the two. */
enum stream_next stream_peek(struct stream *s, struct stream_tap *tap, uint64_t *ret_id,
                             const struct stream_event **ret_event);
void stream_take(struct stream_tap *tap);

/* Has it? Then what stream_end was given: *ret_code "" when all went well. The texts live as long
 * as the reference. */
bool stream_has_ended(struct stream *s, const char **ret_code, const char **ret_text);
