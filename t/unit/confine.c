/* SPDX-License-Identifier: Apache-2.0 */
/* t/unit/confine - whoever owns engine, frontend or courier: each attack works in a free process
 * (or the test would prove nothing) and fails in a confined one, what it holds still works, and a
 * process whose list is too generous does not start.
 */
#include "lib/confine.h"
#include "lib/err.h"
#include "lib/tap.h"
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#ifdef __SANITIZE_ADDRESS__
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0"; /* the checker traces threads of its own */
}
#endif

static const int calls[] = {SCMP_SYS(memfd_create)};

/* What a process with a directory of its own has besides. */
static const int directory_calls[] = {
    SCMP_SYS(fstat),     SCMP_SYS(pread64),   SCMP_SYS(pwrite64), SCMP_SYS(fsync),
    SCMP_SYS(fdatasync), SCMP_SYS(ftruncate), SCMP_SYS(renameat), SCMP_SYS(unlinkat),
};

static int dir_fd, beside_fd; /* its own; and one of the same user that is not */
static char dir_path[64], beside_path[64];
static int root_fd, listener, peer; /* held across; `peer` is a process of the same user */
static struct sockaddr_in addr = {.sin_family = AF_INET};
static char path[64];

/* ---- the attacks: true is success -------------------------------------------------------------
 */

static bool read_file(void)
{
    return open("/etc/passwd", O_RDONLY) >= 0;
}

static bool read_beneath_a_directory(void)
{
    return openat(root_fd, "etc/passwd", O_RDONLY) >= 0;
}

static bool look_at_file(void)
{
    struct stat st;
    return stat("/etc/passwd", &st) == 0;
}

static bool write_own_memory_file(void)
{
    return open("/proc/self/mem", O_RDWR) >= 0;
}

static bool make_file(void)
{
    int fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    return fd >= 0;
}

/* ---- with a directory ---- */

static bool climb_out(void)
{
    return openat(dir_fd, "../../etc/passwd", O_RDONLY) >= 0;
}

static bool follow_a_link_out(void)
{
    return openat(dir_fd, "link", O_RDONLY) >= 0;
}

static bool open_beside(void)
{
    return openat(beside_fd, "file", O_RDONLY) >= 0;
}

static bool write_beside(void)
{
    return openat(beside_fd, "file", O_WRONLY) >= 0;
}

static bool make_beside(void)
{
    return openat(beside_fd, "made", O_WRONLY | O_CREAT, 0600) >= 0;
}

static bool remove_beside(void)
{
    return unlinkat(beside_fd, "removed", 0) == 0;
}

static bool rename_out(void)
{
    return renameat(dir_fd, "out", beside_fd, "out") == 0;
}

static bool rename_in(void)
{
    return renameat(beside_fd, "in", dir_fd, "in") == 0;
}

static bool see_a_file(void)
{
    return openat(dir_fd, "/etc/passwd", O_PATH) >= 0;
}

static bool make_a_link(void)
{
    (void)unlinkat(dir_fd, "made-link", 0);
    return symlinkat("/etc/passwd", dir_fd, "made-link") == 0;
}

static bool make_a_directory(void)
{
    (void)unlinkat(dir_fd, "made-dir", AT_REMOVEDIR);
    return mkdirat(dir_fd, "made-dir", 0700) == 0;
}

static bool run_a_file(void)
{
    char *argv[] = {(char[]){"true"}, NULL}, *env[] = {NULL};
    (void)syscall(SYS_execveat, dir_fd, "program", argv, env, 0);
    return false;
}

static bool connect_tcp(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0;
}

static bool connect_unix(void)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    (void)snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
    return fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0;
}

static bool listen_tcp(void)
{
    struct sockaddr_in any = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return fd >= 0 && bind(fd, (struct sockaddr *)&any, sizeof any) == 0 && listen(fd, 1) == 0;
}

static bool start_process(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    return pid > 0;
}

static bool exec_program(void)
{
    char *argv[] = {(char[]){"true"}, NULL};
    (void)execv("/bin/true", argv); /* exit status 0, as success here */
    return false;
}

static bool exec_memory(void)
{
    static const char script[] = "#!/bin/true\n";
    char *argv[] = {(char[]){"x"}, NULL}, *env[] = {NULL};
    int fd = memfd_create("x", 0);
    (void)!write(fd, script, sizeof script - 1);
    (void)syscall(SYS_execveat, fd, "", argv, env, AT_EMPTY_PATH);
    return false;
}

