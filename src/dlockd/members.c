/* members.c - the other nodes: finding them, being let in, who is reached where. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/diag.h"
#include "dlockd/daemon.h"
#include "dlockd/failure.h"
#include "dlockd/session.h"

/* How long an empty leader listens for a cluster that is there already (DESIGN section 6): who misses it dials it twice in that time. */
#define LISTEN_MS 3000
static_assert(LISTEN_MS > 2 * PEER_REDIAL_MS_MAX, "a cluster that is alive must be heard");
/* Of the time between two looks at the clock no more than this was listened: two ticks. */
#define LISTEN_STEP_MS 100
/* Between two attempts to join, and after a refusal that only a person can mend. */
#define JOIN_MS 300
#define JOIN_REFUSED_MS 5000
/* Members and their addresses are looked at this often. */
#define MEMBERS_MS 100
/* A member that is linked to nobody for so long tries the join addresses too: the others may have moved. */
#define ALONE_MS 1000
/* Who hears of no leader for so long, and is linked to no majority, wakes who is away (see patience). */
#define LEADERLESS_MS 2000

/* --- where this node is reached --- */

static bool text_is_local(const char *text)
{
        struct address address;

        return address_parse(text, 0, &address) && address_is_local(&address);
}

static void set_address(struct daemon *daemon, const struct address *address)
{
        char text[LIMIT_ADDRESS_BYTES + 16];

        (void)snprintf(daemon->address, sizeof(daemon->address), "%.*s", LIMIT_ADDRESS_BYTES, address_format(address, text));
        if (daemon->replica)
                replica_set_address(daemon->replica, daemon->address);
}

/* Listening everywhere, a node learns from its links where it is; an address that leaves the host is better. */
static void on_reached(void *context, const char *local_host)
{
        struct daemon *daemon = context;
        struct address address = daemon->config.peers;

        if (daemon->config.has_advertise || !address_is_any(&address) || !*local_host)
                return;
        if (daemon->address[0] && !text_is_local(daemon->address))
                return;
        (void)snprintf(address.host, sizeof(address.host), "%s", local_host);
        set_address(daemon, &address);
}

void daemon_self(const struct daemon *daemon, struct peer_hello *ret_self)
{
        *ret_self = (struct peer_hello){
                .cluster = daemon->identity.cluster, .node = daemon->identity.node, .incarnation = daemon->identity.incarnation };
        ret_self->level = RAFT_FEATURE_LEVEL;
        memcpy(ret_self->name, daemon->config.name, sizeof(ret_self->name));
        memcpy(ret_self->address, daemon->address, sizeof(ret_self->address));
}

static void tell_hub(struct daemon *daemon)
{
        struct peer_hello self;

        daemon_self(daemon, &self);
        peer_hub_set_self(daemon->hub, &self);
        daemon->members_next = 0;
}

/* --- being let in --- */

static void complain(struct daemon *daemon, const char *address, const char *reason)
{
        char text[sizeof(daemon->join_complaint)];

        (void)snprintf(text, sizeof(text), "%.100s: %.200s", address, reason);
        if (strcmp(text, daemon->join_complaint) == 0)
                return;
        (void)snprintf(daemon->join_complaint, sizeof(daemon->join_complaint), "%s", text);
        diag_notice("not a member yet: %s", text);
}

static void try_again(struct daemon *daemon, uint64_t after_ms)
{
        daemon->join_dialled[0] = 0;
        daemon->join_next = daemon->now + after_ms;
}

/* There is a cluster: this node will not make another. */
static void seek(struct daemon *daemon)
{
        if (daemon->join != JOIN_LISTENING)
                return;
        daemon->join = JOIN_SEEKING;
        session_hold(daemon->sessions, false);
        diag_notice("found a cluster that is there already: joining it");
}

static void on_met_cluster(void *context, const struct peer_hello *hello, const char *host)
{
        struct daemon *daemon = context;

        (void)host;
        if (daemon->join == JOIN_LISTENING) {
                seek(daemon);
                daemon->join_met_cluster = hello->cluster;
                daemon->join_next = daemon->now;
        }
        /* It is asked until it lets this node in: there may be no other address to ask at. */
        if (hello->address[0] && id128_equal(hello->cluster, daemon->join_met_cluster))
                (void)snprintf(daemon->join_met, sizeof(daemon->join_met), "%s", hello->address);
}

