/* SPDX-License-Identifier: Apache-2.0 */
/* cli/doctor - `brood doctor`: what this machine has of what the service needs, one line each, with
 * what to do about it. The probes are in probe_*.c; each tries the thing itself, in a forked child
 * where that changes the process, rather than believing a configuration file.
 *
 * Runs as the user who typed it; what only root can try says so. It changes nothing.
 */
#include "cli/cli.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "protocol/protocol.h"
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define TRY_MS 10000
#define ASK_MS 5000

static bool something_is_missing;
static FILE *json_layers, *json_checks; /* with --json: texts that are put together at the end */

static void put_json_text(FILE *to, const char *before, const char *key, const char *text)
{
    (void)fprintf(to, "%s\"%s\": \"", before, key);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            (void)fprintf(to, "\\%c", c);
        else if (c < 0x20 || c >= 0x7f) /* ours are ASCII; what a file system answers need not be */
            (void)fprintf(to, "\\u%04x", c);
        else
            (void)fputc(c, to);
    }
    (void)fputc('"', to);
}

void cli_layer(const struct cli_layer *l, enum cli_verdict verdict, const char *remedy)
{
    if (!json_layers)
        return;
    put_json_text(json_layers, ftell(json_layers) > 0 ? ",\n    {" : "\n    {", "name", l->name);
    put_json_text(json_layers, ", ", "state", l->state);
    (void)fprintf(json_layers, ", \"required\": %s", l->required ? "true" : "false");
    put_json_text(json_layers, ", ", "question", l->question);
    put_json_text(json_layers, ", ", "detail", l->detail);
    put_json_text(json_layers, ", ", "remedy", verdict == CLI_FINE ? "" : remedy);
    (void)fputc('}', json_layers);
}

void cli_say(enum cli_verdict verdict, const char *what, const char *remedy, const char *fmt, ...)
{
    static const char *const words[] = {"ok", "warn", "missing"};
    char detail[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(detail, sizeof detail, fmt, ap);
    va_end(ap);
    something_is_missing |= verdict == CLI_MISSING;
    if (verdict == CLI_FINE || !remedy)
        remedy = "";
    if (!json_checks) {
        (void)printf("%-8s %s: %s%s%s\n", words[verdict], what, detail, *remedy ? " -> " : "",
                     remedy);
        return;
    }
    if (strncmp(what, "layer ", 6) == 0) /* stands in the other list */
        return;
    put_json_text(json_checks, ftell(json_checks) > 0 ? ",\n    {" : "\n    {", "what", what);
    put_json_text(json_checks, ", ", "verdict", words[verdict]);
    put_json_text(json_checks, ", ", "detail", detail);
    put_json_text(json_checks, ", ", "remedy", remedy);
    (void)fputc('}', json_checks);
}

static void become_try(int out_fd)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    (void)dup2(null, 0);
    (void)dup2(out_fd >= 0 ? out_fd : null, 1);
    (void)dup2(out_fd >= 0 ? out_fd : null, 2);
    (void)syscall(SYS_close_range, 3, ~0u, 0);
}

