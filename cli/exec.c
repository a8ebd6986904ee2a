/* SPDX-License-Identifier: Apache-2.0 */
/* cli/exec - `brood exec`: the command line into one Execute message, checked here as far as it can
 * be, so that a mistake is named before anything is asked of the service. The engine checks all of
 * it again.
 */
#include "cli/cli.h"
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/num.h"
#include "protocol/protocol.h"
#include <sys/types.h>

static const struct option options[] = {
    {"namespace", required_argument, NULL, 'n'}, {"stdin", no_argument, NULL, 'i'},
    {"env", required_argument, NULL, 'e'},       {"cwd", required_argument, NULL, 'C'},
    {"timeout", required_argument, NULL, 't'},   {"policy", required_argument, NULL, 'p'},
    {"socket", required_argument, NULL, 's'},    {NULL, 0, NULL, 0}};

struct wish {
    const char *ns_id, *cwd, *policy, *socket;
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
        cli_complain("exec: --env %s: expected NAME=VALUE", text);
        return false;
    }
    const char *why = proto_env_name_refused(text, (size_t)(eq - text));
    if (why) {
        cli_complain("exec: --env %.*s: %s", (int)(eq - text), text, why);
        return false;
    }
    w->env_bytes += strlen(text) + 1;
    if (w->env_count == PROTO_ENV_COUNT_MAX || w->env_bytes > PROTO_ENV_BYTES_MAX) {
        cli_complain("exec: --env: at most %u variables of %u bytes together", PROTO_ENV_COUNT_MAX,
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
            cli_complain(
                "exec: --namespace \"%s\": expected 1-%u characters of [A-Za-z0-9._-], not "
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
            cli_complain("exec: --cwd: expected a path of 1-%u bytes", PROTO_CWD_BYTES_MAX);
            return false;
        }
        w->cwd = optarg;
        return true;
    case 't':
        if (num_parse_seconds_ms(optarg, 1, PROTO_TIMEOUT_MS_MAX, &w->timeout_ms) < 0) {
            cli_complain("exec: --timeout %s: expected seconds, 0.001 to %u", optarg,
                         PROTO_TIMEOUT_MS_MAX / 1000);
            return false;
        }
        return true;
    case 'p':
        if (!*optarg || strlen(optarg) > PROTO_POLICY_NAME_MAX) {
            cli_complain("exec: --policy: expected a name of 1-%u characters",
                         PROTO_POLICY_NAME_MAX);
            return false;
        }
        w->policy = optarg;
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
    for (int c; (c = cli_option(argc, argv, "+:n:ie:C:t:p:s:", options)) != -1;)
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
    int status = CLI_OUR_FAULT;
    auto_close int sock = cli_connect(cli_socket_path(w.socket), &hello, &err);
    if (sock < 0)
        cli_complain("%s", err.text);
    else
        status = cli_carry(sock, &msg, w.with_stdin);
    buf_fini(&cmd);
    return status;
}
