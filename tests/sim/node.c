/* node.c - one process: the order of its turn is that of dlockd/daemon.c. */
#include <stdlib.h>

#include "raft/internal.h"
#include "sim.h"

uint64_t node_clock(const struct sim *sim, const struct sim_node *node)
{
        return node->clock_base + (sim->now - node->clock_origin) / MS * node->clock_rate / 1000;
}

void node_start(struct sim *sim, struct sim_node *node)
{
        node->life++;
        /* A program is never replaced by an older one, and who joins knows what the others know. */
        if (node->level < 2 && (sim_chance(sim, sim->upgrade_per_1000) || (sim->configuration && sim->configuration->level > node->level)))
                node->level = 2;
        node->clock_base = 1000 + sim_random(sim, 1000000);
        node->clock_origin = sim->now;
        node->paused_until = 0;
        node->leaving = node->stopped = node->turn_wanted = false;
        node->reader_free = node->join_at = 0;
        node->replica = disk_load(sim, node);
        node->commit_seen = raft_commit(replica_raft(node->replica));
        node->hashed = 0;
        sim_trace(sim, "node %u starts: id %lu term %lu base %lu log %lu..%lu", node->number + 1, (unsigned long)node->disk.node,
                  (unsigned long)node->disk.hard.term, (unsigned long)node->disk.state.base.index, (unsigned long)node->disk.log_first,
                  (unsigned long)node->disk.log_last);
        sim_at(sim, sim->now, EVENT_TICK, node->number, 0, node->life, NULL);
}

void node_crash(struct sim *sim, struct sim_node *node, enum crash crash)
{
        static const char *const words[] = { "loses power", "is killed", "stops cleanly" };

        sim_trace(sim, "node %u %s", node->number + 1, words[crash]);
        sim->counts[COUNT_CRASHES]++;
        if (crash == CRASH_CLEAN)
                net_bye(sim, node->number);
        node->replica = replica_free(node->replica);
        node->life++;
        node->awake = false;
        disk_crash(sim, node, crash == CRASH_POWER ? 0 : sim->script ? sim->keep_writes : sim_random(sim, 6));
        if (crash == CRASH_POWER)
                disk_lose_power(&node->disk);
        net_node_gone(sim, node->number);
}

void node_want_turn(struct sim *sim, struct sim_node *node)
{
        if (node->turn_wanted)
                return;
        node->turn_wanted = true;
        sim_at(sim, sim->now + sim_random(sim, MS), EVENT_TURN, node->number, 0, node->life, NULL);
}

void node_tick(struct sim *sim, struct sim_node *node)
{
        sim_at(sim, sim->now + sim_between(sim, 10 * MS, 25 * MS), EVENT_TICK, node->number, 0, node->life, NULL);
        if (raft_id(replica_raft(node->replica)) == 0 && sim->now >= node->join_at)
                net_join(sim, node);
        node_want_turn(sim, node);
}

static void take_answers(struct sim *sim, struct sim_node *node, const struct replica_effects *effects)
{
        for (size_t i = 0; i < effects->answer_count; i++)
                switch (effects->answers[i].kind) {
                case REPLICA_ANSWER_JOIN:
                        net_answer_join(sim, node, &effects->answers[i]);
                        break;
                case REPLICA_ANSWER_ADMIN:
                        operator_answer(sim, &effects->answers[i]);
                        break;
                case REPLICA_ANSWER_CHANGE: case REPLICA_ANSWER_READ:
                        client_answer(sim, node, &effects->answers[i]);
                        break;
                }
}

void node_turn(struct sim *sim, struct sim_node *node)
{
        const struct replica_effects *effects;
        uint64_t now = node_clock(sim, node);

        node->turn_wanted = false;
        watch_commit(sim, node);
        if (sim->script)
                script_mind_timer(node);
        replica_tick(node->replica, now, now + 5);
        replica_turn(node->replica);
        effects = replica_effects(node->replica);
        watch_appended(sim, node, effects->raft);
        if (effects->base)
                watch_base(sim, node, effects->base);
        disk_queue(sim, node, effects);
        disk_queue_stages(sim, node, effects->raft);
        disk_read(sim, node, effects->raft);
        watch_node(sim, node);
        for (size_t i = 0; i < effects->raft->message_count; i++) {
                watch_message(sim, node, &effects->raft->messages[i]);
                net_send_raft(sim, node, &effects->raft->messages[i]);
        }
        for (size_t i = 0; i < effects->send_count; i++)
                net_send_node(sim, node, &effects->sends[i]);
        take_answers(sim, node, effects);
        lease_check_told(sim, node);
        if (effects->left && node->leaving)
                node->stopped = true;
        replica_effects_clear(node->replica);
        if (replica_has_more(node->replica))
                node_want_turn(sim, node);
        if (node->stopped)
                node_crash(sim, node, CRASH_CLEAN);
}

struct sim_node *node_leader(struct sim *sim)
{
        struct sim_node *leader = NULL;

        for (unsigned i = 0; i < sim->node_count; i++) {
                struct sim_node *node = &sim->nodes[i];

                if (node->replica && raft_role(replica_raft(node->replica)) == RAFT_LEADER &&
                    (!leader || raft_term(replica_raft(node->replica)) > raft_term(replica_raft(leader->replica))))
                        leader = node;
        }
        return leader;
}

bool node_keeps_leadership(const struct sim_node *node)
{
        const struct raft *raft = replica_raft(node->replica);

        return raft->holds || raft->return_after_ms > raft->now;
}

/* How far it has brought the others, and what keeps it from more. */
static void tell_progress(struct sim *sim, const struct raft *raft)
{
        static const char *const states[] = { "probed", "replicated to", "fetched for", "sent a snapshot" };

        for (size_t i = 0; i < raft->progress_count; i++) {
                const struct progress *progress = raft->progress[i];

                sim_trace(sim, "    id %lu is %s: match %lu next %lu, link %s, reading %d, snapshot %lu at %lu", (unsigned long)progress->node,
                          states[progress->state], (unsigned long)progress->match, (unsigned long)progress->next, progress->link_up ? "up" : "down",
                          progress->reading, (unsigned long)progress->snapshot, (unsigned long)progress->snapshot_offset);
        }
}

void node_tell_all(struct sim *sim)
{
        static const char *const roles[] = { "follows", "asks around", "campaigns", "leads" };

        for (unsigned i = 0; i < sim->node_count; i++) {
                const struct sim_node *node = &sim->nodes[i];
                const struct raft *raft = node->replica ? replica_raft(node->replica) : NULL;

                if (!raft) {
                        sim_trace(sim, "node %u is down", i + 1);
                        continue;
                }
                sim_trace(sim, "node %u (id %lu) %s in term %lu: leader %lu, memory %lu..%lu, disk %lu.., commit %lu, applied %lu%s", i + 1,
                          (unsigned long)raft->id, roles[raft->role], (unsigned long)raft->hard.term, (unsigned long)raft->leader,
                          (unsigned long)raft->log.first, (unsigned long)raft->log.last, (unsigned long)raft->log_first, (unsigned long)raft->commit,
                          (unsigned long)raft->applied, raft->receiving.active ? ", gets a snapshot" : "");
                if (raft->role == RAFT_LEADER)
                        tell_progress(sim, raft);
        }
}
