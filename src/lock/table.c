#include "lock/table.h"

#include <assert.h>
#include <bsd/sys/tree.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/mutation.h"
#include "lock/record.h"

static int compare_text(const char *a, size_t a_size, const char *b, size_t b_size)
{
        int order = memcmp(a, b, MIN(a_size, b_size));

        return order ? order : (a_size > b_size) - (a_size < b_size);
}

static int compare_numbers(uint64_t a, uint64_t b)
{
        return (a > b) - (a < b);
}

static int compare_locks(const struct lock_record *a, const struct lock_record *b)
{
        int order = compare_text(a->name, a->name_size, b->name, b->name_size);

        return order ? order : compare_numbers(a->token, b->token);
}

static int compare_waited(const struct lock_record *a, const struct lock_record *b)
{
        int order = compare_numbers(a->waiter, b->waiter);

        return order ? order : compare_text(a->name, a->name_size, b->name, b->name_size);
}

static int compare_clients(const struct client_record *a, const struct client_record *b)
{
        return compare_text(a->id.text, a->id.size, b->id.text, b->id.size);
}

static int compare_results(const struct result_record *a, const struct result_record *b)
{
        return id128_compare(a->handle, b->handle);
}

static int compare_sessions(const struct session_record *a, const struct session_record *b)
{
        return compare_numbers(a->id, b->id);
}

static int compare_waiters(const struct waiter_record *a, const struct waiter_record *b)
{
        return compare_numbers(a->id, b->id);
}

static int compare_queues(const struct queue_record *a, const struct queue_record *b)
{
        return compare_text(a->name.text, a->name.size, b->name.text, b->name.size);
}

static int compare_periods(const struct period_record *a, const struct period_record *b)
{
        return compare_text(a->name.text, a->name.size, b->name.text, b->name.size);
}

static int compare_period_ends(const struct period_record *a, const struct period_record *b)
{
        int order = compare_numbers(a->end_ms, b->end_ms);

        return order ? order : compare_periods(a, b);
}

static int compare_delays(const struct delay_record *a, const struct delay_record *b)
{
        return compare_text(a->name.text, a->name.size, b->name.text, b->name.size);
}

static int compare_delay_ends(const struct delay_record *a, const struct delay_record *b)
{
        int order = (a->end_ms > b->end_ms) - (a->end_ms < b->end_ms);

        return order ? order : compare_delays(a, b);
}

RB_GENERATE_INTERNAL(lock_tree, lock_record, node, compare_locks, _unused_ static)
RB_GENERATE_INTERNAL(waited_tree, lock_record, by_waiter, compare_waited, _unused_ static)
RB_GENERATE_INTERNAL(client_tree, client_record, node, compare_clients, _unused_ static)
RB_GENERATE_INTERNAL(result_tree, result_record, node, compare_results, _unused_ static)
RB_GENERATE_INTERNAL(session_record_tree, session_record, node, compare_sessions, _unused_ static)
RB_GENERATE_INTERNAL(waiter_tree, waiter_record, node, compare_waiters, _unused_ static)
RB_GENERATE_INTERNAL(queue_tree, queue_record, node, compare_queues, _unused_ static)
RB_GENERATE_INTERNAL(period_record_tree, period_record, node, compare_periods, _unused_ static)
RB_GENERATE_INTERNAL(period_end_tree, period_record, by_end, compare_period_ends, _unused_ static)
RB_GENERATE_INTERNAL(delay_record_tree, delay_record, node, compare_delays, _unused_ static)
RB_GENERATE_INTERNAL(delay_end_tree, delay_record, by_end, compare_delay_ends, _unused_ static)

struct lock_table *lock_table_new(void)
{
        struct lock_table *table = alloc_zeroed(1, sizeof(*table));

