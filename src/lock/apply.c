/* apply.c - what a committed change does to the table: the only way a running table changes. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/mutation.h"
#include "lock/record.h"

static void set_idle(struct lock_table *table, struct client_record *client, bool idle)
{
        if (client->is_idle) {
                TAILQ_REMOVE(&table->idle, client, idle);
                table->idle_count--;
        }
        client->is_idle = idle;
        if (idle) {
                TAILQ_INSERT_TAIL(&table->idle, client, idle);
                table->idle_count++;
        }
}

/* A client is known from its first accepted change on. What a local user first used belongs to
 * that user; what came over insecure TCP belongs to the first local user who uses it. */
static struct client_record *touch_client(struct lock_table *table, const struct lock_moment *moment, const struct lock_change *change)
{
        struct client_record *client = lock_table_get_client(table, &change->client);

        if (!client) {
                client = lock_table_add_client(table, &change->client);
                client->principal = change->principal;
        } else if (strcmp(client->principal.text, LOCK_PRINCIPAL_TCP) == 0) {
                client->principal = change->principal;
        }
        client->last_index = moment->index;
        lock_table_mark_dirty(table, &client->record);
        return client;
}

/* Who breaks a lock has nothing from then on that it would have to be known for. */
static struct client_record *touch_owner(struct lock_table *table, const struct lock_moment *moment, const struct lock_change *change)
{
        struct lock_record *lock = lock_table_get_hold(table, &change->name, change->token);

        assert(lock);
        lock->owner->last_index = moment->index;
        lock_table_mark_dirty(table, &lock->owner->record);
        return lock->owner;
}

static void remember_result(struct lock_table *table, const struct lock_moment *moment, const struct lock_change *change, uint64_t token)
{
        struct result_record *result = lock_table_get_result(table, change->handle);

        if (result)
                TAILQ_REMOVE(&table->by_age, result, age);
        else
                result = lock_table_add_result(table, change->handle);
        TAILQ_INSERT_TAIL(&table->by_age, result, age);
        result->seq = change->seq;
        result->kind = change->kind;
        result->client = change->client;
        result->name = change->name;
        result->token = token;
        result->index = moment->index;
        result->cluster_ms = moment->cluster_ms;
        lock_table_mark_dirty(table, &result->record);
}

static void forget_delay(struct lock_table *table, struct delay_record *delay)
{
        lock_table_drop_delay(table, delay);
        lock_table_bury(table, &delay->record);
}

static void forget_period(struct lock_table *table, struct period_record *period)
{
        lock_table_drop_period(table, period);
        lock_table_bury(table, &period->record);
}

/* Results older than the retry window and clients long idle are left out. The bound keeps
 * one entry's effect small; every entry adds one of each at most, so the backlog shrinks. */
static void forget_old(struct lock_table *table, const struct lock_moment *moment)
{
        struct result_record *result;

        for (unsigned i = 0; i < LIMIT_ENTRY_RECORDS / 4; i++) {
                result = TAILQ_FIRST(&table->by_age);
                if (!result || moment->cluster_ms - result->cluster_ms <= LIMIT_REQUEST_KEPT_MS)
                        break;
                TAILQ_REMOVE(&table->by_age, result, age);
                lock_table_drop_result(table, result);
                lock_table_bury(table, &result->record);
        }
        for (unsigned i = 0; i < LIMIT_ENTRY_RECORDS / 16; i++) {
                struct period_record *period = lock_table_next_period(table, NULL);

                if (!period || moment->cluster_ms < period->end_ms)
                        break;
                forget_period(table, period);
        }
        for (unsigned i = 0; i < LOCK_FREED_PER_ENTRY; i++) {
                struct delay_record *delay = lock_table_next_delay(table, NULL);

                if (!delay || moment->cluster_ms < delay->end_ms)
                        break;
                forget_delay(table, delay);
        }
        for (unsigned i = 0; i < LIMIT_ENTRY_RECORDS / 4 && table->idle_count > LIMIT_CLIENTS_IDLE; i++) {
                struct client_record *client = TAILQ_FIRST(&table->idle);

                assert(client->held == 0);
                set_idle(table, client, false);
                lock_table_drop_client(table, client);
                lock_table_bury(table, &client->record);
        }
}

/* --- events --- */

void lock_table_set_events(struct lock_table *table, struct lock_events *events)
{
        table->events = events;
}

