#include "raft_kit.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "raft/log.h"

/* As ck_assert, which tells of every one that holds through a file; here that would be millions. */
#define must(what) must_msg(what, "not so: %s", #what)
#define must_msg(what, ...)                                                                               \
        do {                                                                                              \
                if (!(what))                                                                              \
                        ck_abort_msg(__VA_ARGS__);                                                        \
        } while (0)

#define TIMEOUT_MS 1000
#define HEARTBEAT_MS 100

static struct raft_entry *copy_entry(const struct raft_entry *entry)
{
        return raft_entry_new(entry->index, entry->term, entry->kind, entry->cluster_ms, entry->wall_ms, entry->body, entry->size);
}

uint64_t kit_random(struct kit *kit, uint64_t below)
{
        kit->seed = kit->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        return below ? (kit->seed >> 33) % below : 0;
}

/* --- the watcher: what must hold at every moment --- */

static void watch_commit(struct kit *kit, struct kit_node *node)
{
        uint64_t commit = raft_commit(node->raft);

        must(commit >= node->commit_seen);                    /* it never moves back */
        for (uint64_t index = node->commit_seen + 1; index <= commit; index++) {
                const struct raft_entry *entry = raft_entry_at(node->raft, index);
                const struct raft_entry *known = kit->committed[index];

                must(entry != NULL);
                if (!known) {
                        size_t copies = 0;

                        for (uint64_t id = 1; id <= kit->count; id++)
                                copies += kit->nodes[id].last >= index && kit->nodes[id].log[index]->term == entry->term;
                        must_msg(copies > kit->count / 2, "entry %llu of term %llu was committed with %zu of %zu disks", (unsigned long long)index,
                                      (unsigned long long)entry->term, copies, kit->count);
                        kit->committed[index] = copy_entry(entry);
                        kit->committed_last = MAX(kit->committed_last, index);
                } else {
                        must_msg(known->term == entry->term && known->size == entry->size && memcmp(known->body, entry->body, entry->size) == 0,
                                      "two different entries were committed at %llu", (unsigned long long)index);
                }
        }
        node->commit_seen = commit;
}

static void watch(struct kit *kit, uint64_t id)
{
        struct kit_node *node = &kit->nodes[id];
        uint64_t term = raft_term(node->raft);

        must(term < KIT_ENTRIES);
        if (raft_role(node->raft) == RAFT_LEADER) {
                must_msg(kit->leader_of_term[term] == 0 || kit->leader_of_term[term] == id, "two leaders in term %llu", (unsigned long long)term);
                kit->leader_of_term[term] = id;
                /* Leader completeness: what was committed in earlier terms is in its log. */
                for (uint64_t index = kit->committed_last; index > raft_last(node->raft); index--)
                        must_msg(kit->committed[index]->term >= term, "the leader of term %llu lacks entry %llu of term %llu", (unsigned long long)term,
                                      (unsigned long long)index, (unsigned long long)kit->committed[index]->term);
        }
        watch_commit(kit, node);
}

static void watch_vote(struct kit *kit, uint64_t id, const struct raft_hard_state *hard)
{
        uint64_t *vote = &kit->vote_of_term[id][hard->term];

        if (hard->vote == 0)
                return;
        must_msg(*vote == 0 || *vote == hard->vote, "node %llu voted twice in term %llu", (unsigned long long)id, (unsigned long long)hard->term);
        *vote = hard->vote;
}

/* --- effects --- */

static void free_entries(struct raft_entry **entries, size_t count)
{
        for (size_t i = 0; i < count; i++)
                free(entries[i]);
        free(entries);
}

