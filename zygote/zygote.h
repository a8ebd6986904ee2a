/* SPDX-License-Identifier: Apache-2.0 */
/* zygote - the contract of a zygote with the engine, and of the primordial with priv.
 *
 * Both are SOCK_SEQPACKET pairs carrying the fixed structs below in native byte order, bytes behind
 * them, descriptors beside them. A packet of another size than its verb says ends the conversation.
 *
 *   engine -> zygote (ctl)     ZYG_ASSIGN + volume mount; ZYG_CANCEL; ZYG_SIGNAL
 *   zygote -> engine (ctl)     ZYG_SPARE; ZYG_READY; ZYG_DONE; ZYG_FAILED
 *   engine -> standby (run)    one struct zyg_run + cmd\0 env\0... cwd\0 args\0... places\0...,
 *                              + stdin, stdout, stderr, a descriptor for each place
 *
 * A *standby* is the next child, forked ahead of its run: already in its cgroups, already uid 1000,
 * waiting for one zyg_run on the run socket. So fork, cgroup moves and dropping of privileges
 * happen after the previous answer instead of before the next one, and engine -> child is one hop.
 * Engine and zygote hold that socket for the zygote's life; the engine sends the next run only
 * after ZYG_DONE, so whichever child reads it is the right one, and a standby that dies unread
 * costs nothing. A child closes its copy before it evaluates a byte of foreign code. A
 * retirement goes the same way, so that it cannot meet a run: the standby that reads it ends, and
 * the next run brings another. Behind the standby stands a *reserve*, forked while a run is on:
 * still root of the userns, in no cgroup of the child's, out of its sight and reach; it becomes the
 * standby when the run is over. While runs are clean, a *mould* makes the standbys instead: in one
 * address space, one after the other (mould.c).
 */
#pragma once
#include <stdint.h>

#define ZYG_NS_ID_ROOM 65
#define ZYG_UIDS_PER_SLOT 65536u
#define ZYG_CHILD_UID 1000u
#define ZYG_HOME "/work"      /* the volume: home and working directory */
#define ZYG_OUTPUTS "outputs" /* below it: what becomes artifacts */
#define ZYG_BINDS "/.binds"   /* in the image: <policy>.<n> for each extra tree of a policy */
#define ZYG_RUN_BYTES_MAX (204u * 1024) /* header and all behind it: one datagram always fits */
#define ZYG_ARGS_MAX 96u   /* PROTO_ARGS_MAX, and what a language's command begins with */
#define ZYG_PLACES_MAX 17u /* PROTO_PLACES_MAX, and the code */

/* Descriptors at which priv starts a primordial: its conversation, the policies, the builtin. */
#define ZYG_PRIV_FD 20
#define ZYG_PLAN_FD 21
#define ZYG_BUILTIN_FD 22
/* What priv gives bash to evaluate: the builtin's load function takes over and never returns. */
#define ZYG_BASH_COMMAND "enable -f /proc/self/fd/22 brood"

enum zyg_verb { ZYG_ASSIGN = 1, ZYG_CANCEL, ZYG_SIGNAL };

/* ZYG_ASSIGN: no volume comes, /work is an empty tmpfs of fresh_bytes, which are charged to the
 * runs that write there. */
#define ZYG_FRESH 1u
/* ZYG_ASSIGN: it was born into the kernel namespaces of another zygote (struct zyg_birth.join): no
 * volume comes, everything is mounted. */
#define ZYG_JOINED 2u
/* ZYG_ASSIGN, with ZYG_JOINED: its runs are calls of one bash that stays between them. */
#define ZYG_SESSION 4u

struct zyg_order { /* engine -> zygote */
    uint32_t verb;
    uint32_t flags; /* ZYG_SIGNAL: which signal */
    uint64_t fresh_bytes;
    uint64_t run_id; /* CANCEL, SIGNAL: ignored unless this one is sent and not done */
    char ns_id[ZYG_NS_ID_ROOM + 7]; /* ZYG_ASSIGN: becomes the host name */
};

#define ZYG_RUN_MAGIC 0x31677a62u
#define ZYG_RETIRE_MAGIC 0x31727a62u /* in place of a run: the standby ends, and its reserve */
#define ZYG_PROBE_MAGIC 0x31707a62u  /* a run whose cmd is a struct zyg_probe_ask: see below */
/* cmd is "": args are the argv of a program, found by PATH, which is exec'ed. Before that, as with
 * a command, the files are placed. One that cannot be exec'ed ends as in a shell: 127, 126. */
