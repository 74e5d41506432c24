/* Who a client is and whom it asks: ids kept in files, lists of servers, the ini file. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/id128.h"
#include "dlock.h"
#include "libdlock/servers.h"
#include "libdlock/state.h"
#include "unit/suite.h"

static char directory[64];
static char error[SERVERS_ERROR_BYTES];

static int remove_one(const char *path, const struct stat *status _unused_, int kind _unused_, struct FTW *walk _unused_)
{
        return remove(path);
}

static void set_up(void)
{
        (void)strcpy(directory, "/tmp/dlock-test-identity-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(directory));
        ck_assert_int_eq(setenv("XDG_STATE_HOME", directory, 1), 0);
        ck_assert_int_eq(unsetenv("DLOCK_CLIENT"), 0);
        ck_assert_int_eq(unsetenv("DLOCK_SERVER"), 0);
}

static void tear_down(void)
{
        (void)nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static struct dlock *handle(void)
{
        struct dlock *dlock;

        ck_assert_int_eq(dlock_new(&dlock, "/nowhere", NULL, 0), 0);
        return dlock;
}

/* The one file below directory whose name begins so; its path. */
static char *find_file(const char *prefix, char path[256])
{
        char command[256];
        FILE *output;

        (void)snprintf(command, sizeof(command), "find %s -type f -name '%s*'", directory, prefix);
        output = popen(command, "re");
        ck_assert_ptr_nonnull(output);
        path[0] = 0;
        ck_assert_ptr_nonnull(fgets(path, 256, output));
        path[strcspn(path, "\n")] = 0;
        ck_assert_int_eq(fgetc(output), EOF);
        (void)pclose(output);
        return path;
}

static void write_text(const char *path, const char *text)
{
        FILE *file = fopen(path, "we");

        ck_assert_ptr_nonnull(file);
        ck_assert_int_ge(fputs(text, file), 0);
        ck_assert_int_eq(fclose(file), 0);
}

/* --- the client id --- */

START_TEST(id_is_made_once_and_kept)
{
        struct dlock *first = handle(), *second = handle();
        struct stat status;
        struct id128 id;
        char path[256];

        ck_assert_ptr_null(dlock_get_client(first));
        ck_assert_int_eq(dlock_set_client(first, NULL), 0);
        ck_assert_int_eq(dlock_set_client(second, NULL), 0);
        ck_assert_str_eq(dlock_get_client(first), dlock_get_client(second));
        ck_assert(id128_parse(dlock_get_client(first), &id));
        ck_assert_int_eq(stat(find_file("client-", path), &status), 0);
        ck_assert_uint_eq(status.st_mode & 0777, 0600);
        ck_assert_int_eq(status.st_size, ID128_TEXT_BYTES);
        dlock_free(first);
        dlock_free(second);
}
END_TEST

START_TEST(id_is_kept_in_the_home_when_nothing_else_is_said)
{
        struct dlock *dlock = handle();
        char path[256];

        ck_assert_int_eq(unsetenv("XDG_STATE_HOME"), 0);
        ck_assert_int_eq(setenv("HOME", directory, 1), 0);
        ck_assert_int_eq(dlock_set_client(dlock, NULL), 0);
        ck_assert_ptr_nonnull(strstr(find_file("client-", path), "/.local/state/dlock/client-"));
        dlock_free(dlock);
}
END_TEST

START_TEST(relative_state_home_is_ignored)
{
        struct dlock *dlock = handle();
        char path[256];

        ck_assert_int_eq(setenv("XDG_STATE_HOME", "state", 1), 0);
        ck_assert_int_eq(setenv("HOME", directory, 1), 0);
        ck_assert_int_eq(dlock_set_client(dlock, NULL), 0);
        ck_assert_ptr_nonnull(strstr(find_file("client-", path), "/.local/state/dlock/client-"));
        dlock_free(dlock);
}
END_TEST