static void take_write(struct kit_node *node, const struct raft_effects *effects)
{
        struct kit_write *write = alloc_zeroed(1, sizeof(*write)), **end = &node->writes;

        write->persist_id = effects->persist_id;
        write->hard_changed = effects->hard_changed;
        write->hard = effects->hard;
        write->truncate_from = effects->truncate_from;
        must(write->truncate_from == 0 || write->truncate_from > node->commit_seen);        /* P4 */
        if (effects->first <= effects->last) {
                write->entry_count = (size_t)(effects->last - effects->first + 1);
                write->entries = alloc_zeroed(write->entry_count, sizeof(write->entries[0]));
                for (size_t i = 0; i < write->entry_count; i++)
                        write->entries[i] = copy_entry(raft_entry_at(node->raft, effects->first + i));
        }
        while (*end)
                end = &(*end)->next;
        *end = write;
}

static void take_message(struct kit *kit, uint64_t from, const struct raft_message *message)
{
        struct kit_message *copy;

        if (message->node > kit->count || kit->cut[from][message->node] || kit->cut[message->node][from] || !kit->nodes[message->node].raft)
                return;
        copy = alloc_zeroed(1, sizeof(*copy));
        copy->from = from;
        copy->to = message->node;
        copy->message = *message;
        copy->message.node = from;
        if (message->entry_count > 0) {
                copy->entries = alloc_zeroed(message->entry_count, sizeof(copy->entries[0]));
                for (size_t i = 0; i < message->entry_count; i++)
                        copy->entries[i] = copy_entry(message->entries[i]);
                copy->message.entries = (const struct raft_entry *const *)copy->entries;
        }
        *kit->last = copy;
        kit->last = &copy->next;
}

static void turn(struct kit *kit, uint64_t id)
{
        struct kit_node *node = &kit->nodes[id];
        const struct raft_effects *effects;
        uint64_t read_for[KIT_NODES * 2], read_from[KIT_NODES * 2];
        size_t reads;

        raft_flush(node->raft);
        effects = raft_effects(node->raft);
        if (effects->persist_id)
                take_write(node, effects);
        for (size_t i = 0; i < effects->message_count; i++)
                take_message(kit, id, &effects->messages[i]);
        must(!effects->make_snapshot);
        reads = effects->log_request_count;
        must(reads <= KIT_NODES * 2);
        for (size_t i = 0; i < reads; i++) {
                read_for[i] = effects->log_requests[i].node;
                read_from[i] = effects->log_requests[i].from;
        }
        raft_effects_clear(node->raft);
        watch(kit, id);
        for (size_t i = 0; i < reads; i++) {
                uint64_t from = read_from[i], last = MIN(node->last, from + 100);

                raft_log_read(node->raft, read_for[i], from, &node->log[from], from <= last ? (size_t)(last - from + 1) : 0);
        }
        if (reads > 0)
                turn(kit, id);
}

/* --- the disk --- */

static void set_log(struct kit_node *node, uint64_t last)
{
        while (node->last > last) {
                free(node->log[node->last]);
                node->log[node->last--] = NULL;
        }
}

static void sync_one(struct kit *kit, uint64_t id)
{
        struct kit_node *node = &kit->nodes[id];
        struct kit_write *write = node->writes;

        node->writes = write->next;
        if (write->hard_changed) {
                must(write->hard.term >= node->hard.term);
                node->hard = write->hard;
                watch_vote(kit, id, &node->hard);
        }
        if (write->truncate_from)
                set_log(node, write->truncate_from - 1);
        for (size_t i = 0; i < write->entry_count; i++) {
                must(write->entries[i]->index == node->last + 1);
                must(node->last + 1 < KIT_ENTRIES);
                node->log[++node->last] = write->entries[i];
        }
        free(write->entries);
        raft_persisted(node->raft, write->persist_id);
        free(write);
        turn(kit, id);
}

static void lose_writes(struct kit_node *node)
{
        struct kit_write *write;

        while ((write = node->writes)) {
                node->writes = write->next;
                free_entries(write->entries, write->entry_count);
                free(write);
        }
}

/* --- the network --- */

