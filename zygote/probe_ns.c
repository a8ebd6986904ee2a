/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/probe_ns - does a run share a kernel namespace with the host, or see into one?
 *
 * In the child of a probe (probe.c). That a namespace is another is read from its inode; what its
 * being another is good for is tried: other users, mounts, processes, networks, segments, names.
 * With a network it is asked what nftables refuse, with nothing that could get beyond this host.
 */
#include "lib/fd.h"
#include "zygote/probe.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define SILENCE_MS 3500 /* a refusal that is lost comes with the next SYN */
#define REPLY_MS 100    /* so does a reply of the host */

static struct probe_finding compare_ns(int kind, const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return probe_say(ZYG_BROKEN, "%s: %s", path, strerrorname_np(errno));
    if (!probe_ask.host_ns[kind])
        return probe_say(ZYG_ABSENT, "the host's is not known");
    return st.st_ino == probe_ask.host_ns[kind] ? probe_say(ZYG_BROKEN, "it is the host's")
                                                : probe_say(ZYG_HELD, "its own");
}

#define NS_QUESTION(name, kind, path)                                                              \
    static struct probe_finding name(void)                                                         \
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

static struct probe_finding be_a_host_user(void)
{
    static const char *const maps[] = {"/proc/self/uid_map", "/proc/self/gid_map"};
    char text[256];
    for (size_t i = 0; i < ARRAY_LEN(maps); i++) {
        unsigned long inside = 0, outside = 0, count = 0;
        if (!probe_read_text(maps[i], text, sizeof text) ||
            sscanf(text, "%lu %lu %lu", &inside, &outside, &count) != 3)
            return probe_say(ZYG_BROKEN, "%s cannot be read", maps[i]);
        if (inside != 0 || outside < ZYG_UIDS_PER_SLOT || count > ZYG_UIDS_PER_SLOT ||
            strchr(text, '\n') != text + strlen(text) - 1)
            return probe_say(ZYG_BROKEN, "%lu of the host's from %lu on", count, outside);
    }
    return probe_say(ZYG_HELD, "a range of its own");
}

static struct probe_finding make_userns(void)
{
    long pid = syscall(SYS_clone, (unsigned long)(CLONE_NEWUSER | SIGCHLD), 0, 0, 0, 0);
    int error = errno;
    if (pid == 0)
        _exit(0);
    if (pid > 0)
        (void)waitpid((pid_t)pid, NULL, 0);
    errno = error;
    return probe_must_fail(pid);
}

static struct probe_finding read_shadow(void)
{
    return probe_must_not_open("/etc/shadow", O_RDONLY);
}

static struct probe_finding enter_root_of_1(void)
{
    return probe_must_not_open("/proc/1/root", O_PATH);
}

static struct probe_finding mount_something(void)
{
    return probe_must_fail(mount("probe", ZYG_HOME, "tmpfs", 0, NULL));
}

static bool is_foreign_pid(const char *name, int dir_fd)
{
    (void)dir_fd;
    return name[strspn(name, "0123456789")] == 0 && strtol(name, NULL, 10) != getpid();
}

static struct probe_finding see_a_pid(void)
{
    char name[32];
    return probe_find_entry("/proc", is_foreign_pid, name, sizeof name)
               ? probe_say(ZYG_BROKEN, "pid %s", name)
               : probe_say(ZYG_HELD, "none");
}

static struct probe_finding signal_pid_1(void)
{
    return probe_must_fail(kill(1, 0));
}

static struct probe_finding trace_pid_1(void)
{
    return probe_must_fail(ptrace(PTRACE_ATTACH, 1, NULL, NULL));
}

/* ---- the network -------------------------------------------------------------------------------
 */

