/* SPDX-License-Identifier: Apache-2.0 */
/* t/unit/settings - the configuration: which source wins, what is refused and how that is named. */
#include "supervisor/settings.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/tap.h"
#include <fcntl.h>
#include <sys/stat.h>

static struct settings set;
static struct settings_files files;
static struct err err;
static char dir[] = "/tmp/brood-settings-XXXXXX", repo[PATH_MAX];

static void write_file(const char *name, const char *text)
{
    auto_close int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || fd_write_all(fd, text, strlen(text)) < 0)
        die(1, "%s: %s", name, strerror(errno));
}

/* settings_load with up to three words as flags; the descriptors are closed again. */
static int load(const char *a, const char *b, const char *c)
{
    static char words[4][200];
    static char *argv[5];
    const char *given[] = {"brood-supervisor", a, b, c};
    int argc = 0;
    for (; argc < 4 && given[argc]; argc++) {
        (void)snprintf(words[argc], sizeof words[argc], "%s", given[argc]);
        argv[argc] = words[argc];
    }
    argv[argc] = NULL;
    err = (struct err){.code = 0};
    files.yaml_fd = files.dotenv_fd = -1;
    int r = settings_load(argc, argv, &set, &files, &err);
    if (r == 0) {
        fd_close(&files.yaml_fd);
        fd_close(&files.dotenv_fd);
    }
    return r;
}

static int load_yaml(const char *text)
{
    write_file("b.yaml", text);
    return load("--config", "b.yaml", NULL);
}

static void refused(int r, const char *part, const char *what)
{
    ok(r < 0 && err.code < 0 && strstr(err.text, part), "%s is refused: %s", what, err.text);
}

static void test_defaults(void)
{
    static struct settings plain;
    char path[PATH_MAX + 32];
    write_file("empty.yaml", "");
    ok(load("--config", "empty.yaml", NULL) == 0, "an empty file will do %s", err.text);
    plain = set;
    ok(set.http_port == 8080 && set.memory_bytes == 512u << 20 && set.idle_ms == 600000 &&
           set.timeout_ms_default == 30000 && set.tmp_bytes == 64u << 20 && set.spares == 8,
       "units are stored as bytes and ms");
    ok(set.zygote == SETTINGS_ZYGOTE_AUTO && set.log_level == LOG_LEVEL_INFO, "words as enums");
    (void)snprintf(path, sizeof path, "%s/namespaces", dir);
    ok(strcmp(set.fs_root, path) == 0, "paths are absolute: %s", set.fs_root);
    ok(set.lib_dir[0] == '/', "lib_dir is found: %s", set.lib_dir);
    (void)snprintf(path, sizeof path, "%.4000s/etc/brood.yaml", repo);
    ok(load("--config", path, NULL) == 0, "etc/brood.yaml is read %s", err.text);
    ok(memcmp(&plain, &set, sizeof set) == 0, "and says exactly the defaults");
}

/* Every key of the table must stand in etc/brood.yaml, so that the document cannot fall behind. */
static void test_documented(void)
{
    char path[PATH_MAX + 32], text[16384];
    int keys = 0;
    (void)snprintf(path, sizeof path, "%.4000s/etc/brood.yaml", repo);
    auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    for (char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        const char *at = line + strspn(line, " ");
        size_t name = strspn(at, "abcdefghijklmnopqrstuvwxyz_");
        keys += name > 0 && at[name] == ':' && at[name + 1] == ' ';
    }
    ok(keys == 111, "etc/brood.yaml has all 111 keys: %d", keys);
}

static void test_pairs(void)
{
    refused(load("--v1-runs-memory-default", "1G", NULL), "at most v1_runs.memory_max_mb",
            "a default over its ceiling");
    ok(load("--v1-runs-timeout-max", "2s", NULL) == 0 && set.v1.timeout_ms.fallback == 2000,
       "a lower ceiling lowers the default");
    ok(load("--limits-memory-mb", "64", NULL) == 0 && set.tmp_bytes == 16u << 20,
       "less memory lowers the default of /tmp %s", err.text);
    ok(load("--limits-memory", "128M", NULL) == 0 && set.tmp_bytes == 32u << 20,
       "what the man page shows is taken %s", err.text);
    refused(load("--limits-memory=128M", "--limits-tmp", "64M"), "--limits-tmp: expected less than",
            "but no /tmp that was asked for");
}

