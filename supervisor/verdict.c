/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/verdict - see verdict.h: a table of boxes, and what is said about them.
 *
 * Pure bookkeeping in the engine: it asks nobody and waits for nothing. Names of policies are the
 * operator's: they go to the log, to --probe and to administrators, never to the frontend.
 */
#include "supervisor/verdict.h"
#include "lib/log.h"
#include "protocol/protocol.h"
#include "supervisor/engine.h"
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static struct probe_host host;
static struct box boxes[POLICIES_MAX];
static size_t box_count;
static uint8_t box_of[POLICIES_MAX]; /* a policy's box */

static struct told {
    struct proto_layer layer[POLICY_LAYERS];
    char question[POLICY_LAYERS][sizeof((struct box_layer *)0)->question];
    char detail[POLICY_LAYERS][300]; /* copies: boxes move */
} told[2];                           /* [1]: with the names of policies */

const char verdict_refusal[] = "the isolation that its policy asks for could not be shown to hold";

void verdict_init(const struct probe_host *h)
{
    host = *h;
}

/* ---- what to ask of a policy ------------------------------------------------------------------
 */

static uint32_t find_closed_port(const struct policy_ports *open)
{
    for (uint32_t port = UINT16_MAX, i; port > 0; port--) {
        for (i = 0; i < open->count && open->port[i] != port; i++)
            ;
        if (i == open->count)
            return port;
    }
    return 0;
}

#define DISCARD_PORT 9

static bool lists(const struct policy_net *net, uint32_t addr)
{
    for (uint32_t i = 0; i < net->rule_count; i++) {
        const struct policy_net_rule *r = &net->rules[i];
        uint32_t mask = r->prefix ? ~0u << (32 - r->prefix) : 0;
        if (r->tcp && (addr & mask) == (r->addr & mask) && r->port_first <= DISCARD_PORT &&
            r->port_last >= DISCARD_PORT)
            return true;
    }
    return false;
}

/* The metadata service of clouds, else an address of documentation (RFC 5737), else a private one.
 */
static uint32_t find_closed_address(const struct policy_net *net)
{
    static const uint32_t candidates[] = {0xa9fea9fe, 0xc0000201, 0x0afffffe};
    for (size_t i = 0; i < ARRAY_LEN(candidates); i++)
        if (!lists(net, candidates[i]))
            return candidates[i];
    return 0;
}

/* By two values of the arguments: what is attacked must be refused for both, what is only a means
 * has the one that the questions use. */
static uint32_t find_refused(const struct policy_plan *plan)
{
    static const struct {
        int nr;
        enum zyg_probe_call call;
        uint64_t args[2];
    } calls[] = {{SYS_unshare, ZYG_CALL_UNSHARE, {0, UINT64_MAX}},
                 {SYS_setns, ZYG_CALL_SETNS, {0, UINT64_MAX}},
                 {SYS_clone3, ZYG_CALL_CLONE3, {0, UINT64_MAX}},
                 {SYS_keyctl, ZYG_CALL_KEYCTL, {0, UINT64_MAX}},
                 {SYS_mount, ZYG_CALL_MOUNT, {0, UINT64_MAX}},
                 {SYS_io_uring_setup, ZYG_CALL_IO_URING, {0, UINT64_MAX}},
                 {SYS_bpf, ZYG_CALL_BPF, {0, UINT64_MAX}},
                 {SYS_mknodat, ZYG_CALL_MKNOD, {S_IFCHR | 0600, S_IFCHR | 0600}},
                 {SYS_socket, ZYG_CALL_SOCKET, {AF_INET, AF_INET}},
                 {SYS_bind, ZYG_CALL_BIND, {0, 0}},
                 {SYS_connect, ZYG_CALL_CONNECT, {0, 0}},
                 {SYS_statfs, ZYG_CALL_STATFS, {0, 0}},
                 {SYS_sendto, ZYG_CALL_SENDTO, {0, 0}},
                 {SYS_recvmsg, ZYG_CALL_RECVMSG, {0, 0}},
                 {SYS_setsockopt, ZYG_CALL_SETSOCKOPT, {0, 0}}};
    uint32_t refused = 0;
    for (size_t i = 0; i < ARRAY_LEN(calls); i++)
        if (policy_refuses(plan, calls[i].nr, calls[i].args[0]) &&
            policy_refuses(plan, calls[i].nr, calls[i].args[1]))
            refused |= calls[i].call;
    return refused;
}

