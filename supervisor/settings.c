/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/settings - reads the configuration from all its sources, in the order of their weight.
 *
 * Defaults, then the YAML file, ./.env, the environment, the flags: each is written over the one
 * before, through setting_store(). Then paths are made absolute and what concerns two settings is
 * checked (settings_check.c). A reload is the same walk again with the same arguments and
 * environment; only the files are read anew, from descriptors, since the engine may not open them.
 * Nothing here needs rights.
 */
#include "supervisor/settings.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "supervisor/settings_impl.h"
#include <ctype.h>
#include <fcntl.h>

#define DEFAULT_FILE "/etc/brood/brood.yaml"
#define VERSION "brood-supervisor 0.1\n"

/* Of the first reading; a reload must not depend on what became of them since. */
static struct {
    int argc;
    char **argv;
    char cwd[PATH_MAX], lib_dir[PATH_MAX];
    bool has_keys;
} origin;

/* ---- files -------------------------------------------------------------------------------- */

/* All of a file, NUL-terminated, from its start. The caller frees *ret. */
static int read_all(int fd, const char *path, char **ret, size_t *ret_len, struct err *err)
{
    auto_free char *text = malloc(SETTINGS_FILE_BYTES_MAX + 1);
    size_t len = 0;
    if (!text)
        return err_sys(err, "%s", path);
    for (;;) {
        ssize_t n = SYS(pread(fd, text + len, SETTINGS_FILE_BYTES_MAX + 1 - len, (off_t)len));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, "read %s", path);
        if (n == 0)
            break;
        len += (size_t)n;
        if (len > SETTINGS_FILE_BYTES_MAX)
            return err_set(err, "%s: expected at most %d bytes", path, SETTINGS_FILE_BYTES_MAX);
    }
    text[len] = 0;
    if (strlen(text) != len)
        return err_set(err, "%s: expected text, got a NUL byte", path);
    *ret = ptr_take(&text);
    *ret_len = len;
    return 0;
}

static int read_yaml(struct settings_reading *r, int fd)
{
    auto_free char *text = NULL;
    size_t len;
    int result = read_all(fd, r->yaml_path, &text, &len, r->err);
    if (result < 0)
        return result;
    result = settings_read_yaml(r, text, len);
    explicit_bzero(text, len);
    return result;
}

/* ---- variables ---------------------------------------------------------------------------- */

static bool is_ours(const char *name)
{
    return strncmp(name, "BROOD_", 6) == 0;
}

/* Values of one source are taken in two rounds, so that BROOD_HTTP_PORT wins over PORT. */
static int take_variable(struct settings_reading *r, enum settings_source source, unsigned line,
                         bool ours, const char *name, const char *value)
{
    if (is_ours(name) != ours || (source == SETTINGS_ENV && strcmp(name, "BROOD_CONFIG") == 0))
        return 0;
    int index = setting_find_env(name);
    if (index >= 0)
        return setting_store(r, index, source, line, false, value);
    if (!ours)
        return 0; /* somebody else's */
    if (source == SETTINGS_DOTENV)
        return err_set(r->err, "%.100s:%u: %.60s: unknown: expected a name from brood.yaml(5)",
                       r->dotenv_path, line, name);
    return err_set(r->err, "environment: %.60s: unknown: expected a name from brood.yaml(5)", name);
}

