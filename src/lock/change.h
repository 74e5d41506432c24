/* change.h - what one log entry does to the lock table, and its bytes.
 *
 * A change is resolved: it says what happens, not what was asked. Everything an
 * entry needs is in it, so that applying it is the same on every node. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/holder.h"
#include "base/id128.h"
#include "base/name.h"

/* The numbers are those of the log entry kinds. */
enum lock_change_kind {
        LOCK_CHANGE_CLIENT = 4,              /* a client id comes into being, assigned by the leader */
        LOCK_CHANGE_PREEMPT = 5,             /* name has no owner; client owns it from here on, token is the entry's index */
        LOCK_CHANGE_RELEASE = 6,             /* client owns name under token; nobody owns it from here on */
        LOCK_CHANGE_CANCEL = 7,              /* the request of this handle and seq, about name, has not happened and never will */
};

struct lock_change {
        enum lock_change_kind kind;
        struct id128 handle;                 /* request id: remembered with the result, for retries */
        uint64_t seq;
        struct client_id client;
        struct principal principal;          /* who spoke for the client */
        struct lock_name name;               /* all but CLIENT */
        uint64_t token;                      /* RELEASE: the token given back */
        struct holder_view holder;           /* PREEMPT; of a decoded change: a part of the body */
};

/* Appends the entry body. */
void lock_change_put(struct bytes *bytes, const struct lock_change *change);

/* Decodes a whole body. False: it is not a well-formed change of that kind. */
bool lock_change_get(enum lock_change_kind kind, const void *body, size_t size, struct lock_change *ret_change);
