/* admin.c - what an operator wants of the cluster: who leads, who is no member any more.
 *
 * A wish names a state and is done when a leader sees that state, so it may be asked of any node and of one
 * leader after another; asking twice does no harm. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "replica/internal.h"

/* After a node said that it does not lead. */
#define RETRY_MS 50
/* So long a leader waits for voters that are not connected before it says so: after a change of leadership or a start, links
 * between those who did not need one are only being made. */
#define LINKS_PATIENCE_MS 2000

struct waiting_admin {
        TAILQ_ENTRY(waiting_admin) link;
        struct replica_origin origin;
        uint64_t node, remote_id;            /* 0: of this node; else who forwarded it, under which number */
        struct admin_request request;
        uint64_t deadline;
        uint64_t forward_id;                 /* 0: not with a leader now */
        unsigned leaders_asked;
        uint64_t retry_at;
        enum admin_outcome in_vain;          /* what is said at the deadline */
        uint64_t lacking_since;              /* too few voters have been connected for so long; 0: they were not, last time */
};

void replica_admins_init(struct replica *replica)
{
        TAILQ_INIT(&replica->admins);
        replica->admin_next = replica->settings.raft.seed | 1;
}

static void drop(struct replica *replica, struct waiting_admin *admin)
{
        TAILQ_REMOVE(&replica->admins, admin, link);
        free(admin);
}

void replica_admins_done(struct replica *replica)
{
        while (!TAILQ_EMPTY(&replica->admins))
                drop(replica, TAILQ_FIRST(&replica->admins));
}

static struct waiting_admin *add(struct replica *replica, const struct admin_request *request, uint64_t deadline)
{
        struct waiting_admin *admin = alloc_zeroed(1, sizeof(*admin));

        admin->request = *request;
        admin->deadline = deadline;
        admin->in_vain = ADMIN_LATER;
        TAILQ_INSERT_TAIL(&replica->admins, admin, link);
        return admin;
}

void replica_admin(struct replica *replica, const struct replica_origin *origin, const struct admin_request *request, uint64_t deadline)
{
        add(replica, request, deadline)->origin = *origin;
}

static void answer(struct replica *replica, struct waiting_admin *admin, enum admin_outcome outcome)
{
        if (admin->node != 0)
                replica_send(replica, admin->node, &(struct node_message){ .kind = NODE_ADMIN_REPLY, .id = admin->remote_id, .admin_outcome = outcome });
        else
                *replica_add_answer(replica) = (struct replica_answer){
                        .kind = REPLICA_ANSWER_ADMIN, .origin = admin->origin, .outcome = REPLICA_YES, .admin = outcome };
        drop(replica, admin);
}

/* --- the leader's part: 0: not yet --- */

static enum admin_outcome wait_for_links(const struct replica *replica, struct waiting_admin *admin)
{
        if (admin->lacking_since == 0)
                admin->lacking_since = replica->now;
        admin->in_vain = ADMIN_NO_MAJORITY_LEFT;
        return replica->now - admin->lacking_since >= LINKS_PATIENCE_MS ? ADMIN_NO_MAJORITY_LEFT : 0;
}

static enum admin_outcome transfer(struct replica *replica, struct waiting_admin *admin, const struct raft_member *member)
{
        if (!member)
                return ADMIN_NO_SUCH_NODE;
        if (member->standing != RAFT_VOTER)
                return ADMIN_NOT_A_VOTER;
        if (member->witness)
                return ADMIN_WITNESS;
        if (member->id == raft_id(replica->raft)) {
                raft_hold(replica->raft);
                return ADMIN_DONE;
        }
        if (raft_transfer_target(replica->raft) == 0 && !raft_transfer(replica->raft, member->id, true))
                admin->in_vain = ADMIN_NOT_CAUGHT_UP;
        return 0;
}

static enum admin_outcome remove_member(struct replica *replica, struct waiting_admin *admin, const struct raft_member *member)
{
        const struct raft_configuration *configuration = raft_configuration(replica->raft);

        if (!member)
                return admin->request.node == 0 ? ADMIN_NO_SUCH_NODE : configuration->index <= replica->applied ? ADMIN_DONE : 0;
        admin->request.node = member->id;
        if (member->standing == RAFT_VOTER && raft_configuration_voters(configuration) == 1)
                return ADMIN_LAST_VOTER;
        if (member->standing == RAFT_VOTER && !raft_can_do_without(replica->raft, member->id))
                return wait_for_links(replica, admin);
        admin->in_vain = ADMIN_LATER;
        admin->lacking_since = 0;
        if (member->id == raft_id(replica->raft))
                (void)raft_transfer_to_best(replica->raft, NULL, 0);     /* M4: the next leader takes it out */
        else
                (void)raft_remove(replica->raft, member->id);    /* not now: tried again */
        return 0;
}

