/* run_plan.c - what a run is to be, before anything begins; and what both its processes use. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "run.h"

#define TTL_MS 30000
/* A lock that somebody else has ended may be another's already: what is stopped then does not take a share of a day. */
#define GRACE_MS_MAX 10000
#define MARGIN_MS_MAX 5000

const char run_details[] =
        "\nTakes the lock as a lease that is renewed, runs the command, and gives the lock back when the command has ended and nothing that\n"
        "it started is left: that gets SIGTERM, and SIGKILL later. When the lease cannot be renewed, the same is done to all of it, in time:\n"
        "nothing of it lives when another can get the lock. A held lock is told with its holder, and nothing is run.\n"
        "  --try                        do not wait for a lock that is held: the default\n"
        "  --ttl TIME                   of the lease, 1s to 24h (30s)\n"
        "  --kill-after TIME            from SIGTERM to SIGKILL, up to about a quarter of the ttl (a fifth of it, at most 10s)\n"
        "  --once-per TIME              nothing is run, and that is fine, when it ran with --once-per within so long; from 1s to 366d\n"
        "  --on-lost term|kill|COMMAND  when the lock is lost: SIGTERM first (term), SIGKILL at once, or COMMAND of the shell in place\n"
        "                               of SIGTERM, which is told $DLOCK_PID\n"
        "  --note TEXT                  what for, in up to 255 bytes, for people\n"
        "  -E, --conflict-exit-code N   exit with this when the lock is held (119)\n"
        "The command has DLOCK_NAME, DLOCK_TOKEN, DLOCK_DEADLINE_BOOTTIME_NS and DLOCK_HELD in its environment; signals are passed on to it.\n"
        "Its exit status is that of dlockctl, 128+N when signal N ended it. Else: 119 the lock is held; 120 it was lost, all was stopped;\n"
        "121 outcome unknown, nothing was run; 122 no server could be reached; 125 usage, refused, or something on this side; 126 the command\n"
        "cannot be run; 127 there is none.\n";

/* --- what both use --- */

uint64_t run_now_ms(void)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_BOOTTIME, &now);
        return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

int run_new_timer(void)
{
        int fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);

        return fd < 0 ? -errno : fd;
}

void run_set_timer(int timer, uint64_t at_ms)
{
        const struct itimerspec at = { .it_value = { .tv_sec = (time_t)(at_ms / 1000), .tv_nsec = (long)(at_ms % 1000) * 1000000 + 1 } };

        (void)timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
}

int run_open(const struct run_plan *plan, struct dlock **ret_dlock, char *text, size_t size)
{
        int r = dlock_new(ret_dlock, plan->tool->servers, text, size);

        if (r < 0)
                return r;
        r = dlock_set_timeout(*ret_dlock, plan->tool->timeout_ms ? plan->tool->timeout_ms : DLOCK_TIMEOUT_DEFAULT);
        if (r >= 0)
                r = dlock_set_client(*ret_dlock, plan->client);
        if (r < 0) {
                (void)snprintf(text, size, "%s", dlock_get_error(*ret_dlock));
                *ret_dlock = dlock_free(*ret_dlock);
        }
        return r;
}

/* --- the plan --- */

/* A UUID of version 4: two jobs of one user exclude each other. */
static bool make_client(char client[37])
{
        unsigned char id[16];

        if (getrandom(id, sizeof(id), 0) != (ssize_t)sizeof(id))
                return false;
        id[6] = (unsigned char)((id[6] & 0x0f) | 0x40);
        id[8] = (unsigned char)((id[8] & 0x3f) | 0x80);
        for (size_t i = 0, at = 0; i < sizeof(id); i++)
                at += (size_t)snprintf(client + at, 37 - at, "%02x%s", id[i], i == 3 || i == 5 || i == 7 || i == 9 ? "-" : "");
        return true;
}

/* Two renewals must fit in before the stop: ttl * 0.99 - stop > ttl * 2 / 3. With a ttl of 30 s and its margin of 1.5 s that leaves up to
 * 8.1 s for the grace: 29.7 - 8.1 - 1.5 = 20.1 s, and renewals go out after 10 s and, when those are not answered, after 13, 16 and 19 s. */
static uint64_t margin_of(uint64_t ttl_ms)
{
        return ttl_ms / 20 < MARGIN_MS_MAX ? ttl_ms / 20 : MARGIN_MS_MAX;
}

static uint64_t most_grace(uint64_t ttl_ms)
{
        return (ttl_ms * 97 - 1) / 300 - margin_of(ttl_ms);
}

/* In whole seconds. */
static uint64_t least_ttl(uint64_t grace_ms)
{
        uint64_t ttl_ms = (grace_ms * 300 / 97 / 1000 + 1) * 1000;

        while (most_grace(ttl_ms) < grace_ms)
                ttl_ms += 1000;
        return ttl_ms;
}

static int plan_times(struct run_plan *plan, const struct tool *tool)
{
        uint64_t ttl_ms = tool->ttl_ms ? tool->ttl_ms : TTL_MS, usual_ms = ttl_ms / 5 < GRACE_MS_MAX ? ttl_ms / 5 : GRACE_MS_MAX;
        uint64_t grace_ms = tool->kill_after_ms >= 0 ? (uint64_t)tool->kill_after_ms : usual_ms;
        char grace[48], ttl[48], most[48], least[48];

        plan->ttl_ms = (uint32_t)ttl_ms;
        plan->margin_ms = (uint32_t)margin_of(ttl_ms);
        plan->grace_ms = (uint32_t)grace_ms;
        if (grace_ms <= most_grace(ttl_ms) || run_kills_at_once(plan))
                return 0;
        return tool_fail(RUN_EXIT_FAILED, "--kill-after %s is too long for --ttl %s: up to %s, or --ttl from %s on, would be right", tool_duration(grace_ms, grace),
                         tool_duration(ttl_ms, ttl), tool_duration(most_grace(ttl_ms), most), tool_duration(least_ttl(grace_ms), least));
}

int run_make_plan(struct run_plan *plan, const struct tool *tool, char **operands)
{
        struct sigaction child;
        struct dlock *dlock;
        char text[512];
        int code;

        *plan = (struct run_plan){ .tool = tool, .lock = operands[0], .command = operands + 1, .on_lost = tool->on_lost ? tool->on_lost : "term", .front = getpid(), .group = getpgrp() };
        if (tool->client || tool->json)
                return tool_fail(RUN_EXIT_FAILED, "%s and run: %s", tool->client ? "--client" : "--json",
                                 tool->client ? "each run owns its lock by an id of its own" : "standard output is that of the command");
        code = plan_times(plan, tool);
        if (code)
                return code;
        if (!make_client(plan->client))
                return tool_fail(RUN_EXIT_FAILED, "no random numbers: %s", strerror(errno));
        /* What is wrong with the servers' addresses is wrong before anything begins. */
        if (run_open(plan, &dlock, text, sizeof(text)) < 0)
                return tool_fail(RUN_EXIT_FAILED, "%s", text);
        (void)dlock_free(dlock);
        plan->shared = mmap(NULL, sizeof(*plan->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (plan->shared == MAP_FAILED)
                return tool_fail(RUN_EXIT_FAILED, "%s", strerror(errno));
        (void)sigaction(SIGCHLD, NULL, &child);
        plan->ignores_child = child.sa_handler == SIG_IGN;
        return 0;
}
