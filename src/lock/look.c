/* look.c - what a table tells. */
#include <assert.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/mutation.h"
#include "lock/record.h"

static void view_lock(const struct lock_record *lock, struct lock_view *ret_view)
{
        *ret_view = (struct lock_view){
                .name = lock->name,
                .name_size = lock->name_size,
                .owner = lock->owner->id.text,
                .principal = lock_record_principal(lock),
                .holder = lock_record_holder(lock),
                .token = lock->token,
                .waiter = lock->waiter,
                .session = lock->session ? lock->session->id : 0,
                .ttl_ms = lock->session ? lock->session->ttl_ms : 0,
                .delay_ms = lock->session ? lock->session->delay_ms : 0,
                .lease = lock->session && lock->session->lease,
                .broken = lock->session && lock->session->broken,
                .slots = lock->crowd ? lock->crowd->slots : 0,
                .holders = lock->crowd ? lock->crowd->count : 1,
                .since_cluster_ms = lock->cluster_ms,
                .since_wall_ms = lock->wall_ms,
        };
}

bool lock_table_find(const struct lock_table *table, const struct lock_name *name, struct lock_view *ret_view)
{
        const struct lock_record *lock = lock_table_get_lock(table, name->text, name->size);

        if (!lock)
                return false;
        view_lock(lock, ret_view);
        return true;
}

bool lock_table_next_hold(const struct lock_table *table, const struct lock_name *name, uint64_t after_token, struct lock_view *ret_view)
{
        const struct lock_record *lock = lock_table_seek_lock(table, name->text, name->size, after_token, true);

        if (!lock || lock->name_size != name->size || memcmp(lock->name, name->text, name->size) != 0)
                return false;
        view_lock(lock, ret_view);
        return true;
}

bool lock_table_find_hold(const struct lock_table *table, const struct lock_name *name, uint64_t token, struct lock_view *ret_view)
{
        const struct lock_record *lock = lock_table_get_hold(table, name, token);

        if (lock)
                view_lock(lock, ret_view);
        return lock;
}

bool lock_table_find_waited(const struct lock_table *table, const struct lock_name *name, uint64_t waiter, struct lock_view *ret_view)
{
        const struct lock_record *lock = lock_table_get_waited(table, name, waiter);

        if (lock)
                view_lock(lock, ret_view);
        return lock;
}

bool lock_table_find_of(const struct lock_table *table, const struct lock_name *name, const char *client, uint64_t session, struct lock_view *ret_view)
{
        struct lock_record *lock = lock_table_get_lock(table, name->text, name->size);

        for (; lock; lock = lock_table_next_holder(lock))
                if (session != 0 ? lock->session && lock->session->id == session : strcmp(lock->owner->id.text, client) == 0) {
                        view_lock(lock, ret_view);
                        return true;
                }
        return false;
}

bool lock_table_find_client(const struct lock_table *table, const struct client_id *id, struct lock_client_view *ret_view)
{
        const struct client_record *client = lock_table_get_client(table, id);

        if (!client)
                return false;
        *ret_view = (struct lock_client_view){
                .principal = client->principal.text,
                .last_index = client->last_index,
                .held = client->held,
        };
        return true;
}

bool lock_table_find_result(const struct lock_table *table, struct id128 handle, struct lock_result_view *ret_view)
{
        const struct result_record *result = lock_table_get_result(table, handle);

        if (!result)
                return false;
        *ret_view = (struct lock_result_view){
                .seq = result->seq,
                .kind = result->kind,
                .name = result->name.text,
                .name_size = result->name.size,
                .client = result->client.text,
                .token = result->token,
                .index = result->index,
        };
        return true;
}

static bool view_session(const struct session_record *session, struct lock_session_view *ret_view)
{
        const struct lock_record *lock;
        const struct waiter_record *waiter;

        if (!session)
                return false;
        lock = session->lease ? TAILQ_FIRST(&session->locks) : NULL;
        waiter = session->lease ? TAILQ_FIRST(&session->waiters) : NULL;
        *ret_view = (struct lock_session_view){
                .id = session->id,
                .client = session->client->id.text,
                .principal = session->principal.text,
                .lock = lock ? lock->name : waiter ? waiter->first.queue->name.text : "",
                .lock_size = lock ? lock->name_size : waiter ? waiter->first.queue->name.size : 0,
                .token = lock ? lock->token : waiter ? waiter->id : 0,
                .ttl_ms = session->ttl_ms,
                .delay_ms = session->delay_ms,
                .lease = session->lease,
                .ended = session->ended,
                .broken = session->broken,
                .held = session->held,
        };
        return true;
}

