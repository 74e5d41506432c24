/* answer.c - what nodes say. */
#include <assert.h>
#include <string.h>

#include "base/cleanup.h"
#include "wire/internal.h"

/* The shortest row: three texts of one byte with their sizes, eight numbers and a flag, an empty holder's size. The shortest event: two empty texts, one byte of kind, five numbers. */
#define ROW_BYTES_MIN 61
#define EVENT_BYTES_MIN 44
/* The shortest member: a name of one byte, no address, three numbers and the flags. */
#define MEMBER_BYTES_MIN 23
/* The shortest change: two texts of one byte, the kind, four numbers of eight bytes and one of four, an empty holder's size. */
#define CHANGE_BYTES_MIN 43
enum { MEMBER_VOTER = 1, MEMBER_WITNESS = 2, MEMBER_PREFERRED = 4, MEMBER_LEADER = 8, MEMBER_LINKED = 16, MEMBER_AWAY = 32, MEMBER_FLAGS = 63 };

static void put_i64(struct bytes *out, int64_t value)
{
        bytes_put_u64(out, (uint64_t)value);
}

/* -1 or a time that has passed. */
static int64_t get_age(struct bytes_reader *reader)
{
        int64_t value = (int64_t)bytes_get_u64(reader);

        if (value < -1)
                reader->bad = true;
        return value;
}

static uint64_t get_token(struct bytes_reader *reader)
{
        uint64_t token = bytes_get_u64(reader);

        if (token > LIMIT_TOKEN)
                reader->bad = true;
        return token;
}

/* Only what is wanted of a lock may be waited for. */
static enum wire_outcome get_outcome(struct bytes_reader *reader, enum wire_outcome last)
{
        uint8_t value = bytes_get_u8(reader);

        if (value < WIRE_YES || value > last)
                reader->bad = true;
        return (enum wire_outcome)value;
}

void wire_write_welcome(struct bytes *out, const struct wire_welcome *welcome)
{
        size_t frame = wire_frame_begin(out, WIRE_WELCOME, 0);

        bytes_put_u16(out, welcome->version);
        id128_put(out, welcome->cluster);
        client_id_put(out, &welcome->client);
        wire_put_word(out, welcome->node, LIMIT_NODE_NAME_BYTES);
        wire_frame_end(out, frame, LIMIT_CLIENT_REPLY_BYTES);
}

bool wire_read_welcome(const struct wire_frame *frame, struct wire_welcome *ret_welcome)
{
        struct bytes_reader reader = bytes_reader_of(frame->body, frame->body_size);

        if (frame->type != WIRE_WELCOME || frame->tag != 0)
                return false;
        *ret_welcome = (struct wire_welcome){ 0 };
        ret_welcome->version = bytes_get_u16(&reader);
        ret_welcome->cluster = id128_get(&reader);
        client_id_get(&reader, true, &ret_welcome->client);
        wire_get_node_name(&reader, false, ret_welcome->node);
        if (ret_welcome->version < WIRE_VERSION_MIN || ret_welcome->version > WIRE_VERSION_MAX)
                return false;
        return bytes_reader_finished(&reader);
}

void wire_write_refusal(struct bytes *out, const struct wire_refusal *refusal)
{
        size_t frame = wire_frame_begin(out, WIRE_REFUSAL, 0);

        bytes_put_u8(out, (uint8_t)refusal->code);
        id128_put(out, refusal->cluster);
        wire_put_people_text(out, refusal->reason, LIMIT_REASON_BYTES);
        wire_frame_end(out, frame, LIMIT_CLIENT_REPLY_BYTES);
}

bool wire_read_refusal(const struct wire_frame *frame, struct wire_refusal *ret_refusal)
{
        struct bytes_reader reader = bytes_reader_of(frame->body, frame->body_size);
        uint8_t code;

        if (frame->type != WIRE_REFUSAL || frame->tag != 0)
                return false;
        *ret_refusal = (struct wire_refusal){ 0 };
        code = bytes_get_u8(&reader);
        if (code < WIRE_REFUSAL_VERSION || code > WIRE_REFUSAL_STOPPING)
                return false;
        ret_refusal->code = (enum wire_refusal_code)code;
        ret_refusal->cluster = id128_get(&reader);
        wire_get_people_text(&reader, ret_refusal->reason, sizeof(ret_refusal->reason));
        return bytes_reader_finished(&reader);
}

