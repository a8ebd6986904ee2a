/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/peers - who may do what on the engine's Unix socket: lists of users and groups, and
 * what SO_PEERCRED says of a connection. */
#pragma once
struct err;

#define PEERS_MAX 32 /* in one list */

enum peer_right {
    PEER_MAY_RUN = 1,    /* Execute, Cancel: in any namespace */
    PEER_MAY_ADMIN = 2,  /* statistics, policies */
    PEER_MAY_MANAGE = 4, /* the list of namespaces, removal of one */
};

struct peers {
    struct peer_list {
        size_t count;
        struct {
            bool is_group;
            uint32_t id;
        } of[PEERS_MAX];
    } users, admins;
};

/* "alice,1001,@staff": names or numbers, @ for groups. Looks them up, so before the engine is
 * confined. 0, or <0: err says which setting and which name. */
int peers_parse(const char *users, const char *admins, struct peers *ret, struct err *err);
/* May anyone but root connect? Then the socket's file must let them. */
bool peers_has_others(const struct peers *peers);
/* The peer_right bits of who connected this socket (the user at its connect(2)): root and admins
 * have all. *ret_uid for the log. */
unsigned peers_rights(const struct peers *peers, int sock, uint32_t *ret_uid);
