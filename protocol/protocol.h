/* SPDX-License-Identifier: Apache-2.0 */
/* protocol - what clients of the engine (frontend, CLI, anyone) and the engine say to each other.
 *
 * One frame is one SOCK_SEQPACKET datagram: an 8-byte header {magic "brd1", type, flags} followed
 * by one protobuf message, descriptors beside it (SCM_RIGHTS). A message longer than
 * PROTO_INLINE_BYTES_MAX travels as a sealed memfd, the last descriptor of an otherwise empty frame
 * with PROTO_FLAG_MEMFD set. PROTOCOL.md is the long form. Plain structs go in and come out: the
 * generated types never leave this folder. Decoding allocates from a capped arena; all text and
 * byte pointers of a decoded message live in it (or in the encoder's caller's memory for sending).
 */
#pragma once
#include <sys/types.h>
struct arena;
struct err;

#define PROTO_VERSION 1
#define PROTO_FRONTEND_REFUSES 3 /* exit status: its state will not do, ever */
#define PROTO_INLINE_BYTES_MAX 32768u
#define PROTO_MESSAGE_BYTES_MAX (512u * 1024)
#define PROTO_ARENA_BYTES (1536u * 1024) /* cap of what one message may decode into */
#define PROTO_CMD_BYTES_MAX 131071u      /* as one argv string of execve(2): MAX_ARG_STRLEN - 1 */
#define PROTO_ENV_COUNT_MAX 256u
#define PROTO_ENV_BYTES_MAX 65536u
#define PROTO_CWD_BYTES_MAX 4095u
#define PROTO_NS_ID_MAX 64u
#define PROTO_REQUEST_ID_MAX 128u
#define PROTO_POLICY_NAME_MAX 32u
#define PROTO_KEY_LABEL_MAX 64u
#define PROTO_LIST_MAX 1000u
#define PROTO_SESSION_MAX 64u
#define PROTO_ORIGINS_MAX 1000u
#define PROTO_SESSIONS_MAX 64u /* of one namespace, and as many terminals */
#define PROTO_DENIED_MAX 16u
#define PROTO_SYSCALL_ROOM 32u
#define PROTO_PLACES_MAX 16u       /* files that are placed before a run */
#define PROTO_PLACE_BYTES_MAX 512u /* each one's path */
#define PROTO_ARGS_MAX 64u
#define PROTO_ARGS_BYTES_MAX 32768u
#define PROTO_LANGUAGE_NAME_MAX 32u
#define PROTO_LANGUAGES_MAX 64u
#define PROTO_ALIASES_MAX 8u
#define PROTO_STAGES_MAX 2u
#define PROTO_FDS_MAX 26u              /* beside one message; one of them may be its memfd */
#define PROTO_TIMEOUT_MS_MAX 86400000u /* one day: no configuration goes beyond */

enum proto_type {
    PROTO_HELLO = 1,
    PROTO_EXECUTE,
    PROTO_CANCEL,
    PROTO_RESULT,
    PROTO_STATS_REQUEST,
    PROTO_STATS,
    PROTO_NS_LIST_REQUEST,
    PROTO_NS_LIST,
    PROTO_NS_REMOVE,
    PROTO_DONE,
    PROTO_POLICY_REQUEST = 20,
    PROTO_WAITING,
    PROTO_SIGNAL = 30,
    PROTO_SESSION_LIST_REQUEST,
    PROTO_SESSION_LIST,
    PROTO_SESSION_CLOSE,
};

enum proto_outcome {
    PROTO_OK,                /* a run took place; the facts are valid */
    PROTO_BAD_REQUEST,       /* field and text say what; nothing ran */
    PROTO_QUEUE_FULL,        /* retry_after_ms */
    PROTO_QUEUE_TIMEOUT,     /* waited longer than max_wait; retry_after_ms */
    PROTO_ACTIVATION_FAILED, /* the namespace could not be made ready; retry_after_ms */
    PROTO_DRAINING,          /* the service is stopping */
    PROTO_NOT_FOUND,         /* remove: no such namespace; close: no such session */
    PROTO_BUSY,              /* remove: runs are queued or running; retry_after_ms */
    PROTO_INTERNAL,          /* our own fault */
    PROTO_FORBIDDEN,         /* this peer may not ask for that; nothing happened */
    PROTO_TOO_MANY,          /* sessions or terminals, of the namespace or in all; retry_after_ms */
    PROTO_OUTCOMES,
};

