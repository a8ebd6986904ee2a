/* SPDX-License-Identifier: Apache-2.0 */
/* volumes - what of a namespace persists. Driver `dir`: one directory per namespace below the root,
 * named by its namespace_id, on any filesystem that can be id-mapped. The tree is the registry: a
 * namespace exists because its directory does. Names beginning with a dot are ours: ".blank-*" is
 * being created, or made ahead, ".new-*" a probe, ".trash-*" is being removed, ".lock" keeps a
 * second service out.
 *
 * Called by priv (root); vol_list also by the engine, which holds the root descriptor and may only
 * list. Files belong to uid 1000 on disk and are reached only beneath a volume's descriptor.
 */
#pragma once
#include <stdint.h>
struct err;

#define VOL_DISK_UID 1000u
enum { VOL_ABSENT = 1 };

/* Opens (creating it, 0700 root) the root directory and takes its lock. The lock lives as long as
 * *ret_lock_fd. 0; <0: err, also when another service holds it. */
int vol_root_open(const char *path, int *ret_root_fd, int *ret_lock_fd, struct err *err);

/* A detached mount of the namespace's directory, id-mapped by userns_fd, nosuid and nodev; creates
 * the directory first if there is none. The caller owns *ret_mount_fd. open_tree(2),
 * mount_setattr(2). */
int vol_attach(int root_fd, const char *ns_id, int userns_fd, int *ret_mount_fd, struct err *err);

/* The same with a directory that no namespace has, until vol_drop_blank of its number (never 0); a
 * few at once. What dies in between leaves it to vol_sweep. */
int vol_attach_blank(int root_fd, int userns_fd, unsigned *ret_blank, int *ret_mount_fd,
                     struct err *err);
/* Removes it; what its user left in there is for the next sweep. */
void vol_drop_blank(int root_fd, unsigned blank);

/* Makes a directory ahead, which a later vol_attach only has to name; a few at most, best effort.
 */
void vol_prepare(int root_fd);
/* Removes those that nobody came for. */
void vol_tidy(int root_fd);

/* Tries at start what vol_attach will do, with a directory of its own. <0: err says why it cannot
 * work. */
int vol_probe(int root_fd, int userns_fd, struct err *err);

/* Renames the directory away; from now on the namespace does not exist. VOL_ABSENT: it did not. */
int vol_discard(int root_fd, const char *ns_id, struct err *err);

/* Removes what vol_discard and unfinished creations left. Forks; the child deletes as uid 1000.
 * >0: the pid of a child to wait for (then call again, it finishes the rest); 0: nothing left. The
 * first `skip` trees are passed over: those that could not be removed. */
int vol_sweep(int root_fd, unsigned skip, struct err *err);

struct vol_list {
    char (*names)[65];
    size_t count;
};
/* All namespaces, sorted; free with vol_list_free. */
int vol_list(int root_fd, struct vol_list *ret, struct err *err);
void vol_list_free(struct vol_list *list);
