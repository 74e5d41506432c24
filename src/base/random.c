#include <stdlib.h>
#include <sys/random.h>

#include "base/id128.h"
#include "base/random.h"

uint64_t random_u64(void)
{
        uint64_t value;

        if (getrandom(&value, sizeof(value), 0) != (ssize_t)sizeof(value))
                abort();
        return value;
}

struct id128 id128_random(void)
{
        struct id128 id;

        if (getrandom(id.bytes, sizeof(id.bytes), 0) != (ssize_t)sizeof(id.bytes))
                abort();
        id.bytes[6] = (uint8_t)((id.bytes[6] & 0x0f) | 0x40);
        id.bytes[8] = (uint8_t)((id.bytes[8] & 0x3f) | 0x80);
        return id;
}