static void view_waiter(const struct waiter_record *waiter, struct lock_waiter_view *ret_view)
{
        *ret_view = (struct lock_waiter_view){
                .id = waiter->id,
                .name = waiter->first.queue->name.text,
                .name_size = waiter->first.queue->name.size,
                .client = waiter->client->id.text,
                .principal = waiter->principal.text,
                .session = waiter->session->id,
                .period_ms = waiter->period_ms,
                .slots = waiter->slots,
        };
}

bool lock_table_find_waiter(const struct lock_table *table, uint64_t id, struct lock_waiter_view *ret_view)
{
        const struct waiter_record *waiter = lock_table_get_waiter(table, id);

        if (waiter)
                view_waiter(waiter, ret_view);
        return waiter;
}

static const struct place *place_in(const struct waiter_record *waiter, const struct queue_record *queue)
{
        const struct place *place;

        for (unsigned i = 0; waiter && (place = lock_table_place(waiter, i)); i++)
                if (place->queue == queue && !place->is_aside)
                        return place;
        return NULL;
}

bool lock_table_next_waiting(const struct lock_table *table, const struct lock_name *name, uint64_t after, struct lock_view *ret_view)
{
        const struct queue_record *queue = table->waiter_count > 0 ? lock_table_get_queue(table, name) : NULL;
        const struct place *place = queue && after != 0 ? place_in(lock_table_get_waiter(table, after), queue) : NULL;
        const struct waiter_record *waiter;

        if (!queue || (after != 0 && !place))
                return false;
        place = place ? TAILQ_NEXT(place, in_queue) : TAILQ_FIRST(&queue->places);
        if (!place)
                return false;
        waiter = place->waiter;
        *ret_view = (struct lock_view){
                .name = queue->name.text,
                .name_size = queue->name.size,
                .owner = waiter->client->id.text,
                .principal = waiter->principal.text,
                .holder = { .data = waiter->holder, .size = waiter->holder_size },
                .token = waiter->id,
                .session = waiter->session->id,
                .ttl_ms = waiter->session->ttl_ms,
                .delay_ms = waiter->session->delay_ms,
                .lease = waiter->session->lease,
                .slots = waiter->slots,
                .holders = 1,
                .since_cluster_ms = waiter->cluster_ms,
                .since_wall_ms = waiter->wall_ms,
        };
        return true;
}

uint64_t lock_table_granted(const struct lock_table *table, const struct lock_name *name, uint64_t waiter)
{
        struct lock_view view;

        return lock_table_find_waited(table, name, waiter, &view) ? view.token : 0;
}

size_t lock_table_queue_length(const struct lock_table *table, const struct lock_name *name)
{
        const struct queue_record *queue = table->waiter_count > 0 ? lock_table_get_queue(table, name) : NULL;

        return queue ? queue->count : 0;
}

bool lock_table_next_held_up(const struct lock_table *table, const struct lock_name *after, uint64_t cluster_ms, struct lock_waiter_view *ret_waiter)
{
        const struct queue_record *queue = after ? lock_table_get_queue(table, after) : NULL;
        const struct waiter_record *next;
        const struct place *any;

        queue = queue && queue->held_up ? TAILQ_NEXT(queue, held_up_link) : TAILQ_FIRST(&table->held_up);
        if (!queue)
                return false;
        next = lock_table_next_in_queue(table, queue, cluster_ms);
        any = TAILQ_FIRST(TAILQ_EMPTY(&queue->places) ? &queue->aside : &queue->places);
        view_waiter(next ? next : any->waiter, ret_waiter);
        ret_waiter->name = queue->name.text;
        ret_waiter->name_size = queue->name.size;
        if (!next)
                ret_waiter->id = 0;
        return true;
}

bool lock_table_is_due(const struct lock_table *table, const struct lock_name *name, uint64_t cluster_ms)
{
        const struct queue_record *queue = table->waiter_count > 0 ? lock_table_get_queue(table, name) : NULL;

        return queue && lock_table_next_in_queue(table, queue, cluster_ms);
}

