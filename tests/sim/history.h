/* history.h - the second model of the locks, which history.c keeps by what is committed, and told.c judges answers by. */
#pragma once

#include <inttypes.h>
#include <string.h>

#include "lock/record.h"
#include "sim.h"

#define HANDLES 65536

/* The locks by a model of their own, as simple as can be: who had it from which index to which. */
struct holding {
        uint64_t index, until;               /* from here on, to before that; UINT64_MAX: still */
        uint64_t token;
        uint16_t slots;
        uint64_t session;                    /* 0: in none */
        uint64_t waiter;                     /* as which its owner waited for it; 0: it did not */
        char owner[LIMIT_CLIENT_ID_BYTES + 1];
};

/* Somebody in a queue. */
struct standing {
        uint64_t id, session, period_ms, cluster_ms, seq;
        unsigned locks;                      /* a bit for each that it waits for, all at once */
        uint16_t slots;
        struct id128 handle;
        struct client_id client;
};

struct history {
        struct standing queue[SIM_LOCKS][SIM_CLIENTS * 64];
        size_t queued[SIM_LOCKS];
        struct holding *holdings[SIM_LOCKS];         /* by token, but for those that were kept */
        size_t count[SIM_LOCKS], capacity[SIM_LOCKS];
        struct {
                uint64_t accepted, refused, cancelled;       /* the last such seq */
                uint64_t waited;                             /* of accepted: it made a waiter */
                uint64_t release, token;                     /* the seq of the last release, and the token that it named */
        } handles[HANDLES];
        struct {
                uint64_t token, cluster_ms, period_ms, end_ms;
        } once[SIM_LOCKS];                   /* the last grant of once in a period; TOKEN 0: none yet */
        struct {
                uint64_t token, until;
        } lost[SIM_LOCKS];                   /* the hold that was lost last, and until when nobody gets the lock */
        uint32_t delays[SIM_ENTRIES];        /* by the id of a session */
        bool leases[SIM_ENTRIES];            /* the same: it is one */
        uint64_t ended[SIM_ENTRIES];         /* by the id of the session: the entry that ended it; 0: none did */
        char first_user[SIM_CLIENTS];        /* of the id of a client: the number of who used it first; 0: nobody did */
};

unsigned history_lock_of(const struct lock_name *name);
unsigned history_locks_of(const struct lock_name *name, struct names_view further);
uint64_t history_handle_of(struct id128 handle);
/* The next at or after that place that has the lock after this entry; NULL: there is none. */
struct holding *history_next_at(const struct history *history, unsigned lock, uint64_t index, size_t *at);
/* The hold of that token; 0: the first of any; NULL: it is not held so. */
struct holding *history_hold_at(const struct history *history, unsigned lock, uint64_t index, uint64_t token);
bool history_holds_at(const struct history *history, unsigned lock, uint64_t index, const char *owner);
/* One more may have it so, as far as those are concerned who have it. */
bool history_has_room(const struct history *history, unsigned lock, uint64_t index, uint16_t slots);
