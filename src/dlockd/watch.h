/* watch.h - clients that wait for what becomes of locks.
 *
 * Who waits for the same name, or the same prefix, waits in one group. An event finds its groups by its name: one look for the name, and one
 * for each length of prefix that somebody waits with, however many wait. Answers go out a bounded number in a turn.
 *
 * It writes answers, and knows nothing of connections: a watcher is a part of what its owner keeps of a request. */
#pragma once

#include <bsd/sys/tree.h>
#include <sys/queue.h>

#include "dlockd/daemon.h"
#include "wire/wire.h"

struct watch_group;

/* Its owner's memory: as it is until watch_add, and after its answer, or watch_remove. */
struct watcher {
        TAILQ_ENTRY(watcher) link;           /* of those to be looked at, or in its group */
        RB_ENTRY(watcher) by_deadline;       /* in a group */
        struct watch_group *group;           /* NULL: it is to be looked at */
        const struct wire_request *request;
        uint64_t serial, deadline;
        uint64_t seen;                       /* nothing that is asked for is up to and with this */
};

struct watch_table;

/* From inside watch_turn, about a watcher that is not in the table any more: where its answer is to be written, and that it was. */
struct watch_owner {
        struct bytes *(*out)(struct watcher *watcher);
        void (*answered)(struct watcher *watcher);
};

struct watch_table *watch_table_new(const struct daemon *daemon, const struct watch_owner *owner);
/* Accepts NULL; returns NULL. Nobody may be in it. */
struct watch_table *watch_table_free(struct watch_table *table);
/* The node has applied what the request's client has seen. request: as long as the watcher. Answered in watch_turn. */
void watch_add(struct watch_table *table, struct watcher *watcher, const struct wire_request *request, uint64_t deadline);
void watch_remove(struct watch_table *table, struct watcher *watcher);
/* Once per turn, after what is committed was applied. True: there is more to do at once. */
bool watch_turn(struct watch_table *table);
/* One who watches cannot be served: why. */
void watch_refuse(const struct daemon *daemon, struct bytes *out, uint64_t tag, enum wire_outcome outcome, const char *reason);
