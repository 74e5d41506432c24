/* The writer thread: what is queued is one transaction; what is committed is announced. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "store/internal.h"
#include "store/schema.h"

/* P8: nothing that was read is durable before it was synced; the process before
 * this one may have died between its write and its sync. A truncating checkpoint
 * syncs WAL and file, and says so. */
static int sync_what_is_there(struct database *database, const char *path, char error[512])
{
        char words[256];
        int rc;

        rc = sqlite3_wal_checkpoint_v2(database->handle, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
        if (rc == SQLITE_OK)
                return 0;
        if ((rc & 0xff) == SQLITE_BUSY) {
                (void)snprintf(error, 512, "%.200s is being read by another program, so it cannot be synced: end that program", path);
                return -EBUSY;
        }
        (void)snprintf(error, 512, "%.200s cannot be synced: %s: make room or repair the disk, then start the node again;"
                       " nothing acknowledged is lost", path, database_explain(database, words, sizeof(words)));
        return -EIO;
}

static int prepare(struct store *store, int version)
{
        struct writer *writer = &store->writer;
        struct row_bounds bounds;
        int rc;

        rc = schema_upgrade(&writer->database, version);
        if (rc == SQLITE_OK)
                rc = stage_clear(&writer->database);
        if (rc == SQLITE_OK)
                rc = row_read_bounds(&writer->database, &bounds);
        if (rc != SQLITE_OK)
                return rc;
        writer->base_index = bounds.base;
        writer->log_last = bounds.last;
        (void)sqlite3_wal_hook(writer->database.handle, checkpoint_note_frames, writer);
        return SQLITE_OK;
}

int writer_open(struct store *store, int version, char error[512])
{
        struct database *database = &store->writer.database;
        char words[256];
        int rc;

        rc = database_open_writer(database, store->path, false);
        if (rc == SQLITE_OK)
                rc = prepare(store, version);
        if (rc != SQLITE_OK) {
                (void)snprintf(error, 512, "%.200s cannot be opened for writing: %s: make room or repair what it says, then start"
                               " the node again; nothing acknowledged is lost", store->path, database_explain(database, words, sizeof(words)));
                return -EIO;
        }
        return sync_what_is_there(database, store->path, error);
}

static int carry_out(struct store *store, const struct write_job *job)
{
        switch (job->kind) {
        case WRITE_BATCH:
                return batch_carry_out(store, job);
        case WRITE_STAGE_BEGIN:
        case WRITE_STAGE_CHUNK:
        case WRITE_STAGE_INSTALL:
                return stage_carry_out(store, job);
        case WRITE_BACKUP:
                return SQLITE_OK;
        }
        abort();
}

static int carry_out_all(struct store *store, const struct job_list *jobs)
{
        struct job *job;
        int rc;

        rc = database_run(&store->writer.database, STATEMENT_BEGIN_WRITE);
        STAILQ_FOREACH(job, jobs, next) {
                if (rc != SQLITE_OK)
                        return rc;
                rc = carry_out(store, (const struct write_job *)job);
        }
        return rc == SQLITE_OK ? database_run(&store->writer.database, STATEMENT_COMMIT) : rc;
}

static const char *what_to_do(struct database *database, int rc)
{
        switch (rc & 0xff) {
        case SQLITE_FULL:
                return "make room there";
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
                return "end the other program that writes to it";
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
                return "check the disk; if the node refuses the file then, restore a backup or let it join again as a new one";
        default:
                break;
        }
        switch (database_error_number(database)) {
        case ENOSPC:
        case EDQUOT:
        case EFBIG:
                return "make room there";
        case EROFS:
        case EACCES:
        case EPERM:
                return "make it writable";
        default:
                return "check the disk";
        }
}

/* P5: a failed write is final. Nothing is tried again, the node starts again from its disk. */
void store_fail(struct store *store, struct database *database, int rc, const char *words)
{
        char buffer[256];

        if (atomic_exchange(&store->failed, true))
                return;
        if (words)
                event_post_text(store, STORE_FAILED, 0, "%s cannot take what it was given: %s", store->path, words);
        else
                event_post_text(store, STORE_FAILED, 0, "writing %s failed: %s: %s and start the node again; nothing acknowledged is lost",
                                store->path, database_explain(database, buffer, sizeof(buffer)), what_to_do(database, rc));
}

/* What a backup is to hold is durable now. */
static void pass_on(struct store *store, const struct job_list *jobs)
{
        struct job *job;

        STAILQ_FOREACH(job, jobs, next) {
                const struct write_job *write = (const struct write_job *)job;

                if (write->kind == WRITE_BACKUP)
                        store_queue_read(&store->backups.worker, &(struct read_job){ .kind = READ_BACKUP_MAKE, .cookie = write->cookie });
        }
}

static uint64_t free_jobs(struct job_list *jobs)
{
        uint64_t token = 0;
        struct job *job;

        while ((job = STAILQ_FIRST(jobs))) {
                STAILQ_REMOVE_HEAD(jobs, next);
                token = ((struct write_job *)job)->token;
                free(job);
        }
        return token;
}

/* What a turn wrote, and the lead hangs on: a whole snapshot takes its time, and nobody waits for it. */
static bool is_of_turns(const struct job_list *jobs)
{
        struct job *job;

        STAILQ_FOREACH(job, jobs, next)
                if (((const struct write_job *)job)->kind != WRITE_BATCH)
                        return false;
        return true;
}

void writer_run(void *context, struct job_list *jobs)
{
        struct store *store = context;
        uint64_t token, begin = clock_monotonic_ms();
        bool measured;
        int rc;

        if (store->failed) {
                (void)free_jobs(jobs);
                return;
        }
        rc = carry_out_all(store, jobs);
        if (rc == SQLITE_OK)
                pass_on(store, jobs);
        measured = is_of_turns(jobs);
        token = free_jobs(jobs);
        if (rc != SQLITE_OK) {
                store_fail(store, &store->writer.database, rc, *store->writer.words ? store->writer.words : NULL);
                database_rollback(&store->writer.database);
                return;
        }
        event_post_persisted(store, token, measured ? clock_monotonic_ms() - begin : 0);
        checkpoint_consider(store);
}
