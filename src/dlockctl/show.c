#include <inttypes.h>

#include "tool.h"

/* Of those who wait, so many are shown to a person. */
#define QUEUE_SHOWN 20

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
        char ttl[48], left[48], delay[48];

        if (row->session == 0)
                return;
        if (row->lease)
                (void)printf("  %-8s", "lease");
        else
                (void)printf("  %-8s%" PRIu64 " ", "session", row->session);
        (void)printf("of %s", tool_duration(row->ttl_ms, ttl));
        if (row->expires_ms >= 0)
                (void)printf(", ends in %s%s", tool_duration((uint64_t)row->expires_ms, left), row->broken ? "" : " if it is not renewed");
        if (row->broken)
                (void)printf("; broken: it is renewed no more");
        if (row->lock_delay_ms > 0)
                (void)printf("; lock-delay %s", tool_duration(row->lock_delay_ms, delay));
        (void)printf("\n");
}

static void print_hold(const struct dlock_row *row)
{
        char held[48], since[48];

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
}

/* Of a lock that is held together, before those who do. */
static void print_mode(const struct dlock_row *row)
{
        if (row->slots == DLOCK_SHARED)
                (void)printf("  %-8sshared, by %" PRIu32 "\n", "held", row->holders);
        else
                (void)printf("  %-8sby %" PRIu32 " of %" PRIu32 "\n", "held", row->holders, row->slots);
        if (row->waiting > 0)
                (void)printf("  %-8s%" PRIu32 " behind them\n", "waiting", row->waiting);
}

static void print_page(const struct tool *tool, const struct dlock_answer *answer, bool first)
{
        const struct dlock_row *row = answer->rows;

        if (first && answer->count == 0) {
                tool_print_check(tool, answer);
                return;
        }
        if (first) {
                tool_print(stdout, row->lock);
                (void)printf("\n");
                if (row->slots != 0)
                        print_mode(row);
        }
        for (size_t i = 0; i < answer->count; i++) {
                if (row[i].slots != 0)
                        (void)printf("\n");
                print_hold(&row[i]);
                if (row[i].slots == 0 && row[i].waiting > 0)
                        (void)printf("  %-8s%" PRIu32 " behind it\n", "waiting", row[i].waiting);
        }
}

static void print_end(uint64_t index, int64_t leader_age_ms)
{
        char age[64];

        (void)printf("as of entry %" PRIu64 ", %s\n", index, tool_age(leader_age_ms, age));
}

/* The lock, with the first who holds it. */
static struct json_object *begin_json(const struct dlock_answer *answer)
{
        static const char *const names[] = { "owner", "token", "held_ms", "since_wall_ms", "session", "ttl_ms", "lock_delay_ms", "expires_ms", "lease", "broken", "user", "host", "unit", "pid", "note", "waiting",
                                             "slots" };
        struct json_object *object = json_object_new_object();

        json_object_object_add(object, "lock", json_object_new_string(answer->lock));
        if (answer->count > 0)
                tool_json_row(object, answer->rows);
        for (size_t i = 0; answer->count == 0 && i < sizeof(names) / sizeof(names[0]); i++)
                json_object_object_add(object, names[i], NULL);
        json_object_object_add(object, "holders", json_object_new_array());
        json_object_object_add(object, "free_in_ms", tool_json_token(answer->free_in_ms));
        return object;
}

static void put_page(struct json_object *object, const struct dlock_answer *answer)
{
        struct json_object *holders = json_object_object_get(object, "holders"), *hold;

        for (size_t i = 0; i < answer->count; i++) {
                hold = json_object_new_object();
                tool_json_hold(hold, &answer->rows[i]);
                (void)json_object_array_add(holders, hold);
        }
}

/* "1.  bob, for 3.2 s, shared; uid:1000 on web1: what for" */
static void print_waiter(size_t place, const struct dlock_row *row)
{
        char since[48];

        (void)printf("  %-8s%zu. ", place == 1 ? "queue" : "", place);
        tool_print(stdout, row->owner);
        (void)printf(", for %s", tool_duration(row->held_ms, since));
        if (row->slots == DLOCK_SHARED)
                (void)printf(", shared");
        else if (row->slots != 0)
                (void)printf(", one of %" PRIu32 " slots", row->slots);
        (void)printf("; ");
        tool_print(stdout, row->user);
        if (*row->host) {
                (void)printf(" on ");
                tool_print(stdout, row->host);
        }
        if (*row->note) {
                (void)printf(": ");
                tool_print(stdout, row->note);
        }
        (void)printf("\n");
}

