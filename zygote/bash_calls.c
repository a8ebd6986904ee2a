/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/bash_calls - notices when more than bash's own code gets hold of an address space.
 *
 * A mould (mould.c) lets runs follow each other in one address space. That is sound as long as
 * nothing but bash ran there and nobody else could write there. What ends that is visible as a call
 * out of bash before it takes effect: a fork (the child may ptrace its parent), a file of /proc
 * opened for writing, an object loaded, a locale, message catalogue, terminal description or time
 * zone that may come from the tenant's files. These calls are diverted in bash's own jump slots
 * (System V ABI, DT_JMPREL): each spoils the address space and goes on to the real one. An exec
 * does not: its program has an address space of its own.
 */
#include "zygote/zyg.h"
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <iconv.h>
#include <libintl.h>
#include <link.h>
#include <linux/magic.h>
#include <locale.h>
#include <netdb.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <time.h>

static pid_t on_fork(void)
{
    zyg_spoil();
    return fork();
}

static void *on_dlopen(const char *path, int flags)
{
    zyg_spoil();
    return dlopen(path, flags);
}

static char *on_setlocale(int category, const char *locale)
{
    if (locale)
        zyg_spoil();
    return setlocale(category, locale);
}

static char *on_bindtextdomain(const char *domain, const char *dir)
{
    zyg_spoil();
    return bindtextdomain(domain, dir);
}

static char *on_textdomain(const char *domain)
{
    zyg_spoil();
    return textdomain(domain);
}

static int on_execve(const char *path, char *const argv[], char *const envp[])
{
    zyg_leave();
    int r = execve(path, argv, envp);
    zyg_stay();
    return r;
}

/* A descriptor of /proc/self/mem outlives an exec together with its memory, and other files there
 * change what belongs to the memory or the session. Asked of the descriptor: a path can lie. */
static void spoil_by_proc(int fd)
{
    struct statfs fs;
    if (fd >= 0 && (fstatfs(fd, &fs) < 0 || fs.f_type == PROC_SUPER_MAGIC))
        zyg_spoil();
}

static int on_open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    int fd = open(path, flags, mode);
    if ((flags & O_ACCMODE) != O_RDONLY)
        spoil_by_proc(fd);
    return fd;
}

static FILE *on_fopen(const char *path, const char *mode)
{
    FILE *file = fopen(path, mode);
    if (file && (*mode != 'r' || strchr(mode, '+')))
        spoil_by_proc(fileno(file));
    return file;
}

/* The C library looks at the environment of the process, not at bash's variables. */
static void spoil_by_variable(const char *name)
{
    size_t len = strlen(name);
    for (char **var = environ; var && *var; var++)
        if (strncmp(*var, name, len) == 0 && (*var)[len] == '=')
            zyg_spoil();
}

/* LANGUAGE may be a path to a message catalogue. */
static char *on_dcgettext(const char *domain, const char *text, int category)
{
    spoil_by_variable("LANGUAGE");
    return dcgettext(domain, text, category);
}

static char *on_dcngettext(const char *domain, const char *one, const char *many, unsigned long n,
                           int category)
{
    spoil_by_variable("LANGUAGE");
    return dcngettext(domain, one, many, n, category);
}

static char *on_strerror(int error)
{
    spoil_by_variable("LANGUAGE");
    return strerror(error);
}

static char *on_strsignal(int signal)
{
    spoil_by_variable("LANGUAGE");
    return strsignal(signal);
}

static const char *on_gai_strerror(int error)
{
    spoil_by_variable("LANGUAGE");
    return gai_strerror(error);
}

/* TZ may be a path to a time zone's file. */
static void on_tzset(void)
{
    zyg_spoil();
    tzset();
}

static struct tm *on_localtime(const time_t *time)
{
    spoil_by_variable("TZ");
    spoil_by_variable("TZDIR");
    return localtime(time);
}

