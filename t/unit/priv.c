/* SPDX-License-Identifier: Apache-2.0 */
/* t/unit/priv - the conversation with an engine that has gone rogue: a packet of the wrong size,
 * verb or phase, or with a name that is none, ends it and the service; what is well-formed but
 * wrong is refused and counted. priv runs here without any right, a zygote or a cgroup.
 */
#include "lib/fd.h"
#include "lib/log.h"
#include "lib/packet.h"
#include "lib/tap.h"
#include "policy/policy.h"
#include "supervisor/priv_impl.h"
#include "supervisor/settings.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define SLOTS 4

static char root[] = "/tmp/brood-priv-XXXXXX";
static int sock;
static pid_t pid;
static const struct policy_set *sets; /* NULL: the default policy alone, no slot in use */

/* priv in a child, its engine here. */
static void begin(void)
{
    static struct settings set;
    static struct settings_files files;
    static struct priv_slot slots[SLOTS];
    static struct policy_set policies = {.magic = POLICY_SET_MAGIC, .count = 1};
    int pair[2];
    if (packet_pair(pair, false) < 0 || (pid = fork()) < 0)
        exit(1);
    if (pid > 0) {
        const struct timeval patience = {.tv_sec = 10};
        sock = pair[0];
        (void)setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        (void)close(pair[1]);
        return;
    }
    (void)close(pair[0]);
    static struct priv p;
    p = (struct priv){.set = &set,
                      .files = &files,
                      .engine_sock = pair[1],
                      .sig_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC),
                      .root_fd = open(root, O_RDONLY | O_DIRECTORY),
                      .policies = &policies,
                      .generation = 1,
                      .policies_fd = -1,
                      .compiled_fd = -1,
                      .listeners = {-1, -1},
                      .primordial_sock = -1,
                      .slots = slots,
                      .slot_count = SLOTS};
    for (size_t i = 0; i < SLOTS; i++)
        slots[i].pidfd = slots[i].userns = -1;
    if (sets) {
        policies = *sets;
        slots[1].used = slots[2].used = true;
        slots[1].pid = getpid(); /* as if a zygote was there */
        (void)snprintf(slots[1].ns_id, sizeof slots[1].ns_id, "tight-1");
    }
    log_init("priv", LOG_FORMAT_TEXT, (enum log_level)(LOG_LEVEL_ERROR + 1));
    _exit(priv_serve(&p));
}

static struct priv_request request(uint32_t verb, uint32_t slot, const char *ns_id)
{
    struct priv_request req = {.verb = verb, .slot = slot};
    (void)snprintf(req.ns_id, sizeof req.ns_id, "%s", ns_id);
    return req;
}

static bool reply_to(const struct priv_request *req, struct priv_reply *ret)
{
    int fds[PACKET_FDS_MAX];
    size_t nfds;
    return packet_send(sock, req, sizeof *req, NULL, 0) == 0 &&
           packet_recv(sock, ret, sizeof *ret, fds, &nfds) == (ssize_t)sizeof *ret &&
           ret->verb == req->verb && ret->slot == req->slot;
}

/* Has priv ended, with this exit status? */
static bool ended(int want)
{
    char byte;
    int status = -1;
    bool closed = recv(sock, &byte, 1, 0) <= 0;
    if (!closed)
        (void)kill(pid, SIGKILL);
    (void)waitpid(pid, &status, 0);
    fd_close(&sock);
    return closed && WIFEXITED(status) && WEXITSTATUS(status) == want;
}

static void test_size(size_t bytes)
{
    char packet[2 * sizeof(struct priv_request)];
    struct priv_request req = request(PRIV_DOWN, 0, "");
    memset(packet, 0, sizeof packet);
    memcpy(packet, &req, sizeof req);
    begin();
    (void)packet_send(sock, packet, bytes, NULL, 0);
    ok(ended(1), "a request of %zu bytes ends the service, with an error", bytes);
}

static void test_verb(uint32_t verb)
{
    struct priv_request req = request(verb, 0, "alice");
    begin();
    (void)packet_send(sock, &req, sizeof req, NULL, 0);
    ok(ended(1), "so does verb %u", (unsigned)verb);
}

