/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/engine_slots - what the three files about zygotes share: the table of engine_slots.c,
 * the events that it is entered with, the pool.
 */
#pragma once
#include "supervisor/engine.h"

#define SLOT_STEP_MS 10000u /* for each step of an activation, and for a standby to appear */
#define OUT_OF_DESCRIPTORS "the engine is out of descriptors"

enum slot_event {
    EV_STARTED,
    EV_ATTACHED,
    EV_READY,
    EV_LIMITED,
    EV_DONE,
    EV_BROKEN,
    EV_OVERDUE,
    EV_ABANDONED,
    EV_ENDED,
    SLOT_EVENTS
};

struct event {
    enum slot_event what;
    const struct zyg_report *report; /* DONE; BROKEN: NULL or what it said */
    const char *text;                /* BROKEN, ABANDONED: why */
    bool cancelled;                  /* ABANDONED: as somebody wished */
    int fd;                          /* ATTACHED: the act takes it */
};

/* engine_slots.c: does what the table says. The slot may have gone through several states after. */
void slot_step(struct slot *s, struct event *ev);
/* Its state's deadline. */
void slot_arm(struct slot *s, uint64_t ms);
/* What priv was asked for belonged to policies that were replaced meanwhile: nobody's fault. */
void slot_drop_stale(struct slot *s);
void slot_end_spare(struct slot *s);

/* engine_slot_events.c: takes a free slot and asks priv for its zygote. 0 or -errno: no sockets. */
int slot_start(struct slot *s, uint32_t policy);

/* engine_pool.c */
void slots_init_pool(struct engine *e);
/* The box of the pool's zygotes. */
uint64_t slots_default_box(const struct engine *e);
/* A start has failed: the next one is put off. */
void slots_back_off(struct engine *e);
