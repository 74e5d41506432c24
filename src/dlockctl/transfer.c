#include "tool.h"

const char transfer_details[] =
        "\nThe node gets all of the log, and then leads until it stops: until then leadership does not go back to dlock-leader by\n"
        "itself. Only root and the user that a node runs as may, through a node on their own host. Waits until it leads; what is\n"
        "asked meanwhile waits too. --json: leader.\n";

int command_transfer(struct tool *tool, char **operands)
{
        struct dlock_answer answer;
        int code = tool_open(tool);

        if (code)
                return code;
        if (dlock_transfer(tool->dlock, operands[0], &answer) < 0)
                return tool_call_failed(tool);
        code = tool_outcome(&answer);
        if (code)
                return code;
        if (tool->json) {
                struct json_object *object = json_object_new_object();

                json_object_object_add(object, "leader", json_object_new_string(operands[0]));
                tool_put_json(object);
        } else {
                (void)printf("%s leads, until it stops\n", operands[0]);
        }
        return EXIT_YES;
}