/* W1: from the change that is applied, where a record of a lock has come, or goes. */
static void tell(const struct lock_table *table, const struct lock_record *lock, enum lock_event_kind kind)
{
        if (!table->events)
                return;
        lock_events_add(table->events, &(struct lock_event){
                .kind = kind,
                .ttl_ms = lock->session ? lock->session->ttl_ms : 0,
                .index = table->last_index,
                .wall_ms = table->last_wall_ms,
                .token = lock->token,
                .session = lock->session ? lock->session->id : 0,
                .name = lock->name,
                .client = lock->owner->id.text,
                .name_size = lock->name_size,
                .client_size = lock->owner->id.size,
                .slots = lock->crowd ? lock->crowd->slots : 0,
                .holder = kind == LOCK_EVENT_GRANTED ? lock_record_holder(lock) : (struct holder_view){ .data = NULL },
        });
}

static enum lock_event_kind cause_of(enum lock_change_kind kind)
{
        if (kind == LOCK_CHANGE_CLOSE)
                return LOCK_EVENT_CLOSED;
        if (kind == LOCK_CHANGE_BREAK)
                return LOCK_EVENT_BROKEN;
        return kind == LOCK_CHANGE_EXPIRE ? LOCK_EVENT_EXPIRED : LOCK_EVENT_RELEASED;
}

/* --- sessions --- */

/* There is news of this waiter, or session: it is told once when both are one. */
static void settle(struct lock_table *table, uint64_t id)
{
        if (table->settled_count > 0 && table->settled[table->settled_count - 1] == id)
                return;
        assert(table->settled_count < LOCK_SETTLED_MAX);
        table->settled[table->settled_count++] = id;
}

static struct session_record *open_session(struct lock_table *table, const struct lock_moment *moment, const struct lock_change *change,
                                           struct client_record *client)
{
        bool lease = lock_change_wants(change->kind);
        struct session_record *session = lock_table_add_session(table, moment->index, lease ? (struct holder_view){ .data = NULL } : change->holder);

        assert(session);                     /* an index is one entry's */
        session->client = client;
        session->principal = change->principal;
        session->cluster_ms = moment->cluster_ms;
        session->wall_ms = moment->wall_ms;
        session->ttl_ms = change->ttl_ms;
        session->delay_ms = change->delay_ms;
        session->lease = lease;
        if (change->ttl_ms + change->delay_ms > table->promise.longest_ttl_ms) {
                table->promise.longest_ttl_ms = change->ttl_ms + change->delay_ms;
                lock_table_mark_dirty(table, &table->promise.record);
        }
        client->held++;
        set_idle(table, client, false);
        lock_table_mark_dirty(table, &session->record);
        return session;
}

static void let_go(struct lock_table *table, struct client_record *client)
{
        assert(client->held > 0);
        client->held--;
        if (client->held == 0)
                set_idle(table, client, true);
}

static void remove_session(struct lock_table *table, struct session_record *session)
{
        struct client_record *client = session->client;

        assert(session->held == 0);
        if (session->ended)
                TAILQ_REMOVE(&table->ended, session, end);
        else
                settle(table, session->id);
        lock_table_forget_session(table, session);
        lock_table_bury(table, &session->record);
        let_go(table, client);
}

/* The lock is in its session no more; a lease is nothing without any. */
static void leave_session(struct lock_table *table, struct lock_record *lock)
{
        struct session_record *session = lock->session;

        lock->session = NULL;
        if (!session)
                return;
        TAILQ_REMOVE(&session->locks, lock, in_session);
        session->held--;
        if (session->lease && session->held == 0)
                remove_session(table, session);
}

static void remove_lock(struct lock_table *table, struct lock_record *lock)
{
        struct client_record *owner = lock->owner;

        tell(table, lock, table->cause);
        lock_table_drop_lock(table, lock);
        leave_session(table, lock);
        lock_table_bury(table, &lock->record);
        let_go(table, owner);
}

/* The newest counts, and how long it said that it be remembered. */
static void remember_period(struct lock_table *table, const struct lock_moment *moment, const struct lock_name *name, const struct client_id *client,
                            uint64_t period_ms)
{
        struct period_record *period = lock_table_get_period(table, name);
        uint64_t end_ms = moment->cluster_ms + period_ms;

        if (period) {
                lock_table_move_period(table, period, end_ms);
        } else {
                period = lock_table_add_period(table, name, end_ms);
        }
        period->client = *client;
        period->token = moment->index;
        period->cluster_ms = moment->cluster_ms;
        lock_table_mark_dirty(table, &period->record);
}

