/* SPDX-License-Identifier: Apache-2.0 */
/* bench/languages - `brood-bench languages`: code in a language, stateless, beside the same program
 * compiled and run without any sandbox; and what a stored run costs over a plain command.
 *
 * Interleaved like bench/figures. The bare contender has its compiler's caches warm: every
 * advantage that somebody has who runs it by hand. Each program is a new one, by a comment, for
 * both: what is compiled again unchanged is in go's cache. Each contender's first run is not
 * counted.
 */
#include "bench/bench.h"
#include "lib/fd.h"
#include <fcntl.h>
#include <sys/stat.h>

#define SCRIPT_ROOM 512

static const char cpp_code[] = "#include <iostream>\nint main() { std::cout << \"hi\\n\"; }\n";
static const char java_code[] = "public class Main {\n  public static void main(String[] a) {\n"
                                "    System.out.println(\"hi\");\n  }\n}\n";
static const char go_code[] =
    "package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Println(\"hi\") }\n";

/* One pair: bare is a shell command in a directory that holds the file; NULL: as brood's. */
static const struct pair {
    const char *name, *language, *file, *code, *bare;
    unsigned batch;
    double bar;
} pairs[] = {
    {"lang_python_http_ratio", "python", NULL, "print(1)", NULL, 20, 1.15},
    {"lang_cpp_http_ratio", "cpp", "main.cpp", cpp_code,
     "g++ -std=c++17 -O2 -o a.out main.cpp && ./a.out", 3, 1.1},
    {"lang_java_http_ratio", "java", "Main.java", java_code, "javac Main.java && java Main", 2,
     1.1},
    {"lang_go_http_ratio", "go", "main.go", go_code, "go build -o a.out main.go && ./a.out", 3,
     1.1},
};
#define PAIRS ARRAY_LEN(pairs)

static const struct request {
    const char *name, *path, *body;
} requests[] = {
    {"/execute, cmd true", "/execute", "{\"namespace_id\":\"bench\",\"cmd\":\"true\"}"},
    {"/v1/runs, cmd true", "/v1/runs", "{\"namespace_id\":\"bench\",\"cmd\":\"true\"}"},
    {"/execute, bash true, fresh", "/execute", "{\"language\":\"bash\",\"code\":\"true\"}"},
    {"/v1/runs, bash true, fresh", "/v1/runs", "{\"language\":\"bash\",\"code\":\"true\"}"},
};
#define REQUESTS ARRAY_LEN(requests)
#define REQUEST_BATCH 60

struct langs {
    struct http http;
    char dir[64];
    struct buf request;
    struct batch batch;
    struct series bare[PAIRS], ours[PAIRS], plain[REQUESTS];
    char given_up[PAIRS][160], runs_why[160];
};

static void note(char why[160], const struct err *err)
{
    (void)snprintf(why, 160, "%.150s", err->text);
    for (char *c = why; *c; c++)
        if (*c == '\n')
            *c = ' ';
}

/* A program that nobody has compiled yet. */
static void new_code(const struct pair *p, char *ret, size_t room)
{
    static unsigned serial;
    (void)snprintf(ret, room, "%s%s%u\n", p->code, p->bare ? "// " : "\n# ", serial++);
}

static int write_source(const struct langs *l, const struct pair *p, struct err *err)
{
    char path[128], code[SCRIPT_ROOM];
    (void)snprintf(path, sizeof path, "%s/%s", l->dir, p->file);
    new_code(p, code, sizeof code);
    auto_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    return fd < 0 || fd_write_all(fd, code, strlen(code)) < 0 ? err_sys(err, "write %s", path) : 0;
}

static int bare_once(const struct langs *l, const struct pair *p, double *us, struct err *err)
{
    char python[] = "/usr/bin/python3", flag[] = "-c", code[] = "print(1)", shell[] = "/bin/sh";
    char script[SCRIPT_ROOM];
    char *const python_argv[] = {python, flag, code, NULL};
    char *const shell_argv[] = {shell, flag, script, NULL};
    (void)snprintf(script, sizeof script, "cd %s && %s", l->dir, p->bare ? p->bare : "");
    if (p->file && write_source(l, p, err) < 0)
        return err->code;
    return p->bare ? spawn_once(shell_argv, "hi\n", us, err)
                   : spawn_once(python_argv, "1\n", us, err);
}

static void make_request(struct langs *l, const struct pair *p)
{
    struct buf body = {.cap = 1 << 20};
    char code[SCRIPT_ROOM];
    new_code(p, code, sizeof code);
    (void)buf_addf(&body, "{\"language\":\"%s\",\"code\":\"", p->language);
    for (const char *c = code; *c; c++) {
        if (*c == '\n') {
            (void)buf_add(&body, "\\n", 2);
            continue;
        }
        if (*c == '"' || *c == '\\')
            (void)buf_add(&body, "\\", 1);
        (void)buf_add(&body, c, 1);
    }
    (void)buf_add(&body, "\"}", 3);
    if (body.failed)
        die(1, "no memory for a request");
    http_request(&l->request, "/execute", body.data);
    buf_fini(&body);
}

