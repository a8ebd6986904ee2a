/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/output - what a run writes: a pipe, and the bytes of it that are kept. */
#pragma once
struct http_server;
struct http_watch;

#define OUTPUT_READ_BYTES 65536u                   /* a pipe's capacity: one read empties it */
#define OUTPUT_BUFFERED_MAX (256ull * 1024 * 1024) /* kept by this process in all */

struct output {
    int fd;                   /* the read end; -1: closed */
    struct http_watch *watch; /* when set, it owns fd */
    char *data;
    size_t len, room;
    uint64_t kept_max, total; /* total counts the dropped bytes as well */
    bool ended, cut;          /* cut: bytes are missing although kept_max was not reached */
    struct run *run;
    /* Also told of all bytes, if not NULL. */
    void (*on_bytes)(struct output *o, const char *bytes, size_t len);
};

/* Pipes made ahead, so that making them does not delay a request. One per thread. */
#define OUTPUT_SPARES 4u
struct output_pipes {
    int spare[OUTPUT_SPARES][2];
    size_t count;
};

/* A pipe whose mode lets a child reopen it (/dev/stdout); both ends blocking. 0 or -1 and errno. */
int output_pipe_take(struct output_pipes *p, int ret_ends[2]);
/* At the end of a turn of the thread's loop: closes what ended in it, and makes more pipes, once an
 * answer is out or few are left. */
void output_on_turn(struct output_pipes *p, bool answered);
void output_pipes_fini(struct output_pipes *p);

/* Reads what the pipes hold now, without waiting, until their ends or until nothing is there. */
#define OUTPUT_DRAIN_MAX 4u
void output_drain(struct output *out, size_t count);
/* One read of a watched pipe. */
void output_read(struct output *o);
/* Reads what the pipes hold now and ends them, whoever else may write to them still. */
void output_finish(struct output *out, size_t count);
/* Keeps no more than the first `max` bytes of an ended output. */
void output_keep(struct output *o, uint64_t max);
bool output_is_truncated(const struct output *o);
/* Closes the read end, by the end of this turn: who still writes gets SIGPIPE. Keeps the bytes. */
void output_end(struct output *o);
/* Ends it and frees the bytes. */
void output_fini(struct output *o);
/* Counts n bytes elsewhere as kept output. False: there is no room. */
bool output_borrow(size_t n);
/* The same for what can as well be asked for later: it leaves half of the room to runs. */
bool output_borrow_spare(size_t n);
void output_return(size_t n);
/* True while the process may take on more output (some room below the cap is left to runs under
 * way). */
bool output_may_begin(void);
