/* operator.c - somebody who means well: transfers, removals, and new disks for nodes that lost theirs. */
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "sim.h"

/* Not a session of a client. */
#define OPERATOR_SESSION UINT64_C(1000000000)

/* By id: a request to join that comes late, after a removal, is another member. */
static bool is_a_member(const struct sim *sim, uint64_t id)
{
        return raft_configuration_find(sim->configuration, id) != NULL;
}

/* Emptied and started again, it is a new node. */
static void renew(struct sim *sim, struct sim_node *node)
{
        if (node->replica)
                node_crash(sim, node, CRASH_POWER);
        disk_empty(sim, node);
        sim_at(sim, sim->now + sim_between(sim, 10, 3000) * MS, EVENT_START, node->number, 0, node->life, NULL);
}

/* Who was taken out is of no use any more as what it is. */
static void renew_removed(struct sim *sim)
{
        for (unsigned i = 0; i < sim->node_count; i++)
                if (sim->nodes[i].disk.node != 0 && !is_a_member(sim, sim->nodes[i].disk.node))
                        renew(sim, &sim->nodes[i]);
}

/* The disks of all voters are there but for this one, and it is a minority: what was acknowledged survives. */
static bool may_lose_disk(const struct sim *sim, const struct sim_node *lost)
{
        const struct raft_configuration *configurations[SIM_NODES + 1] = { sim->configuration };
        size_t count = 1;

        for (unsigned i = 0; i < sim->node_count; i++)
                if (sim->nodes[i].replica)
                        configurations[count++] = raft_configuration(replica_raft(sim->nodes[i].replica));
        for (size_t i = 0; i < count; i++) {
                size_t there = 0, voters = raft_configuration_voters(configurations[i]);

                if (configurations[i]->index <= sim->configuration->index && i > 0)
                        continue;            /* an older one, which nobody is bound to any more */
                for (unsigned j = 0; j < sim->node_count; j++) {
                        const struct raft_member *member = raft_configuration_find_incarnation(configurations[i], sim->nodes[j].disk.incarnation);

                        there += member && member->standing == RAFT_VOTER;
                }
                if (voters < 3 || there < voters)
                        return false;
        }
        return lost->disk.node != 0;
}

static void lose_disk(struct sim *sim)
{
        struct sim_node *node = &sim->nodes[sim_random(sim, sim->node_count)];

        if (may_lose_disk(sim, node))
                renew(sim, node);
}

static void wish(struct sim *sim, enum admin_kind kind)
{
        struct sim_node *node = &sim->nodes[sim_random(sim, sim->node_count)], *asked = &sim->nodes[sim_random(sim, sim->node_count)];
        struct admin_request request = { .kind = kind, .node = sim_chance(sim, 500) ? 0 : node->disk.node };
        uint64_t patience = sim_between(sim, 100, 10000);

        if (!asked->replica || asked->paused_until > sim->now || node->disk.node == 0)
                return;
        sim->wish.asked = true;
        sim->wish.number++;
        sim->wish.until = sim->now + (patience + 1000) * MS;
        sim->wish.kind = kind;
        sim->wish.node = node->number;
        sim->wish.id = request.node;
        (void)snprintf(request.name, sizeof(request.name), "n%u", node->number + 1);
        sim_trace(sim, "an operator asks node %u to %s node %u", asked->number + 1, kind == ADMIN_REMOVE ? "remove" : "hand over to", node->number + 1);
        replica_admin(asked->replica, &(struct replica_origin){ .session = OPERATOR_SESSION, .tag = sim->wish.number }, &request,
                      node_clock(sim, asked) + patience);
        node_want_turn(sim, asked);
}

void operator_answer(struct sim *sim, const struct replica_answer *answer)
{
        static const char *const words[] = { "?", "done", "no such node", "not a voter", "not caught up", "the last voter", "no majority left", "later",
                                             [ADMIN_WITNESS] = "a witness" };

        if (answer->admin >= ARRAY_SIZE(words) || !words[answer->admin])
                sim_fail(sim, "an operator was told what nodes tell each other");
        sim_trace(sim, "an operator is told: %s", words[answer->admin]);
        if (!sim->wish.asked || answer->origin.tag != sim->wish.number)
                return;
        sim->wish.asked = false;
        if (answer->admin == ADMIN_DONE && sim->wish.kind == ADMIN_REMOVE && sim->wish.id != 0 && is_a_member(sim, sim->wish.id))
                sim_fail(sim, "an operator was told that node %u is no member, but it is", sim->wish.node + 1);
}

void operator_next(struct sim *sim)
{
        renew_removed(sim);
        sim_at(sim, sim->now + sim_between(sim, 50, sim->faults ? 1500 : 300) * MS, EVENT_OPERATOR, 0, 0, 0, NULL);
        if (sim->wish.asked && sim->now > sim->wish.until)
                sim->wish.asked = false;
        if (!sim->faults || sim->wish.asked)
                return;
        switch (sim_random(sim, 8)) {
        case 0: case 1: case 2: wish(sim, ADMIN_TRANSFER); break;
        /* Who takes out a node while another has lost its disk has lost two. */
        case 3:
                if (sim->disks_get_lost)
                        lose_disk(sim);
                else
                        wish(sim, ADMIN_REMOVE);
                break;
        default: break;
        }
}
