/* One batch as statements, in the order of its fields, inside the writer's transaction. */
#include <assert.h>
#include <stdio.h>

#include "store/internal.h"
#include "store/schema.h"

static int set_identity(struct database *database, const struct store_identity *identity)
{
        sqlite3_stmt *statement = database_statement(database, STATEMENT_META_SET_IDENTITY);
        char cluster[ID128_TEXT_BYTES], incarnation[ID128_TEXT_BYTES];

        if (!statement)
                return sqlite3_extended_errcode(database->handle);
        if (!id128_is_null(identity->cluster))
                (void)sqlite3_bind_text(statement, 1, id128_format(identity->cluster, cluster), -1, SQLITE_STATIC);
        (void)sqlite3_bind_text(statement, 2, id128_format(identity->incarnation, incarnation), -1, SQLITE_STATIC);
        (void)bind_u64(statement, 3, identity->node);
        (void)sqlite3_bind_text(statement, 4, identity->name, -1, SQLITE_STATIC);
        return database_run(database, STATEMENT_META_SET_IDENTITY);
}

static int set_hard_state(struct database *database, const struct raft_hard_state *hard)
{
        sqlite3_stmt *statement = database_statement(database, STATEMENT_META_SET_HARD_STATE);

        if (!statement)
                return sqlite3_extended_errcode(database->handle);
        (void)bind_u64(statement, 1, hard->term);
        (void)bind_u64(statement, 2, hard->vote);
        return database_run(database, STATEMENT_META_SET_HARD_STATE);
}

static int truncate_log(struct writer *writer, uint64_t from)
{
        sqlite3_stmt *statement = database_statement(&writer->database, STATEMENT_LOG_TRUNCATE);

        /* P4: what is committed is never truncated, and the base is committed. */
        assert(from > writer->base_index);
        if (!statement)
                return sqlite3_extended_errcode(writer->database.handle);
        (void)bind_u64(statement, 1, from);
        if (from <= writer->log_last)
                writer->log_last = from - 1;
        return database_run(&writer->database, STATEMENT_LOG_TRUNCATE);
}

static int clear_log(struct writer *writer, const struct raft_base *base)
{
        int rc = database_run(&writer->database, STATEMENT_LOG_CLEAR);

        assert(base);
        assert(base->index > writer->log_last);
        writer->log_last = base->index;
        return rc == SQLITE_OK ? schema_claim(&writer->database) : rc;
}

static int append_entry(struct store *store, const struct raft_entry *entry)
{
        struct writer *writer = &store->writer;
        sqlite3_stmt *statement = database_statement(&writer->database, STATEMENT_LOG_APPEND);
        struct store_columns columns;

        assert(entry->index == writer->log_last + 1);
        assert(entry->size <= LIMIT_ENTRY_BYTES);
        if (!statement)
                return sqlite3_extended_errcode(writer->database.handle);
        if (!row_bind_entry(statement, entry, store->describe, &columns)) {
                (void)snprintf(writer->words, sizeof(writer->words), "entry %llu has kind %d, or a body, that this dlockd does not know:"
                               " install the version the other nodes have", (unsigned long long)entry->index, (int)entry->kind);
                return SQLITE_MISMATCH;
        }
        writer->log_last = entry->index;
        return database_run(&writer->database, STATEMENT_LOG_APPEND);
}

int batch_set_base(struct writer *writer, const struct raft_base *base)
{
        sqlite3_stmt *statement = database_statement(&writer->database, STATEMENT_META_SET_BASE);

        assert(base->index >= writer->base_index);
        if (!statement)
                return sqlite3_extended_errcode(writer->database.handle);
        (void)bind_u64(statement, 1, base->index);
        (void)bind_u64(statement, 2, base->term);
        (void)bind_u64(statement, 3, base->cluster_ms);
        (void)bind_u64(statement, 4, base->configuration_index);
        if (base->configuration_size > 0)
                (void)sqlite3_bind_blob(statement, 5, base->configuration, (int)base->configuration_size, SQLITE_STATIC);
        writer->base_index = base->index;
        return database_run(&writer->database, STATEMENT_META_SET_BASE);
}

int batch_put_record(struct database *database, enum statement which, const struct raft_record *record)
{
        sqlite3_stmt *statement = database_statement(database, which);

        assert(row_record_is_sound(record));
        if (!statement)
                return sqlite3_extended_errcode(database->handle);
        (void)sqlite3_bind_text(statement, 1, record->key, -1, SQLITE_STATIC);
        (void)sqlite3_bind_text(statement, 2, record->label, -1, SQLITE_STATIC);
        (void)bind_u64(statement, 3, record->number);
        (void)sqlite3_bind_blob(statement, 4, record->body, (int)record->body_size, SQLITE_STATIC);
        return database_run(database, which);
}

static int apply_record(struct database *database, const struct raft_record *record)
{
        const struct state_table *table = state_table_of(record->table);
        sqlite3_stmt *statement;

        assert(table);
        if (record->body)
                return batch_put_record(database, table->put, record);
        statement = database_statement(database, table->delete);
        if (!statement)
                return sqlite3_extended_errcode(database->handle);
        (void)sqlite3_bind_text(statement, 1, record->key, -1, SQLITE_STATIC);
        return database_run(database, table->delete);
}

static int trim_log(struct writer *writer, uint64_t to)
{
        sqlite3_stmt *statement = database_statement(&writer->database, STATEMENT_LOG_TRIM);

        /* What the tables do not hold yet stays in the log. */
        assert(to <= writer->base_index + 1);
        if (!statement)
                return sqlite3_extended_errcode(writer->database.handle);
        (void)bind_u64(statement, 1, to);
        (void)bind_u64(statement, 2, LIMIT_TRIM_PER_BATCH);
        return database_run(&writer->database, STATEMENT_LOG_TRIM);
}

static int apply_records(struct writer *writer, const struct store_batch *batch)
{
        int rc = SQLITE_OK;

        for (size_t i = 0; rc == SQLITE_OK && i < batch->record_count; i++)
                rc = apply_record(&writer->database, &batch->records[i]);
        if (rc == SQLITE_OK && batch->base) {
                assert(batch->base->index <= writer->log_last);
                rc = batch_set_base(writer, batch->base);
        }
        return rc;
}

int batch_carry_out(struct store *store, const struct write_job *job)
{
        const struct store_batch *batch = &job->batch;
        struct writer *writer = &store->writer;
        int rc = SQLITE_OK;

        if (batch->identity)
                rc = set_identity(&writer->database, batch->identity);
        if (rc == SQLITE_OK && batch->hard)
                rc = set_hard_state(&writer->database, batch->hard);
        if (rc == SQLITE_OK && batch->clear_log)
                rc = clear_log(writer, batch->base);
        if (rc == SQLITE_OK && batch->truncate_from)
                rc = truncate_log(writer, batch->truncate_from);
        for (size_t i = 0; rc == SQLITE_OK && i < batch->entry_count; i++)
                rc = append_entry(store, batch->entries[i]);
        if (rc == SQLITE_OK)
                rc = apply_records(writer, batch);
        if (rc == SQLITE_OK && batch->trim_to)
                rc = trim_log(writer, batch->trim_to);
        return rc;
}
