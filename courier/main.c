/* SPDX-License-Identifier: Apache-2.0 */
/* courier/main - brood-courier: delivers webhooks. The contract with the frontend: courier.h.
 *
 *   brood-courier --allow LIST --allow-private LIST --ca-file FILE --connect-ms N --timeout-ms N
 *                 --log-format N --log-level N
 *
 * Exec'ed by priv under a user of its own, without capabilities, with the socket at
 * COURIER_SOCK_FD, only where the operator lists receivers. One loop around libcurl's multi
 * handle, which is also the only thing here that makes threads: one for each name that is being
 * resolved, and one that a name server keeps waiting is left behind. It keeps nothing: what it was
 * doing when it died is asked for again. Files that it may read are those of its start; when the
 * system puts another in the place of one (resolv.conf, certificates), it ends when it is idle and
 * priv starts another.
 */
#include "courier/post.h"
#include "lib/clock.h"
#include "lib/confine.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "lib/num.h"
#include "lib/packet.h"
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/stat.h>

#define CA_FILE "/etc/ssl/certs/ca-certificates.crt"
#define DATA_BYTES_MAX (256ull << 20)
#define STACK_BYTES (256u << 10)
#define DNS_PORT 53
#define SHORTAGE_MS 20
#define IDLE_MS 60000
#define ASKS_A_TURN 32
#define DEADLINE_MS_MAX 3600000u

struct courier {
    struct courier_rules rules;
    CURLM *multi;
    struct post *posts;
    size_t busy;
    bool stale; /* a file is another one */
    enum log_format log_format;
    enum log_level log_level;
};

#ifdef __SANITIZE_ADDRESS__
/* The leak checker traces its own threads at exit, which the filter forbids. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}
#endif

/* ---- what it gives up ---------------------------------------------------------------------------
 */

/* Beside what each of ours may call (lib/confine). */
static const int allowed[] = {
    SCMP_SYS(readv),
    SCMP_SYS(fstat),
    SCMP_SYS(newfstatat),
    /* sockets (socket, connect, send*: lib/confine) */
    SCMP_SYS(socketpair), /* libcurl to its threads */
    SCMP_SYS(recvmsg),
    SCMP_SYS(recvfrom),
    SCMP_SYS(shutdown),
    SCMP_SYS(setsockopt),
    SCMP_SYS(getsockopt),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    /* what wakes its threads */
    SCMP_SYS(pipe2),
    SCMP_SYS(eventfd2),
    /* clocks, the host's name (for a domain to search) */
    SCMP_SYS(time),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(uname),
};

static const char *files[] = {
    "/etc/resolv.conf",      "/etc/hosts", "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/host.conf",
    NULL /* certificates */, NULL};
#define FILE_COUNT (ARRAY_LEN(files) - 1)
static struct stat seen[FILE_COUNT];

static void look_at(size_t i, struct stat *ret)
{
    if (SYS(stat(files[i], ret)) < 0)
        *ret = (struct stat){.st_ino = 0};
}

static bool files_are_old(void)
{
    bool old = false;
    for (size_t i = 0; i < FILE_COUNT; i++) {
        struct stat now;
        look_at(i, &now);
        old |= now.st_ino != seen[i].st_ino || now.st_dev != seen[i].st_dev;
    }
    return old;
}

static int confine(struct courier *c, struct err *err)
{
    uint16_t ports[COURIER_PORTS_MAX + 1] = {0};
    size_t count = 0;
    int r = courier_read_list(c->rules.allow, ports, &count, err);
    if (r < 0)
        return r;
    ports[count++] = DNS_PORT; /* an answer that is too long for a datagram */
    files[FILE_COUNT - 1] = c->rules.ca_file;
    for (size_t i = 0; i < FILE_COUNT; i++)
        look_at(i, &seen[i]);
    const struct confine_plan plan = {.calls = allowed,
                                      .call_count = ARRAY_LEN(allowed),
                                      .makes_threads = true,
#ifndef __SANITIZE_ADDRESS__
                                      .data_bytes_max = DATA_BYTES_MAX,
#endif
                                      .read_files = files,
                                      .connects = true,
                                      .ports = ports,
                                      .port_count = count};
    return confine_self(&plan, err);
}

