/* wait.c - who waits in the queue of a lock, from the node's word that it does to the answer.
 *
 * The wait is a record of the cluster, in a session or in a lease of its own, and hangs on no connection. So all there is to do here is to
 * keep the lease alive, to ask a node how it stands - which is answered when there is news, or after a while - and to say at the end
 * what becomes of it:
 *
 *   granted          the answer is yes, with the lease; or, when no lease was asked for, after the hold is made one that lasts
 *   out of patience, given up, in vain (once in a period), or too late to count on the lease
 *                    the waiter is given up by its id, whatever has become of it by then: it has the lock neither way
 *
 * The request that the user made is on no list meanwhile; what is asked for it are requests of their own. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "libdlock/internal.h"

/* Patience of one question. */
#define ASK_MS 20000
/* From one question to the next, at the least. */
#define AGAIN_MS 500

enum wait_state { ASKING, LEAVING, KEEPING, ENDED };

struct waiting {
        TAILQ_ENTRY(waiting) link;
        struct dlock *dlock;
        struct request *asked;               /* what the user asked for; ENDED: it is answered */
        struct request *request;             /* in flight for it */
        struct dlock_hold *hold;             /* its own lease; NULL: it waits in a session of the user's */
        enum wait_state state;
        uint64_t waiter;
        uint64_t until;                      /* its patience; LEAVING and KEEPING: that of the request */
        uint64_t next_try;
        bool timed_out;
        bool in_vain;                        /* granted to somebody within the period that it wants it once in */
};

static void plan(const struct waiting *waiting, uint64_t at)
{
        waiting->dlock->wait_wake = MIN(waiting->dlock->wait_wake, at);
}

static void _printf_(2, 3) explain(const struct waiting *waiting, const char *format, ...)
{
        va_list values;

        va_start(values, format);
        (void)vsnprintf(waiting->asked->reason, sizeof(waiting->asked->reason), format, values);
        va_end(values);
}

static struct waiting *forget(struct waiting *waiting)
{
        if (waiting->request)
                request_drop(waiting->dlock, waiting->request);
        dlock_hold_free(waiting->hold);
        TAILQ_REMOVE(&waiting->dlock->waits, waiting, link);
        free(waiting);
        return NULL;
}

static void end(struct waiting *waiting, enum dlock_outcome outcome)
{
        struct dlock_answer *answer = &waiting->asked->answer;

        if (outcome != DLOCK_YES) {
                answer->session = answer->deadline_ms = 0;
                answer->ttl_ms = 0;
        }
        if (outcome == DLOCK_NO) {
                answer->owner = NULL;
                answer->token = waiting->in_vain ? answer->token : 0;
        }
        answer->timed_out = waiting->timed_out;
        request_answer(waiting->dlock, waiting->asked, outcome);
        /* Whoever ends it may be going through what is sent, of which its renewal is: the turn frees it. */
        waiting->asked = NULL;
        waiting->state = ENDED;
        plan(waiting, 0);
}

/* --- asking --- */

static void ask(struct waiting *waiting, uint64_t now)
{
        struct request *request = request_new(waiting->dlock);
        uint64_t until = waiting->state == ASKING ? MIN(waiting->until, now + ASK_MS) : waiting->until;

        waiting->next_try = now + AGAIN_MS;
        if (request) {
                request->waiting = waiting;
                request->operation = waiting->state == LEAVING ? DLOCK_OP_RELEASE : waiting->state == KEEPING ? DLOCK_OP_KEEP : DLOCK_OP_PREEMPT;
                request->awaits = waiting->state == ASKING;
                request->name = waiting->asked->name;
                request->token = waiting->state == KEEPING ? waiting->asked->answer.token : waiting->waiter;
                if (request_enter(waiting->dlock, request, until) == 0) {
                        waiting->request = request;
                        return;
                }
                request_free(waiting->dlock, request);
        }
        plan(waiting, waiting->next_try);
}

