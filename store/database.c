/* SPDX-License-Identifier: Apache-2.0 */
/* store/database - store.db: SQLite's settings, its way to the file, the statements.
 *
 * In the frontend. WAL with an exclusive lock, so that there is no shared memory file and no second
 * process; what was committed survives the death of any process, and with synchronous=FULL a power
 * cut as well. All files are opened before
 * the process restricts itself and stay open: afterwards SQLite reads, writes, syncs and truncates
 * descriptors, and names no path. Its own idea of a path would walk down from the root, where this
 * user may not search: a copy of its VFS leaves names as they are, and they begin with the
 * directory's descriptor. A database that is damaged stops the start; it is never made anew over
 * what was there.
 */
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include "store/store_impl.h"
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define FILE_NAME "store.db"
#define BUSY_MS 3000 /* one that was killed may be a moment in dying */
#define CHECK_S 2    /* the check of a large database stops after this long: it is no proof */
#define CHECK_STEPS 10000
#define REMEDY "restore it from a copy, or move it and objects/ away to begin anew"

/* In the order of read_job() in jobs.c. */
#define JOB_COLUMNS                                                                                \
    "id, key, user, language, ns_id, policy, priority, state, attempts, cancelled, seq, "          \
    "created_ms, updated_ms, started_ms, completed_ms, duration_ms, output_bytes, "                \
    "timeout_ms_ceiling, memory_bytes_ceiling, cpu_ms_ceiling, length(body)"

