/* What the store promises, each test named for one fact. Bodies are a toy here:
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
#include "store_kit.h"

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
        ck_assert(id128_equal(loaded.content.identity.cluster, identity.cluster));
        ck_assert(id128_equal(loaded.content.identity.incarnation, identity.incarnation));
        ck_assert_uint_eq(loaded.content.identity.node, 7);
        ck_assert_str_eq(loaded.content.identity.name, NODE);
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

/* Of several locks each has a line of the column. */
START_TEST(history_of_a_lock_has_what_it_was_wanted_in_with_others)
{
        static const char *const wanted[] = { "a", "bb", "c", "b", "" };
        static const size_t found[] = { 2, 3, 1, 1, 0 };
        static const char *const locks[] = { "a\nbb\nc", "a", "bb", "b", "x\nbb" };
        static struct seen seen;
        struct store *store = open_store();
        struct raft_entry *entries[ARRAY_SIZE(locks)];

        for (size_t i = 0; i < ARRAY_SIZE(locks); i++)
                entries[i] = entry_new(i + 1, 1, RAFT_ENTRY_PREEMPT, locks[i], "me", i + 1);
        (void)store_write(store, &(struct store_batch){ .entries = (const struct raft_entry *const *)entries, .entry_count = ARRAY_SIZE(locks) });
        ck_assert_int_eq(store_flush(store), 0);
        for (size_t i = 0; i < ARRAY_SIZE(locks); i++)
                free(entries[i]);
        for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
                store_read_history(store, i + 1, wanted[i], 0, 10);
                wait_for(store, &seen, &seen.histories, (unsigned)i + 1);
                ck_assert_msg(seen.count == found[i], "%s: %zu", wanted[i], seen.count);
        }
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
        c = add_case(s, "reading the log");
        tcase_add_test(c, log_is_read_from_where_it_is_asked_until_the_limits);
        tcase_add_test(c, entries_that_are_trimmed_or_not_yet_there_read_as_none);
        tcase_add_test(c, row_that_was_changed_under_a_running_node_is_reported);
        tcase_add_test(c, history_is_paged_and_filtered_by_lock);
        tcase_add_test(c, history_of_a_lock_has_what_it_was_wanted_in_with_others);
        tcase_add_test(c, history_looks_at_a_bounded_number_of_rows);
        tcase_add_test(c, close_finishes_what_is_queued);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
