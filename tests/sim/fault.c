/* fault.c - what goes wrong, and the end of it. */
#include "sim.h"

static struct sim_node *any_node(struct sim *sim)
{
        /* The leader has the most to lose. */
        struct sim_node *leader = node_leader(sim);

        return leader && sim_chance(sim, 300) ? leader : &sim->nodes[sim_random(sim, sim->node_count)];
}

static uint64_t some_time(struct sim *sim)
{
        return sim_between(sim, 10, sim_chance(sim, 300) ? 4000 : 800) * MS;
}

static void crash(struct sim *sim, enum crash how)
{
        struct sim_node *node = any_node(sim);

        if (!node->replica) {
                if (how == CRASH_POWER)
                        disk_lose_power(&node->disk);
                return;
        }
        node_crash(sim, node, how);
        sim_at(sim, sim->now + some_time(sim), EVENT_START, node->number, 0, node->life, NULL);
}

/* Everything at once: the power of the room. */
static void blackout(struct sim *sim)
{
        for (unsigned i = 0; i < sim->node_count; i++)
                if (sim->nodes[i].replica) {
                        node_crash(sim, &sim->nodes[i], CRASH_POWER);
                        sim_at(sim, sim->now + some_time(sim), EVENT_START, i, 0, sim->nodes[i].life, NULL);
                }
}

/* P8: a killed process, started again, and then the power goes: what it found, and spoke of, must not have been a dream. */
static void kill_and_cut_power(struct sim *sim)
{
        struct sim_node *node = any_node(sim);
        uint64_t after = sim_between(sim, 0, 500) * MS;

        if (!node->replica)
                return;
        node_crash(sim, node, CRASH_KILL);
        node_start(sim, node);
        if (sim_chance(sim, 500))
                node->disk.stalled_until = sim->now + after;
        sim_at(sim, sim->now + after, EVENT_POWER, node->number, 0, node->life, NULL);
}

void fault_blink(struct sim *sim, struct sim_node *node)
{
        sim_at(sim, sim->now, EVENT_POWER, node->number, 0, node->life, NULL);
}

static void cut_pair(struct sim *sim, unsigned a, unsigned b, bool both)
{
        if (a == b)
                return;
        sim_trace(sim, "cut: %u %s %u", a + 1, both ? "x" : "->", b + 1);
        sim->cut[a][b] = true;
        if (both)
                sim->cut[b][a] = true;
        sim_at(sim, sim->now + some_time(sim), EVENT_UNCUT, a, b, 0, NULL);
}

static void isolate(struct sim *sim)
{
        const struct sim_node *node = any_node(sim);

        for (unsigned other = 0; other < sim->node_count; other++)
                cut_pair(sim, node->number, other, true);
}

static void stall_disk(struct sim *sim)
{
        struct sim_node *node = any_node(sim);

        node->disk.stalled_until = sim->now + some_time(sim);
        sim_trace(sim, "the disk of node %u stalls", node->number + 1);
}

static void pause_node(struct sim *sim)
{
        struct sim_node *node = any_node(sim);

        node->paused_until = sim->now + some_time(sim);
        sim_trace(sim, "node %u is paused", node->number + 1);
}

static void change_clock(struct sim *sim)
{
        struct sim_node *node = any_node(sim);

        node->clock_base = node_clock(sim, node) + (sim->drift_per_1000 == 0 && sim_chance(sim, 300) ? sim_random(sim, 3000) : 0);
        node->clock_origin = sim->now;
        node->clock_rate = sim->drift_per_1000 == 10 ? sim_between(sim, 996, 1004) : sim_between(sim, 850, 1150);
}

static void stop_cleanly(struct sim *sim)
{
        struct sim_node *node = any_node(sim);

        if (!node->replica || node->leaving)
                return;
        sim_trace(sim, "node %u is asked to stop", node->number + 1);
        node->leaving = true;
        replica_leave(node->replica, sim_chance(sim, 500));
        node_want_turn(sim, node);
        sim_at(sim, sim->now + 2000 * MS + some_time(sim), EVENT_START, node->number, 0, node->life, NULL);
}

/* A leader hands over, and is gone before it is done: the target campaigns, and so does everybody else. */
static void hand_over_and_die(struct sim *sim)
{
        struct sim_node *leader = node_leader(sim), *target = any_node(sim);

        if (!leader || leader->paused_until > sim->now || !raft_transfer(replica_raft(leader->replica), target->disk.node, sim_chance(sim, 500)))
                return;
        sim_trace(sim, "node %u hands over to node %u, and will be gone", leader->number + 1, target->number + 1);
        node_want_turn(sim, leader);
        target->disk.stalled_until = sim->now + sim_random(sim, 120 * MS);     /* so that others are as fast */
        sim_at(sim, sim->now + sim_random(sim, 8 * MS), EVENT_POWER, leader->number, 0, leader->life, NULL);
}

