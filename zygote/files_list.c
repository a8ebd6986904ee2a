/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/files_list - directories and trees of a tenant in the order of names, and the collecting
 * of artifacts; see files.c.
 *
 * A tree may have any number of files and any depth. It is scanned once, one directory open at a
 * time, those yet to be read being remembered by their paths; of the names found only as many are
 * kept as may be answered, the smallest ones. Then these are looked at again, one by one, each by
 * its path from the root: what was a file in the scan may be anything by then. Everything that is
 * counted or remembered has a bound. Names are relative to the path that was asked for, and sorted
 * by their bytes, '/' being one.
 */
#include "lib/fd.h"
#include "zygote/files.h"
#include "zygote/tree.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define ANSWERS_MAX 100000u
#define SCANNED_MAX 1000000u /* entries in all */
#define NAMES_BYTES_MAX (16u << 20)

struct names {
    char **at;
    size_t count, room;
    size_t bytes;
};

struct scan {
    const struct files *f;
    struct names kept, directories;
    size_t most;       /* names to be kept; more may be there */
    bool full;         /* kept.at[most - 1] is the largest that is wanted */
    uint64_t seen;     /* names that would have been kept */
    uint64_t left_out; /* too long to be told, too large, directories that cannot be read */
    size_t scanned;
    bool only_regular, descends;
};

/* ---- names ------------------------------------------------------------------------------------
 */

static int add(struct names *n, const char *name)
{
    size_t len = strlen(name) + 1;
    if (n->bytes + len > NAMES_BYTES_MAX)
        return -E2BIG;
    if (n->count == n->room) {
        size_t room = n->room ? 2 * n->room : 256;
        char **at = realloc(n->at, room * sizeof *at);
        if (!at)
            return -ENOMEM;
        n->at = at;
        n->room = room;
    }
    char *copy = malloc(len);
    if (!copy)
        return -ENOMEM;
    n->at[n->count++] = memcpy(copy, name, len);
    n->bytes += len;
    return 0;
}

static char *take_last(struct names *n)
{
    char *name = n->at[--n->count];
    n->bytes -= strlen(name) + 1;
    return name;
}

static void drop_all(struct names *n)
{
    while (n->count > 0)
        free(take_last(n));
    free(n->at);
}

static int compare(const void *a, const void *b)
{
    char *const *left = a, *const *right = b;
    return strcmp(*left, *right);
}

static void sort(struct scan *s)
{
    if (s->kept.count > 0)
        qsort(s->kept.at, s->kept.count, sizeof *s->kept.at, compare);
    s->full = s->kept.count >= s->most;
    while (s->kept.count > s->most)
        free(take_last(&s->kept));
}

/* Twice as many as wanted are gathered before the larger half goes. */
static int keep(struct scan *s, const char *name)
{
    if (strcmp(name, s->f->ask->after) <= 0)
        return 0;
    s->seen++;
    if (s->full && strcmp(name, s->kept.at[s->most - 1]) >= 0)
        return 0;
    int r = add(&s->kept, name);
    if (s->kept.count >= 2 * s->most || r == -E2BIG)
        sort(s);
    return r == -E2BIG ? add(&s->kept, name) : r;
}

/* Could names behind `after` and before the largest that is wanted begin with "name/"? */
static bool is_worth_reading(const struct scan *s, const char *name)
{
    size_t len = strlen(name);
    int cmp = strncmp(s->f->ask->after, name, len);
    if (cmp > 0 || (cmp == 0 && (unsigned char)s->f->ask->after[len] > '/'))
        return false;
    if (!s->full || s->only_regular) /* then all are counted */
        return true;
    const char *largest = s->kept.at[s->most - 1];
    cmp = strncmp(largest, name, len);
    return cmp > 0 || (cmp == 0 && (unsigned char)largest[len] >= '/');
}

/* ---- the scan ---------------------------------------------------------------------------------
 */

/* False: it would be too long for anybody. */
static bool join(char path[TREE_PATH_MAX + 1], const char *dir, const char *name)
{
    int n = snprintf(path, TREE_PATH_MAX + 1, "%s%s%s", dir, *dir && *name ? "/" : "", name);
    return n >= 0 && (size_t)n <= TREE_PATH_MAX;
}

static int open_named(const struct files *f, const char *name, int flags)
{
    char path[TREE_PATH_MAX + 1];
    return join(path, f->ask->path, name) ? tree_open(f->root, path, flags) : -ENAMETOOLONG;
}

static unsigned char type_of(int dir, const struct dirent64 *e)
{
    struct stat st;
    if (e->d_type != DT_UNKNOWN)
        return e->d_type;
    return SYS(fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW)) < 0
               ? DT_UNKNOWN
               : (unsigned char)IFTODT(st.st_mode);
}

/* Larger than all together may be: kept, it would take the place of one that is not. */
static bool is_too_large(const struct scan *s, int dir, const char *name)
{
    struct stat st;
    return s->f->ask->bytes_max && SYS(fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW)) == 0 &&
           S_ISREG(st.st_mode) && (uint64_t)st.st_size > s->f->ask->bytes_max;
}

