/* SPDX-License-Identifier: Apache-2.0 */
/* cli/key - `brood key new|list|revoke`: edits a key file; the service is not asked and not told.
 *
 * The file is the operator's, with comments: an entry is appended as text or its lines are taken
 * out, and what came of it is read again before it replaces the old one, so that a file written in
 * some other style is refused rather than damaged. A new file is made beside it, synced and renamed
 * over it, under a lock on the directory: two at once wait for each other, and whoever reads sees
 * the old or the new one. A token exists in this process's memory and on its stdout only.
 */
#include "cli/cli.h"
#include "keys/keys.h"
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/num.h"
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#define FILE_DEFAULT "/etc/brood/keys.yaml"
#define RELOAD "a running service reads it on SIGHUP"

static const struct option options[] = {{"file", required_argument, NULL, 'f'},
                                        {"label", required_argument, NULL, 'l'},
                                        {"scopes", required_argument, NULL, 'S'},
                                        {"namespaces", required_argument, NULL, 'N'},
                                        {"rate", required_argument, NULL, 'r'},
                                        {"burst", required_argument, NULL, 'b'},
                                        {"expires", required_argument, NULL, 'e'},
                                        {"policy", required_argument, NULL, 'p'},
                                        {"timeout-ms", required_argument, NULL, 'T'},
                                        {"memory-mb", required_argument, NULL, 'M'},
                                        {"cpu-ms", required_argument, NULL, 'C'},
                                        {"json", no_argument, NULL, 'j'},
                                        {NULL, 0, NULL, 0}};

struct how {
    const char *file, *label, *scopes, *namespaces, *rate, *burst, *expires, *policy;
    const char *timeout_ms, *memory_mb, *cpu_ms;
    bool json;
};

/* The file between opening and replacing. */
struct edit {
    char path[PATH_MAX], dir[PATH_MAX], name[NAME_MAX + 1];
    int dir_fd; /* locked; -1 */
    struct stat old;
    bool is_there;
    char *text;
    size_t len;
    struct key_list list;
};

static const char *file_of(const struct how *how)
{
    const char *file = how->file ? how->file : getenv("BROOD_KEY_FILE");
    return file && *file ? file : FILE_DEFAULT;
}

/* Options of one of the three; 0 or CLI_USAGE. */
static int read_options(int argc, char **argv, const char *letters, struct how *ret)
{
    const struct {
        int letter;
        const char **to;
    } texts[] = {{'f', &ret->file},       {'l', &ret->label},  {'S', &ret->scopes},
                 {'N', &ret->namespaces}, {'r', &ret->rate},   {'b', &ret->burst},
                 {'e', &ret->expires},    {'p', &ret->policy}, {'T', &ret->timeout_ms},
                 {'M', &ret->memory_mb},  {'C', &ret->cpu_ms}};
    *ret = (struct how){0};
    for (int c; (c = cli_option(argc, argv, ":f:l:S:N:r:b:e:p:T:M:C:j", options)) != -1;) {
        bool known = c != '?' && strchr(letters, c);
        if (c != '?' && !known)
            cli_complain("key %s: that option is not for this (brood help key)", argv[0]);
        if (!known)
            return CLI_USAGE;
        ret->json |= c == 'j';
        for (size_t i = 0; i < ARRAY_LEN(texts); i++)
            if (texts[i].letter == c)
                *texts[i].to = optarg;
    }
    return 0;
}

/* ---- the file ----------------------------------------------------------------------------------
 */

static int split_path(struct edit *e, const char *file, struct err *err)
{
    char full[PATH_MAX];
    /* A link stays one: what it names is replaced. */
    (void)snprintf(full, sizeof full, "%s", file);
    char *real = realpath(file, NULL);
    if (real)
        (void)snprintf(full, sizeof full, "%s", real);
    free(real);
    char *slash = strrchr(full, '/');
    (void)snprintf(e->path, sizeof e->path, "%s", full);
    if (slash)
        *slash = 0;
    (void)snprintf(e->dir, sizeof e->dir, "%s", !slash ? "." : *full ? full : "/");
    const char *name = slash ? slash + 1 : full;
    if (!*name || strlen(name) > NAME_MAX - 4)
        return err_set(err, "%.200s: expected the name of a file", file);
    (void)snprintf(e->name, sizeof e->name, "%s", name);
    return 0;
}

