/* SPDX-License-Identifier: Apache-2.0 */
/* t/fuzz/multipart - the first line is a Content-Type, the rest a body: whatever they hold, what is
 * found lies in the body, and its name is one line. */
#include "frontend/multipart.h"
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    const char *eol = size ? memchr(text, '\n', size) : NULL;
    char boundary[MULTIPART_BOUNDARY_MAX + 1] = "B";
    struct multipart_file file;
    if (!eol)
        return 0;
    size_t n = multipart_boundary(text, (size_t)(eol - text), boundary);
    assert(n <= MULTIPART_BOUNDARY_MAX && (n == 0 || boundary[n] == 0));
    const char *body = eol + 1;
    size_t len = size - (size_t)(body - text);
    if (multipart_find(body, len, n ? boundary : "B", "file", &file))
        return 0;
    assert(file.at >= body && file.len <= len && file.at + file.len <= body + len);
    assert(*file.name && strlen(file.name) <= MULTIPART_NAME_MAX);
    assert(!strpbrk(file.name, "/\r\n"));
    return 0;
}
