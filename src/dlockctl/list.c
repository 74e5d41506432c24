#include <inttypes.h>
#include <string.h>

#include "tool.h"

/* By one alone, by 4 who share it, by 2 of 3 at most. */
static const char *how_held(const struct dlock_row *row, char buffer[32])
{
        if (row->slots == DLOCK_SHARED)
                (void)snprintf(buffer, 32, "%" PRIu32 " shared", row->holders);
        else if (row->slots > 1)
                (void)snprintf(buffer, 32, "%" PRIu32 " of %" PRIu32, row->holders, row->slots);
        else
                (void)strcpy(buffer, "1");
        return buffer;
}

/* What it lives in: a lease has no other id than its token. */
static void print_life(const struct dlock_row *row)
{
        char session[24] = "-", ttl[48] = "-", left[48] = "-", holders[32];

        if (row->lease)
                (void)strcpy(session, "lease");
        else if (row->session != 0)
                (void)snprintf(session, sizeof(session), "%" PRIu64, row->session);
        if (row->session != 0)
                (void)tool_duration(row->ttl_ms, ttl);
        if (row->session != 0 && row->expires_ms >= 0)
                (void)tool_duration((uint64_t)row->expires_ms, left);
        (void)printf("  %10s  %12s  %12s  %7" PRIu32 "  %12s\n", session, ttl, left, row->waiting, how_held(row, holders));
}

static void print_row(const struct dlock_row *row)
{
        char held[48], since[48];

        tool_print_column(row->lock, 32);
        (void)printf("  ");
        tool_print_column(row->owner, 36);
        (void)printf("  %10" PRIu64 "  %12s  %-19s", row->token, tool_duration(row->held_ms, held), tool_time(row->since_wall_ms, since));
        print_life(row);
}

void tool_json_hold(struct json_object *object, const struct dlock_row *row)
{
        json_object_object_add(object, "owner", json_object_new_string(row->owner));
        json_object_object_add(object, "token", json_object_new_uint64(row->token));
        json_object_object_add(object, "held_ms", json_object_new_uint64(row->held_ms));
        json_object_object_add(object, "since_wall_ms", json_object_new_uint64(row->since_wall_ms));
        json_object_object_add(object, "session", tool_json_token(row->session));
        json_object_object_add(object, "ttl_ms", tool_json_token(row->ttl_ms));
        json_object_object_add(object, "lock_delay_ms", tool_json_token(row->lock_delay_ms));
        json_object_object_add(object, "expires_ms", tool_json_age(row->expires_ms));
        json_object_object_add(object, "lease", json_object_new_boolean(row->lease));
        json_object_object_add(object, "broken", json_object_new_boolean(row->broken));
        json_object_object_add(object, "user", json_object_new_string(row->user));
        json_object_object_add(object, "host", tool_json_text(row->host));
        json_object_object_add(object, "unit", tool_json_text(row->unit));
        json_object_object_add(object, "pid", row->pid ? json_object_new_uint64(row->pid) : NULL);
        json_object_object_add(object, "note", tool_json_text(row->note));
}

void tool_json_row(struct json_object *object, const struct dlock_row *row)
{
        json_object_object_add(object, "lock", json_object_new_string(row->lock));
        tool_json_hold(object, row);
        json_object_object_add(object, "waiting", json_object_new_uint64(row->waiting));
        json_object_object_add(object, "slots", tool_json_slots(true, row->slots));
        json_object_object_add(object, "holders", json_object_new_uint64(row->holders));
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
        struct dlock_request request = { .operation = DLOCK_OP_LIST, .lock = operands[0], .after = after };
        struct dlock_answer answer;
        bool first = true;
        int code = tool_open(tool);

        if (code)
                return code;
        do {
                if (dlock_ask(tool->dlock, &request, &answer) < 0)
                        return tool_call_failed(tool);
                code = tool_outcome(&answer);
                if (code)
                        return code;
                if (first && answer.count > 0 && !tool->json)
                        (void)printf("%-32s  %-36s  %10s  %12s  %-19s  %10s  %12s  %12s  %7s  %12s\n", "LOCK", "OWNER", "TOKEN", "HELD", "SINCE", "SESSION", "TTL", "LEFT", "WAITING", "HOLDERS");
                first = false;
                for (size_t i = 0; i < answer.count; i++)
                        if (tool->json)
                                put_row(&answer.rows[i]);
                        else
                                print_row(&answer.rows[i]);
                if (answer.count > 0) {
                        (void)snprintf(after, sizeof(after), "%s", answer.rows[answer.count - 1].lock);
                        request.after_token = answer.rows[answer.count - 1].token;
                }
        } while (answer.more && !ferror(stdout));
        return EXIT_YES;
}
