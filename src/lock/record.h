/* record.h - the records inside a lock table. Internal to lock/. */
#pragma once

#include <bsd/sys/tree.h>
#include <sys/queue.h>

#include "lock/table.h"

/* The principal of everybody who speaks over TCP until TLS names them. */
#define LOCK_PRINCIPAL_TCP "tcp"

/* First member of every record, so that the dirty list can hold all kinds. */
struct record {
        TAILQ_ENTRY(record) dirty;
        enum lock_image_kind kind;
        bool is_dirty;
        bool persisted;                      /* an image of it was handed out: its deletion must be, too */
        bool deleted;                        /* a tombstone, in the dirty list only */
};

struct client_record {
        struct record record;
        RB_ENTRY(client_record) node;
        TAILQ_ENTRY(client_record) idle;
        bool is_idle;
        struct client_id id;
        struct principal principal;          /* size 0 only while loading */
        uint64_t last_index;
        uint64_t held;
};

struct session_record {
        struct record record;
        RB_ENTRY(session_record) node;
        TAILQ_ENTRY(session_record) end;     /* ENDED */
        TAILQ_HEAD(, lock_record) locks;     /* in the order in which they were granted */
        struct client_record *client;        /* NULL only while loading; never idle */
        struct principal principal;
        uint64_t id;
        uint64_t held;
        uint64_t cluster_ms, wall_ms;        /* when it was opened */
        uint32_t ttl_ms;
        bool lease, ended;
        uint16_t holder_size;
        uint8_t holder[];
};

struct lock_record {
        struct record record;
        RB_ENTRY(lock_record) node;
        TAILQ_ENTRY(lock_record) in_session;
        struct client_record *owner;         /* never idle, so it outlives the lock */
        struct session_record *session;      /* NULL: none */
        uint64_t token;
        uint64_t cluster_ms;
        uint64_t wall_ms;
        const char *name;                    /* in data, or a probe's */
        uint16_t holder_size;
        uint8_t name_size, principal_size;
        uint8_t data[];                      /* name, principal, each with a zero behind it; holder */
};

struct result_record {
        struct record record;
        RB_ENTRY(result_record) node;
        TAILQ_ENTRY(result_record) age;
        struct id128 handle;
        uint64_t seq;
        enum lock_change_kind kind;
        struct client_id client;
        struct lock_name name;
        uint64_t token;
        uint64_t index;
        uint64_t cluster_ms;
};

struct period_record {
        struct record record;
        RB_ENTRY(period_record) node, by_end;
        struct lock_name name;
        struct client_id client;
        uint64_t token;
        uint64_t cluster_ms, end_ms;         /* of the grant; when it is forgotten */
};

RB_HEAD(lock_tree, lock_record);
RB_HEAD(client_tree, client_record);
RB_HEAD(result_tree, result_record);
RB_HEAD(session_record_tree, session_record);
RB_HEAD(period_record_tree, period_record);
RB_HEAD(period_end_tree, period_record);

struct lock_table {
        struct lock_tree locks;              /* by name: lookup, and the order of list */
        struct client_tree clients;
        struct result_tree results;
        struct session_record_tree sessions;
        struct period_record_tree periods;   /* by name */
        struct period_end_tree period_ends;
        TAILQ_HEAD(, session_record) ended;  /* and hold something still */
        TAILQ_HEAD(, client_record) idle;    /* own nothing; longest unused first */
        TAILQ_HEAD(, result_record) by_age;  /* oldest first */
        TAILQ_HEAD(, record) dirty;          /* longest dirty first */
        size_t lock_count, client_count, result_count, session_count, period_count, idle_count, dirty_count;
        uint64_t last_index, last_cluster_ms;
        struct {
                struct record record;
                uint32_t longest_ttl_ms;
                uint64_t quiet_until;
        } promise;                           /* about leases, to those who have none in the table */
};

/* Each adds an empty record of that key, or returns NULL when it is there already. */
struct lock_record *lock_table_add_lock(struct lock_table *table, const struct lock_name *name, struct client_record *owner, const struct principal *principal,
                                        struct holder_view holder);
struct client_record *lock_table_add_client(struct lock_table *table, const struct client_id *id);
struct result_record *lock_table_add_result(struct lock_table *table, struct id128 handle);
struct session_record *lock_table_add_session(struct lock_table *table, uint64_t id, struct holder_view holder);
struct session_record *lock_table_get_session(const struct lock_table *table, uint64_t id);
struct session_record *lock_table_session_after(const struct lock_table *table, uint64_t id);
/* By when they are forgotten; NULL begins, and ends. */
struct period_record *lock_table_next_period(struct lock_table *table, struct period_record *period);
/* end_ms: when it is to be forgotten. */
struct period_record *lock_table_add_period(struct lock_table *table, const struct lock_name *name, uint64_t end_ms);
/* Takes it out of the tree; it is the caller's. */
void lock_table_forget_session(struct lock_table *table, struct session_record *session);
/* The lock is held in the session from here on. */
void lock_table_join_session(struct lock_record *lock, struct session_record *session);
/* Parts of its data. */
const char *lock_record_principal(const struct lock_record *lock);
struct holder_view lock_record_holder(const struct lock_record *lock);
struct client_record *lock_table_get_client(const struct lock_table *table, const struct client_id *id);
/* Clients in the order of their ids; NULL begins, and ends. */
struct client_record *lock_table_next_client(struct lock_table *table, struct client_record *client);
