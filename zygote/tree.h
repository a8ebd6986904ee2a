/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/tree - what lies below a directory of a tenant, reached by a path of somebody else's. Used
 * by a child as its user, for what is placed before a run and for work on files. Paths are relative
 * to `root`; no link is followed and nothing leads out of it. Descriptors or 0, else -errno. */
#pragma once
#include <sys/types.h>

#define TREE_NAME_MAX 255u
#define TREE_PATH_MAX 4095u

/* Is it "a/b/c": not empty, no empty, "." or ".." part, and not too long? */
bool tree_path_is_sound(const char *path);
/* "" is the root itself. */
int tree_open(int root, const char *path, int flags);
/* Opens a directory (O_PATH), having made it and what leads there. */
int tree_make(int root, const char *path);
/* Opens the directory that a sound path's last part is in, made if need be; that part. */
int tree_open_parent(int root, const char *path, bool make, const char **ret_name);
/* Removes what is there, a directory with all below it. Nothing there: -ENOENT. What could not be
 * removed of a deep tree may lie higher than it was. */
int tree_remove(int dir, const char *name);
/* Removes all that is in this directory. */
int tree_empty(int dir);
/* Copies a regular file from its beginning, or what comes out of anything else. How many bytes;
 * -EFBIG: there would have been more. */
int64_t tree_copy(int to, int from, uint64_t max);
