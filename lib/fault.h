/* SPDX-License-Identifier: Apache-2.0 */
/* lib/fault - MODE=fault only: behind SYS(), the call that a test has chosen fails. */
#pragma once
#include <stdbool.h>

/* The file named by BROOD_FAULT, which a test writes and the service maps: in processes of this
 * role (the name in the log), the nth SYS() from now on fails with this error. */
struct fault {
    char role[16];
    unsigned nth, error; /* nth 0: none */
    unsigned count, fired;
    char where[64]; /* of the one that failed */
};

/* Must this call fail? errno is set then. */
bool fault_is_due(const char *file, int line);
/* From now on this process is of another role. */
void fault_set_role(const char *role);