/* sudo may leave the caller's HOME; root's id is not to be put there, nor the caller's directory made root's. */
START_TEST(home_of_somebody_else_is_not_used)
{
        struct id128 id;

        if (geteuid() != 0)
                return;
        ck_assert_int_eq(unsetenv("XDG_STATE_HOME"), 0);
        ck_assert_int_eq(chown(directory, 12345, 12345), 0);
        ck_assert_int_eq(setenv("HOME", directory, 1), 0);
        /* The real home of the user who runs the test is only looked at. */
        error[0] = 0;
        (void)state_read(STATE_CLUSTER, &id, error);
        ck_assert_ptr_null(strstr(error, directory));
        ck_assert_int_eq(chown(directory, 0, 0), 0);
        ck_assert_int_eq(state_read(STATE_CLUSTER, &id, error), -ENOENT);
        ck_assert_ptr_nonnull(strstr(error, directory));
}
END_TEST

START_TEST(concurrent_first_use_ends_with_one_id)
{
        enum { PROCESSES = 24 };
        int pipes[2], start[2];
        char ids[PROCESSES][ID128_TEXT_BYTES], path[256];

        ck_assert_int_eq(pipe2(pipes, O_CLOEXEC), 0);
        ck_assert_int_eq(pipe2(start, O_CLOEXEC), 0);
        for (int i = 0; i < PROCESSES; i++) {
                pid_t child = fork();

                ck_assert_int_ge(child, 0);
                if (child == 0) {
                        struct dlock *dlock;
                        char go;

                        (void)close(start[1]);
                        (void)!read(start[0], &go, 1);
                        if (dlock_new(&dlock, "/nowhere", NULL, 0) < 0 || dlock_set_client(dlock, NULL) < 0)
                                _exit(1);
                        if (write(pipes[1], dlock_get_client(dlock), ID128_TEXT_BYTES) != ID128_TEXT_BYTES)
                                _exit(1);
                        _exit(0);
                }
        }
        (void)close(start[1]);
        for (int i = 0; i < PROCESSES; i++) {
                int status;

                ck_assert_int_gt(wait(&status), 0);
                ck_assert_int_eq(status, 0);
        }
        for (int i = 0; i < PROCESSES; i++) {
                ck_assert_int_eq(read(pipes[0], ids[i], ID128_TEXT_BYTES), ID128_TEXT_BYTES);
                ck_assert_str_eq(ids[i], ids[0]);
        }
        (void)find_file("", path);           /* one file, and nothing left over */
        (void)close(start[0]);
        (void)close(pipes[0]);
        (void)close(pipes[1]);
}
END_TEST

START_TEST(damaged_id_is_told_and_left_untouched)
{
        static const char *const damaged[] = { "", "\n", "not an id\n", "00000000-0000-0000-0000-000000000000\n",
                                               "eec5cd56-1653-4357-8234-e61e79ddc084\nand more\n" };
        struct dlock *dlock = handle();
        struct stat status;
        char path[256];

        ck_assert_int_eq(dlock_set_client(dlock, NULL), 0);
        (void)find_file("client-", path);
        write_text(path, damaged[_i]);
        ck_assert_int_eq(dlock_set_client(dlock, NULL), -EBADMSG);
        ck_assert_ptr_nonnull(strstr(dlock_get_error(dlock), path));
        ck_assert_ptr_null(dlock_get_client(dlock));
        ck_assert_int_eq(stat(path, &status), 0);
        ck_assert_int_eq(status.st_size, (off_t)strlen(damaged[_i]));
        dlock_free(dlock);
}
END_TEST

START_TEST(without_a_place_changes_fail_and_name_the_option_but_reads_go_on)
{
        struct dlock *dlock = handle();
        char path[128];

        (void)snprintf(path, sizeof(path), "%s/file", directory);
        write_text(path, "in the way");
        ck_assert_int_eq(setenv("XDG_STATE_HOME", path, 1), 0);
        ck_assert_int_lt(dlock_preempt(dlock, "x", NULL), 0);
        ck_assert_ptr_nonnull(strstr(dlock_get_error(dlock), "--client"));
        ck_assert_int_lt(dlock_release(dlock, "x", NULL), 0);
        ck_assert_int_eq(dlock_set_timeout(dlock, 100), 0);
        ck_assert_int_eq(dlock_check(dlock, "x", NULL), 0);
        dlock_free(dlock);
        dlock = handle();
        ck_assert_int_eq(dlock_set_timeout(dlock, 100), 0);
        ck_assert_int_eq(setenv("DLOCK_CLIENT", "given", 1), 0);
        ck_assert_int_eq(dlock_preempt(dlock, "x", NULL), 0);
        ck_assert_str_eq(dlock_get_client(dlock), "given");
        dlock_free(dlock);
}
END_TEST