enum proto_reason {
    PROTO_REASON_EXIT,
    PROTO_REASON_SIGNAL,
    PROTO_REASON_TIMEOUT,
    PROTO_REASON_CPU_LIMIT,
    PROTO_REASON_OOM,
    PROTO_REASON_PIDS,
    PROTO_REASON_OUTPUT,
    PROTO_REASON_DISK,
    PROTO_REASON_CANCELLED,
    PROTO_REASON_SECCOMP,
    PROTO_REASON_INTERNAL,
    PROTO_REASONS,
};

enum proto_start {
    PROTO_START_WARM,
    PROTO_START_SPARE,
    PROTO_START_COLD,
    PROTO_START_EXEC,
    PROTO_STARTS
};

struct proto_env {
    const char *name;
    const char *value; /* no NUL inside: checked by the decoder */
};

/* ---- files -----------------------------------------------------------------------------------
 *
 * What a client says to the child that works on a namespace's files, as its user and inside its
 * box (zygote/files.c); the engine only carries it. The client trusts nothing of what comes back:
 * a descriptor may be of any kind, a name of any bytes. */

enum proto_files_op {
    PROTO_FILES_STAT = 1, /* one answer */
    PROTO_FILES_GET,      /* one answer, with a read-only descriptor of a regular file */
    PROTO_FILES_PUT,      /* stdin to a file, by a temporary one and rename; directories are made */
    PROTO_FILES_LIST,     /* an answer for each entry of a directory, in the order of names */
    PROTO_FILES_DELETE,   /* a file, a link, or a directory (RECURSIVE, or empty) */
    PROTO_FILES_MKDIR,    /* with its parents; there already: fine */
    PROTO_FILES_COLLECT,  /* regular files below `path`, each with a descriptor; then waits until
                             its reader hangs up, so that no later run can change them */
};
#define PROTO_FILES_RECURSIVE 1u  /* LIST: the whole tree, DELETE */
#define PROTO_FILES_EXECUTABLE 2u /* PUT: mode 0755 instead of 0644 */
#define PROTO_FILES_MAGIC 0x31667a62u
#define PROTO_FILES_PATH_MAX 4095u

struct proto_files_ask {
    uint32_t magic, op, flags;
    uint32_t count_max; /* LIST: entries, then the last with E2BIG; COLLECT: files; 0: many */
    uint64_t bytes_max; /* GET: of the file, COLLECT: of all, PUT: exactly so many; 0: any */
    char path[PROTO_FILES_PATH_MAX + 1];  /* relative to /work; "": it itself */
    char after[PROTO_FILES_PATH_MAX + 1]; /* LIST: names behind this one; "": from the first */
};

/* One datagram. The last one has `last` set; end of file without it: the operation was cut off. */
struct proto_files_answer {
    uint32_t magic;
    uint32_t status; /* 0, or errno: of the operation (last), or of this entry alone */
    uint32_t last;
    uint32_t kind; /* 'f' regular, 'd' directory, 'l' symbolic link, 'o' other; 0: no entry */
    uint32_t mode, name_bytes;
    uint64_t size;
    int64_t mtime_ns; /* since the epoch */
    uint64_t dropped; /* last of COLLECT, LIST: files, or directories, that were left out */
    char name[PROTO_FILES_PATH_MAX + 1]; /* relative to `path`, name_bytes of it are sent */
};

/* ---- terminals -------------------------------------------------------------------------------
 *
 * What comes over the socket of a TERMINAL: one datagram, with the master of a pty beside it, or
 * why there is none. Whoever holds the master has the terminal; the shell on it is told when it
 * closes (SIGHUP). The size is the run's two `args`: columns and rows, in decimal. */
#define PROTO_TERMINAL_MAGIC 0x31747a62u
#define PROTO_TERMINAL_SIZE_MAX 1000u
struct proto_terminal_answer {
    uint32_t magic;
    uint32_t error; /* errno; 0: the master is there */
};

