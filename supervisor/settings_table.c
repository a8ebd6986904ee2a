/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/settings_table - every setting once: name, type, range, default, help.
 *
 * Names in the file, environment variables, flags, --help and the YAML schema are all derived from
 * this table, and etc/brood.yaml is tested against it. A value is text in every source and is
 * checked in one place, setting_store(). Runs in the supervisor, before it splits, and in the
 * engine on reload.
 */
#include "lib/err.h"
#include "lib/num.h"
#include "protocol/protocol.h"
#include "supervisor/settings_impl.h"
#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>

#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define TIB (1024 * GIB)
#define MS_MAX PROTO_TIMEOUT_MS_MAX
#define YEARS_MS (10ull * 365 * MS_MAX)
#define ARTIFACTS_MAX 100u /* STORE_ARTIFACTS_MAX */
#define UID_BASE_MIN 262144u
#define UID_BASE_MAX 4290772992ull

static const char *const zygote_words[] = {"auto", "bash", "exec", NULL};
static const char *const memory_words[] = {"recycled", "fresh", NULL};
static const char *const network_words[] = {"none", "egress", NULL};
static const char *const bool_words[] = {"false", "true", NULL};
static const char *const format_words[] = {"text", "json", NULL};
static const char *const level_words[] = {"debug", "info", "warn", "error", NULL};

#define AT(m) offsetof(struct settings, m), sizeof(((struct settings *)0)->m)
#define TEXT(n, m, least, dflt, ...)                                                               \
    {                                                                                              \
        .name = n, .type = SETTING_TEXT, false, AT(m), least,                                      \
        sizeof(((struct settings *)0)->m) - 1, dflt, __VA_ARGS__                                   \
    }
#define PATH(n, m, least, dflt, ...)                                                               \
    {                                                                                              \
        .name = n, .type = SETTING_PATH, false, AT(m), least,                                      \
        sizeof(((struct settings *)0)->m) - 1, dflt, __VA_ARGS__                                   \
    }
#define FIXED(n, m, lo, hi, dflt, h)                                                               \
    {                                                                                              \
        .name = n, .type = SETTING_U64, false, AT(m), lo, hi, dflt, .help = h                      \
    }
#define LIVE(n, m, lo, hi, dflt, h)                                                                \
    {                                                                                              \
        .name = n, .type = SETTING_U64, true, AT(m), lo, hi, dflt, .help = h                       \
    }

