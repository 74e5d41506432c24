#include "base/name.h"

#include <assert.h>
#include <string.h>

/* The table of well-formed sequences in RFC 3629 section 4. base/ is libc
 * only, and libc's own decoder depends on the locale. Returns the code point
 * and its length, or length 0 when the bytes are not UTF-8. */
static uint32_t decode_utf8(const uint8_t *s, size_t left, size_t *ret_length)
{
        static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
        size_t length = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] <= 0xdf ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : (s[0] & 0xf8) == 0xf0 ? 4 : 0;
        uint32_t code;

        *ret_length = 0;
        if (length == 0 || length > left)
                return 0;
        code = length == 1 ? s[0] : s[0] & (0x7fu >> length);
        for (size_t i = 1; i < length; i++) {
                if ((s[i] & 0xc0) != 0x80)
                        return 0;
                code = code << 6 | (s[i] & 0x3f);
        }
        if (code < smallest[length] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
                return 0;
        *ret_length = length;
        return code;
}

#define EACH_BYTE(value) (UINT64_C(0x0101010101010101) * (value))

/* Eight bytes at once, each from lowest, a space or more, to '~'. One that is less borrows, and one that is more has the
 * highest bit, or gets it from the addition. */
static bool are_ascii_from(uint8_t lowest, const char *text)
{
        uint64_t eight;

        memcpy(&eight, text, sizeof(eight));
        return ((eight | (eight - EACH_BYTE(lowest)) | (eight + EACH_BYTE(1))) & EACH_BYTE(0x80)) == 0;
}

static bool is_ascii_from(char lowest, const char *text, size_t size)
{
        if (size < 8) {
                for (size_t i = 0; i < size; i++)
                        if (text[i] < lowest || text[i] > '~')
                                return false;
                return true;
        }
        for (size_t i = 0; i < size - 8; i += 8)
                if (!are_ascii_from((uint8_t)lowest, text + i))
                        return false;
        return are_ascii_from((uint8_t)lowest, text + size - 8);
}

static bool is_clean_utf8(const char *text, size_t size)
{
        const uint8_t *s = (const uint8_t *)text;

        while (size > 0) {
                size_t length;
                uint32_t code = decode_utf8(s, size, &length);

                if (length == 0 || code < 0x20 || (code >= 0x7f && code <= 0x9f))
                        return false;
                s += length;
                size -= length;
        }
        return true;
}

/* Most texts are ASCII. */
bool name_is_clean_utf8(const char *text, size_t size)
{
        return is_ascii_from(' ', text, size) || is_clean_utf8(text, size);
}

static bool is_printable_ascii(const char *text, size_t size)
{
        return is_ascii_from('!', text, size);
}

bool lock_name_set(struct lock_name *ret_name, const char *text, size_t size)
{
        if (size == 0 || size > LIMIT_LOCK_NAME_BYTES || !name_is_clean_utf8(text, size))
                return false;
        ret_name->size = (uint8_t)size;
        memcpy(ret_name->text, text, size);
        ret_name->text[size] = 0;
        return true;
}

bool client_id_set(struct client_id *ret_id, const char *text, size_t size)
{
        if (size == 0 || size > LIMIT_CLIENT_ID_BYTES || !is_printable_ascii(text, size))
                return false;
        ret_id->size = (uint8_t)size;
        memcpy(ret_id->text, text, size);
        ret_id->text[size] = 0;
        return true;
}

bool principal_set(struct principal *ret_principal, const char *text, size_t size)
{
        if (size == 0 || size > LIMIT_PRINCIPAL_BYTES || !is_printable_ascii(text, size))
                return false;
        ret_principal->size = (uint8_t)size;
        memcpy(ret_principal->text, text, size);
        ret_principal->text[size] = 0;
        return true;
}

