#include "peer/codec.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/name.h"

/* "dlkP": a client or a stranger on the wrong port is recognised at once. */
#define PEER_MAGIC UINT32_C(0x506b6c64)

enum { FLAG_PRE = 1, FLAG_GRANTED = 2, FLAG_LAST = 4, FLAG_TRANSFER = 8 };

enum peer_frame_status peer_frame_parse(const uint8_t *data, size_t size, size_t frame_max, struct peer_frame *ret_frame)
{
        uint32_t length;

        if (size < 4)
                return PEER_FRAME_INCOMPLETE;
        length = bytes_load_u32(data);
        if (length < 1 || length > frame_max - 4)
                return PEER_FRAME_MALFORMED;
        if (size - 4 < length)
                return PEER_FRAME_INCOMPLETE;
        *ret_frame = (struct peer_frame){
                .type = (enum peer_type)data[4],
                .body = data + PEER_HEADER_BYTES,
                .body_size = length - 1,
                .total = 4 + (size_t)length,
        };
        return PEER_FRAME_READY;
}

static size_t begin(struct bytes *out, enum peer_type type)
{
        size_t offset = out->size;

        bytes_put_u32(out, 0);
        bytes_put_u8(out, (uint8_t)type);
        return offset;
}

static void end(struct bytes *out, size_t offset)
{
        assert(out->size - offset <= LIMIT_PEER_FRAME_BYTES);
        bytes_set_u32(out, offset, (uint32_t)(out->size - offset - 4));
}

void peer_write_hello(struct bytes *out, enum peer_type type, const struct peer_hello *hello)
{
        size_t offset = begin(out, type);

        bytes_put_u32(out, PEER_MAGIC);
        bytes_put_u16(out, hello->version_min);
        bytes_put_u16(out, hello->version_max);
        id128_put(out, hello->cluster);
        bytes_put_u64(out, hello->node);
        id128_put(out, hello->incarnation);
        bytes_put_u64(out, hello->expects);
        bytes_put_u16(out, hello->level);
        bytes_put_text8(out, hello->name, strlen(hello->name));
        bytes_put_text16(out, hello->address, strlen(hello->address));
        end(out, offset);
}

bool peer_read_hello(const struct peer_frame *frame, struct peer_hello *ret_hello)
{
        struct bytes_reader reader = bytes_reader_of(frame->body, frame->body_size);
        uint32_t magic = bytes_get_u32(&reader);
        size_t size, address_size;

        ret_hello->version_min = bytes_get_u16(&reader);
        ret_hello->version_max = bytes_get_u16(&reader);
        ret_hello->cluster = id128_get(&reader);
        ret_hello->node = bytes_get_u64(&reader);
        ret_hello->incarnation = id128_get(&reader);
        ret_hello->expects = bytes_get_u64(&reader);
        ret_hello->level = bytes_get_u16(&reader);
        size = bytes_get_text8(&reader, ret_hello->name, sizeof(ret_hello->name));
        address_size = bytes_get_text16(&reader, ret_hello->address, sizeof(ret_hello->address));
        return bytes_reader_finished(&reader) && address_size == strlen(ret_hello->address) && magic == PEER_MAGIC && ret_hello->version_min <= ret_hello->version_max &&
               ret_hello->level > 0 && node_name_is_valid(ret_hello->name, size) && !id128_is_null(ret_hello->incarnation) &&
               (ret_hello->node == 0) == id128_is_null(ret_hello->cluster);
}

void peer_write_refusal(struct bytes *out, const char *reason)
{
        size_t offset = begin(out, PEER_REFUSAL);

        bytes_put_text8(out, reason, strnlen(reason, LIMIT_REASON_BYTES));
        end(out, offset);
}

