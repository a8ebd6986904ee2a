/* SPDX-License-Identifier: Apache-2.0 */
/* t/unit/protocol - frames: every message survives the wire, the bytes are those that PROTOCOL.md
 * shows, and whatever is wrong with a frame no descriptor stays behind. Limits of single fields are
 * t/unit/decode's.
 */
#include "lib/arena.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/packet.h"
#include "lib/tap.h"
#include "t/lib/messages.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static char storage[PROTO_ARENA_BYTES] __attribute__((aligned(16)));
static char big[PROTO_CMD_BYTES_MAX + 1];
static struct arena arena;
static struct proto_msg got;
static struct err err;
static int pair[2], got_fds[PROTO_FDS_MAX];
static size_t got_nfds;

static int receive(void)
{
    err = (struct err){0};
    got_nfds = 99;
    arena_init(&arena, storage, sizeof storage);
    return proto_recv(pair[1], &arena, &got, got_fds, &got_nfds, &err);
}

static void close_got(void)
{
    for (size_t i = 0; i < got_nfds; i++)
        fd_close(&got_fds[i]);
}

/* ---- every message, and its bytes in PROTOCOL.md --------------------------------------------- */

static const struct proto_env some_env[] = {{"GREETING", "hello"}, {"EMPTY", ""}};
static const struct proto_stat some_stats[] = {{"active", 3}, {"runs_total", 1000000}};
static const struct proto_ns_entry some_ns[] = {{"bob", true, 2}, {"carol", false, 0}};

static const struct proto_session_entry some_sessions[] = {
    {"build", PROTO_COMPANION_SESSION, true, 2, 0, 90000},
    {"t1", PROTO_COMPANION_TERMINAL, false, 0, 1500, 2000},
};

static const struct proto_layer some_layers[] = {
    {"userns", PROTO_HELD, true, "", "3 of 3 attempts failed"},
    {"seccomp", PROTO_BROKEN, false, "can I call unshare?", "it works"},
};

