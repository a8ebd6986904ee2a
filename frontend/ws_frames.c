/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/ws_frames - see ws_frames.h.
 *
 * In the frontend, per connection; it reads what anyone sends. wslay's frame parser undoes lengths
 * and masks in its 4 KiB; which frame may follow which is judged here. Nothing is collected but one
 * text and one control frame, each of a fixed size, so fragments without end cost nothing.
 */
#include "frontend/ws_frames.h"
#include "frontend/json_out.h"
#include <wslay/wslay.h>

static ssize_t receive(uint8_t *to, size_t room, int flags, void *user_data)
{
    struct ws_reader *r = user_data;
    (void)flags;
    return r->receive(r->data, to, room);
}

int ws_reader_init(struct ws_reader *r, ssize_t (*receive_bytes)(void *data, void *to, size_t room),
                   void *data)
{
    static const struct wslay_frame_callbacks callbacks = {.recv_callback = receive};
    *r = (struct ws_reader){.receive = receive_bytes, .data = data};
    return wslay_frame_context_init(&r->frames, &callbacks, r) == 0 ? 0 : -ENOMEM;
}

void ws_reader_fini(struct ws_reader *r)
{
    if (r->frames)
        wslay_frame_context_free(r->frames);
    r->frames = NULL;
}

static enum ws_found broken(struct ws_piece *ret, unsigned code, const char *reason)
{
    *ret = (struct ws_piece){.code = code, .reason = reason};
    return WS_BROKEN;
}

/* False: this frame may not be. */
static bool begin_frame(struct ws_reader *r, const struct wslay_frame_iocb *f, struct ws_piece *ret)
{
    bool control = wslay_is_ctrl_frame(f->opcode);
    const char *fault = NULL;
    unsigned code = 1002;
    r->in_frame = true;
    r->opcode = f->opcode;
    r->final = f->fin;
    r->frame_left = f->payload_length;
    r->control_len = 0;
    if (!f->mask)
        fault = "a client's frames are masked";
    else if (f->rsv)
        fault = "no extension was agreed upon";
    else if (control ? f->opcode > WSLAY_PONG : f->opcode > WSLAY_BINARY_FRAME)
        fault = "no such kind of frame";
    else if (!control && (f->opcode == WSLAY_CONTINUATION_FRAME) != (r->message != 0))
        fault = "a message is not continued as it began";
    if (!fault && !control) {
        if (f->opcode != WSLAY_CONTINUATION_FRAME) {
            r->message = f->opcode;
            r->message_bytes = r->text_len = 0;
        }
        r->message_bytes += f->payload_length; /* below 2^63, on top of less than the maximum */
        code = 1009;
        if (r->message_bytes > (r->message == WSLAY_TEXT_FRAME ? WS_TEXT_MAX : WS_MESSAGE_MAX))
            fault = "the message is too long";
    }
    if (fault)
        (void)broken(ret, code, fault);
    return !fault;
}

/* Those that may be sent: RFC 6455, 7.4. */
static bool is_close_code(unsigned code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

static enum ws_found end_close(struct ws_reader *r, struct ws_piece *ret)
{
    const uint8_t *p = r->control;
    unsigned code = r->control_len >= 2 ? (unsigned)p[0] << 8 | p[1] : 0;
    if (r->control_len == 1 || (r->control_len >= 2 && !is_close_code(code)))
        return broken(ret, 1002, "no such close code");
    if (code && !json_out_is_exact((const char *)p + 2, r->control_len - 2))
        return broken(ret, 1007, "the reason is not UTF-8");
    ret->code = code;
    return WS_CLOSE;
}

static enum ws_found end_frame(struct ws_reader *r, struct ws_piece *ret)
{
    r->in_frame = false;
    switch (r->opcode) {
    case WSLAY_PING:
    case WSLAY_PONG:
        *ret = (struct ws_piece){.at = r->control, .len = r->control_len};
        return r->opcode == WSLAY_PING ? WS_PING : WS_PONG;
    case WSLAY_CONNECTION_CLOSE:
        return end_close(r, ret);
    default:
        break;
    }
    uint8_t message = r->message;
    if (r->final)
        r->message = 0;
    if (!r->final || message != WSLAY_TEXT_FRAME)
        return WS_NOTHING;
    r->text[r->text_len] = 0;
    if (!json_out_is_exact(r->text, r->text_len))
        return broken(ret, 1007, "a text message is not UTF-8");
    *ret = (struct ws_piece){.at = r->text, .len = r->text_len};
    return WS_TEXT;
}

/* One piece of a frame; WS_NOTHING: it went into what is being collected. */
static enum ws_found take(struct ws_reader *r, const struct wslay_frame_iocb *f,
                          struct ws_piece *ret)
{
    if (!r->in_frame && !begin_frame(r, f, ret))
        return WS_BROKEN;
    size_t len = f->data_length;
    enum ws_found found = WS_NOTHING;
    r->frame_left -= len;
    if (wslay_is_ctrl_frame(r->opcode)) { /* of at most 125 bytes: wslay has seen to it */
        if (len > 0)
            memcpy(r->control + r->control_len, f->data, len);
        r->control_len += len;
    } else if (r->message == WSLAY_TEXT_FRAME) {
        if (len > 0)
            memcpy(r->text + r->text_len, f->data, len);
        r->text_len += len;
    } else if (len > 0) {
        found = WS_BYTES;
        *ret = (struct ws_piece){.at = f->data, .len = len};
    }
    if (r->frame_left > 0)
        return found;
    enum ws_found whole = end_frame(r, ret);
    return found == WS_BYTES ? found : whole;
}

enum ws_found ws_reader_next(struct ws_reader *r, struct ws_piece *ret)
{
    struct wslay_frame_iocb f;
    enum ws_found found = WS_NOTHING;
    while (found == WS_NOTHING) {
        ssize_t n = wslay_frame_recv(r->frames, &f);
        if (n == WSLAY_ERR_WANT_READ)
            return WS_NOTHING;
        found = n < 0 ? broken(ret, 1002, "a frame is broken") : take(r, &f, ret);
    }
    return found;
}
