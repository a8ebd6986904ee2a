/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/webhooks - tells receivers that jobs named (callback_url) how those ended.
 *
 * The end of a job puts the delivery into the store in the same transaction (store_finish_job), and
 * webhooks_wake() comes after the commit. The rest happens in the first thread: what is due is
 * claimed, signed, given to brood-courier (courier/courier.h), and what became of it is noted.
 */
#pragma once
#include <stddef.h>
struct err;
struct front;
struct parse_refusal;
struct proto_webhooks;

/* Reads the secret from secret_fd, or, when that is -1, state_fd's webhook.key, which is made when
 * it is not there. courier_fd -1: there is no courier, and nothing is delivered. Before the process
 * restricts itself. 0 or <0 with err. */
int webhooks_open(int state_fd, int courier_fd, int secret_fd, struct err *err);
/* In the first thread's loop, before the process restricts itself. 0 or <0 with err. */
int webhooks_start(struct front *f, struct err *err);
/* Of each thread. */
void webhooks_on_hello(struct front *f, const struct proto_webhooks *w);
/* May a job name this URL? 0; -1: *ret_refusal says why not, naming callback_url. */
int webhooks_check_url(const struct front *f, const char *url, size_t len,
                       struct parse_refusal *ret_refusal);
/* Some delivery was committed. Any thread. */
void webhooks_wake(void);
