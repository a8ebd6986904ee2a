/* SPDX-License-Identifier: Apache-2.0 */
/* bench/watch - see watch.h. Reads /proc and /sys/fs/cgroup as root; touches nothing.
 *
 * The service is the supervisor and everything below it by parentage. A process whose NSpid line
 * names more than one number is in a pidns of its own: a zygote or a child. The others are the
 * daemons.
 */
#include "bench/watch.h"
#include <dirent.h>
#include <fts.h>

#define PROCS_MAX 8192

/* Memory: heaps keep what their busiest moment needed, and a sum of PSS is read process by process
 * while they share pages; a leak of 100 bytes a run passes 4 MiB within the default ten minutes.
 * Memory cgroups are the host's, those included that are removed but live until the last page of a
 * file is charged to somebody else: what it is about is whether they go on growing. */
const struct watch_info watch_columns[WATCH_COLUMNS] = {
    [WATCH_PROCS] = {"procs", 5, 0},           [WATCH_DAEMON_FDS] = {"fds", 6, 0},
    [WATCH_TENANT_FDS] = {"zyg_fds", 7, 0},    [WATCH_DAEMON_RSS] = {"rss_kib", 8, SHOWN},
    [WATCH_DAEMON_PSS] = {"pss_kib", 8, 4096}, [WATCH_TENANT_PSS] = {"zyg_pss", 8, 4096},
    [WATCH_MOUNTS] = {"mounts", 6, 0},         [WATCH_OWN_MOUNTS] = {"own_mnt", 7, 0},
    [WATCH_CGROUPS] = {"cgroups", 7, 0},       [WATCH_MEMCGS] = {"memcgs", 6, SHOWN},
    [WATCH_NETNS] = {"netns", 5, SHOWN},       [WATCH_KERNEL_MOUNTS] = {"mnt_obj", 7, SHOWN},
    [WATCH_USED] = {"used_kib", 9, SHOWN},     [WATCH_SLAB] = {"slab_kib", 8, SHOWN},
    [WATCH_ACTIVE] = {"active", 6, 0},         [WATCH_SPARES] = {"spares", 6, 0},
    [WATCH_STANDBYS] = {"standby", 7, 0},
};

struct proc {
    int pid, ppid;
    bool inside, mine; /* in a pidns of its own; of the service */
    double rss_kib;
};

static ssize_t read_text(const char *path, char *text, size_t room)
{
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(text, 1, room - 1, f) : 0;

    text[n] = 0;
    if (f)
        (void)fclose(f);
    return f ? (ssize_t)n : -1;
}

static double number_after(const char *text, const char *key)
{
    const char *at = strstr(text, key);

    return at ? strtod(at + strlen(key), NULL) : -1;
}

static double count_lines(const char *path)
{
    FILE *f = fopen(path, "re");
    double lines = 0;

    if (!f)
        return -1;
    for (int c; (c = getc_unlocked(f)) != EOF;)
        lines += c == '\n';
    (void)fclose(f);
    return lines;
}

static double count_entries(const char *path)
{
    DIR *d = opendir(path);
    double entries = 0;

    if (!d)
        return 0;
    for (const struct dirent *entry; (entry = readdir(d));)
        entries += entry->d_name[0] != '.';
    (void)closedir(d);
    return entries;
}

static bool read_proc(const char *pid, struct proc *ret)
{
    char path[64], text[4096];
    const char *at;

    (void)snprintf(path, sizeof path, "/proc/%.20s/status", pid);
    if (read_text(path, text, sizeof text) <= 0)
        return false;
    ret->pid = (int)strtol(pid, NULL, 10);
    ret->ppid = (int)number_after(text, "\nPPid:");
    ret->rss_kib = number_after(text, "\nVmRSS:");
    at = strstr(text, "\nNSpid:");
    at = at ? at + 7 + strspn(at + 7, "\t ") : "";
    at += strspn(at, "0123456789");
    ret->inside = *at == '\t' || *at == ' ';
    return true;
}

static size_t read_procs(struct proc *procs, int service_pid)
{
    DIR *d = opendir("/proc");
    size_t count = 0;
    bool more = true;

    if (!d)
        return 0;
    for (const struct dirent *entry; count < PROCS_MAX && (entry = readdir(d));) {
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' &&
            read_proc(entry->d_name, &procs[count]))
            count++;
    }
    (void)closedir(d);
    for (size_t i = 0; i < count; i++)
        procs[i].mine = procs[i].pid == service_pid;
    /* parents may come after their children: repeat until nothing is added */
    while (more) {
        more = false;
        for (size_t i = 0; i < count; i++) {
            for (size_t k = 0; !procs[i].mine && k < count; k++) {
                if (procs[k].mine && procs[k].pid == procs[i].ppid)
                    more = procs[i].mine = true;
            }
        }
    }
    return count;
}

