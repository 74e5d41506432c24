/* run_plan.c - what a run is to be, before anything begins. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "run.h"

const char run_details[] =
        "\nTakes the lock as a lease that is renewed, runs the command, and gives the lock back when the command has ended and nothing that\n"
        "it started is left: that gets SIGTERM, and SIGKILL later. When the lease cannot be renewed, the same is done to all of it, in time:\n"
        "nothing of it lives when another can get the lock. A held lock is told with its holder, and nothing is run.\n"
        "  -n, --try                    do not wait for a lock that is held: the default\n"
        "  -w TIME, --wait[=TIME]       stand in its queue for so long, or for as long as it takes; first come, first served\n"
        "  --shared                     together with others who say so, as readers do: who wants it alone, or in another way, waits for all of them\n"
        "  --slots N                    together with others who say the same N, N of them at most; up to 4096; 1: alone\n"
        "  --also NAME                  one lock more, all of them or none, up to 8; they are lost all at once, too\n"
        "  --ttl TIME                   of the lease, 1s to 24h (30s)\n"
        "  --lock-delay TIME            when the lease is lost nobody gets the lock for so long, 0 to 10min (1 s more than what stops the\n"
        "                               command takes, or than a hundredth of the ttl)\n"
        "  --kill-after TIME            from SIGTERM to SIGKILL, up to about a quarter of the ttl (a fifth of it, at most 10s)\n"
        "  --hold-at-least TIME         keep the lock until so long after it was granted, also when the command has ended sooner; up to 24h\n"
        "  --once-per TIME              nothing is run, and that is fine, when it ran with --once-per within so long; from 1s to 366d\n"
        "  --on-lost term|kill|COMMAND  when the lock is lost: SIGTERM first (term), SIGKILL at once, or COMMAND of the shell in place\n"
        "                               of SIGTERM, which is told $DLOCK_PID\n"
        "  --note TEXT                  what for, in up to 255 bytes, for people\n"
        "  -E, --conflict-exit-code N   exit with this when the lock is held (119), or was not granted in the time of --wait (118)\n"
        "The command has DLOCK_NAME, DLOCK_TOKEN, DLOCK_DEADLINE_BOOTTIME_NS and DLOCK_HELD in its environment; signals are passed on to it.\n"
        "Its exit status is that of dlockctl, 128+N when signal N ended it. Else: 118 the lock was not granted in\n"
        "time; 119 it is held; 120 it was lost, all was stopped;\n"
        "121 outcome unknown, nothing was run; 122 no server could be reached; 125 usage, refused, or something on this side; 126 the command\n"
        "cannot be run; 127 there is none.\n";

int run_make_plan(struct run_plan *plan, const struct tool *tool, char **operands)
{
        struct sigaction child;
        struct dlock *dlock;
        static char label[TOOL_LABEL_SIZE];
        char text[512];
        int code;

        *plan = (struct run_plan){ .tool = tool, .lock = operands[0], .label = tool_label(tool, operands[0], label), .command = operands + 1, .on_lost = tool->on_lost ? tool->on_lost : "term", .front = getpid(), .group = getpgrp(), .watcher = -1 };
        if (tool->client || tool->json)
                return tool_fail(LEASE_EXIT_FAILED, "%s and run: %s", tool->client ? "--client" : "--json",
                                 tool->client ? "each run owns its lock by an id of its own" : "standard output is that of the command");
        code = lease_plan_times(tool, run_kills_at_once(plan), &plan->times);
        if (code)
                return code;
        if (!lease_make_client(plan->client))
                return tool_fail(LEASE_EXIT_FAILED, "no random numbers: %s", strerror(errno));
        /* What is wrong with the servers' addresses is wrong before anything begins. */
        if (lease_open(tool, plan->client, &dlock, text, sizeof(text)) < 0)
                return tool_fail(LEASE_EXIT_FAILED, "%s", text);
        (void)dlock_free(dlock);
        plan->shared = mmap(NULL, sizeof(*plan->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (plan->shared == MAP_FAILED)
                return tool_fail(LEASE_EXIT_FAILED, "%s", strerror(errno));
        (void)sigaction(SIGCHLD, NULL, &child);
        plan->ignores_child = child.sa_handler == SIG_IGN;
        return 0;
}