        RB_INIT(&table->locks);
        RB_INIT(&table->waited);
        RB_INIT(&table->clients);
        RB_INIT(&table->results);
        RB_INIT(&table->sessions);
        RB_INIT(&table->waiters);
        RB_INIT(&table->queues);
        TAILQ_INIT(&table->held_up);
        RB_INIT(&table->periods);
        RB_INIT(&table->period_ends);
        RB_INIT(&table->delays);
        RB_INIT(&table->delay_ends);
        TAILQ_INIT(&table->ended);
        table->promise.record.kind = LOCK_IMAGE_PROMISE;
        TAILQ_INIT(&table->idle);
        TAILQ_INIT(&table->by_age);
        TAILQ_INIT(&table->dirty);
        return table;
}

struct lock_table *lock_table_free(struct lock_table *table)
{
        struct lock_record *lock, *next_lock;
        struct client_record *client, *next_client;
        struct result_record *result, *next_result;
        struct session_record *session, *next_session;
        struct waiter_record *waiter, *next_waiter;
        struct queue_record *queue, *next_queue;
        struct period_record *period, *next_period;
        struct delay_record *delay, *next_delay;
        struct record *record;

        if (!table)
                return NULL;
        /* What is deleted but still dirty is in no tree any more. */
        while ((record = TAILQ_FIRST(&table->dirty))) {
                TAILQ_REMOVE(&table->dirty, record, dirty);
                if (record->deleted)
                        free(record);
        }
        RB_FOREACH_SAFE(lock, lock_tree, &table->locks, next_lock) {
                lock_table_drop_lock(table, lock);
                free(lock);
        }
        RB_FOREACH_SAFE(client, client_tree, &table->clients, next_client) {
                RB_REMOVE(client_tree, &table->clients, client);
                free(client);
        }
        RB_FOREACH_SAFE(result, result_tree, &table->results, next_result) {
                RB_REMOVE(result_tree, &table->results, result);
                free(result);
        }
        RB_FOREACH_SAFE(session, session_record_tree, &table->sessions, next_session) {
                RB_REMOVE(session_record_tree, &table->sessions, session);
                free(session);
        }
        RB_FOREACH_SAFE(waiter, waiter_tree, &table->waiters, next_waiter) {
                lock_table_drop_waiter(table, waiter);
                free(waiter);
        }
        RB_FOREACH_SAFE(queue, queue_tree, &table->queues, next_queue) {
                RB_REMOVE(queue_tree, &table->queues, queue);
                free(queue);
        }
        RB_FOREACH_SAFE(period, period_record_tree, &table->periods, next_period) {
                RB_REMOVE(period_record_tree, &table->periods, period);
                free(period);
        }
        RB_FOREACH_SAFE(delay, delay_record_tree, &table->delays, next_delay) {
                RB_REMOVE(delay_record_tree, &table->delays, delay);
                free(delay);
        }
        free(table);
        return NULL;
}

/* --- dirty records --- */

void lock_table_mark_dirty(struct lock_table *table, struct record *record)
{
        if (record->is_dirty)
                return;
        record->is_dirty = true;
        TAILQ_INSERT_TAIL(&table->dirty, record, dirty);
        table->dirty_count++;
}

void lock_table_bury(struct lock_table *table, struct record *record)
{
        if (!record->persisted) {
                if (record->is_dirty) {
                        TAILQ_REMOVE(&table->dirty, record, dirty);
                        table->dirty_count--;
                }
                free(record);
                return;
        }
        record->deleted = true;
        lock_table_mark_dirty(table, record);
}

/* --- the kinds of record --- */

struct lock_record *lock_table_get_lock(const struct lock_table *table, const char *name, size_t size)
{
        struct lock_record *lock = lock_table_seek_lock(table, name, size, 0, false);

        return lock && lock->name_size == size && memcmp(lock->name, name, size) == 0 ? lock : NULL;
}

struct lock_record *lock_table_get_hold(const struct lock_table *table, const struct lock_name *name, uint64_t token)
{
        struct lock_record probe = { .name_size = name->size, .name = name->text, .token = token };

        return RB_FIND(lock_tree, (struct lock_tree *)&table->locks, &probe);
}

