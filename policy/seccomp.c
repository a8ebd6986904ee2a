/* SPDX-License-Identifier: Apache-2.0 */
/* policy/seccomp - an OCI seccomp profile (runtime-spec, config-linux.md) to a BPF program.
 *
 * Runs in the supervisor at start and on reload, and in `brood doctor`; the profile is the
 * operator's, so it is trusted but mistyped now and then: whatever is not understood is refused
 * with its place. Only the names of system calls are taken as container engines take them: one that
 * is not known here is skipped, because a profile names the calls of all architectures and kernels.
 *
 * libseccomp makes no promise about rules of one call that contradict each other, and a deny rule
 * with arguments beside an unconditional permission is lost. So the rules go into three programs,
 * each evaluated when the one before had no answer: refusals with arguments, permissions with
 * arguments, then rules without arguments and the default. libseccomp exports BPF to a descriptor
 * only, so a memfd carries it (seccomp_export_bpf(3)).
 *
 * A refusal with EPERM becomes a notification, which pid 1 of the namespace answers with EPERM and
 * counts (zygote/denials.c); where there is no listener policy/install.c turns it back.
 */
#include "lib/err.h"
#include "lib/fd.h"
#include "policy/policy.h"
#include <jansson.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#define CALLS_MAX 1024    /* numbers of x86-64 are below */
#define PASS_DATA 0x6272u /* no other rule can say this: SCMP_ACT_TRACE is refused */
#define ERRNO_MAX 4095    /* MAX_ERRNO of the kernel */
#define RETURN (BPF_RET | BPF_K)

enum tier { TIER_REFUSALS, TIER_PERMISSIONS, TIER_PLAIN, TIERS };

struct build {
    scmp_filter_ctx tier[TIERS];
    bool used[TIERS];
    uint32_t default_action;
    uint32_t plain[CALLS_MAX]; /* the action of its rule without arguments, + 1; 0: none */
};

struct rule {
    uint32_t action;
    struct scmp_arg_cmp args[6];
    unsigned arg_count;
    bool one_each; /* two conditions on one argument: either will do */
};

/* Calls younger than some libseccomp: arch/x86/entry/syscalls/syscall_64.tbl. */
static const struct {
    const char *name;
    int nr;
} younger[] = {
    {"cachestat", 451},         {"fchmodat2", 452},        {"map_shadow_stack", 453},
    {"futex_wake", 454},        {"futex_wait", 455},       {"futex_requeue", 456},
    {"statmount", 457},         {"listmount", 458},        {"lsm_get_self_attr", 459},
    {"lsm_set_self_attr", 460}, {"lsm_list_modules", 461}, {"mseal", 462},
    {"setxattrat", 463},        {"getxattrat", 464},       {"listxattrat", 465},
    {"removexattrat", 466},     {"open_tree_attr", 467},   {"file_getattr", 468},
    {"file_setattr", 469},
};

/* <0: this architecture has no call of that name. */
static int find_call(const char *name)
{
    int nr = seccomp_syscall_resolve_name_arch(SCMP_ARCH_X86_64, name);
    for (size_t i = 0; nr < 0 && i < ARRAY_LEN(younger); i++)
        if (strcmp(younger[i].name, name) == 0)
            nr = younger[i].nr;
    return nr < CALLS_MAX ? nr : -1;
}

void policy_syscall_name(uint32_t nr, char *ret, size_t room)
{
    auto_free char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, (int)nr);
    const char *found = name;
    for (size_t i = 0; !found && i < ARRAY_LEN(younger); i++)
        if ((uint32_t)younger[i].nr == nr)
            found = younger[i].name;
    if (found)
        (void)snprintf(ret, room, "%s", found);
    else
        (void)snprintf(ret, room, "syscall_%u", nr);
}

/* ---- reading the profile -----------------------------------------------------------------------
 */

static int expect_type(const json_t *v, json_type type, const char *where, struct err *err)
{
    static const char *const names[] = {[JSON_OBJECT] = "an object",
                                        [JSON_ARRAY] = "an array",
                                        [JSON_STRING] = "a string",
                                        [JSON_INTEGER] = "an integer"};
    if (v && json_typeof(v) == type)
        return 0;
    return err_set(err, "%s: expected %s", where, names[type]);
}

/* Every member must be named in `known`, a list that ends with NULL: a mistyped "args" would widen
 * the rule. */
static int check_members(const json_t *object, const char *const *known, struct err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        size_t i = 0;
        while (known[i] && strcmp(known[i], key) != 0)
            i++;
        if (!known[i])
            return err_set(err, "\"%.60s\": no such member", key);
    }
    return 0;
}

