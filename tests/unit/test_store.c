/* What the store promises, each test named for one fact. Bodies here are a toy:
 * the store knows them only through the describe callback, as it knows real ones. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "store/store.h"

#define NODE "alpha"

static char directory[64];
static char error[512];

/* --- a place of one's own for every test ------------------------------------------ */

static int remove_one(const char *path, const struct stat *status _unused_, int kind _unused_, struct FTW *walk _unused_)
{
        return remove(path);
}

static void make_directory(void)
{
        (void)strcpy(directory, "/tmp/dlock-test-store-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(directory));
        error[0] = 0;
}

static void remove_directory(void)
{
        (void)nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static char *path_of(const char *name, char path[128])
{
        (void)snprintf(path, 128, "%s/%s", directory, name);
        return path;
}

/* --- toy entries --------------------------------------------------------------------- */

static struct raft_entry *entry_new(uint64_t index, uint64_t term, enum raft_entry_kind kind, const char *lock, const char *client, uint64_t token)
{
        struct raft_entry *entry;
        struct bytes body = {};

        if (kind != RAFT_ENTRY_NOOP) {
                bytes_put_text8(&body, lock, strlen(lock));
                bytes_put_text8(&body, client, strlen(client));
                bytes_put_u64(&body, token);
        }
        entry = alloc_zeroed(1, sizeof(*entry) + body.size);
        *entry = (struct raft_entry){ .index = index, .term = term, .kind = kind, .cluster_ms = index * 10,
                                      .wall_ms = 1700000000000 + index, .size = (uint32_t)body.size };
        if (body.size)
                memcpy(entry->body, body.data, body.size);
        bytes_done(&body);
        return entry;
}

static bool describe(const struct raft_entry *entry, struct store_columns *ret_columns)
{
        static const char *const kinds[] = { NULL, "noop", "configuration", "address", "client", "preempt", "release" };
        struct bytes_reader reader = bytes_reader_of(entry->body, entry->size);

        *ret_columns = (struct store_columns){ .kind = kinds[entry->kind] };
        if (entry->kind == RAFT_ENTRY_NOOP)
                return entry->size == 0;
        (void)bytes_get_text8(&reader, ret_columns->lock, sizeof(ret_columns->lock));
        (void)bytes_get_text8(&reader, ret_columns->client, sizeof(ret_columns->client));
        ret_columns->token = bytes_get_u64(&reader);
        return bytes_reader_finished(&reader);
}

/* --- what came back ---------------------------------------------------------------- */

struct seen {
        uint64_t token;
        unsigned failed, read_failed, snapshots, chunks, logs, histories;
        char text[1024];
        uint64_t cookie, log_first, looked_until, snapshot, total, offset;
        bool more;
        uint64_t indices[2048];
        char locks[2048][32];
        size_t count;
        struct raft_base base;
        uint8_t configuration[64];
        struct bytes stream;
};

static void keep_entries(struct seen *seen, const struct store_event *event)
{
        struct store_columns columns;

        seen->count = event->entry_count;
        seen->log_first = event->log_first;
        for (size_t i = 0; i < event->entry_count; i++) {
                ck_assert(describe(event->entries[i], &columns));
                seen->indices[i] = event->entries[i]->index;
                (void)snprintf(seen->locks[i], sizeof(seen->locks[i]), "%.31s", columns.lock);
        }
}

static void keep(void *context, const struct store_event *event)
{
        struct seen *seen = context;

        seen->cookie = event->cookie;
        switch (event->kind) {
        case STORE_PERSISTED:
                ck_assert_uint_gt(event->token, seen->token);
                seen->token = event->token;
                return;
        case STORE_FAILED:
        case STORE_READ_FAILED:
                if (event->kind == STORE_FAILED)
                        seen->failed++;
                else
                        seen->read_failed++;
                (void)snprintf(seen->text, sizeof(seen->text), "%s", event->text);
                return;
        case STORE_LOG:
                seen->logs++;
                keep_entries(seen, event);
                return;
        case STORE_HISTORY:
                seen->histories++;
                seen->looked_until = event->looked_until;
                seen->more = event->more;
                keep_entries(seen, event);
                return;
        case STORE_SNAPSHOT_MADE:
                seen->snapshots++;
                seen->snapshot = event->snapshot;
                seen->total = event->total;
                seen->base = event->base;
                ck_assert_uint_le(event->base.configuration_size, sizeof(seen->configuration));
                if (event->base.configuration_size)
                        memcpy(seen->configuration, event->base.configuration, event->base.configuration_size);
                seen->base.configuration = seen->configuration;
                return;
        case STORE_SNAPSHOT_CHUNK:
                seen->chunks++;
                seen->offset = event->offset;
                ck_assert_uint_eq(event->offset, seen->stream.size);
                bytes_put(&seen->stream, event->data, event->size);
                return;
        }
        abort();
}

static void wait_for(struct store *store, struct seen *seen, const unsigned *counter, unsigned wanted)
{
        while (*counter < wanted) {
                struct pollfd poll_fd = { .fd = store_fd(store), .events = POLLIN };

                ck_assert_int_eq(poll(&poll_fd, 1, 20000), 1);
                store_process(store, keep, seen);
        }
}

/* --- what is loaded ------------------------------------------------------------------ */

struct loaded {
        struct store_content content;
        char text[16384];                    /* one line per record and entry */
        uint64_t entries, records;
        bool refuse;
};

static void add_line(struct loaded *loaded, const char *format, ...) _printf_(2, 3);
static void add_line(struct loaded *loaded, const char *format, ...)
{
        size_t at = strlen(loaded->text);
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(loaded->text + at, sizeof(loaded->text) - at, format, arguments);
        va_end(arguments);
}

static bool load_record(void *context, const struct raft_record *record)
{
        struct loaded *loaded = context;

        loaded->records++;
        add_line(loaded, "%d %s %s %llu %.*s\n", (int)record->table, record->key, record->label, (unsigned long long)record->number,
                 (int)record->body_size, (const char *)record->body);
        return !loaded->refuse;
}

static bool load_entry(void *context, const struct raft_entry *entry)
{
        struct loaded *loaded = context;
        struct store_columns columns;

        ck_assert(describe(entry, &columns));
        ck_assert_uint_eq(entry->cluster_ms, entry->index * 10);
        ck_assert_uint_eq(entry->wall_ms, 1700000000000 + entry->index);
        loaded->entries++;
        add_line(loaded, "%llu:%llu %s %s %s %llu\n", (unsigned long long)entry->index, (unsigned long long)entry->term, columns.kind,
                 columns.lock, columns.client, (unsigned long long)columns.token);
        return true;
}

static struct store *open_store(void)
{
        struct store *store = NULL;
        int r;

        r = store_open(directory, NODE, describe, &store, error);
        ck_assert_msg(r == 0, "%s", error);
        return store;
}

static int load(struct store *store, struct loaded *loaded)
{
        struct store_loader loader = { .context = loaded, .record = load_record, .entry = load_entry };

        loaded->text[0] = 0;
        loaded->entries = loaded->records = 0;
        return store_load(store, &loader, &loaded->content, error);
}

static struct store *open_and_load(struct loaded *loaded)
{
        struct store *store = open_store();

        ck_assert_msg(load(store, loaded) == 0, "%s", error);
        return store;
}

/* Entries first..last of a term as preempts of "lock-<index % 3>". Returns the token. */
static uint64_t append(struct store *store, uint64_t term, uint64_t first, uint64_t last, const struct store_batch *more)
{
        struct store_batch batch = more ? *more : (struct store_batch){};
        struct raft_entry *entries[4096];
        uint64_t token;
        char lock[32];

        ck_assert_uint_lt(last - first, ARRAY_SIZE(entries));
        for (uint64_t index = first; index <= last; index++) {
                (void)snprintf(lock, sizeof(lock), "lock-%u", (unsigned)(index % 3));
                entries[index - first] = entry_new(index, term, RAFT_ENTRY_PREEMPT, lock, "c1", index);
        }
        batch.entries = (const struct raft_entry *const *)entries;
        batch.entry_count = last - first + 1;
        token = store_write(store, &batch);
        for (size_t i = 0; i < batch.entry_count; i++)
                free(entries[i]);
        return token;
}

static struct raft_record record_of(enum raft_table table, const char *key, const char *label, uint64_t number, const char *body)
{
        return (struct raft_record){ .table = table, .key = key, .label = label, .number = number,
                                     .body = (const uint8_t *)body, .body_size = body ? strlen(body) : 0 };
}

static struct raft_base base_of(uint64_t index, uint64_t term)
{
        return (struct raft_base){ .index = index, .term = term, .cluster_ms = index * 10, .configuration_index = 1,
                                   .configuration = (const uint8_t *)"members", .configuration_size = 7 };
}

/* --- writing and reading back --------------------------------------------------------- */

START_TEST(new_database_is_empty_and_has_an_incarnation)
{
        struct loaded loaded = {}, again = {};
        struct store *store = open_and_load(&loaded);

        ck_assert_str_eq(loaded.content.identity.name, NODE);
        ck_assert(id128_is_null(loaded.content.identity.cluster));
        ck_assert(!id128_is_null(loaded.content.identity.incarnation));
        ck_assert_uint_eq(loaded.content.identity.node, 0);
        ck_assert_uint_eq(loaded.content.log_first, 1);
        ck_assert_uint_eq(loaded.content.log_last, 0);
        ck_assert_uint_eq(loaded.content.base.configuration_size, 0);
        ck_assert_str_eq(loaded.text, "");
        store_close(store);

        store = open_and_load(&again);
        ck_assert(id128_equal(loaded.content.identity.incarnation, again.content.identity.incarnation));
        store_close(store);
}
END_TEST

START_TEST(everything_written_is_read_again)
{
        struct store_identity identity = { .cluster = {{1, 2, 3}}, .incarnation = {{9}}, .node = 7, .name = NODE };
        struct raft_hard_state hard = { .term = 3, .vote = 2 };
        struct raft_base base = base_of(2, 1);
        struct raft_record records[] = {
                record_of(RAFT_TABLE_LOCK, "backup", "c1", 2, "lock body"),
                record_of(RAFT_TABLE_CLIENT, "c1", "uid:1000", 2, "client body"),
                record_of(RAFT_TABLE_REQUEST, "01234567-0123-4123-8123-0123456789ab", "backup", 2, "request body"),
                record_of(RAFT_TABLE_ADDRESS, "7", "127.0.0.1:7402", 1, "address body"),
                record_of(RAFT_TABLE_LOCK, "no body", "", 1, ""),
        };
        struct raft_entry *entries[] = {
                entry_new(1, 1, RAFT_ENTRY_NOOP, "", "", 0),
                entry_new(2, 1, RAFT_ENTRY_PREEMPT, "backup", "c1", 2),
                entry_new(3, 1, RAFT_ENTRY_RELEASE, "backup", "c1", 2),
                entry_new(4, 2, RAFT_ENTRY_CLIENT, "", "c2", 0),
                entry_new(5, 3, RAFT_ENTRY_CONFIGURATION, "", "", 0),
                entry_new(6, 3, RAFT_ENTRY_ADDRESS, "", "", 0),
        };
        struct store_batch batch = { .identity = &identity, .hard = &hard, .entries = (const struct raft_entry *const *)entries,
                                     .entry_count = 6, .base = &base, .records = records, .record_count = 5 };
        struct loaded loaded = {};
        struct store *store = open_and_load(&loaded);

        ck_assert_uint_eq(store_write(store, &batch), 1);
        for (size_t i = 0; i < 6; i++)
                free(entries[i]);
        ck_assert_int_eq(store_flush(store), 0);
        store_close(store);

        store = open_and_load(&loaded);
        ck_assert_mem_eq(&loaded.content.identity, &identity, sizeof(identity));
        ck_assert_uint_eq(loaded.content.hard.term, 3);
        ck_assert_uint_eq(loaded.content.hard.vote, 2);
        ck_assert_uint_eq(loaded.content.base.index, 2);
        ck_assert_uint_eq(loaded.content.base.term, 1);
        ck_assert_uint_eq(loaded.content.base.cluster_ms, 20);
        ck_assert_uint_eq(loaded.content.base.configuration_index, 1);
        ck_assert_uint_eq(loaded.content.base.configuration_size, 7);
        ck_assert_mem_eq(loaded.content.base.configuration, "members", 7);
        ck_assert_uint_eq(loaded.content.log_first, 1);
        ck_assert_uint_eq(loaded.content.log_last, 6);
        ck_assert_str_eq(loaded.text, "2 c1 uid:1000 2 client body\n"
                                      "1 backup c1 2 lock body\n"
                                      "1 no body  1 \n"
                                      "3 01234567-0123-4123-8123-0123456789ab backup 2 request body\n"
                                      "4 7 127.0.0.1:7402 1 address body\n"
                                      "3:1 release backup c1 2\n"
                                      "4:2 client  c2 0\n"
                                      "5:3 configuration   0\n"
                                      "6:3 address   0\n");
        store_close(store);
}
END_TEST

START_TEST(tokens_come_back_in_order_and_the_last_covers_all)
{
        struct loaded loaded = {};
        struct store *store = open_and_load(&loaded);
        static struct seen seen;

        for (uint64_t index = 1; index <= 1000; index++)
                ck_assert_uint_eq(append(store, 1, index, index, NULL), index);
        ck_assert_int_eq(store_flush(store), 0);
        store_process(store, keep, &seen);
        ck_assert_uint_eq(seen.token, 1000);
        store_close(store);
        store = open_and_load(&loaded);
        ck_assert_uint_eq(loaded.content.log_last, 1000);
        store_close(store);
}
END_TEST

START_TEST(truncated_entries_are_gone_and_others_take_their_place)
{
        struct loaded loaded = {};
        struct store *store = open_and_load(&loaded);

        append(store, 1, 1, 5, NULL);
        append(store, 2, 3, 4, &(struct store_batch){ .truncate_from = 3 });
        ck_assert_int_eq(store_flush(store), 0);
        store_close(store);
        store = open_and_load(&loaded);
        ck_assert_str_eq(loaded.text, "1:1 preempt lock-1 c1 1\n2:1 preempt lock-2 c1 2\n"
                                      "3:2 preempt lock-0 c1 3\n4:2 preempt lock-1 c1 4\n");
        store_close(store);
}
END_TEST

START_TEST(base_moves_with_its_records_and_deletions)
{
        struct raft_base first = base_of(2, 1), second = base_of(4, 1);
        struct raft_record make[] = { record_of(RAFT_TABLE_LOCK, "a", "c1", 1, "one"), record_of(RAFT_TABLE_LOCK, "b", "c1", 2, "two") };
        struct raft_record change[] = { record_of(RAFT_TABLE_LOCK, "a", NULL, 0, NULL), record_of(RAFT_TABLE_LOCK, "b", "c2", 4, "four"),
                                        record_of(RAFT_TABLE_LOCK, "never there", NULL, 0, NULL) };
        struct loaded loaded = {};
        struct store *store = open_and_load(&loaded);

        append(store, 1, 1, 5, &(struct store_batch){ .base = &first, .records = make, .record_count = 2 });
        (void)store_write(store, &(struct store_batch){ .base = &second, .records = change, .record_count = 3 });
        ck_assert_int_eq(store_flush(store), 0);
        store_close(store);
        store = open_and_load(&loaded);
        ck_assert_uint_eq(loaded.content.base.index, 4);
        ck_assert_str_eq(loaded.text, "1 b c2 4 four\n5:1 preempt lock-2 c1 5\n");
        store_close(store);
}
END_TEST

START_TEST(log_is_trimmed_a_bounded_number_of_rows_at_a_time)
{
        struct raft_base base = base_of(3000, 1);
        struct loaded loaded = {};
        struct store *store = open_and_load(&loaded);

        append(store, 1, 1, 3010, &(struct store_batch){ .base = &base, .trim_to = 2900 });
        ck_assert_int_eq(store_flush(store), 0);
        ck_assert_int_eq(load(store, &loaded), 0);
        ck_assert_uint_eq(loaded.content.log_first, LIMIT_TRIM_PER_BATCH + 1);
        (void)store_write(store, &(struct store_batch){ .trim_to = 2900 });
        ck_assert_int_eq(store_flush(store), 0);
        ck_assert_int_eq(load(store, &loaded), 0);
        ck_assert_uint_eq(loaded.content.log_first, 2900);
        ck_assert_uint_eq(loaded.content.log_last, 3010);
        ck_assert_uint_eq(loaded.entries, 10);
        store_close(store);
}
END_TEST

START_TEST(log_may_be_trimmed_to_nothing)
{
        struct raft_base base = base_of(5, 1);
        struct loaded loaded = {};
        struct store *store = open_and_load(&loaded);

        append(store, 1, 1, 5, &(struct store_batch){ .base = &base, .trim_to = 6 });
        append(store, 1, 6, 6, NULL);
        ck_assert_int_eq(store_flush(store), 0);
        store_close(store);
        store = open_and_load(&loaded);
        ck_assert_uint_eq(loaded.content.log_first, 6);
        ck_assert_str_eq(loaded.text, "6:1 preempt lock-0 c1 6\n");
        store_close(store);
}
END_TEST

START_TEST(wal_starts_over_under_load_and_stays_short)
{
        struct loaded loaded = {};
        struct store *store = open_and_load(&loaded);
        struct stat status;
        char path[128];

        for (uint64_t index = 1; index <= 20000; index += 10) {
                append(store, 1, index, index + 9, NULL);
                /* Without group commit: every batch writes its pages once more. */
                ck_assert_int_eq(store_flush(store), 0);
        }
        ck_assert_int_eq(stat(path_of("dlock.db-wal", path), &status), 0);
        ck_assert_int_lt(status.st_size, 12 * 1024 * 1024);
        ck_assert_int_gt(status.st_size, 0);
        store_close(store);
}
END_TEST

/* --- what is refused ---------------------------------------------------------------------- */

static void run_sql(const char *sql)
{
        sqlite3 *handle = NULL;
        char path[128];

        ck_assert_int_eq(sqlite3_open(path_of("dlock.db", path), &handle), SQLITE_OK);
        ck_assert_msg(sqlite3_exec(handle, sql, NULL, NULL, NULL) == SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(handle));
        ck_assert_int_eq(sqlite3_close(handle), SQLITE_OK);
}

/* Runs in a child that ends without closing: what it wrote stays in the -wal. */
static void crash_after(void (*work)(const char *argument), const char *argument)
{
        int status;
        pid_t child = fork();

        ck_assert_int_ge(child, 0);
        if (child == 0) {
                work(argument);
                (void)kill(getpid(), SIGKILL);
        }
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void run_sql_and_leave_it_open(const char *sql)
{
        sqlite3 *handle = NULL;
        char path[128];

        if (sqlite3_open(path_of("dlock.db", path), &handle) != SQLITE_OK || sqlite3_exec(handle, sql, NULL, NULL, NULL) != SQLITE_OK)
                _exit(1);
}

static void append_and_leave_it_open(const char *argument _unused_)
{
        struct loaded loaded = {};
        struct store *store = open_and_load(&loaded);

        append(store, 1, loaded.content.log_last + 1, loaded.content.log_last + 40, NULL);
        if (store_flush(store) < 0)
                _exit(1);
}

/* Names and contents of all files, one after the other. */
static struct bytes picture(void)
{
        struct bytes all = {};
        struct dirent **names;
        int count = scandir(directory, &names, NULL, alphasort);

        ck_assert_int_ge(count, 0);
        for (int i = 0; i < count; i++) {
                char path[128], block[4096];
                FILE *file = names[i]->d_type == DT_REG ? fopen(path_of(names[i]->d_name, path), "re") : NULL;
                size_t n;

                bytes_put_text8(&all, names[i]->d_name, strlen(names[i]->d_name));
                while (file && (n = fread(block, 1, sizeof(block), file)) > 0)
                        bytes_put(&all, block, n);
                if (file)
                        (void)fclose(file);
                free(names[i]);
        }
        free(names);
        return all;
}

static void assert_refused(const char *name, int number, const char *words)
{
        struct bytes before = picture(), after;
        struct store *store = NULL;
        int r;

        r = store_open(directory, name, describe, &store, error);
        after = picture();
        ck_assert_msg(r == number, "%d: %s", r, error);
        ck_assert_ptr_null(store);
        ck_assert_msg(strstr(error, words), "'%s' is not in '%s'", words, error);
        ck_assert_msg(strstr(error, directory), "the place is not in '%s'", error);
        ck_assert_uint_eq(before.size, after.size);
        ck_assert_mem_eq(before.data, after.data, before.size);
        bytes_done(&before);
        bytes_done(&after);
}

static void make_database(uint64_t entries)
{
        struct loaded loaded = {};
        struct store *store = open_and_load(&loaded);

        if (entries > 0)
                append(store, 1, 1, entries, NULL);
        ck_assert_int_eq(store_flush(store), 0);
        store_close(store);
}

START_TEST(newer_schema_is_refused)
{
        make_database(10);
        run_sql("PRAGMA user_version = 2");
        assert_refused(NODE, -ENOTSUP, "schema version 2");
}
END_TEST

START_TEST(newer_schema_that_only_the_wal_tells_is_refused_and_the_wal_untouched)
{
        struct stat status;
        char path[128];

        make_database(10);
        crash_after(run_sql_and_leave_it_open, "PRAGMA user_version = 2");
        ck_assert_int_eq(stat(path_of("dlock.db-wal", path), &status), 0);
        ck_assert_int_gt(status.st_size, 0);
        assert_refused(NODE, -ENOTSUP, "schema version 2");
        /* Also when the index of the WAL is gone, or there never was a rest of it. */
        ck_assert_int_eq(unlink(path_of("dlock.db-shm", path)), 0);
        assert_refused(NODE, -ENOTSUP, "schema version 2");
}
END_TEST

START_TEST(database_of_another_program_is_refused)
{
        make_database(10);
        run_sql("PRAGMA application_id = 4711");
        assert_refused(NODE, -EPERM, "another program");
}
END_TEST

START_TEST(rollback_journal_database_of_another_program_is_refused)
{
        run_sql("CREATE TABLE t (a); INSERT INTO t VALUES (1)");
        assert_refused(NODE, -EPERM, "another program");
}
END_TEST

START_TEST(database_of_another_node_is_refused)
{
        make_database(10);
        assert_refused("beta", -EPERM, "is the database of node 'alpha', not of 'beta'");
}
END_TEST

START_TEST(database_of_another_node_is_refused_with_its_wal_untouched)
{
        crash_after(append_and_leave_it_open, NULL);
        assert_refused("beta", -EPERM, "is the database of node 'alpha', not of 'beta'");
}
END_TEST

START_TEST(missing_table_is_refused)
{
        make_database(10);
        run_sql("DROP TABLE stage_request");
        assert_refused(NODE, -EBADMSG, "no such table: stage_request");
}
END_TEST

START_TEST(missing_column_is_refused)
{
        make_database(10);
        run_sql("ALTER TABLE log DROP COLUMN wall_ms");
        assert_refused(NODE, -EBADMSG, "wall_ms");
}
END_TEST

START_TEST(missing_meta_row_is_refused)
{
        make_database(10);
        run_sql("DELETE FROM meta");
        assert_refused(NODE, -EBADMSG, "does not say whose it is");
}
END_TEST

static void write_file(const char *name, const void *data, size_t size, off_t offset)
{
        char path[128];
        _cleanup_close_ int fd = open(path_of(name, path), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(pwrite(fd, data, size, offset), (ssize_t)size);
}

START_TEST(garbage_is_refused)
{
        static const char garbage[] = "this is what somebody wrote into the wrong file, and it is longer than a header of SQLite's is";

        write_file("dlock.db", garbage, sizeof(garbage), 0);
        assert_refused(NODE, -EBADMSG, "not an SQLite database");
}
END_TEST

START_TEST(empty_file_is_refused)
{
        write_file("dlock.db", "", 0, 0);
        assert_refused(NODE, -EBADMSG, "not an SQLite database");
}
END_TEST

START_TEST(directory_in_the_file_s_place_is_refused)
{
        char path[128];

        ck_assert_int_eq(mkdir(path_of("dlock.db", path), 0700), 0);
        assert_refused(NODE, -EBADMSG, "not an SQLite database");
}
END_TEST

START_TEST(wal_without_its_database_is_refused)
{
        char path[128];

        crash_after(append_and_leave_it_open, NULL);
        ck_assert_int_eq(unlink(path_of("dlock.db", path)), 0);
        assert_refused(NODE, -EBADMSG, "is missing, but its -wal is there");
}
END_TEST

START_TEST(truncated_file_is_refused)
{
        char path[128];

        make_database(2000);
        ck_assert_int_eq(truncate(path_of("dlock.db", path), 100000), 0);
        assert_refused(NODE, -EBADMSG, "is damaged");
}
END_TEST

START_TEST(any_flipped_page_is_refused)
{
        struct stat status;
        char path[128];
        uint8_t page[4096], flipped[4096];
        unsigned refused = 0, pages = 0;

        make_database(2000);
        ck_assert_int_eq(stat(path_of("dlock.db", path), &status), 0);
        for (off_t at = 4096; at < status.st_size; at += 4096, pages++) {
                _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

                ck_assert_int_eq(pread(fd, page, sizeof(page), at), 4096);
                for (size_t i = 0; i < sizeof(page); i++)
                        flipped[i] = (uint8_t)~page[i];
                write_file("dlock.db", flipped, sizeof(flipped), at);
                assert_refused(NODE, -EBADMSG, "is damaged");
                refused++;
                write_file("dlock.db", page, sizeof(page), at);
        }
        ck_assert_uint_gt(pages, 20);
        ck_assert_uint_eq(refused, pages);
        store_close(open_store());
}
END_TEST

static void assert_load_refused(const char *sql, const char *words)
{
        struct loaded loaded = {};
        struct store *store;

        make_database(0);
        store = open_and_load(&loaded);
        append(store, 1, loaded.content.log_last + 1, loaded.content.log_last + 10, NULL);
        store_close(store);
        run_sql(sql);
        store = open_store();
        ck_assert_int_eq(load(store, &loaded), -EBADMSG);
        ck_assert_msg(strstr(error, words), "'%s' is not in '%s'", words, error);
        store_close(store);
}

START_TEST(columns_that_differ_from_the_body_are_refused)
{
        static const char *const cases[][2] = {
                { "UPDATE log SET lock = 'other' WHERE idx = 5", "log row 5: the column 'lock'" },
                { "UPDATE log SET lock = NULL WHERE idx = 5", "log row 5: the column 'lock'" },
                { "UPDATE log SET client = 'c2' WHERE idx = 5", "log row 5: the column 'client'" },
                { "UPDATE log SET token = 6 WHERE idx = 5", "log row 5: the column 'token'" },
                { "UPDATE log SET kind = 'noop' WHERE idx = 5", "log row 5: its body is not that of a 'noop'" },
                { "UPDATE log SET kind = 'future' WHERE idx = 5", "log row 5: its kind 'future' is not known" },
                { "UPDATE log SET body = x'00' WHERE idx = 5", "log row 5: its body" },
                { "UPDATE log SET body = zeroblob(70000) WHERE idx = 5", "log row 5: its body is too long" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                assert_load_refused(cases[i][0], cases[i][1]);
                remove_directory();
                ck_assert_int_eq(mkdir(directory, 0700), 0);
        }
}
END_TEST

START_TEST(gap_in_the_log_is_refused)
{
        assert_load_refused("DELETE FROM log WHERE idx = 5", "log row 5 is missing");
}
END_TEST

START_TEST(log_that_does_not_reach_the_base_is_refused)
{
        assert_load_refused("DELETE FROM log WHERE idx <= 5", "does not reach");
}
END_TEST

START_TEST(base_of_another_term_than_its_entry_is_refused)
{
        assert_load_refused("UPDATE meta SET base_index = 4, base_term = 9", "not written by the same node");
}
END_TEST

START_TEST(record_that_the_loader_refuses_is_refused)
{
        struct raft_record record = record_of(RAFT_TABLE_LOCK, "a", "c1", 1, "one");
        struct loaded loaded = {};
        struct store *store = open_and_load(&loaded);

        (void)store_write(store, &(struct store_batch){ .records = &record, .record_count = 1 });
        ck_assert_int_eq(store_flush(store), 0);
        loaded.refuse = true;
        ck_assert_int_eq(load(store, &loaded), -EBADMSG);
        ck_assert_ptr_nonnull(strstr(error, "key 'a'"));
        store_close(store);
}
END_TEST

START_TEST(second_process_is_refused)
{
        struct store *store = open_store();
        int status;
        pid_t child = fork();

        ck_assert_int_ge(child, 0);
        if (child == 0) {
                struct store *second = NULL;
                int r = store_open(directory, NODE, describe, &second, error);

                _exit(r == -EBUSY && strstr(error, "in use by another process") ? 0 : 1);
        }
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_int_eq(status, 0);
        store_close(store);
        store_close(open_store());
}
END_TEST

START_TEST(directory_that_is_not_there_is_an_error)
{
        struct store *store = NULL;

        remove_directory();
        ck_assert_int_eq(store_open(directory, NODE, describe, &store, error), -ENOENT);
        ck_assert_ptr_nonnull(strstr(error, directory));
}
END_TEST

/* --- crashes -------------------------------------------------------------------------- */

START_TEST(what_a_crash_left_in_the_wal_is_synced_before_open_returns)
{
        struct loaded loaded = {};
        struct store *store;
        struct stat status;
        char path[128];

        crash_after(append_and_leave_it_open, NULL);
        ck_assert_int_eq(stat(path_of("dlock.db-wal", path), &status), 0);
        ck_assert_int_gt(status.st_size, 0);
        store = open_store();
        /* P8: a truncating checkpoint is the only way to an empty WAL. */
        ck_assert_int_eq(stat(path_of("dlock.db-wal", path), &status), 0);
        ck_assert_int_eq(status.st_size, 0);
        ck_assert_int_eq(load(store, &loaded), 0);
        ck_assert_uint_eq(loaded.content.log_last, 40);
        store_close(store);
}
END_TEST

START_TEST(open_waits_for_nobody_who_keeps_it_from_syncing)
{
        sqlite3 *reader = NULL;
        struct store *store = NULL;
        char path[128];

        crash_after(append_and_leave_it_open, NULL);
        ck_assert_int_eq(sqlite3_open(path_of("dlock.db", path), &reader), SQLITE_OK);
        ck_assert_int_eq(sqlite3_exec(reader, "BEGIN; SELECT * FROM log", NULL, NULL, NULL), SQLITE_OK);
        ck_assert_int_eq(store_open(directory, NODE, describe, &store, error), -EBUSY);
        ck_assert_ptr_nonnull(strstr(error, "being read by another program"));
        ck_assert_int_eq(sqlite3_close(reader), SQLITE_OK);
        store_close(open_store());
}
END_TEST

static void tell_token(void *context, const struct store_event *event)
{
        const int *fd = context;

        if (event->kind != STORE_PERSISTED || write(*fd, &event->token, sizeof(event->token)) != sizeof(event->token))
                _exit(1);
}

/* Token n is entry n and the record that says so; tells the durable ones until it is killed. */
static _Noreturn void write_until_killed(int fd, uint64_t next)
{
        struct loaded loaded = {};
        struct store *store = open_and_load(&loaded);
        uint64_t first = next;

        for (;; next++) {
                struct raft_base base = base_of(next, 1);
                struct raft_record record = record_of(RAFT_TABLE_LOCK, "last", "c1", next, "body");

                append(store, 1, next, next, &(struct store_batch){ .base = &base, .records = &record, .record_count = 1,
                                                                    .trim_to = next > 500 ? next - 500 : 0 });
                if (next == first)
                        continue;
                if (next % 7 == 0)
                        store_process(store, tell_token, &fd);
                if (next % 50 == 0)
                        (void)store_flush(store);
        }
}

static uint64_t kill_a_writer(uint64_t next, unsigned after_us)
{
        uint64_t token = 0, told = 0;
        int pipe_fds[2], status;
        pid_t child;

        ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
        child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0)
                write_until_killed(pipe_fds[1], next);
        (void)close(pipe_fds[1]);
        /* From the first token on, so that the kill meets a writer at work. */
        ck_assert_int_eq(read(pipe_fds[0], &told, sizeof(told)), sizeof(told));
        (void)usleep(after_us);
        (void)kill(child, SIGKILL);
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        while (read(pipe_fds[0], &token, sizeof(token)) == sizeof(token))
                told = token;
        (void)close(pipe_fds[0]);
        return next - 1 + told;
}

START_TEST(kill_at_any_moment_loses_nothing_that_was_told)
{
        struct loaded loaded = {};
        char wanted[64];
        uint64_t last = 0;

        srand(1);
        for (unsigned round = 0; round < 20; round++) {
                uint64_t told = kill_a_writer(last + 1, (unsigned)rand() % 60000);
                struct store *store = open_and_load(&loaded);

                ck_assert_uint_ge(loaded.content.log_last, told);
                /* One transaction has the entry, its record and the base: all or none. */
                ck_assert_uint_eq(loaded.content.base.index, loaded.content.log_last);
                ck_assert_uint_eq(loaded.entries, 0);
                (void)snprintf(wanted, sizeof(wanted), "1 last c1 %llu body\n", (unsigned long long)loaded.content.log_last);
                ck_assert_str_eq(loaded.text, wanted);
                last = loaded.content.log_last;
                store_close(store);
        }
}
END_TEST

static void die_while_making(const char *argument)
{
        /* The size limit's signal kills at the first write beyond it. */
        (void)setrlimit(RLIMIT_FSIZE, &(struct rlimit){ .rlim_cur = (rlim_t)atoi(argument), .rlim_max = RLIM_INFINITY });
        (void)open_store();
}

START_TEST(kill_while_the_file_is_made_leaves_nothing_in_the_way)
{
        for (unsigned size = 0; size < 60000; size += 7000) {
                struct loaded loaded = {};
                char argument[16], path[128];
                int status;
                pid_t child;

                (void)snprintf(argument, sizeof(argument), "%u", size);
                child = fork();
                if (child == 0) {
                        die_while_making(argument);
                        _exit(0);
                }
                ck_assert_int_eq(waitpid(child, &status, 0), child);
                if (size < 20000)
                        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ);
                store_close(open_and_load(&loaded));
                ck_assert_int_ne(access(path_of("dlock.db.new", path), F_OK), 0);
                remove_directory();
                ck_assert_int_eq(mkdir(directory, 0700), 0);
        }
}
END_TEST

/* --- a disk that says no ------------------------------------------------------------------ */

/* Appends until the store fails; returns the last index that was told to be durable. */
static uint64_t fill_until_failure(struct store *store, struct seen *seen)
{
        for (uint64_t index = 1; !seen->failed; index++) {
                ck_assert_uint_lt(index, 200000);
                append(store, 1, index, index, NULL);
                if (index % 20 == 0) {
                        (void)store_flush(store);
                        store_process(store, keep, seen);
                }
        }
        /* Only once, however much is still asked for. */
        (void)store_write(store, &(struct store_batch){ .hard = &(struct raft_hard_state){ .term = 9 } });
        ck_assert_int_eq(store_flush(store), -EIO);
        store_process(store, keep, seen);
        ck_assert_uint_eq(seen->failed, 1);
        return seen->token;
}

static void assert_goes_on_after(uint64_t told)
{
        struct loaded loaded = {};
        struct store *store = open_and_load(&loaded);

        ck_assert_uint_ge(loaded.content.log_last, told);
        ck_assert_uint_eq(loaded.content.hard.term, 0);
        append(store, 1, loaded.content.log_last + 1, loaded.content.log_last + 100, NULL);
        ck_assert_int_eq(store_flush(store), 0);
        store_close(store);
}

START_TEST(file_that_may_not_grow_fails_once_and_says_what_to_do)
{
        struct rlimit before;
        static struct seen seen;
        struct store *store;
        uint64_t told;

        (void)signal(SIGXFSZ, SIG_IGN);
        ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
        store = open_store();
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &(struct rlimit){ .rlim_cur = 1000000, .rlim_max = before.rlim_max }), 0);
        told = fill_until_failure(store, &seen);
        ck_assert_uint_gt(told, 0);
        ck_assert_msg(strstr(seen.text, "make room") && strstr(seen.text, directory) && strstr(seen.text, "nothing acknowledged is lost"), "%s", seen.text);
        store_close(store);
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_goes_on_after(told);
}
END_TEST

START_TEST(full_disk_fails_once_and_nothing_is_lost_when_there_is_room_again)
{
        static struct seen seen;
        struct store *store;
        uint64_t told;

        if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("tmpfs", directory, "tmpfs", 0, "size=1500k") < 0)
                return;                      /* needs a namespace of its own */
        store = open_store();
        told = fill_until_failure(store, &seen);
        ck_assert_uint_gt(told, 0);
        ck_assert_msg(strstr(seen.text, "full") && strstr(seen.text, "make room there and start the node again"), "%s", seen.text);
        store_close(store);
        ck_assert_int_eq(mount("tmpfs", directory, "tmpfs", MS_REMOUNT, "size=20m"), 0);
        assert_goes_on_after(told);
        ck_assert_int_eq(umount2(directory, MNT_DETACH), 0);
}
END_TEST

