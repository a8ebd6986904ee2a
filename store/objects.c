/* SPDX-License-Identifier: Apache-2.0 */
/* store/objects - contents as files: objects/<sha256 in hex>.
 *
 * In the frontend; writing and removing in the store's thread only. A content is copied and hashed
 * in one go into a temporary file, synced, and renamed to its hash; the directory is synced before
 * the transaction that names it. So a row's file is whole, and what a crash leaves over is a file
 * without a row: the start removes those. Sources come from a namespace and may be anything: only a
 * regular file is read, from its beginning, and not more of it than was allowed. Everything lies in
 * one directory, so that renaming needs no right to move between directories.
 */
#include "lib/err.h"
#include "lib/fd.h"
#include "store/store_impl.h"
#include <dirent.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define DIRECTORY "objects"
#define COPY_BYTES 262144u
#define HEX_LEN (STORE_SHA256_ROOM - 1)

void store_hex(const struct store_sha256 *sha256, char ret[STORE_SHA256_ROOM])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < STORE_SHA256_BYTES; i++) {
        ret[2 * i] = digits[sha256->bytes[i] >> 4];
        ret[2 * i + 1] = digits[sha256->bytes[i] & 15];
    }
    ret[HEX_LEN] = 0;
}

static bool read_hex(const char *name, struct store_sha256 *ret)
{
    if (strlen(name) != HEX_LEN || strspn(name, "0123456789abcdef") != HEX_LEN)
        return false;
    for (size_t i = 0; i < STORE_SHA256_BYTES; i++) {
        char two[3] = {name[2 * i], name[2 * i + 1], 0};
        ret->bytes[i] = (unsigned char)strtoul(two, NULL, 16);
    }
    return true;
}

/* ---- at start ---------------------------------------------------------------------------------
 */

static bool has_row(struct store *s, const struct store_sha256 *sha256, int *ret_error)
{
    sqlite3_stmt *st = store_statement(s, ST_OBJECT_HAS);
    (void)sqlite3_bind_blob(st, 1, sha256, sizeof *sha256, SQLITE_STATIC);
    int rc = sqlite3_step(st);
    *ret_error = rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : store_errno(s, rc);
    (void)sqlite3_reset(st);
    return rc == SQLITE_ROW;
}

