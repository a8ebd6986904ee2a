/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/engine - what the engine's files share: one process, one loop, no rights.
 *
 * The engine owns the namespace table, the queues, the clocks and the spare pool. It reads protobuf
 * frames from clients (frontend, CLI), fixed structs from zygotes and from priv, and reaches root's
 * work only through priv's verbs. Data flows clients -> namespaces -> slots -> runs' results ->
 * clients; each file's part stands below. Everything is found again by id after a callback; a
 * pointer is followed only within the object that owns it.
 */
#pragma once
#include "languages/languages.h"
#include "lib/loop.h"
#include "policy/policy.h"
#include "protocol/protocol.h"
#include "supervisor/peers.h"
#include "supervisor/priv.h"
#include "supervisor/settings.h"
#include "zygote/zygote.h"
#include <sys/queue.h>

#define ENGINE_RUNS_MAX 3072u                    /* queued and running */
#define ENGINE_RUN_FDS_MAX (ENGINE_RUNS_MAX * 3) /* held for them: more for those with files */
#define ENGINE_FRESH_WAITING_MAX (ENGINE_RUNS_MAX / 4) /* runs of a key without a namespace */
#define ENGINE_HELD_BYTES_MAX (64u << 20) /* messages of their stages that are not sent yet */
#define ENGINE_STAGE_FDS_MAX (4u + PROTO_PLACES_MAX) /* stdin, stdout, stderr, the code, files */
#define ENGINE_CLIENTS_MAX 256u
#define ENGINE_CLIENT_RUNS_MAX 2048u /* open on one connection, not a frontend's; then unread */
#define ENGINE_REMOVALS_MAX 64u
#define ENGINE_CALLS_MAX 32u /* requests that priv has not answered; more wait here */
#define ENGINE_HASH 4096u
#define ENGINE_KEY_BUCKETS 256u

TAILQ_HEAD(run_list, run);
TAILQ_HEAD(ns_list, ns);
TAILQ_HEAD(slot_list, slot);
TAILQ_HEAD(client_list, client);
TAILQ_HEAD(out_list, out);
TAILQ_HEAD(call_list, call);

enum slot_state {
    SLOT_FREE,
    SLOT_STARTING,  /* priv was asked; neither or one of its reply and ZYG_SPARE came */
    SLOT_JOINING,   /* likewise, of a companion: it has its namespace already */
    SLOT_SPARE,     /* belongs to no namespace yet */
    SLOT_ATTACHING, /* priv was asked for the volume */
    SLOT_ASSIGNING, /* the zygote mounts it and restricts itself */
    SLOT_READY,     /* can be sent a run */
    SLOT_LIMITING,  /* priv was asked for other limits before the next run */
    SLOT_BUSY,      /* a run is on */
    SLOT_DYING,     /* priv was asked to end it */
    SLOT_STATES,
};

/* A place for one zygote: its uids, cgroups and descriptors. */
struct slot {
    struct engine *engine;
    uint32_t index;
    enum slot_state state;
    struct ns *ns;                    /* from ATTACHING, or JOINING, on */
    struct loop_io ctl;               /* to the zygote */
    int run_fd;                       /* to its standbys */
    bool has_standby;                 /* not retired */
    bool greeted;                     /* it is set up, and can be joined */
    uint64_t box;                     /* of the policy it was started with */
    struct policy_group group, asked; /* limits in force; those that priv was asked for */
    uint64_t asked_for;               /* id of the run that needs them */
    uint32_t home_cpu; /* where it lives while there is room; ZYG_ANY_CPU: not chosen yet */
    int counters[PRIV_COUNTERS];
    uint64_t oom_seen, pids_seen, rx_seen, tx_seen; /* counters as they were before the run */
    uint64_t left_over; /* page cache in its cgroup, from tenants before this one */
    bool kept;          /* FREE: its cgroups are there */
    uint64_t cpu_seen_ns;
    struct loop_timer cpu_limit;          /* when the run can have used up its processor time */
    struct loop_timer timer;              /* the state's deadline */
    bool spare_came, reply_came, hung_up; /* STARTING, JOINING: what was heard of it so far */
    TAILQ_ENTRY(slot) in_list;            /* free or spare */
};

