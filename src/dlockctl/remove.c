#include <string.h>

#include "tool.h"

const char remove_details[] =
        "\nFor good: a node that is gone, or shall go, counts no more for majorities. Its process, when it still runs, is not\n"
        "stopped, and its state directory stays as it is; with an emptied one it may join again, as a new node. Only root and the\n"
        "user that a node runs as may, through a node on their own host. --json: removed.\n";

/* How many are left; nothing, when the node that is asked does not know of the removal: it may be the removed one itself. */
static void print_rest(const struct tool *tool, const char *removed)
{
        struct dlock_answer answer;
        size_t voters = 0;

        if (dlock_members(tool->dlock, &answer) < 0 || answer.outcome != DLOCK_YES)
                return;
        for (size_t i = 0; i < answer.count; i++) {
                if (strcmp(answer.members[i].name, removed) == 0)
                        return;
                voters += answer.members[i].voter != 0;
        }
        (void)printf(", %zu %s left, of them %zu vote%s", answer.count, answer.count == 1 ? "is" : "are", voters, voters == 1 ? "s" : "");
}

int command_remove(struct tool *tool, char **operands)
{
        int code = tool_ask_node(tool, dlock_remove, operands[0], "removed");

        if (code != EXIT_YES || tool->json)
                return code;
        (void)printf("%s is no member any more", operands[0]);
        print_rest(tool, operands[0]);
        (void)printf("; should it come back, stop it and empty its state directory: then it joins, at its [cluster] join, as a new node\n");
        return EXIT_YES;
}