/* --- the queue: who waits, in the order of the log --- */

static void hold_up(struct lock_table *table, struct queue_record *queue, bool held_up)
{
        if (queue->held_up == held_up)
                return;
        queue->held_up = held_up;
        if (held_up)
                TAILQ_INSERT_TAIL(&table->held_up, queue, held_up_link);
        else
                TAILQ_REMOVE(&table->held_up, queue, held_up_link);
}

/* No look is at all of them, and the others wait for a time. */
static void look_at_it_first(struct lock_table *table, struct queue_record *queue)
{
        TAILQ_REMOVE(&table->held_up, queue, held_up_link);
        TAILQ_INSERT_HEAD(&table->held_up, queue, held_up_link);
        table->is_due = true;
}

/* Who waits in vain may do so no more when the time has come; nobody who is behind one that has to wait is let in. */
void lock_table_look_after_queue(struct lock_table *table, struct queue_record *queue)
{
        const struct lock_record *held = lock_table_get_lock(table, queue->name.text, queue->name.size);
        const struct period_record *period = lock_table_get_period(table, &queue->name);
        struct place *place, *next;
        bool has_room = !held;

        for (place = TAILQ_FIRST(&queue->places); place; place = next) {
                next = TAILQ_NEXT(place, in_queue);
                if (place->waiter->session->ended) {
                        lock_table_step_aside(place);
                        continue;
                }
                has_room = lock_record_has_room(held, place->waiter->slots);
                if (has_room || !lock_record_is_in_vain(period, place->waiter->period_ms, table->last_cluster_ms))
                        break;
        }
        hold_up(table, queue, has_room);
        if (has_room && lock_table_next_in_queue(table, queue, table->last_cluster_ms))
                look_at_it_first(table, queue);
}

static void leave_queue(struct lock_table *table, struct place *place)
{
        struct queue_record *queue = place->queue;

        TAILQ_REMOVE(place->is_aside ? &queue->aside : &queue->places, place, in_queue);
        queue->count--;
        if (queue->count > 0)
                return;
        hold_up(table, queue, false);
        lock_table_drop_queue(table, queue);
        free(queue);
}

/* A lease that it waits in goes with it, unless it is handed on. */
static void remove_waiter(struct lock_table *table, struct waiter_record *waiter, bool got_it)
{
        struct session_record *session = waiter->session;
        struct client_record *client = waiter->client;
        struct place *place;

        settle(table, waiter->id);
        TAILQ_REMOVE(&session->waiters, waiter, in_session);
        session->held--;
        for (unsigned i = 0; (place = lock_table_place(waiter, i)); i++)
                leave_queue(table, place);
        lock_table_drop_waiter(table, waiter);
        lock_table_bury(table, &waiter->record);
        if (session->lease && !got_it)
                remove_session(table, session);
        let_go(table, client);
}

/* Promise 3: its request is answered from here on as this says. */
static void result_is(struct lock_table *table, const struct waiter_record *waiter, uint64_t token)
{
        struct result_record *result = lock_table_get_result(table, waiter->handle);

        if (!result || result->seq != waiter->seq || result->index != waiter->id)
                return;                      /* forgotten, or of a newer request */
        result->token = token;
        lock_table_mark_dirty(table, &result->record);
}

static void grant_one(struct lock_table *table, const struct lock_moment *moment, const struct waiter_record *waiter, const struct lock_name *name)
{
        struct lock_record *lock = lock_table_add_lock(table, &(struct hold){
                .name = name,
                .principal = &waiter->principal,
                .owner = waiter->client,
                .token = moment->index,
                .waiter = waiter->id,
                .slots = waiter->slots,
                .holder = { .data = waiter->holder, .size = waiter->holder_size },
        });

        assert(lock);                        /* promise 1 */
        lock->cluster_ms = moment->cluster_ms;
        lock->wall_ms = moment->wall_ms;
        lock_table_join_session(lock, waiter->session);
        tell(table, lock, LOCK_EVENT_GRANTED);
        if (waiter->period_ms != 0)
                remember_period(table, moment, name, &waiter->client->id, waiter->period_ms);
        lock_table_mark_dirty(table, &lock->record);
        table->granted_count++;
}

