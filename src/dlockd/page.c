#include "dlockd/page.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "replica/entry.h"

const char *page_why_not(const struct daemon *daemon, bool consistent)
{
        if (consistent)
                return "no leader with a majority vouched for an answer in time";
        if (replica_applied(daemon->replica) == 0)
                return "this node has nothing from its cluster yet: it waits for the leader";
        return "this node is behind what the client has seen already, and did not catch up in time";
}

/* As far as this node knows the time; 0: it is not in its lock-delay. */
static uint32_t free_in_ms(const struct daemon *daemon, const struct lock_name *name)
{
        uint64_t now = replica_cluster_ms(daemon->replica);
        struct lock_delay_view delay;

        return lock_table_find_delay(replica_table(daemon->replica), name, now, &delay) ? (uint32_t)MIN(delay.until_cluster_ms - now, (uint64_t)LIMIT_DELAY_MS) : 0;
}

/* Of those who hold it together: the hold that is asked about, or what the client that asks holds, or else the first. */
static bool find_asked(const struct lock_table *table, const struct wire_request *request, struct lock_view *ret_view)
{
        if (request->token != 0 && lock_table_find_hold(table, &request->name, request->token, ret_view))
                return true;
        if (request->client.size > 0 && lock_table_find_of(table, &request->name, request->client.text, 0, ret_view))
                return true;
        return lock_table_find(table, &request->name, ret_view);
}

static void write_check(const struct daemon *daemon, struct bytes *out, const struct wire_request *request, bool fresh)
{
        struct wire_result result = {
                .tag = request->tag,
                .outcome = fresh ? WIRE_NO : WIRE_UNKNOWN,
                .index = replica_applied(daemon->replica),
                .leader_age_ms = replica_leader_age_ms(daemon->replica),
        };
        struct lock_view view;

        if (!fresh) {
                (void)snprintf(result.reason, sizeof(result.reason), "%s", page_why_not(daemon, request->consistent));
        } else if (find_asked(replica_table(daemon->replica), request, &view)) {
                bool valid = client_id_set(&result.owner, view.owner, strlen(view.owner));

                assert(valid);
                result.outcome = WIRE_YES;
                result.token = view.token;
                result.slots = view.slots;
                result.holders = (uint16_t)view.holders;
        } else {
                result.free_in_ms = free_in_ms(daemon, &request->name);
        }
        wire_write_result(out, &result);
}

static void write_row(const struct daemon *daemon, struct bytes *out, const struct lock_view *view, struct wire_row *row)
{
        uint64_t now = replica_cluster_ms(daemon->replica);
        bool valid = lock_name_set(&row->lock, view->name, view->name_size) && client_id_set(&row->owner, view->owner, strlen(view->owner)) &&
                     principal_set(&row->principal, view->principal, strlen(view->principal));

        assert(valid);
        row->holder = view->holder;
        row->token = view->token;
        row->held_ms = now > view->since_cluster_ms ? now - view->since_cluster_ms : 0;
        row->since_wall_ms = view->since_wall_ms;
        row->session = view->session;
        row->ttl_ms = view->ttl_ms;
        row->delay_ms = view->delay_ms;
        row->lease = view->lease;
        row->broken = view->broken;
        row->slots = view->slots;
        row->holders = (uint16_t)view->holders;
        row->waiting = (uint32_t)lock_table_queue_length(replica_table(daemon->replica), &row->lock);
        row->expires_ms = view->session != 0 ? replica_session_left_ms(daemon->replica, view->session) : -1;
        wire_write_row(out, row);
}

/* The one after view, which becomes that one. */
static bool next_row(const struct lock_table *table, const struct wire_request *request, struct lock_view *view)
{
        if (request->type == WIRE_SHOW)
                return lock_table_next_hold(table, &request->name, view->token, view);
        if (request->type == WIRE_QUEUE)
                return lock_table_next_waiting(table, &request->name, view->token, view);
        return lock_table_next(table, request->name.text, request->name.size, view->name, view->name_size, view->token, view);
}

/* A page of those who hold one lock, or wait for it, or of those with a prefix: the head carries the count, which is known only at the end, so the rows are
 * looked at twice, a page at most. */
static void write_rows(const struct daemon *daemon, struct bytes *out, const struct wire_request *request, bool fresh)
{
        const struct lock_table *table = replica_table(daemon->replica);
        bool is_show = request->type == WIRE_SHOW;
        struct wire_page page = {
                .tag = request->tag,
                .outcome = fresh ? WIRE_YES : WIRE_UNKNOWN,
                .index = replica_applied(daemon->replica),
                .leader_age_ms = replica_leader_age_ms(daemon->replica),
        };
        struct lock_view begin = { .name = request->after.text, .name_size = request->after.size, .token = request->after_token }, view = begin;
        uint16_t limit = request->type == WIRE_LIST ? request->limit : LIMIT_PAGE_ROWS;
        struct wire_row row;
        size_t frame;

        if (!fresh)
                (void)snprintf(page.reason, sizeof(page.reason), "%s", page_why_not(daemon, request->consistent));
        while (fresh && page.count < limit && next_row(table, request, &view))
                page.count++;
        page.free_in_ms = is_show && fresh && page.count == 0 ? free_in_ms(daemon, &request->name) : 0;
        page.more = page.count == limit && next_row(table, request, &view);

        frame = wire_write_page_begin(out, WIRE_ROWS, &page);
        view = begin;
        for (uint16_t i = 0; i < page.count; i++) {
                bool found = next_row(table, request, &view);

                assert(found);
                write_row(daemon, out, &view, &row);
        }
        wire_write_page_end(out, frame);
}