/* NAME, or of a companion NAME/KIND/SESSION. */
#define NS_NAME_ROOM (PROTO_NS_ID_MAX + sizeof "/terminal/" + PROTO_SESSION_MAX)

struct ns {
    char id[NS_NAME_ROOM];     /* of a fresh one, or a companion: what no client can name */
    bool is_fresh;             /* no volume; ends with its one request */
    bool made_ahead, is_ahead; /* before that came; and it has not come yet */
    bool is_spent;             /* it has been served: in engine.spent */
    bool had_run;
    struct ns *parent; /* of a companion: the namespace it is beside */
    enum proto_companion companion;
    uint64_t born_ns;       /* companion */
    size_t companion_count; /* those that are beside it: it is neither freed nor evicted */
    uint64_t starts_ns;     /* of companions: the bucket of engine_companions.c is full then */
    bool held;              /* is not freed just now */
    struct engine *engine;
    struct ns *next; /* hash chain */
    struct slot *slot;
    struct run_list queue;
    size_t queued;
    struct run *running;
    enum proto_start start; /* of the next run: how its zygote was found */
    bool waiting;           /* for a spare, in engine.waiting */
    uint64_t turn;          /* its place in there */
    bool in_lru;            /* active and without a run, in engine.idle */
    bool removing;
    bool over; /* a probe's or a session, which is done: its zygote is ended as soon as it can be */
    char key[PROTO_KEY_LABEL_MAX + 1]; /* whose run made it active; "": nobody's */
    uint64_t idle_since_ns;
    TAILQ_ENTRY(ns) in_waiting, in_idle, in_ahead, in_companions;
};

/* What a zygote is sent at once: a command, a program, an operation on files. */
struct stage {
    char name[16]; /* "compile", "run"; "" for what has no stages */
    void *message; /* struct zyg_run and its bytes; NULL once sent */
    size_t message_bytes;
    int fds[ENGINE_STAGE_FDS_MAX]; /* -1: /dev/null, or sent */
    size_t nfds;
    uint64_t timeout_ms, cpu_ms;     /* cpu_ms 0: no limit of its own */
    uint64_t memory_bytes, pids_max; /* less than the policy's; 0: as the policy says */
};

/* What the engine runs of its own accord has no client. */
enum run_kind {
    RUN_COMMAND,
    RUN_CODE,
    RUN_FILES,
    RUN_TERMINAL,
    RUN_PROBE,    /* at start: engine_probe.c waits for its result */
    RUN_VERSIONS, /* of languages: engine_languages.c */
    RUN_COLLECT,  /* hands artifacts over, behind the run that left them */
};

/* A request: its stages follow each other in one zygote, and nothing comes between. */
struct run {
    uint64_t id, tag, client_id;
    uint64_t sent_id; /* of the stage that is on, as its zygote knows it: they only grow */
    enum run_kind kind;
    struct ns *ns;
    struct client *client; /* NULL: gone, or there was none */
    struct stage stages[PROTO_STAGES_MAX];
    size_t stage_count, stage_at;
    struct proto_stage done[PROTO_STAGES_MAX]; /* facts of those before stage_at */
    int artifacts_fd;                          /* where they are wanted; -1: they are not */
    uint64_t artifact_bytes_max;
    uint32_t artifact_files_max;
    uint64_t accepted_ns, started_ns, queue_us; /* started: the stage */
    uint64_t output_bytes_max;                  /* of its policy; 0: none */
    uint32_t policy;                            /* index; once sent: of policies that may be gone */
    char policy_asked[POLICY_NAME_MAX + 1];     /* "": none */
    bool policy_of_key;                         /* which is why it is asked for */
    enum proto_start start;
    bool cancelled, cpu_used_up;
    bool is_first;          /* in its companion */
    bool patient;           /* waits as long as it takes */
    bool held, asked;       /* until its client says so; that it knows its turn has come */
    bool told_waiting;      /* its client wants to know when it is handed over */
    struct loop_timer wait; /* max_wait, while queued */
    char request_id[PROTO_REQUEST_ID_MAX + 1];
    char language[PROTO_LANGUAGE_NAME_MAX + 1]; /* CODE: its name */
    char key[PROTO_KEY_LABEL_MAX + 1];          /* "": none */
    TAILQ_ENTRY(run) in_ns, in_client;
};

