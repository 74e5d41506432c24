/* observe.c - who leads, where leading is holding a lock, and the note tells where. */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "follow.h"

/* The most that the library waits at once. */
#define PIECE_MS 3600000

const char observe_details[] =
        "\nWhoever holds the lock NAME leads, and may leave an address in its note, as run --note does. Who that is is printed now and at every change;\n"
        "it may be late, and proves nothing about now: what is done on behalf of a leader is guarded by its token. While several hold the lock together,\n"
        "with --shared or --slots, nobody leads.\n"
        "  --once                       only who leads now; while nobody does, wait, for as long as --for says\n"
        "  --note                       print notes only; an empty line while nobody leads\n"
        "  --consistent                 with --once: as of check\n"
        "  --count N                    end after so many lines\n"
        "  --for TIME                   end after so long\n"
        "  --after INDEX                nothing of what was before, as of watch\n"
        "With --once: 0 when somebody leads; 1 when nobody did in that time, or has left no note for --note; 3 or 4 when no server could tell for as\n"
        "long as --for says, else --timeout. Without it as of watch. --json: as of watch, and once more for \"complete\": that nobody leads.\n";

struct observer {
        uint64_t token;                      /* of who leads, as far as was told; 0: nobody */
        bool known;                          /* that was told */
        bool listed;                         /* a moment ago */
};

static void print_leader(const char *lock, const char *owner, const char *host, const char *note, uint64_t token)
{
        tool_print(stdout, lock);
        (void)printf(" is led by ");
        tool_print(stdout, owner);
        if (*host) {
                (void)printf(" on ");
                tool_print(stdout, host);
        }
        (void)printf(", token %" PRIu64, token);
        if (*note) {
                (void)printf(": ");
                tool_print(stdout, note);
        }
        (void)printf("\n");
}

static void print_note(const char *note)
{
        tool_print(stdout, note);
        (void)printf("\n");
}

static void print_nobody(const struct tool *tool, const struct dlock_change *change)
{
        if (tool->note_only) {
                print_note("");
                return;
        }
        tool_print(stdout, tool->observed);
        (void)printf(" has no leader%s%s\n", change->kind < DLOCK_CHANGE_LISTED ? ": " : "", change->kind < DLOCK_CHANGE_LISTED ? dlock_change_name(change->kind) : "");
}

static void put_json(const struct tool *tool, const struct dlock_change *change)
{
        struct dlock_change named = *change;

        named.lock = tool->observed;
        follow_put_json(&named);
}

/* A list has nobody, or one who may be known already; that it is complete says something only when nobody was in it. */
static bool is_news(struct observer *observer, const struct dlock_change *change)
{
        struct observer before = *observer;

        /* Who holds it together with others does not lead; the leader before was told to have ended, or is missing in the list. */
        if (change->slots != 0)
                return false;
        observer->listed = change->kind == DLOCK_CHANGE_LISTED;
        if (change->kind == DLOCK_CHANGE_ANEW || (change->kind == DLOCK_CHANGE_COMPLETE && before.listed))
                return false;
        observer->token = observer->listed || change->kind == DLOCK_CHANGE_GRANTED ? change->token : 0;
        observer->known = true;
        return !before.known || observer->token != before.token;
}

static bool tell(const struct tool *tool, const struct dlock_change *change, void *state)
{
        struct observer *observer = state;
        bool leads = change->kind == DLOCK_CHANGE_GRANTED || change->kind == DLOCK_CHANGE_LISTED;

        if (!is_news(observer, change))
                return false;
        if (tool->json)
                put_json(tool, change);
        else if (!leads)
                print_nobody(tool, change);
        else if (tool->note_only)
                print_note(change->note);
        else
                print_leader(change->lock, change->owner, change->host, change->note, change->token);
        return true;
}

/* --- once --- */

static uint64_t now_ms(void)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_BOOTTIME, &now);
        return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Who leads; in pieces, as far as the library waits at once. Without an end it is for --timeout that nobody may be able to tell. */
static int wait_for_leader(struct tool *tool, struct dlock_answer *ret_answer)
{
        uint32_t patience = tool->timeout_ms ? tool->timeout_ms : DLOCK_TIMEOUT_DEFAULT;
        uint64_t until = tool->for_ms >= 0 ? now_ms() + (uint64_t)tool->for_ms : UINT64_MAX, now;

        do {
                now = now_ms();
                if (until != UINT64_MAX)
                        patience = until <= now ? 1 : until - now < PIECE_MS ? (uint32_t)(until - now) : PIECE_MS;
                if (dlock_observe(tool->dlock, tool->observed, tool->consistent, patience, ret_answer) < 0)
                        return tool_call_failed(tool);
        } while (ret_answer->outcome == DLOCK_NO && now_ms() + 200 < until);
        return tool_outcome(ret_answer);
}

static int print_once(const struct tool *tool, const struct dlock_row *row)
{
        struct json_object *object;

        if (tool->note_only && !*row->note)
                return tool_fail(EXIT_NO, "%s is led by %s, who has left no note; run --note would be right", row->lock, row->owner);
        if (tool->json) {
                object = json_object_new_object();
                tool_json_row(object, row);
                tool_put_json(object);
        } else if (tool->note_only) {
                print_note(row->note);
        } else {
                print_leader(row->lock, row->owner, row->host, row->note, row->token);
        }
        return EXIT_YES;
}

static int observe_once(struct tool *tool)
{
        struct dlock_answer answer;
        int code = tool_open(tool);

        if (code)
                return code;
        code = wait_for_leader(tool, &answer);
        if (code == EXIT_NO)
                return tool_fail(EXIT_NO, "nobody leads %s", tool->observed);
        return code ? code : print_once(tool, answer.rows);
}

int command_observe(struct tool *tool, char **operands)
{
        struct observer observer = { .token = 0 };

        tool->observed = operands[0];
        if (tool->once && (tool->count > 0 || tool->after_index > 0))
                return tool_fail(EXIT_USAGE, "--once is one answer, as of now: --count and --after are for observe without it");
        if (!tool->once && tool->consistent)
                return tool_fail(EXIT_USAGE, "--consistent is for observe --once");
        return tool->once ? observe_once(tool) : follow(tool, operands[0], true, tell, &observer);
}
