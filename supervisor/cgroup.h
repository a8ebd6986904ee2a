/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/cgroup - the limited cgroup of each slot, with two back ends: v1 (one tree a
 * controller) and v2 (unified), chosen at start by what is mounted. Everything lies below the
 * cgroup that the service was started in: <own>/brood-<key>/{zygotes,runs/s<slot>}. Called by priv
 * only, as root.
 *
 * A zygote stays in `zygotes` (no limits), its children join s<slot>; `runs` limits all together:
 * see DESIGN.md 4. The counters are opened here and read by the engine through the descriptors.
 */
#pragma once
#include "policy/policy.h"
struct err;

#define CGROUP_TREES_MAX 4 /* v1: memory, pids, cpu, cpuacct */
#define CGROUP_ACCOUNTING                                                                          \
    (1u << 31) /* among policy_layer bits: no layer, processor time is counted */

enum cgroup_counter {
    CGROUP_PEAK,
    CGROUP_OOM,
    CGROUP_PIDS,
    CGROUP_PIDS_CURRENT,
    CGROUP_CPU_USED,
    CGROUP_COUNTERS
};

struct cgroup {
    int version; /* 1 or 2 */
    size_t trees;
    int base_fd[CGROUP_TREES_MAX];    /* brood-<key> */
    int runs_fd[CGROUP_TREES_MAX];    /* `runs` in it */
    int parent_fd[CGROUP_TREES_MAX];  /* the cgroup we were started in */
    int zygotes_fd[CGROUP_TREES_MAX]; /* cgroup.procs of `zygotes` */
    bool in_leaf; /* v2: we moved ourselves out of the cgroup we were started in */
    uint32_t kind[CGROUP_TREES_MAX]; /* policy_layer bits this tree serves, and CGROUP_ACCOUNTING */
    char key[32];
};

/* Finds the trees, removes what an earlier service of the same key left, makes the base. `need`:
 * layers that must be there. <0: err names layer and remedy. */
int cgroup_start(struct cgroup *cg, const char *key, uint32_t need, struct err *err);
/* kernel.pid_max: how many processes and threads there can be. */
uint64_t cgroup_machine_pids(void);
/* The most that all slots may take together. <0: a limit that is needed could not be set. */
int cgroup_bound(struct cgroup *cg, uint64_t memory_bytes, uint64_t pids_max, struct err *err);
/* Makes s<slot> with these limits, or takes the one that was `kept`. procs[trees]: cgroup.procs for
 * the child; counters[CGROUP_COUNTERS]: -1 where there is none, and of one that was kept they go on
 * from where they were, but for the peak. All become the caller's. */
int cgroup_make(struct cgroup *cg, uint32_t slot, bool kept, const struct policy_group *limits,
                int procs[CGROUP_TREES_MAX], int counters[CGROUP_COUNTERS], struct err *err);
/* Gives s<slot> other limits. 0; -EBUSY: it holds more memory than that, what was stays in force;
 * other <0: some of them may be in force. */
int cgroup_limit(struct cgroup *cg, uint32_t slot, const struct policy_group *limits,
                 struct err *err);
/* Does it hold more memory than that now? Then limiting it takes as long as getting it back. */
bool cgroup_holds_more(struct cgroup *cg, uint32_t slot, uint64_t bytes);
/* Asks the kernel whether somebody lives in s<slot> and its limits read as they were set: the
 * policy_layer bits of which that is not so, err saying what was found. A tree that is not there is
 * not asked. */
uint32_t cgroup_find_broken(struct cgroup *cg, uint32_t slot, const struct policy_group *limits,
                            struct err *err);
/* Removes s<slot>, dropping its page cache first. May take long: call it from a process of its own.
 * 0, or -EBUSY while something lives there. */
int cgroup_remove(struct cgroup *cg, uint32_t slot);
/* The same where it takes no time: nothing lives there and no page cache is to be dropped. Else
 * -EBUSY, and some of its trees may be gone. */
int cgroup_remove_unused(struct cgroup *cg, uint32_t slot);
/* May s<slot> stay for the slot's next zygote? Nobody lives there, and it holds no more memory than
 * that: page cache, since little else outlives its processes and mounts. */
bool cgroup_may_stay(struct cgroup *cg, uint32_t slot, uint64_t bytes);
/* Removes everything below and including the base; tries for up to wait_ms. */
void cgroup_stop(struct cgroup *cg, unsigned wait_ms);