struct client {
    struct engine *engine;
    uint64_t id;
    struct loop_io io;
    bool is_frontend, paused;
    unsigned rights; /* enum peer_right */
    size_t open_runs;
    struct run_list runs;
    struct out_list out; /* what it does not read at the moment */
    struct loop_timer stuck;
    TAILQ_ENTRY(client) in_list;
};

struct removal {
    bool used;
    uint64_t client_id, tag;
    char ns_id[PROTO_NS_ID_MAX + 1];
};

struct engine {
    struct loop loop;
    struct settings set;
    const struct settings_files *files;
    const struct peers *peers;
    const struct language_set *languages;
    const struct policy_set *policies;
    uint32_t generation; /* of the policies, as priv counts them */
    struct loop_io priv, listener;
    struct call_list calls; /* not yet sent to priv */
    size_t calls_open;
    struct {
        uint32_t calls, failures;
    } verbs[PRIV_VERBS]; /* as priv counts them */
    int root_fd;
    int keys_fd;              /* sealed, for frontends; -1: no keys are configured */
    uint64_t keys_generation; /* 0: likewise */

    struct slot *slots;
    uint32_t slot_count;
    struct slot_list free, spares, starting;
    size_t spare_count, starting_count, bound_count, dying_count, standby_count;
    size_t busy_count;
    uint32_t cpu_count;
    uint64_t pids_half; /* of the processes that the machine may have */
    unsigned start_failures;
    uint64_t no_start_before_ns;
    int fds_end;               /* descriptors from here on are for receiving only */
    uint64_t refill_after_ns;  /* the last activation is that long ago */
    bool ever_started, proven; /* proven: the layers hold, clients are served */
    struct loop_timer refill;

    struct ns *hash[ENGINE_HASH];
    uint64_t hash_seed;
    struct ns_list waiting, idle, ahead, spent;
    size_t ns_count, waiting_count, ahead_count, spent_count;
    struct loop_timer spent_pause;
    uint64_t fresh_used_ns; /* when a fresh one was asked for last; 0: never */
    size_t fresh_count;     /* bound ones that are fresh */
    struct ns_list companions;
    size_t companion_count[PROTO_COMPANIONS];
    size_t pinned_count;                              /* namespaces that have any */
    uint64_t companion_starts_ns[ENGINE_KEY_BUCKETS]; /* as ns.starts_ns, by a hash of the key */
    struct loop_timer companion_start;                /* one waits for its bucket */
    uint64_t turn;                                    /* of the namespace that was served last */
    struct loop_timer idle_sweep;
    struct removal removals[ENGINE_REMOVALS_MAX];

    struct client_list clients;
    size_t client_count;
    uint64_t next_client_id;

    uint64_t next_run_id;
    uint64_t last_sent_id, last_fresh;
    size_t open_runs, queued_runs, held_bytes, held_fds;
    struct {
        uint64_t runs, reasons[PROTO_REASONS], refused, forbidden, activations, activation_failures,
            evictions, frontend_starts, zygotes_lost, replaced;
    } total;

    bool zygote_execs, draining, frontend_up, stopping;
    uint64_t frontend_started_ns;
    unsigned frontend_quick_deaths;
    struct loop_timer frontend_timer, drain_timer;
};

/* ---- engine.c: start, priv, frontend, drain, reload --------------------------------------------
 */

struct engine_start {
    const struct settings *set;
    const struct settings_files *files;
    const struct peers *peers;
    const struct policy_set *policies;
    const struct language_set *languages;
    int priv_sock, listen_fd, root_fd, keys_fd;
    uint32_t slot_count;
};
/* The engine's whole life, after its fork and its loss of rights; returns the exit status. */
int engine_run(const struct engine_start *start);
/* Sends a request to priv now or as soon as it has answered others. Takes fds over. */
void engine_ask_priv(struct engine *e, const struct priv_request *req, const int *fds, size_t nfds);
/* A zygote could be had: now it is asked whether its layers hold. */
void engine_on_first_spare(struct engine *e);
/* They do: now requests may come. */
void engine_on_proven(struct engine *e);
/* To be called when a run or the frontend ended: ends the service when it is draining and all is
 * done. */
