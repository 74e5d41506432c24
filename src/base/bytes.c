#include "base/bytes.h"

#include <assert.h>
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

uint8_t *bytes_reserve(struct bytes *bytes, size_t count)
{
        size_t needed;

        assert(count <= SIZE_MAX - bytes->size);
        needed = bytes->size + count;
        if (needed > bytes->capacity) {
                size_t capacity = bytes->capacity ? bytes->capacity : 64;

                while (capacity < needed)
                        capacity *= 2;
                bytes->data = alloc_resized(bytes->data, capacity, 1);
                bytes->capacity = capacity;
        }
        return bytes->data + bytes->size;
}

void bytes_put(struct bytes *bytes, const void *data, size_t size)
{
        if (size == 0)
                return;
        memcpy(bytes_reserve(bytes, size), data, size);
        bytes->size += size;
}

void bytes_put_u8(struct bytes *bytes, uint8_t value)
{
        bytes_put(bytes, &value, 1);
}

static void store_little(uint8_t *data, uint64_t value, size_t width)
{
        for (size_t i = 0; i < width; i++)
                data[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t load_little(const uint8_t *data, size_t width)
{
        uint64_t value = 0;

        for (size_t i = 0; i < width; i++)
                value |= (uint64_t)data[i] << (8 * i);
        return value;
}

static void put_little(struct bytes *bytes, uint64_t value, size_t width)
{
        store_little(bytes_reserve(bytes, width), value, width);
        bytes->size += width;
}

void bytes_put_u16(struct bytes *bytes, uint16_t value)
{
        put_little(bytes, value, 2);
}

void bytes_put_u32(struct bytes *bytes, uint32_t value)
{
        put_little(bytes, value, 4);
}

void bytes_put_u64(struct bytes *bytes, uint64_t value)
{
        put_little(bytes, value, 8);
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
        store_little(bytes->data + offset, value, 4);
}

uint32_t bytes_load_u32(const uint8_t *data)
{
        return (uint32_t)load_little(data, 4);
}

uint64_t bytes_load_u64(const uint8_t *data)
{
        return load_little(data, 8);
}

struct bytes_reader bytes_reader_of(const void *data, size_t size)
{
        return (struct bytes_reader){ .data = data, .left = size };
}

const uint8_t *bytes_get(struct bytes_reader *reader, size_t size)
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

static uint64_t get_little(struct bytes_reader *reader, size_t width)
{
        const uint8_t *place = bytes_get(reader, width);

        return place ? load_little(place, width) : 0;
}

uint8_t bytes_get_u8(struct bytes_reader *reader)
{
        return (uint8_t)get_little(reader, 1);
}

uint16_t bytes_get_u16(struct bytes_reader *reader)
{
        return (uint16_t)get_little(reader, 2);
}

uint32_t bytes_get_u32(struct bytes_reader *reader)
{
        return (uint32_t)get_little(reader, 4);
}

uint64_t bytes_get_u64(struct bytes_reader *reader)
{
        return get_little(reader, 8);
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
