/* follower.c - taking entries from a leader, and saying how far they are safe. */
#include <assert.h>

#include "base/cleanup.h"
#include "base/mutation.h"
#include "raft/internal.h"

static void reject(struct raft *raft, const struct raft_message *message, uint64_t hint)
{
        raft_send(raft, &(struct raft_message){
                .kind = RAFT_APPEND_REPLY,
                .node = message->node,
                .term = raft->hard.term,
                .index = message->index,
                .hint = hint,
                .round = raft->round_seen,
        });
}

/* P2, R2, R4: built from what is true now, for the leader of now: on this disk, and
 * compared with this leader's log in this term. */
static void acknowledge(struct raft *raft, uint64_t index)
{
        raft_send(raft, &(struct raft_message){
                .kind = RAFT_APPEND_REPLY,
                .node = raft->leader,
                .term = raft->hard.term,
                .granted = true,
                .index = index,
                .match = MIN(MUTATED(ACK_EARLY) ? raft->verified : raft->durable, MUTATED(R2) ? raft->durable : raft->verified),
                .round = raft->round_seen,
        });
}

void raft_ack_durable(struct raft *raft)
{
        if (!raft->ack_owed || raft->leader == 0 || raft->durable_hard.term != raft->hard.term)
                return;
        if (raft->durable >= raft->verified)
                raft->ack_owed = false;
        acknowledge(raft, raft->verified);
}

/* True: the entry before the message's entries is ours too. */
static bool previous_matches(struct raft *raft, const struct raft_message *message, uint64_t *ret_hint)
{
        uint64_t term, index = message->index;

        if (index <= raft->commit)
                return true;                 /* committed entries are the same everywhere */
        if (index > raft->log.last) {
                *ret_hint = raft->log.last + 1;
                return false;
        }
        if (!raft_log_term(&raft->log, index, &term))
                assert(false);               /* everything after commit is in memory */
        if (term == message->log_term)
                return true;
        /* C3: skip the whole term that differs. */
        while (index - 1 > raft->commit) {
                uint64_t before;

                if (!raft_log_term(&raft->log, index - 1, &before) || before != term)
                        break;
                index--;
        }
        *ret_hint = index;
        return false;
}

static void truncate_from(struct raft *raft, uint64_t index)
{
        assert(index > raft->commit);        /* P4 */
        raft_log_truncate(&raft->log, index);
        raft_roll_back_configurations(raft, index);
        if (raft->durable >= index)
                raft->durable = index - 1;
        for (size_t i = 0; i < raft->pending_count; i++)
                raft->pending[i].last = MUTATED(LATE_WRITE) ? raft->pending[i].last : MIN(raft->pending[i].last, index - 1);   /* P4: what they write is gone by then */
        if (raft->effects.first <= raft->effects.last && raft->effects.last >= index) {
                raft->effects.last = index - 1;          /* never left this turn */
                if (raft->effects.first > raft->effects.last)
                        raft->effects.first = raft->effects.last + 1;
        }
        if (raft->effects.truncate_from == 0 || raft->effects.truncate_from > index)
                raft->effects.truncate_from = index;
}

/* False: the entry is malformed; nothing of it is kept. */
static bool take_entry(struct raft *raft, const struct raft_entry *entry)
{
        struct raft_configuration *configuration = NULL;
        uint64_t term;

        if (entry->index <= raft->commit)
                return true;
        if (entry->index <= raft->log.last) {
                if (!raft_log_term(&raft->log, entry->index, &term))
                        assert(false);
                if (term == entry->term && !MUTATED(TRUNCATE))
                        return true;
                truncate_from(raft, entry->index);       /* P4: only at a real conflict */
        }
        if (entry->term < raft_log_last_term(&raft->log) || entry->cluster_ms < raft_log_last_cluster_ms(&raft->log))
                return false;
        if (entry->kind == RAFT_ENTRY_CONFIGURATION) {
                configuration = raft_configuration_get(entry->index, entry->body, entry->size);
                if (!configuration)
                        return false;
        }
        raft->asked_to_lead = 0;             /* E7: a leader that appends again has given the transfer up */
        raft_append_own(raft, raft_entry_new(entry->index, entry->term, entry->kind, entry->cluster_ms, entry->wall_ms, entry->body,
                                             entry->size));
        if (configuration)
                raft_push_configuration(raft, configuration);
        return true;
}

bool raft_hear_leader(struct raft *raft, const struct raft_message *message)
{
        if (message->term < raft->hard.term) {
                reject(raft, message, 0);
                return false;
        }
        if (raft->role == RAFT_LEADER && message->term == raft->hard.term)
                return false;                /* a forgery: this node leads the term */
        if (message->term > raft->hard.term || raft->role != RAFT_FOLLOWER || raft->leader != message->node)
                raft_become_follower(raft, message->term, message->node);
        raft->heard_leader = true;
        raft->leader_link_lost = false;
        raft->leader_contact_ms = raft->now;
        raft->round_seen = MAX(raft->round_seen, message->round);
        if (message->kind == RAFT_APPEND)
                raft->heard_cluster_ms = MAX(raft->heard_cluster_ms, message->cluster_ms);
        raft_election_arm(raft);
        return true;
}

void raft_append_request(struct raft *raft, const struct raft_message *message)
{
        uint64_t verified = message->index, hint = 0;

        if (!raft_hear_leader(raft, message))
                return;
        if (raft->receiving.installing) {
                acknowledge(raft, 0);        /* S2: the log is about to be replaced */
                return;
        }
        if (!previous_matches(raft, message, &hint)) {
                reject(raft, message, hint);
                return;
        }
        for (size_t i = 0; i < message->entry_count; i++) {
                if (!take_entry(raft, message->entries[i]))
                        break;
                verified = message->entries[i]->index;
        }
        raft->verified = MAX(raft->verified, verified);
        assert(raft->verified <= raft->log.last || raft->verified <= raft->commit);
        raft_commit_to(raft, MIN(message->commit, MUTATED(UNVERIFIED) ? raft->log.last : raft->verified));      /* C6; it never moves back */
        if (raft->commit >= raft->receiving.index)
                raft_snapshot_give_up(raft);

        /* An append is acknowledged by the disk; a heartbeat at once, with what the disk has. */
        if (message->entry_count > 0 && raft->durable < raft->verified)
                raft->ack_owed = true;
        else
                acknowledge(raft, verified);
}
