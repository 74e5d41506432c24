/* net.c - links between nodes. A link is a connection: what it loses breaks it, sooner or later, and what was under way
 * dies with it (but a raft message may come late all the same). Whether the ends notice the break before they are
 * connected again is left to chance, as with two TCP connections of which one is dead. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "raft/log.h"
#include "sim.h"

enum message_kind { MESSAGE_RAFT, MESSAGE_NODE, MESSAGE_JOIN, MESSAGE_JOIN_REPLY };

struct message {
        enum message_kind kind;
        uint64_t from_id, to_id, epoch, life;
        bool held;                           /* by a scenario: it may come after the end of its link */
        struct raft_message raft;
        struct raft_entry **entries;
        struct bytes configuration, data;    /* DATA: of a snapshot, or of a node message */
};

static struct sim_link *link_of(struct sim *sim, unsigned a, unsigned b)
{
        return &sim->links[MIN(a, b)][MAX(a, b)];
}

static uint64_t id_of(const struct sim_node *node)
{
        return node->replica ? raft_id(replica_raft(node->replica)) : node->disk.node;
}

struct sim_node *net_find(struct sim *sim, uint64_t id)
{
        for (unsigned i = 0; i < sim->node_count; i++)
                if (id != 0 && id_of(&sim->nodes[i]) == id)
                        return &sim->nodes[i];
        return NULL;
}

void net_message_free(void *what)
{
        struct message *message = what;

        for (size_t i = 0; i < message->raft.entry_count; i++)
                free(message->entries[i]);
        free(message->entries);
        bytes_done(&message->configuration);
        bytes_done(&message->data);
        free(message);
}

static struct message *copy_message(const struct message *source)
{
        struct message *copy = alloc_zeroed(1, sizeof(*copy));

        *copy = *source;
        copy->configuration = copy->data = (struct bytes){ 0 };
        bytes_put(&copy->configuration, source->configuration.data, source->configuration.size);
        bytes_put(&copy->data, source->data.data, source->data.size);
        copy->raft.configuration = copy->configuration.size ? copy->configuration.data : NULL;
        copy->raft.data = copy->data.data;
        copy->entries = alloc_zeroed(source->raft.entry_count + 1, sizeof(copy->entries[0]));
        for (size_t i = 0; i < source->raft.entry_count; i++) {
                const struct raft_entry *entry = source->raft.entries[i];

                copy->entries[i] = raft_entry_new(entry->index, entry->term, entry->kind, entry->cluster_ms, entry->wall_ms, entry->body, entry->size);
        }
        copy->raft.entries = (const struct raft_entry *const *)copy->entries;
        return copy;
}

static uint64_t delay(struct sim *sim)
{
        return sim_between(sim, 50, sim_chance(sim, 30) ? sim->delay_max : MIN(sim->delay_max, 3 * MS));
}

/* --- held by a scenario --- */

static bool is_of_kind(const struct message *message, enum net_hold kinds)
{
        if (message->kind != MESSAGE_RAFT)
                return kinds & HOLD_REQUESTS;
        switch (message->raft.kind) {
        case RAFT_APPEND:
                return kinds & (message->raft.entry_count > 0 ? HOLD_ENTRIES : HOLD_HEARTBEATS);
        case RAFT_APPEND_REPLY:
                return kinds & HOLD_REPLIES;
        case RAFT_VOTE:
        case RAFT_VOTE_REPLY:
        case RAFT_TIMEOUT_NOW:
                return kinds & HOLD_VOTES;
        case RAFT_SNAPSHOT:
        case RAFT_SNAPSHOT_REPLY:
                return kinds & HOLD_SNAPSHOTS;
        }
        return false;
}

struct held {
        struct held *next;
        unsigned from, to;
        struct message *message;
};

static void hold(struct sim *sim, unsigned from, unsigned to, struct message *message)
{
        struct held *held = alloc_zeroed(1, sizeof(*held)), **end = &sim->held;

        while (*end)
                end = &(*end)->next;
        message->held = true;
        *held = (struct held){ .from = from, .to = to, .message = message };
        *end = held;
}

void net_hold(struct sim *sim, unsigned from, unsigned to, enum net_hold kinds)
{
        sim->hold[from][to] |= kinds;
}

static void post(struct sim *sim, unsigned from, unsigned to, struct message *message);

void net_release(struct sim *sim, unsigned from, unsigned to, enum net_release how)
{
        struct held **at = &sim->held, *held;

        while ((held = *at)) {
                if (held->from != from || held->to != to) {
                        at = &held->next;
                        continue;
                }
                if (how != NET_LOSE)
                        post(sim, from, to, copy_message(held->message));
                if (how == NET_REPEAT_FIRST)
                        return;
                if (how == NET_REPEAT) {
                        at = &held->next;
                        continue;
                }
                *at = held->next;
                net_message_free(held->message);
                free(held);
        }
        if (how != NET_REPEAT)
                sim->hold[from][to] = 0;
}

