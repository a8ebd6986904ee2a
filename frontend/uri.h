/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/uri - percent-decoding of paths and queries, into the caller's buffer. */
#pragma once
struct http_text;

/* Decodes %XX into a NUL-terminated buffer. The length, or -1: a broken escape, %00, or no room
 * (then room <= what it needs). '+' is itself. */
int uri_decode(struct http_text text, char *at, size_t room);
/* The value of the first parameter `name` of a query, decoded ('+' is a space). Its length; -1:
 * broken or too long; -2: it is not there ("name" alone has the value ""). */
int uri_find(struct http_text query, const char *name, char *at, size_t room);
/* A parameter that is a number in [min, max]; *ret stays when it is not there. 0 or -1. */
int uri_find_u64(struct http_text query, const char *name, uint64_t min, uint64_t max,
                 uint64_t *ret);
/* A parameter that is a yes or a no: "1" or "true", "0" or "false"; *ret stays when it is not
 * there. 0 or -1. */
int uri_find_bool(struct http_text query, const char *name, bool *ret);
