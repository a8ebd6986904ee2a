/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/v1_error - see v1_error.h. In the frontend, per thread; without state. */
#include "frontend/v1_error.h"
#include "frontend/http.h"
#include "frontend/json_out.h"
#include <inttypes.h>
#include <stdarg.h>

void v1_error(struct http_request *req, const struct answer_error *e, const char *fmt, ...)
{
    char text[400], body[1024], seconds[24];
    struct http_header headers[3] = {0};
    size_t taken, len = 10, count = 0;
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    memcpy(body, "{\"error\":\"", len);
    len += json_out_text(body + len, 800, text, strlen(text), &taken);
    len += (size_t)snprintf(body + len, sizeof body - len, "\",\"code\":\"%.60s\"}\n", e->code);
    if (e->retry_after_ms) {
        (void)snprintf(seconds, sizeof seconds, "%" PRIu64, (e->retry_after_ms + 999) / 1000);
        headers[count++] = (struct http_header){"retry-after", seconds};
    }
    if (e->allow)
        headers[count++] = (struct http_header){"allow", e->allow};
    http_respond(req, e->status, headers, body, len);
}

void v1_store_error(struct http_request *req, int error, const char *what)
{
    switch (error) {
    case ENOENT:
        v1_error(req, &(struct answer_error){404, "not_found", 0, NULL}, "there is no such %s",
                 what);
        break;
    case EDQUOT:
        v1_error(req, &(struct answer_error){429, "quota_exceeded", 0, NULL},
                 "the uploads of this key are as many, or as large, as they may be: "
                 "store.key_files_max, store.key_max_mb");
        break;
    case EFBIG:
        v1_error(req, &(struct answer_error){413, "file_too_large", 0, NULL}, "the %s is too large",
                 what);
        break;
    case EAGAIN:
        v1_error(req, &(struct answer_error){503, "overloaded", 1000, NULL},
                 "too much is waiting to be stored");
        break;
    case ENOSPC:
        v1_error(req, &(struct answer_error){507, "storage_full", 0, NULL},
                 "there is no room left to store it");
        break;
    default:
        v1_error(req, &(struct answer_error){500, "internal", 0, NULL}, "the store failed");
    }
}