START_TEST(entry_that_describe_does_not_know_stops_the_node)
{
        struct raft_entry *entry = entry_new(1, 1, RAFT_ENTRY_PREEMPT, "a", "b", 1);
        const struct raft_entry *const entries[] = { entry };
        static struct seen seen;
        struct store *store = open_store();

        entry->size--;
        (void)store_write(store, &(struct store_batch){ .entries = entries, .entry_count = 1 });
        free(entry);
        ck_assert_int_eq(store_flush(store), -EIO);
        store_process(store, keep, &seen);
        ck_assert_uint_eq(seen.failed, 1);
        ck_assert_ptr_nonnull(strstr(seen.text, "entry 1 has kind 5"));
        store_close(store);
}
END_TEST

/* --- snapshots ---------------------------------------------------------------------------- */

static void put_records(struct store *store, uint64_t index, unsigned count, const char *label)
{
        struct raft_record records[300];
        struct raft_base base = base_of(index, 1);
        char keys[300][16];

        ck_assert_uint_le(count, ARRAY_SIZE(records));
        for (unsigned i = 0; i < count; i++) {
                (void)snprintf(keys[i], sizeof(keys[i]), "key-%03u", i);
                records[i] = record_of(i % 2 ? RAFT_TABLE_LOCK : RAFT_TABLE_CLIENT, keys[i], label, i, "some body");
        }
        append(store, 1, index, index, &(struct store_batch){ .base = &base, .records = records, .record_count = count });
        ck_assert_int_eq(store_flush(store), 0);
}

