/* SPDX-License-Identifier: Apache-2.0 */
/* t/unit/store_power - the power goes: what was told is there, and nothing half.
 *
 * A store works in a child whose system calls are noted: which bytes went where, what was synced,
 * renamed, removed, and when its caller was told. From these notes disks are made as a power cut
 * may leave them, at many moments: what was synced is there, of what was not, each write is there,
 * is not, or is there in part, in any order; of names, a beginning of what was done in each
 * directory. On each such disk the store is opened and asked. Only runs without files may be
 * missing: that is documented. ALL_STEPS=1 cuts at every call.
 */
#include "lib/tap.h"
#include "t/lib/store_help.h"
#include <openssl/sha.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#define ROUNDS 12
#define STEPS 8 /* of a round; each is told */
#define LARGE 60000u
#define OPS_MAX 20000
#define FILES_MAX 400
#define NAME_ROOM 80
#define SECTOR 512u

static const struct store_settings no_limits;

/* ---- the work -----------------------------------------------------------------------------------
 */

static int put_object(struct store *s, const char *name, const char *text, bool upload,
                      struct store_object *ret)
{
    struct store_call c = {.verb = STORE_PUT_OBJECT, .upload = upload, .bytes_max = 1 << 20};
    c.data = text;
    c.len = strlen(text);
    (void)snprintf(c.key, sizeof c.key, "k");
    (void)snprintf(c.object.name, sizeof c.object.name, "%s", name);
    int error = now(s, &c);
    *ret = c.object;
    return error;
}

static int put_run(struct store *s, const char *id, char *json, size_t len, struct store_object *a)
{
    struct store_call c = {.verb = STORE_PUT_RUN};
    (void)snprintf(c.run.id, sizeof c.run.id, "%s", id);
    (void)snprintf(c.run.key, sizeof c.run.key, "k");
    c.run.created_ms = store_now_ms();
    c.run.json = json;
    c.run.json_len = len;
    c.run.artifacts = a;
    c.run.artifact_count = a ? 1 : 0;
    return now(s, &c);
}

static int drop(struct store *s, const struct store_object *o)
{
    struct store_call c = {.verb = STORE_DROP_OBJECT, .object = *o, .key = "k"};
    return now(s, &c);
}

static int job_call(struct store *s, enum store_verb verb, int round, const char *text)
{
    char doc[] = "\"error\":null", preview[] = "", body[] = "{}";
    struct store_job j = {.state = verb == STORE_PUT_JOB ? STORE_JOB_RUNNING : STORE_JOB_COMPLETED,
                          .attempts = 1};
    struct store_call c = {.verb = verb, .job = &j, .fd = -1, .data = text, .len = strlen(text)};
    (void)snprintf(j.id, sizeof j.id, "job_aaaaaaaaaaaaaaaaaaaaaaaaa%c", 'a' + round);
    (void)snprintf(j.key, sizeof j.key, "k");
    j.created_ms = store_now_ms();
    j.body = verb == STORE_PUT_JOB ? body : NULL;
    j.body_len = sizeof body - 1;
    j.doc = doc;
    j.doc_len = sizeof doc - 1;
    j.preview = preview;
    return now(s, &c);
}

