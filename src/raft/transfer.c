/* transfer.c - leadership is handed over: on request, by a node that stops, and back to where it belongs.
 * Ongaro 2014, 3.10; the preferred leader is DESIGN D3. */
#include <assert.h>

#include "base/cleanup.h"
#include "raft/internal.h"

static bool is_full_voter(const struct raft_member *member)
{
        return member && member->standing == RAFT_VOTER && !member->witness;
}

bool raft_keeps_up(const struct raft *raft, const struct progress *progress)
{
        return progress && progress->link_up && progress->state == PROGRESS_REPLICATE && raft->log.last - progress->match <= LIMIT_APPEND_ENTRIES;
}

static bool begin(struct raft *raft, uint64_t target, bool holds, bool returns)
{
        const struct raft_member *member = raft_configuration_find(raft_configuration(raft), target);
        const struct progress *progress = raft->role == RAFT_LEADER ? raft_progress_of(raft, target) : NULL;

        if (!raft_is_ready(raft) || raft->transfer.target != 0 || !member || member->standing != RAFT_VOTER || !raft_keeps_up(raft, progress))
                return false;
        raft->transfer.target = target;
        raft->transfer.give_up_ms = raft->now + raft->settings.election_timeout_ms;
        raft->transfer.holds = holds;
        raft->transfer.returns = returns;
        raft->transfer.sent = false;
        return true;
}

bool raft_transfer(struct raft *raft, uint64_t target, bool holds)
{
        return begin(raft, target, holds, false);
}

static bool is_among(uint64_t node, const uint64_t *nodes, size_t count)
{
        for (size_t i = 0; i < count; i++)
                if (nodes[i] == node)
                        return true;
        return false;
}

bool raft_transfer_to_best(struct raft *raft, const uint64_t *except, size_t except_count)
{
        const struct raft_configuration *configuration = raft_configuration(raft);
        const struct raft_member *best = NULL;
        uint64_t best_match = 0;

        for (size_t i = 0; i < configuration->count; i++) {
                const struct raft_member *member = &configuration->members[i];
                const struct progress *progress = raft->role == RAFT_LEADER ? raft_progress_of(raft, member->id) : NULL;

                if (member->standing != RAFT_VOTER || !raft_keeps_up(raft, progress) || is_among(member->id, except, except_count))
                        continue;
                if (!best || best->witness > member->witness || (best->witness == member->witness && best_match < progress->match)) {
                        best = member;
                        best_match = progress->match;
                }
        }
        return best && begin(raft, best->id, false, false);
}

void raft_hold(struct raft *raft)
{
        assert(raft->role == RAFT_LEADER);
        raft->holds = true;
}

uint64_t raft_transfer_target(const struct raft *raft)
{
        return raft->transfer.target;
}

/* DESIGN section 5: after a failure a minute, doubling to thirty. */
static void put_off_return(struct raft *raft)
{
        raft->return_wait_ms = raft->return_wait_ms ? MIN(raft->return_wait_ms * 2, (uint64_t)LIMIT_RETURN_WAIT_MS) : LIMIT_RETURN_FIRST_WAIT_MS;
        raft->return_after_ms = raft->now + raft->return_wait_ms;
}

static void give_up(struct raft *raft)
{
        if (raft->transfer.returns)
                put_off_return(raft);
        raft_transfer_drop(raft);
}

void raft_transfer_drop(struct raft *raft)
{
        raft->transfer.target = 0;
}

/* E7: nothing is proposed meanwhile, so the end of the log stays where it is; who has all of it can win at once. */
void raft_transfer_flush(struct raft *raft)
{
        const struct progress *progress = raft->transfer.target != 0 ? raft_progress_of(raft, raft->transfer.target) : NULL;

        if (!progress || raft->transfer.sent || progress->match != raft->log.last)
                return;
        raft->transfer.sent = true;
        raft->handed_term = raft->hard.term + 1;
        raft_send(raft, &(struct raft_message){
                .kind = RAFT_TIMEOUT_NOW,
                .node = raft->transfer.target,
                .term = raft->hard.term,
                .index = raft->log.last,
                .transfer = raft->transfer.holds,
        });
}

void raft_timeout_now(struct raft *raft, const struct raft_message *message)
{
        if (message->term != raft->hard.term || raft->role != RAFT_FOLLOWER || raft->leader != message->node || message->index != raft->log.last)
                return;
        raft->asked_to_lead = message->term;
        raft->asked_to_hold = message->transfer;
        raft->asked_ms = raft->now;
}

/* A leader that came by a transfer and is lost within a minute would come and go for ever. One that stays is forgiven. */
void raft_transfer_notice(struct raft *raft)
{
        const struct raft_member *member = raft_configuration_find(raft_configuration(raft), raft->seen_leader);
        uint64_t leader = raft_leader(raft), stayed = raft->now - raft->seen_leader_ms;
        bool preferred = member && member->preferred;

        if (preferred && stayed >= LIMIT_RETURN_FIRST_WAIT_MS)
                raft->return_wait_ms = 0;
        if (leader == raft->seen_leader && raft->hard.term == raft->seen_leader_term)
                return;
        if (preferred && raft->seen_leader_term == raft->handed_term && stayed < LIMIT_RETURN_FIRST_WAIT_MS && leader != raft->seen_leader) {
                put_off_return(raft);
                raft->handed_term = 0;
        }
        if (leader == 0 && raft->hard.term == raft->seen_leader_term)
                return;                      /* lost, as noted; or only silent for a while, and then it is the same again */
        raft->seen_leader = leader;
        raft->seen_leader_ms = raft->now;
        raft->seen_leader_term = raft->hard.term;
}

/* To whom leadership belongs when this node only stands in for it: the preferred leader; or, while a witness leads, any full
 * voter. NULL: it is right here, or with nobody. */
static const struct raft_member *rightful(struct raft *raft)
{
        const struct raft_configuration *configuration = raft_configuration(raft);
        const struct raft_member *self = raft_configuration_find(configuration, raft->id), *other = NULL;

        if (raft->holds || !self || self->preferred)
                return NULL;
        for (size_t i = 0; i < configuration->count; i++) {
                const struct raft_member *member = &configuration->members[i];

                if (!is_full_voter(member) || member->id == raft->id || !raft_keeps_up(raft, raft_progress_of(raft, member->id)))
                        continue;
                if (member->preferred)
                        return member;
                if (self->witness)
                        other = member;
        }
        return other;
}

/* A witness hands over as soon as it can; else who gets leadership back has to be there, and up to date, for some time. */
static void return_leadership(struct raft *raft)
{
        const struct raft_member *self = raft_configuration_find(raft_configuration(raft), raft->id), *member = rightful(raft);
        const struct progress *progress = member ? raft_progress_of(raft, member->id) : NULL;

        if (!progress || (!self->witness && (raft->now < raft->return_after_ms || raft->now - progress->unsteady_ms < LIMIT_RETURN_STEADY_MS)))
                return;
        if (self->witness && raft->now - progress->unsteady_ms < raft->settings.heartbeat_ms)
                return;
        (void)begin(raft, member->id, false, true);
}

void raft_transfer_tick(struct raft *raft)
{
        for (size_t i = 0; i < raft->progress_count; i++)
                if (!raft_keeps_up(raft, raft->progress[i]))
                        raft->progress[i]->unsteady_ms = raft->now;
        if (raft->transfer.target != 0) {
                const struct progress *progress = raft_progress_of(raft, raft->transfer.target);

                if (raft->now >= raft->transfer.give_up_ms || !progress || !progress->link_up)
                        give_up(raft);
                return;
        }
        return_leadership(raft);
}
