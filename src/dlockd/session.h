/* session.h - clients: their connections, requests and answers.
 *
 * All client sockets sit behind one epoll descriptor, drained in batches (DESIGN D7). */
#pragma once

#include "dlockd/daemon.h"

/* 0 or -errno. Takes over the listening descriptors. */
int session_table_new(struct daemon *daemon, struct listen_sockets *sockets, struct session_table **ret_table);
/* Accepts NULL; returns NULL. */
struct session_table *session_table_free(struct session_table *table);

/* Hands an answer of the replica to who waits for it. */
void session_answer(struct session_table *table, const struct replica_answer *answer);
/* A backup was made, or a piece of it read; event NULL: it failed, and why. */
void session_backup(struct session_table *table, const struct read_request *request, const struct store_event *event, const char *why);
/* The store's answer to a history request; event NULL: it could not be read. */
void session_history(struct session_table *table, const struct read_request *request, const struct store_event *event);
/* Sends what is queued. Once per turn. */
void session_flush(struct session_table *table);
/* Closes who has not said hello in time. */
void session_tick(struct session_table *table, uint64_t now);
/* While held, requests wait unread; answers to what was asked before still go out. */
void session_hold(struct session_table *table, bool hold);
/* Tells everybody that this node stops, and accepts nobody any more. */
void session_stop(struct session_table *table);
size_t session_count(const struct session_table *table);
