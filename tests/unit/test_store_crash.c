/* Crashes, and a disk that says no. */
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
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "store/store.h"
#include "store/wal.h"

#define NODE "alpha"
#include "store_kit.h"

/* --- crashes -------------------------------------------------------------------------- */

static int asked_patience_ms, given_patience_ms;

/* Instead of sqlite3_busy_timeout (tests.mk): a test that waits in vain for somebody does so for a shorter time. */
int __wrap_sqlite3_busy_timeout(sqlite3 *handle, int ms);
int __real_sqlite3_busy_timeout(sqlite3 *handle, int ms);
int __wrap_sqlite3_busy_timeout(sqlite3 *handle, int ms)
{
        asked_patience_ms = ms;
        return __real_sqlite3_busy_timeout(handle, given_patience_ms > 0 ? given_patience_ms : ms);
}

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
        given_patience_ms = 50;
        ck_assert_int_eq(store_open(directory, NODE, describe, &store, error), -EBUSY);
        ck_assert_int_gt(asked_patience_ms, given_patience_ms);
        ck_assert_ptr_nonnull(strstr(error, "being read by another program"));
        given_patience_ms = 0;
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

#define SECTOR_BYTES 512

static struct bytes read_wal(void)
{
        char path[128];
        struct stat status;
        struct bytes wal = {};
        _cleanup_close_ int fd = open(path_of("dlock.db-wal", path), O_RDONLY | O_CLOEXEC);

        ck_assert_int_eq(fstat(fd, &status), 0);
        ck_assert_int_eq(pread(fd, bytes_reserve(&wal, (size_t)status.st_size), (size_t)status.st_size, 0), status.st_size);
        wal.size = (size_t)status.st_size;
        return wal;
}

/* The disk had some sectors of what was written since the last sync, and of others what was there before, or nothing. */
static void cut_power_between(const struct bytes *before, const struct bytes *after, unsigned *dice)
{
        _cleanup_close_ int fd = memfd_create("wal", MFD_CLOEXEC);
        uint64_t frame = 0;

        ck_assert_int_eq(pwrite(fd, after->data, after->size, 0), (ssize_t)after->size);
        for (size_t at = SECTOR_BYTES; at < after->size; at += SECTOR_BYTES) {
                size_t size = MIN(after->size - at, (size_t)SECTOR_BYTES);
                uint8_t old[SECTOR_BYTES] = { 0 };

                if (at < before->size)
                        memcpy(old, before->data + at, MIN(before->size - at, size));

                if (memcmp(old, after->data + at, size) != 0 && rand_r(dice) % 3 == 0)
                        ck_assert_int_eq(pwrite(fd, old, size, (off_t)at), (ssize_t)size);
        }
        ck_assert_msg(wal_check(fd, &frame) == 0, "taken for damage at frame %llu of a WAL of %zu bytes that had %zu", (unsigned long long)frame, after->size, before->size);
}

/* Entries that are too long together for the writer's cache: parts of the transaction go into the WAL before its end. */
static void append_wide(struct store *store, uint64_t first, uint64_t last)
{
        struct raft_entry *entries[4096];
        struct store_batch batch = { .entries = (const struct raft_entry *const *)entries, .entry_count = last - first + 1 };
        char lock[256] = "";

        memset(lock, 'x', sizeof(lock) - 1);
        for (size_t i = 0; i < batch.entry_count; i++)
                entries[i] = entry_new(first + i, 1, RAFT_ENTRY_PREEMPT, lock, "c1", first + i);
        (void)store_write(store, &batch);
        for (size_t i = 0; i < batch.entry_count; i++)
                free(entries[i]);
}

/* Small transactions, large ones that are written in parts, and a WAL that starts over. */
START_TEST(power_cut_between_two_transactions_is_never_taken_for_damage)
{
        struct bytes before = {}, after;
        struct store *store;
        unsigned dice = 7, restarts = 0;
        uint64_t last = 0, salt = 0;

        make_database(0);
        store = open_store();
        for (unsigned round = 0; round < 36; round++) {
                uint64_t count = round % 2 ? 1 : 1500 + (uint64_t)rand_r(&dice) % 2500;

                /* One transaction each. */
                if (round % 20 == 10)
                        append_wide(store, last + 1, last + count);
                else
                        (void)append(store, 1, last + 1, last + count, NULL);
                last += count;
                ck_assert_int_eq(store_flush(store), 0);
                after = read_wal();
                restarts += round > 0 && bytes_load_u64(after.data + 16) != salt;
                salt = bytes_load_u64(after.data + 16);
                for (unsigned i = 0; i < 2; i++)
                        cut_power_between(&before, &after, &dice);
                bytes_done(&before);
                before = after;
        }
        ck_assert_uint_gt(restarts, 0);
        bytes_done(&before);
        store_close(store);
}
END_TEST

static Suite *suite(void)
{
        Suite *s = suite_create("store: crash");
        TCase *c;

        c = add_case(s, "crashes");
        tcase_add_test(c, what_a_crash_left_in_the_wal_is_synced_before_open_returns);
        tcase_add_test(c, open_waits_for_nobody_who_keeps_it_from_syncing);
        tcase_add_test(c, kill_at_any_moment_loses_nothing_that_was_told);
        tcase_add_test(c, kill_while_the_file_is_made_leaves_nothing_in_the_way);
        c = add_case(s, "a disk that says no");
        tcase_add_test(c, file_that_may_not_grow_fails_once_and_says_what_to_do);
        tcase_add_test(c, full_disk_fails_once_and_nothing_is_lost_when_there_is_room_again);
        tcase_add_test(c, entry_that_describe_does_not_know_stops_the_node);
        tcase_add_test(c, power_cut_between_two_transactions_is_never_taken_for_damage);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
