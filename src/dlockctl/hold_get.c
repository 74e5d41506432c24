/* hold_get.c - gets the lock, however long that takes, and gives it back. */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "hold.h"
#include "notify.h"

/* When a try was in vain for another reason than that it is held: give or take a fifth, so that not all ask at once. */
#define TRY_MS 1000
/* How often who waits is told, for systemd's status, how it stands. */
#define LOOK_MS 5000
/* For a request that is under way when a signal comes. */
#define LEAVE_MS 2000

static uint64_t next_try_ms(void)
{
        uint32_t number = 0;

        (void)!getrandom(&number, sizeof(number), GRND_NONBLOCK);
        return lease_now_ms() + TRY_MS * 4 / 5 + number % (TRY_MS * 2 / 5);
}

bool hold_give_back(struct hold *hold, uint32_t timeout_ms)
{
        const struct hold_record *record = &hold->record;
        struct dlock_request request;
        struct dlock_answer answer;

        for (size_t i = 0; lease_give_back_request(hold->tool, record->lock, record->token, record->token ? record->session : 0, i, &request); i++) {
                request.timeout_ms = timeout_ms;
                if (dlock_ask(hold->dlock, &request, &answer) < 0 || (answer.outcome != DLOCK_YES && answer.outcome != DLOCK_NO))
                        return false;
        }
        return true;
}

/* Once for each new reason: to systemd, and to people. */
static void tell_of(struct hold *hold, const char *lock, const char *text)
{
        const char *one;
        size_t which = 0;

        while (which < DLOCK_LOCKS_MAX - 1 && (one = tool_lock_of(hold->tool, hold->record.lock, which)) && strcmp(one, lock) != 0)
                which++;
        (void)notify(hold->systemd, "STATUS=waits: %s", text);
        /* Who waits is told how long it is held already, which is no news. */
        if (strncmp(hold->told[which], text, strcspn(text, ",")) == 0 && *hold->told[which])
                return;
        (void)snprintf(hold->told[which], sizeof(hold->told[which]), "%s", text);
        (void)tool_fail(0, "%s", text);
}

static void tell(struct hold *hold, const char *text)
{
        tell_of(hold, hold->record.lock, text);
}

/* Somebody had it, and lost it. */
static void tell_delay(struct hold *hold, const struct dlock_answer *answer)
{
        char text[1024], words[80];

        (void)snprintf(text, sizeof(text), "%s is nobody's yet, %s", answer->lock, tool_free(answer, words));
        tell_of(hold, answer->lock, text);
}

static void tell_shown(struct hold *hold, const struct dlock_answer *answer)
{
        char text[1024];

        if (answer->outcome == DLOCK_NO && answer->free_in_ms > 0)
                tell_delay(hold, answer);
        if (answer->outcome != DLOCK_YES || answer->count == 0)
                return;
        lease_tell_holder(answer->lock, answer->rows, text, sizeof(text));
        tell_of(hold, answer->lock, text);
}

/* -errno, which was said. A signal leaves it LEAVE_MS: -EINTR. */
static int ask(struct hold *hold, const struct dlock_request *request, struct dlock_answer *ret_answer)
{
        struct dlock_request show = { .operation = DLOCK_OP_SHOW };
        int64_t id = dlock_submit(hold->dlock, request);
        uint64_t leave_ms = UINT64_MAX, look_ms = request->wait_ms > 0 ? lease_now_ms() : UINT64_MAX;

        if (id < 0) {
                (void)tool_fail(0, "%s", dlock_get_error(hold->dlock));
                return (int)id;
        }
        for (;;) {
                (void)dlock_process(hold->dlock);
                while (dlock_next(hold->dlock, ret_answer) > 0) {
                        if (ret_answer->id == (uint64_t)id)
                                return 0;
                        if (request->wait_ms > 0 && ret_answer->operation == DLOCK_OP_SHOW)
                                tell_shown(hold, ret_answer);
                }
                if (hold->stopped_by && leave_ms == UINT64_MAX) {
                        leave_ms = lease_now_ms() + LEAVE_MS;
                        look_ms = UINT64_MAX;
                        (void)dlock_give_up(hold->dlock, (uint64_t)id);
                }
                if (lease_now_ms() >= leave_ms)
                        return -EINTR;
                if (lease_now_ms() >= look_ms) {
                        look_ms = lease_now_ms() + LOOK_MS;
                        for (size_t i = 0; (show.lock = tool_lock_of(hold->tool, hold->record.lock, i)); i++)
                                (void)dlock_submit(hold->dlock, &show);
                        (void)dlock_process(hold->dlock);
                }
                hold_wait(hold, look_ms < leave_ms ? look_ms : leave_ms);
        }
}

static void tell_holder(struct hold *hold)
{
        struct dlock_request request = { .operation = DLOCK_OP_SHOW };
        struct dlock_answer answer;

        for (size_t i = 0; (request.lock = tool_lock_of(hold->tool, hold->record.lock, i)); i++)
                if (!hold->stopped_by && ask(hold, &request, &answer) == 0)
                        tell_shown(hold, &answer);
}

