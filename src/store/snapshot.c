/* Snapshots: the state tables as one stream of records in a file without a name.
 *
 * A record is its size (four bytes, not counting themselves), the table (one),
 * the key (text, one byte of size), the label (text, two), the number (eight),
 * the body (four bytes of size). The read transaction lasts as long as the copy;
 * a follower may then take its time with the file. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "store/internal.h"

#define HEAD_BYTES 4
/* No record that row_record_is_sound accepts is longer. */
#define RECORD_BYTES_MAX (LIMIT_ENTRY_BYTES + 1024)
#define WRITE_BYTES 65536

static void put_record(struct bytes *bytes, const struct raft_record *record)
{
        size_t start = bytes->size;

        bytes_put_u32(bytes, 0);
        bytes_put_u8(bytes, (uint8_t)record->table);
        bytes_put_text8(bytes, record->key, strlen(record->key));
        bytes_put_text16(bytes, record->label, strlen(record->label));
        bytes_put_u64(bytes, record->number);
        bytes_put_blob(bytes, record->body, record->body_size);
        bytes_set_u32(bytes, start, (uint32_t)(bytes->size - start - HEAD_BYTES));
}

static bool get_record(struct bytes_reader *reader, char key[256], char label[513], struct raft_record *ret_record)
{
        struct raft_record record = { .key = key, .label = label };
        size_t key_size, label_size;

        record.table = (enum raft_table)bytes_get_u8(reader);
        key_size = bytes_get_text8(reader, key, 256);
        label_size = bytes_get_text16(reader, label, 513);
        record.number = bytes_get_u64(reader);
        record.body = bytes_get_blob(reader, LIMIT_ENTRY_BYTES, &record.body_size);
        if (!bytes_reader_finished(reader) || !state_table_of(record.table))
                return false;
        if (strlen(key) != key_size || strlen(label) != label_size || !row_record_is_sound(&record))
                return false;
        *ret_record = record;
        return true;
}

bool store_snapshot_walk(const void *data, size_t size, void *context, bool (*record)(void *context, const struct raft_record *record))
{
        struct bytes_reader reader = bytes_reader_of(data, size);
        char key[256], label[513];
        struct raft_record found;

        while (reader.left > 0) {
                size_t record_size = bytes_get_u32(&reader);
                const uint8_t *start = bytes_get(&reader, record_size);
                struct bytes_reader one;

                if (!start)
                        return false;
                one = bytes_reader_of(start, record_size);
                if (!get_record(&one, key, label, &found) || !record(context, &found))
                        return false;
        }
        return !reader.bad;
}

/* --- making one ------------------------------------------------------------------- */

static int write_all(int fd, struct bytes *bytes)
{
        for (size_t done = 0; done < bytes->size;) {
                ssize_t n = write(fd, bytes->data + done, bytes->size - done);

                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n > 0)
                        done += (size_t)n;
        }
        bytes_clear(bytes);
        return 0;
}

/* In the state directory, which has the room; without a name, so that no crash leaves it behind. */
static int open_spool(const struct store *store)
{
        _cleanup_free_ char *path = NULL;
        int fd;

        fd = openat(store->directory_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT))
                return fd < 0 ? -errno : fd;
        if (asprintf(&path, "%s/snapshot.XXXXXX", store->directory) < 0)
                return -ENOMEM;
        fd = mkostemp(path, O_CLOEXEC);
        if (fd < 0)
                return -errno;
        (void)unlink(path);
        return fd;
}

struct copy {
        struct database *database;
        struct spool *spool;
        struct bytes bytes;
        int error;                           /* of the file, not of the database */
};

static int flush_copy(struct copy *copy)
{
        copy->spool->total += copy->bytes.size;
        copy->error = write_all(copy->spool->fd, &copy->bytes);
        return copy->error < 0 ? SQLITE_IOERR : SQLITE_OK;
}