/* One of the things that a round does. */
static int step(struct store *s, int round, int which)
{
    static struct store_object upload, before, artifact;
    static char large[LARGE];
    char name[16], text[64], id[16];
    (void)snprintf(name, sizeof name, "%c%d", "urmpmjjx"[which], round);
    (void)snprintf(text, sizeof text, "content %d of %s", round % 5, name);
    switch (which) {
    case 0:
        before = upload;
        return put_object(s, name, text, true, &upload);
    case 1:
        (void)snprintf(text, sizeof text, "artifact %d", round % 3); /* equal ones are one file */
        (void)snprintf(id, sizeof id, "run_%d", round);
        return put_object(s, name, text, false, &artifact) ||
               put_run(s, id, name, strlen(name), &artifact);
    case 2:
        return begin(s, "k", name, "r") == STORE_ONCE_NEW ? 0 : EIO;
    case 3:
        memset(large, 'a' + round, sizeof large);
        (void)snprintf(id, sizeof id, "plain_%d", round);
        return put_run(s, id, large, sizeof large, NULL);
    case 4:
        (void)snprintf(text, sizeof text, "answer %d", round);
        (void)snprintf(name, sizeof name, "m%d", round);
        return end(s, "k", name, STORE_ONCE_ANSWERED, text);
    case 5:
        return job_call(s, STORE_PUT_JOB, round, "");
    case 6:
        (void)snprintf(text, sizeof text, "output %d", round);
        return job_call(s, STORE_FINISH_JOB, round, text);
    default:
        return round ? drop(s, &before) : 0;
    }
}

static void work(int tell)
{
    struct store *s = open_store(&no_limits);
    if (!s)
        _exit(9);
    (void)sqlite3_wal_autocheckpoint(s->db, 40); /* pages: so that there are many */
    for (int i = 0; i < ROUNDS * STEPS; i++) {
        if (step(s, i / STEPS, i % STEPS))
            _exit(8);
        (void)!write(tell, "1", 1);
    }
    store_close(s);
    _exit(0);
}

/* ---- the notes ----------------------------------------------------------------------------------
 */

enum place { TOP, OBJECTS, OUTPUTS, PLACES }; /* directories */
static const char *const places[PLACES] = {"", "objects/", "outputs/"};

enum kind { WROTE, CUT, SYNCED, NAMED, RENAMED, REMOVED, SYNCED_NAMES, TOLD };

struct op {
    enum kind kind;
    enum place place; /* of names */
    int file;
    off_t at;
    size_t len;
    char *bytes, name[NAME_ROOM], to[NAME_ROOM];
};

static struct op ops[OPS_MAX];
static int op_count, file_count;
static struct {
    ino_t inode; /* 0: it is removed, and another file may have the number */
    enum place place;
    char name[NAME_ROOM];
} files[FILES_MAX];

static struct op *note(enum kind kind)
{
    if (op_count == OPS_MAX) {
        printf("Bail out! more than %d operations\n", OPS_MAX);
        exit(1);
    }
    ops[op_count] = (struct op){.kind = kind};
    return &ops[op_count++];
}

/* What the traced process has open there. */
static bool look(pid_t pid, int fd, struct stat *st)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
    return stat(path, st) == 0;
}

static int file_of(const struct stat *st)
{
    for (int i = file_count - 1; i >= 0; i--)
        if (files[i].inode == st->st_ino)
            return i;
    return -1;
}

static int file_named(const char *name, enum place place)
{
    for (int i = file_count - 1; i >= 0; i--)
        if (files[i].inode && files[i].place == place && strcmp(files[i].name, name) == 0)
            return i;
    return -1;
}

static void note_removed(const char *name, enum place place)
{
    int file = file_named(name, place);
    struct op *o = note(REMOVED);
    o->place = place;
    (void)snprintf(o->name, sizeof o->name, "%s", name);
    if (file >= 0)
        files[file].inode = 0;
}

static void note_renamed(const char *name, const char *to, enum place place)
{
    int file = file_named(name, place);
    struct op *o = note(RENAMED);
    o->place = place;
    (void)snprintf(o->name, sizeof o->name, "%s", name);
    (void)snprintf(o->to, sizeof o->to, "%s", to);
    if (file >= 0)
        (void)snprintf(files[file].name, NAME_ROOM, "%s", to);
}

static char *copy_bytes(pid_t pid, unsigned long long at, size_t len)
{
    char *bytes = calloc(1, len + 1);
    struct iovec to = {bytes, len}, from = {(void *)(uintptr_t)at, len};
    if (bytes && len && process_vm_readv(pid, &to, 1, &from, 1, 0) != (ssize_t)len)
        bytes[0] = 0;
    return bytes;
}