/* Called by this name, as the format is bash's. */
static size_t (*const real_strftime)(char *, size_t, const char *, const struct tm *) = strftime;

static size_t on_strftime(char *text, size_t room, const char *format, const struct tm *time)
{
    spoil_by_variable("TZ");
    spoil_by_variable("TZDIR");
    return real_strftime(text, room, format, time);
}

static iconv_t on_iconv_open(const char *to, const char *from)
{
    zyg_spoil();
    return iconv_open(to, from);
}

/* From libtinfo, which only bash is linked with. */
static int (*real_tgetent)(char *buffer, const char *terminal);

static int on_tgetent(char *buffer, const char *terminal)
{
    zyg_spoil();
    return real_tgetent(buffer, terminal);
}

static const struct {
    const char *name;
    void (*diversion)(void);
} diverted[] = {
#define DIVERT(function)                                                                           \
    {                                                                                              \
#function, (void (*)(void))on_##function                                                   \
    }
    DIVERT(fork),         DIVERT(execve),     DIVERT(open),           DIVERT(fopen),
    DIVERT(dlopen),       DIVERT(setlocale),  DIVERT(bindtextdomain), DIVERT(textdomain),
    DIVERT(dcgettext),    DIVERT(dcngettext), DIVERT(strerror),       DIVERT(strsignal),
    DIVERT(gai_strerror), DIVERT(iconv_open), DIVERT(tzset),          DIVERT(localtime),
    DIVERT(strftime),     DIVERT(tgetent),
#undef DIVERT
};

struct tables {
    const Elf64_Rela *rela;
    size_t count;
    const Elf64_Sym *symbols;
    const char *names;
    uintptr_t base;
};

/* The first object that is visited is the program itself (dl_iterate_phdr(3)). */
static int find_tables(struct dl_phdr_info *info, size_t size, void *ret)
{
    struct tables *t = ret;
    const ElfW(Dyn) *dyn = NULL;
    (void)size;
    for (size_t i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
            dyn = (const void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
    t->base = info->dlpi_addr;
    for (; dyn && dyn->d_tag != DT_NULL; dyn++) {
        const void *at = (const void *)dyn->d_un.d_ptr; /* relocated by ld.so */
        if (dyn->d_tag == DT_JMPREL)
            t->rela = at;
        else if (dyn->d_tag == DT_PLTRELSZ)
            t->count = dyn->d_un.d_val / sizeof *t->rela;
        else if (dyn->d_tag == DT_SYMTAB)
            t->symbols = at;
        else if (dyn->d_tag == DT_STRTAB)
            t->names = at;
    }
    return 1;
}

static bool divert(const struct tables *t, const char *name, void (*to)(void))
{
    for (size_t i = 0; i < t->count; i++) {
        const Elf64_Rela *r = &t->rela[i];
        const char *symbol = t->names + t->symbols[ELF64_R_SYM(r->r_info)].st_name;
        void (**slot)(void) = (void *)(t->base + r->r_offset);
        void *page = (void *)((uintptr_t)slot & ~(uintptr_t)(ZYG_PAGE - 1));
        if (ELF64_R_TYPE(r->r_info) != R_X86_64_JUMP_SLOT || strcmp(symbol, name) != 0)
            continue;
        if (mprotect(page, ZYG_PAGE, PROT_READ | PROT_WRITE) < 0) /* RELRO */
            return false;
        if (to == (void (*)(void))on_tgetent)
            real_tgetent = (int (*)(char *, const char *)) * slot;
        *slot = to;
        return mprotect(page, ZYG_PAGE, PROT_READ) == 0;
    }
    return false;
}

bool zyg_divert_calls(void)
{
    struct tables t = {0};
    (void)dl_iterate_phdr(find_tables, &t);
    if (!t.rela || !t.symbols || !t.names)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(diverted); i++)
        if (!divert(&t, diverted[i].name, diverted[i].diversion))
            return false;
    return true;
}
