/* snapshot.c - a state instead of a log, in chunks, for who is too far behind. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/mutation.h"
#include "raft/internal.h"

/* Election timeouts that a chunk may take there and back: a slow link is not to be filled with copies of it. */
#define CHUNK_PATIENCE 10

/* --- the sender --- */

/* S1: one spool file serves every follower in need, as long as the log reaches back to it. */
void raft_snapshot_flush(struct raft *raft, struct progress *progress)
{
        if (raft->snapshot.id != 0 && raft->snapshot.base.index + 1 < raft->log_first) {
                raft->effects.drop_snapshot = raft->snapshot.id;
                raft->snapshot.id = 0;
        }
        if (raft->snapshot.id == 0) {
                if (!raft->snapshot.making)
                        raft->effects.make_snapshot = raft->snapshot.making = true;
                return;
        }
        if (progress->snapshot != raft->snapshot.id) {
                progress->snapshot = raft->snapshot.id;
                progress->snapshot_offset = 0;
                progress->reading = false;
        }
        /* C5: a link may lose a chunk, or its answer, and be up again before anybody sees it down. */
        if (progress->reading && raft->now - progress->asked_ms >= CHUNK_PATIENCE * raft->settings.election_timeout_ms)
                progress->reading = false;
        if (progress->reading || raft->effects.chunk_request_count == ARRAY_SIZE(raft->chunk_requests))
                return;
        progress->reading = true;
        progress->asked_ms = raft->now;
        raft->chunk_requests[raft->effects.chunk_request_count++] = (struct raft_chunk_request){
                .node = progress->node,
                .snapshot = progress->snapshot,
                .offset = progress->snapshot_offset,
        };
}

void raft_snapshot_made(struct raft *raft, uint64_t id, const struct raft_base *base, uint64_t total)
{
        raft->snapshot.making = false;
        if (id == 0)
                return;
        if (raft->role != RAFT_LEADER || raft->snapshot.id != 0) {
                raft->effects.drop_snapshot = id;
                return;
        }
        raft->snapshot.id = id;
        raft->snapshot.total = total;
        raft->snapshot.base = *base;
        bytes_clear(&raft->snapshot.configuration);
        bytes_put(&raft->snapshot.configuration, base->configuration, base->configuration_size);
        raft->snapshot.base.configuration = raft->snapshot.configuration.data;
}

void raft_chunk_read(struct raft *raft, uint64_t node, uint64_t snapshot, uint64_t offset, const void *data, size_t size)
{
        struct progress *progress = raft->role == RAFT_LEADER ? raft_progress_of(raft, node) : NULL;
        const struct raft_base *base = &raft->snapshot.base;
        uint8_t *copy;

        if (!progress || progress->state != PROGRESS_SNAPSHOT || snapshot != raft->snapshot.id || offset != progress->snapshot_offset ||
            !progress->link_up)
                return;
        copy = raft_scratch(raft, size, 1);
        if (size > 0)
                memcpy(copy, data, size);
        raft_send(raft, &(struct raft_message){
                .kind = RAFT_SNAPSHOT,
                .node = node,
                .term = raft->hard.term,
                .index = base->index,
                .log_term = base->term,
                .cluster_ms = base->cluster_ms,
                .configuration_index = base->configuration_index,
                .configuration = offset == 0 ? base->configuration : NULL,
                .configuration_size = offset == 0 ? base->configuration_size : 0,
                .round = raft->round,
                .offset = offset,
                .last = offset + size >= raft->snapshot.total,
                .data = copy,
                .data_size = size,
        });
        progress->sent_ms = progress->asked_ms = raft->now;
}

void raft_snapshot_is_there(const struct raft *raft, struct progress *progress)
{
        progress->installed_index = raft->snapshot.base.index;
        progress->installed_term = raft->snapshot.base.term;
}

