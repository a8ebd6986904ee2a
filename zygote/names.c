/* SPDX-License-Identifier: Apache-2.0 */
/* zygote/names - the set-up steps of zygote.h in words. Linked into the supervisor too, so under
 * its licence and without anything of bash.
 */
#include "zygote/zyg.h"

static const char *const zyg_steps[ZYG_STEPS] = {
    [ZYG_STEP_OK] = "none",
    [ZYG_STEP_IDS] = "become root of the userns",
    [ZYG_STEP_MOUNTS] = "mount /proc and /tmp",
    [ZYG_STEP_LOOPBACK] = "bring lo up",
    [ZYG_STEP_CGROUPS] = "enter the cgroup namespace",
    [ZYG_STEP_VOLUME] = "mount the volume",
    [ZYG_STEP_LANDLOCK] = "install landlock",
    [ZYG_STEP_CAPS] = "drop capabilities",
    [ZYG_STEP_SECCOMP] = "install seccomp",
    [ZYG_STEP_FORK] = "fork a standby",
    [ZYG_STEP_NETWORK] = "bring the network up",
};

const char *zyg_step_name(uint32_t step)
{
    return step < ZYG_STEPS ? zyg_steps[step] : "unknown step";
}

static const uint32_t layers[ZYG_STEPS] = {
    [ZYG_STEP_IDS] = POLICY_USERNS,        [ZYG_STEP_MOUNTS] = POLICY_PROC,
    [ZYG_STEP_LOOPBACK] = POLICY_NETNS,    [ZYG_STEP_CGROUPS] = POLICY_CGROUPNS,
    [ZYG_STEP_VOLUME] = POLICY_VOLUME,     [ZYG_STEP_LANDLOCK] = POLICY_LANDLOCK,
    [ZYG_STEP_CAPS] = POLICY_CAPABILITIES, [ZYG_STEP_SECCOMP] = POLICY_SECCOMP,
    [ZYG_STEP_NETWORK] = POLICY_NETNS,
};

uint32_t zyg_step_layer(uint32_t step)
{
    return step < ZYG_STEPS ? layers[step] : 0;
}

static const char *const child_steps[CHILD_STEPS] = {
    [CHILD_OK] = "none",
    [CHILD_STEP_MESSAGE] = "read the run",
    [CHILD_STEP_STDIO] = "install stdin, stdout and stderr",
    [CHILD_STEP_LIMITS] = "set limits",
    [CHILD_STEP_CWD] = "enter the working directory",
    [CHILD_STEP_PLACE] = "place files",
    [CHILD_STEP_EXEC] = "execute the shell",
};

const char *child_step_name(uint32_t step)
{
    return step < CHILD_STEPS ? child_steps[step] : "unknown step";
}