/* Of a datagram socket connect() only looks for a route. */
static struct probe_finding connect_out(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
    struct sockaddr_in6 to6 = {.sin6_family = AF_INET6, .sin6_port = htons(9)};
    to.sin_addr.s_addr = htonl(0xc0000201); /* 192.0.2.1, RFC 5737 */
    to6.sin6_addr.s6_addr[0] = 0x20;        /* 2001:db8::1, RFC 3849 */
    to6.sin6_addr.s6_addr[1] = 0x01;
    to6.sin6_addr.s6_addr[2] = 0x0d;
    to6.sin6_addr.s6_addr[3] = 0xb8;
    to6.sin6_addr.s6_addr[15] = 1;
    if (probe_ask.network)
        return probe_say(ZYG_ABSENT, "the network mode allows it");
    auto_close int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    auto_close int sock6 = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sock6 >= 0 && connect(sock6, (struct sockaddr *)&to6, sizeof to6) == 0)
        return probe_say(ZYG_BROKEN, "there is a route to 2001:db8::1");
    if (sock < 0)
        return probe_must_fail(sock);
    return probe_must_fail(connect(sock, (struct sockaddr *)&to, sizeof to));
}

static struct probe_finding list_interfaces(void)
{
    struct ifreq found[8] = {0};
    struct ifconf conf = {.ifc_len = sizeof found, .ifc_ifcu.ifcu_req = found};
    auto_close int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sock < 0 || ioctl(sock, SIOCGIFCONF, &conf) < 0)
        return probe_say(ZYG_HELD, "%s", strerrorname_np(errno));
    for (size_t i = 0; i < (size_t)conf.ifc_len / sizeof found[0]; i++)
        if (strcmp(found[i].ifr_name, "lo") != 0 &&
            !(probe_ask.network && strcmp(found[i].ifr_name, POLICY_NET_DEVICE) == 0))
            return probe_say(ZYG_BROKEN, "%.*s", IFNAMSIZ, found[i].ifr_name);
    return probe_say(ZYG_HELD, "none but its own");
}

/* With a time to live that ends on this host a reset can only be brood's, and nothing gets farther:
 * what is let out is "unreachable", or silence. */
static struct probe_finding reach_unlisted(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(9),
                             .sin_addr.s_addr = htonl(probe_ask.closed_address)};
    int one = 1;
    if (!probe_ask.network)
        return probe_say(ZYG_ABSENT, "no network");
    if (!probe_ask.closed_address)
        return probe_say(ZYG_ABSENT, "the policy lists all of them");
    if (probe_ask.refused & (ZYG_CALL_SOCKET | ZYG_CALL_CONNECT | ZYG_CALL_SETSOCKOPT))
        return probe_say(ZYG_ABSENT, "its profile refuses what it takes to ask");
    auto_close int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (sock < 0 || setsockopt(sock, IPPROTO_IP, IP_TTL, &one, sizeof one) < 0)
        return probe_say(ZYG_BROKEN, "cannot be asked: %s", strerrorname_np(errno));
    if (connect(sock, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS)
        return errno == EACCES ? probe_say(ZYG_ABSENT, "landlock refuses it first")
                               : probe_say(ZYG_HELD, "%s", strerrorname_np(errno));
    if (poll(&(struct pollfd){.fd = sock, .events = POLLOUT}, 1, SILENCE_MS) != 1)
        return probe_say(ZYG_BROKEN, "no refusal came");
    if (connect(sock, (struct sockaddr *)&to, sizeof to) == 0 || errno != ECONNREFUSED)
        return probe_say(ZYG_BROKEN, "it was let out");
    return probe_say(ZYG_HELD, "refused");
}

/* What came back for a datagram: "nobody listens" was said by the host itself, "prohibited" by
 * brood's rules. The kernel sends few of either, so silence is no answer to have. */
