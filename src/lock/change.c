#include "lock/change.h"

#include <assert.h>

/* First byte of every body: lets a field be added without a new kind of entry. */
#define CHANGE_FORMAT 1

uint64_t lock_change_token(const struct lock_change *change, uint64_t index)
{
        switch (change->kind) {
        case LOCK_CHANGE_PREEMPT:
        case LOCK_CHANGE_OPEN:
                return index;
        case LOCK_CHANGE_RELEASE:
        case LOCK_CHANGE_LEAVE:
        case LOCK_CHANGE_KEEP:
        case LOCK_CHANGE_BREAK:
                return change->token;
        case LOCK_CHANGE_CLOSE:
        case LOCK_CHANGE_EXPIRE:
                return change->session;
        case LOCK_CHANGE_CLIENT:
        case LOCK_CHANGE_CANCEL:
        case LOCK_CHANGE_WAIT:               /* who waits has none yet */
        case LOCK_CHANGE_GRANT:              /* or, when all waiters have gone in the meantime, nobody's */
                return 0;
        }
        return 0;
}

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
        case LOCK_CHANGE_WAIT:
                lock_name_put(bytes, &change->name);
                bytes_put_u64(bytes, change->session);
                bytes_put_u32(bytes, change->ttl_ms);
                bytes_put_u32(bytes, change->delay_ms);
                bytes_put_u64(bytes, change->period_ms);
                bytes_put_u16(bytes, change->slots);
                names_view_put(bytes, change->further);
                holder_view_put(bytes, change->holder);
                return;
        case LOCK_CHANGE_GRANT:
                lock_name_put(bytes, &change->name);
                return;
        case LOCK_CHANGE_BREAK:
                lock_name_put(bytes, &change->name);
                bytes_put_u64(bytes, change->token);
                bytes_put_u8(bytes, change->now);
                holder_view_put(bytes, change->holder);
                return;
        case LOCK_CHANGE_CANCEL:
        case LOCK_CHANGE_RELEASE:
        case LOCK_CHANGE_LEAVE:
        case LOCK_CHANGE_KEEP:
                lock_name_put(bytes, &change->name);
                bytes_put_u64(bytes, change->token);
                return;
        case LOCK_CHANGE_OPEN:
                bytes_put_u32(bytes, change->ttl_ms);
                bytes_put_u32(bytes, change->delay_ms);
                holder_view_put(bytes, change->holder);
                return;
        case LOCK_CHANGE_CLOSE:
                bytes_put_u64(bytes, change->session);
                return;
        case LOCK_CHANGE_EXPIRE:
                bytes_put_u64(bytes, change->session);
                lock_name_put(bytes, &change->name);
                return;
        }
        assert(false);
}

/* What its kind says. False: it contradicts itself. */
static bool get_rest(struct bytes_reader *reader, struct lock_change *change)
{
        uint8_t now;

        switch (change->kind) {
        case LOCK_CHANGE_CLIENT:
                return true;
        case LOCK_CHANGE_PREEMPT:
        case LOCK_CHANGE_WAIT:
                lock_name_get(reader, false, &change->name);
                change->session = bytes_get_u64(reader);
                change->ttl_ms = bytes_get_u32(reader);
                change->delay_ms = bytes_get_u32(reader);
                change->period_ms = bytes_get_u64(reader);
                change->slots = bytes_get_u16(reader);
                names_view_get(reader, &change->name, &change->further);
                holder_view_get(reader, &change->holder);
                /* Who waits does so in a session: nobody who died stands in a queue. */
                if (change->kind == LOCK_CHANGE_WAIT && change->ttl_ms == 0 && change->session == 0)
                        return false;
                if (change->further.count > 0 && (change->slots != 0 || change->period_ms != 0))
                        return false;
                return limit_slots_is_valid(change->slots) && (change->ttl_ms == 0 || (change->session == 0 && limit_ttl_is_valid(change->ttl_ms))) &&
                       limit_delay_is_valid(change->ttl_ms, change->delay_ms) && (change->period_ms == 0 || limit_period_is_valid(change->period_ms));
        case LOCK_CHANGE_BREAK:
                lock_name_get(reader, false, &change->name);
                change->token = bytes_get_u64(reader);
                now = bytes_get_u8(reader);
                change->now = now;
                holder_view_get(reader, &change->holder);
                return now <= 1;
        case LOCK_CHANGE_GRANT:
                lock_name_get(reader, false, &change->name);
                return id128_is_null(change->handle) && change->seq == 0;
        case LOCK_CHANGE_CANCEL:
        case LOCK_CHANGE_RELEASE:
        case LOCK_CHANGE_LEAVE:
        case LOCK_CHANGE_KEEP:
                lock_name_get(reader, false, &change->name);
                change->token = bytes_get_u64(reader);
                return true;
        case LOCK_CHANGE_OPEN:
                change->ttl_ms = bytes_get_u32(reader);
                change->delay_ms = bytes_get_u32(reader);
                holder_view_get(reader, &change->holder);
                return limit_ttl_is_valid(change->ttl_ms) && limit_delay_is_valid(change->ttl_ms, change->delay_ms);
        case LOCK_CHANGE_CLOSE:
                change->session = bytes_get_u64(reader);
                return change->session != 0;
        case LOCK_CHANGE_EXPIRE:
                change->session = bytes_get_u64(reader);
                lock_name_get(reader, true, &change->name);
                return change->session != 0 && id128_is_null(change->handle) && change->seq == 0;
        }
        return false;
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
        return get_rest(&reader, change) && bytes_reader_finished(&reader);
}
