/* The lock room: several locks at once, all or nothing, as one lease; and who waits for several. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "lock/record.h"
#include "unit/lock_kit.h"
#include "unit/suite.h"

#define MANY 50000

/* Each character but the first is the name of a further lock. */
static struct lock_request with_further(struct lock_request request, const char *locks)
{
        static uint8_t data[32][2 * LIMIT_LOCKS_AT_ONCE];
        static unsigned next;
        uint8_t *bytes = data[next++ % 32];

        request.further = (struct names_view){ .data = bytes };
        for (size_t i = 1; locks[i] != '\0'; i++) {
                bytes[request.further.size++] = 1;
                bytes[request.further.size++] = (uint8_t)locks[i];
                request.further.count++;
        }
        return request;
}

static struct lock_name first_of(const char *locks)
{
        return (struct lock_name){ .size = 1, .text = { locks[0] } };
}

static struct lock_request several(const char *client, const char *locks)
{
        const struct lock_name first = first_of(locks);

        return with_further(lease_of(client, first.text, 5000), locks);
}

static struct lock_request wait_several(const char *client, const char *locks)
{
        struct lock_request request = several(client, locks);

        request.wait = true;
        return request;
}

static struct lock_request several_in(const char *client, const char *locks, uint64_t session)
{
        const struct lock_name first = first_of(locks);

        return with_further(in_session(client, first.text, session), locks);
}

static struct lock_request break_of(const char *lock, uint64_t token, bool now)
{
        struct lock_request request = request_of(LOCK_CHANGE_BREAK, "operator", lock);

        request.token = token;
        request.now = now;
        return request;
}

static struct lock_request keep_of(const char *client, const char *lock, uint64_t token)
{
        struct lock_request request = request_of(LOCK_CHANGE_KEEP, client, lock);

        request.token = token;
        return request;
}

static uint64_t hold(const char *client, const char *locks)
{
        const struct lock_request request = several(client, locks);

        return make(&request);
}

static uint64_t wait_for(const char *client, const char *locks)
{
        const struct lock_request request = wait_several(client, locks);

        return make(&request);
}

static uint64_t give_back(const char *client, const char *lock, uint64_t token)
{
        const struct lock_request request = release_of(client, lock, token);

        return make(&request);
}

static enum lock_verdict verdict_on(const struct lock_request request)
{
        return decide(&request).verdict;
}

/* So many of these are held by the client under the token. */
static unsigned count_owned(const char *locks, const char *client, uint64_t token)
{
        unsigned count = 0;
        struct lock_view view;

        for (size_t i = 0; locks[i] != '\0'; i++) {
                const struct lock_name name = first_of(&locks[i]);

                count += lock_table_find_hold(table, &name, token, &view) && strcmp(view.owner, client) == 0;
        }
        return count;
}

static bool session_is_there(uint64_t session)
{
        struct lock_session_view view;

        return lock_table_find_session(table, session, &view);
}

START_TEST(all_are_granted_by_one_entry_under_one_token_in_one_lease)
{
        uint64_t token = hold("alice", "abc");
        struct lock_session_view session;

        ck_assert_uint_eq(count_owned("abc", "alice", token), 3);
        ck_assert(lock_table_find_session(table, token, &session));
        ck_assert(session.lease);
        ck_assert_uint_eq(session.held, 3);
}
END_TEST

START_TEST(none_is_granted_when_one_is_held)
{
        uint64_t token = hold("alice", "b");
        const struct lock_request request = several("bob", "abc");
        struct lock_decision decision = decide(&request);

        ck_assert_int_eq(decision.verdict, LOCK_HELD);
        ck_assert_str_eq(decision.owner.text, "alice");
        ck_assert_uint_eq(decision.token, token);
}
END_TEST

START_TEST(one_that_is_about_to_be_granted_counts)
{
        const struct lock_request alice = several("alice", "bc");

        (void)append(&alice);
        ck_assert_int_eq(verdict_on(several("bob", "ab")), LOCK_HELD);
        ck_assert_int_eq(verdict_on(several("bob", "c")), LOCK_HELD);
        ck_assert_int_eq(verdict_on(several("bob", "ad")), LOCK_ACCEPTED);
}
END_TEST