/* The locks of a waiter, by their names: what it stands in may go with it. */
static unsigned names_of(const struct waiter_record *waiter, struct lock_name names[LIMIT_LOCKS_AT_ONCE])
{
        const struct place *place;
        unsigned count = 0;

        for (; (place = lock_table_place(waiter, count)); count++)
                names[count] = place->queue->name;
        return count;
}

static void look_after(struct lock_table *table, const struct lock_name *name)
{
        struct queue_record *queue = lock_table_get_queue(table, name);

        if (queue)
                lock_table_look_after_queue(table, queue);
}

/* All that it waits for. */
static void grant(struct lock_table *table, const struct lock_moment *moment, struct waiter_record *waiter)
{
        struct lock_name names[LIMIT_LOCKS_AT_ONCE];
        unsigned count = names_of(waiter, names);

        for (unsigned i = 0; i < count; i++)
                grant_one(table, moment, waiter, &names[i]);
        result_is(table, waiter, moment->index);
        remove_waiter(table, waiter, true);
        for (unsigned i = 0; i < count; i++)
                look_after(table, &names[i]);
}

/* Whoever is next has it when there is room, but one by one: of what one entry grants of a lock the token is the name. And so many in all: the
 * leader sees to more of them. */
static void grant_next(struct lock_table *table, const struct lock_moment *moment, const struct lock_name *name)
{
        struct queue_record *queue = table->waiter_count > 0 ? lock_table_get_queue(table, name) : NULL;
        struct waiter_record *next = queue && !lock_table_get_hold(table, name, moment->index) ? lock_table_next_in_queue(table, queue, moment->cluster_ms) : NULL;

        if (next && table->granted_count + 1 + next->further_count <= LOCK_FREED_PER_ENTRY)
                grant(table, moment, next);
        else if (queue)
                lock_table_look_after_queue(table, queue);
}

/* Those behind it may be next. */
static unsigned send_away(struct lock_table *table, const struct lock_moment *moment, struct waiter_record *waiter)
{
        struct lock_name names[LIMIT_LOCKS_AT_ONCE];
        unsigned count = names_of(waiter, names);

        remove_waiter(table, waiter, false);
        for (unsigned i = 0; i < count; i++)
                grant_next(table, moment, &names[i]);
        return count;
}

/* L1: lost, not given back. */
static bool is_lost(const struct lock_table *table)
{
        return table->cause == LOCK_EVENT_EXPIRED || table->cause == LOCK_EVENT_BROKEN || MUTATED(DELAY_ON_RELEASE);
}

/* What ends later counts: that of a loss before may not be over. */
static void start_delay(struct lock_table *table, const struct lock_moment *moment, const struct lock_name *name, const struct lock_record *lock)
{
        uint64_t end_ms = moment->cluster_ms + lock->session->delay_ms;
        struct delay_record *delay = lock_table_get_delay(table, name);

        if (delay && delay->end_ms >= end_ms)
                return;
        if (delay)
                lock_table_move_delay(table, delay, end_ms);
        else
                delay = lock_table_add_delay(table, name, end_ms);
        delay->client = lock->owner->id;
        delay->token = lock->token;
        lock_table_mark_dirty(table, &delay->record);
}

/* Q2: the same change frees it and grants it, unless nobody is to have it yet. */
static void free_lock(struct lock_table *table, const struct lock_moment *moment, struct lock_record *lock)
{
        bool delays = lock->session && lock->session->delay_ms != 0 && is_lost(table);
        struct lock_name name;

        if (table->waiter_count == 0 && !delays) {
                remove_lock(table, lock);
                return;
        }
        name.size = lock->name_size;
        memcpy(name.text, lock->name, lock->name_size + 1u);
        if (delays)
                start_delay(table, moment, &name, lock);
        remove_lock(table, lock);
        grant_next(table, moment, &name);
}

/* What was taken together goes together; the lease goes with the last of it. */
static void end_lease(struct lock_table *table, const struct lock_moment *moment, struct session_record *session)
{
        for (uint64_t left = MUTATED(LEASE_IN_PARTS) ? 1 : session->held; left > 0; left--)
                free_lock(table, moment, TAILQ_FIRST(&session->locks));
}

