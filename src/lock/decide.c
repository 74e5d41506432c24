#include "lock/decide.h"

#include <assert.h>
#include <string.h>

#include "base/mutation.h"
#include "lock/record.h"
#include "lock/standing.h"

/* Root may act for everybody on a host; over insecure TCP nobody can be told apart (DESIGN section 5). */
static bool may_speak_for(const char *first_user, const struct principal *principal)
{
        return strcmp(first_user, principal->text) == 0 || strcmp(principal->text, "uid:0") == 0 ||
               strcmp(principal->text, LOCK_PRINCIPAL_TCP) == 0 || strcmp(first_user, LOCK_PRINCIPAL_TCP) == 0;
}

static bool client_is_foreign(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request)
{
        struct lock_client_view view;

        if (lock_table_find_client(table, &request->client, &view) && strcmp(view.principal, LOCK_PRINCIPAL_TCP) != 0)
                return !may_speak_for(view.principal, &request->principal);
        return lock_overlay_find_client(overlay, &request->client, &view) && !may_speak_for(view.principal, &request->principal);
}

static bool find_result(const struct lock_table *table, const struct lock_overlay *overlay, struct id128 handle,
                        struct lock_result_view *ret_view)
{
        return !MUTATED(NO_RETRY) && (lock_overlay_find_result(overlay, handle, ret_view) || lock_table_find_result(table, handle, ret_view));
}

/* What was decided of a request is not always called as it is. */
static enum lock_change_kind asked_kind(enum lock_change_kind kind)
{
        switch ((int)kind) {
        case LOCK_CHANGE_WAIT:
                return LOCK_CHANGE_PREEMPT;
        case LOCK_CHANGE_LEAVE:
                return LOCK_CHANGE_RELEASE;
        }
        return kind;
}

static bool same_request(const struct lock_result_view *result, const struct lock_request *request)
{
        bool same_kind = asked_kind(result->kind) == request->kind || (request->kind == LOCK_CHANGE_CANCEL && result->kind != LOCK_CHANGE_CLIENT);

        if ((request->kind == LOCK_CHANGE_RELEASE || request->kind == LOCK_CHANGE_KEEP || request->kind == LOCK_CHANGE_BREAK) && result->token != request->token)
                return false;
        if (request->kind == LOCK_CHANGE_CLOSE && result->token != request->session)
                return false;
        return same_kind && result->name_size == request->name.size &&
               memcmp(result->name, request->name.text, request->name.size) == 0 &&
               (request->kind == LOCK_CHANGE_CLIENT || strcmp(result->client, request->client.text) == 0);
}

static void copy_owner(struct client_id *owner, const char *text)
{
        bool valid = client_id_set(owner, text, strlen(text));

        assert(valid);
}

static void accept_change(const struct lock_request *request, enum lock_change_kind kind, uint64_t token, struct lock_decision *decision)
{
        decision->verdict = LOCK_ACCEPTED;
        decision->change = (struct lock_change){
                .kind = kind,
                .handle = request->handle,
                .seq = request->seq,
                .client = request->client,
                .principal = request->principal,
                .name = request->name,
                .token = token,
                .session = request->session,
                .ttl_ms = request->ttl_ms,
                .delay_ms = request->delay_ms,
                .period_ms = request->period_ms,
                .slots = request->slots,
                .further = request->further,
                .now = request->now,
                .holder = request->holder,
        };
}

/* A5: what waits is sent away by the same entry that says that the request shall not happen. */
static void cancel_wait(const struct lock_table *table, const struct lock_request *request, const struct lock_result_view *result, struct lock_decision *decision)
{
        struct lock_waiter_view waiter;

        if (lock_table_find_waiter(table, result->index, &waiter) || lock_table_granted(table, &request->name, result->index) != 0)
                accept_change(request, LOCK_CHANGE_CANCEL, result->index, decision);
        else
                accept_change(request, LOCK_CHANGE_CANCEL, 0, decision);
}

