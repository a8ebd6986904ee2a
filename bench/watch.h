/* SPDX-License-Identifier: Apache-2.0 */
/* bench/watch - what a running service holds, seen from outside: one sample is one row. */
#pragma once
#include "bench/bench.h"

enum watch_column {
    WATCH_PROCS,      /* processes of the service, tenants' included */
    WATCH_DAEMON_FDS, /* open descriptors of the daemons (those in the host's pidns) */
    WATCH_TENANT_FDS, /* ... and of zygotes and children */
    WATCH_DAEMON_RSS, /* KiB */
    WATCH_DAEMON_PSS,
    WATCH_TENANT_PSS,
    WATCH_MOUNTS,        /* lines of the host's mountinfo */
    WATCH_OWN_MOUNTS,    /* lines of mountinfo, summed over the daemons */
    WATCH_CGROUPS,       /* directories below /sys/fs/cgroup */
    WATCH_MEMCGS,        /* memory cgroups as the kernel counts them: dying ones included */
    WATCH_NETNS,         /* objects in the net_namespace slab */
    WATCH_KERNEL_MOUNTS, /* objects in the mnt_cache slab: detached mounts included */
    WATCH_USED,          /* system: MemTotal - MemFree - Buffers - (Cached - Shmem), KiB */
    WATCH_SLAB,          /* KiB */
    WATCH_ACTIVE,        /* the service's own statistics */
    WATCH_SPARES,
    WATCH_STANDBYS,
    WATCH_COLUMNS,
};

struct watch_row {
    double v[WATCH_COLUMNS]; /* -1: could not be read */
};

#define SHOWN (-1)

struct watch_info {
    const char *name;
    int width;
    int allowance; /* growth from quiet to quiet that is no leak; SHOWN: of the whole machine */
};
extern const struct watch_info watch_columns[WATCH_COLUMNS];

void watch_take(int service_pid, struct engine *e, struct watch_row *ret);
