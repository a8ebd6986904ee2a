/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/probe - the attacker's questions, asked at every start from the place of a run.
 *
 * Runs in a child of a throw-away zygote, behind all that child.c does for a run: uid 1000, all
 * kernel namespaces, cgroups, landlock, seccomp, rlimits. Nothing here reads a version or believes
 * a return value of the set-up; each question tries what its layer is there to refuse, or reads
 * back from the kernel what cannot be tried without harm. An attempt that succeeds is undone as far
 * as it can be. What is left in the volume goes with it.
 *
 * What is asked fits the policy of that zygote: what its own rights, profile or network allow is no
 * question. Where two layers refuse the same thing, the question is put so that only one of them
 * can: a broken layer must not hide behind the next one. After fork: raw calls, no malloc.
 */
#include "lib/fd.h"
#include "zygote/zyg.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <linux/landlock.h>
#include <linux/magic.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#define LANDLOCK_DOMAINS_MAX 16 /* LANDLOCK_MAX_NUM_LAYERS of the kernel */
#define LANDLOCK_DOMAINS_OF_SCOPE 1
#define SILENCE_MS 3500 /* a refusal that is lost comes with the next SYN */
#define REPLY_MS 100    /* so does a reply of the host */
#define SCRATCH "/tmp/.probe"

static struct zyg_probe_ask ask;
static bool exec_follows;

struct finding {
    enum zyg_probe_state state;
    char detail[sizeof((struct zyg_probe_answer *)0)->detail];
};

PRINTF_LIKE(2, 3) static struct finding say(enum zyg_probe_state state, const char *fmt, ...)
{
    struct finding f = {.state = state};
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(f.detail, sizeof f.detail, fmt, ap);
    va_end(ap);
    return f;
}

/* Of an attempt that must fail: what the call returned, errno still being its own. */
static struct finding must_fail(long r)
{
    return r < 0 ? say(ZYG_HELD, "%s", strerrorname_np(errno)) : say(ZYG_BROKEN, "it works");
}

static struct finding must_not_open(const char *path, int flags)
{
    auto_close int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK, 0600);
    return must_fail(fd);
}

/* The file's beginning as text; false: it cannot be read. */
static bool read_text(const char *path, char *text, size_t room)
{
    auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, room - 1);
    text[n > 0 ? n : 0] = 0;
    return n >= 0;
}

/* Calls visit for each name; the first that it refuses (true) is copied to ret. */
static bool find_entry(const char *path, bool (*visit)(const char *name, int dir_fd), char *ret,
                       size_t room)
{
    char bytes[4096];
    auto_close int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (long n; dir >= 0 && (n = syscall(SYS_getdents64, dir, bytes, sizeof bytes)) > 0;)
        for (long at = 0; at < n;) {
            const struct dirent64 *e = (const void *)(bytes + at);
            at += e->d_reclen;
            if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
                !visit(e->d_name, dir))
                continue;
            (void)snprintf(ret, room, "%s", e->d_name);
            return true;
        }
    return false;
}

/* ---- kernel namespaces -------------------------------------------------------------------------
 */

static struct finding compare_ns(int kind, const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return say(ZYG_BROKEN, "%s: %s", path, strerrorname_np(errno));
    if (!ask.host_ns[kind])
        return say(ZYG_ABSENT, "the host's is not known");
    return st.st_ino == ask.host_ns[kind] ? say(ZYG_BROKEN, "it is the host's")
                                          : say(ZYG_HELD, "its own");
}

#define NS_QUESTION(name, kind, path)                                                              \
    static struct finding name(void)                                                               \
    {                                                                                              \
        return compare_ns(kind, path);                                                             \
    }
NS_QUESTION(share_userns, ZYG_NS_USER, "/proc/self/ns/user")
NS_QUESTION(share_mntns, ZYG_NS_MNT, "/proc/self/ns/mnt")
NS_QUESTION(share_pidns, ZYG_NS_PID, "/proc/self/ns/pid")
NS_QUESTION(share_netns, ZYG_NS_NET, "/proc/self/ns/net")
NS_QUESTION(share_ipcns, ZYG_NS_IPC, "/proc/self/ns/ipc")
NS_QUESTION(share_utsns, ZYG_NS_UTS, "/proc/self/ns/uts")
NS_QUESTION(share_cgroupns, ZYG_NS_CGROUP, "/proc/self/ns/cgroup")