#define ZYG_PROGRAM_MAGIC 0x31657a62u
/* cmd is a struct proto_files_ask and a NUL, stdin what is to be put, stdout the socket for the
 * answers (files.c); no args, places or flags. Its exit status is 0, whatever it answered. */
#define ZYG_FILES_MAGIC 0x31667a62u
/* cmd is "", stdout a SOCK_SEQPACKET socket: a login bash on a pty of its own, whose master goes
 * over that socket first. */
#define ZYG_TERMINAL_MAGIC 0x31747a62u
#define ZYG_ANY_CPU UINT32_MAX

/* Of a command or program, done in this order before it begins, within its time and limits, as its
 * user; then the files are placed: a file or link that is there is replaced, a directory is not.
 * The descriptors are of regular files, read-only or sealed. A failure is CHILD_STEP_PLACE. */
#define ZYG_EMPTY_OUTPUTS 1u /* /work/outputs is made anew, empty */
#define ZYG_EMPTY_SOURCE 2u  /* the directory of the first place, too; never /work itself */

struct zyg_run { /* engine -> standby child, followed by cmd\0, env_count x "NAME=value\0", cwd\0,
                    arg_count x arg\0, place_count x path\0 (relative to /work) */
    uint32_t magic;
    uint32_t env_count;
    uint64_t run_id;
    uint64_t timeout_ns;                      /* from now on, by the zygote's clock */
    uint64_t grace_ns;                        /* between SIGTERM and SIGKILL */
    uint64_t cpu_s;                           /* RLIMIT_CPU; 0: none */
    uint32_t cmd_bytes, env_bytes, cwd_bytes; /* with their NULs */
    uint32_t
        home_cpu; /* where the zygote should live from its next child on; ZYG_ANY_CPU: anywhere */
    uint32_t flags, arg_count, arg_bytes, place_count, place_bytes, pad;
};

/* ---- probes (probe.c) ------------------------------------------------------------------------
 *
 * The child of such a run evaluates no command: it asks an attacker's questions, from exactly the
 * state of a run, writes one struct zyg_probe_answer for each to its stdout, then one whose layer
 * is 0, and lives on until its stdin ends. */

enum { ZYG_NS_USER, ZYG_NS_MNT, ZYG_NS_PID, ZYG_NS_NET, ZYG_NS_IPC, ZYG_NS_UTS, ZYG_NS_CGROUP };
#define ZYG_NS_KINDS 7
#define ZYG_PROBE_QUESTIONS_MAX 96
#define ZYG_PROBE_BINDS_BYTES 2048

/* Calls that some questions are made of: a profile that lets one through, or refuses one that is
 * only a means, has its question left out. */
enum zyg_probe_call {
    ZYG_CALL_UNSHARE = 1 << 0,
    ZYG_CALL_SETNS = 1 << 1,
    ZYG_CALL_CLONE3 = 1 << 2,
    ZYG_CALL_KEYCTL = 1 << 3,
    ZYG_CALL_MOUNT = 1 << 4,
    ZYG_CALL_IO_URING = 1 << 5,
    ZYG_CALL_BPF = 1 << 6,
    ZYG_CALL_MKNOD = 1 << 7,
    ZYG_CALL_SOCKET = 1 << 8,
    ZYG_CALL_BIND = 1 << 9,
    ZYG_CALL_CONNECT = 1 << 10,
    ZYG_CALL_STATFS = 1 << 11,
    ZYG_CALL_SENDTO = 1 << 12,
    ZYG_CALL_RECVMSG = 1 << 13,
    ZYG_CALL_SETSOCKOPT = 1 << 14,
};

struct zyg_probe_ask {
    uint64_t host_ns[ZYG_NS_KINDS]; /* inodes of the host's kernel namespaces; 0: unknown */
    uint64_t nofile, fsize_bytes, nproc, tmp_bytes;
    uint32_t landlock_abi;   /* of the running kernel */
    uint32_t rights;         /* enum policy_right, as the policy has them */
    uint32_t closed_port;    /* with POLICY_TCP_BIND: one that is not to be had */
    uint32_t closed_connect; /* with POLICY_TCP_CONNECT: one that is not to be reached */
    uint32_t network;        /* enum policy_network, as far as there is a link */
    uint32_t closed_address; /* with a network: IPv4 whose TCP port 9 is not listed; 0: none */
    uint32_t refused;        /* enum zyg_probe_call: those that the profile refuses */
    uint32_t bind_count;
    char binds[ZYG_PROBE_BINDS_BYTES]; /* the places of extra trees, each with its NUL */
};

