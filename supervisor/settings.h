/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/settings - the configuration: flags over environment over .env over a YAML file over
 * embedded defaults, checked as a whole before anything is started. etc/brood.yaml documents each
 * key.
 *
 * Read by the supervisor before it splits, as the operator who started it; on SIGHUP by the engine
 * from a descriptor that priv opened (then only the keys marked R take effect). Never read by a
 * tenant.
 */
#pragma once
#include "lib/log.h"
#include "policy/policy.h"
#include "protocol/protocol.h"
#include <limits.h>
struct err;

#define SETTINGS_POLICY_FILE "/etc/brood/policy.yaml"

enum settings_memory { SETTINGS_MEMORY_RECYCLED, SETTINGS_MEMORY_FRESH };
enum settings_bool { SETTINGS_FALSE, SETTINGS_TRUE };
enum settings_zygote { SETTINGS_ZYGOTE_AUTO, SETTINGS_ZYGOTE_BASH, SETTINGS_ZYGOTE_EXEC };

struct settings {
    /* where (paths: absolute after settings_load) */
    char fs_root[PATH_MAX]; /* fs_root, SANDBOX_FS_ROOT, --fs-root; ./namespaces */
    char
        state_dir[PATH_MAX]; /* state_dir: the frontend's files; "": fs_root with ".state" behind */
    char socket[108];        /* socket: the engine's Unix socket; /run/brood/brood.sock */
    char socket_users[256], socket_admins[256]; /* who may use it beside root: supervisor/peers.h */
    char key_file[PATH_MAX];                    /* key_file: etc/keys.yaml documents it; "": none */
    char api_keys[16384];   /* api_keys, API_KEYS; overwritten as soon as it is hashed; "": none */
    char http_listen[64];   /* http.listen: an address; 127.0.0.1; without keys a loopback one */
    unsigned http_port;     /* http.port, PORT, --port; 8080; 0: no TCP listener */
    char http_socket[108];  /* http.socket: HTTP over a Unix socket; "" = none */
    char lib_dir[PATH_MAX]; /* lib_dir: where brood-frontend, brood-zygote(.so) are; beside the
                               supervisor */
    char image[PATH_MAX];   /* image: root image whose usr, bin, lib* are used; / */
    /* users to drop to; "" = the built-in numeric ids */
    char user_frontend[33], user_engine[33], user_courier[33];
    uint64_t uid_base;            /* first host uid for namespaces; 1073741824 */
    enum settings_zygote zygote;  /* zygote: auto|bash|exec */
    char policy_file[PATH_MAX];   /* policy_file: etc/policy.yaml documents it */
    char languages_dir[PATH_MAX]; /* absolute; "": embedded, "none" */
    char optional_layers[256];    /* optional_layers: comma list of layers that may be missing */

    /* http (R but threads) */
    uint64_t threads;                                               /* 0: chosen by the frontend */
    uint64_t body_bytes_max;                                        /* 1 MiB */
    uint64_t connections_max;                                       /* 4096 */
    uint64_t request_timeout_ms, idle_timeout_ms, write_timeout_ms; /* 10 s, 60 s, 30 s */

    /* files (R) */
    uint64_t upload_bytes_max; /* of one body; 64 MiB */
    uint64_t uploads_held_max; /* of all that the frontend holds; 256 MiB */

    /* runs (R) */
    uint64_t timeout_ms_default, timeout_ms_max; /* 30 s, 300 s */
    uint64_t grace_ms;                           /* SIGTERM to SIGKILL; 100 */
    uint64_t output_bytes_max;                   /* per stream; 1 MiB */
    uint64_t queue_max;                          /* runs waiting per namespace; 64 */
    uint64_t max_wait_ms;                        /* 10 s */
    uint64_t drain_ms;                           /* grace of a stop; 30 s */

    /* v1_runs (R): POST /v1/runs */
    struct proto_run_limits v1; /* 200 KiB; 5/10 s, 256/512 MiB, 5/20 s, 1/2 MiB, 5/20 MiB, 10/10 */

    /* store (R): runs and files, and the URLs of those */
    uint64_t store_age_ms, store_runs_max, store_bytes_max; /* 7 days, 100,000, 10 GiB */
    uint64_t store_key_bytes_max, store_key_files_max;      /* uploads of a key; 1 GiB, 1,000 */
    uint64_t store_file_bytes_max, store_url_lifetime_ms;   /* 64 MiB, 1 h */
    uint64_t store_once_age_ms, store_once_max, store_once_bytes_max; /* Idempotency-Keys; 1 day,
                                                                         100,000, 256 MiB */
    char public_base_url[256]; /* "": what listen and port tell, or none */

