/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/priv_image - the read-only root image that zygotes live in.
 *
 * Runs in the forked child of priv that becomes a primordial, as root, in a fresh mntns: one tmpfs
 * with bind mounts of the image's /usr (and /bin, /lib* where they are no links), a small generated
 * /etc, device nodes, and the host's pidns' /proc - read-write and covered by nothing, or no zygote
 * could mount its own (DESIGN.md 4); each zygote covers it. Everything else is nosuid, nodev but
 * /dev, and read-only at the end. Nothing of it can be changed by a namespace: the mounts are
 * locked by the userns (mount_namespaces(7)).
 */
#include "lib/err.h"
#include "lib/fd.h"
#include "supervisor/priv_impl.h"
#include "zygote/zygote.h"
#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#define BASE "/tmp" /* exists everywhere; covered in this mntns only */
#define COPY_BYTES_MAX (4u * 1024 * 1024)

static const struct {
    const char *path;
    mode_t mode;
} dirs[] = {
    {"usr", 0755},
    {"etc", 0755},
    {"etc/ssl", 0755},
    {"dev", 0755},
    {"proc", 0755},
    {"run", 0755},
    {"run/empty", 0755},
    {"tmp", 01777},
    {"root", 0700},
    {"home", 0755},
    {"work", 0755},
    {"opt", 0755},
    {"srv", 0755},
    {"mnt", 0755},
    {"var", 0755},
    {"sys", 0755},
    {"sys/devices", 0755},
    {"sys/devices/system", 0755},
    {"sys/devices/system/cpu", 0755},
};

static const struct {
    const char *path, *text;
} files[] = {
    {"etc/passwd", "root:x:0:0:root:/root:/usr/sbin/nologin\n"
                   "user:x:1000:1000:user:" ZYG_HOME ":/bin/bash\n"
                   "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"},
    {"etc/group", "root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n"},
    {"etc/hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost\n"},
    {"etc/nsswitch.conf",
     "passwd: files\ngroup: files\nhosts: files\nprotocols: files\nservices: files\n"},
    {"etc/resolv.conf", "# no network: see SECURITY.md\n"},
};

static const struct {
    const char *path, *target;
} links[] = {
    {"etc/hostname", "/proc/sys/kernel/hostname"},
    {"etc/mtab", "/proc/self/mounts"},
    {"etc/os-release", "../usr/lib/os-release"},
    {"var/tmp", "../tmp"},
    {"dev/fd", "/proc/self/fd"},
    {"dev/ptmx", "pts/ptmx"},
    {"dev/stdin", "/proc/self/fd/0"},
    {"dev/stdout", "/proc/self/fd/1"},
    {"dev/stderr", "/proc/self/fd/2"},
};

/* Copied from the image's /etc where they are there; none holds a secret. */
static const char *const copies[] = {
    "etc/ld.so.cache", "etc/ssl/openssl.cnf", "etc/protocols", "etc/services", "etc/mime.types",
};

static const char *const binds[] = {
    "usr",
    "etc/alternatives",
    "etc/ssl/certs",
    "etc/ld.so.conf.d",
    "etc/java-11-openjdk", /* to which /usr/lib/jvm links: no class loads without */
    "etc/java-17-openjdk",
    "etc/java-21-openjdk",
};
static const char *const top[] = {"bin", "sbin", "lib", "lib32", "lib64", "libx32"};

static const struct {
    const char *path;
    unsigned major, minor;
} nodes[] = {
    {"dev/null", 1, 3},   {"dev/zero", 1, 5},    {"dev/full", 1, 7},
    {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0},
};

static int restrict_mount(const char *path, uint64_t attrs, bool recursive, struct err *err)
{
    struct mount_attr attr = {.attr_set = attrs};
    if (syscall(SYS_mount_setattr, AT_FDCWD, path, recursive ? AT_RECURSIVE : 0, &attr,
                sizeof attr) < 0)
        return err_sys(err, "restrict mount %s", path);
    return 0;
}

/* Binds <image>/<path> to ./<path>, read-only; absent is fine but for usr. */
static int bind_from(int image_fd, const char *path, struct err *err)
{
    char source[64];
    auto_close int fd = openat(image_fd, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return strcmp(path, "usr") == 0 ? err_sys(err, "root image: %s", path) : 0;
    (void)snprintf(source, sizeof source, "/proc/self/fd/%d", fd);
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return err_sys(err, "root image: make %s", path);
    if (mount(source, path, NULL, MS_BIND | MS_REC, NULL) < 0)
        return err_sys(err, "root image: bind %s", path);
    return restrict_mount(path, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, true,
                          err);
}

static int link_or_bind(int image_fd, const char *name, struct err *err)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(image_fd, name, target, sizeof target - 1);
    if (n < 0)
        return bind_from(image_fd, name, err);
    target[n] = 0;
    return symlink(target, name) < 0 ? err_sys(err, "root image: link %s", name) : 0;
}

static int write_file(const char *path, const void *bytes, size_t len, struct err *err)
{
    auto_close int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    return fd < 0 || fd_write_all(fd, bytes, len) < 0 ? err_sys(err, "root image: write %s", path)
                                                      : 0;
}

static int copy_file(int image_fd, const char *path, struct err *err)
{
    struct stat st;
    auto_close int fd = openat(image_fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > COPY_BYTES_MAX)
        return 0;
    auto_free char *bytes = malloc((size_t)st.st_size + 1);
    if (!bytes || read(fd, bytes, (size_t)st.st_size) != st.st_size)
        return err_sys(err, "root image: copy %s", path);
    return write_file(path, bytes, (size_t)st.st_size, err);
}