/* What a guess would be wrong about is left out: then a signed URL is a path. */
static void test_base_url(void)
{
    static const struct {
        const char *listen, *url;
    } of[] = {{"127.0.0.1", "http://127.0.0.1:8080"},
              {"localhost", "http://localhost:8080"},
              {"192.0.2.1", "http://192.0.2.1:8080"},
              {"::1", "http://[::1]:8080"},
              {"2001:db8::1", "http://[2001:db8::1]:8080"},
              {"0.0.0.0", ""},
              {"::", ""}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++)
        ok(load("--key-file=/keys.yaml", "--http-listen", of[i].listen) == 0 &&
               strcmp(set.public_base_url, of[i].url) == 0,
           "URLs of who listens on %s: \"%s\" %s", of[i].listen, set.public_base_url, err.text);
}

static void test_order(void)
{
    ok(load_yaml("http:\n  port: 1001\nruns: {queue_max: 7}\n") == 0 && set.http_port == 1001 &&
           set.queue_max == 7,
       "file over default %s", err.text);
    write_file(".env", "# mine\nexport BROOD_HTTP_PORT='1002' # x\nOTHER=1\n\n");
    ok(load("--config", "b.yaml", NULL) == 0 && set.http_port == 1002, ".env over file %s",
       err.text);
    (void)setenv("PORT", "1003", 1);
    ok(load("--config", "b.yaml", NULL) == 0 && set.http_port == 1003, "environment over .env");
    (void)setenv("BROOD_HTTP_PORT", "1004", 1);
    ok(load("--config", "b.yaml", NULL) == 0 && set.http_port == 1004, "BROOD_HTTP_PORT over PORT");
    ok(load("--config=b.yaml", "--http-port", "1005") == 0 && set.http_port == 1005,
       "flag over environment");
    ok(load("--config=b.yaml", "--port=1006", NULL) == 0 && set.http_port == 1006, "--port=N");
    (void)setenv("BROOD_CONFIG", "b.yaml", 1);
    ok(load(NULL, NULL, NULL) == 0 && set.queue_max == 7, "BROOD_CONFIG names the file");
    (void)unsetenv("BROOD_CONFIG");
    (void)unsetenv("PORT");
    (void)unsetenv("BROOD_HTTP_PORT");
    (void)setenv("SANDBOX_FS_ROOT", "./x", 1);
    ok(load(NULL, NULL, NULL) == 0 && strstr(set.fs_root, "/x"), "SANDBOX_FS_ROOT: %s",
       set.fs_root);
    (void)unsetenv("SANDBOX_FS_ROOT");
    (void)unlink(".env");
}

static void test_flags(void)
{
    ok(load("--limits-memory=128M", "--limits-tmp", "32M") == 0 && set.memory_bytes == 128u << 20 &&
           set.tmp_bytes == 32u << 20,
       "sizes with a unit %s", err.text);
    ok(load("--runs-grace=300ms", "--namespaces-idle", "2m") == 0 && set.grace_ms == 300 &&
           set.idle_ms == 120000,
       "durations with a unit %s", err.text);
    ok(load("--limits-memory-mb", "200", NULL) == 0 && set.memory_bytes == 200u << 20,
       "the full name");
    ok(load("--runs-timeout-max", "5s", NULL) == 0 && set.timeout_ms_default == 5000,
       "a lower maximum lowers the default that nobody set");
    refused(load("--runs-grace", "300", NULL), "--runs-grace: expected a number with its unit",
            "a duration without unit");
    refused(load("--runs-grace-ms", "300ms", NULL), "--runs-grace-ms: expected a whole number",
            "a unit too many");
    refused(load("--limits-memory=1M", NULL, NULL), "--limits-memory: expected a whole number",
            "too little, under the name that was given");
    refused(load("--nonsense", "1", NULL), "--nonsense: unknown flag", "an unknown flag");
    refused(load("--http-port", NULL, NULL), "--http-port: expected a value",
            "a flag without value");
    refused(load("stray", NULL, NULL), "\"stray\": expected", "a word");
    refused(load("--config", "none.yaml", NULL), "none.yaml", "a missing file");
    ok(load("--version", NULL, NULL) == SETTINGS_VERSION, "--version");
}