void engine_check_drained(struct engine *e);
/* Ends the service: 0, or 1 when the cause is an error (which the caller has logged). */
void engine_down(struct engine *e, int status);
/* Is one of these descriptors (-1: none) among the last, which are kept for receiving? A message
 * that travels as a memfd could not be read without, and what it belongs to not be answered. Who is
 * told so closes it and reports EMFILE for what it was for. */
bool engine_fds_are_short(const struct engine *e, const int *fds, size_t nfds);
/* rights: of who gets it. */
void engine_fill_hello(const struct engine *e, unsigned rights, struct proto_hello *ret);
/* Once more to all, because something in it has changed. */
void engine_say_hello(struct engine *e);

/* ---- engine_confine.c --------------------------------------------------------------------------
 */

/* Renounces files, connections, processes and all system calls but a short list. Irreversible. 0,
 * or <0: err says what failed or could be regained. */
int engine_confine(struct err *err);

/* ---- engine_slots.c: zygotes -------------------------------------------------------------------
 */

/* Gives a spare to the namespace: it will be READY or its runs will be told. */
void slot_attach(struct slot *s, struct ns *ns);
/* Sends the namespace's next run, if the slot is READY and there is one. */
void slot_want_run(struct slot *s);
/* Ends the zygote of a namespace without a run, for eviction and removal. */
void slot_end(struct slot *s);
/* Ends a companion's zygote, whatever it does. Its runs are answered: as cancelled, or as failed
 * when it was not asked for. */
void slot_abandon(struct slot *s, const char *text, bool cancelled);
/* Asks the zygote to kill its run; priv follows if it does not. */
void slot_cancel_run(struct slot *s);
/* To the processes of the run that is on. A zygote that does not listen misses it. */
void slot_signal_run(struct slot *s, int signal);
const char *slot_state_name(enum slot_state state);

/* ---- engine_slot_events.c: what is heard of them -----------------------------------------------
 */

void slots_init(struct engine *e);
/* Starts a zygote for this companion beside the one in `home`. False: there is no place for it. */
bool slot_join(struct ns *companion, const struct slot *home, uint32_t policy);
void slot_on_priv_reply(struct engine *e, const struct priv_reply *reply, int *fds, size_t nfds);

/* ---- engine_pool.c: the spares -----------------------------------------------------------------
 */

/* Starts zygotes until the pool and the waiting namespaces have what they want, as far as allowed.
 */
void slots_refill(struct engine *e);
/* The same after a pause, because somebody is being served now. */
void slots_refill_later(struct engine *e);
/* A spare of the kind that this policy needs; NULL: there is none. */
struct slot *slots_find_spare(const struct engine *e, uint32_t policy);
/* Other policies are in force: spares made for what is no longer the default are ended. */
void slots_on_policies(struct engine *e);

/* ---- engine_fresh.c: namespaces for one request ------------------------------------------------
 */

void fresh_init(struct engine *e);
/* One without a volume, under a name that nobody else can have; NULL: out of memory. */
struct ns *fresh_new(struct engine *e);
/* The same for a request of this key, at best one that is READY already. policy "": it asks for
 * none. Where the request comes to nothing, fresh_keep() takes it back. */
struct ns *fresh_take(struct engine *e, const char *policy, const char *key);
/* It is READY and has had no run. True: it was made ahead, and is kept for the next request. */
bool fresh_keep(struct ns *ns);
/* It is none of those that are kept (any more). */
void fresh_leave(struct ns *ns);
/* Makes some ahead out of spares, when such are asked for and nobody waits. */
void fresh_prepare(struct engine *e);
/* It has had its request: its zygote is ended in the next pause, with some others, when somebody
 * waits for a place, or at once when it holds much memory. */
void fresh_spend(struct ns *ns);
/* Ends one of those that are spent, else of those that are kept; false: there is none that can be
 * ended now. */
bool fresh_end_one(struct engine *e);
/* Now and then: ends all when nobody asks any more. */
void fresh_sweep(struct engine *e);

/* ---- engine_ns.c: namespaces, their queues, eviction -------------------------------------------
 */

