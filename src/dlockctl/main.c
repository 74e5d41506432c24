/* dlockctl - asks a dlock cluster for locks. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <locale.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "tool.h"

static const char page_details[] =
        "\nEverything is shown, page by page. With --json: one object per line (JSON lines), so that a million of them\n"
        "need no memory on either side; pages are read one after the other, each as of its own moment.\n";

static const char check_details[] =
        "\nAs the node that answers knows it. With --consistent: with everything that anybody was told before, from whichever node; it\n"
        "costs a round of the leader to a majority, and without one the outcome is unknown.\n"
        "  --consistent                 see above\n"
        "  --max-age TIME               unknown when the node has not heard from a leader for longer\n"
        "  --mine                       yes only when it is yours\n"
        "  --token TOKEN                yes only when the hold of this token is there\n"
        "Of those who hold it together one is named, with --mine or --token the one that is asked about.\n"
        "A lock that was lost is free only when its lock-delay is over; until then it is told how long that takes.\n"
        "--json: lock, owner, token, slots, holders, free_in_ms, index, leader_age_ms.\n";

static const char preempt_details[] =
        "\nA lock that is held, also by yourself, is not granted. What show tells of who holds it: the user, and of the process that called\n"
        "dlockctl its host, unit and number.\n"
        "  --note TEXT                  what for, in up to 255 bytes, for people\n"
        "  --ttl TIME                   as a lease: it is free again so long after it was granted, or renewed last; from 1s to 24h\n"
        "  --lock-delay TIME            of a lease: when it is lost - not renewed, or broken at once - nobody gets the lock for so long, so that\n"
        "                               what was under way may land; 0 to 10min (1 s and a hundredth of the ttl)\n"
        "  --once-per TIME              not when it was granted, to anybody who said --once-per, within so long; from 1s to 366d\n"
        "  -w TIME, --wait[=TIME]       stand in the queue of a lock that is held, for so long, or for as long as it takes; first come,\n"
        "                               first served\n"
        "  -n, --try                    do not wait: the default\n"
        "  --shared                     together with others who say so, as readers do: who wants it alone, or in another way, waits for all of them\n"
        "  --slots N                    together with others who say the same N, N of them at most; up to 4096; 1: alone\n"
        "Several names, up to 8: all of them or none, by one grant, so under one token and in one lease; who waits has none of them before\n"
        "it is its turn for each. Alone, and without --once-per.\n"
        "--json: granted, token, owner, slots, holders, too_soon, free_in_ms, timed_out, reason, session, ttl_ms, deadline_boottime_ms;\n"
        "with several names locks, and, when it is not granted, held: lock, owner of each that is.\n";

static const char renew_details[] =
        "\nTOKEN is what preempt --ttl told. A lease that has ended is not renewed, and the lock may be another's.\n"
        "  --ttl TIME                   as it was taken with: to tell until when it lives now\n"
        "--json: renewed, session, ttl_ms, deadline_boottime_ms.\n";

static const char show_details[] =
        "\nOwner, token, since when; the user, host, unit and process that took it, as far as known; its note; of a lease,\n"
        "or a lock in a session, how long that lives and, when the leader answers, when it ends if it is not renewed; its lock-delay; of a\n"
        "lock that was lost, how long nobody gets it.\n"
        "  --consistent                 with everything that anybody was told before, as of check\n"
        "Of a lock that is held together: how, by how many, and all that of each of them.\n"
        "--json: lock, owner, token, held_ms, since_wall_ms, session, ttl_ms, lock_delay_ms, expires_ms, lease, broken, user, host, unit, pid, note, waiting,\n"
        "slots, holders (of each who holds it: owner to note; the first is that of above), free_in_ms, index, leader_age_ms.\n";

static const char release_details[] =
        "\nThe hold that you have when it is asked for; with --token TOKEN only the one of that fencing token, as preempt told it, and\n"
        "none that was granted since. Of several holds of a lock that is held together the one is to be named that is meant.\n"
        "Several names: one after the other; the exit status is 0 when all were released, else the worst.\n"
        "--json: lock, released, token, owner, in a line for each.\n";

static const char members_details[] =
        "\nAs the node that answers sees them; how far they are behind only the leader knows. --json: one object per line, with name,\n"
        "id, role (leader, voter, learner), witness, preferred, state (connected, stopped, not connected), behind, address, level.\n";

static const struct command commands[] = {
        { "preempt", "NAME...", 1, INT_MAX, "Takes a lock that has no owner; several: all or none", preempt_details, .run = command_preempt, .changes = true, .takes = true, .names_several = true,
          .lives = true, .waits = true },
        { "renew", "TOKEN", 1, 1, "Renews a lease", renew_details, .run = command_renew, .changes = true, .lives = true },
        { "release", "NAME...", 1, INT_MAX, "Gives back a lock that you own", release_details, .run = command_release, .changes = true, .names_several = true,
          .names_a_hold = true },
        { "break", "NAME", 1, 1, "Takes a lock from its holder", break_details, .run = command_break, .changes = true, .names_a_hold = true, .breaks = true },
        { "check", "NAME", 1, 1, "Tells who owns a lock", check_details, .run = command_check, .looks = true, .judges = true, .names_a_hold = true },
        { "show", "NAME", 1, 1, "Tells all that is known of who holds a lock", show_details, .run = command_show, .looks = true },
        { "list", "[PREFIX]", 0, 1, "Shows the locks that are held", page_details, .run = command_list },
        { "history", "[NAME]", 0, 1, "Shows the changes that the log still has", page_details, .run = command_history },
        { "watch", "[PREFIX]", 0, 1, "Tells what becomes of locks, as it happens", watch_details, .run = command_watch, .follows = true },
        { "observe", "NAME", 1, 1, "Tells who leads: who holds a lock, and its note", observe_details, .run = command_observe, .looks = true, .follows = true,
          .observes = true },
        { "status", "", 0, 0, "Shows how the node and its cluster are", "\n--json: node, role, term, commit, applied, leader, and more.\n", .run = command_status },
        { "members", "", 0, 0, "Shows the nodes of the cluster", members_details, .run = command_members },
        { "transfer", "NODE", 1, 1, "Hands leadership to a node", transfer_details, .run = command_transfer, .changes = true },
        { "remove", "NODE", 1, 1, "Takes a node out of the cluster", remove_details, .run = command_remove, .changes = true },
        { "whoami", "", 0, 0, "Shows the client id", "\nMakes one when this user has none on this machine. --json: client, cluster.\n", .run = command_whoami },
        { "forget-cluster", "", 0, 0, "Forgets which cluster this user's locks are in",
          "\nThe first cluster that answers is remembered, and no other is believed. This makes the next one the first.\n--json: forgotten.\n",
          .run = command_forget_cluster },
        { "backup", "FILE", 1, 1, "Writes a copy of a node's database to a file", backup_details, command_backup, .writes_file = true },
        { "fence", "FILE [COMMAND]", 1, INT_MAX, "Refuses whoever comes too late to a resource", fence_details, .run = command_fence, .changes = true,
          .names_a_hold = true, .fences = true },
        { "run", "NAME [--] COMMAND [ARG...]", 2, INT_MAX, "Runs a command under a lock", run_details, .run = command_run, .takes = true, .lives = true,
          .runs = true, .waits = true },
        { "hold", "NAME", 1, 1, "Holds a lock until it is told to stop", hold_details, .run = command_hold, .changes = true, .lives = true, .waits = true, .holds = true },
        { "bench", "", 0, 0, "Measures how fast locks are taken and released", bench_details, .run = command_bench, .bench = true },
        { 0 },
};

/* A descriptor of the library's must not become standard output or error. A command that is run finds closed what was. False: standard
 * output is. */
