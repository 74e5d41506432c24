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
        LOCK_CHANGE_PREEMPT = 5,             /* name has no owner, or room for one more; client owns it from here on, token is the entry's index; as long as session
                                              * lives, or, with a ttl, that of a lease, which has the token for its id */
        LOCK_CHANGE_RELEASE = 6,             /* client owns name under token; nobody owns it from here on */
        LOCK_CHANGE_CANCEL = 7,              /* the request of this handle and seq, about name, has not happened and never will */
        LOCK_CHANGE_OPEN = 8,                /* a session of client, with the entry's index for its id */
        LOCK_CHANGE_CLOSE = 9,               /* session has ended, since client wants it; so has what it holds, as far as one entry may */
        LOCK_CHANGE_EXPIRE = 10,             /* the same since nobody renewed it; or, when it has ended already, more of what it holds */
        LOCK_CHANGE_WAIT = 11,               /* client stands in the queue of name, as the waiter with the entry's index for its id, as long as
                                              * session lives, or, with a ttl, that of a lease, which has the same id */
        LOCK_CHANGE_LEAVE = 12,              /* the waiter whose id is token does not want name any more, nor what was granted to it in the meantime */
        LOCK_CHANGE_KEEP = 13,               /* client owns name under token until it is released, in no session */
        LOCK_CHANGE_GRANT = 14,              /* name has room, and its queue was held up: whoever may have it now has it from here on */
        LOCK_CHANGE_BREAK = 15,              /* client, who need not own name, takes it from whoever does under token: at once, or, when it is a lease,
                                              * by having it renewed no more */
};

/* Locks that one entry may free, waiters that it may send away, and locks that it may grant to them: some eight records each. What belongs together
 * goes together, so it may be less than LIMIT_LOCKS_AT_ONCE more of the first two. */
#define LOCK_FREED_PER_ENTRY (LIMIT_ENTRY_RECORDS / 8)

/* A request that becomes no change: the session shall live for its time to live from now on. */
#define LOCK_RENEW ((enum lock_change_kind)64)

/* It is about one lock, and names it. */
static inline bool lock_change_names(enum lock_change_kind kind)
{
        return kind == LOCK_CHANGE_PREEMPT || kind == LOCK_CHANGE_RELEASE || kind == LOCK_CHANGE_CANCEL || kind == LOCK_CHANGE_WAIT ||
               kind == LOCK_CHANGE_LEAVE || kind == LOCK_CHANGE_KEEP || kind == LOCK_CHANGE_GRANT ||
               kind == LOCK_CHANGE_BREAK;
}

/* Its holder wants a lock: at once or in its turn. */
static inline bool lock_change_wants(enum lock_change_kind kind)
{
        return kind == LOCK_CHANGE_PREEMPT || kind == LOCK_CHANGE_WAIT;
}

/* The leader's own, of nobody's asking: no request id, and no result to remember. */
static inline bool lock_change_is_leaders(enum lock_change_kind kind)
{
        return kind == LOCK_CHANGE_EXPIRE || kind == LOCK_CHANGE_GRANT;
}

/* It ends a session. */
static inline bool lock_change_ends(enum lock_change_kind kind)
{
        return kind == LOCK_CHANGE_CLOSE || kind == LOCK_CHANGE_EXPIRE;
}

struct lock_change {
        enum lock_change_kind kind;
        struct id128 handle;                 /* request id: remembered with the result, for retries; the leader's own: null */
        uint64_t seq;                        /* the leader's own: 0 */
        struct client_id client;             /* GRANT: of the waiter that gets it, if all is as the leader saw it */
        struct principal principal;          /* who spoke for the client */
        struct lock_name name;               /* of those that name a lock; EXPIRE: of a lease, else empty */
        bool now;                            /* BREAK: at once */
        uint64_t token;                      /* RELEASE, KEEP, BREAK: of the hold; LEAVE: the waiter's id; CANCEL: that of the waiter that goes with it, or 0 */
        uint64_t session;                    /* CLOSE, EXPIRE: which; PREEMPT, WAIT: in which, or 0; BREAK, in no body: of the lease that ends with it, or 0 */
        uint32_t ttl_ms;                     /* OPEN; PREEMPT, WAIT: of the lease, or 0, and 0 in a session */
        uint32_t delay_ms;                   /* with a ttl: what is lost in this session, and not given back, nobody gets for so long; or 0 */
        struct names_view further;           /* PREEMPT, WAIT: of the locks that are wanted with that of name, all or nothing: then each alone, and not once in a
                                              * period; of a decoded change: a part of the body */
        uint16_t slots;                      /* PREEMPT, WAIT: 0 alone; together with others who say the same: SLOTS_SHARED, or so many at most */
        uint64_t period_ms;                  /* PREEMPT, WAIT: its grant is remembered for so long of cluster time, for those who want it once in a period; or 0 */
        struct holder_view holder;           /* PREEMPT, WAIT, OPEN; BREAK: who breaks it, and for which reason; of a decoded change: a part of the body */
};

/* The token, or the id of a session or a waiter, that the entry at index grants or ends; 0: none. */
uint64_t lock_change_token(const struct lock_change *change, uint64_t index);

/* Appends the entry body. */
void lock_change_put(struct bytes *bytes, const struct lock_change *change);

/* Decodes a whole body. False: it is not a well-formed change of that kind. */
bool lock_change_get(enum lock_change_kind kind, const void *body, size_t size, struct lock_change *ret_change);
