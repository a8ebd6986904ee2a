/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/priv_spawn - how priv starts its children: frontend, courier and primordial by exec,
 * the engine by fork alone. Between fork and exec a list of steps runs in the child; the first that
 * fails is sent home through a close-on-exec pipe as {step, errno}, so a failed start is named,
 * never guessed.
 */
#include "courier/courier.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "lib/packet.h"
#include "supervisor/priv_impl.h"
#include "supervisor/settings.h"
#include "zygote/zygote.h"
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define HELLO_MS 10000
#define ANSWER_S 5 /* a clone takes under a millisecond */
#define FIRST_TARGET 3
#define NETD_ANSWER_S 15
#define MOVE_MAX (LISTENERS + PACKET_FDS_MAX + 3)

struct plan {
    const char *image; /* primordial: enter it; NULL: stay */
    const struct policy_set *policies;
    const struct priv_ids *ids; /* frontend: become them; NULL: stay root */
    bool is_netd;               /* beside ids */
    const char *path;           /* "" with exec_fd */
    int exec_fd;
    char *const *argv, *const *env;
    struct {
        int from, to;
    } move[MOVE_MAX];
    size_t moves;
};

struct failure {
    int step, error;
    struct err err;
};

/* ---- the child's steps -------------------------------------------------------------------------
 */

static int reset_signals(const struct plan *plan, struct err *err)
{
    (void)plan;
    sigset_t none;
    (void)sigemptyset(&none);
    /* The raw call: glibc's posix_spawn(3), by which make started us, leaves its own signals 32 and
     * 33 ignored, and its signal(3) will not touch them. All zeros are SIG_DFL. */
    const unsigned long by_default[8] = {0};
    for (int sig = 1; sig < _NSIG; sig++)
        if (sig != SIGKILL && sig != SIGSTOP)
            (void)syscall(SYS_rt_sigaction, sig, by_default, NULL, _NSIG / 8);
    return sigprocmask(SIG_SETMASK, &none, NULL) < 0 ? err_sys(err, "signal mask") : 0;
}

/* Two passes, so that no target overwrites a source. */
static int move_descriptors(const struct plan *plan, struct err *err)
{
    int high[MOVE_MAX];
    for (size_t i = 0; i < plan->moves; i++) {
        high[i] = SYS(fcntl(plan->move[i].from, F_DUPFD_CLOEXEC, 100));
        if (high[i] < 0)
            return err_sys(err, "descriptor %d", plan->move[i].from);
    }
    for (size_t i = 0; i < plan->moves; i++)
        if (SYS(dup2(high[i], plan->move[i].to)) < 0)
            return err_sys(err, "descriptor %d", plan->move[i].to);
    return 0;
}

static int enter_image(const struct plan *plan, struct err *err)
{
    if (!plan->image)
        return 0;
    if (SYS(unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)) < 0)
        return err_sys(err, "unshare");
    return priv_enter_image(plan->image, plan->policies, err);
}

static int renounce(const struct plan *plan, struct err *err)
{
    if (plan->is_netd)
        return priv_become_netd(plan->ids, err);
    return plan->ids ? priv_become(plan->ids, err) : priv_become_primordial(err);
}

static int become_program(const struct plan *plan, struct err *err)
{
    if (plan->exec_fd >= 0)
        (void)syscall(SYS_execveat, plan->exec_fd, "", plan->argv, plan->env,
                      0x1000 /* AT_EMPTY_PATH */);
    else
        (void)execve(plan->path, plan->argv, plan->env);
    return err_sys(err, "exec %s", plan->argv[0]);
}

static const struct {
    const char *name;
    int (*run)(const struct plan *plan, struct err *err);
} steps[] = {
    {"reset signals", reset_signals},       {"enter the root image", enter_image},
    {"move descriptors", move_descriptors}, {"renounce privileges", renounce},
    {"become the program", become_program},
};

/* 0 and *ret_pid once the program runs; <0: which step failed and why. */
static int spawn(const struct plan *plan, pid_t *ret_pid, struct err *err)
{
    int report[2];
    struct failure failure;
    if (SYS(pipe2(report, O_CLOEXEC)) < 0)
        return err_sys(err, "pipe");
    pid_t pid = SYS(fork());
    if (pid == 0) {
        for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
            failure.step = (int)i;
            if (steps[i].run(plan, &failure.err) < 0)
                break;
        }
        (void)!write(report[1], &failure, sizeof failure);
        _exit(127);
    }
    int saved = errno;
    (void)close(report[1]);
    auto_close int report_fd = report[0];
    if (pid < 0) {
        errno = saved;
        return err_sys(err, "fork");
    }
    if (read(report_fd, &failure, sizeof failure) != (ssize_t)sizeof failure) {
        *ret_pid = pid; /* closed by the exec */
        return 0;
    }
    (void)waitpid(pid, NULL, 0); /* it is exiting */
    return err_set(err, "%s: %.180s", steps[failure.step].name, failure.err.text);
}

