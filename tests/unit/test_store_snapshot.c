/* Snapshots, made and received. */
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

static Suite *suite(void)
{
        Suite *s = suite_create("store: snapshot");
        TCase *c;

        c = add_case(s, "snapshots");
        tcase_add_test(c, snapshot_of_one_node_becomes_the_state_of_another);
        tcase_add_test(c, install_keeps_the_log_behind_an_entry_that_both_have);
        tcase_add_test(c, crash_in_the_middle_of_staging_leaves_the_old_state);
        tcase_add_test(c, snapshot_stays_as_it_was_while_the_state_goes_on);
        tcase_add_test(c, snapshot_read_outside_its_records_is_refused);
        tcase_add_test(c, snapshot_of_an_empty_state_has_no_bytes);
        tcase_add_test(c, hostile_snapshot_bytes_are_refused);
        tcase_add_test(c, staged_garbage_stops_the_node_and_changes_nothing);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
