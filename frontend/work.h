/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/work - what a stored run (POST /v1/runs) has beside any run: an id, inputs, artifacts, a
 * place in the store. Called by execute.c at each step of its life. */
#pragma once
struct run;
struct work;
struct proto_result;

/* Does the store, or the wish to store it, still need the run? */
bool work_is_busy(const struct work *w);
/* Result and outputs are there: collects, stores, answers. */
void work_on_outputs(struct run *run);
/* The engine has it, and has not refused it by now; whether it has begun. */
void work_on_accepted(struct run *run, bool waiting);
/* Is that being noted in the store? Then nothing is answered before it is. */
bool work_is_noting(const struct work *w);
/* It has begun, but its answer in pieces has to wait: run_stream_begin comes from here. */
bool work_holds_begin(struct run *run, uint64_t shown_max);
/* The engine did not run it after all. True: it was promised, and that is stored as its end. */
bool work_keeps_refusal(struct run *run, const struct proto_result *result);
/* The engine did not run it (an open request has been answered). */
void work_on_refused(struct run *run);
/* The engine is gone; the same, but the caller frees. */
void work_on_lost(struct run *run);
/* It stands behind other runs of its namespace, or does so no longer. */
void work_open_wait(struct work *w, bool waiting);
/* True: its timer was the collecting one. */
bool work_on_timer(struct run *run);
/* Its client is gone. True: so is the run, to be cancelled. */
bool work_on_gone(struct run *run);
void work_free(struct work *w);
/* Whose it is, and how it is called. */
const char *work_id(const struct work *w);
const char *work_key(const struct work *w);
/* More members of the event "started", each behind a comma; the length. */
size_t work_put_started(const struct work *w, char *to, size_t room);
