/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/ns - what the routes below /v1/namespaces share (ns.c, files.c, archive.c). */
#pragma once
#include "frontend/front.h"

/* The {id} of a pattern, which the request's key may use: 0, or -1 and it was answered. */
int ns_take_id(struct http_request *req, struct http_text id, char ret[PROTO_NS_ID_MAX + 1]);
/* A path below /work, decoded. *ret_slash: it ended with a slash (which is cut off). 0, or -1 and
 * it was answered. In `raw` slashes separate, a %2F is refused; without it `text` is a query's
 * value, decoded already. */
int ns_take_path(struct http_request *req, struct http_text text, bool raw,
                 char ret[PROTO_FILES_PATH_MAX + 1], bool *ret_slash);
/* False: the engine has not been heard of; it was answered. */
bool ns_may_begin(struct front *f, struct http_request *req);
/* Answers why something was not done: an outcome of the engine other than OK. */
void ns_answer_outcome(struct http_request *req, enum proto_outcome outcome, const char *text,
                       uint64_t retry_after_ms);
/* Answers why sending to the engine failed. */
void ns_answer_unsent(struct http_request *req, int why);
/* files.c: looks, in the box, whether `path` is a directory. If so the request is next's; otherwise
 * it is answered. */
typedef void ns_next(struct front *f, struct http_request *req, const char *ns_id,
                     const char *path);
void files_require_directory(struct front *f, struct http_request *req, const char *ns_id,
                             const char *path, ns_next *next);