    /* jobs (R): POST /submit */
    uint64_t jobs_concurrency;                   /* of a language; 4 */
    uint64_t jobs_queue_max, jobs_key_queue_max; /* that wait; 100,000, 20,000 */
    uint64_t jobs_queue_bytes_max;               /* their requests; 1 GiB */
    uint64_t jobs_attempts_max;                  /* 3 */

    /* streams (R): output that is shown while its run runs */
    uint64_t stream_ring_bytes, stream_rings_bytes_max; /* of one run, of all; 1 MiB, 64 MiB */
    uint64_t stream_heartbeat_ms, stream_linger_ms;     /* 15 s; 60 s */

    /* webhooks: whom a job's callback_url may name (courier/courier.h), R from `attempts` on */
    char webhook_allow[4096];                              /* "": none, and no courier */
    char webhook_allow_private[1024];                      /* addresses that are not public */
    char webhook_ca_file[PATH_MAX];                        /* "": the system's */
    char webhook_secret_file[PATH_MAX];                    /* "": state_dir's webhook.key */
    uint64_t webhook_connect_ms, webhook_timeout_ms;       /* 5 s, 10 s */
    uint64_t webhook_attempts;                             /* 12 */
    uint64_t webhook_delay_first_ms, webhook_delay_max_ms; /* 10 s, 1 h */
    uint64_t webhook_at_once, webhook_at_once_host;        /* 32, 4 */

    /* namespaces (R) */
    uint64_t active_max;         /* 1024 */
    uint64_t idle_ms;            /* 10 min */
    enum settings_memory memory; /* runs.memory: recycled|fresh */
    uint64_t standby_idle_ms;    /* a standby child is kept this long after a run; 2 s */
    uint64_t spares;             /* 8 */
    uint64_t memory_total_bytes; /* of all namespaces; three quarters of the machine's */
    uint64_t pids_total;         /* likewise; three quarters of kernel.pid_max */
    uint64_t fresh_bytes;        /* /work of a fresh one; 64 MiB, less where memory is short */

    /* sessions, terminals (R but max) */
    struct settings_companions {
        uint64_t per_namespace, max; /* 4, 128; 4, 32. max 0: there are none */
        uint64_t idle_ms;            /* 30 min; 10 min */
        uint64_t max_life_ms;        /* of a terminal; 8 h */
    } sessions, terminals;
    uint64_t terminals_silence_ms;                 /* 60 s */
    char terminals_origins[PROTO_ORIGINS_MAX + 1]; /* "" ; comma list */

    /* limits of a namespace (fixed at start) */
    uint64_t memory_bytes; /* 512 MiB */
    uint64_t pids_max;     /* 256 */
    uint64_t cpu_percent;  /* 100 = one CPU; 0 = no quota */
    uint64_t tmp_bytes; /* /tmp and /dev/shm together; 64 MiB, or a quarter of little memory; below
                           half */
    uint64_t nofile, fsize_bytes, stack_bytes; /* 1024, 1 GiB, 8 MiB */

    /* network of the default policy, and the links of all (fixed at start) */
    enum policy_network network_mode; /* none|egress */
    char network_allow[4096];         /* "" ; comma list, policy_net_parse_rule() */
    char network_resolvers[128];      /* "" ; comma list of addresses */
    uint64_t network_rate_kbit;       /* 0: no limit */
    char network_subnet[32];          /* 10.213.0.0/16 */
    enum settings_bool network_manage_forwarding;

    /* log (R) */
    enum log_format log_format; /* text|json */
    enum log_level log_level;
};

/* Descriptors of the files, for a reload: -1 where there is none. */
struct settings_files {
    int yaml_fd, dotenv_fd;
    char yaml_path[PATH_MAX], dotenv_path[PATH_MAX];
};

struct settings_network {
    struct policy_net policy;
    uint32_t subnet, prefix;
};

enum { SETTINGS_HELP = 1, SETTINGS_VERSION = 2 };

/* Reads everything. What is secret is overwritten in environment and argv, and stands in *ret
 * alone. argv as of main. 0; SETTINGS_HELP / SETTINGS_VERSION: printed, exit 0; <0: err names file,
 * line (or flag, variable), key and what was expected. */
int settings_load(int argc, char **argv, struct settings *ret, struct settings_files *ret_files,
                  struct err *err);
/* The same again with the files read from descriptors; flags and environment of the first time
 * stay. Without secrets. */
int settings_reload(const struct settings_files *files, struct settings *ret, struct err *err);
/* How many zygotes there can be at once: active, spare, companions, and those that are being ended.
 */
uint64_t settings_count_slots(const struct settings *set);
/* Copies from `fresh` what may change while the service runs (the keys marked R). */
void settings_apply(struct settings *set, const struct settings *fresh);
/* The group `network` as numbers. <0: err says what was wrong with the setting *ret_name. */
int settings_read_network(const struct settings *set, struct settings_network *ret,
                          const char **ret_name, struct err *err);