START_TEST(full_disk_leaves_no_id_and_no_litter)
{
        struct dlock *dlock = handle();
        char path[128], command[512];

        (void)snprintf(path, sizeof(path), "%s/small", directory);
        ck_assert_int_eq(mkdir(path, 0700), 0);
        if (mount("tmpfs", path, "tmpfs", 0, "size=4k,nr_inodes=3") < 0) {
                dlock_free(dlock);
                return;                      /* not root here: another run looks at this */
        }
        ck_assert_int_eq(setenv("XDG_STATE_HOME", path, 1), 0);
        (void)snprintf(command, sizeof(command), "(mkdir %s/dlock; echo x >%s/filled; ! echo y >%s/dlock/z) 2>/dev/null", path, path, path);
        (void)!system(command);
        ck_assert_int_eq(dlock_set_client(dlock, NULL), -ENOSPC);
        ck_assert_ptr_nonnull(strstr(dlock_get_error(dlock), "No space left"));
        (void)snprintf(command, sizeof(command), "rm %s/filled", path);
        ck_assert_int_eq(system(command), 0);
        (void)snprintf(command, sizeof(command), "test -z \"$(ls -A %s/dlock)\"", path);
        ck_assert_int_eq(system(command), 0);
        ck_assert_int_eq(dlock_set_client(dlock, NULL), 0);
        dlock_free(dlock);
        ck_assert_int_eq(umount(path), 0);
}
END_TEST

START_TEST(given_ids_are_checked)
{
        static const char *const bad[] = { " ", "a b", "a\n", "\xc3\xa4", "\x7f", "12345678901234567890123456789012345678901234567890123456789012345" };
        struct dlock *dlock = handle();

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                ck_assert_int_eq(dlock_set_client(dlock, bad[i]), -EINVAL);
                ck_assert_ptr_nonnull(strstr(dlock_get_error(dlock), "1 to 64 printable"));
        }
        ck_assert_int_eq(dlock_set_client(dlock, "1234567890123456789012345678901234567890123456789012345678901234"), 0);
        ck_assert_int_eq(dlock_set_client(dlock, "EEC5CD56-1653-4357-8234-E61E79DDC084"), 0);
        ck_assert_str_eq(dlock_get_client(dlock), "eec5cd56-1653-4357-8234-e61e79ddc084");
        ck_assert_int_eq(dlock_set_client(dlock, "Cron@Host"), 0);
        ck_assert_str_eq(dlock_get_client(dlock), "Cron@Host");
        ck_assert_int_eq(setenv("DLOCK_CLIENT", "a b", 1), 0);
        ck_assert_int_eq(dlock_set_client(dlock, NULL), -EINVAL);
        ck_assert_ptr_nonnull(strstr(dlock_get_error(dlock), "DLOCK_CLIENT"));
        dlock_free(dlock);
}
END_TEST

/* --- the cluster --- */

START_TEST(first_cluster_stays)
{
        struct id128 a = { { 1 } }, b = { { 2 } }, kept;

        ck_assert_int_eq(state_read(STATE_CLUSTER, &kept, error), -ENOENT);
        ck_assert_int_eq(state_keep(STATE_CLUSTER, a, &kept, error), 0);
        ck_assert(id128_equal(kept, a));
        ck_assert_int_eq(state_keep(STATE_CLUSTER, b, &kept, error), 0);
        ck_assert(id128_equal(kept, a));
        ck_assert_int_eq(state_forget(STATE_CLUSTER, error), 0);
        ck_assert_int_eq(state_forget(STATE_CLUSTER, error), 0);
        ck_assert_int_eq(state_keep(STATE_CLUSTER, b, &kept, error), 0);
        ck_assert(id128_equal(kept, b));
}
END_TEST

