/* SPDX-License-Identifier: Apache-2.0 */
/* cli - the program `brood`: a second client of the engine's Unix socket, beside the frontend.
 *
 * Runs as whoever typed it and has the rights of that user. It trusts the engine with its answers,
 * and a tenant with nothing: a tenant gets pipes that this program made, never a descriptor of its
 * user.
 */
#pragma once
#include <getopt.h>
struct err;
struct proto_hello;
struct proto_msg;

#define CLI_VERSION "brood 0.1"
#define CLI_SOCKET_DEFAULT "/run/brood/brood.sock"

enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,      /* ns, stats, doctor: it did not work out, the message says why */
    CLI_USAGE = 2,       /* ns, stats, doctor, brood itself: used wrongly */
    CLI_TIMEOUT = 124,   /* exec: the run reached its deadline */
    CLI_OUR_FAULT = 125, /* exec: nothing ran, or its end is not known; also used wrongly */
};

/* Each command gets its own argv, argv[0] being its name, and returns the exit status. */
int cli_exec(int argc, char **argv);
int cli_run(int argc, char **argv);
int cli_ns(int argc, char **argv);
int cli_policy(int argc, char **argv);
int cli_stats(int argc, char **argv);
int cli_key(int argc, char **argv);
int cli_doctor(int argc, char **argv);
int cli_help(int argc, char **argv);
int cli_version(int argc, char **argv);

/* "brood: ..." on stderr. */
void cli_complain(const char *fmt, ...) PRINTF_LIKE(1, 2);
/* As getopt_long(letters starting with : or +:), and complains about an unknown option or a missing
 * argument ('?'). */
int cli_option(int argc, char **argv, const char *letters, const struct option *options);
/* Flushes stdout; false with a complaint when something that was printed did not get out. */
bool cli_flush(void);

/* ---- the engine --------------------------------------------------------------------------------
 */

/* --socket, else $BROOD_SOCKET, else the default. */
const char *cli_socket_path(const char *given);
/* Connects and reads the engine's Hello. >=0: the socket; <0: err says what to do. */
int cli_connect(const char *path, struct proto_hello *ret_hello, struct err *err);
/* Receives the next message; it lives until the next call. 0 or <0. */
int cli_receive(int sock, uint64_t timeout_ms, const struct proto_msg **ret, struct err *err);
/* Sends a request and waits for its answer. 0 or <0. */
int cli_ask(int sock, const struct proto_msg *request, uint64_t timeout_ms,
            const struct proto_msg **ret, struct err *err);

/* ---- exec --------------------------------------------------------------------------------------
 */

/* Sends this Execute, with the code in code_fd (-1: a command), and carries its streams until it
 * has ended. What `brood exec` exits with. */
int cli_carry(int sock, const struct proto_msg *execute, bool with_stdin, int code_fd);

/* ---- doctor ------------------------------------------------------------------------------------
 */

enum cli_verdict { CLI_FINE, CLI_WARN, CLI_MISSING };

/* One line: "ok       what: detail -> remedy"; detail and remedy are printf texts, remedy may be
 * NULL. */
void cli_say(enum cli_verdict verdict, const char *what, const char *remedy, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

/* A layer of isolation as an attacker's questions found it; the words are the protocol's. */
struct cli_layer {
    const char *name, *state;
    bool required;
    const char *question, *detail;
};
/* Notes it for --json, where it stands apart from what cli_say said. */
void cli_layer(const struct cli_layer *layer, enum cli_verdict verdict, const char *remedy);
/* Tells what the service, or one that is started for that, found; false: there is nothing. A NULL
 * is left to the configuration. */
bool cli_tell_layers(const struct proto_hello *hello);
bool cli_probe_layers(const char *fs_root, const char *lib_dir, const char *image);

/* Runs fn in a forked child, 10 s at most: its exit status, or -1 when it was killed or did not
 * end. With `ret_text` the child's stdout and stderr go there (the first room - 1 bytes), else to
 * /dev/null. */
int cli_try(int (*fn)(const void *arg), const void *arg, char *ret_text, size_t room);

void cli_probe_kernel(void);  /* version, kernel namespaces, userns limits */
void cli_probe_cgroups(void); /* memory, pids, cpu; v1 or v2 */
void cli_probe_policy(void);  /* landlock, seccomp */
void cli_probe_idmap(const char *fs_root);
void cli_probe_bash(const char *lib_dir, const char *image);
void cli_probe_limits(void);
/* True: there is one, and it told its layers. */
bool cli_probe_service(const char *socket);