static const char *const texts[ST_COUNT] = {
    [ST_BEGIN] = "BEGIN",
    [ST_COMMIT] = "COMMIT",
    [ST_ROLLBACK] = "ROLLBACK",
    [ST_SAVE] = "SAVEPOINT call",
    [ST_RELEASE] = "RELEASE call",
    [ST_UNDO] = "ROLLBACK TO call",
    [ST_RUN_PUT] = "INSERT INTO runs (id, key, created_ms, json, status, head_len) "
                   "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
                   "json = excluded.json, status = excluded.status, head_len = excluded.head_len "
                   "WHERE key = excluded.key",
    [ST_RUN_GET] = "SELECT created_ms, json FROM runs WHERE id = ? AND key = ?",
    [ST_RUN_DROP] = "DELETE FROM runs WHERE id = ?",
    [ST_RUN_OLDEST] = "SELECT id, created_ms FROM runs ORDER BY created_ms LIMIT 1",
    [ST_ARTIFACT_OF] = "UPDATE files SET run_id = ?, place = ? WHERE id = ? AND key = ? "
                       "AND (run_id IS NULL OR run_id = ?1) AND NOT upload",
    [ST_ARTIFACTS] = "SELECT sha256, size, created_ms, name, id FROM files WHERE run_id = ? "
                     "ORDER BY place",
    [ST_ARTIFACTS_DROP] = "DELETE FROM files WHERE run_id = ?",
    [ST_OBJECT_PUT] = "INSERT INTO objects (sha256, size) VALUES (?, ?) ON CONFLICT DO NOTHING",
    [ST_OBJECT_HAS] = "SELECT 1 FROM objects WHERE sha256 = ?",
    [ST_FILE_PUT] = "INSERT INTO files (id, key, upload, sha256, size, name, created_ms) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
    [ST_FILE_GET] = "SELECT sha256, size, created_ms, name, key, upload FROM files WHERE id = ?",
    [ST_FILE_DROP] = "DELETE FROM files WHERE id = ?",
    [ST_FILE_OLDEST] = "SELECT id, created_ms, sha256 FROM files WHERE run_id IS NULL "
                       "ORDER BY created_ms LIMIT 1",
    [ST_SHARE] = "SELECT files, bytes FROM shares WHERE key = ?",
    [ST_TOTALS] = "SELECT runs, bytes FROM totals",
    [ST_MOST_RUNS] = "SELECT key FROM holdings ORDER BY runs DESC LIMIT 1",
    [ST_MOST_BYTES] = "SELECT key FROM holdings AS h WHERE runs > 0 OR EXISTS "
                      "(SELECT 1 FROM files WHERE key = h.key AND run_id IS NULL) "
                      "ORDER BY bytes DESC LIMIT 1", /* of those that have what may go */
    [ST_RUN_OLDEST_OF] = "SELECT id, created_ms FROM runs WHERE key = ? "
                         "ORDER BY created_ms LIMIT 1",
    [ST_FILE_OLDEST_OF] = "SELECT id, created_ms, sha256 FROM files WHERE run_id IS NULL "
                          "AND key = ? ORDER BY created_ms LIMIT 1",
    [ST_JOB_PUT] = "INSERT INTO jobs (id, key, user, language, ns_id, policy, priority, state, "
                   "attempts, created_ms, updated_ms, started_ms, timeout_ms_ceiling, "
                   "memory_bytes_ceiling, cpu_ms_ceiling, bytes, body, callback_url) "
                   "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, length(?16), ?16, ?)",
    [ST_JOB_CLAIM] = "UPDATE jobs SET state = 1, attempts = attempts + 1, started_ms = ?2, "
                     "updated_ms = ?2 WHERE id = ?1 AND state < 2",
    [ST_JOB_UNCLAIM] = "UPDATE jobs SET attempts = attempts - 1 "
                       "WHERE id = ? AND attempts = ? AND attempts > 0 AND state < 2",
    [ST_JOB_FINISH] = "UPDATE jobs SET state = ?3, completed_ms = ?4, updated_ms = ?4, "
                      "started_ms = iif(?5, ?5, started_ms), duration_ms = ?6, output_bytes = ?7, "
                      "preview = ?8, doc = ?9, bytes = ?7 + length(?8) + length(?9), body = x'' "
                      "WHERE id = ?1 AND attempts = ?2 AND state < 2",
    [ST_JOB_CANCEL] = "UPDATE jobs SET cancelled = 1, updated_ms = ?3 "
                      "WHERE id = ?1 AND key = ?2 AND state < 2",
    [ST_JOB_GET] = "SELECT " JOB_COLUMNS ", preview, doc FROM jobs WHERE id = ?",
    [ST_JOB_BODY] = "SELECT attempts, cancelled, body, policy, timeout_ms_ceiling, "
                    "memory_bytes_ceiling, cpu_ms_ceiling FROM jobs WHERE id = ? AND state < 2",
    [ST_JOB_LIST] = "SELECT seq, state FROM jobs WHERE key = ? AND seq < ? "
                    "ORDER BY seq DESC LIMIT ?",
    [ST_JOB_AT] = "SELECT " JOB_COLUMNS " FROM jobs WHERE seq = ?",
    [ST_JOB_WAITING] = "SELECT " JOB_COLUMNS " FROM jobs WHERE state < 2 ORDER BY seq",
    [ST_JOB_ENDED] = "SELECT 1 FROM jobs WHERE id = ? AND state >= 2",
    [ST_JOB_DROP] = "DELETE FROM jobs WHERE id = ?",
    [ST_JOB_OLDEST] = "SELECT id, completed_ms, untold FROM jobs WHERE state >= 2 "
                      "ORDER BY untold, completed_ms LIMIT 1",
    [ST_JOB_OLDEST_OF] = "SELECT id, completed_ms, untold FROM jobs "
                         "WHERE key = ? AND state >= 2 ORDER BY untold, completed_ms LIMIT 1",
    [ST_RUN_LIST] = "SELECT rowid, id, created_ms, head_len FROM runs WHERE key = ?1 "
                    "AND (created_ms, id) < (?2, ?3) AND status <> 'open' "
                    "ORDER BY created_ms DESC, id DESC LIMIT ?4",
    [ST_RUN_LIST_STATUS] = "SELECT rowid, id, created_ms, head_len FROM runs WHERE key = ?1 "
                           "AND status = ?5 AND (created_ms, id) < (?2, ?3) "
                           "ORDER BY created_ms DESC, id DESC LIMIT ?4",
    [ST_ONCE_GET] = "SELECT request, created_ms, state, status, type, head_len, answer FROM once "
                    "WHERE key = ? AND name = ?",
    [ST_ONCE_PUT] = "INSERT INTO once (key, name, request, created_ms, whole) "
                    "VALUES (?, ?, ?, ?, ?)",
    [ST_ONCE_END] = "UPDATE once SET state = ?3, status = ?4, type = ?5, head_len = ?6, "
                    "answer = ?7 WHERE key = ?1 AND name = ?2 AND state = 0",
    [ST_ONCE_DROP] = "DELETE FROM once WHERE key = ? AND name = ?",
    [ST_ONCE_EXPIRE] = "DELETE FROM once WHERE rowid IN (SELECT rowid FROM once WHERE "
                       "created_ms < ? AND state != 0 ORDER BY created_ms LIMIT 64)",
    [ST_ONCE_TOTALS] = "SELECT names, bytes FROM once_totals",
    [ST_ONCE_DROP_OLDEST] = "DELETE FROM once WHERE rowid = (SELECT rowid FROM once WHERE key = "
                            "(SELECT key FROM once_shares AS s WHERE EXISTS (SELECT 1 FROM once "
                            "WHERE key = s.key AND state != 0) ORDER BY names DESC LIMIT 1) "
                            "AND state != 0 ORDER BY created_ms LIMIT 1)",
    [ST_ONCE_EMPTY_OLDEST] = "UPDATE once SET state = 2, head_len = 0, answer = x'' WHERE rowid = "
                             "(SELECT rowid FROM once WHERE key = (SELECT key FROM once_shares "
                             "ORDER BY bytes DESC LIMIT 1) AND state = 1 "
                             "ORDER BY created_ms LIMIT 1)",
    [ST_USAGE_ADD] = "INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                     "runs = min(runs + excluded.runs, ?8), jobs = min(jobs + excluded.jobs, ?8), "
                     "cpu_us = min(cpu_us + excluded.cpu_us, ?8), "
                     "wall_us = min(wall_us + excluded.wall_us, ?8), "
                     "output_bytes = min(output_bytes + excluded.output_bytes, ?8)",
    [ST_USAGE_GET] = "SELECT day, runs, jobs, cpu_us, wall_us, output_bytes FROM usage "
                     "WHERE key = ? AND day BETWEEN ? AND ? ORDER BY day",
    [ST_USAGE_KEY_FROM] = "SELECT key FROM usage WHERE key >= ? ORDER BY key LIMIT 1",
    [ST_USAGE_KEY_AFTER] = "SELECT key FROM usage WHERE key > ? ORDER BY key LIMIT 1",
    [ST_USAGE_EXPIRE] = "DELETE FROM usage WHERE day < ?",
    [ST_DELIVERY_PUT] = "INSERT INTO deliveries (id, job_id, key, url, host, created_ms, next_ms) "
                        "VALUES (?, ?, ?, ?, ?, ?, ?6)",
    [ST_DELIVERY_OF_JOB] = "SELECT callback_url, key FROM jobs WHERE id = ? AND callback_url <> ''",
    [ST_DELIVERY_NEXT_KEY] = "SELECT max(key) FROM deliveries WHERE state = 0 AND key < ?",
    [ST_DELIVERY_NEXT_HOST] = "SELECT min(host) FROM deliveries WHERE state = 0 AND key = ? "
                              "AND host > ?",
    [ST_DELIVERY_DUE] = "SELECT id, job_id, url, created_ms, next_ms, attempts, key "
                        "FROM deliveries WHERE state = 0 AND key = ? AND host = ? "
                        "ORDER BY next_ms LIMIT ?",
    [ST_DELIVERY_NOTE] = "UPDATE deliveries SET attempts = attempts + 1, state = ?2, next_ms = ?3 "
                         "WHERE id = ?1 AND state = 0",
    [ST_DELIVERIES_OF] = "SELECT id, job_id, url, created_ms, next_ms, attempts, state "
                         "FROM deliveries WHERE job_id = ? AND key = ? ORDER BY created_ms, id",
    [ST_DELIVERIES_DROP] = "DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries "
                           "WHERE created_ms < ? ORDER BY created_ms LIMIT ?)",
    [ST_ATTEMPT_PUT] = "INSERT INTO attempts (delivery_id, number, started_ms, duration_ms, status,"
                       " error) SELECT id, attempts, ?, ?, ?, ? FROM deliveries WHERE id = ?",
    [ST_ATTEMPTS_OF] = "SELECT number, started_ms, duration_ms, status, error FROM attempts "
                       "WHERE delivery_id = ? ORDER BY number",
};