static void on_join_up(void *context, const struct peer_hello *welcome, const char *local_host)
{
        struct node_message join = { .kind = NODE_JOIN };
        struct daemon *daemon = context;
        struct bytes bytes = { 0 };

        if (welcome->node == 0) {
                complain(daemon, daemon->join_dialled, "it is in no cluster itself yet");
                try_again(daemon, JOIN_MS);
                return;
        }
        seek(daemon);
        on_reached(daemon, local_host);
        join.incarnation = daemon->identity.incarnation;
        join.witness = daemon->config.witness;
        join.preferred = daemon->config.role == CONFIG_LEADER;
        memcpy(join.name, daemon->config.name, sizeof(join.name));
        memcpy(join.address, daemon->address, sizeof(join.address));
        node_message_put(&bytes, &join);
        peer_hub_join_send(daemon->hub, bytes.data, bytes.size);
        bytes_done(&bytes);
}

static void let_in(struct daemon *daemon, const struct node_message *reply)
{
        daemon->identity.cluster = reply->cluster;
        daemon->identity.node = reply->node;
        daemon->join = JOIN_DONE;
        daemon->join_complaint[0] = daemon->join_met[0] = 0;
        daemon->linked_at = 0;               /* the address that let it in is dialled at once, as a member's */
        (void)snprintf(daemon->join_elsewhere, sizeof(daemon->join_elsewhere), "%s", daemon->join_dialled);
        try_again(daemon, 0);
        diag_notice("a member of the cluster now, as node %" PRIu64, reply->node);
        replica_joined(daemon->replica, reply->cluster, reply->node);
        replica_set_address(daemon->replica, daemon->address);
        tell_hub(daemon);
        daemon_want_turn(daemon);
}

static void on_join_message(void *context, const void *data, size_t size)
{
        struct daemon *daemon = context;
        struct node_message reply;

        if (daemon->join == JOIN_DONE || !node_message_get(data, size, &reply) || reply.kind != NODE_JOIN_REPLY)
                return;
        switch (reply.join) {
        case JOIN_WELCOME:
                let_in(daemon, &reply);
                return;
        case JOIN_ELSEWHERE:
                (void)snprintf(daemon->join_elsewhere, sizeof(daemon->join_elsewhere), "%s", reply.address);
                try_again(daemon, 0);
                return;
        case JOIN_LATER:
                complain(daemon, daemon->join_dialled, "not now: there is no leader, another change of members is under way, or a member of this name was there a moment ago");
                try_again(daemon, JOIN_MS);
                return;
        case JOIN_NAME_TAKEN:
                complain(daemon, daemon->join_dialled, "a connected member has this node's name: give it another as [node] name");
                try_again(daemon, JOIN_REFUSED_MS);
                return;
        case JOIN_CLUSTER_FULL:
                complain(daemon, daemon->join_dialled, "the cluster has as many members as it may");
                try_again(daemon, JOIN_REFUSED_MS);
                return;
        }
}

static void on_join_down(void *context, const char *reason)
{
        struct daemon *daemon = context;

        if (daemon->join != JOIN_DONE && daemon->join_dialled[0])
                complain(daemon, daemon->join_dialled, reason);
        if (daemon->join_dialled[0])
                try_again(daemon, JOIN_MS);
}

static bool next_join_address(struct daemon *daemon, char text[LIMIT_ADDRESS_BYTES + 16])
{
        const struct config_addresses *list = &daemon->config.join;
        size_t count = list->count + (daemon->join_met[0] != 0), at;

        if (daemon->join_elsewhere[0]) {
                (void)snprintf(text, LIMIT_ADDRESS_BYTES + 16, "%s", daemon->join_elsewhere);
                daemon->join_elsewhere[0] = 0;
                return true;
        }
        if (count == 0)
                return false;
        at = daemon->join_at++ % count;
        if (at < list->count)
                (void)address_format(&list->items[at], text);
        else
                (void)snprintf(text, LIMIT_ADDRESS_BYTES + 16, "%s", daemon->join_met);
        return true;
}

