/* watch.c - what must hold between the nodes at every moment. Tags name the rules in src/README.md. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "raft/internal.h"
#include "sim.h"

#define TERMS_PER_INDEX 6

/* Every entry that any node ever appended: what stands at (index, term), and after which term. */
struct seen {
        uint64_t term, previous_term;
        uint64_t hash;
};

struct watch {
        struct seen seen[SIM_ENTRIES][TERMS_PER_INDEX];
};

void watch_init(struct sim *sim)
{
        sim->watch = alloc_zeroed(1, sizeof(*sim->watch));
}

void watch_done(struct sim *sim)
{
        free(sim->watch);
}

static uint64_t entry_hash(const struct raft_entry *entry)
{
        uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ entry->kind ^ (entry->cluster_ms << 8);

        for (size_t i = 0; i < entry->size; i++)
                hash = (hash ^ entry->body[i]) * UINT64_C(0x100000001b3);
        return hash;
}

/* Log matching: the same index and term is the same entry after the same log. */
static void watch_entry(struct sim *sim, const struct sim_node *node, const struct raft_entry *entry, uint64_t previous_term)
{
        struct seen *seen = sim->watch->seen[entry->index];
        const struct seen now = { .term = entry->term, .previous_term = previous_term, .hash = entry_hash(entry) };
        size_t at = 0;

        while (at < TERMS_PER_INDEX && seen[at].term != 0 && seen[at].term != entry->term)
                at++;
        if (at == TERMS_PER_INDEX)
                return;
        if (seen[at].term == 0)
                seen[at] = now;
        else if (seen[at].hash != now.hash || seen[at].previous_term != now.previous_term)
                sim_fail(sim, "log matching: node %u has another entry %" PRIu64 " of term %" PRIu64 " than others", node->number + 1, entry->index,
                         entry->term);
}

/* M1, M2: the configurations are those of the log, and of them only the last may be uncommitted. */
static void watch_configurations(struct sim *sim, const struct sim_node *node)
{
        const struct raft *raft = replica_raft(node->replica);
        uint64_t known = MAX(sim->committed_last, raft->commit);
        unsigned open = 0;

        for (size_t i = 0; i < raft->configuration_count; i++) {
                uint64_t index = raft->configurations[i]->index;
                const struct raft_entry *entry = raft_entry_at(raft, index);

                open += index > known;
                if (index > raft->log.last || (entry && entry->kind != RAFT_ENTRY_CONFIGURATION))
                        sim_fail(sim, "M2: node %u follows a configuration of %" PRIu64 ", where its log has none", node->number + 1, index);
                if (i > 0 && index <= raft->configurations[i - 1]->index)
                        sim_fail(sim, "M2: the configurations of node %u are not in order", node->number + 1);
        }
        if (open > 1)
                sim_fail(sim, "M1: node %u has %u configurations that are not committed", node->number + 1, open);
}

/* S1: the base is exact, its configuration too. */
void watch_base(struct sim *sim, const struct sim_node *node, const struct raft_base *base)
{
        const struct raft_entry *entry = sim->committed[sim->configuration_at[base->index]];

        if (base->index > sim->committed_last)
                sim_fail(sim, "S1: node %u writes a base of %" PRIu64 ", which is not committed", node->number + 1, base->index);
        if (base->configuration_index != sim->configuration_at[base->index] ||
            (entry && (entry->size != base->configuration_size || memcmp(entry->body, base->configuration, entry->size) != 0)))
                sim_fail(sim, "S1: node %u writes the configuration of %" PRIu64 " in its base of %" PRIu64 ", where that of %" PRIu64 " is in force",
                         node->number + 1, base->configuration_index, base->index, sim->configuration_at[base->index]);
}

void watch_joined(struct sim *sim, const struct sim_node *node, uint64_t id)
{
        const struct raft_entry *entry = id <= sim->committed_last ? sim->committed[id] : NULL;
        struct raft_configuration *configuration = entry && entry->kind == RAFT_ENTRY_CONFIGURATION ?
                                                           raft_configuration_get(id, entry->body, entry->size) : NULL;
        const struct raft_member *member = configuration ? raft_configuration_find(configuration, id) : NULL;

        if (!member || !id128_equal(member->incarnation, node->disk.incarnation))
                sim_fail(sim, "node %u is told that it is member %" PRIu64 ", which is not committed", node->number + 1, id);
        free(configuration);
}

