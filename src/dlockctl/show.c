#include <inttypes.h>

#include "tool.h"

static void print_line(const char *title, const char *text)
{
        if (!*text)
                return;
        (void)printf("  %-8s", title);
        tool_print(stdout, text);
        (void)printf("\n");
}

/* As long as what lives: a lease is named like its session. */
static void print_life(const struct dlock_row *row)
{
        char ttl[48], left[48];

        if (row->session == 0)
                return;
        if (row->session == row->token)
                (void)printf("  %-8s", "lease");
        else
                (void)printf("  %-8s%" PRIu64 " ", "session", row->session);
        (void)printf("of %s", tool_duration(row->ttl_ms, ttl));
        if (row->expires_ms >= 0)
                (void)printf(", ends in %s if it is not renewed", tool_duration((uint64_t)row->expires_ms, left));
        (void)printf("\n");
}

static void print_answer(const struct tool *tool, const struct dlock_answer *answer)
{
        const struct dlock_row *row = answer->rows;
        char held[48], since[48], age[64];

        if (!row) {
                tool_print_check(tool, answer);
                return;
        }
        tool_print(stdout, row->lock);
        (void)printf("\n");
        print_line("owner", row->owner);
        (void)printf("  %-8s%" PRIu64 "\n", "token", row->token);
        (void)printf("  %-8s%s, for %s\n", "since", tool_time(row->since_wall_ms, since), tool_duration(row->held_ms, held));
        print_life(row);
        print_line("user", row->user);
        print_line("host", row->host);
        print_line("unit", row->unit);
        if (row->pid != 0)
                (void)printf("  %-8s%" PRIu32 "\n", "process", row->pid);
        print_line("note", row->note);
        (void)printf("as of entry %" PRIu64 ", %s\n", answer->index, tool_age(answer->leader_age_ms, age));
}

static void put_answer(const struct tool *tool, const struct dlock_answer *answer)
{
        static const char *const names[] = { "owner", "token", "held_ms", "since_wall_ms", "session", "ttl_ms", "expires_ms", "user", "host", "unit", "pid", "note" };
        struct json_object *object = json_object_new_object();

        (void)tool;
        json_object_object_add(object, "lock", json_object_new_string(answer->lock));
        if (answer->rows)
                tool_json_row(object, answer->rows);
        for (size_t i = 0; !answer->rows && i < sizeof(names) / sizeof(names[0]); i++)
                json_object_object_add(object, names[i], NULL);
        json_object_object_add(object, "index", json_object_new_uint64(answer->index));
        json_object_object_add(object, "leader_age_ms", tool_json_age(answer->leader_age_ms));
        tool_put_json(object);
}

static int ask(const struct tool *tool, const char *lock, struct dlock_answer *ret_answer)
{
        return dlock_show(tool->dlock, lock, tool->consistent, ret_answer);
}

int command_show(struct tool *tool, char **operands)
{
        return tool_ask(tool, operands[0], &(struct tool_question){ .call = ask, .print = print_answer, .put_json = put_answer });
}
