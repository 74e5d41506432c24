#include "tool.h"

const char transfer_details[] =
        "\nThe node gets all of the log, and then leads until it stops: until then leadership does not go back to dlock-leader by\n"
        "itself. Only root and the user that a node runs as may, through a node on their own host. Waits until it leads; what is\n"
        "asked meanwhile waits too. --json: leader.\n";

int command_transfer(struct tool *tool, char **operands)
{
        int code = tool_ask_node(tool, dlock_transfer, operands[0], "leader");

        if (code == EXIT_YES && !tool->json)
                (void)printf("%s leads, until it stops\n", operands[0]);
        return code;
}