/* ---- the conversation ---------------------------------------------------------------------------
 */

static void say(const struct courier_answer *answer)
{
    /* Who does not read asks again after its own deadline. */
    (void)packet_send(COURIER_SOCK_FD, answer, sizeof *answer, NULL, 0);
}

static void refuse(const struct courier_ask *ask, const char *why)
{
    struct courier_answer answer = {
        .magic = COURIER_MAGIC, .kind = COURIER_ANSWER, .tag = ask->tag};
    (void)snprintf(answer.text, sizeof answer.text, "%s", why);
    say(&answer);
}

static void end_post(struct courier *c, struct post *p)
{
    if (p->prev)
        p->prev->next = p->next;
    else
        c->posts = p->next;
    if (p->next)
        p->next->prev = p->prev;
    c->busy--;
    (void)curl_multi_remove_handle(c->multi, p->easy);
    post_free(p);
}

/* A frontend that was started again asks for what is under way still. */
static bool adopt(struct courier *c, const struct courier_ask *ask)
{
    for (struct post *p = c->posts; p; p = p->next)
        if (strncmp(p->delivery, ask->delivery, sizeof ask->delivery) == 0) {
            p->tag = ask->tag;
            return true;
        }
    return false;
}

static void on_ask(struct courier *c, const struct courier_ask *ask, int memfd)
{
    const char *why;
    if (adopt(c, ask))
        return;
    struct post *p = post_new(&c->rules, ask, memfd, &why);
    if (!p) {
        refuse(ask, why);
        return;
    }
    if (SYS(curl_multi_add_handle(c->multi, p->easy)) != CURLM_OK) {
        post_free(p);
        refuse(ask, "the courier is out of memory");
        return;
    }
    p->next = c->posts;
    if (c->posts)
        c->posts->prev = p;
    c->posts = p;
    c->busy++;
}

/* False: nothing more waits. */
static bool take_ask(struct courier *c, bool discards)
{
    struct courier_ask ask;
    int fds[PACKET_FDS_MAX];
    size_t nfds = 0;
    ssize_t n = packet_recv(COURIER_SOCK_FD, &ask, sizeof ask, fds, &nfds);
    if (n == -EAGAIN)
        return false;
    if (n == 0)
        die(0, "nobody can ask any more");
    if (n == (ssize_t)sizeof ask && nfds == 1 && !discards)
        on_ask(c, &ask, fds[0]);
    else if (!discards)
        LOG(ERROR, "bad_packet_from_frontend", F_I64("bytes", n), F_U64("descriptors", nfds));
    for (size_t i = 0; i < nfds; i++)
        fd_close(&fds[i]);
    return true;
}

static void greet(struct courier *c)
{
    const struct courier_answer hello = {.magic = COURIER_MAGIC, .kind = COURIER_HELLO};
    while (take_ask(c, true))
        ;
    say(&hello);
}

static void collect(struct courier *c)
{
    int left;
    for (CURLMsg *m; (m = curl_multi_info_read(c->multi, &left));) {
        struct courier_answer answer;
        struct post *p = NULL;
        if (m->msg != CURLMSG_DONE)
            continue;
        (void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &p);
        post_fill_answer(p, m->data.result, &answer);
        end_post(c, p);
        say(&answer);
    }
}

