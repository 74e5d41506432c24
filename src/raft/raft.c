#include "raft/raft.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/mutation.h"
#include "raft/internal.h"

struct raft *raft_new(const struct raft_settings *settings, const struct raft_start *start)
{
        struct raft *raft = alloc_zeroed(1, sizeof(*raft));
        struct raft_configuration *configuration;

        raft->settings = *settings;
        raft->settings.level = MAX(settings->level, 1u);
        raft->id = start->id;
        raft->random = settings->seed | 1;
        raft->hard = raft->durable_hard = start->hard;
        raft->base_index = start->base.index;
        raft->base_term = start->base.term;
        raft->base_cluster_ms = start->base.cluster_ms;
        raft->log_first = start->log_first;
        if (MUTATED(VOTE_FORGOTTEN))
                raft->hard.vote = raft->durable_hard.vote = 0;
        /* P6: after a restart everything beyond the base counts as uncommitted. */
        raft->commit = raft->applied = raft->durable = start->base.index;
        raft_log_init(&raft->log, start->base.index, start->base.term, start->base.cluster_ms);
        if (start->base.configuration_size > 0)
                configuration = raft_configuration_get(start->base.configuration_index, start->base.configuration,
                                                       start->base.configuration_size);
        else
                configuration = raft_configuration_copy(NULL, 0);
        assert(configuration);
        raft_push_configuration(raft, configuration);
        raft->persist_next = 1;
        raft->effects.first = 1;
        return raft;
}

struct raft *raft_free(struct raft *raft)
{
        if (!raft)
                return NULL;
        raft_effects_clear(raft);
        raft_leader_drop(raft);
        raft_log_done(&raft->log);
        for (size_t i = 0; i < raft->configuration_count; i++)
                free(raft->configurations[i]);
        free(raft->configurations);
        free(raft->pending);
        free(raft->messages);
        free(raft->held);
        free(raft->scratch);
        bytes_done(&raft->snapshot.configuration);
        bytes_done(&raft->receiving.configuration);
        free(raft);
        return NULL;
}

bool raft_restore_entry(struct raft *raft, const struct raft_entry *entry)
{
        if (entry->index != raft->log.last + 1 || entry->term < raft_log_last_term(&raft->log))
                return false;
        if (entry->kind == RAFT_ENTRY_CONFIGURATION) {
                struct raft_configuration *configuration = raft_configuration_get(entry->index, entry->body, entry->size);

                if (!configuration)
                        return false;
                if (MUTATED(R5))
                        free(raft->configurations[--raft->configuration_count]);
                raft_push_configuration(raft, configuration);
        }
        raft_log_append(&raft->log, raft_entry_new(entry->index, entry->term, entry->kind, entry->cluster_ms, entry->wall_ms,
                                                   entry->body, entry->size));
        raft->durable = entry->index;        /* the store has synced what it read (P8) */
        return true;
}

/* --- small things --- */

/* xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators", 2016). */
uint64_t raft_random(struct raft *raft, uint64_t below)
{
        raft->random ^= raft->random >> 12;
        raft->random ^= raft->random << 25;
        raft->random ^= raft->random >> 27;
        return below ? (raft->random * UINT64_C(0x2545f4914f6cdd1d) >> 11) % below : 0;
}

static void push_message(struct raft_message **messages, size_t *count, size_t *capacity, const struct raft_message *message)
{
        if (*count == *capacity) {
                *capacity = *capacity ? *capacity * 2 : 16;
                *messages = alloc_resized(*messages, *capacity, sizeof(**messages));
        }
        (*messages)[(*count)++] = *message;
}

/* P1: what reveals a term leaves only once the term is durable. Such messages carry no
 * pointers: appends and snapshots are sent by a leader, whose term is durable by its own vote. */
void raft_send(struct raft *raft, const struct raft_message *message)
{
        if (raft->durable_hard.term >= raft->hard.term || MUTATED(TERM_EARLY)) {
                push_message(&raft->messages, &raft->effects.message_count, &raft->message_capacity, message);
                return;
        }
        assert(message->entry_count == 0 && message->data_size == 0);
        if (raft->held_count < LIMIT_MEMBERS)
                push_message(&raft->held, &raft->held_count, &raft->held_capacity, message);
}

void *raft_scratch(struct raft *raft, size_t count, size_t size)
{
        if (raft->scratch_count == raft->scratch_capacity) {
                raft->scratch_capacity = raft->scratch_capacity ? raft->scratch_capacity * 2 : 16;
                raft->scratch = alloc_resized(raft->scratch, raft->scratch_capacity, sizeof(raft->scratch[0]));
        }
        raft->scratch[raft->scratch_count] = alloc_zeroed(count, size);
        return raft->scratch[raft->scratch_count++];
}