static void test_name(const char *what, const char *bytes, size_t len)
{
    struct priv_request req = request(PRIV_DISCARD_VOLUME, 0, "");
    struct priv_reply reply;
    begin();
    struct priv_request serving = request(PRIV_START_FRONTEND, 0, "");
    bool fine = reply_to(&serving, &reply);
    memset(req.ns_id, 'x', sizeof req.ns_id);
    memcpy(req.ns_id, bytes, len);
    (void)packet_send(sock, &req, sizeof req, NULL, 0);
    ok(fine && ended(1), "so does a namespace_id that is %s", what);
}

/* In each phase, each verb: is it heard? What has no reply of its own is known by what comes next.
 */
static void test_phases(void)
{
    static const struct {
        const char *name;
        uint32_t into[2];
        bool heard[PRIV_VERBS];
    } phases[] = {
        {"starting",
         {0, 0},
         {[PRIV_START_ZYGOTE] = true,
          [PRIV_LIMIT_ZYGOTE] = true,
          [PRIV_END_ZYGOTE] = true,
          [PRIV_START_FRONTEND] = true,
          [PRIV_ASK_LIMITS] = true,
          [PRIV_BEGIN_DRAIN] = true}},
        {"serving",
         {PRIV_START_FRONTEND, 0},
         {[PRIV_START_ZYGOTE] = true,
          [PRIV_ATTACH_VOLUME] = true,
          [PRIV_LIMIT_ZYGOTE] = true,
          [PRIV_END_ZYGOTE] = true,
          [PRIV_ASK_LIMITS] = true,
          [PRIV_DISCARD_VOLUME] = true,
          [PRIV_START_FRONTEND] = true,
          [PRIV_BEGIN_DRAIN] = true}},
        {"draining",
         {PRIV_START_FRONTEND, PRIV_BEGIN_DRAIN},
         {[PRIV_START_ZYGOTE] = true,
          [PRIV_ATTACH_VOLUME] = true,
          [PRIV_LIMIT_ZYGOTE] = true,
          [PRIV_END_ZYGOTE] = true,
          [PRIV_ASK_LIMITS] = true,
          [PRIV_DISCARD_VOLUME] = true}},
    };
    for (size_t i = 0; i < ARRAY_LEN(phases); i++)
        for (uint32_t verb = 1; verb < PRIV_DOWN; verb++) {
            struct priv_request req = request(verb, verb == PRIV_END_ZYGOTE ? 1 : SLOTS, "alice");
            struct priv_request down = request(PRIV_DOWN, 0, "");
            struct priv_reply reply;
            bool fine = true;
            begin();
            for (size_t k = 0; k < 2 && phases[i].into[k]; k++) {
                struct priv_request into = request(phases[i].into[k], 0, "");
                fine &= reply_to(&into, &reply);
            }
            bool heard = reply_to(&req, &reply);
            if (heard)
                (void)packet_send(sock, &down, sizeof down, NULL, 0);
            ok(fine && heard == phases[i].heard[verb] && ended(heard ? 0 : 1), "%s: verb %u %s",
               phases[i].name, (unsigned)verb,
               phases[i].heard[verb] ? "is heard" : "ends the service");
        }
}

static void test_counts(void)
{
    struct priv_request start = request(PRIV_START_FRONTEND, 0, "");
    struct priv_request none = request(PRIV_DISCARD_VOLUME, 7, "nobody");
    struct priv_request far = request(PRIV_START_ZYGOTE, UINT32_MAX, "");
    struct priv_request free_ = request(PRIV_ATTACH_VOLUME, 0, "alice");
    struct priv_request down = request(PRIV_DOWN, 1, "");
    struct priv_reply reply;
    begin();
    ok(reply_to(&start, &reply) && reply.error, "a frontend without a connection is refused");
    ok(reply_to(&none, &reply) && !reply.error && reply.detail == 1 && reply.calls == 1 &&
           reply.failures == 0,
       "there is no such volume: an answer, not a failure");
    ok(reply_to(&none, &reply) && reply.calls == 2, "calls are counted");
    ok(reply_to(&far, &reply) && reply.error && reply.calls == 1 && reply.failures == 1 &&
           *reply.text,
       "a slot that there is not is refused, says why and is counted");
    ok(reply_to(&free_, &reply) && reply.error, "so is a volume for a slot without a zygote");
    (void)packet_send(sock, &down, sizeof down, NULL, 0);
    ok(ended(1), "the engine may end the service with an error");
    begin();
    (void)packet_send(sock, &far, sizeof far, NULL, 0); /* its reply stays unread */
    down.slot = 0;
    (void)packet_send(sock, &down, sizeof down, NULL, 0);
    struct pollfd unread = {.fd = sock, .events = POLLIN};
    (void)poll(&unread, 1, 10000);
    fd_close(&sock);
    int status;
    (void)waitpid(pid, &status, 0);
    ok(WIFEXITED(status) && WEXITSTATUS(status) == 0, "DOWN counts although a reply was not read");
    begin();
    fd_close(&sock);
    (void)waitpid(pid, &status, 0);
    ok(WIFEXITED(status) && WEXITSTATUS(status) == 1, "its death ends the service, too");
}

