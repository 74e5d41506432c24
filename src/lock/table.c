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

static int compare_locks(const struct lock_record *a, const struct lock_record *b)
{
        return compare_text(a->name, a->name_size, b->name, b->name_size);
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
        return (a->id > b->id) - (a->id < b->id);
}

static int compare_periods(const struct period_record *a, const struct period_record *b)
{
        return compare_text(a->name.text, a->name.size, b->name.text, b->name.size);
}

static int compare_period_ends(const struct period_record *a, const struct period_record *b)
{
        int order = (a->end_ms > b->end_ms) - (a->end_ms < b->end_ms);

        return order ? order : compare_periods(a, b);
}

RB_GENERATE_INTERNAL(lock_tree, lock_record, node, compare_locks, _unused_ static)
RB_GENERATE_INTERNAL(client_tree, client_record, node, compare_clients, _unused_ static)
RB_GENERATE_INTERNAL(result_tree, result_record, node, compare_results, _unused_ static)
RB_GENERATE_INTERNAL(session_record_tree, session_record, node, compare_sessions, _unused_ static)
RB_GENERATE_INTERNAL(period_record_tree, period_record, node, compare_periods, _unused_ static)
RB_GENERATE_INTERNAL(period_end_tree, period_record, by_end, compare_period_ends, _unused_ static)

struct lock_table *lock_table_new(void)
{
        struct lock_table *table = alloc_zeroed(1, sizeof(*table));

        RB_INIT(&table->locks);
        RB_INIT(&table->clients);
        RB_INIT(&table->results);
        RB_INIT(&table->sessions);
        RB_INIT(&table->periods);
        RB_INIT(&table->period_ends);
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
        struct period_record *period, *next_period;
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
                RB_REMOVE(lock_tree, &table->locks, lock);
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
        RB_FOREACH_SAFE(period, period_record_tree, &table->periods, next_period) {
                RB_REMOVE(period_record_tree, &table->periods, period);
                free(period);
        }
        free(table);
        return NULL;
}

/* --- dirty records --- */

static void mark_dirty(struct lock_table *table, struct record *record)
{
        if (record->is_dirty)
                return;
        record->is_dirty = true;
        TAILQ_INSERT_TAIL(&table->dirty, record, dirty);
        table->dirty_count++;
}

/* The record has left its tree. It lives on as a tombstone until its deletion was handed
 * out, unless the database has never heard of it. */
static void bury(struct lock_table *table, struct record *record)
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
        mark_dirty(table, record);
}

/* --- the kinds of record --- */

static struct lock_record *find_lock(const struct lock_table *table, const char *name, size_t size)
{
        struct lock_record probe = { .name_size = (uint8_t)size, .name = name };

        return RB_FIND(lock_tree, (struct lock_tree *)&table->locks, &probe);
}

static struct client_record *find_client(const struct lock_table *table, const struct client_id *id)
{
        struct client_record probe = { .id = *id };

        return RB_FIND(client_tree, (struct client_tree *)&table->clients, &probe);
}

static struct result_record *find_result(const struct lock_table *table, struct id128 handle)
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

struct lock_record *lock_table_add_lock(struct lock_table *table, const struct lock_name *name, struct client_record *owner, const struct principal *principal,
                                        struct holder_view holder)
{
        struct lock_record *lock = alloc_zeroed(1, sizeof(*lock) + name->size + 1u + principal->size + 1u + holder.size);
        uint8_t *data = lock->data;

        lock->record.kind = LOCK_IMAGE_LOCK;
        memcpy(data, name->text, name->size);
        data += name->size + 1;
        memcpy(data, principal->text, principal->size);
        data += principal->size + 1;
        if (holder.size > 0)
                memcpy(data, holder.data, holder.size);
        lock->name = (const char *)lock->data;
        lock->name_size = name->size;
        lock->principal_size = principal->size;
        lock->holder_size = holder.size;
        lock->owner = owner;
        if (RB_INSERT(lock_tree, &table->locks, lock)) {
                free(lock);
                return NULL;
        }
        owner->held++;
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