/* clang-format off */
const struct setting settings_table[SETTINGS_COUNT] = {
    PATH("fs_root", fs_root, 1, "./namespaces", .also_env = "SANDBOX_FS_ROOT", .help = "directory of the namespaces' files"),
    PATH("state_dir", state_dir, 0, "", .help = "directory of stored runs and files; empty: fs_root with .state behind it"),
    PATH("socket", socket, 1, "/run/brood/brood.sock", .help = "the engine's Unix socket"),
    TEXT("socket_users", socket_users, 0, "", .help = "comma list of users and @groups who may run over the socket; root always"),
    TEXT("socket_admins", socket_admins, 0, "", .help = "the same for those who may also see and remove namespaces"),
    PATH("lib_dir", lib_dir, 0, "", .help = "where brood-frontend and brood-zygote are; empty: found beside the supervisor"),
    PATH("image", image, 1, "/", .help = "root image whose /usr, /bin and /lib* the commands see"),
    TEXT("user_engine", user_engine, 0, "", .help = "user of the engine; empty: a number that nobody has"),
    TEXT("user_frontend", user_frontend, 0, "", .help = "user of the frontend; empty: a number that nobody has"),
    TEXT("user_courier", user_courier, 0, "", .help = "user of the courier of webhooks; empty: a number that nobody has"),
    FIXED("uid_base", uid_base, UID_BASE_MIN, UID_BASE_MAX, "1073741824", "first host uid for namespaces, 65536 for each"),
    {.name = "zygote", .type = SETTING_WORD, false, AT(zygote), 0, 0, "auto", zygote_words, .help = "auto, bash or exec"},
    PATH("policy_file", policy_file, 1, SETTINGS_POLICY_FILE, .help = "YAML file of the policies; the default one may be absent"),
    TEXT("languages_dir", languages_dir, 0, "", .help = "directory of language files; empty: the ten that ship, none: none"),
    TEXT("optional_layers", optional_layers, 0, "", .help = "comma list of isolation layers that may be missing"),
    PATH("key_file", key_file, 0, "", .help = "YAML file of the keys (brood key); empty: none"),
    TEXT("api_keys", api_keys, 0, "", .also_env = "API_KEYS", .help = "comma list of TOKEN:LABEL[:RPS[:BURST]]; better: key_file", .secret = true),
    TEXT("http.listen", http_listen, 1, "127.0.0.1", .help = "address of the TCP listener; without keys a loopback one"),
    {.name = "http.port", .type = SETTING_U32, false, AT(http_port), 0, 65535, "8080", NULL, "PORT", "port", "TCP port; 0: no TCP listener"},
    PATH("http.socket", http_socket, 0, "", .help = "HTTP over this Unix socket; empty: none"),
    FIXED("http.threads", threads, 0, 256, "0", "threads of the frontend; 0: one per four processors"),
    LIVE("http.body_max_kb", body_bytes_max, KIB, 16 * MIB, "1024", "largest request body"),
    LIVE("http.connections_max", connections_max, 1, 100000, "4096", "connections at once"),
    LIVE("http.request_timeout_ms", request_timeout_ms, 1, MS_MAX, "10000", "a request must have arrived after"),
    LIVE("http.idle_timeout_ms", idle_timeout_ms, 1, MS_MAX, "60000", "an idle connection is closed after"),
    LIVE("http.write_timeout_ms", write_timeout_ms, 1, MS_MAX, "30000", "a client that does not read is dropped after"),
    LIVE("files.upload_max_mb", upload_bytes_max, MIB, 4 * GIB, "64", "largest body of an upload"),
    LIVE("files.uploads_held_mb", uploads_held_max, MIB, TIB, "256", "bodies of uploads held at once, together"),
    LIVE("runs.timeout_default_ms", timeout_ms_default, 1, MS_MAX, "30000", "deadline of a run that names none"),
    LIVE("runs.timeout_max_ms", timeout_ms_max, 1, MS_MAX, "300000", "longest deadline a request may ask for"),
    LIVE("runs.grace_ms", grace_ms, 1, 60000, "100", "from SIGTERM to SIGKILL at the deadline"),
    LIVE("runs.output_max_kb", output_bytes_max, KIB, GIB, "1024", "returned of stdout, and of stderr"),
    LIVE("runs.queue_max", queue_max, 1, 100000, "64", "runs waiting per namespace"),
    LIVE("runs.max_wait_ms", max_wait_ms, 1, MS_MAX, "10000", "longest wait in a queue"),
    LIVE("v1_runs.code_max_kb", v1.code_bytes_max, KIB, 512 * KIB - 64 * KIB, "200", "longest program, also of /execute"),
    LIVE("v1_runs.timeout_default_ms", v1.timeout_ms.fallback, 1, MS_MAX, "5000", "deadline of a run that names none"),
    LIVE("v1_runs.timeout_max_ms", v1.timeout_ms.max, 1, MS_MAX, "10000", "longest deadline a run may ask for"),
    LIVE("v1_runs.memory_default_mb", v1.memory_bytes.fallback, 16 * MIB, TIB, "256", "memory of a run that names none"),
    LIVE("v1_runs.memory_max_mb", v1.memory_bytes.max, 16 * MIB, TIB, "512", "most memory a run may ask for"),
    LIVE("v1_runs.cpu_default_ms", v1.cpu_ms.fallback, 1, MS_MAX, "5000", "processor time of a run that names none"),
    LIVE("v1_runs.cpu_max_ms", v1.cpu_ms.max, 1, MS_MAX, "20000", "most processor time a run may ask for"),
    LIVE("v1_runs.output_default_kb", v1.output_bytes.fallback, KIB, GIB, "1024", "returned of each stream of a run that names nothing"),
    LIVE("v1_runs.output_max_kb", v1.output_bytes.max, KIB, GIB, "2048", "most that a run may ask for"),
    LIVE("v1_runs.artifacts_default_kb", v1.artifact_bytes.fallback, 0, TIB, "5120", "all artifacts of a run that names nothing"),
    LIVE("v1_runs.artifacts_max_kb", v1.artifact_bytes.max, 0, TIB, "20480", "most that a run may ask for"),
    LIVE("v1_runs.artifact_files_default", v1.artifact_files.fallback, 0, ARTIFACTS_MAX, "10", "artifacts of a run that names no number"),
    LIVE("v1_runs.artifact_files_max", v1.artifact_files.max, 0, ARTIFACTS_MAX, "10", "most artifacts a run may ask for"),
    {.name = "runs.memory", .type = SETTING_WORD, false, AT(memory), 0, 0, "recycled", memory_words, .help = "address space of a run: recycled from clean ones before it, or fresh"},
    FIXED("runs.drain_s", drain_ms, 0, 3600000, "30", "runs may go on after SIGTERM for"),
    LIVE("store.age_s", store_age_ms, 0, YEARS_MS, "604800", "runs and files are kept for; 0: for ever"),
    LIVE("store.runs_max", store_runs_max, 0, 1000000000, "100000", "runs that are kept; 0: any number"),
    LIVE("store.size_max_mb", store_bytes_max, 0, 1024 * TIB, "10240", "all runs and files together, then some go; 0: any"),
    LIVE("store.file_max_mb", store_file_bytes_max, MIB, TIB, "64", "an uploaded file"),
    LIVE("store.key_max_mb", store_key_bytes_max, 0, 1024 * TIB, "1024", "uploads of a key together; 0: any"),
    LIVE("store.key_files_max", store_key_files_max, 0, 1000000000, "1000", "uploads of a key; 0: any number"),
    LIVE("store.url_lifetime_s", store_url_lifetime_ms, 1000, YEARS_MS, "3600", "a signed URL is valid for"),
    LIVE("store.idempotency_s", store_once_age_ms, 1000, YEARS_MS, "86400", "an Idempotency-Key is remembered for"),
    LIVE("store.idempotency_max", store_once_max, 1, 100000000, "100000", "keys remembered at once"),
    LIVE("store.idempotency_mb", store_once_bytes_max, MIB, TIB, "256", "their answers together"),
    {.name = "store.public_base_url", .type = SETTING_TEXT, true, AT(public_base_url), 0, sizeof(((struct settings *)0)->public_base_url) - 1, "", .help = "what signed URLs begin with; empty: http://http.listen:http.port"},
    LIVE("jobs.concurrency", jobs_concurrency, 1, 1024, "4", "jobs of a language that run at once"),
    LIVE("jobs.queue_max", jobs_queue_max, 1, 1000000, "100000", "jobs that wait"),
    LIVE("jobs.key_queue_max", jobs_key_queue_max, 1, 1000000, "20000", "jobs of a key that wait"),
    LIVE("jobs.queue_max_mb", jobs_queue_bytes_max, MIB, TIB, "1024", "requests of jobs that wait, together"),
    LIVE("jobs.attempts_max", jobs_attempts_max, 1, 100, "3", "times that a job is begun"),
    LIVE("streams.ring_kb", stream_ring_bytes, 128 * KIB, GIB, "1024", "output of a run that is kept for who watches it"),
    LIVE("streams.rings_max_mb", stream_rings_bytes_max, MIB, TIB, "64", "the same of all runs together"),
    LIVE("streams.heartbeat_s", stream_heartbeat_ms, 1000, MS_MAX, "15", "a stream that is silent says that it is there after"),
    LIVE("streams.linger_s", stream_linger_ms, 0, MS_MAX, "60", "output is kept after the end of its run for"),
    TEXT("webhooks.allow", webhook_allow, 0, "", .help = "comma list of [http://]HOST[:PORT] that callback_url may name; empty: none"),
    TEXT("webhooks.allow_private", webhook_allow_private, 0, "", .help = "comma list of ADDRESS[/BITS] that are not public and may be connected to"),
    PATH("webhooks.ca_file", webhook_ca_file, 0, "", .help = "certificates of who is believed; empty: the system's"),
    PATH("webhooks.secret_file", webhook_secret_file, 0, "", .help = "what webhooks are signed with; empty: webhook.key in state_dir"),
    FIXED("webhooks.connect_timeout_ms", webhook_connect_ms, 1, 3600000, "5000", "resolving, connecting and TLS may take"),
    FIXED("webhooks.timeout_ms", webhook_timeout_ms, 1, 3600000, "10000", "an attempt may take"),
    LIVE("webhooks.attempts", webhook_attempts, 1, 100, "12", "attempts of a delivery"),
    LIVE("webhooks.delay_first_ms", webhook_delay_first_ms, 1, MS_MAX, "10000", "the second attempt is at most so much later; twice as much each time"),
    LIVE("webhooks.delay_max_s", webhook_delay_max_ms, 1, YEARS_MS, "3600", "but never later than"),
    LIVE("webhooks.at_once", webhook_at_once, 1, 128, "32", "deliveries under way at once"),
    LIVE("webhooks.at_once_host", webhook_at_once_host, 1, 128, "4", "to one host"),
    LIVE("namespaces.active_max", active_max, 1, 32768, "1024", "namespaces with a zygote at once"),
    LIVE("namespaces.idle_s", idle_ms, 1, MS_MAX, "600", "an idle zygote is ended after"),
    LIVE("namespaces.standby_idle_ms", standby_idle_ms, 1, MS_MAX, "2000", "a standby child is kept after a run for"),
    LIVE("namespaces.spares", spares, 0, 1024, "8", "zygotes kept ready for cold namespaces"),
    FIXED("namespaces.memory_total_mb", memory_total_bytes, 0, 1024 * TIB, "0", "memory of all namespaces together; 0: three quarters of the machine's"),
    FIXED("namespaces.pids_total", pids_total, 0, 4194304, "0", "processes and threads of all together; 0: three quarters of kernel.pid_max"),
    LIVE("namespaces.fresh_mb", fresh_bytes, MIB, TIB, "64", "files of a fresh namespace, in memory; below half of it"),
    LIVE("sessions.per_namespace", sessions.per_namespace, 1, PROTO_SESSIONS_MAX, "4", "sessions of a namespace at once"),
    FIXED("sessions.max", sessions.max, 0, 4096, "128", "sessions of all namespaces at once; 0: none"),
    LIVE("sessions.idle_s", sessions.idle_ms, 1000, MS_MAX, "1800", "a session without a call is ended after"),
    LIVE("terminals.per_namespace", terminals.per_namespace, 1, PROTO_SESSIONS_MAX, "4", "terminals of a namespace at once"),
    FIXED("terminals.max", terminals.max, 0, 4096, "32", "terminals of all namespaces at once; 0: none"),
    LIVE("terminals.idle_s", terminals.idle_ms, 1000, MS_MAX, "600", "a terminal that nobody is connected to is ended after"),
    LIVE("terminals.max_life_s", terminals.max_life_ms, 1000, MS_MAX, "28800", "a terminal is ended after"),
    LIVE("terminals.silence_s", terminals_silence_ms, 1000, MS_MAX, "60", "a terminal's client that is silent for this long, in spite of a ping, is gone"),
    {.name = "terminals.origins", .type = SETTING_TEXT, true, AT(terminals_origins), 0, PROTO_ORIGINS_MAX, "", .help = "comma list of origins whose pages may open terminals, beside this host's"},
    FIXED("limits.memory_mb", memory_bytes, 16 * MIB, TIB, "512", "memory of a namespace"),
    FIXED("limits.pids", pids_max, 4, 32768, "256", "processes and threads of a namespace"),
    FIXED("limits.cpu_percent", cpu_percent, 0, 102400, "100", "processor time, 100 is one CPU; 0: no quota"),
    FIXED("limits.tmp_mb", tmp_bytes, MIB, TIB, "64", "/tmp and /dev/shm together; below half of memory"),
    FIXED("limits.nofile", nofile, 16, 1048576, "1024", "open files of a process"),
    FIXED("limits.fsize_mb", fsize_bytes, KIB, 16 * TIB, "1024", "size of a file"),
    FIXED("limits.stack_kb", stack_bytes, 64 * KIB, GIB, "8192", "stack of a process"),
    {.name = "network.mode", .type = SETTING_WORD, false, AT(network_mode), 0, 0, "none", network_words, .help = "none (loopback only) or egress"},
    TEXT("network.allow", network_allow, 0, "", .help = "comma list of [tcp://|udp://]ADDRESS[/BITS]:PORT[-PORT]"),
    TEXT("network.resolvers", network_resolvers, 0, "", .help = "comma list of DNS servers"),
    FIXED("network.rate_kbit", network_rate_kbit, 0, 100000000, "0", "speed of a namespace each way; 0: no limit"),
    TEXT("network.subnet", network_subnet, 1, "10.213.0.0/16", .help = "private addresses for the namespaces' links"),
    {.name = "network.manage_forwarding", .type = SETTING_WORD, false, AT(network_manage_forwarding), 0, 0, "false", bool_words, .help = "true: net.ipv4.ip_forward may be switched on"},
    {.name = "log.format", .type = SETTING_WORD, true, AT(log_format), 0, 0, "text", format_words, .help = "text or json"},
    {.name = "log.level", .type = SETTING_WORD, true, AT(log_level), 0, 0, "info", level_words, .help = "debug, info, warn or error"},
};
/* clang-format on */

