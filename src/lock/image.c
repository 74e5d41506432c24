/* image.c - records to bytes and back: for the database and for snapshots. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "lock/record.h"

/* First byte of every body. */
#define IMAGE_FORMAT 1

static void put_lock(const struct lock_record *lock, struct lock_image *image)
{
        image->number = lock->token;
        bytes_put_text8(&image->body, lock->name, lock->name_size);
        client_id_put(&image->body, &lock->owner->id);
        bytes_put_u64(&image->body, lock->token);
        bytes_put_u64(&image->body, lock->cluster_ms);
        bytes_put_u64(&image->body, lock->wall_ms);
        bytes_put_u64(&image->body, lock->session ? lock->session->id : 0);
        bytes_put_u64(&image->body, lock->waiter);
        bytes_put_text8(&image->body, lock_record_principal(lock), lock->principal_size);
        holder_view_put(&image->body, lock_record_holder(lock));
}

static void image_lock(const struct lock_record *lock, struct lock_image *image)
{
        memcpy(image->key, lock->name, lock->name_size);
        image->key[lock->name_size] = 0;
        if (image->deleted)
                return;
        (void)snprintf(image->label, sizeof(image->label), "%s", lock->owner->id.text);
        put_lock(lock, image);
}

/* One of several of that name. The entry that asked for it asked for nothing else. */
static void image_share(const struct lock_record *lock, struct lock_image *image)
{
        (void)snprintf(image->key, sizeof(image->key), "%" PRIu64, lock->waiter != 0 ? lock->waiter : lock->token);
        if (image->deleted)
                return;
        (void)snprintf(image->label, sizeof(image->label), "%s", lock->name);
        put_lock(lock, image);
        bytes_put_u16(&image->body, lock->crowd->slots);
}

static void image_client(const struct client_record *client, struct lock_image *image)
{
        (void)snprintf(image->key, sizeof(image->key), "%s", client->id.text);
        if (image->deleted)
                return;
        (void)snprintf(image->label, sizeof(image->label), "%s", client->principal.text);
        image->number = client->last_index;
        client_id_put(&image->body, &client->id);
        principal_put(&image->body, &client->principal);
        bytes_put_u64(&image->body, client->last_index);
}

static void image_result(const struct result_record *result, struct lock_image *image)
{
        (void)id128_format(result->handle, image->key);
        if (image->deleted)
                return;
        (void)snprintf(image->label, sizeof(image->label), "%s", result->name.text);
        image->number = result->index;
        id128_put(&image->body, result->handle);
        bytes_put_u64(&image->body, result->seq);
        bytes_put_u8(&image->body, (uint8_t)result->kind);
        client_id_put(&image->body, &result->client);
        lock_name_put(&image->body, &result->name);
        bytes_put_u64(&image->body, result->token);
        bytes_put_u64(&image->body, result->index);
        bytes_put_u64(&image->body, result->cluster_ms);
}

enum { SESSION_LEASE = 1, SESSION_ENDED = 2, SESSION_CLOSED = 4, SESSION_BROKEN = 8, SESSION_FLAGS = 15 };

static void image_session(const struct session_record *session, struct lock_image *image)
{
        (void)snprintf(image->key, sizeof(image->key), "%" PRIu64, session->id);
        if (image->deleted)
                return;
        (void)snprintf(image->label, sizeof(image->label), "%s", session->client->id.text);
        image->number = session->id;
        bytes_put_u64(&image->body, session->id);
        client_id_put(&image->body, &session->client->id);
        principal_put(&image->body, &session->principal);
        bytes_put_u32(&image->body, session->ttl_ms);
        bytes_put_u32(&image->body, session->delay_ms);
        bytes_put_u8(&image->body, (uint8_t)((session->lease ? SESSION_LEASE : 0) | (session->ended ? SESSION_ENDED : 0) |
                                               (session->closed ? SESSION_CLOSED : 0) | (session->broken ? SESSION_BROKEN : 0)));
        bytes_put_u64(&image->body, session->cluster_ms);
        bytes_put_u64(&image->body, session->wall_ms);
        holder_view_put(&image->body, (struct holder_view){ .data = session->holder, .size = session->holder_size });
}