void raft_snapshot_reply(struct raft *raft, const struct raft_message *message)
{
        struct progress *progress = raft_progress_of(raft, message->node);

        if (!progress)
                return;
        raft_progress_heard(raft, progress, message->round);
        if (progress->state != PROGRESS_SNAPSHOT)
                return;
        if (message->granted) {              /* it has as much: find out how much more */
                if (raft->snapshot.id != 0 && message->index == raft->snapshot.base.index)
                        raft_snapshot_is_there(raft, progress);
                raft_progress_probe(progress, MIN(message->index, raft->log.last) + 1);
                return;
        }
        if (message->index != raft->snapshot.base.index || raft->snapshot.id == 0)
                return;
        if (message->offset == progress->snapshot_offset)
                return;                      /* said twice: that chunk is on its way */
        progress->snapshot_offset = MIN(message->offset, raft->snapshot.total);
        progress->reading = false;
}

uint64_t raft_wants_log_from(const struct raft *raft)
{
        bool used = raft->snapshot.making;

        for (size_t i = 0; i < raft->progress_count; i++)
                used |= raft->progress[i]->state == PROGRESS_SNAPSHOT && raft->progress[i]->link_up &&
                        raft->now - raft->progress[i]->contact_ms < 2 * raft->settings.election_timeout_ms; /* a stopped process keeps its link */
        if (raft->role != RAFT_LEADER || !used)
                return UINT64_MAX;
        return raft->snapshot.id != 0 ? raft->snapshot.base.index + 1 : raft->base_index + 1;
}

/* --- the receiver --- */

static void reply(struct raft *raft, const struct raft_message *message, bool have_it, uint64_t wanted)
{
        raft_send(raft, &(struct raft_message){
                .kind = RAFT_SNAPSHOT_REPLY,
                .node = message->node,
                .term = raft->hard.term,
                .index = message->index,
                .granted = have_it,
                .offset = wanted,
                .round = raft->round_seen,
        });
}

static void stage(struct raft *raft, enum raft_stage_kind kind, const uint8_t *data, size_t size)
{
        struct raft_stage *next = &raft->stages[raft->effects.stage_count++];

        assert(raft->effects.stage_count <= ARRAY_SIZE(raft->stages));
        *next = (struct raft_stage){ .kind = kind, .base = &raft->receiving.base };
        if (size > 0) {
                uint8_t *copy = raft_scratch(raft, size, 1);

                memcpy(copy, data, size);
                next->data = copy;
                next->size = size;
        }
}

static bool is_the_one(const struct receiving *receiving, const struct raft_message *message)
{
        return receiving->active && receiving->index == message->index && receiving->log_term == message->log_term;
}

/* False: its configuration is not well formed. */
static bool begin(struct raft *raft, const struct raft_message *message)
{
        struct receiving *receiving = &raft->receiving;
        struct raft_configuration *configuration;

        configuration = raft_configuration_get(message->configuration_index, message->configuration, message->configuration_size);
        if (!configuration)
                return false;
        free(configuration);
        bytes_clear(&receiving->configuration);
        bytes_put(&receiving->configuration, message->configuration, message->configuration_size);
        *receiving = (struct receiving){
                .active = true,
                .from = message->node,
                .index = message->index,
                .log_term = message->log_term,
                .cluster_ms = message->cluster_ms,
                .configuration_index = message->configuration_index,
                .configuration = receiving->configuration,
        };
        stage(raft, RAFT_STAGE_BEGIN, NULL, 0);
        return true;
}

