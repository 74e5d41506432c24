/* follower.c - those who watch what becomes of locks, at one node and then another: W1 to W3 of src/README.md. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "sim.h"

struct held {
        struct lock_name name;
        uint64_t token;
        uint16_t slots;
};

/* Who knows the locks as of an index, from a list and what it was told since. */
struct sim_follower {
        unsigned node;
        uint64_t seen;                       /* 0: nothing yet */
        struct held *held;
        size_t count, capacity;
        uint64_t dice;                       /* of its own: to watch changes nothing of a run */
};

void follower_begin(struct sim *sim)
{
        sim->followers = alloc_zeroed(SIM_NODES, sizeof(sim->followers[0]));
        for (unsigned i = 0; i < SIM_NODES; i++)
                sim->followers[i] = (struct sim_follower){ .node = i, .dice = i + 1 };
}

void follower_end(struct sim *sim)
{
        for (unsigned i = 0; i < SIM_NODES; i++)
                free(sim->followers[i].held);
        free(sim->followers);
}

static bool is_of(const struct held *held, const struct lock_event *event)
{
        return held->name.size == event->name_size && memcmp(held->name.text, event->name, event->name_size) == 0;
}

static struct held *find(struct sim_follower *follower, const struct lock_event *event)
{
        for (size_t i = 0; i < follower->count; i++)
                if (is_of(&follower->held[i], event) && follower->held[i].token == event->token)
                        return &follower->held[i];
        return NULL;
}

/* Nobody else has it, as far as it was told, or together with this one. */
static bool may_be_granted(const struct sim_follower *follower, const struct lock_event *event)
{
        for (size_t i = 0; i < follower->count; i++)
                if (is_of(&follower->held[i], event) && (event->slots == 0 || follower->held[i].slots != event->slots || follower->held[i].token >= event->token))
                        return false;
        return true;
}

static void add(struct sim_follower *follower, const char *name, size_t size, uint64_t token, uint16_t slots)
{
        struct held *held;

        if (follower->count == follower->capacity) {
                follower->capacity = follower->capacity ? follower->capacity * 2 : 16;
                follower->held = alloc_resized(follower->held, follower->capacity, sizeof(follower->held[0]));
        }
        held = &follower->held[follower->count++];
        *held = (struct held){ .token = token, .slots = slots };
        (void)lock_name_set(&held->name, name, size);
}

static void list(struct sim_follower *follower, const struct lock_table *table)
{
        struct lock_view view = { .name = "" };

        follower->count = 0;
        while (lock_table_next(table, "", 0, view.name, view.name_size, view.token, &view))
                add(follower, view.name, view.name_size, view.token, view.slots);
}

static void take(struct sim *sim, struct sim_follower *follower, const struct lock_event *event)
{
        struct held *held = find(follower, event);

        if (event->kind == LOCK_EVENT_GRANTED && may_be_granted(follower, event))
                add(follower, event->name, event->name_size, event->token, event->slots);
        else if (event->kind != LOCK_EVENT_GRANTED && held)
                *held = follower->held[--follower->count];
        else
                sim_fail(sim, "W3: at %" PRIu64 " %.*s is told to be %s under token %" PRIu64 ", which does not follow from what was told before", event->index,
                         (int)event->name_size, event->name, event->kind == LOCK_EVENT_GRANTED ? "granted" : "free", event->token);
}

/* What it knows is what the node has. */
static void compare(struct sim *sim, const struct sim_follower *follower, const struct sim_node *node)
{
        const struct lock_table *table = replica_table(node->replica);
        struct lock_view view;

        if (follower->count != lock_table_lock_count(table))
                sim_fail(sim, "W1: whoever watches node %u knows of %zu locks at %" PRIu64 ", where %zu are held", node->number + 1, follower->count, follower->seen,
                         lock_table_lock_count(table));
        for (size_t i = 0; i < follower->count; i++)
                if (!lock_table_find_hold(table, &follower->held[i].name, follower->held[i].token, &view) || view.slots != follower->held[i].slots)
                        sim_fail(sim, "W1: whoever watches node %u knows of %s at %" PRIu64 " what is not so", node->number + 1, follower->held[i].name.text,
                                 follower->seen);
}

static void follow(struct sim *sim, struct sim_follower *follower, const struct sim_node *node)
{
        const struct lock_events *events = replica_events(node->replica);
        uint64_t applied = replica_applied(node->replica), last = follower->seen;
        struct lock_events_cursor cursor;
        struct lock_event event;

        if (applied <= follower->seen)
                return;                      /* W3: it waits */
        if (follower->seen == 0 || follower->seen < lock_events_floor(events)) {
                list(follower, replica_table(node->replica));
                follower->seen = applied;
                return;
        }
        cursor = lock_events_seek(events, follower->seen);
        while (lock_events_next(events, &cursor, &event)) {
                if (event.index < last || event.index <= follower->seen || event.index > applied)
                        sim_fail(sim, "W1: node %u tells of %" PRIu64 " after %" PRIu64 " to whoever has seen %" PRIu64, node->number + 1, event.index, last,
                                 follower->seen);
                last = event.index;
                take(sim, follower, &event);
        }
        follower->seen = applied;
        compare(sim, follower, node);
}

void follower_turn(struct sim *sim, const struct sim_node *node)
{
        for (unsigned i = 0; i < SIM_NODES; i++) {
                struct sim_follower *follower = &sim->followers[i];

                if (follower->node != node->number)
                        continue;
                follow(sim, follower, node);
                follower->dice = follower->dice * UINT64_C(6364136223846793005) + 1442695040888963407;
                if (follower->dice >> 58 == 0)
                        follower->node = (follower->node + 1) % sim->node_count;
        }
}
