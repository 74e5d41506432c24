/* members.c - joining, stopping, and where everybody is reached. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/mutation.h"
#include "replica/internal.h"

/* How often something that the leader must hear is said again. */
#define REPEAT_MS 500
/* A member that is not heard keeps its name for so many election timeouts. */
#define NAME_KEPT_TIMEOUTS 3

static void answer_join(struct replica *replica, const struct replica_origin *origin, const struct node_message *reply)
{
        struct replica_answer *answer = replica_add_answer(replica);

        *answer = (struct replica_answer){ .kind = REPLICA_ANSWER_JOIN, .origin = *origin, .outcome = REPLICA_YES, .join = *reply };
        answer->join.kind = NODE_JOIN_REPLY;
        answer->join.cluster = replica->settings.cluster;
}

/* away false: it is reached there; true: it was, and has stopped. */
static void propose_address(struct replica *replica, uint64_t node, const char *address, bool away)
{
        const struct directory_change *known = directory_find(&replica->directory, node);
        struct directory_change change = { .node = node, .away = away };
        struct bytes body = { 0 };

        if (address[0] == 0 || (known && known->away == away && strcmp(known->address, address) == 0) || !raft_may_propose(replica->raft))
                return;
        memcpy(change.address, address, strlen(address) + 1);
        directory_change_put(&body, &change);
        if (directory_change_get(body.data, body.size, &change))
                directory_apply(&replica->heard, raft_propose(replica->raft, RAFT_ENTRY_ADDRESS, body.data, body.size), &change);
        bytes_done(&body);
}

void replica_hear_address(struct replica *replica, const struct raft_entry *entry)
{
        struct directory_change change;

        if (entry->kind == RAFT_ENTRY_ADDRESS && directory_change_get(entry->body, entry->size, &change))
                directory_apply(&replica->heard, entry->index, &change);
}

/* A snapshot may be newer than what was heard before it. */
static const struct directory *newer(const struct replica *replica, uint64_t node)
{
        bool heard = directory_index(&replica->heard, node) > directory_index(&replica->directory, node);

        return heard ? &replica->heard : &replica->directory;
}

static const struct directory_change *newest(const struct replica *replica, uint64_t node)
{
        return directory_find(newer(replica, node), node);
}

static uint64_t newest_index(const struct replica *replica, uint64_t node)
{
        return directory_index(newer(replica, node), node);
}

const char *replica_address(const struct replica *replica, uint64_t node)
{
        const struct directory_change *known = newest(replica, node);

        return known ? known->address : NULL;
}

bool replica_is_away(const struct replica *replica, uint64_t node)
{
        const struct directory_change *known = newest(replica, node);

        return known && known->away;
}

/* Where this node is, which leads: nobody else tells the others. */
static void propose_own_address(struct replica *replica)
{
        propose_address(replica, raft_id(replica->raft), replica->settings.address, false);
}

static void wait_for_join(struct replica *replica, const struct replica_origin *origin, uint64_t id, uint64_t index)
{
        struct waiting_join *join = alloc_zeroed(1, sizeof(*join));

        *join = (struct waiting_join){ .origin = *origin, .node = id, .index = index, .term = raft_term(replica->raft) };
        TAILQ_INSERT_TAIL(&replica->joins, join, link);
}

/* Whose place would a joiner of this name take? A member that is connected keeps its name; one
 * that is not has lost its disk, or is about to be replaced by whoever was given its name. */
static const struct raft_member *name_holder(struct replica *replica, const char *name)
{
        return raft_configuration_find_name(raft_configuration(replica->raft), name);
}