static enum admin_outcome carry_out(struct replica *replica, struct waiting_admin *admin)
{
        const struct raft_configuration *configuration = raft_configuration(replica->raft);
        const struct raft_member *member;

        member = admin->request.node != 0 ? raft_configuration_find(configuration, admin->request.node)
                                          : raft_configuration_find_name(configuration, admin->request.name);
        switch (admin->request.kind) {
        case ADMIN_TRANSFER:
                return transfer(replica, admin, member);
        case ADMIN_REMOVE:
                return remove_member(replica, admin, member);
        }
        abort();
}

/* --- the others' part --- */

/* By name, which the leader looks up: the configuration here may be an older one, with another member of that name. */
static void forward(struct replica *replica, struct waiting_admin *admin)
{
        admin->leaders_asked++;
        admin->forward_id = replica->admin_next++;
        replica_send(replica, replica->leader, &(struct node_message){ .kind = NODE_ADMIN, .id = admin->forward_id, .admin = admin->request });
}

void replica_admin_turn(struct replica *replica)
{
        bool may_forward = replica->leader != 0 && replica->leader != raft_id(replica->raft) && replica->leader_linked;
        struct waiting_admin *admin, *next;

        for (admin = TAILQ_FIRST(&replica->admins); admin; admin = next) {
                enum admin_outcome outcome = 0;

                next = TAILQ_NEXT(admin, link);
                if (raft_is_ready(replica->raft))
                        outcome = carry_out(replica, admin);
                else if (may_forward && admin->node == 0 && admin->forward_id == 0 && replica->now >= admin->retry_at)
                        forward(replica, admin);
                if (outcome == 0 && replica->now >= admin->deadline)
                        outcome = admin->in_vain;
                if (outcome != 0)
                        answer(replica, admin, outcome);
        }
}

void replica_admin_forwarded(struct replica *replica, uint64_t node, const struct node_message *message)
{
        struct waiting_admin *admin;

        if (raft_role(replica->raft) != RAFT_LEADER) {
                replica_send(replica, node, &(struct node_message){ .kind = NODE_ADMIN_REPLY, .id = message->id, .admin_outcome = ADMIN_NOT_LEADER });
                return;
        }
        admin = add(replica, &message->admin, replica->now + LIMIT_RESEND_MS);
        admin->node = node;
        admin->remote_id = message->id;
}

/* The leader before may have removed it, and not have come to say so. */
static enum admin_outcome true_of_all(const struct waiting_admin *admin, enum admin_outcome outcome)
{
        return admin->request.kind == ADMIN_REMOVE && outcome == ADMIN_NO_SUCH_NODE && admin->leaders_asked > 1 ? ADMIN_DONE : outcome;
}

void replica_admin_reply(struct replica *replica, const struct node_message *message)
{
        struct waiting_admin *admin, *next;

        for (admin = TAILQ_FIRST(&replica->admins); admin; admin = next) {
                next = TAILQ_NEXT(admin, link);
                if (admin->node != 0 || admin->forward_id != message->id)
                        continue;
                if (message->admin_outcome != ADMIN_NOT_LEADER) {
                        answer(replica, admin, true_of_all(admin, message->admin_outcome));
                        continue;
                }
                admin->forward_id = 0;
                admin->leaders_asked--;      /* it has done nothing */
                admin->retry_at = replica->now + RETRY_MS;
        }
}

/* What was asked here goes to the next leader; what others forwarded here they send there themselves. */
void replica_admin_leader_changed(struct replica *replica)
{
        struct waiting_admin *admin, *next;

        for (admin = TAILQ_FIRST(&replica->admins); admin; admin = next) {
                next = TAILQ_NEXT(admin, link);
                if (admin->node != 0) {
                        drop(replica, admin);
                        continue;
                }
                admin->forward_id = 0;
                /* What it waited for here says nothing of what the next leader does. */
                admin->in_vain = ADMIN_LATER;
                admin->lacking_since = 0;
        }
}

void replica_forget_admins(struct replica *replica, uint64_t session)
{
        struct waiting_admin *admin, *next;

        for (admin = TAILQ_FIRST(&replica->admins); admin; admin = next) {
                next = TAILQ_NEXT(admin, link);
                if (admin->node == 0 && admin->origin.session == session)
                        drop(replica, admin);
        }
}