int store_walk(struct store *s, int dir_fd, const char *name, store_on_entry *on_entry,
               struct err *err)
{
    auto_close int fd = SYS(openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;
    int r = 0;
    if (!dir)
        return err_sys(err, "state_dir: list %s", name);
    (void)fd_take(&fd);
    for (;;) {
        errno = 0; /* only by it an error differs from the end */
        e = readdir(dir);
        if (!e && SYS(errno ? -1 : 0) < 0)
            r = err_sys(err, "state_dir: list %s", name);
        if (!e || r != 0)
            break;
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            r = on_entry(s, e->d_name, err);
    }
    (void)closedir(dir);
    return r;
}

static int refuse_content(struct store *s, const char *name, struct err *err)
{
    struct store_sha256 sha256;
    (void)s;
    if (!read_hex(name, &sha256))
        return 0;
    return err_set(err, "state_dir: store.db is missing or empty, but " DIRECTORY
                        "/ has files: restore it from a copy, or move " DIRECTORY
                        "/ away to begin anew");
}

static int remove_unnamed(struct store *s, const char *name, struct err *err)
{
    struct store_sha256 sha256;
    int error = 0;
    if (read_hex(name, &sha256) && has_row(s, &sha256, &error))
        return 0;
    if (error)
        return err_set(err, "state_dir: store.db: %s", sqlite3_errmsg(s->db));
    if (SYS(unlinkat(s->objects_fd, name, 0)) < 0 && errno != ENOENT)
        return err_sys(err, "state_dir: remove " DIRECTORY "/%s", name);
    return 0;
}

/* Artifacts whose run was never answered, and with them what only they name. */
static int drop_strays(struct store *s, struct err *err)
{
    static const char text[] = "DELETE FROM files WHERE run_id IS NULL AND NOT upload";
    if (sqlite3_exec(s->db, text, NULL, NULL, NULL) != SQLITE_OK)
        return err_set(err, "state_dir: store.db: %s", sqlite3_errmsg(s->db));
    return 0;
}

int store_objects_open(struct store *s, struct err *err)
{
    struct stat st;
    if (SYS(mkdirat(s->dir_fd, DIRECTORY, 0700)) < 0 && errno != EEXIST)
        return err_sys(err, "state_dir: make " DIRECTORY);
    s->objects_fd = SYS(fd_open_beneath(s->dir_fd, DIRECTORY, O_RDONLY | O_DIRECTORY, 0));
    s->buffer = malloc(COPY_BYTES);
    s->md = EVP_MD_fetch(NULL, "SHA256", NULL); /* while there are files: it may read some */
    s->md_ctx = EVP_MD_CTX_new();
    if (s->objects_fd < 0)
        return err_sys(err, "state_dir: open " DIRECTORY);
    if (!s->buffer || !s->md || !s->md_ctx || EVP_DigestInit_ex2(s->md_ctx, s->md, NULL) != 1)
        return err_set(err, "store: out of memory");
    if (SYS(fsync(s->dir_fd)) < 0)
        return err_sys(err, "state_dir: fsync");
    /* A database that is made anew would have them all removed. */
    int r = SYS(fstatat(s->dir_fd, "store.db", &st, AT_SYMLINK_NOFOLLOW));
    if (r < 0 && errno != ENOENT)
        return err_sys(err, "state_dir: store.db");
    if (r < 0 || st.st_size == 0)
        return store_walk(s, s->objects_fd, DIRECTORY, refuse_content, err);
    return 0;
}

int store_objects_clean(struct store *s, struct err *err)
{
    int r = drop_strays(s, err);
    return r == 0 ? store_walk(s, s->objects_fd, DIRECTORY, remove_unnamed, err) : r;
}

void store_objects_close(struct store *s)
{
    fd_close(&s->objects_fd);
    free(s->buffer);
    free(s->doubtful);
    EVP_MD_CTX_free(s->md_ctx);
    EVP_MD_free(s->md);
}

/* ---- writing ----------------------------------------------------------------------------------
 */

/* Not glibc's fstat(): that may name a path, which the list of calls forbids. */
static int look_at(int fd, struct stat *st)
{
    return (int)syscall(SYS_fstat, fd, st);
}

static int add(struct store *s, struct store_new *n, const char *bytes, size_t len)
{
    if (EVP_DigestUpdate(s->md_ctx, bytes, len) != 1)
        return ENOMEM;
    n->size += len;
    return SYS(fd_write_all(n->fd, bytes, len)) < 0 ? errno : 0;
}

static int copy(struct store *s, const struct store_call *call, struct store_new *n)
{
    struct stat st;
    int error = 0;
    if (call->data)
        return call->len > call->bytes_max ? EFBIG : add(s, n, call->data, call->len);
    if (SYS(look_at(call->fd, &st)) < 0)
        return errno;
    if (!S_ISREG(st.st_mode))
        return EINVAL;
    if ((uint64_t)st.st_size > call->bytes_max) /* before a sparse terabyte is read */
        return EFBIG;
    while (error == 0) {
        ssize_t got = SYS(pread(call->fd, s->buffer, COPY_BYTES, (off_t)n->size));
        if (got == 0)
            break;
        if (got < 0)
            error = errno == EINTR ? 0 : errno;
        else if (n->size + (size_t)got > call->bytes_max) /* it grows */
            error = EFBIG;
        else
            error = add(s, n, s->buffer, (size_t)got);
    }
    return error;
}

int store_object_write(struct store *s, const struct store_call *call, struct store_new *ret)
{
    unsigned len = 0;
    *ret = (struct store_new){.fd = -1};
    (void)snprintf(ret->temp, sizeof ret->temp, ".new-%llu", (unsigned long long)++s->temp_count);
    ret->fd = SYS(openat(s->objects_fd, ret->temp,
                         O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (ret->fd < 0)
        return errno;
    int error = EVP_DigestInit_ex2(s->md_ctx, s->md, NULL) == 1 ? copy(s, call, ret) : ENOMEM;
    if (error == 0 && EVP_DigestFinal_ex(s->md_ctx, ret->sha256.bytes, &len) != 1)
        error = ENOMEM;
    if (error)
        store_object_discard(s, ret);
    return error;
}

void store_object_discard(struct store *s, struct store_new *n)
{
    if (n->fd >= 0)
        (void)unlinkat(s->objects_fd, n->temp, 0);
    fd_close(&n->fd);
}

static int open_named(struct store *s, const struct store_sha256 *sha256, uint64_t size)
{
    char name[STORE_SHA256_ROOM];
    struct stat st;
    store_hex(sha256, name);
    auto_close int fd =
        SYS(openat(s->objects_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (fd < 0 || SYS(look_at(fd, &st)) < 0)
        return -1;
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != size) {
        errno = ENOENT;
        return -1;
    }
    return fd_take(&fd);
}

int store_object_place(struct store *s, struct store_new *n)
{
    char name[STORE_SHA256_ROOM];
    auto_close int there = open_named(s, &n->sha256, n->size);
    if (there >= 0) {
        store_object_discard(s, n);
        return 0;
    }
    store_hex(&n->sha256, name);
    if (SYS(fsync(n->fd)) < 0 || SYS(renameat(s->objects_fd, n->temp, s->objects_fd, name)) < 0)
        return errno;
    fd_close(&n->fd);
    s->placed = true;
    return 0;
}

int store_objects_sync(struct store *s)
{
    if (s->placed && SYS(fsync(s->objects_fd)) < 0)
        return errno;
    s->placed = false;
    return 0;
}

int store_object_get(struct store *s, const struct store_sha256 *sha256, uint64_t size, int *ret_fd)
{
    int fd = open_named(s, sha256, size);
    if (fd < 0)
        return errno == ENOENT ? EIO : errno; /* a row without its file is damage */
    *ret_fd = fd;
    return 0;
}

/* ---- removing ---------------------------------------------------------------------------------
 */

void store_object_doubt(struct store *s, const struct store_sha256 *sha256)
{
    if (s->doubtful_count == s->doubtful_room) {
        size_t room = s->doubtful_room ? s->doubtful_room * 2 : 64;
        void *more = realloc(s->doubtful, room * sizeof *s->doubtful);
        if (!more)
            return; /* the next start finds it */
        s->doubtful = more;
        s->doubtful_room = room;
    }
    s->doubtful[s->doubtful_count++] = *sha256;
}

void store_objects_settle(struct store *s)
{
    char name[STORE_SHA256_ROOM];
    for (size_t i = 0; i < s->doubtful_count; i++) {
        int error = 0;
        if (has_row(s, &s->doubtful[i], &error) || error)
            continue;
        store_hex(&s->doubtful[i], name);
        (void)unlinkat(s->objects_fd, name, 0);
    }
    s->doubtful_count = 0;
}