/* Reads until the child has ended and its output too, or the time is up (false). */
static bool follow(int pidfd, int out_fd, char *text, size_t room)
{
    uint64_t deadline = clock_now_ns() + TRY_MS * CLOCK_NS_PER_MS;
    size_t len = 0;
    for (bool ended = false; !ended || out_fd >= 0;) {
        struct pollfd pfd[] = {{.fd = ended ? -1 : pidfd, .events = POLLIN},
                               {.fd = out_fd, .events = POLLIN}};
        uint64_t now = clock_now_ns();
        int left = now < deadline ? (int)((deadline - now) / CLOCK_NS_PER_MS) + 1 : 0;
        int n = poll(pfd, 2, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        if (pfd[0].revents)
            ended = true;
        if (pfd[1].revents) {
            char bytes[512];
            ssize_t got = read(out_fd, bytes, sizeof bytes);
            if (got <= 0)
                out_fd = -1;
            for (ssize_t i = 0; i < got && len + 1 < room; i++)
                text[len++] = bytes[i];
            text[len] = 0;
        }
    }
    return true;
}

int cli_try(int (*fn)(const void *arg), const void *arg, char *ret_text, size_t room)
{
    int out[2] = {-1, -1}, status = 0;
    if (ret_text)
        *ret_text = 0;
    if (ret_text && pipe2(out, O_CLOEXEC) < 0)
        return -1;
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        become_try(out[1]);
        _exit(fn(arg));
    }
    fd_close(&out[1]);
    auto_close int pidfd = pid < 0 ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
    bool ended = pidfd >= 0 && follow(pidfd, out[0], ret_text, room);
    fd_close(&out[0]);
    if (pid < 0)
        return -1;
    if (!ended)
        (void)kill(pid, SIGKILL);
    (void)waitpid(pid, &status, 0); /* it has ended, or SIGKILL ends it */
    return ended && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool cli_probe_service(const char *socket)
{
    const struct proto_msg *msg, ask = {.type = PROTO_STATS_REQUEST, .tag = 1};
    struct proto_hello hello;
    struct err err;
    auto_close int sock = cli_connect(socket, &hello, &err);
    if (sock < 0) {
        cli_say(CLI_WARN, "service", NULL, "%s", err.text);
        return false;
    }
    bool told = cli_tell_layers(&hello); /* before the next message takes its place */
    cli_say(hello.draining ? CLI_WARN : CLI_FINE, "service", "start it again when it has ended",
            "answers at %s%s", socket, hello.draining ? ", is stopping" : "");
    if (cli_ask(sock, &ask, ASK_MS, &msg, &err) < 0 || msg->type != PROTO_STATS) {
        cli_say(CLI_WARN, "zygote", NULL, "the service gives no statistics");
        return told;
    }
    for (size_t i = 0; i < msg->stats.count; i++) {
        const struct proto_stat *s = &msg->stats.entries[i];
        if (strcmp(s->name, "zygote_execs") != 0)
            continue;
        cli_say(s->value ? CLI_WARN : CLI_FINE, "zygote",
                "see \"bash builtin\" above, and zygote: in brood.yaml", "%s",
                s->value ? "the static fallback is in use: every run is an exec, slower"
                         : "the warm bash is in use");
    }
    return told;
}

/* Beside this program in a build tree, in ../lib/brood when installed. */
static void find_lib_dir(char ret[PATH_MAX])
{
    static const char *const below[] = {"", "/../lib/brood"};
    char self[PATH_MAX - 64];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    char *slash = strrchr(self, '/');
    if (slash)
        *slash = 0;
    for (size_t i = 0; i < ARRAY_LEN(below); i++) {
        char so[PATH_MAX];
        (void)snprintf(ret, PATH_MAX, "%s%s", self, below[i]);
        (void)snprintf(so, sizeof so, "%s%s/brood-zygote.so", self, below[i]);
        if (access(so, F_OK) == 0)
            return;
    }
}

struct doctor {
    const char *fs_root, *lib_dir, *image, *socket; /* NULL: not given */
    bool json;
};

static int read_options(int argc, char **argv, struct doctor *ret)
{
    static const struct option options[] = {
        {"fs-root", required_argument, NULL, 'f'}, {"lib-dir", required_argument, NULL, 'l'},
        {"image", required_argument, NULL, 'i'},   {"json", no_argument, NULL, 'j'},
        {"socket", required_argument, NULL, 's'},  {NULL, 0, NULL, 0}};
    for (int c; (c = cli_option(argc, argv, ":js:", options)) != -1;) {
        if (c == 'f')
            ret->fs_root = optarg;
        else if (c == 'l')
            ret->lib_dir = optarg;
        else if (c == 'i')
            ret->image = optarg;
        else if (c == 'j')
            ret->json = true;
        else if (c == 's')
            ret->socket = optarg;
        else
            return CLI_USAGE;
    }
    if (optind == argc)
        return 0;
    cli_complain("doctor: unexpected argument %s", argv[optind]);
    return CLI_USAGE;
}

/* "service": it told what it found; "probe": asked now; "none": not asked. */
static const char *examine(const struct doctor *d)
{
    char beside[PATH_MAX] = "";
    const char *env = getenv("SANDBOX_FS_ROOT");
    find_lib_dir(beside);
    cli_probe_kernel();
    cli_probe_cgroups();
    cli_probe_policy();
    cli_probe_idmap(d->fs_root ? d->fs_root : env && *env ? env : "./namespaces");
    cli_probe_bash(d->lib_dir ? d->lib_dir : beside, d->image ? d->image : "/");
    cli_probe_limits();
    if (cli_probe_service(cli_socket_path(d->socket)))
        return "service";
    return cli_probe_layers(d->fs_root, d->lib_dir, d->image) ? "probe" : "none";
}

int cli_doctor(int argc, char **argv)
{
    struct doctor doctor = {0};
    char *layers = NULL, *checks = NULL;
    size_t layers_len, checks_len;
    if (read_options(argc, argv, &doctor) != 0)
        return CLI_USAGE;
    if (doctor.json) {
        json_layers = open_memstream(&layers, &layers_len);
        json_checks = open_memstream(&checks, &checks_len);
        if (!json_layers || !json_checks) {
            cli_complain("doctor: out of memory");
            return CLI_FAILED;
        }
    }
    const char *source = examine(&doctor);
    if (doctor.json) {
        (void)fclose(json_layers);
        (void)fclose(json_checks);
        (void)printf("{\n  \"ok\": %s,\n  \"layers_from\": \"%s\",\n  \"layers\": [%s],\n"
                     "  \"checks\": [%s]\n}\n",
                     something_is_missing ? "false" : "true", source, layers, checks);
        free(layers);
        free(checks);
    }
    return cli_flush() && !something_is_missing ? CLI_OK : CLI_FAILED;
}
