/* watch.c - what becomes of locks, one change after the other.
 *
 * First the locks are listed, page by page, each as of its own index, which never falls from page to page; then what came after the index of the
 * first page is told. A change of a lock that was listed as of a later index is in the list already, and is left out: so nothing is told twice,
 * and no lock goes back. With the index of the last page the list is complete.
 *
 *   page 1   a ... m as of 10      a is held by X since 4
 *   page 2   n ... z as of 12      z is held by Y since 11
 *   changes after 10:  11 z granted to Y    left out: page 2 has it
 *                      12 a released by X   told: page 1 is of before
 *                      complete
 *
 * One request is in flight at most, and none while something is not read yet: who reads slowly gets larger steps, not more memory. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/random.h"
#include "libdlock/internal.h"

/* Patience of one question. */
#define ASK_MS 20000
/* So long a node waits for something to happen before it says how far it saw, and so shows that it is there; who has not answered yet is asked
 * for that first. */
#define WATCH_MS 10000
#define FIRST_MS 1
/* Until it is asked again what nobody could answer. */
#define AGAIN_MS 500
/* A node that has not heard of a leader for so long may be cut off: another one may know more. */
#define STALE_MS 5000

/* A page of the list: up to which hold it goes, and as of when. */
struct mark {
        uint64_t index, last_token;
        struct lock_name last;
};

struct dlock_watch {
        TAILQ_ENTRY(dlock_watch) link;
        struct dlock *dlock;                 /* NULL: freed */
        struct lock_name name;
        bool exact;
        enum { LISTING, FOLLOWING } state;
        bool anew, more;                     /* to be told: that it begins anew; LISTING: there are more pages */
        bool complete;                       /* the list was, and that was told */
        bool heard;                          /* a node has answered */
        struct request *request;             /* in flight */
        uint64_t next_try;
        uint64_t position;                   /* FOLLOWING: where to go on when all that is here was read. LISTING: the index of the first page */
        uint64_t told;
        struct mark *marks;                  /* until the list is complete */
        size_t mark_count, mark_capacity;

        /* What was answered last, and how far it was read. */
        void *rows;
        const struct dlock_row *listed;
        const struct dlock_change *changes;
        size_t count, at;
        uint64_t next_after;
        enum dlock_outcome outcome;          /* of the last question; UNKNOWN: of none yet */
        char reason[ERROR_BYTES];
};

/* --- asking --- */

static void ask(struct dlock_watch *watch, uint64_t now)
{
        struct request *request = request_new(watch->dlock);
        /* Before anybody has answered the patience of the user counts, who is told why nobody did. */
        uint64_t patience = watch->heard ? ASK_MS : MIN((uint64_t)ASK_MS, (uint64_t)watch->dlock->timeout_ms);

        watch->next_try = now + AGAIN_MS;
        if (request) {
                request->watch = watch;
                request->operation = watch->state == FOLLOWING ? DLOCK_OP_WATCH : watch->exact ? DLOCK_OP_SHOW : DLOCK_OP_LIST;
                request->name = watch->name;
                request->exact = watch->exact;
                request->limit = DLOCK_PAGE_MAX;
                request->after_index = watch->position;
                if (watch->state == FOLLOWING)
                        request->node_ms = watch->outcome == DLOCK_YES ? WATCH_MS : FIRST_MS;
                if (watch->mark_count > 0) {
                        request->after = watch->marks[watch->mark_count - 1].last;
                        request->after_token = watch->marks[watch->mark_count - 1].last_token;
                }
                if (request_enter(watch->dlock, request, now + patience) == 0) {
                        watch->request = request;
                        return;
                }
                request_free(watch->dlock, request);
        }
        (void)snprintf(watch->reason, sizeof(watch->reason), "out of memory");
        watch->dlock->watch_wake = MIN(watch->dlock->watch_wake, watch->next_try);
}

/* All was read, also that the last page was the last. */
static bool may_ask(const struct dlock_watch *watch, uint64_t now)
{
        bool listed = watch->state == LISTING && watch->mark_count > 0 && !watch->more;

        return !watch->request && watch->at == watch->count && !watch->anew && !listed && now >= watch->next_try;
}

