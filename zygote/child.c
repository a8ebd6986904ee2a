/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/child - the standby: from fork to the first byte of the command.
 *
 * Everything that does not depend on the run is done before it waits: session, cgroups, limits,
 * ids. Then it blocks in one recvmsg on the run socket, takes the three descriptors, starts the
 * run's clock (the timerfd is shared with pid 1, which polls it) and evaluates. A retirement
 * ends it there. A step that fails is written to the note and reported by pid 1 by its
 * number.
 */
#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/fd.h"
#include "lib/packet.h"
#include "zygote/zyg.h"
#include <fcntl.h>
#include <grp.h>
#include <linux/futex.h>
#include <linux/openat2.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timerfd.h>

#define ENV_ROOM 300 /* PROTO_ENV_COUNT_MAX + the base */

char child_message[ZYG_RUN_BYTES_MAX + 1];
static char *env[ENV_ROOM], *request_env[ENV_ROOM];
static char *args[ZYG_ARGS_MAX + 1], *places[ZYG_PLACES_MAX + 1];

static int note_fd; /* of this child's zygote */

static void write_note(size_t at, const void *data, size_t len)
{
    if (SYS(pwrite(note_fd, data, len, (off_t)at)) != (ssize_t)len)
        _exit(CHILD_MUTE);
}

void child_fail(enum child_step step, int error)
{
    uint32_t failed[2] = {step, (uint32_t)error};
    _Static_assert(offsetof(struct zyg_note, step_errno) == offsetof(struct zyg_note, step) + 4,
                   "");
    write_note(offsetof(struct zyg_note, step), failed, sizeof failed);
    _exit(127);
}

/* What is the same for every run. Failing here ends the standby; pid 1 reports the namespace
 * broken. */
static void join_cgroups(struct zyg *z)
{
    for (size_t i = 0; i < z->joins_count; i++)
        if (SYS(write(z->procs_fd[i], "0", 1)) < 0)
            child_fail(CHILD_STEP_LIMITS, errno);
}

static void become_group(void)
{
    if (SYS(setgroups(0, NULL)) < 0 ||
        SYS(setresgid(ZYG_CHILD_UID, ZYG_CHILD_UID, ZYG_CHILD_UID)) < 0)
        child_fail(CHILD_STEP_LIMITS, errno);
}

static void become_user(void)
{
    if (SYS(setresuid(ZYG_CHILD_UID, ZYG_CHILD_UID, ZYG_CHILD_UID)) < 0 ||
        SYS(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)) < 0)
        child_fail(CHILD_STEP_LIMITS, errno);
}

/* Also before that; the note belongs to another run still. */
static void get_ready(struct zyg *z)
{
    sigset_t none;
    note_fd = z->note_fd;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    z->eval->on_standby();
}

static void await_promotion(struct zyg *z)
{
    uint32_t me = (uint32_t)getpid(), seen;
    while ((seen = z->token->go) != me)
        zyg_await(&z->token->go, seen, 0);
}

static bool text_ends(const char *bytes, uint32_t len)
{
    return len > 0 && bytes[len - 1] == 0;
}

/* Points at `count` texts that lie in a row and fill `len` bytes with their NULs. */
static bool split(char *at, uint32_t len, uint32_t count, char **ret)
{
    char *end = at + len;
    for (; count > 0 && at < end; count--, at += strlen(at) + 1)
        *ret++ = at;
    *ret = NULL;
    return count == 0 && at == end;
}

static bool is_sound(const struct zyg_run *run, size_t len)
{
    static const uint32_t kinds[] = {ZYG_RUN_MAGIC, ZYG_PROGRAM_MAGIC, ZYG_FILES_MAGIC,
                                     ZYG_PROBE_MAGIC, ZYG_TERMINAL_MAGIC};
    size_t kind = 0;
    if (len < sizeof *run)
        return false;
    while (kind < ARRAY_LEN(kinds) && kinds[kind] != run->magic)
        kind++;
    return kind < ARRAY_LEN(kinds) && !(run->flags & ~(ZYG_EMPTY_OUTPUTS | ZYG_EMPTY_SOURCE)) &&
           run->arg_count <= ZYG_ARGS_MAX && run->place_count <= ZYG_PLACES_MAX &&
           (run->arg_count > 0 || run->magic != ZYG_PROGRAM_MAGIC) &&
           (uint64_t)run->cmd_bytes + run->env_bytes + run->cwd_bytes + run->arg_bytes +
                   run->place_bytes ==
               len - sizeof *run;
}

