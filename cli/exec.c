/* SPDX-License-Identifier: Apache-2.0 */
/* cli/exec - `brood exec` and `brood run`: the command line into one Execute message, checked here
 * as far as it can be, so that a mistake is named before anything is asked of the service. The
 * engine checks all of it again.
 */
#include "cli/cli.h"
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/num.h"
#include "protocol/protocol.h"
#include <fcntl.h>
#include <sys/types.h>

#define CODE_BYTES_MAX (16u << 20) /* what can be placed at all is the service's affair */

static const struct option options[] = {{"namespace", required_argument, NULL, 'n'},
                                        {"stdin", no_argument, NULL, 'i'},
                                        {"env", required_argument, NULL, 'e'},
                                        {"cwd", required_argument, NULL, 'C'},
                                        {"timeout", required_argument, NULL, 't'},
                                        {"policy", required_argument, NULL, 'p'},
                                        {"session", required_argument, NULL, 'S'},
                                        {"socket", required_argument, NULL, 's'},
                                        {NULL, 0, NULL, 0}};

static const struct option run_options[] = {
    {"language", required_argument, NULL, 'l'}, {"namespace", required_argument, NULL, 'n'},
    {"stdin", no_argument, NULL, 'i'},          {"env", required_argument, NULL, 'e'},
    {"timeout", required_argument, NULL, 't'},  {"policy", required_argument, NULL, 'p'},
    {"socket", required_argument, NULL, 's'},   {NULL, 0, NULL, 0}};

struct wish {
    const char *ns_id, *cwd, *policy, *socket, *language, *session;
    bool with_stdin;
    uint64_t timeout_ms;
    struct proto_env env[PROTO_ENV_COUNT_MAX];
    size_t env_count, env_bytes;
};

/* "K=V" out of argv, split in place. */
static bool add_env(struct wish *w, char *text)
{
    char *eq = strchr(text, '=');
    if (!eq || eq == text) {
        cli_complain("--env %s: expected NAME=VALUE", text);
        return false;
    }
    const char *why = proto_env_name_refused(text, (size_t)(eq - text));
    if (why) {
        cli_complain("--env %.*s: %s", (int)(eq - text), text, why);
        return false;
    }
    w->env_bytes += strlen(text) + 1;
    if (w->env_count == PROTO_ENV_COUNT_MAX || w->env_bytes > PROTO_ENV_BYTES_MAX) {
        cli_complain("--env: at most %u variables of %u bytes together", PROTO_ENV_COUNT_MAX,
                     PROTO_ENV_BYTES_MAX);
        return false;
    }
    *eq = 0;
    w->env[w->env_count++] = (struct proto_env){.name = text, .value = eq + 1};
    return true;
}

static bool take_option(struct wish *w, int c)
{
    switch (c) {
    case 'n':
        if (!proto_ns_id_is_valid(optarg, strlen(optarg))) {
            cli_complain("--namespace \"%s\": expected 1-%u characters of [A-Za-z0-9._-], not "
                         "starting with . or -",
                         optarg, PROTO_NS_ID_MAX);
            return false;
        }
        w->ns_id = optarg;
        return true;
    case 'i':
        w->with_stdin = true;
        return true;
    case 'e':
        return add_env(w, optarg);
    case 'C':
        if (!*optarg || strlen(optarg) > PROTO_CWD_BYTES_MAX) {
            cli_complain("--cwd: expected a path of 1-%u bytes", PROTO_CWD_BYTES_MAX);
            return false;
        }
        w->cwd = optarg;
        return true;
    case 't':
        if (num_parse_seconds_ms(optarg, 1, PROTO_TIMEOUT_MS_MAX, &w->timeout_ms) < 0) {
            cli_complain("--timeout %s: expected seconds, 0.001 to %u", optarg,
                         PROTO_TIMEOUT_MS_MAX / 1000);
            return false;
        }
        return true;
    case 'p':
        if (!*optarg || strlen(optarg) > PROTO_POLICY_NAME_MAX) {
            cli_complain("--policy: expected a name of 1-%u characters", PROTO_POLICY_NAME_MAX);
            return false;
        }
        w->policy = optarg;
        return true;
    case 'S':
        if (!proto_session_is_valid(optarg, strlen(optarg))) {
            cli_complain("--session \"%s\": expected 1-%u characters of [A-Za-z0-9._-]", optarg,
                         PROTO_SESSION_MAX);
            return false;
        }
        w->session = optarg;
        return true;
    case 'l':
        w->language = optarg;
        return true;
    case 's':
        w->socket = optarg;
        return true;
    default:
        return false; /* cli_option has complained */
    }
}

/* 'it'\''s': means the same to every bash, whatever is in it. */
static void add_quoted(struct buf *cmd, const char *word)
{
    (void)buf_add(cmd, "'", 1);
    for (; *word; word++)
        (void)(*word == '\'' ? buf_add(cmd, "'\\''", 4) : buf_add(cmd, word, 1));
    (void)buf_add(cmd, "'", 1);
}

static bool join_command(int count, char **words, struct buf *cmd)
{
    if (count == 1)
        (void)buf_add(cmd, words[0], strlen(words[0]));
    for (int i = 0; count > 1 && i < count; i++) {
        if (i)
            (void)buf_add(cmd, " ", 1);
        add_quoted(cmd, words[i]);
    }
    if (cmd->failed)
        cli_complain("exec: the command is longer than %u bytes", PROTO_CMD_BYTES_MAX);
    else if (cmd->len == 0)
        cli_complain("exec: the command is empty");
    return !cmd->failed && cmd->len > 0;
}

