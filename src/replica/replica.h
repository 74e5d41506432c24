/* replica.h - one node's copy of the service: decide, append, apply, answer.
 *
 * Pure: no clock, no I/O. Joins the lock table and the consensus core. A turn is:
 * feed what came in, replica_turn, carry out replica_effects, replica_effects_clear.
 *
 * A request is decided by the leader on its whole log, and answered when the
 * entry it rests on is committed and, for a refusal, leadership was proved by a
 * round begun after it arrived. A follower forwards it under its request id and
 * answers when its own table has reached the answer's index. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lock/events.h"
#include "lock/table.h"
#include "raft/raft.h"
#include "replica/directory.h"
#include "replica/message.h"

struct replica;

struct replica_settings {
        struct raft_settings raft;
        uint64_t keep_entries;               /* log entries kept behind the base */
        unsigned min_voters;                 /* 2: a clean stop never hands the vote back */
        bool unwatched;                      /* no client asks what became of locks: nothing of it is remembered */
        struct id128 cluster;                /* null: not a member yet */
        char address[LIMIT_ADDRESS_BYTES + 1];       /* where this node is reached; "": told by others */
};

/* Who waits for an answer, in the words of who asked: given back untouched. */
struct replica_origin {
        uint64_t session;
        uint64_t tag;
};

struct replica_answer {
        enum { REPLICA_ANSWER_CHANGE, REPLICA_ANSWER_READ, REPLICA_ANSWER_JOIN, REPLICA_ANSWER_ADMIN } kind;
        struct replica_origin origin;
        enum replica_outcome outcome;        /* READ: YES: read the table now; UNKNOWN: min_index was not reached in time */
        uint64_t token, index;
        struct client_id client;             /* the owner, or the assigned id; size 0: nobody, or not told */
        uint64_t until_cluster_ms;           /* DELAYED: nobody gets the lock before */
        struct node_message join;            /* JOIN: the reply */
        enum admin_outcome admin;            /* ADMIN */
};

struct replica_send {
        uint64_t node;
        const uint8_t *data;                 /* by node_message_put */
        size_t size;
};

struct replica_effects {
        const struct raft_effects *raft;
        const struct replica_send *sends;
        size_t send_count;
        const struct replica_answer *answers;
        size_t answer_count;
        /* In the transaction of the raft persist, after it; base NULL: nothing. */
        const struct raft_base *base;
        const struct raft_record *records;
        size_t record_count;
        uint64_t trim_to;                    /* 0: nothing */
        bool joined;                         /* identity changed: persist cluster and node id */
        bool left;                           /* the leader lets this node stop */
};

struct replica *replica_new(const struct replica_settings *settings, const struct raft_start *start);
/* Accepts NULL. Returns NULL. */
struct replica *replica_free(struct replica *replica);

/* --- what the disk held: records, then entries after the base, then done. False: not well formed. --- */
bool replica_load_record(struct replica *replica, const struct raft_record *record);
bool replica_load_entry(struct replica *replica, const struct raft_entry *entry);
bool replica_load_finish(struct replica *replica);
/* Without a cluster, after loading: all of the log counts as committed. The effects have the base as of its last entry and the
 * records that differ from the old base's. No event and no turn may follow. The cluster that goes on from there grants nothing for so
 * long, which is returned: quiet_ms, or when that is below 0 the longest time to live of a lease that was ever taken. */
uint64_t replica_apply_log(struct replica *replica, int64_t quiet_ms);

/* --- events --- */
void replica_tick(struct replica *replica, uint64_t now, uint64_t wall);
/* Deadlines are in the milliseconds of replica_tick. */
void replica_request(struct replica *replica, const struct replica_origin *origin, const struct lock_request *request, uint64_t deadline);
/* Asks to read the table at min_index or later; consistent: and with everything that anybody was told before this call, which costs
 * a round of the leader. Answered by REPLICA_ANSWER_READ, in a turn in which the table is in that state. */
void replica_read(struct replica *replica, const struct replica_origin *origin, uint64_t min_index, bool consistent, uint64_t deadline);
/* The request about name that was answered with WAITING and this waiter: answered by REPLICA_ANSWER_CHANGE with YES and its token when it has got
 * the lock, with a no when it is in the queue no more, or wants the lock once in a period and somebody else has had it, with WAITING at the deadline.
 * Without a name, of a session or lease by its id: with ENDED when it has ended, with BROKEN when it is to end, with WAITING at the deadline. */