/* An array of strings, possibly absent or null. */
static int check_strings(const json_t *v, const char *where, struct err *err)
{
    size_t i;
    json_t *one;
    if (!v || json_is_null(v))
        return 0;
    int r = expect_type(v, JSON_ARRAY, where, err);
    json_array_foreach(v, i, one) if (r == 0) r = expect_type(one, JSON_STRING, where, err);
    return r;
}

static bool has_string(const json_t *array, const char *text)
{
    size_t i;
    json_t *one;
    json_array_foreach(array, i, one) if (strcmp(json_string_value(one), text) == 0) return true;
    return false;
}

static int take_errno(const json_t *number, const json_t *name, uint32_t *ret, struct err *err)
{
    if (number && !json_is_null(number)) {
        if (!json_is_integer(number) || json_integer_value(number) < 0 ||
            json_integer_value(number) > ERRNO_MAX)
            return err_set(err, "errnoRet: expected 0 to %d", ERRNO_MAX);
        *ret = (uint32_t)json_integer_value(number);
        return 0;
    }
    *ret = EPERM;
    if (!name || json_is_null(name))
        return 0;
    if (expect_type(name, JSON_STRING, "errno", err) < 0)
        return err->code;
    for (int e = 1; e < 200; e++) {
        const char *known = strerrorname_np(e);
        if (known && strcmp(known, json_string_value(name)) == 0) {
            *ret = (uint32_t)e;
            return 0;
        }
    }
    return err_set(err, "errno: \"%.40s\": no such error", json_string_value(name));
}

/* LOG would let a tenant write to the host's log, TRACE needs a tracer; one killed thread leaves a
 * program that waits for it, so all of it ends. */
static int take_action(const json_t *v, const char *where, uint32_t error, uint32_t *ret,
                       struct err *err)
{
    if (expect_type(v, JSON_STRING, where, err) < 0)
        return err->code;
    const char *name = json_string_value(v);
    if (strcmp(name, "SCMP_ACT_ALLOW") == 0)
        *ret = SCMP_ACT_ALLOW;
    else if (strcmp(name, "SCMP_ACT_ERRNO") == 0)
        *ret = SCMP_ACT_ERRNO(error);
    else if (strcmp(name, "SCMP_ACT_NOTIFY") == 0)
        *ret = SCMP_ACT_ERRNO(EPERM);
    else if (strcmp(name, "SCMP_ACT_TRAP") == 0)
        *ret = SCMP_ACT_TRAP;
    else if (strcmp(name, "SCMP_ACT_KILL") == 0 || strcmp(name, "SCMP_ACT_KILL_THREAD") == 0 ||
             strcmp(name, "SCMP_ACT_KILL_PROCESS") == 0)
        *ret = SCMP_ACT_KILL_PROCESS;
    else
        return err_set(err,
                       "%s: \"%.40s\": expected SCMP_ACT_ALLOW, _ERRNO, _NOTIFY, _TRAP, _KILL, "
                       "_KILL_THREAD or _KILL_PROCESS",
                       where, name);
    return 0;
}

static int take_number(const json_t *v, const char *where, uint64_t *ret, struct err *err)
{
    *ret = 0;
    if (!v)
        return 0;
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return err_set(err, "%s: expected an integer of 0 or more", where);
    *ret = (uint64_t)json_integer_value(v);
    return 0;
}

static int take_op(const json_t *v, enum scmp_compare *ret, struct err *err)
{
    static const struct {
        const char *name;
        enum scmp_compare op;
    } ops[] = {{"SCMP_CMP_NE", SCMP_CMP_NE},
               {"SCMP_CMP_LT", SCMP_CMP_LT},
               {"SCMP_CMP_LE", SCMP_CMP_LE},
               {"SCMP_CMP_EQ", SCMP_CMP_EQ},
               {"SCMP_CMP_GE", SCMP_CMP_GE},
               {"SCMP_CMP_GT", SCMP_CMP_GT},
               {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ}};
    if (expect_type(v, JSON_STRING, "op", err) < 0)
        return err->code;
    for (size_t i = 0; i < ARRAY_LEN(ops); i++)
        if (strcmp(ops[i].name, json_string_value(v)) == 0) {
            *ret = ops[i].op;
            return 0;
        }
    return err_set(err,
                   "op: \"%.40s\": expected SCMP_CMP_NE, _LT, _LE, _EQ, _GE, _GT or _MASKED_EQ",
                   json_string_value(v));
}

