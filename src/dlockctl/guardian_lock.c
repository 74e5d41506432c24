/* guardian_lock.c - what the guardian asks the servers, while its front may go. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guardian.h"

/* For what is only told. */
#define LOOK_MS 2000
/* For giving back, once a signal has told it to end. */
#define HURRY_MS 1000

/* The answer, while the front may go. -errno: there is none. */
static int ask(struct guardian *guardian, const struct dlock_request *request, struct dlock_answer *ret_answer)
{
        int64_t id = dlock_submit(guardian->dlock, request);
        uint64_t hurry_until = UINT64_MAX;
        bool given_up = false;

        if (id < 0)
                return (int)id;
        for (;;) {
                struct pollfd ready[] = { { .fd = dlock_get_fd(guardian->dlock), .events = (short)dlock_get_events(guardian->dlock) },
                                          { .fd = guardian->alone ? -1 : guardian->front, .events = POLLIN } };

                (void)dlock_process(guardian->dlock);
                while (dlock_next(guardian->dlock, ret_answer) > 0)
                        if (ret_answer->id == (uint64_t)id)
                                return 0;
                if (lease_now_ms() >= hurry_until)
                        return -ECANCELED;
                (void)poll(ready, 2, hurry_until == UINT64_MAX ? dlock_get_timeout(guardian->dlock) : HURRY_MS / 10);
                guardian_hear_front(guardian);
                if (guardian->gives_back && guardian->told_to_end && hurry_until == UINT64_MAX)
                        hurry_until = lease_now_ms() + HURRY_MS;
                /* Nobody is there to run anything for: it leaves the queue, now and not when it dies. */
                if (guardian->alone && request->wait_ms > 0 && !given_up)
                        given_up = dlock_give_up(guardian->dlock, (uint64_t)id) == 0;
        }
}

bool guardian_give_back(struct guardian *guardian, uint64_t token, uint32_t timeout_ms, const char **ret_reason)
{
        const struct run_plan *plan = guardian->plan;
        uint64_t session = token != 0 ? atomic_load(&plan->shared->session) : 0;
        struct dlock_request request;
        struct dlock_answer answer;

        for (size_t i = 0; lease_give_back_request(plan->tool, plan->lock, token, session, i, &request); i++) {
                int r;

                request.timeout_ms = timeout_ms;
                r = ask(guardian, &request, &answer);
                if (r < 0) {
                        *ret_reason = r == -ECANCELED ? "it was told to end, and no server answered" : dlock_get_error(guardian->dlock);
                        return false;
                }
                *ret_reason = answer.reason;
                if (answer.outcome != DLOCK_YES && answer.outcome != DLOCK_NO)
                        return false;
        }
        return true;
}

/* Who has it, as far as a node knows; or that nobody gets it yet. */
static void tell_holder(struct guardian *guardian)
{
        const struct dlock_request request = { .operation = DLOCK_OP_SHOW, .lock = guardian->plan->lock };
        struct dlock_answer answer;
        char text[1024], words[80];
        bool told = ask(guardian, &request, &answer) == 0;

        if (told && answer.outcome == DLOCK_NO && answer.free_in_ms > 0)
                (void)snprintf(text, sizeof(text), "%s is %s", guardian->plan->lock, tool_free(&answer, words));
        else
                lease_tell_holder(guardian->plan->lock, told && answer.outcome == DLOCK_YES && answer.count > 0 ? answer.rows : NULL, text, sizeof(text));
        guardian_conclude(guardian, LEASE_EXIT_HELD, "%s", text);
}

/* Of several, which could not be had, and why; reason: in general. */
static void tell_holders(struct guardian *guardian, const char *reason)
{
        struct dlock_request request = { .operation = DLOCK_OP_SHOW, .timeout_ms = LOOK_MS };
        char text[1024] = "", words[80];
        struct dlock_answer answer;
        size_t used = 0;

        for (size_t i = 0; (request.lock = tool_lock_of(guardian->plan->tool, guardian->plan->lock, i)) && used + 2 < sizeof(text); i++) {
                char *end = text + used + (used > 0 ? 2 : 0);
                size_t room = sizeof(text) - (size_t)(end - text);

                if (ask(guardian, &request, &answer) < 0 || (answer.outcome != DLOCK_YES && answer.outcome != DLOCK_NO))
                        break;
                if (answer.outcome == DLOCK_YES && answer.count > 0)
                        lease_tell_holder(request.lock, answer.rows, end, room);
                else if (answer.free_in_ms > 0)
                        (void)snprintf(end, room, "%s is %s", request.lock, tool_free(&answer, words));
                else
                        continue;
                if (used > 0)
                        (void)memcpy(text + used, "; ", 2);
                used = strlen(text);
        }
        if (used == 0)
                (void)snprintf(text, sizeof(text), "%s: %s", guardian->plan->label, *reason ? reason : "one of them was held by another");
        guardian_conclude(guardian, LEASE_EXIT_HELD, "%s", text);
}

