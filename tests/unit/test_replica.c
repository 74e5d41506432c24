/* The replica room: three nodes in memory whose disks sync at once, unless held, and whose links lose nothing, unless cut. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "raft/log.h"
#include "replica/directory.h"
#include "replica/entry.h"
#include "replica/replica.h"
#include "unit/suite.h"

#define NODES 3
#define ANSWERS 64
#define RECORDS 8192

struct letter {
        struct letter *next;
        uint64_t from, to;
        bool is_raft;
        struct raft_message raft;
        struct raft_entry **entries;
        struct bytes node;
};

struct kept {
        enum raft_table table;
        char key[256], label[520];
        uint64_t number;
        struct bytes body;
};

struct node {
        struct replica *replica;
        bool disk_held;
        uint64_t held_persist;
        struct replica_answer answers[ANSWERS];
        size_t answer_count;
        bool left;
        struct kept kept[RECORDS];           /* the state tables, as of the base */
        size_t kept_count;
        struct raft_base base;
        struct bytes base_configuration;
};

static struct node nodes[NODES + 1];
static bool cut[NODES + 1];
static struct letter *first, **last;
static uint64_t now;
static const struct id128 cluster = { { 0xc } };

/* --- effects --- */

static struct letter *add_letter(uint64_t from, uint64_t to)
{
        struct letter *letter = alloc_zeroed(1, sizeof(*letter));

        letter->from = from;
        letter->to = to;
        *last = letter;
        last = &letter->next;
        return letter;
}

static void post_raft(uint64_t from, const struct raft_message *message)
{
        struct letter *letter = add_letter(from, message->node);

        letter->is_raft = true;
        letter->raft = *message;
        letter->raft.node = from;
        letter->entries = alloc_zeroed(message->entry_count + 1, sizeof(letter->entries[0]));
        for (size_t i = 0; i < message->entry_count; i++) {
                const struct raft_entry *entry = message->entries[i];

                letter->entries[i] = raft_entry_new(entry->index, entry->term, entry->kind, entry->cluster_ms, entry->wall_ms, entry->body, entry->size);
        }
        letter->raft.entries = (const struct raft_entry *const *)letter->entries;
}

static struct kept *find_kept(struct node *node, const struct raft_record *record)
{
        for (size_t i = 0; i < node->kept_count; i++)
                if (node->kept[i].table == record->table && strcmp(node->kept[i].key, record->key) == 0)
                        return &node->kept[i];
        return NULL;
}

static void keep_record(struct node *node, const struct raft_record *record)
{
        struct kept *kept = find_kept(node, record);

        if (!record->body) {
                ck_assert_ptr_nonnull(kept);
                bytes_done(&kept->body);
                *kept = node->kept[--node->kept_count];
                return;
        }
        if (!kept) {
                ck_assert_uint_lt(node->kept_count, RECORDS);
                kept = &node->kept[node->kept_count++];
                *kept = (struct kept){ .table = record->table };
        }
        (void)strcpy(kept->key, record->key);
        (void)strcpy(kept->label, record->label);
        kept->number = record->number;
        bytes_clear(&kept->body);
        bytes_put(&kept->body, record->body, record->body_size);
}

static void keep_base(struct node *node, const struct replica_effects *effects)
{
        for (size_t i = 0; i < effects->record_count; i++)
                keep_record(node, &effects->records[i]);
        bytes_clear(&node->base_configuration);
        bytes_put(&node->base_configuration, effects->base->configuration, effects->base->configuration_size);
        node->base = *effects->base;
        node->base.configuration = node->base_configuration.data;
}

static void turn(uint64_t id)
{
        struct node *node = &nodes[id];
        const struct replica_effects *effects;
        uint64_t persist;

        replica_turn(node->replica);
        effects = replica_effects(node->replica);
        persist = effects->raft->persist_id;
        for (size_t i = 0; i < effects->raft->message_count; i++)
                if (effects->raft->messages[i].node <= NODES && !cut[id] && !cut[effects->raft->messages[i].node])
                        post_raft(id, &effects->raft->messages[i]);
        for (size_t i = 0; i < effects->send_count; i++)
                if (effects->sends[i].node <= NODES && !cut[id] && !cut[effects->sends[i].node])
                        bytes_put(&add_letter(id, effects->sends[i].node)->node, effects->sends[i].data, effects->sends[i].size);
        for (size_t i = 0; i < effects->answer_count; i++) {
                ck_assert_uint_lt(node->answer_count, ANSWERS);
                node->answers[node->answer_count++] = effects->answers[i];
        }
        if (effects->base)
                keep_base(node, effects);
        node->left |= effects->left;
        replica_effects_clear(node->replica);
        if (persist && node->disk_held)
                node->held_persist = persist;
        else if (persist) {
                raft_persisted(replica_raft(node->replica), persist);
                turn(id);
        }
}

static unsigned own_level[NODES + 1];
static bool stopped;                         /* a node met what it does not know */
static bool all_campaign;                    /* else node 1 only */

static void deliver(void)
{
        struct letter *letter = first;
        struct node_message message;

        first = letter->next;
        if (!first)
                last = &first;
        if (letter->is_raft) {
                stopped |= !replica_raft_message(nodes[letter->to].replica, &letter->raft);
        } else {
                ck_assert(node_message_get(letter->node.data, letter->node.size, &message));
                replica_node_message(nodes[letter->to].replica, letter->from, &message);
        }
        turn(letter->to);
        for (size_t i = 0; letter->is_raft && i < letter->raft.entry_count; i++)
                free(letter->entries[i]);
        free(letter->entries);
        bytes_done(&letter->node);
        free(letter);
}

static void run(uint64_t ms)
{
        for (uint64_t end = now + ms; now < end;) {
                now += 10;
                for (uint64_t id = 1; id <= NODES; id++) {
                        replica_tick(nodes[id].replica, now, now);
                        turn(id);
                }
                while (first)
                        deliver();
        }
}

/* --- life --- */

static struct replica *make(uint64_t id, const struct raft_base *base)
{
        struct replica_settings settings = { .raft = { .election_timeout_ms = 1000, .heartbeat_ms = 100, .campaigns = id == 1 || all_campaign, .max_voters = 5, .seed = id, .level = own_level[id] },
                                             .keep_entries = 1000, .min_voters = 1, .cluster = cluster };
        const struct raft_start start = { .id = id, .base = *base, .log_first = base->index + 1,
                                          .hard = { .term = base->term } };

        (void)snprintf(settings.address, sizeof(settings.address), "127.0.0.1:%u", (unsigned)(7000 + id));
        return replica_new(&settings, &start);
}

static void start(size_t voters)
{
        struct raft_configuration *configuration = raft_configuration_copy(NULL, NODES);
        struct bytes bytes = { 0 };

        memset(nodes, 0, sizeof(nodes));
        memset(cut, 0, sizeof(cut));
        stopped = false;
        first = NULL;
        last = &first;
        now = 1000;
        configuration->count = voters;
        for (size_t i = 0; i < voters; i++) {
                configuration->members[i] = (struct raft_member){ .id = i + 1, .incarnation = { { (uint8_t)(i + 1) } }, .standing = RAFT_VOTER, .preferred = i == 0 };
                configuration->members[i].name[0] = (char)('a' + i);
        }
        raft_configuration_put(&bytes, configuration);
        free(configuration);
        for (uint64_t id = 1; id <= NODES; id++) {
                nodes[id].replica = make(id, &(struct raft_base){ .configuration = bytes.data, .configuration_size = bytes.size });
                replica_tick(nodes[id].replica, now, now);
        }
        bytes_done(&bytes);
        for (uint64_t id = 1; id <= NODES; id++)
                for (uint64_t other = 1; other <= NODES; other++)
                        if (other != id)
                                replica_link(nodes[id].replica, other, own_level[other], true);
        run(3000);
        ck_assert(all_campaign || raft_role(replica_raft(nodes[1].replica)) == RAFT_LEADER);
}

static void setup(void)
{
        for (uint64_t id = 0; id <= NODES; id++)
                own_level[id] = 1;
        start(NODES);
}

static void teardown(void)
{
        for (uint64_t id = 1; id <= NODES; id++) {
                nodes[id].replica = replica_free(nodes[id].replica);
                for (size_t i = 0; i < nodes[id].kept_count; i++)
                        bytes_done(&nodes[id].kept[i].body);
                bytes_done(&nodes[id].base_configuration);
        }
}