static void take_snapshot(struct store *store, struct seen *seen, size_t chunk)
{
        bytes_clear(&seen->stream);
        store_snapshot_make(store, 77);
        wait_for(store, seen, &seen->snapshots, seen->snapshots + 1);
        ck_assert_uint_eq(seen->cookie, 77);
        while (seen->stream.size < seen->total) {
                size_t before = seen->stream.size;

                store_snapshot_read(store, 78, seen->snapshot, before, chunk);
                wait_for(store, seen, &seen->chunks, seen->chunks + 1);
                ck_assert_uint_gt(seen->stream.size, before);
                ck_assert_uint_le(seen->stream.size - before, chunk);
        }
        ck_assert_uint_eq(seen->stream.size, seen->total);
}

static bool count_record(void *context, const struct raft_record *record _unused_)
{
        ++*(unsigned *)context;
        return true;
}

/* In pieces that end with a record, as chunks do. */
static void stage_stream(struct store *store, const struct bytes *stream, size_t until)
{
        size_t at = 0;

        (void)store_stage_begin(store);
        while (at < until) {
                size_t end = at;

                while (end < until && end - at < 500)
                        end += 4 + bytes_load_u32(stream->data + end);
                (void)store_stage_chunk(store, stream->data + at, end - at);
                at = end;
        }
        ck_assert_int_eq(store_flush(store), 0);
}

