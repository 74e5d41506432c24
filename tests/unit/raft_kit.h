/* raft_kit.h - a cluster of raft cores in memory: a disk per node that keeps only what was synced, links that
 * lose what is on them when they break, and a watcher that compares all nodes after every step. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "raft/raft.h"

#define KIT_NODES 5
#define KIT_ENTRIES 4096

/* A transaction that was handed out and is not synced yet. */
struct kit_write {
        struct kit_write *next;
        uint64_t persist_id;
        bool hard_changed;
        struct raft_hard_state hard;
        uint64_t truncate_from;
        struct raft_entry **entries;
        size_t entry_count;
};

struct kit_node {
        struct raft *raft;                   /* NULL: down */
        bool campaigns;
        bool disk_held;                      /* nothing is synced for now */
        struct kit_write *writes;            /* oldest first */
        struct raft_hard_state hard;         /* synced */
        struct raft_entry *log[KIT_ENTRIES];
        uint64_t last;
        uint64_t commit_seen;
};

struct kit_message {
        struct kit_message *next;
        uint64_t from, to;
        struct raft_message message;
        struct raft_entry **entries;
};

struct kit {
        size_t count;
        uint64_t now;
        uint64_t seed;
        struct kit_node nodes[KIT_NODES + 1];        /* by id, from 1 */
        bool cut[KIT_NODES + 1][KIT_NODES + 1];      /* [from][to]; the link is down both ways when either is set */
        uint64_t witness;                    /* of the nodes that are started from now on with an empty disk; 0: none */
        bool drops;                          /* messages of random links vanish with their link */
        struct kit_message *first, **last;
        struct raft_entry *committed[KIT_ENTRIES];
        uint64_t committed_last;
        uint64_t leader_of_term[KIT_ENTRIES];
        uint64_t vote_of_term[KIT_NODES + 1][KIT_ENTRIES];
};

/* voters nodes 1 to count; node 1 is the preferred leader. Only 1 campaigns, unless all. */
struct kit *kit_new(size_t count, bool all_campaign, uint64_t seed);
struct kit *kit_free(struct kit *kit);

uint64_t kit_random(struct kit *kit, uint64_t below);
/* Time passes on every node; disks sync and messages arrive until nothing moves. */
void kit_run(struct kit *kit, uint64_t ms);
/* One message, or one sync of one node, chosen at random; false: there was nothing. */
bool kit_step(struct kit *kit);
void kit_tick(struct kit *kit, uint64_t ms);

void kit_crash(struct kit *kit, uint64_t id);
/* From what its disk has. */
void kit_start(struct kit *kit, uint64_t id);
/* Both ways; what is under way on the link is lost. */
void kit_cut(struct kit *kit, uint64_t a, uint64_t b, bool cut);
void kit_hold_disk(struct kit *kit, uint64_t id, bool hold);
/* The node that leads the highest term, or 0. */
uint64_t kit_leader(const struct kit *kit);
/* Appends on a node that may propose; the index, or 0. */
uint64_t kit_propose(struct kit *kit, uint64_t id, uint64_t value);
/* Runs until the node leads and is ready; fails the test after 60 s of its time. */
void kit_wait_leader(struct kit *kit, uint64_t id);