START_TEST(a_release_of_one_frees_one_and_the_lease_goes_with_the_last)
{
        uint64_t token = hold("alice", "ab");

        (void)give_back("alice", "a", token);
        ck_assert(!is_owned("a"));
        ck_assert_uint_eq(count_owned("b", "alice", token), 1);
        ck_assert(session_is_there(token));
        (void)give_back("alice", "b", token);
        ck_assert(!session_is_there(token));
}
END_TEST

START_TEST(an_expiry_frees_all_in_one_entry)
{
        uint64_t token = hold("alice", "abcdefgh");

        expire(token, "alice");
        ck_assert_uint_eq(lock_table_lock_count(table), 0);
        ck_assert(!session_is_there(token));
}
END_TEST

START_TEST(a_close_frees_all_in_one_entry)
{
        uint64_t token = hold("alice", "ab");
        const struct lock_request request = of_session(LOCK_CHANGE_CLOSE, "alice", token);

        (void)make(&request);
        ck_assert_uint_eq(lock_table_lock_count(table), 0);
        ck_assert(!session_is_there(token));
}
END_TEST

START_TEST(a_break_at_once_of_one_ends_all)
{
        uint64_t token = hold("alice", "abc");
        const struct lock_request request = break_of("b", token, true);
        uint64_t index = append(&request);

        ck_assert_int_eq(verdict_on(release_of("alice", "c", token)), LOCK_LATER);
        lock_overlay_clear(overlay);
        index_next = index;
        (void)make(&request);
        ck_assert_uint_eq(lock_table_lock_count(table), 0);
        ck_assert(!session_is_there(token));
}
END_TEST

START_TEST(a_break_that_waits_for_the_lease_is_of_one_alone)
{
        uint64_t token = hold("alice", "ab");
        const struct lock_request release = release_of("alice", "a", token);

        ck_assert_int_eq(verdict_on(break_of("b", token, false)), LOCK_NOT_ALONE);
        (void)append(&release);
        ck_assert_int_eq(verdict_on(break_of("b", token, false)), LOCK_LATER);
        lock_overlay_clear(overlay);
        index_next--;
        (void)make(&release);
        ck_assert_int_eq(verdict_on(break_of("b", token, false)), LOCK_ACCEPTED);
}
END_TEST

START_TEST(who_keeps_one_of_a_lease_keeps_all)
{
        uint64_t token = hold("alice", "ab");
        const struct lock_request keep = keep_of("alice", "b", token);

        ck_assert_int_eq(verdict_on(of_session(LOCK_RENEW, "alice", token)), LOCK_RENEWED);
        (void)append(&keep);
        ck_assert_int_eq(verdict_on(of_session(LOCK_RENEW, "alice", token)), LOCK_NO_SESSION);
        ck_assert_int_eq(verdict_on(of_session(LOCK_CHANGE_CLOSE, "alice", token)), LOCK_NO_SESSION);
        lock_overlay_clear(overlay);
        index_next--;
        (void)make(&keep);
        ck_assert(!session_is_there(token));
        ck_assert_uint_eq(count_owned("ab", "alice", token), 2);
        expire(token, "alice");              /* it was on its way */
        ck_assert_uint_eq(count_owned("ab", "alice", token), 2);
}
END_TEST

START_TEST(who_waits_for_several_has_none_before_all_and_then_all)
{
        uint64_t a = hold("alice", "a"), b = hold("bob", "b"), cid = wait_for("cid", "abc"), index;

        ck_assert(!is_owned("c"));
        (void)give_back("alice", "a", a);
        ck_assert(!is_owned("a"));
        index = give_back("bob", "b", b);
        ck_assert_uint_eq(count_owned("abc", "cid", index), 3);
        ck_assert(session_is_there(cid));
        ck_assert_uint_eq(lock_table_waiter_count(table), 0);
}
END_TEST

