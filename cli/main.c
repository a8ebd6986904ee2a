/* SPDX-License-Identifier: Apache-2.0 */
/* cli/main - `brood`: finds the command in the table below and calls it. The table is also the
 * help.
 *
 * Runs as the user who typed it. The three standard descriptors are made sure of first: a pipe that
 * lands on a closed 1 would send the tenant's output back to the tenant.
 */
#include "cli/cli.h"
#include "lib/err.h"
#include "protocol/protocol.h"
#include <fcntl.h>
#include <stdarg.h>

static const struct {
    const char *name, *line;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"exec", "run a command in a namespace", cli_exec,
     "usage: brood exec [-n NS] [--stdin] [--env K=V]... [--cwd DIR] [--timeout S]\n"
     "                  [--policy NAME] [--session NAME] [--socket PATH] -- CMD...\n"
     "\n"
     "Runs CMD in the namespace NS (default: \"default\", made if it is not there) and carries its "
     "output\n"
     "to stdout and stderr as it comes. One CMD argument is a bash command line, taken as it is; "
     "several\n"
     "are the words of one command, each quoted for bash.\n"
     "\n"
     "  -n, --namespace NS   1-64 characters of [A-Za-z0-9._-], not starting with . or -\n"
     "  -i, --stdin          hand our stdin on; without it the command reads an empty one\n"
     "  -e, --env K=V        set an environment variable (repeatable)\n"
     "  -C, --cwd DIR        working directory; default: the home directory\n"
     "  -t, --timeout S      seconds, up to 3 decimals; default: the service's\n"
     "  -p, --policy NAME    run under this policy, if the namespace may ask for it\n"
     "  -S, --session NAME   in the bash of that name, which stays: made if it is not there\n"
     "  -s, --socket PATH    the service; default: $BROOD_SOCKET, then " CLI_SOCKET_DEFAULT "\n"
     "\n"
     "Exit status: the command's own; 128+N if signal N killed it; 124 after a timeout; 125 when "
     "brood\n"
     "itself failed. Ctrl-C cancels the run; a second one does not wait for its end.\n"},
    {"run", "run the code in a file", cli_run,
     "usage: brood run [-l LANGUAGE] [-n NS] [--stdin] [--env K=V]... [--timeout S]\n"
     "                 [--policy NAME] [--socket PATH] [--] FILE [ARG...]\n"
     "\n"
     "Runs FILE's code in a fresh namespace, which is gone afterwards, or in NS; - is stdin. What "
     "a compiler\n"
     "says goes to stderr. Options and exit status as of brood exec, and\n"
     "\n"
     "  -l, --language NAME  default: what FILE's name ends in: py, js, rb, sh, cpp, go, java, "
     "...\n"},
    {"ns", "list or remove namespaces", cli_ns,
     "usage: brood ns list [--json] [--socket PATH]\n"
     "       brood ns rm NS... [--socket PATH]\n"
     "\n"
     "list prints a line for each namespace: its name, active or idle, how many runs wait or run.\n"
     "rm removes namespaces with all their files; one with queued or running runs is refused.\n"},
    {"policy", "what a policy allows", cli_policy,
     "usage: brood policy list [--socket PATH]\n"
     "       brood policy show [NAME] [--socket PATH]\n"
     "\n"
     "Prints a policy in words, as the running service has compiled it; NAME is \"default\" when "
     "not given.\n"},
    {"key", "make, list and revoke the keys of the HTTP API", cli_key,
     "usage: brood key new --label LABEL [--file FILE] [--scopes LIST] [--namespaces PATTERN]\n"
     "                     [--rate N] [--burst N] [--expires TIME] [--policy NAME]\n"
     "                     [--timeout-ms N] [--memory-mb N] [--cpu-ms N]\n"
     "       brood key list [--file FILE] [--json]\n"
     "       brood key revoke LABEL... [--file FILE]\n"
     "\n"
     "new prints a token on stdout, once; the file keeps its hash. A running service reads the "
     "file\n"
     "on SIGHUP. It needs no service.\n"
     "\n"
     "  -f, --file FILE     default: $BROOD_KEY_FILE, then /etc/brood/keys.yaml\n"
     "  -l, --label LABEL   1-64 characters of [A-Za-z0-9._@-]: whose it is\n"
     "  --scopes LIST       of execute,runs,files,namespaces,admin; default: "
     "execute,runs,files\n"
     "  --namespaces PAT    a namespace id, perhaps ending in *; default: *, all\n"
     "  --rate N            requests a second; default: no limit\n"
     "  --burst N           requests at once; default: those of a second\n"
     "  --expires TIME      2027-01-01T00:00:00Z; default: never\n"
     "  --policy NAME       policy of its runs that name none\n"
     "  --timeout-ms, --memory-mb, --cpu-ms   what its runs get at most\n"},
    {"stats", "the service's counters", cli_stats,
     "usage: brood stats [--json] [--socket PATH]\n"
     "\n"
     "Prints a line for each counter: name and value.\n"},
    {"doctor", "what this machine has and lacks", cli_doctor,
     "usage: brood doctor [--json] [--fs-root DIR] [--lib-dir DIR] [--image DIR] [--socket PATH]\n"
     "\n"
     "Prints a line for each thing the service needs: ok, warn or missing, and what to do about "
     "it;\n"
     "then the layers of isolation as they were found by attacking them: by the running service "
     "at its\n"
     "start, or now by one that is started for it (root). Exit status 1 when something required "
     "is missing.\n"
     "\n"
     "  --json          the same as one JSON document (brood(1) has its shape)\n"
     "  --fs-root DIR   where namespaces are kept; default: $SANDBOX_FS_ROOT, then ./namespaces\n"
     "  --lib-dir DIR   where brood-zygote.so is; default: beside this program or in ../lib/brood\n"
     "  --image DIR     root image whose bash is used; default: /\n"},
    {"version", "print the version", cli_version, "usage: brood version\n"},
    {"help", "explain a command", cli_help, "usage: brood help [COMMAND]\n"},
};

