/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/cgroup - see cgroup.h. cgroups(7), Documentation/admin-guide/cgroup-v1 and cgroup-v2.
 */
#include "supervisor/cgroup.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/word.h"
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <mntent.h>
#include <poll.h>
#include <sys/stat.h>

#define CPU_PERIOD_US 100000u
#define V1_SHARES_OF_WEIGHT(w) ((w)*1024 / 100) /* 100 is v2's default, 1024 v1's */
#define SOCKETS_PART 8u /* of the memory limit, beside it: what v1 allows for socket buffers */

/* The files of each version, by what they mean. */
struct setting {
    const char *file;
    char value[48];
    bool may_lack;
};

static int write_at(int dir_fd, const char *file, const char *value)
{
    auto_close int fd = SYS(openat(dir_fd, file, O_WRONLY | O_CLOEXEC));
    return fd < 0 || SYS(write(fd, value, strlen(value))) < 0 ? -errno : 0;
}

static int open_dir_at(int dir_fd, const char *name)
{
    return SYS(openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
}

/* Where a controller ("" = v2) is mounted, and our own path in it; 0 or -1. */
static int find_mount(const char *controller, char *ret, size_t room)
{
    FILE *f = setmntent("/proc/self/mounts", "re");
    struct mntent *m;
    int found = -1;
    while (found < 0 && f && (m = getmntent(f)))
        if (*controller ? strcmp(m->mnt_type, "cgroup") == 0 && word_in(m->mnt_opts, controller)
                        : strcmp(m->mnt_type, "cgroup2") == 0)
            found = (size_t)snprintf(ret, room, "%s", m->mnt_dir) < room ? 0 : -1;
    if (f)
        (void)endmntent(f);
    return found;
}

static int find_own_path(const char *controller, char *ret, size_t room)
{
    FILE *f = fopen("/proc/self/cgroup", "re");
    char line[PATH_MAX + 64];
    int found = -1;
    while (found < 0 && f && fgets(line, sizeof line, f)) {
        char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = 0;
        path[strcspn(path, "\n")] = 0;
        if (*controller ? word_in(names + 1, controller) : names[1] == 0)
            found = (size_t)snprintf(ret, room, "%s", path) < room ? 0 : -1;
    }
    if (f)
        (void)fclose(f);
    return found;
}

static int open_parent(const char *controller)
{
    char mnt[PATH_MAX], own[PATH_MAX], path[2 * PATH_MAX];
    if (find_mount(controller, mnt, sizeof mnt) < 0 ||
        find_own_path(controller, own, sizeof own) < 0)
        return -1;
    (void)snprintf(path, sizeof path, "%s%s", mnt, own);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0
               ? fd
               : open(mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* a path outside our cgroupns */
}

/* v1: does it hold pages of files? They would keep it, dead, for as long as they are cached. */
static bool holds_cache(int dir_fd)
{
    char text[64] = "";
    auto_close int fd = openat(dir_fd, "memory.stat", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    return n > 0 && strncmp(text, "cache ", 6) == 0 && strtoull(text + 6, NULL, 10) > 0;
}

/* Removes a cgroup and those below it; what lives there is not ours to end here. */
static int remove_tree(int dir_fd, const char *name)
{
    auto_close int fd = open_dir_at(dir_fd, name);
    int copy = fd < 0 ? -1 : SYS(fcntl(fd, F_DUPFD_CLOEXEC, 0));
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (!dir)
        return errno == ENOENT ? 0 : -errno;
    for (struct dirent *e; (e = readdir(dir));)
        if (e->d_type == DT_DIR && e->d_name[0] != '.')
            (void)remove_tree(fd, e->d_name);
    (void)closedir(dir);
    if (holds_cache(fd)) /* this looks through all that the kernel could give back: a millisecond */
        (void)write_at(fd, "memory.force_empty", "0");
    return unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

static int add_tree(struct cgroup *cg, const char *controller, uint32_t kind, uint32_t need,
                    struct err *err)
{
    auto_close int parent = open_parent(controller);
    if (parent < 0) {
        if (!(need & kind))
            return 0;
        return err_set(err,
                       "cgroup controller %s is missing: mount it (mount -t cgroup -o %s none "
                       "/sys/fs/cgroup/%s) or name it in optional_layers",
                       *controller ? controller : "v2", controller, controller);
    }
    (void)remove_tree(parent, cg->key);
    if (SYS(mkdirat(parent, cg->key, 0755)) < 0 && errno != EEXIST)
        return err_sys(err, "make cgroup %s (%s)", cg->key, *controller ? controller : "v2");
    auto_close int base = open_dir_at(parent, cg->key);
    if (base < 0) {
        int r = err_sys(err, "open cgroup %s", cg->key);
        (void)unlinkat(parent, cg->key, AT_REMOVEDIR); /* cgroup_stop does not know of it yet */
        return r;
    }
    size_t i = cg->trees++;
    cg->parent_fd[i] = fd_take(&parent);
    cg->base_fd[i] = fd_take(&base);
    cg->zygotes_fd[i] = cg->runs_fd[i] = -1;
    cg->kind[i] = kind;
    return 0;
}

/* Where a process of one thread writes "0" to join. v1's tasks moves a thread, which takes no lock
 * that waits for an RCU grace period, 12 ms here after some quiet, as cgroup.procs does
 * (cgroup_procs_write_start() in the kernel's cgroup.c). v2 moves only processes. */
static const char *join_file(const struct cgroup *cg)
{
    return cg->version == 2 ? "cgroup.procs" : "tasks";
}

static int add_runs(struct cgroup *cg, size_t tree, struct err *err)
{
    static const char controllers[] = "+memory +pids +cpu";
    if (SYS(mkdirat(cg->base_fd[tree], "runs", 0755)) < 0 && errno != EEXIST)
        return err_sys(err, "make cgroup %s/runs", cg->key);
    int fd = cg->runs_fd[tree] = open_dir_at(cg->base_fd[tree], "runs");
    if (fd < 0)
        return err_sys(err, "open cgroup %s/runs", cg->key);
    if (cg->version == 1)
        return 0;
    (void)write_at(fd, "cgroup.subtree_control", "+io"); /* for weights alone */
    int r = write_at(fd, "cgroup.subtree_control", controllers);
    errno = -r;
    return r < 0 ? err_sys(err, "cgroup v2: enable memory, pids and cpu below %s/runs", cg->key)
                 : 0;
}

static int add_zygotes(struct cgroup *cg, struct err *err)
{
    for (size_t i = 0; i < cg->trees; i++) {
        if (SYS(mkdirat(cg->base_fd[i], "zygotes", 0755)) < 0 && errno != EEXIST)
            return err_sys(err, "make cgroup %s/zygotes", cg->key);
        char path[32];
        (void)snprintf(path, sizeof path, "zygotes/%s", join_file(cg));
        cg->zygotes_fd[i] = SYS(openat(cg->base_fd[i], path, O_WRONLY | O_CLOEXEC));
        if (cg->zygotes_fd[i] < 0)
            return err_sys(err, "open cgroup %s/%s", cg->key, path);
        int r = add_runs(cg, i, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* v2 has no processes beside child cgroups that have controllers, but at the root: elsewhere we
 * step into a leaf, then hand the controllers down. Others in the cgroup we were started in are not
 * ours to move. */
static int delegate_v2(struct cgroup *cg, struct err *err)
{
    static const char controllers[] = "+memory +pids +cpu";
    int base = cg->base_fd[0];
    if (SYS(mkdirat(base, "supervisor", 0755)) < 0 && errno != EEXIST)
        return err_sys(err, "make cgroup %s/supervisor", cg->key);
    if (write_at(cg->parent_fd[0], "cgroup.subtree_control", controllers) < 0) {
        int r = write_at(base, "supervisor/cgroup.procs", "0");
        cg->in_leaf = r == 0;
        if (r == 0)
            r = write_at(cg->parent_fd[0], "cgroup.subtree_control", controllers);
        if (r < 0) {
            errno = -r;
            return err_sys(err,
                           "cgroup v2: enable memory, pids and cpu for %s (delegate them to this "
                           "service, alone in its cgroup: systemd Delegate=yes)",
                           cg->key);
        }
    }
    if (write_at(cg->parent_fd[0], "cgroup.subtree_control", "+io") == 0) /* for weights alone */
        (void)write_at(base, "cgroup.subtree_control", "+io");
    int r = write_at(base, "cgroup.subtree_control", controllers);
    errno = -r;
    return r < 0 ? err_sys(err, "cgroup v2: enable memory, pids and cpu below %s", cg->key) : 0;
}

/* v1's cpuacct is often one tree with cpu. Without it a run's processor time is what its processes
 * were waited for. */
static int add_accounting(struct cgroup *cg, struct err *err)
{
    for (size_t i = 0; i < cg->trees; i++)
        if (faccessat(cg->base_fd[i], "cpuacct.usage", R_OK, 0) == 0) {
            cg->kind[i] |= CGROUP_ACCOUNTING;
            return 0;
        }
    return add_tree(cg, "cpuacct", CGROUP_ACCOUNTING, 0, err);
}

int cgroup_start(struct cgroup *cg, const char *key, uint32_t need, struct err *err)
{
    char mnt[PATH_MAX];
    int r;
    *cg = (struct cgroup){.version = 1};
    (void)snprintf(cg->key, sizeof cg->key, "%s", key);
    if (find_mount("memory", mnt, sizeof mnt) < 0 && find_mount("pids", mnt, sizeof mnt) < 0 &&
        find_mount("", mnt, sizeof mnt) == 0) {
        cg->version = 2;
        r = add_tree(cg, "",
                     POLICY_CGROUP_MEMORY | POLICY_CGROUP_PIDS | POLICY_CGROUP_CPU |
                         CGROUP_ACCOUNTING,
                     need, err);
        if (r == 0 && cg->trees)
            r = delegate_v2(cg, err);
    } else {
        r = add_tree(cg, "memory", POLICY_CGROUP_MEMORY, need, err);
        if (r == 0)
            r = add_tree(cg, "pids", POLICY_CGROUP_PIDS, need, err);
        if (r == 0)
            r = add_tree(cg, "cpu", POLICY_CGROUP_CPU, need, err);
        if (r == 0)
            r = add_accounting(cg, err);
    }
    return r < 0 ? r : add_zygotes(cg, err);
}

static void add(struct setting s[8], size_t *n, const char *file, bool may_lack,
                unsigned long long value)
{
    s[*n] = (struct setting){.file = file, .may_lack = may_lack};
    (void)snprintf(s[(*n)++].value, sizeof s[0].value, "%llu", value);
}

static size_t settings_for(const struct cgroup *cg, uint32_t kind, const struct policy_group *l,
                           struct setting s[8])
{
    bool v2 = cg->version == 2;
    size_t n = 0;
    if (kind & POLICY_CGROUP_MEMORY) {
        add(s, &n, v2 ? "memory.max" : "memory.limit_in_bytes", false, l->memory_bytes);
        add(s, &n, v2 ? "memory.swap.max" : "memory.memsw.limit_in_bytes", true,
            v2 ? l->swap_bytes : l->memory_bytes + l->swap_bytes);
        if (!v2) /* buffers of TCP and UDP: no part of memory.limit_in_bytes, as they are in v2 */
            add(s, &n, "memory.kmem.tcp.limit_in_bytes", true, l->memory_bytes / SOCKETS_PART);
    }
    if (kind & POLICY_CGROUP_PIDS)
        add(s, &n, "pids.max", false, l->pids_max);
    if (kind & POLICY_CGROUP_CPU) {
        add(s, &n, v2 ? "cpu.weight" : "cpu.shares", false,
            v2 ? l->cpu_weight : V1_SHARES_OF_WEIGHT(l->cpu_weight));
        unsigned long long quota = l->cpu_percent * (CPU_PERIOD_US / 100);
        add(s, &n, v2 ? "cpu.max" : "cpu.cfs_quota_us", !v2, quota);
        if (l->cpu_percent == 0)
            (void)snprintf(s[n - 1].value, sizeof s[0].value, "%s", v2 ? "max 100000" : "-1");
        else if (v2)
            (void)snprintf(s[n - 1].value, sizeof s[0].value, "%llu 100000", quota);
    }
    if (kind & POLICY_CGROUP_MEMORY && v2 && l->io_weight)
        add(s, &n, "io.weight", true, l->io_weight);
    return n;
}

/* v1 keeps memory <= memory + swap at every moment, so raising both takes the second one first:
 * what is refused is tried again after the rest. */
static int apply(struct cgroup *cg, size_t tree, int dir, const struct policy_group *limits,
                 struct err *err)
{
    struct setting s[8];
    size_t n = settings_for(cg, cg->kind[tree], limits, s), failed = 0;
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < n; i++) {
            int r = write_at(dir, s[i].file, s[i].value);
            if (r == 0 || (r == -ENOENT && s[i].may_lack))
                continue;
            failed++;
            if (round == 1) {
                errno = -r;
                return err_sys(err, "cgroup: write %s to %s", s[i].value, s[i].file);
            }
        }
        if (failed == 0)
            break;
    }
    return 0;
}

uint64_t cgroup_machine_pids(void)
{
    char text[24];
    auto_close int fd = SYS(open("/proc/sys/kernel/pid_max", O_RDONLY | O_CLOEXEC));
    ssize_t n = fd < 0 ? -1 : SYS(read(fd, text, sizeof text - 1));
    text[n > 0 ? n : 0] = 0;
    uint64_t max = strtoull(text, NULL, 10);
    return max ? max : 32768;
}

int cgroup_bound(struct cgroup *cg, uint64_t memory_bytes, uint64_t pids_max, struct err *err)
{
    bool v2 = cg->version == 2;
    const struct {
        uint32_t kind;
        const char *file;
        uint64_t value;
    } bounds[] = {
        {POLICY_CGROUP_MEMORY, v2 ? "memory.max" : "memory.limit_in_bytes", memory_bytes},
        {POLICY_CGROUP_PIDS, "pids.max", pids_max},
    };
    for (size_t i = 0; i < cg->trees; i++)
        for (size_t k = 0; k < ARRAY_LEN(bounds); k++) {
            char text[24];
            if (!(cg->kind[i] & bounds[k].kind))
                continue;
            (void)snprintf(text, sizeof text, "%" PRIu64, bounds[k].value);
            int r = write_at(cg->runs_fd[i], bounds[k].file, text);
            if (r < 0) {
                errno = -r;
                return err_sys(err, "cgroup: write %s to %s of %s", text, bounds[k].file, cg->key);
            }
        }
    return 0;
}

static int fill(struct cgroup *cg, size_t tree, int dir, const struct policy_group *limits,
                int *ret_procs, int counters[], struct err *err)
{
    static const struct {
        enum cgroup_counter counter;
        uint32_t kind;
        const char *v1, *v2;
        int flags;
    } files[] = {
        {CGROUP_PEAK, POLICY_CGROUP_MEMORY, "memory.max_usage_in_bytes", "memory.peak", O_RDWR},
        {CGROUP_OOM, POLICY_CGROUP_MEMORY, "memory.oom_control", "memory.events", O_RDONLY},
        {CGROUP_PIDS, POLICY_CGROUP_PIDS, "pids.events", "pids.events", O_RDONLY},
        {CGROUP_PIDS_CURRENT, POLICY_CGROUP_PIDS, "pids.current", "pids.current", O_RDONLY},
        {CGROUP_CPU_USED, CGROUP_ACCOUNTING, "cpuacct.usage", "cpu.stat", O_RDONLY},
    };
    int r = apply(cg, tree, dir, limits, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        const char *name = cg->version == 2 ? files[i].v2 : files[i].v1;
        if (!(files[i].kind & cg->kind[tree]))
            continue;
        /* v2's memory.peak can be reset from Linux 6.12 on (before: EACCES); one that cannot is no
         * run's figure. But what is there is never left out. */
        counters[files[i].counter] = SYS(openat(dir, name, files[i].flags | O_CLOEXEC));
        if (counters[files[i].counter] < 0 && errno != ENOENT && errno != EACCES)
            return err_sys(err, "cgroup: open %s", name);
    }
    if (counters[CGROUP_PEAK] >= 0 && cg->kind[tree] & POLICY_CGROUP_MEMORY)
        (void)!SYS(pwrite(counters[CGROUP_PEAK], "0", 1, 0)); /* it may have been kept */
    *ret_procs = openat(dir, join_file(cg), O_WRONLY | O_CLOEXEC);
    return *ret_procs < 0 ? err_sys(err, "cgroup: open %s", join_file(cg)) : 0;
}

/* What an end has left there, if it could not be removed, was another tenant's. */
static int make_new(int runs_fd, const char *name)
{
    int r = SYS(mkdirat(runs_fd, name, 0755));
    return r < 0 && errno == EEXIST && remove_tree(runs_fd, name) == 0
               ? SYS(mkdirat(runs_fd, name, 0755))
               : r;
}

int cgroup_make(struct cgroup *cg, uint32_t slot, bool kept, const struct policy_group *limits,
                int procs[CGROUP_TREES_MAX], int counters[CGROUP_COUNTERS], struct err *err)
{
    char name[16];
    int r = 0;
    (void)snprintf(name, sizeof name, "s%u", slot);
    for (size_t i = 0; i < CGROUP_TREES_MAX; i++)
        procs[i] = -1;
    for (size_t i = 0; i < CGROUP_COUNTERS; i++)
        counters[i] = -1;
    /* Lowering a limit to what is there makes the kernel drop it, while all wait for priv. */
    if (kept && cgroup_holds_more(cg, slot, limits->memory_bytes / 2))
        kept = false;
    for (size_t i = 0; r == 0 && i < cg->trees; i++) {
        auto_close int dir = -1;
        if (!kept && make_new(cg->runs_fd[i], name) < 0)
            r = err_sys(err, "make cgroup %s/runs/%s", cg->key, name);
        else if ((dir = open_dir_at(cg->runs_fd[i], name)) < 0)
            r = err_sys(err, "open cgroup %s/runs/%s", cg->key, name);
        else
            r = fill(cg, i, dir, limits, &procs[i], counters, err);
    }
    if (r < 0) {
        for (size_t i = 0; i < CGROUP_TREES_MAX; i++)
            fd_close(&procs[i]);
        for (size_t i = 0; i < CGROUP_COUNTERS; i++)
            fd_close(&counters[i]);
        (void)cgroup_remove(cg, slot);
    }
    return r;
}

/* v2 would kill for a limit below what is used, v1 refuses it: so do we, after asking for what can
 * be had back. */
static int make_room(int dir, uint64_t bytes, struct err *err)
{
    for (int round = 0; round < 2; round++) {
        char text[32] = "";
        auto_close int fd = openat(dir, "memory.current", O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
        uint64_t used = n > 0 ? strtoull(text, NULL, 10) : 0;
        if (used <= bytes)
            return 0;
        (void)snprintf(text, sizeof text, "%llu", (unsigned long long)(used - bytes));
        (void)write_at(dir, "memory.reclaim", text); /* Linux 5.19 */
    }
    errno = EBUSY;
    return err_sys(err, "cgroup: the namespace holds more memory");
}

bool cgroup_holds_more(struct cgroup *cg, uint32_t slot, uint64_t bytes)
{
    bool more = false;
    char name[16];
    (void)snprintf(name, sizeof name, "s%u", slot);
    for (size_t i = 0; i < cg->trees; i++) {
        char text[32] = "";
        if (!(cg->kind[i] & POLICY_CGROUP_MEMORY))
            continue;
        auto_close int dir = open_dir_at(cg->runs_fd[i], name);
        const char *file = cg->version == 2 ? "memory.current" : "memory.usage_in_bytes";
        auto_close int fd = dir < 0 ? -1 : openat(dir, file, O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && read(fd, text, sizeof text - 1) > 0)
            more |= strtoull(text, NULL, 10) > bytes;
    }
    return more;
}

int cgroup_limit(struct cgroup *cg, uint32_t slot, const struct policy_group *limits,
                 struct err *err)
{
    char name[16];
    int r = 0;
    (void)snprintf(name, sizeof name, "s%u", slot);
    for (size_t i = 0; r == 0 && i < cg->trees; i++) {
        auto_close int dir = open_dir_at(cg->runs_fd[i], name);
        if (dir < 0)
            r = err_sys(err, "open cgroup %s/runs/%s", cg->key, name);
        else if (cg->version == 2)
            r = make_room(dir, limits->memory_bytes, err);
        if (r == 0)
            r = apply(cg, i, dir, limits, err);
    }
    return r;
}

static bool read_line_at(int dir_fd, const char *file, char *text, size_t room)
{
    auto_close int fd = openat(dir_fd, file, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, room - 1);
    text[n > 0 ? n : 0] = 0;
    text[strcspn(text, "\n")] = 0;
    return n >= 0;
}

/* Does it limit as it was told to? False: err says what it does instead. */
static bool limits_as_set(const struct cgroup *cg, int dir, uint32_t kind,
                          const struct policy_group *limits, struct err *err)
{
    struct setting s[8];
    char text[64];
    size_t n = settings_for(cg, kind, limits, s);
    for (size_t i = 0; i < n; i++) {
        bool there = read_line_at(dir, s[i].file, text, sizeof text);
        if ((!there && s[i].may_lack) || (there && strcmp(text, s[i].value) == 0))
            continue;
        (void)err_set(err, "%s is \"%s\" instead of %s", s[i].file, text, s[i].value);
        return false;
    }
    return true;
}

uint32_t cgroup_find_broken(struct cgroup *cg, uint32_t slot, const struct policy_group *limits,
                            struct err *err)
{
    static const uint32_t kinds[] = {POLICY_CGROUP_MEMORY, POLICY_CGROUP_PIDS, POLICY_CGROUP_CPU};
    uint32_t broken = 0;
    char name[16], text[64];
    (void)snprintf(name, sizeof name, "s%u", slot);
    for (size_t i = 0; i < cg->trees; i++) {
        auto_close int dir = open_dir_at(cg->runs_fd[i], name);
        if (dir < 0 || !read_line_at(dir, join_file(cg), text, sizeof text) || !*text) {
            (void)err_set(err, "no process of the run is in its cgroup");
            broken |= cg->kind[i];
            continue;
        }
        for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
            if (cg->kind[i] & kinds[k] && !limits_as_set(cg, dir, kinds[k], limits, err))
                broken |= kinds[k];
    }
    return broken;
}

/* Files of a tmpfs that somebody else still has open - a result that is being sent - do not give
 * way. */
static bool holds_shmem(int dir_fd)
{
    static const char key[] = "\nshmem ";
    char text[4096];
    auto_close int fd = openat(dir_fd, "memory.stat", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    const char *at = strstr(text, key);
    return !at || strtoull(at + sizeof key - 1, NULL, 10) > 0;
}

bool cgroup_may_stay(struct cgroup *cg, uint32_t slot, uint64_t bytes)
{
    char name[16], text[64];
    (void)snprintf(name, sizeof name, "s%u", slot);
    for (size_t i = 0; i < cg->trees; i++) {
        auto_close int dir = open_dir_at(cg->runs_fd[i], name);
        if (dir < 0 || !read_line_at(dir, join_file(cg), text, sizeof text) || *text ||
            (cg->kind[i] & POLICY_CGROUP_MEMORY && holds_shmem(dir)))
            return false;
    }
    return !cgroup_holds_more(cg, slot, bytes);
}

int cgroup_remove_unused(struct cgroup *cg, uint32_t slot)
{
    char name[16];
    (void)snprintf(name, sizeof name, "s%u", slot);
    for (size_t i = 0; i < cg->trees; i++) {
        auto_close int dir = open_dir_at(cg->runs_fd[i], name);
        if (dir >= 0 && holds_cache(dir))
            return -EBUSY;
        if (dir >= 0 && unlinkat(cg->runs_fd[i], name, AT_REMOVEDIR) < 0)
            return -errno;
    }
    return 0;
}

int cgroup_remove(struct cgroup *cg, uint32_t slot)
{
    char name[16];
    int r = 0;
    (void)snprintf(name, sizeof name, "s%u", slot);
    for (size_t i = 0; i < cg->trees; i++) {
        int one = remove_tree(cg->runs_fd[i], name);
        r = one < 0 ? one : r;
    }
    return r;
}

/* The way back of delegate_v2: a cgroup takes a process only when it hands no controller down. */
static void leave_leaf(struct cgroup *cg)
{
    static const char none[] = "-memory -pids -cpu";
    if (!cg->in_leaf)
        return;
    auto_close int fd = open_dir_at(cg->parent_fd[0], cg->key);
    int copy = fd < 0 ? -1 : SYS(fcntl(fd, F_DUPFD_CLOEXEC, 0));
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (e->d_type == DT_DIR && e->d_name[0] != '.' && strcmp(e->d_name, "supervisor") != 0)
            (void)remove_tree(fd, e->d_name);
    if (dir)
        (void)closedir(dir);
    (void)write_at(fd, "cgroup.subtree_control", none);
    (void)write_at(fd, "cgroup.subtree_control", "-io");
    (void)write_at(cg->parent_fd[0], "cgroup.subtree_control", none);
    (void)write_at(cg->parent_fd[0], "cgroup.subtree_control", "-io");
    (void)write_at(cg->parent_fd[0], "cgroup.procs", "0");
}

void cgroup_stop(struct cgroup *cg, unsigned wait_ms)
{
    uint64_t until = clock_now_ns() + wait_ms * CLOCK_NS_PER_MS;
    for (size_t i = 0; i < cg->trees; i++) {
        leave_leaf(cg);
        while (remove_tree(cg->parent_fd[i], cg->key) < 0 && clock_now_ns() < until) {
            (void)poll(NULL, 0, 5); /* zombies leave their cgroup when they are reaped */
            leave_leaf(cg);
        }
        fd_close(&cg->runs_fd[i]);
        fd_close(&cg->base_fd[i]);
        fd_close(&cg->parent_fd[i]);
        fd_close(&cg->zygotes_fd[i]);
    }
    cg->trees = 0;
}
