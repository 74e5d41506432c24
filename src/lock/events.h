/* events.h - what became of locks lately: granted, and free again and why, in the order of the log.
 *
 * A bounded memory of one node, for those who watch. It is no part of the state: nothing is decided by it, no base and no snapshot
 * has it, and a node that starts, or gets a snapshot, begins it anew. So it says how far back it reaches.
 *
 * Pure. An event costs a copy of its texts; no memory is asked for once the bound is reached. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/holder.h"

/* The numbers are those of the wire. All but the first say that the lock is free from here on; clients take those of later versions for such, too. */
enum lock_event_kind {
        LOCK_EVENT_GRANTED = 1,
        LOCK_EVENT_RELEASED = 2,             /* its owner gave it back */
        LOCK_EVENT_EXPIRED = 3,              /* nobody renewed the session or lease that it was held in */
        LOCK_EVENT_CLOSED = 4,               /* the client ended that session or lease */
        LOCK_EVENT_BROKEN = 5,               /* an operator took it away */
};

/* Texts and holder are borrowed: from the ring until it changes. */
struct lock_event {
        enum lock_event_kind kind;
        uint32_t ttl_ms;                     /* of the session; 0: none */
        uint64_t index, wall_ms;             /* of the entry that did it */
        uint64_t token;                      /* of the hold that began or ended */
        uint64_t session;                    /* in which it is held, or was; 0: none */
        const char *name, *client;           /* the client: whose hold it is, or was. Not zero-terminated */
        uint8_t name_size, client_size;
        uint16_t slots;                      /* as which it is held */
        struct holder_view holder;           /* GRANTED */
};

struct lock_events;

/* Where a reader stands. Of use only until the ring changes. */
struct lock_events_cursor {
        uint64_t chunk;
        size_t offset;
};

/* Empty; complete for whoever has seen everything up to and with floor. */
struct lock_events *lock_events_new(uint64_t floor);
/* Accepts NULL. Returns NULL. */
struct lock_events *lock_events_free(struct lock_events *events);
/* As lock_events_new: a state took the place of what led to it. */
void lock_events_clear(struct lock_events *events, uint64_t floor);
/* In the order of the index; of one entry at most LIMIT_ENTRY_RECORDS. The oldest make room. */
void lock_events_add(struct lock_events *events, const struct lock_event *event);

/* All events of entries after this one are here. */
uint64_t lock_events_floor(const struct lock_events *events);
/* How often it was cleared. */
uint64_t lock_events_generation(const struct lock_events *events);
/* To the first event of an entry after this one, which is not below the floor. O(log n), and a walk of one chunk. */
struct lock_events_cursor lock_events_seek(const struct lock_events *events, uint64_t after);
/* The event there, and a step on. False: there is none any more. */
bool lock_events_next(const struct lock_events *events, struct lock_events_cursor *cursor, struct lock_event *ret_event);