/* The ones with an `example` stand in PROTOCOL.md under that name. */
static const struct {
    const char *example;
    struct proto_msg msg;
} samples[] = {
    {"Hello",
     {.type = PROTO_HELLO,
      .hello = {.version = 1,
                .server = "brood 0.1",
                .cmd_bytes_max = 131071,
                .env_bytes_max = 65536,
                .timeout_ms_default = 10000,
                .timeout_ms_max = 300000,
                .output_bytes_max = 1048576,
                .body_bytes_max = 1048576,
                .connections_max = 1024,
                .request_timeout_ms = 10000,
                .idle_timeout_ms = 60000,
                .write_timeout_ms = 30000,
                .log_format = 1,
                .log_level = 1,
                .queue_max = 64,
                .max_wait_ms = 10000,
                .kernel = "6.12.1",
                .landlock_abi = 6,
                .cgroup_version = 2,
                .networks = 1,
                .layers = some_layers,
                .layer_count = 2,
                .store = {.public_base_url = ""},
                .jobs = {.concurrency = 4, .queue_max = 10, .attempts_max = 3}}}},
    {NULL,
     {.type = PROTO_HELLO,
      .hello = {.version = 1,
                .server = "limits",
                .kernel = "",
                .keys_generation = 3,
                .streams = {1 << 20, 1 << 26, 15000, 60000},
                .run_limits = {204800,
                               {5000, 10000},
                               {1 << 28, 1 << 29},
                               {5000, 20000},
                               {1 << 20, 1 << 21},
                               {0, 20971520},
                               {10, 100}},
                .store = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, "http://[::1]:8080"},
                .sessions = {4, 128, 1800, 0},
                .terminals = {2, 32, 600, 28800},
                .terminal_silence_s = 60,
                .terminal_origins = "https://a.example, https://b.example:8443",
                .webhooks = {"http://a:81,*.b", 1, 2, 3, 4, 5, 6}}}},
    {"Execute",
     {.type = PROTO_EXECUTE,
      .tag = 7,
      .execute = {.tag = 7,
                  .ns_id = "alice",
                  .cmd = "echo hi",
                  .cmd_len = 7,
                  .cwd = "",
                  .policy = "",
                  .request_id = ""}}},
    {"Execute with everything",
     {.type = PROTO_EXECUTE,
      .tag = 8,
      .execute = {.tag = 8,
                  .ns_id = "alice",
                  .cmd = "cat \xff",
                  .cmd_len = 5,
                  .env = some_env,
                  .env_count = 2,
                  .cwd = "work",
                  .timeout_ms = 1500,
                  .cpu_ms = 1000,
                  .memory_bytes = 64 << 20,
                  .pids_max = 16,
                  .policy = "tight",
                  .request_id = "req-1"}}},
    {NULL,
     {.type = PROTO_EXECUTE,
      .tag = 9,
      .execute = {.tag = 9,
                  .ns_id = "ci-1",
                  .cmd = "",
                  .cwd = "",
                  .policy = "",
                  .request_id = "",
                  .key = "ci",
                  .timeout_ms_ceiling = 3000,
                  .memory_bytes_ceiling = 64 << 20,
                  .cpu_ms_ceiling = 1000,
                  .usual = PROTO_USUAL_MEMORY,
                  .tell_start = true,
                  .patient = true,
                  .held = true,
                  .policy_of_key = true}}},
    {"Execute in a session",
     {.type = PROTO_EXECUTE,
      .tag = 7,
      .execute = {.tag = 7,
                  .ns_id = "alice",
                  .cmd = "echo hi",
                  .cmd_len = 7,
                  .cwd = "",
                  .policy = "",
                  .request_id = "",
                  .companion = PROTO_COMPANION_SESSION,
                  .session = "build"}}},
    {"Cancel", {.type = PROTO_CANCEL, .tag = 7}},
    {"Result",
     {.type = PROTO_RESULT,
      .tag = 7,
      .result = {.tag = 7,
                 .field = "",
                 .text = "",
                 .run_id = 42,
                 .exited = true,
                 .queue_us = 15,
                 .wall_us = 320,
                 .cpu_us = 210,
                 .max_rss_kb = 2048,
                 .output_bytes_max = 4096,
                 .net_rx_bytes = 70000,
                 .net_tx_bytes = 3}}},
    {NULL,
     {.type = PROTO_RESULT,
      .tag = 10,
      .result = {.tag = 10,
                 .field = "",
                 .text = "",
                 .timeout_ms = 5000,
                 .memory_bytes = 256 << 20,
                 .cpu_ms = 1000,
                 .companion_ended = true,
                 .companion_interrupted = true}}},
    {NULL,
     {.type = PROTO_RESULT,
      .tag = 10,
      .result = {.tag = 10, .field = "", .text = "", .companion_new = true}}},
    {"Result of a refusal",
     {.type = PROTO_RESULT,
      .tag = 8,
      .result = {.tag = 8,
                 .outcome = PROTO_BAD_REQUEST,
                 .field = "cwd",
                 .text = "cwd does not exist",
                 .run_id = 43}}},
    {NULL,
     {.type = PROTO_RESULT,
      .tag = UINT64_MAX,
      .result = {.tag = UINT64_MAX,
                 .field = "",
                 .text = "",
                 .reason = PROTO_REASON_INTERNAL,
                 .exit_code = -1,
                 .signal = 64,
                 .queue_us = UINT64_MAX,
                 .start = PROTO_START_EXEC,
                 .denied = {{"mount", 2}, {"clone3", UINT32_MAX}},
                 .denied_count = 2}}},
    {"StatsRequest", {.type = PROTO_STATS_REQUEST, .tag = 9}},
    {"Stats", {.type = PROTO_STATS, .tag = 9, .stats = {some_stats, 2}}},
    {NULL, {.type = PROTO_STATS, .tag = 9}},
    {"NamespaceListRequest",
     {.type = PROTO_NS_LIST_REQUEST, .tag = 10, .ns_list_request = {"alice", 2}}},
    {"NamespaceList", {.type = PROTO_NS_LIST, .tag = 10, .ns_list = {some_ns, 2, true}}},
    {NULL, {.type = PROTO_NS_LIST, .tag = 10}},
    {"NamespaceRemove", {.type = PROTO_NS_REMOVE, .tag = 11, .ns_remove = {"bob"}}},
    {"PolicyRequest", {.type = PROTO_POLICY_REQUEST, .tag = 12, .policy_request = {"default"}}},
    {"SessionListRequest",
     {.type = PROTO_SESSION_LIST_REQUEST,
      .tag = 13,
      .session_list_request = {"alice", PROTO_COMPANION_NONE}}},
    {"SessionList", {.type = PROTO_SESSION_LIST, .tag = 13, .session_list = {some_sessions, 2}}},
    {NULL, {.type = PROTO_SESSION_LIST, .tag = 13}},
    {"SessionClose",
     {.type = PROTO_SESSION_CLOSE,
      .tag = 14,
      .session_close = {"alice", "build", PROTO_COMPANION_SESSION}}},
    {"Waiting", {.type = PROTO_WAITING, .tag = 7, .waiting = true}},
    {NULL, {.type = PROTO_WAITING, .tag = 7, .output_bytes_max = 4096}},
    {"Signal", {.type = PROTO_SIGNAL, .tag = 7, .signal = 2}},
    {"Done", {.type = PROTO_DONE, .tag = 11, .done = {PROTO_BUSY, "in use"}}},
};