void wire_write_result(struct bytes *out, const struct wire_result *result)
{
        size_t frame = wire_frame_begin(out, WIRE_RESULT, result->tag);

        assert(result->token <= LIMIT_TOKEN);
        assert(result->leader_age_ms >= -1);
        bytes_put_u8(out, (uint8_t)result->outcome);
        bytes_put_u64(out, result->token);
        bytes_put_u64(out, result->index);
        put_i64(out, result->leader_age_ms);
        bytes_put_u32(out, result->free_in_ms);
        bytes_put_u16(out, result->slots);
        bytes_put_u16(out, result->holders);
        client_id_put(out, &result->owner);
        wire_put_people_text(out, result->reason, LIMIT_REASON_BYTES);
        wire_frame_end(out, frame, LIMIT_CLIENT_REPLY_BYTES);
}

bool wire_read_result(const struct wire_frame *frame, struct wire_result *ret_result)
{
        struct bytes_reader reader = bytes_reader_of(frame->body, frame->body_size);

        if (frame->type != WIRE_RESULT)
                return false;
        *ret_result = (struct wire_result){ .tag = frame->tag };
        ret_result->outcome = get_outcome(&reader, WIRE_REENTERED);
        ret_result->token = get_token(&reader);
        ret_result->index = bytes_get_u64(&reader);
        ret_result->leader_age_ms = get_age(&reader);
        ret_result->free_in_ms = bytes_get_u32(&reader);
        ret_result->slots = bytes_get_u16(&reader);
        ret_result->holders = bytes_get_u16(&reader);
        if (!limit_slots_is_valid(ret_result->slots) || ret_result->holders > slots_capacity(ret_result->slots))
                reader.bad = true;
        client_id_get(&reader, true, &ret_result->owner);
        if (ret_result->free_in_ms > LIMIT_DELAY_MS || (ret_result->free_in_ms != 0 && (ret_result->outcome != WIRE_NO || ret_result->owner.size > 0)))
                reader.bad = true;
        wire_get_people_text(&reader, ret_result->reason, sizeof(ret_result->reason));
        return bytes_reader_finished(&reader);
}

size_t wire_write_page_begin(struct bytes *out, enum wire_type type, const struct wire_page *page)
{
        size_t frame = wire_frame_begin(out, type, page->tag);

        assert(type == WIRE_ROWS || type == WIRE_EVENTS || type == WIRE_ROSTER || type == WIRE_CHANGES);
        assert(page->count <= LIMIT_PAGE_ROWS);
        assert(page->leader_age_ms >= -1);
        assert(page->outcome == WIRE_YES || page->count == 0);
        bytes_put_u8(out, (uint8_t)page->outcome);
        bytes_put_u64(out, page->index);
        put_i64(out, page->leader_age_ms);
        if (type == WIRE_EVENTS || type == WIRE_CHANGES) {
                bytes_put_u64(out, page->next_after);
                bytes_put_u64(out, page->log_first);
        }
        if (type == WIRE_ROWS)
                bytes_put_u32(out, page->free_in_ms);
        bytes_put_u8(out, page->more);
        bytes_put_u16(out, page->count);
        wire_put_people_text(out, page->reason, LIMIT_REASON_BYTES);
        return frame;
}

void wire_write_page_end(struct bytes *out, size_t frame_offset)
{
        wire_frame_end(out, frame_offset, LIMIT_CLIENT_REPLY_BYTES);
}

/* 0: such a frame is no page. */
static size_t shortest_row(uint8_t type)
{
        switch (type) {
        case WIRE_ROWS:
                return ROW_BYTES_MIN;
        case WIRE_EVENTS:
                return EVENT_BYTES_MIN;
        case WIRE_ROSTER:
                return MEMBER_BYTES_MIN;
        case WIRE_CHANGES:
                return CHANGE_BYTES_MIN;
        default:
                return 0;
        }
}