size_t net_held(const struct sim *sim, unsigned from, unsigned to)
{
        size_t count = 0;

        for (const struct held *held = sim->held; held; held = held->next)
                count += held->from == from && held->to == to;
        return count;
}

static void post(struct sim *sim, unsigned from, unsigned to, struct message *message)
{
        uint64_t at = sim->now + delay(sim);

        if (sim->ordered) {
                at = MAX(at, sim->arrival[from][to]);
                sim->arrival[from][to] = at;
        }
        sim_at(sim, at, EVENT_MESSAGE, to, from, 0, message);
}

/* A connection that lost something is of no use any more; its ends find out in their own time. */
static void doom(struct sim *sim, unsigned a, unsigned b)
{
        struct sim_link *link = link_of(sim, a, b);

        if (link->doomed)
                return;
        link->doomed = true;
        sim_at(sim, sim->now + sim_between(sim, MS, 1500 * MS), EVENT_BREAK, a, b, link->epoch, NULL);
}

static void transmit(struct sim *sim, struct sim_node *from, uint64_t to_id, struct message *message)
{
        struct sim_node *to = net_find(sim, to_id);
        struct sim_link *link;

        if (!to || !to->replica || to == from)
                return;
        link = link_of(sim, from->number, to->number);
        if (!link->alive)
                return;
        if (link->doomed || sim->cut[from->number][to->number] || sim_chance(sim, sim->drop_per_1000)) {
                doom(sim, from->number, to->number);
                return;
        }
        message->from_id = id_of(from);
        message->to_id = to_id;
        message->epoch = link->epoch;
        if (is_of_kind(message, sim->hold[from->number][to->number])) {
                hold(sim, from->number, to->number, copy_message(message));
                return;
        }
        post(sim, from->number, to->number, copy_message(message));
        if (sim_chance(sim, sim->duplicate_per_1000))
                post(sim, from->number, to->number, copy_message(message));
}

void net_send_raft(struct sim *sim, struct sim_node *from, const struct raft_message *raft)
{
        struct message message = { .kind = MESSAGE_RAFT, .raft = *raft };

        message.raft.node = id_of(from);
        message.configuration = (struct bytes){ .data = (uint8_t *)raft->configuration, .size = raft->configuration_size };
        message.data = (struct bytes){ .data = (uint8_t *)raft->data, .size = raft->data_size };
        transmit(sim, from, raft->node, &message);
}

void net_send_node(struct sim *sim, struct sim_node *from, const struct replica_send *send)
{
        struct message message = { .kind = MESSAGE_NODE, .data = { .data = (uint8_t *)send->data, .size = send->size } };

        transmit(sim, from, send->node, &message);
}

/* --- joining: a connection of its own --- */

static void post_node_message(struct sim *sim, unsigned from, unsigned to, enum message_kind kind, uint64_t life, const struct node_message *node_message)
{
        struct message message = { .kind = kind, .life = life };

        node_message_put(&message.data, node_message);
        post(sim, from, to, copy_message(&message));
        bytes_done(&message.data);
}

void net_join(struct sim *sim, struct sim_node *node)
{
        unsigned to = node->join_through++ % sim->node_count;
        struct node_message join = { .kind = NODE_JOIN, .incarnation = node->disk.incarnation, .witness = node->witness, .preferred = node->number == 0 };

        node->join_at = sim->now + sim_between(sim, 50 * MS, 200 * MS);
        if (to == node->number || !sim->nodes[to].replica || sim->cut[node->number][to] || sim->cut[to][node->number])
                return;
        (void)snprintf(join.name, sizeof(join.name), "n%u", node->number + 1);
        (void)snprintf(join.address, sizeof(join.address), "10.0.0.%u:7402", node->number + 1);
        post_node_message(sim, node->number, to, MESSAGE_JOIN, node->life, &join);
}

void net_answer_join(struct sim *sim, struct sim_node *from, const struct replica_answer *answer)
{
        post_node_message(sim, from->number, (unsigned)answer->origin.session, MESSAGE_JOIN_REPLY, answer->origin.tag, &answer->join);
}

/* As dlockd does: a program that does not know what is in the log is not let in, until somebody brings a newer one. */
static void refuse_old(struct sim *sim, struct sim_node *node, uint64_t life)
{
        if (!node->replica || node->life != life)
                return;
        node_crash(sim, node, CRASH_KILL);
        sim_at(sim, sim->now + 50 * MS, EVENT_START, node->number, 0, node->life, NULL);
}

static void take_join_reply(struct sim *sim, struct sim_node *node, uint64_t life, const struct node_message *reply)
{
        if (node->life != life || id_of(node) != 0 || reply->join != JOIN_WELCOME)
                return;
        watch_joined(sim, node, reply->node);
        sim_trace(sim, "node %u is let in as id %lu", node->number + 1, (unsigned long)reply->node);
        replica_joined(node->replica, reply->cluster, reply->node);
}

/* --- arriving --- */

