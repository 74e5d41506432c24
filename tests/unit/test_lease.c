/* The lock room: sessions and leases, what hangs on them, and what becomes of it when they end. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "unit/lock_kit.h"
#include "unit/suite.h"

START_TEST(lease_is_a_lock_in_a_session_of_its_own)
{
        const struct lock_request request = lease_of("alice", "a", 5000);
        uint64_t token = make(&request);
        struct lock_session_view session;
        struct lock_view view;

        ck_assert(lock_table_find(table, &request.name, &view));
        ck_assert_uint_eq(view.session, token);
        ck_assert_uint_eq(view.ttl_ms, 5000);
        ck_assert(lock_table_find_session(table, token, &session));
        ck_assert(session.lease && !session.ended);
        ck_assert_uint_eq(session.held, 1);
        ck_assert_str_eq(session.client, "alice");
        ck_assert_str_eq(session.lock, "a");
        expire(token, "alice");
        ck_assert(!is_owned("a"));
        ck_assert_uint_eq(lock_table_session_count(table), 0);
        ck_assert_uint_eq(held_by("alice"), 0);
}
END_TEST

START_TEST(lease_that_is_released_takes_its_session_with_it)
{
        const struct lock_request request = lease_of("alice", "a", 5000);
        uint64_t token = make(&request);
        struct lock_request release = request_of(LOCK_CHANGE_RELEASE, "alice", "a"), other;

        release.token = token;
        (void)make(&release);
        ck_assert_uint_eq(lock_table_session_count(table), 0);
        /* Its end was under way already. */
        expire(token, "alice");
        ck_assert_uint_eq(held_by("alice"), 0);
        other = request_of(LOCK_CHANGE_PREEMPT, "bob", "a");
        (void)make(&other);
        ck_assert(is_owned("a"));
}
END_TEST

START_TEST(session_belongs_to_its_client_and_to_no_other)
{
        uint64_t session = open_session("alice", 5000);
        struct lock_request request = in_session("bob", "a", session);

        ck_assert_int_eq(decide(&request).verdict, LOCK_NO_SESSION);
        request = of_session(LOCK_CHANGE_CLOSE, "bob", session);
        ck_assert_int_eq(decide(&request).verdict, LOCK_NO_SESSION);
        request = of_session(LOCK_RENEW, "bob", session);
        request.seq = 0;
        ck_assert_int_eq(decide(&request).verdict, LOCK_NO_SESSION);
        request = of_session(LOCK_RENEW, "alice", session);
        ck_assert_int_eq(decide(&request).verdict, LOCK_RENEWED);
        /* Whoever counts on another time to live than it has would believe in it for too long. */
        request.ttl_ms = 5000;
        ck_assert_int_eq(decide(&request).verdict, LOCK_RENEWED);
        request.ttl_ms = 5001;
        ck_assert_int_eq(decide(&request).verdict, LOCK_OTHER_TTL);
        ck_assert_uint_eq(decide(&request).token, 5000);
        request.ttl_ms = 0;
        ck_assert(principal_set(&request.principal, "uid:2", 5));
        ck_assert_int_eq(decide(&request).verdict, LOCK_FOREIGN_CLIENT);
        request = of_session(LOCK_RENEW, "alice", session + 1);
        ck_assert_int_eq(decide(&request).verdict, LOCK_NO_SESSION);
}
END_TEST

START_TEST(closing_frees_all_and_is_answered_the_same_again)
{
        uint64_t session = open_session("alice", 5000);
        struct lock_request first = in_session("alice", "a", session), second = in_session("alice", "b", session);
        struct lock_request outside = request_of(LOCK_CHANGE_PREEMPT, "alice", "c"), close = of_session(LOCK_CHANGE_CLOSE, "alice", session);
        struct lock_decision again;

        (void)make(&first);
        (void)make(&second);
        (void)make(&outside);
        (void)make(&close);
        ck_assert(!is_owned("a") && !is_owned("b") && is_owned("c"));
        again = decide(&close);
        ck_assert_int_eq(again.verdict, LOCK_REPEATED);
        ck_assert_uint_eq(again.token, session);
        close = of_session(LOCK_CHANGE_CLOSE, "alice", session);
        ck_assert_int_eq(decide(&close).verdict, LOCK_NO_SESSION);
        ck_assert_uint_eq(held_by("alice"), 1);
}
END_TEST

