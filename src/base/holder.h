/* holder.h - who holds a lock and what for, in words: for people who want to know
 * whom to call. Nothing is ever decided by it.
 *
 * Nodes carry it as the bytes that the client sent, from the request through the
 * log into the table, and look into it only to see that it is well formed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/limits.h"

/* Clean UTF-8, "" where not known. */
struct holder {
        char note[LIMIT_NOTE_BYTES + 1];
        char host[LIMIT_HOST_BYTES + 1];
        char unit[LIMIT_UNIT_BYTES + 1];     /* of systemd */
        uint32_t pid;                        /* on that host; 0: not known */
};

/* The same as bytes, somewhere else: valid as long as those are. Size 0: nothing is known. */
struct holder_view {
        const uint8_t *data;
        uint16_t size;
};

/* Appends the bytes of one; nothing when nothing is known. Its texts must be well formed. */
void holder_put(struct bytes *bytes, const struct holder *holder);
/* False: not well formed. */
bool holder_get(struct holder_view view, struct holder *ret_holder);

/* As a part of something longer, with its size before it. */
void holder_view_put(struct bytes *bytes, struct holder_view view);
/* In place; makes the reader bad when it is not well formed. */
void holder_view_get(struct bytes_reader *reader, struct holder_view *ret_view);