static void put_waiter(struct json_object *queue, const struct dlock_row *row)
{
        struct json_object *object = json_object_new_object();

        json_object_object_add(object, "owner", json_object_new_string(row->owner));
        json_object_object_add(object, "waiter", json_object_new_uint64(row->token));
        json_object_object_add(object, "waiting_ms", json_object_new_uint64(row->held_ms));
        json_object_object_add(object, "since_wall_ms", json_object_new_uint64(row->since_wall_ms));
        json_object_object_add(object, "session", tool_json_token(row->session));
        json_object_object_add(object, "ttl_ms", tool_json_token(row->ttl_ms));
        json_object_object_add(object, "slots", tool_json_slots(true, row->slots));
        json_object_object_add(object, "user", json_object_new_string(row->user));
        json_object_object_add(object, "host", tool_json_text(row->host));
        json_object_object_add(object, "unit", tool_json_text(row->unit));
        json_object_object_add(object, "pid", row->pid ? json_object_new_uint64(row->pid) : NULL);
        json_object_object_add(object, "note", tool_json_text(row->note));
        (void)json_object_array_add(queue, object);
}

/* In turn, as of another moment than the holders: for people the first of them. */
static void show_queue(struct tool *tool, const char *lock, struct json_object *object)
{
        const struct dlock_request request = { .operation = DLOCK_OP_QUEUE, .lock = lock, .consistent = tool->consistent };
        struct dlock_answer answer;
        size_t count;

        if (object)
                json_object_object_add(object, "queue", NULL);
        if (dlock_ask(tool->dlock, &request, &answer) < 0 || (answer.outcome != DLOCK_YES && answer.outcome != DLOCK_NO))
                return;
        if (object) {
                json_object_object_add(object, "queue", json_object_new_array());
                /* Where nobody holds it who could say that. */
                if (!json_object_object_get(object, "waiting") && !answer.more)
                        json_object_object_add(object, "waiting", json_object_new_uint64(answer.count));
        }
        count = object || answer.count <= QUEUE_SHOWN ? answer.count : QUEUE_SHOWN;
        for (size_t i = 0; i < count; i++) {
                if (object)
                        put_waiter(json_object_object_get(object, "queue"), &answer.rows[i]);
                else
                        print_waiter(i + 1, &answer.rows[i]);
        }
        if (!object && count < answer.count)
                (void)printf("  %-8s... and %zu%s more\n", "", answer.count - count, answer.more ? " or" : "");
}

static void end_json(struct json_object *object, uint64_t index, int64_t leader_age_ms)
{
        json_object_object_add(object, "index", json_object_new_uint64(index));
        json_object_object_add(object, "leader_age_ms", tool_json_age(leader_age_ms));
        tool_put_json(json_object_get(object));
}

/* Page after page, each as of its own moment. *object: NULL at first; the caller's. */
static int show_all(struct tool *tool, struct dlock_request *request, struct json_object **object)
{
        struct dlock_answer answer;
        uint64_t index;
        int64_t leader_age_ms;
        int code, first_code = -1;

        do {
                if (dlock_ask(tool->dlock, request, &answer) < 0)
                        return tool_call_failed(tool);
                code = tool_outcome(&answer);
                if (code > EXIT_NO)
                        return code;
                if (tool->json && !*object)
                        *object = begin_json(&answer);
                if (tool->json)
                        put_page(*object, &answer);
                else
                        print_page(tool, &answer, first_code < 0);
                if (first_code < 0)
                        first_code = code;
                if (answer.more)
                        request->after_token = answer.rows[answer.count - 1].token;
        } while (answer.more && !ferror(stdout));
        index = answer.index;
        leader_age_ms = answer.leader_age_ms;
        show_queue(tool, request->lock, *object);
        if (tool->json)
                end_json(*object, index, leader_age_ms);
        else if (first_code == EXIT_YES)
                print_end(index, leader_age_ms);
        return first_code;
}

int command_show(struct tool *tool, char **operands)
{
        struct dlock_request request = { .operation = DLOCK_OP_SHOW, .lock = operands[0], .consistent = tool->consistent };
        struct json_object *object = NULL;
        int code = tool_open(tool);

        if (code == 0)
                code = show_all(tool, &request, &object);
        (void)json_object_put(object);
        return code;
}