void watch_appended(struct sim *sim, struct sim_node *node, const struct raft_effects *effects)
{
        const struct raft *raft = replica_raft(node->replica);

        if (effects->persist_id == 0)
                return;
        if (effects->truncate_from != 0 && effects->truncate_from <= node->commit_before)
                sim_fail(sim, "P4: node %u cuts its log at %" PRIu64 ", which is committed", node->number + 1, effects->truncate_from);
        for (uint64_t index = effects->first; index <= effects->last; index++) {
                const struct raft_entry *entry = raft_entry_at(raft, index), *before = raft_entry_at(raft, index - 1);

                if (index >= SIM_ENTRIES)
                        sim_fail(sim, "the run is too long");
                if (before)
                        watch_entry(sim, node, entry, before->term);
                if (entry->kind == RAFT_ENTRY_CONFIGURATION && raft->role == RAFT_LEADER && entry->term == raft->hard.term && raft->commit < raft->term_start)
                        sim_fail(sim, "R6: node %u changes the members before an entry of its term is committed", node->number + 1);
                if (entry->kind == RAFT_ENTRY_CONFIGURATION && raft_configuration(raft)->index < index)
                        sim_fail(sim, "M2: node %u does not follow the configuration at %" PRIu64 " of its log", node->number + 1, index);
        }
}

/* --- what is said, and what the disk of who says it has --- */

static void watch_vote(struct sim *sim, struct sim_node *node, const struct raft_message *message)
{
        uint64_t *vote = &sim->vote_of_term[node->number][message->term];
        const struct raft_hard_state *hard = &node->disk.hard;

        if (hard->term != message->term || hard->vote != message->node)
                sim_fail(sim, "E2: node %u votes for %" PRIu64 " in term %" PRIu64 ", but its disk does not say so", node->number + 1, message->node,
                         message->term);
        if (*vote != 0 && *vote != message->node)
                sim_fail(sim, "E2: node %u votes twice in term %" PRIu64, node->number + 1, message->term);
        *vote = message->node;
        if (sim->faults && sim_chance(sim, 100))
                fault_blink(sim, node);
}

/* It is on disk, and it is what the log has there. */
static void watch_acknowledged(struct sim *sim, const struct sim_node *node, uint64_t match)
{
        const struct disk *disk = &node->disk;
        uint64_t term;

        if (match > disk->log_last)
                sim_fail(sim, "P2: node %u acknowledges %" PRIu64 ", its disk ends at %" PRIu64, node->number + 1, match, disk->log_last);
        if (raft_log_term(&replica_raft(node->replica)->log, match, &term) && !disk_has(disk, match, term))
                sim_fail(sim, "P2: node %u acknowledges %" PRIu64 ", where its disk has another entry", node->number + 1, match);
}

void watch_message(struct sim *sim, struct sim_node *node, const struct raft_message *message)
{
        const struct disk *disk = &node->disk;

        if (message->term >= SIM_TERMS)
                sim_fail(sim, "terms grow without end");
        if (!message->pre && message->term > disk->hard.term)
                sim_fail(sim, "P1: node %u speaks in term %" PRIu64 ", its disk knows %" PRIu64, node->number + 1, message->term, disk->hard.term);
        if (message->kind == RAFT_VOTE_REPLY && message->granted && !message->pre)
                watch_vote(sim, node, message);
        if (message->kind == RAFT_VOTE && message->pre && message->index > disk->log_last)
                sim_fail(sim, "E3: node %u asks around with what is not on its disk", node->number + 1);
        if (message->kind == RAFT_VOTE && !message->pre && (disk->hard.vote != raft_id(replica_raft(node->replica)) || message->index > disk->log_last))
                sim_fail(sim, "E3: node %u asks for votes with what is not on its disk", node->number + 1);
        if (message->kind == RAFT_APPEND_REPLY && message->granted)
                watch_acknowledged(sim, node, message->match);
}

/* --- after every turn --- */

