/* run.c - runs a command under a lock: the front, which is what the user started. */
#include "run.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "spawn.h"
#include "tree.h"

#define KILL_PAUSE_MS_MAX 200
/* What was killed ends when it next runs: only what is still there after so long does not. */
#define DIES_MS 2000

struct front {
        struct run_plan plan;
        struct tree tree;
        pid_t guardian;
        int socket, signals, timer;
        bool held;                           /* the command is run */
        bool interrupted;                    /* by the terminal */
};

/* --- signals --- */

/* All that can be caught are passed on, but those of job control, which stop and continue this process like any other, and those that
 * whoever started it wants to be ignored, which the command ignores too. */
static void block_signals(struct run_plan *plan, sigset_t *ret_set)
{
        static const int left_alone[] = { SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT };
        struct sigaction action;

        (void)sigfillset(ret_set);
        for (size_t i = 0; i < sizeof(left_alone) / sizeof(left_alone[0]); i++)
                (void)sigdelset(ret_set, left_alone[i]);
        for (int number = 1; number <= SIGRTMAX; number++)
                if (number != SIGCHLD && sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
                        (void)sigdelset(ret_set, number);
        (void)sigprocmask(SIG_BLOCK, ret_set, &plan->mask);
        (void)signal(SIGCHLD, SIG_DFL);
}

static bool ends_by_default(int number)
{
        return number != SIGURG && number != SIGWINCH;
}

/* The kernel's own SIGINT, SIGQUIT, SIGHUP and SIGWINCH come from the terminal, and went to all of the foreground group; a SIGHUP
 * that is for the leader of the session goes to that one alone. */
static bool is_of_terminal(const struct signalfd_siginfo *info)
{
        int number = (int)info->ssi_signo;

        return info->ssi_code == SI_KERNEL && (number == SIGINT || number == SIGQUIT || number == SIGWINCH || (number == SIGHUP && getsid(0) != getpid()));
}

/* 0: go on; else what to exit with. */
static int take_signal(struct front *front, const struct signalfd_siginfo *info)
{
        const struct run_order order = { .number = (int)info->ssi_signo, .of_terminal = is_of_terminal(info) };
        enum run_phase asking = RUN_ASKING;

        if (order.number == SIGCHLD)
                return 0;
        if (order.number == SIGINT && order.of_terminal)
                front->interrupted = true;
        if (ends_by_default(order.number) && atomic_compare_exchange_strong(&front->plan.shared->phase, &asking, RUN_WITHDRAWN))
                return 128 + order.number;
        if (atomic_load(&front->plan.shared->phase) >= RUN_HELD)
                (void)send(front->socket, &order, sizeof(order), MSG_NOSIGNAL | MSG_DONTWAIT);
        return 0;
}

static int take_signals(struct front *front)
{
        struct signalfd_siginfo info;
        int code = 0;

        while (code == 0 && read(front->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
                code = take_signal(front, &info);
        return code;
}

/* --- in place of the guardian --- */

/* Returns when nobody is left; says so when that is too late. */
static void stop_all(struct front *front, uint64_t kill_at_ms)
{
        uint64_t granted_ms = atomic_load(&front->plan.shared->deadline_ms), deadline_ms = granted_ms > 0 ? granted_ms : UINT64_MAX;
        uint64_t last_ms = deadline_ms - front->plan.times.margin_ms, killed_ms = 0, pause_ms = 1;
        bool told = false;
        int status;

        if (kill_at_ms > lease_now_ms())
                (void)tree_signal(&front->tree, SIGTERM);
        for (;;) {
                struct pollfd ready = { .fd = front->signals, .events = POLLIN };
                uint64_t now_ms = lease_now_ms();

                (void)tree_reap(&front->tree, front->guardian, &status);
                if (tree_is_empty(&front->tree) && cgroup_is_empty(run_cgroup(&front->plan)))
                        return;
                if (now_ms >= kill_at_ms || now_ms >= last_ms) {
                        cgroup_kill(run_cgroup(&front->plan));
                        tree_kill(&front->tree);
                        killed_ms = killed_ms > 0 ? killed_ms : now_ms;
                }
                if (!told && now_ms >= deadline_ms && killed_ms > 0 && now_ms - killed_ms >= DIES_MS) {
                        (void)tool_fail(0, "%s: some of what %s started cannot be killed, and the lock has ended", front->plan.label, front->plan.command[0]);
                        told = true;
                }
                (void)poll(&ready, 1, (int)pause_ms);
                (void)take_signals(front);
                pause_ms = pause_ms < KILL_PAUSE_MS_MAX ? 2 * pause_ms : KILL_PAUSE_MS_MAX;
        }
}

/* The lease in which a guardian that is dead stands in the queue, or stood before it was granted the lock. 0: none; -EIO: that is not known, and why. */
static int find_place(const struct run_plan *plan, struct dlock *dlock, uint64_t *ret_session, char *text, size_t size)
{
        struct dlock_request request = { .operation = DLOCK_OP_QUEUE, .lock = plan->lock, .consistent = 1 };
        struct dlock_answer answer;

        *ret_session = 0;
        do {
                int r = dlock_ask(dlock, &request, &answer);

                if (r < 0 || (answer.outcome != DLOCK_YES && answer.outcome != DLOCK_NO)) {
                        (void)snprintf(text, size, "%s", r < 0 ? dlock_get_error(dlock) : answer.reason);
                        return -EIO;
                }
                for (size_t i = 0; i < answer.count; i++)
                        if (strcmp(answer.rows[i].owner, plan->client) == 0)
                                *ret_session = answer.rows[i].session;
                if (answer.count > 0)
                        request.after_token = answer.rows[answer.count - 1].token;
        } while (*ret_session == 0 && answer.more);
        return 0;
}

bool run_give_back(const struct run_plan *plan, char *text, size_t size)
{
        uint64_t token = atomic_load(&plan->shared->token), session = atomic_load(&plan->shared->session);
        struct dlock_request request;
        struct dlock_answer answer;
        struct dlock *dlock;
        bool done = true;

        if (lease_open(plan->tool, plan->client, &dlock, text, size) < 0)
                return false;
        /* Its place in the queue would be granted the lock, for nobody; and with its lease goes what it was granted meanwhile. */
        if (token == 0 && plan->tool->wait_ms > 0)
                done = find_place(plan, dlock, &session, text, size) >= 0;
        for (size_t i = 0; done && lease_give_back_request(plan->tool, plan->lock, token, session, i, &request); i++) {
                int r = dlock_ask(dlock, &request, &answer);

                done = r >= 0 && (answer.outcome == DLOCK_YES || answer.outcome == DLOCK_NO);
                (void)snprintf(text, size, "%s", r < 0 ? dlock_get_error(dlock) : answer.reason);
        }
        (void)dlock_free(dlock);
        return done;
}

/* The guardian was killed, or stands still while the deadline comes. */
static int take_over(struct front *front, bool died)
{
        const struct run_plan *plan = &front->plan;
        char reason[512], duration[48];
        bool kept = atomic_load(&plan->shared->phase) == RUN_KEPT, stopped = front->held && !kept;
        int code = kept ? atomic_load(&plan->shared->code) : stopped ? LEASE_EXIT_LOST : LEASE_EXIT_UNKNOWN;
        const char *what = kept ? "before --hold-at-least was over" : stopped ? plan->command[0] : "nothing was run";

        stop_all(front, died ? lease_now_ms() + plan->times.grace_ms : 0);
        atomic_store(&plan->shared->phase, RUN_OVER);
        cgroup_remove(run_cgroup(plan));
        if (!died)
                return tool_fail(LEASE_EXIT_LOST, "%s: the lock was lost while dlockctl's guardian stood still, %s and all that it started was stopped", plan->label, plan->command[0]);
        if (run_give_back(plan, reason, sizeof(reason)))
                return tool_fail(code, "%s: dlockctl's guardian was killed, %s%s, and the lock was given back", plan->label, what, stopped ? " and all that it started was stopped" : "");
        return tool_fail(code, "%s: dlockctl's guardian was killed, %s%s; the lease ends by itself within %s: %s", plan->label, what, stopped ? " and all that it started was stopped" : "",
                         tool_duration(plan->times.ttl_ms, duration), reason);
}

/* --- with the guardian --- */

static int end(struct front *front, const struct run_report *report)
{
        int code = report->code;

        if ((code == LEASE_EXIT_HELD || code == LEASE_EXIT_TIMED_OUT) && front->plan.tool->conflict_code >= 0 && !front->held)
                code = front->plan.tool->conflict_code;
        if (*report->text)
                (void)tool_fail(0, "%s", report->text);
        /* It has nothing left to do. */
        (void)kill(front->guardian, SIGKILL);
        (void)waitpid(front->guardian, NULL, 0);
        return code;
}

/* True: *ret_code is what to exit with. */
static bool hear_guardian(struct front *front, int *ret_code)
{
        for (;;) {
                struct run_report report;
                ssize_t size = recv(front->socket, &report, sizeof(report), MSG_DONTWAIT);

                if (size < 0 && (errno == EAGAIN || errno == EINTR))
                        return false;
                if (size != (ssize_t)sizeof(report)) {
                        *ret_code = take_over(front, true);
                        return true;
                }
                if (report.final) {
                        *ret_code = end(front, &report);
                        return true;
                }
                front->held = true;
        }
}

/* While the guardian does its work, each renewal moves the deadline on before this moment comes. */
static uint64_t own_turn_ms(const struct front *front)
{
        return atomic_load(&front->plan.shared->deadline_ms) - front->plan.times.margin_ms / 2;
}

static bool is_at_work(const struct front *front)
{
        return front->held && atomic_load(&front->plan.shared->phase) == RUN_HELD;
}

static int watch(struct front *front)
{
        uint64_t times;
        int code;

        for (;;) {
                struct pollfd ready[] = { { .fd = front->signals, .events = POLLIN }, { .fd = front->socket, .events = POLLIN }, { .fd = front->timer, .events = POLLIN } };

                if (is_at_work(front))
                        lease_set_timer(front->timer, own_turn_ms(front));
                (void)poll(ready, 3, -1);
                (void)!read(front->timer, &times, sizeof(times));
                code = take_signals(front);
                if (code)
                        return code;
                if (hear_guardian(front, &code))
                        return code;
                if (is_at_work(front) && lease_now_ms() >= own_turn_ms(front))
                        return take_over(front, false);
        }
}

/* Returns in the front. */
static int start_guardian(struct front *front)
{
        int ends[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
                return -errno;
        front->guardian = fork();
        if (front->guardian == 0) {
                (void)close(ends[0]);
                (void)close(front->signals);
                (void)close(front->timer);
                _exit(run_guard(&front->plan, ends[1]));
        }
        (void)close(ends[1]);
        front->socket = ends[0];
        return front->guardian < 0 ? -errno : 0;
}

static int open_front(struct front *front)
{
        sigset_t set;
        int r;

        block_signals(&front->plan, &set);
        run_start_watcher(&front->plan);
        r = tree_begin(&front->tree);
        if (r < 0)
                return tool_fail(LEASE_EXIT_FAILED, "processes cannot be watched over: %s", r == -ENOSYS ? "/proc is not there" : strerror(-r));
        front->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        front->timer = lease_new_timer();
        r = front->signals < 0 || front->timer < 0 ? -errno : start_guardian(front);
        return r < 0 ? tool_fail(LEASE_EXIT_FAILED, "%s", strerror(-r)) : 0;
}

/* Whoever runs a loop of commands wants to know that ^C has ended one: a shell looks for the signal itself, not for its number. */
static void die_of_interrupt(const struct run_plan *plan)
{
        sigset_t set = plan->mask;

        (void)sigdelset(&set, SIGINT);
        (void)signal(SIGINT, SIG_DFL);
        (void)kill(getpid(), SIGINT);
        (void)sigprocmask(SIG_SETMASK, &set, NULL);
}

int command_run(struct tool *tool, char **operands)
{
        struct front front = { .socket = -1, .signals = -1, .timer = -1 };
        int code = run_make_plan(&front.plan, tool, operands);

        if (code == 0)
                code = open_front(&front);
        if (code)
                return code;
        /* From now on they are the command's. */
        spawn_leave_files(STDOUT_FILENO + 1);
        code = watch(&front);
        tree_end(&front.tree);
        if (front.interrupted && code == 128 + SIGINT)
                die_of_interrupt(&front.plan);
        return code;
}