static void image_waiter(const struct waiter_record *waiter, struct lock_image *image)
{
        (void)snprintf(image->key, sizeof(image->key), "%" PRIu64, waiter->id);
        if (image->deleted)
                return;
        (void)snprintf(image->label, sizeof(image->label), "%s", waiter->first.queue->name.text);
        image->number = waiter->id;
        bytes_put_u64(&image->body, waiter->id);
        lock_name_put(&image->body, &waiter->first.queue->name);
        bytes_put_u8(&image->body, (uint8_t)waiter->further_count);
        for (unsigned i = 0; i < waiter->further_count; i++)
                lock_name_put(&image->body, &waiter->further[i].queue->name);
        client_id_put(&image->body, &waiter->client->id);
        principal_put(&image->body, &waiter->principal);
        bytes_put_u64(&image->body, waiter->session->id);
        id128_put(&image->body, waiter->handle);
        bytes_put_u64(&image->body, waiter->seq);
        bytes_put_u64(&image->body, waiter->cluster_ms);
        bytes_put_u64(&image->body, waiter->wall_ms);
        bytes_put_u64(&image->body, waiter->period_ms);
        bytes_put_u16(&image->body, waiter->slots);
        holder_view_put(&image->body, (struct holder_view){ .data = waiter->holder, .size = waiter->holder_size });
}

static void image_period(const struct period_record *period, struct lock_image *image)
{
        memcpy(image->key, period->name.text, period->name.size + 1u);
        if (image->deleted)
                return;
        (void)snprintf(image->label, sizeof(image->label), "%s", period->client.text);
        image->number = period->token;
        lock_name_put(&image->body, &period->name);
        client_id_put(&image->body, &period->client);
        bytes_put_u64(&image->body, period->token);
        bytes_put_u64(&image->body, period->cluster_ms);
        bytes_put_u64(&image->body, period->end_ms);
}

static void image_delay(const struct delay_record *delay, struct lock_image *image)
{
        memcpy(image->key, delay->name.text, delay->name.size + 1u);
        if (image->deleted)
                return;
        (void)snprintf(image->label, sizeof(image->label), "%s", delay->client.text);
        image->number = delay->token;
        lock_name_put(&image->body, &delay->name);
        client_id_put(&image->body, &delay->client);
        bytes_put_u64(&image->body, delay->token);
        bytes_put_u64(&image->body, delay->end_ms);
}

/* One for the table: its record is never deleted. */
static void image_promise(const struct lock_table *table, struct lock_image *image)
{
        (void)strcpy(image->key, "leases");
        image->number = table->promise.longest_ttl_ms;
        bytes_put_u32(&image->body, table->promise.longest_ttl_ms);
        bytes_put_u64(&image->body, table->promise.quiet_until);
}

static void image_record(const struct lock_table *table, const struct record *record, struct lock_image *image)
{
        switch (record->kind) {
        case LOCK_IMAGE_LOCK:
                image_lock((const struct lock_record *)record, image);
                return;
        case LOCK_IMAGE_SHARE:
                image_share((const struct lock_record *)record, image);
                return;
        case LOCK_IMAGE_CLIENT:
                image_client((const struct client_record *)record, image);
                return;
        case LOCK_IMAGE_RESULT:
                image_result((const struct result_record *)record, image);
                return;
        case LOCK_IMAGE_SESSION:
                image_session((const struct session_record *)record, image);
                return;
        case LOCK_IMAGE_WAITER:
                image_waiter((const struct waiter_record *)record, image);
                return;
        case LOCK_IMAGE_PERIOD:
                image_period((const struct period_record *)record, image);
                return;
        case LOCK_IMAGE_DELAY:
                image_delay((const struct delay_record *)record, image);
                return;
        case LOCK_IMAGE_PROMISE:
                image_promise(table, image);
                return;
        }
}

size_t lock_table_dirty_count(const struct lock_table *table)
{
        return table->dirty_count;
}

