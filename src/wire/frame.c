/* frame.c - frames, and the small texts in them. */
#include <assert.h>
#include <string.h>

#include "wire/internal.h"

enum wire_frame_status wire_frame_parse(const uint8_t *data, size_t size, size_t frame_max, struct wire_frame *ret_frame)
{
        uint32_t length;

        assert(frame_max >= WIRE_HEADER_BYTES);
        if (size < 4)
                return WIRE_FRAME_INCOMPLETE;
        length = bytes_load_u32(data);
        if (length < WIRE_FRAME_REST_BYTES)
                return WIRE_FRAME_MALFORMED;
        if (length > frame_max - 4)
                return WIRE_FRAME_TOO_LONG;
        if (size - 4 < length)
                return WIRE_FRAME_INCOMPLETE;
        *ret_frame = (struct wire_frame){
                .type = data[4],
                .tag = bytes_load_u64(data + 5),
                .body = data + WIRE_HEADER_BYTES,
                .body_size = length - WIRE_FRAME_REST_BYTES,
                .total = (size_t)length + 4,
        };
        return WIRE_FRAME_READY;
}

size_t wire_frame_begin(struct bytes *out, enum wire_type type, uint64_t tag)
{
        size_t offset = out->size;

        bytes_put_u32(out, 0);
        bytes_put_u8(out, (uint8_t)type);
        bytes_put_u64(out, tag);
        return offset;
}

void wire_frame_end(struct bytes *out, size_t frame_offset, size_t frame_max)
{
        size_t total = out->size - frame_offset;

        assert(total >= WIRE_HEADER_BYTES);
        assert(total <= frame_max);
        bytes_set_u32(out, frame_offset, (uint32_t)(total - 4));
}

void wire_put_people_text(struct bytes *out, const char *text, size_t size_max)
{
        size_t size = strnlen(text, size_max);

        if (name_is_clean_utf8(text, size)) {
                bytes_put_text8(out, text, size);
                return;
        }
        bytes_put_u8(out, (uint8_t)size);
        for (size_t i = 0; i < size; i++)
                bytes_put_u8(out, text[i] >= ' ' && text[i] <= '~' ? (uint8_t)text[i] : '?');
}

void wire_get_people_text(struct bytes_reader *reader, char *buffer, size_t capacity)
{
        size_t size = bytes_get_text8(reader, buffer, capacity);

        if (!name_is_clean_utf8(buffer, size))
                reader->bad = true;
}

void wire_put_word(struct bytes *out, const char *text, size_t size_max)
{
        size_t size = strlen(text);

        assert(size <= size_max);
        bytes_put_text8(out, text, size);
}

void wire_get_word(struct bytes_reader *reader, bool may_be_empty, char *buffer, size_t capacity)
{
        size_t size = bytes_get_text8(reader, buffer, capacity);

        if (size == 0 && !may_be_empty)
                reader->bad = true;
        for (size_t i = 0; i < size; i++)
                if (buffer[i] <= ' ' || buffer[i] > '~')
                        reader->bad = true;
}

void wire_get_node_name(struct bytes_reader *reader, bool may_be_empty, char buffer[LIMIT_NODE_NAME_BYTES + 1])
{
        size_t size = bytes_get_text8(reader, buffer, LIMIT_NODE_NAME_BYTES + 1);

        if (size == 0 ? !may_be_empty : !node_name_is_valid(buffer, size))
                reader->bad = true;
}

bool wire_get_bool(struct bytes_reader *reader)
{
        uint8_t value = bytes_get_u8(reader);

        if (value > 1)
                reader->bad = true;
        return value == 1;
}