        return RB_NFIND(session_record_tree, (struct session_record_tree *)&table->sessions, &probe);
}

static struct period_record *find_period(const struct lock_table *table, const struct lock_name *name)
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

void lock_table_forget_session(struct lock_table *table, struct session_record *session)
{
        RB_REMOVE(session_record_tree, &table->sessions, session);
        table->session_count--;
}

void lock_table_join_session(struct lock_record *lock, struct session_record *session)
{
        lock->session = session;
        session->held++;
        TAILQ_INSERT_TAIL(&session->locks, lock, in_session);
}

struct client_record *lock_table_get_client(const struct lock_table *table, const struct client_id *id)
{
        return find_client(table, id);
}

struct client_record *lock_table_next_client(struct lock_table *table, struct client_record *client)
{
        return client ? RB_NEXT(client_tree, &table->clients, client) : RB_MIN(client_tree, &table->clients);
}

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
        struct client_record *client = find_client(table, &change->client);

        if (!client) {
                client = lock_table_add_client(table, &change->client);
                client->principal = change->principal;
        } else if (strcmp(client->principal.text, LOCK_PRINCIPAL_TCP) == 0) {
                client->principal = change->principal;
        }
        client->last_index = moment->index;
        mark_dirty(table, &client->record);
        return client;
}

static void remember_result(struct lock_table *table, const struct lock_moment *moment, const struct lock_change *change)
{
        struct result_record *result = find_result(table, change->handle);

        if (result)
                TAILQ_REMOVE(&table->by_age, result, age);
        else
                result = lock_table_add_result(table, change->handle);
        TAILQ_INSERT_TAIL(&table->by_age, result, age);
        result->seq = change->seq;
        result->kind = change->kind;
        result->client = change->client;
        result->name = change->name;
        result->token = lock_change_token(change, moment->index);
        result->index = moment->index;
        result->cluster_ms = moment->cluster_ms;
        mark_dirty(table, &result->record);
}

static void forget_period(struct lock_table *table, struct period_record *period)
{
        RB_REMOVE(period_record_tree, &table->periods, period);
        RB_REMOVE(period_end_tree, &table->period_ends, period);
        table->period_count--;
        bury(table, &period->record);
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
                RB_REMOVE(result_tree, &table->results, result);
                table->result_count--;
                bury(table, &result->record);
        }
        for (unsigned i = 0; i < LIMIT_ENTRY_RECORDS / 16; i++) {
                struct period_record *period = RB_MIN(period_end_tree, &table->period_ends);

                if (!period || moment->cluster_ms < period->end_ms)
                        break;
                forget_period(table, period);
        }
        for (unsigned i = 0; i < LIMIT_ENTRY_RECORDS / 4 && table->idle_count > LIMIT_CLIENTS_IDLE; i++) {
                struct client_record *client = TAILQ_FIRST(&table->idle);

                assert(client->held == 0);
                set_idle(table, client, false);
                RB_REMOVE(client_tree, &table->clients, client);
                table->client_count--;
                bury(table, &client->record);
        }
}

/* --- sessions --- */

static struct session_record *open_session(struct lock_table *table, const struct lock_moment *moment, const struct lock_change *change,
                                           struct client_record *client)
{
        bool lease = change->kind == LOCK_CHANGE_PREEMPT;
        struct session_record *session = lock_table_add_session(table, moment->index, lease ? (struct holder_view){ .data = NULL } : change->holder);

        assert(session);                     /* an index is one entry's */
        session->client = client;
        session->principal = change->principal;
        session->cluster_ms = moment->cluster_ms;
        session->wall_ms = moment->wall_ms;
        session->ttl_ms = change->ttl_ms;
        session->lease = lease;
        if (change->ttl_ms > table->promise.longest_ttl_ms) {
                table->promise.longest_ttl_ms = change->ttl_ms;
                mark_dirty(table, &table->promise.record);
        }
        client->held++;
        set_idle(table, client, false);
        mark_dirty(table, &session->record);
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
        RB_REMOVE(session_record_tree, &table->sessions, session);
        table->session_count--;
        bury(table, &session->record);
        let_go(table, client);
}

