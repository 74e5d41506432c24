/* internal.h - the state of a replica. For the files of replica/ only. */
#pragma once

#include <bsd/sys/tree.h>
#include <sys/queue.h>

#include "lock/events.h"
#include "lock/overlay.h"
#include "replica/entry.h"
#include "replica/replica.h"

/* Where a request stands on its way to an answer. */
enum pending_state {
        PENDING_UNDECIDED,                   /* waits for a leader that may decide: this node or another */
        PENDING_LATER,                       /* leader: about a lock that is being freed; looked at again when something was applied */
        PENDING_FORWARDED,                   /* the leader has it */
        PENDING_COMMIT,                      /* leader: index must be applied */
        PENDING_ROUND,                       /* leader: a refusal: round confirmed and index applied */
        PENDING_RENEWAL,                     /* leader: round confirmed, which waits for no disk */
        PENDING_APPLY,                       /* follower: the answer is known; index must be applied here */
};

TAILQ_HEAD(pending_list, pending);

struct pending {
        RB_ENTRY(pending) by_origin, by_forward;
        TAILQ_ENTRY(pending) link;           /* in the list of its state */
        enum pending_state state;
        uint64_t node;                       /* 0: a client of this node; else a follower that forwarded it */
        struct replica_origin origin;
        struct lock_request request;
        uint64_t deadline, arrived;
        uint64_t asked_cluster_ms;           /* cluster time when it came, as the node that it came to knew it */
        uint64_t forward_id;                 /* FORWARDED */
        uint64_t retry_at;                   /* FORWARDED: the node asked did not lead; 0: it has not said so */
        bool sent;                           /* it has left this node or entered its log: it may have happened */
        uint64_t index, round, token;
        uint64_t until_cluster_ms;           /* DELAYED */
        uint64_t waiter;                     /* COMMIT: it may have to wait for the lock, as this one; 0: no */
        enum replica_outcome outcome;
        struct client_id owner;
        uint8_t borrowed[];                  /* what request.holder and request.further show */
};

/* A member that said that it stops. */
struct bye {
        uint64_t node;
        uint64_t known;                      /* the index of the newest address of it that was known then */
};

/* Somebody who is to be told when a waiter has got its lock. */
struct waiting_await {
        RB_ENTRY(waiting_await) by_origin, by_waiter;
        TAILQ_ENTRY(waiting_await) due_link;
        struct replica_origin origin;
        struct lock_name name;
        uint64_t waiter;                     /* or session, without a name */
        uint64_t deadline;
        bool due;                            /* there may be something to tell */
        bool once;                           /* the waiter wants the lock once in a period */
};

struct waiting_read {
        TAILQ_ENTRY(waiting_read) link;
        struct replica_origin origin;
        uint64_t min_index, deadline, settle_by;
        bool consistent, vouched;            /* VOUCHED: min_index is what a leader proved */
        uint64_t batch;                      /* consistent: the question it waits for; 0: not asked yet */
};

/* A leader's: when a session's time is over, if it is not renewed. */
struct session_timer {
        RB_ENTRY(session_timer) by_id, by_due;
        uint64_t id, due;
        uint32_t ttl_ms;
};

/* A leader's: somebody asked how far is committed; the answer waits for the round. */
struct index_read {
        TAILQ_ENTRY(index_read) link;
        uint64_t node, id;                   /* NODE 0: this one */
        uint64_t round, index;
};

struct waiting_join {
        TAILQ_ENTRY(waiting_join) link;
        struct replica_origin origin;
        uint64_t node, index, term;
};

/* A refusal decided not long ago: every copy of the request gets the same answer, as of the same index. */
struct refusal {
        RB_ENTRY(refusal) node;
        struct id128 handle;
        uint64_t seq, decided_ms, token, index, until_cluster_ms;
        enum replica_outcome outcome;
        struct client_id owner;
        bool used;
        bool said;                           /* it was proved, and a client was told */
};

RB_HEAD(origin_tree, pending);
RB_HEAD(forward_tree, pending);
RB_HEAD(refusal_tree, refusal);
RB_HEAD(await_origin_tree, waiting_await);
RB_HEAD(await_waiter_tree, waiting_await);
RB_HEAD(timer_tree, session_timer);
RB_HEAD(due_tree, session_timer);

struct replica {
        struct replica_settings settings;
        struct raft *raft;
        struct lock_table *table;
        struct lock_events *events;          /* of the table, since the start or the last snapshot */
        struct lock_overlay *overlay;
        struct directory directory;
        struct directory heard;                      /* addresses of entries that may not be committed: good enough to dial */
        uint64_t now;
        uint64_t applied, applied_term, applied_cluster_ms;
        uint64_t term;                       /* as last seen, to notice changes of leadership */
        uint64_t leader;
        bool leader_linked;
        bool settled;                        /* has applied an entry of a leader's term since the start */

        struct origin_tree by_origin;
        struct forward_tree by_forward;
        struct pending_list undecided, later, forwarded, commit, round, renewal, apply;
        size_t pending_count;
        uint64_t forward_next;
        uint64_t next_sweep;
        TAILQ_HEAD(, waiting_read) reads;
        TAILQ_HEAD(, index_read) index_reads;
        uint64_t batch_next, read_retry_at;

        struct await_origin_tree awaits;
        struct await_waiter_tree awaits_by_waiter;
        TAILQ_HEAD(, waiting_await) awaits_due;
        uint64_t settled_index;              /* waiters up to there were looked for in this table */
        uint64_t held_up_next;               /* when queues that are held up are looked at again */
        struct lock_name held_up_after;      /* where that look begins; size 0: at the first */