static int read_text(struct edit *e, struct err *err)
{
    auto_close int fd = openat(e->dir_fd, e->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) {
        e->text = strdup("");
        return e->text ? 0 : err_sys(err, "%.200s", e->path);
    }
    if (fd < 0 || fstat(fd, &e->old) < 0)
        return err_sys(err, "%.200s", e->path);
    if (!S_ISREG(e->old.st_mode) || e->old.st_size > KEYS_FILE_BYTES_MAX)
        return err_set(err, "%.150s: expected a file of at most %u bytes", e->path,
                       KEYS_FILE_BYTES_MAX);
    e->is_there = true;
    e->text = malloc((size_t)e->old.st_size + 1);
    if (!e->text)
        return err_sys(err, "%.200s", e->path);
    while (e->len < (size_t)e->old.st_size) {
        ssize_t n = read(fd, e->text + e->len, (size_t)e->old.st_size - e->len);
        if (n < 0)
            return err_sys(err, "read %.200s", e->path);
        if (n == 0)
            break;
        e->len += (size_t)n;
    }
    e->text[e->len] = 0;
    return 0;
}

/* Locks and reads. `must`: it has to be there. */
static int open_file(struct edit *e, const char *file, bool must, struct err *err)
{
    int r = split_path(e, file, err);
    if (r < 0)
        return r;
    e->dir_fd = open(e->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (e->dir_fd < 0 || flock(e->dir_fd, LOCK_EX) < 0)
        return err_sys(err, "%.200s", e->dir);
    r = read_text(e, err);
    if (r == 0 && must && !e->is_there) {
        errno = ENOENT;
        r = err_sys(err, "%.200s", e->path);
    }
    if (r == 0)
        r = keys_read_file(e->text, e->len, e->path, &e->list, err);
    return r < 0 ? r : keys_check_list(&e->list, err);
}

static void close_file(struct edit *e)
{
    keys_list_fini(&e->list);
    free(e->text);
    fd_close(&e->dir_fd);
}

/* A new file has mode 0600, a replaced one keeps mode and owner. */
static int write_file(struct edit *e, const struct buf *text, struct err *err)
{
    char name[NAME_MAX + 1];
    (void)snprintf(name, sizeof name, "%.250s.new", e->name);
    (void)unlinkat(e->dir_fd, name, 0); /* of one that was killed; we hold the lock */
    auto_close int fd = openat(e->dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(err, "%.200s.new", e->path);
    int r = 0;
    if (e->is_there &&
        (fchown(fd, e->old.st_uid, e->old.st_gid) < 0 || fchmod(fd, e->old.st_mode & 07777) < 0))
        r = err_sys(err, "owner of %.200s.new", e->path);
    if (r == 0 && (fd_write_all(fd, text->data, text->len) < 0 || fsync(fd) < 0))
        r = err_sys(err, "write %.200s.new", e->path);
    if (r == 0 && renameat(e->dir_fd, name, e->dir_fd, e->name) < 0)
        r = err_sys(err, "replace %.200s", e->path);
    if (r < 0)
        (void)unlinkat(e->dir_fd, name, 0);
    else if (fsync(e->dir_fd) < 0)
        r = err_sys(err, "sync %.200s", e->dir);
    return r;
}

static bool is_same(const struct key_entry *a, const struct key_entry *b)
{
    return strcmp(a->key.label, b->key.label) == 0 &&
           memcmp(a->sha256, b->sha256, sizeof a->sha256) == 0;
}

/* Is `after` what `before` was, without entry `gone` (-1: none), perhaps with more at its end? */
static bool kept_others(const struct key_list *before, ssize_t gone, const struct key_list *after)
{
    size_t k = 0;
    for (size_t i = 0; i < before->count; i++) {
        if ((ssize_t)i == gone)
            continue;
        if (k == after->count || !is_same(&before->at[i], &after->at[k]))
            return false;
        k++;
    }
    return after->count == k + (gone < 0);
}

/* Reads again what is about to be written; <0: it is not what was meant. */
static int check_text(const struct edit *e, ssize_t gone, const struct buf *text, struct err *err)
{
    struct key_list after = {0};
    struct err why = {0};
    int r = text->failed ? -ENOMEM : keys_read_file(text->data, text->len, e->path, &after, &why);
    if (r == 0)
        r = keys_check_list(&after, &why);
    if (r == 0 && !kept_others(&e->list, gone, &after))
        r = -EINVAL;
    keys_list_fini(&after);
    return r < 0 ? err_set(err,
                           "%.150s: cannot be changed by this program, its entries are written in "
                           "another way than etc/keys.yaml's: nothing was done",
                           e->path)
                 : 0;
}

/* ---- new ---------------------------------------------------------------------------------------
 */

static int bad(const char *option, const char *value, const char *expected)
{
    cli_complain("key new: --%s: expected %s, got \"%.60s\"", option, expected, value);
    return CLI_USAGE;
}

/* "execute,runs" as "[execute, runs]"; false: an unknown one. */
static bool list_scopes(const char *text, char *ret, size_t room)
{
    char word[16];
    size_t n = (size_t)snprintf(ret, room, "[");
    for (const char *at = text; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        (void)snprintf(word, sizeof word, "%.*s", (int)strcspn(at, ","), at);
        if (!key_scope_of(word) || strcspn(at, ",") >= sizeof word || n + 20 > room)
            return false;
        n += (size_t)snprintf(ret + n, room - n, "%s%s", at == text ? "" : ", ", word);
    }
    (void)snprintf(ret + n, room - n, "]");
    return true;
}

static int check_new(const struct how *how, char *scopes, size_t room)
{
    int64_t ms;
    uint64_t n;
    double rate = 0;
    const struct {
        const char *name, *value;
        uint64_t least, most;
    } numbers[] = {{"burst", how->burst, 1, KEY_BURST_MAX},
                   {"timeout-ms", how->timeout_ms, 1, KEY_MS_MAX},
                   {"memory-mb", how->memory_mb, KEY_MEMORY_MB_MIN, KEY_MEMORY_MB_MAX},
                   {"cpu-ms", how->cpu_ms, 1, KEY_MS_MAX}};
    char expected[64];
    if (!how->label || !key_label_is_valid(how->label))
        return bad("label", how->label ? how->label : "", "1-64 characters of [A-Za-z0-9._@-]");
    if (!list_scopes(how->scopes ? how->scopes : "execute,runs,files", scopes, room))
        return bad("scopes", how->scopes, "some of execute,runs,files,namespaces,admin");
    if (how->namespaces && !key_pattern_is_valid(how->namespaces))
        return bad("namespaces", how->namespaces, "a namespace id, perhaps ending in *");
    if (how->expires && key_parse_time(how->expires, &ms) < 0)
        return bad("expires", how->expires, "a time such as 2027-01-01T00:00:00Z");
    if (how->policy && !key_policy_is_valid(how->policy))
        return bad("policy", how->policy, "the name of a policy");
    if (how->rate && key_parse_rate(how->rate, &rate) < 0)
        return bad("rate", how->rate, "requests per second, 0.001 to 1000000 or 0");
    if (how->burst && rate <= 0)
        return bad("burst", how->burst, "--rate beside it");
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        (void)snprintf(expected, sizeof expected, "a whole number from %" PRIu64 " to %" PRIu64,
                       numbers[i].least, numbers[i].most);
        if (numbers[i].value &&
            num_parse_u64(numbers[i].value, numbers[i].least, numbers[i].most, &n) < 0)
            return bad(numbers[i].name, numbers[i].value, expected);
    }
    return 0;
}

static void add_entry(const struct edit *e, const struct how *how, const char *scopes,
                      const char *hash, struct buf *text)
{
    const struct {
        const char *name, *value, *quote;
    } members[] = {{"rate", how->rate, ""},
                   {"burst", how->burst, ""},
                   {"namespaces", how->namespaces, "\""},
                   {"expires", how->expires, ""},
                   {"policy", how->policy, ""}},
      limits[] = {{"timeout_ms", how->timeout_ms, ""},
                  {"memory_mb", how->memory_mb, ""},
                  {"cpu_ms", how->cpu_ms, ""}};
    size_t column = e->list.count ? e->list.at[e->list.count - 1].column : 5;
    int indent = column > 2 && column < 40 ? (int)column - 1 : 4;
    bool any = false;
    (void)buf_add(text, e->text, e->len);
    if (e->len && e->text[e->len - 1] != '\n')
        (void)buf_add(text, "\n", 1);
    if (!e->list.count && strncmp(e->text, "keys:", 5) != 0 && !strstr(e->text, "\nkeys:"))
        (void)buf_addf(text, "keys:\n");
    (void)buf_addf(text, "%*slabel: \"%s\"\n%*ssha256: %s\n%*sscopes: %s\n", indent, "- ",
                   how->label, indent, "", hash, indent, "", scopes);
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        if (members[i].value)
            (void)buf_addf(text, "%*s%s: %s%s%s\n", indent, "", members[i].name, members[i].quote,
                           members[i].value, members[i].quote);
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        if (limits[i].value && !any)
            (void)buf_addf(text, "%*slimits:\n", indent, "");
        any |= limits[i].value != NULL;
        if (limits[i].value)
            (void)buf_addf(text, "%*s%s: %s\n", indent + 2, "", limits[i].name, limits[i].value);
    }
}