/* Of the hold that node 1 knows of. */
static uint64_t token_of(const struct lock_name *name)
{
        struct lock_view view;

        return lock_table_find(replica_table(nodes[1].replica), name, &view) ? view.token : 1;
}

static struct lock_request request_of(enum lock_change_kind kind, uint8_t handle, uint64_t seq, const char *client, const char *lock)
{
        struct lock_request request = { .kind = kind, .handle = { { handle } }, .seq = seq };

        ck_assert(client_id_set(&request.client, client, strlen(client)) && principal_set(&request.principal, "uid:1", 5));
        ck_assert(lock_name_set(&request.name, lock, strlen(lock)));
        if (kind == LOCK_CHANGE_RELEASE)
                request.token = token_of(&request.name);
        return request;
}

static void ask(uint64_t id, uint64_t tag, enum lock_change_kind kind, uint8_t handle, uint64_t seq, const char *client, const char *lock)
{
        const struct lock_request request = request_of(kind, handle, seq, client, lock);

        replica_request(nodes[id].replica, &(struct replica_origin){ .session = 1, .tag = tag }, &request, now + 5000);
        turn(id);
        while (first)
                deliver();
}

static const struct replica_answer *answer_of(uint64_t id, uint64_t tag)
{
        for (size_t i = 0; i < nodes[id].answer_count; i++)
                if (nodes[id].answers[i].origin.tag == tag)
                        return &nodes[id].answers[i];
        return NULL;
}

static const char *owner_at(uint64_t id, const char *lock)
{
        struct lock_name name = { 0 };
        struct lock_view view;

        ck_assert(lock_name_set(&name, lock, strlen(lock)));
        return lock_table_find(replica_table(nodes[id].replica), &name, &view) ? view.owner : NULL;
}

static void hold_disks(uint64_t a, uint64_t b, bool hold)
{
        const uint64_t ids[] = { a, b };

        for (size_t i = 0; i < 2; i++) {
                struct node *node = &nodes[ids[i]];

                node->disk_held = hold;
                if (!hold && node->held_persist) {
                        raft_persisted(replica_raft(node->replica), node->held_persist);
                        node->held_persist = 0;
                        turn(ids[i]);
                }
        }
}

/* --- answers --- */