static const char *command = ""; /* the one that was typed */

void cli_complain(const char *fmt, ...)
{
    char text[640];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    (void)dprintf(2, "brood: %s\n", text);
}

int cli_option(int argc, char **argv, const char *letters, const struct option *options)
{
    opterr = 0;
    int c = getopt_long(argc, argv, letters, options, NULL);
    const char *at = optind > 0 && optind <= argc ? argv[optind - 1] : "";
    const char *verb = strcmp(argv[0], command) ? argv[0] : "", *space = *verb ? " " : "";
    if (c == '?' && optopt && strncmp(at, "--", 2) == 0)
        cli_complain("%s%s%s: %s takes no argument", command, space, verb, at);
    else if (c == '?' && optopt)
        cli_complain("%s%s%s: unknown option -%c (brood help %s)", command, space, verb, optopt,
                     command);
    else if (c == '?')
        cli_complain("%s%s%s: unknown option %s (brood help %s)", command, space, verb, at,
                     command);
    else if (c == ':')
        cli_complain("%s%s%s: %s needs an argument (brood help %s)", command, space, verb, at,
                     command);
    return c == ':' ? '?' : c;
}

bool cli_flush(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return true;
    if (errno != EPIPE)
        cli_complain("stdout: %s", strerror(errno));
    return false;
}

static void print_overview(FILE *to)
{
    (void)fprintf(to, "usage: brood COMMAND [ARGUMENT...]\n\n");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        (void)fprintf(to, "  %-8s %s\n", commands[i].name, commands[i].line);
    (void)fprintf(to, "\nbrood help COMMAND says more.\n");
}

int cli_help(int argc, char **argv)
{
    if (argc < 2) {
        print_overview(stdout);
        return cli_flush() ? CLI_OK : CLI_FAILED;
    }
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (strcmp(commands[i].name, argv[1]) == 0) {
            (void)fputs(commands[i].help, stdout);
            return cli_flush() ? CLI_OK : CLI_FAILED;
        }
    cli_complain("no command %s (brood help)", argv[1]);
    return CLI_USAGE;
}

int cli_version(int argc, char **argv)
{
    if (argc > 1) {
        cli_complain("version: unexpected argument %s", argv[1]);
        return CLI_USAGE;
    }
    (void)printf("%s (protocol %d)\n", CLI_VERSION, PROTO_VERSION);
    return cli_flush() ? CLI_OK : CLI_FAILED;
}

static bool is_help(const char *word)
{
    return word && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0);
}

/* A closed 0, 1 or 2 becomes a /dev/null that fails in the direction it is used in. */
static void hold_standard_fds(void)
{
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd)
            _exit(CLI_OUR_FAULT);
}

int main(int argc, char **argv)
{
    hold_standard_fds();
    const char *name = argc > 1 ? argv[1] : "";
    if (is_help(name))
        name = "help";
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
        name = "version";
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strcmp(commands[i].name, name) != 0)
            continue;
        command = name;
        bool has_verbs = commands[i].run == cli_ns || commands[i].run == cli_policy ||
                         commands[i].run == cli_key;
        if (argc > 2 && (is_help(argv[2]) || (has_verbs && is_help(argv[3])))) {
            (void)fputs(commands[i].help, stdout);
            return cli_flush() ? CLI_OK : CLI_FAILED;
        }
        return commands[i].run(argc - 1, argv + 1);
    }
    if (*name)
        cli_complain("no command %s", name);
    print_overview(stderr);
    return CLI_USAGE;
}
