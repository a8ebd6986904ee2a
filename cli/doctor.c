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

void cli_say(enum cli_verdict verdict, const char *what, const char *remedy, const char *fmt, ...)
{
    static const char *const words[] = {"ok", "warn", "missing"};
    char detail[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(detail, sizeof detail, fmt, ap);
    va_end(ap);
    something_is_missing |= verdict == CLI_MISSING;
    (void)printf("%-8s %s: %s%s%s\n", words[verdict], what, detail,
                 remedy && verdict != CLI_FINE ? " -> " : "",
                 remedy && verdict != CLI_FINE ? remedy : "");
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

void cli_probe_service(const char *socket)
{
    const struct proto_msg *msg, ask = {.type = PROTO_STATS_REQUEST, .tag = 1};
    struct proto_hello hello;
    struct err err;
    auto_close int sock = cli_connect(socket, &hello, &err);
    if (sock < 0) {
        cli_say(CLI_WARN, "service", NULL, "%s", err.text);
        return;
    }
    cli_say(hello.draining ? CLI_WARN : CLI_FINE, "service", "start it again when it has ended",
            "answers at %s%s", socket, hello.draining ? ", is stopping" : "");
    if (cli_ask(sock, &ask, ASK_MS, &msg, &err) < 0 || msg->type != PROTO_STATS) {
        cli_say(CLI_WARN, "zygote", NULL, "the service gives no statistics");
        return;
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

int cli_doctor(int argc, char **argv)
{
    static const struct option options[] = {{"fs-root", required_argument, NULL, 'f'},
                                            {"lib-dir", required_argument, NULL, 'l'},
                                            {"image", required_argument, NULL, 'i'},
                                            {"socket", required_argument, NULL, 's'},
                                            {NULL, 0, NULL, 0}};
    char beside[PATH_MAX] = "";
    const char *env = getenv("SANDBOX_FS_ROOT"), *socket = NULL, *lib_dir = beside, *image = "/";
    const char *fs_root = env && *env ? env : "./namespaces";
    for (int c; (c = cli_option(argc, argv, ":s:", options)) != -1;) {
        if (c == 'f')
            fs_root = optarg;
        else if (c == 'l')
            lib_dir = optarg;
        else if (c == 'i')
            image = optarg;
        else if (c == 's')
            socket = optarg;
        else
            return CLI_USAGE;
    }
    if (optind < argc) {
        cli_complain("doctor: unexpected argument %s", argv[optind]);
        return CLI_USAGE;
    }
    find_lib_dir(beside);
    cli_probe_kernel();
    cli_probe_cgroups();
    cli_probe_policy();
    cli_probe_idmap(fs_root);
    cli_probe_bash(lib_dir, image);
    cli_probe_limits();
    cli_probe_service(cli_socket_path(socket));
    return cli_flush() && !something_is_missing ? CLI_OK : CLI_FAILED;
}