static struct probe_finding read_reply(int sock)
{
    char control[256];
    struct msghdr msg = {.msg_control = control, .msg_controllen = sizeof control};
    struct pollfd p = {.fd = sock};
    if (poll(&p, 1, REPLY_MS) != 1 || recvmsg(sock, &msg, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
        return probe_say(ZYG_HELD, "silence");
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
        struct sock_extended_err e;
        if (c->cmsg_level != IPPROTO_IP || c->cmsg_type != IP_RECVERR)
            continue;
        memcpy(&e, CMSG_DATA(c), sizeof e);
        if (e.ee_origin == SO_EE_ORIGIN_ICMP && e.ee_type == ICMP_DEST_UNREACH &&
            e.ee_code == ICMP_PORT_UNREACH)
            return probe_say(ZYG_BROKEN, "it says that nobody listens");
    }
    return probe_say(ZYG_HELD, "prohibited");
}

/* The host's end of the link: our address without its last bit (net/net.h). */
static struct probe_finding reach_host(void)
{
    const uint32_t means = ZYG_CALL_SOCKET | ZYG_CALL_CONNECT | ZYG_CALL_SENDTO | ZYG_CALL_RECVMSG |
                           ZYG_CALL_SETSOCKOPT;
    struct ifreq own = {.ifr_name = POLICY_NET_DEVICE};
    struct sockaddr_in addr;
    int one = 1;
    if (!probe_ask.network)
        return probe_say(ZYG_ABSENT, "no network");
    if (probe_ask.refused & means)
        return probe_say(ZYG_ABSENT, "its profile refuses what it takes to ask");
    auto_close int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sock < 0 || ioctl(sock, SIOCGIFADDR, &own) < 0)
        return probe_say(ZYG_BROKEN, "its address cannot be read: %s", strerrorname_np(errno));
    memcpy(&addr, &own.ifr_addr, sizeof addr);
    addr.sin_port = htons(9);
    addr.sin_addr.s_addr &= htonl(~1u);
    if (setsockopt(sock, IPPROTO_IP, IP_RECVERR, &one, sizeof one) < 0 ||
        connect(sock, (struct sockaddr *)&addr, sizeof addr) < 0 || send(sock, "probe", 5, 0) < 0)
        return probe_say(ZYG_HELD, "%s", strerrorname_np(errno));
    return read_reply(sock);
}

static struct probe_finding sniff(void)
{
    auto_close int sock = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    return probe_must_fail(sock);
}

/* ---- IPC, names, cgroups -----------------------------------------------------------------------
 */

static struct probe_finding see_shm(void)
{
    char text[1024];
    if (!probe_read_text("/proc/sysvipc/shm", text, sizeof text))
        return probe_say(ZYG_HELD, "%s", strerrorname_np(errno));
    const char *second = strchr(text, '\n');
    return second && second[1] ? probe_say(ZYG_BROKEN, "a segment is there")
                               : probe_say(ZYG_HELD, "none");
}

static struct probe_finding make_queue(void)
{
    long queue = syscall(SYS_mq_open, "brood-probe", O_RDWR | O_CREAT, 0600, NULL);
    struct probe_finding f = probe_must_fail(queue);
    if (queue >= 0) {
        (void)close((int)queue);
        (void)syscall(SYS_mq_unlink, "brood-probe");
    }
    return f;
}

static struct probe_finding rename_host(void)
{
    return probe_must_fail(sethostname("probe", 5));
}

static struct probe_finding see_cgroups(void)
{
    char text[2048];
    if (!probe_read_text("/proc/self/cgroup", text, sizeof text))
        return probe_say(ZYG_HELD, "%s", strerrorname_np(errno));
    for (char *line = text, *next; *line; line = next) {
        next = strchr(line, '\n');
        next = next ? next + 1 : line + strlen(line);
        char *path = memchr(line, '/', (size_t)(next - line));
        if (path && path + 1 < next && path[1] != '\n')
            return probe_say(ZYG_BROKEN, "%.*s", (int)(next - 1 - path), path);
    }
    return probe_say(ZYG_HELD, "/ only");
}

static const struct probe_question questions[] = {
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
};
const struct probe_part probe_ns = {questions, ARRAY_LEN(questions)};