size_t lock_table_due_count(const struct lock_table *table, const struct lock_name *name, uint64_t cluster_ms, size_t most)
{
        const struct queue_record *queue = table->waiter_count > 0 ? lock_table_get_queue(table, name) : NULL;
        const struct waiter_record *first = queue ? lock_table_next_in_queue(table, queue, cluster_ms) : NULL;
        const struct lock_record *held = lock_table_get_lock(table, name->text, name->size);
        const struct place *place;
        size_t count = 0;

        if (!first)
                return 0;
        most = MIN(most, slots_capacity(first->slots) - (held ? held->crowd->count : 0));
        TAILQ_FOREACH(place, &queue->places, in_queue) {
                if (place->waiter->id < first->id)
                        continue;
                if (place->waiter->slots != first->slots || count == most)
                        break;
                count++;
        }
        return count;
}

bool lock_table_take_due(struct lock_table *table)
{
        bool is_due = table->is_due;

        table->is_due = false;
        return is_due;
}

bool lock_table_find_next(const struct lock_table *table, const struct lock_name *name, uint64_t cluster_ms, struct lock_waiter_view *ret_view)
{
        const struct queue_record *queue = table->waiter_count > 0 ? lock_table_get_queue(table, name) : NULL;
        const struct waiter_record *first = queue ? lock_table_first_in_queue(table, queue, cluster_ms) : NULL;

        if (first)
                view_waiter(first, ret_view);
        return first;
}

bool lock_table_is_open(const struct lock_table *table, const struct lock_name *name)
{
        return lock_table_queue_length(table, name) == 0 && !lock_table_get_delay(table, name) && table->last_cluster_ms >= table->promise.quiet_until;
}

bool lock_table_waits_in_vain(const struct lock_table *table, const struct lock_waiter_view *waiter, uint64_t cluster_ms)
{
        struct lock_name name = { .size = (uint8_t)waiter->name_size };

        memcpy(name.text, waiter->name, waiter->name_size);
        return lock_table_is_in_vain(table, &name, waiter->period_ms, cluster_ms);
}

size_t lock_table_settled(const struct lock_table *table, const uint64_t **ret_ids)
{
        *ret_ids = table->settled;
        return table->settled_count;
}

bool lock_table_find_period(const struct lock_table *table, const struct lock_name *name, struct lock_period_view *ret_view)
{
        const struct period_record *period = lock_table_get_period(table, name);

        if (!period)
                return false;
        *ret_view = (struct lock_period_view){ .client = period->client.text, .token = period->token, .cluster_ms = period->cluster_ms };
        return true;
}

bool lock_table_find_delay(const struct lock_table *table, const struct lock_name *name, uint64_t cluster_ms, struct lock_delay_view *ret_view)
{
        const struct delay_record *delay = lock_table_delay_of(table, name, cluster_ms);

        if (!delay)
                return false;
        *ret_view = (struct lock_delay_view){ .client = delay->client.text, .token = delay->token, .until_cluster_ms = delay->end_ms };
        return true;
}

bool lock_table_find_session(const struct lock_table *table, uint64_t id, struct lock_session_view *ret_view)
{
        return view_session(lock_table_get_session(table, id), ret_view);
}

bool lock_table_next_session(const struct lock_table *table, uint64_t after, struct lock_session_view *ret_view)
{
        return view_session(lock_table_session_after(table, after), ret_view);
}

bool lock_table_next_ended(const struct lock_table *table, uint64_t after, struct lock_session_view *ret_view)
{
        return view_session(after == 0 ? TAILQ_FIRST(&table->ended) : TAILQ_NEXT(lock_table_get_session(table, after), end), ret_view);
}

bool lock_table_next(const struct lock_table *table, const char *prefix, size_t prefix_size, const char *after, size_t after_size,
                     uint64_t after_token, struct lock_view *ret_view)
{
        size_t both = MIN(after_size, prefix_size);
        int order = memcmp(after, prefix, both);
        bool from_prefix = order < 0 || (order == 0 && after_size < prefix_size);
        const struct lock_record *lock;

        assert(prefix_size <= LIMIT_LOCK_NAME_BYTES);
        assert(after_size <= LIMIT_LOCK_NAME_BYTES);
        lock = from_prefix ? lock_table_seek_lock(table, prefix, prefix_size, 0, false) : lock_table_seek_lock(table, after, after_size, after_token, true);
        if (!lock || lock->name_size < prefix_size || memcmp(lock->name, prefix, prefix_size) != 0)
                return false;
        view_lock(lock, ret_view);
        return true;
}