static struct finding be_a_host_user(void)
{
    static const char *const maps[] = {"/proc/self/uid_map", "/proc/self/gid_map"};
    char text[256];
    for (size_t i = 0; i < ARRAY_LEN(maps); i++) {
        unsigned long inside = 0, outside = 0, count = 0;
        if (!read_text(maps[i], text, sizeof text) ||
            sscanf(text, "%lu %lu %lu", &inside, &outside, &count) != 3)
            return say(ZYG_BROKEN, "%s cannot be read", maps[i]);
        if (inside != 0 || outside < ZYG_UIDS_PER_SLOT || count > ZYG_UIDS_PER_SLOT ||
            strchr(text, '\n') != text + strlen(text) - 1)
            return say(ZYG_BROKEN, "%lu of the host's from %lu on", count, outside);
    }
    return say(ZYG_HELD, "a range of its own");
}

static struct finding make_userns(void)
{
    long pid = syscall(SYS_clone, (unsigned long)(CLONE_NEWUSER | SIGCHLD), 0, 0, 0, 0);
    int error = errno;
    if (pid == 0)
        _exit(0);
    if (pid > 0)
        (void)waitpid((pid_t)pid, NULL, 0);
    errno = error;
    return must_fail(pid);
}

static struct finding read_shadow(void)
{
    return must_not_open("/etc/shadow", O_RDONLY);
}

static struct finding enter_root_of_1(void)
{
    return must_not_open("/proc/1/root", O_PATH);
}

static struct finding mount_something(void)
{
    return must_fail(mount("probe", ZYG_HOME, "tmpfs", 0, NULL));
}

static bool is_foreign_pid(const char *name, int dir_fd)
{
    (void)dir_fd;
    return name[strspn(name, "0123456789")] == 0 && strtol(name, NULL, 10) != getpid();
}

static struct finding see_a_pid(void)
{
    char name[32];
    return find_entry("/proc", is_foreign_pid, name, sizeof name) ? say(ZYG_BROKEN, "pid %s", name)
                                                                  : say(ZYG_HELD, "none");
}

static struct finding signal_pid_1(void)
{
    return must_fail(kill(1, 0));
}

static struct finding trace_pid_1(void)
{
    return must_fail(ptrace(PTRACE_ATTACH, 1, NULL, NULL));
}

/* Of a datagram socket connect() only looks for a route. */
static struct finding connect_out(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
    struct sockaddr_in6 to6 = {.sin6_family = AF_INET6, .sin6_port = htons(9)};
    to.sin_addr.s_addr = htonl(0xc0000201); /* 192.0.2.1, RFC 5737 */
    to6.sin6_addr.s6_addr[0] = 0x20;        /* 2001:db8::1, RFC 3849 */
    to6.sin6_addr.s6_addr[1] = 0x01;
    to6.sin6_addr.s6_addr[2] = 0x0d;
    to6.sin6_addr.s6_addr[3] = 0xb8;
    to6.sin6_addr.s6_addr[15] = 1;
    if (ask.network)
        return say(ZYG_ABSENT, "the network mode allows it");
    auto_close int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    auto_close int sock6 = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sock6 >= 0 && connect(sock6, (struct sockaddr *)&to6, sizeof to6) == 0)
        return say(ZYG_BROKEN, "there is a route to 2001:db8::1");
    if (sock < 0)
        return must_fail(sock);
    return must_fail(connect(sock, (struct sockaddr *)&to, sizeof to));
}

static struct finding list_interfaces(void)
{
    struct ifreq found[8] = {0};
    struct ifconf conf = {.ifc_len = sizeof found, .ifc_ifcu.ifcu_req = found};
    auto_close int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sock < 0 || ioctl(sock, SIOCGIFCONF, &conf) < 0)
        return say(ZYG_HELD, "%s", strerrorname_np(errno));
    for (size_t i = 0; i < (size_t)conf.ifc_len / sizeof found[0]; i++)
        if (strcmp(found[i].ifr_name, "lo") != 0 &&
            !(ask.network && strcmp(found[i].ifr_name, POLICY_NET_DEVICE) == 0))
            return say(ZYG_BROKEN, "%.*s", IFNAMSIZ, found[i].ifr_name);
    return say(ZYG_HELD, "none but its own");
}

/* With a time to live that ends on this host a reset can only be brood's, and nothing gets farther:
 * what is let out is "unreachable", or silence. */
