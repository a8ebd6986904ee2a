/* SPDX-License-Identifier: Apache-2.0 */
/* t/unit/multipart - the one file of a form is found as browsers and curl send it; whatever is
 * more, less or broken is refused by name. Each body is also cut at every byte: a part of it never
 * passes.
 */
#include "frontend/multipart.h"
#include "lib/tap.h"

#define HEAD "Content-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n"

static struct multipart_file file;

static const char *find(const char *body, size_t len, const char *boundary)
{
    memset(&file, 'x', sizeof file);
    return multipart_find(body, len, boundary, "file", &file);
}

static void good(const char *body, const char *name, const char *data, const char *what)
{
    const char *wrong = find(body, strlen(body), "B");
    ok(!wrong && strcmp(file.name, name) == 0 && file.len == strlen(data) &&
           memcmp(file.at, data, file.len) == 0,
       "%s: %s", what, wrong ? wrong : file.name);
    size_t passed = 0;
    for (size_t len = 0; !wrong && len < strlen(body); len++) {
        char *copy = strndup(body, len); /* nothing readable behind it: asan would tell */
        passed += !find(copy, len, "B") && len < strlen(body) - 2;
        free(copy);
    }
    ok(passed == 0, "%s: cut anywhere, it is refused", what);
}

static void bad(const char *body, const char *why)
{
    const char *wrong = find(body, strlen(body), "B");
    ok(wrong && strstr(wrong, why), "%s: %s", why, wrong ? wrong : "taken");
}

static void named(const char *parameters, const char *name)
{
    char body[4096];
    (void)snprintf(body, sizeof body,
                   "--B\r\nContent-Disposition: form-data; name=\"file\"; %s\r\n\r\nx\r\n--B--\r\n",
                   parameters);
    const char *wrong = find(body, strlen(body), "B");
    if (name)
        ok(!wrong && strcmp(file.name, name) == 0, "%s -> %s", parameters,
           wrong ? wrong : file.name);
    else
        ok(wrong != NULL, "%.60s -> %s", parameters, wrong ? wrong : file.name);
}