static bool run_written_memory(void)
{
    static const unsigned char ret[] = {0xc3};
    void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return false;
    memcpy(at, ret, sizeof ret);
    return mprotect(at, 4096, PROT_READ | PROT_EXEC) == 0;
}

static bool map_executable(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                0) != MAP_FAILED;
}

static bool kill_peer(void)
{
    return kill(peer, 0) == 0;
}

static bool hold_peer(void)
{
    return syscall(SYS_pidfd_open, peer, 0) >= 0;
}

static bool trace_peer(void)
{
    return ptrace(PTRACE_SEIZE, peer, 0, 0) == 0;
}

static bool limit_peer(void)
{
    struct rlimit lim;
    return prlimit(peer, RLIMIT_NOFILE, NULL, &lim) == 0;
}

static bool be_dumped(void)
{
    return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0;
}

static bool make_namespace(void)
{
    return unshare(CLONE_NEWUSER) == 0;
}

static bool change_id(void)
{
    return setresuid((uid_t)-1, getuid(), (uid_t)-1) == 0;
}

static const struct {
    const char *what;
    bool (*try)(void);
    bool may_be_refused; /* to a free process, on this machine */
} attacks[] = {
    {"read a file", read_file, false},
    {"read a file below a directory it holds", read_beneath_a_directory, false},
    {"look at a file", look_at_file, false},
    {"write its own memory through a file", write_own_memory_file, false},
    {"make a file", make_file, false},
    {"connect over TCP", connect_tcp, false},
    {"connect to a Unix socket", connect_unix, false},
    {"listen on a TCP port", listen_tcp, false},
    {"start a process", start_process, false},
    {"run a program", exec_program, false},
    {"run a program from memory", exec_memory, true},
    {"make written memory executable", run_written_memory, false},
    {"map executable memory", map_executable, false},
    {"signal another process", kill_peer, false},
    {"hold another process", hold_peer, false},
    {"trace another process", trace_peer, true},
    {"read another process's limits", limit_peer, false},
    {"become dumpable", be_dumped, false},
    {"make a user namespace", make_namespace, true},
    {"change its user", change_id, false},
};

static const struct {
    const char *what;
    bool (*try)(void);
    bool may_be_refused;
} directory_attacks[] = {
    {"climb out of its directory", climb_out, false},
    {"follow a link out of it", follow_a_link_out, false},
    {"read a file beside it", open_beside, false},
    {"write a file beside it", write_beside, false},
    {"make a file beside it", make_beside, false},
    {"remove a file beside it", remove_beside, false},
    {"rename a file out of it", rename_out, false},
    {"rename a file into it", rename_in, false},
    {"see a file", see_a_file, false},
    {"make a link in it", make_a_link, false},
    {"make a directory in it", make_a_directory, false},
    {"run a file in it", run_a_file, false},
};

static bool with_directory;
static uint16_t with_port; /* it may connect there */
static const char *may_read[] = {NULL, NULL};

/* 1: the attack succeeded, 0: it did not, -1: there was no attack. */
static int attack(bool (*try)(void), bool confined)
{
    int all[ARRAY_LEN(calls) + ARRAY_LEN(directory_calls)];
    struct confine_plan plan = {.calls = all, .call_count = ARRAY_LEN(calls)};
    struct err err;
    int status;
    memcpy(all, calls, sizeof calls);
    memcpy(all + ARRAY_LEN(calls), directory_calls, sizeof directory_calls);
    if (with_directory) {
        plan.call_count = ARRAY_LEN(all);
        plan.dir_fd = dir_fd;
    }
    if (with_port) {
        plan.connects = true;
        plan.ports = &with_port;
        plan.port_count = 1;
        plan.read_files = may_read;
    }
    pid_t pid = fork();
    if (pid == 0) {
        if (confined && confine_self(&plan, &err) < 0)
            _exit(2);
        _exit(try() ? 0 : 1);
    }
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status) == 0 ? 1 : WEXITSTATUS(status) == 1 ? 0 : -1;
}

