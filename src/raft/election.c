/* election.c - pre-vote, vote, and the timers that start them. */
#include <assert.h>

#include "base/cleanup.h"
#include "base/mutation.h"
#include "raft/internal.h"

static bool is_witness(const struct raft *raft)
{
        const struct raft_member *member = raft_configuration_find(raft_configuration(raft), raft->id);

        return member && member->witness;
}

/* E4: a randomized timeout in [T, 1.5T). A witness leaves the first try to the others. Half a timeout of chance is enough, since votes that
 * split all the same cost a quarter of one only (count_refusal). */
void raft_election_arm(struct raft *raft)
{
        uint64_t timeout = raft->settings.election_timeout_ms;

        raft->election_deadline = raft->now + (is_witness(raft) ? 2 * timeout : timeout) + raft_random(raft, timeout / 2);
}

/* There is evidence that no leader is there: the pre-vote keeps acting on it at once safe. */
void raft_election_hurry(struct raft *raft)
{
        uint64_t span = MIN(raft->settings.election_timeout_ms / 10, (uint64_t)50);
        uint64_t soon = raft->now + (is_witness(raft) ? 2 * span : 0) + raft_random(raft, span);

        if (raft->election_deadline > soon)
                raft->election_deadline = soon;
}

static bool is_majority(const struct raft *raft, size_t count)
{
        return count > raft_configuration_voters(raft_configuration(raft)) / 2;
}

/* E3: what is advertised is what the disk holds. */
static void ask_for_votes(struct raft *raft, bool pre)
{
        const struct raft_configuration *configuration = raft_configuration(raft);

        for (size_t i = 0; i < configuration->count; i++) {
                const struct raft_member *member = &configuration->members[i];

                if (member->id == raft->id || member->standing != RAFT_VOTER)
                        continue;
                raft_send(raft, &(struct raft_message){
                        .kind = RAFT_VOTE,
                        .node = member->id,
                        .term = pre ? raft->hard.term + 1 : raft->hard.term,
                        .index = raft->log.last,
                        .log_term = raft_log_last_term(&raft->log),
                        .pre = pre,
                        .transfer = !pre && raft->by_transfer,
                });
        }
        raft->ask_again_ms = raft->now + raft->settings.heartbeat_ms / 2 + raft_random(raft, raft->settings.heartbeat_ms);
}

/* False: it was there already. */
static bool add_once(uint64_t *ids, size_t *count, uint64_t id)
{
        for (size_t i = 0; i < *count; i++)
                if (ids[i] == id)
                        return false;
        ids[(*count)++] = id;
        return true;
}

static void count_vote(struct raft *raft, uint64_t voter)
{
        if (raft_configuration_votes(raft_configuration(raft), voter))
                (void)add_once(raft->votes, &raft->vote_count, voter);
}

static void become_candidate(struct raft *raft, bool by_transfer)
{
        raft->role = RAFT_CANDIDATE;
        raft->leader = 0;
        raft->verified = 0;
        raft->round_seen = 0;
        raft->ack_owed = false;
        raft->by_transfer = by_transfer;
        raft->asked_to_lead = 0;
        raft->refuser_count = 0;
        raft->hard = (struct raft_hard_state){ .term = raft->hard.term + 1, .vote = raft->id };
        raft->effects.hard_changed = true;
        raft->vote_count = 0;
        raft->vote_asked = false;            /* E2: the own vote is cast and asked for only when it is durable */
        raft_election_arm(raft);
}

static void become_pre_candidate(struct raft *raft)
{
        raft->role = RAFT_PRE_CANDIDATE;
        raft->leader = 0;
        raft->verified = 0;
        raft->round_seen = 0;
        raft->ack_owed = false;
        raft->vote_count = 0;
        raft_election_arm(raft);
        count_vote(raft, raft->id);
        if (is_majority(raft, raft->vote_count))
                become_candidate(raft, false);
        else
                ask_for_votes(raft, true);
}

/* M4: who is no voter any more by a change that may not be committed may be the only one that has it: the others
 * cannot win without its vote. Its own vote does not count. (Ongaro, "Consensus: Bridging Theory and Practice", 4.2.2.) */