static void take_processes(int service_pid, struct watch_row *ret)
{
    auto_free struct proc *procs = calloc(PROCS_MAX, sizeof *procs);
    size_t count = procs ? read_procs(procs, service_pid) : 0;
    char path[64], text[4096];

    for (size_t i = 0; i < count; i++) {
        const struct proc *p = &procs[i];
        if (!p->mine)
            continue;
        ret->v[WATCH_PROCS]++;
        (void)snprintf(path, sizeof path, "/proc/%d/fd", p->pid);
        ret->v[p->inside ? WATCH_TENANT_FDS : WATCH_DAEMON_FDS] += count_entries(path);
        (void)snprintf(path, sizeof path, "/proc/%d/smaps_rollup", p->pid);
        if (read_text(path, text, sizeof text) > 0)
            ret->v[p->inside ? WATCH_TENANT_PSS : WATCH_DAEMON_PSS] += number_after(text, "\nPss:");
        if (p->inside)
            continue;
        ret->v[WATCH_DAEMON_RSS] += p->rss_kib;
        (void)snprintf(path, sizeof path, "/proc/%d/mountinfo", p->pid);
        ret->v[WATCH_OWN_MOUNTS] += count_lines(path);
    }
}

static double count_cgroups(void)
{
    static char root[] = "/sys/fs/cgroup";
    char *const paths[] = {root, NULL};
    FTS *walk = fts_open(paths, FTS_PHYSICAL | FTS_NOSTAT, NULL);
    double dirs = 0;

    if (!walk)
        return -1;
    for (const FTSENT *entry; (entry = fts_read(walk));)
        dirs += entry->fts_info == FTS_D;
    (void)fts_close(walk);
    return dirs;
}

/* "name <active objects> ..." of /proc/slabinfo; merged caches may not be listed. */
static double slab_objects(const char *name)
{
    auto_free char *text = malloc(65536);
    char key[40];

    if (!text || read_text("/proc/slabinfo", text, 65536) <= 0)
        return -1;
    (void)snprintf(key, sizeof key, "\n%s ", name);
    return number_after(text, key);
}

static void take_system(struct watch_row *ret)
{
    char text[8192];
    const char *memory;

    ret->v[WATCH_MOUNTS] = count_lines("/proc/self/mountinfo");
    ret->v[WATCH_CGROUPS] = count_cgroups();
    ret->v[WATCH_NETNS] = slab_objects("net_namespace");
    ret->v[WATCH_KERNEL_MOUNTS] = slab_objects("mnt_cache");
    ret->v[WATCH_MEMCGS] = -1;
    if (read_text("/proc/cgroups", text, sizeof text) > 0 &&
        (memory = strstr(text, "\nmemory\t"))) {
        memory = strchr(memory + 8, '\t');
        ret->v[WATCH_MEMCGS] = memory ? strtod(memory, NULL) : -1;
    }
    if (read_text("/proc/meminfo", text, sizeof text) > 0) {
        ret->v[WATCH_USED] = number_after(text, "MemTotal:") - number_after(text, "MemFree:") -
                             number_after(text, "Buffers:") - number_after(text, "\nCached:") +
                             number_after(text, "Shmem:");
        ret->v[WATCH_SLAB] = number_after(text, "\nSlab:");
    }
}

static void take_stats(struct engine *e, struct watch_row *ret)
{
    static const struct {
        const char *name;
        enum watch_column column;
    } wanted[] = {{"active", WATCH_ACTIVE}, {"spares", WATCH_SPARES}, {"standbys", WATCH_STANDBYS}};
    struct proto_msg msg;
    struct err err = {0};

    for (size_t k = 0; k < ARRAY_LEN(wanted); k++)
        ret->v[wanted[k].column] = -1;
    if (engine_stats(e, &msg, &err) < 0)
        return;
    for (size_t i = 0; i < msg.stats.count; i++) {
        for (size_t k = 0; k < ARRAY_LEN(wanted); k++) {
            if (strcmp(msg.stats.entries[i].name, wanted[k].name) == 0)
                ret->v[wanted[k].column] = (double)msg.stats.entries[i].value;
        }
    }
}

void watch_take(int service_pid, struct engine *e, struct watch_row *ret)
{
    *ret = (struct watch_row){0};
    take_processes(service_pid, ret);
    take_system(ret);
    take_stats(e, ret);
}
