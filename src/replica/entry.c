#include "replica/entry.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "lock/change.h"
#include "replica/directory.h"

static_assert((int)LOCK_CHANGE_CLIENT == (int)RAFT_ENTRY_CLIENT, "one numbering");
static_assert((int)LOCK_CHANGE_PREEMPT == (int)RAFT_ENTRY_PREEMPT, "one numbering");
static_assert((int)LOCK_CHANGE_RELEASE == (int)RAFT_ENTRY_RELEASE, "one numbering");
static_assert((int)LOCK_CHANGE_CANCEL == (int)RAFT_ENTRY_CANCEL, "one numbering");
static_assert((int)LOCK_CHANGE_OPEN == (int)RAFT_ENTRY_OPEN, "one numbering");
static_assert((int)LOCK_CHANGE_CLOSE == (int)RAFT_ENTRY_CLOSE, "one numbering");
static_assert((int)LOCK_CHANGE_EXPIRE == (int)RAFT_ENTRY_EXPIRE, "one numbering");
static_assert((int)LOCK_CHANGE_WAIT == (int)RAFT_ENTRY_WAIT, "one numbering");
static_assert((int)LOCK_CHANGE_LEAVE == (int)RAFT_ENTRY_LEAVE, "one numbering");
static_assert((int)LOCK_CHANGE_KEEP == (int)RAFT_ENTRY_KEEP, "one numbering");
static_assert((int)LOCK_CHANGE_GRANT == (int)RAFT_ENTRY_GRANT, "one numbering");
static_assert((int)LOCK_CHANGE_BREAK == (int)RAFT_ENTRY_BREAK, "one numbering");

static bool describe_change(const struct raft_entry *entry, struct entry_columns *columns)
{
        struct lock_change change;

        if (!lock_change_get((enum lock_change_kind)entry->kind, entry->body, entry->size, &change))
                return false;
        columns->lock = change.name;
        columns->further = change.further;
        columns->client = change.client;
        columns->token = lock_change_token(&change, entry->index);
        return true;
}

static bool describe_configuration(const struct raft_entry *entry)
{
        struct raft_configuration *configuration = raft_configuration_get(entry->index, entry->body, entry->size);
        bool valid = configuration;

        free(configuration);
        return valid;
}

bool entry_describe(const struct raft_entry *entry, struct entry_columns *ret_columns)
{
        struct directory_change address;

        *ret_columns = (struct entry_columns){ .kind = raft_entry_kind_name(entry->kind) };
        switch (entry->kind) {
        case RAFT_ENTRY_NOOP:
                return entry->size == 0;
        case RAFT_ENTRY_CONFIGURATION:
                return describe_configuration(entry);
        case RAFT_ENTRY_ADDRESS:
                return directory_change_get(entry->body, entry->size, &address);
        case RAFT_ENTRY_CLIENT:
        case RAFT_ENTRY_PREEMPT:
        case RAFT_ENTRY_RELEASE:
        case RAFT_ENTRY_CANCEL:
        case RAFT_ENTRY_OPEN:
        case RAFT_ENTRY_CLOSE:
        case RAFT_ENTRY_EXPIRE:
        case RAFT_ENTRY_WAIT:
        case RAFT_ENTRY_LEAVE:
        case RAFT_ENTRY_KEEP:
        case RAFT_ENTRY_GRANT:
        case RAFT_ENTRY_BREAK:
                return describe_change(entry, ret_columns);
#if RAFT_FEATURE_LEVEL > 1
        case RAFT_ENTRY_NEXT:
                return entry->size == 0;
#endif
        }
        return false;
}

static const char *standing_of(const struct raft_member *member)
{
        if (member->witness)
                return " (witness)";
        if (member->standing != RAFT_VOTER)
                return " (learner)";
        return member->preferred ? " (preferred)" : "";
}

