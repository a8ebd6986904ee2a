/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/http_head - the head of an upload, looked at before the library reads it. */
#pragma once
#include "frontend/http.h"

#define HTTP_LENGTH_UNKNOWN UINT64_MAX /* the body is chunked */

struct http_head {
    struct http_text method, path;     /* path: without the query; NULL: there is none */
    char *length_name, *encoding_name; /* where the names of these headers stand; or NULL */
    uint64_t length;                   /* when one of them is there */
    size_t len;                        /* of the headers, with the empty line */
    bool expects;                      /* 100-continue */
};

/* Zero-initialise. Returns the length of the request line with its end; 0: it is not all there. */
size_t http_head_read_line(struct http_head *h, char *at, size_t size);
/* What follows the line. 1: the head is complete; 0: not yet; -1: it is unusual. */
int http_head_read_headers(struct http_head *h, char *at, size_t size);
/* Is the head at the beginning of these bytes all there? *at: where the last call stopped, 0 first;
 * so a head that comes in pieces is read once. */
bool http_head_is_whole(const char *bytes, size_t size, size_t *at);
/* Looks for Content-Length headers that contradict each other, at the beginning of a request (its
 * line included). Finds them: makes them all unreadable, so that whoever reads the head next
 * refuses it. Returns the length of the head; 0: it is not all there. *ret_body: what is behind the
 * head and the request's (HTTP_LENGTH_UNKNOWN: no one can tell). */
size_t http_head_spoil(char *at, size_t size, uint64_t *ret_body);
/* Makes the announcement of the body unreadable for whoever reads the head next. */
void http_head_hide(struct http_head *h);