/* An engine in foreign hands asks for what is another namespace's. */
static void test_limits(void)
{
    static struct policy_set two = {.magic = POLICY_SET_MAGIC, .count = 3, .match_count = 1};
    struct priv_request req = request(PRIV_LIMIT_ZYGOTE, 1, "");
    struct priv_reply reply;
    two.matches[0] = (struct policy_match){.pattern = "tight-*", .policy = 1, .may_ask = 1u << 2};
    sets = &two;
    begin();
    req.generation = 1;
    req.policy = 0;
    ok(reply_to(&req, &reply) && reply.error == ESTALE, "a namespace's limits are its policy's");
    req.policy = 1;
    ok(reply_to(&req, &reply) && !reply.error, "... which it gets");
    req.policy = 2;
    ok(reply_to(&req, &reply) && !reply.error, "or one it may ask for");
    req.policy = 3;
    ok(reply_to(&req, &reply) && reply.error == ESTALE, "one that there is not");
    req.policy = 1;
    req.generation = 2;
    ok(reply_to(&req, &reply) && reply.error == ESTALE, "and none of other policies");
    req = request(PRIV_LIMIT_ZYGOTE, 2, "");
    req.generation = 1;
    ok(reply_to(&req, &reply) && !reply.error, "who is nobody's yet may have any");
    fd_close(&sock);
    (void)waitpid(pid, NULL, 0);
    sets = NULL;
}

/* ... or wants a zygote of its own among another namespace's. */
static void test_joins(void)
{
    static struct policy_set two = {.magic = POLICY_SET_MAGIC, .count = 3, .match_count = 1};
    static const struct {
        const char *what;
        uint32_t join, policy;
        int error; /* 0: any */
    } refused[] = {
        {"a slot that there is not", SLOTS + 1, 1, 0},
        {"the last number there is", UINT32_MAX, 1, 0},
        {"a slot without a zygote", 1, 1, 0},
        {"a zygote that is nobody's", 3, 1, 0},
        {"with a policy that is not its namespace's", 2, 0, ESTALE},
        {"with a box that is not its own", 2, 2, ESTALE},
        {"with a policy that there is not", 2, 3, ESTALE},
    };
    two.matches[0] = (struct policy_match){.pattern = "tight-*", .policy = 1, .may_ask = 1u << 2};
    two.plans[2].box = 7;
    sets = &two;
    begin();
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        struct priv_request req = request(PRIV_START_ZYGOTE, 3, "");
        struct priv_reply reply;
        int fds[PACKET_FDS_MAX], null[2] = {0, 0};
        size_t nfds;
        req.generation = 1;
        req.policy = refused[i].policy;
        req.join = refused[i].join;
        bool heard = packet_send(sock, &req, sizeof req, null, 2) == 0 &&
                     packet_recv(sock, &reply, sizeof reply, fds, &nfds) == (ssize_t)sizeof reply;
        ok(heard && reply.error && nfds == 0 &&
               (refused[i].error ? reply.error == refused[i].error
                                 : strstr(reply.text, "no zygote to join") != NULL),
           "no companion beside %s: %s", refused[i].what, heard ? reply.text : "no reply");
    }
    fd_close(&sock);
    (void)waitpid(pid, NULL, 0);
    sets = NULL;
}

int main(void)
{
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (!mkdtemp(root))
        return 1;
    test_size(0);
    test_size(1);
    test_size(sizeof(struct priv_request) - 1);
    test_size(sizeof(struct priv_request) + 1);
    test_verb(0);
    test_verb(PRIV_VERBS);
    test_verb(PRIV_DRAIN);
    test_verb(UINT32_MAX);
    test_name("not terminated", "", 0);
    test_name("empty", "", 1);
    test_name("a path", "../etc", 7);
    test_name("a name of ours", ".trash-1-1", 11);
    test_phases();
    test_counts();
    test_limits();
    test_joins();
    (void)rmdir(root);
    return tap_done();
}
