/* SPDX-License-Identifier: Apache-2.0 */
/* cli/ns - `brood ns list`, `brood ns rm`, `brood stats`: one question, one answer, printed as
 * lines or as JSON. Names come from the engine, which lets only [A-Za-z0-9._-] into them: nothing
 * to escape.
 */
#include "cli/cli.h"
#include "lib/err.h"
#include "protocol/protocol.h"

#define ASK_MS 10000
#define REMOVE_MS 120000 /* a namespace may hold a million files */

static const struct option options[] = {
    {"json", no_argument, NULL, 'j'}, {"socket", required_argument, NULL, 's'}, {NULL, 0, NULL, 0}};

struct how {
    bool json;
    const char *socket;
};

/* Options before, between and after the words; 0 or CLI_USAGE. */
static int read_options(int argc, char **argv, const char *letters, struct how *ret)
{
    *ret = (struct how){0};
    for (int c; (c = cli_option(argc, argv, letters, options)) != -1;) {
        if (c == 'j')
            ret->json = true;
        else if (c == 's')
            ret->socket = optarg;
        else
            return CLI_USAGE;
    }
    return 0;
}

static int fail(const struct err *err)
{
    cli_complain("%s", err->text);
    return CLI_FAILED;
}

static int unexpected(const struct proto_msg *msg)
{
    if (msg->type == PROTO_DONE)
        cli_complain("%s: %s", proto_outcome_name(msg->done.outcome), msg->done.text);
    else
        cli_complain("the service gave an answer to another question");
    return CLI_FAILED;
}

static void print_ns(const struct proto_ns_entry *ns, bool json, bool first)
{
    if (json)
        (void)printf("%s\n  {\"namespace_id\": \"%s\", \"active\": %s, \"queued\": %u}",
                     first ? "" : ",", ns->ns_id, ns->active ? "true" : "false", ns->queued);
    else
        (void)printf("%-32s %-6s %u\n", ns->ns_id, ns->active ? "active" : "idle", ns->queued);
}

static int list(int argc, char **argv)
{
    char after[PROTO_NS_ID_MAX + 1] = "";
    const struct proto_msg *msg;
    struct proto_hello hello;
    struct how how;
    struct err err;
    size_t printed = 0;
    if (read_options(argc, argv, ":js:", &how) != 0)
        return CLI_USAGE;
    if (optind < argc) {
        cli_complain("ns list: unexpected argument %s", argv[optind]);
        return CLI_USAGE;
    }
    auto_close int sock = cli_connect(cli_socket_path(how.socket), &hello, &err);
    if (sock < 0)
        return fail(&err);
    (void)fputs(how.json ? "[" : "", stdout);
    for (bool more = true; more;) {
        struct proto_msg ask = {.type = PROTO_NS_LIST_REQUEST, .tag = printed + 1};
        ask.ns_list_request.after = after;
        ask.ns_list_request.limit = PROTO_LIST_MAX;
        if (cli_ask(sock, &ask, ASK_MS, &msg, &err) < 0)
            return fail(&err);
        if (msg->type != PROTO_NS_LIST)
            return unexpected(msg);
        size_t count = msg->ns_list.count;
        for (size_t i = 0; i < count; i++)
            print_ns(&msg->ns_list.entries[i], how.json, printed++ == 0);
        more = msg->ns_list.more && count;
        if (more)
            (void)snprintf(after, sizeof after, "%s", msg->ns_list.entries[count - 1].ns_id);
    }
    (void)fputs(!how.json ? "" : printed ? "\n]\n" : "]\n", stdout);
    return cli_flush() ? CLI_OK : CLI_FAILED;
}

static int remove_one(int sock, const char *id, uint64_t tag)
{
    const struct proto_msg *msg;
    struct proto_msg ask = {.type = PROTO_NS_REMOVE, .tag = tag};
    struct err err;
    ask.ns_remove.ns_id = id;
    if (cli_ask(sock, &ask, REMOVE_MS, &msg, &err) < 0) {
        cli_complain("ns rm %s: %s", id, err.text);
        return -1; /* the connection is of no use any more */
    }
    if (msg->type != PROTO_DONE)
        return unexpected(msg);
    if (msg->done.outcome == PROTO_OK)
        return CLI_OK;
    cli_complain("ns rm %s: %s%s%s", id, proto_outcome_name(msg->done.outcome),
                 *msg->done.text ? ": " : "", msg->done.text);
    return CLI_FAILED;
}