/* Promise 3: a request that was accepted before is answered as it was then. True: decided. */
static bool decide_repeated(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request,
                            struct lock_decision *decision)
{
        struct lock_result_view result;

        if (!find_result(table, overlay, request->handle, &result)) {
                /* An accepted seq 1 was once remembered here and is forgotten: this may be its retry. */
                decision->verdict = LOCK_UNKNOWABLE;
                return request->seq != 1 && !MUTATED(NO_RETRY);
        }
        if (request->seq > result.seq)
                return false;
        if (request->seq < result.seq || !same_request(&result, request)) {
                decision->verdict = LOCK_UNKNOWABLE;
                return true;
        }
        if (request->kind == LOCK_CHANGE_CANCEL && result.kind == LOCK_CHANGE_WAIT && result.token == 0) {
                /* One that is not applied yet may be granted by the very entry. */
                if (lock_overlay_find_result(overlay, request->handle, &result))
                        decision->verdict = LOCK_LATER;
                else
                        cancel_wait(table, request, &result, decision);
                return true;
        }
        decision->verdict = LOCK_REPEATED;
        decision->token = result.token;
        decision->index = result.index;
        decision->waits = result.kind == LOCK_CHANGE_WAIT;
        if (lock_change_wants(result.kind) || result.kind == LOCK_CHANGE_CLIENT || result.kind == LOCK_CHANGE_OPEN)
                copy_owner(&decision->owner, result.client);
        return true;
}

static void refuse(enum lock_verdict verdict, const struct lock_view *view, struct lock_decision *decision)
{
        decision->verdict = verdict;
        if (!view)
                return;
        decision->token = view->token;
        copy_owner(&decision->owner, view->owner);
}

static bool table_is_full(const struct lock_table *table, const struct lock_overlay *overlay)
{
        size_t pending = lock_overlay_count(overlay);

        /* What is lost is a lock still, until its delay is over. */
        return lock_table_lock_count(table) + lock_table_delay_count(table) + pending * LIMIT_LOCKS_AT_ONCE >= LIMIT_LOCKS || lock_table_result_count(table) + pending >= LIMIT_REQUESTS;
}

static bool sessions_are_full(const struct lock_table *table, const struct lock_overlay *overlay)
{
        return lock_table_session_count(table) + lock_overlay_count(overlay) >= LIMIT_LOCK_SESSIONS;
}

/* A lease goes with the last of its locks, or its waiter, also when that is given up by a change that is under way; or when one is kept, as then all are. */
static bool lease_is_kept(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_session_view *session)
{
        const struct lock_record *lock;
        bool is_held = false;

        if (lock_overlay_leaves(overlay, session->id))
                return false;
        TAILQ_FOREACH(lock, &lock_table_get_session(table, session->id)->locks, in_session) {
                if (lock_overlay_keeps(overlay, lock->name, lock->name_size, lock->token))
                        return false;
                is_held |= !lock_overlay_gives_up(overlay, lock->name, lock->name_size, lock->token);
        }
        return is_held || lock_table_get_waiter(table, session->id);
}

/* Of this client, and not about to end. */
static bool find_living(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request, struct lock_session_view *ret_session)
{
        return lock_table_find_session(table, request->session, ret_session) && !ret_session->ended &&
               (!lock_overlay_ends(overlay, request->session) || MUTATED(ENDED_LIVES)) && strcmp(ret_session->client, request->client.text) == 0 &&
               (!ret_session->lease || lease_is_kept(table, overlay, ret_session));
}

static bool session_lives(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request)
{
        struct lock_session_view session;

        return find_living(table, overlay, request, &session);
}

/* L2: one that was broken lives to its end, and no longer. */
static bool session_is_renewed(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request,
                               struct lock_session_view *ret_session)
{
        return find_living(table, overlay, request, ret_session) && !ret_session->broken;
}

