/* leader.c - bringing every member's log to the leader's, and counting. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/mutation.h"
#include "raft/internal.h"

struct progress *raft_progress_of(struct raft *raft, uint64_t node)
{
        for (size_t i = 0; i < raft->progress_count; i++)
                if (raft->progress[i]->node == node)
                        return raft->progress[i];
        return NULL;
}

static struct progress *progress_free(struct progress *progress)
{
        free(progress->inflight);
        free(progress);
        return NULL;
}

static void clear_inflight(struct progress *progress)
{
        progress->inflight_head = progress->inflight_count = progress->inflight_bytes = 0;
}

void raft_progress_probe(struct progress *progress, uint64_t next)
{
        progress->state = PROGRESS_PROBE;
        progress->next = MAX(next, progress->match + 1);
        progress->probe_sent = false;
        progress->reading = false;
        clear_inflight(progress);
}

static void add_progress(struct raft *raft, uint64_t node)
{
        struct progress *progress = alloc_zeroed(1, sizeof(*progress));

        progress->node = node;
        progress->link_up = raft_is_linked(raft, node);
        progress->contact_ms = progress->unsteady_ms = raft->now;    /* everybody gets a whole timeout to answer */
        progress->inflight = alloc_zeroed(LIMIT_INFLIGHT_MESSAGES, sizeof(progress->inflight[0]));
        raft_progress_probe(progress, raft->log.last + 1);
        assert(raft->progress_count < LIMIT_MEMBERS);
        raft->progress[raft->progress_count++] = progress;
}

void raft_progress_match_configuration(struct raft *raft)
{
        const struct raft_configuration *configuration = raft_configuration(raft);

        for (size_t i = 0; i < raft->progress_count;) {
                if (raft_configuration_find(configuration, raft->progress[i]->node)) {
                        i++;
                        continue;
                }
                (void)progress_free(raft->progress[i]);
                raft->progress[i] = raft->progress[--raft->progress_count];
        }
        for (size_t i = 0; i < configuration->count; i++)
                if (configuration->members[i].id != raft->id && !raft_progress_of(raft, configuration->members[i].id))
                        add_progress(raft, configuration->members[i].id);
}

void raft_become_leader(struct raft *raft)
{
        assert(raft->durable_hard.term == raft->hard.term);
        assert(raft->durable_hard.vote == raft->id);
        raft->role = RAFT_LEADER;
        raft->leader = raft->id;
        raft->heard_leader = true;
        raft->round = raft->round_confirmed = 0;
        raft->cluster_origin_ms = MAX(raft_log_last_cluster_ms(&raft->log), raft->heard_cluster_ms);
        raft->leader_since_ms = raft->now;
        raft->term_start = raft->log.last + 1;
        raft->holds = raft->by_transfer && raft->asked_to_hold;
        raft->asked_to_lead = 0;
        raft_progress_match_configuration(raft);
        /* E6, C1: an entry of the own term, always, before anything is decided. */
        (void)raft_propose(raft, RAFT_ENTRY_NOOP, NULL, 0);
}

void raft_leader_drop(struct raft *raft)
{
        for (size_t i = 0; i < raft->progress_count; i++)
                (void)progress_free(raft->progress[i]);
        raft->progress_count = 0;
        raft->holds = false;
        raft_transfer_drop(raft);
        raft->reads_stale = raft->reads_out; /* what they find may be cut off before it comes */
        if (raft->snapshot.id != 0)
                raft->effects.drop_snapshot = raft->snapshot.id;
        raft->snapshot.id = 0;
}

/* --- counting --- */

static int compare_descending(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return (x < y) - (x > y);
}

/* The highest value that a majority of the voters has reached; own: this node's. */
static uint64_t majority_of(struct raft *raft, uint64_t own, size_t field)
{
        const struct raft_configuration *configuration = raft_configuration(raft);
        uint64_t values[LIMIT_MEMBERS];
        size_t count = 0;

        for (size_t i = 0; i < configuration->count; i++) {
                const struct raft_member *member = &configuration->members[i];
                const struct progress *progress;

                if (member->standing != RAFT_VOTER && !MUTATED(LEARNERS))
                        continue;
                progress = member->id == raft->id ? NULL : raft_progress_of(raft, member->id);
                if (progress)
                        memcpy(&values[count++], (const uint8_t *)progress + field, sizeof(uint64_t));
                else
                        values[count++] = own;
        }
        if (count == 0)
                return 0;
        qsort(values, count, sizeof(values[0]), compare_descending);
        return values[count / 2];
}