/* The leader is gone for a moment, and soon again: entries that few have, from many terms (Raft's Figure 8). */
static void stumble(struct sim *sim)
{
        struct sim_node *leader = node_leader(sim);

        if (!leader)
                return;
        node_crash(sim, leader, CRASH_POWER);
        sim_at(sim, sim->now + sim_between(sim, 1, 60) * MS, EVENT_START, leader->number, 0, leader->life, NULL);
}

/* A leader whose disk stalls, and that few hear: what it appends is cut off again before it is written. */
static void strand(struct sim *sim)
{
        struct sim_node *leader = node_leader(sim);

        if (!leader)
                return;
        leader->disk.stalled_until = sim->now + sim_between(sim, 500, 6000) * MS;
        sim_trace(sim, "the disk of node %u stalls", leader->number + 1);
        for (unsigned other = 0; other < sim->node_count; other++)
                if (sim_chance(sim, 800))
                        cut_pair(sim, leader->number, other, true);
}

static void weather(struct sim *sim)
{
        sim->drop_per_1000 = sim_chance(sim, 500) ? 0 : (unsigned)sim_random(sim, 30);
        sim->duplicate_per_1000 = sim_chance(sim, 500) ? 0 : (unsigned)sim_random(sim, 100);
        sim->delay_max = (sim_chance(sim, 300) ? sim_between(sim, 50, 600) : 5) * MS;
}

enum fault {
        FAULT_POWER, FAULT_KILL, FAULT_KILL_AND_POWER, FAULT_CUT, FAULT_ISOLATE, FAULT_STALL, FAULT_STRAND, FAULT_PAUSE, FAULT_CLOCK, FAULT_STOP,
        FAULT_WEATHER, FAULT_TRANSFER, FAULT_BLACKOUT, FAULT_COUNT,
};

/* Few kinds of faults in one run meet each other more often than all of them. */
void fault_begin(struct sim *sim)
{
        do
                sim->fault_kinds = (unsigned)sim_random(sim, 1u << FAULT_COUNT) | (sim_chance(sim, 300) ? (unsigned)sim_random(sim, 1u << FAULT_COUNT) : 0);
        while (sim->fault_kinds == 0);
        sim_at(sim, sim->now + sim_random(sim, 4000) * MS, EVENT_FAULT, 0, 0, 0, NULL);
}

void fault_next(struct sim *sim)
{
        enum fault kind;

        if (!sim->faults)
                return;
        if (sim->stumbles && sim_chance(sim, 600)) {
                stumble(sim);
                sim_at(sim, sim->now + sim_between(sim, 5, 200) * MS, EVENT_FAULT, 0, 0, 0, NULL);
                return;
        }
        do
                kind = (enum fault)sim_random(sim, FAULT_COUNT);
        while (!(sim->fault_kinds & 1u << kind));
        switch (kind) {
        case FAULT_POWER: crash(sim, CRASH_POWER); break;
        case FAULT_KILL: crash(sim, CRASH_KILL); break;
        case FAULT_KILL_AND_POWER: kill_and_cut_power(sim); break;
        case FAULT_CUT: cut_pair(sim, (unsigned)sim_random(sim, sim->node_count), (unsigned)sim_random(sim, sim->node_count), sim_chance(sim, 500)); break;
        case FAULT_ISOLATE: isolate(sim); break;
        case FAULT_STALL: stall_disk(sim); break;
        case FAULT_STRAND: strand(sim); break;
        case FAULT_PAUSE: pause_node(sim); break;
        case FAULT_CLOCK: change_clock(sim); break;
        case FAULT_STOP: stop_cleanly(sim); break;
        case FAULT_WEATHER: weather(sim); break;
        case FAULT_TRANSFER: hand_over_and_die(sim); break;
        case FAULT_BLACKOUT:
                if (sim_chance(sim, 200))
                        blackout(sim);
                break;
        case FAULT_COUNT: break;
        }
        sim_at(sim, sim->now + sim_between(sim, 5, sim_chance(sim, 300) ? 2000 : 400) * MS, EVENT_FAULT, 0, 0, 0, NULL);
}

void fault_end(struct sim *sim)
{
        sim->drop_per_1000 = sim->duplicate_per_1000 = 0;
        sim->delay_max = 5 * MS;
        for (unsigned i = 0; i < sim->node_count; i++) {
                struct sim_node *node = &sim->nodes[i];

                for (unsigned other = 0; other < sim->node_count; other++)
                        sim->cut[i][other] = false;
                node->paused_until = 0;
                disk_hurry(sim, node);
                if (node->leaving && node->replica)
                        node_crash(sim, node, CRASH_CLEAN);
                if (!node->replica)
                        node_start(sim, node);
                node->clock_base = node_clock(sim, node);
                node->clock_origin = sim->now;
                node->clock_rate = 1000;
        }
}

void fault_heal(struct sim *sim)
{
        sim->faults = false;
        sim_trace(sim, "--- the faults stop ---");
        fault_end(sim);
        for (unsigned i = 0; i < SIM_CLIENTS; i++) {
                sim->clients[i].retire = true;
                sim->clients[i].done = 0;
        }
}