struct unit {
    const char *ending; /* of a setting's name */
    uint64_t factor;
    const char *plural, *example;
    struct {
        const char *ending; /* of a value */
        uint64_t factor;
    } given[3];
};

static const struct unit units[] = {
    {"_mb", MIB, " MiB", "64M", {{"K", KIB}, {"M", MIB}, {"G", GIB}}},
    {"_kb", KIB, " KiB", "64K", {{"K", KIB}, {"M", MIB}, {"G", GIB}}},
    {"_ms", 1, " ms", "500ms", {{"ms", 1}, {"s", 1000}, {"m", 60000}}},
    {"_s", 1000, " s", "10s", {{"ms", 1}, {"s", 1000}, {"m", 60000}}},
};
static const struct unit no_unit = {"", 1, "", "", {{"", 1}, {"", 1}, {"", 1}}};

static const struct unit *unit_of(const struct setting *s)
{
    size_t len = strlen(s->name);
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        size_t n = strlen(units[i].ending);
        if (s->type == SETTING_U64 && len > n && strcmp(s->name + len - n, units[i].ending) == 0)
            return &units[i];
    }
    return &no_unit;
}

int setting_find(const char *name)
{
    for (int i = 0; i < SETTINGS_COUNT; i++)
        if (strcmp(settings_table[i].name, name) == 0)
            return i;
    return -1;
}