/* Splits "[export] NAME=VALUE" in place; the value may be in quotes. False: it is no such line. */
static bool split_line(char *line, char **ret_name, char **ret_value)
{
    line += strspn(line, " \t");
    if (strncmp(line, "export ", 7) == 0)
        line += 7 + strspn(line + 7, " \t");
    char *equals = strchr(line, '='), *value = equals ? equals + 1 : line;
    size_t len = strlen(value);
    if (!equals || strcspn(line, " \t='\"") != (size_t)(equals - line) || equals == line)
        return false;
    *equals = 0;
    *ret_name = line;
    if (*value == '"' || *value == '\'') {
        char *end = strchr(value + 1, *value);
        if (!end ||
            (end[1 + strspn(end + 1, " \t")] != 0 && end[1 + strspn(end + 1, " \t")] != '#'))
            return false;
        *end = 0;
        *ret_value = value + 1;
        return true;
    }
    char *comment = strstr(value, " #");
    if (comment)
        len = (size_t)(comment - value);
    while (len > 0 && isspace((unsigned char)value[len - 1]))
        len--;
    value[len] = 0;
    *ret_value = value;
    return true;
}

/* Destroys the text. */
static int take_dotenv_round(struct settings_reading *r, char *text, bool ours)
{
    unsigned number = 0;
    for (char *line = text, *next; line; line = next) {
        char *name, *value;
        number++;
        next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        line[strcspn(line, "\r")] = 0;
        line += strspn(line, " \t");
        if (!*line || *line == '#')
            continue;
        if (!split_line(line, &name, &value))
            return err_set(r->err, "%.100s:%u: expected NAME=VALUE", r->dotenv_path, number);
        int result = take_variable(r, SETTINGS_DOTENV, number, ours, name, value);
        if (result < 0)
            return result;
    }
    return 0;
}

static int read_dotenv(struct settings_reading *r, int fd)
{
    auto_free char *text = NULL;
    size_t len;
    int result = read_all(fd, r->dotenv_path, &text, &len, r->err);
    auto_free char *copy = result == 0 ? strdup(text) : NULL;
    if (result == 0 && !copy)
        result = err_sys(r->err, "%s", r->dotenv_path);
    if (result < 0)
        return result;
    result = take_dotenv_round(r, copy, false);
    if (result == 0)
        result = take_dotenv_round(r, text, true);
    explicit_bzero(text, len);
    explicit_bzero(copy, len);
    return result;
}

static int read_environment(struct settings_reading *r)
{
    for (int ours = 0; ours < 2; ours++)
        for (char **at = environ; at && *at; at++) {
            char name[80];
            const char *equals = strchr(*at, '=');
            if (!equals)
                continue;
            (void)snprintf(name, sizeof name, "%.*s", (int)(equals - *at), *at);
            int result = take_variable(r, SETTINGS_ENV, 0, ours, name, equals + 1);
            if (result < 0)
                return result;
        }
    return 0;
}

/* ---- flags -------------------------------------------------------------------------------- */

/* The flag at argv[*at]: its name without --, its value; *at moves to its last word. */
static int next_flag(int *at, const char **ret_name, size_t *ret_len, const char **ret_value,
                     struct err *err)
{
    const char *word = origin.argv[*at];
    if (strncmp(word, "--", 2) != 0 || !word[2])
        return err_set(err, "\"%.60s\": expected --KEY VALUE (see --help)", word);
    *ret_name = word + 2;
    *ret_len = strcspn(word + 2, "=");
    if (word[2 + *ret_len] == '=')
        *ret_value = word + 2 + *ret_len + 1;
    else if (*at + 1 < origin.argc)
        *ret_value = origin.argv[++*at];
    else
        return err_set(err, "%.60s: expected a value after it", word);
    return 0;
}

static int read_flags(struct settings_reading *r)
{
    for (int i = 1; i < origin.argc; i++) {
        const char *name, *value;
        size_t len;
        bool bare;
        int result = next_flag(&i, &name, &len, &value, r->err);
        if (result < 0)
            return result;
        if (len == 6 && memcmp(name, "config", 6) == 0)
            continue;
        int index = setting_find_flag(name, len, &bare);
        if (index < 0)
            return err_set(r->err, "--%.*s: unknown flag: expected one of those in --help",
                           (int)(len < 60 ? len : 60), name);
        result = setting_store(r, index, SETTINGS_FLAG, 0, bare, value);
        if (result < 0)
            return result;
    }
    return 0;
}

