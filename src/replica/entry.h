/* entry.h - what an entry of the log says, for the columns of the log table and
 * for checking entries before they are appended. Pure, and safe in any thread. */
#pragma once

#include <stdbool.h>

#include "base/name.h"
#include "raft/entry.h"

struct entry_columns {
        const char *kind;
        struct lock_name lock;               /* size 0: none */
        struct client_id client;             /* size 0: none */
        uint64_t token;                      /* 0: none */
};

/* Decodes the body. False: not well formed, or of an unknown kind. */
bool entry_describe(const struct raft_entry *entry, struct entry_columns *ret_columns);
