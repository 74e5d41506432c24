/* entry.h - what an entry of the log says, for the columns of the log table and
 * for checking entries before they are appended. Pure, and safe in any thread. */
#pragma once

#include <stdbool.h>

#include "base/name.h"
#include "raft/configuration.h"
#include "raft/entry.h"

struct entry_columns {
        const char *kind;
        struct lock_name lock;               /* size 0: none */
        struct names_view further;           /* of several locks those behind the first: a part of the body */
        struct client_id client;             /* size 0: none */
        uint64_t token;                      /* 0: none */
};

/* Decodes the body. False: not well formed, or of an unknown kind. */
bool entry_describe(const struct raft_entry *entry, struct entry_columns *ret_columns);

/* What else an entry is about, for people: the members of a configuration; of an address the node, by the name that members has for it, and where
 * it is; of a break by whom and why; of several locks those beside about, the one that is spoken of. "": nothing. The entry is one that
 * entry_describe knows. */
void entry_detail(const struct raft_entry *entry, const struct raft_configuration *members, const struct lock_name *about, char detail[LIMIT_REASON_BYTES + 1]);
