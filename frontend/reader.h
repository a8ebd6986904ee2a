/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/reader - the answer to who watches a run: its events as text/event-stream or
 * application/x-ndjson, while they come. */
#pragma once
#include "frontend/answer.h"
#include "frontend/front.h"
#include "frontend/http.h"
#include "frontend/stream.h"
#include "lib/buf.h"
#include "store/store.h"

enum reader_form { READER_NONE, READER_SSE, READER_NDJSON };
/* What an Accept header asks for; NONE: an answer in one piece. */
enum reader_form reader_form_of(struct http_request *req);

/* One such answer. malloc'ed by reader_start, owned by the request's owner, who frees it in on_end.
 */
struct reader {
    struct front *front;
    struct http_request *req; /* NULL: over */
    enum reader_form form;
    struct stream
        *stream; /* its own reference; NULL: of a run whose output is not there any more */
    struct stream_tap tap;
    uint64_t gap; /* without a stream: the events up to this one are missing; 0: none are */
    uint64_t last_id;
    enum { READER_EVENTS, READER_FETCHING, READER_RESULT, READER_OVER } state;
    bool greeted, beats, result_begun, revoked;
    struct http_timer beat;
    uint64_t filled_ns;
    char id[STORE_ID_ROOM], key[STORE_KEY_MAX + 1]; /* of the run, where the result is stored */
    struct answer *result;                          /* the run's own, or `fetched` */
    struct answer fetched;
    struct store_call call;
    bool waiting; /* for the store */
    struct buf tail;
};

struct reader_plan {
    enum reader_form form;
    struct stream *stream;
    const char *id, *key; /* "": the result comes by reader_set_result */
    uint64_t last;        /* the event that the client had last; 0: none */
    bool said;            /* it said so */
};

/* Begins to answer with 200. 0, or what stream_attach said, or -ENOMEM: then nothing was answered.
 * The reader takes a reference of its own. */
int reader_start(struct front *f, struct http_request *req, const struct reader_plan *plan,
                 struct reader **ret);
/* The result of a run that is not stored; before stream_end. It stays the caller's. */
void reader_set_result(struct reader *r, struct answer *result);
/* Answers with what is left of a run that has ended: the document that `call` found (handed over,
 * with its memory), as the event `last_id`, behind what the client has. 0 or -ENOMEM. */
int reader_start_stored(struct front *f, struct http_request *req, enum reader_form form,
                        struct store_call *call, uint64_t last, uint64_t last_id,
                        struct reader **ret);
/* The key it was asked for with is gone: the answer ends, soon. */
void reader_revoke(struct reader *r);
/* The request is over. NULL does nothing. */
void reader_free(struct reader *r);