static void tell_refusal(struct hold *hold, const struct dlock_answer *answer)
{
        char text[1024];

        (void)snprintf(text, sizeof(text), "%.500s: %.500s", hold->label, answer->reason);
        if (!answer->owner && answer->free_in_ms == 0 && !answer->timed_out && *answer->reason)
                tell(hold, text);
        tell_holder(hold);
}

/* What to exit with, if it is not to be waited for. */
static int take_no(struct hold *hold, const struct dlock_answer *answer)
{
        const char *client = dlock_get_client(hold->dlock);
        int held = answer->timed_out ? LEASE_EXIT_TIMED_OUT : LEASE_EXIT_HELD;
        char text[1024];

        switch (answer->outcome) {
        case DLOCK_YES:
        case DLOCK_NO:
        case DLOCK_REENTERED:
                if (answer->owner && client && strcmp(answer->owner, client) == 0)
                        (void)hold_give_back(hold, LEAVE_MS);          /* of a request that was not known to be granted */
                else if (answer->free_in_ms > 0 && hold->tool->further_count == 0)
                        tell_delay(hold, answer);
                else
                        tell_refusal(hold, answer);
                return held;
        case DLOCK_UNKNOWN:
                (void)snprintf(text, sizeof(text), "%s: outcome unknown: %s", hold->record.lock, answer->reason);
                (void)hold_give_back(hold, LEAVE_MS);
                tell(hold, text);
                return LEASE_EXIT_UNKNOWN;
        case DLOCK_UNREACHABLE:
                tell(hold, answer->reason);
                return LEASE_EXIT_UNREACHABLE;
        case DLOCK_REJECTED:
                (void)snprintf(text, sizeof(text), "%s: refused: %s", hold->record.lock, answer->reason);
                tell(hold, text);
                return LEASE_EXIT_FAILED;
        }
        return LEASE_EXIT_FAILED;
}

/* -1: granted, and renewed from now on. */
static int take(struct hold *hold, const struct dlock_answer *answer)
{
        hold->record.token = answer->token;
        hold->record.session = hold->tool->further_count > 0 ? answer->session : 0;
        if (dlock_hold_new(&hold->hold, hold->dlock, answer, hold->times.grace_ms + hold->times.margin_ms, NULL, NULL) < 0) {
                (void)tool_fail(0, "%s", dlock_get_error(hold->dlock));
                (void)hold_give_back(hold, LEAVE_MS);
                return LEASE_EXIT_FAILED;
        }
        hold->record.deadline_ms = dlock_hold_get_deadline(hold->hold);
        hold->record.margin_ms = hold->times.margin_ms;
        if (!hold->stopped_by && dlock_hold_get_state(hold->hold) != DLOCK_LOST && hold_write_record(hold))
                return -1;
        hold->hold = dlock_hold_free(hold->hold);
        (void)hold_give_back(hold, LEAVE_MS);
        hold_remove_record();
        hold->record.token = 0;
        return LEASE_EXIT_UNKNOWN;
}

/* One try, which stands in the queue of the lock until then. -1: it is held. */
static int try_once(struct hold *hold, uint64_t end_ms)
{
        uint64_t now_ms = lease_now_ms(), wait_ms = end_ms == UINT64_MAX ? DLOCK_WAIT_FOREVER : end_ms > now_ms ? end_ms - now_ms : 0;
        const struct dlock_request request = { .operation = DLOCK_OP_PREEMPT, .lock = hold->record.lock, .ttl_ms = hold->times.ttl_ms, .lock_delay_ms = hold->times.lock_delay_ms, .slots = hold->tool->slots,
                                               .further = hold->tool->further, .further_count = hold->tool->further_count,
                                               .note = hold->tool->note, .wait_ms = wait_ms };
        struct dlock_answer answer;
        int r;

        if (!bound_look(&hold->bound)) {
                tell(hold, hold->bound.problem);
                return LEASE_EXIT_FAILED;
        }
        r = ask(hold, &request, &answer);
        if (r == -EINTR)
                (void)hold_give_back(hold, LEAVE_MS);
        hold->hopeless = r < 0 && r != -EINTR;
        if (r < 0)
                return LEASE_EXIT_FAILED;
        if (answer.outcome == DLOCK_YES)
                return take(hold, &answer);
        return take_no(hold, &answer);
}

int hold_get(struct hold *hold)
{
        const struct tool *tool = hold->tool;
        uint64_t end_ms = tool->tries ? 0 : tool->wait_ms == 0 || tool->wait_ms == DLOCK_WAIT_FOREVER ? UINT64_MAX : lease_now_ms() + tool->wait_ms;
        int code;

        for (;;) {
                uint64_t next_ms = next_try_ms();

                code = try_once(hold, end_ms);
                if (code < 0 || hold->hopeless)
                        return code;
                if (next_ms >= end_ms)
                        next_ms = end_ms;
                while (!hold->stopped_by && lease_now_ms() < next_ms)
                        hold_wait(hold, next_ms);
                if (hold->stopped_by)
                        return 128 + hold->stopped_by;
                if (lease_now_ms() >= end_ms)
                        return code;
        }
}
