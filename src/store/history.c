/* The history thread: log rows for people, a bounded look at a time. */
#include <stdio.h>
#include <stdlib.h>

#include "store/internal.h"

/* Rows looked at for one page: some 20 ms, so that one question does not hold the next. */
#define LOOK_ROWS 100000

static int collect(struct store *store, sqlite3_stmt *statement, const struct read_job *job, struct event *event, char reason[ROW_REASON_BYTES])
{
        struct raft_entry *entry;
        int rc = SQLITE_DONE;

        while (event->rows.count < job->count_max && event->rows.bytes < LIMIT_CLIENT_REPLY_BYTES && (rc = sqlite3_step(statement)) == SQLITE_ROW) {
                entry = row_read_entry(statement, store->describe, reason);
                if (!entry)
                        return SQLITE_CORRUPT;
                row_list_add(&event->rows, entry);
                event->event.looked_until = entry->index;
        }
        return rc;
}

static int read_history(struct store *store, const struct read_job *job, struct event *event, char reason[ROW_REASON_BYTES])
{
        struct database *database = &store->history_database;
        _cleanup_reset_ sqlite3_stmt *statement = NULL;
        struct row_bounds bounds;
        uint64_t after, until;
        int rc;

        rc = row_read_bounds(database, &bounds);
        if (rc != SQLITE_OK)
                return rc;
        after = MAX(job->from, bounds.first - 1);
        until = after < bounds.last && bounds.last - after > LOOK_ROWS ? after + LOOK_ROWS : bounds.last;
        event->event.log_first = bounds.first;
        event->event.looked_until = after;
        statement = database_statement(database, STATEMENT_LOG_HISTORY);
        if (!statement)
                return sqlite3_extended_errcode(database->handle);
        (void)bind_u64(statement, 1, MIN(after, (uint64_t)INT64_MAX));
        (void)bind_u64(statement, 2, until);
        if (job->lock)
                (void)sqlite3_bind_text(statement, 3, job->lock, -1, SQLITE_STATIC);
        (void)sqlite3_bind_int64(statement, 4, (sqlite3_int64)job->count_max);
        rc = collect(store, statement, job, event, reason);
        if (rc != SQLITE_DONE && rc != SQLITE_ROW)
                return rc;
        /* The rows ran out, not the page: everything until there was looked at. */
        if (rc == SQLITE_DONE && event->rows.count < job->count_max && after < until)
                event->event.looked_until = until;
        event->event.more = event->event.looked_until < bounds.last;
        return SQLITE_OK;
}

static void answer(struct store *store, const struct read_job *read)
{
        if (reader_connect(store, &store->history_database, read->cookie) == SQLITE_OK)
                reader_answer(store, &store->history_database, read, STORE_HISTORY, read_history);
}

void history_run(void *context, struct job_list *jobs)
{
        read_jobs_run(context, jobs, answer);
}
