#include "replica/entry.h"

#include <assert.h>
#include <stdlib.h>

#include "lock/change.h"
#include "raft/configuration.h"
#include "replica/directory.h"

static_assert((int)LOCK_CHANGE_CLIENT == (int)RAFT_ENTRY_CLIENT, "one numbering");
static_assert((int)LOCK_CHANGE_PREEMPT == (int)RAFT_ENTRY_PREEMPT, "one numbering");
static_assert((int)LOCK_CHANGE_RELEASE == (int)RAFT_ENTRY_RELEASE, "one numbering");
static_assert((int)LOCK_CHANGE_CANCEL == (int)RAFT_ENTRY_CANCEL, "one numbering");
static_assert((int)LOCK_CHANGE_OPEN == (int)RAFT_ENTRY_OPEN, "one numbering");
static_assert((int)LOCK_CHANGE_CLOSE == (int)RAFT_ENTRY_CLOSE, "one numbering");
static_assert((int)LOCK_CHANGE_EXPIRE == (int)RAFT_ENTRY_EXPIRE, "one numbering");

static bool describe_change(const struct raft_entry *entry, struct entry_columns *columns)
{
        struct lock_change change;

        if (!lock_change_get((enum lock_change_kind)entry->kind, entry->body, entry->size, &change))
                return false;
        columns->lock = change.name;
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
                return describe_change(entry, ret_columns);
#if RAFT_FEATURE_LEVEL > 1
        case RAFT_ENTRY_NEXT:
                return entry->size == 0;
#endif
        }
        return false;
}