int child_parse(size_t len, struct child_job *job)
{
    const struct zyg_run *run = (const void *)child_message;
    if (!is_sound(run, len))
        return -EBADMSG;
    char *cmd = child_message + sizeof *run, *vars = cmd + run->cmd_bytes;
    char *cwd = vars + run->env_bytes;
    char *words = cwd + run->cwd_bytes;
    if (!text_ends(cmd, run->cmd_bytes) || !text_ends(cwd, run->cwd_bytes) ||
        (run->env_bytes && !text_ends(vars, run->env_bytes)) ||
        !split(words, run->arg_bytes, run->arg_count, args) ||
        !split(words + run->arg_bytes, run->place_bytes, run->place_count, places))
        return -EBADMSG;
    for (char *at = vars; at < cwd; at += strlen(at) + 1) {
        if (job->request_env_count == ENV_ROOM - 16)
            return -E2BIG;
        request_env[job->request_env_count++] = at;
    }
    job->cmd = cmd;
    job->cwd = cwd;
    job->request_env = request_env;
    job->args = args;
    job->arg_count = run->arg_count;
    job->places = places;
    job->place_count = run->place_count;
    return 0;
}

static bool same_name(const char *a, const char *b)
{
    size_t len = strcspn(a, "=");
    return strncmp(a, b, len + 1) == 0;
}

/* The base, with the request's variables replacing or following it. */
static void merge_env(struct child_job *job)
{
    size_t n = 0;
    for (size_t i = 0; zyg_base_env[i]; i++)
        env[n++] = zyg_base_env[i];
    for (size_t i = 0; i < job->request_env_count; i++) {
        size_t at = 0;
        while (at < n && !same_name(env[at], request_env[i]))
            at++;
        env[at] = request_env[i];
        n += at == n;
    }
    env[n] = NULL;
    job->env = env;
    job->env_count = n;
}

int child_enter_cwd(const char *cwd)
{
    static const char *const roots[] = {ZYG_HOME, "/tmp"};
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_BENEATH};
    const char *root = ZYG_HOME, *rest = cwd;
    if (*cwd == '/') {
        size_t i, len = 0;
        for (i = 0; i < ARRAY_LEN(roots); i++) {
            len = strlen(roots[i]);
            if (strncmp(cwd, roots[i], len) == 0 && (cwd[len] == '/' || cwd[len] == 0))
                break;
        }
        if (i == ARRAY_LEN(roots))
            return -EXDEV;
        root = roots[i];
        rest = cwd + len;
        rest += strspn(rest, "/");
    }
    auto_close int root_fd = SYS(open(root, O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (root_fd < 0)
        return -errno;
    auto_close int fd =
        (int)SYS(syscall(SYS_openat2, root_fd, *rest ? rest : ".", &how, sizeof how));
    return fd < 0 || SYS(fchdir(fd)) < 0 ? -errno : 0;
}

static void start_clock(struct zyg *z, const struct zyg_run *run)
{
    struct itimerspec when = {.it_value = {.tv_sec = (time_t)(run->timeout_ns / CLOCK_NS_PER_S),
                                           .tv_nsec = (long)(run->timeout_ns % CLOCK_NS_PER_S)}};
    struct zyg_note note = {.run_id = run->run_id,
                            .pid = getpid(),
                            .started_ns = clock_now_ns(),
                            .grace_ns = run->grace_ns,
                            .home_cpu = run->home_cpu,
                            .flags = run->flags};
    write_note(0, &note, sizeof note);
    if (SYS(timerfd_settime(z->clock_fd, 0, &when, NULL)) < 0)
        child_fail(CHILD_STEP_LIMITS, errno);
}

/* All runs without input are given one /dev/null, and with it one set of flags, owner and locks:
 * each gets an open file of its own instead. */
static int own_null(int fd)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
        return fd;
    return SYS(open("/dev/null", O_RDONLY | O_CLOEXEC));
}

static void install_stdio(int *fds, size_t nfds, size_t place_count)
{
    if (nfds != 3 + place_count)
        child_fail(CHILD_STEP_MESSAGE, EBADF);
    fds[0] = own_null(fds[0]);
    for (int i = 0; i < 3; i++)
        if (SYS(dup2(fds[i], i)) < 0)
            child_fail(CHILD_STEP_STDIO, errno);
}

