/* watcher.c - makes the command's cgroup, and ends all in it when nobody else can.
 *
 * Neither a child of the others nor in their session, under another name and with all signals blocked, so that what is done to all of
 * dlockctl, or to a process group, does not meet it. It ends when all who have the other end of its socket are dead. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run.h"
#include "spawn.h"

#define NAME "dlock-watcher"
#define PATIENCE_MS_MAX 1000
#define PAUSE_MS_MAX 200

/* The lease is running, and not renewed meanwhile: an answer in less than a third of its time would do. */
static uint32_t patience_ms(const struct run_plan *plan)
{
        return plan->times.ttl_ms / 10 < PATIENCE_MS_MAX ? plan->times.ttl_ms / 10 : PATIENCE_MS_MAX;
}

static void confine(const struct run_plan *plan, int socket, pid_t pid)
{
        char name[sizeof("run-dlock-") + LEASE_CLIENT_SIZE], description[320];

        (void)snprintf(name, sizeof(name), "run-dlock-%s", plan->client);
        (void)snprintf(description, sizeof(description), "dlockctl run %s", plan->label);
        if (cgroup_make(name, description, pid, patience_ms(plan), plan->shared->cgroup))
                atomic_store(&plan->shared->has_cgroup, true);
        (void)send(socket, &pid, sizeof(pid), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* The guardian acts first, the front when half of the margin is left. */
static uint64_t own_turn_ms(const struct run_plan *plan)
{
        return atomic_load(&plan->shared->deadline_ms) - plan->times.margin_ms / 4;
}

/* Both stand still. */
static void look_at_deadline(const struct run_plan *plan, int timer)
{
        uint64_t now_ms = lease_now_ms(), turn_ms = own_turn_ms(plan);

        if (atomic_load(&plan->shared->phase) == RUN_HELD && now_ms >= turn_ms)
                cgroup_kill(run_cgroup(plan));
        lease_set_timer(timer, turn_ms > now_ms ? turn_ms : now_ms + PAUSE_MS_MAX);
}

/* Until the others are dead. */
static void watch(const struct run_plan *plan, int socket, int timer)
{
        for (;;) {
                struct pollfd ready[] = { { .fd = socket, .events = POLLIN }, { .fd = timer, .events = POLLIN } };
                ssize_t size;
                pid_t pid;

                (void)poll(ready, 2, -1);
                size = recv(socket, &pid, sizeof(pid), MSG_DONTWAIT);
                if (size == (ssize_t)sizeof(pid))
                        confine(plan, socket, pid);
                else if (size >= 0 || (errno != EAGAIN && errno != EINTR))
                        return;
                if (*run_cgroup(plan))
                        look_at_deadline(plan, timer);
        }
}

/* Usually nothing is left. */
static void end_all(const struct run_plan *plan)
{
        enum run_phase phase = atomic_load(&plan->shared->phase);
        uint32_t pause_ms = 1;
        char ignored[512];

        if (!*run_cgroup(plan))
                return;
        while (!cgroup_is_empty(run_cgroup(plan))) {
                cgroup_kill(run_cgroup(plan));
                (void)poll(NULL, 0, (int)pause_ms);
                pause_ms = pause_ms < PAUSE_MS_MAX ? 2 * pause_ms : PAUSE_MS_MAX;
        }
        cgroup_remove(run_cgroup(plan));
        if (phase == RUN_HELD || phase == RUN_KEPT)
                (void)run_give_back(plan, ignored, sizeof(ignored));
}

_Noreturn static void be_watcher(const struct run_plan *plan, int socket)
{
        sigset_t all;
        int timer;

        (void)sigfillset(&all);
        (void)sigprocmask(SIG_SETMASK, &all, NULL);
        (void)setsid();
        (void)prctl(PR_SET_NAME, NAME, 0, 0, 0);
        /* Whoever waits for the last one to close a file, or to unlock it, waits for others only. */
        spawn_leave_files(STDERR_FILENO + 1);
        if (socket > STDERR_FILENO + 1)
                (void)close_range(STDERR_FILENO + 1, (unsigned int)socket - 1, 0);
        (void)close_range((unsigned int)socket + 1, ~0U, 0);
        timer = lease_new_timer();
        if (timer >= 0) {
                watch(plan, socket, timer);
                end_all(plan);
        }
        _exit(0);
}

void run_start_watcher(struct run_plan *plan)
{
        int ends[2];
        pid_t pid;

        if (!cgroup_is_possible() || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
                return;
        pid = fork();
        if (pid == 0) {
                (void)close(ends[0]);
                if (fork() == 0)
                        be_watcher(plan, ends[1]);
                _exit(0);
        }
        (void)close(ends[1]);
        if (pid > 0)
                (void)waitpid(pid, NULL, 0);
        plan->watcher = ends[0];
}

void run_confine(const void *data, pid_t pid)
{
        const struct run_plan *plan = data;
        struct pollfd ready = { .fd = plan->watcher, .events = POLLIN };

        if (plan->watcher >= 0 && send(plan->watcher, &pid, sizeof(pid), MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof(pid))
                (void)poll(&ready, 1, (int)patience_ms(plan));
}