/* As many of them as there is room for, and how many there are when that is not all. */
static void detail_configuration(const struct raft_entry *entry, char detail[LIMIT_REASON_BYTES + 1])
{
        struct raft_configuration *configuration = raft_configuration_get(entry->index, entry->body, entry->size);
        size_t used, room = LIMIT_REASON_BYTES + 1 - sizeof(", ... of 18446744073709551615");

        assert(configuration);
        used = (size_t)snprintf(detail, LIMIT_REASON_BYTES + 1, "level %u:", configuration->level);
        for (size_t i = 0; i < configuration->count; i++) {
                const struct raft_member *member = &configuration->members[i];
                char text[LIMIT_NODE_NAME_BYTES + 16];
                int size = snprintf(text, sizeof(text), "%s %s%s", i > 0 ? "," : "", member->name, standing_of(member));

                if (used + (size_t)size > room) {
                        (void)snprintf(detail + used, LIMIT_REASON_BYTES + 1 - used, ", ... of %zu", configuration->count);
                        break;
                }
                memcpy(detail + used, text, (size_t)size + 1);
                used += (size_t)size;
        }
        free(configuration);
}

static void detail_address(const struct raft_entry *entry, const struct raft_configuration *members, char detail[LIMIT_REASON_BYTES + 1])
{
        struct directory_change change;
        bool valid = directory_change_get(entry->body, entry->size, &change);
        const struct raft_member *member;
        char name[LIMIT_NODE_NAME_BYTES + 1];

        assert(valid);
        member = raft_configuration_find(members, change.node);
        if (member)
                memcpy(name, member->name, sizeof(name));
        else
                (void)snprintf(name, sizeof(name), "node %" PRIu64, change.node);
        /* An address may be longer than there is room for. */
        if (snprintf(detail, LIMIT_REASON_BYTES + 1, "%s at %s%s", name, change.address, change.away ? ", stopped" : "") > LIMIT_REASON_BYTES)
                (void)snprintf(detail, LIMIT_REASON_BYTES + 1, "%s%s", name, change.away ? ", stopped" : "");
}

/* Not in the middle of a character, where there was no room for all of it. */
static void end_cleanly(char detail[LIMIT_REASON_BYTES + 1], size_t size)
{
        for (size = MIN(size, (size_t)LIMIT_REASON_BYTES); !name_is_clean_utf8(detail, size) && size > 0;)
                detail[--size] = 0;
}

/* By whom, and why. */
static void detail_break(const struct raft_entry *entry, char detail[LIMIT_REASON_BYTES + 1])
{
        struct lock_change change;
        struct holder holder;
        bool valid = lock_change_get(LOCK_CHANGE_BREAK, entry->body, entry->size, &change) && holder_get(change.holder, &holder);
        size_t size;

        assert(valid);
        size = (size_t)snprintf(detail, LIMIT_REASON_BYTES + 1, "%s%s%s%s: %s", change.now ? "at once, " : "", change.principal.text, *holder.host ? " on " : "", holder.host, holder.note);
        end_cleanly(detail, size);
}

static void detail_several(struct entry_columns *columns, const struct lock_name *about, char detail[LIMIT_REASON_BYTES + 1])
{
        struct lock_name name = columns->lock;
        size_t size = 0;

        do
                if (!lock_name_equal(&name, about) && size <= LIMIT_REASON_BYTES)
                        size += (size_t)snprintf(detail + size, LIMIT_REASON_BYTES + 1 - size, "%s%s", size > 0 ? ", " : "with ", name.text);
        while (names_view_take(&columns->further, &name));
        end_cleanly(detail, size);
}

void entry_detail(const struct raft_entry *entry, const struct raft_configuration *members, const struct lock_name *about, char detail[LIMIT_REASON_BYTES + 1])
{
        struct entry_columns columns;

        detail[0] = 0;
        if (entry->kind == RAFT_ENTRY_CONFIGURATION)
                detail_configuration(entry, detail);
        else if (entry->kind == RAFT_ENTRY_BREAK)
                detail_break(entry, detail);
        else if (entry->kind == RAFT_ENTRY_ADDRESS)
                detail_address(entry, members, detail);
        else if (entry_describe(entry, &columns) && columns.further.count > 0)
                detail_several(&columns, about, detail);
}