void watches_turn(struct dlock *dlock, uint64_t now)
{
        struct dlock_watch *watch;

        if (now < dlock->watch_wake)
                return;
        dlock->watch_wake = UINT64_MAX;
        TAILQ_FOREACH(watch, &dlock->watches, link)
                if (may_ask(watch, now))
                        ask(watch, now);
                else if (!watch->request && now < watch->next_try)
                        dlock->watch_wake = MIN(dlock->watch_wake, watch->next_try);
}

/* --- taking answers --- */

static void forget_rows(struct dlock_watch *watch)
{
        free(watch->rows);
        watch->rows = NULL;
        watch->listed = NULL;
        watch->changes = NULL;
        watch->count = watch->at = 0;
}

static void forget_marks(struct dlock_watch *watch)
{
        free(watch->marks);
        watch->marks = NULL;
        watch->mark_count = watch->mark_capacity = 0;
}

static void begin_list(struct dlock_watch *watch)
{
        watch->state = LISTING;
        watch->more = true;
        watch->complete = false;
        watch->position = watch->told = 0;
        forget_marks(watch);
}

/* last: NULL: the page has none. */
static bool add_mark(struct dlock_watch *watch, uint64_t index, const struct dlock_row *last)
{
        if (watch->mark_count == watch->mark_capacity) {
                size_t capacity = watch->mark_capacity ? watch->mark_capacity * 2 : 4;
                struct mark *marks = reallocarray(watch->marks, capacity, sizeof(marks[0]));

                if (!marks)
                        return false;
                watch->marks = marks;
                watch->mark_capacity = capacity;
        }
        watch->marks[watch->mark_count] = (struct mark){ .index = index };
        if (last) {
                (void)lock_name_set(&watch->marks[watch->mark_count].last, last->lock, strlen(last->lock));
                watch->marks[watch->mark_count].last_token = last->token;
        }
        watch->mark_count++;
        return true;
}

static void take_list(struct dlock_watch *watch, struct request *request)
{
        const struct dlock_answer *answer = &request->answer;

        if (!add_mark(watch, answer->index, answer->count > 0 ? &answer->rows[answer->count - 1] : NULL)) {
                (void)snprintf(watch->reason, sizeof(watch->reason), "out of memory");
                return;                      /* and again, after a while */
        }
        watch->next_try = 0;
        if (watch->mark_count == 1)
                watch->position = answer->index;
        watch->listed = answer->rows;
        watch->count = answer->count;
        watch->more = answer->more;
}

static void take_changes(struct dlock_watch *watch, const struct request *request)
{
        const struct dlock_answer *answer = &request->answer;

        watch->next_try = 0;
        if (answer->outcome == DLOCK_NO) {
                begin_list(watch);
                watch->anew = true;
                return;
        }
        watch->changes = answer->changes;
        watch->count = answer->count;
        watch->next_after = answer->next_after;
        if (watch->count == 0)
                watch->position = answer->next_after;
}

/* Whoever tells nothing, and has heard nothing for long, is not the one to ask. */
static void doubt_server(struct dlock *dlock, const struct request *request)
{
        const struct dlock_answer *answer = &request->answer;

        if (request->operation == DLOCK_OP_WATCH && answer->outcome == DLOCK_YES && answer->count == 0 && dlock->servers.found_count > 1 &&
            (answer->leader_age_ms < 0 || answer->leader_age_ms > STALE_MS) && dlock->link.state == LINK_READY)
                link_fail(dlock, false, "has not heard of a leader for long");
}