bool wire_read_page(const struct wire_frame *frame, struct wire_page *ret_page, struct bytes_reader *ret_rows)
{
        struct bytes_reader reader = bytes_reader_of(frame->body, frame->body_size);
        size_t shortest = shortest_row(frame->type);

        if (shortest == 0)
                return false;
        *ret_page = (struct wire_page){ .tag = frame->tag };
        ret_page->outcome = get_outcome(&reader, WIRE_REJECTED);
        ret_page->index = bytes_get_u64(&reader);
        ret_page->leader_age_ms = get_age(&reader);
        if (frame->type == WIRE_EVENTS || frame->type == WIRE_CHANGES) {
                ret_page->next_after = bytes_get_u64(&reader);
                ret_page->log_first = bytes_get_u64(&reader);
        }
        if (frame->type == WIRE_ROWS)
                ret_page->free_in_ms = bytes_get_u32(&reader);
        ret_page->more = wire_get_bool(&reader);
        ret_page->count = bytes_get_u16(&reader);
        wire_get_people_text(&reader, ret_page->reason, sizeof(ret_page->reason));
        if (reader.bad || ret_page->count > LIMIT_PAGE_ROWS)
                return false;
        if (ret_page->free_in_ms > LIMIT_DELAY_MS || (ret_page->free_in_ms != 0 && (ret_page->count > 0 || ret_page->outcome != WIRE_YES)))
                return false;
        if (ret_page->outcome != WIRE_YES && (ret_page->count > 0 || ret_page->more))
                return false;
        if (reader.left < (size_t)ret_page->count * shortest)
                return false;
        *ret_rows = reader;
        return ret_page->count > 0 || bytes_reader_finished(&reader);
}

enum { ROW_LEASE = 1, ROW_BROKEN = 2 };

void wire_write_row(struct bytes *out, const struct wire_row *row)
{
        assert(row->token <= LIMIT_TOKEN);
        lock_name_put(out, &row->lock);
        client_id_put(out, &row->owner);
        bytes_put_u64(out, row->token);
        bytes_put_u64(out, row->held_ms);
        bytes_put_u64(out, row->since_wall_ms);
        bytes_put_u64(out, row->session);
        bytes_put_u32(out, row->ttl_ms);
        bytes_put_u32(out, row->delay_ms);
        put_i64(out, row->expires_ms);
        bytes_put_u8(out, (uint8_t)((row->lease ? ROW_LEASE : 0) | (row->broken ? ROW_BROKEN : 0)));
        bytes_put_u32(out, row->waiting);
        bytes_put_u16(out, row->slots);
        bytes_put_u16(out, row->holders);
        principal_put(out, &row->principal);
        holder_view_put(out, row->holder);
}

bool wire_read_row(struct bytes_reader *rows, struct wire_row *ret_row)
{
        uint8_t flags;

        lock_name_get(rows, false, &ret_row->lock);
        client_id_get(rows, false, &ret_row->owner);
        ret_row->token = get_token(rows);
        ret_row->held_ms = bytes_get_u64(rows);
        ret_row->since_wall_ms = bytes_get_u64(rows);
        ret_row->session = get_token(rows);
        ret_row->ttl_ms = bytes_get_u32(rows);
        ret_row->delay_ms = bytes_get_u32(rows);
        ret_row->expires_ms = get_age(rows);
        flags = bytes_get_u8(rows);
        ret_row->lease = flags & ROW_LEASE;
        ret_row->broken = flags & ROW_BROKEN;
        ret_row->waiting = bytes_get_u32(rows);
        ret_row->slots = bytes_get_u16(rows);
        ret_row->holders = bytes_get_u16(rows);
        if (!limit_slots_is_valid(ret_row->slots) || ret_row->holders == 0 || ret_row->holders > slots_capacity(ret_row->slots))
                rows->bad = true;
        if ((ret_row->session == 0) != (ret_row->ttl_ms == 0) || !limit_delay_is_valid(ret_row->ttl_ms, ret_row->delay_ms) || (ret_row->lease && ret_row->session == 0) ||
            (ret_row->broken && !ret_row->lease) || flags > (ROW_LEASE | ROW_BROKEN))
                rows->bad = true;
        principal_get(rows, false, &ret_row->principal);
        holder_view_get(rows, &ret_row->holder);
        return !rows->bad;
}

