/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/priv - what the engine may ask of the process that stays root.
 *
 * One SOCK_SEQPACKET pair carries the fixed structs below in native byte order, descriptors beside
 * them. Each request but DOWN has exactly one reply, addressed by (verb, slot); those of
 * END_ZYGOTE, and of LIMIT_ZYGOTE where memory has to be got back, come when the work is done, the
 * others' at once. Growing this list is a security decision: SECURITY.md first.
 */
#pragma once
#include "supervisor/cgroup.h"

enum priv_verb {
    PRIV_START_ZYGOTE = 1, /* slot, policy, join; + ctl, run. Reply: + counters as `detail` says
                              (bit = enum cgroup_counter, then enum priv_counter) */
    PRIV_ATTACH_VOLUME,  /* slot, ns_id: creates the volume if absent. Reply: + a detached mount */
    PRIV_LIMIT_ZYGOTE,   /* slot, policy, memory_bytes, pids_max: its cgroup gets that policy's
                            limits, or less where less is asked. Reply: error EBUSY: it holds more */
    PRIV_END_ZYGOTE,     /* slot: kill, reap, remove its cgroups. Reply: detail 1 = those are kept,
                            for the slot's next zygote */
    PRIV_DISCARD_VOLUME, /* slot is a cookie; ns_id. Reply: detail 1 = there was none */
    PRIV_START_FRONTEND, /* + 1..PACKET_FDS_MAX engine connections */
    PRIV_BEGIN_DRAIN,    /* said after PRIV_DRAIN: no frontend will be started any more */
    PRIV_ASK_LIMITS, /* slot: do its cgroups hold somebody, and limit as set? Reply: detail: bits
                        of the layers that do not, text why */
    PRIV_DOWN,       /* slot is the exit status: end everything. No reply */
    PRIV_VERBS,
    /* Told without being asked: */
    PRIV_DRAIN,           /* SIGTERM or SIGINT; detail: how many so far */
    PRIV_RELOAD,          /* SIGHUP; + configuration files; detail bit 0 yaml, bit 1 .env */
    PRIV_FRONTEND_EXITED, /* detail: wait status */
    PRIV_POLICIES,        /* detail: generation; + the sealed policies in force from here on */
    PRIV_KEYS,            /* + the sealed keys in force from here on */
};

/* What the namespaces of probes begin with: no client can name one (proto_ns_id_is_valid), and its
 * volume is a nameless directory that goes with the zygote. */
#define PRIV_PROBE_ID ".probe"

/* START_ZYGOTE with `join`, a slot + 1: a companion of the zygote in that slot, which has a volume,
 * the same box, and is no companion itself. It has what that one has but a pidns and cgroups; it
 * ends, killed by priv, with that one, whose END_ZYGOTE is answered when all of them are gone. */
struct priv_request {
    uint32_t verb, slot;
    uint32_t join, pad;          /* join: 0: none */
    uint32_t policy, generation; /* of another generation than priv's: error ESTALE */
    uint64_t memory_bytes, pids_max;
    char ns_id[72];
};

/* Each verb belongs to phases; in another it ends the conversation, as does a wrong size. */
enum priv_phase {
    PRIV_STARTING = 1, /* until a frontend was asked for: no volume is touched */
    PRIV_SERVING = 2,
    PRIV_DRAINING = 4, /* from BEGIN_DRAIN on */
};

struct priv_reply {
    uint32_t verb, slot;
    int32_t error; /* 0 or errno-like; text says what */
    uint32_t detail;
    uint32_t calls, failures; /* of this verb so far, as priv counts them */
    char text[176];
};

/* A slot's counters: those of its cgroups, and of its link when it has one. */
enum priv_counter { PRIV_NET_RX = CGROUP_COUNTERS, PRIV_NET_TX, PRIV_COUNTERS };

#define PRIV_ZYGOTE_EXECS                                                                          \
    0x100u /* in detail of START_ZYGOTE's reply: the static fallback is in use */
