#include <inttypes.h>
#include <string.h>

#include "tool.h"

static void print_answer(const struct tool *tool, const struct dlock_answer *answer)
{
        (void)tool;
        tool_print(stdout, answer->lock);
        if (answer->outcome == DLOCK_YES) {
                (void)printf(": released, token %" PRIu64 "\n", answer->token);
        } else if (!answer->owner) {
                (void)printf(": not released, nobody owns it\n");
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
        json_object_object_add(object, "lock", json_object_new_string(answer->lock));
        json_object_object_add(object, "released", json_object_new_boolean(released));
        json_object_object_add(object, "token", tool_json_token(answer->token));
        json_object_object_add(object, "owner", released ? NULL : tool_json_text(answer->owner));
        tool_put_json(object);
}

static int ask(const struct tool *tool, const char *lock, struct dlock_answer *ret_answer)
{
        return dlock_release_token(tool->dlock, lock, tool->token, ret_answer);
}

/* Of a lock that is held together one client may have several holds. -1: go on; else what to exit with. */
static int choose(struct tool *tool, const char *lock)
{
        struct tool_holds holds;
        struct dlock_answer answer;
        const char *self;
        int code = tool->dlock ? 0 : tool_open(tool);

        if (code)
                return code;
        /* Of several the second is asked about by the same handle. */
        if ((!tool->client && !dlock_get_client(tool->dlock) && dlock_set_client(tool->dlock, NULL) < 0) || dlock_check_consistent(tool->dlock, lock, &answer) < 0)
                return tool_call_failed(tool);
        if (answer.outcome == DLOCK_UNKNOWN)
                return tool_fail(EXIT_UNKNOWN, "who owns the lock is not known%s%s, and nothing was released: %s", *answer.server ? " at " : "", answer.server, answer.reason);
        code = tool_outcome(&answer);
        self = dlock_get_client(tool->dlock);
        if (code > EXIT_NO)
                return code;
        /* Whoever has it otherwise is told by the release. */
        if (code == EXIT_NO || !self || strcmp(answer.owner, self) != 0)
                return -1;
        tool->token = answer.token;
        if (answer.holders < 2)
                return -1;
        code = tool_find_holds(tool, lock, self, &holds);
        if (code == 0 && holds.count > 1)
                return tool_fail(EXIT_USAGE, "%s: you hold it %zu times, as tokens %s: --token TOKEN, of the one that is meant, would be right", lock, holds.count, holds.text);
        return code ? code : -1;
}

static int release(struct tool *tool, const char *lock)
{
        int code = tool->token == 0 ? choose(tool, lock) : -1;

        if (code >= 0)
                return code;
        return tool_ask(tool, lock, &(struct tool_question){ .call = ask, .print = print_answer, .put_json = put_answer });
}

int command_release(struct tool *tool, char **operands)
{
        uint64_t token = tool->token;
        int worst = EXIT_YES;

        for (size_t i = 0; operands[i]; i++) {
                int code;

                tool->token = token;
                code = release(tool, operands[i]);
                if (code > EXIT_NO && operands[1])
                        (void)tool_fail(0, "%s: not known to be released", operands[i]);
                worst = code > worst ? code : worst;
        }
        return worst;
}