static struct finding reach_unlisted(void)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(ask.closed_address)};
    int one = 1;
    if (!ask.network)
        return say(ZYG_ABSENT, "no network");
    if (!ask.closed_address)
        return say(ZYG_ABSENT, "the policy lists all of them");
    if (ask.refused & (ZYG_CALL_SOCKET | ZYG_CALL_CONNECT | ZYG_CALL_SETSOCKOPT))
        return say(ZYG_ABSENT, "its profile refuses what it takes to ask");
    auto_close int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (sock < 0 || setsockopt(sock, IPPROTO_IP, IP_TTL, &one, sizeof one) < 0)
        return say(ZYG_BROKEN, "cannot be asked: %s", strerrorname_np(errno));
    if (connect(sock, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS)
        return errno == EACCES ? say(ZYG_ABSENT, "landlock refuses it first")
                               : say(ZYG_HELD, "%s", strerrorname_np(errno));
    if (poll(&(struct pollfd){.fd = sock, .events = POLLOUT}, 1, SILENCE_MS) != 1)
        return say(ZYG_BROKEN, "no refusal came");
    if (connect(sock, (struct sockaddr *)&to, sizeof to) == 0 || errno != ECONNREFUSED)
        return say(ZYG_BROKEN, "it was let out");
    return say(ZYG_HELD, "refused");
}

/* What came back for a datagram: "nobody listens" was said by the host itself, "prohibited" by
 * brood's rules. The kernel sends few of either, so silence is no answer to have. */
static struct finding read_reply(int sock)
{
    char control[256];
    struct msghdr msg = {.msg_control = control, .msg_controllen = sizeof control};
    struct pollfd p = {.fd = sock};
    if (poll(&p, 1, REPLY_MS) != 1 || recvmsg(sock, &msg, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
        return say(ZYG_HELD, "silence");
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
        struct sock_extended_err e;
        if (c->cmsg_level != IPPROTO_IP || c->cmsg_type != IP_RECVERR)
            continue;
        memcpy(&e, CMSG_DATA(c), sizeof e);
        if (e.ee_origin == SO_EE_ORIGIN_ICMP && e.ee_type == ICMP_DEST_UNREACH &&
            e.ee_code == ICMP_PORT_UNREACH)
            return say(ZYG_BROKEN, "it says that nobody listens");
    }
    return say(ZYG_HELD, "prohibited");
}

/* The host's end of the link: our address without its last bit (net/net.h). */
static struct finding reach_host(void)
{
    const uint32_t means = ZYG_CALL_SOCKET | ZYG_CALL_CONNECT | ZYG_CALL_SENDTO | ZYG_CALL_RECVMSG |
                           ZYG_CALL_SETSOCKOPT;
    struct ifreq own = {.ifr_name = POLICY_NET_DEVICE};
    struct sockaddr_in addr;
    int one = 1;
    if (!ask.network)
        return say(ZYG_ABSENT, "no network");
    if (ask.refused & means)
        return say(ZYG_ABSENT, "its profile refuses what it takes to ask");
    auto_close int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sock < 0 || ioctl(sock, SIOCGIFADDR, &own) < 0)
        return say(ZYG_BROKEN, "its address cannot be read: %s", strerrorname_np(errno));
    memcpy(&addr, &own.ifr_addr, sizeof addr);
    addr.sin_port = htons(9);
    addr.sin_addr.s_addr &= htonl(~1u);
    if (setsockopt(sock, IPPROTO_IP, IP_RECVERR, &one, sizeof one) < 0 ||
        connect(sock, (struct sockaddr *)&addr, sizeof addr) < 0 || send(sock, "probe", 5, 0) < 0)
        return say(ZYG_HELD, "%s", strerrorname_np(errno));
    return read_reply(sock);
}

static struct finding sniff(void)
{
    auto_close int sock = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    return must_fail(sock);
}

static struct finding see_shm(void)
{
    char text[1024];
    if (!read_text("/proc/sysvipc/shm", text, sizeof text))
        return say(ZYG_HELD, "%s", strerrorname_np(errno));
    const char *second = strchr(text, '\n');
    return second && second[1] ? say(ZYG_BROKEN, "a segment is there") : say(ZYG_HELD, "none");
}