void watch_take_answer(struct request *request)
{
        struct dlock_watch *watch = request->watch;
        struct dlock *dlock = watch->dlock;

        watch->request = NULL;
        forget_rows(watch);
        watch->outcome = request->answer.outcome == DLOCK_NO ? DLOCK_YES : request->answer.outcome;
        if (watch->outcome != DLOCK_YES) {
                (void)memcpy(watch->reason, request->reason, sizeof(watch->reason));
                dlock->watch_wake = MIN(dlock->watch_wake, watch->next_try);
                return;
        }
        watch->reason[0] = 0;
        watch->heard = true;
        if (request->operation == DLOCK_OP_WATCH)
                take_changes(watch, request);
        else
                take_list(watch, request);
        watch->rows = TAKE_POINTER(request->rows);
        /* A reader that has nothing to read is not called for it. */
        if (watch->count == 0)
                dlock->watch_wake = MIN(dlock->watch_wake, watch->next_try);
        doubt_server(dlock, request);
}

/* --- reading --- */

/* The page ends at this hold, or behind it. */
static bool reaches(const struct mark *mark, const struct dlock_change *change)
{
        int order = strcmp(mark->last.text, change->lock);

        return order > 0 || (order == 0 && mark->last_token >= change->token);
}

/* It has been told by the list. */
static bool is_listed(const struct dlock_watch *watch, const struct dlock_change *change)
{
        size_t low = 0, high = watch->mark_count;

        if (high == 0)
                return false;
        high--;                              /* the last page goes to the end */
        while (low < high) {
                size_t middle = (low + high) / 2;

                if (reaches(&watch->marks[middle], change))
                        high = middle;
                else
                        low = middle + 1;
        }
        return change->index <= watch->marks[low].index;
}

static int tell(struct dlock_watch *watch, int kind, struct dlock_change *ret_change)
{
        *ret_change = (struct dlock_change){ .kind = kind, .lock = "", .owner = "", .host = "", .unit = "", .note = "", .index = watch->told, .after = watch->told };
        return 1;
}

static int tell_row(struct dlock_watch *watch, struct dlock_change *ret_change)
{
        const struct dlock_row *row = &watch->listed[watch->at++];

        *ret_change = (struct dlock_change){
                .kind = DLOCK_CHANGE_LISTED,
                .lock = row->lock,
                .owner = row->owner,
                .token = row->token,
                .session = row->session,
                .ttl_ms = row->ttl_ms,
                .slots = row->slots,
                .pid = row->pid,
                .host = row->host,
                .unit = row->unit,
                .note = row->note,
                .index = watch->marks[watch->mark_count - 1].index,
                .wall_ms = row->since_wall_ms,
        };
        return 1;
}

static uint64_t list_end(const struct dlock_watch *watch)
{
        return watch->mark_count > 0 ? watch->marks[watch->mark_count - 1].index : 0;
}

/* All that is here was read. */
static void go_on(struct dlock_watch *watch)
{
        if (watch->changes)
                watch->position = watch->next_after;
        if (watch->state == LISTING && watch->mark_count > 0 && !watch->more)
                watch->state = FOLLOWING;
        if (watch->complete)
                watch->told = watch->position;
        watch->changes = NULL;
        watch->listed = NULL;
}

static int next(struct dlock_watch *watch, struct dlock_change *ret_change)
{
        if (watch->anew) {
                watch->anew = false;
                return tell(watch, DLOCK_CHANGE_ANEW, ret_change);
        }
        while (watch->at < watch->count) {
                const struct dlock_change *change;

                if (watch->listed)
                        return tell_row(watch, ret_change);
                change = &watch->changes[watch->at];
                /* What is left of an entry when the list is complete comes after it: a list is as of whole entries. */
                if (!watch->complete && change->index > list_end(watch))
                        break;
                watch->at++;
                if (!watch->complete && is_listed(watch, change))
                        continue;
                *ret_change = *change;
                if (watch->complete)
                        watch->told = change->after;
                else
                        ret_change->after = 0;
                return 1;
        }
        if (watch->at == watch->count)
                go_on(watch);
        if (!watch->complete && watch->state == FOLLOWING && (watch->at < watch->count || watch->position >= list_end(watch))) {
                watch->complete = true;
                watch->told = watch->at < watch->count ? list_end(watch) : watch->position;
                forget_marks(watch);
                return tell(watch, DLOCK_CHANGE_COMPLETE, ret_change);
        }
        return 0;
}