/* The last step: what is open from here on, foreign code has. */
static void close_others(const struct zyg *z)
{
    if (SYS(syscall(SYS_close_range, 3, ~0u, z->eval->execs ? CLOSE_RANGE_CLOEXEC : 0)) < 0)
        child_fail(CHILD_STEP_STDIO, errno);
}

static void limit_cpu(uint64_t seconds)
{
    struct rlimit lim = {.rlim_cur = seconds, .rlim_max = seconds + 1}; /* SIGXCPU, then SIGKILL */
    if (seconds && SYS(setrlimit(RLIMIT_CPU, &lim)) < 0)
        child_fail(CHILD_STEP_LIMITS, errno);
}

/* From the run's message on. */
_Noreturn static void take_run(struct zyg *z)
{
    struct child_job job = {0};
    int fds[PACKET_FDS_MAX];
    size_t nfds;

    ssize_t len = packet_recv(z->run_fd, child_message, sizeof child_message - 1, fds, &nfds);
    if (len <= 0)
        _exit(0); /* the engine is gone */
    const struct zyg_run *run = (const void *)child_message;
    if ((size_t)len == sizeof *run && run->magic == ZYG_RETIRE_MAGIC) {
        uint32_t yes = 1;
        write_note(offsetof(struct zyg_note, retired), &yes, sizeof yes);
        _exit(0);
    }
    int r = child_parse((size_t)len, &job);
    if (r < 0)
        child_fail(CHILD_STEP_MESSAGE, -r);
    start_clock(z, run);
    if (z->home_cpu != ZYG_ANY_CPU)
        zyg_bind(z, ZYG_ANY_CPU);
    install_stdio(fds, nfds, job.place_count);
    limit_cpu(run->cpu_s);
    if (run->flags || job.place_count)
        child_place(&job, run->flags, fds + 3);
    if (*job.cwd && (r = child_enter_cwd(job.cwd)) < 0)
        child_fail(CHILD_STEP_CWD, -r);
    merge_env(&job);
    close_others(z);
    if (run->magic == ZYG_PROBE_MAGIC && run->cmd_bytes > sizeof(struct zyg_probe_ask))
        probe_main(job.cmd, z->eval->execs);
    if (run->magic == ZYG_FILES_MAGIC)
        files_main(job.cmd, run->cmd_bytes);
    if (run->magic == ZYG_TERMINAL_MAGIC)
        terminal_main(&job);
    if (run->magic == ZYG_PROGRAM_MAGIC)
        child_become_program(job.args, job.env);
    z->eval->run(&job);
}

/* All that a zygote's first child can do before there is a namespace, as what it inherits is less
 * restricted than it will be for the others. */
static void become_first(struct zyg *z)
{
    int listener;
    if (policy_keep_caps(ZYG_KEPT_CAPS) < 0 || policy_install_seccomp(z->plan, &listener) < 0)
        _exit(1);
    denials_hand_over(z, listener);
    zyg_forget_plan(z);
    await_promotion(z);
    char host[ZYG_NS_ID_ROOM] = "";
    int r =
        SYS(gethostname(host, sizeof host - 1)) < 0 ? -errno : policy_landlock_restrict(z->ruleset);
    if (r < 0)
        child_fail(CHILD_STEP_LIMITS, -r);
    z->eval->on_assign(host);
    become_user();
    if (SYS(chdir(ZYG_HOME)) < 0) /* which is the user's alone */
        child_fail(CHILD_STEP_LIMITS, errno);
}

void child_main(struct zyg *z, enum child_kind kind)
{
    fault_set_role("child");
    (void)setsid(); /* in pid 1's session it could send it SIGCONT (kill(2)) */
    if (policy_landlock_scope(z->scoped) < 0)
        _exit(1);
    zyg_prefault();
    get_ready(z);
    if (kind == CHILD_RESERVE)
        await_promotion(z);
    join_cgroups(z);
    become_group();
    if (kind == CHILD_FIRST)
        become_first(z);
    else
        become_user();
    if (kind == CHILD_SESSION)
        session_main(z);
    take_run(z);
}

/* Born in the cgroups, the groups and the session of its mould. */
int child_cast(void *arg)
{
    struct zyg *z = arg;
    (void)setpgid(0, 0);
    get_ready(z);
    become_user();
    take_run(z);
}
