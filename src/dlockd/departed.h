/* departed.h - what a process of this host leaves behind when it dies: its places in queues, and the sessions that were to end with it, are given up
 * in its name at once. Elsewhere, and when this node cannot, they end by their time to live.
 *
 * A process is the one at the other end of a Unix socket, if it says so itself: a relay says another number than the kernel. It is not taken
 * for dead because a connection was closed: the kernel says when it has ended. */
#pragma once

#include <sys/types.h>

#include "dlockd/daemon.h"

/* The session of the origin of what is asked here: that of no connection. */
#define DEPARTED_ORIGIN UINT64_C(1)

struct departed_table;

struct departed_table *departed_table_new(struct daemon *daemon);
/* Accepts NULL; returns NULL. */
struct departed_table *departed_table_free(struct departed_table *table);

/* The process at the other end of a Unix socket; 0: it is not one, or of another namespace. */
pid_t departed_process_of(int fd);

struct departed_id {
        uint64_t id;
        bool waits;                          /* of a waiter; else of a session that was bound to the process */
};

/* What a connection that was closed leaves, if its process has ended. All is borrowed. */
struct departed_left {
        pid_t pid;
        const struct principal *principal;   /* in whose name it spoke */
        const struct departed_id *ids;
        size_t id_count;
        const struct lock_request *pending;  /* what it asked for, to wait if need be, and was not answered: handle, seq, client and name count */
        size_t pending_count;
};

void departed_look(struct departed_table *table, const struct departed_left *left);
/* To what was asked under DEPARTED_ORIGIN. */
void departed_answer(struct departed_table *table, const struct replica_answer *answer);
/* Forgets processes that live on. */
void departed_tick(struct departed_table *table);
