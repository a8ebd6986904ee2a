/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/files_answer - what a client is told of a file operation: its errors, and entries of a
 * directory as JSON.
 *
 * In the frontend, per thread. An errno comes from a child in the box, which is not believed: one
 * that is not in the table is 500. Names are any bytes; where JSON cannot hold one exactly, the
 * same in base64 follows.
 */
#include "frontend/answer.h"
#include "frontend/files.h"
#include "frontend/json_out.h"
#include <inttypes.h>
#include <signal.h>
#include <time.h>

void files_answer_errno(struct http_request *req, uint32_t error)
{
    static const struct {
        int error, status;
        const char *code, *text;
    } table[] = {
        {ENOENT, 404, "not_found", "there is no such file or directory"},
        {ENOTDIR, 404, "not_found", "a part of the path is not a directory"},
        {EISDIR, 409, "is_a_directory", "it is a directory"},
        {ENOTEMPTY, 409, "not_empty", "the directory is not empty; recursive=1 deletes all of it"},
        {EEXIST, 409, "exists", "there is something else of that name"},
        {ELOOP, 409, "symbolic_link", "the path leads through a symbolic link"},
        {EXDEV, 409, "symbolic_link", "the path leads out of /work"},
        {EACCES, 403, "forbidden", "the namespace's own user may not do that"},
        {EPERM, 403, "forbidden", "the namespace's own user may not do that"},
        {ENAMETOOLONG, 400, "bad_request", "path: too long"},
        {EINVAL, 409, "not_a_file", "it is neither a file nor a directory"},
        {ENXIO, 409, "not_a_file", "it is neither a file nor a directory"},
        {EFBIG, 413, "too_large", "the file would be larger than the namespace's policy allows"},
        {ENOSPC, 507, "no_space", "there is no space left in the namespace"},
        {EDQUOT, 507, "no_space", "there is no space left in the namespace"},
        {EMFILE, 503, "busy", "too much is going on at the moment"},
        {ENOMEM, 503, "busy", "the namespace has no memory left"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if ((uint32_t)table[i].error == error) {
            answer_error(req,
                         &(struct answer_error){table[i].status, table[i].code,
                                                table[i].status == 503 ? 1000 : 0, NULL},
                         "%s", table[i].text);
            return;
        }
    answer_error(req, &(struct answer_error){500, "internal", 0, NULL},
                 "the file operation failed");
}

void files_answer_end(struct http_request *req, const struct proto_result *r)
{
    switch (r->reason) {
    case PROTO_REASON_TIMEOUT:
    case PROTO_REASON_CPU_LIMIT:
        answer_error(req, &(struct answer_error){504, "timeout", 0, NULL},
                     "the file operation took too long");
        return;
    case PROTO_REASON_DISK:
        files_answer_errno(req, EDQUOT);
        return;
    case PROTO_REASON_OOM:
    case PROTO_REASON_PIDS:
        files_answer_errno(req, ENOMEM);
        return;
    case PROTO_REASON_SIGNAL:
        files_answer_errno(req, r->signal == SIGXFSZ ? EFBIG : EIO);
        return;
    case PROTO_REASON_EXIT:
    case PROTO_REASON_OUTPUT:
    case PROTO_REASON_CANCELLED:
    case PROTO_REASON_SECCOMP:
    case PROTO_REASON_INTERNAL:
    case PROTO_REASONS:
        break;
    }
    files_answer_errno(req, EIO);
}

static const char *kind_name(uint32_t kind)
{
    return kind == 'f' ? "file" : kind == 'd' ? "directory" : kind == 'l' ? "link" : "other";
}

size_t files_put_name(char *at, size_t room, const char *key, const char *name, size_t len)
{
    size_t taken = 0, n = (size_t)snprintf(at, room, "\"%s\":\"", key);
    n += json_out_text(at + n, room - n, name, len, &taken);
    n += (size_t)snprintf(at + n, room - n, "\"");
    if (json_out_is_exact(name, len))
        return n;
    n += (size_t)snprintf(at + n, room - n, ",\"%s_base64\":\"", key);
    n += json_out_base64(at + n, room - n, name, len, &taken);
    n += (size_t)snprintf(at + n, room - n, "\"");
    return n;
}

static size_t put_time(char *at, size_t room, int64_t mtime_ns)
{
    struct tm tm;
    time_t s = (time_t)(mtime_ns / 1000000000 - (mtime_ns % 1000000000 < 0));
    int ms = (int)((mtime_ns - (int64_t)s * 1000000000) / 1000000);
    if (!gmtime_r(&s, &tm))
        return (size_t)snprintf(at, room, "null");
    return (size_t)snprintf(at, room, "\"%04d-%02d-%02dT%02d:%02d:%02d.%03dZ\"", tm.tm_year + 1900,
                            tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, ms);
}

size_t files_put_entry(char *at, const struct proto_files_answer *a, const char *name, size_t len)
{
    size_t n = (size_t)snprintf(at, FILES_ENTRY_ROOM, "{");
    n += files_put_name(at + n, FILES_ENTRY_ROOM - n, "name", name, len);
    n +=
        (size_t)snprintf(at + n, FILES_ENTRY_ROOM - n,
                         ",\"type\":\"%s\",\"size\":%" PRIu64 ",\"mode\":\"%03o\",\"modified_at\":",
                         kind_name(a->kind), a->size, a->mode & 07777u);
    n += put_time(at + n, FILES_ENTRY_ROOM - n, a->mtime_ns);
    n += (size_t)snprintf(at + n, FILES_ENTRY_ROOM - n, "}");
    return n;
}