static void copy_name(pid_t pid, unsigned long long at, char ret[NAME_ROOM])
{
    for (size_t i = 0; i < NAME_ROOM; i++) {
        struct iovec to = {ret + i, 1}, from = {(void *)(uintptr_t)(at + i), 1};
        if (process_vm_readv(pid, &to, 1, &from, 1, 0) != 1 || !ret[i])
            return;
    }
    ret[NAME_ROOM - 1] = 0;
}

/* Is this descriptor our directory, or one in it? */
static bool is_directory(pid_t pid, int fd, enum place *ret_place)
{
    struct stat st, ours;
    if (!look(pid, fd, &st))
        return false;
    for (*ret_place = TOP; *ret_place < PLACES; (*ret_place)++)
        if (fstatat(dir_fd, *ret_place ? places[*ret_place] : ".", &ours, 0) == 0 &&
            ours.st_ino == st.st_ino)
            return true;
    return false;
}

/* A file was opened: is it a new one? */
static void note_open(pid_t pid, int fd, int flags)
{
    char path[64], name[300];
    struct stat st;
    (void)snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
    ssize_t n = readlink(path, name, sizeof name - 1);
    if (!(flags & O_CREAT) || n < 0 || !look(pid, fd, &st) || !S_ISREG(st.st_mode))
        return;
    name[n] = 0;
    size_t len = strlen(dir_path);
    const char *last = strrchr(name, '/') + 1;
    enum place place = strncmp(name + len, "/objects/", 9) == 0   ? OBJECTS
                       : strncmp(name + len, "/outputs/", 9) == 0 ? OUTPUTS
                                                                  : TOP;
    if (strncmp(name, dir_path, len) != 0 || file_named(last, place) >= 0)
        return;
    if (file_count == FILES_MAX) {
        printf("Bail out! more than %d files\n", FILES_MAX);
        exit(1);
    }
    files[file_count].inode = st.st_ino;
    files[file_count].place = place;
    (void)snprintf(files[file_count].name, NAME_ROOM, "%.70s", last);
    struct op *o = note(NAMED);
    o->file = file_count++;
    o->place = place;
    (void)snprintf(o->name, sizeof o->name, "%.70s", last);
}

static void note_write(pid_t pid, const struct user_regs_struct *r, bool placed, int tell)
{
    static off_t ends[FILES_MAX]; /* plain writes go on where the last one ended */
    struct stat st;
    if (!placed && (int)r->rdi == tell) {
        (void)note(TOLD);
        return;
    }
    int file = look(pid, (int)r->rdi, &st) && S_ISREG(st.st_mode) ? file_of(&st) : -1;
    if (file < 0)
        return;
    struct op *o = note(WROTE);
    o->file = file;
    o->len = (size_t)r->rax;
    o->at = placed ? (off_t)r->r10 : ends[file];
    o->bytes = copy_bytes(pid, r->rsi, o->len);
    if (!placed)
        ends[file] += (off_t)o->len;
}

static void note_sync(pid_t pid, int fd)
{
    struct stat st;
    enum place place;
    if (is_directory(pid, fd, &place)) {
        note(SYNCED_NAMES)->place = place;
        return;
    }
    int file = look(pid, fd, &st) ? file_of(&st) : -1;
    if (file >= 0)
        note(SYNCED)->file = file;
}

