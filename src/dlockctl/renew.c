#include <inttypes.h>

#include "tool.h"

static void print_answer(const struct tool *tool, const struct dlock_answer *answer)
{
        char life[96];

        (void)printf("%" PRIu64 ": %s%s\n", tool->token, answer->outcome == DLOCK_YES ? "renewed" : "not renewed, it has ended", tool_life(answer, life));
}

static void put_answer(const struct tool *tool, const struct dlock_answer *answer)
{
        struct json_object *object = json_object_new_object();

        json_object_object_add(object, "renewed", json_object_new_boolean(answer->outcome == DLOCK_YES));
        tool_json_life(object, tool, answer);
        tool_put_json(object);
}

static int ask(const struct tool *tool, const char *lock, struct dlock_answer *ret_answer)
{
        (void)lock;
        return dlock_ask(tool->dlock, &(struct dlock_request){ .operation = DLOCK_OP_RENEW, .session = tool->token, .ttl_ms = tool->ttl_ms }, ret_answer);
}

int command_renew(struct tool *tool, char **operands)
{
        if (!tool_parse_token(operands[0], &tool->token))
                return tool_fail(EXIT_USAGE, "%s is no token: a number from 1 to 2^53 - 1, as preempt --ttl told it, would be right", operands[0]);
        return tool_ask(tool, NULL, &(struct tool_question){ .call = ask, .print = print_answer, .put_json = put_answer });
}