static struct finding make_queue(void)
{
    long queue = syscall(SYS_mq_open, "brood-probe", O_RDWR | O_CREAT, 0600, NULL);
    struct finding f = must_fail(queue);
    if (queue >= 0) {
        (void)close((int)queue);
        (void)syscall(SYS_mq_unlink, "brood-probe");
    }
    return f;
}

static struct finding rename_host(void)
{
    return must_fail(sethostname("probe", 5));
}

static struct finding see_cgroups(void)
{
    char text[2048];
    if (!read_text("/proc/self/cgroup", text, sizeof text))
        return say(ZYG_HELD, "%s", strerrorname_np(errno));
    for (char *line = text, *next; *line; line = next) {
        next = strchr(line, '\n');
        next = next ? next + 1 : line + strlen(line);
        char *path = memchr(line, '/', (size_t)(next - line));
        if (path && path + 1 < next && path[1] != '\n')
            return say(ZYG_BROKEN, "%.*s", (int)(next - 1 - path), path);
    }
    return say(ZYG_HELD, "/ only");
}

/* ---- landlock ----------------------------------------------------------------------------------
 */

/* The one device node that needs no capability (0:0, Linux 5.8), so that landlock alone refuses it:
 * without it the answer would be success, or EPERM. Older kernels (seen: 6.1) take it for a plain
 * file, which is allowed: there the last questions have to do. */
static struct finding make_device(void)
{
    if (!(ask.rights & POLICY_FILES))
        return say(ZYG_ABSENT, "off by policy");
    if (ask.refused & ZYG_CALL_MKNOD)
        return say(ZYG_ABSENT, "its profile refuses mknod");
    int r = mknod(SCRATCH, S_IFCHR | 0600, makedev(0, 0));
    if (r == 0) {
        (void)unlink(SCRATCH);
        return ask.landlock_abi < POLICY_LANDLOCK_ABI_SCOPE
                   ? say(ZYG_HELD, "a plain file to this kernel")
                   : say(ZYG_BROKEN, "it works");
    }
    return errno == EACCES ? say(ZYG_HELD, "EACCES")
                           : say(ZYG_BROKEN, "%s, which is not landlock's", strerrorname_np(errno));
}

/* Of a call that only landlock can answer with EACCES. */
static struct finding must_be_landlocks(long r)
{
    if (r == 0)
        return say(ZYG_BROKEN, "it works");
    return errno == EACCES ? say(ZYG_HELD, "EACCES")
                           : say(ZYG_BROKEN, "%s, which is not landlock's", strerrorname_np(errno));
}

static struct finding try_tcp(uint32_t right, uint32_t means, uint32_t port, long call)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (ask.landlock_abi < POLICY_LANDLOCK_ABI_NET)
        return say(ZYG_ABSENT, "ABI %u, %u is needed", ask.landlock_abi, POLICY_LANDLOCK_ABI_NET);
    if (!(ask.rights & right))
        return say(ZYG_ABSENT, "off by policy");
    if (ask.refused & (means | ZYG_CALL_SOCKET))
        return say(ZYG_ABSENT, "its profile refuses what it takes to ask");
    auto_close int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (sock < 0)
        return say(ZYG_ABSENT, "no socket: %s", strerrorname_np(errno));
    return must_be_landlocks(syscall(call, sock, &addr, sizeof addr));
}

static struct finding bind_tcp(void)
{
    return try_tcp(POLICY_TCP_BIND, ZYG_CALL_BIND, ask.closed_port, SYS_bind);
}

static struct finding connect_tcp(void)
{
    return try_tcp(POLICY_TCP_CONNECT, ZYG_CALL_CONNECT, ask.closed_connect, SYS_connect);
}

/* How many domains lie around us: found by adding to them until the kernel takes no more, once and
 * last, since every other question must meet the domains of a run. -1: cannot be asked. */
static int domains_around(void)
{
    static int around = -2;
    uint64_t attr[3] = {LANDLOCK_ACCESS_FS_MAKE_BLOCK}; /* which nobody has anyway */
    if (around > -2)
        return around;
    auto_close int ruleset = (int)syscall(SYS_landlock_create_ruleset, attr, sizeof attr[0], 0);
    around = ruleset < 0 ? -1 : LANDLOCK_DOMAINS_MAX;
    while (around > 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) == 0)
        around--;
    return around;
}