bool lock_record_is_in_vain(const struct period_record *period, uint64_t period_ms, uint64_t cluster_ms)
{
        /* Remembered for as long as its grant said, whether or not it has been cleared away yet. */
        return period_ms != 0 && period && cluster_ms < period->end_ms && (cluster_ms <= period->cluster_ms || cluster_ms - period->cluster_ms < period_ms);
}

bool lock_table_is_in_vain(const struct lock_table *table, const struct lock_name *name, uint64_t period_ms, uint64_t cluster_ms)
{
        return period_ms != 0 && lock_record_is_in_vain(lock_table_get_period(table, name), period_ms, cluster_ms);
}

const struct delay_record *lock_table_delay_of(const struct lock_table *table, const struct lock_name *name, uint64_t cluster_ms)
{
        const struct delay_record *delay = lock_table_get_delay(table, name);

        return delay && cluster_ms < delay->end_ms && !MUTATED(DELAY_SKIPPED) ? delay : NULL;
}

/* Q3: the first whose session lives. Whoever wants the lock once in a period, and had better not have come, is passed over: it is told, and leaves. */
struct waiter_record *lock_table_first_in_queue(const struct lock_table *table, const struct queue_record *queue, uint64_t cluster_ms)
{
        const struct period_record *period;
        struct place *place, *next;

        if (cluster_ms < table->promise.quiet_until || lock_table_delay_of(table, &queue->name, cluster_ms))
                return NULL;
        if (MUTATED(LAST_FIRST) && !TAILQ_EMPTY(&queue->places))
                return TAILQ_LAST(&queue->places, place_list)->waiter;
        period = lock_table_get_period(table, &queue->name);
        for (place = TAILQ_FIRST(&queue->places); place; place = next) {
                next = TAILQ_NEXT(place, in_queue);
                if (place->waiter->session->ended)
                        lock_table_step_aside(place);
                else if (!lock_record_is_in_vain(period, place->waiter->period_ms, cluster_ms))
                        return place->waiter;
        }
        return NULL;
}

/* In turn: who wants to share the lock, or a slot of it, waits behind who came before, also when there is room for it. Who wants several waits
 * until it is its turn for each, and has none of them before: of all who wait, nobody waits for who came later, so no two for each other. */
struct waiter_record *lock_table_next_in_queue(const struct lock_table *table, const struct queue_record *queue, uint64_t cluster_ms)
{
        struct waiter_record *first = lock_table_first_in_queue(table, queue, cluster_ms);
        const struct place *place;

        for (unsigned i = 0; first && (place = lock_table_place(first, i)); i++) {
                if (!lock_table_has_room(table, &place->queue->name, first->slots))
                        return NULL;
                if (place->queue != queue && lock_table_first_in_queue(table, place->queue, cluster_ms) != first && !MUTATED(PART_OF_ALL))
                        return NULL;
        }
        return first;
}

size_t lock_table_lock_count(const struct lock_table *table)
{
        return table->lock_count;
}

size_t lock_table_client_count(const struct lock_table *table)
{
        return table->client_count;
}

size_t lock_table_result_count(const struct lock_table *table)
{
        return table->result_count;
}

size_t lock_table_session_count(const struct lock_table *table)
{
        return table->session_count;
}

size_t lock_table_waiter_count(const struct lock_table *table)
{
        return table->waiter_count;
}

size_t lock_table_period_count(const struct lock_table *table)
{
        return table->period_count;
}

size_t lock_table_delay_count(const struct lock_table *table)
{
        return table->delay_count;
}

uint32_t lock_table_longest_ttl_ms(const struct lock_table *table)
{
        return table->promise.longest_ttl_ms;
}

uint64_t lock_table_quiet_until(const struct lock_table *table)
{
        return table->promise.quiet_until;
}

void lock_table_be_quiet(struct lock_table *table, uint64_t until_cluster_ms)
{
        table->promise.quiet_until = until_cluster_ms;
        lock_table_mark_dirty(table, &table->promise.record);
}
