/* SPDX-License-Identifier: Apache-2.0 */
/* store/object - output objects: what a job wrote, as outputs/<id>.txt below the state directory.
 * For the files of this folder; a place of another kind (a bucket, say) has to promise the same.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
struct err;
struct store;

/* All in the store's thread but the first two. 0 or errno; of those two 0 or <0 with err. */
int store_outputs_open(struct store *s, struct err *err);
/* With the database: removes what no ended job names. */
int store_outputs_clean(struct store *s, struct err *err);
void store_outputs_close(struct store *s);
/* Whole or not at all, and in place of an earlier one; durable after store_outputs_sync(). If no
 * row comes to name it, store_outputs_settle() removes it. */
int store_output_put(struct store *s, const char *id, const char *data, size_t len);
int store_output_get(struct store *s, const char *id, uint64_t size, int *ret_fd);
int store_outputs_sync(struct store *s);
/* The row of this job was or will be removed. */
void store_output_doubt(struct store *s, const char *id);
/* Outside of transactions: those doubtful ones that no ended job names go. */
void store_outputs_settle(struct store *s);