uint64_t raft_leader_contact_ms(struct raft *raft)
{
        return majority_of(raft, raft->now, offsetof(struct progress, contact_ms));
}

void raft_leader_advance(struct raft *raft)
{
        /* P3: the leader counts itself by its disk, not by its memory. */
        uint64_t index = majority_of(raft, MUTATED(OWN_UNSYNCED) ? raft->log.last : raft->durable, offsetof(struct progress, match)), term;

        if (index <= raft->commit || (MUTATED(R7) && index < raft->log.last))
                return;
        if (!raft_log_term(&raft->log, index, &term) || (term != raft->hard.term && !MUTATED(R1)))
                return;                      /* C1, R1: older terms are committed by one of this term only */
        raft_commit_to(raft, index);
        /* M4: a leader that is no voter any more leaves once that is committed. */
        if (raft_configuration(raft)->index <= raft->commit && !raft_configuration_votes(raft_configuration(raft), raft->id) && !MUTATED(REMOVED_LEADS))
                raft_become_follower(raft, raft->hard.term, 0);
}

void raft_progress_heard(struct raft *raft, struct progress *progress, uint64_t round)
{
        uint64_t confirmed;

        progress->active = true;
        progress->contact_ms = raft->now;
        if (round > progress->round_acked && round <= raft->round)
                progress->round_acked = round;
        confirmed = majority_of(raft, raft->round, offsetof(struct progress, round_acked));
        raft->round_confirmed = MAX(raft->round_confirmed, confirmed);
}

uint64_t raft_read_round(struct raft *raft)
{
        assert(raft->role == RAFT_LEADER);
        /* A round that no message carries yet serves everybody who asks in this turn. */
        if (!raft->round_open && !MUTATED(STALE_ROUND)) {
                raft->round++;
                raft->round_open = true;
        }
        if (raft_configuration_voters(raft_configuration(raft)) == 1 && raft_configuration_votes(raft_configuration(raft), raft->id))
                raft->round_confirmed = raft->round;
        return raft->round;
}

uint64_t raft_round_confirmed(const struct raft *raft)
{
        return raft->round_confirmed;
}

/* Check-quorum: a leader that a majority does not answer steps down (E1). */
void raft_leader_tick(struct raft *raft)
{
        const struct raft_configuration *configuration = raft_configuration(raft);
        size_t heard = 0;

        for (size_t i = 0; i < configuration->count; i++) {
                const struct raft_member *member = &configuration->members[i];
                const struct progress *progress = raft_progress_of(raft, member->id);

                if (member->standing != RAFT_VOTER)
                        continue;
                heard += member->id == raft->id || (progress && raft->now - progress->contact_ms < raft->settings.election_timeout_ms);
        }
        if (heard <= raft_configuration_voters(configuration) / 2 && raft_configuration_voters(configuration) > 0)
                raft_become_follower(raft, raft->hard.term, 0);
}

void raft_leader_link(struct raft *raft, uint64_t node, bool up)
{
        struct progress *progress = raft_progress_of(raft, node);

        if (!progress)
                return;
        progress->link_up = up;
        progress->probe_sent = false;
        progress->reading = false;
        if (progress->state != PROGRESS_SNAPSHOT)
                raft_progress_probe(progress, progress->next);   /* C5 */
}

/* --- sending --- */

static void send_append(struct raft *raft, struct progress *progress, uint64_t previous, uint64_t previous_term,
                        const struct raft_entry *const *entries, size_t count, size_t bytes)
{
        raft_send(raft, &(struct raft_message){
                .kind = RAFT_APPEND,
                .node = progress->node,
                .term = raft->hard.term,
                .index = previous,
                .log_term = previous_term,
                .commit = raft->commit,
                .round = raft->round,
                .cluster_ms = raft_cluster_ms(raft),
                .entries = entries,
                .entry_count = count,
        });
        progress->sent_ms = raft->now;
        progress->round_sent = raft->round;
        progress->commit_sent = raft->commit;
        if (count == 0)
                return;
        progress->next = previous + count + 1;
        progress->inflight[(progress->inflight_head + progress->inflight_count++) % LIMIT_INFLIGHT_MESSAGES] =
                (struct inflight){ .last = previous + count, .bytes = bytes };
        progress->inflight_bytes += bytes;
}

static bool window_is_open(const struct progress *progress)
{
        return progress->inflight_count < LIMIT_INFLIGHT_MESSAGES && progress->inflight_bytes < LIMIT_INFLIGHT_BYTES;
}

