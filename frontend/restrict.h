/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/restrict - what this process renounces before it reads a byte from outside. */
#pragma once
struct err;

/* No new privileges, soft nofile = hard, landlock without any file, TCP or scope, and a seccomp
 * list. Irreversible; before any thread is started. 0 or <0 with err. */
int restrict_self(struct err *err);
