/* replica.c - the turn, and what comes into it. */
#include "replica/replica.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/mutation.h"
#include "replica/internal.h"

#if RAFT_FEATURE_LEVEL > 1
/* For tests of upgrades: what a later program does as soon as every member knows it, once in a term. */
static void use_next_level(struct replica *replica)
{
        uint64_t term = raft_term(replica->raft);

        if (replica->next_term == term || !replica_may_decide(replica) || raft_configuration(replica->raft)->level < raft_entry_kind_level(RAFT_ENTRY_NEXT))
                return;
        replica->next_term = term;
        (void)raft_propose(replica->raft, RAFT_ENTRY_NEXT, NULL, 0);
}
#endif

/* D8: the order of a turn is written here and nowhere else. */
void replica_turn(struct replica *replica)
{
        uint64_t applied = replica->applied;

#if RAFT_FEATURE_LEVEL > 1
        use_next_level(replica);
#endif
        replica_decide_waiting(replica);     /* appends what may be changed; nothing is answered yet */
        replica_sessions_turn(replica);      /* after what was renewed */
        replica_admin_turn(replica);
        replica_ask_reads(replica);          /* one round proves leadership to all of them */
        raft_flush(replica->raft);           /* one transaction, and appends for every follower */
        replica_take_stages(replica);
        replica_apply_committed(replica);
        if (replica->applied > applied)
                replica->later_left = replica->later_count;
        replica_answer_waiting(replica);
        replica_answer_joins(replica);
        replica_flush_base(replica);
        replica->effects.raft = raft_effects(replica->raft);
        replica->effects.answers = replica->answers;
        replica->effects.sends = replica->sends;
}

struct replica *replica_new(const struct replica_settings *settings, const struct raft_start *start)
{
        struct replica *replica = alloc_zeroed(1, sizeof(*replica));

        replica->settings = *settings;
        replica->raft = raft_new(&settings->raft, start);
        replica->table = lock_table_new();
        replica->events = lock_events_new(start->base.index);
        lock_table_set_events(replica->table, settings->unwatched ? NULL : replica->events);
        replica->overlay = lock_overlay_new();
        replica->applied = replica->base_index = start->base.index;
        replica->applied_term = start->base.term;
        replica->applied_cluster_ms = start->base.cluster_ms;
        replica->log_first = start->log_first;
        replica_requests_init(replica);
        replica_sessions_init(replica);
        return replica;
}

struct replica *replica_free(struct replica *replica)
{
        if (!replica)
                return NULL;
        replica_effects_clear(replica);
        replica_requests_done(replica);
        replica_sessions_done(replica);
        for (size_t i = 0; i < replica->send_capacity; i++)
                bytes_done(&replica->send_bytes[i]);
        for (size_t i = 0; i < replica->image_capacity; i++)
                bytes_done(&replica->images[i].body);
        free(replica->send_bytes);
        free(replica->images);
        free(replica->records);
        free(replica->answers);
        free(replica->sends);
        bytes_done(&replica->base_configuration);
        bytes_done(&replica->address_text);
        bytes_done(&replica->change_body);
        lock_overlay_free(replica->overlay);
        lock_table_free(replica->table);
        lock_table_free(replica->staged_table);
        lock_events_free(replica->events);
        raft_free(replica->raft);
        free(replica);
        return NULL;
}

/* --- effects --- */

struct replica_answer *replica_add_answer(struct replica *replica)
{
        if (replica->effects.answer_count == replica->answer_capacity) {
                replica->answer_capacity = replica->answer_capacity ? replica->answer_capacity * 2 : 16;
                replica->answers = alloc_resized(replica->answers, replica->answer_capacity, sizeof(replica->answers[0]));
        }
        return &replica->answers[replica->effects.answer_count++];
}

void replica_send(struct replica *replica, uint64_t node, const struct node_message *message)
{
        size_t at = replica->effects.send_count++;

        if (at == replica->send_capacity) {
                size_t capacity = at ? at * 2 : 16;

                replica->sends = alloc_resized(replica->sends, capacity, sizeof(replica->sends[0]));
                replica->send_bytes = alloc_resized(replica->send_bytes, capacity, sizeof(replica->send_bytes[0]));
                memset(replica->send_bytes + at, 0, (capacity - at) * sizeof(replica->send_bytes[0]));
                replica->send_capacity = capacity;
        }
        bytes_clear(&replica->send_bytes[at]);
        node_message_put(&replica->send_bytes[at], message);
        replica->sends[at] = (struct replica_send){ .node = node, .data = replica->send_bytes[at].data, .size = replica->send_bytes[at].size };
}

const struct replica_effects *replica_effects(const struct replica *replica)
{
        return &replica->effects;
}

void replica_effects_clear(struct replica *replica)
{
        raft_effects_clear(replica->raft);
        replica->effects = (struct replica_effects){ 0 };
}

/* --- events --- */

/* F3: decisions of a leadership that ended are dropped; what was asked goes to the next leader. */
static void notice_leadership(struct replica *replica)
{
        uint64_t term = raft_term(replica->raft), leader = raft_leader(replica->raft);
        bool was_leader = replica->leader != 0 && replica->leader == raft_id(replica->raft);

        if (term == replica->term && leader == replica->leader)
                return;
        if (was_leader && !MUTATED(OVERLAY_KEPT))
                lock_overlay_clear(replica->overlay);
        replica->term = term;
        replica->leader = leader;
        replica->announce_next = 0;          /* the one before may have gone with what it was told, */
        replica->leave_next = 0;             /* and another one does not know yet who stops */
        replica->led_since = replica->now;
        replica->leaver_count = 0;
        replica_leader_changed(replica, was_leader);
}