static void test_bad_files(void)
{
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"http:\n  port: 1\n  prot: 2\n", "b.yaml:3: http.prot: unknown key"},
        {"\nnonsense: 1\n", "b.yaml:2: nonsense: unknown key"},
        {"http:\n  port: 70000\n", "b.yaml:2: http.port: expected a whole number from 0 to 65535"},
        {"http:\n  port: -1\n", "b.yaml:2: http.port: expected"},
        {"runs:\n  queue_max: many\n", "b.yaml:2: runs.queue_max: expected a whole number"},
        {"limits:\n  memory_mb: 15\n",
         "b.yaml:2: limits.memory_mb: expected a whole number from 16"},
        {"limits:\n  memory_mb: 99999999999999999999\n", "b.yaml:2: limits.memory_mb: expected"},
        {"limits:\n  memory: 64M\n", "b.yaml:2: limits.memory: unknown key"},
        {"log:\n\n  level: loud\n", "b.yaml:3: log.level: expected debug, info, warn or error"},
        {"http: 8080\n", "b.yaml:1: http: expected"},
        {"socket: [a]\n", "b.yaml:1: socket: expected a single value"},
        {"socket: a\nzygote: exec\nsocket: b\n", "b.yaml:3: socket: given twice"},
        {"socket: 'a\n", "b.yaml:"},
        {"- a\n", "b.yaml:1: expected"},
        {"socket: &a x\nfs_root: *a\n", "b.yaml:2: fs_root: expected"},
        {"http:\n  listen: 0.0.0.0\n", "b.yaml:2: http.listen: expected a loopback"},
        {"limits:\n  memory_mb: 100\n  tmp_mb: 50\n",
         "b.yaml:3: limits.tmp_mb: expected less than half"},
        {"runs:\n  timeout_max_ms: 10\n  timeout_default_ms: 11\n",
         "b.yaml:3: runs.timeout_default_ms: expected at most"},
        {"uid_base: 4290000000\n", "b.yaml:1: uid_base: expected room"},
        {"http:\n  port: 0\n", "b.yaml:2: http.port: expected a port"},
        {"socket: \"\"\n", "b.yaml:1: socket: expected a path"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        refused(load_yaml(bad[i].text), bad[i].part, bad[i].part);
}

static void test_bad_variables(void)
{
    static const char big[] = "socket: /run/"
                              "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                              "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n";
    (void)setenv("BROOD_NONSENSE", "1", 1);
    refused(load(NULL, NULL, NULL), "environment: BROOD_NONSENSE: unknown", "an unknown variable");
    (void)unsetenv("BROOD_NONSENSE");
    (void)setenv("BROOD_LOG_LEVEL", "loud", 1);
    refused(load(NULL, NULL, NULL), "environment: BROOD_LOG_LEVEL: expected debug", "a bad value");
    (void)unsetenv("BROOD_LOG_LEVEL");
    write_file(".env", "A=1\nBROOD_RUNS_QUEUE_MAX=0\n");
    refused(load(NULL, NULL, NULL), "/.env:2: BROOD_RUNS_QUEUE_MAX: expected", "a bad .env value");
    write_file(".env", "A=1\nBROOD_QUEUE=0\n");
    refused(load(NULL, NULL, NULL), "/.env:2: BROOD_QUEUE: unknown", "an unknown .env name");
    write_file(".env", "what is this\n");
    refused(load(NULL, NULL, NULL), "/.env:1: expected NAME=VALUE", "a line of something else");
    (void)unlink(".env");
    refused(load_yaml(big), "b.yaml:1: socket: expected at most 107",
            "a socket path beyond sun_path");
}

static void test_reload(void)
{
    static struct settings running, fresh;
    (void)unlink(".env");
    ok(load_yaml("runs: {queue_max: 5}\nlimits: {pids: 50}\n") == 0, "loaded %s", err.text);
    running = set;
    write_file("b.yaml", "runs: {queue_max: 6}\nlimits: {pids: 60}\n");
    files.yaml_fd = open("b.yaml", O_RDONLY | O_CLOEXEC);
    ok(settings_reload(&files, &fresh, &err) == 0 && fresh.queue_max == 6,
       "reread from a descriptor");
    settings_apply(&running, &fresh);
    ok(running.queue_max == 6 && running.pids_max == 50, "only keys marked R take effect");
    write_file("b.yaml", "runs: {queue_max: x}\n");
    ok(settings_reload(&files, &fresh, &err) < 0 && fresh.queue_max == 6,
       "a bad file changes nothing");
    fd_close(&files.yaml_fd);
}

int main(void)
{
    if (!getcwd(repo, sizeof repo) || !mkdtemp(dir) || chdir(dir) < 0)
        return 1;
    int before = fd_count_open();
    test_defaults();
    test_documented();
    test_pairs();
    test_base_url();
    test_order();
    test_flags();
    test_bad_files();
    test_bad_variables();
    test_reload();
    ok(fd_count_open() == before, "no descriptor left behind");
    (void)unlink("b.yaml");
    (void)unlink("empty.yaml");
    (void)rmdir(dir);
    return tap_done();
}
