/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/multipart - finds the one file in a multipart/form-data body (RFC 7578). */
#pragma once
#include <stddef.h>

#define MULTIPART_NAME_MAX 255u
#define MULTIPART_BOUNDARY_MAX 70u /* RFC 2046, 5.1.1 */
#define MULTIPART_HEAD_MAX 8192u   /* of a part */

struct multipart_file {
    char name[MULTIPART_NAME_MAX + 1]; /* UTF-8, of one line, without directories; never empty */
    const char *at;                    /* its bytes, in the body */
    size_t len;
};

/* "multipart/form-data; boundary=...": is it one? The boundary's length, 0: it is not, or has no
 * boundary that could be one. */
size_t multipart_boundary(const char *content_type, size_t len,
                          char ret[MULTIPART_BOUNDARY_MAX + 1]);
/* The body must be exactly one part, named `field`, from its first byte to its closing delimiter. A
 * file without a name gets the name `field`. NULL and *ret; otherwise what is wrong, for people. */
const char *multipart_find(const char *body, size_t len, const char *boundary, const char *field,
                           struct multipart_file *ret);