/* PROTOCOL.md has "### NAME" and somewhere after it the frame as one line of hex. */
static bool document_shows(const char *doc, const char *name, const char *hex)
{
    char heading[64];
    (void)snprintf(heading, sizeof heading, "Example, %s:\n\n    ", name);
    const char *at = strstr(doc, heading);
    return at && strncmp(at + strlen(heading), hex, strlen(hex)) == 0 &&
           at[strlen(heading) + strlen(hex)] == '\n';
}

static void test_samples(void)
{
    static char doc[65536], frame[4096], hex[sizeof frame * 2 + 1];
    FILE *file = fopen("PROTOCOL.md", "re");
    ok(file && fread(doc, 1, sizeof doc - 1, file) > 1000, "PROTOCOL.md is there");
    if (file)
        (void)fclose(file);
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        const struct proto_msg *msg = &samples[i].msg;
        ok(proto_send(pair[0], msg, NULL, 0, &err) == 0 && receive() == 1 && got_nfds == 0 &&
               message_is_same(msg, &got),
           "sample %zu, of type %d, survives the wire", i, (int)msg->type);
        if (!samples[i].example)
            continue;
        size_t nfds = 0;
        int fds[PACKET_FDS_MAX];
        (void)proto_send(pair[0], msg, NULL, 0, &err);
        ssize_t n = packet_recv(pair[1], frame, sizeof frame, fds, &nfds);
        for (ssize_t k = 0; k < n; k++)
            (void)snprintf(hex + 2 * k, 3, "%02x", (unsigned char)frame[k]);
        ok(document_shows(doc, samples[i].example, hex), "PROTOCOL.md shows %s as %s",
           samples[i].example, hex);
    }
}

/* ---- descriptors, long messages ---------------------------------------------------------------
 */

static bool is_same_file(int a, int b)
{
    struct stat x, y;
    return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static struct proto_msg execute_of(size_t cmd_len)
{
    struct proto_msg msg = {.type = PROTO_EXECUTE, .tag = 1};
    memset(big, 'x', sizeof big);
    msg.execute = (struct proto_execute){.tag = 1,
                                         .ns_id = "alice",
                                         .cmd = big,
                                         .cmd_len = cmd_len,
                                         .cwd = "",
                                         .policy = "",
                                         .request_id = ""};
    return msg;
}

static void test_descriptors(void)
{
    const size_t lengths[] = {1, 3000, PROTO_INLINE_BYTES_MAX, PROTO_CMD_BYTES_MAX};
    int pipes[2], before = fd_count_open();
    if (pipe2(pipes, O_CLOEXEC) < 0)
        return;
    const int sent[PROTO_FDS_MAX] = {pipes[0], pipes[1], 0, pipes[0], pipes[1], 0, 1, 2};
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        struct proto_msg msg = execute_of(lengths[i]);
        int r = proto_send(pair[0], &msg, sent, 3, &err);
        ok(r == 0 && receive() == 1 && got_nfds == 3 && execute_is_same(&msg.execute, &got.execute),
           "a command of %zu bytes arrives with three descriptors", lengths[i]);
        ok(is_same_file(got_fds[0], pipes[0]) && is_same_file(got_fds[2], 0) &&
               (fcntl(got_fds[1], F_GETFD) & FD_CLOEXEC),
           "... which are the ones sent, in order, close-on-exec");
        close_got();
    }
    struct proto_msg msg = execute_of(1);
    ok(proto_send(pair[0], &msg, sent, PROTO_FDS_MAX, &err) == 0 && receive() == 1 &&
           got_nfds == PROTO_FDS_MAX,
       "%u descriptors fit", PROTO_FDS_MAX);
    close_got();
    msg = execute_of(PROTO_CMD_BYTES_MAX);
    ok(proto_send(pair[0], &msg, sent, PROTO_FDS_MAX - 1, &err) == 0 && receive() == 1 &&
           got_nfds == PROTO_FDS_MAX - 1,
       "one less beside a long message");
    close_got();
    ok(proto_send(pair[0], &msg, sent, PROTO_FDS_MAX, &err) < 0 && err.text[0],
       "as many are refused: %s", err.text);
    fd_close(&pipes[0]);
    fd_close(&pipes[1]);
    ok(fd_count_open() == before, "no descriptor left behind");
}

