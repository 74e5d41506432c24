/* bytes.h - the one place where bytes become numbers and numbers bytes.
 *
 * Little-endian, fixed width. A reader never passes its end: the first read
 * that would makes it bad, and every read of a bad reader gives zero; decoders
 * ask once, at the end. A writer grows; sizes are bounded by who fills it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A growing array of bytes. All zero is empty and valid. */
struct bytes {
        uint8_t *data;
        size_t size;
        size_t capacity;
};

struct bytes_reader {
        const uint8_t *data;
        size_t left;
        bool bad;
};

/* Frees the memory; the struct is empty and usable again. */
void bytes_done(struct bytes *bytes);

/* Forgets the content, keeps the memory. */
void bytes_clear(struct bytes *bytes);

/* Removes count bytes from the front; count <= size. */
void bytes_drop(struct bytes *bytes, size_t count);

/* Room for at least count more bytes at data + size. Returns that place. */
uint8_t *bytes_reserve(struct bytes *bytes, size_t count);

void bytes_put(struct bytes *bytes, const void *data, size_t size);
void bytes_put_u8(struct bytes *bytes, uint8_t value);
void bytes_put_u16(struct bytes *bytes, uint16_t value);
void bytes_put_u32(struct bytes *bytes, uint32_t value);
void bytes_put_u64(struct bytes *bytes, uint64_t value);
/* One byte of size, then the text: size <= 255. */
void bytes_put_text8(struct bytes *bytes, const char *text, size_t size);
/* Two bytes of size, then the text: size <= 65535. */
void bytes_put_text16(struct bytes *bytes, const char *text, size_t size);
/* Four bytes of size, then the data. */
void bytes_put_blob(struct bytes *bytes, const void *data, size_t size);
/* Overwrites the four bytes at offset, which must exist. */
void bytes_set_u32(struct bytes *bytes, size_t offset, uint32_t value);

/* Plain little-endian access for fixed places; the caller has checked the size. */
uint32_t bytes_load_u32(const uint8_t *data);
uint64_t bytes_load_u64(const uint8_t *data);

struct bytes_reader bytes_reader_of(const void *data, size_t size);
uint8_t bytes_get_u8(struct bytes_reader *reader);
uint16_t bytes_get_u16(struct bytes_reader *reader);
uint32_t bytes_get_u32(struct bytes_reader *reader);
uint64_t bytes_get_u64(struct bytes_reader *reader);
/* The next size bytes, in place; NULL when there are not so many. */
const uint8_t *bytes_get(struct bytes_reader *reader, size_t size);
/* A sized text into buffer[capacity], zero-terminated; longer than capacity - 1 makes the reader bad. Returns its size. */
size_t bytes_get_text8(struct bytes_reader *reader, char *buffer, size_t capacity);
size_t bytes_get_text16(struct bytes_reader *reader, char *buffer, size_t capacity);
/* A sized blob, in place, of at most size_max bytes. */
const uint8_t *bytes_get_blob(struct bytes_reader *reader, size_t size_max, size_t *ret_size);
/* True when nothing was bad and nothing is left over. */
bool bytes_reader_finished(const struct bytes_reader *reader);
