/* decide.h - may this change be made? Pure: reads table and overlay, changes nothing.
 *
 * Only a leader decides, on everything it has appended; what it says is true once
 * the entry it rests on is committed. */
#pragma once

#include "lock/overlay.h"
#include "lock/table.h"

struct lock_request {
        enum lock_change_kind kind;          /* never EXPIRE; or LOCK_RENEW, which has no handle and no seq */
        struct id128 handle;                 /* CANCEL: handle and seq of the request that shall not happen */
        uint64_t seq;
        struct client_id client;             /* CLIENT: the id to be assigned */
        struct principal principal;
        struct lock_name name;               /* PREEMPT, RELEASE, CANCEL */
        uint64_t token;                      /* RELEASE: of the hold that is given up; no other one is, however late this comes */
        uint64_t session;                    /* CLOSE, RENEW; PREEMPT: in which, or 0 */
        uint32_t ttl_ms;                     /* OPEN; PREEMPT: of the lease, or 0 */
        uint64_t period_ms;                  /* PREEMPT: only if no grant with a period is younger than this; or 0 */
        uint64_t cluster_ms;                 /* now, as its leader knows it */
        struct holder_view holder;           /* PREEMPT, OPEN */
};

enum lock_verdict {
        LOCK_ACCEPTED,                       /* change is to be appended */
        LOCK_REPEATED,                       /* the same request was accepted before, at index: the same answer again; CANCEL: token is 0
                                              * when it was cancelled before, and not 0 when the request had happened */
        LOCK_HELD,                           /* PREEMPT: owner has it, maybe the client itself */
        LOCK_QUIET,                          /* PREEMPT: nothing is granted yet, since leases of before may be counted on */
        LOCK_TOO_SOON,                       /* PREEMPT: nobody owns it, but it was granted within the period, to owner under token */
        LOCK_NOT_OWNER,                      /* RELEASE: nobody owns it, somebody else, or the client under another token */
        LOCK_FOREIGN_CLIENT,                 /* the client id belongs to another principal */
        LOCK_FULL,                           /* a limit of limits.h */
        LOCK_NO_SESSION,                     /* PREEMPT, CLOSE, RENEW: the client has no such session, or has it no more; PREEMPT: it is a lease */
        LOCK_RENEWED,                        /* RENEW: the session lives */
        LOCK_LATER,                          /* PREEMPT, RELEASE: the lock's session has ended, and frees it soon: to be decided again then */
        LOCK_UNKNOWABLE,                     /* a retry from before the window: it may have happened or not */
};

struct lock_decision {
        enum lock_verdict verdict;
        struct lock_change change;           /* ACCEPTED */
        struct client_id owner;              /* HELD; NOT_OWNER: size 0 when nobody owns it; REPEATED: the client of a preempt */
        uint64_t token;                      /* of that ownership; REPEATED: as first answered */
        uint64_t index;                      /* REPEATED: of the entry */
};

void lock_decide(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request,
                 struct lock_decision *ret_decision);