static void go_on(struct waiting *waiting, enum wait_state state, uint64_t now)
{
        if (waiting->request)
                request_drop(waiting->dlock, waiting->request);
        waiting->request = NULL;
        waiting->state = state;
        waiting->until = now + waiting->asked->timeout_ms;
        waiting->next_try = 0;
        plan(waiting, 0);
}

/* --- answers --- */

static void be_granted(struct waiting *waiting, const struct request *told, uint64_t now)
{
        struct request *asked = waiting->asked;
        struct dlock_answer *answer = &asked->answer;

        if (told == asked) {
                (void)strcpy(asked->server, waiting->dlock->link.server);
        } else {
                asked->owner = told->owner;
                answer->owner = asked->owner.size ? asked->owner.text : NULL;
                answer->token = told->answer.token;
                answer->index = told->answer.index;
                (void)strcpy(asked->server, told->server);
        }
        if (waiting->hold && dlock_hold_get_state(waiting->hold) == DLOCK_LOST) {
                explain(waiting, "granted as %llu, but told so late that its time to live may be over", (unsigned long long)answer->token);
                go_on(waiting, LEAVING, now);
        } else if (waiting->hold && asked->keeps) {
                go_on(waiting, KEEPING, now);
        } else {
                if (waiting->hold) {
                        answer->session = waiting->waiter;
                        answer->deadline_ms = dlock_hold_get_deadline(waiting->hold);
                        answer->ttl_ms = asked->ttl_ms;
                }
                end(waiting, DLOCK_YES);
        }
}

static void be_refused(struct waiting *waiting, const struct request *told, uint64_t now)
{
        explain(waiting, "%s", told->reason);
        (void)strcpy(waiting->asked->server, told->server);
        if (told->answer.token == 0) {
                end(waiting, DLOCK_NO);
                return;
        }
        waiting->in_vain = true;
        waiting->asked->answer.token = told->answer.token;
        go_on(waiting, LEAVING, now);
}

static void take_ask(struct waiting *waiting, const struct request *told, uint64_t now)
{
        switch (told->answer.outcome) {
        case DLOCK_YES:
                be_granted(waiting, told, now);
                return;
        case DLOCK_NO:
                be_refused(waiting, told, now);
                return;
        case DLOCK_UNKNOWN:
        case DLOCK_UNREACHABLE:
        case DLOCK_REJECTED:
        case DLOCK_REENTERED:
                /* A node that has no news says so at the end of the patience that it was given. One that says so at once is not asked all the time. */
                plan(waiting, waiting->next_try);
                return;
        }
}

/* What is not known to be given up goes with its own lease. In a session of the user's it may be granted. */
static void take_leave(struct waiting *waiting, const struct request *told)
{
        bool certain = told->answer.outcome == DLOCK_YES || told->answer.outcome == DLOCK_NO || waiting->hold;

        if (!certain)
                explain(waiting, "it was given up, but that is not certain, and it may be granted still: %s", told->reason);
        end(waiting, certain ? DLOCK_NO : DLOCK_UNKNOWN);
}

static void take_keep(struct waiting *waiting, const struct request *told)
{
        if (told->answer.outcome == DLOCK_NO)
                explain(waiting, "granted as %llu, and ended before it could be made to last", (unsigned long long)waiting->asked->answer.token);
        else
                explain(waiting, "%s", told->reason);
        if (told->answer.outcome == DLOCK_NO)
                waiting->asked->answer.token = 0;
        end(waiting, told->answer.outcome == DLOCK_YES || told->answer.outcome == DLOCK_NO ? told->answer.outcome : DLOCK_UNKNOWN);
}

void wait_take_answer(struct request *told)
{
        struct waiting *waiting = told->waiting;
        uint64_t now = clock_boottime_ms();

        waiting->request = NULL;
        switch (waiting->state) {
        case ASKING:
                take_ask(waiting, told, now);
                return;
        case LEAVING:
                take_leave(waiting, told);
                return;
        case KEEPING:
                take_keep(waiting, told);
                return;
        case ENDED:
                return;
        }
}

/* --- the turn --- */

