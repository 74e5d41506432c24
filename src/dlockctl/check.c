#include <inttypes.h>

#include "tool.h"

static void print_answer(const struct tool *tool, const struct dlock_answer *answer)
{
        char age[64];

        (void)tool;
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

static int ask(const struct tool *tool, const char *lock, struct dlock_answer *ret_answer)
{
        return (tool->consistent ? dlock_check_consistent : dlock_check)(tool->dlock, lock, ret_answer);
}

int command_check(struct tool *tool, char **operands)
{
        return tool_ask(tool, operands[0], &(struct tool_question){ .call = ask, .print = print_answer, .put_json = put_answer });
}