void replica_join(struct replica *replica, const struct replica_origin *origin, const struct node_message *join, uint64_t deadline)
{
        const struct raft_configuration *configuration = raft_configuration(replica->raft);
        const struct raft_member *member = raft_configuration_find_incarnation(configuration, join->incarnation), *holder;
        struct node_message reply = { .join = JOIN_LATER };
        struct raft_member newcomer = { .incarnation = join->incarnation, .witness = join->witness, .preferred = join->preferred };
        uint64_t leader = raft_leader(replica->raft), index;
        bool may_take = true;
        const struct directory_change *known = leader ? directory_find(&replica->directory, leader) : NULL;

        (void)deadline;
        memcpy(newcomer.name, join->name, sizeof(newcomer.name));
        if (raft_role(replica->raft) != RAFT_LEADER) {
                if (known) {
                        reply.join = JOIN_ELSEWHERE;
                        memcpy(reply.address, known->address, sizeof(reply.address));
                }
                answer_join(replica, origin, &reply);
                return;
        }
        if (!replica_may_decide(replica)) {
                answer_join(replica, origin, &reply);
                return;
        }
        if (member) {                        /* asked again: the same id */
                propose_address(replica, member->id, join->address, false);
                wait_for_join(replica, origin, member->id, configuration->index);
                return;
        }
        holder = name_holder(replica, join->name);
        if (holder && (holder->id == raft_id(replica->raft) || raft_is_linked(replica->raft, holder->id)))
                reply.join = JOIN_NAME_TAKEN;
        else if (holder && raft_silent_ms(replica->raft, holder->id) < NAME_KEPT_TIMEOUTS * replica->settings.raft.election_timeout_ms)
                may_take = false;            /* it may only be starting again */
        else if (!holder && configuration->count >= LIMIT_MEMBERS)
                reply.join = JOIN_CLUSTER_FULL;
        if (reply.join != JOIN_LATER || !may_take || !raft_may_change(replica->raft)) {
                answer_join(replica, origin, &reply);
                return;
        }
        propose_own_address(replica);        /* members look for this node there if it is lost, with its database or without */
        index = raft_add_learner(replica->raft, &newcomer, holder ? holder->id : 0);
        if (index == 0) {
                answer_join(replica, origin, &reply);
                return;
        }
        propose_address(replica, index, join->address, false);
        wait_for_join(replica, origin, index, index);
}

void replica_answer_joins(struct replica *replica)
{
        struct waiting_join *join, *next;

        for (join = TAILQ_FIRST(&replica->joins); join; join = next) {
                bool lost = raft_role(replica->raft) != RAFT_LEADER || raft_term(replica->raft) != join->term;
                struct node_message reply = { .join = lost ? JOIN_LATER : JOIN_WELCOME, .node = lost ? 0 : join->node };

                next = TAILQ_NEXT(join, link);
                if (!lost && replica->applied < join->index && !MUTATED(JOIN_EARLY))
                        continue;
                answer_join(replica, &join->origin, &reply);
                TAILQ_REMOVE(&replica->joins, join, link);
                free(join);
        }
}

/* While it waits it asks again and again. */
#define LEAVER_MS 1000
/* A leader that came into office while it stops lets others say first that they do, too. */
#define HEAR_LEAVERS_MS 150

static void note_leaver(struct replica *replica, uint64_t node)
{
        struct leaver *leaver = replica->leavers;

        while (leaver < replica->leavers + replica->leaver_count && leaver->node != node)
                leaver++;
        if (leaver == replica->leavers + LIMIT_MEMBERS)
                return;
        if (leaver == replica->leavers + replica->leaver_count)
                replica->leaver_count++;
        *leaver = (struct leaver){ .node = node, .heard = replica->now };
}

/* To nobody who would hand it on at once. */
static void hand_over(struct replica *replica)
{
        uint64_t leaving[LIMIT_MEMBERS];
        size_t count = 0;

        if (replica->now - replica->led_since < HEAR_LEAVERS_MS) {
                replica->leave_next = replica->led_since + HEAR_LEAVERS_MS;
                return;
        }
        for (size_t i = 0; i < replica->leaver_count; i++)
                if (replica->now - replica->leavers[i].heard < LEAVER_MS)
                        leaving[count++] = replica->leavers[i].node;
        (void)raft_transfer_to_best(replica->raft, leaving, count);
}

/* M5: the vote is handed back from two voters to one only, so that one stopped node does not stall the other. */
static void member_leaves(struct replica *replica, uint64_t node, bool returns)
{
        const struct raft_configuration *configuration = raft_configuration(replica->raft);
        const struct directory_change *known;

        if (raft_role(replica->raft) != RAFT_LEADER)
                return;
        note_leaver(replica, node);
        if (replica->settings.min_voters < 2 && raft_configuration_voters(configuration) == 2 && raft_configuration_votes(configuration, node)) {
                (void)raft_demote(replica->raft, node);
                return;                      /* it asks again, and is let go when that is committed */
        }
        /* Everybody shall know that it is not to be woken; with the answer that is committed. */
        known = directory_find(&replica->directory, node);
        if (known && !known->away && !returns)
                propose_address(replica, node, known->address, true);
        else if (configuration->index <= replica->applied)
                replica_send(replica, node, &(struct node_message){ .kind = NODE_LEAVE_REPLY });
}

