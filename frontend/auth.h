/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/auth - whose request is this, and may it be made? The only place that asks.
 *
 * Without keys (then the service is on loopback or a Unix socket only) everything is allowed and an
 * Authorization header is nobody's business. The keys come from the engine with each Hello.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
struct front;
struct http_request;
struct key;
struct parse_limits;
struct proto_execute;
struct proto_hello;
struct run_caller;

/* Of a route: any key will do. Beside enum key_scope. */
#define AUTH_ANY_KEY (1u << 31)
/* It is a WebSocket: browsers, which cannot give such a request an Authorization, may have the key
 * in `Sec-WebSocket-Protocol: bearer, KEY`. */
#define AUTH_BY_PROTOCOL (1u << 30)

/* False: what came is of no use, and what is in force may be old: the connection has to be begun
 * anew. Borrows the descriptors. */
bool auth_on_hello(struct front *f, const struct proto_hello *h, const int *fds, size_t nfds);
/* May this request have a route of this scope? False: it is answered (401, 403, 429, or 503 before
 * the first Hello). Then and only then routes_key() says whose it is, until it ends. */
bool auth_admit(struct front *f, struct http_request *req, uint32_t scope);
void auth_on_end(struct http_request *req);

/* May the holder of this key, who was let in once, still have a route of this scope (0: of any) and
 * this namespace (NULL: any)? Not when it was taken out, has expired or may do less now; nor who
 * came without one before there were keys. */
bool auth_still(const struct front *f, const struct key *key, uint32_t scope, const char *ns_id);
/* 401 for who waited with a key that is gone. */
void auth_refuse_gone(struct http_request *req);
/* Every 100 ms: what is held open with a key that is gone ends (request_owner.on_revoked,
 * terminals); right after a reload, and within a second of an expiry. */
void auth_on_tick(struct front *f, uint64_t now_ns);

/* The subprotocol to answer with: "bearer" when the client offers it, or NULL. */
const char *auth_protocol(struct http_request *req);

/* NULL: no keys are configured, or the route needs none. */
const struct key *routes_key(struct http_request *req);
/* Its label; "" for NULL. */
const char *routes_key_label(struct http_request *req);
/* May the request's key use this namespace ("": a fresh one)? False: answered with 403. */
bool auth_may_use(struct http_request *req, const char *ns_id);
/* What the body may ask for: the service's limits, lowered in *room to the key's where it has any.
 */
const struct parse_limits *auth_limits(const struct front *f, struct http_request *req,
                                       struct parse_limits *room);
/* Fills in what the engine must know of the key: label and ceilings. */
void auth_mark(struct http_request *req, struct proto_execute *x);
/* The same for a run (frontend/run.h). Its texts live as long as the request. */
void auth_caller(struct http_request *req, struct run_caller *ret);
