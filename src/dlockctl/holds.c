/* holds.c - of several holds of one lock, which is meant? */
#include <inttypes.h>
#include <string.h>

#include "tool.h"

#define NAMED_MAX 16

static void add_to_text(struct tool_holds *holds, const struct dlock_row *row, bool with_name)
{
        size_t used = strlen(holds->text);
        const char *on = *row->host ? " on " : "";

        if (with_name)
                (void)snprintf(holds->text + used, sizeof(holds->text) - used, "%s%" PRIu64 " of %.40s%s%.40s", used ? ", " : "", row->token, row->user, on, row->host);
        else
                (void)snprintf(holds->text + used, sizeof(holds->text) - used, "%s%" PRIu64, used ? ", " : "", row->token);
}

static void add_page(struct tool_holds *holds, const struct dlock_answer *answer, const char *client)
{
        for (size_t i = 0; i < answer->count; i++) {
                const struct dlock_row *row = &answer->rows[i];

                if (client && strcmp(row->owner, client) != 0)
                        continue;
                if (holds->count == 0)
                        holds->first = row->token;
                if (holds->count < NAMED_MAX / (client ? 1 : 2))
                        add_to_text(holds, row, !client);
                else if (!strstr(holds->text, " ..."))
                        (void)strncat(holds->text, " ...", sizeof(holds->text) - strlen(holds->text) - 1);
                holds->count++;
        }
}

int tool_find_holds(const struct tool *tool, const char *lock, const char *client, struct tool_holds *ret_holds)
{
        struct dlock_request request = { .operation = DLOCK_OP_SHOW, .lock = lock, .consistent = 1 };
        struct dlock_answer answer;
        int code;

        *ret_holds = (struct tool_holds){ .count = 0 };
        do {
                if (dlock_ask(tool->dlock, &request, &answer) < 0)
                        return tool_call_failed(tool);
                code = tool_outcome(&answer);
                if (code > EXIT_NO)
                        return code;
                add_page(ret_holds, &answer, client);
                if (answer.count > 0)
                        request.after_token = answer.rows[answer.count - 1].token;
        } while (answer.more);
        return 0;
}
