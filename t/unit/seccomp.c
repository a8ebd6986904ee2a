/* SPDX-License-Identifier: Apache-2.0 */
/* t/unit/seccomp - what a profile says is what its program answers; what is mistyped is refused
 * with its place. The programs are carried out here, by a small interpreter of classic BPF, with
 * system calls made up; t/golden/seccomp-default holds the default profile's answer to every call
 * (written anew with GOLDEN=write).
 */
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/tap.h"
#include "policy/policy.h"
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#define X32 0x40000000
#define PERM SECCOMP_RET_USER_NOTIF
#define NOSYS (SECCOMP_RET_ERRNO | ENOSYS)
#define CALLS 480

static uint64_t bpf[POLICY_BPF_MAX];
static uint32_t bpf_len;
static struct err err;

static int compile(const char *json)
{
    err = (struct err){.code = 0};
    bpf_len = 0;
    return policy_seccomp_compile(json, strlen(json), bpf, &bpf_len, &err);
}

static uint32_t load(const struct seccomp_data *data, uint32_t at)
{
    uint32_t word;
    memcpy(&word, (const char *)data + at, sizeof word);
    return word;
}

static bool holds(uint16_t code, uint32_t a, uint32_t k)
{
    switch (BPF_OP(code)) {
    case BPF_JEQ:
        return a == k;
    case BPF_JGT:
        return a > k;
    case BPF_JGE:
        return a >= k;
    case BPF_JSET:
        return (a & k) != 0;
    default:
        die(1, "jump 0x%x is not in the interpreter", code);
    }
}

/* What the program in `bpf` answers. Endless or wild programs end the test. */
static uint32_t answer(const struct seccomp_data *data)
{
    uint32_t a = 0;
    for (size_t pc = 0; pc < bpf_len; pc++) {
        struct sock_filter f;
        memcpy(&f, &bpf[pc], sizeof f);
        if (f.code == (BPF_LD | BPF_W | BPF_ABS))
            a = load(data, f.k);
        else if (f.code == (BPF_ALU | BPF_AND | BPF_K))
            a &= f.k;
        else if (f.code == (BPF_JMP | BPF_JA))
            pc += f.k;
        else if (BPF_CLASS(f.code) == BPF_JMP)
            pc += holds(f.code, a, f.k) ? f.jt : f.jf;
        else if (f.code == (BPF_RET | BPF_K))
            return f.k;
        else
            die(1, "instruction 0x%x is not in the interpreter", f.code);
    }
    die(1, "the program has no end");
}

static uint32_t call3(long nr, uint64_t a, uint64_t b, uint64_t c)
{
    struct seccomp_data data = {
        .nr = (int)nr, .arch = AUDIT_ARCH_X86_64, .args = {a, b, c, 0, 0, 0}};
    return answer(&data);
}

static uint32_t call(long nr)
{
    return call3(nr, 0, 0, 0);
}

static void refused(const char *json, const char *text)
{
    int r = compile(json);
    ok(r < 0 && err.code < 0 && strcmp(err.text, text) == 0, "refused: %s", err.text);
}

#define RULE(r) "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[" r "]}"
#define STRICT(r)                                                                                  \
    "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":38,\"syscalls\":[" r "]}"

