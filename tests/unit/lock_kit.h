/* lock_kit.h - a lock table, what is appended and not applied to it, and short words for what is done with them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lock/decide.h"

extern struct lock_table *table;
extern struct lock_overlay *overlay;
extern uint64_t index_next;
extern uint32_t handle_next;

/* A fixture of check. */
void lock_setup(void);
void lock_teardown(void);

/* --- requests, each with a handle of its own --- */
struct lock_request request_of(enum lock_change_kind kind, const char *client, const char *lock);
struct lock_request in_session(const char *client, const char *lock, uint64_t session);
struct lock_request lease_of(const char *client, const char *lock, uint32_t ttl_ms);
/* The same, in the queue if need be. */
struct lock_request wait_of(const char *client, const char *lock, uint32_t ttl_ms);
struct lock_request of_session(enum lock_change_kind kind, const char *client, uint64_t session);
struct lock_request release_of(const char *client, const char *lock, uint64_t token);
struct lock_change end_of(uint64_t session, const char *client);

/* --- what becomes of them --- */
struct lock_decision decide(const struct lock_request *request);
/* Accepted; seen by later decisions, not yet in the table. */
uint64_t append(const struct lock_request *request);
void apply(uint64_t index, const struct lock_change *change);
/* Accepted and applied. */
uint64_t make(const struct lock_request *request);
uint64_t open_session(const char *client, uint32_t ttl_ms);
void expire(uint64_t session, const char *client);

/* --- looking --- */
bool is_owned(const char *lock);
/* The client has the lock under that token. */
void expect_owner(const char *lock, const char *client, uint64_t token);
size_t queue_length(const char *lock);
/* Locks, waiters and sessions. */
uint64_t held_by(const char *client);
/* The second table is made from the images of the first. */
void load_all(struct lock_table *from, struct lock_table *to);
/* The same locks are there in both. */
void expect_equal(const struct lock_table *a, const struct lock_table *b);
