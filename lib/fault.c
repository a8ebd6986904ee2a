/* SPDX-License-Identifier: Apache-2.0 */
/* lib/fault - see fault.h. In all other builds this file is empty and SYS(call) is the call.
 *
 * The mapping is made before main(), or when bash loads the builtin: while there are rights. priv
 * opens the file that its environment names, and again once it has closed what it was started with,
 * at a number that whatever it execs - frontend, netd, primordial - inherits, maps and closes.
 * Forks inherit the mapping and count with the process they come from until they take a role of
 * their own; a shared mapping is none that zygote/lean.c replaces or a mould restores. A run that
 * bash evaluates has it, too, and could write to it through /proc/self/mem: one more reason not to
 * serve anybody with this build. t/lib/Brood/Torture.pm writes the file.
 */
#include "lib/fault.h"
#ifdef BROOD_FAULT
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define FAULT_FD 99 /* below those that priv moves descriptors to */

static struct fault *shared;
static char *path; /* of priv only */
static const char *own_role = "";

static void map(int fd)
{
    void *at = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    shared = at == MAP_FAILED ? NULL : at;
}

__attribute__((constructor)) static void begin(void)
{
    const char *named = getenv("BROOD_FAULT");
    struct stat st;
    if (named) {
        auto_close int fd = open(named, O_RDWR | O_CLOEXEC);
        path = strdup(named);
        own_role = "priv";
        (void)unsetenv("BROOD_FAULT"); /* it is no setting */
        map(fd);
    } else if (fstat(FAULT_FD, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == sizeof *shared) {
        map(FAULT_FD);
        (void)close(FAULT_FD);
    }
}

void fault_set_role(const char *role)
{
    own_role = role;
    if (!path)
        return;
    (void)close(FAULT_FD);
    if (strcmp(role, "priv") != 0) {
        path = NULL; /* from now on that number is anybody's */
        return;
    }
    auto_close int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0)
        (void)dup2(fd, FAULT_FD);
}

bool fault_is_due(const char *file, int line)
{
    char place[FAULT_PLACE_ROOM];
    if (!shared || !shared->nth || strncmp(shared->role, own_role, sizeof shared->role) != 0)
        return false;
    int saved = errno;
    (void)snprintf(place, sizeof place, "%s:%d", file, line);
    errno = saved;
    if (shared->only[0] && strncmp(shared->only, place, sizeof place) != 0)
        return false;
    unsigned n = __atomic_add_fetch(&shared->count, 1, __ATOMIC_SEQ_CST);
    if (n <= FAULT_TRACE_MAX)
        memcpy(shared->trace[n - 1], place, sizeof place);
    if (n != shared->nth)
        return false;
    memcpy(shared->where, place, sizeof place);
    shared->fired = 1;
    errno = (int)shared->error;
    return true;
}
#endif