/* C1: what a majority has acknowledged in this term is committed at once. */
static void watch_counting(struct sim *sim, const struct sim_node *node, const struct raft *raft)
{
        const struct raft_configuration *configuration = raft_configuration(raft);
        const struct raft_entry *entry = raft_entry_at(raft, raft->commit + 1);
        size_t copies = 0;

        /* A change of voters is counted with from the next word of any of them on. */
        if (!entry || entry->term != raft->hard.term || configuration->index > raft->commit)
                return;
        for (size_t i = 0; i < configuration->count; i++)
                copies += configuration->members[i].standing == RAFT_VOTER && raft_match(raft, configuration->members[i].id) > raft->commit;
        if (copies > raft_configuration_voters(configuration) / 2)
                sim_fail(sim, "C1: node %u does not commit entry %" PRIu64 ", which %zu of %zu voters have acknowledged", node->number + 1, entry->index,
                         copies, raft_configuration_voters(configuration));
}

static void watch_leader(struct sim *sim, struct sim_node *node)
{
        const struct raft *raft = replica_raft(node->replica);
        uint64_t term = raft_term(raft);

        if (raft_role(raft) != RAFT_LEADER) {
                node->lead_term = 0;
                return;
        }
        if (sim->leader_of_term[term] != 0 && sim->leader_of_term[term] != node->number + 1)
                sim_fail(sim, "two leaders in term %" PRIu64 ": nodes %u and %u", term, sim->leader_of_term[term], node->number + 1);
        sim->leader_of_term[term] = node->number + 1;
        if (node->lead_term == term)
                return;
        node->lead_term = term;
        sim->counts[COUNT_TERMS]++;
        sim_trace(sim, "node %u leads term %" PRIu64 ", log to %" PRIu64 ", commit %" PRIu64 " (%" PRIu64 " known)", node->number + 1, term, raft_last(raft),
                  raft_commit(raft), sim->committed_last);
        /* Leader completeness. */
        for (uint64_t index = 1; index <= sim->committed_last; index++) {
                const struct raft_entry *entry = raft_entry_at(raft, index);

                if (sim->committed_in[index] >= term)
                        break;
                if (index > raft_last(raft) || (entry && entry->term != sim->committed[index]->term))
                        sim_fail(sim, "node %u leads term %" PRIu64 " without entry %" PRIu64 " of term %" PRIu64 ", which is committed", node->number + 1,
                                 term, index, sim->committed[index]->term);
        }
}

/* An entry that counts as committed is on the disks of a majority of the voters. */
static void watch_majority(struct sim *sim, struct sim_node *node, const struct raft_entry *entry)
{
        const struct raft_configuration *configuration = raft_configuration(replica_raft(node->replica));
        size_t copies = 0;

        for (size_t i = 0; i < configuration->count; i++) {
                const struct disk *disk = NULL;

                if (configuration->members[i].standing != RAFT_VOTER)
                        continue;
                for (unsigned other = 0; other < sim->node_count && !disk; other++)
                        if (id128_equal(sim->nodes[other].disk.incarnation, configuration->members[i].incarnation))
                                disk = &sim->nodes[other].disk;
                /* It had acknowledged the entry before it was lost. */
                for (const struct disk *lost = sim->lost; lost && !disk; lost = lost->next)
                        if (id128_equal(lost->incarnation, configuration->members[i].incarnation))
                                disk = lost;
                copies += disk && disk_has(disk, entry->index, entry->term);
        }
        if (copies <= raft_configuration_voters(configuration) / 2)
                sim_fail(sim, "node %u takes entry %" PRIu64 " of term %" PRIu64 " for committed, which %zu of %zu voters have on disk", node->number + 1,
                         entry->index, entry->term, copies, raft_configuration_voters(configuration));
}

/* A leader commits; since this was last looked at it may have done so and left. The last term that it led, from this one on; 0: none. */
static uint64_t led_since(const struct sim *sim, const struct sim_node *node, uint64_t term)
{
        for (uint64_t led = raft_term(replica_raft(node->replica)); led >= term; led--)
                if (sim->leader_of_term[led] == node->number + 1)
                        return led;
        return 0;
}

