/* The processes below: all are found, all die, whatever they do to get away; and nobody else. */
#include <check.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "dlockctl/tree.h"
#include "unit/suite.h"

#define PATIENCE_MS 20000

static struct tree tree;
/* Written by the processes below. */
static struct notes {
        _Atomic pid_t pids[8];
        _Atomic int signals;
} *notes;

static void setup(void)
{
        notes = mmap(NULL, sizeof(*notes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        ck_assert_ptr_ne(notes, MAP_FAILED);
        ck_assert_int_eq(tree_begin(&tree), 0);
}

static void nap(void)
{
        const struct timespec moment = { .tv_nsec = 2000000 };

        (void)nanosleep(&moment, NULL);
}

static void wait_for_note(size_t number)
{
        for (uint64_t end = clock_monotonic_ms() + PATIENCE_MS; notes->pids[number] == 0; nap())
                ck_assert_uint_lt(clock_monotonic_ms(), end);
}

/* Returns how long that took. */
static uint64_t kill_all(void)
{
        uint64_t begin = clock_monotonic_ms();
        int status;

        while (!tree_is_empty(&tree)) {
                ck_assert_uint_lt(clock_monotonic_ms(), begin + PATIENCE_MS);
                tree_kill(&tree);
                (void)tree_reap(&tree, 0, &status);
        }
        return clock_monotonic_ms() - begin;
}

/* Who is on the way to another parent may be missed by one call. */
static void expect_to_tell(size_t count)
{
        for (uint64_t end = clock_monotonic_ms() + PATIENCE_MS; count > 0; nap()) {
                size_t told = tree_signal(&tree, SIGUSR2);

                ck_assert_uint_le(told, count);
                ck_assert_uint_lt(clock_monotonic_ms(), end);
                count -= told;
        }
}

static bool is_there(pid_t pid)
{
        return kill(pid, 0) == 0;
}

_Noreturn static void stay(size_t number)
{
        (void)signal(SIGUSR2, SIG_IGN);
        notes->pids[number] = getpid();
        for (;;)
                (void)pause();
}

START_TEST(without_children_the_tree_is_empty)
{
        ck_assert(tree_is_empty(&tree));
        ck_assert_uint_eq(tree_signal(&tree, SIGKILL), 0);
}
END_TEST

START_TEST(child_is_reaped_with_its_status)
{
        pid_t pid = fork();
        int status = 0;

        if (pid == 0)
                _exit(7);
        while (!tree_reap(&tree, pid, &status))
                nap();
        ck_assert(WIFEXITED(status));
        ck_assert_int_eq(WEXITSTATUS(status), 7);
        ck_assert(tree_is_empty(&tree));
}
END_TEST

/* A daemon by the book: its parent and grandparent are gone, it has a session of its own. */
static void start_daemon(size_t number)
{
        if (fork() == 0) {
                (void)setsid();
                if (fork() == 0) {
                        (void)setsid();
                        (void)signal(SIGTERM, SIG_IGN);
                        (void)signal(SIGHUP, SIG_IGN);
                        stay(number);
                }
                _exit(0);
        }
        wait_for_note(number);
}

START_TEST(double_fork_with_a_session_of_its_own_does_not_get_away)
{
        start_daemon(0);
        ck_assert(!tree_is_empty(&tree));
        (void)kill_all();
        ck_assert(!is_there(notes->pids[0]));
}
END_TEST

START_TEST(grandchild_of_a_daemon_dies_with_it)
{
        if (fork() == 0) {
                (void)setsid();
                if (fork() == 0) {
                        if (fork() == 0)
                                stay(1);
                        stay(0);
                }
                _exit(0);
        }
        wait_for_note(0);
        wait_for_note(1);
        (void)kill_all();
        ck_assert(!is_there(notes->pids[0]));
        ck_assert(!is_there(notes->pids[1]));
}
END_TEST

/* A daemon, a child and a grandchild. */
static void expect_to_find_a_family(void)
{
        start_daemon(0);
        if (fork() == 0) {
                if (fork() == 0)
                        stay(1);
                stay(2);
        }
        wait_for_note(1);
        wait_for_note(2);
        expect_to_tell(3);
        (void)kill_all();
        for (size_t i = 0; i < 3; i++)
                ck_assert(!is_there(notes->pids[i]));
}

START_TEST(all_are_found_where_processes_do_not_tell_their_children)
{
        tree.scan = true;
        expect_to_find_a_family();
}
END_TEST

/* A process below that takes orphans itself keeps nobody out of reach. */
START_TEST(orphans_of_a_nested_subreaper_are_found)
{
        if (fork() == 0) {
                (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
                start_daemon(0);
                stay(1);
        }
        wait_for_note(0);
        wait_for_note(1);
        (void)kill_all();
        ck_assert(!is_there(notes->pids[0]));
        ck_assert(!is_there(notes->pids[1]));
}
END_TEST

START_TEST(stopped_processes_see_the_signal_and_die)
{
        int status;

        if (fork() == 0) {
                (void)signal(SIGTERM, SIG_DFL);
                stay(0);
        }
        wait_for_note(0);
        (void)kill(notes->pids[0], SIGSTOP);
        ck_assert_int_eq(waitpid(notes->pids[0], &status, WUNTRACED), notes->pids[0]);
        ck_assert_uint_eq(tree_signal(&tree, SIGTERM), 1);
        while (!tree_reap(&tree, notes->pids[0], &status))
                nap();
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
        start_daemon(1);
        (void)kill(notes->pids[1], SIGSTOP);
        (void)kill_all();
        ck_assert(!is_there(notes->pids[1]));
}
END_TEST

static void count_signal(int number _unused_)
{
        notes->signals++;
}

START_TEST(each_process_gets_a_signal_once_however_often_it_is_sent)
{
        for (size_t i = 0; i < 2; i++) {
                if (fork() == 0) {
                        (void)signal(SIGTERM, count_signal);
                        stay(i);
                }
                wait_for_note(i);
                /* The second one began after the first call. */
                ck_assert_uint_eq(tree_signal(&tree, SIGTERM), 1);
                while (notes->signals < (int)i + 1)
                        nap();
        }
        ck_assert_uint_eq(tree_signal(&tree, SIGTERM), 0);
        ck_assert_int_eq(notes->signals, 2);
        (void)kill_all();
}
END_TEST

START_TEST(who_was_a_child_before_is_spared_with_its_children)
{
        struct tree later;
        int status;

        if (fork() == 0) {
                if (fork() == 0)
                        stay(1);
                stay(0);
        }
        wait_for_note(0);
        wait_for_note(1);
        ck_assert_int_eq(tree_begin(&later), 0);
        ck_assert(tree_is_empty(&later));
        if (fork() == 0)
                stay(2);
        wait_for_note(2);
        ck_assert(!tree_is_empty(&later));
        while (!tree_is_empty(&later)) {
                (void)tree_signal(&later, SIGKILL);
                (void)tree_reap(&later, 0, &status);
        }
        ck_assert(is_there(notes->pids[0]));
        ck_assert(is_there(notes->pids[1]));
        ck_assert(!is_there(notes->pids[2]));
        tree_end(&later);
        (void)kill_all();
}
END_TEST

static void *outlive(void *nothing _unused_)
{
        stay(0);
}

/* /proc shows it as a zombie. */
START_TEST(process_whose_first_thread_has_ended_is_alive)
{
        pthread_t thread;
        int status;

        if (fork() == 0) {
                (void)pthread_create(&thread, NULL, outlive, NULL);
                pthread_exit(NULL);
        }
        wait_for_note(0);
        for (int i = 0; i < 20; i++) {
                nap();
                (void)tree_reap(&tree, 0, &status);
        }
        ck_assert(!tree_is_empty(&tree));
        ck_assert_uint_eq(tree_signal(&tree, SIGUSR1), 1);
        (void)kill_all();
}
END_TEST

/* Its parent does not ask how it ended: it is dead all the same. */
START_TEST(zombie_of_a_living_parent_counts_for_nothing)
{
        siginfo_t info;

        if (fork() == 0) {
                pid_t pid = fork();

                if (pid == 0)
                        _exit(0);
                notes->pids[1] = pid;
                (void)waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT);
                stay(0);
        }
        wait_for_note(0);
        ck_assert(is_there(notes->pids[1]));
        ck_assert_uint_eq(tree_signal(&tree, SIGWINCH), 1);
        (void)kill_all();
        ck_assert(!is_there(notes->pids[1]));
}
END_TEST

/* Root's forks are not counted: a user's are. */
static void be_somebody(rlim_t processes)
{
        const struct rlimit limit = { .rlim_cur = processes, .rlim_max = processes };

        if (getuid() == 0)
                (void)!setresuid(54321, 54321, 54321);
        (void)setrlimit(RLIMIT_NPROC, &limit);
}

START_TEST(fork_bomb_dies)
{
        if (fork() == 0) {
                be_somebody(getuid() == 0 ? 200 : 2000);
                notes->pids[0] = getpid();
                for (;;)
                        (void)fork();
        }
        wait_for_note(0);
        for (int i = 0; i < 10; i++)
                nap();
        (void)kill_all();
}
END_TEST

/* Each lives only until its child does. */
static void run_away(bool session)
{
        if (fork() != 0)
                return;
        notes->pids[0] = getpid();
        for (;;) {
                pid_t pid = fork();

                if (pid > 0)
                        _exit(0);
                if (pid == 0 && session)
                        (void)setsid();
        }
}

START_TEST(process_that_forks_and_ends_for_ever_is_caught)
{
        run_away(false);
        wait_for_note(0);
        (void)kill_all();
        run_away(true);
        (void)kill_all();
}
END_TEST

/* As on a kernel that is too old, or in a sandbox. */
static void forbid_pidfds(void)
{
        struct sock_filter filter[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_open, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        const struct sock_fprog program = { .len = ARRAY_SIZE(filter), .filter = filter };

        ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
        ck_assert_int_eq((int)syscall(SYS_pidfd_open, getpid(), 0), -1);
}

START_TEST(without_pidfds_all_die_too)
{
        forbid_pidfds();
        expect_to_find_a_family();
}
END_TEST

/* The one between this process and the command is killed: what was below it comes here. */
START_TEST(tree_of_a_killed_guardian_is_inherited)
{
        int status = 0;

        if (fork() == 0) {
                struct tree below;

                (void)tree_begin(&below);
                start_daemon(1);
                if (fork() == 0)
                        stay(2);
                wait_for_note(2);
                stay(0);
        }
        wait_for_note(0);
        (void)kill(notes->pids[0], SIGKILL);
        while (!tree_reap(&tree, notes->pids[0], &status))
                nap();
        ck_assert(WIFSIGNALED(status));
        ck_assert(is_there(notes->pids[1]));
        ck_assert(!tree_is_empty(&tree));
        (void)kill_all();
        ck_assert(!is_there(notes->pids[1]));
        ck_assert(!is_there(notes->pids[2]));
}
END_TEST

int main(void)
{
        Suite *suite = suite_create("tree");
        TCase *cases = tcase_create("tree");

        tcase_set_timeout(cases, 60);
        tcase_add_checked_fixture(cases, setup, NULL);
        tcase_add_test(cases, without_children_the_tree_is_empty);
        tcase_add_test(cases, child_is_reaped_with_its_status);
        tcase_add_test(cases, double_fork_with_a_session_of_its_own_does_not_get_away);
        tcase_add_test(cases, grandchild_of_a_daemon_dies_with_it);
        tcase_add_test(cases, all_are_found_where_processes_do_not_tell_their_children);
        tcase_add_test(cases, orphans_of_a_nested_subreaper_are_found);
        tcase_add_test(cases, stopped_processes_see_the_signal_and_die);
        tcase_add_test(cases, each_process_gets_a_signal_once_however_often_it_is_sent);
        tcase_add_test(cases, who_was_a_child_before_is_spared_with_its_children);
        tcase_add_test(cases, process_whose_first_thread_has_ended_is_alive);
        tcase_add_test(cases, zombie_of_a_living_parent_counts_for_nothing);
        tcase_add_test(cases, fork_bomb_dies);
        tcase_add_test(cases, process_that_forks_and_ends_for_ever_is_caught);
        tcase_add_test(cases, without_pidfds_all_die_too);
        tcase_add_test(cases, tree_of_a_killed_guardian_is_inherited);
        suite_add_tcase(suite, cases);
        return run_suite(suite);
}
