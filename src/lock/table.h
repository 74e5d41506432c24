/* table.h - who holds what: locks, the clients that own them, the sessions in
 * which they do, and the results kept for retries.
 *
 * A session is a record that locks hang on: when it ends they are free. How
 * long it lives without a sign of life is in it; when that is over, the leader
 * says by an entry, and nothing here looks at a clock. A lease is a lock alone in
 * a session of its own, which goes with it.
 *
 * Who wants a lock that somebody has may wait in its queue, and is a record, too:
 * the change that frees the lock grants it to the first of them. Each waits in a
 * session, so that one who has died stands in nobody's way.
 *
 * A lock that its holder lost, and did not give back, is nobody's for the delay
 * that was asked for with the session: in the log's own time, which stands still
 * while nobody leads.
 *
 * Pure: no clock, no I/O, no limit and no deadline compared when a change is
 * applied (leaving out what is forgotten by a rule in the log's own time). The
 * same changes in the same order give the same table on every node. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/id128.h"
#include "base/name.h"
#include "lock/change.h"

struct lock_table;

/* Where and when a change stands in the log. */
struct lock_moment {
        uint64_t index;
        uint64_t cluster_ms;
        uint64_t wall_ms;
};

/* Borrowed views into the table: valid until it changes. */
struct lock_view {
        const char *name;
        size_t name_size;
        const char *owner;                   /* client id, zero-terminated */
        const char *principal;               /* who took it for the client */
        struct holder_view holder;
        uint64_t token;
        uint64_t waiter;                     /* as which its owner waited for it; 0: it did not */
        uint64_t session;                    /* in which it is held; 0: in none */
        uint32_t ttl_ms;                     /* of that session */
        uint32_t delay_ms;                   /* of that session: nobody gets it for so long when it is lost */
        bool lease;                          /* that is its own */
        bool broken;                         /* which is not renewed any more */
        uint16_t slots;                      /* 0: it is held alone; SLOTS_SHARED, or so many may hold it together */
        size_t holders;                      /* do so */
        uint64_t since_cluster_ms;
        uint64_t since_wall_ms;
};

/* Somebody in the queue of a lock. */
struct lock_waiter_view {
        uint64_t id;
        const char *name;                    /* of the lock, or of the first by name of those it waits for */
        size_t name_size;
        const char *client;
        const char *principal;
        uint64_t session;                    /* in which it waits */
        uint64_t period_ms;
        uint16_t slots;
};

struct lock_session_view {
        uint64_t id;
        const char *client;
        const char *principal;               /* who opened it for the client */
        const char *lock;                    /* LEASE: the name of its lock; else "" */
        size_t lock_size;
        uint64_t token;                      /* LEASE: under which it is held, or the waiter's id; else 0 */
        uint32_t ttl_ms, delay_ms;
        bool lease;
        bool ended;                          /* what it holds is being freed */
        bool broken;                         /* LEASE: it is not to be renewed */
        uint64_t held;                       /* locks in it, and waiters */
};

struct lock_client_view {
        const char *principal;               /* who first spoke for the id */
        uint64_t last_index;
        uint64_t held;                       /* locks it owns, waiters, and sessions */
};

/* When a lock was last granted to somebody who wanted it once in a period. */
struct lock_period_view {
        const char *client;
        uint64_t token;
        uint64_t cluster_ms;
};

/* A lock that was lost, by expiry or by a break at once, and that nobody gets yet. */
struct lock_delay_view {
        const char *client;                  /* who lost it */
        uint64_t token;
        uint64_t until_cluster_ms;
};

struct lock_result_view {
        uint64_t seq;
        enum lock_change_kind kind;
        const char *name;                    /* the lock the request was about; "" for CLIENT */
        size_t name_size;
        const char *client;
        uint64_t token;
        uint64_t index;                      /* of the entry */
};

struct lock_table *lock_table_new(void);
/* Accepts NULL. Returns NULL. */
struct lock_table *lock_table_free(struct lock_table *table);

