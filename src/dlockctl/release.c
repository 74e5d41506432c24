#include <inttypes.h>

#include "tool.h"

static void print_answer(const struct tool *tool, const struct dlock_answer *answer)
{
        (void)tool;
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

static void put_answer(const struct tool *tool, const struct dlock_answer *answer)
{
        struct json_object *object = json_object_new_object();
        bool released = answer->outcome == DLOCK_YES;

        (void)tool;
        json_object_object_add(object, "released", json_object_new_boolean(released));
        json_object_object_add(object, "token", tool_json_token(answer->token));
        json_object_object_add(object, "owner", released ? NULL : tool_json_text(answer->owner));
        tool_put_json(object);
}

static int ask(const struct tool *tool, const char *lock, struct dlock_answer *ret_answer)
{
        return dlock_release_token(tool->dlock, lock, tool->token, ret_answer);
}

int command_release(struct tool *tool, char **operands)
{
        return tool_ask(tool, operands[0], &(struct tool_question){ .call = ask, .print = print_answer, .put_json = put_answer });
}
