/* SPDX-License-Identifier: Apache-2.0 */
/* t/lib/messages - do two protocol messages say the same? For t/unit/protocol and t/fuzz/decode:
 * what was decoded must survive being sent and received again.
 */
#pragma once
#include "protocol/protocol.h"

/* Whose it is; of messages without a key the pointer may be NULL. */
static inline bool keys_are_same(const struct proto_execute *a, const struct proto_execute *b)
{
    return strcmp(a->key ? a->key : "", b->key ? b->key : "") == 0 &&
           a->timeout_ms_ceiling == b->timeout_ms_ceiling &&
           a->memory_bytes_ceiling == b->memory_bytes_ceiling &&
           a->cpu_ms_ceiling == b->cpu_ms_ceiling && a->usual == b->usual &&
           a->tell_start == b->tell_start && a->patient == b->patient && a->held == b->held &&
           a->policy_of_key == b->policy_of_key;
}

static inline bool companions_are_same(const struct proto_execute *a, const struct proto_execute *b)
{
    return a->companion == b->companion &&
           strcmp(a->session ? a->session : "", b->session ? b->session : "") == 0;
}

static inline bool execute_is_same(const struct proto_execute *a, const struct proto_execute *b)
{
    bool same = a->tag == b->tag && strcmp(a->ns_id, b->ns_id) == 0 && a->cmd_len == b->cmd_len &&
                memcmp(a->cmd, b->cmd, a->cmd_len) == 0 && a->env_count == b->env_count &&
                strcmp(a->cwd, b->cwd) == 0 && a->timeout_ms == b->timeout_ms &&
                a->cpu_ms == b->cpu_ms && a->memory_bytes == b->memory_bytes &&
                a->pids_max == b->pids_max && strcmp(a->policy, b->policy) == 0 &&
                strcmp(a->request_id, b->request_id) == 0 && keys_are_same(a, b) &&
                companions_are_same(a, b);
    for (size_t i = 0; same && i < a->env_count; i++)
        same = strcmp(a->env[i].name, b->env[i].name) == 0 &&
               strcmp(a->env[i].value, b->env[i].value) == 0;
    return same;
}

static inline bool denied_is_same(const struct proto_result *a, const struct proto_result *b)
{
    bool same = a->denied_count == b->denied_count;
    for (size_t i = 0; same && i < a->denied_count; i++)
        same = strcmp(a->denied[i].syscall, b->denied[i].syscall) == 0 &&
               a->denied[i].times == b->denied[i].times;
    return same;
}

static inline bool result_is_same(const struct proto_result *a, const struct proto_result *b)
{
    return a->tag == b->tag && a->outcome == b->outcome && strcmp(a->field, b->field) == 0 &&
           strcmp(a->text, b->text) == 0 && a->retry_after_ms == b->retry_after_ms &&
           a->run_id == b->run_id && a->reason == b->reason && a->exited == b->exited &&
           a->exit_code == b->exit_code && a->signal == b->signal && a->queue_us == b->queue_us &&
           a->wall_us == b->wall_us && a->cpu_us == b->cpu_us && a->max_rss_kb == b->max_rss_kb &&
           a->start == b->start && a->output_bytes_max == b->output_bytes_max &&
           a->net_rx_bytes == b->net_rx_bytes && a->net_tx_bytes == b->net_tx_bytes &&
           a->timeout_ms == b->timeout_ms && a->memory_bytes == b->memory_bytes &&
           a->cpu_ms == b->cpu_ms && a->companion_ended == b->companion_ended &&
           a->companion_new == b->companion_new &&
           a->companion_interrupted == b->companion_interrupted && denied_is_same(a, b);
}

static inline bool layers_are_same(const struct proto_hello *a, const struct proto_hello *b)
{
    bool same = a->layer_count == b->layer_count;
    for (size_t i = 0; same && i < a->layer_count; i++)
        same = strcmp(a->layers[i].name, b->layers[i].name) == 0 &&
               a->layers[i].state == b->layers[i].state &&
               a->layers[i].required == b->layers[i].required &&
               strcmp(a->layers[i].question, b->layers[i].question) == 0 &&
               strcmp(a->layers[i].detail, b->layers[i].detail) == 0;
    return same;
}

static inline bool webhooks_are_same(const struct proto_webhooks *a, const struct proto_webhooks *b)
{
    return strcmp(a->allow ? a->allow : "", b->allow ? b->allow : "") == 0 &&
           a->timeout_ms == b->timeout_ms && a->attempts == b->attempts &&
           a->delay_first_ms == b->delay_first_ms && a->delay_max_ms == b->delay_max_ms &&
           a->at_once == b->at_once && a->at_once_host == b->at_once_host;
}

