/* hold.c - what is held and must be renewed.
 *
 * Of a hold with a time to live of 10 s that takes 1 s to stop, last renewed with a request of t = 0, with the jitter left out:
 *
 *    3.33   a renewal goes out. The node has 1 s for it; with a yes, everything below counts from 3.33
 *    4.33   the node says that it does not know: the next server is asked. Has it said nothing at all:
 *    5.33   it is left, and the next server is asked. Two tenths without an answer: AT_RISK
 *    7.90   deadline - 2 * stop_ms: AT_RISK at the latest
 *    8.90   deadline - stop_ms: LOST. No answer is good enough any more
 *    9.90   the deadline. Nothing of what was held may go on
 *   10.00   the leader, which counts from the arrival of that request, may end it
 *
 * A state is a function of these times and of now, so it is right whenever it is asked for; that it changed is told in a turn.
 *
 * The node is also asked to say when the session or lease has ended, or was broken. When it does, a renewal goes out at once: with anything but a
 * yes to that it is lost, and whoever has just given it up himself has had his own answer before. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/random.h"
#include "libdlock/internal.h"

/* What is held for a shorter time is not worth the question. */
#define LISTEN_MS 1000
/* Between two questions, when the node does not take them to heart. */
#define LISTEN_AGAIN_MS 60000
/* Patience of a node that has nothing to tell. */
#define NEWS_MS 300000

struct dlock_hold {
        TAILQ_ENTRY(dlock_hold) link;
        struct dlock *dlock;                 /* NULL: freed */
        uint64_t session;
        uint32_t ttl_ms, stop_ms;
        dlock_hold_handler handler;
        void *userdata;

        uint64_t deadline;
        uint64_t renew_at;                   /* when the renewal went out, or goes, that is to move the deadline */
        uint64_t next_try;                   /* not before that the next request for it */
        struct request *renewal;             /* in flight */
        bool listens;
        bool bound;                          /* it ends with this process */
        struct request *news;                /* in flight: the node tells when it has ended */
        uint64_t next_news;                  /* not before that the next request for those */
        uint64_t told_at;                    /* when a node said so; 0: none has */
        bool lost;                           /* for good */
        enum dlock_hold_state told;
        char reason[ERROR_BYTES];            /* what became of the last try, or why it is lost; "": nothing to tell */
};

/* --- times --- */

static uint64_t tenth_of(const struct dlock_hold *hold)
{
        return hold->ttl_ms / 10;
}

/* From a request to the deadline that its yes gives. */
static uint64_t life_of(uint32_t ttl_ms)
{
        return ttl_ms - (ttl_ms + 99) / 100;
}

static uint64_t lost_at(const struct dlock_hold *hold)
{
        return hold->deadline - hold->stop_ms;
}

static uint64_t risk_at(const struct dlock_hold *hold)
{
        return MIN(hold->deadline - 2 * (uint64_t)hold->stop_ms, hold->renew_at + 2 * tenth_of(hold));
}

static enum dlock_hold_state state_at(const struct dlock_hold *hold, uint64_t now)
{
        if (hold->lost || now >= lost_at(hold))
                return DLOCK_LOST;
        return now >= risk_at(hold) ? DLOCK_AT_RISK : DLOCK_HELD;
}

/* From one renewal to the next: a third, or less when a long stop_ms makes a risk of it before there was time for an answer. */
static uint64_t interval(const struct dlock_hold *hold)
{
        uint64_t ms = MIN((uint64_t)hold->ttl_ms / 3, life_of(hold->ttl_ms) - 2 * (uint64_t)hold->stop_ms - tenth_of(hold));

        return ms - ms / 10 + random_u64() % (ms / 5 + 1);
}

static uint64_t news_at(const struct dlock_hold *hold)
{
        return hold->listens && !hold->news ? hold->next_news : UINT64_MAX;
}

/* When it has something to do; 0: now; UINT64_MAX: never. */
static uint64_t wake_of(const struct dlock_hold *hold, uint64_t now)
{
        const struct request *renewal = hold->renewal;
        uint64_t wake, doubt;

        if (state_at(hold, now) != hold->told)
                return 0;
        if (hold->told == DLOCK_LOST)
                return UINT64_MAX;
        wake = MIN(news_at(hold), hold->told == DLOCK_HELD ? risk_at(hold) : lost_at(hold));
        if (!renewal)
                return MIN(wake, hold->next_try);
        if (!renewal->on_wire)
                return wake;
        doubt = renewal->last_sent + 2 * (uint64_t)renewal_patience(renewal);
        return MIN(wake, doubt > now ? doubt : now + renewal_patience(renewal));
}

static void plan(struct dlock_hold *hold, uint64_t now)
{
        hold->dlock->hold_wake = MIN(hold->dlock->hold_wake, wake_of(hold, now));
}

/* --- renewing --- */

static void lose(struct dlock_hold *hold)
{
        hold->lost = true;
        if (hold->renewal)
                request_drop(hold->dlock, hold->renewal);
        if (hold->news)
                request_drop(hold->dlock, hold->news);
        hold->renewal = hold->news = NULL;
}