int setting_find_env(const char *name)
{
    for (int i = 0; i < SETTINGS_COUNT; i++) {
        const char *at = settings_table[i].name, *given = name;
        if (settings_table[i].also_env && strcmp(settings_table[i].also_env, name) == 0)
            return i;
        if (strncmp(name, "BROOD_", 6) != 0)
            continue;
        for (given += 6; *at && *given == (*at == '.' ? '_' : toupper((unsigned char)*at)); at++)
            given++;
        if (!*at && !*given)
            return i;
    }
    return -1;
}

int setting_find_flag(const char *name, size_t len, bool *ret_bare)
{
    for (int i = 0; i < SETTINGS_COUNT; i++) {
        const struct setting *s = &settings_table[i];
        size_t full = strlen(s->name), stem = full - strlen(unit_of(s)->ending), k = 0;
        *ret_bare = false;
        if (s->also_flag && strlen(s->also_flag) == len && memcmp(s->also_flag, name, len) == 0)
            return i;
        while (k < len && k < full && name[k] == (strchr("._", s->name[k]) ? '-' : s->name[k]))
            k++;
        *ret_bare = k == len && k == stem && stem != full;
        if (*ret_bare || (k == len && k == full))
            return i;
    }
    return -1;
}

int setting_refuse(struct settings_reading *r, int index, const char *fmt, ...)
{
    const struct setting *s = &settings_table[index];
    char text[200], name[80];
    size_t n = 0;
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (; s->name[n] && n + 1 < sizeof name; n++)
        name[n] = s->name[n] == '.' ? '_' : (char)toupper((unsigned char)s->name[n]);
    name[n] = 0;
    switch (r->from[index].source) {
    case SETTINGS_YAML:
        return err_set(r->err, "%.100s:%u: %s: %s", r->yaml_path, r->from[index].line, s->name,
                       text);
    case SETTINGS_DOTENV:
        return err_set(r->err, "%.100s:%u: BROOD_%s: %s", r->dotenv_path, r->from[index].line, name,
                       text);
    case SETTINGS_ENV:
        return err_set(r->err, "environment: BROOD_%s: %s", name, text);
    case SETTINGS_FLAG:
        if (r->from[index].bare)
            name[n - strlen(unit_of(s)->ending)] = 0;
        for (n = 0; name[n]; n++)
            name[n] = name[n] == '_' ? '-' : (char)tolower((unsigned char)name[n]);
        return err_set(r->err, "--%s: %s", name, text);
    case SETTINGS_DEFAULT:
        break;
    }
    return err_set(r->err, "%s: %s", s->name, text);
}