bool lock_table_take_image(struct lock_table *table, struct lock_image *image)
{
        struct record *record = TAILQ_FIRST(&table->dirty);

        if (!record)
                return false;
        TAILQ_REMOVE(&table->dirty, record, dirty);
        table->dirty_count--;
        record->is_dirty = false;
        record->persisted = true;

        image->kind = record->kind;
        image->deleted = record->deleted;
        image->label[0] = 0;
        image->number = 0;
        bytes_clear(&image->body);
        if (!image->deleted)
                bytes_put_u8(&image->body, IMAGE_FORMAT);
        image_record(table, record, image);
        if (image->deleted)
                free(record);
        return true;
}

/* --- loading --- */

/* An owner may be loaded after its locks: until its own record comes it has no principal. */
static struct client_record *expect_client(struct lock_table *table, const struct client_id *id)
{
        struct client_record *client = lock_table_get_client(table, id);

        return client ? client : lock_table_add_client(table, id);
}

/* The same of a session that is loaded after its locks: until then it has no client. */
static struct session_record *expect_session(struct lock_table *table, uint64_t id)
{
        struct session_record *session = lock_table_get_session(table, id);

        return session ? session : lock_table_add_session(table, id, (struct holder_view){ .data = NULL });
}

static struct record *load_lock(struct lock_table *table, bool shared, struct bytes_reader *reader)
{
        struct lock_name name;
        struct client_id owner;
        struct principal principal;
        struct hold hold = { .name = &name, .principal = &principal };
        struct lock_record *lock;
        uint64_t cluster_ms, wall_ms, session;

        lock_name_get(reader, false, &name);
        client_id_get(reader, false, &owner);
        hold.token = bytes_get_u64(reader);
        cluster_ms = bytes_get_u64(reader);
        wall_ms = bytes_get_u64(reader);
        session = bytes_get_u64(reader);
        hold.waiter = bytes_get_u64(reader);
        principal_get(reader, false, &principal);
        holder_view_get(reader, &hold.holder);
        hold.slots = shared ? bytes_get_u16(reader) : 0;
        if (reader->bad || !limit_slots_is_valid(hold.slots) || shared != (hold.slots != 0))
                return NULL;
        hold.owner = expect_client(table, &owner);
        lock = lock_table_add_lock(table, &hold);
        if (!lock)
                return NULL;
        lock->cluster_ms = cluster_ms;
        lock->wall_ms = wall_ms;
        if (session != 0)
                lock_table_join_session(lock, expect_session(table, session));
        return &lock->record;
}

static struct record *load_client(struct lock_table *table, struct bytes_reader *reader)
{
        struct client_id id;
        struct client_record *client;

        client_id_get(reader, false, &id);
        if (reader->bad)
                return NULL;
        client = expect_client(table, &id);
        if (client->principal.size != 0)
                return NULL;                 /* twice the same */
        principal_get(reader, false, &client->principal);
        client->last_index = bytes_get_u64(reader);
        return &client->record;
}

static struct record *load_result(struct lock_table *table, struct bytes_reader *reader)
{
        struct result_record *result = lock_table_add_result(table, id128_get(reader));
        uint8_t kind;

        if (!result)
                return NULL;
        TAILQ_INSERT_TAIL(&table->by_age, result, age);
        result->seq = bytes_get_u64(reader);
        kind = bytes_get_u8(reader);
        if (kind < LOCK_CHANGE_CLIENT || kind > LOCK_CHANGE_BREAK || lock_change_is_leaders((enum lock_change_kind)kind))
                reader->bad = true;
        else
                result->kind = (enum lock_change_kind)kind;
        client_id_get(reader, false, &result->client);
        lock_name_get(reader, !lock_change_names(result->kind), &result->name);
        result->token = bytes_get_u64(reader);
        result->index = bytes_get_u64(reader);
        result->cluster_ms = bytes_get_u64(reader);
        return &result->record;
}

/* The holder comes with the record, so one that was expected is made anew, with its locks. */
static struct session_record *take_session(struct lock_table *table, uint64_t id, struct holder_view holder)
{
        struct session_record *expected = lock_table_get_session(table, id), *session;
        struct lock_record *lock;
        struct waiter_record *waiter;

