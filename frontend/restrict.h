/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/restrict - what this process renounces before it reads a byte from outside. */
#pragma once
struct err;

/* Soft nofile = hard, at most half of the machine's memory, and all that confine_self() takes: no
 * file but those below state_fd, no connection, process or new privilege. Irreversible; before any
 * thread is started. 0 or <0 with err. */
int restrict_self(int state_fd, struct err *err);