static int help_or_version(void)
{
    for (int i = 1; i < origin.argc; i++) {
        if (strcmp(origin.argv[i], "--help") == 0 || strcmp(origin.argv[i], "-h") == 0) {
            settings_print_help();
            return SETTINGS_HELP;
        }
        if (strcmp(origin.argv[i], "--version") == 0) {
            (void)fputs(VERSION, stdout);
            return SETTINGS_VERSION;
        }
    }
    return 0;
}

/* ---- the whole ---------------------------------------------------------------------------- */

static int make_absolute(struct settings_reading *r, int index)
{
    const struct setting *s = &settings_table[index];
    char *path = (char *)r->set + s->offset, full[2 * PATH_MAX];
    const char *rest = path;
    if (s->type != SETTING_PATH || !*path || *path == '/')
        return 0;
    while (rest[0] == '.' && rest[1] == '/')
        rest += 2 + strspn(rest + 2, "/");
    (void)snprintf(full, sizeof full, "%s/%s", strcmp(origin.cwd, "/") ? origin.cwd : "", rest);
    if (strlen(full) >= s->size)
        return setting_refuse(r, index, "expected at most %zu bytes, got %zu as an absolute path",
                              s->size - 1, strlen(full));
    memcpy(path, full, strlen(full) + 1);
    return 0;
}

static int read_sources(const struct settings_files *files, struct settings *ret, struct err *err)
{
    static struct settings set; /* written to *ret only as a whole */
    struct settings_reading r = {.set = &set,
                                 .yaml_path = files->yaml_path,
                                 .dotenv_path = files->dotenv_path,
                                 .had_keys = origin.has_keys,
                                 .err = err};
    int result = 0;
    memset(&set, 0, sizeof set);
    for (int i = 0; i < SETTINGS_COUNT && result == 0; i++)
        result = setting_store(&r, i, SETTINGS_DEFAULT, 0, false, settings_table[i].initial);
    if (result == 0 && files->yaml_fd >= 0)
        result = read_yaml(&r, files->yaml_fd);
    if (result == 0 && files->dotenv_fd >= 0)
        result = read_dotenv(&r, files->dotenv_fd);
    if (result == 0)
        result = read_environment(&r);
    if (result == 0)
        result = read_flags(&r);
    if (!*set.lib_dir)
        memcpy(set.lib_dir, origin.lib_dir, sizeof set.lib_dir);
    for (int i = 0; i < SETTINGS_COUNT && result == 0; i++)
        result = make_absolute(&r, i);
    if (result == 0)
        result = settings_check(&r);
    if (result == 0)
        *ret = set;
    explicit_bzero(set.api_keys, sizeof set.api_keys);
    return result;
}

/* Their bytes go where the kernel shows them to root, /proc/PID/environ and cmdline, and to our own
 * children. */
static void forget_secrets(void)
{
    for (size_t n = 0; environ && environ[n];) {
        char name[80], *equals = strchr(environ[n], '=');
        (void)snprintf(name, sizeof name, "%.*s", (int)(equals ? equals - environ[n] : 0),
                       environ[n]);
        int index = setting_find_env(name);
        if (index < 0 || !settings_table[index].secret) {
            n++;
            continue;
        }
        explicit_bzero(equals + 1, strlen(equals + 1));
        (void)unsetenv(name); /* the others move up */
    }
    for (int i = 1; i < origin.argc; i++) {
        const char *name, *value;
        struct err err;
        size_t len;
        bool bare;
        if (next_flag(&i, &name, &len, &value, &err) < 0)
            return;
        int index = setting_find_flag(name, len, &bare);
        if (index >= 0 && settings_table[index].secret)
            explicit_bzero((char *)(uintptr_t)value, strlen(value));
    }
}

