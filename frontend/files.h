/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/files - what files.c and files_answer.c share. */
#pragma once
#include "frontend/http.h"
#include "protocol/protocol.h"

#define FILES_ENTRY_ROOM (PROTO_FILES_PATH_MAX * 6u + 6000u) /* a name of controls, and base64 */

/* What the child said went wrong. */
void files_answer_errno(struct http_request *req, uint32_t error);
/* The child died before its last word. */
void files_answer_end(struct http_request *req, const struct proto_result *r);
/* `"key":"name"`, and when that is not exact `"key_base64"`. Bytes written, at most
 * FILES_ENTRY_ROOM - 200. */
size_t files_put_name(char *at, size_t room, const char *key, const char *name, size_t len);
/* One entry as a JSON object; bytes written, at most FILES_ENTRY_ROOM. */
size_t files_put_entry(char *at, const struct proto_files_answer *a, const char *name, size_t len);