struct lock_record *lock_table_get_waited(const struct lock_table *table, const struct lock_name *name, uint64_t waiter)
{
        struct lock_record probe = { .waiter = waiter, .name = name->text, .name_size = name->size };

        return RB_FIND(waited_tree, (struct waited_tree *)&table->waited, &probe);
}

struct lock_record *lock_table_first_waited(const struct lock_table *table, uint64_t waiter)
{
        struct lock_record probe = { .waiter = waiter, .name = "" };
        struct lock_record *lock = RB_NFIND(waited_tree, (struct waited_tree *)&table->waited, &probe);

        return lock && lock->waiter == waiter ? lock : NULL;
}

struct lock_record *lock_table_next_holder(struct lock_record *lock)
{
        struct lock_record *next = lock->crowd ? RB_NEXT(lock_tree, unused, lock) : NULL;

        return next && next->crowd == lock->crowd ? next : NULL;
}

bool lock_record_has_room(const struct lock_record *held, uint16_t slots)
{
        return !held || (slots != 0 && held->crowd && held->crowd->slots == slots && (held->crowd->count < slots_capacity(slots) || MUTATED(ONE_TOO_MANY)));
}

bool lock_table_has_room(const struct lock_table *table, const struct lock_name *name, uint16_t slots)
{
        return lock_record_has_room(lock_table_get_lock(table, name->text, name->size), slots);
}

struct client_record *lock_table_get_client(const struct lock_table *table, const struct client_id *id)
{
        struct client_record probe = { .id = *id };

        return RB_FIND(client_tree, (struct client_tree *)&table->clients, &probe);
}

struct result_record *lock_table_get_result(const struct lock_table *table, struct id128 handle)
{
        struct result_record probe = { .handle = handle };

        return RB_FIND(result_tree, (struct result_tree *)&table->results, &probe);
}

const char *lock_record_principal(const struct lock_record *lock)
{
        return (const char *)lock->data + lock->name_size + 1;
}

struct holder_view lock_record_holder(const struct lock_record *lock)
{
        return (struct holder_view){ .data = lock->data + lock->name_size + 1 + lock->principal_size + 1, .size = lock->holder_size };
}

static struct lock_record *new_lock(const struct hold *hold)
{
        struct lock_record *lock = alloc_zeroed(1, sizeof(*lock) + hold->name->size + 1u + hold->principal->size + 1u + hold->holder.size);
        uint8_t *data = lock->data;

        lock->record.kind = hold->slots == 0 ? LOCK_IMAGE_LOCK : LOCK_IMAGE_SHARE;
        memcpy(data, hold->name->text, hold->name->size);
        data += hold->name->size + 1;
        memcpy(data, hold->principal->text, hold->principal->size);
        data += hold->principal->size + 1;
        if (hold->holder.size > 0)
                memcpy(data, hold->holder.data, hold->holder.size);
        lock->name = (const char *)lock->data;
        lock->name_size = hold->name->size;
        lock->principal_size = hold->principal->size;
        lock->holder_size = hold->holder.size;
        lock->owner = hold->owner;
        lock->token = hold->token;
        lock->waiter = hold->waiter;
        return lock;
}

static void join_crowd(struct lock_record *lock, const struct lock_record *held, uint16_t slots)
{
        if (held) {
                lock->crowd = held->crowd;
        } else {
                lock->crowd = alloc_zeroed(1, sizeof(*lock->crowd));
                lock->crowd->slots = slots;
        }
        lock->crowd->count++;
}

struct lock_record *lock_table_add_lock(struct lock_table *table, const struct hold *hold)
{
        struct lock_record *held = lock_table_get_lock(table, hold->name->text, hold->name->size);
        struct lock_record *lock;