static void release_held(struct raft *raft)
{
        if (raft->durable_hard.term < raft->hard.term)
                return;
        for (size_t i = 0; i < raft->held_count; i++)
                if (raft->held[i].term == raft->hard.term || raft->held[i].pre)
                        raft_send(raft, &raft->held[i]);
        raft->held_count = 0;
}

void raft_push_configuration(struct raft *raft, struct raft_configuration *configuration)
{
        raft->configurations = alloc_resized(raft->configurations, raft->configuration_count + 1, sizeof(raft->configurations[0]));
        raft->configurations[raft->configuration_count++] = configuration;
}

/* M2: a truncated entry takes its configuration with it (R5). */
void raft_roll_back_configurations(struct raft *raft, uint64_t from)
{
        while (raft->configuration_count > 1 && raft->configurations[raft->configuration_count - 1]->index >= from)
                free(raft->configurations[--raft->configuration_count]);
}

bool raft_is_linked(const struct raft *raft, uint64_t node)
{
        for (size_t i = 0; i < raft->link_count; i++)
                if (raft->links[i] == node)
                        return true;
        return false;
}

/* --- roles --- */

void raft_become_follower(struct raft *raft, uint64_t term, uint64_t leader)
{
        assert(term >= raft->hard.term);
        if (term > raft->hard.term || MUTATED(VOTE_CLEARED)) {
                raft->hard = (struct raft_hard_state){ .term = term };  /* E2: only a new term clears the vote */
                raft->effects.hard_changed = true;
        }
        if (raft->role == RAFT_LEADER) {
                raft->leader_contact_ms = raft_leader_contact_ms(raft);
                raft_leader_drop(raft);
        }
        if (!MUTATED(R4))
                raft->verified = 0;          /* P2: nothing is compared with the new leader yet */
        raft->round_seen = 0;
        raft->ack_owed = false;
        raft->role = RAFT_FOLLOWER;
        raft->leader = leader;
        raft->vote_count = 0;
        raft->vote_asked = false;
        raft->vote_reply_to = 0;
        raft->asked_to_lead = 0;
        raft_snapshot_give_up(raft);         /* another leader begins its own */
        raft_election_arm(raft);
}

/* --- events --- */

void raft_tick(struct raft *raft, uint64_t now, uint64_t wall)
{
        uint64_t gap = now - raft->last_tick;
        bool first = raft->last_tick == 0;

        assert(now >= raft->now);
        raft->now = now;
        raft->wall = wall;
        raft->last_tick = now;
        raft_transfer_notice(raft);
        if (first) {
                raft_election_arm(raft);
                raft_election_hurry(raft);
                return;
        }
        /* E4: this process did not run; what it knows about time and others is stale. */
        if (gap > raft->settings.election_timeout_ms) {
                raft_election_arm(raft);
                if (raft->role == RAFT_LEADER && raft_configuration_voters(raft_configuration(raft)) > 1)
                        raft_become_follower(raft, raft->hard.term, 0);
                return;
        }
        if (raft->role == RAFT_LEADER)
                raft_leader_tick(raft);
        else
                raft_election_tick(raft);
        if (raft->role == RAFT_LEADER)
                raft_transfer_tick(raft);
        if (raft->role == RAFT_LEADER)
                raft_membership_tick(raft);
}

void raft_receive(struct raft *raft, const struct raft_message *message)
{
        switch (message->kind) {
        case RAFT_VOTE:
                raft_vote_request(raft, message);
                return;
        case RAFT_VOTE_REPLY:
                raft_vote_reply(raft, message);
                return;
        case RAFT_APPEND:
                raft_append_request(raft, message);
                return;
        case RAFT_SNAPSHOT:
                raft_snapshot_request(raft, message);
                return;
        case RAFT_TIMEOUT_NOW:
                raft_timeout_now(raft, message);
                return;
        case RAFT_APPEND_REPLY:
        case RAFT_SNAPSHOT_REPLY:
                if (message->term > raft->hard.term)
                        raft_become_follower(raft, message->term, 0);
                /* P2: what was said in another term says nothing in this one. */
                if (raft->role != RAFT_LEADER || message->term != raft->hard.term)
                        return;
                if (message->kind == RAFT_APPEND_REPLY)
                        raft_append_reply(raft, message);
                else
                        raft_snapshot_reply(raft, message);
                return;
        }
}

