/* database.h - one SQLite connection and its statements. Internal to store/.
 *
 * A connection belongs to one thread at a time. All SQL that runs on a healthy
 * database is in the one table in statements.c; a statement is prepared at its
 * first use and kept. Functions return SQLite's codes; they become -errno and
 * words where the room ends. */
#pragma once

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "raft/entry.h"

enum statement {
        STATEMENT_BEGIN_READ,
        STATEMENT_BEGIN_WRITE,
        STATEMENT_COMMIT,
        STATEMENT_ROLLBACK,

        STATEMENT_META_READ,
        STATEMENT_META_CREATE,
        STATEMENT_META_SET_IDENTITY,
        STATEMENT_META_SET_HARD_STATE,
        STATEMENT_META_SET_BASE,

        STATEMENT_LOG_APPEND,
        STATEMENT_LOG_TRUNCATE,
        STATEMENT_LOG_TRIM,
        STATEMENT_LOG_CLEAR,
        STATEMENT_LOG_TERM,
        STATEMENT_LOG_BOUNDS,
        STATEMENT_LOG_READ,
        STATEMENT_LOG_HISTORY,

        STATEMENT_LOCK_PUT,
        STATEMENT_LOCK_DELETE,
        STATEMENT_LOCK_LIST,
        STATEMENT_LOCK_STAGE,
        STATEMENT_LOCK_STAGE_CLEAR,
        STATEMENT_CLIENT_PUT,
        STATEMENT_CLIENT_DELETE,
        STATEMENT_CLIENT_LIST,
        STATEMENT_CLIENT_STAGE,
        STATEMENT_CLIENT_STAGE_CLEAR,
        STATEMENT_REQUEST_PUT,
        STATEMENT_REQUEST_DELETE,
        STATEMENT_REQUEST_LIST,
        STATEMENT_REQUEST_STAGE,
        STATEMENT_REQUEST_STAGE_CLEAR,
        STATEMENT_ADDRESS_PUT,
        STATEMENT_ADDRESS_DELETE,
        STATEMENT_ADDRESS_LIST,
        STATEMENT_ADDRESS_STAGE,
        STATEMENT_ADDRESS_STAGE_CLEAR,
        STATEMENT_SESSION_PUT,
        STATEMENT_SESSION_DELETE,
        STATEMENT_SESSION_LIST,
        STATEMENT_SESSION_STAGE,
        STATEMENT_SESSION_STAGE_CLEAR,
        STATEMENT_WAITER_PUT,
        STATEMENT_WAITER_DELETE,
        STATEMENT_WAITER_LIST,
        STATEMENT_WAITER_STAGE,
        STATEMENT_WAITER_STAGE_CLEAR,
        STATEMENT_SHARE_PUT,
        STATEMENT_SHARE_DELETE,
        STATEMENT_SHARE_LIST,
        STATEMENT_SHARE_STAGE,
        STATEMENT_SHARE_STAGE_CLEAR,
        STATEMENT_PERIOD_PUT,
        STATEMENT_PERIOD_DELETE,
        STATEMENT_PERIOD_LIST,
        STATEMENT_PERIOD_STAGE,
        STATEMENT_PERIOD_STAGE_CLEAR,
        STATEMENT_DELAY_PUT,
        STATEMENT_DELAY_DELETE,
        STATEMENT_DELAY_LIST,
        STATEMENT_DELAY_STAGE,
        STATEMENT_DELAY_STAGE_CLEAR,
        STATEMENT_PROMISE_PUT,
        STATEMENT_PROMISE_DELETE,
        STATEMENT_PROMISE_LIST,
        STATEMENT_PROMISE_STAGE,
        STATEMENT_PROMISE_STAGE_CLEAR,

        STATEMENT_COUNT,
};

extern const char *const statement_texts[STATEMENT_COUNT];

/* The statements of one table of the replicated state. */
struct state_table {
        enum raft_table table;
        enum statement put, delete, list, stage, stage_clear;
};

#define STATE_TABLE_COUNT 10
extern const struct state_table state_tables[STATE_TABLE_COUNT];
/* NULL: no such table. */
const struct state_table *state_table_of(enum raft_table table);

struct database {
        sqlite3 *handle;                     /* NULL: not open */
        sqlite3_stmt *statements[STATEMENT_COUNT];
        int error_number;                    /* errno when a statement failed last */
};

#define DATABASE_PAGE_BYTES 4096

/* The one connection that writes: WAL, synchronous=FULL, no automatic checkpoint.
 * create: makes the file; otherwise it must be there. */
int database_open_writer(struct database *database, const char *path, bool create);
/* Moves pages from the WAL into the file, nothing else. */
int database_open_checkpointer(struct database *database, const char *path);
int database_open_reader(struct database *database, const char *path);
/* An empty file that is to become a copy of a database: nothing is synced, and a crash leaves a part of one. */
int database_open_copy(struct database *database, const char *path);
/* Looks at a database without creating or changing any file beside it; nobody else may have it open. */
int database_open_look(struct database *database, const char *path, bool wal_is_there);
/* Accepts a database that is not open, also after a failed open. */
void database_close(struct database *database);
/* As database_close, but leaves the WAL alone, also as the last connection. */
void database_close_untouched(struct database *database);

/* The statement, ready for binding; NULL: it could not be prepared, database->handle knows why. */
sqlite3_stmt *database_statement(struct database *database, enum statement which);
/* Prepares every statement: a table or column that is missing shows here. */
int database_prepare_all(struct database *database);
/* Runs a bound statement that returns no row. */
int database_run(struct database *database, enum statement which);
/* Ends a statement whose rows were read; the cleanup attribute's form takes a variable. */
void database_reset(sqlite3_stmt *statement);
static inline void cleanup_reset(sqlite3_stmt **statement)
{
        database_reset(*statement);
}
#define _cleanup_reset_ _cleanup_(cleanup_reset)

/* Ends whatever transaction is open, without changing anything. */
void database_rollback(struct database *database);

/* errno behind the last failure; 0: the system was not to blame. */
int database_error_number(struct database *database);
/* SQLite's words, and the system's when it was asked something. Returns buffer. */
char *database_explain(struct database *database, char *buffer, size_t size);

/* SQLite knows signed numbers; ours stay below 2^63, and bits are kept if one does not. */
static inline int bind_u64(sqlite3_stmt *statement, int place, uint64_t value)
{
        return sqlite3_bind_int64(statement, place, (sqlite3_int64)value);
}

static inline uint64_t column_u64(sqlite3_stmt *statement, int column)
{
        return (uint64_t)sqlite3_column_int64(statement, column);
}

/* The text of a column, NULL for NULL or a text with a zero in it. */
const char *column_text(sqlite3_stmt *statement, int column);
