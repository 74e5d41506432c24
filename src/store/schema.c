#include "store/schema.h"

#include <stdio.h>

#define TEXT_OF(value) TEXT_OF_(value)
#define TEXT_OF_(value) #value

/* Keys are texts without numbers to count rows by, and rows are small: the tables are their own index. */
#define STATE_TABLES(prefix)                                                                                   \
        "CREATE TABLE " prefix "client (id TEXT PRIMARY KEY, principal TEXT NOT NULL, last_index INTEGER NOT NULL," \
        " body BLOB NOT NULL) STRICT, WITHOUT ROWID;"                                                          \
        "CREATE TABLE " prefix "lock (name TEXT PRIMARY KEY, client TEXT NOT NULL, token INTEGER NOT NULL,"    \
        " body BLOB NOT NULL) STRICT, WITHOUT ROWID;"                                                          \
        "CREATE TABLE " prefix "share (id TEXT PRIMARY KEY, lock TEXT NOT NULL, token INTEGER NOT NULL,"       \
        " body BLOB NOT NULL) STRICT, WITHOUT ROWID;"                                                          \
        "CREATE TABLE " prefix "session (id TEXT PRIMARY KEY, client TEXT NOT NULL, token INTEGER NOT NULL,"  \
        " body BLOB NOT NULL) STRICT, WITHOUT ROWID;"                                                          \
        "CREATE TABLE " prefix "waiter (id TEXT PRIMARY KEY, lock TEXT NOT NULL, number INTEGER NOT NULL,"     \
        " body BLOB NOT NULL) STRICT, WITHOUT ROWID;"                                                          \
        "CREATE TABLE " prefix "period (lock TEXT PRIMARY KEY, client TEXT NOT NULL, token INTEGER NOT NULL," \
        " body BLOB NOT NULL) STRICT, WITHOUT ROWID;"                                                          \
        "CREATE TABLE " prefix "delay (lock TEXT PRIMARY KEY, client TEXT NOT NULL, token INTEGER NOT NULL,"  \
        " body BLOB NOT NULL) STRICT, WITHOUT ROWID;"                                                          \
        "CREATE TABLE " prefix "promise (what TEXT PRIMARY KEY, label TEXT NOT NULL, longest_ms INTEGER NOT NULL," \
        " body BLOB NOT NULL) STRICT, WITHOUT ROWID;"                                                          \
        "CREATE TABLE " prefix "request (handle TEXT PRIMARY KEY, lock TEXT NOT NULL, entry_index INTEGER NOT NULL," \
        " body BLOB NOT NULL) STRICT, WITHOUT ROWID;"                                                          \
        "CREATE TABLE " prefix "address (node TEXT PRIMARY KEY, address TEXT NOT NULL, entry_index INTEGER NOT NULL," \
        " body BLOB NOT NULL) STRICT, WITHOUT ROWID;"

/* What brings version N to N + 1, at place N. A new file goes through all of
 * them, so that an upgraded one and a new one are the same. */
static const char *const steps[STORE_SCHEMA_VERSION] = {
        "CREATE TABLE meta (one INTEGER PRIMARY KEY CHECK (one = 1),"
        " cluster TEXT, incarnation TEXT NOT NULL, node INTEGER NOT NULL DEFAULT 0, name TEXT NOT NULL,"
        " term INTEGER NOT NULL DEFAULT 0, vote INTEGER NOT NULL DEFAULT 0,"
        " base_index INTEGER NOT NULL DEFAULT 0, base_term INTEGER NOT NULL DEFAULT 0, base_cluster_ms INTEGER NOT NULL DEFAULT 0,"
        " configuration_index INTEGER NOT NULL DEFAULT 0, configuration BLOB) STRICT;"
        "CREATE TABLE log (idx INTEGER PRIMARY KEY CHECK (idx > 0), term INTEGER NOT NULL CHECK (term > 0), kind TEXT NOT NULL,"
        " lock TEXT, client TEXT, token INTEGER, cluster_ms INTEGER NOT NULL, wall_ms INTEGER NOT NULL, body BLOB NOT NULL) STRICT;"
        STATE_TABLES("") STATE_TABLES("stage_")
        "PRAGMA application_id = " TEXT_OF(STORE_APPLICATION_ID) ";",
};

int schema_claim(struct database *database)
{
        return sqlite3_exec(database->handle, "PRAGMA application_id = " TEXT_OF(STORE_APPLICATION_ID), NULL, NULL, NULL);
}

static int run_steps(struct database *database, int version)
{
        char pragma[64];
        int rc = SQLITE_OK;

        for (; rc == SQLITE_OK && version < STORE_SCHEMA_VERSION; version++)
                rc = sqlite3_exec(database->handle, steps[version], NULL, NULL, NULL);
        if (rc != SQLITE_OK)
                return rc;
        (void)snprintf(pragma, sizeof(pragma), "PRAGMA user_version = %d", STORE_SCHEMA_VERSION);
        return sqlite3_exec(database->handle, pragma, NULL, NULL, NULL);
}

int schema_upgrade(struct database *database, int version)
{
        int rc;

        if (version == STORE_SCHEMA_VERSION)
                return SQLITE_OK;
        rc = database_run(database, STATEMENT_BEGIN_WRITE);
        if (rc == SQLITE_OK)
                rc = run_steps(database, version);
        if (rc == SQLITE_OK)
                rc = database_run(database, STATEMENT_COMMIT);
        return rc;
}

static int create_meta(struct database *database, const struct store_identity *identity)
{
        sqlite3_stmt *statement = database_statement(database, STATEMENT_META_CREATE);
        char incarnation[ID128_TEXT_BYTES];
        int rc;

        if (!statement)
                return sqlite3_extended_errcode(database->handle);
        rc = sqlite3_bind_text(statement, 1, id128_format(identity->incarnation, incarnation), -1, SQLITE_STATIC);
        if (rc == SQLITE_OK)
                rc = sqlite3_bind_text(statement, 2, identity->name, -1, SQLITE_STATIC);
        if (rc == SQLITE_OK)
                rc = database_run(database, STATEMENT_META_CREATE);
        return rc;
}

static int fill(struct database *database, const struct store_identity *identity)
{
        int rc;

        rc = schema_upgrade(database, 0);
        if (rc == SQLITE_OK)
                rc = create_meta(database, identity);
        if (rc == SQLITE_OK)
                rc = sqlite3_wal_checkpoint_v2(database->handle, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
        return rc;
}

int schema_create(const char *path, const struct store_identity *identity, char error[512])
{
        struct database database = {};
        char words[256];
        int rc;

        rc = database_open_writer(&database, path, true);
        if (rc == SQLITE_OK)
                rc = fill(&database, identity);
        if (rc != SQLITE_OK)
                (void)snprintf(error, 512, "%.200s cannot be made: %s: make room or repair the disk, then start the node again", path, database_explain(&database, words, sizeof(words)));
        database_close(&database);
        return rc;
}

/* Names change hands, rows do not move: a table of millions is exchanged at once. */
#define SWAP(name)                                         \
        "ALTER TABLE " name " RENAME TO swap_" name ";"        \
        "ALTER TABLE stage_" name " RENAME TO " name ";"       \
        "ALTER TABLE swap_" name " RENAME TO stage_" name ";"

int schema_swap_stage(struct database *database)
{
        return sqlite3_exec(database->handle, SWAP("client") SWAP("session") SWAP("waiter") SWAP("period") SWAP("delay") SWAP("promise") SWAP("lock") SWAP("share") SWAP("request") SWAP("address"), NULL, NULL, NULL);
}