/* A system call that succeeded. */
static void note_call(pid_t pid, const struct user_regs_struct *r, int tell)
{
    struct stat st;
    struct op *o;
    char name[NAME_ROOM] = "/", to[NAME_ROOM] = "";
    enum place place = TOP;
    switch (r->orig_rax) {
    case SYS_openat:
        note_open(pid, (int)r->rax, (int)r->rdx);
        break;
    case SYS_open:
        note_open(pid, (int)r->rax, (int)r->rsi);
        break;
    case SYS_write:
    case SYS_pwrite64:
        note_write(pid, r, r->orig_rax == SYS_pwrite64, tell);
        break;
    case SYS_ftruncate:
        if (look(pid, (int)r->rdi, &st) && file_of(&st) >= 0) {
            o = note(CUT);
            o->file = file_of(&st);
            o->at = (off_t)r->rsi;
        }
        break;
    case SYS_fsync:
    case SYS_fdatasync:
        note_sync(pid, (int)r->rdi);
        break;
    case SYS_renameat:
    case SYS_unlinkat:
        copy_name(pid, r->rsi, name);
        copy_name(pid, r->r10, to);
        if (!is_directory(pid, (int)r->rdi, &place))
            break;
        if (r->orig_rax == SYS_unlinkat)
            note_removed(name, place);
        else
            note_renamed(name, to, place);
        break;
    case SYS_unlink: /* SQLite's, of a journal: by the directory's descriptor as well */
        copy_name(pid, r->rdi, name);
        note_removed(strrchr(name, '/') + 1, TOP);
        break;
    default: /* those that change nothing, and mkdir, whose sync follows before all else */
        break;
    }
}

/* Runs the work and notes what it does. Its wait status. */
static int watch_work(void)
{
    int pipe_fds[2], status = 0;
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        (void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        (void)raise(SIGSTOP);
        work(pipe_fds[1]);
    }
    (void)waitpid(pid, &status, 0);
    (void)ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    for (bool inside = false; WIFSTOPPED(status);) {
        int signal = WSTOPSIG(status);
        if (signal == (SIGTRAP | 0x80)) {
            struct user_regs_struct r;
            inside = !inside;
            if (!inside && ptrace(PTRACE_GETREGS, pid, NULL, &r) == 0 && (long long)r.rax >= 0)
                note_call(pid, &r, pipe_fds[1]);
            signal = 0;
        }
        (void)ptrace(PTRACE_SYSCALL, pid, NULL, signal == SIGSTOP ? 0 : signal);
        (void)waitpid(pid, &status, 0);
    }
    (void)close(pipe_fds[0]);
    (void)close(pipe_fds[1]);
    return status;
}

/* ---- disks --------------------------------------------------------------------------------------
 */

/* What comes of unsynced work: all, nothing, or anything. */
enum luck { KEEPS_ALL, LOSES_ALL, ANY };

static unsigned next_random;

static unsigned roll(unsigned sides)
{
    next_random = next_random * 1664525u + 1013904223u;
    return (next_random >> 16) % sides;
}

/* The last sync before `until` of what `o` is about; -1: none. */
static bool is_synced(const struct op *o, int until)
{
    enum kind sync = o->kind == WROTE || o->kind == CUT ? SYNCED : SYNCED_NAMES;
    for (const struct op *at = o + 1; at < ops + until; at++)
        if (at->kind == sync && (sync == SYNCED ? at->file == o->file : at->place == o->place))
            return true;
    return false;
}

