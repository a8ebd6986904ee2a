/* SPDX-License-Identifier: Apache-2.0 */
/* t/unit/languages - language files: what they become, what is refused and how that is named. */
#include "languages/languages.h"
#include "lib/err.h"
#include "lib/tap.h"
#include <fcntl.h>
#include <sys/stat.h>

#define HEAD "name: x\nsource: main.x\nversion: [x, --version]\n"
#define FINE HEAD "run: {argv: [x, \"{source}\"]}\n"

static struct language_set set;
static struct err err;

static int read_text(const char *text)
{
    memset(&set, 0, sizeof set);
    err = (struct err){0};
    return languages_read(text, strlen(text), "x.yaml", &set, &err);
}

static void refused(const char *text, const char *part, const char *what)
{
    ok(read_text(text) < 0 && err.code < 0 && set.count == 0 && strstr(err.text, part),
       "%s is refused: %s", what, err.text);
}

static const char *word(const struct language_texts *t, uint32_t i)
{
    const char *at = t->text;
    while (i-- > 0)
        at += strlen(at) + 1;
    return at;
}

static void test_embedded(void)
{
    static const struct {
        const char *name, *aliases[4];
        bool compiles;
    } all[] = {
        {"bash", {"sh", "shell"}, false},
        {"c", {NULL}, true},
        {"cpp", {"c++", "cxx"}, true},
        {"go", {"golang"}, true},
        {"java", {NULL}, true},
        {"node", {"javascript", "js", "nodejs"}, false},
        {"perl", {NULL}, false},
        {"php", {NULL}, false},
        {"python", {"python3", "py"}, false},
        {"ruby", {"rb"}, false},
    };
    ok(languages_load("", &set, &err) == 0 && set.count == ARRAY_LEN(all), "the ten that ship: %s",
       err.text);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        const struct language *l = languages_find(&set, all[i].name);
        bool found = l && strcmp(l->name, all[i].name) == 0;
        for (size_t k = 0; k < 4 && all[i].aliases[k]; k++)
            found = found && languages_find(&set, all[i].aliases[k]) == l;
        ok(found && (l->compile.argv.count > 0) == all[i].compiles, "%s and its aliases",
           all[i].name);
    }
    ok(languages_find(&set, "PyThon") && !languages_find(&set, "cobol") &&
           !languages_find(&set, ""),
       "any case finds one, nothing finds none");
}

static void test_values(void)
{
    ok(read_text(
           "name: x\naliases: [ex, x++]\nsource: a.x\nversion: [x, -v]\n"
           "compile: {argv: [xc, -o, \"{dir}/p\", \"{source}\"], timeout_ms: 9000, cpu_ms: 8}\n"
           "run: {argv: [\"{dir}/p\"], memory_mb: 7, pids: 6}\nenv: {A: \"1\", B: two}\n") == 0 &&
           set.count == 1,
       "all keys: %s", err.text);
    const struct language *l = &set.languages[0];
    ok(l->compile.timeout_ms == 9000 && l->compile.cpu_ms == 8 && l->run.memory_bytes == 7 << 20 &&
           l->run.pids_max == 6,
       "limits of a stage");
    ok(l->env.count == 2 && strcmp(word(&l->env, 1), "B=two") == 0, "environment");
    char argv[64];
    size_t n = languages_fill(&l->compile.argv, ".run/a.x", ".run", argv, sizeof argv);
    ok(n == sizeof "xc\0-o\0.run/p\0.run/a.x" && memcmp(argv, "xc\0-o\0.run/p\0.run/a.x", n) == 0,
       "places are filled in");
    ok(languages_fill(&l->compile.argv, ".run/a.x", ".run", argv, n) == n &&
           languages_fill(&l->compile.argv, ".run/a.x", ".run", argv, n - 1) == 0,
       "as much as there is room, and no more");
    ok(read_text(FINE) == 0 && set.languages[0].compile.argv.count == 0, "the least: %s", err.text);
}

static void test_refused(void)
{
    refused("", "x.yaml:1: ", "an empty file");
    refused("a: [", "x.yaml:2: not YAML", "what is not YAML");
    refused("- a\n", "x.yaml:1: the file: expected a mapping", "a list");
    refused(FINE "color: red\n", "x.yaml:5: color: unknown key", "an unknown key");
    refused(FINE "name: y\n", "x.yaml:5: name: stands twice", "a key twice");
    refused("source: m\n", "x.yaml:1: name: is missing", "no name");
    refused(HEAD, "run: is missing", "nothing to run");
    refused(HEAD "run: {}\n", "x.yaml:4: run: argv is missing", "a stage without argv");
    refused(HEAD "run: {argv: []}\n", "run.argv: expected a list", "an empty argv");
    refused(HEAD "run: {argv: [\"\"]}\n", "run.argv: expected a program", "a program of no name");
    refused(HEAD "run: {argv: [[a]]}\n", "run.argv: expected a list of words", "a list in a list");
    refused(HEAD "run: {argv: x}\n", "run.argv: expected a list", "a word as argv");
    refused(HEAD "run:\n  argv: [x]\n  pids: 0\n", "x.yaml:6: run.pids: expected a whole number",
            "no processes");
    refused(HEAD "run: {argv: [x], memory_mb: 1.5}\n", "run.memory_mb", "half a megabyte");
    refused(FINE "compile: {argv: [x], timeout_ms: 86400001}\n", "compile.timeout_ms: expected",
            "more than a day");
    refused(FINE "compile: {argv: [x], memory_mb: 7}\n",
            "compile.memory_mb: unknown key: expected argv, timeout_ms, cpu_ms",
            "memory for a compiler, which has the policy's");
    refused(FINE "compile: {argv: [x], pids: 7}\n", "compile.pids: unknown key", "processes, too");
    refused(HEAD "run: {argv: [x], timeout_ms: 7}\n",
            "run.timeout_ms: unknown key: expected argv, memory_mb, pids",
            "a deadline for the run, which has the request's");
    refused(HEAD "run: {argv: [x], cpu_ms: 7}\n", "run.cpu_ms: unknown key", "its time, too");
    refused("name: X\n", "x.yaml:1: name: expected", "a name in capitals");
    refused("name: -x\n", "name: expected", "a name that is an option");
    refused("name: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n", "name: expected", "a name of 33 letters");
    refused("aliases: [a,b,c,d,e,f,g,h,i]\n", "aliases: expected at most 8", "nine aliases");
    refused("source: ../x\n", "source: expected a file name", "a source elsewhere");
    refused("source: .x\n", "source: expected a file name", "a hidden source");
    refused("source: 'a b'\n", "source: expected a file name", "a source with a space");
    refused(FINE "env: {1A: x}\n", "x.yaml:5: env: expected NAME", "a variable that is none");
    refused(FINE "env: {A: [x]}\n", "env: expected NAME", "a value that is none");
    refused(FINE "---\n" FINE, "expected one document", "two documents");
    refused("name: \"x\\0y\"\n", "name: expected", "a NUL");
}

