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

static void image_lock(const struct lock_record *lock, struct lock_image *image)
{
        memcpy(image->key, lock->name, lock->name_size);
        image->key[lock->name_size] = 0;
        if (image->deleted)
                return;
        (void)snprintf(image->label, sizeof(image->label), "%s", lock->owner->id.text);
        image->number = lock->token;
        bytes_put_text8(&image->body, lock->name, lock->name_size);
        client_id_put(&image->body, &lock->owner->id);
        bytes_put_u64(&image->body, lock->token);
        bytes_put_u64(&image->body, lock->cluster_ms);
        bytes_put_u64(&image->body, lock->wall_ms);
        bytes_put_u64(&image->body, lock->session ? lock->session->id : 0);
        bytes_put_text8(&image->body, lock_record_principal(lock), lock->principal_size);
        holder_view_put(&image->body, lock_record_holder(lock));
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

enum { SESSION_LEASE = 1, SESSION_ENDED = 2 };

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
        bytes_put_u8(&image->body, (uint8_t)((session->lease ? SESSION_LEASE : 0) | (session->ended ? SESSION_ENDED : 0)));
        bytes_put_u64(&image->body, session->cluster_ms);
        bytes_put_u64(&image->body, session->wall_ms);
        holder_view_put(&image->body, (struct holder_view){ .data = session->holder, .size = session->holder_size });
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
        case LOCK_IMAGE_CLIENT:
                image_client((const struct client_record *)record, image);
                return;
        case LOCK_IMAGE_RESULT:
                image_result((const struct result_record *)record, image);
                return;
        case LOCK_IMAGE_SESSION:
                image_session((const struct session_record *)record, image);
                return;
        case LOCK_IMAGE_PERIOD:
                image_period((const struct period_record *)record, image);
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

static struct record *load_lock(struct lock_table *table, struct bytes_reader *reader)
{
        struct lock_name name;
        struct client_id owner;
        struct principal principal;
        struct holder_view holder;
        struct lock_record *lock;
        uint64_t token, cluster_ms, wall_ms, session;

        lock_name_get(reader, false, &name);
        client_id_get(reader, false, &owner);
        token = bytes_get_u64(reader);
        cluster_ms = bytes_get_u64(reader);
        wall_ms = bytes_get_u64(reader);
        session = bytes_get_u64(reader);
        principal_get(reader, false, &principal);
        holder_view_get(reader, &holder);
        if (reader->bad)
                return NULL;
        lock = lock_table_add_lock(table, &name, expect_client(table, &owner), &principal, holder);
        if (!lock)
                return NULL;
        lock->token = token;
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
        if (kind < LOCK_CHANGE_CLIENT || kind > LOCK_CHANGE_CLOSE)
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

        if (expected && expected->client)
                return NULL;                 /* twice the same */
        if (expected)
                lock_table_forget_session(table, expected);
        session = lock_table_add_session(table, id, holder);
        while (expected && (lock = TAILQ_FIRST(&expected->locks))) {
                TAILQ_REMOVE(&expected->locks, lock, in_session);
                lock_table_join_session(lock, session);
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
        uint32_t ttl_ms;
        uint8_t flags;

        client_id_get(reader, false, &client);
        principal_get(reader, false, &principal);
        ttl_ms = bytes_get_u32(reader);
        flags = bytes_get_u8(reader);
        cluster_ms = bytes_get_u64(reader);
        wall_ms = bytes_get_u64(reader);
        holder_view_get(reader, &holder);
        if (reader->bad || id == 0 || flags > (SESSION_LEASE | SESSION_ENDED) || ttl_ms < LIMIT_TTL_MIN_MS || ttl_ms > LIMIT_TTL_MS)
                return NULL;
        session = take_session(table, id, holder);
        if (!session)
                return NULL;
        session->client = expect_client(table, &client);
        session->client->held++;
        session->principal = principal;
        session->ttl_ms = ttl_ms;
        session->cluster_ms = cluster_ms;
        session->wall_ms = wall_ms;
        session->lease = flags & SESSION_LEASE;
        session->ended = flags & SESSION_ENDED;
        if (session->ended)
                TAILQ_INSERT_TAIL(&table->ended, session, end);
        return &session->record;
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
                record = load_lock(table, &reader);
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
        case LOCK_IMAGE_PERIOD:
                record = load_period(table, &reader);
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

static int compare_tokens(const void *a, const void *b)
{
        const struct lock_record *x = *(const struct lock_record *const *)a;
        const struct lock_record *y = *(const struct lock_record *const *)b;

        return (x->token > y->token) - (x->token < y->token);
}

static void order_locks(struct session_record *session)
{
        struct lock_record **all = alloc_zeroed(session->held, sizeof(*all)), *lock;
        size_t count = 0;

        while ((lock = TAILQ_FIRST(&session->locks))) {
                TAILQ_REMOVE(&session->locks, lock, in_session);
                all[count++] = lock;
        }
        qsort(all, count, sizeof(*all), compare_tokens);
        for (size_t i = 0; i < count; i++)
                TAILQ_INSERT_TAIL(&session->locks, all[i], in_session);
        free(all);
}

/* What its kind promises: a lease has its lock, with its id for a token, and no other, one that has ended something to free, and all are of one client. */
static bool session_is_whole(const struct session_record *session)
{
        const struct lock_record *lock;

        if (!session->client || (session->lease && (session->held != 1 || session->ended)) || (session->ended && session->held == 0))
                return false;
        TAILQ_FOREACH(lock, &session->locks, in_session)
                if (lock->owner != session->client || (session->lease && lock->token != session->id))
                        return false;
        return true;
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
        return order_clients(table) && order_sessions(table);
}
