/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/priv_policies - where the policies in force come from.
 *
 * At start the supervisor reads and compiles them itself, as it does the settings. From then on
 * this process parses nothing: on SIGHUP it forks a child that gives up every capability and all
 * writing (landlock), reads the files, and leaves the compiled block in a memfd; what comes back is
 * sealed, checked for its bounds and only then put in the place of the old one, whole. A child that
 * fails leaves its reason there instead, and everything stays as it was.
 */
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "policy/policy.h"
#include "supervisor/priv_impl.h"
#include "supervisor/settings.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define COMPILE_S 10u
#ifdef __SANITIZE_ADDRESS__ /* its shadow alone is terabytes of address space */
#define CHILD_BYTES_MAX RLIM_INFINITY
#else
#define CHILD_BYTES_MAX (1ull << 29)
#endif

static int load(const struct settings *set, struct policy_set *ret, struct err *err)
{
    struct policy_base base = {
        .limits = {.group = {.memory_bytes = set->memory_bytes,
                             .pids_max = set->pids_max,
                             .cpu_percent = set->cpu_percent,
                             .cpu_weight = 50}, /* what serves comes before what is served */
                   .nofile = set->nofile,
                   .fsize_bytes = set->fsize_bytes,
                   .stack_bytes = set->stack_bytes,
                   .nproc = set->pids_max + 1, /* the cgroup, which counts, is to be met first */
                   .tmp_bytes = set->tmp_bytes}};
    struct settings_network net;
    const char *name;
    int r = policy_parse_layers(set->optional_layers, &base.optional, err);
    if (r == 0)
        r = settings_read_network(set, &net, &name, err);
    if (r < 0)
        return r;
    base.net = net.policy;
    auto_close int fd = SYS(open(set->policy_file, O_RDONLY | O_CLOEXEC));
    if (fd < 0 && (errno != ENOENT || strcmp(set->policy_file, SETTINGS_POLICY_FILE) != 0))
        return err_sys(err, "policy file %s", set->policy_file);
    return policy_load(&base, set->policy_file, fd, ret, err);
}

/* Takes the descriptor over if it is what it should be. */
static int adopt(struct priv *p, int *fd, struct err *err)
{
    const void *map;
    size_t len;
    if (fd_memfd_map(*fd, sizeof(struct policy_set), &map, &len, err) < 0)
        return err->code;
    if (!policy_set_is_sound(map, len)) {
        (void)munmap((void *)(uintptr_t)map, len);
        return err_set(err, "the compiled policies are not sound");
    }
    int r = priv_net_adopt(p, map, err);
    if (r < 0) {
        (void)munmap((void *)(uintptr_t)map, len);
        return r;
    }
    if (p->policies)
        (void)munmap((void *)(uintptr_t)p->policies, policy_set_bytes(p->policies));
    fd_close(&p->policies_fd);
    p->policies_fd = fd_take(fd);
    p->policies = map;
    p->generation++;
    return 0;
}

int priv_load_policies(struct priv *p, struct err *err)
{
    auto_free struct policy_set *set = malloc(sizeof *set);
    if (!set)
        return err_set(err, "out of memory");
    int r = load(p->set, set, err);
    if (r < 0)
        return r;
    auto_close int fd = fd_memfd_sealed("brood-policies", set, policy_set_bytes(set));
    if (fd < 0)
        return err_sys(err, "memfd for the policies");
    return adopt(p, &fd, err);
}

/* ---- reload ------------------------------------------------------------------------------------
 */

int priv_become_reader(size_t bytes_max)
{
    const struct rlimit none = {0, 0}, memory = {CHILD_BYTES_MAX, CHILD_BYTES_MAX},
                        file = {bytes_max, bytes_max}, cpu = {COMPILE_S, COMPILE_S};
    sigset_t alarm_only;
    (void)sigemptyset(&alarm_only);
    (void)sigaddset(&alarm_only, SIGALRM);
    (void)signal(SIGALRM, SIG_DFL);
    (void)sigprocmask(SIG_UNBLOCK, &alarm_only, NULL);
    (void)alarm(COMPILE_S);
    int r = policy_empty_bounding_set();
    if (r == 0)
        r = policy_keep_caps(0);
    if (r == 0)
        r = policy_set_no_new_privs();
    if (r == 0 && (setrlimit(RLIMIT_NPROC, &none) < 0 || setrlimit(RLIMIT_AS, &memory) < 0 ||
                   setrlimit(RLIMIT_FSIZE, &file) < 0 || setrlimit(RLIMIT_CPU, &cpu) < 0 ||
                   setrlimit(RLIMIT_CORE, &none) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0))
        r = -errno;
    if (r == 0 && policy_landlock_abi() > 0) /* as optional here as it is for the runs */
        r = policy_landlock_read_only();
    return r;
}

_Noreturn static void compile(const struct settings *set, int fd)
{
    struct err err = {0};
    struct policy_set *made = malloc(sizeof *made);
    int r = made ? priv_become_reader(sizeof *made) : -ENOMEM;
    if (r < 0) {
        errno = -r;
        (void)err_sys(&err, "confine the compiler");
    } else {
        r = load(set, made, &err);
    }
    if (r == 0 && fd_write_all(fd, made, policy_set_bytes(made)) == 0)
        _exit(0);
    (void)fd_write_all(fd, err.text, strlen(err.text));
    _exit(1);
}

void priv_start_compiler(struct priv *p)
{
    p->compile_again = p->compiler > 0;
    if (p->compiler > 0 || p->going_down)
        return;
    p->compiled_fd = memfd_create("brood-policies", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    pid_t pid = p->compiled_fd < 0 ? -1 : fork();
    if (pid == 0)
        compile(p->set, p->compiled_fd);
    if (pid < 0) {
        LOG(ERROR, "policies_kept", F_STR("error", strerror(errno)));
        fd_close(&p->compiled_fd);
        return;
    }
    p->compiler = pid;
}

bool priv_take_compiled(struct priv *p, int status)
{
    auto_close int fd = fd_take(&p->compiled_fd);
    struct err err = {0};
    if (WIFEXITED(status) && WEXITSTATUS(status) == 1)
        (void)!pread(fd, err.text, sizeof err.text - 1, 0);
    else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        (void)err_set(&err, "the compiler died (wait status %d)", status);
    else if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
        (void)err_sys(&err, "seal the policies");
    else if (adopt(p, &fd, &err) == 0) {
        LOG(INFO, "policies", F_U64("count", p->policies->count),
            F_U64("generation", p->generation));
        return true;
    }
    LOG(ERROR, "policies_kept", F_STR("error", err.text));
    return false;
}
