/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/priv_impl - what the files of priv share, and main.c, which sets it up. The engine
 * sees none of it.
 */
#pragma once
#include "lib/packet.h"
#include "net/net.h"
#include "supervisor/priv.h"
#include <sys/types.h>
struct settings;
struct settings_files;

enum { LISTEN_TCP, LISTEN_HTTP_SOCKET, LISTENERS };

struct priv_slot {
    pid_t pid;                 /* 0: none */
    pid_t limiter;             /* gets memory back before it limits it; 0: none */
    int pidfd, userns;         /* userns: until its volume is attached */
    uint64_t box;              /* of its policy */
    uint32_t joined;           /* the slot whose companion it is, + 1; 0: none's */
    struct policy_group group; /* its limits */
    char ns_id[72];            /* whose it is; "": nobody's yet, or the probe's */
    uint32_t net;              /* number in priv.net, NET_POLICIES_MAX: none */
    unsigned blank;            /* the volume of a probe; 0: it is none */
    bool used, ending, end_asked, removing;
    bool kept; /* free, and its cgroups are there */
};

struct priv {
    const struct settings *set;
    const struct settings_files *files;
    int engine_sock, sig_fd, root_fd;
    int state_fd;    /* the frontend's state directory, locked; -1 when probing */
    int policies_fd; /* sealed */
    const struct policy_set *policies;
    uint32_t generation;
    int listeners[LISTENERS];
    pid_t engine, frontend, courier, primordial, netd, remover, sweeper, compiler, key_reader;
    int courier_pair[2];   /* the frontend's end, the courier's; both stay open here, for those who
                              are started again. -1: nobody may be told of anything */
    int webhook_secret_fd; /* -1: the frontend has its own */
    uint64_t courier_due_ns; /* to be started then; 0: it runs, or there is none */
    uint64_t courier_started_ns;
    bool remover_is_late;          /* it could not be forked: tried again soon */
    int compiled_fd, read_keys_fd; /* the compiler's memfd, the key reader's; -1 */
    bool compile_again, read_keys_again, reload_later;
    int keys_fd;                 /* the engine's, until its fork; -1: no keys are configured */
    const struct key_list *keys; /* those of API_KEYS, hashed; beside the file's */
    int primordial_sock;         /* -1: no primordial */
    int netd_sock;               /* -1: no netd */
    uint64_t netd_started_ns;
    struct net_config *net;        /* NULL: no policy had a network at the start */
    uint32_t net_of[POLICIES_MAX]; /* a policy's number there; NET_POLICIES_MAX: none */
    enum priv_phase phase;         /* set by priv_serve */
    struct {
        uint32_t calls, failures;
    } done[PRIV_VERBS];
    bool execs, volumes_probed, going_down, probe_only;
    unsigned drains, sweep_skip;
    int exit_status;
    uint64_t down_by_ns; /* once draining: when patience ends; 0: no */
    struct cgroup cg;
    struct priv_slot *slots;
    uint32_t slot_count, kept_count;
};

/* A request with its descriptors; what a verb wants to keep it takes with fd_take. */
struct priv_call {
    const struct priv_request *req;
    int fds[PACKET_FDS_MAX];
    size_t nfds;
};

struct priv_answer { /* what a verb hands back beside its return value */
    uint32_t detail;
    int fds[PACKET_FDS_MAX];
    size_t nfds;
    bool later; /* another process is at it: answered when that ends */
};
/* One verb of the table. 0, or <0 with err. */
typedef int priv_do(struct priv *p, struct priv_call *call, struct priv_answer *ret,
                    struct err *err);

/* priv.c -----------------------------------------------------------------------------------------
 */

/* Serves the engine until DOWN, its death, or the end of patience; then ends every process of the
 * service. Returns the exit status. */
int priv_serve(struct priv *p);
/* Says this to the engine, if there still is one. */
void priv_tell(struct priv *p, const struct priv_reply *reply, const int *fds, size_t nfds);
/* Has the next of the removed volumes deleted, by a child. */
void priv_sweep(struct priv *p);
/* Is this for the namespace of a probe? ns_id has its NUL. */
bool priv_is_for_probe(const struct priv_request *req);

/* zygotes.c --------------------------------------------------------------------------------------
 */

priv_do priv_start_zygote, priv_attach_volume, priv_limit_zygote, priv_ask_limits;
/* The child that limited this slot's zygote has ended. */
void priv_on_limiter_done(struct priv *p, uint32_t slot, int status);

/* ends.c -----------------------------------------------------------------------------------------
 */

priv_do priv_end_zygote;
/* Kills the slot's zygote and its companions; what is left of them goes when they are reaped. */
void priv_begin_end(struct priv *p, uint32_t slot);
/* Are the cgroups of an earlier zygote there for the slot's next one? From here on they are its. */
bool priv_take_kept(struct priv *p, uint32_t slot);
/* This child, none of the others, has ended: a zygote or a limiter. */
void priv_on_zygote_gone(struct priv *p, pid_t pid, int status);
/* Removes the cgroups of all that are ready for it, unless a child is at it. */
void priv_start_remover(struct priv *p);
void priv_on_remover_done(struct priv *p, int status);

