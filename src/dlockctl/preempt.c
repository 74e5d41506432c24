#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "tool.h"

/* For what is only told. */
#define LOOK_MS 2000

/* Nobody has it, but somebody had it within the period. */
static bool is_too_soon(const struct dlock_answer *answer)
{
        return answer->outcome == DLOCK_NO && !answer->owner && answer->token != 0 && answer->free_in_ms == 0;
}

/* Of several locks those that could not be had, as a node told it after the refusal. */
struct refusal {
        const char *lock;
        char owner[DLOCK_CLIENT_MAX + 1];    /* "": nobody, since it is in its lock-delay */
        uint64_t token;
        uint32_t slots, holders, free_in_ms;
};

static struct refusal refusals[DLOCK_LOCKS_MAX];
static size_t refusal_count;

static void print_refusals(const struct tool *tool)
{
        const char *client = dlock_get_client(tool->dlock);
        char mode[24], others[32], words[80];

        for (size_t i = 0; i < refusal_count; i++) {
                const struct refusal *refusal = &refusals[i];

                tool_print(stdout, refusal->lock);
                if (*refusal->owner)
                        (void)printf(": held%s%s, token %" PRIu64 ", owner %s%s\n", tool_mode(refusal->slots, mode), client && strcmp(refusal->owner, client) == 0 ? " already by yourself" : "",
                                     refusal->token, refusal->owner, tool_others(refusal->holders, others));
                else
                        (void)printf(": %s\n", tool_free(&(struct dlock_answer){ .free_in_ms = refusal->free_in_ms }, words));
        }
}

static void put_refusals(struct json_object *object)
{
        struct json_object *held = json_object_new_array();

        for (size_t i = 0; i < refusal_count; i++) {
                struct json_object *one = json_object_new_object();

                json_object_object_add(one, "lock", json_object_new_string(refusals[i].lock));
                json_object_object_add(one, "owner", tool_json_text(refusals[i].owner));
                json_object_object_add(one, "free_in_ms", tool_json_token(refusals[i].free_in_ms));
                json_object_array_add(held, one);
        }
        json_object_object_add(object, "held", held);
}

static void print_answer(const struct tool *tool, const struct dlock_answer *answer)
{
        const char *client = dlock_get_client(tool->dlock);
        char life[96], mode[24], others[32], words[80], label[TOOL_LABEL_SIZE];
        bool of_one = tool->further_count > 0 && answer->outcome == DLOCK_NO && !answer->owner && !answer->timed_out && strncmp(answer->reason, "it is ", 6) == 0;

        /* Who has waited is told first why that is over. */
        if (refusal_count > 0 && tool->wait_ms == 0) {
                print_refusals(tool);
                return;
        }
        tool_print(stdout, tool_label(tool, answer->lock, label));
        if (answer->outcome == DLOCK_YES)
                (void)printf(": granted%s, token %" PRIu64, tool_mode(tool->slots, mode), answer->token);
        else if (is_too_soon(answer))
                (void)printf(": %s, token %" PRIu64, answer->reason, answer->token);
        else if (answer->timed_out && answer->owner)
                (void)printf(": %s, held%s%s, token %" PRIu64, answer->reason, tool_mode(answer->slots, mode), client && strcmp(answer->owner, client) == 0 ? " by yourself" : "", answer->token);
        else if (answer->timed_out && answer->free_in_ms > 0)
                (void)printf(": %s, %s", answer->reason, tool_free(answer, words));
        else if (!answer->owner)
                (void)printf(": %s%s", of_one ? "one of them " : "", answer->reason + (of_one ? 3 : 0));       /* it waited, or it was lost by somebody */
        else if (answer->owner && client && strcmp(answer->owner, client) == 0)
                (void)printf(": held%s already by yourself, token %" PRIu64, tool_mode(answer->slots, mode), answer->token);
        else
                (void)printf(": held%s, token %" PRIu64, tool_mode(answer->slots, mode), answer->token);
        if (answer->owner) {
                (void)printf(", owner ");
                tool_print(stdout, answer->owner);
                (void)printf("%s", tool_others(answer->holders, others));
        }
        (void)printf("%s\n", tool_life(answer, life));
        print_refusals(tool);
}