/* What a run is, and which descriptors come with it, in this order:
 *   COMMAND  `cmd` evaluated by bash: stdin, stdout, stderr
 *   CODE     the program of a language: stdin, stdout, stderr, the compiler's stdout and stderr,
 *            a memfd with the code; no `cmd`
 *   FILES    `files`: the bytes to put (or /dev/null), the far end of a SOCK_SEQPACKET pair for the
 *            answers, /dev/null; no `cmd`
 *   TERMINAL a login bash on a pty of its own, in a TERMINAL companion: /dev/null, the far end of a
 *            SOCK_SEQPACKET pair over which the pty's master comes, /dev/null; no `cmd`. Its
 *            deadline is terminals.max_life_s
 * then, with `work`, the far end of such a pair for artifacts; then one for each of `places`. */
enum proto_kind { PROTO_COMMAND, PROTO_CODE, PROTO_FILES, PROTO_TERMINAL, PROTO_KINDS };

/* Where it runs: in the namespace's own zygote, one after the other; or beside that, in a
 * *companion*: a zygote of its own in the same kernel namespaces but the pidns, so with the same
 * files, loopback and users. A companion is made by the first run that names it, and takes its runs
 * one after the other. A session stays until it is closed or idle, a terminal for one run. COMMAND
 * and TERMINAL only, and in a namespace that has a name. */
enum proto_companion {
    PROTO_COMPANION_NONE,
    PROTO_COMPANION_SESSION,
    PROTO_COMPANION_TERMINAL,
    PROTO_COMPANIONS
};

/* Limits that nobody asked for: where the policy allows less, less is what the run gets. */
enum proto_usual {
    PROTO_USUAL_TIMEOUT = 1,
    PROTO_USUAL_MEMORY = 2,
    PROTO_USUAL_CPU = 4,
    PROTO_USUAL_ALL = 7
};

struct proto_execute {
    uint64_t tag;
    enum proto_kind kind;
    const char *ns_id; /* "": a fresh one with an empty home in memory, gone afterwards */
    const char *cmd;
    size_t cmd_len;
    const char *language;    /* CODE */
    const char *const *args; /* NUL-terminated each */
    size_t arg_count;
    const char *const *places; /* relative to /work, without "." and ".." parts */
    size_t place_count;
    bool work; /* COMMAND, CODE */
    uint64_t artifact_bytes_max;
    uint32_t artifact_files_max;
    const struct proto_files_ask *files; /* FILES; else NULL */
    const struct proto_env *env;
    size_t env_count;
    const char *cwd; /* "" : home */
    uint64_t timeout_ms, cpu_ms;
    uint64_t memory_bytes, pids_max; /* 0: as the policy says */
    uint32_t usual;                  /* enum proto_usual */
    const char *policy;              /* "": the namespace's own */
    bool tell_start;                 /* a WAITING comes when it is handed over (frontend only) */
    const char *request_id;
    const char *key; /* whose request it is, for the log; "": nobody's (frontend only) */
    uint64_t timeout_ms_ceiling, memory_bytes_ceiling, cpu_ms_ceiling; /* that key's; 0: none */
    enum proto_companion companion;
    const char *session; /* the companion's name, proto_session_is_valid; "": there is none */
    /* Frontend only. patient: neither max_wait nor the namespace's queue_max is for it, and Waiting
     * (false) says when it begins. held: that says when its turn has come, and it begins when the
     * same message came back. */
    bool patient, held;
    bool policy_of_key; /* policy is what the operator gave its key (frontend only) */
};

struct proto_denied {                 /* a system call that the policy refused to a run */
    char syscall[PROTO_SYSCALL_ROOM]; /* of [a-z0-9_] */
    uint32_t times;
};

struct proto_stage {
    char name[16]; /* "compile", "run" */
    enum proto_reason reason;
    bool exited;
    int exit_code, signal;
    uint64_t wall_us, cpu_us, max_rss_kb;
};