struct lock_events;
/* From here on everything that becomes of a lock is told there. NULL: nowhere. Borrowed. */
void lock_table_set_events(struct lock_table *table, struct lock_events *events);

/* The only way a running table changes. Once per committed entry, in index order. Cannot fail. */
void lock_table_apply(struct lock_table *table, const struct lock_moment *moment, const struct lock_change *change);

/* False: nobody owns it. Of those who hold it together, the first. */
bool lock_table_find(const struct lock_table *table, const struct lock_name *name, struct lock_view *ret_view);
/* Of those who hold it: the next by token after this one. O(log n). */
bool lock_table_next_hold(const struct lock_table *table, const struct lock_name *name, uint64_t after_token, struct lock_view *ret_view);
/* The hold of this token; what was granted to this waiter; what this client holds of it, or, if session is not 0, what is held in that. */
bool lock_table_find_hold(const struct lock_table *table, const struct lock_name *name, uint64_t token, struct lock_view *ret_view);
bool lock_table_find_waited(const struct lock_table *table, const struct lock_name *name, uint64_t waiter, struct lock_view *ret_view);
bool lock_table_find_of(const struct lock_table *table, const struct lock_name *name, const char *client, uint64_t session, struct lock_view *ret_view);
/* False: never seen, or forgotten. */
bool lock_table_find_client(const struct lock_table *table, const struct client_id *id, struct lock_client_view *ret_view);
bool lock_table_find_result(const struct lock_table *table, struct id128 handle, struct lock_result_view *ret_view);

/* False: not for as long as the grant said that it be remembered. */
bool lock_table_find_period(const struct lock_table *table, const struct lock_name *name, struct lock_period_view *ret_view);
/* False: it is not in its lock-delay at this cluster time. */
bool lock_table_find_delay(const struct lock_table *table, const struct lock_name *name, uint64_t cluster_ms, struct lock_delay_view *ret_view);
bool lock_table_find_session(const struct lock_table *table, uint64_t id, struct lock_session_view *ret_view);
/* The first session with an id above after. O(log n). */
bool lock_table_next_session(const struct lock_table *table, uint64_t after, struct lock_session_view *ret_view);
/* By a waiter's id. False: it is in no queue; when it has got the lock, a lock_view of that tells. */
bool lock_table_find_waiter(const struct lock_table *table, uint64_t id, struct lock_waiter_view *ret_view);
/* Who waits for this lock, in turn: the one behind the waiter of that id (0: the first), as the hold that it would have, with its id for a token. False:
 * there is none, or that one waits no more. */
bool lock_table_next_waiting(const struct lock_table *table, const struct lock_name *name, uint64_t after, struct lock_view *ret_view);
/* The request that this result is of waits still, or has become a hold: its token, else 0. */
uint64_t lock_table_granted(const struct lock_table *table, const struct lock_name *name, uint64_t waiter);
size_t lock_table_queue_length(const struct lock_table *table, const struct lock_name *name);
/* Among those who wait for a lock that has room for them: who may have it at this cluster time. The queue after that of this name (NULL: the
 * first); false: there is no further queue that is held up. ret_waiter->id 0: none of this one may. ret_waiter->name: that of the queue. */
