/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/zyg - what the files of this folder share. Not for other folders (zygote.h is). */
#pragma once
#include "policy/policy.h"
#include "zygote/zygote.h"
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/types.h>

#define ZYG_PROCS_MAX 4
#define ZYG_PAGE 4096u

/* What a standby says of itself, in a memfd: it writes, pid 1 reads after it ended (or at the
 * deadline). Only pid 1 has it mapped; the child closes the descriptor before it evaluates foreign
 * code. */
struct zyg_note {
    _Atomic uint64_t run_id; /* 0: has not begun */
    pid_t pid;               /* 0: has not begun to live */
    uint64_t started_ns, grace_ns;
    uint32_t home_cpu; /* what the run asked for */
    uint32_t flags;    /* of the run */
    uint32_t retired;  /* it read a retirement */
    uint32_t step;     /* enum child_step that failed */
    int32_t step_errno;
};

/* A page that pid 1 shares with its children; it stays mapped during a run, until that run spoils
 * its address space. */
struct zyg_token {
    _Atomic uint32_t go;   /* pid of the reserve that is to become the standby; a futex */
    _Atomic uint32_t cast; /* a number more for each standby that the mould is to cast; a futex */
    uint32_t home_cpu;     /* for that one */
    _Atomic uint32_t spoiled; /* its address space is good for no other run */
    uint32_t exec_rss_kb; /* the memory it had taken when the run left it by exec; 0: it did not */
    _Atomic uint32_t joining; /* pid of the mould that is about to join the run's cgroups */
    _Atomic uint32_t mould;   /* pid of the mould that has, and is ready to cast; a futex */
};

/* A run as the child sees it; points into its message. */
struct child_job {
    const char *cmd;
    char *const *env; /* complete environment, NULL-terminated: base, then the request's */
    size_t env_count;
    char *const *request_env; /* only the request's */
    size_t request_env_count;
    char *const *args; /* $1... of the command, or the argv of a program; NULL-terminated */
    size_t arg_count;
    char *const *places; /* relative to ZYG_HOME */
    size_t place_count;
    const char *cwd; /* "": home */
};

/* What came of one call of a session. */
struct zyg_call_result {
    int status; /* $? */
    bool interrupted;
};

/* How a command is evaluated: in this bash (bash_eval.c), or by exec of the image's shell. */
struct zyg_eval {
    bool execs;
    void (*on_assign)(const char *host); /* in the zygote, once */
    void (*on_standby)(void);            /* in the standby, before it waits */
    __attribute__((noreturn)) void (*run)(const struct child_job *job);
    /* Of a session; NULL: there are none. In its bash, before the first call; then each: 0, or
     * -errno, the cwd could not be entered and nothing was evaluated. A call that ends the shell
     * does not return. */
    void (*begin_session)(void);
    int (*call)(const struct child_job *job, struct zyg_call_result *ret);
    /* Evaluates something typical and calls done() before its process would end; NULL: nothing to
     * gain. */
    void (*rehearse)(void (*done)(void));
    /* In the primordial: sees to it that zyg_spoil() will be called; false: no moulds. */
    bool (*watch)(void);
};

/* denials.c */
struct zyg_denials {
    int listener[2]; /* of pid 1's filter, and of its first child's; -1: none */
    int handover[2]; /* over which that one comes; -1 */
    uint32_t tokens; /* answers that may be given now */
    uint64_t refilled_ns;
    struct zyg_denied list[ZYG_DENIALS_MAX];
    uint32_t count;
};

struct zyg {
    int ctl;      /* to the engine */
    int run_fd;   /* runs come here; read by standbys only */
    int sig_fd;   /* SIGCHLD */
    int clock_fd; /* timerfd: the run's deadline; armed by the child, read by pid 1 */
    int procs_fd[ZYG_PROCS_MAX], own_procs_fd[ZYG_PROCS_MAX];
    size_t procs_count, joins_count;
    pid_t standby;    /* or the run it has become; 0: none */
    pid_t reserve;    /* 0: none */
    pid_t mould;      /* 0: none */
    bool casting;     /* the standby is the mould's: note->pid, not standby */
    bool moulds;      /* may be made */
    bool one_request; /* fresh: no child is made for what will hardly come */
    bool joined;      /* a companion: born into the kernel namespaces of another zygote */
    unsigned runs;    /* since the last retirement */
    int patience;     /* clean runs that it takes until the next one is made */
    int note_fd;
    int session_fd;   /* a session's bash, until it begins: its end of the pair */
    int pids_current; /* how many live in the child's cgroup; -1: unknown, then there is no reserve
                       */
    uint64_t last_done;
    uint64_t held_run, held_signals; /* signals, as bits, for a run that nobody has read yet */
    unsigned unread_deaths;          /* standbys in a row that died before they had a run */
    uint32_t home_cpu;               /* ZYG_ANY_CPU: all */
    cpu_set_t all_cpus;
    bool cancelled, timed_out, term_sent;
    struct zyg_note *note; /* mapped in pid 1 only */
    struct zyg_token *token;
    const struct policy_set *set;   /* all policies, as the supervisor compiled them */
    const struct policy_plan *plan; /* ours, of the set; both NULL once it is installed */
    int ruleset;                    /* landlock's, until then */
    uint32_t scoped;                /* policy_right bits by which children scope themselves */
    const struct zyg_eval *eval;
    struct zyg_denials denials;
    uint32_t net_address, net_gateway; /* 0: loopback only */
};