enum zyg_probe_state { ZYG_HELD, ZYG_BROKEN, ZYG_ABSENT, ZYG_PROBE_STATES };

struct zyg_probe_answer {
    uint32_t layer; /* one bit: enum policy_layer */
    uint32_t state;
    char question[56], detail[64];
};

enum zyg_event { ZYG_SPARE = 1, ZYG_READY, ZYG_DONE, ZYG_FAILED };

/* Why a run ended, as far as pid 1 can see. */
enum zyg_reason { ZYG_BY_ITSELF, ZYG_BY_TIMEOUT, ZYG_BY_CANCEL, ZYG_BY_STEP };

/* Calls that a run was refused with EPERM, in the order of the first time. Further ones are refused
 * all the same. */
#define ZYG_DENIALS_MAX 16
struct zyg_denied {
    uint32_t nr, times; /* saturates */
};

struct zyg_report { /* zygote -> engine */
    uint32_t event;
    uint32_t reason; /* ZYG_DONE */
    uint64_t run_id; /* ZYG_DONE */
    int32_t status;  /* ZYG_DONE: wait status */
    uint32_t step;   /* ZYG_BY_STEP: enum child_step; ZYG_FAILED: enum zyg_step */
    int32_t step_errno;
    uint32_t survivors; /* processes that had to be killed after the run */
    uint64_t wall_ns, cpu_ns;
    uint64_t max_rss_kb; /* the largest single process */
    struct zyg_denied denied[ZYG_DENIALS_MAX];
    uint32_t denied_count;
    uint32_t outputs; /* of a run with ZYG_EMPTY_OUTPUTS: there may be something in it now */
    uint32_t ended;   /* ZYG_DONE of a session: this run ended it, none is to be sent any more */
    uint32_t interrupted; /* ZYG_DONE of a session: SIGINT made it drop the command */
};

/* Set-up steps of a child that can fail and are reported home by number. */
enum child_step {
    CHILD_OK,
    CHILD_STEP_MESSAGE,
    CHILD_STEP_STDIO,
    CHILD_STEP_LIMITS,
    CHILD_STEP_CWD,
    CHILD_STEP_PLACE,
    CHILD_STEP_EXEC,
    CHILD_STEPS,
};
const char *child_step_name(uint32_t step);

/* Set-up steps of a zygote, for ZYG_FAILED; and the layer that step belongs to, 0: none. */
const char *zyg_step_name(uint32_t step);
uint32_t zyg_step_layer(uint32_t step);

/* ---- primordial <-> priv ---------------------------------------------------------------------
 *
 * A *companion* is a zygote that is born into the kernel namespaces of another one, which must have
 * been assigned: its userns, netns, ipcns and utsns, and a copy of its mntns; pidns, cgroupns and
 * cgroups are its own. */

struct zyg_birth { /* priv -> primordial; descriptors: ctl, run, `procs_count` cgroup.procs of the
                      child's cgroups, `joins_count` of the zygote's own, perhaps pids.current of
                      the child's, perhaps the pidfd of the zygote to join */
    uint32_t slot;
    uint32_t procs_count;
    uint32_t
        joins_count; /* the first ones, in which the zygote itself is not: a child joins them */
    uint32_t has_pids_current;
    uint32_t moulds;    /* runs may follow each other in one address space (mould.c) */
    uint32_t owner_uid; /* of the userns: outside every mapped range, one per slot; of a companion,
                           as base_uid, that of the zygote it joins */
    uint32_t join;      /* a companion is to be born */
    uint32_t policy;    /* index in the set behind ZYG_PLAN_FD */
    uint32_t base_uid;  /* first host uid of the slot's 65,536 */
    /* IPv4 in host byte order; 0: loopback only. Else POLICY_NET_DEVICE will appear in its
     * netns, and the answer carries that. */
    uint32_t net_address, net_gateway;
};

struct zyg_born {  /* primordial -> priv; descriptors on success: pidfd, userns, perhaps netns; of
                      a companion the pidfd alone */
    int32_t error; /* 0 or errno */
    int32_t pid;
    uint32_t step; /* which one failed, see primordial.c */
};
