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
        "--json: lock, owner, token, index, leader_age_ms.\n";

static const char preempt_details[] =
        "\nA lock that is held, also by yourself, is not granted. What show tells of who holds it: the user, and of the process that called\n"
        "dlockctl its host, unit and number.\n"
        "  --note TEXT                  what for, in up to 255 bytes, for people\n"
        "  --ttl TIME                   as a lease: it is free again so long after it was granted, or renewed last; from 1s to 24h\n"
        "  --once-per TIME              not when it was granted, to anybody who said --once-per, within so long; from 1s to 366d\n"
        "--json: granted, token, owner, too_soon, session, ttl_ms, deadline_boottime_ms.\n";

static const char renew_details[] =
        "\nTOKEN is what preempt --ttl told. A lease that has ended is not renewed, and the lock may be another's.\n"
        "  --ttl TIME                   as it was taken with: to tell until when it lives now\n"
        "--json: renewed, session, ttl_ms, deadline_boottime_ms.\n";

static const char show_details[] =
        "\nOwner, token, since when; the user, host, unit and process that took it, as far as known; its note; of a lease,\n"
        "or a lock in a session, how long that lives and, when the leader answers, when it ends if it is not renewed.\n"
        "  --consistent                 with everything that anybody was told before, as of check\n"
        "--json: lock, owner, token, held_ms, since_wall_ms, session, ttl_ms, expires_ms, user, host, unit, pid, note, index, leader_age_ms.\n";

static const char release_details[] =
        "\nThe hold that you have when it is asked for; with --token TOKEN only the one of that fencing token, as preempt told it, and\n"
        "none that was granted since. --json: released, token, owner.\n";

static const char members_details[] =
        "\nAs the node that answers sees them; how far they are behind only the leader knows. --json: one object per line, with name,\n"
        "id, role (leader, voter, learner), witness, preferred, state (connected, stopped, not connected), behind, address, level.\n";

static const struct command commands[] = {
        { "preempt", "NAME", 1, 1, "Takes a lock that has no owner", preempt_details, .run = command_preempt, .changes = true, .takes = true,
          .lives = true },
        { "renew", "TOKEN", 1, 1, "Renews a lease", renew_details, .run = command_renew, .changes = true, .lives = true },
        { "release", "NAME", 1, 1, "Gives back a lock that you own", release_details, .run = command_release, .changes = true,
          .names_a_hold = true },
        { "check", "NAME", 1, 1, "Tells who owns a lock", check_details, .run = command_check, .looks = true, .judges = true },
        { "show", "NAME", 1, 1, "Tells all that is known of who holds a lock", show_details, .run = command_show, .looks = true },
        { "list", "[PREFIX]", 0, 1, "Shows the locks that are held", page_details, .run = command_list },
        { "history", "[NAME]", 0, 1, "Shows the changes that the log still has", page_details, .run = command_history },
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
          .runs = true },
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
        struct tool tool = { .max_age_ms = -1, .kill_after_ms = -1, .conflict_code = -1, .clients = "1,16,64,256", .seconds = 5 };
        char **operands;
        bool complete;
        int code;

        complete = open_missing();
        (void)setlocale(LC_CTYPE, "C.UTF-8");        /* names are UTF-8, whatever the user's locale: for columns on a terminal */
        code = options_read(&tool, commands, argc, argv, &operands);
        if (!complete && code <= EXIT_YES && !(code < 0 && tool.command->runs))
                return tool_fail(EXIT_USAGE, "standard output is closed; somewhere to write to would be right");
        if (code < 0) {
                /* A pipe that nobody reads any more ends a list; the outcome of a change is still told by the exit status. */
                if (tool.command->changes)
                        (void)signal(SIGPIPE, SIG_IGN);
                code = tool.command->run(&tool, operands);
        }
        tool.dlock = dlock_free(tool.dlock);
        return flush(&tool, code);
}