START_TEST(nobody_who_comes_later_has_one_of_them_before)
{
        uint64_t a = hold("alice", "a"), index;
        const struct lock_request try = several("dan", "b");
        struct lock_decision decision;

        (void)wait_for("cid", "ab");
        decision = decide(&try);
        ck_assert_int_eq(decision.verdict, LOCK_HELD);
        ck_assert_uint_eq(decision.owner.size, 0);
        (void)wait_for("dan", "b");
        ck_assert(!is_owned("b"));
        index = give_back("alice", "a", a);
        ck_assert_uint_eq(count_owned("ab", "cid", index), 2);
        index = give_back("cid", "b", index);
        expect_owner("b", "dan", index);
}
END_TEST

/* In one cycle of three, as far as the names go. */
START_TEST(no_two_who_wait_wait_for_each_other)
{
        uint64_t alice = hold("alice", "abc"), index;

        (void)wait_for("bob", "ab");
        (void)wait_for("cid", "bc");
        (void)wait_for("dan", "ac");
        expire(alice, "alice");
        index = index_next - 1;
        ck_assert_uint_eq(count_owned("ab", "bob", index), 2);
        ck_assert(!is_owned("c"));
        index = give_back("bob", "a", index);
        ck_assert(!is_owned("a"));
        index = give_back("bob", "b", index - 1);
        ck_assert_uint_eq(count_owned("bc", "cid", index), 2);
        ck_assert(!is_owned("a"));
        index = give_back("cid", "c", index);
        ck_assert_uint_eq(count_owned("ac", "dan", index), 2);
}
END_TEST

START_TEST(who_leaves_stands_in_no_queue_and_those_behind_are_let_in)
{
        uint64_t cid, index;

        (void)hold("alice", "a");
        cid = wait_for("cid", "abc");
        (void)wait_for("dan", "b");
        (void)wait_for("eve", "c");
        index = give_back("cid", "a", cid);
        expect_owner("b", "dan", index);
        expect_owner("c", "eve", index);
        ck_assert_uint_eq(queue_length("a"), 0);
        ck_assert(!session_is_there(cid));
}
END_TEST

START_TEST(who_waits_leaves_under_the_name_of_each)
{
        uint64_t cid;

        (void)hold("alice", "a");
        cid = wait_for("cid", "abc");
        ck_assert_int_eq(verdict_on(release_of("dan", "c", cid)), LOCK_NOT_OWNER);
        ck_assert_int_eq(verdict_on(release_of("cid", "d", cid)), LOCK_NOT_OWNER);
        (void)give_back("cid", "c", cid);
        ck_assert_uint_eq(lock_table_waiter_count(table), 0);
}
END_TEST

START_TEST(who_leaves_by_its_id_after_it_was_let_in_holds_none)
{
        uint64_t alice = hold("alice", "a"), cid = wait_for("cid", "ab");
        const struct lock_request leave = release_of("cid", "a", cid);
        const struct lock_change change = decide(&leave).change;

        ck_assert_int_eq(change.kind, LOCK_CHANGE_LEAVE);
        (void)give_back("alice", "a", alice);
        ck_assert(is_owned("b"));
        apply(index_next++, &change);
        ck_assert_uint_eq(lock_table_lock_count(table), 0);
        ck_assert(!session_is_there(cid));
}
END_TEST

START_TEST(who_cancels_its_wait_stands_in_no_queue)
{
        struct lock_request request = wait_several("cid", "ab");

        (void)hold("alice", "a");
        (void)make(&request);
        request.kind = LOCK_CHANGE_CANCEL;
        request.ttl_ms = 0;
        request.wait = false;
        request.further = (struct names_view){ .data = NULL };
        (void)make(&request);
        ck_assert_uint_eq(lock_table_waiter_count(table), 0);
        ck_assert_uint_eq(queue_length("b"), 0);
}
END_TEST

START_TEST(a_delay_of_one_keeps_all)
{
        struct lock_request alice = several("alice", "ab"), bob = several("bob", "bc");
        struct lock_decision decision;

        alice.delay_ms = 1000;
        expire(make(&alice), "alice");
        bob.cluster_ms = index_next * 10;
        decision = decide(&bob);
        ck_assert_int_eq(decision.verdict, LOCK_DELAYED);
        ck_assert_uint_eq(decision.until_cluster_ms, (index_next - 1) * 10 + 1000);
        bob.cluster_ms = decision.until_cluster_ms;
        ck_assert_int_eq(decide(&bob).verdict, LOCK_ACCEPTED);
}
END_TEST