/* ---- the way to the files ---------------------------------------------------------------------
 */

static sqlite3_vfs vfs;

static int keep_name(sqlite3_vfs *self, const char *name, int room, char *ret)
{
    (void)self;
    int n = snprintf(ret, (size_t)room, "%s", name);
    return n >= 0 && n < room ? SQLITE_OK : SQLITE_CANTOPEN;
}

/* Whoever owned this process before may have left a link. */
static int open_without_links(const char *path, int flags, int mode)
{
    return open(path, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, mode);
}

/* glibc's is a newfstatat(), which can name a path and is therefore not on the list of calls. */
static int look_at(int fd, struct stat *st)
{
    return (int)syscall(SYS_fstat, fd, st);
}

static void prepare_vfs(void)
{
    sqlite3_vfs *standard = sqlite3_vfs_find(NULL);
    if (vfs.xOpen)
        return;
    (void)standard->xSetSystemCall(standard, "open", (sqlite3_syscall_ptr)open_without_links);
    (void)standard->xSetSystemCall(standard, "fstat", (sqlite3_syscall_ptr)look_at);
    vfs = *standard;
    vfs.zName = "brood";
    vfs.pNext = NULL;
    vfs.xFullPathname = keep_name;
    store_faults_begin(standard, &vfs);
    (void)sqlite3_vfs_register(&vfs, 0);
}