void wire_write_event(struct bytes *out, const struct wire_event *event)
{
        assert(event->token <= LIMIT_TOKEN);
        bytes_put_u64(out, event->index);
        bytes_put_u64(out, event->term);
        bytes_put_u64(out, event->token);
        bytes_put_u64(out, event->cluster_ms);
        bytes_put_u64(out, event->wall_ms);
        wire_put_word(out, event->kind, sizeof(event->kind) - 1);
        lock_name_put(out, &event->lock);
        client_id_put(out, &event->client);
        wire_put_people_text(out, event->detail, LIMIT_REASON_BYTES);
}

bool wire_read_event(struct bytes_reader *rows, struct wire_event *ret_event)
{
        ret_event->index = bytes_get_u64(rows);
        ret_event->term = bytes_get_u64(rows);
        ret_event->token = get_token(rows);
        ret_event->cluster_ms = bytes_get_u64(rows);
        ret_event->wall_ms = bytes_get_u64(rows);
        wire_get_word(rows, false, ret_event->kind, sizeof(ret_event->kind));
        lock_name_get(rows, true, &ret_event->lock);
        client_id_get(rows, true, &ret_event->client);
        wire_get_people_text(rows, ret_event->detail, sizeof(ret_event->detail));
        return !rows->bad;
}

void wire_write_change(struct bytes *out, const struct wire_change *change)
{
        assert(change->kind != 0);
        assert(change->token <= LIMIT_TOKEN);
        bytes_put_u8(out, change->kind);
        bytes_put_u64(out, change->index);
        bytes_put_u64(out, change->wall_ms);
        lock_name_put(out, &change->lock);
        client_id_put(out, &change->client);
        bytes_put_u64(out, change->token);
        bytes_put_u64(out, change->session);
        bytes_put_u32(out, change->ttl_ms);
        bytes_put_u16(out, change->slots);
        holder_view_put(out, change->holder);
}

bool wire_read_change(struct bytes_reader *rows, struct wire_change *ret_change)
{
        ret_change->kind = bytes_get_u8(rows);
        ret_change->index = bytes_get_u64(rows);
        ret_change->wall_ms = bytes_get_u64(rows);
        lock_name_get(rows, false, &ret_change->lock);
        client_id_get(rows, false, &ret_change->client);
        ret_change->token = get_token(rows);
        ret_change->session = get_token(rows);
        ret_change->ttl_ms = bytes_get_u32(rows);
        ret_change->slots = bytes_get_u16(rows);
        holder_view_get(rows, &ret_change->holder);
        if (ret_change->kind == 0 || !limit_slots_is_valid(ret_change->slots) || (ret_change->session == 0) != (ret_change->ttl_ms == 0) ||
            (ret_change->kind != WIRE_CHANGE_GRANTED && ret_change->holder.size > 0))
                rows->bad = true;
        return !rows->bad;
}

void wire_write_member(struct bytes *out, const struct wire_member *member)
{
        bytes_put_u64(out, member->id);
        wire_put_word(out, member->name, LIMIT_NODE_NAME_BYTES);
        bytes_put_text16(out, member->address, strlen(member->address));
        bytes_put_u8(out, (uint8_t)((member->voter ? MEMBER_VOTER : 0) | (member->witness ? MEMBER_WITNESS : 0) |
                                    (member->preferred ? MEMBER_PREFERRED : 0) | (member->leader ? MEMBER_LEADER : 0) |
                                    (member->linked ? MEMBER_LINKED : 0) | (member->away ? MEMBER_AWAY : 0)));
        bytes_put_u64(out, member->match);
        bytes_put_u16(out, member->level);
}

bool wire_read_member(struct bytes_reader *rows, struct wire_member *ret_member)
{
        uint8_t flags;

        *ret_member = (struct wire_member){ .id = bytes_get_u64(rows) };
        wire_get_node_name(rows, false, ret_member->name);
        if (bytes_get_text16(rows, ret_member->address, sizeof(ret_member->address)) != strlen(ret_member->address))
                rows->bad = true;
        flags = bytes_get_u8(rows);
        if (flags & ~MEMBER_FLAGS)
                rows->bad = true;
        ret_member->voter = flags & MEMBER_VOTER;
        ret_member->witness = flags & MEMBER_WITNESS;
        ret_member->preferred = flags & MEMBER_PREFERRED;
        ret_member->leader = flags & MEMBER_LEADER;
        ret_member->linked = flags & MEMBER_LINKED;
        ret_member->away = flags & MEMBER_AWAY;
        ret_member->match = bytes_get_u64(rows);
        ret_member->level = bytes_get_u16(rows);
        return !rows->bad;
}

