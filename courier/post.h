/* SPDX-License-Identifier: Apache-2.0 */
/* courier/post - what the files of brood-courier share. Not for other folders (courier.h is). */
#pragma once
#include "courier/courier.h"
#include <arpa/inet.h>
#include <curl/curl.h>

/* What the operator said, from the command line: not the frontend's to change. */
struct courier_rules {
    const char *allow;
    const char *ca_file; /* "": the system's */
    struct courier_ranges but;
    long connect_ms, timeout_ms;
};

/* One delivery under way: a POST with libcurl. */
struct post {
    const struct courier_rules *rules;
    uint64_t tag, began_ns;
    char delivery[40];
    CURL *easy;
    CURLU *url;
    struct curl_slist *headers;
    const void *map; /* the sealed memfd: URL, body */
    size_t map_len, head_bytes, body_bytes;
    const char *refused; /* why the last address that was refused was */
    bool enough;         /* more came than is read */
    struct post *prev, *next;
};

/* Makes it out of an ask and its memfd (which stays the caller's). NULL: it is not to be; *ret_why
 * says why, for the answer. */
struct post *post_new(const struct courier_rules *rules, const struct courier_ask *ask, int memfd,
                      const char **ret_why);
/* It is over, with this result of libcurl's: fills in the answer, and logs. */
void post_fill_answer(const struct post *p, CURLcode result, struct courier_answer *ret);
/* Not in a multi handle any more. NULL does nothing. */
void post_free(struct post *p);