void ns_init(struct engine *e);
struct ns *ns_find(struct engine *e, const char *id);
/* The namespace whose policies, and whose files, its runs have: itself, or its parent. */
const char *ns_home_id(const struct ns *ns);
/* The run that decides which zygote it needs next: its own, or one of a companion. NULL: none. */
const struct run *ns_find_wanted(const struct ns *ns);
/* Finds or makes; NULL: out of memory. */
struct ns *ns_get(struct engine *e, const char *id);
/* The policy of its runs that ask for none. */
uint32_t ns_own_policy(const struct ns *ns);
/* Puts a run (with its message) at the end of the queue and sees that the namespace becomes active.
 */
void ns_enqueue(struct ns *ns, struct run *run);
void ns_dequeue(struct run *run);
/* The next run, still queued; NULL: none. */
struct run *ns_peek_next(struct ns *ns);
/* Other policies are in force: every queued run is given its own anew, or answered. */
void ns_on_policies(struct engine *e);
/* The next run to send, already out of the queue; NULL: none. */
struct run *ns_take_next(struct ns *ns);
/* It could not be sent, or has another stage, or comes behind the one that was on: to the front. */
void ns_put_back(struct run *run);
/* After a run, or once active without one: idle, or the next run; serves waiting namespaces. */
void ns_settle(struct ns *ns);
/* The namespace's slot is gone; whoever waits gets another. */
void ns_on_slot_gone(struct ns *ns);
/* All its queued runs are answered with this, and those of companions that wait for its zygote. */
void ns_fail_queue(struct ns *ns, enum proto_outcome outcome, const char *text);
/* The same as cancelled. */
void ns_cancel_queue(struct ns *ns, const char *text);
/* Boxes were asked: runs of those that do not hold are told. */
void ns_on_verdict(struct engine *e, const char *text);
/* It is not to be evicted. */
void ns_leave_idle(struct ns *ns);
/* It is idle: its zygote is ended. */
void ns_evict(struct ns *ns);
/* Frees it when nothing needs it. */
void ns_drop_if_unused(struct ns *ns);

/* ---- engine_waiting.c: those that want a zygote ------------------------------------------------
 */

/* Sees that it gets one: a spare now, or a place among those that wait. */
void ns_activate(struct ns *ns);
/* It waits no longer, if it did. */
void ns_leave_waiting(struct ns *ns);
/* Something ran short of descriptors, of which each zygote has some: ends that of the namespace
 * that has been idle for longest. A few are on their way out at once. */
void ns_shed_idle(struct engine *e);

/* Gives spares to waiting namespaces, evicting idle ones where the limit demands it. */
void ns_serve_waiting(struct engine *e);
/* Is this one, which waits, not to be served now, because its key has its share of the places?
 * *full: NULL first, then a key that is known to; most of those that wait are of one. */
bool ns_is_held_back(const struct ns *ns, const char **full);
/* Have fresh namespaces of this key as many places as they may? */
bool ns_has_its_share(const struct engine *e, const char *key);
/* With this run, does its key hold more than half of what the engine has room for? Counted only
 * when all together hold that. */
bool run_key_has_its_half(const struct engine *e, const struct run *run);
/* How many of those that wait. */
size_t ns_count_held_back(const struct engine *e);
/* How many wait on behalf of this key. */
size_t ns_count_waiting(const struct engine *e, const char *key);
/* All waiting namespaces are told that no zygote can be started. */
void ns_fail_waiting(struct engine *e, const char *text);

/* ---- engine_volumes.c: which there are, removal ------------------------------------------------
 */

/* The names of all volumes; good until the next call of anything here. 0, or <0 with err. */
struct vol_list;
int ns_list_volumes(const struct engine *e, const struct vol_list **ret, struct err *err);
bool ns_list_has(const struct vol_list *list, const char *id);
/* This namespace has a volume from here on. */
void ns_on_volume(const struct ns *ns);
void ns_remove(struct engine *e, struct client *client, uint64_t tag, const char *id);
void ns_on_discarded(struct engine *e, const struct priv_reply *reply);

/* ---- engine_companions.c: sessions and terminals -----------------------------------------------
 */

/* The companion that this request names, made if need be; key: whose request it is. NULL: why not,
 * or out of memory.
 */
struct ns *companion_get(struct engine *e, const struct proto_execute *exec, const char *key,
                         enum proto_outcome *ret_outcome, const char **ret_text);