static struct finding find_domains(int want)
{
    int around = domains_around();
    if (around < 0)
        return say(ZYG_BROKEN, "cannot be asked: %s", strerrorname_np(errno));
    return around >= want ? say(ZYG_HELD, "%d domains", around)
                          : say(ZYG_BROKEN, "%d of %d domains", around, want);
}

static bool has_rules(void)
{
    return ask.rights & (POLICY_FILES | POLICY_TCP_BIND | POLICY_TCP_CONNECT);
}

static struct finding leave_domain(void)
{
    return has_rules() ? find_domains(1) : say(ZYG_ABSENT, "off by policy");
}

/* Signals to others are refused by uid already, and there is nobody to call. */
static struct finding leave_scope(void)
{
    if (!(ask.rights & POLICY_SIGNALS))
        return say(ZYG_ABSENT, "off by policy");
    if (ask.landlock_abi < POLICY_LANDLOCK_ABI_SCOPE)
        return say(ZYG_ABSENT, "ABI %u, 6 is needed", ask.landlock_abi);
    return find_domains(has_rules() + LANDLOCK_DOMAINS_OF_SCOPE);
}

/* ---- seccomp -----------------------------------------------------------------------------------
 */

/* Each call is put so that the kernel itself would answer something else than a filter does. What
 * the policy's own profile allows is made all the same, and harmless. */
static struct finding must_be_filtered(uint32_t call, long r)
{
    if (!(ask.refused & call))
        return say(ZYG_ABSENT, "its profile allows it");
    if (r >= 0)
        return say(ZYG_BROKEN, "it works");
    return errno == EPERM || errno == ENOSYS
               ? say(ZYG_HELD, "%s", strerrorname_np(errno))
               : say(ZYG_BROKEN, "%s: it was let in", strerrorname_np(errno));
}

static struct finding call_unshare(void)
{
    return must_be_filtered(ZYG_CALL_UNSHARE, syscall(SYS_unshare, 0));
}

static struct finding call_setns(void)
{
    return must_be_filtered(ZYG_CALL_SETNS, syscall(SYS_setns, -1, 0));
}

static struct finding call_clone3(void)
{
    return must_be_filtered(ZYG_CALL_CLONE3, syscall(SYS_clone3, NULL, 0));
}

static struct finding call_keyctl(void)
{
    return must_be_filtered(ZYG_CALL_KEYCTL, syscall(SYS_keyctl, 0x7fffffff, 0, 0, 0, 0));
}

static struct finding call_mount(void)
{
    return must_be_filtered(ZYG_CALL_MOUNT, syscall(SYS_mount, 1L, 1L, 1L, 0, 1L));
}

static struct finding call_io_uring(void)
{
    return must_be_filtered(ZYG_CALL_IO_URING, syscall(SYS_io_uring_setup, 1, NULL));
}

static struct finding call_bpf(void)
{
    return must_be_filtered(ZYG_CALL_BPF, syscall(SYS_bpf, -1, NULL, 0));
}

