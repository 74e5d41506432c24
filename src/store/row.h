/* row.h - rows to entries and records, and back. Internal to store/.
 *
 * The body is authoritative; the columns beside it are for people, and whoever
 * reads a row compares them with what the body says. */
#pragma once

#include "base/bytes.h"
#include "store/database.h"
#include "store/store.h"

#define ROW_REASON_BYTES 200

/* Binds an entry to STATEMENT_LOG_APPEND, with texts that stay in *columns until it has run. False: describe did not know it. */
bool row_bind_entry(sqlite3_stmt *statement, const struct raft_entry *entry, store_describe describe, struct store_columns *columns);

/* The entry of a row of LOG_COLUMNS; the caller frees. NULL: the row is not what dlock wrote, and why. */
struct raft_entry *row_read_entry(sqlite3_stmt *statement, store_describe describe, char reason[ROW_REASON_BYTES]);

/* Points into the row, valid until the next step. False: not a possible record. */
bool row_read_record(sqlite3_stmt *statement, enum raft_table table, struct raft_record *ret_record);

/* True for a record within the limits of raft/entry.h, with a body. */
bool row_record_is_sound(const struct raft_record *record);

struct row_meta {
        struct store_identity identity;
        struct raft_hard_state hard;
        struct raft_base base;               /* configuration points into the configuration given */
};

/* Reads the meta row; the configuration's bytes go to configuration. SQLITE_CORRUPT: it is not one of ours. */
int row_read_meta(struct database *database, struct row_meta *ret_meta, struct bytes *configuration);

/* Oldest and newest index of the log (base + 1 and base when it is empty), and the base. */
struct row_bounds {
        uint64_t first, last, base;
};

int row_read_bounds(struct database *database, struct row_bounds *ret_bounds);

/* Entries that were read, owned. All zero is empty. */
struct row_list {
        struct raft_entry **entries;
        size_t count, capacity, bytes;
};

/* Takes the entry. */
void row_list_add(struct row_list *list, struct raft_entry *entry);
void row_list_done(struct row_list *list);
