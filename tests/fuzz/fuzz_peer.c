/* What another node may send: a stream of frames. What is accepted is written again and must be the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "peer/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must_be_same(struct bytes *out, const struct peer_frame *frame)
{
        if (out->size != frame->total || memcmp(out->data + PEER_HEADER_BYTES, frame->body, frame->body_size) != 0)
                abort();
        bytes_done(out);
}

static void read_frame(const struct peer_frame *frame)
{
        static struct peer_raft raft;
        char reason[LIMIT_REASON_BYTES + 1];
        struct peer_hello hello;
        struct bytes out = { 0 };

        if (peer_read_hello(frame, &hello) && hello.version_max <= PEER_VERSION_MAX) {
                peer_write_hello(&out, frame->type, &hello);
                must_be_same(&out, frame);
        }
        (void)peer_read_refusal(frame, reason);
        if (peer_read_raft(frame, &raft)) {
                peer_write_raft(&out, &raft.message);
                must_be_same(&out, frame);
        }
        peer_raft_clear(&raft);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct peer_frame frame;

        while (peer_frame_parse(data, size, LIMIT_PEER_FRAME_BYTES, &frame) == PEER_FRAME_READY) {
                read_frame(&frame);
                data += frame.total;
                size -= frame.total;
        }
        return 0;
}
