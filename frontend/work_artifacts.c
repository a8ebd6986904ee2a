/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/work_artifacts - what a stored run left in /work/outputs: from a tenant's process into
 * the store.
 *
 * In the frontend, per thread. The far end of a SOCK_SEQPACKET pair went along with the run; after
 * the Result a process inside the box sends a datagram and a descriptor for each file. Nothing of
 * them is believed: the descriptor must be of a regular file whose size is within what is left of
 * the run's limits (the store copies no more than that size, so one that grows is left out), the
 * name must be a relative path without empty, "." and ".." parts and fit the store. Any other byte
 * may stand in a name, a newline too: JSON and headers escape it. What fails a check is left out
 * and counted, never an error of the run.
 *
 * The collecting process waits until we hang up, so that no later run of the namespace changes a
 * file before it is copied; all of it is bounded by COLLECT_MS.
 */
#include "frontend/work_impl.h"
#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "lib/packet.h"
#include <sys/stat.h>

#define COLLECT_MS 10000u
#define RECEIVE_MAX 16 /* per wake-up: other descriptors want their turn */

static void hang_up(struct work *w)
{
    if (w->watch) {
        http_timer_cancel(&w->run->timer); /* COLLECT_MS; what is being stored ends by itself */
        http_watch_free(ptr_take(&w->watch));
        w->near_fd = -1;
    }
    fd_close(&w->near_fd);
}

/* Stores the run when all that came is in the store and nothing more can come. */
static void try_finish(struct run *run)
{
    struct work *w = run->work;
    if (!w->listed || w->calls > 0)
        return;
    hang_up(w);
    work_store(run, NULL);
}

static void on_put(struct store_call *call)
{
    struct artifact *a = CONTAINER_OF(call, struct artifact, call);
    struct run *run = a->run;
    struct work *w = run->work;
    fd_close(&call->fd);
    if (call->error) {
        w->dropped++;
        if (call->error != EFBIG) /* it grew: the tenant's doing, not ours */
            LOG(WARN, "artifact", F_STR("run", w->id), F_STR("error", strerror(call->error)));
    }
    w->calls--;
    if ((run->req && !w->gone) || w->detached)
        try_finish(run); /* may free it */
    else
        work_call_done(run);
}

/* Takes the descriptor. False: it is left out. */
static bool put(struct run *run, const char *name, int fd, uint64_t size)
{
    struct work *w = run->work;
    struct artifact *a = calloc(1, sizeof *a);
    if (a) {
        a->run = run;
        a->call.verb = STORE_PUT_OBJECT;
        a->call.fd = fd;
        a->call.bytes_max = size;
        a->call.on_done = on_put;
        memcpy(a->call.key, w->key, sizeof a->call.key);
        (void)snprintf(a->call.object.name, sizeof a->call.object.name, "%s", name);
        if (store_submit(&run->front->mailbox, &a->call) == 0) {
            w->artifacts[w->artifact_count++] = a;
            w->artifact_bytes_left -= size;
            w->calls++;
            return true;
        }
    }
    free(a);
    fd_close(&fd);
    return false;
}

static bool is_name(const char *name, size_t len)
{
    if (len == 0 || len > STORE_NAME_MAX || strlen(name) != len)
        return false;
    for (const char *part = name;; part++) {
        size_t n = strcspn(part, "/");
        if (n == 0 || (n <= 2 && strncmp(part, "..", n) == 0))
            return false;
        part += n;
        if (!*part)
            return true;
    }
}

/* One file. Takes the descriptor. */
static bool take_file(struct run *run, const char *name, size_t name_len, int fd)
{
    struct work *w = run->work;
    struct stat st;
    bool fits = is_name(name, name_len) && w->artifact_count < w->artifact_files_max &&
                w->artifact_count < WORK_ARTIFACTS_MAX && SYS(fstat(fd, &st)) == 0 &&
                S_ISREG(st.st_mode) && st.st_size >= 0 &&
                (uint64_t)st.st_size <= w->artifact_bytes_left;
    if (!fits) {
        fd_close(&fd);
        return false;
    }
    return put(run, name, fd, (uint64_t)st.st_size);
}

/* One datagram of `len` bytes. False: the sender talks nonsense, nothing more is read. */
static bool take(struct run *run, struct proto_files_answer *a, size_t len, int *fds, size_t nfds)
{
    struct work *w = run->work;
    const size_t head = offsetof(struct proto_files_answer, name);
    bool sound = len >= head && a->magic == PROTO_FILES_MAGIC &&
                 a->name_bytes <= PROTO_FILES_PATH_MAX && len >= head + a->name_bytes;
    bool file = sound && !a->last && a->status == 0 && a->kind == 'f' && nfds == 1;
    if (file) {
        a->name[a->name_bytes] = 0;
        w->dropped += take_file(run, a->name, a->name_bytes, fds[0]) ? 0 : 1;
        return true;
    }
    for (size_t i = 0; i < nfds; i++)
        fd_close(&fds[i]);
    if (sound && a->last) {
        w->listed = true;
        w->cut = a->status != 0;
        w->dropped += a->dropped < UINT32_MAX ? a->dropped : UINT32_MAX;
    } else if (sound) {
        w->dropped++;
    }
    return sound;
}

static void on_readable(void *data)
{
    struct run *run = data;
    struct work *w = run->work;
    struct proto_files_answer a;
    int fds[PACKET_FDS_MAX];
    bool sound = !w->listed; /* a word after the last one is none */
    for (int i = 0; sound && !w->listed && i < RECEIVE_MAX; i++) {
        size_t nfds = 0;
        ssize_t n = packet_recv(w->near_fd, &a, sizeof a, fds, &nfds);
        if (n == -EAGAIN)
            return;
        sound = n > 0 && take(run, &a, (size_t)n, fds, nfds);
    }
    if (!sound) {
        w->cut = w->cut || !w->listed;
        w->listed = true;
        hang_up(w);
    }
    try_finish(run);
}

void work_collect(struct run *run)
{
    struct work *w = run->work;
    w->watch = http_watch_new(run->front->server, w->near_fd, on_readable, run);
    if (!w->watch) {
        w->listed = w->cut = true;
        try_finish(run);
        return;
    }
    http_timer_set(run->front->server, &run->timer, clock_now_ns() + COLLECT_MS * CLOCK_NS_PER_MS);
}

void work_stop_collecting(struct run *run)
{
    run->work->listed = run->work->cut = true;
    hang_up(run->work);
    try_finish(run);
}

void work_forget_artifacts(struct work *w)
{
    hang_up(w);
    for (size_t i = 0; i < w->artifact_count && w->calls == 0; i++)
        free(ptr_take(&w->artifacts[i]));
}
