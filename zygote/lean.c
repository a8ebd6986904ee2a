/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/lean - makes the primordial cheap to fork, once, before any zygote exists.
 *
 * A run is a fork, and most of what a fork of bash costs is its address space: some fifty mappings
 * to copy and tear down, and a page fault for each sixteen pages of program text, which fork(2)
 * does not copy for file mappings. So each run of neighbouring mappings of one kind (read-only,
 * writable) is replaced by one anonymous mapping with the same bytes at the same addresses: copied
 * by fork with its page tables, shared copy-on-write by all zygotes. The technique is that of
 * remapping text onto huge pages (mremap(2), MREMAP_FIXED); here the pages stay small. Nothing else
 * is in this process, so nothing runs beside it; a mapping that cannot be replaced stays as it was.
 */
#include "zygote/zyg.h"
#include <fcntl.h>
#include <sys/mman.h>

#define MAPS_ROOM 16384
#define RUNS_MAX 64

struct run {
    uintptr_t start, end;
    bool writable, executable, has_file;
};

static char maps[MAPS_ROOM];

static bool read_maps(void)
{
    size_t len = 0;
    auto_close int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    ssize_t n = 1;
    while (fd >= 0 && n > 0 && len < sizeof maps - 1) {
        n = read(fd, maps + len, sizeof maps - 1 - len);
        if (n > 0)
            len += (size_t)n;
    }
    maps[len] = 0;
    return fd >= 0 && n == 0;
}

/* One line of proc(5)'s maps; false: a mapping that is to be left alone. */
static bool parse_line(const char *line, struct run *ret)
{
    char perms[5], name[2] = "";
    unsigned long start, end, inode;
    if (sscanf(line, "%lx-%lx %4s %*x %*s %lu %1s", &start, &end, perms, &inode, name) < 4)
        return false;
    *ret = (struct run){.start = start,
                        .end = end,
                        .writable = perms[1] == 'w',
                        .executable = perms[2] == 'x',
                        .has_file = inode != 0};
    return perms[0] == 'r' && perms[3] == 'p' && name[0] != '['; /* no stack, heap, vdso, vvar */
}

static size_t find_runs(struct run *runs)
{
    size_t n = 0;
    for (const char *at = maps; *at; at = strchr(at, '\n') + 1) {
        struct run one;
        struct run *last = n ? &runs[n - 1] : NULL;
        if (!parse_line(at, &one))
            continue;
        if (last && last->end == one.start && last->writable == one.writable) {
            last->end = one.end;
            last->executable |= one.executable;
            last->has_file |= one.has_file;
        } else if (n < RUNS_MAX) {
            runs[n++] = one;
        }
    }
    return n;
}

static void replace(const struct run *run)
{
    size_t len = run->end - run->start;
    int prot = PROT_READ | (run->writable ? PROT_WRITE : 0) | (run->executable ? PROT_EXEC : 0);
    void *copy = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED)
        return;
    memcpy(copy, (const void *)run->start, len);
    if (mprotect(copy, len, prot) < 0 ||
        mremap(copy, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)run->start) == MAP_FAILED)
        (void)munmap(copy, len);
}

void zyg_make_lean(void)
{
    static struct run runs[RUNS_MAX];
    if (!read_maps())
        return;
    size_t n = find_runs(runs);
    for (size_t i = 0; i < n; i++)
        if (runs[i].has_file)
            replace(&runs[i]);
}
