/* Whole copies: made beside a writer at work, refused as a node's database, made a new cluster's. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "store/backup.h"
#include "store_kit.h"

#define FLOOR (UINT64_C(1) << 40)

/* Makes a backup of the store and writes it to backup.db, chunk by chunk. */
static void take(struct store *store, struct seen *seen)
{
        bytes_clear(&seen->stream);
        store_backup_make(store, 7);
        wait_for(store, seen, &seen->backups, seen->backups + 1);
        while (seen->stream.size < seen->total) {
                store_backup_read(store, 8, seen->snapshot, seen->stream.size, 10000);
                wait_for(store, seen, &seen->chunks, seen->chunks + 1);
        }
        ck_assert_uint_eq(seen->stream.size, seen->total);
        write_file("backup.db", seen->stream.data, seen->stream.size, 0);
}

static sqlite3_int64 ask(const char *name, const char *sql)
{
        sqlite3 *handle = NULL;
        sqlite3_stmt *statement = NULL;
        sqlite3_int64 number;
        char path[128];

        ck_assert_int_eq(sqlite3_open_v2(path_of(name, path), &handle, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
        ck_assert_msg(sqlite3_prepare_v2(handle, sql, -1, &statement, NULL) == SQLITE_OK, "%s", sqlite3_errmsg(handle));
        ck_assert_int_eq(sqlite3_step(statement), SQLITE_ROW);
        number = sqlite3_column_int64(statement, 0);
        ck_assert_int_eq(sqlite3_finalize(statement), SQLITE_OK);
        ck_assert_int_eq(sqlite3_close(handle), SQLITE_OK);
        return number;
}

static bool is_there(const char *name)
{
        char path[128];

        return access(path_of(name, path), F_OK) == 0;
}

static int open_restored(const char *from, struct store **ret_store)
{
        char path[128];
        _cleanup_close_ int fd = open(path_of(from, path), O_RDONLY | O_CLOEXEC);

        ck_assert_int_ge(fd, 0);
        return store_restore_open(directory, NODE, fd, path, describe, ret_store, error);
}

/* A new cluster's first word: identity, a base 2^40 further on, one more record. */
static void begin_anew(struct store *store, uint64_t last)
{
        struct store_identity identity = { .cluster = { { 9 } }, .incarnation = { { 8 } }, .node = 1, .name = NODE };
        struct raft_base base = base_of(last + FLOOR, 3);
        struct raft_record record = record_of(RAFT_TABLE_LOCK, "last", "c1", last, "body");

        (void)store_write(store, &(struct store_batch){ .identity = &identity, .hard = &(struct raft_hard_state){ .term = 4 }, .clear_log = true,
                                                        .base = &base, .records = &record, .record_count = 1 });
}

static void assert_anew(uint64_t last)
{
        struct loaded loaded = {};
        struct store *store = open_and_load(&loaded);

        ck_assert_uint_eq(loaded.content.base.index, last + FLOOR);
        ck_assert_uint_eq(loaded.content.log_first, last + FLOOR + 1);
        ck_assert_uint_eq(loaded.content.log_last, last + FLOOR);
        ck_assert_uint_eq(loaded.content.hard.term, 4);
        ck_assert_uint_eq(loaded.content.hard.vote, 0);
        ck_assert_uint_eq(loaded.content.identity.cluster.bytes[0], 9);
        ck_assert_uint_eq(loaded.content.identity.node, 1);
        ck_assert_ptr_nonnull(strstr(loaded.text, "1 last c1"));
        ck_assert_uint_eq(loaded.entries, 0);
        append(store, 4, last + FLOOR + 1, last + FLOOR + 3, NULL);
        ck_assert_int_eq(store_flush(store), 0);
        store_close(store);
}

START_TEST(a_backup_holds_all_that_was_written_before_it_and_is_whole)
{
        struct loaded loaded = {};
        struct store *store = open_and_load(&loaded);
        struct raft_base base = base_of(300, 1);
        struct raft_record record = record_of(RAFT_TABLE_LOCK, "lock-0", "c1", 300, "body");
        struct seen seen = {};

        for (uint64_t round = 1; round <= 5; round++) {
                uint64_t last = round * 400;

                append(store, 1, last - 399, last, round == 1 ? &(struct store_batch){ .base = &base, .records = &record, .record_count = 1 } : NULL);
                take(store, &seen);
                ck_assert_uint_eq(seen.log_last, last);
                ck_assert_int_eq(ask("backup.db", "SELECT max(idx) FROM log"), (sqlite3_int64)last);
                ck_assert_int_eq(ask("backup.db", "SELECT count(*) FROM log"), (sqlite3_int64)last);
                ck_assert_int_eq(ask("backup.db", "SELECT token FROM lock WHERE name = 'lock-0'"), 300);
                ck_assert_int_eq(ask("backup.db", "SELECT quick_check = 'ok' FROM pragma_quick_check"), 1);
                ck_assert_int_eq(ask("backup.db", "SELECT count(*) FROM meta WHERE name = 'alpha' AND base_index = 300"), 1);
                ck_assert(!is_there("backup.db-wal"));
                store_backup_drop(store, seen.snapshot);
        }
        ck_assert(!is_there("dlock.db.backup"));
        store_close(store);
        bytes_done(&seen.stream);
}
END_TEST

START_TEST(a_backup_made_while_entries_are_written_is_of_one_moment)
{
        struct loaded loaded = {};
        struct store *store = open_and_load(&loaded);
        uint64_t next = 1, first;
        struct seen seen = {};

        for (unsigned round = 0; round < 20; round++) {
                unsigned wanted = seen.backups + 1;

                first = next;
                for (unsigned i = 0; i < 10; i++, next++) {
                        struct raft_base base = base_of(next, 1);
                        struct raft_record record = record_of(RAFT_TABLE_LOCK, "last", "c1", next, "body");

                        append(store, 1, next, next, &(struct store_batch){ .base = &base, .records = &record, .record_count = 1 });
                        if (i == 4)
                                store_backup_make(store, 7);
                }
                wait_for(store, &seen, &seen.backups, wanted);
                ck_assert_uint_ge(seen.log_last, first + 4);
                bytes_clear(&seen.stream);
                while (seen.stream.size < seen.total) {
                        store_backup_read(store, 8, seen.snapshot, seen.stream.size, 1 << 20);
                        wait_for(store, &seen, &seen.chunks, seen.chunks + 1);
                }
                write_file("backup.db", seen.stream.data, seen.stream.size, 0);
                /* Entry, record and base are one transaction. */
                ck_assert_int_eq(ask("backup.db", "SELECT max(idx) FROM log"), (sqlite3_int64)seen.log_last);
                ck_assert_int_eq(ask("backup.db", "SELECT token FROM lock"), (sqlite3_int64)seen.log_last);
                ck_assert_int_eq(ask("backup.db", "SELECT base_index FROM meta"), (sqlite3_int64)seen.log_last);
        }
        store_close(store);
        bytes_done(&seen.stream);
}
END_TEST

START_TEST(what_is_no_backup_any_more_cannot_be_read_and_the_node_goes_on)
{
        struct loaded loaded = {};
        struct store *store = open_and_load(&loaded);
        struct seen seen = {};

        append(store, 1, 1, 10, NULL);
        take(store, &seen);
        store_backup_read(store, 9, seen.snapshot, seen.total + 1, 100);
        wait_for(store, &seen, &seen.read_failed, 1);
        store_backup_drop(store, seen.snapshot);
        store_backup_read(store, 9, seen.snapshot, 0, 100);
        wait_for(store, &seen, &seen.read_failed, 2);
        append(store, 1, 11, 20, NULL);
        ck_assert_int_eq(store_flush(store), 0);
        /* Closed while the next one is being made. */
        store_backup_make(store, 10);
        store_close(store);
        ck_assert(!is_there("dlock.db.backup"));
        bytes_done(&seen.stream);
}
END_TEST

START_TEST(a_backup_in_the_place_of_a_database_is_refused)
{
        struct loaded loaded = {};
        struct store *store = open_and_load(&loaded);
        struct seen seen = {};
        char from[128], to[128];

        append(store, 1, 1, 10, NULL);
        take(store, &seen);
        store_close(store);
        /* What a process left that was killed while it made one is removed. */
        write_file("dlock.db.backup", "part", 4, 0);
        store_close(open_store());
        ck_assert(!is_there("dlock.db.backup"));
        ck_assert_int_eq(rename(path_of("backup.db", from), path_of("dlock.db", to)), 0);
        assert_refused(NODE, -EPERM, "is a backup, not a node's database");
        bytes_done(&seen.stream);
}
END_TEST

/* backup.db of a database with 20 entries, and nothing else. */
static void only_a_backup(void)
{
        struct loaded loaded = {};
        struct store *store = open_and_load(&loaded);
        struct seen seen = {};
        char path[128];

        append(store, 1, 1, 20, NULL);
        take(store, &seen);
        store_close(store);
        ck_assert_int_eq(unlink(path_of("dlock.db", path)), 0);
        bytes_done(&seen.stream);
}

START_TEST(a_backup_becomes_the_database_of_a_new_cluster)
{
        struct loaded loaded = {};
        struct store *store = NULL;

        only_a_backup();
        ck_assert_msg(open_restored("backup.db", &store) == 0, "%s", error);
        ck_assert_msg(load(store, &loaded) == 0, "%s", error);
        ck_assert_uint_eq(loaded.entries, 20);
        begin_anew(store, 20);
        ck_assert(!is_there("dlock.db"));
        ck_assert_msg(store_restore_close(store, true, error) == 0, "%s", error);
        ck_assert(!is_there("dlock.db.new") && !is_there("dlock.db.new-wal") && !is_there("dlock.db.new-shm"));
        assert_anew(20);
        /* The backup is as it was. */
        ck_assert_int_eq(ask("backup.db", "SELECT count(*) FROM log"), 20);
}
END_TEST

START_TEST(a_restore_that_is_given_up_leaves_nothing)
{
        struct store *store = NULL;
        struct bytes before, after;

        only_a_backup();
        before = picture();
        ck_assert_msg(open_restored("backup.db", &store) == 0, "%s", error);
        begin_anew(store, 20);
        ck_assert_int_eq(store_restore_close(store, false, error), 0);
        after = picture();
        ck_assert_uint_eq(before.size, after.size);
        ck_assert_mem_eq(before.data, after.data, before.size);
        bytes_done(&before);
        bytes_done(&after);
}
END_TEST

static void restore_and_die(const char *argument)
{
        struct store *store = NULL;

        if (open_restored("backup.db", &store) < 0)
                _exit(1);
        if (*argument == 'w')
                begin_anew(store, 20);
        if (store_flush(store) < 0)
                _exit(1);
}

START_TEST(a_kill_during_a_restore_leaves_no_database_and_the_next_one_works)
{
        struct store *store = NULL;

        only_a_backup();
        crash_after(restore_and_die, "opened");
        ck_assert(!is_there("dlock.db"));
        crash_after(restore_and_die, "written");
        ck_assert(!is_there("dlock.db"));
        ck_assert_msg(open_restored("backup.db", &store) == 0, "%s", error);
        begin_anew(store, 20);
        ck_assert_int_eq(store_restore_close(store, true, error), 0);
        assert_anew(20);
}
END_TEST

static void assert_not_restored(const char *from, int number, const char *words)
{
        struct bytes before = picture(), after;
        struct store *store = NULL;
        int r = open_restored(from, &store);

        after = picture();
        ck_assert_msg(r == number, "%d: %s", r, error);
        ck_assert_msg(strstr(error, words), "'%s' is not in '%s'", words, error);
        ck_assert_uint_eq(before.size, after.size);
        ck_assert_mem_eq(before.data, after.data, before.size);
        bytes_done(&before);
        bytes_done(&after);
}

START_TEST(what_is_not_a_backup_or_has_no_room_is_not_restored)
{
        char from[128], to[128];
        struct store *store = NULL;

        only_a_backup();
        make_database(5);
        assert_not_restored("backup.db", -EEXIST, "dlock.db is there");
        store = open_store();
        assert_not_restored("backup.db", -EBUSY, "in use by another process");
        store_close(store);
        ck_assert_int_eq(rename(path_of("dlock.db", from), path_of("other.db", to)), 0);
        assert_not_restored("other.db", -EPERM, "not a backup");
        write_file("text", "not a database, but long enough to be looked at as one", 54, 0);
        assert_not_restored("text", -EBADMSG, "text is not an SQLite database: a file written by \"dlockctl backup\"");
        write_file("backup.db", "scribble", 8, 4096 + 100);
        write_file("backup.db", "scribble scribble scribble", 26, 3 * 4096);
        assert_not_restored("backup.db", -EBADMSG, "damaged");
}
END_TEST

START_TEST(a_copy_is_kept_before_the_database_begins_anew)
{
        struct loaded loaded = {};
        struct store *store;

        make_database(20);
        store = open_and_load(&loaded);
        ck_assert_msg(store_keep_copy(store, "dlock.db.before", error) == 0, "%s", error);
        ck_assert_int_eq(store_keep_copy(store, "dlock.db.before", error), -EEXIST);
        begin_anew(store, 20);
        ck_assert_int_eq(store_flush(store), 0);
        store_close(store);
        assert_anew(20);
        ck_assert(!is_there("dlock.db.new"));
        ck_assert_int_eq(ask("dlock.db.before", "SELECT count(*) FROM log"), 20);
        ck_assert_int_eq(ask("dlock.db.before", "SELECT application_id FROM pragma_application_id"), STORE_APPLICATION_ID);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("store_backup");
        TCase *c = add_case(s, "backup");

        tcase_add_test(c, a_backup_holds_all_that_was_written_before_it_and_is_whole);
        tcase_add_test(c, a_backup_made_while_entries_are_written_is_of_one_moment);
        tcase_add_test(c, what_is_no_backup_any_more_cannot_be_read_and_the_node_goes_on);
        tcase_add_test(c, a_backup_in_the_place_of_a_database_is_refused);
        c = add_case(s, "restore");
        tcase_add_test(c, a_backup_becomes_the_database_of_a_new_cluster);
        tcase_add_test(c, a_restore_that_is_given_up_leaves_nothing);
        tcase_add_test(c, a_kill_during_a_restore_leaves_no_database_and_the_next_one_works);
        tcase_add_test(c, what_is_not_a_backup_or_has_no_room_is_not_restored);
        tcase_add_test(c, a_copy_is_kept_before_the_database_begins_anew);
        return run_suite(s);
}