/* --- who stopped cleanly --- */

/* Its start is in the log, by another node that it reached: this one may be away to it, and must dial. */
static bool is_back(const struct replica *replica, const struct bye *bye)
{
        return newest_index(replica, bye->node) > bye->known && !replica_is_away(replica, bye->node);
}

bool replica_said_bye(const struct replica *replica, uint64_t node)
{
        for (size_t i = 0; i < replica->bye_count; i++)
                if (replica->byes[i].node == node)
                        return !is_back(replica, &replica->byes[i]);
        return false;
}

void replica_bye(struct replica *replica, uint64_t node)
{
        replica_forget_bye(replica, node);
        if (replica->bye_count < LIMIT_MEMBERS)
                replica->byes[replica->bye_count++] = (struct bye){ .node = node, .known = newest_index(replica, node) };
}

void replica_forget_bye(struct replica *replica, uint64_t node)
{
        for (size_t i = 0; i < replica->bye_count; i++)
                if (replica->byes[i].node == node)
                        replica->byes[i--] = replica->byes[--replica->bye_count];
}

void replica_members_message(struct replica *replica, uint64_t node, const struct node_message *message)
{
        if (message->kind == NODE_LEAVE)
                member_leaves(replica, node, message->returns);
        else if (message->kind == NODE_LEAVE_REPLY && replica->leaving)
                replica->effects.left = true;
        else if (message->kind == NODE_ANNOUNCE && raft_role(replica->raft) == RAFT_LEADER &&
                 raft_configuration_find(raft_configuration(replica->raft), node))
                propose_address(replica, node, message->address, false);
}

void replica_leave(struct replica *replica, bool returns)
{
        replica->leaving = true;
        replica->returns = returns;
        replica->leave_next = 0;
        replica_members_tick(replica);
}

void replica_set_address(struct replica *replica, const char *address)
{
        if (strcmp(replica->settings.address, address) == 0)
                return;
        (void)memcpy(replica->settings.address, address, strlen(address) + 1);
        replica->announce_next = 0;
}

/* A leader that stops hands over first; then it is a follower that stops. With nobody to hand over to it just stops. */
static void leave(struct replica *replica)
{
        uint64_t self = raft_id(replica->raft);
        bool leads = replica->leader == self, votes = raft_configuration_votes(raft_configuration(replica->raft), self);

        replica->leave_next = replica->now + 100;
        if (replica->leader == 0) {
                /* Nobody to ask; but the next leader may be about to take over. */
                replica->effects.left = replica->now - replica->leaderless_since >= replica->settings.raft.election_timeout_ms;
        } else if (!leads) {
                replica_send(replica, replica->leader, &(struct node_message){ .kind = NODE_LEAVE, .returns = replica->returns });
        } else if (votes && raft_configuration_voters(raft_configuration(replica->raft)) == 1) {
                replica->effects.left = true;
        } else if (raft_transfer_target(replica->raft) == 0) {
                hand_over(replica);
        }
}

/* Says what the leader must hear until its effect is seen. */
void replica_members_tick(struct replica *replica)
{
        const struct directory_change *known = directory_find(&replica->directory, raft_id(replica->raft));
        struct node_message message = { .kind = NODE_ANNOUNCE };
        bool leads = replica->leader == raft_id(replica->raft);

        if (replica->leader != 0)
                replica->leaderless_since = replica->now;
        if (replica->leaving && replica->now >= replica->leave_next)
                leave(replica);
        if (raft_id(replica->raft) == 0 || replica->leader == 0)
                return;
        if (replica->leaving || replica->settings.address[0] == 0 || replica->now < replica->announce_next ||
            (known && !known->away && strcmp(known->address, replica->settings.address) == 0))
                return;
        if (leads && !replica_may_decide(replica))
                return;
        replica->announce_next = replica->now + REPEAT_MS;
        memcpy(message.address, replica->settings.address, sizeof(message.address));
        if (leads)
                propose_own_address(replica);
        else
                replica_send(replica, replica->leader, &message);
}
