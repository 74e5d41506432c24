#include <inttypes.h>
#include <string.h>

#include "tool.h"

/* Its token is the session's id, then. */
static bool is_of_session(const struct dlock_event *event)
{
        return strcmp(event->kind, "open") == 0 || ((strcmp(event->kind, "close") == 0 || strcmp(event->kind, "expire") == 0) && !*event->lock);
}

/* Its detail is more of what becomes of that lock: what else was wanted with it, or by whom it was broken and why. */
static bool is_of_lock(const struct dlock_event *event)
{
        return *event->lock && *event->detail;
}

static void print_event(const struct dlock_event *event)
{
        char when[48];

        (void)printf("%10" PRIu64 "  %s  ", event->index, tool_time(event->wall_ms, when));
        if (!*event->lock && !*event->client && !*event->detail) {
                tool_print(stdout, event->kind);
        } else if (*event->detail && !is_of_lock(event)) {
                tool_print_column(event->kind, 13);
                (void)printf("  ");
                tool_print(stdout, event->detail);
        } else {
                tool_print_column(event->kind, 13);
                (void)printf("  ");
                tool_print_column(event->lock, *event->client ? 32 : 0);
        }
        if (*event->client) {
                (void)printf("  ");
                tool_print(stdout, event->client);
        }
        if (event->token)
                (void)printf("  %s %" PRIu64, is_of_session(event) ? "session" : "token", event->token);
        if (is_of_lock(event)) {
                (void)printf("  ");
                tool_print(stdout, event->detail);
        }
        (void)printf("\n");
}

static void put_event(const struct dlock_event *event)
{
        struct json_object *object = json_object_new_object();

        json_object_object_add(object, "index", json_object_new_uint64(event->index));
        json_object_object_add(object, "term", json_object_new_uint64(event->term));
        json_object_object_add(object, "kind", json_object_new_string(event->kind));
        json_object_object_add(object, "lock", tool_json_text(event->lock));
        json_object_object_add(object, "client", tool_json_text(event->client));
        json_object_object_add(object, "token", tool_json_token(event->token));
        json_object_object_add(object, "detail", tool_json_text(event->detail));
        json_object_object_add(object, "cluster_ms", json_object_new_uint64(event->cluster_ms));
        json_object_object_add(object, "wall_ms", json_object_new_uint64(event->wall_ms));
        tool_put_json(object);
}

int command_history(struct tool *tool, char **operands)
{
        struct dlock_answer answer;
        uint64_t after = 0;
        bool first = true;
        int code = tool_open(tool);

        if (code)
                return code;
        do {
                if (dlock_history(tool->dlock, operands[0], after, 0, &answer) < 0)
                        return tool_call_failed(tool);
                code = tool_outcome(&answer);
                if (code)
                        return code;
                if (first && answer.log_first > 1 && !tool->json)
                        (void)printf("(entries before %" PRIu64 " are not kept any more)\n", answer.log_first);
                first = false;
                for (size_t i = 0; i < answer.count; i++)
                        if (tool->json)
                                put_event(&answer.events[i]);
                        else
                                print_event(&answer.events[i]);
                after = answer.next_after;
        } while (answer.more && !ferror(stdout));
        return EXIT_YES;
}