int cli_exec(int argc, char **argv)
{
    static struct wish w = {.ns_id = "default", .cwd = "", .policy = ""};
    struct buf cmd = {.cap = PROTO_CMD_BYTES_MAX};
    struct proto_msg msg = {.type = PROTO_EXECUTE, .tag = 1};
    struct proto_hello hello;
    struct err err;
    for (int c; (c = cli_option(argc, argv, "+:n:ie:C:t:p:S:s:", options)) != -1;)
        if (!take_option(&w, c))
            return CLI_OUR_FAULT;
    if (optind == argc) {
        cli_complain("exec: no command (brood exec [OPTION...] -- CMD...; brood help exec)");
        return CLI_OUR_FAULT;
    }
    if (!join_command(argc - optind, argv + optind, &cmd)) {
        buf_fini(&cmd);
        return CLI_OUR_FAULT;
    }
    msg.execute = (struct proto_execute){.tag = 1,
                                         .ns_id = w.ns_id,
                                         .cmd = cmd.data,
                                         .cmd_len = cmd.len,
                                         .env = w.env,
                                         .env_count = w.env_count,
                                         .cwd = w.cwd,
                                         .timeout_ms = w.timeout_ms,
                                         .policy = w.policy,
                                         .request_id = ""};
    if (w.session) {
        msg.execute.companion = PROTO_COMPANION_SESSION;
        msg.execute.session = w.session;
    }
    int status = CLI_OUR_FAULT;
    auto_close int sock = cli_connect(cli_socket_path(w.socket), &hello, &err);
    if (sock < 0)
        cli_complain("%s", err.text);
    else
        status = cli_carry(sock, &msg, w.with_stdin, -1);
    buf_fini(&cmd);
    return status;
}

/* ---- code --------------------------------------------------------------------------------------
 */

/* All of a file, sealed; <0 after a complaint. */
static int read_code(const char *path)
{
    struct buf code = {.cap = CODE_BYTES_MAX};
    int r = -1;
    auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    int from = strcmp(path, "-") == 0 ? 0 : fd;
    for (ssize_t n = 1; from >= 0 && n > 0 && !code.failed;) {
        char chunk[16384];
        n = r = (int)read(from, chunk, sizeof chunk);
        if (n > 0)
            (void)buf_add(&code, chunk, (size_t)n);
    }
    if (r < 0)
        cli_complain("run: %s: %s", path, strerror(errno));
    else if (code.failed)
        cli_complain("run: %s: longer than %u bytes", path, CODE_BYTES_MAX);
    else if ((r = fd_memfd_sealed("code", code.data ? code.data : "", code.len)) < 0)
        cli_complain("run: memfd: %s", strerror(errno));
    if (code.failed)
        r = -1;
    buf_fini(&code);
    return r;
}

/* Its name's ending is a name of the language, mostly. */
static const char *language_of(const char *path)
{
    const char *dot = strrchr(path, '.');
    if (!dot || strchr(dot, '/') || !dot[1])
        return NULL;
    return strcmp(dot, ".pl") == 0 ? "perl" : strcmp(dot, ".cc") == 0 ? "cpp" : dot + 1;
}

int cli_run(int argc, char **argv)
{
    static struct wish w = {.ns_id = "", .cwd = "", .policy = ""};
    struct proto_msg msg = {.type = PROTO_EXECUTE, .tag = 1};
    struct proto_hello hello;
    struct err err;
    for (int c; (c = cli_option(argc, argv, "+:l:n:ie:C:t:p:s:", run_options)) != -1;)
        if (!take_option(&w, c))
            return CLI_OUR_FAULT;
    if (optind == argc) {
        cli_complain("run: no file (brood run [OPTION...] FILE [ARG...]; brood help run)");
        return CLI_OUR_FAULT;
    }
    if (!w.language && !(w.language = language_of(argv[optind]))) {
        cli_complain("run: %s: which language? Say it with --language", argv[optind]);
        return CLI_OUR_FAULT;
    }
    if (argc - optind - 1 > (int)PROTO_ARGS_MAX) {
        cli_complain("run: at most %u arguments", PROTO_ARGS_MAX);
        return CLI_OUR_FAULT;
    }
    auto_close int code = read_code(argv[optind]);
    if (code < 0)
        return CLI_OUR_FAULT;
    msg.execute = (struct proto_execute){.tag = 1,
                                         .kind = PROTO_CODE,
                                         .ns_id = w.ns_id,
                                         .cmd = "",
                                         .language = w.language,
                                         .args = (const char *const *)argv + optind + 1,
                                         .arg_count = (size_t)(argc - optind - 1),
                                         .env = w.env,
                                         .env_count = w.env_count,
                                         .cwd = "",
                                         .timeout_ms = w.timeout_ms,
                                         .policy = w.policy,
                                         .request_id = ""};
    auto_close int sock = cli_connect(cli_socket_path(w.socket), &hello, &err);
    if (sock >= 0)
        return cli_carry(sock, &msg, w.with_stdin, fd_take(&code));
    cli_complain("%s", err.text);
    return CLI_OUR_FAULT;
}
