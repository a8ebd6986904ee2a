/* SPDX-License-Identifier: Apache-2.0 */
/* store/deliveries - part of store/store.h: what receivers of webhooks are to be told. */
#pragma once
#include "store/jobs.h"
#include <stdint.h>
#include <sys/types.h>

#define STORE_DELIVERY_PREFIX "dlv_" /* of ids, store_make_id() */
#define STORE_DELIVERY_ID_ROOM 33
#define STORE_URL_MAX 2048u
#define STORE_JOB_ID_MAX 64u
#define STORE_ATTEMPT_TEXT_MAX 95u
#define STORE_DELIVERIES_MAX 128u /* under way at once */
#define STORE_HOST_ROOM 264u      /* a host with its port */
#define STORE_KEY_TURNS 64u

enum store_delivery_state { STORE_PENDING, STORE_DELIVERED, STORE_GIVEN_UP };

struct store_attempt {
    uint32_t number, duration_ms, status; /* of HTTP; 0: none came */
    int64_t started_ms;
    char error[STORE_ATTEMPT_TEXT_MAX + 1];
};

struct store_delivery { /* one receiver of one job's end */
    char id[STORE_DELIVERY_ID_ROOM], job_id[STORE_JOB_ID_MAX + 1];
    char url[STORE_URL_MAX + 1], host[STORE_URL_MAX + 1];
    int64_t created_ms, next_ms;
    enum store_delivery_state state;
    uint32_t attempts;
    struct store_job job;      /* CLAIM: its preview and doc malloc'ed */
    struct store_attempt *log; /* LIST: malloc'ed, from the first to the last */
    size_t log_count;
};

/* Beside a call about deliveries; the caller's memory. */
struct store_courier {
    /* CLAIM */
    const char (*busy)[STORE_DELIVERY_ID_ROOM]; /* ids under way, their hosts and keys: copies, */
    const char (*busy_hosts)[STORE_HOST_ROOM];  /* for one may land while they are being read */
    const char (*busy_keys)[STORE_JOB_KEY_ROOM];
    size_t busy_count;
    size_t most, most_host; /* with the busy ones: in all, to a host; a key has half of each */
    int64_t now_ms;
    /* Who came last, so that others come first: the key, and of each key (by a hash) the host. */
    char after_key[STORE_JOB_KEY_ROOM];
    char after_hosts[STORE_KEY_TURNS][STORE_HOST_ROOM];
    int64_t next_ms; /* -> when one is due that is not now; INT64_MAX: none is */
    /* NOTE */
    char id[STORE_DELIVERY_ID_ROOM];
    struct store_attempt attempt; /* its number is counted */
    enum store_delivery_state state;
    int64_t retry_ms; /* when PENDING */
    /* LIST */
    char job_id[STORE_JOB_ID_MAX + 1];

    struct store_delivery *list; /* CLAIM, LIST -> malloc'ed; store_free_deliveries */
    size_t count;
};

/* Frees what CLAIM and LIST left there, and with it what was told of jobs. */
void store_free_deliveries(struct store_courier *c);