static int take_entry(struct scan *s, int dir, const char *dir_name, const struct dirent64 *e)
{
    char name[TREE_PATH_MAX + 1], path[TREE_PATH_MAX + 1];
    if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
        return 0;
    if (++s->scanned > SCANNED_MAX)
        return -E2BIG;
    if (!join(name, dir_name, e->d_name) || !join(path, s->f->ask->path, name)) {
        s->left_out++;
        return 0;
    }
    unsigned char type = type_of(dir, e);
    if (s->only_regular && type == DT_REG && is_too_large(s, dir, e->d_name)) {
        s->left_out++;
        return 0;
    }
    int r = !s->only_regular || type == DT_REG ? keep(s, name) : 0;
    if (r == 0 && type == DT_DIR && s->descends && is_worth_reading(s, name))
        r = add(&s->directories, name);
    return r;
}

static int read_directory(struct scan *s, int dir, const char *name)
{
    char entries[8192] __attribute__((aligned(8)));
    long n;
    while ((n = SYS(syscall(SYS_getdents64, dir, entries, sizeof entries))) > 0)
        for (long at = 0; at < n;) {
            const struct dirent64 *e = (const void *)(entries + at);
            int r = take_entry(s, dir, name, e);
            if (r < 0)
                return r;
            at += e->d_reclen;
        }
    return n < 0 ? -errno : 0;
}

static int read_named(struct scan *s, const char *name)
{
    auto_close int dir = open_named(s->f, name, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
    return dir < 0 ? fd_take(&dir) : read_directory(s, dir, name);
}

static int scan(struct scan *s)
{
    int r = read_named(s, "");
    while (r == 0 && s->directories.count > 0) {
        auto_free char *name = take_last(&s->directories);
        r = read_named(s, name);
        if (r < 0 && r != -E2BIG && r != -ENOMEM) { /* not readable, or not there any more */
            s->left_out++;
            r = 0;
        }
    }
    sort(s);
    return r;
}

static void begin(struct scan *s, const struct files *f, size_t beyond)
{
    uint32_t most = f->ask->count_max;
    *s = (struct scan){.f = f,
                       .most = (most && most < ANSWERS_MAX ? most : ANSWERS_MAX) + beyond,
                       .only_regular = f->ask->op == PROTO_FILES_COLLECT};
    s->descends = s->only_regular || f->ask->flags & PROTO_FILES_RECURSIVE;
}

static void end(struct scan *s)
{
    drop_all(&s->kept);
    drop_all(&s->directories);
}

static void set_name(struct proto_files_answer *a, const char *name)
{
    a->name_bytes = (uint32_t)strlen(name);
    memcpy(a->name, name, a->name_bytes);
}

/* ---- answers ----------------------------------------------------------------------------------
 */

/* What it is by now; the entry's own failure otherwise. */
static void tell(const struct files *f, const char *name)
{
    struct stat st;
    auto_close int fd = open_named(f, name, O_PATH | O_NOFOLLOW);
    int error = fd < 0 ? -fd : SYS(fstat(fd, &st)) < 0 ? errno : 0;
    struct proto_files_answer a = {.status = (uint32_t)error};
    if (error == 0)
        a = files_describe(&st);
    set_name(&a, name);
    if (error != ENOENT)
        files_send(f, &a, -1);
}

int files_list(const struct files *f, struct proto_files_answer *last)
{
    struct scan s;
    begin(&s, f, 1); /* to know whether there are more */
    int r = scan(&s);
    for (size_t i = 0; r == 0 && i < s.kept.count && i < s.most - 1; i++)
        tell(f, s.kept.at[i]);
    if (r == 0 && s.kept.count == s.most)
        r = -E2BIG;
    last->dropped = s.left_out;
    end(&s);
    return r;
}

/* One regular file, if it is one by now and there is room for it. A file with several names is as
 * good as any: a hard link cannot lead out of a filesystem, so all its names are the tenant's. One
 * that is sparse counts with its whole length, which is what a reader would get. */
static bool hand_out(const struct files *f, const char *name, uint64_t *room)
{
    struct stat st;
    auto_close int fd = open_named(f, name, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    int error = fd < 0 ? -fd : SYS(fstat(fd, &st)) < 0 ? errno : 0;
    struct proto_files_answer a = {.status = (uint32_t)error};
    if (error == 0 && !S_ISREG(st.st_mode))
        return true;
    if (error == 0)
        a = files_describe(&st);
    if (a.size > *room)
        return false;
    *room -= a.size;
    set_name(&a, name);
    files_send(f, &a, fd);
    return true;
}

int files_collect(const struct files *f, struct proto_files_answer *last)
{
    struct scan s;
    uint64_t room = f->ask->bytes_max ? f->ask->bytes_max : UINT64_MAX;
    begin(&s, f, 0);
    int r = scan(&s);
    for (size_t i = 0; (r == 0 || r == -E2BIG) && i < s.kept.count; i++)
        last->dropped += !hand_out(f, s.kept.at[i], &room);
    last->dropped += s.seen - s.kept.count + s.left_out;
    end(&s);
    return r;
}