/* A lease is of the locks that it was asked for with, and no other is held in it. */
static bool session_takes_locks(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request)
{
        struct lock_session_view session;

        return find_living(table, overlay, request, &session) && !session.lease;
}

/* Who knows an id knows that it is committed; but another node may have told it that was faster to apply it than the leader. */
static bool is_ahead(const struct lock_overlay *overlay, const struct lock_request *request)
{
        bool in_session = request->kind == LOCK_CHANGE_PREEMPT || request->kind == LOCK_CHANGE_CLOSE || request->kind == LOCK_RENEW;

        return lock_overlay_makes(overlay, in_session ? request->session : request->token);
}

static void refuse_for_good(const struct lock_overlay *overlay, const struct lock_request *request, enum lock_verdict verdict, const struct lock_view *view,
                            struct lock_decision *decision)
{
        if (is_ahead(overlay, request))
                refuse(LOCK_LATER, NULL, decision);
        else
                refuse(verdict, view, decision);
}

/* D10: by the log's own time, which stands still while nobody leads. A grant that is not applied yet need not be asked about: the lock is
 * held, or its session ends first (T7), or, where others may hold it, too, that is open (lock_standing). True: decided. */
static bool was_granted_lately(const struct lock_table *table, const struct lock_request *request, struct lock_decision *decision)
{
        struct lock_period_view period;

        if (!lock_table_is_in_vain(table, &request->name, request->period_ms, request->cluster_ms) || !lock_table_find_period(table, &request->name, &period))
                return false;
        decision->verdict = LOCK_TOO_SOON;
        decision->token = period.token;
        copy_owner(&decision->owner, period.client);
        return true;
}

/* L1: whoever it is that wants it, also who lost it. True: decided. */
static bool is_delayed(const struct lock_table *table, const struct lock_request *request, const struct lock_name *name, struct lock_decision *decision)
{
        struct lock_delay_view delay;

        if (!lock_table_find_delay(table, name, request->cluster_ms, &delay))
                return false;
        decision->verdict = LOCK_DELAYED;
        decision->token = delay.token;
        decision->until_cluster_ms = delay.until_cluster_ms;
        copy_owner(&decision->owner, delay.client);
        return true;
}

static void accept_preempt(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request, enum lock_change_kind kind,
                           struct lock_decision *decision)
{
        size_t pending = lock_overlay_count(overlay);

        if (table_is_full(table, overlay) || (request->ttl_ms != 0 && sessions_are_full(table, overlay)))
                return;
        if (request->period_ms != 0 && lock_table_period_count(table) + pending >= LIMIT_PERIODS)
                return;
        if (kind == LOCK_CHANGE_WAIT && lock_table_waiter_count(table) + pending >= LIMIT_WAITERS)
                return;
        accept_change(request, kind, 0, decision);
}

/* Re-entry: what the very session holds already, or is about to. */
static bool find_own(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request, const struct lock_name *name,
                     struct lock_view *ret_view)
{
        if (request->session == 0)
                return false;
        return (lock_overlay_find_in_session(overlay, name, request->session, ret_view) || lock_table_find_of(table, name, NULL, request->session, ret_view)) &&
               !lock_is_freed_soon(table, overlay, ret_view);
}

/* One of the locks that are asked for. */
struct wanted {
        enum standing standing;
        bool is_own;                         /* of the very session, under VIEW */
        bool is_queued;                      /* somebody waits for it, or nobody gets it yet */
        struct lock_view view;               /* OWNED: of whom; owner NULL: nobody, but somebody waits for it, and for others at once */
};

static void look_at(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request, const struct lock_name *name,
                    struct wanted *ret_wanted)
{
        struct lock_waiter_view next;
        struct lock_delay_view delay;

