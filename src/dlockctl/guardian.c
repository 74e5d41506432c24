/* guardian.c - has the lock, and the command below it. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guardian.h"
#include "spawn.h"

#define KILL_PAUSE_MS_MAX 200

void guardian_conclude(struct guardian *guardian, int code, const char *format, ...)
{
        va_list values;

        guardian->report = (struct run_report){ .final = true, .code = code };
        va_start(values, format);
        (void)vsnprintf(guardian->report.text, sizeof(guardian->report.text), format, values);
        va_end(values);
}

/* --- the front --- */

static void lose_front(struct guardian *guardian)
{
        guardian->alone = true;
        /* Somebody may wait until nobody writes there any more. */
        spawn_leave_files(STDERR_FILENO + 1);
}

static bool tells_to_end(int number)
{
        return number == SIGTERM || number == SIGINT || number == SIGQUIT || number == SIGHUP;
}

/* What the terminal sends goes to a group: a command that has left it is told of it. */
static void forward(struct guardian *guardian, const struct run_order *order)
{
        guardian->told_to_end = guardian->told_to_end || tells_to_end(order->number);
        if (!guardian->command || guardian->ended || (order->of_terminal && getpgid(guardian->command) == guardian->plan->group))
                return;
        (void)kill(guardian->command, order->number);
}

void guardian_hear_front(struct guardian *guardian)
{
        while (!guardian->alone) {
                struct run_order order;
                ssize_t size = recv(guardian->front, &order, sizeof(order), MSG_DONTWAIT);

                if (size == (ssize_t)sizeof(order))
                        forward(guardian, &order);
                else if (size < 0 && (errno == EAGAIN || errno == EINTR))
                        return;
                else
                        lose_front(guardian);
        }
}

/* --- the command --- */

static void add_held(const char *token, const char *lock)
{
        const char *before = getenv("DLOCK_HELD");
        char *held;

        if (asprintf(&held, "%s%s%s %s", before ? before : "", before && *before ? "\n" : "", token, lock) < 0)
                return;
        (void)setenv("DLOCK_HELD", held, 1);
        free(held);
}

static void set_environment(const struct guardian *guardian, uint64_t token)
{
        char number[32];
        const char *lock;

        (void)setenv("DLOCK_NAME", guardian->plan->lock, 1);
        (void)snprintf(number, sizeof(number), "%" PRIu64, token);
        (void)setenv("DLOCK_TOKEN", number, 1);
        /* A pair on each line, the innermost last: names have no line ends. */
        for (size_t i = 0; (lock = tool_lock_of(guardian->plan->tool, guardian->plan->lock, i)); i++)
                add_held(number, lock);
        (void)snprintf(number, sizeof(number), "%" PRIu64 "000000", dlock_hold_get_deadline(guardian->hold));
        (void)setenv("DLOCK_DEADLINE_BOOTTIME_NS", number, 1);
}

/* Its status when it could not be begun: the tree is empty then. */
static void start(struct guardian *guardian)
{
        const struct run_plan *plan = guardian->plan;
        int r = spawn(&(struct spawn){ .argv = plan->command, .mask = &plan->mask, .ignores_child = plan->ignores_child, .group = plan->group, .output = -1, .before = run_confine, .data = plan },
                      &guardian->command);

        spawn_leave_files(STDOUT_FILENO + 1);
        if (r < 0)
                guardian_conclude(guardian, r == -ENOENT ? RUN_EXIT_NOT_FOUND : RUN_EXIT_NOT_RUN, "%s cannot be run: %s", plan->command[0], strerror(-r));
}

static void run_on_lost(struct guardian *guardian)
{
        char shell[] = "/bin/sh", option[] = "-c", number[16], *line = strdup(guardian->plan->on_lost);
        char *argv[] = { shell, option, line, NULL };
        pid_t pid;

        (void)snprintf(number, sizeof(number), "%d", guardian->command);
        (void)setenv("DLOCK_PID", number, 1);
        if (!line || spawn(&(struct spawn){ .argv = argv, .mask = &guardian->plan->mask, .group = getpgrp(), .output = STDERR_FILENO }, &pid) < 0)
                (void)tree_signal(&guardian->tree, SIGTERM);
        free(line);
}