static void dial_join(struct daemon *daemon)
{
        char text[LIMIT_ADDRESS_BYTES + 16];

        if (daemon->now < daemon->join_next)
                return;
        if (daemon->join_dialled[0] && daemon->now < daemon->join_next + (daemon->join == JOIN_LISTENING ? LISTEN_MS : JOIN_REFUSED_MS))
                return;                      /* an attempt is under way */
        daemon->join_dialled[0] = 0;
        if (!next_join_address(daemon, text))
                return;
        daemon->join_next = daemon->now;
        (void)snprintf(daemon->join_dialled, sizeof(daemon->join_dialled), "%.*s", LIMIT_ADDRESS_BYTES, text);
        peer_hub_join(daemon->hub, text);
}

/* --- making a cluster --- */

/* A node that does not run hears nobody. */
static void listen_on(struct daemon *daemon)
{
        daemon->listened_ms += MIN(daemon->now - daemon->listened_at, (uint64_t)LISTEN_STEP_MS);
        daemon->listened_at = daemon->now;
}

/* Has each join address had its time: a host that is down says nothing, and another may be in a cluster. */
static bool has_asked_all(const struct daemon *daemon)
{
        size_t count = daemon->config.join.count;

        return count == 0 || daemon->join_at > count || (daemon->join_at == count && !daemon->join_dialled[0]);
}

static void bootstrap(struct daemon *daemon)
{
        if (daemon_bootstrap(daemon) < 0) {
                daemon_on_store(daemon, 0);  /* it says why */
                return;
        }
        daemon->join = JOIN_DONE;
        daemon->join_complaint[0] = 0;
        daemon->join_dialled[0] = 0;
        peer_hub_join(daemon->hub, NULL);
        diag_notice("made a new cluster, with this node as its first member; to be in another it would need [cluster] join");
        tell_hub(daemon);
        session_hold(daemon->sessions, false);
}

/* --- who is a member --- */

static const char *judge(void *context, const struct peer_hello *hello)
{
        const struct daemon *daemon = context;
        const struct raft *raft = replica_raft(daemon->replica);
        const struct raft_member *member = raft_configuration_find(raft_configuration(raft), hello->node);

        if (daemon->identity.node == 0)
                return NULL;
        if (hello->level < raft_configuration(raft)->level)
                return PEER_REASON_OLD;
        if (hello->node == 0)
                return NULL;                 /* a newcomer */
        if (!member)
                return hello->node > raft_commit(raft) ? NULL    /* let in by an entry that has not come here yet: what is here instead may go */
                       : PEER_REASON_GONE;
        if (!id128_equal(member->incarnation, hello->incarnation))
                return "its database is not the one that was let in: empty its state directory to let it join as a new node";
        return NULL;
}

static void on_linked(void *context, uint64_t node, unsigned level, bool up)
{
        struct daemon *daemon = context;

        replica_link(daemon->replica, node, level, up);
        daemon_want_turn(daemon);
}

static void on_raft(void *context, uint64_t node, const struct raft_message *message)
{
        struct daemon *daemon = context;

        (void)node;
        if (!replica_raft_message(daemon->replica, message))
                daemon_fail(daemon, "the leader sent what this version does not know: upgrade dlock-server on this host");
        daemon_want_turn(daemon);
}

static void on_node(void *context, uint64_t node, const void *data, size_t size)
{
        struct daemon *daemon = context;
        struct node_message message;

        if (node_message_get(data, size, &message))
                replica_node_message(daemon->replica, node, &message);
        else
                diag_notice("dropped a malformed message from %s", daemon_node_name(daemon, node));
        daemon_want_turn(daemon);
}

/* It asks until it is let in, which is said once of each of the last few. */
static bool is_new_guest(struct daemon *daemon, struct id128 incarnation)
{
        for (size_t i = 0; i < ARRAY_SIZE(daemon->logged_guests); i++)
                if (id128_equal(daemon->logged_guests[i], incarnation))
                        return false;
        daemon->logged_guests[daemon->logged_guest_next++ % ARRAY_SIZE(daemon->logged_guests)] = incarnation;
        return true;
}