static bool is_alone(const struct dlock_watch *watch)
{
        return !watch->dlock || is_forked(watch->dlock);
}

int dlock_watch_next(struct dlock_watch *watch, struct dlock_change *ret_change)
{
        uint64_t now;
        int r;

        if (is_alone(watch))
                return -ECHILD;
        r = next(watch, ret_change);
        if (r != 0)
                return r;
        now = clock_boottime_ms();
        if (may_ask(watch, now))
                ask(watch, now);
        return 0;
}

struct dlock *watch_get_handle(const struct dlock_watch *watch)
{
        return is_alone(watch) ? NULL : watch->dlock;
}

uint64_t dlock_watch_get_index(const struct dlock_watch *watch)
{
        return watch->told;
}

enum dlock_outcome dlock_watch_get_outcome(const struct dlock_watch *watch)
{
        return is_alone(watch) ? DLOCK_UNKNOWN : watch->outcome;
}

const char *dlock_watch_get_reason(const struct dlock_watch *watch)
{
        return is_alone(watch) ? "nobody watches it here" : watch->reason;
}

const char *dlock_change_name(int kind)
{
        switch (kind) {
        case DLOCK_CHANGE_GRANTED:
                return "granted";
        case DLOCK_CHANGE_RELEASED:
                return "released";
        case DLOCK_CHANGE_EXPIRED:
                return "expired";
        case DLOCK_CHANGE_CLOSED:
                return "closed";
        case DLOCK_CHANGE_BROKEN:
                return "broken";
        case DLOCK_CHANGE_LISTED:
                return "held";
        case DLOCK_CHANGE_COMPLETE:
                return "complete";
        case DLOCK_CHANGE_ANEW:
                return "anew";
        default:
                return "freed";
        }
}

/* --- life --- */

int dlock_watch_new(struct dlock_watch **ret_watch, struct dlock *dlock, const char *lock, int exact, uint64_t after_index)
{
        struct lock_name name = { 0 };
        struct dlock_watch *watch;
        int r;

        if (is_forked(dlock))
                return -ECHILD;
        r = request_set_name(dlock, &name, lock, exact ? "a lock name" : "a prefix of lock names", !exact);
        if (r == 0 && dlock->watch_count == WATCHES_MAX)
                r = set_error(dlock, -EAGAIN, "%d watches of this handle are there already", WATCHES_MAX);
        if (r == 0)
                r = identity_load_cluster(dlock);
        if (r < 0)
                return r;
        watch = calloc(1, sizeof(*watch));
        if (!watch)
                return set_error(dlock, -ENOMEM, "out of memory");
        watch->dlock = dlock;
        watch->name = name;
        watch->exact = exact;
        watch->outcome = DLOCK_UNKNOWN;
        (void)strcpy(watch->reason, "nobody has answered yet");
        begin_list(watch);
        if (after_index > 0) {
                watch->state = FOLLOWING;
                watch->complete = true;
                watch->position = watch->told = after_index;
        }
        TAILQ_INSERT_TAIL(&dlock->watches, watch, link);
        dlock->watch_count++;
        ask(watch, clock_boottime_ms());
        *ret_watch = watch;
        return 0;
}

struct dlock_watch *dlock_watch_free(struct dlock_watch *watch)
{
        if (!watch)
                return NULL;
        if (watch->dlock) {
                if (watch->request)
                        request_drop(watch->dlock, watch->request);
                TAILQ_REMOVE(&watch->dlock->watches, watch, link);
                watch->dlock->watch_count--;
        }
        forget_rows(watch);
        forget_marks(watch);
        free(watch);
        return NULL;
}

void watches_forget(struct dlock *dlock)
{
        struct dlock_watch *watch;

        TAILQ_FOREACH(watch, &dlock->watches, link) {
                if (watch->request)
                        request_drop(dlock, watch->request);
                watch->request = NULL;
                watch->dlock = NULL;
        }
}