/* ---- who is started ----------------------------------------------------------------------------
 */

/* The next of the descriptors that go along, as the value of a flag. */
static void pass(struct plan *plan, int from, int *target, char ret_value[16])
{
    plan->move[plan->moves].from = from;
    plan->move[plan->moves++].to = *target;
    (void)snprintf(ret_value, 16, "%d", (*target)++);
}

int priv_start_frontend(struct priv *p, const int *conns, size_t count, struct err *err)
{
    char path[PATH_MAX], listen[32] = "", engine[64] = "", state[16], courier[16], secret[16];
    struct priv_ids ids;
    struct plan plan = {.ids = &ids, .path = path, .exec_fd = -1};
    int target = FIRST_TARGET;
    (void)snprintf(path, sizeof path, "%.4000s/brood-frontend", p->set->lib_dir);
    for (size_t i = 0; i < LISTENERS + count; i++) {
        char *list = i < LISTENERS ? listen : engine;
        size_t room = i < LISTENERS ? sizeof listen : sizeof engine, len = strlen(list);
        int from = i < LISTENERS ? p->listeners[i] : conns[i - LISTENERS];
        if (from < 0)
            continue;
        (void)snprintf(list + len, room - len, "%s%d", len ? "," : "", target);
        plan.move[plan.moves].from = from;
        plan.move[plan.moves++].to = target++;
    }
    pass(&plan, p->state_fd, &target, state);
    char *argv[12] = {(char[]){"brood-frontend"},
                      (char[]){"--listen"},
                      listen,
                      (char[]){"--engine"},
                      engine,
                      (char[]){"--state"},
                      state};
    char courier_flag[] = "--courier", secret_flag[] = "--webhook-secret";
    size_t argc = 7;
    if (p->courier_pair[0] >= 0) {
        pass(&plan, p->courier_pair[0], &target, courier);
        argv[argc++] = courier_flag;
        argv[argc++] = courier;
    }
    if (p->webhook_secret_fd >= 0) {
        pass(&plan, p->webhook_secret_fd, &target, secret);
        argv[argc++] = secret_flag;
        argv[argc++] = secret;
    }
    char *env[] = {(char[]){"LANG=C.UTF-8"}, NULL};
    plan.argv = argv;
    plan.env = env;
    int r = priv_find_frontend(p->set, &ids, err);
    return r < 0 ? r : spawn(&plan, &p->frontend, err);
}

int priv_start_courier(struct priv *p, struct err *err)
{
    const struct settings *set = p->set;
    char path[PATH_MAX], connect_ms[24], timeout_ms[24], format[8], level[8];
    char allow[sizeof set->webhook_allow], allow_private[sizeof set->webhook_allow_private];
    char ca_file[PATH_MAX];
    struct priv_ids ids;
    (void)snprintf(path, sizeof path, "%.4000s/brood-courier", set->lib_dir);
    (void)snprintf(connect_ms, sizeof connect_ms, "%" PRIu64, set->webhook_connect_ms);
    (void)snprintf(timeout_ms, sizeof timeout_ms, "%" PRIu64, set->webhook_timeout_ms);
    (void)snprintf(format, sizeof format, "%d", (int)set->log_format);
    (void)snprintf(level, sizeof level, "%d", (int)set->log_level);
    memcpy(allow, set->webhook_allow, sizeof allow);
    memcpy(allow_private, set->webhook_allow_private, sizeof allow_private);
    memcpy(ca_file, set->webhook_ca_file, sizeof ca_file);
    char *argv[] = {(char[]){"brood-courier"},
                    (char[]){"--allow"},
                    allow,
                    (char[]){"--allow-private"},
                    allow_private,
                    (char[]){"--ca-file"},
                    ca_file,
                    (char[]){"--connect-ms"},
                    connect_ms,
                    (char[]){"--timeout-ms"},
                    timeout_ms,
                    (char[]){"--log-format"},
                    format,
                    (char[]){"--log-level"},
                    level,
                    NULL};
    /* A name server that does not answer keeps a thread: not for long. */
    char *env[] = {(char[]){"LANG=C.UTF-8"}, (char[]){"RES_OPTIONS=timeout:2 attempts:2"}, NULL};
    struct plan plan = {
        .ids = &ids, .path = path, .exec_fd = -1, .argv = argv, .env = env, .moves = 1};
    plan.move[0].from = p->courier_pair[1];
    plan.move[0].to = COURIER_SOCK_FD;
    int r = priv_find_ids(set->user_courier, (uint32_t)(set->uid_base - ZYG_UIDS_PER_SLOT - 4),
                          &ids, err);
    return r < 0 ? r : spawn(&plan, &p->courier, err);
}

static int set_patience(int sock, time_t seconds, struct err *err)
{
    struct timeval patience = {.tv_sec = seconds};
    if (SYS(setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience)) < 0 ||
        SYS(setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience)) < 0)
        return err_sys(err, "deadline of a socket");
    return 0;
}