static void on_guest(void *context, uint64_t cookie, const char *host, const void *data, size_t size)
{
        struct daemon *daemon = context;
        const struct replica_origin origin = { .tag = cookie };
        struct node_message join;

        if (!node_message_get(data, size, &join) || join.kind != NODE_JOIN) {
                diag_notice("dropped a malformed request to join from %s", host);
                return;
        }
        if (is_new_guest(daemon, join.incarnation))
                diag_info("%s asks from %s to join", join.name, host);
        replica_join(daemon->replica, &origin, &join, daemon->now + LIMIT_RESEND_MS);
        daemon_want_turn(daemon);
}

void daemon_answer_join(struct daemon *daemon, const struct replica_answer *answer)
{
        struct bytes bytes = { 0 };

        node_message_put(&bytes, &answer->join);
        peer_hub_reply(daemon->hub, answer->origin.tag, bytes.data, bytes.size);
        bytes_done(&bytes);
}

/* It can neither follow the others nor know what they have decided: it serves nobody. */
static void on_outdated(void *context)
{
        daemon_fail(context, "the other nodes of the cluster all have a newer dlockd and go on without this one: upgrade dlock-server on this host");
}

static void on_removed(void *context)
{
        struct daemon *daemon = context;

        daemon->removed = true;
}

bool daemon_is_removed(const struct daemon *daemon)
{
        const struct raft *raft = replica_raft(daemon->replica);
        bool listed = raft_configuration_find(raft_configuration(raft), raft_id(raft)) != NULL;

        /* The configuration that lets it in may still be on its way. */
        return raft_id(raft) != 0 && raft_leader(raft) == 0 && (daemon->removed || (!listed && raft_id(raft) <= raft_commit(raft)));
}

static void on_bye(void *context, uint64_t node)
{
        struct daemon *daemon = context;

        diag_info("%s stops", daemon_node_name(daemon, node));
        replica_bye(daemon->replica, node);
        daemon_want_turn(daemon);
}

const struct peer_handler daemon_peer_handler = {
        .linked = on_linked,
        .raft = on_raft,
        .node = on_node,
        .guest = on_guest,
        .met_cluster = on_met_cluster,
        .join_up = on_join_up,
        .join_message = on_join_message,
        .join_down = on_join_down,
        .reached = on_reached,
        .bye = on_bye,
        .outdated = on_outdated,
        .removed = on_removed,
        .judge = judge,
};

/* --- from time to time --- */

static size_t linked_voters(const struct daemon *daemon, const struct raft_configuration *configuration)
{
        size_t count = 0;

        for (size_t i = 0; i < configuration->count; i++)
                count += configuration->members[i].standing == RAFT_VOTER &&
                         (configuration->members[i].id == daemon->identity.node || peer_hub_is_linked(daemon->hub, configuration->members[i].id));
        return count;
}

static bool has_majority_linked(const struct daemon *daemon)
{
        const struct raft_configuration *configuration = raft_configuration(replica_raft(daemon->replica));

        return linked_voters(daemon, configuration) > raft_configuration_voters(configuration) / 2;
}

/* How long this node waits for a leader before it dials who is away. A majority that is linked needs nobody - unless its leader is among
 * them: who was stopped before it and started after it knows only that it was away, and is away to it. */
static uint64_t patience(const struct daemon *daemon)
{
        return has_majority_linked(daemon) ? LEADERLESS_MS + 3 * daemon->config.timeout_ms : LEADERLESS_MS;
}

/* Everybody dials everybody, so that the others are linked when the leader dies - but with socket activation a dial starts a node, also
 * one that was stopped on purpose. Whom the log knows to be away is dialled only by who looks for a leader in vain. Who said BYE to this
 * very process is left alone even then, unless a majority is linked: that would have a leader, if it were not one that is not linked. */
static bool shall_dial(const struct daemon *daemon, const struct raft_member *member)
{
        bool in_vain = daemon->now - daemon->led_at >= patience(daemon);

        /* It would say so again, and be started for that. */
        if (daemon_is_removed(daemon) && peer_hub_is_removed_by(daemon->hub, member->id))
                return false;
        if (replica_said_bye(daemon->replica, member->id))
                return in_vain && has_majority_linked(daemon);
        return in_vain || !replica_is_away(daemon->replica, member->id);
}

