/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/run - one run between its HTTP request and the engine: what execute.c and work*.c share.
 */
#pragma once
#include "frontend/answer.h"
#include "frontend/front.h"
#include "frontend/reader.h"
struct feed;
struct job;
struct work;

#define RUN_OUTPUTS 4u /* stdout, stderr, the compiler's stdout and stderr */

struct run {
    struct request_owner owner;
    struct upstream_call call;
    struct front *front;
    struct http_request *req; /* NULL: over or gone */
    uint64_t tag;
    bool open;     /* the engine still owes a Result */
    bool finished; /* the Result is there */
    bool counted;  /* in its key's usage */
    bool base64;
    unsigned out_count; /* 2, or all four; a job's are its own */
    struct output out[RUN_OUTPUTS];
    struct http_timer timer; /* first to watch the pipes, then to close them */
    struct proto_result result;
    char language[PROTO_LANGUAGE_NAME_MAX + 1]; /* "": a command */
    bool compiled;                              /* in two stages */
    struct work *work;                          /* of a stored run; NULL: POST /execute, a job */
    struct job *job;   /* whose run it is: it has the outputs (jobs.h) and no request; else NULL */
    struct feed *feed; /* its stdin stays open; or NULL */
    /* run_stream.c: output that is shown while it runs */
    struct stream *stream;  /* NULL: it is not */
    enum reader_form form;  /* of the request's own answer */
    struct reader *reader;  /* that, once the run has begun */
    struct letter has_room; /* of the stream, for more */
    bool begun, paused;
    uint64_t shown_max; /* of each output; 0: all */
    struct {
        uint64_t shown;
        size_t len; /* of a character that is not complete */
        char bytes[4];
    } carry[RUN_OUTPUTS];
    struct answer answer;
    char ns_id[PROTO_NS_ID_MAX + 1];
    char key[STORE_KEY_MAX + 1];         /* whose it is: a label, or "" */
    char session[PROTO_SESSION_MAX + 1]; /* "": none */
};

/* The engine owes a Result after so long at the latest; else it is taken to be broken, and this
 * process ends with it. So it is what a run may take by the settings, and a minute. */
#define RUN_GRACE_MS_MAX 60000u /* the most that runs.grace_ms may be */
#define RUN_SLACK_MS 60000u
static inline uint64_t run_longest_ms(unsigned stages, uint64_t timeout_ms_max,
                                      uint64_t max_wait_ms)
{
    return stages * (timeout_ms_max + RUN_GRACE_MS_MAX) + max_wait_ms + RUN_SLACK_MS;
}

/* Who asks for a run: of a request, auth_caller() says so; a run without one has it from elsewhere.
 * Texts are read while run_send lasts. */
struct run_caller {
    const char *request_id;                                            /* for the engine's log */
    const char *key;                                                   /* a label; "": nobody's */
    uint64_t timeout_ms_ceiling, memory_bytes_ceiling, cpu_ms_ceiling; /* its key's; 0: none */
    const char *policy; /* where the request names none; "": the namespace's own */
};

/* A run without anything of its own yet. req NULL: it has no request, and whoever it is for frees
 * it (run_free_if_unused). NULL: too much is going on. */
struct run *run_new(struct front *f, struct http_request *req, const struct parse_request *parsed);
/* What goes along with a stored run; the descriptors stay the caller's. */
struct run_files {
    int artifacts_fd; /* the far end of a SOCK_SEQPACKET pair */
    uint64_t bytes_max;
    uint32_t files_max;
    const char *const *places;
    const int *place_fds;
    size_t place_count;
};
/* Makes pipes and stdin and hands it to the engine. files NULL: none. 0; -EAGAIN: too busy now;
 * other <0: the engine cannot be reached. */
int run_send(struct run *run, const struct run_caller *caller, const struct parse_request *parsed,
             const struct run_files *files);
/* Answers why there is no run, or why run_send failed. */
void run_refuse(struct http_request *req, int why);
/* False: it was answered, because of its type or because there is no engine yet. */
bool execute_may_begin(struct front *f, struct http_request *req);
void run_drop_output(struct run *run);
/* Of a job: its outputs have ended. */
void run_outputs_ended(struct run *run);
/* Frees it when neither request nor engine nor store need it. */
void run_free_if_unused(struct run *run);
/* run_stream.c. From before run_send on its output goes into a stream, too; id "": which nobody
 * else can find. False: no memory. */
bool run_stream_make(struct run *run, const char *id, const char *key, bool keeps_all);
/* Read on? When not, its pipes are paused until there is room. */
bool run_stream_may_read(struct run *run);
/* The engine has handed it over: who asked gets the head of the answer, once its note is stored. */
void run_stream_begin(struct run *run, uint64_t shown_max);
/* The Result is there: what its pipes hold is read without asking. */
void run_stream_finish(struct run *run);
/* Nothing is added any more: the number of the event with the result. */
uint64_t run_stream_last_id(struct run *run);
/* It is over, its result where readers find it; or (code) there is none. */
void run_stream_end(struct run *run, const char *code, const char *text);

/* Answers with run->answer, in one piece or as it is taken. */
void run_respond(struct run *run);