static void test_actions(void)
{
    ok(compile(RULE("")) == 0 && call(SYS_mount) == SECCOMP_RET_ALLOW, "allow all %s", err.text);
    ok(compile("{\"defaultAction\":\"SCMP_ACT_ERRNO\"}") == 0 && call(SYS_read) == PERM,
       "EPERM is a notification");
    ok(compile(STRICT("")) == 0 && call(SYS_read) == NOSYS, "another error is not");
    ok(compile(STRICT("{\"names\":[\"read\",\"write\"],\"action\":\"SCMP_ACT_ALLOW\"}")) == 0 &&
           call(SYS_read) == SECCOMP_RET_ALLOW && call(SYS_write) == SECCOMP_RET_ALLOW &&
           call(SYS_close) == NOSYS && call(9999) == NOSYS,
       "an allow-list");
    ok(compile(RULE(
           "{\"names\":[\"read\"],\"action\":\"SCMP_ACT_NOTIFY\"},"
           "{\"names\":[\"write\"],\"action\":\"SCMP_ACT_KILL\"},"
           "{\"names\":[\"open\"],\"action\":\"SCMP_ACT_KILL_THREAD\"},"
           "{\"names\":[\"close\"],\"action\":\"SCMP_ACT_TRAP\"},"
           "{\"names\":[\"stat\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":13},"
           "{\"names\":[\"lstat\"],\"action\":\"SCMP_ACT_ERRNO\",\"errno\":\"EAGAIN\"}")) == 0 &&
           call(SYS_read) == PERM && call(SYS_write) == SECCOMP_RET_KILL_PROCESS &&
           call(SYS_open) == SECCOMP_RET_KILL_PROCESS && call(SYS_close) == SECCOMP_RET_TRAP &&
           call(SYS_stat) == (SECCOMP_RET_ERRNO | EACCES) &&
           call(SYS_lstat) == (SECCOMP_RET_ERRNO | EAGAIN),
       "each action %s", err.text);
    ok(compile(RULE("{\"names\":[\"open_tree_attr\",\"mount\"],\"action\":\"SCMP_ACT_ERRNO\"}")) ==
               0 &&
           call(467) == PERM && call(SYS_mount) == PERM,
       "a call younger than libseccomp %s", err.text);
    ok(compile(RULE("{\"names\":[\"frobnicate\",\"socketcall\",\"umount\",\"mount\"],"
                    "\"action\":\"SCMP_ACT_ERRNO\"}")) == 0 &&
           call(SYS_mount) == PERM,
       "names that x86-64 has not are skipped");
}

static void test_entries(void)
{
    struct seccomp_data data = {.nr = SYS_read, .arch = AUDIT_ARCH_I386};
    ok(compile(RULE("")) == 0 && answer(&data) == NOSYS, "int 0x80 is closed, whatever is allowed");
    ok(call(X32 | SYS_read) == NOSYS && call(X32 | 512) == NOSYS, "and so is x32");
    ok(compile("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"SCMP_ARCH_X86_64\","
               "\"SCMP_ARCH_X86\",\"SCMP_ARCH_X32\"]}") == 0 &&
           answer(&data) == NOSYS && call(X32 | SYS_read) == NOSYS,
       "also when the profile names them");
}