        struct timer_tree timers;
        struct due_tree timers_due;
        uint64_t timed_term;                 /* the term of this node's leadership in which all sessions have a timer; 0: none */
        uint64_t expiry_round, expiry_asked; /* the proof of leadership that is waited for, and when it was asked for; ROUND 0: none */
        size_t later_count, later_left;      /* LEFT: of those, how many are to be looked at since something was applied */
        TAILQ_HEAD(, waiting_admin) admins;
        uint64_t admin_next;
        TAILQ_HEAD(, waiting_join) joins;
        struct refusal *refusals;            /* a ring */
        size_t refusal_next;
        struct refusal_tree refusal_tree;

        /* the base */
        uint64_t base_index, log_first, last_flush_ms;
        struct bytes base_configuration;
        struct raft_base base;
        struct lock_image *images;
        size_t image_capacity;
        struct raft_record *records;
        struct bytes address_text;           /* keys and bodies of address records */
        struct bytes change_body;            /* of the change that is appended: memory that is used again */

        /* a snapshot being received */
        struct lock_table *staged_table;
        struct directory staged_directory;
        uint64_t installed;

#if RAFT_FEATURE_LEVEL > 1
        uint64_t next_term;                  /* the last term in which this leader made use of the next level */
#endif
        bool leaving, returns;
        uint64_t announce_next, leave_next, leaderless_since, led_since;
        struct leaver {
                uint64_t node, heard;
        } leavers[LIMIT_MEMBERS];            /* who asked this leader to be let go, and when last */
        size_t leaver_count;

        struct bye byes[LIMIT_MEMBERS];      /* who stopped cleanly while this process runs, and was not linked since */
        size_t bye_count;

        /* effects */
        struct replica_effects effects;
        struct replica_answer *answers;
        size_t answer_capacity;
        struct replica_send *sends;
        size_t send_capacity;
        struct bytes *send_bytes;
};

/* replica.c */
struct replica_answer *replica_add_answer(struct replica *replica);
void replica_send(struct replica *replica, uint64_t node, const struct node_message *message);
bool replica_may_decide(const struct replica *replica);

/* request.c */
void replica_requests_init(struct replica *replica);
void replica_requests_done(struct replica *replica);
void replica_decide_waiting(struct replica *replica);
void replica_answer_waiting(struct replica *replica);
void replica_leader_changed(struct replica *replica, bool was_leader);
void replica_sweep_requests(struct replica *replica);
void replica_forwarded(struct replica *replica, uint64_t node, const struct node_message *message);
void replica_forward_reply(struct replica *replica, const struct node_message *message);

/* Proposes the change, and returns its index. On a leader that may decide. */
uint64_t replica_append(struct replica *replica, const struct lock_change *change);

/* session.c */
void replica_sessions_init(struct replica *replica);
void replica_sessions_done(struct replica *replica);
/* The entry at id was applied, and made a session. */
void replica_session_opened(struct replica *replica, uint64_t id, uint32_t ttl_ms);
/* It has ended. */
void replica_session_over(struct replica *replica, uint64_t id);
/* It has its whole time again. */
void replica_session_renewed(struct replica *replica, uint64_t id);
/* Nothing was done for so long. */
void replica_sessions_stalled(struct replica *replica, uint64_t gap_ms);
void replica_sessions_turn(struct replica *replica);
/* There is something to free that was not there, or was under way, in the last turn. */
bool replica_sessions_have_more(const struct replica *replica);
void replica_sessions_leader_changed(struct replica *replica);

/* await.c */
void replica_awaits_init(struct replica *replica);
void replica_awaits_done(struct replica *replica);
/* These waiters are in their queues no more. */
void replica_awaits_settled(struct replica *replica, const uint64_t *waiters, size_t count);
/* The table is another one. */
void replica_awaits_look_again(struct replica *replica);
void replica_answer_awaits(struct replica *replica);
void replica_sweep_awaits(struct replica *replica);
void replica_forget_awaits(struct replica *replica, uint64_t session);

/* read.c */
void replica_reads_init(struct replica *replica);
void replica_reads_done(struct replica *replica);
void replica_ask_reads(struct replica *replica);
void replica_index_read(struct replica *replica, uint64_t node, const struct node_message *message);
void replica_index_reply(struct replica *replica, const struct node_message *message);
void replica_reads_leader_changed(struct replica *replica);
void replica_forget_reads(struct replica *replica, uint64_t session);
void replica_answer_reads(struct replica *replica);

/* admin.c */
void replica_admins_init(struct replica *replica);
void replica_admins_done(struct replica *replica);
void replica_admin_turn(struct replica *replica);
void replica_admin_forwarded(struct replica *replica, uint64_t node, const struct node_message *message);
void replica_admin_reply(struct replica *replica, const struct node_message *message);
void replica_admin_leader_changed(struct replica *replica);
void replica_forget_admins(struct replica *replica, uint64_t session);

/* members.c */
void replica_forget_bye(struct replica *replica, uint64_t node);
void replica_hear_address(struct replica *replica, const struct raft_entry *entry);
void replica_members_tick(struct replica *replica);
void replica_answer_joins(struct replica *replica);
void replica_members_message(struct replica *replica, uint64_t node, const struct node_message *message);

/* state.c */
void replica_apply_committed(struct replica *replica);
void replica_flush_base(struct replica *replica);
void replica_take_stages(struct replica *replica);