bool replica_may_decide(const struct replica *replica)
{
        /* E6: the state it decides on contains everything committed before its term. */
        return raft_may_propose(replica->raft) && (replica->applied >= raft_term_start(replica->raft) || MUTATED(NO_WAIT));
}

void replica_tick(struct replica *replica, uint64_t now, uint64_t wall)
{
        if (now > replica->now)
                replica_sessions_stalled(replica, now - replica->now);
        replica->now = now;
        raft_tick(replica->raft, now, wall);
        notice_leadership(replica);
        if (now < replica->next_sweep)
                return;
        replica->next_sweep = now + 50;
        replica_sweep_requests(replica);
        replica_sweep_awaits(replica);
        replica_members_tick(replica);
}

/* A configuration of a level beyond this program announces what it does not know. */
static bool level_is_known(const struct replica *replica, uint64_t index, const void *body, size_t size)
{
        struct raft_configuration *configuration = raft_configuration_get(index, body, size);
        bool known = configuration && configuration->level <= MAX(replica->settings.raft.level, 1u);

        free(configuration);
        return known;
}

static bool entry_is_known(const struct replica *replica, const struct raft_entry *entry)
{
        struct entry_columns columns;

        return entry_describe(entry, &columns) &&
               (entry->kind != RAFT_ENTRY_CONFIGURATION || level_is_known(replica, entry->index, entry->body, entry->size));
}

static bool message_is_known(const struct replica *replica, const struct raft_message *message)
{
        for (size_t i = 0; i < message->entry_count; i++)
                if (!entry_is_known(replica, message->entries[i]))
                        return false;
        return message->kind != RAFT_SNAPSHOT || message->offset != 0 ||
               level_is_known(replica, message->configuration_index, message->configuration, message->configuration_size);
}

bool replica_raft_message(struct replica *replica, const struct raft_message *message)
{
        if (!message_is_known(replica, message))
                return false;
        for (size_t i = 0; i < message->entry_count; i++)
                replica_hear_address(replica, message->entries[i]);
        raft_receive(replica->raft, message);
        notice_leadership(replica);
        return true;
}

void replica_node_message(struct replica *replica, uint64_t node, const struct node_message *message)
{
        switch (message->kind) {
        case NODE_FORWARD:
                replica_forwarded(replica, node, message);
                return;
        case NODE_FORWARD_REPLY:
                replica_forward_reply(replica, message);
                return;
        case NODE_LEAVE:
        case NODE_LEAVE_REPLY:
        case NODE_ANNOUNCE:
                replica_members_message(replica, node, message);
                return;
        case NODE_READ:
                replica_index_read(replica, node, message);
                return;
        case NODE_READ_REPLY:
                replica_index_reply(replica, message);
                return;
        case NODE_ADMIN:
                replica_admin_forwarded(replica, node, message);
                return;
        case NODE_ADMIN_REPLY:
                replica_admin_reply(replica, message);
                return;
        case NODE_JOIN:
        case NODE_JOIN_REPLY:
                return;                      /* not from a member */
        }
}

void replica_link(struct replica *replica, uint64_t node, unsigned level, bool up)
{
        if (up)
                raft_node_level(replica->raft, node, level);
        raft_link(replica->raft, node, up);
        if (up)
                replica_forget_bye(replica, node);
        notice_leadership(replica);
        if (node == replica->leader) {
                replica->leader_linked = up;
                replica_leader_changed(replica, false);
        }
}

void replica_joined(struct replica *replica, struct id128 cluster, uint64_t id)
{
        replica->settings.cluster = cluster;
        raft_joined(replica->raft, id);
        replica->effects.joined = true;
}

struct raft *replica_raft(struct replica *replica)
{
        return replica->raft;
}

void replica_set_settings(struct replica *replica, const struct replica_settings *settings)
{
        replica->settings.keep_entries = settings->keep_entries;
        replica->settings.min_voters = settings->min_voters;
        raft_set_timeouts(replica->raft, settings->raft.election_timeout_ms, settings->raft.heartbeat_ms);
        raft_set_max_voters(replica->raft, settings->raft.max_voters);
}

/* --- looking --- */

bool replica_has_more(const struct replica *replica)
{
        return replica->applied < raft_commit(replica->raft) || (replica->later_left > 0 && replica_may_decide(replica)) || replica_sessions_have_more(replica);
}

const struct lock_table *replica_table(const struct replica *replica)
{
        return replica->table;
}

const struct lock_events *replica_events(const struct replica *replica)
{
        return replica->events;
}

const struct directory *replica_directory(const struct replica *replica)
{
        return &replica->directory;
}

struct id128 replica_cluster(const struct replica *replica)
{
        return replica->settings.cluster;
}

uint64_t replica_applied(const struct replica *replica)
{
        return replica->applied;
}

uint64_t replica_cluster_ms(const struct replica *replica)
{
        return MAX(raft_cluster_ms(replica->raft), replica->applied_cluster_ms);
}

int64_t replica_leader_age_ms(const struct replica *replica)
{
        uint64_t contact;

        if (!raft_leader_contact(replica->raft, &contact))
                return -1;
        return replica->now > contact ? (int64_t)(replica->now - contact) : 0;
}

uint64_t replica_log_first(const struct replica *replica)
{
        return replica->log_first;
}

size_t replica_pending_count(const struct replica *replica)
{
        return replica->pending_count;
}
