/* SPDX-License-Identifier: Apache-2.0 */
/* t/unit/doc - what is wrong with a YAML file is told with file, line and key, and a mapping is
 * walked in its order, as far as it is right.
 */
#include "lib/doc.h"
#include "lib/err.h"
#include "lib/tap.h"

static char seen[200];
static struct err err;

static int note(struct doc *d, void *ctx, const char *key, yaml_node_t *key_at, yaml_node_t *value)
{
    size_t n = strlen(seen);
    const char *text = doc_text(value);
    if (strcmp(key, "stop") == 0)
        return doc_bad(d, value, "there", "expected %d, got \"%.40s\"", *(int *)ctx, text);
    (void)snprintf(seen + n, sizeof seen - n, "%s=%s@%zu%s ", key, text ? text : "?",
                   key_at->start_mark.line + 1, doc_is_nothing(value) ? "-" : "");
    return 0;
}

/* What the walk says: its result, and what was seen. */
static int walk(const char *text, size_t len)
{
    struct doc d = {.path = "a.yaml", .err = &err};
    yaml_parser_t parser;
    int five = 5, r = -1;
    *seen = 0;
    err = (struct err){0};
    (void)yaml_parser_initialize(&parser);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    if (yaml_parser_load(&parser, &d.yaml)) {
        r = doc_walk(&d, yaml_document_get_root_node(&d.yaml), "top", note, &five);
        yaml_document_delete(&d.yaml);
    }
    yaml_parser_delete(&parser);
    return r;
}

static void goes(const char *text, const char *what)
{
    ok(walk(text, strlen(text)) == 0 && strcmp(seen, what) == 0 && err.code == 0, "%s", what);
}

static void fails(const char *text, const char *what)
{
    ok(walk(text, strlen(text)) < 0 && err.code < 0 && strcmp(err.text, what) == 0, "%s", err.text);
}

int main(void)
{
    static const char nul[] = "a: \"b\\0c\"\n";
    goes("a: b\nc: \"d e\"\n\nf: 7\n", "a=b@1 c=d e@2 f=7@4 ");
    goes("a:\nb: ''\n", "a=@1- b=@2- ");
    goes("a: [x, y]\nb: {c: d}\n", "a=?@1 b=?@2 ");
    goes("{}\n", "");
    ok(walk(nul, sizeof nul - 1) == 0 && strcmp(seen, "a=?@1 ") == 0, "a text with a NUL is none");
    fails("- a\n", "a.yaml:1: top: expected a mapping of keys to values");
    fails("word\n", "a.yaml:1: top: expected a mapping of keys to values");
    fails("a: b\n[x]: c\n", "a.yaml:2: top: expected a word as key");
    fails("a: b\nc: d\na: e\n", "a.yaml:3: top: a stands twice");
    ok(strcmp(seen, "a=b@1 c=d@2 ") == 0, "what stands before was seen: %s", seen);
    fails("a: b\n\nstop: here\nc: d\n", "a.yaml:3: there: expected 5, got \"here\"");
    ok(strcmp(seen, "a=b@1 ") == 0, "and what follows was not");
    return tap_done();
}