bool lock_table_next_held_up(const struct lock_table *table, const struct lock_name *after, uint64_t cluster_ms, struct lock_waiter_view *ret_waiter);
/* Of those who wait for it, somebody may have this lock at this cluster time, and there is room; or would have it if there were. */
bool lock_table_is_due(const struct lock_table *table, const struct lock_name *name, uint64_t cluster_ms);
/* So many of them may have it, but most at most: those in front who may hold it together. */
size_t lock_table_due_count(const struct lock_table *table, const struct lock_name *name, uint64_t cluster_ms, size_t most);
/* Since this was asked last, a change left a lock with room for one who waits and may have it. */
bool lock_table_take_due(struct lock_table *table);
/* Of those who wait for it: who is to have it next, whether or not there is room by now. */
bool lock_table_find_next(const struct lock_table *table, const struct lock_name *name, uint64_t cluster_ms, struct lock_waiter_view *ret_view);
/* Nobody waits for it, and whoever comes from now on has it at once when there is room. */
bool lock_table_is_open(const struct lock_table *table, const struct lock_name *name);
/* Somebody who wants it once in a period came, and within it was granted to somebody. */
bool lock_table_waits_in_vain(const struct lock_table *table, const struct lock_waiter_view *waiter, uint64_t cluster_ms);
/* The waiters that the last change sent away or let in, and the session, or lease, that it ended, or broke. */
size_t lock_table_settled(const struct lock_table *table, const uint64_t **ret_ids);
/* Of the sessions that have ended and hold something still: the one after that of this id; 0: the first. O(log n). */
bool lock_table_next_ended(const struct lock_table *table, uint64_t after, struct lock_session_view *ret_view);

/* The longest time to live of a session or lease that was ever opened, with its lock-delay: for so long somebody may count on one, or what is on its
 * way of somebody who did may land. 0: there was none. */
uint32_t lock_table_longest_ttl_ms(const struct lock_table *table);
/* Cluster time before which nothing is granted: 0, or after the cluster began anew from a copy that does not know the last leases. */
uint64_t lock_table_quiet_until(const struct lock_table *table);
/* Between clusters only. */
void lock_table_be_quiet(struct lock_table *table, uint64_t until_cluster_ms);

/* The first hold whose name, and of the same name whose token, is greater than after (bytewise; size 0: before all) and starts with prefix. O(log n). */
bool lock_table_next(const struct lock_table *table, const char *prefix, size_t prefix_size, const char *after, size_t after_size,
                     uint64_t after_token, struct lock_view *ret_view);

size_t lock_table_lock_count(const struct lock_table *table);
size_t lock_table_client_count(const struct lock_table *table);
size_t lock_table_result_count(const struct lock_table *table);
size_t lock_table_session_count(const struct lock_table *table);
size_t lock_table_waiter_count(const struct lock_table *table);
size_t lock_table_period_count(const struct lock_table *table);
size_t lock_table_delay_count(const struct lock_table *table);

/* --- after-images for the database and for snapshots (DESIGN D6) --- */

enum lock_image_kind { LOCK_IMAGE_LOCK = 1, LOCK_IMAGE_CLIENT = 2, LOCK_IMAGE_RESULT = 3, LOCK_IMAGE_SESSION = 5, LOCK_IMAGE_PERIOD = 6, LOCK_IMAGE_PROMISE = 7,
                       LOCK_IMAGE_WAITER = 8, LOCK_IMAGE_DELAY = 9, LOCK_IMAGE_SHARE = 10 };

/* One record as it is now. body is authoritative; key, label and number are derived from it for people. */
struct lock_image {
        enum lock_image_kind kind;
        bool deleted;                        /* then only key is set */
        char key[LIMIT_LOCK_NAME_BYTES + 1];
        char label[LIMIT_LOCK_NAME_BYTES + 1];
        uint64_t number;
        struct bytes body;                   /* reused from call to call; the caller frees it at the end */
};

/* Records changed since their last image was taken. */
size_t lock_table_dirty_count(const struct lock_table *table);
/* Takes the image of the record that has been dirty longest. False: there is none. */
bool lock_table_take_image(struct lock_table *table, struct lock_image *image);

/* Fills an empty table: load every image in any order, then finish. False: not well
 * formed, twice the same, columns that differ from the body, or an owner that is missing; the table is then unusable. */
bool lock_table_load(struct lock_table *table, enum lock_image_kind kind, const char *key, const char *label, uint64_t number,
                     const void *body, size_t body_size);
bool lock_table_load_finish(struct lock_table *table);
