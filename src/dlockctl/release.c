#include <inttypes.h>

#include "tool.h"

static void print_answer(const struct dlock_answer *answer)
{
        tool_print(stdout, answer->lock);
        if (answer->outcome == DLOCK_YES) {
                (void)printf(": released, token %" PRIu64 "\n", answer->token);
        } else if (!answer->owner) {
                (void)printf(": not released, it is free\n");
        } else {
                (void)printf(": not released, token %" PRIu64 ", owner ", answer->token);
                tool_print(stdout, answer->owner);
                (void)printf("\n");
        }
}

static void put_answer(const struct dlock_answer *answer)
{
        struct json_object *object = json_object_new_object();
        bool released = answer->outcome == DLOCK_YES;

        json_object_object_add(object, "released", json_object_new_boolean(released));
        json_object_object_add(object, "token", tool_json_token(answer->token));
        json_object_object_add(object, "owner", released ? NULL : tool_json_text(answer->owner));
        tool_put_json(object);
}

int command_release(struct tool *tool, char **operands)
{
        struct dlock_answer answer;
        int code = tool_open(tool);

        if (code)
                return code;
        if (dlock_release(tool->dlock, operands[0], &answer) < 0)
                return tool_call_failed(tool);
        code = tool_outcome(&answer);
        if (code > EXIT_NO)
                return code;
        if (tool->json)
                put_answer(&answer);
        else
                print_answer(&answer);
        return code;
}