struct proto_result {
    uint64_t tag;
    enum proto_outcome outcome;
    const char *field, *text; /* never NULL after decoding */
    uint64_t retry_after_ms;
    uint64_t run_id;
    enum proto_reason reason;
    bool exited;
    int exit_code, signal;
    uint64_t queue_us, wall_us, cpu_us, max_rss_kb;
    uint64_t output_bytes_max;           /* 0: the policy has none of its own */
    uint64_t net_rx_bytes, net_tx_bytes; /* 0 without a network */
    enum proto_start start;
    struct proto_denied denied[PROTO_DENIED_MAX]; /* in the order of the first time */
    size_t denied_count;
    struct proto_stage stages[PROTO_STAGES_MAX]; /* of CODE; the facts above are the last one's */
    size_t stage_count;
    bool collecting; /* artifacts follow over their socket, until its end */
    /* What it was given, of CODE its last stage. All 0: not known, or it never began; cpu_ms 0: no
     * limit of its own. */
    uint64_t timeout_ms, memory_bytes, cpu_ms;
    /* Of a run in a companion: that was made for it; that is gone with it, and the next run of that
     * name gets another. */
    bool companion_new, companion_ended;
    bool companion_interrupted; /* of a session: SIGINT was sent and it goes on */
};

/* A layer of isolation, as it was found by attacking it at the service's start. */
enum proto_layer_state { PROTO_HELD, PROTO_BROKEN, PROTO_ABSENT, PROTO_LAYER_STATES };
struct proto_layer {
    const char *name;
    enum proto_layer_state state;
    bool required;
    const char *question, *detail; /* what succeeded, or what else there is to say; may be "" */
};
#define PROTO_LAYERS_MAX 64u

struct proto_language {
    const char *name;
    const char *aliases[PROTO_ALIASES_MAX];
    size_t alias_count;
    const char *version; /* "": not known */
    bool available, compiles;
};

/* What POST /v1/runs may ask for: what holds when it does not, and the ceiling. */
struct proto_limit {
    uint64_t fallback, max;
};
struct proto_run_limits {
    uint64_t code_bytes_max; /* of every program, POST /execute's too */
    struct proto_limit timeout_ms, memory_bytes, cpu_ms, output_bytes, artifact_bytes;
    struct proto_limit artifact_files;
};

/* What the frontend keeps, store/store.h, and the URLs it gives for it. */
struct proto_store {
    uint64_t age_s, runs_max, bytes_max, key_bytes_max, key_files_max, file_bytes_max;
    uint64_t url_lifetime_s;
    uint64_t once_age_s, once_max, once_bytes_max; /* requests with an Idempotency-Key */
    const char *public_base_url;                   /* without a slash at its end; may be "" */
};

/* The frontend's queue of jobs. */
struct proto_jobs {
    uint64_t concurrency; /* of each language */
    uint64_t queue_max, key_queue_max, queue_bytes_max, attempts_max;
};

struct proto_companion_limits {
    uint64_t per_namespace, max, idle_s, max_life_s; /* max_life_s: of terminals */
};

/* What the frontend holds of output that is shown while its run runs: frontend/stream.h. */
struct proto_streams {
    uint64_t ring_bytes, rings_bytes_max; /* of one run; of all together */
    uint64_t heartbeat_ms, linger_ms;
};

/* How jobs' receivers are told, frontend/webhooks.h. */
struct proto_webhooks {
    const char *allow; /* courier/courier.h; "": nobody is */
    uint64_t timeout_ms, attempts, delay_first_ms, delay_max_ms, at_once, at_once_host;
};

/* Bits of proto_hello.networks. */
enum proto_network { PROTO_NETWORK_NONE, PROTO_NETWORK_EGRESS, PROTO_NETWORKS };

struct proto_hello {
    uint32_t version;
    const char *server;
    uint64_t cmd_bytes_max, env_bytes_max, timeout_ms_default, timeout_ms_max, output_bytes_max;
    uint64_t upload_bytes_max, uploads_held_max; /* bodies that are files; others: body_bytes_max */
    uint64_t body_bytes_max, connections_max, request_timeout_ms, idle_timeout_ms, write_timeout_ms;
    uint32_t log_format, log_level; /* enum log_format, enum log_level */
    bool draining;
    uint64_t queue_max, max_wait_ms;
    bool zygote_execs; /* the static fallback, not the warm bash */
    const char *kernel;
    uint32_t landlock_abi, cgroup_version; /* 0: none */
    uint32_t networks;                     /* 1 << enum proto_network */
    const struct proto_layer *layers;
    size_t layer_count;
    const struct proto_language *languages;
    size_t language_count;
    struct proto_run_limits run_limits;
    struct proto_store store;
    struct proto_companion_limits sessions, terminals;
    uint64_t terminal_silence_s;
    const char *terminal_origins; /* comma list: pages of these may open some */
    struct proto_jobs jobs;
    struct proto_streams streams;
    struct proto_webhooks webhooks;
    uint64_t keys_generation; /* 0: no keys are configured; else a descriptor comes with it, the
                                 keys (keys_load): to the frontend only */
};