        if (!lock_record_has_room(held, hold->slots))
                return NULL;
        lock = new_lock(hold);
        if (RB_INSERT(lock_tree, &table->locks, lock)) {
                free(lock);
                return NULL;
        }
        if (lock->waiter != 0 && RB_INSERT(waited_tree, &table->waited, lock)) {
                RB_REMOVE(lock_tree, &table->locks, lock);
                free(lock);
                return NULL;
        }
        if (hold->slots != 0)
                join_crowd(lock, held, hold->slots);
        hold->owner->held++;
        table->lock_count++;
        return lock;
}

struct client_record *lock_table_add_client(struct lock_table *table, const struct client_id *id)
{
        struct client_record *client = alloc_zeroed(1, sizeof(*client));

        client->record.kind = LOCK_IMAGE_CLIENT;
        client->id = *id;
        if (RB_INSERT(client_tree, &table->clients, client)) {
                free(client);
                return NULL;
        }
        table->client_count++;
        return client;
}

struct result_record *lock_table_add_result(struct lock_table *table, struct id128 handle)
{
        struct result_record *result = alloc_zeroed(1, sizeof(*result));

        result->record.kind = LOCK_IMAGE_RESULT;
        result->handle = handle;
        if (RB_INSERT(result_tree, &table->results, result)) {
                free(result);
                return NULL;
        }
        table->result_count++;
        return result;
}

struct session_record *lock_table_add_session(struct lock_table *table, uint64_t id, struct holder_view holder)
{
        struct session_record *session = alloc_zeroed(1, sizeof(*session) + holder.size);

        session->record.kind = LOCK_IMAGE_SESSION;
        session->id = id;
        session->holder_size = holder.size;
        if (holder.size > 0)
                memcpy(session->holder, holder.data, holder.size);
        TAILQ_INIT(&session->locks);
        TAILQ_INIT(&session->waiters);
        if (RB_INSERT(session_record_tree, &table->sessions, session)) {
                free(session);
                return NULL;
        }
        table->session_count++;
        return session;
}

struct session_record *lock_table_get_session(const struct lock_table *table, uint64_t id)
{
        struct session_record probe = { .id = id };

        return RB_FIND(session_record_tree, (struct session_record_tree *)&table->sessions, &probe);
}

struct session_record *lock_table_session_after(const struct lock_table *table, uint64_t id)
{
        struct session_record probe = { .id = id + 1 };

        return id == UINT64_MAX ? NULL : RB_NFIND(session_record_tree, (struct session_record_tree *)&table->sessions, &probe);
}

struct waiter_record *lock_table_waiter_after(const struct lock_table *table, uint64_t id)
{
        struct waiter_record probe = { .id = id + 1 };

        return id == UINT64_MAX ? NULL : RB_NFIND(waiter_tree, (struct waiter_tree *)&table->waiters, &probe);
}

struct waiter_record *lock_table_get_waiter(const struct lock_table *table, uint64_t id)
{
        struct waiter_record probe = { .id = id };

        return RB_FIND(waiter_tree, (struct waiter_tree *)&table->waiters, &probe);
}

struct queue_record *lock_table_get_queue(const struct lock_table *table, const struct lock_name *name)
{
        struct queue_record probe;

        probe.name = *name;
        return RB_FIND(queue_tree, (struct queue_tree *)&table->queues, &probe);
}

struct queue_record *lock_table_next_queue(struct lock_table *table, struct queue_record *queue)
{
        return queue ? RB_NEXT(queue_tree, &table->queues, queue) : RB_MIN(queue_tree, &table->queues);
}

static struct queue_record *need_queue(struct lock_table *table, const struct lock_name *name)
{
        struct queue_record *queue = lock_table_get_queue(table, name);

        if (queue)
                return queue;
        queue = alloc_zeroed(1, sizeof(*queue));
        queue->name = *name;
        TAILQ_INIT(&queue->places);
        TAILQ_INIT(&queue->aside);
        (void)RB_INSERT(queue_tree, &table->queues, queue);
        return queue;
}

struct place *lock_table_place(const struct waiter_record *waiter, unsigned i)
{
        return i == 0 ? (struct place *)&waiter->first : i <= waiter->further_count ? &waiter->further[i - 1] : NULL;
}