/* --- stopping --- */

/* Who begins later does so to clean up, and is left in peace until SIGKILL. */
static void begin_stop(struct guardian *guardian, bool of_loss)
{
        guardian->kill_at_ms = lease_now_ms() + guardian->plan->times.grace_ms;
        guardian->stage = of_loss && run_kills_at_once(guardian->plan) ? STAGE_KILLING : STAGE_STOPPING;
        if (guardian->stage == STAGE_KILLING)
                return;
        if (of_loss && strcmp(guardian->plan->on_lost, "term") != 0)
                run_on_lost(guardian);
        else
                (void)tree_signal(&guardian->tree, SIGTERM);
}

static void look_at_lock(struct guardian *guardian)
{
        atomic_store(&guardian->plan->shared->deadline_ms, dlock_hold_get_deadline(guardian->hold));
        if (guardian->lost || dlock_hold_get_state(guardian->hold) != DLOCK_LOST)
                return;
        guardian->lost = true;
        guardian->cut_short = !guardian->ended;
        (void)snprintf(guardian->reason, sizeof(guardian->reason), "%s", dlock_hold_get_reason(guardian->hold));
        if (guardian->stage == STAGE_RUNNING)
                begin_stop(guardian, true);
}

/* The deadline comes before every grace: at deadline - margin all are killed, whatever else is the matter. */
static void decide(struct guardian *guardian)
{
        look_at_lock(guardian);
        if (guardian->stage == STAGE_RUNNING && (guardian->ended || guardian->alone))
                begin_stop(guardian, false);
        if (guardian->stage != STAGE_RUNNING) {
                uint64_t now_ms = lease_now_ms(), deadline_ms = dlock_hold_get_deadline(guardian->hold);

                if (now_ms >= guardian->kill_at_ms || now_ms + guardian->plan->times.margin_ms >= deadline_ms)
                        guardian->stage = STAGE_KILLING;
        }
        if (guardian->stage == STAGE_KILLING) {
                cgroup_kill(run_cgroup(guardian->plan));
                tree_kill(&guardian->tree);
        }
}

static uint64_t after_pause_ms(struct guardian *guardian)
{
        guardian->pause_ms = guardian->pause_ms == 0 ? 1 : guardian->pause_ms < KILL_PAUSE_MS_MAX ? 2 * guardian->pause_ms : KILL_PAUSE_MS_MAX;
        return lease_now_ms() + guardian->pause_ms;
}

/* When to look again though nothing happens. */
static uint64_t next_look_ms(struct guardian *guardian)
{
        uint64_t last_ms = dlock_hold_get_deadline(guardian->hold) - guardian->plan->times.margin_ms;

        /* Nobody tells when those in the cgroup end that are nobody's children here. */
        if (guardian->stage != STAGE_KEEPING && tree_is_empty(&guardian->tree))
                return after_pause_ms(guardian);
        switch (guardian->stage) {
        case STAGE_RUNNING:
                return run_kills_at_once(guardian->plan) ? last_ms : last_ms - guardian->plan->times.grace_ms;
        case STAGE_STOPPING:
                return guardian->kill_at_ms < last_ms ? guardian->kill_at_ms : last_ms;
        case STAGE_KILLING:
                return after_pause_ms(guardian);
        case STAGE_KEEPING:
                return guardian->keep_until_ms < last_ms ? guardian->keep_until_ms : last_ms;
        }
        return last_ms;
}

