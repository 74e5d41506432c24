/* raft.h - consensus as a pure state machine: an event goes in, effects come out.
 *
 * No clock, no I/O, no randomness but a seeded generator: the daemon and the
 * simulator run the same code. Follows Ongaro's thesis ("Consensus: Bridging
 * Theory and Practice", 2014) chapters 3, 4, 6.4, 9.6; tags P1, E3, C1 ... name
 * the rules in src/README.md that a line keeps.
 *
 * A turn: feed events, call raft_flush, carry out raft_effects (persist and
 * messages may go at once and in parallel: what must wait for the disk is held
 * back inside until raft_persisted), call raft_effects_clear. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "raft/configuration.h"
#include "raft/entry.h"

struct raft;

struct raft_settings {
        uint64_t election_timeout_ms;        /* base timeout T */
        uint64_t heartbeat_ms;
        bool campaigns;                      /* false: votes and follows, but leads only when leadership is handed to it */
        unsigned max_voters;                 /* learners are promoted up to this many */
        uint64_t seed;                       /* of the generator of timeouts; another one in every life of the node */
        unsigned level;                      /* RAFT_FEATURE_LEVEL, or another in tests; 0: 1 */
        size_t cache_bytes;                  /* of applied entries kept in memory; 0: LIMIT_LOG_CACHE_BYTES */
};

/* What the disk held. */
struct raft_start {
        uint64_t id;                         /* own node id; 0: not a member yet */
        struct raft_hard_state hard;
        struct raft_base base;
        uint64_t log_first;                  /* oldest entry on disk */
};

enum raft_role { RAFT_FOLLOWER, RAFT_PRE_CANDIDATE, RAFT_CANDIDATE, RAFT_LEADER };

/* Numbers are on the wire: never reused. */
enum raft_message_kind {
        RAFT_VOTE = 1,
        RAFT_VOTE_REPLY = 2,
        RAFT_APPEND = 3,
        RAFT_APPEND_REPLY = 4,
        RAFT_SNAPSHOT = 5,
        RAFT_SNAPSHOT_REPLY = 6,
        RAFT_TIMEOUT_NOW = 7,                /* the leader hands over: campaign now */
};

/* Fields that a kind does not name are zero. */
struct raft_message {
        enum raft_message_kind kind;
        uint64_t node;                       /* the other side: to, or from */
        uint64_t term;                       /* the sender's; pre-votes: the one it would campaign in */
        uint64_t index;                      /* VOTE: last index; APPEND: previous index; APPEND_REPLY: verified up to here, or the
                                              * rejected previous index; SNAPSHOT*: base index */
        uint64_t log_term;                   /* VOTE: last term; APPEND: previous term; SNAPSHOT: base term */
        uint64_t commit;                     /* APPEND: the leader's */
        uint64_t match;                      /* APPEND_REPLY: verified in this term, and durable */
        uint64_t hint;                       /* APPEND_REPLY rejected: try from here */
        uint64_t round;                      /* APPEND, SNAPSHOT: read round; replies: the highest seen in this term */
        bool pre;                            /* VOTE, VOTE_REPLY */
        bool transfer;                       /* VOTE: the leader itself asked for this campaign; TIMEOUT_NOW: to stay, preferred or not */
        bool granted;                        /* VOTE_REPLY; APPEND_REPLY: accepted; SNAPSHOT_REPLY: installed */
        bool last;                           /* SNAPSHOT: the final chunk */
        uint64_t offset;                     /* SNAPSHOT: of data; SNAPSHOT_REPLY: the next one wanted */
        uint64_t cluster_ms;                 /* SNAPSHOT: as of the base; APPEND: cluster time now */
        uint64_t configuration_index;        /* SNAPSHOT */
        const uint8_t *configuration;        /* SNAPSHOT, offset 0 */
        size_t configuration_size;
        const uint8_t *data;                 /* SNAPSHOT */
        size_t data_size;
        const struct raft_entry *const *entries; /* APPEND: from index + 1 on */
        size_t entry_count;
};

enum raft_stage_kind { RAFT_STAGE_BEGIN, RAFT_STAGE_CHUNK, RAFT_STAGE_INSTALL };