static int take_arg(const json_t *v, struct scmp_arg_cmp *ret, struct err *err)
{
    static const char *const known[] = {"index", "value", "valueTwo", "op", NULL};
    uint64_t index, value, two;
    enum scmp_compare op;
    if (expect_type(v, JSON_OBJECT, "argument", err) < 0 || check_members(v, known, err) < 0 ||
        expect_type(json_object_get(v, "index"), JSON_INTEGER, "index", err) < 0 ||
        take_number(json_object_get(v, "index"), "index", &index, err) < 0 ||
        take_number(json_object_get(v, "value"), "value", &value, err) < 0 ||
        take_number(json_object_get(v, "valueTwo"), "valueTwo", &two, err) < 0 ||
        take_op(json_object_get(v, "op"), &op, err) < 0)
        return err->code;
    if (index > 5)
        return err_set(err, "index: a system call has arguments 0 to 5");
    *ret =
        (struct scmp_arg_cmp){.arg = (unsigned)index, .op = op, .datum_a = value, .datum_b = two};
    return 0;
}

static int take_args(const json_t *v, struct rule *rule, struct err *err)
{
    unsigned seen = 0;
    size_t i;
    json_t *one;
    if (!v || json_is_null(v))
        return 0;
    if (expect_type(v, JSON_ARRAY, "args", err) < 0)
        return err->code;
    if (json_array_size(v) > ARRAY_LEN(rule->args))
        return err_set(err, "args: more than %zu", ARRAY_LEN(rule->args));
    json_array_foreach(v, i, one)
    {
        if (take_arg(one, &rule->args[i], err) < 0)
            return err_wrap(err, "args[%zu]", i);
        rule->one_each |= (seen & 1u << rule->args[i].arg) != 0;
        seen |= 1u << rule->args[i].arg;
        rule->arg_count++;
    }
    return 0;
}

/* ---- what a rule is for ------------------------------------------------------------------------
 */

static int kernel_is_at_least(const json_t *v, bool *ret, struct err *err)
{
    struct utsname name;
    unsigned wanted[2], have[2];
    char rest;
    if (expect_type(v, JSON_STRING, "minKernel", err) < 0)
        return err->code;
    if (sscanf(json_string_value(v), "%3u.%5u%c", &wanted[0], &wanted[1], &rest) != 2)
        return err_set(err, "minKernel: \"%.20s\": expected a version like 4.8",
                       json_string_value(v));
    if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &have[0], &have[1]) != 2)
        return err_set(err, "the kernel's version is not readable");
    *ret = have[0] > wanted[0] || (have[0] == wanted[0] && have[1] >= wanted[1]);
    return 0;
}

/* Which parts of a filter are given, and which are true of a child: on x86-64, without
 * capabilities. */
struct match {
    bool caps, arches, kernel;      /* given */
    bool arches_hold, kernel_holds; /* caps never do */
};

static int take_match(const json_t *v, const char *where, struct match *ret, struct err *err)
{
    static const char *const known[] = {"caps", "arches", "minKernel", NULL};
    *ret = (struct match){0};
    if (!v || json_is_null(v))
        return 0;
    const json_t *caps = json_object_get(v, "caps"), *arches = json_object_get(v, "arches"),
                 *kernel = json_object_get(v, "minKernel");
    if (expect_type(v, JSON_OBJECT, where, err) < 0 || check_members(v, known, err) < 0 ||
        check_strings(caps, "caps", err) < 0 || check_strings(arches, "arches", err) < 0)
        return err->code;
    ret->caps = json_array_size(caps) > 0;
    ret->arches = json_array_size(arches) > 0;
    ret->arches_hold = has_string(arches, "amd64") || has_string(arches, "x86_64");
    if (kernel && kernel_is_at_least(kernel, &ret->kernel_holds, err) < 0)
        return err->code;
    ret->kernel = kernel != NULL;
    return 0;
}

/* All that is included must hold, nothing that is excluded may. */
static int is_for_us(const json_t *v, bool *ret, struct err *err)
{
    struct match in, out;
    if (take_match(json_object_get(v, "includes"), "includes", &in, err) < 0 ||
        take_match(json_object_get(v, "excludes"), "excludes", &out, err) < 0)
        return err->code;
    *ret = !in.caps && (!in.arches || in.arches_hold) && (!in.kernel || in.kernel_holds) &&
           !(out.arches && out.arches_hold) && !(out.kernel && out.kernel_holds);
    return 0;
}

/* ---- rules to libseccomp -----------------------------------------------------------------------
 */

