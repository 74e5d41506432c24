/* run.c - the loop of events, and one random run. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "raft/internal.h"
#include "sim.h"

/* After the faults stop, everything is expected to be well within this time. */
#define PEACE_MS 60000
/* And there is a leader by then: a timeout is up to twice the base, and the votes may split a few times. */
/* Half of them for a chunk of a snapshot that was lost just before, when the majority needs who waits for it (CHUNK_PATIENCE). */
#define LEADER_TIMEOUTS 20

static void free_what(const struct sim_event *event)
{
        if (event->kind == EVENT_MESSAGE)
                net_message_free(event->what);
        else if (event->kind == EVENT_READ)
                disk_read_free(event->what);
}

/* --- events of one node: only of its present life, and not while it is paused --- */

static void node_event(struct sim *sim, const struct sim_event *event)
{
        struct sim_node *node = &sim->nodes[event->node];
        bool lives = node->replica && (event->kind == EVENT_MESSAGE || event->life == node->life);

        if (lives && node->paused_until > sim->now) {
                sim_at(sim, node->paused_until, event->kind, event->node, event->other, event->life, event->what);
                return;
        }
        if (!lives) {
                free_what(event);
                return;
        }
        switch (event->kind) {
        case EVENT_TICK:
                node_tick(sim, node);
                return;
        case EVENT_TURN:
                node_turn(sim, node);
                return;
        case EVENT_SYNC:
                if (node->disk.held || !node->disk.syncing)
                        return;
                disk_sync(sim, node);
                node_want_turn(sim, node);
                if (sim->faults && sim_chance(sim, 1)) {
                        node_crash(sim, node, CRASH_POWER);      /* at the border: durable, and nobody was told */
                        sim_at(sim, sim->now + 100 * MS, EVENT_START, node->number, 0, node->life, NULL);
                }
                return;
        case EVENT_READ:
                disk_read_done(sim, node, event->what);
                disk_read_free(event->what);
                node_want_turn(sim, node);
                return;
        case EVENT_MESSAGE:
                net_deliver(sim, event);
                return;
        case EVENT_CLIENT: case EVENT_PATIENCE: case EVENT_FAULT: case EVENT_START: case EVENT_BREAK: case EVENT_TELL_DOWN: case EVENT_CONNECT:
        case EVENT_UNCUT: case EVENT_OPERATOR: case EVENT_RENEW:
                return;
        case EVENT_POWER:
                node_crash(sim, node, CRASH_POWER);
                sim_at(sim, sim->now + sim_between(sim, 1, sim_chance(sim, 500) ? 20 : 500) * MS, EVENT_START, node->number, 0, node->life, NULL);
                return;
        }
}

static void dispatch(struct sim *sim, const struct sim_event *event)
{
        struct sim_node *node = &sim->nodes[event->node];

        switch (event->kind) {
        case EVENT_TICK: case EVENT_TURN: case EVENT_MESSAGE: case EVENT_SYNC: case EVENT_READ: case EVENT_POWER:
                node_event(sim, event);
                return;
        case EVENT_CLIENT:
                client_next(sim, &sim->clients[event->node]);
                return;
        case EVENT_PATIENCE:
                client_patience(sim, &sim->clients[event->node], event->life);
                return;
        case EVENT_FAULT:
                fault_next(sim);
                return;
        case EVENT_START:
                if (node->leaving && node->replica && node->life == event->life)
                        node_crash(sim, node, CRASH_CLEAN);      /* it has waited for its leave long enough */
                if (!node->replica)
                        node_start(sim, node);
                return;
        case EVENT_BREAK: case EVENT_TELL_DOWN: case EVENT_CONNECT:
                net_event(sim, event);
                return;
        case EVENT_UNCUT:
                sim->cut[event->node][event->other] = sim->cut[event->other][event->node] = false;
                return;
        case EVENT_OPERATOR:
                operator_next(sim);
                return;
        case EVENT_RENEW:
                lease_next(sim, &sim->clients[event->node]);
                return;
        }
}