/* What does not fit a receiver's table of descriptors: none of them comes, the message does. */
static void test_no_room(void)
{
    struct proto_msg msg = execute_of(10);
    struct rlimit was, tight;
    int before = fd_count_open(), lowest = dup(0);
    if (proto_send(pair[0], &msg, (const int[]){0, 1, 2}, 3, &err) < 0 ||
        getrlimit(RLIMIT_NOFILE, &was) < 0)
        return;
    tight = (struct rlimit){.rlim_cur = (rlim_t)lowest + 1, .rlim_max = was.rlim_max};
    fd_close(&lowest); /* room for one of three */
    (void)setrlimit(RLIMIT_NOFILE, &tight);
    int r = receive();
    (void)setrlimit(RLIMIT_NOFILE, &was);
    ok(r == 1 && got_nfds == 0 && execute_is_same(&msg.execute, &got.execute),
       "without room for three descriptors it comes with none");
    ok(fd_count_open() == before, "no descriptor left behind");
}

/* ---- bad frames -------------------------------------------------------------------------------
 */

#define EXECUTE_BYTES                                                                              \
    "\x12\x05"                                                                                     \
    "alice"                                                                                        \
    "\x1a\x02"                                                                                     \
    "id"

static void refused(const char *what, const void *frame, size_t len, const int *fds, size_t nfds)
{
    int before = fd_count_open();
    int r = packet_send(pair[0], frame, len, fds, nfds);
    ok(r == 0 && receive() == -EPROTO && err.code == -EPROTO && err.text[0], "%s: %s", what,
       err.text);
    ok(got_nfds == 0 && fd_count_open() == before, "... and no descriptor left behind");
}
#define REFUSED(what, text, fds, nfds) refused(what, "" text, sizeof(text) - 1, fds, nfds)

static void test_frames(void)
{
    static const int some[PACKET_FDS_MAX];
    static char longer[PROTO_INLINE_BYTES_MAX + 9] = "brd1\2";
    REFUSED("shorter than a header", "brd1\2\0\0", some, 3);
    REFUSED("another magic", "brd2\2\0\0\0" EXECUTE_BYTES, some, 3);
    REFUSED("HTTP", "GET / HTTP/1.1\r\n\r\n", some, 0);
    REFUSED("an unknown flag", "brd1\2\0\2\0" EXECUTE_BYTES, some, 3);
    REFUSED("type 0", "brd1\0\0\0\0" EXECUTE_BYTES, some, 3);
    REFUSED("type 11", "brd1\13\0\0\0" EXECUTE_BYTES, some, 3);
    REFUSED("type 258", "brd1\2\1\0\0" EXECUTE_BYTES, some, 3);
    REFUSED("no protobuf", "brd1\2\0\0\0hello", some, 8);
    REFUSED("one descriptor too many", "brd1\2\0\0\0" EXECUTE_BYTES, some, PROTO_FDS_MAX + 1);
    refused("more than a frame may hold", longer, sizeof longer, some, 8);

    int before = fd_count_open();
    ok(packet_send(pair[0], "", 0, some, 8) == 0 && receive() == 0 && got_nfds == 0,
       "an empty datagram is taken for the end");
    ok(fd_count_open() == before, "... and its descriptors are closed");
}

static int sealed(const void *bytes, size_t len, int seals)
{
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd >= 0 && (fd_write_all(fd, bytes, len) < 0 || fcntl(fd, F_ADD_SEALS, seals) < 0))
        fd_close(&fd);
    return fd;
}

static void refused_payload(const char *what, int payload)
{
    const int fds[2] = {0, payload};
    REFUSED(what, "brd1\2\0\1\0", fds, 2);
    fd_close(&payload);
}