void wire_write_state(struct bytes *out, const struct wire_state *state)
{
        const uint64_t numbers[] = { state->term, state->commit, state->applied, state->log_first, state->log_last, state->locks, state->voters,
                                     state->members };
        size_t frame = wire_frame_begin(out, WIRE_STATE, state->tag);

        assert(state->leader_age_ms >= -1);
        wire_put_word(out, state->node, LIMIT_NODE_NAME_BYTES);
        wire_put_word(out, state->role, sizeof(state->role) - 1);
        wire_put_word(out, state->leader, LIMIT_NODE_NAME_BYTES);
        wire_put_word(out, state->version, sizeof(state->version) - 1);
        id128_put(out, state->cluster);
        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
                bytes_put_u64(out, numbers[i]);
        put_i64(out, state->leader_age_ms);
        wire_frame_end(out, frame, LIMIT_CLIENT_REPLY_BYTES);
}

bool wire_read_state(const struct wire_frame *frame, struct wire_state *ret_state)
{
        struct bytes_reader reader = bytes_reader_of(frame->body, frame->body_size);
        uint64_t *const numbers[] = { &ret_state->term, &ret_state->commit, &ret_state->applied, &ret_state->log_first, &ret_state->log_last,
                                      &ret_state->locks, &ret_state->voters, &ret_state->members };

        if (frame->type != WIRE_STATE)
                return false;
        *ret_state = (struct wire_state){ .tag = frame->tag };
        wire_get_node_name(&reader, false, ret_state->node);
        wire_get_word(&reader, false, ret_state->role, sizeof(ret_state->role));
        wire_get_node_name(&reader, true, ret_state->leader);
        wire_get_word(&reader, false, ret_state->version, sizeof(ret_state->version));
        ret_state->cluster = id128_get(&reader);
        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
                *numbers[i] = bytes_get_u64(&reader);
        ret_state->leader_age_ms = get_age(&reader);
        return bytes_reader_finished(&reader);
}

void wire_write_piece(struct bytes *out, const struct wire_piece *piece)
{
        size_t frame = wire_frame_begin(out, WIRE_PIECE, piece->tag);

        assert(piece->leader_age_ms >= -1);
        assert(piece->size <= LIMIT_BACKUP_PIECE_BYTES);
        bytes_put_u8(out, (uint8_t)piece->outcome);
        bytes_put_u64(out, piece->index);
        put_i64(out, piece->leader_age_ms);
        bytes_put_u64(out, piece->backup);
        bytes_put_u64(out, piece->offset);
        bytes_put_u64(out, piece->total);
        bytes_put_blob(out, piece->data, piece->size);
        wire_put_people_text(out, piece->reason, LIMIT_REASON_BYTES);
        wire_frame_end(out, frame, LIMIT_CLIENT_REPLY_BYTES);
}

/* Within the whole; and who got nothing has none of its numbers. */
static bool piece_is_sound(const struct wire_piece *piece)
{
        if (piece->outcome != WIRE_YES)
                return piece->backup == 0 && piece->offset == 0 && piece->total == 0 && piece->size == 0;
        return piece->backup != 0 && piece->offset <= piece->total && piece->size <= piece->total - piece->offset;
}

bool wire_read_piece(const struct wire_frame *frame, struct wire_piece *ret_piece)
{
        struct bytes_reader reader = bytes_reader_of(frame->body, frame->body_size);

        if (frame->type != WIRE_PIECE)
                return false;
        *ret_piece = (struct wire_piece){ .tag = frame->tag };
        ret_piece->outcome = get_outcome(&reader, WIRE_REJECTED);
        ret_piece->index = bytes_get_u64(&reader);
        ret_piece->leader_age_ms = get_age(&reader);
        ret_piece->backup = bytes_get_u64(&reader);
        ret_piece->offset = bytes_get_u64(&reader);
        ret_piece->total = bytes_get_u64(&reader);
        ret_piece->data = bytes_get_blob(&reader, LIMIT_BACKUP_PIECE_BYTES, &ret_piece->size);
        wire_get_people_text(&reader, ret_piece->reason, sizeof(ret_piece->reason));
        return bytes_reader_finished(&reader) && piece_is_sound(ret_piece);
}