/* What a node is, it says when it joins. */
static void compare_witness(struct daemon *daemon, const struct raft_member *self)
{
        if (daemon->witness_compared)
                return;
        daemon->witness_compared = true;
        if (self->witness != daemon->config.witness)
                diag_warning("[node] witness = %s, but the cluster let this node in as %s: \"dlockctl remove\" it, empty its state directory and let it join again",
                             daemon->config.witness ? "yes" : "no", self->witness ? "a witness" : "one that serves clients");
}

/* It was stopped while others went elsewhere, who do not dial it because it was stopped: the join addresses may lead to them. */
static bool has_lost_its_way(const struct daemon *daemon)
{
        const struct raft_configuration *configuration = raft_configuration(replica_raft(daemon->replica));

        if (daemon->now - daemon->led_at < patience(daemon))
                return false;
        for (size_t i = 0; i < configuration->count; i++) {
                uint64_t node = configuration->members[i].id;

                if (node != daemon->identity.node && !peer_hub_is_linked(daemon->hub, node) && !replica_said_bye(daemon->replica, node))
                        return true;
        }
        return false;
}

static void look_at_members(struct daemon *daemon)
{
        const struct raft *raft = replica_raft(daemon->replica);
        const struct raft_configuration *configuration = raft_configuration(raft);
        bool alone = true;

        if (raft_leader(raft) != 0)
                daemon->led_at = daemon->now;
        peer_hub_members_begin(daemon->hub);
        for (size_t i = 0; i < configuration->count; i++) {
                const struct raft_member *member = &configuration->members[i];

                peer_hub_member(daemon->hub, member->id, member->name,
                                shall_dial(daemon, member) ? replica_address(daemon->replica, member->id) : NULL);
                if (member->id == daemon->identity.node) {
                        compare_witness(daemon, member);
                        continue;            /* its log says that it stopped: no reason not to look for the others */
                }
                alone = alone && !peer_hub_is_linked(daemon->hub, member->id) && !replica_is_away(daemon->replica, member->id);
        }
        peer_hub_members_end(daemon->hub);
        if (!alone || raft_role(raft) == RAFT_LEADER)
                daemon->linked_at = daemon->now;
}

void daemon_members_tick(struct daemon *daemon)
{
        switch (daemon->join) {
        case JOIN_LISTENING:
                if (daemon->config.bootstrap_now) {
                        bootstrap(daemon);
                        return;
                }
                listen_on(daemon);
                dial_join(daemon);
                return;
        case JOIN_SEEKING:
                dial_join(daemon);
                return;
        case JOIN_DONE:
                break;
        }
        if (daemon->now < daemon->members_next)
                return;
        daemon->members_next = daemon->now + MEMBERS_MS;
        look_at_members(daemon);
        if (!daemon->stopping && !daemon_is_removed(daemon) && (daemon->now - daemon->linked_at >= ALONE_MS || has_lost_its_way(daemon)))
                dial_join(daemon);
}

void daemon_members_turn(struct daemon *daemon)
{
        if (daemon->join == JOIN_LISTENING && daemon->listened_ms >= LISTEN_MS && has_asked_all(daemon))
                bootstrap(daemon);
        daemon->removed = daemon->removed && raft_leader(replica_raft(daemon->replica)) == 0;
}

void daemon_members_start(struct daemon *daemon)
{
        if (daemon->config.has_advertise)
                set_address(daemon, &daemon->config.advertise);
        else if (!address_is_any(&daemon->config.peers))
                set_address(daemon, &daemon->config.peers);
        daemon->linked_at = daemon->led_at = daemon->now;
        if (daemon->identity.node != 0) {
                daemon->join = JOIN_DONE;
        } else if (daemon->config.role == CONFIG_LEADER) {
                daemon->join = JOIN_LISTENING;
                daemon->listened_at = daemon->now;
        } else {
                daemon->join = JOIN_SEEKING;
        }
}
