/* internal.h - the state of the core. For the files of raft/ only. */
#pragma once

#include "base/bytes.h"
#include "raft/log.h"
#include "raft/raft.h"

/* How far a leader has brought one member. */
enum progress_state {
        PROGRESS_PROBE,                      /* where do our logs part? one message at a time */
        PROGRESS_REPLICATE,                  /* logs agree up to next - 1; appends are pipelined */
        PROGRESS_FETCH,                      /* the entries it needs are being read from disk */
        PROGRESS_SNAPSHOT,                   /* it needs what is no longer in the log */
};

struct inflight {
        uint64_t last;
        size_t bytes;
};

struct progress {
        uint64_t node;
        enum progress_state state;
        bool link_up;
        bool active;                         /* heard from in this term */
        uint64_t contact_ms;
        uint64_t match, next;
        uint64_t sent_ms;                    /* of the last message */
        uint64_t round_sent, round_acked, commit_sent;
        bool probe_sent;
        struct inflight *inflight;           /* ring of LIMIT_INFLIGHT_MESSAGES */
        size_t inflight_head, inflight_count, inflight_bytes;
        bool reading;                        /* a log or chunk request is out */
        uint64_t read_from;                  /* PROGRESS_FETCH: where it begins */
        uint64_t snapshot;                   /* PROGRESS_SNAPSHOT: id, 0 while it is being made */
        uint64_t snapshot_offset;
        uint64_t asked_ms;                   /* PROGRESS_SNAPSHOT, reading: when the chunk was asked for, or sent */
        uint64_t installed_index, installed_term; /* the end of a snapshot it has; 0 at first, the empty one */
        uint64_t round_target, round_start_ms; /* M3: a learner's catch-up round */
        bool caught_up;                      /* the last round took less than T */
        uint64_t learns_until_ms;            /* it was demoted on purpose: not promoted before (M5) */
        uint64_t unsteady_ms;                /* when it was last not linked, or not pipelined to */
};

/* A transaction on its way to the disk. */
struct pending_persist {
        uint64_t id;
        struct raft_hard_state hard;
        uint64_t last;                       /* the log's last index once it is done (P4: lowered by truncation) */
};

struct receiving {
        bool active;
        uint64_t from;
        uint64_t index, log_term, cluster_ms, configuration_index;
        struct bytes configuration;
        uint64_t offset;                     /* received so far */
        bool staging;                        /* a stage is on its way to the disk */
        bool installing;                     /* the last one */
        struct raft_base base;               /* of the install */
};

struct raft {
        struct raft_settings settings;
        uint64_t id;
        uint64_t now, wall, last_tick;
        uint64_t random;

        enum raft_role role;
        struct raft_hard_state hard;         /* in force here; durable_hard lags behind */
        struct raft_hard_state durable_hard;
        uint64_t leader;
        bool heard_leader;                   /* since the start */
        uint64_t leader_contact_ms;
        bool leader_link_lost;               /* E1: its link ended by EOF or reset */
        uint64_t election_deadline;

        struct raft_log log;
        uint64_t base_index, base_term, base_cluster_ms, log_first;
        uint64_t commit, applied;
        uint64_t durable;                    /* last index known to be on this disk */
        uint64_t verified;                   /* follower: agrees with this leader, in this term, up to here (P2) */
        uint64_t round_seen;                 /* follower: highest read round of this leader in this term */
        bool ack_owed;                       /* follower: entries await the disk, then an ack */

        struct raft_configuration **configurations; /* the base's and later ones, by index (M2) */
        size_t configuration_count;

        /* candidates */
        uint64_t votes[LIMIT_MEMBERS];
        size_t vote_count;
        bool vote_asked;                     /* candidate: own vote is durable, requests are out */
        uint64_t refusers[LIMIT_MEMBERS];    /* candidate: voters that said no in this term */
        size_t refuser_count;
        uint64_t ask_again_ms;               /* pre-candidate: who said no may have lost the leader by then */
        uint64_t asked_to_lead, asked_ms;    /* the term whose leader hands over to this node, 0: none does (E7); when it said so */
        bool by_transfer;                    /* candidate: the leader asked for it */
        bool asked_to_hold, holds;           /* leads, or is asked to, although another node may be preferred */
        uint64_t vote_reply_to;              /* a granted vote waiting for the disk; 0: none */

