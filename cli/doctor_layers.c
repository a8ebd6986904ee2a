/* SPDX-License-Identifier: Apache-2.0 */
/* cli/doctor_layers - doctor's question about the layers themselves: what did an attacker's
 * questions find?
 *
 * A running service asked them at its start and tells (Hello). Without one, root has them asked in
 * a service that lives for some milliseconds: `brood-supervisor --probe`, whose lines are read
 * here. Nobody else can start one, and says so: what the kernel has is then all there is to tell.
 */
#include "cli/cli.h"
#include "policy/policy.h"
#include "protocol/protocol.h"
#include <limits.h>

#define FIELDS 6

static const struct policy_layer_word *find_word(const char *name)
{
    for (size_t i = 0; i < POLICY_LAYERS; i++)
        if (strcmp(policy_layer_words[i].name, name) == 0)
            return &policy_layer_words[i];
    return NULL;
}

static void tell(const struct cli_layer *l)
{
    const struct policy_layer_word *w = find_word(l->name);
    bool held = strcmp(l->state, "held") == 0;
    bool degraded = w && w->need == POLICY_DEGRADES && strcmp(l->state, "absent") == 0;
    char what[80];
    (void)snprintf(what, sizeof what, "layer %s", l->name);
    enum cli_verdict verdict = held || degraded ? CLI_FINE : l->required ? CLI_MISSING : CLI_WARN;
    cli_layer(l, verdict, w ? w->remedy : "see the service's log");
    cli_say(verdict, what, w ? w->remedy : NULL, "%s%s%s%s%s", l->state, *l->question ? ": " : "",
            l->question, *l->detail ? ": " : "", l->detail);
}

bool cli_tell_layers(const struct proto_hello *hello)
{
    for (size_t i = 0; i < hello->layer_count; i++) {
        const struct proto_layer *p = &hello->layers[i];
        tell(&(struct cli_layer){.name = p->name,
                                 .state = proto_layer_state_name(p->state),
                                 .required = p->required,
                                 .question = p->question,
                                 .detail = p->detail});
    }
    return hello->layer_count > 0;
}

/* ---- a service for the moment ------------------------------------------------------------------
 */

struct start {
    char path[PATH_MAX];
    const char *fs_root, *lib_dir, *image;
};

static int exec_supervisor(const void *arg)
{
    const struct start *s = arg;
    const char *argv[9] = {"brood-supervisor", "--probe"};
    size_t n = 2;
    const struct {
        const char *flag, *value;
    } flags[] = {{"--fs-root", s->fs_root}, {"--lib-dir", s->lib_dir}, {"--image", s->image}};
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (flags[i].value) {
            argv[n++] = flags[i].flag;
            argv[n++] = flags[i].value;
        }
    (void)execv(s->path, (char *const *)(uintptr_t)argv);
    (void)dprintf(2, "%s: %s\n", s->path, strerror(errno));
    return 127;
}

/* Beside this program in a build tree, in ../sbin when installed. */
static void find_supervisor(char ret[PATH_MAX])
{
    static const char *const below[] = {"brood-supervisor", "../sbin/brood-supervisor"};
    char self[PATH_MAX - 64];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    char *slash = strrchr(self, '/');
    if (slash)
        *slash = 0;
    for (size_t i = 0; i < ARRAY_LEN(below); i++) {
        (void)snprintf(ret, PATH_MAX, "%s/%s", self, below[i]);
        if (access(ret, X_OK) == 0)
            return;
    }
}

/* One line of --probe, taken apart in place; false: it is something else (the log). */
static bool tell_line(char *line)
{
    char *field[FIELDS];
    size_t n = 0;
    for (char *at = line; at && n < FIELDS; n++) {
        field[n] = at;
        at = strchr(at, '\t');
        if (at)
            *at++ = 0;
    }
    if (n < FIELDS - 1)
        return false;
    tell(&(struct cli_layer){.name = field[0],
                             .state = field[1],
                             .required = strcmp(field[2], "required") == 0,
                             .question = field[3],
                             .detail = field[4]});
    return true;
}

bool cli_probe_layers(const char *fs_root, const char *lib_dir, const char *image)
{
    static char text[32768];
    struct start start = {.fs_root = fs_root, .lib_dir = lib_dir, .image = image};
    char *cause = NULL;
    bool any = false;
    if (geteuid() != 0) {
        cli_say(CLI_WARN, "layers", "start the service, or run brood doctor as root",
                "not asked: there is no service to tell, and only root can start one");
        return false;
    }
    find_supervisor(start.path);
    int status = cli_try(exec_supervisor, &start, text, sizeof text);
    for (char *line = text, *next; *line; line = next) {
        next = line + strcspn(line, "\n");
        if (*next)
            *next++ = 0;
        if (tell_line(line))
            any = true;
        else if (strstr(line, " error ") || status == 127 || status == 2)
            cause = cause ? cause : line;
    }
    if (!any || !(status == 0 || status == 1))
        tell(&(struct cli_layer){.name = "service",
                                 .state = "broken",
                                 .required = true,
                                 .question = "can one be started?",
                                 .detail = cause ? cause : "it does not end well"});
    return any;
}
