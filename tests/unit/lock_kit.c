#include "unit/lock_kit.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

struct lock_table *table;
struct lock_overlay *overlay;
uint64_t index_next;
uint32_t handle_next;

void lock_setup(void)
{
        table = lock_table_new();
        overlay = lock_overlay_new();
        index_next = 1;
        handle_next = 1;
}

void lock_teardown(void)
{
        lock_overlay_free(overlay);
        lock_table_free(table);
}

struct lock_request request_of(enum lock_change_kind kind, const char *client, const char *lock)
{
        struct lock_request request = { .kind = kind, .seq = 1 };

        memcpy(request.handle.bytes, &handle_next, sizeof(handle_next));
        handle_next++;
        ck_assert(client_id_set(&request.client, client, strlen(client)));
        ck_assert(principal_set(&request.principal, "uid:1", 5));
        if (lock)
                ck_assert(lock_name_set(&request.name, lock, strlen(lock)));
        return request;
}

struct lock_decision decide(const struct lock_request *request)
{
        struct lock_decision decision;

        lock_decide(table, overlay, request, &decision);
        return decision;
}

/* Seen by later decisions, not yet in the table. */
uint64_t append(const struct lock_request *request)
{
        struct lock_decision decision = decide(request);

        ck_assert_int_eq(decision.verdict, LOCK_ACCEPTED);
        lock_overlay_add(overlay, index_next, &decision.change);
        return index_next++;
}

void apply(uint64_t index, const struct lock_change *change)
{
        const struct lock_moment moment = { .index = index, .cluster_ms = index * 10, .wall_ms = 1000 + index };

        lock_table_apply(table, &moment, change);
        lock_overlay_applied(overlay, index);
}

uint64_t make(const struct lock_request *request)
{
        struct lock_decision decision = decide(request);
        uint64_t index = index_next++;

        ck_assert_int_eq(decision.verdict, LOCK_ACCEPTED);
        lock_overlay_add(overlay, index, &decision.change);
        apply(index, &decision.change);
        return index;
}

uint64_t open_session(const char *client, uint32_t ttl_ms)
{
        struct lock_request request = request_of(LOCK_CHANGE_OPEN, client, NULL);

        request.ttl_ms = ttl_ms;
        return make(&request);
}

struct lock_request in_session(const char *client, const char *lock, uint64_t session)
{
        struct lock_request request = request_of(LOCK_CHANGE_PREEMPT, client, lock);

        request.session = session;
        return request;
}

struct lock_request lease_of(const char *client, const char *lock, uint32_t ttl_ms)
{
        struct lock_request request = request_of(LOCK_CHANGE_PREEMPT, client, lock);

        request.ttl_ms = ttl_ms;
        return request;
}

struct lock_request wait_of(const char *client, const char *lock, uint32_t ttl_ms)
{
        struct lock_request request = lease_of(client, lock, ttl_ms);

        request.wait = true;
        return request;
}

struct lock_request release_of(const char *client, const char *lock, uint64_t token)
{
        struct lock_request request = request_of(LOCK_CHANGE_RELEASE, client, lock);

        request.token = token;
        return request;
}

struct lock_request of_session(enum lock_change_kind kind, const char *client, uint64_t session)
{
        struct lock_request request = request_of(kind, client, NULL);

        request.session = session;
        return request;
}

struct lock_change end_of(uint64_t session, const char *client)
{
        struct lock_change change = { .kind = LOCK_CHANGE_EXPIRE, .session = session };

        ck_assert(client_id_set(&change.client, client, strlen(client)));
        ck_assert(principal_set(&change.principal, "uid:1", 5));
        return change;
}

void expire(uint64_t session, const char *client)
{
        const struct lock_change change = end_of(session, client);

        apply(index_next++, &change);
}

bool is_owned(const char *lock)
{
        struct lock_name name = { 0 };
        struct lock_view view;

        return lock_name_set(&name, lock, strlen(lock)) && lock_table_find(table, &name, &view);
}

void expect_owner(const char *lock, const char *client, uint64_t token)
{
        struct lock_name name = { 0 };
        struct lock_view view;

        ck_assert(lock_name_set(&name, lock, strlen(lock)));
        ck_assert(lock_table_find(table, &name, &view));
        ck_assert_str_eq(view.owner, client);
        ck_assert_uint_eq(view.token, token);
}

size_t queue_length(const char *lock)
{
        struct lock_name name = { 0 };

        ck_assert(lock_name_set(&name, lock, strlen(lock)));
        return lock_table_queue_length(table, &name);
}

uint64_t held_by(const char *client)
{
        struct client_id id = { 0 };
        struct lock_client_view view;

        ck_assert(client_id_set(&id, client, strlen(client)));
        return lock_table_find_client(table, &id, &view) ? view.held : UINT64_MAX;
}

void load_all(struct lock_table *from, struct lock_table *to)
{
        struct lock_image image = { .kind = LOCK_IMAGE_LOCK };

        while (lock_table_take_image(from, &image))
                if (!image.deleted)
                        ck_assert(lock_table_load(to, image.kind, image.key, image.label, image.number, image.body.data, image.body.size));
        bytes_done(&image.body);
        ck_assert(lock_table_load_finish(to));
}

/* The same locks are there in both. */
void expect_equal(const struct lock_table *a, const struct lock_table *b)
{
        struct lock_view x = { .name = "" }, y = { .name = "" };

        ck_assert_uint_eq(lock_table_lock_count(a), lock_table_lock_count(b));
        ck_assert_uint_eq(lock_table_session_count(a), lock_table_session_count(b));
        while (lock_table_next(a, "", 0, x.name, x.name_size, x.token, &x)) {
                ck_assert(lock_table_next(b, "", 0, y.name, y.name_size, y.token, &y));
                ck_assert_str_eq(x.name, y.name);
                ck_assert_uint_eq(x.session, y.session);
        }
}