static void stand_in(struct lock_table *table, struct waiter_record *waiter, struct place *place, const struct lock_name *name)
{
        place->waiter = waiter;
        place->queue = need_queue(table, name);
        TAILQ_INSERT_TAIL(&place->queue->places, place, in_queue);
        place->queue->count++;
}

void lock_table_step_aside(struct place *place)
{
        TAILQ_REMOVE(&place->queue->places, place, in_queue);
        TAILQ_INSERT_TAIL(&place->queue->aside, place, in_queue);
        place->is_aside = true;
}

struct waiter_record *lock_table_add_waiter(struct lock_table *table, uint64_t id, const struct lock_name *name, struct names_view further,
                                            struct client_record *client, struct session_record *session, struct holder_view holder)
{
        struct lock_name next;
        struct waiter_record *waiter = alloc_zeroed(1, sizeof(*waiter) + holder.size);

        waiter->record.kind = LOCK_IMAGE_WAITER;
        waiter->id = id;
        waiter->client = client;
        waiter->session = session;
        waiter->holder_size = holder.size;
        if (holder.size > 0)
                memcpy(waiter->holder, holder.data, holder.size);
        if (RB_INSERT(waiter_tree, &table->waiters, waiter)) {
                free(waiter);
                return NULL;
        }
        stand_in(table, waiter, &waiter->first, name);
        if (further.count > 0)
                waiter->further = alloc_zeroed(further.count, sizeof(waiter->further[0]));
        while (names_view_take(&further, &next))
                stand_in(table, waiter, &waiter->further[waiter->further_count++], &next);
        TAILQ_INSERT_TAIL(&session->waiters, waiter, in_session);
        session->held++;
        client->held++;
        table->waiter_count++;
        return waiter;
}

struct period_record *lock_table_get_period(const struct lock_table *table, const struct lock_name *name)
{
        struct period_record probe = { .name = *name };

        return RB_FIND(period_record_tree, (struct period_record_tree *)&table->periods, &probe);
}

struct period_record *lock_table_next_period(struct lock_table *table, struct period_record *period)
{
        return period ? RB_NEXT(period_end_tree, &table->period_ends, period) : RB_MIN(period_end_tree, &table->period_ends);
}

struct period_record *lock_table_add_period(struct lock_table *table, const struct lock_name *name, uint64_t end_ms)
{
        struct period_record *period = alloc_zeroed(1, sizeof(*period));

        period->record.kind = LOCK_IMAGE_PERIOD;
        period->name = *name;
        period->end_ms = end_ms;
        if (RB_INSERT(period_record_tree, &table->periods, period)) {
                free(period);
                return NULL;
        }
        (void)RB_INSERT(period_end_tree, &table->period_ends, period);
        table->period_count++;
        return period;
}

struct delay_record *lock_table_get_delay(const struct lock_table *table, const struct lock_name *name)
{
        struct delay_record probe;

        if (table->delay_count == 0)
                return NULL;                 /* it is asked of every lock that is wanted */
        probe.name = *name;
        return RB_FIND(delay_record_tree, (struct delay_record_tree *)&table->delays, &probe);
}

struct delay_record *lock_table_next_delay(struct lock_table *table, struct delay_record *delay)
{
        return delay ? RB_NEXT(delay_end_tree, &table->delay_ends, delay) : RB_MIN(delay_end_tree, &table->delay_ends);
}

struct delay_record *lock_table_add_delay(struct lock_table *table, const struct lock_name *name, uint64_t end_ms)
{
        struct delay_record *delay = alloc_zeroed(1, sizeof(*delay));

        delay->record.kind = LOCK_IMAGE_DELAY;
        delay->name = *name;
        delay->end_ms = end_ms;
        if (RB_INSERT(delay_record_tree, &table->delays, delay)) {
                free(delay);
                return NULL;
        }
        (void)RB_INSERT(delay_end_tree, &table->delay_ends, delay);
        table->delay_count++;
        return delay;
}