START_TEST(in_a_session_all_are_had_again_together_and_not_in_part)
{
        uint64_t session = open_session("alice", 5000), token;
        const struct lock_request both = several_in("alice", "ab", session);
        struct lock_request more = several_in("alice", "abc", session);

        token = make(&both);
        ck_assert_int_eq(decide(&both).verdict, LOCK_REPEATED);
        ck_assert_int_eq(verdict_on(several_in("alice", "ab", session)), LOCK_REENTERED);
        ck_assert_int_eq(verdict_on(several_in("alice", "b", session)), LOCK_REENTERED);
        ck_assert_int_eq(decide(&more).verdict, LOCK_HELD);
        more.wait = true;                    /* it would wait for itself */
        ck_assert_int_eq(decide(&more).verdict, LOCK_HELD);
        ck_assert_uint_eq(count_owned("ab", "alice", token), 2);
}
END_TEST

/* Who tries is told soon, whatever comes without a pause: the first in the queue waits for what nobody is about to give back. */
START_TEST(a_try_is_refused_though_others_come_to_wait)
{
        const struct lock_request dan = wait_several("dan", "a"), eve = wait_several("eve", "ab");

        (void)hold("alice", "a");
        (void)wait_for("cid", "ab");
        (void)append(&dan);
        ck_assert_int_eq(verdict_on(several("fay", "b")), LOCK_HELD);
        (void)append(&eve);
        ck_assert_int_eq(verdict_on(several("fay", "b")), LOCK_HELD);
}
END_TEST

START_TEST(a_try_is_refused_though_sessions_end_elsewhere)
{
        struct lock_change end;
        uint64_t z;

        (void)hold("alice", "c");
        z = hold("alice", "z");
        (void)wait_for("bob", "ac");
        (void)wait_for("cid", "ab");
        end = end_of(z, "alice");
        lock_overlay_add(overlay, index_next++, &end);
        ck_assert_int_eq(verdict_on(several("dan", "b")), LOCK_HELD);
}
END_TEST

START_TEST(a_try_waits_for_what_is_said_of_who_is_first)
{
        uint64_t alice = hold("alice", "c"), cid;
        struct lock_request request;

        (void)wait_for("bob", "ac");
        cid = wait_for("cid", "ab");
        request = release_of("cid", "a", cid);
        (void)append(&request);
        ck_assert_int_eq(verdict_on(several("dan", "b")), LOCK_LATER);
        lock_overlay_clear(overlay);
        index_next--;
        (void)make(&request);
        ck_assert_int_eq(verdict_on(several("dan", "b")), LOCK_ACCEPTED);
        request = several("dan", "ab");
        ck_assert_int_eq(decide(&request).verdict, LOCK_HELD);
        request = release_of("alice", "c", alice);
        (void)append(&request);
        ck_assert_int_eq(verdict_on(several("dan", "a")), LOCK_LATER);
}
END_TEST

/* A session that waits for as many as may be in each of its requests, each in the way of others, ends in so many entries as it takes. */
START_TEST(what_one_entry_does_has_a_bound_with_several_too)
{
        uint64_t session = open_session("alice", 5000), a = hold("bob", "a"), held = session;
        struct lock_session_view view;
        unsigned entries = 0;

        for (unsigned i = 0; i < 3 * LOCK_FREED_PER_ENTRY; i++) {
                struct lock_request request = several_in("alice", "abcdefgh", session);

                request.wait = true;
                (void)make(&request);
        }
        for (unsigned i = 0; i < 3 * LOCK_FREED_PER_ENTRY; i++)
                (void)wait_for("cid", "bcdefgh");
        ck_assert(lock_table_find_session(table, session, &view));
        held = view.held;
        while (session_is_there(session)) {
                uint64_t before = held;

                expire(session, "alice");
                held = lock_table_find_session(table, session, &view) ? view.held : 0;
                ck_assert_uint_le((before - held) * LIMIT_LOCKS_AT_ONCE, LOCK_FREED_PER_ENTRY + LIMIT_LOCKS_AT_ONCE);
                entries++;
        }
        ck_assert_uint_ge(entries, 3 * LIMIT_LOCKS_AT_ONCE);
        ck_assert(is_owned("b"));
        (void)give_back("bob", "a", a);
        ck_assert(!is_owned("a"));
}
END_TEST