static void write_ask(struct zyg_probe_ask *ask, const struct policy_plan *plan)
{
    size_t at = 0;
    *ask = (struct zyg_probe_ask){.nofile = plan->limits.nofile,
                                  .fsize_bytes = plan->limits.fsize_bytes,
                                  .nproc = plan->limits.nproc,
                                  .tmp_bytes = plan->limits.tmp_bytes,
                                  .landlock_abi = plan->landlock_abi,
                                  .rights = plan->rights,
                                  .closed_port = find_closed_port(&plan->bind_ports),
                                  .closed_connect = find_closed_port(&plan->connect_ports),
                                  /* --probe has no netd, so nobody has a link */
                                  .network = host.only ? POLICY_NET_NONE : plan->net.mode,
                                  .closed_address = find_closed_address(&plan->net),
                                  .refused = find_refused(plan)};
    memcpy(ask->host_ns, host.ns, sizeof ask->host_ns);
    for (uint32_t i = 0; i < plan->bind_count; i++) {
        size_t len = strlen(plan->binds[i].to) + 1;
        if (at + len > sizeof ask->binds)
            break;
        memcpy(ask->binds + at, plan->binds[i].to, len);
        at += len;
        ask->bind_count++;
    }
}

/* ---- the table ---------------------------------------------------------------------------------
 */

static struct box *find_box(struct box *in, size_t count, uint64_t hash, uint32_t required)
{
    for (size_t i = 0; i < count; i++)
        if (in[i].hash == hash && in[i].required == required)
            return &in[i];
    return NULL;
}

static void add_name(struct box *box, const char *name)
{
    size_t len = strlen(box->names);
    (void)snprintf(box->names + len, sizeof box->names - len, "%s%s", len ? ", " : "", name);
}

void verdict_on_policies(const struct policy_set *set)
{
    static struct box before[POLICIES_MAX];
    size_t before_count = box_count;
    memcpy(before, boxes, sizeof before);
    box_count = 0;
    for (uint32_t i = 0; i < set->count; i++) {
        const struct policy_plan *plan = &set->plans[i];
        struct box *box = find_box(boxes, box_count, plan->box, plan->required);
        if (!box) {
            const struct box *was = find_box(before, before_count, plan->box, plan->required);
            box = &boxes[box_count++];
            *box = was && was->state == BOX_HOLDS
                       ? *was
                       : (struct box){.hash = plan->box, .required = plan->required};
            box->plan = i;
            box->layers = plan->layers | host.cgroups;
            box->names[0] = 0;
            write_ask(&box->ask, plan);
        }
        add_name(box, plan->name);
        box_of[i] = (uint8_t)(box - boxes);
    }
}

const struct box *verdict_find_unasked(void)
{
    for (size_t i = 0; i < box_count; i++)
        if (boxes[i].state == BOX_UNASKED)
            return &boxes[i];
    return NULL;
}

int verdict_find_plan(const struct box *box)
{
    const struct box *b = find_box(boxes, box_count, box->hash, box->required);
    return b ? (int)b->plan : -1;
}

bool verdict_lets(uint32_t policy)
{
    return boxes[box_of[policy]].state == BOX_HOLDS;
}

bool verdict_refuses(uint32_t policy)
{
    return boxes[box_of[policy]].state == BOX_REFUSED;
}

bool verdict_has_unanswered(void)
{
    for (size_t i = 0; i < box_count; i++)
        if (boxes[i].state == BOX_REFUSED && boxes[i].unanswered)
            return true;
    return false;
}

bool verdict_ask_again(void)
{
    bool any = verdict_has_unanswered();
    for (size_t i = 0; i < box_count; i++)
        if (boxes[i].state == BOX_REFUSED && boxes[i].unanswered)
            boxes[i].state = BOX_UNASKED;
    return any;
}