/* Beside this program if brood-frontend is there (a build), else ../lib/brood (installed). */
static void find_lib_dir(void)
{
    char exe[PATH_MAX], beside[PATH_MAX + 32];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = 0;
    char *slash = strrchr(exe, '/');
    if (slash)
        *slash = 0;
    (void)snprintf(beside, sizeof beside, "%s/brood-frontend", exe);
    if (access(beside, F_OK) == 0) {
        (void)snprintf(origin.lib_dir, sizeof origin.lib_dir, "%s", exe);
        return;
    }
    slash = strrchr(exe, '/');
    if (slash)
        *slash = 0;
    (void)snprintf(origin.lib_dir, sizeof origin.lib_dir, "%.4000s/lib/brood", exe);
}

/* --config, BROOD_CONFIG or the usual place; only what was asked for must be there. */
static int open_yaml(struct settings_files *files, struct err *err)
{
    const char *path = getenv("BROOD_CONFIG"), *name, *value;
    size_t len;
    for (int i = 1; i < origin.argc; i++) {
        int result = next_flag(&i, &name, &len, &value, err);
        if (result < 0)
            return result;
        if (len == 6 && memcmp(name, "config", 6) == 0)
            path = value;
    }
    bool asked = path != NULL;
    if (!asked)
        path = DEFAULT_FILE;
    files->yaml_fd = SYS(open(path, O_RDONLY | O_CLOEXEC));
    if (files->yaml_fd < 0 && (asked || errno != ENOENT))
        return err_sys(err, "configuration file %.200s", path);
    if (files->yaml_fd < 0)
        return 0;
    int n = *path == '/'
                ? snprintf(files->yaml_path, sizeof files->yaml_path, "%s", path)
                : snprintf(files->yaml_path, sizeof files->yaml_path, "%s/%s", origin.cwd, path);
    return n < (int)sizeof files->yaml_path
               ? 0
               : err_set(err, "configuration file: expected a shorter path");
}

static int open_dotenv(struct settings_files *files, struct err *err)
{
    (void)snprintf(files->dotenv_path, sizeof files->dotenv_path, "%.4000s/.env",
                   strcmp(origin.cwd, "/") ? origin.cwd : "");
    files->dotenv_fd = SYS(open(".env", O_RDONLY | O_CLOEXEC));
    if (files->dotenv_fd < 0 && errno != ENOENT)
        return err_sys(err, "%.200s", files->dotenv_path);
    return 0;
}

int settings_load(int argc, char **argv, struct settings *ret, struct settings_files *ret_files,
                  struct err *err)
{
    static struct settings_files files;
    memset(&files, 0, sizeof files);
    files.yaml_fd = files.dotenv_fd = -1;
    origin.argc = argc;
    origin.argv = argv;
    origin.has_keys = false;
    int result = help_or_version();
    if (result)
        return result;
    if (!getcwd(origin.cwd, sizeof origin.cwd))
        return err_sys(err, "working directory");
    find_lib_dir();
    result = open_yaml(&files, err);
    if (result == 0)
        result = open_dotenv(&files, err);
    if (result == 0)
        result = read_sources(&files, ret, err);
    if (result < 0) {
        fd_close(&files.yaml_fd);
        fd_close(&files.dotenv_fd);
        return result;
    }
    *ret_files = files;
    origin.has_keys = *ret->key_file || *ret->api_keys;
    forget_secrets();
    return 0;
}

int settings_reload(const struct settings_files *files, struct settings *ret, struct err *err)
{
    int result = read_sources(files, ret, err);
    if (result == 0)
        explicit_bzero(ret->api_keys, sizeof ret->api_keys);
    return result;
}

void settings_apply(struct settings *set, const struct settings *fresh)
{
    for (int i = 0; i < SETTINGS_COUNT; i++) {
        const struct setting *s = &settings_table[i];
        if (s->reloadable)
            memcpy((char *)set + s->offset, (const char *)fresh + s->offset, s->size);
    }
}
