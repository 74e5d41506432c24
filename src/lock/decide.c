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
        if (result.kind == LOCK_CHANGE_PREEMPT || result.kind == LOCK_CHANGE_CLIENT)
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

void lock_decide(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request,
                 struct lock_decision *ret_decision)
{
        struct lock_view view;
        bool owned;

        *ret_decision = (struct lock_decision){ .verdict = LOCK_FULL };
        if (client_is_foreign(table, overlay, request)) {
                refuse(LOCK_FOREIGN_CLIENT, NULL, ret_decision);
                return;
        }
        if (decide_repeated(table, overlay, request, ret_decision))
                return;
        switch (request->kind) {
        case LOCK_CHANGE_CLIENT:
        case LOCK_CHANGE_CANCEL:
                if (!table_is_full(table, overlay))
                        accept_change(request, 0, ret_decision);
                return;
        case LOCK_CHANGE_PREEMPT:
                owned = find_lock(table, overlay, &request->name, &view);
                if (owned)
                        refuse(LOCK_HELD, &view, ret_decision);
                else if (!table_is_full(table, overlay))
                        accept_change(request, 0, ret_decision);
                return;
        case LOCK_CHANGE_RELEASE:
                /* Always possible: a full table must be able to empty itself. */
                owned = find_lock(table, overlay, &request->name, &view);
                /* A4: of the hold that was meant. */
                if (owned && strcmp(view.owner, request->client.text) == 0 && (view.token == request->token || MUTATED(RELEASE_ANY)))
                        accept_change(request, view.token, ret_decision);
                else
                        refuse(LOCK_NOT_OWNER, owned ? &view : NULL, ret_decision);
                return;
        }
        assert(false);
}