/* ---- one box -----------------------------------------------------------------------------------
 */

/* What was broken once stays so. */
void box_take_answer(struct box *box, const struct zyg_probe_answer *a, bool counts)
{
    for (size_t i = 0; i < POLICY_LAYERS; i++) {
        struct box_layer *l = &box->layer[i];
        if ((uint32_t)policy_layer_words[i].layer != a->layer || a->state >= ZYG_PROBE_STATES)
            continue;
        bool worse = a->state == ZYG_BROKEN && l->state != ZYG_BROKEN;
        bool better = a->state == ZYG_HELD && l->state == ZYG_ABSENT;
        l->questions += counts && a->state == ZYG_HELD;
        if (l->asked && !worse && !better)
            continue;
        l->asked = true;
        l->state = (enum zyg_probe_state)a->state;
        (void)snprintf(l->question, sizeof l->question, "%.*s", (int)sizeof a->question - 1,
                       a->question);
        (void)snprintf(l->detail, sizeof l->detail, "%.*s", (int)sizeof a->detail - 1, a->detail);
    }
}

static bool is_required(const struct box *box, size_t i)
{
    const struct policy_layer_word *w = &policy_layer_words[i];
    bool degraded = w->need == POLICY_DEGRADES && box->layer[i].state == ZYG_ABSENT;
    bool off = w->layer == POLICY_LANDLOCK && !(box->ask.rights & POLICY_FILES);
    if (w->need == POLICY_BASIC || box->required & (uint32_t)w->layer)
        return true;
    return !(degraded || off || host.optional & (uint32_t)w->layer);
}

bool box_lacks(const struct box *box, size_t i)
{
    return is_required(box, i) && box->layer[i].state != ZYG_HELD;
}

/* What was not installed because the machine lacks it is not broken. */
void box_settle(struct box *box)
{
    for (size_t i = 0; i < POLICY_LAYERS; i++) {
        struct box_layer *l = &box->layer[i];
        const struct policy_layer_word *w = &policy_layer_words[i];
        if (l->asked && !(w->need == POLICY_MAY_LACK && !(box->layers & (uint32_t)w->layer)))
            continue;
        l->state = ZYG_ABSENT;
        (void)snprintf(l->detail, sizeof l->detail, "%s",
                       l->asked ? "not there, and not required" : "was not asked");
    }
}

enum box_state verdict_give(const struct box *asked, const char *failure)
{
    struct box *b = find_box(boxes, box_count, asked->hash, asked->required);
    enum box_state state = *failure ? BOX_REFUSED : BOX_HOLDS;
    for (size_t i = 0; i < POLICY_LAYERS; i++)
        if (box_lacks(asked, i))
            state = BOX_REFUSED;
    if (!b)
        return state;
    memcpy(b->layer, asked->layer, sizeof b->layer);
    b->state = state;
    b->unanswered = *failure;
    return state;
}

void box_log_layer(const struct box *box, size_t i)
{
    const struct policy_layer_word *w = &policy_layer_words[i];
    const struct box_layer *l = &box->layer[i];
    char remedy[240];
    (void)snprintf(remedy, sizeof remedy, "%s%s", w->remedy,
                   w->need == POLICY_BASIC ? "" : "; or name it in optional_layers");
    LOG(ERROR, "layer_broken", F_STR("layer", w->name),
        F_STR("state", l->state == ZYG_BROKEN ? "broken" : "absent"),
        F_STR("question", l->question), F_STR("detail", l->detail), F_STR("policy", box->names),
        F_STR("needs", remedy));
}

void box_log(const struct box *box)
{
    for (size_t i = 0; i < POLICY_LAYERS; i++)
        if (box_lacks(box, i))
            box_log_layer(box, i);
}

/* ---- all of them -------------------------------------------------------------------------------
 */

/* Worst first: broken, absent, held. */
static int badness(enum zyg_probe_state state)
{
    return state == ZYG_BROKEN ? 2 : state == ZYG_ABSENT;
}

