/* What became of locks, as a table tells it, and the bounded memory of it. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "lock/events.h"
#include "lock/table.h"
#include "unit/suite.h"

static struct lock_table *table;
static struct lock_events *events;
static uint64_t index_next;
static size_t holder_size;

static void setup(void)
{
        table = lock_table_new();
        events = lock_events_new(0);
        lock_table_set_events(table, events);
        index_next = 1;
}

static void teardown(void)
{
        lock_table_free(table);
        lock_events_free(events);
}

static uint64_t apply(struct lock_change change)
{
        const struct lock_moment moment = { .index = index_next, .cluster_ms = index_next * 10, .wall_ms = 1000 + index_next };

        change.handle.bytes[0] = 1;
        change.seq = index_next;
        if (change.client.size == 0)
                ck_assert(client_id_set(&change.client, "ann", 3));
        ck_assert(principal_set(&change.principal, "uid:1", 5));
        lock_table_apply(table, &moment, &change);
        return index_next++;
}

static struct lock_name name_of(const char *text)
{
        struct lock_name name = { 0 };

        ck_assert(lock_name_set(&name, text, strlen(text)));
        return name;
}

static uint64_t grant(const char *lock, uint64_t session, uint32_t ttl_ms)
{
        static const struct holder holder = { .note = "for a test" };
        struct bytes bytes = { 0 };
        uint64_t token;

        holder_put(&bytes, &holder);
        holder_size = bytes.size;
        token = apply((struct lock_change){ .kind = LOCK_CHANGE_PREEMPT, .name = name_of(lock), .session = session, .ttl_ms = ttl_ms,
                                            .holder = { .data = bytes.data, .size = (uint16_t)bytes.size } });
        bytes_done(&bytes);
        return token;
}

static uint64_t give_back(const char *lock, uint64_t token)
{
        return apply((struct lock_change){ .kind = LOCK_CHANGE_RELEASE, .name = name_of(lock), .token = token });
}

static uint64_t end(enum lock_change_kind kind, uint64_t session)
{
        return apply((struct lock_change){ .kind = kind, .session = session });
}

static size_t count_after(uint64_t after)
{
        struct lock_events_cursor cursor = lock_events_seek(events, after);
        struct lock_event event;
        size_t count = 0;

        while (lock_events_next(events, &cursor, &event))
                count++;
        return count;
}

static struct lock_event newest(void)
{
        struct lock_events_cursor cursor = lock_events_seek(events, index_next - 2);
        struct lock_event event;

        ck_assert(lock_events_next(events, &cursor, &event));
        return event;
}

static void expect(enum lock_event_kind kind, const char *lock, uint64_t token, uint64_t session)
{
        struct lock_event event = newest();

        ck_assert_int_eq(event.kind, kind);
        ck_assert_uint_eq(event.index, index_next - 1);
        ck_assert_uint_eq(event.wall_ms, 1000 + event.index);
        ck_assert_uint_eq(event.name_size, strlen(lock));
        ck_assert_mem_eq(event.name, lock, event.name_size);
        ck_assert_uint_eq(event.client_size, 3);
        ck_assert_mem_eq(event.client, "ann", 3);
        ck_assert_uint_eq(event.token, token);
        ck_assert_uint_eq(event.session, session);
        ck_assert_uint_eq(event.holder.size, kind == LOCK_EVENT_GRANTED ? holder_size : 0);
}

START_TEST(grant_and_release_are_told_with_token_and_holder)
{
        uint64_t token = grant("a", 0, 0);

        expect(LOCK_EVENT_GRANTED, "a", token, 0);
        give_back("a", token);
        expect(LOCK_EVENT_RELEASED, "a", token, 0);
}
END_TEST

START_TEST(holds_of_a_lock_that_is_held_together_are_told_each_with_how)
{
        const uint16_t slots = _i == 0 ? SLOTS_SHARED : 2;
        uint64_t tokens[2];

        holder_size = 0;
        for (unsigned i = 0; i < 2; i++) {
                tokens[i] = apply((struct lock_change){ .kind = LOCK_CHANGE_PREEMPT, .name = name_of("a"), .slots = slots });
                expect(LOCK_EVENT_GRANTED, "a", tokens[i], 0);
                ck_assert_uint_eq(newest().slots, slots);
        }
        for (unsigned i = 0; i < 2; i++) {
                give_back("a", tokens[i]);
                expect(LOCK_EVENT_RELEASED, "a", tokens[i], 0);
                ck_assert_uint_eq(newest().slots, slots);
        }
        (void)grant("a", 0, 0);
        ck_assert_uint_eq(newest().slots, 0);
}
END_TEST

START_TEST(lease_is_told_as_released_expired_or_closed)
{
        uint64_t token = grant("a", 0, 5000);

        expect(LOCK_EVENT_GRANTED, "a", token, token);
        ck_assert_uint_eq(newest().ttl_ms, 5000);
        give_back("a", token);
        expect(LOCK_EVENT_RELEASED, "a", token, token);
        token = grant("a", 0, 5000);
        end(LOCK_CHANGE_EXPIRE, token);
        expect(LOCK_EVENT_EXPIRED, "a", token, token);
        token = grant("a", 0, 5000);
        end(LOCK_CHANGE_CLOSE, token);
        expect(LOCK_EVENT_CLOSED, "a", token, token);
}
END_TEST

static uint64_t open_with(unsigned locks)
{
        uint64_t session = apply((struct lock_change){ .kind = LOCK_CHANGE_OPEN, .ttl_ms = 5000 });
        char name[32];

        for (unsigned i = 0; i < locks; i++) {
                (void)snprintf(name, sizeof(name), "lock/%u", i);
                grant(name, session, 0);
        }
        return session;
}

/* What one entry cannot free is freed by more of them, which the leader calls expiries, whatever the first was. */
static void end_in_steps(enum lock_change_kind kind, enum lock_event_kind want)
{
        uint64_t session = open_with(60), ended = end(kind, session);
        struct lock_events_cursor cursor;
        struct lock_event event;
        size_t count = 0;

        ck_assert_uint_eq(count_after(ended - 1), LOCK_FREED_PER_ENTRY);
        end(LOCK_CHANGE_EXPIRE, session);
        cursor = lock_events_seek(events, ended - 1);
        for (; lock_events_next(events, &cursor, &event); count++) {
                ck_assert_int_eq(event.kind, want);
                ck_assert_uint_eq(event.session, session);
        }
        ck_assert_uint_eq(count, 60);
}

