#include "base/id128.h"

#include <string.h>

bool id128_equal(struct id128 a, struct id128 b)
{
        return id128_compare(a, b) == 0;
}

int id128_compare(struct id128 a, struct id128 b)
{
        return memcmp(a.bytes, b.bytes, sizeof(a.bytes));
}

bool id128_is_null(struct id128 id)
{
        return id128_equal(id, (struct id128){ 0 });
}

static bool dash_before(size_t byte)
{
        return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

char *id128_format(struct id128 id, char buffer[ID128_TEXT_BYTES])
{
        static const char digits[] = "0123456789abcdef";
        char *out = buffer;

        for (size_t i = 0; i < sizeof(id.bytes); i++) {
                if (dash_before(i))
                        *out++ = '-';
                *out++ = digits[id.bytes[i] >> 4];
                *out++ = digits[id.bytes[i] & 15];
        }
        *out = 0;
        return buffer;
}

static int digit_value(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -1;
}

bool id128_parse(const char *text, struct id128 *ret_id)
{
        struct id128 id;

        if (strlen(text) != ID128_TEXT_BYTES - 1)
                return false;
        for (size_t i = 0; i < sizeof(id.bytes); i++) {
                int high, low;

                if (dash_before(i) && *text++ != '-')
                        return false;
                high = digit_value(*text++);
                low = digit_value(*text++);
                if (high < 0 || low < 0)
                        return false;
                id.bytes[i] = (uint8_t)(high * 16 + low);
        }
        *ret_id = id;
        return true;
}

void id128_put(struct bytes *bytes, struct id128 id)
{
        bytes_put(bytes, id.bytes, sizeof(id.bytes));
}

struct id128 id128_get(struct bytes_reader *reader)
{
        struct id128 id = { 0 };
        const uint8_t *place = bytes_get(reader, sizeof(id.bytes));

        if (place)
                memcpy(id.bytes, place, sizeof(id.bytes));
        return id;
}