static void test_payloads(void)
{
    static char huge[PROTO_MESSAGE_BYTES_MAX + 1];
    static const char good[] = EXECUTE_BYTES;
    const int all = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    int before = fd_count_open(), zero = 0;
    refused_payload("a memfd without seals", sealed(good, sizeof good - 1, 0));
    refused_payload("one that may shrink", sealed(good, sizeof good - 1, all & ~F_SEAL_SHRINK));
    refused_payload("one that may grow", sealed(good, sizeof good - 1, all & ~F_SEAL_GROW));
    refused_payload("one that may be written", sealed(good, sizeof good - 1, all & ~F_SEAL_WRITE));
    refused_payload("an empty one", sealed("", 0, all));
    refused_payload("a device", open("/dev/zero", O_RDONLY | O_CLOEXEC));
    refused_payload("a file", open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    refused_payload("one beyond the limit", sealed(huge, sizeof huge, all));
    refused_payload("one at the limit, but no message", sealed(huge, sizeof huge - 1, all));
    REFUSED("no memfd", "brd1\2\0\1\0", &zero, 0);
    REFUSED("bytes beside a memfd", "brd1\2\0\1\0" EXECUTE_BYTES, &zero, 1);

    int fds[2] = {0, sealed(good, sizeof good - 1, all)};
    ok(packet_send(pair[0], "brd1\2\0\1\0", 8, fds, 2) == 0 && receive() == 1 && got_nfds == 1 &&
           strcmp(got.execute.ns_id, "alice") == 0,
       "a short message may come as a memfd, too");
    close_got();
    fd_close(&fds[1]);
    ok(fd_count_open() == before, "no descriptor left behind");
}

/* ---- peers ------------------------------------------------------------------------------------
 */

static void test_full(void)
{
    struct proto_msg msg = execute_of(20000);
    unsigned sent = 0, received = 0;
    int r, before = fd_count_open();
    (void)fd_set_nonblock(pair[0]);
    (void)fd_set_nonblock(pair[1]);
    ok(receive() == -EAGAIN && got_nfds == 0, "nothing there is -EAGAIN");
    while ((r = proto_send(pair[0], &msg, (const int[]){0, 1, 2}, 3, &err)) == 0)
        sent++;
    ok(r == -EAGAIN && sent > 0, "a peer that does not read is -EAGAIN after %u messages", sent);
    msg = execute_of(PROTO_CMD_BYTES_MAX);
    ok(proto_send(pair[0], &msg, NULL, 0, &err) == -EAGAIN, "also for a memfd");
    while (receive() == 1) {
        received += got.execute.cmd_len == 20000 && got_nfds == 3;
        close_got();
    }
    ok(received == sent, "what was sent arrives, nothing of the refused");
    ok(fd_count_open() == before, "no descriptor left behind");
}

static void test_gone(void)
{
    struct proto_msg msg = execute_of(10);
    (void)signal(SIGPIPE, SIG_DFL);
    (void)proto_send(pair[0], &msg, NULL, 0, &err);
    fd_close(&pair[0]);
    ok(receive() == 1 && got.execute.cmd_len == 10, "what a peer sent before it went still comes");
    ok(receive() == 0 && got_nfds == 0, "then 0: it is gone");
    ok(proto_send(pair[1], &msg, NULL, 0, &err) == -EPIPE, "sending fails without a signal: %s",
       err.text);
    fd_close(&pair[1]);
    ok(proto_send(pair[1], &msg, NULL, 0, &err) == -EBADF && receive() == -EBADF,
       "no socket at all: %s", err.text);
}

static void test_connect(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    char dir[] = "/tmp/brood-unit-XXXXXX", path[sizeof addr.sun_path];
    memset(big, 'p', 200);
    big[200] = 0;
    int before = fd_count_open();
    ok(proto_connect(big, &err) == -EINVAL, "a path too long: %.60s...", err.text);
    if (!mkdtemp(dir))
        return;
    (void)snprintf(path, sizeof path, "%s/socket", dir);
    ok(proto_connect(path, &err) == -ENOENT, "no socket: %s", err.text);
    (void)snprintf(addr.sun_path, sizeof addr.sun_path, "%s", path);
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    ok(bind(listener, (struct sockaddr *)&addr, sizeof addr) == 0 && listen(listener, 1) == 0,
       "a listener");
    int fd = proto_connect(path, &err);
    ok(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC), "is reached, close-on-exec");
    fd_close(&fd);
    fd_close(&listener);
    ok(proto_connect(path, &err) == -ECONNREFUSED, "nobody behind it: %s", err.text);
    (void)unlink(path);
    (void)rmdir(dir);
    ok(fd_count_open() == before, "no descriptor left behind");
}

int main(void)
{
    if (packet_pair(pair, false) < 0)
        return 1;
    test_samples();
    test_descriptors();
    test_no_room();
    test_frames();
    test_payloads();
    test_full();
    test_gone();
    test_connect();
    return tap_done();
}
