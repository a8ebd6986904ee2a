/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/bash_calls - notices when more than bash's own code gets hold of an address space.
 *
 * A mould (mould.c) lets runs follow each other in one address space. That is sound as long as
 * nothing but bash ran there and nobody else could write there. What ends that is visible as a call
 * out of bash before it takes effect: a fork (the child may ptrace its parent), an object loaded, a
 * locale, message catalogue, terminal description or time zone read from the tenant's files. These
 * calls are diverted in bash's own jump slots (System V ABI, DT_JMPREL): each spoils the address
 * space and goes on to the real one. An exec does not: its program has an address space of its own.
 */
#include "zygote/zyg.h"
#include <dlfcn.h>
#include <elf.h>
#include <iconv.h>
#include <libintl.h>
#include <link.h>
#include <locale.h>
#include <sys/mman.h>
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

/* LANGUAGE may hold a path. */
static void spoil_by_language(void)
{
    for (char **var = environ; var && *var; var++)
        if (strncmp(*var, "LANGUAGE=", 9) == 0)
            zyg_spoil();
}

static char *on_dcgettext(const char *domain, const char *text, int category)
{
    spoil_by_language();
    return dcgettext(domain, text, category);
}

static char *on_dcngettext(const char *domain, const char *one, const char *many, unsigned long n,
                           int category)
{
    spoil_by_language();
    return dcngettext(domain, one, many, n, category);
}

static iconv_t on_iconv_open(const char *to, const char *from)
{
    zyg_spoil();
    return iconv_open(to, from);
}

static void on_tzset(void)
{
    zyg_spoil();
    tzset();
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
    DIVERT(fork),       DIVERT(dlopen),    DIVERT(setlocale),  DIVERT(bindtextdomain),
    DIVERT(textdomain), DIVERT(dcgettext), DIVERT(dcngettext), DIVERT(iconv_open),
    DIVERT(tzset),      DIVERT(tgetent),
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
