/* SPDX-License-Identifier: Apache-2.0 */
/* lib/fault - see fault.h. In all other builds this file is empty and SYS(call) is the call.
 *
 * The mapping is made before main(), while files can be opened, and is inherited by forks: priv's
 * copies count with priv, the engine has a role of its own. What is exec'ed gets no environment
 * from us and so has no faults. t/950-torture.t writes the file.
 */
#include "lib/fault.h"
#ifdef BROOD_FAULT
#include <fcntl.h>
#include <sys/mman.h>

static struct fault *shared;
static const char *own_role = "priv";

__attribute__((constructor)) static void map(void)
{
    const char *path = getenv("BROOD_FAULT");
    auto_close int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *at =
        fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    shared = at == MAP_FAILED ? NULL : at;
    (void)unsetenv("BROOD_FAULT"); /* it is no setting */
}

void fault_set_role(const char *role)
{
    own_role = role;
}

bool fault_is_due(const char *file, int line)
{
    if (!shared || !shared->nth || strncmp(shared->role, own_role, sizeof shared->role) != 0)
        return false;
    if (__atomic_add_fetch(&shared->count, 1, __ATOMIC_SEQ_CST) != shared->nth)
        return false;
    shared->fired = 1;
    (void)snprintf(shared->where, sizeof shared->where, "%s:%d", file, line);
    errno = (int)shared->error;
    return true;
}
#endif