static void write_file(const char *name, enum place place, int file, int until, enum luck luck)
{
    char path[NAME_ROOM + 16];
    (void)snprintf(path, sizeof path, "%s%s", places[place], name);
    int fd = openat(dir_fd, path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    for (int i = 0; i < until; i++) {
        const struct op *o = &ops[i];
        if (o->file != file || (o->kind != WROTE && o->kind != CUT))
            continue;
        bool safe = is_synced(o, until);
        if (!safe && (luck == LOSES_ALL || (luck == ANY && roll(2))))
            continue;
        size_t len = o->len;
        if (!safe && luck == ANY && roll(4) == 0)
            len = len / SECTOR ? roll((unsigned)(len / SECTOR)) * SECTOR : 0;
        if (o->kind == CUT)
            (void)!ftruncate(fd, o->at);
        else
            (void)!pwrite(fd, o->bytes, len, o->at);
    }
    (void)close(fd);
}

/* Which file has that name, of those that a directory has. */
struct entry {
    char name[NAME_ROOM];
    int file; /* -1: none any more */
};

static struct entry *find_entry(struct entry *list, int *count, const char *name)
{
    for (int i = 0; i < *count; i++)
        if (strcmp(list[i].name, name) == 0)
            return &list[i];
    (void)snprintf(list[*count].name, NAME_ROOM, "%s", name);
    list[*count].file = -1;
    return &list[(*count)++];
}

/* The names of one directory: a beginning of what was done there, as far as it was synced at least.
 */
static void make_names(enum place place, int until, enum luck luck)
{
    static struct entry list[2 * FILES_MAX];
    int count = 0;
    for (int i = 0; i < until; i++) {
        const struct op *o = &ops[i];
        if ((o->kind != NAMED && o->kind != RENAMED && o->kind != REMOVED) || o->place != place)
            continue;
        if (!is_synced(o, until) && (luck == LOSES_ALL || (luck == ANY && roll(4) == 0)))
            break;
        if (o->kind == NAMED)
            find_entry(list, &count, o->name)->file = o->file;
        if (o->kind == RENAMED)
            find_entry(list, &count, o->to)->file = find_entry(list, &count, o->name)->file;
        if (o->kind != NAMED)
            find_entry(list, &count, o->name)->file = -1;
    }
    for (int i = 0; i < count; i++)
        if (list[i].file >= 0)
            write_file(list[i].name, place, list[i].file, until, luck);
}

static void make_disk(int until, enum luck luck)
{
    new_directory();
    for (enum place place = TOP; place < PLACES; place++) {
        if (place)
            (void)mkdirat(dir_fd, places[place], 0700);
        make_names(place, until, luck);
    }
}

/* ---- what must be true --------------------------------------------------------------------------
 */

/* Every row has its file, every file its row, and each is what its name says. */
static bool is_whole(struct store *s)
{
    DIR *dir = fdopendir(openat(dir_fd, "objects", O_RDONLY | O_DIRECTORY));
    struct dirent *e;
    long long found = 0;
    bool fine = true;
    while ((e = readdir(dir))) {
        char bytes[4096], name[STORE_SHA256_ROOM];
        struct store_sha256 sha256;
        if (e->d_name[0] == '.' && strlen(e->d_name) < 3)
            continue;
        auto_close int fd = openat(dirfd(dir), e->d_name, O_RDONLY);
        ssize_t n = read(fd, bytes, sizeof bytes);
        (void)SHA256((unsigned char *)bytes, n > 0 ? (size_t)n : 0, sha256.bytes);
        store_hex(&sha256, name);
        fine = fine && strcmp(name, e->d_name) == 0;
        found++;
    }
    (void)closedir(dir);
    return fine && found == ask(s, "SELECT count(*) FROM objects") &&
           ask(s, "SELECT count(*) FROM objects o WHERE refs != (SELECT count(*) FROM files f "
                  "WHERE f.sha256 = o.sha256) OR refs = 0") == 0 &&
           ask(s, "SELECT count(*) FROM files f WHERE NOT upload AND NOT EXISTS "
                  "(SELECT 1 FROM runs r WHERE r.id = f.run_id)") == 0 &&
           ask(s, "SELECT names - (SELECT count(*) FROM once) FROM once_totals") == 0;
}

PRINTF_LIKE(2, 3) static long long ask_of(struct store *s, const char *sql, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, sql);
    (void)vsnprintf(text, sizeof text, sql, ap);
    va_end(ap);
    return ask(s, text);
}

/* What the job of that round wrote, as it is given to who asks. */
static bool output_holds(struct store *s, int round)
{
    struct store_call c = {.verb = STORE_GET_OUTPUT, .any_key = true, .fd = -1};
    char got[64] = "", want[64];
    (void)snprintf(c.object.id, sizeof c.object.id, "job_aaaaaaaaaaaaaaaaaaaaaaaaa%c", 'a' + round);
    (void)snprintf(want, sizeof want, "output %d", round);
    if (now(s, &c) != 0)
        return false;
    ssize_t n = pread(c.fd, got, sizeof got - 1, 0);
    (void)close(c.fd);
    return n >= 0 && strcmp(got, want) == 0;
}