static void leave(struct waiting *waiting, uint64_t now, const char *why)
{
        explain(waiting, "%s", why);
        go_on(waiting, LEAVING, now);
}

static void turn(struct waiting *waiting, uint64_t now)
{
        if (waiting->state == ASKING && waiting->hold && dlock_hold_get_state(waiting->hold) == DLOCK_LOST) {
                char why[ERROR_BYTES];

                (void)snprintf(why, sizeof(why), "it waits no more, since its lease was not renewed in time: %s", dlock_hold_get_reason(waiting->hold));
                leave(waiting, now, why);
        } else if (waiting->state == ASKING && now >= waiting->until) {
                waiting->timed_out = true;
                leave(waiting, now, "it was not granted in time");
        }
        if (!waiting->request && now >= waiting->next_try)
                ask(waiting, now);
        if (waiting->state == ASKING)
                plan(waiting, waiting->until);
        if (!waiting->request)
                plan(waiting, waiting->next_try);
}

void waits_turn(struct dlock *dlock, uint64_t now)
{
        struct waiting *waiting, *next;

        if (now < dlock->wait_wake)
                return;
        dlock->wait_wake = UINT64_MAX;
        for (waiting = TAILQ_FIRST(&dlock->waits); waiting; waiting = next) {
                next = TAILQ_NEXT(waiting, link);
                if (waiting->state == ENDED)
                        (void)forget(waiting);
                else
                        turn(waiting, now);
        }
}

/* --- life --- */

/* Its lease has changed, or the time has come to look. */
static void on_hold(struct dlock_hold *hold, enum dlock_hold_state state, void *userdata)
{
        (void)hold;
        if (state == DLOCK_LOST)
                plan(userdata, 0);
}

/* The lease that it waits in is one like any other; that it has ended is told of the wait. */
static int renew_own(struct waiting *waiting)
{
        const struct request *asked = waiting->asked;
        const struct dlock_answer answer = { .outcome = DLOCK_YES, .session = waiting->waiter, .deadline_ms = wait_deadline_of(asked), .ttl_ms = asked->ttl_ms };

        return asked->session == 0 ? hold_new(&waiting->hold, waiting->dlock, &answer, 0, false, on_hold, waiting) : 0;
}

bool wait_begin(struct dlock *dlock, struct request *asked, uint64_t waiter, const struct request *granted)
{
        struct waiting *waiting = calloc(1, sizeof(*waiting));

        if (!waiting)
                return false;
        *waiting = (struct waiting){ .dlock = dlock, .asked = asked, .waiter = waiter, .until = asked->wait_until };
        TAILQ_INSERT_TAIL(&dlock->waits, waiting, link);
        if (renew_own(waiting) < 0) {
                (void)forget(waiting);
                return false;
        }
        request_detach(dlock, asked);
        plan(waiting, 0);
        if (granted) {
                be_granted(waiting, granted, clock_boottime_ms());
                return true;
        }
        asked->answer.token = 0;
        asked->answer.owner = NULL;
        if (asked->given_up)
                leave(waiting, clock_boottime_ms(), "it was given up");
        return true;
}

int dlock_give_up(struct dlock *dlock, uint64_t id)
{
        struct waiting *waiting;
        struct request *request;

        if (is_forked(dlock))
                return -ECHILD;
        TAILQ_FOREACH(waiting, &dlock->waits, link)
                if (waiting->state != ENDED && waiting->asked->id == id) {
                        if (waiting->state == ASKING)
                                leave(waiting, clock_boottime_ms(), "it was given up");
                        return 0;
                }
        request = request_of_id(dlock, id);
        if (!request || request->wait_ms == 0)
                return set_error(dlock, -ENOENT, "no such request waits for a lock");
        request->given_up = true;
        return 0;
}

void waits_forget(struct dlock *dlock)
{
        struct waiting *waiting;

        while ((waiting = TAILQ_FIRST(&dlock->waits))) {
                request_free(dlock, waiting->asked);       /* or it is answered */
                (void)forget(waiting);
        }
}