void raft_persisted(struct raft *raft, uint64_t persist_id)
{
        size_t done = 0;

        while (done < raft->pending_count && raft->pending[done].id <= persist_id) {
                raft->durable_hard = raft->pending[done].hard;
                raft->durable = raft->pending[done].last;
                done++;
        }
        if (done == 0)
                return;
        raft->pending_count -= done;
        memmove(raft->pending, raft->pending + done, raft->pending_count * sizeof(raft->pending[0]));
        assert(raft->durable <= raft->log.last);
        release_held(raft);
        raft_vote_persisted(raft);
        if (raft->role == RAFT_LEADER)
                raft_leader_advance(raft);
        else
                raft_ack_durable(raft);
}

void raft_link(struct raft *raft, uint64_t node, bool up)
{
        size_t at = 0;

        while (at < raft->link_count && raft->links[at] != node)
                at++;
        if (up == (at < raft->link_count))
                return;
        if (up && raft->link_count < ARRAY_SIZE(raft->links))
                raft->links[raft->link_count++] = node;
        else if (!up)
                raft->links[at] = raft->links[--raft->link_count];

        if (raft->role == RAFT_LEADER)
                raft_leader_link(raft, node, up);
        else if (!up && node == raft->leader)
                raft->leader_link_lost = true;   /* E1 */
        if (raft->role != RAFT_LEADER && (raft->leader == 0 || raft->leader_link_lost))
                raft_election_hurry(raft);
}

void raft_joined(struct raft *raft, uint64_t id)
{
        assert(raft->id == 0);
        raft->id = id;
}

/* --- appending and committing --- */

void raft_append_own(struct raft *raft, struct raft_entry *entry)
{
        if (raft->effects.first > raft->effects.last)
                raft->effects.first = entry->index;
        raft->effects.last = entry->index;
        raft_log_append(&raft->log, entry);
}

bool raft_may_propose(const struct raft *raft)
{
        return raft_is_ready(raft) && raft->transfer.target == 0 && raft->log.last - raft->commit < LIMIT_UNCOMMITTED;
}

uint64_t raft_cluster_ms(const struct raft *raft)
{
        uint64_t last = MAX(raft_log_last_cluster_ms(&raft->log), raft->heard_cluster_ms);

        if (raft->role != RAFT_LEADER)
                return last;
        return MUTATED(CLUSTER_TIME) ? raft->now : MAX(last, raft->cluster_origin_ms + (raft->now - raft->leader_since_ms));
}

uint64_t raft_propose(struct raft *raft, enum raft_entry_kind kind, const void *body, size_t size)
{
        uint64_t index = raft->log.last + 1;

        assert(raft->role == RAFT_LEADER);
        assert(raft_entry_kind_level(kind) <= raft_configuration(raft)->level);      /* every member knows it */
        raft_append_own(raft, raft_entry_new(index, raft->hard.term, kind, raft_cluster_ms(raft), raft->wall, body, size));
        return index;
}

void raft_commit_to(struct raft *raft, uint64_t index)
{
        assert(index <= raft->log.last);
        if (index > raft->commit)
                raft->commit = index;
}

void raft_applied(struct raft *raft, uint64_t applied)
{
        assert(applied <= raft->commit);
        raft->applied = applied;
}

void raft_base_moved(struct raft *raft, uint64_t index, uint64_t log_first)
{
        size_t older = 0;

        assert(index <= raft->applied);
        raft->base_index = index;
        raft->log_first = log_first;
        while (older + 1 < raft->configuration_count && raft->configurations[older + 1]->index <= index)
                free(raft->configurations[older++]);
        raft->configuration_count -= older;
        memmove(raft->configurations, raft->configurations + older, raft->configuration_count * sizeof(raft->configurations[0]));
}

/* --- the end of a turn --- */

static void take_persist(struct raft *raft)
{
        struct raft_effects *effects = &raft->effects;

        if (!effects->hard_changed && effects->truncate_from == 0 && effects->first > effects->last)
                return;
        assert(effects->persist_id == 0);    /* one flush per turn */
        effects->persist_id = raft->persist_next++;
        effects->hard = raft->hard;
        if (raft->pending_count == raft->pending_capacity) {
                raft->pending_capacity = raft->pending_capacity ? raft->pending_capacity * 2 : 16;
                raft->pending = alloc_resized(raft->pending, raft->pending_capacity, sizeof(raft->pending[0]));
        }
        raft->pending[raft->pending_count++] = (struct pending_persist){
                .id = effects->persist_id,
                .hard = raft->hard,
                .last = raft->log.last,
        };
}

