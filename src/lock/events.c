#include "lock/events.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"

#define CHUNK_BYTES 65536
#define CHUNKS (LIMIT_EVENTS_BYTES / CHUNK_BYTES)

/* An event in a chunk, with its texts and its holder behind it. */
struct item {
        uint64_t index, wall_ms, token, session;
        uint32_t ttl_ms;
        uint16_t size;                       /* of all, rounded up to the next item */
        uint16_t holder_size, slots;
        uint8_t kind, name_size, client_size;
        uint8_t data[];
};

struct chunk {
        uint64_t last;                       /* index of its last event */
        size_t used;
        _Alignas(struct item) uint8_t data[CHUNK_BYTES];
};

struct lock_events {
        struct chunk *chunks[CHUNKS];        /* number n at n modulo their count */
        uint64_t oldest, end;                /* the numbers of those in use */
        uint64_t floor, generation;
        uint64_t last;                       /* index of the newest event */
        size_t run;                          /* events of that index */
};

struct lock_events *lock_events_new(uint64_t floor)
{
        struct lock_events *events = alloc_zeroed(1, sizeof(*events));

        events->floor = floor;
        return events;
}

struct lock_events *lock_events_free(struct lock_events *events)
{
        if (!events)
                return NULL;
        for (size_t i = 0; i < CHUNKS; i++)
                free(events->chunks[i]);
        free(events);
        return NULL;
}

void lock_events_clear(struct lock_events *events, uint64_t floor)
{
        events->oldest = events->end;
        events->floor = floor;
        events->last = floor;
        events->run = 0;
        events->generation++;
}

static struct chunk *chunk_at(const struct lock_events *events, uint64_t number)
{
        return events->chunks[number % CHUNKS];
}

/* The floor rises to the last entry of what goes: of an entry that has events here and in the next chunk those that are left count no more. */
static struct chunk *begin_chunk(struct lock_events *events)
{
        struct chunk **place = &events->chunks[events->end % CHUNKS];

        if (events->end - events->oldest == CHUNKS) {
                events->floor = chunk_at(events, events->oldest)->last;
                events->oldest++;
        }
        if (!*place)
                *place = alloc_zeroed(1, sizeof(**place));
        (*place)->used = 0;
        events->end++;
        return *place;
}

static size_t size_of(const struct lock_event *event)
{
        size_t size = sizeof(struct item) + event->name_size + event->client_size + event->holder.size;

        return (size + _Alignof(struct item) - 1) & ~(_Alignof(struct item) - 1);
}

static void count_entry(struct lock_events *events, uint64_t index)
{
        assert(index > events->floor && index >= events->last);
        events->run = index == events->last ? events->run + 1 : 1;
        events->last = index;
        assert(events->run <= LIMIT_ENTRY_RECORDS);
}

void lock_events_add(struct lock_events *events, const struct lock_event *event)
{
        struct chunk *chunk = events->end > events->oldest ? chunk_at(events, events->end - 1) : NULL;
        size_t size = size_of(event);
        struct item *item;

        count_entry(events, event->index);
        if (!chunk || CHUNK_BYTES - chunk->used < size)
                chunk = begin_chunk(events);
        item = (struct item *)(void *)(chunk->data + chunk->used);
        *item = (struct item){
                .index = event->index,
                .wall_ms = event->wall_ms,
                .token = event->token,
                .session = event->session,
                .ttl_ms = event->ttl_ms,
                .slots = event->slots,
                .size = (uint16_t)size,
                .holder_size = event->holder.size,
                .kind = (uint8_t)event->kind,
                .name_size = event->name_size,
                .client_size = event->client_size,
        };
        memcpy(item->data, event->name, event->name_size);
        memcpy(item->data + event->name_size, event->client, event->client_size);
        if (event->holder.size > 0)
                memcpy(item->data + event->name_size + event->client_size, event->holder.data, event->holder.size);
        chunk->used += size;
        chunk->last = event->index;
}

uint64_t lock_events_floor(const struct lock_events *events)
{
        return events->floor;
}

uint64_t lock_events_generation(const struct lock_events *events)
{
        return events->generation;
}

static const struct item *item_at(const struct lock_events *events, const struct lock_events_cursor *cursor)
{
        return (const struct item *)(const void *)(chunk_at(events, cursor->chunk)->data + cursor->offset);
}

struct lock_events_cursor lock_events_seek(const struct lock_events *events, uint64_t after)
{
        uint64_t low = events->oldest, high = events->end;
        struct lock_events_cursor cursor;

        assert(after >= events->floor);
        while (low < high) {
                uint64_t middle = low + (high - low) / 2;

                if (chunk_at(events, middle)->last > after)
                        high = middle;
                else
                        low = middle + 1;
        }
        cursor = (struct lock_events_cursor){ .chunk = low };
        while (low < events->end && item_at(events, &cursor)->index <= after)
                cursor.offset += item_at(events, &cursor)->size;
        return cursor;
}

bool lock_events_next(const struct lock_events *events, struct lock_events_cursor *cursor, struct lock_event *ret_event)
{
        const struct item *item;

        if (cursor->chunk < events->end && cursor->offset == chunk_at(events, cursor->chunk)->used)
                *cursor = (struct lock_events_cursor){ .chunk = cursor->chunk + 1 };
        if (cursor->chunk >= events->end)
                return false;
        item = item_at(events, cursor);
        *ret_event = (struct lock_event){
                .kind = (enum lock_event_kind)item->kind,
                .ttl_ms = item->ttl_ms,
                .slots = item->slots,
                .index = item->index,
                .wall_ms = item->wall_ms,
                .token = item->token,
                .session = item->session,
                .name = (const char *)item->data,
                .client = (const char *)item->data + item->name_size,
                .name_size = item->name_size,
                .client_size = item->client_size,
                .holder = { .data = item->data + item->name_size + item->client_size, .size = item->holder_size },
        };
        cursor->offset += item->size;
        return true;
}