static void wait_for_something(struct guardian *guardian)
{
        struct pollfd ready[] = { { .fd = dlock_get_fd(guardian->dlock), .events = (short)dlock_get_events(guardian->dlock) },
                                  { .fd = guardian->alone ? -1 : guardian->front, .events = POLLIN },
                                  { .fd = guardian->signals, .events = POLLIN },
                                  { .fd = guardian->timer, .events = POLLIN } };
        struct signalfd_siginfo info;
        struct dlock_answer answer;

        lease_set_timer(guardian->timer, next_look_ms(guardian));
        (void)poll(ready, 4, dlock_get_timeout(guardian->dlock));
        while (read(guardian->signals, &info, sizeof(info)) > 0) {
        }
        (void)dlock_process(guardian->dlock);
        while (dlock_next(guardian->dlock, &answer) > 0) {
        }
        guardian_hear_front(guardian);
}

/* Until nobody is left. */
static void watch(struct guardian *guardian)
{
        for (;;) {
                if (tree_reap(&guardian->tree, guardian->command, &guardian->status))
                        guardian->ended = true;
                if (tree_is_empty(&guardian->tree) && cgroup_is_empty(run_cgroup(guardian->plan)))
                        return;
                decide(guardian);
                wait_for_something(guardian);
        }
}

static int status_of(const struct guardian *guardian)
{
        return WIFSIGNALED(guardian->status) ? 128 + WTERMSIG(guardian->status) : WEXITSTATUS(guardian->status);
}

/* --hold-at-least: other hosts, whose clocks are late, must not find it free. It goes on being renewed. */
static void keep(struct guardian *guardian)
{
        guardian->stage = STAGE_KEEPING;
        atomic_store(&guardian->plan->shared->code, status_of(guardian));
        atomic_store(&guardian->plan->shared->phase, RUN_KEPT);
        while (!guardian->lost && !guardian->alone && !guardian->told_to_end && lease_now_ms() < guardian->keep_until_ms) {
                wait_for_something(guardian);
                look_at_lock(guardian);
        }
}

/* --- the end --- */

static void judge(struct guardian *guardian)
{
        if (guardian->report.final)
                return;
        if (guardian->cut_short)
                guardian_conclude(guardian, LEASE_EXIT_LOST, "%s: the lock was lost, %s and all that it started was stopped%s%s", guardian->plan->label,
                                  guardian->plan->command[0], *guardian->reason ? ": " : "", guardian->reason);
        else if (guardian->lost && guardian->stage == STAGE_KEEPING)
                guardian_conclude(guardian, status_of(guardian), "%s was lost before --hold-at-least was over: %s", guardian->plan->label, guardian->reason);
        else
                guardian_conclude(guardian, status_of(guardian), "%s", "");
}

static void return_lock(struct guardian *guardian, uint64_t token)
{
        uint64_t now_ms = lease_now_ms(), deadline_ms = dlock_hold_get_deadline(guardian->hold), left_ms = deadline_ms > now_ms ? deadline_ms - now_ms : 0;
        uint32_t timeout_ms = guardian->plan->tool->timeout_ms ? guardian->plan->tool->timeout_ms : DLOCK_TIMEOUT_DEFAULT;
        const char *reason;
        char duration[48];

        guardian->hold = dlock_hold_free(guardian->hold);
        guardian->gives_back = true;
        guardian->told_to_end = false;
        /* One that was lost may be over already. Nobody need be patient for longer than it lives. */
        if (guardian->lost && left_ms == 0)
                return;
        if (left_ms < timeout_ms)
                timeout_ms = left_ms > 0 ? (uint32_t)left_ms : 1;
        if (guardian_give_back(guardian, token, timeout_ms, &reason) || guardian->lost || *guardian->report.text)
                return;
        guardian_conclude(guardian, guardian->report.code, "%s could not be given back: %s; its lease ends by itself within %s", guardian->plan->label, reason,
                 tool_duration(guardian->plan->times.ttl_ms, duration));
}

/* A job that was stopped while it waited, by ^Z, has the lock from now on, but the command of a job that is stopped does not begin. */
static void wait_for_front(struct guardian *guardian)
{
        while (!guardian->alone && tree_is_stopped(guardian->plan->front) && dlock_hold_get_state(guardian->hold) != DLOCK_LOST)
                wait_for_something(guardian);
}