static void prepare(void)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    socklen_t len = sizeof addr;
    int local = socket(AF_UNIX, SOCK_STREAM, 0);
    root_fd = open("/", O_RDONLY | O_DIRECTORY);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    (void)snprintf(path, sizeof path, "/tmp/brood-confine-%d.sock", (int)getpid());
    (void)snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    peer = fork();
    if (peer == 0)
        (void)pause();
    ok(root_fd >= 0 && bind(listener, (struct sockaddr *)&addr, sizeof addr) == 0 &&
           listen(listener, 64) == 0 &&
           getsockname(listener, (struct sockaddr *)&addr, &len) == 0 &&
           bind(local, (struct sockaddr *)&at, sizeof at) == 0 && listen(local, 64) == 0 &&
           peer > 0,
       "there is something to attack");
}

static bool use_what_it_holds(void)
{
    int fd = memfd_create("x", 0);
    char byte = 'x';
    return fd >= 0 && write(fd, &byte, 1) == 1 && malloc(1 << 20) && getpid() > 0;
}

static void prepare_directories(void)
{
    static const char *const beside[] = {"file", "removed", "in"};
    (void)snprintf(dir_path, sizeof dir_path, "/tmp/brood-confine-%d.own", (int)getpid());
    (void)snprintf(beside_path, sizeof beside_path, "/tmp/brood-confine-%d.beside", (int)getpid());
    (void)mkdir(dir_path, 0700);
    (void)mkdir(beside_path, 0700);
    dir_fd = open(dir_path, O_RDONLY | O_DIRECTORY);
    beside_fd = open(beside_path, O_RDONLY | O_DIRECTORY);
    for (size_t i = 0; i < ARRAY_LEN(beside); i++)
        (void)close(openat(beside_fd, beside[i], O_WRONLY | O_CREAT, 0600));
    (void)close(openat(dir_fd, "out", O_WRONLY | O_CREAT, 0600));
    ok(symlinkat("/etc/passwd", dir_fd, "link") == 0 &&
           symlinkat("/bin/true", dir_fd, "program") == 0,
       "there are directories");
}

/* What an attack took away, for the next one. */
static void restore(void)
{
    (void)close(openat(beside_fd, "removed", O_WRONLY | O_CREAT, 0600));
    (void)close(openat(beside_fd, "in", O_WRONLY | O_CREAT, 0600));
    (void)close(openat(dir_fd, "out", O_WRONLY | O_CREAT, 0600));
}

static bool use_its_directory(void)
{
    struct stat st;
    char byte = 'x';
    int fd = openat(dir_fd, "new", O_RDWR | O_CREAT | O_TRUNC, 0600);
    int list = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY);
    return fd >= 0 && list >= 0 && pwrite(fd, &byte, 1, 0) == 1 && pread(fd, &byte, 1, 0) == 1 &&
           syscall(SYS_fstat, fd, &st) == 0 && fsync(fd) == 0 && ftruncate(fd, 0) == 0 &&
           renameat(dir_fd, "new", dir_fd, "named") == 0 && fsync(list) == 0 &&
           unlinkat(dir_fd, "named", 0) == 0;
}

static void test_directory(void)
{
    prepare_directories();
    with_directory = true;
    ok(attack(use_what_it_holds, true) == 1, "with a directory: it can use what it holds");
    ok(attack(use_its_directory, true) == 1, "and its directory");
    for (size_t i = 0; i < ARRAY_LEN(directory_attacks); i++) {
        restore();
        int free_ = attack(directory_attacks[i].try, false);
        restore();
        int confined = attack(directory_attacks[i].try, true);
        ok((free_ == 1 || directory_attacks[i].may_be_refused) && confined == 0,
           "%s: a free process can, a confined one cannot", directory_attacks[i].what);
    }
    for (size_t i = 0; i < ARRAY_LEN(attacks); i++)
        ok(attack(attacks[i].try, true) == 0, "%s: still not", attacks[i].what);
    with_directory = false;
}

/* ---- with ports and files to read ---- */

static bool read_its_file(void)
{
    char byte;
    int fd = open(may_read[0], O_RDONLY);
    return fd >= 0 && read(fd, &byte, 1) == 1;
}

static bool write_its_file(void)
{
    return open(may_read[0], O_WRONLY) >= 0;
}

static bool connect_by_sending(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return fd >= 0 && sendto(fd, "x", 1, MSG_FASTOPEN, (struct sockaddr *)&addr, sizeof addr) == 1;
}