/* Of what it holds so much as one entry may change; the leader sees to the rest by more of them. */
static void end_session(struct lock_table *table, const struct lock_moment *moment, uint64_t id)
{
        struct session_record *session = lock_table_get_session(table, id);

        if (!session)
                return;                      /* a lease that was released in the meantime */
        if (session->lease) {
                if (!TAILQ_EMPTY(&session->locks))
                        end_lease(table, moment, session);
                else if (!MUTATED(GHOST))
                        (void)send_away(table, moment, TAILQ_FIRST(&session->waiters));
                return;
        }
        if (!session->ended) {
                if (!MUTATED(END_UNSAID))
                        settle(table, session->id);
                session->ended = true;
                session->closed = table->cause == LOCK_EVENT_CLOSED;
                TAILQ_INSERT_TAIL(&table->ended, session, end);
                lock_table_mark_dirty(table, &session->record);
        }
        if (session->closed)
                table->cause = LOCK_EVENT_CLOSED;    /* what is left of it, too */
        for (unsigned freed = 0; freed < LOCK_FREED_PER_ENTRY && session->held > 0;) {
                /* L1: what it lost is known before who is behind its waiters may be let in. */
                if (!TAILQ_EMPTY(&session->locks)) {
                        free_lock(table, moment, TAILQ_FIRST(&session->locks));
                        freed++;
                } else {
                        freed += send_away(table, moment, TAILQ_FIRST(&session->waiters));
                }
        }
        if (session->held == 0)
                remove_session(table, session);
}

/* Returns the token when there was nobody to wait for; else 0. */
static uint64_t apply_wait(struct lock_table *table, const struct lock_moment *moment, const struct lock_change *change, struct client_record *client)
{
        struct session_record *session = change->ttl_ms != 0 ? open_session(table, moment, change, client) : lock_table_get_session(table, change->session);
        struct waiter_record *waiter;
        const struct place *place;

        assert(session && !session->ended && session->client == client);
        waiter = lock_table_add_waiter(table, moment->index, &change->name, change->further, client, session, change->holder);
        assert(waiter);                      /* an index is one entry's */
        waiter->principal = change->principal;
        waiter->handle = change->handle;
        waiter->seq = change->seq;
        waiter->cluster_ms = moment->cluster_ms;
        waiter->wall_ms = moment->wall_ms;
        waiter->period_ms = change->period_ms;
        waiter->slots = change->slots;
        lock_table_mark_dirty(table, &waiter->record);
        set_idle(table, client, false);
        /* The token would be the id of this waiter: whoever was there before is let in by an entry of the leader's. */
        if (lock_table_next_in_queue(table, waiter->first.queue, moment->cluster_ms) != waiter) {
                for (unsigned i = 0; (place = lock_table_place(waiter, i)); i++)
                        lock_table_look_after_queue(table, place->queue);
                return 0;
        }
        grant(table, moment, waiter);
        return moment->index;
}

/* It has left already when its session ended in the meantime, or it was said twice. */
static void apply_leave(struct lock_table *table, const struct lock_moment *moment, const struct lock_change *change)
{
        struct waiter_record *waiter = lock_table_get_waiter(table, change->token);
        struct lock_record *lock;

        if (waiter)
                (void)send_away(table, moment, waiter);
        else if (!MUTATED(LEFT_KEPT))
                while ((lock = lock_table_first_waited(table, change->token)))
                        free_lock(table, moment, lock);
}

/* L2: who holds a lease is told, by its next renewal at the latest, and stops; nobody gets the lock before the lease is over. */
static void apply_break(struct lock_table *table, const struct lock_moment *moment, const struct lock_change *change)
{
        struct lock_record *lock = lock_table_get_hold(table, &change->name, change->token);

        if (change->now || !lock->session || MUTATED(BREAK_NOW)) {
                if (lock->session && lock->session->lease)
                        end_lease(table, moment, lock->session);     /* its holder is told by that */
                else
                        free_lock(table, moment, lock);
                return;
        }
        assert(lock->session->lease);
        settle(table, lock->session->id);
        lock->session->broken = true;
        lock_table_mark_dirty(table, &lock->session->record);
}

static void keep(struct lock_table *table, struct lock_record *lock)
{
        leave_session(table, lock);
        lock_table_mark_dirty(table, &lock->record);
}

/* All that was taken together. */
static void keep_lease(struct lock_table *table, struct session_record *session)
{
        for (uint64_t left = session->held; left > 0; left--)
                keep(table, TAILQ_FIRST(&session->locks));
}

static void apply_keep(struct lock_table *table, const struct lock_change *change, const struct client_record *client)
{
        struct lock_record *lock = lock_table_get_hold(table, &change->name, change->token);

        assert(lock);
        assert(lock->owner == client);
        if (lock->session && lock->session->lease && !MUTATED(KEEP_IN_PARTS))
                keep_lease(table, lock->session);
        else
                keep(table, lock);
}