static int fail(const struct err *err)
{
    cli_complain("%s", err->text);
    return CLI_FAILED;
}

static int new_key(int argc, char **argv)
{
    struct how how;
    struct edit e = {.dir_fd = -1};
    struct buf text = {.cap = KEYS_FILE_BYTES_MAX};
    struct err err;
    char token[KEY_TOKEN_ROOM], hash[65], scopes[80];
    if (read_options(argc, argv, "flSNrbepTMC", &how) != 0 ||
        check_new(&how, scopes, sizeof scopes) != 0)
        return CLI_USAGE;
    if (optind < argc) {
        cli_complain("key new: unexpected argument %s", argv[optind]);
        return CLI_USAGE;
    }
    int r = open_file(&e, file_of(&how), false, &err);
    for (size_t i = 0; r == 0 && i < e.list.count; i++)
        if (strcmp(e.list.at[i].key.label, how.label) == 0)
            r = err_set(&err, "%.150s: there is a key %s already: revoke it first", e.path,
                        how.label);
    if (r == 0)
        r = keys_make_token(token, hash, &err);
    if (r == 0)
        add_entry(&e, &how, scopes, hash, &text);
    if (r == 0)
        r = check_text(&e, -1, &text, &err);
    if (r == 0)
        r = write_file(&e, &text, &err);
    if (r == 0) {
        (void)printf("%s\n", token);
        (void)fprintf(stderr,
                      "brood: added %s to %s, which keeps a hash only: the token above is not "
                      "shown again; " RELOAD "\n",
                      how.label, e.path);
    }
    explicit_bzero(token, sizeof token);
    buf_fini(&text);
    close_file(&e);
    if (r < 0)
        return fail(&err);
    return cli_flush() ? CLI_OK : CLI_FAILED;
}

