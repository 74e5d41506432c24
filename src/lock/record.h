/* record.h - the records inside a lock table. Internal to lock/. */
#pragma once

#include <bsd/sys/tree.h>
#include <sys/queue.h>

#include "lock/events.h"
#include "lock/table.h"

/* The principal of everybody who speaks over TCP until TLS names them. */
#define LOCK_PRINCIPAL_TCP "tcp"
/* Each lock that is freed may let somebody in; and a session or lease ends. */
#define LOCK_SETTLED_MAX (2 * (LOCK_FREED_PER_ENTRY + LIMIT_LOCKS_AT_ONCE) + 1)

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
        TAILQ_HEAD(lock_list, lock_record) locks; /* in the order in which they were granted; of one entry, by name */
        TAILQ_HEAD(, waiter_record) waiters; /* in the order in which they came */
        struct client_record *client;        /* NULL only while loading; never idle */
        struct principal principal;
        uint64_t id;
        uint64_t held;                       /* locks, and waiters */
        uint64_t cluster_ms, wall_ms;        /* when it was opened */
        uint32_t ttl_ms, delay_ms;
        bool lease, ended;
        bool broken;                         /* LEASE: it is not to be renewed */
        bool closed;                         /* ENDED: by its client */
        uint16_t holder_size;
        uint8_t holder[];
};

/* Those who hold one lock together; there is none without them. Derived: it has no image of its own. */
struct crowd_record {
        uint16_t slots;
        size_t count;
};

/* Who holds a lock: one of several, when it is held together. */
struct lock_record {
        struct record record;
        RB_ENTRY(lock_record) node, by_waiter;
        TAILQ_ENTRY(lock_record) in_session;
        struct crowd_record *crowd;          /* NULL: it is held by one alone */
        struct client_record *owner;         /* never idle, so it outlives the lock */
        struct session_record *session;      /* NULL: none */
        uint64_t token;
        uint64_t waiter;                     /* as which its owner waited for it; 0: it did not */
        uint64_t cluster_ms;
        uint64_t wall_ms;
        const char *name;                    /* in data, or a probe's */
        uint16_t holder_size;
        uint8_t name_size, principal_size;
        uint8_t data[];                      /* name, principal, each with a zero behind it; holder */
};

/* Where somebody stands in the queue of a lock. */
struct place {
        TAILQ_ENTRY(place) in_queue;
        struct queue_record *queue;
        struct waiter_record *waiter;
        bool is_aside;
};

/* Somebody who waits: for one lock, or for several at once. */
struct waiter_record {
        struct record record;
        RB_ENTRY(waiter_record) node;
        TAILQ_ENTRY(waiter_record) in_session;
        struct place first, *further;        /* FURTHER: its own */
        unsigned further_count;
        struct client_record *client;        /* never idle */
        struct session_record *session;      /* never NULL: who dies goes with it */
        struct principal principal;
        uint64_t id;
        struct id128 handle;                 /* of the request that waits */
        uint64_t seq;
        uint64_t cluster_ms, wall_ms;        /* when it came */
        uint64_t period_ms;
        uint16_t slots;
        uint16_t holder_size;
        uint8_t holder[];
};

