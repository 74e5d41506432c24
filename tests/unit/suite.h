/* suite.h - the end of every test program. */
#pragma once

#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* check's runner reads what a test asserts from a file without a name, which the test's own children inherit. A child that asserts too, and
 * is killed in the middle of a word, leaves there what the runner can't read: it ends then without a result of any test. So
 * children write to nowhere: what they find, they say by their status. */
#define SUITE_FDS 64

static inline void suite_after_fork(void)
{
        static bool in_test, is_checks[SUITE_FDS];
        int nowhere;

        if (!in_test) {
                for (int fd = STDERR_FILENO + 1; fd < SUITE_FDS; fd++) {
                        struct stat status;

                        is_checks[fd] = fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_nlink == 0;
                }
                in_test = true;
                return;
        }
        nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
        for (int fd = STDERR_FILENO + 1; fd < SUITE_FDS; fd++)
                if (is_checks[fd])
                        (void)dup3(nowhere, fd, O_CLOEXEC);
        (void)close(nowhere);
}

/* Runs and frees the suite; what main returns. */
static inline int run_suite(Suite *suite)
{
        SRunner *runner = srunner_create(suite);
        int failed;

        if (srunner_fork_status(runner) == CK_FORK)
                (void)pthread_atfork(NULL, NULL, suite_after_fork);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