/* ---- list --------------------------------------------------------------------------------------
 */

static void show_time(int64_t ms, char *ret, size_t room)
{
    time_t s = ms / 1000;
    struct tm tm;
    (void)gmtime_r(&s, &tm);
    (void)strftime(ret, room, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

/* Every text is of characters that neither JSON nor a terminal minds. */
static void print_key(const struct key *k, bool json, bool first)
{
    char scopes[64], expires[32] = "never", rate[40] = "-";
    bool gone = k->expires_ms && k->expires_ms <= (int64_t)time(NULL) * 1000;
    key_scope_names(k->scopes, scopes, sizeof scopes);
    if (k->expires_ms)
        show_time(k->expires_ms, expires, sizeof expires);
    if (k->rate > 0)
        (void)snprintf(rate, sizeof rate, "%.15g/s+%u", k->rate, k->burst);
    if (!json) {
        (void)printf("%-20s %-24s %-16s %-12s %s%s\n", k->label, scopes, k->namespaces, rate,
                     expires, gone ? " (expired)" : "");
        return;
    }
    (void)printf("%s\n  {\"label\": \"%s\", \"scopes\": \"%s\", \"namespaces\": \"%s\", "
                 "\"rate\": %.15g, \"burst\": %u, \"policy\": \"%s\", \"expires\": ",
                 first ? "" : ",", k->label, scopes, k->namespaces, k->rate, k->burst, k->policy);
    (void)printf("%s%s%s, \"expired\": %s}", k->expires_ms ? "\"" : "",
                 k->expires_ms ? expires : "null", k->expires_ms ? "\"" : "",
                 gone ? "true" : "false");
}

static int list_keys(int argc, char **argv)
{
    struct how how;
    struct key_list list = {0};
    struct err err;
    if (read_options(argc, argv, "fj", &how) != 0)
        return CLI_USAGE;
    if (optind < argc) {
        cli_complain("key list: unexpected argument %s", argv[optind]);
        return CLI_USAGE;
    }
    int r = keys_read_path(file_of(&how), &list, &err);
    if (r == 0)
        r = keys_check_list(&list, &err);
    if (r == 0 && how.json)
        (void)fputs("[", stdout);
    for (size_t i = 0; r == 0 && i < list.count; i++)
        print_key(&list.at[i].key, how.json, i == 0);
    if (r == 0 && how.json)
        (void)fputs(list.count ? "\n]\n" : "]\n", stdout);
    keys_list_fini(&list);
    if (r < 0)
        return fail(&err);
    return cli_flush() ? CLI_OK : CLI_FAILED;
}

/* ---- revoke ------------------------------------------------------------------------------------
 */

/* The line `number`, from 1; the end of the text behind the last. */
static const char *line_at(const struct edit *e, uint32_t number)
{
    const char *at = e->text, *end = e->text + e->len;
    for (uint32_t n = 1; n < number && at < end; n++) {
        const char *next = memchr(at, '\n', (size_t)(end - at));
        at = next ? next + 1 : end;
    }
    return at;
}

/* Comments and blank lines in front of the next entry are not this one's. */
static uint32_t own_end(const struct edit *e, const struct key_entry *entry)
{
    uint32_t line = entry->line_end;
    for (; line > entry->line + 1; line--) {
        const char *at = line_at(e, line - 1);
        at += strspn(at, " \t\r");
        if (*at && *at != '\n' && *at != '#')
            break;
    }
    return line;
}

static int revoke_one(const struct how *how, const char *label, struct err *err)
{
    struct edit e = {.dir_fd = -1};
    struct buf text = {.cap = KEYS_FILE_BYTES_MAX};
    size_t i = 0;
    int r = open_file(&e, file_of(how), true, err);
    while (r == 0 && i < e.list.count && strcmp(e.list.at[i].key.label, label) != 0)
        i++;
    if (r == 0 && i == e.list.count)
        r = err_set(err, "%.150s: there is no key %.64s", e.path, label);
    if (r == 0) {
        const char *from = line_at(&e, e.list.at[i].line);
        const char *to = line_at(&e, own_end(&e, &e.list.at[i]));
        (void)buf_add(&text, e.text, (size_t)(from - e.text));
        (void)buf_add(&text, to, (size_t)(e.text + e.len - to));
        r = check_text(&e, (ssize_t)i, &text, err);
    }
    if (r == 0)
        r = write_file(&e, &text, err);
    if (r == 0)
        (void)fprintf(stderr, "brood: took %s out of %s; " RELOAD "\n", label, e.path);
    buf_fini(&text);
    close_file(&e);
    return r;
}

static int revoke_keys(int argc, char **argv)
{
    struct how how;
    struct err err;
    int status = CLI_OK;
    if (read_options(argc, argv, "f", &how) != 0)
        return CLI_USAGE;
    if (optind == argc) {
        cli_complain("key revoke: expected a label (brood help key)");
        return CLI_USAGE;
    }
    for (int i = optind; i < argc; i++)
        if (revoke_one(&how, argv[i], &err) < 0)
            status = fail(&err);
    return status;
}

int cli_key(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } verbs[] = {{"new", new_key}, {"list", list_keys}, {"revoke", revoke_keys}};
    for (size_t i = 0; argc > 1 && i < ARRAY_LEN(verbs); i++)
        if (strcmp(argv[1], verbs[i].name) == 0)
            return verbs[i].run(argc - 1, argv + 1);
    cli_complain("key: expected new, list or revoke (brood help key)");
    return CLI_USAGE;
}
