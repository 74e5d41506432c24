#include "lock/decide.h"

#include <assert.h>
#include <string.h>

#include "base/mutation.h"
#include "lock/record.h"

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

static bool find_lock(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_name *name,
                      struct lock_view *ret_view)
{
        bool owned;

        if (!MUTATED(OVERLAY) && lock_overlay_find(overlay, name, &owned, ret_view))
                return owned;
        return lock_table_find(table, name, ret_view);
}

static bool same_request(const struct lock_result_view *result, const struct lock_request *request)
{
        bool same_kind = result->kind == request->kind || (request->kind == LOCK_CHANGE_CANCEL && result->kind != LOCK_CHANGE_CLIENT);

        if (request->kind == LOCK_CHANGE_RELEASE && result->token != request->token)
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
        decision->verdict = LOCK_REPEATED;
        decision->token = result.token;
        decision->index = result.index;
        if (result.kind == LOCK_CHANGE_PREEMPT || result.kind == LOCK_CHANGE_CLIENT || result.kind == LOCK_CHANGE_OPEN)
                copy_owner(&decision->owner, result.client);
        return true;
}

static void accept_change(const struct lock_request *request, uint64_t token, struct lock_decision *decision)
{
        decision->verdict = LOCK_ACCEPTED;
        decision->change = (struct lock_change){
                .kind = request->kind,
                .handle = request->handle,
                .seq = request->seq,
                .client = request->client,
                .principal = request->principal,
                .name = request->name,
                .token = token,
                .session = request->session,
                .ttl_ms = request->ttl_ms,
                .period_ms = request->period_ms,
                .holder = request->holder,
        };
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

        return lock_table_lock_count(table) + pending >= LIMIT_LOCKS || lock_table_result_count(table) + pending >= LIMIT_REQUESTS;
}

static bool sessions_are_full(const struct lock_table *table, const struct lock_overlay *overlay)
{
        return lock_table_session_count(table) + lock_overlay_count(overlay) >= LIMIT_LOCK_SESSIONS;
}

/* A lease goes with its lock, also when that was released by a change that is under way, or granted again since. */
static bool lease_is_kept(const struct lock_overlay *overlay, const struct lock_session_view *session)
{
        struct lock_name name = { 0 };
        struct lock_view view;
        bool owned, valid = lock_name_set(&name, session->lock, session->lock_size);

        assert(valid);
        return !lock_overlay_find(overlay, &name, &owned, &view) || (owned && view.session == session->id);
}

/* Of this client, and not about to end. Who knows a session's id knows that it is committed, so the table has it. */
static bool find_living(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request, struct lock_session_view *ret_session)
{
        return lock_table_find_session(table, request->session, ret_session) && !ret_session->ended &&
               (!lock_overlay_ends(overlay, request->session) || MUTATED(ENDED_LIVES)) && strcmp(ret_session->client, request->client.text) == 0 &&
               (!ret_session->lease || lease_is_kept(overlay, ret_session));
}

static bool session_lives(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request)
{
        struct lock_session_view session;

        return find_living(table, overlay, request, &session);
}

/* A lease is of one lock, and no other is held in it. */
static bool session_takes_locks(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request)
{
        struct lock_session_view session;

        return find_living(table, overlay, request, &session) && !session.lease;
}

/* T7: what its session held is freed by an entry that is under way, or by the next: until then nothing true can be said of the lock for long. */
static bool is_freed_soon(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_view *lock)
{
        struct lock_session_view session;

        return lock->session != 0 && (lock_overlay_ends(overlay, lock->session) || (lock_table_find_session(table, lock->session, &session) && session.ended));
}

/* D10: by the log's own time, which stands still while nobody leads. A grant that is not applied yet need not be asked about: nobody knows
 * its token, so the lock is held, or its session ends first (T7). True: decided. */
static bool was_granted_lately(const struct lock_table *table, const struct lock_request *request, struct lock_decision *decision)
{
        struct lock_period_view period;

        if (request->period_ms == 0)
                return false;
        if (!lock_table_find_period(table, &request->name, &period))
                return false;
        if (request->cluster_ms > period.cluster_ms && request->cluster_ms - period.cluster_ms >= request->period_ms)
                return false;
        decision->verdict = LOCK_TOO_SOON;
        decision->token = period.token;
        copy_owner(&decision->owner, period.client);
        return true;
}

static void decide_preempt(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request, struct lock_decision *decision)
{
        struct lock_view view;

        if (request->session != 0 && !session_takes_locks(table, overlay, request))
                refuse(LOCK_NO_SESSION, NULL, decision);
        else if (!find_lock(table, overlay, &request->name, &view)) {
                if (request->cluster_ms < lock_table_quiet_until(table)) {
                        refuse(LOCK_QUIET, NULL, decision);
                        return;
                }
                if (was_granted_lately(table, request, decision))
                        return;
                if (!table_is_full(table, overlay) && (request->ttl_ms == 0 || !sessions_are_full(table, overlay)) &&
                    (request->period_ms == 0 || lock_table_period_count(table) + lock_overlay_count(overlay) < LIMIT_PERIODS))
                        accept_change(request, 0, decision);
        } else if (is_freed_soon(table, overlay, &view)) {
                refuse(LOCK_LATER, NULL, decision);
        } else {
                refuse(LOCK_HELD, &view, decision);
        }
}

/* Always possible: a full table must be able to empty itself. */
static void decide_release(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request, struct lock_decision *decision)
{
        struct lock_view view;
        bool owned = find_lock(table, overlay, &request->name, &view);

        /* A4: of the hold that was meant. */
        bool own = owned && strcmp(view.owner, request->client.text) == 0 && (view.token == request->token || MUTATED(RELEASE_ANY));

        if (owned && is_freed_soon(table, overlay, &view))
                refuse(LOCK_LATER, NULL, decision);
        else if (own)
                accept_change(request, view.token, decision);
        else
                refuse(LOCK_NOT_OWNER, owned ? &view : NULL, decision);
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
                        accept_change(request, 0, ret_decision);
                return;
        case LOCK_CHANGE_PREEMPT:
                decide_preempt(table, overlay, request, ret_decision);
                return;
        case LOCK_CHANGE_RELEASE:
                decide_release(table, overlay, request, ret_decision);
                return;
        case LOCK_CHANGE_OPEN:
                if (!table_is_full(table, overlay) && !sessions_are_full(table, overlay))
                        accept_change(request, 0, ret_decision);
                return;
        case LOCK_CHANGE_CLOSE:
                if (session_lives(table, overlay, request))
                        accept_change(request, 0, ret_decision);
                else
                        refuse(LOCK_NO_SESSION, NULL, ret_decision);
                return;
        case LOCK_RENEW:
                refuse(session_lives(table, overlay, request) ? LOCK_RENEWED : LOCK_NO_SESSION, NULL, ret_decision);
                return;
        }
        assert(false);
}