        *ret_wanted = (struct wanted){ .standing = FREE };
        ret_wanted->is_own = find_own(table, overlay, request, name, &ret_wanted->view);
        if (ret_wanted->is_own)
                return;
        ret_wanted->standing = lock_standing(table, overlay, request, name, request->slots, &ret_wanted->view);
        ret_wanted->is_queued = lock_table_queue_length(table, name) > 0 || lock_table_find_delay(table, name, request->cluster_ms, &delay);
        /* Somebody's turn has not come for want of another lock. */
        if (ret_wanted->standing == FREE && !MUTATED(BARGE) && lock_table_find_next(table, name, request->cluster_ms, &next) && !MUTATED(SHARE_PASSES))
                *ret_wanted = (struct wanted){ .standing = OWNED, .is_queued = true };
}

/* All that is asked for, as one: what is worst of it. */
static void look_at_all(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request, struct wanted *ret_wanted)
{
        struct names_view further = request->further;
        struct lock_name name;

        look_at(table, overlay, request, &request->name, ret_wanted);
        while (names_view_take(&further, &name)) {
                struct wanted next;
                bool is_queued, is_own = ret_wanted->is_own;

                look_at(table, overlay, request, &name, &next);
                is_queued = ret_wanted->is_queued || next.is_queued;
                /* A part of it is held in the session already, or not as one: it cannot have all of it before that is given back. */
                if (next.is_own != is_own || (is_own && next.view.token != ret_wanted->view.token)) {
                        if (next.is_own)
                                *ret_wanted = next;
                        ret_wanted->is_own = false;
                        ret_wanted->standing = OWNED;
                        return;
                }
                if (ret_wanted->standing != OWNED && (next.standing == OWNED || ret_wanted->standing == FREE))
                        *ret_wanted = next;
                ret_wanted->is_queued = is_queued;
        }
}

static bool some_are_delayed(const struct lock_table *table, const struct lock_request *request, struct lock_decision *decision)
{
        struct names_view further = request->further;
        struct lock_name name;

        if (is_delayed(table, request, &request->name, decision))
                return true;
        while (names_view_take(&further, &name))
                if (is_delayed(table, request, &name, decision))
                        return true;
        return false;
}

static void decide_preempt(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request, struct lock_decision *decision)
{
        struct wanted wanted;

        if (request->session != 0 && !session_takes_locks(table, overlay, request)) {
                refuse_for_good(overlay, request, LOCK_NO_SESSION, NULL, decision);
                return;
        }
        look_at_all(table, overlay, request, &wanted);
        /* Who holds it in another way, or a part of it, cannot have it so before that is given back, also by waiting. */
        if (wanted.is_own)
                refuse(wanted.view.slots == request->slots ? LOCK_REENTERED : LOCK_HELD, &wanted.view, decision);
        else if (wanted.standing == OWNED && request->session != 0 && wanted.view.owner && wanted.view.session == request->session)
                refuse(LOCK_HELD, &wanted.view, decision);
        else if ((wanted.standing == FREE || request->wait) && was_granted_lately(table, request, decision))
                return;
        else if (request->wait)
                /* Who may wait need not be told who has it, and waits out what keeps everybody from having it. */
                accept_preempt(table, overlay, request,
                               wanted.standing == FREE && request->cluster_ms >= lock_table_quiet_until(table) && !wanted.is_queued ? LOCK_CHANGE_PREEMPT : LOCK_CHANGE_WAIT,
                               decision);
        else if (wanted.standing == UNSURE)
                refuse(LOCK_LATER, NULL, decision);
        else if (wanted.standing == OWNED)
                refuse(LOCK_HELD, wanted.view.owner ? &wanted.view : NULL, decision);
        else if (request->cluster_ms < lock_table_quiet_until(table))
                refuse(LOCK_QUIET, NULL, decision);
        else if (some_are_delayed(table, request, decision))
                return;
        else
                accept_preempt(table, overlay, request, LOCK_CHANGE_PREEMPT, decision);
}