static bool may_campaign(const struct raft *raft)
{
        size_t last = raft->configuration_count - 1;

        if (!raft->settings.campaigns)
                return false;
        return raft_configuration_votes(raft->configurations[last], raft->id) ||
               (last > 0 && raft->configurations[last]->index > raft->commit && raft_configuration_votes(raft->configurations[last - 1], raft->id));
}

/* E3, S2: not with a write in flight, not while a snapshot is being installed. */
static bool is_settled(const struct raft *raft)
{
        return (raft->pending_count == 0 || MUTATED(IN_FLIGHT)) && !raft->receiving.active && !raft->effects.hard_changed &&
               raft->effects.first > raft->effects.last && raft->effects.truncate_from == 0;
}

/* E7: asked by the leader itself; no pre-vote, and the others need not have lost it. But a leader gives a transfer up after a timeout,
 * and who was stopped meanwhile, or cannot write, must not depose it then: so it is a tick that decides, which knows the time. */
static void lead_if_asked(struct raft *raft)
{
        if (raft->now - raft->asked_ms >= raft->settings.election_timeout_ms)
                raft->asked_to_lead = 0;
        if (raft->asked_to_lead == 0 || raft->asked_to_lead != raft->hard.term || raft->role != RAFT_FOLLOWER || !is_settled(raft))
                return;
        if (raft_configuration_votes(raft_configuration(raft), raft->id))
                become_candidate(raft, true);
}

void raft_election_tick(struct raft *raft)
{
        lead_if_asked(raft);
        if (raft->now < raft->election_deadline) {
                /* Who said no may have lost the leader by now; what was asked may be lost. */
                if (raft->now >= raft->ask_again_ms && (raft->role == RAFT_PRE_CANDIDATE || (raft->role == RAFT_CANDIDATE && raft->vote_asked)))
                        ask_for_votes(raft, raft->role == RAFT_PRE_CANDIDATE);
                return;
        }
        if (raft->role == RAFT_FOLLOWER && raft->leader != 0) {
                /* Without a word for a whole timeout there is no leader to name. */
                raft->leader = 0;
                raft->leader_link_lost = true;
                raft_snapshot_give_up(raft);
        }
        if (!may_campaign(raft)) {
                raft_election_arm(raft);
                return;
        }
        if (is_settled(raft))
                become_pre_candidate(raft);
}

static bool log_is_up_to_date(const struct raft *raft, const struct raft_message *message)
{
        uint64_t last_term = raft_log_last_term(&raft->log);

        return MUTATED(STALE_LOG) || message->log_term > last_term || (message->log_term == last_term && message->index >= raft->log.last);
}

/* E1: somebody leads, as far as this node can tell. */
static bool leader_is_alive(const struct raft *raft)
{
        if (raft->role == RAFT_LEADER)
                return true;
        return raft->leader != 0 && !raft->leader_link_lost && raft->now - raft->leader_contact_ms < raft->settings.election_timeout_ms;
}

static void reply_to_vote(struct raft *raft, const struct raft_message *request, bool granted)
{
        raft_send(raft, &(struct raft_message){
                .kind = RAFT_VOTE_REPLY,
                .node = request->node,
                .term = granted && request->pre ? request->term : raft->hard.term,
                .pre = request->pre,
                .granted = granted,
        });
}