enum zyg_step {
    ZYG_STEP_OK,
    ZYG_STEP_IDS,
    ZYG_STEP_MOUNTS,
    ZYG_STEP_LOOPBACK,
    ZYG_STEP_CGROUPS,
    ZYG_STEP_VOLUME,
    ZYG_STEP_LANDLOCK,
    ZYG_STEP_CAPS,
    ZYG_STEP_SECCOMP,
    ZYG_STEP_FORK,
    ZYG_STEP_NETWORK,
    ZYG_STEPS,
};

/* outputs.c, in pid 1 when nobody else lives there: may there be something in /work/outputs? */
bool outputs_may_be(void);
/* The environment every child starts from; also the primordial's own. NULL-terminated. */
extern char *const zyg_base_env[];

/* primordial.c: reads zyg_birth from priv for ever; never returns. Takes over both descriptors. */
_Noreturn void primordial_serve(int priv_fd, int plan_fd, const struct zyg_eval *eval);
#define ZYG_CAP(cap) (1ull << (cap))
#define ZYG_KEPT_CAPS (ZYG_CAP(CAP_KILL) | ZYG_CAP(CAP_SETUID) | ZYG_CAP(CAP_SETGID))
/* setup.c: unmaps the policies. */
void zyg_forget_plan(struct zyg *z);
/* serve.c: the life of one zygote after its clone; never returns. */
_Noreturn void zyg_serve(struct zyg *z);
/* mounts.c, net.c: 0 or -errno. */
int zyg_mount_private(const struct policy_set *set, const struct policy_plan *plan);
/* In the copy of a zygote's mounts: its pidns' own /proc and terminals. */
int zyg_mount_joined(void);
int zyg_mount_volume(int mount_fd);
int zyg_mount_fresh(uint64_t bytes);
int zyg_loopback_up(void);
/* Waits for POLICY_NET_DEVICE and brings it up with that address and a route by that gateway,
 * unless `ctl` ends before. */
int zyg_egress_up(uint32_t address, uint32_t gateway, int ctl);
/* child.c: the standby's whole life. The first one is forked before its zygote has a namespace. */
#define CHILD_MUTE 126 /* exit status of a child that cannot write its note */
enum child_kind { CHILD_STANDBY, CHILD_RESERVE, CHILD_FIRST, CHILD_SESSION };
_Noreturn void child_main(struct zyg *z, enum child_kind kind);
/* The same for one that a mould casts; `z` is a struct zyg. */
int child_cast(void *z);
/* Room for a run's message, with one byte more, in whoever receives one. */
extern char child_message[ZYG_RUN_BYTES_MAX + 1];
/* Checks what lies there; the job points into it. `env` is not filled in. 0 or -errno. */
int child_parse(size_t len, struct child_job *job);
/* The home, or beneath the home or /tmp; links may not lead out of them. 0 or -errno. */
int child_enter_cwd(const char *cwd);
/* session.c: instead of serve(); and its bash's whole life. */
_Noreturn void session_serve(struct zyg *z);
_Noreturn void session_main(struct zyg *z);
/* Ends a run whose set-up failed: pid 1 reports the step. */
_Noreturn void child_fail(enum child_step step, int error);
/* place.c: what ZYG_EMPTY_* of these flags say, then the files, whose descriptors these are. Ends
 * the run where that fails. The other one does it below any directory: 0 or -errno. */
void child_place(const struct child_job *job, uint32_t flags, const int *fds);
int place_files(int root, const struct child_job *job, uint32_t flags, const int *fds);
/* program.c: by the PATH in env. */
_Noreturn void child_become_program(char *const *argv, char *const *env);
/* files.c: works on files instead of evaluating; the bytes of the message's cmd. */
_Noreturn void files_main(const char *bytes, size_t len);
/* terminal.c: becomes a login shell on a terminal, whose size its args say; never returns. */
_Noreturn void terminal_main(const struct child_job *job);
/* probe.c: asks instead of evaluating; `ask` as it came, `execs`: what is close-on-exec counts as
 * closed. */
