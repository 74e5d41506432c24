/* standing.c - who has a lock when everything appended is applied, as far as that can be said: what the leader decides on. */
#include "lock/standing.h"

#include "base/mutation.h"
#include "lock/record.h"

bool lock_is_freed_soon(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_view *lock)
{
        struct lock_session_view session;

        if (lock_overlay_gives_up(overlay, lock->name, lock->name_size, lock->token) ||
            (lock->waiter != 0 && lock_overlay_leaves(overlay, lock->waiter)))
                return true;
        return lock->session != 0 && (lock_overlay_ends(overlay, lock->session) || (lock_table_find_session(table, lock->session, &session) && session.ended));
}

/* So many of those who hold it are looked at, for one who goes on to hold it. */
#define HOLDERS_LOOKED_AT 32

/* Who owns it, and is not about to lose it. False: nobody is seen who does, which is to be asked again. */
static bool find_remaining(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_name *name, const struct lock_overlay_holds *pending,
                           struct lock_view *ret_view)
{
        uint64_t token = 0;

        if (pending->granted > 0 && !lock_is_freed_soon(table, overlay, &pending->newest)) {
                *ret_view = pending->newest;
                return true;
        }
        for (unsigned i = 0; i < HOLDERS_LOOKED_AT && lock_table_next_hold(table, name, token, ret_view); i++) {
                if (!lock_is_freed_soon(table, overlay, ret_view))
                        return true;
                token = ret_view->token;
        }
        return false;
}

/* What it held is freed in more than one step. */
static bool some_have_ended(const struct lock_table *table)
{
        struct lock_session_view ended;

        return lock_table_next_ended(table, 0, &ended);
}

/* L1: what one of them is about to lose may be nobody's for a while. */
static bool is_lost_soon(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_name *name)
{
        struct lock_session_view session;
        struct lock_view view = { .token = 0 };

        if (!lock_overlay_takes_some(overlay) && !some_have_ended(table))
                return false;
        while (lock_table_next_hold(table, name, view.token, &view))
                if (view.delay_ms != 0 && (lock_overlay_expires(overlay, view.session) || lock_overlay_takes_away(overlay, view.name, view.name_size, view.token) ||
                                           (lock_table_find_session(table, view.session, &session) && session.ended)))
                        return true;
        return false;
}

/* More of them are about to be free than are counted. */
static bool is_freed_beside(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_name *name, size_t counted)
{
        struct lock_view view = { .token = 0 };
        size_t freed = 0;

        if (!lock_overlay_ends_some(overlay) && !some_have_ended(table))
                return false;
        while (freed <= counted && lock_table_next_hold(table, name, view.token, &view))
                freed += lock_is_freed_soon(table, overlay, &view);
        return freed > counted;
}

/* So many may be let in before those who come after them: whoever comes to wait gets in at once. */
static bool is_queue_sure(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request, uint16_t slots, size_t room)
{
        size_t come;

        if (!lock_overlay_waits(overlay, &request->name))
                return true;
        return lock_table_is_open(table, &request->name) && lock_overlay_waits_alike(overlay, &request->name, slots, &come) && come < room;
}

/* There is room for so many more, and one who comes must not pass those who came before. */
static enum standing look_at_queue(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request, uint16_t slots, size_t room)
{
        const struct lock_name *name = &request->name;
        struct lock_waiter_view first;

        if (is_lost_soon(table, overlay, name))
                return UNSURE;
        if (MUTATED(SHARE_PASSES))
                return FREE;
        if (lock_table_is_due(table, name, request->cluster_ms))
                return UNSURE;
        if (!lock_table_find_next(table, name, request->cluster_ms, &first))
                return is_queue_sure(table, overlay, request, slots, room) ? FREE : UNSURE;
        /* Those behind it may be next; whoever comes to wait by what is under way is one of them. */
        return lock_overlay_leaves(overlay, first.id) || lock_overlay_ends(overlay, first.session) ? UNSURE : OWNED;
}

static bool is_leaving(const struct lock_overlay *overlay, const struct waiter_record *waiter)
{
        return lock_overlay_leaves(overlay, waiter->id) || lock_overlay_ends(overlay, waiter->session->id);
}

/* It goes on to wait, whatever is under way: somebody holds one of its other locks who is not about to lose it, or is before it there and gives that up in
 * no way. Who wants that once in a period may have come to be before it just now. */