/* False: the front has ended, or the answer came too late. */
static bool may_start(struct guardian *guardian)
{
        struct run_shared *shared = guardian->plan->shared;
        enum run_phase asking = RUN_ASKING;

        wait_for_front(guardian);
        atomic_store(&shared->deadline_ms, dlock_hold_get_deadline(guardian->hold));
        guardian_hear_front(guardian);
        if (dlock_hold_get_state(guardian->hold) == DLOCK_LOST) {
                guardian_conclude(guardian, LEASE_EXIT_UNKNOWN, "%s: granted too late, nothing was run", guardian->plan->label);
                return false;
        }
        if (guardian->alone || !atomic_compare_exchange_strong(&shared->phase, &asking, RUN_HELD))
                return false;
        (void)send(guardian->front, &(struct run_report){ 0 }, sizeof(struct run_report), MSG_NOSIGNAL);
        return true;
}

static void serve(struct guardian *guardian)
{
        const struct run_plan *plan = guardian->plan;
        struct dlock_answer answer;
        uint64_t token;

        if (!guardian_take_lock(guardian, &answer))
                return;
        token = answer.token;
        guardian->keep_until_ms = lease_now_ms() + plan->tool->hold_at_least_ms;
        atomic_store(&plan->shared->session, plan->tool->further_count > 0 ? answer.session : 0);
        atomic_store(&plan->shared->token, token);
        if (dlock_hold_new(&guardian->hold, guardian->dlock, &answer, plan->times.margin_ms + (run_kills_at_once(plan) ? 0 : plan->times.grace_ms), NULL, NULL) < 0) {
                const char *ignored;

                guardian_conclude(guardian, LEASE_EXIT_FAILED, "%s", dlock_get_error(guardian->dlock));
                (void)guardian_give_back(guardian, token, 0, &ignored);
                return;
        }
        if (may_start(guardian)) {
                set_environment(guardian, token);
                start(guardian);
                watch(guardian);
                cgroup_remove(run_cgroup(plan));
                if (guardian->command && !guardian->cut_short)
                        keep(guardian);
                /* The deadline is of no consequence any more. */
                atomic_store(&plan->shared->phase, RUN_OVER);
                judge(guardian);
        }
        return_lock(guardian, token);
}

static int open_all(struct guardian *guardian)
{
        char text[512] = "";
        sigset_t child;
        int r;

        (void)sigemptyset(&child);
        (void)sigaddset(&child, SIGCHLD);
        r = tree_begin(&guardian->tree);
        if (r < 0) {
                guardian_conclude(guardian, LEASE_EXIT_FAILED, "processes cannot be watched over: %s", r == -ENOSYS ? "/proc is not there" : strerror(-r));
                return r;
        }
        guardian->signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
        guardian->timer = lease_new_timer();
        if (guardian->signals < 0 || guardian->timer < 0) {
                guardian_conclude(guardian, LEASE_EXIT_FAILED, "%s", strerror(errno));
                return -errno;
        }
        r = lease_open(guardian->plan->tool, guardian->plan->client, &guardian->dlock, text, sizeof(text));
        if (r < 0)
                guardian_conclude(guardian, LEASE_EXIT_FAILED, "%s", text);
        return r;
}

int run_guard(const struct run_plan *plan, int front)
{
        struct guardian guardian = { .plan = plan, .front = front, .signals = -1, .timer = -1 };

        /* A group of its own: what is done to that of the command, ^Z and kill -9 %1, does not meet the one that has the lock. */
        (void)setpgid(0, 0);
        if (open_all(&guardian) >= 0)
                serve(&guardian);
        guardian.hold = dlock_hold_free(guardian.hold);
        guardian.dlock = dlock_free(guardian.dlock);
        tree_end(&guardian.tree);
        if (!guardian.alone)
                (void)send(guardian.front, &guardian.report, sizeof(guardian.report), MSG_NOSIGNAL);
        return 0;
}