static void serve(struct courier *c)
{
    greet(c);
    while (!c->stale || c->busy > 0) {
        bool takes = c->busy < COURIER_AT_ONCE_MAX && !c->stale;
        struct curl_waitfd sock = {.fd = COURIER_SOCK_FD, .events = takes ? CURL_WAIT_POLLIN : 0};
        int running;
        if (curl_multi_poll(c->multi, &sock, 1, IDLE_MS, NULL) != CURLM_OK)
            (void)poll(NULL, 0, SHORTAGE_MS); /* it would be asked again at once */
        c->stale = c->stale || (sock.revents && files_are_old());
        for (int i = 0; i < ASKS_A_TURN && sock.revents && !c->stale &&
                        c->busy < COURIER_AT_ONCE_MAX && take_ask(c, false);
             i++)
            ;
        (void)curl_multi_perform(c->multi, &running);
        collect(c);
    }
    LOG(INFO, "files_changed", F_STR("now", "another courier reads them"));
}

/* ---- the start ----------------------------------------------------------------------------------
 */

static uint64_t read_number(const char *name, const char *text, uint64_t max)
{
    uint64_t n = 0;
    if (num_parse_u64(text, 0, max, &n) < 0)
        die(2, "%s: expected a number up to %llu, got '%.40s'", name, (unsigned long long)max,
            text);
    return n;
}

static void read_arguments(struct courier *c, int argc, char **argv)
{
    struct err err;
    for (int i = 1; i < argc; i += 2) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!value)
            die(2, "%s: a value is expected", name);
        if (strcmp(name, "--allow") == 0)
            c->rules.allow = value;
        else if (strcmp(name, "--allow-private") == 0 &&
                 courier_read_ranges(value, &c->rules.but, &err) < 0)
            die(2, "%s: %s", name, err.text);
        else if (strcmp(name, "--ca-file") == 0)
            c->rules.ca_file = *value ? value : CA_FILE;
        else if (strcmp(name, "--connect-ms") == 0)
            c->rules.connect_ms = (long)read_number(name, value, DEADLINE_MS_MAX);
        else if (strcmp(name, "--timeout-ms") == 0)
            c->rules.timeout_ms = (long)read_number(name, value, DEADLINE_MS_MAX);
        else if (strcmp(name, "--log-format") == 0)
            c->log_format = (enum log_format)read_number(name, value, LOG_FORMAT_JSON);
        else if (strcmp(name, "--log-level") == 0)
            c->log_level = (enum log_level)read_number(name, value, LOG_LEVEL_ERROR);
        else if (strcmp(name, "--allow-private") != 0)
            die(2, "%s: there is no such flag (brood-supervisor starts this program)", name);
    }
    if (!*c->rules.allow || c->rules.connect_ms <= 0 || c->rules.timeout_ms <= 0)
        die(2, "--allow, --connect-ms and --timeout-ms are required (brood-supervisor starts this "
               "program)");
}

static void ignore_signals(void)
{
    /* A ^C or a SIGTERM may reach the whole process group: the supervisor decides when we end. */
    const int ignored[] = {SIGPIPE, SIGTERM, SIGINT, SIGHUP};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
        (void)sigaction(ignored[i], &ignore, NULL);
}

/* One thread for each name: what they may take counts as data. */
static void make_threads_small(void)
{
    pthread_attr_t attr;
    (void)mallopt(M_ARENA_MAX, 2);
    if (pthread_attr_init(&attr) == 0 && (pthread_attr_setstacksize(&attr, STACK_BYTES) != 0 ||
                                          pthread_setattr_default_np(&attr) != 0))
        die(1, "cannot choose the size of stacks");
}

int main(int argc, char **argv)
{
    static struct courier c = {.rules = {.allow = "", .ca_file = CA_FILE}};
    struct err err;
    c.log_level = LOG_LEVEL_INFO;
    read_arguments(&c, argc, argv);
    ignore_signals();
    log_init("courier", c.log_format, c.log_level);
    make_threads_small();
    if (SYS(fd_set_nonblock(COURIER_SOCK_FD)) < 0)
        die(2, "descriptor %d: %s", COURIER_SOCK_FD, strerror(errno));
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(c.multi = curl_multi_init()))
        die(1, "cannot start libcurl");
    if (confine(&c, &err) < 0)
        die(1, "%s", err.text);
    serve(&c);
    return 0;
}