/* A step of a snapshot being received, in order with the persists. */
struct raft_stage {
        enum raft_stage_kind kind;
        const uint8_t *data;                 /* CHUNK */
        size_t size;
        const struct raft_base *base;        /* INSTALL */
};

struct raft_log_request {
        uint64_t node;                       /* for whom: given back with the entries */
        uint64_t from;
};

struct raft_chunk_request {
        uint64_t node;
        uint64_t snapshot;
        uint64_t offset;
};

/* What a turn wants done. Pointers are valid until raft_effects_clear. */
struct raft_effects {
        /* One transaction: hard state, truncation, entries; then raft_persisted(persist_id). 0: nothing to persist. */
        uint64_t persist_id;
        bool hard_changed;
        struct raft_hard_state hard;
        uint64_t truncate_from;              /* 0: none */
        uint64_t first, last;                /* new entries, by raft_entry_at; first > last: none */
        const struct raft_message *messages;
        size_t message_count;
        const struct raft_stage *stages;     /* after the transaction above; then raft_staged once for all of them */
        size_t stage_count;
        const struct raft_log_request *log_requests;
        size_t log_request_count;
        const struct raft_chunk_request *chunk_requests;
        size_t chunk_request_count;
        bool make_snapshot;                  /* then raft_snapshot_made */
        uint64_t drop_snapshot;              /* id; 0: none */
};

struct raft *raft_new(const struct raft_settings *settings, const struct raft_start *start);
/* Accepts NULL. Returns NULL. */
struct raft *raft_free(struct raft *raft);
/* Entries after the base, in order, before the first event. False: a configuration that is not well formed. */
bool raft_restore_entry(struct raft *raft, const struct raft_entry *entry);

/* --- events; now: monotonic ms, wall: for display --- */
void raft_tick(struct raft *raft, uint64_t now, uint64_t wall);
/* message->node says who it is from. */
void raft_receive(struct raft *raft, const struct raft_message *message);
void raft_persisted(struct raft *raft, uint64_t persist_id);
/* All stages handed out so far are durable. */
void raft_staged(struct raft *raft);
/* The records of the snapshot being received are not well formed: it is given up. */
void raft_snapshot_refused(struct raft *raft);
/* The link to a node is up after an answered hello, or ended by EOF, reset or silence. */
void raft_link(struct raft *raft, uint64_t node, bool up);
/* What the program of a node understands, as its hello said. Before raft_link. */
void raft_node_level(struct raft *raft, uint64_t node, unsigned level);
/* The answer to a log request, each once and in order; count 0: from is not on disk any more. */
void raft_log_read(struct raft *raft, uint64_t node, uint64_t from, struct raft_entry *const *entries, size_t count);
/* The answer to make_snapshot; id 0: it failed and is asked for again later. */
void raft_snapshot_made(struct raft *raft, uint64_t id, const struct raft_base *base, uint64_t total);
void raft_chunk_read(struct raft *raft, uint64_t node, uint64_t snapshot, uint64_t offset, const void *data, size_t size);
/* A member at last: the id the leader gave. */
void raft_joined(struct raft *raft, uint64_t id);

/* Appends on a leader that raft_may_propose. Returns the index. */
uint64_t raft_propose(struct raft *raft, enum raft_entry_kind kind, const void *body, size_t size);
bool raft_may_propose(const struct raft *raft);
/* Starts or joins a round that proves leadership after this call; done when raft_round_confirmed reaches it (Q2). */
uint64_t raft_read_round(struct raft *raft);
uint64_t raft_round_confirmed(const struct raft *raft);

/* --- handing over (E7) --- */

/* A leader stops proposing, brings a voter's log to its end, and asks it to campaign; raft_may_propose is false meanwhile. It is over
 * when this node leads no longer, or given up after a timeout, or when the link to the target ends. holds: the target keeps leadership
 * for as long as it can, although another node may be preferred. False: not now, or not to that node. */
bool raft_transfer(struct raft *raft, uint64_t target, bool holds);
/* The same, to whom it costs least: a linked voter that is no witness where there is one, with the longest log; to none of except. */
bool raft_transfer_to_best(struct raft *raft, const uint64_t *except, size_t except_count);
/* A leader keeps leadership from now on, although another node may be preferred. */
void raft_hold(struct raft *raft);
/* 0: none is under way. */
uint64_t raft_transfer_target(const struct raft *raft);