void raft_flush(struct raft *raft)
{
        if (raft->role == RAFT_LEADER)
                raft_leader_flush(raft);
        take_persist(raft);
        raft->effects.messages = raft->messages;
        raft->effects.stages = raft->stages;
        raft->effects.log_requests = raft->log_requests;
        raft->effects.chunk_requests = raft->chunk_requests;
}

const struct raft_effects *raft_effects(const struct raft *raft)
{
        return &raft->effects;
}

/* Not before the end of a turn: its messages point to entries in memory. */
static void trim_cache(struct raft *raft)
{
        size_t cache = raft->settings.cache_bytes ? raft->settings.cache_bytes : LIMIT_LOG_CACHE_BYTES;

        while (raft->log.bytes > cache && raft->log.first <= raft->applied)
                raft_log_trim(&raft->log, raft->log.first);
}

void raft_effects_clear(struct raft *raft)
{
        for (size_t i = 0; i < raft->scratch_count; i++)
                free(raft->scratch[i]);
        raft->scratch_count = 0;
        raft->effects = (struct raft_effects){ .first = 1 };
        trim_cache(raft);
}

/* --- looking --- */

enum raft_role raft_role(const struct raft *raft)
{
        return raft->role;
}

uint64_t raft_id(const struct raft *raft)
{
        return raft->id;
}

uint64_t raft_term(const struct raft *raft)
{
        return raft->hard.term;
}

uint64_t raft_leader(const struct raft *raft)
{
        return raft->role == RAFT_LEADER ? raft->id : raft->leader;
}

uint64_t raft_commit(const struct raft *raft)
{
        return raft->commit;
}

uint64_t raft_last(const struct raft *raft)
{
        return raft->log.last;
}

uint64_t raft_durable(const struct raft *raft)
{
        return raft->durable;
}

bool raft_is_ready(const struct raft *raft)
{
        return raft->role == RAFT_LEADER && (raft->commit >= raft->term_start || MUTATED(NO_WAIT));
}

uint64_t raft_term_start(const struct raft *raft)
{
        return raft->term_start;
}

const struct raft_entry *raft_entry_at(const struct raft *raft, uint64_t index)
{
        return raft_log_at(&raft->log, index);
}

const struct raft_configuration *raft_configuration(const struct raft *raft)
{
        return raft->configurations[raft->configuration_count - 1];
}

const struct raft_configuration *raft_configuration_at(const struct raft *raft, uint64_t index)
{
        size_t at = raft->configuration_count - 1;

        while (at > 0 && raft->configurations[at]->index > index)
                at--;
        return raft->configurations[at];
}

bool raft_leader_contact(const struct raft *raft, uint64_t *ret_ms)
{
        if (raft->role == RAFT_LEADER)
                *ret_ms = raft->now;
        else if (raft->heard_leader)
                *ret_ms = raft->leader_contact_ms;
        else
                return false;
        return true;
}

bool raft_has_quorum(const struct raft *raft)
{
        if (raft->role == RAFT_LEADER)
                return raft_is_ready(raft);
        return raft->leader != 0 && !raft->leader_link_lost &&
               raft->now - raft->leader_contact_ms < 2 * raft->settings.election_timeout_ms;
}

uint64_t raft_next_tick(const struct raft *raft)
{
        return raft->now + MAX(raft->settings.heartbeat_ms / 4, (uint64_t)1);
}

uint64_t raft_silent_ms(const struct raft *raft, uint64_t node)
{
        const struct progress *progress = raft->role == RAFT_LEADER && node != raft->id ? raft_progress_of((struct raft *)raft, node) : NULL;

        return progress ? raft->now - progress->contact_ms : 0;
}

uint64_t raft_match(const struct raft *raft, uint64_t node)
{
        const struct progress *progress = raft->role == RAFT_LEADER && node != raft->id ? raft_progress_of((struct raft *)raft, node) : NULL;

        return node == raft->id ? raft->durable : progress ? progress->match : 0;
}

bool raft_is_receiving_snapshot(const struct raft *raft)
{
        return raft->receiving.active;
}

void raft_set_timeouts(struct raft *raft, uint64_t election_timeout_ms, uint64_t heartbeat_ms)
{
        raft->settings.election_timeout_ms = election_timeout_ms;
        raft->settings.heartbeat_ms = heartbeat_ms;
}

void raft_set_max_voters(struct raft *raft, unsigned max_voters)
{
        raft->settings.max_voters = max_voters;
}