/* In a child: without 32-bit support in the kernel the instruction is a fault. */
static struct finding call_32bit(void)
{
#ifdef __x86_64__
    int status = 0;
    pid_t pid = _Fork();
    if (pid == 0) {
        long r = 20; /* getpid of i386 */
        __asm__ volatile("int $0x80" : "+a"(r) : : "memory", "cc", "r8", "r9", "r10", "r11");
        _exit((int)r > 0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return say(ZYG_BROKEN, "cannot be asked: %s", strerrorname_np(errno));
    return WIFEXITED(status) && WEXITSTATUS(status) ? say(ZYG_BROKEN, "it works")
                                                    : say(ZYG_HELD, "refused");
#else
    return say(ZYG_ABSENT, "not on this machine");
#endif
}

/* ---- privileges, limits ------------------------------------------------------------------------
 */

static struct finding gain_by_exec(void)
{
    long r = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
    return r == 1 ? say(ZYG_HELD, "set") : say(ZYG_BROKEN, "not set");
}

static struct finding use_capability(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};
    if (syscall(SYS_capget, &head, data) < 0)
        return say(ZYG_BROKEN, "capget: %s", strerrorname_np(errno));
    for (int i = 0; i < 2; i++)
        if (data[i].effective | data[i].permitted | data[i].inheritable)
            return say(ZYG_BROKEN, "has %#x", data[i].effective | data[i].permitted);
    return say(ZYG_HELD, "none");
}

static struct finding inherit_capability(void)
{
    for (int cap = 0; cap < 64; cap++) {
        int r = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
        if (r < 0 && errno == EINVAL)
            break; /* past the last */
        if (r != 0)
            return say(ZYG_BROKEN, "capability %d is in the bounding set", cap);
    }
    return say(ZYG_HELD, "the bounding set is empty");
}

static struct finding become_root(void)
{
    return must_fail(syscall(SYS_setresuid, 0, 0, 0));
}

static struct finding raise_limit(void)
{
    struct rlimit lim = {.rlim_cur = ask.nofile + 1, .rlim_max = ask.nofile + 1};
    return must_fail(setrlimit(RLIMIT_NOFILE, &lim));
}

static struct finding use_more_files(void)
{
    int fd = dup2(1, (int)ask.nofile);
    struct finding f = must_fail(fd);
    fd_close(&fd);
    return f;
}

static struct finding exceed_limits(void)
{
    const struct {
        __rlimit_resource_t what;
        const char *name;
        uint64_t at_most;
    } table[] = {{RLIMIT_CORE, "core", 0},
                 {RLIMIT_FSIZE, "fsize", ask.fsize_bytes},
                 {RLIMIT_NPROC, "nproc", ask.nproc}};
    struct rlimit lim;
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (getrlimit(table[i].what, &lim) < 0 || lim.rlim_max > table[i].at_most)
            return say(ZYG_BROKEN, "%s is %llu", table[i].name, (unsigned long long)lim.rlim_max);
    return say(ZYG_HELD, "all as set");
}

/* ---- files -------------------------------------------------------------------------------------
 */

/* All of these mounts (as far as they are there) have these flags? */
static struct finding have_flags(const char *const *paths, size_t count, long flags)
{
    struct statfs fs;
    if (ask.refused & ZYG_CALL_STATFS)
        return say(ZYG_ABSENT, "its profile refuses statfs");
    for (size_t i = 0; i < count; i++)
        if (statfs(paths[i], &fs) == 0 && ((long)fs.f_flags & flags) != flags)
            return say(ZYG_BROKEN, "%s", paths[i]);
    return say(ZYG_HELD, "%s", flags & MS_RDONLY ? "read-only" : "refused by the mounts");
}

static struct finding read_masked(void)
{
    static const char *const masked[] = {"/proc/kcore", "/proc/keys", "/proc/kallsyms",
                                         "/proc/timer_list"};
    struct stat st;
    for (size_t i = 0; i < ARRAY_LEN(masked); i++)
        if (stat(masked[i], &st) == 0 && (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3)))
            return say(ZYG_BROKEN, "%s", masked[i]);
    return say(ZYG_HELD, "masked");
}

static struct finding write_proc(void)
{
    static const char *const paths[] = {"/proc/sys", "/proc/sysrq-trigger", "/proc/irq",
                                        "/proc/bus", "/proc/fs"};
    return have_flags(paths, ARRAY_LEN(paths), MS_RDONLY);
}

static struct finding write_image_mounts(void)
{
    static const char *const paths[] = {"/", "/usr", "/etc", "/dev"};
    return have_flags(paths, ARRAY_LEN(paths), MS_RDONLY);
}

static struct finding write_bind(void)
{
    const char *at = ask.binds;
    struct finding f = say(ZYG_ABSENT, "the policy has none");
    for (uint32_t i = 0; i < ask.bind_count; i++, at += strlen(at) + 1) {
        f = have_flags(&at, 1, MS_RDONLY | MS_NOSUID | MS_NODEV);
        if (f.state != ZYG_HELD)
            return f;
    }
    return f;
}

static struct finding write_below_usr(void)
{
    struct finding f = must_not_open("/usr/.brood-probe", O_WRONLY | O_CREAT | O_EXCL);
    if (f.state == ZYG_BROKEN)
        (void)unlink("/usr/.brood-probe");
    return f;
}

static struct finding run_set_uid(void)
{
    static const char *const paths[] = {"/", "/usr", "/dev", "/tmp", "/dev/shm", ZYG_HOME};
    return have_flags(paths, ARRAY_LEN(paths), MS_NOSUID);
}

static bool is_not_ours(const char *name, int dir_fd)
{
    struct stat st;
    return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_uid != ZYG_CHILD_UID;
}

static struct finding find_in_tmp(void)
{
    char name[40];
    return find_entry("/tmp", is_not_ours, name, sizeof name) ? say(ZYG_BROKEN, "%s", name)
                                                              : say(ZYG_HELD, "nothing");
}

