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
        LOCK_CHANGE_PREEMPT = 5,             /* name has no owner; client owns it from here on, token is the entry's index; as long as session
                                              * lives, or, with a ttl, that of a lease, which has the token for its id */
        LOCK_CHANGE_RELEASE = 6,             /* client owns name under token; nobody owns it from here on */
        LOCK_CHANGE_CANCEL = 7,              /* the request of this handle and seq, about name, has not happened and never will */
        LOCK_CHANGE_OPEN = 8,                /* a session of client, with the entry's index for its id */
        LOCK_CHANGE_CLOSE = 9,               /* session has ended, since client wants it; so has what it holds, as far as one entry may */
        LOCK_CHANGE_EXPIRE = 10,             /* the same since nobody renewed it; or, when it has ended already, more of what it holds */
};

/* A request that becomes no change: the session shall live for its time to live from now on. */
#define LOCK_RENEW ((enum lock_change_kind)64)

/* It is about one lock, and names it. */
static inline bool lock_change_names(enum lock_change_kind kind)
{
        return kind == LOCK_CHANGE_PREEMPT || kind == LOCK_CHANGE_RELEASE || kind == LOCK_CHANGE_CANCEL;
}

/* It ends a session. */
static inline bool lock_change_ends(enum lock_change_kind kind)
{
        return kind == LOCK_CHANGE_CLOSE || kind == LOCK_CHANGE_EXPIRE;
}

struct lock_change {
        enum lock_change_kind kind;
        struct id128 handle;                 /* request id: remembered with the result, for retries; EXPIRE: null */
        uint64_t seq;                        /* EXPIRE: 0 */
        struct client_id client;
        struct principal principal;          /* who spoke for the client */
        struct lock_name name;               /* PREEMPT, RELEASE, CANCEL; EXPIRE: of a lease, else empty */
        uint64_t token;                      /* RELEASE: the token given back */
        uint64_t session;                    /* CLOSE, EXPIRE: which; PREEMPT: in which, or 0 */
        uint32_t ttl_ms;                     /* OPEN; PREEMPT: of the lease, or 0, and 0 in a session */
        uint64_t period_ms;                  /* PREEMPT: it is remembered for so long of cluster time, for those who want it once in a period; or 0 */
        struct holder_view holder;           /* PREEMPT, OPEN; of a decoded change: a part of the body */
};

/* The token, or the id of a session, that the entry at index grants or ends; 0: none. */
uint64_t lock_change_token(const struct lock_change *change, uint64_t index);

/* Appends the entry body. */
void lock_change_put(struct bytes *bytes, const struct lock_change *change);

/* Decodes a whole body. False: it is not a well-formed change of that kind. */
bool lock_change_get(enum lock_change_kind kind, const void *body, size_t size, struct lock_change *ret_change);