START_TEST(session_that_ends_frees_all_that_it_holds_for_one_cause)
{
        end_in_steps(LOCK_CHANGE_EXPIRE, LOCK_EVENT_EXPIRED);
        end_in_steps(LOCK_CHANGE_CLOSE, LOCK_EVENT_CLOSED);
}
END_TEST

/* The table as it was in between is read back from its images: the cause is part of the state. */
START_TEST(cause_survives_a_restart_in_the_middle_of_an_end)
{
        struct lock_table *loaded = lock_table_new();
        struct lock_image image = { .kind = 0 };
        uint64_t session = open_with(60), before;

        end(LOCK_CHANGE_CLOSE, session);
        before = index_next - 1;
        while (lock_table_take_image(table, &image))
                if (!image.deleted)
                        ck_assert(lock_table_load(loaded, image.kind, image.key, image.label, image.number, image.body.data, image.body.size));
        ck_assert(lock_table_load_finish(loaded));
        bytes_done(&image.body);
        lock_table_free(table);
        table = loaded;
        lock_table_set_events(table, events);
        end(LOCK_CHANGE_EXPIRE, session);
        ck_assert_int_eq(newest().kind, LOCK_EVENT_CLOSED);
        ck_assert_uint_eq(count_after(before), 60 - LOCK_FREED_PER_ENTRY);
}
END_TEST

START_TEST(nobody_is_told_without_a_memory)
{
        lock_table_set_events(table, NULL);
        give_back("a", grant("a", 0, 0));
        ck_assert_uint_eq(count_after(0), 0);
}
END_TEST