static bool is_kept_waiting(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request, const struct waiter_record *waiter)
{
        const struct waiter_record *before;
        const struct place *place;
        struct lock_view view;

        for (unsigned i = 0; waiter->further_count > 0 && (place = lock_table_place(waiter, i)); i++) {
                if (lock_table_find(table, &place->queue->name, &view) && !lock_is_freed_soon(table, overlay, &view))
                        return true;
                before = lock_table_first_in_queue(table, place->queue, request->cluster_ms);
                if (before && before != waiter && before->period_ms == 0 && !is_leaving(overlay, before))
                        return true;
        }
        return false;
}

/* The lock is free, but somebody waits for it who waits for others, too: what is under way may give it all of them, or send it away. */
static bool moves_soon(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request, const struct lock_name *name)
{
        const struct waiter_record *first = lock_table_first_in_queue(table, lock_table_get_queue(table, name), request->cluster_ms), *before;
        const struct place *place;
        struct lock_overlay_holds pending;
        struct lock_view view;

        if (is_leaving(overlay, first))
                return true;
        if (is_kept_waiting(table, overlay, request, first))
                return false;
        for (unsigned i = 0; (place = lock_table_place(first, i)); i++) {
                before = lock_table_first_in_queue(table, place->queue, request->cluster_ms);
                if (lock_overlay_find(overlay, &place->queue->name, &pending) || lock_overlay_lets_in(overlay, &place->queue->name) ||
                    (lock_table_find(table, &place->queue->name, &view) && lock_is_freed_soon(table, overlay, &view)))
                        return true;
                if (before && before != first && is_leaving(overlay, before))
                        return true;
        }
        return false;
}

/* Whatever is under way, nobody has it before a time that has not come. */
static bool is_nobodys_yet(const struct lock_table *table, const struct lock_name *name, uint64_t cluster_ms)
{
        struct lock_delay_view delay;

        return cluster_ms < lock_table_quiet_until(table) || lock_table_find_delay(table, name, cluster_ms, &delay);
}

/* Who owns the lock when everything appended is applied, as far as that concerns who wants it so. More may be freed by then than is
 * counted here, and nobody gets in that is not. */
enum standing lock_standing(const struct lock_table *table, const struct lock_overlay *overlay, const struct lock_request *request, const struct lock_name *name,
                            uint16_t slots, struct lock_view *ret_view)
{
        struct lock_overlay_holds pending = { .granted = 0 };
        struct lock_waiter_view next;
        bool is_held = lock_table_find(table, name, ret_view);
        size_t holders = is_held ? ret_view->holders : 0;
        uint16_t held_as = is_held ? ret_view->slots : 0;

        if (!MUTATED(OVERLAY) && lock_overlay_find(overlay, name, &pending)) {
                holders = holders + pending.granted - pending.released;
                if (pending.granted > 0)
                        held_as = pending.newest.slots;
        }
        if (!is_held && pending.granted == 0 && is_nobodys_yet(table, name, request->cluster_ms))
                return FREE;
        /* Whoever comes to wait by what is under way is behind it. When its turn has come the leader says so soon, or the next of its queue that leaves. */
        if (holders == 0 && lock_table_find_next(table, name, request->cluster_ms, &next) && !MUTATED(BARGE))
                return lock_table_is_due(table, name, request->cluster_ms) || moves_soon(table, overlay, request, name) ? UNSURE : FREE;
        if (holders == 0)
                return (lock_overlay_waits(overlay, name) || (is_held && lock_table_queue_length(table, name) > 0)) && !MUTATED(BARGE) ? UNSURE : FREE;
        if (slots != 0 && held_as == slots) {
                size_t most = slots_capacity(slots);
                enum standing standing = holders < most ? look_at_queue(table, overlay, request, slots, most - holders) :
                                         is_freed_beside(table, overlay, name, pending.released) ? UNSURE : OWNED;

                /* What comes and is lost, or given back, by what is under way; and whether it comes too soon after one of those: that is seen in the table. */
                if (pending.ends || (request->period_ms != 0 && pending.once))
                        return UNSURE;
                if (standing != OWNED)
                        return standing;
        }
        return find_remaining(table, overlay, name, &pending, ret_view) ? OWNED : UNSURE;
}
