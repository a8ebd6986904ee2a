/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/mould - a process that keeps a warm address space and casts one run after the other in it.
 *
 * Most of what a fork and an exit cost is the address space: copying mappings, a fault for each
 * page that is written, tearing all down again. A mould is forked once, keeps a copy of all its
 * writable pages, and then makes each standby with clone(CLONE_VM | CLONE_PARENT): a process of its
 * own - pid, descriptors, ids, limits, wait status, rusage - that only borrows the memory. When the
 * run is over the mould puts the bytes back (a few hundred KiB: 10 us) and casts the next. The idea
 * is that of fuzzers which reset a snapshot instead of forking (Xu et al., "Designing New Operating
 * Primitives to Improve Fuzzing Performance", CCS 2017).
 *
 * It is used only while runs leave nothing but bytes behind. pid 1 kills the mould, asleep, when a
 * run was *spoiled* (bash_calls.c), ended by a signal or by us, or left processes; the mould ends
 * by itself when its mappings, its break, oom_score_adj or autogroup are not what they were. Then
 * standbys are forked again as before, until enough runs in a row were clean.
 *
 * The mould is in the cgroups of the run, because memory is charged to who created the address
 * space; otherwise it is as the reserve: root of the userns, out of the run's sight and reach. It
 * runs on the upper end of the stack that it shares with the run, which starts below.
 */
#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/fd.h"
#include "zygote/zyg.h"
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define RANGES_MAX 96
#define SCRATCH_BYTES (64u * 1024) /* the text of /proc/self/maps */
#define OWN_STACK_BYTES 16384u     /* what the mould itself may use, below its first frame */
/* Present or swapped: Documentation/admin-guide/mm/pagemap.rst. */
#define PAGE_PRESENT (3ull << 62)
#define POPULATE_WRITE 23 /* MADV_POPULATE_WRITE, Linux 5.14 */

struct list {
    size_t count;
    struct {
        uintptr_t start;
        size_t len;
    } at[RANGES_MAX];
};

/* Lives in a mapping of its own, not in what it restores. */
struct mould {
    struct list saved;  /* restored from `copies`, one behind the other */
    struct list zeroed; /* were untouched, and are in use since the first run */
    struct list holes;  /* untouched: given back after each run */
    char *copies;
    uintptr_t brk, stack_top;
    long pages;
    int statm, clear_refs, pagemap;
    struct {
        int fd; /* -1: this kernel has it not */
        char text[40];
    } kept[2]; /* files of /proc that show what else a run can change, and what they said */
    uint32_t home_cpu;
    pid_t *tid; /* where glibc keeps this thread's id */
};

static struct zyg_token *token;

/* ---- what spoils ------------------------------------------------------------------------------
 */

void zyg_spoil(void)
{
    if (!token)
        return;
    token->spoiled = 1;
    (void)munmap(token, ZYG_PAGE); /* for good: there is no descriptor of it */
    token = NULL;
}

void zyg_leave(void)
{
    struct rusage self;
    if (token && getrusage(RUSAGE_SELF, &self) == 0)
        token->exec_rss_kb = (uint32_t)self.ru_maxrss;
}

void zyg_stay(void)
{
    if (token)
        token->exec_rss_kb = 0;
}

struct zyg_token *zyg_make_token(void)
{
    void *page =
        SYS(mmap(NULL, ZYG_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    return token = page == MAP_FAILED ? NULL : page;
}

void zyg_await(const _Atomic uint32_t *futex, uint32_t value, uint64_t ns)
{
    struct timespec limit = {.tv_sec = (time_t)(ns / CLOCK_NS_PER_S),
                             .tv_nsec = (long)(ns % CLOCK_NS_PER_S)};
    (void)syscall(SYS_futex, futex, FUTEX_WAIT, value, ns ? &limit : NULL, NULL, 0);
}

void zyg_wake(const _Atomic uint32_t *futex)
{
    (void)syscall(SYS_futex, futex, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* ---- what is there ----------------------------------------------------------------------------
 */

static bool add(struct list *list, uintptr_t start, size_t len)
{
    if (list->count && list->at[list->count - 1].start + list->at[list->count - 1].len == start) {
        list->at[list->count - 1].len += len;
        return true;
    }
    if (list->count == RANGES_MAX)
        return false;
    list->at[list->count].start = start;
    list->at[list->count++].len = len;
    return true;
}

/* Sorts the pages from start to end into those in use and the others. */
static bool sort_pages(struct mould *m, uintptr_t start, uintptr_t end, struct list *used,
                       struct list *unused)
{
    uint64_t entry[256];
    for (uintptr_t at = start; at < end;) {
        size_t n = (end - at) / ZYG_PAGE;
        n = n < ARRAY_LEN(entry) ? n : ARRAY_LEN(entry);
        ssize_t got = SYS(
            pread(m->pagemap, entry, n * sizeof *entry, (off_t)(at / ZYG_PAGE * sizeof *entry)));
        if (got != (ssize_t)(n * sizeof *entry))
            return false;
        for (size_t i = 0; i < n; i++, at += ZYG_PAGE)
            if (!add(entry[i] & PAGE_PRESENT ? used : unused, at, ZYG_PAGE))
                return false;
    }
    return true;
}

/* All writable private memory, but for the mould's own end of the stack. */
static bool take_inventory(struct mould *m, uintptr_t own_end)
{
    struct zyg_mapping one;
    char *text =
        SYS(mmap(NULL, SCRATCH_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    bool ok = text != MAP_FAILED && zyg_read_maps(text, SCRATCH_BYTES);
    for (const char *at = text; ok && *at; at = strchr(at, '\n') + 1) {
        if (!zyg_parse_mapping(at, &one) || !one.writable)
            continue;
        if (one.start < own_end && own_end <= one.end)
            ok = add(&m->holes, one.start, m->stack_top - one.start) &&
                 add(&m->saved, own_end, one.end - own_end);
        else
            ok = sort_pages(m, one.start, one.end, &m->saved, &m->holes);
    }
    if (text != MAP_FAILED)
        (void)munmap(text, SCRATCH_BYTES);
    return ok;
}

/* Makes the pages this process's own, so that no run has to, and copies them. */
static bool save(struct mould *m)
{
    size_t total = 0;
    for (size_t i = 0; i < m->saved.count; i++) {
        uintptr_t first = m->saved.at[i].start & ~(uintptr_t)(ZYG_PAGE - 1);
        size_t len = m->saved.at[i].start + m->saved.at[i].len - first;
        if (SYS(madvise((void *)first, len, POPULATE_WRITE)) < 0)
            return false;
        total += m->saved.at[i].len;
    }
    m->copies = SYS(mmap(NULL, total, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0));
    if (m->copies == MAP_FAILED || SYS(madvise(m->copies, total, MADV_DONTFORK)) < 0)
        return false;
    char *to = m->copies;
    for (size_t i = 0; i < m->saved.count; i++) {
        memcpy(to, (const void *)m->saved.at[i].start, m->saved.at[i].len);
        to += m->saved.at[i].len;
    }
    return true;
}

static long mapped_pages(const struct mould *m)
{
    char text[64] = "";
    return SYS(pread(m->statm, text, sizeof text - 1, 0)) > 0 ? strtol(text, NULL, 10) : -1;
}

static void keep(struct mould *m, size_t i, const char *path)
{
    m->kept[i].fd = SYS(open(path, O_RDONLY | O_CLOEXEC));
    if (m->kept[i].fd >= 0)
        (void)!SYS(pread(m->kept[i].fd, m->kept[i].text, sizeof m->kept[i].text - 1, 0));
}

static bool is_kept(const struct mould *m, size_t i)
{
    char text[sizeof m->kept[i].text] = "";
    return m->kept[i].fd < 0 || (SYS(pread(m->kept[i].fd, text, sizeof text - 1, 0)) > 0 &&
                                 strcmp(text, m->kept[i].text) == 0);
}

static struct mould *prepare(const struct zyg *z, uintptr_t own_end)
{
    struct mould *m =
        SYS(mmap(NULL, sizeof *m, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    if (m == MAP_FAILED || SYS(madvise(m, sizeof *m, MADV_DONTFORK)) < 0)
        return NULL;
    m->stack_top = (own_end - OWN_STACK_BYTES) & ~(uintptr_t)(ZYG_PAGE - 1);
    m->home_cpu = z->home_cpu;
    m->statm = SYS(open("/proc/self/statm", O_RDONLY | O_CLOEXEC));
    m->pagemap = SYS(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
    m->clear_refs = SYS(open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC));
    if (m->statm < 0 || m->pagemap < 0 || m->clear_refs < 0 ||
        SYS(prctl(PR_GET_TID_ADDRESS, &m->tid, 0, 0, 0)) < 0 || !take_inventory(m, own_end) ||
        !save(m))
        return NULL;
    keep(m, 0, "/proc/self/oom_score_adj");
    m->brk = (uintptr_t)syscall(SYS_brk, 0);
    m->pages = mapped_pages(m);
    return m->pages > 0 ? m : NULL;
}

/* ---- between two runs -------------------------------------------------------------------------
 */

/* Nobody lives in this address space but the mould. True: it is as it was, but for the bytes. */
static bool is_intact(const struct mould *m)
{
    return (uintptr_t)syscall(SYS_brk, m->brk) == m->brk && mapped_pages(m) == m->pages &&
           is_kept(m, 0) && is_kept(m, 1);
}

static void restore(const struct mould *m)
{
    (void)!SYS(write(m->clear_refs, "5", 1)); /* the peak of memory starts anew: proc(5) */
    const char *from = m->copies;
    for (size_t i = 0; i < m->saved.count; i++) {
        memcpy((void *)m->saved.at[i].start, from, m->saved.at[i].len);
        from += m->saved.at[i].len;
    }
    for (size_t i = 0; i < m->zeroed.count; i++)
        memset((void *)m->zeroed.at[i].start, 0, m->zeroed.at[i].len);
    for (size_t i = 0; i < m->holes.count; i++)
        (void)SYS(madvise((void *)m->holes.at[i].start, m->holes.at[i].len, MADV_DONTNEED));
}

/* What a first run touched, others will: it stays, wiped. */
static bool learn(struct mould *m)
{
    struct list holes = m->holes;
    m->holes.count = 0;
    for (size_t i = 0; i < holes.count; i++)
        if (!sort_pages(m, holes.at[i].start, holes.at[i].start + holes.at[i].len, &m->zeroed,
                        &m->holes))
            return false;
    return true;
}

/* Into what every run is born to; of the rest a run rids itself (child.c). */
static bool enter(const struct zyg *z)
{
    token->joining = (uint32_t)getpid();
    for (size_t i = 0; i < z->joins_count; i++)
        if (SYS(write(z->procs_fd[i], "0", 1)) < 0)
            return false;
    if (policy_landlock_scope(z->scoped) < 0)
        return false;
    (void)setsid(); /* in pid 1's session a run could send it SIGCONT (kill(2)) */
    return SYS(setgroups(0, NULL)) == 0 &&
           SYS(setresgid(ZYG_CHILD_UID, ZYG_CHILD_UID, ZYG_CHILD_UID)) == 0;
}

static void close_unused(struct zyg *z)
{
    fd_close(&z->ctl);
    fd_close(&z->sig_fd);
    fd_close(&z->pids_current);
    denials_forget(z);
    for (size_t i = 0; i < z->procs_count; i++)
        fd_close(&z->procs_fd[i]);
}

_Noreturn __attribute__((noinline)) void mould_main(struct zyg *z)
{
    uint32_t ordered = token->cast;
    fault_set_role("child");
    sigset_t all;
    (void)sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, NULL);
    (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* as its runs; or /proc/self is not its own */
    struct mould *m = prepare(z, (uintptr_t)__builtin_frame_address(0) + 2 * sizeof(void *));
    if (!m || !enter(z))
        _exit(1);
    keep(m, 1, "/proc/self/autogroup"); /* of the session */
    close_unused(z);
    token->mould = (uint32_t)getpid();
    zyg_wake(&token->mould);
    for (bool used = false, known = false;; known = used, used = true) {
        while (token->cast == ordered)
            zyg_await(&token->cast, ordered, 0);
        ordered = token->cast;
        if (used && (!is_intact(m) || (!known && !learn(m))))
            _exit(1);
        if (used)
            restore(m);
        if (m->home_cpu != token->home_cpu)
            zyg_bind(z, token->home_cpu);
        m->home_cpu = z->home_cpu = token->home_cpu;
        if (SYS(clone(child_cast, (void *)m->stack_top,
                      CLONE_VM | CLONE_PARENT | CLONE_CHILD_SETTID | SIGCHLD, z, NULL, NULL,
                      m->tid)) < 0)
            _exit(1);
    }
}