/* Events after any index lead from the state at that index to the state now. */
START_TEST(events_tell_all_that_happened_in_order)
{
        enum { LOCKS = 40, STEPS = 4000 };
        uint64_t held[LOCKS] = { 0 }, told[LOCKS] = { 0 }, last = 0;
        struct lock_events_cursor cursor;
        struct lock_event event;

        srandom(1);
        for (unsigned i = 0; i < STEPS; i++) {
                unsigned at = (unsigned)random() % LOCKS;
                char name[8];

                (void)snprintf(name, sizeof(name), "%u", at);
                if (held[at] == 0) {
                        held[at] = grant(name, 0, random() % 2 ? 1000 : 0);
                        continue;
                }
                give_back(name, held[at]);
                held[at] = 0;
        }
        cursor = lock_events_seek(events, 0);
        while (lock_events_next(events, &cursor, &event)) {
                char name[8] = "";
                unsigned at;

                ck_assert_uint_gt(event.index, last);
                last = event.index;
                memcpy(name, event.name, event.name_size);
                at = (unsigned)strtoul(name, NULL, 10);
                ck_assert_uint_eq(told[at], event.kind == LOCK_EVENT_GRANTED ? 0 : event.token);
                told[at] = event.kind == LOCK_EVENT_GRANTED ? event.token : 0;
        }
        ck_assert_mem_eq(held, told, sizeof(held));
        for (uint64_t after = 0; after < index_next; after += 97)
                ck_assert_uint_eq(count_after(after), index_next - 1 - after);
}
END_TEST

/* The longest events there are fill it soon. */
static void add_long(uint64_t at, unsigned count)
{
        static const uint8_t holder[LIMIT_HOLDER_BYTES];
        static const char text[LIMIT_LOCK_NAME_BYTES];

        for (unsigned i = 0; i < count; i++)
                lock_events_add(events, &(struct lock_event){ .kind = LOCK_EVENT_GRANTED, .index = at, .token = i + 1, .name = text, .client = text,
                                                              .name_size = sizeof(text), .client_size = LIMIT_CLIENT_ID_BYTES,
                                                              .holder = { .data = holder, .size = sizeof(holder) } });
}

START_TEST(memory_is_bounded_and_says_from_where_on_it_is_whole)
{
        uint64_t at = 1, floor;

        for (; at <= 400; at++)
                add_long(at, LIMIT_ENTRY_RECORDS);
        floor = lock_events_floor(events);
        ck_assert_uint_gt(floor, 300);
        ck_assert_uint_lt(floor, 400);
        /* Whole entries, also of the first of them. */
        for (; floor < 400; floor++)
                ck_assert_uint_eq(count_after(floor), (400 - floor) * LIMIT_ENTRY_RECORDS);
}
END_TEST

START_TEST(what_was_cleared_begins_anew)
{
        uint64_t generation = lock_events_generation(events);

        add_long(1, 100);
        lock_events_clear(events, 1000);
        ck_assert_uint_eq(lock_events_floor(events), 1000);
        ck_assert_uint_ne(lock_events_generation(events), generation);
        ck_assert_uint_eq(count_after(1000), 0);
        add_long(1001, 2);
        ck_assert_uint_eq(count_after(1000), 2);
        ck_assert_uint_eq(count_after(1001), 0);
}
END_TEST

static Suite *suite(void)
{
        Suite *s = suite_create("events");
        TCase *c = tcase_create("events");

        tcase_add_checked_fixture(c, setup, teardown);
        tcase_add_test(c, grant_and_release_are_told_with_token_and_holder);
        tcase_add_loop_test(c, holds_of_a_lock_that_is_held_together_are_told_each_with_how, 0, 2);
        tcase_add_test(c, lease_is_told_as_released_expired_or_closed);
        tcase_add_test(c, session_that_ends_frees_all_that_it_holds_for_one_cause);
        tcase_add_test(c, cause_survives_a_restart_in_the_middle_of_an_end);
        tcase_add_test(c, nobody_is_told_without_a_memory);
        tcase_add_test(c, events_tell_all_that_happened_in_order);
        tcase_add_test(c, memory_is_bounded_and_says_from_where_on_it_is_whole);
        tcase_add_test(c, what_was_cleared_begins_anew);
        suite_add_tcase(s, c);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
