/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/children - who becomes the next run: a cast of the mould, the reserve, or a new fork.
 *
 * All three are prepared ahead, by pid 1, between two runs or beside one; zyg.h says what they are.
 */
#include "lib/clock.h"
#include "zygote/zyg.h"
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#define JOIN_WAITS 4u /* for a mould that is just joining the cgroups, so often... */
#define JOIN_WAIT_NS (2 * CLOCK_NS_PER_MS)
#define CLEAN_RUNS_AGAIN 16 /* until the next mould, when the last one came to no use */

/* Not fork(3): nothing here needs its handlers and locks. */
pid_t children_fork(struct zyg *z, enum child_kind kind)
{
    pid_t pid = SYS(_Fork());
    if (pid == 0)
        child_main(z, kind);
    return pid;
}

void children_promote(struct zyg *z)
{
    z->standby = z->reserve;
    z->reserve = 0;
    z->token->go = (uint32_t)z->standby;
    zyg_wake(&z->token->go);
}

void zyg_bind(const struct zyg *z, uint32_t cpu)
{
    cpu_set_t set;
    if (cpu >= CPU_SETSIZE) {
        set = z->all_cpus;
    } else {
        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
    }
    /* One that is offline is refused: then anywhere. */
    (void)sched_setaffinity(0, sizeof set, &set);
}

/* Zygote and standby live on one CPU: a fork that moves costs more in wake-ups and TLB flushes than
 * the rest of it. Which one, the engine says; a run may use all (child.c). */
static void move_home(struct zyg *z)
{
    if (z->note->home_cpu == z->home_cpu)
        return;
    z->home_cpu = z->note->home_cpu;
    zyg_bind(z, z->home_cpu);
}

bool children_has_standby(const struct zyg *z)
{
    return z->standby || z->casting;
}

/* Is this the standby, or the run that it has become? Of a cast that has not begun we do not know
 * the number; but nobody else lives then. */
bool children_is_standby(const struct zyg *z, pid_t pid)
{
    return z->casting ? pid == z->note->pid || !z->note->pid : pid == z->standby;
}

bool children_mould_is_ready(const struct zyg *z)
{
    return z->mould && z->token->mould == (uint32_t)z->mould;
}

static void order_cast(struct zyg *z)
{
    z->casting = true;
    z->token->home_cpu = z->home_cpu;
    z->token->cast++;
    zyg_wake(&z->token->cast);
}

/* Sees that a child waits for the next run: a cast, the reserve, or a new one. */
void children_prepare_standby(struct zyg *z)
{
    move_home(z);
    *z->note = (struct zyg_note){.home_cpu = z->home_cpu};
    z->token->spoiled = z->token->exec_rss_kb = 0;
    z->cancelled = z->timed_out = z->term_sent = false;
    if (children_mould_is_ready(z)) {
        order_cast(z);
        return;
    }
    if (z->reserve) {
        children_promote(z);
        return;
    }
    z->standby = children_fork(z, CHILD_STANDBY);
    if (z->standby < 0)
        zyg_give_up(z, ZYG_STEP_FORK, errno);
}

/* Best effort: without one the next standby is forked when it is needed. Nor is there one after the
 * first run, which many namespaces leave it at. */
void children_prepare_reserve(struct zyg *z)
{
    if (z->reserve || z->pids_current < 0 || ++z->runs < 2)
        return;
    pid_t pid = children_fork(z, CHILD_RESERVE);
    z->reserve = pid > 0 ? pid : 0;
}

void children_drop(pid_t *child)
{
    if (*child) {
        (void)kill(*child, SIGKILL);
        (void)waitpid(*child, NULL, 0);
    }
    *child = 0;
}

void children_prepare_mould(struct zyg *z)
{
    if (!z->moulds || z->mould || z->patience > 0 || z->pids_current < 0)
        return;
    z->patience = CLEAN_RUNS_AGAIN;          /* should this one not last */
    z->token->mould = z->token->joining = 0; /* its number may have been another's */
    pid_t pid = SYS(_Fork());
    if (pid == 0)
        mould_main(z);
    z->mould = pid > 0 ? pid : 0;
}

bool children_mould_is_joining(const struct zyg *z)
{
    return z->mould && !children_mould_is_ready(z) && z->token->joining == (uint32_t)z->mould;
}

/* A mould that is just joining the cgroups of the run: is it in there, or is it not? */
void children_settle_mould(struct zyg *z)
{
    if (!children_mould_is_joining(z))
        return;
    for (unsigned i = 0; i < JOIN_WAITS && !children_mould_is_ready(z); i++)
        zyg_await(&z->token->mould, z->token->mould, JOIN_WAIT_NS);
    if (!children_mould_is_ready(z))
        children_drop(&z->mould);
}