START_TEST(what_is_about_to_be_freed_is_decided_later)
{
        uint64_t session = open_session("alice", 5000), index;
        struct lock_request request = in_session("alice", "a", session), release, other;
        struct lock_change end = end_of(session, "alice");

        (void)make(&request);
        index = index_next++;
        lock_overlay_add(overlay, index, &end);
        other = request_of(LOCK_CHANGE_PREEMPT, "bob", "a");
        ck_assert_int_eq(decide(&other).verdict, LOCK_LATER);
        release = request_of(LOCK_CHANGE_RELEASE, "alice", "a");
        release.token = index - 1;
        ck_assert_int_eq(decide(&release).verdict, LOCK_LATER);
        request = in_session("alice", "b", session);
        ck_assert_int_eq(decide(&request).verdict, LOCK_NO_SESSION);
        request = of_session(LOCK_RENEW, "alice", session);
        ck_assert_int_eq(decide(&request).verdict, LOCK_NO_SESSION);
        apply(index, &end);
        ck_assert_int_eq(decide(&release).verdict, LOCK_NOT_OWNER);
        ck_assert_int_eq(decide(&other).verdict, LOCK_ACCEPTED);
}
END_TEST

/* Of one that holds much: until the last of them is applied nobody need end it again. */
START_TEST(session_is_about_to_end_while_one_of_several_entries_is_under_way)
{
        uint64_t session = open_session("alice", 5000), first, last;
        struct lock_change end = end_of(session, "alice");

        for (unsigned i = 0; i <= LOCK_FREED_PER_ENTRY; i++) {
                struct lock_request request;
                char name[8];

                (void)snprintf(name, sizeof(name), "x%u", i);
                request = in_session("alice", name, session);
                (void)make(&request);
        }
        first = index_next++;
        last = index_next++;
        lock_overlay_add(overlay, first, &end);
        lock_overlay_add(overlay, last, &end);
        ck_assert(lock_overlay_ends(overlay, session));
        apply(first, &end);
        ck_assert(lock_overlay_ends(overlay, session));
        apply(last, &end);
        ck_assert(!lock_overlay_ends(overlay, session));
        ck_assert_uint_eq(lock_table_session_count(table), 0);
}
END_TEST

START_TEST(grant_that_is_pending_in_a_session_goes_with_it)
{
        uint64_t session = open_session("alice", 5000), granted, ended;
        struct lock_request request = in_session("alice", "a", session), close = of_session(LOCK_CHANGE_CLOSE, "alice", session);
        struct lock_decision grant = decide(&request), end;

        granted = append(&request);
        end = decide(&close);
        ended = append(&close);
        apply(granted, &grant.change);
        ck_assert(is_owned("a"));
        apply(ended, &end.change);
        ck_assert(!is_owned("a"));
        ck_assert_uint_eq(lock_overlay_count(overlay), 0);
}
END_TEST

/* Its lock goes with it, and it with its lock: a second one would outlive it. */
START_TEST(nothing_is_held_in_a_lease)
{
        struct lock_request request = lease_of("alice", "a", 5000), in_lease;
        uint64_t token = make(&request);

        in_lease = in_session("alice", "b", token);
        ck_assert_int_eq(decide(&in_lease).verdict, LOCK_NO_SESSION);
}
END_TEST

START_TEST(lease_whose_release_is_under_way_has_ended)
{
        struct lock_request request = lease_of("alice", "a", 5000), release, close, renew;
        uint64_t token = make(&request), released;
        struct lock_decision decision;

        release = request_of(LOCK_CHANGE_RELEASE, "alice", "a");
        release.token = token;
        decision = decide(&release);
        released = append(&release);
        renew = of_session(LOCK_RENEW, "alice", token);
        ck_assert_int_eq(decide(&renew).verdict, LOCK_NO_SESSION);
        close = of_session(LOCK_CHANGE_CLOSE, "alice", token);
        ck_assert_int_eq(decide(&close).verdict, LOCK_NO_SESSION);
        /* Its lock has another lease meanwhile. */
        request = lease_of("alice", "a", 5000);
        (void)append(&request);
        ck_assert_int_eq(decide(&renew).verdict, LOCK_NO_SESSION);
        apply(released, &decision.change);
        ck_assert_int_eq(decide(&renew).verdict, LOCK_NO_SESSION);
}
END_TEST