static int copy_table(struct copy *copy, const struct state_table *table)
{
        _cleanup_reset_ sqlite3_stmt *statement = database_statement(copy->database, table->list);
        struct raft_record record;
        int rc;

        if (!statement)
                return sqlite3_extended_errcode(copy->database->handle);
        while ((rc = sqlite3_step(statement)) == SQLITE_ROW) {
                if (!row_read_record(statement, table->table, &record))
                        return SQLITE_CORRUPT;
                put_record(&copy->bytes, &record);
                if (copy->bytes.size >= WRITE_BYTES && flush_copy(copy) != SQLITE_OK)
                        return SQLITE_IOERR;
        }
        return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int copy_state(struct copy *copy, struct event *event)
{
        struct row_meta meta;
        int rc;

        rc = database_run(copy->database, STATEMENT_BEGIN_READ);
        if (rc == SQLITE_OK)
                rc = row_read_meta(copy->database, &meta, &event->data);
        for (size_t i = 0; rc == SQLITE_OK && i < STATE_TABLE_COUNT; i++)
                rc = copy_table(copy, &state_tables[i]);
        if (rc == SQLITE_OK)
                rc = flush_copy(copy);
        if (rc == SQLITE_OK)
                event->event.base = meta.base;
        return rc;
}

static void keep_spool(struct reader *reader, struct spool *spool, struct event *event)
{
        spool->id = ++reader->spool_last_id;
        SLIST_INSERT_HEAD(&reader->spools, spool, next);
        reader->spool_count++;
        event->event.snapshot = spool->id;
        event->event.total = spool->total;
}

static void fail_copy(struct store *store, const struct copy *copy, uint64_t cookie)
{
        if (copy->error < 0)
                event_post_text(store, STORE_READ_FAILED, cookie, "a snapshot cannot be kept in %s: %s: make room there",
                                store->directory, strerrordesc_np(-copy->error));
        else
                reader_post_failure(store, copy->database, cookie, "copied to a snapshot");
}

void snapshot_make(struct store *store, const struct read_job *job)
{
        struct spool *spool = alloc_zeroed(1, sizeof(*spool));
        struct copy copy = { .database = &store->reader.database, .spool = spool };
        struct event *event = event_new(STORE_SNAPSHOT_MADE, job->cookie);
        int rc = SQLITE_IOERR;

        /* One per member is enough for everybody who may ask. */
        spool->fd = store->reader.spool_count < LIMIT_MEMBERS ? open_spool(store) : -EMFILE;
        copy.error = MIN(spool->fd, 0);
        if (spool->fd >= 0)
                rc = copy_state(&copy, event);
        if (rc == SQLITE_OK) {
                keep_spool(&store->reader, spool, event);
                event_post(store, event);
        } else {
                fail_copy(store, &copy, job->cookie);
                event_free(event);
                spool_free(spool);
        }
        database_rollback(copy.database);
        bytes_done(&copy.bytes);
}

/* --- reading one ------------------------------------------------------------------ */

void snapshot_drop(struct store *store, uint64_t id)
{
        struct spool *spool = spool_find(&store->reader.spools, id);

        if (!spool)
                return;
        SLIST_REMOVE(&store->reader.spools, spool, spool, next);
        store->reader.spool_count--;
        spool_free(spool);
}

/* As many whole records as there are at the front. */
static size_t whole_records(const struct bytes *bytes)
{
        size_t end = 0;

        while (bytes->size - end >= HEAD_BYTES) {
                size_t record = bytes_load_u32(bytes->data + end);

                if (record > RECORD_BYTES_MAX || record > bytes->size - end - HEAD_BYTES)
                        break;
                end += HEAD_BYTES + record;
        }
        return end;
}

static int read_chunk(const struct spool *spool, const struct read_job *job, struct bytes *bytes)
{
        size_t size;
        int r;

        if (job->from > spool->total)
                return -EINVAL;
        size = (size_t)MIN((uint64_t)job->bytes_max, spool->total - job->from);
        if (size == 0)
                return 0;
        r = spool_read(spool, bytes, job->from, size);
        if (r < 0)
                return r;
        bytes->size = whole_records(bytes);
        /* The offset is not one where a record begins, or the caller's limit holds not even one. */
        return bytes->size == 0 ? -EINVAL : 0;
}

void snapshot_chunk(struct store *store, const struct read_job *job)
{
        const struct spool *spool = spool_find(&store->reader.spools, job->snapshot);
        struct event *event;
        int r;

        if (!spool) {
                event_post_text(store, STORE_READ_FAILED, job->cookie, "there is no snapshot %llu any more", (unsigned long long)job->snapshot);
                return;
        }
        event = event_new(STORE_SNAPSHOT_CHUNK, job->cookie);
        event->event.snapshot = job->snapshot;
        event->event.offset = job->from;
        event->event.total = spool->total;
        r = read_chunk(spool, job, &event->data);
        if (r == 0) {
                event_post(store, event);
                return;
        }
        event_free(event);
        event_post_text(store, STORE_READ_FAILED, job->cookie, "snapshot %llu cannot be read at %llu: %s",
                        (unsigned long long)job->snapshot, (unsigned long long)job->from, strerrordesc_np(-r));
}
