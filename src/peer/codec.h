/* codec.h - what nodes say to each other, as bytes.
 *
 * A frame is a u32 length of what follows, a u8 type and a body; little-endian.
 * The dialler speaks first: PEER_HELLO; the other answers PEER_WELCOME or
 * PEER_REFUSAL and closes. Then both send what they have. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/id128.h"
#include "base/limits.h"
#include "raft/raft.h"

#define PEER_VERSION_MIN 1
#define PEER_VERSION_MAX 1
#define PEER_HEADER_BYTES 5

enum peer_type {
        PEER_HELLO = 1,
        PEER_WELCOME = 2,
        PEER_REFUSAL = 3,
        PEER_RAFT = 4,                       /* a raft message */
        PEER_NODE = 5,                       /* a node message, opaque here */
        PEER_BYE = 6,                        /* the sender stops cleanly */
};

/* Both directions of the handshake. */
struct peer_hello {
        uint16_t version_min, version_max;   /* WELCOME: both the one chosen */
        struct id128 cluster;                /* null: not a member of any yet */
        uint64_t node;                       /* 0: not a member */
        struct id128 incarnation;
        uint64_t expects;                    /* HELLO: the node dialled; 0: whoever answers */
        uint16_t level;                      /* RAFT_FEATURE_LEVEL of the sender's program */
        char name[LIMIT_NODE_NAME_BYTES + 1];
        char address[LIMIT_ADDRESS_BYTES + 1];       /* where the sender is reached; "": it does not know */
};

struct peer_frame {
        enum peer_type type;
        const uint8_t *body;
        size_t body_size;
        size_t total;
};

enum peer_frame_status { PEER_FRAME_READY, PEER_FRAME_INCOMPLETE, PEER_FRAME_MALFORMED };

/* Looks at the front of data for one whole frame. Copies nothing. */
enum peer_frame_status peer_frame_parse(const uint8_t *data, size_t size, size_t frame_max, struct peer_frame *ret_frame);

/* Writers append one whole frame. */
void peer_write_hello(struct bytes *out, enum peer_type type, const struct peer_hello *hello);
void peer_write_refusal(struct bytes *out, const char *reason);
void peer_write_raft(struct bytes *out, const struct raft_message *message);
void peer_write_node(struct bytes *out, const void *data, size_t size);
void peer_write_bye(struct bytes *out);

/* Readers: false means malformed. */
bool peer_read_hello(const struct peer_frame *frame, struct peer_hello *ret_hello);
bool peer_read_refusal(const struct peer_frame *frame, char reason[LIMIT_REASON_BYTES + 1]);

/* A decoded raft message; its pointers lead into here and into the frame. */
struct peer_raft {
        struct raft_message message;
        struct raft_entry **entries;
        size_t capacity;
};

/* Entries are copied; call peer_raft_clear before the next read, peer_raft_done at the end. */
bool peer_read_raft(const struct peer_frame *frame, struct peer_raft *raft);
void peer_raft_clear(struct peer_raft *raft);
void peer_raft_done(struct peer_raft *raft);
