/* Opening, closing, and the way in: everything here runs on the caller's thread. */
#include "store/store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>

#include "base/alloc.h"
#include "base/random.h"
#include "store/backup.h"
#include "store/internal.h"
#include "store/schema.h"

/* The lock is on the directory: it needs no file of its own, holds before there
 * is a database, and goes with the process. SQLite's own locks would let a
 * second process in between two transactions. */
int store_lock_directory(struct store *store, char error[512])
{
        int r;

        store->directory_fd = open(store->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (store->directory_fd < 0) {
                r = -errno;
                (void)snprintf(error, 512, "%.300s cannot be opened: %s: make the directory, its owner the user of this node, or name another as [node] directory",
                               store->directory, strerrordesc_np(-r));
                return r;
        }
        if (access(store->directory, W_OK | X_OK) < 0) {
                r = -errno;
                (void)snprintf(error, 512, "%.300s cannot be written to: %s: %s", store->directory, strerrordesc_np(-r),
                               r == -EROFS ? "if it is one that [node] directory names, \"systemctl daemon-reload\" opens it to the service"
                                           : "make the user of this node its owner, or name another as [node] directory");
                return r;
        }
        if (flock(store->directory_fd, LOCK_EX | LOCK_NB) < 0) {
                r = errno == EWOULDBLOCK ? -EBUSY : -errno;
                (void)snprintf(error, 512, "%.300s is in use by another process%s%s: stop that one first", store->directory,
                               r == -EBUSY ? "" : ", or cannot be locked: ", r == -EBUSY ? "" : strerrordesc_np(-r));
                return r;
        }
        return 0;
}

/* What a killed process left of a database or a copy it was still making: nobody was told of it. */
void store_remove_unfinished(const struct store *store)
{
        (void)unlinkat(store->directory_fd, "dlock.db.new", 0);
        (void)unlinkat(store->directory_fd, "dlock.db.new-wal", 0);
        (void)unlinkat(store->directory_fd, "dlock.db.new-shm", 0);
        (void)unlinkat(store->directory_fd, "dlock.db.new-journal", 0);
        (void)unlinkat(store->directory_fd, "dlock.db.backup", 0);
}

static int sync_file(const char *path)
{
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

        return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

/* Made aside and renamed, so that dlock.db is whole from its first moment. */
static int create(struct store *store, const char *node_name, char error[512])
{
        struct store_identity identity = { .incarnation = id128_random() };
        _cleanup_free_ char *unfinished = NULL;
        int r = 0;

        if (asprintf(&unfinished, "%s.new", store->path) < 0)
                return -ENOMEM;
        (void)strcpy(identity.name, node_name);
        store_remove_unfinished(store);
        if (schema_create(unfinished, &identity, error) != SQLITE_OK) {
                store_remove_unfinished(store);
                return -EIO;
        }
        r = sync_file(unfinished);
        if (r == 0 && rename(unfinished, store->path) < 0)
                r = -errno;
        if (r < 0)
                (void)snprintf(error, 512, "%.300s cannot be made: %s", store->path, strerrordesc_np(-r));
        return r;
}

static int start_threads(struct store *store, char error[512])
{
        int r;

        r = worker_start(&store->writer.worker, "store-writer", writer_run, store);
        if (r == 0)
                r = worker_start(&store->checkpointer, "store-ckpt", checkpoint_run, store);
        if (r == 0)
                r = worker_start(&store->reader.worker, "store-reader", reader_run, store);
        if (r == 0)
                r = worker_start(&store->history, "store-history", history_run, store);
        if (r == 0)
                r = worker_start(&store->backups.worker, "store-backup", backup_run, store);
        if (r < 0)
                (void)snprintf(error, 512, "threads cannot be started: %s", strerrordesc_np(-r));
        return r;
}

int store_start(struct store *store, int version, char error[512])
{
        int r;

        store->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (store->event_fd < 0) {
                r = -errno;
                (void)snprintf(error, 512, "no event descriptor: %s", strerrordesc_np(-r));
                return r;
        }
        r = writer_open(store, version, error);
        return r < 0 ? r : start_threads(store, error);
}

static int open_all(struct store *store, const char *node_name, char error[512])
{
        int version = STORE_SCHEMA_VERSION, r;

        r = store_lock_directory(store, error);
        if (r < 0)
                return r;
        r = inspect_database(store->path, node_name, &version, error);
        if (r == -ENOENT)
                r = create(store, node_name, error);
        if (r < 0)
                return r;
        store_remove_unfinished(store);
        /* The name of the file is to be as durable as the file. */
        if (fsync(store->directory_fd) < 0) {
                (void)snprintf(error, 512, "%.300s cannot be synced: %s: check the disk", store->directory, strerrordesc_np(errno));
                return -EIO;
        }
        return store_start(store, version, error);
}

struct store *store_new(const char *directory, const char *file, store_describe describe)
{
        struct store *store = alloc_zeroed(1, sizeof(*store));

        store->directory = alloc_text(directory, strlen(directory));
        store->path = alloc_zeroed(strlen(directory) + 1 + strlen(file) + 1, 1);
        (void)stpcpy(stpcpy(stpcpy(store->path, directory), "/"), file);
        store->directory_fd = store->event_fd = -1;
        store->describe = describe;
        TAILQ_INIT(&store->events);
        (void)pthread_mutex_init(&store->event_mutex, NULL);
        return store;
}

int store_open(const char *directory, const char *node_name, store_describe describe, struct store **ret_store, char error[512])
{
        struct store *store;
        int r;

        assert(strlen(node_name) <= LIMIT_NODE_NAME_BYTES);
        store = store_new(directory, "dlock.db", describe);
        r = open_all(store, node_name, error);
        if (r < 0) {
                (void)store_close(store);
                return r;
        }
        *ret_store = store;
        return 0;
}

/* After a failure nothing is written any more, not even what a close would. */
static void close_databases(struct store *store)
{
        if (store->failed) {
                database_close_untouched(&store->checkpoint_database);
                database_close_untouched(&store->writer.database);
                return;
        }
        database_close(&store->checkpoint_database);
        if (store->writer.database.handle)
                (void)sqlite3_wal_checkpoint_v2(store->writer.database.handle, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
        database_close(&store->writer.database);
}

struct store *store_close(struct store *store)
{
        struct event *event;

        if (!store)
                return NULL;
        store->closing = true;
        worker_stop(&store->writer.worker);
        worker_stop(&store->backups.worker);
        worker_stop(&store->checkpointer);
        worker_stop(&store->reader.worker);
        worker_stop(&store->history);
        reader_done(&store->reader);
        spool_list_done(&store->backups.spools);
        database_close(&store->history_database);
        close_databases(store);
        while ((event = TAILQ_FIRST(&store->events))) {
                TAILQ_REMOVE(&store->events, event, next);
                event_free(event);
        }
        (void)pthread_mutex_destroy(&store->event_mutex);
        cleanup_close(&store->event_fd);
        cleanup_close(&store->directory_fd);
        bytes_done(&store->configuration);
        free(store->directory);
        free(store->path);
        free(store);
        return NULL;
}

static uint64_t queue_write(struct store *store, enum write_kind kind, const struct store_batch *batch, const void *chunk, size_t chunk_size)
{
        struct write_job *job = write_job_copy(kind, batch, chunk, chunk_size);

        job->token = ++store->last_token;
        worker_push(&store->writer.worker, &job->job);
        return store->last_token;
}

uint64_t store_write(struct store *store, const struct store_batch *batch)
{
        return queue_write(store, WRITE_BATCH, batch, NULL, 0);
}

uint64_t store_stage_begin(struct store *store)
{
        return queue_write(store, WRITE_STAGE_BEGIN, &(struct store_batch){}, NULL, 0);
}

uint64_t store_stage_chunk(struct store *store, const void *data, size_t size)
{
        return queue_write(store, WRITE_STAGE_CHUNK, &(struct store_batch){}, data, size);
}

uint64_t store_stage_install(struct store *store, const struct raft_base *base)
{
        return queue_write(store, WRITE_STAGE_INSTALL, &(struct store_batch){ .base = base }, NULL, 0);
}

int store_flush(struct store *store)
{
        worker_drain(&store->writer.worker);
        return store->failed ? -EIO : 0;
}

void store_queue_read(struct worker *worker, const struct read_job *job)
{
        struct read_job *copy = alloc_zeroed(1, sizeof(*copy));

        *copy = *job;
        worker_push(worker, &copy->job);
}

void store_read_log(struct store *store, uint64_t cookie, uint64_t from, size_t count_max, size_t bytes_max)
{
        store_queue_read(&store->reader.worker, &(struct read_job){ .kind = READ_LOG, .cookie = cookie, .from = from,
                                                              .count_max = count_max, .bytes_max = bytes_max });
}

void store_snapshot_make(struct store *store, uint64_t cookie)
{
        store_queue_read(&store->reader.worker, &(struct read_job){ .kind = READ_SNAPSHOT_MAKE, .cookie = cookie });
}

void store_snapshot_read(struct store *store, uint64_t cookie, uint64_t snapshot, uint64_t offset, size_t size_max)
{
        store_queue_read(&store->reader.worker, &(struct read_job){ .kind = READ_SNAPSHOT_CHUNK, .cookie = cookie, .snapshot = snapshot,
                                                              .from = offset, .bytes_max = size_max });
}

void store_snapshot_drop(struct store *store, uint64_t snapshot)
{
        store_queue_read(&store->reader.worker, &(struct read_job){ .kind = READ_SNAPSHOT_DROP, .snapshot = snapshot });
}

void store_read_history(struct store *store, uint64_t cookie, const char *lock, uint64_t after, size_t limit)
{
        assert(limit <= LIMIT_PAGE_ROWS);
        store_queue_read(&store->history, &(struct read_job){ .kind = READ_HISTORY, .cookie = cookie, .from = after, .count_max = limit,
                                                        .lock = lock ? alloc_text(lock, strlen(lock)) : NULL });
}

void store_backup_make(struct store *store, uint64_t cookie)
{
        struct write_job *job = write_job_copy(WRITE_BACKUP, &(struct store_batch){}, NULL, 0);

        job->cookie = cookie;
        job->token = ++store->last_token;
        worker_push(&store->writer.worker, &job->job);
}

void store_backup_read(struct store *store, uint64_t cookie, uint64_t backup, uint64_t offset, size_t size_max)
{
        store_queue_read(&store->backups.worker, &(struct read_job){ .kind = READ_BACKUP_CHUNK, .cookie = cookie, .snapshot = backup,
                                                                     .from = offset, .bytes_max = size_max });
}

void store_backup_drop(struct store *store, uint64_t backup)
{
        store_queue_read(&store->backups.worker, &(struct read_job){ .kind = READ_BACKUP_DROP, .snapshot = backup });
}