static void _printf_(2, 3) explain(struct dlock_hold *hold, const char *format, ...)
{
        va_list values;

        va_start(values, format);
        (void)vsnprintf(hold->reason, sizeof(hold->reason), format, values);
        va_end(values);
}

static void renew(struct dlock_hold *hold, uint64_t now)
{
        struct request *request = request_new(hold->dlock);

        hold->next_try = now + tenth_of(hold);
        if (request) {
                request->operation = DLOCK_OP_RENEW;
                request->session = hold->session;
                request->ttl_ms = hold->ttl_ms;
                request->hold = hold;
                if (request_enter(hold->dlock, request, lost_at(hold)) == 0) {
                        hold->renewal = request;
                        return;
                }
                request_free(hold->dlock, request);
        }
        explain(hold, "out of memory");
}

/* Without memory for it, the renewals tell. */
static void listen(struct dlock_hold *hold, uint64_t now)
{
        struct request *request = request_new(hold->dlock);

        hold->next_news = now + MIN(interval(hold), (uint64_t)LISTEN_AGAIN_MS);
        if (!request)
                return;
        if (hold->dlock->listener_count == LISTENERS_MAX) {
                request_free(hold->dlock, request);
                return;
        }
        request->operation = DLOCK_OP_CHECK;
        request->awaits = true;
        request->token = hold->session;
        request->bound = hold->bound;
        request->listener = hold;
        if (request_enter(hold->dlock, request, now + NEWS_MS) == 0)
                hold->news = request;
        else
                request_free(hold->dlock, request);
}

/* A node says in time that it cannot tell. One that says nothing is gone; and where there is another, it is asked in any case. */
static void doubt_server(struct dlock_hold *hold, uint64_t now)
{
        struct request *request = hold->renewal;
        struct dlock *dlock = hold->dlock;

        if (!request || !request->on_wire || now < request->last_sent + 2 * (uint64_t)renewal_patience(request))
                return;
        if (dlock->servers.found_count < 2 && dlock->link.heard > request->last_sent)
                return;
        explain(hold, "no answer from %s in time", dlock->link.server);
        request->moves++;
        link_fail_silent(dlock, "does not answer a renewal");
}

void hold_take_answer(struct request *request)
{
        struct dlock_hold *hold = request->hold;
        uint64_t now = clock_boottime_ms();

        hold->renewal = NULL;
        if (hold->lost)
                return;
        switch (request->answer.outcome) {
        case DLOCK_YES:
                /* Too late for whoever was told, or could have asked, that it is lost. */
                if (now >= lost_at(hold))
                        break;
                hold->deadline = MAX(hold->deadline, request->answer.deadline_ms);
                hold->renew_at = hold->next_try = request->last_sent + interval(hold);
                if (hold->told_at >= request->last_sent)
                        hold->next_try = now;        /* it is the answer to an earlier question */
                else
                        hold->told_at = 0;
                if (hold->told_at == 0)
                        hold->reason[0] = 0;
                break;
        case DLOCK_NO:
                if (hold->told_at == 0)
                        explain(hold, "%s says that it has ended", request->server);
                hold->lost = true;
                break;
        case DLOCK_UNKNOWN:
        case DLOCK_UNREACHABLE:
        case DLOCK_REJECTED:
        case DLOCK_REENTERED:
                if (hold->told_at != 0)
                        hold->lost = true;
                else
                        explain(hold, "%s", request->reason);
                break;
        }
        plan(hold, now);
}

void hold_take_news(struct request *request)
{
        struct dlock_hold *hold = request->listener;
        uint64_t now = clock_boottime_ms();

        hold->news = NULL;
        if (request->answer.outcome == DLOCK_NO && !hold->lost) {
                explain(hold, "%s says that %s", request->server, request->reason);
                hold->told_at = now;
                hold->next_try = MIN(hold->next_try, now);
        }
        plan(hold, now);
}

/* --- the turn --- */

static void tell(struct dlock_hold *hold, enum dlock_hold_state state)
{
        if (state == hold->told)
                return;
        hold->told = state;
        if (hold->handler)
                hold->handler(hold, state, hold->userdata);
}

static void turn(struct dlock_hold *hold, uint64_t now)
{
        struct dlock *dlock = hold->dlock;

        /* Not where it came to be known: whoever has an answer taken may be going through the requests. */
        if (hold->lost || now >= lost_at(hold))
                lose(hold);
        if (!hold->lost)
                doubt_server(hold, now);
        if (!hold->lost && !hold->renewal && now >= hold->next_try)
                renew(hold, now);
        if (!hold->lost && now >= news_at(hold))
                listen(hold, now);
        tell(hold, state_at(hold, now));
        if (!hold->lost)
                dlock->hold_tenth = MIN(dlock->hold_tenth, (uint32_t)tenth_of(hold));
        plan(hold, now);
}

void holds_turn(struct dlock *dlock, uint64_t now)
{
        struct dlock_hold *hold;

        if (now < dlock->hold_wake)
                return;
        dlock->hold_wake = UINT64_MAX;
        dlock->hold_tenth = UINT32_MAX;
        /* A handler may make more of them. */
        TAILQ_FOREACH(hold, &dlock->holds, link)
                turn(hold, now);
}