void lock_table_forget_session(struct lock_table *table, struct session_record *session)
{
        RB_REMOVE(session_record_tree, &table->sessions, session);
        table->session_count--;
}

int lock_record_compare_grants(const struct lock_record *a, const struct lock_record *b)
{
        int order = compare_numbers(a->token, b->token);

        return order ? order : compare_text(a->name, a->name_size, b->name, b->name_size);
}

void lock_table_join_session(struct lock_record *lock, struct session_record *session)
{
        struct lock_record *before = TAILQ_LAST(&session->locks, lock_list);

        lock->session = session;
        session->held++;
        while (before && before->token == lock->token && lock_record_compare_grants(before, lock) > 0)
                before = TAILQ_PREV(before, lock_list, in_session);
        if (before)
                TAILQ_INSERT_AFTER(&session->locks, before, lock, in_session);
        else
                TAILQ_INSERT_HEAD(&session->locks, lock, in_session);
}

struct client_record *lock_table_next_client(struct lock_table *table, struct client_record *client)
{
        return client ? RB_NEXT(client_tree, &table->clients, client) : RB_MIN(client_tree, &table->clients);
}

/* --- out of the trees: what is taken out is the caller's --- */

void lock_table_drop_lock(struct lock_table *table, struct lock_record *lock)
{
        RB_REMOVE(lock_tree, &table->locks, lock);
        if (lock->waiter != 0)
                RB_REMOVE(waited_tree, &table->waited, lock);
        if (lock->crowd && --lock->crowd->count == 0)
                free(lock->crowd);
        table->lock_count--;
}

void lock_table_drop_client(struct lock_table *table, struct client_record *client)
{
        RB_REMOVE(client_tree, &table->clients, client);
        table->client_count--;
}

void lock_table_drop_result(struct lock_table *table, struct result_record *result)
{
        RB_REMOVE(result_tree, &table->results, result);
        table->result_count--;
}

void lock_table_drop_waiter(struct lock_table *table, struct waiter_record *waiter)
{
        RB_REMOVE(waiter_tree, &table->waiters, waiter);
        table->waiter_count--;
        free(waiter->further);
        waiter->further = NULL;
        waiter->further_count = 0;
}

void lock_table_drop_queue(struct lock_table *table, struct queue_record *queue)
{
        RB_REMOVE(queue_tree, &table->queues, queue);
}

void lock_table_drop_period(struct lock_table *table, struct period_record *period)
{
        RB_REMOVE(period_record_tree, &table->periods, period);
        RB_REMOVE(period_end_tree, &table->period_ends, period);
        table->period_count--;
}

void lock_table_drop_delay(struct lock_table *table, struct delay_record *delay)
{
        RB_REMOVE(delay_record_tree, &table->delays, delay);
        RB_REMOVE(delay_end_tree, &table->delay_ends, delay);
        table->delay_count--;
}

/* --- steps from one to the next --- */

void lock_table_move_period(struct lock_table *table, struct period_record *period, uint64_t end_ms)
{
        RB_REMOVE(period_end_tree, &table->period_ends, period);
        period->end_ms = end_ms;
        (void)RB_INSERT(period_end_tree, &table->period_ends, period);
}

void lock_table_move_delay(struct lock_table *table, struct delay_record *delay, uint64_t end_ms)
{
        RB_REMOVE(delay_end_tree, &table->delay_ends, delay);
        delay->end_ms = end_ms;
        (void)RB_INSERT(delay_end_tree, &table->delay_ends, delay);
}

struct lock_record *lock_table_seek_lock(const struct lock_table *table, const char *name, size_t size, uint64_t token, bool behind)
{
        struct lock_record probe = { .name = name, .name_size = (uint8_t)size, .token = token };
        struct lock_record *lock = RB_NFIND(lock_tree, (struct lock_tree *)&table->locks, &probe);

        return lock && behind && compare_locks(lock, &probe) == 0 ? RB_NEXT(lock_tree, &table->locks, lock) : lock;
}