START_TEST(change_is_answered_only_when_a_majority_has_it)
{
        hold_disks(2, 3, true);
        ask(1, 7, LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        run(300);
        ck_assert_ptr_null(answer_of(1, 7));
        ck_assert_ptr_null(owner_at(1, "a"));
        hold_disks(2, 3, false);
        run(300);
        ck_assert_int_eq(answer_of(1, 7)->outcome, REPLICA_YES);
        ck_assert_uint_eq(answer_of(1, 7)->token, answer_of(1, 7)->index);
        ck_assert_str_eq(owner_at(1, "a"), "alice");
}
END_TEST

START_TEST(refusal_waits_for_what_it_rests_on)
{
        hold_disks(2, 3, true);
        ask(1, 7, LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        ask(1, 8, LOCK_CHANGE_PREEMPT, 2, 1, "bob", "a");
        run(300);
        ck_assert_ptr_null(answer_of(1, 8));
        hold_disks(2, 3, false);
        run(300);
        ck_assert_int_eq(answer_of(1, 8)->outcome, REPLICA_HELD);
        ck_assert_str_eq(answer_of(1, 8)->client.text, "alice");
        ck_assert_uint_ge(answer_of(1, 8)->index, answer_of(1, 7)->index);
}
END_TEST

START_TEST(follower_answers_when_it_has_applied_the_change_itself)
{
        ask(2, 7, LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        run(200);
        ck_assert_int_eq(answer_of(2, 7)->outcome, REPLICA_YES);
        ck_assert_str_eq(owner_at(2, "a"), "alice");
        ck_assert_uint_ge(replica_applied(nodes[2].replica), answer_of(2, 7)->index);
        ask(3, 8, LOCK_CHANGE_PREEMPT, 2, 1, "bob", "a");
        run(200);
        ck_assert_int_eq(answer_of(3, 8)->outcome, REPLICA_HELD);
        ck_assert_str_eq(owner_at(3, "a"), "alice");
}
END_TEST

START_TEST(retry_gets_its_first_answer_through_any_node)
{
        uint64_t token;

        ask(2, 7, LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        run(200);
        token = answer_of(2, 7)->token;
        for (uint64_t id = 1; id <= 3; id++) {
                ask(id, 20 + id, LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
                run(200);
                ck_assert_int_eq(answer_of(id, 20 + id)->outcome, REPLICA_YES);
                ck_assert_uint_eq(answer_of(id, 20 + id)->token, token);
        }
}
END_TEST

START_TEST(without_a_majority_the_answer_is_unknown_at_the_deadline)
{
        cut[2] = cut[3] = true;
        ask(1, 7, LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        run(6000);
        ck_assert_ptr_nonnull(answer_of(1, 7));
        ck_assert(answer_of(1, 7)->outcome == REPLICA_UNKNOWN || answer_of(1, 7)->outcome == REPLICA_NO_LEADER);
        ck_assert_ptr_null(owner_at(1, "a"));
}
END_TEST

START_TEST(request_in_flight_when_leadership_is_lost_happens_once)
{
        size_t grants = 0;

        hold_disks(2, 3, true);
        ask(2, 7, LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        cut[1] = true;
        run(2500);                           /* the leader hears nobody and steps down */
        ck_assert_int_ne(raft_role(replica_raft(nodes[1].replica)), RAFT_LEADER);
        hold_disks(2, 3, false);
        cut[1] = false;
        run(4000);
        ck_assert_ptr_nonnull(answer_of(2, 7));
        for (uint64_t index = 1; index <= raft_commit(replica_raft(nodes[1].replica)); index++) {
                const struct raft_entry *entry = raft_entry_at(replica_raft(nodes[1].replica), index);

                grants += entry && entry->kind == RAFT_ENTRY_PREEMPT;
        }
        ck_assert_uint_le(grants, 1);
        if (answer_of(2, 7)->outcome == REPLICA_YES)
                ck_assert_str_eq(owner_at(2, "a"), "alice");
}
END_TEST

START_TEST(read_waits_for_the_index_that_its_client_has_seen)
{
        const struct replica_origin early = { .session = 1, .tag = 30 }, late = { .session = 1, .tag = 31 };
        uint64_t applied = replica_applied(nodes[2].replica);

        replica_read(nodes[2].replica, &early, applied, false, now + 1000);
        replica_read(nodes[2].replica, &late, applied + 1, false, now + 1000);
        turn(2);
        ck_assert_int_eq(answer_of(2, 30)->outcome, REPLICA_YES);
        ck_assert_ptr_null(answer_of(2, 31));
        ask(1, 7, LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        run(200);
        ck_assert_int_eq(answer_of(2, 31)->outcome, REPLICA_YES);
        replica_read(nodes[2].replica, &(struct replica_origin){ .session = 1, .tag = 32 }, applied + 1000, false, now + 500);
        run(1000);
        ck_assert_int_eq(answer_of(2, 32)->outcome, REPLICA_UNKNOWN);
}
END_TEST

START_TEST(consistent_read_needs_a_leader_that_proves_itself)
{
        ask(1, 7, LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        for (uint64_t id = 1; id <= NODES; id++)
                replica_read(nodes[id].replica, &(struct replica_origin){ .session = 1, .tag = 30 + id }, 0, true, now + 1000);
        for (uint64_t id = 1; id <= NODES; id++)
                turn(id);
        ck_assert_ptr_null(answer_of(1, 31));        /* not before the round */
        run(50);
        for (uint64_t id = 1; id <= NODES; id++) {
                ck_assert_int_eq(answer_of(id, 30 + id)->outcome, REPLICA_YES);
                ck_assert_uint_ge(answer_of(id, 30 + id)->index, answer_of(1, 7)->index);
        }
        cut[1] = true;                       /* it still believes that it leads */
        replica_read(nodes[1].replica, &(struct replica_origin){ .session = 1, .tag = 40 }, 0, true, now + 500);
        replica_read(nodes[1].replica, &(struct replica_origin){ .session = 1, .tag = 41 }, 0, false, now + 500);
        replica_read(nodes[2].replica, &(struct replica_origin){ .session = 1, .tag = 42 }, 0, true, now + 500);
        run(600);
        ck_assert_int_eq(answer_of(1, 40)->outcome, REPLICA_UNKNOWN);
        ck_assert_int_eq(answer_of(1, 41)->outcome, REPLICA_YES);
        ck_assert_int_eq(answer_of(2, 42)->outcome, REPLICA_UNKNOWN);
}
END_TEST

START_TEST(forward_to_an_earlier_leadership_is_not_taken)
{
        struct node_message forward = { .kind = NODE_FORWARD, .id = 1, .request = request_of(LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a") };

        forward.term = raft_term(replica_raft(nodes[1].replica)) - 1;
        replica_node_message(nodes[1].replica, 2, &forward);
        run(300);
        ck_assert_ptr_null(owner_at(1, "a"));
        forward.term++;
        replica_node_message(nodes[1].replica, 2, &forward);
        run(300);
        ck_assert_str_eq(owner_at(1, "a"), "alice");
}
END_TEST

static void hand_over(uint64_t from, uint64_t to)
{
        ck_assert(raft_transfer(replica_raft(nodes[from].replica), to, true));
        run(300);
        ck_assert_int_eq(raft_role(replica_raft(nodes[to].replica)), RAFT_LEADER);
}

/* Its node was suspended in between, and does not know how late it is. */
START_TEST(request_from_before_what_is_remembered_is_not_decided)
{
        struct node_message forward = { .kind = NODE_FORWARD, .id = 1, .request = request_of(LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a") };

        forward.cluster_ms = replica_cluster_ms(nodes[2].replica);
        run(310000);
        forward.term = raft_term(replica_raft(nodes[1].replica));
        replica_node_message(nodes[1].replica, 2, &forward);
        run(300);
        ck_assert_ptr_null(owner_at(1, "a"));
        forward.id = 2;
        forward.cluster_ms = replica_cluster_ms(nodes[2].replica);
        replica_node_message(nodes[1].replica, 2, &forward);
        run(300);
        ck_assert_str_eq(owner_at(1, "a"), "alice");
}
END_TEST

START_TEST(what_another_leader_granted_counts_for_more_than_an_old_refusal)
{
        ask(1, 6, LOCK_CHANGE_PREEMPT, 2, 1, "bob", "a");
        ask(1, 7, LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        run(300);
        ck_assert_int_eq(answer_of(1, 7)->outcome, REPLICA_HELD);   /* but the client is gone, and tries again elsewhere */
        hand_over(1, 2);
        ask(2, 8, LOCK_CHANGE_RELEASE, 2, 2, "bob", "a");
        ask(3, 9, LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        run(300);
        ck_assert_int_eq(answer_of(3, 9)->outcome, REPLICA_YES);
        hand_over(2, 1);
        ask(3, 10, LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        run(300);
        ck_assert_int_eq(answer_of(3, 10)->outcome, REPLICA_YES);
        ck_assert_uint_eq(answer_of(3, 10)->token, answer_of(3, 9)->token);
}
END_TEST

START_TEST(request_that_grew_old_without_a_leader_is_not_decided_any_more)
{
        const struct lock_request request = request_of(LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");

        cut[1] = true;
        for (uint64_t other = 2; other <= NODES; other++) {
                replica_link(nodes[1].replica, other, 0, false);
                replica_link(nodes[other].replica, 1, 0, false);
        }
        run(3000);
        replica_request(nodes[1].replica, &(struct replica_origin){ .session = 1, .tag = 1 }, &request, now + 3600000);
        /* Its client has asked another node long since; so long that the nodes need not remember the answer. */
        run(LIMIT_RESEND_MS + 1000);
        ck_assert_ptr_nonnull(answer_of(1, 1));
        ck_assert_int_eq(answer_of(1, 1)->outcome, REPLICA_NO_LEADER);
        cut[1] = false;
        for (uint64_t other = 2; other <= NODES; other++) {
                replica_link(nodes[1].replica, other, 1, true);
                replica_link(nodes[other].replica, 1, 1, true);
        }
        run(5000);
        ck_assert_int_eq(raft_role(replica_raft(nodes[1].replica)), RAFT_LEADER);
        ck_assert_ptr_null(owner_at(1, "a"));
}
END_TEST

START_TEST(request_that_was_cancelled_never_happens)
{
        ask(2, 7, LOCK_CHANGE_CANCEL, 1, 1, "alice", "a");
        run(300);
        ck_assert_int_eq(answer_of(2, 7)->outcome, REPLICA_YES);
        ck_assert_uint_eq(answer_of(2, 7)->token, 0);
        ask(3, 8, LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");  /* the copy that was still under way */
        run(300);
        ck_assert_int_eq(answer_of(3, 8)->outcome, REPLICA_UNKNOWN);
        ck_assert_ptr_null(owner_at(3, "a"));
        ask(3, 9, LOCK_CHANGE_CANCEL, 1, 1, "alice", "a");   /* once more: the same answer */
        run(300);
        ck_assert_int_eq(answer_of(3, 9)->outcome, REPLICA_YES);
        ck_assert_uint_eq(answer_of(3, 9)->index, answer_of(2, 7)->index);
}
END_TEST

START_TEST(cancel_that_comes_too_late_says_so)
{
        ask(1, 7, LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        run(300);
        ask(2, 8, LOCK_CHANGE_CANCEL, 1, 1, "alice", "a");
        run(300);
        ck_assert_int_eq(answer_of(2, 8)->outcome, REPLICA_YES);
        ck_assert_uint_eq(answer_of(2, 8)->token, answer_of(1, 7)->token);
        ck_assert_uint_gt(answer_of(2, 8)->token, 0);
        ck_assert_str_eq(owner_at(2, "a"), "alice");
}
END_TEST

START_TEST(refused_request_is_cancelled_although_its_refusal_is_remembered)
{
        ask(1, 6, LOCK_CHANGE_PREEMPT, 2, 1, "bob", "a");
        ask(1, 7, LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        run(300);
        ck_assert_int_eq(answer_of(1, 7)->outcome, REPLICA_HELD);
        ask(1, 8, LOCK_CHANGE_CANCEL, 1, 1, "alice", "a");
        run(300);
        ck_assert_int_eq(answer_of(1, 8)->outcome, REPLICA_YES);
        ck_assert_uint_eq(answer_of(1, 8)->token, 0);
}
END_TEST

START_TEST(node_that_has_nothing_yet_calls_no_lock_free)
{
        nodes[2].replica = replica_free(nodes[2].replica);
        nodes[2].replica = make(0, &(struct raft_base){ 0 });
        cut[2] = true;
        replica_tick(nodes[2].replica, now, now);
        replica_read(nodes[2].replica, &(struct replica_origin){ .session = 1, .tag = 33 }, 0, false, now + 4000);
        run(3900);
        ck_assert_ptr_null(answer_of(2, 33));
        run(200);
        ck_assert_int_eq(answer_of(2, 33)->outcome, REPLICA_UNKNOWN);
}
END_TEST

/* --- members --- */

static const struct node_message *join(uint64_t tag, uint8_t incarnation, const char *name)
{
        struct node_message message = { .kind = NODE_JOIN, .incarnation = { { incarnation } } };

        (void)strcpy(message.name, name);
        (void)strcpy(message.address, "127.0.0.1:9");
        replica_join(nodes[1].replica, &(struct replica_origin){ .tag = tag }, &message, now + 5000);
        turn(1);
        run(300);
        ck_assert_ptr_nonnull(answer_of(1, tag));
        return &answer_of(1, tag)->join;
}

START_TEST(joiner_gets_an_id_and_gets_it_again)
{
        uint64_t id = join(40, 9, "new")->node;

        ck_assert_int_eq(join(41, 9, "new")->join, JOIN_WELCOME);
        ck_assert_uint_gt(id, NODES);
        ck_assert_uint_eq(answer_of(1, 41)->join.node, id);
        ck_assert(id128_equal(answer_of(1, 41)->join.cluster, cluster));
        ck_assert_str_eq(replica_address(nodes[2].replica, id), "127.0.0.1:9");
}
END_TEST

START_TEST(name_of_a_connected_member_is_taken_and_of_a_lost_one_is_not)
{
        ck_assert_int_eq(join(40, 9, "b")->join, JOIN_NAME_TAKEN);
        cut[2] = true;
        replica_link(nodes[1].replica, 2, 0, false);
        ck_assert_int_eq(join(43, 9, "b")->join, JOIN_LATER);    /* it may only be starting again */
        run(3000);
        ck_assert_int_eq(join(41, 9, "b")->join, JOIN_WELCOME);
        ck_assert_ptr_null(raft_configuration_find(raft_configuration(replica_raft(nodes[1].replica)), 2));
}
END_TEST

START_TEST(follower_sends_a_joiner_to_the_leader)
{
        struct node_message message = { .kind = NODE_JOIN, .incarnation = { { 9 } }, .name = "new" };

        run(1500);                           /* addresses are announced */
        replica_join(nodes[2].replica, &(struct replica_origin){ .tag = 40 }, &message, now + 5000);
        turn(2);
        ck_assert_int_eq(answer_of(2, 40)->join.join, JOIN_ELSEWHERE);
        ck_assert_str_eq(answer_of(2, 40)->join.address, "127.0.0.1:7001");
}
END_TEST

START_TEST(leader_says_where_it_is_before_it_lets_anybody_in)
{
        struct directory_change change;
        const struct raft_entry *entry;
        uint64_t id;

        replica_set_address(nodes[1].replica, "127.0.0.1:8001");
        id = join(40, 9, "new")->node;
        entry = raft_entry_at(replica_raft(nodes[1].replica), id - 1);
        ck_assert_int_eq(entry->kind, RAFT_ENTRY_ADDRESS);
        ck_assert(directory_change_get(entry->body, entry->size, &change));
        ck_assert_uint_eq(change.node, 1);
        ck_assert_str_eq(change.address, "127.0.0.1:8001");
}
END_TEST

START_TEST(leader_says_where_it_is_as_soon_as_it_may)
{
        struct replica *next = nodes[2].replica;

        ck_assert(raft_transfer(replica_raft(nodes[1].replica), 2, true));
        for (int i = 0; i < 100 && raft_role(replica_raft(next)) != RAFT_LEADER; i++) {
                now += 10;
                for (uint64_t id = 1; id <= NODES; id++) {
                        replica_tick(nodes[id].replica, now, now);
                        turn(id);
                }
                while (first && raft_role(replica_raft(next)) != RAFT_LEADER)
                        deliver();
        }
        ck_assert_int_eq(raft_role(replica_raft(next)), RAFT_LEADER);
        hold_disks(1, 3, true);
        replica_set_address(next, "127.0.0.1:8002");
        run(200);
        ck_assert(!raft_may_propose(replica_raft(next)));
        ck_assert_str_eq(replica_address(next, 2), "127.0.0.1:7002");
        hold_disks(1, 3, false);
        run(100);
        ck_assert_str_eq(replica_address(nodes[3].replica, 2), "127.0.0.1:8002");
}
END_TEST

/* --- what an operator wants --- */

static void want(uint64_t id, uint64_t tag, enum admin_kind kind, const char *name, uint64_t patience)
{
        struct admin_request request = { .kind = kind };

        (void)strcpy(request.name, name);
        replica_admin(nodes[id].replica, &(struct replica_origin){ .session = 1, .tag = tag }, &request, now + patience);
}

START_TEST(leadership_is_transferred_through_any_node)
{
        want(3, 50, ADMIN_TRANSFER, "b", 3000);
        run(1000);
        ck_assert_int_eq(answer_of(3, 50)->admin, ADMIN_DONE);
        ck_assert_uint_eq(raft_leader(replica_raft(nodes[1].replica)), 2);
        want(2, 51, ADMIN_TRANSFER, "b", 3000);      /* as it is */
        want(2, 52, ADMIN_TRANSFER, "nobody", 3000);
        run(30000);
        ck_assert_int_eq(answer_of(2, 51)->admin, ADMIN_DONE);
        ck_assert_int_eq(answer_of(2, 52)->admin, ADMIN_NO_SUCH_NODE);
        ck_assert_uint_eq(raft_leader(replica_raft(nodes[1].replica)), 2);   /* it stays there */
}
END_TEST

START_TEST(member_is_removed_through_any_node_the_leader_too)
{
        want(2, 50, ADMIN_REMOVE, "a", 5000);
        run(2000);
        ck_assert_int_eq(answer_of(2, 50)->admin, ADMIN_DONE);
        ck_assert_uint_ne(raft_leader(replica_raft(nodes[2].replica)), 1);
        ck_assert_ptr_null(raft_configuration_find(raft_configuration(replica_raft(nodes[2].replica)), 1));
        ck_assert_uint_eq(raft_configuration_voters(raft_configuration(replica_raft(nodes[2].replica))), 2);
        want(2, 51, ADMIN_REMOVE, "a", 5000);
        run(100);
        ck_assert_int_eq(answer_of(2, 51)->admin, ADMIN_NO_SUCH_NODE);
}
END_TEST

START_TEST(member_is_not_removed_when_the_rest_could_not_go_on)
{
        cut[3] = true;
        replica_link(nodes[1].replica, 3, 0, false);
        want(1, 49, ADMIN_REMOVE, "b", 500);
        run(1000);
        ck_assert_int_eq(answer_of(1, 49)->admin, ADMIN_NO_MAJORITY_LEFT);
        want(1, 50, ADMIN_REMOVE, "b", 10000);       /* 1 and 3 would be left, and 3 is not there */
        run(1000);
        ck_assert_ptr_null(answer_of(1, 50));        /* links may be on their way */
        run(2000);
        ck_assert_int_eq(answer_of(1, 50)->admin, ADMIN_NO_MAJORITY_LEFT);
        want(1, 51, ADMIN_REMOVE, "c", 1000);
        run(500);
        ck_assert_int_eq(answer_of(1, 51)->admin, ADMIN_DONE);
}
END_TEST

/* What one leader has not done yet, the next one may do. */
START_TEST(removal_that_went_on_to_another_leader_is_not_refused_by_the_one_before)
{
        cut[3] = true;
        replica_link(nodes[1].replica, 3, 0, false);
        replica_link(nodes[2].replica, 3, 0, false);
        want(1, 50, ADMIN_REMOVE, "b", 5000);
        run(500);
        want(1, 51, ADMIN_TRANSFER, "b", 3000);
        run(1000);
        ck_assert_uint_eq(raft_leader(replica_raft(nodes[1].replica)), 2);
        ck_assert_ptr_null(answer_of(1, 50));
        cut[2] = true;                       /* its answer is lost */
        run(5000);
        ck_assert_int_eq(answer_of(1, 50)->admin, ADMIN_LATER);
}
END_TEST

START_TEST(leader_that_stops_hands_over_first)
{
        replica_leave(nodes[1].replica, false);
        run(500);
        ck_assert_uint_ne(raft_leader(replica_raft(nodes[2].replica)), 1);
        ck_assert_uint_ne(raft_leader(replica_raft(nodes[2].replica)), 0);
        ck_assert(nodes[1].left);
        ck_assert_uint_eq(raft_configuration_voters(raft_configuration(replica_raft(nodes[2].replica))), 3);
}
END_TEST

START_TEST(log_knows_who_stopped_until_it_is_back)
{
        run(1500);                           /* addresses are announced */
        replica_leave(nodes[3].replica, false);
        run(500);
        ck_assert(nodes[3].left);
        ck_assert(replica_is_away(nodes[1].replica, 3) && replica_is_away(nodes[2].replica, 3));
        nodes[3].replica = replica_free(nodes[3].replica);
        nodes[3].replica = make(3, &nodes[3].base);
        replica_tick(nodes[3].replica, now, now);
        for (uint64_t id = 1; id < 3; id++)
                replica_link(nodes[3].replica, id, 1, true);
        run(3000);
        ck_assert(!replica_is_away(nodes[1].replica, 3) && !replica_is_away(nodes[2].replica, 3));
        replica_bye(nodes[1].replica, 3);
        ck_assert(replica_said_bye(nodes[1].replica, 3));
        replica_link(nodes[1].replica, 3, 0, false);
        replica_link(nodes[1].replica, 3, 1, true);
        ck_assert(!replica_said_bye(nodes[1].replica, 3));
}
END_TEST

/* Of three that were started again one by one, the last may know the others to be away: then they must dial it. */
START_TEST(who_said_bye_may_be_dialled_when_the_log_says_that_it_is_back)
{
        run(1500);                           /* addresses are announced */
        replica_bye(nodes[2].replica, 3);    /* before it has heard of it by the log */
        replica_link(nodes[2].replica, 3, 0, false);
        run(1000);
        ck_assert(!replica_is_away(nodes[2].replica, 3) && replica_said_bye(nodes[2].replica, 3));
        replica_leave(nodes[3].replica, false);
        run(500);
        ck_assert(nodes[3].left);
        ck_assert(replica_is_away(nodes[2].replica, 3) && replica_said_bye(nodes[2].replica, 3));
        nodes[3].replica = replica_free(nodes[3].replica);
        nodes[3].replica = make(3, &nodes[3].base);
        replica_tick(nodes[3].replica, now, now);
        replica_link(nodes[3].replica, 1, 1, true);
        run(3000);
        ck_assert(!replica_is_away(nodes[2].replica, 3) && !replica_said_bye(nodes[2].replica, 3));
        replica_bye(nodes[2].replica, 3);
        ck_assert(replica_said_bye(nodes[2].replica, 3));
}
END_TEST

START_TEST(what_a_leader_was_told_before_it_went_is_told_the_next_at_once)
{
        run(1500);                           /* addresses are announced */
        cut[1] = true;
        replica_set_address(nodes[3].replica, "127.0.0.1:8003");
        run(60);
        cut[1] = false;
        hand_over(1, 2);
        ck_assert_str_eq(replica_address(nodes[1].replica, 3), "127.0.0.1:8003");
}
END_TEST

START_TEST(who_goes_down_with_its_host_is_not_left_alone)
{
        run(1500);
        replica_leave(nodes[3].replica, true);
        run(500);
        ck_assert(nodes[3].left);
        ck_assert(!replica_is_away(nodes[1].replica, 3) && !replica_is_away(nodes[2].replica, 3));
}
END_TEST

/* --- feature levels --- */

START_TEST(level_rises_when_all_members_know_it_and_not_before)
{
        teardown();
        for (uint64_t id = 1; id <= NODES; id++)
                own_level[id] = id == 3 ? 1 : 2;
        start(NODES);
        ck_assert_uint_eq(raft_configuration(replica_raft(nodes[1].replica))->level, 1);
        replica_link(nodes[1].replica, 3, 0, false);
        run(1000);
        ck_assert_uint_eq(raft_configuration(replica_raft(nodes[1].replica))->level, 1);     /* nobody knows about 3 now */
        replica_link(nodes[1].replica, 3, 2, true);  /* it comes back with a newer program, as far as its hello goes */
        for (uint64_t end = now + 3000; now < end && !stopped; run(10))
                ;
        ck_assert_uint_eq(raft_configuration(replica_raft(nodes[1].replica))->level, 2);
        ck_assert(stopped);                  /* and what it does not know stops it */
}
END_TEST

/* --- the disk --- */

static void load_kept(const struct node *node, struct replica *replica)
{
        for (size_t i = 0; i < node->kept_count; i++) {
                const struct kept *kept = &node->kept[i];

                ck_assert(replica_load_record(replica, &(struct raft_record){ .table = kept->table, .key = kept->key, .label = kept->label, .number = kept->number,
                                                                              .body = kept->body.data, .body_size = kept->body.size }));
        }
}

START_TEST(tables_on_disk_make_the_same_state_again)
{
        struct replica *again;

        ask(1, 1, LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        ask(1, 2, LOCK_CHANGE_PREEMPT, 2, 1, "bob", "b");
        run(1500);                           /* the base follows after a second */
        ask(1, 3, LOCK_CHANGE_RELEASE, 2, 2, "bob", "b");
        run(1500);
        ck_assert_uint_eq(nodes[2].base.index, replica_applied(nodes[2].replica));
        again = make(2, &nodes[2].base);
        load_kept(&nodes[2], again);
        ck_assert(replica_load_finish(again));
        ck_assert_uint_eq(lock_table_lock_count(replica_table(again)), 1);
        ck_assert_uint_eq(lock_table_client_count(replica_table(again)), lock_table_client_count(replica_table(nodes[2].replica)));
        ck_assert_uint_eq(lock_table_result_count(replica_table(again)), lock_table_result_count(replica_table(nodes[2].replica)));
        ck_assert_str_eq(replica_address(again, 1), "127.0.0.1:7001");
        replica_free(again);
}
END_TEST

/* The directory of a snapshot is as of its base: what the log said before that is older. */
START_TEST(address_in_a_snapshot_is_newer_than_what_was_heard_before)
{
        struct directory_change moved = { .node = 2, .address = "127.0.0.1:8002" };
        struct replica *replica = nodes[3].replica;
        struct raft_message snapshot = { .kind = RAFT_SNAPSHOT, .node = 1, .term = raft_term(replica_raft(replica)), .index = 1000, .last = true };
        struct bytes configuration = { 0 }, body = { 0 };

        run(1500);                           /* addresses are announced */
        ck_assert_str_eq(replica_address(replica, 2), "127.0.0.1:7002");
        cut[3] = true;
        raft_configuration_put(&configuration, raft_configuration(replica_raft(replica)));
        snapshot.log_term = snapshot.term;
        snapshot.configuration = configuration.data;
        snapshot.configuration_size = configuration.size;
        ck_assert(replica_raft_message(replica, &snapshot));
        replica_turn(replica);
        ck_assert_uint_eq(replica_effects(replica)->raft->stage_count, 3);
        bytes_put_u8(&body, 1);
        bytes_put_u64(&body, 900);
        directory_change_put(&body, &moved);
        ck_assert(replica_staged_record(replica, &(struct raft_record){ .table = RAFT_TABLE_ADDRESS, .key = "2", .label = moved.address, .number = 900,
                                                                          .body = body.data, .body_size = body.size }));
        ck_assert(replica_staged_finish(replica));
        replica_effects_clear(replica);
        replica_staged(replica);
        ck_assert_uint_eq(replica_applied(replica), 1000);
        ck_assert_str_eq(replica_address(replica, 2), "127.0.0.1:8002");
        bytes_done(&configuration);
        bytes_done(&body);
}
END_TEST

START_TEST(addresses_of_many_that_came_and_went_do_not_keep_a_node_from_starting)
{
        struct replica *again;

        /* Every time its disk is empty, so that it is another node. */
        for (unsigned i = 0; i < LIMIT_MEMBERS + 20; i++) {
                struct node_message message = { .kind = NODE_JOIN, .incarnation = { { (uint8_t)i, 1 } }, .name = "new" };

                (void)strcpy(message.address, "127.0.0.1:9");
                replica_join(nodes[1].replica, &(struct replica_origin){ .tag = 1000 + i }, &message, now + 5000);
                run(i % 40 == 0 ? 1500 : 200);
                nodes[1].answer_count = 0;
        }
        run(3000);
        again = make(2, &nodes[2].base);
        load_kept(&nodes[2], again);
        ck_assert(replica_load_finish(again));
        ck_assert_str_eq(replica_address(again, 1), "127.0.0.1:7001");
        ck_assert_str_eq(replica_address(again, 3), "127.0.0.1:7003");
        replica_free(again);
}
END_TEST

START_TEST(whole_log_becomes_the_state_when_a_cluster_begins_anew)
{
        const struct raft *raft = replica_raft(nodes[1].replica);
        const struct replica_effects *effects;
        struct replica *again;
        uint64_t last_index;

        ask(1, 1, LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        ask(1, 2, LOCK_CHANGE_PREEMPT, 2, 1, "bob", "b");
        run(1500);
        ask(1, 3, LOCK_CHANGE_RELEASE, 2, 2, "bob", "b");
        cut[2] = cut[3] = true;              /* what follows is in one log, and not committed */
        ask(1, 4, LOCK_CHANGE_PREEMPT, 3, 1, "carol", "c");
        last_index = raft_last(raft);
        ck_assert_uint_gt(last_index, raft_commit(raft));
        again = make(1, &nodes[1].base);
        load_kept(&nodes[1], again);
        for (uint64_t index = nodes[1].base.index + 1; index <= last_index; index++)
                ck_assert(replica_load_entry(again, raft_entry_at(raft, index)));
        ck_assert(replica_load_finish(again));
        ck_assert_uint_eq(replica_apply_log(again, -1), 0);
        effects = replica_effects(again);
        ck_assert_uint_eq(effects->base->index, last_index);
        ck_assert_uint_eq(effects->base->term, raft_term(raft));
        /* The tables of before with what the effects have are the state at the last entry. */
        keep_base(&nodes[1], effects);
        again = replica_free(again);
        again = make(1, &nodes[1].base);
        load_kept(&nodes[1], again);
        ck_assert(replica_load_finish(again));
        replica_free(nodes[1].replica);
        nodes[1].replica = again;
        ck_assert_str_eq(owner_at(1, "a"), "alice");
        ck_assert_ptr_null(owner_at(1, "b"));
        ck_assert_str_eq(owner_at(1, "c"), "carol");
}
END_TEST

/* --- sessions --- */

static uint64_t granted(uint64_t id, uint64_t tag)
{
        run(200);
        ck_assert_ptr_nonnull(answer_of(id, tag));
        ck_assert_int_eq(answer_of(id, tag)->outcome, REPLICA_YES);
        return answer_of(id, tag)->token;
}

static void submit(uint64_t id, uint64_t tag, const struct lock_request *request)
{
        replica_request(nodes[id].replica, &(struct replica_origin){ .session = 1, .tag = tag }, request, now + 60000);
        turn(id);
        while (first)
                deliver();
}

static struct lock_request about_session(enum lock_change_kind kind, uint8_t handle, uint64_t seq, const char *client)
{
        struct lock_request request = request_of(kind, handle, seq, client, "none");

        request.name = (struct lock_name){ 0 };
        return request;
}

static uint64_t open_session(uint64_t id, uint64_t tag, uint8_t handle, const char *client, uint32_t ttl_ms)
{
        struct lock_request request = about_session(LOCK_CHANGE_OPEN, handle, 1, client);

        request.ttl_ms = ttl_ms;
        submit(id, tag, &request);
        return granted(id, tag);
}

START_TEST(leader_times_no_session_that_is_over)
{
        struct lock_request lease = request_of(LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a"), close;
        uint64_t session, id;

        lease.ttl_ms = LIMIT_TTL_MS;
        submit(1, 7, &lease);
        id = granted(1, 7);
        ck_assert_int_ge(replica_session_left_ms(nodes[1].replica, id), LIMIT_TTL_MS - 1000);
        ask(2, 8, LOCK_CHANGE_RELEASE, 1, 2, "alice", "a");
        run(200);
        ck_assert_int_eq(replica_session_left_ms(nodes[1].replica, id), -1);
        session = open_session(2, 9, 2, "alice", LIMIT_TTL_MS);
        ck_assert_int_ge(replica_session_left_ms(nodes[1].replica, session), LIMIT_TTL_MS - 1000);
        close = about_session(LOCK_CHANGE_CLOSE, 2, 2, "alice");
        close.session = session;
        submit(3, 10, &close);
        run(200);
        ck_assert_int_eq(replica_session_left_ms(nodes[1].replica, session), -1);
}
END_TEST

/* Its answer needs no disk, so it does not stand behind one that does. */
START_TEST(renewal_does_not_wait_for_the_disks_behind_a_refusal)
{
        uint64_t session = open_session(1, 6, 9, "carol", 60000);
        struct lock_request renew = about_session(LOCK_RENEW, 0, 0, "carol");

        renew.session = session;
        hold_disks(2, 3, true);
        ask(1, 7, LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        ask(1, 8, LOCK_CHANGE_PREEMPT, 2, 1, "bob", "a");
        submit(1, 9, &renew);
        run(300);
        ck_assert_ptr_null(answer_of(1, 8));
        ck_assert_ptr_nonnull(answer_of(1, 9));
        ck_assert_int_eq(answer_of(1, 9)->outcome, REPLICA_YES);
        hold_disks(2, 3, false);
}
END_TEST

static void hold_many(uint64_t session, const char *client, uint8_t handle, unsigned count)
{
        for (unsigned i = 0; i < count; i++) {
                struct lock_request request;
                char name[32];

                (void)snprintf(name, sizeof(name), "%s/%u", client, i);
                request = request_of(LOCK_CHANGE_PREEMPT, handle, i + 2, client, name);
                request.session = session;
                submit(1, 1000, &request);
                nodes[1].answer_count = 0;
        }
}

/* With nobody else to say something, and between two ticks. */
START_TEST(what_holds_much_is_freed_without_a_pause)
{
        struct lock_request close = about_session(LOCK_CHANGE_CLOSE, 1, 3002, "alice");

        teardown();
        start(1);
        close.session = open_session(1, 6, 1, "alice", 60000);
        hold_many(close.session, "alice", 1, 3000);
        run(200);
        submit(1, 7, &close);
        for (unsigned turns = 0; replica_has_more(nodes[1].replica); turns++) {
                ck_assert_uint_lt(turns, 100);
                turn(1);
        }
        ck_assert_uint_eq(lock_table_lock_count(replica_table(nodes[1].replica)), 0);
}
END_TEST

/* As after a change of leaders: none waits until the ones before it are free. */
START_TEST(many_that_end_at_once_are_freed_together)
{
        uint64_t sessions[40];
        unsigned commits = 0;
        char client[8];

        for (uint8_t i = 0; i < ARRAY_SIZE(sessions); i++) {
                (void)snprintf(client, sizeof(client), "c%u", i);
                sessions[i] = open_session(1, 6, i + 1, client, 60000);
                hold_many(sessions[i], client, i + 1, 65);
                nodes[1].answer_count = 0;
        }
        for (uint8_t i = 0; i < ARRAY_SIZE(sessions); i++) {
                struct lock_request close;

                (void)snprintf(client, sizeof(client), "c%u", i);
                close = about_session(LOCK_CHANGE_CLOSE, i + 1, 100, client);
                close.session = sessions[i];
                replica_request(nodes[1].replica, &(struct replica_origin){ .session = 1, .tag = 1000u + i }, &close, now + 60000);
        }
        hold_disks(2, 3, true);
        for (turn(1); lock_table_lock_count(replica_table(nodes[1].replica)) > 0; commits++) {
                ck_assert_uint_lt(commits, 10);
                while (first)
                        deliver();
                hold_disks(2, 3, false);
                hold_disks(2, 3, true);
        }
        ck_assert_uint_eq(lock_table_session_count(replica_table(nodes[1].replica)), 0);
        hold_disks(2, 3, false);
}
END_TEST

/* --- history --- */

static const char *detail_of(enum raft_entry_kind kind, const struct bytes *body, const struct raft_configuration *members, char text[LIMIT_REASON_BYTES + 1])
{
        struct raft_entry *entry = raft_entry_new(9, 1, kind, 0, 0, body->data, body->size);
        struct entry_columns columns;

        ck_assert(entry_describe(entry, &columns));
        memset(text, 'x', LIMIT_REASON_BYTES + 1);
        entry_detail(entry, members, &columns.lock, text);
        free(entry);
        ck_assert_ptr_nonnull(memchr(text, 0, LIMIT_REASON_BYTES + 1));
        return text;
}

START_TEST(details_of_what_is_longest_are_whole_words)
{
        struct raft_configuration *members = raft_configuration_copy(NULL, LIMIT_MEMBERS);
        struct directory_change change = { .node = 7, .away = true };
        struct bytes body = { 0 };
        char text[LIMIT_REASON_BYTES + 1];

        members->level = 1;
        for (members->count = 0; members->count < LIMIT_MEMBERS; members->count++) {
                struct raft_member *member = &members->members[members->count];

                *member = (struct raft_member){ .id = members->count + 1, .standing = members->count == 0 ? RAFT_VOTER : RAFT_LEARNER };
                memset(member->name, 'n', LIMIT_NODE_NAME_BYTES);
        }
        raft_configuration_put(&body, members);
        ck_assert_ptr_nonnull(strstr(detail_of(RAFT_ENTRY_CONFIGURATION, &body, members, text), "n (learner), ... of 128"));
        bytes_clear(&body);
        (void)strcpy(change.address, "10.0.0.7:7402");
        directory_change_put(&body, &change);
        members->members[6].name[3] = 0;
        ck_assert_str_eq(detail_of(RAFT_ENTRY_ADDRESS, &body, members, text), "nnn at 10.0.0.7:7402, stopped");
        members->count = 6;                  /* it is no member any more */
        ck_assert_str_eq(detail_of(RAFT_ENTRY_ADDRESS, &body, members, text), "node 7 at 10.0.0.7:7402, stopped");
        bytes_clear(&body);
        memset(change.address, 'a', LIMIT_ADDRESS_BYTES - 30);
        (void)strcpy(change.address + LIMIT_ADDRESS_BYTES - 30, ":7402");
        directory_change_put(&body, &change);
        ck_assert_str_eq(detail_of(RAFT_ENTRY_ADDRESS, &body, members, text), "node 7, stopped");
        bytes_done(&body);
        free(members);
}
END_TEST

/* Beside the one that is spoken of, in as many whole characters as there is room for. */
START_TEST(detail_of_several_locks_names_the_others)
{
        struct lock_change change = { .kind = LOCK_CHANGE_PREEMPT };
        struct bytes names = { 0 }, body = { 0 };
        char text[LIMIT_REASON_BYTES + 1], longest[LIMIT_LOCK_NAME_BYTES + 1];
        struct raft_entry *entry;
        struct lock_name name;

        ck_assert(client_id_set(&change.client, "me", 2));
        ck_assert(principal_set(&change.principal, "uid:1", 5));
        ck_assert(lock_name_set(&change.name, "a", 1));
        ck_assert(lock_name_set(&name, "b", 1));
        lock_name_put(&names, &name);
        for (size_t i = 0; i < LIMIT_LOCK_NAME_BYTES - 1; i += 2)
                memcpy(longest + i, "\xc3\xa4", 2);
        ck_assert(lock_name_set(&name, longest, LIMIT_LOCK_NAME_BYTES - 1));
        lock_name_put(&names, &name);
        change.further = (struct names_view){ .data = names.data, .size = (uint16_t)names.size, .count = 1 };
        change.further.size = 2;
        lock_change_put(&body, &change);
        ck_assert_str_eq(detail_of(RAFT_ENTRY_PREEMPT, &body, NULL, text), "with b");
        entry = raft_entry_new(9, 1, RAFT_ENTRY_PREEMPT, 0, 0, body.data, body.size);
        ck_assert(lock_name_set(&name, "b", 1));
        entry_detail(entry, NULL, &name, text);
        ck_assert_str_eq(text, "with a");
        free(entry);
        bytes_clear(&body);
        change.further = (struct names_view){ .data = names.data, .size = (uint16_t)names.size, .count = 2 };
        lock_change_put(&body, &change);
        detail_of(RAFT_ENTRY_PREEMPT, &body, NULL, text);
        ck_assert_int_eq(strncmp(text, "with b, \xc3\xa4", 10), 0);
        ck_assert(name_is_clean_utf8(text, strlen(text)));
        ck_assert_uint_ge(strlen(text), LIMIT_REASON_BYTES - 1);
        bytes_done(&names);
        bytes_done(&body);
}
END_TEST

/* There is a leader, and it knows why it did not decide. */
START_TEST(who_waits_in_vain_for_what_is_being_freed_is_told_so)
{
        struct lock_request close = about_session(LOCK_CHANGE_CLOSE, 1, 3002, "alice");
        const struct lock_request wish = request_of(LOCK_CHANGE_PREEMPT, 2, 1, "bob", "alice/0");

        close.session = open_session(1, 6, 1, "alice", 60000);
        hold_many(close.session, "alice", 1, 1);
        hold_disks(2, 3, true);
        submit(1, 7, &close);
        replica_request(nodes[1].replica, &(struct replica_origin){ .session = 2, .tag = 8 }, &wish, now + 100);
        run(100);
        ck_assert_ptr_nonnull(answer_of(1, 8));
        ck_assert_int_eq(answer_of(1, 8)->outcome, REPLICA_LATER);
        hold_disks(2, 3, false);
}
END_TEST

/* However many wait for it, no turn looks at more of them than it may; and each is looked at. */
START_TEST(many_wait_for_what_is_being_freed)
{
        struct lock_request close = about_session(LOCK_CHANGE_CLOSE, 1, 3002, "alice");
        unsigned turns = 0, waiting = 2 * LIMIT_LATER_PER_TURN + 100;

        close.session = open_session(1, 6, 1, "alice", 60000);
        hold_many(close.session, "alice", 1, 300);
        hold_disks(2, 3, true);
        submit(1, 7, &close);
        for (unsigned i = 0; i < waiting; i++) {
                struct lock_request request = request_of(LOCK_CHANGE_PREEMPT, 2, 1, "bob", "alice/299");

                memcpy(request.handle.bytes + 1, &i, sizeof(i));
                replica_request(nodes[1].replica, &(struct replica_origin){ .session = 2, .tag = i }, &request, now + 60000);
        }
        turn(1);
        ck_assert(!replica_has_more(nodes[1].replica));
        hold_disks(2, 3, false);             /* the first of what it holds is free */
        hold_disks(2, 3, true);
        while (first && !replica_has_more(nodes[1].replica))
                deliver();
        for (; replica_has_more(nodes[1].replica); turns++) {
                ck_assert_uint_lt(turns, 10);
                turn(1);
        }
        ck_assert_uint_ge(turns, 2);         /* a turn whose write is done at once is two */
        ck_assert_uint_eq(replica_pending_count(nodes[1].replica), waiting);
        replica_forget(nodes[1].replica, 2);
        ask(1, 8, LOCK_CHANGE_PREEMPT, 3, 1, "carol", "alice/298");
        hold_disks(2, 3, false);
        while (first)
                deliver();
        ck_assert_int_eq(answer_of(1, 8)->outcome, REPLICA_YES);
}
END_TEST

/* --- who waits --- */

static struct lock_request wait_of(uint8_t handle, const char *client, const char *lock)
{
        struct lock_request request = request_of(LOCK_CHANGE_PREEMPT, handle, 1, client, lock);

        request.ttl_ms = 60000;
        request.wait = true;
        return request;
}

/* Its lease is known by that id, and the token of a hold that came of it is another one. */
START_TEST(retry_of_a_wait_is_told_the_waiter_whatever_has_become_of_it)
{
        const struct lock_request wait = wait_of(2, "bob", "a");
        struct lock_request cancel = request_of(LOCK_CHANGE_CANCEL, 2, 1, "bob", "a");
        uint64_t waiter;

        ask(1, 7, LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        submit(2, 8, &wait);
        run(200);
        ck_assert_int_eq(answer_of(2, 8)->outcome, REPLICA_WAITING);
        waiter = answer_of(2, 8)->token;
        ask(1, 9, LOCK_CHANGE_RELEASE, 1, 2, "alice", "a");
        run(200);
        ck_assert_str_eq(owner_at(1, "a"), "bob");
        for (uint64_t id = 1; id <= 3; id++) {
                submit(id, 20 + id, &wait);
                submit(id, 30 + id, &cancel);
                replica_await(nodes[id].replica, &(struct replica_origin){ .session = 1, .tag = 40 + id }, &wait.name, waiter, now + 5000);
                run(200);
                ck_assert_int_eq(answer_of(id, 20 + id)->outcome, REPLICA_WAITING);
                ck_assert_uint_eq(answer_of(id, 20 + id)->token, waiter);
                ck_assert_int_eq(answer_of(id, 30 + id)->outcome, REPLICA_WAITING);
                ck_assert_uint_eq(answer_of(id, 30 + id)->token, waiter);
                ck_assert_int_eq(answer_of(id, 40 + id)->outcome, REPLICA_YES);
                ck_assert_uint_eq(answer_of(id, 40 + id)->token, token_of(&wait.name));
                ck_assert_str_eq(answer_of(id, 40 + id)->client.text, "bob");
        }
}
END_TEST

/* What this node appended as a leader is lost, and its index is somebody else's. */
START_TEST(waiter_of_a_leadership_that_is_over_is_nobody)
{
        const struct lock_request wait = wait_of(2, "bob", "a"), other = wait_of(3, "carol", "x");
        uint64_t index;

        teardown();
        all_campaign = true;
        start(NODES);
        all_campaign = false;
        if (raft_leader(replica_raft(nodes[1].replica)) != 1)
                hand_over(raft_leader(replica_raft(nodes[1].replica)), 1);
        ask(1, 7, LOCK_CHANGE_PREEMPT, 1, 1, "dave", "a");
        ask(1, 8, LOCK_CHANGE_PREEMPT, 4, 1, "dave", "x");
        run(200);
        cut[1] = true;
        ask(1, 9, LOCK_CHANGE_PREEMPT, 5, 1, "erin", "z");   /* where the next leader begins its term */
        submit(1, 10, &wait);
        index = raft_last(replica_raft(nodes[1].replica));
        run(4000);
        ck_assert_int_ne(raft_role(replica_raft(nodes[1].replica)), RAFT_LEADER);
        submit(2, 11, &other);
        run(500);
        ck_assert_int_eq(answer_of(2, 11)->outcome, REPLICA_WAITING);
        ck_assert_uint_eq(answer_of(2, 11)->token, index);
        ask(2, 12, LOCK_CHANGE_RELEASE, 1, 2, "dave", "a");
        run(500);
        ck_assert_ptr_null(owner_at(2, "a"));
        cut[1] = false;
        run(4000);
        ck_assert_str_eq(owner_at(1, "a"), "bob");
        ck_assert_ptr_nonnull(answer_of(1, 10));
        ck_assert_int_eq(answer_of(1, 10)->outcome, REPLICA_YES);
        ck_assert_uint_eq(answer_of(1, 10)->token, token_of(&wait.name));
}
END_TEST

static uint64_t in_session(enum lock_change_kind kind, uint8_t handle, uint64_t seq, const char *client, const char *lock, uint64_t session, uint64_t period_ms)
{
        struct lock_request request = request_of(kind, handle, seq, client, lock);

        request.session = session;
        request.wait = kind == LOCK_CHANGE_PREEMPT;
        request.period_ms = period_ms;
        submit(1, 1000, &request);
        ck_assert_uint_eq(nodes[1].answer_count, 1);
        nodes[1].answer_count = 0;
        ck_assert(nodes[1].answers[0].outcome == REPLICA_YES || nodes[1].answers[0].outcome == REPLICA_WAITING);
        return nodes[1].answers[0].token;
}

/* Nobody has the lock, and who waits for it wants it once in a period, in which somebody else had it; and does not go. */
static void hold_up(const char *lock, uint64_t seq, const uint64_t sessions[3], uint64_t period_ms)
{
        (void)in_session(LOCK_CHANGE_PREEMPT, 3, 2 * seq, "dan", lock, sessions[1], 0);
        (void)in_session(LOCK_CHANGE_PREEMPT, 1, 2 * seq, "alice", lock, sessions[0], period_ms);
        (void)in_session(LOCK_CHANGE_PREEMPT, 2, 1 + seq, "bob", lock, sessions[2], period_ms);
        (void)in_session(LOCK_CHANGE_RELEASE, 3, 2 * seq + 1, "dan", lock, 0, 0);
        (void)in_session(LOCK_CHANGE_RELEASE, 1, 2 * seq + 1, "alice", lock, 0, 0);
        ck_assert_ptr_null(owner_at(1, lock));
}

/* No look is at all of them, and those behind the ones that wait for long have their turn. */
START_TEST(queues_that_are_held_up_for_long_hold_up_no_others)
{
        uint64_t sessions[3];
        char lock[16];

        sessions[0] = open_session(1, 6, 1, "alice", LIMIT_TTL_MS);
        sessions[1] = open_session(1, 7, 3, "dan", LIMIT_TTL_MS);
        sessions[2] = open_session(1, 8, 2, "bob", LIMIT_TTL_MS);
        nodes[1].answer_count = 0;
        for (unsigned i = 1; i <= 1024; i++) {
                (void)snprintf(lock, sizeof(lock), "held/%u", i);
                hold_up(lock, i, sessions, 3600000);
        }
        hold_up("soon", 1025, sessions, 1000);
        run(2000);
        ck_assert_ptr_null(owner_at(1, "held/1"));
        ck_assert_str_eq(owner_at(1, "soon"), "bob");
}
END_TEST

static void ask_to_share(uint64_t seq, uint64_t tag)
{
        struct lock_request wait = wait_of(2, "bob", "a");

        wait.seq = seq;
        wait.slots = SLOTS_SHARED;
        replica_request(nodes[1].replica, &(struct replica_origin){ .session = 1, .tag = tag }, &wait, now + 60000);
}

/* At any time the next of those who come is not applied yet. */
START_TEST(those_who_come_without_a_pause_keep_nobody_from_getting_in)
{
        uint64_t seq = 1;
        struct lock_name name = { .size = 1, .text = "a" };

        teardown();
        start(1);
        ask(1, 7, LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        for (; seq <= 20; seq++) {
                ask_to_share(seq, 100 + seq);
                turn(1);
        }
        ask(1, 8, LOCK_CHANGE_RELEASE, 1, 2, "alice", "a");
        nodes[1].disk_held = true;
        for (unsigned i = 0; i < 300; i++, seq++) {
                uint64_t persist = nodes[1].held_persist;

                now++;
                nodes[1].held_persist = nodes[1].answer_count = 0;
                if (persist)
                        raft_persisted(replica_raft(nodes[1].replica), persist);
                replica_tick(nodes[1].replica, now, now);
                ask_to_share(seq, 1000 + seq);
                turn(1);
        }
        ck_assert_uint_lt(lock_table_queue_length(replica_table(nodes[1].replica), &name), 10);
        nodes[1].disk_held = false;
        raft_persisted(replica_raft(nodes[1].replica), nodes[1].held_persist);
}
END_TEST

static Suite *suite(void)
{
        Suite *s = suite_create("replica");
        TCase *c = tcase_create("replica");

        tcase_add_checked_fixture(c, setup, teardown);
        tcase_set_timeout(c, 120);
        tcase_add_test(c, change_is_answered_only_when_a_majority_has_it);
        tcase_add_test(c, refusal_waits_for_what_it_rests_on);
        tcase_add_test(c, follower_answers_when_it_has_applied_the_change_itself);
        tcase_add_test(c, retry_gets_its_first_answer_through_any_node);
        tcase_add_test(c, without_a_majority_the_answer_is_unknown_at_the_deadline);
        tcase_add_test(c, request_in_flight_when_leadership_is_lost_happens_once);
        tcase_add_test(c, read_waits_for_the_index_that_its_client_has_seen);
        tcase_add_test(c, node_that_has_nothing_yet_calls_no_lock_free);
        tcase_add_test(c, joiner_gets_an_id_and_gets_it_again);
        tcase_add_test(c, name_of_a_connected_member_is_taken_and_of_a_lost_one_is_not);
        tcase_add_test(c, follower_sends_a_joiner_to_the_leader);
        tcase_add_test(c, leader_says_where_it_is_before_it_lets_anybody_in);
        tcase_add_test(c, leader_says_where_it_is_as_soon_as_it_may);
        tcase_add_test(c, consistent_read_needs_a_leader_that_proves_itself);
        tcase_add_test(c, forward_to_an_earlier_leadership_is_not_taken);
        tcase_add_test(c, request_from_before_what_is_remembered_is_not_decided);
        tcase_add_test(c, what_another_leader_granted_counts_for_more_than_an_old_refusal);
        tcase_add_test(c, request_that_was_cancelled_never_happens);
        tcase_add_test(c, cancel_that_comes_too_late_says_so);
        tcase_add_test(c, refused_request_is_cancelled_although_its_refusal_is_remembered);
        tcase_add_test(c, leadership_is_transferred_through_any_node);
        tcase_add_test(c, member_is_removed_through_any_node_the_leader_too);
        tcase_add_test(c, member_is_not_removed_when_the_rest_could_not_go_on);
        tcase_add_test(c, removal_that_went_on_to_another_leader_is_not_refused_by_the_one_before);
        tcase_add_test(c, leader_that_stops_hands_over_first);
        tcase_add_test(c, log_knows_who_stopped_until_it_is_back);
        tcase_add_test(c, who_said_bye_may_be_dialled_when_the_log_says_that_it_is_back);
        tcase_add_test(c, what_a_leader_was_told_before_it_went_is_told_the_next_at_once);
        tcase_add_test(c, who_goes_down_with_its_host_is_not_left_alone);
        tcase_add_test(c, level_rises_when_all_members_know_it_and_not_before);
        tcase_add_test(c, tables_on_disk_make_the_same_state_again);
        tcase_add_test(c, whole_log_becomes_the_state_when_a_cluster_begins_anew);
        tcase_add_test(c, request_that_grew_old_without_a_leader_is_not_decided_any_more);
        tcase_add_test(c, address_in_a_snapshot_is_newer_than_what_was_heard_before);
        tcase_add_test(c, addresses_of_many_that_came_and_went_do_not_keep_a_node_from_starting);
        tcase_add_test(c, leader_times_no_session_that_is_over);
        tcase_add_test(c, what_holds_much_is_freed_without_a_pause);
        tcase_add_test(c, many_that_end_at_once_are_freed_together);
        tcase_add_test(c, details_of_what_is_longest_are_whole_words);
        tcase_add_test(c, detail_of_several_locks_names_the_others);
        tcase_add_test(c, who_waits_in_vain_for_what_is_being_freed_is_told_so);
        tcase_add_test(c, many_wait_for_what_is_being_freed);
        tcase_add_test(c, retry_of_a_wait_is_told_the_waiter_whatever_has_become_of_it);
        tcase_add_test(c, waiter_of_a_leadership_that_is_over_is_nobody);
        tcase_add_test(c, queues_that_are_held_up_for_long_hold_up_no_others);
        tcase_add_test(c, those_who_come_without_a_pause_keep_nobody_from_getting_in);
        tcase_add_test(c, renewal_does_not_wait_for_the_disks_behind_a_refusal);
        suite_add_tcase(s, c);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