static bool round_holds(struct store *s, int round, int told)
{
    long long upload =
        ask_of(s, "SELECT count(*) FROM files WHERE CAST(name AS TEXT) = 'u%d'", round);
    long long run = ask_of(s,
                           "SELECT count(*) FROM runs r JOIN files f ON f.run_id = r.id WHERE "
                           "r.id = 'run_%d' AND CAST(json AS TEXT) = 'r%d'",
                           round, round);
    long long once = ask_of(s,
                            "SELECT CASE WHEN state = 1 AND CAST(answer AS TEXT) != 'answer %d' "
                            "THEN 9 ELSE state END FROM once WHERE name = 'm%d'",
                            round, round);
    long long torn = ask_of(
        s, "SELECT count(*) FROM runs WHERE id = 'plain_%d' AND length(json) != 60000", round);
    long long job = ask_of(s, "SELECT state FROM jobs WHERE id = 'job_aaaaaaaaaaaaaaaaaaaaaaaaa%c'",
                           'a' + round);
    int dropped = (round + 1) * STEPS + STEPS - 1, at = told - round * STEPS;
    if (upload != (told > dropped ? 0 : 1) && (at > 0 || upload > 1) &&
        !(told == dropped && upload == 0))
        return false;
    if (at > 1 && run != 1)
        return false;
    if (once == 9 || once == STORE_ONCE_OPEN || (at > 4 && once != STORE_ONCE_ANSWERED) ||
        (at > 2 && once != STORE_ONCE_ANSWERED && once != STORE_ONCE_LOST))
        return false;
    if ((at > 5 && job < 0) || (at > 6 && job != STORE_JOB_COMPLETED))
        return false;
    return torn == 0 && (job != STORE_JOB_COMPLETED || output_holds(s, round));
}

static bool survives(int until)
{
    int told = 0;
    for (int i = 0; i < until; i++)
        told += ops[i].kind == TOLD;
    struct store *s = open_store(&no_limits);
    bool good = s && is_whole(s);
    for (int round = 0; good && round < ROUNDS; round++)
        good = round_holds(s, round, told);
    if (!good)
        printf("# cut at %d of %d, told of %d\n", until, op_count, told);
    store_close(s);
    return good;
}

/* Worth a look: whatever is noted just before, or behind, a sync or a word to the caller. */
static bool is_near_sync(int i)
{
    for (int k = i > 0 ? i - 1 : 0; k <= i && k < op_count; k++)
        if (ops[k].kind != WROTE)
            return true;
    return roll(20) == 0;
}

int main(void)
{
    int cuts = 0, bad = 0, kinds[TOLD + 1] = {0};
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    new_directory();
    int status = watch_work();
    for (int i = 0; i < op_count; i++)
        kinds[ops[i].kind]++;
    if (!ok(WIFEXITED(status) && WEXITSTATUS(status) == 0 && kinds[TOLD] == ROUNDS * STEPS,
            "the work is watched to its end: %d steps, status %#x", kinds[TOLD], status))
        return tap_done();
    ok(kinds[WROTE] > 200 && kinds[SYNCED] > 60 && kinds[RENAMED] > 10 &&
           kinds[SYNCED_NAMES] > 15 && kinds[REMOVED] > 5,
       "%d writes, %d syncs, %d renames, %d removals, %d syncs of names", kinds[WROTE],
       kinds[SYNCED], kinds[RENAMED], kinds[REMOVED], kinds[SYNCED_NAMES]);
    for (int i = 0; i <= op_count; i++)
        for (enum luck luck = KEEPS_ALL; luck <= ANY; luck++) {
            if (!getenv("ALL_STEPS") && (!is_near_sync(i) || roll(luck == ANY ? 2 : 8)))
                continue;
            make_disk(i, luck);
            bad += !survives(i);
            cuts++;
        }
    ok(cuts > 150 && bad == 0, "%d cuts: what was told is there, and nothing half", cuts);
    remove_directory();
    return tap_done();
}
