/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/lean - makes this process cheap to fork: once, in the primordial, before any zygote
 * exists.
 *
 * A run is a fork, and most of what a fork of bash costs is its address space: some fifty mappings
 * to copy and tear down, a page fault for every few pages of program text (fork(2) does not copy
 * page tables of file mappings), a copy for every data page written, each several microseconds in a
 * virtual machine. So:
 *
 *   - each run of neighbouring read-only mappings becomes one private mapping of a memfd with the
 * same bytes at the same addresses. It is written to once, which gives it an anon_vma, and with
 * that fork copies its page tables (vma_needs_copy() in the kernel's mm/memory.c);
 *   - each run of neighbouring writable file mappings becomes one anonymous mapping;
 *   - a rehearsal, a forked child that evaluates a typical command with all read-only pages
 * inaccessible, tells which pages are hot. Only those stay in the page tables (zyg_trim); the rest
 * comes back by a fault when somebody needs it;
 *   - a standby takes its copies of the data pages that the rehearsal wrote in a few calls, ahead
 * of its run (zyg_prefault).
 *
 * Nothing else runs in this process meanwhile. Each step is an optimisation: where one fails the
 * process stays as it was.
 */
#include "zygote/zyg.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define PAGE ZYG_PAGE
#define MAPS_ROOM 32768
#define RUNS_MAX 64
#define PAGES_MAX 8192 /* 32 MiB of mappings: several times a bash */
#define RANGES_MAX 128
#define POPULATE_WRITE 23 /* MADV_POPULATE_WRITE, Linux 5.14 */
#define PAGEMAP_EXCLUSIVE (1ull << 56)
#define REHEARSAL_S 5

struct run {
    uintptr_t start, end;
    size_t first_page; /* index into hot[] */
    bool writable, executable, has_file, replaced;
};

static struct run runs[RUNS_MAX];
static size_t run_count;
static unsigned char *hot; /* shared with the rehearsal, one byte a page */
static struct {
    uintptr_t start;
    size_t len;
} written[RANGES_MAX];
static size_t written_count;

/* ---- what is mapped ----------------------------------------------------------------------------
 */

bool zyg_read_maps(char *maps, size_t room)
{
    size_t len = 0;
    auto_close int fd = SYS(open("/proc/self/maps", O_RDONLY | O_CLOEXEC));
    ssize_t n = 1;
    while (fd >= 0 && n > 0 && len < room - 1) {
        n = SYS(read(fd, maps + len, room - 1 - len));
        if (n > 0)
            len += (size_t)n;
    }
    maps[len] = 0;
    return fd >= 0 && n == 0;
}

/* One line of proc(5)'s maps; false: a mapping that is none of our business. */
bool zyg_parse_mapping(const char *line, struct zyg_mapping *ret)
{
    char perms[5], name[8] = "";
    unsigned long start, end, inode;
    if (sscanf(line, "%lx-%lx %4s %*x %*s %lu %7s", &start, &end, perms, &inode, name) < 4)
        return false;
    *ret = (struct zyg_mapping){.start = start,
                                .end = end,
                                .writable = perms[1] == 'w',
                                .executable = perms[2] == 'x',
                                .has_file = inode != 0};
    return perms[0] == 'r' && perms[3] == 'p' &&
           strncmp(name, "[v", 2) != 0; /* vdso, vvar, vsyscall */
}

static void find_runs(const char *maps)
{
    size_t pages = 0;
    for (const char *at = maps; *at; at = strchr(at, '\n') + 1) {
        struct zyg_mapping one;
        struct run *last = run_count ? &runs[run_count - 1] : NULL;
        size_t count;
        if (!zyg_parse_mapping(at, &one))
            continue;
        count = (one.end - one.start) / PAGE;
        if (pages + count > PAGES_MAX || run_count == RUNS_MAX)
            return;
        if (last && last->end == one.start && last->writable == one.writable) {
            last->end = one.end;
            last->executable |= one.executable;
            last->has_file |= one.has_file;
        } else {
            runs[run_count++] = (struct run){.start = one.start,
                                             .end = one.end,
                                             .first_page = pages,
                                             .writable = one.writable,
                                             .executable = one.executable,
                                             .has_file = one.has_file};
        }
        pages += count;
    }
}

/* ---- one mapping for each run ------------------------------------------------------------------
 */

static int protection(const struct run *run)
{
    return PROT_READ | (run->writable ? PROT_WRITE : 0) | (run->executable ? PROT_EXEC : 0);
}

static bool move_over(void *copy, const struct run *run)
{
    size_t len = run->end - run->start;
    if (SYS(mprotect(copy, len, protection(run))) == 0 &&
        SYS(mremap(copy, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)run->start)) !=
            MAP_FAILED)
        return true;
    (void)munmap(copy, len);
    return false;
}