_Noreturn void probe_main(const void *ask, bool execs);
/* mould.c: a mould's whole life. */
_Noreturn void mould_main(struct zyg *z);
/* In pid 1, once: a page shared with all its children. NULL on error. */
struct zyg_token *zyg_make_token(void);
/* Waits while the futex has that value, at most so long; 0: for ever. May return early. */
void zyg_await(const _Atomic uint32_t *futex, uint32_t value, uint64_t ns);
void zyg_wake(const _Atomic uint32_t *futex);
/* In a run: more than bash's own code is about to get hold of this address space. */
void zyg_spoil(void);
/* In a run: it is about to exec; then, when that failed, that it is still here. */
void zyg_leave(void);
void zyg_stay(void);
/* bash_calls.c: makes bash call zyg_spoil(). False: not every call was found. */
bool zyg_divert_calls(void);
/* setup.c: what pid 1 does as a spare, and when it gets its namespace; both report a failure and
 * end it. The first child is the standby then. Takes over the descriptor; -1: a fresh home. */
void zyg_set_up(struct zyg *z);
void zyg_assign(struct zyg *z, const struct zyg_order *order, int volume_fd);
/* To the engine, which always reads; else this process ends. */
void zyg_report(struct zyg *z, const struct zyg_report *report);
_Noreturn void zyg_give_up(struct zyg *z, enum zyg_step step, int error);
/* children.c, in pid 1: a child of that kind; <0: errno. */
pid_t children_fork(struct zyg *z, enum child_kind kind);
/* The reserve becomes the standby. */
void children_promote(struct zyg *z);
/* Sees that a standby waits for the next run; then, best effort, to what stands behind it. */
void children_prepare_standby(struct zyg *z);
void children_prepare_reserve(struct zyg *z);
void children_prepare_mould(struct zyg *z);
/* Kills and reaps it, if there is one. */
void children_drop(pid_t *child);
bool children_has_standby(const struct zyg *z);
/* Is this the standby, or the run that it has become? */
bool children_is_standby(const struct zyg *z, pid_t pid);
bool children_mould_is_ready(const struct zyg *z);
bool children_mould_is_joining(const struct zyg *z);
/* Sees that the mould is either ready, or in none of the run's cgroups. */
void children_settle_mould(struct zyg *z);
/* denials.c. In pid 1: before its first child is forked, 0 or -errno; with the listener of its own
 * filter, or -1; which descriptors to poll for it, and for how long at most (ms, -1: for ever);
 * what came of that; and what is to be told of the run that has ended. */
#define ZYG_DENIALS_FDS 3
int denials_prepare(struct zyg *z);
void denials_listen(struct zyg *z, int own_listener);
int denials_watch(struct zyg *z, struct pollfd p[ZYG_DENIALS_FDS]);
void denials_answer(struct zyg *z, const struct pollfd p[ZYG_DENIALS_FDS]);
void denials_report(struct zyg *z, struct zyg_report *report);
/* In the first child: its listener, or -1, goes to pid 1. */
void denials_hand_over(struct zyg *z, int listener);
/* In any child: these descriptors are pid 1's. */
void denials_forget(struct zyg *z);
#define ZYG_CLEAN_RUNS 2 /* in a row, before a mould is made */
/* Binds the caller to one CPU, or to none. */
void zyg_bind(const struct zyg *z, uint32_t cpu);
/* show_as.c: shows a command as this process's command line, and its environment; without a cmd,
 * "bash". Best effort. */
void child_show_as(const struct child_job *job);
/* Reads the layout once, in the primordial, where /proc/self is readable. */
void child_show_as_prepare(void);
/* lean.c: /proc/self/maps as text; false: it does not fit, or is not readable. */
bool zyg_read_maps(char *text, size_t room);
struct zyg_mapping {
    uintptr_t start, end;
    bool writable, executable, has_file;
};
/* One line of it; false: shared, unreadable or the kernel's own. */
bool zyg_parse_mapping(const char *line, struct zyg_mapping *ret);
/* Makes this process cheap to fork; once, in the primordial. */
void zyg_make_lean(const struct zyg_eval *eval);
/* Drops cold program pages from this process's page tables; in a zygote, before it forks. */
void zyg_trim(void);
/* After the last trim. */
void zyg_forget_lean(void);
/* Takes a standby's own copies of the data pages that a run will write. */
void zyg_prefault(void);