static int timed(struct langs *l, const char *expect, double *us, struct err *err)
{
    uint64_t t0 = clock_now_ns();
    int r = http_exchange(&l->http, &l->request, err);
    *us = (double)(clock_now_ns() - t0) / 1e3;
    return r < 0 ? r : http_check(&l->http, expect, err);
}

static int ours_once(struct langs *l, const struct pair *p, double *us, struct err *err)
{
    make_request(l, p);
    return timed(l, p->bare ? "\"hi\\n\"" : "\"1\\n\"", us, err);
}

static void pair_round(struct langs *l, size_t i, bool bare_first)
{
    struct err err = {0};
    double us;
    for (int turn = 0; turn < 2; turn++) {
        bool bare = (turn == 0) == bare_first;
        l->batch.len = 0;
        for (unsigned k = 0; k <= pairs[i].batch && !l->given_up[i][0]; k++) {
            int r = bare ? bare_once(l, &pairs[i], &us, &err) : ours_once(l, &pairs[i], &us, &err);
            if (r < 0)
                note(l->given_up[i], &err);
            else if (k > 0) /* the first pays for what the other evicted */
                batch_add(&l->batch, us);
        }
        series_close_round(bare ? &l->bare[i] : &l->ours[i], &l->batch);
    }
}

static void requests_round(struct langs *l, unsigned round)
{
    struct err err = {0};
    double us;
    for (size_t n = 0; n < REQUESTS; n++) {
        size_t i = (n + round) % REQUESTS;
        l->batch.len = 0;
        http_request(&l->request, requests[i].path, requests[i].body);
        for (unsigned k = 0; k < REQUEST_BATCH + 5 && !l->runs_why[0]; k++) {
            if (timed(l, "\"\"", &us, &err) < 0)
                note(l->runs_why, &err);
            else if (k >= 5)
                batch_add(&l->batch, us);
        }
        series_close_round(&l->plain[i], &l->batch);
    }
}

static struct figure overhead(const struct langs *l)
{
    struct figure f = {.name = "runs_overhead_us", .bar = 300};
    double more[ROUNDS_MAX];
    size_t rounds = l->plain[0].rounds;
    (void)snprintf(f.skipped, sizeof f.skipped, "%s", l->runs_why);
    for (size_t i = 0; i < rounds && i < l->plain[1].rounds; i++)
        more[i] = l->plain[1].p50[i] - l->plain[0].p50[i];
    if (!f.skipped[0])
        figure_spread(&f, more, rounds);
    return f;
}

static int report(const struct langs *l)
{
    struct figure figures[PAIRS + 1];
    bool whole = !l->runs_why[0];
    for (size_t i = 0; i < PAIRS; i++) {
        figures[i] = (struct figure){.name = pairs[i].name, .bar = pairs[i].bar};
        (void)snprintf(figures[i].skipped, sizeof figures[i].skipped, "%s", l->given_up[i]);
        if (l->given_up[i][0]) {
            whole = false;
            continue;
        }
        figure_ratio(&figures[i], l->ours[i].p50, l->bare[i].p50, l->ours[i].rounds);
        printf("%-28s %9.1f ms bare, %9.1f ms here\n", pairs[i].language,
               median(l->bare[i].p50, l->bare[i].rounds) / 1e3,
               median(l->ours[i].p50, l->ours[i].rounds) / 1e3);
    }
    for (size_t i = 0; i < REQUESTS && !l->runs_why[0]; i++)
        printf("%-28s %9.0f us\n", requests[i].name, median(l->plain[i].p50, l->plain[i].rounds));
    figures[PAIRS] = overhead(l);
    figures_print(figures, ARRAY_LEN(figures));
    return whole ? 0 : 1;
}

static void remove_sources(const struct langs *l)
{
    static const char *const names[] = {"main.cpp", "Main.java", "Main.class", "main.go", "a.out"};
    char path[128];
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        (void)snprintf(path, sizeof path, "%s/%s", l->dir, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(l->dir);
}

int languages_main(const struct options *o)
{
    auto_free struct langs *l = calloc(1, sizeof *l);
    struct err err = {0};
    if (!l)
        die(1, "no memory");
    (void)snprintf(l->dir, sizeof l->dir, "/tmp/brood-bench-lang.XXXXXX");
    if (!mkdtemp(l->dir) || http_open(&l->http, o->http_port, &err) < 0)
        die(1, "%s", err.text[0] ? err.text : "no directory for the sources");
    unsigned rounds = o->rounds < 7 ? o->rounds : 7;
    for (unsigned round = 0; round < rounds; round++) {
        for (size_t i = 0; i < PAIRS; i++)
            pair_round(l, i, round % 2 == 0);
        requests_round(l, round);
    }
    int status = report(l);
    remove_sources(l);
    http_close(&l->http);
    buf_fini(&l->request);
    return status;
}
