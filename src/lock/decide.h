/* decide.h - may this change be made? Pure: reads table and overlay, changes nothing.
 *
 * Only a leader decides, on everything it has appended; what it says is true once
 * the entry it rests on is committed. */
#pragma once

#include "lock/overlay.h"
#include "lock/table.h"

struct lock_request {
        enum lock_change_kind kind;          /* CLIENT to CLOSE, KEEP, BREAK; or LOCK_RENEW, which has no handle and no seq */
        struct id128 handle;                 /* CANCEL: handle and seq of the request that shall not happen */
        uint64_t seq;
        struct client_id client;             /* CLIENT: the id to be assigned */
        struct principal principal;
        struct lock_name name;               /* PREEMPT, RELEASE, CANCEL, KEEP */
        uint64_t token;                      /* RELEASE: of the hold, or the id of the waiter, that is given up; no other one is, however late this comes. KEEP, BREAK: of the hold */
        uint64_t session;                    /* CLOSE, RENEW; PREEMPT: in which, or 0 */
        uint32_t ttl_ms;                     /* OPEN; PREEMPT: of the lease, or 0 */
        uint32_t delay_ms;                   /* with a ttl: when it is lost, for how long nobody gets it; or 0 */
        struct names_view further;           /* PREEMPT: as in struct lock_change; borrowed, as its holder is */
        uint16_t slots;                      /* PREEMPT: as in struct lock_change */
        bool if_waits;                       /* RELEASE: only of a waiter that has not got the lock yet: who may have been told of that, and have died since, gave nothing back */
        bool now;                            /* BREAK: at once, though its holder may count on its lease */
        bool wait;                           /* PREEMPT: in the queue, if need be; only in a session or with a ttl */
        uint64_t period_ms;                  /* PREEMPT: only if no grant with a period is younger than this; or 0 */
        uint64_t cluster_ms;                 /* now, as its leader knows it */
        struct holder_view holder;           /* PREEMPT, OPEN, BREAK */
};

enum lock_verdict {
        LOCK_ACCEPTED,                       /* change is to be appended */
        LOCK_REPEATED,                       /* the same request was accepted before, at index: the same answer again; CANCEL: token is 0
                                              * when it was cancelled before, and not 0 when the request had happened */
        LOCK_HELD,                           /* PREEMPT: owner has it, or one of those that were asked for, maybe the client itself; without an owner: somebody
                                              * waits for it, and for others that it has not got yet */
        LOCK_REENTERED,                      /* PREEMPT: the very session has it already, under token */
        LOCK_QUIET,                          /* PREEMPT: nothing is granted yet, since leases of before may be counted on */
        LOCK_DELAYED,                        /* PREEMPT: owner lost it, and nobody gets it yet: token is that of the hold that was lost */
        LOCK_TOO_SOON,                       /* PREEMPT: nobody owns it, or it was to wait, but it was granted within the period, to owner under token */
        LOCK_NOT_OWNER,                      /* RELEASE, KEEP: nobody owns it, somebody else, or the client under another token; BREAK: nobody under this token */
        LOCK_NOT_ALONE,                      /* BREAK: it is held in a session with others, and can only be broken at once */
        LOCK_FOREIGN_CLIENT,                 /* the client id belongs to another principal */
        LOCK_FULL,                           /* a limit of limits.h */
        LOCK_NO_SESSION,                     /* PREEMPT, CLOSE, RENEW: the client has no such session, or has it no more; PREEMPT: it is a lease; KEEP: it was broken */
        LOCK_RENEWED,                        /* RENEW: the session lives */
        LOCK_OTHER_TTL,                      /* RENEW: it lives, but for token milliseconds: whoever counts on more would count on too much */
        LOCK_LATER,                          /* who owns the lock hangs on what is under way: to be decided again when something of that was applied */
        LOCK_UNKNOWABLE,                     /* a retry from before the window: it may have happened or not */
};

struct lock_decision {
        enum lock_verdict verdict;
        struct lock_change change;           /* ACCEPTED */
        struct client_id owner;              /* HELD; NOT_OWNER: size 0 when nobody owns it; REPEATED: the client of a preempt */
        uint64_t token;                      /* of that ownership; REPEATED: as first answered */
        uint64_t index;                      /* REPEATED: of the entry */
        uint64_t until_cluster_ms;           /* DELAYED: nobody gets it before */
        bool waits;                          /* REPEATED: index is that of a waiter, who may have the lock by now: token, unless that is 0 */
};

void lock_decide(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request,
                 struct lock_decision *ret_decision);