/* ---- opening ----------------------------------------------------------------------------------
 */

/* Damage is for good (-EINVAL); what a full disk or a lack of memory did may pass. */
static int refuse(struct store *s, const char *what, struct err *err)
{
    int rc = s->db ? sqlite3_errcode(s->db) & 0xff : SQLITE_NOMEM;
    if (rc == SQLITE_NOMEM || rc == SQLITE_IOERR || rc == SQLITE_FULL) {
        (void)err_set(err, "state_dir: " FILE_NAME ": %s",
                      s->db ? sqlite3_errmsg(s->db) : "out of memory");
        return err->code = rc == SQLITE_NOMEM ? -ENOMEM : -EIO;
    }
    return err_set(err, "state_dir: " FILE_NAME ": %s: %s; " REMEDY, what,
                   s->db ? sqlite3_errmsg(s->db) : "out of memory");
}

static int set_up(struct store *s, struct err *err)
{
    static const char pragmas[] = "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;"
                                  "PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY;"
                                  "PRAGMA journal_size_limit = 67108864; PRAGMA mmap_size = 0;"
                                  "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;";
    int keep = 1;
    (void)sqlite3_busy_timeout(s->db, BUSY_MS);
    (void)sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    int rc = sqlite3_exec(s->db, pragmas, NULL, NULL, NULL);
    if (rc == SQLITE_OK) /* its end names no path then */
        rc = sqlite3_file_control(s->db, "main", SQLITE_FCNTL_PERSIST_WAL, &keep);
    /* Takes the lock, and opens the log. */
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(s->db, "BEGIN IMMEDIATE; COMMIT", NULL, NULL, NULL);
    if (rc == SQLITE_BUSY)
        return err_set(err, "state_dir: " FILE_NAME " is in use by another process");
    return rc == SQLITE_OK ? 0 : refuse(s, "cannot be opened", err);
}