static int add_conditional(struct build *b, int nr, const struct rule *rule)
{
    enum tier tier = rule->action == SCMP_ACT_ALLOW ? TIER_PERMISSIONS : TIER_REFUSALS;
    unsigned step = rule->one_each ? 1 : rule->arg_count;
    int r = 0;
    b->used[tier] = true;
    for (unsigned i = 0; r == 0 && i < rule->arg_count; i += step)
        r = seccomp_rule_add_array(b->tier[tier], rule->action, nr, step, rule->args + i);
    return r == -EEXIST ? 0 : r;
}

static int add_rule(struct build *b, const char *name, const struct rule *rule, struct err *err)
{
    int r = 0, nr = find_call(name);
    if (nr < 0)
        return 0; /* of another architecture, or of a kernel to come */
    if (rule->arg_count > 0) {
        r = add_conditional(b, nr, rule);
    } else if (b->plain[nr] && b->plain[nr] != rule->action + 1) {
        return err_set(err, "%.40s: an earlier rule gives it another action", name);
    } else if (!b->plain[nr]) {
        b->plain[nr] = rule->action + 1;
        if (rule->action != b->default_action) /* which libseccomp refuses to repeat */
            r = seccomp_rule_add_array(b->tier[TIER_PLAIN], rule->action, nr, 0, NULL);
    }
    return r < 0 ? err_set(err, "%.40s: %s", name, strerror(-r)) : 0;
}

static int take_rule(struct build *b, const json_t *v, struct err *err)
{
    static const char *const known[] = {"names", "name",    "action",   "errnoRet", "errno",
                                        "args",  "comment", "includes", "excludes", NULL};
    struct rule rule = {0};
    uint32_t error;
    bool wanted;
    size_t i;
    json_t *name;
    if (expect_type(v, JSON_OBJECT, "rule", err) < 0 || check_members(v, known, err) < 0 ||
        take_errno(json_object_get(v, "errnoRet"), json_object_get(v, "errno"), &error, err) < 0 ||
        take_action(json_object_get(v, "action"), "action", error, &rule.action, err) < 0 ||
        take_args(json_object_get(v, "args"), &rule, err) < 0 ||
        check_strings(json_object_get(v, "names"), "names", err) < 0 ||
        is_for_us(v, &wanted, err) < 0)
        return err->code;
    const json_t *names = json_object_get(v, "names"), *old = json_object_get(v, "name");
    if (json_array_size(names) == 0 && !json_is_string(old))
        return err_set(err, "names: expected an array of strings");
    if (old && expect_type(old, JSON_STRING, "name", err) < 0)
        return err->code;
    if (!wanted)
        return 0;
    if (old && add_rule(b, json_string_value(old), &rule, err) < 0)
        return err->code;
    json_array_foreach(names, i, name) if (add_rule(b, json_string_value(name), &rule, err) <
                                           0) return err->code;
    return 0;
}

/* Other architectures may be named; their entry stays closed. */
static int check_architectures(const json_t *profile, struct err *err)
{
    static const char *const known[] = {"architecture", "subArchitectures", NULL};
    const json_t *list = json_object_get(profile, "architectures"),
                 *map = json_object_get(profile, "archMap");
    size_t i;
    json_t *one;
    bool ours = json_array_size(list) == 0 && json_array_size(map) == 0;
    if (check_strings(list, "architectures", err) < 0)
        return err->code;
    ours |= has_string(list, "SCMP_ARCH_X86_64");
    if (map && !json_is_null(map) && expect_type(map, JSON_ARRAY, "archMap", err) < 0)
        return err->code;
    json_array_foreach(map, i, one)
    {
        const json_t *name = json_object_get(one, "architecture");
        if (expect_type(one, JSON_OBJECT, "entry", err) < 0 || check_members(one, known, err) < 0 ||
            expect_type(name, JSON_STRING, "architecture", err) < 0 ||
            check_strings(json_object_get(one, "subArchitectures"), "subArchitectures", err) < 0)
            return err_wrap(err, "archMap[%zu]", i);
        ours |= strcmp(json_string_value(name), "SCMP_ARCH_X86_64") == 0;
    }
    return ours ? 0 : err_set(err, "architectures: SCMP_ARCH_X86_64 is not among them");
}

static int init_tiers(struct build *b, struct err *err)
{
    for (int i = 0; i < TIERS; i++) {
        b->tier[i] = seccomp_init(i == TIER_PLAIN ? b->default_action : SCMP_ACT_TRACE(PASS_DATA));
        if (!b->tier[i] ||
            seccomp_attr_set(b->tier[i], SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS)) < 0 ||
            seccomp_attr_set(b->tier[i], SCMP_FLTATR_CTL_OPTIMIZE, 2) < 0) /* a binary tree */
            return err_set(err, "libseccomp: no filter can be made");
    }
    b->used[TIER_PLAIN] = true;
    return 0;
}