static int rm(int argc, char **argv)
{
    struct proto_hello hello;
    struct how how;
    struct err err;
    int status = CLI_OK, r = 0;
    if (read_options(argc, argv, ":s:", &how) != 0)
        return CLI_USAGE;
    if (how.json || optind == argc) {
        cli_complain(how.json ? "ns rm: --json is for ns list"
                              : "ns rm: which one? (brood help ns)");
        return CLI_USAGE;
    }
    for (int i = optind; i < argc; i++)
        if (!proto_ns_id_is_valid(argv[i], strlen(argv[i]))) {
            cli_complain("ns rm: \"%s\" is not the name of a namespace", argv[i]);
            return CLI_USAGE;
        }
    auto_close int sock = cli_connect(cli_socket_path(how.socket), &hello, &err);
    if (sock < 0)
        return fail(&err);
    for (int i = optind; r >= 0 && i < argc; i++) {
        r = remove_one(sock, argv[i], (uint64_t)i);
        if (r != CLI_OK)
            status = CLI_FAILED;
    }
    return status;
}

int cli_ns(int argc, char **argv)
{
    if (argc < 2) {
        cli_complain("ns: list or rm? (brood help ns)");
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "list") == 0)
        return list(argc - 1, argv + 1);
    if (strcmp(argv[1], "rm") == 0)
        return rm(argc - 1, argv + 1);
    cli_complain("ns: %s is neither list nor rm (brood help ns)", argv[1]);
    return CLI_USAGE;
}

int cli_policy(int argc, char **argv)
{
    const struct proto_msg *msg;
    struct proto_msg ask = {.type = PROTO_POLICY_REQUEST, .tag = 1};
    struct proto_hello hello;
    struct how how;
    struct err err;
    bool show = argc > 1 && strcmp(argv[1], "show") == 0;
    if (argc < 2 || (!show && strcmp(argv[1], "list") != 0)) {
        cli_complain("policy: list or show? (brood help policy)");
        return CLI_USAGE;
    }
    if (read_options(argc - 1, argv + 1, ":s:", &how) != 0)
        return CLI_USAGE;
    char **words = argv + 1 + optind;
    int count = argc - 1 - optind;
    if (count > show) {
        cli_complain("policy: unexpected argument %s", words[show]);
        return CLI_USAGE;
    }
    ask.policy_request.name = !show ? "" : count ? words[0] : "default";
    auto_close int sock = cli_connect(cli_socket_path(how.socket), &hello, &err);
    if (sock < 0 || cli_ask(sock, &ask, ASK_MS, &msg, &err) < 0)
        return fail(&err);
    if (msg->type != PROTO_DONE || msg->done.outcome != PROTO_OK)
        return unexpected(msg);
    (void)fputs(msg->done.text, stdout);
    return cli_flush() ? CLI_OK : CLI_FAILED;
}

int cli_stats(int argc, char **argv)
{
    const struct proto_msg *msg, ask = {.type = PROTO_STATS_REQUEST, .tag = 1};
    struct proto_hello hello;
    struct how how;
    struct err err;
    if (read_options(argc, argv, ":js:", &how) != 0)
        return CLI_USAGE;
    if (optind < argc) {
        cli_complain("stats: unexpected argument %s", argv[optind]);
        return CLI_USAGE;
    }
    auto_close int sock = cli_connect(cli_socket_path(how.socket), &hello, &err);
    if (sock < 0 || cli_ask(sock, &ask, ASK_MS, &msg, &err) < 0)
        return fail(&err);
    if (msg->type != PROTO_STATS)
        return unexpected(msg);
    for (size_t i = 0; i < msg->stats.count; i++) {
        const struct proto_stat *s = &msg->stats.entries[i];
        unsigned long long value = s->value;
        if (how.json)
            (void)printf("%s\n  \"%s\": %llu", i ? "," : "{", s->name, value);
        else
            (void)printf("%-32s %llu\n", s->name, value);
    }
    (void)fputs(!how.json ? "" : msg->stats.count ? "\n}\n" : "{}\n", stdout);
    return cli_flush() ? CLI_OK : CLI_FAILED;
}
