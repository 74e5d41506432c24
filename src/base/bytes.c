#include "base/bytes.h"

#include <assert.h>
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

void bytes_done(struct bytes *bytes)
{
        free(bytes->data);
        *bytes = (struct bytes){ 0 };
}

void bytes_clear(struct bytes *bytes)
{
        bytes->size = 0;
}

void bytes_drop(struct bytes *bytes, size_t count)
{
        assert(count <= bytes->size);
        if (count == 0)
                return;
        bytes->size -= count;
        if (bytes->size > 0)
                memmove(bytes->data, bytes->data + count, bytes->size);
}

static void grow(struct bytes *bytes, size_t needed)
{
        size_t capacity = bytes->capacity ? bytes->capacity : 64;

        while (capacity < needed)
                capacity *= 2;
        bytes->data = alloc_resized(bytes->data, capacity, 1);
        bytes->capacity = capacity;
}

static inline uint8_t *reserve(struct bytes *bytes, size_t count)
{
        if (count > bytes->capacity - bytes->size) {
                assert(count <= SIZE_MAX - bytes->size);
                grow(bytes, bytes->size + count);
        }
        return bytes->data + bytes->size;
}

uint8_t *bytes_reserve(struct bytes *bytes, size_t count)
{
        return reserve(bytes, count);
}

static inline void put(struct bytes *bytes, const void *data, size_t size)
{
        if (size == 0)
                return;
        memcpy(reserve(bytes, size), data, size);
        bytes->size += size;
}

void bytes_put(struct bytes *bytes, const void *data, size_t size)
{
        put(bytes, data, size);
}

void bytes_put_u8(struct bytes *bytes, uint8_t value)
{
        put(bytes, &value, sizeof(value));
}

void bytes_put_u16(struct bytes *bytes, uint16_t value)
{
        value = htole16(value);
        put(bytes, &value, sizeof(value));
}

void bytes_put_u32(struct bytes *bytes, uint32_t value)
{
        value = htole32(value);
        put(bytes, &value, sizeof(value));
}

void bytes_put_u64(struct bytes *bytes, uint64_t value)
{
        value = htole64(value);
        put(bytes, &value, sizeof(value));
}

void bytes_put_text8(struct bytes *bytes, const char *text, size_t size)
{
        assert(size <= UINT8_MAX);
        bytes_put_u8(bytes, (uint8_t)size);
        bytes_put(bytes, text, size);
}

void bytes_put_text16(struct bytes *bytes, const char *text, size_t size)
{
        assert(size <= UINT16_MAX);
        bytes_put_u16(bytes, (uint16_t)size);
        bytes_put(bytes, text, size);
}

void bytes_put_blob(struct bytes *bytes, const void *data, size_t size)
{
        assert(size <= UINT32_MAX);
        bytes_put_u32(bytes, (uint32_t)size);
        bytes_put(bytes, data, size);
}

void bytes_set_u32(struct bytes *bytes, size_t offset, uint32_t value)
{
        assert(offset <= bytes->size);
        assert(bytes->size - offset >= 4);
        value = htole32(value);
        memcpy(bytes->data + offset, &value, sizeof(value));
}

uint32_t bytes_load_u32(const uint8_t *data)
{
        uint32_t value;

        memcpy(&value, data, sizeof(value));
        return le32toh(value);
}

uint64_t bytes_load_u64(const uint8_t *data)
{
        uint64_t value;

        memcpy(&value, data, sizeof(value));
        return le64toh(value);
}

struct bytes_reader bytes_reader_of(const void *data, size_t size)
{
        return (struct bytes_reader){ .data = data, .left = size };
}

static inline const uint8_t *get(struct bytes_reader *reader, size_t size)
{
        const uint8_t *place = reader->data;

        if (reader->bad || size > reader->left) {
                reader->bad = true;
                return NULL;
        }
        if (size == 0)
                return place ? place : (const uint8_t *)"";
        reader->data += size;
        reader->left -= size;
        return place;
}

const uint8_t *bytes_get(struct bytes_reader *reader, size_t size)
{
        return get(reader, size);
}

uint8_t bytes_get_u8(struct bytes_reader *reader)
{
        const uint8_t *place = get(reader, 1);

        return place ? *place : 0;
}

uint16_t bytes_get_u16(struct bytes_reader *reader)
{
        const uint8_t *place = get(reader, 2);

        return (uint16_t)(place ? place[0] | place[1] << 8 : 0);
}

uint32_t bytes_get_u32(struct bytes_reader *reader)
{
        const uint8_t *place = get(reader, 4);

        return place ? bytes_load_u32(place) : 0;
}

uint64_t bytes_get_u64(struct bytes_reader *reader)
{
        const uint8_t *place = get(reader, 8);

        return place ? bytes_load_u64(place) : 0;
}

static size_t get_text(struct bytes_reader *reader, size_t size, char *buffer, size_t capacity)
{
        const uint8_t *place;

        assert(capacity > 0);
        buffer[0] = 0;
        if (size > capacity - 1)
                reader->bad = true;
        place = bytes_get(reader, size);
        if (!place)
                return 0;
        memcpy(buffer, place, size);
        buffer[size] = 0;
        return size;
}

size_t bytes_get_text8(struct bytes_reader *reader, char *buffer, size_t capacity)
{
        size_t size = bytes_get_u8(reader);

        return get_text(reader, size, buffer, capacity);
}

size_t bytes_get_text16(struct bytes_reader *reader, char *buffer, size_t capacity)
{
        size_t size = bytes_get_u16(reader);

        return get_text(reader, size, buffer, capacity);
}

const uint8_t *bytes_get_blob(struct bytes_reader *reader, size_t size_max, size_t *ret_size)
{
        size_t size = bytes_get_u32(reader);
        const uint8_t *place;

        if (size > size_max)
                reader->bad = true;
        place = bytes_get(reader, size);
        *ret_size = place ? size : 0;
        return place;
}

bool bytes_reader_finished(const struct bytes_reader *reader)
{
        return !reader->bad && reader->left == 0;
}
