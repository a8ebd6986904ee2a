/* SPDX-License-Identifier: Apache-2.0 */
/* t/fuzz/decode - the first byte is a message's type, the rest its protobuf bytes. What is accepted
 * keeps every promise of protocol.h, and says the same after being sent and received again.
 */
#include "lib/arena.h"
#include "lib/err.h"
#include "lib/packet.h"
#include "t/lib/messages.h"
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char storage[2][PROTO_ARENA_BYTES] __attribute__((aligned(16)));

static void check_execute(const struct proto_execute *x)
{
    size_t total = 0;
    bool fresh = !*x->ns_id && x->kind != PROTO_FILES;
    assert(fresh || proto_ns_id_is_valid(x->ns_id, strlen(x->ns_id)));
    assert(x->cmd_len <= PROTO_CMD_BYTES_MAX && strlen(x->cmd) == x->cmd_len);
    assert(x->env_count <= PROTO_ENV_COUNT_MAX && strlen(x->cwd) <= PROTO_CWD_BYTES_MAX);
    for (size_t i = 0; i < x->env_count; i++) {
        assert(!proto_env_name_refused(x->env[i].name, strlen(x->env[i].name)));
        total += strlen(x->env[i].name) + strlen(x->env[i].value) + 2;
    }
    assert(total <= PROTO_ENV_BYTES_MAX && strlen(x->request_id) <= PROTO_REQUEST_ID_MAX);
    assert(x->timeout_ms <= PROTO_TIMEOUT_MS_MAX && x->cpu_ms <= PROTO_TIMEOUT_MS_MAX);
}

static void check_message(const struct proto_msg *m)
{
    if (m->type == PROTO_EXECUTE)
        check_execute(&m->execute);
    if (m->type == PROTO_RESULT)
        assert(m->result.outcome < PROTO_OUTCOMES && m->result.reason < PROTO_REASONS &&
               m->result.start < PROTO_STARTS && m->result.field && m->result.text);
    if (m->type == PROTO_NS_REMOVE)
        assert(proto_ns_id_is_valid(m->ns_remove.ns_id, strlen(m->ns_remove.ns_id)));
    if (m->type == PROTO_NS_LIST)
        assert(m->ns_list.count <= PROTO_LIST_MAX);
    if (m->type == PROTO_STATS)
        assert(m->stats.count <= PROTO_LIST_MAX);
    if (m->type == PROTO_DONE)
        assert(m->done.outcome < PROTO_OUTCOMES && m->done.text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int pair[2] = {-1, -1};
    struct arena arena, again;
    struct proto_msg msg, back;
    struct err err = {0};
    int fds[PROTO_FDS_MAX];
    size_t nfds;
    if (pair[0] < 0 && packet_pair(pair, false) < 0)
        abort();
    if (size == 0)
        return 0;
    arena_init(&arena, storage[0], sizeof storage[0]);
    arena_init(&again, storage[1], sizeof storage[1]);
    int r = proto_decode((enum proto_type)data[0], data + 1, size - 1, &arena, &msg, &err);
    assert(r == 0 || (r == -EPROTO && err.code == r && err.text[0]));
    if (r < 0)
        return 0;
    check_message(&msg);
    r = proto_send(pair[0], &msg, NULL, 0, &err);
    assert(r == 0);
    r = proto_recv(pair[1], &again, &back, fds, &nfds, &err);
    assert(r == 1 && nfds == 0 && message_is_same(&msg, &back));
    return 0;
}
