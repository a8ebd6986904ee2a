/* SPDX-License-Identifier: Apache-2.0 */
/* store/outputs - see object.h: files in outputs/, one for each job that has ended.
 *
 * In the frontend; writing and removing in the store's thread only. An output is written to a
 * temporary file, synced, and renamed to the id of its job; the directory is synced before the
 * transaction that says that the job has ended. So the file of an ended job is whole, and what a
 * crash leaves over is a file of a job that has not ended, which the next attempt replaces and the
 * start removes. An empty one has nothing that its row does not say: it is not synced, and made
 * again when it is asked for after a power cut took it.
 */
#include "lib/err.h"
#include "lib/fd.h"
#include "store/object.h"
#include "store/store_impl.h"
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define DIRECTORY "outputs"
#define ENDING ".txt"
#define NAME_ROOM (STORE_JOB_ID_ROOM + sizeof ENDING)

static void put_name(const char *id, char ret[NAME_ROOM])
{
    (void)snprintf(ret, NAME_ROOM, "%s" ENDING, id);
}

/* False: no job's output is called so. */
static bool read_name(const char *name, char ret_id[STORE_JOB_ID_ROOM])
{
    size_t len = strlen(name), end = sizeof ENDING - 1;
    if (len <= end || len - end >= STORE_JOB_ID_ROOM || strcmp(name + len - end, ENDING) != 0)
        return false;
    memcpy(ret_id, name, len - end);
    ret_id[len - end] = 0;
    return store_id_is_valid(STORE_JOB_PREFIX, ret_id, len - end);
}

static bool has_ended(struct store *s, const char *id, int *ret_error)
{
    sqlite3_stmt *st = store_statement(s, ST_JOB_ENDED);
    (void)sqlite3_bind_text(st, 1, id, -1, SQLITE_STATIC);
    int rc = sqlite3_step(st);
    *ret_error = rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : store_errno(s, rc);
    (void)sqlite3_reset(st);
    return rc == SQLITE_ROW;
}

/* ---- at start ---------------------------------------------------------------------------------
 */

static int refuse_output(struct store *s, const char *name, struct err *err)
{
    char id[STORE_JOB_ID_ROOM];
    (void)s;
    if (!read_name(name, id))
        return 0;
    return err_set(err, "state_dir: store.db is missing or empty, but " DIRECTORY
                        "/ has files: restore it from a copy, or move " DIRECTORY
                        "/ away to begin anew");
}

static int remove_unnamed(struct store *s, const char *name, struct err *err)
{
    char id[STORE_JOB_ID_ROOM];
    int error = 0;
    if (read_name(name, id) && has_ended(s, id, &error))
        return 0;
    if (error)
        return err_set(err, "state_dir: store.db: %s", sqlite3_errmsg(s->db));
    if (SYS(unlinkat(s->outputs_fd, name, 0)) < 0 && errno != ENOENT)
        return err_sys(err, "state_dir: remove " DIRECTORY "/%s", name);
    return 0;
}

int store_outputs_open(struct store *s, struct err *err)
{
    struct stat st;
    if (SYS(mkdirat(s->dir_fd, DIRECTORY, 0700)) < 0 && errno != EEXIST)
        return err_sys(err, "state_dir: make " DIRECTORY);
    s->outputs_fd = SYS(fd_open_beneath(s->dir_fd, DIRECTORY, O_RDONLY | O_DIRECTORY, 0));
    if (s->outputs_fd < 0)
        return err_sys(err, "state_dir: open " DIRECTORY);
    if (SYS(fsync(s->dir_fd)) < 0)
        return err_sys(err, "state_dir: fsync");
    int r = SYS(fstatat(s->dir_fd, "store.db", &st, AT_SYMLINK_NOFOLLOW));
    if (r < 0 && errno != ENOENT)
        return err_sys(err, "state_dir: store.db");
    if (r < 0 || st.st_size == 0)
        return store_walk(s, s->outputs_fd, DIRECTORY, refuse_output, err);
    return 0;
}

int store_outputs_clean(struct store *s, struct err *err)
{
    return store_walk(s, s->outputs_fd, DIRECTORY, remove_unnamed, err);
}

void store_outputs_close(struct store *s)
{
    fd_close(&s->outputs_fd);
    free(s->doubtful_outputs);
}

/* ---- writing ----------------------------------------------------------------------------------
 */

int store_output_put(struct store *s, const char *id, const char *data, size_t len)
{
    char temp[32], name[NAME_ROOM];
    (void)snprintf(temp, sizeof temp, ".new-%llu", (unsigned long long)++s->temp_count);
    put_name(id, name);
    store_output_doubt(s, id);
    auto_close int fd = SYS(
        openat(s->outputs_fd, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (fd < 0)
        return errno;
    if ((len > 0 && (SYS(fd_write_all(fd, data, len)) < 0 || SYS(fsync(fd)) < 0)) ||
        SYS(renameat(s->outputs_fd, temp, s->outputs_fd, name)) < 0) {
        int error = errno;
        (void)unlinkat(s->outputs_fd, temp, 0);
        return error;
    }
    s->output_placed = s->output_placed || len > 0;
    return 0;
}

int store_outputs_sync(struct store *s)
{
    if (s->output_placed && SYS(fsync(s->outputs_fd)) < 0)
        return errno;
    s->output_placed = false;
    return 0;
}

int store_output_get(struct store *s, const char *id, uint64_t size, int *ret_fd)
{
    char name[NAME_ROOM];
    struct stat st;
    put_name(id, name);
    auto_close int fd =
        SYS(openat(s->outputs_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (fd < 0 && errno == ENOENT && size == 0)
        fd = SYS(openat(s->outputs_fd, name, O_RDONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    /* Not glibc's fstat(): that may name a path, which the list of calls forbids. */
    if (fd < 0 || SYS((int)syscall(SYS_fstat, fd, &st)) < 0)
        return errno == ENOENT ? EIO : errno; /* a row without its file is damage */
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != size)
        return EIO;
    *ret_fd = fd_take(&fd);
    return 0;
}

/* ---- removing ---------------------------------------------------------------------------------
 */

void store_output_doubt(struct store *s, const char *id)
{
    if (s->doubtful_output_count == s->doubtful_output_room) {
        size_t room = s->doubtful_output_room ? s->doubtful_output_room * 2 : 64;
        void *more = realloc(s->doubtful_outputs, room * sizeof *s->doubtful_outputs);
        if (!more)
            return; /* the next start finds it */
        s->doubtful_outputs = more;
        s->doubtful_output_room = room;
    }
    (void)snprintf(s->doubtful_outputs[s->doubtful_output_count++], STORE_JOB_ID_ROOM, "%s", id);
}

void store_outputs_settle(struct store *s)
{
    char name[NAME_ROOM];
    for (size_t i = 0; i < s->doubtful_output_count; i++) {
        int error = 0;
        if (has_ended(s, s->doubtful_outputs[i], &error) || error)
            continue;
        put_name(s->doubtful_outputs[i], name);
        (void)unlinkat(s->outputs_fd, name, 0);
    }
    s->doubtful_output_count = 0;
}
