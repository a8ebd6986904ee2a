/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/main - brood-supervisor: reads the configuration, opens everything that needs root,
 * splits.
 *
 * Runs as root. What is opened here - listeners, the volume root with its lock, the compiled
 * policy, the cgroup trees - is handed on as descriptors; then the engine is forked and drops all
 * rights, and this process becomes priv with the capabilities that its verbs need. Any layer that
 * cannot be had ends the start here, with its cause.
 */
#include "languages/languages.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "lib/packet.h"
#include "policy/policy.h"
#include "supervisor/engine.h"
#include "supervisor/priv_impl.h"
#include "supervisor/settings.h"
#include "volumes/volumes.h"
#include "zygote/zygote.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#define BACKLOG 4096
#define ENGINE_TALK_S 5

static char probe_dir[] = "/tmp/brood-probe-XXXXXX";

/* settings_check.c has seen to it that it is an address, and who may be served on it. */
static socklen_t make_address(const struct settings *set, struct sockaddr_storage *ret)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)set->http_port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = v4.sin_port};
    const char *host = strcmp(set->http_listen, "localhost") ? set->http_listen : "127.0.0.1";
    if (inet_pton(AF_INET6, host, &v6.sin6_addr) == 1) {
        memcpy(ret, &v6, sizeof v6);
        return sizeof v6;
    }
    if (inet_pton(AF_INET, host, &v4.sin_addr) != 1)
        return 0;
    memcpy(ret, &v4, sizeof v4);
    return sizeof v4;
}

/* "::" takes IPv4, too (IPV6_V6ONLY is off). */
static int listen_tcp(const struct settings *set, int *ret, struct err *err)
{
    struct sockaddr_storage addr = {.ss_family = AF_UNSPEC};
    int one = 1, none = 0;
    if (set->http_port == 0)
        return 0;
    socklen_t len = make_address(set, &addr);
    if (len == 0)
        return err_set(err, "http.listen: %s: expected an address", set->http_listen);
    auto_close int fd = SYS(socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (fd < 0 || SYS(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one)) < 0 ||
        (addr.ss_family == AF_INET6 &&
         SYS(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &none, sizeof none)) < 0) ||
        SYS(bind(fd, (struct sockaddr *)&addr, len)) < 0 || SYS(listen(fd, BACKLOG)) < 0)
        return err_sys(err, "listen on %s, port %u", set->http_listen, set->http_port);
    *ret = fd_take(&fd);
    return 0;
}

static void make_parents(const char *path)
{
    char dir[PATH_MAX];
    (void)snprintf(dir, sizeof dir, "%s", path);
    for (char *at = dir + 1; (at = strchr(at, '/')); *at++ = '/') {
        *at = 0;
        (void)mkdir(dir, 0755);
    }
}