        if (expected && expected->client)
                return NULL;                 /* twice the same */
        if (expected)
                lock_table_forget_session(table, expected);
        session = lock_table_add_session(table, id, holder);
        while (expected && (lock = TAILQ_FIRST(&expected->locks))) {
                TAILQ_REMOVE(&expected->locks, lock, in_session);
                lock_table_join_session(lock, session);
        }
        while (expected && (waiter = TAILQ_FIRST(&expected->waiters))) {
                TAILQ_REMOVE(&expected->waiters, waiter, in_session);
                TAILQ_INSERT_TAIL(&session->waiters, waiter, in_session);
                waiter->session = session;
                session->held++;
        }
        free(expected);
        return session;
}

static struct record *load_session(struct lock_table *table, struct bytes_reader *reader)
{
        struct client_id client;
        struct principal principal;
        struct holder_view holder;
        struct session_record *session;
        uint64_t id = bytes_get_u64(reader), cluster_ms, wall_ms;
        uint32_t ttl_ms, delay_ms;
        uint8_t flags;

        client_id_get(reader, false, &client);
        principal_get(reader, false, &principal);
        ttl_ms = bytes_get_u32(reader);
        delay_ms = bytes_get_u32(reader);
        flags = bytes_get_u8(reader);
        cluster_ms = bytes_get_u64(reader);
        wall_ms = bytes_get_u64(reader);
        holder_view_get(reader, &holder);
        if (reader->bad || id == 0 || flags & ~SESSION_FLAGS || (flags & SESSION_CLOSED && !(flags & SESSION_ENDED)) || (flags & SESSION_BROKEN && !(flags & SESSION_LEASE)) || !limit_ttl_is_valid(ttl_ms) ||
            !limit_delay_is_valid(ttl_ms, delay_ms))
                return NULL;
        session = take_session(table, id, holder);
        if (!session)
                return NULL;
        session->client = expect_client(table, &client);
        session->client->held++;
        session->principal = principal;
        session->ttl_ms = ttl_ms;
        session->delay_ms = delay_ms;
        session->cluster_ms = cluster_ms;
        session->wall_ms = wall_ms;
        session->lease = flags & SESSION_LEASE;
        session->ended = flags & SESSION_ENDED;
        session->closed = flags & SESSION_CLOSED;
        session->broken = flags & SESSION_BROKEN;
        if (session->ended)
                TAILQ_INSERT_TAIL(&table->ended, session, end);
        return &session->record;
}

static struct record *load_waiter(struct lock_table *table, struct bytes_reader *reader)
{
        uint64_t id = bytes_get_u64(reader), session;
        struct lock_name name;
        struct names_view further;
        struct client_id client;
        struct principal principal;
        struct holder_view holder;
        struct waiter_record *waiter, row;

        lock_name_get(reader, false, &name);
        names_view_get(reader, &name, &further);
        client_id_get(reader, false, &client);
        principal_get(reader, false, &principal);
        session = bytes_get_u64(reader);
        row.handle = id128_get(reader);
        row.seq = bytes_get_u64(reader);
        row.cluster_ms = bytes_get_u64(reader);
        row.wall_ms = bytes_get_u64(reader);
        row.period_ms = bytes_get_u64(reader);
        row.slots = bytes_get_u16(reader);
        holder_view_get(reader, &holder);
        if (reader->bad || id == 0 || session == 0 || session > id || !limit_slots_is_valid(row.slots) ||
            (further.count > 0 && (row.slots != 0 || row.period_ms != 0)))
                return NULL;
        waiter = lock_table_add_waiter(table, id, &name, further, expect_client(table, &client), expect_session(table, session), holder);
        if (!waiter)
                return NULL;
        waiter->principal = principal;
        waiter->handle = row.handle;
        waiter->seq = row.seq;
        waiter->cluster_ms = row.cluster_ms;
        waiter->wall_ms = row.wall_ms;
        waiter->period_ms = row.period_ms;
        waiter->slots = row.slots;
        return &waiter->record;
}