/* children.c -------------------------------------------------------------------------------------
 */

/* Reads the signals that there are and reaps who has ended. */
void priv_on_signals(struct priv *p);
/* SIGHUP, once nothing is being proven. */
void priv_reload(struct priv *p);

/* confine.c --------------------------------------------------------------------------------------
 */

/* Ids that processes drop to; from the settings' user names or the built-in numbers. */
struct priv_ids {
    uid_t uid;
    gid_t gid;
};
int priv_find_ids(const char *user, uint32_t fallback, struct priv_ids *ret, struct err *err);
/* For the engine after its fork, and the frontend: becomes `ids` for good, without any capability.
 */
int priv_become(const struct priv_ids *ids, struct err *err);
/* Before the exec of a primordial: the capabilities that it keeps, through that exec. */
int priv_become_primordial(struct err *err);
/* Before the exec of netd: its user, and CAP_NET_ADMIN through that exec. */
int priv_become_netd(const struct priv_ids *ids, struct err *err);
/* Reduces this root process to the capabilities that its verbs and its children need, for good;
 * netd's only where there can be one. <0: err also names what could be regained. */
int priv_confine(const struct priv *p, struct err *err);

/* spawn.c ----------------------------------------------------------------------------------------
 */

/* Starts netd. Sets netd, netd_sock. */
int priv_start_netd(struct priv *p, struct err *err);
/* Starts a primordial and waits for its hello. Sets primordial, primordial_sock, execs. */
int priv_start_primordial(struct priv *p, struct err *err);
/* state.c: who the frontend is, from the settings. */
int priv_find_frontend(const struct settings *set, struct priv_ids *ret, struct err *err);
/* Opens, or makes, the directory at this absolute path as the frontend's (0700), and locks it for
 * as long as *ret_fd, or a copy of it, is open. 0; <0: err says what is wrong with it. */
int state_dir_open(const char *path, const struct priv_ids *ids, int *ret_fd, struct err *err);
/* Starts the frontend on the listeners with these engine connections. Sets frontend. */
int priv_start_frontend(struct priv *p, const int *conns, size_t count, struct err *err);

/* Starts the courier at its end of the pair. Sets courier. */
int priv_start_courier(struct priv *p, struct err *err);

/* courier.c --------------------------------------------------------------------------------------
 */

/* Before the split, where `webhooks.allow` names somebody: makes the pair, opens the secret. */
int priv_courier_open(struct priv *p, struct err *err);
/* Sees that one runs, beside a frontend that is about to be started. */
void priv_courier_want(struct priv *p);
/* It has ended: another one, at once unless it did not live long. */
void priv_courier_on_exit(struct priv *p, int status);
/* Starts one that is due. */
void priv_courier_tick(struct priv *p);

/* net.c ------------------------------------------------------------------------------------------
 */

/* For a set of policies that is about to be the one in force: netd gets their networks. <0: it
 * could not, the old ones stay. */
int priv_net_adopt(struct priv *p, const struct policy_set *set, struct err *err);
/* Starts and configures netd where a policy has a network and none runs. */
int priv_net_start(struct priv *p, struct err *err);
/* Gives the slot its link, with the other end in that netns; counters as PRIV_NET_*. */
int priv_net_attach(struct priv *p, uint32_t slot, int netns, int ret_counters[2], struct err *err);
/* The slot's zygote is gone. */
void priv_net_detach(struct priv *p, uint32_t slot);

/* image.c ----------------------------------------------------------------------------------------
 */

/* In a fresh mntns: assembles the read-only root image from `image`, with the extra trees of all
 * policies under ZYG_BINDS, and makes it the root. */
int priv_enter_image(const char *image, const struct policy_set *policies, struct err *err);

/* policies.c -------------------------------------------------------------------------------------
 */

/* At start: compiles the policies and maps them. Sets policies_fd, policies, generation. */
int priv_load_policies(struct priv *p, struct err *err);
/* On SIGHUP: the same in a confined child, which has POLICY_COMPILE_S for it. */
void priv_start_compiler(struct priv *p);
/* The child has ended: true if its policies are in force now. It logs. */
bool priv_take_compiled(struct priv *p, int status);
/* For such a child: it may read, and write `bytes_max` into a memfd, for 10 s. 0 or -errno. */
int priv_become_reader(size_t bytes_max);

/* keys.c -----------------------------------------------------------------------------------------
 */

/* At start: reads the keys of both settings, and overwrites `api_keys`. Sets keys_fd, keys. */
int priv_load_keys(struct priv *p, char *api_keys, struct err *err);
/* On SIGHUP: the key file again, in a confined child. */
void priv_start_key_reader(struct priv *p);
/* The child has ended: the sealed keys that are in force now, or -1: the old ones stay. It logs. */
int priv_take_keys(struct priv *p, int status);