START_TEST(snapshot_of_one_node_becomes_the_state_of_another)
{
        static struct seen seen;
        struct loaded first = {}, second = {};
        struct store *store = open_and_load(&first);
        char origin[64];
        unsigned count = 0;

        put_records(store, 1, 300, "c1");
        ck_assert_int_eq(load(store, &first), 0);
        take_snapshot(store, &seen, 1000);
        ck_assert_uint_eq(seen.base.index, 1);
        ck_assert_uint_eq(seen.base.term, 1);
        ck_assert_mem_eq(seen.base.configuration, "members", 7);
        ck_assert(store_snapshot_walk(seen.stream.data, seen.stream.size, &count, count_record));
        ck_assert_uint_eq(count, 300);
        store_close(store);

        (void)strcpy(origin, directory);
        make_directory();
        store = open_store();
        put_records(store, 1, 3, "will be replaced");
        seen.base.index = 50;
        stage_stream(store, &seen.stream, seen.stream.size);
        (void)store_stage_install(store, &seen.base);
        append(store, 2, 51, 51, NULL);
        ck_assert_int_eq(store_flush(store), 0);
        store_close(store);
        store = open_and_load(&second);
        ck_assert_uint_eq(second.content.base.index, 50);
        ck_assert_uint_eq(second.content.log_first, 51);
        ck_assert_uint_eq(second.records, 300);
        ck_assert_mem_eq(second.text, first.text, strlen(first.text));
        /* And once more over itself: the tables have changed places. */
        put_records(store, 52, 5, "later");
        seen.base.index = 60;
        stage_stream(store, &seen.stream, seen.stream.size);
        (void)store_stage_install(store, &seen.base);
        put_records(store, 61, 1, "c1");
        store_close(store);
        store = open_and_load(&second);
        ck_assert_uint_eq(second.content.base.index, 61);
        ck_assert_str_eq(second.text, first.text);
        store_close(store);
        remove_directory();
        (void)strcpy(directory, origin);
        bytes_done(&seen.stream);
}
END_TEST

