/* SPDX-License-Identifier: Apache-2.0 */
/* policy/load - the policy file and the settings become one compiled block.
 *
 * Runs where text may be read: at start in the supervisor, on reload in a confined child of priv.
 */
#include "lib/err.h"
#include "policy/compile.h"
#include "policy/file.h"
#include <fcntl.h>
#include <unistd.h>

/* FNV-1a over what a zygote is built from: anything else may change under a living one. */
static uint64_t hash(uint64_t h, const void *bytes, size_t len)
{
    for (const unsigned char *at = bytes, *end = at + len; at < end; at++)
        h = (h ^ *at) * 1099511628211ull;
    return h;
}

static uint64_t box_of(const struct policy_plan *p)
{
    const uint64_t limits[] = {p->limits.nofile, p->limits.fsize_bytes, p->limits.stack_bytes,
                               p->limits.nproc, p->limits.tmp_bytes};
    const uint32_t words[] = {p->landlock_abi, p->layers, p->rights, p->bind_count, p->bpf_len};
    uint64_t h = hash(14695981039346656037ull, limits, sizeof limits);
    h = hash(h, words, sizeof words);
    h = hash(h, &p->bind_ports, sizeof p->bind_ports);
    h = hash(h, &p->connect_ports, sizeof p->connect_ports);
    h = hash(h, &p->net, sizeof p->net);
    h = hash(h, p->binds, sizeof p->binds);
    return hash(h, p->bpf, p->bpf_len * sizeof p->bpf[0]);
}

/* What a plan refers to must be there now: a primordial that cannot be made is found out too late.
 */
static int check_binds(const struct policy_plan *plan, struct err *err)
{
    for (uint32_t i = 0; i < plan->bind_count; i++) {
        auto_close int fd = SYS(open(plan->binds[i].from, O_PATH | O_DIRECTORY | O_CLOEXEC));
        if (fd < 0)
            return err_sys(err, "bind %s", plan->binds[i].from);
    }
    return 0;
}

static int complete(struct policy_set *set, uint32_t optional, struct err *err)
{
    for (uint32_t i = 0; i < set->count; i++) {
        struct policy_plan *plan = &set->plans[i];
        uint32_t required = plan->layers;
        plan->required = required;
        plan->layers = 0;
        int r = check_binds(plan, err);
        if (r == 0)
            r = policy_complete(plan, optional & ~required, err);
        if (r < 0)
            return err_wrap(err, "policy %s", plan->name);
        plan->box = box_of(plan);
    }
    return 0;
}

int policy_load(const struct policy_base *base, const char *path, int fd, struct policy_set *ret,
                struct err *err)
{
    auto_free char *text = fd < 0 ? NULL : malloc(POLICY_FILE_BYTES_MAX + 1);
    size_t len = 0;
    if (fd >= 0 && !text)
        return err_set(err, "%.120s: out of memory", path);
    for (ssize_t n = 1; fd >= 0 && n > 0; len += (size_t)n) {
        n = SYS(pread(fd, text + len, POLICY_FILE_BYTES_MAX + 1 - len, (off_t)len));
        if (n < 0)
            return err_sys(err, "read %.120s", path);
    }
    if (len > POLICY_FILE_BYTES_MAX)
        return err_set(err, "%.120s: expected at most %u bytes", path, POLICY_FILE_BYTES_MAX);
    memset(ret, 0, sizeof *ret);
    ret->magic = POLICY_SET_MAGIC;
    ret->count = 1;
    ret->plans[0] = (struct policy_plan){.name = "default",
                                         .profile = "default",
                                         .limits = base->limits,
                                         .net = base->net,
                                         .rights = POLICY_RIGHTS_DEFAULT};
    int r = fd < 0 ? 0 : policy_read_file(text, len, path, ret, err);
    return r < 0 ? r : complete(ret, base->optional, err);
}