/* Those who went with their session are passed over, but not each for each. */
START_TEST(a_session_that_waits_for_much_ends_in_short)
{
        uint64_t session = open_session("alice", 5000), bob = hold("bob", "a"), index;

        for (unsigned i = 0; i < MANY; i++) {
                struct lock_request request = several_in("alice", "ab", session);

                request.wait = true;
                (void)make(&request);
        }
        (void)wait_for("cid", "ab");
        while (session_is_there(session))
                expire(session, "alice");
        ck_assert_uint_eq(lock_table_waiter_count(table), 1);
        index = give_back("bob", "a", bob);
        ck_assert_uint_eq(count_owned("ab", "cid", index), 2);
}
END_TEST

START_TEST(they_come_back_from_the_disk)
{
        struct lock_table *other = lock_table_new();
        uint64_t alice = hold("alice", "ab"), index;

        (void)wait_for("cid", "abc");
        (void)wait_for("dan", "c");
        load_all(table, other);
        expect_equal(table, other);
        lock_table_free(table);
        table = other;
        ck_assert_uint_eq(queue_length("c"), 2);
        expire(alice, "alice");
        index = index_next - 1;
        ck_assert_uint_eq(count_owned("abc", "cid", index), 3);
        index = give_back("cid", "c", index);
        expect_owner("c", "dan", index);
}
END_TEST

static Suite *suite(void)
{
        Suite *s = suite_create("together");
        TCase *c = tcase_create("together");

        tcase_add_checked_fixture(c, lock_setup, lock_teardown);
        tcase_set_timeout(c, 120);
        tcase_add_test(c, all_are_granted_by_one_entry_under_one_token_in_one_lease);
        tcase_add_test(c, none_is_granted_when_one_is_held);
        tcase_add_test(c, one_that_is_about_to_be_granted_counts);
        tcase_add_test(c, a_release_of_one_frees_one_and_the_lease_goes_with_the_last);
        tcase_add_test(c, an_expiry_frees_all_in_one_entry);
        tcase_add_test(c, a_close_frees_all_in_one_entry);
        tcase_add_test(c, a_break_at_once_of_one_ends_all);
        tcase_add_test(c, a_break_that_waits_for_the_lease_is_of_one_alone);
        tcase_add_test(c, who_keeps_one_of_a_lease_keeps_all);
        tcase_add_test(c, who_waits_for_several_has_none_before_all_and_then_all);
        tcase_add_test(c, nobody_who_comes_later_has_one_of_them_before);
        tcase_add_test(c, no_two_who_wait_wait_for_each_other);
        tcase_add_test(c, who_leaves_stands_in_no_queue_and_those_behind_are_let_in);
        tcase_add_test(c, who_waits_leaves_under_the_name_of_each);
        tcase_add_test(c, who_leaves_by_its_id_after_it_was_let_in_holds_none);
        tcase_add_test(c, who_cancels_its_wait_stands_in_no_queue);
        tcase_add_test(c, a_delay_of_one_keeps_all);
        tcase_add_test(c, in_a_session_all_are_had_again_together_and_not_in_part);
        tcase_add_test(c, a_try_is_refused_though_others_come_to_wait);
        tcase_add_test(c, a_try_is_refused_though_sessions_end_elsewhere);
        tcase_add_test(c, a_try_waits_for_what_is_said_of_who_is_first);
        tcase_add_test(c, what_one_entry_does_has_a_bound_with_several_too);
        tcase_add_test(c, a_session_that_waits_for_much_ends_in_short);
        tcase_add_test(c, they_come_back_from_the_disk);
        suite_add_tcase(s, c);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