        /* leader */
        struct progress *progress[LIMIT_MEMBERS];
        size_t progress_count;
        uint64_t term_start;
        uint64_t cluster_origin_ms, leader_since_ms, heard_cluster_ms;
        uint64_t reads_out, reads_stale;     /* log requests not answered yet; those of an earlier leadership */
        struct {
                uint64_t target;             /* 0: none */
                uint64_t give_up_ms;
                bool holds, sent, returns;   /* RETURNS: to the preferred leader, by itself */
        } transfer;
        /* any role: leadership goes back to the preferred leader, but not to one that cannot keep it */
        uint64_t handed_term;                /* the newest that began by a transfer */
        uint64_t seen_leader, seen_leader_ms, seen_leader_term;
        uint64_t return_wait_ms, return_after_ms;
        uint64_t round, round_confirmed;
        bool round_open;                     /* no message has carried it yet */
        struct {
                bool making;
                uint64_t id, total;
                struct raft_base base;
                struct bytes configuration;
        } snapshot;

        /* nodes whose link is up, leader or not */
        uint64_t links[LIMIT_MEMBERS * 2];
        size_t link_count;
        struct {
                uint64_t node;
                unsigned level;
        } levels[LIMIT_MEMBERS * 2];         /* a ring */
        size_t level_next;

        struct receiving receiving;
        uint64_t installed;                  /* base of the newest snapshot installed since the start */

        /* persistence */
        uint64_t persist_next;
        struct pending_persist *pending;
        size_t pending_count, pending_capacity;

        /* effects of this turn */
        struct raft_effects effects;
        struct raft_message *messages;
        size_t message_capacity;
        struct raft_message *held;           /* reveal a term that is not durable yet (P1) */
        size_t held_count, held_capacity;
        struct raft_stage stages[8];
        struct raft_log_request log_requests[LIMIT_MEMBERS];
        struct raft_chunk_request chunk_requests[LIMIT_MEMBERS];
        void **scratch;                      /* memory that this turn's effects point to */
        size_t scratch_count, scratch_capacity;
};

/* raft.c */
uint64_t raft_random(struct raft *raft, uint64_t below);
/* Zeroed memory that lives until raft_effects_clear. */
void *raft_scratch(struct raft *raft, size_t count, size_t size);
void raft_send(struct raft *raft, const struct raft_message *message);
void raft_become_follower(struct raft *raft, uint64_t term, uint64_t leader);
void raft_append_own(struct raft *raft, struct raft_entry *entry);
void raft_push_configuration(struct raft *raft, struct raft_configuration *configuration);
void raft_roll_back_configurations(struct raft *raft, uint64_t from);
void raft_commit_to(struct raft *raft, uint64_t index);

/* election.c */
void raft_election_tick(struct raft *raft);
void raft_election_arm(struct raft *raft);
void raft_election_hurry(struct raft *raft);
void raft_vote_request(struct raft *raft, const struct raft_message *message);
void raft_vote_reply(struct raft *raft, const struct raft_message *message);
void raft_vote_persisted(struct raft *raft);

/* follower.c */
void raft_append_request(struct raft *raft, const struct raft_message *message);
void raft_ack_durable(struct raft *raft);
/* The message speaks for the leader of its term. False: it is from the past, and was told so (E5). */
bool raft_hear_leader(struct raft *raft, const struct raft_message *message);

/* leader.c */
void raft_become_leader(struct raft *raft);
void raft_leader_tick(struct raft *raft);
void raft_leader_flush(struct raft *raft);
void raft_append_reply(struct raft *raft, const struct raft_message *message);
void raft_leader_advance(struct raft *raft);
void raft_leader_link(struct raft *raft, uint64_t node, bool up);
void raft_leader_drop(struct raft *raft);
/* When a majority, this leader among it, was last known to follow it. */
uint64_t raft_leader_contact_ms(struct raft *raft);
struct progress *raft_progress_of(struct raft *raft, uint64_t node);
void raft_progress_match_configuration(struct raft *raft);
void raft_progress_probe(struct progress *progress, uint64_t next);
void raft_progress_heard(struct raft *raft, struct progress *progress, uint64_t round);

/* snapshot.c */
void raft_snapshot_flush(struct raft *raft, struct progress *progress);
void raft_snapshot_request(struct raft *raft, const struct raft_message *message);
void raft_snapshot_reply(struct raft *raft, const struct raft_message *message);
/* It has the state of the snapshot that is sent now, at least. */
void raft_snapshot_is_there(const struct raft *raft, struct progress *progress);
/* Nobody sends the rest of it, or it is not needed any more. What is on its way to the disk is waited for. */
void raft_snapshot_give_up(struct raft *raft);

/* membership.c */
void raft_membership_tick(struct raft *raft);

/* transfer.c */
/* Accepts NULL. It takes what it is sent as it comes, and is not further from the end than one message. */
bool raft_keeps_up(const struct raft *raft, const struct progress *progress);
/* Any role: notices who leads, and for how long. */
void raft_transfer_notice(struct raft *raft);
void raft_transfer_tick(struct raft *raft);
/* The end of a leader's turn: the target has all, it may campaign. */
void raft_transfer_flush(struct raft *raft);
void raft_transfer_drop(struct raft *raft);
void raft_timeout_now(struct raft *raft, const struct raft_message *message);