static void hold_many(const char *client, uint64_t session, unsigned count)
{
        for (unsigned i = 0; i < count; i++) {
                struct lock_request request;
                char name[32];

                /* In another order than that of the names. */
                (void)snprintf(name, sizeof(name), "many/%04u", (i * 7) % count);
                request = in_session(client, name, session);
                (void)make(&request);
        }
}

START_TEST(one_that_holds_much_is_freed_in_parts_that_are_the_same_everywhere)
{
        uint64_t session = open_session("alice", 5000);
        struct lock_table *other = lock_table_new(), *mine = table;
        struct lock_change end = end_of(session, "alice");
        struct lock_session_view view;
        struct lock_request request;
        unsigned parts = 0;

        hold_many("alice", session, 300);
        load_all(table, other);
        expect_equal(table, other);
        while (lock_table_session_count(table) > 0) {
                size_t before = lock_table_lock_count(table);

                table = mine;
                apply(index_next, &end);
                table = other;
                apply(index_next++, &end);
                table = mine;
                expect_equal(table, other);
                ck_assert_uint_le(before - lock_table_lock_count(table), LIMIT_ENTRY_RECORDS / 2);
                parts++;
                if (lock_table_session_count(table) == 0)
                        break;
                ck_assert(lock_table_next_ended(table, 0, &view) && view.id == session && view.ended && view.held == lock_table_lock_count(table));
                request = in_session("alice", "new", session);
                ck_assert_int_eq(decide(&request).verdict, LOCK_NO_SESSION);
        }
        ck_assert_uint_gt(parts, 1);
        ck_assert_uint_eq(lock_table_lock_count(table), 0);
        ck_assert(!lock_table_next_ended(table, 0, &view));
        lock_table_free(other);
}
END_TEST

START_TEST(one_half_freed_comes_back_from_the_disk_half_freed)
{
        uint64_t session = open_session("alice", 5000);
        struct lock_table *other = lock_table_new();
        struct lock_session_view view;

        hold_many("alice", session, 60);
        expire(session, "alice");
        load_all(table, other);
        ck_assert(lock_table_next_ended(other, 0, &view) && view.id == session);
        ck_assert_uint_eq(view.held, lock_table_lock_count(table));
        lock_table_free(table);
        table = other;
        expire(session, "alice");
        ck_assert_uint_eq(lock_table_session_count(table), 0);
}
END_TEST

/* Every image but those of KIND. */
static bool loads_without(enum lock_image_kind kind)
{
        struct lock_table *other = lock_table_new();
        struct lock_image image = { .kind = LOCK_IMAGE_LOCK };
        bool whole = true;

        while (lock_table_take_image(table, &image))
                if (image.kind != kind)
                        whole = lock_table_load(other, image.kind, image.key, image.label, image.number, image.body.data, image.body.size) && whole;
        whole = whole && lock_table_load_finish(other);
        lock_table_free(other);
        bytes_done(&image.body);
        return whole;
}

START_TEST(lock_whose_session_is_missing_and_lease_without_its_lock_are_refused)
{
        const struct lock_request request = lease_of("alice", "a", 5000);

        (void)make(&request);
        ck_assert(!loads_without(_i == 0 ? LOCK_IMAGE_SESSION : _i == 1 ? LOCK_IMAGE_LOCK : LOCK_IMAGE_CLIENT));
}
END_TEST

START_TEST(image_of_a_session_that_was_tampered_with_is_refused)
{
        struct lock_image image = { .kind = LOCK_IMAGE_LOCK };

        (void)open_session("alice", 5000);
        while (lock_table_take_image(table, &image)) {
                struct lock_table *other = lock_table_new();

                if (image.kind == LOCK_IMAGE_SESSION) {
                        ck_assert(!lock_table_load(other, image.kind, "7", image.label, image.number, image.body.data, image.body.size));
                        for (size_t size = 0; size < image.body.size; size++)
                                ck_assert(!lock_table_load(other, image.kind, image.key, image.label, image.number, image.body.data, size));
                }
                lock_table_free(other);
        }
        bytes_done(&image.body);
}
END_TEST