/* Refusals with arguments, then permissions with arguments, then what has none. */
static void test_arguments(void)
{
    ok(compile(STRICT(
           "{\"names\":[\"ioctl\"],\"action\":\"SCMP_ACT_ALLOW\"},"
           "{\"names\":[\"ioctl\"],\"action\":\"SCMP_ACT_ERRNO\",\"args\":[{\"index\":1,"
           "\"value\":4294967295,\"valueTwo\":21522,\"op\":\"SCMP_CMP_MASKED_EQ\"}]}")) == 0 &&
           call3(SYS_ioctl, 0, TIOCGWINSZ, 0) == SECCOMP_RET_ALLOW &&
           call3(SYS_ioctl, 0, TIOCSTI, 0) == PERM &&
           call3(SYS_ioctl, 0, TIOCSTI | 1ull << 32, 0) == PERM,
       "a refusal of one value beside a permission %s", err.text);
    ok(compile(STRICT("{\"names\":[\"personality\"],\"action\":\"SCMP_ACT_ERRNO\"},"
                      "{\"names\":[\"personality\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{"
                      "\"index\":0,\"value\":8,\"op\":\"SCMP_CMP_EQ\"}]}")) == 0 &&
           call3(SYS_personality, 8, 0, 0) == SECCOMP_RET_ALLOW &&
           call3(SYS_personality, 9, 0, 0) == PERM &&
           call3(SYS_personality, 8 | 1ull << 40, 0, 0) == PERM,
       "a permission of one value beside a refusal %s", err.text);
    ok(compile(STRICT("{\"names\":[\"kill\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":["
                      "{\"index\":0,\"value\":5,\"op\":\"SCMP_CMP_GT\"},"
                      "{\"index\":1,\"value\":9,\"op\":\"SCMP_CMP_LE\"}]}")) == 0 &&
           call3(SYS_kill, 6, 9, 0) == SECCOMP_RET_ALLOW && call3(SYS_kill, 6, 10, 0) == NOSYS &&
           call3(SYS_kill, 5, 9, 0) == NOSYS,
       "two arguments: both must hold %s", err.text);
    ok(compile(STRICT("{\"names\":[\"kill\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":["
                      "{\"index\":0,\"value\":5,\"op\":\"SCMP_CMP_EQ\"},"
                      "{\"index\":0,\"value\":7,\"op\":\"SCMP_CMP_EQ\"}]}")) == 0 &&
           call3(SYS_kill, 5, 0, 0) == SECCOMP_RET_ALLOW &&
           call3(SYS_kill, 7, 0, 0) == SECCOMP_RET_ALLOW && call3(SYS_kill, 6, 0, 0) == NOSYS,
       "one argument twice: either will do, as container engines have it %s", err.text);
    ok(compile(STRICT("{\"names\":[\"kill\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":["
                      "{\"index\":2,\"value\":5,\"op\":\"SCMP_CMP_NE\"},"
                      "{\"index\":1,\"value\":3,\"op\":\"SCMP_CMP_LT\"},"
                      "{\"index\":0,\"value\":3,\"op\":\"SCMP_CMP_GE\"}]}")) == 0 &&
           call3(SYS_kill, 3, 2, 6) == SECCOMP_RET_ALLOW && call3(SYS_kill, 3, 2, 5) == NOSYS &&
           call3(SYS_kill, 3, 3, 6) == NOSYS && call3(SYS_kill, 2, 2, 6) == NOSYS,
       "NE, LT, GE %s", err.text);
}

/* What holds of a child: x86-64, no capability, this kernel. */
#define WHEN(w) STRICT("{\"names\":[\"mount\"],\"action\":\"SCMP_ACT_ALLOW\"," w "}")
static void test_filters(void)
{
    static const struct {
        const char *json;
        bool applies;
    } cases[] = {
        {WHEN("\"includes\":{\"caps\":[\"CAP_SYS_ADMIN\"]}"), false},
        {WHEN("\"excludes\":{\"caps\":[\"CAP_SYS_ADMIN\"]}"), true},
        {WHEN("\"includes\":{\"arches\":[\"amd64\",\"x32\"]}"), true},
        {WHEN("\"includes\":{\"arches\":[\"s390\"]}"), false},
        {WHEN("\"excludes\":{\"arches\":[\"s390\"]}"), true},
        {WHEN("\"excludes\":{\"arches\":[\"amd64\"]}"), false},
        {WHEN("\"includes\":{\"minKernel\":\"4.8\"}"), true},
        {WHEN("\"includes\":{\"minKernel\":\"99.0\"}"), false},
        {WHEN("\"excludes\":{\"minKernel\":\"4.8\"}"), false},
        {WHEN("\"includes\":{\"minKernel\":\"4.8\",\"caps\":[\"CAP_BPF\"]}"), false},
        {WHEN("\"includes\":{},\"excludes\":null"), true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        ok(compile(cases[i].json) == 0 &&
               call(SYS_mount) == (cases[i].applies ? SECCOMP_RET_ALLOW : NOSYS),
           "%s: %s %s", strstr(cases[i].json, "cludes") - 2, cases[i].applies ? "yes" : "no",
           err.text);
    ok(compile("{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":1,\"archMap\":[{"
               "\"architecture\":\"SCMP_ARCH_X86_64\",\"subArchitectures\":[\"SCMP_ARCH_X86\"]},{"
               "\"architecture\":\"SCMP_ARCH_RISCV64\",\"subArchitectures\":null}],\"syscalls\":[{"
               "\"name\":\"read\",\"names\":[],\"action\":\"SCMP_ACT_ALLOW\",\"args\":null,"
               "\"comment\":\"\",\"includes\":{},\"excludes\":{}}]}") == 0 &&
           call(SYS_read) == SECCOMP_RET_ALLOW && call(SYS_write) == PERM,
       "the shapes that container engines write %s", err.text);
}

static void test_mistakes(void)
{
    refused("", "line 1: '[' or '{' expected near end of file");
    refused("[]", "profile: expected an object");
    refused("{}", "defaultAction: expected a string");
    refused("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"defaultAction\":\"SCMP_ACT_ALLOW\"}",
            "line 1: duplicate object key near '\"defaultAction\"'");
    refused("{\"defaultaction\":\"SCMP_ACT_ALLOW\"}", "\"defaultaction\": no such member");
    refused("{\"defaultAction\":\"allow\"}",
            "defaultAction: \"allow\": expected SCMP_ACT_ALLOW, _ERRNO, _NOTIFY, _TRAP, _KILL, "
            "_KILL_THREAD or _KILL_PROCESS");
    refused("{\"defaultAction\":\"SCMP_ACT_LOG\"}",
            "defaultAction: \"SCMP_ACT_LOG\": expected SCMP_ACT_ALLOW, _ERRNO, _NOTIFY, _TRAP, "
            "_KILL, _KILL_THREAD or _KILL_PROCESS");
    refused("{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":4096}",
            "errnoRet: expected 0 to 4095");
    refused("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"SCMP_ARCH_AARCH64\"]}",
            "architectures: SCMP_ARCH_X86_64 is not among them");
    refused("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":{}}",
            "syscalls: expected an array");
    refused(RULE("7"), "syscalls[0]: rule: expected an object");
    refused(
        RULE("{\"names\":[\"read\"],\"action\":\"SCMP_ACT_KILL\"},{\"action\":\"SCMP_ACT_KILL\"}"),
        "syscalls[1]: names: expected an array of strings");
    refused(RULE("{\"names\":[7],\"action\":\"SCMP_ACT_KILL\"}"),
            "syscalls[0]: names: expected a string");
    refused(RULE("{\"names\":[\"read\"]}"), "syscalls[0]: action: expected a string");
    refused(RULE("{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ERRNO\",\"arg\":[]}"),
            "syscalls[0]: \"arg\": no such member");
    refused(RULE("{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ERRNO\",\"errno\":\"EFOO\"}"),
            "syscalls[0]: errno: \"EFOO\": no such error");
    refused(RULE("{\"names\":[\"read\"],\"action\":\"SCMP_ACT_KILL\",\"args\":[{\"index\":6,"
                 "\"op\":\"SCMP_CMP_EQ\"}]}"),
            "syscalls[0]: args[0]: index: a system call has arguments 0 to 5");
    refused(RULE("{\"names\":[\"read\"],\"action\":\"SCMP_ACT_KILL\",\"args\":[{\"index\":0,"
                 "\"op\":\"==\"}]}"),
            "syscalls[0]: args[0]: op: \"==\": expected SCMP_CMP_NE, _LT, _LE, _EQ, _GE, _GT or "
            "_MASKED_EQ");
    refused(RULE("{\"names\":[\"read\"],\"action\":\"SCMP_ACT_KILL\",\"args\":[{\"index\":0,"
                 "\"value\":-1,\"op\":\"SCMP_CMP_EQ\"}]}"),
            "syscalls[0]: args[0]: value: expected an integer of 0 or more");
    refused(RULE("{\"names\":[\"read\"],\"action\":\"SCMP_ACT_KILL\",\"includes\":{\"minKernel\":"
                 "\"new\"}}"),
            "syscalls[0]: minKernel: \"new\": expected a version like 4.8");
    refused(RULE("{\"names\":[\"read\"],\"action\":\"SCMP_ACT_KILL\"},{\"names\":[\"read\"],"
                 "\"action\":\"SCMP_ACT_ALLOW\"}"),
            "syscalls[1]: read: an earlier rule gives it another action");
}

static const char *word(long nr)
{
    switch (call(nr)) {
    case SECCOMP_RET_ALLOW:
        return "allowed";
    case PERM:
        return "EPERM";
    case NOSYS:
        return "ENOSYS";
    default:
        return "?";
    }
}

/* The answer to every call with all arguments 0, one a line; those that depend on arguments are
 * tried below. */
static void test_golden(void)
{
    static const char path[] = "t/golden/seccomp-default";
    static char is[32768], wanted[32768], name[POLICY_SYSCALL_NAME_ROOM];
    size_t n = 0, line = 1, bytes;
    const char *json = policy_seccomp_default(&bytes);
    ok(policy_seccomp_compile(json, bytes, bpf, &bpf_len, &err) == 0, "the default profile %s",
       err.text);
    for (long nr = 0; nr < CALLS; nr++) {
        policy_syscall_name((uint32_t)nr, name, sizeof name);
        if (strncmp(name, "syscall_", 8) != 0)
            n += (size_t)snprintf(is + n, sizeof is - n, "%-24s %s\n", name, word(nr));
    }
    const char *mode = getenv("GOLDEN");
    auto_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (mode && strcmp(mode, "write") == 0 && (ftruncate(fd, 0) < 0 || fd_write_all(fd, is, n) < 0))
        die(1, "%s: %s", path, strerror(errno));
    ssize_t got = pread(fd, wanted, sizeof wanted - 1, 0);
    size_t same = 0;
    for (; got > 0 && same < n && is[same] == wanted[same]; same++)
        line += is[same] == '\n';
    ok(got == (ssize_t)n && same == n, "%s, from line %zu on", path, line);
    for (long nr = CALLS; nr < 2000; nr++)
        if (call(nr) != NOSYS)
            ok(0, "call %ld is not known and not ENOSYS", nr);
}

static void test_default_arguments(void)
{
    static const uint64_t namespaces[] = {CLONE_NEWNS,  CLONE_NEWCGROUP, CLONE_NEWUTS,
                                          CLONE_NEWIPC, CLONE_NEWUSER,   CLONE_NEWPID,
                                          CLONE_NEWNET};
    for (size_t i = 0; i < ARRAY_LEN(namespaces); i++)
        ok(call3(SYS_clone, namespaces[i] | 17, 0, 0) == PERM &&
               call3(SYS_clone, namespaces[i] | CLONE_VM | 1ull << 35, 0, 0) == PERM,
           "clone with 0x%llx", (unsigned long long)namespaces[i]);
    ok(call3(SYS_clone, 0x3d0f00, 0, 0) == SECCOMP_RET_ALLOW, "clone of a thread");
    ok(call3(SYS_clone, 0x1200011, 0, 0) == SECCOMP_RET_ALLOW, "clone of a process");
    ok(call3(SYS_ioctl, 0, TIOCSTI, 0) == PERM && call3(SYS_ioctl, 0, 0x541c, 0) == PERM &&
           call3(SYS_ioctl, 0, 0xffffffff00000000 | TIOCSTI, 0) == PERM &&
           call3(SYS_ioctl, 0, TIOCGWINSZ, 0) == SECCOMP_RET_ALLOW &&
           call3(SYS_ioctl, 0, 0xffffffff80045430, 0) == SECCOMP_RET_ALLOW,
       "ioctl");
    ok(call3(SYS_personality, 0xffffffff, 0, 0) == SECCOMP_RET_ALLOW &&
           call3(SYS_personality, UINT64_MAX, 0, 0) == SECCOMP_RET_ALLOW &&
           call3(SYS_personality, 0x40000, 0, 0) == PERM,
       "personality");
    ok(call3(SYS_socket, 1, 1, 0) == SECCOMP_RET_ALLOW &&
           call3(SYS_socket, 2, 1, 6) == SECCOMP_RET_ALLOW &&
           call3(SYS_socket, 10, 2, 0) == SECCOMP_RET_ALLOW &&
           call3(SYS_socket, 16, 3, 0) == SECCOMP_RET_ALLOW,
       "sockets that there are");
    ok(call3(SYS_socket, 16, 3, 12) == PERM && call3(SYS_socket, 17, 3, 768) == PERM &&
           call3(SYS_socket, 38, 5, 0) == PERM && call3(SYS_socket, 40, 1, 0) == PERM &&
           call3(SYS_socket, 1ull << 32 | 40, 1, 0) == PERM,
       "netfilter, packet, alg, vsock");
    ok(call3(SYS_socketpair, 1, 1, 0) == SECCOMP_RET_ALLOW &&
           call3(SYS_socketpair, 30, 1, 0) == PERM,
       "socketpair");
}

int main(void)
{
    test_actions();
    test_entries();
    test_arguments();
    test_filters();
    test_mistakes();
    test_golden();
    test_default_arguments();
    return tap_done();
}