static inline bool hello_is_same(const struct proto_hello *a, const struct proto_hello *b)
{
    return a->version == b->version && strcmp(a->server, b->server) == 0 &&
           a->cmd_bytes_max == b->cmd_bytes_max && a->env_bytes_max == b->env_bytes_max &&
           a->timeout_ms_default == b->timeout_ms_default &&
           a->timeout_ms_max == b->timeout_ms_max && a->output_bytes_max == b->output_bytes_max &&
           a->body_bytes_max == b->body_bytes_max && a->connections_max == b->connections_max &&
           a->request_timeout_ms == b->request_timeout_ms &&
           a->idle_timeout_ms == b->idle_timeout_ms && a->write_timeout_ms == b->write_timeout_ms &&
           a->log_format == b->log_format && a->log_level == b->log_level &&
           a->draining == b->draining && a->queue_max == b->queue_max &&
           a->max_wait_ms == b->max_wait_ms && a->zygote_execs == b->zygote_execs &&
           strcmp(a->kernel, b->kernel) == 0 && a->landlock_abi == b->landlock_abi &&
           a->cgroup_version == b->cgroup_version && a->networks == b->networks &&
           layers_are_same(a, b) && webhooks_are_same(&a->webhooks, &b->webhooks) &&
           a->keys_generation == b->keys_generation &&
           memcmp(&a->streams, &b->streams, sizeof a->streams) == 0 &&
           memcmp(&a->run_limits, &b->run_limits, sizeof a->run_limits) == 0 &&
           memcmp(&a->sessions, &b->sessions, sizeof a->sessions) == 0 &&
           memcmp(&a->terminals, &b->terminals, sizeof a->terminals) == 0 &&
           a->terminal_silence_s == b->terminal_silence_s &&
           strcmp(a->terminal_origins ? a->terminal_origins : "",
                  b->terminal_origins ? b->terminal_origins : "") == 0 &&
           memcmp(&a->store, &b->store, offsetof(struct proto_store, public_base_url)) == 0 &&
           strcmp(a->store.public_base_url ? a->store.public_base_url : "",
                  b->store.public_base_url ? b->store.public_base_url : "") == 0 &&
           memcmp(&a->jobs, &b->jobs, sizeof a->jobs) == 0;
}

static inline bool stats_are_same(const struct proto_msg *a, const struct proto_msg *b)
{
    bool same = a->stats.count == b->stats.count;
    for (size_t i = 0; same && i < a->stats.count; i++)
        same = strcmp(a->stats.entries[i].name, b->stats.entries[i].name) == 0 &&
               a->stats.entries[i].value == b->stats.entries[i].value;
    return same;
}

static inline bool list_is_same(const struct proto_msg *a, const struct proto_msg *b)
{
    bool same = a->ns_list.count == b->ns_list.count && a->ns_list.more == b->ns_list.more;
    for (size_t i = 0; same && i < a->ns_list.count; i++)
        same = strcmp(a->ns_list.entries[i].ns_id, b->ns_list.entries[i].ns_id) == 0 &&
               a->ns_list.entries[i].active == b->ns_list.entries[i].active &&
               a->ns_list.entries[i].queued == b->ns_list.entries[i].queued;
    return same;
}

static inline bool sessions_are_same(const struct proto_msg *a, const struct proto_msg *b)
{
    bool same = a->session_list.count == b->session_list.count;
    for (size_t i = 0; same && i < a->session_list.count; i++) {
        const struct proto_session_entry *x = &a->session_list.entries[i],
                                         *y = &b->session_list.entries[i];
        same = strcmp(x->session, y->session) == 0 && x->companion == y->companion &&
               x->busy == y->busy && x->queued == y->queued && x->idle_ms == y->idle_ms &&
               x->age_ms == y->age_ms;
    }
    return same;
}

static inline bool message_is_same(const struct proto_msg *a, const struct proto_msg *b)
{
    if (a->type != b->type || a->tag != b->tag)
        return false;
    switch (a->type) {
    case PROTO_HELLO:
        return hello_is_same(&a->hello, &b->hello);
    case PROTO_EXECUTE:
        return execute_is_same(&a->execute, &b->execute);
    case PROTO_RESULT:
        return result_is_same(&a->result, &b->result);
    case PROTO_STATS:
        return stats_are_same(a, b);
    case PROTO_NS_LIST:
        return list_is_same(a, b);
    case PROTO_NS_LIST_REQUEST:
        return strcmp(a->ns_list_request.after, b->ns_list_request.after) == 0 &&
               a->ns_list_request.limit == b->ns_list_request.limit;
    case PROTO_NS_REMOVE:
        return strcmp(a->ns_remove.ns_id, b->ns_remove.ns_id) == 0;
    case PROTO_DONE:
        return a->done.outcome == b->done.outcome && strcmp(a->done.text, b->done.text) == 0;
    case PROTO_POLICY_REQUEST:
        return strcmp(a->policy_request.name, b->policy_request.name) == 0;
    case PROTO_SESSION_LIST_REQUEST:
        return strcmp(a->session_list_request.ns_id, b->session_list_request.ns_id) == 0 &&
               a->session_list_request.companion == b->session_list_request.companion;
    case PROTO_SESSION_LIST:
        return sessions_are_same(a, b);
    case PROTO_SESSION_CLOSE:
        return strcmp(a->session_close.ns_id, b->session_close.ns_id) == 0 &&
               strcmp(a->session_close.session, b->session_close.session) == 0 &&
               a->session_close.companion == b->session_close.companion;
    case PROTO_WAITING:
        return a->waiting == b->waiting && a->output_bytes_max == b->output_bytes_max;
    case PROTO_SIGNAL:
        return a->signal == b->signal;
    case PROTO_CANCEL:
    case PROTO_STATS_REQUEST:
        return true;
    }
    return false;
}