START_TEST(changes_read_back_whole_and_not_in_part)
{
        static const enum lock_change_kind kinds[] = { LOCK_CHANGE_PREEMPT, LOCK_CHANGE_OPEN, LOCK_CHANGE_CLOSE, LOCK_CHANGE_EXPIRE };
        struct lock_change change = { .kind = kinds[_i], .session = 77, .ttl_ms = 5000 }, again;
        struct bytes bytes = { 0 };

        change.client = request_of(LOCK_CHANGE_OPEN, "alice", NULL).client;
        change.principal = request_of(LOCK_CHANGE_OPEN, "alice", NULL).principal;
        if (kinds[_i] != LOCK_CHANGE_EXPIRE) {
                change.handle.bytes[0] = 1;
                change.seq = 1;
        }
        if (kinds[_i] == LOCK_CHANGE_PREEMPT) {
                ck_assert(lock_name_set(&change.name, "a", 1));
                change.session = 0;
        }
        lock_change_put(&bytes, &change);
        ck_assert(lock_change_get(kinds[_i], bytes.data, bytes.size, &again));
        ck_assert_uint_eq(again.ttl_ms, kinds[_i] == LOCK_CHANGE_PREEMPT || kinds[_i] == LOCK_CHANGE_OPEN ? 5000 : 0);
        ck_assert_uint_eq(again.session, lock_change_ends(kinds[_i]) ? 77 : 0);
        for (size_t size = 0; size < bytes.size; size++)
                ck_assert(!lock_change_get(kinds[_i], bytes.data, size, &again));
        bytes_done(&bytes);
}
END_TEST

START_TEST(lease_in_a_session_and_times_beyond_the_limits_are_not_well_formed)
{
        struct lock_change change = { .kind = LOCK_CHANGE_PREEMPT, .seq = 1, .session = 5, .ttl_ms = 5000 }, again;
        struct bytes bytes = { 0 };

        change.client = request_of(LOCK_CHANGE_OPEN, "alice", NULL).client;
        change.principal = request_of(LOCK_CHANGE_OPEN, "alice", NULL).principal;
        ck_assert(lock_name_set(&change.name, "a", 1));
        lock_change_put(&bytes, &change);
        ck_assert(!lock_change_get(change.kind, bytes.data, bytes.size, &again));
        for (uint32_t ttl_ms = LIMIT_TTL_MIN_MS - 1; ttl_ms <= LIMIT_TTL_MS + 1; ttl_ms += LIMIT_TTL_MS - LIMIT_TTL_MIN_MS + 2) {
                change = (struct lock_change){ .kind = LOCK_CHANGE_OPEN, .seq = 1, .ttl_ms = ttl_ms, .client = change.client, .principal = change.principal };
                bytes_clear(&bytes);
                lock_change_put(&bytes, &change);
                ck_assert(!lock_change_get(change.kind, bytes.data, bytes.size, &again));
        }
        bytes_done(&bytes);
}
END_TEST

static struct lock_request once(const char *client, const char *lock, uint64_t period_ms, uint64_t cluster_ms)
{
        struct lock_request request = request_of(LOCK_CHANGE_PREEMPT, client, lock);

        request.period_ms = period_ms;
        request.cluster_ms = cluster_ms;
        return request;
}

START_TEST(lock_that_is_wanted_once_in_a_period_is_granted_once)
{
        struct lock_request first = once("alice", "a", 5000, 0), second = once("bob", "a", 5000, 4000), release, other;
        uint64_t token = make(&first);       /* at 10 ms */
        struct lock_decision decision;

        ck_assert_int_eq(decide(&second).verdict, LOCK_HELD);
        release = request_of(LOCK_CHANGE_RELEASE, "alice", "a");
        release.token = token;
        (void)make(&release);
        decision = decide(&second);
        ck_assert_int_eq(decision.verdict, LOCK_TOO_SOON);
        ck_assert_uint_eq(decision.token, token);
        ck_assert_str_eq(decision.owner.text, "alice");
        second.cluster_ms = 5009;
        ck_assert_int_eq(decide(&second).verdict, LOCK_TOO_SOON);
        second.cluster_ms = 5010;
        ck_assert_int_eq(decide(&second).verdict, LOCK_ACCEPTED);
        other = request_of(LOCK_CHANGE_PREEMPT, "carol", "a");
        ck_assert_int_eq(decide(&other).verdict, LOCK_ACCEPTED);     /* who does not care */
        second.cluster_ms = 3010;
        second.period_ms = 3000;
        ck_assert_int_eq(decide(&second).verdict, LOCK_ACCEPTED);    /* its own period is over */
        ck_assert_int_eq(decide(&first).verdict, LOCK_REPEATED);
}
END_TEST

