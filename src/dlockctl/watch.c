#include <inttypes.h>

#include "follow.h"

const char watch_details[] =
        "\nFirst the locks that are held, then a line for everything that becomes of one: granted, released, expired (nobody renewed it),\n"
        "closed (its client ended the session) or broken; in the order of the log, once, whichever server answers. When more has happened\n"
        "than the servers remember, that is told, and the locks are listed anew. A change is told late, and proves nothing about now.\n"
        "  --after INDEX                no list: what has happened since, as \"after\" of --json, or the number before a line, tells\n"
        "  --count N                    end after so many changes\n"
        "  --for TIME                   end after so long\n"
        "SIGINT, SIGTERM and a pipe that nobody reads any more end it, too, with 0. While no server answers it goes on trying; 3 or 4 when\n"
        "none does in the beginning, for as long as --timeout says, or when its time ends.\n"
        "--json: one object per line, with kind (held, complete, granted, released, expired, closed, broken, freed, anew), lock, owner, token, slots,\n"
        "session, ttl_ms, host, unit, pid, note, index, wall_ms, after.\n";

static void print_change(const struct dlock_change *change)
{
        char when[48], mode[24];

        (void)printf("%10" PRIu64 "  %s  %-9s ", change->index, tool_time(change->wall_ms, when), dlock_change_name(change->kind));
        tool_print_column(change->lock, 32);
        (void)printf("  ");
        tool_print(stdout, change->owner);
        (void)printf("  token %" PRIu64 "%s", change->token, tool_mode(change->slots, mode));
        if (*change->note) {
                (void)printf("  ");
                tool_print(stdout, change->note);
        }
        (void)printf("\n");
}

static bool tell(const struct tool *tool, const struct dlock_change *change, void *state)
{
        (void)state;
        if (tool->json)
                follow_put_json(change);
        else if (change->kind == DLOCK_CHANGE_COMPLETE)
                (void)printf("(these are held as of entry %" PRIu64 "; changes follow)\n", change->index);
        else if (change->kind == DLOCK_CHANGE_ANEW)
                (void)printf("(what came next is not remembered any more: the locks as they are now)\n");
        else
                print_change(change);
        return change->kind < DLOCK_CHANGE_LISTED;
}

int command_watch(struct tool *tool, char **operands)
{
        return follow(tool, operands[0], false, tell, NULL);
}