/* Those who wait for one lock; there is none without them. Derived: it has no image of its own. */
struct queue_record {
        RB_ENTRY(queue_record) node;
        TAILQ_ENTRY(queue_record) held_up_link;
        TAILQ_HEAD(place_list, place) places; /* in the order in which they came: by the waiter's id */
        struct place_list aside;             /* of sessions that have ended, found so: passed over until they go, and looked at once */
        bool held_up;                        /* there is room: none of the waiters could have it yet, or the leader is to say who has */
        size_t count;
        struct lock_name name;
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

/* L1: a lock that was lost: its holder's session expired, or it was broken at once. What that has on its way may still land. */
struct delay_record {
        struct record record;
        RB_ENTRY(delay_record) node, by_end;
        struct lock_name name;
        struct client_id client;             /* who lost it */
        uint64_t token;
        uint64_t end_ms;                     /* cluster time from which on somebody may have it */
};

RB_HEAD(lock_tree, lock_record);
RB_HEAD(waited_tree, lock_record);
RB_HEAD(client_tree, client_record);
RB_HEAD(result_tree, result_record);
RB_HEAD(session_record_tree, session_record);
RB_HEAD(waiter_tree, waiter_record);
RB_HEAD(queue_tree, queue_record);
RB_HEAD(period_record_tree, period_record);
RB_HEAD(period_end_tree, period_record);
RB_HEAD(delay_record_tree, delay_record);
RB_HEAD(delay_end_tree, delay_record);

struct lock_table {
        struct lock_tree locks;              /* by name and token: lookup, and the order of list */
        struct waited_tree waited;           /* those that were waited for, by waiter and name */
        struct client_tree clients;
        struct result_tree results;
        struct session_record_tree sessions;
        struct waiter_tree waiters;          /* by id */
        struct queue_tree queues;            /* by name */
        TAILQ_HEAD(, queue_record) held_up;
        struct period_record_tree periods;   /* by name */
        struct period_end_tree period_ends;
        struct delay_record_tree delays;     /* by name */
        struct delay_end_tree delay_ends;
        TAILQ_HEAD(, session_record) ended;  /* and hold something still */
        TAILQ_HEAD(, client_record) idle;    /* own nothing; longest unused first */
        TAILQ_HEAD(, result_record) by_age;  /* oldest first */
        TAILQ_HEAD(, record) dirty;          /* longest dirty first */
        size_t lock_count, client_count, result_count, session_count, waiter_count, period_count, delay_count, idle_count, dirty_count;
        uint64_t last_index, last_cluster_ms, last_wall_ms;
        struct lock_events *events;          /* or NULL; not the table's */
        enum lock_event_kind cause;          /* why locks go away, in the change that is applied */
        uint64_t settled[LOCK_SETTLED_MAX];  /* as lock_table_settled tells them */
        size_t settled_count;
        size_t granted_count;                /* locks that the last change granted from queues */
        bool is_due;                         /* a change left a queue of which somebody may be let in */
        struct {
                struct record record;
                uint32_t longest_ttl_ms;     /* with the lock-delay */
                uint64_t quiet_until;
        } promise;                           /* about leases, to those who have none in the table */
};

/* Who holds a lock, and how, in a new record. */
struct hold {
        const struct lock_name *name;
        const struct principal *principal;
        struct client_record *owner;
        uint64_t token;
        uint64_t waiter;                     /* as which it was waited for, or 0 */
        uint16_t slots;
        struct holder_view holder;
};

/* NULL: there is no room for it (promise 1), or it is there already. */
struct lock_record *lock_table_add_lock(struct lock_table *table, const struct hold *hold);
/* Each adds an empty record of that key, or returns NULL when it is there already. */
struct client_record *lock_table_add_client(struct lock_table *table, const struct client_id *id);
struct result_record *lock_table_add_result(struct lock_table *table, struct id128 handle);
struct session_record *lock_table_add_session(struct lock_table *table, uint64_t id, struct holder_view holder);
struct session_record *lock_table_get_session(const struct lock_table *table, uint64_t id);
struct session_record *lock_table_session_after(const struct lock_table *table, uint64_t id);
/* At the end of the queue of name, and of those of the further names. */
struct waiter_record *lock_table_add_waiter(struct lock_table *table, uint64_t id, const struct lock_name *name, struct names_view further,
                                            struct client_record *client, struct session_record *session, struct holder_view holder);
/* i: from 0 on; NULL: it stands in no more queues. */
struct place *lock_table_place(const struct waiter_record *waiter, unsigned i);
/* Its session has ended: it is passed over from here on. */
void lock_table_step_aside(struct place *place);
/* The queue is held up when there is room for one who waits in it and is not behind others. */
void lock_table_look_after_queue(struct lock_table *table, struct queue_record *queue);
struct waiter_record *lock_table_waiter_after(const struct lock_table *table, uint64_t id);
/* By when they are forgotten; NULL begins, and ends. */
struct period_record *lock_table_next_period(struct lock_table *table, struct period_record *period);
/* end_ms: when it is to be forgotten. */
struct period_record *lock_table_add_period(struct lock_table *table, const struct lock_name *name, uint64_t end_ms);
/* The same of delays. */
struct delay_record *lock_table_next_delay(struct lock_table *table, struct delay_record *delay);
struct delay_record *lock_table_add_delay(struct lock_table *table, const struct lock_name *name, uint64_t end_ms);
/* Takes it out of the tree; it is the caller's. */
void lock_table_forget_session(struct lock_table *table, struct session_record *session);
/* The lock is held in the session from here on. */
void lock_table_join_session(struct lock_record *lock, struct session_record *session);
/* The order of those of a session: an entry may grant it several, all with its index for their token. */
int lock_record_compare_grants(const struct lock_record *a, const struct lock_record *b);
/* Parts of its data. */
const char *lock_record_principal(const struct lock_record *lock);
struct holder_view lock_record_holder(const struct lock_record *lock);
struct client_record *lock_table_get_client(const struct lock_table *table, const struct client_id *id);
/* Clients in the order of their ids; NULL begins, and ends. */
struct client_record *lock_table_next_client(struct lock_table *table, struct client_record *client);

/* NULL: there is none. Of those who hold it together, the first. */
struct lock_record *lock_table_get_lock(const struct lock_table *table, const char *name, size_t size);
/* The hold of that token. */
struct lock_record *lock_table_get_hold(const struct lock_table *table, const struct lock_name *name, uint64_t token);
/* What was granted to this waiter, of that name; or the first by name. */
struct lock_record *lock_table_get_waited(const struct lock_table *table, const struct lock_name *name, uint64_t waiter);
struct lock_record *lock_table_first_waited(const struct lock_table *table, uint64_t waiter);
/* Another of those who hold it together; NULL: that was the last. */
struct lock_record *lock_table_next_holder(struct lock_record *lock);
/* Who wants the lock so may hold it together with those who do. */
bool lock_table_has_room(const struct lock_table *table, const struct lock_name *name, uint16_t slots);
struct result_record *lock_table_get_result(const struct lock_table *table, struct id128 handle);
struct waiter_record *lock_table_get_waiter(const struct lock_table *table, uint64_t id);
struct queue_record *lock_table_next_queue(struct lock_table *table, struct queue_record *queue);
struct queue_record *lock_table_get_queue(const struct lock_table *table, const struct lock_name *name);
struct period_record *lock_table_get_period(const struct lock_table *table, const struct lock_name *name);
struct delay_record *lock_table_get_delay(const struct lock_table *table, const struct lock_name *name);
/* The first hold from this name and token on; behind: after it. */
struct lock_record *lock_table_seek_lock(const struct lock_table *table, const char *name, size_t size, uint64_t token, bool behind);

/* Out of its tree; it is the caller's. */
void lock_table_drop_lock(struct lock_table *table, struct lock_record *lock);
void lock_table_drop_client(struct lock_table *table, struct client_record *client);
void lock_table_drop_result(struct lock_table *table, struct result_record *result);
void lock_table_drop_waiter(struct lock_table *table, struct waiter_record *waiter);
void lock_table_drop_queue(struct lock_table *table, struct queue_record *queue);
void lock_table_drop_period(struct lock_table *table, struct period_record *period);
void lock_table_drop_delay(struct lock_table *table, struct delay_record *delay);
/* It is to be forgotten then. */
void lock_table_move_period(struct lock_table *table, struct period_record *period, uint64_t end_ms);
void lock_table_move_delay(struct lock_table *table, struct delay_record *delay, uint64_t end_ms);

void lock_table_mark_dirty(struct lock_table *table, struct record *record);
/* The record has left its tree. It lives on as a tombstone until its deletion was handed out, unless the database has never heard of it. */
void lock_table_bury(struct lock_table *table, struct record *record);

/* Who is next to get the lock, whether or not there is room by now; NULL: nobody may have it yet. */
struct waiter_record *lock_table_first_in_queue(const struct lock_table *table, const struct queue_record *queue, uint64_t cluster_ms);
/* The same; NULL also: there is no room, or not its turn for one of the other locks that it waits for. */
struct waiter_record *lock_table_next_in_queue(const struct lock_table *table, const struct queue_record *queue, uint64_t cluster_ms);
/* Nobody gets it yet, since it was lost. NULL: that is over, or never was. */
const struct delay_record *lock_table_delay_of(const struct lock_table *table, const struct lock_name *name, uint64_t cluster_ms);
/* The same, by what was looked up before: for who asks for many that wait for one lock. NULL: nobody holds it, or it is not remembered. */
bool lock_record_has_room(const struct lock_record *held, uint16_t slots);
bool lock_record_is_in_vain(const struct period_record *period, uint64_t period_ms, uint64_t cluster_ms);
/* Who wants it once in so long comes too soon. */
bool lock_table_is_in_vain(const struct lock_table *table, const struct lock_name *name, uint64_t period_ms, uint64_t cluster_ms);