START_TEST(table_that_is_to_be_quiet_grants_nothing_and_frees_all)
{
        struct lock_request lease = lease_of("alice", "a", 7000), other = request_of(LOCK_CHANGE_PREEMPT, "bob", "b"), release;
        struct lock_table *copy = lock_table_new();
        uint64_t token = make(&lease);

        ck_assert_uint_eq(lock_table_longest_ttl_ms(table), 7000);
        (void)open_session("alice", 3000);
        ck_assert_uint_eq(lock_table_longest_ttl_ms(table), 7000);
        lock_table_be_quiet(table, 500);
        load_all(table, copy);
        lock_table_free(table);
        table = copy;
        ck_assert_uint_eq(lock_table_longest_ttl_ms(table), 7000);
        ck_assert_uint_eq(lock_table_quiet_until(table), 500);
        other.cluster_ms = 499;
        ck_assert_int_eq(decide(&other).verdict, LOCK_QUIET);
        ck_assert_int_eq(decide(&lease).verdict, LOCK_REPEATED);
        release = request_of(LOCK_CHANGE_RELEASE, "alice", "a");
        release.token = token;
        ck_assert_int_eq(decide(&release).verdict, LOCK_ACCEPTED);
        other.cluster_ms = 500;
        ck_assert_int_eq(decide(&other).verdict, LOCK_ACCEPTED);
}
END_TEST

START_TEST(grant_is_remembered_for_its_period_and_no_longer)
{
        struct lock_request request = once("alice", "a", 1000, 0), other;
        struct lock_table *copy = lock_table_new();
        struct lock_period_view period;
        uint64_t token = make(&request);

        load_all(table, copy);
        ck_assert(lock_table_find_period(copy, &request.name, &period));
        ck_assert_uint_eq(period.token, token);
        ck_assert_uint_eq(period.cluster_ms, token * 10);
        lock_table_free(copy);
        ck_assert_uint_eq(lock_table_period_count(table), 1);
        for (unsigned i = 0; i < 100; i++) {
                other = request_of(LOCK_CHANGE_CANCEL, "bob", "x");
                (void)make(&other);
        }
        ck_assert_uint_eq(lock_table_period_count(table), 0);
        ck_assert(!lock_table_find_period(table, &request.name, &period));
}
END_TEST

static Suite *suite(void)
{
        Suite *s = suite_create("lease");
        TCase *c = tcase_create("lease");

        tcase_add_checked_fixture(c, lock_setup, lock_teardown);
        tcase_add_test(c, lease_is_a_lock_in_a_session_of_its_own);
        tcase_add_test(c, lease_that_is_released_takes_its_session_with_it);
        tcase_add_test(c, session_belongs_to_its_client_and_to_no_other);
        tcase_add_test(c, closing_frees_all_and_is_answered_the_same_again);
        tcase_add_test(c, what_is_about_to_be_freed_is_decided_later);
        tcase_add_test(c, session_is_about_to_end_while_one_of_several_entries_is_under_way);
        tcase_add_test(c, grant_that_is_pending_in_a_session_goes_with_it);
        tcase_add_test(c, nothing_is_held_in_a_lease);
        tcase_add_test(c, lease_whose_release_is_under_way_has_ended);
        tcase_add_test(c, one_that_holds_much_is_freed_in_parts_that_are_the_same_everywhere);
        tcase_add_test(c, one_half_freed_comes_back_from_the_disk_half_freed);
        tcase_add_loop_test(c, lock_whose_session_is_missing_and_lease_without_its_lock_are_refused, 0, 3);
        tcase_add_test(c, image_of_a_session_that_was_tampered_with_is_refused);
        tcase_add_loop_test(c, changes_read_back_whole_and_not_in_part, 0, 4);
        tcase_add_test(c, lock_that_is_wanted_once_in_a_period_is_granted_once);
        tcase_add_test(c, table_that_is_to_be_quiet_grants_nothing_and_frees_all);
        tcase_add_test(c, grant_is_remembered_for_its_period_and_no_longer);
        tcase_add_test(c, lease_in_a_session_and_times_beyond_the_limits_are_not_well_formed);
        suite_add_tcase(s, c);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
