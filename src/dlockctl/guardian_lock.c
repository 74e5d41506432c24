/* guardian_lock.c - what the guardian asks the servers, while its front may go. */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "guardian.h"

/* The answer, while the front may go. -errno: there is none. */
static int ask(struct guardian *guardian, const struct dlock_request *request, struct dlock_answer *ret_answer)
{
        int64_t id = dlock_submit(guardian->dlock, request);

        if (id < 0)
                return (int)id;
        for (;;) {
                struct pollfd ready[] = { { .fd = dlock_get_fd(guardian->dlock), .events = (short)dlock_get_events(guardian->dlock) },
                                          { .fd = guardian->alone ? -1 : guardian->front, .events = POLLIN } };

                (void)dlock_process(guardian->dlock);
                while (dlock_next(guardian->dlock, ret_answer) > 0)
                        if (ret_answer->id == (uint64_t)id)
                                return 0;
                (void)poll(ready, 2, dlock_get_timeout(guardian->dlock));
                guardian_hear_front(guardian);
        }
}

bool guardian_give_back(struct guardian *guardian, uint64_t token, uint32_t timeout_ms, const char **ret_reason)
{
        const struct dlock_request request = { .operation = DLOCK_OP_RELEASE, .lock = guardian->plan->lock, .token = token, .timeout_ms = timeout_ms };
        struct dlock_answer answer;

        if (ask(guardian, &request, &answer) < 0) {
                *ret_reason = dlock_get_error(guardian->dlock);
                return false;
        }
        *ret_reason = answer.reason;
        return answer.outcome == DLOCK_YES || answer.outcome == DLOCK_NO;
}

/* Who has it, as far as a node knows. */
static void tell_holder(struct guardian *guardian)
{
        const struct dlock_request request = { .operation = DLOCK_OP_SHOW, .lock = guardian->plan->lock };
        const struct dlock_row *row;
        struct dlock_answer answer;
        char held[48], process[32] = "";

        if (ask(guardian, &request, &answer) < 0 || answer.outcome != DLOCK_YES || answer.count == 0) {
                guardian_conclude(guardian, RUN_EXIT_HELD, "%s is held by another", guardian->plan->lock);
                return;
        }
        row = answer.rows;
        if (row->pid != 0)
                (void)snprintf(process, sizeof(process), ", process %" PRIu32, row->pid);
        guardian_conclude(guardian, RUN_EXIT_HELD, "%s is held by %s%s%s%s%s%s, for %s%s%s", guardian->plan->lock, *row->user ? row->user : row->owner, *row->host ? " on " : "",
                 row->host, *row->unit ? ", unit " : "", row->unit, process, tool_duration(row->held_ms, held), *row->note ? ": " : "", row->note);
}

/* Nothing is run on a guess; what may have been granted is given back. */
static void be_unsure(struct guardian *guardian, const struct dlock_answer *answer)
{
        char reason[512], duration[48];
        const char *ignored;

        (void)snprintf(reason, sizeof(reason), "%s", answer->reason);
        if (guardian_give_back(guardian, 0, 0, &ignored))
                guardian_conclude(guardian, RUN_EXIT_UNKNOWN, "%s: outcome unknown, nothing was run: %s", guardian->plan->lock, reason);
        else
                guardian_conclude(guardian, RUN_EXIT_UNKNOWN, "%s: outcome unknown, nothing was run: %s; a lease that was granted ends by itself within %s", guardian->plan->lock,
                         reason, tool_duration(guardian->plan->ttl_ms, duration));
}

bool guardian_take_lock(struct guardian *guardian, struct dlock_answer *ret_answer)
{
        const struct run_plan *plan = guardian->plan;
        const struct dlock_request request = { .operation = DLOCK_OP_PREEMPT, .lock = plan->lock, .ttl_ms = plan->ttl_ms, .period_ms = plan->tool->period_ms, .note = plan->tool->note,
                                               .pid = (uint32_t)plan->front };

        if (ask(guardian, &request, ret_answer) < 0) {
                guardian_conclude(guardian, RUN_EXIT_FAILED, "%s", dlock_get_error(guardian->dlock));
                return false;
        }
        switch (ret_answer->outcome) {
        case DLOCK_YES:
                return true;
        case DLOCK_NO:
                if (!ret_answer->owner && ret_answer->token != 0)
                        guardian_conclude(guardian, EXIT_SUCCESS, "%s", "");    /* it ran within the period: nothing to do, and nothing to say */
                else
                        tell_holder(guardian);
                return false;
        case DLOCK_UNKNOWN:
                be_unsure(guardian, ret_answer);
                return false;
        case DLOCK_UNREACHABLE:
                guardian_conclude(guardian, RUN_EXIT_UNREACHABLE, "%s", ret_answer->reason);
                return false;
        case DLOCK_REJECTED:
                guardian_conclude(guardian, RUN_EXIT_FAILED, "%s: refused: %s", plan->lock, ret_answer->reason);
                return false;
        }
        return false;
}