void watch_commit(struct sim *sim, struct sim_node *node)
{
        const struct raft *raft = replica_raft(node->replica);
        uint64_t commit = raft_commit(raft);

        node->commit_before = node->commit_seen;
        if (raft_role(raft) == RAFT_LEADER)
                watch_counting(sim, node, raft);
        if (raft_role(raft) == RAFT_LEADER && node->lead_term == raft->hard.term && commit > node->commit_seen && raft_entry_at(raft, commit)->term != node->lead_term)
                sim_fail(sim, "C1: node %u leads term %" PRIu64 " and commits by counting copies of entry %" PRIu64 " of another term", node->number + 1,
                         node->lead_term, commit);
        if (commit < node->commit_seen)
                sim_fail(sim, "the commit index of node %u moves back from %" PRIu64 " to %" PRIu64, node->number + 1, node->commit_seen, commit);
        for (uint64_t index = node->commit_seen + 1; index <= commit; index++) {
                const struct raft_entry *entry = raft_entry_at(raft, index), *known = sim->committed[index];

                if (!entry && index <= raft_installed(raft) && known)
                        continue;            /* it came with a snapshot */
                if (!entry)
                        sim_fail(sim, "node %u has committed entry %" PRIu64 ", which it does not hold", node->number + 1, index);
                if (!known) {
                        sim->committed_in[index] = led_since(sim, node, entry->term);
                        if (sim->committed_in[index] == 0)
                                sim_fail(sim, "node %u follows, and is the first to take entry %" PRIu64 " for committed", node->number + 1, index);
                        watch_majority(sim, node, entry);
                        history_commit(sim, entry);
                } else if (known->term != entry->term || entry_hash(known) != entry_hash(entry)) {
                        sim_fail(sim, "two different entries are committed at %" PRIu64 ": of terms %" PRIu64 " and %" PRIu64 " (node %u)", index,
                                 known->term, entry->term, node->number + 1);
                }
        }
        node->commit_seen = commit;
}

/* Equal index, equal map. */
static void watch_table(struct sim *sim, struct sim_node *node)
{
        uint64_t applied = replica_applied(node->replica);

        if (applied == node->hashed || applied == 0)
                return;
        node->hashed = applied;
        if (history_hash(replica_table(node->replica)) != sim->truth_hash[applied])
                sim_fail(sim, "the table of node %u at %" PRIu64 " differs from that of the log", node->number + 1, applied);
}

/* What a daemon tells of itself and dials by agrees with the rest. */
static void watch_status(struct sim *sim, const struct sim_node *node)
{
        struct replica *replica = node->replica;
        const struct raft *raft = replica_raft(replica);
        const struct raft_configuration *configuration = raft_configuration(raft);
        struct lock_session_view session = { .id = 0 };
        int64_t age_ms = replica_leader_age_ms(replica);

        if (raft_durable(raft) > raft_last(raft) || replica_log_first(replica) > raft_last(raft) + 1 || raft_next_tick(raft) <= raft->now)
                sim_fail(sim, "node %u has a log from %" PRIu64 " to %" PRIu64 ", on disk to %" PRIu64, node->number + 1, replica_log_first(replica),
                         raft_last(raft), raft_durable(raft));
        if (raft_has_quorum(raft) && raft_role(raft) != RAFT_LEADER && (age_ms < 0 || age_ms >= 2 * TIMEOUT_MS))
                sim_fail(sim, "node %u is in touch with a leader that it heard %" PRId64 " ms ago", node->number + 1, age_ms);
        if (lock_table_next_session(replica_table(replica), 0, &session) &&
            (replica_session_left_ms(replica, session.id) > (int64_t)session.ttl_ms || replica_session_left_ms(replica, UINT64_MAX) != -1))
                sim_fail(sim, "node %u gives session %" PRIu64 " more time than it has", node->number + 1, session.id);
        for (size_t i = 0; i < configuration->count; i++) {
                const char *address = replica_address(replica, configuration->members[i].id);

                if (address ? strncmp(address, "10.0.0.", 7) != 0 : replica_is_away(replica, configuration->members[i].id))
                        sim_fail(sim, "node %u knows member %" PRIu64 " by the address %s", node->number + 1, configuration->members[i].id,
                                 address ? address : "of nobody");
        }
}

void watch_node(struct sim *sim, struct sim_node *node)
{
        watch_status(sim, node);
        watch_configurations(sim, node);
        watch_leader(sim, node);
        watch_table(sim, node);
        follower_turn(sim, node);
}