static void remove_lock(struct lock_table *table, struct lock_record *lock)
{
        struct session_record *session = lock->session;
        struct client_record *owner = lock->owner;

        RB_REMOVE(lock_tree, &table->locks, lock);
        table->lock_count--;
        if (session) {
                TAILQ_REMOVE(&session->locks, lock, in_session);
                session->held--;
        }
        bury(table, &lock->record);
        if (session && session->lease)
                remove_session(table, session);
        let_go(table, owner);
}

/* Of what it holds so much as one entry may change; the leader sees to the rest by more of them. */
static void end_session(struct lock_table *table, uint64_t id)
{
        struct session_record *session = lock_table_get_session(table, id);

        if (!session)
                return;                      /* a lease that was released in the meantime */
        if (session->lease) {
                remove_lock(table, TAILQ_FIRST(&session->locks));
                return;
        }
        if (!session->ended) {
                session->ended = true;
                TAILQ_INSERT_TAIL(&table->ended, session, end);
                mark_dirty(table, &session->record);
        }
        for (unsigned i = 0; i < LIMIT_ENTRY_RECORDS / 4 && session->held > 0; i++)
                remove_lock(table, TAILQ_FIRST(&session->locks));
        if (session->held == 0)
                remove_session(table, session);
}

/* The newest counts, and how long it said that it be remembered. */
static void remember_period(struct lock_table *table, const struct lock_moment *moment, const struct lock_change *change)
{
        struct period_record *period = find_period(table, &change->name);
        uint64_t end_ms = moment->cluster_ms + change->period_ms;

        if (period) {
                RB_REMOVE(period_end_tree, &table->period_ends, period);
                period->end_ms = end_ms;
                (void)RB_INSERT(period_end_tree, &table->period_ends, period);
        } else {
                period = lock_table_add_period(table, &change->name, end_ms);
        }
        period->client = change->client;
        period->token = moment->index;
        period->cluster_ms = moment->cluster_ms;
        mark_dirty(table, &period->record);
}

static void apply_preempt(struct lock_table *table, const struct lock_moment *moment, const struct lock_change *change,
                          struct client_record *client)
{
        struct session_record *session = NULL;
        struct lock_record *lock;

        if (change->ttl_ms != 0)
                session = open_session(table, moment, change, client);
        else if (change->session != 0)
                session = lock_table_get_session(table, change->session);
        assert(change->session == 0 || (session && !session->ended && session->client == client));
        lock = lock_table_add_lock(table, &change->name, client, &change->principal, change->holder);
        assert(lock);                        /* promise 1: decided only when nobody owned it */
        lock->token = MUTATED(TOKEN) ? client->held : moment->index;
        lock->cluster_ms = moment->cluster_ms;
        lock->wall_ms = moment->wall_ms;
        if (session)
                lock_table_join_session(lock, session);
        if (change->period_ms != 0)
                remember_period(table, moment, change);
        mark_dirty(table, &lock->record);
        set_idle(table, client, false);
}

static void apply_release(struct lock_table *table, const struct lock_change *change, struct client_record *client)
{
        struct lock_record *lock = find_lock(table, change->name.text, change->name.size);

        assert(lock);
        assert(lock->owner == client);
        assert(lock->token == change->token);
        if (MUTATED(PERIOD_RELEASED) && find_period(table, &change->name))
                forget_period(table, find_period(table, &change->name));
        remove_lock(table, lock);
}