/* One that there is not yet, whatever the limits say. NULL: out of memory. */
struct ns *companion_new(struct ns *parent, enum proto_companion kind, const char *session);
/* It is about to be freed. */
void companion_leave(struct ns *c);
/* As its client calls it. */
const char *companion_name(const struct ns *c);
/* Of the companions of this namespace that wait for a zygote: a run. NULL: none waits. */
const struct run *companions_find_run(const struct ns *parent);
/* Starts those that wait, if its zygote can be joined and they are not too many a second. */
void companions_serve(struct ns *parent);
/* Answers the runs of those that wait. */
void companions_fail(struct ns *parent, enum proto_outcome outcome, const char *text);
/* Ends all that have a zygote; cancelled NULL: because its own ends, else why. */
void companions_end(struct ns *parent, const char *cancelled);
void companions_end_terminals(struct engine *e, const char *cancelled);
/* Has any of them a run that would be lost? A terminal's is not counted, but when it waits. */
bool companions_are_busy(const struct ns *parent);
void companions_init(struct engine *e);
/* Ends idle sessions. */
void companions_sweep(struct engine *e, uint64_t now);
void companions_answer_list(struct client *client, const struct proto_msg *request);
void companions_close(struct client *client, const struct proto_msg *request);

/* ---- engine_runs.c: from Execute to Result -----------------------------------------------------
 */

/* Accepts or refuses; takes the descriptors over. */
void run_accept(struct client *client, const struct proto_execute *exec, int fds[], size_t nfds);
/* Sets the run's policy from its namespace and what it asked for. NULL; or why not. */
const char *run_choose_policy(struct engine *e, struct run *run);
/* The same for a queued run under other policies than it was accepted with; its deadline and its
 * processor time become no longer than they allow. */
const char *run_choose_anew(struct engine *e, struct run *run);
/* Puts a run that is ours, with its stages, into the namespace's queue. */
void run_start_own(struct run *run);
/* Sends the result, if anybody waits for one, and forgets the run. */
void run_answer(struct run *run, struct proto_result *result);
/* Answers without facts and forgets the run. */
void run_fail(struct run *run, enum proto_outcome outcome, const char *text);
/* The same, naming a field of the request ("": none). */
void run_fail_field(struct run *run, enum proto_outcome outcome, const char *field,
                    const char *text);
/* Answers it as cancelled; the text says by what. */
void run_end(struct run *run, const char *text);
/* It never ended in time although its zygote was told: answered as a timeout or a cancel. */
void run_overdue(struct run *run);
/* Its policy is no longer to be had. */
void run_fail_policy(struct run *run, const char *why);
/* Its limits could not be set; too_low: the namespace holds more memory than it asked for. */
void run_fail_limits(struct run *run, bool too_low);
void run_cancel(struct run *run);
/* Its client, which wants to know, that it stands behind others, or does so no longer. */
void run_tell_waiting(struct run *run, bool waiting);
/* Its turn has come. False: it is held, and its client has been told; its namespace waits. */
bool run_may_begin(struct run *run);
/* Its client has answered that. */
void run_let_go(struct run *run);
const char *run_kind_name(const struct run *run);

/* ---- engine_pack.c: what a standby reads -------------------------------------------------------
 */

struct pack {
    uint32_t magic, flags;
    const void *cmd;
    size_t cmd_len;
    const struct policy_plan *plan;            /* its environment; NULL: none */
    const struct language_texts *language_env; /* NULL: none */
    const struct proto_env *env;
    size_t env_count;
    const char *cwd;
    const char *argv; /* of a program, each with its NUL; args follow */
    size_t argv_bytes;
    uint32_t argv_count;
    const char *const *args;
    size_t arg_count;
    const char *source; /* where the first file goes; NULL: there is no code */
    const char *const *places;
    size_t place_count;
};
/* Makes the message of a stage whose limits are set. 0, -E2BIG, -ENOMEM. */
int stage_pack(struct engine *e, struct stage *st, const struct pack *p);
/* Adds a descriptor that goes with it and takes it over; -1: /dev/null. */
void stage_take_fd(struct engine *e, struct stage *st, int *fd);
/* Frees and closes what it still has. */
void stage_drop(struct engine *e, struct stage *st);

/* ---- engine_languages.c: code in a language ----------------------------------------------------
 */

/* NULL: unknown, or its tools are not there; *ret_why says so. */
const struct language *engine_find_language(const struct engine *e, const char *name,
                                            const char **ret_why);