static int is_late(void *until)
{
    return clock_now_ns() > *(uint64_t *)until;
}

static int check(struct store *s, struct err *err)
{
    uint64_t until = clock_now_ns() + CHECK_S * CLOCK_NS_PER_S;
    sqlite3_stmt *st = NULL;
    char said[160] = "ok";
    sqlite3_progress_handler(s->db, CHECK_STEPS, is_late, &until);
    int rc = sqlite3_prepare_v2(s->db, "PRAGMA quick_check(1)", -1, &st, NULL);
    if (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(st, 0);
        (void)snprintf(said, sizeof said, "%s", text ? text : "out of memory");
        rc = SQLITE_OK;
    }
    (void)sqlite3_finalize(st);
    for (char *at = said; (at = strchr(at, '\n'));)
        *at = ' ';
    sqlite3_progress_handler(s->db, 0, NULL, NULL);
    if (rc != SQLITE_OK && rc != SQLITE_INTERRUPT)
        return refuse(s, "is damaged", err);
    if (strcmp(said, "ok") != 0)
        return err_set(err, "state_dir: " FILE_NAME ": is damaged: %.80s; " REMEDY, said);
    return 0;
}

static int prepare(struct store *s, struct err *err)
{
    for (size_t i = 0; i < ST_COUNT; i++)
        if (sqlite3_prepare_v3(s->db, texts[i], -1, SQLITE_PREPARE_PERSISTENT, &s->statements[i],
                               NULL) != SQLITE_OK)
            return refuse(s, "is damaged", err);
    return 0;
}

int store_database_open(struct store *s, struct err *err)
{
    char path[64];
    struct err why;
    prepare_vfs();
    /* The dot: the directory that SQLite opens to sync it is then no link either. */
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d/./" FILE_NAME, s->dir_fd);
    if (sqlite3_open_v2(path, &s->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                        "brood") != SQLITE_OK)
        return refuse(s, "cannot be opened", err);
    int r = set_up(s, err);
    if (r == 0)
        r = check(s, err);
    if (r == 0 && store_migrate(s->db, &why) < 0)
        r = err_set(err, "state_dir: " FILE_NAME ": %.100s; " REMEDY, why.text);
    if (r == 0)
        r = prepare(s, err);
    if (r == 0 && SYS(fsync(s->dir_fd)) < 0)
        r = err_sys(err, "state_dir: fsync");
    return r;
}

void store_database_close(struct store *s)
{
    for (size_t i = 0; i < ST_COUNT; i++)
        (void)sqlite3_finalize(s->statements[i]);
    (void)sqlite3_close(s->db);
}

/* ---- statements -------------------------------------------------------------------------------
 */

sqlite3_stmt *store_statement(struct store *s, enum store_statement which)
{
    sqlite3_stmt *st = s->statements[which];
    (void)sqlite3_reset(st);
    (void)sqlite3_clear_bindings(st);
    return st;
}

int store_errno(struct store *s, int rc)
{
    if (!s->trouble)
        LOG(ERROR, "store_failed", F_STR("error", sqlite3_errmsg(s->db)), F_I64("code", rc));
    s->trouble = s->failed = true;
    switch (rc & 0xff) {
    case SQLITE_FULL:
        return ENOSPC;
    case SQLITE_NOMEM:
        return ENOMEM;
    default:
        return EIO;
    }
}

int store_step(struct store *s, sqlite3_stmt *st)
{
    int rc = sqlite3_step(st);
    int error = rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 : store_errno(s, rc);
    (void)sqlite3_reset(st);
    return error;
}