static void put_answer(const struct tool *tool, const struct dlock_answer *answer)
{
        struct json_object *object = json_object_new_object();
        bool granted = answer->outcome == DLOCK_YES;

        json_object_object_add(object, "granted", json_object_new_boolean(granted));
        /* Not the holder's: a script that forgets to look at "granted" must not write with it. */
        json_object_object_add(object, "token", tool_json_token(granted ? answer->token : 0));
        json_object_object_add(object, "owner", tool_json_text(answer->owner));
        json_object_object_add(object, "slots", granted ? tool_json_slots(true, tool->slots) : tool_json_slots(answer->holders > 0, answer->slots));
        json_object_object_add(object, "holders", tool_json_token(answer->holders));
        json_object_object_add(object, "too_soon", json_object_new_boolean(is_too_soon(answer)));
        json_object_object_add(object, "free_in_ms", tool_json_token(answer->free_in_ms));
        json_object_object_add(object, "timed_out", json_object_new_boolean(answer->timed_out));
        json_object_object_add(object, "reason", granted ? NULL : tool_json_text(answer->reason));
        tool_json_life(object, tool, answer);
        tool_json_locks(object, tool, answer->lock);
        if (tool->further_count > 0 && !granted)
                put_refusals(object);
        tool_put_json(object);
}

/* --- waiting: who is told to stop leaves the queue before it goes --- */

struct stop {
        sigset_t set;
        int signals;                         /* signalfd */
        int number;                          /* of the signal that came; 0: none */
};