void raft_vote_request(struct raft *raft, const struct raft_message *message)
{
        uint64_t deadline = raft->role == RAFT_LEADER ? UINT64_MAX : raft->election_deadline;

        /* E7: a campaign that the leader itself asked for deposes nobody against its will. */
        if (message->transfer && !message->pre) {
                raft->handed_term = MAX(raft->handed_term, message->term);
        } else if (leader_is_alive(raft) && !MUTATED(DEPOSE)) {
                /* E5: a node that was away with a higher term learns of the leader by its
                 * appends; its vote request must not depose anybody. */
                reply_to_vote(raft, message, false);
                return;
        }
        if (message->pre) {
                reply_to_vote(raft, message, message->term > raft->hard.term && log_is_up_to_date(raft, message));
                return;
        }
        if (message->term > raft->hard.term)
                raft_become_follower(raft, message->term, 0);
        if (message->term < raft->hard.term || raft->role != RAFT_FOLLOWER ||
            (raft->hard.vote != 0 && raft->hard.vote != message->node && !(MUTATED(R3) && message->transfer)) || !log_is_up_to_date(raft, message)) {
                /* Who gives no vote has no reason to wait for its winner: it may be the only one that can win itself. */
                if (deadline < raft->election_deadline)
                        raft->election_deadline = deadline;
                reply_to_vote(raft, message, false);
                return;
        }
        if (raft->hard.vote != message->node) {
                raft->hard.vote = message->node;
                raft->effects.hard_changed = true;
        }
        raft_election_arm(raft);
        raft->vote_reply_to = message->node;
        raft_vote_persisted(raft);           /* it may be durable already: the request came twice */
}

/* E2: a vote is spoken only when it is on disk. */
void raft_vote_persisted(struct raft *raft)
{
        bool durable = raft->durable_hard.term == raft->hard.term && raft->durable_hard.vote == raft->hard.vote;

        if (!durable && !MUTATED(VOTE_EARLY))
                return;
        if (raft->role == RAFT_FOLLOWER && raft->vote_reply_to != 0) {
                raft_send(raft, &(struct raft_message){
                        .kind = RAFT_VOTE_REPLY,
                        .node = raft->vote_reply_to,
                        .term = raft->hard.term,
                        .granted = true,
                });
                raft->vote_reply_to = 0;
        }
        if (raft->role != RAFT_CANDIDATE || raft->vote_asked)
                return;
        raft->vote_asked = true;
        raft_election_arm(raft);             /* a slow disk here leaves the others their time */
        count_vote(raft, raft->id);
        if (is_majority(raft, raft->vote_count))
                raft_become_leader(raft);
        else
                ask_for_votes(raft, false);
}

static bool contains(const uint64_t *ids, size_t count, uint64_t id)
{
        for (size_t i = 0; i < count; i++)
                if (ids[i] == id)
                        return true;
        return false;
}

/* Who is not linked - most likely the leader that died - will not vote either. */
static bool may_still_win(const struct raft *raft)
{
        const struct raft_configuration *configuration = raft_configuration(raft);
        size_t hopes = 0;

        for (size_t i = 0; i < configuration->count; i++) {
                const struct raft_member *member = &configuration->members[i];

                hopes += member->standing == RAFT_VOTER && !contains(raft->refusers, raft->refuser_count, member->id) &&
                         (member->id == raft->id || contains(raft->votes, raft->vote_count, member->id) || raft_is_linked(raft, member->id));
        }
        return is_majority(raft, hopes);
}

/* Who cannot win any more does not sit the timeout out: whoever split the votes with it waits as long. */
static void count_refusal(struct raft *raft, const struct raft_message *message)
{
        const struct raft_configuration *configuration = raft_configuration(raft);

        if (raft->role != RAFT_CANDIDATE || message->pre || message->term != raft->hard.term || !raft_configuration_votes(configuration, message->node))
                return;
        if (add_once(raft->refusers, &raft->refuser_count, message->node) && !may_still_win(raft))
                raft->election_deadline = MIN(raft->election_deadline, raft->now + raft_random(raft, raft->settings.election_timeout_ms / 4));
}

void raft_vote_reply(struct raft *raft, const struct raft_message *message)
{
        if (!message->granted) {
                if (message->term > raft->hard.term)
                        raft_become_follower(raft, message->term, 0);
                else
                        count_refusal(raft, message);
                return;
        }
        if (message->pre) {
                if (raft->role != RAFT_PRE_CANDIDATE || message->term != raft->hard.term + 1)
                        return;
                count_vote(raft, message->node);
                if (is_majority(raft, raft->vote_count))
                        become_candidate(raft, false);
                return;
        }
        if (raft->role != RAFT_CANDIDATE || message->term != raft->hard.term || !raft->vote_asked)
                return;
        count_vote(raft, message->node);
        if (is_majority(raft, raft->vote_count))
                raft_become_leader(raft);
}
