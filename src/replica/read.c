/* read.c - reads: of this node's own table, as of an index that the reader has seen, or that a leader vouches for. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/mutation.h"
#include "replica/internal.h"

/* How long a node that has just started waits for its leader before it answers reads from what it has. */
#define SETTLE_MS 2000
/* After a node said that it does not lead. */
#define RETRY_MS 20

void replica_reads_init(struct replica *replica)
{
        TAILQ_INIT(&replica->reads);
        TAILQ_INIT(&replica->index_reads);
        /* As with forwards: no life repeats a number of another. */
        replica->batch_next = replica->settings.raft.seed | 1;
}

void replica_reads_done(struct replica *replica)
{
        struct waiting_read *read;
        struct index_read *index_read;

        while ((read = TAILQ_FIRST(&replica->reads))) {
                TAILQ_REMOVE(&replica->reads, read, link);
                free(read);
        }
        while ((index_read = TAILQ_FIRST(&replica->index_reads))) {
                TAILQ_REMOVE(&replica->index_reads, index_read, link);
                free(index_read);
        }
}

void replica_read(struct replica *replica, const struct replica_origin *origin, uint64_t min_index, bool consistent, uint64_t deadline)
{
        struct waiting_read *read = alloc_zeroed(1, sizeof(*read));

        *read = (struct waiting_read){
                .origin = *origin,
                .min_index = min_index,
                .deadline = deadline,
                .settle_by = MIN(deadline, replica->now + SETTLE_MS),
                .consistent = consistent,
        };
        TAILQ_INSERT_TAIL(&replica->reads, read, link);
}

void replica_forget_reads(struct replica *replica, uint64_t session)
{
        struct waiting_read *read, *next;

        for (read = TAILQ_FIRST(&replica->reads); read; read = next) {
                next = TAILQ_NEXT(read, link);
                if (read->origin.session != session)
                        continue;
                TAILQ_REMOVE(&replica->reads, read, link);
                free(read);
        }
}

/* --- read-index (Ongaro 2014, 6.4): what is committed when the read comes, by a leader that proves it leads after that --- */

/* Q2, E6: the leader's commit index covers everything that anybody was told before, once an entry of its term is in it. */
static void vouch(struct replica *replica, uint64_t node, uint64_t id)
{
        struct index_read *index_read = alloc_zeroed(1, sizeof(*index_read));

        *index_read = (struct index_read){
                .node = node, .id = id, .round = raft_read_round(replica->raft), .index = raft_commit(replica->raft) };
        TAILQ_INSERT_TAIL(&replica->index_reads, index_read, link);
}

/* One question serves all reads that have not asked yet. */
void replica_ask_reads(struct replica *replica)
{
        bool leads = raft_is_ready(replica->raft);
        bool may_ask = replica->leader != 0 && replica->leader != raft_id(replica->raft) && replica->leader_linked && replica->now >= replica->read_retry_at;
        struct waiting_read *read;
        uint64_t batch = 0;

        if (!leads && !may_ask)
                return;
        TAILQ_FOREACH(read, &replica->reads, link) {
                if (!read->consistent || read->vouched || read->batch != 0)
                        continue;
                if (batch == 0)
                        batch = replica->batch_next++;
                read->batch = batch;
        }
        if (batch == 0)
                return;
        if (leads)
                vouch(replica, 0, batch);
        else
                replica_send(replica, replica->leader, &(struct node_message){ .kind = NODE_READ, .id = batch, .term = raft_term(replica->raft) });
}

/* index 0: ask again. */
static void batch_is_answered(struct replica *replica, uint64_t batch, uint64_t index)
{
        struct waiting_read *read;

        TAILQ_FOREACH(read, &replica->reads, link) {
                if (read->vouched || read->batch != batch)
                        continue;
                read->batch = 0;
                read->vouched = index != 0;
                read->min_index = MAX(read->min_index, index);
        }
}

void replica_index_read(struct replica *replica, uint64_t node, const struct node_message *message)
{
        if (raft_is_ready(replica->raft) && message->term == raft_term(replica->raft)) {
                vouch(replica, node, message->id);
                return;
        }
        replica_send(replica, node, &(struct node_message){ .kind = NODE_READ_REPLY, .id = message->id, .outcome = REPLICA_NOT_LEADER });
}

void replica_index_reply(struct replica *replica, const struct node_message *message)
{
        if (message->outcome != REPLICA_YES)
                replica->read_retry_at = replica->now + RETRY_MS;
        batch_is_answered(replica, message->id, message->outcome == REPLICA_YES ? message->index : 0);
}

static void answer_index_reads(struct replica *replica)
{
        struct index_read *index_read;

        while ((index_read = TAILQ_FIRST(&replica->index_reads)) && (index_read->round <= raft_round_confirmed(replica->raft) || MUTATED(READ_UNPROVED))) {
                TAILQ_REMOVE(&replica->index_reads, index_read, link);
                if (index_read->node == 0)
                        batch_is_answered(replica, index_read->id, index_read->index);
                else
                        replica_send(replica, index_read->node, &(struct node_message){
                                .kind = NODE_READ_REPLY, .id = index_read->id, .outcome = REPLICA_YES, .index = index_read->index });
                free(index_read);
        }
}

/* F3: what a leadership that ended has not proved is asked of the next one. */
void replica_reads_leader_changed(struct replica *replica)
{
        struct index_read *index_read;
        struct waiting_read *read;

        while ((index_read = TAILQ_FIRST(&replica->index_reads))) {
                TAILQ_REMOVE(&replica->index_reads, index_read, link);
                free(index_read);
        }
        TAILQ_FOREACH(read, &replica->reads, link)
                read->batch = 0;
        replica->read_retry_at = 0;
}

/* --- answering --- */

/* A node that has just started may be behind what it said before it stopped, until
 * it has applied an entry of the leader's own term. One that has nothing at all yet
 * knows of no lock whether it is free. */
static bool read_is_due(const struct replica *replica, const struct waiting_read *read, enum replica_outcome *ret_outcome)
{
        *ret_outcome = REPLICA_YES;
        if (replica->applied > 0 && (replica->applied >= read->min_index || MUTATED(READ_BACK)) && (read->vouched || !read->consistent))
                return read->vouched || replica->settled || replica->now >= read->settle_by;
        *ret_outcome = REPLICA_UNKNOWN;
        return replica->now >= read->deadline;
}

void replica_answer_reads(struct replica *replica)
{
        struct waiting_read *read, *next;

        answer_index_reads(replica);
        for (read = TAILQ_FIRST(&replica->reads); read; read = next) {
                enum replica_outcome outcome;

                next = TAILQ_NEXT(read, link);
                if (!read_is_due(replica, read, &outcome))
                        continue;
                *replica_add_answer(replica) = (struct replica_answer){
                        .kind = REPLICA_ANSWER_READ,
                        .origin = read->origin,
                        .outcome = outcome,
                        .index = replica->applied,
                };
                TAILQ_REMOVE(&replica->reads, read, link);
                free(read);
        }
}
