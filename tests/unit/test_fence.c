/* The fence beside a resource: who comes too late is refused, whatever happens in between. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "dlock.h"
#include "unit/suite.h"

static char directory[64], file[96];

static void setup(void)
{
        (void)strcpy(directory, "/tmp/dlock-test-fence-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(directory));
        (void)snprintf(file, sizeof(file), "%s/fence", directory);
}

static int remove_one(const char *path, const struct stat *status _unused_, int kind _unused_, struct FTW *walk _unused_)
{
        return remove(path);
}

static void teardown(void)
{
        (void)nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* 0: accepted, and done with it. */
static int pass(uint64_t token)
{
        int fd = dlock_fence(file, token, 0, NULL);

        return fd < 0 ? fd : close(fd);
}

static void write_file(const void *data, size_t size)
{
        int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(write(fd, data, size), (ssize_t)size);
        (void)close(fd);
}

START_TEST(lower_token_than_the_highest_is_refused)
{
        uint64_t highest = 77;
        int fd;

        fd = dlock_fence(file, 5, 0, &highest);
        ck_assert_int_ge(fd, 0);
        ck_assert_uint_eq(highest, 0);
        (void)close(fd);
        ck_assert_int_eq(pass(5), 0);        /* the same holder, once more */
        ck_assert_int_eq(pass(UINT64_MAX - 1), 0);
        ck_assert_int_eq(dlock_fence(file, 6, 0, &highest), -ESTALE);
        ck_assert_uint_eq(highest, UINT64_MAX - 1);
        ck_assert_int_eq(pass(UINT64_MAX), 0);
        ck_assert_int_eq(pass(0), -EINVAL);
        ck_assert_int_eq(dlock_fence("", 1, 0, NULL), -EINVAL);
        ck_assert_int_eq(dlock_fence(NULL, 1, 0, NULL), -EINVAL);
}
END_TEST

START_TEST(others_are_kept_out_until_the_descriptor_is_closed)
{
        int fd = dlock_fence(file, 5, 0, NULL), status;
        pid_t child;

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(pass(6), -EWOULDBLOCK);
        child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) {
                (void)close(fd);             /* its copy, which would keep it out too */
                _exit(dlock_fence(file, 6, 1, NULL) >= 0 ? 0 : 1);
        }
        ck_assert_int_eq(waitpid(child, &status, WNOHANG), 0);
        (void)close(fd);
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_int_eq(status, 0);
        ck_assert_int_eq(pass(5), -ESTALE);
}
END_TEST

START_TEST(death_of_who_was_accepted_lets_others_in_but_not_older_ones)
{
        int ready[2], status;
        char byte;
        pid_t child;

        ck_assert_int_eq(pipe(ready), 0);
        child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) {
                int fd = dlock_fence(file, 9, 0, NULL);

                (void)!write(ready[1], fd >= 0 ? "y" : "n", 1);
                for (;;)
                        (void)pause();
        }
        ck_assert_int_eq(read(ready[0], &byte, 1), 1);
        ck_assert_int_eq(byte, 'y');
        ck_assert_int_eq(pass(10), -EWOULDBLOCK);
        ck_assert_int_eq(kill(child, SIGKILL), 0);
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_int_eq(pass(8), -ESTALE);
        ck_assert_int_eq(pass(10), 0);
}
END_TEST

START_TEST(memory_is_a_number_that_people_can_write)
{
        static const struct {
                const char *text;
                size_t size;
                int result;                  /* of token 7 */
        } files[] = {
                { "", 0, 0 }, { "\n", 1, 0 }, { "7\n", 2, 0 }, { "7", 1, 0 }, { "00000000000000000007\n", 21, 0 }, { "8\n", 2, -ESTALE },
                { "\0\0\0\0", 4, 0 }, { "99999999999999999999\n", 21, -EBADMSG }, { "-1\n", 3, -EBADMSG }, { "7 \n", 3, -EBADMSG },
                { "0x7\n", 4, -EBADMSG }, { "7\n\n", 3, -EBADMSG }, { "7\0\n", 3, -EBADMSG }, { "something else\n", 15, -EBADMSG },
        };
        char text[32] = "", big[4096];
        int fd;

        for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
                write_file(files[i].text, files[i].size);
                ck_assert_msg(pass(7) == files[i].result, "file %zu: %d", i, pass(7));
        }
        (void)memset(big, '1', sizeof(big));
        write_file(big, sizeof(big));
        ck_assert_int_eq(pass(7), -EBADMSG);
        write_file("3\n", 2);
        ck_assert_int_eq(pass(7), 0);
        fd = open(file, O_RDONLY | O_CLOEXEC);
        ck_assert_int_eq(read(fd, text, sizeof(text) - 1), 21);
        ck_assert_str_eq(text, "00000000000000000007\n");
        (void)close(fd);
}
END_TEST

START_TEST(what_is_no_file_is_refused)
{
        (void)mkdir(file, 0700);
        ck_assert_int_eq(pass(1), -EISDIR);
        (void)rmdir(file);
        ck_assert_int_eq(mkfifo(file, 0600), 0);
        ck_assert_int_eq(pass(1), -EBADMSG);
        (void)unlink(file);
        (void)strcat(file, "/below");
        ck_assert_int_eq(pass(1), -ENOENT);
}
END_TEST

/* Many at once: whoever is in has the highest token that there ever was, for as long as it is in. */
static void storm(unsigned seed)
{
        for (unsigned i = 0; i < 200; i++) {
                uint64_t token = (uint64_t)rand_r(&seed) % 100000 + 1;
                char text[32] = "";
                int fd = dlock_fence(file, token, 1, NULL);

                if (fd == -ESTALE)
                        continue;
                if (fd < 0 || pread(fd, text, sizeof(text) - 1, 0) != 21 || strtoull(text, NULL, 10) != token)
                        _exit(1);
                (void)close(fd);
        }
        _exit(0);
}

START_TEST(many_at_once_are_let_in_one_by_one_and_upwards)
{
        pid_t children[8];
        int status;

        for (unsigned i = 0; i < ARRAY_SIZE(children); i++) {
                children[i] = fork();
                ck_assert_int_ge(children[i], 0);
                if (children[i] == 0)
                        storm(i + 1);
        }
        for (unsigned i = 0; i < ARRAY_SIZE(children); i++) {
                ck_assert_int_eq(waitpid(children[i], &status, 0), children[i]);
                ck_assert_int_eq(status, 0);
        }
}
END_TEST

static Suite *suite(void)
{
        Suite *s = suite_create("fence");
        TCase *c = tcase_create("fence");

        tcase_add_checked_fixture(c, setup, teardown);
        tcase_set_timeout(c, 120);
        tcase_add_test(c, lower_token_than_the_highest_is_refused);
        tcase_add_test(c, others_are_kept_out_until_the_descriptor_is_closed);
        tcase_add_test(c, death_of_who_was_accepted_lets_others_in_but_not_older_ones);
        tcase_add_test(c, memory_is_a_number_that_people_can_write);
        tcase_add_test(c, what_is_no_file_is_refused);
        tcase_add_test(c, many_at_once_are_let_in_one_by_one_and_upwards);
        suite_add_tcase(s, c);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
