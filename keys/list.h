/* SPDX-License-Identifier: Apache-2.0 */
/* keys/list - what the two readers share; of this folder only. */
#pragma once
#include "keys/keys.h"

/* 0, -ENOMEM or -E2BIG. */
int key_list_add(struct key_list *list, const struct key_entry *entry);
/* A rate without a burst gets that of a second. */
void key_settle_burst(struct key *key);
