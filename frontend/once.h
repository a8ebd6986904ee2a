/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/once - requests with an Idempotency-Key: done once, answered as often as they come. */
#pragma once
#include "frontend/front.h"
struct http_answer;
struct store_call;

/* A request of a route that can be repeated, and its handler. False: it has no Idempotency-Key, and
 * its handler is to be called as ever. True: it is taken care of. The handler gets a copy of the
 * request (http_copy_new) once it is known that nobody asked so before. It answers that copy like
 * any request; where it may have done what was asked for and answers an error, it says so
 * (http_mark_begun). `whole`: it does nothing but by a call with a promise. */
bool once_on_request(struct front *f, struct http_request *req, route_handler *run, bool whole);

/* For handlers. Has this request an Idempotency-Key? */
bool once_has_name(const struct http_request *req);
/* Of one that has: what will be answered when `call` (STORE_PUT_JOB, STORE_PUT_RUN) is done. The
 * store keeps it by that very transaction, so neither is there without the other. Whatever is then
 * answered below 400 is this one; a call that failed is answered as an error. The answer is
 * copied; it has no fill. Nothing is answered before the call is done. False: no memory. */
bool once_promise(struct http_request *req, const struct http_answer *answer,
                  struct store_call *call);