bool node_name_is_valid(const char *text, size_t size)
{
        static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

        if (size == 0 || size > LIMIT_NODE_NAME_BYTES)
                return false;
        for (size_t i = 0; i < size; i++)
                if (text[i] == 0 || !strchr(allowed, text[i]))
                        return false;
        return true;
}

bool client_id_equal(const struct client_id *a, const struct client_id *b)
{
        return a->size == b->size && memcmp(a->text, b->text, a->size) == 0;
}

bool lock_name_equal(const struct lock_name *a, const struct lock_name *b)
{
        return a->size == b->size && memcmp(a->text, b->text, a->size) == 0;
}

int lock_name_compare(const struct lock_name *a, const struct lock_name *b)
{
        int order = memcmp(a->text, b->text, a->size < b->size ? a->size : b->size);

        return order ? order : (int)a->size - (int)b->size;
}

bool principal_equal(const struct principal *a, const struct principal *b)
{
        return a->size == b->size && memcmp(a->text, b->text, a->size) == 0;
}

void lock_name_put(struct bytes *bytes, const struct lock_name *name)
{
        bytes_put_text8(bytes, name->text, name->size);
}

void names_view_put(struct bytes *bytes, struct names_view names)
{
        bytes_put_u8(bytes, names.count);
        if (names.size > 0)
                bytes_put(bytes, names.data, names.size);
}

void names_view_get(struct bytes_reader *reader, const struct lock_name *first, struct names_view *ret_names)
{
        struct lock_name before = *first, name;
        uint8_t count = bytes_get_u8(reader);
        const uint8_t *data = bytes_get(reader, 0);

        *ret_names = (struct names_view){ .data = data, .count = count };
        if (count >= LIMIT_LOCKS_AT_ONCE)
                reader->bad = true;
        for (unsigned i = 0; i < count && !reader->bad; i++) {
                lock_name_get(reader, false, &name);
                if (lock_name_compare(&name, &before) <= 0)
                        reader->bad = true;
                ret_names->size = (uint16_t)(ret_names->size + 1u + name.size);
                before = name;
        }
}

bool names_view_take(struct names_view *names, struct lock_name *ret_name)
{
        size_t size;
        bool valid;

        if (names->count == 0)
                return false;
        size = names->data[0];
        valid = lock_name_set(ret_name, (const char *)names->data + 1, size);
        assert(valid);                       /* they were read so */
        names->data += size + 1;
        names->size -= (uint16_t)(size + 1);
        names->count--;
        return true;
}

void client_id_put(struct bytes *bytes, const struct client_id *id)
{
        bytes_put_text8(bytes, id->text, id->size);
}

void principal_put(struct bytes *bytes, const struct principal *principal)
{
        bytes_put_text8(bytes, principal->text, principal->size);
}

void lock_name_get(struct bytes_reader *reader, bool may_be_empty, struct lock_name *ret_name)
{
        size_t size = bytes_get_u8(reader);
        const uint8_t *text = bytes_get(reader, size);

        *ret_name = (struct lock_name){ 0 };
        if (!text || (size == 0 && may_be_empty))
                return;
        if (!lock_name_set(ret_name, (const char *)text, size))
                reader->bad = true;
}

void client_id_get(struct bytes_reader *reader, bool may_be_empty, struct client_id *ret_id)
{
        size_t size = bytes_get_u8(reader);
        const uint8_t *text = bytes_get(reader, size);

        *ret_id = (struct client_id){ 0 };
        if (!text || (size == 0 && may_be_empty))
                return;
        if (!client_id_set(ret_id, (const char *)text, size))
                reader->bad = true;
}

void principal_get(struct bytes_reader *reader, bool may_be_empty, struct principal *ret_principal)
{
        size_t size = bytes_get_u8(reader);
        const uint8_t *text = bytes_get(reader, size);

        *ret_principal = (struct principal){ 0 };
        if (!text || (size == 0 && may_be_empty))
                return;
        if (!principal_set(ret_principal, (const char *)text, size))
                reader->bad = true;
}