static bool heartbeat_is_due(const struct raft *raft, const struct progress *progress)
{
        return raft->now - progress->sent_ms >= raft->settings.heartbeat_ms || progress->round_sent < raft->round;
}

/* While entries or a snapshot are on their way: a word that needs no log to agree on. */
static void heartbeat(struct raft *raft, struct progress *progress)
{
        if (heartbeat_is_due(raft, progress))
                send_append(raft, progress, 0, 0, NULL, 0, 0);
}

/* One message of entries from memory, from next on (C4). */
static void send_entries(struct raft *raft, struct progress *progress, uint64_t previous_term)
{
        size_t room = MIN(raft->log.last - progress->next + 1, (uint64_t)LIMIT_APPEND_ENTRIES), count = 0, bytes = 0;
        const struct raft_entry **entries = raft_scratch(raft, room, sizeof(*entries));

        while (count < room) {
                const struct raft_entry *entry = raft_log_at(&raft->log, progress->next + count);

                if (count > 0 && bytes + entry->size + sizeof(*entry) > LIMIT_APPEND_BYTES)
                        break;
                entries[count++] = entry;
                bytes += entry->size + sizeof(*entry);
        }
        send_append(raft, progress, progress->next - 1, previous_term, entries, count, bytes);
}

static void flush_replicate(struct raft *raft, struct progress *progress)
{
        uint64_t term;
        bool sent = false;

        while (progress->next <= raft->log.last && window_is_open(progress)) {
                if (!raft_log_term(&raft->log, progress->next - 1, &term)) {
                        progress->state = PROGRESS_FETCH;
                        return;
                }
                send_entries(raft, progress, term);
                sent = true;
        }
        if (sent)
                return;
        if (!raft_log_term(&raft->log, progress->next - 1, &term)) {
                heartbeat(raft, progress);   /* the window is full, and what is in it has left memory */
                return;
        }
        if (heartbeat_is_due(raft, progress) || progress->commit_sent < raft->commit)
                send_append(raft, progress, progress->next - 1, term, NULL, 0, 0);
}

static void flush_probe(struct raft *raft, struct progress *progress)
{
        uint64_t term;

        if (progress->probe_sent && !heartbeat_is_due(raft, progress))
                return;
        if (!raft_log_term(&raft->log, progress->next - 1, &term)) {
                progress->state = PROGRESS_FETCH;
                return;
        }
        send_append(raft, progress, progress->next - 1, term, NULL, 0, 0);
        progress->probe_sent = true;
}

/* What is no longer in memory is read from disk, with the entry before it, unless that is what its snapshot ends with;
 * what is not there either needs a snapshot. */
static void flush_fetch(struct raft *raft, struct progress *progress)
{
        uint64_t from = progress->next - 1 == progress->installed_index ? progress->next : progress->next - 1;

        if (progress->reading || !window_is_open(progress))
                return;
        if (from < raft->log_first) {
                progress->state = PROGRESS_SNAPSHOT;
                progress->snapshot = 0;
                return;
        }
        if (raft->effects.log_request_count == ARRAY_SIZE(raft->log_requests))
                return;
        raft->log_requests[raft->effects.log_request_count++] = (struct raft_log_request){ .node = progress->node, .from = from };
        progress->reading = true;
        progress->read_from = from;
        raft->reads_out++;
}

/* False: the answer is to a request of an earlier leadership. */
static bool read_is_recent(struct raft *raft)
{
        if (raft->reads_out > 0)
                raft->reads_out--;
        if (raft->reads_stale == 0)
                return true;
        raft->reads_stale--;
        return false;
}

void raft_log_read(struct raft *raft, uint64_t node, uint64_t from, struct raft_entry *const *entries, size_t count)
{
        bool recent = read_is_recent(raft);
        struct progress *progress = raft->role == RAFT_LEADER ? raft_progress_of(raft, node) : NULL;
        size_t skip = from < (progress ? progress->next : 0), bytes = 0;
        const struct raft_entry **copies;

        if (!recent || !progress || progress->state != PROGRESS_FETCH || !progress->reading || from != progress->read_from)
                return;
        progress->reading = false;
        if (from + skip != progress->next)
                return;                      /* it has more by now: asked again from there */
        if (count <= skip) {
                progress->state = PROGRESS_SNAPSHOT;
                progress->snapshot = 0;
                return;
        }
        while (count > skip && entries[count - 1]->index > raft->commit)
                count--;                     /* what is not committed is sent from memory */
        if (count <= skip)
                return;
        copies = raft_scratch(raft, count - skip, sizeof(*copies));
        for (size_t i = skip; i < count; i++) {
                struct raft_entry *copy = raft_scratch(raft, 1, sizeof(*copy) + entries[i]->size);

                memcpy(copy, entries[i], sizeof(*copy) + entries[i]->size);
                copies[i - skip] = copy;
                bytes += sizeof(*copy) + copy->size;
        }
        send_append(raft, progress, progress->next - 1, skip ? entries[0]->term : progress->installed_term, copies, count - skip, bytes);
}