START_TEST(install_keeps_the_log_behind_an_entry_that_both_have)
{
        static struct seen seen;
        struct loaded loaded = {};
        struct store *store = open_store();
        struct raft_base base = base_of(5, 1), other = base_of(8, 2);

        append(store, 1, 1, 10, NULL);
        (void)store_stage_begin(store);
        (void)store_stage_install(store, &base);
        ck_assert_int_eq(store_flush(store), 0);
        ck_assert_int_eq(load(store, &loaded), 0);
        ck_assert_uint_eq(loaded.content.log_first, 6);
        ck_assert_uint_eq(loaded.content.log_last, 10);
        /* Entry 8 has term 1 here: this log is another history. */
        (void)store_stage_begin(store);
        (void)store_stage_install(store, &other);
        ck_assert_int_eq(store_flush(store), 0);
        ck_assert_int_eq(load(store, &loaded), 0);
        ck_assert_uint_eq(loaded.content.log_first, 9);
        ck_assert_uint_eq(loaded.content.log_last, 8);
        ck_assert_uint_eq(loaded.content.base.term, 2);
        store_read_log(store, 1, 8, 10, 1000);
        wait_for(store, &seen, &seen.logs, 1);
        ck_assert_uint_eq(seen.count, 0);
        store_close(store);
}
END_TEST