static void test_limits(void)
{
    static char text[20000];
    int n = snprintf(text, sizeof text, HEAD "run:\n  argv:\n");
    size_t at = (size_t)n;
    for (int i = 0; i < LANGUAGE_ARGV_MAX; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "  - w\n");
    ok(read_text(text) == 0, "as many words as are allowed: %s", err.text);
    (void)snprintf(text + at, sizeof text - at, "  - w\n");
    refused(text, "expected at most 32 words", "one more");
    (void)snprintf(text, sizeof text, HEAD "run: {argv: [%*s]}\n", 0, "");
    at = (size_t)snprintf(text, sizeof text, HEAD "run: {argv: [");
    memset(text + at, 'w', LANGUAGE_TEXT_ROOM - 1);
    (void)snprintf(text + at + LANGUAGE_TEXT_ROOM - 1, 8, "]}\n");
    ok(read_text(text) == 0, "as long as is allowed: %s", err.text);
    memset(text + at, 'w', LANGUAGE_TEXT_ROOM);
    (void)snprintf(text + at + LANGUAGE_TEXT_ROOM, 8, "]}\n");
    refused(text, "expected at most 32 words of 2048 bytes", "one byte more");
    at = (size_t)snprintf(text, sizeof text, FINE "env: {");
    for (int i = 0; i < LANGUAGE_ENV_MAX; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "A%d: x, ", i);
    (void)snprintf(text + at, sizeof text - at, "}\n");
    ok(read_text(text) == 0, "as many variables as are allowed: %s", err.text);
    (void)snprintf(text + at, sizeof text - at, "B: x}\n");
    refused(text, "expected at most 12 variables", "one more");
    memset(&set, 0, sizeof set);
    int r = 0;
    for (int i = 0; r == 0 && i < LANGUAGES_MAX; i++) {
        n = snprintf(text, sizeof text, "name: x%d\nsource: m\nversion: [x]\nrun: {argv: [x]}\n",
                     i);
        r = languages_read(text, (size_t)n, "x.yaml", &set, &err);
    }
    ok(r == 0 && set.count == LANGUAGES_MAX, "as many languages as are allowed");
    ok(languages_read(FINE, sizeof FINE - 1, "x.yaml", &set, &err) < 0 &&
           strstr(err.text, "at most 64 languages"),
       "one more: %s", err.text);
}

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    auto_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        die(1, "%s", path);
}

static void test_directory(void)
{
    char dir[] = "/tmp/brood-unit-XXXXXX", path[128];
    if (!mkdtemp(dir))
        die(1, "mkdtemp");
    ok(languages_load("none", &set, &err) == 0 && set.count == 0, "none");
    ok(languages_load(dir, &set, &err) == 0 && set.count == 0, "an empty directory");
    write_file(dir, "b.yaml", FINE);
    write_file(dir, "a.yaml", "name: a\nsource: m\nversion: [x]\nrun: {argv: [x]}\n");
    write_file(dir, "c.yaml.example", "not read");
    write_file(dir, ".d.yaml", "not read");
    ok(languages_load(dir, &set, &err) == 0 && set.count == 2 &&
           strcmp(set.languages[0].name, "a") == 0,
       "its *.yaml, in the order of their names: %s", err.text);
    write_file(dir, "c.yaml", "name: c\naliases: [x]\nsource: m\nversion: [x]\nrun: {argv: [x]}\n");
    ok(languages_load(dir, &set, &err) < 0 &&
           strstr(err.text, "c.yaml:1: aliases: x is taken by the language x"),
       "a name twice: %s", err.text);
    static const char *const names[] = {"a.yaml", "b.yaml", "c.yaml", "c.yaml.example", ".d.yaml"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        (void)snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(dir);
    ok(languages_load(dir, &set, &err) < 0 && strstr(err.text, dir), "no such directory: %s",
       err.text);
}

int main(void)
{
    test_embedded();
    test_values();
    test_refused();
    test_limits();
    test_directory();
    return tap_done();
}