void replica_await(struct replica *replica, const struct replica_origin *origin, const struct lock_name *name, uint64_t waiter, uint64_t deadline);
/* Answered by REPLICA_ANSWER_ADMIN when a leader sees it done or refuses it, at the deadline at the latest. Who may ask is the caller's affair. */
void replica_admin(struct replica *replica, const struct replica_origin *origin, const struct admin_request *request, uint64_t deadline);
/* The session is gone: nothing of it is sent any more, nobody wants its answers. */
void replica_forget(struct replica *replica, uint64_t session);
/* A node that is no member asks to join; address: where it is reached. */
void replica_join(struct replica *replica, const struct replica_origin *origin, const struct node_message *join, uint64_t deadline);

/* From a member. False: an entry of a kind this program does not know, or not well formed: the node must stop. */
bool replica_raft_message(struct replica *replica, const struct raft_message *message);
void replica_node_message(struct replica *replica, uint64_t node, const struct node_message *message);
/* level: what its hello said that it understands; counts when the link is up. */
void replica_link(struct replica *replica, uint64_t node, unsigned level, bool up);
/* A member stops cleanly, and says so. */
void replica_bye(struct replica *replica, uint64_t node);
/* This node is let in as id. */
void replica_joined(struct replica *replica, struct id128 cluster, uint64_t id);
/* This node wants to stop cleanly: effects.left tells when it may (M5). returns: only because its host does, so that the others need not
 * leave it alone. */
void replica_leave(struct replica *replica, bool returns);
/* The node's own address became known or changed. */
void replica_set_address(struct replica *replica, const char *address);
/* A record of a chunk that the effects just handed out to be staged, in order; finish after the last chunk, before it is
 * staged. False: not well formed: call raft_snapshot_refused and do not stage it. */
bool replica_staged_record(struct replica *replica, const struct raft_record *record);
bool replica_staged_finish(struct replica *replica);
/* All stages handed out so far are durable. */
void replica_staged(struct replica *replica);
/* persisted, log_read, snapshot_made and chunk_read go to the core directly. */
struct raft *replica_raft(struct replica *replica);
/* Settings of a reload: timeouts, max_voters, keep_entries, min_voters. */
void replica_set_settings(struct replica *replica, const struct replica_settings *settings);

/* --- the turn --- */
void replica_turn(struct replica *replica);
const struct replica_effects *replica_effects(const struct replica *replica);
void replica_effects_clear(struct replica *replica);
/* There is more to apply or to flush than one turn may: take another soon. */
bool replica_has_more(const struct replica *replica);

/* --- looking --- */
const struct lock_table *replica_table(const struct replica *replica);
/* What became of locks by the entries that this node applied since it started, or got a snapshot; nothing on a node that is unwatched. Nothing in it is newer than the
 * table. */
const struct lock_events *replica_events(const struct replica *replica);
const struct directory *replica_directory(const struct replica *replica);
/* Where a member may be dialled, from entries that may not be committed yet too: a node that starts knows little else. NULL: unknown. */
const char *replica_address(const struct replica *replica, uint64_t node);
/* It stopped cleanly, as far as the log says: with socket activation a connection would start it again. */
bool replica_is_away(const struct replica *replica, uint64_t node);
/* It said so to this process, and has not come back: it was not linked since, nor is its start in the log. */
bool replica_said_bye(const struct replica *replica, uint64_t node);
struct id128 replica_cluster(const struct replica *replica);
uint64_t replica_applied(const struct replica *replica);
/* Cluster time: now on the leader, as of its last word elsewhere. */
uint64_t replica_cluster_ms(const struct replica *replica);
/* -1: never heard; 0 on a leader with a quorum. */
int64_t replica_leader_age_ms(const struct replica *replica);
uint64_t replica_log_first(const struct replica *replica);
/* How long the session has left if it is not renewed; -1: this node does not lead, or there is no such session. */
int64_t replica_session_left_ms(const struct replica *replica, uint64_t session);
/* Requests and reads waiting for an answer. */
size_t replica_pending_count(const struct replica *replica);