static void drop(struct kit *kit, uint64_t a, uint64_t b)
{
        struct kit_message **at = &kit->first, *message;

        while ((message = *at)) {
                if (!((message->from == a && message->to == b) || (message->from == b && message->to == a))) {
                        at = &message->next;
                        continue;
                }
                *at = message->next;
                free_entries(message->entries, message->message.entry_count);
                free(message);
        }
        kit->last = at;
}

/* The oldest message of a link: links keep the order, one link does not wait for another. */
static bool deliver(struct kit *kit, size_t skip)
{
        struct kit_message **at = &kit->first, *message, **earlier;

        while (*at && skip-- > 0)
                at = &(*at)->next;
        if (!*at)
                at = &kit->first;
        message = *at;
        if (!message)
                return false;
        for (earlier = &kit->first; *earlier != message; earlier = &(*earlier)->next)
                if ((*earlier)->from == message->from && (*earlier)->to == message->to)
                        break;
        at = earlier;
        message = *at;
        *at = message->next;
        if (!message->next)
                kit->last = at;
        if (kit->nodes[message->to].raft) {
                raft_receive(kit->nodes[message->to].raft, &message->message);
                turn(kit, message->to);
        }
        free_entries(message->entries, message->message.entry_count);
        free(message);
        return true;
}

static void tell_links(struct kit *kit, uint64_t a, uint64_t b, bool up)
{
        if (kit->nodes[a].raft) {
                raft_link(kit->nodes[a].raft, b, up);
                turn(kit, a);
        }
        if (kit->nodes[b].raft) {
                raft_link(kit->nodes[b].raft, a, up);
                turn(kit, b);
        }
}

void kit_cut(struct kit *kit, uint64_t a, uint64_t b, bool cut)
{
        if (kit->cut[a][b] == cut)
                return;
        kit->cut[a][b] = kit->cut[b][a] = cut;
        drop(kit, a, b);
        if (kit->nodes[a].raft && kit->nodes[b].raft)
                tell_links(kit, a, b, !cut);
}

/* --- life --- */

static struct raft *make_raft(struct kit *kit, uint64_t id, const struct bytes *configuration)
{
        const struct raft_settings settings = { .election_timeout_ms = TIMEOUT_MS, .heartbeat_ms = HEARTBEAT_MS, .campaigns = kit->nodes[id].campaigns,
                                                .max_voters = KIT_NODES, .seed = kit->seed ^ (id * 7919 + kit->now + 1) };
        const struct raft_start start = { .id = id, .hard = kit->nodes[id].hard, .log_first = 1,
                                          .base = { .configuration = configuration->data, .configuration_size = configuration->size } };

        return raft_new(&settings, &start);
}

static void make_configuration(const struct kit *kit, struct bytes *bytes)
{
        struct raft_configuration *configuration = raft_configuration_copy(NULL, kit->count);

        configuration->count = kit->count;
        for (size_t i = 0; i < kit->count; i++) {
                configuration->members[i] = (struct raft_member){ .id = i + 1, .incarnation = { { (uint8_t)(i + 1) } }, .standing = RAFT_VOTER, .preferred = i == 0,
                                                                 .witness = i + 1 == kit->witness };
                configuration->members[i].name[0] = (char)('a' + i);
        }
        raft_configuration_put(bytes, configuration);
        free(configuration);
}

void kit_start(struct kit *kit, uint64_t id)
{
        struct kit_node *node = &kit->nodes[id];
        struct bytes configuration = { 0 };

        make_configuration(kit, &configuration);
        node->raft = make_raft(kit, id, &configuration);
        bytes_done(&configuration);
        for (uint64_t index = 1; index <= node->last; index++)
                must(raft_restore_entry(node->raft, node->log[index]));
        node->commit_seen = raft_commit(node->raft);
        raft_tick(node->raft, kit->now, kit->now);
        for (uint64_t other = 1; other <= kit->count; other++)
                if (other != id && kit->nodes[other].raft && !kit->cut[id][other])
                        tell_links(kit, id, other, true);
}