/* Extra trees of the policies, opened before BASE covers anything. */
static int extra_fd[POLICIES_MAX][POLICY_BINDS_MAX];

static int open_extra(const struct policy_set *set, struct err *err)
{
    for (uint32_t i = 0; i < set->count; i++)
        for (uint32_t k = 0; k < set->plans[i].bind_count; k++) {
            const char *from = set->plans[i].binds[k].from;
            extra_fd[i][k] = open(from, O_PATH | O_DIRECTORY | O_CLOEXEC);
            if (extra_fd[i][k] < 0)
                return err_sys(err, "policy bind %.100s", from);
        }
    return 0;
}

static int bind_extra(const char *to, uint32_t policy, uint32_t i, struct err *err)
{
    char source[64], place[64];
    (void)snprintf(source, sizeof source, "/proc/self/fd/%d", extra_fd[policy][i]);
    (void)snprintf(place, sizeof place, "%s/%u.%u", &ZYG_BINDS[1], policy, i);
    if (mkdir(place, 0755) < 0 || (mkdir(to + 1, 0755) < 0 && errno != EEXIST))
        return err_sys(err, "root image: make %s", to);
    if (mount(source, place, NULL, MS_BIND, NULL) < 0)
        return err_sys(err, "policy bind to %.100s", to);
    fd_close(&extra_fd[policy][i]);
    return restrict_mount(place, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, false,
                          err);
}

/* Each zygote binds its own policy's trees from there to their places and covers the rest. */
static int add_binds(const struct policy_set *set, struct err *err)
{
    int r = 0;
    for (uint32_t i = 0; i < set->count; i++)
        for (uint32_t k = 0; r == 0 && k < set->plans[i].bind_count; k++) {
            if (mkdir(&ZYG_BINDS[1], 0755) < 0 && errno != EEXIST)
                return err_sys(err, "root image: make " ZYG_BINDS);
            r = bind_extra(set->plans[i].binds[k].to, i, k, err);
        }
    return r;
}

static int fill_root(int image_fd, struct err *err)
{
    int r = 0;
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
        if (mkdir(dirs[i].path, 0755) < 0 || chmod(dirs[i].path, dirs[i].mode) < 0)
            return err_sys(err, "root image: make %s", dirs[i].path);
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(files); i++)
        r = write_file(files[i].path, files[i].text, strlen(files[i].text), err);
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(copies); i++)
        r = copy_file(image_fd, copies[i], err);
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(binds); i++)
        r = bind_from(image_fd, binds[i], err);
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(top); i++)
        r = link_or_bind(image_fd, top[i], err);
    return r;
}

static int fill_dev(struct err *err)
{
    if (mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755,size=64k") < 0)
        return err_sys(err, "root image: mount /dev");
    for (size_t i = 0; i < ARRAY_LEN(nodes); i++)
        if (mknod(nodes[i].path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)) < 0 ||
            chmod(nodes[i].path, 0666) < 0)
            return err_sys(err, "root image: make %s", nodes[i].path);
    if (mkdir("dev/shm", 0755) < 0 || mkdir("dev/pts", 0755) < 0)
        return err_sys(err, "root image: make dev/shm and dev/pts");
    for (size_t i = 0; i < ARRAY_LEN(links); i++)
        if (symlink(links[i].target, links[i].path) < 0)
            return err_sys(err, "root image: link %s", links[i].path);
    return 0;
}

static int mount_kernel_trees(struct err *err)
{
    if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        return err_sys(err, "root image: mount /proc");
    if (mount("/sys/devices/system/cpu", "sys/devices/system/cpu", NULL, MS_BIND, NULL) < 0)
        return errno == ENOENT ? 0 : err_sys(err, "root image: bind the CPU topology");
    return restrict_mount(
        "sys/devices/system/cpu",
        MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, false, err);
}

/* pivot_root(2), "pivot_root(".", ".")": the old root lands on top of the new one and is taken off.
 */
static int make_it_the_root(struct err *err)
{
    if (restrict_mount("dev", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, false,
                       err) < 0 ||
        restrict_mount(".", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, false, err) <
            0)
        return err->code;
    if (syscall(SYS_pivot_root, ".", ".") < 0)
        return err_sys(err, "pivot_root");
    if (umount2(".", MNT_DETACH) < 0)
        return err_sys(err, "detach the host's root");
    return chdir(ZYG_HOME) < 0 ? err_sys(err, "enter " ZYG_HOME) : 0;
}

int priv_enter_image(const char *image, const struct policy_set *policies, struct err *err)
{
    auto_close int image_fd = open(image, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (image_fd < 0)
        return err_sys(err, "root image %s", image);
    if (open_extra(policies, err) < 0)
        return err->code;
    (void)umask(022);
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return err_sys(err, "make mounts private");
    if (mount("tmpfs", BASE, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=16m") < 0 ||
        chdir(BASE) < 0)
        return err_sys(err, "root image: mount the root");
    int r = fill_root(image_fd, err);
    if (r == 0)
        r = add_binds(policies, err);
    if (r == 0)
        r = fill_dev(err);
    if (r == 0)
        r = mount_kernel_trees(err);
    return r < 0 ? r : make_it_the_root(err);
}