/* Under the name of any of the locks that it waits for. */
static bool waits_as(const struct lock_table *table, const struct lock_request *request)
{
        const struct waiter_record *waiter = lock_table_get_waiter(table, request->token);
        const struct place *place;

        if (!waiter || !client_id_equal(&waiter->client->id, &request->client))
                return false;
        for (unsigned i = 0; (place = lock_table_place(waiter, i)); i++)
                if (lock_name_equal(&place->queue->name, &request->name))
                        return true;
        return false;
}

/* By the id of a waiter: it is given up whether it waits still or has got the lock, also in the very next entry. True: decided. */
static bool decide_leave(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request, struct lock_decision *decision)
{
        struct lock_view lock;
        bool waits = waits_as(table, request);
        bool holds = !request->if_waits && lock_table_find_waited(table, &request->name, request->token, &lock) && lock.token != request->token &&
                     strcmp(lock.owner, request->client.text) == 0;

        if (!waits && !holds)
                return false;
        if (lock_overlay_leaves(overlay, request->token) ||
            (holds && lock_overlay_gives_up(overlay, request->name.text, request->name.size, lock.token)))
                refuse(LOCK_LATER, NULL, decision);
        else
                accept_change(request, LOCK_CHANGE_LEAVE, request->token, decision);
        return true;
}

/* A4: the hold that was meant, and no other. */
static bool find_meant(const struct lock_table *table, const struct lock_request *request, struct lock_view *ret_view)
{
        if (MUTATED(RELEASE_ANY) && request->kind == LOCK_CHANGE_RELEASE)
                return lock_table_find_of(table, &request->name, request->client.text, 0, ret_view);
        return lock_table_find_hold(table, &request->name, request->token, ret_view) &&
               (request->kind == LOCK_CHANGE_BREAK || strcmp(ret_view->owner, request->client.text) == 0);
}

static void refuse_unmeant(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request, struct lock_decision *decision)
{
        struct lock_view view;
        enum standing standing = lock_standing(table, overlay, request, &request->name, 0, &view);

        if (standing == UNSURE)
                refuse(LOCK_LATER, NULL, decision);
        else
                refuse_for_good(overlay, request, LOCK_NOT_OWNER, standing == OWNED ? &view : NULL, decision);
}

/* Always possible: a full table must be able to empty itself. */
static void decide_release(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request, struct lock_decision *decision)
{
        struct lock_view view;
        bool meant = !request->if_waits && find_meant(table, request, &view);

        if (meant && !lock_is_freed_soon(table, overlay, &view))
                accept_change(request, LOCK_CHANGE_RELEASE, view.token, decision);
        else if (decide_leave(table, overlay, request, decision))
                return;
        else if (meant)
                refuse(LOCK_LATER, NULL, decision);
        else
                refuse_unmeant(table, overlay, request, decision);
}

static bool is_alone(const struct lock_table *table, const struct lock_view *lock)
{
        struct lock_session_view session;

        return !lock_table_find_session(table, lock->session, &session) || session.held == 1;
}

/* Those that are held with it may be given back, or kept, soon. */
static bool is_left_soon(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_view *lock)
{
        const struct session_record *session = lock_table_get_session(table, lock->session);
        const struct lock_record *other;

        if (!session || !session->lease)
                return false;
        TAILQ_FOREACH(other, &session->locks, in_session)
                if (lock_overlay_gives_up(overlay, other->name, other->name_size, other->token))
                        return true;
        return false;
}

/* At once, the whole lease ends: its holder is told by that. */
static void accept_break(const struct lock_request *request, const struct lock_view *lock, struct lock_decision *decision)
{
        accept_change(request, LOCK_CHANGE_BREAK, lock->token, decision);
        decision->change.session = request->now && lock->lease ? lock->session : 0;
}

