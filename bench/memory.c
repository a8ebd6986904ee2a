/* SPDX-License-Identifier: Apache-2.0 */
/* bench/memory - `brood-bench memory`: what an active, idle namespace costs the whole system.
 *
 * Wants a service that has just started and nothing else going on. Each namespace is activated by
 * one run; then we wait until no standby child is left, so that only what an idle namespace keeps
 * is there. The figure is the growth of
 *
 *     MemTotal - MemFree - Buffers - (Cached - Shmem)
 *
 * so page cache of files is not counted (it would be given back), but tmpfs and *all* slab are:
 * dentries and inodes of a namespace's mounts are called reclaimable and are nevertheless pinned
 * while it lives. The growth of MemAvailable, which believes in reclaimable slab, and of its parts
 * is printed beside it. The growth is taken in steps; the spread of the steps is the noise.
 */
#include "bench/bench.h"
#include "lib/fd.h"
#include "lib/num.h"
#include <fcntl.h>

#define STEPS 4u
#define SETTLE_S 120u

enum part {
    TOTAL,
    FREE,
    AVAILABLE,
    BUFFERS,
    CACHED,
    SHMEM,
    ANON,
    SLAB,
    SRECLAIM,
    SUNRECLAIM,
    KSTACK,
    PTABLES,
    PERCPU,
    VMALLOC,
    PARTS
};

static const char *const part_names[PARTS] = {
    [TOTAL] = "MemTotal:",        [FREE] = "MemFree:",       [AVAILABLE] = "MemAvailable:",
    [BUFFERS] = "Buffers:",       [CACHED] = "Cached:",      [SHMEM] = "Shmem:",
    [ANON] = "AnonPages:",        [SLAB] = "Slab:",          [SRECLAIM] = "SReclaimable:",
    [SUNRECLAIM] = "SUnreclaim:", [KSTACK] = "KernelStack:", [PTABLES] = "PageTables:",
    [PERCPU] = "Percpu:",         [VMALLOC] = "VmallocUsed:"};

struct meminfo {
    double kib[PARTS];
};

static void read_meminfo(struct meminfo *ret)
{
    auto_close int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
    char text[8192];
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    if (n <= 0)
        die(1, "cannot read /proc/meminfo");
    text[n] = 0;
    for (size_t i = 0; i < PARTS; i++) {
        const char *at = strstr(text, part_names[i]);
        ret->kib[i] = at ? strtod(at + strlen(part_names[i]), NULL) : 0;
    }
}

static double used_kib(const struct meminfo *m)
{
    return m->kib[TOTAL] - m->kib[FREE] - m->kib[BUFFERS] - (m->kib[CACHED] - m->kib[SHMEM]);
}

static int activate(struct http *h, struct buf *request, unsigned from, unsigned to,
                    struct err *err)
{
    char ns_id[32];
    int r = 0;

    for (unsigned i = from; r == 0 && i < to; i++) {
        (void)snprintf(ns_id, sizeof ns_id, "idle-%u", i);
        http_execute(request, ns_id, "echo hi", "");
        r = http_exchange(h, request, err);
        if (r == 0)
            r = http_check(h, "\"hi\\n\"", err);
    }
    return r;
}

static int settle(struct engine *e, const struct options *o, struct err *err)
{
    int r = engine_wait_stat(e, "standbys", 0, 0, SETTLE_S, err);

    return r < 0 ? r : engine_wait_stat(e, "spares", o->spares, UINT64_MAX, SETTLE_S, err);
}

static void print_parts(const struct meminfo *before, const struct meminfo *after, double count)
{
    static const enum part shown[] = {ANON,   SUNRECLAIM, SRECLAIM, KSTACK, PTABLES,
                                      PERCPU, SHMEM,      CACHED,   VMALLOC};

    printf("%-34s %9.1f\n", "MemTotal-MemFree-cache (figure)",
           (used_kib(after) - used_kib(before)) / count);
    printf("%-34s %9.1f\n", "MemAvailable, decrease",
           (before->kib[AVAILABLE] - after->kib[AVAILABLE]) / count);
    printf("%-34s %9.1f\n", "MemFree, decrease (with cache)",
           (before->kib[FREE] - after->kib[FREE]) / count);
    for (size_t i = 0; i < ARRAY_LEN(shown); i++)
        printf("  %-32s %9.1f\n", part_names[shown[i]],
               (after->kib[shown[i]] - before->kib[shown[i]]) / count);
}

static int measure(const struct options *o, struct http *h, struct engine *e, struct err *err)
{
    struct figure f = {.name = "idle_kib_per_namespace"};
    struct meminfo at[STEPS + 1];
    struct buf request = {0};
    double step[STEPS];
    unsigned each = o->namespaces / STEPS;
    int r = activate(h, &request, 0, 1, err); /* what is paid once is paid now */

    for (unsigned i = 0; r == 0 && i <= STEPS; i++) {
        if (i)
            r = activate(h, &request, 1 + (i - 1) * each, 1 + i * each, err);
        if (r == 0)
            r = settle(e, o, err);
        read_meminfo(&at[i]);
        if (i)
            step[i - 1] = (used_kib(&at[i]) - used_kib(&at[i - 1])) / each;
    }
    buf_fini(&request);
    if (r < 0)
        return r;
    printf("\nKiB for each of %u active, idle namespaces (growth of the whole system)\n",
           each * STEPS);
    print_parts(&at[0], &at[STEPS], each * STEPS);
    figure_spread(&f, step, STEPS);
    printf("idle_kib_per_namespace %.1f %.1f %.1f\n",
           (used_kib(&at[STEPS]) - used_kib(&at[0])) / (each * STEPS), f.low, f.high);
    return 0;
}

int memory_main(const struct options *o)
{
    struct http h = {.fd = -1};
    struct engine e = {.fd = -1, .null_fd = -1};
    struct err err = {0};
    int r = engine_open(&e, o->socket, &err);

    if (r == 0)
        r = http_open(&h, o->http_port, &err);
    if (r == 0)
        r = measure(o, &h, &e, &err);
    http_close(&h);
    engine_close(&e);
    if (r < 0)
        (void)fprintf(stderr, "brood-bench: memory: %s\n", err.text);
    return r < 0 ? 1 : 0;
}