static struct record *load_period(struct lock_table *table, struct bytes_reader *reader)
{
        struct lock_name name;
        struct client_id client;
        struct period_record *period;
        uint64_t token, cluster_ms, end_ms;

        lock_name_get(reader, false, &name);
        client_id_get(reader, false, &client);
        token = bytes_get_u64(reader);
        cluster_ms = bytes_get_u64(reader);
        end_ms = bytes_get_u64(reader);
        if (reader->bad || end_ms < cluster_ms)
                return NULL;
        period = lock_table_add_period(table, &name, end_ms);
        if (!period)
                return NULL;
        period->client = client;
        period->token = token;
        period->cluster_ms = cluster_ms;
        return &period->record;
}

static struct record *load_delay(struct lock_table *table, struct bytes_reader *reader)
{
        struct lock_name name;
        struct client_id client;
        struct delay_record *delay;
        uint64_t token, end_ms;

        lock_name_get(reader, false, &name);
        client_id_get(reader, false, &client);
        token = bytes_get_u64(reader);
        end_ms = bytes_get_u64(reader);
        if (reader->bad)
                return NULL;
        delay = lock_table_add_delay(table, &name, end_ms);
        if (!delay)
                return NULL;
        delay->client = client;
        delay->token = token;
        return &delay->record;
}

static struct record *load_promise(struct lock_table *table, struct bytes_reader *reader)
{
        if (table->promise.record.persisted)
                return NULL;                 /* twice the same */
        table->promise.longest_ttl_ms = bytes_get_u32(reader);
        table->promise.quiet_until = bytes_get_u64(reader);
        return &table->promise.record;
}

/* The columns are for people; if they differ from the body somebody has edited one of the two. */
static bool columns_agree(const struct lock_table *table, const struct record *record, const char *key, const char *label, uint64_t number)
{
        struct lock_image image = { 0 };
        bool agree;

        image_record(table, record, &image);
        agree = strcmp(image.key, key) == 0 && strcmp(image.label, label) == 0 && image.number == number;
        bytes_done(&image.body);
        return agree;
}

bool lock_table_load(struct lock_table *table, enum lock_image_kind kind, const char *key, const char *label, uint64_t number,
                     const void *body, size_t body_size)
{
        struct bytes_reader reader = bytes_reader_of(body, body_size);
        struct record *record = NULL;

        if (bytes_get_u8(&reader) != IMAGE_FORMAT)
                return false;
        switch (kind) {
        case LOCK_IMAGE_LOCK:
        case LOCK_IMAGE_SHARE:
                record = load_lock(table, kind == LOCK_IMAGE_SHARE, &reader);
                break;
        case LOCK_IMAGE_CLIENT:
                record = load_client(table, &reader);
                break;
        case LOCK_IMAGE_RESULT:
                record = load_result(table, &reader);
                break;
        case LOCK_IMAGE_SESSION:
                record = load_session(table, &reader);
                break;
        case LOCK_IMAGE_WAITER:
                record = load_waiter(table, &reader);
                break;
        case LOCK_IMAGE_PERIOD:
                record = load_period(table, &reader);
                break;
        case LOCK_IMAGE_DELAY:
                record = load_delay(table, &reader);
                break;
        case LOCK_IMAGE_PROMISE:
                record = load_promise(table, &reader);
                break;
        }
        if (!record || !bytes_reader_finished(&reader) || !columns_agree(table, record, key, label, number))
                return false;
        record->persisted = true;
        return true;
}

static int compare_last_index(const void *a, const void *b)
{
        const struct client_record *x = *(const struct client_record *const *)a;
        const struct client_record *y = *(const struct client_record *const *)b;

        return (x->last_index > y->last_index) - (x->last_index < y->last_index);
}

static int compare_result_index(const void *a, const void *b)
{
        const struct result_record *x = *(const struct result_record *const *)a;
        const struct result_record *y = *(const struct result_record *const *)b;

        return (x->index > y->index) - (x->index < y->index);
}

