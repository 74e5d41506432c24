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

/* What the newest pending change says; false: no pending change concerns it, ask the table.
 * *ret_owned: false when the lock will be free. */
bool lock_overlay_find(const struct lock_overlay *overlay, const struct lock_name *name, bool *ret_owned, struct lock_view *ret_view);
/* The principal a pending first use gives to a client id. */
bool lock_overlay_find_client(const struct lock_overlay *overlay, const struct client_id *id, struct lock_client_view *ret_view);
/* A pending change ends this session. */
bool lock_overlay_ends(const struct lock_overlay *overlay, uint64_t session);
bool lock_overlay_find_result(const struct lock_overlay *overlay, struct id128 handle, struct lock_result_view *ret_view);
