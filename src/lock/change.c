#include "lock/change.h"

#include <assert.h>

/* First byte of every body: lets a field be added without a new kind of entry. */
#define CHANGE_FORMAT 1

void lock_change_put(struct bytes *bytes, const struct lock_change *change)
{
        bytes_put_u8(bytes, CHANGE_FORMAT);
        id128_put(bytes, change->handle);
        bytes_put_u64(bytes, change->seq);
        client_id_put(bytes, &change->client);
        principal_put(bytes, &change->principal);
        switch (change->kind) {
        case LOCK_CHANGE_CLIENT:
                return;
        case LOCK_CHANGE_PREEMPT:
                lock_name_put(bytes, &change->name);
                holder_view_put(bytes, change->holder);
                return;
        case LOCK_CHANGE_CANCEL:
                lock_name_put(bytes, &change->name);
                return;
        case LOCK_CHANGE_RELEASE:
                lock_name_put(bytes, &change->name);
                bytes_put_u64(bytes, change->token);
                return;
        }
        assert(false);
}

bool lock_change_get(enum lock_change_kind kind, const void *body, size_t size, struct lock_change *ret_change)
{
        struct bytes_reader reader = bytes_reader_of(body, size);
        struct lock_change *change = ret_change;

        *change = (struct lock_change){ .kind = kind };
        if (bytes_get_u8(&reader) != CHANGE_FORMAT)
                return false;
        change->handle = id128_get(&reader);
        change->seq = bytes_get_u64(&reader);
        client_id_get(&reader, false, &change->client);
        principal_get(&reader, false, &change->principal);
        if (kind != LOCK_CHANGE_CLIENT)
                lock_name_get(&reader, false, &change->name);
        if (kind == LOCK_CHANGE_PREEMPT)
                holder_view_get(&reader, &change->holder);
        if (kind == LOCK_CHANGE_RELEASE)
                change->token = bytes_get_u64(&reader);
        return bytes_reader_finished(&reader);
}