void lock_table_apply(struct lock_table *table, const struct lock_moment *moment, const struct lock_change *change)
{
        struct client_record *client;

        assert(moment->index > table->last_index);
        assert(moment->cluster_ms >= table->last_cluster_ms);
        table->last_index = moment->index;
        table->last_cluster_ms = moment->cluster_ms;

        client = touch_client(table, moment, change);
        switch (change->kind) {
        case LOCK_CHANGE_CLIENT:
        case LOCK_CHANGE_CANCEL:
                if (client->held == 0)
                        set_idle(table, client, true);
                break;
        case LOCK_CHANGE_PREEMPT:
                apply_preempt(table, moment, change, client);
                break;
        case LOCK_CHANGE_RELEASE:
                apply_release(table, change, client);
                break;
        case LOCK_CHANGE_OPEN:
                (void)open_session(table, moment, change, client);
                break;
        case LOCK_CHANGE_CLOSE:
        case LOCK_CHANGE_EXPIRE:
                end_session(table, change->session);
                if (client->held == 0)
                        set_idle(table, client, true);
                break;
        }
        if (change->kind != LOCK_CHANGE_EXPIRE && (!MUTATED(CANCEL_LOST) || change->kind != LOCK_CHANGE_CANCEL))
                remember_result(table, moment, change);
        forget_old(table, moment);
}

/* --- looking --- */

static void view_lock(const struct lock_record *lock, struct lock_view *ret_view)
{
        *ret_view = (struct lock_view){
                .name = lock->name,
                .name_size = lock->name_size,
                .owner = lock->owner->id.text,
                .principal = lock_record_principal(lock),
                .holder = lock_record_holder(lock),
                .token = lock->token,
                .session = lock->session ? lock->session->id : 0,
                .ttl_ms = lock->session ? lock->session->ttl_ms : 0,
                .since_cluster_ms = lock->cluster_ms,
                .since_wall_ms = lock->wall_ms,
        };
}

bool lock_table_find(const struct lock_table *table, const struct lock_name *name, struct lock_view *ret_view)
{
        const struct lock_record *lock = find_lock(table, name->text, name->size);

        if (!lock)
                return false;
        view_lock(lock, ret_view);
        return true;
}

bool lock_table_find_client(const struct lock_table *table, const struct client_id *id, struct lock_client_view *ret_view)
{
        const struct client_record *client = find_client(table, id);

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
        const struct result_record *result = find_result(table, handle);

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

        if (!session)
                return false;
        lock = session->lease ? TAILQ_FIRST(&session->locks) : NULL;
        *ret_view = (struct lock_session_view){
                .id = session->id,
                .client = session->client->id.text,
                .principal = session->principal.text,
                .lock = lock ? lock->name : "",
                .lock_size = lock ? lock->name_size : 0,
                .ttl_ms = session->ttl_ms,
                .lease = session->lease,
                .ended = session->ended,
                .held = session->held,
        };
        return true;
}

bool lock_table_find_period(const struct lock_table *table, const struct lock_name *name, struct lock_period_view *ret_view)
{
        const struct period_record *period = find_period(table, name);

        if (!period)
                return false;
        *ret_view = (struct lock_period_view){ .client = period->client.text, .token = period->token, .cluster_ms = period->cluster_ms };
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
                     struct lock_view *ret_view)
{
        bool from_prefix = compare_text(after, after_size, prefix, prefix_size) < 0;
        struct lock_record probe = {
                .name = from_prefix ? prefix : after,
                .name_size = (uint8_t)(from_prefix ? prefix_size : after_size),
        };
        struct lock_record *lock;

        assert(prefix_size <= LIMIT_LOCK_NAME_BYTES);
        assert(after_size <= LIMIT_LOCK_NAME_BYTES);
        lock = RB_NFIND(lock_tree, (struct lock_tree *)&table->locks, &probe);
        if (lock && !from_prefix && compare_locks(lock, &probe) == 0)
                lock = RB_NEXT(lock_tree, &table->locks, lock);
        if (!lock || lock->name_size < prefix_size || memcmp(lock->name, prefix, prefix_size) != 0)
                return false;
        view_lock(lock, ret_view);
        return true;
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

size_t lock_table_period_count(const struct lock_table *table)
{
        return table->period_count;
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
        mark_dirty(table, &table->promise.record);
}
