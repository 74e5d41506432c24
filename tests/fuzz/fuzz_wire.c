/* The client protocol from both sides: the input is a stream of bytes as a node
 * receives it from a client, and as a client receives it from a node. What is
 * read is written again and must come out as the same bytes: a reader that is
 * laxer than its writer would be found here. */
#include <stdlib.h>
#include <string.h>

#include "wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
        if (!condition)
                abort();
}

static void must_be_same(struct bytes *out, const struct wire_frame *frame)
{
        must(out->size == frame->total);
        must(memcmp(out->data + WIRE_HEADER_BYTES, frame->body, frame->body_size) == 0);
        bytes_done(out);
}

static void as_node(const struct wire_frame *frame)
{
        struct wire_hello hello;
        struct wire_request request;
        struct bytes out = { 0 };

        if (wire_read_hello(frame, &hello) && hello.version_max <= WIRE_VERSION_MAX) {
                wire_write_hello(&out, &hello);
                must_be_same(&out, frame);
        }
        if (wire_read_request(frame, &request)) {
                must(request.tag == frame->tag);
                wire_write_request(&out, &request);
                must_be_same(&out, frame);
        }
}

static void read_page(const struct wire_frame *frame)
{
        struct wire_page page;
        struct bytes_reader rows;
        struct bytes out = { 0 };
        size_t offset;

        if (!wire_read_page(frame, &page, &rows))
                return;
        must(page.count <= LIMIT_PAGE_ROWS);
        offset = wire_write_page_begin(&out, (enum wire_type)frame->type, &page);
        for (unsigned i = 0; i < page.count; i++) {
                struct wire_row row;
                struct wire_event event;
                struct wire_member member;
                struct wire_change change;

                if (frame->type == WIRE_ROWS) {
                        if (!wire_read_row(&rows, &row))
                                break;
                        wire_write_row(&out, &row);
                } else if (frame->type == WIRE_EVENTS) {
                        if (!wire_read_event(&rows, &event))
                                break;
                        wire_write_event(&out, &event);
                } else if (frame->type == WIRE_CHANGES) {
                        if (!wire_read_change(&rows, &change))
                                break;
                        wire_write_change(&out, &change);
                } else {
                        if (!wire_read_member(&rows, &member))
                                break;
                        wire_write_member(&out, &member);
                }
        }
        wire_write_page_end(&out, offset);
        if (bytes_reader_finished(&rows))
                must_be_same(&out, frame);
        bytes_done(&out);
}

static void as_client(const struct wire_frame *frame)
{
        struct wire_welcome welcome;
        struct wire_refusal refusal;
        struct wire_result result;
        struct wire_state state;
        struct wire_piece piece;
        struct bytes out = { 0 };

        if (wire_read_welcome(frame, &welcome)) {
                wire_write_welcome(&out, &welcome);
                must_be_same(&out, frame);
        }
        if (wire_read_refusal(frame, &refusal)) {
                must(strlen(refusal.reason) <= LIMIT_REASON_BYTES);
                wire_write_refusal(&out, &refusal);
                must_be_same(&out, frame);
        }
        if (wire_read_result(frame, &result)) {
                wire_write_result(&out, &result);
                must_be_same(&out, frame);
        }
        if (wire_read_state(frame, &state)) {
                wire_write_state(&out, &state);
                must_be_same(&out, frame);
        }
        if (wire_read_piece(frame, &piece)) {
                must(piece.size <= piece.total);
                wire_write_piece(&out, &piece);
                must_be_same(&out, frame);
        }
        read_page(frame);
}

static void take_stream(const uint8_t *data, size_t size, size_t frame_max, void (*take)(const struct wire_frame *frame))
{
        struct wire_frame frame;

        while (wire_frame_parse(data, size, frame_max, &frame) == WIRE_FRAME_READY) {
                must(frame.total <= size && frame.total <= frame_max && frame.total >= WIRE_HEADER_BYTES);
                take(&frame);
                data += frame.total;
                size -= frame.total;
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        take_stream(data, size, LIMIT_CLIENT_REQUEST_BYTES, as_node);
        take_stream(data, size, LIMIT_CLIENT_REPLY_BYTES, as_client);
        return 0;
}
