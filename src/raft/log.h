/* log.h - the newest part of the log, in memory. Pure.
 *
 * Holds every entry that is not applied yet, and some older ones for followers
 * that are a little behind. What is older is on disk only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "raft/entry.h"

struct raft_log {
        struct raft_entry **entries;         /* a ring of capacity, a power of two */
        size_t capacity;
        size_t head;                         /* ring position of the entry at first */
        uint64_t first;                      /* index of the oldest entry held; last + 1 when none is */
        uint64_t last;
        uint64_t previous_term;              /* of the entry at first - 1 */
        uint64_t previous_cluster_ms;
        size_t bytes;                        /* of the entries held */
};

/* An empty log after (index, term). */
void raft_log_init(struct raft_log *log, uint64_t index, uint64_t term, uint64_t cluster_ms);
void raft_log_done(struct raft_log *log);

/* Takes ownership; entry->index == last + 1. */
void raft_log_append(struct raft_log *log, struct raft_entry *entry);
/* Drops entries from index on. */
void raft_log_truncate(struct raft_log *log, uint64_t index);
/* Drops entries up to and including index from memory. */
void raft_log_trim(struct raft_log *log, uint64_t index);

/* NULL: not held. */
const struct raft_entry *raft_log_at(const struct raft_log *log, uint64_t index);
/* False: the term at index is not known here any more, or not yet. */
bool raft_log_term(const struct raft_log *log, uint64_t index, uint64_t *ret_term);
uint64_t raft_log_last_term(const struct raft_log *log);
uint64_t raft_log_last_cluster_ms(const struct raft_log *log);

/* Makes an entry; the caller owns it. */
struct raft_entry *raft_entry_new(uint64_t index, uint64_t term, enum raft_entry_kind kind, uint64_t cluster_ms, uint64_t wall_ms,
                                  const void *body, size_t size);