/* --- one seed --- */

struct sim *run_new(uint64_t seed, bool verbose)
{
        struct sim *sim = alloc_zeroed(1, sizeof(*sim));

        sim->seed = sim->random = seed;
        sim->verbose = verbose;
        sim->now = 1000 * MS;
        sim->delay_max = 5 * MS;
        sim->max_voters = 5;
        sim->chunk_bytes = 600;
        history_init(sim);
        watch_init(sim);
        follower_begin(sim);
        main_watch(sim);
        return sim;
}

void run_set_up(struct sim *sim, unsigned node_count)
{
        sim->node_count = node_count;
        for (unsigned i = 0; i < node_count; i++) {
                struct sim_node *node = &sim->nodes[i];

                node->number = i;
                node->clock_rate = 1000;
                node->level = 1;
                node->sync_max = 3 * MS;
                disk_init(&node->disk, (struct id128){ { (uint8_t)(i + 1) } });
                for (unsigned other = i + 1; other < node_count; other++)
                        sim_at(sim, sim->now, EVENT_CONNECT, i, other, 0, NULL);
        }
}

static void begin(struct sim *sim)
{
        static const unsigned counts[] = { 1, 2, 3, 3, 3, 4, 5, 5, 6, 7 };

        run_set_up(sim, counts[sim_random(sim, ARRAY_SIZE(counts))]);
        sim->ordered = sim_chance(sim, 500);
        sim->faults = true;
        sim->faults_until = sim->now + sim_between(sim, 3000, 25000) * MS;
        sim->drift_per_1000 = (uint64_t[]){ 0, 10, 140 }[sim_random(sim, 3)];
        sim->stumbles = sim_chance(sim, 150);
        sim->chunk_bytes = sim_chance(sim, 300) ? 50000 : 600;
        sim->disks_get_lost = sim_chance(sim, 500);
        sim->upgrade_per_1000 = sim_chance(sim, 500) ? 300 : 0;
        if (sim->node_count > 2 && sim_chance(sim, 250))
                sim->nodes[sim_between(sim, 1, sim->node_count - 1)].witness = true;
        sim_trace(sim, "seed %" PRIu64 ": %u nodes, %s", sim->seed, sim->node_count, sim->ordered ? "links keep the order" : "links mix the order");
        for (unsigned i = 0; i < sim->node_count; i++) {
                struct sim_node *node = &sim->nodes[i];

                if (sim_chance(sim, 250))
                        node->sync_max = sim_between(sim, 5, 80) * MS;       /* a slow disk */
                node->keep_entries = sim_chance(sim, 500) ? sim_random(sim, 8) : sim_random(sim, 200);
                if (i == 0)
                        disk_bootstrap(sim, node);
                if (i == 0 || i + 1 < sim->node_count || sim_chance(sim, 500))
                        node_start(sim, node);
                else
                        sim_at(sim, sim->now + sim_random(sim, 15000) * MS, EVENT_START, i, 0, 0, NULL);
        }
        client_begin(sim);
        fault_begin(sim);
        sim_at(sim, sim->now + sim_random(sim, 4000) * MS, EVENT_OPERATOR, 0, 0, 0, NULL);
}

void run_free(struct sim *sim)
{
        struct sim_event event;

        for (unsigned i = 0; i < sim->node_count * sim->node_count; i++)
                net_release(sim, i / sim->node_count, i % sim->node_count, NET_LOSE);
        while (sim_next(sim, &event))
                free_what(&event);
        for (unsigned i = 0; i < sim->node_count; i++) {
                sim->nodes[i].replica = replica_free(sim->nodes[i].replica);
                disk_done(&sim->nodes[i].disk);
        }
        while (sim->lost) {
                struct disk *lost = sim->lost;

                sim->lost = lost->next;
                disk_done(lost);
                free(lost);
        }
        history_done(sim);
        watch_done(sim);
        follower_end(sim);
        free(sim->events);
        free(sim->trace);
        free(sim);
}