/* Who has it, or one of them. */
static void tell_refusal(struct guardian *guardian, const char *reason)
{
        if (guardian->plan->tool->further_count > 0)
                tell_holders(guardian, reason);
        else
                tell_holder(guardian);
}

static void tell_why_not(struct guardian *guardian, const struct dlock_answer *answer)
{
        char reason[512];

        (void)snprintf(reason, sizeof(reason), "%s", answer->reason);
        if (answer->timed_out) {
                tell_refusal(guardian, reason);
                guardian->report.code = LEASE_EXIT_TIMED_OUT;
        } else if (answer->owner) {
                tell_refusal(guardian, "");
        } else if (guardian->plan->tool->wait_ms == 0) {
                /* Somebody waits for it, and for others together. */
                guardian_conclude(guardian, LEASE_EXIT_HELD, "%s: %s%s", guardian->plan->label, guardian->plan->tool->further_count > 0 ? "of one of them: " : "", reason);
        } else {
                guardian_conclude(guardian, LEASE_EXIT_UNKNOWN, "%s: nothing was run: %s", guardian->plan->label, reason);
        }
}

/* Nothing is run on a guess; what may have been granted is given back. */
static void be_unsure(struct guardian *guardian, const struct dlock_answer *answer)
{
        char reason[512], duration[48];
        const char *ignored;

        (void)snprintf(reason, sizeof(reason), "%s", answer->reason);
        if (guardian_give_back(guardian, 0, 0, &ignored))
                guardian_conclude(guardian, LEASE_EXIT_UNKNOWN, "%s: outcome unknown, nothing was run: %s", guardian->plan->label, reason);
        else
                guardian_conclude(guardian, LEASE_EXIT_UNKNOWN, "%s: outcome unknown, nothing was run: %s; a lease that was granted ends by itself within %s", guardian->plan->label,
                         reason, tool_duration(guardian->plan->times.ttl_ms, duration));
}

bool guardian_take_lock(struct guardian *guardian, struct dlock_answer *ret_answer)
{
        const struct run_plan *plan = guardian->plan;
        const struct dlock_request request = { .operation = DLOCK_OP_PREEMPT, .lock = plan->lock, .ttl_ms = plan->times.ttl_ms, .lock_delay_ms = plan->times.lock_delay_ms, .period_ms = plan->tool->period_ms,
                                               .wait_ms = plan->tool->wait_ms, .slots = plan->tool->slots, .further = plan->tool->further, .further_count = plan->tool->further_count, .note = plan->tool->note, .pid = (uint32_t)plan->front };

        if (ask(guardian, &request, ret_answer) < 0) {
                guardian_conclude(guardian, LEASE_EXIT_FAILED, "%s", dlock_get_error(guardian->dlock));
                return false;
        }
        switch (ret_answer->outcome) {
        case DLOCK_YES:
                return true;
        case DLOCK_NO:
                if (ret_answer->free_in_ms > 0 && plan->tool->further_count > 0)
                        tell_holders(guardian, "one of them is in its lock-delay");
                else if (ret_answer->free_in_ms > 0)
                        guardian_conclude(guardian, LEASE_EXIT_HELD, "%s is %s", plan->lock, ret_answer->reason);
                else if (!ret_answer->owner && ret_answer->token != 0)
                        guardian_conclude(guardian, EXIT_SUCCESS, "%s", "");    /* it ran within the period: nothing to do, and nothing to say */
                else
                        tell_why_not(guardian, ret_answer);
                return false;
        case DLOCK_UNKNOWN:
                be_unsure(guardian, ret_answer);
                return false;
        case DLOCK_UNREACHABLE:
                guardian_conclude(guardian, LEASE_EXIT_UNREACHABLE, "%s", ret_answer->reason);
                return false;
        case DLOCK_REJECTED:
        case DLOCK_REENTERED:                /* never to a lease */
                guardian_conclude(guardian, LEASE_EXIT_FAILED, "%s: refused: %s", plan->label, ret_answer->reason);
                return false;
        }
        return false;
}
