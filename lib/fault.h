/* SPDX-License-Identifier: Apache-2.0 */
/* lib/fault - MODE=fault only: behind SYS(), the call that a test has chosen fails. */
#pragma once
#include <stdbool.h>

#define FAULT_PLACE_ROOM 40   /* "zygote/primordial.c:123" */
#define FAULT_TRACE_MAX 4096u /* calls whose places are noted */

/* The file named by BROOD_FAULT, which a test writes and all processes of a service map: in those
 * of this role the nth SYS() from now on fails with this error; where a place is named, the nth at
 * that place. Roles: the names in the log, and primordial, zygote (pid 1), child (all that pid 1
 * forks). */
struct fault {
    char role[16];
    unsigned nth, error; /* nth 0: none, and none is counted */
    unsigned count, fired;
    char where[FAULT_PLACE_ROOM];                  /* of the one that failed */
    char only[FAULT_PLACE_ROOM];                   /* "": every place */
    char trace[FAULT_TRACE_MAX][FAULT_PLACE_ROOM]; /* of the first, second ... that was counted */
};

#ifdef BROOD_FAULT
/* Must this call fail? errno is set then. */
bool fault_is_due(const char *file, int line);
/* From now on this process is of another role. */
void fault_set_role(const char *role);
#else
static inline void fault_set_role(const char *role)
{
    (void)role;
}
#endif
