#include <inttypes.h>
#include <string.h>

#include "tool.h"

void tool_print_check(const struct tool *tool, const struct dlock_answer *answer)
{
        char age[64], words[80], others[32], mode[24];

        (void)tool;
        tool_print(stdout, answer->lock);
        if (answer->owner) {
                (void)printf(": owner ");
                tool_print(stdout, answer->owner);
                (void)printf("%s%s", tool_others(answer->holders, others), tool_mode(answer->slots, mode));
                (void)printf(", token %" PRIu64, answer->token);
        } else {
                (void)printf(": %s", tool_free(answer, words));
        }
        (void)printf(" (as of entry %" PRIu64 ", %s)\n", answer->index, tool_age(answer->leader_age_ms, age));
}

static void put_answer(const struct tool *tool, const struct dlock_answer *answer)
{
        struct json_object *object = json_object_new_object();

        (void)tool;
        json_object_object_add(object, "lock", json_object_new_string(answer->lock));
        json_object_object_add(object, "owner", tool_json_text(answer->owner));
        json_object_object_add(object, "token", tool_json_token(answer->token));
        json_object_object_add(object, "slots", tool_json_slots(answer->owner != NULL, answer->slots));
        json_object_object_add(object, "holders", json_object_new_uint64(answer->owner ? answer->holders : 0));
        json_object_object_add(object, "free_in_ms", tool_json_token(answer->free_in_ms));
        json_object_object_add(object, "index", json_object_new_uint64(answer->index));
        json_object_object_add(object, "leader_age_ms", tool_json_age(answer->leader_age_ms));
        tool_put_json(object);
}

static int ask(const struct tool *tool, const char *lock, struct dlock_answer *ret_answer)
{
        const struct dlock_request request = { .operation = DLOCK_OP_CHECK, .lock = lock, .token = tool->token, .consistent = tool->consistent };

        if (tool->mine && !tool->client && dlock_set_client(tool->dlock, NULL) < 0)
                return -1;
        return dlock_ask(tool->dlock, &request, ret_answer);
}

/* An answer that is too old is none: it never looks like a fresh one. */
static int judge(const struct tool *tool, const struct dlock_answer *answer)
{
        const char *self = tool->mine ? dlock_get_client(tool->dlock) : NULL;
        char age[64];

        if (!tool->consistent && tool->max_age_ms >= 0 && (answer->leader_age_ms < 0 || answer->leader_age_ms > tool->max_age_ms))
                return tool_fail(EXIT_UNKNOWN, "%s: the answer of %s is too old (%s); --consistent, or another --server, would be right", answer->lock,
                                 answer->server, tool_age(answer->leader_age_ms, age));
        if (tool->token != 0 && answer->token != tool->token)
                return EXIT_NO;
        if (tool->mine)
                return self && answer->owner && strcmp(self, answer->owner) == 0 ? EXIT_YES : EXIT_NO;
        return answer->outcome == DLOCK_YES ? EXIT_YES : EXIT_NO;
}

int command_check(struct tool *tool, char **operands)
{
        return tool_ask(tool, operands[0], &(struct tool_question){ .call = ask, .print = tool_print_check, .put_json = put_answer, .judge = judge });
}