static void flush_progress(struct raft *raft, struct progress *progress)
{
        if (!progress->link_up)
                return;
        if (progress->state == PROGRESS_FETCH && progress->next >= raft->log.first && !progress->reading)
                progress->state = PROGRESS_REPLICATE;
        if (progress->state == PROGRESS_PROBE)
                flush_probe(raft, progress);
        if (progress->state == PROGRESS_REPLICATE)
                flush_replicate(raft, progress);
        if (progress->state == PROGRESS_FETCH)
                flush_fetch(raft, progress);
        if (progress->state == PROGRESS_SNAPSHOT)
                raft_snapshot_flush(raft, progress);
        if (progress->state == PROGRESS_FETCH || progress->state == PROGRESS_SNAPSHOT)
                heartbeat(raft, progress);
}

void raft_leader_flush(struct raft *raft)
{
        bool snapshot_used = false;

        for (size_t i = 0; i < raft->progress_count; i++) {
                flush_progress(raft, raft->progress[i]);
                snapshot_used |= raft->progress[i]->state == PROGRESS_SNAPSHOT;
        }
        raft_transfer_flush(raft);
        raft->round_open = false;
        if (!snapshot_used && raft->snapshot.id != 0) {
                raft->effects.drop_snapshot = raft->snapshot.id;
                raft->snapshot.id = 0;
        }
}

/* --- hearing --- */

static void release_inflight(struct progress *progress)
{
        while (progress->inflight_count > 0 && progress->inflight[progress->inflight_head].last <= progress->match) {
                progress->inflight_bytes -= progress->inflight[progress->inflight_head].bytes;
                progress->inflight_head = (progress->inflight_head + 1) % LIMIT_INFLIGHT_MESSAGES;
                progress->inflight_count--;
        }
}

/* C2: a rejection counts only if it answers where the logs are still believed to agree. */
static void append_rejected(struct progress *progress, const struct raft_message *message)
{
        if (message->index <= progress->match)
                return;
        if (progress->state == PROGRESS_PROBE && message->index != progress->next - 1)
                return;
        if (progress->state == PROGRESS_SNAPSHOT)
                return;
        raft_progress_probe(progress, MIN(message->hint, message->index));   /* C3: back up at once */
}

/* M3: is a learner fast enough to vote? A round: from now until it has what the leader has now. */
static void measure_catch_up(struct raft *raft, struct progress *progress)
{
        if (progress->state != PROGRESS_REPLICATE)
                return;
        if (progress->round_target == 0) {
                progress->round_target = raft->log.last;
                progress->round_start_ms = raft->now;
        }
        if (progress->match < progress->round_target)
                return;
        progress->caught_up = raft->now - progress->round_start_ms < raft->settings.election_timeout_ms;
        progress->round_target = 0;
}

void raft_append_reply(struct raft *raft, const struct raft_message *message)
{
        struct progress *progress = raft_progress_of(raft, message->node);

        if (!progress)
                return;
        raft_progress_heard(raft, progress, message->round);
        if (!message->granted) {
                append_rejected(progress, message);
                return;
        }
        if (message->match > raft->log.last)
                return;                      /* nobody can have more of this term's log than its leader */
        if (message->match > progress->match) {
                progress->match = message->match;
                release_inflight(progress);
        }
        if (progress->state == PROGRESS_PROBE && message->index >= progress->next - 1)
                progress->state = PROGRESS_REPLICATE;
        if (progress->state == PROGRESS_SNAPSHOT && raft->snapshot.id != 0 && progress->match >= raft->snapshot.base.index) {
                raft_snapshot_is_there(raft, progress);
                raft_progress_probe(progress, progress->match + 1);
        }
        if (progress->next <= progress->match)
                progress->next = progress->match + 1;
        measure_catch_up(raft, progress);
        raft_leader_advance(raft);
}