static bool was_asked(size_t layer)
{
    for (size_t i = 0; i < box_count; i++)
        if (boxes[i].layer[layer].asked)
            return true;
    return false;
}

/* The box whose state this layer is told to have; *ret_alike: how many have it so. */
static const struct box *find_worst(size_t layer, size_t *ret_alike)
{
    const struct box *worst = &boxes[0];
    *ret_alike = 0;
    for (size_t i = 1; i < box_count; i++)
        if (badness(boxes[i].layer[layer].state) > badness(worst->layer[layer].state))
            worst = &boxes[i];
    for (size_t i = 0; i < box_count; i++)
        *ret_alike += boxes[i].layer[layer].state == worst->layer[layer].state;
    return worst;
}

static void sum_up_layer(size_t i, bool names)
{
    struct told *t = &told[names];
    size_t alike;
    const struct box *worst = find_worst(i, &alike);
    const struct box_layer *l = &worst->layer[i];
    bool held = l->state == ZYG_HELD, required = is_required(worst, i);
    unsigned questions = 0;
    char where[200] = "";
    for (size_t k = 0; k < box_count; k++) {
        required |= held && is_required(&boxes[k], i);
        questions += boxes[k].layer[i].questions;
    }
    if (box_count > 1 && held)
        (void)snprintf(where, sizeof where, ", of %zu kinds of policy", box_count);
    else if (box_count > 1 && names)
        (void)snprintf(where, sizeof where, " (%spolicy %s)", alike > 1 ? "for one, " : "",
                       worst->names);
    else if (box_count > 1)
        (void)snprintf(where, sizeof where, " (%zu of %zu kinds of policy)", alike, box_count);
    if (held)
        (void)snprintf(t->detail[i], sizeof t->detail[i], "%u attack%s refused%s", questions,
                       questions == 1 ? "" : "s", where);
    else
        (void)snprintf(t->detail[i], sizeof t->detail[i], "%s%s", l->detail, where);
    (void)snprintf(t->question[i], sizeof t->question[i], "%s", held ? "" : l->question);
    t->layer[i] = (struct proto_layer){.name = policy_layer_words[i].name,
                                       .state = (enum proto_layer_state)l->state,
                                       .required = required,
                                       .question = t->question[i],
                                       .detail = t->detail[i]};
}

void verdict_sum_up(void)
{
    for (size_t i = 0; i < POLICY_LAYERS; i++) {
        sum_up_layer(i, false);
        sum_up_layer(i, true);
    }
}

void verdict_fill_hello(struct proto_hello *ret, bool names)
{
    ret->landlock_abi = boxes[0].ask.landlock_abi;
    ret->cgroup_version = host.cgroup_version;
    ret->layers = told[names].layer;
}

void verdict_print(const char *failure)
{
    static const char *const states[] = {"held", "broken", "absent"};
    if (*failure)
        (void)printf("service\tbroken\trequired\tcan it be asked?\t%s\t\n", failure);
    for (size_t i = 0; i < POLICY_LAYERS; i++) {
        const struct proto_layer *l = &told[1].layer[i];
        if (!was_asked(i))
            continue;
        (void)printf("%s\t%s\t%s\t%s\t%s\t%s\n", l->name, states[l->state],
                     l->required ? "required" : "optional", l->question, l->detail,
                     (int)l->state == ZYG_HELD ? "" : policy_layer_words[i].remedy);
    }
    (void)fflush(stdout);
}

void verdict_log(uint64_t took_ns)
{
    char held[400] = "", other[300] = "";
    unsigned count = 0;
    for (size_t i = 0; i < POLICY_LAYERS; i++) {
        bool is_held = (int)told[0].layer[i].state == ZYG_HELD;
        char *list = is_held ? held : other;
        size_t room = is_held ? sizeof held : sizeof other, len = strlen(list);
        (void)snprintf(list + len, room - len, "%s%s", len ? " " : "", policy_layer_words[i].name);
        count += is_held;
    }
    LOG(INFO, "layers", F_U64("held", count), F_STR("names", held), F_STR("missing", other),
        F_U64("boxes", box_count), F_MS("took_ms", took_ns));
}
