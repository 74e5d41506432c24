/* overlay.h - what a leader has appended and not yet applied.
 *
 * The leader decides on the table as it will be when its whole log is
 * committed. When it loses leadership the overlay is dropped, never applied. */
#pragma once

#include "lock/table.h"

struct lock_overlay;

struct lock_overlay *lock_overlay_new(void);
/* Accepts NULL. Returns NULL. */
struct lock_overlay *lock_overlay_free(struct lock_overlay *overlay);

/* change was appended at index; indexes rise. */
void lock_overlay_add(struct lock_overlay *overlay, uint64_t index, const struct lock_change *change);
/* The entry at index was applied to the table: what only it had changed is seen there now. */
void lock_overlay_applied(struct lock_overlay *overlay, uint64_t index);
void lock_overlay_clear(struct lock_overlay *overlay);
size_t lock_overlay_count(const struct lock_overlay *overlay);

/* What pending changes that grant or release at once will have made of a lock. */
struct lock_overlay_holds {
        size_t granted, released;            /* so many holds come, and go */
        bool ends;                           /* one of those that come does so in a session that ends */
        bool once;                           /* one of them is remembered for a period */
        struct lock_view newest;             /* granted > 0: the last of those that come; holders is not set */
};

/* False: there are none, ask the table. */
bool lock_overlay_find(const struct lock_overlay *overlay, const struct lock_name *name, struct lock_overlay_holds *ret_holds);
/* Of those, the one that is granted in this session, which is not 0. */
bool lock_overlay_find_in_session(const struct lock_overlay *overlay, const struct lock_name *name, uint64_t session, struct lock_view *ret_view);
/* The principal a pending first use gives to a client id. */
bool lock_overlay_find_client(const struct lock_overlay *overlay, const struct client_id *id, struct lock_client_view *ret_view);
/* Somebody will stand in the queue of this lock, or get it. */
bool lock_overlay_waits(const struct lock_overlay *overlay, const struct lock_name *name);
/* So many who come to wait are all that do either, and all want it as slots says, each with a lease and not once in a period. False: not all. */
bool lock_overlay_waits_alike(const struct lock_overlay *overlay, const struct lock_name *name, uint16_t slots, size_t *ret_count);
/* Whoever waits for it and may have it is let in. */
bool lock_overlay_lets_in(const struct lock_overlay *overlay, const struct lock_name *name);
/* A pending change gives up this waiter, and all that it has got or waits for. */
bool lock_overlay_leaves(const struct lock_overlay *overlay, uint64_t waiter);
/* A pending change gives up, or keeps in no session, what is held of this lock under this token. */
bool lock_overlay_gives_up(const struct lock_overlay *overlay, const char *name, size_t name_size, uint64_t token);
/* Of these, it is kept. */
bool lock_overlay_keeps(const struct lock_overlay *overlay, const char *name, size_t name_size, uint64_t token);
/* Of these, it is broken, and not at once. */
bool lock_overlay_breaks(const struct lock_overlay *overlay, const char *name, size_t name_size, uint64_t token);
/* Of these, it may be broken at once. */
bool lock_overlay_takes_away(const struct lock_overlay *overlay, const char *name, size_t name_size, uint64_t token);
/* What has this id, if anything does, comes of a pending change. */
bool lock_overlay_makes(const struct lock_overlay *overlay, uint64_t id);
/* A pending change may take some hold from who has it; that, or ends some session, or gives some hold up otherwise than by its release. */
bool lock_overlay_takes_some(const struct lock_overlay *overlay);
bool lock_overlay_ends_some(const struct lock_overlay *overlay);
/* A pending change ends this session; because nobody renewed it. */
bool lock_overlay_ends(const struct lock_overlay *overlay, uint64_t session);
bool lock_overlay_expires(const struct lock_overlay *overlay, uint64_t session);
bool lock_overlay_find_result(const struct lock_overlay *overlay, struct id128 handle, struct lock_result_view *ret_view);