static struct bytes staged_stream;

static void stage_half_and_leave(const char *argument _unused_)
{
        size_t until = 0;

        while (until < staged_stream.size / 2)
                until += 4 + bytes_load_u32(staged_stream.data + until);
        stage_stream(open_store(), &staged_stream, until);
}

START_TEST(crash_in_the_middle_of_staging_leaves_the_old_state)
{
        static struct seen seen;
        struct loaded before = {}, after = {};
        struct store *store = open_store();

        put_records(store, 1, 200, "c1");
        take_snapshot(store, &seen, 4096);
        put_records(store, 2, 10, "changed");
        ck_assert_int_eq(load(store, &before), 0);
        store_close(store);
        staged_stream = seen.stream;
        crash_after(stage_half_and_leave, NULL);
        store = open_and_load(&after);
        ck_assert_str_eq(before.text, after.text);
        ck_assert_uint_eq(after.content.base.index, 2);
        store_close(store);
        bytes_done(&seen.stream);
}
END_TEST

START_TEST(snapshot_stays_as_it_was_while_the_state_goes_on)
{
        static struct seen seen;
        struct store *store = open_store();
        struct bytes first;

        put_records(store, 1, 100, "c1");
        take_snapshot(store, &seen, 300);
        first = seen.stream;
        seen.stream = (struct bytes){};
        put_records(store, 2, 50, "changed");
        while (seen.stream.size < seen.total) {
                store_snapshot_read(store, 1, seen.snapshot, seen.stream.size, 700);
                wait_for(store, &seen, &seen.chunks, seen.chunks + 1);
        }
        ck_assert_mem_eq(first.data, seen.stream.data, first.size);
        store_snapshot_drop(store, seen.snapshot);
        store_snapshot_read(store, 2, seen.snapshot, 0, 700);
        wait_for(store, &seen, &seen.read_failed, 1);
        ck_assert_uint_eq(seen.cookie, 2);
        store_close(store);
        bytes_done(&first);
        bytes_done(&seen.stream);
}
END_TEST

