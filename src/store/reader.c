/* The reader thread: old log entries and snapshots, for followers that are behind. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/internal.h"

/* The connection comes with the first question: a node that nobody asks keeps the memory. */
int reader_connect(struct store *store, struct database *database, uint64_t cookie)
{
        int rc;

        if (database->handle)
                return SQLITE_OK;
        rc = database_open_reader(database, store->path);
        if (rc != SQLITE_OK) {
                reader_post_failure(store, database, cookie, "opened");
                database_close(database);
        }
        return rc;
}

void reader_post_failure(struct store *store, struct database *database, uint64_t cookie, const char *what)
{
        char words[256];

        event_post_text(store, STORE_READ_FAILED, cookie, "%s cannot be %s: %s", store->path, what,
                        database_explain(database, words, sizeof(words)));
}

/* Entries from the first index on, without a gap. Nothing when the first is not there. */
static int collect(struct store *store, sqlite3_stmt *statement, const struct read_job *job, struct row_list *rows, char reason[ROW_REASON_BYTES])
{
        struct raft_entry *entry;
        int rc;

        while ((rc = sqlite3_step(statement)) == SQLITE_ROW) {
                if (rows->count == 0 && column_u64(statement, 0) != job->from)
                        return SQLITE_DONE;
                entry = row_read_entry(statement, store->describe, reason);
                if (!entry)
                        return SQLITE_CORRUPT;
                if (rows->count > 0 && rows->bytes + sizeof(*entry) + entry->size > job->bytes_max) {
                        free(entry);
                        return SQLITE_DONE;
                }
                assert(entry->index == job->from + rows->count);
                row_list_add(rows, entry);
        }
        return rc;
}

static int read_log(struct store *store, const struct read_job *job, struct event *event, char reason[ROW_REASON_BYTES])
{
        struct database *database = &store->reader.database;
        _cleanup_reset_ sqlite3_stmt *statement = NULL;
        struct row_bounds bounds;
        int rc;

        rc = row_read_bounds(database, &bounds);
        if (rc != SQLITE_OK)
                return rc;
        event->event.log_first = bounds.first;
        statement = database_statement(database, STATEMENT_LOG_READ);
        if (!statement)
                return sqlite3_extended_errcode(database->handle);
        (void)bind_u64(statement, 1, job->from);
        (void)sqlite3_bind_int64(statement, 2, (sqlite3_int64)job->count_max);
        rc = collect(store, statement, job, &event->rows, reason);
        return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

void reader_answer(struct store *store, struct database *database, const struct read_job *job, enum store_event_kind kind, reader_read_fn *read)
{
        struct event *event = event_new(kind, job->cookie);
        char reason[ROW_REASON_BYTES] = "";
        int rc;

        rc = database_run(database, STATEMENT_BEGIN_READ);
        if (rc == SQLITE_OK)
                rc = read(store, job, event, reason);
        if (rc == SQLITE_OK) {
                event_post(store, event);
        } else {
                event_free(event);
                if (*reason)
                        event_post_text(store, STORE_READ_FAILED, job->cookie, "%s is damaged: %s", store->path, reason);
                else
                        reader_post_failure(store, database, job->cookie, "read");
        }
        database_rollback(database);
}

static void answer(struct store *store, const struct read_job *job)
{
        switch (job->kind) {
        case READ_SNAPSHOT_CHUNK:
                snapshot_chunk(store, job);
                return;
        case READ_SNAPSHOT_DROP:
                snapshot_drop(store, job->snapshot);
                return;
        case READ_LOG:
                if (reader_connect(store, &store->reader.database, job->cookie) == SQLITE_OK)
                        reader_answer(store, &store->reader.database, job, STORE_LOG, read_log);
                return;
        case READ_SNAPSHOT_MAKE:
                if (reader_connect(store, &store->reader.database, job->cookie) == SQLITE_OK)
                        snapshot_make(store, job);
                return;
        case READ_HISTORY:
        case READ_BACKUP_MAKE:
        case READ_BACKUP_CHUNK:
        case READ_BACKUP_DROP:
                break;
        }
        abort();
}

void read_jobs_run(struct store *store, struct job_list *jobs, read_job_fn *run)
{
        struct read_job *read;
        struct job *job;

        while ((job = STAILQ_FIRST(jobs))) {
                STAILQ_REMOVE_HEAD(jobs, next);
                read = (struct read_job *)job;
                run(store, read);
                free(read->lock);
                free(read);
        }
}

void reader_run(void *context, struct job_list *jobs)
{
        read_jobs_run(context, jobs, answer);
}

void reader_done(struct reader *reader)
{
        spool_list_done(&reader->spools);
        database_close(&reader->database);
}
