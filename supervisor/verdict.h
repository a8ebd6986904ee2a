/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/verdict - which boxes there are, and what was found when each was asked.
 *
 * A *box* is what a zygote is built from (policy_plan.box) together with the layers that its
 * policies require: policies that share both share one proof. Not for others than engine_probe.c
 * and the places in the engine that decide whether a run may go.
 */
#pragma once
#include "policy/policy.h"
#include "zygote/zygote.h"
struct proto_hello;
struct probe_host;

enum box_state {
    BOX_UNASKED, /* its runs wait */
    BOX_HOLDS,
    BOX_REFUSED, /* its runs are refused */
};

struct box_layer {
    enum zyg_probe_state state;
    bool asked;
    unsigned questions; /* that held */
    char question[sizeof((struct zyg_probe_answer *)0)->question];
    char detail[sizeof((struct zyg_probe_answer *)0)->detail + 64];
};

struct box {
    uint64_t hash;
    uint32_t required;
    enum box_state state;
    bool unanswered; /* refused because it could not be asked, which may pass */
    uint32_t plan;   /* the first policy that has it */
    uint32_t layers; /* that are installed; of those that the machine may lack */
    char names[160]; /* "default, tight" */
    struct zyg_probe_ask ask;
    struct box_layer layer[POLICY_LAYERS];
};

/* Once, before any other: what the machine has. */
void verdict_init(const struct probe_host *host);
/* Other policies: finds their boxes; what was proven of one stays so, all others are unasked. */
void verdict_on_policies(const struct policy_set *set);
/* The next one to ask; NULL: none. */
const struct box *verdict_find_unasked(void);
/* One of the policies in force that has such a box, or -1. */
int verdict_find_plan(const struct box *box);
/* Of the policy of that index: may its runs go? Must they be refused? */
bool verdict_lets(uint32_t policy);
bool verdict_refuses(uint32_t policy);
extern const char verdict_refusal[]; /* what they are told */

/* Into a box that is being asked: an answer (`counts`: in the round whose questions are counted);
 * that it was asked all there is. */
void box_take_answer(struct box *box, const struct zyg_probe_answer *a, bool counts);
void box_settle(struct box *box);
/* Is this layer, an index of policy_layer_words, required and not held? */
bool box_lacks(const struct box *box, size_t layer);
/* All that is required was found to hold; or it could not be asked (failure not ""). Returns the
 * verdict, which is kept if policies in force still have such a box. */
enum box_state verdict_give(const struct box *asked, const char *failure);
/* Those that could not be asked are unasked again. True: there are such. */
bool verdict_ask_again(void);
/* Any that could not be asked? */
bool verdict_has_unanswered(void);

/* All boxes together: a layer is as its worst is. For everybody, and with the policies' names for
 * those who may know them. */
void verdict_sum_up(void);
void verdict_fill_hello(struct proto_hello *ret, bool names);
/* The lines of brood-supervisor --probe; failure: why something could not be asked, or "". */
void verdict_print(const char *failure);
void verdict_log(uint64_t took_ns);
/* What a box lacks; one layer of it. */
void box_log(const struct box *box);
void box_log_layer(const struct box *box, size_t layer);
