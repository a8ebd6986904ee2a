/* SPDX-License-Identifier: Apache-2.0 */
/* policy/layers - the words for the layers of isolation, and what to do where one is missing: one
 * table for settings, log, doctor, capabilities and tests.
 *
 * Pure data and a parser of a list of its names; used by the supervisor and the CLI.
 */
#include "lib/err.h"
#include "policy/policy.h"

#define LANDLOCK_NEEDS "CONFIG_SECURITY_LANDLOCK and \"landlock\" in the lsm= boot parameter"

/* In the order in which an attacker meets them. */
const struct policy_layer_word policy_layer_words[POLICY_LAYERS] = {
    {POLICY_USERNS, "userns", POLICY_BASIC, "CONFIG_USER_NS, sysctl user.max_user_namespaces"},
    {POLICY_MNTNS, "mntns", POLICY_BASIC, "CONFIG_NAMESPACES, sysctl user.max_mnt_namespaces"},
    {POLICY_PIDNS, "pidns", POLICY_BASIC, "CONFIG_PID_NS, sysctl user.max_pid_namespaces"},
    {POLICY_NETNS, "netns", POLICY_BASIC, "CONFIG_NET_NS, sysctl user.max_net_namespaces"},
    {POLICY_IPCNS, "ipcns", POLICY_BASIC, "CONFIG_IPC_NS, sysctl user.max_ipc_namespaces"},
    {POLICY_UTSNS, "utsns", POLICY_BASIC, "CONFIG_UTS_NS, sysctl user.max_uts_namespaces"},
    {POLICY_CGROUPNS, "cgroupns", POLICY_MAY_LACK,
     "CONFIG_CGROUPS, sysctl user.max_cgroup_namespaces"},
    {POLICY_CGROUP_MEMORY, "cgroup-memory", POLICY_MAY_LACK,
     "CONFIG_MEMCG and no cgroup_disable=memory; mount the controller or delegate it "
     "(systemd: Delegate=yes)"},
    {POLICY_CGROUP_PIDS, "cgroup-pids", POLICY_MAY_LACK,
     "CONFIG_CGROUP_PIDS; mount the controller or delegate it (systemd: Delegate=yes)"},
    {POLICY_CGROUP_CPU, "cgroup-cpu", POLICY_MAY_LACK,
     "CONFIG_CFS_BANDWIDTH; mount the controller or delegate it (systemd: Delegate=yes)"},
    {POLICY_LANDLOCK, "landlock", POLICY_MAY_LACK, LANDLOCK_NEEDS},
    {POLICY_LANDLOCK_TCP, "landlock-tcp", POLICY_DEGRADES, LANDLOCK_NEEDS ", Linux 6.7"},
    {POLICY_LANDLOCK_SCOPE, "landlock-scope", POLICY_DEGRADES, LANDLOCK_NEEDS ", Linux 6.12"},
    {POLICY_SECCOMP, "seccomp", POLICY_MAY_LACK, "CONFIG_SECCOMP_FILTER"},
    {POLICY_NO_NEW_PRIVS, "no-new-privs", POLICY_BASIC,
     "Linux 3.5; nothing that fakes prctl(2) around the service"},
    {POLICY_CAPABILITIES, "capabilities", POLICY_BASIC,
     "nothing that fakes capset(2) or prctl(2) around the service"},
    {POLICY_RLIMITS, "rlimits", POLICY_BASIC, "nothing that fakes prlimit(2) around the service"},
    {POLICY_PROC, "proc", POLICY_BASIC, "CONFIG_PROC_FS, Linux 5.8 for hidepid of one mount"},
    {POLICY_IMAGE, "image", POLICY_BASIC, "mount_setattr(2): Linux 5.12"},
    {POLICY_TMP, "tmp", POLICY_BASIC, "CONFIG_TMPFS"},
    {POLICY_DEVICES, "devices", POLICY_BASIC,
     "CONFIG_TMPFS; nothing beside the nodes of the image"},
    {POLICY_VOLUME, "volume", POLICY_BASIC,
     "a file system for fs_root that can be id-mapped (ext4, xfs, btrfs; tmpfs from Linux 6.3)"},
    {POLICY_DESCRIPTORS, "descriptors", POLICY_BASIC, "close_range(2): Linux 5.9"},
};

const struct policy_layer_word *policy_find_layer(uint32_t layer)
{
    for (size_t i = 0; i < POLICY_LAYERS; i++)
        if ((uint32_t)policy_layer_words[i].layer == layer)
            return &policy_layer_words[i];
    return NULL;
}

int policy_parse_layers(const char *text, uint32_t *ret, struct err *err)
{
    *ret = 0;
    while (*text) {
        const struct policy_layer_word *word = NULL;
        size_t len = strcspn(text, ",");
        for (size_t i = 0; i < POLICY_LAYERS && !word; i++)
            if (strlen(policy_layer_words[i].name) == len &&
                !memcmp(policy_layer_words[i].name, text, len))
                word = &policy_layer_words[i];
        if (!word)
            return err_set(err,
                           "\"%.*s\": expected layers such as landlock, seccomp, cgroup-memory "
                           "(brood.yaml(5) has the list)",
                           (int)(len < 60 ? len : 60), text);
        if (word->need == POLICY_BASIC)
            return err_set(err,
                           "\"%s\" cannot be left out: expected landlock, landlock-tcp, "
                           "landlock-scope, seccomp, cgroupns, cgroup-memory, -pids, -cpu",
                           word->name);
        *ret |= (uint32_t)word->layer;
        text += len + (text[len] == ',');
    }
    return 0;
}
