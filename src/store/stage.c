/* A snapshot being received: its records wait in tables of their own until the
 * last one is there; a crash on the way leaves the old state in force (S2). */
#include <assert.h>
#include <stdio.h>

#include "store/internal.h"
#include "store/schema.h"

int stage_clear(struct database *database)
{
        int rc = SQLITE_OK;

        for (size_t i = 0; rc == SQLITE_OK && i < STATE_TABLE_COUNT; i++)
                rc = database_run(database, state_tables[i].stage_clear);
        return rc;
}

struct staging {
        struct database *database;
        int rc;
};

static bool stage_record(void *context, const struct raft_record *record)
{
        struct staging *staging = context;

        staging->rc = batch_put_record(staging->database, state_table_of(record->table)->stage, record);
        return staging->rc == SQLITE_OK;
}

static int stage_chunk(struct writer *writer, const struct write_job *job)
{
        struct staging staging = { .database = &writer->database, .rc = SQLITE_OK };

        if (store_snapshot_walk(job->chunk, job->chunk_size, &staging, stage_record) || staging.rc != SQLITE_OK)
                return staging.rc;
        (void)snprintf(writer->words, sizeof(writer->words), "a snapshot that was received is not well formed:"
                       " check that all nodes run versions that know each other");
        return SQLITE_MISMATCH;
}

/* Whether the log has the entry that the snapshot ends with. */
static int log_agrees(struct database *database, const struct raft_base *base, bool *ret_agrees)
{
        _cleanup_reset_ sqlite3_stmt *statement = database_statement(database, STATEMENT_LOG_TERM);
        int rc;

        if (!statement)
                return sqlite3_extended_errcode(database->handle);
        (void)bind_u64(statement, 1, base->index);
        rc = sqlite3_step(statement);
        if (rc != SQLITE_ROW && rc != SQLITE_DONE)
                return rc;
        *ret_agrees = rc == SQLITE_ROW && column_u64(statement, 0) == base->term;
        return SQLITE_OK;
}

/* What came before an entry both have is the same on both; without it nothing is known to be. */
static int cut_log(struct writer *writer, const struct raft_base *base)
{
        struct database *database = &writer->database;
        sqlite3_stmt *trim;
        bool agrees = false;
        int rc;

        rc = log_agrees(database, base, &agrees);
        if (rc != SQLITE_OK)
                return rc;
        if (!agrees) {
                writer->log_last = base->index;
                return database_run(database, STATEMENT_LOG_CLEAR);
        }
        trim = database_statement(database, STATEMENT_LOG_TRIM);
        if (!trim)
                return sqlite3_extended_errcode(database->handle);
        (void)bind_u64(trim, 1, base->index + 1);
        (void)bind_u64(trim, 2, base->index + 1);
        return database_run(database, STATEMENT_LOG_TRIM);
}

static int install(struct writer *writer, const struct raft_base *base)
{
        int rc;

        rc = schema_swap_stage(&writer->database);
        if (rc == SQLITE_OK)
                rc = stage_clear(&writer->database);
        if (rc == SQLITE_OK)
                rc = cut_log(writer, base);
        if (rc == SQLITE_OK)
                rc = batch_set_base(writer, base);
        return rc;
}

int stage_carry_out(struct store *store, const struct write_job *job)
{
        struct writer *writer = &store->writer;

        switch (job->kind) {
        case WRITE_STAGE_BEGIN:
                return stage_clear(&writer->database);
        case WRITE_STAGE_CHUNK:
                return stage_chunk(writer, job);
        case WRITE_STAGE_INSTALL:
                return install(writer, job->batch.base);
        case WRITE_BATCH:
        case WRITE_BACKUP:
                break;
        }
        abort();
}
