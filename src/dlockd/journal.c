/* journal.c - what a node tells the journal of its own accord: changes, members, who leads. */
#include "dlockd/journal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/diag.h"
#include "dlockd/daemon.h"
#include "replica/entry.h"

/* Changes named per second; the log itself has them all. */
#define JOURNAL_PER_SECOND 50

/* The field of the lock is there once for each of several. */
static void log_change(uint64_t index, struct entry_columns *columns)
{
        struct lock_name names[LIMIT_LOCKS_AT_ONCE] = { columns->lock };
        char number[24], text[LIMIT_LOCKS_AT_ONCE * (LIMIT_LOCK_NAME_BYTES + 2)];
        struct diag_field fields[LIMIT_LOCKS_AT_ONCE + 2] = { { "DLOCK_CLIENT", columns->client.text }, { "DLOCK_INDEX", number } };
        size_t count = 0, size = 0;

        do {
                fields[2 + count] = (struct diag_field){ "DLOCK_LOCK", names[count].text };
                size += (size_t)snprintf(text + size, sizeof(text) - size, "%s%s", count > 0 ? ", " : "", names[count].text);
                count++;
        } while (count < LIMIT_LOCKS_AT_ONCE && names_view_take(&columns->further, &names[count]));
        (void)snprintf(number, sizeof(number), "%" PRIu64, index);
        diag_fields(DIAG_INFO, fields, 2 + count, "%s %.600s by %s at %" PRIu64, columns->kind, text, columns->client.text, index);
}

/* True: another line may be written in this second. */
static bool journal_has_room(struct daemon *daemon)
{
        uint64_t second = daemon->now / 1000;

        if (second != daemon->journal_second) {
                if (daemon->journal_count > JOURNAL_PER_SECOND)
                        diag_info("%u more changes are not named here; dlockctl history has them", daemon->journal_count - JOURNAL_PER_SECOND);
                daemon->journal_second = second;
                daemon->journal_count = 0;
        }
        return ++daemon->journal_count <= JOURNAL_PER_SECOND;
}

/* The leader names every accepted change. */
static void log_changes(struct daemon *daemon)
{
        const struct raft *raft = replica_raft(daemon->replica);
        uint64_t applied = replica_applied(daemon->replica);
        bool leads = raft_role(raft) == RAFT_LEADER && daemon->named != 0;

        for (uint64_t index = daemon->named + 1; leads && index <= applied; index++) {
                const struct raft_entry *entry = raft_entry_at(raft, index);
                struct entry_columns columns;

                if (entry && (entry->kind == RAFT_ENTRY_PREEMPT || entry->kind == RAFT_ENTRY_RELEASE || entry->kind == RAFT_ENTRY_CANCEL) && journal_has_room(daemon) &&
                    entry_describe(entry, &columns))
                        log_change(index, &columns);
        }
        daemon->named = applied;
}

static void log_leader(struct daemon *daemon)
{
        const struct raft *raft = replica_raft(daemon->replica);
        uint64_t leader = raft_leader(raft), term = raft_term(raft);

        const char *name = leader == raft_id(raft) ? "this node" : daemon_node_name(daemon, leader);

        if (leader == daemon->logged_leader && (term == daemon->logged_term || leader == 0))
                return;
        if (leader != 0 && !*name)
                return;                      /* a new node learns the names with the log */
        if (leader != 0)
                diag_info("%s leads in term %" PRIu64, name, term);
        else
                diag_info("no leader is known in term %" PRIu64, term);
        daemon->logged_leader = leader;
        daemon->logged_term = term;
}

static void log_member(const struct daemon *daemon, const struct raft_member *old, const struct raft_member *member)
{
        const struct raft_member *any = member ? member : old;

        if (any->id == daemon->identity.node)
                diag_info("this node %s", !member ? "is no member any more" : member->standing == RAFT_VOTER ? "votes now" : "does not vote any more");
        else if (!old)
                diag_info("%s is a member now, as node %" PRIu64 "%s", any->name, any->id, any->standing == RAFT_VOTER ? ", and votes" : "");
        else if (!member)
                diag_info("%s, which was node %" PRIu64 ", is no member any more", any->name, any->id);
        else
                diag_info("%s %s", any->name, member->standing == RAFT_VOTER ? "votes now" : "does not vote any more");
}

/* What is decided, since this node was let in. */
static void log_members(struct daemon *daemon)
{
        const struct raft_configuration *now = raft_configuration_at(replica_raft(daemon->replica), replica_applied(daemon->replica));
        const struct raft_configuration *named = daemon->named_members;
        bool tell;

        if (named && named->index == now->index && named->count == now->count)
                return;                      /* that of who made the cluster is at 0, like none */
        tell = named && named->count > 0 && now->index > daemon->identity.node;
        for (size_t i = 0; tell && i < now->count; i++) {
                const struct raft_member *member = &now->members[i], *old = raft_configuration_find(named, member->id);

                if (old ? old->standing != member->standing : member->id != daemon->identity.node)
                        log_member(daemon, old, member);
        }
        for (size_t i = 0; tell && i < named->count; i++)
                if (!raft_configuration_find(now, named->members[i].id))
                        log_member(daemon, &named->members[i], NULL);
        if (tell && named->level != now->level)
                diag_info("all members know feature level %u: it is used from here on, and an older dlockd is refused", now->level);
        free(daemon->named_members);
        daemon->named_members = raft_configuration_copy(now, 0);
}

/* Of a transfer that succeeds the new leader is the end of it. */
static void log_transfer(struct daemon *daemon)
{
        const struct raft *raft = replica_raft(daemon->replica);
        uint64_t target = raft_transfer_target(raft);

        if (target == daemon->logged_target)
                return;
        if (target != 0)
                diag_info("handing leadership over to %s", daemon_node_name(daemon, target));
        else if (raft_role(raft) == RAFT_LEADER)
                diag_info("leadership stays here: %s did not take it in time", daemon_node_name(daemon, daemon->logged_target));
        daemon->logged_target = target;
}

void journal_start(struct daemon *daemon)
{
        daemon->named = replica_applied(daemon->replica);
        log_members(daemon);
}

void journal_turn(struct daemon *daemon)
{
        log_changes(daemon);
        log_members(daemon);
        log_transfer(daemon);
        log_leader(daemon);
}

void journal_gap(const struct daemon *daemon, uint64_t now)
{
        if (daemon->now != 0 && now - daemon->now > daemon->config.timeout_ms)
                diag_notice("this node did not run for %" PRIu64 " ms, longer than [election] timeout: it was paused, or its host was suspended or overloaded",
                            now - daemon->now);
}
