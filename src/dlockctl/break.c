#include <inttypes.h>
#include <unistd.h>

#include "tool.h"

const char break_details[] =
        "\nOf who holds it now, or under --token only that hold. A lease is renewed no more: its holder is told so, and stops; the lock is free when the lease\n"
        "is over, at the latest. What is held without end is free at once: whoever has it learns that when it gives it back. Only root, and the\n"
        "user that a node runs as, may, through a node on their own host; history tells by whom, and why.\n"
        "  --reason TEXT                why, in up to 255 bytes; needed\n"
        "  --token TOKEN                of the hold that is meant, as show tells it; needed when several hold the lock together\n"
        "  --now                        a lease, or what is held in a session, too, is free at once. Its holder goes on until it notices:\n"
        "                               only when that is certainly dead, or the resource checks tokens\n"
        "--json: broken, token, owner.\n";

static void print_answer(const struct tool *tool, const struct dlock_answer *answer)
{
        tool_print(stdout, answer->lock);
        if (answer->outcome != DLOCK_YES)
                (void)printf(": not broken, %s\n", answer->owner ? "it is held under another token" : "nobody owns it");
        else if (tool->now)
                (void)printf(": free, token %" PRIu64 " was broken\n", answer->token);
        else
                (void)printf(": broken, token %" PRIu64 "; a lease ends in its time, what had none is free\n", answer->token);
}

static void put_answer(const struct tool *tool, const struct dlock_answer *answer)
{
        struct json_object *object = json_object_new_object();
        bool broken = answer->outcome == DLOCK_YES;

        (void)tool;
        json_object_object_add(object, "broken", json_object_new_boolean(broken));
        json_object_object_add(object, "token", tool_json_token(answer->token));
        json_object_object_add(object, "owner", broken ? NULL : tool_json_text(answer->owner));
        tool_put_json(object);
}

static int ask(const struct tool *tool, const char *lock, struct dlock_answer *ret_answer)
{
        const struct dlock_request request = { .operation = DLOCK_OP_BREAK, .lock = lock, .note = tool->reason, .token = tool->token, .now = tool->now,
                                               .pid = (uint32_t)getppid() };

        /* Nobody has it. */
        if (tool->token == 0) {
                *ret_answer = (struct dlock_answer){ .operation = DLOCK_OP_BREAK, .outcome = DLOCK_NO, .lock = lock, .reason = "", .server = "" };
                return 0;
        }
        return dlock_ask(tool->dlock, &request, ret_answer);
}

/* -1: go on; else what to exit with. */
static int choose(struct tool *tool, const char *lock)
{
        struct tool_holds holds;
        int code = tool_open(tool);

        if (code == 0)
                code = tool_find_holds(tool, lock, NULL, &holds);
        if (code)
                return code;
        if (holds.count > 1)
                return tool_fail(EXIT_USAGE, "%s: %zu hold it together, as tokens %s: --token TOKEN, of the one that is meant, would be right", lock, holds.count, holds.text);
        tool->token = holds.first;
        return -1;
}

int command_break(struct tool *tool, char **operands)
{
        int code;

        if (!tool->reason)
                return tool_fail(EXIT_USAGE, "break without a reason: dlockctl break --reason TEXT NAME would be right");
        code = tool->token == 0 ? choose(tool, operands[0]) : -1;
        if (code >= 0)
                return code;
        return tool_ask(tool, operands[0], &(struct tool_question){ .call = ask, .print = print_answer, .put_json = put_answer });
}