static int take_profile(struct build *b, const json_t *v, struct err *err)
{
    static const char *const known[] = {"defaultAction", "defaultErrnoRet", "defaultErrno",
                                        "architectures", "archMap",         "flags",
                                        "comment",       "syscalls",        NULL};
    const json_t *rules = json_object_get(v, "syscalls");
    uint32_t error;
    size_t i;
    json_t *one;
    if (expect_type(v, JSON_OBJECT, "profile", err) < 0 || check_members(v, known, err) < 0 ||
        take_errno(json_object_get(v, "defaultErrnoRet"), json_object_get(v, "defaultErrno"),
                   &error, err) < 0 ||
        take_action(json_object_get(v, "defaultAction"), "defaultAction", error, &b->default_action,
                    err) < 0 ||
        check_architectures(v, err) < 0 || init_tiers(b, err) < 0)
        return err->code;
    if (rules && !json_is_null(rules) && expect_type(rules, JSON_ARRAY, "syscalls", err) < 0)
        return err->code;
    json_array_foreach(rules, i, one) if (take_rule(b, one, err) <
                                          0) return err_wrap(err, "syscalls[%zu]", i);
    return 0;
}

/* ---- libseccomp to BPF -------------------------------------------------------------------------
 */

static int export_tier(scmp_filter_ctx ctx, uint64_t *at, size_t room, size_t *ret_len,
                       struct err *err)
{
    auto_close int fd = memfd_create("seccomp", MFD_CLOEXEC);
    struct stat st;
    if (fd < 0)
        return err_sys(err, "memfd for the seccomp filter");
    int r = seccomp_export_bpf(ctx, fd);
    if (r < 0) {
        errno = -r;
        return err_sys(err, "export the seccomp filter");
    }
    if (fstat(fd, &st) < 0 || st.st_size % (off_t)sizeof *at != 0)
        return err_set(err, "seccomp filter of %lld bytes", (long long)st.st_size);
    *ret_len = (size_t)st.st_size / sizeof *at;
    if (*ret_len > room)
        return err_set(err, "more than the %d instructions that a filter may have", POLICY_BPF_MAX);
    if (pread(fd, at, (size_t)st.st_size, 0) != st.st_size)
        return err_sys(err, "read the seccomp filter");
    return 0;
}

static void replace(uint64_t *at, struct sock_filter with)
{
    memcpy(at, &with, sizeof with);
}

/* What one tier has no answer for goes on behind it; EPERM is for pid 1 to say. */
static void link_tier(uint64_t *at, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        struct sock_filter f;
        memcpy(&f, &at[i], sizeof f);
        if (f.code == RETURN && f.k == (SECCOMP_RET_TRACE | PASS_DATA))
            replace(&at[i],
                    (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, (uint32_t)(len - i - 1)));
        else if (f.code == RETURN && f.k == (SECCOMP_RET_ERRNO | EPERM))
            replace(&at[i], (struct sock_filter)BPF_STMT(RETURN, SECCOMP_RET_USER_NOTIF));
    }
}

static int export(const struct build *b, uint64_t *ret_bpf, uint32_t *ret_len, struct err *err)
{
    size_t at = 0, len = 0;
    for (int i = 0; i < TIERS; i++) {
        if (!b->used[i])
            continue;
        if (export_tier(b->tier[i], ret_bpf + at, POLICY_BPF_MAX - at, &len, err) < 0)
            return err->code;
        link_tier(ret_bpf + at, len);
        at += len;
    }
    *ret_len = (uint32_t)at;
    return 0;
}

int policy_seccomp_compile(const char *json, size_t bytes, uint64_t *ret_bpf, uint32_t *ret_len,
                           struct err *err)
{
    json_error_t bad;
    struct build b = {0};
    json_t *profile = json_loadb(json, bytes, JSON_REJECT_DUPLICATES, &bad);
    if (!profile)
        return err_set(err, "line %d: %.100s", bad.line, bad.text);
    int r = take_profile(&b, profile, err);
    json_decref(profile);
    if (r == 0)
        r = export(&b, ret_bpf, ret_len, err);
    for (int i = 0; i < TIERS; i++)
        if (b.tier[i])
            seccomp_release(b.tier[i]);
    return r;
}