/* --- life --- */

static bool is_alone(const struct dlock_hold *hold)
{
        return !hold->dlock || is_forked(hold->dlock);
}

static int check(struct dlock *dlock, const struct dlock_answer *answer, uint32_t stop_ms)
{
        bool lives = answer && answer->outcome == DLOCK_YES && answer->session != 0 && limit_ttl_is_valid(answer->ttl_ms);

        if (!lives || answer->deadline_ms < life_of(answer->ttl_ms))
                return set_error(dlock, -EINVAL, "nothing to hold: a yes to an open, to a preempt with a time to live, or to a renew with it would be right");
        /* ttl * 0.99 - stop > ttl * 2 / 3 */
        if (300 * (uint64_t)stop_ms >= 97 * (uint64_t)answer->ttl_ms)
                return set_error(dlock, -EINVAL, "of a time to live of %u ms at most %u would be right for stopping: else there is no time to renew it twice",
                                 answer->ttl_ms, (uint32_t)((97 * (uint64_t)answer->ttl_ms - 1) / 300));
        if (dlock->hold_count == HOLDS_MAX)
                return set_error(dlock, -EAGAIN, "%d holds are renewed already", HOLDS_MAX);
        return 0;
}

int hold_new(struct dlock_hold **ret_hold, struct dlock *dlock, const struct dlock_answer *answer, uint32_t stop_ms, bool listens, dlock_hold_handler handler,
             void *userdata)
{
        struct dlock_hold *hold;
        int r;

        if (is_forked(dlock))
                return -ECHILD;
        r = check(dlock, answer, stop_ms);
        if (r == 0)
                r = identity_load_cluster(dlock);
        if (r == 0)
                r = identity_load_client(dlock);
        if (r < 0)
                return r;
        hold = calloc(1, sizeof(*hold));
        if (!hold)
                return set_error(dlock, -ENOMEM, "out of memory");
        *hold = (struct dlock_hold){
                .dlock = dlock,
                .session = answer->session,
                .ttl_ms = answer->ttl_ms,
                .stop_ms = stop_ms,
                .handler = handler,
                .userdata = userdata,
                .deadline = answer->deadline_ms,
                .told = DLOCK_HELD,
                .listens = listens,
        };
        hold->renew_at = hold->next_try = hold->deadline - life_of(hold->ttl_ms) + interval(hold);
        hold->next_news = clock_boottime_ms() + MIN(tenth_of(hold), (uint64_t)LISTEN_MS);
        TAILQ_INSERT_TAIL(&dlock->holds, hold, link);
        dlock->hold_count++;
        dlock->hold_tenth = MIN(dlock->hold_tenth, (uint32_t)tenth_of(hold));
        plan(hold, clock_boottime_ms());
        *ret_hold = hold;
        return 0;
}

int dlock_hold_new(struct dlock_hold **ret_hold, struct dlock *dlock, const struct dlock_answer *answer, uint32_t stop_ms, dlock_hold_handler handler,
                   void *userdata)
{
        return hold_new(ret_hold, dlock, answer, stop_ms, true, handler, userdata);
}

int dlock_hold_bind(struct dlock_hold *hold)
{
        if (is_alone(hold))
                return -ECHILD;
        if (hold->bound)
                return 0;
        hold->bound = true;
        if (hold->news)
                request_drop(hold->dlock, hold->news);
        hold->news = NULL;
        hold->next_news = 0;
        plan(hold, clock_boottime_ms());
        return 0;
}

struct dlock_hold *dlock_hold_free(struct dlock_hold *hold)
{
        if (!hold)
                return NULL;
        if (hold->dlock) {
                lose(hold);
                TAILQ_REMOVE(&hold->dlock->holds, hold, link);
                hold->dlock->hold_count--;
                /* The times of the others are found in the next turn. */
                hold->dlock->hold_wake = hold->dlock->hold_count > 0 ? 0 : UINT64_MAX;
                if (hold->dlock->hold_count == 0)
                        hold->dlock->hold_tenth = UINT32_MAX;
        }
        free(hold);
        return NULL;
}

void holds_forget(struct dlock *dlock)
{
        struct dlock_hold *hold;

        TAILQ_FOREACH(hold, &dlock->holds, link) {
                lose(hold);
                hold->dlock = NULL;
        }
}

/* --- looking --- */

enum dlock_hold_state dlock_hold_get_state(const struct dlock_hold *hold)
{
        return is_alone(hold) ? DLOCK_LOST : state_at(hold, clock_boottime_ms());
}

uint64_t dlock_hold_get_session(const struct dlock_hold *hold)
{
        return hold->session;
}

uint64_t dlock_hold_get_deadline(const struct dlock_hold *hold)
{
        return hold->deadline;
}

const char *dlock_hold_get_reason(const struct dlock_hold *hold)
{
        if (is_alone(hold))
                return "nobody renews it here";
        if (dlock_hold_get_state(hold) == DLOCK_HELD)
                return "";
        return *hold->reason ? hold->reason : "it was not renewed in time";
}
