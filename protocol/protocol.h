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
#define PROTO_LIST_MAX 1000u
#define PROTO_DENIED_MAX 16u
#define PROTO_SYSCALL_ROOM 32u
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
};

enum proto_outcome {
    PROTO_OK,                /* a run took place; the facts are valid */
    PROTO_BAD_REQUEST,       /* field and text say what; nothing ran */
    PROTO_QUEUE_FULL,        /* retry_after_ms */
    PROTO_QUEUE_TIMEOUT,     /* waited longer than max_wait; retry_after_ms */
    PROTO_ACTIVATION_FAILED, /* the namespace could not be made ready; retry_after_ms */
    PROTO_DRAINING,          /* the service is stopping */
    PROTO_NOT_FOUND,         /* remove: no such namespace */
    PROTO_BUSY,              /* remove: runs are queued or running; retry_after_ms */
    PROTO_INTERNAL,          /* our own fault */
    PROTO_FORBIDDEN,         /* this peer may not ask for that; nothing happened */
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

struct proto_execute {
    uint64_t tag;
    const char *ns_id;
    const char *cmd;
    size_t cmd_len;
    const struct proto_env *env;
    size_t env_count;
    const char *cwd; /* "" : home */
    uint64_t timeout_ms, cpu_ms;
    uint64_t memory_bytes, pids_max; /* 0: as the policy says */
    const char *policy;              /* "": the namespace's own */
    const char *request_id;
};

struct proto_denied {                 /* a system call that the policy refused to a run */
    char syscall[PROTO_SYSCALL_ROOM]; /* of [a-z0-9_] */
    uint32_t times;
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

/* Bits of proto_hello.networks. */
enum proto_network { PROTO_NETWORK_NONE, PROTO_NETWORK_EGRESS, PROTO_NETWORKS };

struct proto_hello {
    uint32_t version;
    const char *server;
    uint64_t cmd_bytes_max, env_bytes_max, timeout_ms_default, timeout_ms_max, output_bytes_max;
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
            const char *name;
        } policy_request;
        struct {
            enum proto_outcome outcome;
            const char *text;
        } done;
    };
};

/* Sends one message with descriptors (they stay the caller's). 0; -EAGAIN: the peer does not read
 * (non-blocking socket, nothing was sent); other <0: the connection is of no use any more. */
int proto_send(int sock, const struct proto_msg *msg, const int *fds, size_t nfds, struct err *err);

/* Receives one message into *ret (pointing into arena, which it resets first).
 * 1: a message; descriptors in fds, now the caller's. 0: the peer is gone. -EAGAIN: nothing there.
 * -EPROTO: the peer broke the protocol, err says how (no descriptor is left open): close.
 * Other <0: the socket failed. */
int proto_recv(int sock, struct arena *arena, struct proto_msg *ret, int fds[8], size_t *ret_nfds,
               struct err *err);

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

/* 1-64 characters of [A-Za-z0-9._-], not starting with . or - */
bool proto_ns_id_is_valid(const char *id, size_t len);
/* May this environment variable be set by a request? NULL: yes; otherwise why not (for people).
 * The rule and its reasons: SECURITY.md, "Environment from a request". */
const char *proto_env_name_refused(const char *name, size_t len);