void raft_snapshot_request(struct raft *raft, const struct raft_message *message)
{
        struct receiving *receiving = &raft->receiving;

        if (!raft_hear_leader(raft, message))
                return;
        if (receiving->staging)
                return;                      /* one chunk at a time; the reply to this one follows */
        if (message->index <= raft->commit && !MUTATED(OLD_SNAPSHOT)) {
                reply(raft, message, true, 0);           /* S2: never backwards */
                return;
        }
        if (!is_the_one(receiving, message)) {
                if (message->offset != 0 || !begin(raft, message)) {
                        reply(raft, message, false, 0);
                        return;
                }
        }
        receiving->from = message->node;
        if (message->offset != receiving->offset) {
                reply(raft, message, false, receiving->offset);
                return;
        }
        stage(raft, RAFT_STAGE_CHUNK, message->data, message->data_size);
        receiving->offset += message->data_size;
        receiving->staging = true;
        if (!message->last)
                return;
        receiving->installing = true;
        receiving->base = (struct raft_base){
                .index = receiving->index,
                .term = receiving->log_term,
                .cluster_ms = receiving->cluster_ms,
                .configuration_index = receiving->configuration_index,
                .configuration = receiving->configuration.data,
                .configuration_size = receiving->configuration.size,
        };
        stage(raft, RAFT_STAGE_INSTALL, NULL, 0);
}

void raft_snapshot_give_up(struct raft *raft)
{
        if (!raft->receiving.staging)
                raft->receiving.active = false;
}

/* P4: transactions that are still on their way do not bring back the log that was replaced. */
static void replace_log(struct raft *raft)
{
        const struct receiving *receiving = &raft->receiving;

        raft_log_done(&raft->log);
        raft_log_init(&raft->log, receiving->index, receiving->log_term, receiving->cluster_ms);
        raft_roll_back_configurations(raft, 0);
        raft->durable = receiving->index;
        for (size_t i = 0; i < raft->pending_count; i++)
                raft->pending[i].last = receiving->index;
}

/* S2: the state is replaced on disk; now in memory. What follows the base in the log stays if it agrees with it. */
static void finish_install(struct raft *raft)
{
        struct receiving *receiving = &raft->receiving;
        struct raft_configuration *configuration;
        uint64_t term;

        assert(receiving->index > raft->commit);
        configuration = raft_configuration_get(receiving->configuration_index, receiving->configuration.data, receiving->configuration.size);
        assert(configuration);
        if (receiving->index <= raft->log.last && raft_log_term(&raft->log, receiving->index, &term) && term == receiving->log_term)
                raft_log_trim(&raft->log, receiving->index);
        else
                replace_log(raft);
        /* M2: the configuration as of the base takes the place of all older ones. */
        size_t keep = raft->configuration_count;
        while (keep > 0 && raft->configurations[keep - 1]->index > receiving->index)
                keep--;
        for (size_t i = 0; i < keep; i++)
                free(raft->configurations[i]);
        memmove(raft->configurations, raft->configurations + keep, (raft->configuration_count - keep) * sizeof(raft->configurations[0]));
        raft->configuration_count -= keep;
        raft_push_configuration(raft, configuration);
        for (size_t i = raft->configuration_count - 1; i > 0; i--) {
                raft->configurations[i] = raft->configurations[i - 1];
                raft->configurations[i - 1] = configuration;
        }
        raft->base_index = raft->commit = raft->applied = raft->installed = receiving->index;
        raft->base_term = receiving->log_term;
        raft->base_cluster_ms = receiving->cluster_ms;
        raft->log_first = receiving->index + 1;
        raft->verified = MAX(raft->verified, receiving->index);
}

void raft_staged(struct raft *raft)
{
        struct receiving *receiving = &raft->receiving;
        struct raft_message answer = { .node = receiving->from, .index = receiving->index };

        if (!receiving->active)
                return;
        receiving->staging = false;
        if (receiving->installing) {
                finish_install(raft);
                receiving->active = receiving->installing = false;
                reply(raft, &answer, true, 0);
        } else if (receiving->from != raft->leader || raft->commit >= receiving->index) {
                raft_snapshot_give_up(raft);
        } else {
                reply(raft, &answer, false, receiving->offset);
        }
}

void raft_snapshot_refused(struct raft *raft)
{
        raft->receiving.active = raft->receiving.staging = raft->receiving.installing = false;
}

uint64_t raft_installed(const struct raft *raft)
{
        return raft->installed;
}

uint64_t raft_base_cluster_ms(const struct raft *raft)
{
        return raft->base_cluster_ms;
}

uint64_t raft_base_term(const struct raft *raft)
{
        return raft->base_term;
}