static void take(struct lock_table *table, const struct lock_moment *moment, const struct lock_change *change, const struct lock_name *name,
                 struct client_record *client, struct session_record *session)
{
        struct lock_record *lock = lock_table_add_lock(table, &(struct hold){
                .name = name,
                .principal = &change->principal,
                .owner = client,
                .token = MUTATED(TOKEN) ? client->held + 1 : moment->index,
                .slots = change->slots,
                .holder = change->holder,
        });

        assert(lock);                        /* promise 1: decided only when there was room */
        lock->cluster_ms = moment->cluster_ms;
        lock->wall_ms = moment->wall_ms;
        if (session)
                lock_table_join_session(lock, session);
        if (change->period_ms != 0)
                remember_period(table, moment, name, &change->client, change->period_ms);
        lock_table_mark_dirty(table, &lock->record);
        tell(table, lock, LOCK_EVENT_GRANTED);
        if (table->waiter_count > 0)
                look_after(table, name);
}

static void apply_preempt(struct lock_table *table, const struct lock_moment *moment, const struct lock_change *change,
                          struct client_record *client)
{
        struct names_view further = change->further;
        struct session_record *session = NULL;
        struct lock_name name;

        if (change->ttl_ms != 0)
                session = open_session(table, moment, change, client);
        else if (change->session != 0)
                session = lock_table_get_session(table, change->session);
        assert(change->session == 0 || (session && !session->ended && session->client == client));
        take(table, moment, change, &change->name, client, session);
        while (names_view_take(&further, &name))
                take(table, moment, change, &name, client, session);
        set_idle(table, client, false);
}

static void apply_release(struct lock_table *table, const struct lock_moment *moment, const struct lock_change *change, const struct client_record *client)
{
        struct lock_record *lock = lock_table_get_hold(table, &change->name, change->token);

        assert(lock);
        assert(lock->owner == client);
        if (MUTATED(PERIOD_RELEASED) && lock_table_get_period(table, &change->name))
                forget_period(table, lock_table_get_period(table, &change->name));
        free_lock(table, moment, lock);
}

void lock_table_apply(struct lock_table *table, const struct lock_moment *moment, const struct lock_change *change)
{
        struct client_record *client;
        uint64_t token = lock_change_token(change, moment->index);

        assert(moment->index > table->last_index);
        assert(moment->cluster_ms >= table->last_cluster_ms);
        table->last_index = moment->index;
        table->last_cluster_ms = moment->cluster_ms;
        table->last_wall_ms = moment->wall_ms;
        table->cause = cause_of(change->kind);
        table->settled_count = table->granted_count = 0;

        client = change->kind == LOCK_CHANGE_BREAK ? touch_owner(table, moment, change) : touch_client(table, moment, change);
        switch (change->kind) {
        case LOCK_CHANGE_CLIENT:
                break;
        case LOCK_CHANGE_CANCEL:
                if (change->token != 0)
                        apply_leave(table, moment, change);
                break;
        case LOCK_CHANGE_PREEMPT:
                apply_preempt(table, moment, change, client);
                break;
        case LOCK_CHANGE_WAIT:
                token = apply_wait(table, moment, change, client);
                break;
        case LOCK_CHANGE_RELEASE:
                apply_release(table, moment, change, client);
                break;
        case LOCK_CHANGE_LEAVE:
                apply_leave(table, moment, change);
                break;
        case LOCK_CHANGE_KEEP:
                apply_keep(table, change, client);
                break;
        case LOCK_CHANGE_BREAK:
                apply_break(table, moment, change);
                break;
        case LOCK_CHANGE_GRANT:
                grant_next(table, moment, &change->name);
                break;
        case LOCK_CHANGE_OPEN:
                (void)open_session(table, moment, change, client);
                break;
        case LOCK_CHANGE_CLOSE:
        case LOCK_CHANGE_EXPIRE:
                end_session(table, moment, change->session);
                break;
        }
        if (client->held == 0)
                set_idle(table, client, true);
        if (!lock_change_is_leaders(change->kind) && (!MUTATED(CANCEL_LOST) || change->kind != LOCK_CHANGE_CANCEL))
                remember_result(table, moment, change, token);
        forget_old(table, moment);
}
