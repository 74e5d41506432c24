#include <inttypes.h>
#include <string.h>

#include "tool.h"

static void print_row(const struct dlock_row *row)
{
        char held[48], since[48];

        tool_print_column(row->lock, 32);
        (void)printf("  ");
        tool_print_column(row->owner, 36);
        (void)printf("  %10" PRIu64 "  %12s  %s\n", row->token, tool_duration(row->held_ms, held), tool_time(row->since_wall_ms, since));
}

void tool_json_row(struct json_object *object, const struct dlock_row *row)
{
        json_object_object_add(object, "lock", json_object_new_string(row->lock));
        json_object_object_add(object, "owner", json_object_new_string(row->owner));
        json_object_object_add(object, "token", json_object_new_uint64(row->token));
        json_object_object_add(object, "held_ms", json_object_new_uint64(row->held_ms));
        json_object_object_add(object, "since_wall_ms", json_object_new_uint64(row->since_wall_ms));
        json_object_object_add(object, "session", tool_json_token(row->session));
        json_object_object_add(object, "ttl_ms", tool_json_token(row->ttl_ms));
        json_object_object_add(object, "expires_ms", tool_json_age(row->expires_ms));
        json_object_object_add(object, "user", json_object_new_string(row->user));
        json_object_object_add(object, "host", tool_json_text(row->host));
        json_object_object_add(object, "unit", tool_json_text(row->unit));
        json_object_object_add(object, "pid", row->pid ? json_object_new_uint64(row->pid) : NULL);
        json_object_object_add(object, "note", tool_json_text(row->note));
}

static void put_row(const struct dlock_row *row)
{
        struct json_object *object = json_object_new_object();

        tool_json_row(object, row);
        tool_put_json(object);
}

int command_list(struct tool *tool, char **operands)
{
        char after[DLOCK_NAME_MAX + 1] = "";
        struct dlock_answer answer;
        bool first = true;
        int code = tool_open(tool);

        if (code)
                return code;
        do {
                if (dlock_list(tool->dlock, operands[0], after, 0, &answer) < 0)
                        return tool_call_failed(tool);
                code = tool_outcome(&answer);
                if (code)
                        return code;
                if (first && answer.count > 0 && !tool->json)
                        (void)printf("%-32s  %-36s  %10s  %12s  %s\n", "LOCK", "OWNER", "TOKEN", "HELD", "SINCE");
                first = false;
                for (size_t i = 0; i < answer.count; i++)
                        if (tool->json)
                                put_row(&answer.rows[i]);
                        else
                                print_row(&answer.rows[i]);
                if (answer.count > 0)
                        (void)snprintf(after, sizeof(after), "%s", answer.rows[answer.count - 1].lock);
        } while (answer.more && !ferror(stdout));
        return EXIT_YES;
}