START_TEST(snapshot_read_outside_its_records_is_refused)
{
        static struct seen seen;
        struct store *store = open_store();

        put_records(store, 1, 20, "c1");
        take_snapshot(store, &seen, 300);
        store_snapshot_read(store, 1, seen.snapshot, seen.total + 1, 300);
        wait_for(store, &seen, &seen.read_failed, 1);
        store_snapshot_read(store, 1, seen.snapshot, 0, 10);
        wait_for(store, &seen, &seen.read_failed, 2);
        store_snapshot_read(store, 1, seen.snapshot, 3, 300);
        wait_for(store, &seen, &seen.read_failed, 3);
        store_close(store);
        bytes_done(&seen.stream);
}
END_TEST

START_TEST(snapshot_of_an_empty_state_has_no_bytes)
{
        static struct seen seen;
        struct store *store = open_store();

        store_snapshot_make(store, 5);
        wait_for(store, &seen, &seen.snapshots, 1);
        ck_assert_uint_eq(seen.total, 0);
        store_snapshot_read(store, 6, seen.snapshot, 0, 300);
        wait_for(store, &seen, &seen.chunks, 1);
        ck_assert_uint_eq(seen.stream.size, 0);
        ck_assert(store_snapshot_walk(NULL, 0, NULL, NULL));
        store_close(store);
}
END_TEST

START_TEST(hostile_snapshot_bytes_are_refused)
{
        static struct seen seen;
        struct store *store = open_store();
        unsigned count;

        put_records(store, 1, 4, "c1");
        take_snapshot(store, &seen, 4096);
        store_close(store);
        /* Cut anywhere but between records: never well formed, never read beyond the end. */
        for (size_t size = 1; size < seen.stream.size; size++) {
                uint8_t *cut = malloc(size);
                size_t end = 0;

                memcpy(cut, seen.stream.data, size);
                while (end < size)
                        end += 4 + bytes_load_u32(seen.stream.data + end);
                ck_assert_int_eq(store_snapshot_walk(cut, size, &count, count_record), end == size);
                free(cut);
        }
        /* Any one byte of the first record's sizes and table made large. */
        for (size_t at = 0; at < 6; at++) {
                uint8_t kept = seen.stream.data[at];

                seen.stream.data[at] = 0xff;
                ck_assert(!store_snapshot_walk(seen.stream.data, seen.stream.size, &count, count_record));
                seen.stream.data[at] = kept;
        }
        /* A key with a zero inside is not a text. */
        seen.stream.data[7] = 0;
        ck_assert(!store_snapshot_walk(seen.stream.data, seen.stream.size, &count, count_record));
        bytes_done(&seen.stream);
}
END_TEST

START_TEST(staged_garbage_stops_the_node_and_changes_nothing)
{
        static struct seen seen;
        struct loaded before = {}, after = {};
        struct store *store = open_store();

        put_records(store, 1, 4, "c1");
        ck_assert_int_eq(load(store, &before), 0);
        (void)store_stage_begin(store);
        (void)store_stage_chunk(store, "\x05\0\0\0garbage", 11);
        (void)store_stage_install(store, &(struct raft_base){ .index = 9, .term = 1 });
        ck_assert_int_eq(store_flush(store), -EIO);
        store_process(store, keep, &seen);
        ck_assert_uint_eq(seen.failed, 1);
        store_close(store);
        store = open_and_load(&after);
        ck_assert_str_eq(before.text, after.text);
        store_close(store);
}
END_TEST

/* --- reading the log ---------------------------------------------------------------------- */

START_TEST(log_is_read_from_where_it_is_asked_until_the_limits)
{
        static struct seen seen;
        struct store *store = open_store();

        append(store, 1, 1, 100, NULL);
        ck_assert_int_eq(store_flush(store), 0);
        store_read_log(store, 9, 41, 10, 1000000);
        wait_for(store, &seen, &seen.logs, 1);
        ck_assert_uint_eq(seen.cookie, 9);
        ck_assert_uint_eq(seen.count, 10);
        ck_assert_uint_eq(seen.indices[0], 41);
        ck_assert_uint_eq(seen.indices[9], 50);
        ck_assert_uint_eq(seen.log_first, 1);
        /* At least one, however small the limit: the caller gets on. */
        store_read_log(store, 9, 41, 10, 1);
        wait_for(store, &seen, &seen.logs, 2);
        ck_assert_uint_eq(seen.count, 1);
        store_read_log(store, 9, 91, 100, 300);
        wait_for(store, &seen, &seen.logs, 3);
        ck_assert_uint_gt(seen.count, 1);
        ck_assert_uint_lt(seen.count, 10);
        store_close(store);
}
END_TEST

START_TEST(entries_that_are_trimmed_or_not_yet_there_read_as_none)
{
        struct raft_base base = base_of(60, 1);
        static struct seen seen;
        struct store *store = open_store();

        append(store, 1, 1, 100, &(struct store_batch){ .base = &base, .trim_to = 51 });
        ck_assert_int_eq(store_flush(store), 0);
        store_read_log(store, 1, 50, 10, 1000000);
        wait_for(store, &seen, &seen.logs, 1);
        ck_assert_uint_eq(seen.count, 0);
        ck_assert_uint_eq(seen.log_first, 51);
        store_read_log(store, 2, 101, 10, 1000000);
        wait_for(store, &seen, &seen.logs, 2);
        ck_assert_uint_eq(seen.count, 0);
        store_read_log(store, 3, 51, 10, 1000000);
        wait_for(store, &seen, &seen.logs, 3);
        ck_assert_uint_eq(seen.count, 10);
        store_close(store);
}
END_TEST

START_TEST(row_that_was_changed_under_a_running_node_is_reported)
{
        static struct seen seen;
        struct store *store = open_store();

        append(store, 1, 1, 10, NULL);
        ck_assert_int_eq(store_flush(store), 0);
        run_sql("UPDATE log SET lock = 'forged' WHERE idx = 4");
        store_read_log(store, 8, 1, 10, 1000000);
        wait_for(store, &seen, &seen.read_failed, 1);
        ck_assert_uint_eq(seen.cookie, 8);
        ck_assert_ptr_nonnull(strstr(seen.text, "log row 4: the column 'lock'"));
        store_read_history(store, 9, NULL, 0, 10);
        wait_for(store, &seen, &seen.read_failed, 2);
        store_close(store);
}
END_TEST

