/* Keeps the WAL short without holding up commits.
 *
 * The WAL starts over only when everything in it is in the file and nobody reads
 * it. A thread of its own moves the bulk while the writer goes on; what the
 * writer added meanwhile is little, and the writer moves that itself between two
 * transactions, so that its next commit finds the WAL done and starts it over. */
#include <stdlib.h>

#include "store/internal.h"

/* 4 MiB: large enough that the pages written again and again are copied once. */
#define CHECKPOINT_FRAMES (4 * 1024 * 1024 / DATABASE_PAGE_BYTES)

static bool is_busy(int rc)
{
        return (rc & 0xff) == SQLITE_BUSY || (rc & 0xff) == SQLITE_LOCKED;
}

void checkpoint_run(void *context, struct job_list *jobs _unused_)
{
        struct store *store = context;
        struct database *database = &store->checkpoint_database;
        int rc = SQLITE_OK;

        if (!database->handle)
                rc = database_open_checkpointer(database, store->path);
        if (rc == SQLITE_OK)
                rc = sqlite3_wal_checkpoint_v2(database->handle, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
        /* A failed sync may not fail a second time (P5). */
        if (rc != SQLITE_OK && !is_busy(rc))
                store_fail(store, database, rc, NULL);
        store->checkpoint_state = CHECKPOINT_HALF;
}

static void finish(struct store *store)
{
        struct writer *writer = &store->writer;
        int rc;

        rc = sqlite3_wal_checkpoint_v2(writer->database.handle, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
        if (rc != SQLITE_OK && !is_busy(rc))
                store_fail(store, &writer->database, rc, NULL);
        /* While a reader keeps the WAL from starting over, trying at every commit would not help. */
        writer->checkpoint_at = writer->wal_frames + CHECKPOINT_FRAMES;
        store->checkpoint_state = CHECKPOINT_NONE;
}

int checkpoint_note_frames(void *context, sqlite3 *handle _unused_, const char *name _unused_, int frames)
{
        struct writer *writer = context;

        if ((unsigned)frames < writer->wal_frames || writer->checkpoint_at == 0)
                writer->checkpoint_at = CHECKPOINT_FRAMES;
        writer->wal_frames = (unsigned)frames;
        return SQLITE_OK;
}

void checkpoint_consider(struct store *store)
{
        switch ((enum checkpoint_state)store->checkpoint_state) {
        case CHECKPOINT_NONE:
                if (store->writer.wal_frames < store->writer.checkpoint_at)
                        return;
                store->checkpoint_state = CHECKPOINT_RUNNING;
                worker_push(&store->checkpointer, &store->checkpoint_job);
                return;
        case CHECKPOINT_RUNNING:
                return;
        case CHECKPOINT_HALF:
                finish(store);
                return;
        }
        abort();
}