struct proto_stat {
    const char *name;
    uint64_t value;
};
struct proto_ns_entry {
    const char *ns_id;
    bool active;
    uint32_t queued;
};

struct proto_session_entry {
    const char *session;
    enum proto_companion companion;
    bool busy; /* a run is on */
    uint32_t queued;
    uint64_t idle_ms, age_ms; /* idle: since its last run; 0 while busy */
};

/* Any message. The tag of the union is `type`; for CANCEL and STATS_REQUEST only `tag` counts. */
struct proto_msg {
    enum proto_type type;
    uint64_t tag;
    union {
        struct proto_hello hello;
        struct proto_execute execute;
        struct proto_result result;
        struct {
            const struct proto_stat *entries;
            size_t count;
        } stats;
        struct {
            const char *after;
            uint32_t limit;
        } ns_list_request;
        struct {
            const struct proto_ns_entry *entries;
            size_t count;
            bool more;
        } ns_list;
        struct {
            const char *ns_id;
        } ns_remove;
        struct {
            const char *ns_id;
            enum proto_companion companion; /* only these; NONE: all */
        } session_list_request;
        struct {
            const struct proto_session_entry *entries;
            size_t count;
        } session_list;
        struct {
            const char *ns_id, *session;
            enum proto_companion companion;
        } session_close;
        struct {
            const char *name;
        } policy_request;
        struct {
            enum proto_outcome outcome;
            const char *text;
        } done;
        struct {
            bool waiting;
            uint64_t output_bytes_max; /* not waiting: as in proto_result */
        };
        int signal;
    };
};

/* Sends one message with descriptors (they stay the caller's). 0; -EAGAIN: the peer does not read
 * (non-blocking socket, nothing was sent); other <0: the connection is of no use any more. */
int proto_send(int sock, const struct proto_msg *msg, const int *fds, size_t nfds, struct err *err);

/* Receives one message into *ret (pointing into arena, which it resets first).
 * 1: a message; descriptors in fds, now the caller's. 0: the peer is gone. -EAGAIN: nothing there.
 * -EPROTO: the peer broke the protocol, err says how (no descriptor is left open): close.
 * Other <0: the socket failed. */
int proto_recv(int sock, struct arena *arena, struct proto_msg *ret, int fds[PROTO_FDS_MAX],
               size_t *ret_nfds, struct err *err);

/* Decodes the protobuf bytes of a frame of this type. 0 or -EPROTO. What proto_recv uses; for
 * fuzzing. */
int proto_decode(enum proto_type type, const void *bytes, size_t len, struct arena *arena,
                 struct proto_msg *ret, struct err *err);

/* Connects to the engine's Unix socket (blocking, close-on-exec). >=0 or <0 with err. */
int proto_connect(const char *path, struct err *err);

/* "exit", "signal", ... / "warm", ... / "ok", "bad_request", "queue_full", ...: the API's words. */
const char *proto_reason_name(enum proto_reason reason);
const char *proto_start_name(enum proto_start start);
const char *proto_outcome_name(enum proto_outcome outcome);
/* "held", "broken", "absent"; "none", "egress" */
const char *proto_layer_state_name(enum proto_layer_state state);
const char *proto_network_name(enum proto_network network);
/* "KILL", "TERM", ... without SIG; NULL for 0; "RTMIN+3" style for real-time ones (static storage).
 */
const char *proto_signal_name(int signal);
/* The number of a signal that may be sent to a run ("INT", ...); 0: there is none of that name. */
int proto_signal_find(const char *name);

/* 1-64 characters of [A-Za-z0-9._-], not starting with . or - */
bool proto_ns_id_is_valid(const char *id, size_t len);
/* 1-64 characters of [A-Za-z0-9._-] */
bool proto_session_is_valid(const char *name, size_t len);
/* "none", "session", "terminal" */
const char *proto_companion_name(enum proto_companion companion);
/* May this environment variable be set by a request? NULL: yes; otherwise why not (for people).
 * The rule and its reasons: SECURITY.md, "Environment from a request". */
const char *proto_env_name_refused(const char *name, size_t len);
