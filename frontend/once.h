/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/once - requests with an Idempotency-Key: done once, answered as often as they come. */
#pragma once
#include "frontend/front.h"

/* A request of a route that can be repeated, and its handler. False: it has no Idempotency-Key, and
 * its handler is to be called as ever. True: it is taken care of. The handler gets a copy of the
 * request (http_copy_new) once it is known that nobody asked so before. It answers that copy like
 * any request; where it may have done what was asked for and answers an error, it says so
 * (http_mark_begun). */
bool once_on_request(struct front *f, struct http_request *req, route_handler *run);