static void take(struct sim *sim, struct sim_node *node, const struct sim_event *event, const struct message *message)
{
        const struct sim_link *link = link_of(sim, event->node, event->other);
        struct node_message decoded;

        if (message->kind != MESSAGE_RAFT && !node_message_get(message->data.data, message->data.size, &decoded))
                sim_fail(sim, "node %u got a malformed message", node->number + 1);
        switch (message->kind) {
        case MESSAGE_RAFT:
                if (id_of(node) == message->to_id && (message->epoch == link->epoch || message->held || sim_chance(sim, 50)))
                        if (!replica_raft_message(node->replica, &message->raft))
                                sim_fail(sim, "node %u does not understand an entry", node->number + 1);
                return;
        case MESSAGE_NODE:
                if (id_of(node) != message->to_id || message->epoch != link->epoch)
                        return;
                replica_node_message(node->replica, message->from_id, &decoded);
                return;
        case MESSAGE_JOIN:
                if (sim->nodes[event->other].level < raft_configuration(replica_raft(node->replica))->level) {
                        refuse_old(sim, &sim->nodes[event->other], message->life);
                        return;
                }
                replica_join(node->replica, &(struct replica_origin){ .session = event->other, .tag = message->life }, &decoded,
                             node_clock(sim, node) + 5000);
                return;
        case MESSAGE_JOIN_REPLY:
                take_join_reply(sim, node, message->life, &decoded);
                return;
        }
}

void net_deliver(struct sim *sim, const struct sim_event *event)
{
        struct sim_node *node = &sim->nodes[event->node];

        if (node->replica) {
                take(sim, node, event, event->what);
                node_want_turn(sim, node);
        }
        net_message_free(event->what);
}

/* --- connections --- */

static void tell(struct sim *sim, struct sim_node *node, unsigned other, uint64_t id)
{
        uint64_t before = node->told[other];

        if (!node->replica || (before == id && id == 0))
                return;
        node->told[other] = id;
        if (before != 0 && before != id)
                replica_link(node->replica, before, 0, false);
        if (id != 0)
                replica_link(node->replica, id, sim->nodes[other].level, true);
        node_want_turn(sim, node);
}

void net_break(struct sim *sim, unsigned a, unsigned b, uint64_t notice_max)
{
        struct sim_link *link = link_of(sim, a, b);

        if (!link->alive)
                return;
        link->alive = link->doomed = false;
        link->epoch++;
        sim_at(sim, sim->now + sim_random(sim, notice_max), EVENT_TELL_DOWN, a, b, 0, NULL);
        sim_at(sim, sim->now + sim_random(sim, notice_max), EVENT_TELL_DOWN, b, a, 0, NULL);
}

static void connect(struct sim *sim, unsigned a, unsigned b)
{
        struct sim_link *link = link_of(sim, a, b);
        struct sim_node *x = &sim->nodes[a], *y = &sim->nodes[b];

        sim_at(sim, sim->now + sim_between(sim, 20 * MS, 100 * MS), EVENT_CONNECT, a, b, 0, NULL);
        if (link->alive || sim->cut[a][b] || sim->cut[b][a] || !x->replica || !y->replica || id_of(x) == 0 || id_of(y) == 0 ||
            x->paused_until > sim->now || y->paused_until > sim->now)
                return;
        link->alive = true;
        link->epoch++;
        tell(sim, x, b, id_of(y));
        tell(sim, y, a, id_of(x));
}

void net_bye(struct sim *sim, unsigned number)
{
        for (unsigned other = 0; other < sim->node_count; other++)
                if (sim->nodes[other].replica && sim->nodes[other].told[number] != 0 && link_of(sim, number, other)->alive)
                        replica_bye(sim->nodes[other].replica, sim->nodes[other].told[number]);
}

void net_node_gone(struct sim *sim, unsigned number)
{
        for (unsigned other = 0; other < sim->node_count; other++) {
                if (other == number)
                        continue;
                net_break(sim, number, other, sim_chance(sim, 500) ? 5 * MS : 2000 * MS);
                sim->nodes[number].told[other] = 0;
        }
}

void net_event(struct sim *sim, const struct sim_event *event)
{
        const struct sim_link *link = link_of(sim, event->node, event->other);

        switch (event->kind) {
        case EVENT_BREAK:
                if (link->epoch == event->life)
                        net_break(sim, event->node, event->other, 500 * MS);
                return;
        case EVENT_TELL_DOWN:
                if (!link->alive)
                        tell(sim, &sim->nodes[event->node], event->other, 0);
                return;
        case EVENT_CONNECT:
                connect(sim, event->node, event->other);
                return;
        case EVENT_TICK: case EVENT_TURN: case EVENT_MESSAGE: case EVENT_SYNC: case EVENT_READ: case EVENT_CLIENT: case EVENT_PATIENCE:
        case EVENT_FAULT: case EVENT_START: case EVENT_UNCUT: case EVENT_OPERATOR: case EVENT_POWER: case EVENT_RENEW:
                return;
        }
}