static bool make_raw_packets(void)
{
    return socket(AF_PACKET, SOCK_DGRAM, 0) >= 0 || socket(AF_NETLINK, SOCK_RAW, 0) >= 0;
}

static bool has_landlock_for_ports(void)
{
    return syscall(444 /* landlock_create_ruleset */, NULL, 0, 1u) >= 4;
}

static void test_ports(void)
{
    static char file[64];
    uint16_t right = ntohs(addr.sin_port);
    (void)snprintf(file, sizeof file, "/tmp/brood-confine-%d.read", (int)getpid());
    int fd = open(file, O_WRONLY | O_CREAT, 0600);
    ok(fd >= 0 && write(fd, "x", 1) == 1, "there is a file");
    may_read[0] = file;
    with_port = right;
    ok(attack(connect_tcp, true) == 1, "with a port: it can connect there");
    ok(attack(read_its_file, true) == 1, "and read its file");
    ok(attack(write_its_file, false) == 1 && attack(write_its_file, true) == 0, "not write it");
    ok(attack(make_raw_packets, true) == 0, "nor make other sockets");
    ok(attack(connect_by_sending, true) == 0, "nor connect by sending");
    with_port = right == 9 ? 10 : 9;
    ok(attack(connect_tcp, true) == !has_landlock_for_ports(), "to no other port");
    for (size_t i = 0; i < ARRAY_LEN(attacks); i++)
        if (attacks[i].try != connect_tcp)
            ok(attack(attacks[i].try, true) == 0, "%s: not with a port either", attacks[i].what);
    with_port = 0;
    (void)unlink(file);
}

static void remove_directories(void)
{
    static const char *const names[] = {"file",      "removed",  "in",      "out", "made", "link",
                                        "made-link", "made-dir", "program", "new", "named"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        (void)unlinkat(dir_fd, names[i], strcmp(names[i], "made-dir") ? 0 : AT_REMOVEDIR);
        (void)unlinkat(beside_fd, names[i], 0);
    }
    (void)rmdir(dir_path);
    (void)rmdir(beside_path);
}

/* As another user, where we can: that is what engine and frontend are. */
static void become_nobody(void)
{
    if (geteuid() == 0 &&
        (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0))
        _exit(3);
    (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* lost by setresuid: the attacks have their chance */
}

/* What confine_self() says to a list with one call too many. */
static void test_too_generous(int call, const char *what)
{
    int more[ARRAY_LEN(calls) + 1];
    char text[240] = "";
    int report[2];
    memcpy(more, calls, sizeof calls);
    more[ARRAY_LEN(calls)] = call;
    const struct confine_plan plan = {.calls = more, .call_count = ARRAY_LEN(more)};
    if (pipe(report) < 0)
        return;
    pid_t pid = fork();
    if (pid == 0) {
        struct err err = {0};
        int r = confine_self(&plan, &err);
        (void)!write(report[1], err.text, strlen(err.text));
        _exit(r < 0 ? 1 : 0);
    }
    int status = 0;
    (void)waitpid(pid, &status, 0);
    (void)close(report[1]);
    (void)!read(report[0], text, sizeof text - 1);
    ok(WIFEXITED(status) && WEXITSTATUS(status) == 1 && strstr(text, "could still"),
       "with %s in its list it does not start: %s", what, text);
}

int main(void)
{
    (void)setvbuf(stdout, NULL, _IOLBF, 0); /* nothing is buffered across a fork */
    become_nobody();
    prepare();
    ok(attack(use_what_it_holds, true) == 1, "a confined process can use what it holds");
    for (size_t i = 0; i < ARRAY_LEN(attacks); i++) {
        int free_ = attack(attacks[i].try, false), confined = attack(attacks[i].try, true);
        ok((free_ == 1 || attacks[i].may_be_refused) && confined == 0,
           "%s: a free process can%s, a confined one cannot", attacks[i].what,
           free_ == 1 ? "" : "not either");
    }
    test_directory();
    test_ports();
    remove_directories();
    test_too_generous(SCMP_SYS(socket), "socket()");
    test_too_generous(SCMP_SYS(execve), "execve()");
    test_too_generous(SCMP_SYS(ptrace), "ptrace()");
    test_too_generous(SCMP_SYS(io_uring_setup), "io_uring_setup()");
    (void)kill(peer, SIGKILL);
    (void)unlink(path);
    return tap_done();
}