static bool is_member(const struct raft_configuration *configuration, const struct sim_node *node)
{
        return raft_configuration_find_incarnation(configuration, node->disk.incarnation) != NULL;
}

const char *run_what_is_wrong(struct sim *sim)
{
        const struct sim_node *leader = node_leader(sim);
        const struct raft_configuration *configuration;

        if (!leader)
                return "nobody leads";
        configuration = raft_configuration(replica_raft(leader->replica));
        for (unsigned i = 0; i < sim->node_count; i++) {
                struct sim_node *node = &sim->nodes[i];

                if (!node->replica)
                        return "a node is down";
                if (is_member(configuration, node) && replica_applied(node->replica) != raft_last(replica_raft(leader->replica)))
                        return "a node is behind";
                if (replica_pending_count(node->replica) != 0)
                        return "a request waits for ever";
        }
        return NULL;
}

/* What nobody renews has to end, and to free all that it held. */
static bool is_left_over(const struct sim *sim, const struct lock_session_view *session)
{
        for (unsigned i = 0; i < SIM_CLIENTS; i++)
                if (lease_is_counted_on(&sim->clients[i], session->id))
                        return session->ended;
        return true;
}

static bool something_is_left_over(const struct sim *sim)
{
        struct lock_session_view session = { .id = 0 };

        while (lock_table_next_session(sim->truth, session.id, &session))
                if (is_left_over(sim, &session))
                        return true;
        return false;
}

/* NULL: all is well. */
static const char *what_is_wrong(struct sim *sim)
{
        const char *wrong = run_what_is_wrong(sim);
        const struct raft_configuration *configuration;
        unsigned level = UINT32_MAX;

        for (unsigned i = 0; i < SIM_CLIENTS; i++)
                if (sim->clients[i].busy || sim->clients[i].done < 6)
                        return "a client has no answer";
        if (wrong)
                return wrong;
        configuration = raft_configuration(replica_raft(node_leader(sim)->replica));
        if (node_leader(sim)->number != 0 && !node_keeps_leadership(node_leader(sim)) && raft_configuration_votes(configuration, sim->nodes[0].disk.node))
                return "the preferred leader does not lead";
        for (unsigned i = 0; i < sim->node_count; i++)
                level = MIN(level, sim->nodes[i].level);
        if (configuration->level != level)
                return "the level is not what all nodes know";
        if (configuration->count != sim->node_count)
                return "a node was not let in";
        if (raft_configuration_voters(configuration) != MIN(sim->node_count, 5u))
                return "learners do not become voters";
        if (something_is_left_over(sim))
                return "a session that nobody renews lives on";
        return NULL;
}

bool run_step(struct sim *sim)
{
        struct sim_event event;

        if (!sim_next(sim, &event))
                return false;
        dispatch(sim, &event);
        sim->stepped = event.kind;
        return true;
}

void run_seed(struct sim *sim)
{
        uint64_t peace_until = 0, leader_until = 0;

        begin(sim);
        while (run_step(sim)) {
                if (sim->faults && sim->now >= sim->faults_until) {
                        fault_heal(sim);
                        peace_until = sim->now + PEACE_MS * MS;
                        leader_until = sim->now + LEADER_TIMEOUTS * TIMEOUT_MS * MS;
                }
                if (leader_until != 0 && node_leader(sim) && raft_is_ready(replica_raft(node_leader(sim)->replica)))
                        leader_until = 0;
                if (leader_until != 0 && sim->now > leader_until) {
                        node_tell_all(sim);
                        sim_fail(sim, "nobody leads %u election timeouts after the faults stopped", LEADER_TIMEOUTS);
                }
                if (!sim->faults && sim->stepped == EVENT_TICK && !what_is_wrong(sim))
                        break;
                if (!sim->faults && sim->now >= peace_until) {
                        node_tell_all(sim);
                        sim_fail(sim, "%u s after the faults stopped %s", PEACE_MS / 1000, what_is_wrong(sim));
                }
        }
}