/* Makes the stages of a run whose first one has the limits that were asked for, and takes the
 * descriptors over (fds as enum proto_kind has them). 0, -E2BIG, -ENOMEM. */
int run_pack_code(struct engine *e, struct run *run, const struct proto_execute *exec,
                  const struct language *l, int fds[]);
/* Asks, in the background, which versions there are. */
void engine_ask_versions(struct engine *e);
/* The run that asked is over. */
void engine_on_versions(void);
/* Nobody wants to know any more. */
void engine_stop_versions(void);
void engine_fill_languages(const struct engine *e, struct proto_hello *ret);

/* ---- engine_stages.c: one stage after the other ------------------------------------------------
 */

struct stage *run_stage(struct run *run);
/* The limits under which its stage is to run in this slot. */
struct policy_group run_limits(const struct slot *s, struct run *run);
/* Has a part of it been done in the zygote that is to do the rest? */
bool run_goes_on(const struct run *run);
/* Sends its stage to the slot. 0, or -errno: the zygote is gone and the stage is still whole. */
int run_send(struct run *run, struct slot *s);
/* Its stage is over: puts the next one in front of the queue, or answers. */
void run_advance(struct run *run, struct proto_result *result, bool has_outputs);

/* ---- engine_facts.c: what a run did ------------------------------------------------------------
 */

/* Its counters have come: how they stand now is none of its runs'. */
void slot_begin_counters(struct slot *s);
/* Bytes that its namespace has made its cgroup hold, right after a run. 0: not counted. */
uint64_t slot_memory_left(const struct slot *s);
/* From now on its processor time counts, and ends it when it has used up its own. */
void run_watch_cpu(struct run *run, struct slot *s);
void slot_on_cpu_limit(struct loop_timer *t);
/* The zygote's report of a stage: completes the facts, and goes on with it. */
void run_finish(struct run *run, struct slot *s, const struct zyg_report *report);

/* ---- engine_probe.c: do the layers hold? -------------------------------------------------------
 */

struct probe_host { /* what the probe has to know, and the engine cannot find out any more */
    uint64_t ns[ZYG_NS_KINDS]; /* filled in by probe_note_host */
    uint32_t cgroups;          /* layers: kinds of cgroups that there are */
    uint32_t optional;         /* layers that may be missing */
    uint32_t cgroup_version;
    bool only; /* brood-supervisor --probe: print the answers and stop */
};
/* Before the engine is forked. */
void probe_note_host(const struct probe_host *host);
/* Asks each kind of box among the policies, the default's with the one spare there is; ends in
 * engine_on_proven or engine_down. */
void probe_start(struct engine *e);
/* Other policies are in force: what a run's box is, is known from here on; and, once the runs have
 * theirs: asks those boxes that are new. Their runs wait for that. */
void probe_on_policies(struct engine *e);
void probe_go_on(struct engine *e);
void probe_on_result(struct engine *e, const struct proto_result *result);
void probe_on_limits(struct engine *e, const struct priv_reply *reply);
/* The policy that a probe's own run needs now, or -1: nobody has such a box any more. */
int probe_find_policy(void);
/* May this run go? Not before its box is proven. */
bool probe_lets(const struct run *run);
/* Names the layer behind a zygote's failure to set itself up, if one is and it was to be asked;
 * report may be NULL. */
void probe_log_step(const struct slot *s, const struct zyg_report *report, const char *text);
/* names: of policies, for those who may know them. */
void probe_fill_hello(struct proto_hello *ret, bool names);

/* ---- engine_clients.c: connections -------------------------------------------------------------
 */

/* Nobody is accepted before clients_accept. */
void clients_init(struct engine *e, int listen_fd);
int clients_accept(struct engine *e);
void clients_stop_listening(struct engine *e);
/* Takes a connected socket over; rights 0: the frontend's end of a pair. <0: -errno, the socket is
 * closed. */
int client_add(struct engine *e, int sock, unsigned rights);
struct client *client_find(struct engine *e, uint64_t id);
/* Sends, or keeps it until the client reads again. The texts are copied when kept. */
void client_send(struct client *c, struct proto_msg *msg);
/* One of its runs is over: it may be read again. */
void client_run_closed(struct client *c);