static void test_boundary(void)
{
    static const struct {
        const char *type, *boundary;
    } table[] = {
        {"multipart/form-data; boundary=abc", "abc"},
        {"Multipart/Form-Data;BOUNDARY=abc", "abc"},
        {"multipart/form-data; charset=utf-8; boundary=\"a b:c\"", "a b:c"},
        {"multipart/form-data; boundary=abc;", "abc"},
        {"multipart/form-data", NULL},
        {"multipart/form-data; boundary=", NULL},
        {"multipart/form-data; boundary=\"abc", NULL},
        {"multipart/form-data; boundary=a; boundary=b", NULL},
        {"multipart/form-data; boundary=\"abc \"", NULL},
        {"multipart/form-data; boundary=a\001", NULL},
        {"multipart/form-data boundary=abc", NULL},
        {"multipart/mixed; boundary=abc", NULL},
        {"application/json", NULL},
        {"", NULL},
        {"multipart/form-data; "
         "boundary=12345678901234567890123456789012345678901234567890123456789012345678901",
         NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char got[MULTIPART_BOUNDARY_MAX + 1] = "";
        size_t n = multipart_boundary(table[i].type, strlen(table[i].type), got);
        ok(table[i].boundary ? n == strlen(table[i].boundary) && strcmp(got, table[i].boundary) == 0
                             : n == 0,
           "%.50s: %s", table[i].type, n ? got : "none");
    }
}

static void test_names(void)
{
    char longest[512], what[600];
    named("filename=\"a.txt\"", "a.txt");
    named("filename=a.txt", "a.txt");
    named("filename=\"a;b=c.txt\"", "a;b=c.txt");
    named("filename=\"say \\\"hi\\\"\"", "say \"hi\"");
    named("filename=\"say %22hi%22 100%\"", "say \"hi\" 100%");
    named("filename=\"100%25\"", "100%25");
    named("filename=\"back\\slash\"", "back\\slash");
    named("filename=\"/etc/passwd\"", "passwd");
    named("filename=\"../../x\"", "x");
    named("filename=\"..\"", "file");
    named("filename=\"\"", "file");
    named("x=y", "file");
    named("filename=\"\xe2\x82\xac\"", "\xe2\x82\xac");
    named("filename*=UTF-8''%e2%82%ac%20rates", "\xe2\x82\xac rates");
    named("filename=\"plain\"; filename*=utf-8'en'%41", "A");
    named("filename*=utf-8''%41; filename=\"plain\"", "A");
    named("filename*=utf-8''%2fetc%2fx", "x");
    named("filename*=iso-8859-1''x", NULL);
    named("filename*=utf-8''%4", NULL);
    named("filename*=utf-8''%00", NULL);
    named("filename=\"a\xff\"", NULL);
    named("filename=\"a\xed\xa0\x80\"", NULL);
    named("filename=\"a\xe2\x82\"", NULL);
    named("filename=\"a%0Ab\"", NULL);
    named("filename=\"a\tb\"", NULL);
    named("filename=\"a", NULL);
    memset(longest, 'n', sizeof longest);
    (void)snprintf(what, sizeof what, "filename=\"%.255s\"", longest);
    longest[255] = 0;
    named(what, longest);
    longest[255] = 'n';
    (void)snprintf(what, sizeof what, "filename=\"%.256s\"", longest);
    named(what, NULL);
}

static void test_long_head(void)
{
    size_t len = 1 << 20;
    char *body = malloc(len + 200);
    size_t n = (size_t)snprintf(body, 100, "--B\r\nX-Long: ");
    memset(body + n, 'x', len);
    (void)snprintf(body + n + len, 100, "\r\n" HEAD "\r\nx\r\n--B--\r\n");
    const char *wrong = find(body, strlen(body), "B");
    ok(wrong && strstr(wrong, "8 KiB"), "a head of 1 MiB: %s", wrong);
    free(body);
}

int main(void)
{
    test_boundary();
    good("--B\r\n" HEAD "\r\nhello\r\n--B--\r\n", "a.txt", "hello", "a file");
    good("--B\r\n" HEAD "\r\nhello\r\n--B--", "a.txt", "hello", "without the last line end");
    good("--B\r\n" HEAD "Content-Type: text/plain\r\nX: y\r\n\r\nhello\r\n--B--\r\n", "a.txt",
         "hello", "more headers");
    good("--B\r\n" HEAD "\r\n\r\n--B--\r\n", "a.txt", "", "an empty file");
    good("--B\r\n" HEAD "\r\n\r\n\r\n\r\n--B--\r\n", "a.txt", "\r\n\r\n", "line ends");
    good("--B\r\n" HEAD "\r\na\r\n--Bc\r\n--B-\r\n--B \r\n-B--\n--B--\r\n--B--\r\n", "a.txt",
         "a\r\n--Bc\r\n--B-\r\n--B \r\n-B--\n--B--", "what looks like the boundary");
    good("--B\r\nCONTENT-DISPOSITION:form-data;NAME=file\r\n\r\nx\r\n--B--\r\n", "file", "x",
         "no name, other case");
    test_names();
    bad("", "begin with its boundary");
    bad("hello", "begin with its boundary");
    bad("\r\n--B\r\n" HEAD "\r\nhello\r\n--B--\r\n", "begin with its boundary");
    bad("--C\r\n" HEAD "\r\nhello\r\n--C--\r\n", "begin with its boundary");
    bad("--B\n" HEAD "\r\nhello\r\n--B--\r\n", "begin with its boundary");
    bad("--B--\r\n", "there is no part");
    bad("--B\r\n" HEAD "\r\na\r\n--B\r\n" HEAD "\r\nb\r\n--B--\r\n", "more than one part");
    bad("--B\r\n" HEAD "\r\nhello\r\n", "without its closing boundary");
    bad("--B\r\n" HEAD "\r\nhello\r\n--B--\r\nmore", "something follows");
    bad("--B\r\n\r\nhello\r\n--B--\r\n", "needs one Content-Disposition");
    bad("--B\r\n" HEAD HEAD "\r\nhello\r\n--B--\r\n", "needs one Content-Disposition");
    bad("--B\r\nContent-Disposition: attachment; name=file\r\n\r\nx\r\n--B--\r\n", "form-data");
    bad("--B\r\nContent-Disposition: form-data; name=other\r\n\r\nx\r\n--B--\r\n", "another name");
    bad("--B\r\nContent-Disposition: form-data\r\n\r\nx\r\n--B--\r\n", "another name");
    bad("--B\r\nno colon\r\n\r\nx\r\n--B--\r\n", "a line in the head");
    bad("--B\r\n" HEAD " folded: x\r\n\r\nx\r\n--B--\r\n", "a line in the head");
    bad("--B\r\n" HEAD "Content-Transfer-Encoding: base64\r\n\r\nx\r\n--B--\r\n", "only binary");
    bad("--B\r\n" HEAD, "ends in the head");
    test_long_head();
    return tap_done();
}