void page_write_read(const struct daemon *daemon, struct bytes *out, const struct wire_request *request, bool fresh)
{
        if (request->type == WIRE_CHECK)
                write_check(daemon, out, request, fresh);
        else
                write_rows(daemon, out, request, fresh);
}

void page_write_history(const struct daemon *daemon, struct bytes *out, const struct wire_request *request, const struct store_event *event)
{
        struct wire_page page = {
                .tag = request->tag,
                .outcome = event ? WIRE_YES : WIRE_UNKNOWN,
                .index = replica_applied(daemon->replica),
                .leader_age_ms = replica_leader_age_ms(daemon->replica),
                .log_first = event ? event->log_first : 0,
                .next_after = event ? event->looked_until : 0,
                .more = event && event->more,
        };
        size_t shown = 0, frame;

        /* History is what is decided: entries that are not committed may still be taken back. */
        while (event && shown < event->entry_count && event->entries[shown]->index <= page.index)
                shown++;
        if (event && shown < event->entry_count) {
                page.more = false;
                page.next_after = page.index;
        }
        page.count = (uint16_t)shown;
        if (!event)
                (void)snprintf(page.reason, sizeof(page.reason), "the log of this node could not be read; its journal says why");
        frame = wire_write_page_begin(out, WIRE_EVENTS, &page);
        for (size_t i = 0; i < shown; i++) {
                const struct raft_entry *entry = event->entries[i];
                struct entry_columns columns;
                struct wire_event row = { .index = entry->index, .term = entry->term, .cluster_ms = entry->cluster_ms, .wall_ms = entry->wall_ms };
                bool valid = entry_describe(entry, &columns);

                assert(valid);
                (void)snprintf(row.kind, sizeof(row.kind), "%s", columns.kind);
                row.lock = columns.further.count > 0 && request->name.size > 0 ? request->name : columns.lock;
                row.client = columns.client;
                row.token = columns.token;
                entry_detail(entry, raft_configuration(replica_raft(daemon->replica)), &row.lock, row.detail);
                wire_write_event(out, &row);
        }
        wire_write_page_end(out, frame);
}

static const char *role_name(const struct daemon *daemon)
{
        const struct raft *raft = replica_raft(daemon->replica);

        if (raft_id(raft) == 0)
                return "joining";
        if (daemon_is_removed(daemon))
                return "removed";
        switch (raft_role(raft)) {
        case RAFT_LEADER:
                return raft_is_ready(raft) ? "leader" : "candidate";
        case RAFT_PRE_CANDIDATE:
        case RAFT_CANDIDATE:
                return "candidate";
        case RAFT_FOLLOWER:
                return raft_configuration_votes(raft_configuration(raft), raft_id(raft)) ? "follower" : "learner";
        }
        return "";
}

void page_write_members(const struct daemon *daemon, struct bytes *out, uint64_t tag)
{
        const struct raft *raft = replica_raft(daemon->replica);
        const struct raft_configuration *configuration = raft_configuration(raft);
        const struct wire_page page = {
                .tag = tag,
                .outcome = WIRE_YES,
                .index = replica_applied(daemon->replica),
                .leader_age_ms = replica_leader_age_ms(daemon->replica),
                .count = (uint16_t)configuration->count,
        };
        size_t frame = wire_write_page_begin(out, WIRE_ROSTER, &page);

        for (size_t i = 0; i < configuration->count; i++) {
                const struct raft_member *member = &configuration->members[i];
                const char *address = replica_address(daemon->replica, member->id);
                bool self = member->id == raft_id(raft);
                struct wire_member row = {
                        .id = member->id,
                        .voter = member->standing == RAFT_VOTER,
                        .witness = member->witness,
                        .preferred = member->preferred,
                        .leader = raft_has_quorum(raft) && member->id == raft_leader(raft),
                        .linked = self || raft_is_linked(raft, member->id),
                        .away = replica_is_away(daemon->replica, member->id),
                        .match = raft_match(raft, member->id),
                        .level = (uint16_t)raft_level_of(raft, member->id),
                };

                memcpy(row.name, member->name, sizeof(row.name));
                (void)snprintf(row.address, sizeof(row.address), "%s", address ? address : "");
                wire_write_member(out, &row);
        }
        wire_write_page_end(out, frame);
}

void page_write_status(const struct daemon *daemon, struct bytes *out, uint64_t tag)
{
        const struct raft *raft = replica_raft(daemon->replica);
        const struct raft_configuration *configuration = raft_configuration(raft);
        struct wire_state state = {
                .tag = tag,
                .cluster = replica_cluster(daemon->replica),
                .term = raft_term(raft),
                .commit = raft_commit(raft),
                .applied = replica_applied(daemon->replica),
                .log_first = replica_log_first(daemon->replica),
                .log_last = raft_last(raft),
                .locks = lock_table_lock_count(replica_table(daemon->replica)),
                .voters = raft_configuration_voters(configuration),
                .members = configuration->count,
                .leader_age_ms = replica_leader_age_ms(daemon->replica),
        };

        (void)snprintf(state.node, sizeof(state.node), "%s", daemon->config.name);
        (void)snprintf(state.role, sizeof(state.role), "%s", role_name(daemon));
        (void)snprintf(state.leader, sizeof(state.leader), "%s",
                       raft_has_quorum(raft) ? daemon_node_name(daemon, raft_leader(raft)) : "");
        (void)snprintf(state.version, sizeof(state.version), "%s", DLOCK_VERSION);
        wire_write_state(out, &state);
}
