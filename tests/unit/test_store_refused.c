/* What is not ours, damaged, or too new: refused with a reason, and left as it was. */
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
#include "store_kit.h"

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

/* Transactions of one entry each, and no close. */
static void append_ten_times_and_leave_it_open(const char *argument _unused_)
{
        struct store *store = open_store();

        for (uint64_t index = 1; index <= 10; index++) {
                (void)append(store, 1, index, index, NULL);
                ck_assert_int_eq(store_flush(store), 0);
        }
}

#define FRAME_BYTES (24 + 4096)

/* Where the last transaction begins: behind the last frame but one that ends one. */
static off_t start_of_last_transaction(const uint8_t *wal, size_t size)
{
        off_t start = 32, end = 32;

        for (size_t at = 32; at + FRAME_BYTES <= size; at += FRAME_BYTES)
                if (memcmp(wal + at + 4, "\0\0\0\0", 4) != 0) {
                        start = end;
                        end = (off_t)(at + FRAME_BYTES);
                }
        return start;
}

/* SQLite would take it for the end, and pass over all that follows in silence. */
START_TEST(flipped_byte_in_the_wal_is_refused_unless_it_is_in_the_last_transaction)
{
        static uint8_t wal[64 * FRAME_BYTES];
        char path[128];
        struct loaded loaded = {};
        unsigned refused = 0;
        uint8_t flipped;
        ssize_t size;
        off_t last;

        crash_after(append_ten_times_and_leave_it_open, NULL);
        {
                _cleanup_close_ int fd = open(path_of("dlock.db-wal", path), O_RDONLY | O_CLOEXEC);

                size = pread(fd, wal, sizeof(wal), 0);
        }
        ck_assert_int_ge(size, 32 + 10 * FRAME_BYTES);
        ck_assert_int_lt(size, (ssize_t)sizeof(wal));
        last = start_of_last_transaction(wal, (size_t)size);
        for (off_t at = 0; at < last; at += at < 32 || (at - 32) % FRAME_BYTES < 24 ? 1 : 97) {
                flipped = wal[at] ^ 0x40;
                write_file("dlock.db-wal", &flipped, 1, at);
                assert_refused(NODE, -EBADMSG, "dlock.db-wal is damaged at frame");
                refused++;
                write_file("dlock.db-wal", &wal[at], 1, at);
        }
        ck_assert_uint_gt(refused, 400);
        /* A power cut may leave the last transaction like this: it was not told to anybody. */
        flipped = wal[last + 30] ^ 0x40;
        write_file("dlock.db-wal", &flipped, 1, last + 30);
        store_close(open_and_load(&loaded));
        ck_assert_uint_eq(loaded.content.log_last, 9);
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
                { "UPDATE log SET cluster_ms = -1 WHERE idx = 5", "log row 5: a number in it is negative" },
                { "UPDATE log SET wall_ms = -1 WHERE idx = 5", "log row 5: a number in it is negative" },
                { "UPDATE log SET body = zeroblob(70000) WHERE idx = 5", "log row 5: its body is too long" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                assert_load_refused(cases[i][0], cases[i][1]);
                remove_directory();
                ck_assert_int_eq(mkdir(directory, 0700), 0);
        }
}
END_TEST

START_TEST(meta_row_that_no_dlock_wrote_is_refused)
{
        static const char *const cases[] = {
                "node = -5", "term = -1", "vote = -1", "base_index = -1", "base_term = -1", "base_cluster_ms = -1", "configuration_index = -1",
                "cluster = 'abc'", "incarnation = 'abc'",
        };
        char sql[128];

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                (void)snprintf(sql, sizeof(sql), "UPDATE meta SET %s", cases[i]);
                assert_load_refused(sql, "its meta row is not one that dlock wrote");
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
        ck_assert_ptr_nonnull(strstr(error, "a row of the state is not wanted: table 1, key 'a'"));
        run_sql("UPDATE lock SET name = 'two' || char(10) || 'lines'");
        ck_assert_int_eq(load(store, &loaded), -EBADMSG);
        ck_assert_ptr_nonnull(strstr(error, "key '(not a text)'"));
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

static Suite *suite(void)
{
        Suite *s = suite_create("store: refused");
        TCase *c;

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
        tcase_add_test(c, flipped_byte_in_the_wal_is_refused_unless_it_is_in_the_last_transaction);
        tcase_add_test(c, truncated_file_is_refused);
        tcase_add_test(c, any_flipped_page_is_refused);
        tcase_add_test(c, columns_that_differ_from_the_body_are_refused);
        tcase_add_test(c, meta_row_that_no_dlock_wrote_is_refused);
        tcase_add_test(c, gap_in_the_log_is_refused);
        tcase_add_test(c, log_that_does_not_reach_the_base_is_refused);
        tcase_add_test(c, base_of_another_term_than_its_entry_is_refused);
        tcase_add_test(c, record_that_the_loader_refuses_is_refused);
        tcase_add_test(c, second_process_is_refused);
        tcase_add_test(c, directory_that_is_not_there_is_an_error);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
