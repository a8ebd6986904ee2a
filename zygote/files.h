/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/files - work on a namespace's files, by a child in its box. What is asked and answered
 * stands in protocol.h. */
#pragma once
#include "protocol/protocol.h"

struct files {
    int root; /* /work */
    int in, out;
    const struct proto_files_ask *ask;
};

/* The whole operation, with its last answer. Ends the process when nobody reads that. */
void files_serve(const struct files *f);
/* One answer, perhaps with a descriptor (-1: none), which stays the caller's. */
void files_send(const struct files *f, struct proto_files_answer *answer, int fd);
/* What is known of a file, for its answer. */
struct stat;
struct proto_files_answer files_describe(const struct stat *st);
/* files_list.c: -errno, or 0 with what the last answer says beside it. */
int files_list(const struct files *f, struct proto_files_answer *last);
int files_collect(const struct files *f, struct proto_files_answer *last);