static struct finding fill_tmp(void)
{
    static const char *const paths[] = {"/tmp", "/dev/shm"};
    struct statfs fs;
    if (ask.refused & ZYG_CALL_STATFS)
        return say(ZYG_ABSENT, "its profile refuses statfs");
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        if (statfs(paths[i], &fs) < 0 || fs.f_type != TMPFS_MAGIC || fs.f_blocks == 0 ||
            (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize > ask.tmp_bytes)
            return say(ZYG_BROKEN, "%s is not bounded", paths[i]);
    return say(ZYG_HELD, "bounded");
}

static bool is_foreign_device(const char *name, int dir_fd)
{
    static const char *const known[] = {"null", "zero", "full", "random", "urandom", "tty"};
    struct stat st;
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (strcmp(name, known[i]) == 0)
            return false;
    return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode));
}

static struct finding see_a_device(void)
{
    char name[40];
    return find_entry("/dev", is_foreign_device, name, sizeof name) ? say(ZYG_BROKEN, "%s", name)
                                                                    : say(ZYG_HELD, "six harmless");
}

static struct finding open_own_device(void)
{
    static const char *const paths[] = {"/tmp", "/dev/shm", ZYG_HOME};
    return have_flags(paths, ARRAY_LEN(paths), MS_NODEV);
}

static struct finding open_terminal(void)
{
    return must_not_open("/dev/tty", O_RDWR);
}

/* Without the id-map a file could not be made, or would belong to somebody else. */
static struct finding own_files(void)
{
    static const char path[] = ZYG_HOME "/.probe";
    struct stat st;
    auto_close int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return say(ZYG_BROKEN, "home cannot be written: %s", strerrorname_np(errno));
    int r = fstat(fd, &st);
    (void)unlink(path);
    if (r < 0 || st.st_uid != ZYG_CHILD_UID || st.st_gid != ZYG_CHILD_UID)
        return say(ZYG_BROKEN, "a file of mine is uid %u's", (unsigned)st.st_uid);
    return say(ZYG_HELD, "its own");
}

static struct finding give_away(void)
{
    return must_fail(chown(ZYG_HOME, 0, 0));
}

static bool is_foreign_fd(const char *name, int dir_fd)
{
    int fd = (int)strtol(name, NULL, 10);
    int flags = fcntl(fd, F_GETFD);
    return fd > 2 && fd != dir_fd && !(exec_follows && flags >= 0 && flags & FD_CLOEXEC);
}

static struct finding see_a_descriptor(void)
{
    char name[16];
    return find_entry("/proc/self/fd", is_foreign_fd, name, sizeof name)
               ? say(ZYG_BROKEN, "%s is open", name)
               : say(ZYG_HELD, "three");
}

/* ---- the table ---------------------------------------------------------------------------------
 */

