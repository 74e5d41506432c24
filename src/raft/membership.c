/* membership.c - one member at a time (Ongaro 2014, chapter 4; the correction of 2015 is M1). */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/mutation.h"
#include "raft/internal.h"

/* M1, R6: the change before is committed, and so is an entry of this term. */
bool raft_may_change(const struct raft *raft)
{
        return (raft_is_ready(raft) || (MUTATED(R6) && raft->role == RAFT_LEADER)) && raft->transfer.target == 0 &&
               (raft_configuration(raft)->index <= raft->commit || MUTATED(SECOND_CHANGE));
}

static uint64_t propose_configuration(struct raft *raft, struct raft_configuration *configuration)
{
        struct bytes body = { 0 };
        uint64_t index;

        assert(raft_may_change(raft));
        raft_configuration_put(&body, configuration);
        index = raft_propose(raft, RAFT_ENTRY_CONFIGURATION, body.data, body.size);
        bytes_done(&body);
        configuration->index = index;
        raft_push_configuration(raft, configuration);    /* in force from the moment it is in the log */
        raft_progress_match_configuration(raft);
        return index;
}

static void take_out(struct raft_configuration *configuration, uint64_t id)
{
        size_t kept = 0;

        for (size_t i = 0; i < configuration->count; i++)
                if (configuration->members[i].id != id)
                        configuration->members[kept++] = configuration->members[i];
        configuration->count = kept;
}

uint64_t raft_add_learner(struct raft *raft, const struct raft_member *newcomer, uint64_t replaces)
{
        struct raft_configuration *configuration;
        struct raft_member *member;

        if (!raft_may_change(raft) || (raft_configuration(raft)->count >= LIMIT_MEMBERS && replaces == 0))
                return 0;
        configuration = raft_configuration_copy(raft_configuration(raft), 1);
        take_out(configuration, replaces);
        member = &configuration->members[configuration->count];
        *member = *newcomer;
        member->id = raft->log.last + 1;
        member->standing = RAFT_LEARNER;
        for (size_t i = 0; i < configuration->count; i++)
                if (configuration->members[i].preferred)
                        member->preferred = false;
        configuration->count++;
        return propose_configuration(raft, configuration);
}

static uint64_t change_standing(struct raft *raft, uint64_t id, enum raft_standing standing)
{
        const struct raft_member *member = raft_configuration_find(raft_configuration(raft), id);
        struct raft_configuration *configuration;

        if (!raft_may_change(raft) || !member || member->standing == standing)
                return 0;
        configuration = raft_configuration_copy(raft_configuration(raft), 0);
        for (size_t i = 0; i < configuration->count; i++)
                if (configuration->members[i].id == id)
                        configuration->members[i].standing = standing;
        return propose_configuration(raft, configuration);
}

uint64_t raft_demote(struct raft *raft, uint64_t id)
{
        uint64_t index = change_standing(raft, id, RAFT_LEARNER);
        struct progress *progress = index != 0 ? raft_progress_of(raft, id) : NULL;

        /* M5: who was demoted is about to stop. */
        if (progress)
                progress->learns_until_ms = raft->now + 2 * raft->settings.election_timeout_ms;
        return index;
}

uint64_t raft_remove(struct raft *raft, uint64_t id)
{
        struct raft_configuration *configuration;

        if (!raft_may_change(raft) || !raft_configuration_find(raft_configuration(raft), id))
                return 0;
        configuration = raft_configuration_copy(raft_configuration(raft), 0);
        take_out(configuration, id);
        return propose_configuration(raft, configuration);
}

void raft_node_level(struct raft *raft, uint64_t node, unsigned level)
{
        size_t at = 0;

        while (at < ARRAY_SIZE(raft->levels) && raft->levels[at].node != node)
                at++;
        if (at == ARRAY_SIZE(raft->levels))
                at = raft->level_next++ % ARRAY_SIZE(raft->levels);
        raft->levels[at].node = node;
        raft->levels[at].level = level;
}

/* 0: not there, so that nobody knows what its program is now. */
unsigned raft_level_of(const struct raft *raft, uint64_t node)
{
        if (node == raft->id)
                return raft->settings.level;
        for (size_t i = 0; i < ARRAY_SIZE(raft->levels) && raft_is_linked(raft, node); i++)
                if (raft->levels[i].node == node)
                        return raft->levels[i].level;
        return 0;
}

/* The level rises when all members are there and know the next one. False: it does not. */
static bool raise_level(struct raft *raft)
{
        const struct raft_configuration *configuration = raft_configuration(raft);
        struct raft_configuration *raised;
        unsigned level = raft->settings.level;

        for (size_t i = 0; i < configuration->count; i++)
                level = MIN(level, MUTATED(LEVEL_EARLY) ? level : raft_level_of(raft, configuration->members[i].id));
        if (level <= configuration->level)
                return false;
        raised = raft_configuration_copy(configuration, 0);
        raised->level = level;
        (void)propose_configuration(raft, raised);
        return true;
}

/* M3: a learner that is there and keeps up, the preferred leader before all others; NULL: there is none. */
static const struct raft_member *next_voter(struct raft *raft)
{
        const struct raft_configuration *configuration = raft_configuration(raft);
        const struct raft_member *next = NULL;

        for (size_t i = 0; i < configuration->count; i++) {
                const struct raft_member *member = &configuration->members[i];
                const struct progress *progress = raft_progress_of(raft, member->id);

                if (member->standing != RAFT_LEARNER || !raft_keeps_up(raft, progress) || !progress->caught_up || raft->now < progress->learns_until_ms)
                        continue;
                if (!next || member->preferred)
                        next = member;
        }
        return next;
}

static bool is_there(const struct raft *raft, uint64_t node)
{
        return node == raft->id || raft_is_linked(raft, node);
}

bool raft_can_do_without(const struct raft *raft, uint64_t id)
{
        const struct raft_configuration *configuration = raft_configuration(raft);
        size_t voters = 0, there = 0;

        for (size_t i = 0; i < configuration->count; i++) {
                const struct raft_member *member = &configuration->members[i];

                if (member->standing != RAFT_VOTER || member->id == id)
                        continue;
                voters++;
                there += is_there(raft, member->id);
        }
        return there > voters / 2;
}

/* Whose vote the preferred leader takes when there is no room: that of the youngest full member, one that is not there before all
 * others. 0: of nobody. */
static uint64_t dispensable_voter(const struct raft *raft)
{
        const struct raft_configuration *configuration = raft_configuration(raft);
        const struct raft_member *found = NULL;

        for (size_t i = configuration->count; i-- > 0;) {
                const struct raft_member *member = &configuration->members[i];

                if (member->standing != RAFT_VOTER || member->witness || member->id == raft->id || !raft_can_do_without(raft, member->id))
                        continue;
                if (!found || (is_there(raft, found->id) && !is_there(raft, member->id)))
                        found = member;
        }
        return found ? found->id : 0;
}

/* One change at a time (M1): the level, then who votes. */
void raft_membership_tick(struct raft *raft)
{
        const struct raft_configuration *configuration = raft_configuration(raft);
        const struct raft_member *next;

        if (!raft_may_change(raft) || raise_level(raft))
                return;
        next = next_voter(raft);
        if (!next)
                return;
        if (raft_configuration_voters(configuration) < raft->settings.max_voters)
                (void)change_standing(raft, next->id, RAFT_VOTER);
        else if (next->preferred && raft->settings.max_voters > 1)
                (void)change_standing(raft, dispensable_voter(raft), RAFT_LEARNER);     /* it follows in its place */
}
