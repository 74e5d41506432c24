#include <inttypes.h>

#include "tool.h"

static void print_answer(const struct dlock_answer *answer)
{
        char age[64];

        tool_print(stdout, answer->lock);
        if (answer->owner) {
                (void)printf(": owner ");
                tool_print(stdout, answer->owner);
                (void)printf(", token %" PRIu64, answer->token);
        } else {
                (void)printf(": free");
        }
        (void)printf(" (as of entry %" PRIu64 ", %s)\n", answer->index, tool_age(answer->leader_age_ms, age));
}

static void put_answer(const struct dlock_answer *answer)
{
        struct json_object *object = json_object_new_object();

        json_object_object_add(object, "lock", json_object_new_string(answer->lock));
        json_object_object_add(object, "owner", tool_json_text(answer->owner));
        json_object_object_add(object, "token", tool_json_token(answer->token));
        json_object_object_add(object, "index", json_object_new_uint64(answer->index));
        json_object_object_add(object, "leader_age_ms", tool_json_age(answer->leader_age_ms));
        tool_put_json(object);
}

int command_check(struct tool *tool, char **operands)
{
        struct dlock_answer answer;
        int code = tool_open(tool);

        if (code)
                return code;
        if (dlock_check(tool->dlock, operands[0], &answer) < 0)
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