bool peer_read_refusal(const struct peer_frame *frame, char reason[LIMIT_REASON_BYTES + 1])
{
        struct bytes_reader reader = bytes_reader_of(frame->body, frame->body_size);
        size_t size = bytes_get_text8(&reader, reason, LIMIT_REASON_BYTES + 1);

        return bytes_reader_finished(&reader) && name_is_clean_utf8(reason, size);
}

void peer_write_node(struct bytes *out, const void *data, size_t size)
{
        size_t offset = begin(out, PEER_NODE);

        bytes_put(out, data, size);
        end(out, offset);
}

void peer_write_bye(struct bytes *out)
{
        end(out, begin(out, PEER_BYE));
}

/* --- raft messages --- */

static void put_entry(struct bytes *out, const struct raft_entry *entry)
{
        bytes_put_u64(out, entry->term);
        bytes_put_u64(out, entry->cluster_ms);
        bytes_put_u64(out, entry->wall_ms);
        bytes_put_u8(out, (uint8_t)entry->kind);
        bytes_put_blob(out, entry->body, entry->size);
}

static void put_snapshot(struct bytes *out, const struct raft_message *message)
{
        bytes_put_u64(out, message->log_term);
        bytes_put_u64(out, message->offset);
        bytes_put_u64(out, message->cluster_ms);
        bytes_put_u64(out, message->configuration_index);
        bytes_put_blob(out, message->configuration, message->configuration_size);
        bytes_put_blob(out, message->data, message->data_size);
}

void peer_write_raft(struct bytes *out, const struct raft_message *message)
{
        size_t offset = begin(out, PEER_RAFT);

        bytes_put_u8(out, (uint8_t)message->kind);
        bytes_put_u8(out, (uint8_t)((message->pre ? FLAG_PRE : 0) | (message->granted ? FLAG_GRANTED : 0) | (message->last ? FLAG_LAST : 0) |
                                    (message->transfer ? FLAG_TRANSFER : 0)));
        bytes_put_u64(out, message->term);
        bytes_put_u64(out, message->index);
        bytes_put_u64(out, message->round);
        switch (message->kind) {
        case RAFT_VOTE:
                bytes_put_u64(out, message->log_term);
                break;
        case RAFT_VOTE_REPLY:
        case RAFT_TIMEOUT_NOW:
                break;
        case RAFT_APPEND:
                bytes_put_u64(out, message->log_term);
                bytes_put_u64(out, message->commit);
                bytes_put_u64(out, message->cluster_ms);
                bytes_put_u32(out, (uint32_t)message->entry_count);
                for (size_t i = 0; i < message->entry_count; i++)
                        put_entry(out, message->entries[i]);
                break;
        case RAFT_APPEND_REPLY:
                bytes_put_u64(out, message->match);
                bytes_put_u64(out, message->hint);
                break;
        case RAFT_SNAPSHOT:
                put_snapshot(out, message);
                break;
        case RAFT_SNAPSHOT_REPLY:
                bytes_put_u64(out, message->offset);
                break;
        }
        end(out, offset);
}

/* Kinds this program does not know are passed on: replica decides what becomes of the node. */
static struct raft_entry *get_entry(struct bytes_reader *reader, uint64_t index)
{
        uint64_t term = bytes_get_u64(reader), cluster_ms = bytes_get_u64(reader), wall_ms = bytes_get_u64(reader);
        uint8_t kind = bytes_get_u8(reader);
        size_t size;
        const uint8_t *body = bytes_get_blob(reader, LIMIT_ENTRY_BYTES, &size);
        struct raft_entry *entry;

        if (!body)
                return NULL;
        entry = alloc_zeroed(1, sizeof(*entry) + size);
        *entry = (struct raft_entry){
                .index = index,
                .term = term,
                .cluster_ms = cluster_ms,
                .wall_ms = wall_ms,
                .kind = (enum raft_entry_kind)kind,
                .size = (uint32_t)size,
        };
        if (size > 0)
                memcpy(entry->body, body, size);
        return entry;
}

