/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/serve_file - a regular file as an answer: ranges, ETag, a name that is safe to save. */
#pragma once
#include <stddef.h>
struct http_request;

#define SERVE_NAME_MAX 255u
#define SERVE_DISPOSITION_ROOM (64 + SERVE_NAME_MAX * 4)
#define SERVE_ETAG_ROOM 48

struct serve_file {
    int fd;
    uint64_t size;
    const char *etag; /* strong, with its quotes */
    const char *content_type;
    const char *name;          /* proposed to whoever saves it: its part behind the last slash */
    bool in_place;             /* a browser may show it instead of saving it */
    const char *cache_control; /* NULL: none */
    bool v1_errors;            /* the error body is that of /v1/runs and /v1/files */
};

/* Answers 200, 206, 304 or 416. Takes the descriptor. */
void serve_file(struct http_request *req, const struct serve_file *file);
/* An ETag for a file that is changed in place or replaced. */
void serve_file_etag(char etag[SERVE_ETAG_ROOM], uint64_t size, int64_t mtime_ns);
/* The value of Content-Disposition for a name of any bytes. */
void serve_file_disposition(char value[SERVE_DISPOSITION_ROOM], const char *name, bool in_place);
/* 0: the whole file; 1: *ret_at, *ret_len are the range; -1: it cannot be satisfied. What is not
 * understood, or several ranges, is the whole file (RFC 9110, 14.2). */
int serve_file_range(const char *text, size_t text_len, uint64_t size, uint64_t *ret_at,
                     uint64_t *ret_len);