/* --- membership: one change at a time, each 0 or the index of its entry; 0: not now (M1, R6) --- */
bool raft_may_change(const struct raft *raft);
/* Lets a learner in; its id is the index. Of newcomer incarnation, name, witness and preferred count; preferred only when no
 * other member is. replaces: a member that leaves in the same entry, or 0. */
uint64_t raft_add_learner(struct raft *raft, const struct raft_member *newcomer, uint64_t replaces);
/* Of the voters without this one a majority is there, so that they can commit that it votes no more. */
bool raft_can_do_without(const struct raft *raft, uint64_t id);
uint64_t raft_demote(struct raft *raft, uint64_t id);
uint64_t raft_remove(struct raft *raft, uint64_t id);

/* Ends the turn: appends are made for every follower. */
void raft_flush(struct raft *raft);
const struct raft_effects *raft_effects(const struct raft *raft);
void raft_effects_clear(struct raft *raft);

/* --- looking --- */
enum raft_role raft_role(const struct raft *raft);
uint64_t raft_id(const struct raft *raft);
uint64_t raft_term(const struct raft *raft);
uint64_t raft_leader(const struct raft *raft);         /* 0: none known */
uint64_t raft_commit(const struct raft *raft);
uint64_t raft_last(const struct raft *raft);
uint64_t raft_durable(const struct raft *raft);
/* Leader: the no-op of this term is committed, so that it may decide and answer (E6). */
bool raft_is_ready(const struct raft *raft);
/* Index of the no-op a leader opened its term with. */
uint64_t raft_term_start(const struct raft *raft);
const struct raft_entry *raft_entry_at(const struct raft *raft, uint64_t index);
/* The one in force, and the one as of an index (at or after the base). */
const struct raft_configuration *raft_configuration(const struct raft *raft);
const struct raft_configuration *raft_configuration_at(const struct raft *raft, uint64_t index);
/* Monotonic ms of the last word from the leader; false: none since the start. */
bool raft_leader_contact(const struct raft *raft, uint64_t *ret_ms);
/* Does a node that this one hears have a majority: leader with a quorum, or a follower in touch with one. */
bool raft_has_quorum(const struct raft *raft);
/* The next time raft_tick has something to do. */
uint64_t raft_next_tick(const struct raft *raft);
/* How far this node's log is known to reach, durably: its own, or on a leader any member's; 0: not known. */
uint64_t raft_match(const struct raft *raft, uint64_t node);
/* On a leader: for how long a member has said nothing to it; to a new leader not for longer than it leads. */
uint64_t raft_silent_ms(const struct raft *raft, uint64_t node);
/* What a member's program understands; 0: not known now. */
unsigned raft_level_of(const struct raft *raft, uint64_t node);
/* The link to this node is up, as raft_link said. */
bool raft_is_linked(const struct raft *raft, uint64_t node);
bool raft_is_receiving_snapshot(const struct raft *raft);
/* Base of the newest snapshot installed since the start: the state is the staged one from there on. */
uint64_t raft_installed(const struct raft *raft);
uint64_t raft_base_term(const struct raft *raft);
uint64_t raft_base_cluster_ms(const struct raft *raft);
/* Entries from here on must stay on disk for a follower that gets a snapshot; UINT64_MAX: no wish. */
uint64_t raft_wants_log_from(const struct raft *raft);
/* Cluster time now, as the next entry would carry it on a leader; otherwise as the leader last said, or the last entry's. */
uint64_t raft_cluster_ms(const struct raft *raft);

/* --- the replica tells what it has done with committed entries --- */
/* Entries up to applied may leave memory, but for a cache for followers that are a little behind. */
void raft_applied(struct raft *raft, uint64_t applied);
/* The database holds the state as of this index, and entries from log_first on. */
void raft_base_moved(struct raft *raft, uint64_t index, uint64_t log_first);
/* The time between heartbeats and elections may change on reload. */
void raft_set_timeouts(struct raft *raft, uint64_t election_timeout_ms, uint64_t heartbeat_ms);
void raft_set_max_voters(struct raft *raft, unsigned max_voters);