/* L2: of the hold that was meant, as an operator saw it. */
static void decide_break(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request, struct lock_decision *decision)
{
        struct lock_view view;

        if (!find_meant(table, request, &view))
                refuse_unmeant(table, overlay, request, decision);
        else if (lock_is_freed_soon(table, overlay, &view))
                refuse(LOCK_LATER, NULL, decision);
        else if (view.session != 0 && !request->now && (!view.lease || !is_alone(table, &view)))
                refuse(is_left_soon(table, overlay, &view) ? LOCK_LATER : LOCK_NOT_ALONE, &view, decision);
        else
                accept_break(request, &view, decision);
}

static void decide_keep(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request, struct lock_decision *decision)
{
        struct lock_session_view session;
        struct lock_view view;

        if (!find_meant(table, request, &view))
                refuse_unmeant(table, overlay, request, decision);
        else if (lock_is_freed_soon(table, overlay, &view))
                refuse(LOCK_LATER, NULL, decision);
        else if (lock_table_find_session(table, view.session, &session) && session.broken)
                refuse(LOCK_NO_SESSION, NULL, decision);     /* L2: it is free when it is over */
        else
                accept_change(request, LOCK_CHANGE_KEEP, view.token, decision);
}

/* A lease that is about to be broken lives on, and who says that it shall not is told so when that is certain. */
static bool lease_is_broken_soon(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request)
{
        struct lock_session_view session;

        return lock_table_find_session(table, request->session, &session) && session.lease && strcmp(session.client, request->client.text) == 0 &&
               !lock_overlay_ends(overlay, request->session) && lock_overlay_breaks(overlay, session.lock, session.lock_size, session.token);
}

static void decide_close(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request, struct lock_decision *decision)
{
        if (session_lives(table, overlay, request))
                accept_change(request, request->kind, 0, decision);
        else if (lease_is_broken_soon(table, overlay, request))
                refuse(LOCK_LATER, NULL, decision);
        else
                refuse_for_good(overlay, request, LOCK_NO_SESSION, NULL, decision);
}

static void decide_renew(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request, struct lock_decision *decision)
{
        struct lock_session_view session;

        if (!session_is_renewed(table, overlay, request, &session)) {
                refuse_for_good(overlay, request, LOCK_NO_SESSION, NULL, decision);
        } else if (request->ttl_ms != 0 && request->ttl_ms != session.ttl_ms) {
                refuse(LOCK_OTHER_TTL, NULL, decision);
                decision->token = session.ttl_ms;
        } else {
                refuse(LOCK_RENEWED, NULL, decision);
        }
}

void lock_decide(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request,
                 struct lock_decision *ret_decision)
{
        *ret_decision = (struct lock_decision){ .verdict = LOCK_FULL };
        if (client_is_foreign(table, overlay, request)) {
                refuse(LOCK_FOREIGN_CLIENT, NULL, ret_decision);
                return;
        }
        if (request->kind != LOCK_RENEW && decide_repeated(table, overlay, request, ret_decision))
                return;
        switch ((int)request->kind) {
        case LOCK_CHANGE_CLIENT:
        case LOCK_CHANGE_CANCEL:
                if (!table_is_full(table, overlay))
                        accept_change(request, request->kind, 0, ret_decision);
                return;
        case LOCK_CHANGE_PREEMPT:
                decide_preempt(table, overlay, request, ret_decision);
                return;
        case LOCK_CHANGE_RELEASE:
                decide_release(table, overlay, request, ret_decision);
                return;
        case LOCK_CHANGE_BREAK:
                decide_break(table, overlay, request, ret_decision);
                return;
        case LOCK_CHANGE_KEEP:
                decide_keep(table, overlay, request, ret_decision);
                return;
        case LOCK_CHANGE_OPEN:
                if (!table_is_full(table, overlay) && !sessions_are_full(table, overlay))
                        accept_change(request, request->kind, 0, ret_decision);
                return;
        case LOCK_CHANGE_CLOSE:
                decide_close(table, overlay, request, ret_decision);
                return;
        case LOCK_RENEW:
                decide_renew(table, overlay, request, ret_decision);
                return;
        }
        assert(false);
}