START_TEST(damaged_cluster_id_stops_every_request_until_it_is_forgotten)
{
        struct dlock *dlock = handle();
        struct id128 kept;
        char path[256], text[ID128_TEXT_BYTES];

        ck_assert_int_eq(state_keep(STATE_CLUSTER, (struct id128){ { 1 } }, &kept, error), 0);
        write_text(find_file("cluster-", path), "?");
        ck_assert_int_eq(dlock_check(dlock, "x", NULL), -EBADMSG);
        ck_assert_ptr_nonnull(strstr(dlock_get_error(dlock), path));
        ck_assert_int_eq(dlock_get_cluster(dlock, text, sizeof(text)), -EBADMSG);
        ck_assert_int_eq(dlock_get_cluster(dlock, text, 36), -EINVAL);
        ck_assert_int_eq(dlock_forget_cluster(dlock), 0);
        ck_assert_int_eq(dlock_set_timeout(dlock, 50), 0);
        ck_assert_int_eq(dlock_check(dlock, "x", NULL), 0);
        dlock_free(dlock);
}
END_TEST

/* --- servers --- */

static void expect_list(const char *text, const char *expected)
{
        struct servers servers = { .directory = directory };
        char found[4096] = "", one[LIMIT_ADDRESS_BYTES + 16];

        ck_assert_int_eq(servers_set(&servers, text, error), 0);
        ck_assert_int_eq(servers_find(&servers), 0);
        for (size_t i = 0; i < servers.found_count; i++)
                (void)strcat(strcat(found, i ? " " : ""), address_format(&servers.found[i], one));
        ck_assert_str_eq(found, expected);
        servers_done(&servers);
}

START_TEST(lists_of_servers_are_read)
{
        expect_list("/run/a.sock", "/run/a.sock");
        expect_list("/run/a.sock,localhost:7401", "/run/a.sock localhost:7401");
        expect_list(" 127.0.0.1:1 , [::1]:2 ", "127.0.0.1:1 [::1]:2");
        expect_list("local", "");
}
END_TEST

START_TEST(what_is_no_server_is_refused)
{
        static const char *const bad[] = { "", ",", "a:1,", "host", "host:", "host:0", "host:65536", "host:x", "::1:5", "relative/path", "a b:1", "[::1]", "a:1,,b:2" };
        struct dlock *dlock = NULL;
        char text[600];

        for (size_t i = 1; i < ARRAY_SIZE(bad); i++) {
                ck_assert_msg(dlock_new(&dlock, bad[i], error, sizeof(error)) == -EINVAL, "\"%s\"", bad[i]);
                ck_assert_ptr_nonnull(strstr(error, "would be right"));
        }
        memset(text, 'a', sizeof(text));
        text[0] = '/';
        for (size_t size = sizeof(text) - 1; size > 107; size -= 41) {
                text[size] = 0;
                ck_assert_int_eq(dlock_new(&dlock, text, error, sizeof(error)), -EINVAL);
                ck_assert_ptr_nonnull(strstr(error, "\"/aaa"));
                ck_assert_ptr_nonnull(strstr(error, "at most 107 bytes would be right"));
        }
        ck_assert_int_eq(setenv("DLOCK_SERVER", "nonsense", 1), 0);
        ck_assert_int_eq(dlock_new(&dlock, NULL, error, sizeof(error)), -EINVAL);
        ck_assert_ptr_nonnull(strstr(error, "DLOCK_SERVER: \"nonsense\" is no server"));
        ck_assert_int_eq(dlock_new(&dlock, NULL, error, 10), -EINVAL);
        ck_assert_uint_lt(strlen(error), 10);
        ck_assert_ptr_null(dlock);
}
END_TEST

START_TEST(local_sockets_are_found_leader_first_then_by_number)
{
        static const char *const names[] = { "follower-10.sock", "follower-2.sock", "leader.sock", "leader.sock.old", "follower-.sock", "other.sock", "follower-1.sockx" };
        char path[128], expected[512];

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                (void)snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
                write_text(path, "");
        }
        (void)snprintf(expected, sizeof(expected), "%s/leader.sock %s/follower-2.sock %s/follower-10.sock a:1", directory, directory, directory);
        expect_list("local,a:1", expected);
}
END_TEST