/* "128M" with a unit of its own; 0 or -1. */
static int parse_with_unit(const struct unit *u, const char *text, uint64_t *ret)
{
    char digits[24];
    size_t n = strspn(text, "0123456789");
    if (n == 0 || n >= sizeof digits)
        return -1;
    memcpy(digits, text, n);
    digits[n] = 0;
    for (size_t i = 0; i < ARRAY_LEN(u->given); i++)
        if (strcmp(text + n, u->given[i].ending) == 0)
            return num_parse_u64(digits, 0, UINT64_MAX, ret) < 0 ||
                           __builtin_mul_overflow(*ret, u->given[i].factor, ret)
                       ? -1
                       : 0;
    return -1;
}

static int store_number(struct settings_reading *r, int index, bool bare, const char *text)
{
    const struct setting *s = &settings_table[index];
    const struct unit *u = unit_of(s);
    char *member = (char *)r->set + s->offset;
    uint64_t v, least = (s->min + u->factor - 1) / u->factor;
    if (bare && parse_with_unit(u, text, &v) < 0)
        return setting_refuse(r, index, "expected a number with its unit such as %s, got \"%.60s\"",
                              u->example, text);
    if ((!bare && (num_parse_u64(text, 0, UINT64_MAX, &v) < 0 ||
                   __builtin_mul_overflow(v, u->factor, &v))) ||
        v < s->min || v > s->max)
        return setting_refuse(
            r, index, "expected a whole number from %" PRIu64 " to %" PRIu64 "%s, got \"%.60s\"",
            least, s->max / u->factor, u->plural, text);
    if (s->type == SETTING_U32) {
        unsigned small = (unsigned)v;
        memcpy(member, &small, sizeof small);
    } else {
        memcpy(member, &v, sizeof v);
    }
    return 0;
}

