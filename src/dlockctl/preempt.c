#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "tool.h"

/* Nobody has it, but somebody had it within the period. */
static bool is_too_soon(const struct dlock_answer *answer)
{
        return answer->outcome == DLOCK_NO && !answer->owner && answer->token != 0;
}

static void print_answer(const struct tool *tool, const struct dlock_answer *answer)
{
        const char *client = dlock_get_client(tool->dlock);
        char life[96];

        tool_print(stdout, answer->lock);
        if (answer->outcome == DLOCK_YES)
                (void)printf(": granted, token %" PRIu64, answer->token);
        else if (is_too_soon(answer))
                (void)printf(": %s, token %" PRIu64, answer->reason, answer->token);
        else if (answer->owner && client && strcmp(answer->owner, client) == 0)
                (void)printf(": held already by yourself, token %" PRIu64, answer->token);
        else
                (void)printf(": held, token %" PRIu64, answer->token);
        if (answer->owner) {
                (void)printf(", owner ");
                tool_print(stdout, answer->owner);
        }
        (void)printf("%s\n", tool_life(answer, life));
}

static void put_answer(const struct tool *tool, const struct dlock_answer *answer)
{
        struct json_object *object = json_object_new_object();
        bool granted = answer->outcome == DLOCK_YES;

        json_object_object_add(object, "granted", json_object_new_boolean(granted));
        /* Not the holder's: a script that forgets to look at "granted" must not write with it. */
        json_object_object_add(object, "token", tool_json_token(granted ? answer->token : 0));
        json_object_object_add(object, "owner", tool_json_text(answer->owner));
        json_object_object_add(object, "too_soon", json_object_new_boolean(is_too_soon(answer)));
        tool_json_life(object, tool, answer);
        tool_put_json(object);
}

static int ask(const struct tool *tool, const char *lock, struct dlock_answer *ret_answer)
{
        /* This program ends at once: who holds the lock is the one that called it. */
        const struct dlock_request request = { .operation = DLOCK_OP_PREEMPT, .lock = lock, .ttl_ms = tool->ttl_ms, .period_ms = tool->period_ms, .note = tool->note, .pid = (uint32_t)getppid() };

        return dlock_ask(tool->dlock, &request, ret_answer);
}

int command_preempt(struct tool *tool, char **operands)
{
        return tool_ask(tool, operands[0], &(struct tool_question){ .call = ask, .print = print_answer, .put_json = put_answer });
}
