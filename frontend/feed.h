/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/feed - the stdin of a run that stays open while it runs, and who else speaks to a run
 * under way: POST /v1/runs/{id}/stdin and /signal. */
#pragma once
struct feed;
struct front;

/* Of a run of this key (a label, or ""), with bytes that come first (copied). NULL: no memory, or
 * too much is held. */
struct feed *feed_new(struct front *f, const char *key, const char *first, size_t len);
/* Makes the pipe. The run's end, the caller's; -1 and errno. Once. */
int feed_open(struct feed *feed);
/* The run is over: who waits is told so. NULL does nothing. */
void feed_end(struct feed *feed);
/* The same, and frees it. */
void feed_free(struct feed *feed);
