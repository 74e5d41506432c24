/* main.c - runs seeds: sim [--seed N] [--seeds N] [--first N]. One seed alone prints its whole timeline. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/parse.h"
#include "sim.h"

/* After the faults stop, everything is expected to be well within this time. */
#define PEACE_MS 60000

static struct sim *running;

static void on_abort(int number)
{
        (void)number;
        (void)fflush(stdout);
        sim_print_trace(running);
        (void)fprintf(stderr, "sim: seed %" PRIu64 " at %" PRIu64 " ms: an assertion failed\nsim: make sim SEED=%" PRIu64 " replays it\n", running->seed,
                      running->now / MS, running->seed);
        _Exit(EXIT_FAILURE);
}

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
        case EVENT_UNCUT: case EVENT_RESUME:
                return;
        }
}

static void dispatch(struct sim *sim, const struct sim_event *event)
{
        struct sim_node *node = &sim->nodes[event->node];

        switch (event->kind) {
        case EVENT_TICK: case EVENT_TURN: case EVENT_MESSAGE: case EVENT_SYNC: case EVENT_READ:
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
        case EVENT_RESUME:
                return;
        }
}

/* --- one seed --- */

static void set_up(struct sim *sim)
{
        static const unsigned counts[] = { 1, 2, 3, 3, 3, 4, 5, 5, 6, 7 };

        sim->random = sim->seed;
        sim->now = 1000 * MS;
        sim->node_count = counts[sim_random(sim, ARRAY_SIZE(counts))];
        sim->ordered = sim_chance(sim, 500);
        sim->delay_max = 5 * MS;
        sim->faults = true;
        sim->faults_until = sim->now + sim_between(sim, 3000, 25000) * MS;
        history_init(sim);
        watch_init(sim);
        sim_trace(sim, "seed %" PRIu64 ": %u nodes, %s", sim->seed, sim->node_count, sim->ordered ? "links keep the order" : "links mix the order");
        for (unsigned i = 0; i < sim->node_count; i++) {
                struct sim_node *node = &sim->nodes[i];

                node->number = i;
                node->clock_rate = 1000;
                node->keep_entries = sim_chance(sim, 500) ? sim_random(sim, 8) : sim_random(sim, 200);
                disk_init(&node->disk, (struct id128){ { (uint8_t)(i + 1) } });
                if (i == 0)
                        disk_bootstrap(sim, node);
                if (i == 0 || i + 1 < sim->node_count || sim_chance(sim, 500))
                        node_start(sim, node);
                else
                        sim_at(sim, sim->now + sim_random(sim, 15000) * MS, EVENT_START, i, 0, 0, NULL);
                for (unsigned other = i + 1; other < sim->node_count; other++)
                        sim_at(sim, sim->now, EVENT_CONNECT, i, other, 0, NULL);
        }
        client_begin(sim);
        sim_at(sim, sim->now + sim_random(sim, 4000) * MS, EVENT_FAULT, 0, 0, 0, NULL);
}

static void tear_down(struct sim *sim)
{
        struct sim_event event;

        while (sim_next(sim, &event))
                free_what(&event);
        for (unsigned i = 0; i < sim->node_count; i++) {
                sim->nodes[i].replica = replica_free(sim->nodes[i].replica);
                disk_done(&sim->nodes[i].disk);
        }
        history_done(sim);
        watch_done(sim);
        free(sim->events);
        free(sim->trace);
        free(sim);
}

/* NULL: all is well. */
static const char *what_is_wrong(struct sim *sim)
{
        const struct sim_node *leader = node_leader(sim);
        const struct raft_configuration *configuration;
        uint64_t last;

        for (unsigned i = 0; i < SIM_CLIENTS; i++)
                if (sim->clients[i].busy || sim->clients[i].done < 6)
                        return "a client has no answer";
        if (!leader)
                return "nobody leads";
        if (leader->number != 0)
                return "the preferred leader does not lead";
        last = raft_last(replica_raft(leader->replica));
        configuration = raft_configuration(replica_raft(leader->replica));
        for (unsigned i = 0; i < sim->node_count; i++)
                if (replica_applied(sim->nodes[i].replica) != last)
                        return "a node is behind";
        if (configuration->count != sim->node_count)
                return "a node was not let in";
        if (raft_configuration_voters(configuration) != MIN(sim->node_count, 5u))
                return "learners do not become voters";
        for (unsigned i = 0; i < sim->node_count; i++)
                if (replica_pending_count(sim->nodes[i].replica) != 0)
                        return "a request waits for ever";
        return NULL;
}

static void run(struct sim *sim)
{
        uint64_t peace_until = 0;
        struct sim_event event;

        set_up(sim);
        while (sim_next(sim, &event)) {
                dispatch(sim, &event);
                if (sim->faults && sim->now >= sim->faults_until) {
                        fault_heal(sim);
                        peace_until = sim->now + PEACE_MS * MS;
                }
                if (!sim->faults && event.kind == EVENT_TICK && !what_is_wrong(sim))
                        break;
                if (!sim->faults && sim->now >= peace_until) {
                        node_tell_all(sim);
                        sim_fail(sim, "%u s after the faults stopped %s", PEACE_MS / 1000, what_is_wrong(sim));
                }
        }
}

static void run_seed(uint64_t seed, bool verbose, uint64_t counts[8])
{
        struct sim *sim = alloc_zeroed(1, sizeof(*sim));

        running = sim;
        sim->seed = seed;
        sim->verbose = verbose;
        run(sim);
        for (size_t i = 0; i < 8; i++)
                counts[i] += sim->counts[i];
        tear_down(sim);
}

int main(int argc, char **argv)
{
        uint64_t seeds = 300, first = 1, only = 0, counts[8] = { 0 };

        for (int i = 1; i + 1 < argc; i += 2)
                if (!parse_u64(argv[i + 1], strcmp(argv[i], "--seed") == 0 ? &only : strcmp(argv[i], "--seeds") == 0 ? &seeds : &first)) {
                        (void)fprintf(stderr, "usage: sim [--seed N] [--seeds N] [--first N]\n");
                        return 2;
                }
        (void)signal(SIGABRT, on_abort);
        if (only != 0)
                run_seed(only, true, counts);
        for (uint64_t seed = first; only == 0 && seed < first + seeds; seed++)
                run_seed(seed, false, counts);
        (void)printf("sim: %" PRIu64 " seeds passed: %" PRIu64 " events, %" PRIu64 " entries, %" PRIu64 " yes, %" PRIu64 " no, %" PRIu64 " unknown, %" PRIu64
                     " crashes, %" PRIu64 " snapshots, %" PRIu64 " terms\n", only ? 1 : seeds, counts[COUNT_EVENTS], counts[COUNT_COMMITTED],
                     counts[COUNT_YES], counts[COUNT_NO], counts[COUNT_UNKNOWN], counts[COUNT_CRASHES], counts[COUNT_SNAPSHOTS], counts[COUNT_TERMS]);
        return EXIT_SUCCESS;
}