static bool open_missing(void)
{
        bool complete = true;

        for (int fd = 0; fd <= STDERR_FILENO; fd++) {
                if (fcntl(fd, F_GETFD) >= 0)
                        continue;
                if (fd == STDOUT_FILENO || open("/dev/null", (fd == 0 ? O_RDONLY : O_WRONLY) | O_CLOEXEC) != fd)
                        complete = false;
                if (fd == STDOUT_FILENO)
                        (void)open("/dev/null", O_WRONLY | O_CLOEXEC);
        }
        return complete;
}

/* Whoever does not get to read "granted" must not take it for "nothing has happened". */
static int flush(const struct tool *tool, int code)
{
        int failed = ferror(stdout);
        const char *problem;

        if (tool->reader_gone)
                return code;
        errno = 0;
        if (fflush(stdout) == 0 && !failed)
                return code;
        problem = errno ? strerror(errno) : "standard output fails";
        if (tool->command && tool->command->changes && code == EXIT_YES)
                return tool_fail(EXIT_UNKNOWN, "%s was successful, but that could not be written: %s", tool->command->name, problem);
        return tool_fail(EXIT_USAGE, "the answer could not be written: %s", problem);
}

int main(int argc, char **argv)
{
        struct tool tool = { .max_age_ms = -1, .lock_delay_ms = -1, .kill_after_ms = -1, .conflict_code = -1, .for_ms = -1, .clients = "1,16,64,256", .seconds = 5 };
        char **operands;
        bool complete;
        int code;

        complete = open_missing();
        (void)setlocale(LC_CTYPE, "C.UTF-8");        /* names are UTF-8, whatever the user's locale: for columns on a terminal */
        code = options_read(&tool, commands, argc, argv, &operands);
        if (!complete && code <= EXIT_YES && !(code < 0 && tool.command->runs))
                return tool_fail(tool.command && tool.command->holds ? EXIT_USAGE_BESIDE : EXIT_USAGE, "standard output is closed; somewhere to write to would be right");
        if (code < 0) {
                /* A pipe that nobody reads any more ends a list; the outcome of a change is still told by the exit status. */
                if (tool.command->changes)
                        (void)signal(SIGPIPE, SIG_IGN);
                code = tool.command->run(&tool, operands);
        }
        tool.dlock = dlock_free(tool.dlock);
        return flush(&tool, code);
}