START_TEST(history_is_paged_and_filtered_by_lock)
{
        struct raft_base base = base_of(60, 1);
        static struct seen seen;
        struct store *store = open_store();

        append(store, 1, 1, 100, &(struct store_batch){ .base = &base, .trim_to = 11 });
        ck_assert_int_eq(store_flush(store), 0);
        store_read_history(store, 1, "lock-0", 0, 20);
        wait_for(store, &seen, &seen.histories, 1);
        ck_assert_uint_eq(seen.count, 20);
        ck_assert_uint_eq(seen.indices[0], 12);
        ck_assert_uint_eq(seen.indices[19], 69);
        ck_assert_uint_eq(seen.log_first, 11);
        ck_assert_uint_eq(seen.looked_until, 69);
        ck_assert(seen.more);
        for (size_t i = 0; i < seen.count; i++)
                ck_assert_str_eq(seen.locks[i], "lock-0");
        store_read_history(store, 2, "lock-0", seen.looked_until, 20);
        wait_for(store, &seen, &seen.histories, 2);
        ck_assert_uint_eq(seen.count, 10);
        ck_assert_uint_eq(seen.looked_until, 100);
        ck_assert(!seen.more);
        store_read_history(store, 3, NULL, 95, 1000);
        wait_for(store, &seen, &seen.histories, 3);
        ck_assert_uint_eq(seen.count, 5);
        store_read_history(store, 4, "nobody's", 0, 10);
        wait_for(store, &seen, &seen.histories, 4);
        ck_assert_uint_eq(seen.count, 0);
        ck_assert_uint_eq(seen.looked_until, 100);
        store_read_history(store, 5, NULL, UINT64_MAX, 10);
        wait_for(store, &seen, &seen.histories, 5);
        ck_assert_uint_eq(seen.count, 0);
        ck_assert(!seen.more);
        store_close(store);
}
END_TEST

START_TEST(history_looks_at_a_bounded_number_of_rows)
{
        static struct seen seen;
        struct store *store = open_store();

        for (uint64_t index = 1; index <= 120000; index += 4000)
                append(store, 1, index, index + 3999, NULL);
        ck_assert_int_eq(store_flush(store), 0);
        store_read_history(store, 1, "nobody's", 0, 10);
        wait_for(store, &seen, &seen.histories, 1);
        ck_assert_uint_eq(seen.looked_until, 100000);
        ck_assert(seen.more);
        store_read_history(store, 1, "nobody's", 100000, 10);
        wait_for(store, &seen, &seen.histories, 2);
        ck_assert_uint_eq(seen.looked_until, 120000);
        ck_assert(!seen.more);
        store_close(store);
}
END_TEST

START_TEST(close_finishes_what_is_queued)
{
        struct loaded loaded = {};
        struct store *store = open_store();

        append(store, 1, 1, 100, NULL);
        store_read_log(store, 1, 1, 10, 1000);
        store_read_history(store, 2, "lock-1", 0, 10);
        store_snapshot_make(store, 3);
        store_close(store);
        store = open_and_load(&loaded);
        ck_assert_uint_eq(loaded.content.log_last, 100);
        store_close(store);
        ck_assert_ptr_null(store_close(NULL));
}
END_TEST

static TCase *add_case(Suite *s, const char *name)
{
        TCase *c = tcase_create(name);

        tcase_add_checked_fixture(c, make_directory, remove_directory);
        tcase_set_timeout(c, 60);
        suite_add_tcase(s, c);
        return c;
}

static Suite *suite(void)
{
        Suite *s = suite_create("store");
        TCase *c;

        c = add_case(s, "write and load");
        tcase_add_test(c, new_database_is_empty_and_has_an_incarnation);
        tcase_add_test(c, everything_written_is_read_again);
        tcase_add_test(c, tokens_come_back_in_order_and_the_last_covers_all);
        tcase_add_test(c, truncated_entries_are_gone_and_others_take_their_place);
        tcase_add_test(c, base_moves_with_its_records_and_deletions);
        tcase_add_test(c, log_is_trimmed_a_bounded_number_of_rows_at_a_time);
        tcase_add_test(c, log_may_be_trimmed_to_nothing);
        tcase_add_test(c, wal_starts_over_under_load_and_stays_short);
        c = add_case(s, "what is refused");
        tcase_add_test(c, newer_schema_is_refused);
        tcase_add_test(c, newer_schema_that_only_the_wal_tells_is_refused_and_the_wal_untouched);
        tcase_add_test(c, database_of_another_program_is_refused);
        tcase_add_test(c, rollback_journal_database_of_another_program_is_refused);
        tcase_add_test(c, database_of_another_node_is_refused);
        tcase_add_test(c, database_of_another_node_is_refused_with_its_wal_untouched);
        tcase_add_test(c, missing_table_is_refused);
        tcase_add_test(c, missing_column_is_refused);
        tcase_add_test(c, missing_meta_row_is_refused);
        tcase_add_test(c, garbage_is_refused);
        tcase_add_test(c, empty_file_is_refused);
        tcase_add_test(c, directory_in_the_file_s_place_is_refused);
        tcase_add_test(c, wal_without_its_database_is_refused);
        tcase_add_test(c, truncated_file_is_refused);
        tcase_add_test(c, any_flipped_page_is_refused);
        tcase_add_test(c, columns_that_differ_from_the_body_are_refused);
        tcase_add_test(c, gap_in_the_log_is_refused);
        tcase_add_test(c, log_that_does_not_reach_the_base_is_refused);
        tcase_add_test(c, base_of_another_term_than_its_entry_is_refused);
        tcase_add_test(c, record_that_the_loader_refuses_is_refused);
        tcase_add_test(c, second_process_is_refused);
        tcase_add_test(c, directory_that_is_not_there_is_an_error);
        c = add_case(s, "crashes");
        tcase_add_test(c, what_a_crash_left_in_the_wal_is_synced_before_open_returns);
        tcase_add_test(c, open_waits_for_nobody_who_keeps_it_from_syncing);
        tcase_add_test(c, kill_at_any_moment_loses_nothing_that_was_told);
        tcase_add_test(c, kill_while_the_file_is_made_leaves_nothing_in_the_way);
        c = add_case(s, "a disk that says no");
        tcase_add_test(c, file_that_may_not_grow_fails_once_and_says_what_to_do);
        tcase_add_test(c, full_disk_fails_once_and_nothing_is_lost_when_there_is_room_again);
        tcase_add_test(c, entry_that_describe_does_not_know_stops_the_node);
        c = add_case(s, "snapshots");
        tcase_add_test(c, snapshot_of_one_node_becomes_the_state_of_another);
        tcase_add_test(c, install_keeps_the_log_behind_an_entry_that_both_have);
        tcase_add_test(c, crash_in_the_middle_of_staging_leaves_the_old_state);
        tcase_add_test(c, snapshot_stays_as_it_was_while_the_state_goes_on);
        tcase_add_test(c, snapshot_read_outside_its_records_is_refused);
        tcase_add_test(c, snapshot_of_an_empty_state_has_no_bytes);
        tcase_add_test(c, hostile_snapshot_bytes_are_refused);
        tcase_add_test(c, staged_garbage_stops_the_node_and_changes_nothing);
        c = add_case(s, "reading the log");
        tcase_add_test(c, log_is_read_from_where_it_is_asked_until_the_limits);
        tcase_add_test(c, entries_that_are_trimmed_or_not_yet_there_read_as_none);
        tcase_add_test(c, row_that_was_changed_under_a_running_node_is_reported);
        tcase_add_test(c, history_is_paged_and_filtered_by_lock);
        tcase_add_test(c, history_looks_at_a_bounded_number_of_rows);
        tcase_add_test(c, close_finishes_what_is_queued);
        return s;
}

int main(void)
{
        SRunner *runner = srunner_create(suite());
        int failed;

        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