static int store_word(struct settings_reading *r, int index, const char *text)
{
    const struct setting *s = &settings_table[index];
    int value = 0;
    while (s->words[value] && strcmp(s->words[value], text) != 0)
        value++;
    if (!s->words[value])
        return setting_refuse(r, index, "expected %s, got \"%.60s\"", s->help, text);
    memcpy((char *)r->set + s->offset, &value, sizeof value);
    return 0;
}

int setting_store(struct settings_reading *r, int index, enum settings_source source, unsigned line,
                  bool bare, const char *text)
{
    const struct setting *s = &settings_table[index];
    size_t len = strlen(text);
    r->from[index].source = source;
    r->from[index].line = line;
    r->from[index].bare = bare;
    if (s->type == SETTING_WORD)
        return store_word(r, index, text);
    if (s->type == SETTING_U64 || s->type == SETTING_U32)
        return store_number(r, index, bare, text);
    if (len < s->min)
        return setting_refuse(r, index, "expected %s, got nothing",
                              s->type == SETTING_PATH ? "a path" : "a value");
    if (len > s->max)
        return setting_refuse(r, index, "expected at most %" PRIu64 " bytes, got %zu", s->max, len);
    memcpy((char *)r->set + s->offset, text, len + 1);
    return 0;
}

void settings_print_help(void)
{
    printf("usage: brood-supervisor [--config FILE] [--KEY VALUE | --KEY=VALUE]...\n\n"
           "  --config FILE                  YAML file; default /etc/brood/brood.yaml if there\n"
           "  --probe                        ask whether the layers hold, print it, stop\n"
           "  --help, --version\n");
    for (int i = 0; i < SETTINGS_COUNT; i++) {
        const struct setting *s = &settings_table[i];
        char flag[40];
        size_t n = 0;
        for (; s->name[n] && n + 1 < sizeof flag; n++)
            flag[n] = strchr("._", s->name[n]) ? '-' : s->name[n];
        flag[n] = 0;
        printf("  --%-28s %s [%s%s]\n", flag, s->help, *s->initial ? s->initial : "\"\"",
               unit_of(s)->plural);
    }
    printf("\nA key with a unit may be given without it: --limits-memory 64M, --runs-grace 300ms.\n"
           "Each key is also BROOD_KEY in the environment (and PORT, SANDBOX_FS_ROOT), in ./.env "
           "and in the file:\n"
           "flags win over environment, .env, file, defaults. See brood.yaml(5).\n");
}