static bool is_zero(const char *page)
{
    return page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0;
}

static bool replace_writable(const struct run *run)
{
    size_t len = run->end - run->start;
    void *copy = SYS(mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (copy == MAP_FAILED)
        return false;
    for (size_t at = 0; at < len; at += PAGE) /* untouched bss stays untouched */
        if (!is_zero((const char *)run->start + at))
            memcpy((char *)copy + at, (const char *)run->start + at, PAGE);
    return move_over(copy, run);
}

static bool replace_read_only(const struct run *run)
{
    size_t len = run->end - run->start;
    auto_close int fd = SYS(memfd_create("brood-image", MFD_CLOEXEC));
    if (fd < 0 || SYS(write(fd, (const void *)run->start, len)) != (ssize_t)len)
        return false;
    volatile char *copy = SYS(mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
    if (copy == MAP_FAILED)
        return false;
    copy[0] = copy[0]; /* the write that gives it an anon_vma */
    return move_over((void *)(uintptr_t)copy, run);
}

/* ---- the rehearsal -----------------------------------------------------------------------------
 */

/* The handler may use nothing outside this object: libc's pages are what is inaccessible. */
static long raw_mprotect(uintptr_t start, size_t len, int prot)
{
    long r;
    __asm__ volatile("syscall"
                     : "=a"(r)
                     : "a"((long)SYS_mprotect), "D"(start), "S"(len), "d"((long)prot)
                     : "rcx", "r11", "memory");
    return r;
}

static void on_touch(int sig, siginfo_t *info, void *context)
{
    uintptr_t page = (uintptr_t)info->si_addr & ~(uintptr_t)(PAGE - 1);
    (void)sig;
    (void)context;
    for (size_t i = 0; i < run_count; i++)
        if (runs[i].start <= page && page < runs[i].end &&
            !hot[runs[i].first_page + (page - runs[i].start) / PAGE]) {
            hot[runs[i].first_page + (page - runs[i].start) / PAGE] = 1;
            (void)raw_mprotect(page, PAGE, protection(&runs[i]));
            return;
        }
    __builtin_trap(); /* a real fault: the rehearsal ends here */
}

static bool is_ours(const struct run *run)
{
    uintptr_t here = (uintptr_t)&raw_mprotect, data = (uintptr_t)&run_count;
    return (run->start <= here && here < run->end) || (run->start <= data && data < run->end);
}

/* Data pages that are this process's alone were written since the fork. */
static void note_written(void)
{
    auto_close int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    for (size_t i = 0; fd >= 0 && i < run_count; i++) {
        for (size_t page = 0; runs[i].writable && page < (runs[i].end - runs[i].start) / PAGE;
             page++) {
            uint64_t entry = 0;
            off_t at = (off_t)((runs[i].start / PAGE + page) * sizeof entry);
            if (pread(fd, &entry, sizeof entry, at) == (ssize_t)sizeof entry &&
                entry & PAGEMAP_EXCLUSIVE)
                hot[runs[i].first_page + page] = 1;
        }
    }
}

_Noreturn static void rehearse(const struct zyg_eval *eval)
{
    static char stack[65536];
    stack_t alt = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_sigaction = on_touch,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    (void)alarm(REHEARSAL_S);
    (void)dup2(0, 1);
    (void)dup2(0, 2);
    if (sigaltstack(&alt, NULL) == 0 && sigaction(SIGSEGV, &action, NULL) == 0)
        for (size_t i = 0; i < run_count; i++)
            if (runs[i].replaced && !runs[i].writable && !is_ours(&runs[i]))
                (void)raw_mprotect(runs[i].start, runs[i].end - runs[i].start, PROT_NONE);
    eval->rehearse(note_written);
    _exit(0);
}

static void find_hot_pages(const struct zyg_eval *eval)
{
    int status;
    pid_t pid = SYS(fork());
    if (pid == 0)
        rehearse(eval);
    if (pid > 0)
        (void)waitpid(pid, &status, 0);
    for (size_t i = 0; i < run_count; i++)
        if (is_ours(&runs[i]) && !runs[i].writable)
            memset(hot + runs[i].first_page, 1, (runs[i].end - runs[i].start) / PAGE);
}

static void list_written(void)
{
    for (size_t i = 0; i < run_count; i++) {
        for (size_t page = 0; runs[i].writable && page < (runs[i].end - runs[i].start) / PAGE;
             page++) {
            uintptr_t at = runs[i].start + page * PAGE;
            if (!hot[runs[i].first_page + page])
                continue;
            if (written_count &&
                written[written_count - 1].start + written[written_count - 1].len == at)
                written[written_count - 1].len += PAGE;
            else if (written_count < RANGES_MAX) {
                written[written_count].start = at;
                written[written_count++].len = PAGE;
            }
        }
    }
}

void zyg_make_lean(const struct zyg_eval *eval)
{
    static char maps[MAPS_ROOM];
    if (!eval->rehearse || !zyg_read_maps(maps, sizeof maps))
        return;
    find_runs(maps);
    hot = SYS(mmap(NULL, PAGES_MAX, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    if (hot == MAP_FAILED) {
        hot = NULL;
        run_count = 0;
        return;
    }
    for (size_t i = 0; i < run_count; i++)
        if (runs[i].has_file)
            runs[i].replaced =
                runs[i].writable ? replace_writable(&runs[i]) : replace_read_only(&runs[i]);
    find_hot_pages(eval);
    list_written();
    unsigned char *own =
        SYS(mmap(NULL, PAGES_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (own != MAP_FAILED) {
        memcpy(own, hot, PAGES_MAX);
        (void)mprotect(own, PAGES_MAX, PROT_READ);
        (void)munmap(hot, PAGES_MAX);
        hot = own;
    }
    zyg_trim();
}

/* ---- what the others use -----------------------------------------------------------------------
 */

void zyg_trim(void)
{
    for (size_t i = 0; i < run_count; i++) {
        const struct run *run = &runs[i];
        size_t pages = (run->end - run->start) / PAGE, from = 0;
        if (!run->replaced || run->writable)
            continue;
        for (size_t page = 0; page < pages; page++) /* a fault maps its neighbours too: all first */
            if (hot[run->first_page + page])
                (void)*(volatile const char *)(run->start + page * PAGE);
        for (size_t page = 0; page <= pages; page++) {
            if (page < pages && !hot[run->first_page + page])
                continue;
            if (page > from)
                (void)madvise((void *)(run->start + from * PAGE), (page - from) * PAGE,
                              MADV_DONTNEED);
            from = page + 1;
        }
    }
}

void zyg_forget_lean(void)
{
    if (hot)
        (void)munmap(hot, PAGES_MAX);
    hot = NULL;
    run_count = 0;
}

void zyg_prefault(void)
{
    for (size_t i = 0; i < written_count; i++)
        (void)madvise((void *)written[i].start, written[i].len, POPULATE_WRITE);
}
