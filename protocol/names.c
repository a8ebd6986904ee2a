/* SPDX-License-Identifier: Apache-2.0 */
/* protocol/names - the words of the API for enumerators and signals, and which names a request may
 * use. Pure functions; used at the doors of frontend, CLI and engine.
 */
#include "protocol/protocol.h"
#include <signal.h>

static const char *const reasons[PROTO_REASONS] = {
    [PROTO_REASON_EXIT] = "exit",
    [PROTO_REASON_SIGNAL] = "signal",
    [PROTO_REASON_TIMEOUT] = "timeout",
    [PROTO_REASON_CPU_LIMIT] = "cpu_limit",
    [PROTO_REASON_OOM] = "oom",
    [PROTO_REASON_PIDS] = "pids",
    [PROTO_REASON_OUTPUT] = "output",
    [PROTO_REASON_DISK] = "disk",
    [PROTO_REASON_CANCELLED] = "cancelled",
    [PROTO_REASON_SECCOMP] = "seccomp",
    [PROTO_REASON_INTERNAL] = "internal",
};
static const char *const starts[PROTO_STARTS] = {"warm", "spare", "cold", "exec"};
static const char *const outcomes[PROTO_OUTCOMES] = {
    [PROTO_OK] = "ok",
    [PROTO_BAD_REQUEST] = "bad_request",
    [PROTO_QUEUE_FULL] = "queue_full",
    [PROTO_QUEUE_TIMEOUT] = "queue_timeout",
    [PROTO_ACTIVATION_FAILED] = "activation_failed",
    [PROTO_DRAINING] = "draining",
    [PROTO_NOT_FOUND] = "not_found",
    [PROTO_BUSY] = "busy",
    [PROTO_INTERNAL] = "internal",
    [PROTO_FORBIDDEN] = "forbidden",
    [PROTO_TOO_MANY] = "too_many",
};

const char *proto_reason_name(enum proto_reason reason)
{
    return (unsigned)reason < PROTO_REASONS ? reasons[reason] : "internal";
}

const char *proto_start_name(enum proto_start start)
{
    return (unsigned)start < PROTO_STARTS ? starts[start] : "cold";
}

const char *proto_outcome_name(enum proto_outcome outcome)
{
    return (unsigned)outcome < PROTO_OUTCOMES ? outcomes[outcome] : "internal";
}

const char *proto_layer_state_name(enum proto_layer_state state)
{
    static const char *const names[PROTO_LAYER_STATES] = {"held", "broken", "absent"};
    return (unsigned)state < PROTO_LAYER_STATES ? names[state] : "broken";
}

const char *proto_network_name(enum proto_network network)
{
    static const char *const names[PROTO_NETWORKS] = {"none", "egress"};
    return (unsigned)network < PROTO_NETWORKS ? names[network] : "none";
}

const char *proto_companion_name(enum proto_companion companion)
{
    static const char *const names[PROTO_COMPANIONS] = {"none", "session", "terminal"};
    return (unsigned)companion < PROTO_COMPANIONS ? names[companion] : "none";
}

const char *proto_signal_name(int signal)
{
    static _Thread_local char text[24];
    if (signal <= 0)
        return NULL;
    const char *name = sigabbrev_np(signal);
    if (name)
        return name;
    if (signal >= SIGRTMIN && signal <= SIGRTMAX)
        (void)snprintf(text, sizeof text, signal == SIGRTMIN ? "RTMIN" : "RTMIN+%d",
                       signal - SIGRTMIN);
    else
        (void)snprintf(text, sizeof text, "%d", signal);
    return text;
}

/* What a terminal or a supervisor of a program would send; none that says something about the
 * process itself, as SEGV does. */
int proto_signal_find(const char *name)
{
    static const int allowed[] = {SIGINT,  SIGTERM, SIGHUP,  SIGUSR1, SIGUSR2,
                                  SIGQUIT, SIGKILL, SIGCONT, SIGSTOP, SIGWINCH};
    for (size_t i = 0; i < ARRAY_LEN(allowed); i++)
        if (strcmp(sigabbrev_np(allowed[i]), name) == 0)
            return allowed[i];
    return 0;
}

static bool is_of_word_characters(const char *text, size_t len)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    for (size_t i = 0; i < len; i++)
        if (text[i] == 0 || !strchr(allowed, text[i]))
            return false;
    return len > 0;
}

bool proto_ns_id_is_valid(const char *id, size_t len)
{
    return len <= PROTO_NS_ID_MAX && is_of_word_characters(id, len) && id[0] != '.' && id[0] != '-';
}

bool proto_session_is_valid(const char *name, size_t len)
{
    return len <= PROTO_SESSION_MAX && is_of_word_characters(name, len);
}

static const struct {
    const char *name, *why;
} refused[] = {
    {"ENV", "names a file that sh would run"},
    {"SHELLOPTS", "sets options of the shell"},
    {"POSIXLY_CORRECT", "sets options of the shell"},
    {"POSIX_PEDANTIC", "sets options of the shell"},
    {"GLOBIGNORE", "sets options of the shell"},
    {"PS4", "is evaluated by the shell"},
    {"PROMPT_COMMAND", "is evaluated by the shell"},
    {"IFS", "changes how the command is read"},
    {"PWD", "belongs to the shell (use cwd)"},
    {"OLDPWD", "belongs to the shell"},
    {"SHLVL", "belongs to the shell"},
    {"_", "belongs to the shell"},
    {"PPID", "belongs to the shell"},
    {"UID", "belongs to the shell"},
    {"EUID", "belongs to the shell"},
    {"GROUPS", "belongs to the shell"},
    {"HOSTNAME", "belongs to the shell"},
    {"HOSTTYPE", "belongs to the shell"},
    {"MACHTYPE", "belongs to the shell"},
    {"OSTYPE", "belongs to the shell"},
    {"RANDOM", "belongs to the shell"},
    {"SRANDOM", "belongs to the shell"},
    {"SECONDS", "belongs to the shell"},
    {"EPOCHSECONDS", "belongs to the shell"},
    {"EPOCHREALTIME", "belongs to the shell"},
    {"LINENO", "belongs to the shell"},
    {"HISTCMD", "belongs to the shell"},
    {"DIRSTACK", "belongs to the shell"},
    {"FUNCNAME", "belongs to the shell"},
    {"PIPESTATUS", "belongs to the shell"},
    {"OPTIND", "belongs to the shell"},
    {"OPTERR", "belongs to the shell"},
    {"OPTARG", "belongs to the shell"},
    {"COMP_WORDBREAKS", "belongs to the shell"},
};

const char *proto_env_name_refused(const char *name, size_t len)
{
    if (len == 0)
        return "an empty name";
    if (len > 255)
        return "a name longer than 255 bytes";
    for (size_t i = 0; i < len; i++)
        if (name[i] == '=' || name[i] <= ' ' || name[i] > '~')
            return "a name with '=', NUL, a space or a character that is not printable ASCII";
    if (len >= 4 && memcmp(name, "BASH", 4) == 0)
        return "BASH* describes the shell or runs code in it";
    if (len >= 3 && memcmp(name, "LD_", 3) == 0)
        return "LD_* changes what every program loads";
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        if (strlen(refused[i].name) == len && memcmp(refused[i].name, name, len) == 0)
            return refused[i].why;
    return NULL;
}