static void get_append(struct bytes_reader *reader, struct peer_raft *raft)
{
        struct raft_message *message = &raft->message;
        uint64_t term;
        uint32_t count;

        message->log_term = term = bytes_get_u64(reader);
        message->commit = bytes_get_u64(reader);
        message->cluster_ms = bytes_get_u64(reader);
        count = bytes_get_u32(reader);
        if (count > LIMIT_APPEND_ENTRIES || message->index > UINT64_MAX / 2) {
                reader->bad = true;
                return;
        }
        if (raft->capacity < count) {
                raft->entries = alloc_resized(raft->entries, count, sizeof(raft->entries[0]));
                raft->capacity = count;
        }
        for (uint32_t i = 0; i < count; i++) {
                struct raft_entry *entry = get_entry(reader, message->index + 1 + i);

                if (!entry)
                        return;
                raft->entries[message->entry_count++] = entry;
                if (entry->term < term || entry->term > message->term)
                        reader->bad = true;
                term = entry->term;
        }
        message->entries = (const struct raft_entry *const *)raft->entries;
}

static void get_snapshot(struct bytes_reader *reader, struct raft_message *message)
{
        message->log_term = bytes_get_u64(reader);
        message->offset = bytes_get_u64(reader);
        message->cluster_ms = bytes_get_u64(reader);
        message->configuration_index = bytes_get_u64(reader);
        message->configuration = bytes_get_blob(reader, LIMIT_ENTRY_BYTES, &message->configuration_size);
        message->data = bytes_get_blob(reader, LIMIT_APPEND_BYTES, &message->data_size);
}

static void get_body(struct bytes_reader *reader, struct peer_raft *raft)
{
        struct raft_message *message = &raft->message;

        switch (message->kind) {
        case RAFT_VOTE:
                message->log_term = bytes_get_u64(reader);
                return;
        case RAFT_VOTE_REPLY:
        case RAFT_TIMEOUT_NOW:
                return;
        case RAFT_APPEND:
                get_append(reader, raft);
                return;
        case RAFT_APPEND_REPLY:
                message->match = bytes_get_u64(reader);
                message->hint = bytes_get_u64(reader);
                return;
        case RAFT_SNAPSHOT:
                get_snapshot(reader, message);
                return;
        case RAFT_SNAPSHOT_REPLY:
                message->offset = bytes_get_u64(reader);
                return;
        }
        reader->bad = true;
}

bool peer_read_raft(const struct peer_frame *frame, struct peer_raft *raft)
{
        struct bytes_reader reader = bytes_reader_of(frame->body, frame->body_size);
        uint8_t flags;

        raft->message = (struct raft_message){ .kind = (enum raft_message_kind)bytes_get_u8(&reader) };
        flags = bytes_get_u8(&reader);
        if (flags & ~(FLAG_PRE | FLAG_GRANTED | FLAG_LAST | FLAG_TRANSFER))
                return false;
        raft->message.pre = flags & FLAG_PRE;
        raft->message.granted = flags & FLAG_GRANTED;
        raft->message.last = flags & FLAG_LAST;
        raft->message.transfer = flags & FLAG_TRANSFER;
        raft->message.term = bytes_get_u64(&reader);
        raft->message.index = bytes_get_u64(&reader);
        raft->message.round = bytes_get_u64(&reader);
        get_body(&reader, raft);
        /* Beyond half the range something is wrong, and sums could overflow. */
        return bytes_reader_finished(&reader) && raft->message.term < UINT64_MAX / 2 && raft->message.index < UINT64_MAX / 2;
}

void peer_raft_clear(struct peer_raft *raft)
{
        for (size_t i = 0; i < raft->message.entry_count; i++)
                free(raft->entries[i]);
        raft->message = (struct raft_message){ 0 };
}

void peer_raft_done(struct peer_raft *raft)
{
        peer_raft_clear(raft);
        free(raft->entries);
        *raft = (struct peer_raft){ 0 };
}
