/* session_internal.h - what session.c, which has the connections of clients, and ask.c, which has what is asked on them, share. */
#pragma once

#include <sys/queue.h>

#include "dlockd/departed.h"
#include "dlockd/session.h"
#include "dlockd/watch.h"
#include "net/stream.h"
#include "wire/wire.h"

/* A request that waits for its answer. Its address is the tag the replica gives back. */
struct waiting {
        TAILQ_ENTRY(waiting) link, page_link;
        struct session *session;
        uint64_t tag;                        /* the client's */
        enum wire_type type;
        struct wire_request *request;        /* reads: what was asked; NULL for changes */
        bool due, fresh;                     /* a list in table->pages */
        bool parked;                         /* WATCH: in table->watch */
        bool counted_out;                    /* WATCH, AWAIT: not in the counts of what waits */
        uint64_t bound;                      /* AWAIT: this waiter, or session, is given up when the session's process has ended; 0: it is not */
        bool of_session;                     /* BOUND is one */
        struct lock_request *wants;          /* PREEMPT that is ready to wait: the same; NULL: it is not */
        struct watcher watcher;
        uint64_t deadline;                   /* WATCH */
};

struct session {
        struct session_table *table;
        struct stream stream;
        uint64_t id;
        uint32_t events;                     /* as epoll knows them */
        bool greeted, assigning, dirty, closing;
        bool backup;                         /* it has asked for one */
        uint64_t hello_by;
        struct client_id client;
        struct principal principal;
        TAILQ_HEAD(, waiting) waiting;
        size_t waiting_count;
        size_t watches;                      /* of waiting; those that are parked are not counted there */
        size_t awaits;                       /* of waiting; not counted there */
        pid_t pid;                           /* of the process at the other end, as it and the kernel say; 0: not known */
        uint64_t *waiters;                   /* those of its that it was told of, and has not asked about yet */
        size_t waiter_count, waiter_capacity;
        size_t waiting_rows;                 /* the most that the pages asked for may have */
        uint64_t sent_ms;                    /* when something was sent last, or all was */
        TAILQ_ENTRY(session) dirty_link, strange_link;
};

struct slot {
        struct session *session;
        uint32_t generation;
        uint32_t next_free;
};

struct session_table {
        struct daemon *daemon;
        int epoll;
        struct loop_source *source;
        struct listen_sockets sockets;
        struct slot *slots;
        uint32_t slot_count, first_free;
        size_t count, count_max;
        size_t waiting_count;                /* of all sessions */
        struct watch_table *watch;
        struct departed_table *departed;
        size_t watches, awaits;              /* of all sessions */
        TAILQ_HEAD(, waiting) pages;         /* due, in the order of their turn */
        TAILQ_HEAD(, session) dirty, strange;
        uint64_t now, stall_look;
        uint64_t accept_again, starved_say;  /* 0: listening */
        bool held;                           /* no request is taken now */
        bool stopped;
};

/* --- session.c --- */

/* NULL: it is closed. */
struct session *session_find(const struct session_table *table, uint64_t id);
/* Where its next frame goes; it is sent at the end of the turn. */
struct bytes *session_out(struct session *session);
/* The last that is said on it. */
void session_refuse(struct session *session, enum wire_refusal_code code, const char *reason);
/* The client has an id, and may ask. */
void session_welcome(struct session *session);

/* --- ask.c --- */

/* False: the session is to be closed. */
bool ask_request(struct session *session, const struct wire_frame *frame);
/* Pages that are due, some of them. Once per turn. */
void ask_write_pages(struct session_table *table);
void ask_forget(struct session *session, struct waiting *waiting);
/* The connection is about to be closed, by whom ever. */
void ask_gone(const struct session *session);
/* What the watchers of the table's watch belong to. */
extern const struct watch_owner ask_watch_owner;
