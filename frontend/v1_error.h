/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/v1_error - errors of /v1/runs and /v1/files: {"error": "<message>", "code": "<word>"}.
 */
#pragma once
#include "frontend/answer.h"

/* As answer_error(), in that shape. */
void v1_error(struct http_request *req, const struct answer_error *e, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
/* What a call of the store that failed means to a client; `what`: "file", "run". */
void v1_store_error(struct http_request *req, int error, const char *what);
