/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/peers - see peers.h. Parsed in the supervisor before it splits, asked in the engine.
 *
 * The kernel notes user and groups of a peer when it connects (unix(7), SO_PEERCRED and
 * SO_PEERGROUPS), so what a connection may do is known once, at its beginning, and cannot be forged
 * by messages. A descriptor that is handed on takes its rights along.
 */
#include "supervisor/peers.h"
#include "lib/err.h"
#include "lib/num.h"
#include <grp.h>
#include <pwd.h>
#include <sys/socket.h>

#define NAME_ROOM 64
#define GROUPS_MAX 256 /* of one peer; who has more counts with none of them */

static int look_up(const char *name, bool is_group, uint32_t *ret)
{
    uint64_t number;
    struct group *gr = is_group ? getgrnam(name) : NULL;
    struct passwd *pw = is_group ? NULL : getpwnam(name);
    if (gr)
        *ret = gr->gr_gid;
    else if (pw)
        *ret = pw->pw_uid;
    else if (num_parse_u64(name, 0, UINT32_MAX - 1, &number) == 0)
        *ret = (uint32_t)number;
    else
        return -1;
    return 0;
}

static int parse_list(const char *what, const char *text, struct peer_list *ret, struct err *err)
{
    for (const char *at = text; *at; at += *at == ',') {
        char name[NAME_ROOM];
        at += strspn(at, " ");
        size_t len = strcspn(at, ","), used = len;
        while (used > 0 && at[used - 1] == ' ')
            used--;
        if (ret->count == PEERS_MAX || used == 0 || used >= sizeof name)
            return err_set(err, "%s: expected at most %d names with commas between", what,
                           PEERS_MAX);
        memcpy(name, at, used);
        name[used] = 0;
        bool is_group = name[0] == '@';
        if (look_up(name + is_group, is_group, &ret->of[ret->count].id) < 0)
            return err_set(err, "%s: expected users and @groups, but there is no %s %s", what,
                           is_group ? "group" : "user", name + is_group);
        ret->of[ret->count++].is_group = is_group;
        at += len;
    }
    return 0;
}

int peers_parse(const char *users, const char *admins, struct peers *ret, struct err *err)
{
    *ret = (struct peers){0};
    int r = parse_list("socket_users", users, &ret->users, err);
    return r == 0 ? parse_list("socket_admins", admins, &ret->admins, err) : r;
}

bool peers_has_others(const struct peers *peers)
{
    return peers->users.count > 0 || peers->admins.count > 0;
}

static bool is_in(const struct peer_list *list, const struct ucred *who, const gid_t *groups,
                  size_t count)
{
    for (size_t i = 0; i < list->count; i++) {
        bool found = list->of[i].id == (list->of[i].is_group ? who->gid : who->uid);
        for (size_t k = 0; list->of[i].is_group && k < count; k++)
            found |= groups[k] == list->of[i].id;
        if (found)
            return true;
    }
    return false;
}

unsigned peers_rights(const struct peers *peers, int sock, uint32_t *ret_uid)
{
    struct ucred who;
    gid_t groups[GROUPS_MAX];
    socklen_t len = sizeof who, bytes = sizeof groups;
    *ret_uid = UINT32_MAX;
    if (SYS(getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &who, &len)) < 0)
        return 0;
    *ret_uid = who.uid;
    if (SYS(getsockopt(sock, SOL_SOCKET, SO_PEERGROUPS, groups, &bytes)) < 0)
        bytes = 0;
    size_t count = bytes / sizeof groups[0];
    if (who.uid == 0 || is_in(&peers->admins, &who, groups, count))
        return PEER_MAY_RUN | PEER_MAY_ADMIN | PEER_MAY_MANAGE;
    return is_in(&peers->users, &who, groups, count) ? PEER_MAY_RUN : 0;
}