/* A socket file that nobody listens on is a leftover and goes; a living one is an error. */
static int listen_unix(const char *path, int type, mode_t mode, int *ret, struct err *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (!*path)
        return 0;
    (void)snprintf(addr.sun_path, sizeof addr.sun_path, "%s", path);
    make_parents(path);
    auto_close int probe = SYS(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    auto_close int fd = SYS(socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (fd < 0 || probe < 0)
        return err_sys(err, "socket");
    if (connect(probe, (struct sockaddr *)&addr, sizeof addr) == 0)
        return err_set(err, "%s is in use by another process", path);
    if (errno == ECONNREFUSED)
        (void)unlink(path);
    mode_t before = umask((mode_t)(~mode & 0777));
    int r = SYS(bind(fd, (struct sockaddr *)&addr, sizeof addr));
    (void)umask(before);
    if (r < 0)
        return err_sys(err, "bind to %s", path);
    if (SYS(listen(fd, BACKLOG)) < 0) {
        r = err_sys(err, "listen on %s", path);
        (void)unlink(path);
        return r;
    }
    *ret = fd_take(&fd);
    return 0;
}

/* However many namespaces there are, what is not theirs keeps a quarter of the machine. */
static int bound_all(struct priv *p, struct err *err)
{
    const struct settings *set = p->set;
    uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 4 * 3;
    uint64_t pids = cgroup_machine_pids() / 4 * 3;
    return cgroup_bound(&p->cg, set->memory_total_bytes ? set->memory_total_bytes : memory,
                        set->pids_total ? set->pids_total : pids, err);
}

static int start_cgroups(struct priv *p, uint32_t optional, struct err *err)
{
    const uint32_t all = POLICY_CGROUP_MEMORY | POLICY_CGROUP_PIDS | POLICY_CGROUP_CPU;
    struct stat st;
    char key[32];
    if (SYS(fstat(p->root_fd, &st)) < 0)
        return err_sys(err, "stat fs_root");
    if (p->probe_only) /* fs_root may be that of a service */
        (void)snprintf(key, sizeof key, "brood-probe-%d", (int)getpid());
    else
        (void)snprintf(key, sizeof key, "brood-%llx-%llx", (unsigned long long)st.st_dev,
                       (unsigned long long)st.st_ino);
    int r = cgroup_start(&p->cg, key, all & ~optional, err);
    return r < 0 ? r : bound_all(p, err);
}

static int prepare_process(struct priv *p, struct err *err)
{
    struct rlimit nofile;
    sigset_t signals;
    (void)umask(022);
    auto_close int null = SYS(open("/dev/null", O_RDWR | O_CLOEXEC));
    if (null < 0 || SYS(dup2(null, 0)) < 0)
        return err_sys(err, "/dev/null");
    if (getrlimit(RLIMIT_NOFILE, &nofile) == 0) {
        nofile.rlim_cur = nofile.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &nofile);
    }
    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGHUP);
    (void)sigaddset(&signals, SIGCHLD);
    if (sigprocmask(SIG_SETMASK, &signals, NULL) < 0)
        return err_sys(err, "signal mask");
    p->sig_fd = SYS(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
    return p->sig_fd < 0 ? err_sys(err, "signalfd") : 0;
}

/* fs_root as it is, without its lock: a service may hold that. Where there is none, a directory
 * that goes again at the end. */
static int open_root_to_probe(struct priv *p, struct err *err)
{
    p->root_fd = open(p->set->fs_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (p->root_fd >= 0)
        return 0;
    if (errno != ENOENT)
        return err_sys(err, "fs_root %s", p->set->fs_root);
    if (!mkdtemp(probe_dir) ||
        (p->root_fd = open(probe_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return err_sys(err, "%s", probe_dir);
    return 0;
}

static int open_state_dir(struct priv *p, struct err *err)
{
    struct priv_ids ids;
    int r = priv_find_frontend(p->set, &ids, err);
    if (r < 0)
        return r;
    make_parents(p->set->state_dir);
    return state_dir_open(p->set->state_dir, &ids, &p->state_fd, err);
}

static int open_everything(struct priv *p, char *api_keys, struct peers *ret_peers,
                           int *ret_lock_fd, int *ret_engine_listen, struct err *err)
{
    const struct settings *set = p->set;
    struct probe_host host = {.only = p->probe_only};
    int r = prepare_process(p, err);
    if (r == 0)
        r = policy_parse_layers(set->optional_layers, &host.optional, err);
    if (r == 0)
        r = peers_parse(set->socket_users, set->socket_admins, ret_peers, err);
    if (r == 0)
        r = priv_load_policies(p, err);
    if (r == 0 && !p->probe_only)
        r = priv_load_keys(p, api_keys, err);
    if (r == 0)
        r = p->probe_only ? open_root_to_probe(p, err)
                          : vol_root_open(set->fs_root, &p->root_fd, ret_lock_fd, err);
    if (r == 0)
        r = start_cgroups(p, host.optional, err);
    for (size_t i = 0; r == 0 && i < p->cg.trees; i++)
        host.cgroups |= p->cg.kind[i];
    host.cgroup_version = p->cg.trees ? (uint32_t)p->cg.version : 0;
    probe_note_host(&host);
    if (r < 0 || p->probe_only)
        return r;
    if (r == 0)
        r = open_state_dir(p, err);
    if (r == 0)
        r = priv_courier_open(p, err);
    if (r == 0)
        r = listen_tcp(set, &p->listeners[LISTEN_TCP], err);
    if (r == 0)
        r = listen_unix(set->http_socket, SOCK_STREAM, 0666, &p->listeners[LISTEN_HTTP_SOCKET],
                        err);
    if (r == 0)
        r = listen_unix(set->socket, SOCK_SEQPACKET, peers_has_others(ret_peers) ? 0666 : 0660,
                        ret_engine_listen, err);
    if (r == 0)
        r = priv_net_start(p, err);
    return r;
}

static void close_all_but(const int *keep, size_t count)
{
    for (int fd = 3; fd < 64; fd++) {
        bool kept = false;
        for (size_t i = 0; i < count; i++)
            kept |= keep[i] == fd;
        if (!kept)
            (void)close(fd);
    }
}

static int split(struct priv *p, const struct peers *peers, const struct language_set *languages,
                 int engine_listen, struct err *err)
{
    struct timeval patience = {.tv_sec = ENGINE_TALK_S};
    struct priv_ids ids;
    int pair[2];
    int r = priv_find_ids(p->set->user_engine, (uint32_t)(p->set->uid_base - ZYG_UIDS_PER_SLOT - 1),
                          &ids, err);
    if (r < 0)
        return r;
    if (packet_pair(pair, false) < 0 ||
        SYS(setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience)) < 0)
        return err_sys(err, "socket pair");
    p->engine = SYS(fork());
    if (p->engine < 0)
        return err_sys(err, "fork the engine");
    if (p->engine == 0) {
        const int keep[] = {pair[1], engine_listen, p->root_fd, p->keys_fd};
        sigset_t none;
        close_all_but(keep, ARRAY_LEN(keep));
        log_init("engine", p->set->log_format, p->set->log_level);
        if (priv_become(&ids, err) < 0)
            die(1, "engine: %s", err->text);
        /* A terminal's ^C reaches the whole process group, and timeout(1) and systemd send SIGTERM
         * to all: the order of ending is priv's to give, which itself ends whom it must by SIGKILL.
         */
        (void)signal(SIGTERM, SIG_IGN);
        (void)signal(SIGINT, SIG_IGN);
        (void)signal(SIGHUP, SIG_IGN);
        (void)sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        /* _exit: a leak checker would need what it has renounced. */
        _exit(engine_run(&(struct engine_start){.set = p->set,
                                                .files = p->files,
                                                .peers = peers,
                                                .policies = p->policies,
                                                .languages = languages,
                                                .priv_sock = pair[1],
                                                .listen_fd = engine_listen,
                                                .root_fd = p->root_fd,
                                                .keys_fd = p->keys_fd,
                                                .slot_count = p->slot_count}));
    }
    (void)close(pair[1]);
    fd_close(&engine_listen);
    fd_close(&p->keys_fd);
    p->engine_sock = pair[0];
    return priv_confine(p, err);
}

/* The one flag without a value: out of argv, as the settings know only pairs. */
static bool take_probe_flag(int *argc, char **argv)
{
    int kept = 1;
    for (int i = 1; i < *argc; i++)
        if (strcmp(argv[i], "--probe") != 0)
            argv[kept++] = argv[i];
    bool found = kept < *argc;
    argv[kept < *argc ? kept : *argc] = NULL;
    *argc = kept;
    return found;
}

int main(int argc, char **argv)
{
    static struct settings set;
    static struct settings_files files;
    static struct peers peers;
    static struct language_set languages;
    static struct priv p = {.engine_sock = -1,
                            .primordial_sock = -1,
                            .netd_sock = -1,
                            .courier_pair = {-1, -1},
                            .webhook_secret_fd = -1,
                            .root_fd = -1,
                            .state_fd = -1,
                            .policies_fd = -1,
                            .compiled_fd = -1,
                            .read_keys_fd = -1,
                            .keys_fd = -1};
    struct err err;
    p.set = &set;
    p.files = &files;
    int lock_fd = -1, engine_listen = -1;
    p.probe_only = take_probe_flag(&argc, argv);
    int r = settings_load(argc, argv, &set, &files, &err);
    if (r == SETTINGS_HELP || r == SETTINGS_VERSION)
        return 0;
    if (r < 0)
        die(2, "%s", err.text);
    if (geteuid() != 0)
        die(1, "must be started as root (try: sudo brood-supervisor)");
    (void)syscall(SYS_close_range, 3, ~0u, 0);
    files.yaml_fd = files.dotenv_fd = -1;
    log_init("priv", set.log_format, set.log_level);
    p.listeners[LISTEN_TCP] = p.listeners[LISTEN_HTTP_SOCKET] = -1;
    p.slot_count = (uint32_t)settings_count_slots(&set);
    p.slots = calloc(p.slot_count, sizeof *p.slots);
    if (!p.slots)
        die(1, "out of memory");
    for (uint32_t i = 0; i < p.slot_count; i++)
        p.slots[i].pidfd = p.slots[i].userns = -1;
    int status = 1;
    r = p.probe_only ? 0 : languages_load(set.languages_dir, &languages, &err);
    if (r == 0)
        r = open_everything(&p, set.api_keys, &peers, &lock_fd, &engine_listen, &err);
    explicit_bzero(set.api_keys, sizeof set.api_keys);
    if (r == 0)
        r = split(&p, &peers, &languages, engine_listen, &err);
    if (r == 0)
        status = priv_serve(&p);
    else {
        LOG(ERROR, "start_failed", F_STR("error", err.text));
        if (p.probe_only)
            (void)printf("service\tbroken\trequired\tcan it be started?\t%s\t\n", err.text);
    }
    if (engine_listen >= 0)
        (void)unlink(set.socket);
    if (p.listeners[LISTEN_HTTP_SOCKET] >= 0)
        (void)unlink(set.http_socket);
    if (r < 0)
        cgroup_stop(&p.cg, 0);
    if (p.probe_only)
        (void)rmdir(probe_dir); /* its name ends in XXXXXX when it was not needed */
    LOG(INFO, "stopped", F_I64("status", status));
    return status;
}