/* Records come in the order of their keys; age and idleness go by index. */
static void order_results(struct lock_table *table)
{
        struct result_record **all = alloc_zeroed(table->result_count, sizeof(*all)), *result;
        size_t count = 0;

        while ((result = TAILQ_FIRST(&table->by_age))) {
                TAILQ_REMOVE(&table->by_age, result, age);
                all[count++] = result;
        }
        qsort(all, count, sizeof(*all), compare_result_index);
        for (size_t i = 0; i < count; i++)
                TAILQ_INSERT_TAIL(&table->by_age, all[i], age);
        free(all);
}

static bool order_clients(struct lock_table *table)
{
        struct client_record **all = alloc_zeroed(table->client_count, sizeof(*all)), *client = NULL;
        size_t count = 0;

        while ((client = lock_table_next_client(table, client))) {
                if (client->principal.size == 0) {
                        free(all);
                        return false;
                }
                if (client->held == 0)
                        all[count++] = client;
        }
        qsort(all, count, sizeof(*all), compare_last_index);
        for (size_t i = 0; i < count; i++) {
                all[i]->is_idle = true;
                TAILQ_INSERT_TAIL(&table->idle, all[i], idle);
        }
        table->idle_count = count;
        free(all);
        return true;
}

static int compare_grants(const void *a, const void *b)
{
        return lock_record_compare_grants(*(const struct lock_record *const *)a, *(const struct lock_record *const *)b);
}

static void order_locks(struct session_record *session)
{
        struct lock_record **all = alloc_zeroed(session->held, sizeof(*all)), *lock;
        size_t count = 0;

        while ((lock = TAILQ_FIRST(&session->locks))) {
                TAILQ_REMOVE(&session->locks, lock, in_session);
                all[count++] = lock;
        }
        qsort(all, count, sizeof(*all), compare_grants);
        for (size_t i = 0; i < count; i++)
                TAILQ_INSERT_TAIL(&session->locks, all[i], in_session);
        free(all);
}

/* What its kind promises: a lease has its locks, or its waiter, with its id, and no other, one that has ended something to free, and all are of one client. */
static bool session_is_whole(const struct session_record *session)
{
        const struct lock_record *lock;
        const struct waiter_record *waiter;

        if (!session->client || (session->lease && (session->held == 0 || session->held > LIMIT_LOCKS_AT_ONCE || session->ended)) || (session->ended && session->held == 0))
                return false;
        TAILQ_FOREACH(lock, &session->locks, in_session)
                if (lock->owner != session->client || (session->lease && (lock->waiter ? lock->waiter : lock->token) != session->id))
                        return false;
        TAILQ_FOREACH(waiter, &session->waiters, in_session)
                if (waiter->client != session->client || (session->lease && waiter->id != session->id))
                        return false;
        return true;
}

/* In the order of their ids, which is the one in which they came; and of queues whose lock nobody owns, the leader must know. */
static void order_waiters(struct lock_table *table)
{
        struct waiter_record *waiter;
        struct place *place;

        for (uint64_t after = 0; (waiter = lock_table_waiter_after(table, after)); after = waiter->id) {
                for (unsigned i = 0; (place = lock_table_place(waiter, i)); i++) {
                        TAILQ_REMOVE(&place->queue->places, place, in_queue);
                        TAILQ_INSERT_TAIL(&place->queue->places, place, in_queue);
                }
                TAILQ_REMOVE(&waiter->session->waiters, waiter, in_session);
                TAILQ_INSERT_TAIL(&waiter->session->waiters, waiter, in_session);
        }
        for (struct queue_record *queue = NULL; (queue = lock_table_next_queue(table, queue));)
                lock_table_look_after_queue(table, queue);
}

static bool order_sessions(struct lock_table *table)
{
        struct session_record *session;

        for (uint64_t after = 0; (session = lock_table_session_after(table, after)); after = session->id) {
                if (!session_is_whole(session))
                        return false;
                order_locks(session);
        }
        return true;
}

bool lock_table_load_finish(struct lock_table *table)
{
        order_results(table);
        order_waiters(table);
        return order_clients(table) && order_sessions(table);
}