void kit_crash(struct kit *kit, uint64_t id)
{
        struct kit_node *node = &kit->nodes[id];

        node->raft = raft_free(node->raft);
        lose_writes(node);
        for (uint64_t other = 1; other <= kit->count; other++) {
                drop(kit, id, other);
                if (other != id && kit->nodes[other].raft && !kit->cut[id][other]) {
                        raft_link(kit->nodes[other].raft, id, false);
                        turn(kit, other);
                }
        }
}

void kit_hold_disk(struct kit *kit, uint64_t id, bool hold)
{
        kit->nodes[id].disk_held = hold;
}

struct kit *kit_new(size_t count, bool all_campaign, uint64_t seed)
{
        struct kit *kit = alloc_zeroed(1, sizeof(*kit));

        kit->count = count;
        kit->seed = seed;
        kit->now = 1000;
        kit->last = &kit->first;
        for (uint64_t id = 1; id <= count; id++)
                kit->nodes[id].campaigns = all_campaign || id == 1;
        for (uint64_t id = 1; id <= count; id++)
                kit_start(kit, id);
        return kit;
}

struct kit *kit_free(struct kit *kit)
{
        for (uint64_t id = 1; id <= kit->count; id++) {
                kit->nodes[id].raft = raft_free(kit->nodes[id].raft);
                lose_writes(&kit->nodes[id]);
                set_log(&kit->nodes[id], 0);
                for (uint64_t other = 1; other <= kit->count; other++)
                        drop(kit, id, other);
        }
        for (uint64_t index = 1; index <= kit->committed_last; index++)
                free(kit->committed[index]);
        free(kit);
        return NULL;
}

/* --- running --- */

static bool sync_any(struct kit *kit, uint64_t skip)
{
        for (uint64_t i = 0; i < kit->count; i++) {
                uint64_t id = (i + skip) % kit->count + 1;

                if (kit->nodes[id].raft && kit->nodes[id].writes && !kit->nodes[id].disk_held) {
                        sync_one(kit, id);
                        return true;
                }
        }
        return false;
}

bool kit_step(struct kit *kit)
{
        if (kit_random(kit, 3) == 0)
                return sync_any(kit, kit_random(kit, kit->count)) || deliver(kit, 0);
        return deliver(kit, (size_t)kit_random(kit, 6)) || sync_any(kit, 0);
}

void kit_tick(struct kit *kit, uint64_t ms)
{
        kit->now += ms;
        for (uint64_t id = 1; id <= kit->count; id++)
                if (kit->nodes[id].raft) {
                        raft_tick(kit->nodes[id].raft, kit->now, kit->now);
                        turn(kit, id);
                }
}

void kit_run(struct kit *kit, uint64_t ms)
{
        for (uint64_t end = kit->now + ms; kit->now < end;) {
                kit_tick(kit, 10);
                while (sync_any(kit, 0) || deliver(kit, 0))
                        ;
        }
}

uint64_t kit_leader(const struct kit *kit)
{
        uint64_t leader = 0;

        for (uint64_t id = 1; id <= kit->count; id++)
                if (kit->nodes[id].raft && raft_role(kit->nodes[id].raft) == RAFT_LEADER &&
                    (leader == 0 || raft_term(kit->nodes[id].raft) > raft_term(kit->nodes[leader].raft)))
                        leader = id;
        return leader;
}

uint64_t kit_propose(struct kit *kit, uint64_t id, uint64_t value)
{
        uint64_t index;

        if (!kit->nodes[id].raft || !raft_may_propose(kit->nodes[id].raft))
                return 0;
        index = raft_propose(kit->nodes[id].raft, RAFT_ENTRY_PREEMPT, &value, sizeof(value));
        turn(kit, id);
        return index;
}

void kit_wait_leader(struct kit *kit, uint64_t id)
{
        for (uint64_t end = kit->now + 60000; kit->now < end; kit_run(kit, 10))
                if (kit_leader(kit) == id && raft_may_propose(kit->nodes[id].raft))
                        return;
        ck_abort_msg("node %llu does not lead", (unsigned long long)id);
}