static int load(const char *text, size_t *ret_count)
{
        struct servers servers = { .directory = directory };
        char path[128];
        int r;

        (void)snprintf(path, sizeof(path), "%s/client.ini", directory);
        if (text)
                write_text(path, text);
        r = servers_load(&servers, path, error);
        *ret_count = servers.wanted_count;
        servers_done(&servers);
        return r;
}

START_TEST(ini_file_names_servers)
{
        size_t count;

        ck_assert_int_eq(load(NULL, &count), 0);
        ck_assert_uint_eq(count, 1);
        ck_assert_int_eq(load("", &count), 0);
        ck_assert_uint_eq(count, 1);
        ck_assert_int_eq(load("; a comment\n# another\n\n[client]\nservers = a:1, b:2,/c", &count), 0);
        ck_assert_uint_eq(count, 3);
        ck_assert_int_eq(load("[client]\nservers = a:1, b:2\nservers = c:3\n", &count), 0);
        ck_assert_uint_eq(count, 3);
        ck_assert_int_eq(load("\xef\xbb\xbf[client]\r\nservers=a:1\r\n", &count), 0);
        ck_assert_uint_eq(count, 1);
        ck_assert_int_eq(load("[client] \nservers\t=\ta:1 \n[client]\n", &count), 0);
}
END_TEST

START_TEST(ini_file_that_is_not_understood_is_refused_with_its_line)
{
        static const struct {
                const char *text, *place;
        } bad[] = {
                { "servers = a:1\n", ":1: " },
                { "[client]\nserver = a:1\n", ":2: " },
                { "[client]\nservers = a\n", ":2: " },
                { "[client]\nservers =\n", ":2: " },
                { "[client]\nservers = a:1\n\nservers = b\n", ":4: " },
                { "[client]\nservers = a:1 ; comment\n", ":2: " },
                { "[client]\n servers = a:1\n", ":2: " },
                { "[clients]\n", ":1: " },
                { "[client] x\n", ":1: " },
                { "[client]\nserversx = a:1\n", ":2: " },
        };
        _cleanup_free_ char *longer = NULL;
        size_t count;

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                ck_assert_msg(load(bad[i].text, &count) == -EINVAL, "%s", bad[i].text);
                ck_assert_ptr_nonnull(strstr(error, bad[i].place));
        }
        longer = calloc(1, 6000);
        memset(longer, ';', 5000);
        (void)strcpy(longer + 5000, "\n");
        ck_assert_int_eq(load(longer, &count), -EINVAL);
        ck_assert_ptr_nonnull(strstr(error, ":1: "));
}
END_TEST

static Suite *suite(void)
{
        Suite *s = suite_create("identity");
        TCase *c = tcase_create("who and whom");

        tcase_add_checked_fixture(c, set_up, tear_down);
        tcase_set_timeout(c, 120);
        suite_add_tcase(s, c);
        tcase_add_test(c, id_is_made_once_and_kept);
        tcase_add_test(c, id_is_kept_in_the_home_when_nothing_else_is_said);
        tcase_add_test(c, relative_state_home_is_ignored);
        tcase_add_test(c, home_of_somebody_else_is_not_used);
        tcase_add_test(c, concurrent_first_use_ends_with_one_id);
        tcase_add_loop_test(c, damaged_id_is_told_and_left_untouched, 0, 5);
        tcase_add_test(c, without_a_place_changes_fail_and_name_the_option_but_reads_go_on);
        tcase_add_test(c, full_disk_leaves_no_id_and_no_litter);
        tcase_add_test(c, given_ids_are_checked);
        tcase_add_test(c, first_cluster_stays);
        tcase_add_test(c, damaged_cluster_id_stops_every_request_until_it_is_forgotten);
        tcase_add_test(c, lists_of_servers_are_read);
        tcase_add_test(c, what_is_no_server_is_refused);
        tcase_add_test(c, local_sockets_are_found_leader_first_then_by_number);
        tcase_add_test(c, ini_file_names_servers);
        tcase_add_test(c, ini_file_that_is_not_understood_is_refused_with_its_line);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
