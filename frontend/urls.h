/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/urls - signed URLs of stored files: whoever has one may read that file until it expires.
 *
 * <base>/v1/files/<id>?payload=<base64url of "1:<id>:<expiry, s>">&sig=<hex of HMAC-SHA256(payload
 * as it stands there)>. The secret is state_dir/url.key, 32 random bytes made at the first start;
 * without the file all URLs given before are worth nothing. Any thread, once opened.
 */
#pragma once
#include <stdint.h>
struct err;
struct http_text;

#define URL_SECRET_BYTES 32u
#define URL_BASE_MAX 255u
#define URL_ROOM 512 /* of any URL: base, path, payload, signature */

struct urls {
    unsigned char secret[URL_SECRET_BYTES];
};

enum url_verdict { URL_GOOD, URL_WRONG, URL_EXPIRED };

/* Reads the secret below state_fd, or makes one. Before the process restricts itself. 0 or <0 with
 * err, also when what is there is no secret. */
int urls_open(int state_fd, struct urls *ret, struct err *err);
/* base: without a slash at its end, perhaps "". id: of a file, store/store.h. Whole seconds of
 * expires_ms (since the epoch) count. */
void urls_make(const struct urls *u, const char *base, const char *id, int64_t expires_ms,
               char ret[URL_ROOM]);
/* Is this the signature of this payload, the payload of this id, and now_ms before its expiry? All
 * as they were sent; nothing is compared in a time that tells about the secret. */
enum url_verdict urls_check(const struct urls *u, struct http_text id, struct http_text payload,
                            struct http_text sig, int64_t now_ms);
