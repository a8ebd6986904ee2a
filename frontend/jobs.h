/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/jobs - POST /submit and what comes of it: a job is stored, waits, and is run by a thread
 * of the frontend, without a request. What the rest of the frontend has to know of it. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
struct err;
struct front;
struct http_request;
struct job;
struct proto_hello;
struct proto_result;
struct run;
struct store;

/* One thread's part; embedded in struct front. */
struct jobs_thread {
    int event_fd;           /* others write to it */
    struct job *open;       /* that this thread has */
    struct job_show *shows; /* requests of this thread that wait for a job's end */
    struct job_show *woken; /* those whose job has ended; under the queue's lock */
    bool cancels;           /* a job of this thread is to be cancelled; under the queue's lock */
};

/* Before the threads start: jobs of an earlier process wait again. 0 or <0 with err. */
int jobs_load(struct store *store, struct err *err);
/* Per thread, when its server and its store's mailbox are there. 0 or <0 with err. */
int jobs_init(struct front *f, struct err *err);
/* New settings, perhaps the first; or the service stops. */
void jobs_on_hello(struct front *f, const struct proto_hello *h);

/* Before anything of that namespace's queue is sent to the engine. False: it would overtake jobs
 * that were accepted before, and was answered so. */
bool jobs_let_pass(struct http_request *req, const char *ns_id);

/* Steps of a run whose `job` is set, for execute.c; nothing of it may be touched after the last
 * three. Makes its outputs and adds their far ends: stdout, stderr and, of two stages, those of the
 * compiler. 0 or -1. */
int job_make_outputs(struct job *job, bool compiled, int ret_far_ends[4]);
bool job_outputs_ended(const struct job *job);
/* Reads what is there, without waiting. */
void job_drain_outputs(struct job *job);
/* What has not ended by now is given up. */
void job_cut_outputs(struct job *job);
/* How many bytes it has written, with those that were dropped. */
uint64_t job_bytes_written(const struct job *job);
/* Is it claimed only when its turn has come? */
bool job_is_held(const struct job *job);
/* The engine has begun it; of a held one: its turn has come. */
void job_on_turn(struct job *job);
/* Result and outputs are there. */
void job_on_result(struct job *job, const struct proto_result *result);
/* The engine did not run it. */
void job_on_refused(struct job *job, const struct proto_result *result);
/* The engine is gone. */
void job_on_lost(struct job *job);