static const struct {
    enum policy_layer layer;
    const char *question;
    struct finding (*ask)(void);
} questions[] = {
    {POLICY_USERNS, "am I in the host's userns?", share_userns},
    {POLICY_USERNS, "am I a user of the host?", be_a_host_user},
    {POLICY_USERNS, "can I make a userns?", make_userns},
    {POLICY_MNTNS, "am I in the host's mntns?", share_mntns},
    {POLICY_MNTNS, "can I read the host's /etc/shadow?", read_shadow},
    {POLICY_MNTNS, "can I enter the root of pid 1?", enter_root_of_1},
    {POLICY_MNTNS, "can I mount something?", mount_something},
    {POLICY_PIDNS, "am I in the host's pidns?", share_pidns},
    {POLICY_PIDNS, "can I see a foreign pid?", see_a_pid},
    {POLICY_PIDNS, "can I signal pid 1?", signal_pid_1},
    {POLICY_PIDNS, "can I trace pid 1?", trace_pid_1},
    {POLICY_NETNS, "am I in the host's netns?", share_netns},
    {POLICY_NETNS, "can I reach an address outside?", connect_out},
    {POLICY_NETNS, "is there a foreign interface?", list_interfaces},
    {POLICY_NETNS, "can I reach what is not listed?", reach_unlisted},
    {POLICY_NETNS, "can I reach the host?", reach_host},
    {POLICY_NETNS, "can I read raw packets?", sniff},
    {POLICY_IPCNS, "am I in the host's ipcns?", share_ipcns},
    {POLICY_IPCNS, "can I see shared memory of others?", see_shm},
    {POLICY_IPCNS, "can I open a message queue?", make_queue},
    {POLICY_UTSNS, "am I in the host's utsns?", share_utsns},
    {POLICY_UTSNS, "can I change the host name?", rename_host},
    {POLICY_CGROUPNS, "am I in the host's cgroupns?", share_cgroupns},
    {POLICY_CGROUPNS, "can I see where my cgroups are?", see_cgroups},
    {POLICY_LANDLOCK, "can I make a device node?", make_device},
    {POLICY_LANDLOCK_TCP, "can I bind a TCP port?", bind_tcp},
    {POLICY_LANDLOCK_TCP, "can I connect to a TCP port?", connect_tcp},
    {POLICY_SECCOMP, "can I call unshare?", call_unshare},
    {POLICY_SECCOMP, "can I call setns?", call_setns},
    {POLICY_SECCOMP, "can I call clone3?", call_clone3},
    {POLICY_SECCOMP, "can I call keyctl?", call_keyctl},
    {POLICY_SECCOMP, "can I call mount?", call_mount},
    {POLICY_SECCOMP, "can I call io_uring_setup?", call_io_uring},
    {POLICY_SECCOMP, "can I call bpf?", call_bpf},
    {POLICY_SECCOMP, "can I enter by 32-bit calls?", call_32bit},
    {POLICY_NO_NEW_PRIVS, "can an exec give me privileges?", gain_by_exec},
    {POLICY_CAPABILITIES, "do I have a capability?", use_capability},
    {POLICY_CAPABILITIES, "can a program gain a capability?", inherit_capability},
    {POLICY_CAPABILITIES, "can I become root?", become_root},
    {POLICY_RLIMITS, "can I raise a hard limit?", raise_limit},
    {POLICY_RLIMITS, "can I open more files than allowed?", use_more_files},
    {POLICY_RLIMITS, "is a limit higher than set?", exceed_limits},
    {POLICY_PROC, "can I read kcore, keys or kallsyms?", read_masked},
    {POLICY_PROC, "can I write below /proc/sys?", write_proc},
    {POLICY_IMAGE, "is a mount of the image writable?", write_image_mounts},
    {POLICY_IMAGE, "can I write below /usr?", write_below_usr},
    {POLICY_IMAGE, "can I write to a bind?", write_bind},
    {POLICY_IMAGE, "can I run a set-uid program?", run_set_uid},
    {POLICY_TMP, "is there something of others in /tmp?", find_in_tmp},
    {POLICY_TMP, "can I fill more than /tmp?", fill_tmp},
    {POLICY_DEVICES, "can I see a foreign device?", see_a_device},
    {POLICY_DEVICES, "can I open a device of my own?", open_own_device},
    {POLICY_DEVICES, "can I talk to a terminal?", open_terminal},
    {POLICY_VOLUME, "are my files another's?", own_files},
    {POLICY_VOLUME, "can I give my home away?", give_away},
    {POLICY_DESCRIPTORS, "is a fourth descriptor open?", see_a_descriptor},
    {POLICY_LANDLOCK, "am I outside of its domain?", leave_domain},
    {POLICY_LANDLOCK_SCOPE, "am I outside the signal scope?", leave_scope},
};
_Static_assert(ARRAY_LEN(questions) < ZYG_PROBE_QUESTIONS_MAX, "");

void probe_main(const void *asked, bool execs)
{
    static struct zyg_probe_answer answers[ARRAY_LEN(questions) + 1]; /* the last is the end */
    char byte;
    memcpy(&ask, asked, sizeof ask);
    exec_follows = execs;
    (void)signal(SIGCHLD, SIG_DFL); /* bash's handler would reap what questions fork */
    for (size_t i = 0; i < ARRAY_LEN(questions); i++) {
        errno = 0;
        struct finding f = questions[i].ask();
        struct zyg_probe_answer *a = &answers[i];
        a->layer = questions[i].layer;
        a->state = f.state;
        (void)snprintf(a->question, sizeof a->question, "%s", questions[i].question);
        (void)snprintf(a->detail, sizeof a->detail, "%s", f.detail);
    }
    if (write(1, answers, sizeof answers) != (ssize_t)sizeof answers)
        _exit(1);
    while (read(0, &byte, 1) > 0)
        ;
    _exit(0);
}