static bool hear_stop(struct stop *stop)
{
        struct signalfd_siginfo info;

        if (stop->number != 0 || read(stop->signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
                return false;
        stop->number = (int)info.ssi_signo;
        return true;
}

/* As it would have without the detour. */
static void die_of(struct stop *stop)
{
        (void)kill(getpid(), stop->number);
        (void)sigprocmask(SIG_UNBLOCK, &stop->set, NULL);
}

static int ask_and_wait(const struct tool *tool, const struct dlock_request *request, struct stop *stop, struct dlock_answer *ret_answer)
{
        int64_t id = dlock_submit(tool->dlock, request);

        if (id < 0)
                return (int)id;
        for (;;) {
                /* A second signal changes nothing any more, and is left where it is. */
                struct pollfd ready[] = { { .fd = dlock_get_fd(tool->dlock), .events = POLLIN },
                                          { .fd = stop->number != 0 ? -1 : stop->signals, .events = POLLIN } };

                (void)dlock_process(tool->dlock);
                if (dlock_next(tool->dlock, ret_answer) > 0)
                        return 0;
                (void)poll(ready, 2, dlock_get_timeout(tool->dlock));
                if (hear_stop(stop) && dlock_give_up(tool->dlock, (uint64_t)id) < 0)
                        return 0;            /* never: it is in flight */
        }
}

/* Nobody is there any more to have it. What may be left all the same is said: it may last. */
static void leave_nothing(const struct tool *tool, const struct dlock_request *request, const struct dlock_answer *answer)
{
        uint64_t token = answer->token;
        struct dlock_answer released;
        const char *why, *lock;

        if (answer->outcome == DLOCK_UNKNOWN)
                (void)tool_fail(0, "%s: outcome unknown: %s", request->lock, answer->reason);
        if (answer->outcome != DLOCK_YES)
                return;
        for (size_t i = 0; (lock = tool_lock_of(tool, request->lock, i)); i++) {
                why = dlock_release_token(tool->dlock, lock, token, &released) < 0 ? dlock_get_error(tool->dlock) : released.reason;
                if (*why)
                        (void)tool_fail(0, "%s: granted, token %" PRIu64 ", and perhaps not given back: %s", lock, token, why);
        }
}

static int wait_for(const struct tool *tool, const struct dlock_request *request, struct dlock_answer *ret_answer)
{
        struct stop stop = { .number = 0 };
        int r = stop.signals = tool_catch_signals(&stop.set);

        if (r >= 0)
                r = ask_and_wait(tool, request, &stop, ret_answer);
        if (r == 0 && stop.number != 0)
                leave_nothing(tool, request, ret_answer);
        if (stop.number != 0)
                die_of(&stop);
        if (stop.signals >= 0)
                (void)close(stop.signals);
        return r;
}

/* A refusal names one who holds it: with whom, a node is asked that knows as much. That it is refused does not hang on that. */
static void look_at_holders(const struct tool *tool, const char *lock, struct dlock_answer *answer)
{
        static char owner[DLOCK_CLIENT_MAX + 1];
        const struct dlock_request request = { .operation = DLOCK_OP_CHECK, .lock = lock, .token = answer->token, .timeout_ms = LOOK_MS };
        struct dlock_answer check;

        if (answer->outcome != DLOCK_NO || !answer->owner)
                return;
        (void)snprintf(owner, sizeof(owner), "%s", answer->owner);
        *answer = (struct dlock_answer){ .operation = DLOCK_OP_PREEMPT, .outcome = DLOCK_NO, .lock = lock, .owner = owner, .token = answer->token, .reason = "", .server = "" };
        if (dlock_ask(tool->dlock, &request, &check) < 0 || check.outcome != DLOCK_YES || check.token != answer->token)
                return;
        answer->slots = check.slots;
        answer->holders = check.holders;
}

/* Whoever has waited in vain is told for whom, as far as a node knows now. */
static void look_who_has_it(const struct tool *tool, const char *lock, struct dlock_answer *answer)
{
        const struct dlock_request request = { .operation = DLOCK_OP_CHECK, .lock = lock, .timeout_ms = LOOK_MS };
        static char owner[DLOCK_CLIENT_MAX + 1], reason[512];
        struct dlock_answer check;

        (void)snprintf(reason, sizeof(reason), "%s", answer->reason);
        *answer = (struct dlock_answer){ .operation = DLOCK_OP_PREEMPT, .outcome = DLOCK_NO, .lock = lock, .timed_out = true, .reason = reason, .server = "" };
        if (dlock_ask(tool->dlock, &request, &check) < 0)
                return;
        answer->free_in_ms = check.free_in_ms;
        if (check.outcome != DLOCK_YES)
                return;
        (void)snprintf(owner, sizeof(owner), "%s", check.owner);
        answer->owner = owner;
        answer->token = check.token;
        answer->slots = check.slots;
        answer->holders = check.holders;
}

/* Of several, which are held? Until a node has nothing to say. */
static void look_at_each(const struct tool *tool, const char *first, struct dlock_answer *answer)
{
        struct dlock_request request = { .operation = DLOCK_OP_CHECK, .timeout_ms = LOOK_MS };
        static char owner[DLOCK_CLIENT_MAX + 1], reason[512];
        struct dlock_answer kept = *answer, check;

        (void)snprintf(owner, sizeof(owner), "%s", answer->owner ? answer->owner : "");
        (void)snprintf(reason, sizeof(reason), "%s", answer->reason);
        kept.lock = first;
        kept.owner = *owner ? owner : NULL;
        kept.reason = reason;
        kept.server = "";
        *answer = kept;
        for (size_t i = 0; (request.lock = tool_lock_of(tool, first, i)); i++) {
                struct refusal *refusal = &refusals[refusal_count];

                if (dlock_ask(tool->dlock, &request, &check) < 0 || (check.outcome != DLOCK_YES && check.outcome != DLOCK_NO))
                        return;
                if (check.outcome == DLOCK_NO && check.free_in_ms == 0)
                        continue;
                *refusal = (struct refusal){ .lock = request.lock, .token = check.token, .slots = check.slots, .holders = check.holders, .free_in_ms = check.free_in_ms };
                (void)snprintf(refusal->owner, sizeof(refusal->owner), "%s", check.outcome == DLOCK_YES ? check.owner : "");
                refusal_count++;
        }
}

static int ask(const struct tool *tool, const char *lock, struct dlock_answer *ret_answer)
{
        /* This program ends at once: who holds the lock is the one that called it. */
        const uint32_t lock_delay_ms = tool->ttl_ms ? tool_lock_delay_ms(tool, tool->ttl_ms, 0) : 0;
        const struct dlock_request request = { .operation = DLOCK_OP_PREEMPT, .lock = lock, .ttl_ms = tool->ttl_ms, .lock_delay_ms = lock_delay_ms, .period_ms = tool->period_ms, .wait_ms = tool->wait_ms,
                                               .slots = tool->slots, .further = tool->further, .further_count = tool->further_count, .note = tool->note, .pid = (uint32_t)getppid() };
        int r = tool->wait_ms > 0 ? wait_for(tool, &request, ret_answer) : dlock_ask(tool->dlock, &request, ret_answer);

        if (r >= 0 && tool->further_count > 0 && ret_answer->outcome == DLOCK_NO)
                look_at_each(tool, lock, ret_answer);
        else if (r >= 0 && ret_answer->outcome == DLOCK_NO && ret_answer->timed_out)
                look_who_has_it(tool, lock, ret_answer);
        else if (r >= 0)
                look_at_holders(tool, lock, ret_answer);
        return r;
}

int command_preempt(struct tool *tool, char **operands)
{
        if (tool->lock_delay_ms >= 0 && tool->ttl_ms == 0)
                return tool_fail(EXIT_USAGE, "--lock-delay is of a lease: with --ttl TIME it would be right");
        for (char **further = operands + 1; *further; further++)
                tool_add_lock(tool, *further);
        return tool_ask(tool, operands[0], &(struct tool_question){ .call = ask, .print = print_answer, .put_json = put_answer });
}