/* Without a death signal: it has to clean up, and does when its socket ends. */
int priv_start_netd(struct priv *p, struct err *err)
{
    char path[PATH_MAX];
    int pair[2];
    struct priv_ids ids;
    char *argv[] = {(char[]){"brood-netd"}, NULL}, *env[] = {(char[]){"LANG=C.UTF-8"}, NULL};
    struct plan plan = {
        .ids = &ids, .is_netd = true, .path = path, .exec_fd = -1, .argv = argv, .env = env};
    ids.uid = ids.gid = (uid_t)(p->set->uid_base - ZYG_UIDS_PER_SLOT - 3);
    (void)snprintf(path, sizeof path, "%.4000s/brood-netd", p->set->lib_dir);
    int r = packet_pair(pair, false);
    if (r < 0) {
        errno = -r;
        return err_sys(err, "socket pair");
    }
    plan.moves = 1;
    plan.move[0].from = pair[1];
    plan.move[0].to = NET_SOCK_FD;
    r = set_patience(pair[0], NETD_ANSWER_S, err);
    if (r == 0)
        r = spawn(&plan, &p->netd, err);
    (void)close(pair[1]);
    if (r < 0)
        (void)close(pair[0]);
    else
        p->netd_sock = pair[0];
    return r;
}

static int await_hello(int sock, struct err *err)
{
    struct zyg_born hello;
    struct pollfd pfd = {.fd = sock, .events = POLLIN};
    int fds[PACKET_FDS_MAX];
    size_t nfds;
    if (poll(&pfd, 1, HELLO_MS) != 1 ||
        packet_recv(sock, &hello, sizeof hello, fds, &nfds) != (ssize_t)sizeof hello)
        return err_set(err, "no hello from the primordial");
    return set_patience(sock, ANSWER_S, err);
}

static int start_primordial_as(struct priv *p, bool execs, struct err *err)
{
    char *const base_env[] = {(char[]){"HOME=" ZYG_HOME}, (char[]){"USER=user"},
                              (char[]){"PATH=/usr/local/bin:/usr/bin:/bin"},
                              (char[]){"LANG=C.UTF-8"}, NULL};
    char *bash_argv[] = {(char[]){"bash"}, (char[]){"-c"}, (char[]){ZYG_BASH_COMMAND}, NULL};
    char *exec_argv[] = {(char[]){"brood-zygote"}, NULL};
    char path[PATH_MAX];
    int pair[2];
    (void)snprintf(path, sizeof path, "%.4000s/%s", p->set->lib_dir,
                   execs ? "brood-zygote" : "brood-zygote.so");
    auto_close int found = SYS(open(path, O_RDONLY | O_CLOEXEC));
    /* Out of the way of the numbers that others are moved to. */
    auto_close int program = found < 0 ? -1 : SYS(fcntl(found, F_DUPFD_CLOEXEC, 100));
    if (program < 0)
        return err_sys(err, "open %s", path);
    int r = packet_pair(pair, false);
    if (r < 0) {
        errno = -r;
        return err_sys(err, "socket pair");
    }
    struct plan plan = {.image = p->set->image,
                        .policies = p->policies,
                        .path = "/bin/bash",
                        .exec_fd = execs ? program : -1,
                        .argv = execs ? exec_argv : bash_argv,
                        .env = base_env,
                        .moves = execs ? 2 : 3};
    plan.move[0].from = pair[1];
    plan.move[0].to = ZYG_PRIV_FD;
    plan.move[1].from = p->policies_fd;
    plan.move[1].to = ZYG_PLAN_FD;
    plan.move[2].from = program;
    plan.move[2].to = ZYG_BUILTIN_FD;
    r = spawn(&plan, &p->primordial, err);
    (void)close(pair[1]);
    if (r == 0)
        r = await_hello(pair[0], err);
    if (r < 0) {
        if (p->primordial > 0)
            (void)kill(p->primordial, SIGKILL);
        (void)close(pair[0]);
        return r;
    }
    p->primordial_sock = pair[0];
    p->execs = execs;
    LOG(INFO, "primordial", F_STR("zygote", execs ? "exec" : "bash"), F_I64("pid", p->primordial));
    return 0;
}

int priv_start_primordial(struct priv *p, struct err *err)
{
    enum settings_zygote want = p->set->zygote;
    int r = -1;
    if (want != SETTINGS_ZYGOTE_EXEC) {
        r = start_primordial_as(p, false, err);
        if (r < 0 && want == SETTINGS_ZYGOTE_AUTO)
            LOG(WARN, "no_bash_zygote", F_STR("error", err->text),
                F_STR("instead", "the static fallback: slower"));
    }
    return r < 0 && want != SETTINGS_ZYGOTE_BASH ? start_primordial_as(p, true, err) : r;
}
