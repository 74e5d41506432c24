/* table.h - who holds what: locks, the clients that own them, the sessions in
 * which they do, and the results kept for retries.
 *
 * A session is a record that locks hang on: when it ends they are free. How
 * long it lives without a sign of life is in it; when that is over, the leader
 * says by an entry, and nothing here looks at a clock. A lease is a lock alone in
 * a session of its own, which goes with it.
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
        uint64_t session;                    /* in which it is held; 0: in none */
        uint32_t ttl_ms;                     /* of that session */
        uint64_t since_cluster_ms;
        uint64_t since_wall_ms;
};

struct lock_session_view {
        uint64_t id;
        const char *client;
        const char *principal;               /* who opened it for the client */
        const char *lock;                    /* LEASE: the name of its lock; else "" */
        size_t lock_size;
        uint32_t ttl_ms;
        bool lease;
        bool ended;                          /* what it holds is being freed */
        uint64_t held;                       /* locks in it */
};

struct lock_client_view {
        const char *principal;               /* who first spoke for the id */
        uint64_t last_index;
        uint64_t held;                       /* locks it owns, and sessions */
};

/* When a lock was last granted to somebody who wanted it once in a period. */
struct lock_period_view {
        const char *client;
        uint64_t token;
        uint64_t cluster_ms;
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

/* The only way a running table changes. Once per committed entry, in index order. Cannot fail. */
void lock_table_apply(struct lock_table *table, const struct lock_moment *moment, const struct lock_change *change);

/* False: nobody owns it. */
bool lock_table_find(const struct lock_table *table, const struct lock_name *name, struct lock_view *ret_view);
/* False: never seen, or forgotten. */
bool lock_table_find_client(const struct lock_table *table, const struct client_id *id, struct lock_client_view *ret_view);
bool lock_table_find_result(const struct lock_table *table, struct id128 handle, struct lock_result_view *ret_view);

/* False: not for as long as the grant said that it be remembered. */
bool lock_table_find_period(const struct lock_table *table, const struct lock_name *name, struct lock_period_view *ret_view);
bool lock_table_find_session(const struct lock_table *table, uint64_t id, struct lock_session_view *ret_view);
/* The first session with an id above after. O(log n). */
bool lock_table_next_session(const struct lock_table *table, uint64_t after, struct lock_session_view *ret_view);
/* Of the sessions that have ended and hold something still: the one after that of this id; 0: the first. O(log n). */
bool lock_table_next_ended(const struct lock_table *table, uint64_t after, struct lock_session_view *ret_view);

/* The longest time to live of a session or lease that was ever opened: for so long somebody may count on one. 0: there was none. */
uint32_t lock_table_longest_ttl_ms(const struct lock_table *table);
/* Cluster time before which nothing is granted: 0, or after the cluster began anew from a copy that does not know the last leases. */
uint64_t lock_table_quiet_until(const struct lock_table *table);
/* Between clusters only. */
void lock_table_be_quiet(struct lock_table *table, uint64_t until_cluster_ms);

/* The first owned lock whose name is greater than after (bytewise; size 0: before all) and starts with prefix. O(log n). */
bool lock_table_next(const struct lock_table *table, const char *prefix, size_t prefix_size, const char *after, size_t after_size,
                     struct lock_view *ret_view);

size_t lock_table_lock_count(const struct lock_table *table);
size_t lock_table_client_count(const struct lock_table *table);
size_t lock_table_result_count(const struct lock_table *table);
size_t lock_table_session_count(const struct lock_table *table);
size_t lock_table_period_count(const struct lock_table *table);

/* --- after-images for the database and for snapshots (DESIGN D6) --- */

enum lock_image_kind { LOCK_IMAGE_LOCK = 1, LOCK_IMAGE_CLIENT = 2, LOCK_IMAGE_RESULT = 3, LOCK_IMAGE_SESSION = 5, LOCK_IMAGE_PERIOD = 6, LOCK_IMAGE_PROMISE = 7 };

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
